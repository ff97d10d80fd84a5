#!/usr/bin/env bash
# http_client.sh <directory of the programs>: fetches from a server in Python: a hundred files at once, more of them some at a time, one
# that is not there, one that never comes, one where no server is; and gives up at Ctrl-C. Exits with 77 (skipped) when the program was not
# built for want of libcurl.
set -euo pipefail

program=$1/http_client
if ! [ -x "$program" ]; then
  echo "skipped: http_client was not built, for want of libcurl (Debian: apt-get install libcurl4-openssl-dev)"
  exit 77
fi
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
export no_proxy='*'

work=$(mktemp -d)
server=
client=
cleanup() {
  local pid
  for pid in $client $server; do
    kill -KILL "$pid" && wait "$pid" || true
  done 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

# /<number> has so many bytes; /hang never ends; anything else is not found.
cat >"$work/server.py" <<'END'
import http.server, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/hang":
            threading.Event().wait()
        found = self.path[1:].isdigit()
        body = b"x" * int(self.path[1:]) if found else b"not found\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 500
    daemon_threads = True

server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
END
mkfifo "$work/port"
python3 "$work/server.py" >"$work/port" &
server=$!
read -r port <"$work/port"
url=http://127.0.0.1:$port

# expect <exit status> <file of lines that must be there, in any order> <argument>...
expect() {
  local wanted=$1 lines=$2 status=0
  shift 2
  "$program" "$@" >"$work/output" || status=$?
  [ "$status" = "$wanted" ] || { echo "exit status $status, expected $wanted" >&2; cat "$work/output" >&2; exit 1; }
  diff -u <(sort "$lines") <(sort "$work/output")
  tail -n 1 "$work/output"
}

for i in $(seq 100); do
  echo "$url/$((i * 1000))" >>"$work/urls"
  echo "200 $((i * 1000)) $url/$((i * 1000))" >>"$work/lines"
done
echo "100 fetched, 0 failed, 0 given up, 5050000 bytes, at most 100 at once" >>"$work/lines"
expect 0 "$work/lines" -n 100 <"$work/urls"

sed -i 's/at most .* at once/at most 7 at once/' "$work/lines"
expect 0 "$work/lines" -n 7 <"$work/urls"

free_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
status=0
"$program" -t 1 "$url/5" "$url/nothing" "$url/hang" "http://127.0.0.1:$free_port/" "nonsense://here/" >"$work/output" || status=$?
cat "$work/output"
[ "$status" = 1 ]
grep -qx "200 5 $url/5" "$work/output"
grep -qx "404 10 $url/nothing" "$work/output"
grep -q "^failed: $url/hang: Operation timed out" "$work/output"
grep -q "^failed: http://127.0.0.1:$free_port/: Failed to connect" "$work/output"
grep -q "^failed: nonsense://here/: .*not supported" "$work/output"
grep -qx "1 fetched, 4 failed, 0 given up, 15 bytes, at most 5 at once" "$work/output"

# Ctrl-C, when the first has come and the others hang.
mkfifo "$work/told"
"$program" "$url/1" "$url/hang" "$url/hang" >"$work/told" &
client=$!
exec 3<"$work/told"
read -r first <&3
[ "$first" = "200 1 $url/1" ]
kill -INT "$client"
read -r last <&3
echo "$last"
status=0
wait "$client" || status=$?
client=
[ "$status" = 1 ]
[ "$last" = "1 fetched, 0 failed, 2 given up, 1 bytes, at most 3 at once" ]

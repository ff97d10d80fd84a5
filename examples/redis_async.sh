#!/usr/bin/env bash
# redis_async.sh <directory of the programs>: runs the client by hiredis against a redis-server of its own, over a unix socket and over
# TCP, has it shut the server down, and runs it where no server is. Exits with 77 (skipped) when redis-server or hiredis is not installed.
set -euo pipefail

program=$1/redis_async
if ! command -v redis-server >/dev/null; then
  echo "skipped: redis-server is not installed (Debian: apt-get install redis-server)"
  exit 77
elif ! [ -x "$program" ]; then
  echo "skipped: redis_async was not built, for want of hiredis (Debian: apt-get install libhiredis-dev)"
  exit 77
fi

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# A port that is taken makes the server end: then another one is tried.
port=
mkfifo "$work/log"
for _ in $(seq 20); do
  port=$((20000 + RANDOM % 12000))
  redis-server --bind 127.0.0.1 --port $port --unixsocket "$work/socket" --save '' --appendonly no --dir "$work" \
    >"$work/log" 2>&1 &
  server=$!
  exec 3<"$work/log"
  while read -r line <&3; do
    case $line in *"eady to accept connections"*) break 2 ;; esac
  done
  exec 3<&-
  wait "$server" || true
  server=
done
[ -n "$server" ] || { echo "redis-server does not start" >&2; exit 1; }
cat <&3 >/dev/null &

# run <what is expected at the end> <argument>...
run() {
  local end=$1
  shift
  echo "-- $*"
  cat >"$work/expected" <<END
1000
heard: message-0
heard: message-1
heard: message-2
error: ERR wrong number of arguments for 'incr' command
error: timed out
PONG
$end
nobody is asked any more
END
  "$program" "$@" | tee "$work/output"
  diff -u "$work/expected" "$work/output"
}
run "disconnected" "$work/socket"
run "error: Server closed the connection
the server has gone" "$port" shutdown
wait "$server" || true
server=

# Nobody is there any more.
if "$program" "$port" >"$work/output"; then
  echo "a connection to nobody succeeded" >&2
  exit 1
fi
cat "$work/output"
grep -qx "error: Connection refused" "$work/output"

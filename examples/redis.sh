#!/usr/bin/env bash
# redis.sh <directory of the programs>: runs the client against a redis-server of its own, over TCP and over a unix socket, and where no
# server is. Exits with 77 (skipped) when redis-server is not installed.
set -euo pipefail

program=$1/redis
if ! command -v redis-server >/dev/null; then
  echo "skipped: redis-server is not installed (Debian: apt-get install redis-server)"
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

cat >"$work/expected" <<'END'
OK
hello, world
error: ERR value is not an integer or out of range
1000
1500
timed out
one two three
(nothing)
END
for where in $port "$work/socket"; do
  echo "-- $where"
  "$program" "$where" | tee "$work/output"
  diff -u "$work/expected" "$work/output"
done

kill -TERM "$server"
wait "$server" || true
server=

# Nobody is there any more.
if "$program" $port >"$work/output"; then
  echo "a connection to nobody succeeded" >&2
  exit 1
fi
cat "$work/output"
grep -q "error: connect 127.0.0.1:$port: connection refused" "$work/output"

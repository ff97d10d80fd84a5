#!/usr/bin/env bash
# echo_multi.sh <directory of the programs>: runs echo_multi with three threads under the load of echo_client. Every connection is served,
# every thread has its share, no byte is lost; and SIGTERM ends it while connections are open.
set -euo pipefail

programs=$1
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

# start: the server's output is descriptor 3, its port $port.
mkfifo "$work/server"
start() {
  "$programs/echo_multi" 3 >"$work/server" &
  server=$!
  exec 3<"$work/server"
  read -r port <&3
}

# stop <signal>: reads the threads' counts; fails when the server does not end well.
connections=0
stop() {
  local thread number share bytes rest status=0
  kill "-$1" "$server"
  while read -r thread number share rest; do
    echo "$thread $number $share $rest"
    [ "$thread" = thread ] && [ "$share" -gt 0 ]
    connections=$((connections + share))
  done <&3
  wait "$server" || status=$?
  server=
  [ "$status" = 0 ]
}

start
"$programs/echo_client" "$port" 1 200
stop INT
[ "$connections" = 200 ]

start
: >"$work/progress"
"$programs/echo_client" "$port" 60 200 >/dev/null 2>"$work/progress" &
client=$!
until grep -q "200 connections, [1-9]" "$work/progress"; do sleep 0.05; done
stop TERM
wait "$client" 2>/dev/null || true # its connections were closed
client=

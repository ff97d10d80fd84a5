#!/usr/bin/env bash
# chat.sh <directory of the programs>: three people talk through the chat server, one leaves, and the server says goodbye. They are nc,
# or bash's own connections where that is missing.
set -euo pipefail

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# expect <file> <line>: waits until the line is there.
expect() {
  local end=$((SECONDS + 20))
  until grep -qxF -- "$2" "$1"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "$1 lacks: $2" >&2
      cat "$1" >&2
      exit 1
    fi
    sleep 0.02
  done
}

# join <name>: the connection's input is $work/<name>.in, its output $work/<name>.out.
join() {
  mkfifo "$work/$1.in"
  : >"$work/$1.out"
  if command -v nc >/dev/null; then
    nc 127.0.0.1 "$port" <"$work/$1.in" >"$work/$1.out" &
  else
    (
      exec 9<>"/dev/tcp/127.0.0.1/$port"
      cat <&9 >"$work/$1.out" &
      cat "$work/$1.in" >&9 &
      trap 'kill $(jobs -p)' TERM
      wait
    ) &
  fi
  clients+=($!)
}

mkfifo "$work/port"
"$1/chat" >"$work/port" &
server=$!
read -r port <"$work/port"
clients=()

join ann
exec 4>"$work/ann.in"
expect "$work/ann.out" "your name?"
echo ann >&4
expect "$work/ann.out" welcome

join bob
exec 5>"$work/bob.in"
printf 'bob\r\n' >&5
expect "$work/ann.out" "* bob has come"
echo hello >&4
expect "$work/bob.out" "ann: hello"
printf 'in two ' >&5
printf 'pieces\nand two lines\n' >&5
expect "$work/ann.out" "bob: in two pieces"
expect "$work/ann.out" "bob: and two lines"

join eve
exec 6>"$work/eve.in"
echo eve >&6
expect "$work/bob.out" "* eve has come"
kill "${clients[2]}"
expect "$work/ann.out" "* eve has gone"

kill -INT "$server"
status=0
wait "$server" || status=$?
server=
expect "$work/ann.out" "* goodbye"
expect "$work/bob.out" "* goodbye"
[ "$status" = 0 ]
! grep -q "ann: hello" "$work/ann.out" # nobody hears himself

#!/usr/bin/env bash
# kv.sh <directory of the programs>: the key/value server, asked by nc (or bash's own connections where that is missing) and by its
# client.
set -euo pipefail

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# ask: sends its input, and prints what the server says until it closes.
ask() {
  if command -v nc >/dev/null; then
    timeout 20 nc 127.0.0.1 "$port"
  else
    (
      exec 9<>"/dev/tcp/127.0.0.1/$port"
      cat >&9
      timeout 20 cat <&9
    )
  fi
}

# expect <what> <got>
expect() {
  [ "$1" = "$2" ] || {
    printf 'expected: %s\ngot: %s\n' "$1" "$2" >&2
    exit 1
  }
}

mkfifo "$work/port"
"$1/kv_server" >"$work/port" &
server=$!
read -r port <"$work/port"

expect $'ok\nvalue 5\nhello\nnone\nok\nnone\nnone' \
  "$(printf 'set greeting 5\nhello\nget greeting\nget other\ndel greeting\ndel greeting\nget greeting\nquit\n' | ask)"
# A value with newlines, and one that comes in pieces.
expect $'ok\nok\nvalue 3\na\nb\nvalue 11\nhello world' \
  "$(
    {
      printf 'set lines 3\na\nb\nset slow 11\nhel'
      sleep 0.1
      printf 'lo wor'
      sleep 0.1
      printf 'ld\nget lines\nge'
      sleep 0.1
      printf 't slow\nquit\n'
    } | ask
  )"
expect 'error: set KEY SIZE, get KEY, del KEY or quit' "$(printf 'what?\nquit\n' | ask)"
expect 'error: too long' "$(printf '%0300d\nquit\n' 0 | ask)"
# Who stops in the middle of a value has set nothing.
printf 'set half 10\nabc' | timeout 20 bash -c "exec 9<>/dev/tcp/127.0.0.1/$port; cat >&9"
expect none "$("$1/kv_client" "$port" get half || true)"

expect ok "$("$1/kv_client" "$port" set name 'somebody else')"
expect 'somebody else' "$("$1/kv_client" "$port" get name)"
# A value that is larger than what a socket takes at once.
head -c 900000 /dev/zero | tr '\0' x >"$work/big"
{
  echo "set big 900000"
  cat "$work/big"
  printf '\nget big\nquit\n'
} | ask >"$work/answer"
{
  printf 'ok\nvalue 900000\n'
  cat "$work/big"
  echo
} | cmp - "$work/answer"
expect ok "$("$1/kv_client" "$port" del name)"
status=0
"$1/kv_client" "$port" get name >"$work/none" || status=$?
expect 1 "$status"

# Ctrl-C closes those who are there.
mkfifo "$work/idle"
ask <"$work/idle" >"$work/said" &
client=$!
exec 5>"$work/idle"
echo "get nothing" >&5
until grep -q none "$work/said"; do sleep 0.02; done
kill -INT "$server"
status=0
wait "$server" || status=$?
server=
expect 0 "$status"
exec 5>&-
wait "$client"

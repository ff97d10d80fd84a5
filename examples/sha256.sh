#!/usr/bin/env bash
# sha256.sh <directory of the programs>: compares it with sha256sum, and interrupts it.
set -euo pipefail

program=$1/sha256
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for i in $(seq 100); do
  head -c $((i * i * 37)) /dev/zero | tr '\0' "\\$(printf %o $((i + 32)))" >"$work/$i"
done
: >"$work/empty"
printf %64s x >"$work/block"
printf %55s x >"$work/almost"
printf %56s x >"$work/over"
diff <(sha256sum "$work"/*) <("$program" "$work"/*)

# A file that is not there is told, and the others are not kept from being told.
if "$program" "$work/1" "$work/none" "$work/2" >"$work/out" 2>"$work/err"; then
  echo "a missing file was not told" >&2
  exit 1
fi
grep -q "none: no such file" "$work/err"
[ "$(wc -l <"$work/out")" = 2 ]

# Ctrl-C, while a file that does not end is being read.
mkfifo "$work/endless"
{ while head -c 65536 /dev/zero; do :; done } >"$work/endless" 2>/dev/null &
feeder=$!
"$program" "$work/1" "$work/endless" >"$work/first" 2>"$work/err" &
pid=$!
until [ -s "$work/first" ]; do
  kill -0 "$pid"
done
kill -INT "$pid"
status=0
wait "$pid" || status=$?
wait "$feeder" || true
[ "$status" = 130 ]
grep -q interrupted "$work/err"
[ "$(wc -l <"$work/first")" = 1 ]

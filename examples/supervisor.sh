#!/usr/bin/env bash
# supervisor.sh <directory of the programs>: children that succeed, fail, are started again, and are interrupted.
set -euo pipefail

program=$1/supervisor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The second one fails twice before it succeeds.
"$program" -p 1 'echo one' "echo x >>$work/tries; echo try; [ \$(wc -l <$work/tries) = 3 ]" >"$work/out" 2>"$work/err"
diff <(sort "$work/out") <(printf '%s\n' '[1] one' '[2] try' '[2] try' '[2] try')
diff "$work/err" <(printf '%s\n' '[2] failed with 1: again in 1 ms' '[2] failed with 1: again in 2 ms')

# One that never succeeds is given up; the other goes on.
status=0
"$program" -n 3 -p 1 'kill -9 $$' 'printf "no newline"' >"$work/out" 2>"$work/err" || status=$?
[ "$status" = 1 ]
[ "$(cat "$work/out")" = '[2] no newline' ]
grep -qx '\[1\] failed 3 times, the last time with -9: given up' "$work/err"

# SIGTERM ends those that heed it, SIGKILL the others.
"$program" 'echo ready; exec sleep 1000' 'trap "" TERM; echo ready; while :; do sleep 0.1; done' >"$work/out" 2>"$work/err" &
pid=$!
until [ "$(grep -c ready "$work/out")" = 2 ]; do
  kill -0 "$pid"
done
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
[ "$status" = 130 ]
grep -qx interrupted "$work/err"

#!/usr/bin/env bash
# echo.sh <directory of the programs> [seconds [connections]]: runs echo_server under the load of echo_client, ends the server by SIGINT,
# and prints the client's summary. Fails when a byte was lost or one of them did not end cleanly.
set -euo pipefail

programs=$1
seconds=${2:-4}
connections=${3:-200}

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

mkfifo "$work/server"
"$programs/echo_server" >"$work/server" &
server=$!
exec 3<"$work/server"
read -r port <&3
echo "server: listening on port $port"
sed -u 's/^/server: /' <&3 &
relay=$!

failed=0
"$programs/echo_client" "$port" "$seconds" "$connections" >"$work/summary" || failed=1

kill -INT "$server"
status=0
wait "$server" || status=$?
server=
wait "$relay"
echo "server: exit status $status after SIGINT"
[ "$status" -eq 0 ] || failed=1

echo
cat "$work/summary"
exit $failed

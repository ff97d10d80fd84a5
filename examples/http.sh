#!/usr/bin/env bash
# http.sh <directory of the programs>: the file server, asked by curl, by hand, and by wrk where there is one. Exits with 77 (skipped)
# when curl is not installed.
set -euo pipefail

program=$1/http_server
if ! command -v curl >/dev/null; then
  echo "skipped: curl is not installed (Debian: apt-get install curl)"
  exit 77
fi

work=$(mktemp -d)
servers=()
cleanup() {
  for pid in "${servers[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "http.sh: $*" >&2
  exit 1
}

# is <expected> <got> <what>
is() { [ "$1" = "$2" ] || fail "$3: got '$2', expected '$1'"; }

# begin <option>...: starts a server; $server is its process, $port its port, $at its address.
begin() {
  rm -f "$work/port"
  mkfifo "$work/port"
  "$program" --port 0 "$@" "$work/root" >"$work/port" 2>>"$work/errors" &
  server=$!
  servers+=("$server")
  read -r port <"$work/port"
  at=http://127.0.0.1:$port
}

# status <curl's arguments>...: the answer's status.
status() { curl -s -o /dev/null -w '%{http_code}' "$@" || true; }

# say <text> [file]: sends it as it is, and prints all that is answered, until the server closes.
say() {
  exec 9<>"/dev/tcp/127.0.0.1/$port"
  # A reader of its own: what is answered need not fit into what the system keeps.
  cat <&9 &
  local reader=$!
  printf "$1" >&9 || true
  wait "$reader"
  exec 9<&- 9>&-
}

mkdir -p "$work/root/sub/deep" "$work/root/list"
cd "$work/root"
head -c 30000000 /dev/urandom >big.bin
head -c 16384 /dev/urandom >fits
head -c 16385 /dev/urandom >fits-not
: >empty
echo '<h1>hello</h1>' >index.html
echo plain >sub/plain.txt
echo deep >'sub/deep/a <b> & "c" 100%.txt'
echo 1 >list/one
echo outside >"$work/outside"
ln -s "$work/outside" link
ln -s "$work" linked
mkfifo fifo
begin

# Whole files, of every kind of size.
for file in big.bin fits fits-not empty index.html; do
  curl -sS "$at/$file" | cmp - "$file"
done
is "$(sha256sum <big.bin)" "$(curl -sS "$at/big.bin" | sha256sum)" "a big file"
curl -sS "$at" | cmp - index.html
curl -sS --http1.0 "$at/fits-not" | cmp - fits-not
curl -sS "$at/%66its?query#part" | cmp - fits

# HEAD tells the same, and sends nothing.
is "$(stat -c %s big.bin)" "$(curl -sSI "$at/big.bin" | tr -d '\r' | sed -n 's/^Content-Length: //p')" "the length of a HEAD"
is 0 "$(curl -sSI -o /dev/null -w '%{size_download}' "$at/big.bin")" "the body of a HEAD"
is "text/plain; charset=utf-8" "$(curl -sSI -o /dev/null -w '%{content_type}' "$at/sub/plain.txt")" "a type"

# Many requests on one connection; and each on its own.
connections() { curl -sS -o /dev/null -o /dev/null -w '%{num_connects} ' "$@" | sed 's/ $//'; }
is "1 0" "$(connections "$at/fits" "$at/big.bin")" "connections that are kept"
is "1 0" "$(connections "$at/none" "$at/sub")" "connections that are kept after an error"
is "1 1" "$(connections -H 'Connection: close' "$at/fits" "$at/fits")" "connections that are closed"
is "1 1" "$(connections --http1.0 "$at/fits" "$at/fits")" "HTTP/1.0"
is "1 0" "$(connections --http1.0 -H 'Connection: keep-alive' "$at/fits" "$at/fits")" "HTTP/1.0 that is kept alive"

# Ranges.
part() { tail -c "+$(($1 + 1))" big.bin | head -c "$2"; }
curl -sS -r 0-0 "$at/big.bin" | cmp - <(part 0 1)
curl -sS -r 1000-1999999 "$at/big.bin" | cmp - <(part 1000 1999000)
curl -sS -r 29999990- "$at/big.bin" | cmp - <(part 29999990 10)
curl -sS -r -7 "$at/big.bin" | cmp - <(part 29999993 7)
curl -sS -r 29999999-40000000 "$at/big.bin" | cmp - <(part 29999999 1)
is 206 "$(status -r 5-9 "$at/big.bin")" "a range"
is 416 "$(status -r 30000000- "$at/big.bin")" "a range behind the end"
is 416 "$(status -r 0-0 "$at/empty")" "a range of nothing"
is 200 "$(status -r 0-1,5-6 "$at/fits")" "several ranges"
is 200 "$(status -H 'Range: bytes=9-5' "$at/fits")" "a range from behind"
curl -sS -r 0-999 -o "$work/half" "$at/fits"
curl -sS -C - -o "$work/half" "$at/fits" # the rest
cmp "$work/half" fits

# What the client knows already.
tag=$(curl -sSI "$at/fits" | tr -d '\r' | sed -n 's/^ETag: //p')
date=$(curl -sSI "$at/fits" | tr -d '\r' | sed -n 's/^Last-Modified: //p')
is 304 "$(status -H "If-None-Match: $tag" "$at/fits")" "a known tag"
is 200 "$(status -H 'If-None-Match: "other"' "$at/fits")" "another tag"
is 304 "$(status -H "If-Modified-Since: $date" "$at/fits")" "a known date"
is 200 "$(status -H 'If-Modified-Since: Thu, 01 Jan 1998 00:00:00 GMT' "$at/fits")" "an old date"
is 206 "$(status -r 0-5 -H "If-Range: $tag" "$at/fits")" "a range of what is known"
is 200 "$(status -r 0-5 -H 'If-Range: "other"' "$at/fits")" "a range of what has changed"

# Directories.
is 301 "$(status "$at/sub")" "a directory without its slash"
is "$at/sub/deep/" "$(curl -sS -o /dev/null -w '%{redirect_url}' "$at//sub//deep")" "where it is"
is deep "$(curl -sS "$at/sub/deep/$(curl -sS "$at/sub/deep/" | sed -n 's/.*href="\.\/\(a[^"]*\)".*/\1/p')")" "a listed file"

# What there is not, and what is not given away.
is 404 "$(status "$at/none")" "no such file"
is 404 "$(status "$at/fits/")" "a file with a slash"
is 404 "$(status "$at/fits/x")" "a file in a file"
is 404 "$(status "$at/sub%2fplain.txt")" "a slash in a name"
is 403 "$(status --path-as-is "$at/../outside")" "what is outside"
is 403 "$(status --path-as-is "$at/sub/../index.html")" "a way back"
is 403 "$(status --path-as-is "$at/%2e%2e/outside")" "what is outside, in disguise"
is 403 "$(status "$at/link")" "a symbolic link"
is 404 "$(status "$at/linked/outside")" "a directory that is a symbolic link"
is 403 "$(status "$at/fifo")" "a FIFO"
if [ "$(id -u)" != 0 ]; then
  echo >secret && chmod 0 secret
  is 403 "$(status "$at/secret")" "a file that cannot be read"
fi

# What is no request, or none for here.
is 405 "$(status -d x=1 "$at/fits")" "POST"
is 405 "$(status -X DELETE "$at/fits")" "DELETE"
is 501 "$(status -X FIND "$at/fits")" "an unknown method"
is 501 "$(status -H 'Transfer-Encoding: chunked' -d x "$at/fits")" "a body in pieces"
is 413 "$(status -H 'Content-Length: 70000' -H 'Expect:' -X GET -d x "$at/fits")" "a large body"
is 400 "$(status -H 'Host:' "$at/fits")" "no host"
is 400 "$(status "$at/%zz")" "a wrong percent sign"
is 431 "$(status -H "X: $(printf '%9000s' x)" "$at/fits")" "a large head"
# first <text>: the status of what is answered.
first() { say "$1" | sed -n '1s/^HTTP\/1.1 \([0-9]*\) .*/\1/p'; }
is 400 "$(first 'nonsense\r\n\r\n')" "nonsense"
is 400 "$(first 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n')" "two spaces"
is 400 "$(first 'GET / HTTP/1.1\r\nHost : a\r\n\r\n')" "a space before the colon"
is 400 "$(first 'GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n')" "a folded line"
is 400 "$(first 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n')" "two hosts"
is 400 "$(first 'GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n')" "a NUL"
is 505 "$(first 'GET / HTTP/2.0\r\nHost: a\r\n\r\n')" "a version to come"

# Several at once, answered in their order; the last of them closes.
ask() { printf '%s' "GET $1 HTTP/1.1\r\nHost: a\r\nRange: bytes=-16385\r\n${2:-}\r\n"; }
say "$(ask /fits-not)$(ask /big.bin)$(ask /none)$(ask /fits-not 'Connection: close\r\n')$(ask /fits)" >"$work/pipeline"
is "206 206 404 206" "$(grep -aoE 'HTTP/1.1 [0-9]+' "$work/pipeline" | sed 's/.* //' | paste -sd' ')" "a pipeline"
tail -c 16385 "$work/pipeline" | cmp - fits-not
# A body that is skipped, a request without its end, and a client that says that it has no more.
is "200 405 200" "$(say 'GET /fits HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345POST / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /fits HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n' |
  grep -aoE 'HTTP/1.1 [0-9]+' | sed 's/.* //' | paste -sd' ')" "bodies in a pipeline"
if command -v nc >/dev/null; then
  for n in $(seq 500); do printf 'GET /fits-not HTTP/1.1\r\nHost: a\r\n\r\n'; done >"$work/many"
  timeout 20 nc -N 127.0.0.1 "$port" <"$work/many" >"$work/answers" || timeout 20 nc 127.0.0.1 "$port" <"$work/many" >"$work/answers"
  is 500 "$(grep -ao 'HTTP/1.1 200 OK' "$work/answers" | wc -l)" "500 requests at once"
  tail -c 16385 "$work/answers" | cmp - fits-not
fi

# Clients that go in the middle, and one that reads slowly.
for n in $(seq 20); do
  curl -s --max-time 5 "$at/big.bin" | head -c 100000 >/dev/null || true
done
curl -sS --limit-rate 20M "$at/big.bin" | cmp - big.bin

# Many at once.
for n in $(seq 8); do (curl -sS "$at/big.bin" | cmp - big.bin) & clients[n]=$!; done
for n in $(seq 8); do wait "${clients[n]}" || fail "a file of several at once"; done
if command -v wrk >/dev/null; then
  for file in index.html fits-not big.bin; do
    wrk -t1 -c50 -d1 --timeout 60s "$at/$file" >"$work/wrk"
    grep -E 'Requests/sec' "$work/wrk" | sed "s|^|wrk $file: |"
    ! grep -E 'Socket errors|Non-2xx' "$work/wrk" || fail "wrk $file"
  done
fi

# It has let every file go.
for _ in $(seq 100); do
  open=$(find "/proc/$server/fd" -lname "$work/root/*" | wc -l)
  [ "$open" = 0 ] && break
  sleep 0.05
done
is 0 "$open" "open files"

# What is under way when the server is ended is finished; whoever waits is sent away.
exec 8<>"/dev/tcp/127.0.0.1/$port"
(curl -sS --limit-rate 30M "$at/big.bin" >"$work/last") &
client=$!
until [ -s "$work/last" ]; do sleep 0.01; done
kill -TERM "$server"
wait "$client"
cmp "$work/last" big.bin
is "" "$(cat <&8)" "what an idle client is told"
code=0
wait "$server" || code=$?
is 0 "$code" "the exit status"

# Time limits: a client that says nothing, one that never says the end, and one that does not read.
begin --limit 1
exec 8<>"/dev/tcp/127.0.0.1/$port"
is "" "$(cat <&8)" "what a silent client is told"
is 408 "$(first 'GET / HTTP/1.1\r\n')" "half a request"
exec 8<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n' >&8
until [ "$(find "/proc/$server/fd" -lname "$work/root/*" | wc -l)" = 1 ]; do sleep 0.02; done
until [ "$(find "/proc/$server/fd" -lname "$work/root/*" | wc -l)" = 0 ]; do sleep 0.02; done
[ "$(cat <&8 2>/dev/null | wc -c)" -lt 30000000 ] || fail "a client that does not read"
# A second signal does not wait.
exec 8<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n' >&8
until [ "$(find "/proc/$server/fd" -lname "$work/root/*" | wc -l)" = 1 ]; do sleep 0.02; done
kill -INT "$server"
sleep 0.1
kill -INT "$server"
code=0
wait "$server" || code=$?
is 0 "$code" "the exit status after two signals"
exec 8<&- 8>&-
[ ! -s "$work/errors" ] || fail "$(cat "$work/errors")"
echo "http: all as it should be"

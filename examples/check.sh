#!/usr/bin/env bash
# check.sh <program> <file>: whether the program succeeds and prints what the file holds.
set -euo pipefail

output=$("$1"; echo end)
[ "$output" = "$(cat "$2"; echo end)" ] || {
  diff -u --label expected --label "$1" "$2" <(printf '%s' "${output%end}") || true
  exit 1
}

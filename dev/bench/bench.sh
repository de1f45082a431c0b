#!/bin/sh
# dev/bench/bench.sh BUILD [argument ...]: runs BUILD/bench; a whole run, without arguments, is kept in
# dev/bench/results/MACHINE.md.
set -u
program=$1/bench
shift
[ $# -gt 0 ] && exec "$program" "$@"

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
{ "$program" && echo done >"$output.ok"; } | tee "$output"
[ -e "$output.ok" ] || exit 1
rm "$output.ok"
kept=dev/bench/results/$("$program" --name).md
mkdir -p dev/bench/results && cp "$output" "$kept" && echo "kept in $kept"

#!/bin/sh
# dev/bench/bench.sh BUILD [argument ...]: runs BUILD/bench; a whole run, without arguments, is kept in
# BUILD/results/MACHINE.md, with KEEP=1 in dev/bench/results.
set -u
results=${KEEP:+dev/bench}
results=${results:-$1}/results
program=$1/bench
shift
[ $# -gt 0 ] && exec "$program" "$@"

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
{ "$program" && echo done >"$output.ok"; } | tee "$output"
[ -e "$output.ok" ] || exit 1
rm "$output.ok"
kept=$results/$("$program" --name).md
mkdir -p "$results" && cp "$output" "$kept" && echo "kept in $kept"

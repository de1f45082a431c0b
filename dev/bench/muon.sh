#!/bin/sh
# dev/bench/muon.sh BUILD [-q] [--json]: what a step of each of muon.h's rules costs, by BUILD/bench_muon, then Muon beside
# PyTorch's where that is installed: in the venv that MUON_VENV names, or in BUILD/venv, which `make bench-torch` makes. A
# whole run, without arguments, is kept in BUILD/results/MACHINE-muon.md, with KEEP=1 in dev/bench/results.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1 results=${KEEP:+dev/bench}
results=${results:-$1}/results
shift

measure() {
    "$build/bench_muon" "$@" || return
    python=${MUON_VENV:-$build/venv}/bin/python
    if "$python" -c 'import importlib.util as i, sys; sys.exit(not i.find_spec("torch"))' 2>/dev/null; then
        "$python" -B dev/bench/bench_muon.py "$build/bench_muon" "$@"
    else
        echo "PyTorch isn't installed, so nothing stands beside ours: \`make bench-torch\` installs it" >&2
    fi
}

[ $# -gt 0 ] && { measure "$@"; exit; }
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
{ measure && echo done >"$output.ok"; } | tee "$output"
[ -e "$output.ok" ] || exit 1
rm "$output.ok"
kept=$results/$("$build/bench" --name)-muon.md
mkdir -p "$results" && cp "$output" "$kept" && chmod 644 "$kept" && echo "kept in $kept"

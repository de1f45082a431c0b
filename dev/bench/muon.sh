#!/bin/sh
# dev/bench/muon.sh BUILD [-q]: what a step of each of muon.h's rules costs, by BUILD/bench_muon, then Muon beside
# PyTorch's where that is installed: in the venv that MUON_VENV names, or in build/venv, which `make bench-torch` makes.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1
shift
"$build/bench_muon" "$@" || exit

python=${MUON_VENV:-build/venv}/bin/python
if "$python" -c 'import importlib.util as i, sys; sys.exit(not i.find_spec("torch"))' 2>/dev/null; then
    exec "$python" -B dev/bench/bench_muon.py "$build/bench_muon" "$@"
fi
echo "PyTorch isn't installed, so nothing stands beside ours: \`make bench-torch\` installs it" >&2

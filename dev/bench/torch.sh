#!/bin/sh
# Compares this project with PyTorch on this machine: dev/bench/torch.sh [arguments of bench_torch.py, such as --help]
#
# PyTorch lives in a venv under $BUILD (build), made when it is missing; MUON_VENV=/path names another, which is used as it is.
# `make bench-torch` builds build/bench, the other side, before.
set -u
cd "$(dirname "$0")/../.." || exit 1

torch=2.15.0
download="3.0 GB"       # the wheels of torch $torch for Linux x86-64 and of all it requires, mostly CUDA
installed="5.4 GB"

venv=${MUON_VENV:-${BUILD:-build}/venv}
usable() { "$venv/bin/python" -c 'import torch, numpy' 2>/dev/null; }

case " $* " in
    *" -h "* | *" --help "*)
        # Needs no PyTorch, and any Python shows it.
        command -v python3 >/dev/null && exec python3 dev/bench/bench_torch.py --help ;;
esac

if ! usable && [ -n "${MUON_VENV:-}" ]; then
    echo "error: MUON_VENV=$MUON_VENV: its bin/python cannot import torch and numpy" >&2
    exit 1
elif ! usable; then
    # Without g++ or Python's headers only torch.compile fails, and the tables say so; without a venv nothing works.
    dev/setup.sh torch >&2 || python3 -c 'import venv, ensurepip' 2>/dev/null || exit 1
    echo "PyTorch is not installed: pip fetches about $download from PyPI into $venv, where it takes $installed" >&2
    echo "(torch $torch and CUDA's libraries, which it requires even where there is no GPU)" >&2
    if ! { [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"; } ||
            ! "$venv/bin/pip" install --disable-pip-version-check "torch==$torch" numpy >&2 || ! usable; then
        echo "error: PyTorch could not be installed into $venv, see above; MUON_VENV=/path uses a venv that has it" >&2
        exit 1
    fi
fi

exec "$venv/bin/python" dev/bench/bench_torch.py "$@"

#!/bin/sh
# Compares this project with PyTorch on this machine: dev/bench/torch.sh [arguments of bench_torch.py, such as --help]
#
# PyTorch lives in a venv under build, made when it is missing; MUON_VENV=/path names another, which is used as it is.
# `make bench-torch` builds build/bench, the other side, before.
set -u
cd "$(dirname "$0")/../.." || exit 1

torch=2.15.0
download="3.0 GB"       # the wheels of torch $torch for Linux x86-64 and of all it requires, mostly CUDA
installed="5.4 GB"

venv=${MUON_VENV:-build/venv}
usable() { "$venv/bin/python" -c 'import torch, numpy' 2>/dev/null; }

# What Debian calls what is missing here. With g++ and Python's headers torch.compile works, else only the rest does.
missing() {
    command -v python3 >/dev/null || echo python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
    command -v "${CXX:-g++}" >/dev/null || echo g++
    python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        echo python3-dev
}

install_packages() {
    sudo=
    if ! command -v apt-get >/dev/null; then
        echo "error: please install what Debian calls: $* (there is no apt-get to do it)" >&2
        return 1
    elif [ "$(id -u)" -ne 0 ]; then
        sudo=sudo
        if ! command -v sudo >/dev/null; then
            echo "error: neither root nor sudo: please run as root: apt-get install $*" >&2
            return 1
        fi
    fi
    echo "installing by apt-get: $*" >&2
    log=$(mktemp) || return 1
    $sudo apt-get update >"$log" 2>&1
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null || {
        cat "$log" >&2
        echo "error: apt-get could not install: $*" >&2
    }
    rm -f "$log"
}

case " $* " in
    *" -h "* | *" --help "*)
        # Needs no PyTorch, and any Python shows it.
        command -v python3 >/dev/null && exec python3 dev/bench/bench_torch.py --help ;;
esac

if ! usable && [ -n "${MUON_VENV:-}" ]; then
    echo "error: MUON_VENV=$MUON_VENV: its bin/python cannot import torch and numpy" >&2
    exit 1
elif ! usable; then
    packages=$(missing)
    if [ -n "$packages" ]; then
        # shellcheck disable=SC2086 # one word a package
        install_packages $packages
        case " $(missing | tr '\n' ' ')" in
            *" python3 "* | *" python3-venv "*) exit 1 ;;
        esac
    fi
    echo "PyTorch is not installed: pip fetches about $download from PyPI into $venv, where it takes $installed" >&2
    echo "(torch $torch and CUDA's libraries, which it requires even where there is no GPU)" >&2
    if ! { [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"; } ||
            ! "$venv/bin/pip" install --disable-pip-version-check "torch==$torch" numpy >&2 || ! usable; then
        echo "error: PyTorch could not be installed into $venv, see above; MUON_VENV=/path uses a venv that has it" >&2
        exit 1
    fi
fi

exec "$venv/bin/python" dev/bench/bench_torch.py "$@"

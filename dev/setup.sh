#!/bin/sh
# Installs what a group of commands needs, from Debian's packages; says what first. Silent where all is there.
#
#   dev/setup.sh build     compiler, make and the libraries the programs are built with
#   dev/setup.sh kjv       the King James text and the program that prints it (the default training data)
#   dev/setup.sh gcide, jargon, linux-doc      two dictionaries and the kernel's documentation, texts to train on
#   dev/setup.sh zip       unzip, for corpora that come as a zip file
#   dev/setup.sh venv      what a Python venv with programs from PyPI needs
#   dev/setup.sh fuzz      clang with libFuzzer and the sanitizers
#   dev/setup.sh torch     what a venv with PyTorch, and torch.compile in it, needs
#
# What counts is whether a thing works, not whether a package is installed: a system without apt that has the headers
# passes. Without apt, or without root and sudo, one line says what to install.
set -u

has_header() {
    printf '#include <%s>\n' "$@" | ${CC:-cc} -DPCRE2_CODE_UNIT_WIDTH=8 -E - >/dev/null 2>&1
}

# Prints the packages of group build that are missing. The first line is the fast path: one run of the preprocessor.
missing_build() {
    if ! has_header stdio.h cjson/cJSON.h stb/stb_image_write.h zlib.h pcre2.h; then
        command -v "${CC:-cc}" >/dev/null || echo gcc
        has_header stdio.h || echo libc6-dev
        # Without a compiler no header can be found: then all of them are asked for, and apt leaves out what is there.
        has_header cjson/cJSON.h || echo libcjson-dev
        has_header stb/stb_image_write.h || echo libstb-dev
        has_header zlib.h || echo zlib1g-dev
        has_header pcre2.h || echo libpcre2-dev
    fi
    command -v make >/dev/null || echo make
    # Pictures have a built-in font to fall back to: only where apt can bring the better one is it missing.
    [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || ! command -v apt-get >/dev/null || echo fonts-dejavu-core
}

missing_kjv() {
    # bible looks for its text in the current folder first
    (cd / && bible -f gen1:1 </dev/null 2>/dev/null | grep -q '^Ge1:1 ') || echo bible-kjv bible-kjv-text
}

missing_gcide() { [ -e /usr/share/dictd/gcide.dict.dz ] || echo dict-gcide; }
missing_jargon() { [ -e /usr/share/dictd/jargon.dict.dz ] || echo dict-jargon; }
missing_linux_doc() { [ -e /usr/share/doc/linux-doc/Documentation ] || echo linux-doc; }
missing_zip() { command -v unzip >/dev/null || echo unzip; }

missing_venv() {
    command -v python3 >/dev/null || echo python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

missing_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return !data && size; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null || echo clang libclang-rt-dev
}

missing_torch() {
    missing_venv
    command -v "${CXX:-g++}" >/dev/null || echo g++
    python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        echo python3-dev
}

group=${1:-}
case $group in
    build | kjv | gcide | jargon | linux-doc | zip | venv | fuzz | torch) ;;
    *) echo "error: dev/setup.sh: \"$group\": build, kjv, gcide, jargon, linux-doc, zip, venv, fuzz or torch expected" >&2
       exit 2 ;;
esac
missing=missing_$(echo "$group" | tr - _)

packages=$($missing | tr '\n' ' ')
packages=${packages% }
[ -n "$packages" ] || exit 0

sudo=
if ! command -v apt-get >/dev/null; then
    echo "error: please install what Debian calls: $packages (there is no apt-get to do it)" >&2
    exit 1
elif [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if ! command -v sudo >/dev/null; then
        echo "error: neither root nor sudo: please run as root: apt-get install $packages" >&2
        exit 1
    fi
fi

echo "installing by apt-get: $packages"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
# Lists that can't be refreshed (a foreign repository that is down) need not keep Debian's own packages from installing.
$sudo apt-get update >"$log" 2>&1
# shellcheck disable=SC2086 # one word a package
if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 $packages >>"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "error: apt-get could not install: $packages" >&2
    exit 1
fi

packages=$($missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    echo "error: installed, but still not usable: $packages" >&2
    exit 1
fi

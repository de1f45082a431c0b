#!/bin/sh
# shellcheck disable=SC2317 # the groups are called by name
# Installs what a group of commands needs, from Debian's packages; says what first. Silent where all is there.
#
#   dev/setup.sh build     compiler, make and the libraries the programs are built with
#   dev/setup.sh kjv       the King James text and the program that prints it (the default training data)
#   dev/setup.sh gcide, jargon, linux-doc      two dictionaries and the kernel's documentation, texts to train on
#   dev/setup.sh zip       unzip, for corpora that come as a zip file
#   dev/setup.sh watch     Chart.js, which draws the page of make watch
#   dev/setup.sh browser   Chromium, in which dev/watch/check.sh tries that page
#   dev/setup.sh venv      what a Python venv with programs from PyPI needs
#   dev/setup.sh fuzz      clang with libFuzzer and the sanitizers
#   dev/setup.sh openmpi, mpich      an MPI library, its compiler wrapper and its launcher
#   dev/setup.sh torch     what a venv with PyTorch, and torch.compile in it, needs
#   dev/setup.sh musl      musl's compiler wrapper, for a test
#   dev/setup.sh aarch64   a compiler for 64-bit Arm, QEMU to run what it makes, and the libraries, unpacked in build/aarch64/root
#
# What counts is whether a thing works, not whether a package is installed: a system without apt passes whose compiler, with the
# flags of the environment (CC, CPPFLAGS, CFLAGS, LDFLAGS, LDLIBS), finds headers and libraries. Without apt, or without root and
# sudo, one line says what to install.
set -u

# The compiler as the Makefile calls it: CC, CPPFLAGS, CFLAGS, LDFLAGS and LDLIBS may be several words each.
# shellcheck disable=SC2086 # one word a flag
compile() { ${CC:-cc} ${CPPFLAGS:-} ${CFLAGS:-} -DPCRE2_CODE_UNIT_WIDTH=8 "$@" ${LDFLAGS:-} ${LDLIBS:-}; }

# has HEADER "CALL" LIBRARY: whether a program with it is built.
has() { printf '#include <%s>\nint main(void) { return !%s; }\n' "$1" "$2" | compile -x c - -x none -o /dev/null "$3" 2>/dev/null; }

# Whether a program with everything is built: the fast path.
builds_all() {
    compile -x c - -x none -o /dev/null -lcjson -lpcre2-8 -lutf8proc -lz -lm 2>/dev/null <<END
#include <cjson/cJSON.h>
#include <stb/stb_image_write.h>
#include <zlib.h>
#include <pcre2.h>
#include <utf8proc.h>
int main(void) { return !(cJSON_Version() && zlibVersion() && pcre2_config(0, 0) && utf8proc_version()); }
END
}

works() { printf '#include <stdio.h>\nint main(void) { return 0; }\n' | "$@" -x c - -x none -o /dev/null; }

missing_build() {
    builds_all && return
    # shellcheck disable=SC2086 # CC may be several words
    if ! works ${CC:-cc} 2>/dev/null; then      # then all are asked for, and apt leaves out what is there
        case ${CC:-cc} in clang) echo clang ;; *) echo gcc libc6-dev ;; esac
    fi
    has cjson/cJSON.h "cJSON_Version()" -lcjson || echo libcjson-dev
    has stb/stb_image_write.h 1 -lm || echo libstb-dev
    has zlib.h "zlibVersion()" -lz || echo zlib1g-dev
    has pcre2.h "pcre2_config(0, 0)" -lpcre2-8 || echo libpcre2-dev
    has utf8proc.h "utf8proc_version()" -lutf8proc || echo libutf8proc-dev
}

# Fails where it is the compiler or its flags that don't work: that looks like missing libraries.
check_compiler() {
    # shellcheck disable=SC2086 # CC may be several words
    if works ${CC:-cc} 2>/dev/null; then
        said=$(works compile 2>&1) && return
        echo "error: $(echo "${CC:-cc}" ${CPPFLAGS:-} ${CFLAGS:-} ${LDFLAGS:-} ${LDLIBS:-}): $(echo "$said" | head -n 1)" >&2
        exit 1
    fi
    case ${CC:-cc} in
        cc | gcc | clang) ;;
        *) echo "error: CC=$CC: not a C compiler that works here" >&2; exit 1 ;;
    esac
}

missing_kjv() {
    # bible looks for its text in the current folder first
    (cd / && bible -f gen1:1 </dev/null 2>/dev/null | grep -q '^Ge1:1 ') || echo bible-kjv bible-kjv-text
}

missing_gcide() { [ -e /usr/share/dictd/gcide.dict.dz ] || echo dict-gcide; }
missing_jargon() { [ -e /usr/share/dictd/jargon.dict.dz ] || echo dict-jargon; }
missing_linux_doc() { [ -e /usr/share/doc/linux-doc/Documentation ] || echo linux-doc; }
missing_watch() { [ -e /usr/share/javascript/chart.js/chart.min.js ] || echo libjs-chart.js; }
missing_browser() { command -v chromium >/dev/null || echo chromium; }
missing_zip() { command -v unzip >/dev/null || echo unzip; }

missing_venv() {
    command -v python3 >/dev/null || echo python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

missing_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return !data && size; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null || echo clang libclang-rt-dev
}

# A library is used by its Debian names (mpicc.mpich, mpirun.mpich), or by the common ones where those are this library's: Open MPI's
# header says so, and its launcher; what does not is taken for MPICH or one of its descendants.
has_mpi() {
    not=$([ "$1" = openmpi ] || echo '!')
    for name in "mpicc.$1" mpicc; do
        launcher=mpirun${name#mpicc}
        { command -v "$name" && command -v "$launcher"; } >/dev/null || continue
        printf '#include <mpi.h>\n#if %sdefined OPEN_MPI\nint main(void) { return !MPI_VERSION; }\n#endif\n' "$not" |
            "$name" -x c - -x none -o /dev/null 2>/dev/null || continue
        case $("$launcher" --version 2>/dev/null </dev/null) in *open-mpi.org*) is=openmpi ;; ?*) is=mpich ;; *) is= ;; esac
        [ "$is" != "$1" ] || return 0
    done
    return 1
}

missing_openmpi() { has_mpi openmpi || echo openmpi-bin libopenmpi-dev; }
missing_mpich() { has_mpi mpich || echo mpich libmpich-dev; }

missing_musl() { command -v musl-gcc >/dev/null || echo musl-tools; }
missing_aarch64() {
    command -v aarch64-linux-gnu-gcc >/dev/null || echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    command -v qemu-aarch64 >/dev/null || echo qemu-user
}

missing_torch() {
    missing_venv
    command -v "${CXX:-g++}" >/dev/null || echo g++
    python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        echo python3-dev
}

group=${1:-}
case $group in
    build | kjv | gcide | jargon | linux-doc | zip | watch | browser | venv | fuzz | openmpi | mpich | torch | musl | aarch64) ;;
    *) echo "error: dev/setup.sh: \"$group\": build, kjv, gcide, jargon, linux-doc, zip, watch, browser, venv, fuzz, openmpi, mpich, torch, musl or aarch64 expected" >&2
       exit 2 ;;
esac
missing=missing_$(echo "$group" | tr - _)

# Leaves in $log what apt-get says. Lists that can't be refreshed (a foreign repository that is down) need not keep Debian's own
# packages from installing.
install() {
    $sudo apt-get update -o Acquire::http::Timeout=20 >"$log" 2>&1
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null
}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
sudo=

packages=$($missing | tr '\n' ' ')
packages=${packages% }
if [ -n "$packages" ]; then
    [ "$group" != build ] || check_compiler
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
    # shellcheck disable=SC2086 # one word a package
    if ! install $packages; then
        cat "$log" >&2
        echo "error: apt-get could not install: $packages" >&2
        exit 1
    fi
    packages=$($missing | tr '\n' ' ')
    if [ -n "$packages" ]; then
        echo "error: installed, but still not usable: $packages" >&2
        exit 1
    fi
fi

# Libraries of another architecture. apt would install them beside this one's, but only in the very same version, so that it first
# upgrades what is here: they are unpacked in a folder instead. A source list of apt's own kind keeps track of what the packages are.
root=${BUILD:-build}/aarch64/root
unpack_arm64() {
    mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" && here=$(cd "$root/apt" && pwd) && cd "$here" || return
    set -- -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status=/dev/null -o APT::Sandbox::User=root \
        -o Dir::State::lists="$here/lists" -o Dir::Cache="$here/cache"
    apt-get "$@" update && apt-get "$@" download libcjson1 libcjson-dev libpcre2-dev libutf8proc-dev zlib1g-dev libstb-dev &&
        for package in *.deb; do dpkg -x "$package" .. || return; done
    rm -rf "$here" && touch ../complete
}
if [ "$group" = aarch64 ] && [ ! -e "$root/complete" ]; then
    echo "unpacking into $root: libraries for arm64"
    (unpack_arm64) >"$log" 2>&1 || { cat "$log" >&2; echo "error: the libraries for arm64 could not be had" >&2; exit 1; }
fi

# Pictures have a built-in font: for the better one no password is asked, and it is tried for once in a build folder.
font=fonts-dejavu-core tried=${BUILD:-build}/.$font
if [ "$group" = build ] && [ ! -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] && [ ! -e "$tried" ] &&
        command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ -n "$sudo" ]; } &&
        mkdir -p "${tried%/*}" 2>/dev/null && { : >"$tried"; } 2>/dev/null; then
    echo "installing by apt-get: $font"
    install $font || echo "warning: apt-get could not install $font: pictures have the built-in font" >&2
fi
exit 0

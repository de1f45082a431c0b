#!/bin/sh
# Puts what others build and run with below a folder, and takes it away again; `make install`, install-libmuon and uninstall call it.
#
#   dev/install.sh install libmuon trainer     include/muon/muon.h, gemm.h; lib/libmuon.so.VERSION and its two names; lib/pkgconfig/muon.pc;
#                                              bin/train_gpt, share/man/man1/train_gpt.1
#   dev/install.sh uninstall                   every file and folder that an installation made there, and nothing else
#
# PREFIX is the folder, as programs will see it; DESTDIR, if set, a folder that stands in front of it while a package is put together.
# BUILD, TRAINER and VERSION say what to install. share/muon/installed.txt keeps what was made, the last first; a second installation
# takes the first one away before.
set -u
umask 022                                       # what root installs is for all
list=$PREFIX/share/muon/installed.txt
made=                                           # as in that file

# One line, and what was made so far is taken back.
give_up() {
    take_back "$made"
    echo "error: $1" >&2
    exit "${2:-1}"
}

# take_back LIST: removes what stands there; a folder only where it is empty by then.
take_back() {
    printf '%s\n' "$1" | while IFS= read -r path; do
        case $path in
            '') ;;
            */) rmdir "${DESTDIR:-}$path" 2>/dev/null || [ ! -e "${DESTDIR:-}$path" ] || [ "$(ls -A "${DESTDIR:-}$path")" ] || exit 1 ;;
            *) said=$(rm -f "${DESTDIR:-}$path" 2>&1) || { echo "error: $path: cannot be removed: ${said##*: }" >&2; exit 1; } ;;
        esac
    done
}

# Makes a folder, and those that it is in, from DESTDIR on.
folder() {
    { [ -n "$1" ] && [ ! -d "${DESTDIR:-}$1" ]; } || return 0
    folder "${1%/*}"
    said=$(mkdir "${DESTDIR:-}$1" 2>&1) ||
        give_up "$1: cannot be made: ${said##*: }; PREFIX=FOLDER names a folder that you may write to, such as \$HOME/.local"
    made="$1/
$made"
}

# put MODE FILE PLACE, below PREFIX
put() {
    at=$PREFIX/$3
    folder "${at%/*}"
    made="$at
$made"
    said=$(install -m "$1" "$2" "${DESTDIR:-}$at" 2>&1) ||
        give_up "$at: cannot be written: ${said##*: }; PREFIX=FOLDER names a folder that you may write to, such as \$HOME/.local"
}

# link NAME PLACE, below PREFIX
link() {
    made="$PREFIX/$2
$made"
    said=$(ln -sf "$1" "${DESTDIR:-}$PREFIX/$2" 2>&1) || give_up "$PREFIX/$2: cannot be made: ${said##*: }"
}

put_libmuon() {
    put 644 muon.h include/muon/muon.h
    put 644 src/gemm.h include/muon/gemm.h
    put 755 "$BUILD/libmuon.so" "lib/libmuon.so.$VERSION"
    link "libmuon.so.$VERSION" "lib/libmuon.so.${VERSION%%.*}"
    link "libmuon.so.${VERSION%%.*}" lib/libmuon.so
    cat > "$BUILD/muon.pc" <<END
prefix=$PREFIX
includedir=\${prefix}/include/muon
libdir=\${prefix}/lib

Name: muon
Description: The Muon optimizer and its family, and fast matrix products
Version: $VERSION
Cflags: -I\${includedir}
Libs: -L\${libdir} -lmuon -lm
END
    put 644 "$BUILD/muon.pc" lib/pkgconfig/muon.pc
}

put_trainer() {
    put 755 "$TRAINER" bin/train_gpt
    put 644 "$BUILD/train_gpt.1" share/man/man1/train_gpt.1
}

PREFIX=${PREFIX%/}
case $PREFIX in         # pkg-config's flags stand in command lines without quotes
    *[[:space:]\'\"\\\$\#\*\?\[\]\;\&\|\<\>\(\)\`\!:]*) give_up "PREFIX=$PREFIX: a folder whose name has no blanks and no quotes is expected" 2 ;;
    /*) ;;
    *) give_up "PREFIX=$PREFIX: a folder from / on is expected" 2 ;;
esac
case $1 in
    install)
        [ ! -e "${DESTDIR:-}$list" ] || take_back "$(cat "${DESTDIR:-}$list")" || exit 1
        [ -z "${DESTDIR:-}" ] || said=$(mkdir -p "$DESTDIR" 2>&1) || give_up "DESTDIR=$DESTDIR: cannot be made: ${said##*: }"
        shift
        for part; do "put_$part"; done
        folder "${list%/*}"
        made="$list
$made"
        printf '%s' "$made" 2>/dev/null > "${DESTDIR:-}$list" || give_up "$list: cannot be written"
        echo "installed: $* in ${DESTDIR:-}$PREFIX"
        ;;
    uninstall)
        [ -e "${DESTDIR:-}$list" ] || give_up "$PREFIX: nothing is installed there (no ${DESTDIR:-}$list)"
        take_back "$(cat "${DESTDIR:-}$list")" && echo "removed from ${DESTDIR:-}$PREFIX"
        ;;
esac

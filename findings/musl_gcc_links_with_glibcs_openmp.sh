#!/bin/sh
# The guess: a compiler that takes -fopenmp and links a program with it can make OpenMP programs: that is how configure scripts and
# Makefiles ask.
#
# The truth: Debian's musl-gcc is the system's gcc with other folders for headers and libraries, and gcc's own folder, where libgomp
# lies, stays on its list. A program with -fopenmp is compiled and linked without a word, needs libgomp.so.1, which is glibc's, and
# doesn't start: "Error loading shared library libgomp.so.1", exit code 127.
#
# Why it matters: the question has to be whether such a program runs (dev/openmp.sh).
set -eu
command -v musl-gcc >/dev/null || { apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends musl-tools >/dev/null; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo 'int main(void) { return 0; }' > "$folder/empty.c"
musl-gcc "$folder/empty.c" -o "$folder/plain" && "$folder/plain"
musl-gcc -fopenmp "$folder/empty.c" -o "$folder/openmp"
echo "compiled and linked; it needs: $(readelf -d "$folder/openmp" | sed -n 's/.*Shared library: //p' | tr '\n' ' ')"
code=0
"$folder/openmp" 2> "$folder/said" || code=$?
sed -n 1p "$folder/said"
echo "exit code $code"
[ "$code" = 127 ] && grep -q "libgomp.so.1" "$folder/said"
echo "as described"

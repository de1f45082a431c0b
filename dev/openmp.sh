#!/bin/sh
# Says how a compiler, with its flags, is asked for OpenMP: dev/openmp.sh CC FLAG... prints -fopenmp where that works, else -fopenmp-simd.
# A program may link and not run: musl-gcc links with the OpenMP library of glibc. One that can't run here at all is for another CPU.
program=$(mktemp) || exit
trap 'rm -f "$program"' EXIT
build() { echo 'int main(void) { return 0; }' | "$@" -x c - -x none -o "$program" 2>/dev/null; }
if build "$@" -fopenmp && { "$program" || { build "$@" && ! "$program"; }; } 2>/dev/null; then echo -fopenmp; else echo -fopenmp-simd; fi

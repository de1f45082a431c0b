#!/bin/sh
# The guess: worst = fmax(worst, fabs(x[i])), the largest error of an array, is compiled by any C compiler.
#
# The truth: gcc 12.2 for 64-bit Arm (Debian 12's own, and its cross compiler) ends with "internal compiler error: in
# vect_transform_reduction" at -O2 and -O3 where x is of floats and worst a double; of doubles alone, with -fno-tree-vectorize, or as
# a comparison, it does not. The flags -fno-math-errno and -fno-trapping-math don't matter.
#
# Why it matters: it is how tests measure errors, and a project that is built on x86-64 only doesn't see it. And a comparison is the
# better measure: fmax passes over a NaN.
set -eu
command -v aarch64-linux-gnu-gcc >/dev/null || {
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/worst.c" <<'C'
#include <math.h>
double of_floats(const float *x) {
    double worst = 0;
    for (int i = 0; i < 96; i++) {
#ifdef COMPARED
        double off = fabs(x[i]);
        if (!(off <= worst)) worst = off;
#else
        worst = fmax(worst, fabs(x[i]));
#endif
    }
    return worst;
}
C
sed 's/const float/const double/' "$folder/worst.c" > "$folder/doubles.c"
# expect WHAT FILE FLAG...
expect() {
    what=$1 file=$2
    shift 2
    if aarch64-linux-gnu-gcc "$@" -c "$folder/$file" -o "$folder/x.o" 2> "$folder/said"; then found=compiled
    elif grep -q "internal compiler error: in vect_transform_reduction" "$folder/said"; then found=fails
    else cat "$folder/said"; exit 1; fi
    printf '%-10s %-28s %s\n' "$file" "$*" "$found"
    [ "$found" = "$what" ] || { echo "expected: $what" >&2; exit 1; }
}
aarch64-linux-gnu-gcc --version | head -n 1
expect compiled worst.c -O1
expect fails worst.c -O2
expect fails worst.c -O3 -fno-math-errno
expect compiled worst.c -O2 -fno-tree-vectorize
expect compiled worst.c -O2 -DCOMPARED
expect compiled doubles.c -O2
echo "as described"

#!/bin/sh
# The guess: what is computed with a volatile variable is computed when the program runs, in an OpenMP region as elsewhere.
#
# The truth: gcc 12 drops the qualifier of a variable that is declared within `#pragma omp parallel`, from -O1 on, on x86-64 and on
# 64-bit Arm: the product below is folded, with the compiler's own arithmetic. Without -fopenmp, in a function that the region
# calls, or by clang 14, it is not.
#
# Why it matters: volatile is how a test keeps the compiler from computing what the CPU should, such as whether it flushes
# subnormals. Ours passed for another reason on x86-64 (a comparison with zero takes a subnormal for zero, too), and failed on Arm.
set -eu
command -v gcc >/dev/null && command -v clang >/dev/null || {
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends gcc libc6-dev clang libomp-dev binutils >/dev/null; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/region.c" <<'C'
int nonzero(void) {
    int count = 0;
    #pragma omp parallel num_threads(2) reduction(+ : count)
    {
        volatile float small = 1e-38f;
        small = small * 0.1f;
        count += small != 0.0f;
    }
    return count;
}
C
# expect NUMBER COMPILER FLAG...: multiplications in the machine code
expect() {
    what=$1
    shift
    "$@" -c "$folder/region.c" -o "$folder/region.o" 2>/dev/null
    case $1 in aarch64*) dump=aarch64-linux-gnu-objdump ;; *) dump=objdump ;; esac
    found=$("$dump" -d "$folder/region.o" | grep -cE '[[:space:]](v?mulss|fmul)[[:space:]]') || true
    printf '%-40s %s multiplication\n' "$*" "$found"
    [ "$found" = "$what" ] || { echo "expected: $what" >&2; exit 1; }
}
gcc --version | head -n 1
expect 1 gcc -O2
expect 1 gcc -O0 -fopenmp
expect 0 gcc -O1 -fopenmp
expect 0 gcc -O3 -fopenmp
expect 1 clang -O2 -fopenmp
! command -v aarch64-linux-gnu-gcc >/dev/null || expect 0 aarch64-linux-gnu-gcc -O2 -fopenmp
echo "as described"

#!/bin/sh
# Tests on 64-bit Arm, cross-compiled and emulated by QEMU, on a CPU with all instructions (max) and on one without those for bf16
# (cortex-a53): products, attention, the optimizer, a model's gradients against PyTorch's, with the NEON kernels and the portable ones.
#
#   dev/test/aarch64.sh                       the tests that .ci/run has time for, two minutes on two cores
#   dev/test/aarch64.sh CPU PROGRAM [WORDS]   those of one program whose name has one of the words 'a|b': max test_gemm 'symmetric|finish'
#
# An emulated CPU says what is computed, but nothing about speed. CC is the compiler for Arm.
set -eu
cd "$(dirname "$0")/../.."
dev/setup.sh aarch64
out=build/aarch64 root=build/aarch64/root
cc=${CC:-aarch64-linux-gnu-gcc}
export cc out root GOMP_SPINCOUNT=1000 QEMU_LD_PREFIX=/usr/aarch64-linux-gnu

# build PROGRAM: as the Makefile does it, with the libraries for Arm. $1, $root and so on are the inner shell's.
# shellcheck disable=SC2016
build='set -eu
    case $1 in test_gpt) source=test_gpt.c ;; *) source=dev/test/$1.c ;; esac
    echo "CC $out/$1"
    $cc -std=gnu11 -Wall -Wextra -Wshadow -Werror -Wno-unused-function -fno-math-errno -fno-trapping-math -fopenmp -O1 \
        -isystem $root/usr/include -isystem $root/usr/include/aarch64-linux-gnu "-DMUON_C_COMMIT=\"aarch64\"" $source -o $out/$1 \
        -L$root/usr/lib/aarch64-linux-gnu -Wl,-rpath,$PWD/$root/usr/lib/aarch64-linux-gnu -lcjson -lpcre2-8 -lutf8proc -lz -lm'

# run CPU PROGRAM [WORDS]; what it said is printed as a whole. A program of which no test ran has failed.
# shellcheck disable=SC2016
run='set -u
    said=$(qemu-aarch64 -cpu "$1" $out/$2 ${3+"$3"} 2>&1) && ! echo "$said" | grep -qx "0 passed, 0 failed"
    code=$?
    printf "== %s\n%s\n" "$*" "$said"
    exit $code'

if [ $# -gt 0 ]; then
    sh -c "$build" sh "$2"
    exec sh -c "$run" sh "$@"
fi
printf '%s\n' test_gpt test_gemm test_muon test_attn | xargs -P 2 -I {} sh -c "$build" sh {}
xargs -P 2 -L 1 sh -c "$run" sh <<END
max test_gpt gradients_match_pytorch|vec_functions|subnormals|tensor_table
max test_gemm rounding|choice|sizes|alpha|whole|bf16|empty|nan|packing|block|beyond|inside|few_rows
max test_attn hand|groups|large|nan
max test_muon gemm|singular|orientations|rank|double|counts|large_tensors|options|accumulate|blocks|resume|bad_gradients|rules_use|qk_clip
cortex-a53 test_gemm choice|rounding|sizes|bf16|nan
cortex-a53 test_gpt vec_functions|subnormals
END
echo "64-bit Arm: all passed"

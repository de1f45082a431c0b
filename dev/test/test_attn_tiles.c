/* test_attn_tiles.c - the tests of test_attn.c with the AMX kernel, its tile instructions in software (tiles.h). The packing
 * needs a CPU with AVX512_BF16; elsewhere there is nothing to test.
 */
#define _GNU_SOURCE
#define TEST_ATTN_NO_MAIN
#if defined(__x86_64__) && defined(__linux__)
#include "tiles.h"
#include "test_attn.c"

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    if (gemm_cpu_has_avx512_bf16()) {
        gemm_amx_known = 1;
        rows_begin = gemm_find("amx");
        rows_end = rows_begin + 1;
        run_tests();
        CHECK(tile_configurations > 0 && tile_threads_configured == 0);
    } else {
        puts("skipped: this CPU lacks AVX512_BF16");
        tests_passed++;
    }
    return tests_end();
}

#else
#include "test.h"

int main(void) {
    puts("skipped: not x86-64 Linux");
    tests_passed++;
    return tests_end();
}
#endif

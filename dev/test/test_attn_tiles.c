/* test_attn_tiles.c - the tests of test_attn.c with the AMX kernel, its tile instructions in software (tiles.h). The
 * packing needs a CPU with AVX512_BF16; elsewhere there is nothing to test.
 */
#define _GNU_SOURCE
#define TEST_ATTN_NO_MAIN
#if defined(__x86_64__) && defined(__linux__)
#include "tiles.h"
#include "test_attn.c"

// Every test above has run on tiles, and every thread has given its own back.
TEST(test_tiles_are_used_and_released) { CHECK(tile_configurations > 0 && tile_threads_configured == 0); }

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    if (!rows_of_tiles()) return tests_skipped("this CPU lacks AVX512_BF16");
    run_tests();
    RUN(test_tiles_are_used_and_released);
    return tests_end();
}

#else
#include "test.h"

int main(void) { return tests_skipped("not x86-64 Linux"); }
#endif

/* test_tiles.c - the AMX path of src/gemm.h with the tile instructions in software (tiles.h): the tests of test_gemm.c
 * on that row, its agreement with the other kernels in bf16, and that each thread gives its tiles back. The packing
 * needs a CPU with AVX512_BF16; elsewhere there is nothing to test.
 */
#define _GNU_SOURCE
#define TEST_GEMM_NO_MAIN
#if defined(__x86_64__) && defined(__linux__)
#include "tiles.h"
#include "test_gemm.c"

static bool traps(void) {
    __builtin_trap();
    return true;
}
static bool fails(void) { return false; }

// The trial of one tile, with a CPU that passes it, one that gets it wrong and one that traps.
TEST(test_trial) {
    CHECK(!gemm_survives(traps) && !gemm_survives(fails));
    tile_configurations = 0;
    CHECK(gemm_amx_works());
    CHECK(tile_configurations == 1 && tile_threads_configured == 0);
}

// Each thread of a product configures its tiles once and releases them; k = 0 needs none.
TEST(test_threads_release_their_tiles) {
    use_row(rows_begin);
    for (int threads = 1; threads <= 3; threads++) {
        Product p = random_product(0, 100, 130, 90, 1, 1, 0);
        Matrix c = random_matrix(p.m, p.n, 0, 3);
        float *packed = packed_b_of(p);
        omp_set_num_threads(threads);
        int expected = gemm_threads(p.m, p.n, p.k);     // 1 without OpenMP
        for (int way = 0; way < 3; way++) {
            tile_configurations = 0;
            if (way == 0) run(p, c);
            if (way == 1) run_with((GemmExtras){ .packed_b = packed }, p, c);
            if (way == 2) gemm_symmetric(false, p.m, p.k, 1, p.a.x, p.a.stride, p.a.x, p.a.stride, 0, c.x, c.stride);
            CHECK_MSG(tile_configurations == expected && tile_threads_configured == 0,
                      "way %d, %d threads: %d configured, %d not released", way, threads, tile_configurations,
                      tile_threads_configured);
        }
        p.k = 0;
        tile_configurations = 0;
        run(p, c);
        CHECK(tile_configurations == 0 && tile_threads_configured == 0);
        free(packed);
        FREE(c);
        free_product(p);
    }
    omp_set_num_threads(2);
}

// Inside a caller's parallel region each of its threads does so for each product.
TEST(test_release_inside_parallel_region) {
    enum { THREADS = 3, ROUNDS = 4 };
    use_row(rows_begin);
    Product p = random_product(0, 100, 130, 90, 1, 0, 0);
    tile_configurations = 0;
    int still_configured = 0;
    #pragma omp parallel for schedule(static, 1) num_threads(THREADS) reduction(+ : still_configured)
    for (int t = 0; t < THREADS; t++) {
        for (int r = 0; r < ROUNDS; r++) {
            Matrix c = matrix_of(p.m, p.n, 0);
            run(p, c);
            still_configured += tile_config.palette != 0;       // this thread's
            FREE(c);
        }
    }
    CHECK(still_configured == 0 && tile_threads_configured == 0);
    CHECK_MSG(tile_configurations == THREADS * ROUNDS, "%d times configured", tile_configurations);
    free_product(p);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    if (!rows_of_tiles()) return tests_skipped("this CPU lacks AVX512_BF16");
    run_tests();
    RUN(test_trial);
    RUN(test_threads_release_their_tiles);
    RUN(test_release_inside_parallel_region);
    return tests_end();
}

#else
#include "test.h"

int main(void) { return tests_skipped("not x86-64 Linux"); }
#endif

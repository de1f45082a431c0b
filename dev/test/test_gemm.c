// test_gemm.c - src/gemm.h: every instruction set of this CPU against the plain triple loop, and its other promises.
#define _GNU_SOURCE
#include "../../src/gemm.h"
#include "test.h"

#include <math.h>

// ---------------------------------------------------------------------------------------------------------------------
// Matrices in blocks of exactly the size they need, so that AddressSanitizer sees a read or write one float beyond.

typedef struct { float *x; int rows, columns; size_t stride, floats; } Matrix;

static Matrix matrix_of(int rows, int columns, int gap) {
    Matrix m = { NULL, rows, columns, (size_t)columns + gap, 0 };
    m.floats = (size_t)(rows - 1) * m.stride + columns;
    m.x = (float *)xmalloc(m.floats * sizeof *m.x);
    for (size_t i = 0; i < m.floats; i++) m.x[i] = NAN;
    return m;
}

// Uniform in [-1, 1); the gaps between the rows stay NaN, which no product may meet.
static Matrix random_matrix(int rows, int columns, int gap, uint64_t seed) {
    Matrix m = matrix_of(rows, columns, gap);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) m.x[i * m.stride + j] = 2 * uniform_of(hash64(seed, i * m.stride + j)) - 1;
    return m;
}

static Matrix copy_of(Matrix m) {
    Matrix copy = m;
    copy.x = (float *)xmalloc(m.floats * sizeof *m.x);
    memcpy(copy.x, m.x, m.floats * sizeof *m.x);
    return copy;
}

static bool same_bits(Matrix a, Matrix b) { return memcmp(a.x, b.x, a.floats * sizeof *a.x) == 0; }

// ---------------------------------------------------------------------------------------------------------------------
// One product with its operands

typedef struct { bool trans_a, trans_b; int m, n, k; float alpha, beta; Matrix a, b; } Product;

static Product random_product(int form, int m, int n, int k, float alpha, float beta, int gap) {
    Product p = { form & 1, form >> 1 & 1, m, n, k, alpha, beta, { 0 }, { 0 } };
    p.a = p.trans_a ? random_matrix(k, m, gap, 1) : random_matrix(m, k, gap, 1);
    p.b = p.trans_b ? random_matrix(n, k, 2 * gap, 2) : random_matrix(k, n, 2 * gap, 2);
    return p;
}

static void free_product(Product p) {
    free(p.a.x);
    free(p.b.x);
}

static void run(Product p, Matrix c) {
    gemm(p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, p.a.x, p.a.stride, p.b.x, p.b.stride, p.beta, c.x, c.stride);
}

/* Runs the product on a C of its own, on NaN where beta is 0, and checks every element against the reference:
 * |c - ref| <= (8 + sqrt(k)) * 2^-24 * (|alpha| |A| |B| + |beta C|), and the floats between the rows byte for byte. */
static void check_product(Product p, int gap) {
    Matrix before = p.beta == 0 ? matrix_of(p.m, p.n, gap) : random_matrix(p.m, p.n, gap, 3);
    Matrix c = copy_of(before), expected = copy_of(before), size = copy_of(before);
    run(p, c);
    gemm_reference(p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, p.a.x, p.a.stride, p.b.x, p.b.stride, p.beta,
                   expected.x, expected.stride);
    Matrix a = copy_of(p.a), b = copy_of(p.b);
    for (size_t i = 0; i < a.floats; i++) a.x[i] = fabsf(a.x[i]);
    for (size_t i = 0; i < b.floats; i++) b.x[i] = fabsf(b.x[i]);
    for (size_t i = 0; i < size.floats; i++) size.x[i] = fabsf(size.x[i]);
    gemm_reference(p.trans_a, p.trans_b, p.m, p.n, p.k, fabsf(p.alpha), a.x, a.stride, b.x, b.stride, fabsf(p.beta),
                   size.x, size.stride);
    double tolerance = (8 + sqrt(p.k)) * 0x1p-24;
    int wrong = 0, touched = 0;
    for (size_t i = 0; i < c.floats; i++) {
        if (i % c.stride >= (size_t)p.n) touched += memcmp(&c.x[i], &before.x[i], sizeof(float)) != 0;
        else wrong += !(fabs((double)c.x[i] - expected.x[i]) <= tolerance * size.x[i]);
    }
    CHECK_MSG(wrong == 0, "%s %c%c m %d n %d k %d alpha %g beta %g: %d elements wrong", gemm_isa(),
              p.trans_a ? 'T' : 'N', p.trans_b ? 'T' : 'N', p.m, p.n, p.k, p.alpha, p.beta, wrong);
    CHECK_MSG(touched == 0, "%s m %d n %d k %d: %d floats outside of C written", gemm_isa(), p.m, p.n, p.k, touched);
    Matrix all[] = { before, c, expected, size, a, b };
    for (size_t i = 0; i < COUNT_OF(all); i++) free(all[i].x);
}

// Runs `body` with each instruction set this CPU has.
#define FOR_EACH_ISA(isa)                                                                              \
    for (const GemmIsa *isa = gemm_isas; isa < gemm_isas + COUNT_OF(gemm_isas); isa++)                 \
        if (gemm_use(isa->name))

static void set_threads(int threads) {
#if defined(_OPENMP)
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Against the reference

// Every size around a tile and a block of k, and primes, in every form; alpha, beta and the gaps change along.
TEST(test_sizes) {
    static const float alphas[] = { 1, -0.5f, 2, 1 }, betas[] = { 0, 1, -1.5f };
    FOR_EACH_ISA(isa) {
        const int ms[] = { 1, isa->mr - 1, isa->mr, isa->mr + 1, 41 };
        const int ns[] = { 1, isa->nr - 1, isa->nr, isa->nr + 1, 71 };
        const int ks[] = { 1, 3, 4, 31, isa->kc - 1, isa->kc, isa->kc + 1, 2 * isa->kc + 5 };
        unsigned count = 0;
        for (size_t i = 0; i < COUNT_OF(ms); i++) {
            for (size_t j = 0; j < COUNT_OF(ns); j++) {
                for (size_t l = 0; l < COUNT_OF(ks); l++) {
                    for (int form = 0; form < 4; form++, count++) {
                        int gap = count % 5 == 0 ? 0 : (int)(count % 5) + 2;
                        float alpha = alphas[count / 3 % 4], beta = betas[count % 3];
                        Product p = random_product(form, ms[i], ns[j], ks[l], alpha, beta, gap);
                        check_product(p, gap);
                        free_product(p);
                    }
                }
            }
        }
    }
}

TEST(test_alpha_beta) {
    static const float factors[] = { 0, 1, -1, 0.3f };
    FOR_EACH_ISA(isa) {
        for (size_t i = 0; i < COUNT_OF(factors); i++) {
            for (size_t j = 0; j < COUNT_OF(factors); j++) {
                for (int form = 0; form < 4; form++) {
                    int m = 2 * isa->mr + 1, n = isa->nr + 3, k = 2 * isa->kc + 1;
                    Product p = random_product(form, m, n, k, factors[i], factors[j], 3);
                    check_product(p, 5);
                    free_product(p);
                }
            }
        }
    }
}

// Large enough for several slabs of B in both directions, several tasks and threads.
TEST(test_slabs) {
    FOR_EACH_ISA(isa) {
        static const int sizes[][3] = { { 29, GEMM_NC + 37, 1100 }, { 67, 5, 3001 }, { 331, 67, 300 } };
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            Product p = random_product((int)i + 1, sizes[i][0], sizes[i][1], sizes[i][2], 1, (float)(i % 2), 1);
            check_product(p, 4);
            free_product(p);
        }
    }
}

// Nothing to compute: empty matrices, k = 0 and alpha = 0 never read A or B.
TEST(test_empty) {
    float c[6] = { 1, 2, 3, 4, 5, 6 };
    gemm(false, false, 0, 3, 3, 1, NULL, 3, NULL, 3, 0, NULL, 3);
    gemm(false, false, 3, 0, 3, 1, NULL, 3, NULL, 3, 0, NULL, 3);
    gemm(false, false, 2, 2, 0, 1, NULL, 3, NULL, 3, 2, c, 3);
    CHECK(c[0] == 2 && c[1] == 4 && c[2] == 3 && c[3] == 8 && c[4] == 10 && c[5] == 6);
    gemm(true, true, 2, 2, 9, 0, NULL, 3, NULL, 3, 1, c, 3);
    CHECK(c[0] == 2 && c[1] == 4 && c[2] == 3 && c[3] == 8 && c[4] == 10 && c[5] == 6);
    c[0] = NAN;
    gemm(false, false, 2, 2, 9, 0, NULL, 3, NULL, 3, 0, c, 3);
    CHECK(c[0] == 0 && c[1] == 0 && c[2] == 3 && c[3] == 0 && c[4] == 0 && c[5] == 6);
}

// A NaN or infinity in one row of A or column of B reaches that row or column of C and no other element.
TEST(test_nan_stays_in_its_row) {
    FOR_EACH_ISA(isa) {
        int m = isa->mr + 2, n = isa->nr + 2, row = m - 1, column = n - 1;
        Product p = random_product(0, m, n, 9, 1, 0, 0);
        p.a.x[row * p.a.stride + 4] = NAN;
        p.b.x[3 * p.b.stride + column] = INFINITY;
        Matrix c = matrix_of(m, n, 0);
        run(p, c);
        int wrong = 0;
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) wrong += (i == row || j == column) == (isfinite(c.x[i * c.stride + j]) != 0);
        CHECK_MSG(wrong == 0, "%s: %d elements", isa->name, wrong);
        free(c.x);
        free_product(p);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The same bits

// One thread, two, three and many give the same bits: forward, dX and dW shapes, more and fewer tasks than threads.
TEST(test_threads_same_bits) {
    static const int sizes[][3] = {
        { 400, 96, 70 }, { 97, 131, 1500 }, { 1, 700, 900 }, { 900, 3, 400 }, { 60, 1100, 1030 },
    };
    FOR_EACH_ISA(isa) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            Product p = random_product((int)i % 4, sizes[i][0], sizes[i][1], sizes[i][2], 1, 0.5f, 1);
            Matrix start = random_matrix(p.m, p.n, 0, 3), one = copy_of(start);
            set_threads(1);
            run(p, one);
            static const int counts[] = { 2, 3, 7 };
            for (size_t t = 0; t < COUNT_OF(counts); t++) {
                Matrix c = copy_of(start);
                set_threads(counts[t]);
                run(p, c);
                CHECK_MSG(same_bits(one, c), "%s m %d n %d k %d, %d threads", isa->name, p.m, p.n, p.k, counts[t]);
                free(c.x);
            }
            free(start.x);
            free(one.x);
            free_product(p);
        }
    }
    set_threads(2);
}

// A block of C computed alone has the bits it has inside the whole, and so has the product of transposed copies.
TEST(test_block_same_bits) {
    FOR_EACH_ISA(isa) {
        enum { M = 75, N = 107, K = 700, ROW = 5, COLUMN = 9, ROWS = 31, COLUMNS = 50 };
        Product p = random_product(0, M, N, K, 0.7f, 0, 2);
        Matrix whole = matrix_of(M, N, 0), part = matrix_of(ROWS, COLUMNS, 0), again = matrix_of(M, N, 0);
        run(p, whole);
        gemm(false, false, ROWS, COLUMNS, K, 0.7f, p.a.x + ROW * p.a.stride, p.a.stride, p.b.x + COLUMN, p.b.stride, 0,
             part.x, part.stride);
        int different = 0;
        for (size_t i = 0; i < ROWS; i++)
            different += memcmp(part.x + i * COLUMNS, whole.x + (ROW + i) * N + COLUMN, COLUMNS * sizeof(float)) != 0;
        CHECK_MSG(different == 0, "%s: %d rows differ", isa->name, different);

        Matrix at = matrix_of(K, M, 1), bt = matrix_of(N, K, 3);
        for (size_t l = 0; l < K; l++) {
            for (size_t i = 0; i < M; i++) at.x[l * at.stride + i] = p.a.x[i * p.a.stride + l];
            for (size_t j = 0; j < N; j++) bt.x[j * bt.stride + l] = p.b.x[l * p.b.stride + j];
        }
        gemm(true, true, M, N, K, 0.7f, at.x, at.stride, bt.x, bt.stride, 0, again.x, again.stride);
        CHECK_MSG(same_bits(whole, again), "%s: transposed copies", isa->name);
        Matrix all[] = { whole, part, again, at, bt };
        for (size_t i = 0; i < COUNT_OF(all); i++) free(all[i].x);
        free_product(p);
    }
}

// Inside a caller's parallel region each thread computes its own products, small and large, undisturbed by the others.
TEST(test_inside_parallel_region) {
    enum { THREADS = 3, ROUNDS = 6 };
    static const int sizes[ROUNDS][3] = {
        { 64, 64, 16 }, { 64, 48, 64 }, { 64, 300, 100 }, { 150, 130, 300 }, { 1, 1, 1 }, { 13, 33, 600 },
    };
    FOR_EACH_ISA(isa) {
        Product products[ROUNDS];
        Matrix expected[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
            products[i] = random_product(i % 4, sizes[i][0], sizes[i][1], sizes[i][2], 1, 0, 0);
            expected[i] = matrix_of(sizes[i][0], sizes[i][1], 0);
            run(products[i], expected[i]);
        }
        int different = 0;
#if defined(_OPENMP)
        #pragma omp parallel for schedule(static, 1) num_threads(THREADS) reduction(+ : different)
#endif
        for (int t = 0; t < THREADS; t++) {
            different += gemm_threads(1000, 1000, 1000) != 1;
            for (int r = 0; r < ROUNDS + t; r++) {      // unequal numbers of calls: a barrier inside would hang
                int i = (r + t) % ROUNDS;
                Matrix c = matrix_of(sizes[i][0], sizes[i][1], 0);
                run(products[i], c);
                different += !same_bits(c, expected[i]);
                free(c.x);
            }
        }
        CHECK_MSG(different == 0, "%s: %d products differ or start threads", isa->name, different);
        for (int i = 0; i < ROUNDS; i++) {
            free(expected[i].x);
            free_product(products[i]);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Scratch memory and the choice of the instruction set

static int multiply_in_thread(void *result) {
    Product p = random_product(0, 50, 60, 70, 1, 0, 0);
    run(p, *(Matrix *)result);
    free_product(p);
    return 0;
}

// The scratch of a thread that ends is freed with it, and gemm_free may be called at any time. LeakSanitizer sees both.
TEST(test_scratch) {
    Matrix here = matrix_of(50, 60, 0), there = matrix_of(50, 60, 0);
    for (int i = 0; i < 3; i++) {
        thrd_t thread;
        CHECK(thrd_create(&thread, multiply_in_thread, &there) == thrd_success);
        thrd_join(thread, NULL);
        multiply_in_thread(&here);
        CHECK(same_bits(here, there));
        CHECK(gemm_scratch != NULL && (size_t)gemm_scratch % GEMM_ALIGN == 0);
        gemm_free();
        gemm_free();
        CHECK(gemm_scratch == NULL);
    }
    free(here.x);
    free(there.x);
}

static void ask_environment(void *isa) {
    gemm_chosen = NULL;
    setenv("GEMM_ISA", (const char *)isa, 1);
    if (strcmp(gemm_isa(), (const char *)isa) != 0) fail("%s instead", gemm_isa());
}

TEST(test_choice) {
    char unknown[] = "sse9", errors[256];
    CHECK_FAILS(ask_environment, unknown, 2, "GEMM_ISA=sse9: unknown; expected one of:");
    for (size_t i = 0; i < COUNT_OF(gemm_isas); i++) {
        char *name = xstrdup(gemm_isas[i].name);
        CHECK(gemm_use("portable"));
        if (gemm_isas[i].supported()) {
            CHECK_MSG(run_child(ask_environment, name, errors, sizeof errors) == 0, "%s: %s", name, errors);
            CHECK(gemm_use(name));
            CHECK(strcmp(gemm_isa(), name) == 0);
        } else {
            CHECK_FAILS(ask_environment, name, 2, "this CPU lacks it");
            CHECK(!gemm_use(name));
            CHECK(strcmp(gemm_isa(), "portable") == 0);
        }
        free(name);
    }
    CHECK(gemm_use(NULL) && gemm_find(NULL)->name == gemm_isa());
    CHECK(!gemm_use("sse9") && gemm_find(NULL)->name == gemm_isa());
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    set_threads(2);
    RUN(test_choice);       // first, since it forks: in a child LeakSanitizer doesn't see what other threads hold
    RUN(test_sizes);
    RUN(test_alpha_beta);
    RUN(test_slabs);
    RUN(test_empty);
    RUN(test_nan_stays_in_its_row);
    RUN(test_threads_same_bits);
    RUN(test_block_same_bits);
    RUN(test_inside_parallel_region);
    RUN(test_scratch);
    return tests_end();
}

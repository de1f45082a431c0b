// test_muon.c - muon.h against plain double-precision statements of its rules, and as a stand-alone library.
//
// Run from the project's root: the last tests compile muon.h with ${CC:-cc} and, where there is one, a C++ compiler;
// and this file once more with TEST_HOOKS, where every macro that muon.h takes is one of its own.
#define _GNU_SOURCE
#ifdef TEST_HOOKS
#include <assert.h>
#include <pthread.h>
#include <unistd.h>

static long long hook_flops, symmetric_products, exact_products, loops;   // what the hooks were called for

static void counted(long long *counter, long long n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }

static int awaited;   // products that must have begun before any of them goes on; a minute at most

static void await_products(void) {
    if (__atomic_load_n(&awaited, __ATOMIC_ACQUIRE) == 0) return;
    __atomic_fetch_sub(&awaited, 1, __ATOMIC_ACQ_REL);
    for (int i = 0; i < 600000 && __atomic_load_n(&awaited, __ATOMIC_ACQUIRE) > 0; i++) usleep(100);
}

// The products, as plainly as can be.
static void own_gemm(int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0.0;
            for (int l = 0; l < k; l++)
                sum += (double)a[trans_a ? l * lda + i : i * lda + l] * b[trans_b ? j * ldb + l : l * ldb + j];
            c[i * ldc + j] = (float)(alpha * sum + (beta == 0.0f ? 0.0 : (double)beta * c[i * ldc + j]));
        }
    counted(&hook_flops, 2LL * m * n * k);
}

// The lower triangle of op(A) op(B)^T, mirrored.
static void own_symmetric(int trans, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                          float beta, float *c, int ldc) {
    await_products();
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double sum = 0.0;
            for (int l = 0; l < k; l++)
                sum += (double)a[trans ? l * lda + i : i * lda + l] * b[trans ? l * ldb + j : j * ldb + l];
            c[i * ldc + j] = (float)(alpha * sum + (beta == 0.0f ? 0.0 : (double)beta * c[i * ldc + j]));
            c[j * ldc + i] = c[i * ldc + j];
        }
    counted(&hook_flops, (long long)n * n * k);
    counted(&symmetric_products, 1);
}

// A loop shared by threads: each takes the next number until none is left.
typedef struct { int n, next; void (*body)(void *, int, int); void *context; } Loop;
typedef struct { Loop *loop; int thread; } Worker;

static void *work(void *arg) {
    Worker *w = (Worker *)arg;
    for (int i; (i = __atomic_fetch_add(&w->loop->next, 1, __ATOMIC_RELAXED)) < w->loop->n; )
        w->loop->body(w->loop->context, i, w->thread);
    return NULL;
}

static void own_parallel_for(int n, int threads, void (*body)(void *, int, int), void *context) {
    enum { MOST = 8 };
    Loop loop = { n, 0, body, context };
    Worker workers[MOST];
    pthread_t ids[MOST];
    const int used = threads == 0 ? 3 : threads < MOST ? threads : MOST;
    for (int i = 0; i < used; i++) {
        workers[i] = (Worker){ &loop, i };
        if (i > 0) assert(pthread_create(&ids[i], NULL, work, &workers[i]) == 0);
    }
    work(&workers[0]);
    for (int i = 1; i < used; i++) pthread_join(ids[i], NULL);
    counted(&loops, 1);
}

#define MUON_GEMM own_gemm
#define MUON_GEMM_SYMMETRIC own_symmetric
#define MUON_GEMM_EXACT(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) \
    (counted(&exact_products, 1), own_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))
#define MUON_PARALLEL_FOR own_parallel_for
#define MUON_ASSERT assert
#endif

#define MUON_IMPLEMENTATION
#include "../../muon.h"
#include "test.h"

// ---------------------------------------------------------------------------------------------------------------------
// Numbers

// Standard normal numbers, a function of (stream, index).
static double normal(uint64_t stream, uint64_t i) { return normal_of(hash64(stream, i)); }

static void fill_normal(float *x, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) x[i] = normal_of(hash64(stream, i));
}

static void transpose(float *out, const float *x, int rows, int cols) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) out[j * rows + i] = x[i * cols + j];
}

// |x - ref|_F / |ref|_F
static double relative_error(const float *x, const double *ref, size_t n) {
    double e = 0.0, r = 0.0;
    for (size_t i = 0; i < n; i++) {
        e += (x[i] - ref[i]) * (x[i] - ref[i]);
        r += ref[i] * ref[i];
    }
    return sqrt(e / r);
}

static double difference(const float *x, const float *y, size_t n) {
    double e = 0.0, r = 0.0;
    for (size_t i = 0; i < n; i++) {
        e += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        r += (double)y[i] * y[i];
    }
    return sqrt(e / r);
}

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Singular values of x (rows x cols), sorted, by one-sided Jacobi (Hestenes): the rows of the smaller orientation are
 * rotated against each other until all are orthogonal; their lengths are the singular values. */
static int singular_values(const float *x, int rows, int cols, double *sigma) {
    int p = rows < cols ? rows : cols, q = rows < cols ? cols : rows;
    double *a = xmalloc(sizeof(double) * (size_t)p * (size_t)q);
    for (int i = 0; i < p; i++)
        for (int j = 0; j < q; j++) a[i * q + j] = rows < cols ? x[i * cols + j] : x[j * cols + i];
    for (int sweep = 0, rotated = 1; rotated && sweep < 60; sweep++) {
        rotated = 0;
        for (int i = 0; i < p; i++)
            for (int k = i + 1; k < p; k++) {
                double *u = a + i * q, *v = a + k * q, uu = 0.0, vv = 0.0, uv = 0.0;
                for (int j = 0; j < q; j++) {
                    uu += u[j] * u[j];
                    vv += v[j] * v[j];
                    uv += u[j] * v[j];
                }
                if (fabs(uv) <= 1e-15 * sqrt(uu * vv) || uv == 0.0) continue;
                rotated = 1;
                double zeta = (vv - uu) / (2.0 * uv);
                double t = (zeta >= 0 ? 1.0 : -1.0) / (fabs(zeta) + sqrt(1.0 + zeta * zeta));
                double cs = 1.0 / sqrt(1.0 + t * t), sn = cs * t;
                for (int j = 0; j < q; j++) {
                    double uj = u[j];
                    u[j] = cs * uj - sn * v[j];
                    v[j] = sn * uj + cs * v[j];
                }
            }
    }
    for (int i = 0; i < p; i++) {
        sigma[i] = 0.0;
        for (int j = 0; j < q; j++) sigma[i] += a[i * q + j] * a[i * q + j];
        sigma[i] = sqrt(sigma[i]);
    }
    free(a);
    qsort(sigma, (size_t)p, sizeof *sigma, descending);
    return p;
}

// ---------------------------------------------------------------------------------------------------------------------
// A Muon with its memory

typedef struct {
    Muon m;
    void *memory, *scratch;
} Optimizer;

static Optimizer optimizer(const MuonParam *params, int n, const MuonOptions *options) {
    Optimizer o;
    // Exactly the stated sizes, so that a sanitizer sees a write past them.
    o.memory = xmalloc(muon_state_bytes(params, n, options));
    o.scratch = xmalloc(muon_scratch_bytes(params, n, options));
    int code = muon_init(&o.m, params, n, options, o.memory);
    CHECK_MSG(code == MUON_OK, "muon_init: %s", muon_strerror(code));
    return o;
}

static void release(Optimizer *o) {
    free(o->memory);
    free(o->scratch);
}

static MuonParam matrix_param(float *w, const float *g, int rows, int cols, int rule, double lr, double weight_decay) {
    MuonParam p = { "w", w, g, 1, rows, cols, 0, rule, lr, weight_decay, NULL, { 0 } };
    return p;
}

static int step_of(Optimizer *o, double lr_factor, double grad_scale) {
    return muon_step(&o->m, lr_factor, grad_scale, o->scratch, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// The polynomial

// The table of muon.h's sources for Keller's coefficients, five steps; inputs relative to the Frobenius norm.
TEST(scalar_map_of_keller) {
    const double in[] = { 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.5, 1.0 };
    const double out[] = { .004849, .048473, .145071, .470544, 1.110357, .698917, 1.122332, .712120, 1.079592, .765439,
                           .696436 };
    const MuonCoefficients *c = muon_coefficients(MUON_COEFF_KELLER);
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        double y = muon_phi(c, 5, in[i]);
        CHECK_MSG(fabs(y - out[i]) <= 6e-7, "phi(%g) = %.7f, expected %.6f", in[i], y, out[i]);
    }
}

// Steps, gain and band of every set, as the head of muon.h states them.
TEST(coefficient_sets_are_as_stated) {
    const struct { int steps; double gain, from, low, high; } stated[] = {
        { 5, 485, 0.0052, 0.68, 1.14 }, { 5, 970, 0.003, 0.855, 1.145 }, { 5, 967, 0.003, 0.865, 1.13 },
        { 10, 537, 0.01, 0.99, 1.0 }, { 15, 438, 0.01, 0.99, 1.0 }, { 12, 4096, 0.001, 0.99, 1.001 },
        { 10, 79263, 0.0001, 0.99, 1.003 }, { 5, 119, 0.007, 0.77, 1.31 }, { 5, 1039, 0.001, 0.88, 1.13 },
        { 4, 90, 0.02, 0.98, 1.09 }, { 5, 493, 0.003, 0.97, 1.15 } };
    CHECK(COUNT_OF(stated) == MUON_COEFF_COUNT);
    for (int set = 0; set < MUON_COEFF_COUNT; set++) {
        const MuonCoefficients *c = muon_coefficients(set);
        const double gain = muon_phi(c, c->steps, 1e-9) / 1e-9;
        double low = 1e9, high = 0.0;
        for (double x = stated[set].from; x <= 1.0; x += 1e-5) {
            low = fmin(low, muon_phi(c, c->steps, x));
            high = fmax(high, muon_phi(c, c->steps, x));
        }
        CHECK_MSG(c->steps == stated[set].steps && fabs(gain - stated[set].gain) < 0.6, "%s: %d steps, gain %.2f", c->name,
                  c->steps, gain);
        CHECK_MSG(low >= stated[set].low && high <= stated[set].high + 1e-9, "%s: %.4f .. %.4f", c->name, low, high);
    }
}

// The same table through the matrix code: a diagonal of unit Frobenius norm, whose image is diag(phi(x)).
TEST(diagonal_matrices) {
    const double in[] = { 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.5, 0.0 };
    enum { N = COUNT_OF(in) };
    float x[N * N] = { 0 }, scratch[5 * N * N];
    CHECK(muon_orthogonalize_bytes(N, N) == sizeof scratch);
    double diagonal[N], square = 0.0;
    for (int i = 0; i < N; i++) square += in[i] * in[i];
    for (int i = 0; i < N; i++) diagonal[i] = i < N - 1 ? in[i] : sqrt(1.0 - square);
    for (int i = 0; i < N; i++) x[i * N + i] = (float)(3.0 * diagonal[i]);
    const MuonCoefficients *c = muon_coefficients(MUON_COEFF_KELLER);
    CHECK(muon_orthogonalize(x, N, N, c, 5, scratch) == MUON_OK);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double expected = i == j ? muon_phi(c, 5, diagonal[i]) : 0.0;
            CHECK_MSG(fabs(x[i * N + j] - expected) <= 2e-6, "(%d, %d): %g, expected %g", i, j, x[i * N + j], expected);
        }
}

// A set with a norm above 1 and a row per step, shorter than the number of steps: what a caller's own set may be.
TEST(own_coefficients) {
    MuonCoefficients c = { "own", 4, 1.02, 2, { { 4.0, -6.0, 2.9 }, { 1.875, -1.25, 0.375 } } };
    float x[12 * 20], scratch[12 * 20 + 4 * 12 * 12];
    double before[12], after[12], expected[12], norm = 0.0;
    fill_normal(x, COUNT_OF(x), 7);
    singular_values(x, 12, 20, before);
    for (int i = 0; i < 12; i++) norm += before[i] * before[i];
    CHECK(muon_orthogonalize(x, 12, 20, &c, 4, scratch) == MUON_OK);
    singular_values(x, 12, 20, after);
    for (int i = 0; i < 12; i++) expected[i] = fabs(muon_phi(&c, 4, before[i] / sqrt(norm)));
    qsort(expected, 12, sizeof *expected, descending);
    for (int i = 0; i < 12; i++)
        CHECK_MSG(fabs(after[i] - expected[i]) < 1e-5, "%g, expected %g", after[i], expected[i]);
    double s = before[3] / sqrt(norm) / 1.02;
    s = s * (4.0 - 6.0 * s * s + 2.9 * s * s * s * s);
    for (int step = 1; step < 4; step++) s = s * (1.875 - 1.25 * s * s + 0.375 * s * s * s * s);
    CHECK_MSG(fabs(s - muon_phi(&c, 4, before[3] / sqrt(norm))) < 1e-12, "a row per step, then the last one again");
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton-Schulz

TEST(gemm_against_triple_loop) {
    const int sizes[][3] = { { 1, 1, 1 }, { 3, 5, 2 }, { 17, 130, 66 }, { 64, 128, 64 }, { 5, 259, 131 },
                             { 40, 1, 9 } };
    for (size_t t = 0; t < COUNT_OF(sizes) * 8; t++) {
        int m = sizes[t / 8][0], n = sizes[t / 8][1], k = sizes[t / 8][2], trans_a = t & 1, trans_b = (t >> 1) & 1;
        float alpha = t & 4 ? 1.0f : -0.7f, beta = t & 4 ? 0.0f : 0.3f;
        int lda = (trans_a ? m : k) + 1, ldb = (trans_b ? k : n) + 2, ldc = n + 3;
        size_t na = (size_t)lda * (size_t)(trans_a ? k : m), nb = (size_t)ldb * (size_t)(trans_b ? n : k);
        float *a = xmalloc(na * sizeof(float)), *b = xmalloc(nb * sizeof(float));
        float *c = xmalloc((size_t)m * (size_t)ldc * sizeof(float));
        double *ref = xmalloc((size_t)m * (size_t)ldc * sizeof(double));
        fill_normal(a, na, 1);
        fill_normal(b, nb, 2);
        fill_normal(c, (size_t)m * (size_t)ldc, 3);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < ldc; j++) {
                if (j < n && beta == 0.0f) c[i * ldc + j] = NAN;   // not read where beta is 0
                double sum = j < n ? (beta == 0.0f ? 0.0 : (double)beta * c[i * ldc + j]) : c[i * ldc + j];
                for (int l = 0; l < k && j < n; l++) {
                    double ail = a[trans_a ? l * lda + i : i * lda + l], blj = b[trans_b ? j * ldb + l : l * ldb + j];
                    sum += (double)alpha * ail * blj;
                }
                ref[i * ldc + j] = sum;
            }
        MUON_GEMM(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        double e = relative_error(c, ref, (size_t)m * (size_t)ldc);
        CHECK_MSG(e < 1e-6, "%d x %d x %d, trans %d %d: error %g", m, n, k, trans_a, trans_b, e);
        free(a); free(b); free(c); free(ref);
    }
}

/* One applied step from zero weights is -lr scale X: its singular values are phi(sigma / |G|) of the gradient's, and
 * lie in the coefficients' band. */
TEST(singular_values_of_an_update) {
    const int shapes[][2] = { { 32, 96 }, { 96, 32 }, { 48, 64 }, { 24, 24 } };
    for (size_t t = 0; t < COUNT_OF(shapes); t++) {
        for (int scale = 0; scale < MUON_SCALE_COUNT; scale++) {
            int rows = shapes[t][0], cols = shapes[t][1];
            float w[32 * 96] = { 0 }, g[32 * 96];
            size_t n = (size_t)rows * (size_t)cols;
            fill_normal(g, n, 100 + t);
            if (rows == cols)   // a square Gaussian has tiny singular values: lift them into the band's range
                for (int i = 0; i < rows; i++) g[i * cols + i] += 12.0f;
            MuonOptions options = muon_default_options();
            options.scale = scale;
            MuonParam p = matrix_param(w, g, rows, cols, MUON_RULE_MUON, 0.02, 0.1);
            Optimizer o = optimizer(&p, 1, &options);
            CHECK(step_of(&o, 0.5, 1.0) == MUON_OK);
            double sigma[64], out[64], norm = 0.0, squares = 0.0;
            int count = singular_values(g, rows, cols, sigma);
            for (int i = 0; i < count; i++) norm += sigma[i] * sigma[i];
            norm = sqrt(norm);
            CHECK_MSG(sigma[count - 1] / norm > 0.0052, "not in the band's range: %g", sigma[count - 1] / norm);
            for (int i = 0; i < count; i++) sigma[i] = muon_phi(options.coefficients, 5, sigma[i] / norm);
            qsort(sigma, (size_t)count, sizeof *sigma, descending);
            for (int i = 0; i < count; i++) squares += sigma[i] * sigma[i];
            const double scales[MUON_SCALE_COUNT] = { 1.0, sqrt(fmax(1.0, (double)rows / cols)),
                                                      0.2 * sqrt(fmax(rows, cols)), sqrt(fmax(rows, cols)),
                                                      0.2 / sqrt(squares / (double)n), sqrt((double)rows / cols),
                                                      sqrt(fmax(1.0, (double)cols / rows)) };
            for (size_t i = 0; i < n; i++) w[i] = (float)(-w[i] / (0.02 * 0.5 * scales[scale]));
            singular_values(w, rows, cols, out);
            for (int i = 0; i < count; i++) {
                CHECK_MSG(fabs(out[i] - sigma[i]) <= 1e-4, "%d x %d: %.6f, phi %.6f", rows, cols, out[i], sigma[i]);
                CHECK_MSG(out[i] >= 0.68 && out[i] <= 1.14, "%d x %d: %.6f outside the band", rows, cols, out[i]);
            }
            release(&o);
        }
    }
}

TEST(orientations_and_thin_matrices) {
    enum { R = 24, C = 57 };
    float x[R * C], y[R * C], z[R * C], scratch[R * C + 4 * R * R], other[R * C + 4 * R * R];
    const MuonCoefficients *c = muon_coefficients(MUON_COEFF_KELLER);
    for (int steps = 1; steps <= 8; steps++) {   // runs of every length, the result in x or copied back from scratch
        for (int alone = 0; alone < 2; alone++) {   // rounding grows where steps share a Gram matrix
            const double bound = alone ? 2e-6 : 2e-5;
            double length;
            const float *in_x = x, *in_y = y;
            fill_normal(x, R * C, 11);
            transpose(y, x, R, C);
            if (alone) {
                CHECK(muon__normalize(x, R * C, 1.0, NULL, &length) && muon__normalize(y, R * C, 1.0, NULL, &length));
                in_x = muon__newton_schulz(x, scratch, R, C, c, steps, 1);
                in_y = muon__newton_schulz(y, other, C, R, c, steps, 1);
            } else {
                CHECK(muon_orthogonalize(x, R, C, c, steps, scratch) == MUON_OK);
                CHECK(muon_orthogonalize(y, C, R, c, steps, other) == MUON_OK);
            }
            transpose(z, in_y, C, R);
            CHECK_MSG(difference(z, in_x, R * C) < bound, "transposed: %g after %d steps", difference(z, in_x, R * C),
                      steps);
        }
    }
    for (int t = 0; t < 3; t++) {   // 1 x n, n x 1, 1 x 1: x / |x| times phi(1)
        int rows = t == 1 ? 9 : 1, cols = t == 0 ? 9 : 1, n = rows * cols;
        float v[9];
        double ref[9], norm = 0.0;
        fill_normal(v, 9, 12);
        for (int i = 0; i < n; i++) norm += (double)v[i] * v[i];
        for (int i = 0; i < n; i++) ref[i] = v[i] / sqrt(norm) * muon_phi(c, 5, 1.0);
        CHECK(muon_orthogonalize(v, rows, cols, c, 5, scratch) == MUON_OK);
        CHECK_MSG(relative_error(v, ref, (size_t)n) < 1e-6, "%d x %d", rows, cols);
    }
    fill_normal(x, R * C, 13);
    memcpy(y, x, sizeof y);
    y[77] = x[77] = INFINITY;
    CHECK(muon_orthogonalize(x, R, C, c, 5, scratch) == MUON_E_NOT_FINITE && memcmp(x, y, sizeof x) == 0);
    CHECK(muon_orthogonalize(x, 0, C, c, 5, scratch) == MUON_E_ARGUMENT);
    CHECK(muon_orthogonalize(x, R, C, NULL, 5, scratch) == MUON_E_ARGUMENT);
    CHECK(muon_orthogonalize(x, R, C, c, 0, scratch) == MUON_E_ARGUMENT);
    CHECK(muon_orthogonalize(x, R, C, c, 5, NULL) == MUON_E_ARGUMENT);
}

// Rank one of 16 x 24: the other singular values stay zero.
// Coefficients that don't converge: a code, and weights as they were.
TEST(divergence_is_reported) {
    enum { R = 8, C = 12 };
    MuonCoefficients c = { "wild", 30, 1.0, 1, { { 9.0, 30.0, 50.0 } } };
    float w[R * C], before[R * C], g[R * C], x[R * C];
    fill_normal(w, R * C, 14);
    fill_normal(g, R * C, 15);
    memcpy(before, w, sizeof w);
    memcpy(x, g, sizeof x);
    MuonOptions options = muon_default_options();
    options.coefficients = &c;
    MuonParam p = matrix_param(w, g, R, C, MUON_RULE_MUON, 0.1, 0.1);
    Optimizer o = optimizer(&p, 1, &options);
    CHECK(step_of(&o, 1.0, 1.0) == MUON_E_DIVERGED && memcmp(w, before, sizeof w) == 0);
    CHECK(muon_orthogonalize(x, R, C, &c, 30, o.scratch) == MUON_E_DIVERGED);
    release(&o);
    for (int i = 0; i < R * C; i++) x[i] = 1e30f;
    void *room = xmalloc(muon_svd_power_bytes(R, C));
    CHECK(muon_svd_power(x, R, C, 2.0, room) == MUON_E_DIVERGED);
    free(room);
}

TEST(rank_deficient) {
    float x[16 * 24], scratch[16 * 24 + 4 * 16 * 16];
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 24; j++) x[i * 24 + j] = (float)((i + 1) * (j - 7));
    const MuonCoefficients *c = muon_coefficients(MUON_COEFF_KELLER);
    CHECK(muon_orthogonalize(x, 16, 24, c, 5, scratch) == MUON_OK);
    double sigma[16];
    singular_values(x, 16, 24, sigma);
    CHECK_MSG(fabs(sigma[0] - muon_phi(c, 5, 1.0)) < 1e-5, "%g", sigma[0]);
    CHECK_MSG(sigma[1] < 1e-4, "%g", sigma[1]);   // rounding, times the slope 485
}

// Rules whose direction is a momentum, transformed so that its size doesn't matter.
static bool ignores_size(int rule) {
    return rule == MUON_RULE_MUON || rule == MUON_RULE_NORMUON || rule == MUON_RULE_SVD || rule == MUON_RULE_MSGDZ;
}

TEST(scale_of_the_gradient_does_not_matter) {
    enum { R = 20, C = 30, N = R * C };
    const double scales[] = { 1.0, 1e-30, 1e30, 1e-36, 1e37 };
    float w[COUNT_OF(scales)][N], g[N];
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++)
        for (size_t t = 0; t < COUNT_OF(scales) && ignores_size(rule); t++) {
            memset(w[t], 0, sizeof w[t]);
            MuonOptions options = muon_default_options();
            MuonParam p = matrix_param(w[t], g, R, C, rule, 0.1, 0.0);
            Optimizer o = optimizer(&p, 1, &options);
            for (int step = 0; step < 3; step++) {
                for (size_t i = 0; i < N; i++) g[i] = (float)(scales[t] * normal(20 + (uint64_t)step, i));
                CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
            }
            CHECK_MSG(difference(w[t], w[0], N) < 2e-5, "%s, %g: %g", muon_rule_name(rule), scales[t],
                      difference(w[t], w[0], N));
            release(&o);
        }
}

/* Gradients of the smallest and the largest floats, and none at all, under every rule and scale: MUON_OK and finite
 * weights. Where a scale or a rule fixes the step's RMS it is that; Adam's and RMSprop's steps are bounded by theirs, for
 * the smallest eps too, and the second moments are finite. */
TEST(gradients_of_every_size) {
    enum { R = 20, C = 30, N = R * C, STEPS = 3 };
    const float sizes[] = { 0.0f, 1e-44f, 1e-42f, 1e-40f, 1e-30f, 1e-23f, 1e-20f, 1e19f, 1e30f, 3e38f };
    static float w[N], before[N], g[N];
    for (size_t t = 0; t < (MUON_RULE_COUNT - 1) * MUON_SCALE_COUNT * COUNT_OF(sizes); t++) {
        const int rule = MUON_RULE_SGD + (int)(t / MUON_SCALE_COUNT / COUNT_OF(sizes));
        const int scale = (int)(t / COUNT_OF(sizes) % MUON_SCALE_COUNT);
        const float size = sizes[t % COUNT_OF(sizes)];
        const bool adam = rule >= MUON_RULE_ADAMS || rule == MUON_RULE_ADAM || rule == MUON_RULE_ADAMW;
        MuonOptions options = muon_default_options();
        options.scale = scale;
        options.momentum = 0.5;
        options.eps = 1.1e-19;
        MuonParam p = matrix_param(w, g, R, C, rule, 1e-3, 0.0);
        Optimizer o = optimizer(&p, 1, &options);
        fill_normal(w, N, 29);
        for (int step = 0; step < STEPS; step++) {
            for (size_t i = 0; i < N; i++) g[i] = size * (float)(normal(30, i) > 0 ? 1 : -0.5);
            memcpy(before, w, sizeof w);
            const int code = step_of(&o, 1.0, 1.0);
            CHECK_MSG(code == MUON_OK, "%s, %s, gradients of %g: %s", muon_rule_name(rule), muon_scale_name(scale), size,
                      muon_strerror(code));
            CHECK_MSG(muon__all_finite(w, N, 1.0f), "%s, %s, gradients of %g", muon_rule_name(rule),
                      muon_scale_name(scale), size);
            double sum = 0.0, largest = 0.0;
            for (size_t i = 0; i < N; i++) {
                const double moved = fabs((double)w[i] - before[i]) / 1e-3;
                sum += moved * moved;
                largest = fmax(largest, moved);
            }
            const double rms = sqrt(sum / N);
            if (rule >= MUON_RULE_MUON && scale == MUON_SCALE_RMS_EXACT && (size >= 1e-42f || size == 0) && !adam)
                CHECK_MSG(fabs(rms - (size > 0 ? 0.2 : 0.0)) <= 1e-3, "%s, gradients of %g: a step of RMS %g",
                          muon_rule_name(rule), size, rms);
            if (rule == MUON_RULE_RMSPROP || rule == MUON_RULE_ADAM || rule == MUON_RULE_ADAMW)
                CHECK_MSG(largest <= 5.0, "%s, gradients of %g: a step of %g times lr", muon_rule_name(rule), size, largest);
        }
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            size_t n;
            const float *state = muon_state(&o.m, 0, slot, &n);
            CHECK_MSG(!state || muon__all_finite(state, n, 1.0f), "%s, gradients of %g: state %d", muon_rule_name(rule),
                      size, slot);
        }
        release(&o);
    }
}

// What leaves the range of a float is told, by a code and the place; nobody gets infinite weights and MUON_OK.
TEST(steps_beyond_a_float) {
    enum { N = 2 * 6 * 8 };
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {
        float w[N] = { 0 }, g[N] = { 0 };
        MuonOptions options = muon_default_options();
        options.accumulate = 1;
        options.scale = MUON_SCALE_NONE;
        MuonParam p = { "w", w, g, 2, 6, 8, 48, rule, 1.0, 0.0, NULL, { 0 } };
        Optimizer o = optimizer(&p, 1, &options);
        int code = MUON_OK;
        for (int step = 0; step < 9 && code == MUON_OK; step++) {
            for (int i = 48; i < N; i++) g[i] = (i % 3 ? 1.0f : -1.0f) * 3e38f;   // their sum is no float
            code = step_of(&o, 1.0, 1.0);
            CHECK_MSG(code != MUON_OK || muon__all_finite(w, N, 1.0f), "%s: MUON_OK", muon_rule_name(rule));
        }
        if (code != MUON_OK) CHECK_MSG(o.m.bad_tensor == 0 && o.m.bad_matrix == 1, "%d, %d", o.m.bad_tensor, o.m.bad_matrix);
        if (rule == MUON_RULE_SGD) CHECK(code == MUON_E_DIVERGED);
        if (rule == MUON_RULE_MUON) CHECK(code == MUON_E_STATE);
        release(&o);
    }
}

// Gradients of rank one, of one row and of one column, under every rule: finite weights, and steps that aren't zero; but
// vectors under the rules that are for matrices are refused, by a code of their own.
TEST(degenerate_gradients) {
    const int shapes[][2] = { { 12, 18 }, { 18, 12 }, { 12, 12 }, { 1, 9 }, { 9, 1 }, { 1, 1 } };
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++)
        for (size_t t = 0; t < COUNT_OF(shapes); t++) {
            int rows = shapes[t][0], cols = shapes[t][1];
            size_t n = (size_t)rows * (size_t)cols;
            float w[12 * 18] = { 0 }, before[12 * 18], g[12 * 18];
            MuonOptions options = muon_default_options();
            MuonParam p = matrix_param(w, g, rows, cols, rule, 0.1, 0.1);
            if (rule >= MUON_RULE_MUON && (rows == 1 || cols == 1)) {
                Muon m;
                float state[4 * 9];
                CHECK(muon_init(&m, &p, 1, &options, state) == MUON_E_VECTOR && m.bad_tensor == 0);
                CHECK(m.bad_field && strcmp(m.bad_field, rows == 1 ? "rows" : "cols") == 0);
                CHECK(muon_state_bytes(&p, 1, &options) == 0 && muon_scratch_bytes(&p, 1, &options) == 0);
                continue;
            }
            Optimizer o = optimizer(&p, 1, &options);
            for (int step = 0; step < 4; step++) {
                for (size_t i = 0; i < n; i++)   // of rank one in each step, of a higher one in the momentum
                    g[i] = (float)(normal(900 + (uint64_t)step, i / (size_t)cols) * normal(950, i % (size_t)cols));
                memcpy(before, w, sizeof w);
                CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
                CHECK_MSG(muon__all_finite(w, n, 1.0f) && memcmp(w, before, n * sizeof *w) != 0, "%s, %d x %d",
                          muon_rule_name(rule), rows, cols);
            }
            release(&o);
        }
}

// ---------------------------------------------------------------------------------------------------------------------
// Fifty steps against double-precision statements, both fed the same gradients, learning rates and momenta

static double schedule(int step) { return step < 10 ? (step + 1) / 10.0 : 1.0 - 0.01 * step; }

// What sgd, rmsprop, adam and adamw are in double precision: torch.optim's statements, whose decay is added to g.
TEST(elementwise_rules_against_double) {
    enum { N = 700, STEPS = 50 };
    const double lr = 3e-3, wd = 0.1, b1 = 0.9, b2 = 0.999, eps = 1e-8, clip = 0.37;
    for (int t = 0; t < 16; t++) {
        const int rule = MUON_RULE_SGD + t / 4, nesterov = t & 1, accumulate = (t >> 1) & 1;
        float w[N], g[N];
        double rw[N], rm[N] = { 0 }, rv[N] = { 0 };
        fill_normal(w, N, 31);
        for (int i = 0; i < N; i++) rw[i] = w[i];
        MuonOptions options = muon_default_options();
        options.beta2 = b2;
        options.nesterov = nesterov;
        options.accumulate = accumulate;
        MuonParam p = matrix_param(w, g, 1, N, rule, lr, wd);
        Optimizer o = optimizer(&p, 1, &options);
        for (int step = 0; step < STEPS; step++) {
            for (size_t i = 0; i < N; i++)
                g[i] = (float)(normal(1000 + (uint64_t)step, i) * pow(10.0, -(double)(i % 7)));
            const double mu = step < 20 ? 0.85 + 0.005 * step : 0.95, rate = lr * schedule(step);   // warm-up of both
            o.m.options.momentum = mu;
            CHECK(step_of(&o, schedule(step), clip) == MUON_OK);
            for (int i = 0; i < N; i++) {
                double gi = clip * g[i] + (rule == MUON_RULE_ADAMW ? 0.0 : wd * rw[i]), u;
                rv[i] = b2 * rv[i] + (1 - b2) * gi * gi;
                if (rule == MUON_RULE_SGD) {
                    rm[i] = mu * rm[i] + (accumulate ? gi : (1 - mu) * gi);
                    u = !nesterov ? rm[i] : mu * rm[i] + (accumulate ? gi : (1 - mu) * gi);
                } else if (rule == MUON_RULE_RMSPROP) {
                    u = gi / (sqrt(rv[i]) + eps);
                } else {
                    rm[i] = b1 * rm[i] + (1 - b1) * gi;
                    u = rm[i] / (1 - pow(b1, step + 1)) / (sqrt(rv[i] / (1 - pow(b2, step + 1))) + eps);
                }
                if (rule == MUON_RULE_ADAMW) rw[i] *= 1 - rate * wd;
                rw[i] -= rate * u;
            }
            double e = relative_error(w, rw, N);
            CHECK_MSG(e <= 1e-6, "%s, step %d: error %g", muon_rule_name(rule), step, e);
        }
        size_t n;
        const float *momentum = muon_state(&o.m, 0, MUON_SLOT_MOMENTUM, &n);
        CHECK(rule == MUON_RULE_RMSPROP ? !momentum : n == N && relative_error(momentum, rm, N) <= 1e-6);
        const float *second = muon_state(&o.m, 0, MUON_SLOT_SECOND_MOMENT, &n);
        CHECK(rule == MUON_RULE_SGD ? !second : n == N && relative_error(second, rv, N) <= 1e-6);
        CHECK(o.m.t == STEPS);
        release(&o);
    }
}

// X <- phi(U) by the textbook: transpose a tall matrix, then X <- a X + (b A + c A A) X with A = X X^T.
static void newton_schulz_in_double(double *x, int rows, int cols, int steps) {
    int p = rows < cols ? rows : cols, q = rows < cols ? cols : rows, tall = rows > cols;
    size_t size = (size_t)p * (size_t)q;
    double *u = xmalloc(size * sizeof(double)), *next = xmalloc(size * sizeof(double)), norm = 0.0;
    double *A = xmalloc(sizeof(double) * (size_t)p * (size_t)p), *B = xmalloc(sizeof(double) * (size_t)p * (size_t)p);
    for (size_t i = 0; i < size; i++) norm += x[i] * x[i];
    for (int i = 0; i < p; i++)
        for (int j = 0; j < q; j++) u[i * q + j] = (tall ? x[j * cols + i] : x[i * cols + j]) / sqrt(norm);
    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < p; i++)
            for (int j = 0; j < p; j++) {
                A[i * p + j] = 0.0;
                for (int k = 0; k < q; k++) A[i * p + j] += u[i * q + k] * u[j * q + k];
            }
        for (int i = 0; i < p; i++)
            for (int j = 0; j < p; j++) {
                B[i * p + j] = -4.7750 * A[i * p + j];
                for (int k = 0; k < p; k++) B[i * p + j] += 2.0315 * A[i * p + k] * A[k * p + j];
            }
        for (int i = 0; i < p; i++)
            for (int j = 0; j < q; j++) {
                next[i * q + j] = 3.4445 * u[i * q + j];
                for (int k = 0; k < p; k++) next[i * q + j] += B[i * p + k] * u[k * q + j];
            }
        memcpy(u, next, size * sizeof(double));
    }
    for (int i = 0; i < p; i++)
        for (int j = 0; j < q; j++) x[tall ? j * cols + i : i * cols + j] = u[i * q + j];
    free(u); free(next); free(A); free(B);
}

// NorMuon: each row (or column) over the root of its running mean square, then the Frobenius norm it all had before.
static void even_out_in_double(double *x, double *second, int rows, int cols, int by_rows, double beta2, double eps) {
    const int lines = by_rows ? rows : cols, length = by_rows ? cols : rows;
    double before = 0.0, after = 0.0;
    for (int i = 0; i < lines; i++) {
        double mean = 0.0;
        for (int j = 0; j < length; j++) mean += pow(x[by_rows ? i * cols + j : j * cols + i], 2) / length;
        before += mean * length;
        second[i] = beta2 * second[i] + (1 - beta2) * mean;
        for (int j = 0; j < length; j++) {
            double *entry = &x[by_rows ? i * cols + j : j * cols + i];
            *entry /= sqrt(second[i]) + eps;
            after += *entry * *entry;
        }
    }
    for (int i = 0; i < rows * cols; i++) x[i] *= sqrt(before / after);
}

TEST(muon_against_double) {
    const int shapes[][2] = { { 24, 40 }, { 40, 24 }, { 16, 17 }, { 2, 12 } };
    enum { MOST = 24 * 40, STEPS = 50 };
    for (size_t t = 0; t < COUNT_OF(shapes) * 12; t++) {
        int rows = shapes[t / 12][0], cols = shapes[t / 12][1], nesterov = t & 1, accumulate = (t >> 1) & 1;
        int rule = t / 4 % 3 ? MUON_RULE_NORMUON : MUON_RULE_MUON, axis = t / 4 % 3 == 2 ? MUON_AXIS_LONGER : MUON_AXIS_ROWS;
        const int by_rows = axis == MUON_AXIS_ROWS || rows >= cols;
        size_t n = (size_t)rows * (size_t)cols;
        float w[MOST], g[MOST];
        double rw[MOST], rb[MOST] = { 0 }, rv[40] = { 0 }, u[MOST];
        const double lr = 0.01, wd = 0.2, clip = 0.6;
        fill_normal(w, n, 41);
        for (size_t i = 0; i < n; i++) rw[i] = w[i];
        MuonOptions options = muon_default_options();
        options.nesterov = nesterov;
        options.accumulate = accumulate;
        options.axis = axis;
        options.scale = nesterov ? MUON_SCALE_MATCH_RMS_ADAMW : MUON_SCALE_KELLER;
        double s = nesterov ? 0.2 * sqrt(fmax(rows, cols)) : sqrt(fmax(1.0, (double)rows / cols));
        MuonParam p = matrix_param(w, g, rows, cols, rule, lr, wd);
        Optimizer o = optimizer(&p, 1, &options);
        double worst = 0.0;
        for (int step = 0; step < STEPS; step++) {
            double mu = step < 20 ? 0.85 + 0.005 * step : 0.95, rate = lr * schedule(step);   // momentum warm-up
            fill_normal(g, n, 2000 + (uint64_t)step);
            o.m.options.momentum = mu;
            CHECK(step_of(&o, schedule(step), clip) == MUON_OK);
            for (size_t i = 0; i < n; i++) {
                double gi = clip * g[i];
                rb[i] = mu * rb[i] + (accumulate ? gi : (1 - mu) * gi);
                u[i] = nesterov ? (accumulate ? gi : (1 - mu) * gi) + mu * rb[i] : rb[i];
            }
            newton_schulz_in_double(u, rows, cols, 5);
            if (rule == MUON_RULE_NORMUON) even_out_in_double(u, rv, rows, cols, by_rows, options.beta2, options.eps);
            for (size_t i = 0; i < n; i++) rw[i] = (1 - rate * wd) * rw[i] - rate * s * u[i];
            worst = fmax(worst, relative_error(w, rw, n));
        }
        CHECK_MSG(worst <= 1e-5, "%s, %d x %d, nesterov %d, axis %d: error %g", muon_rule_name(rule), rows, cols, nesterov,
                  axis, worst);
        size_t count;
        float *momentum = muon_state(&o.m, 0, MUON_SLOT_MOMENTUM, &count);
        CHECK(count == n && relative_error(momentum, rb, n) < 1e-6);
        float *second = muon_state(&o.m, 0, MUON_SLOT_SECOND_MOMENT, &count);
        CHECK(rule == MUON_RULE_MUON ? !second : count == (size_t)(by_rows ? rows : cols) && relative_error(second, rv, count) < 1e-5);
        release(&o);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The table of tensors

enum { LAYERS = 3, ROWS = 6, COLS = 10, STRIDE = 77, VECTOR = 5 };

typedef struct {
    float matrices[LAYERS * STRIDE], vectors[LAYERS * VECTOR], frozen[4];
    float g_matrices[LAYERS * STRIDE], g_vectors[LAYERS * VECTOR];
} Model;

static void model_init(Model *model) {
    fill_normal(model->matrices, LAYERS * STRIDE, 51);
    fill_normal(model->vectors, LAYERS * VECTOR, 52);
    fill_normal(model->frozen, 4, 53);
}

static void model_gradients(Model *model, int step) {
    fill_normal(model->g_matrices, LAYERS * STRIDE, 60 + (uint64_t)step);
    fill_normal(model->g_vectors, LAYERS * VECTOR, 80 + (uint64_t)step);
}

// The vectors are AdamW's, the matrices of any rule.
static void model_params(Model *model, MuonParam params[3], int rule) {
    MuonParam rows[3] = {
        { "vectors", model->vectors, model->g_vectors, LAYERS, 1, VECTOR, VECTOR, MUON_RULE_ADAMW, 0.01, 0.0, NULL, { 0 } },
        { "frozen", model->frozen, NULL, 1, 2, 2, 0, MUON_RULE_NONE, 0.01, 0.1, NULL, { 0 } },
        { "matrices", model->matrices, model->g_matrices, LAYERS, ROWS, COLS, STRIDE, rule, 0.02, 0.1, NULL, { 0 } },
    };
    memcpy(params, rows, sizeof rows);
}

// count > 1 equals single tensors; one whole step equals its pieces in any order, and any number of threads; what lies
// between matrices is left.
static void counts_strides_and_order_of(int rule) {
    Model whole, pieces, single, threads[2];
    MuonParam params[3], piece_params[3], single_params[2 * LAYERS], thread_params[2][3];
    MuonOptions options = muon_default_options();
    model_init(&whole);
    pieces = single = threads[0] = threads[1] = whole;
    model_params(&whole, params, rule);
    model_params(&pieces, piece_params, rule);
    for (int i = 0; i < LAYERS; i++) {
        float *w = single.matrices + i * STRIDE, *v = single.vectors + i * VECTOR;
        float *dw = single.g_matrices + i * STRIDE, *dv = single.g_vectors + i * VECTOR;
        single_params[2 * i] = matrix_param(w, dw, ROWS, COLS, rule, 0.02, 0.1);
        single_params[2 * i + 1] = matrix_param(v, dv, 1, VECTOR, MUON_RULE_ADAMW, 0.01, 0.0);
    }
    Optimizer a = optimizer(params, 3, &options), b = optimizer(piece_params, 3, &options);
    Optimizer c = optimizer(single_params, 2 * LAYERS, &options), d[2];
    for (int i = 0; i < 2; i++) {
        model_params(&threads[i], thread_params[i], rule);
        d[i] = optimizer(thread_params[i], 3, &options);
        d[i].scratch = xrealloc(d[i].scratch, (size_t)(i + 2) * muon_scratch_bytes(params, 3, &options));
    }
    for (int step = 0; step < 4; step++) {
        model_gradients(&whole, step);
        model_gradients(&pieces, step);
        model_gradients(&single, step);
        CHECK(step_of(&a, 0.7, 0.9) == MUON_OK && step_of(&c, 0.7, 0.9) == MUON_OK);
        CHECK(muon_begin_step(&b.m, 0.7, 0.9) == MUON_OK);
        for (int i = 2; i >= 0; i--)
            for (int j = piece_params[i].count - 1; j >= 0; j--)
                CHECK(muon_step_one(&b.m, i, j, i == 2 ? b.scratch : NULL) == MUON_OK);
        for (int i = 0; i < 2; i++) {
            model_gradients(&threads[i], step);
            CHECK(muon_step(&d[i].m, 0.7, 0.9, d[i].scratch, i + 2) == MUON_OK);
        }
    }
    CHECK(memcmp(&whole, &pieces, sizeof whole) == 0 && memcmp(&whole, &single, sizeof whole) == 0);
    CHECK_MSG(memcmp(&whole, &threads[0], sizeof whole) == 0, "%s, two threads", muon_rule_name(rule));
    CHECK_MSG(memcmp(&whole, &threads[1], sizeof whole) == 0, "%s, three threads", muon_rule_name(rule));
    Model first;
    model_init(&first);
    CHECK(memcmp(whole.frozen, first.frozen, sizeof first.frozen) == 0);
    for (int i = 0; i < LAYERS; i++) {
        CHECK(memcmp(whole.matrices + i * STRIDE, first.matrices + i * STRIDE, ROWS * COLS * sizeof(float)) != 0);
        CHECK(memcmp(whole.matrices + i * STRIDE + ROWS * COLS, first.matrices + i * STRIDE + ROWS * COLS,
                     (STRIDE - ROWS * COLS) * sizeof(float)) == 0);
    }
    double sum = 0.0;
    for (int i = 0; i < LAYERS; i++) {
        for (int j = 0; j < ROWS * COLS; j++) sum += pow(whole.g_matrices[i * STRIDE + j], 2);
        for (int j = 0; j < VECTOR; j++) sum += pow(whole.g_vectors[i * VECTOR + j], 2);
    }
    CHECK_MSG(fabs(muon_grad_norm(&a.m) - sqrt(sum)) < 1e-12 * sqrt(sum), "%.17g", muon_grad_norm(&a.m));
    for (int i = 0; i < 2; i++) release(&d[i]);
    release(&a);
    release(&b);
    release(&c);
}

TEST(counts_strides_and_order) {
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) counts_strides_and_order_of(rule);
}

/* A vector and a matrix so large that all threads share them: the same bits for every number of threads. (msgd takes
 * the way of the large matrices, but multiplies nothing.) The hash of all weights is the same too in a program without
 * OpenMP, which the test of hooks compares. */
TEST(large_tensors_and_threads) {
    enum { LARGE = 660, LONG = 200001 };
    static float w[LARGE * LARGE], g[LARGE * LARGE], v[LONG], dv[LONG];
    uint64_t hashes[3];
    for (int threads = 1; threads <= 3; threads++) {
        MuonOptions options = muon_default_options();
        MuonParam params[3] = { matrix_param(w, g, LARGE, LARGE, MUON_RULE_MSGD, 0.1, 0.1),
                                matrix_param(v, dv, 1, LONG, MUON_RULE_ADAMW, 0.1, 0.1),
                                { "few", v, dv, 5, 40, 24, 40 * 24, MUON_RULE_NORMUON, 0.1, 0.1, NULL, { 0 } } };
        Optimizer o = optimizer(params, 3, &options);
        o.scratch = xrealloc(o.scratch, (size_t)threads * muon_scratch_bytes(params, 3, &options));
        for (size_t i = 0; i < LARGE * LARGE; i++) {
            w[i] = uniform_of(hash64(1, i));
            g[i] = uniform_of(hash64(2, i)) - 0.5f;
        }
        for (size_t i = 0; i < LONG; i++) {
            v[i] = uniform_of(hash64(3, i));
            dv[i] = uniform_of(hash64(4, i)) - 0.5f;
        }
        CHECK(muon_step(&o.m, 1.0, 1.0, o.scratch, threads) == MUON_OK);
        CHECK(muon_step(&o.m, 1.0, 1.0 / muon_grad_norm(&o.m), o.scratch, threads) == MUON_OK);
        uint64_t hash = 0;
        for (size_t i = 0; i < LARGE * LARGE; i++) hash = hash64(hash, (uint64_t)(int64_t)(w[i] * 0x1p40));
        for (size_t i = 0; i < LONG; i++) hash = hash64(hash, (uint64_t)(int64_t)(v[i] * 0x1p40));
        hashes[threads - 1] = hash;
        release(&o);
    }
    CHECK(hashes[0] == hashes[1] && hashes[0] == hashes[2]);
    printf("     bits %016llx\n", (unsigned long long)hashes[0]);
}

// A tensor's own options: the weights of a Muon that has them for all; read anew in every step; refused where bad.
TEST(options_of_a_tensor) {
    enum { N = 10 * 14 };
    float w[4][N], g[N];
    MuonOptions common = muon_default_options(), own = common, now_own;
    own.momentum = 0.5;
    own.nesterov = 0;
    own.scale = MUON_SCALE_KELLER;
    own.coefficients = muon_coefficients(MUON_COEFF_POLAR_EXPRESS);
    own.ns_steps = 3;
    now_own = own;
    for (int i = 0; i < 4; i++) fill_normal(w[i], N, 41);
    MuonParam params[2] = { matrix_param(w[0], g, 10, 14, MUON_RULE_MUON, 0.1, 0.1),
                            matrix_param(w[1], g, 10, 14, MUON_RULE_MUON, 0.1, 0.1) };
    params[1].options = &now_own;
    MuonParam plain = matrix_param(w[2], g, 10, 14, MUON_RULE_MUON, 0.1, 0.1);
    MuonParam changed = matrix_param(w[3], g, 10, 14, MUON_RULE_MUON, 0.1, 0.1);
    Optimizer both = optimizer(params, 2, &common), a = optimizer(&plain, 1, &common);
    Optimizer b = optimizer(&changed, 1, &own);
    for (int step = 0; step < 4; step++) {
        fill_normal(g, N, 42 + (uint64_t)step);
        both.m.options.momentum = a.m.options.momentum = 0.8 + 0.01 * step;
        now_own.momentum = b.m.options.momentum = 0.5 + 0.1 * step;
        CHECK(step_of(&both, 1.0, 1.0) == MUON_OK && step_of(&a, 1.0, 1.0) == MUON_OK);
        CHECK(step_of(&b, 1.0, 1.0) == MUON_OK);
    }
    CHECK(memcmp(w[0], w[2], sizeof w[0]) == 0 && memcmp(w[1], w[3], sizeof w[1]) == 0);
    CHECK(memcmp(w[0], w[1], sizeof w[0]) != 0);
    now_own.beta1 = 2.0;
    CHECK(step_of(&both, 1.0, 1.0) == MUON_E_OPTIONS && both.m.bad_tensor == 1 && both.m.t == 4);
    now_own.beta1 = 0.9;
    both.m.options.eps = -1.0;
    CHECK(step_of(&both, 1.0, 1.0) == MUON_E_OPTIONS && both.m.bad_tensor == -1 && both.m.t == 4);
    CHECK(memcmp(w[0], w[2], sizeof w[0]) == 0 && memcmp(w[1], w[3], sizeof w[1]) == 0);
    release(&both);
    release(&a);
    release(&b);
}

/* With a constant momentum, b of the accumulating form is 1 / (1 - momentum) times the averaged one: under rules that
 * ignore size the weights are the same; msgd's step is that much longer; with a changing momentum they differ. */
TEST(accumulate_against_averages) {
    enum { N = 16 * 24 };
    for (int rule = MUON_RULE_MUON; rule <= MUON_RULE_MSGD; rule++)
        for (int t = 0; t < 4; t++) {
            const int nesterov = t & 1, changing = t >> 1;
            float w[2][N] = { { 0 } }, g[N];
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                MuonOptions options = muon_default_options();
                options.accumulate = accumulate;
                options.nesterov = nesterov;
                MuonParam p = matrix_param(w[accumulate], g, 16, 24, rule, 0.1, 0.0);
                Optimizer o = optimizer(&p, 1, &options);
                for (int step = 0; step < 5; step++) {
                    fill_normal(g, N, 70 + (uint64_t)step);
                    if (changing) o.m.options.momentum = 0.5 + 0.1 * step;
                    CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
                }
                release(&o);
            }
            for (int i = 0; i < N && rule == MUON_RULE_MSGD; i++) w[0][i] = (float)(w[0][i] / (1.0 - 0.95));
            const double e = difference(w[1], w[0], N);
            CHECK_MSG(changing ? e > 1e-3 : e < 2e-5, "%s, nesterov %d, changing %d: %g", muon_rule_name(rule),
                      nesterov, changing, e);
        }
}

// Cautious decay: entry by entry the plain step's result where u W >= 0, else that of a step without decay.
TEST(cautious_decay) {
    enum { N = 12 * 20 };
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {
        float w[4][N], g[N];   // before, without decay, plain, cautious
        const bool added = rule == MUON_RULE_SGD || rule == MUON_RULE_RMSPROP || rule == MUON_RULE_ADAM;
        fill_normal(g, N, 92);
        for (int t = 0; t < 4; t++) {
            fill_normal(w[t], N, 93);
            MuonOptions options = muon_default_options();
            options.cautious = t == 3;
            MuonParam p = matrix_param(w[t], g, 12, 20, rule, 0.1, t > 1 ? 0.5 : 0.0);
            Optimizer o = optimizer(&p, 1, &options);
            CHECK(t == 0 || step_of(&o, 1.0, 1.0) == MUON_OK);
            release(&o);
        }
        int with = 0;
        for (int i = 0; i < N; i++) {
            const bool agrees = (w[0][i] - w[1][i]) * w[0][i] >= 0.0f;
            const float expected = agrees || added ? w[2][i] : w[1][i];   // decay added to g is not decoupled
            with += agrees;
            CHECK_MSG(fabsf(w[3][i] - expected) <= 1e-6f, "%s: %g, expected %g", muon_rule_name(rule), w[3][i],
                      expected);
        }
        CHECK(with > N / 4 && with < 3 * N / 4);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Blocks

/* A matrix in blocks is stepped as matrices of its blocks would be: the same bits, weights and state, under every rule
 * that transforms, for blocks of one height and for a list of heights, for any number of threads. */
TEST(blocks_are_matrices_of_their_own) {
    enum { BLOCK_ROWS = 24, N = BLOCK_ROWS * COLS, COPIES = 2, MOST = 8 };
    const int lists[][MUON_MAX_BLOCKS] = { { 6 }, { 5, 7 }, { 14, 10 }, { 24 }, { 2, 3, 4, 3 } };
    for (size_t t = 0; t < COUNT_OF(lists) * (MUON_RULE_COUNT - MUON_RULE_MUON) * 6; t++) {
        const int rule = MUON_RULE_MUON + (int)(t / 6 % (MUON_RULE_COUNT - MUON_RULE_MUON)), threads = 1 + (int)(t % 3);
        const int *list = lists[t / 6 / (MUON_RULE_COUNT - MUON_RULE_MUON)];
        float whole[COPIES * N], cut[COPIES * N], g[COPIES * N];
        MuonOptions options = muon_default_options();
        options.axis = t / 3 % 2 ? MUON_AXIS_LONGER : MUON_AXIS_ROWS;
        fill_normal(whole, COPIES * N, 110);
        memcpy(cut, whole, sizeof cut);
        MuonParam p = { "w", whole, g, COPIES, BLOCK_ROWS, COLS, N, rule, 0.1, 0.1, NULL, { list[0], list[1], list[2], list[3] } };
        MuonParam pieces[MOST];
        int n = 0;
        for (int row = 0; row < BLOCK_ROWS; n++) {
            int in_list = 0;
            while (in_list < MUON_MAX_BLOCKS && list[in_list]) in_list++;
            pieces[n] = p;
            pieces[n].w = cut + row * COLS;
            pieces[n].g = g + row * COLS;
            pieces[n].rows = list[n % in_list];
            memset(pieces[n].blocks, 0, sizeof pieces[n].blocks);
            row += pieces[n].rows;
        }
        Optimizer a = optimizer(&p, 1, &options), b = optimizer(pieces, n, &options);
        CHECK(muon_state_bytes(&p, 1, &options) == muon_state_bytes(pieces, n, &options));
        CHECK(muon_scratch_bytes(&p, 1, &options) == muon_scratch_bytes(pieces, n, &options));
        double flops = 0.0;
        for (int i = 0; i < n; i++) flops += muon_param_flops(&pieces[i], &options);
        CHECK(muon_param_flops(&p, &options) == flops);
        a.scratch = xrealloc(a.scratch, (size_t)threads * muon_scratch_bytes(&p, 1, &options));
        for (int step = 0; step < 3; step++) {
            fill_normal(g, COPIES * N, 111 + (uint64_t)step);
            CHECK(muon_step(&a.m, 1.0, 1.0, a.scratch, threads) == MUON_OK && step_of(&b, 1.0, 1.0) == MUON_OK);
        }
        CHECK_MSG(memcmp(whole, cut, sizeof cut) == 0, "%s, blocks of %d, %d: other weights", muon_rule_name(rule), list[0], list[1]);
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++)
            for (int copy = 0; copy < COPIES; copy++) {
                size_t all, at, piece;
                const float *state = muon_state(&a.m, 0, slot, &all);
                at = all / COPIES * (size_t)copy;
                for (int i = 0; state && i < n; i++, at += piece / COPIES) {
                    const float *own = muon_state(&b.m, i, slot, &piece);
                    CHECK(memcmp(state + at, own + piece / COPIES * (size_t)copy, piece / COPIES * sizeof(float)) == 0);
                }
                CHECK(!state || at == all / COPIES * (size_t)(copy + 1));
            }
        release(&a);
        release(&b);
    }
}

static double norm_of(const float *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* What blocks are for: a head whose gradient is a hundred times the others' gets an update of their size, where in the whole
 * matrix it holds them down; and the update as a whole has the size of U V^T uncut, under each scale that has a shape. */
TEST(one_heads_gradient_holds_no_other_down) {
    enum { MANY = 4, HIGH = 8, WIDE = 40, N = MANY * HIGH * WIDE };
    const int scales[] = { MUON_SCALE_KELLER, MUON_SCALE_MATCH_RMS_ADAMW, MUON_SCALE_RMS_ONE };
    for (size_t t = 0; t < COUNT_OF(scales); t++) {
        double ratio[2], total = 0.0;
        for (int per_head = 0; per_head < 2; per_head++) {
            float w[N] = { 0 }, g[N];
            fill_normal(g, N, 120);
            for (int i = 2 * HIGH * WIDE; i < 3 * HIGH * WIDE; i++) g[i] *= 100.0f;
            MuonOptions options = muon_default_options();
            options.scale = scales[t];
            options.coefficients = muon_coefficients(MUON_COEFF_BJORCK);   // exact, but for tiny singular values
            MuonParam p = { "wq", w, g, 1, MANY * HIGH, WIDE, 0, MUON_RULE_MUON, 1.0, 0.0, NULL, { per_head ? HIGH : 0 } };
            Optimizer o = optimizer(&p, 1, &options);
            CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
            double least = INFINITY, most = 0.0;
            for (int h = 0; h < MANY; h++) {
                const double norm = norm_of(w + h * HIGH * WIDE, HIGH * WIDE);
                least = fmin(least, norm);
                most = fmax(most, norm);
            }
            ratio[per_head] = most / least;
            total = norm_of(w, N);
            release(&o);
        }
        CHECK_MSG(ratio[1] < 1.05, "scale %d: heads' updates differ by %.3f", scales[t], ratio[1]);
        CHECK_MSG(ratio[0] > 1.1, "scale %d: without blocks they differ by %.3f only", scales[t], ratio[0]);
        const double expected = muon_scale(scales[t], MANY * HIGH, WIDE) * sqrt(MANY * HIGH);   // of U V^T of the whole
        CHECK_MSG(fabs(total / expected - 1) < 1e-3, "scale %d: an update of %g, expected %g", scales[t], total, expected);
    }
}

// Lists that can't be, by the field's name; and a block of one row, which is a vector.
TEST(blocks_that_cannot_be) {
    float w[24] = { 0 }, g[24] = { 0 }, memory[24];
    const int lists[][MUON_MAX_BLOCKS] = { { 4 }, { -1 }, { 7 }, { 0, 2 }, { 2, 0, 2 }, { 2, -2 },
                                           { 2147483647, 2147483647 }, { 3, 2 }, { 1 }, { 5, 1 } };
    const MuonOptions options = muon_default_options();
    for (size_t t = 0; t < COUNT_OF(lists); t++) {
        Muon m;
        MuonParam p = { "w", w, g, 1, 6, 4, 0, MUON_RULE_MUON, 0.1, 0.0, NULL, { lists[t][0], lists[t][1], lists[t][2], 0 } };
        const int code = muon_init(&m, &p, 1, &options, memory);
        CHECK_MSG(code == (t < 8 ? MUON_E_PARAM : MUON_E_VECTOR) && m.bad_tensor == 0, "case %zu: code %d", t, code);
        CHECK(m.bad_field && strcmp(m.bad_field, "blocks") == 0);
        CHECK(muon_state_bytes(&p, 1, &options) == 0 && muon_scratch_bytes(&p, 1, &options) == 0);
    }
}

TEST(state_slots) {
    Model model;
    MuonParam params[3];
    MuonOptions options = muon_default_options();
    model_params(&model, params, MUON_RULE_MUON);
    size_t expected = (2 * LAYERS * VECTOR + LAYERS * ROWS * COLS) * sizeof(float), n;
    CHECK_MSG(muon_state_bytes(params, 3, &options) == expected, "%zu", muon_state_bytes(params, 3, &options));
    size_t scratch = muon_scratch_bytes(params, 3, &options), stated = 2 * ROWS * (2 * ROWS + COLS) * sizeof(float);
    CHECK_MSG(scratch >= stated && scratch < stated + 128, "%zu", scratch);   // rounded up
    CHECK(muon_scratch_bytes(params, 2, &options) == 0);
    Optimizer o = optimizer(params, 3, &options);
    float *m = muon_state(&o.m, 0, MUON_SLOT_MOMENTUM, &n);
    CHECK(m == o.m.state && n == LAYERS * VECTOR);
    CHECK(muon_state(&o.m, 0, MUON_SLOT_SECOND_MOMENT, &n) == m + LAYERS * VECTOR && n == LAYERS * VECTOR);
    CHECK(muon_state(&o.m, 0, 2, &n) == NULL && n == 0);
    CHECK(muon_state(&o.m, 1, 0, &n) == NULL && n == 0);
    CHECK(muon_state(&o.m, 2, 0, &n) == m + 2 * LAYERS * VECTOR && n == LAYERS * ROWS * COLS);
    CHECK(muon_state(&o.m, 2, 1, &n) == NULL && muon_state(&o.m, 2, -1, &n) == NULL);
    CHECK(muon_state(&o.m, 3, 0, &n) == NULL && muon_state(&o.m, -1, 0, &n) == NULL);
    release(&o);
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {   // what the table at the head of muon.h says
        const size_t all = LAYERS * ROWS * COLS;
        const bool adam = rule == MUON_RULE_ADAM || rule == MUON_RULE_ADAMW || rule >= MUON_RULE_ADAMS;
        const size_t first = rule == MUON_RULE_RMSPROP ? 0 : all;
        const size_t second = adam || rule == MUON_RULE_RMSPROP ? all : rule == MUON_RULE_NORMUON ? LAYERS * ROWS : 0;
        params[2].rule = rule;
        o = optimizer(params + 2, 1, &options);
        CHECK(muon_state_bytes(params + 2, 1, &options) == (first + second) * sizeof(float));
        CHECK((muon_state(&o.m, 0, MUON_SLOT_MOMENTUM, &n) != NULL) == (first > 0) && n == first);
        CHECK((muon_state(&o.m, 0, MUON_SLOT_SECOND_MOMENT, &n) != NULL) == (second > 0) && n == second);
        release(&o);
    }
}

TEST(resume) {
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {
        Model model, resumed;
        MuonParam params[3], resumed_params[3];
        MuonOptions options = muon_default_options();
        model_init(&model);
        model_params(&model, params, rule);
        model_params(&resumed, resumed_params, rule);
        Optimizer o = optimizer(params, 3, &options), r = optimizer(resumed_params, 3, &options);
        for (int step = 0; step < 6; step++) {
            model_gradients(&model, step);
            CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
            if (step == 2) {   // a checkpoint: weights, every slot, t
                resumed = model;
                for (int i = 0; i < 3; i++)
                    for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
                        size_t n;
                        float *from = muon_state(&o.m, i, slot, &n), *to = muon_state(&r.m, i, slot, &n);
                        if (from) memcpy(to, from, n * sizeof(float));
                    }
                r.m.t = o.m.t;
            } else if (step > 2) {
                model_gradients(&resumed, step);
                CHECK(step_of(&r, 1.0, 1.0) == MUON_OK);
            }
        }
        CHECK_MSG(memcmp(&model, &resumed, sizeof model) == 0, "%s", muon_rule_name(rule));
        CHECK(o.m.t == 6 && r.m.t == 6);
        release(&o);
        release(&r);
    }
}

TEST(zero_gradient_only_decays) {
    float w[12], before[12], g[12] = { 0 };
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {
        const bool added = rule == MUON_RULE_SGD || rule == MUON_RULE_RMSPROP || rule == MUON_RULE_ADAM;
        fill_normal(w, 12, 91);
        memcpy(before, w, sizeof w);
        MuonOptions options = muon_default_options();
        MuonParam p = matrix_param(w, g, 3, 4, rule, 0.5, added ? 0.0 : 0.1);   // an added decay is a gradient
        Optimizer o = optimizer(&p, 1, &options);
        CHECK(step_of(&o, 0.4, 1.0) == MUON_OK);
        for (int i = 0; i < 12; i++)
            CHECK_MSG(fabs(w[i] - (added ? 1.0 : 0.98) * before[i]) <= 1e-7 * fabs(before[i]), "%s: %g from %g",
                      muon_rule_name(rule), w[i], before[i]);
        memcpy(before, w, sizeof w);
        CHECK(step_of(&o, 0.0, 1.0) == MUON_OK);   // a learning rate of zero: nothing at all
        CHECK(memcmp(w, before, sizeof w) == 0);
        release(&o);
    }
}

TEST(bad_gradients_change_nothing) {
    const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t t = 0; t < 2 * COUNT_OF(bad) * (MUON_RULE_COUNT - 1); t++) {
        Model model, before;
        MuonParam params[3];
        MuonOptions options = muon_default_options();
        const int rule = MUON_RULE_SGD + (int)(t / (2 * COUNT_OF(bad)));
        model_init(&model);
        model_params(&model, params, rule);
        Optimizer o = optimizer(params, 3, &options);
        model_gradients(&model, 0);
        CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
        model_gradients(&model, 1);
        int tensor = t & 1 ? 2 : 0, matrix = 1;
        if (tensor == 2) model.g_matrices[matrix * STRIDE + ROWS * COLS - 1] = bad[t / 2 % COUNT_OF(bad)];
        else model.g_vectors[matrix * VECTOR] = bad[t / 2 % COUNT_OF(bad)];
        before = model;
        size_t bytes = muon_state_bytes(params, 3, &options);
        void *state = xmalloc(bytes);
        memcpy(state, o.memory, bytes);
        CHECK(step_of(&o, 1.0, 1.0) == MUON_E_NOT_FINITE);
        CHECK_MSG(o.m.bad_tensor == tensor && o.m.bad_matrix == matrix, "%d, %d", o.m.bad_tensor, o.m.bad_matrix);
        CHECK(o.m.t == 1 && memcmp(&model, &before, sizeof model) == 0 && memcmp(state, o.memory, bytes) == 0);
        CHECK(muon_step_one(&o.m, 2, 0, o.scratch) == MUON_E_ARGUMENT);   // no step has begun
        CHECK(!isfinite(muon_grad_norm(&o.m)));
        model_gradients(&model, 1);
        model.g_matrices[ROWS * COLS] = NAN;   // between two matrices: nobody's gradient
        CHECK(step_of(&o, 1.0, 1.0) == MUON_OK && o.m.bad_tensor == -1 && o.m.bad_matrix == -1 && o.m.t == 2);
        model.g_vectors[2] = 1e30f;            // finite, but not as scaled
        CHECK(step_of(&o, 1.0, 1e30) == MUON_E_NOT_FINITE && o.m.bad_tensor == 0 && o.m.bad_matrix == 0);
        model_gradients(&model, 2);            // a damaged state
        size_t n;
        float *momentum = muon_state(&o.m, 2, MUON_SLOT_MOMENTUM, &n);
        if (rule >= MUON_RULE_MUON) {          // what is transformed is looked at
            momentum[3] = NAN;
            before = model;
            CHECK(muon_begin_step(&o.m, 1.0, 1.0) == MUON_OK);
            CHECK(muon_step_one(&o.m, 2, 0, o.scratch) == MUON_E_STATE);
            CHECK(memcmp(&model, &before, sizeof model) == 0);
        }
        free(state);
        release(&o);
    }
}

TEST(arguments) {
    float w[12] = { 0 }, g[12] = { 0 }, memory[24];
    Muon m;
    MuonOptions good = muon_default_options();
    MuonParam p[2];
    p[0] = matrix_param(w, g, 3, 4, MUON_RULE_MUON, 0.1, 0.0);
    p[1] = matrix_param(w, g, 3, 4, MUON_RULE_ADAMW, 0.1, 0.0);
    CHECK(muon_init(NULL, p, 1, &good, memory) == MUON_E_ARGUMENT);
    CHECK(muon_init(&m, NULL, 1, &good, memory) == MUON_E_ARGUMENT);
    CHECK(muon_init(&m, p, -1, &good, memory) == MUON_E_ARGUMENT);
    CHECK(muon_init(&m, p, 1, NULL, memory) == MUON_E_ARGUMENT);
    CHECK(muon_init(&m, p, 1, &good, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_init(&m, NULL, 0, &good, NULL) == MUON_OK && muon_step(&m, 1.0, 1.0, NULL, 1) == MUON_OK);
    for (int t = 0; t < 25; t++) {
        static const char *const fields[] = { "momentum", "momentum", "ns_steps", "ns_steps", "coefficients", "scale", "beta1",
            "beta2", "eps", "eps", "eps", "coefficients->rows", "coefficients->norm", "coefficients->abc",
            "coefficients->steps", "axis", "nesterov", "nesterov", "look_ahead", "guard", "guard_form", "rms", "rms", "decay_factor",
            "decay_factor" };
        MuonOptions o = good;
        MuonCoefficients c = *good.coefficients;
        o.coefficients = &c;
        if (t == 0) o.momentum = 1.0;
        if (t == 1) o.momentum = NAN;
        if (t == 2) o.ns_steps = -1;
        if (t == 3) o.ns_steps = MUON_MAX_NS_STEPS + 1;
        if (t == 4) o.coefficients = NULL;
        if (t == 5) o.scale = MUON_SCALE_COUNT;
        if (t == 6) o.beta1 = -0.1;
        if (t == 7) o.beta2 = 1.0;
        if (t == 8) o.eps = 0.0;
        if (t == 9) o.eps = 1e-60;   // zero as a float
        if (t == 10) o.eps = 9e-21;  // squares of gradients that it would have to bound are no floats
        if (t == 11) c.rows = 0;
        if (t == 12) c.norm = 0.0;
        if (t == 13) c.abc[0][2] = NAN;
        if (t == 14) c.steps = 0;
        if (t == 15) o.axis = MUON_AXIS_COUNT;
        if (t == 16) o.nesterov = MUON_NESTEROV_COUNT;
        if (t == 17) o.nesterov = -1;
        if (t == 18) o.look_ahead = -0.1;
        if (t == 19) o.guard = NAN;
        if (t == 20) o.guard_form = MUON_GUARD_COUNT;
        if (t == 21) o.rms = 0.0;
        if (t == 22) o.rms = INFINITY;
        if (t == 23) o.decay_factor = -1.0;
        if (t == 24) o.decay_factor = NAN;
        CHECK_MSG(muon_init(&m, p, 2, &o, memory) == MUON_E_OPTIONS && m.bad_tensor == -1, "case %d", t);
        CHECK_MSG(m.bad_field && strcmp(m.bad_field, fields[t]) == 0, "case %d: %s", t, m.bad_field ? m.bad_field : "NULL");
        CHECK(muon_state_bytes(p, 2, &o) == 0);
        MuonParam own[2] = { p[0], p[1] };
        own[1].options = &o;
        CHECK(muon_init(&m, own, 2, &good, memory) == MUON_E_OPTIONS && m.bad_tensor == 1);
        CHECK(m.bad_field && strcmp(m.bad_field, fields[t]) == 0);
    }
    for (int t = 0; t < 11; t++) {
        static const char *const fields[] = { "w", "g", "count", "rows", "cols", "stride", "rule", "lr", "lr",
                                              "weight_decay", "count" };
        MuonParam bad[2] = { p[0], p[1] };
        if (t == 0) bad[1].w = NULL;
        if (t == 1) bad[1].g = NULL;
        if (t == 2) bad[1].count = 0;
        if (t == 3) bad[1].rows = -3;
        if (t == 4) bad[1].cols = 0;
        if (t == 5) { bad[1].count = 2; bad[1].stride = 11; }
        if (t == 6) bad[1].rule = MUON_RULE_COUNT;
        if (t == 7) bad[1].lr = NAN;
        if (t == 8) bad[1].lr = -1.0;
        if (t == 9) bad[1].weight_decay = INFINITY;
        if (t == 10) bad[1].rows = bad[1].cols = bad[1].count = 2147483647;
        CHECK_MSG(muon_init(&m, bad, 2, &good, memory) == MUON_E_PARAM && m.bad_tensor == 1, "case %d", t);
        CHECK_MSG(m.bad_field && strcmp(m.bad_field, fields[t]) == 0, "case %d: %s", t, m.bad_field ? m.bad_field : "NULL");
        CHECK((muon_scratch_bytes(bad, 2, &good) == 0) == (t > 1));     // memory can be planned before w and g exist
    }
    float scratch[2 * 3 * (4 + 2 * 3)];
    CHECK(muon_init(&m, p, 1, &good, memory) == MUON_OK);
    CHECK(muon_step_one(&m, 0, 0, scratch) == MUON_E_ARGUMENT);   // no step has begun
    CHECK(muon_begin_step(&m, NAN, 1.0) == MUON_E_ARGUMENT && muon_begin_step(&m, 1.0, -1.0) == MUON_E_ARGUMENT);
    CHECK(muon_begin_step(&m, INFINITY, 1.0) == MUON_E_ARGUMENT && m.t == 0);
    CHECK(muon_begin_step(&m, -1e-9, 1.0) == MUON_E_ARGUMENT && m.t == 0);
    CHECK(muon_begin_step(&m, 1.0, 1.0) == MUON_OK && m.t == 1);
    CHECK(muon_step_one(&m, 1, 0, scratch) == MUON_E_ARGUMENT && muon_step_one(&m, -1, 0, scratch) == MUON_E_ARGUMENT);
    CHECK(muon_step_one(&m, 0, 1, scratch) == MUON_E_ARGUMENT && muon_step_one(&m, 0, -1, scratch) == MUON_E_ARGUMENT);
    CHECK(muon_step_one(&m, 0, 0, NULL) == MUON_E_ARGUMENT && muon_step_one(&m, 0, 0, scratch) == MUON_OK);
    m.options.momentum = 2.0;
    CHECK(muon_begin_step(&m, 1.0, 1.0) == MUON_E_OPTIONS && m.t == 1);
}

// A refused step has changed nothing and not counted, whatever it is refused for; the next one is the next one.
TEST(refused_steps_do_not_count) {
    float w[2][12], g[12], memory[2][24], scratch[128], before[12], state[24];
    MuonOptions good = muon_default_options();
    MuonParam p[2] = { matrix_param(w[0], g, 3, 4, MUON_RULE_ADAMS, 0.1, 0.1),
                       matrix_param(w[1], g, 3, 4, MUON_RULE_ADAMS, 0.1, 0.1) };
    Muon m[2];
    for (int i = 0; i < 2; i++) {
        fill_normal(w[i], 12, 71);
        CHECK(muon_init(&m[i], &p[i], 1, &good, memory[i]) == MUON_OK);
    }
    for (int t = 0; t < 9; t++) {
        static const char *const fields[] = { "scratch", "threads", "threads", "lr_factor", "grad_scale", "beta2", "lr",
                                              "g", "lr" };
        static const int codes[] = { MUON_E_ARGUMENT, MUON_E_ARGUMENT, MUON_E_ARGUMENT, MUON_E_ARGUMENT, MUON_E_ARGUMENT,
                                     MUON_E_OPTIONS, MUON_E_PARAM, MUON_E_NOT_FINITE, MUON_E_PARAM };
        fill_normal(g, 12, 72 + (uint64_t)t);
        CHECK(muon_step(&m[1], 1.0, 1.0, scratch, 1) == MUON_OK);
        const float kept = g[5];
        memcpy(before, w[0], sizeof before);
        memcpy(state, memory[0], sizeof state);
        if (t == 5) m[0].options.beta2 = 1.5;
        if (t == 6) p[0].lr = NAN;
        if (t == 7) g[5] = NAN;
        if (t == 8) p[0].lr = 3e38;   // times its scale it is no float
        const int code = muon_step(&m[0], t == 3 ? -1.0 : t == 8 ? 10.0 : 1.0, t == 4 ? NAN : 1.0, t == 0 ? NULL : scratch,
                                   t == 1 ? 0 : t == 2 ? -3 : 1);
        CHECK_MSG(code == codes[t], "case %d: code %d", t, code);
        CHECK_MSG(m[0].bad_field && strcmp(m[0].bad_field, fields[t]) == 0, "case %d: %s", t,
                  m[0].bad_field ? m[0].bad_field : "NULL");
        CHECK_MSG(m[0].t == t, "case %d: t is %lld", t, m[0].t);
        CHECK(memcmp(before, w[0], sizeof before) == 0 && memcmp(state, memory[0], sizeof state) == 0);
        CHECK(muon_step_one(&m[0], 0, 0, scratch) == MUON_E_ARGUMENT && muon_step_all(&m[0], scratch, 1) == MUON_E_ARGUMENT);
        m[0].options.beta2 = good.beta2;
        p[0].lr = 0.1;
        g[5] = kept;
        CHECK(muon_step(&m[0], 1.0, 1.0, scratch, 1) == MUON_OK && m[0].bad_field == NULL);
        CHECK_MSG(memcmp(w[0], w[1], sizeof w[0]) == 0, "case %d: other bits than without the refused step", t);
    }
}

// Tensors whose states are pieces of the caller's: each goes as one that is alone with a Muon of its own, though they sit out
// different steps. A missing piece or a negative number of steps is said; a refused step counts for none.
TEST(states_that_lie_apart) {
    enum { TENSORS = 4, N = 6 * 8, STEPS = 6 };
    static const int rules[TENSORS] = { MUON_RULE_MUON, MUON_RULE_ADAMW, MUON_RULE_NORMUON, MUON_RULE_SGD };
    float w[2][TENSORS][N], g[TENSORS][N], state[TENSORS][2 * N], pieces[TENSORS][MUON_SLOT_COUNT][N] = { { { 0 } } };
    long long steps[TENSORS] = { 0 };
    MuonOptions o = muon_default_options();
    o.nesterov = MUON_NESTEROV_CORRECTED;
    o.axis = MUON_AXIS_LONGER;
    MuonParam alone[TENSORS], table[TENSORS];
    Muon m[TENSORS], together;
    char scratch[8192];
    for (int i = 0; i < TENSORS; i++) {
        fill_normal(w[0][i], N, 81 + (uint64_t)i);
        memcpy(w[1][i], w[0][i], sizeof w[0][i]);
        alone[i] = matrix_param(w[0][i], g[i], 6, 8, rules[i], 0.1, 0.1);
        CHECK(sizeof state[i] >= muon_state_bytes(&alone[i], 1, &o) && sizeof scratch >= muon_scratch_bytes(&alone[i], 1, &o));
        CHECK(muon_init(&m[i], &alone[i], 1, &o, state[i]) == MUON_OK);
    }
    for (int t = 0; t < STEPS; t++) {
        float *slots[TENSORS * MUON_SLOT_COUNT];
        long long made[TENSORS];
        int which[TENSORS], n = 0;
        for (int i = 0; i < TENSORS; i++) {
            if (i == t % (TENSORS + 1)) continue;
            fill_normal(g[i], N, 91 + (uint64_t)(TENSORS * t + i));
            CHECK(muon_step(&m[i], 1.0, 0.5, scratch, 1) == MUON_OK);
            table[n] = matrix_param(w[1][i], g[i], 6, 8, rules[i], 0.1, 0.1);
            for (int s = 0; s < MUON_SLOT_COUNT; s++)
                slots[n * MUON_SLOT_COUNT + s] = s == 1 && rules[i] == MUON_RULE_MUON ? NULL : pieces[i][s];
            made[n] = steps[i];
            which[n++] = i;
        }
        CHECK(muon_init_apart(&together, table, n, &o, slots, made) == MUON_OK);
        const float kept = g[which[0]][3];
        g[which[0]][3] = NAN;
        CHECK(muon_step(&together, 1.0, 0.5, scratch, 1) == MUON_E_NOT_FINITE && made[0] == steps[which[0]]);
        g[which[0]][3] = kept;
        CHECK(muon_step(&together, 1.0, 0.5, scratch, 1) == MUON_OK && together.t == 1);
        for (int k = 0; k < n; k++) steps[which[k]] = made[k];
    }
    for (int i = 0; i < TENSORS; i++) {
        size_t n;
        CHECK_MSG(memcmp(w[0][i], w[1][i], sizeof w[0][i]) == 0 && steps[i] == m[i].t && m[i].t < STEPS, "%s, %lld steps",
                  muon_rule_name(rules[i]), steps[i]);
        for (int s = 0; s < MUON_SLOT_COUNT; s++) {
            const float *own = muon_state(&m[i], 0, s, &n);
            CHECK(!own || memcmp(own, pieces[i][s], n * sizeof *own) == 0);
        }
    }
    float *slots[] = { pieces[1][0], NULL };
    CHECK(muon_init_apart(&together, &table[0], 1, &o, NULL, steps) == MUON_E_ARGUMENT && !strcmp(together.bad_field, "slots"));
    CHECK(muon_init_apart(&together, &table[0], 1, &o, slots, NULL) == MUON_E_ARGUMENT && !strcmp(together.bad_field, "steps"));
    CHECK(muon_init_apart(&together, &alone[1], 1, &o, slots, steps) == MUON_E_PARAM && !strcmp(together.bad_field, "slots"));
    steps[0] = -1;
    CHECK(muon_init_apart(&together, &alone[0], 1, &o, slots, steps) == MUON_E_PARAM && together.bad_tensor == 0 &&
          !strcmp(together.bad_field, "steps"));
    CHECK(muon_step(&together, 1.0, 1.0, scratch, 1) == MUON_OK && steps[0] == -1);    // of no tensors
}

TEST(names_and_scales) {
    for (int code = MUON_OK; code < MUON_E_COUNT; code++)
        for (int other = MUON_OK; other < code; other++)
            CHECK(muon_strerror(code) && strcmp(muon_strerror(code), muon_strerror(other)) != 0);
    CHECK(strcmp(muon_strerror(MUON_E_COUNT), muon_strerror(-1)) == 0 && strstr(muon_strerror(-1), "unknown"));
    CHECK(strcmp(muon_rule_name(MUON_RULE_NONE), "none") == 0 && strcmp(muon_rule_name(MUON_RULE_ADAMW), "adamw") == 0);
    CHECK(strcmp(muon_rule_name(MUON_RULE_MUON), "muon") == 0);
    CHECK(!muon_rule_name(MUON_RULE_COUNT) && !muon_rule_name(-1));
    CHECK(strcmp(muon_scale_name(MUON_SCALE_KELLER), "keller") == 0 && !muon_scale_name(MUON_SCALE_COUNT));
    CHECK(strcmp(muon_scale_name(MUON_SCALE_MATCH_RMS_ADAMW), "match_rms_adamw") == 0);
    CHECK(strcmp(muon_coefficients(MUON_COEFF_KELLER)->name, "keller") == 0 && !muon_coefficients(MUON_COEFF_COUNT));
    CHECK(muon_scale(MUON_SCALE_NONE, 9, 4) == 1.0 && isnan(muon_scale(MUON_SCALE_COUNT, 9, 4)));
    CHECK(muon_scale(MUON_SCALE_KELLER, 9, 4) == 1.5 && muon_scale(MUON_SCALE_KELLER, 4, 9) == 1.0);
    CHECK(fabs(muon_scale(MUON_SCALE_MATCH_RMS_ADAMW, 9, 4) - 0.6) < 1e-15);
    CHECK(fabs(muon_scale(MUON_SCALE_MATCH_RMS_ADAMW, 4, 9) - 0.6) < 1e-15);
    CHECK(muon_scale(MUON_SCALE_SPECTRAL, 9, 4) == 1.5 && muon_scale(MUON_SCALE_SPECTRAL, 4, 9) == 2.0 / 3.0);
    CHECK(muon_scale(MUON_SCALE_KELLER_TRANSPOSED, 9, 4) == 1.0 && muon_scale(MUON_SCALE_KELLER_TRANSPOSED, 4, 9) == 1.5);
    MuonOptions o = muon_default_options();
    for (int scale = 0; scale < MUON_SCALE_COUNT; scale++) {
        const int by_rms = scale == MUON_SCALE_MATCH_RMS_ADAMW || scale == MUON_SCALE_RMS_EXACT;
        o.scale = scale, o.rms = 0.2;
        CHECK(muon_update_scale(&o, 9, 4) == muon_scale(scale, 9, 4));
        o.rms = 0.18;
        CHECK(fabs(muon_update_scale(&o, 9, 4) / muon_scale(scale, 9, 4) - (by_rms ? 0.9 : 1.0)) < 1e-15);
    }
}

// Of every rule, exactly the options of muon_rule_uses change what two steps make of a matrix.
TEST(rules_use_the_options_they_say) {
    enum { N = ROWS * COLS };
    const MuonOptions common = muon_default_options();
    enum { MANY = 15 };
    MuonOptions changed[MANY];
    const int bits[MANY] = { MUON_USES_MOMENTUM, MUON_USES_MOMENTUM, MUON_USES_BETA1, MUON_USES_BETA2, MUON_USES_BETA2,
                             MUON_USES_NEWTON_SCHULZ, MUON_USES_NEWTON_SCHULZ, MUON_USES_SCALE, MUON_USES_AXIS, MUON_USES_MOMENTUM,
                             MUON_USES_BETA1, MUON_USES_NEWTON_SCHULZ, MUON_USES_NEWTON_SCHULZ, MUON_USES_NEWTON_SCHULZ,
                             MUON_USES_SCALE };
    for (int i = 0; i < MANY; i++) changed[i] = common;
    changed[0].momentum = 0.5;
    changed[1].nesterov = 0;
    changed[2].beta1 = 0.5;
    changed[3].beta2 = 0.5;
    changed[4].eps = 0.05;
    changed[5].ns_steps = 2;
    changed[6].coefficients = muon_coefficients(MUON_COEFF_CUBIC);
    changed[7].scale = MUON_SCALE_KELLER;
    changed[8].axis = MUON_AXIS_LONGER;
    changed[9].nesterov = MUON_NESTEROV_CORRECTED;
    changed[10].adam_nesterov = 1;
    changed[11].guard = 10.0;
    changed[12].equalize = 1;
    changed[13].renormalize = 1;
    changed[14].rms = 0.1;
    float g[2][N];
    for (int step = 0; step < 2; step++) fill_normal(g[step], N, 50 + (uint64_t)step);
    for (int rule = 0; rule < MUON_RULE_COUNT; rule++)
        for (int i = 0; i < MANY; i++) {
            float w[2][N], now[N];
            for (int k = 0; k < 2; k++) {
                MuonParam p = matrix_param(w[k], now, ROWS, COLS, rule, 0.1, 0.0);
                Optimizer o = optimizer(&p, 1, k ? &changed[i] : &common);
                fill_normal(w[k], N, 52);
                for (int step = 0; step < 2; step++) {
                    memcpy(now, g[step], sizeof now);
                    CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
                }
                release(&o);
            }
            bool differs = memcmp(w[0], w[1], sizeof w[0]) != 0, uses = muon_rule_uses(rule) & bits[i];
            CHECK_MSG(differs == uses, "%s, option %d: %s", muon_rule_name(rule), i, differs ? "changes it" : "changes nothing");
        }
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {     // no gradient, and a decay of half a step
        float w[N], before[N], none[N] = { 0 };
        fill_normal(w, N, 53);
        memcpy(before, w, sizeof w);
        MuonParam p = matrix_param(w, none, ROWS, COLS, rule, 0.1, 5.0);
        Optimizer o = optimizer(&p, 1, &common);
        CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
        double worst = 0;
        for (int i = 0; i < N; i++) {
            double off = fabs(w[i] - 0.5 * before[i]);      // by fmax GCC 12 for Arm would end here: findings
            if (!(off <= worst)) worst = off;
        }
        CHECK_MSG((worst > 1e-3) == !!(muon_rule_uses(rule) & MUON_USES_ADDED_DECAY), "%s: %g", muon_rule_name(rule), worst);
        release(&o);
    }
    CHECK(muon_rule_uses(MUON_RULE_NONE) == 0 && muon_rule_uses(MUON_RULE_COUNT) == 0 && muon_rule_uses(-1) == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// QK-Clip

TEST(qk_gamma) {
    CHECK(muon_qk_gamma(200.0, 100.0) == 0.5);
    CHECK(muon_qk_gamma(100.0, 100.0) == 1.0 && muon_qk_gamma(99.0, 100.0) == 1.0);
    CHECK(muon_qk_gamma(-200.0, 100.0) == 1.0 && muon_qk_gamma(0.0, 100.0) == 1.0);
    CHECK(muon_qk_gamma(-INFINITY, 100.0) == 1.0);
    CHECK(muon_qk_gamma(200.0, 0.0) == 1.0);   // off
    CHECK(muon_qk_gamma(1e305, 1e300) == 1e-5);
    CHECK(isnan(muon_qk_gamma(NAN, 100.0)) && isnan(muon_qk_gamma(NAN, 0.0)) && isnan(muon_qk_gamma(INFINITY, 100.0)));
}

enum { HEADS = 4, HEAD = 6, WIDTH = 24, TIME = 7 };

typedef struct {
    float wq[HEADS * HEAD * WIDTH], bq[HEADS * HEAD], wk[HEADS * HEAD * WIDTH], bk[HEADS * HEAD];
} Projections;

static void fill_projections(Projections *p, uint64_t stream) {
    fill_normal(p->wq, COUNT_OF(p->wq), hash64(stream, 0));
    fill_normal(p->bq, COUNT_OF(p->bq), hash64(stream, 1));
    fill_normal(p->wk, COUNT_OF(p->wk), hash64(stream, 2));
    fill_normal(p->bk, COUNT_OF(p->bk), hash64(stream, 3));
}

// Causal logits q_i . k_j / sqrt(HEAD) of one head in double; returns the largest.
static double head_logits(const Projections *p, int bias, int kv_heads, int h, const float *x, double *out) {
    double q[TIME][HEAD], k[TIME][HEAD], largest = -INFINITY;
    int kv = h / (HEADS / kv_heads);
    for (int t = 0; t < TIME; t++)
        for (int d = 0; d < HEAD; d++) {
            q[t][d] = bias ? p->bq[h * HEAD + d] : 0.0;
            k[t][d] = bias ? p->bk[kv * HEAD + d] : 0.0;
            for (int c = 0; c < WIDTH; c++) {
                q[t][d] += (double)p->wq[(h * HEAD + d) * WIDTH + c] * x[t * WIDTH + c];
                k[t][d] += (double)p->wk[(kv * HEAD + d) * WIDTH + c] * x[t * WIDTH + c];
            }
        }
    for (int i = 0; i < TIME; i++)
        for (int j = 0; j < TIME; j++) {
            double s = 0.0;
            for (int d = 0; d < HEAD; d++) s += q[i][d] * k[j][d] / sqrt(HEAD);
            out[i * TIME + j] = s;
            if (j <= i) largest = fmax(largest, s);
        }
    return largest;
}

// On frozen inputs every head's logits are gamma_h times the old ones, for MHA, GQA and MQA, with and without biases.
TEST(qk_clip_scales_logits_by_gamma) {
    const int kv_heads[] = { HEADS, 2, 1 };
    const double alphas[] = { 0.5, 0.0, 1.0, 0.3 };
    for (size_t t = 0; t < COUNT_OF(kv_heads) * COUNT_OF(alphas) * 2; t++) {
        int bias = t & 1, kv = kv_heads[t / 2 % 3];
        double alpha = alphas[t / 6], before[HEADS][TIME * TIME], after[TIME * TIME], sorted[HEADS];
        Projections p, old;
        float x[TIME * WIDTH], max_logit[HEADS];
        fill_projections(&p, 300 + t);
        fill_normal(x, COUNT_OF(x), 700 + t);
        old = p;
        for (int h = 0; h < HEADS; h++) {
            max_logit[h] = (float)head_logits(&p, bias, kv, h, x, before[h]);
            sorted[h] = max_logit[h];
        }
        qsort(sorted, HEADS, sizeof *sorted, descending);
        double tau = 0.5 * (sorted[1] + sorted[2]);   // two heads fire, two are silent
        int clipped = -1;
        int code = muon_qk_clip(p.wq, bias ? p.bq : NULL, p.wk, bias ? p.bk : NULL, HEADS, kv, HEAD, WIDTH, max_logit,
                                tau, alpha, &clipped);
        CHECK(code == MUON_OK && clipped == 2);
        for (int h = 0; h < HEADS; h++) {
            double gamma = max_logit[h] > tau ? tau / max_logit[h] : 1.0;
            double largest = head_logits(&p, bias, kv, h, x, after);
            for (int i = 0; i < TIME * TIME; i++)
                CHECK_MSG(fabs(after[i] - gamma * before[h][i]) <= 2e-5, "kv %d, bias %d, alpha %g, head %d: %g not %g",
                          kv, bias, alpha, h, after[i], gamma * before[h][i]);
            CHECK_MSG(fabs(largest - fmin(tau, max_logit[h])) <= 2e-5 * tau, "%g, tau %g", largest, tau);
            size_t at = (size_t)h * HEAD * WIDTH;
            if (kv == HEADS) {   // Kimi K2: gamma^alpha on the queries, gamma^(1 - alpha) on the keys
                CHECK(fabs(p.wq[at] - old.wq[at] * pow(gamma, alpha)) <= 2e-6);
                CHECK(fabs(p.wk[at] - old.wk[at] * pow(gamma, 1 - alpha)) <= 2e-6);
            }
            if (gamma == 1.0)    // a silent head keeps its key, its query and so its bits
                CHECK(memcmp(p.wq + at, old.wq + at, HEAD * WIDTH * sizeof(float)) == 0);
        }
        if (!bias) CHECK(memcmp(p.bq, old.bq, sizeof p.bq) == 0 && memcmp(p.bk, old.bk, sizeof p.bk) == 0);
    }
}

TEST(qk_clip_edges) {
    Projections p, old;
    fill_projections(&p, 800);
    old = p;
    float quiet[HEADS] = { -300.0f, -INFINITY, 0.0f, 99.0f }, loud[HEADS] = { 200.0f, 1.0f, 400.0f, 100.0f };
    int clipped;
    CHECK(muon_qk_clip(p.wq, p.bq, p.wk, p.bk, HEADS, HEADS, HEAD, WIDTH, quiet, 100.0, 0.5, &clipped) == MUON_OK);
    CHECK(clipped == 0 && memcmp(&p, &old, sizeof p) == 0);
    CHECK(muon_qk_clip(p.wq, p.bq, p.wk, p.bk, HEADS, HEADS, HEAD, WIDTH, loud, 0.0, 0.5, &clipped) == MUON_OK);
    CHECK(clipped == 0 && memcmp(&p, &old, sizeof p) == 0);
    for (int t = 0; t < 2; t++) {
        float bad[HEADS] = { 200.0f, 300.0f, 1.0f, t ? INFINITY : NAN };
        CHECK(muon_qk_clip(p.wq, p.bq, p.wk, p.bk, HEADS, 2, HEAD, WIDTH, bad, 100.0, 0.5, &clipped) == MUON_E_LOGIT);
        CHECK(clipped == 0 && memcmp(&p, &old, sizeof p) == 0);
    }
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 3, HEAD, WIDTH, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 0, HEAD, WIDTH, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip(NULL, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, NULL, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, loud, NAN, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, loud, 100.0, 1.5, NULL) == MUON_E_ARGUMENT);
    // a tau so small that tau / S is 0, and so 0 / 0 what the queries would take
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, loud, 5e-324, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(memcmp(&p, &old, sizeof p) == 0);
    CHECK(muon_qk_clip(p.wq, NULL, p.wk, NULL, HEADS, 4, HEAD, WIDTH, loud, 100.0, 0.5, NULL) == MUON_OK);
    CHECK(memcmp(&p, &old, sizeof p) != 0);
}

enum { CONTENT = 5, ROTARY = 4, VALUE = 3, LATENT = 8 };

typedef struct {
    float wq[HEADS * (CONTENT + ROTARY) * WIDTH], wk[HEADS * (CONTENT + VALUE) * LATENT];
} Latent;

// Logits of one head of latent attention: content . content + rotary . the rotary key that all heads share.
static double latent_logits(const Latent *p, int h, const float *x, const float *latent, const float *key,
                            double *out) {
    const double root = sqrt(CONTENT + ROTARY);
    double largest = -INFINITY;
    for (int i = 0; i < TIME; i++)
        for (int j = 0; j < TIME; j++) {
            double sum = 0.0;
            for (int d = 0; d < CONTENT + ROTARY; d++) {
                double q = 0.0, k = d < CONTENT ? 0.0 : key[j * ROTARY + d - CONTENT];
                const float *wq = p->wq + (h * (CONTENT + ROTARY) + d) * WIDTH;
                for (int c = 0; c < WIDTH; c++) q += (double)wq[c] * x[i * WIDTH + c];
                const float *wk = p->wk + (h * (CONTENT + VALUE) + d) * LATENT;
                for (int c = 0; c < LATENT && d < CONTENT; c++) k += (double)wk[c] * latent[j * LATENT + c];
                sum += q * k / root;
            }
            out[i * TIME + j] = sum;
            largest = fmax(largest, sum);
        }
    return largest;
}

TEST(qk_clip_of_latent_attention) {
    const double alphas[] = { 0.5, 0.0, 1.0, 0.3 };
    for (size_t t = 0; t < COUNT_OF(alphas); t++) {
        Latent p, old;
        double before[HEADS][TIME * TIME], after[TIME * TIME], sorted[HEADS];
        float x[TIME * WIDTH], latent[TIME * LATENT], key[TIME * ROTARY], max_logit[HEADS];
        fill_normal(p.wq, COUNT_OF(p.wq), 400 + t);
        fill_normal(p.wk, COUNT_OF(p.wk), 410 + t);
        fill_normal(x, COUNT_OF(x), 420 + t);
        fill_normal(latent, COUNT_OF(latent), 430 + t);
        fill_normal(key, COUNT_OF(key), 440 + t);
        old = p;
        for (int h = 0; h < HEADS; h++) {
            max_logit[h] = (float)latent_logits(&p, h, x, latent, key, before[h]);
            sorted[h] = max_logit[h];
        }
        qsort(sorted, HEADS, sizeof *sorted, descending);
        const double tau = 0.5 * (sorted[1] + sorted[2]);
        int clipped = -1;
        CHECK(muon_qk_clip_mla(p.wq, WIDTH, p.wk, LATENT, CONTENT + VALUE, HEADS, CONTENT, ROTARY, max_logit, tau,
                               alphas[t], &clipped) == MUON_OK && clipped == 2);
        for (int h = 0; h < HEADS; h++) {
            const double gamma = max_logit[h] > tau ? tau / max_logit[h] : 1.0;
            const double largest = latent_logits(&p, h, x, latent, key, after);
            for (int i = 0; i < TIME * TIME; i++)
                CHECK_MSG(fabs(after[i] - gamma * before[h][i]) <= 2e-5, "alpha %g, head %d: %g not %g", alphas[t], h,
                          after[i], gamma * before[h][i]);
            CHECK_MSG(fabs(largest - fmin(tau, max_logit[h])) <= 2e-5 * tau, "%g, tau %g", largest, tau);
            const int q = h * (CONTENT + ROTARY) * WIDTH, k = h * (CONTENT + VALUE) * LATENT;
            const int rotary = q + CONTENT * WIDTH, value = k + CONTENT * LATENT;
            CHECK(fabs(p.wq[q] - old.wq[q] * pow(gamma, alphas[t])) <= 2e-6);
            CHECK(fabs(p.wk[k] - old.wk[k] * pow(gamma, 1 - alphas[t])) <= 2e-6);
            CHECK(fabs(p.wq[rotary] - old.wq[rotary] * gamma) <= 2e-6);
            CHECK(memcmp(p.wk + value, old.wk + value, VALUE * LATENT * sizeof(float)) == 0);
            if (gamma == 1.0) CHECK(memcmp(p.wq + q, old.wq + q, (CONTENT + ROTARY) * WIDTH * sizeof(float)) == 0);
            if (gamma == 1.0) CHECK(memcmp(p.wk + k, old.wk + k, CONTENT * LATENT * sizeof(float)) == 0);
        }
    }
}

// With one of the sizes another one.
static int clip_latent(Latent *p, int shape, int value, const float *max_logit, double tau, double alpha,
                       int *clipped) {
    int shapes[6] = { WIDTH, LATENT, CONTENT + VALUE, HEADS, CONTENT, ROTARY };
    if (shape >= 0) shapes[shape] = value;
    return muon_qk_clip_mla(p->wq, shapes[0], p->wk, shapes[1], shapes[2], shapes[3], shapes[4], shapes[5], max_logit,
                            tau, alpha, clipped);
}

TEST(qk_clip_of_latent_attention_edges) {
    Latent p, old;
    const float quiet[HEADS] = { -300.0f, -INFINITY, 0.0f, 100.0f }, loud[HEADS] = { 200.0f, 1.0f, 400.0f, 100.0f };
    int clipped;
    fill_normal(p.wq, COUNT_OF(p.wq), 450);
    fill_normal(p.wk, COUNT_OF(p.wk), 451);
    old = p;
    CHECK(clip_latent(&p, -1, 0, quiet, 100.0, 0.5, &clipped) == MUON_OK && clipped == 0);
    CHECK(clip_latent(&p, -1, 0, loud, 0.0, 0.5, &clipped) == MUON_OK && clipped == 0);   // off
    for (int t = 0; t < 2; t++) {
        const float bad[HEADS] = { 200.0f, 300.0f, 1.0f, t ? INFINITY : NAN };
        CHECK(clip_latent(&p, -1, 0, bad, 100.0, 0.5, &clipped) == MUON_E_LOGIT && clipped == 0);
    }
    for (int i = 0; i < 5; i++) CHECK(clip_latent(&p, i, 0, loud, 100.0, 0.5, &clipped) == MUON_E_ARGUMENT);
    CHECK(clip_latent(&p, 2, CONTENT - 1, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(clip_latent(&p, 5, -1, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(clip_latent(&p, -1, 0, NULL, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(clip_latent(&p, -1, 0, loud, NAN, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(clip_latent(&p, -1, 0, loud, 100.0, -0.1, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip_mla(NULL, 1, p.wk, 1, 1, 1, 1, 0, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(muon_qk_clip_mla(p.wq, 1, NULL, 1, 1, 1, 1, 0, loud, 100.0, 0.5, NULL) == MUON_E_ARGUMENT);
    CHECK(memcmp(&p, &old, sizeof p) == 0);
    CHECK(clip_latent(&p, 5, 0, loud, 100.0, 0.5, NULL) == MUON_OK);   // no rotary part: the content's alone
    CHECK(memcmp(&p, &old, sizeof p) != 0);
}

#ifdef TEST_HOOKS
// Every hook is called, and muon_flops is what the products of one step cost.
TEST(hooks_are_called) {
    const int shapes[][2] = { { 16, 48 }, { 48, 16 }, { 20, 20 } };
    symmetric_products = exact_products = loops = 0;
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++)
        for (size_t t = 0; t < COUNT_OF(shapes); t++) {
            float w[48 * 20], g[48 * 20];
            fill_normal(w, COUNT_OF(w), 95);
            fill_normal(g, COUNT_OF(g), 96);
            MuonOptions options = muon_default_options();
            options.ns_steps = 1 + (int)t * 3;
            MuonParam p = matrix_param(w, g, shapes[t][0], shapes[t][1], rule, 0.1, 0.1);
            Optimizer o = optimizer(&p, 1, &options);
            hook_flops = 0;
            CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
            const double expected = muon_flops(rule, p.rows, p.cols, options.ns_steps);
            CHECK_MSG((double)hook_flops == expected, "%s, %d x %d: %lld FLOPs, muon_flops: %.0f", muon_rule_name(rule),
                      p.rows, p.cols, hook_flops, expected);
            release(&o);
        }
    CHECK(symmetric_products > 0 && exact_products > 0 && loops > 0);
}

// Of every coefficient set, whole and in blocks: muon_param_flops is what the products of a step cost, each block goes
// through them once, and the cubics form no square of the Gram matrix.
TEST(products_of_sets_and_blocks) {
    const int shapes[][2] = { { 16, 48 }, { 48, 16 }, { 16, 16 } };
    for (size_t t = 0; t < COUNT_OF(shapes) * MUON_COEFF_COUNT * 2; t++) {
        const int *shape = shapes[t / 2 % COUNT_OF(shapes)], blocks = t % 2 ? 2 : 1;
        float w[48 * 16] = { 0 }, g[48 * 16];
        fill_normal(g, COUNT_OF(g), 99);
        MuonOptions options = muon_default_options();
        options.coefficients = muon_coefficients((int)(t / 2 / COUNT_OF(shapes)));
        MuonParam p = { "w", w, g, 1, shape[0], shape[1], 0, MUON_RULE_MUON, 0.1, 0.1, NULL, { blocks > 1 ? shape[0] / 2 : 0 } };
        Optimizer o = optimizer(&p, 1, &options);
        hook_flops = symmetric_products = 0;
        CHECK(step_of(&o, 1.0, 1.0) == MUON_OK);
        CHECK_MSG((double)hook_flops == muon_param_flops(&p, &options), "%s, %d x %d in %d: %lld FLOPs, muon_param_flops: %.0f",
                  options.coefficients->name, p.rows, p.cols, blocks, hook_flops, muon_param_flops(&p, &options));
        const double quintics = blocks * muon_flops(MUON_RULE_MUON, p.rows / blocks, p.cols, options.coefficients->steps);
        const bool cubic = options.coefficients->abc[0][2] == 0.0;
        CHECK(cubic ? (double)hook_flops < quintics : (double)hook_flops == quintics);
        if (cubic && shape[0] == shape[1] && blocks == 1) CHECK((double)hook_flops == 0.75 * quintics);
        if (!cubic && shape[0] == shape[1] && blocks == 1) CHECK(symmetric_products == 2 * options.coefficients->steps);
        release(&o);
    }
}

// MUON_GEMM is called from several threads at once, as the head of muon.h warns: each of two small matrices waits in its
// first product for the other's.
TEST(products_at_once) {
    float w[2 * 12 * 16], g[2 * 12 * 16];
    fill_normal(w, COUNT_OF(w), 97);
    fill_normal(g, COUNT_OF(g), 98);
    MuonOptions options = muon_default_options();
    MuonParam p = { "w", w, g, 2, 12, 16, 12 * 16, MUON_RULE_MUON, 0.1, 0.1, NULL, { 0 } };
    Optimizer o = optimizer(&p, 1, &options);
    o.scratch = xrealloc(o.scratch, 2 * muon_scratch_bytes(&p, 1, &options));
    awaited = 2;
    CHECK(muon_step(&o.m, 1.0, 1.0, o.scratch, 2) == MUON_OK);
    CHECK_MSG(awaited == 0, "%d more products awaited", awaited);
    awaited = 0;
    release(&o);
}
#else

// ---------------------------------------------------------------------------------------------------------------------
// As a library: the example at the head, two users in one program, C and C++

// Commands run in a folder under build/test; $gnu, $cc (C99) and $cxx are the compilers; cxx is empty without one.
#define COMPILERS \
    "gnu=\"${CC:-cc} -std=gnu11 -Wall -Wextra -Wshadow -Werror -O2 -fno-math-errno\"; " \
    "flags='-pedantic -Wall -Wextra -Wshadow -Werror -O2 -I../../..'; cc=\"${CC:-cc} -std=c99 $flags\"; " \
    "cxx=\"${CXX:-$(command -v c++ || command -v g++ || command -v clang++)}\"; " \
    "if [ -n \"$cxx\" ]; then cxx=\"$cxx -std=c++17 $flags\"; fi; "

static bool shell(const char *folder, const char *command) {
    char *line = format(COMPILERS "cd build/test/%s && { %s; }", folder, command);
    fflush(stdout);
    int status = system(line);
    CHECK_MSG(status == 0, "in build/test/%s: %s", folder, command);
    free(line);
    return status == 0;
}

static bool have_cxx(void) {
    bool have = system(COMPILERS "test -n \"$cxx\"") == 0;
    if (!have) puts("     no C++ compiler: that part is skipped");
    return have;
}

// The example prints a falling loss: the first is large, the last below a thousandth of it.
static void check_example(const char *path) {
    char *text = read_file(path, NULL), *last = NULL;
    if (!text) fail("%s: %s", path, strerror(errno));
    int lines = 0;
    double first = 0.0, loss = 0.0;
    for (char *line = strtok_r(text, "\n", &last); line; line = strtok_r(NULL, "\n", &last)) {
        int step = -1;
        CHECK_MSG(sscanf(line, "step %d loss %lf", &step, &loss) == 2, "unexpected line: %s", line);
        if (lines++ == 0) first = loss;
    }
    CHECK_MSG(lines >= 5 && first > 1.0 && loss < 1e-3 * first, "%d lines, loss from %g to %g", lines, first, loss);
    free(text);
}

// Cuts the program `name` out of muon.h's head into build/test/muon.
static bool cut_from_the_head(const char *name) {
    free(test_folder("muon"));
    char *command = format("sed -n '/^--- %s begins ---$/,/^--- %s ends ---$/p' ../../../muon.h | sed '1d;$d' > %s && test -s %s",
                           name, name, name, name);
    bool cut = shell("muon", command);
    free(command);
    return cut;
}

// Three steps by the textbook's code in the head and by the library, from the same numbers: the same weights and
// momentum but for rounding, of which the update's is the larger; then both clips of one head.
static const char textbook[] =
    "#define MUON_IMPLEMENTATION\n"
    "#include \"muon.h\"\n"
    "#include \"step.c\"\n"
    "#include <stdio.h>\n"
    "static float W[R][C], w[R][C], G[R][C], M[R][C], K[R][C], k[R][C];\n"
    "static char memory[1 << 16], scratch[1 << 16];\n"
    "static double difference(const float *x, const float *y) {\n"
    "    double d = 0, squares = 0;\n"
    "    EACH(i, R * C) d += (x[i] - y[i]) * (x[i] - y[i]), squares += y[i] * y[i];\n"
    "    return sqrt(d / squares);\n"
    "}\n"
    "int main(void) {\n"
    "    MuonOptions options = muon_default_options();\n"
    "    MuonParam p = { \"W\", w[0], G[0], 1, R, C, 0, MUON_RULE_MUON, 0.05, 0.1, NULL, { 0 } };\n"
    "    Muon m;\n"
    "    size_t n;\n"
    "    EACH(i, R) EACH(j, C) W[i][j] = w[i][j] = sinf((float)(7 * i + 3 * j)), K[i][j] = k[i][j] = cosf((float)(i + 9 * j));\n"
    "    if (sizeof memory < muon_state_bytes(&p, 1, &options) || sizeof scratch < muon_scratch_bytes(&p, 1, &options)) return 1;\n"
    "    if (muon_init(&m, &p, 1, &options, memory) != MUON_OK) return 2;\n"
    "    EACH(step, 3) {\n"
    "        EACH(i, R) EACH(j, C) G[i][j] = sinf((float)(i * j + step)) / (float)(1 + j);\n"
    "        muonclip_step(W, G, M, 0.05f, 0.1f);\n"
    "        if (muon_step(&m, 1.0, 1.0, scratch, 1) != MUON_OK) return 3;\n"
    "    }\n"
    "    const double weights = difference(W[0], w[0]), momentum = difference(M[0], muon_state(&m, 0, MUON_SLOT_MOMENTUM, &n));\n"
    "    const float largest[2] = { 150.0f, 50.0f };\n"
    "    EACH(clip, 2) {\n"
    "        qk_clip(W, K, largest[clip], 100.0f);\n"
    "        if (muon_qk_clip(w[0], NULL, k[0], NULL, 1, 1, R, C, &largest[clip], 100.0, 0.5, NULL) != MUON_OK) return 4;\n"
    "    }\n"
    "    printf(\"%g %g %g %g\\n\", weights, momentum, difference(W[0], w[0]), difference(K[0], k[0]));\n"
    "    return 0;\n"
    "}\n";

TEST(textbook_step_at_the_head) {
    if (!cut_from_the_head("step.c")) return;
    if (write_file("build/test/muon/textbook.c", textbook, sizeof textbook - 1) != 0) fail("textbook.c: %s", strerror(errno));
    if (!shell("muon", "$cc -c step.c -o step.o && $cc textbook.c -o textbook -lm && ./textbook > textbook.txt")) return;
    char *text = read_file("build/test/muon/textbook.txt", NULL);
    double weights = NAN, momentum = NAN, query = NAN, key = NAN;
    CHECK_MSG(text && sscanf(text, "%lf %lf %lf %lf", &weights, &momentum, &query, &key) == 4, "printed: %s", text);
    CHECK_MSG(weights < 1e-6 && momentum < 1e-6 && query < 1e-6 && key < 1e-6, "relative differences: %s", text);
    free(text);
}

TEST(example_at_the_head) {
    if (!cut_from_the_head("example.c")) return;
    if (shell("muon", "$cc example.c -o example -lm && ./example > example.txt"))
        check_example("build/test/muon/example.txt");
    if (have_cxx() && shell("muon", "cp example.c twin.cc && $cxx twin.cc -o twin && ./twin > twin.txt"))
        check_example("build/test/muon/twin.txt");
}

// One file with the implementation and a MUON_GEMM of its own, one that only uses it; in C, and from C++. What they
// call is run: a hook that isn't called, or two definitions of one function, fail here.
static const char owner[] =
    "static void product(int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,\n"
    "                    const float *b, int ldb, float beta, float *c, int ldc);\n"
    "#define MUON_GEMM product\n"
    "#define MUON_IMPLEMENTATION\n"
    "#include \"muon.h\"\n"
    "static int products;\n"
    "static void product(int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,\n"
    "                    const float *b, int ldb, float beta, float *c, int ldc) {\n"
    "    products++;\n"
    "    for (int i = 0; i < m; i++)\n"
    "        for (int j = 0; j < n; j++) {\n"
    "            float sum = 0.0f;\n"
    "            for (int l = 0; l < k; l++)\n"
    "                sum += a[trans_a ? l * lda + i : i * lda + l] * b[trans_b ? j * ldb + l : l * ldb + j];\n"
    "            c[i * ldc + j] = alpha * sum + (beta == 0.0f ? 0.0f : beta * c[i * ldc + j]);\n"
    "        }\n"
    "}\n"
    "#ifdef __cplusplus\n"
    "extern \"C\"\n"
    "#endif\n"
    "int count_products(void);\n"
    "int count_products(void) { return products; }\n";
static const char alone[] =
    "#define MUON_STATIC\n"
    "#define MUON_IMPLEMENTATION\n"
    "#include \"muon.h\"\n"
    "int main(void) { return muon_qk_gamma(4.0, 2.0) != 0.5; }\n";
static const char user[] =
    "#include \"muon.h\"\n"
    "#include <math.h>\n"
    "#include <stdio.h>\n"
    "#ifdef __cplusplus\n"
    "extern \"C\"\n"
    "#endif\n"
    "int count_products(void);\n"
    "int main(void) {\n"
    "    float w[6] = { 0 }, g[6] = { 3, 0, 0, 0, 4, 0 }, state[6];\n"
    "    double scratch[32];\n"
    "    float q[1] = { 2 }, k[1] = { 1 }, logit[1] = { 2 };\n"
    "    MuonParam p[1] = { { \"w\", w, g, 1, 2, 3, 0, MUON_RULE_MUON, 1.0, 0.0, NULL, { 0 } } };\n"
    "    MuonOptions o = muon_default_options();\n"
    "    Muon m;\n"
    "    size_t n;\n"
    "    o.scale = MUON_SCALE_NONE;\n"
    "    if (muon_state_bytes(p, 1, &o) != sizeof state || muon_scratch_bytes(p, 1, &o) > sizeof scratch) return 1;\n"
    "    if (muon_init(&m, p, 1, &o, state) || muon_step(&m, 1.0, 1.0, scratch, 1)) return 2;\n"
    "    if (fabs(w[0] + muon_phi(o.coefficients, 5, 0.6)) > 1e-5) return 3;\n"
    "    if (fabs(w[4] + muon_phi(o.coefficients, 5, 0.8)) > 1e-5) return 3;\n"
    "    if (count_products() != 18) return 4;\n"
    "    if (muon_begin_step(&m, 1.0, 1.0) || muon_step_one(&m, 0, 0, scratch) || m.t != 2) return 5;\n"
    "    if (muon_grad_norm(&m) != 5.0 || !muon_state(&m, 0, MUON_SLOT_MOMENTUM, &n) || n != 6) return 6;\n"
    "    if (muon_orthogonalize(w, 3, 2, muon_coefficients(MUON_COEFF_KELLER), 5, scratch)) return 7;\n"
    "    if (muon_orthogonalize_bytes(3, 2) > sizeof scratch || muon_qk_gamma(4.0, 2.0) != 0.5) return 8;\n"
    "    if (muon_qk_clip(q, NULL, k, NULL, 1, 1, 1, 1, logit, 1.0, 1.0, NULL) || q[0] != 1.0f) return 9;\n"
    "    if (muon_qk_clip_mla(q, 1, k, 1, 1, 1, 1, 0, logit, 1.0, 1.0, NULL) || q[0] != 0.5f) return 10;\n"
    "    if (muon_step(&m, 1.0, 1.0, scratch, 1) || muon_step_all(&m, scratch, 1)) return 11;\n"
    "    if (muon_svd_power_bytes(2, 3) > sizeof scratch || muon_svd_power(w, 2, 3, 1.0, scratch)) return 12;\n"
    "    if (muon_spectral_power_bytes(2, 3) > sizeof scratch) return 13;\n"
    "    if (muon_spectral_power(w, 2, 3, 0.5, scratch) || !(muon_flops(MUON_RULE_MUON, 2, 3, 5) > 0.0)) return 14;\n"
    "    return muon_rule_name(99) || muon_scale_name(9) || muon_scale(0, 1, 1) != 1.0 || !muon_strerror(0)[0];\n"
    "}\n";

TEST(two_users_link) {
    char *folder = test_folder("muon_users");
    const char *const files[][2] = { { "owner.c", owner }, { "user.c", user }, { "static.c", alone } };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char *path = format("%s/%s", folder, files[i][0]);
        if (write_file(path, files[i][1], strlen(files[i][1])) != 0) fail("%s: %s", path, strerror(errno));
        free(path);
    }
    free(folder);
    shell("muon_users", "$cc -c owner.c && $cc -c user.c && $cc owner.o user.o -o c_c -lm && ./c_c");
    shell("muon_users", "$cc static.c -o static_c -lm && ./static_c");
    if (!have_cxx()) return;
    shell("muon_users", "for f in owner user static; do cp $f.c $f.cc && $cxx -c $f.cc -o $f++.o || exit 1; done");
    shell("muon_users", "$cxx owner++.o user++.o -o cc_cc && ./cc_cc && $cxx static++.o -o static_cc && ./static_cc");
    shell("muon_users", "$cxx owner.o user++.o -o c_cc && ./c_cc");
}

// This file once more: with hooks of its own, whose every test must pass; and with and without OpenMP, the same bits.
TEST(hooks) {
    free(test_folder("muon_hooks"));
    shell("muon_hooks", "f=../../../dev/test/test_muon.c; $gnu -pthread -DTEST_HOOKS $f -o hooks -lm && "
                        "{ ./hooks > hooks.txt || { grep -v ^ok hooks.txt; false; }; }");
    shell("muon_hooks", "f=../../../dev/test/test_muon.c; $gnu $f -o loop -lm && "
                        "./loop large_tensors | grep bits > loop.txt");
    if (system(COMPILERS "echo 'int main(void) { return 0; }' | $gnu -fopenmp -x c - -o /dev/null 2>/dev/null") != 0)
        return;
    shell("muon_hooks", "f=../../../dev/test/test_muon.c; $gnu -fopenmp $f -o openmp -lm && "
                        "./openmp large_tensors | grep bits > openmp.txt && cmp loop.txt openmp.txt");
}

// The rate of a schedule that falls to zero, as -Ofast with FMA computes it: a last factor of -2e-17 is zero.
TEST(a_factor_of_zero_may_be_rounded) {
    MuonOptions o = muon_default_options();
    float w[1] = { 1.0f }, g[1] = { 0.5f }, state[2];
    MuonParam p = { "w", w, g, 1, 1, 1, 0, MUON_RULE_ADAMW, 0.01, 0.1, NULL, { 0 } };
    int negative = 0;
    for (int steps = 1; steps <= 1000; steps++) {
        Muon m;
        double factor = fma(-(double)steps, 1.0 / steps, 1.0);
        negative += factor < 0;
        CHECK(muon_init(&m, &p, 1, &o, state) == MUON_OK);
        CHECK_MSG(muon_step(&m, factor, 1.0, NULL, 1) == MUON_OK && m.t == 1, "%d steps: factor %g", steps, factor);
        CHECK(factor > 0 || (w[0] == 1.0f && m.lr_factor == 0.0));
        w[0] = 1.0f;
    }
    CHECK(negative > 10);
}

TEST(a_polynomials_norm_is_finite) {
    float x[4] = { 1, 2, 3, 4 }, kept[4] = { 1, 2, 3, 4 }, scratch[64];
    const double bad[] = { INFINITY, NAN, 1e300, 0.0, -1.0, 1e-60 };
    for (int i = 0; i < 6; i++) {
        MuonCoefficients c = *muon_coefficients(MUON_COEFF_KELLER);
        c.norm = bad[i];
        CHECK_MSG(muon_orthogonalize(x, 2, 2, &c, 5, scratch) == MUON_E_ARGUMENT, "norm %g", bad[i]);
        CHECK(memcmp(x, kept, sizeof x) == 0);
    }
}

// NaN and infinity are found in programs built with -ffast-math too, where isnan(x) is constant: fast_math.c.
TEST(fast_math) {
    free(test_folder("muon_fast_math"));
    shell("muon_fast_math", "cp ../../../dev/test/fast_math.c . && cp fast_math.c fast_math.cc");
    shell("muon_fast_math", "for c in gcc clang; do command -v $c > /dev/null || continue; "
                            "$c -std=c99 $flags -Ofast -ffast-math fast_math.c -o fast_math -lm && ./fast_math "
                            "|| exit 1; done");
    if (have_cxx()) shell("muon_fast_math", "$cxx -Ofast -ffast-math fast_math.cc -o twin && ./twin");
}

// The second example: NaN left out, a falling loss, and an accuracy far above the guess of one in three.
static void check_mlp(const char *path) {
    char *text = read_file(path, NULL);
    if (!text) fail("%s: %s", path, strerror(errno));
    double first = 0.0, loss = 0.0, accuracy = 0.0;
    for (char *line = strstr(text, "  loss "); line; line = strstr(line + 1, "  loss ")) {
        sscanf(line, "  loss %lf", &loss);
        if (first == 0.0) first = loss;
    }
    const char *result = strstr(text, "\nmuon: ");
    CHECK(strstr(text, "left out") && result && sscanf(result, "\nmuon: %lf", &accuracy) == 1);
    CHECK_MSG(accuracy > 97.0 && loss < 0.5 * first, "accuracy %g %%, loss from %g to %g", accuracy, first, loss);
    free(text);
}

TEST(mlp_example) {
    free(test_folder("muon_mlp"));
    if (shell("muon_mlp", "$cc ../../../dev/mlp.c -o mlp -lm && ./mlp > mlp.txt"))
        check_mlp("build/test/muon_mlp/mlp.txt");
    shell("muon_mlp", "./mlp normuon | grep -q '^normuon: ' && ./mlp sgd 0.1 | grep -q '^sgd: ' && ! ./mlp x > x.txt");
    if (!have_cxx()) return;
    if (shell("muon_mlp", "cp ../../../dev/mlp.c mlp.cc && $cxx mlp.cc -o twin && ./twin > twin.txt"))
        check_mlp("build/test/muon_mlp/twin.txt");
}
#endif // TEST_HOOKS

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    RUN(scalar_map_of_keller);
    RUN(coefficient_sets_are_as_stated);
    RUN(diagonal_matrices);
    RUN(own_coefficients);
    RUN(gemm_against_triple_loop);
    RUN(singular_values_of_an_update);
    RUN(orientations_and_thin_matrices);
    RUN(divergence_is_reported);
    RUN(rank_deficient);
    RUN(scale_of_the_gradient_does_not_matter);
    RUN(gradients_of_every_size);
    RUN(steps_beyond_a_float);
    RUN(degenerate_gradients);
    RUN(elementwise_rules_against_double);
    RUN(muon_against_double);
    RUN(counts_strides_and_order);
    RUN(large_tensors_and_threads);
    RUN(options_of_a_tensor);
    RUN(accumulate_against_averages);
    RUN(cautious_decay);
    RUN(blocks_are_matrices_of_their_own);
    RUN(one_heads_gradient_holds_no_other_down);
    RUN(blocks_that_cannot_be);
    RUN(state_slots);
    RUN(resume);
    RUN(zero_gradient_only_decays);
    RUN(bad_gradients_change_nothing);
    RUN(arguments);
    RUN(refused_steps_do_not_count);
    RUN(states_that_lie_apart);
    RUN(names_and_scales);
    RUN(rules_use_the_options_they_say);
    RUN(qk_gamma);
    RUN(qk_clip_scales_logits_by_gamma);
    RUN(qk_clip_edges);
    RUN(qk_clip_of_latent_attention);
    RUN(qk_clip_of_latent_attention_edges);
#ifdef TEST_HOOKS
    RUN(hooks_are_called);
    RUN(products_of_sets_and_blocks);
    RUN(products_at_once);
#else
    RUN(a_factor_of_zero_may_be_rounded);
    RUN(a_polynomials_norm_is_finite);
    if (SANITIZED) return tests_end();                   // the rest compiles programs, with flags of its own
    RUN(textbook_step_at_the_head);
    RUN(example_at_the_head);
    RUN(mlp_example);
    RUN(two_users_link);
    RUN(fast_math);
    RUN(hooks);
#endif
    return tests_end();
}

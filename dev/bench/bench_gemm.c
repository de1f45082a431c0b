/* bench_gemm.c - GFLOP/s of src/gemm.h per shape and instruction set, beside the peak of multiply-adds in registers.
 *
 * Usage: OMP_NUM_THREADS=1 build/bench_gemm [instruction set ...] [-q]     (-q: fewer repeats)
 * Each figure is the median and the best of the repeats; the share is the median's of the peak, which is measured anew
 * before each instruction set's table.
 */
#define _GNU_SOURCE
#include "../../src/gemm.h"
#include "../../src/util.h"

static int threads_used(void) {
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 1;
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Peaks: chains of multiply-adds that never leave the registers, from different values: the compiler would compute
// equal ones once. Each returns its floating-point operations.

enum { PEAK_STEPS = 1 << 21 };

static volatile float peak_sink;    // keeps the compiler from dropping the chains

static double peak_portable(void) {
    enum { CHAINS = 12 };
    GemmV4 sum[CHAINS], x = { 0.5f, 0.5f, 0.5f, 0.5f };
    for (int i = 0; i < CHAINS; i++) sum[i] = x * (float)i;
    for (int s = 0; s < PEAK_STEPS; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + x;
    }
    for (int i = 0; i < CHAINS; i++) peak_sink += sum[i][0];
    return 2.0 * 4 * CHAINS * PEAK_STEPS;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static double peak_avx2(void) {
    enum { CHAINS = 12 };
    __m256 sum[CHAINS], x = _mm256_set1_ps(0.5f);
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int s = 0; s < PEAK_STEPS; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], x, x);
    }
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) peak_sink += _mm256_cvtss_f32(sum[i]);
    return 2.0 * 8 * CHAINS * PEAK_STEPS;
}

__attribute__((target("avx512f"))) static double peak_avx512(void) {
    enum { CHAINS = 24 };
    __m512 sum[CHAINS], x = _mm512_set1_ps(0.5f);
    #pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int s = 0; s < PEAK_STEPS; s++) {
        #pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], x, x);
    }
    #pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) peak_sink += _mm512_cvtss_f32(sum[i]);
    return 2.0 * 16 * CHAINS * PEAK_STEPS;
}
#endif

static const struct { const char *isa; double (*run)(void); } peaks[] = {
#if defined(__x86_64__)
    { "avx512", peak_avx512 },
    { "avx2", peak_avx2 },
#endif
    { "portable", peak_portable },
};

// GFLOP/s of all threads together, the best of some repeats.
static double measure_peak(const char *isa) {
    double best = 0;
    for (size_t i = 0; i < COUNT_OF(peaks); i++) {
        for (int r = 0; r < 5 && strcmp(peaks[i].isa, isa) == 0; r++) {
            double flops = 0, start = seconds_now();
#if defined(_OPENMP)
            #pragma omp parallel reduction(+ : flops)
#endif
            flops += peaks[i].run();
            double rate = 1e-9 * flops / (seconds_now() - start);
            if (rate > best) best = rate;
        }
    }
    return best;
}

// ---------------------------------------------------------------------------------------------------------------------
// Shapes: the three products of a linear layer (BT x C times C x OC), squares, and attention's small ones

typedef struct { const char *what; bool trans_a, trans_b; int m, n, k; bool by_each_thread; } Shape;

static const Shape shapes[] = {
    { "square",      false, false,   384,   384,   384, false },
    { "square",      false, false,   768,   768,   768, false },
    { "square",      false, false,  1536,  1536,  1536, false },
    { "forward 128", false, true,    768,   384,   128, false },
    { "forward 128", false, true,   4096,   512,   128, false },
    { "dX 128",      false, false,   768,   128,   512, false },
    { "dX 128",      false, false,  4096,   128,   512, false },
    { "dW 128",      true,  false,   512,   128,   768, false },
    { "dW 128",      true,  false,   512,   128,  4096, false },
    { "forward 384", false, true,   4096,  1152,   384, false },
    { "forward 384", false, true,  16384,  1536,   384, false },
    { "dX 384",      false, false,  4096,   384,  1536, false },
    { "dW 384",      true,  false,   384,   384,  4096, false },
    { "dW 384",      true,  false,  1536,   384, 16384, false },
    { "forward 768", false, true,   1024,  3072,   768, false },
    { "dX 768",      false, false,  1024,   768,  3072, false },
    { "dW 768",      true,  false,  3072,   768,  1024, false },
    { "Q K' HS 32",  false, true,     64,    64,    32, true },
    { "P V  HS 32",  false, false,    64,    32,    64, true },
    { "Q K' HS 64",  false, true,     64,   256,    64, true },
    { "P V  HS 64",  false, false,    64,    64,   256, true },
    { "Q K' HS 64",  false, true,     64,  1024,    64, true },
    { "P V  HS 64",  false, false,    64,    64,  1024, true },
};

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float *random_floats(size_t n, uint64_t seed) {
    float *x = (float *)aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    if (!x) fail("out of memory: %zu floats asked for", n);
    for (size_t i = 0; i < n; i++) x[i] = uniform_of(hash64(seed, i)) - 0.5f;
    return x;
}

static void product(const Shape *s, const float *a, const float *b, float *c) {
    gemm(s->trans_a, s->trans_b, s->m, s->n, s->k, 1, a, (size_t)(s->trans_a ? s->m : s->k),
         b, (size_t)(s->trans_b ? s->k : s->n), 0, c, (size_t)s->n);
}

static void bench_shape(const Shape *s, int repeats, double peak) {
    enum { MOST = 64 };
    int copies = s->by_each_thread ? threads_used() : 1;
    size_t size_a = (size_t)s->m * s->k, size_b = (size_t)s->k * s->n, size_c = (size_t)s->m * s->n;
    float *a = random_floats(size_a, 1), *b = random_floats(size_b, 2), *c = random_floats(copies * size_c, 3);
    double flops = 2.0 * s->m * s->n * s->k;
    int calls = flops > 1e8 ? 1 : (int)(1e8 / flops);
    double rates[MOST];
    for (int r = -1; r < repeats; r++) {
        double start = seconds_now();
        if (s->by_each_thread) {
#if defined(_OPENMP)
            #pragma omp parallel for schedule(static, 1)
#endif
            for (int t = 0; t < copies; t++)
                for (int i = 0; i < calls; i++) product(s, a, b, c + (size_t)t * size_c);
        } else {
            for (int i = 0; i < calls; i++) product(s, a, b, c);
        }
        if (r >= 0) rates[r] = 1e-9 * flops * calls * copies / (seconds_now() - start);
    }
    qsort(rates, (size_t)repeats, sizeof *rates, compare_doubles);
    double median = rates[repeats / 2], best = rates[repeats - 1];
    printf("  %-12s %6d %6d %6d   %c%c %8.1f %8.1f %6.0f %%\n", s->what, s->m, s->n, s->k, s->trans_a ? 'T' : 'N',
           s->trans_b ? 'T' : 'N', median, best, 100 * median / peak);
    fflush(stdout);
    free(a);
    free(b);
    free(c);
}

int main(int argc, char **argv) {
    int repeats = 15, named = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-q") == 0) repeats = 5;
        else if (gemm_use(argv[i])) named++;
        else fail_usage("%s: unknown, or this CPU lacks it; expected -q or one of portable, avx2, avx512", argv[i]);
    }
    for (size_t p = 0; p < COUNT_OF(peaks); p++) {
        bool wanted = named == 0;
        for (int i = 1; i < argc; i++) wanted |= strcmp(argv[i], peaks[p].isa) == 0;
        if (!wanted || !gemm_use(peaks[p].isa)) continue;
        double peak = measure_peak(peaks[p].isa);
        printf("%s, threads: %d, peak in registers: %.1f GFLOP/s\n", gemm_isa(), threads_used(), peak);
        printf("  %-12s %6s %6s %6s   op %8s %8s %8s\n", "shape", "m", "n", "k", "median", "best", "of peak");
        for (size_t i = 0; i < COUNT_OF(shapes); i++) bench_shape(&shapes[i], repeats, peak);
        putchar('\n');
    }
    gemm_free();
    return 0;
}

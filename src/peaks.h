/* peaks.h - what this machine can do at most: multiply-adds that never leave the registers, and bytes from memory.
 *
 * defines: Peak, peaks, peak_find, peak_gflops, memory_floats, memory_read, memory_triad
 * Measured where they are asked for: in a profile (profile.h) and in the benchmark.
 *
 * Every figure is the best of its repeats, since whatever disturbs a peak makes it smaller.
 */
#ifndef PEAKS_H
#define PEAKS_H

#include "gemm.h"            // defines: GemmPrecision
#include "util.h"            // defines: fail, seconds_now, COUNT_OF

// ---------------------------------------------------------------------------------------------------------------------
// Chains of multiply-adds, sum = sum/2 + 1/2, each on an accumulator of its own and enough of them to hide the latency
// of one. They start from different values, and the compiler isn't told the factor: it would compute equal chains once,
// and one that stands at its limit not at all. Each function returns a number that depends on all its chains.

static volatile float peak_half = 0.5f;

static float peak_portable(long steps) {
    enum { CHAINS = 12 };
    typedef float Four __attribute__((vector_size(16)));
    float half = peak_half;
    Four sum[CHAINS], x = { half, half, half, half };
    for (int i = 0; i < CHAINS; i++) sum[i] = x * (float)i;
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + x;
    }
    float all = 0;
    for (int i = 0; i < CHAINS; i++) all += sum[i][0];
    return all;
}

#if defined(GEMM_X86)

__attribute__((target("avx2,fma"))) static float peak_avx2(long steps) {
    enum { CHAINS = 12 };
    __m256 sum[CHAINS], x = _mm256_set1_ps(peak_half);
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_set1_ps((float)i);
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], x, x);
    }
    float all = 0;
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) all += _mm256_cvtss_f32(sum[i]);
    return all;
}

__attribute__((target("avx512f"))) static float peak_avx512(long steps) {
    enum { CHAINS = 12 };
    __m512 sum[CHAINS], x = _mm512_set1_ps(peak_half);
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], x, x);
    }
    float all = 0;
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) all += _mm512_cvtss_f32(sum[i]);
    return all;
}

// VDPBF16PS: 16 sums, each of them plus two products of bf16.
__attribute__((target("avx512f,avx512bf16"))) static float peak_avx512_bf16(long steps) {
    enum { CHAINS = 12, HALF = 0x3f00, QUARTER = 0x3e80 };      // as bf16
    __m512 sum[CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi32(HALF << 16 | HALF), y = (__m512bh)_mm512_set1_epi32(QUARTER << 16 | HALF);
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, y);
    }
    float all = 0;
    #pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) all += _mm512_cvtss_f32(sum[i]);
    return all;
}

// TDPBF16PS: a tile of 16 x 16 sums plus the product of two tiles of bf16, 16 x 32 and 32 x 16. Tiles 0 to 3 sum up all
// pairs of tiles 4, 5 and 6, 7, as a kernel does. The process needs Linux's permission, which gemm_use("amx") asks for.
__attribute__((target("amx-tile,amx-bf16"))) static float peak_amx(long steps) {
    uint16_t operand[16 * 32] __attribute__((aligned(64)));
    float sums[16 * 16] __attribute__((aligned(64)));
    for (size_t i = 0; i < COUNT_OF(operand); i++) operand[i] = (uint16_t)(0x3f00 + i % 64);    // 0.5 and a bit more
    __asm__ volatile("" :: "r"(operand) : "memory");         // GCC's intrinsics don't say that they read it
    gemm_enter_amx();
    _tile_loadd(4, operand, 64);
    _tile_loadd(5, operand, 64);
    _tile_loadd(6, operand, 64);
    _tile_loadd(7, operand, 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long s = 0; s < steps; s++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    gemm_leave_amx();
    return sums[0];
}

#endif // GEMM_X86

#if defined(GEMM_ARM)

static float peak_neon(long steps) {
    enum { CHAINS = 16 };
    float32x4_t sum[CHAINS], x = vdupq_n_f32(peak_half);
    #pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = vdupq_n_f32((float)i);
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sum[i] = vfmaq_f32(x, sum[i], x);
    }
    float all = 0;
    #pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) all += vgetq_lane_f32(sum[i], 0);
    return all;
}

#if defined(GEMM_ARM_BF16)
// BFMMLA: 2 x 2 sums, each of them plus four products of bf16.
GEMM_ARM_BF16 static float peak_neon_bf16(long steps) {
    enum { CHAINS = 16, HALF = 0x3f00, QUARTER = 0x3e80 };      // as bf16
    float32x4_t sum[CHAINS];
    bfloat16x8_t x = vreinterpretq_bf16_u16(vdupq_n_u16(HALF)), y = vreinterpretq_bf16_u16(vdupq_n_u16(QUARTER));
    #pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = vdupq_n_f32((float)i);
    for (long s = 0; s < steps; s++) {
        #pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sum[i] = vbfmmlaq_f32(sum[i], x, y);
    }
    float all = 0;
    #pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) all += vgetq_lane_f32(sum[i], 0);
    return all;
}
#endif

#endif // GEMM_ARM

// The best first, as gemm.h has them. Of gemm.h's "amx" the fp32 kernel is AVX-512's.
typedef struct {
    const char *isa;
    GemmPrecision precision;
    const char *what;
    float (*run)(long steps);
    long steps;                 // 10 to 50 ms of work
    double flops;               // of a step
} Peak;

static const Peak peaks[] = {
#if defined(GEMM_X86)
    { "amx",      GEMM_BF16, "AMX tiles, bf16",   peak_amx,         1L << 18, 2.0 * 16 * 16 * 32 * 4 },
    { "avx512",   GEMM_BF16, "AVX-512, bf16",     peak_avx512_bf16, 1L << 22, 2.0 * 32 * 12 },
    { "avx512",   GEMM_FP32, "AVX-512, fp32",     peak_avx512,      1L << 22, 2.0 * 16 * 12 },
    { "avx2",     GEMM_FP32, "AVX2 + FMA, fp32",  peak_avx2,        1L << 22, 2.0 * 8 * 12 },
#endif
#if defined(GEMM_ARM_BF16)
    { "neon",     GEMM_BF16, "BFMMLA, bf16",      peak_neon_bf16,   1L << 22, 2.0 * 16 * 16 },
#endif
#if defined(GEMM_ARM)
    { "neon",     GEMM_FP32, "NEON, fp32",        peak_neon,        1L << 22, 2.0 * 4 * 16 },
#endif
    { "portable", GEMM_FP32, "portable C, fp32",  peak_portable,    1L << 22, 2.0 * 4 * 12 },
};

// The peak of an instruction set in the precision that its kernels compute in: fp32 where bf16 is only emulated.
static const Peak *peak_find(const char *isa, GemmPrecision precision) {
    if (precision == GEMM_FP32 && !strcmp(isa, "amx")) isa = "avx512";
    for (size_t i = 0; i < COUNT_OF(peaks); i++)
        if (!strcmp(peaks[i].isa, isa) && peaks[i].precision == precision) return &peaks[i];
    fail("%s: gemm.h computes with it, but no peak of it is known", isa);
}

static volatile float peak_sink;        // keeps the compiler from dropping the chains

#if defined(__SANITIZE_ADDRESS__)
enum { PEAK_REPEATS = 1 };      // a hundred times slower, and no peak
#else
enum { PEAK_REPEATS = 30 };     // half a second to a second: whatever disturbs one repeat should not last for all
#endif

// GFLOP/s of `threads` threads together.
static double peak_gflops(const Peak *peak, int threads) {
    double best = 0;
    for (int r = 0; r < PEAK_REPEATS; r++) {
        float sum = 0;
        double start = seconds_now();
        #pragma omp parallel num_threads(threads) reduction(+ : sum)
        sum += peak->run(peak->steps);
        best = fmax(best, 1e-9 * peak->flops * (double)peak->steps * threads / (seconds_now() - start));
        peak_sink = sum;
    }
    return best;
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory. Each thread works on its part of the arrays, which it also filled: on machines with several memories a page
// lies where it was first written.

enum { MEMORY_REPEATS = 8 };

static size_t memory_part(size_t n, int parts, int i) { return n / (size_t)parts * (size_t)i / 16 * 16; }

// n floats, a multiple of 16 times `threads`.
static float *memory_floats(size_t n, int threads) {
    float *x = (float *)aligned_alloc(64, n * sizeof *x);
    if (!x) fail("out of memory: %zu floats asked for", n);
    #pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (size_t i = memory_part(n, threads, t); i < memory_part(n, threads, t + 1); i++) x[i] = (float)(i & 7);
    return x;
}

// The sum of n floats, n a multiple of 16, in 8 chains of vectors: one alone would wait for its additions.
__attribute__((noinline)) static float memory_sum(const float *x, size_t n) {
    enum { CHAINS = 8 };
    typedef float Four __attribute__((vector_size(16), may_alias));
    Four sum[CHAINS] = { { 0 } };
    size_t i = 0;
    for (; i + 4 * CHAINS <= n; i += 4 * CHAINS) {
        #pragma GCC unroll 8
        for (int c = 0; c < CHAINS; c++) sum[c] += *(const Four *)(x + i + 4 * c);
    }
    for (; i < n; i += 4) sum[0] += *(const Four *)(x + i);
    float all = 0;
    for (int c = 0; c < CHAINS; c++) all += sum[c][0] + sum[c][1] + sum[c][2] + sum[c][3];
    return all;
}

// GB/s at which the threads together read n floats, `passes` times over: 4 bytes each.
static inline double memory_read(const float *x, size_t n, int passes, int threads) {
    double best = 0;
    for (int r = 0; r < MEMORY_REPEATS; r++) {
        float sum = 0;
        double start = seconds_now();
        #pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
        for (int t = 0; t < threads; t++) {
            size_t first = memory_part(n, threads, t), last = memory_part(n, threads, t + 1);
            for (int p = 0; p < passes; p++) {
                sum += memory_sum(x + first, last - first);
                __asm__ volatile("" ::: "memory");       // each pass reads anew
            }
        }
        best = fmax(best, 1e-9 * sizeof *x * (double)n * passes / (seconds_now() - start));
        peak_sink = sum;
    }
    return best;
}

// GB/s of a = b + s c over n floats (the triad of McCalpin's STREAM): 3 x 4 bytes each. The reading of a's lines before
// they are written, which most CPUs do, isn't counted.
static double memory_triad(float *restrict a, const float *restrict b, const float *restrict c, size_t n, int threads) {
    double best = 0;
    for (int r = 0; r < MEMORY_REPEATS; r++) {
        double start = seconds_now();
        #pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++)
            for (size_t i = memory_part(n, threads, t); i < memory_part(n, threads, t + 1); i++)
                a[i] = b[i] + 0.5f * c[i];
        best = fmax(best, 1e-9 * 3 * sizeof *a * (double)n / (seconds_now() - start));
        peak_sink = a[n / 2];
    }
    return best;
}

#endif // PEAKS_H

/* gemm.h - C = alpha * op(A) * op(B) + beta * C, fast on any CPU, in fp32 or bf16, the same bits for any number of
 * threads.
 *
 * defines: gemm                the product, on row-major matrices with row strides
 *          gemm_with           the same with B packed before, or with work on each finished piece of C (GemmExtras)
 *          gemm_pack_b         packs B once for many products
 *          gemm_symmetric      op(A) op(B)^T where that is symmetric: one triangle, mirrored
 *          gemm_in, gemm_symmetric_in   these two in a precision of their own
 *          gemm_reference      the product as a plain triple loop: the lesson, and the oracle of the tests
 *          gemm_isa            which instruction set is used: "portable", "avx2", "avx512", "amx" or "neon"
 *          gemm_vectors        the vector instructions that come with it
 *          gemm_use            choose another (as the environment variable GEMM_ISA does)
 *          gemm_use_precision  fp32 or bf16 for all products from now on; gemm_emulated: is that bf16 only emulated?
 *          gemm_free           give back the calling thread's scratch memory
 * C11, POSIX, intrinsics and (if compiled with it) OpenMP only; GCC 12 or clang. No other file is needed.
 *
 * How it works (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008; BLIS, 2015):
 *
 *   - The micro-kernel computes a tile of C, MR x NR, in registers: for each k, a column of A times a row of B.
 *   - It reads panels: A packed as [k][MR] and B as [k][NR], so that every load is at the next address. A panel at the
 *     edge is filled up with zeros, a tile at the edge is computed in a scratch tile whose live part is then copied:
 *     the edges need no kernel of their own, and an element of C comes from the same operations wherever it lies.
 *   - Where A's rows lie along k in memory, the fp32 kernels read MR of them in place: one number of each row at a time.
 *   - KC steps of k at a time, so that what a panel meets next stays in L1 and L2.
 *
 *                    NR                         a task: a block of rows (<= MC) of C, its A in L2, packed or in place,
 *          k       +---+---+---+                times columns whose B lies packed in L2 and L3
 *        +-----+   | B |   |   | KC
 *     MR |  A  |   +---+---+---+
 *        +-----+     +---+---+---+
 *        |     |  -> | C |   |   | MR           for each slab of B (some columns, some multiple of KC deep):
 *        +-----+     +---+---+---+                  all threads pack it together; barrier;
 *        |     |     |   |   |   |                  each takes task after task until none is left; barrier.
 *        +-----+     +---+---+---+
 *
 * Precision: A, B and C are fp32 in memory, sums always are. In bf16 packing rounds A and B to bfloat16 (nearest, ties
 * to even), two steps of k in one 32-bit word: half the panel, and instructions that multiply pairs (AVX512_BF16),
 * squares of fours (Arm's BFMMLA) or whole tiles of them (AMX). Elsewhere bf16 is emulated: rounded, then multiplied by
 * the fp32 kernel.
 *
 * Sums: for each block of KC steps an element of C gets one chain of multiply-adds in the order of k that starts at
 * zero (AMX: at C, where alpha and beta allow it); the blocks are added in order. KC is a constant and tasks split only
 * m and n: the bits depend on the kernel, but neither on the number of threads nor on the sizes of caches.
 */
#ifndef GEMM_H
#define GEMM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#define GEMM_X86
#include <cpuid.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#endif
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#define GEMM_ARM
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if !defined(__clang__) || __clang_major__ >= 16     // clang's intrinsics of bf16 before it need the flag for the whole program
#define GEMM_ARM_BF16 __attribute__((target("arch=armv8.2-a+bf16")))
#endif
#endif
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------------------------
// The lesson

/* C[m x n] = alpha * op(A)[m x k] * op(B)[k x n] + beta * C, one element after the other, summed in double.
 * Arguments as for gemm. */
static inline void gemm_reference(bool trans_a, bool trans_b, int m, int n, int k, float alpha, const float *a,
                                  size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    if (alpha == 0) k = 0;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int p = 0; p < k; p++) {
                double x = trans_a ? a[p * lda + i] : a[i * lda + p];
                double y = trans_b ? b[j * ldb + p] : b[p * ldb + j];
                sum += x * y;
            }
            float *out = &c[i * ldc + j];
            *out = (float)(alpha * sum + (beta == 0 ? 0 : (double)beta * *out));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Micro-kernels: C[MR x NR] = alpha * sum over p of a[p][MR] * b[p][NR] + beta * C, C not read where beta is 0.
// a and b are packed panels of 32-bit words (a float, or the bf16 of two successive k), b aligned to its kernel's
// vectors. The accumulators are a small array that lives in registers once the loops over it are unrolled; each is a
// chain of multiply-adds of its own, enough of them to hide the latency of one.
//
// An fp32 kernel is a body that finds a[p] of row i at a[i * row + p * step], and twice that: row 1 and step MR are a
// packed panel, row lda and step 1 the rows of A in place. The operations are the same, and so are the bits.

enum { GEMM_MR_MAX = 32, GEMM_NR_MAX = 32 };

// Steps of k a panel is deep: decides the order of summation, so it never adapts.
enum { GEMM_KC = 512 };

typedef void GemmKernel(int words, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc);
typedef void GemmKernelInPlace(int words, const float *a, size_t lda, const float *b, float alpha, float beta, float *c,
                               size_t ldc);

// Up to GEMM_FEW_ROWS rows of GEMM_FEW_COLUMNS columns of C, neither A nor B packed: both lie along k, b with the columns of
// op(B) as rows. The operations on an element are those of the other kernels, and so are its bits.
enum { GEMM_FEW_ROWS = 4, GEMM_FEW_COLUMNS = 8 };
typedef void GemmKernelRows(int rows, int depth, const float *a, size_t lda, const float *b, size_t ldb, float alpha,
                            float beta, float *c, size_t ldc);

// Four floats anywhere: SSE, NEON and the like, without naming one.
typedef float GemmV4 __attribute__((vector_size(16), aligned(4), may_alias));

__attribute__((always_inline))
static inline void gemm_body_portable(int words, const float *a, size_t row, size_t step, const float *b, float alpha,
                                      float beta, float *c, size_t ldc) {
    enum { MR = 6, NV = 2, NR = 4 * NV };
    GemmV4 sum[MR][NV] = { { { 0 } } };
    for (int p = 0; p < words; p++, a += step, b += NR) {
        GemmV4 b0 = *(const GemmV4 *)b, b1 = *(const GemmV4 *)(b + 4);
        #pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            float y = a[i * row];
            GemmV4 x = { y, y, y, y };
            sum[i][0] += x * b0;
            sum[i][1] += x * b1;
        }
    }
    #pragma GCC unroll 6
    for (int i = 0; i < MR; i++) {
        for (int j = 0; j < NV; j++) {
            GemmV4 *out = (GemmV4 *)(c + i * ldc + 4 * j), x = sum[i][j] * alpha;
            if (beta != 0) x += *out * beta;
            *out = x;
        }
    }
}

static void gemm_kernel_portable(int words, const float *a, const float *b, float alpha, float beta,
                                 float *c, size_t ldc) {
    gemm_body_portable(words, a, 1, 6, b, alpha, beta, c, ldc);
}
static void gemm_kernel_portable_in_place(int words, const float *a, size_t lda, const float *b, float alpha,
                                          float beta, float *c, size_t ldc) {
    gemm_body_portable(words, a, lda, 1, b, alpha, beta, c, ldc);
}

#if defined(GEMM_X86)

// Asks for a tile's lines of C, which come from memory while it is computed (dev/LOG.md). Always inlined: GCC 12 drops calls of a
// function that only prefetches, as if it had no effect (findings).
__attribute__((always_inline))
static inline void gemm_prefetch_tile(const float *c, size_t ldc, int rows, int columns) {
    for (int i = 0; i < rows; i++, c += ldc) {
        for (int j = 0; j < columns; j += 16) __builtin_prefetch(c + j, 1);
        __builtin_prefetch(c + columns - 1, 1);         // where no line begins at c
    }
}

// 12 accumulators of the 16 registers; two fused multiply-adds a cycle of latency 4 or 5 need 8 to 10.
__attribute__((target("avx2,fma"), always_inline))
static inline void gemm_body_avx2(int words, const float *a, size_t row, size_t step, const float *b, float alpha,
                                  float beta, float *c, size_t ldc) {
    enum { MR = 6, NV = 2, NR = 8 * NV };
    gemm_prefetch_tile(c, ldc, MR, NR);
    __m256 sum[MR][NV];
    #pragma GCC unroll 6
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    for (int p = 0; p < words; p++, a += step, b += NR) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        #pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            __m256 x = _mm256_broadcast_ss(a + i * row);
            sum[i][0] = _mm256_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm256_fmadd_ps(x, b1, sum[i][1]);
        }
    }
    #pragma GCC unroll 6
    for (int i = 0; i < MR; i++) {
        #pragma GCC unroll 2
        for (int j = 0; j < NV; j++) {
            float *out = c + i * ldc + 8 * j;
            __m256 x = _mm256_mul_ps(_mm256_set1_ps(alpha), sum[i][j]);
            if (beta != 0) x = _mm256_fmadd_ps(_mm256_set1_ps(beta), _mm256_loadu_ps(out), x);
            _mm256_storeu_ps(out, x);
        }
    }
}

__attribute__((target("avx2,fma")))
static void gemm_kernel_avx2(int words, const float *a, const float *b, float alpha, float beta,
                             float *c, size_t ldc) {
    gemm_body_avx2(words, a, 1, 6, b, alpha, beta, c, ldc);
}
__attribute__((target("avx2,fma")))
static void gemm_kernel_avx2_in_place(int words, const float *a, size_t lda, const float *b, float alpha, float beta,
                                      float *c, size_t ldc) {
    gemm_body_avx2(words, a, lda, 1, b, alpha, beta, c, ldc);
}

// Eight columns of op(B) that lie as rows of `b`, four steps of k: turned within the two halves of each register, b[p] are then
// those columns at step p.
__attribute__((target("avx2,fma"), always_inline))
static inline void gemm_turn_avx2(__m256 turned[4], const float *b, size_t ldb) {
    __m256 x[4];
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(b + i * ldb)), _mm_loadu_ps(b + (i + 4) * ldb), 1);
    __m256 low0 = _mm256_unpacklo_ps(x[0], x[1]), high0 = _mm256_unpackhi_ps(x[0], x[1]);
    __m256 low1 = _mm256_unpacklo_ps(x[2], x[3]), high1 = _mm256_unpackhi_ps(x[2], x[3]);
    turned[0] = _mm256_shuffle_ps(low0, low1, 0x44), turned[1] = _mm256_shuffle_ps(low0, low1, 0xEE);
    turned[2] = _mm256_shuffle_ps(high0, high1, 0x44), turned[3] = _mm256_shuffle_ps(high0, high1, 0xEE);
}

// A GemmKernelRows. Where rows are short, what fetches memory ahead of a stream, page by page and row by row, comes too late:
// then the next eight columns are asked for here.
__attribute__((target("avx2,fma"), always_inline))
static inline void gemm_rows_avx2(int rows, int depth, const float *a, size_t lda, const float *b, size_t ldb, float alpha,
                                  float beta, float *c, size_t ldc) {
    enum { SHORT = 512 };
    __m256 sum[4];
    for (int i = 0; i < rows; i++) sum[i] = _mm256_setzero_ps();
    const float *next = b + 8 * ldb;
    int p = 0;
    for (; p + 4 <= depth; p += 4, next += 32) {
        __m256 turned[4];
        gemm_turn_avx2(turned, b + p, ldb);
        if (ldb <= SHORT) {
            _mm_prefetch((const char *)next, _MM_HINT_T0);
            _mm_prefetch((const char *)(next + 16), _MM_HINT_T0);
        }
        #pragma GCC unroll 4
        for (int q = 0; q < 4; q++)
            for (int i = 0; i < rows; i++)
                sum[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(a + i * lda + p + q), turned[q], sum[i]);
    }
    for (; p < depth; p++) {
        const float *x = b + p;
        __m256 column = _mm256_setr_ps(x[0], x[ldb], x[2 * ldb], x[3 * ldb], x[4 * ldb], x[5 * ldb], x[6 * ldb], x[7 * ldb]);
        for (int i = 0; i < rows; i++) sum[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(a + i * lda + p), column, sum[i]);
    }
    for (int i = 0; i < rows; i++) {
        float *out = c + i * ldc;
        __m256 x = _mm256_mul_ps(_mm256_set1_ps(alpha), sum[i]);
        if (beta != 0) x = _mm256_fmadd_ps(_mm256_set1_ps(beta), _mm256_loadu_ps(out), x);
        _mm256_storeu_ps(out, x);
    }
}

__attribute__((target("avx2,fma")))
static void gemm_kernel_rows_avx2(int rows, int depth, const float *a, size_t lda, const float *b, size_t ldb, float alpha,
                                  float beta, float *c, size_t ldc) {
    if (rows == 1) gemm_rows_avx2(1, depth, a, lda, b, ldb, alpha, beta, c, ldc);
    else if (rows == 2) gemm_rows_avx2(2, depth, a, lda, b, ldb, alpha, beta, c, ldc);
    else if (rows == 3) gemm_rows_avx2(3, depth, a, lda, b, ldb, alpha, beta, c, ldc);
    else gemm_rows_avx2(4, depth, a, lda, b, ldb, alpha, beta, c, ldc);
}

// The end of a tile of 12 x 32: C = alpha * sum + beta * C.
__attribute__((target("avx512f"), always_inline))
static inline void gemm_store_avx512(__m512 sum[12][2], float alpha, float beta, float *c, size_t ldc) {
    #pragma GCC unroll 12
    for (int i = 0; i < 12; i++) {
        #pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            float *out = c + i * ldc + 16 * j;
            __m512 x = _mm512_mul_ps(_mm512_set1_ps(alpha), sum[i][j]);
            if (beta != 0) x = _mm512_fmadd_ps(_mm512_set1_ps(beta), _mm512_loadu_ps(out), x);
            _mm512_storeu_ps(out, x);
        }
    }
}

// 24 accumulators of the 32 registers: 12 rows divide the widths of most models, and two loads of B serve 24 products.
__attribute__((target("avx512f"), always_inline))
static inline void gemm_body_avx512(int words, const float *a, size_t row, size_t step, const float *b, float alpha,
                                    float beta, float *c, size_t ldc) {
    enum { MR = 12, NR = 32 };
    __m512 sum[MR][2];
    #pragma GCC unroll 12
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    // Three rows from each of four pointers: twelve addresses would take more registers than there are.
    const float *a3 = a + 3 * row, *a6 = a3 + 3 * row, *a9 = a6 + 3 * row;
    for (int p = 0; p < words; p++, a += step, a3 += step, a6 += step, a9 += step, b += NR) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        #pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            const float *from = i < 3 ? a : i < 6 ? a3 : i < 9 ? a6 : a9;
            __m512 x = _mm512_set1_ps(from[i % 3 * row]);
            sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
        }
    }
    gemm_store_avx512(sum, alpha, beta, c, ldc);
}

__attribute__((target("avx512f")))
static void gemm_kernel_avx512(int words, const float *a, const float *b, float alpha, float beta,
                               float *c, size_t ldc) {
    gemm_body_avx512(words, a, 1, 12, b, alpha, beta, c, ldc);
}
__attribute__((target("avx512f")))
static void gemm_kernel_avx512_in_place(int words, const float *a, size_t lda, const float *b, float alpha, float beta,
                                        float *c, size_t ldc) {
    gemm_body_avx512(words, a, lda, 1, b, alpha, beta, c, ldc);
}

// The same tile on pairs of bf16: VDPBF16PS adds both products of a word to the sum.
__attribute__((target("avx512f,avx512bf16")))
static void gemm_kernel_avx512_bf16(int words, const float *a, const float *b, float alpha, float beta,
                                    float *c, size_t ldc) {
    enum { MR = 12, NR = 32 };
    __m512 sum[MR][2];
    #pragma GCC unroll 12
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int p = 0; p < words; p++, a += MR, b += NR) {
        __m512bh b0 = (__m512bh)_mm512_load_ps(b), b1 = (__m512bh)_mm512_load_ps(b + 16);
        #pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            __m512bh x = (__m512bh)_mm512_set1_ps(a[i]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
    }
    gemm_store_avx512(sum, alpha, beta, c, ldc);
}

// AMX: eight registers, each a tile of 16 rows x 64 bytes. Four hold a tile of C of 32 x 32, two a block of A, 32 rows
// x 32 steps of k, two a block of B, 16 words x 32 columns: four loads serve four products. Panels: a [block][32][16],
// b [block * 16][32] words. (Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3.)

typedef struct {            // what LDTILECFG reads, 64 bytes
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} GemmTileConfig;

static const GemmTileConfig gemm_tile_config = {
    .palette = 1, .bytes_per_row = { 64, 64, 64, 64, 64, 64, 64, 64 }, .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

// Around the work of each thread: the configuration belongs to a thread, and released tiles cost no context switch.
__attribute__((target("amx-tile"))) static void gemm_enter_amx(void) { _tile_loadconfig(&gemm_tile_config); }
__attribute__((target("amx-tile"))) static void gemm_leave_amx(void) { _tile_release(); }

// The sum goes on from C where that is all there is to do, else C is put together from a scratch tile.
__attribute__((target("avx512f,amx-tile,amx-bf16")))
static void gemm_kernel_amx(int words, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    enum { MR = 32, NR = 32, ROWS = 16, WORDS = 16, ROW_BYTES = 64 };
    _Alignas(64) float tile[MR * NR];
    bool in_place = alpha == 1 && (beta == 0 || beta == 1);
    float *sum = in_place ? c : tile;
    size_t ld = in_place ? ldc : NR, bytes = ld * sizeof(float);
    if (in_place && beta == 1) {
        _tile_loadd(0, c, bytes);
        _tile_loadd(1, c + 16, bytes);
        _tile_loadd(2, c + ROWS * ldc, bytes);
        _tile_loadd(3, c + ROWS * ldc + 16, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int w = 0; w < words; w += WORDS, a += MR * WORDS, b += WORDS * NR) {
        _tile_loadd(4, a, ROW_BYTES);
        _tile_loadd(6, b, NR * sizeof(float));
        _tile_loadd(7, b + 16, NR * sizeof(float));
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + ROWS * WORDS, ROW_BYTES);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sum, bytes);
    _tile_stored(1, sum + 16, bytes);
    _tile_stored(2, sum + ROWS * ld, bytes);
    _tile_stored(3, sum + ROWS * ld + 16, bytes);
    if (in_place) return;
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < NR; j++) {
            float *out = &c[i * ldc + j];
            *out = alpha * tile[i * NR + j] + (beta == 0 ? 0 : beta * *out);
        }
}

static inline bool gemm_cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static inline bool gemm_cpu_has_avx512(void) { return __builtin_cpu_supports("avx512f"); }
static inline bool gemm_cpu_has_avx512_bf16(void) {
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw");
}

// One product of tiles of ones: true where it gives 16 x 16 times 32.
__attribute__((target("amx-tile,amx-bf16"), noinline))
static bool gemm_amx_works(void) {
    enum { WORDS = 16 * 16 };
    static const union { uint32_t bits; float word; } ones = { 0x3f803f80 };
    static float in[WORDS], out[WORDS];
    for (int i = 0; i < WORDS; i++) in[i] = ones.word;
    __asm__ volatile("" ::: "memory");          // the intrinsics don't tell the compiler that they read `in`
    gemm_enter_amx();
    _tile_zero(0);
    _tile_loadd(1, in, 64);
    _tile_loadd(2, in, 64);
    _tile_dpbf16ps(0, 1, 2);
    _tile_stored(0, out, 64);
    gemm_leave_amx();
    for (int i = 0; i < WORDS; i++)
        if (out[i] != 32) return false;
    return true;
}

static sigjmp_buf gemm_trial_end;
static void gemm_trial_failed(int signal_number) { siglongjmp(gemm_trial_end, signal_number); }

// Does trial() return true, and not die of an instruction? To be called by one thread at a time.
static inline bool gemm_survives(bool (*trial)(void)) {
    struct sigaction action, before_ill, before_segv;
    memset(&action, 0, sizeof action);
    action.sa_handler = gemm_trial_failed;
    sigaction(SIGILL, &action, &before_ill);
    sigaction(SIGSEGV, &action, &before_segv);
    bool works = sigsetjmp(gemm_trial_end, 1) == 0 && trial();
    sigaction(SIGILL, &before_ill, NULL);
    sigaction(SIGSEGV, &before_segv, NULL);
    return works;
}

static int gemm_amx_known = -1;         // -1 before the trial, then 0 or 1

// CPUID's feature bits, Linux' permission for the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM, Linux 5.16), and a
// product under a signal handler: some virtual machines show the bits and trap the instructions, others work though
// they hide the leaves 0x1d and 0x1e that describe the tiles.
static inline void gemm_try_amx(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;
    bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE)
            && gemm_cpu_has_avx512_bf16() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0
            && gemm_survives(gemm_amx_works);
    __atomic_store_n(&gemm_amx_known, has, __ATOMIC_RELEASE);
}

static inline bool gemm_cpu_has_amx(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (__atomic_load_n(&gemm_amx_known, __ATOMIC_ACQUIRE) < 0) pthread_once(&once, gemm_try_amx);
    return __atomic_load_n(&gemm_amx_known, __ATOMIC_ACQUIRE) > 0;
}

#endif // GEMM_X86

#if defined(GEMM_ARM)

// 16 accumulators of the 32 registers: with 24, as above, GCC's scheduler has more in use than there are and keeps some in
// memory. A multiply-add takes its factor from one lane of a register, without a broadcast.
__attribute__((always_inline))
static inline void gemm_body_neon(int words, const float *a, size_t row, size_t step, const float *b, float alpha,
                                  float beta, float *c, size_t ldc) {
    enum { MR = 4, NV = 4, NR = 4 * NV };
    float32x4_t sum[MR][NV];
    #pragma GCC unroll 4
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = vdupq_n_f32(0);
    for (int p = 0; p < words; p++, a += step, b += NR) {
        float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4), b2 = vld1q_f32(b + 8), b3 = vld1q_f32(b + 12);
        #pragma GCC unroll 4
        for (int i = 0; i < MR; i++) {
            float x = a[i * row];
            sum[i][0] = vfmaq_n_f32(sum[i][0], b0, x);
            sum[i][1] = vfmaq_n_f32(sum[i][1], b1, x);
            sum[i][2] = vfmaq_n_f32(sum[i][2], b2, x);
            sum[i][3] = vfmaq_n_f32(sum[i][3], b3, x);
        }
    }
    #pragma GCC unroll 4
    for (int i = 0; i < MR; i++) {
        #pragma GCC unroll 4
        for (int j = 0; j < NV; j++) {
            float *out = c + i * ldc + 4 * j;
            float32x4_t x = vmulq_n_f32(sum[i][j], alpha);
            if (beta != 0) x = vfmaq_n_f32(x, vld1q_f32(out), beta);
            vst1q_f32(out, x);
        }
    }
}

static void gemm_kernel_neon(int words, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    gemm_body_neon(words, a, 1, 4, b, alpha, beta, c, ldc);
}
static void gemm_kernel_neon_in_place(int words, const float *a, size_t lda, const float *b, float alpha, float beta,
                                      float *c, size_t ldc) {
    gemm_body_neon(words, a, lda, 1, b, alpha, beta, c, ldc);
}

#if defined(GEMM_ARM_BF16)

// The same tile as 2 x 8 squares of 2 x 2. A register holds a square, row by row, or two lanes' four steps of k: BFMMLA adds
// to a square the products of two rows with two columns. It takes subnormals for zero and rounds a sum to odd: what isn't
// exact gets its last bit set, an error of up to a whole unit there, without a bias. Panels: a [k / 4][4][2] words, b
// [k / 4][16][2]. (Arm Architecture Reference Manual, DDI 0487, BFMMLA and BFDotAdd.)
GEMM_ARM_BF16 static void gemm_kernel_neon_bf16(int words, const float *a, const float *b, float alpha, float beta,
                                                float *c, size_t ldc) {
    enum { MR = 4, NR = 16, ROWS = MR / 2, COLUMNS = NR / 2 };
    float32x4_t sum[ROWS][COLUMNS];
    #pragma GCC unroll 2
    for (int i = 0; i < ROWS; i++) {
        #pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; j++) sum[i][j] = vdupq_n_f32(0);
    }
    for (int w = 0; w < words; w += 2, a += 2 * MR, b += 2 * NR) {
        bfloat16x8_t a0 = vreinterpretq_bf16_f32(vld1q_f32(a)), a1 = vreinterpretq_bf16_f32(vld1q_f32(a + 4));
        #pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; j++) {
            bfloat16x8_t y = vreinterpretq_bf16_f32(vld1q_f32(b + 4 * j));
            sum[0][j] = vbfmmlaq_f32(sum[0][j], a0, y);
            sum[1][j] = vbfmmlaq_f32(sum[1][j], a1, y);
        }
    }
    #pragma GCC unroll 4
    for (int i = 0; i < MR; i++) {
        #pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j += 2) {      // four columns of a row: half of two squares
            float32x4_t left = sum[i / 2][j], right = sum[i / 2][j + 1];
            float32x4_t x = i % 2 ? vcombine_f32(vget_high_f32(left), vget_high_f32(right))
                                  : vcombine_f32(vget_low_f32(left), vget_low_f32(right));
            float *out = c + i * ldc + 2 * j;
            x = vmulq_n_f32(x, alpha);
            if (beta != 0) x = vfmaq_n_f32(x, vld1q_f32(out), beta);
            vst1q_f32(out, x);
        }
    }
}

static inline bool gemm_cpu_has_neon_bf16(void) {
#if defined(__linux__)
    enum { BF16 = 1 << 14 };        // HWCAP2_BF16, which says BFCVTN, BFDOT and BFMMLA (Linux, elf_hwcaps.rst)
    return (getauxval(AT_HWCAP2) & BF16) != 0;
#else
    return false;
#endif
}

#endif // GEMM_ARM_BF16
#endif // GEMM_ARM

static inline bool gemm_cpu_any(void) { return true; }

// ---------------------------------------------------------------------------------------------------------------------
// Packing: op(A) is cut into panels of MR rows, op(B) into panels of NR columns; both are stored as [k][width]. One
// function serves both: it sees "lanes" (rows of op(A), columns of op(B)), of which a panel holds `width` side by side.

typedef struct {
    const float *x;
    size_t stride;
    bool lane_is_row;       // lane i, step p is x[i*stride + p]; else x[p*stride + i]
} GemmOperand;

// Four lanes become four columns of the panel, by 4 x 4 transposes.
static inline void gemm_pack_four(float *to, size_t width, const float *const lane[4], int depth) {
    int p = 0;
    for (; p + 4 <= depth; p += 4, to += 4 * width) {
        GemmV4 a = *(const GemmV4 *)(lane[0] + p), b = *(const GemmV4 *)(lane[1] + p);
        GemmV4 c = *(const GemmV4 *)(lane[2] + p), d = *(const GemmV4 *)(lane[3] + p);
        GemmV4 ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        GemmV4 cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        *(GemmV4 *)to = __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5);
        *(GemmV4 *)(to + width) = __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7);
        *(GemmV4 *)(to + 2 * width) = __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5);
        *(GemmV4 *)(to + 3 * width) = __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7);
    }
    for (; p < depth; p++, to += width)
        for (int i = 0; i < 4; i++) to[i] = lane[i][p];
}

// One panel: lanes first .. first+width-1, of which those from `live` on don't exist and become zeros.
__attribute__((always_inline))
static inline void gemm_pack(float *to, const GemmOperand *s, int first, int live, int start, int depth, int width) {
    if (!s->lane_is_row) {
        const float *from = s->x + (size_t)start * s->stride + first;
        for (int p = 0; p < depth; p++, from += s->stride, to += width) {
            if (live == width) {
                memcpy(to, from, (size_t)width * sizeof *to);
            } else {
                memcpy(to, from, (size_t)live * sizeof *to);
                memset(to + live, 0, (size_t)(width - live) * sizeof *to);
            }
        }
        return;
    }
    int i = 0;
    for (; i + 4 <= live; i += 4) {
        const float *lane[4];
        for (int l = 0; l < 4; l++) lane[l] = s->x + (size_t)(first + i + l) * s->stride + start;
        gemm_pack_four(to + i, (size_t)width, lane, depth);
    }
    for (; i < live; i++) {
        const float *lane = s->x + (size_t)(first + i) * s->stride + start;
        for (int p = 0; p < depth; p++) to[(size_t)p * width + i] = lane[p];
    }
    for (; i < width; i++)
        for (int p = 0; p < depth; p++) to[(size_t)p * width + i] = 0;
}

// Packs a panel: `live` lanes of `depth` steps from step `start` on, filled up
// with zeros to the kernel's width and to a whole number of its words.
typedef void GemmPack(float *to, const GemmOperand *s, int first, int live, int start, int depth);

// The widths of the kernels' panels, known to the compiler.
static inline void gemm_pack_4(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 4);
}
static inline void gemm_pack_6(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 6);
}
static inline void gemm_pack_8(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 8);
}
static inline void gemm_pack_12(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 12);
}
static inline void gemm_pack_16(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 16);
}
static inline void gemm_pack_32(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 32);
}

/* x rounded to bfloat16, as a float: nearest, ties to even; NaN stays NaN, subnormal numbers become zero as in the
   instructions. */
static inline float gemm_round_bf16(float x) {
    union { float f; uint32_t bits; } v = { x };
    uint32_t magnitude = v.bits & 0x7fffffffu, sign = v.bits & 0x80000000u;
    uint32_t rounded = (v.bits + 0x7fffu + (v.bits >> 16 & 1)) & 0xffff0000u;
    v.bits = magnitude > 0x7f800000u ? (v.bits & 0xffff0000u) | 0x00400000u : magnitude < 0x00800000u ? sign : rounded;
    return v.f;
}

#if defined(GEMM_X86)

#define GEMM_TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512bf16")))

// The first `lanes` of 16.
static inline uint16_t gemm_mask(int lanes) {
    return lanes >= 16 ? 0xffff : lanes <= 0 ? 0 : (uint16_t)((1u << lanes) - 1);
}

// 32 steps of one lane become 16 words; those from `live` on are zeros.
GEMM_TARGET_BF16 static inline void gemm_words_of_row(float *to, const float *x, int live) {
    __m512 low = _mm512_maskz_loadu_ps(gemm_mask(live), x), high = _mm512_maskz_loadu_ps(gemm_mask(live - 16), x + 16);
    _mm512_storeu_ps(to, (__m512)_mm512_cvtne2ps_pbh(high, low));
}

// Two steps of `live` lanes become `width` words; odd is NULL behind the last step.
GEMM_TARGET_BF16 static inline void gemm_words_of_pair(float *to, const float *even, const float *odd, int live,
                                                      int width) {
    for (int i = 0; i < width; i += 16) {
        uint16_t mask = gemm_mask(live - i);
        __m512 x = _mm512_maskz_loadu_ps(mask, even + i);
        __m512 y = odd ? _mm512_maskz_loadu_ps(mask, odd + i) : _mm512_setzero_ps();
        __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
        __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(y));
        __m512i words = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
        _mm512_mask_storeu_ps(to + i, gemm_mask(width - i), (__m512)words);
    }
}

enum { GEMM_BLOCK = 32, GEMM_BLOCK_WORDS = 16 };      // k of a tile of A or B, and its words

// [words][width], words a multiple of `step` / 2.
GEMM_TARGET_BF16 static inline void gemm_pack_words(float *to, const GemmOperand *s, int first, int live, int start, int depth,
                                             int width, int step) {
    enum { STRIDE = GEMM_KC / 2 };
    int words = (depth + step - 1) / step * step / 2;
    if (s->lane_is_row) {
        float row_words[GEMM_NR_MAX * STRIDE];
        for (int i = 0; i < live; i++) {
            const float *x = s->x + (size_t)(first + i) * s->stride + start;
            for (int p = 0; p < depth; p += GEMM_BLOCK)
                gemm_words_of_row(row_words + i * STRIDE + p / 2, x + p, depth - p);
        }
        gemm_pack(to, &(GemmOperand){ row_words, STRIDE, true }, 0, live, 0, (depth + 1) / 2, width);
    } else {
        const float *x = s->x + (size_t)start * s->stride + first;
        for (int p = 0; p < depth; p += 2)
            gemm_words_of_pair(to + (size_t)p / 2 * width, x + p * s->stride,
                               p + 1 < depth ? x + (p + 1) * s->stride : NULL, live, width);
    }
    int done = (depth + 1) / 2;
    memset(to + (size_t)done * width, 0, (size_t)(words - done) * width * sizeof *to);
}

GEMM_TARGET_BF16 static void gemm_pack_bf16_12(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack_words(to, s, first, live, start, depth, 12, 2);
}
GEMM_TARGET_BF16 static void gemm_pack_bf16_32(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack_words(to, s, first, live, start, depth, 32, 2);
}
GEMM_TARGET_BF16 static void gemm_pack_amx_b(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack_words(to, s, first, live, start, depth, 32, GEMM_BLOCK);
}

// [block][32 lanes][16 words]
GEMM_TARGET_BF16 static void gemm_pack_amx_a(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    enum { LANES = 32, WORDS = GEMM_BLOCK_WORDS };
    float turned[WORDS * LANES];
    for (int p = 0; p < depth; p += GEMM_BLOCK, to += LANES * WORDS) {
        int steps = depth - p < GEMM_BLOCK ? depth - p : GEMM_BLOCK;
        if (s->lane_is_row) {
            const float *x = s->x + (size_t)first * s->stride + start + p;
            for (int i = 0; i < live; i++) gemm_words_of_row(to + i * WORDS, x + i * s->stride, steps);
            memset(to + live * WORDS, 0, (size_t)(LANES - live) * WORDS * sizeof *to);
        } else {                                // the words of 32 lanes side by side, then each lane's in a row
            gemm_pack_words(turned, s, first, live, start + p, steps, LANES, GEMM_BLOCK);
            gemm_pack(to, &(GemmOperand){ turned, LANES, true }, 0, WORDS, 0, LANES, WORDS);
        }
    }
}

#endif // GEMM_X86

#if defined(GEMM_ARM_BF16)

// Four steps of a lane become two words; subnormal numbers become zero, NaN stays NaN.
GEMM_ARM_BF16 static inline void gemm_words_of_four(float *to, float32x4_t x) {
    uint32x4_t tiny = vcaltq_f32(x, vdupq_n_f32(0x1p-126f));
    x = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vshrq_n_u32(tiny, 1)));     // all but the sign
    vst1_f32(to, vreinterpret_f32_bf16(vcvt_bf16_f32(x)));
}

// [depth / 4][width][2 words]
GEMM_ARM_BF16 static inline void gemm_pack_fours(float *to, const GemmOperand *s, int first, int live, int start, int depth,
                                                 int width) {
    for (int p = 0; p < depth; p += 4, to += 2 * width) {
        size_t lane = s->lane_is_row ? s->stride : 1, step = s->lane_is_row ? 1 : s->stride;
        const float *x = s->x + (size_t)first * lane + (size_t)(start + p) * step;
        int steps = depth - p < 4 ? depth - p : 4, i = 0;
        for (; !s->lane_is_row && steps == 4 && i + 4 <= live; i += 4) {         // four lanes of four rows of memory
            const float *const rows[4] = { x + i, x + step + i, x + 2 * step + i, x + 3 * step + i };
            float turned[16];
            gemm_pack_four(turned, 4, rows, 4);
            for (int l = 0; l < 4; l++) gemm_words_of_four(to + 2 * (i + l), vld1q_f32(turned + 4 * l));
        }
        for (; s->lane_is_row && steps == 4 && i < live; i++) gemm_words_of_four(to + 2 * i, vld1q_f32(x + i * lane));
        for (; i < width; i++) {
            float four[4] = { 0 };
            for (int q = 0; q < steps && i < live; q++) four[q] = x[i * lane + q * step];
            gemm_words_of_four(to + 2 * i, vld1q_f32(four));
        }
    }
}

GEMM_ARM_BF16 static void gemm_pack_fours_4(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack_fours(to, s, first, live, start, depth, 4);
}
GEMM_ARM_BF16 static void gemm_pack_fours_16(float *to, const GemmOperand *s, int first, int live, int start, int depth) {
    gemm_pack_fours(to, s, first, live, start, depth, 16);
}

#endif // GEMM_ARM_BF16

// ---------------------------------------------------------------------------------------------------------------------
// The table of kernels, the best first, and the choice among them: the first one of the wanted precision from the
// instruction set's first row on that the CPU supports.

typedef enum { GEMM_FP32, GEMM_BF16 } GemmPrecision;
typedef enum { GEMM_PORTABLE, GEMM_AVX2, GEMM_AVX512, GEMM_NEON } GemmVectors;

typedef struct {
    const char *name;
    GemmPrecision precision;
    bool (*supported)(void);
    int mr, nr;             // the tile
    int step;               // a panel's depth is a multiple of so many k
    int per_word;           // k in a word of a panel
    bool rounds;            // panels of floats that are rounded to bf16
    GemmPack *pack_a, *pack_b;
    GemmKernel *kernel;
    GemmKernelInPlace *kernel_in_place;     // NULL where A has to be packed
    GemmKernelRows *kernel_rows;            // NULL where B has to be, too
    void (*enter)(void), (*leave)(void);    // NULL, or what each thread calls around its part of a product
    GemmVectors vectors;    // what a CPU that supports it has for all other arithmetic
} GemmIsa;

static const GemmIsa gemm_isas[] = {
#if defined(GEMM_X86)
    { "amx",      GEMM_BF16, gemm_cpu_has_amx,         32, 32, 32, 2, false, gemm_pack_amx_a, gemm_pack_amx_b,
      gemm_kernel_amx, NULL, NULL, gemm_enter_amx, gemm_leave_amx, GEMM_AVX512 },
    { "avx512",   GEMM_BF16, gemm_cpu_has_avx512_bf16, 12, 32,  2, 2, false, gemm_pack_bf16_12, gemm_pack_bf16_32,
      gemm_kernel_avx512_bf16, NULL, NULL, NULL, NULL, GEMM_AVX512 },
    { "avx512",   GEMM_BF16, gemm_cpu_has_avx512,      12, 32,  1, 1, true, gemm_pack_12, gemm_pack_32,
      gemm_kernel_avx512, NULL, NULL, NULL, NULL, GEMM_AVX512 },
    { "avx512",   GEMM_FP32, gemm_cpu_has_avx512,      12, 32,  1, 1, false, gemm_pack_12, gemm_pack_32,
      gemm_kernel_avx512, gemm_kernel_avx512_in_place, gemm_kernel_rows_avx2, NULL, NULL, GEMM_AVX512 },
    { "avx2",     GEMM_BF16, gemm_cpu_has_avx2,         6, 16,  1, 1, true, gemm_pack_6, gemm_pack_16,
      gemm_kernel_avx2, NULL, NULL, NULL, NULL, GEMM_AVX2 },
    { "avx2",     GEMM_FP32, gemm_cpu_has_avx2,         6, 16,  1, 1, false, gemm_pack_6, gemm_pack_16,
      gemm_kernel_avx2, gemm_kernel_avx2_in_place, gemm_kernel_rows_avx2, NULL, NULL, GEMM_AVX2 },
#endif
#if defined(GEMM_ARM_BF16)
    { "neon",     GEMM_BF16, gemm_cpu_has_neon_bf16,    4, 16,  4, 2, false, gemm_pack_fours_4, gemm_pack_fours_16,
      gemm_kernel_neon_bf16, NULL, NULL, NULL, NULL, GEMM_NEON },
#endif
#if defined(GEMM_ARM)
    { "neon",     GEMM_BF16, gemm_cpu_any,              4, 16,  1, 1, true, gemm_pack_4, gemm_pack_16,
      gemm_kernel_neon, NULL, NULL, NULL, NULL, GEMM_NEON },
    { "neon",     GEMM_FP32, gemm_cpu_any,              4, 16,  1, 1, false, gemm_pack_4, gemm_pack_16,
      gemm_kernel_neon, gemm_kernel_neon_in_place, NULL, NULL, NULL, GEMM_NEON },
#endif
    { "portable", GEMM_BF16, gemm_cpu_any,              6,  8,  1, 1, true, gemm_pack_6, gemm_pack_8,
      gemm_kernel_portable, NULL, NULL, NULL, NULL, GEMM_PORTABLE },
    { "portable", GEMM_FP32, gemm_cpu_any,              6,  8,  1, 1, false, gemm_pack_6, gemm_pack_8,
      gemm_kernel_portable, gemm_kernel_portable_in_place, NULL, NULL, NULL, GEMM_PORTABLE },
};

static const GemmIsa *gemm_first;       // the first row of the instruction set in use
static const GemmIsa *gemm_kernels[2];  // its kernels, by precision; NULL before the first choice
static GemmPrecision gemm_precision;    // the one in use

// The first supported row of an instruction set, or of all where name is NULL; NULL if there is none.
static inline const GemmIsa *gemm_find(const char *name) {
    for (size_t i = 0; i < sizeof gemm_isas / sizeof gemm_isas[0]; i++)
        if ((!name || strcmp(name, gemm_isas[i].name) == 0) && gemm_isas[i].supported()) return &gemm_isas[i];
    return NULL;
}

// What gemm uses from now on. Several threads may be the first to multiply: all store the same, the last store counts.
static inline void gemm_set(const GemmIsa *first, GemmPrecision precision) {
    __atomic_store_n(&gemm_first, first, __ATOMIC_RELAXED);
    __atomic_store_n(&gemm_precision, precision, __ATOMIC_RELAXED);
    for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
        const GemmIsa *isa = first;
        while (isa->precision != p || !isa->supported()) isa++;          // portable, the last, has every precision
        __atomic_store_n(&gemm_kernels[p], isa, __ATOMIC_RELEASE);
    }
}

// What the environment asks for, or else the best of this CPU. The only place that ends the program over a user's word.
static inline void gemm_choose(void) {
    const char *name = getenv("GEMM_ISA");
    const GemmIsa *first = gemm_find(name && *name ? name : NULL);
    if (first) {
        gemm_set(first, gemm_precision);
        return;
    }
    bool known = false;
    for (size_t i = 0; i < sizeof gemm_isas / sizeof gemm_isas[0]; i++) known |= strcmp(name, gemm_isas[i].name) == 0;
    fprintf(stderr, "error: GEMM_ISA=%s: %s; expected one of:", name, known ? "this CPU lacks it" : "unknown");
    const char *last = "";
    for (size_t i = 0; i < sizeof gemm_isas / sizeof gemm_isas[0]; i++) {
        if (!gemm_isas[i].supported() || strcmp(last, gemm_isas[i].name) == 0) continue;
        fprintf(stderr, " %s", last = gemm_isas[i].name);
    }
    fputc('\n', stderr);
    exit(2);
}

static inline const GemmIsa *gemm_kernel_of(GemmPrecision precision) {
    if (!__atomic_load_n(&gemm_kernels[GEMM_BF16], __ATOMIC_ACQUIRE)) gemm_choose();   // stored last
    return __atomic_load_n(&gemm_kernels[precision], __ATOMIC_RELAXED);
}

static inline const GemmIsa *gemm_current(void) {
    return gemm_kernel_of(__atomic_load_n(&gemm_precision, __ATOMIC_RELAXED));
}

/* The name of the instruction set gemm uses. Chosen at the first call: what the environment's GEMM_ISA names (portable,
 * avx2, avx512, amx or neon), else the best this CPU has. One that is unknown or that the CPU lacks: one line on stderr, exit
 * code 2. "amx" computes fp32 products by AVX-512. */
static inline const char *gemm_isa(void) {
    gemm_current();
    return gemm_first->name;
}

/* From now on gemm uses this instruction set; NULL takes the best of this CPU. Not while another thread computes.
 * Returns false, with nothing changed, where the name is unknown or the CPU lacks it. */
static inline bool gemm_use(const char *isa) {
    const GemmIsa *found = gemm_find(isa);
    if (found) gemm_set(found, gemm_precision);
    return found != NULL;
}

/* From now on products are computed in this precision; before the first call they are in fp32. What gemm_pack_b has
 * packed before is no longer valid. Not while another thread computes. */
static inline void gemm_use_precision(GemmPrecision precision) {
    gemm_current();
    gemm_set(gemm_first, precision);
}

// The vector instructions of the instruction set in use, for passes other than products.
static inline GemmVectors gemm_vectors(void) { return gemm_current()->vectors; }

// Is the precision in use emulated: rounded as it, but computed by the fp32 kernel, and so no faster?
static inline bool gemm_emulated(void) { return gemm_current()->rounds; }

// ---------------------------------------------------------------------------------------------------------------------
// Scratch memory: each calling thread keeps one buffer that grows on demand; the threads it starts use parts of it.

enum { GEMM_ALIGN = 64 };

static _Thread_local float *gemm_scratch;
static _Thread_local size_t gemm_scratch_floats;
static pthread_key_t gemm_scratch_owner;        // its destructor frees the buffer of a thread that ends
static pthread_once_t gemm_scratch_once = PTHREAD_ONCE_INIT;

static inline void gemm_scratch_init(void) {
    if (pthread_key_create(&gemm_scratch_owner, free) == 0) return;
    fputs("error: gemm: no key left for thread-specific storage\n", stderr);
    exit(1);
}

static inline float *gemm_scratch_of(size_t floats) {
    if (floats <= gemm_scratch_floats) return gemm_scratch;
    pthread_once(&gemm_scratch_once, gemm_scratch_init);
    size_t bytes = (floats * sizeof(float) + GEMM_ALIGN - 1) / GEMM_ALIGN * GEMM_ALIGN;
    free(gemm_scratch);
    gemm_scratch = (float *)aligned_alloc(GEMM_ALIGN, bytes);
    gemm_scratch_floats = bytes / sizeof(float);
    pthread_setspecific(gemm_scratch_owner, gemm_scratch);
    if (gemm_scratch) return gemm_scratch;
    fprintf(stderr, "error: gemm: out of memory: %zu bytes asked for\n", bytes);
    exit(1);
}

// Frees the calling thread's scratch memory; its next product allocates anew. A thread's end does the same by itself.
static inline void gemm_free(void) {
    if (!gemm_scratch) return;
    free(gemm_scratch);
    gemm_scratch = NULL;
    gemm_scratch_floats = 0;
    pthread_setspecific(gemm_scratch_owner, NULL);
}

// ---------------------------------------------------------------------------------------------------------------------
// The product

enum {
    GEMM_NC = 3072,                 // columns of a slab of B at most: A is packed anew for each
    GEMM_SMALL = 1 << 19,           // multiply-adds below which starting threads costs more than it brings
    GEMM_TASKS_PER_THREAD = 2,      // to even out threads that are disturbed; more would read A in smaller pieces
    GEMM_TASK_ROWS = 24,            // rows of a task at least: B's panel is loaded into L1 for so many
    GEMM_MC_MAX = 288,              // rows of a task at most
};

/* Called for a piece of C that is finished, by the thread that computed it and while it is in cache: `rows` rows from
 * `row` on, `columns` columns from `column` on, c its first element. Each element of C is in one piece; several threads
 * call at once. */
typedef void GemmFinish(void *arg, int row, int column, int rows, int columns, float *c, size_t ldc);

typedef struct {
    const float *packed_b;          // NULL, or op(B) as gemm_pack_b has packed it; b isn't read then
    GemmFinish *finish;             // NULL, or what is to be done to each finished piece of C
    void *arg;                      // its first argument
} GemmExtras;

typedef struct {
    const GemmIsa *isa;
    GemmOperand a, b;
    int m, n, k;
    float alpha, beta;
    float *c;
    size_t ldc;
    bool symmetric;                     // only tiles that reach the diagonal or what is right of it
    GemmExtras extras;
    int slab_width, slab_depth;         // multiples of the tile and of GEMM_KC
    int row_blocks, column_blocks;      // a task is one of each
    float *slab;                        // of B, packed: for each GEMM_KC steps of k all its panels
    float *packed_a;                    // a block of A for each thread
    size_t block_words;                 // the size of such a block
    int next;                           // the next task of this slab, taken atomically
} GemmJob;

// The part of B that is packed at a time: columns left .. left+columns-1, steps start .. start+depth-1 of k.
typedef struct { int left, columns, panels, start, depth; const float *words; } GemmSlab;

static inline int gemm_min(int a, int b) { return a < b ? a : b; }
static inline int gemm_max(int a, int b) { return a > b ? a : b; }
static inline int gemm_ceil_div(int a, int b) { return a / b + (a % b != 0); }

// Where the i-th of `parts` nearly equal parts of `total` begins.
static inline int gemm_part(int total, int parts, int i) { return (int)((long long)total * i / parts); }

// Words of a lane of a panel that is `depth` deep.
static inline size_t gemm_words(const GemmIsa *isa, int depth) {
    return (size_t)gemm_ceil_div(depth, isa->step) * isa->step / isa->per_word;
}

// Bytes of this CPU's caches, as far as the C library knows them.
typedef struct { long l2, l3; } GemmCaches;

static inline GemmCaches gemm_caches(void) {
    static long l2, l3;                             // asking the CPU takes long on a virtual machine: done once
    if (!__atomic_load_n(&l2, __ATOMIC_ACQUIRE)) {
        long two = 0, three = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
        two = sysconf(_SC_LEVEL2_CACHE_SIZE);
        three = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
        __atomic_store_n(&l3, three > 0 ? three : 8 << 20, __ATOMIC_RELAXED);
        __atomic_store_n(&l2, two > 0 ? two : 512 << 10, __ATOMIC_RELEASE);
    }
    return (GemmCaches){ l2, l3 };
}

// Rows of A at a time, of so many steps: a third of L2, a multiple of the tile.
static inline int gemm_block_rows(const GemmIsa *isa, int depth) {
    long rows = gemm_caches().l2 / 3 / (long)(gemm_words(isa, depth) * sizeof(float));
    int most = rows < GEMM_MC_MAX ? (int)rows : GEMM_MC_MAX;
    return gemm_max(most / isa->mr, 2) * isa->mr;
}

// Panels of B, of so many words a lane, that a panel of A meets before the next one does: a quarter of L2 at most, as
// many in each group.
static inline int gemm_group_panels(const GemmIsa *isa, size_t words, int panels) {
    int most = gemm_max((int)(gemm_caches().l2 / 4 / (long)(words * (size_t)isa->nr * sizeof(float))), 1);
    return gemm_ceil_div(panels, gemm_ceil_div(panels, most));
}

// The size of the slabs of B: equally wide, up to GEMM_NC, and as many times GEMM_KC deep as fit into an eighth of L3,
// between 1 and 4 MB, since others use L3 too; at least once.
static inline void gemm_plan_slabs(GemmJob *job) {
    const GemmIsa *isa = job->isa;
    int even = gemm_ceil_div(job->n, gemm_ceil_div(job->n, GEMM_NC));
    job->slab_width = gemm_ceil_div(even, isa->nr) * isa->nr;
    long bytes = gemm_caches().l3 / 8, least = 1 << 20, most = 4 << 20;
    bytes = bytes < least ? least : bytes > most ? most : bytes;
    size_t block = gemm_words(isa, GEMM_KC) * (size_t)job->slab_width * sizeof(float);
    job->slab_depth = gemm_max((int)((size_t)bytes / block), 1) * GEMM_KC;
}

// Packs `lanes` lanes from `first` on, `depth` steps from `start` on, as panels one after the other. Where lanes lie
// side by side in memory, all panels get a few steps at a time, so that these rows are read once and whole.
static inline void gemm_pack_panels(const GemmIsa *isa, GemmPack *pack, int width, float *to, GemmOperand s, int first,
                                    int lanes, int start, int depth) {
    int chunk = s.lane_is_row ? depth : gemm_max(8, isa->step);
    size_t apart = gemm_words(isa, depth) * (size_t)width, further = gemm_words(isa, chunk) * (size_t)width;
    for (int p = 0; p < depth; p += chunk, to += further) {
        float *panel = to;
        int steps = gemm_min(chunk, depth - p);
        for (int lane = 0; lane < lanes; lane += width, panel += apart) {
            pack(panel, &s, first + lane, gemm_min(width, lanes - lane), start + p, steps);
            for (int i = 0; isa->rounds && i < steps * width; i++) panel[i] = gemm_round_bf16(panel[i]);
        }
    }
}

// Words of the slab before panel j of the GEMM_KC steps from its step p on.
static inline size_t gemm_slab_place(const GemmIsa *isa, GemmSlab slab, int p, int depth, int j) {
    return ((size_t)slab.panels * gemm_words(isa, p) + (size_t)j * gemm_words(isa, depth)) * isa->nr;
}

// Packs panels [j0, j1) of the slab of b.
static inline void gemm_pack_slab(const GemmIsa *isa, float *to, GemmOperand b, GemmSlab slab, int j0, int j1) {
    int first = j0 * isa->nr, columns = gemm_min(j1 * isa->nr, slab.columns) - first;
    for (int p = 0; p < slab.depth; p += GEMM_KC) {
        int depth = gemm_min(GEMM_KC, slab.depth - p);
        gemm_pack_panels(isa, isa->pack_b, isa->nr, to + gemm_slab_place(isa, slab, p, depth, j0), b,
                         slab.left + first, columns, slab.start + p, depth);
    }
}

// A panel of A: packed, or rows in place, so many floats from one to the next; then all of them exist.
typedef struct { const float *x; size_t lda; } GemmPanel;

// Whether a product reads A in place: where its rows lie along k and don't crowd each other out of L1. Rows that are a
// multiple of 4096 bytes apart fall on one set of it, which has 8 lines or more.
static inline bool gemm_in_place(const GemmJob *job) {
    enum { SET_FLOATS = 4096 / sizeof(float), SET_LINES = 8 };
    return job->isa->kernel_in_place && job->a.lane_is_row
        && (job->isa->mr <= SET_LINES || job->a.stride % SET_FLOATS != 0);
}

static inline void gemm_multiply(const GemmIsa *isa, int words, GemmPanel a, const float *b, float alpha, float beta,
                                 float *c, size_t ldc) {
    if (a.lda) isa->kernel_in_place(words, a.x, a.lda, b, alpha, beta, c, ldc);
    else isa->kernel(words, a.x, b, alpha, beta, c, ldc);
}

// One tile of C; at the edge by way of a scratch tile, so that the kernel always sees a whole one.
static inline void gemm_tile(const GemmJob *job, int words, GemmPanel a, const float *b, float beta,
                             int row, int column) {
    const GemmIsa *isa = job->isa;
    float *c = job->c + (size_t)row * job->ldc + column;
    size_t rows = (size_t)gemm_min(isa->mr, job->m - row), columns = (size_t)gemm_min(isa->nr, job->n - column);
    if (rows == (size_t)isa->mr && columns == (size_t)isa->nr) {
        gemm_multiply(isa, words, a, b, job->alpha, beta, c, job->ldc);
        return;
    }
    float tile[GEMM_MR_MAX * GEMM_NR_MAX];
    size_t ld = (size_t)isa->nr;
    if (beta != 0) {
        memset(tile, 0, (size_t)isa->mr * ld * sizeof *tile);
        for (size_t i = 0; i < rows; i++) memcpy(tile + i * ld, c + i * job->ldc, columns * sizeof *c);
    }
    gemm_multiply(isa, words, a, b, job->alpha, beta, tile, ld);
    for (size_t i = 0; i < rows; i++) memcpy(c + i * job->ldc, tile + i * ld, columns * sizeof *c);
}

// Panels [i0, i1) of rows of C times panels [j0, j1) of the slab's columns, `depth` steps of k from the slab's step p on.
// Of A in place a panel of rows meets a group of B's panels, then the next rows do; all rows of a packed A meet one of
// B's panels, then the next one. The rows of the last panel may end early: then it is packed in any case.
static inline void gemm_block(const GemmJob *job, GemmSlab slab, float *packed_a, int i0, int i1, int j0, int j1, int p,
                              int depth) {
    const GemmIsa *isa = job->isa;
    float beta = slab.start + p == 0 ? job->beta : 1.0f;
    bool in_place = gemm_in_place(job), last = slab.start + p + depth == job->k;
    size_t words = gemm_words(isa, depth);
    int end = gemm_min(i1 * isa->mr, job->m), packed_from = in_place ? end / isa->mr : i0;
    if (packed_from < i1)
        gemm_pack_panels(isa, isa->pack_a, isa->mr, packed_a, job->a, packed_from * isa->mr,
                         end - packed_from * isa->mr, slab.start + p, depth);
    int high = in_place ? 1 : i1 - i0, wide = in_place ? gemm_group_panels(isa, words, j1 - j0) : 1;
    for (int j = j0; j < j1; j += wide) {
        int j_end = gemm_min(j + wide, j1), column = slab.left + j * isa->nr;
        for (int i = i0; i < i1; i += high) {
            int row = i * isa->mr;
            for (int right = j; right < j_end; right++) {
                const float *b = slab.words + gemm_slab_place(isa, slab, p, depth, right);
                int at = slab.left + right * isa->nr;
                for (int down = i; down < i + high; down++) {       // a row of tiles or a column of them
                    if (job->symmetric && at + isa->nr <= down * isa->mr) continue;     // left of the diagonal as a whole
                    GemmPanel a = down < packed_from
                        ? (GemmPanel){ job->a.x + (size_t)down * isa->mr * job->a.stride + slab.start + p, job->a.stride }
                        : (GemmPanel){ packed_a + (size_t)(down - packed_from) * isa->mr * words, 0 };
                    gemm_tile(job, (int)words, a, b, beta, down * isa->mr, at);
                }
            }
            if (last && job->extras.finish)
                job->extras.finish(job->extras.arg, row, column, gemm_min(high * isa->mr, end - row),
                                   gemm_min(slab.left + j_end * isa->nr, job->n) - column,
                                   job->c + (size_t)row * job->ldc + column, job->ldc);
        }
    }
}

// A block of rows of C times one of the slab's columns, both counted in panels, for all of the slab's depth.
static inline void gemm_task(const GemmJob *job, GemmSlab slab, float *packed_a, int row_block, int column_block) {
    int row_panels = gemm_ceil_div(job->m, job->isa->mr);
    int i0 = gemm_part(row_panels, job->row_blocks, row_block);
    int i1 = gemm_part(row_panels, job->row_blocks, row_block + 1);
    int j0 = gemm_part(slab.panels, job->column_blocks, column_block);
    int j1 = gemm_part(slab.panels, job->column_blocks, column_block + 1);
    if (job->symmetric) j0 = gemm_max(j0, (i0 * job->isa->mr - slab.left) / job->isa->nr);
    for (int p = 0; p < slab.depth && j0 < j1; p += GEMM_KC)
        gemm_block(job, slab, packed_a, i0, i1, j0, j1, p, gemm_min(GEMM_KC, slab.depth - p));
}

static inline void gemm_barrier(int threads) {
    if (threads == 1) return;       // perhaps inside a caller's parallel region, whose barriers aren't ours
#if defined(_OPENMP)
    #pragma omp barrier
#endif
}

static inline GemmSlab gemm_slab_at(const GemmJob *job, int left, int start) {
    int columns = gemm_min(job->slab_width, job->n - left), depth = gemm_min(job->slab_depth, job->k - start);
    GemmSlab slab = { left, columns, gemm_ceil_div(columns, job->isa->nr), start, depth, NULL };
    // Packed before: all slabs one after the other, in this order; those further left are as deep as k.
    slab.words = !job->extras.packed_b ? job->slab
               : job->extras.packed_b + (size_t)left * gemm_words(job->isa, job->k)
                 + (size_t)slab.panels * job->isa->nr * gemm_words(job->isa, start);
    return slab;
}

// The lower triangle of C from the upper one; the threads take bands of rows in turn: 4 x 4 transposes up to the band's
// own square on the diagonal.
static inline void gemm_mirror(const GemmJob *job, int thread, int threads) {
    enum { BAND = 32 };
    const size_t ld = job->ldc;
    for (int i0 = thread * BAND; i0 < job->n; i0 += threads * BAND) {
        int rows = gemm_min(BAND, job->n - i0);
        for (int j = 0; j < i0; j += 4) {
            const float *from = job->c + (size_t)j * ld + i0;
            const float *const lane[4] = { from, from + ld, from + 2 * ld, from + 3 * ld };
            gemm_pack_four(job->c + (size_t)i0 * ld + j, ld, lane, rows);
        }
        for (int i = i0 + 1; i < i0 + rows; i++)
            for (int j = i0; j < i; j++) job->c[(size_t)i * ld + j] = job->c[(size_t)j * ld + i];
    }
}

// What each of the threads does: it packs its part of each slab of B, then takes tasks.
static inline void gemm_work(GemmJob *job, int thread, int threads) {
    const GemmIsa *isa = job->isa;
    float *packed_a = job->packed_a + (size_t)thread * job->block_words;
    int tasks = job->row_blocks * job->column_blocks;
    if (isa->enter) isa->enter();
    for (int left = 0; left < job->n; left += job->slab_width) {
        for (int start = 0; start < job->k; start += job->slab_depth) {
            GemmSlab slab = gemm_slab_at(job, left, start);
            if (!job->extras.packed_b)
                gemm_pack_slab(isa, job->slab, job->b, slab, gemm_part(slab.panels, threads, thread),
                               gemm_part(slab.panels, threads, thread + 1));
            if (thread == 0) job->next = 0;
            gemm_barrier(threads);
            for (int t; (t = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < tasks; )
                gemm_task(job, slab, packed_a, t / job->column_blocks, t % job->column_blocks);
            gemm_barrier(threads);
        }
    }
    if (isa->leave) isa->leave();
    if (job->symmetric) gemm_mirror(job, thread, threads);
}

// How many threads this product may use: inside a caller's parallel region only the calling one.
static inline int gemm_threads(int m, int n, int k) {
#if defined(_OPENMP)
    if (!omp_in_parallel() && (double)m * n * k >= GEMM_SMALL) return omp_get_max_threads();
#endif
    (void)m, (void)n, (void)k;
    return 1;
}

// Where C has fewer rows than a panel, such as one token's, each of B's panels is used once: packed by the thread that uses it,
// in its L1, instead of by all of them for all; or not packed either, where so few rows read it that packing takes longer.
static inline bool gemm_uses_b_once(const GemmJob *job) {
    return job->m < job->isa->mr && !job->extras.packed_b && !job->symmetric;
}

static inline bool gemm_reads_b_in_place(const GemmJob *job) {
    return job->isa->kernel_rows && job->m <= GEMM_FEW_ROWS && job->a.lane_is_row && job->b.lane_is_row;
}

// Then a panel of C's columns from `left` on, for all of k. A is packed as a whole; own: room for a panel of B.
static inline void gemm_panel_once(const GemmJob *job, float *own, int left, int columns) {
    const GemmIsa *isa = job->isa;
    bool in_place = gemm_reads_b_in_place(job) && columns == isa->nr;
    for (int p = 0; p < job->k; p += GEMM_KC) {
        GemmSlab slab = { left, columns, 1, p, gemm_min(GEMM_KC, job->k - p), own };
        float beta = p == 0 ? job->beta : 1.0f;
        for (int j = left; in_place && j < left + columns; j += GEMM_FEW_COLUMNS)
            isa->kernel_rows(job->m, slab.depth, job->a.x + p, job->a.stride, job->b.x + (size_t)j * job->b.stride + p,
                             job->b.stride, job->alpha, beta, job->c + j, job->ldc);
        if (in_place) continue;
        gemm_pack_slab(isa, own, job->b, slab, 0, 1);
        gemm_tile(job, (int)gemm_words(isa, slab.depth), (GemmPanel){ job->packed_a + gemm_words(isa, p) * isa->mr, 0 },
                  own, beta, 0, left);
    }
    if (job->extras.finish) job->extras.finish(job->extras.arg, 0, left, job->m, columns, job->c + left, job->ldc);
}

// What each of the threads does: its share of the panels.
static inline void gemm_work_once(const GemmJob *job, float *own, int thread, int threads) {
    int nr = job->isa->nr, panels = gemm_ceil_div(job->n, nr);
    if (job->isa->enter) job->isa->enter();
    for (int j = gemm_part(panels, threads, thread); j < gemm_part(panels, threads, thread + 1); j++)
        gemm_panel_once(job, own, j * nr, gemm_min(nr, job->n - j * nr));
    if (job->isa->leave) job->isa->leave();
}

static inline void gemm_run_once(GemmJob job, int threads) {
    const GemmIsa *isa = job.isa;
    size_t own = (gemm_words(isa, gemm_min(GEMM_KC, job.k)) * isa->nr + 15) / 16 * 16;
    job.slab = gemm_scratch_of((size_t)threads * own + gemm_words(isa, job.k) * isa->mr);
    job.packed_a = job.slab + (size_t)threads * own;
    bool packs = !gemm_reads_b_in_place(&job) || job.n % isa->nr;         // else no panel is left that needs it
    for (int p = 0; packs && p < job.k; p += GEMM_KC)
        gemm_pack_panels(isa, isa->pack_a, isa->mr, job.packed_a + gemm_words(isa, p) * isa->mr, job.a, 0, job.m, p,
                         gemm_min(GEMM_KC, job.k - p));
    if (threads == 1) {
        gemm_work_once(&job, job.slab, 0, 1);
        return;
    }
#if defined(_OPENMP)
    #pragma omp parallel num_threads(threads)
    gemm_work_once(&job, job.slab + (size_t)omp_get_thread_num() * own, omp_get_thread_num(), omp_get_num_threads());
#endif
}

static inline void gemm_run(GemmJob job) {
    if (job.m <= 0 || job.n <= 0) return;
    if (job.k <= 0 || job.alpha == 0) {
        for (int i = 0; i < job.m && job.beta != 1; i++)
            for (int j = 0; j < job.n; j++) {
                float *c = &job.c[(size_t)i * job.ldc + j];
                *c = job.beta == 0 ? 0 : job.beta * *c;
            }
        if (job.extras.finish) job.extras.finish(job.extras.arg, 0, 0, job.m, job.n, job.c, job.ldc);
        return;
    }
    const GemmIsa *isa = job.isa;
    if (gemm_uses_b_once(&job)) {
        gemm_run_once(job, gemm_threads(isa->mr, job.n, job.k));
        return;
    }
    int threads = gemm_threads(job.m, job.n, job.k);

    gemm_plan_slabs(&job);

    // The tasks: blocks of rows, as many for each thread, and where these are too few, of columns too.
    int row_panels = gemm_ceil_div(job.m, isa->mr);
    int most = gemm_block_rows(isa, gemm_min(GEMM_KC, job.k)) / isa->mr, block = most;
    if (threads > 1) {
        int least = gemm_max(GEMM_TASK_ROWS / isa->mr, 1);
        block = gemm_min(gemm_max(gemm_ceil_div(row_panels, GEMM_TASKS_PER_THREAD * threads), least), most);
    }
    job.row_blocks = gemm_min(gemm_ceil_div(gemm_ceil_div(row_panels, block), threads) * threads, row_panels);
    int column_panels = job.slab_width / isa->nr;
    job.column_blocks = gemm_min(gemm_ceil_div(GEMM_TASKS_PER_THREAD * threads, job.row_blocks),
                                 gemm_ceil_div(column_panels, 2));
    if (threads == 1) job.column_blocks = 1;

    size_t slab_words = gemm_words(isa, gemm_min(job.slab_depth, job.k)) * (size_t)job.slab_width;
    if (job.extras.packed_b) slab_words = 0;
    job.block_words = (size_t)(gemm_in_place(&job) ? 1 : gemm_ceil_div(row_panels, job.row_blocks)) * isa->mr
                    * gemm_words(isa, gemm_min(GEMM_KC, job.k));
    job.block_words = (job.block_words + 15) / 16 * 16;
    job.slab = gemm_scratch_of(slab_words + (size_t)threads * job.block_words);
    job.packed_a = job.slab + slab_words;

    if (threads == 1) {
        gemm_work(&job, 0, 1);
        return;
    }
#if defined(_OPENMP)
    #pragma omp parallel num_threads(threads)
    gemm_work(&job, omp_get_thread_num(), omp_get_num_threads());
#endif
}

/* C[m x n] = alpha * op(A)[m x k] * op(B)[k x n] + beta * C.
 *
 *   trans_a   false: a holds A as m rows of k floats; true: as k rows of m, op(A) is its transpose
 *   trans_b   false: b holds B as k rows of n floats; true: as n rows of k
 *   lda, ldb, ldc   floats from one row of a, b, c to the next, at least the length of a row
 *   alpha, beta     beta 0 overwrites C without reading it; alpha 0 or k 0 only scales C and reads neither a nor b
 *   c         read and written; must not overlap a or b; the floats between its rows stay untouched
 *
 * Threads: as OpenMP has it, or just the calling one where it is inside a parallel region. The result is the same bits
 * in any case, and an element's bits don't depend on m, n or where in C it lies. Memory: the calling thread keeps up to
 * 6 MB and 600 KB per thread for the next call. Out of memory: one line on stderr, exit code 1.
 * Test: dev/test/test_gemm.c. */
static inline void gemm(bool trans_a, bool trans_b, int m, int n, int k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    gemm_run((GemmJob){ .isa = gemm_current(), .a = { a, lda, !trans_a }, .b = { b, ldb, trans_b }, .m = m, .n = n,
                        .k = k, .alpha = alpha, .beta = beta, .c = c, .ldc = ldc });
}

/* As gemm, with B packed before or with work on each finished piece of C while it is in cache: a bias, an activation, a
 * residual. The bits of C as handed to `finish` are those of gemm. */
static inline void gemm_with(GemmExtras extras, bool trans_a, bool trans_b, int m, int n, int k, float alpha,
                             const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    gemm_run((GemmJob){ .isa = gemm_current(), .a = { a, lda, !trans_a }, .b = { b, ldb, trans_b }, .m = m, .n = n,
                        .k = k, .alpha = alpha, .beta = beta, .c = c, .ldc = ldc, .extras = extras });
}

// As gemm, in this precision, whatever the one in use.
static inline void gemm_in(GemmPrecision precision, bool trans_a, bool trans_b, int m, int n, int k, float alpha,
                           const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    gemm_run((GemmJob){ .isa = gemm_kernel_of(precision), .a = { a, lda, !trans_a }, .b = { b, ldb, trans_b }, .m = m,
                        .n = n, .k = k, .alpha = alpha, .beta = beta, .c = c, .ldc = ldc });
}

// Floats that gemm_pack_b writes for op(B)[k x n], in the precision in use.
static inline size_t gemm_packed_floats(int n, int k) {
    const GemmIsa *isa = gemm_current();
    return gemm_words(isa, k) * (size_t)gemm_ceil_div(n, isa->nr) * isa->nr;
}

/* Packs op(B)[k x n] for many products of gemm_with, such as a weight for all micro-batches of a step. packed:
 * gemm_packed_floats(n, k) floats, aligned to 64 bytes, written. Valid for these n and k, until gemm_use or
 * gemm_use_precision choose another kernel. */
static inline void gemm_pack_b(float *packed, bool trans_b, int n, int k, const float *b, size_t ldb) {
    if (n <= 0 || k <= 0) return;
    const GemmIsa *isa = gemm_current();
    GemmJob job = { .isa = isa, .n = n, .k = k, .extras = { .packed_b = packed } };
    gemm_plan_slabs(&job);
    for (int left = 0; left < n; left += job.slab_width) {
        for (int start = 0; start < k; start += job.slab_depth) {
            GemmSlab slab = gemm_slab_at(&job, left, start);
            float *to = packed + (slab.words - packed);
#if defined(_OPENMP)
            #pragma omp parallel for if (gemm_threads(n, k, 8) > 1)
#endif
            for (int j = 0; j < slab.panels; j++)
                gemm_pack_slab(isa, to, (GemmOperand){ b, ldb, trans_b }, slab, j, j + 1);
        }
    }
}

/* C[n x n] = alpha * op(A) op(B)^T + beta * C for a symmetric C: one triangle is computed, the other mirrored, about
 * half the cost. That the product is symmetric is the caller's word: B is A, or A and B are symmetric and commute.
 * op(A), op(B) are n x k: trans false: a and b hold n rows of k floats; true: k rows of n. The bits are those of gemm
 * on and above the diagonal. Everything else as gemm. */
static inline void gemm_symmetric_in(GemmPrecision precision, bool trans, int n, int k, float alpha, const float *a,
                                     size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    gemm_run((GemmJob){ .isa = gemm_kernel_of(precision), .a = { a, lda, !trans }, .b = { b, ldb, !trans }, .m = n,
                        .n = n, .k = k, .alpha = alpha, .beta = beta, .c = c, .ldc = ldc, .symmetric = true });
}

static inline void gemm_symmetric(bool trans, int n, int k, float alpha, const float *a, size_t lda,
                                  const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    gemm_symmetric_in(__atomic_load_n(&gemm_precision, __ATOMIC_RELAXED), trans, n, k, alpha, a, lda, b, ldb, beta, c,
                      ldc);
}

#endif // GEMM_H

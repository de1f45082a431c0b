/* gemm.h - C = alpha * op(A) * op(B) + beta * C in fp32, fast on any CPU, the same bits for any number of threads.
 *
 * defines: gemm            the product, on row-major matrices with row strides
 *          gemm_reference  the same as a plain triple loop: the lesson, and the oracle of the tests
 *          gemm_isa        which instruction set gemm uses: "portable", "avx2" or "avx512"
 *          gemm_use        choose another (as the environment variable GEMM_ISA does)
 *          gemm_free       give back the calling thread's scratch memory
 * C11 standard library, intrinsics and (if compiled with it) OpenMP only; GCC 12 or clang. No other file is needed.
 *
 * How it works (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008; BLIS, 2015):
 *
 *   - The micro-kernel computes a tile of C, MR x NR, in registers: for each k, a column of A times a row of B.
 *   - It reads panels: A packed as [k][MR] and B as [k][NR], so that every load is at the next address. A panel at the
 *     edge is filled up with zeros, a tile at the edge is computed in a scratch tile whose live part is then copied:
 *     the edges need no kernel of their own, and an element of C comes from the same operations wherever it lies.
 *   - KC steps of k at a time, so that a panel of B (KC x NR) stays in L1 while the panels of A stream past it:
 *
 *                    NR                         a task: a block of rows (<= MC) of C, its A packed in L2,
 *          k       +---+---+---+                times columns whose B lies packed in L2 and L3
 *        +-----+   | B |   |   | KC
 *     MR |  A  |   +---+---+---+
 *        +-----+     +---+---+---+
 *        |     |  -> | C |   |   | MR           for each slab of B (some columns, some multiple of KC deep):
 *        +-----+     +---+---+---+                  all threads pack it together; barrier;
 *        |     |     |   |   |   |                  each takes task after task until none is left; barrier.
 *        +-----+     +---+---+---+
 *
 * Sums: for each block of KC steps an element of C gets one chain of multiply-adds in the order of k that starts at
 * zero; the blocks are added in order. KC is a constant and tasks split only m and n: the bits depend neither on the
 * number of threads nor on the sizes of caches.
 */
#ifndef GEMM_H
#define GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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
// a and b are packed panels; b is aligned to its kernel's vectors. The accumulators are a small array that lives in
// registers once the loops over it are unrolled; each is a chain of multiply-adds of its own, enough of them to hide
// the latency of one.

enum { GEMM_MR_MAX = 12, GEMM_NR_MAX = 32 };

// Four floats anywhere: SSE, NEON and the like, without naming one.
typedef float GemmV4 __attribute__((vector_size(16), aligned(4), may_alias));

static void gemm_kernel_portable(int depth, const float *a, const float *b, float alpha, float beta,
                                 float *c, size_t ldc) {
    enum { MR = 6, NV = 2, NR = 4 * NV };
    GemmV4 sum[MR][NV] = { { { 0 } } };
    for (int p = 0; p < depth; p++, a += MR, b += NR) {
        GemmV4 b0 = *(const GemmV4 *)b, b1 = *(const GemmV4 *)(b + 4);
        #pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            GemmV4 x = { a[i], a[i], a[i], a[i] };
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

#if defined(__x86_64__)

// 12 accumulators of the 16 registers; two fused multiply-adds a cycle of latency 4 or 5 need 8 to 10.
__attribute__((target("avx2,fma")))
static void gemm_kernel_avx2(int depth, const float *a, const float *b, float alpha, float beta,
                             float *c, size_t ldc) {
    enum { MR = 6, NV = 2, NR = 8 * NV };
    __m256 sum[MR][NV];
    #pragma GCC unroll 6
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    for (int p = 0; p < depth; p++, a += MR, b += NR) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        #pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            __m256 x = _mm256_broadcast_ss(a + i);
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

// 24 accumulators of the 32 registers: 12 rows divide the widths of most models, and two loads of B serve 24 products.
__attribute__((target("avx512f")))
static void gemm_kernel_avx512(int depth, const float *a, const float *b, float alpha, float beta,
                               float *c, size_t ldc) {
    enum { MR = 12, NV = 2, NR = 16 * NV };
    __m512 sum[MR][NV];
    #pragma GCC unroll 12
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int p = 0; p < depth; p++, a += MR, b += NR) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        #pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
        }
    }
    #pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
        #pragma GCC unroll 2
        for (int j = 0; j < NV; j++) {
            float *out = c + i * ldc + 16 * j;
            __m512 x = _mm512_mul_ps(_mm512_set1_ps(alpha), sum[i][j]);
            if (beta != 0) x = _mm512_fmadd_ps(_mm512_set1_ps(beta), _mm512_loadu_ps(out), x);
            _mm512_storeu_ps(out, x);
        }
    }
}

static inline bool gemm_cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static inline bool gemm_cpu_has_avx512(void) { return __builtin_cpu_supports("avx512f"); }

#endif // __x86_64__

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
static inline void gemm_pack(float *to, GemmOperand s, int first, int live, int start, int depth, int width) {
    if (!s.lane_is_row) {
        const float *from = s.x + (size_t)start * s.stride + first;
        for (int p = 0; p < depth; p++, from += s.stride, to += width) {
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
        for (int l = 0; l < 4; l++) lane[l] = s.x + (size_t)(first + i + l) * s.stride + start;
        gemm_pack_four(to + i, (size_t)width, lane, depth);
    }
    for (; i < live; i++) {
        const float *lane = s.x + (size_t)(first + i) * s.stride + start;
        for (int p = 0; p < depth; p++) to[(size_t)p * width + i] = lane[p];
    }
    for (; i < width; i++)
        for (int p = 0; p < depth; p++) to[(size_t)p * width + i] = 0;
}

// The widths of the kernels' panels, known to the compiler.
typedef void GemmPack(float *to, GemmOperand s, int first, int live, int start, int depth);

static inline void gemm_pack_6(float *to, GemmOperand s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 6);
}
static inline void gemm_pack_8(float *to, GemmOperand s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 8);
}
static inline void gemm_pack_12(float *to, GemmOperand s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 12);
}
static inline void gemm_pack_16(float *to, GemmOperand s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 16);
}
static inline void gemm_pack_32(float *to, GemmOperand s, int first, int live, int start, int depth) {
    gemm_pack(to, s, first, live, start, depth, 32);
}

// ---------------------------------------------------------------------------------------------------------------------
// The table of kernels, the best first, and the choice among them

typedef struct {
    const char *name;
    bool (*supported)(void);
    int mr, nr;             // the tile
    int kc;                 // steps of k a panel is deep: decides the order of summation, so it never adapts
    int mc;                 // rows of a task at most, a multiple of mr: mc x kc floats stay in L2
    GemmPack *pack_a, *pack_b;
    void (*kernel)(int depth, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc);
} GemmIsa;

static const GemmIsa gemm_isas[] = {
#if defined(__x86_64__)
    { "avx512",   gemm_cpu_has_avx512, 12, 32, 256, 144, gemm_pack_12, gemm_pack_32, gemm_kernel_avx512 },
    { "avx2",     gemm_cpu_has_avx2,    6, 16, 256, 144, gemm_pack_6, gemm_pack_16, gemm_kernel_avx2 },
#endif
    { "portable", gemm_cpu_any,         6,  8, 256, 144, gemm_pack_6, gemm_pack_8, gemm_kernel_portable },
};

static const GemmIsa *gemm_chosen;      // read and written atomically: several threads may be the first to call

static inline const GemmIsa *gemm_find(const char *name) {
    for (size_t i = 0; i < sizeof gemm_isas / sizeof gemm_isas[0]; i++)
        if (name ? strcmp(name, gemm_isas[i].name) == 0 : gemm_isas[i].supported()) return &gemm_isas[i];
    return NULL;
}

// What the environment asks for, or else the best of this CPU. The only place that ends the program over a user's word.
static inline const GemmIsa *gemm_choose(void) {
    const char *name = getenv("GEMM_ISA");
    const GemmIsa *isa = gemm_find(name && *name ? name : NULL);
    if (isa && isa->supported()) return isa;
    fprintf(stderr, "error: GEMM_ISA=%s: %s; expected one of:", name, isa ? "this CPU lacks it" : "unknown");
    for (size_t i = 0; i < sizeof gemm_isas / sizeof gemm_isas[0]; i++)
        if (gemm_isas[i].supported()) fprintf(stderr, " %s", gemm_isas[i].name);
    fputc('\n', stderr);
    exit(2);
}

static inline const GemmIsa *gemm_current(void) {
    const GemmIsa *isa = __atomic_load_n(&gemm_chosen, __ATOMIC_ACQUIRE);
    if (!isa) __atomic_store_n(&gemm_chosen, isa = gemm_choose(), __ATOMIC_RELEASE);
    return isa;
}

/* The name of the instruction set gemm uses. Chosen at the first call: what the environment's GEMM_ISA names (portable,
 * avx2 or avx512), else the best this CPU has. One that is unknown or that the CPU lacks: one line on stderr, exit
 * code 2. */
static inline const char *gemm_isa(void) { return gemm_current()->name; }

/* From now on gemm uses this instruction set; NULL takes the best of this CPU. Not while another thread computes.
 * Returns false, with nothing changed, where the name is unknown or the CPU lacks it. */
static inline bool gemm_use(const char *isa) {
    const GemmIsa *found = gemm_find(isa);
    if (!found || !found->supported()) return false;
    __atomic_store_n(&gemm_chosen, found, __ATOMIC_RELEASE);
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Scratch memory: each calling thread keeps one buffer that grows on demand; the threads it starts use parts of it.

enum { GEMM_ALIGN = 64 };

static _Thread_local float *gemm_scratch;
static _Thread_local size_t gemm_scratch_floats;
static tss_t gemm_scratch_owner;        // its destructor frees the buffer of a thread that ends
static once_flag gemm_scratch_once = ONCE_FLAG_INIT;

static inline void gemm_scratch_init(void) {
    if (tss_create(&gemm_scratch_owner, free) == thrd_success) return;
    fputs("error: gemm: no key left for thread-specific storage\n", stderr);
    exit(1);
}

static inline float *gemm_scratch_of(size_t floats) {
    if (floats <= gemm_scratch_floats) return gemm_scratch;
    call_once(&gemm_scratch_once, gemm_scratch_init);
    size_t bytes = (floats * sizeof(float) + GEMM_ALIGN - 1) / GEMM_ALIGN * GEMM_ALIGN;
    free(gemm_scratch);
    gemm_scratch = (float *)aligned_alloc(GEMM_ALIGN, bytes);
    gemm_scratch_floats = bytes / sizeof(float);
    tss_set(gemm_scratch_owner, gemm_scratch);
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
    tss_set(gemm_scratch_owner, NULL);
}

// ---------------------------------------------------------------------------------------------------------------------
// The product

enum {
    GEMM_NC = 1024,                 // columns of a slab of B at most: a multiple of every nr
    GEMM_SLAB_FLOATS = 1 << 20,     // size of a slab: 4 MB, a share of L3
    GEMM_SMALL = 1 << 19,           // multiply-adds below which starting threads costs more than it brings
    GEMM_TASKS_PER_THREAD = 4,      // to even out threads that are disturbed
    GEMM_TASK_ROWS = 24,            // rows of a task at least: B's panel is loaded into L1 for so many
};

typedef struct {
    const GemmIsa *isa;
    GemmOperand a, b;
    int m, n, k;
    float alpha, beta;
    float *c;
    size_t ldc;
    int slab_depth;                     // a multiple of kc
    int row_blocks, column_blocks;      // a task is one of each
    float *packed_b;                    // the slab: for each kc steps of k all its panels
    float *packed_a;                    // one block of mc x kc per thread
    int next;                           // the next task of this slab, taken atomically
} GemmJob;

// The part of B that is packed at a time: columns left .. left+columns-1, steps start .. start+depth-1 of k.
typedef struct { int left, columns, panels, start, depth; } GemmSlab;

static inline int gemm_min(int a, int b) { return a < b ? a : b; }
static inline int gemm_ceil_div(int a, int b) { return a / b + (a % b != 0); }

// Where the i-th of `parts` nearly equal parts of `total` begins.
static inline int gemm_part(int total, int parts, int i) { return (int)((long long)total * i / parts); }

// Where the slab holds panel j of the kc steps from its step p on (a multiple of the constant kc).
static inline float *gemm_slab_panel(const GemmJob *job, GemmSlab slab, int p, int kc, int j) {
    return job->packed_b + ((size_t)slab.panels * p + (size_t)j * kc) * job->isa->nr;
}

// Packs panels [j0, j1) of the slab.
static inline void gemm_pack_slab(const GemmJob *job, GemmSlab slab, int j0, int j1) {
    const GemmIsa *isa = job->isa;
    for (int j = j0; j < j1; j++) {
        int column = j * isa->nr, live = gemm_min(isa->nr, slab.columns - column);
        for (int p = 0; p < slab.depth; p += isa->kc) {
            int kc = gemm_min(isa->kc, slab.depth - p);
            isa->pack_b(gemm_slab_panel(job, slab, p, kc, j), job->b, slab.left + column, live, slab.start + p, kc);
        }
    }
}

// One tile of C; at the edge by way of a scratch tile, so that the kernel always sees a whole one.
static inline void gemm_tile(const GemmJob *job, int depth, const float *a, const float *b, float beta,
                             int row, int column) {
    const GemmIsa *isa = job->isa;
    float *c = job->c + (size_t)row * job->ldc + column;
    size_t rows = (size_t)gemm_min(isa->mr, job->m - row), columns = (size_t)gemm_min(isa->nr, job->n - column);
    if (rows == (size_t)isa->mr && columns == (size_t)isa->nr) {
        isa->kernel(depth, a, b, job->alpha, beta, c, job->ldc);
        return;
    }
    float tile[GEMM_MR_MAX * GEMM_NR_MAX];
    size_t ld = (size_t)isa->nr;
    if (beta != 0) {
        memset(tile, 0, sizeof tile);
        for (size_t i = 0; i < rows; i++) memcpy(tile + i * ld, c + i * job->ldc, columns * sizeof *c);
    }
    isa->kernel(depth, a, b, job->alpha, beta, tile, ld);
    for (size_t i = 0; i < rows; i++) memcpy(c + i * job->ldc, tile + i * ld, columns * sizeof *c);
}

// A block of rows of C times one of the slab's columns, both counted in panels, for all of the slab's depth.
static inline void gemm_task(const GemmJob *job, GemmSlab slab, float *packed_a, int row_block, int column_block) {
    const GemmIsa *isa = job->isa;
    int row_panels = gemm_ceil_div(job->m, isa->mr);
    int i0 = gemm_part(row_panels, job->row_blocks, row_block);
    int i1 = gemm_part(row_panels, job->row_blocks, row_block + 1);
    int j0 = gemm_part(slab.panels, job->column_blocks, column_block);
    int j1 = gemm_part(slab.panels, job->column_blocks, column_block + 1);
    for (int p = 0; p < slab.depth && j0 < j1; p += isa->kc) {
        int kc = gemm_min(isa->kc, slab.depth - p);
        float beta = slab.start + p == 0 ? job->beta : 1.0f;
        const float *packed_b = gemm_slab_panel(job, slab, p, kc, 0);
        size_t size_a = (size_t)isa->mr * kc, size_b = (size_t)isa->nr * kc;
        for (int i = i0; i < i1; i++) {
            int row = i * isa->mr;
            isa->pack_a(packed_a + (i - i0) * size_a, job->a, row, gemm_min(isa->mr, job->m - row), slab.start + p, kc);
        }
        for (int j = j0; j < j1; j++)
            for (int i = i0; i < i1; i++)
                gemm_tile(job, kc, packed_a + (i - i0) * size_a, packed_b + j * size_b, beta,
                          i * isa->mr, slab.left + j * isa->nr);
    }
}

static inline void gemm_barrier(int threads) {
    if (threads == 1) return;       // perhaps inside a caller's parallel region, whose barriers aren't ours
#if defined(_OPENMP)
    #pragma omp barrier
#endif
}

// What each of the threads does: it packs its part of each slab of B, then takes tasks.
static inline void gemm_work(GemmJob *job, int thread, int threads) {
    const GemmIsa *isa = job->isa;
    float *packed_a = job->packed_a + (size_t)thread * isa->mc * isa->kc;
    int tasks = job->row_blocks * job->column_blocks;
    for (int left = 0; left < job->n; left += GEMM_NC) {
        for (int start = 0; start < job->k; start += job->slab_depth) {
            int columns = gemm_min(GEMM_NC, job->n - left), panels = gemm_ceil_div(columns, isa->nr);
            GemmSlab slab = { left, columns, panels, start, gemm_min(job->slab_depth, job->k - start) };
            gemm_pack_slab(job, slab, gemm_part(panels, threads, thread), gemm_part(panels, threads, thread + 1));
            if (thread == 0) job->next = 0;
            gemm_barrier(threads);
            for (int t; (t = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < tasks; )
                gemm_task(job, slab, packed_a, t / job->column_blocks, t % job->column_blocks);
            gemm_barrier(threads);
        }
    }
}

// How many threads this product may use: inside a caller's parallel region only the calling one.
static inline int gemm_threads(int m, int n, int k) {
#if defined(_OPENMP)
    if (!omp_in_parallel() && (double)m * n * k >= GEMM_SMALL) return omp_get_max_threads();
#endif
    (void)m, (void)n, (void)k;
    return 1;
}

/* C[m x n] = alpha * op(A)[m x k] * op(B)[k x n] + beta * C, in fp32.
 *
 *   trans_a   false: a holds A as m rows of k floats; true: as k rows of m, op(A) is its transpose
 *   trans_b   false: b holds B as k rows of n floats; true: as n rows of k
 *   lda, ldb, ldc   floats from one row of a, b, c to the next, at least the length of a row
 *   alpha, beta     beta 0 overwrites C without reading it; alpha 0 or k 0 only scales C and reads neither a nor b
 *   c         read and written; must not overlap a or b; the floats between its rows stay untouched
 *
 * Threads: as OpenMP has it, or just the calling one where it is inside a parallel region. The result is the same bits
 * in any case, and an element's bits don't depend on m, n or where in C it lies. Memory: the calling thread keeps up to
 * 4 MB and 150 KB per thread for the next call. Out of memory: one line on stderr, exit code 1.
 * Test: dev/test/test_gemm.c. */
static inline void gemm(bool trans_a, bool trans_b, int m, int n, int k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0 || alpha == 0) {
        for (int i = 0; i < m && beta != 1; i++)
            for (int j = 0; j < n; j++) c[(size_t)i * ldc + j] = beta == 0 ? 0 : beta * c[(size_t)i * ldc + j];
        return;
    }
    const GemmIsa *isa = gemm_current();
    int threads = gemm_threads(m, n, k);
    GemmJob job = {
        .isa = isa, .a = { a, lda, !trans_a }, .b = { b, ldb, trans_b }, .m = m, .n = n, .k = k,
        .alpha = alpha, .beta = beta, .c = c, .ldc = ldc,
    };

    // The slab: as wide as C up to GEMM_NC, and as many times kc deep as fit.
    int column_panels = gemm_ceil_div(gemm_min(n, GEMM_NC), isa->nr), width = column_panels * isa->nr;
    job.slab_depth = GEMM_SLAB_FLOATS / width / isa->kc * isa->kc;

    // The tasks: blocks of rows, and where these are too few for the threads, of columns too.
    int row_panels = gemm_ceil_div(m, isa->mr), most = isa->mc / isa->mr, block = most;
    if (threads > 1) {
        int least = GEMM_TASK_ROWS / isa->mr, even = gemm_ceil_div(row_panels, GEMM_TASKS_PER_THREAD * threads);
        block = even < least ? least : gemm_min(even, most);
    }
    job.row_blocks = gemm_ceil_div(row_panels, block);
    job.column_blocks = gemm_min(gemm_ceil_div(2 * threads, job.row_blocks), gemm_ceil_div(column_panels, 2));
    if (threads == 1) job.column_blocks = 1;

    size_t slab_floats = (size_t)gemm_min(job.slab_depth, k) * width;
    job.packed_b = gemm_scratch_of(slab_floats + (size_t)threads * isa->mc * isa->kc);
    job.packed_a = job.packed_b + slab_floats;

    if (threads == 1) {
        gemm_work(&job, 0, 1);
        return;
    }
#if defined(_OPENMP)
    #pragma omp parallel num_threads(threads)
    gemm_work(&job, omp_get_thread_num(), omp_get_num_threads());
#endif
}

#endif // GEMM_H

/* vec.h - the work between the matrix products, vectorized for the CPU it runs on: exp, tanh, erf, sums, and VEC_PASS,
 * which compiles a plain loop for every instruction set.
 *
 * defines: VEC_PASS  a function that is a loop over floats, in one version for each instruction set; VEC_LOOP, VEC_SUM
 *                    mark its loops, VEC_INLINE the functions it calls
 *          vec_flush_subnormals  what is too small to matter becomes zero, so that it costs no time
 *          vec_expf, vec_tanhf, vec_erff, vec_sigmoidf, vec_sum, vec_dot, vec_max   to be used in such functions
 *          vec_add   one array onto another
 *          Dropout, dropout_factor, dropout_threshold   which elements are dropped, by a hash
 *
 * libm's functions are exact to the last bit but one number at a time; a GPT calls them thousands of times a token.
 * These are polynomials on a reduced range, without branch, table or call, so that a plain loop over them becomes
 * vector code for any instruction set. NaN stays NaN. The polynomials are minimax fits (weighted least squares at
 * Chebyshev nodes, Lawson's iteration); the stated errors are relative, against libm in double, over the range;
 * test_gpt.c measures them.
 */
#ifndef VEC_H
#define VEC_H

#include <stdint.h>
#include <string.h>
#include "gemm.h"            // defines: gemm_vectors, the instruction set in use

/* VEC_PASS(void, scale, (float *x, float by, int n), (x, by, n)) {
 *     VEC_LOOP for (int i = 0; i < n; i++) x[i] *= by;
 * }
 * defines scale(x, by, n), which runs the version of its body for the instruction set that gemm.h uses. VEC_LOOP in
 * front of a loop says that its iterations are independent of each other, so that arrays may be one and the same, but
 * may not overlap otherwise; VEC_SUM(a, b), that it adds to the variables a and b. */
#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_LOOP _Pragma("omp simd")
#define VEC_SUM(...) VEC_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define VEC_PRAGMA(...) _Pragma(#__VA_ARGS__)

#if defined(__clang__)
#define VEC_WIDE min_vector_width(512)
#else
#define VEC_WIDE target("prefer-vector-width=512")
#endif

#if defined(GEMM_X86)
#define VEC_PASS(type, name, params, args) \
    VEC_INLINE type name##_body params; \
    __attribute__((target("avx512f,avx2,fma"), VEC_WIDE)) \
    static inline type name##_avx512 params { return name##_body args; } \
    __attribute__((target("avx2,fma"))) static inline type name##_avx2 params { return name##_body args; } \
    static inline type name##_portable params { return name##_body args; } \
    static inline type name params { \
        switch (gemm_vectors()) { \
        case GEMM_AVX512: return name##_avx512 args; \
        case GEMM_AVX2: return name##_avx2 args; \
        default: return name##_portable args; \
        } \
    } \
    VEC_INLINE type name##_body params
#else                           // one instruction set, whose vectors every CPU has, such as Arm's NEON: the compiler uses them anyway
#define VEC_PASS(type, name, params, args) static inline type name params
#endif

/* From here on, this thread and those it starts take numbers below 1.2e-38 for zero, and so do their results. A model that
 * diverges, or units that are hardly ever active, are full of such subnormals, and a CPU computes with them up to a
 * hundred times more slowly. Elsewhere than on x86 and Arm: nothing. */
static inline void vec_flush_subnormals(void) {
#if defined(GEMM_X86)
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40 };         // bits of MXCSR, Intel SDM volume 1, 10.2.3
    _mm_setcsr(_mm_getcsr() | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
#elif defined(GEMM_ARM)
    enum { FLUSH_TO_ZERO = 1 << 24 };                                   // FPCR.FZ, Arm ARM (DDI 0487), C5.2.8
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" :: "r"(control | FLUSH_TO_ZERO));
#endif
}

VEC_INLINE float vec_bits_to_float(uint32_t bits) { float f; memcpy(&f, &bits, sizeof f); return f; }
VEC_INLINE uint32_t vec_float_to_bits(float f) { uint32_t bits; memcpy(&bits, &f, sizeof bits); return bits; }

// e^x, error 2e-7; below -87.3 it stays at 1.2e-38, about the smallest normal number, above 88.3 at 2.2e38.
VEC_INLINE float vec_expf(float x) {
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    // e^x = 2^k * e^r, k = round(x / ln 2), |r| <= ln 2 / 2. Adding 1.5 * 2^23 leaves k in the lowest bits of the sum.
    float shifted = x * 1.44269504f + 12582912.0f;
    float k = shifted - 12582912.0f;
    float r = x - k * 0.693359375f;                   // ln 2 in two pieces, the first exact in 10 bits
    r = r - k * -2.12194440e-4f;
    float p = 1.38888694e-3f;
    p = p * r + 8.36907607e-3f;
    p = p * r + 4.16671373e-2f;
    p = p * r + 1.66665062e-1f;
    p = p * r + 0.49999997f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // p is in [0.7, 1.42]: adding k to its exponent field multiplies by 2^k.
    float y = vec_bits_to_float(vec_float_to_bits(p) + (vec_float_to_bits(shifted) << 23));
    return x == x ? y : x;                            // a NaN's other bits would have been added, too
}

// 1 / (1 + e^-x), error 3e-7; below -88.3 it stays at 4.5e-39.
VEC_INLINE float vec_sigmoidf(float x) { return 1.0f / (1.0f + vec_expf(-x)); }

// tanh x, error 3e-7
VEC_INLINE float vec_tanhf(float x) {
    float a = x < 0.0f ? -x : x, z = x * x;
    float p = -5.46826377e-3f;                        // |x| < 0.65: x P(x^2)
    p = p * z + 2.04151889e-2f;
    p = p * z - 5.36652788e-2f;
    p = p * z + 1.33304151e-1f;
    p = p * z - 3.33332293e-1f;
    p = p * z + 1.0f;
    float large = 1.0f - 2.0f / (vec_expf(2.0f * a) + 1.0f);
    large = x < 0.0f ? -large : large;
    return a < 0.65f ? x * p : large;
}

// erf x from e^(-x^2), error 3e-7
VEC_INLINE float vec_erff_of(float x, float exp_minus_x2) {
    float a = x < 0.0f ? -x : x, z = x * x;
    float p = 7.85385769e-5f;                         // |x| < 1: x P(x^2)
    p = p * z - 8.01019252e-4f;
    p = p * z + 5.18832756e-3f;
    p = p * z - 2.68538119e-2f;
    p = p * z + 1.12835851e-1f;
    p = p * z - 3.76126258e-1f;
    p = p * z + 1.12837917f;
    float t = 2.0f / (2.0f + a);                      // else 1 - e^(-x^2) Q(t): Q fits e^(x^2) erfc x
    float q = 8.08911160e-2f;
    q = q * t - 1.85040396e-1f;
    q = q * t + 2.50598759e-2f;
    q = q * t + 1.05343005e-1f;
    q = q * t + 1.58041187e-1f;
    q = q * t + 2.52967425e-1f;
    q = q * t + 2.80990762e-1f;
    q = q * t + 2.82199408e-1f;
    q = q * t - 4.10342524e-6f;
    float large = 1.0f - exp_minus_x2 * q;
    large = x < 0.0f ? -large : large;
    return a < 1.0f ? x * p : large;
}

VEC_INLINE float vec_erff(float x) { return vec_erff_of(x, vec_expf(-(x * x))); }

// The sum, the dot product and the maximum of n floats, the maximum of nothing being -inf. The order of summation is
// that of the vectors of the instruction set in use, the same for every call: results don't depend on threads.
VEC_INLINE float vec_sum(const float *x, int n) {
    float sum = 0.0f;
    VEC_SUM(sum) for (int i = 0; i < n; i++) sum += x[i];
    return sum;
}

VEC_INLINE float vec_dot(const float *x, const float *y, int n) {
    float sum = 0.0f;
    VEC_SUM(sum) for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

VEC_INLINE float vec_max(const float *x, int n) {
    float m[16], largest = -__builtin_inff();    // sixteen running maxima, which become a vector
    int i = 0;
    for (int j = 0; j < 16; j++) m[j] = largest;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (; i < n; i++) m[i % 16] = x[i] > m[i % 16] ? x[i] : m[i % 16];
    for (int j = 0; j < 16; j++) largest = m[j] > largest ? m[j] : largest;
    return largest;
}

// sum += x, n floats
VEC_PASS(void, vec_add, (float *sum, const float *x, size_t n), (sum, x, n)) {
    VEC_LOOP for (size_t i = 0; i < n; i++) sum[i] += x[i];
}

// ---------------------------------------------------------------------------------------------------------------------
// Dropout: keep(i) is a hash of a row's key and i, so that nobody has to remember which elements were kept.

typedef struct {
    float rate;              // 0: off
    uint64_t key;            // of seed, site and layer
    uint64_t first_sequence; // number in the whole training of the micro-batch's first sequence
} Dropout;

VEC_INLINE uint32_t mix32(uint32_t x) {   // "lowbias32" constants (Chris Wellons, hash-prospector)
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// 0 or 1/(1-rate): what element i of the row with this key is multiplied by. threshold = rate * 2^32.
VEC_INLINE float dropout_factor(uint64_t row_key, uint32_t i, uint32_t threshold, float keep_scale) {
    return mix32(mix32(i ^ (uint32_t)row_key) + (uint32_t)(row_key >> 32)) < threshold ? 0.0f : keep_scale;
}

// The threshold of dropout_factor for a rate.
VEC_INLINE uint32_t dropout_threshold(float rate) { return (uint32_t)(rate * 4294967296.0); }

#endif // VEC_H

/* vec.h - exp, tanh and erf that a compiler can vectorize: no branch, no table, no call.
 *
 * libm's functions are exact to the last bit but one number at a time; a GPT calls them thousands of times a token.
 * These are polynomials on a reduced range, so that a plain loop over them becomes vector code for any instruction
 * set. NaN stays NaN. The polynomials are minimax fits (weighted least squares at Chebyshev nodes, Lawson's iteration);
 * the stated errors are relative, against libm in double, over the range; test_gpt.c measures them.
 *
 * defines: vec_expf, vec_tanhf, vec_erff, vec_sum, vec_dot, vec_max
 */
#ifndef VEC_H
#define VEC_H

#include <stdint.h>
#include <string.h>

static inline float vec_bits_to_float(uint32_t bits) { float f; memcpy(&f, &bits, sizeof f); return f; }
static inline uint32_t vec_float_to_bits(float f) { uint32_t bits; memcpy(&bits, &f, sizeof bits); return bits; }

// e^x, error 2e-7; below -87.3 it stays at the smallest normal number (1.2e-38), above 88.3 at 2^127.
static inline float vec_expf(float x) {
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
    return vec_bits_to_float(vec_float_to_bits(p) + (vec_float_to_bits(shifted) << 23));
}

// tanh x, error 3e-7
static inline float vec_tanhf(float x) {
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

// erf x, error 3e-7
static inline float vec_erff(float x) {
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
    float large = 1.0f - vec_expf(-z) * q;
    large = x < 0.0f ? -large : large;
    return a < 1.0f ? x * p : large;
}

// The sum, the dot product and the maximum of n floats. The order of summation is the compiler's vector width, the
// same for every call: results don't depend on threads. The maximum of nothing is -inf.
static inline float vec_sum(const float *x, int n) {
    float sum = 0.0f;
    #pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += x[i];
    return sum;
}

static inline float vec_dot(const float *x, const float *y, int n) {
    float sum = 0.0f;
    #pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static inline float vec_max(const float *x, int n) {
    float m[8], largest = -__builtin_inff();     // eight running maxima, which become a vector
    int i = 0;
    for (int j = 0; j < 8; j++) m[j] = largest;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (; i < n; i++) m[i % 8] = x[i] > m[i % 8] ? x[i] : m[i % 8];
    for (int j = 0; j < 8; j++) largest = m[j] > largest ? m[j] : largest;
    return largest;
}

#endif // VEC_H

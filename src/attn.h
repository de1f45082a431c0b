/* attn.h - causal attention in tiles: the softmax is computed block by block, and no T x T matrix ever exists.
 *
 * defines: Attention                      the shapes, strides and choices of one attention
 *          attention_scratch_floats       the memory that a thread needs for it
 *          attention_forward              softmax(scale q k^T) v, with soft-cap and dropout
 *          attention_backward             its gradients, in place if wished
 *          attention_reference_forward    the same as plain loops: the lesson, and the oracle of the tests
 *          attention_reference_backward
 *
 * How it works (online softmax: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; in tiles:
 * Dao et al., "FlashAttention", 2022; order of the loops and what is kept: Dao, "FlashAttention-2", 2023):
 *
 *   - A block of keys at a time, the logits are computed transposed, so that queries lie along the lanes of a vector:
 *     maximum, exp and sum are then the same operation on each lane, and nothing is ever added up across a vector.
 *   - The sum and the output are relative to the largest logit so far; where a block has a larger one, they are first
 *     multiplied by exp(old - new).
 *   - Only tiles that causality leaves are computed; in those at the diagonal what a query must not see becomes 0.
 *
 *                 nr queries
 *          HS    +----------+                for each block of 96 keys up to the diagonal:
 *        +-----+ |   Q^T    | HS                 S^T  = K Q^T
 *        |     | +----------+                    m'   = max(m, S^T by lanes),  P^T = exp(S^T - m')
 *     96 |  K  | +----------+                    l    = l exp(m - m') + sum of P^T by lanes
 *        |     | | S^T, P^T | 96 keys            O^T  = O^T exp(m - m') + V^T P^T
 *        +-----+ +----------+                out = (O^T / l)^T,  lse = m + log l
 *           96   +----------+
 *     HS [ V^T ] |   O^T    | HS             The backward pass computes P^T = exp(S^T - lse) again, in blocks of
 *                +----------+                96 keys x 96 queries.
 *
 * The products are tiles of gemm.h's micro-kernels, in the instruction set and the precision that gemm uses: S^T as a
 * kernel writes it, [key][nr], is already the packed panel that the next product reads. In bf16 the operands of all
 * products are rounded, P and dS too; logits, softmax and sums are fp32. Measured with head sizes 16 to 256; any works.
 */
#ifndef ATTN_H
#define ATTN_H

#include <math.h>
#include "gemm.h"
#include "openmp.h"
#include "util.h"
#include "vec.h"

typedef struct {
    int B, Tq, Tk;           // sequences; queries and keys of each, Tq <= Tk: query i stands at position Tk - Tq + i
                             // and sees the keys up to there
    int keys_apart;          // rows from the first key of a sequence to that of the next one; 0: Tk, one behind the other
    int NH, NKV;             // query heads, key/value heads: query head h reads key/value head h / (NH / NKV)
    int HS_qk, HS_v;         // head sizes of queries and keys, and of values and outputs
    size_t q_stride, k_stride, v_stride, out_stride;  // floats from a token's row to the next token's; head h begins
                                                      // at h * HS in it
    size_t kv_apart;         // of keys and values, instead: floats from a head to the next one; 0: HS, beside each other
    float scale, softcap;    // scale > 0; softcap c > 0: logits become c tanh(s / c); 0: off
    Dropout dropout;         // of the attention weights
} Attention;

// ---------------------------------------------------------------------------------------------------------------------
// The lesson. For each query i, at position n = Tk - Tq + i, and the keys j <= n:
//   1. s_j = scale * q_i . k_j      the largest one of each head is max_logit, which QK-Clip needs
//   2. s_j = c tanh(s_j / c)        soft-cap, where c > 0
//   3. p_j = exp(s_j - lse)         lse = log sum_j exp(s_j)
//   4. p_j = p_j * factor_j         dropout, where the rate > 0
//   5. out_i = sum_j p_j v_j

// The key of the row of dropout factors of the query at position i.
static inline uint64_t attention_row_key(Attention a, int b, int h, int i) {
    uint64_t sequence_key = hash64(a.dropout.key, a.dropout.first_sequence + (uint64_t)b);
    return hash64(sequence_key, (uint64_t)h * (uint64_t)a.Tk + (uint64_t)i);
}

// 0 or 1 / (1 - rate): what the weight of key j is multiplied by.
static inline double attention_factor(Attention a, uint64_t row_key, int j) {
    if (!(a.dropout.rate > 0)) return 1;
    return dropout_factor(row_key, (uint32_t)j, dropout_threshold(a.dropout.rate), 1.0f / (1.0f - a.dropout.rate));
}

static inline double attention_dot(const float *x, const float *y, int n) {
    double sum = 0;
    for (int d = 0; d < n; d++) sum += (double)x[d] * y[d];
    return sum;
}

// Where the first key and the first value of sequence b and key/value head kv are.
static inline size_t attention_first(Attention a, int b, int kv, size_t stride, int HS) {
    return (size_t)b * (size_t)(a.keys_apart ? a.keys_apart : a.Tk) * stride + (size_t)kv * (a.kv_apart ? a.kv_apart : (size_t)HS);
}
static inline size_t attention_first_key(Attention a, int b, int kv) { return attention_first(a, b, kv, a.k_stride, a.HS_qk); }
static inline size_t attention_first_value(Attention a, int b, int kv) { return attention_first(a, b, kv, a.v_stride, a.HS_v); }

// The larger one; NaN where one is.
static inline double attention_larger(double x, double y) { return x > y || isnan(x) ? x : y; }

// Passes 1 and 2 of query i: s[0 .. keys-1], returns the largest logit of pass 1. q: the query's row; k: key 0.
static inline double attention_reference_logits(double *s, const float *q, const float *k, Attention a, int keys) {
    double largest = -INFINITY;
    for (int j = 0; j < keys; j++) {
        s[j] = a.scale * attention_dot(q, k + (size_t)j * a.k_stride, a.HS_qk);
        largest = attention_larger(s[j], largest);
        if (a.softcap > 0) s[j] = a.softcap * tanh(s[j] / a.softcap);
    }
    return largest;
}

/* As attention_forward, in plain loops and double. */
static inline void attention_reference_forward(float *out, float *lse, float *max_logit, const float *q,
                                               const float *k, const float *v, Attention a) {
    double *p = (double *)xmalloc((size_t)a.Tk * sizeof *p);
    for (int b = 0; b < a.B; b++)
        for (int h = 0; h < a.NH; h++) {
            int kv = h / (a.NH / a.NKV);
            const float *kh = k + attention_first_key(a, b, kv), *vh = v + attention_first_value(a, b, kv);
            double largest = -INFINITY;
            for (int i = 0; i < a.Tq; i++) {
                size_t row = (size_t)b * a.Tq + i;
                int keys = a.Tk - a.Tq + i + 1;
                largest = attention_larger(attention_reference_logits(p, q + row * a.q_stride + (size_t)h * a.HS_qk,
                                                                      kh, a, keys), largest);
                double m = -INFINITY, sum = 0;
                for (int j = 0; j < keys; j++) m = attention_larger(p[j], m);
                for (int j = 0; j < keys; j++) sum += exp(p[j] - m);
                double l = m + log(sum);
                uint64_t row_key = attention_row_key(a, b, h, a.Tk - a.Tq + i);
                for (int j = 0; j < keys; j++) p[j] = exp(p[j] - l) * attention_factor(a, row_key, j);
                for (int d = 0; d < a.HS_v; d++) {
                    double o = 0;
                    for (int j = 0; j < keys; j++) o += p[j] * vh[(size_t)j * a.v_stride + d];
                    out[row * a.out_stride + (size_t)h * a.HS_v + d] = (float)o;
                }
                lse[((size_t)b * a.NH + h) * a.Tq + i] = (float)l;
            }
            max_logit[(size_t)b * a.NH + h] = (float)largest;
        }
    free(p);
}

/* As attention_backward, in plain loops and double. With dp_j = factor_j * (dout_i . v_j) and
 * D = sum_j p_j dp_j = dout_i . out_i:
 *   dv_j = sum_i factor_j p_j dout_i,  ds_j = p_j (dp_j - D) * scale * (1 - (s_j / c)^2),
 *   dq_i = sum_j ds_j k_j,  dk_j = sum_i ds_j q_i */
static inline void attention_reference_backward(float *dq, float *dk, float *dv, const float *dout, const float *out,
                                                const float *lse, const float *q, const float *k, const float *v,
                                                Attention a) {
    int QK = a.HS_qk, V = a.HS_v, group = a.NH / a.NKV;
    size_t keys_qk = (size_t)a.Tk * QK, keys_v = (size_t)a.Tk * V, queries = (size_t)group * a.Tq * QK;
    double *s = (double *)xmalloc(((size_t)a.Tk + keys_qk + keys_v + queries) * sizeof *s);
    double *sum_k = s + a.Tk, *sum_v = sum_k + keys_qk, *sum_q = sum_v + keys_v;
    for (int b = 0; b < a.B; b++)
        for (int kv = 0; kv < a.NKV; kv++) {
            size_t k_at = attention_first_key(a, b, kv), v_at = attention_first_value(a, b, kv);
            size_t q_at = (size_t)b * a.Tq * a.q_stride + (size_t)kv * group * QK;
            memset(sum_k, 0, (keys_qk + keys_v + queries) * sizeof *sum_k);
            for (int h = kv * group; h < (kv + 1) * group; h++)
                for (int i = 0; i < a.Tq; i++) {
                    int keys = a.Tk - a.Tq + i + 1, head = h - kv * group;
                    const float *qi = q + q_at + (size_t)i * a.q_stride + (size_t)head * QK;
                    size_t at = ((size_t)b * a.Tq + i) * a.out_stride + (size_t)h * V;
                    double *sum_qi = sum_q + ((size_t)head * a.Tq + i) * QK;
                    double l = lse[((size_t)b * a.NH + h) * a.Tq + i], D = attention_dot(dout + at, out + at, V);
                    uint64_t row_key = attention_row_key(a, b, h, a.Tk - a.Tq + i);
                    attention_reference_logits(s, qi, k + k_at, a, keys);
                    for (int j = 0; j < keys; j++) {
                        const float *kj = k + k_at + (size_t)j * a.k_stride, *vj = v + v_at + (size_t)j * a.v_stride;
                        double p = exp(s[j] - l), factor = attention_factor(a, row_key, j);
                        double ds = p * (factor * attention_dot(dout + at, vj, V) - D) * a.scale;
                        if (a.softcap > 0) ds *= 1 - (s[j] / a.softcap) * (s[j] / a.softcap);
                        for (int d = 0; d < V; d++) sum_v[(size_t)j * V + d] += factor * p * dout[at + d];
                        for (int d = 0; d < QK; d++) sum_qi[d] += ds * kj[d];
                        for (int d = 0; d < QK; d++) sum_k[(size_t)j * QK + d] += ds * qi[d];
                    }
                }
            for (int j = 0; j < a.Tk; j++) {
                for (int d = 0; d < QK; d++) dk[k_at + (size_t)j * a.k_stride + d] = (float)sum_k[(size_t)j * QK + d];
                for (int d = 0; d < V; d++) dv[v_at + (size_t)j * a.v_stride + d] = (float)sum_v[(size_t)j * V + d];
            }
            for (int i = 0; i < a.Tq; i++)
                for (int d = 0; d < group * QK; d++)
                    dq[q_at + (size_t)i * a.q_stride + d] = (float)sum_q[((size_t)(d / QK) * a.Tq + i) * QK + d % QK];
        }
    free(s);
}

// ---------------------------------------------------------------------------------------------------------------------
// Passes over a block of logits x[rows][nr], rows being keys, lanes queries. Query `lane` sees row j where
// lane >= first + j. The width of a panel is made known to the compiler: a row is then one, two or four whole vectors.

#define ATTENTION_WIDTH(pass, ...)                      \
    do {                                                \
        if (nr == 32) pass(__VA_ARGS__, 32);            \
        else if (nr == 16) pass(__VA_ARGS__, 16);       \
        else if (nr == 8) pass(__VA_ARGS__, 8);         \
        else pass(__VA_ARGS__, nr);                     \
    } while (0)

// max[lane] = the largest of max[lane] and what the lane sees.
VEC_INLINE void attention_max_of(float *max, const float *x, int rows, int first, int nr) {
    float m[GEMM_NR_MAX];
    for (int i = 0; i < nr; i++) m[i] = max[i];
    for (int j = 0; j < rows; j++, x += nr)
        VEC_LOOP for (int i = 0; i < nr; i++) m[i] = i >= first + j && x[i] > m[i] ? x[i] : m[i];
    for (int i = 0; i < nr; i++) max[i] = m[i];
}

VEC_PASS(void, attention_max, (float *max, const float *x, int rows, int first, int nr), (max, x, rows, first, nr)) {
    ATTENTION_WIDTH(attention_max_of, max, x, rows, first);
}

// x = exp(scale x - shift[lane]), 0 where the lane doesn't see the row; sum[lane] += x
VEC_INLINE void attention_exp_of(float *x, float *sum, const float *shift, float scale, int rows, int first, int nr) {
    float l[GEMM_NR_MAX] = { 0 };
    for (int j = 0; j < rows; j++, x += nr)
        VEC_LOOP for (int i = 0; i < nr; i++) {
            float p = vec_expf(scale * x[i] - shift[i]);
            x[i] = i >= first + j ? p : 0.0f;
            l[i] += x[i];
        }
    for (int i = 0; i < nr; i++) sum[i] += l[i];
}

VEC_PASS(void, attention_exp, (float *x, float *sum, const float *shift, float scale, int rows, int first, int nr),
         (x, sum, shift, scale, rows, first, nr)) {
    ATTENTION_WIDTH(attention_exp_of, x, sum, shift, scale, rows, first);
}

// Given x the logits (if multiplied by scale) and dp, both of a block:
//   x = p = exp(s - lse[lane]),  dp = p (dp - D[lane]) * dscale * (1 - (s * cap)^2)   with s = scale x;
// 0 where the lane doesn't see the row.
VEC_INLINE void attention_gradient_of(float *x, float *dp, const float *lse, const float *D, float scale, float dscale,
                                      float cap, int rows, int first, int nr) {
    for (int j = 0; j < rows; j++, x += nr, dp += nr)
        VEC_LOOP for (int i = 0; i < nr; i++) {
            float s = scale * x[i], p = vec_expf(s - lse[i]), c = s * cap;
            float ds = p * (dp[i] - D[i]) * (dscale - dscale * c * c);
            x[i] = i >= first + j ? p : 0.0f;
            dp[i] = i >= first + j ? ds : 0.0f;
        }
}

VEC_PASS(void, attention_gradient, (float *x, float *dp, const float *lse, const float *D, float scale, float dscale,
                                    float cap, int rows, int first, int nr),
         (x, dp, lse, D, scale, dscale, cap, rows, first, nr)) {
    ATTENTION_WIDTH(attention_gradient_of, x, dp, lse, D, scale, dscale, cap, rows, first);
}

// x = c tanh(scale x / c)
VEC_PASS(void, attention_cap, (float *x, int n, float scale, float c), (x, n, scale, c)) {
    float to_tanh = scale / c;
    VEC_LOOP for (int i = 0; i < n; i++) x[i] = c * vec_tanhf(x[i] * to_tanh);
}

// x = x * y[lane]
VEC_PASS(void, attention_scale_lanes, (float *x, const float *y, int rows, int nr), (x, y, rows, nr)) {
    for (int j = 0; j < rows; j++, x += nr)
        VEC_LOOP for (int i = 0; i < nr; i++) x[i] *= y[i];
}

VEC_PASS(void, attention_multiply, (float *x, const float *y, int n), (x, y, n)) {
    VEC_LOOP for (int i = 0; i < n; i++) x[i] *= y[i];
}

// The dropout factors of a block whose first row is key j0. low, high: the halves of each lane's row key.
VEC_PASS(void, attention_factors, (float *factors, const uint32_t *low, const uint32_t *high, float rate, int j0,
                                   int rows, int nr), (factors, low, high, rate, j0, rows, nr)) {
    uint32_t threshold = dropout_threshold(rate);
    float keep_scale = 1.0f / (1.0f - rate);
    for (int j = j0; j < j0 + rows; j++, factors += nr)
        VEC_LOOP for (int i = 0; i < nr; i++)
            factors[i] = dropout_factor((uint64_t)high[i] << 32 | low[i], (uint32_t)j, threshold, keep_scale);
}

// y[i] = x[i] . z[i], rows of n floats
VEC_PASS(void, attention_dots, (float *y, const float *x, const float *z, size_t stride, int rows, int n),
         (y, x, z, stride, rows, n)) {
    for (int i = 0; i < rows; i++) y[i] = vec_dot(x + (size_t)i * stride, z + (size_t)i * stride, n);
}

// correction[lane] = exp(old - new), new taking the place of old; sum *= correction. new = c tanh(scale max / c).
VEC_PASS(void, attention_shift, (float *shift, float *correction, float *sum, const float *max, float scale, float c,
                                 int nr), (shift, correction, sum, max, scale, c, nr)) {
    VEC_LOOP for (int i = 0; i < nr; i++) {
        float s = scale * max[i], larger = c > 0.0f ? c * vec_tanhf(s / c) : s;
        correction[i] = vec_expf(shift[i] - larger);
        sum[i] *= correction[i];
        shift[i] = larger;
    }
}

// One query, as sampling has it: a pass over its keys and one over its values, nothing packed. p: room for a.Tk floats. Returns
// the largest logit, NaN where one is.
VEC_PASS(float, attention_one, (float *out, float *lse, float *p, const float *q, const float *k, const float *v, const Attention *a),
         (out, lse, p, q, k, v, a)) {
    int n = a->Tk, V = a->HS_v;
    for (int j = 0; j < n; j++) p[j] = a->scale * vec_dot(q, k + (size_t)j * a->k_stride, a->HS_qk);
    float largest = vec_max(p, n), c = a->softcap, shift = c > 0.0f ? c * vec_tanhf(largest / c) : largest, sum;
    if (c > 0.0f) VEC_LOOP for (int j = 0; j < n; j++) p[j] = c * vec_tanhf(p[j] / c);
    VEC_LOOP for (int j = 0; j < n; j++) p[j] = vec_expf(p[j] - shift);
    sum = vec_sum(p, n);
    for (int d = 0; d < V; d++) out[d] = 0.0f;
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *v0 = v + (size_t)j * a->v_stride, *v1 = v0 + a->v_stride, *v2 = v1 + a->v_stride, *v3 = v2 + a->v_stride;
        VEC_LOOP for (int d = 0; d < V; d++)
            out[d] = out[d] + p[j] * v0[d] + p[j + 1] * v1[d] + p[j + 2] * v2[d] + p[j + 3] * v3[d];
    }
    for (; j < n; j++) {
        const float *row = v + (size_t)j * a->v_stride;
        VEC_LOOP for (int d = 0; d < V; d++) out[d] += p[j] * row[d];
    }
    for (int d = 0; d < V; d++) out[d] /= sum;
    *lse = shift + logf(sum);
    return isnan(sum) ? NAN : largest;
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory, the same for all kernels: 96 is a multiple of the sides of all tiles. A kernel fills HS up to a multiple of its
// tile's side, at most 32: HS + 31 numbers hold that for each of them.

enum { ATTENTION_BLOCK = 96 };

typedef struct {
    // packed once for a key/value head
    float *k;                // lanes keys, steps dims: for S^T
    float *v;                // backward, lanes keys, steps dims: for dP^T
    float *v_dims;           // forward, lanes dims, steps the keys of a block: for O^T
    float *k_dims;           // backward, likewise: for dQ^T
    float *dk, *dv;          // backward, their sums: [keys][dims]
    // of a block of queries
    float *q, *dout;         // packed, lanes queries, steps dims; forward: one panel
    float *q_dims, *dout_dims;   // packed, lanes dims, steps queries: for dK and dV
    float *sum;              // O^T or dQ^T, [dims][nr] of each panel
    // of a block of keys and one of queries
    float *s, *dp;           // S^T, then P^T, and dP^T, then dS^T: [keys][nr] of each panel
    float *factors;          // of dropout, one panel
    float *packed;           // P^T or dS^T of one panel, where the kernel can't read it as it is
    float *turned;           // P or dS, a panel of keys, steps queries
} AttentionScratch;

// `floats` of the memory from `base` on, behind the `used` ones; just counted where base is NULL.
static inline float *attention_take(float *base, size_t *used, size_t floats) {
    float *taken = base ? base + *used : NULL;
    *used += (floats + 15) / 16 * 16;
    return taken;
}

// Cuts up the memory from `base` on. Returns how many floats it takes.
static inline size_t attention_plan(AttentionScratch *s, const Attention *a, bool backward, float *base) {
    enum { N = ATTENTION_BLOCK };
    size_t keys = (size_t)gemm_ceil_div(a->Tk, N) * N, qk = (size_t)a->HS_qk + 31, v = (size_t)a->HS_v + 31;
    size_t queries = backward ? N : GEMM_NR_MAX, used = 0;
    memset(s, 0, sizeof *s);
    s->k = attention_take(base, &used, keys * qk);
    s->q = attention_take(base, &used, queries * qk);
    s->sum = attention_take(base, &used, queries * (backward ? qk : v));
    s->s = attention_take(base, &used, queries * N);
    s->factors = attention_take(base, &used, GEMM_NR_MAX * N);
    s->packed = attention_take(base, &used, GEMM_NR_MAX * N);
    if (!backward) {
        s->v_dims = attention_take(base, &used, keys * v);
        return used;
    }
    s->v = attention_take(base, &used, keys * v);
    s->k_dims = attention_take(base, &used, keys * qk);
    s->dk = attention_take(base, &used, keys * qk);
    s->dv = attention_take(base, &used, keys * v);
    s->dout = attention_take(base, &used, queries * v);
    s->q_dims = attention_take(base, &used, queries * qk);
    s->dout_dims = attention_take(base, &used, queries * v);
    s->dp = attention_take(base, &used, queries * N);
    s->turned = attention_take(base, &used, GEMM_MR_MAX * N);
    return used;
}

/* Floats of scratch memory that attention_forward and attention_backward need for each OpenMP thread: about
 * (3 HS_qk + 2 HS_v) Tk, a multiple of 16, the same for every instruction set and precision. */
static inline size_t attention_scratch_floats(const Attention *a) {
    AttentionScratch s;
    size_t forward = attention_plan(&s, a, false, NULL), backward = attention_plan(&s, a, true, NULL);
    return forward > backward ? forward : backward;
}

static inline int attention_threads(void) { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

// ---------------------------------------------------------------------------------------------------------------------
// Packing and tiles

// Packs `lanes` lanes as panels one after the other, each `depth` steps of `x` from its first on.
static inline void attention_pack(const GemmIsa *isa, bool as_a, float *to, GemmOperand x, int lanes, int depth) {
    int width = as_a ? isa->mr : isa->nr;
    GemmPack *pack = as_a ? isa->pack_a : isa->pack_b;
    for (int lane = 0; lane < lanes; lane += width)
        for (int p = 0; p < depth; p += GEMM_KC)           // what a pack function takes at a time
            gemm_pack_panels(isa, pack, width, to + (size_t)lane * gemm_words(isa, depth) + gemm_words(isa, p) * width,
                             x, lane, gemm_min(width, lanes - lane), p, gemm_min(GEMM_KC, depth - p));
}

// Packs all Tk rows of x, lanes being the dims, in blocks of ATTENTION_BLOCK steps.
static inline void attention_pack_dims(const GemmIsa *isa, float *to, const float *x, size_t stride, int dims, int Tk) {
    size_t block = gemm_words(isa, ATTENTION_BLOCK) * (size_t)gemm_ceil_div(dims, isa->mr) * isa->mr;
    for (int j = 0; j < Tk; j += ATTENTION_BLOCK, to += block)
        attention_pack(isa, true, to, (GemmOperand){ x + (size_t)j * stride, stride, false }, dims,
                       gemm_min(ATTENTION_BLOCK, Tk - j));
}

// C[rows][nr] = A B + beta C, rows filled up to whole panels of A; these are `a_words` deep, of which `words` count.
static inline void attention_product(const GemmIsa *isa, int words, const float *a, size_t a_words, const float *b,
                                     int rows, float beta, float *c) {
    for (int i = 0; i < rows; i += isa->mr)
        isa->kernel(words, a + (size_t)i * a_words, b, 1.0f, beta, c + (size_t)i * isa->nr, (size_t)isa->nr);
}

// A block x[depth][nr] as the panel of B that the kernel reads: itself, if that is what packing would give.
static inline const float *attention_as_panel(const GemmIsa *isa, const float *x, int depth, float *packed) {
    if (isa->per_word == 1 && isa->step == 1 && !isa->rounds) return x;
    attention_pack(isa, false, packed, (GemmOperand){ x, (size_t)isa->nr, false }, isa->nr, depth);
    return packed;
}

// The columns of x[dims][nr] become the first `rows` rows of `to`.
static inline void attention_store(float *to, size_t stride, const float *x, size_t nr, int dims, int rows) {
    int d = 0;
    for (; d + 4 <= dims; d += 4) {
        const float *lane[4] = { x + d * nr, x + (d + 1) * nr, x + (d + 2) * nr, x + (d + 3) * nr };
        gemm_pack_four(to + d, stride, lane, rows);
    }
    for (; d < dims; d++)
        for (int i = 0; i < rows; i++) to[(size_t)i * stride + d] = x[d * nr + i];
}

// ---------------------------------------------------------------------------------------------------------------------
// What both passes have in common: a key/value head with its heads, and a panel of queries

typedef struct {
    Attention a;
    const GemmIsa *isa;
    AttentionScratch scratch;
    int b, h;                // sequence, query head
    float logit_scale;       // the logits are this times what stands in S^T: scale, or 1 behind the soft-cap
} AttentionJob;

// The first and the count of the lanes that exist in a panel of queries, and how many keys the last of them sees.
typedef struct { int i0, live, keys; } AttentionPanel;

static inline AttentionPanel attention_panel(const AttentionJob *job, int i0) {
    int live = gemm_min(job->isa->nr, job->a.Tq - i0);
    return (AttentionPanel){ i0, live, job->a.Tk - job->a.Tq + i0 + live };
}

// S^T of the keys from j0 on, `rows` of them, soft-capped; max: NULL, or raised to the largest of each lane before it.
static inline void attention_logits(const AttentionJob *job, AttentionPanel panel, const float *q, int j0, int rows,
                                    float *max, float *s) {
    const GemmIsa *isa = job->isa;
    size_t words = gemm_words(isa, job->a.HS_qk);
    attention_product(isa, (int)words, job->scratch.k + (size_t)j0 * words, words, q, rows, 0, s);
    if (max) attention_max(max, s, rows, j0 - (job->a.Tk - job->a.Tq + panel.i0), isa->nr);
    if (job->a.softcap > 0) attention_cap(s, rows * isa->nr, job->a.scale, job->a.softcap);
}

// The dropout factors of a block of keys.
static inline void attention_panel_factors(const AttentionJob *job, AttentionPanel panel, int j0, int rows) {
    uint32_t low[GEMM_NR_MAX] = { 0 }, high[GEMM_NR_MAX] = { 0 };
    for (int i = 0; i < panel.live; i++) {
        uint64_t key = attention_row_key(job->a, job->b, job->h, job->a.Tk - job->a.Tq + panel.i0 + i);
        low[i] = (uint32_t)key;
        high[i] = (uint32_t)(key >> 32);
    }
    attention_factors(job->scratch.factors, low, high, job->a.dropout.rate, j0, rows, job->isa->nr);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// One panel of queries. q: the first one's row; out likewise. Returns the largest logit, NaN where one is.
static inline float attention_forward_panel(const AttentionJob *job, AttentionPanel panel, const float *q, float *out,
                                            float *lse) {
    const Attention *a = &job->a;
    const GemmIsa *isa = job->isa;
    const AttentionScratch *t = &job->scratch;
    int nr = isa->nr, position = a->Tk - a->Tq + panel.i0, dims = gemm_ceil_div(a->HS_v, isa->mr) * isa->mr;
    float max[GEMM_NR_MAX], shift[GEMM_NR_MAX], sum[GEMM_NR_MAX], correction[GEMM_NR_MAX];
    for (int i = 0; i < nr; i++) max[i] = shift[i] = -INFINITY, sum[i] = 0;
    attention_pack(isa, false, t->q, (GemmOperand){ q, a->q_stride, true }, panel.live, a->HS_qk);
    for (int j0 = 0; j0 < panel.keys; j0 += ATTENTION_BLOCK) {
        int rows = gemm_min(ATTENTION_BLOCK, panel.keys - j0), words = (int)gemm_words(isa, rows);
        attention_logits(job, panel, t->q, j0, rows, max, t->s);
        attention_shift(shift, correction, sum, max, a->scale, a->softcap, nr);
        attention_exp(t->s, sum, shift, job->logit_scale, rows, j0 - position, nr);
        if (a->dropout.rate > 0) {
            attention_panel_factors(job, panel, j0, rows);
            attention_multiply(t->s, t->factors, rows * nr);
        }
        if (j0 > 0) attention_scale_lanes(t->sum, correction, dims, nr);
        attention_product(isa, words,
                          t->v_dims + (size_t)(j0 / ATTENTION_BLOCK) * dims * gemm_words(isa, ATTENTION_BLOCK),
                          gemm_words(isa, gemm_min(ATTENTION_BLOCK, a->Tk - j0)),
                          attention_as_panel(isa, t->s, rows, t->packed), dims, j0 > 0, t->sum);
    }
    float largest = -INFINITY;
    for (int i = 0; i < nr; i++) correction[i] = 1.0f / sum[i];
    attention_scale_lanes(t->sum, correction, dims, nr);
    attention_store(out, a->out_stride, t->sum, (size_t)nr, a->HS_v, panel.live);
    for (int i = 0; i < panel.live; i++) {
        lse[i] = shift[i] + logf(sum[i]);
        // A logit that is NaN isn't in max, but in the sum.
        largest = (float)attention_larger(isnan(sum[i]) ? NAN : a->scale * max[i], largest);
    }
    return largest;
}

// Queries alone in their sequences, Tq = 1, without dropout.
static inline void attention_forward_ones(float *out, float *lse, float *max_logit, const float *q, const float *k, const float *v,
                                          Attention a, float *scratch) {
    size_t floats = attention_scratch_floats(&a);
    int group = a.NH / a.NKV;
    #pragma omp parallel for schedule(static)
    for (int head = 0; head < a.B * a.NH; head++) {
        int b = head / a.NH, h = head % a.NH, kv = h / group;
        max_logit[head] = attention_one(out + (size_t)b * a.out_stride + (size_t)h * a.HS_v, lse + head,
                                        scratch + (size_t)omp_get_thread_num() * floats,
                                        q + (size_t)b * a.q_stride + (size_t)h * a.HS_qk,
                                        k + attention_first_key(a, b, kv), v + attention_first_value(a, b, kv), &a);
    }
}

/* out_i = sum over j <= i of softmax_j(scale q_i . k_j) v_j for each head, i and j being positions.
 *
 *   out         (B, Tq, NH * HS_v), rows of out_stride; written
 *   lse         (B, NH, Tq): log of the sum of exp of the logits, what the backward pass needs; written
 *   max_logit   (B, NH): the largest scaled logit before the soft-cap; written
 *   q, k, v     (B, Tq, NH * HS_qk), (B, Tk, NKV * HS_qk), (B, Tk, NKV * HS_v), rows of q_stride, k_stride, v_stride; with
 *               kv_apart each head's keys by themselves, (B, NKV, Tk, HS_qk), and its values
 *   scratch     attention_scratch_floats for each OpenMP thread, aligned to 64 bytes
 *
 * Threads share the sequences and key/value heads, or, where these are few, the query heads; the result is the same
 * bits for any number of them. A single query (Tq = 1) is computed in fp32 in any precision. NaN in q or k comes out in out, lse and max_logit,
 * NaN in v in out, there perhaps also of some queries before it. Test: dev/test/test_attn.c. */
static inline void attention_forward(float *out, float *lse, float *max_logit, const float *q, const float *k,
                                     const float *v, Attention a, float *scratch) {
    if (a.Tq == 1 && !(a.dropout.rate > 0)) {
        attention_forward_ones(out, lse, max_logit, q, k, v, a, scratch);
        return;
    }
    const GemmIsa *isa = gemm_current();
    size_t floats = attention_scratch_floats(&a);
    int group = a.NH / a.NKV, heads = a.B * a.NKV < 2 * attention_threads() ? 1 : group;    // of a task
    #pragma omp parallel
    {
        AttentionJob job = { .a = a, .isa = isa, .logit_scale = a.softcap > 0 ? 1 : a.scale };
        attention_plan(&job.scratch, &a, false, scratch + (size_t)omp_get_thread_num() * floats);
        if (isa->enter) isa->enter();
        #pragma omp for schedule(dynamic)
        for (int task = 0; task < a.B * a.NH / heads; task++) {
            int b = task * heads / a.NH, first = task * heads % a.NH, kv = first / group;
            const float *kh = k + attention_first_key(a, b, kv), *vh = v + attention_first_value(a, b, kv);
            attention_pack(isa, true, job.scratch.k, (GemmOperand){ kh, a.k_stride, true }, a.Tk, a.HS_qk);
            attention_pack_dims(isa, job.scratch.v_dims, vh, a.v_stride, a.HS_v, a.Tk);
            job.b = b;
            for (job.h = first; job.h < first + heads; job.h++) {
                size_t head = (size_t)b * a.NH + job.h;
                float largest = -INFINITY;
                for (int i0 = 0; i0 < a.Tq; i0 += isa->nr) {
                    size_t row = (size_t)b * a.Tq + i0;
                    largest = (float)attention_larger(
                        attention_forward_panel(&job, attention_panel(&job, i0),
                                                q + row * a.q_stride + (size_t)job.h * a.HS_qk,
                                                out + row * a.out_stride + (size_t)job.h * a.HS_v,
                                                lse + head * a.Tq + i0), largest);
                }
                max_logit[head] = largest;
            }
        }
        if (isa->leave) isa->leave();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

// A block of up to ATTENTION_BLOCK queries of a head, and what belongs to them.
typedef struct {
    int i0, queries;
    int dims_qk, dims_v;                                    // head sizes filled up to panels of B
    float lse[ATTENTION_BLOCK], D[ATTENTION_BLOCK];         // of queries that don't exist: 0
} AttentionQueries;

// C[keys][dims] += X^T B for the panel of keys that begins at row `row` of block x, where x[panel][keys][nr] is P^T or
// dS^T and b has the block's dO or Q, lanes dims. Panels of queries before the keys see none of them and are left out.
static inline void attention_add_keys(const AttentionJob *job, const AttentionQueries *block, const float *x, int row,
                                      int first_panel, const float *b, int dims, float *c) {
    const GemmIsa *isa = job->isa;
    int nr = isa->nr, skipped = first_panel * nr, depth = block->queries - skipped;
    for (int p = 0; p < depth; p += nr) {
        const float *rows = x + ((size_t)(skipped + p) * ATTENTION_BLOCK) + (size_t)row * nr;
        attention_pack(isa, true, job->scratch.turned + gemm_words(isa, p) * isa->mr,
                       (GemmOperand){ rows, (size_t)nr, true }, isa->mr, gemm_min(nr, depth - p));
    }
    size_t words = gemm_words(isa, block->queries);
    b += gemm_words(isa, skipped) * nr;
    for (int d = 0; d < dims; d += nr)
        isa->kernel((int)gemm_words(isa, depth), job->scratch.turned, b + (size_t)d * words, 1, 1, c + d, (size_t)dims);
}

// S^T and dP^T of one panel of queries and the keys from j0 on become P^T (with dropout) and dS^T; dQ^T += K^T dS^T.
static inline void attention_backward_panel(const AttentionJob *job, const AttentionQueries *block,
                                            AttentionPanel panel, int j0) {
    const Attention *a = &job->a;
    const GemmIsa *isa = job->isa;
    const AttentionScratch *t = &job->scratch;
    int nr = isa->nr, lane = panel.i0 - block->i0, visible = gemm_min(ATTENTION_BLOCK, panel.keys - j0);
    int rows = gemm_ceil_div(visible, isa->mr) * isa->mr;       // whole panels: attention_add_keys reads them
    int dims = gemm_ceil_div(a->HS_qk, isa->mr) * isa->mr, first = j0 - (a->Tk - a->Tq + panel.i0);
    size_t words_qk = gemm_words(isa, a->HS_qk), words_v = gemm_words(isa, a->HS_v);
    float *s = t->s + (size_t)lane * ATTENTION_BLOCK, *dp = t->dp + (size_t)lane * ATTENTION_BLOCK;
    attention_logits(job, panel, t->q + (size_t)lane * words_qk, j0, rows, NULL, s);
    attention_product(isa, (int)words_v, t->v + (size_t)j0 * words_v, words_v,
                      t->dout + (size_t)lane * words_v, rows, 0, dp);
    if (a->dropout.rate > 0) {
        attention_panel_factors(job, panel, j0, rows);
        attention_multiply(dp, t->factors, rows * nr);
    }
    attention_gradient(s, dp, block->lse + lane, block->D + lane, job->logit_scale, a->scale,
                       a->softcap > 0 ? 1 / a->softcap : 0, rows, first, nr);
    if (a->dropout.rate > 0) attention_multiply(s, t->factors, rows * nr);
    attention_product(isa, (int)gemm_words(isa, visible),
                      t->k_dims + (size_t)(j0 / ATTENTION_BLOCK) * dims * gemm_words(isa, ATTENTION_BLOCK),
                      gemm_words(isa, gemm_min(ATTENTION_BLOCK, a->Tk - j0)),
                      attention_as_panel(isa, dp, visible, t->packed), dims, j0 > 0, t->sum + (size_t)lane * dims);
}

// All keys for one block of queries: adds to dk and dv in scratch memory, writes dq. Pointers: the first query's row.
static inline void attention_backward_queries(const AttentionJob *job, int i0, float *dq, const float *dout,
                                              const float *out, const float *lse, const float *q) {
    const Attention *a = &job->a;
    const GemmIsa *isa = job->isa;
    const AttentionScratch *t = &job->scratch;
    int nr = isa->nr, mr = isa->mr, n = gemm_min(ATTENTION_BLOCK, a->Tq - i0);
    AttentionQueries block = { .i0 = i0, .queries = n, .dims_qk = gemm_ceil_div(a->HS_qk, nr) * nr,
                               .dims_v = gemm_ceil_div(a->HS_v, nr) * nr };
    memcpy(block.lse, lse, (size_t)n * sizeof *lse);
    attention_dots(block.D, dout, out, a->out_stride, n, a->HS_v);
    attention_pack(isa, false, t->q, (GemmOperand){ q, a->q_stride, true }, n, a->HS_qk);
    attention_pack(isa, false, t->dout, (GemmOperand){ dout, a->out_stride, true }, n, a->HS_v);
    attention_pack(isa, false, t->q_dims, (GemmOperand){ q, a->q_stride, false }, a->HS_qk, n);
    attention_pack(isa, false, t->dout_dims, (GemmOperand){ dout, a->out_stride, false }, a->HS_v, n);
    int panels = gemm_ceil_div(n, nr), keys = attention_panel(job, i0 + (panels - 1) * nr).keys;
    for (int j0 = 0; j0 < keys; j0 += ATTENTION_BLOCK) {
        for (int p = 0; p < panels; p++) {
            AttentionPanel panel = attention_panel(job, i0 + p * nr);
            if (j0 < panel.keys) attention_backward_panel(job, &block, panel, j0);
        }
        int first_panel = 0;                                // that sees the keys of a panel
        for (int j = j0; j < gemm_min(j0 + ATTENTION_BLOCK, keys); j += mr) {
            while (attention_panel(job, i0 + first_panel * nr).keys <= j) first_panel++;
            attention_add_keys(job, &block, t->s, j - j0, first_panel, t->dout_dims, block.dims_v,
                               t->dv + (size_t)j * block.dims_v);
            attention_add_keys(job, &block, t->dp, j - j0, first_panel, t->q_dims, block.dims_qk,
                               t->dk + (size_t)j * block.dims_qk);
        }
    }
    size_t dims = (size_t)gemm_ceil_div(a->HS_qk, mr) * mr;
    for (int p = 0; p < panels; p++)
        attention_store(dq + (size_t)p * nr * a->q_stride, a->q_stride, t->sum + (size_t)p * nr * dims, (size_t)nr,
                        a->HS_qk, gemm_min(nr, n - p * nr));
}

/* The gradients of attention_forward: dq, dk, dv from dout, the gradient of out.
 *
 *   dq, dk, dv     as q, k, v; overwritten; may be q, k and v themselves
 *   dout, out      (B, Tq, NH * HS_v), rows of out_stride; out and lse as attention_forward has written them
 *   q, k, v        as for attention_forward
 *   scratch        attention_scratch_floats for each OpenMP thread, aligned to 64 bytes
 *
 * A key/value head with all its query heads is one thread's task (with fewer of them than threads some are idle); the
 * result is the same bits for any number of threads. Formulas: attention_reference_backward.
 * Test: dev/test/test_attn.c. */
static inline void attention_backward(float *dq, float *dk, float *dv, const float *dout, const float *out,
                                      const float *lse, const float *q, const float *k, const float *v, Attention a,
                                      float *scratch) {
    const GemmIsa *isa = gemm_current();
    size_t floats = attention_scratch_floats(&a);
    int group = a.NH / a.NKV;
    #pragma omp parallel
    {
        AttentionJob job = { .a = a, .isa = isa, .logit_scale = a.softcap > 0 ? 1 : a.scale };
        AttentionScratch *t = &job.scratch;
        attention_plan(t, &a, true, scratch + (size_t)omp_get_thread_num() * floats);
        size_t dims_qk = (size_t)gemm_ceil_div(a.HS_qk, isa->nr) * isa->nr;
        size_t dims_v = (size_t)gemm_ceil_div(a.HS_v, isa->nr) * isa->nr;
        size_t keys = (size_t)gemm_ceil_div(a.Tk, isa->mr) * isa->mr;
        if (isa->enter) isa->enter();
        #pragma omp for schedule(dynamic)
        for (int task = 0; task < a.B * a.NKV; task++) {
            int b = task / a.NKV, kv = task % a.NKV;
            size_t k_at = attention_first_key(a, b, kv), v_at = attention_first_value(a, b, kv);
            attention_pack(isa, true, t->k, (GemmOperand){ k + k_at, a.k_stride, true }, a.Tk, a.HS_qk);
            attention_pack(isa, true, t->v, (GemmOperand){ v + v_at, a.v_stride, true }, a.Tk, a.HS_v);
            attention_pack_dims(isa, t->k_dims, k + k_at, a.k_stride, a.HS_qk, a.Tk);
            memset(t->dk, 0, keys * dims_qk * sizeof *t->dk);
            memset(t->dv, 0, keys * dims_v * sizeof *t->dv);
            job.b = b;
            for (job.h = kv * group; job.h < (kv + 1) * group; job.h++)
                for (int i0 = 0; i0 < a.Tq; i0 += ATTENTION_BLOCK) {
                    size_t row = (size_t)b * a.Tq + i0, q_at = row * a.q_stride + (size_t)job.h * a.HS_qk;
                    size_t out_at = row * a.out_stride + (size_t)job.h * a.HS_v;
                    attention_backward_queries(&job, i0, dq + q_at, dout + out_at, out + out_at,
                                               lse + ((size_t)b * a.NH + job.h) * a.Tq + i0, q + q_at);
                }
            for (size_t j = 0; j < (size_t)a.Tk; j++) {
                memcpy(dk + k_at + j * a.k_stride, t->dk + j * dims_qk, (size_t)a.HS_qk * sizeof *dk);
                memcpy(dv + v_at + j * a.v_stride, t->dv + j * dims_v, (size_t)a.HS_v * sizeof *dv);
            }
        }
        if (isa->leave) isa->leave();
    }
}

#endif // ATTN_H

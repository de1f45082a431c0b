/* moe.h - a mixture of experts around its products: which experts a token has and with which weights, tokens in the order
 * of their experts, and how the experts' loads are kept even.
 *
 * defines: Router, moe_top, moe_choose, moe_choose_backward, moe_sort, moe_fractions, moe_balance_loss,
 *          moe_balance_backward, moe_count_gaps, moe_move_bias, moe_quantile_bias, MoeLoad, moe_load
 *
 * The router of DeepSeek-V3 (arXiv 2412.19437, equations 12 to 20) and Kimi K2 (arXiv 2507.20534): score s = sigmoid(logit);
 * a token has the K experts with the largest s + b, b being a bias of each expert that no gradient moves; with groups of
 * experts only those of the best groups, whose score is the sum of their two best; an expert's weight is its s (without b)
 * over the sum of the chosen, times a constant.
 *
 * Letters: E experts, K of them for each token, N tokens, T tokens of a sequence. A token's place among N K rows sorted by
 * expert is place[n K + j] for its j-th expert; expert e has the rows from first[e] to first[e + 1] - 1.
 *
 * Pure functions on arrays, nothing is kept; all sums have one order. Counts are whole numbers, so that they can be added
 * over micro-batches and machines in any order. Test: dev/test/test_moe.c.
 */
#ifndef MOE_H
#define MOE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { MOE_MOST_EXPERTS = 4096 };

// K of E experts for each token, of the `kept` best of `groups` groups of them (1, 1: none); what weights add up to.
typedef struct { int E, K, groups, kept; float scale; } Router;

// ---------------------------------------------------------------------------------------------------------------------
// The choice

// A NaN beats every number, so that it is chosen and shows.
static inline bool moe_beats(float a, float b) { return a > b || (isnan(a) && !isnan(b)); }

// best (k): where the k largest of x (n) are, in order; of equal ones the lower index comes first.
static inline void moe_top(int *best, int k, const float *x, int n) {
    int have = 0;
    for (int i = 0; i < n; i++) {
        if (have == k && !moe_beats(x[i], x[best[k - 1]])) continue;
        int at = have < k ? have++ : k - 1;
        for (; at > 0 && moe_beats(x[i], x[best[at - 1]]); at--) best[at] = best[at - 1];
        best[at] = i;
    }
}

// by (E) becomes -inf for the experts of all but the r->kept groups whose two best add up to most.
static inline void moe_drop_groups(float *by, const Router *r) {
    int size = r->E / r->groups, best[2], stays[MOE_MOST_EXPERTS];
    float sums[MOE_MOST_EXPERTS];
    bool kept[MOE_MOST_EXPERTS] = {false};
    for (int g = 0; g < r->groups; g++) {
        const float *group = by + g * size;
        moe_top(best, size > 1 ? 2 : 1, group, size);
        sums[g] = group[best[0]] + (size > 1 ? group[best[1]] : 0.0f);
    }
    moe_top(stays, r->kept, sums, r->groups);
    for (int i = 0; i < r->kept; i++) kept[stays[i]] = true;
    for (int e = 0; e < r->E; e++)
        if (!kept[e / size]) by[e] = -INFINITY;
}

/* One token's experts: chosen (K), the best first, by scores + bias, both (E); weights (K) = scale * score / (the sum of the
 * chosen's + 1e-20). Returns the value of scores + bias behind the chosen ones, the (K+1)-th largest; the K-th where K is E. */
static inline float moe_choose(int *chosen, float *weights, const float *scores, const float *bias, const Router *r) {
    float by[MOE_MOST_EXPERTS], sum = 0.0f;
    int best[MOE_MOST_EXPERTS], more = r->K < r->E;
    for (int e = 0; e < r->E; e++) by[e] = scores[e] + bias[e];
    if (r->groups > 1) moe_drop_groups(by, r);
    moe_top(best, r->K + more, by, r->E);
    for (int j = 0; j < r->K; j++) sum += scores[chosen[j] = best[j]];
    for (int j = 0; j < r->K; j++) weights[j] = r->scale * scores[chosen[j]] / (sum + 1e-20f);
    return by[best[r->K - 1 + more]];
}

// dscores (E) from dweights (K), zero where an expert isn't chosen: with S the sum of the chosen's scores,
// ds_j = scale / S * (dw_j - sum over i of dw_i s_i / S).
static inline void moe_choose_backward(float *dscores, const float *dweights, const float *scores, const int *chosen,
                                       const Router *r) {
    float sum = 1e-20f, along = 0.0f;
    for (int j = 0; j < r->K; j++) sum += scores[chosen[j]];
    for (int j = 0; j < r->K; j++) along += dweights[j] * (scores[chosen[j]] / sum);
    memset(dscores, 0, (size_t)r->E * sizeof *dscores);
    for (int j = 0; j < r->K; j++) dscores[chosen[j]] = r->scale / sum * (dweights[j] - along);
}

// chosen (N, K) experts of N tokens; place (N, K) and first (E + 1) as above. Rows of one expert keep the tokens' order.
static inline void moe_sort(int *place, int *first, const int *chosen, int N, const Router *r) {
    int next[MOE_MOST_EXPERTS];
    memset(first, 0, ((size_t)r->E + 1) * sizeof *first);
    for (int i = 0; i < N * r->K; i++) first[chosen[i] + 1]++;
    for (int e = 0; e < r->E; e++) {
        next[e] = first[e];
        first[e + 1] += first[e];
    }
    for (int i = 0; i < N * r->K; i++) place[i] = next[chosen[i]]++;
}

// ---------------------------------------------------------------------------------------------------------------------
// Balance by a loss: DeepSeek-V3's sequence-wise one (equations 17 to 20). Of a sequence it is sum over e of f_e P_e, where
// f_e = E / (K T) times the tokens that have expert e, and P_e = the mean of s_e / (the sum of all scores): 1 at even loads.

// fractions (E): f of the T tokens whose experts are chosen (T, K)
static inline void moe_fractions(float *fractions, const int *chosen, int T, const Router *r) {
    memset(fractions, 0, (size_t)r->E * sizeof *fractions);
    for (int i = 0; i < T * r->K; i++) fractions[chosen[i]] += 1.0f;
    for (int e = 0; e < r->E; e++) fractions[e] *= (float)r->E / ((float)r->K * (float)T);
}

// scores (T, E) of one sequence
static inline double moe_balance_loss(const float *fractions, const float *scores, int T, int E) {
    double loss = 0.0;
    for (int t = 0; t < T; t++, scores += E) {
        double along = 0.0, sum = 0.0;
        for (int e = 0; e < E; e++) {
            along += (double)fractions[e] * scores[e];
            sum += scores[e];
        }
        loss += along / sum / T;
    }
    return loss;
}

// Of one token: adds weight / T * df_e P_e / ds to dscores (E); f counts and has no gradient. weight: of the sequence's loss
// over T, so that it is that of a token.
static inline void moe_balance_backward(float *dscores, const float *fractions, const float *scores, float weight, int E) {
    float sum = 0.0f, along = 0.0f;
    for (int e = 0; e < E; e++) {
        sum += scores[e];
        along += fractions[e] * scores[e];
    }
    for (int e = 0; e < E; e++) dscores[e] += weight / sum * (fractions[e] - along / sum);
}

// ---------------------------------------------------------------------------------------------------------------------
// Balance by the experts' biases, after a step

// Each bias moves by `rate` towards the mean load (DeepSeek-V3, section 2.1.2): up where its expert has too few tokens, down
// where too many. loads (E): tokens of the step.
static inline void moe_move_bias(float *bias, const int *loads, int E, float rate) {
    long long sum = 0;
    for (int e = 0; e < E; e++) sum += loads[e];
    for (int e = 0; e < E; e++) {                        // mean - load, in whole numbers
        long long less = sum - (long long)loads[e] * E;
        if (less != 0) bias[e] += less > 0 ? rate : -rate;
    }
}

/* Quantile balancing (Kimi K3, arXiv 2607.24653, section 2.3.3) has no rate: with a_n the (K+1)-th largest s + b of token n,
 * expert e would have just K/E of the tokens with the bias -q, q being the (1 - K/E)-quantile of s_ne - a_n over the step's
 * tokens. These gaps are counted in bins between -1 and 1; the quantile lies within one, in proportion. */
enum { MOE_BINS = 512 };

// Adds the gaps of N tokens of one expert to its bins (MOE_BINS). scores: every stride-th; next (N): a_n.
static inline void moe_count_gaps(int *bins, const float *scores, size_t stride, const float *next, int N) {
    for (int n = 0; n < N; n++) {
        float at = (scores[(size_t)n * stride] - next[n] + 1.0f) * (MOE_BINS / 2);
        bins[at > 0.0f ? at < MOE_BINS ? (int)at : MOE_BINS - 1 : 0]++;      // a NaN into the first
    }
}

// bias (E) from the bins (E, MOE_BINS) of a step; their mean becomes zero.
static inline void moe_quantile_bias(float *bias, const int *bins, const Router *r) {
    double mean = 0.0;
    for (int e = 0; e < r->E; e++, bins += MOE_BINS) {
        long long sum = 0;
        for (int i = 0; i < MOE_BINS; i++) sum += bins[i];
        double below = (double)sum * (r->E - r->K) / r->E, at = 0.0;
        for (int i = 0; i < MOE_BINS; i++) {
            if (bins[i] > 0 && below <= bins[i]) { at = i + below / bins[i]; break; }
            below -= bins[i];
        }
        bias[e] = (float)(1.0 - at / (MOE_BINS / 2));
        mean += bias[e] / (double)r->E;
    }
    for (int e = 0; e < r->E; e++) bias[e] -= (float)mean;
}

// ---------------------------------------------------------------------------------------------------------------------
// What there is to say of a layer's loads

typedef struct { double dead, largest; } MoeLoad;        // share of the experts without tokens; largest load over the mean

static inline MoeLoad moe_load(const int *loads, int E) {
    double sum = 0.0, largest = 0.0, dead = 0.0;
    for (int e = 0; e < E; e++) {
        sum += loads[e];
        dead += loads[e] == 0;
        if (loads[e] > largest) largest = loads[e];
    }
    return (MoeLoad){dead / E, sum > 0.0 ? largest * E / sum : 0.0};
}

#endif // MOE_H

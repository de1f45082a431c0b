/* average.h - running averages of the weights around an optimizer: EMA-Nesterov's look-ahead, and the tail average.
 *
 * defines: Averages, averages_bytes, averages_link, averages_ahead, averages_back, averages_follow, averages_free
 *
 * EMA-Nesterov moves the weights w ahead, along the running mean m of what steps have changed, before a step's gradient is taken; the
 * step itself goes on from there:
 *
 *     y  = w + beta m
 *     w' = the optimizer's step from y, by the gradient at y
 *     m  <- gamma m + (1 - gamma) (w' - w)
 *
 * Source: arXiv 2605.25395; with Muon inside, gamma 0.99, beta 0.6 times lr / peak lr between 16 % and 77 % of the steps, record
 * of modded-nanogpt's track 3 (its pull request 308). What a step has moved includes how far it began ahead: where steps s stay
 * alike m goes to s / (1 - beta), so that rates tuned without it are too high, and a beta of 1 or more grows without end.
 *
 * The tail average e follows the weights of the last steps, and in the end the run's weights are moved towards it:
 *
 *     e <- w at step `begin`, then e <- e + (w - e) / horizon behind each step; at the last one w <- w + mix (e - w)
 *
 * Source: modded-nanogpt's pull request 325 (horizon 150, mix 0.6, from 88 % of the steps on).
 *
 * Both are of the tensors that are trained, each on every rank whole: ranks have the same weights and so the same averages.
 */
#ifndef AVERAGE_H
#define AVERAGE_H

#include "units.h"

typedef struct {
    const MuonParam *groups; // (n_groups) the model's tensors
    int n_groups;
    float *params;           // (n) its weights, in which these lie
    size_t n;
    float *kept, *mean;      // (n) w before it was moved ahead, and m; NULL without EMA-Nesterov
    float *tail;             // (n) e; NULL: none
} Averages;

// What both need for n weights.
static inline double averages_bytes(size_t n, bool ahead, bool tail) { return (double)sizeof(float) * (double)n * (2 * ahead + tail); }

// Zero averages of the n weights at params, once the groups' have addresses. To be freed by averages_free.
static inline Averages averages_link(const MuonParam *groups, int n_groups, float *params, size_t n, bool ahead, bool tail) {
    Averages a = {groups, n_groups, params, n, NULL, NULL, NULL};
    if (ahead) a.kept = (float *)xaligned(n * sizeof(float)), a.mean = (float *)xcalloc(n, sizeof(float));
    if (tail) a.tail = (float *)xcalloc(n, sizeof(float));
    return a;
}

static inline void averages_free(Averages *a) { free(a->kept), free(a->mean), free(a->tail); }

VEC_PASS(void, average_move, (float *w, const float *mean, size_t n, float beta), (w, mean, n, beta)) {
    VEC_LOOP for (size_t i = 0; i < n; i++) w[i] += beta * mean[i];
}

VEC_PASS(void, average_change, (float *mean, const float *w, const float *before, size_t n, float gamma), (mean, w, before, n, gamma)) {
    VEC_LOOP for (size_t i = 0; i < n; i++) mean[i] = gamma * mean[i] + (1 - gamma) * (w[i] - before[i]);
}

// x <- x + share (y - x): where both are equal, nothing changes.
VEC_PASS(void, average_towards, (float *x, const float *y, size_t n, float share), (x, y, n, share)) {
    VEC_LOOP for (size_t i = 0; i < n; i++) x[i] += share * (y[i] - x[i]);
}

// Runs BODY over every matrix of a trained tensor: `at`, where it begins in the model's weights, and `size`, its numbers.
#define AVERAGES_EACH(a, BODY)                                                                                      \
    _Pragma("omp parallel for schedule(dynamic)")                                                                   \
    for (int g_ = 0; g_ < (a)->n_groups; g_++)                                                                      \
        for (int k_ = 0; k_ < (a)->groups[g_].count && (a)->groups[g_].rule != MUON_RULE_NONE; k_++) {              \
            size_t at = (size_t)((a)->groups[g_].w - (a)->params) + (size_t)k_ * (a)->groups[g_].stride,            \
                   size = (size_t)(a)->groups[g_].rows * (size_t)(a)->groups[g_].cols;                              \
            BODY;                                                                                                   \
        }

// Before a step: w <- w + beta m. averages_back undoes it, to the bit.
static inline void averages_ahead(Averages *a, double beta) {
    memcpy(a->kept, a->params, a->n * sizeof(float));
    if (beta == 0) return;
    AVERAGES_EACH(a, average_move(a->params + at, a->mean + at, size, (float)beta))
}

static inline void averages_back(Averages *a) { memcpy(a->params, a->kept, a->n * sizeof(float)); }

/* Behind the step that averages_ahead began: m follows what it changed. */
static inline void averages_follow(Averages *a, double gamma) {
    AVERAGES_EACH(a, average_change(a->mean + at, a->params + at, a->kept + at, size, (float)gamma))
}

// e <- w; e <- e + (w - e) / horizon; w <- w + mix (e - w).
static inline void averages_begin_tail(Averages *a) { memcpy(a->tail, a->params, a->n * sizeof(float)); }
static inline void averages_follow_tail(Averages *a, double horizon) {
    AVERAGES_EACH(a, average_towards(a->tail + at, a->params + at, size, (float)(1 / horizon)))
}
static inline void averages_mix_tail(Averages *a, double mix) {
    AVERAGES_EACH(a, average_towards(a->params + at, a->tail + at, size, (float)mix))
}

#endif // AVERAGE_H

/* sample.h - chooses the next token of a text from a model's logits.
 *
 * defines: SampleRule, sample_plainly, SampleRoom, sample_room, sample_room_free, sample_token
 *
 * The rules apply in the order of Hugging Face's generate(), so that the same numbers mean the same distribution there:
 *
 *     repetition_penalty   z = z > 0 ? z / penalty : z * penalty for every token that the text has (Keskar et al., "CTRL", 2019)
 *     temperature          p = softmax(z / temperature)
 *     top_k                only the k likeliest tokens (Fan et al., 2018)
 *     top_p                of these the likeliest, until they have this share of the probability (Holtzman et al., "nucleus", 2019)
 *     min_p                of these no token of less than this times the largest probability (Nguyen et al., 2024)
 *
 * Of equal logits the lower token is the likelier one.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include "util.h"

typedef struct {
    double temperature;          // 0: the likeliest token
    int top_k;                   // 0: all
    double top_p, min_p;         // from 1 and 0 on: all
    double repetition_penalty;   // 1: none
} SampleRule;

// The model's own distribution at a temperature.
static inline SampleRule sample_plainly(double temperature) {
    return (SampleRule){.temperature = temperature, .top_p = 1, .repetition_penalty = 1};
}

typedef struct { float z; int token; } SampleCandidate;

// Memory for a vocabulary's candidates, once for all tokens of a text.
typedef struct { SampleCandidate *heap, *kept; } SampleRoom;

static inline SampleRoom sample_room(int V) {
    return (SampleRoom){(SampleCandidate *)xmalloc((size_t)V * sizeof(SampleCandidate)),
                        (SampleCandidate *)xmalloc((size_t)V * sizeof(SampleCandidate))};
}

static inline void sample_room_free(SampleRoom room) { free(room.heap), free(room.kept); }

static inline bool sample_likelier(SampleCandidate a, SampleCandidate b) { return a.z > b.z || (a.z == b.z && a.token < b.token); }

// Restores the order of a heap of n candidates, the likeliest on top, whose candidate i may stand too high.
static inline void sample_sink(SampleCandidate *heap, int n, int i) {
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && sample_likelier(heap[child + 1], heap[child])) child++;
        if (!sample_likelier(heap[child], heap[i])) return;
        SampleCandidate moved = heap[i];
        heap[i] = heap[child], heap[child] = moved;
    }
}

// Takes the likeliest of the heap's n candidates out of it.
static inline SampleCandidate sample_pop(SampleCandidate *heap, int *n) {
    SampleCandidate top = heap[0];
    heap[0] = heap[--*n];
    sample_sink(heap, *n, 0);
    return top;
}

// The candidates that top_k, top_p and min_p leave, the likeliest first, into room.kept. weights: the sum of exp((z - largest) /
// temperature) of all V.
static inline int sample_filter(SampleRoom room, const float *z, int V, const SampleRule *rule, double weights) {
    int n = V, kept = 0, most = rule->top_k > 0 && rule->top_k < V ? rule->top_k : V;
    for (int v = 0; v < V; v++) room.heap[v] = (SampleCandidate){z[v], v};
    for (int i = V / 2 - 1; i >= 0; i--) sample_sink(room.heap, V, i);
    float largest = room.heap[0].z;
    if (most < V)                       // probabilities are those among the k likeliest
        for (weights = 0; kept < most; kept++) {
            room.kept[kept] = sample_pop(room.heap, &n);
            weights += exp((room.kept[kept].z - largest) / rule->temperature);
        }
    double before = 0;
    for (int i = 0; i < most; i++) {
        if (i == kept) room.kept[kept++] = sample_pop(room.heap, &n);
        double weight = exp((room.kept[i].z - largest) / rule->temperature);
        if (i > 0 && (before >= rule->top_p * weights || weight < rule->min_p)) return i;
        before += weight;
    }
    return most;
}

/* The next token. z: (V) finite logits, to which the penalty is applied in place; seen: (V) whether the text has a token, NULL
 * where rule->repetition_penalty is 1; draw: uniform in [0, 1), which decides among the tokens that are left. */
static inline int sample_token(float *z, int V, const SampleRule *rule, const uint8_t *seen, double draw, SampleRoom room) {
    double penalty = rule->repetition_penalty;
    for (int v = 0; v < V && penalty != 1; v++)
        if (seen[v]) z[v] = (float)(z[v] > 0 ? z[v] / penalty : z[v] * penalty);
    int likeliest = 0;
    for (int v = 1; v < V; v++) if (z[v] > z[likeliest]) likeliest = v;
    if (!(rule->temperature > 0)) return likeliest;

    double weights = 0, below = 0;
    for (int v = 0; v < V; v++) weights += exp((z[v] - z[likeliest]) / rule->temperature);
    bool all = rule->top_k <= 0 && rule->top_p >= 1 && rule->min_p <= 0;
    int n = all ? V : sample_filter(room, z, V, rule, weights), token = likeliest;
    if (!all) {
        weights = 0;
        for (int i = 0; i < n; i++) weights += exp((room.kept[i].z - z[likeliest]) / rule->temperature);
    }
    for (int i = 0; i < n && below <= draw * weights; i++) {
        token = all ? i : room.kept[i].token;
        below += exp((z[token] - z[likeliest]) / rule->temperature);
    }
    return token;
}

#endif // SAMPLE_H

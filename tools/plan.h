/* plan.h - which model a budget buys: shape, vocabulary, batch, steps and rates, by a law of losses and what a machine was
 * measured to do.
 *
 * defines: Costs, WidthCosts, Machine, machine_costs, TextFacts, Budgeted, Given, Candidate, batch_tokens,
 *          dropout_rate, candidate_seconds, candidate_of, plan_best, plan_wider
 *
 * Arithmetic only, so that tests can make up a machine and a text: tools/plan.c measures both.
 */
#ifndef PLAN_H
#define PLAN_H

#include <limits.h>
#include "../src/rates.h"
#include "law.h"

// ---------------------------------------------------------------------------------------------------------------------
// The machine: what a token and a step take. Both are base + L layer + V vocab seconds, for L layers and V tokens of
// vocabulary, which three trainings tell apart.

typedef struct { double base, layer, vocab; } Costs;
typedef struct { int width, bf16; Costs token, step; } WidthCosts;           // step: the optimizer's

enum { MACHINE_WIDTHS = 32 };
typedef struct { WidthCosts of[MACHINE_WIDTHS]; int n; } Machine;

static inline double costs_at(Costs c, int layers, int vocab) { return c.base + layers * c.layer + vocab * c.vocab; }

// Of a width: as measured, else from the nearest one that was. Products of a layer grow as C^2, Newton-Schulz's as C^3, all
// else as C.
static inline WidthCosts machine_costs(const Machine *m, int width, int bf16) {
    const WidthCosts *near = NULL;
    for (const WidthCosts *w = m->of; w < m->of + m->n; w++)
        if (w->bf16 == bf16 && (!near || fabs(log((double)w->width / width)) < fabs(log((double)near->width / width)))) near = w;
    if (!near) return (WidthCosts){width, bf16, {INFINITY, 0, 0}, {0, 0, 0}};
    double r = (double)width / near->width;
    return (WidthCosts){width, bf16, {near->token.base * r, near->token.layer * r * r, near->token.vocab * r},
                        {near->step.base * r, near->step.layer * r * r * r, near->step.vocab * r}};
}

static inline bool machine_knows(const Machine *m, int width, int bf16) {
    for (const WidthCosts *w = m->of; w < m->of + m->n; w++)
        if (w->width == width && w->bf16 == bf16) return true;
    return false;
}

// ---------------------------------------------------------------------------------------------------------------------
// What is asked for, and of which text

enum { TEXT_VOCABS = 8 };
typedef struct {
    double bytes, val_bytes;             // of training and of validation
    double deflate;                      // bits a byte, by zlib
    int n;                               // vocabularies to choose from
    struct { int size; double bytes_per_token, seconds; } vocab[TEXT_VOCABS];        // seconds: to train the tokenizer and to apply it
} TextFacts;

typedef struct { double seconds, used, tokens, params; } Budgeted;          // one of seconds, tokens, params; the others 0; used: of the seconds

// Keys that a user has given, 0 where the plan may choose; bf16, dropout: -1 where it may.
typedef struct { int layers, width, heads, context, batch, steps, bf16; double dropout; } Given;

typedef struct {
    int layers, width, context, vocab, batch, steps, bf16;
    double params, weights;              // all; those that multiply each token
    double bytes_per_token, tokens, seconds, prepare_seconds, bits, dropout;
    int eval_every;
    double eval_tokens, final_tokens;    // of a validation on the way, and at the end
} Candidate;

// ---------------------------------------------------------------------------------------------------------------------
// Rules that are not the law's. Each has its source; those of the learning rates are in rates.h.

// Tokens of a step for D tokens in all, a power of two. dev/exp/batch: Muon loses nothing at 1,024 against 256 for D =
// 393,216, but 0.1 nats at 4,096; the default run has 2,048 for 2.46M. So it grows as sqrt(D), and steps do.
static inline double batch_tokens(double D) { return exp2(fmin(fmax(round(log2(1.3 * sqrt(D))), 8), 16)); }

// None until a text was read eight times; then as nanoGPT's small recipes. A guess.
static inline double dropout_rate(double epochs) { return epochs <= 8 ? 0 : epochs <= 20 ? 0.1 : 0.2; }

// Tokens of a sequence: about 400 bytes of text, 64 to 256 tokens.
static inline int context_tokens(double bytes_per_token) {
    return (int)exp2(fmin(fmax(round(log2(400 / bytes_per_token)), 6), 8));
}

// ---------------------------------------------------------------------------------------------------------------------
// The choice

enum { PLAN_VALIDATIONS = 10 };          // on the way
#define AROUND_SECONDS 1.5               // to start, save, draw and sample

// Sets batch and steps for D tokens, and what validations take: they may cost a few per cent of the training.
static inline void candidate_steps(Candidate *c, const Given *g, const TextFacts *text, double D) {
    c->batch = g->batch ? g->batch : (int)fmax(1, batch_tokens(D) / c->context);
    double step = (double)c->batch * c->context;
    c->steps = (int)fmax(1, fmin(round(D / step), 1e9));
    if (g->steps && c->steps > g->steps) c->steps = g->steps;
    c->tokens = c->steps * step;
    c->eval_every = (c->steps + PLAN_VALIDATIONS - 1) / PLAN_VALIDATIONS;
    double all = text->val_bytes / c->bytes_per_token;
    c->eval_tokens = fmin(all, fmax(c->context, fmin(32768, c->tokens / 100)));
    c->final_tokens = fmin(all, fmax(c->context, 0.15 * c->tokens));
}

// Seconds that all of it takes: what was used before, the tokenizer, the steps, validations (a third of a training's token),
// and starting, saving, the picture, the sample.
static inline double candidate_seconds(const Candidate *c, const WidthCosts *w, double used) {
    double token = costs_at(w->token, c->layers, c->vocab), step = costs_at(w->step, c->layers, c->vocab);
    return used + c->prepare_seconds + AROUND_SECONDS + c->tokens * token + c->steps * step +
           ((PLAN_VALIDATIONS + 1) * c->eval_tokens + c->final_tokens) * token / 3;
}

// The tokens that a candidate may read in the seconds that are asked for; 0 where not even a few steps fit.
static inline double candidate_fit(Candidate *c, const Given *g, const TextFacts *text, const WidthCosts *w, const Budgeted *b) {
    double D = 1e6, left = b->seconds - b->used - c->prepare_seconds - AROUND_SECONDS;
    for (int i = 0; i < 12 && left > 0; i++) {           // the batch follows D
        candidate_steps(c, g, text, D);
        D = left * c->tokens / (candidate_seconds(c, w, b->used) + left - b->seconds);
    }
    if (!(left > 0)) return 0;
    c->steps = (int)fmin(D / ((double)c->batch * c->context), g->steps ? g->steps : 1e9);
    c->tokens = (double)c->steps * c->batch * c->context;
    c->eval_every = (c->steps + PLAN_VALIDATIONS - 1) / PLAN_VALIDATIONS;
    return c->steps >= 20 ? c->tokens : 0;
}

// Completes a candidate whose shape, vocabulary and sizes are set. False where the budget buys none of it.
static inline bool candidate_of(Candidate *c, const Given *g, const TextFacts *text, const Machine *m, const Budgeted *b, const Law *law,
                                const LawOf *of) {
    WidthCosts w = machine_costs(m, c->width, c->bf16);
    if (!g->context) c->context = context_tokens(c->bytes_per_token);
    while (!g->context && c->context > 16 && text->val_bytes / c->bytes_per_token < 2 * c->context) c->context /= 2;
    double D = b->tokens;
    if (b->params > 0) {
        double raw = law_raw_bytes(of, law_best_bytes(of, c->weights), text->bytes), most = text->bytes * of->repeat;
        D = fmin(raw, most) / c->bytes_per_token;
    }
    if (b->seconds > 0 && candidate_fit(c, g, text, &w, b) == 0) return false;
    if (b->seconds == 0) candidate_steps(c, g, text, D);
    c->seconds = candidate_seconds(c, &w, b->used);
    double epochs = c->tokens * c->bytes_per_token / text->bytes;
    c->dropout = g->dropout >= 0 ? g->dropout : dropout_rate(epochs);
    c->bits = law_bits(law, of, c->weights, c->tokens * c->bytes_per_token, text->bytes, c->vocab, law_hardness(law, text->deflate));
    return isfinite(c->bits);
}

// How far a candidate is from what is asked for: of minutes its loss counts; of parameters their number; of tokens the weights
// that are compute-optimal for them.
static inline double candidate_distance(const Candidate *c, const TextFacts *text, const Budgeted *b, const LawOf *of) {
    if (b->seconds > 0) return c->bits;
    double wanted = b->params > 0 ? b->params : law_best_weights(of, law_effective_bytes(of, c->tokens * c->bytes_per_token, text->bytes));
    return fabs(log((b->params > 0 ? c->params : c->weights) / wanted));
}

// A shape's sizes, and whether the machine has the memory for it: of the trainer, or a test's.
typedef bool PlanShape(void *context, Candidate *c);

// Widths, multiples of a head's 32 channels.
static const int plan_widths[] = {32, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536};

// The next wider one; of the widest, itself.
static inline int plan_wider(int width) {
    for (size_t i = 0; i < COUNT_OF(plan_widths); i++)
        if (plan_widths[i] > width) return plan_widths[i];
    return width;
}

/* The best candidate among widths from least to most, depths of about a layer for each 32 channels (4 x 128, as all of
 * configs/), all vocabularies. Where minutes are asked for it is the one of the lowest loss; else of each vocabulary the
 * nearest, and of these the one of the lowest loss. Where the vocabulary is free the head has at most half of the weights: the
 * law was fitted to such models. Returns false where there is none. */
static inline bool plan_best(Candidate *best, int least, int most, const Given *g, const TextFacts *text, const Machine *m, const Budgeted *b,
                             const Law *law, const LawOf *of, PlanShape *shape, void *context) {
    bool found = false;
    for (int v = 0; v < text->n; v++) {
        Candidate nearest = {0};
        double distance = INFINITY;
        for (size_t i = 0; i < (g->width ? 1 : COUNT_OF(plan_widths)); i++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                int width = g->width ? g->width : plan_widths[i], deep = (width + 16) / 32, slack = g->width ? deep / 2 + 1 : 1;
                if (width < least || width > most || (g->bf16 >= 0 && bf16 != g->bf16)) continue;
                for (int layers = g->layers ? g->layers : deep - slack; layers <= (g->layers ? g->layers : deep + slack); layers++) {
                    Candidate c = {.layers = layers, .width = width, .context = g->context, .vocab = text->vocab[v].size, .bf16 = bf16,
                                   .bytes_per_token = text->vocab[v].bytes_per_token, .prepare_seconds = text->vocab[v].seconds};
                    if (layers < 1 || (layers < 2 && !g->layers) || !shape(context, &c)) continue;
                    if (text->n > 1 && c.weights < 2.0 * c.vocab * width) continue;
                    if (!candidate_of(&c, g, text, m, b, law, of)) continue;
                    double d = candidate_distance(&c, text, b, of);
                    if (d < distance) nearest = c, distance = d;
                }
            }
        if (distance < INFINITY && (!found || nearest.bits < best->bits)) *best = nearest, found = true;
    }
    return found;
}

#endif // PLAN_H

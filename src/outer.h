/* outer.h - local steps, for slow networks: ranks train alone, and every K steps all go on from a mean of their weights.
 *
 * defines: Outer, outer_plan, outer_bytes, outer_link, outer_begin, outer_step, outer_free
 *
 * Each rank makes K steps by the optimizer of the config, with moments of its own, on its own share of the batches. Then, with
 * w_r for the weights of rank r and a for those from which all had begun (the anchor),
 *
 *     d = a - mean of all w_r         the displacement, which stands for a gradient
 *     v <- mu v + d
 *     a <- a - eta (d + mu v)         torch.optim.SGD with nesterov=True
 *     w_r <- a
 *
 * Source: DiLoCo, arXiv 2311.08105, algorithm 1, with AdamW inside; MuLoCo, arXiv 2505.23725, with Muon inside. On one rank it is
 * an optimizer around another one (with mu = 0 the lookahead of arXiv 1907.08610).
 *
 * The outer step is one of muon.h's, by the rule sgd. It is shared out as steps by matrices are, by units (units.h): a and v are
 * only on the rank that owns a unit, and in K steps a rank sends 8 P (N - 1) / N bytes, as it otherwise does in each.
 */
#ifndef OUTER_H
#define OUTER_H

#include "units.h"

typedef struct {
    Units units;             // of all weights that a step changes
    MuonParam *groups;       // (n_groups) these by tensor, under sgd, in the model's memory
    int n_groups;
    MuonOptions options;
    MuonParam *table;        // (n) units that this rank owns: w is the anchor, g the displacement, made in the model's weights
    int n;
    Muon muon;               // its state is the velocity v
    float *anchor;           // (floats) of these units, one behind the other
    size_t floats, state_bytes;
    void *state;
} Outer;

/* The plan for the optimizer's table of n groups: all but those under the rule none. Their weights need no addresses yet. eta is
 * lr, mu momentum, in [0, 1). To be freed by outer_free. */
static inline Outer outer_plan(const MuonParam *groups, const UnitPlace *places, int n, double lr, double momentum, int ranks,
                               int rank) {
    Outer o = {.n_groups = n, .options = muon_default_options()};
    o.options.momentum = momentum, o.options.nesterov = o.options.accumulate = 1;
    o.groups = (MuonParam *)xcalloc((size_t)n, sizeof *o.groups);
    for (int g = 0; g < n; g++) {
        const MuonParam *p = &groups[g];
        o.groups[g] = (MuonParam){.name = p->name, .count = p->count, .rows = p->rows, .cols = p->cols, .stride = p->stride,
                                  .rule = p->rule == MUON_RULE_NONE ? MUON_RULE_NONE : MUON_RULE_SGD, .lr = lr};
    }
    o.units = units_plan(o.groups, places, n, &o.options, ranks, rank, false);
    o.table = (MuonParam *)xcalloc((size_t)o.units.n, sizeof *o.table);
    for (int i = 0; i < o.units.n; i++) {
        const Unit *u = &o.units.list[i];
        if (u->owner != rank) continue;
        MuonParam *p = &o.table[o.n++];
        *p = o.groups[u->group];
        p->count = 1, p->rows = u->rows;
        o.floats += u->n;
    }
    o.state_bytes = muon_state_bytes(o.table, o.n, &o.options);
    return o;
}

// Of anchor, velocity and messages, on this rank.
static inline double outer_bytes(const Outer *o) {
    return (double)(sizeof(float) * (o->floats + o->units.room_floats) + o->state_bytes);
}

/* Allocates them, once the n groups' weights have addresses; params: the first of n_params weights. Velocities are zero. */
static inline void outer_link(Outer *o, const MuonParam *groups, float *params, size_t n_params) {
    for (int g = 0; g < o->n_groups; g++) o->groups[g].w = groups[g].w, o->groups[g].g = groups[g].g;
    units_link(&o->units, o->groups, o->n_groups, params, n_params);
    o->anchor = (float *)xaligned((o->floats + 1) * sizeof *o->anchor);
    o->state = xmalloc(o->state_bytes + 1);
    float *w = o->anchor;
    for (int i = 0, own = 0; i < o->units.n; i++) {
        const Unit *u = &o->units.list[i];
        if (u->owner != o->units.rank) continue;
        o->table[own].w = w, o->table[own++].g = params + u->at;
        w += u->n;
    }
    int code = muon_init(&o->muon, o->table, o->n, &o->options, o->state);
    if (code != MUON_OK) fail("outer step: %s", muon_strerror(code));
}

static inline size_t outer_size(const MuonParam *p) { return (size_t)p->rows * (size_t)p->cols; }

// The anchor is what the weights are now.
static inline void outer_begin(Outer *o) {
    for (MuonParam *p = o->table; p < o->table + o->n; p++) memcpy(p->w, p->g, outer_size(p) * sizeof *p->w);
}

// d <- a - d / ranks, of a sum of the ranks' weights in d.
VEC_PASS(void, outer_displace, (float *d, const float *a, size_t n, float ranks), (d, a, n, ranks)) {
    VEC_LOOP for (size_t i = 0; i < n; i++) d[i] = a[i] - d[i] / ranks;
}

/* The outer step on params, the model's weights on this rank: on return those of all ranks are the same. Collective. Returns a
 * MUON_E_*, of this rank's units: MUON_E_NOT_FINITE where a weight had become NaN or infinite; what then is shared is to be
 * thrown away by all. */
static inline int outer_step(Outer *o, float *params) {
    Units *u = &o->units;
    units_begin(u);
    units_ready(u, &params, 0, INT_MIN);
    units_finish(u, params);
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < o->n; i++)
        outer_displace(params + (o->table[i].g - params), o->table[i].w, outer_size(&o->table[i]), (float)u->ranks);
    int code = muon_step(&o->muon, 1.0, 1.0, NULL, omp_get_max_threads());
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < o->n; i++)
        memcpy(params + (o->table[i].g - params), o->table[i].w, outer_size(&o->table[i]) * sizeof *params);
    units_share_weights(u, params, true);
    return code;
}

static inline void outer_free(Outer *o) {
    if (!o->groups) return;
    units_free(&o->units);
    free(o->groups), free(o->table), free(o->anchor), free(o->state);
}

#endif // OUTER_H

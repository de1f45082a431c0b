/* units.h - which rank steps which weights, and how gradients get there and weights come back.
 *
 * defines: UnitPlace, Unit, Units, units_plan, units_own, units_link, units_free, units_add_long, units_begin,
 *          units_ready, units_finish, units_grad_norm, units_share_weights, UnitSlice, units_slice, units_gather_state
 *
 * A unit is what one rank updates as a whole: a matrix under a rule that transforms matrices; of tensors under elementwise rules
 * some rows. Each has one owner: the units with most work first, to the rank that has least (LPT: Graham, "Bounds on
 * multiprocessing timing anomalies", 1969) - matrices by their FLOPs, the others by the bytes of all that a rank keeps. Units
 * depend on the model alone, owners on it and on the number of ranks: no rank has to ask another.
 *
 *     every rank    gradients of its parts of the batch, summed in their tree
 *     to the owner  each unit's sums of all ranks (ranks - 1 messages), which it adds up in the same tree
 *     the owner     keeps momentum and second moments of its units, steps them
 *     from it       each unit's new weights, to all
 *
 * Bytes that a rank sends in a step: 4 P (N - 1) / N of gradients and as many of weights, the least that an all-reduce of P
 * gradients needs; half of that as bf16. Gradients leave while the backward pass still runs. On one rank nothing moves, and the
 * optimizer's table is the caller's.
 */
#ifndef UNITS_H
#define UNITS_H

#include <limits.h>
#include "dist.h"
#include "gemm.h"
#include "openmp.h"
#include "vec.h"
#include "../muon.h"

typedef struct { int first_layer, each; } UnitPlace;    // of a group: matrix i is of layer first_layer + i / each

typedef struct {
    int group, matrix;       // of the caller's table
    int row, rows;           // of the matrix
    int layer;               // backward passes go from the highest to the lowest
    size_t at, n;            // floats from the first parameter on, and how many
    int owner;
    bool vector;
} Unit;

typedef struct {
    int rank, ranks;
    Unit *list;              // n of them, group by group and matrix by matrix, but for tensors that nobody trains
    int n;
    int *turns;              // (n) their numbers, in the order in which gradients come
    const MuonParam *owned;  // n_owned, of this rank: one for each unit; on one rank the caller's table
    int n_owned;
    int *owned_units;        // (n_owned) the units' numbers; NULL on one rank
    double flops;            // of this rank's units in a step
    size_t room_floats;      // for what other ranks send of units that this one owns
    float *room;
    bool halves;             // numbers travel as bf16, but those of vectors
    uint16_t *half;          // then: what is under way, where the parameters have it
    float *rest;             // what gradients that were sent have lost by it, and get back in the next step
    DistMessages sends, receives;
    int ready, next, end;    // of turns: up to here gradients are made; from next to end their owner receives now
} Units;

// ---------------------------------------------------------------------------------------------------------------------
// The plan

enum { UNITS_PIECES = 256,               // elementwise units have about as many weights as all elementwise weights over this
       UNITS_ROOM = 1 << 22 };           // floats; more where a unit needs it

// Floats of state that a unit has, by what the whole tensor has.
static inline double units_state_floats(const MuonParam *p, const MuonOptions *options, const Unit *u) {
    double whole = (double)muon_state_bytes(p, 1, options) / sizeof(float);
    return whole / p->count * u->rows / p->rows;
}

// Adds a group's units, or where units is NULL yet only counts them. piece: floats of an elementwise one.
static inline void units_add_units(Units *s, const MuonParam *p, int group, UnitPlace place, size_t piece) {
    int rows = p->rows;
    if (!muon_rule_is_for_matrices(p->rule)) rows = (int)(piece / (size_t)p->cols ? piece / (size_t)p->cols : 1);
    for (int matrix = 0; matrix < p->count && p->rule != MUON_RULE_NONE; matrix++)
        for (int row = 0; row < p->rows; row += rows, s->n++) {
            int here = p->rows - row < rows ? p->rows - row : rows;
            if (s->list) s->list[s->n] = (Unit){.group = group, .matrix = matrix, .row = row, .rows = here,
                                                       .layer = place.first_layer + matrix / place.each, .vector = p->rows == 1,
                                                       .n = (size_t)here * (size_t)p->cols};
        }
}

// What counts where work doesn't: state, or where the rule keeps none what travels.
static inline double units_weight(const MuonParam *p, const MuonOptions *options, const Unit *u) {
    double state = units_state_floats(p, options, u);
    return state > 0 ? state : (double)u->n;
}

typedef struct { double work; int unit; } UnitWork;

// The largest first; equal ones in their order.
static inline int units_compare_work(const void *a, const void *b) {
    const UnitWork *x = (const UnitWork *)a, *y = (const UnitWork *)b;
    return x->work != y->work ? (x->work < y->work) - (x->work > y->work) : x->unit - y->unit;
}

static inline int units_least(const double *loads, int n) {
    int least = 0;
    for (int i = 1; i < n; i++) if (loads[i] < loads[least]) least = i;
    return least;
}

// Units with products by their FLOPs, then the others by bytes of state.
static inline void units_choose_owners(Units *s, const MuonParam *groups, const MuonOptions *options) {
    int ranks = s->ranks;
    double *flops = (double *)xcalloc((size_t)ranks, sizeof *flops), *bytes = (double *)xcalloc((size_t)ranks, sizeof *bytes);
    UnitWork *work = (UnitWork *)xcalloc((size_t)s->n, sizeof *work);
    for (int pass = 0; pass < 2; pass++) {
        int n = 0;
        for (int i = 0; i < s->n; i++) {
            const MuonParam *p = &groups[s->list[i].group];
            bool products = muon_rule_is_for_matrices(p->rule);
            double cost = muon_param_flops(p, options);
            if (cost == 0) cost = (double)s->list[i].n;         // an SVD's work depends on the matrix
            if (products == (pass == 0))
                work[n++] = (UnitWork){products ? cost : units_weight(p, options, &s->list[i]), i};
        }
        qsort(work, (size_t)n, sizeof *work, units_compare_work);
        for (int i = 0; i < n; i++) {
            Unit *u = &s->list[work[i].unit];
            u->owner = units_least(pass == 0 ? flops : bytes, ranks);
            flops[u->owner] += pass == 0 ? work[i].work : 0;
            bytes[u->owner] += units_weight(&groups[u->group], options, u);
        }
    }
    free(flops), free(bytes), free(work);
}

// turns: unit after unit, those of the highest layer first.
static inline void units_order(Units *s) {
    int n = 0, lowest = 0, highest = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->list[i].layer < lowest) lowest = s->list[i].layer;
        if (s->list[i].layer > highest) highest = s->list[i].layer;
    }
    for (int layer = highest; layer >= lowest; layer--)
        for (int i = 0; i < s->n; i++) if (s->list[i].layer == layer) s->turns[n++] = i;
}

static inline void units_free_owned(Units *s) {
    if (s->owned_units) free((MuonParam *)(uintptr_t)s->owned);
    free(s->owned_units);
    s->owned_units = NULL;
}

/* Units and their owners among the ranks, for the optimizer's table of n groups, whose weights need no addresses yet. halves:
 * gradients and weights travel as bf16, each rank keeping what its gradients lost for the next step (error feedback: Seide et al.,
 * "1-Bit Stochastic Gradient Descent", 2014). To be freed by units_free. Ends the program where a unit is too large for a message. */
static inline Units units_plan(const MuonParam *groups, const UnitPlace *places, int n, const MuonOptions *options, int ranks,
                               int rank, bool halves) {
    Units s = {.rank = rank, .ranks = ranks, .halves = halves && ranks > 1};
    size_t elementwise = 0;
    for (int g = 0; g < n; g++)
        if (!muon_rule_is_for_matrices(groups[g].rule)) elementwise += (size_t)groups[g].count * (size_t)groups[g].rows * (size_t)groups[g].cols;
    for (int pass = 0; pass < 2; pass++) {
        s.n = 0;
        for (int g = 0; g < n; g++) units_add_units(&s, &groups[g], g, places[g], elementwise / UNITS_PIECES + 1);
        if (pass == 0) s.list = (Unit *)xcalloc((size_t)s.n, sizeof *s.list);
    }
    s.turns = (int *)xmalloc((size_t)s.n * sizeof *s.turns);
    units_order(&s);
    units_choose_owners(&s, groups, options);
    for (int i = 0; i < s.n; i++) {
        const Unit *u = &s.list[i];
        const MuonParam *p = &groups[u->group];
        if (ranks > 1 && u->n > INT_MAX / sizeof(float))
            fail_usage("%s: %d x %d numbers at once are more than a message of MPI holds, 2 GiB: one rank is expected", p->name,
                       u->rows, p->cols);
        if (u->owner != rank) continue;
        s.n_owned++;
        s.flops += muon_param_flops(p, options);
        if (u->n * (size_t)(ranks - 1) > s.room_floats) s.room_floats = u->n * (size_t)(ranks - 1);
    }
    if (ranks > 1 && s.room_floats < UNITS_ROOM) s.room_floats = UNITS_ROOM;
    return s;
}

// The table of this rank: s->owned, n_owned of them.
static inline void units_own(Units *s, const MuonParam *groups, int n) {
    s->owned = groups, s->n_owned = n;
    if (s->ranks == 1) return;
    MuonParam *owned = (MuonParam *)xcalloc((size_t)s->n, sizeof *owned);
    s->owned_units = (int *)xmalloc((size_t)s->n * sizeof *s->owned_units);
    s->owned = owned, s->n_owned = 0;
    for (int i = 0; i < s->n; i++) {
        const Unit *u = &s->list[i];
        MuonParam *p = &owned[s->n_owned];
        if (u->owner != s->rank) continue;
        size_t at = (size_t)u->matrix * groups[u->group].stride + (size_t)u->row * (size_t)groups[u->group].cols;
        *p = groups[u->group];
        p->count = 1, p->rows = u->rows;
        if (p->w) p->w += at, p->g += at;
        s->owned_units[s->n_owned++] = i;
    }
}

// Where the weights are, once they have addresses; params: the first one of n_params. Allocates the room for messages.
static inline void units_link(Units *s, const MuonParam *groups, int n, const float *params, size_t n_params) {
    for (int i = 0; i < s->n; i++) {
        Unit *u = &s->list[i];
        const MuonParam *p = &groups[u->group];
        u->at = (size_t)(p->w - params) + (size_t)u->matrix * p->stride + (size_t)u->row * (size_t)p->cols;
    }
    units_free_owned(s);
    units_own(s, groups, n);
    if (s->ranks > 1) s->room = (float *)xaligned(s->room_floats * sizeof(float));
    if (!s->halves) return;
    s->half = (uint16_t *)xaligned(n_params * sizeof *s->half);
    s->rest = (float *)xaligned(n_params * sizeof *s->rest);
}

static inline void units_free(Units *s) {
    units_free_owned(s);
    free(s->list), free(s->turns), free(s->room), free(s->half), free(s->rest);
}

// Bytes beside the optimizer's state that messages need.
static inline double units_room_bytes(const Units *s, size_t n_params) {
    return (double)s->room_floats * sizeof(float) + (s->halves ? (double)n_params * (sizeof *s->half + sizeof *s->rest) : 0.0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Gradients to their owners

// How a unit's numbers travel: bytes of each.
static inline size_t units_width(const Units *s, const Unit *u) { return s->halves && !u->vector ? sizeof(uint16_t) : sizeof(float); }

// half <- x + rest rounded to bf16, rest <- what that lost. rest may be NULL.
VEC_PASS(void, units_halve, (uint16_t *half, const float *x, float *rest, size_t n), (half, x, rest, n)) {
    for (size_t i = 0; i < n; i++) {
        float whole = x[i] + (rest ? rest[i] : 0.0f), rounded = gemm_round_bf16(whole);
        uint32_t bits;
        memcpy(&bits, &rounded, sizeof bits);
        half[i] = (uint16_t)(bits >> 16);
        if (rest) rest[i] = whole - rounded;
    }
}

// x <- half; half may be the second half of x's own memory.
static inline void units_widen(float *x, const uint16_t *half, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)half[i] << 16;
        memcpy(&x[i], &bits, sizeof bits);
    }
}

// Where in a block of n floats a message of that width lands, to be widened from there.
static inline void *units_landing(float *block, size_t n, size_t width) { return (char *)block + (sizeof *block - width) * n; }

// Receives the next owned units of all other ranks, as many as there is room for.
static inline void units_receive(Units *s) {
    size_t used = 0, others = (size_t)(s->ranks - 1);
    for (s->end = s->next; s->end < s->n; s->end++) {
        const Unit *u = &s->list[s->turns[s->end]];
        if (u->owner != s->rank) continue;
        if (used + u->n * others > s->room_floats) break;
        for (int r = 0; r < s->ranks; r++)
            if (r != s->rank) {
                size_t width = units_width(s, u);
                dist_receive(&s->receives, units_landing(s->room + used, u->n, width), u->n * width, r);
                used += u->n;
            }
    }
}

// sum += x, by all threads.
static inline void units_add_long(float *sum, const float *x, size_t n) {
    enum { FLOATS = 1 << 14 };
    #pragma omp parallel for
    for (size_t i = 0; i < n; i += FLOATS) vec_add(sum + i, x + i, n - i < FLOATS ? n - i : FLOATS);
}

// mine <- the sum of all ranks' blocks of n floats, in the tree in which a rank sums its parts; theirs: those of the others, in
// the order of ranks.
static inline void units_add_up(const Units *s, float *mine, float *theirs, size_t n) {
    enum { FLOATS = 1 << 12 };
    #pragma omp parallel for
    for (size_t at = 0; at < n; at += FLOATS) {
        size_t here = n - at < FLOATS ? n - at : FLOATS;
        #define UNITS_BLOCK(r) ((r) == s->rank ? mine + at : theirs + (size_t)((r) - ((r) > s->rank)) * n + at)
        for (int step = 1; step < s->ranks; step *= 2)
            for (int r = 0; r + step < s->ranks; r += 2 * step) vec_add(UNITS_BLOCK(r), UNITS_BLOCK(r + step), here);
        if (s->rank > 0) memcpy(mine + at, UNITS_BLOCK(0), here * sizeof *mine);
        #undef UNITS_BLOCK
    }
}

// Of the units that were received: their sums, into grads. Then receives the next ones.
static inline void units_take(Units *s, float *grads) {
    size_t used = 0, others = (size_t)(s->ranks - 1);
    for (; s->next < s->end; s->next++) {
        const Unit *u = &s->list[s->turns[s->next]];
        if (u->owner != s->rank) continue;
        float *theirs = s->room + used;
        for (size_t k = 0; k < others && units_width(s, u) < sizeof(float); k++)
            units_widen(theirs + k * u->n, (const uint16_t *)units_landing(theirs + k * u->n, u->n, units_width(s, u)), u->n);
        units_add_up(s, grads + u->at, theirs, u->n);
        used += u->n * others;
    }
    units_receive(s);
}

// Before a step's last backward pass: other ranks may be earlier.
static inline void units_begin(Units *s) {
    s->ready = s->next = 0;
    units_receive(s);
}

/* This rank's gradients of all layers from `layer` on are made: what its parts have in sums[level], .. sums[0] is added up, from
 * the back, and goes to its owners. To be called from the highest layer to the lowest, at last with INT_MIN. */
static inline void units_ready(Units *s, float *const *sums, int level, int layer) {
    for (; s->ready < s->n && s->list[s->turns[s->ready]].layer >= layer; s->ready++) {
        const Unit *u = &s->list[s->turns[s->ready]];
        for (int k = level; k > 0; k--) units_add_long(sums[k - 1] + u->at, sums[k] + u->at, u->n);
        if (u->owner == s->rank) continue;
        bool halves = units_width(s, u) < sizeof(float);
        if (halves) units_halve(s->half + u->at, sums[0] + u->at, s->rest + u->at, u->n);
        dist_send(&s->sends, halves ? (const void *)(s->half + u->at) : sums[0] + u->at, u->n * units_width(s, u), u->owner);
    }
    while (s->next < s->n && s->end <= s->ready && dist_poll(&s->receives)) units_take(s, sums[0]);
    dist_poll(&s->sends);
}

// On return grads, which is sums[0], has of the units that this rank owns the sums over all ranks.
static inline void units_finish(Units *s, float *grads) {
    while (s->next < s->n) {
        dist_finish(&s->receives);
        units_take(s, grads);
    }
    dist_finish(&s->sends);
}

/* The norm of the whole gradient: the root of the sum of its units' squares, in their order. */
static inline double units_grad_norm(const Units *s, const float *grads) {
    double *squares = (double *)xcalloc((size_t)s->n, sizeof *squares), sum = 0.0;
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < s->n; i++)
        if (s->list[i].owner == s->rank) squares[i] = muon_sum_of_squares(grads + s->list[i].at, s->list[i].n);
    if (s->ranks > 1) dist_sum_doubles(squares, (size_t)s->n);
    for (int i = 0; i < s->n; i++) sum += squares[i];
    free(squares);
    return sqrt(sum);
}

// ---------------------------------------------------------------------------------------------------------------------
// Weights, and the optimizer's state, from their owners

// After a step: every rank has all weights. exact: also where they travel as bf16 otherwise, which owners' own never are.
static inline void units_share_weights(Units *s, float *params, bool exact) {
    for (int i = 0; i < s->n && s->ranks > 1; i++) {
        const Unit *u = &s->list[i];
        size_t width = exact ? sizeof(float) : units_width(s, u);
        void *x = width < sizeof(float) ? (void *)(s->half + u->at) : params + u->at;
        if (u->owner != s->rank) dist_receive(&s->receives, x, u->n * width, u->owner);
        else {
            if (width < sizeof(float)) units_halve(s->half + u->at, params + u->at, NULL, u->n);
            for (int r = 0; r < s->ranks; r++) if (r != s->rank) dist_send(&s->sends, x, u->n * width, r);
        }
    }
    dist_finish(&s->receives);
    dist_finish(&s->sends);
    for (int i = 0; i < s->n && s->halves && !exact; i++) {
        const Unit *u = &s->list[i];
        if (u->owner != s->rank && units_width(s, u) < sizeof(float)) units_widen(params + u->at, s->half + u->at, u->n);
    }
}

// What a unit has in a slot MUON_SLOT_* of the state of its whole tensor: from float `at` on, n of them (0: none).
typedef struct { size_t at, n; } UnitSlice;

static inline UnitSlice units_slice(const Unit *u, const MuonParam *group, const MuonOptions *options, int slot) {
    float state = 0;                     // only how much there is of it is asked
    Muon whole = {.options = *options, .params = group, .n = 1, .state = &state};
    size_t all;
    muon_state(&whole, 0, slot, &all);
    size_t each = all / (size_t)group->count, row = each / (size_t)group->rows;
    bool matrix = muon_rule_is_for_matrices(group->rule);        // is never cut, and may have a number for each row or column
    return (UnitSlice){(size_t)u->matrix * each + (matrix ? 0 : (size_t)u->row * row), matrix ? each : (size_t)u->rows * row};
}

/* What rank 0 saves: whole, which it has begun by muon_init for the caller's table, gets the state of all ranks. m: this rank's
 * own. whole is NULL on the others. */
static inline void units_gather_state(Units *s, const Muon *m, const MuonParam *groups, Muon *whole) {
    for (int i = 0, own = 0; i < s->n; i++) {
        const Unit *u = &s->list[i];
        size_t n;
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            UnitSlice slice = units_slice(u, &groups[u->group], &m->options, slot);
            float *to = whole ? muon_state(whole, u->group, slot, &n) : NULL;
            float *from = u->owner == s->rank ? muon_state(m, own, slot, &n) : NULL;
            if (!slice.n || (u->owner != s->rank && s->rank > 0)) continue;
            if (to && from) memcpy(to + slice.at, from, slice.n * sizeof *to);
            else if (to) dist_receive(&s->receives, to + slice.at, slice.n * sizeof *to, u->owner);
            else dist_send(&s->sends, from, slice.n * sizeof *from, 0);
        }
        own += u->owner == s->rank;
    }
    dist_finish(&s->receives);
    dist_finish(&s->sends);
}

#endif // UNITS_H

/* test_fuzz.c - every public function of muon.h with random arguments, good and bad.
 *
 * All buffers are of exactly the stated sizes, so that a sanitizer sees a number read or written past them.
 * What must hold: the documented code comes back; after a failure nothing has changed; the same call gives the same
 * bits, whatever the threads; finite, moderate numbers in give finite numbers out.
 * `./test_fuzz SEED ROUNDS`: another sequence, a longer run. The first round that fails ends its test and is named.
 */
#define _GNU_SOURCE
#define MUON_IMPLEMENTATION
#include "../../muon.h"
#include "../../src/flags.h"
#include "test.h"
#include <limits.h>

static uint64_t seed = 1, drawn;
static int rounds = 200, round_now;

// A random number below n, and one in [low, high).
static int pick(int n) { return (int)(hash64(seed, drawn++) % (uint64_t)n); }
static double between(double low, double high) { return low + (high - low) * uniform_of(hash64(seed, drawn++)); }
static bool chance(int percent) { return pick(100) < percent; }

// Rounds of one test, times as many as `rounds`, each with numbers of its own, until one fails.
static void fuzz(const char *what, int times, void (*round)(void)) {
    for (round_now = 0; round_now < rounds * times && !checks_failed; round_now++) {
        drawn = hash64(hash_string(what), (uint64_t)round_now);
        round();
    }
    if (checks_failed) printf("    %s: seed %llu, round %d\n", what, (unsigned long long)seed, round_now - 1);
}

static int garbage(void) {
    const int values[] = { -1, INT_MIN, INT_MAX, -7, 99, 12345678 };
    return values[pick(COUNT_OF(values))];
}

static double bad_factor(void) {
    const double values[] = { NAN, INFINITY, -INFINITY, -1.0, -1e-9 };
    return values[pick(COUNT_OF(values))];
}

static int random_size(void) { return chance(25) ? 1 : chance(70) ? 1 + pick(20) : 1 + pick(70); }

enum { MODERATE, EXTREME, BROKEN };   // what numbers may be: moderate, finite, or with NaN or infinity among them

static int kind_of(float x) { return !isfinite(x) ? BROKEN : fabsf(x) > 1e6f ? EXTREME : MODERATE; }

static float one_value(int kind) {
    const float tiny[] = { 0.0f, -0.0f, 1e-45f, -3e-42f, FLT_MIN, 1e-30f };
    const float huge[] = { 1e38f, -1e38f, 1e30f, -1e20f, 3e37f };
    const float broken[] = { NAN, INFINITY, -INFINITY };
    switch (kind) {
    case 0:  return 0.0f;
    case 1:  return tiny[pick(COUNT_OF(tiny))];
    case 2:  return huge[pick(COUNT_OF(huge))];
    case 3:  return broken[pick(COUNT_OF(broken))];
    case 4:  return (float)(between(-1.0, 1.0) * pow(10.0, between(-40.0, 38.0)));
    default: return (float)between(-2.0, 2.0);
    }
}

// n numbers, all of one kind or mixed; says which of the three they are.
static int fill(float *x, size_t n, int worst) {
    const int kind = chance(50) ? 5 : pick(worst == MODERATE ? 2 : 7), other = worst == MODERATE ? pick(2) : pick(5);
    const bool row = kind == 6 || chance(10);   // the same numbers again and again: rank one or nearly
    const int period = 1 + pick(7);
    int found = MODERATE;
    for (size_t i = 0; i < n; i++) {
        x[i] = row && i >= (size_t)period ? x[i - (size_t)period] : one_value(chance(5) && kind != 5 ? other : kind);
        if (worst < BROKEN && !isfinite(x[i])) x[i] = 1.0f;
        if (kind_of(x[i]) > found) found = kind_of(x[i]);
    }
    return found;
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static void *copy_of(const void *x, size_t bytes) { return bytes ? memcpy(xmalloc(bytes), x, bytes) : xmalloc(0); }

// ---------------------------------------------------------------------------------------------------------------------
// The transforms

enum { ORTHOGONALIZE, SVD, SPECTRAL, TRANSFORMS };

typedef struct { int which, rows, cols, steps; double power; const MuonCoefficients *c; } Transform;

static int transform(const Transform *t, float *x, void *scratch) {
    if (t->which == ORTHOGONALIZE) return muon_orthogonalize(x, t->rows, t->cols, t->c, t->steps, scratch);
    if (t->which == SVD) return muon_svd_power(x, t->rows, t->cols, t->power, scratch);
    return muon_spectral_power(x, t->rows, t->cols, t->power, scratch);
}

static size_t transform_bytes(const Transform *t) {
    if (t->which == ORTHOGONALIZE) return muon_orthogonalize_bytes(t->rows, t->cols);
    return t->which == SVD ? muon_svd_power_bytes(t->rows, t->cols) : muon_spectral_power_bytes(t->rows, t->cols);
}

// Makes one argument of a good call bad.
static void spoil_transform(Transform *t, MuonCoefficients *c, float **x, void **scratch) {
    switch (pick(6)) {
    case 0:  *x = NULL; break;
    case 1:  *scratch = NULL; break;
    case 2:  t->rows = -pick(3); break;
    case 3:  t->cols = chance(50) ? INT_MIN : 0; break;
    default:
        if (t->which == SPECTRAL) { t->power = chance(50) ? bad_factor() : 0.3; break; }
        if (t->which == SVD) { t->power = bad_factor(); break; }
        *c = *t->c;
        t->c = chance(20) ? NULL : c;
        switch (pick(4)) {
        case 0:  c->rows = chance(50) ? 0 : garbage() | 32; break;
        case 1:  c->norm = chance(50) ? 0.0 : NAN; break;
        default: t->steps = chance(50) ? -pick(5) : MUON_MAX_NS_STEPS + 1 + pick(9);
        }
    }
}

static void round_transforms(void) {
    const double powers[] = { 0.0, 0.25, 0.5, 1.0 };
    MuonCoefficients own = { "own", 3, between(1.0, 2.0), 1 + pick(MUON_MAX_ROWS), { { 0 } } };
    for (int i = 0; i < own.rows; i++)
        for (int k = 0; k < 3; k++) own.abc[i][k] = between(-3.0, 3.0);
    const int set = pick(MUON_COEFF_COUNT + 1);
    Transform t = { pick(TRANSFORMS), random_size(), random_size(), 1 + pick(16), 0.0, &own };
    if (set < MUON_COEFF_COUNT) t.c = muon_coefficients(set);
    t.power = t.which == SVD && chance(30) ? between(0.0, 2.0) : powers[pick(COUNT_OF(powers))];
    const size_t n = (size_t)t.rows * (size_t)t.cols, bytes = n * sizeof(float), room = transform_bytes(&t);
    float *x = xmalloc(bytes), *given = x;
    void *scratch = xmalloc(room), *given_scratch = scratch;
    const int values = fill(x, n, BROKEN);
    float *before = copy_of(x, bytes), *again = copy_of(x, bytes);
    int expected = values == BROKEN ? MUON_E_NOT_FINITE : MUON_OK;
    if (chance(25)) {
        spoil_transform(&t, &own, &given, &given_scratch);
        expected = MUON_E_ARGUMENT;
        CHECK(t.rows > 0 && t.cols > 0 ? transform_bytes(&t) == room : transform_bytes(&t) == 0);
    }
    const int code = transform(&t, given, given_scratch);
    // what diverges by right: a power above 1, sizes beyond a float's range put back, a caller's own polynomial
    const bool sized = t.which != ORTHOGONALIZE && t.power > 0.0, own_set = t.which == ORTHOGONALIZE && t.c == &own;
    const bool may_diverge = expected == MUON_OK && (own_set || (sized && values != MODERATE));
    CHECK_MSG(code == expected || (may_diverge && code == MUON_E_DIVERGED), "code %d, expected %d: transform %d, %d x %d",
              code, expected, t.which, t.rows, t.cols);
    if (code == MUON_E_ARGUMENT || code == MUON_E_NOT_FINITE) CHECK(memcmp(x, before, bytes) == 0);
    if (code == MUON_OK) {
        CHECK_MSG(all_finite(x, n), "transform %d, power %g, %d x %d", t.which, t.power, t.rows, t.cols);
        CHECK(transform(&t, again, scratch) == MUON_OK && memcmp(x, again, bytes) == 0);
    }
    free(x), free(before), free(again), free(scratch);
}

TEST(transforms) { fuzz("transforms", 20, round_transforms); }

// ---------------------------------------------------------------------------------------------------------------------
// Steps

enum { TENSORS = 5 };

static MuonOptions random_options(void) {
    MuonOptions o = muon_default_options();
    o.momentum = chance(20) ? 0.0 : between(0.0, 0.999);
    o.nesterov = pick(MUON_NESTEROV_COUNT);
    o.look_ahead = chance(50) ? 0.0 : between(0.0, 20.0);
    o.accumulate = pick(2);
    o.coefficients = muon_coefficients(pick(MUON_COEFF_COUNT));
    o.ns_steps = pick(8);
    o.guard = chance(70) ? 0.0 : between(0.0, 2.0);
    o.guard_form = pick(MUON_GUARD_COUNT);
    o.equalize = pick(2);
    o.renormalize = pick(2);
    o.scale = pick(MUON_SCALE_COUNT);
    o.rms = chance(70) ? 0.2 : between(0.01, 1.0);
    o.decay_scaled = pick(2);
    o.decay_factor = chance(70) ? 1.0 : between(0.0, 1.0);
    o.adam_nesterov = pick(2);
    o.cautious = pick(2);
    o.axis = pick(MUON_AXIS_COUNT);
    o.beta1 = chance(20) ? 0.0 : between(0.0, 0.999);
    o.beta2 = chance(20) ? 0.0 : between(0.0, 0.999);
    o.eps = pow(10.0, -between(1.0, 12.0));
    return o;
}

// Makes one field of the options bad; returns its name.
static const char *spoil_options(MuonOptions *o, MuonCoefficients *c) {
    *c = *o->coefficients;
    switch (pick(14)) {
    case 9:  o->nesterov = chance(50) ? -1 : MUON_NESTEROV_COUNT; return "nesterov";
    case 10: o->look_ahead = bad_factor(); return "look_ahead";
    case 11: o->guard = bad_factor(); return "guard";
    case 12: o->rms = chance(50) ? 0.0 : bad_factor(); return "rms";
    case 13: o->decay_factor = bad_factor(); return "decay_factor";
    case 8:  o->axis = chance(50) ? -1 : MUON_AXIS_COUNT; return "axis";
    case 0:  o->momentum = chance(50) ? 1.0 : bad_factor(); return "momentum";
    case 1:  o->beta1 = chance(50) ? 1.0 : bad_factor(); return "beta1";
    case 2:  o->beta2 = chance(50) ? 1.0 : bad_factor(); return "beta2";
    case 3:  o->eps = chance(30) ? 0.0 : chance(30) ? 9e-21 : bad_factor(); return "eps";
    case 4:  o->scale = chance(50) ? MUON_SCALE_COUNT : garbage(); return "scale";
    case 5:  o->ns_steps = chance(50) ? -1 - pick(5) : MUON_MAX_NS_STEPS + 1 + pick(9); return "ns_steps";
    case 6:  o->coefficients = NULL; return "coefficients";
    default:
        o->coefficients = c;
        o->ns_steps = 0;
        switch (pick(4)) {
        case 0:  c->steps = chance(50) ? 0 : MUON_MAX_NS_STEPS + 1; return "coefficients->steps";
        case 1:  c->rows = chance(50) ? 0 : MUON_MAX_ROWS + 1; return "coefficients->rows";
        case 2:  c->norm = chance(50) ? 0.0 : bad_factor(); return "coefficients->norm";
        default: c->abc[pick(c->rows)][pick(3)] = chance(50) ? INFINITY : NAN; return "coefficients->abc";
        }
    }
}

// Makes one field of the entry bad; returns its name.
static const char *spoil_param(MuonParam *p) {
    switch (pick(10)) {
    case 0:  p->w = NULL; return "w";
    case 1:  p->g = NULL; return "g";
    case 2:  p->count = -pick(3); return "count";
    case 3:  p->rows = chance(50) ? 0 : INT_MIN; return "rows";
    case 4:  p->cols = -pick(3); return "cols";
    case 5:  p->rule = chance(50) ? MUON_RULE_COUNT : garbage(); return "rule";
    case 6:  p->lr = bad_factor(); return "lr";
    case 7:  p->weight_decay = bad_factor(); return "weight_decay";
    case 8:  p->blocks[pick(MUON_MAX_BLOCKS)] = chance(50) ? -1 : INT_MAX; return "blocks";
    default: p->count = 2; p->stride = (size_t)p->rows * (size_t)p->cols - 1; return "stride";
    }
}

static size_t floats_of(const MuonParam *p) {
    return (size_t)(p->count - 1) * (p->count > 1 ? p->stride : 0) + (size_t)p->rows * (size_t)p->cols;
}

// A table with its weights and gradients, and the Muon that steps it.
typedef struct {
    MuonParam params[TENSORS];
    float *w[TENSORS], *g[TENSORS];
    MuonOptions options, own[TENSORS];
    int n, threads;
    void *state, *scratch;
    Muon m;
} Model;

static void random_model(Model *a) {
    memset(a, 0, sizeof *a);
    a->n = pick(TENSORS + 1);
    a->options = random_options();
    a->threads = 1 + pick(4);
    for (int i = 0; i < a->n; i++) {
        MuonParam p = { "tensor", NULL, NULL, 1 + pick(3), random_size(), random_size(), 0, pick(MUON_RULE_COUNT),
                        between(0.0, 0.1), chance(50) ? 0.0 : between(0.0, 0.3), NULL, { 0 } };
        if (p.rows == 1 || p.cols == 1) p.rule = pick(MUON_RULE_ADAMW + 1);   // a vector
        if (chance(30) && p.rows % 2 == 0 && p.rows > 2) p.blocks[0] = p.rows / 2;
        else if (chance(30) && p.rows > 4) p.blocks[0] = 2, p.blocks[1] = p.rows - 2;
        p.stride = p.count > 1 ? (size_t)p.rows * (size_t)p.cols + (size_t)pick(5) : (size_t)pick(9);
        a->own[i] = random_options();
        a->params[i] = p;
        a->w[i] = xmalloc(floats_of(&p) * sizeof(float));
        a->g[i] = xmalloc(floats_of(&p) * sizeof(float));
        fill(a->w[i], floats_of(&p), MODERATE);
        if (chance(30)) a->params[i].options = &a->own[i];
        a->params[i].w = a->w[i];
        a->params[i].g = a->g[i];
    }
}

// Its own copy of everything but the gradients, which are shared.
static void twin_of(Model *b, const Model *a) {
    *b = *a;
    for (int i = 0; i < a->n; i++) {
        b->w[i] = copy_of(a->w[i], floats_of(&a->params[i]) * sizeof(float));
        b->params[i].w = b->w[i];
        if (a->params[i].options) b->params[i].options = &b->own[i];
    }
}

static void start(Model *a) {
    a->state = xmalloc(muon_state_bytes(a->params, a->n, &a->options));
    a->scratch = xmalloc((size_t)a->threads * muon_scratch_bytes(a->params, a->n, &a->options));
    CHECK(muon_init(&a->m, a->params, a->n, &a->options, a->state) == MUON_OK);
}

static void release(Model *a, bool gradients) {
    for (int i = 0; i < a->n; i++) {
        free(a->w[i]);
        if (gradients) free(a->g[i]);
    }
    free(a->state), free(a->scratch);
}

static bool same_weights(const Model *a, const Model *b) {
    for (int i = 0; i < a->n; i++)
        if (memcmp(a->w[i], b->w[i], floats_of(&a->params[i]) * sizeof(float)) != 0) return false;
    return true;
}

/* New gradients. Returns what is among those that count (not those of untrained tensors or between matrices); where the
 * first one lies that isn't finite as scaled: *tensor is -1 if none. */
static int fill_gradients(Model *a, double scale, int worst, int *tensor, int *matrix) {
    int found = MODERATE;
    *tensor = *matrix = -1;
    for (int i = 0; i < a->n; i++) {
        const MuonParam *p = &a->params[i];
        fill(a->g[i], floats_of(p), worst);
        for (int j = 0; j < p->count && p->rule != MUON_RULE_NONE; j++)
            for (size_t k = 0; k < (size_t)p->rows * (size_t)p->cols; k++) {
                const float g = a->g[i][(size_t)j * p->stride + k];
                const int kind = kind_of(g);
                if (kind > found) found = kind;
                if (*tensor >= 0 || isfinite((float)scale * g)) continue;
                *tensor = i;
                *matrix = j;
            }
    }
    return found;
}

// The second way to step: matrix by matrix, from the last one to the first, after calls that must be refused.
static int step_by_one(Model *b, double lr_factor, double grad_scale) {
    int code = muon_begin_step(&b->m, lr_factor, grad_scale);
    if (code != MUON_OK) return code;
    CHECK(muon_step_one(&b->m, b->n, 0, b->scratch) == MUON_E_ARGUMENT);
    CHECK(muon_step_one(&b->m, -1 - pick(9), 0, b->scratch) == MUON_E_ARGUMENT);
    CHECK(muon_step_all(&b->m, b->scratch, -pick(3)) == MUON_E_ARGUMENT);
    for (int i = b->n - 1; i >= 0; i--) {
        CHECK(muon_step_one(&b->m, i, b->params[i].count, b->scratch) == MUON_E_ARGUMENT);
        CHECK(muon_step_one(&b->m, i, -1, b->scratch) == MUON_E_ARGUMENT);
        if (muon_scratch_bytes(&b->params[i], 1, &b->options) > 0)
            CHECK(muon_step_one(&b->m, i, 0, NULL) == MUON_E_ARGUMENT);
        for (int j = b->params[i].count - 1; j >= 0; j--) {
            const int one = muon_step_one(&b->m, i, j, b->scratch);
            if (one != MUON_OK) code = one;
        }
    }
    return code;
}

/* Whether a tensor's steps are divided by the root of second moments, entry by entry, so that gradients of any size
 * make no large ones. (With beta2 = 0 the root forgets at once what the momentum remembers.) */
static bool bounded(const Model *a, int i) {
    const int rule = a->params[i].rule;
    const double beta2 = a->params[i].options ? a->params[i].options->beta2 : a->options.beta2;
    return beta2 > 0.0 && (rule == MUON_RULE_RMSPROP || rule == MUON_RULE_ADAM || rule == MUON_RULE_ADAMW);
}

static void round_steps(void) {
    Model a, b, before;
    random_model(&a);
    twin_of(&b, &a);
    start(&a);
    start(&b);
    const size_t bytes = muon_state_bytes(a.params, a.n, &a.options);
    int worst = MODERATE;
    for (int step = 0; step < 4; step++) {
        const double lr_factor = chance(10) ? 0.0 : chance(5) ? -1e-17 : between(0.0, 1.0);   // a zero, rounded, too
        const double grad_scale = chance(50) ? 1.0 : between(0.0, 2.0);
        const bool refused = chance(10);
        int tensor, matrix;
        const int wildest = chance(40) ? BROKEN : chance(30) ? EXTREME : MODERATE;
        const int values = fill_gradients(&a, grad_scale, wildest, &tensor, &matrix);
        const double norm = muon_grad_norm(&a.m);
        CHECK(values == BROKEN ? !isfinite(norm) : isfinite(norm) && norm >= 0.0);
        void *state = copy_of(a.state, bytes);
        twin_of(&before, &a);
        const int expected = refused ? MUON_E_ARGUMENT : tensor >= 0 ? MUON_E_NOT_FINITE : MUON_OK;
        const double factor = refused ? bad_factor() : lr_factor;
        const int code = muon_step(&a.m, factor, grad_scale, a.scratch, a.threads);
        if (expected != MUON_OK) {
            CHECK_MSG(code == expected, "code %d, expected %d", code, expected);
            CHECK(same_weights(&a, &before) && memcmp(a.state, state, bytes) == 0 && a.m.t == before.m.t);
            if (expected == MUON_E_NOT_FINITE) CHECK(a.m.bad_tensor == tensor && a.m.bad_matrix == matrix);
            CHECK(muon_step_all(&a.m, a.scratch, 1) == MUON_E_ARGUMENT);
            CHECK(a.n == 0 || muon_step_one(&a.m, 0, 0, a.scratch) == MUON_E_ARGUMENT);
        } else if (values > worst) worst = values;
        // sums of gradients near FLT_MAX may leave a float's range: that is told
        CHECK(code == expected || (worst == EXTREME && (code == MUON_E_STATE || code == MUON_E_DIVERGED)));
        CHECK_MSG(step_by_one(&b, factor, grad_scale) == code, "another code, step by step");
        CHECK_MSG(same_weights(&a, &b) && memcmp(a.state, b.state, bytes) == 0, "other bits, %d threads", a.threads);
        for (int i = 0; i < a.n; i++) {
            const MuonParam *p = &a.params[i];
            const size_t size = (size_t)p->rows * (size_t)p->cols;
            if (code == MUON_OK || worst == MODERATE || (worst == EXTREME && bounded(&a, i)))
                CHECK_MSG(all_finite(a.w[i], floats_of(p)), "%s, %d x %d", muon_rule_name(p->rule), p->rows, p->cols);
            if (p->rule == MUON_RULE_NONE) CHECK(memcmp(a.w[i], before.w[i], floats_of(p) * sizeof(float)) == 0);
            for (int j = 0; j + 1 < p->count; j++) {   // what lies between matrices
                const size_t from = (size_t)j * p->stride + size;
                CHECK(memcmp(a.w[i] + from, before.w[i] + from, (p->stride - size) * sizeof(float)) == 0);
            }
        }
        for (int i = 0; i < before.n; i++) free(before.w[i]);
        free(state);
    }
    release(&a, true);
    release(&b, false);
}

TEST(steps) { fuzz("steps", 1, round_steps); }

// The table and the options, one thing of which is bad; states; null pointers.
static void round_tables(void) {
    Model a;
    MuonCoefficients c;
    random_model(&a);
    start(&a);
    size_t floats = 0, n = 99;
    for (int i = 0; i < a.n; i++)
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            const float *state = muon_state(&a.m, i, slot, &n);
            CHECK(n == 0 ? state == NULL : state == a.m.state + floats);
            floats += n;
        }
    CHECK(floats * sizeof(float) == muon_state_bytes(a.params, a.n, &a.options));
    CHECK(muon_state(&a.m, chance(50) ? a.n : garbage(), pick(2), &n) == NULL && n == 0);
    CHECK(muon_state(&a.m, 0, garbage(), &n) == NULL && n == 0);
    CHECK(muon_state(NULL, 0, 0, &n) == NULL && n == 0);

    int expected = MUON_E_ARGUMENT, bad = -1, count = a.n, planned = 0;
    const char *field = NULL;
    const MuonParam *params = a.params;
    const MuonOptions *options = &a.options;
    void *memory = a.state;
    Muon m;
    switch (pick(a.n > 0 ? 7 : 4)) {
    case 0:  options = NULL, field = "options"; break;
    case 1:  count = -1 - pick(9), field = "n"; break;
    case 2:  expected = MUON_E_OPTIONS; field = spoil_options(&a.options, &c); break;
    case 3:
        if (a.n == 0) expected = MUON_OK, planned = 1;
        else params = NULL, field = "params";
        break;
    case 4:
        bad = pick(a.n), expected = MUON_E_PARAM;
        if (a.params[bad].rule == MUON_RULE_NONE) a.params[bad].rule = MUON_RULE_SGD;   // where all fields are read
        field = spoil_param(&a.params[bad]);
        planned = !a.params[bad].w || !a.params[bad].g;   // memory can be planned before they exist
        break;
    case 5:
        bad = pick(a.n), expected = MUON_E_VECTOR;
        a.params[bad].rule = MUON_RULE_MUON + pick(MUON_RULE_COUNT - MUON_RULE_MUON);
        memset(a.params[bad].blocks, 0, sizeof a.params[bad].blocks);
        *(chance(50) ? &a.params[bad].rows : &a.params[bad].cols) = 1;
        field = a.params[bad].rows == 1 ? "rows" : "cols";
        break;
    default:
        bad = pick(a.n), expected = MUON_E_OPTIONS;
        field = spoil_options(&a.own[bad], &c);
        a.params[bad].options = &a.own[bad];
    }
    if (!planned) {
        CHECK(muon_state_bytes(params, count, options) == 0);
        CHECK(muon_scratch_bytes(params, count, options) == 0);
    }
    const int code = muon_init(&m, params, count, options, memory);
    CHECK_MSG(code == expected, "code %d, expected %d", code, expected);
    CHECK(m.bad_tensor == bad && m.bad_matrix == -1);
    CHECK_MSG(field ? m.bad_field && strcmp(m.bad_field, field) == 0 : !m.bad_field, "%s, expected %s",
              m.bad_field ? m.bad_field : "none", field ? field : "none");
    CHECK(muon_init(NULL, params, count, options, memory) == MUON_E_ARGUMENT);
    CHECK(muon_begin_step(NULL, 1.0, 1.0) == MUON_E_ARGUMENT && muon_step(NULL, 1.0, 1.0, NULL, 1) == MUON_E_ARGUMENT);
    CHECK(muon_step_one(NULL, 0, 0, NULL) == MUON_E_ARGUMENT && muon_step_all(NULL, NULL, 1) == MUON_E_ARGUMENT);
    if (params == a.params && options == &a.options && count >= 0 && expected != MUON_OK) {   // bad from now on only
        for (int i = 0; i < a.n; i++) memset(a.g[i], 0, floats_of(&a.params[i]) * sizeof(float) * (i != bad));
        a.m.options = a.options;
        CHECK(muon_begin_step(&a.m, 1.0, 1.0) == expected && a.m.bad_tensor == bad && a.m.t == 0);
    }
    release(&a, true);
}

TEST(tables) { fuzz("tables", 20, round_tables); }

// ---------------------------------------------------------------------------------------------------------------------
// QK-Clip

// Logits, tau, alpha: the code that is expected, and how many heads are clipped if it is MUON_OK.
static int random_logits(float *logits, int heads, double *tau, double *alpha, int *clipped) {
    const float edges[] = { -INFINITY, 0.0f, -FLT_MAX, FLT_MAX, 1e-40f, 100.0f };
    const float broken[] = { NAN, INFINITY };
    bool bad = false;
    *tau = chance(10) ? 0.0 : between(0.1, 120.0);
    *alpha = chance(20) ? 0.0 : chance(20) ? 1.0 : between(0.0, 1.0);
    *clipped = 0;
    for (int h = 0; h < heads; h++) {
        logits[h] = chance(5) ? broken[pick(2)] : (float)between(-50.0, 200.0);
        if (chance(20)) logits[h] = edges[pick(COUNT_OF(edges))];
        bad = bad || isnan(logits[h]) || logits[h] == INFINITY;
        *clipped += *tau > 0.0 && logits[h] > *tau;
    }
    if (*tau == 0.0) *clipped = 0;
    int code = bad && *tau > 0.0 ? MUON_E_LOGIT : MUON_OK;
    if (chance(10)) {
        if (chance(50)) *tau = bad_factor();
        else *alpha = chance(50) ? bad_factor() : 1.0 + between(0.01, 1.0);
        code = MUON_E_ARGUMENT;
    }
    if (code != MUON_OK) *clipped = 0;
    return code;
}

static void round_qk_clip(void) {
    const int kv = 1 + pick(4), heads = kv * (1 + pick(4)), size = 1 + pick(9), cols = random_size();
    const size_t nq = (size_t)heads * (size_t)size, nk = (size_t)kv * (size_t)size, width = (size_t)cols;
    const size_t sizes[4] = { nq * width, nq, nk * width, nk };
    float *x[4], *before[4], *logits = xmalloc((size_t)heads * sizeof(float));
    double tau, alpha;
    int clipped, counted = -1, expected = random_logits(logits, heads, &tau, &alpha, &clipped);
    for (int i = 0; i < 4; i++) {
        x[i] = xmalloc(sizes[i] * sizeof(float));
        fill(x[i], sizes[i], MODERATE);
        before[i] = copy_of(x[i], sizes[i] * sizeof(float));
    }
    const bool biases = chance(50);
    float *args[4] = { x[0], biases ? x[1] : NULL, x[2], biases ? x[3] : NULL };
    int shape[4] = { heads, kv, size, cols };
    if (chance(15)) {
        if (chance(30)) args[chance(50) ? 0 : 2] = NULL;
        else shape[pick(4)] = chance(50) ? 0 : -pick(100);
        expected = MUON_E_ARGUMENT;
        clipped = 0;
    }
    const int code = muon_qk_clip(args[0], args[1], args[2], args[3], shape[0], shape[1], shape[2], shape[3], logits,
                                  tau, alpha, &counted);
    CHECK_MSG(code == expected && counted == clipped, "code %d, expected %d; %d clipped, expected %d", code, expected,
              counted, clipped);
    for (int i = 0; i < 4; i++) {
        if (clipped == 0 || !args[i]) CHECK(memcmp(x[i], before[i], sizes[i] * sizeof(float)) == 0);
        CHECK(all_finite(x[i], sizes[i]));
    }
    for (int i = 0; i < 4; i++) free(x[i]), free(before[i]);
    free(logits);
}

TEST(qk_clip) { fuzz("qk_clip", 20, round_qk_clip); }

static void round_qk_clip_mla(void) {
    const int heads = 1 + pick(8), content = 1 + pick(9), rotary = pick(6), k_rows = content + pick(9);
    const int q_cols = random_size(), k_cols = random_size();
    const size_t q_head = (size_t)(content + rotary) * (size_t)q_cols, k_head = (size_t)k_rows * (size_t)k_cols;
    const size_t nq = q_head * (size_t)heads, nk = k_head * (size_t)heads, key = (size_t)content * (size_t)k_cols;
    float *wq = xmalloc(nq * sizeof(float)), *wk = xmalloc(nk * sizeof(float));
    float *logits = xmalloc((size_t)heads * sizeof(float)), *given_q = wq, *given_k = wk;
    double tau, alpha;
    int clipped, counted = -1, expected = random_logits(logits, heads, &tau, &alpha, &clipped);
    fill(wq, nq, MODERATE);
    fill(wk, nk, MODERATE);
    float *old_q = copy_of(wq, nq * sizeof(float)), *old_k = copy_of(wk, nk * sizeof(float));
    int shape[6] = { q_cols, k_cols, k_rows, heads, content, rotary };
    if (chance(15)) {
        const int i = pick(8);
        if (i == 6) given_q = NULL;
        else if (i == 7) given_k = NULL;
        else shape[i] = i == 2 ? content - 1 : i == 5 ? -1 : -pick(100);
        expected = MUON_E_ARGUMENT;
        clipped = 0;
    }
    const int code = muon_qk_clip_mla(given_q, shape[0], given_k, shape[1], shape[2], shape[3], shape[4], shape[5],
                                      logits, tau, alpha, &counted);
    CHECK_MSG(code == expected && counted == clipped, "code %d, expected %d; %d clipped, expected %d", code, expected,
              counted, clipped);
    CHECK(all_finite(wq, nq) && all_finite(wk, nk));
    for (int h = 0; h < heads; h++) {
        const size_t q = (size_t)h * q_head, k = (size_t)h * k_head;
        CHECK(memcmp(wk + k + key, old_k + k + key, (k_head - key) * sizeof(float)) == 0);   // values
        if (clipped > 0 && logits[h] > tau) continue;
        CHECK(memcmp(wq + q, old_q + q, q_head * sizeof(float)) == 0);
        CHECK(memcmp(wk + k, old_k + k, key * sizeof(float)) == 0);
    }
    free(wq), free(wk), free(old_q), free(old_k), free(logits);
}

TEST(qk_clip_mla) { fuzz("qk_clip_mla", 20, round_qk_clip_mla); }

// ---------------------------------------------------------------------------------------------------------------------
// Names and numbers

static void round_names(void) {
    const int any = chance(50) ? garbage() : pick(30) - 5, rows = random_size(), cols = random_size(), steps = pick(20);
    const bool rule = any >= 0 && any < MUON_RULE_COUNT, scale = any >= 0 && any < MUON_SCALE_COUNT;
    const bool set = any >= 0 && any < MUON_COEFF_COUNT;
    CHECK((muon_rule_name(any) != NULL) == rule && (muon_scale_name(any) != NULL) == scale);
    CHECK((muon_coefficients(any) != NULL) == set && muon_strerror(any) != NULL);
    CHECK(scale ? muon_scale(any, rows, cols) > 0.0 : isnan(muon_scale(any, rows, cols)));
    const double flops = muon_flops(any, rows, cols, steps);
    CHECK(rule ? flops >= 0.0 && flops == muon_flops(any, cols, rows, steps) : isnan(flops));
    if (set) {
        const double x = between(0.0, 1.0), y = muon_phi(muon_coefficients(any), steps, x);
        CHECK_MSG(isfinite(y) && y >= 0.0 && y < 2.0, "phi(%g) = %g", x, y);
    }
    const double logit = between(-1.0, 1.0) * pow(10.0, between(-300.0, 300.0)), tau = between(0.0, 200.0);
    const double gamma = muon_qk_gamma(logit, tau);
    CHECK_MSG(gamma > 0.0 && gamma <= 1.0, "gamma(%g, %g) = %g", logit, tau, gamma);
}

TEST(names) { fuzz("names", 20, round_names); }

int main(int argc, char **argv) {
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    if (argc > 2) rounds = (int)integer_of("ROUNDS", argv[2], 1, INT32_MAX);
    RUN(transforms);
    RUN(steps);
    RUN(tables);
    RUN(qk_clip);
    RUN(qk_clip_mla);
    RUN(names);
    return tests_end();
}

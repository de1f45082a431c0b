/* fast_math.c - muon.h in a program built with -Ofast -ffast-math, C99 or C++: every NaN and infinity is still found.
 *
 * Compiled and run by test_muon. In such a program isnan is constant, so the numbers come from their bits, go to muon.h
 * through memory, and what comes back is looked at as bits. Prints each check that fails; exit code 1 then.
 */
#define MUON_IMPLEMENTATION
#include "muon.h"
#include <stdio.h>

static const unsigned broken[] = { 0x7fc00000u, 0x7f800000u, 0xff800000u, 0x7f800001u };   // NaN, +inf, -inf, NaN
enum { BROKEN = sizeof broken / sizeof *broken, ROWS = 6, COLS = 9, N = ROWS * COLS, HEADS = 4 };

static int failures;
#define CHECK(condition) ((condition) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #condition)))

static float float_of(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double double_of(unsigned bits) {   // of a float's exponent and mantissa
    unsigned long long wide = (unsigned long long)(bits & 0x80000000u) << 32 | 0x7ffull << 52
                            | (unsigned long long)(bits & 0x7fffffu) << 29;
    double x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

static unsigned exponent_of(double x) {
    unsigned long long bits;
    memcpy(&bits, &x, sizeof bits);
    return (unsigned)(bits >> 52) & 0x7ff;
}

static unsigned long long drawn = 1;
static float number(void) {   // in [-0.5, 0.5)
    drawn = drawn * 6364136223846793005ull + 1442695040888963407ull;
    return (float)((double)(drawn >> 40) / 16777216.0 - 0.5);
}

static float w[N], g[N], state[2 * N], scratch[4 * N + 4 * N];
static double room[4 * N];

static MuonParam param(int rule) {
    MuonParam p = { "w", w, g, 1, ROWS, COLS, 0, 0, 0.01, 0.1, NULL, { 0 } };
    p.rule = rule;
    for (int i = 0; i < N; i++) w[i] = number(), g[i] = number();
    return p;
}

static void gradients(int rule) {
    MuonOptions o = muon_default_options();
    MuonParam p = param(rule);
    Muon m;
    CHECK(muon_init(&m, &p, 1, &o, state) == MUON_OK);
    CHECK(muon_scratch_bytes(&p, 1, &o) <= sizeof scratch);
    CHECK(muon_step(&m, 1.0, 1.0, scratch, 1) == MUON_OK);
    for (int i = 0; i < BROKEN; i++) {
        const float kept = g[i];
        g[i] = float_of(broken[i]);
        CHECK(muon_step(&m, 1.0, 1.0, scratch, 1) == MUON_E_NOT_FINITE && m.bad_tensor == 0 && m.t == 1);
        CHECK(exponent_of(muon_grad_norm(&m)) == 0x7ff);
        g[i] = kept;
        CHECK(muon_begin_step(&m, double_of(broken[i]), 1.0) == MUON_E_ARGUMENT && m.t == 1);
        CHECK(muon_begin_step(&m, 1.0, double_of(broken[i])) == MUON_E_ARGUMENT && m.t == 1);
    }
    g[0] = 3e38f;
    CHECK(muon_begin_step(&m, 1.0, 10.0) == MUON_E_NOT_FINITE);   // as scaled
    g[0] = 0.0f;
    size_t n;
    float *momentum = muon_state(&m, 0, MUON_SLOT_MOMENTUM, &n);
    if (!momentum) return;
    momentum[3] = float_of(broken[0]);
    const int code = muon_step(&m, 1.0, 1.0, scratch, 1);
    CHECK(code == MUON_E_STATE || code == MUON_E_DIVERGED);
}

static void huge_and_tiny(int rule, int scale) {
    const float sizes[] = { 1e-42f, 1e-40f, 1e-30f, 1e30f, 3e38f };
    for (int s = 0; s < 5; s++) {
        MuonOptions o = muon_default_options();
        MuonParam p = param(rule);
        Muon m;
        o.scale = scale;
        CHECK(muon_init(&m, &p, 1, &o, state) == MUON_OK);
        for (int i = 0; i < N; i++) g[i] = (i % 3 ? sizes[s] : -sizes[s]);
        for (int step = 0; step < 2; step++) {
            const int code = muon_step(&m, 1.0, 1.0, scratch, 1);
            CHECK(code == MUON_OK);
            for (int i = 0; i < N; i++) CHECK(exponent_of(w[i]) != 0x7ff);
            if (rule == MUON_RULE_RMSPROP || (rule >= MUON_RULE_ADAM && rule <= MUON_RULE_ADAMW))
                for (int i = 0; i < N; i++) CHECK(fabs(w[i]) < 1.0);
        }
    }
}

static void tables(void) {
    MuonOptions o = muon_default_options();
    MuonParam p = param(MUON_RULE_MUON);
    MuonCoefficients c = *o.coefficients;
    Muon m;
    for (int i = 0; i < BROKEN; i++) {
        const double bad = double_of(broken[i]);
        double *const fields[] = { &o.momentum, &o.beta1, &o.beta2, &o.eps, &c.norm, &c.abc[0][1], &p.lr, &p.weight_decay };
        for (int k = 0; k < 8; k++) {
            const double kept = *fields[k];
            o.coefficients = &c;
            *fields[k] = bad;
            CHECK(muon_init(&m, &p, 1, &o, state) == (k < 6 ? MUON_E_OPTIONS : MUON_E_PARAM));
            *fields[k] = kept;
        }
        CHECK(muon_init(&m, &p, 1, &o, state) == MUON_OK);
    }
    CHECK(exponent_of(muon_scale(-1, 2, 2)) == 0x7ff && exponent_of(muon_flops(-1, 2, 2, 5)) == 0x7ff);
}

static void transforms(void) {
    const MuonCoefficients *keller = muon_coefficients(MUON_COEFF_KELLER);
    for (int i = 0; i < BROKEN; i++) {
        param(MUON_RULE_MUON);
        w[i] = float_of(broken[i]);
        CHECK(muon_orthogonalize(w, ROWS, COLS, keller, 5, scratch) == MUON_E_NOT_FINITE);
        CHECK(muon_svd_power(w, ROWS, COLS, 0.5, room) == MUON_E_NOT_FINITE);
        CHECK(muon_spectral_power(w, ROWS, COLS, 0.5, scratch) == MUON_E_NOT_FINITE);
        CHECK(muon_svd_power(g, ROWS, COLS, double_of(broken[i]), room) == MUON_E_ARGUMENT);
    }
    for (int i = 0; i < N; i++) g[i] *= 1e30f;
    CHECK(muon_svd_power(g, ROWS, COLS, 2.0, room) == MUON_E_DIVERGED);
}

static void qk_clip(void) {
    float q[HEADS * 2], k[HEADS * 2], logits[HEADS];
    for (int i = 0; i < BROKEN; i++)
        for (int mla = 0; mla < 2; mla++) {
            int clipped = -1;
            for (int h = 0; h < HEADS; h++) logits[h] = 50.0f * (float)(h + 1), q[h] = k[h] = q[HEADS + h] = k[HEADS + h] = 1.0f;
            logits[2] = float_of(broken[i]);
            const int silent = broken[i] == 0xff800000u;   // -infinity: no logit was seen
            const int code = mla ? muon_qk_clip_mla(q, 2, k, 2, 1, HEADS, 1, 0, logits, 100.0, 0.5, &clipped)
                                 : muon_qk_clip(q, NULL, k, NULL, HEADS, HEADS, 1, 2, logits, 100.0, 0.5, &clipped);
            CHECK(code == (silent ? MUON_OK : MUON_E_LOGIT) && clipped == (silent ? 1 : 0));
            CHECK((exponent_of(muon_qk_gamma(double_of(broken[i]), 100.0)) == 0x7ff) == !silent);
            for (int h = 0; h < HEADS * 2; h++) CHECK(silent || (q[h] == 1.0f && k[h] == 1.0f));
            logits[2] = 150.0f;
            CHECK(muon_qk_clip(q, NULL, k, NULL, HEADS, HEADS, 1, 2, logits, double_of(broken[i]), 0.5, NULL) == MUON_E_ARGUMENT);
            CHECK(muon_qk_clip(q, NULL, k, NULL, HEADS, HEADS, 1, 2, logits, 100.0, double_of(broken[i]), NULL) == MUON_E_ARGUMENT);
        }
}

int main(void) {
    for (int rule = MUON_RULE_SGD; rule < MUON_RULE_COUNT; rule++) {
        gradients(rule);
        for (int scale = 0; scale < MUON_SCALE_COUNT; scale++) huge_and_tiny(rule, scale);
    }
    tables();
    transforms();
    qk_clip();
    return failures > 0;
}

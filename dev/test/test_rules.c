/* test_rules.c - every rule of muon.h, and every transform, against the float64 references of dev/golden/make_rules.py.
 *
 * A bound on weights is relative to how far they moved, |w - reference| / |reference - start|, so that a small step
 * can't hide behind large weights. Run from the project's root.
 */
#define _GNU_SOURCE
#define MUON_IMPLEMENTATION
#include "../../muon.h"
#include "test.h"
#include "../../src/checkpoint.h"
#include "../../src/json.h"

enum { STEPS = 50 };

// ---------------------------------------------------------------------------------------------------------------------
// The golden files and small things

static Checkpoint steps_file, transforms_file;

static void open_golden(Checkpoint *file, const char *path) {
    char error[512];
    if (checkpoint_open(file, path, error, sizeof error) != 0) fail("%s", error);
}

PRINTF_LIKE(2, 3) static const CkptTensor *golden(const Checkpoint *file, const char *fmt, ...) {
    char name[96];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    const CkptTensor *t = checkpoint_find(file, name);
    if (!t) fail("%s: no tensor %s", file->path, name);
    return t;
}

static const double *golden_numbers(const Checkpoint *file, const char *name) { return golden(file, "%s", name)->data; }

static float *copy_of(const float *x, size_t n) {
    float *y = xmalloc(n * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

// A copy of x, rows x cols, or of its transpose: for tests of both orientations.
static float *turned(const float *x, int rows, int cols, bool turn) {
    float *y = copy_of(x, (size_t)rows * (size_t)cols);
    for (int i = 0; i < rows && turn; i++)
        for (int j = 0; j < cols; j++) y[j * rows + i] = x[i * cols + j];
    return y;
}

static void fill(float *x, size_t n, uint64_t stream) {   // uniform numbers in [-1, 1)
    for (size_t i = 0; i < n; i++) x[i] = 2.0f * uniform_of(hash64(stream, i)) - 1.0f;
}

// |x - reference| / |reference - start|, Frobenius; start NULL: zero.
static double error_of(const float *x, const float *reference, const float *start, size_t n) {
    double e = 0.0, r = 0.0;
    for (size_t i = 0; i < n; i++) {
        double moved = reference[i] - (start ? (double)start[i] : 0.0), off = (double)x[i] - reference[i];
        e += off * off;
        r += moved * moved;
    }
    return sqrt(e / r);
}

static double largest(double a, double b) { return a > b || a != a ? a : b; }   // NaN is the largest of all

// ---------------------------------------------------------------------------------------------------------------------
// Fifty steps of every rule

static double option(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item) fail("%s: no %s in its cases", steps_file.path, name);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : item->valuedouble;
}

static const char *option_name(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static int number_of(const char *(*name_of)(int), const char *name) {
    for (int i = 0; name_of(i); i++)
        if (strcmp(name_of(i), name) == 0) return i;
    fail("%s: muon.h knows no %s", steps_file.path, name);
}

static const char *set_name(int set) { return set < MUON_COEFF_COUNT ? muon_coefficients(set)->name : NULL; }

static const char *axis_name(int axis) { return axis < MUON_AXIS_COUNT ? axis == MUON_AXIS_ROWS ? "rows" : "longer" : NULL; }

static MuonOptions options_of(const cJSON *c) {
    MuonOptions o = muon_default_options();
    o.momentum = option(c, "momentum");
    o.nesterov = option_name(c, "nesterov") ? MUON_NESTEROV_CORRECTED : (int)option(c, "nesterov");
    o.look_ahead = option(c, "look_ahead");
    o.guard = option(c, "guard");
    o.guard_form = strcmp(option_name(c, "guard_form"), "add") ? MUON_GUARD_MAX : MUON_GUARD_ADD;
    o.equalize = (int)option(c, "equalize");
    o.renormalize = (int)option(c, "renormalize");
    o.rms = option(c, "rms");
    o.decay_scaled = (int)option(c, "decay_scaled");
    o.adam_nesterov = (int)option(c, "adam_nesterov");
    o.accumulate = (int)option(c, "accumulate");
    o.coefficients = muon_coefficients(number_of(set_name, option_name(c, "coefficients")));
    o.ns_steps = (int)option(c, "ns_steps");
    o.scale = number_of(muon_scale_name, option_name(c, "scale"));
    o.cautious = (int)option(c, "cautious");
    o.axis = number_of(axis_name, option_name(c, "axis"));
    o.beta1 = option(c, "beta1");
    o.beta2 = option(c, "beta2");
    o.eps = option(c, "eps");
    return o;
}

static int block(const cJSON *c, int i) {
    const cJSON *height = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(c, "blocks"), i);
    return height ? height->valueint : 0;
}

// Runs a case on a matrix such as "gaussian_wide". Returns the worst error as a part of the bound.
static double run_case(const cJSON *c, const char *matrix, double bound) {
    const char *name = option_name(c, "name"), *shape = strchr(matrix, '_') + 1;
    const CkptTensor *base = golden(&steps_file, "base.%s", matrix);
    const int rows = (int)base->shape[0], cols = (int)base->shape[1];
    const size_t n = (size_t)rows * (size_t)cols;
    const int *columns = golden(&steps_file, "columns.%d", cols)->data;
    const double *lr_factor = golden_numbers(&steps_file, "lr_factor");
    const double *momentum_factor = golden_numbers(&steps_file, "momentum_factor");
    const double *grad_scale = golden_numbers(&steps_file, "grad_scale");
    const double *decay_factor = golden_numbers(&steps_file, "decay_factor");
    const float *start = golden(&steps_file, "w.%s", shape)->data;
    float *w = copy_of(start, n), *g = xmalloc(n * sizeof *g);
    const MuonOptions options = options_of(c);
    const MuonParam p = { matrix, w, g, 1, rows, cols, 0, number_of(muon_rule_name, option_name(c, "rule")),
                          option(c, "lr"), option(c, "weight_decay"), NULL, { block(c, 0), block(c, 1) } };
    void *memory = xmalloc(muon_state_bytes(&p, 1, &options)), *scratch = xmalloc(muon_scratch_bytes(&p, 1, &options));
    Muon m;
    CHECK(muon_init(&m, &p, 1, &options, memory) == MUON_OK);
    double worst = 0.0;
    for (int t = 0; t < STEPS; t++) {
        for (int j = 0; j < cols; j++) {
            const int from = columns[t * cols + j];
            for (int i = 0; i < rows; i++) {
                const float x = ((const float *)base->data)[i * cols + abs(from) - 1];
                g[i * cols + j] = from < 0 ? -x : x;
            }
        }
        m.options.momentum = options.momentum * momentum_factor[t];
        m.options.decay_factor = decay_factor[t];
        int code = muon_step(&m, lr_factor[t], grad_scale[t], scratch, 1);
        CHECK_MSG(code == MUON_OK, "%s, %s, step %d: %s", name, matrix, t + 1, muon_strerror(code));
        if (code != MUON_OK) break;
        if (t != 0 && t != STEPS - 1) continue;
        const float *reference = golden(&steps_file, "%s.%s.%s", t ? "last" : "first", name, matrix)->data;
        const double error = error_of(w, reference, start, n);
        CHECK_MSG(error <= bound, "%s, %s, step %d: error %.2e, at most %.0e", name, matrix, t + 1, error, bound);
        worst = largest(error / bound, worst);
    }
    free(memory); free(scratch); free(w); free(g);
    return worst;
}

TEST(every_rule_for_fifty_steps) {
    const CkptTensor *text = golden(&steps_file, "cases");
    cJSON *cases = cJSON_ParseWithLength(text->data, (size_t)text->shape[0]);
    const cJSON *c, *bound;
    bool seen[MUON_RULE_COUNT] = { [MUON_RULE_NONE] = true };
    cJSON_ArrayForEach(c, cases) {
        double worst = 0.0;
        cJSON_ArrayForEach(bound, cJSON_GetObjectItemCaseSensitive(c, "matrices"))
            worst = largest(run_case(c, bound->string, bound->valuedouble), worst);
        printf("     %-26s worst error %.2f of the bound\n", option_name(c, "name"), worst);
        seen[number_of(muon_rule_name, option_name(c, "rule"))] = true;
    }
    for (int rule = 0; rule < MUON_RULE_COUNT; rule++) CHECK_MSG(seen[rule], "no case of %s", muon_rule_name(rule));
    cJSON_Delete(cases);
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrices with their factors: x = U S V^T

typedef struct {
    const char *name;
    int rows, cols, rank;
    const float *x, *u, *vt;
    const double *s;
    double norm;                            // of s
} Factored;

static Factored factored(const char *name) {
    const CkptTensor *x = golden(&transforms_file, "x.%s", name), *s = golden(&transforms_file, "s.%s", name);
    Factored f = { name, (int)x->shape[0], (int)x->shape[1], (int)s->shape[0], x->data,
                   golden(&transforms_file, "u.%s", name)->data, golden(&transforms_file, "vt.%s", name)->data, s->data,
                   0.0 };
    for (int i = 0; i < f.rank; i++) f.norm += f.s[i] * f.s[i];
    f.norm = sqrt(f.norm);
    return f;
}

static const char *const matrices[] = { "gaussian_wide", "gaussian_square", "gaussian_tall", "inverse_wide",
                                        "inverse2_wide", "rank8_wide", "row", "column" };

// size^power U S^power V^T
static void exact_power(const Factored *f, double power, double size, float *out) {
    for (int i = 0; i < f->rows; i++)
        for (int j = 0; j < f->cols; j++) {
            double sum = 0.0;
            for (int k = 0; k < f->rank; k++)
                sum += (double)f->u[i * f->rank + k] * pow(size * f->s[k], power) * f->vt[k * f->cols + j];
            out[i * f->cols + j] = (float)sum;
        }
}

// D = U^T X V, rank x rank: a diagonal of singular values where X has the factors of f.
static void in_factors(const Factored *f, const float *x, double *D) {
    const int r = f->rank;
    double *row = xmalloc(sizeof *row * (size_t)f->cols);
    for (int k = 0; k < r; k++) {
        for (int j = 0; j < f->cols; j++) {
            row[j] = 0.0;
            for (int i = 0; i < f->rows; i++) row[j] += (double)f->u[i * r + k] * x[i * f->cols + j];
        }
        for (int l = 0; l < r; l++) {
            D[k * r + l] = 0.0;
            for (int j = 0; j < f->cols; j++) D[k * r + l] += row[j] * f->vt[l * f->cols + j];
        }
    }
    free(row);
}

typedef int Transform(float *x, int rows, int cols, double power, void *scratch);

// The error of (size x)^power by muon_svd_power or muon_spectral_power, directly or by way of the transpose.
static double power_error(const Factored *f, Transform *transform, double power, double size, bool turn) {
    const int rows = turn ? f->cols : f->rows, cols = turn ? f->rows : f->cols;
    const size_t n = (size_t)rows * (size_t)cols;
    float *x = turned(f->x, f->rows, f->cols, turn), *exact = xmalloc(n * sizeof *exact);
    size_t bytes = transform == muon_svd_power ? muon_svd_power_bytes(rows, cols)
                                               : muon_spectral_power_bytes(rows, cols);
    void *scratch = xmalloc(bytes);
    for (size_t i = 0; i < n; i++) x[i] = (float)(x[i] * size);
    CHECK(transform(x, rows, cols, power, scratch) == MUON_OK);
    float *back = turned(x, rows, cols, turn);
    exact_power(f, power, size, exact);
    const double error = error_of(back, exact, NULL, n);
    free(x); free(exact); free(scratch); free(back);
    return error;
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton-Schulz

TEST(scalar_maps) {
    const CkptTensor *in = golden(&transforms_file, "phi.in");
    for (int set = 0; set < MUON_COEFF_COUNT; set++) {
        const MuonCoefficients *c = muon_coefficients(set);
        const CkptTensor *out = golden(&transforms_file, "phi.%s", c->name);
        for (uint64_t i = 0; i < out->shape[0] * out->shape[1]; i++) {
            const int steps = (int)(i / out->shape[1]) + 1;
            const double x = ((const double *)in->data)[i % out->shape[1]], y = ((const double *)out->data)[i];
            CHECK_MSG(fabs(muon_phi(c, steps, x) - y) <= 1e-12 * y, "%s, %d steps: phi(%g) = %.15g, expected %.15g",
                      c->name, steps, x, muon_phi(c, steps, x), y);
        }
    }
}

// Every singular value is phi of what it was, the factors stay; and the update is as near to U V^T as the tables say.
// Rounding is amplified as a tiny singular value is, by the set's gain.
static void check_quality(const MuonCoefficients *c, const Factored *f, bool turn) {
    const int rows = turn ? f->cols : f->rows, cols = turn ? f->rows : f->cols, r = f->rank;
    const size_t n = (size_t)rows * (size_t)cols;
    const double bound = 1e-7 * muon_phi(c, c->steps, 1e-9) / 1e-9;
    float *way = turned(f->x, f->rows, f->cols, turn);
    void *scratch = xmalloc(muon_orthogonalize_bytes(rows, cols));
    CHECK(muon_orthogonalize(way, rows, cols, c, c->steps, scratch) == MUON_OK);
    float *x = turned(way, rows, cols, turn);
    double *D = xmalloc(sizeof *D * (size_t)r * (size_t)r), gram_error = 0.0, trace = 0.0, inside = 0.0, all = 0.0;
    double found[4] = { INFINITY, 0.0, 0.0, 0.0 }, worst = 0.0;
    in_factors(f, x, D);
    for (int k = 0; k < r; k++) {
        const double s = D[k * r + k];
        for (int l = 0; l < r; l++) {
            const double expected = k == l ? muon_phi(c, c->steps, f->s[k] / f->norm) : 0.0;
            double sum = k == l ? -1.0 : 0.0;
            for (int j = 0; j < r; j++) sum += D[k * r + j] * D[l * r + j];
            gram_error += sum * sum;
            inside += D[k * r + l] * D[k * r + l];
            worst = largest(fabs(D[k * r + l] - expected), worst);
        }
        found[0] = s < found[0] ? s : found[0];
        found[1] = largest(s, found[1]);
        trace += s;
    }
    for (size_t i = 0; i < n; i++) all += (double)x[i] * x[i];
    found[2] = sqrt(gram_error);
    found[3] = trace / sqrt(all) / sqrt(r);
    CHECK_MSG(worst <= bound, "%s, %s: a singular value differs by %.1e", c->name, f->name, worst);
    CHECK_MSG(all - inside <= fmax(1e-6, bound * bound) * all, "%s, %s: %.1e lies outside", c->name, f->name, all - inside);
    const double *expected = golden(&transforms_file, "quality.%s.%s", c->name, f->name)->data;
    static const char *const words[] = { "smallest", "largest", "|XX^T - 1|", "cosine" };
    for (int i = 0; i < 4; i++)
        CHECK_MSG(fabs(found[i] - expected[i]) <= fmax(5e-5, fmin(bound, 2e-4)), "%s, %s: %s %.6f, expected %.6f", c->name, f->name, words[i],
                  found[i], expected[i]);
    free(D); free(way); free(x); free(scratch);
}

TEST(singular_values_and_quality_of_every_set) {
    for (int set = 0; set < MUON_COEFF_COUNT; set++)
        for (size_t i = 0; i < COUNT_OF(matrices); i++) {
            const Factored f = factored(matrices[i]);
            for (int t = 0; t < 2; t++) check_quality(muon_coefficients(set), &f, t);
        }
}

// c = a b in double, a p x inner and b inner x q; trans: b lies transposed, q x inner.
static void multiply(double *c, const double *a, const double *b, int p, int inner, int q, bool trans) {
    for (int i = 0; i < p; i++)
        for (int j = 0; j < q; j++) {
            double sum = 0.0;
            for (int k = 0; k < inner; k++) sum += a[i * inner + k] * (trans ? b[j * inner + k] : b[k * q + j]);
            c[i * q + j] = sum;
        }
}

// The textbook's iteration in double, of a wide x, rounded at the end.
static void newton_schulz_in_double(const float *x, int p, int q, const MuonCoefficients *c, float *out) {
    const size_t n = (size_t)p * (size_t)q, pp = (size_t)p * (size_t)p;
    double *X = xmalloc(n * sizeof *X), *BX = xmalloc(n * sizeof *BX), norm = 0.0;
    double *A = xmalloc(pp * sizeof *A), *B = xmalloc(pp * sizeof *B);
    for (size_t i = 0; i < n; i++) norm += (double)x[i] * x[i];
    for (size_t i = 0; i < n; i++) X[i] = x[i] / (c->norm * sqrt(norm));
    for (int step = 0; step < c->steps; step++) {
        const double *abc = c->abc[step < c->rows ? step : c->rows - 1];
        multiply(A, X, X, p, q, p, true);
        multiply(B, A, A, p, p, p, true);
        for (size_t i = 0; i < pp; i++) B[i] = abc[1] * A[i] + abc[2] * B[i];
        multiply(BX, B, X, p, p, q, false);
        for (size_t i = 0; i < n; i++) X[i] = abc[0] * X[i] + BX[i];
    }
    for (size_t i = 0; i < n; i++) out[i] = (float)X[i];
    free(X); free(BX); free(A); free(B);
}

// U diag(s) V^T with random factors (the polar factors of random matrices) and s_i = (i + 1)^-power up to the rank.
static float *with_spectrum(int p, int q, double power, int rank) {
    float *u = xmalloc(sizeof *u * (size_t)p * (size_t)p), *v = xmalloc(sizeof *v * (size_t)p * (size_t)q);
    float *x = xmalloc(sizeof *x * (size_t)p * (size_t)q);
    void *scratch = xmalloc(muon_svd_power_bytes(p, q));
    fill(u, (size_t)p * (size_t)p, 1);
    fill(v, (size_t)p * (size_t)q, 2);
    CHECK(muon_svd_power(u, p, p, 0.0, scratch) == MUON_OK && muon_svd_power(v, p, q, 0.0, scratch) == MUON_OK);
    for (int i = 0; i < p; i++)
        for (int j = 0; j < q; j++) {
            double sum = 0.0;
            for (int k = 0; k < rank; k++) sum += u[i * p + k] * pow(k + 1.0, -power) * v[k * q + j];
            x[i * q + j] = (float)sum;
        }
    free(u); free(v); free(scratch);
    return x;
}

// x by the iteration, alone or in Gram space, by way of the transpose or not; wide.
static float *iterated(const float *x, int p, int q, const MuonCoefficients *c, bool turn, int alone) {
    const int rows = turn ? q : p, cols = turn ? p : q;
    float *y = turned(x, p, q, turn), *other = xmalloc(muon_orthogonalize_bytes(p, q));
    double length;
    CHECK(muon__normalize(y, (size_t)p * (size_t)q, c->norm, NULL, &length));
    float *out = turned(muon__newton_schulz(y, other, rows, cols, c, c->steps, alone ? 1 : MUON_GRAM_STEPS), rows, cols, turn);
    free(y); free(other);
    return out;
}

// Where sharing a Gram matrix saves hardly any work, it is not done: the plain iteration's bits.
TEST(nearly_square_matrices_share_no_gram_matrix) {
    for (int q = 40; q <= 80; q += 4) {
        const size_t n = 40 * (size_t)q;
        float *x = with_spectrum(40, q, 1.0, 40), *own = iterated(x, 40, q, muon_coefficients(MUON_COEFF_KELLER), false, 0);
        float *plain = iterated(x, 40, q, muon_coefficients(MUON_COEFF_KELLER), false, 1);
        const bool same = memcmp(own, plain, n * sizeof *own) == 0;
        CHECK_MSG(same == (q <= 48), "40 x %d: %s", q, same ? "the plain bits" : "other bits");
        free(x); free(own); free(plain);
    }
}

// On spectra with a long tail, where rounding is amplified most.
TEST(gram_space_against_the_textbook) {
    enum { P = 32 };
    const double ratios[] = { 1.5, 2.0, 4.0, 8.0 };
    for (int set = 0; set < MUON_COEFF_COUNT; set++) {
        const MuonCoefficients *c = muon_coefficients(set);
        const double bound = fmax(2e-4, 5e-8 * muon_phi(c, c->steps, 1e-9) / 1e-9);   // rounding grows as the gain does
        double worst[2][3] = { { 0.0 } };
        for (size_t i = 0; i < COUNT_OF(ratios) * 2; i++) {
            const int q = (int)(P * ratios[i / 2]), low_rank = (int)(i % 2);
            const size_t n = (size_t)P * (size_t)q;
            float *x = with_spectrum(P, q, low_rank ? 0.0 : 2.0, low_rank ? 8 : P), *exact = xmalloc(n * sizeof *exact);
            newton_schulz_in_double(x, P, q, c, exact);
            for (int t = 0; t < 2; t++) {
                float *gram = iterated(x, P, q, c, t, 0), *plain = iterated(x, P, q, c, t, 1);
                const double e[] = { error_of(gram, plain, NULL, n), error_of(gram, exact, NULL, n),
                                     error_of(plain, exact, NULL, n) };
                for (int k = 0; k < 3; k++) {
                    CHECK_MSG(e[k] <= bound, "%s, %d x %d%s, %s: %s %.1e", c->name, P, q, t ? " transposed" : "",
                              low_rank ? "rank 8" : "i^-2", k == 0 ? "Gram and plain differ by"
                              : k == 1 ? "Gram space errs by" : "the plain iteration errs by", e[k]);
                    worst[low_rank][k] = largest(e[k], worst[low_rank][k]);
                }
                free(gram); free(plain);
            }
            free(x); free(exact);
        }
        for (int k = 0; k < 2; k++)
            printf("     %-20s %-7s Gram against plain %.1e, Gram's error %.1e, plain's %.1e\n", c->name,
                   k ? "rank 8" : "i^-2", worst[k][0], worst[k][1], worst[k][2]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// U S^p V^T

TEST(svd_power_against_numpy) {
    const double powers[] = { 0.0, 0.25, 0.5, 1.0, 2.0 };
    for (size_t i = 0; i < COUNT_OF(matrices) * COUNT_OF(powers) * 2; i++) {
        const Factored f = factored(matrices[i / 2 / COUNT_OF(powers)]);
        const double power = powers[i / 2 % COUNT_OF(powers)];
        const double e = power_error(&f, muon_svd_power, power, 1.0, i % 2);
        CHECK_MSG(e <= 1e-6, "%s, power %g: error %.1e", f.name, power, e);
    }
    float zero[5 * 7] = { 0 }, nothing[5 * 7] = { 0 };
    double scratch[5 * 7 + 5 * 5];
    CHECK(muon_svd_power_bytes(5, 7) == sizeof scratch);
    for (size_t i = 0; i < COUNT_OF(powers); i++) CHECK(muon_svd_power(zero, 5, 7, powers[i], scratch) == MUON_OK);
    CHECK(memcmp(zero, nothing, sizeof zero) == 0);
}

static const double spectral_powers[] = { 0.5, 0.25, 0.0 };

// The error against U S^p V^T is the ridge's, that of the same iteration in float64, whatever the size of x. Float32
// adds its rounding; where the rank is low, the other directions hold nothing else, times up to sqrt(1e4 p).
TEST(spectral_powers_at_every_scale) {
    const double sizes[] = { 1e-6, 1.0, 1e6 };
    for (size_t i = 0; i < COUNT_OF(matrices) * 18; i++) {
        const Factored f = factored(matrices[i / 18]);
        const int power = (int)(i / 6 % 3);
        const double size = sizes[i / 2 % 3], p = spectral_powers[power];
        const double e = power_error(&f, muon_spectral_power, p, size, i % 2);
        const double expected = ((const double *)golden(&transforms_file, "spectral.%s", f.name)->data)[power];
        const double rounding = f.rank < f.rows && f.rank < f.cols ? 1e-4 : 2e-5;
        CHECK_MSG(fabs(e - expected) <= 0.01 * expected + rounding, "%s, power %g, size %g: error %.3e, expected %.3e",
                  f.name, p, size, e, expected);
    }
}

/* What muon.h states of every singular value, on diagonal matrices: a few large ones and nearly nothing else, where they
 * come out too large; spectra that fall, down to the smallest value that is promised and one just below a third of it. */
TEST(bounds_of_spectral_powers) {
    static const double most[] = { 0.022, 0.033, 0.001 }, at_rank_one[] = { 0.0207, 0.0312, 0.0 };
    static const int sizes[] = { 2, 8, 16, 32, 64, 128 };
    for (size_t t = 0; t < COUNT_OF(sizes) * 12; t++) {
        const int p = sizes[t / 12], ranks[] = { 1, 2, p / 2, p }, rank = ranks[t / 3 % 4], power = (int)(t % 3);
        const double from = fmax(0.004, 0.023 / sqrt(p));
        float *x = xcalloc((size_t)p * (size_t)p, sizeof *x);
        void *room = xmalloc(muon_spectral_power_bytes(p, p));
        double *s = xcalloc((size_t)p, sizeof *s), norm = 0.0;
        for (int i = 0; i < rank; i++) s[i] = rank > 2 ? pow(i + 1.0, -2) : 1.0;
        if (rank > 1) s[rank - 1] = from * 1.05;
        for (int i = 0; i < p; i++) norm += s[i] * s[i];
        if (p > rank) s[p - 1] = from / 3 * sqrt(norm);
        for (int i = 0; i < p; i++) x[i * p + i] = (float)s[i];
        CHECK(muon_spectral_power(x, p, p, spectral_powers[power], room) == MUON_OK);
        for (int i = 0; i < p; i++) {
            const double error = s[i] > 0 ? x[i * p + i] / pow(s[i], spectral_powers[power]) - 1 : 0.0;
            if (s[i] < from * sqrt(norm)) continue;
            CHECK_MSG(error >= -0.1 && error <= most[power], "power %g, %d x %d of rank %d: %g of %g is %+.2f %% off",
                      spectral_powers[power], p, p, rank, s[i], sqrt(norm), 100 * error);
            if (rank == 1 && p == 128)
                CHECK_MSG(fabs(error - at_rank_one[power]) <= 5e-4, "power %g: %+.4f", spectral_powers[power], error);
        }
        if (p > rank && power == 2) CHECK_MSG(x[p * p - 1] < 0.75, "%g, below what is promised", x[p * p - 1]);
        free(x), free(s), free(room);
    }
}

// Against the SVD; a square random matrix errs by its smallest singular values, which the ridge covers.
TEST(spectral_powers_of_larger_matrices) {
    const struct { const char *name; int p, q; double bounds[3]; } rows[] = {
        { "random 1:4", 64, 256, { 5e-5, 6e-5, 1e-4 } },
        { "random square", 128, 128, { 3e-3, 1.1e-2, 1e-1 } },
        { "1/i", 64, 256, { 2.5e-3, 2.5e-3, 1e-2 } } };
    for (size_t i = 0; i < COUNT_OF(rows) * 3; i++) {
        const int p = rows[i / 3].p, q = rows[i / 3].q;
        const double power = spectral_powers[i % 3], bound = rows[i / 3].bounds[i % 3];
        const size_t n = (size_t)p * (size_t)q;
        void *scratch = xmalloc(muon_svd_power_bytes(p, q)), *room = xmalloc(muon_spectral_power_bytes(p, q));
        float *x = with_spectrum(p, q, 1.0, p);
        if (i / 3 < 2) fill(x, n, 3 + i / 3);
        float *exact = copy_of(x, n);
        CHECK(muon_spectral_power(x, p, q, power, room) == MUON_OK);
        CHECK(muon_svd_power(exact, p, q, power, scratch) == MUON_OK);
        const double e = error_of(x, exact, NULL, n);
        CHECK_MSG(e <= bound, "%s, power %g: error %.2e, at most %.1e", rows[i / 3].name, power, e, bound);
        free(x); free(exact); free(scratch); free(room);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    open_golden(&steps_file, "dev/golden/rules_steps.golden");
    open_golden(&transforms_file, "dev/golden/rules_transforms.golden");
    RUN(every_rule_for_fifty_steps);
    RUN(scalar_maps);
    RUN(singular_values_and_quality_of_every_set);
    RUN(nearly_square_matrices_share_no_gram_matrix);
    RUN(gram_space_against_the_textbook);
    RUN(svd_power_against_numpy);
    RUN(spectral_powers_at_every_scale);
    RUN(bounds_of_spectral_powers);
    RUN(spectral_powers_of_larger_matrices);
    checkpoint_close(&steps_file);
    checkpoint_close(&transforms_file);
    return tests_end();
}

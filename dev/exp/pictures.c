/* pictures.c - what Muon does to singular values and to a descent, drawn by the library's own functions.
 *
 *     build/pictures FOLDER        -> FOLDER/newton_schulz_spectrum.png, ... (README.md beside this file explains them)
 *
 * A matrix with given singular values is made as U diag(sigma) V^T from orthonormal U and V, and the singular values of
 * what a function f(sigma) made of it are u_i^T X v_i: no SVD is needed, and each is known by its number i.
 */
#define _GNU_SOURCE
#include "../../src/gemm.h"
#include "../../src/openmp.h"
#include "../../src/plot.h"
#define MUON_STATIC
#define MUON_GEMM gemm
#define MUON_GEMM_SYMMETRIC gemm_symmetric
#define MUON_IMPLEMENTATION
#include "../../muon.h"
#include "../../src/units.h"

enum {
    P = 64, Q = 128,                // every matrix is P x Q
    MAPS = 5, SHOWN = MAPS + 1,     // Newton-Schulz steps drawn one by one; then all that a set has
    MAX_STEPS = 16, X_POINTS = 400, POWERS = 4,
    DESCENT_STEPS = 300, RULES = 3, RATES = 13,
    WIDTH = 900, COLUMN = 275, HEIGHT = 200, ROW = 220,        // a picture of so many rows and columns of panels
    SET_ROWS = 3,                               // those of a panel for each coefficient set
    SET_COLORS = PLOT_COLORS - PLOT_OTHERS,     // of their curves in one panel; then they are dashed
};

static char scratch[1 << 20];       // for every transform: main checks that it is enough
static const char *folder;

static void check(int code) {
    if (code != MUON_OK) fail("muon.h: %s", muon_strerror(code));
}

static void draw(const char *name, const char *title, const PlotPanel *panels, int n, int rows) {
    char *path = format("%s/%s.png", folder, name);
    int columns = (n + rows - 1) / rows, width = columns * COLUMN > WIDTH ? columns * COLUMN : WIDTH;
    if (plot_png_small(path, title, panels, n, rows, width, HEIGHT + rows * ROW) != 0)
        fail("%s: %s", path, strerror(errno));
    printf("wrote %s\n", path);
    free(path);
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrices

static void fill_normal(float *x, size_t n, uint64_t stream) {
    for (size_t i = 0; i < n; i++) x[i] = normal_of(hash64(stream, i));
}

// Random orthonormal rows: the polar factor of a Gaussian matrix is uniform among them.
static void fill_orthonormal(float *x, int rows, int cols, uint64_t stream) {
    fill_normal(x, (size_t)rows * (size_t)cols, stream);
    check(muon_svd_power(x, rows, cols, 0, scratch));
}

// x = U diag(sigma) V^T; u is U, P x P, and v is V^T, P x Q.
static void with_spectrum(float *x, const float *u, const float *v, const double *sigma) {
    static float scaled[P * Q];
    for (int i = 0; i < P * Q; i++) scaled[i] = (float)(sigma[i / Q] * v[i]);
    gemm(false, false, P, Q, P, 1, u, P, scaled, Q, 0, x, Q);
}

// sigma_i = u_i^T x v_i, in the order that with_spectrum had them.
static void spectrum_of(double *sigma, const float *x, const float *u, const float *v) {
    static float utx[P * Q];
    gemm(true, false, P, Q, P, 1, u, P, x, Q, 0, utx, Q);
    for (int i = 0; i < P; i++) {
        sigma[i] = 0;
        for (int j = 0; j < Q; j++) sigma[i] += (double)utx[i * Q + j] * v[i * Q + j];
    }
}

static double norm_of(const double *x, int n) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

// |x - y|_F / |y|_F
static double relative_error(const float *x, const float *y, int n) {
    double e = 0, r = 0;
    for (int i = 0; i < n; i++) {
        e += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        r += (double)y[i] * y[i];
    }
    return sqrt(e / r);
}

static int descending(const void *a, const void *b) {
    return -compare_doubles(a, b);
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton-Schulz: one panel for each coefficient set, a curve for each of the first steps and one for all of the set's

typedef struct {
    char title[64];
    PlotSeries series[1 + SHOWN];
} SetPanel;

static const char *const step_labels[SHOWN] = {
    "1 step", "2 steps", "3 steps", "4 steps", "5 steps", "all of its steps",
};

// How many steps curve k has; 0 where the set has no more than the curves before.
static int steps_of_curve(const MuonCoefficients *c, int k) {
    return k < MAPS ? k + 1 : c->steps > MAPS ? c->steps : 0;
}

// The panel of set number s: curves y[k] over n points x, after those already in it.
static PlotPanel set_panel(SetPanel *p, int n_before, int s, const double *x, double (*y)[X_POINTS], int n) {
    const MuonCoefficients *c = muon_coefficients(s);
    snprintf(p->title, sizeof p->title, "%s x %d", c->name, c->steps);
    for (int k = 0; k < SHOWN; k++)
        p->series[n_before + k] = (PlotSeries){ .label = step_labels[k], .x = x, .y = y[k],
                                                .n = steps_of_curve(c, k) ? n : 0, .color = PLOT_RAMP - k };
    return (PlotPanel){ .title = p->title, .series = p->series, .n_series = n_before + SHOWN };
}

static void draw_spectrum(const float *u, const float *v) {
    static double number[P], sigma[P], before[P], after[MUON_COEFF_COUNT][SHOWN][X_POINTS];
    static SetPanel sets[MUON_COEFF_COUNT];
    PlotPanel panels[MUON_COEFF_COUNT];
    float x[P * Q], y[P * Q];
    for (int i = 0; i < P; i++) {
        number[i] = i + 1;
        sigma[i] = pow(i + 1, -1.5);
    }
    with_spectrum(x, u, v, sigma);
    for (int i = 0; i < P; i++) before[i] = sigma[i] / norm_of(sigma, P);
    for (int s = 0; s < MUON_COEFF_COUNT; s++) {
        const MuonCoefficients *c = muon_coefficients(s);
        for (int k = 0; k < SHOWN; k++) {
            if (!steps_of_curve(c, k)) continue;
            memcpy(y, x, sizeof y);
            check(muon_orthogonalize(y, P, Q, c, steps_of_curve(c, k), scratch));
            spectrum_of(after[s][k], y, u, v);
            qsort(after[s][k], P, sizeof **after[s], descending);
        }
        sets[s].series[0] = (PlotSeries){ .label = "before", .x = number, .y = before, .n = P, .color = PLOT_GREY,
                                          .style = PLOT_DASHED };
        panels[s] = set_panel(&sets[s], 1, s, number, after[s], P);
        panels[s].ylog = true;
        panels[s].ymin = 5e-4, panels[s].ymax = 2;
        panels[s].ylabel = "singular value";
        panels[s].xlabel = "number, from the largest";
    }
    draw("newton_schulz_spectrum", "Newton-Schulz lifts the singular values of a matrix, i^-1.5 here, to about 1",
         panels, MUON_COEFF_COUNT, SET_ROWS);
}

static void draw_maps(void) {
    static double x[X_POINTS], phi[MUON_COEFF_COUNT][SHOWN][X_POINTS];
    static SetPanel sets[MUON_COEFF_COUNT];
    PlotPanel panels[MUON_COEFF_COUNT];
    for (int i = 0; i < X_POINTS; i++) x[i] = pow(10, -4 + 4.0 * i / (X_POINTS - 1));
    for (int s = 0; s < MUON_COEFF_COUNT; s++) {
        const MuonCoefficients *c = muon_coefficients(s);
        for (int k = 0; k < SHOWN; k++)
            for (int i = 0; i < X_POINTS; i++) phi[s][k][i] = muon_phi(c, steps_of_curve(c, k), x[i]);
        panels[s] = set_panel(&sets[s], 0, s, x, phi[s], X_POINTS);
        panels[s].xlog = panels[s].ylog = true;
        panels[s].xmin = 1e-4, panels[s].xmax = 1, panels[s].ymin = 1e-3, panels[s].ymax = 2;
        panels[s].xlabel = "x = singular value / |u|_F";
        panels[s].ylabel = "phi(x)";
    }
    draw("newton_schulz_maps", "Newton-Schulz as a function: a singular value x becomes phi(x)", panels,
         MUON_COEFF_COUNT, SET_ROWS);
}

// ---------------------------------------------------------------------------------------------------------------------
// Distance from the exact polar factor

static void draw_error(const float *u, const float *v) {
    static double steps[MAX_STEPS], error[2][MUON_COEFF_COUNT][MAX_STEPS];
    static PlotSeries series[2][MUON_COEFF_COUNT];
    static const char *const titles[] = { "Gaussian matrix", "singular values 1, 1/2, 1/3, ... 1/64" };
    PlotPanel panels[2];
    float x[P * Q], y[P * Q], polar[P * Q];
    double sigma[P];
    for (int i = 0; i < P; i++) sigma[i] = 1.0 / (i + 1);
    for (int k = 0; k < MAX_STEPS; k++) steps[k] = k + 1;
    for (int m = 0; m < 2; m++) {
        if (m == 0) fill_normal(x, P * Q, 3);
        else with_spectrum(x, u, v, sigma);
        memcpy(polar, x, sizeof polar);
        check(muon_svd_power(polar, P, Q, 0, scratch));
        for (int s = 0; s < MUON_COEFF_COUNT; s++) {
            const MuonCoefficients *c = muon_coefficients(s);
            for (int k = 0; k < MAX_STEPS; k++) {
                memcpy(y, x, sizeof y);
                check(muon_orthogonalize(y, P, Q, c, k + 1, scratch));
                error[m][s][k] = relative_error(y, polar, P * Q);
            }
            series[m][s] = (PlotSeries){ .label = c->name, .x = steps, .y = error[m][s], .n = MAX_STEPS,
                                         .color = PLOT_OTHERS + s % SET_COLORS,
                                         .style = (s < SET_COLORS ? PLOT_LINE : PLOT_DASHED) | PLOT_POINTS };
        }
        panels[m] = (PlotPanel){ .title = titles[m], .xlabel = "Newton-Schulz steps", .ylog = true, .ymin = 1e-7,
                                 .ymax = 2, .ylabel = "|X - U V^T| / |U V^T|", .series = series[m],
                                 .n_series = MUON_COEFF_COUNT };
    }
    draw("polar_error", "Distance from the exact polar factor U V^T", panels, 2, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// The spectral family

static void draw_family(const float *u, const float *v) {
    static const double powers[POWERS] = { 1, 0.5, 0.25, 0 };
    static const char *const labels[POWERS] = { "p = 1", "p = 1/2", "p = 1/4", "p = 0" };
    static double before[P], exact[POWERS][P], products[POWERS][P];
    PlotSeries series[2 * POWERS + 2];
    float x[P * Q], y[P * Q];
    for (int i = 0; i < P; i++) before[i] = pow(10, -4.0 * (P - 1 - i) / (P - 1));
    with_spectrum(x, u, v, before);
    for (int k = 0; k < POWERS; k++) {
        memcpy(y, x, sizeof y);
        check(muon_svd_power(y, P, Q, powers[k], scratch));
        spectrum_of(exact[k], y, u, v);
        memcpy(y, x, sizeof y);
        check(muon_spectral_power(y, P, Q, powers[k], scratch));
        spectrum_of(products[k], y, u, v);
        const int color = powers[k] == 0 ? PLOT_MUON : PLOT_OTHERS + k;      // which is what Muon approaches
        series[k] = (PlotSeries){ .label = labels[k], .x = before, .y = exact[k], .n = P, .color = color };
        series[POWERS + k] = (PlotSeries){ .x = before, .y = products[k], .n = P, .color = color, .style = PLOT_POINTS };
    }
    series[2 * POWERS] = (PlotSeries){ .label = "muon_svd_power", .color = PLOT_GREY };
    series[2 * POWERS + 1] = (PlotSeries){ .label = "muon_spectral_power", .color = PLOT_GREY, .style = PLOT_POINTS };
    PlotPanel panel = { .xlabel = "singular value before", .ylabel = "singular value after", .xlog = true, .ylog = true,
                        .series = series, .n_series = 2 * POWERS + 2 };
    draw("spectral_family", "The spectral family: U S V^T becomes U S^p V^T", &panel, 1, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Descent on L(W) = 1/2 |A (W - W*) B|^2 from W = 0. Its gradient is G = H (W - W*) K with H = A^T A and K = B B^T,
// each with eigenvalues 1 ... 1e-2 in random directions: a condition number of 1e4. L = 1/2 <W - W*, G>.

typedef struct {
    float h[P * P], k[Q * Q], target[P * Q];
} Quadratic;

// A symmetric matrix, n x n, with eigenvalues 1 ... 1e-2 in equal ratios: O^T diag(lambda) O of a random orthogonal O.
static void fill_symmetric(float *h, int n, uint64_t stream) {
    static float o[Q * Q], scaled[Q * Q];
    fill_orthonormal(o, n, n, stream);
    for (int i = 0; i < n * n; i++) scaled[i] = (float)(o[i] * pow(10, -2.0 * (i / n) / (n - 1)));
    gemm(true, false, n, n, n, 1, o, (size_t)n, scaled, (size_t)n, 0, h, (size_t)n);
}

static double loss_and_gradient(const Quadratic *problem, const float *w, float *g) {
    static float difference[P * Q], product[P * Q];
    double loss = 0;
    for (int i = 0; i < P * Q; i++) difference[i] = w[i] - problem->target[i];
    gemm(false, false, P, Q, P, 1, problem->h, P, difference, Q, 0, product, Q);
    gemm(false, false, P, Q, Q, 1, product, Q, problem->k, Q, 0, g, Q);
    for (int i = 0; i < P * Q; i++) loss += 0.5 * difference[i] * g[i];
    return loss;
}

// losses: the loss before each step and after the last, over that at the start; NaN from where they leave all bounds.
static void descend(const Quadratic *problem, int rule, double lr, double *losses) {
    static float w[P * Q], g[P * Q], memory[2 * P * Q];
    MuonParam param = { .name = "W", .w = w, .g = g, .count = 1, .rows = P, .cols = Q, .rule = rule, .lr = lr };
    MuonOptions options = muon_default_options();
    Muon m;
    memset(w, 0, sizeof w);
    check(muon_init(&m, &param, 1, &options, memory));
    double start = loss_and_gradient(problem, w, g);
    for (int t = 0; t <= DESCENT_STEPS; t++) {
        losses[t] = t > 0 && isnan(losses[t - 1]) ? NAN : loss_and_gradient(problem, w, g) / start;
        if (!(losses[t] < 1e6)) losses[t] = NAN;
        else check(muon_step(&m, 1 - (double)t / DESCENT_STEPS, 1, scratch, 1));
    }
}

static void draw_descent(void) {
    static const int rules[RULES] = { MUON_RULE_SGD, MUON_RULE_ADAM, MUON_RULE_MUON };
    static Quadratic problem;
    static double step[DESCENT_STEPS + 1], rates[RATES], losses[RULES][RATES][DESCENT_STEPS + 1], last[RULES][RATES];
    char labels[RULES][64];
    const char *names[RULES];
    int colors[RULES];
    PlotSeries curves[RULES], finals[RULES];
    for (int k = 0; k < RULES; k++) names[k] = muon_rule_name(rules[k]);
    plot_choose_colors(names, RULES, colors);
    fill_symmetric(problem.h, P, 4);
    fill_symmetric(problem.k, Q, 5);
    fill_normal(problem.target, P * Q, 6);
    for (int t = 0; t <= DESCENT_STEPS; t++) step[t] = t;
    for (int r = 0; r < RATES; r++) rates[r] = pow(10, -4 + r / 2) * (r % 2 ? 3 : 1);
    for (int k = 0; k < RULES; k++) {
        int best = 0;
        for (int r = 0; r < RATES; r++) {
            descend(&problem, rules[k], rates[r], losses[k][r]);
            last[k][r] = losses[k][r][DESCENT_STEPS];
            if (isnan(last[k][best]) || last[k][r] < last[k][best]) best = r;
        }
        snprintf(labels[k], sizeof labels[k], "%s, best with lr %g", names[k], rates[best]);
        curves[k] = (PlotSeries){ .label = labels[k], .x = step, .y = losses[k][best], .n = DESCENT_STEPS + 1,
                                  .color = colors[k] };
        finals[k] = (PlotSeries){ .label = labels[k], .x = rates, .y = last[k], .n = RATES, .color = colors[k],
                                  .style = PLOT_LINE | PLOT_POINTS };
    }
    PlotPanel panels[] = {
        { .title = "each rule with its best learning rate", .xlabel = "step", .ylabel = "loss / loss at the start",
          .ylog = true, .series = curves, .n_series = RULES },
        { .title = "the grid it was chosen from: 1e-4, 3e-4, ... 100", .xlabel = "learning rate",
          .ylabel = "final loss / loss at the start", .xlog = true, .ylog = true, .series = finals,
          .n_series = RULES },
    };
    draw("descent", "A quadratic of condition number 1e4; the learning rate falls to zero", panels, 2, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// QK-Clip: the largest attention logit over a training whose logits grow, from what the study of it has kept

static void draw_logits(void) {
    static const char steps_csv[] = "dev/exp/qk-clip/steps.csv";        // case,arm,seed,step,loss,max_logit,...
    static const struct { const char *arm, *label; int color; unsigned style; } arms[] = {
        { "AdamW", "AdamW", PLOT_ADAMW, PLOT_LINE },
        { "unclipped", "Muon, without QK-Clip", PLOT_MUON, PLOT_DASHED },
        { "tau = 100", "MuonClip, tau = 100", PLOT_MUON, PLOT_LINE },
    };
    static double step[COUNT_OF(arms)][DESCENT_STEPS], logit[COUNT_OF(arms)][DESCENT_STEPS];
    PlotSeries series[COUNT_OF(arms)];
    char *text = read_file(steps_csv, NULL);
    if (!text) fail("%s: %s; expected the study's figures, in the project's folder", steps_csv, strerror(errno));
    for (size_t k = 0; k < COUNT_OF(arms); k++) {
        char *row = format("\ngrowing,%s,1,", arms[k].arm);
        int n = 0;
        for (const char *at = text; (at = strstr(at, row)) && n < DESCENT_STEPS; n++) {
            at += strlen(row);
            if (sscanf(at, "%lf,%*f,%lf", &step[k][n], &logit[k][n]) != 2) fail("%s: not a row: %.40s", steps_csv, at);
        }
        if (n == 0) fail("%s: no rows of growing,%s,1", steps_csv, arms[k].arm);
        series[k] = (PlotSeries){ .label = arms[k].label, .x = step[k], .y = logit[k], .n = n, .color = arms[k].color,
                                  .style = arms[k].style };
        free(row);
    }
    free(text);
    PlotPanel panel = { .xlabel = "step", .ylabel = "largest attention logit", .ylog = true, .series = series,
                        .n_series = COUNT_OF(arms) };
    draw("qk_clip_holds", "QK-Clip holds the largest attention logit at tau, at a learning rate that makes logits grow", &panel, 1, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Ranks: who owns what of a model with the shapes of configs/default.json, and a step in time, not to scale

enum { RANKS = 4, BLOCKS = 4, COLUMNS = BLOCKS + 2, TENSORS = 10 };

static void draw_ranks(void) {
    static const struct { const char *name; int rows, cols, rule, column; } kinds[TENSORS] = {   // column: 0 embedding, -1 all blocks
        { "head", 4096, 128, MUON_RULE_ADAMW, COLUMNS - 1 }, { "norms", 1, 128, MUON_RULE_ADAMW, -1 }, { "w_out", 128, 384, MUON_RULE_MUON, -1 },
        { "w_in", 384, 128, MUON_RULE_MUON, -1 }, { "w_gate", 384, 128, MUON_RULE_MUON, -1 }, { "wo", 128, 128, MUON_RULE_MUON, -1 },
        { "wv", 128, 128, MUON_RULE_MUON, -1 }, { "wk", 128, 128, MUON_RULE_MUON, -1 }, { "wq", 128, 128, MUON_RULE_MUON, -1 },
        { "wte", 4096, 128, MUON_RULE_ADAMW, 0 } };
    static const char *const columns[COLUMNS] = { "in", "0", "1", "2", "3", "out" }, *const ranks[RANKS] = { "rank 0", "rank 1", "rank 2", "rank 3" };
    static const char *const numbers[] = { "0", "1", "2", "3" };
    static double owner[TENSORS * COLUMNS];
    static const char *texts[TENSORS * COLUMNS], *names[TENSORS];
    MuonParam groups[TENSORS];
    UnitPlace places[TENSORS];
    MuonOptions options = muon_default_options();
    for (int i = 0; i < TENSORS; i++) {
        size_t each = (size_t)kinds[i].rows * (size_t)kinds[i].cols;
        groups[i] = (MuonParam){ .name = kinds[i].name, .count = kinds[i].column < 0 ? BLOCKS : 1, .rows = kinds[i].rows, .cols = kinds[i].cols,
                                 .stride = each, .rule = kinds[i].rule };
        places[i] = (UnitPlace){ kinds[i].column < 0 ? 0 : kinds[i].column - 1, 1 };
        names[i] = kinds[i].name;
        for (int c = 0; c < COLUMNS; c++) owner[i * COLUMNS + c] = NAN, texts[i * COLUMNS + c] = "";
    }
    Units units = units_plan(groups, places, TENSORS, &options, RANKS, 0, false);
    for (int i = 0; i < units.n; i++) {
        const Unit *u = &units.list[i];
        int cell = u->group * COLUMNS + u->layer + 1;
        bool cut = u->row > 0 || u->rows < groups[u->group].rows;
        owner[cell] = cut ? 0.0 : 1.0 + u->owner;
        texts[cell] = cut ? "all" : numbers[u->owner];
    }
    units_free(&units);

    enum { STAGES = 4 };
    static const struct { const char *label; int color; double above, from, to; } stages[STAGES] = {
        { "forward and backward of its parts", PLOT_GREY, 0.0, 0.0, 6.0 }, { "sums of a layer to their owners", PLOT_ADAMW, 0.25, 3.4, 6.3 },
        { "owner adds up and steps", PLOT_MUON, 0.0, 6.3, 7.1 }, { "new weights to all", PLOT_OTHERS, 0.25, 7.1, 7.9 } };
    static double x[STAGES][3 * COLUMNS], low[STAGES][RANKS][3 * COLUMNS], high[STAGES][RANKS][3 * COLUMNS];
    static PlotSeries series[STAGES * RANKS];
    for (int k = 0; k < STAGES; k++)
        for (int r = 0; r < RANKS; r++) {
            int n = 0, pieces = k == 1 ? COLUMNS : 1;    // layer after layer
            for (int piece = 0; piece < pieces; piece++) {
                double width = (stages[k].to - stages[k].from) / pieces, from = stages[k].from + piece * width;
                double ends[3] = { from, from + (pieces > 1 ? 0.7 : 1.0) * width, from + width };
                for (int end = 0; end < 3; end++, n++) {
                    x[k][n] = ends[end];
                    low[k][r][n] = end < 2 ? r + stages[k].above - 0.1 : NAN, high[k][r][n] = end < 2 ? r + stages[k].above + 0.1 : NAN;
                }
            }
            series[k * RANKS + r] = (PlotSeries){ .label = r ? NULL : stages[k].label, .x = x[k], .y = low[k][r], .lo = low[k][r],
                                                  .hi = high[k][r], .n = n, .color = stages[k].color, .style = PLOT_BAND };
        }
    PlotHeat heat = { .values = owner, .texts = texts, .nx = COLUMNS, .ny = TENSORS, .marked = -1, .min = 0, .max = 6 };
    PlotPanel panels[] = {
        { .title = "who owns what (all: cut by rows)", .xlabel = "layer", .xnames = columns, .n_xnames = COLUMNS, .ynames = names, .n_ynames = TENSORS, .heat = &heat },
        { .title = "a step, not to scale", .xlabel = "time", .ynames = ranks, .n_ynames = RANKS, .ymin = -0.5, .ymax = RANKS - 0.3, .series = series, .n_series = STAGES * RANKS } };
    draw("ranks", "Four ranks: each matrix is stepped by one of them", panels, 2, 1);
}

int main(int argc, char **argv) {
    program_begin();
    if (argc != 2 || argv[1][0] == '-') fail_usage("usage: pictures FOLDER");
    folder = argv[1];
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
    if (muon_svd_power_bytes(Q, Q) > sizeof scratch || muon_spectral_power_bytes(P, Q) > sizeof scratch)
        fail("the scratch memory is too small");
    gemm_use("portable");           // the same pictures on every machine
    omp_set_num_threads(1);         // the matrices are too small to share

    static float u[P * P], v[P * Q];
    fill_orthonormal(u, P, P, 1);
    fill_orthonormal(v, P, Q, 2);
    draw_spectrum(u, v);
    draw_maps();
    draw_error(u, v);
    draw_family(u, v);
    draw_descent();
    draw_logits();
    draw_ranks();
    gemm_free();
    return 0;
}

/* bench_muon.c - what a step of each of muon.h's rules costs, with the trainer's matrix products.
 *
 *     build/bench_muon [-q] [--json]                                  `make bench-muon`, all but what needs PyTorch
 *     build/bench_muon --model=6x384 --rule=muon --precision=bf16     one rule, for scripts: a line of JSON; with
 *         --coefficients=SET another set of muon.h's, with --heads=N queries, keys and values cut into N heads each
 *
 * What a step is: muon_begin_step and muon_step_all for the hidden matrices of a GPT: in each layer four C x C, one
 * 4C x C, one C x 4C. Embeddings, norms and biases, which other rules own, aren't part of it.
 *
 * How it measures. A figure is the median of at least three repeats, each of at least 20 ms; a step of more than a
 * second that isn't compared with others is measured once. What is compared takes turns within one loop. Large models
 * and svd are measured on one layer and multiplied: every layer has the same matrices.
 */
#include "../../tools/gpt.h"
#include "table.h"

// ---------------------------------------------------------------------------------------------------------------------
// Hidden matrices

typedef struct { const char *name; int layers, width; } Size;

static const Size sizes[] = { { "4x128", 4, 128 }, { "6x384", 6, 384 }, { "12x768", 12, 768 } };

enum { KINDS = 6 };                              // of matrices in a layer: q, k, v, o and both of the MLP
static const struct { const char *name; int rows, cols; } kinds[KINDS] = {      // in widths
    { "wq", 1, 1 }, { "wk", 1, 1 }, { "wv", 1, 1 }, { "wo", 1, 1 }, { "w_in", 4, 1 }, { "w_out", 1, 4 },
};

static const Size *size_find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        if (!strcmp(sizes[i].name, name)) return &sizes[i];
    fail_usage("--model=%s: unknown; expected 4x128, 6x384 or 12x768", name);
}

static int rule_find(const char *name) {
    for (int rule = MUON_RULE_NONE + 1; rule < MUON_RULE_COUNT; rule++)
        if (!strcmp(muon_rule_name(rule), name)) return rule;
    fail_usage("--rule=%s: unknown to muon.h", name);
}

static int coefficients_find(const char *name) {
    for (int set = 0; set < MUON_COEFF_COUNT; set++)
        if (!strcmp(muon_coefficients(set)->name, name)) return set;
    fail_usage("--coefficients=%s: unknown to muon.h", name);
}

static int coefficients = MUON_COEFF_KELLER, heads = 0;         // of all rules measured; 0: matrices stay whole

// How Newton-Schulz is computed. PLAIN is the textbook: every product as a whole. SYMMETRIC computes one triangle of
// those that are symmetric. SHARED is muon.h's: steps share a Gram matrix, too, where that is less work.
typedef enum { PLAIN, SYMMETRIC, SHARED } Way;

enum { MOST_REPEATS = 64 };

typedef struct {
    const Size *size;
    int layers;                                  // that are measured
    int rule;
    Way way;
    MuonParam params[KINDS];
    Muon muon;
    float *w;
    void *state;
    char *scratch;
    size_t scratch_bytes;                        // of each thread
    double seconds[MOST_REPEATS];
    int calls, repeats;                          // steps in a repeat
} Case;

// Layers that are measured. Large matrices are worked on one after the other, so that a layer stands for any number; of
// svd, the slowest rule, a layer's six matrices are shared among the threads as all are.
static int layers_of(const Size *size, int rule) {
    return rule == MUON_RULE_SVD || size->width >= 768 ? 1 : size->layers;
}

static size_t floats_of(const Size *size, int layers) {
    return 12 * (size_t)layers * (size_t)size->width * (size_t)size->width;
}

static void check(int code) { if (code != MUON_OK) fail("muon.h: %s", muon_strerror(code)); }

// Weights start at zero, so that the first step leaves the update in them. c must stay in place: its Muon points to it.
static void case_open(Case *c, const Size *size, int rule, Way way, const float *g) {
    *c = (Case){ .size = size, .layers = layers_of(size, rule), .rule = rule, .way = way };
    c->w = xaligned(floats_of(size, c->layers) * sizeof *c->w);
    size_t at = 0;
    for (int i = 0; i < KINDS; i++) {
        int rows = kinds[i].rows * size->width, cols = kinds[i].cols * size->width;
        size_t n = (size_t)rows * (size_t)cols;
        c->params[i] = (MuonParam){ kinds[i].name, c->w + at, g + at, c->layers, rows, cols, n, rule, 1e-3, 0.1, NULL,
                                    { heads > 0 && i < 3 ? rows / heads : 0 } };
        at += (size_t)c->layers * n;
    }
    MuonOptions options = muon_default_options();
    options.coefficients = muon_coefficients(coefficients);
    c->scratch_bytes = (muon_scratch_bytes(c->params, KINDS, &options) + 63) / 64 * 64;
    c->scratch = xaligned(c->scratch_bytes * (size_t)omp_get_max_threads());
    c->state = xaligned(muon_state_bytes(c->params, KINDS, &options));
    check(muon_init(&c->muon, c->params, KINDS, &options, c->state));
}

static void case_free(Case *c) { free(c->w); free(c->scratch); free(c->state); }

// ---------------------------------------------------------------------------------------------------------------------
// The other ways

// A = X X^T, X <- a X + (b A + c A A) X, from the right where X is tall. Room and result as muon__newton_schulz.
static float *newton_schulz_plain(float *x, float *other, int rows, int cols, const MuonCoefficients *c, int steps) {
    bool wide = rows <= cols;
    int p = wide ? rows : cols, q = wide ? cols : rows;
    size_t n = (size_t)rows * (size_t)cols, pp = (size_t)p * (size_t)p, ld = (size_t)p, ldx = (size_t)cols;
    float *A = other + n, *B = A + pp;
    for (int step = 0; step < steps; step++) {
        const double *abc = muon__abc(c, step);
        MUON_GEMM(!wide, wide, p, p, q, 1, x, ldx, x, ldx, 0, A, ld);
        memcpy(B, A, pp * sizeof *B);
        MUON_GEMM(false, false, p, p, p, (float)abc[2], A, ld, A, ld, (float)abc[1], B, ld);
        memcpy(other, x, n * sizeof *x);
        if (wide) MUON_GEMM(false, false, rows, cols, p, 1, B, ld, x, ldx, (float)abc[0], other, ldx);
        else      MUON_GEMM(false, false, rows, cols, p, 1, x, ldx, B, ld, (float)abc[0], other, ldx);
        float *swap = x;
        x = other;
        other = swap;
    }
    return x;
}

// What muon_step_one does by MUON_RULE_MUON, with another Newton-Schulz.
static void step_body(void *context, int i, int thread) {
    Case *c = context;
    muon__Matrix a = muon__matrix(&c->muon, i / c->layers, i % c->layers, 0);
    const MuonOptions *o = a.options;
    size_t n = (size_t)a.rows * (size_t)a.cols;
    double length;
    a.u = (float *)(c->scratch + (size_t)thread * c->scratch_bytes);
    float *other = a.u + n;
    muon__for_parts(n, muon__direction_body, &a);
    if (!muon__normalize(a.u, n, o->coefficients->norm, o, &length)) fail("muon.h: %s", muon_strerror(MUON_E_NOT_FINITE));
    a.u = c->way == PLAIN
        ? newton_schulz_plain(a.u, other, a.rows, a.cols, o->coefficients, muon__ns_steps(o))
        : muon__newton_schulz(a.u, other, a.rows, a.cols, o->coefficients, muon__ns_steps(o), 1);
    muon__for_parts(n, muon__apply_body, &a);
}

static void case_step(Case *c) {
    int threads = omp_get_max_threads(), matrices = KINDS * c->layers;
    check(muon_begin_step(&c->muon, 1, 1));
    if (c->way == SHARED) check(muon_step_all(&c->muon, c->scratch, threads));
    else if (muon__side_by_side(&c->params[KINDS - 1], MUON__MIDDLING)) MUON_PARALLEL_FOR(matrices, threads, step_body, c);
    else for (int i = 0; i < matrices; i++) step_body(c, i, 0);
}

// Of one step of the measured layers.
static double case_flops(const Case *c) {
    int steps = muon__ns_steps(&c->muon.options);
    double flops = 0;
    for (int i = 0; i < KINDS; i++) {
        double p = min_int(c->params[i].rows, c->params[i].cols), q = max_int(c->params[i].rows, c->params[i].cols);
        flops += c->layers * (c->way == PLAIN     ? steps * (4 * p * p * q + 2 * p * p * p)
                            : c->way == SYMMETRIC ? steps * (3 * p * p * q + p * p * p)
                            : muon_param_flops(&c->params[i], &c->muon.options));
    }
    return flops;
}

// ---------------------------------------------------------------------------------------------------------------------
// Measuring

static double case_seconds(Case *c, int calls) {
    double start = seconds_now();
    for (int i = 0; i < calls; i++) case_step(c);
    return seconds_now() - start;
}

// Lets n cases take turns for so many seconds each, but at least three times, after a step that doesn't count. Of one
// alone that step is all where it takes longer than a second.
static void take_turns(Case *cases, int n, double seconds) {
    for (int i = 0; i < n; i++) {
        Case *c = &cases[i];
        double took = c->seconds[0] = case_seconds(c, 1);
        c->repeats = n == 1 && took > 1;
        if (c->repeats) return;
        for (c->calls = 1; took < 5e-3; took = case_seconds(c, c->calls)) c->calls *= 2;
        c->calls = (int)ceil(c->calls * fmax(1, 20e-3 / took));
    }
    double start = seconds_now();
    for (int r = 0; r < MOST_REPEATS && (r < 3 || seconds_now() - start < n * seconds); r++)
        for (int i = 0; i < n; i++) {
            Case *c = &cases[i];
            c->seconds[c->repeats++] = case_seconds(c, c->calls) / c->calls;
        }
}

// Milliseconds of a step of all layers.
static double case_ms(Case *c) { return 1e3 * c->size->layers / c->layers * median_of(c->seconds, c->repeats); }

static double root_mean_square(const float *x, size_t n) { return sqrt(muon_sum_of_squares(x, n) / (double)n); }

// |x - y| / |y| of the weights.
static double case_distance(const Case *x, const Case *y) {
    double sum = 0, norm = 0;
    for (size_t i = 0; i < floats_of(x->size, x->layers); i++) {
        double d = (double)x->w[i] - y->w[i];
        sum += d * d;
        norm += (double)y->w[i] * y->w[i];
    }
    return sqrt(sum / norm);
}

// ---------------------------------------------------------------------------------------------------------------------
// The report

static double peak_by_precision[2];              // GFLOP/s of all threads
static double muon_ms[COUNT_OF(sizes)][2];       // by model and precision, for the share of a training step

static void print_case(Table *t, Case *c, GemmPrecision precision, double plain_ms) {
    static const char *const ways[] = { [PLAIN] = ", plain", [SYMMETRIC] = ", symmetric", [SHARED] = "" };
    double ms = case_ms(c), gflop = 1e-9 * case_flops(c) * c->size->layers / c->layers, gflops = 1e3 * gflop / ms;
    char *name = format("%s%s", muon_rule_name(c->rule), ways[c->way]);
    table_text(t, c->size->name);
    table_text(t, precision == GEMM_BF16 && gemm_emulated() ? "bf16 (emulated)" : precision_names[precision]);
    table_text(t, name);
    table_number(t, c->layers);
    table_number(t, ms);
    table_number(t, gflop > 0 ? gflop : NAN);
    table_number(t, gflop > 0 ? gflops : NAN);
    table_number(t, gflop > 0 ? 100 * gflops / peak_by_precision[precision] : NAN);
    table_number(t, ms / plain_ms);
    free(name);
}

// Every rule of one model in one precision: muon in all three ways and normuon, in turns; then the others, whose
// products are in fp32 in any case.
static void bench_model(Table *table, const Size *size, GemmPrecision precision) {
    double seconds = quick ? 0.1 : 0.3;
    float *g = random_floats(floats_of(size, layers_of(size, MUON_RULE_MUON)), 1);
    gemm_use_precision(muon_precision = precision);
    Case turns[4];
    for (Way way = PLAIN; way <= SHARED; way++) case_open(&turns[way], size, MUON_RULE_MUON, way, g);
    case_open(&turns[3], size, MUON_RULE_NORMUON, SHARED, g);
    note("%s %s: muon", size->name, precision_names[precision]);
    for (Way way = PLAIN; way <= SHARED; way++) {        // they must differ in time only
        case_step(&turns[way]);
        double distance = case_distance(&turns[way], &turns[PLAIN]);
        if (distance > (precision == GEMM_BF16 ? 0.1 : 1e-4))
            fail("%s %s: muon's ways of computing a step differ by %g", size->name, precision_names[precision],
                 distance);
    }
    take_turns(turns, COUNT_OF(turns), seconds);
    double plain_ms = case_ms(&turns[PLAIN]);
    muon_ms[size - sizes][precision] = case_ms(&turns[SHARED]);
    for (size_t i = 0; i < COUNT_OF(turns); i++) {
        print_case(table, &turns[i], precision, plain_ms);
        case_free(&turns[i]);
    }
    for (int rule = MUON_RULE_NONE + 1; rule < MUON_RULE_COUNT && precision == GEMM_FP32; rule++) {
        if (rule == MUON_RULE_MUON || rule == MUON_RULE_NORMUON) continue;
        if (rule == MUON_RULE_SVD && size->width > (quick ? 128 : 384)) continue;
        note("%s: %s", size->name, muon_rule_name(rule));
        Case c;
        case_open(&c, size, rule, SHARED, g);
        take_turns(&c, 1, seconds);
        print_case(table, &c, precision, plain_ms);
        case_free(&c);
    }
    free(g);
}

static void bench_rules(void) {
    static const Column columns[] = {
        { "model", "model ", NULL }, { "precision", "precision      ", NULL }, { "rule", "rule           ", NULL },
        { "layers", "layers", "%.0f" }, { "ms", "ms a step", "%.3f" }, { "gflop", "GFLOP", "%.2f" },
        { "gflops", "GFLOP/s", "%.1f" }, { "peak_percent", "of peak", "%.0f %%" }, { "time_ratio", "  time", "%.2f x" },
    };
    for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++)
        peak_by_precision[p] = peak_gflops(peak_of_trainer(p), omp_get_max_threads());
    char *context = format("\"kind\": \"muon\", \"isa\": \"%s\", \"threads\": %d, \"peak_fp32\": %.1f, "
                           "\"peak_bf16\": %.1f", own_isa, omp_get_max_threads(), peak_by_precision[GEMM_FP32],
                           peak_by_precision[GEMM_BF16]);
    say("\n## Rules\n\n"
        "A step of all hidden matrices. muon, plain: Newton-Schulz with every product computed as a whole; symmetric:\n"
        "one triangle of each product that is symmetric; muon and normuon: its steps share Gram matrices, too. GFLOP:\n"
        "of the products as they were carried out. Layers: how many were measured. Time: relative to muon, plain.\n"
        "Peak in registers with %d threads: fp32 %.1f, bf16 %.1f GFLOP/s.\n\n", omp_get_max_threads(),
        peak_by_precision[GEMM_FP32], peak_by_precision[GEMM_BF16]);
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (size_t i = 0; i < (quick ? 2 : COUNT_OF(sizes)); i++)
        for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) bench_model(&table, &sizes[i], p);
    free(context);
}

// The training step is build/bench's: gpt2 of 256 tokens a sequence.
static void bench_share(void) {
    static const Column columns[] = {
        { "model", "model    ", NULL }, { "precision", "precision", NULL }, { "ms", "ms a step", "%.1f" },
        { "muon_ms", "Muon ms", "%.1f" }, { "share_percent", "share", "%.1f %%" },
    };
    const Size *size = size_find("6x384");
    const char *model = quick ? "6x384-b16" : "6x384-b64";
    char *context = format("\"kind\": \"muon_share\", \"isa\": \"%s\", \"threads\": %d", own_isa,
                           omp_get_max_threads());
    say("\n## Muon's share of a training step\n\n"
        "A whole step with optimizer.name=muon, b x 256 tokens; Muon ms: of the hidden matrices, as above.\n\n");
    Table table = table_start(columns, COUNT_OF(columns), context);
    for (GemmPrecision p = GEMM_FP32; p <= GEMM_BF16; p++) {
        char *arguments[] = { format("--step=%s", model), format("--precision=%s", precision_names[p]),
                              format("--threads=%d", omp_get_max_threads()), format("--seconds=%d", quick ? 1 : 3),
                              format("--set=optimizer.name=muon") };
        note("training %s in %s", model, precision_names[p]);
        char *line = run_beside("bench", true, (const char *const *)arguments, COUNT_OF(arguments));
        cJSON *step = line ? cJSON_Parse(line) : NULL;
        failed |= !step;
        table_text(&table, model);
        table_text(&table, precision_names[p]);
        table_number(&table, number_in(step, "ms"));
        table_number(&table, muon_ms[size - sizes][p]);
        table_number(&table, 100 * muon_ms[size - sizes][p] / number_in(step, "ms"));
        cJSON_Delete(step);
        free(line);
        for (size_t i = 0; i < COUNT_OF(arguments); i++) free(arguments[i]);
    }
    free(context);
}

// --model: one rule. rms: of the first step's update, by which another implementation can be compared.
static void measure_rule(const Size *size, int rule, GemmPrecision precision, double seconds) {
    float *g = random_floats(floats_of(size, layers_of(size, rule)), 1);
    char kernels[128];
    gemm_use_precision(muon_precision = precision);
    Case c;
    case_open(&c, size, rule, SHARED, g);
    case_step(&c);
    double rms = root_mean_square(c.w, floats_of(size, c.layers)) / c.params[0].lr;
    take_turns(&c, 1, seconds);
    double ms = case_ms(&c);
    printf("{\"kind\": \"muon\", \"model\": \"%s\", \"rule\": \"%s\", \"coefficients\": \"%s\", \"heads\": %d, %s, \"layers\": %d, \"ms\": %.4f, "
           "\"gflops\": %.2f, \"rms\": %.6f, \"repeats\": %d}\n", size->name, muon_rule_name(rule),
           muon_coefficients(coefficients)->name, heads, kernels_json(kernels, sizeof kernels, precision), c.layers, ms,
           1e-6 * case_flops(&c) * size->layers / c.layers / ms, rms, c.repeats);
    case_free(&c);
    free(g);
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    choose_threads();
    own_isa = gemm_isa();
    const Size *size = NULL;
    int rule = MUON_RULE_MUON;
    GemmPrecision precision = GEMM_FP32;
    double seconds = 1;
    const char *value;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-q")) quick = true;
        else if (!strcmp(argv[i], "--json")) json = true;
        else if ((value = flag_value(argv[i], "--model"))) size = size_find(value);
        else if ((value = flag_value(argv[i], "--rule"))) rule = rule_find(value);
        else if ((value = flag_value(argv[i], "--coefficients"))) coefficients = coefficients_find(value);
        else if ((value = flag_value(argv[i], "--heads"))) heads = (int)integer_of("--heads", value, 1, 1024);
        else if ((value = flag_value(argv[i], "--precision"))) precision = parse_precision(value);
        else if ((value = flag_value(argv[i], "--seconds"))) seconds = number_of("--seconds", value, 0.001, 3600);
        else if ((value = flag_value(argv[i], "--threads"))) omp_set_num_threads((int)integer_of("--threads", value, 1, 4096));
        else fail_usage("%s: unknown; expected -q, --json, --model=MODEL, --rule=RULE, --coefficients=SET, --heads=N, --precision=fp32|bf16, "
                        "--seconds=S or --threads=N", argv[i]);
    }
    if (!size && (heads || coefficients != MUON_COEFF_KELLER)) fail_usage("--coefficients, --heads: of one rule, with --model=MODEL");
    if (heads && (size->width % heads || size->width == heads)) fail_usage("--heads=%d: %d rows can't be cut into them", heads, size->width);
    if (size) {
        measure_rule(size, rule, precision, seconds);
    } else {
        print_machine("Muon");
        bench_rules();
        bench_share();
        note_clear();
    }
    gemm_free();
    return failed ? EXIT_FAILED : 0;
}

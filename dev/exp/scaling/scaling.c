/* scaling.c - fits the law of the study's runs and says how sure it is.
 *
 *     study_scaling --deflate     prints the bits a byte that deflate makes of what it reads
 *     study_scaling OUT       reads OUT/runs.csv and OUT/texts.csv; writes OUT/law.json, OUT/fit.csv, OUT/scaling.png
 *
 * The law is tools/law.h's: bits per byte of N weights and D bytes of text, with text that comes again counting less and less.
 * E, R, k, best and how hard a text is are one for both optimizers, A, a, B, b each one's own. Fitted as Hoffmann et al. (arXiv 2203.15556, section 3.3) do:
 * Huber's loss of the difference of logarithms, here by Nelder and Mead's simplex from several beginnings. Intervals: the fit
 * of RESAMPLES draws of the runs with replacement. The law's standard deviation is of what fits without a run say of it, for
 * each run in turn.
 */
#define _GNU_SOURCE
#include "../../../src/plot.h"
#include "../../../src/stats.h"
#include "../../../tools/law.h"

enum { MAX_RUNS = 400, MAX_TEXTS = 8, RESAMPLES = 200, BEGINNINGS = 6, OPTIMIZERS = 2 };
static const char *const optimizers[OPTIMIZERS] = { "muon", "adamw" };

// Of E, A, B, R, k and of how hard texts are the logarithm is fitted, so that they stay above zero. The first text is kjv, whose hardness is 1.
enum { LN_E, LN_R, LN_K, LOG2_BEST, SHARED, LN_A = SHARED, EXPONENT_A, LN_B, EXPONENT_B, OWN = 4, LN_HARD = SHARED + OWN * OPTIMIZERS - 1,
       MAX_PARAMS = LN_HARD + MAX_TEXTS };
#define PARAMS (LN_HARD + n_texts)

typedef struct { char name[32]; double deflate; } Text;     // bits a byte that deflate takes
typedef struct {
    int optimizer, text, vocab, layers, width, seed;
    bool fitted;                        // false: kept out of the fit, to see what the law says of it
    double params, tokens, read, unique;    // weights; tokens seen; bytes read; bytes of the training text
    double bpb;
} Run;

static Run runs[MAX_RUNS];
static Text texts[MAX_TEXTS];
static int n_runs, n_texts;

// The law that these numbers are.
static Law law_of_fit(const double *p) {
    Law law = { .best_vocab = exp2(p[LOG2_BEST]), .vocab_k = exp(p[LN_K]), .kjv_deflate = texts[0].deflate };
    for (int o = 0; o < OPTIMIZERS; o++) {
        const double *own = p + OWN * o;
        *(o ? &law.adamw : &law.muon) = (LawOf){ exp(p[LN_E]), exp(own[LN_A]), own[EXPONENT_A], exp(own[LN_B]), own[EXPONENT_B], exp(p[LN_R]), 0 };
    }
    return law;
}

static double hardness(const double *p, int text) { return text ? exp(p[LN_HARD + text]) : 1; }

static double predicted_bits(const double *p, const Run *run) {
    Law law = law_of_fit(p);
    return law_bits(&law, run->optimizer ? &law.adamw : &law.muon, run->params, run->read, run->unique, run->vocab, hardness(p, run->text));
}

// Huber's loss of the logarithms' differences, over the runs that are drawn (times[i] of run i). What they leave open stays near what is
// published (R = 15.4), usual (2,048 tokens, k = 0.003) or what deflate says (a text's hardness).
static double misfit(const double *p, const int *times) {
    const double delta = 0.01;
    double r = p[LN_R] - log(15.4), k = p[LN_K] - log(0.003), octaves = p[LOG2_BEST] - 11;
    double sum = 1e-6 * (r * r + k * k + octaves * octaves);
    for (int t = 1; t < n_texts; t++) sum += 1e-6 * pow(p[LN_HARD + t] - log(texts[t].deflate / texts[0].deflate), 2);
    for (int i = 0; i < n_runs; i++) {
        if (!times[i]) continue;
        double e = fabs(log(predicted_bits(p, &runs[i]) / runs[i].bpb));
        sum += times[i] * (e < delta ? e * e / 2 : delta * (e - delta / 2));
    }
    return isfinite(sum) ? sum : 1e30;
}

// The simplex of Nelder and Mead (The Computer Journal 7, 1965), with the usual factors 1, 2, 1/2, 1/2. p: where it begins and ends.
static double minimize(double *p, const int *times, int evaluations) {
    double x[MAX_PARAMS + 1][MAX_PARAMS], f[MAX_PARAMS + 1], center[MAX_PARAMS], tried[2][MAX_PARAMS];
    for (int i = 0; i <= PARAMS; i++) {
        memcpy(x[i], p, sizeof x[i]);
        if (i < PARAMS) x[i][i] += fabs(p[i]) > 1 ? 0.05 * p[i] : 0.05;
        f[i] = misfit(x[i], times);
    }
    while (evaluations > 0) {
        int best = 0, worst = 0, second = -1;
        for (int i = 1; i <= PARAMS; i++) {
            if (f[i] < f[best]) best = i;
            if (f[i] > f[worst]) worst = i;
        }
        for (int i = 0; i <= PARAMS; i++)
            if (i != worst && (second < 0 || f[i] > f[second])) second = i;
        for (int j = 0; j < PARAMS; j++) {
            center[j] = 0;
            for (int i = 0; i <= PARAMS; i++)
                if (i != worst) center[j] += x[i][j] / PARAMS;
        }
#define ALONG(to, factor) \
        for (int j = 0; j < PARAMS; j++) tried[to][j] = center[j] + (factor) * (x[worst][j] - center[j])
        ALONG(0, -1.0);
        double reflected = misfit(tried[0], times), other = 0;
        evaluations--;
        if (reflected < f[best]) {
            ALONG(1, -2.0);
            other = misfit(tried[1], times);
            evaluations--;
            int take = other < reflected;
            memcpy(x[worst], tried[take], sizeof center), f[worst] = take ? other : reflected;
        } else if (reflected < f[second]) {
            memcpy(x[worst], tried[0], sizeof center), f[worst] = reflected;
        } else {
            if (reflected < f[worst]) ALONG(1, -0.5); else ALONG(1, 0.5);
            other = misfit(tried[1], times);
            evaluations--;
            if (other < fmin(reflected, f[worst])) {
                memcpy(x[worst], tried[1], sizeof center), f[worst] = other;
            } else {
                for (int i = 0; i <= PARAMS; i++) {
                    if (i == best) continue;
                    for (int j = 0; j < PARAMS; j++) x[i][j] = (x[i][j] + x[best][j]) / 2;
                    f[i] = misfit(x[i], times);
                    evaluations--;
                }
            }
        }
    }
    int best = 0;
    for (int i = 1; i <= PARAMS; i++)
        if (f[i] < f[best]) best = i;
    memcpy(p, x[best], sizeof x[best]);
    return f[best];
}

// From several beginnings, and the simplex anew from the best of them.
static double fit(double *p, const int *times) {
    double least = INFINITY, q[MAX_PARAMS];
    for (int begin = 0; begin < BEGINNINGS; begin++) {
        double e = 0.2 + 0.15 * begin, exponent = 0.25 + 0.1 * (begin % 3);
        double start[MAX_PARAMS] = { log(e), log(15.4), log(0.003), 11 };
        for (int o = 0; o < OPTIMIZERS; o++) {
            double *own = start + OWN * o;
            own[EXPONENT_A] = own[EXPONENT_B] = exponent;
            own[LN_A] = log(0.7) + exponent * log(3e5), own[LN_B] = log(0.7) + exponent * log(3e6);
        }
        for (int t = 1; t < n_texts; t++) start[LN_HARD + t] = log(texts[t].deflate / texts[0].deflate);
        memcpy(q, start, sizeof q);
        double at = minimize(q, times, 4000);
        if (at < least) least = at, memcpy(p, q, sizeof q);
    }
    for (int again = 0; again < 4; again++) least = minimize(p, times, 4000);
    return least;
}

static void read_texts(const char *path) {
    char *text = read_file(path, NULL), *rest = text;
    if (!text) fail("%s: %s", path, strerror(errno));
    strsep(&rest, "\n");
    for (char *line; (line = strsep(&rest, "\n")) && *line; n_texts++) {
        Text *t = &texts[n_texts];
        if (n_texts == MAX_TEXTS || sscanf(line, "%31[^,],%lf", t->name, &t->deflate) != 2) fail("%s: not a row: %s", path, line);
    }
    if (n_texts == 0 || strcmp(texts[0].name, "kjv")) fail("%s: the first text isn't kjv", path);
    free(text);
}

// Of runs that differ in the learning rate alone the best one counts.
static bool same_but_rate(const Run *a, const Run *b) {
    return a->optimizer == b->optimizer && a->text == b->text && a->vocab == b->vocab && a->layers == b->layers && a->width == b->width &&
           a->tokens == b->tokens && a->seed == b->seed;
}

static void read_runs(const char *path) {
    char *text = read_file(path, NULL), *rest = text, optimizer[16], name[32];
    if (!text) fail("%s: %s", path, strerror(errno));
    strsep(&rest, "\n");
    for (char *line; (line = strsep(&rest, "\n")) && *line; ) {
        Run *r = &runs[n_runs];
        double epoch, loss;
        int held_out, i = 0;
        if (n_runs == MAX_RUNS || sscanf(line, "%15[^,],%31[^,],%d,%d,%d,%lf,%lf,%lf,%d,%*f,%lf,%lf,%d", optimizer, name, &r->vocab, &r->layers, &r->width,
                                         &r->params, &r->tokens, &epoch, &r->seed, &loss, &r->bpb, &held_out) != 12)
            fail("%s: not a row: %s", path, line);
        r->optimizer = !strcmp(optimizer, optimizers[1]);
        for (r->text = 0; r->text < n_texts && strcmp(texts[r->text].name, name); ) r->text++;
        if (r->text == n_texts) fail("%s: %s: not among the texts", path, name);
        double bytes_per_token = loss / (log(2) * r->bpb);
        r->read = r->tokens * bytes_per_token, r->unique = epoch * bytes_per_token;
        r->fitted = !held_out;
        while (i < n_runs && !same_but_rate(&runs[i], r)) i++;
        if (i == n_runs) n_runs++;
        else if (r->bpb < runs[i].bpb) runs[i] = *r;
    }
    free(text);
}

// The root of the mean square of log(measured / predicted), each run predicted by the fit to all others: p, of all, begins it.
static double left_out_deviation(const double *p) {
    double squares = 0, q[MAX_PARAMS];
    int times[MAX_RUNS], n = 0;
    for (int out = 0; out < n_runs; out++) {
        if (!runs[out].fitted) continue;
        for (int i = 0; i < n_runs; i++) times[i] = runs[i].fitted && i != out;
        memcpy(q, p, sizeof q);
        for (int again = 0; again < 3; again++) minimize(q, times, 3000);
        double e = log(runs[out].bpb / predicted_bits(q, &runs[out]));
        squares += e * e, n++;
    }
    return sqrt(squares / fmax(1, n));
}

// The interval that holds 95 % of the n values, which it sorts.
static void interval(double *x, int n, double *low, double *high) {
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    *low = x[(int)(0.025 * n)], *high = x[(int)(0.975 * n)];
}

/* What is derived of a fit. Of `work` FLOPs, 6 N tokens, with fresh text of 3 bytes a token: the N that the law likes best, and tokens
 * per weight there. And the factor of text, and of weights, with which AdamW reaches what Muon does there. */
enum { OPTIMAL, PER_WEIGHT, TEXT_FACTOR = PER_WEIGHT + OPTIMIZERS, WORK_FACTOR, DERIVED };
static double best_of_work(const double *p, int optimizer, double work, double *tokens_per_weight) {
    double least = INFINITY;
    for (double n = 1e4; n < 1e9; n *= 1.02) {
        double tokens = work / (6 * n);
        Run run = { .optimizer = optimizer, .vocab = 1 << 11, .params = n, .read = 3 * tokens, .unique = INFINITY };
        double bpb = predicted_bits(p, &run);
        if (bpb < least) least = bpb, *tokens_per_weight = tokens / n;
    }
    return least;
}

static void derive(const double *p, double work, double *out) {
    double muon = best_of_work(p, 0, work, &out[PER_WEIGHT]), ignored;
    best_of_work(p, 1, work, &out[PER_WEIGHT + 1]);
    out[OPTIMAL] = muon;
    double factor = 1;
    while (factor < 100 && best_of_work(p, 1, work * factor, &ignored) > muon) factor *= 1.01;
    out[WORK_FACTOR] = factor;
    double n = sqrt(work / (6 * out[PER_WEIGHT])), read = 3 * work / (6 * n);
    Run at = { .optimizer = 0, .vocab = 1 << 11, .params = n, .read = read, .unique = INFINITY };
    double target = predicted_bits(p, &at);
    at.optimizer = 1;
    for (factor = 0.1; factor < 100 && (at.read = read * factor, predicted_bits(p, &at) > target); ) factor *= 1.01;
    out[TEXT_FACTOR] = factor;
}

static void draw(const char *folder, const double *p) {
    static double x[OPTIMIZERS][MAX_TEXTS][MAX_RUNS], y[OPTIMIZERS][MAX_TEXTS][MAX_RUNS];
    static int n[OPTIMIZERS][MAX_TEXTS];
    static char labels[OPTIMIZERS][MAX_TEXTS][64];
    PlotSeries series[2][2 * OPTIMIZERS * MAX_TEXTS + 2];
    int n_series[2] = { 0 };
    double low = INFINITY, high = 0, line[2], zero[2] = { 0 };
    for (int i = 0; i < n_runs; i++) {
        int o = runs[i].optimizer, t = runs[i].text, at = n[o][t]++;
        x[o][t][at] = predicted_bits(p, &runs[i]), y[o][t][at] = runs[i].bpb;
        low = fmin(low, fmin(x[o][t][at], runs[i].bpb)), high = fmax(high, fmax(x[o][t][at], runs[i].bpb));
    }
    line[0] = low, line[1] = high;
    static double difference[OPTIMIZERS][MAX_TEXTS][MAX_RUNS];
    series[0][n_series[0]++] = (PlotSeries){ .x = line, .y = line, .n = 2, .color = PLOT_GREY };
    series[1][n_series[1]++] = (PlotSeries){ .x = line, .y = zero, .n = 2, .color = PLOT_GREY };
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int t = 0; t < n_texts; t++) {
            if (!n[o][t]) continue;
            snprintf(labels[o][t], sizeof labels[o][t], "%s, %s", optimizers[o], texts[t].name);
            for (int i = 0; i < n[o][t]; i++) difference[o][t][i] = y[o][t][i] - x[o][t][i];
            unsigned style = t == 0 ? PLOT_POINTS : t == 1 ? PLOT_RING : PLOT_CROSS;
            PlotSeries s = { .label = labels[o][t], .x = x[o][t], .y = y[o][t], .n = n[o][t], .color = o ? PLOT_ADAMW : PLOT_MUON, .style = style };
            series[0][n_series[0]++] = s;
            s.y = difference[o][t];
            series[1][n_series[1]++] = s;
        }
    PlotPanel panels[] = {
        { .title = "measured over predicted", .xlabel = "bits per byte, by the law", .ylabel = "measured", .series = series[0], .n_series = n_series[0] },
        { .title = "what is left", .xlabel = "bits per byte, by the law", .ylabel = "measured - predicted", .series = series[1], .n_series = n_series[1] } };
    char *path = format("%s/scaling.png", folder);
    if (plot_png_small(path, "The law and the runs", panels, 2, 1, 900, 420) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
}

int main(int argc, char **argv) {
    program_begin();
    if (argc != 2) fail_usage("usage: study_scaling FOLDER | --deflate");
    if (!strcmp(argv[1], "--deflate")) {
        static unsigned char bytes[1 << 20];
        size_t n = fread(bytes, 1, sizeof bytes, stdin);
        printf("%.4f\n", law_deflate_bits(bytes, n));
        return 0;
    }
    const char *folder = argv[1];
    char *path = format("%s/texts.csv", folder);
    read_texts(path);
    free(path), path = format("%s/runs.csv", folder);
    read_runs(path);
    free(path);
    int times[MAX_RUNS], fitted = 0;
    for (int i = 0; i < n_runs; i++) fitted += times[i] = runs[i].fitted;
    double p[MAX_PARAMS];
    fit(p, times);

    double squares = 0, read[2] = { INFINITY, 0 }, weights[2] = { INFINITY, 0 };
    path = format("%s/fit.csv", folder);
    FILE *csv = fopen(path, "w");
    if (!csv) fail("%s: %s", path, strerror(errno));
    fprintf(csv, "optimizer,text,vocab,layers,width,params,tokens,bpb,predicted,fitted\n");
    for (int i = 0; i < n_runs; i++) {
        const Run *r = &runs[i];
        double predicted = predicted_bits(p, r);
        if (r->fitted) squares += log(r->bpb / predicted) * log(r->bpb / predicted);
        else printf("not fitted on: %s, %s, vocabulary %d, %d x %d, %.2fM tokens: measured %.4f, predicted %.4f, %+.4f\n", optimizers[r->optimizer],
                    texts[r->text].name, r->vocab, r->layers, r->width, r->tokens / 1e6, r->bpb, predicted, predicted - r->bpb);
        read[0] = fmin(read[0], r->read), read[1] = fmax(read[1], r->read);
        weights[0] = fmin(weights[0], r->params), weights[1] = fmax(weights[1], r->params);
        fprintf(csv, "%s,%s,%d,%d,%d,%.0f,%.0f,%.5f,%.5f,%d\n", optimizers[r->optimizer], texts[r->text].name, r->vocab, r->layers, r->width, r->params,
                r->tokens, r->bpb, predicted, r->fitted);
    }
    if (fclose(csv)) fail("%s: %s", path, strerror(errno));
    free(path);
    double share = left_out_deviation(p);                // of the loss

    static double drawn[MAX_PARAMS][RESAMPLES], derived[DERIVED][RESAMPLES];
    double work = 6 * weights[1] * read[1] / 3 / 30, here[DERIVED];      // within what was measured
    for (int r = 0; r < RESAMPLES; r++) {
        double q[MAX_PARAMS], out[DERIVED];
        memset(times, 0, sizeof times);
        for (int k = 0, i = 0; k < fitted; i++) {
            int run = (int)(hash64((uint64_t)r, (uint64_t)i) % (uint64_t)n_runs);
            if (runs[run].fitted) times[run]++, k++;
        }
        memcpy(q, p, sizeof q);
        for (int again = 0; again < 3; again++) minimize(q, times, 3000);
        derive(q, work, out);
        for (int k = 0; k < PARAMS; k++) drawn[k][r] = q[k];
        for (int k = 0; k < DERIVED; k++) derived[k][r] = out[k];
    }
    derive(p, work, here);

    path = format("%s/law.json", folder);
    FILE *json = fopen(path, "w");
    if (!json) fail("%s: %s", path, strerror(errno));
    printf("| | value | 95 %% of %d resamples of the %d runs |\n|---|---|---|\n", RESAMPLES, fitted);
    static const char *const names[] = { "E", "R (repeats)", "k", "best vocabulary" }, *const own_names[] = { "A", "a", "B", "b" };
    for (int k = 0; k < PARAMS; k++) {
        double low, high;
        int own = k < SHARED || k > LN_HARD ? -1 : (k - SHARED) % OWN;
        bool log = k == LN_E || k == LN_R || k == LN_K || own == 0 || own == 2 || k > LN_HARD;
        interval(drawn[k], RESAMPLES, &low, &high);
        double value[3] = { p[k], low, high };
        for (int i = 0; i < 3; i++) value[i] = log ? exp(value[i]) : k == LOG2_BEST ? exp2(value[i]) : value[i];
        const char *name = k < SHARED ? names[k] : own < 0 ? "hardness" : own_names[own];
        const char *of = k < SHARED ? NULL : own < 0 ? texts[k - LN_HARD].name : optimizers[(k - SHARED) / OWN];
        printf("| %s%s%s | %.4g | %.4g to %.4g |\n", name, of ? ", " : "", of ? of : "", value[0], value[1], value[2]);
    }
    static const char *const derived_names[DERIVED] = { "bits per byte of the best shape", "tokens per weight, muon", "tokens per weight, adamw",
                                                        "text that AdamW needs, over Muon's", "work that AdamW needs, over Muon's" };
    printf("\nof %.2g FLOPs with fresh text:\n\n| | value | 95 %% |\n|---|---|---|\n", work);
    for (int k = 0; k < DERIVED; k++) {
        double low, high;
        interval(derived[k], RESAMPLES, &low, &high);
        printf("| %s | %.4g | %.4g to %.4g |\n", derived_names[k], here[k], low, high);
    }
    printf("\nwhat is left: %.2f %% of the loss; of runs that the fit hasn't seen, each left out in turn: %.2f %%\n", 100 * sqrt(squares / fmax(1, fitted - PARAMS)),
           100 * share);
    fprintf(json, "{\n");
    Law law = law_of_fit(p);
    for (int o = 0; o < OPTIMIZERS; o++) {
        const LawOf *l = o ? &law.adamw : &law.muon;
        fprintf(json, "  \"%s\": {\"E\": %.5g, \"A\": %.5g, \"a\": %.5g, \"B\": %.5g, \"b\": %.5g, \"repeat\": %.4g, \"sd\": %.3g},\n", optimizers[o], l->E, l->A, l->a,
                l->B, l->b, l->repeat, share);
    }
    fprintf(json, "  \"vocab\": {\"best\": %.0f, \"k\": %.4g},\n  \"texts\": {", law.best_vocab, law.vocab_k);
    for (int i = 0; i < n_texts; i++) fprintf(json, "%s\"%s\": {\"deflate\": %.4f, \"hardness\": %.4g}", i ? ", " : "", texts[i].name, texts[i].deflate, hardness(p, i));
    fprintf(json, "},\n  \"range\": {\"params\": [%.4g, %.4g], \"bytes\": [%.4g, %.4g]}\n}\n", weights[0], weights[1], read[0], read[1]);
    if (fclose(json)) fail("%s/law.json: %s", folder, strerror(errno));
    draw(folder, p);
    free(path);
    return 0;
}

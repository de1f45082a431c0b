/* qk-clip.c - does QK-Clip hold attention logits that grow, and does it cost loss where they don't? arXiv 2507.20534,
 * measured in a small GPT; README.md beside this file explains.
 *
 *     build/study_qk-clip FOLDER CONFIG STEPS SEEDS OTHER_SEEDS [tune] [--key=value ...]
 *
 * -> CSV files and qk-clip.png in FOLDER (`FOLDER draw`: qk-clip.png again, from the CSV files). Four cases: `healthy`, Muon as it should be trained (SEEDS of it); and
 * OTHER_SEEDS of `growing`, with a learning rate that is `too_large` and no decay of W_q and W_k; `decayed`, the same with
 * a `decay` of these two; `control`, as `growing`, but W_q and W_k begin `enlarged` times as large. In each, an unclipped
 * run says how large the logits get, its peak; the thresholds of the other arms are parts of that. With `tune`, the
 * learning rates of the config are only where a search of the healthy ones begins.
 *
 * S_h is the largest logit q k / sqrt(HS) of head h over all of a step's batch, in front of any soft-cap. No input can
 * make it larger than its bound: RMSNorm's output is at most sqrt(C) max|gain| long, RoPE keeps lengths, so that
 *
 *     S_h <= C max|gain|^2 s_max(W_q,h) s_max(W_k,h) / sqrt(HS)          and with QK-norm S_h <= sqrt(HS).
 */
#include "../lab.h"

enum { HEALTHY, GROWING, DECAYED, CONTROL, CASES };
static const char *const case_names[] = { "healthy", "growing", "decayed", "control" };

enum { UNCLIPPED, TAU_100, TAU_HALF, TAU_QUARTER, SOFTCAP, QK_NORM, ADAMW, ARMS };
static const char *const arm_names[] = {
    "unclipped", "tau = 100", "tau = peak/2", "tau = peak/4", "soft-cap at peak/4", "QK-norm", "AdamW" };
static const bool arms_of[CASES][ARMS] = {
    [HEALTHY] = { [UNCLIPPED] = true, [TAU_HALF] = true, [TAU_QUARTER] = true, [ADAMW] = true },
    [GROWING] = { true, true, true, true, true, true, true },
    [DECAYED] = { [UNCLIPPED] = true, [TAU_100] = true },
    [CONTROL] = { [UNCLIPPED] = true, [TAU_HALF] = true, [TAU_QUARTER] = true },
};

static const double too_large = 0.04;                   // the learning rate of all cases but the healthy one
static const double decay = 0.3;                        // of W_q and W_k, times the learning rate; for `decayed`
static const float enlarged = 4;                        // W_q and W_k at the start, in ordinary ones; for `control`

enum { BLOCK = 10 };                                    // steps that a line of steps.csv stands for
enum { MOST_SEEDS = 8 };

// What a block of steps was like. LOSS, CLIPPED: mean of its steps. S_MAX: the largest of its steps. The others are of
// its first step: the mean over heads of S_h; for the head with the largest, the bound and S over it; that of all heads.
enum { STEP, LOSS, S_MAX, S_MEAN, S_BOUND, SHARE, SHARE_MEAN, CLIPPED, COLUMNS };
static const char *const steps_head =
    "case,arm,seed,step,loss,max_logit,mean_logit,bound,logit_over_bound,mean_over_bound,heads_clipped";

// What a run was like; see figure_names.
enum { VAL_LOSS, TRAIN_LOSS, PEAK, PEAK_STEP, END, SPIKES, EVER, OFTEN, LAST, FIGURES };
static const char *const figure_names[] = {
    "validation loss", "training loss, last 10 steps", "largest logit", "at step", "largest logit, last 10 steps",
    "loss spikes", "heads ever clipped, %", "heads clipped per step, %", "last clip at step" };
static const char *const figure_keys = "val_loss,train_loss,peak,peak_step,end,spikes,ever_clipped,often_clipped,last_clip";
static const char *const figure_formats[] = { "%.4f", "%.4f", "%.1f", "%.0f", "%.1f", "%.1f", "%.0f", "%.1f", "%.0f" };

typedef struct {
    int kind, arm, seed, steps;                         // of CASES, of ARMS
    double lr, tau;                                     // the matrices' peak; of QK-Clip, or the soft-cap, 0: neither
    int done, heads, layers;                            // steps until a number wasn't finite; heads of all layers
    double *losses;                                     // (steps)
    float *logits;                                      // (steps, heads) S_h
    int *clipped;                                       // (steps) heads
    double *bounds;                                     // (steps / BLOCK, heads)
    double *blocks[COLUMNS];                            // (steps / BLOCK) each
    double of[FIGURES];
} Run;

static const char *config;
static char **given;                                    // keys of the command line
static int n_given;

// ---------------------------------------------------------------------------------------------------------------------
// One run

// The largest logit that any input could give this head.
static double bound_of(const Model *m, int layer, int head) {
    if (m->config->model.qk_norm) return sqrt(m->HS);
    size_t size = (size_t)m->HS * (size_t)m->C;
    int key = head / (m->NH / m->NKV);
    double gain = 0;
    for (int c = 0; c < m->C; c++) gain = fmax(gain, fabsf(weight(m, NORM1_W, layer)[c]));
    return m->C * gain * gain * lab_spectral_norm(weight(m, WQ, layer) + (size_t)head * size, m->HS, m->C)
           * lab_spectral_norm(weight(m, WK, layer) + (size_t)key * size, m->HS, m->C) / sqrt(m->HS);
}

static bool clips(int arm) { return arm >= TAU_100 && arm <= TAU_QUARTER; }

static void open_run(Trainer *t, const Run *r) {
    char *keys[64];
    int n = 0;
    for (int i = 0; i < n_given; i++) keys[n++] = given[i];
    int first = n;
    keys[n++] = format("--train.steps=%d", r->steps);
    keys[n++] = format("--optimizer.qk_clip.tau=%.9g", clips(r->arm) ? r->tau : 0.0);
    keys[n++] = format("--optimizer.%s.lr=%.9g", r->arm == ADAMW ? "adamw" : "muon", r->lr);
    if (r->arm == ADAMW) keys[n++] = format("--optimizer.name=adamw");
    if (r->arm == SOFTCAP) keys[n++] = format("--model.attn_softcap=%.9g", r->tau);
    if (r->arm == QK_NORM) keys[n++] = format("--model.qk_norm=true");
    lab_open(t, config, n, keys, r->seed);
    while (n > first) free(keys[--n]);
    if (t->config.model.norm != NORM_RMSNORM || t->config.model.bias)
        fail_usage("%s: the bound of the logits is that of rmsnorm without biases", config);
    if (r->kind == HEALTHY) return;
    for (int g = 0; g < t->n_groups; g++)
        if (!strcmp(t->groups[g].name, "wq") || !strcmp(t->groups[g].name, "wk"))
            t->groups[g].weight_decay = r->kind == DECAYED ? decay : 0;
    static const TensorId of_logits[] = { WQ, WK };
    for (size_t k = 0; k < COUNT_OF(of_logits) && r->kind == CONTROL; k++)
        for (int l = 0; l < t->model.L; l++) {
            const Tensor *row = &t->model.table[of_logits[k]];
            float *w = weight(&t->model, of_logits[k], l);
            for (size_t i = 0; i < (size_t)row->rows * (size_t)row->cols; i++) w[i] *= enlarged;
        }
}

static void sum_up_block(Run *r, int b) {
    const float *s = r->logits + (size_t)b * BLOCK * r->heads;
    const double *bound = r->bounds + (size_t)b * r->heads;
    double of[COLUMNS] = { [STEP] = b * BLOCK };
    int top = 0;
    for (int h = 0; h < r->heads; h++) {
        if (s[h] > s[top]) top = h;
        of[S_MEAN] += s[h] / r->heads;
        of[SHARE_MEAN] += s[h] / bound[h] / r->heads;
    }
    of[S_MAX] = vec_max(s, BLOCK * r->heads);
    of[S_BOUND] = bound[top];
    of[SHARE] = s[top] / bound[top];
    for (int i = b * BLOCK; i < (b + 1) * BLOCK; i++) {
        of[LOSS] += r->losses[i] / BLOCK;
        of[CLIPPED] += (double)r->clipped[i] / BLOCK;
    }
    for (int c = 0; c < COLUMNS; c++) r->blocks[c][b] = of[c];
}

static void sum_up(Run *r, double val_loss) {
    double *of = r->of;
    int blocks = r->done / BLOCK, ever = 0, clipped = 0;
    for (int f = 0; f < FIGURES; f++) of[f] = NAN;
    for (int b = 0; b < blocks; b++) sum_up_block(r, b);
    if (blocks == 0) return;
    of[VAL_LOSS] = val_loss;
    of[TRAIN_LOSS] = r->blocks[LOSS][blocks - 1];
    of[END] = r->blocks[S_MAX][blocks - 1];
    of[SPIKES] = count_spikes(r->losses, r->done);
    for (int i = 0; i < r->done; i++) {
        double s = vec_max(r->logits + (size_t)i * r->heads, r->heads);
        if (i == 0 || s > of[PEAK]) of[PEAK] = s, of[PEAK_STEP] = i;
        if (r->clipped[i]) of[LAST] = i;
        clipped += r->clipped[i];
    }
    for (int h = 0; h < r->heads; h++)
        for (int i = 0; i < r->done; i++)
            if (clips(r->arm) && r->logits[(size_t)i * r->heads + h] > r->tau) { ever++; break; }
    of[EVER] = 100.0 * ever / r->heads;
    of[OFTEN] = 100.0 * clipped / r->heads / r->done;
}

static void train_run(Run *r) {
    Trainer t = {0};
    open_run(&t, r);
    const Model *m = &t.model;
    size_t steps = (size_t)r->steps;
    r->layers = m->L;
    r->heads = m->L * m->NH;
    r->losses = xcalloc(steps, sizeof *r->losses);
    r->logits = xcalloc(steps * (size_t)r->heads, sizeof *r->logits);
    r->clipped = xcalloc(steps, sizeof *r->clipped);
    r->bounds = xcalloc(steps / BLOCK * (size_t)r->heads, sizeof *r->bounds);
    for (int c = 0; c < COLUMNS; c++) r->blocks[c] = xcalloc(steps / BLOCK, sizeof *r->blocks[c]);
    for (r->done = 0; r->done < r->steps; r->done++) {
        int i = r->done;
        StepResult step;
        for (int h = 0; h < r->heads && i % BLOCK == 0; h++)    // of the weights that this step's forward pass sees
            r->bounds[(size_t)(i / BLOCK) * r->heads + h] = bound_of(m, h / m->NH, h % m->NH);
        if (!train_step(&t, &step)) break;
        t.step++;
        r->losses[i] = step.loss;
        r->clipped[i] = step.clipped;
        memcpy(r->logits + (size_t)i * r->heads, m->max_logits, (size_t)r->heads * sizeof *r->logits);
    }
    bool whole = r->done == r->steps && evaluate(&t);
    sum_up(r, whole ? t.eval.val_loss : NAN);
    trainer_close(&t);
    printf("%s, %s, seed %d, %d steps, learning rate %.4g: ", case_names[r->kind], arm_names[r->arm], r->seed, r->steps, r->lr);
    if (whole) printf("validation loss %.4f, largest logit %.1f\n", t.eval.val_loss, r->of[PEAK]);
    else printf("diverged at step %d\n", r->done);
    fflush(stdout);
}

static void free_run(Run *r) {
    free(r->losses), free(r->logits), free(r->clipped), free(r->bounds);
    for (int c = 0; c < COLUMNS; c++) free(r->blocks[c]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The healthy learning rate: whole runs of seed 1, for what is best at half the length is too large here. The best one's
// run stays, as the healthy case's first.

static Run runs[CASES][ARMS][MOST_SEEDS];
static int seeds_of[CASES];

typedef struct { int arm, steps; LabCsv *csv; double best; } Search;

static double search_loss(void *context, double rate) {
    Search *search = context;
    Run *kept = &runs[HEALTHY][search->arm][0];
    Run r = { .kind = HEALTHY, .arm = search->arm, .seed = 1, .steps = search->steps, .lr = rate };
    train_run(&r);
    fprintf(search->csv->to, "%s,%.6g,%.5f\n", r.arm == ADAMW ? "adamw" : "muon", rate, r.of[VAL_LOSS]);
    double loss = isfinite(r.of[VAL_LOSS]) ? r.of[VAL_LOSS] : INFINITY;
    bool better = loss < search->best;
    free_run(better ? kept : &r);
    if (better) *kept = r, search->best = loss;
    return loss;
}

static double best_rate(int arm, double start, int steps, LabCsv *csv) {
    Search search = { arm, steps, csv, INFINITY };
    return lab_best_rate(start, search_loss, &search);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables, CSV, picture

static Sample figure_of(int kind, int arm, int figure) {
    double values[MOST_SEEDS];
    for (int s = 0; s < seeds_of[kind]; s++) {
        const Run *r = &runs[kind][arm][s];
        values[s] = r->done > 0 ? r->of[figure] : NAN;  // tau = 100 isn't run where the peak is below
    }
    return sample_of(values, seeds_of[kind]);
}

static bool was_run(int kind, int arm) { return figure_of(kind, arm, PEAK).n > 0; }

// Of an arm's validation loss to that of the unclipped run of the same seed.
static Sample difference_of(int kind, int arm) {
    double values[MOST_SEEDS];
    for (int s = 0; s < seeds_of[kind]; s++) {
        const Run *r = &runs[kind][arm][s];
        values[s] = r->done > 0 ? r->of[VAL_LOSS] - runs[kind][UNCLIPPED][s].of[VAL_LOSS] : NAN;
    }
    return sample_of(values, seeds_of[kind]);
}

static void table(int kind) {
    MarkdownTable t = { .columns = FIGURES + 2 };
    markdown_cell(&t, "%s, %d seed%s\ttau", case_names[kind], seeds_of[kind], seeds_of[kind] > 1 ? "s" : "");
    for (int f = 0; f < FIGURES; f++) markdown_cell(&t, "%s", figure_names[f]);
    for (int a = 0; a < ARMS; a++) {
        if (!was_run(kind, a)) continue;
        double tau = 0;
        for (int s = 0; s < seeds_of[kind]; s++) tau += runs[kind][a][s].tau / figure_of(kind, a, PEAK).n;
        markdown_cell(&t, "%s", arm_names[a]);
        if (tau > 0) markdown_cell(&t, "%.1f", tau);
        else markdown_cell(&t, "-");
        for (int f = 0; f < FIGURES; f++) {
            Sample x = figure_of(kind, a, f);
            bool about_clips = f == EVER || f == OFTEN || f == LAST;
            char mean[32], deviation[32];
            snprintf(mean, sizeof mean, figure_formats[f], x.mean);
            snprintf(deviation, sizeof deviation, figure_formats[f], x.sd);
            if (x.n == 0 || (about_clips && !clips(a))) markdown_cell(&t, "-");
            else if (x.n == 1) markdown_cell(&t, "%s", mean);
            else markdown_cell(&t, "%s (%s)", mean, deviation);
        }
    }
    printf("\n");
    markdown_end(stdout, &t, false);
}

// Where the logits come from: the bound's growth is the matrices', the rest is how well they match the inputs.
static void bound_table(void) {
    MarkdownTable t = markdown_start("case\tarm\tlargest logit of the first step\tits bound\tshare\tof the last block\tits bound\tshare");
    for (int k = 0; k < CASES; k++)
        for (int a = 0; a < ARMS; a++) {
            const Run *r = &runs[k][a][0];
            int last = r->done / BLOCK - 1;
            if (last < 0) continue;
            markdown_cell(&t, "%s\t%s", case_names[k], arm_names[a]);
            for (int end = 0; end < 2; end++) {
                int b = end ? last : 0;
                markdown_cell(&t, "%.3g\t%.4g\t%.4f", r->blocks[SHARE][b] * r->blocks[S_BOUND][b], r->blocks[S_BOUND][b],
                              r->blocks[SHARE][b]);
            }
        }
    printf("\n");
    markdown_end(stdout, &t, false);
}

static void difference_table(void) {
    MarkdownTable t = markdown_start("case\tarm\tdifference to unclipped\tstandard error\tin standard errors");
    for (int k = 0; k < CASES; k++)
        for (int a = 1; a < ARMS; a++) {
            Sample d = difference_of(k, a);
            if (d.n > 0) markdown_cell(&t, "%s\t%s\t%+.4f", case_names[k], arm_names[a], d.mean);
            if (d.n > 1) markdown_cell(&t, "%.4f\t%+.1f", d.se, d.mean / d.se);
            if (d.n == 1) markdown_cell(&t, "-\t-");
        }
    printf("\n");
    markdown_end(stdout, &t, false);
}

// Whether clipping costs loss in the healthy case: the mean of the paired differences, and the end of its one-sided 95 %
// interval, against a margin of two standard deviations of the unclipped runs, which is returned.
static double non_inferiority(void) {
    double margin = 2 * figure_of(HEALTHY, UNCLIPPED, VAL_LOSS).sd;
    if (seeds_of[HEALTHY] < 2) return margin;
    MarkdownTable t = markdown_start("healthy, against unclipped\tdifference\twith 95 % at most\tmargin\tnot inferior");
    for (int a = 0; a < ARMS; a++) {
        Sample d = difference_of(HEALTHY, a);
        if (!clips(a) || d.n < 2) continue;
        double most = d.mean + t_quantile(0.1, d.n - 1) * d.se;
        markdown_cell(&t, "%s\t%+.4f\t%+.4f\t%.4f\t%s", arm_names[a], d.mean, most, margin,
                      most < margin ? "yes" : d.mean < margin ? "probably: only the mean is below" : "no");
    }
    printf("\n");
    markdown_end(stdout, &t, false);
    return margin;
}

static void save(void) {
    char *head = format("case,arm,seed,lr,tau,steps,%s", figure_keys);
    LabCsv *summary = lab_csv("runs.csv", head), *steps = lab_csv("steps.csv", steps_head),
           *heads = lab_csv("heads.csv", "case,arm,seed,layer,head,peak,peak_step,end,steps_clipped,first_clip,last_clip");
    for (int k = 0; k < CASES; k++)
        for (int a = 0; a < ARMS; a++)
            for (int s = 0; s < seeds_of[k]; s++) {
                const Run *r = &runs[k][a][s];
                if (r->done == 0) continue;
                char *name = format("%s,%s,%d", case_names[k], arm_names[a], r->seed);
                fprintf(summary->to, "%s,%.6g,%.6g,%d", name, r->lr, r->tau, r->done);
                for (int f = 0; f < FIGURES; f++) fprintf(summary->to, ",%.6g", r->of[f]);
                fprintf(summary->to, "\n");
                for (int b = 0; b < r->done / BLOCK; b++) {
                    fprintf(steps->to, "%s", name);
                    for (int c = 0; c < COLUMNS; c++) fprintf(steps->to, ",%.5g", r->blocks[c][b]);
                    fprintf(steps->to, "\n");
                }
                for (int h = 0; h < r->heads; h++) {
                    int peak = 0, clipped = 0, first = -1, last = -1;
                    const float *x = r->logits + h;             // of step i: x[i * heads]
                    for (int i = 0; i < r->done; i++) {
                        if (x[(size_t)i * r->heads] > x[(size_t)peak * r->heads]) peak = i;
                        if (!clips(r->arm) || !(x[(size_t)i * r->heads] > r->tau)) continue;
                        clipped++;
                        last = i;
                        if (first < 0) first = i;
                    }
                    int per_layer = r->heads / r->layers;
                    fprintf(heads->to, "%s,%d,%d,%.5g,%d,%.5g,%d,%d,%d\n", name, h / per_layer, h % per_layer,
                            x[(size_t)peak * r->heads], peak, x[(size_t)(r->done - 1) * r->heads], clipped, first, last);
                }
                free(name);
            }
    lab_csv_save(summary), lab_csv_save(steps), lab_csv_save(heads);
    free(head);
}

// A panel of one column of steps.csv for the arms of a case, seed 1; with dashed lines at the thresholds of runs.csv.
typedef struct { PlotSeries series[2 * ARMS]; double *x[ARMS], *y[ARMS], ends[ARMS][2], taus[ARMS][2]; int n; } Lines;

static bool is_run(const LabTable *t, int row, int kind, int arm) {
    return !strcmp(lab_cell(t, row, "case"), case_names[kind]) && !strcmp(lab_cell(t, row, "arm"), arm_names[arm]) &&
           lab_number(t, row, "seed") == 1;
}

static PlotPanel panel_of(Lines *l, const LabTable *runs_table, const LabTable *steps, int kind, const char *column, const char *title,
                          const char *ylabel, bool ylog) {
    for (int a = 0; a < ARMS; a++) {
        const int color = a == ADAMW ? PLOT_ADAMW : a == UNCLIPPED ? PLOT_MUON : PLOT_OTHERS + a - 1;
        double *x = l->x[a] = xmalloc((size_t)steps->rows * sizeof *x), *y = l->y[a] = xmalloc((size_t)steps->rows * sizeof *y);
        int n = 0;
        for (int row = 1; row < steps->rows; row++)
            if (is_run(steps, row, kind, a)) x[n] = lab_number(steps, row, "step"), y[n++] = lab_number(steps, row, column);
        if (n == 0 || (!strcmp(column, "heads_clipped") && !clips(a))) continue;
        for (int row = 1; row < runs_table->rows && !strcmp(column, "max_logit") && clips(a); row++) {
            if (!is_run(runs_table, row, kind, a)) continue;
            for (int end = 0; end < 2; end++) l->ends[a][end] = end * x[n - 1], l->taus[a][end] = lab_number(runs_table, row, "tau");
            l->series[l->n++] = (PlotSeries){ .x = l->ends[a], .y = l->taus[a], .n = 2, .color = color, .style = PLOT_DASHED };
        }
        l->series[l->n++] = (PlotSeries){ .label = arm_names[a], .x = x, .y = y, .n = n, .color = color, .style = PLOT_LINE };
    }
    return (PlotPanel){ .title = title, .xlabel = "step", .ylabel = ylabel, .ylog = ylog, .series = l->series, .n_series = l->n };
}

static void draw(void) {
    static const char *const logit = "largest logit of any head", *const clipped = "heads clipped per step",
                      *const share = "share of the bound, mean of heads", *const loss = "nats per token, mean of 10 steps";
    static const struct { int kind; const char *column, *title, *const *ylabel; bool ylog; } of[] = {
        { GROWING, "max_logit", "growing: largest logit", &logit, true },
        { DECAYED, "max_logit", "decayed: largest logit", &logit, true },
        { CONTROL, "max_logit", "control: largest logit", &logit, true },
        { GROWING, "heads_clipped", "growing: heads clipped", &clipped, false },
        { DECAYED, "heads_clipped", "decayed: heads clipped", &clipped, false },
        { HEALTHY, "max_logit", "healthy: largest logit", &logit, true },
        { GROWING, "mean_over_bound", "growing: logits over their bounds", &share, true },
        { GROWING, "loss", "growing: training loss", &loss, false },
        { HEALTHY, "loss", "healthy: training loss", &loss, false },
    };
    enum { PANELS = COUNT_OF(of) };
    static Lines lines[PANELS];
    PlotPanel panels[PANELS];
    LabTable runs_table = lab_table("runs.csv"), steps = lab_table("steps.csv");
    for (int p = 0; p < (int)PANELS; p++)
        panels[p] = panel_of(&lines[p], &runs_table, &steps, of[p].kind, of[p].column, of[p].title, *of[p].ylabel, of[p].ylog);
    lab_draw("qk-clip.png", "Attention logits with and without QK-Clip", panels, PANELS, 3, 1350, 1200);
    for (int i = 0; i < PANELS * ARMS; i++) free(lines[i / ARMS].x[i % ARMS]), free(lines[i / ARMS].y[i % ARMS]);
    lab_table_free(&runs_table), lab_table_free(&steps);
}

// ---------------------------------------------------------------------------------------------------------------------

static void train_case(int kind, double muon_lr, double adamw_lr, int steps) {
    for (int s = 0; s < seeds_of[kind]; s++) {
        double peak = 0;
        for (int a = 0; a < ARMS; a++) {
            if (!arms_of[kind][a] || (a == TAU_100 && peak <= 100)) continue;
            double lr = kind != HEALTHY ? too_large : a == ADAMW ? adamw_lr : muon_lr;
            double tau = a == TAU_100 ? 100 : a == TAU_HALF ? peak / 2 : a == TAU_QUARTER || a == SOFTCAP ? peak / 4 : 0;
            Run *r = &runs[kind][a][s];
            if (r->done == 0) {                         // else the search has made it
                *r = (Run){ .kind = kind, .arm = a, .seed = s + 1, .steps = steps, .lr = lr, .tau = tau };
                train_run(r);
            }
            if (a == UNCLIPPED) peak = r->of[PEAK];
        }
    }
}

// The largest of S over tau among all clipped runs of a case; and of S over its bound among all runs.
static double worst_over_tau(int kind) {
    double worst = 0;
    for (int a = 0; a < ARMS; a++)
        for (int s = 0; s < seeds_of[kind]; s++) {
            const Run *r = &runs[kind][a][s];
            if (clips(a) && r->done > 0) worst = fmax(worst, r->of[PEAK] / r->tau);
        }
    return worst;
}

static double worst_over_bound(void) {
    double worst = 0;
    for (int k = 0; k < CASES; k++)
        for (int a = 0; a < ARMS; a++)
            for (int s = 0; s < seeds_of[k]; s++) {
                const Run *r = &runs[k][a][s];
                for (int b = 0; b < r->done / BLOCK; b++)
                    for (int h = 0; h < r->heads; h++)
                        worst = fmax(worst, r->logits[(size_t)b * BLOCK * r->heads + h] / r->bounds[(size_t)b * r->heads + h]);
            }
    return worst;
}

int main(int argc, char **argv) {
    if (lab_draws_again(argc, argv, draw)) return 0;
    if (argc < 6)
        fail_usage("usage: study_qk-clip FOLDER CONFIG STEPS SEEDS OTHER_SEEDS [tune] [--key=value ...]; STEPS a multiple of %d, "
                   "at most 50 keys", BLOCK);
    int steps = (int)integer_of("STEPS", argv[3], BLOCK, 1000000);
    int seeds = (int)integer_of("SEEDS", argv[4], 1, MOST_SEEDS), others = (int)integer_of("OTHER_SEEDS", argv[5], 1, MOST_SEEDS);
    bool tune = argc > 6 && !strcmp(argv[6], "tune");
    given = argv + 6 + tune;
    n_given = argc - 6 - tune;
    if (steps % BLOCK) fail_usage("STEPS=%d: a multiple of %d expected", steps, BLOCK);
    if (n_given > 50) fail_usage("%d keys: at most 50 expected", n_given);
    lab_begin(argv, argv[1]);
    config = argv[2];
    seeds_of[HEALTHY] = seeds;
    seeds_of[GROWING] = seeds_of[DECAYED] = seeds_of[CONTROL] = others;

    Config start = {0};
    config_load(&start, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), config, n_given, given, NULL);
    double muon_lr = start.optimizer.muon.lr, adamw_lr = start.optimizer.adamw.lr;
    config_free(&start, config_fields, N_FIELDS);
    LabCsv *grid = lab_csv("learning_rates.csv", "optimizer,lr,val_loss");
    if (tune) {
        muon_lr = best_rate(UNCLIPPED, muon_lr, steps, grid);
        adamw_lr = best_rate(ADAMW, adamw_lr, steps, grid);
    }
    lab_csv_save(grid);
    for (int k = 0; k < CASES; k++) train_case(k, muon_lr, adamw_lr, steps);

    for (int k = 0; k < CASES; k++) table(k);
    bound_table();
    difference_table();
    double margin = non_inferiority(), growing = figure_of(GROWING, UNCLIPPED, PEAK).mean, over = 0;
    for (int k = 0; k < CASES; k++) over = fmax(over, worst_over_tau(k));
    save();
    draw();
    printf("\nlargest logit over its bound %.4f, of clipped runs over tau %.3f\n", worst_over_bound(), over);
    lab_must(worst_over_bound() < 1.001, "no logit passes its bound");
    double held = tune ? 1.5 : 2;                       // in the first steps logits grow fast: the next is well above tau
    lab_must(over < held, format("QK-Clip keeps the largest logit below %g tau", held));
    lab_must(figure_of(CONTROL, UNCLIPPED, PEAK).mean > growing, "larger W_q and W_k at the start have larger logits");
    if (!tune) return 0;                                // the short form is too short for the others
    lab_must(growing > 150, "a large learning rate alone takes logits beyond 150");
    lab_must(figure_of(DECAYED, TAU_100, END).mean < 100, "with decay of W_q and W_k logits fall below tau by themselves");
    lab_must(difference_of(HEALTHY, TAU_QUARTER).mean > margin, "clipping healthy logits to a quarter costs loss");
    return 0;
}

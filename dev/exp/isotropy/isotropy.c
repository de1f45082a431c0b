/* isotropy.c - does Muon spread what it learns over more directions than AdamW? The singular values of weights, of their
 * change, and of what the change is made of, in a small GPT trained by either; README.md beside this file explains.
 *
 *     build/study_isotropy FOLDER CONFIG STEPS SEEDS [--key=value ...]    -> CSV files and isotropy.png in FOLDER
 *     build/study_isotropy FOLDER draw                                    isotropy.png again, from the CSV files
 *
 * Both optimizers find the learning rate of the hidden matrices at half of STEPS, seed 1; then each trains SEEDS times
 * with it, AdamW for STEPS, Muon for STEPS and for half of them. At MOMENTS moments of every run each hidden matrix is
 * looked at, so that runs can be compared after equally many steps and at the same validation loss.
 */
#include "../lab.h"

enum { ADAMW, MUON, MUON_HALF, ARMS };
static const struct { const char *name, *optimizer, *rate_key; double start, part; int color; unsigned dashed; } arms[] = {
    { "AdamW", "adamw", "optimizer.adamw.lr", 0.004, 1, PLOT_ADAMW, 0 },
    { "Muon", "muon", "optimizer.muon.lr", 0.008, 1, PLOT_MUON, 0 },
    { "Muon, half the steps", "muon", "optimizer.muon.lr", 0.008, 0.5, PLOT_MUON, PLOT_DASHED },
};

enum { WEIGHTS, CHANGE, GRADIENT, MOMENTUM, UPDATE, LOOKS };
static const char *const look_names[] = { "W", "W - W0", "gradient", "momentum", "update" };

enum { ENTROPY, EFFECTIVE_RANK, TOP, QUARTILES, METRICS };
static const char *const metric_names[] = { "entropy", "effective rank", "top-10 energy", "log10 Q75/25" };
static const int metric_digits[] = { 3, 1, 3, 2 };
static const int top_values = 10;

enum { COMPONENTS = 7, ALL = COMPONENTS, MOMENTS = 8, LAST = MOMENTS - 1, MOST_SEEDS = 16, RANDOMS = 8 };
static const TensorId components[] = { WQ, WK, WV, WO, W_GATE, W_IN, W_OUT };
static const char *const component_names[] = { "q", "k", "v", "o", "mlp_gate", "mlp_in", "mlp_out", "all" };
static const char *const short_names[] = { "q", "k", "v", "o", "gate", "in", "out" };
static const double moments[] = { 0.02, 0.05, 0.125, 0.25, 0.375, 0.5, 0.75, 1 };   // parts of a run's steps

typedef struct { int component, layer, rows, cols; } Matrix;
typedef struct { double m[METRICS]; } Spectrum;
typedef struct {
    int step[MOMENTS];
    double loss[MOMENTS];                               // of validation
    Spectrum *at[MOMENTS][LOOKS];                       // of each matrix
} Run;

static const char *config_file;
static int n_overrides, n_matrices;
static char **overrides;                                // with room for an arm's own
static Matrix *matrices;

// ---------------------------------------------------------------------------------------------------------------------
// The metrics: of the shares q that each direction has in the energy, the sum of all squared singular values

static double quantile(const double *ascending, int n, double part) {
    double place = part * (n - 1);
    int i = (int)place < n - 1 ? (int)place : n - 2;
    return ascending[i] + (place - i) * (ascending[i + 1] - ascending[i]);
}

static Spectrum spectrum_of(const float *x, int rows, int cols) {
    int n = rows < cols ? rows : cols;
    double *squares = xmalloc((size_t)n * sizeof *squares), energy = 0, top = 0;
    singular_values(squares, x, rows, cols);
    for (int i = 0; i < n; i++) energy += squares[i];
    for (int i = n > top_values ? n - top_values : 0; i < n; i++) top += squares[i] / energy;
    double entropy = spectrum_entropy(squares, n);
    double quartiles = log10(quantile(squares, n, 0.75) / quantile(squares, n, 0.25));      // its mean means more
    Spectrum s = { { entropy / log(n), exp(entropy), top, quartiles } };
    free(squares);
    return s;
}

// What independent Gaussian entries of this shape have: the mean of RANDOMS matrices.
static Spectrum random_spectrum(int rows, int cols) {
    size_t n = (size_t)rows * (size_t)cols;
    float *x = xmalloc(n * sizeof *x);
    Spectrum mean = { { 0 } };
    for (int r = 0; r < RANDOMS; r++) {
        for (size_t i = 0; i < n; i++) x[i] = normal_of(hash64(hash64(hash_string("isotropy"), (uint64_t)r), i));
        Spectrum s = spectrum_of(x, rows, cols);
        for (int k = 0; k < METRICS; k++) mean.m[k] += s.m[k] / RANDOMS;
    }
    free(x);
    return mean;
}

// ---------------------------------------------------------------------------------------------------------------------
// Runs

static void find_matrices(const Model *m) {
    if (matrices) return;
    matrices = xcalloc((size_t)m->L * COMPONENTS, sizeof *matrices);
    for (int c = 0; c < COMPONENTS; c++) {
        const Tensor *t = &m->table[components[c]];
        for (int l = 0; l < t->count; l++) {
            if (t->rows <= top_values || t->cols <= top_values)
                fail_usage("%s: %d x %d, but it takes more than %d rows and columns", t->name, t->rows, t->cols, top_values);
            matrices[n_matrices++] = (Matrix){ c, l, t->rows, t->cols };
        }
    }
}

// The optimizer's row for a component, and where the state of a layer's matrix begins in it.
static const MuonParam *group_of(const Trainer *t, const Matrix *x, const float **momentum) {
    for (int g = 0; g < t->n_groups; g++) {
        size_t n = 0;
        if (t->groups[g].w != weight(&t->model, components[x->component], 0) || t->groups[g].rows != x->rows) continue;
        const float *state = muon_state(&t->muon, g, MUON_SLOT_MOMENTUM, &n);
        if (!state) break;
        *momentum = state + (size_t)x->layer * (size_t)x->rows * (size_t)x->cols;
        return &t->groups[g];
    }
    fail_usage("%s: not a matrix of its own with a momentum, as this study needs it", component_names[x->component]);
}

static void open_arm(Trainer *t, int arm, double rate, int steps, int seed) {
    char **own = overrides + n_overrides;
    own[0] = format("--optimizer.name=%s", arms[arm].optimizer);
    own[1] = format("--%s=%.9g", arms[arm].rate_key, rate);
    own[2] = format("--train.steps=%d", steps);
    lab_open(t, config_file, n_overrides + 3, overrides, seed);
    find_matrices(&t->model);
    const float *momentum;
    for (int i = 0; i < n_matrices; i++) group_of(t, &matrices[i], &momentum);      // says what can't be looked at
    for (int i = 0; i < 3; i++) free(own[i]);
}

/* Copies one look at a matrix. The update is what the step just made took from the weights, decay aside:
 * W <- W - lr wd W - lr u, so that u is (1 - lr wd) `before` - W but for its size. */
static void look_at(float *out, const Trainer *t, const Matrix *x, int look, const float *first, const float *before) {
    const Model *m = &t->model;
    const float *momentum, *w = weight(m, components[x->component], x->layer);
    const MuonParam *group = group_of(t, x, &momentum);
    size_t place = (size_t)(w - m->params), n = (size_t)x->rows * (size_t)x->cols;
    double kept = 1 - t->muon.lr_factor * group->lr * group->weight_decay;
    for (size_t i = 0; i < n; i++)
        out[i] = look == WEIGHTS ? w[i] : look == CHANGE ? w[i] - first[place + i]
               : look == GRADIENT ? gradient(m, components[x->component], x->layer)[i] : look == MOMENTUM ? momentum[i]
               : (float)(kept * before[place + i] - w[i]);
}

static void measure(Run *r, int moment, Trainer *t, const float *first, const float *before) {
    for (int k = 0; k < LOOKS; k++) r->at[moment][k] = xmalloc((size_t)n_matrices * sizeof(Spectrum));
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (int i = 0; i < n_matrices; i++)
        for (int k = 0; k < LOOKS; k++) {
            const Matrix *x = &matrices[i];
            float *copy = xmalloc((size_t)x->rows * (size_t)x->cols * sizeof *copy);
            look_at(copy, t, x, k, first, before);
            r->at[moment][k][i] = spectrum_of(copy, x->rows, x->cols);
            free(copy);
        }
    evaluate(t);                                        // after the looks: it doesn't keep gradients
    r->step[moment] = t->step;
    r->loss[moment] = t->eval.val_loss;
}

static Run train_arm(int arm, double rate, int full_steps, int seed) {
    Trainer t = {0};
    Run r;
    int steps = (int)(full_steps * arms[arm].part);
    open_arm(&t, arm, rate, steps, seed);
    size_t bytes = t.model.n_params * sizeof(float);
    float *first = xmalloc(bytes), *before = xmalloc(bytes);
    memcpy(first, t.model.params, bytes);
    for (int i = 0; i < MOMENTS; i++) {
        int step = (int)lround(moments[i] * steps);
        do {
            memcpy(before, t.model.params, bytes);
            lab_step(&t);
        } while (t.step < step);
        measure(&r, i, &t, first, before);
    }
    printf("%s, seed %d: validation loss %.4f after %d steps\n", arms[arm].name, seed, r.loss[LAST], t.step);
    free(first), free(before);
    trainer_close(&t);
    return r;
}

typedef struct { int arm, steps; LabCsv *csv; } Search;

static double loss_at_rate(void *search, double rate) {
    const Search *s = search;
    Trainer t = {0};
    StepResult step;
    open_arm(&t, s->arm, rate, s->steps, 1);
    bool fine = true;
    while (fine && t.step < s->steps) {
        fine = train_step(&t, &step);
        t.step++;
    }
    if (fine) evaluate(&t);
    double loss = fine && isfinite(t.eval.val_loss) ? t.eval.val_loss : INFINITY;
    printf("%s, learning rate %g: validation loss %.4f after %d steps\n", arms[s->arm].name, rate, loss, s->steps);
    fprintf(s->csv->to, "%s,%g,%d,%.5f\n", arms[s->arm].optimizer, rate, s->steps, loss);
    trainer_close(&t);
    return loss;
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparisons: of AdamW's end with a moment of Muon's. A moment may lie between two, then metrics are interpolated

enum { SAME_STEPS, SAME_LOSS, HALF_STEPS, COMPARISONS };
static const char *const comparison_names[] = { "same steps", "same loss", "half the steps" };

static int n_seeds;
static Run runs[ARMS][MOST_SEEDS];
static Spectrum *randoms;                               // of each matrix's shape

// Where the run's validation loss first falls to this one, on straight lines; its end where it doesn't.
static double moment_of_loss(const Run *r, double loss) {
    if (r->loss[0] <= loss) return 0;
    for (int i = 1; i < MOMENTS; i++)
        if (r->loss[i] <= loss) return i - 1 + (r->loss[i - 1] - loss) / (r->loss[i - 1] - r->loss[i]);
    return LAST;
}

static double at_moment(const double values[MOMENTS], double moment) {
    int i = moment < LAST ? (int)moment : LAST - 1;
    return values[i] + (moment - i) * (values[i + 1] - values[i]);
}

typedef struct { const Run *run; double moment; } Place;

// What is compared, AdamW's side and Muon's. The same loss is that of the run that ends higher.
static Place place_of(int comparison, bool muon, int seed) {
    const Run *adamw = &runs[ADAMW][seed], *other = &runs[comparison == HALF_STEPS ? MUON_HALF : MUON][seed];
    double loss = fmax(adamw->loss[LAST], other->loss[LAST]);
    const Run *run = muon ? other : adamw;
    return (Place){ run, comparison == SAME_LOSS ? moment_of_loss(run, loss) : LAST };
}

static double metric_at(Place p, int look, int metric, int matrix) {
    double values[MOMENTS];
    for (int i = 0; i < MOMENTS; i++) values[i] = p.run->at[i][look][matrix].m[metric];
    return at_moment(values, p.moment);
}

static bool is_of(int matrix, int component) { return component == ALL || matrices[matrix].component == component; }

// The mean over the component's layers.
static double mean_at(Place p, int look, int metric, int component) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < n_matrices; i++)
        if (is_of(i, component)) sum += metric_at(p, look, metric, i), n++;
    return sum / n;
}

static double random_mean(int metric, int component) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < n_matrices; i++)
        if (is_of(i, component)) sum += randoms[i].m[metric], n++;
    return sum / n;
}

typedef struct { Sample adamw, muon, difference; } Pair;        // over seeds; the difference is paired

static Pair pair_of(int comparison, int look, int metric, int component) {
    double a[MOST_SEEDS], b[MOST_SEEDS], d[MOST_SEEDS];
    for (int s = 0; s < n_seeds; s++) {
        a[s] = mean_at(place_of(comparison, false, s), look, metric, component);
        b[s] = mean_at(place_of(comparison, true, s), look, metric, component);
        d[s] = b[s] - a[s];
    }
    return (Pair){ sample_of(a, n_seeds), sample_of(b, n_seeds), sample_of(d, n_seeds) };
}

typedef struct { int higher, of; } Share;

// Matrices of all seeds whose entropy is higher with Muon.
static Share share_of(int comparison, int look, int component) {
    Share share = { 0, 0 };
    for (int s = 0; s < n_seeds; s++)
        for (int i = 0; i < n_matrices; i++) {
            if (!is_of(i, component)) continue;
            share.of++;
            share.higher += metric_at(place_of(comparison, true, s), look, ENTROPY, i)
                          > metric_at(place_of(comparison, false, s), look, ENTROPY, i);
        }
    return share;
}

// How much one matrix's entropy at the end differs between seeds: the deviation, mean over matrices.
static double deviation_of(int arm, int look) {
    double sum = 0, values[MOST_SEEDS];
    for (int i = 0; i < n_matrices; i++) {
        for (int s = 0; s < n_seeds; s++) values[s] = metric_at((Place){ &runs[arm][s], LAST }, look, ENTROPY, i);
        sum += sample_of(values, n_seeds).sd;
    }
    return sum / n_matrices;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables and CSV

static void put_sample(MarkdownTable *t, Sample s, int digits, bool difference) {
    char error[32] = "";
    if (isfinite(s.se)) snprintf(error, sizeof error, " ± %.*f", digits, s.se);
    markdown_cell(t, difference ? "%+.*f%s%s" : "%.*f%s%s", digits, s.mean, error,
                  difference && fabs(s.mean) > 3 * s.se ? " *" : "");
}

// "AdamW" is the same at the same steps and in half of Muon's; at the same loss too, unless it is Muon that ends higher.
static void put_row(MarkdownTable *t, int look, int metric, int component) {
    int digits = metric_digits[metric];
    markdown_cell(t, "%s\t%s\t%s", look_names[look], metric_names[metric], component_names[component]);
    for (int c = 0; c < COMPARISONS; c++) {
        Pair p = pair_of(c, look, metric, component);
        if (c == SAME_STEPS) put_sample(t, p.adamw, digits, false);
        put_sample(t, p.muon, digits, false);
        put_sample(t, p.difference, digits, true);
    }
    markdown_cell(t, "%.*f", digits, random_mean(metric, component));
}

static bool exists(int component) { return isfinite(random_mean(ENTROPY, component)); }

// The means of all matrices; then those of each component, of what training has added and what it is made of.
static void print_metrics(void) {
    static const int by_component[] = { CHANGE, MOMENTUM, UPDATE };
    for (int i = -1; i < (int)COUNT_OF(by_component); i++) {
        MarkdownTable table = markdown_start("of\tmetric\tcomponent\tAdamW\tMuon, same steps\t- AdamW\tMuon, same loss\t- AdamW\t"
                                             "Muon, half the steps\t- AdamW\trandom");
        for (int k = 0; k < LOOKS && i < 0; k++)
            for (int metric = 0; metric < METRICS; metric++) put_row(&table, k, metric, ALL);
        for (int metric = 0; metric < METRICS && i >= 0; metric++)
            for (int c = 0; c < COMPONENTS; c++)
                if (exists(c)) put_row(&table, by_component[i], metric, c);
        printf("\n");
        markdown_end(stdout, &table, false);
    }
    printf("\n(± the standard error over seeds; *: more than three of them)\n");
}

static void save_summary(void) {
    LabCsv *csv = lab_csv("summary.csv", "of,metric,component,compared_at,adamw,adamw_se,muon,muon_se,difference,"
                                         "difference_se,random");
    for (int k = 0; k < LOOKS; k++)
        for (int metric = 0; metric < METRICS; metric++)
            for (int component = 0; component <= ALL; component++)
                for (int c = 0; c < COMPARISONS && exists(component); c++) {
                    Pair p = pair_of(c, k, metric, component);
                    fprintf(csv->to, "%s,%s,%s,%s,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f\n", look_names[k], metric_names[metric],
                            component_names[component], comparison_names[c], p.adamw.mean, p.adamw.se, p.muon.mean,
                            p.muon.se, p.difference.mean, p.difference.se, random_mean(metric, component));
                }
    lab_csv_save(csv);
}

static void print_losses(void) {
    MarkdownTable table = markdown_start("validation loss\tat the end\treaches AdamW's end at step");
    for (int a = 0; a < ARMS; a++) {
        double loss[MOST_SEEDS], step[MOST_SEEDS];
        for (int s = 0; s < n_seeds; s++) {
            const Run *r = &runs[a][s];
            double steps[MOMENTS], target = runs[ADAMW][s].loss[LAST];
            for (int i = 0; i < MOMENTS; i++) steps[i] = r->step[i];
            loss[s] = r->loss[LAST];
            step[s] = r->loss[LAST] > target ? NAN : at_moment(steps, moment_of_loss(r, target));
        }
        Sample reached = sample_of(step, n_seeds);
        markdown_cell(&table, "%s", arms[a].name);
        put_sample(&table, sample_of(loss, n_seeds), 4, false);
        if (reached.n == n_seeds) put_sample(&table, reached, 0, false);
        else markdown_cell(&table, "in %d of %d runs", reached.n, n_seeds);
    }
    printf("\n");
    markdown_end(stdout, &table, false);
}

static void print_shares(void) {
    LabCsv *csv = lab_csv("shares.csv", "of,component,comparison,higher,matrices");
    static const int order[] = { ALL, 0, 1, 2, 3, 4, 5, 6 };
    MarkdownTable table = { .columns = COMPONENTS + 3 };
    markdown_cell(&table, "Muon's entropy is higher in\tcompared at");
    for (int i = 0; i <= COMPONENTS; i++) markdown_cell(&table, "%s", component_names[order[i]]);
    for (int k = 0; k < LOOKS; k++)
        for (int comparison = 0; comparison < COMPARISONS; comparison++) {
            markdown_cell(&table, "%s\t%s", look_names[k], comparison_names[comparison]);
            for (int i = 0; i <= COMPONENTS; i++) {
                Share share = share_of(comparison, k, order[i]);
                markdown_cell(&table, "%d of %d", share.higher, share.of);
                fprintf(csv->to, "%s,%s,%s,%d,%d\n", look_names[k], component_names[order[i]],
                        comparison_names[comparison], share.higher, share.of);
            }
        }
    printf("\n");
    markdown_end(stdout, &table, false);
    lab_csv_save(csv);
}

static void save_matrices(void) {
    LabCsv *csv = lab_csv("isotropy.csv", "optimizer,seed,step,loss,layer,component,of,entropy,effective_rank,top10,log10_q75_25,"
                                          "entropy_at_same_loss");
    for (int a = 0; a < ARMS; a++)
        for (int s = 0; s < n_seeds; s++)
            for (int i = 0; i < n_matrices; i++)
                for (int k = 0; k < LOOKS; k++) {
                    const Run *r = &runs[a][s];
                    const double *m = r->at[LAST][k][i].m;
                    double at_loss = a == MUON_HALF ? NAN : metric_at(place_of(SAME_LOSS, a == MUON, s), k, ENTROPY, i);
                    fprintf(csv->to, "%s,%d,%d,%.4f,%d,%s,%s,%.4f,%.2f,%.4f,%.3f,%.4f\n", arms[a].optimizer, s + 1, r->step[LAST],
                            r->loss[LAST], matrices[i].layer, component_names[matrices[i].component], look_names[k],
                            m[ENTROPY], m[EFFECTIVE_RANK], m[TOP], m[QUARTILES], at_loss);
                }
    lab_csv_save(csv);
}

// Over seeds, the mean over the component's layers at a moment.
static Sample sample_at(int arm, int moment, int look, int metric, int component) {
    double values[MOST_SEEDS];
    for (int s = 0; s < n_seeds; s++) values[s] = mean_at((Place){ &runs[arm][s], moment }, look, metric, component);
    return sample_of(values, n_seeds);
}

static Sample loss_at(int arm, int moment) {
    double values[MOST_SEEDS] = {0};
    for (int s = 0; s < n_seeds; s++) values[s] = runs[arm][s].loss[moment];
    return sample_of(values, n_seeds);
}

// entropy_low and entropy_high: the lowest and the highest of the seeds.
static void save_moments(void) {
    LabCsv *csv = lab_csv("moments.csv", "optimizer,steps,step,loss,component,of,entropy,effective_rank,top10,log10_q75_25,"
                                         "entropy_low,entropy_high");
    for (int a = 0; a < ARMS; a++)
        for (int i = 0; i < MOMENTS; i++)
            for (int c = 0; c <= ALL; c++)
                for (int k = 0; k < LOOKS && exists(c); k++) {
                    double low = INFINITY, high = -INFINITY;
                    for (int s = 0; s < n_seeds; s++) {
                        double entropy = mean_at((Place){ &runs[a][s], i }, k, ENTROPY, c);
                        low = fmin(low, entropy);
                        high = fmax(high, entropy);
                    }
                    fprintf(csv->to, "%s,%d,%d,%.4f,%s,%s,%.4f,%.2f,%.4f,%.3f,%.4f,%.4f\n", arms[a].optimizer, runs[a][0].step[LAST],
                            runs[a][0].step[i], loss_at(a, i).mean, component_names[c], look_names[k],
                            sample_at(a, i, k, ENTROPY, c).mean, sample_at(a, i, k, EFFECTIVE_RANK, c).mean,
                            sample_at(a, i, k, TOP, c).mean, sample_at(a, i, k, QUARTILES, c).mean, low, high);
                }
    lab_csv_save(csv);
}

// ---------------------------------------------------------------------------------------------------------------------
// The picture: change over steps; change over loss; momentum and update over steps; change of every matrix at the end.
// From moments.csv, isotropy.csv and summary.csv.

// Entropy of all matrices; the band is all seeds'. From the first moment to the last; BACKWARDS from the last to the first.
enum { ONWARDS, BACKWARDS, WAYS };
typedef struct { int n; double step[MOMENTS], loss[MOMENTS], y[MOMENTS], lo[MOMENTS], hi[MOMENTS]; } Curve;
static Curve curves[WAYS][ARMS][LOOKS];
static double random_entropy[COMPONENTS + 1];           // NaN: the model has no such component

// Whose row it is, by its optimizer and the steps of its run in this column; AdamW's rows are the first.
static int arm_of(const LabTable *t, int row, const char *steps) {
    if (!strcmp(lab_cell(t, row, "optimizer"), arms[ADAMW].optimizer)) return ADAMW;
    return lab_number(t, row, steps) == lab_number(t, 1, steps) ? MUON : MUON_HALF;
}

static void read_curves(void) {
    LabTable t = lab_table("moments.csv"), summary = lab_table("summary.csv");
    for (int row = 1; row < t.rows; row++) {
        if (strcmp(lab_cell(&t, row, "component"), component_names[ALL]) != 0) continue;
        int a = arm_of(&t, row, "steps"), k = lab_which(&t, row, "of", look_names, LOOKS), n = curves[ONWARDS][a][k].n;
        if (n == MOMENTS) fail("%s:%d: more than %d moments of a run", t.path, row + 1, MOMENTS);
        for (int way = 0; way < WAYS; way++) {
            Curve *c = &curves[way][a][k];
            int i = way == ONWARDS ? n : LAST - n;
            c->step[i] = lab_number(&t, row, "step"), c->loss[i] = lab_number(&t, row, "loss");
            c->y[i] = lab_number(&t, row, "entropy");
            c->lo[i] = lab_number(&t, row, "entropy_low"), c->hi[i] = lab_number(&t, row, "entropy_high");
            c->n++;
        }
    }
    for (int c = 0; c <= ALL; c++) random_entropy[c] = NAN;
    for (int row = 1; row < summary.rows; row++)
        if (strcmp(lab_cell(&summary, row, "metric"), metric_names[ENTROPY]) == 0)
            random_entropy[lab_which(&summary, row, "component", component_names, ALL + 1)] = lab_number(&summary, row, "random");
    lab_table_free(&t), lab_table_free(&summary);
}

typedef struct { PlotSeries series[20]; int n; } Drawing;

static void draw_curve(Drawing *d, int arm, int look, int way, const char *label, unsigned style) {
    const Curve *c = &curves[way][arm][look];
    PlotSeries line = { .label = label, .x = way == ONWARDS ? c->step : c->loss, .y = c->y, .lo = c->lo, .hi = c->hi, .n = c->n,
                        .color = arms[arm].color, .style = style };
    d->series[d->n] = d->series[d->n + 1] = line;
    d->series[d->n].label = NULL;
    d->series[d->n].style = PLOT_BAND;
    d->n += 2;
}

static void draw_random(Drawing *d, const double *x, const double *y, int n) {
    d->series[d->n++] = (PlotSeries){ .label = "random matrices", .x = x, .y = y, .n = n, .color = PLOT_GREY,
                                      .style = PLOT_LINE | PLOT_DASHED };
}

// One dot a matrix, layer and seed: AdamW left of the component's name, Muon at the same loss in the middle, at the same
// steps on the right. x and y: room for a number of each row.
static void draw_matrices(Drawing *d, const LabTable *t, double *x, double *y) {
    static const struct { const char *label, *entropy; int arm, color; unsigned style; double shift; } kinds[] = {
        { "AdamW", "entropy", ADAMW, PLOT_ADAMW, PLOT_POINTS, -0.25 }, { "Muon", "entropy", MUON, PLOT_MUON, PLOT_POINTS, 0.25 },
        { "Muon at AdamW's loss", "entropy_at_same_loss", MUON, PLOT_MUON, PLOT_RING, 0 } };
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        int n = 0;
        for (int row = 1; row < t->rows; row++) {
            if (strcmp(lab_cell(t, row, "of"), look_names[CHANGE]) != 0 || arm_of(t, row, "step") != kinds[k].arm) continue;
            x[n] = lab_which(t, row, "component", component_names, COMPONENTS) + kinds[k].shift;
            y[n++] = lab_number(t, row, kinds[k].entropy);
        }
        d->series[d->n++] = (PlotSeries){ .label = kinds[k].label, .x = x, .y = y, .n = n, .color = kinds[k].color,
                                          .style = kinds[k].style };
        x += n, y += n;
    }
}

static void draw(void) {
    static Drawing over_steps, over_loss, update, each;
    LabTable t = lab_table("isotropy.csv");
    read_curves();
    const Curve *muon = &curves[ONWARDS][MUON][CHANGE], *adamw = &curves[ONWARDS][ADAMW][CHANGE];
    double ends_steps[] = { 0, muon->step[LAST] }, ends_loss[] = { muon->loss[LAST], adamw->loss[0] };
    double level[] = { random_entropy[ALL], random_entropy[ALL] };
    double random_x[3 * COMPONENTS], random_y[3 * COMPONENTS];
    double *x = xmalloc((size_t)t.rows * sizeof *x), *y = xmalloc((size_t)t.rows * sizeof *y);
    for (int a = 0; a < ARMS; a++) {
        draw_curve(&over_steps, a, CHANGE, ONWARDS, arms[a].name, PLOT_LINE | PLOT_POINTS | arms[a].dashed);
        draw_curve(&over_loss, a, CHANGE, BACKWARDS, arms[a].name, PLOT_LINE | PLOT_POINTS | arms[a].dashed);
    }
    for (int a = 0; a < MUON_HALF; a++) {
        draw_curve(&update, a, UPDATE, ONWARDS, arms[a].name, PLOT_LINE | PLOT_POINTS);
        draw_curve(&update, a, MOMENTUM, ONWARDS, NULL, PLOT_LINE | PLOT_CROSS);
    }
    draw_random(&over_steps, ends_steps, level, 2);
    draw_random(&over_loss, ends_loss, level, 2);
    draw_random(&update, ends_steps, level, 2);
    for (int c = 0; c < COMPONENTS; c++)
        for (int i = 0; i < 3; i++) {                   // a stroke for each component, and a gap
            random_x[3 * c + i] = c + 0.4 * (2 * i - 1);
            random_y[3 * c + i] = i < 2 ? random_entropy[c] : NAN;
        }
    draw_matrices(&each, &t, x, y);
    draw_random(&each, random_x, random_y, 3 * COMPONENTS);
    PlotPanel panels[] = {
        { .title = "W - W0, after equally many steps", .xlabel = "step", .ylabel = "SVD entropy, mean of all matrices",
          .series = over_steps.series, .n_series = over_steps.n },
        { .title = "W - W0, at the same loss", .xlabel = "validation loss", .series = over_loss.series,
          .n_series = over_loss.n },
        { .title = "the update (dots) and the momentum it is made of (crosses)", .xlabel = "step",
          .ylabel = "SVD entropy, mean of all matrices", .series = update.series, .n_series = update.n },
        { .title = "W - W0 of every matrix at the end", .xnames = short_names, .n_xnames = COMPONENTS,
          .series = each.series, .n_series = each.n },
    };
    lab_draw("isotropy.png", "How evenly AdamW and Muon use the directions of a matrix (1: all alike)", panels, 4, 2, 1000, 760);
    free(x), free(y);
    lab_table_free(&t);
}

int main(int argc, char **argv) {
    if (lab_draws_again(argc, argv, draw)) return 0;
    if (argc < 5) fail_usage("usage: study_isotropy FOLDER CONFIG STEPS SEEDS [--key=value ...], or FOLDER draw");
    int steps = (int)integer_of("STEPS", argv[3], 2 * MOMENTS, 1000000);
    n_seeds = (int)integer_of("SEEDS", argv[4], 1, MOST_SEEDS);
    lab_begin(argv, argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    config_file = argv[2];
    n_overrides = argc - 5;
    overrides = xmalloc((size_t)(n_overrides + 3) * sizeof *overrides);
    if (n_overrides) memcpy(overrides, argv + 5, (size_t)n_overrides * sizeof *overrides);

    LabCsv *sweep = lab_csv("sweep.csv", "optimizer,lr,steps,loss");
    double rates[ARMS];
    for (int a = 0; a < MUON_HALF; a++) {
        Search search = { a, steps / 2, sweep };
        rates[a] = lab_best_rate(arms[a].start, loss_at_rate, &search);
    }
    rates[MUON_HALF] = rates[MUON];
    lab_csv_save(sweep);
    for (int a = 0; a < ARMS; a++)
        for (int s = 0; s < n_seeds; s++) runs[a][s] = train_arm(a, rates[a], steps, s + 1);
    randoms = xmalloc((size_t)n_matrices * sizeof *randoms);
    for (int i = 0; i < n_matrices; i++) {
        const Matrix *x = &matrices[i], *last = i ? x - 1 : NULL;
        bool same = last && x->rows == last->rows && x->cols == last->cols;
        randoms[i] = same ? randoms[i - 1] : random_spectrum(x->rows, x->cols);
    }

    print_losses();
    print_shares();
    print_metrics();
    for (int k = 0; k < LOOKS && n_seeds > 1; k++)
        printf("entropy of %s: deviation of a matrix between seeds %.4f (AdamW), %.4f (Muon)\n", look_names[k],
               deviation_of(ADAMW, k), deviation_of(MUON, k));
    save_summary();
    save_matrices();
    save_moments();
    draw();

    Share steps_share = share_of(SAME_STEPS, CHANGE, ALL), loss_share = share_of(SAME_LOSS, CHANGE, ALL);
    printf("\n");
    lab_must(10 * steps_share.higher > 9 * steps_share.of && 10 * loss_share.higher > 9 * loss_share.of,
             "the entropy of W - W0 is higher with Muon in nine matrices of ten, after the same steps and at the same loss");
    for (int s = 0; s < n_seeds; s++)
        lab_must(mean_at((Place){ &runs[MUON][s], LAST }, UPDATE, ENTROPY, ALL) > random_mean(ENTROPY, ALL),
                 "Muon's update is more even than a random matrix");
    return 0;
}

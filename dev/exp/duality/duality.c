/* duality.c - of all updates of a weight matrix that may change the layer's output by so much, is U V^T the one that
 * lowers the loss most? Measured in a small GPT; README.md beside this file derives and explains.
 *
 *     build/study_duality FOLDER CONFIG STEPS SEEDS [--key=value ...]      -> duality.csv and duality.png in FOLDER
 *     build/study_duality FOLDER draw                                      duality.png again, from duality.csv
 *
 * For each seed: the trainer's own loop makes STEPS steps, then batch A gives every hidden matrix its gradient G, and
 * each of the directions below an update D of it. The loss on batch B tells what W - eta D is worth, one matrix changed
 * at a time and all of them together. D comes in two sizes: with an RMS operator norm of 1, so that no input of RMS 1
 * can change an output by an RMS of more than eta; and so that batch A's own inputs change it by an RMS of eta.
 */
#include "../lab.h"

enum { SGD, SIGN, ADAM, WHITENED, RANDOM, KELLER, POLAR, DIRECTIONS };
static const char *const direction_names[] = {
    "gradient", "sign", "adam", "whitened", "random orthogonal", "muon keller x 5", "muon U V^T exact" };

enum { BOUND, CHANGE, SIZES };                          // what is the same for all directions: see above
static const char *const size_names[] = { "bound", "change" };
enum { ETAS = 7, MOST_SEEDS = 16 };
static const double etas[SIZES][ETAS] = { { 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32 },
                                          { 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032 } };

static const int ADAM_BATCHES = 8;                      // that its second moment is the mean of; batch A is the last
static const double ridge = 0.01;                       // of the whitening, relative to the mean eigenvalue

typedef struct {
    const char *name;
    int layer, rows, cols;
    float *w;                                           // in the model
    const float *dw;
    float *g, *second;                                  // batch A's gradient; the mean of squares over ADAM_BATCHES
    float *input_a, *input_b;                           // (N, cols) what the layer reads in either batch
    float *before, *d[DIRECTIONS];                      // w as trained; the updates, of RMS operator norm 1
    double change_a[DIRECTIONS];                        // RMS of D's output over batch A
} Matrix;

typedef struct {                                        // of one seed; means over matrices
    double gain[DIRECTIONS];                            // <G, D> over that of U V^T: the decrease to first order
    double change[DIRECTIONS];                          // RMS of D x over RMS of x, in batch B: 1 is the bound
    double each[SIZES][DIRECTIONS][ETAS];               // decrease of batch B's loss by one matrix
    double all[SIZES][DIRECTIONS][ETAS];                // by all of them at once
    double loss;                                        // batch B's, before
} Result;

static float *scratch;

// ---------------------------------------------------------------------------------------------------------------------
// Linear algebra of a layer

static void check(int code) {
    if (code != MUON_OK) fail("muon.h: %s", muon_strerror(code));
}

// RMS over the N x rows outputs of d for these inputs.
static double output_rms(const Matrix *m, const float *d, const float *input, int N) {
    gemm(false, true, N, m->rows, m->cols, 1, input, (size_t)m->cols, d, (size_t)m->cols, 0, scratch, (size_t)m->rows);
    return lab_rms(scratch, (size_t)N * (size_t)m->rows);
}

// d <- G (X^T X / N + ridge)^-1, by Cholesky in double: of all updates with the same mean square of the outputs' change
// over batch A, the one with the largest <G, D>.
static void whiten(float *d, const Matrix *m, int N) {
    int n = m->cols;
    double *a = xcalloc((size_t)n * (size_t)n, sizeof *a), *row = xmalloc((size_t)n * sizeof *row), trace = 0;
    gemm(true, false, n, n, N, 1.0f / (float)N, m->input_a, (size_t)n, m->input_a, (size_t)n, 0, scratch, (size_t)n);
    for (int i = 0; i < n * n; i++) a[i] = scratch[i];
    for (int i = 0; i < n; i++) trace += a[i * n + i];
    for (int i = 0; i < n; i++) {
        a[i * n + i] += ridge * trace / n;
        for (int j = 0; j <= i; j++) {
            for (int k = 0; k < j; k++) a[i * n + j] -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(a[i * n + i]) : a[i * n + j] / a[j * n + j];
        }
    }
    for (int r = 0; r < m->rows; r++) {
        for (int i = 0; i < n; i++) {
            row[i] = m->g[(size_t)r * n + i];
            for (int k = 0; k < i; k++) row[i] -= a[i * n + k] * row[k];
            row[i] /= a[i * n + i];
        }
        for (int i = n - 1; i >= 0; i--) {
            for (int k = i + 1; k < n; k++) row[i] -= a[k * n + i] * row[k];
            row[i] /= a[i * n + i];
            d[(size_t)r * n + i] = (float)row[i];
        }
    }
    free(a), free(row);
}

// The updates, each of RMS operator norm 1: sqrt(in / out) times the spectral norm, which U V^T has as sqrt(out / in).
static void make_directions(Matrix *m, int N, uint64_t seed) {
    size_t n = (size_t)m->rows * (size_t)m->cols;
    const MuonCoefficients *keller = muon_coefficients(MUON_COEFF_KELLER);
    for (int k = 0; k < DIRECTIONS; k++) {
        float *d = m->d[k];
        memcpy(d, m->g, n * sizeof *d);
        for (size_t i = 0; i < n && k == SIGN; i++) d[i] = (float)((d[i] > 0) - (d[i] < 0));
        for (size_t i = 0; i < n && k == ADAM; i++) d[i] /= sqrtf(m->second[i]) + 1e-12f;
        for (size_t i = 0; i < n && k == RANDOM; i++)
            d[i] = normal_of(hash64(hash64(hash64(seed, hash_string(m->name)), (uint64_t)m->layer), i));
        if (k == WHITENED) whiten(d, m, N);
        if (k == KELLER) check(muon_orthogonalize(d, m->rows, m->cols, keller, keller->steps, scratch));
        if (k == RANDOM || k == POLAR) check(muon_svd_power(d, m->rows, m->cols, 0, scratch));
        double scale = sqrt((double)m->rows / m->cols) / lab_spectral_norm(d, m->rows, m->cols);
        if (lab_dot(d, m->g, n) < 0) scale = -scale;        // random, but downhill
        for (size_t i = 0; i < n; i++) d[i] = (float)(scale * d[i]);
        m->change_a[k] = output_rms(m, d, m->input_a, N);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The model's matrices, their inputs, gradients and losses

static float *copy_of(const float *x, size_t n) {
    float *copy = xmalloc(n * sizeof *copy);
    return memcpy(copy, x, n * sizeof *copy);
}

static int find_matrices(Matrix *list, const Model *m) {
    int n = 0;
    for (int l = 0; l < m->L; l++)
        for (int id = 0; id < N_TENSORS; id++) {
            const Tensor *t = &m->table[id];
            if (!t->count || !role_is_hidden(t->role)) continue;
            size_t size = (size_t)t->rows * (size_t)t->cols;
            Matrix x = { .name = t->name, .layer = l, .rows = t->rows, .cols = t->cols,
                         .w = weight(m, (TensorId)id, l), .dw = gradient(m, (TensorId)id, l) };
            x.before = copy_of(x.w, size);
            x.second = xcalloc(size, sizeof *x.second);
            for (int k = 0; k < DIRECTIONS; k++) x.d[k] = xmalloc(size * sizeof(float));
            list[n++] = x;
        }
    return n;
}

// What the matrix read in the forward pass just made by model_loss.
static float *input_of(Model *m, const Matrix *x) {
    const BlockActs *a = &m->blocks[x->layer];
    int N = m->B * m->T, C = m->C;
    float eps = (float)m->config->model.norm_eps;
    if (!strcmp(x->name, "wo")) return copy_of(a->attention.att, (size_t)N * C);
    bool attention = x->name[0] == 'w' && x->name[1] != '_';        // wq, wk, wv
    float *input = xmalloc((size_t)N * (size_t)x->cols * sizeof *input);
    if (!strcmp(x->name, "w_out"))
        for (int n = 0; n < N; n++)
            mlp_act_forward(input + (size_t)n * m->F, a->dense.h + (size_t)n * m->H, m->F, 1, m->F,
                            (MlpKind)m->config->model.mlp);
    else if (attention)
        norm_forward(input, a->norm1_mean, a->norm1_rstd, a->x, (size_t)m->C, weight(m, NORM1_W, x->layer),
                     weight(m, NORM1_B, x->layer), N, C, eps);
    else
        norm_forward(input, a->norm2_mean, a->norm2_rstd, a->x_mid, (size_t)m->C, weight(m, NORM2_W, x->layer),
                     weight(m, NORM2_B, x->layer), N, C, eps);
    return input;
}

static double loss_of(Trainer *t) {
    return model_loss(&t->model, t->inputs, t->targets, t->model.B, t->model.T) / (t->model.B * t->model.T);
}

static void batch(Trainer *t, int number) {
    dataloader_batch(&t->data, (uint64_t)number, t->model.B, 0, 1, t->inputs, t->targets);
}

static void change(Matrix *x, int direction, int size, int e) {
    double eta = etas[size][e] / (size == BOUND ? 1 : x->change_a[direction]);
    for (size_t i = 0; i < (size_t)x->rows * (size_t)x->cols; i++)
        x->w[i] = x->before[i] - (float)(eta * x->d[direction][i]);
}

// ---------------------------------------------------------------------------------------------------------------------
// One seed

static void measure(Result *r, Trainer *t, Matrix *list, int n) {
    int N = t->model.B * t->model.T;
    for (int i = 0; i < n; i++) {
        Matrix *x = &list[i];
        size_t size = (size_t)x->rows * (size_t)x->cols;
        double best = lab_dot(x->g, x->d[POLAR], size);
        for (int k = 0; k < DIRECTIONS; k++) {
            r->gain[k] += lab_dot(x->g, x->d[k], size) / best / n;
            r->change[k] += output_rms(x, x->d[k], x->input_b, N) / lab_rms(x->input_b, (size_t)N * x->cols) / n;
            for (int s = 0; s < SIZES; s++)
                for (int e = 0; e < ETAS; e++) {
                    change(x, k, s, e);
                    r->each[s][k][e] += (r->loss - loss_of(t)) / n;
                }
        }
        memcpy(x->w, x->before, size * sizeof *x->w);
    }
    for (int k = 0; k < DIRECTIONS; k++)
        for (int s = 0; s < SIZES; s++)
            for (int e = 0; e < ETAS; e++) {
                for (int i = 0; i < n; i++)
                    change(&list[i], k, s, e);
                r->all[s][k][e] = r->loss - loss_of(t);
            }
}

static void one_seed(Result *r, Trainer *t, int steps) {
    Model *m = &t->model;
    if (m->B != t->config.train.batch) fail_usage("train.batch: %d sequences don't fit at once", t->config.train.batch);
    while (t->step < steps) lab_step(t);

    Matrix *list = xcalloc((size_t)m->L * N_TENSORS, sizeof *list);
    int n = find_matrices(list, m), N = m->B * m->T, widest = max_int(m->F, m->C);
    size_t bytes = max_int(N, widest) * (size_t)widest * sizeof *scratch;
    for (int i = 0; i < n; i++) {
        bytes = bytes > muon_svd_power_bytes(list[i].rows, list[i].cols) ? bytes
              : muon_svd_power_bytes(list[i].rows, list[i].cols);
        bytes = bytes > muon_orthogonalize_bytes(list[i].rows, list[i].cols) ? bytes
              : muon_orthogonalize_bytes(list[i].rows, list[i].cols);
    }
    scratch = xaligned(bytes);
    for (int b = 0; b < ADAM_BATCHES; b++) {            // none of them seen in training
        batch(t, steps + b);
        model_begin_grads(m, 0);
        model_gradients(m, t->inputs, t->targets, m->B, m->T, 0, 1.0f / (float)N);
        for (int i = 0; i < n; i++)
            for (size_t k = 0; k < (size_t)list[i].rows * (size_t)list[i].cols; k++)
                list[i].second[k] += list[i].dw[k] * list[i].dw[k] / (float)ADAM_BATCHES;
    }
    for (int i = 0; i < n; i++) list[i].g = copy_of(list[i].dw, (size_t)list[i].rows * (size_t)list[i].cols);
    loss_of(t);                                         // batch A once more: the backward pass has eaten activations
    for (int i = 0; i < n; i++) list[i].input_a = input_of(m, &list[i]);
    for (int i = 0; i < n; i++) make_directions(&list[i], N, (uint64_t)t->config.run.seed);
    batch(t, steps + ADAM_BATCHES);
    r->loss = loss_of(t);
    for (int i = 0; i < n; i++) list[i].input_b = input_of(m, &list[i]);
    measure(r, t, list, n);
    for (int i = 0; i < n; i++) {
        free(list[i].g), free(list[i].second), free(list[i].input_a), free(list[i].input_b), free(list[i].before);
        for (int k = 0; k < DIRECTIONS; k++) free(list[i].d[k]);
    }
    free(list), free(scratch);
    trainer_close(t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables, CSV, picture

// Over seeds, of the number at this place of each Result.
static Sample figure_of(const Result *results, int seeds, const double *place) {
    ptrdiff_t at = (const char *)place - (const char *)results;
    double values[MOST_SEEDS];
    for (int i = 0; i < seeds; i++) values[i] = *(const double *)((const char *)&results[i] + at);
    Sample s = sample_of(values, seeds);
    if (seeds == 1) s.sd = 0;
    return s;
}

static void tables(const Result *r, int seeds) {
    static const char *const titles[] = { "RMS operator norm eta", "output's RMS change eta on batch A" };
    LabCsv *csv = lab_csv("duality.csv", "size,direction,matrices,eta,decrease,deviation");
    printf("\nLoss on batch B before: %.4f. Decreases of it in 1e-3 nats per token, mean of %d seeds (deviation).\n\n",
           figure_of(r, seeds, &r->loss).mean, seeds);
    MarkdownTable table = markdown_start("direction\tfirst order, share of U V^T's\toutput's change, share of the bound");
    for (int k = 0; k < DIRECTIONS; k++) {
        Sample gain = figure_of(r, seeds, &r->gain[k]), share = figure_of(r, seeds, &r->change[k]);
        markdown_cell(&table, "%s\t%.3f (%.3f)\t%.3f (%.3f)", direction_names[k], gain.mean, gain.sd, share.mean, share.sd);
        fprintf(csv->to, "first_order,%s,each,,%.5f,%.5f\n", direction_names[k], gain.mean, gain.sd);
        fprintf(csv->to, "output_change,%s,each,,%.5f,%.5f\n", direction_names[k], share.mean, share.sd);
    }
    markdown_end(stdout, &table, false);
    for (int s = 0; s < SIZES; s++)
        for (int all = 0; all < 2; all++) {
            table = (MarkdownTable){ .columns = 1 + ETAS };
            markdown_cell(&table, "%s, %s", titles[s], all ? "all matrices at once" : "one matrix at a time");
            for (int e = 0; e < ETAS; e++) markdown_cell(&table, "%g", etas[s][e]);
            for (int k = 0; k < DIRECTIONS; k++) {
                markdown_cell(&table, "%s", direction_names[k]);
                for (int e = 0; e < ETAS; e++) {
                    Sample f = figure_of(r, seeds, all ? &r->all[s][k][e] : &r->each[s][k][e]);
                    markdown_cell(&table, "%.3f (%.3f)", 1e3 * f.mean, 1e3 * f.sd);
                    fprintf(csv->to, "%s,%s,%s,%g,%.4g,%.2g\n", size_names[s], direction_names[k],
                            all ? "all" : "each", etas[s][e], f.mean, f.sd);
                }
            }
            printf("\n");
            markdown_end(stdout, &table, false);
        }
    lab_csv_save(csv);
}

// From duality.csv: one matrix at a time.
static void draw(void) {
    static double mean[SIZES][DIRECTIONS][ETAS], lo[SIZES][DIRECTIONS][ETAS], hi[SIZES][DIRECTIONS][ETAS];
    PlotSeries series[SIZES][2 * DIRECTIONS];
    PlotPanel panels[SIZES];
    int colors[DIRECTIONS], n[SIZES][DIRECTIONS] = { { 0 } };
    LabTable t = lab_table("duality.csv");
    for (int row = 1; row < t.rows; row++) {
        if (strcmp(lab_cell(&t, row, "matrices"), "each") != 0 || !*lab_cell(&t, row, "eta")) continue;
        int s = lab_which(&t, row, "size", size_names, SIZES);
        int k = lab_which(&t, row, "direction", direction_names, DIRECTIONS), e = n[s][k]++;
        if (e == ETAS || lab_number(&t, row, "eta") != etas[s][e]) fail("%s:%d: eta: another than the study's", t.path, row + 1);
        double decrease = lab_number(&t, row, "decrease"), deviation = lab_number(&t, row, "deviation");
        mean[s][k][e] = 1e3 * decrease;
        lo[s][k][e] = 1e3 * (decrease - deviation);
        hi[s][k][e] = 1e3 * (decrease + deviation);
    }
    lab_table_free(&t);
    plot_choose_colors(direction_names, DIRECTIONS, colors);
    for (int s = 0; s < SIZES; s++) {
        for (int k = 0; k < DIRECTIONS; k++) {
            PlotSeries line = { .label = direction_names[k], .x = etas[s], .y = mean[s][k], .lo = lo[s][k],
                                .hi = hi[s][k], .n = n[s][k], .color = colors[k], .style = PLOT_LINE | PLOT_POINTS };
            series[s][DIRECTIONS + k] = series[s][k] = line;
            series[s][k].style = PLOT_BAND;
            series[s][k].label = NULL;
        }
        panels[s] = (PlotPanel){
            .title = s == BOUND ? "the same worst-case bound" : "the same change of the outputs",
            .xlabel = s == BOUND ? "RMS operator norm of the update" : "RMS change of the outputs, batch A",
            .ylabel = "decrease of the loss, 1e-3 nats", .xlog = true, .ylog = true, .ymin = 0.01, .ymax = 30,
            .series = series[s], .n_series = 2 * DIRECTIONS };
    }
    lab_draw("duality.png", "What an update of one matrix takes off another batch's loss", panels, SIZES, 1, 900, 460);
}

int main(int argc, char **argv) {
    if (lab_draws_again(argc, argv, draw)) return 0;
    if (argc < 5) fail_usage("usage: study_duality FOLDER CONFIG STEPS SEEDS [--key=value ...], or FOLDER draw");
    int steps = (int)integer_of("STEPS", argv[3], 1, 1000000), seeds = (int)integer_of("SEEDS", argv[4], 1, MOST_SEEDS);
    lab_begin(argv, argv[1]);
    static Result results[MOST_SEEDS];
    for (int i = 0; i < seeds; i++) {
        Trainer t = {0};
        lab_open(&t, argv[2], argc - 5, argv + 5, i + 1);
        one_seed(&results[i], &t, steps);
    }
    tables(results, seeds);
    draw();
    double others = 0, gain = 0, share = 0, random = figure_of(results, seeds, &results->gain[RANDOM]).mean;
    for (int k = 0; k < DIRECTIONS; k++) {
        gain = fmax(gain, figure_of(results, seeds, &results->gain[k]).mean);
        share = fmax(share, figure_of(results, seeds, &results->change[k]).mean);
        if (k != POLAR) others = fmax(others, figure_of(results, seeds, &results->each[BOUND][k][0]).mean);
    }
    printf("\n");
    lab_must(gain < 1.0001 && share < 1.01, "no direction of the same norm has a larger <G, D>, none passes the bound");
    lab_must(random < 0.1, "a random orthogonal matrix gains next to nothing");
    lab_must(figure_of(results, seeds, &results->each[BOUND][POLAR][0]).mean > others,
             "at the smallest step of the same bound, U V^T takes most off the other batch's loss");
    return 0;
}

/* lab.h - what the lab's programs share: a training of the trainer's own that can be looked into, tables, assertions.
 *
 * defines: lab_folder, lab_begin, lab_open, lab_step, lab_dot, lab_rms, lab_spectral_norm, LabCsv, lab_csv, lab_csv_save,
 *          lab_path, lab_draw, lab_must
 * For studies that need more than a run's log; the others go through build/ab and lab.sh. Includes the trainer and
 * ../stats.h (Sample, sample_of).
 */
#ifndef LAB_H
#define LAB_H

#define GPT_NO_MAIN
#include "../../train_gpt.c"
#include "../stats.h"

static const char *lab_folder;                          // where results go

// Threads, and the folder for results; argv is main's.
static inline void lab_begin(char **argv, const char *folder) {
    wait_politely(argv);
    choose_threads();
    lab_folder = folder;
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
}

/* Reads config with overrides (n of --section.key=value), sets the seed, takes fp32 for all products, and makes a trainer
 * with initial weights before step 0. Only the first one's plan is printed. To be closed by trainer_close. */
static inline void lab_open(Trainer *t, const char *config, int n, char **overrides, int64_t seed) {
    config_load(&t->config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), config, n, overrides);
    t->config.run.seed = seed;
    t->config.train.precision = t->config.optimizer.muon.precision = PRECISION_FP32;
    t->lock = -1;                                       // there is no folder of a run to hold
    static bool printed;
    fflush(stdout);
    int out = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    if (out < 0 || nowhere < 0) fail("/dev/null: %s", strerror(errno));
    if (printed) dup2(nowhere, STDOUT_FILENO);
    trainer_open(t, config);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out), close(nowhere);
    printed = true;
    tensors_init(t->model.params, t->model.table, (uint64_t)seed);
}

// One optimizer step of the trainer's own loop. Returns the mean loss of its batch in nats; ends the program by NaN.
static inline double lab_step(Trainer *t) {
    StepResult step;
    if (!train_step(t, &step)) fail("step %d: %s", t->step + 1, step.trouble);
    t->step++;
    return step.loss;
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrices

static inline double lab_dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static inline double lab_rms(const float *x, size_t n) { return sqrt(lab_dot(x, x, n) / (double)n); }

// The largest singular value of d, rows x cols, by 100 steps of power iteration.
static inline double lab_spectral_norm(const float *d, int rows, int cols) {
    float *x = xmalloc((size_t)cols * sizeof *x), *y = xmalloc((size_t)rows * sizeof *y);
    double norm = 0;
    for (int j = 0; j < cols; j++) x[j] = normal_of(hash64(7, (uint64_t)j));
    for (int i = 0; i < 100; i++) {
        double length = sqrt(lab_dot(x, x, (size_t)cols));
        if (length == 0) break;                         // a matrix of zeros
        gemm(false, false, rows, 1, cols, (float)(1 / length), d, (size_t)cols, x, 1, 0, y, 1);
        norm = sqrt(lab_dot(y, y, (size_t)rows));
        gemm(true, false, cols, 1, rows, 1, d, (size_t)cols, y, 1, 0, x, 1);
    }
    free(x), free(y);
    return norm;
}

// ---------------------------------------------------------------------------------------------------------------------
// Results

// A file name in the folder for results; to be freed.
static inline char *lab_path(const char *name) { return format("%s/%s", lab_folder, name); }

typedef struct { FILE *to; char *path, *text; size_t size; } LabCsv;

// A table to write lines to with fprintf(csv->to, ...); lab_csv_save puts it into the folder whole, and frees it.
static inline LabCsv *lab_csv(const char *name, const char *head) {
    LabCsv *csv = xcalloc(1, sizeof *csv);
    csv->path = lab_path(name);
    csv->to = open_memstream(&csv->text, &csv->size);
    if (!csv->to) fail("%s: %s", csv->path, strerror(errno));
    fprintf(csv->to, "%s\n", head);
    return csv;
}

static inline void lab_csv_save(LabCsv *csv) {
    if (fclose(csv->to) != 0 || write_file(csv->path, csv->text, csv->size) != 0) fail("%s: %s", csv->path, strerror(errno));
    free(csv->path), free(csv->text), free(csv);
}

static inline void lab_draw(const char *name, const char *title, PlotPanel *panels, int n, int rows, int width, int height) {
    char *path = lab_path(name);
    if (plot_png_small(path, title, panels, n, rows, width, height) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
}

// Says whether an expected result came; ends the program with an error where it didn't.
static inline void lab_must(bool holds, const char *claim) {
    printf("%s: %s\n", holds ? "holds" : "DOES NOT HOLD", claim);
    if (!holds) fail("an expected result was missed: %s", claim);
}

#endif // LAB_H

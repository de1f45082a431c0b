/* lab.h - what the lab's programs share: a training of the trainer's own that can be looked into, tables, assertions.
 *
 * defines: lab_folder, lab_begin, lab_open, lab_open_bare, lab_step, lab_step_on, lab_best_rate, lab_shared, lab_each,
 *          lab_paired, lab_verdict, lab_dot, lab_rms, lab_spectral_norm, LabCsv, lab_csv, lab_csv_save, LabTable, lab_table,
 *          lab_cell, lab_number, lab_which, lab_table_free, lab_path, lab_draw, lab_draws_again, lab_must
 * For studies that need more than a run's log; the others go through build/ab and lab.sh. Includes the trainer,
 * src/stats.h (Sample, sample_of) and src/spectrum.h (singular_values).
 */
#ifndef LAB_H
#define LAB_H

#include "../../tools/gpt.h"
#include "../../src/spectrum.h"
#include "../../src/markdown.h"
#include "../../src/stats.h"
#include <sys/wait.h>

static const char *lab_folder;                          // where results go

// Threads, and the folder for results; argv is main's.
static inline void lab_begin(char **argv, const char *folder) {
    program_begin();
    wait_politely(argv);
    choose_threads();
    lab_folder = folder;
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
}

static inline void lab_config(Trainer *t, const char *config, int n, char **overrides, int64_t seed) {
    config_load(&t->config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), config, n, overrides, NULL);
    Owners owners = owners_of(&t->config);
    check_schedule(&owners, config);
    t->config.run.seed = seed;
    t->config.train.precision = t->config.optimizer.muon.precision = PRECISION_FP32;
}

/* Reads config with overrides (n of --section.key=value), sets the seed, takes fp32 for all products, and makes a trainer
 * with initial weights before step 0. Only the first one's plan is printed. To be closed by trainer_close. */
static inline void lab_open(Trainer *t, const char *config, int n, char **overrides, int64_t seed) {
    lab_config(t, config, n, overrides, seed);
    static bool shown;
    fflush(stdout);
    int out = dup(STDOUT_FILENO), nothing = open("/dev/null", O_WRONLY);
    if (out < 0 || nothing < 0 || (shown && dup2(nothing, STDOUT_FILENO) < 0)) fail("/dev/null: %s", strerror(errno));
    trainer_open(t, config);
    trainer_begin(t);
    fflush(stdout);
    if (dup2(out, STDOUT_FILENO) < 0) fail("standard output: %s", strerror(errno));
    close(out), close(nothing);
    shown = true;
    tensors_init(t->model.params, t->model.table, (uint64_t)seed);
}

// The same without data, and without a word: model.vocab says how many tokens there are, and the study itself writes its
// batches into t->inputs and t->targets, for lab_step_on.
static inline void lab_open_bare(Trainer *t, const char *config, int n, char **overrides, int64_t seed) {
    lab_config(t, config, n, overrides, seed);
    config_resolve(&t->config, config);
    if (t->config.model.vocab == 0) fail_usage("%s: model.vocab: expected, since no data says how many tokens there are", config);
    choose_precision(&t->config);
    trainer_plan(t);
    trainer_allocate(t);
    tensors_init(t->model.params, t->model.table, (uint64_t)seed);
}

// One optimizer step of the trainer's own loop. Returns the mean loss of its batch in nats; ends the program by NaN.
static inline double lab_step(Trainer *t) {
    StepResult step;
    if (!train_step(t, &step)) fail("step %d: %s", t->step + 1, step.trouble);
    t->step++;
    return step.loss;
}

// The same on the batch in t->inputs and t->targets. INFINITY, and no step, where a number isn't finite.
static inline double lab_step_on(Trainer *t) {
    StepResult step;
    if (!train_on_batch(t, &step)) return INFINITY;
    t->step++;
    return step.loss;
}

enum { LAB_OCTAVES = 8 };                               // how far from its start a search goes

/* The learning rate start * 2^k with the lowest loss(context, rate), INFINITY where a run diverged: the best of at least
 * three that has a worse one on either side. */
static inline double lab_best_rate(double start, double (*loss)(void *context, double rate), void *context) {
    double losses[2 * LAB_OCTAVES + 1], *at = losses + LAB_OCTAVES;
    int lo = 0, hi = 0, best = 0;
    at[0] = loss(context, start);
    while (best == lo || best == hi) {
        int k = best == lo ? --lo : ++hi;
        if (abs(k) > LAB_OCTAVES) fail("no best learning rate between %g and %g", ldexp(start, lo), ldexp(start, hi));
        at[k] = loss(context, ldexp(start, k));
        if (at[k] < at[best] || (k == lo && at[best] == INFINITY)) best = k;
    }
    return ldexp(start, best);
}

// ---------------------------------------------------------------------------------------------------------------------
// Several trainings at once

// Zeroed memory in which a job of lab_each leaves its results. It stays until the program ends.
static inline void *lab_shared(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("out of memory: %zu bytes asked for", bytes);
    return p;
}

/* job(0) ... job(n - 1), each in a process of its own with one thread, as many at a time as there would be threads: a
 * small model gains little from a second one, and its results don't depend on their number. What a job leaves in
 * lab_shared memory is all that stays of it. Before, the program itself may not train: a child can't use the threads of
 * its parent. Where a job fails, so does the program. */
static inline void lab_each(int n, void (*job)(int i)) {
    int most = omp_get_max_threads(), running = 0, status;
    pid_t parent = getpid();
    for (int i = 0; i < n || running > 0; ) {
        if (i < n && running < most) {
            fflush(NULL);                               // or the child would write it, too
            pid_t pid = fork();
            if (pid < 0) fail("fork: %s", strerror(errno));
            if (pid == 0) {
                machine_end_with_parent(SIGTERM);
                if (getppid() != parent) _exit(EXIT_FAILED);
                omp_set_num_threads(1);
                job(i);
                fflush(NULL);
                _exit(0);
            }
            i++, running++;
            continue;
        }
        if (wait(&status) < 0) fail("wait: %s", strerror(errno));
        if (WIFSIGNALED(status)) fail("a job was ended by signal %d", WTERMSIG(status));
        if (WEXITSTATUS(status) != 0) _exit(WEXITSTATUS(status));       // it has said why
        running--;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparisons: a[i] and b[i] are of the same seed

// The differences a - b of the pairs in which both are known.
static inline Sample lab_paired(const double *a, const double *b, int n) {
    double *d = xmalloc((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++) d[i] = a[i] - b[i];
    Sample s = sample_of(d, n);
    free(d);
    return s;
}

// An effect counts where it exceeds three standard errors of the paired difference, of three seeds at least.
static inline const char *lab_verdict(Sample difference) {
    if (difference.n < 3 || !(fabs(difference.mean) > 3 * difference.se)) return "inconclusive";
    return difference.mean > 0 ? "higher" : "lower";
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
    csv->to = text_open(&csv->text, &csv->size);
    fprintf(csv->to, "%s\n", head);
    return csv;
}

static inline void lab_csv_save(LabCsv *csv) {
    text_close(csv->to, &csv->text);
    if (write_file(csv->path, csv->text, csv->size) != 0) fail("%s: %s", csv->path, strerror(errno));
    free(csv->path), free(csv->text), free(csv);
}

// A table that was saved, in memory: row 0 is the head, and no cell has a comma in it.
typedef struct { char *path, *text, **cells; int rows, columns; } LabTable;

// The table of this name in the folder for results. Ends the program where there is none, or rows of several lengths.
static inline LabTable lab_table(const char *name) {
    LabTable t = { .path = lab_path(name) };
    int n = 0, before = 0;
    t.text = read_file(t.path, NULL);
    if (!t.text) fail("%s: %s; expected a table of the study's results", t.path, strerror(errno));
    for (char *line, *cell, *rest = t.text; (line = strsep(&rest, "\n")) && *line; t.rows++, before = n) {
        for (; (cell = strsep(&line, ",")); t.cells[n++] = cell) t.cells = runlog_grow(t.cells, n, sizeof *t.cells);
        if (t.rows == 0) t.columns = n;
        if (n - before != t.columns) fail("%s:%d: %d cells; expected %d, as in the head", t.path, t.rows + 1, n - before, t.columns);
    }
    return t;
}

// What a row, from 1 on, has in the column with this head.
static inline const char *lab_cell(const LabTable *t, int row, const char *head) {
    for (int c = 0; c < t->columns; c++)
        if (strcmp(t->cells[c], head) == 0) return t->cells[row * t->columns + c];
    fail("%s: no column %s", t->path, head);
}

static inline double lab_number(const LabTable *t, int row, const char *head) {
    const char *cell = lab_cell(t, row, head);
    char *end;
    double x = strtod(cell, &end);
    if (end == cell || *end) fail("%s:%d: %s: '%s'; expected a number", t->path, row + 1, head, cell);
    return x;
}

// Which of n names it is.
static inline int lab_which(const LabTable *t, int row, const char *head, const char *const *names, int n) {
    const char *cell = lab_cell(t, row, head);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], cell) == 0) return i;
    fail("%s:%d: %s: '%s'; expected one of the study's, such as %s", t->path, row + 1, head, cell, names[0]);
}

static inline void lab_table_free(LabTable *t) { free(t->path), free(t->text), free(t->cells); }

static inline void lab_draw(const char *name, const char *title, PlotPanel *panels, int n, int rows, int width, int height) {
    char *path = lab_path(name);
    if (plot_png_small(path, title, panels, n, rows, width, height) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
}

/* Whether the program was called with `FOLDER draw`: then draw(), which needs nothing but the tables in the folder, has drawn
 * the picture again. A study draws by it in the end, too, so that the picture is always that of its tables. */
static inline bool lab_draws_again(int argc, char **argv, void (*draw)(void)) {
    if (argc != 3 || strcmp(argv[2], "draw") != 0) return false;
    lab_begin(argv, argv[1]);
    draw();
    return true;
}

// Says whether an expected result came; ends the program with an error where it didn't.
static inline void lab_must(bool holds, const char *claim) {
    printf("%s: %s\n", holds ? "holds" : "DOES NOT HOLD", claim);
    if (!holds) fail("an expected result was missed: %s", claim);
}

#endif // LAB_H

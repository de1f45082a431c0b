/* runs.h - a list of trainings: which there are, bringing them to their end one after another, and what each reached.
 *
 * defines: Arm, Run, RunState, RunList, Figure, Metrics, config_item,
 *          config_value, safe_name, arm_free, runs_make, runs_remove_arms, runs_at, runs_resolve, runs_begin,
 *          runs_train, runs_read, metrics_of
 * A list is data: arms (a config and overrides) x budgets (factors of train.steps) x seeds. A run is the folder
 * OUT/runs/NAME that train_gpt makes, and its log.jsonl is the only thing that says whether and how it ended: nothing
 * else is kept about it, so that killing this program at any time loses nothing.
 * Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef RUNS_H
#define RUNS_H

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include "../src/machine.h"
#include "../src/runlog.h"
#include "../src/stats.h"

// ---------------------------------------------------------------------------------------------------------------------
// The list

typedef struct {
    char *label, *config;           // what tables call it; path of its JSON file
    char **overrides;               // --section.key=value
    int n_overrides;
    cJSON *resolved;                // the config as train_gpt --print-config says it
    bool named;                     // the label was given
    char *legend;                   // what pictures call it, and its colour; NULL before they are drawn
    int color;
} Arm;

typedef enum { RUN_MISSING, RUN_STARTED, RUN_DONE, RUN_DIVERGED } RunState;

// What a run reached. LOSS, BPB: of the last validation, of a run that is done. TOK_PER_S: the steps' median. SHARE:
// the optimizer's part of the time of all steps, from the gradient's norm to QK-Clip. STATE: bytes of the optimizer's
// state for each parameter. SPIKES: count_spikes of the steps' losses. LOGIT: the highest attention logit that was
// logged, every tenth step and those that clip. CPU: seconds of training that all threads together computed.
typedef enum { LOSS, BPB, TOKENS, SECONDS, CPU, TOK_PER_S, SHARE, STATE, SPIKES, LOGIT, FIGURES } Figure;

typedef struct { RunState state; double of[FIGURES]; } Metrics;      // all from log.jsonl; NaN where it doesn't say

typedef struct {
    int arm, budget, seed;          // their numbers in the list
    long steps;
    double tokens;                  // steps * batch * context
    char *name, *folder;
    RunLog log;
    Metrics m;
} Run;

typedef struct {
    const char *trainer;            // the program train_gpt
    char *out;
    Arm *arms;
    int n_arms;
    double *budgets;                // factors of train.steps, ascending
    int n_budgets;
    double *seeds;
    int n_seeds;
    int lock;                       // of the folder, 0 before it is taken
    Run *runs;                      // in the order of training: (seed, budget, arm), see runs_at
    int n_runs;
} RunList;

static inline Run *runs_at(const RunList *l, int arm, int budget, int seed) {
    return &l->runs[(seed * l->n_budgets + budget) * l->n_arms + arm];
}

// The label with everything but letters, digits and "._=-" replaced: a part of a folder's name. To be freed.
static inline char *safe_name(const char *label) {
    char *name = xstrdup(label);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._=-", *c)) *c = '-';
    return name;
}

static inline void runs_clear(RunList *l) {
    for (int i = 0; i < l->n_runs; i++) {
        free(l->runs[i].name);
        free(l->runs[i].folder);
        runlog_free(&l->runs[i].log);
    }
    free(l->runs);
    l->runs = NULL;
    l->n_runs = 0;
}

enum { RUNS_MOST = 100000 };

// The runs of arms, budgets and seeds, at most RUNS_MOST. Arms of one seed follow each other, so that a slow hour of the machine hits all.
static inline void runs_make(RunList *l) {
    runs_clear(l);
    if ((double)l->n_arms * l->n_budgets * l->n_seeds > RUNS_MOST)
        fail_usage("%d arms, %d budgets and %d seeds: expected %d runs at most", l->n_arms, l->n_budgets, l->n_seeds, RUNS_MOST);
    l->n_runs = l->n_arms * l->n_budgets * l->n_seeds;
    l->runs = (Run *)xcalloc((size_t)l->n_runs, sizeof *l->runs);
    for (int i = 0; i < l->n_runs; i++) {
        Run *r = &l->runs[i];
        r->arm = i % l->n_arms;
        r->budget = i / l->n_arms % l->n_budgets;
        r->seed = i / l->n_arms / l->n_budgets;
        const cJSON *config = l->arms[r->arm].resolved;
        r->steps = (long)fmax(1, round(l->budgets[r->budget] * config_value(config, "train", "steps")));
        r->tokens = (double)r->steps * config_value(config, "train", "batch") * config_value(config, "model", "context");
        char *label = safe_name(l->arms[r->arm].label), budget[32], seed[32];
        bool whole = l->budgets[r->budget] == 1;
        json_number(budget, l->budgets[r->budget]);
        r->name = format("%s%s%s-s%s", label, whole ? "" : "-x", whole ? "" : budget,
                         json_number(seed, l->seeds[r->seed]));
        r->folder = format("%s/runs/%s", l->out, r->name);
        free(label);
    }
}

static inline void arm_free(Arm *arm) {
    free(arm->label);
    free(arm->legend);
    free(arm->config);
    for (int i = 0; i < arm->n_overrides; i++) free(arm->overrides[i]);
    free(arm->overrides);
    cJSON_Delete(arm->resolved);
}

// Leaves a list without arms and runs.
static inline void runs_remove_arms(RunList *l) {
    runs_clear(l);
    for (int a = 0; a < l->n_arms; a++) arm_free(&l->arms[a]);
    free(l->arms);
    l->arms = NULL;
    l->n_arms = 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Configs beside each other

// Whether a value stands for what the trainer finds out, the same on one machine and one data: it is logged resolved.
static inline bool left_open(const char *key, const char *value) {
    if (strcmp(key, "model.vocab") == 0) return strcmp(value, "0") == 0;
    return strstr(key, ".precision") && strcmp(value, "auto") == 0;
}

// The first key in which two configs differ, NULL where there is none; run.dir doesn't count. To be freed.
static inline char *config_difference(const cJSON *wanted, const cJSON *logged) {
    Flat a = flat_of(wanted), b = flat_of(logged);
    char *found = NULL;
    for (int i = 0; i < a.n + b.n && !found; i++) {
        const char *key = i < a.n ? a.keys[i] : b.keys[i - a.n];
        const char *va = flat_value(&a, key), *vb = flat_value(&b, key);
        if (strcmp(key, "run.dir") != 0 && strcmp(va, vb) != 0 && !left_open(key, va))
            found = format("%s was %s and is %s", key, vb, va);
    }
    flat_free(&a);
    flat_free(&b);
    return found;
}

// ---------------------------------------------------------------------------------------------------------------------
// Other processes

/* Starts a program with its output in these files. It is in a process group of its own, so that Ctrl-C reaches it once
 * and through us, and it ends as by Ctrl-C where we are killed. */
static inline pid_t start_program(char **argv, int out, int errors) {
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) fail("fork: %s", strerror(errno));
    if (pid > 0) return pid;
    setpgid(0, 0);
    machine_end_with_parent(SIGTERM);
    if (getppid() != parent) _exit(EXIT_INTERRUPTED);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    execv(argv[0], argv);
    fprintf(stderr, "error: %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_USAGE);
}

static inline int exit_code(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// All that a stream holds; to be freed.
static inline char *stream_text(FILE *f) {
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0;
    char *text = (char *)xcalloc((size_t)(size > 0 ? size : 0) + 1, 1);
    rewind(f);
    if (fread(text, 1, (size_t)size, f) != (size_t)size) fail("temporary file: %s", strerror(errno));
    return text;
}

// The last line of what a program has written that begins with "error: ", without these words and to be freed; NULL where
// there is none. Notes and warnings stand before it.
static inline char *error_line(const char *text) {
    const char *found = NULL;
    for (const char *at = text; at && *at; at += strcspn(at, "\n"), at += *at == '\n')
        if (strncmp(at, "error: ", 7) == 0) found = at + 7;
    return found ? format("%.*s", (int)strcspn(found, "\n"), found) : NULL;
}

// Resolves an arm's config by the trainer itself. Returns NULL, or the trainer's one line, to be freed.
static inline char *runs_resolve(const char *trainer, Arm *arm) {
    char **argv = (char **)xcalloc((size_t)arm->n_overrides + 4, sizeof *argv), *error = NULL;
    argv[0] = (char *)trainer;
    argv[1] = arm->config;
    for (int i = 0; i < arm->n_overrides; i++) argv[2 + i] = arm->overrides[i];
    argv[2 + arm->n_overrides] = (char *)"--print-config";
    FILE *out = tmpfile(), *errors = tmpfile();
    if (!out || !errors) fail("temporary file: %s", strerror(errno));
    int status = 0;
    pid_t pid = start_program(argv, fileno(out), fileno(errors));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    char *text = stream_text(out), *said = stream_text(errors);
    fclose(out);
    fclose(errors);
    cJSON_Delete(arm->resolved);
    arm->resolved = exit_code(status) == 0 ? cJSON_Parse(text) : NULL;
    if (!arm->resolved && !(error = error_line(said)))
        error = format("%s --print-config: exit code %d", trainer, exit_code(status));
    free(text);
    free(said);
    free(argv);
    return error;
}

// ---------------------------------------------------------------------------------------------------------------------
// What a run reached

static inline Metrics metrics_of(const RunLog *log) {
    Metrics m = { .state = RUN_MISSING };
    for (int f = 0; f < FIGURES; f++) m.of[f] = NAN;
    if (!log->start) return m;
    m.state = !log->ended || strcmp(log->end.reason, "interrupted") == 0 ? RUN_STARTED
              : strcmp(log->end.reason, "done") == 0 && isfinite(log->end.val_loss) ? RUN_DONE : RUN_DIVERGED;
    m.of[STATE] = runlog_number(log->start, "optimizer_bytes") / runlog_number(log->start, "params");
    for (int i = 0; i < log->n_qks; i++) m.of[LOGIT] = fmax(m.of[LOGIT], log->qks[i].max_logit);
    if (m.state == RUN_DONE) {
        m.of[LOSS] = log->end.val_loss;
        if (log->n_evals) m.of[BPB] = log->evals[log->n_evals - 1].val_bpb;
    }
    if (log->n_steps == 0) return m;
    double *speeds = (double *)xmalloc((size_t)log->n_steps * 2 * sizeof *speeds), *losses = speeds + log->n_steps;
    double all = 0, optimizer = 0;
    for (int i = 0; i < log->n_steps; i++) {
        speeds[i] = log->steps[i].tok_per_s;
        losses[i] = log->steps[i].loss;
        all += log->steps[i].ms;
        optimizer += log->steps[i].optimizer_ms;
    }
    m.of[TOKENS] = log->steps[log->n_steps - 1].tokens;
    m.of[SECONDS] = runlog_seconds(log);
    m.of[CPU] = runlog_cpu_seconds(log, LONG_MAX);
    m.of[TOK_PER_S] = median_of(speeds, log->n_steps);
    m.of[SHARE] = optimizer / all;
    m.of[SPIKES] = count_spikes(losses, log->n_steps);
    free(speeds);
    return m;
}

static inline void run_read(Run *r) {
    runlog_free(&r->log);
    char *path = format("%s/log.jsonl", r->folder);
    int bad = runlog_read(path, &r->log);
    if (bad > 0) fail("%s:%d: not a line of a run's log; remove %s to make the run anew", path, bad, r->folder);
    if (bad < 0 && errno != ENOENT) fail("%s: %s", path, strerror(errno));
    r->m = metrics_of(&r->log);
    free(path);
}

static inline void runs_read(RunList *l) {
    for (int i = 0; i < l->n_runs; i++) run_read(&l->runs[i]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Training what isn't trained yet

static volatile sig_atomic_t runs_interrupted;

// The first one lets the run save, a second one ends the program.
static inline void runs_on_signal(int number) {
    runs_interrupted = 1;
    signal(number, SIG_DFL);
}

// Ends the program after a signal; whatever was trained stays.
__attribute__((noreturn)) static inline void runs_stop(Progress *p) {
    progress_end(p);
    puts("interrupted; the same command goes on from here");
    fflush(NULL);
    _exit(EXIT_INTERRUPTED);
}

// The folder is this process's until it ends, and until a run ends that it left behind: another one waits.
static inline void runs_lock(RunList *l, Progress *p) {
    if (l->lock > 0) return;
    if (make_dirs(l->out) != 0) fail("%s: cannot be made: %s", l->out, strerror(errno));
    bool locked;
    for (bool said = false; (l->lock = lock_folder(l->out, &locked)) < 0; said = true) {
        if (errno != EWOULDBLOCK) fail("%s: %s", l->out, strerror(errno));
        if (!said) printf("waiting for another process that trains in %s\n", l->out);
        fflush(stdout);
        if (runs_interrupted) runs_stop(p);
        usleep(100000);
    }
    if (!locked) fprintf(stderr, "warning: %s: this volume has no locks: start no second process there\n", l->out);
}

/* How a run stands against what is asked for: RUN_DONE and RUN_DIVERGED are taken as they are, RUN_STARTED goes on from
 * its checkpoint, RUN_MISSING begins. *why: what changed since it was made, to be freed; else NULL. */
static inline RunState runs_look(const RunList *l, const Run *r, const char *fingerprint, char **why) {
    *why = NULL;
    if (!r->log.start) return RUN_MISSING;
    cJSON *wanted = cJSON_Duplicate(l->arms[r->arm].resolved, true);
    cJSON_SetNumberValue(config_item(wanted, "run", "seed"), l->seeds[r->seed]);
    cJSON_SetNumberValue(config_item(wanted, "train", "steps"), (double)r->steps);
    *why = config_difference(wanted, cJSON_GetObjectItemCaseSensitive(r->log.start, "config"));
    cJSON_Delete(wanted);
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->log.start, "data"));
    if (!*why && (!data || strcmp(data, fingerprint) != 0)) *why = xstrdup("the data is another");
    if (*why) return RUN_MISSING;
    char *checkpoint = format("%s/checkpoint.bin", r->folder);
    bool saved = file_exists(checkpoint);
    free(checkpoint);
    return r->m.state == RUN_STARTED && !saved ? RUN_MISSING : r->m.state;
}

// The last step in the log that is being written, and its loss.
static inline long last_logged_step(const Run *r, double *loss) {
    char *path = format("%s/log.jsonl", r->folder), tail[8192];
    int file = open(path, O_RDONLY);
    free(path);
    if (file < 0) return 0;
    off_t size = lseek(file, 0, SEEK_END), from = size > (off_t)sizeof tail - 1 ? size - (off_t)sizeof tail + 1 : 0;
    ssize_t n = pread(file, tail, sizeof tail - 1, from);
    close(file);
    tail[n > 0 ? n : 0] = '\0';
    long step = 0;
    for (char *at = tail; (at = strstr(at, "{\"event\": \"step\"")); at++)
        sscanf(at, "{\"event\": \"step\", \"step\": %ld, \"tokens\": %*f, \"loss\": %lf", &step, loss);
    return step;
}

static inline pid_t run_start(const RunList *l, const Run *r, bool resume) {
    const Arm *arm = &l->arms[r->arm];
    char **argv = (char **)xcalloc((size_t)arm->n_overrides + 8, sizeof *argv), number[32];
    char *output = format("%s/output.txt", r->folder), *dir = format("--run.dir=%s", r->folder);
    char *seed = format("--run.seed=%s", json_number(number, l->seeds[r->seed]));
    char *steps = format("--train.steps=%ld", r->steps);
    int n = 0;
    argv[n++] = (char *)l->trainer;
    argv[n++] = dir;
    if (resume) {
        argv[n++] = (char *)"--resume";
    } else {
        argv[n++] = arm->config;
        for (int i = 0; i < arm->n_overrides; i++) argv[n++] = arm->overrides[i];
        argv[n++] = seed;
        argv[n++] = steps;
        argv[n++] = (char *)"--overwrite";
    }
    if (make_dirs(r->folder) != 0) fail("%s: cannot be made: %s", r->folder, strerror(errno));
    int file = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) fail("%s: cannot be written: %s", output, strerror(errno));
    pid_t pid = start_program(argv, file, file);
    close(file);
    free(argv);
    free(output);
    free(dir);
    free(seed);
    free(steps);
    return pid;
}

typedef struct { double total, done, start, done_at_start; int n, of; } RunsProgress;   // in tokens; runs

static inline void show_progress(const Run *r, Progress *p, const RunsProgress *all) {
    char a[24], b[24];
    double loss = NAN;
    long step = last_logged_step(r, &loss);
    double done = all->done + r->tokens * (double)step / (double)r->steps, elapsed = seconds_now() - all->start;
    double rate = (done - all->done_at_start) / elapsed;
    char shown[32] = "";
    if (isfinite(loss)) snprintf(shown, sizeof shown, "  loss %.4f", loss);
    progress_line(p, "[%d/%d] %s: step %ld/%ld%s  in all %.0f %%, %s, ETA %s", all->n, all->of, r->name, step, r->steps,
                  shown, 100 * done / all->total, format_seconds(a, elapsed),
                  format_seconds(b, (all->total - done) / rate));
}

// Trains one run to its end, or ends the program: by a signal, or because the trainer failed.
static inline void run_train(const RunList *l, Run *r, bool resume, Progress *p, const RunsProgress *all) {
    int status = 0;
    bool told = false;
    pid_t pid = run_start(l, r, resume), got;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        if (runs_interrupted && !told) {
            kill(pid, SIGTERM);
            told = true;
        }
        if (progress_due(p, false)) show_progress(r, p, all);
        usleep(20000);
    }
    int code = exit_code(status);
    if (runs_interrupted || code == EXIT_INTERRUPTED) runs_stop(p);
    run_read(r);
    bool diverged = code == EXIT_FAILED && r->m.state == RUN_DIVERGED;
    if (code == 0 || diverged) return;
    progress_end(p);
    char *output = format("%s/output.txt", r->folder), *said = read_file(output, NULL), *line = error_line(said);
    fail("%s: exit code %d: %s (%s)", r->name, code, line ? line : "it says nothing", output);
}

// ---------------------------------------------------------------------------------------------------------------------
// What all of it will cost, said before it begins

typedef struct { double step, rest; } Cost;             // seconds of a step, and of a run besides its steps; NaN: not known

enum { COST_STEPS = 4, COST_WORTH = 100 };              // steps of a measurement; fewer to be trained aren't worth one

// Whether a step takes two arms the same time, as far as their configs say: rates, decays and schedules don't count.
static inline bool same_cost(const Arm *x, const Arm *y) {
    Flat a = flat_of(x->resolved), b = flat_of(y->resolved);
    bool same = a.n == b.n;
    for (int i = 0; i < a.n && same; i++) {
        const char *key = a.keys[i], *other = flat_value(&b, key);
        if (!strncmp(key, "run.", 4) || !strncmp(key, "schedule.", 9) || !strcmp(key, "train.steps")) continue;
        bool factor = !strncmp(key, "optimizer.", 10) && strcmp(key, "optimizer.muon.steps") && *a.values[i] &&
                      a.values[i][strspn(a.values[i], "0123456789.e+-")] == '\0';
        same = strcmp(a.values[i], other) == 0 || factor;
    }
    flat_free(&a);
    flat_free(&b);
    return same;
}

// Removes a folder and the files in it, no folders: they and it stay.
static inline void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
        char *file = format("%s/%s", path, entry->d_name);
        unlink(file);
        free(file);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

// An arm's cost, by a training of a few steps with the end that every run has. NaN where that fails: the run itself
// will say why.
static inline Cost measure_cost(const RunList *l, int arm, Progress *p) {
    // a schedule that fits into few steps and has a use for every key that an arm may set
    double momentum = runlog_number(config_item(l->arms[arm].resolved, "optimizer", "muon"), "momentum_warmup");
    const char *const extra[] = {"--train.eval_every=0", "--train.save_every=0", "--train.sample_every=0",
                                 "--schedule.kind=trapezoid", "--schedule.warmup=0", "--schedule.cooldown=1",
                                 momentum >= COST_STEPS ? "--optimizer.muon.momentum_warmup=0.5" : NULL};
    Cost cost = { NAN, NAN };
    Arm few = l->arms[arm];
    few.overrides = (char **)xcalloc((size_t)few.n_overrides + COUNT_OF(extra), sizeof *few.overrides);
    memcpy(few.overrides, l->arms[arm].overrides, (size_t)few.n_overrides * sizeof *few.overrides);
    for (size_t i = 0; i < COUNT_OF(extra) && extra[i]; i++) few.overrides[few.n_overrides++] = (char *)(uintptr_t)extra[i];
    RunList one = *l;
    one.arms = &few;
    Run r = { .steps = COST_STEPS, .name = (char *)"cost", .folder = format("%s/cost", l->out) };
    double start = seconds_now(), ms[COST_STEPS], all = 0;
    int status = 0;
    pid_t pid = run_start(&one, &r, false), got;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        if (runs_interrupted) kill(pid, SIGKILL);
        usleep(10000);
    }
    double seconds = seconds_now() - start;
    run_read(&r);
    for (int i = 0; i < r.log.n_steps && i < COST_STEPS; i++) all += ms[i] = r.log.steps[i].ms;
    if (exit_code(status) == 0 && r.log.n_steps == COST_STEPS) {
        cost.step = median_of(ms + 1, COST_STEPS - 1) / 1000;       // the first one also touches all memory
        cost.rest = fmax(0, seconds - all / 1000);
    }
    remove_folder(r.folder);
    runlog_free(&r.log);
    free(r.folder);
    free(few.overrides);
    if (runs_interrupted) runs_stop(p);
    return cost;
}

// 25200 -> "25,200"; buffer of at least 40 bytes.
static inline const char *with_commas(char *buffer, double count) {
    snprintf(buffer, 30, "%.0f", count);
    for (int at = (int)strlen(buffer) - 3; at > 0; at -= 3) {
        memmove(buffer + at + 1, buffer + at, strlen(buffer + at) + 1);
        buffer[at] = ',';
    }
    return buffer;
}

// "18 trainings, 25,200 steps, about 52 min": of what isn't trained yet.
static inline void announce_cost(const RunList *l, const RunState *states, Progress *p) {
    Cost *costs = (Cost *)xcalloc((size_t)l->n_arms, sizeof *costs);
    double *left = (double *)xcalloc((size_t)l->n_runs, sizeof *left), steps = 0, seconds = 0;
    int n = 0;
    for (int i = 0; i < l->n_runs; i++) {
        const Run *r = &l->runs[i];
        if (states[i] == RUN_DONE || states[i] == RUN_DIVERGED) continue;
        double loss;
        left[i] = (double)r->steps - (states[i] == RUN_STARTED ? (double)last_logged_step(r, &loss) : 0);
        steps += left[i];
        n++;
    }
    int *kinds = (int *)xcalloc((size_t)l->n_arms, sizeof *kinds);      // of each arm: the first one like it
    for (int a = 0; a < l->n_arms; a++)
        while (kinds[a] < a && (kinds[kinds[a]] < kinds[a] || !same_cost(&l->arms[kinds[a]], &l->arms[a]))) kinds[a]++;
    for (int a = 0; a < l->n_arms; a++) {
        double of_its_kind = 0;
        for (int i = 0; i < l->n_runs; i++)
            if (kinds[l->runs[i].arm] == a) of_its_kind += left[i];
        if (kinds[a] < a) costs[a] = costs[kinds[a]];
        else costs[a] = of_its_kind >= COST_WORTH ? measure_cost(l, a, p) : (Cost){ NAN, NAN };
    }
    for (int i = 0; i < l->n_runs; i++) {
        if (left[i] <= 0) continue;
        const Run *r = &l->runs[i];
        const cJSON *config = l->arms[r->arm].resolved;
        double every = config_value(config, "train", "eval_every"), tokens = config_value(config, "train", "eval_tokens");
        // A validation is a forward pass, a third of a step's work.
        double validations = every > 0 ? floor(left[i] / every) * tokens / (r->tokens / (double)r->steps) / 3 : 0;
        seconds += costs[r->arm].rest + costs[r->arm].step * (left[i] + validations);
    }
    if (n) {
        char count[40];
        printf("%d training%s, %s steps", n, n == 1 ? "" : "s", with_commas(count, steps));
        if (seconds < 90) printf(", about %.0f s", ceil(seconds));
        else if (seconds < 5400) printf(", about %.0f min", seconds / 60);
        else if (isfinite(seconds)) printf(", about %.1f h", seconds / 3600);
        printf("\n");
        fflush(stdout);
    }
    free(costs);
    free(kinds);
    free(left);
}

// Before anything is written into OUT: takes the signals and the folder.
static inline void runs_begin(RunList *l) {
    Progress p = progress_start();
    runs_interrupted = 0;
    signal(SIGINT, runs_on_signal);
    signal(SIGTERM, runs_on_signal);
    runs_lock(l, &p);
}

/* Brings every run to its end, one at a time, behind runs_begin. fingerprints: of each arm's data, as the trainer logs
 * it. Ends the program where a signal comes (130) or a training fails. */
static inline void runs_train(RunList *l, char *const *fingerprints) {
    Progress p = progress_start();
    RunsProgress all = { .of = l->n_runs, .start = seconds_now() };
    RunState *states = (RunState *)xcalloc((size_t)l->n_runs, sizeof *states);
    int kept = 0;
    for (int i = 0; i < l->n_runs; i++) {
        Run *r = &l->runs[i];
        char *why;
        run_read(r);
        states[i] = runs_look(l, r, fingerprints[r->arm], &why);
        if (why) printf("%s: made anew: %s\n", r->name, why);
        bool over = states[i] == RUN_DONE || states[i] == RUN_DIVERGED;
        all.total += r->tokens;
        if (over) all.done += r->tokens;
        kept += over;
        free(why);
    }
    all.done_at_start = all.done;
    if (kept) printf("%d of %d runs are there already\n", kept, l->n_runs);
    announce_cost(l, states, &p);
    all.start = seconds_now();
    for (int i = 0; i < l->n_runs; i++) {
        Run *r = &l->runs[i];
        if (states[i] == RUN_DONE || states[i] == RUN_DIVERGED) continue;
        all.n = i + 1;
        if (runs_interrupted) runs_stop(&p);
        if (states[i] == RUN_STARTED) printf("%s: goes on from its checkpoint\n", r->name);
        run_train(l, r, states[i] == RUN_STARTED, &p, &all);
        all.done += r->tokens;
        progress_end(&p);
        char time[24], result[64];
        if (r->m.state == RUN_DIVERGED) strcpy(result, "diverged");
        else snprintf(result, sizeof result, "validation loss %.4f", r->m.of[LOSS]);
        printf("[%d/%d] %s: %s, %s of training\n", all.n, all.of, r->name, result,
               format_seconds(time, r->m.of[SECONDS]));
        fflush(stdout);
    }
    free(states);
}

#endif // RUNS_H

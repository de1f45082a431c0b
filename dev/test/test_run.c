/* test_run.c - a run's folder and its life: what it may replace, two processes, signals, divergence, going on, the best
 * model. Programs are run as processes; where a moment must be hit exactly, the trainer runs in a child with a hook in a
 * system call.
 */
#define _GNU_SOURCE
#define TEST_ROOT "build/ran"
#include "volume.h"
#include <signal.h>
#include <time.h>

// A clock that a test makes up: a step takes step_seconds(number of the step in this process), all else next to nothing. The trainer
// asks for its CPU seconds when a step begins and when it ends.
static double (*step_seconds)(int);                 // NULL: the machine's clock
static double made_up = 1000;
static int half_steps, signal_at;                   // a signal comes in this step of the process; 0: none

static inline int hooked_clock(clockid_t id, struct timespec *t) {
    if (!step_seconds) return clock_gettime(id, t);
    made_up += id == CLOCK_PROCESS_CPUTIME_ID ? step_seconds(half_steps / 2) / 2 : 1e-5;
    half_steps += id == CLOCK_PROCESS_CPUTIME_ID;
    if (id == CLOCK_PROCESS_CPUTIME_ID && signal_at && half_steps == 2 * signal_at - 1) raise(SIGTERM);
    t->tv_sec = (time_t)made_up;
    t->tv_nsec = (long)(1e9 * (made_up - (double)t->tv_sec));
    return 0;
}
#define clock_gettime hooked_clock

#include "../../tools/gpt.h"
#include "../../tools/model.h"
#include "test.h"
#include "train.h"

// The trainer in a child, with the hooks: arguments in one string. Its stderr is in build/ran/err.txt.
static void train_here(void *arguments) {
    char *argv[64] = {"train_gpt"}, *text = xstrdup(arguments);
    int argc = 1;
    if (power_folder) power_watch();
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    omp_set_num_threads(1);
    if (!freopen("build/ran/out.txt", "w", stdout) || !freopen("build/ran/err.txt", "w", stderr)) _exit(98);
    int code = train_main(argc, argv);
    fflush(NULL);
    _exit(code);
}

static int train_hooked(const char *arguments) {
    char errors[64];
    prepare_runs();
    int code = run_child(train_here, (void *)(uintptr_t)arguments, errors, sizeof errors);
    before_lock = NULL;
    return code;
}

#define RUNS "build/ran/runs/"

static bool file_has(const char *path, const char *words) {
    char *text = read_file(path, NULL);
    bool has = text && strstr(text, words);
    if (!has) printf("    %s: no \"%s\" in: %.600s\n", path, words, text ? text : "(none)");
    free(text);
    return has;
}

// All names and bytes below a folder, as one number.
static int fingerprint_of(const char *folder, char *sum) {
    int code = shell("find -L %s -type f -exec cksum {} + | LC_ALL=C sort > build/ran/sum.txt", folder);
    char *text = read_file("build/ran/sum.txt", NULL);
    snprintf(sum, 17, "%016llx", (unsigned long long)hash_string(text));
    free(text);
    return code;
}

// What the trainer answers to these arguments is one line with these words, and the folder stays as it is.
static void check_refused(const char *folder, const char *words, int code, char *arguments) {
    char before[17], after[17];
    fingerprint_of(folder, before);
    int got = shell("%s %s > build/ran/out.txt 2> build/ran/err.txt", trainer, arguments);
    CHECK_MSG(got == code, "%s: exit code %d", arguments, got);
    check_error_line(got, code, words);
    fingerprint_of(folder, after);
    CHECK_MSG(!strcmp(before, after), "%s: %s was changed", arguments, folder);
    free(arguments);
}

static const CkptTensor *scalar(const Checkpoint *c, const char *name) { return checkpoint_find(c, name); }

static double val_loss_of(const char *path) {
    Checkpoint c;
    char error[512];
    if (checkpoint_open(&c, path, error, sizeof error) != 0) return NAN;
    double loss = ((const double *)scalar(&c, "progress")->data)[2];
    checkpoint_close(&c);
    return loss;
}

// ---------------------------------------------------------------------------------------------------------------------
// What is not the run's

TEST(a_data_folder_is_never_a_runs_folder) {
    prepare_runs();
    shell("rm -rf build/ran/hold && mkdir -p build/ran/hold build/ran/hold/marked build/ran/hold/over/other && "
          "cp -r build/ran/data build/ran/hold/data && ln -s data build/ran/hold/link && "
          "echo x > build/ran/hold/marked/fingerprint && cp build/ran/data/*.bin build/ran/hold/over/other && "
          "cp -r build/ran/data build/ran/hold/resumed");
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "plain --train.steps=2") == 0);
    shell("cp " RUNS "plain/config.json " RUNS "plain/checkpoint.bin " RUNS "plain/log.jsonl build/ran/hold/resumed");
    static const char *const dirs[] = {
        "data", "data/", "data/.", "data/../data", "link", "link/", ".", "..", "marked", "over", "over/other", "data/run",
        "data/run/deeper", "link/run" };
    for (size_t i = 0; i < COUNT_OF(dirs); i++)
        for (int overwrite = 0; overwrite < 2; overwrite++)
            check_refused("build/ran/hold", "data folder", EXIT_USAGE,
                          format("build/ran/run.json --train.steps=2 --data.dir=build/ran/hold/data "
                                 "--run.dir=build/ran/hold/%s%s", dirs[i], overwrite ? " --overwrite" : ""));
    check_refused("build/ran/hold", "data folder", EXIT_USAGE, format("--resume --run.dir=build/ran/hold/resumed"));
    CHECK(!file_exists("build/ran/hold/data/run"));
    // a name of the run's own choosing, where all of them lie in the data
    setenv("RUNS_DIR", "build/ran/hold/data", 1);
    check_refused("build/ran/hold", "data folder", EXIT_USAGE,
                  format("build/ran/run.json --train.steps=2 --data.dir=build/ran/hold/data"));
    unsetenv("RUNS_DIR");
    // a folder beside the data, whose name only begins alike, is as good as any
    CHECK(TRAIN("build/ran/run.json --train.steps=2 --data.dir=build/ran/hold/data --run.dir=build/ran/hold/data-run") == 0);
}

TEST(what_no_run_wrote_is_never_replaced) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.bin", "vocabulary", "config.json", "log.jsonl",
                                        "loss.png", "sample.txt", "checkpoint.bin", "checkpoint.best.bin"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (int overwrite = 0; overwrite < 2; overwrite++) {
            shell("rm -rf " RUNS "mine && mkdir -p " RUNS "mine && echo mine > " RUNS "mine/%s", names[i]);
            char *words = format(RUNS "mine/%s was not written by a run", names[i]);
            check_refused(RUNS "mine", words, EXIT_USAGE, format("build/ran/run.json --train.steps=2 --run.dir=" RUNS "mine%s",
                                                                 overwrite ? " --overwrite" : ""));
            free(words);
        }
    // in a run's folder: its own files go, others stay, a tokenizer that isn't its own is refused, for going on too
    shell("rm -rf " RUNS "mine");
    CHECK(TRAIN("build/ran/run.json --train.steps=2 --run.dir=" RUNS "mine") == 0);
    shell("echo mine > " RUNS "mine/notes.txt; echo '{}' > " RUNS "mine/tokenizer.json");
    check_refused(RUNS "mine", RUNS "mine/tokenizer.json was not written by a run", EXIT_USAGE,
                  format("build/ran/run.json --train.steps=2 --run.dir=" RUNS "mine --overwrite"));
    check_refused(RUNS "mine", RUNS "mine/tokenizer.json was not written by a run", EXIT_USAGE,
                  format("--resume --train.steps=4 --run.dir=" RUNS "mine"));
    shell("rm " RUNS "mine/tokenizer.json");
    CHECK(TRAIN("build/ran/run.json --train.steps=3 --run.dir=" RUNS "mine --overwrite") == 0);
    CHECK(file_has(RUNS "mine/notes.txt", "mine") && step_of(RUNS "mine/checkpoint.bin") == 3);
    CHECK(shell("grep -q 'step 2' " RUNS "mine/sample.txt") == 1);
    // a run on data without a tokenizer writes none, and leaves one that is there alone
    shell("rm -rf build/ran/bare && mkdir build/ran/bare && cp build/ran/data/*0.bin build/ran/bare && "
          "rm -rf " RUNS "bare && mkdir -p " RUNS "bare && echo mine > " RUNS "bare/tokenizer.json");
    for (int i = 0; i < 2; i++)
        CHECK(TRAIN("build/ran/run.json --train.steps=2 --model.vocab=64 --data.dir=build/ran/bare --run.dir=" RUNS "bare "
                    "--overwrite") == 0);
    CHECK(file_has(RUNS "bare/tokenizer.json", "mine"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Two processes

// The slower of two runs that were started together finds the other's finished run when it comes to lock the folder.
TEST(a_run_that_another_finished_meanwhile_is_not_overwritten) {
    prepare_runs();
    shell("rm -rf " RUNS "both");
    char *first = format("%s build/ran/run.json --train.steps=3 --run.dir=" RUNS "both > build/ran/out2.txt && "
                         "cp " RUNS "both/log.jsonl build/ran/kept.jsonl", trainer);
    before_lock = first;
    int code = train_hooked("build/ran/run.json --train.steps=3 --run.dir=" RUNS "both");
    check_error_line(code, EXIT_USAGE, RUNS "both already holds a run");
    CHECK(shell("cmp -s build/ran/kept.jsonl " RUNS "both/log.jsonl") == 0 && step_of(RUNS "both/checkpoint.bin") == 3);
    free(first);
}

// A folder that is removed between its making and its locking is made again: the lock is of the folder that is there.
TEST(a_folder_removed_under_the_lock_is_made_again) {
    prepare_runs();
    shell("rm -rf " RUNS "gone");
    before_lock = "rmdir " RUNS "gone";
    CHECK(train_hooked("build/ran/run.json --train.steps=3 --run.dir=" RUNS "gone") == 0);
    CHECK(step_of(RUNS "gone/checkpoint.bin") == 3);
}

TEST(runs_without_a_folder_of_their_own_start_together) {
    prepare_runs();
    shell("rm -rf build/ran/three && mkdir -p build/ran/three/runs/run-2 && ln -s ../../../build build/ran/three/build && "
          "echo mine > build/ran/three/runs/run-2/config.json");            // somebody's folder: not to be taken
    CHECK(shell("p=$(realpath %s); cd build/ran/three || exit; for seed in 1 2 3; do "
                "{ \"$p\" build/ran/run.json --train.steps=100 --train.eval_every=0 --run.seed=$seed > out$seed.txt 2> err$seed.txt; "
                "echo $? > code$seed.txt; } & done; wait; cat code?.txt > codes.txt; cat err?.txt", trainer) == 0);
    CHECK(file_has("build/ran/three/codes.txt", "0\n0\n0\n"));
    for (int i = 1; i < 5; i++) {
        char *path = i == 1 ? xstrdup("build/ran/three/runs/run/checkpoint.bin")
                            : format("build/ran/three/runs/run-%d/checkpoint.bin", i);
        CHECK_MSG(step_of(path) == (i == 2 ? -1 : 100), "%s", path);
        free(path);
    }
    CHECK(file_has("build/ran/three/runs/run-2/config.json", "mine"));
    CHECK(shell("p=$(realpath %s); cd build/ran/three || exit; \"$p\" build/ran/run.json --resume > out.txt", trainer) == 0);
    CHECK(file_has("build/ran/three/out.txt", "resumed    runs/run-4 at step 100"));
}

// Each is one warning, however many checkpoints are saved.
TEST(a_volume_without_links_folder_sync_or_locks_trains) {
    static int *const lacks[] = {&no_links, &no_folder_sync, &no_locks};
    static const char *const words[] = {"no hard links", "no fsync of folders", "no locks"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(lacks); i++) {
        shell("rm -rf " RUNS "fat");
        *lacks[i] = EINVAL;
        int code = train_hooked("build/ran/run.json --run.dir=" RUNS "fat --train.save_every=2 --train.steps=8");
        *lacks[i] = 0;
        check_error_line(code, 0, words[i]);
        CHECK(step_of(RUNS "fat/checkpoint.bin") == 8 && step_of(RUNS "fat/checkpoint.prev.bin") == 6);
    }
    no_locks = 1;                                           // asked to go without, it says nothing
    CHECK(train_hooked("build/ran/run.json --run.dir=" RUNS "fat --train.steps=2 --overwrite --run.lock=false") == 0);
    no_locks = 0;
    CHECK(shell("test ! -s build/ran/err.txt") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Divergence

// Writes the checkpoint at `from` to `to`, with `size` bytes of the tensor `name`, from byte `at` on, replaced.
static void forge(const char *from, const char *to, const char *name, size_t at, const void *bytes, size_t size) {
    Checkpoint c;
    char error[512], *copy = NULL;
    if (checkpoint_open(&c, from, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    for (int i = 0; i < c.n_tensors; i++) {
        CkptTensor *t = &c.tensors[i];
        uint64_t n;
        if (strcmp(t->name, name) || !ckpt_bytes(t, &n)) continue;
        copy = memcpy(xmalloc(n), t->data, n);
        memcpy(copy + at, bytes, size);
        t->data = copy;
    }
    CHECK_MSG(checkpoint_save(to, NULL, c.tensors, c.n_tensors, error, sizeof error) == 0, "%s", error);
    checkpoint_close(&c);
    free(copy);
}

// Whether the checkpoint is whole and every weight in it a number.
static bool is_sound(const char *path) {
    Checkpoint c;
    CheckpointState s;
    char error[512];
    bool sound = checkpoint_open_sound(&c, path, &s, error, sizeof error) == 0;
    if (sound) checkpoint_close(&c);
    return sound;
}

static bool log_ends_with(const char *folder, const char *reason) {
    char *path = format("%s/log.jsonl", folder);
    RunLog log;
    bool ends = runlog_read(path, &log) == 0 && log.ended && !strcmp(log.end.reason, reason);
    runlog_free(&log);
    free(path);
    return ends;
}

#define SGD "build/ran/run.json --optimizer.name=sgd --train.grad_clip=0 --optimizer.qk_clip.tau=0 --model.dropout=0 "

// The rate is too large by so much that a step leaves weights which give no finite loss.
TEST(a_validation_that_is_no_number_ends_the_run_unsaved) {
    prepare_runs();
    shell("rm -rf " RUNS "nan");
    int code = TRAIN(SGD "--optimizer.sgd.lr=1e6 --train.eval_every=1 --train.save_every=1 --run.dir=" RUNS "nan");
    check_error_line(code, EXIT_FAILED, "step ");
    CHECK(log_ends_with(RUNS "nan", "diverged"));
    CHECK(!file_exists(RUNS "nan/checkpoint.bin") || is_sound(RUNS "nan/checkpoint.bin"));
    CHECK(!file_exists(RUNS "nan/checkpoint.prev.bin") || is_sound(RUNS "nan/checkpoint.prev.bin"));

    // two good checkpoints, then another rate breaks the model in one step
    CHECK(TRAIN(SGD "--optimizer.sgd.lr=0.01 --train.eval_every=1 --train.save_every=1 --train.steps=4 "
                "--run.dir=" RUNS "nan --overwrite") == 0);
    shell("cp " RUNS "nan/checkpoint.bin build/ran/kept.bin");
    code = TRAIN("--run.dir=" RUNS "nan --resume --train.steps=60 --optimizer.sgd.lr=1e6 "
                 "--train.eval_every=1000 --train.save_every=1000");
    check_error_line(code, EXIT_FAILED, "step ");
    char *last = format(RUNS "nan/checkpoint.bin (step 4, validation loss %.4f)", val_loss_of(RUNS "nan/checkpoint.bin"));
    char *before = format(RUNS "nan/checkpoint.prev.bin (step 3, validation loss %.4f)",
                          val_loss_of(RUNS "nan/checkpoint.prev.bin"));
    CHECK(file_has("build/ran/err.txt", last) && file_has("build/ran/err.txt", before));
    CHECK(file_has("build/ran/err.txt", "--run.dir=" RUNS "nan --resume"));
    CHECK(shell("cmp -s build/ran/kept.bin " RUNS "nan/checkpoint.bin") == 0 && log_ends_with(RUNS "nan", "diverged"));
    CHECK(file_has(RUNS "nan/log.jsonl", "\"resumed_with\":"));
    free(last), free(before);

    // and with a smaller one it goes on, which the log and the config say; other keys are the run's own
    check_error_line(TRAIN("--run.dir=" RUNS "nan --resume --optimizer.sgd.momentum=0.5"), EXIT_USAGE, "sgd.momentum");
    CHECK(TRAIN("--run.dir=" RUNS "nan --resume --optimizer.sgd.lr=0.02 --train.steps=6") == 0);
    CHECK(step_of(RUNS "nan/checkpoint.bin") == 6 && log_ends_with(RUNS "nan", "done"));
    CHECK(file_has(RUNS "nan/log.jsonl", "\"resumed_with\": [\"--run.dir=" RUNS "nan\",\"--optimizer.sgd.lr=0.02\",\"--train.steps=6\"]"));
    CHECK(file_has(RUNS "nan/config.json", "\"lr\": 0.02"));
    CHECK(file_has("build/ran/out.txt", "at step 4, now with optimizer.sgd.lr=0.02"));
}

// The step at which a validation is no number, found first, is then the last one.
TEST(a_run_that_diverges_in_its_last_step_is_not_done) {
    static const char *const forms[] = {"--train.eval_every=1 --train.save_every=1", "--train.eval_every=0 --train.save_every=0"};
    int step = 0;
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        if (i == 0) TRAIN(SGD "--optimizer.sgd.lr=1e6 --train.eval_every=1 --run.dir=" RUNS "last --overwrite");
        char *text = read_file("build/ran/err.txt", NULL);
        if (i == 0) CHECK_MSG(sscanf(text, "error: step %d: the validation loss is", &step) == 1, "%s", text);
        free(text);
        int code = TRAIN(SGD "--optimizer.sgd.lr=1e6 --train.steps=%d %s --run.dir=" RUNS "last --overwrite", step, forms[i]);
        text = format("step %d: the validation loss is", step);
        check_error_line(code, EXIT_FAILED, text);
        free(text);
        CHECK(log_ends_with(RUNS "last", "diverged"));
        CHECK(step_of(RUNS "last/checkpoint.bin") == (i == 0 ? step - 1 : -1));
        if (i == 1) CHECK(file_has("build/ran/err.txt", "nothing was saved yet"));
    }
    // neither is a sample drawn from its weights
    check_error_line(TRAIN(SGD "--optimizer.sgd.lr=1e6 --train.steps=%d --train.eval_every=0 --train.save_every=0 --train.sample_every=1 "
                           "--run.dir=" RUNS "last --overwrite", step + 5), EXIT_FAILED, "the loss is ");
    char *words = format("step %d: the loss is", step), *sample = format("--- step %d ---", step), *samples = NULL;
    CHECK(file_has("build/ran/err.txt", words));
    CHECK(step == 1 || (samples = read_file(RUNS "last/sample.txt", NULL)));
    CHECK(!samples || !strstr(samples, sample));
    free(words), free(sample), free(samples);
}

typedef enum { NAN_WEIGHT, HUGE_WEIGHTS, NAN_MOMENT } Damage;

// A trainer whose last step has damaged the state, and a signal that came meanwhile.
static void interrupted_with(void *damage) {
    char *overrides[] = {"--run.dir=" RUNS "broken", "--train.eval_every=0", "--model.dropout=0"};
    Trainer t = {0};
    Arguments a = {.program = "./train_gpt", .overwrite = true};
    StepResult result;
    omp_set_num_threads(1);
    config_load(&t.config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), "build/ran/run.json",
                COUNT_OF(overrides), overrides, NULL);
    trainer_open(&t, "build/ran/run.json");
    t.run = run_open(&a, xstrdup(t.config.run.dir), &t.config, true);
    trainer_begin(&t);
    tensors_init(t.model.params, t.model.table, 1);
    t.log = fopen(t.run.log, "w");
    if (!train_step(&t, &result)) _exit(97);
    t.muon.t = 0;
    size_t n;
    float *moment = muon_state(&t.muon, 0, MUON_SLOT_MOMENTUM, &n);
    if (*(Damage *)damage == NAN_WEIGHT) weight(&t.model, WQ, 1)[5] = NAN;
    else if (*(Damage *)damage == NAN_MOMENT) moment[n - 1] = INFINITY;
    else for (size_t i = 0; i < t.model.n_params; i++) t.model.params[i] = 1e30f;
    interrupted = 1;
    _exit(train(&t));
}

TEST(interrupted_in_the_step_that_diverges_is_diverged) {
    static const char *const words[] = {"NaN or infinity in w.wq", "the loss is ", "NaN or infinity in m."};
    prepare_runs();
    for (Damage damage = NAN_WEIGHT; damage <= NAN_MOMENT; damage++) {
        shell("rm -rf " RUNS "broken");
        CHECK_FAILS(interrupted_with, &damage, EXIT_FAILED, words[damage]);
        CHECK(log_ends_with(RUNS "broken", "diverged") && !file_exists(RUNS "broken/checkpoint.bin"));
    }
}

TEST(a_checkpoint_that_is_no_state_is_refused) {
    float nan = NAN, infinite = INFINITY, negative = -1;
    double seconds = INFINITY;
    int64_t numbers[] = {-1, ((int64_t)1 << 32) + 2, INT64_MAX, 3};
    struct { const char *tensor; size_t at; const void *bytes; size_t size; bool in_model; const char *words; } cases[] = {
        {"w.wq", 40, &nan, 4, true, "NaN or infinity in w.wq"}, {"w.wte", 0, &infinite, 4, true, "infinity in w.wte"},
        {"m.wq", 4, &nan, 4, false, "m.wq"}, {"v.wte", 8, &negative, 4, false, "v.wte"}, {"v.wte", 8, &nan, 4, false, "v.wte"},
        {"step", 0, &numbers[0], 8, true, "step -1"}, {"step", 0, &numbers[1], 8, true, "step 4294967298"},
        {"optimizer_t", 0, &numbers[2], 8, true, "9223372036854775807"}, {"optimizer_t", 0, &numbers[0], 8, true, "-1"},
        {"evaluated", 0, &numbers[2], 8, true, "validated at 9223372036854775807"}, {"optimizer_t", 0, &numbers[3], 8, true, "3"},
        {"progress", 0, &seconds, 8, true, "seconds of training: inf"}};
    CHECK(TRAIN("build/ran/run.json --train.steps=4 --train.save_every=2 --run.dir=" RUNS "forged --overwrite") == 0);
    shell("cp " RUNS "forged/checkpoint.bin build/ran/kept.bin");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        forge("build/ran/kept.bin", RUNS "forged/checkpoint.bin", cases[i].tensor, cases[i].at, cases[i].bytes, cases[i].size);
        int code = TRAIN("--run.dir=" RUNS "forged --resume --train.steps=8");
        check_error_line(code, EXIT_FAILED, cases[i].words);
        CHECK(file_has("build/ran/err.txt", RUNS "forged/checkpoint.prev.bin"));        // the way to go on
        if (cases[i].in_model)
            check_error_line(shell("%s/generate " RUNS "forged --tokens=3 > build/ran/out.txt 2> build/ran/err.txt", build),
                             EXIT_FAILED, cases[i].words);
    }
    // weights that are numbers, of a model whose logits are none
    float huge[16];
    for (int i = 0; i < 16; i++) huge[i] = 3e38f;
    forge("build/ran/kept.bin", RUNS "forged/checkpoint.bin", "w.normf_b", 0, huge, sizeof huge);
    for (int row = 0; row < 5; row++)
        forge(RUNS "forged/checkpoint.bin", RUNS "forged/checkpoint.bin", "w.wte", (size_t)row * sizeof huge, huge, sizeof huge);
    check_error_line(shell("%s/generate " RUNS "forged --tokens=3 > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_FAILED,
                     RUNS "forged/checkpoint.bin: a model that diverged");
    CHECK(TRAIN("--run.dir=" RUNS "forged --resume=" RUNS "forged/checkpoint.prev.bin --train.steps=8") == 0);
}

// Weights and state have the same shapes in all of these runs: what tells them apart is the config in the checkpoint.
TEST(a_checkpoint_of_another_config_is_refused) {
    static const char *const others[] = {"--optimizer.name=adamw --optimizer.qk_clip.tau=0", "--run.seed=2", "--model.heads=1",
                                         "--train.batch=3"};
    static const char *const words[] = {"optimizer.name is \"adamw\" in it, but \"muonclip\" in the run's config",
        "run.seed is 2 in it, but 1", "model.heads is 1 in it, but 2", "train.batch is 3 in it, but 6"};
    CHECK(TRAIN("build/ran/run.json --train.steps=4 --train.save_every=2 --run.dir=" RUNS "own --overwrite") == 0);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        CHECK(TRAIN("build/ran/run.json %s --train.steps=4 --run.dir=" RUNS "other --overwrite", others[i]) == 0);
        check_refused(RUNS "own", words[i], EXIT_USAGE, format("--run.dir=" RUNS "own --train.steps=8 --resume=" RUNS "other/checkpoint.bin"));
    }
    // the samples of another model's weights, which fit
    CHECK(TRAIN("build/ran/run.json --model.heads=1 --train.steps=4 --run.dir=" RUNS "other --overwrite") == 0);
    check_error_line(shell("%s/generate " RUNS "own --tokens=3 --checkpoint=" RUNS "other/checkpoint.bin > build/ran/out.txt "
                           "2> build/ran/err.txt", build), EXIT_FAILED, "model.heads is 1 in it, but 2");
    // a config edited by hand: what a resume may change, and what it may not
    shell("cp " RUNS "own/config.json build/ran/kept.json");
    static const char *const edits[][2] = {{"s/\"momentum\": 0.95/\"momentum\": 0.5/", "optimizer.muon.momentum is 0.95 in it, but 0.5"},
        {"s/\"grad_clip\": 1/\"grad_clip\": 2/", "train.grad_clip is 1 in it, but 2"},
        {"s/\"tau\": 0.01/\"tau\": 1/", "optimizer.qk_clip.tau is 0.01 in it, but 1"}};
    for (size_t i = 0; i < COUNT_OF(edits); i++) {
        shell("sed '%s' build/ran/kept.json > " RUNS "own/config.json", edits[i][0]);
        check_refused(RUNS "own", edits[i][1], EXIT_USAGE, format("--run.dir=" RUNS "own --train.steps=8 --resume"));
    }
    shell("sed 's/\"lr\": 0.0[0-9]*/\"lr\": 0.001/; s/\"save_every\": 2/\"save_every\": 3/' build/ran/kept.json > " RUNS "own/config.json");
    CHECK(TRAIN("--run.dir=" RUNS "own --resume --train.steps=6") == 0);
    // and a config in the checkpoint that is none
    shell("cp " RUNS "own/checkpoint.bin build/ran/kept.bin");
    forge("build/ran/kept.bin", RUNS "own/checkpoint.bin", "config", 0, "[", 1);
    check_refused(RUNS "own", RUNS "own/checkpoint.bin: its config:", EXIT_USAGE, format("--run.dir=" RUNS "own --train.steps=8 --resume"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Signals

// One run is ended by every signal in turn, wherever in a step it comes, and comes to the bits of one that isn't.
TEST(every_signal_that_ends_a_run_saves_it) {
    static const char *const then[] = {"kill -HUP $pid; kill -HUP $pid", "kill -USR1 $pid", "kill -USR2 $pid; kill -USR2 $pid",
                                       "kill -XCPU $pid; kill -XCPU $pid", "kill -INT $pid", "kill -TERM $pid; kill -TERM $pid"};
    // so long that no machine is done with it before its signal comes, and with a rate that doesn't depend on the length
    static const char *const shape = "--schedule.kind=constant --train.micro_batch=1 --train.save_every=0 --train.eval_every=100";
    shell("rm -rf " RUNS "cut");
    for (size_t i = 0; i < COUNT_OF(then); i++) {
        // a step that isn't in the log yet: found there, the run has taken its signals
        char *words = format("\"step\": %lld,", 20 + (i ? step_of(RUNS "cut/checkpoint.bin") : 0));
        char *arguments = i ? xstrdup("--run.dir=" RUNS "cut --resume") : format("build/ran/run.json %s --train.steps=1000000 --run.dir=" RUNS "cut", shape);
        int code = train_until(arguments, RUNS "cut", words, then[i]);
        CHECK_MSG(code == EXIT_INTERRUPTED, "%s: exit code %d", then[i], code);
        CHECK_MSG(log_ends_with(RUNS "cut", "interrupted") && is_sound(RUNS "cut/checkpoint.bin"), "%s", then[i]);
        free(words), free(arguments);
    }
    long long steps = step_of(RUNS "cut/checkpoint.bin") + 20;
    CHECK(TRAIN("--run.dir=" RUNS "cut --resume --train.steps=%lld", steps) == 0);
    CHECK(TRAIN("build/ran/run.json %s --train.steps=%lld --run.dir=" RUNS "whole --overwrite", shape, steps) == 0);
    check_same_checkpoint(RUNS "whole/checkpoint.bin", RUNS "cut/checkpoint.bin");
    char *whole = log_without_times(RUNS "whole"), *cut = log_without_times(RUNS "cut");
    CHECK(!strcmp(whole, cut));
    free(whole), free(cut);
}

// As nohup starts it, the program does not end by SIGHUP.
TEST(a_signal_that_was_ignored_stays_ignored) {
    prepare_runs();
    CHECK(shell("trap '' HUP; %s build/ran/run.json --train.steps=200 --train.eval_every=0 --run.dir=" RUNS "nohup --overwrite > build/ran/out.txt "
                "& pid=$!; while ! grep -qs '\"step\": 5,' " RUNS "nohup/log.jsonl; do sleep 0.01; kill -0 $pid || exit 97; done; kill -HUP $pid; wait $pid",
                trainer) == 0);
    CHECK(step_of(RUNS "nohup/checkpoint.bin") == 200);
}

// make train | head: the run saves and ends, and says so where it can.
TEST(a_closed_pipe_saves_the_run) {
    prepare_runs();
    shell("rm -rf " RUNS "pipe");
    CHECK(shell("{ %s build/ran/run.json --train.steps=1000000 --run.dir=" RUNS "pipe 2> build/ran/err.txt; "
                "echo $? > build/ran/n.txt; } | head -n 2 > build/ran/out.txt", trainer) == 0);
    CHECK(file_has("build/ran/n.txt", "130"));
    check_error_line(EXIT_INTERRUPTED, EXIT_INTERRUPTED, "and saved; go on with");
    CHECK(is_sound(RUNS "pipe/checkpoint.bin") && log_ends_with(RUNS "pipe", "interrupted"));
}

// Its exit code says that all is saved, whatever else went wrong.
TEST(a_full_stdout_does_not_hide_that_a_run_was_saved) {
    prepare_runs();
    CHECK(shell("rm -rf " RUNS "deaf; %s build/ran/run.json --train.steps=1000000 --run.dir=" RUNS "deaf > /dev/full 2> build/ran/err.txt & pid=$!; "
                "while ! grep -qs '\"step\": 5,' " RUNS "deaf/log.jsonl; do sleep 0.01; done; kill -TERM $pid; wait $pid", trainer) == EXIT_INTERRUPTED);
    CHECK(file_has("build/ran/err.txt", "and saved; go on with") && file_has("build/ran/err.txt", "error: stdout: cannot be written"));
    CHECK(log_ends_with(RUNS "deaf", "interrupted") && is_sound(RUNS "deaf/checkpoint.bin"));
}

// A step of very many micro-batches is not waited for: what it did so far is thrown away.
TEST(a_signal_acts_between_micro_batches) {
    shell("rm -rf " RUNS "long");
    int code = train_until("build/ran/run.json --train.batch=200000 --train.micro_batch=1 --train.steps=3 --run.dir=" RUNS "long",
                           RUNS "long", "\"eval\", \"step\": 0,", "sleep 0.2; kill -TERM $pid");
    CHECK_MSG(code == EXIT_INTERRUPTED, "exit code %d", code);
    RunLog log;
    CHECK(runlog_read(RUNS "long/log.jsonl", &log) == 0 && log.n_steps == 0);
    runlog_free(&log);
    CHECK(step_of(RUNS "long/checkpoint.bin") == 0 && is_sound(RUNS "long/checkpoint.bin"));
}

// Neither is the rest of a sample.
TEST(a_signal_acts_between_the_tokens_of_a_sample) {
    char *overrides[] = {"--run.dir=" RUNS "none"};
    Trainer t = {0};
    TokenText text = {&t.tokenizer, xstrdup(""), 0};
    int start = 0;
    prepare_runs();
    config_load(&t.config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), "build/ran/run.json",
                COUNT_OF(overrides), overrides, NULL);
    trainer_open(&t, "build/ran/run.json");
    trainer_allocate(&t);
    for (interrupted = 0; interrupted < 2; interrupted++) {
        text.n = 0;
        generate(&t.model, t.tokenizer.size, &start, 1, 50, sample_plainly(0.8), 1, token_text_add, &text);
        CHECK_MSG(interrupted ? text.n == 0 : text.n > 0, "%zu bytes", text.n);
    }
    interrupted = 0;
    free(text.text);
    trainer_close(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Going on elsewhere, and without the log

// A run of 60 steps, and another folder with the same run at step 30, as after a death.
static void train_by_half(const char *whole, const char *half, const char *data) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.save_every=30 --data.dir=%s --run.dir=%s --overwrite", data, whole) == 0);
    shell("rm -rf %s && cp -r %s %s && mv %s/checkpoint.prev.bin %s/checkpoint.bin", half, whole, half, half, half);
}

TEST(a_run_goes_on_with_data_that_moved) {
    prepare_runs();
    shell("rm -rf build/ran/here build/ran/moved && cp -r build/ran/data build/ran/here");
    train_by_half(RUNS "unmoved", RUNS "moved", "build/ran/here");
    shell("mv build/ran/here build/ran/moved");
    check_error_line(TRAIN("--run.dir=" RUNS "moved --resume"), EXIT_FAILED, "build/ran/here");
    // another text, also one of the same vocabulary; and the same shards beside another tokenizer
    shell("rm -rf build/ran/elsewhere && cat build/ran/words.txt build/ran/words.txt > build/ran/words2.txt && "
          "%s/tokenize shards --tokenizer=char --out=build/ran/elsewhere build/ran/words2.txt > build/ran/out.txt", build);
    check_error_line(TRAIN("--run.dir=" RUNS "moved --resume --data.dir=build/ran/elsewhere"), EXIT_FAILED,
                     "other data");
    shell("rm -rf build/ran/elsewhere && cp -r build/ran/data build/ran/elsewhere && rm build/ran/elsewhere/vocabulary && "
          "tr a-z b-za < build/ran/words.txt | tr -d x > build/ran/words2.txt && rm -rf build/ran/shifted && "
          "%s/tokenize shards --tokenizer=char --out=build/ran/shifted build/ran/words2.txt > build/ran/out.txt && "
          "cp build/ran/shifted/tokenizer.bin build/ran/elsewhere", build);
    check_error_line(TRAIN("--run.dir=" RUNS "moved --resume --data.dir=build/ran/elsewhere"), EXIT_FAILED,
                     "another vocabulary");
    CHECK(step_of(RUNS "moved/checkpoint.bin") == 30);
    CHECK(TRAIN("--run.dir=" RUNS "moved --resume --data.dir=build/ran/moved") == 0);
    check_same_checkpoint(RUNS "moved/checkpoint.bin", RUNS "unmoved/checkpoint.bin");
    CHECK(file_has(RUNS "moved/config.json", "\"build/ran/moved\""));
    CHECK(TRAIN("--run.dir=" RUNS "moved --resume --train.steps=62") == 0);          // it is where the run's data is now
    // by its config's name, too: the run has it without the moved text's
    setenv("RUNS_DIR", RUNS "named", 1);
    CHECK(TRAIN("build/ran/run.json --train.steps=2") == 0);
    CHECK(TRAIN("build/ran/run.json --resume --data.dir=build/ran/moved --train.steps=4") == 0);
    CHECK(step_of(RUNS "named/run/checkpoint.bin") == 4);
    unsetenv("RUNS_DIR");
}

TEST(a_run_without_its_log_goes_on_with_a_new_one) {
    train_by_half(RUNS "unmoved", RUNS "logless", "build/ran/data");
    shell("rm " RUNS "logless/log.jsonl");
    check_error_line(TRAIN("build/ran/run.json --run.dir=" RUNS "logless"), EXIT_USAGE, "already holds a run");
    CHECK(TRAIN("--run.dir=" RUNS "logless --resume") == 0);
    CHECK(file_has("build/ran/out.txt", RUNS "logless/log.jsonl is missing: a new one begins"));
    check_same_checkpoint(RUNS "logless/checkpoint.bin", RUNS "unmoved/checkpoint.bin");
    RunLog log;
    CHECK(runlog_read(RUNS "logless/log.jsonl", &log) == 0 && log.start && log.n_steps == 30 && log.steps[0].step == 31);
    runlog_free(&log);
    // a log that is no log is not written over
    shell("echo mine > " RUNS "logless/log.jsonl");
    check_error_line(TRAIN("--run.dir=" RUNS "logless --resume --train.steps=70"), EXIT_FAILED, "log.jsonl:1");
    CHECK(file_has(RUNS "logless/log.jsonl", "mine"));
}

// sample.txt is that of a run that nothing interrupted, each sample once, in whatever state the run died.
TEST(samples_are_written_once) {
#define SAMPLED "build/ran/run.json --train.steps=40 --train.sample_every=10 --train.save_every=20 --train.eval_every=0 "
    CHECK(TRAIN(SAMPLED "--run.dir=" RUNS "sampled --overwrite") == 0);
    shell("cp " RUNS "sampled/sample.txt build/ran/kept.txt");
    CHECK(shell("test $(grep -c '^--- step' build/ran/kept.txt) = 4") == 0);
    CHECK(TRAIN("--run.dir=" RUNS "sampled --resume") == 0);                            // has nothing more to do
    CHECK(shell("cmp build/ran/kept.txt " RUNS "sampled/sample.txt") == 0);
    static const char *const damage[] = {"cp build/ran/kept.txt $f", "head -n 2 build/ran/kept.txt > $f", ": > $f", "rm $f"};
    for (size_t i = 0; i < COUNT_OF(damage); i++) {
        shell("f=" RUNS "sampled/sample.txt; %s", damage[i]);
        CHECK(TRAIN("--run.dir=" RUNS "sampled --resume=" RUNS "sampled/checkpoint.prev.bin") == 0);
        if (i == 0) CHECK(shell("cmp build/ran/kept.txt " RUNS "sampled/sample.txt") == 0);
        for (int step = 20; step <= 40; step += 10)
            CHECK_MSG(shell("test $(grep -c -x -e '--- step %d ---' " RUNS "sampled/sample.txt) = 1", step) == 0, "%s, step %d",
                      damage[i], step);
        CHECK(TRAIN(SAMPLED "--run.dir=" RUNS "sampled --overwrite") == 0);
    }
}

// The columns of a tensor's row in a section of step.md, NaN where it isn't a number; false where there is no such row.
static bool explained_row(const char *text, const char *section, const char *tensor, double columns[8]) {
    char *start = format("<!-- explain: %s -->", section), *row = format("\n| %s |", tensor);
    const char *at = strstr(text, start), *end = at ? strstr(at, "<!-- end -->") : NULL;
    at = at ? strstr(at, row) : NULL;
    bool found = at && at < end;
    if (found) at += strlen(row);
    for (int i = 0; i < 8 && found; i++) {
        char *behind;
        columns[i] = strtod(at, &behind);
        if (behind == at) columns[i] = NAN;
        at = strchr(at, '|') + 1;
    }
    CHECK_MSG(found, "no row %s in section %s of: %.300s", tensor, section, text);
    free(start);
    free(row);
    return found;
}

static double rms_of_difference(const CkptTensor *a, const CkptTensor *b) {
    size_t n = (size_t)a->shape[0] * a->shape[1] * a->shape[2];
    const float *x = a->data, *y = b ? b->data : NULL;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (x[i] - (y ? y[i] : 0.0)) * (x[i] - (y ? y[i] : 0.0));
    return sqrt(sum / (double)n);
}

// What --explain says of the last step is what the checkpoints before and after it differ by, and the step is the same with
// it and without.
TEST(a_step_is_explained_and_stays_the_same) {
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "untold --train.steps=7 --train.save_every=6 --overwrite") == 0);
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "told --train.steps=7 --train.save_every=6 --overwrite --explain=7") == 0);
    CHECK(file_has("build/ran/out.txt", "\nexplained step 7: " RUNS "told/step7/step.md\n"));
    check_same_checkpoint(RUNS "untold/checkpoint.bin", RUNS "told/checkpoint.bin");
    char *text = read_file(RUNS "told/step7/step.md", NULL), error[512];
    Checkpoint before, after;
    CHECK(text && checkpoint_open(&before, RUNS "told/checkpoint.prev.bin", error, sizeof error) == 0 &&
          checkpoint_open(&after, RUNS "told/checkpoint.bin", error, sizeof error) == 0);
    static const char *const tensors[] = {"wte", "wo", "w_in", "b_in"};      // and no QK-Clip behind the step
    enum { RULE, GRADIENT, MOMENTUM, WEIGHTS, STEP, DECAY };
    for (size_t i = 0; text && i < COUNT_OF(tensors); i++) {
        char name[32];
        double row[8];
        if (!explained_row(text, "update", tensors[i], row)) continue;
        snprintf(name, sizeof name, "w.%s", tensors[i]);
        double weights = rms_of_difference(checkpoint_find(&before, name), NULL);
        double step = rms_of_difference(checkpoint_find(&after, name), checkpoint_find(&before, name));
        CHECK_MSG(fabs(row[1 + WEIGHTS] / weights - 1) < 0.01, "%s: weights %g, of %g", name, row[1 + WEIGHTS], weights);
        CHECK_MSG(fabs(row[1 + STEP] / step - 1) < 0.06, "%s: step %g, of %g", name, row[1 + STEP], step);
        CHECK_MSG(i == 3 ? row[1 + DECAY] == 0 : row[1 + DECAY] > 0, "%s: decay %g", name, row[1 + DECAY]);
    }
    double row[8];
    if (text && explained_row(text, "update", "wte", row)) {
        double momentum = rms_of_difference(checkpoint_find(&after, "m.wte"), NULL) * 16;           // 16 x 16
        CHECK_MSG(fabs(row[1 + MOMENTUM] / momentum - 1) < 0.06, "momentum %g, of %g", row[1 + MOMENTUM], momentum);
    }
    if (text && explained_row(text, "spectrum", "w_in", row))
        CHECK_MSG(row[0] < 0.1 && row[4] > 0.9 && row[4] < 1.25 && row[7] > row[3], "w_in: %g to %g, rank %g to %g", row[0],
                  row[4], row[3], row[7]);
    checkpoint_close(&before);
    checkpoint_close(&after);
    free(text);

    // The gradient's norm is that of its singular values.
    CHECK(shell("awk -F, '$1 == \"w_out\" { s += $4 * $4 } END { printf \"%%.2g\", sqrt(s) }' " RUNS "told/step7/spectra.csv "
                "> build/ran/norm.txt && grep -q \"^| w_out | 2 of 16 x 64 | muon | $(cat build/ran/norm.txt) |\" "
                RUNS "told/step7/step.md") == 0);

    // Head by head the spectra are those of heads: a layer's two, of 8 rows each, whose updates have no singular value far from 1.
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "cut --train.steps=7 --overwrite --explain=7 --optimizer.muon.per_head=true") == 0);
    char *cut = read_file(RUNS "cut/step7/step.md", NULL);
    if (cut && explained_row(cut, "spectrum", "wq, head by head", row))
        CHECK_MSG(row[4] > 0.9 && row[4] < 1.25 && row[6] > 0.5, "wq: %g to %g", row[4], row[6]);
    CHECK(shell("[ $(grep -c ^wq, " RUNS "cut/step7/spectra.csv) = 32 ] && [ $(grep -c ^wo, " RUNS "cut/step7/spectra.csv) = 32 ] && "
                "grep -q '^wq,3,8,' " RUNS "cut/step7/spectra.csv") == 0);
    free(cut);

    // A run that starts anew removes what was explained, and nobody else's file beside it.
    CHECK(shell("cd " RUNS "told && cp -r step7 step5 && mkdir step8 steps7 && touch step7/mine step8/step.md steps7/step.md") == 0);

    // Zeros are no NaN: biases, gradients and projections of a first step, a tensor that no rule owns.
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "told --train.steps=7 --train.save_every=6 --overwrite --explain=1 "
                "--model.init=speedrun --optimizer.route=wpe=none") == 0);
    CHECK(file_has(RUNS "told/step1/step.md", "| wo "));
    CHECK(shell("grep -qE '^\\| wpe \\| 1 of 16 x 16 \\| none .* \\| 0 \\| 0 \\| 0 %% \\|$' " RUNS "told/step1/step.md") == 0);
    CHECK(shell("! grep -iE 'nan|inf' " RUNS "told/step1/step.md " RUNS "told/step1/spectra.csv") == 0);

    CHECK(shell("cd " RUNS "told && [ \"$(ls -d step* step7/* step8/* steps7/* | tr '\\n' ' ')\" = "
                "'step1 step7 step7/mine step8 step8/step.md steps7 steps7/step.md ' ]") == 0);

    // What can't be written is said, and the training goes on.
    CHECK(shell("rm -r " RUNS "told/step7 && touch " RUNS "told/step7") == 0);
    CHECK(TRAIN("build/ran/run.json --run.dir=" RUNS "told --train.steps=7 --train.save_every=6 --overwrite --explain=7") == 0);
    CHECK(file_has("build/ran/err.txt", "warning: " RUNS "told/step7: step 7 is not explained: "));
    check_same_checkpoint(RUNS "untold/checkpoint.bin", RUNS "told/checkpoint.bin");
    CHECK(shell("rm " RUNS "told/step7") == 0);

    check_error_line(TRAIN("build/ran/run.json --explain=0"), 2, "--explain=0: an integer from 1 to 1000000000 expected");
    check_error_line(TRAIN("build/ran/run.json --explain=7x"), 2, "--explain=7x: an integer from 1 to 1000000000 expected");
    check_error_line(TRAIN("build/ran/run.json --explain=61"), 2, "--explain=61: train.steps is 60: there is no such step");
    check_error_line(TRAIN("--resume --run.dir=" RUNS "told --explain=7"), 2, "--explain=7: the run is already at step 7");
}

// docs/a-step.md is made anew of a tiny run: every section and both pictures; every link goes to a function's line.
TEST(the_page_of_a_step_is_made) {
    prepare_runs();
    free(test_folder("page"));
    CHECK(shell("cp docs/a-step.md build/ran/page/ && CONFIG=build/ran/run.json ADAMW=build/ran/run.json STEP=3 PAGE=build/ran/page/a-step.md "
                "ARGS=--train.steps=4 dev/a_step.sh > build/ran/out.txt 2>&1") == 0);
    CHECK(file_has("build/ran/page/a-step.md", "Step 3 of 4. Loss ") && file_has("build/ran/page/a-step.md", "| w_out | 2 of 16 x 64 | muon |"));
    CHECK(file_has("build/ran/page/a-step.md", "tau is 0.01: QK-Clip scales "));
    CHECK(file_exists("build/ran/page/singular_values.png") && file_exists("build/ran/page/directions.png"));
    CHECK(shell("sed -n '/^<!-- explain/,/^<!-- end/!p' docs/a-step.md | sed 's/#L[0-9]*//g' > build/ran/a.txt; "
                "sed -n '/^<!-- explain/,/^<!-- end/!p' build/ran/page/a-step.md | sed 's/#L[0-9]*//g' | cmp - build/ran/a.txt") == 0);
    CHECK(shell("echo '[`no_such`](../train_gpt.c#L1)' > build/ran/page/bad.md; PAGE=build/ran/page/bad.md dev/a_step.sh --links 2> build/ran/err.txt") == 1);
    CHECK(file_has("build/ran/err.txt", "error: build/ran/page/bad.md: train_gpt.c has no function no_such\n"));
}

TEST(integers_of_generate_are_integers) {
    static const char *const flags[] = {"--tokens=1.5", "--top_k=2.5", "--seed=0.5", "--tokens=0", "--tokens=1e9", "--tokens=1e3",
                                        "--samples=0", "--top_p=1.1", "--min_p=-0.1", "--repetition_penalty=0"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(flags); i++)
        check_error_line(shell("%s/generate " RUNS "none %s > build/ran/out.txt 2> build/ran/err.txt", build, flags[i]), EXIT_USAGE,
                         flags[i]);
    check_error_line(shell("%s/generate " RUNS "none --lines --json > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_USAGE, "--lines: ");
    check_error_line(shell("%s/generate " RUNS "none --tokens=1000 > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_FAILED,
                     "no such file");
}

// Sample i of several is the text of seed + i alone; lines are prompts of one text.
TEST(generate_writes_several_texts_and_behind_lines) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.steps=5 --run.dir=" RUNS "texts --overwrite") == 0);
    CHECK(shell("g='%s/generate " RUNS "texts --tokens=30 --prompt=the --top_p=0.9 --min_p=0.001 --repetition_penalty=1.2'; "
                "$g --seed=5 --samples=10 --json > build/ran/texts.jsonl && $g --seed=14 > build/ran/a.txt && "
                "$g --seed=5 --samples=10 > build/ran/b.txt", build) == 0);
    char *lines = read_file("build/ran/texts.jsonl", NULL), *line = lines, *alone = read_file("build/ran/a.txt", NULL);
    for (int i = 0; i < 10; i++) {
        JsonReader r = {0};
        char *end = strchr(line, '\n');
        CHECK(end && json_parse_object(&r, line, (size_t)(end - line)));
        CHECK(cJSON_GetObjectItem(r.root, "seed")->valueint == 5 + i && cJSON_GetObjectItem(r.root, "tokens")->valueint == 30);
        CHECK(!strcmp(cJSON_GetObjectItem(r.root, "stopped")->valuestring, "length"));
        if (i == 9) {
            char *whole = format("the%s\n", cJSON_GetObjectItem(r.root, "text")->valuestring);
            CHECK_MSG(!strcmp(whole, alone), "%s instead of %s", whole, alone);
            free(whole);
        }
        json_free(&r);
        line = end + 1;
    }
    CHECK(*line == '\0' && file_has("build/ran/b.txt", "--- sample 9, seed 14 ---\nthe"));
    free(lines), free(alone);
    // What the model wrote behind the first line is read with the second one: as one prompt of all of it would be.
    CHECK(shell("g='%s/generate " RUNS "texts --temperature=0 --tokens=8'; printf 'the\nand' | $g --lines > build/ran/lines.txt && "
                "$g --prompt=the > build/ran/a.txt && printf 'x%%sand' \"$(cat build/ran/a.txt)\" > build/ran/prompt.txt && "
                "$g --prompt=\"$(cut -b 2- < build/ran/prompt.txt)\" > build/ran/b.txt", build) == 0);
    char *read = read_file("build/ran/lines.txt", NULL), *first = read_file("build/ran/a.txt", NULL),
         *second = read_file("build/ran/b.txt", NULL), *expected = format("%s%s", first + strlen("the"), second + strlen(first) + 2);
    CHECK_MSG(!strcmp(read, expected), "%s instead of %s", read, expected);
    free(read), free(first), free(second), free(expected);
    // A line may end as Windows has it; one that the vocabulary can't say is named.
    CHECK(shell("g='%s/generate " RUNS "texts --temperature=0 --tokens=8'; printf 'the\r\n\r\nand' | $g --lines > build/ran/a.txt && "
                "printf 'the\n\nand\n' | $g --lines > build/ran/b.txt && cmp build/ran/a.txt build/ran/b.txt", build) == 0);
    check_error_line(shell("printf 'the\n<and>\nthe\n' | %s/generate " RUNS "texts --tokens=8 --lines > build/ran/out.txt 2> build/ran/err.txt",
                           build), EXIT_USAGE, "character U+003C is not in the vocabulary, in \"<and>\"");
}

// A text ends before the first end-of-text token that it has where it is written on; the others beside it go on.
TEST(a_text_ends_at_its_end_of_text) {
    enum { TEXTS = 20 };
    prepare_runs();
    CHECK(shell("rm -rf " RUNS "foreign && %s/import dev/golden/hf/gpt2 --out=" RUNS "foreign > build/ran/out.txt && "
                "g='%s/generate " RUNS "foreign --prompt=Light --temperature=100 --tokens=400 --samples=20 --json' && "
                "$g > build/ran/ends.jsonl && $g --ignore_eot > build/ran/on.jsonl", build, build) == 0);
    char *ends = read_file("build/ran/ends.jsonl", NULL), *on = read_file("build/ran/on.jsonl", NULL), *a = ends, *b = on;
    int ended = 0;
    for (int i = 0; i < TEXTS; i++) {
        JsonReader r[2] = {{0}, {0}};
        CHECK(json_parse_object(&r[0], a, strcspn(a, "\n")) && json_parse_object(&r[1], b, strcspn(b, "\n")));
        const char *text = cJSON_GetObjectItem(r[0].root, "text")->valuestring, *whole = cJSON_GetObjectItem(r[1].root, "text")->valuestring;
        const char *end = strstr(whole, "<|endoftext|>"), *stopped = cJSON_GetObjectItem(r[0].root, "stopped")->valuestring;
        int tokens = cJSON_GetObjectItem(r[0].root, "tokens")->valueint;
        size_t n = end ? (size_t)(end - whole) : strlen(whole);
        CHECK_MSG(strlen(text) == n && !strncmp(text, whole, n), "text %d: %s instead of %s", i, text, whole);
        CHECK_MSG(!strcmp(stopped, end ? "end-of-text" : "length") && (tokens == 400) == !end, "text %d: %d tokens, %s", i, tokens, stopped);
        CHECK(cJSON_GetObjectItem(r[1].root, "tokens")->valueint == 400);
        ended += end != NULL;
        json_free(&r[0]), json_free(&r[1]);
        a += strcspn(a, "\n") + 1, b += strcspn(b, "\n") + 1;
    }
    CHECK_MSG(ended > 0 && ended < TEXTS && !*a && !*b, "%d ended", ended);
    free(ends), free(on);
    // alone it ends there as well, and behind an end the next line goes on
    CHECK(shell("%s/generate " RUNS "foreign --temperature=100 --tokens=2000 --prompt=Light > build/ran/a.txt && printf 'Light\n\n' | "
                "%s/generate " RUNS "foreign --temperature=100 --tokens=2000 --lines > build/ran/b.txt", build, build) == 0);
    char *alone = read_file("build/ran/a.txt", NULL), *lines = read_file("build/ran/b.txt", NULL), *first = alone + strlen("Light");
    CHECK(!strstr(alone, "<|endoftext|>") && !strncmp(lines, first, strlen(first)) && strlen(lines) > strlen(first) + 1);
    free(alone), free(lines);
}

// A model whose weights are too large for its losses says so in every program that uses it.
TEST(a_model_that_diverged_is_named) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.steps=2 --run.dir=" RUNS "texts --overwrite") == 0);
    shell("tail -c 700 build/ran/words.txt > build/ran/text.txt; "
          "printf '{\"ctx\": \"the\", \"endings\": [\"and\", \"was\"], \"label\": \"1\"}\r\n\r\n' > build/ran/questions.jsonl");
    CHECK(shell("%s/eval " RUNS "texts build/ran/questions.jsonl > build/ran/out.txt", build) == 0);
    OpenModel o;
    model_open(&o, RUNS "texts", NULL, 1);
    for (size_t i = 0; i < o.model.n_params; i++) o.model.params[i] = 3e38f;
    CkptTensor list[CHECKPOINT_MAX_TENSORS];
    CheckpointState state = {.evaluated = -1, .progress = {0, NAN, NAN, NAN}};
    char error[ERROR_ROOM];
    int n = checkpoint_state(&state, list);
    n += checkpoint_weights(&o.model, list + n);
    CHECK_MSG(checkpoint_put("build/ran/huge.bin", NULL, list, n, &o.config, error, sizeof error), "%s", error);
    model_close(&o);
    static const char *const programs[] = {"generate " RUNS "texts", "eval " RUNS "texts build/ran/text.txt",
                                           "eval " RUNS "texts build/ran/questions.jsonl", "attention " RUNS "texts --prompt='the was'"};
    for (size_t i = 0; i < COUNT_OF(programs); i++)
        check_error_line(shell("%s/%s --checkpoint=build/ran/huge.bin > build/ran/out.txt 2> build/ran/err.txt", build, programs[i]),
                         EXIT_FAILED, "huge.bin: a model that diverged");
}

// The loss of a text, token by token in the window that is its: as windows read one after the other have it.
static double loss_in_windows(OpenModel *o, const char *text, int window, int stride, int *tokens) {
    Model *m = &o->model;
    uint32_t words[4096];
    int ids[4096];
    char error[ERROR_ROOM];
    int n = (int)tokenizer_encode(&o->tokenizer, text, strlen(text), words, error, sizeof error);
    for (int i = 0; i < n; i++) ids[i] = (int)words[i];
    if (window > n - 1) window = n - 1;
    double sum = 0;
    for (int i = 1; i < n; i++) {
        int before = i <= window ? 0 : (i - window + stride - 1) / stride, start = min_int(before * stride, n - 1 - window);
        model_loss(m, ids + start, ids + start + 1, 1, window);
        sum += m->losses[i - 1 - start];
    }
    *tokens = n - 1;
    return sum / (n - 1);
}

static double json_value(const char *path, const char *key) {
    char *text = read_file(path, NULL), error[ERROR_ROOM] = "";
    JsonReader r = {.name = path, .error = error, .room = sizeof error};
    CHECK_MSG(text && json_parse_object(&r, text, strlen(text)), "%s: %s", path, error);
    double value = r.root && cJSON_GetObjectItem(r.root, key) ? cJSON_GetObjectItem(r.root, key)->valuedouble : NAN;
    json_free(&r);
    free(text);
    return value;
}

TEST(eval_counts_each_token_in_its_window) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.steps=5 --run.dir=" RUNS "texts --overwrite") == 0);
    CHECK(shell("tail -c 700 build/ran/words.txt > build/ran/text.txt; printf 'the' > build/ran/short.txt") == 0);
    OpenModel o;
    model_open(&o, RUNS "texts", NULL, 1);
    static const int forms[][2] = {{0, 0}, {8, 4}, {8, 8}, {8, 1}, {7, 5}};
    for (size_t i = 0; i < COUNT_OF(forms); i++)
        for (int small = 0; small < 2; small++) {
            int window = forms[i][0] ? forms[i][0] : o.model.T, stride = forms[i][1] ? forms[i][1] : window / 2, tokens;
            char *path = small ? "build/ran/short.txt" : "build/ran/text.txt", *text = read_file(path, NULL);
            char *flags = forms[i][0] ? format("--window=%d --stride=%d", window, stride) : xstrdup("");
            double expected = loss_in_windows(&o, text, window, stride, &tokens);
            CHECK(shell("%s/eval " RUNS "texts %s %s --json > build/ran/out.json 2> build/ran/err.txt", build, path, flags) == 0);
            double loss = json_value("build/ran/out.json", "loss"), bits = json_value("build/ran/out.json", "bits_per_byte");
            CHECK_MSG(fabs(loss - expected) < 1e-5, "%s %s: %.7f instead of %.7f", path, flags, loss, expected);
            CHECK(json_value("build/ran/out.json", "tokens") == tokens);
            // all but the first character, each a token of one byte
            CHECK_MSG(fabs(bits - expected / log(2)) < 1e-5 && json_value("build/ran/out.json", "bytes") == tokens, "%g bits", bits);
            free(text), free(flags);
        }
    model_close(&o);
}

// The ending that a model takes is the one that its own losses say, per token and in all.
TEST(eval_answers_by_the_loss_of_endings) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.steps=5 --run.dir=" RUNS "texts --overwrite") == 0);
    OpenModel o;
    model_open(&o, RUNS "texts", NULL, 1);
    static const char *const endings[] = {"earth", "tttttttt", "the heaven and the earth was good the water was light and the earth"};
    double best[2] = {INFINITY, INFINITY};
    int taken[2] = {0};
    for (int e = 0; e < 3; e++) {
        char *text = format("the heaven and the %s", endings[e]);
        uint32_t words[256];
        int ids[256], n_end = (int)strlen(endings[e]) + 1;
        char error[ERROR_ROOM];
        int n = (int)tokenizer_encode(&o.tokenizer, text, strlen(text), words, error, sizeof error);
        for (int i = 0; i < n; i++) ids[i] = (int)words[i];
        int T = min_int(n - 1, o.model.T), *at = ids + n - 1 - T;           // what doesn't fit is cut in front
        n_end = min_int(n_end, T);
        model_loss(&o.model, at, at + 1, 1, T);
        double sum = 0;
        for (int i = T - n_end; i < T; i++) sum += o.model.losses[i];
        if (sum / n_end < best[0]) best[0] = sum / n_end, taken[0] = e;
        if (sum < best[1]) best[1] = sum, taken[1] = e;
        free(text);
    }
    CHECK(taken[0] != taken[1]);
    FILE *f = fopen("build/ran/questions.jsonl", "w");
    for (int label = 0; label < 3; label++)
        fprintf(f, "{\"ctx\": \"the heaven and the\", \"endings\": [\"%s\", \"%s\", \"%s\"], \"label\": %d}\n", endings[0], endings[1],
                endings[2], label);
    for (int i = 0; i < 2; i++)
        fprintf(f, "{\"ctx\": \"the heaven and the\", \"endings\": [\"%s\", \"%s\", \"%s\"], \"label\": \"%d\"}\n", endings[0], endings[1],
                endings[2], taken[0]);
    fclose(f);
    CHECK(shell("%s/eval " RUNS "texts build/ran/questions.jsonl --json > build/ran/out.json", build) == 0);
    CHECK(json_value("build/ran/out.json", "questions") == 5);
    CHECK(fabs(json_value("build/ran/out.json", "accuracy_per_token") - 0.6) < 1e-6);
    CHECK(fabs(json_value("build/ran/out.json", "accuracy") - 0.2) < 1e-6);
    model_close(&o);
    static const char *const bad[][2] = {
        {"{\"ctx\": 1}", ":1: ctx: a string"}, {"\n{\"ctx\": \"a\", \"endings\": [\"b\"]}", ":2: endings: two strings"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 2}", ":1: label: the number of an ending, 0 to 1"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"\"}", ":1: label: the number of an ending, 0 to 1"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"1st\"}", ":1: label: the number of an ending, 0 to 1"},
        {"{\"ctx\": \"a\", \"endings\": [\"a\", 3], \"label\": 0}", ":1: endings: strings"}, {"", "no question"}, {"{", ":1: expected"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK(write_file("build/ran/bad.jsonl", bad[i][0], strlen(bad[i][0])) == 0);
        check_error_line(shell("%s/eval " RUNS "texts build/ran/bad.jsonl > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_FAILED,
                         bad[i][1]);
    }
    check_error_line(shell("%s/eval " RUNS "texts build/ran/text.txt --stride=1000 > build/ran/out.txt 2> build/ran/err.txt", build),
                     EXIT_USAGE, "--stride=1000");
    check_error_line(shell("%s/eval " RUNS "texts /nowhere > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_FAILED, "/nowhere");
}

// A picture, and the largest logits of the forward pass in numbers.
TEST(attention_draws_every_head) {
    prepare_runs();
    CHECK(TRAIN("build/ran/run.json --train.steps=5 --run.dir=" RUNS "texts --overwrite") == 0);
    CHECK(shell("%s/attention " RUNS "texts --prompt='and the was' --out=build/ran/heads.png > build/ran/out.txt", build) == 0);
    size_t size;
    char *png = read_file("build/ran/heads.png", &size), *out = read_file("build/ran/out.txt", NULL), *at = out;
    CHECK(png && size > 1000 && !memcmp(png, "\x89PNG", 4));
    OpenModel o;
    model_open(&o, RUNS "texts", NULL, 1);
    uint32_t words[16];
    int ids[16];
    char error[ERROR_ROOM];
    int n = (int)tokenizer_encode(&o.tokenizer, "and the was", 11, words, error, sizeof error);
    for (int i = 0; i < n; i++) ids[i] = (int)words[i];
    trunk_forward(&o.model, ids, (Batch){.B = 1, .T = n});
    at = strchr(at, '\n');
    for (int i = 0; i < o.model.L * o.model.NH; i++) {
        double value = strtod(at, &at), expected = o.model.sequence_max[i];
        CHECK_MSG(fabs(value - expected) <= 0.006 * fabs(expected), "head %d: %g instead of %g", i, value, expected);
    }
    model_close(&o);
    free(png), free(out);
    check_error_line(shell("%s/attention " RUNS "texts > build/ran/out.txt 2> build/ran/err.txt", build), EXIT_USAGE, "--prompt");
    check_error_line(shell("%s/attention " RUNS "texts --prompt=$(printf '%%0100d' 0 | tr 0 a) > build/ran/out.txt 2> build/ran/err.txt", build),
                     EXIT_USAGE, "100 tokens; at most");
}

// However long the names are, the line ends with what is wrong.
TEST(a_long_path_leaves_room_for_the_reason) {
    char part[201], error[ERROR_ROOM], *dir = format(RUNS "long");
    prepare_runs();
    shell("rm -rf %s", dir);
    memset(part, 'x', 200), part[200] = '\0';
    for (int i = 0; i < 4; i++) {
        char *deeper = format("%s/%s", dir, part);
        free(dir);
        dir = deeper;
    }
    CHECK(TRAIN("build/ran/run.json --train.steps=4 --run.dir=%s", dir) == 0);
    shell("truncate -s -4 %s/checkpoint.bin", dir);
    CHECK(TRAIN("--resume --train.steps=8 --run.dir=%s", dir) == EXIT_FAILED && file_has("build/ran/err.txt", ": cut off"));
    CHECK(shell("%s/generate %s > build/ran/out.txt 2> build/ran/err.txt", build, dir) == EXIT_FAILED &&
          file_has("build/ran/err.txt", ": cut off"));
    shell("echo '1 tokens, hash 1' > %s/vocabulary", dir);
    CHECK(shell("%s/generate %s > build/ran/out.txt 2> build/ran/err.txt", build, dir) == EXIT_FAILED);
    char *tokenizer = format("%s/tokenizer.bin", dir), *text = read_file("build/ran/err.txt", NULL);
    Tokenizer t;
    CHECK(tokenizer_load(&t, tokenizer, error, sizeof error) == 0 &&
          tokenizer_check(&t, tokenizer, dir, error, sizeof error) != 0);
    CHECK_MSG(strstr(text, error) && strlen(error) > 1000, "%s", text);
    tokenizer_free(&t);
    free(tokenizer), free(text), free(dir);
}

// ---------------------------------------------------------------------------------------------------------------------
// Power cuts, and what others do to a run's data and folder

// What must stand in a run's folder: a checkpoint with what it depends on, or nothing that keeps a new run from it.
static void check_after_power_cut(const char *dir) {
    char *paths[] = {format("%s/checkpoint.bin", dir), format("%s/checkpoint.prev.bin", dir), format("%s/log.jsonl", dir),
                     format("%s/config.json", dir)};
    bool begun = file_exists(paths[0]);
    if (begun) {
        RunLog log;
        const char *good = is_sound(paths[0]) ? paths[0] : paths[1];
        CHECK_MSG(is_sound(good), "%s", dir);
        char *config = read_file(paths[3], NULL);
        CHECK_MSG(config && strlen(config) > 2 && !strcmp(config + strlen(config) - 2, "}\n"), "%s: config.json: %.20s", dir, config);
        free(config);
        CHECK_MSG(run_wrote_tokenizer(dir, "tokenizer.bin"), "%s: another tokenizer", dir);
        bool read = runlog_read(paths[2], &log) == 0;
        CHECK_MSG(read && runlog_last_step(&log) >= step_of(good), "%s: log up to %ld", dir, read ? runlog_last_step(&log) : -1);
        runlog_free(&log);
    }
    char *foreign = run_foreign_file(dir, "build/ran/data/tokenizer.bin");
    CHECK_MSG(!foreign, "%s", foreign);
    free(foreign);
    for (size_t i = 0; i < COUNT_OF(paths); i++) free(paths[i]);
}

// The volume keeps as little as it may, and all its cuts are looked at: of a run, of one that goes on, of one begun anew.
TEST(a_power_cut_leaves_a_run_that_goes_on) {
    static const char *const steps[] = {"build/ran/run.json --train.steps=6 --train.eval_every=2 --train.save_every=2",
                                        "--resume --train.steps=9 --train.save_every=1",
                                        "build/ran/run.json --train.steps=6 --train.save_every=3 --overwrite"};
    prepare_runs();
    free(test_folder("runs/power"));
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        char *arguments = format("%s --run.dir=" RUNS "power", steps[i]), *dir;
        power_cuts = test_folder("power");
        power_folder = RUNS "power";
        CHECK_MSG(train_hooked(arguments) == 0, "%s", arguments);
        power_folder = NULL;
        int n = 0;
        for (; file_exists(dir = format("%s/%d%c", power_cuts, n / 2, 'a' + n % 2)); free(dir), n++)
            if (i < 2) check_after_power_cut(dir);
            else CHECK_MSG(run_begun(dir) || !run_foreign_file(dir, "build/ran/data/tokenizer.bin"), "%s", dir);
        CHECK_MSG(n > 40, "%d cuts", n);
        free(dir), free(arguments), free((char *)(uintptr_t)power_cuts);
    }
}

// A log that lacks steps of the checkpoint is said; what a power cut left behind them goes.
TEST(a_log_behind_its_checkpoint_is_said) {
    CHECK(TRAIN("build/ran/run.json --train.steps=20 --run.dir=" RUNS "behind --overwrite") == 0);
    shell("cp " RUNS "behind/log.jsonl build/ran/kept.jsonl; printf '\\0\\0\\0\\n{\"event\": \"step\", \"step\": 22' >> " RUNS "behind/log.jsonl");
    CHECK(TRAIN("--resume --train.steps=21 --run.dir=" RUNS "behind") == 0);
    CHECK(shell("test ! -s build/ran/err.txt") == 0);
    shell("sed '/\"step\": 6,/,$d' build/ran/kept.jsonl > " RUNS "behind/log.jsonl");
    check_error_line(TRAIN("--resume --train.steps=22 --run.dir=" RUNS "behind"), 0,
                     RUNS "behind/log.jsonl: ends at step 5, the checkpoint is of step 21");
    RunLog log;
    CHECK(runlog_read(RUNS "behind/log.jsonl", &log) == 0 && runlog_last_step(&log) == 22);
    runlog_free(&log);
}

// The first half of another text in a shard, or half a shard: the run ends at its next save, and saves nothing more.
TEST(a_shard_that_changes_ends_the_run) {
    static const char *const changes[] = {"dd if=${f%/*}/val_000000.bin of=$f conv=notrunc 2> build/ran/n.txt",
                                          "truncate -s 2048 $f"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        shell("rm -rf build/ran/shards " RUNS "shards; cp -r build/ran/data build/ran/shards");
        char *then = format("f=build/ran/shards/train_000000.bin; %s; cp " RUNS "shards/checkpoint.bin build/ran/kept.bin", changes[i]);
        int code = train_until("build/ran/run.json --train.steps=20000 --data.dir=build/ran/shards --run.dir=" RUNS "shards",
                               RUNS "shards", "\"step\": 30,", then);
        check_error_line(code, EXIT_FAILED, "build/ran/shards/train_000000.bin: was overwritten or cut while in use");
        CHECK(is_sound(RUNS "shards/checkpoint.bin"));
        Checkpoint now, kept;
        char error[512];
        if (checkpoint_open(&now, RUNS "shards/checkpoint.bin", error, sizeof error) == 0) {
            if (checkpoint_open(&kept, "build/ran/kept.bin", error, sizeof error) == 0) {
                CHECK(*(const int64_t *)scalar(&now, "data_fingerprint")->data == *(const int64_t *)scalar(&kept, "data_fingerprint")->data);
                checkpoint_close(&kept);
            }
            checkpoint_close(&now);
        }
        free(then);
    }
    // one that was only touched, and a folder that another one takes the place of, are no change
    shell("rm -rf build/ran/shards " RUNS "shards; cp -r build/ran/data build/ran/shards");
    CHECK(train_until("build/ran/run.json --train.steps=300 --data.dir=build/ran/shards --run.dir=" RUNS "shards", RUNS "shards",
                      "\"step\": 30,", "touch build/ran/shards/*; mv build/ran/shards build/ran/shards.old; mkdir build/ran/shards") == 0);
    shell("rm -rf build/ran/shards.old");
}

TEST(a_folder_that_is_another_ones_is_left_alone) {
    static const char *const then[] = {"rm -r " RUNS "lost; mkdir " RUNS "lost", "mv " RUNS "lost " RUNS "lost.moved", "rm -r " RUNS "lost"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(then); i++) {
        shell("rm -rf " RUNS "lost " RUNS "lost.moved");
        int code = train_until("build/ran/run.json --train.steps=20000 --train.eval_every=0 --train.save_every=500 --run.dir=" RUNS "lost", RUNS "lost",
                               "\"step\": 5,", then[i]);
        check_error_line(code, EXIT_FAILED, RUNS "lost: was removed, moved or replaced while in use");
        CHECK_MSG(shell("test -z \"$(ls " RUNS "lost 2> build/ran/n.txt)\"") == 0, "%s", then[i]);
    }
    CHECK(log_ends_with(RUNS "lost.moved", "failed") || !file_exists(RUNS "lost.moved"));
}

// What a folder was prepared with is in its fingerprint: sizes, and checksums of what is read whole.
TEST(a_prepared_folder_that_is_another_is_refused) {
    static const struct { const char *change, *words; } changes[] = {
        { "truncate -s 4000 train_000000.bin", "train_000000.bin: the header says" },
        { ": > val_000000.bin", "val_000000.bin: 0 bytes" },
        { "cp train_000000.bin val_000000.bin", "val_000000.bin: 13624 bytes, but build/ran/sealed/fingerprint says 2424" },
        { "printf '\\1' | dd of=train_000000.bin bs=1 seek=5000 conv=notrunc 2> out", "train_000000.bin: checksum " },
        { "rm train_000001.bin", "train_000001.bin: is missing, which build/ran/sealed/fingerprint lists" },
        { "cp train_000000.bin train_000002.bin", "train_000002.bin: is not among the shards that build/ran/sealed/fingerprint lists" },
        { "echo x >> fingerprint", "fingerprint: line 6: \"x\": a shard's checksum, bytes and name expected" },
    };
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        CHECK(shell("rm -rf build/ran/new build/ran/sealed; cp -r build/ran/data build/ran/new; rm -f build/ran/new/fingerprint; "
                    "cp build/ran/new/train_000000.bin build/ran/new/train_000001.bin; "
                    "printf 'words\\nof words\\n' | %s/tokenize install build/ran/new build/ran/sealed", build) == 0);
        CHECK(shell("%s/tokenize verify build/ran/sealed", build) == 0);
        CHECK(TRAIN("build/ran/run.json --train.steps=1 --data.dir=build/ran/sealed --run.dir=" RUNS "sealed --overwrite") == 0);
        CHECK(shell("cd build/ran/sealed && { %s; }", changes[i].change) == 0);
        check_error_line(TRAIN("build/ran/run.json --train.steps=1 --data.dir=build/ran/sealed --run.dir=" RUNS "sealed --overwrite"),
                         EXIT_FAILED, changes[i].words);
        check_error_line(shell("%s/tokenize verify build/ran/sealed 2> build/ran/err.txt", build), EXIT_FAILED, changes[i].words);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The best model

// The step of the lowest validation loss behind step 0, by the log.
static long best_of_log(const char *folder, double *loss) {
    char *path = format("%s/log.jsonl", folder);
    RunLog log;
    long best = -1;
    *loss = INFINITY;
    if (runlog_read(path, &log) == 0)
        for (int i = 0; i < log.n_evals; i++)
            if (log.evals[i].step > 0 && runlog_sample_loss(&log.evals[i]) < *loss) {
                *loss = runlog_sample_loss(&log.evals[i]);
                best = log.evals[i].step;
            }
    runlog_free(&log);
    free(path);
    return best;
}

static void check_same_weights(const char *a, const char *b) {
    Checkpoint ca, cb;
    char error[512];
    if (checkpoint_open(&ca, a, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    if (checkpoint_open(&cb, b, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); checkpoint_close(&ca); return; }
    int compared = 0;
    for (int i = 0; i < ca.n_tensors; i++) {
        const CkptTensor *x = &ca.tensors[i], *y = checkpoint_find(&cb, x->name);
        uint64_t n;
        if (strncmp(x->name, "w.", 2) || !ckpt_bytes(x, &n)) continue;
        compared++;
        CHECK_MSG(y && !memcmp(x->data, y->data, n), "%s and %s differ in %s", a, b, x->name);
    }
    CHECK(compared > 10);
    checkpoint_close(&ca);
    checkpoint_close(&cb);
}

// Training that gets worse: a good start, then a rate that is too large.
static void train_to_the_worse(const char *folder) {
    CHECK(TRAIN("build/ran/run.json --train.steps=60 --schedule.kind=constant --run.dir=%s --overwrite", folder) == 0);
    char *best = format("%s/checkpoint.best.bin", folder);
    CHECK_MSG(!file_exists(best), "%s: the last model is the best", best);
    free(best);
    CHECK(TRAIN("--run.dir=%s --resume --train.steps=120 --train.save_every=30 --optimizer.adamw.lr=10 "
                "--optimizer.muon.lr=1", folder) == 0);
}

TEST(the_best_model_is_kept_said_and_sampled) {
    prepare_runs();
    train_to_the_worse(RUNS "best");
    double loss;
    long best = best_of_log(RUNS "best", &loss);
    CHECK_MSG(best > 0 && best < 120 && step_of(RUNS "best/checkpoint.best.bin") == best, "best step %ld", best);
    CHECK(fabs(val_loss_of(RUNS "best/checkpoint.best.bin") - loss) < 1e-6 || best == 60);
    char *words = format("best validation loss %.4f at step %ld, kept in " RUNS "best/checkpoint.best.bin", loss, best);
    CHECK(file_has("build/ran/out.txt", words));
    free(words);
    words = format("--- sample of step %ld ---", best);
    CHECK(file_has("build/ran/out.txt", words));
    free(words);
    if (best == 60) {                                        // its weights are those of the run that ended there
        CHECK(TRAIN("build/ran/run.json --train.steps=60 --schedule.kind=constant --run.dir=" RUNS "first --overwrite") == 0);
        check_same_weights(RUNS "best/checkpoint.best.bin", RUNS "first/checkpoint.bin");
    }
    CHECK(shell("g='%s/generate " RUNS "best --tokens=60 --prompt=the'; $g > build/ran/a.txt 2> build/ran/err.txt && "
                "$g --checkpoint=" RUNS "best/checkpoint.best.bin > build/ran/b.txt && "
                "$g --checkpoint=" RUNS "best/checkpoint.bin > build/ran/c.txt && "
                "cmp -s build/ran/a.txt build/ran/b.txt && ! cmp -s build/ran/a.txt build/ran/c.txt", build) == 0);
    CHECK(file_has("build/ran/err.txt", "checkpoint.best.bin: step "));
    // it is no state to go on from, and goes with its run
    check_error_line(TRAIN("--run.dir=" RUNS "best --resume=" RUNS "best/checkpoint.best.bin"), EXIT_FAILED, "best weights alone");
    CHECK(TRAIN("build/ran/run.json --train.steps=3 --run.dir=" RUNS "best --overwrite") == 0);
    CHECK(!file_exists(RUNS "best/checkpoint.best.bin"));
}

// Equal losses: the first is the best, in one go and after a resume, whose log has rounded it.
TEST(of_equal_losses_the_first_is_the_best) {
    prepare_runs();
    static const char *const still = "--optimizer.name=muon --optimizer.muon.lr=0 --optimizer.adamw.lr=0 --optimizer.qk_clip.tau=0 "
                                     "--train.eval_every=2 --train.save_every=2";
    CHECK(TRAIN("build/ran/run.json %s --train.steps=12 --run.dir=" RUNS "once --overwrite", still) == 0);
    CHECK(file_has("build/ran/out.txt", "at step 2, kept in") && file_has("build/ran/out.txt", "no better"));
    CHECK(TRAIN("build/ran/run.json %s --train.steps=8 --run.dir=" RUNS "twice --overwrite", still) == 0);
    CHECK(TRAIN("--run.dir=" RUNS "twice --resume --train.steps=12") == 0);
    CHECK(file_has("build/ran/out.txt", "at step 2, kept in"));
}

// Killed anywhere behind the best, and with a best model of a future that is trained anew, a run ends with the same one.
TEST(the_best_model_is_the_same_after_any_death) {
    prepare_runs();
    train_to_the_worse(RUNS "best");
    double loss, again;
    long best = best_of_log(RUNS "best", &loss);
    CHECK(TRAIN("build/ran/run.json --train.steps=60 --schedule.kind=constant --run.dir=" RUNS "killed --overwrite") == 0);
    int code = train_until("--run.dir=" RUNS "killed --resume --train.steps=120 --train.save_every=30 --optimizer.adamw.lr=10 "
                           "--optimizer.muon.lr=1", RUNS "killed", "\"step\": 95,", "kill -KILL $pid");
    CHECK_MSG(code == 128 + SIGKILL, "exit code %d", code);
    CHECK(TRAIN("--run.dir=" RUNS "killed --resume") == 0);
    CHECK(best_of_log(RUNS "killed", &again) == best && again == loss);
    check_same_weights(RUNS "best/checkpoint.best.bin", RUNS "killed/checkpoint.best.bin");
    // from step 90 on the best model of the end would be from the future; with a rate that is good the last one is the best
    forge(RUNS "killed/checkpoint.best.bin", RUNS "killed/checkpoint.best.bin", "step", 0, &(int64_t){119}, 8);
    forge(RUNS "killed/checkpoint.best.bin", RUNS "killed/checkpoint.best.bin", "optimizer_t", 0, &(int64_t){119}, 8);
    forge(RUNS "killed/checkpoint.best.bin", RUNS "killed/checkpoint.best.bin", "evaluated", 0, &(int64_t){119}, 8);
    CHECK(TRAIN("--run.dir=" RUNS "killed --resume=" RUNS "killed/checkpoint.prev.bin --optimizer.adamw.lr=0.01 "
                "--optimizer.muon.lr=0.01") == 0);
    best = best_of_log(RUNS "killed", &loss);
    char *words = format("best validation loss %.4f at step %ld, no longer kept", loss, best);
    CHECK(file_exists(RUNS "killed/checkpoint.best.bin") ? step_of(RUNS "killed/checkpoint.best.bin") == best
                                                          : best == 120 || file_has("build/ran/out.txt", words));
    free(words);
}

// ---------------------------------------------------------------------------------------------------------------------
// Where nothing can be written

#define OUT "build/ran/out.txt"
#define ERR " 2> build/ran/err.txt"

TEST(a_full_stdout_fails_every_program) {
    CHECK(TRAIN("build/ran/run.json --train.steps=2 --run.dir=" RUNS "full --overwrite") == 0);
    static const char *const programs[] = { "generate " RUNS "full --tokens=5", "generate --help", "plot " RUNS "full", "plot --help", "ab --help",
                                            "tokenize --help", "tokenize info build/ran/data" };
    for (size_t i = 0; i < COUNT_OF(programs); i++) {
        check_error_line(shell("%s/%s > /dev/full" ERR, build, programs[i]), 1, "stdout: cannot be written: No space left");
        check_error_line(shell("%s/%s >&-" ERR, build, programs[i]), 1, "stdout: cannot be written: Bad file desc");
        CHECK(shell("%s/%s" ERR " | true; ! grep stdout build/ran/err.txt", build, programs[i]) == 0);
    }
    static const char *const trainings[] = { "--help", "--help=markdown", "--print-config",
                                             "build/ran/run.json --train.steps=2 --overwrite --run.dir=" RUNS "full" };
    for (size_t i = 0; i < COUNT_OF(trainings); i++) {
        check_error_line(shell("%s %s > /dev/full" ERR, trainer, trainings[i]), 1, "stdout: cannot be written: No space left");
        check_error_line(shell("%s %s >&-" ERR, trainer, trainings[i]), 1, "stdout: cannot be written: Bad file desc");
    }
    // More than fits a stream's buffer: the reason is still that of the first write.
    check_error_line(shell("%s/generate " RUNS "full --prompt=\"$(printf %%9000s '' | tr ' ' a)\" --tokens=1 > /dev/full" ERR, build), 1,
                     "stdout: cannot be written: No space left");
    // What was trained stays whole: no file of the run became stdout.
    CHECK(TRAIN("--resume --run.dir=" RUNS "full --train.steps=3") == 0);
}

// No program dies of SIGXFSZ: with room for n blocks it says which file has none, or all is well.
TEST(a_file_size_limit_is_said) {
    prepare_runs();
    free(test_folder("limit"));
#define LIMITED "ulimit -f %d; exec "           // blocks of 512 bytes
    check_error_line(shell(LIMITED "%s --help > build/ran/limit/out" ERR, 2, trainer), 1, "stdout: cannot be written: File too large");
    for (int n = 1; n < 300; n = n * 2 + 1) {
        int code = shell(LIMITED "%s build/ran/run.json --train.steps=4 --overwrite --run.dir=build/ran/limit/run > /dev/null" ERR, n, trainer);
        if (code != 0) CHECK(shell("sed -i '/^warning: .*not drawn: File too large$/d' build/ran/err.txt") == 0);
        if (code != 0) check_error_line(code, 1, "cannot be written: File too large");
        if (code == 0) CHECK_MSG(n > 0 && file_exists("build/ran/limit/run/checkpoint.bin"), "limit %d", n);
        code = shell("ulimit -f %d; seq 1000 | %s/chart build/ran/limit/x.png A" ERR, n, build);
        CHECK(code == 1);
        code = shell("ulimit -f %d; { echo 'panel A'; echo 'line B'; seq 9 | sed 's/.*/& &/'; } | %s/chart build/ran/limit/x.png A" ERR, n, build);
        if (code != 0) check_error_line(code, 1, "x.png: File too large");
    }
}

// A font of 4 GB of zeros, and an image library that ends its process: the training goes on, with a warning.
TEST(a_picture_that_cannot_be_drawn_is_a_warning) {
#ifdef __SANITIZE_ADDRESS__
    puts("    the sanitizer's own memory is beyond the limit: not tested");
    return;
#endif
    prepare_runs();
    CHECK(shell("truncate -s 4G build/ran/font.ttf; ulimit -v 400000; MUON_FONT=build/ran/font.ttf OMP_NUM_THREADS=1 %s build/ran/run.json "
                "--train.steps=2 --overwrite --run.dir=" RUNS "font > build/ran/out.txt" ERR "; code=$?; rm build/ran/font.ttf; exit $code",
                trainer) == 0);
    CHECK(file_has("build/ran/err.txt", "warning: " RUNS "font/loss.png: not drawn: out of memory: "));
    CHECK(shell("! grep -q '^error' build/ran/err.txt") == 0 && !file_exists(RUNS "font/loss.png") && step_of(RUNS "font/checkpoint.bin") == 2);
}

static char *large;

static void no_more_memory(size_t bytes) {
    large = memset(xmalloc(bytes + 1), 'a', bytes);
    large[bytes] = '\0';
    setrlimit(RLIMIT_AS, &(struct rlimit){ 1 << 20, 1 << 20 });
}

static void json_without_memory(void *arg) {
    (void)arg;
    no_more_memory(64 << 20);
    if (cJSON_CreateString(large)) _exit(99);
}

static void log_without_memory(void *arg) {
    size_t size;
    bool cut;
    char *text = read_file((const char *)arg, &size), *next;
    no_more_memory(64 << 20);
    if (!runlog_next(text, text + size, &next, &cut)) fail("damaged");
}

static void stream_without_memory(void *arg) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    (void)arg;
    no_more_memory(64 << 20);
    fputs(large, f);
    text_close(f, &text);
}

// No memory is no damage.
TEST(without_memory_is_said) {
#ifdef __SANITIZE_ADDRESS__
    puts("    the sanitizer's own memory is beyond the limit: not tested");
    return;
#endif
    prepare_runs();
    // an event with a list that takes 64 MB
    CHECK(shell("{ printf '{\"event\": \"x\", \"list\": [0'; yes ,0 | head -n 1000000 | tr -d '\\n'; echo ']}'; } > build/ran/long.jsonl") == 0);
    CHECK_FAILS(json_without_memory, NULL, 1, "out of memory: ");
    CHECK_FAILS(log_without_memory, "build/ran/long.jsonl", 1, "out of memory: ");
    CHECK_FAILS(stream_without_memory, NULL, 1, "out of memory");
}

// Every program but the examples that are compiled without the project begins alike.
TEST(every_main_begins_as_it_must) {
    CHECK(shell("for f in $(grep -l '^int main(' train_gpt.c data/*.c tools/*.c dev/*.c dev/bench/*.c dev/exp/*.c dev/exp/*/*.c | grep -v -e dev/mlp.c -e model_tools.c); do "
                "grep -q '^    program_begin();' $f || grep -q '^    lab_begin(' $f || { echo \"    $f\"; exit 1; }; done") == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Runs by the clock (train.minutes), whose arithmetic test_budget.c has

#define BY_CLOCK "build/ran/run.json --schedule.kind=trapezoid --schedule.warmup=0.1 --train.save_every=40 --overwrite "

static double a_second(int step) { (void)step; return 1; }
static double slows_down(int step) { return step < 10 ? 1 : 2; }
static double gets_busy(int step) { return step < 38 ? 1 : 2; }          // in the cooldown
static double gets_free(int step) { return step < 38 ? 1 : 0.4; }

// The steps that the run has in the end, and the seconds when its cooldown began. bends: how often its log says that the clock
// changed the steps.
static long steps_fixed_in(const char *folder, double *seconds, int *bends) {
    char *path = format("%s/log.jsonl", folder), *text = read_file(path, NULL), *line = text;
    long steps = -1, step;
    double minutes, used;
    *bends = -1;
    for (; line && (line = strstr(line, "{\"event\": \"steps\"")); line++) {
        long before = steps;
        CHECK(sscanf(line, "{\"event\": \"steps\", \"step\": %ld, \"steps\": %ld, \"minutes\": %lf, \"seconds\": %lf}", &step, &steps, &minutes, &used) == 4);
        CHECK(minutes == 1 && steps >= step && steps != before);
        if (++*bends == 0) *seconds = used;
    }
    RunLog log;
    CHECK(runlog_read(path, &log) == 0);
    CHECK(runlog_all_steps(&log) == (double)steps);
    runlog_free(&log);
    free(path), free(text);
    return steps;
}

// The run in the folder is the one that its config.json repeats, without a clock: weights, moments, log, config.
static void check_repeats(const char *folder) {
    char *again = format("%s-again", folder), *made = format("%s/checkpoint.bin", folder), *repeated = format("%s/checkpoint.bin", again);
    CHECK(TRAIN("%s/config.json --run.dir=%s --overwrite", folder, again) == 0);
    check_same_checkpoint(made, repeated);
    char *a = log_without_times(folder), *b = log_without_times(again);
    for (char *event; (event = strstr(a, "{\"event\": \"steps\"")); ) memmove(event, strchr(event, '\n') + 1, strlen(strchr(event, '\n') + 1) + 1);
    CHECK_MSG(!strcmp(a, b), "the logs differ: %zu and %zu bytes", strlen(a), strlen(b));
    CHECK(shell("sed '/\"dir\": \"build.ran.runs/d' %s/config.json > build/ran/a.txt; sed '/\"dir\": \"build.ran.runs/d' %s/config.json > build/ran/b.txt; "
                "cmp build/ran/a.txt build/ran/b.txt", folder, again) == 0);
    free(again), free(made), free(repeated), free(a), free(b);
}

TEST(a_run_by_the_clock_is_the_run_of_its_steps) {
    static const struct { double (*pace)(int); const char *more; int least, most, bends; } cases[] = {
        {a_second, "", 56, 59, 0}, {slows_down, "", 32, 35, 0}, {a_second, "--train.local_steps=5 --train.eval_every=20", 50, 55, 1},
        {a_second, "--optimizer.ema_nesterov.beta=1 --optimizer.ema_nesterov.begin=5 --optimizer.tail_ema.mix=0.5", 56, 59, 0},
        {gets_busy, "", 46, 50, 9}, {gets_free, "", 80, 90, 9},
        {gets_busy, "--train.local_steps=5 --train.eval_every=20 --schedule.final=0.1", 45, 50, 9},
        {gets_busy, "--optimizer.ema_nesterov.beta=1 --optimizer.ema_nesterov.begin=5 --optimizer.tail_ema.mix=0.5 "
                    "--optimizer.tail_ema.begin=0.7", 46, 50, 9},
        {a_second, "--schedule.kind=constant", 57, 59, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i += SANITIZED ? 3 : 1) {
        double seconds = 0;
        int bends;
        char *arguments = format(BY_CLOCK "--train.minutes=1 --run.dir=" RUNS "clock %s", cases[i].more);
        step_seconds = cases[i].pace;
        int code = train_hooked(arguments);
        step_seconds = NULL;
        long steps = steps_fixed_in(RUNS "clock", &seconds, &bends);
        CHECK_MSG(code == 0 && steps >= cases[i].least && steps <= cases[i].most && bends <= cases[i].bends && (bends > 0) == (cases[i].bends > 0),
                  "%s: exit code %d, %ld steps, %d bends", arguments, code, steps, bends);
        CHECK(step_of(RUNS "clock/checkpoint.bin") == steps && (!strstr(arguments, "local_steps") || steps % 5 == 0));
        CHECK_MSG(shell("grep -Eq '^time: (5[4-9] s|1:0[0-3]) of 1:00' build/ran/out.txt || { grep ^time: build/ran/out.txt; false; }") == 0, "%s", arguments);
        CHECK(!bends || file_has("build/ran/out.txt", cases[i].pace == gets_busy ? ", fewer, to end in time\n" : ", more, since there is time\n"));
        if (i + 1 < COUNT_OF(cases)) CHECK(seconds > 25 && seconds < 40 && file_has("build/ran/out.txt", ", the cooldown begins\n"));
        check_repeats(RUNS "clock");
        free(arguments);
    }
}

// A bent cooldown, by hand: from 1 at step 60 towards 0.1 at 100, from step 70 to 90, from step 80 to 120.
TEST(a_bent_cooldown_is_lines_that_meet) {
    static double bends[] = {70, 100, 80, 90};
    Config c = {.train.steps = 120, .schedule = {.kind = SCHEDULE_TRAPEZOID, .warmup = 0.1, .cooldown = 0.4, .final = 0.1, .bends = {4, bends}}};
    const double at70 = 1 - 0.9 * 10 / 40, at80 = at70 + (0.1 - at70) * 10 / 20;
    for (int step = 0; step < 120; step++) {
        double expected = step < 10 ? (step + 1) / 11.0 : step <= 60 ? 1 : step <= 70 ? 1 - 0.9 * (step - 60) / 40
                        : step <= 80 ? at70 + (0.1 - at70) * (step - 70) / 20 : at80 + (0.1 - at80) * (step - 80) / 40;
        CHECK_MSG(fabs(schedule_factor(&c, step) - expected) < 1e-12, "step %d: %g, not %g", step, schedule_factor(&c, step), expected);
    }
    Config straight = c;
    straight.train.steps = 100, straight.schedule.bends.n = 0;           // the same bits before the first bend
    for (int step = 0; step < 70; step++) CHECK(schedule_factor(&c, step) == schedule_factor(&straight, step));
}

// The seconds that a run has used are in its checkpoint; those of its steps once they are decided.
TEST(a_run_by_the_clock_goes_on_in_its_minutes) {
    double seconds;
    int bends;
    for (int when = 0; when < 3; when++) {               // before the cooldown, in it, and in one that the clock has bent
        step_seconds = when < 2 ? a_second : gets_busy;
        signal_at = when == 0 ? 20 : when == 1 ? 50 : 44;
        CHECK(train_hooked(BY_CLOCK "--train.minutes=1 --run.dir=" RUNS "clock") == EXIT_INTERRUPTED);
        signal_at = 0;
        made_up = 5e4;
        int code = train_hooked("--run.dir=" RUNS "clock --resume");
        step_seconds = NULL;
        long steps = steps_fixed_in(RUNS "clock", &seconds, &bends);
        CHECK_MSG(code == 0 && steps >= (when < 2 ? 55 : 46) && steps <= (when < 2 ? 59 : 52) && (bends > 0) == (when == 2),
                  "exit code %d, %ld steps, %d bends", code, steps, bends);
        check_repeats(RUNS "clock");
    }
    // and once more, from the checkpoint before the last
    CHECK(shell("cp " RUNS "clock/checkpoint.bin build/ran/end.bin") == 0);
    CHECK(TRAIN("--run.dir=" RUNS "clock --resume=" RUNS "clock/checkpoint.prev.bin") == 0);
    check_same_checkpoint("build/ran/end.bin", RUNS "clock/checkpoint.bin");
    // a run that is done goes on for more minutes, if its warm-up isn't a share of all steps
    step_seconds = a_second;
    CHECK(train_hooked("--run.dir=" RUNS "clock --resume --train.minutes=2") == 0);
    step_seconds = NULL;
    CHECK_MSG(step_of(RUNS "clock/checkpoint.bin") > 110 && step_of(RUNS "clock/checkpoint.bin") < 120, "%lld", step_of(RUNS "clock/checkpoint.bin"));
    CHECK(TRAIN(BY_CLOCK "--train.steps=20 --run.dir=" RUNS "clock") == 0);
    check_error_line(TRAIN("--run.dir=" RUNS "clock --resume --train.minutes=4"), EXIT_USAGE, "fractions of all steps; train.steps goes on");
}

// train.steps beside train.minutes is the largest number of them: whichever comes first.
TEST(steps_and_minutes_are_both_limits) {
    write_text("build/ran/both.json", "{\"data\": {\"dir\": \"build/ran/data\"}, \"model\": {\"layers\": 1, \"width\": 16, \"context\": 16},\n"
               " \"schedule\": {\"kind\": \"trapezoid\"}, \"train\": {\"minutes\": 1, \"steps\": 30, \"sample_tokens\": 0}}\n");
    static const struct { const char *arguments; int steps; } cases[] = {
        {"build/ran/both.json", 30},                                    // both in the file
        {"build/ran/both.json --train.minutes=0.4", 22},                // the command line's minutes are no wish for 30 steps
        {"build/ran/both.json --train.minutes=2", 119},
        {"build/ran/both.json --train.steps=90", 59},                   // as long as the file has it
        {"build/ran/both.json --train.minutes=2 --train.steps=40", 40},
        {"build/ran/both.json --train.minutes=0", 30},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *arguments = format("%s --run.dir=" RUNS "both --overwrite", cases[i].arguments);
        step_seconds = a_second;
        CHECK(train_hooked(arguments) == 0);
        step_seconds = NULL;
        long long steps = step_of(RUNS "both/checkpoint.bin");
        CHECK_MSG(steps == cases[i].steps || (cases[i].steps % 10 && llabs(steps - cases[i].steps) < 3), "%s: %lld steps",
                  arguments, steps);
        free(arguments);
    }
}

TEST(minutes_that_cannot_be_are_refused) {
    static const struct { const char *arguments, *words; } cases[] = {
        {"--schedule.kind=cosine --train.minutes=1", "train.minutes: a cosine needs the number of steps from the first one on; schedule.kind trapezoid is expected"},
        {"--schedule.cooldown=1 --train.minutes=1", "train.minutes: with schedule.cooldown 1 the rate falls from the first step on"},
        {"--optimizer.muon.weight_decay=0.1 --optimizer.muon.decay_schedule=cosine --train.minutes=1", "decay_schedule cosine needs the number of steps"},
        {"--optimizer.ema_nesterov.beta=1 --train.minutes=1", "optimizer.ema_nesterov.begin: 0.16 is a fraction of steps that nobody knows yet"},
        {"--optimizer.tail_ema.mix=1 --optimizer.tail_ema.begin=0.5 --train.minutes=1", "optimizer.tail_ema.begin: 0.5 is a fraction of steps that"},
        {"--train.minutes=-1", "--train.minutes=-1: -1 is out of range, expected a number from 0 to 1000000"},
        {"--train.steps=50 --schedule.bends=[45]", "schedule.bends: item 1: expected pairs of a step in the cooldown"},
        {"--train.steps=50 --schedule.bends=[10,60]", "schedule.bends: item 1: expected pairs"},
        {"--train.steps=50 --schedule.bends=[45,60,44,70]", "schedule.bends: item 3: expected pairs"},
        {"--train.steps=50 --schedule.bends=[50,60]", "and below train.steps (50), and the steps until then"},
        {"--train.steps=50 --schedule.bends=[45.5,60]", "schedule.bends: item 1: expected pairs"},
        {"--train.minutes=ten", "--train.minutes=ten: \"ten\" is a string, expected a number from 0 to 1000000"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_error_line(TRAIN(BY_CLOCK "--run.dir=" RUNS "none %s", cases[i].arguments), EXIT_USAGE, cases[i].words);
    CHECK(!file_exists(RUNS "none"));
    step_seconds = a_second;
    int code = train_hooked(BY_CLOCK "--schedule.warmup=30 --train.minutes=0.5 --run.dir=" RUNS "none");
    step_seconds = NULL;
    check_error_line(code, EXIT_USAGE, "train.minutes: 0.5 is too short: at 1 s a step a run of 50 steps");
    check_error_line(code, EXIT_USAGE, "at least 0.96 is expected, or a smaller model");
    CHECK(!file_exists(RUNS "none"));
}

int main(int argc, char **argv) {
    signal(SIGHUP, SIG_DFL);            // what nohup starts ignores it, and so would the trainers
    tests_only = argc > 1 ? argv[1] : NULL;
    setenv("OMP_NUM_THREADS", "1", 0);                  // models so small that more threads would only wait for each other
    omp_set_num_threads(1);
    find_programs();
    RUN(a_data_folder_is_never_a_runs_folder);
    RUN(what_no_run_wrote_is_never_replaced);
    RUN(a_run_that_another_finished_meanwhile_is_not_overwritten);
    RUN(a_folder_removed_under_the_lock_is_made_again);
    RUN(runs_without_a_folder_of_their_own_start_together);
    RUN(a_volume_without_links_folder_sync_or_locks_trains);
    RUN(a_power_cut_leaves_a_run_that_goes_on);
    RUN(a_log_behind_its_checkpoint_is_said);
    RUN(a_shard_that_changes_ends_the_run);
    RUN(a_folder_that_is_another_ones_is_left_alone);
    RUN(a_prepared_folder_that_is_another_is_refused);
    RUN(a_validation_that_is_no_number_ends_the_run_unsaved);
    RUN(a_run_that_diverges_in_its_last_step_is_not_done);
    RUN(interrupted_in_the_step_that_diverges_is_diverged);
    RUN(a_checkpoint_that_is_no_state_is_refused);
    RUN(a_checkpoint_of_another_config_is_refused);
    RUN(every_signal_that_ends_a_run_saves_it);
    RUN(a_signal_that_was_ignored_stays_ignored);
    RUN(a_closed_pipe_saves_the_run);
    RUN(a_full_stdout_does_not_hide_that_a_run_was_saved);
    RUN(a_signal_acts_between_micro_batches);
    RUN(a_signal_acts_between_the_tokens_of_a_sample);
    RUN(a_run_goes_on_with_data_that_moved);
    RUN(a_run_without_its_log_goes_on_with_a_new_one);
    RUN(samples_are_written_once);
    RUN(a_long_path_leaves_room_for_the_reason);
    RUN(a_step_is_explained_and_stays_the_same);
    RUN(the_page_of_a_step_is_made);
    RUN(integers_of_generate_are_integers);
    RUN(generate_writes_several_texts_and_behind_lines);
    RUN(a_text_ends_at_its_end_of_text);
    RUN(a_model_that_diverged_is_named);
    RUN(eval_counts_each_token_in_its_window);
    RUN(eval_answers_by_the_loss_of_endings);
    RUN(attention_draws_every_head);
    RUN(the_best_model_is_kept_said_and_sampled);
    RUN(of_equal_losses_the_first_is_the_best);
    RUN(the_best_model_is_the_same_after_any_death);
    RUN(a_full_stdout_fails_every_program);
    RUN(a_file_size_limit_is_said);
    RUN(a_picture_that_cannot_be_drawn_is_a_warning);
    RUN(without_memory_is_said);
    RUN(a_run_by_the_clock_is_the_run_of_its_steps);
    RUN(a_bent_cooldown_is_lines_that_meet);
    RUN(a_run_by_the_clock_goes_on_in_its_minutes);
    RUN(steps_and_minutes_are_both_limits);
    RUN(minutes_that_cannot_be_are_refused);
    RUN(every_main_begins_as_it_must);
    return tests_end();
}

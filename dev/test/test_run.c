/* test_run.c - a run's folder and its life: what it may replace, two processes, signals, divergence, going on, the best
 * model. Programs are run as processes; where a moment must be hit exactly, the trainer runs in a child with a hook in a
 * system call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// What the volume lacks, and a shell command that runs just before the folder is locked for the first time.
static int no_links, no_folder_sync, no_locks;
static const char *before_lock;
static int hooked_link(const char *from, const char *to);
static int hooked_fsync(int fd);
static int hooked_flock(int fd, int operation);

#define link hooked_link
#define fsync hooked_fsync
#define flock(fd, operation) hooked_flock(fd, operation)
#define GPT_NO_MAIN
#include "../../train_gpt.c"
#undef link
#undef fsync
#undef flock
#include "test.h"
#include "train.h"

static int hooked_link(const char *from, const char *to) {
    if (!no_links) return link(from, to);
    errno = EPERM;
    return -1;
}

static int hooked_fsync(int fd) {
    struct stat st;
    if (!no_folder_sync || fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode)) return fsync(fd);
    errno = EINVAL;
    return -1;
}

static int hooked_flock(int fd, int operation) {
    const char *command = before_lock;
    before_lock = NULL;
    if (command && shell("%s", command) != 0) _exit(99);
    if (!no_locks) return flock(fd, operation);
    errno = ENOLCK;
    return -1;
}

// The trainer in a child, with the hooks: arguments in one string. Its stderr is in build/test/err.txt.
static void train_here(void *arguments) {
    char *argv[64] = {"train_gpt"}, *text = xstrdup(arguments);
    int argc = 1;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    setenv("OMP_NUM_THREADS", "1", 1);                  // waiting threads would spin, which costs most on a busy machine
    omp_set_num_threads(1);
    if (!freopen("build/test/out.txt", "w", stdout) || !freopen("build/test/err.txt", "w", stderr)) _exit(98);
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

#define RUNS "build/test/runs/"

static bool file_has(const char *path, const char *words) {
    char *text = read_file(path, NULL);
    bool has = text && strstr(text, words);
    if (!has) printf("    %s: no \"%s\" in: %.600s\n", path, words, text ? text : "(none)");
    free(text);
    return has;
}

// All names and bytes below a folder, as one number.
static int fingerprint_of(const char *folder, char *sum) {
    int code = shell("find -L %s -type f -exec cksum {} + | LC_ALL=C sort > build/test/sum.txt", folder);
    char *text = read_file("build/test/sum.txt", NULL);
    snprintf(sum, 17, "%016llx", (unsigned long long)hash_string(text));
    free(text);
    return code;
}

// What the trainer answers to these arguments is one line with these words, and the folder stays as it is.
static void check_refused(const char *folder, const char *words, int code, char *arguments) {
    char before[17], after[17];
    fingerprint_of(folder, before);
    int got = shell("%s %s > build/test/out.txt 2> build/test/err.txt", trainer, arguments);
    CHECK_MSG(got == code, "%s: exit code %d", arguments, got);
    check_error_line(got, code, words);
    fingerprint_of(folder, after);
    CHECK_MSG(!strcmp(before, after), "%s: %s was changed", arguments, folder);
    free(arguments);
}

static const CkptTensor *scalar(const Checkpoint *c, const char *name) { return checkpoint_find(c, name); }

static long long step_of(const char *path) {
    Checkpoint c;
    char error[512];
    if (checkpoint_open(&c, path, error, sizeof error) != 0) return -1;
    long long step = *(const int64_t *)scalar(&c, "step")->data;
    checkpoint_close(&c);
    return step;
}

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
    shell("rm -rf build/test/hold && mkdir -p build/test/hold build/test/hold/marked build/test/hold/over/other && "
          "cp -r build/test/data build/test/hold/data && ln -s data build/test/hold/link && "
          "echo x > build/test/hold/marked/fingerprint && cp build/test/data/*.bin build/test/hold/over/other && "
          "cp -r build/test/data build/test/hold/resumed");
    CHECK(TRAIN("build/test/run.json --run.dir=" RUNS "plain --train.steps=2") == 0);
    shell("cp " RUNS "plain/config.json " RUNS "plain/checkpoint.bin " RUNS "plain/log.jsonl build/test/hold/resumed");
    static const char *const dirs[] = {
        "data", "data/", "data/.", "data/../data", "link", "link/", ".", "..", "marked", "over", "over/other", "data/run",
        "data/run/deeper", "link/run" };
    for (size_t i = 0; i < COUNT_OF(dirs); i++)
        for (int overwrite = 0; overwrite < 2; overwrite++)
            check_refused("build/test/hold", "data folder", EXIT_USAGE,
                          format("build/test/run.json --train.steps=2 --data.dir=build/test/hold/data "
                                 "--run.dir=build/test/hold/%s%s", dirs[i], overwrite ? " --overwrite" : ""));
    check_refused("build/test/hold", "data folder", EXIT_USAGE, format("--resume --run.dir=build/test/hold/resumed"));
    CHECK(!file_exists("build/test/hold/data/run"));
    // a folder beside the data, whose name only begins alike, is as good as any
    CHECK(TRAIN("build/test/run.json --train.steps=2 --data.dir=build/test/hold/data --run.dir=build/test/hold/data-run") == 0);
}

TEST(what_no_run_wrote_is_never_replaced) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.bin", "vocabulary", "config.json", "log.jsonl",
                                        "loss.png", "sample.txt", "checkpoint.bin", "checkpoint.best.bin"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (int overwrite = 0; overwrite < 2; overwrite++) {
            shell("rm -rf " RUNS "mine && mkdir -p " RUNS "mine && echo mine > " RUNS "mine/%s", names[i]);
            char *words = format(RUNS "mine/%s was not written by a run", names[i]);
            check_refused(RUNS "mine", words, EXIT_USAGE, format("build/test/run.json --train.steps=2 --run.dir=" RUNS "mine%s",
                                                                 overwrite ? " --overwrite" : ""));
            free(words);
        }
    // in a run's folder: its own files go, others stay, a tokenizer that isn't its own is refused, for going on too
    shell("rm -rf " RUNS "mine");
    CHECK(TRAIN("build/test/run.json --train.steps=2 --run.dir=" RUNS "mine") == 0);
    shell("echo mine > " RUNS "mine/notes.txt; echo '{}' > " RUNS "mine/tokenizer.json");
    check_refused(RUNS "mine", RUNS "mine/tokenizer.json was not written by a run", EXIT_USAGE,
                  format("build/test/run.json --train.steps=2 --run.dir=" RUNS "mine --overwrite"));
    check_refused(RUNS "mine", RUNS "mine/tokenizer.json was not written by a run", EXIT_USAGE,
                  format("--resume --train.steps=4 --run.dir=" RUNS "mine"));
    shell("rm " RUNS "mine/tokenizer.json");
    CHECK(TRAIN("build/test/run.json --train.steps=3 --run.dir=" RUNS "mine --overwrite") == 0);
    CHECK(file_has(RUNS "mine/notes.txt", "mine") && step_of(RUNS "mine/checkpoint.bin") == 3);
    CHECK(shell("grep -c . " RUNS "mine/sample.txt > build/test/n.txt; grep -c 'step 2' " RUNS "mine/sample.txt") != 0);
    // a run on data without a tokenizer writes none, and leaves one that is there alone
    shell("rm -rf build/test/bare && mkdir build/test/bare && cp build/test/data/*0.bin build/test/bare && "
          "rm -rf " RUNS "bare && mkdir -p " RUNS "bare && echo mine > " RUNS "bare/tokenizer.json");
    for (int i = 0; i < 2; i++)
        CHECK(TRAIN("build/test/run.json --train.steps=2 --model.vocab=64 --data.dir=build/test/bare --run.dir=" RUNS "bare "
                    "--overwrite") == 0);
    CHECK(file_has(RUNS "bare/tokenizer.json", "mine"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Two processes

// The slower of two runs that were started together finds the other's finished run when it comes to lock the folder.
TEST(a_run_that_another_finished_meanwhile_is_not_overwritten) {
    prepare_runs();
    shell("rm -rf " RUNS "both");
    char *first = format("%s build/test/run.json --train.steps=3 --run.dir=" RUNS "both > build/test/out2.txt && "
                         "cp " RUNS "both/log.jsonl build/test/kept.jsonl", trainer);
    before_lock = first;
    int code = train_hooked("build/test/run.json --train.steps=3 --run.dir=" RUNS "both");
    check_error_line(code, EXIT_USAGE, RUNS "both already holds a run");
    CHECK(shell("cmp -s build/test/kept.jsonl " RUNS "both/log.jsonl") == 0 && step_of(RUNS "both/checkpoint.bin") == 3);
    free(first);
}

// A folder that is removed between its making and its locking is made again: the lock is of the folder that is there.
TEST(a_folder_removed_under_the_lock_is_made_again) {
    prepare_runs();
    shell("rm -rf " RUNS "gone");
    before_lock = "rmdir " RUNS "gone";
    CHECK(train_hooked("build/test/run.json --train.steps=3 --run.dir=" RUNS "gone") == 0);
    CHECK(step_of(RUNS "gone/checkpoint.bin") == 3);
}

TEST(runs_without_a_folder_of_their_own_start_together) {
    prepare_runs();
    shell("rm -rf build/test/three && mkdir -p build/test/three/runs/run-2 && ln -s ../../../build build/test/three/build && "
          "echo mine > build/test/three/runs/run-2/config.json");            // somebody's folder: not to be taken
    CHECK(shell("p=$(realpath %s); cd build/test/three; for seed in 1 2 3; do "
                "{ $p build/test/run.json --train.steps=100 --run.seed=$seed > out$seed.txt 2> err$seed.txt; "
                "echo $? > code$seed.txt; } & done; wait; cat code?.txt > codes.txt; cat err?.txt", trainer) == 0);
    CHECK(file_has("build/test/three/codes.txt", "0\n0\n0\n"));
    for (int i = 1; i < 5; i++) {
        char *path = i == 1 ? xstrdup("build/test/three/runs/run/checkpoint.bin")
                            : format("build/test/three/runs/run-%d/checkpoint.bin", i);
        CHECK_MSG(step_of(path) == (i == 2 ? -1 : 100), "%s", path);
        free(path);
    }
    CHECK(file_has("build/test/three/runs/run-2/config.json", "mine"));
    CHECK(shell("p=$(realpath %s); cd build/test/three; $p build/test/run.json --resume > out.txt", trainer) == 0);
    CHECK(file_has("build/test/three/out.txt", "resumed    runs/run-4 at step 100"));
}

// Each is one warning, however many checkpoints are saved.
TEST(a_volume_without_links_folder_sync_or_locks_trains) {
    static int *const lacks[] = {&no_links, &no_folder_sync, &no_locks};
    static const char *const words[] = {"no hard links", "no fsync of folders", "no locks"};
    prepare_runs();
    for (size_t i = 0; i < COUNT_OF(lacks); i++) {
        shell("rm -rf " RUNS "fat");
        *lacks[i] = 1;
        int code = train_hooked("build/test/run.json --run.dir=" RUNS "fat --train.save_every=2 --train.steps=8");
        *lacks[i] = 0;
        check_error_line(code, 0, words[i]);
        CHECK(step_of(RUNS "fat/checkpoint.bin") == 8 && step_of(RUNS "fat/checkpoint.prev.bin") == 6);
    }
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    find_programs();
    RUN(a_data_folder_is_never_a_runs_folder);
    RUN(what_no_run_wrote_is_never_replaced);
    RUN(a_run_that_another_finished_meanwhile_is_not_overwritten);
    RUN(a_folder_removed_under_the_lock_is_made_again);
    RUN(runs_without_a_folder_of_their_own_start_together);
    RUN(a_volume_without_links_folder_sync_or_locks_trains);
    return tests_end();
}

/* train.h - whole runs of the programs as processes: a small corpus, a config, checkpoints and logs compared.
 *
 * Included behind src/checkpoint.h (which train_gpt.c has) and test.h. Paths are from the project's folder.
 */
#ifndef TRAIN_H
#define TRAIN_H

static const char *build, *trainer;      // where the programs are: BUILD and TRAINER, set by the Makefile

static void find_programs(void) {
    build = getenv("BUILD") ? getenv("BUILD") : "build";
    trainer = getenv("TRAINER") ? getenv("TRAINER") : "./train_gpt";
}

#define RUN_CONFIG \
    "{\"data\": {\"dir\": \"" TEST_ROOT "/data\"}, " \
    "\"model\": {\"layers\": 2, \"heads\": 2, \"width\": 16, \"context\": 16, \"dropout\": 0.1},\n" \
    " \"train\": {\"steps\": 60, \"batch\": 6, \"micro_batch\": 3, \"eval_every\": 20, \"save_every\": 25, \"sample_tokens\": 40},\n" \
    " \"optimizer\": {\"qk_clip\": {\"tau\": 0.01}}}\n"

static int shell(const char *fmt, ...) PRINTF_LIKE(1, 2);
static int shell(const char *fmt, ...) {
    char command[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    fflush(stdout);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The checkpoint that a run's model is of: its best one, or its last. Ends the program where there is none.
static inline Checkpoint run_checkpoint(const char *folder) {
    Checkpoint c;
    char error[512], *path = format("%s/checkpoint.best.bin", folder);
    if (!file_exists(path)) sprintf(strstr(path, ".best"), ".bin");
    if (checkpoint_open(&c, path, error, sizeof error) != 0) fail("%s", error);
    free(path);
    return c;
}

static void write_text(const char *path, const char *text) {
    if (write_file(path, text, strlen(text)) != 0) fail("%s: %s", path, strerror(errno));
}

// TEST_ROOT/data: a small corpus of words; run.json: a config for it.
static void prepare_runs(void) {
    static bool done;
    if (done) return;
    done = true;
    free(test_folder("runs"));
    free(test_folder("data"));
    static const char *const words[] = {"light ", "water ", "earth ", "heaven ", "and ", "the ", "was ", "good\n"};
    char text[8192] = "";
    for (size_t n = 0, i = 0; n < 7000; i++)
        n += (size_t)sprintf(text + n, "%s", words[hash64(1, i) % COUNT_OF(words)]);
    write_text(TEST_ROOT "/words.txt", text);
    write_text(TEST_ROOT "/run.json", RUN_CONFIG);
    if (shell("%s/tokenize shards --tokenizer=char --out=" TEST_ROOT "/data " TEST_ROOT "/words.txt "
              "> " TEST_ROOT "/out.txt 2>&1", build) != 0)
        fail("%s/tokenize failed", build);
}

// Runs the program; returns its exit code; its stderr is in TEST_ROOT/err.txt.
#define TRAIN(...) (prepare_runs(), train_command(format(__VA_ARGS__)))
static int train_command(char *arguments) {
    int code = shell("%s %s > " TEST_ROOT "/out.txt 2> " TEST_ROOT "/err.txt", trainer, arguments);
    free(arguments);
    return code;
}

// Starts the trainer, waits until the log has `words`, then does `then` with its process in $pid.
static int train_until(const char *arguments, const char *folder, const char *words, const char *then) {
    prepare_runs();
    return shell("%s %s > " TEST_ROOT "/out.txt 2> " TEST_ROOT "/err.txt & pid=$!; "
                 "while ! grep -qs '%s' %s/log.jsonl; do sleep 0.01; kill -0 $pid 2> " TEST_ROOT "/n.txt || exit 97; done; "
                 "%s; wait $pid", trainer, arguments, words, folder, then);
}

// The step of a checkpoint; -1 where it is none.
static long long step_of(const char *path) {
    Checkpoint c;
    char error[512];
    if (checkpoint_open(&c, path, error, sizeof error) != 0) return -1;
    long long step = *(const int64_t *)checkpoint_find(&c, "step")->data;
    checkpoint_close(&c);
    return step;
}

static void check_error_line(int code, int expected, const char *words) {
    char *text = read_file(TEST_ROOT "/err.txt", NULL), *newline = strchr(text, '\n');
    CHECK_MSG(code == expected, "exit code %d instead of %d: %s", code, expected, text);
    CHECK_MSG(strstr(text, words), "no \"%s\" in: %s", words, text);
    CHECK_MSG(newline && !newline[1], "not one line: %s", text);
    free(text);
}

// The weights and the optimizer's state in two checkpoints are the same bits (the seconds it took are not).
static void check_same_checkpoint(const char *a, const char *b) {
    Checkpoint ca, cb;
    char error[512];
    if (checkpoint_open(&ca, a, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    if (checkpoint_open(&cb, b, error, sizeof error) != 0) {
        CHECK_MSG(false, "%s", error);
        checkpoint_close(&ca);
        return;
    }
    int compared = 0;
    for (int i = 0; i < ca.n_tensors; i++) {
        const CkptTensor *ta = &ca.tensors[i], *tb = checkpoint_find(&cb, ta->name);
        if (ta->name[1] != '.') continue;                // w.*, m.*, v.*
        compared++;
        CHECK_MSG(tb && !memcmp(ta->data, tb->data, sizeof(float) * ta->shape[0] * ta->shape[1] * ta->shape[2]),
                  "%s and %s differ in %s", a, b, ta->name);
    }
    CHECK_MSG(compared > 20, "only %d tensors", compared);
    checkpoint_close(&ca);
    checkpoint_close(&cb);
}

// The largest distance of two checkpoints' weights w.*, relative to the norm of a tensor; their number.
static inline double checkpoint_distance(const char *a, const char *b, int *tensors) {
    Checkpoint ca, cb;
    char error[512];
    double worst = 0.0;
    *tensors = 0;
    if (checkpoint_open(&ca, a, error, sizeof error) != 0 || checkpoint_open(&cb, b, error, sizeof error) != 0) fail("%s", error);
    for (int i = 0; i < ca.n_tensors; i++) {
        const CkptTensor *ta = &ca.tensors[i], *tb = checkpoint_find(&cb, ta->name);
        if (strncmp(ta->name, "w.", 2)) continue;
        const float *x = (const float *)ta->data, *y = (const float *)tb->data;
        double squares = 0.0, apart = 0.0;
        for (size_t k = 0; k < ta->shape[0] * ta->shape[1] * ta->shape[2]; k++)
            squares += (double)x[k] * x[k], apart += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        worst = fmax(worst, apart == 0 ? 0 : sqrt(apart / squares));
        ++*tensors;
    }
    checkpoint_close(&ca);
    checkpoint_close(&cb);
    return worst;
}

// The log without what depends on the clock: events with step, loss, lr, grad_norm, val_loss, max_logit.
static char *log_without_times(const char *dir) {
    char *path = format("%s/log.jsonl", dir), *text = read_file(path, NULL);
    if (!text) fail("%s: %s", path, strerror(errno));
    char *kept = xcalloc(strlen(text) + 1, 1), *to = kept;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strstr(line, "\"start\"") || strstr(line, "\"end\"")) continue;
        char *cut = strstr(line, ", \"ms\"");
        if (!cut) cut = strstr(line, ", \"train_seconds\"");
        to += sprintf(to, "%.*s\n", cut ? (int)(cut - line) : (int)strlen(line), line);
    }
    free(path);
    free(text);
    return kept;
}

#endif // TRAIN_H

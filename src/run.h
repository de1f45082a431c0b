/* run.h - a run's folder: which one, which files in it are the run's and which somebody else's, one process at a time, and
 * what is written there beside the log and the checkpoints.
 *
 * defines: run_begun, run_lock, run_is_at, run_disturbed, run_data_conflict, run_foreign_file, run_remove,
 *          Arguments, arguments_parse, run_name, run_resumed_dir, check_config, RunFolder, run_paths, run_open, run_close,
 *          run_resume_command, run_write_files, run_add_sample, run_check_tokenizer, print_resumed,
 *          run_clear, run_cut, run_draw
 *
 * A run writes into its folder, in this order: log.jsonl, config.json, the tokenizer (a copy of the data's, and
 * `vocabulary`, its sidecar), then checkpoints, loss.png, sample.txt and stepN of --explain. So a folder is a run's where log.jsonl is a
 * run's log or a checkpoint is there; in any other folder a file of one of these names is somebody else's, and no run
 * may replace or remove it.
 */
#ifndef RUN_H
#define RUN_H

#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "checkpoint.h"
#include "flags.h"
#include "keys.h"
#include "runlog.h"
#include "util.h"
#include "../data/dataloader.h"
#include "../data/tokenizer.h"

// In the order in which they are removed: what says that the folder is a run's goes last, the log when the others' names
// are gone from the disk.
static const char *const run_files[] = { "loss.png", "sample.txt", "config.json", "checkpoint.best.bin.tmp", "checkpoint.bin.tmp",
                                         "checkpoint.best.bin", "checkpoint.prev.bin", "checkpoint.bin", "log.jsonl" };
static const char *const run_tokenizers[] = { "tokenizer.json", "tokenizer.bin" };

// Whether the file DIR/NAME begins with these words.
static inline bool run_begins(const char *dir, const char *name, const char *words, size_t n) {
    char *path = format("%s/%s", dir, name), bytes[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : read(fd, bytes, n);
    if (fd >= 0) close(fd);
    free(path);
    return got == (ssize_t)n && memcmp(bytes, words, n) == 0;
}

// Whether a run was begun in this folder, and its files are a run's.
static inline bool run_begun(const char *dir) {
    static const char start[] = "{\"event\": \"start\"";
    return run_begins(dir, "log.jsonl", start, sizeof start - 1) ||
           run_begins(dir, "checkpoint.bin", ckpt_magic, sizeof ckpt_magic) ||
           run_begins(dir, "checkpoint.prev.bin", ckpt_magic, sizeof ckpt_magic);
}

// ---------------------------------------------------------------------------------------------------------------------
// Two folders

static inline bool run_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// Whether the folder `inner` is `outer` or lies in it, by whatever names: goes up from `inner` to the root. Of a folder
// that doesn't exist yet, the nearest one above it that does.
static inline bool run_within(const char *inner, const char *outer) {
    struct stat wanted, at, last = { 0 };
    char *path = xstrdup(inner);
    while (*path && stat(path, &at) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash) strcpy(path, ".");
        else slash[slash == path] = '\0';
    }
    bool within = false, first = true;
    if (stat(outer, &wanted) == 0)
        while (!within && stat(path, &at) == 0 && (first || !run_same(&at, &last))) {
            within = run_same(&at, &wanted);
            last = at;
            first = false;
            char *up = format("%s/..", path);
            free(path);
            path = up;
        }
    free(path);
    return within;
}

// Whether a folder is one of prepared data: it holds token shards or prepare.sh's fingerprint.
static inline bool run_is_data(const char *dir) {
    DIR *folder = opendir(dir);
    bool found = false;
    for (struct dirent *entry; folder && !found && (entry = readdir(folder)); )
        found = dataloader_split(entry->d_name) || strcmp(entry->d_name, "fingerprint") == 0;
    if (folder) closedir(folder);
    return found;
}

/* Why a run must not go to dir: it is a data folder, holds one, or lies in one, which `make data` replaces as a whole.
 * data_dir: the data to train on. Returns a line without the words "run.dir: ", to be freed; NULL where dir is fine. */
static inline char *run_data_conflict(const char *dir, const char *data_dir) {
    if (run_is_data(dir)) return format("%s is a data folder: a run needs a folder of its own", dir);
    if (run_within(data_dir, dir)) return format("%s holds the data folder %s: a run needs a folder of its own", dir, data_dir);
    if (run_within(dir, data_dir)) return format("%s lies in the data folder %s: a run needs a folder of its own", dir, data_dir);
    DIR *folder = opendir(dir);
    char *conflict = NULL;
    for (struct dirent *entry; folder && !conflict && (entry = readdir(folder)); ) {
        if (entry->d_name[0] == '.') continue;
        char *path = format("%s/%s", dir, entry->d_name);
        if (run_is_data(path)) conflict = format("%s holds the data folder %s: a run needs a folder of its own", dir, path);
        free(path);
    }
    if (folder) closedir(folder);
    return conflict;
}

// ---------------------------------------------------------------------------------------------------------------------
// Whose files

// Whether DIR/NAME is a tokenizer that the run in dir wrote: the one of DIR/vocabulary.
static inline bool run_wrote_tokenizer(const char *dir, const char *name) {
    char *path = format("%s/%s", dir, name), *sidecar = format("%s/vocabulary", dir), error[ERROR_ROOM];
    Tokenizer t;
    bool wrote = file_exists(sidecar) && tokenizer_load(&t, path, error, sizeof error) == 0;
    if (wrote) {
        wrote = tokenizer_check(&t, path, dir, error, sizeof error) == 0;
        tokenizer_free(&t);
    }
    free(path);
    free(sidecar);
    return wrote;
}

static inline bool run_wrote_vocabulary(const char *dir) {
    char *path = format("%s/vocabulary", dir), *line = read_file(path, NULL);
    int size;
    unsigned long long hash;
    bool wrote = line && sscanf(line, "%d tokens, hash %llx", &size, &hash) == 2;
    free(line);
    free(path);
    return wrote;
}

// Whether two files are there and have the same bytes.
static inline bool run_same_bytes(const char *a, const char *b) {
    size_t n = 0, m = 0;
    char *x = read_file(a, &n), *y = read_file(b, &m);
    bool same = x && y && n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* The path of a file in dir that a run would replace, or that would hide one of its own, though no run wrote it; to be
 * freed. NULL: there is none. tokenizer: path of the data's, which the run copies; NULL where the data has none. */
static inline char *run_foreign_file(const char *dir, const char *tokenizer) {
    bool begun = run_begun(dir);
    const char *foreign = NULL;
    for (size_t i = 0; i < COUNT_OF(run_files) && !begun && !foreign; i++) {
        char *path = format("%s/%s", dir, run_files[i]);
        struct stat st;
        // an empty log is what a run leaves that died while it began
        if (stat(path, &st) == 0 && (st.st_size > 0 || strcmp(run_files[i], "log.jsonl"))) foreign = run_files[i];
        free(path);
    }
    for (size_t i = 0; i < COUNT_OF(run_tokenizers) && tokenizer && !foreign; i++) {
        char *path = format("%s/%s", dir, run_tokenizers[i]);
        const char *slash = strrchr(tokenizer, '/');
        bool copy = strcmp(slash ? slash + 1 : tokenizer, run_tokenizers[i]) == 0 && run_same_bytes(path, tokenizer);
        if (file_exists(path) && !copy && !(begun && run_wrote_tokenizer(dir, run_tokenizers[i])))
            foreign = run_tokenizers[i];
        free(path);
    }
    if (tokenizer && !foreign) {
        char *path = format("%s/vocabulary", dir);
        if (file_exists(path) && !(begun && run_wrote_vocabulary(dir))) foreign = "vocabulary";
        free(path);
    }
    return foreign ? format("%s/%s", dir, foreign) : NULL;
}

// Removes the steps that were explained, the folders DIR/stepN: the files in them that begin as a run writes them, and the
// folder where no other one is in it. Returns as run_remove.
static inline char *run_remove_explained(const char *dir) {
    static const struct { const char *name, *begins; } files[] = {
        { "step.md", "<!-- explain: " }, { "step.md.tmp", "<!-- explain: " },
        { "spectra.csv", "tensor,matrix,number," }, { "spectra.csv.tmp", "tensor,matrix,number," },
    };
    DIR *folder = opendir(dir);
    char *stays = NULL;
    for (struct dirent *entry; folder && !stays && (entry = readdir(folder)); ) {
        const char *number = entry->d_name + 4;
        bool ours = false;
        if (strncmp(entry->d_name, "step", 4) != 0 || !*number || number[strspn(number, "0123456789")]) continue;
        for (size_t i = 0; i < COUNT_OF(files) && !stays; i++) {
            char *name = format("%s/%s", entry->d_name, files[i].name), *path = format("%s/%s", dir, name);
            bool one = run_begins(dir, name, files[i].begins, strlen(files[i].begins));
            if (one && unlink(path) != 0) stays = xstrdup(path);
            ours = ours || one;
            free(name), free(path);
        }
        char *path = format("%s/%s", dir, entry->d_name);
        if (ours && !stays && rmdir(path) != 0 && errno != ENOTEMPTY && errno != EEXIST) stays = xstrdup(path);
        free(path);
    }
    int error = errno;
    if (folder) closedir(folder);
    errno = error;
    return stays;
}

// Removes what the run in dir wrote, and nothing else. Returns NULL, or the path that could not be removed with errno
// set, to be freed.
static inline char *run_remove(const char *dir) {
    const char *names[COUNT_OF(run_files) + COUNT_OF(run_tokenizers) + 1];
    int n = 0;
    if (!run_begun(dir)) return NULL;
    char *explained = run_remove_explained(dir);
    if (explained) return explained;
    for (size_t i = 0; i < COUNT_OF(run_tokenizers); i++)
        if (run_wrote_tokenizer(dir, run_tokenizers[i])) names[n++] = run_tokenizers[i];
    if (run_wrote_vocabulary(dir)) names[n++] = "vocabulary";
    for (size_t i = 0; i < COUNT_OF(run_files); i++) names[n++] = run_files[i];
    for (int i = 0; i < n; i++) {
        char *path = format("%s/%s", dir, names[i]);
        if (i == n - 1 && sync_folder(path) < 0) return path;
        if (unlink(path) != 0 && errno != ENOENT) return path;
        free(path);
    }
    return NULL;
}

// ---------------------------------------------------------------------------------------------------------------------
// The lock

// Whether dir is the folder that was locked, and not another one that has come to be there, or none.
static inline bool run_is_at(int lock, const char *dir) {
    struct stat mine, there;
    return fstat(lock, &mine) == 0 && stat(dir, &there) == 0 && run_same(&mine, &there);
}

/* Makes the folder and locks it for this process, until the descriptor is closed. Returns the descriptor, locked as
 * lock_folder says; or -1 with errno set, EWOULDBLOCK where another process has it. A folder that was removed while it
 * was being locked is made again. */
static inline int run_lock(const char *dir, bool *locked) {
    for (int attempt = 0; ; attempt++) {
        if (make_dirs(dir) != 0) return -1;
        int fd = lock_folder(dir, locked);
        if (fd < 0 && (errno != ENOENT || attempt == 100)) return -1;
        if (fd < 0) continue;
        if (run_is_at(fd, dir) || attempt == 100) return fd;
        close(fd);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The command line: which config, and which folder

typedef struct {
    const char *program;                     // as it was started, for commands that are printed
    const char *config_path, *resume_from;   // resume_from: "" is the run's own checkpoint
    bool resume, overwrite, print_config, profile;
    int explained;                           // the step of --explain, counted from 1; 0: none
    char **overrides;
    int n_overrides;
} Arguments;

static inline Arguments arguments_parse(int argc, char **argv) {
    Arguments a = {.program = argv[0], .resume_from = "", .overrides = xcalloc((size_t)argc, sizeof(char *))};
    for (int i = 1; i < argc; i++) {
        const char *s = argv[i], *value;
        if (!strcmp(s, "--help") || !strcmp(s, "-h") || !strcmp(s, "--help=markdown")) {
            bool markdown = !strcmp(s, "--help=markdown");
            if (!markdown)
                printf("usage: train_gpt CONFIG.json [--section.key=value ...] [--resume[=CHECKPOINT]] [--overwrite] "
                       "[--profile] [--explain=STEP] [--print-config]\n"
                       "Pretrains a GPT as the config says and puts everything into the run's folder.\n\n"
                       "  --resume        go on with a run (--run.dir, or the last one of this config) from its "
                       "checkpoint;\n"
                       "                  data.dir, run.lock, train.steps, train.minutes, train.*_every,\n"
                       "                  train.sample_tokens and the learning rates may change\n"
                       "  --overwrite     start anew in a folder that holds a run\n"
                       "  --profile       at the end, show where the steps' time went and how near each pass is to "
                       "what bounds it\n"
                       "  --explain=STEP  tell what this step did to every tensor and head, in numbers, in RUN/stepSTEP\n"
                       "  --print-config  print the resolved config and end\n\n");
            config_help(stdout, config_fields, N_FIELDS, markdown);
            exit(0);
        }
        else if (!strcmp(s, "--print-config")) a.print_config = true;
        else if (!strcmp(s, "--overwrite")) a.overwrite = true;
        else if (!strcmp(s, "--profile")) a.profile = true;
        else if ((value = flag_value(s, "--explain"))) a.explained = (int)integer_of("--explain", value, 1, 1000000000);
        else if (!strcmp(s, "--resume")) a.resume = true;
        else if ((value = flag_value(s, "--resume"))) { a.resume = true; a.resume_from = value; }
        else if (!strncmp(s, "--", 2) && strchr(s, '.')) a.overrides[a.n_overrides++] = argv[i];
        else if (*s == '-')
            fail_usage("%s: unknown flag; expected --section.key=value, --resume, --overwrite, --profile, "
                       "--explain, --print-config or --help", s);
        else if (a.config_path) fail_usage("%s: one config is expected, %s is already given", s, a.config_path);
        else a.config_path = s;
    }
    if (a.resume && a.overwrite) fail_usage("--resume and --overwrite: one of the two");
    if (!a.config_path && !a.resume && !a.print_config)
        fail_usage("a config is expected, such as configs/default.json; --help lists all keys");
    return a;
}

static inline const char *arguments_value(const Arguments *a, const char *flag) {
    const char *value = NULL;
    for (int i = 0; i < a->n_overrides; i++)
        if (!strncmp(a->overrides[i], flag, strlen(flag))) value = a->overrides[i] + strlen(flag);
    return value;
}

static inline const char *run_last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// A default run's folder: runs/NAME of configs/NAME.json, or runs/NAME-TEXT where the command line has other data than
// the config, by the last part of its folder; number > 1: with -number behind it.
static inline char *run_name(const Arguments *a, bool with_text, int number) {
    const char *base = run_last_part(a->config_path), *dot = strrchr(base, '.'), *data = arguments_value(a, "--data.dir=");
    int length = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    Config file;
    config_load(&file, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), a->config_path, 0, NULL, NULL);
    char *own = runlog_name(file.data.dir), *text = runlog_name(data ? data : file.data.dir);
    if (!strcmp(text, ".") || !strcmp(text, "..")) {
        char *real = realpath(data ? data : file.data.dir, NULL);
        if (real) { free(text); text = xstrdup(run_last_part(real)); }
        free(real);
    }
    bool other = with_text && data && strcmp(own, text) && *text;
    char *behind = number > 1 ? format("-%d", number) : xstrdup("");
    char *dir = format("%s/%.*s%s%s%s", runs_folder(), length, base, other ? "-" : "", other ? text : "", behind);
    config_free(&file, config_fields, N_FIELDS);
    free(own); free(text); free(behind);
    return dir;
}

// The last run by the config's name, or that of config and text; NULL where there is none.
static inline char *run_last(const Arguments *a, bool with_text) {
    char *found = NULL;
    for (int number = 1; ; number++) {
        char *dir = run_name(a, with_text, number);
        bool there = file_exists(dir);
        if (run_begun(dir)) {
            free(found);
            found = xstrdup(dir);
        }
        free(dir);
        if (!there) return found;
    }
}

// The folder of the run to resume: --run.dir, else the config's run.dir, else the last run by the names of config and text,
// or, where the data has moved, of the config alone: the data's fingerprint tells whether they belong together.
static inline char *run_resumed_dir(const Arguments *a) {
    const char *named = arguments_value(a, "--run.dir=");
    if (named && *named) return xstrdup(named);
    if (!a->config_path) fail_usage("--resume: name the run with --run.dir=FOLDER, or its config");
    Config config;
    config_load(&config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), a->config_path,
                a->n_overrides, a->overrides, NULL);
    char *found = *config.run.dir ? xstrdup(config.run.dir) : run_last(a, true);
    if (!found && !(found = run_last(a, false))) fail_usage("--resume: %s holds no run", run_name(a, true, 1));
    config_free(&config, config_fields, N_FIELDS);
    return found;
}

// What a config is asked, beside its file alone. A run that goes on has been asked already, but for its new steps.
// owners_of: which tensors the model of a config has.
static inline void check_config(const Config *c, const ConfigSource *from, const Arguments *a, bool resumed, const char *where,
                                Owners (*owners_of)(const Config *)) {
    Config file;
    ConfigSource from_file[N_FIELDS];
    config_load(&file, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), resumed ? where : a->config_path, 0,
                NULL, from_file);
    Owners whole = owners_of(c), alone = owners_of(&file);
    check_keys(&whole, from, &alone, from_file, where);
    check_bends(c, where);
    if (!resumed || c->train.steps != file.train.steps) check_schedule(&whole, where);
    if (!resumed && !a->print_config) print_kept(&whole, from, &file, where);
    if (!resumed && !a->print_config) print_recipe(c, from);
    config_free(&file, config_fields, N_FIELDS);
    if (a->explained > c->train.steps)
        fail_usage("--explain=%d: train.steps is %d: there is no such step", a->explained, c->train.steps);
}

// ---------------------------------------------------------------------------------------------------------------------
// The folder of a run that trains

typedef struct {
    char *dir, *log, *checkpoint, *previous, *best;      // the folder, and its files' paths
    int lock;                                            // the folder's, against a second process
    const char *program;                                 // as it was started, for commands that are printed
} RunFolder;

// Another name helps where dir is taken or busy, not where it is refused for where it lies.
typedef enum { DIR_OURS, DIR_TAKEN, DIR_BUSY, DIR_REFUSED, DIR_FAILED } DirState;

// Takes dir for the run: makes it, locks it (r->lock) and looks at what is in it. Where it can't be had, *why is a line
// that says so, to be freed.
static inline DirState run_take(RunFolder *r, const char *dir, const Arguments *a, const Config *c, bool tokenizes, char **why) {
    const char *data_dir = c->data.dir;
    char *conflict = run_data_conflict(dir, data_dir), *foreign = NULL;
    bool locked = true;
    *why = conflict ? format("run.dir: %s", conflict) : NULL;
    free(conflict);
    if (*why) return DIR_REFUSED;
    r->lock = run_lock(dir, c->run.lock ? &locked : NULL);
    if (r->lock < 0 && errno == EWOULDBLOCK) {
        *why = format("%s: another process is training in this folder", dir);
        return DIR_BUSY;
    }
    if (r->lock < 0) {
        *why = format("%s: cannot be made: %s; RUNS_DIR=FOLDER has runs elsewhere", dir, strerror(errno));
        return DIR_FAILED;
    }
    char *tokenizer = tokenizes ? tokenizer_path(data_dir) : NULL;
    if (!a->resume && !a->overwrite && run_begun(dir))
        *why = format("run.dir: %s already holds a run; --resume goes on with it, --overwrite starts anew", dir);
    else if ((foreign = run_foreign_file(dir, tokenizer)))
        *why = format("run.dir: %s was not written by a run, which would replace it or take it for its own: move it away, or "
                      "name another folder", foreign);
    else if (!locked)
        fprintf(stderr, "warning: %s: this volume has no locks: start no second process there (--run.lock=false says nothing)\n", dir);
    free(tokenizer);
    free(foreign);
    if (*why) close(r->lock);
    return *why ? DIR_TAKEN : DIR_OURS;
}

// Where the files of the run in dir are, which becomes r's.
static inline void run_paths(RunFolder *r, char *dir) {
    r->dir = dir;
    r->log = format("%s/log.jsonl", dir);
    r->checkpoint = format("%s/checkpoint.bin", dir);
    r->previous = format("%s/checkpoint.prev.bin", dir);
    r->best = format("%s/checkpoint.best.bin", dir);
}

/* The run's folder, made and locked for this process: dir, which is freed, or where that is NULL the first by the config's
 * name that is free. data_dir: where the data is; tokenizes: it has a tokenizer, which the run copies. Ends the program where
 * the folder can't be had. To be closed by run_close. */
static inline RunFolder run_open(const Arguments *a, char *dir, const Config *c, bool tokenizes) {
    RunFolder r = {.program = a->program};
    char *why = NULL;
    DirState state = dir ? run_take(&r, dir, a, c, tokenizes, &why) : DIR_TAKEN;
    for (int number = 1; !dir; number++) {
        dir = run_name(a, true, number);
        state = run_take(&r, dir, a, c, tokenizes, &why);
        if (state != DIR_TAKEN && state != DIR_BUSY) break;
        free(why);
        free(dir);
        dir = NULL;
    }
    if (state == DIR_TAKEN || state == DIR_REFUSED) fail_usage("%s", why);
    if (state != DIR_OURS) fail("%s", why);
    run_paths(&r, dir);
    return r;
}

static inline void run_close(RunFolder *r) {
    if (r->dir && r->lock >= 0) close(r->lock);          // and with it the lock
    free(r->dir), free(r->log), free(r->checkpoint), free(r->previous), free(r->best);
}

// The command that goes on with the run, from its checkpoint or from the file `from`, to be pasted; of ranks that dev/ranks.sh started
// the one that it names.
static inline char *run_resume_command(const RunFolder *r, const char *from) {
    const char *ranks = getenv("MUON_RANKS_AGAIN");
    char *program = shell_quoted(r->program), *dir = shell_quoted(r->dir), *file = shell_quoted(from ? from : "");
    char *command = format("%s%s--run.dir=%s --resume%s%s%s", ranks ? ranks : program, ranks ? " ARGS=\"" : " ", dir, from ? "=" : "",
                           from ? file : "", ranks ? "\"" : "");
    free(program); free(dir); free(file);
    return command;
}

static inline void run_write_file(const char *dir, const char *name, const char *bytes, size_t size) {
    char *path = format("%s/%s", dir, name);
    if (write_file(path, bytes, size) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    free(path);
}

static inline void run_write_config(const RunFolder *r, const Config *c) {
    char *text = config_text(c, config_fields, N_FIELDS);
    run_write_file(r->dir, "config.json", text, strlen(text));
    free(text);
}

// What is needed to sample and to resume, beside the checkpoint.
static inline void run_write_files(const RunFolder *r, const Config *c, const Tokenizer *tokenizer) {
    char *from = tokenizer_path(c->data.dir), *bytes;
    size_t size;
    run_write_config(r, c);
    if (tokenizer->size && (bytes = read_file(from, &size))) {
        run_write_file(r->dir, strrchr(from, '/') + 1, bytes, size);
        if (tokenizer_sign(tokenizer, r->dir) != 0) fail("%s/vocabulary: cannot be written: %s", r->dir, strerror(errno));
        free(bytes);
    }
    free(from);
}

// The first sample in sample.txt's text whose step is from `first` to `last`, at its head "--- step 20 ---", or NULL.
static inline char *run_find_sample(char *text, int first, int last) {
    int step, end;
    for (char *at = text; at; at = strstr(at, "\n--- step ")) {
        at += *at == '\n';
        end = 0;
        if (sscanf(at, "--- step %d ---%n", &step, &end) == 1 && at[end] == '\n' && step >= first && step <= last) return at;
    }
    return NULL;
}

// Removes the samples behind the step that a run goes on from: it draws them again.
static inline void run_cut_samples(const char *dir, int step) {
    char *path = format("%s/sample.txt", dir), *text = read_file(path, NULL);
    char *behind = text ? run_find_sample(text, step + 1, INT_MAX) : NULL;
    if (behind && truncate(path, behind - text) != 0) fail("%s: cannot be cut: %s", path, strerror(errno));
    free(text);
    free(path);
}

// Appends a sample to sample.txt, unless one of this step is there, drawn before the run went on.
static inline void run_add_sample(const RunFolder *r, int step, const char *sample) {
    char *path = format("%s/sample.txt", r->dir), *text = read_file(path, NULL);
    bool there = text && run_find_sample(text, step, step);
    free(text);
    FILE *f = there ? NULL : fopen(path, "a");
    if (!there && (!f || fprintf(f, "--- step %d ---\n%s\n\n", step, sample) < 0 || fclose(f) != 0))
        fail("%s: %s", path, strerror(errno));
    free(path);
}

// Why nothing that was computed from the data is to be kept: data or folder are no longer those that the run began with.
// NULL, or words to be freed.
static inline char *run_disturbed(const RunFolder *r, const DataLoader *data) {
    const Shard *changed = dataloader_changed(data);
    if (changed) return format("%s: " SHARD_CHANGED "; earlier checkpoints are as they were", changed->path);
    if (run_is_at(r->lock, r->dir)) return NULL;
    return format("%s: was removed, moved or replaced while in use: nothing more is saved", r->dir);
}

// Ends the program where the data's tokenizer is not the one that the run began with.
static inline void run_check_tokenizer(const RunFolder *r, const char *data_dir, const Tokenizer *t) {
    char *path = tokenizer_path(data_dir), error[ERROR_ROOM];
    if (t->size && tokenizer_check(t, path, r->dir, error, sizeof error) != 0) fail("%s", error);
    free(path);
}

static inline void print_resumed(const Arguments *a, const RunFolder *r, int step) {
    printf("resumed    %s at step %d", r->dir, step);
    for (int i = 0; i < a->n_overrides; i++)
        if (strncmp(a->overrides[i], "--run.dir=", 10)) printf(", now with %s", a->overrides[i] + 2);
    printf("\n");
}

// Removes what an earlier run left in the folder.
static inline void run_clear(const RunFolder *r) {
    char *stays = run_remove(r->dir);
    if (stays) fail("%s: cannot be removed: %s", stays, strerror(errno));
}

// Takes back what was written behind the checkpoint that the run goes on from, which is of `step` and knows the validation
// of step `evaluated`: lines of the log, and samples. A run that has lost its log gets a new one.
static inline void run_cut(const RunFolder *r, int step, long evaluated) {
    long last;
    int bad_line = runlog_cut(r->log, step, evaluated, &last);
    if (bad_line > 0)
        fail("%s:%d: not a line of a run's log; without this file the run goes on with a new one", r->log, bad_line);
    if (bad_line < 0 && errno != ENOENT) fail("%s: %s", r->log, strerror(errno));
    if (bad_line < 0) printf("log        %s is missing: a new one begins\n", r->log);
    else if (last < step)
        fprintf(stderr, "warning: %s: ends at step %ld, the checkpoint is of step %d: the steps between are missing in it\n",
                r->log, last > 0 ? last : 0, step);
    run_cut_samples(r->dir, step);
}

// The picture is no reason to end a training: a child draws it, and whatever ends the child, such as too little memory or
// an assertion of the image library, is a warning. It starts no threads: OpenMP's are not there after a fork.
static inline void run_draw(const RunFolder *r) {
    char *png = format("%s/loss.png", r->dir), *said = NULL, line[512];
    const char *folder = r->dir;
    int ends[2], status = 0;
    fflush(NULL);                                        // what is still in a buffer would be written twice
    if (pipe(ends) != 0) { fprintf(stderr, "warning: %s: not drawn: %s\n", png, strerror(errno)); free(png); return; }
    pid_t child = fork();
    if (child == 0) {
        fail_ends = NULL;                                // a picture that fails is not the end of a rank
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        if (r->lock >= 0) close(r->lock);                // the folder is its parent's alone
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (runlog_plot(&folder, NULL, 1, png) != 0) fail("%s", strerror(errno));
        fflush(NULL);
        _exit(0);
    }
    int error = errno;
    close(ends[1]);
    FILE *from = child > 0 ? fdopen(ends[0], "r") : NULL;
    while (from && fgets(line, sizeof line, from)) {     // its own warnings, then why it failed
        line[strcspn(line, "\n")] = '\0';
        if (said) fprintf(stderr, "%s\n", said);
        free(said);
        said = xstrdup(line);
    }
    if (from) fclose(from);
    else close(ends[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    bool failed = child < 0 || status != 0;
    const char *reason = child < 0 ? strerror(error) : !said ? "the process that draws it was ended" : said;
    if (failed) fprintf(stderr, "warning: %s: not drawn: %s\n", png, reason + (strncmp(reason, "error: ", 7) ? 0 : 7));
    else if (said) fprintf(stderr, "%s\n", said);
    free(said);
    free(png);
}

#endif // RUN_H

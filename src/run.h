/* run.h - a run's folder: which files are the run's, which are somebody else's, and one process at a time.
 *
 * defines: run_begun, run_taken, run_lock, run_data_conflict, run_foreign_file, run_remove
 *
 * A run writes into its folder, in this order: log.jsonl, config.json, the tokenizer (a copy of the data's, and
 * `vocabulary`, its sidecar), then checkpoints, loss.png and sample.txt. So a folder is a run's where log.jsonl is a
 * run's log or a checkpoint is there; in any other folder a file of one of these names is somebody else's, and no run
 * may replace or remove it.
 */
#ifndef RUN_H
#define RUN_H

#include "checkpoint.h"
#include "util.h"
#include "../data/dataloader.h"
#include "../data/tokenizer.h"

// In the order in which they are removed: what says that the folder is a run's goes last.
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

// Removes what the run in dir wrote, and nothing else. Returns NULL, or the path that could not be removed with errno
// set, to be freed.
static inline char *run_remove(const char *dir) {
    const char *names[COUNT_OF(run_files) + COUNT_OF(run_tokenizers) + 1];
    int n = 0;
    if (!run_begun(dir)) return NULL;
    for (size_t i = 0; i < COUNT_OF(run_tokenizers); i++)
        if (run_wrote_tokenizer(dir, run_tokenizers[i])) names[n++] = run_tokenizers[i];
    if (run_wrote_vocabulary(dir)) names[n++] = "vocabulary";
    for (size_t i = 0; i < COUNT_OF(run_files); i++) names[n++] = run_files[i];
    for (int i = 0; i < n; i++) {
        char *path = format("%s/%s", dir, names[i]);
        if (unlink(path) != 0 && errno != ENOENT) return path;
        free(path);
    }
    return NULL;
}

// ---------------------------------------------------------------------------------------------------------------------
// The lock

/* Makes the folder and locks it for this process, until the descriptor is closed. Returns the descriptor, *locked as
 * lock_folder says; or -1 with errno set, EWOULDBLOCK where another process has it. A folder that was removed while it
 * was being locked is made again. */
static inline int run_lock(const char *dir, bool *locked) {
    for (int attempt = 0; ; attempt++) {
        struct stat mine, there;
        if (make_dirs(dir) != 0) return -1;
        int fd = lock_folder(dir, locked);
        if (fd < 0 && (errno != ENOENT || attempt == 100)) return -1;
        if (fd < 0) continue;
        if ((fstat(fd, &mine) == 0 && stat(dir, &there) == 0 && run_same(&mine, &there)) || attempt == 100) return fd;
        close(fd);
    }
}

#endif // RUN_H

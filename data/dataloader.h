/* dataloader.h - windows of T tokens out of a folder of token shards, in an order that is a pure function.
 *
 * defines: DataLoader, Shard, dataloader_open, dataloader_by_documents, dataloader_close, dataloader_epoch,
 *          dataloader_place, dataloader_train, dataloader_batch, dataloader_val_windows, dataloader_val_spread,
 *          dataloader_val, dataloader_classes, dataloader_fingerprint, dataloader_fingerprint_of, dataloader_names,
 *          dataloader_changed, shard_open, shard_close, shard_token, shard_kind, shard_sum
 *
 * A shard, little endian (llm.c, dev/data/data_common.py; modded-nanogpt's FineWeb files are the same): 256 int32 of
 * header, [0] = 20240520, [1] = version 1, [2] = number of tokens, the rest 0; then one uint16 a token. Vocabularies of
 * more than 65,535 tokens: [0] = 20240801, [1] = 7, then one uint32 a token (llm.c's Llama 3 shards). A file called
 * train.bin or val.bin that begins with neither is nanoGPT's: uint16 tokens and nothing else.
 * A data folder: the shards are the files *train*.bin and *val*.bin, in the order of their names. They are mapped,
 * never read whole: a corpus may be larger than the memory. A folder that was prepared has a file `fingerprint`, whose lines
 * from the third on are "SUM BYTES NAME" of each shard (shard_sum in hex): names and sizes are compared whenever the folder
 * is opened, sums of the shards whose tokens are all read then.
 *
 * The order of training is a function of (seed, sequence number) and nothing else: a checkpoint keeps one number, and
 * threads, micro-batches or ranks can't change what sequence n is. One epoch takes every window once. In each epoch,
 * hashes of (seed, epoch) shuffle the shards, give each shard an offset in 0 .. T-1 at which its first window starts,
 * and permute the windows, which lie end to end from there and don't overlap. By documents, a shard's documents (each
 * from an end-of-text token up to the next) are permuted too, and the windows are cut from that.
 */
#ifndef DATALOADER_H
#define DATALOADER_H

#include "../src/util.h"
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "shards are mapped as they are: a little-endian machine is needed"
#endif

enum { SHARD_HEADER_BYTES = 256 * 4, SHARD_NARROW_TOKENS = 65535 };     // a larger vocabulary needs four bytes a token

static const struct { int32_t magic, version; int width; } shard_kinds[] = { { 20240520, 1, 2 }, { 20240801, 7, 4 } };
enum { DATALOADER_CHECK_TOKENS = 1 << 29 };     // up to here all are checked when opened (a second); always when used
enum { DATALOADER_RESIDENT = 64 << 20 };        // bytes of mapped files that count as this process's memory, about
enum { DATALOADER_CLASSES = 10 };
#define SHARD_CHANGED "was overwritten or cut while in use"

typedef struct {
    char *path;
    void *map;                  // the whole file
    size_t bytes;               // its size
    const void *tokens;         // behind the header
    int width;                  // bytes a token: 2 or 4
    size_t count;               // number of tokens
    uint64_t windows;           // how many windows of T tokens (and one target more) it gives, 0 where it is too short
    struct stat opened;         // of the file, when it was mapped
    bool summed;                // all of it has been read, and
    uint64_t sum;               // is its shard_sum
} Shard;

typedef struct {
    Shard *train, *val;
    int train_shards, val_shards;
    int T, V;
    uint64_t seed;
    uint64_t train_windows;     // an epoch's
    uint64_t train_tokens;      // of all training shards
    uint64_t val_windows;
    size_t touched;             // bytes read from the maps since they were last let go of
    // by documents: those of one training shard in one epoch, in their order there
    int eot;                    // -1: by windows
    int indexed;                // the shard, -1: none yet
    uint64_t indexed_epoch;
    size_t documents, document_room;
    struct DataDocument { size_t start, at; } *document;    // first token in the shard, and in that order
} DataLoader;

// ---------------------------------------------------------------------------------------------------------------------
// Shards

static inline uint32_t shard_token(const Shard *s, size_t i) {
    return s->width == 2 ? ((const uint16_t *)s->tokens)[i] : ((const uint32_t *)s->tokens)[i];
}

// Which of shard_kinds a vocabulary of V tokens is written as.
static inline int shard_kind(int V) { return V > SHARD_NARROW_TOKENS; }

// Whether a file of this path may be nanoGPT's.
static inline bool shard_may_be_raw(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strcmp(name, "train.bin") == 0 || strcmp(name, "val.bin") == 0;
}

// Maps the shard at path. Ends the program with one line where it can't be read or its size contradicts its header.
static inline Shard shard_open(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) fail("%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) fail("%s: not a file: a token shard expected", path);
    size_t bytes = (size_t)st.st_size;
    bool may_be_raw = shard_may_be_raw(path);
    if (bytes < (may_be_raw ? 2 : SHARD_HEADER_BYTES))
        fail("%s: %zu bytes: a token shard has a header of %d bytes", path, bytes, SHARD_HEADER_BYTES);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) fail("%s: cannot be mapped: %s", path, strerror(errno));
    close(fd);
    int32_t header[3] = { 0 };
    memcpy(header, map, bytes < sizeof header ? bytes : sizeof header);
    Shard s = { .path = xstrdup(path), .map = map, .bytes = bytes, .opened = st };
    for (size_t kind = 0; kind < COUNT_OF(shard_kinds); kind++)
        if (header[0] == shard_kinds[kind].magic && header[1] == shard_kinds[kind].version)
            s.width = shard_kinds[kind].width;
    if (!s.width && may_be_raw) {
        if (bytes % 2) fail("%s: %zu bytes: neither a shard's header nor an even number, as nanoGPT's files have", path, bytes);
        s.width = 2;
        s.tokens = map;
        s.count = bytes / 2;
        return s;
    }
    if (!s.width)
        fail("%s: magic %d, version %d: not a token shard (%d, version %d or %d, version %d expected)", path, header[0],
             header[1], shard_kinds[0].magic, shard_kinds[0].version, shard_kinds[1].magic, shard_kinds[1].version);
    long long need = SHARD_HEADER_BYTES + (long long)s.width * header[2];
    if (header[2] < 0 || need != (long long)bytes)
        fail("%s: the header says %d tokens (%lld bytes), the file has %zu bytes", path, header[2], need, bytes);
    s.tokens = (const char *)map + SHARD_HEADER_BYTES;
    s.count = (size_t)header[2];
    return s;
}

static inline void shard_close(Shard *s) {
    munmap(s->map, s->bytes);
    free(s->path);
}

// A checksum of the whole file: the hash of four hashes, each of every fourth word of 8 bytes, so that four are on their way
// at once. Zeros fill up the last ones.
static inline uint64_t shard_sum(const Shard *s) {
    enum { LANES = 4, PART = 1 << 23 };
    uint64_t lanes[LANES] = { 0 }, words[LANES], h = hash64(s->bytes, 0);
    for (size_t at = 0; at < s->bytes; at += sizeof words) {
        size_t left = s->bytes - at;
        if (left < sizeof words) memset(words, 0, sizeof words);
        memcpy(words, (const char *)s->map + at, left < sizeof words ? left : sizeof words);
        for (int i = 0; i < LANES; i++) lanes[i] = hash64(lanes[i], words[i]);
        if (at % PART == 0) madvise(s->map, s->bytes, MADV_DONTNEED);
    }
    for (int i = 0; i < LANES; i++) h = hash64(h, lanes[i]);
    return h;
}

static inline void shard_take_sum(Shard *s) {
    s->sum = shard_sum(s);
    s->summed = true;
}

// Whether what is mapped is still what was opened, by the file's size and time; where only the time differs, by its sum if
// that is known. A file that another one took the place of stays whole for who has mapped it.
static inline bool shard_is_unchanged(const Shard *s) {
    const struct stat *was = &s->opened;
    struct stat st;
    if (stat(s->path, &st) != 0 || st.st_dev != was->st_dev || st.st_ino != was->st_ino) return true;
    if (st.st_size != was->st_size) return false;
    bool touched = st.st_mtim.tv_sec != was->st_mtim.tv_sec || st.st_mtim.tv_nsec != was->st_mtim.tv_nsec;
    return !touched || (s->summed && shard_sum(s) == s->sum);
}

// ---------------------------------------------------------------------------------------------------------------------
// The folder

// Which split a file's name says: 't' for *train*.bin, 'v' for *val*.bin, 0 for neither. Where a name has both words
// the later one counts: medieval_train_000000.bin is training data.
static inline char dataloader_split(const char *name) {
    size_t n = strlen(name);
    if (n < 4 || strcmp(name + n - 4, ".bin") != 0) return 0;
    for (const char *p = name + n; p > name; ) {
        p--;
        if (strncmp(p, "train", 5) == 0) return 't';
        if (strncmp(p, "val", 3) == 0) return 'v';
    }
    return 0;
}

// The names of one split's shards in dir, in order; the caller frees each and the list. Fails where dir can't be read.
static inline char **dataloader_names(const char *dir, char split, int *count) {
    DIR *folder = opendir(dir);
    if (!folder) fail("%s: cannot be read: %s (a folder with token shards expected)", dir, strerror(errno));
    char **names = NULL;
    int n = 0;
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        if (dataloader_split(entry->d_name) != split) continue;
        names = (char **)xrealloc(names, ((size_t)n + 1) * sizeof *names);
        names[n++] = xstrdup(entry->d_name);
    }
    closedir(folder);
    if (n > 0) qsort(names, (size_t)n, sizeof *names, compare_strings);
    *count = n;
    return names;
}

static inline Shard *dataloader_shards(const char *dir, char split, int *count) {
    char **names = dataloader_names(dir, split, count);
    Shard *shards = (Shard *)xcalloc((size_t)*count, sizeof *shards);
    for (int i = 0; i < *count; i++) {
        char *path = format("%s/%s", dir, names[i]);
        shards[i] = shard_open(path);
        free(path);
        free(names[i]);
    }
    free(names);
    return shards;
}

// Ends the program with the shard's first token from position `at` on that is not less than V; there must be one.
__attribute__((noreturn)) static inline void dataloader_bad_token(const Shard *s, size_t at, int V) {
    if (!shard_is_unchanged(s)) fail("%s: " SHARD_CHANGED, s->path);
    while (shard_token(s, at) < (uint32_t)V) at++;
    fail("%s: token %zu is %u: the vocabulary has %d tokens (0 to %d)%s", s->path, at, shard_token(s, at), V, V - 1,
         s->tokens == s->map ? "; it has no shard's header and was read as nanoGPT's, uint16 tokens alone" : "");
}

// Reads every token of a shard, so that one outside the vocabulary is found now and not hours into training.
static inline void dataloader_check_tokens(const Shard *s, int V) {
    enum { PART = 1 << 22 };
    for (size_t from = 0; from < s->count; from += PART) {
        size_t to = from + PART < s->count ? from + PART : s->count;
        uint32_t largest = 0;
        for (size_t i = from; i < to; i++) largest = shard_token(s, i) > largest ? shard_token(s, i) : largest;
        if (largest >= (uint32_t)V) dataloader_bad_token(s, from, V);
        madvise(s->map, s->bytes, MADV_DONTNEED);
    }
}

// Shard i of all, those of training first.
static inline const Shard *dataloader_shard(const DataLoader *d, int i) {
    return i < d->train_shards ? &d->train[i] : &d->val[i - d->train_shards];
}

// What names the shard in DIR/fingerprint, which is the file's name.
static inline const char *shard_name(const Shard *s) { return strrchr(s->path, '/') + 1; }

// Ends the program where dir's fingerprint lists other shards than those that were opened: a power cut, a full disk or a
// hand left another folder than the one that was prepared.
static inline void dataloader_check_prepared(const DataLoader *d, const char *dir) {
    char *path = format("%s/fingerprint", dir), *text = read_file(path, NULL), *line = text;
    for (int i = 0; i < 2 && line; i++) line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL;
    int n = d->train_shards + d->val_shards, listed = 0;
    bool *found = (bool *)xcalloc((size_t)n, sizeof *found);
    for (char *next; line && *line; line = next, listed++) {
        size_t bytes;
        unsigned long long sum;
        int name = 0;
        next = line + strcspn(line, "\n");
        if (*next) *next++ = '\0';
        if (sscanf(line, "%llx %zu %n", &sum, &bytes, &name) != 2 || !name)
            fail("%s: line %d: \"%.80s\": a shard's checksum, bytes and name expected", path, listed + 3, line);
        const Shard *s = NULL;
        for (int i = 0; i < n && !s; i++) {
            const Shard *one = dataloader_shard(d, i);
            if (strcmp(shard_name(one), line + name) != 0) continue;
            s = one;
            found[i] = true;
        }
        if (!s) fail("%s/%s: is missing, which %s lists: prepare the folder anew", dir, line + name, path);
        if (s->bytes != bytes)
            fail("%s: %zu bytes, but %s says %zu: cut or replaced since it was prepared", s->path, s->bytes, path, bytes);
        if (s->summed && s->sum != sum)
            fail("%s: checksum %016llx, but %s says %016llx: damaged or replaced since it was prepared", s->path,
                 (unsigned long long)s->sum, path, sum);
    }
    for (int i = 0; i < n && listed; i++)
        if (!found[i]) fail("%s: is not among the shards that %s lists: prepare the folder anew, or move it away",
                            dataloader_shard(d, i)->path, path);
    free(found);
    free(text);
    free(path);
}

// A mapped file's pages stay in the system's cache, but what was read of it counts as the process's memory until it is
// let go of: so a corpus of any size takes about DATALOADER_RESIDENT. A read maps up to a huge page around it.
static inline void dataloader_touch(DataLoader *d, size_t bytes) {
    d->touched += bytes + (2 << 20);
    if (d->touched < DATALOADER_RESIDENT) return;
    d->touched = 0;
    for (int i = 0; i < d->train_shards; i++) madvise(d->train[i].map, d->train[i].bytes, MADV_DONTNEED);
    for (int i = 0; i < d->val_shards; i++) madvise(d->val[i].map, d->val[i].bytes, MADV_DONTNEED);
}

// A mapped file that another program has made shorter: the system says so by a signal, here a line.
static DataLoader *dataloader_opened;

static inline void dataloader_on_sigbus(int number, siginfo_t *info, void *context) {
    const DataLoader *d = dataloader_opened;
    const char *at = (const char *)info->si_addr, *path = "memory";
    (void)context;
    (void)number;
    for (int i = 0; d && i < d->train_shards + d->val_shards; i++) {
        const Shard *s = dataloader_shard(d, i);
        if (at >= (const char *)s->map && at < (const char *)s->map + s->bytes) path = s->path;
    }
    const char *words[] = { "error: ", path, ": " SHARD_CHANGED "\n" };
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (write(STDERR_FILENO, words[i], strlen(words[i])) < 0) break;
    _exit(EXIT_FAILED);
}

// Opens a data folder for windows of T tokens. V: every token must be less. seed: of the training order. Ends the
// program with one line where a split is missing, a shard is damaged or not the one that was prepared, or no shard of a
// split holds one window.
static inline void dataloader_open(DataLoader *d, const char *dir, int T, int V, uint64_t seed) {
    memset(d, 0, sizeof *d);
    d->T = T;
    d->V = V;
    d->seed = seed;
    d->eot = d->indexed = -1;
    struct sigaction cut = { .sa_sigaction = dataloader_on_sigbus, .sa_flags = SA_SIGINFO };
    dataloader_opened = d;
    sigaction(SIGBUS, &cut, NULL);
    d->train = dataloader_shards(dir, 't', &d->train_shards);
    d->val = dataloader_shards(dir, 'v', &d->val_shards);
    for (int i = 0; i < d->train_shards; i++) d->train_tokens += d->train[i].count;
    bool whole = d->train_tokens <= DATALOADER_CHECK_TOKENS;        // all is read
    for (int i = 0; i < d->train_shards && whole; i++) shard_take_sum(&d->train[i]);
    for (int i = 0; i < d->val_shards; i++) shard_take_sum(&d->val[i]);
    dataloader_check_prepared(d, dir);
    if (d->train_shards == 0) fail("%s: no training shard (*train*.bin) in this folder", dir);
    if (d->val_shards == 0) fail("%s: no validation shard (*val*.bin) in this folder", dir);
    size_t t = (size_t)T;
    for (int i = 0; i < d->train_shards; i++) {
        Shard *s = &d->train[i];
        // count / T - 1 windows fit at each of the T offsets; a shard shorter than 2 T gives one, where it fits.
        s->windows = s->count >= 2 * t ? s->count / t - 1 : s->count > t;
        d->train_windows += s->windows;
    }
    for (int i = 0; i < d->val_shards; i++) {
        Shard *s = &d->val[i];
        s->windows = s->count > t ? (s->count - 1) / t : 0;
        d->val_windows += s->windows;
    }
    for (int i = 0; i < d->train_shards && whole; i++) dataloader_check_tokens(&d->train[i], V);
    for (int i = 0; i < d->val_shards; i++) dataloader_check_tokens(&d->val[i], V);
    const char *few = d->train_windows == 0 ? "training" : d->val_windows == 0 ? "validation" : NULL;
    if (few) fail("%s: no %s shard holds the %d tokens of one window (context %d and a target)", dir, few, T + 1, T);
}

// The first shard that was overwritten or cut since it was opened, so that what was read of it may be of another text; NULL
// where there is none. O(number of shards).
static inline const Shard *dataloader_changed(const DataLoader *d) {
    for (int i = 0; i < d->train_shards + d->val_shards; i++) {
        const Shard *s = dataloader_shard(d, i);
        if (!shard_is_unchanged(s)) return s;
    }
    return NULL;
}

// From here on training is by documents, which begin with the token eot. False where no training shard has one.
static inline bool dataloader_by_documents(DataLoader *d, int eot) {
    d->eot = eot;
    for (int i = 0; i < d->train_shards; i++)
        for (size_t k = 0; k < d->train[i].count; k++)
            if (shard_token(&d->train[i], k) == (uint32_t)eot) return true;
    return false;
}

static inline void dataloader_close(DataLoader *d) {
    for (int i = 0; i < d->train_shards; i++) shard_close(&d->train[i]);
    for (int i = 0; i < d->val_shards; i++) shard_close(&d->val[i]);
    free(d->train);
    free(d->val);
    free(d->document);
    dataloader_opened = NULL;
    memset(d, 0, sizeof *d);
}

static inline uint64_t dataloader_hash_bytes(uint64_t h, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, (const char *)bytes + i, n - i < 8 ? n - i : 8);
        h = hash64(h, word);
    }
    return h;
}

// A hash of every shard's size and of its first and last 64 KiB, header included, in order: tells other data apart
// without reading it all, so that a resume on it can be refused. It doesn't depend on the folder's or the files' names.
static inline uint64_t dataloader_fingerprint(const DataLoader *d) {
    enum { ENDS = 64 * 1024 };
    uint64_t h = hash64((uint64_t)d->train_shards, (uint64_t)d->val_shards);
    for (int i = 0; i < d->train_shards + d->val_shards; i++) {
        const Shard *s = dataloader_shard(d, i);
        size_t n = s->bytes < ENDS ? s->bytes : ENDS;
        h = dataloader_hash_bytes(hash64(h, s->bytes), s->map, n);
        h = dataloader_hash_bytes(h, (const char *)s->map + s->bytes - n, n);
    }
    return h;
}

// The same of a folder that isn't open, whatever tokens it holds.
static inline uint64_t dataloader_fingerprint_of(const char *dir) {
    DataLoader d = { 0 };
    d.train = dataloader_shards(dir, 't', &d.train_shards);
    d.val = dataloader_shards(dir, 'v', &d.val_shards);
    uint64_t h = dataloader_fingerprint(&d);
    dataloader_close(&d);
    return h;
}

// ---------------------------------------------------------------------------------------------------------------------
// Windows

// Copies tokens [from, to) of a window of T + 1, which in shard s are those from `start` on: token i of a window is
// inputs[i] and targets[i - 1].
static inline void dataloader_copy(const DataLoader *d, const Shard *s, size_t start, int from, int to, int32_t *inputs,
                                   int32_t *targets) {
    uint32_t largest = 0;
    for (int i = from; i < to; i++) {
        uint32_t token = shard_token(s, start + (size_t)(i - from));
        if (i < d->T) inputs[i] = (int32_t)token;
        if (i > 0) targets[i - 1] = (int32_t)token;
        largest = token > largest ? token : largest;
    }
    if (largest >= (uint32_t)d->V) dataloader_bad_token(s, start, d->V);
}

// Image of i under a permutation of 0 .. n-1 that key chooses: a Feistel network (Luby, Rackoff 1988) over the smallest
// even number of bits that holds n, walked until it falls below n (Black, Rogaway 2002), on average under 4 times. Ten
// rounds: with six the orders of three or four shards are visibly not equally likely.
static inline uint64_t dataloader_permute(uint64_t i, uint64_t n, uint64_t key) {
    int half = 1;
    while ((uint64_t)1 << 2 * half < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 10; round++) {
            uint64_t next = left ^ (hash64(hash64(key, round), right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

// The epoch (from 0) training sequence number `sequence` belongs to.
static inline uint64_t dataloader_epoch(const DataLoader *d, uint64_t sequence) {
    return sequence / d->train_windows;
}

enum { ORDER_SHARDS, ORDER_OFFSET, ORDER_WINDOWS, ORDER_DOCUMENTS };   // what a hash of an epoch's key decides

static inline uint64_t dataloader_key(const DataLoader *d, uint64_t epoch) {
    return hash64(hash_string("training order"), hash64(d->seed, epoch));
}

// Where training sequence number `sequence` (from 0, counted over all epochs) lies: the index of its training shard,
// and in *start its first token; by documents, its first token in the order of the epoch. O(number of shards).
static inline int dataloader_place(const DataLoader *d, uint64_t sequence, size_t *start) {
    uint64_t key = dataloader_key(d, dataloader_epoch(d, sequence));
    uint64_t window = sequence % d->train_windows, shards = (uint64_t)d->train_shards;
    uint64_t turn = 0, at = dataloader_permute(0, shards, hash64(key, ORDER_SHARDS));
    while (window >= d->train[at].windows) {
        window -= d->train[at].windows;
        at = dataloader_permute(++turn, shards, hash64(key, ORDER_SHARDS));
    }
    const Shard *s = &d->train[at];
    uint64_t T = (uint64_t)d->T, spare = s->count - s->windows * T;     // offsets 0 .. spare-1 leave it room
    uint64_t offset = hash64(hash64(key, ORDER_OFFSET), at) % (spare < T ? spare : T);
    *start = offset + T * dataloader_permute(window, s->windows, hash64(hash64(key, ORDER_WINDOWS), at));
    return (int)at;
}

// The documents of a training shard in the order of an epoch. What stands before the first end-of-text token, where a
// shard cut a document, is one too.
static inline void dataloader_index(DataLoader *d, int shard, uint64_t epoch) {
    const Shard *s = &d->train[shard];
    size_t n = 0;
    if (d->indexed == shard && d->indexed_epoch == epoch) return;
    size_t *starts = NULL, room = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (i > 0 && shard_token(s, i) != (uint32_t)d->eot) continue;
        if (n == room) starts = (size_t *)xrealloc(starts, (room = 2 * room + 1024) * sizeof *starts);
        starts[n++] = i;
    }
    if (n + 1 > d->document_room)
        d->document = (struct DataDocument *)xrealloc(d->document, (d->document_room = n + 1) * sizeof *d->document);
    uint64_t key = hash64(hash64(dataloader_key(d, epoch), ORDER_DOCUMENTS), (uint64_t)shard);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = (size_t)dataloader_permute(i, n, key);
        d->document[i] = (struct DataDocument){ starts[k], at };
        at += (k + 1 < n ? starts[k + 1] : s->count) - starts[k];
    }
    d->document[n] = (struct DataDocument){ s->count, at };
    free(starts);
    d->documents = n;
    d->indexed = shard;
    d->indexed_epoch = epoch;
    dataloader_touch(d, DATALOADER_RESIDENT);
}

// Training sequence number `sequence`: inputs (T) and targets (T), the tokens one further on. Ends the program with one
// line where a token is not below V. One thread's.
static inline void dataloader_train(DataLoader *d, uint64_t sequence, int32_t *inputs, int32_t *targets) {
    size_t start;
    int at = dataloader_place(d, sequence, &start), T = d->T;
    const Shard *s = &d->train[at];
    if (d->eot < 0) {
        dataloader_copy(d, s, start, 0, T + 1, inputs, targets);
    } else {
        dataloader_index(d, at, dataloader_epoch(d, sequence));
        size_t low = 0, high = d->documents;        // document[low].at <= start < document[high].at
        while (high - low > 1) {
            size_t middle = (low + high) / 2;
            if (d->document[middle].at <= start) low = middle;
            else high = middle;
        }
        for (int from = 0, to; from <= T; from = to, low++) {
            const struct DataDocument *document = &d->document[low];
            size_t skip = start + (size_t)from - document->at, left = document[1].at - document->at - skip;
            to = left < (size_t)(T + 1 - from) ? from + (int)left : T + 1;
            dataloader_copy(d, s, document->start + skip, from, to, inputs, targets);
        }
    }
    dataloader_touch(d, (size_t)(T + 1) * (size_t)s->width);
}

// The sequences that rank (0 .. size-1) of `size` takes of step `step` (from 0) with `batch` sequences, which size must
// divide: inputs and targets (batch / size, T). All ranks together have what one rank of one has, in its order. The
// system is told which of the files' pages the next step will need, and reads them while this one computes.
static inline void dataloader_batch(DataLoader *d, uint64_t step, int batch, int rank, int size, int32_t *inputs,
                                    int32_t *targets) {
    uint64_t mine = (uint64_t)(batch / size), first = step * (uint64_t)batch + (uint64_t)rank * mine;
    for (uint64_t b = 0; b < mine; b++)
        dataloader_train(d, first + b, inputs + b * (uint64_t)d->T, targets + b * (uint64_t)d->T);
    for (uint64_t b = 0; d->eot < 0 && b < mine; b++) {
        size_t start, page = (size_t)sysconf(_SC_PAGESIZE);
        const Shard *s = &d->train[dataloader_place(d, first + (uint64_t)batch + b, &start)];
        size_t from = (size_t)((const char *)s->tokens - (const char *)s->map) + start * (size_t)s->width;
        size_t end = from + (size_t)(d->T + 1) * (size_t)s->width;
        madvise((char *)s->map + from / page * page, end - from / page * page, MADV_WILLNEED);
    }
}

// How many validation windows make up eval_tokens tokens (0: all there are), at least one, the remainder dropped.
static inline uint64_t dataloader_val_windows(const DataLoader *d, uint64_t eval_tokens) {
    uint64_t windows = eval_tokens / (uint64_t)d->T;
    if (eval_tokens == 0 || windows > d->val_windows) return d->val_windows;
    return windows > 0 ? windows : 1;
}

// The i-th of `windows` validation windows that are spread evenly over the split: the middle one of each of as many
// stretches. With windows = val_windows it is i.
static inline uint64_t dataloader_val_spread(const DataLoader *d, uint64_t windows, uint64_t i) {
    return (2 * i + 1) * d->val_windows / (2 * windows);
}

// Validation window number index (0 .. val_windows-1): windows from the start of the validation shards, end to end. A window's last target is the next window's first input, so every token is predicted once.
static inline void dataloader_val(DataLoader *d, uint64_t index, int32_t *inputs, int32_t *targets) {
    const Shard *s = d->val;
    for (; index >= s->windows; s++) index -= s->windows;
    dataloader_copy(d, s, (size_t)index * (size_t)d->T, 0, d->T + 1, inputs, targets);
    dataloader_touch(d, (size_t)(d->T + 1) * (size_t)s->width);
}

// ---------------------------------------------------------------------------------------------------------------------
// Classes of tokens by their frequency: class 0 has the most frequent ones that make up a tenth of the training text,
// class 9 the rarest. Each class is about a tenth of what is to be predicted; a token so frequent that it is more leaves
// classes empty.

typedef struct { uint64_t count; uint32_t token; } DataFrequency;

static inline int dataloader_by_frequency(const void *a, const void *b) {
    const DataFrequency *x = (const DataFrequency *)a, *y = (const DataFrequency *)b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

// The class of each of the V tokens by its count, f[t].count, of `total` in all. Sorts f. To be freed.
static inline uint8_t *dataloader_classes_of(DataFrequency *f, int V, uint64_t total) {
    uint8_t *classes = (uint8_t *)xmalloc((size_t)V);
    uint64_t before = 0;
    for (int t = 0; t < V; t++) f[t].token = (uint32_t)t;
    qsort(f, (size_t)V, sizeof *f, dataloader_by_frequency);
    for (int t = 0; t < V; t++) {
        uint64_t middle = before + f[t].count / 2;
        classes[f[t].token] = f[t].count ? (uint8_t)(middle * DATALOADER_CLASSES / total) : DATALOADER_CLASSES - 1;
        before += f[t].count;
    }
    return classes;
}

// The class of each of the V tokens, counted in up to the first 2^24 tokens of the training shards. To be freed.
static inline uint8_t *dataloader_classes(const DataLoader *d) {
    DataFrequency *f = (DataFrequency *)xcalloc((size_t)d->V, sizeof *f);
    uint64_t total = 0;
    for (int i = 0; i < d->train_shards; i++) {
        const Shard *s = &d->train[i];
        for (size_t k = 0; k < s->count && total < 1 << 24; k++, total++) {
            if (shard_token(s, k) >= (uint32_t)d->V) dataloader_bad_token(s, k, d->V);
            f[shard_token(s, k)].count++;
        }
        madvise(s->map, s->bytes, MADV_DONTNEED);
    }
    uint8_t *classes = dataloader_classes_of(f, d->V, total);
    free(f);
    return classes;
}

#endif // DATALOADER_H

/* fuzz.c - every parser on any bytes: configs, checkpoints, safetensors, shards, tokenizers, merges, logs, pictures, texts and gzip,
 * reports, GGUF files.
 *
 * Each parser has a function try_NAME(bytes, n), a row of the table at the end and a small corpus in
 * dev/test/fuzz_corpus/NAME. What a parser takes must keep its promises, what it refuses must be one line; a wrong result
 * ends the program by abort. Built with clang's libFuzzer (`make fuzz PARSER=config`) it looks for inputs by itself, by
 * what code they reach. Built plainly (`make test`) it runs the corpora, and inputs made of them by chance:
 *
 *   fuzz [PARSER [COUNT [SEED] | FILE ...]]      COUNT inputs (1000) beside the corpus, of one parser or of each
 *
 * Writes into memory, a folder of /dev/shm, or where there is none under build/test; waits for no disk.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int no_fsync(int fd) { return fd < 0; }
#define fsync(fd) no_fsync(fd)

// Memory: what a program leaves to its end, and what it has where it fails, is freed behind an input of a parser that asks for
// it (note_memory).
static void *note(void *p), *forget(void *p);
static void *noted_malloc(size_t n) { return note(malloc(n)); }
static void *noted_calloc(size_t n, size_t size) { return note(calloc(n, size)); }
static void *noted_realloc(void *p, size_t n) { return note(realloc(forget(p), n)); }
static void noted_free(void *p) { free(forget(p)); }
static bool noting;
static struct { void **of; size_t n, room; } memory;

static void *note(void *p) {
    if (!noting || !p) return p;
    if (memory.n == memory.room) memory.of = (void **)realloc(memory.of, (memory.room = 2 * memory.room + 64) * sizeof *memory.of);
    if (!memory.of) abort();
    return memory.of[memory.n++] = p;
}

static void *forget(void *p) {
    size_t i = noting ? memory.n : 0;
    while (i > 0 && memory.of[i - 1] != p) i--;
    if (i > 0) memory.of[i - 1] = memory.of[--memory.n];
    return p;
}

static void note_memory(bool on) {
    for (noting = on; !on && memory.n > 0; ) free(memory.of[--memory.n]);
}

#define malloc noted_malloc
#define calloc noted_calloc
#define realloc noted_realloc
#define free noted_free
#include "../../src/util.h"

// ---------------------------------------------------------------------------------------------------------------------
// Failing: what would end the program comes back to the parser's function, its line checked; what was mapped goes.

static jmp_buf parser_failed;
static bool may_fail;
static char fail_text[2 * ERROR_ROOM];
static struct { void *at; size_t size; } maps[64];
static int map_count;

#define REQUIRE(condition, ...)                                                            \
    do {                                                                                   \
        if (condition) break;                                                              \
        printf("%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);                     \
        printf(__VA_ARGS__);                                                               \
        putchar('\n');                                                                     \
        fflush(stdout);                                                                    \
        abort();                                                                           \
    } while (0)

static void one_line(const char *text) {
    REQUIRE(*text && !strchr(text, '\n') && strlen(text) < ERROR_ROOM, "\"%.300s\"", text);
}

__attribute__((noreturn)) PRINTF_LIKE(1, 2) static void come_back(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    error_line_of(fail_text, sizeof fail_text, fmt, args);
    va_end(args);
    one_line(fail_text);
    REQUIRE(may_fail, "%s", fail_text);
    longjmp(parser_failed, 1);
}

static void *noted_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    void *map = mmap(at, size, protection, flags, fd, offset);
    if (map != MAP_FAILED && map_count < (int)COUNT_OF(maps)) {
        maps[map_count].at = map;
        maps[map_count++].size = size;
    }
    return map;
}

// Runs what may end the program. Returns whether it came to its end.
#define COMES_TO_ITS_END(statement)                                                        \
    (may_fail = true, map_count = 0, setjmp(parser_failed) == 0 ? (statement, may_fail = false, true) : unmap_all())

// What a parser had allocated where the program would have ended is lost.
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

static bool unmap_all(void) {
    may_fail = false;
    for (int i = 0; i < map_count; i++) munmap(maps[i].at, maps[i].size);
    return false;
}

#define fail(...) come_back(__VA_ARGS__)
#define fail_usage(...) come_back(__VA_ARGS__)
#define mmap(at, size, protection, flags, fd, offset) noted_mmap(at, size, protection, flags, fd, offset)
#include "../../src/keys.h"
#include "../../src/runlog.h"
#include "../../tools/watch_run.h"
#include "../../src/checkpoint.h"
#include "../../src/safetensors.h"
#include "../../src/gguf.h"
#include "../../data/dataloader.h"
#include "../../data/tokenizer.h"
#define main tokenize_main
#include "../../data/tokenize.c"
#undef main

// Reports: ab's names that the others have, too; small pictures, and nothing printed.
static int small_picture(const char *title, const PlotPanel *panels, int n, int rows) {
    enum { WIDTH = 160, HEIGHT = 120 };
    unsigned char *rgb = plot_render_rows(title, panels, n, rows, WIDTH, HEIGHT);
    REQUIRE(rgb, "%s", strerror(errno));
    noted_free(rgb);
    return 0;
}

#define plot_png_small(path, title, panels, n, rows, width, height)                                  \
    ((void)(path), (void)(width), (void)(height), small_picture(title, panels, n, rows))
#define printf(...) snprintf(NULL, 0, __VA_ARGS__)
#define main ab_main
#define Arguments RunArguments
#define parse_arguments parse_study
#define remove_folder remove_run_folder
#include "../../tools/ab.c"
#undef remove_folder
#undef parse_arguments
#undef Arguments
#undef main
#undef printf
#undef plot_png_small
#undef fail
#undef fail_usage
#undef mmap
#include "test.h"
#include "tokens.h"

static char *folder;            // of this process, for parsers that look at names

static void remove_folder(void) {
    char *command = format("rm -rf '%s'", folder);
    if (system(command) != 0) fprintf(stderr, "%s stays\n", folder);
    free(command);
}

static void put(const char *name, const void *bytes, size_t n) {
    char *path = format("%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
}

// A path to these bytes in memory, until the next call.
static const char *file_of(const void *bytes, size_t n) {
    static char path[64];
    static int fd = -1;
    if (fd < 0) fd = memfd_create("fuzz", 0);
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n) fail("memory: %s", strerror(errno));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

// Takes n bytes off the front of an input; zeros where it has fewer.
typedef struct { const uint8_t *at; size_t left; } Input;

static void take(Input *in, void *to, size_t n) {
    size_t got = in->left < n ? in->left : n;
    memset(to, 0, n);
    memcpy(to, in->at, got);
    in->at += got;
    in->left -= got;
}

static unsigned take_below(Input *in, unsigned n) {
    uint8_t byte;
    take(in, &byte, 1);
    return byte % n;
}

// ---------------------------------------------------------------------------------------------------------------------
// Configs: a JSON text, then overrides, with a NUL between them. What is taken is the same when it is printed and read.

static void try_config(const char *text, size_t n) {
    enum { MOST = 8 };
    char error[ERROR_ROOM] = "", *overrides[MOST], *again;
    int n_overrides = 0;
    size_t length = strnlen(text, n);
    for (const char *at = text + length; at < text + n && n_overrides < MOST; at += strnlen(at, (size_t)(text + n - at))) {
        at++;
        overrides[n_overrides++] = format("%.*s", (int)(text + n - at), at);
    }
    Config c, other;
    if (!config_try(&c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), text, length, "a.json", n_overrides, overrides, NULL,
                    error, sizeof error)) one_line(error);
    else {
        char *printed = config_text(&c, config_fields, N_FIELDS);
        bool read = config_try(&other, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), printed, strlen(printed), "printed", 0,
                               NULL, NULL, error, sizeof error);
        REQUIRE(read, "%s", error);
        again = config_text(&other, config_fields, N_FIELDS);
        REQUIRE(strcmp(printed, again) == 0, "%s instead of %s", again, printed);
        free(printed), free(again);
        config_free(&c, config_fields, N_FIELDS);
        config_free(&other, config_fields, N_FIELDS);
    }
    for (int i = 0; i < n_overrides; i++) free(overrides[i]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Checkpoints: with an odd first byte as they are; else magic, version, size and checksum are made right, so that what
// they protect is looked at.

static void try_checkpoint(const char *input, size_t n) {
    Input in = { (const uint8_t *)input, n };
    bool repair = take_below(&in, 2) == 0;
    char *file = (char *)memcpy(xmalloc(in.left), in.at, in.left), error[ERROR_ROOM] = "";
    if (repair && in.left >= sizeof(CkptHeader) + CKPT_TRAILER) {
        CkptHeader header;
        memcpy(&header, file, sizeof header);
        memcpy(header.magic, ckpt_magic, sizeof ckpt_magic);
        header.version = CKPT_VERSION;
        header.file_size = in.left;
        memcpy(file, &header, sizeof header);
        uint32_t trailer[2] = { crc_of(0, file, in.left - CKPT_TRAILER), 0 };
        memcpy(file + in.left - CKPT_TRAILER, trailer, sizeof trailer);
    }
    Checkpoint c;
    if (checkpoint_open(&c, file_of(file, in.left), error, sizeof error) != 0) one_line(error);
    else {
        for (int i = 0; i < c.n_tensors; i++) {
            CkptTensor into = c.tensors[i];
            uint64_t bytes = 0;
            REQUIRE(ckpt_bytes(&into, &bytes) && bytes <= in.left, "%s: %llu bytes", into.name, (unsigned long long)bytes);
            size_t at = (size_t)((const char *)c.tensors[i].data - (const char *)c.map);
            REQUIRE(at + bytes <= in.left - CKPT_TRAILER, "%s: %zu + %llu bytes", into.name, at, (unsigned long long)bytes);
            REQUIRE(checkpoint_find(&c, into.name) == &c.tensors[i], "%s", into.name);
            into.data = xmalloc(bytes);
            REQUIRE(checkpoint_read(&c, &into, error, sizeof error) == 0, "%s", error);
            REQUIRE(memcmp(into.data, c.tensors[i].data, bytes) == 0, "%s", into.name);
            bool between = checkpoint_between(&into, -FLT_MAX, FLT_MAX);
            REQUIRE(between == checkpoint_between(&c.tensors[i], -FLT_MAX, FLT_MAX), "%s", into.name);
            free(into.data);
        }
        checkpoint_close(&c);
    }
    free(file);
}

// ---------------------------------------------------------------------------------------------------------------------
// Safetensors: with an odd first byte as they are; else a header up to a NUL, whose length is made right, and tensors behind it.
// What is taken lies within the file, end to end, and every number of it can be read.

static void try_safetensors(const char *input, size_t n) {
    Input in = { (const uint8_t *)input, n };
    bool repair = take_below(&in, 2) == 0;
    size_t length = repair ? strnlen((const char *)in.at, in.left) : 0, size = in.left + (repair ? sizeof(uint64_t) : 0);
    char *file = (char *)xmalloc(size), error[ERROR_ROOM] = "";
    if (repair) {
        uint64_t header = length;
        bool cut = length < in.left;                     // the NUL is no part of the file
        memcpy(file, &header, sizeof header);
        memcpy(file + sizeof header, in.at, length);
        memcpy(file + sizeof header + length, in.at + length + cut, in.left - length - cut);
        size -= cut;
    } else memcpy(file, in.at, in.left);
    SafeFile f;
    if (safetensors_open(&f, file_of(file, size), error, sizeof error) != 0) one_line(error);
    else {
        uint64_t sum = 0, header;
        memcpy(&header, file, sizeof header);
        for (int i = 0; i < f.n; i++) {
            const SafeTensor *t = &f.tensors[i];
            REQUIRE(i == 0 || strcmp(f.tensors[i - 1].name, t->name) < 0, "%s", t->name);
            if (t->type >= TENSOR_TYPES) continue;
            uint64_t numbers = safetensor_numbers(t), bytes = safetensor_bytes(t), at = (uint64_t)((const unsigned char *)t->of - f.file.bytes);
            REQUIRE(at >= sizeof header + header && at <= size && bytes <= size - at, "%s: %llu bytes", t->name, (unsigned long long)bytes);
            float *values = (float *)xmalloc(numbers * sizeof *values);
            tensor_floats(values, t->of, numbers, t->type);
            REQUIRE(t->type != TENSOR_F32 || memcmp(values, file + at, bytes) == 0, "%s", t->name);
            free(values);
            sum += bytes;
        }
        REQUIRE(sum <= size - sizeof header - header, "%llu bytes", (unsigned long long)sum);
        safetensors_close(&f);
    }
    free(file);
}

// ---------------------------------------------------------------------------------------------------------------------
// Shards: numbers of two headers, tokens for both, then a fingerprint. What opens gives windows of tokens below V only.

static void put_shard(Input *in, const char *name, bool right) {
    int32_t header[SHARD_HEADER_BYTES / 4] = { 0 };
    char file[SHARD_HEADER_BYTES + 256];
    size_t bytes = take_below(in, 256);
    take(in, header, 3 * sizeof *header);
    if (right) {
        int kind = header[0] & 1;
        bytes = bytes / 4 * 4;
        header[0] = shard_kinds[kind].magic;
        header[1] = shard_kinds[kind].version;
        header[2] = (int32_t)bytes / shard_kinds[kind].width;
    }
    memcpy(file, header, sizeof header);
    take(in, file + sizeof header, bytes);
    size_t cut = header[2] % 7 == 1 && !right ? 3 : 0;          // a file as short as that, too
    put(name, file + cut, sizeof header + bytes - cut);
}

static void try_shard(const char *input, size_t n) {
    enum { T = 4, V = 300 };
    static DataLoader d;
    Input in = { (const uint8_t *)input, n };
    unsigned how = take_below(&in, 8);
    put_shard(&in, how & 4 ? "train.bin" : "a_train_0.bin", how & 1);
    put_shard(&in, "a_val_0.bin", how & 1);
    put("fingerprint", in.at, in.left);
    if (COMES_TO_ITS_END(dataloader_open(&d, folder, T, V, 1))) {
        int32_t inputs[T], targets[T];
        bool documents = how & 2 && COMES_TO_ITS_END((void)dataloader_by_documents(&d, 0));
        for (uint64_t i = 0; i < d.train_windows + 2; i++) {
            dataloader_train(&d, i, inputs, targets);
            for (int k = 0; k < T; k++)
                REQUIRE(inputs[k] < V && targets[k] < V && (k == 0 || documents || inputs[k] == targets[k - 1]), "window %d", (int)i);
        }
        for (uint64_t i = 0; i < d.val_windows; i++) dataloader_val(&d, i, inputs, targets);
        dataloader_close(&d);
    }
    const char *const names[] = { "train.bin", "a_train_0.bin", "a_val_0.bin", "fingerprint" };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char *path = format("%s/%s", folder, names[i]);
        unlink(path);
        free(path);
    }
}

#include "fuzz_tokenizer.h"     // defines: try_tokenizer
#include "fuzz_report.h"        // defines: try_report

// ---------------------------------------------------------------------------------------------------------------------
// Merges: any pairs of tokens, then a text of three letters, which is one piece of every pattern. The encoder gives the
// tokens of the plainest algorithm: the pair of the lowest rank, leftmost first, again and again.

static void try_merges(const char *input, size_t n) {
    enum { LETTERS = 3, TEXT = 400, MERGES = 40, BYTES = 256 };
    Input in = { (const uint8_t *)input, n };
    Bpe b = { 0 };
    bpe_pairs_make(&b.ranks, 256);
    for (int i = 0; i < BYTES; i++) b.byte_id[i] = bpe_strings_add(&b.tokens, &(uint8_t){ (uint8_t)i }, 1);
    b.pattern = (int)take_below(&in, PATTERNS);
    for (unsigned left = take_below(&in, MERGES); left > 0; left--) {
        uint32_t ids[2];
        for (int k = 0; k < 2; k++) {
            unsigned at = take_below(&in, (unsigned)(LETTERS + b.tokens.count - BYTES));
            ids[k] = at < LETTERS ? b.byte_id['a' + at] : BYTES + at - LETTERS;
        }
        size_t lengths[2];
        const char *parts[2] = { bpe_token(&b, ids[0], &lengths[0]), bpe_token(&b, ids[1], &lengths[1]) };
        if (bpe_pairs_get(&b.ranks, ids[0], ids[1]) != BPE_NONE || lengths[0] + lengths[1] > 64) continue;
        char both[64];
        memcpy(both, parts[0], lengths[0]);
        memcpy(both + lengths[0], parts[1], lengths[1]);
        bpe_add_merge(&b, ids[0], ids[1], bpe_strings_add(&b.tokens, both, lengths[0] + lengths[1]));
    }
    char text[TEXT], error[256];
    uint32_t plain[TEXT], ids[TEXT];
    size_t length = in.left < TEXT ? in.left : TEXT, count = length;
    for (size_t i = 0; i < length; i++) text[i] = (char)('a' + in.at[i] % LETTERS), plain[i] = b.byte_id[(uint8_t)text[i]];
    for (;; ) {
        uint32_t best = BPE_NONE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            uint32_t rank = bpe_pairs_get(&b.ranks, plain[i], plain[i + 1]);
            if (rank < best) best = rank, at = i;
        }
        if (best == BPE_NONE) break;
        plain[at] = b.merges[best].token;
        memmove(plain + at + 1, plain + at + 2, (--count - at - 1) * sizeof *plain);
    }
    // An encoder of this pattern is opened once, since that takes long: it gets this vocabulary, and forgets this piece.
    static BpeEncoder of_pattern[PATTERNS];
    BpeEncoder *opened = &of_pattern[b.pattern], e;
    if (!opened->bpe) REQUIRE(bpe_encoder_open(opened, &b, error, sizeof error) == 0, "%s", error);
    memset(&opened->cache[bpe_hash(text, length) % BPE_CACHE_SLOTS], 0, sizeof *opened->cache);
    e = (BpeEncoder){ .bpe = &b, .splitter = opened->splitter, .cache = opened->cache };
    long got = bpe_encode(&e, text, length, ids, error, sizeof error);
    REQUIRE(got == (long)count && memcmp(ids, plain, count * sizeof *ids) == 0, "%ld tokens instead of %zu of %.*s", got, count, (int)length, text);
    for (uint32_t i = 0; e.places && i < b.merge_count; i++) free(e.places[i].at);
    free(e.places), free(e.heap.items), free(e.previous), free(e.next);
    bpe_free(&b);
}

// ---------------------------------------------------------------------------------------------------------------------
// Logs: what is read gives figures; what is cut to a step, cut again, stays as it is.

static void try_log(const char *input, size_t n) {
    Input in = { (const uint8_t *)input, n };
    long step = (long)take_below(&in, 8), last;
    RunLog log;
    int bad = runlog_read(file_of(in.at, in.left), &log);
    REQUIRE(bad >= 0, "%s", strerror(errno));
    if (bad == 0) {
        const cJSON *config = cJSON_GetObjectItemCaseSensitive(log.start, "config");
        const char *name = "a run";
        char *label, *text = runlog_qk_text(&log);
        run_labels(&config, &name, 1, &label);
        for (int i = 0; i < log.n_steps; i++) REQUIRE(log.steps[i].step >= 0, "step %ld", log.steps[i].step);
        for (int i = 0; i < log.n_evals; i++) REQUIRE(log.evals[i].step >= 0, "validation of step %ld", log.evals[i].step);
        for (int i = 0; i < log.n_qks; i++) REQUIRE(log.qks[i].step >= 0, "logits of step %ld", log.qks[i].step);
        RunCurves curves = runlog_curves(&log, 1, false);
        REQUIRE(curves.n_steps == log.n_steps && runlog_last_step(&log) >= 0, "%d steps, the last %ld", log.n_steps, runlog_last_step(&log));
        runlog_val_loss(&log), runlog_best_val_loss(&log), runlog_seconds(&log), runlog_cpu_seconds(&log, step);
        runlog_free_curves(&curves);
        free(label), free(text);
        size_t size;
        FILE *f = text_open(&text, &size);                  // what a page is told is JSON, whatever the log says
        watch_put_run(f, folder, &log, "0", "0");
        text_close(f, &text);
        text[size - 3] = '\0';
        cJSON *told = cJSON_ParseWithOpts(text + strlen("watch.run("), NULL, true);
        REQUIRE(told, "%s", text);
        cJSON_Delete(told);
        free(text);
    }
    runlog_free(&log);
    put("log.jsonl", in.at, in.left);
    char *path = format("%s/log.jsonl", folder), *first, *second;
    size_t sizes[2];
    if (runlog_cut(path, step, step, &last) == 0) {
        first = read_file(path, &sizes[0]);
        REQUIRE(runlog_cut(path, step, step, &last) == 0 && last <= step, "step %ld", last);
        second = read_file(path, &sizes[1]);
        REQUIRE(sizes[0] == sizes[1] && memcmp(first, second, sizes[0]) == 0, "%s", second);
        free(first), free(second);
    }
    free(path);
}

// ---------------------------------------------------------------------------------------------------------------------
// Pictures: series of any numbers, of any style, on any axes; a picture comes of all, the same twice.

static void try_picture(const char *input, size_t n) {
    enum { POINTS = 12, SERIES = 3 };
    static double numbers[SERIES][4][POINTS];
    Input in = { (const uint8_t *)input, n };
    PlotSeries series[SERIES];
    PlotPanel panel = { .series = series, .n_series = (int)take_below(&in, SERIES + 1) };
    unsigned flags = take_below(&in, 256);
    int width = 1 + (int)take_below(&in, 120), height = 1 + (int)take_below(&in, 90);
    panel.xlog = flags & 1, panel.ylog = flags & 2, panel.robust = flags & 4;
    panel.title = flags & 8 ? "title" : NULL;
    panel.xlabel = flags & 16 ? "x" : NULL;
    if (flags & 32) take(&in, &panel.ymin, 2 * sizeof panel.ymin);
    for (int i = 0; i < panel.n_series; i++) {
        int points = (int)take_below(&in, POINTS + 1);
        unsigned style = take_below(&in, 128);
        for (int k = 0; k < 4; k++) take(&in, numbers[i][k], (size_t)points * sizeof(double));
        series[i] = (PlotSeries){ .label = style & 1 ? "label" : NULL, .x = numbers[i][0], .y = numbers[i][1], .lo = numbers[i][2],
                                  .hi = numbers[i][3], .n = points, .color = (int)take_below(&in, 20) - 8, .style = style };
    }
    unsigned char *pictures[2];
    for (int i = 0; i < 2; i++) {
        pictures[i] = plot_render(flags & 64 ? "A title" : NULL, &panel, 1, width, height);
        REQUIRE(pictures[i], "%d x %d: %s", width, height, strerror(errno));
    }
    REQUIRE(memcmp(pictures[0], pictures[1], (size_t)width * (size_t)height * 3) == 0, "%d x %d", width, height);
    free(pictures[0]), free(pictures[1]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Texts: a file, gzip or not, and its division into documents. However it is read in parts, the documents are the same.

typedef struct { char *text; size_t n; uint64_t starts; } Documents;

static bool take_document(void *state, const Piece *p) {
    Documents *d = (Documents *)state;
    if (p->first) d->starts = hash64(d->starts, d->n);
    memcpy(d->text + d->n, p->bytes, p->n);
    d->n += p->n;
    return true;
}

static Documents divided(const Corpus *c, const char *text, size_t n, size_t part) {
    Documents all = { .text = (char *)xmalloc(n) };
    Divider d = { .c = c, .piece = { .first = true, .path = "text", .line = 1 }, .take = take_document, .state = &all };
    size_t used = 0, from = 0, shown = 0;
    do {
        size_t room = shown + part < n ? part : n - shown;
        shown += room;
        divide(&d, text + from, shown - from, shown == n, &used);
        from += used;
    } while (shown < n);
    return all;
}

static void try_text(const char *input, size_t n) {
    Input in = { (const uint8_t *)input, n };
    unsigned how = take_below(&in, 16);
    size_t part = 1 + take_below(&in, 255), packed = 0, size = in.left, at = 0;
    char error[ERROR_ROOM], *text = (char *)xmalloc(1 << 20);
    uint8_t *gzip = NULL;
    if (how & 8) {                                              // as two members of gzip; else the bytes themselves
        gzip = (uint8_t *)xmalloc(2 * (in.left + 200));
        for (int member = 0; member < 2; member++) {
            z_stream z = { .next_in = (uint8_t *)(uintptr_t)in.at + (member ? in.left / 2 : 0),
                           .avail_in = (unsigned)(member ? in.left - in.left / 2 : in.left / 2), .next_out = gzip + packed, .avail_out = (unsigned)in.left + 200 };
            bool fine = deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, 0) == Z_OK && deflate(&z, Z_FINISH) == Z_STREAM_END;
            REQUIRE(fine, "zlib");
            packed += z.total_out;
            deflateEnd(&z);
        }
    }
    const char *path = gzip ? file_of(gzip, packed) : file_of(in.at, in.left);
    TextFile *f = text_file_open(path, error, sizeof error);
    long got = f ? 0 : -1;
    while (f && (got = text_file_read(f, text + at, part < (1 << 20) - at ? part : (1 << 20) - at, error, sizeof error)) > 0 && (at += (size_t)got) < 1 << 20) {}
    if (f) text_file_close(f);
    if (got < 0) one_line(error);
    REQUIRE(got >= 0 || !gzip, "%s", error);
    if (gzip) REQUIRE(at == size && memcmp(text, in.at, size) == 0, "%zu of %zu bytes", at, size);
    if (got >= 0 && at > 0) {
        Corpus c = { .division = (int)(how % 5), .documents = true, .keep_separators = how % 2 };
        Documents whole = divided(&c, text, at, at), parts = divided(&c, text, at, part);
        REQUIRE(whole.n == parts.n && whole.starts == parts.starts && memcmp(whole.text, parts.text, whole.n) == 0, "%zu and %zu bytes, parts of %zu",
                whole.n, parts.n, part);
        REQUIRE(whole.n == at || (c.division == ENDOFTEXT && !c.keep_separators), "%zu of %zu bytes", whole.n, at);
        free(whole.text), free(parts.text);
    }
    free(text), free(gzip);
}

// ---------------------------------------------------------------------------------------------------------------------
// GGUF files: of what is taken, every value and every number of a tensor lies in the file and is found by its name.

static void try_gguf(const char *input, size_t n) {
    GgufFile g;
    char error[ERROR_ROOM] = "";
    if (gguf_parse(&g, "x.gguf", input, n, n, error, sizeof error) != 0) {
        one_line(error);
        return;
    }
    const uint8_t *end = g.bytes + n, *data = end;
    for (int i = 0; i < g.n_keys; i++) {
        const GgufKey *k = &g.keys[i];
        const uint8_t *at = k->at;
        size_t length, sum = 0;
        REQUIRE(gguf_key(&g, k->name) == k, "%s", k->name);
        for (uint64_t s = 0; k->item == GGUF_STRING && s < k->count; s++) {
            const char *text = gguf_next_string(&at, &length);
            REQUIRE(at <= end && text + length == (const char *)at, "string %llu of %s", (unsigned long long)s, k->name);
            for (size_t c = 0; c < length; c++) sum += (uint8_t)text[c];
        }
        REQUIRE(at <= end && k->count <= n && sum <= 255 * n, "%s", k->name);
    }
    for (int i = 0; i < g.n_tensors; i++) {
        const SafeTensor *t = &g.tensors[i];
        size_t numbers = (size_t)safetensor_numbers(t), bytes = (size_t)safetensor_bytes(t);
        const uint8_t *at = (const uint8_t *)t->of;
        REQUIRE(gguf_tensor(&g, t->name) == t && numbers > 0 && numbers <= n, "%s", t->name);
        REQUIRE(at >= g.at && (i == 0 || at >= data) && bytes <= (size_t)(end - at), "%s: %zu bytes", t->name, bytes);
        float *x = (float *)xmalloc(numbers * sizeof *x);
        tensor_floats(x, at, numbers, t->type);
        free(x);
        data = at + bytes;
    }
    gguf_close(&g);
}

// ---------------------------------------------------------------------------------------------------------------------
// Running

static const struct { const char *name; void (*try_bytes)(const char *input, size_t n); } parsers[] = {
    { "config", try_config }, { "checkpoint", try_checkpoint }, { "safetensors", try_safetensors }, { "shard", try_shard },
    { "tokenizer", try_tokenizer }, { "merges", try_merges }, { "log", try_log }, { "picture", try_picture }, { "text", try_text }, { "report", try_report },
    { "gguf", try_gguf },
};

static int parser_named(const char *name) {
    for (int i = 0; i < (int)COUNT_OF(parsers); i++)
        if (name && strcmp(name, parsers[i].name) == 0) return i;
    fail_usage("PARSER=%s: config, checkpoint, safetensors, shard, tokenizer, merges, log, picture, text, report or gguf expected", name ? name : "");
}

static void begin(void) {
    if (folder) return;
    folder = format("%s/muon.c-fuzz.%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "build/test", (int)getpid());
    char *runs = format("%s/runs", folder);
    if (make_dirs(runs) != 0) fail("%s: %s", runs, strerror(errno));
    free(runs);
    setenv("MUON_FONT", "", 0);
    atexit(remove_folder);
}

// A copy of its own length: reading behind it is seen.
static void run_input(int parser, const void *bytes, size_t n) {
    char *input = (char *)memcpy(xmalloc(n), bytes, n);
    parsers[parser].try_bytes(input, n);
    free(input);
}

#ifdef LIBFUZZER
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static int chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    chosen = parser_named(getenv("PARSER"));
    begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size) run_input(chosen, data, size);
    return 0;
}
#else

enum { MOST_BYTES = 1 << 13, MOST_SEEDS = 64 };
typedef struct { char *bytes; size_t n; } Seed;

// An input by chance: one of the corpus with up to 8 changes, each a bit, a byte, a piece taken out or copied from another.
static size_t mutated(const Seed *seeds, int count, uint64_t h, char *out) {
    const Seed *from = &seeds[h % (uint64_t)count];
    size_t n = from->n < MOST_BYTES ? from->n : MOST_BYTES;
    memcpy(out, from->bytes, n);
    for (uint64_t change = 0, changes = 1 + (h >> 32) % 8; change < changes; change++) {
        uint64_t r = hash64(h, change);
        size_t at = n ? (size_t)(r >> 8) % n : 0, length = 1 + (size_t)(r >> 40) % 16;
        const Seed *other = &seeds[(r >> 24) % (uint64_t)count];
        if (r % 5 == 0 && n) out[at] ^= (char)(1 << (r >> 60) % 8);
        else if (r % 5 == 1 && n) out[at] = (char)(r >> 56);
        else if (r % 5 == 2 && n) {
            length = length < n - at ? length : n - at;
            memmove(out + at, out + at + length, n - at - length);
            n -= length;
        } else if (n + length < MOST_BYTES && other->n >= length) {
            memmove(out + at + length, out + at, n - at);
            memcpy(out + at, other->bytes + (size_t)(r >> 16) % (other->n - length + 1), length);
            n += length;
        }
    }
    return n;
}

static void run_parser(int parser, long count, uint64_t seed) {
    char *path = format("dev/test/fuzz_corpus/%s", parsers[parser].name), out[MOST_BYTES];
    struct dirent **names;
    Seed seeds[MOST_SEEDS];
    int n = 0, found = scandir(path, &names, NULL, alphasort);
    if (found < 0) fail("%s: %s", path, strerror(errno));
    for (int i = 0; i < found; free(names[i++])) {
        if (names[i]->d_name[0] == '.') continue;
        char *one = format("%s/%s", path, names[i]->d_name);
        if (n == MOST_SEEDS || !(seeds[n].bytes = read_file(one, &seeds[n].n))) fail("%s: cannot be read, or one too many", one);
        run_input(parser, seeds[n].bytes, seeds[n].n);
        free(one);
        n++;
    }
    if (n == 0) fail("%s: no corpus", path);
    for (long i = 0; i < count; i++) {
        size_t size = mutated(seeds, n, hash64(seed, (uint64_t)i), out);
        run_input(parser, out, size);
    }
    for (int i = 0; i < n; i++) free(seeds[i].bytes);
    free(names);
    free(path);
    printf("ok   %s: %d inputs of the corpus, %ld made of them\n", parsers[parser].name, n, count);
    fflush(stdout);
    tests_passed++;
}

int main(int argc, char **argv) {
    long count = argc > 2 ? atol(argv[2]) : 1000;
    begin();
    if (argc > 2 && file_exists(argv[2]))
        for (int i = 2; i < argc; i++) {
            size_t n;
            char *input = read_file(argv[i], &n);
            if (!input) fail("%s: %s", argv[i], strerror(errno));
            run_input(parser_named(argv[1]), input, n);
            free(input);
            tests_passed++;
        }
    else if (argc > 1) run_parser(parser_named(argv[1]), count, argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
    else for (int i = 0; i < (int)COUNT_OF(parsers); i++) run_parser(i, count, 1);
    tokenizers_free();
    return tests_end();
}
#endif

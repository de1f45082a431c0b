// test_checkpoint.c - src/checkpoint.h: its bytes, what it refuses, and that no death of a save loses a checkpoint.
#define _GNU_SOURCE
#include "volume.h"
#include "../../src/checkpoint.h"
#include "test.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

static char message[512];

// ---------------------------------------------------------------------------------------------------------------------
// A state like a trainer's: a step and strided weights, all made from one number

enum { ITEMS = 3, ITEM = 35, STRIDE = 40 };

typedef struct { int64_t step; float w[ITEMS * STRIDE]; } State;

static State state_of(int64_t version) {
    State s = { version, { 0 } };
    for (int i = 0; i < ITEMS * STRIDE; i++) s.w[i] = i % STRIDE < ITEM ? (float)(1000 * version + i) : -1.0f;
    return s;
}

static CkptTensor tensor_of(const char *name, CkptType type, void *data, size_t stride, int ndim,
                            const uint64_t *shape) {
    CkptTensor t = { "", type, ndim, { 1, 1, 1, 1 }, stride, data };
    snprintf(t.name, sizeof t.name, "%s", name);
    for (int i = 0; i < ndim; i++) t.shape[i] = shape[i];
    return t;
}

static int state_tensors(State *s, CkptTensor *list) {
    list[0] = tensor_of("step", CKPT_I64, &s->step, 0, 0, NULL);
    list[1] = tensor_of("w", CKPT_F32, s->w, STRIDE, 3, (const uint64_t[]){ ITEMS, 5, 7 });
    return 2;
}

static int save_state(const char *path, const char *previous, int64_t version) {
    State s = state_of(version);
    CkptTensor list[2];
    return checkpoint_save(path, previous, list, state_tensors(&s, list), message, sizeof message);
}

// The version that the file holds wholly, -1 where it can't be opened, -2 where it is a mixture.
static int64_t saved_version(const char *path) {
    State s = { -1, { 0 } };
    CkptTensor list[2];
    Checkpoint c;
    if (checkpoint_open(&c, path, message, sizeof message) != 0) return -1;
    for (int i = 0; i < ITEMS * STRIDE; i++) s.w[i] = -1.0f;
    bool read = true;
    for (int i = 0, n = state_tensors(&s, list); i < n; i++)
        read &= checkpoint_read(&c, &list[i], message, sizeof message) == 0;
    checkpoint_close(&c);
    State expected = state_of(s.step);
    return read && memcmp(s.w, expected.w, sizeof s.w) == 0 ? s.step : -2;
}

static unsigned char *bytes_of(const char *path, size_t *size) {
    char *bytes = read_file(path, size);
    if (!bytes) fail("%s: %s", path, strerror(errno));
    return (unsigned char *)bytes;
}

static void store(const char *path, const unsigned char *bytes, size_t size) {
    if (write_file(path, bytes, size) != 0) fail("%s: %s", path, strerror(errno));
}

// checkpoint_open refuses it with a line that names the file and has these words.
static bool refused(const char *path, const char *words) {
    Checkpoint c;
    message[0] = '\0';
    if (checkpoint_open(&c, path, message, sizeof message) == 0) { checkpoint_close(&c); return false; }
    return strstr(message, path) == message && strstr(message, words) && !strchr(message, '\n');
}

// ---------------------------------------------------------------------------------------------------------------------
// Contents

// CRC-32 bit by bit, from its definition (reflected polynomial 0xedb88320).
static uint32_t plain_crc(const unsigned char *bytes, size_t n) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint64_t u64_at(const unsigned char *bytes, int size) {
    uint64_t x = 0;
    for (int i = size - 1; i >= 0; i--) x = x << 8 | bytes[i];
    return x;
}

TEST(the_bytes_are_the_documented_ones) {
    char *folder = test_folder("test_checkpoint"), *path = format("%s/a.bin", folder);
    CHECK_MSG(save_state(path, NULL, 7) == 0, "%s", message);
    size_t n;
    unsigned char *b = bytes_of(path, &n);
    const size_t first = 64 + 2 * 128, second = first + 64, end = second + 448;      // 420 bytes of w, padded
    CHECK(n == end + 8);
    CHECK(memcmp(b, "MUONCKPT", 8) == 0 && u64_at(b + 8, 4) == 1 && u64_at(b + 12, 4) == 2 && u64_at(b + 16, 8) == n);
    for (int i = 24; i < 64; i++) CHECK(b[i] == 0);
    const unsigned char *e = b + 64;
    CHECK(strcmp((const char *)e, "step") == 0 && u64_at(e + 72, 4) == 2 && u64_at(e + 76, 4) == 0);
    CHECK(u64_at(e + 80, 8) == 1 && u64_at(e + 104, 8) == 1 && u64_at(e + 112, 8) == first && u64_at(e + 120, 8) == 8);
    e += 128;
    CHECK(strcmp((const char *)e, "w") == 0 && u64_at(e + 72, 4) == 3 && u64_at(e + 76, 4) == 3);
    CHECK(u64_at(e + 80, 8) == 3 && u64_at(e + 88, 8) == 5 && u64_at(e + 96, 8) == 7 && u64_at(e + 104, 8) == 1);
    CHECK(u64_at(e + 112, 8) == second && u64_at(e + 120, 8) == 420);
    CHECK(u64_at(b + first, 8) == 7);
    for (size_t i = first + 8; i < second; i++) CHECK(b[i] == 0);
    float x;
    memcpy(&x, b + second + 4 * ITEM, 4);
    CHECK_MSG(x == 7000 + STRIDE, "the second item begins with %g", x);
    for (size_t i = second + 420; i < end; i++) CHECK(b[i] == 0);
    CHECK(u64_at(b + end, 4) == plain_crc(b, end) && u64_at(b + end + 4, 4) == 0);
    free(b); free(path); free(folder);
}

TEST(every_type_and_rank_comes_back) {
    enum { BIG = 100003 };                          // longer than the writer's buffer, and no multiple of it
    char *folder = test_folder("test_checkpoint"), *path = format("%s/a.bin", folder);
    uint8_t u8[5] = { 0, 1, 127, 128, 255 }, u8_back[5];
    int32_t i32[6] = { INT32_MIN, -1, 0, 1, 2, INT32_MAX }, i32_back[6];
    int64_t i64 = INT64_MIN + 1, i64_back = 0;
    double f64[16], f64_back[16];
    float *f32 = (float *)xmalloc(BIG * sizeof *f32), *f32_back = (float *)xcalloc(BIG, sizeof *f32_back);
    for (int i = 0; i < 16; i++) f64[i] = 1.0 / (i + 3);
    for (int i = 0; i < BIG; i++) f32[i] = uniform_of(mix64((uint64_t)i));
    f32[1] = -0.0f;
    uint32_t nan = 0x7fc12345;                      // its payload is kept too
    memcpy(&f32[2], &nan, 4);
    void *from[] = { u8, i32, &i64, f64, f32, NULL };
    void *to[] = { u8_back, i32_back, &i64_back, f64_back, f32_back, NULL };
    CkptTensor list[7], back[7];
    for (int k = 0; k < 2; k++) {
        CkptTensor *t = k ? back : list;
        void **data = k ? to : from;
        t[0] = tensor_of("u8", CKPT_U8, data[0], 0, 1, (const uint64_t[]){ 5 });
        t[1] = tensor_of("i32", CKPT_I32, data[1], 0, 2, (const uint64_t[]){ 2, 3 });
        t[2] = tensor_of("i64", CKPT_I64, data[2], 0, 0, NULL);
        t[3] = tensor_of("f64", CKPT_F64, data[3], 0, 4, (const uint64_t[]){ 2, 2, 2, 2 });
        t[4] = tensor_of("f32", CKPT_F32, data[4], 0, 1, (const uint64_t[]){ BIG });
        t[5] = tensor_of("nothing", CKPT_F32, data[5], 4, 2, (const uint64_t[]){ 9, 0 });
        t[6] = tensor_of("nothing either", CKPT_F32, data[5], 4, 2, (const uint64_t[]){ 0, 9 });
    }
    memset(list[0].name, 'x', 71);                  // the longest name
    memset(back[0].name, 'x', 71);
    CHECK_MSG(checkpoint_save(path, NULL, list, 7, message, sizeof message) == 0, "%s", message);
    Checkpoint c;
    CHECK_MSG(checkpoint_open(&c, path, message, sizeof message) == 0, "%s", message);
    CHECK(c.n_tensors == 7);
    for (int i = 0; i < 7; i++) {
        const CkptTensor *found = checkpoint_find(&c, list[i].name);
        CHECK(found && found->type == list[i].type && found->ndim == list[i].ndim && (uintptr_t)found->data % 64 == 0);
        CHECK_MSG(checkpoint_read(&c, &back[i], message, sizeof message) == 0, "%s", message);
    }
    CHECK(memcmp(u8, u8_back, sizeof u8) == 0 && memcmp(i32, i32_back, sizeof i32) == 0 && i64 == i64_back);
    CHECK(memcmp(f64, f64_back, sizeof f64) == 0 && memcmp(f32, f32_back, BIG * sizeof *f32) == 0);
    CHECK(checkpoint_find(&c, "i3") == NULL && checkpoint_find(&c, "") == NULL);
    checkpoint_close(&c);
    CHECK(checkpoint_save(path, NULL, NULL, 0, message, sizeof message) == 0);
    CHECK(checkpoint_open(&c, path, message, sizeof message) == 0 && c.n_tensors == 0);
    checkpoint_close(&c);
    free(f32); free(f32_back); free(path); free(folder);
}

TEST(strides_hold_on_both_sides) {
    char *folder = test_folder("test_checkpoint"), *path = format("%s/a.bin", folder);
    CHECK(save_state(path, NULL, 4) == 0);
    CHECK(saved_version(path) == 4);                // strided to strided, the gaps untouched
    State s = state_of(4);
    float packed[ITEMS * ITEM], wide[(ITEMS - 1) * 50 + ITEM];
    for (size_t i = 0; i < COUNT_OF(wide); i++) wide[i] = -2;
    const uint64_t shape[] = { ITEMS, 5, 7 };
    CkptTensor into = tensor_of("w", CKPT_F32, packed, 0, 3, shape);
    CkptTensor into_wide = tensor_of("w", CKPT_F32, wide, 50, 3, shape);     // no gap behind the last item
    Checkpoint c;
    CHECK(checkpoint_open(&c, path, message, sizeof message) == 0);
    CHECK(checkpoint_read(&c, &into, message, sizeof message) == 0);
    CHECK(checkpoint_read(&c, &into_wide, message, sizeof message) == 0);
    checkpoint_close(&c);
    for (int i = 0; i < ITEMS; i++)
        for (int j = 0; j < 50 && i * 50 + j < (int)COUNT_OF(wide); j++) {
            if (j < ITEM) CHECK(packed[i * ITEM + j] == s.w[i * STRIDE + j]);
            CHECK(wide[i * 50 + j] == (j < ITEM ? s.w[i * STRIDE + j] : -2));
        }
    free(path); free(folder);
}

TEST(other_tensors_are_refused) {
    char *folder = test_folder("test_checkpoint"), *path = format("%s/a.bin", folder);
    CHECK(save_state(path, NULL, 4) == 0);
    float w[ITEMS * STRIDE];
    CkptTensor missing = tensor_of("v", CKPT_F32, w, 0, 1, (const uint64_t[]){ 3 });
    CkptTensor shape = tensor_of("w", CKPT_F32, w, 0, 3, (const uint64_t[]){ 3, 7, 5 });
    CkptTensor rank = tensor_of("w", CKPT_F32, w, 0, 2, (const uint64_t[]){ 3, 35 });
    CkptTensor type = tensor_of("w", CKPT_I32, w, 0, 3, (const uint64_t[]){ 3, 5, 7 });
    struct { const CkptTensor *into; const char *words; } cases[] = {
        { &missing, "has no tensor v" },
        { &shape, "tensor w is f32 3 x 5 x 7, expected f32 3 x 7 x 5" },
        { &rank, "tensor w is f32 3 x 5 x 7, expected f32 3 x 35" },
        { &type, "tensor w is f32 3 x 5 x 7, expected i32 3 x 5 x 7" },
    };
    Checkpoint c;
    CHECK(checkpoint_open(&c, path, message, sizeof message) == 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CHECK(checkpoint_read(&c, cases[i].into, message, sizeof message) == -1);
        CHECK_MSG(strstr(message, path) == message && strstr(message, cases[i].words), "%s", message);
    }
    checkpoint_close(&c);

    CkptTensor twice[2] = { shape, shape }, unnamed = shape;
    CHECK(checkpoint_save(path, NULL, twice, 2, message, sizeof message) == -1 && strstr(message, "taken twice"));
    unnamed.name[0] = '\0';
    CHECK(checkpoint_save(path, NULL, &unnamed, 1, message, sizeof message) == -1 && strstr(message, "1 to 71"));
    memset(unnamed.name, 'x', 72);
    CHECK(checkpoint_save(path, NULL, &unnamed, 1, message, sizeof message) == -1 && strstr(message, "1 to 71"));
    CHECK(saved_version(path) == 4);
    free(path); free(folder);
}

// ---------------------------------------------------------------------------------------------------------------------
// Damage

TEST(every_truncation_is_refused) {
    char *folder = test_folder("test_checkpoint");
    char *good = format("%s/good.bin", folder), *bad = format("%s/bad.bin", folder);
    CHECK(save_state(good, NULL, 3) == 0);
    size_t n;
    unsigned char *b = bytes_of(good, &n);
    for (size_t length = 0; length < n; length++) {
        store(bad, b, length);
        CHECK_MSG(refused(bad, "cut off"), "%zu of %zu bytes: %s", length, n, message);
    }
    unsigned char *longer = (unsigned char *)xcalloc(n + 64, 1);
    memcpy(longer, b, n);
    store(bad, longer, n + 64);
    CHECK_MSG(refused(bad, "its header says"), "%s", message);
    free(longer); free(b); free(good); free(bad); free(folder);
}

TEST(every_flipped_bit_is_refused) {
    char *folder = test_folder("test_checkpoint");
    char *good = format("%s/good.bin", folder), *bad = format("%s/bad.bin", folder);
    CHECK(save_state(good, NULL, 3) == 0);
    size_t n;
    unsigned char *b = bytes_of(good, &n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
        store(bad, b, n);
        const char *words = bit < 64 ? "is no checkpoint" : bit < 96 ? "this program reads version 1" :
                            bit < 128 || (bit >= 192 && bit < 8 * (n - 4)) ? "damaged: checksum 0x" : "";
        CHECK_MSG(refused(bad, words), "bit %zu: %s", bit, message);
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(b); free(good); free(bad); free(folder);
}

// Makes the size and the checksum right again after a change.
static void seal(unsigned char *b, size_t n) {
    uint64_t size = n;
    memcpy(b + 16, &size, 8);
    uint32_t crc = plain_crc(b, n - 8);
    memcpy(b + n - 8, &crc, 4);
}

TEST(what_is_wrong_is_said) {
    char *folder = test_folder("test_checkpoint");
    char *good = format("%s/good.bin", folder), *bad = format("%s/bad.bin", folder);
    CHECK(save_state(good, NULL, 3) == 0);
    static const struct { size_t at; int width; uint64_t value; const char *words; } cases[] = {
        { 0, 1, 'm', "does not begin with MUONCKPT" },
        { 8, 4, 7, "is version 7, this program reads version 1" },
        { 12, 4, 0xffffffff, "too small for the 4294967295 tensors" },
        { 12, 4, 7, "too small for the 7 tensors" },
        { 64, 1, 0, "entry 0 has an impossible name" },
        { 64 + 128, 5, 0x70657473, "entry 1 has an impossible name, taken twice" },      // "step"
        { 64 + 72, 4, 5, "entry 0 has an impossible type" },
        { 64 + 72, 4, 0xffffffff, "impossible type" },
        { 64 + 76, 4, 5, "impossible number of dimensions" },
        { 64 + 80, 8, 2, "impossible shape" },                                           // beyond ndim, not 1
        { 192 + 80, 8, 4, "entry 1 has an impossible shape" },
        { 192 + 80, 8, UINT64_MAX, "impossible shape" },
        { 192 + 80, 8, (UINT64_C(1) << 62) + 3, "impossible shape" },                    // times 5 * 7 * 4 wraps
        { 192 + 112, 8, 0, "impossible offset" },
        { 192 + 112, 8, 320, "impossible offset" },                                      // over the first payload
        { 192 + 112, 8, 385, "impossible offset" },
        { 192 + 112, 8, 448, "impossible offset" },                                      // over the end
        { 192 + 112, 8, UINT64_MAX - 63, "impossible offset" },
        { 192 + 120, 8, 416, "impossible shape" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t n;
        unsigned char *b = bytes_of(good, &n);
        memcpy(b + cases[i].at, &cases[i].value, (size_t)cases[i].width);
        seal(b, n);
        store(bad, b, n);
        CHECK_MSG(refused(bad, cases[i].words), "case %zu, \"%s\": %s", i, cases[i].words, message);
        free(b);
    }
    size_t n;
    unsigned char *b = bytes_of(good, &n);                  // 2^64 - 1 bytes, whose end wraps to before its start
    CkptEntry *e = (CkptEntry *)(b + 192);
    e->type = CKPT_U8;
    e->ndim = 1;
    e->shape[0] = e->bytes = UINT64_MAX;
    e->shape[1] = e->shape[2] = 1;
    seal(b, n);
    store(bad, b, n);
    CHECK_MSG(refused(bad, "entry 1 has an impossible offset"), "%s", message);
    free(b);
    free(good); free(bad); free(folder);
}

TEST(other_files_are_refused) {
    char *folder = test_folder("test_checkpoint");
    char *path = format("%s/none.bin", folder), *fifo = format("%s/fifo", folder);
    CHECK_MSG(refused(path, "No such file"), "%s", message);
    CHECK_MSG(refused(folder, "not a regular file"), "%s", message);
    CHECK(mkfifo(fifo, 0600) == 0);
    CHECK_MSG(refused(fifo, "not a regular file"), "%s", message);
    free(path); free(fifo); free(folder);
}

/* Random headers and entries under a right size and checksum: opened or refused, never a crash; where it opens, every
 * byte of every tensor can be read. */
TEST(a_forged_file_never_crashes) {
    static const uint64_t odd[] = { 0, 1, 2, 3, 4, 5, 63, 64, 128, 320, 384, 420, 448, 0x7fffffff, 0xffffffff,
                                    UINT64_C(1) << 32, UINT64_C(1) << 62, UINT64_MAX / 4, UINT64_MAX - 63, UINT64_MAX };
    static const struct { size_t at; int width; } parts[] = {      // of an entry; the last one is n_tensors
        { 0, 8 }, { 71, 1 }, { 72, 4 }, { 76, 4 }, { 80, 8 }, { 88, 8 }, { 96, 8 }, { 104, 8 }, { 112, 8 }, { 120, 8 },
        { 12, 4 } };
    char *folder = test_folder("test_checkpoint");
    char *good = format("%s/good.bin", folder), *bad = format("%s/bad.bin", folder);
    CHECK(save_state(good, NULL, 3) == 0);
    int opened = 0;
    uint64_t sum = 0;
    for (uint64_t trial = 0; trial < 3000; trial++) {
        size_t n;
        unsigned char *b = bytes_of(good, &n);
        for (uint64_t k = 0; k <= hash64(trial, 99) % 3; k++) {
            uint64_t h = hash64(trial, k), value = odd[h % COUNT_OF(odd)];
            size_t part = (h >> 8) % COUNT_OF(parts), last = COUNT_OF(parts) - 1;
            size_t entry = part == last ? 0 : 64 + 128 * ((h >> 40) % 2);
            memcpy(b + entry + parts[part].at, &value, (size_t)parts[part].width);
        }
        seal(b, n);
        store(bad, b, n);
        free(b);
        Checkpoint c;
        if (checkpoint_open(&c, bad, message, sizeof message) != 0) {
            CHECK_MSG(strstr(message, bad) == message && !strchr(message, '\n'), "%s", message);
            continue;
        }
        opened++;
        for (int i = 0; i < c.n_tensors; i++) {
            uint64_t bytes = 0;
            CHECK(ckpt_bytes(&c.tensors[i], &bytes) && bytes <= n);
            for (uint64_t k = 0; k < bytes; k++) sum += ((const unsigned char *)c.tensors[i].data)[k];
        }
        checkpoint_close(&c);
    }
    CHECK_MSG(opened > 50 && opened < 2500 && sum > 0, "%d of 3000 opened", opened);
    free(good); free(bad); free(folder);
}

// Each name is compared with all others: a file of very many would keep the program busy for minutes.
TEST(more_tensors_than_a_model_has_are_refused) {
    enum { MANY = 200000 };
    char *folder = test_folder("test_checkpoint"), *path = format("%s/many.bin", folder);
    size_t n = 64 + 128 * (size_t)MANY + CKPT_TRAILER;
    unsigned char *b = xcalloc(n, 1);
    CkptHeader header = { .version = CKPT_VERSION, .n_tensors = MANY, .file_size = n };
    memcpy(header.magic, ckpt_magic, sizeof ckpt_magic);
    memcpy(b, &header, sizeof header);
    for (size_t i = 0; i < MANY; i++) {
        CkptEntry e = { .shape = { 0, 1, 1, 1 }, .ndim = 1, .offset = n - CKPT_TRAILER };
        sprintf(e.name, "tensor %zu", i);
        memcpy(b + 64 + 128 * i, &e, sizeof e);
    }
    seal(b, n);
    store(path, b, n);
    Checkpoint c;
    CHECK(checkpoint_open(&c, path, message, sizeof message) == -1);
    CHECK_MSG(strstr(message, path) == message && strstr(message, "has 200000 tensors, expected at most 4096"), "%s", message);
    CkptTensor *list = xcalloc(CKPT_MAX_TENSORS + 1, sizeof *list);
    for (int i = 0; i <= CKPT_MAX_TENSORS; i++) list[i].ndim = sprintf(list[i].name, "tensor %d", i) > 0;      // of no items
    CHECK(checkpoint_save(path, NULL, list, CKPT_MAX_TENSORS + 1, message, sizeof message) == -1);
    CHECK_MSG(strstr(message, "4097 tensors, expected at most 4096"), "%s", message);
    CHECK(checkpoint_save(path, NULL, list, CKPT_MAX_TENSORS, message, sizeof message) == 0);
    CHECK(checkpoint_open(&c, path, message, sizeof message) == 0 && c.n_tensors == CKPT_MAX_TENSORS);
    checkpoint_close(&c);
    free(list); free(b); free(path); free(folder);
}

// ---------------------------------------------------------------------------------------------------------------------
// Saving that fails or dies

typedef struct { const char *path, *previous; int64_t version; long limit; bool ignore; } Save;

static void no_core(void) { setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }); }

static void save_limited(void *arg) {
    const Save *s = (const Save *)arg;
    no_core();
    signal(SIGXFSZ, s->ignore ? SIG_IGN : SIG_DFL);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ (rlim_t)s->limit, (rlim_t)s->limit });
    if (save_state(s->path, s->previous, s->version) != 0) fail("%s", message);
}

typedef struct { char *folder, *path, *previous, *temporary, *link; } Paths;

static Paths fresh_paths(void) {
    char *f = test_folder("test_checkpoint");
    return (Paths){ f, format("%s/checkpoint.bin", f), format("%s/checkpoint.prev.bin", f),
                    format("%s/checkpoint.bin.tmp", f), format("%s/checkpoint.prev.bin.link", f) };
}

static void free_paths(Paths p) { free(p.folder); free(p.path); free(p.previous); free(p.temporary); free(p.link); }

TEST(the_previous_one_is_kept) {
    Paths p = fresh_paths();
    CHECK(save_state(p.path, p.previous, 1) == 0);
    CHECK(saved_version(p.path) == 1 && !file_exists(p.previous));
    for (int64_t version = 2; version < 5; version++) {
        CHECK(save_state(p.path, p.previous, version) == 0);
        CHECK(saved_version(p.path) == version && saved_version(p.previous) == version - 1);
    }
    CHECK(save_state(p.path, NULL, 5) == 0);
    CHECK(saved_version(p.path) == 5 && saved_version(p.previous) == 3);
    // What an earlier death may leave: half a temporary file, a spare link, both names the same file.
    store(p.temporary, (const unsigned char *)"MUON", 4);
    store(p.link, (const unsigned char *)"old", 3);
    CHECK(unlink(p.previous) == 0 && link(p.path, p.previous) == 0);
    CHECK(save_state(p.path, p.previous, 6) == 0);
    CHECK(saved_version(p.path) == 6 && saved_version(p.previous) == 5);
    CHECK(!file_exists(p.temporary) && !file_exists(p.link));
    free_paths(p);
}

TEST(a_link_stays_one_and_a_pipe_is_refused) {
    Paths p = fresh_paths();
    char *elsewhere = format("%s/elsewhere.bin", p.folder);
    struct stat st;
    CHECK(symlink("elsewhere.bin", p.path) == 0);
    for (int64_t version = 1; version < 4; version++) {
        CHECK(save_state(p.path, p.previous, version) == 0);
        CHECK(saved_version(elsewhere) == version && (version == 1 || saved_version(p.previous) == version - 1));
        CHECK(lstat(p.path, &st) == 0 && S_ISLNK(st.st_mode));
    }
    CHECK(unlink(p.path) == 0 && mkfifo(p.path, 0666) == 0);
    CHECK(save_state(p.path, p.previous, 4) == -1 && strstr(message, "checkpoint.bin: cannot be written: a device or a pipe"));
    CHECK(unlink(p.path) == 0 && mkdir(p.path, 0777) == 0);
    CHECK(save_state(p.path, p.previous, 4) == -1 && strstr(message, "checkpoint.bin: cannot be written: Is a directory"));
    CHECK(saved_version(p.previous) == 2 && !file_exists(p.temporary));
    free(elsewhere);
    struct stat here;
    elsewhere = format("/dev/shm/muon_test_%d.bin", (int)getpid());
    if (stat("/dev/shm", &st) == 0 && stat(p.folder, &here) == 0 && st.st_dev != here.st_dev) {
        CHECK(rmdir(p.path) == 0 && symlink(elsewhere, p.path) == 0);
        CHECK(save_state(p.path, p.previous, 4) == 0 && save_state(p.path, p.previous, 5) == 0 && saved_version(elsewhere) == 5);
        CHECK(strstr(message, "is on another volume than") && saved_version(p.previous) == 2);
        unlink(elsewhere);
    }
    free(elsewhere);
    free_paths(p);
}

// On a volume without hard links, or that syncs no folders, saving says so and goes on as elsewhere.
TEST(a_volume_without_links_or_folder_sync_keeps_the_previous_one) {
    static const struct { int links, sync; const char *words; } volumes[] = {
        { 1, 0, "no hard links:" }, { 0, EINVAL, "no fsync of folders:" }, { 0, ENOTSUP, "no fsync of folders:" },
        { 1, EINVAL, "no hard links and no fsync of folders:" } };
    for (size_t i = 0; i < COUNT_OF(volumes); i++) {
        Paths p = fresh_paths();
        no_links = volumes[i].links;
        no_folder_sync = volumes[i].sync;
        for (int64_t version = 1; version < 5; version++) {
            CHECK_MSG(save_state(p.path, p.previous, version) == 0, "%s", message);
            CHECK(saved_version(p.path) == version && (version == 1 || saved_version(p.previous) == version - 1));
            CHECK(!file_exists(p.temporary) && !file_exists(p.link));
        }
        CHECK(save_state(p.path, p.previous, 5) == 0);
        CHECK_MSG(strstr(message, p.path) == message && strstr(message, volumes[i].words), "%s", message);
        CHECK(unlink(p.previous) == 0 && mkdir(p.previous, 0777) == 0);             // in the way: nothing is lost
        CHECK(save_state(p.path, p.previous, 6) == -1 && strstr(message, "cannot be kept as"));
        CHECK(saved_version(p.path) == 5 && !file_exists(p.temporary) && !file_exists(p.link));
        no_links = no_folder_sync = 0;
        CHECK(save_state(p.path, NULL, 7) == 0 && !*message);
        free_paths(p);
    }
    Paths p = fresh_paths();
    no_folder_sync = EIO;                           // an error, not a missing ability
    CHECK(save_state(p.path, p.previous, 1) == -1 && strstr(message, "cannot be synced: Input/output error"));
    no_folder_sync = 0;
    free_paths(p);
}

TEST(a_full_disk_leaves_the_old_ones) {
    Paths p = fresh_paths();
    CHECK(save_state(p.path, p.previous, 1) == 0 && save_state(p.path, p.previous, 2) == 0);
    size_t n;
    free(bytes_of(p.path, &n));
    for (long limit = 0; limit < (long)n; limit += 101) {
        Save save = { p.path, p.previous, 3, limit, true };
        CHECK_FAILS(save_limited, &save, 1, "checkpoint.bin.tmp: cannot be written: File too large");
        CHECK(saved_version(p.path) == 2 && saved_version(p.previous) == 1);
        CHECK(!file_exists(p.temporary) && !file_exists(p.link));
    }
    free_paths(p);
}

TEST(a_death_at_byte_n_leaves_the_old_ones) {
    Paths p = fresh_paths();
    CHECK(save_state(p.path, p.previous, 1) == 0 && save_state(p.path, p.previous, 2) == 0);
    size_t n;
    char errors[256];
    free(bytes_of(p.path, &n));
    for (size_t limit = 0; limit < n; limit += 37) {
        Save save = { p.path, p.previous, 3, (long)limit, false };
        int code = run_child(save_limited, &save, errors, sizeof errors);
        CHECK_MSG(code == 128 + SIGXFSZ, "limit %zu: exit code %d, %s", limit, code, errors);
        CHECK(saved_version(p.path) == 2 && saved_version(p.previous) == 1);
    }
    Save save = { p.path, p.previous, 3, (long)n, false };
    CHECK(run_child(save_limited, &save, errors, sizeof errors) == 0);
    CHECK(saved_version(p.path) == 3 && saved_version(p.previous) == 2);
    CHECK(!file_exists(p.temporary) && !file_exists(p.link));
    free_paths(p);
}

/* A save in a child that is killed at the k-th stop at a system call (each call stops twice: before and behind it).
 * Returns 1 where it was killed, 0 where the save ended before, -1 where tracing is not permitted. */
static int save_killed_at(int k, const Save *save) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) fail("fork: %s", strerror(errno));
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(99);
        raise(SIGSTOP);
        _exit(save_state(save->path, save->previous, save->version) == 0 ? 0 : 1);
    }
    int status;
    for (int stop = 0; ; stop++) {
        if (waitpid(pid, &status, 0) != pid) fail("waitpid: %s", strerror(errno));
        if (WIFEXITED(status)) {
            if (WEXITSTATUS(status) == 99) return -1;
            CHECK_MSG(WEXITSTATUS(status) == 0, "the save failed");
            return 0;
        }
        if (WIFSIGNALED(status)) {
            CHECK_MSG(WTERMSIG(status) == SIGKILL && stop > k, "the save died by signal %d", WTERMSIG(status));
            return 1;
        }
        if (stop == k) kill(pid, SIGKILL);
        else if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) != 0) fail("ptrace: %s", strerror(errno));
    }
}

// The first and a later save, killed at every system call; then the next save must find its way over what was left.
// Without hard links there is a moment with nothing at path: then the newest one is at previous.
static void die_at_every_system_call(int before) {      // before: good checkpoints that stand when the save begins
    int killed = 1, with_old = 0, with_new = 0;
    for (int k = 0; killed == 1 && k < 2000; k++) {
        Paths p = fresh_paths();
        for (int64_t version = 1; version <= before; version++) CHECK(save_state(p.path, p.previous, version) == 0);
        Save save = { p.path, p.previous, before + 1, 0, false };
        killed = save_killed_at(k, &save);
        if (killed < 0) {
            printf("    skipped: ptrace is not permitted here\n");
            free_paths(p);
            return;
        }
        int64_t current = saved_version(p.path), previous = saved_version(p.previous);
        bool moved = no_links && before > 0 && killed && current == -1 && previous == before && !file_exists(p.path);
        if (before > 0 || !killed)
            CHECK_MSG(moved || current == before || current == before + 1, "stop %d: path holds %d", k, (int)current);
        else CHECK_MSG(current == 1 || !file_exists(p.path), "stop %d: half a file under its name", k);
        if (before > 1)
            CHECK_MSG(previous == before - 1 || previous == before, "stop %d: previous holds %d", k, (int)previous);
        if (killed) {
            if (current == before) with_old++;
            if (current == before + 1) with_new++;
        } else CHECK(current == before + 1);
        int64_t next = before + 2;
        CHECK_MSG(save_state(p.path, p.previous, next) == 0, "the save after stop %d: %s", k, message);
        CHECK(saved_version(p.path) == next);
        if (current > 0 || moved) CHECK(saved_version(p.previous) == (moved ? before : current));
        CHECK(!file_exists(p.temporary) && !file_exists(p.link));
        free_paths(p);
    }
    CHECK_MSG(killed == 0, "the save never ended");
    CHECK_MSG(with_new > 0 && (before == 0 || with_old > 10), "old at %d stops, new at %d", with_old, with_new);
}

TEST(a_death_at_any_system_call_leaves_a_good_one) {
    for (no_links = 0; no_links < 2; no_links++)
        for (int before = 0; before < 3; before++) die_at_every_system_call(before);
    no_links = 0;
}

static void save_unprivileged(void *arg) {
    const Save *s = (const Save *)arg;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) fail("setuid: %s", strerror(errno));
    if (save_state(s->path, s->previous, s->version) != 0) fail("%s", message);
}

TEST(a_folder_that_cannot_be_written_says_so) {
    Paths p = fresh_paths();
    CHECK(save_state(p.path, p.previous, 1) == 0);
    CHECK(chmod(p.folder, 0555) == 0);
    Save save = { p.path, p.previous, 2, 0, false };
    CHECK_FAILS(save_unprivileged, &save, 1, "checkpoint.bin.tmp: cannot be created: Permission denied");
    CHECK(chmod(p.folder, 0755) == 0);
    CHECK(saved_version(p.path) == 1 && !file_exists(p.previous));
    free_paths(p);

    p = fresh_paths();
    CHECK(save_state(p.path, p.previous, 1) == 0 && mkdir(p.previous, 0777) == 0);
    CHECK(save_state(p.path, p.previous, 2) == -1 && strstr(message, "cannot be kept as"));
    CHECK(saved_version(p.path) == 1 && !file_exists(p.temporary) && !file_exists(p.link));
    free_paths(p);
    char *nowhere = format("%s/none/a.bin", "build/test/test_checkpoint");
    CHECK(save_state(nowhere, NULL, 2) == -1 && strstr(message, "a.bin.tmp: cannot be created: No such file"));
    free(nowhere);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(the_bytes_are_the_documented_ones);
    RUN(every_type_and_rank_comes_back);
    RUN(strides_hold_on_both_sides);
    RUN(other_tensors_are_refused);
    RUN(every_truncation_is_refused);
    RUN(every_flipped_bit_is_refused);
    RUN(what_is_wrong_is_said);
    RUN(other_files_are_refused);
    RUN(a_forged_file_never_crashes);
    RUN(more_tensors_than_a_model_has_are_refused);
    RUN(the_previous_one_is_kept);
    RUN(a_link_stays_one_and_a_pipe_is_refused);
    RUN(a_volume_without_links_or_folder_sync_keeps_the_previous_one);
    RUN(a_full_disk_leaves_the_old_ones);
    RUN(a_death_at_byte_n_leaves_the_old_ones);
    RUN(a_death_at_any_system_call_leaves_a_good_one);
    RUN(a_folder_that_cannot_be_written_says_so);
    return tests_end();
}

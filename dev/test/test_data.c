/* test_data.c - tokenizers, shards, the loader's order, the program build/tokenize.
 *
 * Run from the project's folder, after tokenize is built (in $BUILD, or build); writes under build/test/data only.
 */
#define _GNU_SOURCE
#include "../../src/machine.h"
#include "shell.h"
#include "tokens.h"

#define ROOT "build/test/data"

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

// A shard of n tokens first, first + 1, ...: a token says where in the corpus it stands.
static void put_shard(const char *path, int first, int n) {
    uint32_t *ids = (uint32_t *)xmalloc((size_t)n * sizeof *ids);
    for (int i = 0; i < n; i++) ids[i] = (uint32_t)(first + i);
    if (shard_write(path, ids, (size_t)n, UINT16_MAX) != 0) fail("%s: %s", path, strerror(errno));
    free(ids);
}

static Tokenizer chars_of(const char *text) {
    Tokenizer t;
    char error[256];
    uint8_t *seen = (uint8_t *)xcalloc(UTF8_CODE_POINTS, 1);
    if (tokenizer_scan_chars(seen, text, strlen(text), error, sizeof error) < 0) fail("%s", error);
    if (tokenizer_train_chars(&t, seen, error, sizeof error) != 0) fail("%s", error);
    free(seen);
    return t;
}

// Whether decoding what encoding gives is the text again.
static bool round_trip(const Tokenizer *t, const char *text, size_t n) {
    char error[256];
    uint32_t *ids = (uint32_t *)xmalloc(n * sizeof *ids);
    char *back = (char *)xmalloc(n);
    size_t length = 0;
    long count = tokenizer_encode(t, text, n, ids, error, sizeof error);
    for (long i = 0; i < count; i++) {
        int bytes;
        const char *token = tokenizer_token(t, (int)ids[i], &bytes);
        if (!token || length + (size_t)bytes > n) break;
        memcpy(back + length, token, (size_t)bytes);
        length += (size_t)bytes;
    }
    bool same = count >= 0 && length == n && memcmp(back, text, n) == 0;
    free(ids);
    free(back);
    return same;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tokenizers

TEST(utf8_every_code_point_and_no_other) {
    int wrong = 0;
    for (uint32_t c = 0; c < UTF8_CODE_POINTS; c++) {
        if (c >= 0xd800 && c < 0xe000) continue;
        uint8_t bytes[4];
        uint32_t back = ~c;
        int length = utf8_encode(c, bytes);
        wrong += utf8_decode((char *)bytes, (size_t)length, &back) != length || back != c;
        wrong += utf8_decode((char *)bytes, (size_t)length - 1, &back) != 0;
    }
    CHECK_MSG(wrong == 0, "%d code points", wrong);
    static const char *const bad[] = {
        "\x80", "\xff", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80", "\xc3(", "\xe2\x82(", "\xf0\x9f\x98(",
    };
    uint32_t c;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK_MSG(utf8_decode(bad[i], strlen(bad[i]), &c) == 0, "sequence %zu", i);
}

TEST(char_vocabulary_is_in_code_point_order) {
    Tokenizer t = chars_of("b\xf0\x9f\x98\x80" "a\n\xc3\xa9\xe2\x82\xac" "ab");    // b U+1F600 a \n U+E9 U+20AC a b
    static const char *const expected[] = { "\n", "a", "b", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
    CHECK(t.size == 6 && t.kind == TOKENIZER_CHAR && t.eot == -1);
    for (int id = 0; id < 6; id++) {
        int n = 0;
        const char *token = tokenizer_token(&t, id, &n);
        CHECK_MSG(token && n == (int)strlen(expected[id]) && memcmp(token, expected[id], (size_t)n) == 0, "id %d", id);
    }
    int n;
    CHECK(tokenizer_token(&t, -1, &n) == NULL && tokenizer_token(&t, 6, &n) == NULL);
    uint32_t ids[16];
    char error[256];
    CHECK(tokenizer_encode(&t, "ba\xe2\x82\xac", 5, ids, error, sizeof error) == 3);
    CHECK(ids[0] == 2 && ids[1] == 1 && ids[2] == 4);
    CHECK(round_trip(&t, "a\xf0\x9f\x98\x80\n\xc3\xa9" "b", 9));
    tokenizer_free(&t);
}

TEST(byte_vocabulary_takes_any_bytes) {
    Tokenizer t;
    tokenizer_bytes(&t);
    char text[4096];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)hash64(1, i);
    CHECK(t.size == 256);
    CHECK(round_trip(&t, text, sizeof text));
    CHECK(round_trip(&t, "\xc3\xa9\0\xff", 4));
    uint32_t ids[2];
    char error[256];
    CHECK(tokenizer_encode(&t, "\xc3\xa9", 2, ids, error, sizeof error) == 2 && ids[0] == 0xc3 && ids[1] == 0xa9);
    CHECK(tokenizer_encode(&t, "", 0, ids, error, sizeof error) == 0);
    tokenizer_free(&t);
}

TEST(encode_names_what_it_cannot_encode) {
    Tokenizer t = chars_of("abc\n");
    uint32_t ids[16];
    char error[256];
    CHECK(tokenizer_encode(&t, "ab\nc\n\nx", 7, ids, error, sizeof error) == -1);
    CHECK_MSG(strcmp(error, "line 4: character U+0078 is not in the vocabulary") == 0, "%s", error);
    CHECK(tokenizer_encode(&t, "a\xf0\x9f\x98\x80", 5, ids, error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "line 1: character U+1F600") != NULL, "%s", error);
    CHECK(tokenizer_encode(&t, "a\n\xff", 3, ids, error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "line 2: byte 0xFF is not UTF-8") != NULL, "%s", error);
    uint8_t *seen = (uint8_t *)xcalloc(UTF8_CODE_POINTS, 1);
    CHECK(tokenizer_scan_chars(seen, "a\n\nb\xc3", 5, error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "line 3: byte 0xC3 is not UTF-8") != NULL, "%s", error);
    memset(seen, 0, UTF8_CODE_POINTS);
    CHECK(tokenizer_train_chars(&t, seen, error, sizeof error) == -1);
    memset(seen, 1, TOKENIZER_MAX_TOKENS + 1);
    CHECK(tokenizer_train_chars(&t, seen, error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "1048577 distinct characters") != NULL, "%s", error);
    tokenizer_free(&t);     // a refused training leaves it as it was
    free(seen);
}

TEST(tokenizer_file_round_trip_and_layout) {
    char *dir = test_folder("data/tokenizer"), *path = format("%s/tokenizer.bin", dir), error[512];
    Tokenizer t = chars_of("a\xc3\xa9"), back;
    CHECK(tokenizer_save(&t, path) == 0);
    // 20240328 = 0x0134d7c8
    uint8_t expected[1024 + 5] = { 0xc8, 0xd7, 0x34, 0x01, 2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2 };
    memcpy(expected + 1024, "\1a\2\xc3\xa9", 5);
    CHECK(same_file(path, expected, sizeof expected));
    CHECK(tokenizer_load(&back, path, error, sizeof error) == 0);
    CHECK(back.size == 2 && back.eot == -1 && back.kind == TOKENIZER_CHAR && round_trip(&back, "\xc3\xa9" "a", 3));
    tokenizer_free(&back);
    tokenizer_free(&t);

    // llm.c's own files: merged tokens, an end-of-text id, kind 0. They decode; encoding by character would be wrong.
    expected[8] = 3; expected[12] = 2; expected[13] = expected[14] = expected[15] = expected[16] = 0;
    uint8_t other[1024 + 10];
    memcpy(other, expected, 1024);
    memcpy(other + 1024, "\1a\2th\4<eo>", 10);
    put(path, other, sizeof other);
    CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == 0, "%s", error);
    int n = 0;
    const char *token = tokenizer_token(&back, 1, &n);
    uint32_t ids[4];
    CHECK(back.eot == 2 && n == 2 && token && memcmp(token, "th", 2) == 0);
    CHECK(tokenizer_encode(&back, "a", 1, ids, error, sizeof error) == -1 && strstr(error, "decodes only"));
    tokenizer_free(&back);
    free(path);
    free(dir);
}

// A byte-pair encoding of some 500 tokens, of the sources' README.
static Tokenizer trained_bpe(void) {
    static const char *const special[] = { BPE_EOT };
    char error[256];
    size_t n;
    char *text = read_file("README.md", &n);
    if (!text) fail("README.md: %s", strerror(errno));
    BpeWords words = { 0 };
    Bpe b;
    Tokenizer t;
    if (bpe_count(&words, text, n, error, sizeof error) != 0 ||
        bpe_train(&b, &words, 500, special, 1, error, sizeof error) != 0 ||
        tokenizer_of_bpe(&t, &b, error, sizeof error) != 0) fail("%s", error);
    bpe_words_free(&words);
    free(text);
    return t;
}

// Whether both make the same ids of all of data/README.md, which has characters of several bytes, and of odd bytes.
static bool same_ids(const Tokenizer *a, const Tokenizer *b) {
    char error[256];
    size_t n;
    char *text = read_file("data/README.md", &n);
    if (!text) fail("data/README.md: %s", strerror(errno));
    memcpy(text, "\xff\xc3 \0'll", 8);
    uint32_t *one = (uint32_t *)xmalloc(n * sizeof *one), *other = (uint32_t *)xmalloc(n * sizeof *other);
    long count = tokenizer_encode(a, text, n, one, error, sizeof error);
    bool same = count > 0 && tokenizer_encode(b, text, n, other, error, sizeof error) == count &&
                memcmp(one, other, (size_t)count * sizeof *one) == 0;
    free(one);
    free(other);
    free(text);
    return same;
}

// Writes a vocabulary in llm.c's layout, as its gpt2_tokenizer.bin: kind 0, no merges.
static void put_llmc(const char *path, const Tokenizer *t) {
    Tokenizer plain = *t;
    plain.bpe = NULL;
    plain.kind = TOKENIZER_OTHER;
    if (tokenizer_save(&plain, path) != 0) fail("%s: %s", path, strerror(errno));
}

TEST(tokens_of_llmc_encode_as_the_vocabulary_they_are_of) {
    char *dir = test_folder("data/llmc"), *path = format("%s/gpt2_tokenizer.bin", dir), error[512];
    Tokenizer t = trained_bpe(), back;
    put_llmc(path, &t);
    CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == 0, "%s", error);
    CHECK(back.kind == TOKENIZER_BPE && back.size == t.size && back.eot == 0 && same_ids(&t, &back));
    CHECK(tokenizer_hash(&back) == tokenizer_hash(&t));
    tokenizer_free(&back);

    // GPT-2's order: the bytes, the merges, the end-of-text token.
    Bpe other = { 0 };
    bpe_pairs_make(&other.ranks, 1024);
    for (uint32_t id = 1; id < t.bpe->tokens.count; id++) {
        size_t n;
        const char *token = bpe_token(t.bpe, id, &n);
        if (bpe_strings_add(&other.tokens, token, n) != id - 1) fail("a token twice");
        if (n == 1) other.byte_id[(uint8_t)*token] = id - 1;
    }
    for (uint32_t i = 0; i < t.bpe->merge_count; i++) {
        BpeMerge m = t.bpe->merges[i];
        bpe_add_merge(&other, m.left - 1, m.right - 1, m.token - 1);
    }
    bpe_add_special(&other, BPE_EOT);
    tokenizer_free(&t);
    CHECK(tokenizer_of_bpe(&t, &other, error, sizeof error) == 0 && t.eot == t.size - 1);
    put_llmc(path, &t);
    CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == 0, "%s", error);
    CHECK(back.kind == TOKENIZER_BPE && back.eot == t.eot && same_ids(&t, &back));
    tokenizer_free(&back);

    // An end-of-text token that isn't the one, none at all though the token is there, ids in another order: decoded.
    static const struct { int at; const char *bytes; } changes[] = { { 12, "\1\0\0\0" }, { 12, "\xff\xff\xff\xff" },
                                                                     { 1024 + 2 * 256, "\2th\2 t" } };
    size_t n;
    char *file = read_file(path, &n);
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        char *changed = (char *)memcpy(xmalloc(n), file, n);
        memcpy(changed + changes[i].at, changes[i].bytes, i < 2 ? 4 : 6);
        put(path, changed, n);
        CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == 0, "%s", error);
        CHECK_MSG(back.kind == TOKENIZER_OTHER && back.size == t.size, "change %zu", i);
        CHECK(tokenizer_encode(&back, "a", 1, &(uint32_t){ 0 }, error, sizeof error) == -1);
        tokenizer_free(&back);
        free(changed);
    }
    free(file);
    tokenizer_free(&t);
    free(path);
    free(dir);
}

// Writes the pair of a vocabulary into two files.
static void put_pair(const Tokenizer *t, const char *encoder, const char *merges) {
    FILE *out = fopen(merges, "w");
    cJSON *vocab = cJSON_CreateObject();
    char **names = (char **)xcalloc((size_t)t->size, sizeof *names);
    if (!out) fail("%s: %s", merges, strerror(errno));
    for (int id = 0; id < t->size; id++) {
        names[id] = bpe_make_name(t->bytes + t->start[id], t->start[id + 1] - t->start[id]);
        cJSON_AddNumberToObject(vocab, names[id], id);
    }
    fputs("#version: 0.2\n", out);
    for (uint32_t i = 0; i < t->bpe->merge_count; i++)
        fprintf(out, "%s %s\n", names[t->bpe->merges[i].left], names[t->bpe->merges[i].right]);
    fclose(out);
    char *text = cJSON_Print(vocab);
    put_text(encoder, text);
    for (int id = 0; id < t->size; id++) free(names[id]);
    free(names);
    free(text);
    cJSON_Delete(vocab);
}

TEST(either_half_of_gpt2s_pair_loads) {
    static const char *const pairs[][2] = { { "encoder.json", "vocab.bpe" }, { "vocab.json", "merges.txt" },
                                            { "encoder.json", "merges.txt" }, { "vocab.json", "vocab.bpe" } };
    Tokenizer t = trained_bpe(), back;
    char error[512];
    for (size_t i = 0; i < 2 * COUNT_OF(pairs); i++) {
        char *dir = test_folder("data/pair"), *paths[2];
        for (int k = 0; k < 2; k++) paths[k] = format("%s/%s", dir, pairs[i / 2][k]);
        put_pair(&t, paths[0], paths[1]);
        CHECK_MSG(tokenizer_load(&back, paths[i % 2], error, sizeof error) == 0, "%s", error);
        CHECK(back.kind == TOKENIZER_BPE && back.size == t.size && back.eot == 0 && same_ids(&t, &back));
        CHECK(same_ids(&back, &t) && back.bpe->merge_count == t.bpe->merge_count);
        tokenizer_free(&back);
        unlink(paths[1 - i % 2]);
        CHECK(tokenizer_load(&back, paths[i % 2], error, sizeof error) == -1);
        const char *words = i % 2 ? "half of a vocabulary: encoder.json or vocab.json expected beside it"
                                  : "half of a vocabulary: vocab.bpe or merges.txt expected beside it";
        CHECK_MSG(strstr(error, words) && strstr(error, paths[i % 2]), "%s", error);
        for (int k = 0; k < 2; k++) free(paths[k]);
        free(dir);
    }

    // Both pairs in one folder, of different vocabularies: each half goes with the one of its kind.
    Tokenizer bytes;
    Bpe b;
    BpeWords words = { 0 };
    CHECK(bpe_train(&b, &words, 256, NULL, 0, error, sizeof error) == 0);
    CHECK(tokenizer_of_bpe(&bytes, &b, error, sizeof error) == 0);
    free(test_folder("data/pairs"));
    put_pair(&t, ROOT "/pairs/encoder.json", ROOT "/pairs/vocab.bpe");
    put_pair(&bytes, ROOT "/pairs/vocab.json", ROOT "/pairs/merges.txt");
    for (int i = 0; i < 4; i++) {
        char *path = format(ROOT "/pairs/%s", pairs[i / 2][i % 2]);
        CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == 0, "%s", error);
        CHECK_MSG(back.size == (i < 2 ? t.size : 256), "%s", path);
        tokenizer_free(&back);
        free(path);
    }
    tokenizer_free(&bytes);
    tokenizer_free(&t);
}

TEST(damaged_tokenizer_files_are_refused) {
    char *dir = test_folder("data/damaged"), *path = format("%s/tokenizer.bin", dir), error[512];
    Tokenizer t = chars_of("ab\xc3\xa9"), back;
    CHECK(tokenizer_save(&t, path) == 0);
    tokenizer_free(&t);
    size_t n;
    char *good = read_file(path, &n), *bad = (char *)xmalloc(n + 1);
    for (size_t cut = 0; cut < n; cut++) {      // every shorter file
        put(path, good, cut);
        CHECK_MSG(tokenizer_load(&back, path, error, sizeof error) == -1, "cut at %zu", cut);
        CHECK_MSG(strstr(error, path) != NULL, "%s", error);
    }
    static const struct { size_t at; char value; const char *words; } changes[] = {
        { 0, 1, "not a tokenizer file" }, { 4, 1, "not a tokenizer file" }, { 8, 0, "0 tokens" }, { 9, 1, "cut off" },
        { 10, 0x20, "2097155 tokens" }, { 11, (char)0x80, "tokens" }, { 12, 3, "end-of-text" }, { 1024, 0, "token 0" },
        { 1028, 9, "token 2" },
    };
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        memcpy(bad, good, n);
        bad[changes[i].at] = changes[i].value;
        if (changes[i].at == 12) memset(bad + 13, 0, 3);
        put(path, bad, n);
        bool refused = tokenizer_load(&back, path, error, sizeof error) == -1;
        CHECK_MSG(refused && strstr(error, changes[i].words), "change %zu: %s", i, error);
    }
    memcpy(bad, good, n);
    bad[n] = 0;
    put(path, bad, n + 1);
    CHECK(tokenizer_load(&back, path, error, sizeof error) == -1 && strstr(error, "1 bytes follow"));
    CHECK(tokenizer_load(&back, dir, error, sizeof error) == -1 && strstr(error, "Is a directory"));
    CHECK(tokenizer_load(&back, ROOT "/none", error, sizeof error) == -1 && strstr(error, "No such file"));
    free(good);
    free(bad);
    free(path);
    free(dir);
}

TEST(the_hash_tells_vocabularies_apart) {
    static const char *const special[] = { "<|endoftext|>" };
    BpeWords words = { 0 };
    Bpe bpe;
    Tokenizer t;
    char error[256];
    CHECK(bpe_count(&words, "the cat, the hat, that", 22, error, sizeof error) == 0);
    CHECK(bpe_train(&bpe, &words, 262, special, 1, error, sizeof error) == 0);
    CHECK(tokenizer_of_bpe(&t, &bpe, error, sizeof error) == 0 && t.bpe->merge_count > 1);
    uint64_t hash = tokenizer_hash(&t);
    BpeMerge first = t.bpe->merges[0];
    t.bpe->merges[0] = t.bpe->merges[1];        // the same tokens by other merges
    t.bpe->merges[1] = first;
    CHECK(tokenizer_hash(&t) != hash);
    t.bpe->merges[1] = t.bpe->merges[0];
    t.bpe->merges[0] = first;
    CHECK(tokenizer_hash(&t) == hash);
    t.eot = -1;
    CHECK(tokenizer_hash(&t) != hash);
    t.eot = 0;
    t.bytes[t.start[261]] ^= 1;
    CHECK(tokenizer_hash(&t) != hash);
    tokenizer_free(&t);
    bpe_words_free(&words);

    // A sidecar that is there but can't be read is no missing one.
    free(test_folder("data/sidecar/vocabulary"));
    tokenizer_bytes(&t);
    CHECK(tokenizer_check(&t, "tokenizer.bin", ROOT "/sidecar", error, sizeof error) == -1 && strstr(error, "/vocabulary: cannot"));
    CHECK(tokenizer_check(&t, "tokenizer.bin", ROOT "/none", error, sizeof error) == 0);
    tokenizer_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Shards and the loader

enum { T = 16, VOCAB = 65536 };

// What to open in a child, and with which vocabulary.
typedef struct { const char *dir; int T, V; bool read, nobody; } Opening;

static void open_loader(void *argument) {
    const Opening *o = (const Opening *)argument;
    if (o->nobody) become_nobody();
    DataLoader d;
    dataloader_open(&d, o->dir, o->T, o->V, 1);
    int32_t inputs[T], targets[T];
    for (uint64_t n = 0; o->read && n < d.train_windows; n++) dataloader_train(&d, n, inputs, targets);
    for (uint64_t n = 0; o->read && n < d.val_windows; n++) dataloader_val(&d, n, inputs, targets);
    dataloader_close(&d);
}

TEST(shard_layout) {
    char *dir = test_folder("data/layout");
    put_text(ROOT "/layout/text", "aZ\xff");
    CHECK(run(TOKENIZE " shards --tokenizer=byte --out=" ROOT "/layout/shards --val=" ROOT "/layout/text " ROOT "/layout/text > " ROOT "/layout/out") == 0);
    uint8_t expected[1024 + 6] = { 0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 3, 0, 0, 0 };    // 20240520 = 0x0134d888
    memcpy(expected + 1024, "a\0Z\0\xff\0", 6);
    CHECK(same_file(ROOT "/layout/shards/train_000000.bin", expected, sizeof expected));
    static const uint32_t ids[] = { 'a', 'Z', 0xff };
    CHECK(shard_write(ROOT "/layout/again.bin", ids, 3, 256) == 0 && same_file(ROOT "/layout/again.bin", expected, sizeof expected));
    free(dir);
}

TEST(wide_and_raw_shards) {
    char *dir = test_folder("data/wide"), *path = format("%s/x_train.bin", dir), *raw = format("%s/val.bin", dir);
    static const uint32_t ids[3] = { 1, 0x12345, 65536 };
    CHECK(shard_write(path, ids, 3, 65537) == 0);
    uint8_t expected[1024 + 12] = { 0xa1, 0xd9, 0x34, 0x01, 7, 0, 0, 0, 3, 0, 0, 0 };    // 20240801 = 0x0134d9a1
    memcpy(expected + 1024, "\x01\0\0\0\x45\x23\x01\0\0\0\x01", 12);
    CHECK(same_file(path, expected, sizeof expected));
    put(raw, "\x05\0\xff\xff\x07\0", 6);      // nanoGPT's
    DataLoader d;
    int32_t inputs[2], targets[2];
    dataloader_open(&d, dir, 2, 0x20000, 1);
    CHECK(d.train[0].width == 4 && d.train[0].count == 3 && d.val[0].width == 2 && d.val[0].count == 3);
    dataloader_train(&d, 0, inputs, targets);
    CHECK(inputs[0] == 1 && inputs[1] == 0x12345 && targets[0] == 0x12345 && targets[1] == 65536);
    dataloader_val(&d, 0, inputs, targets);
    CHECK(inputs[0] == 5 && inputs[1] == 65535 && targets[1] == 7);
    dataloader_close(&d);
    Opening small = { dir, 2, 0x12345, false, false };
    CHECK_FAILS(open_loader, &small, 1, "x_train.bin: token 1 is 74565: the vocabulary has 74565 tokens");
    put_shard(path, 0, 4);
    small.V = 65535;
    CHECK_FAILS(open_loader, &small, 1, "val.bin: token 1 is 65535: the vocabulary has 65535 tokens (0 to 65534); it has no "
                                        "shard's header");
    put(raw, "\x05\0\xff\xff\x07", 5);
    CHECK_FAILS(open_loader, &small, 1, "val.bin: 5 bytes: neither a shard's header nor an even number");
    free(raw);
    free(path);
    free(dir);
}

TEST(permutation_is_a_bijection) {
    int wrong = 0, moved = 0;
    for (uint64_t n = 1; n <= 300; n++) {
        for (uint64_t key = 0; key < 5; key++) {
            bool seen[300] = { false };
            for (uint64_t i = 0; i < n; i++) {
                uint64_t j = dataloader_permute(i, n, key);
                if (j >= n || seen[j]) wrong++;
                else seen[j] = true;
                moved += i != j;
            }
        }
    }
    CHECK_MSG(wrong == 0, "%d images out of range or twice", wrong);
    CHECK(moved > 200000);      // of 225,750; a random permutation leaves one fixed point: 224,250

    // Uniform: over 24,000 keys each of the 24 orders of four comes up about equally often (23 degrees of freedom).
    int counts[256] = { 0 };
    for (uint64_t key = 0; key < 24000; key++) {
        unsigned order = 0;
        for (uint64_t i = 0; i < 4; i++) order = order << 2 | (unsigned)dataloader_permute(i, 4, mix64(key));
        counts[order]++;
    }
    double chi2 = 0;
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        if (counts[i] == 0) continue;
        orders++;
        chi2 += (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000.0;
    }
    CHECK_MSG(orders == 24, "%d orders", orders);
    CHECK_MSG(chi2 < 60, "chi squared %.1f", chi2);     // p < 1e-4 beyond
}


// Shards of 500 + 333 + 20 + 5 tokens: 30 + 19 + 1 + 0 windows of 16.
static char *loader_folder(void) {
    char *dir = test_folder("data/loader");
    static const struct { const char *name; int first, count; } shards[] = {
        { "x_train_000000.bin", 1000, 500 }, { "x_train_000001.bin", 2000, 333 }, { "x_train_000002.bin", 3000, 20 },
        { "x_train_000003.bin", 4000, 5 },   { "x_val_000000.bin", 5000, 100 },   { "x_val_000001.bin", 6000, 48 },
    };
    for (size_t i = 0; i < COUNT_OF(shards); i++) {
        char *path = format("%s/%s", dir, shards[i].name);
        put_shard(path, shards[i].first, shards[i].count);
        free(path);
    }
    char *path = format("%s/tokenizer.bin", dir);
    put_text(path, "not a token shard");
    free(path);
    return dir;
}

TEST(an_epoch_takes_every_window_once) {
    char *dir = loader_folder();
    DataLoader d;
    dataloader_open(&d, dir, T, VOCAB, 7);
    CHECK(d.train_shards == 4 && d.val_shards == 2);
    CHECK_MSG(d.train_windows == 30 + 19 + 1, "%d windows", (int)d.train_windows);
    bool offsets[T] = { false };
    int offset_count = 0, orders_equal = 0, successors = 0;
    int32_t first_of_epoch[200];
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        static bool seen[VOCAB];
        memset(seen, 0, sizeof seen);
        int per_shard[4] = { 0 }, offset = -1, changes = 0, last = -1, before = 0;
        for (uint64_t i = 0; i < d.train_windows; i++) {
            int32_t inputs[T], targets[T];
            size_t start;
            uint64_t sequence = epoch * d.train_windows + i;
            CHECK(dataloader_epoch(&d, sequence) == epoch);
            dataloader_train(&d, sequence, inputs, targets);
            int shard = dataloader_place(&d, sequence, &start);
            for (int k = 0; k < T; k++) {
                CHECK_MSG(!seen[inputs[k]], "token %d twice in epoch %d", inputs[k], (int)epoch);
                seen[inputs[k]] = true;
                CHECK(inputs[k] == inputs[0] + k && targets[k] == inputs[k] + 1);
            }
            CHECK(inputs[0] == (shard + 1) * 1000 + (int)start);
            CHECK(start + T < d.train[shard].count);        // the last target is in the shard
            if (shard == 0) {
                if (offset < 0) offset = (int)start % T;
                CHECK(offset == (int)start % T);            // one offset a shard and epoch
            }
            per_shard[shard]++;
            changes += shard != last;
            last = shard;
            successors += inputs[0] == before + T;
            before = inputs[0];
            if (i == 0) first_of_epoch[epoch] = inputs[0];
        }
        CHECK(per_shard[0] == 30 && per_shard[1] == 19 && per_shard[2] == 1 && per_shard[3] == 0);
        CHECK(changes == 3);                                // one shard after another
        offset_count += !offsets[offset];
        offsets[offset] = true;
        if (epoch > 0) orders_equal += first_of_epoch[epoch] == first_of_epoch[epoch - 1];
    }
    CHECK_MSG(offset_count == T, "%d of %d offsets in 200 epochs", offset_count, T);
    CHECK_MSG(successors < 600, "%d of 10,000 windows follow their neighbour in the text", successors);
    CHECK_MSG(orders_equal < 20, "%d of 199 epochs begin as the one before", orders_equal);
    dataloader_close(&d);
    free(dir);
}

TEST(the_order_is_a_function_of_the_seed) {
    char *dir = loader_folder();
    DataLoader a, again, b;
    dataloader_open(&a, dir, T, VOCAB, 7);
    dataloader_open(&again, dir, T, VOCAB, 7);
    dataloader_open(&b, dir, T, VOCAB, 8);
    int different = 0;
    for (uint64_t n = 500; n-- > 0; ) {     // backwards: no state
        int32_t x[2][T], y[T], z[T];
        dataloader_train(&a, n, x[0], y);
        dataloader_train(&again, 499 - n, z, y);
        dataloader_train(&again, n, x[1], y);
        CHECK(memcmp(x[0], x[1], sizeof x[0]) == 0);
        dataloader_train(&b, n, z, y);
        different += memcmp(x[0], z, sizeof z) != 0;
    }
    CHECK_MSG(different > 450, "%d of 500 windows differ between two seeds", different);
    CHECK(dataloader_fingerprint(&a) == dataloader_fingerprint(&b));
    dataloader_close(&a);
    dataloader_close(&again);
    dataloader_close(&b);
    free(dir);
}

// A training shard of documents: 0, then ids that occur nowhere else; it begins in the middle of one. Returns its length.
static int put_documents(const char *dir, int documents) {
    uint32_t ids[4096];
    int n = 0;
    char *train = format("%s/x_train.bin", dir), *val = format("%s/x_val.bin", dir);
    for (int i = 0; i < documents; i++) {
        if (i > 0) ids[n++] = 0;
        for (int length = i % 5 == 3 ? 0 : (int)(hash64(9, (uint64_t)i) % 60); length > 0; length--, n++)
            ids[n] = (uint32_t)n + 1;
    }
    if (shard_write(train, ids, (size_t)n, VOCAB - 1) != 0) fail("%s: %s", train, strerror(errno));
    put_shard(val, 0, 100);
    free(train);
    free(val);
    return n;
}

TEST(documents_are_shuffled_whole) {
    char *dir = test_folder("data/documents"), *path = format("%s/x_train.bin", dir);
    int n = put_documents(dir, 70), seams = 0, same_seams = 0;
    DataLoader d, again;
    dataloader_open(&d, dir, T, VOCAB, 3);
    dataloader_by_documents(&d, 0);
    CHECK(!dataloader_by_documents(&d, VOCAB - 1) && dataloader_by_documents(&d, 0));
    Shard shard = shard_open(path);
    static int32_t after[4096];                             // in the first epoch: what follows each document's end
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        static bool seen[4096];
        int count = 0;
        memset(seen, 0, sizeof seen);
        for (uint64_t w = 0; w < d.train_windows; w++) {
            int32_t inputs[T], targets[T];
            dataloader_train(&d, epoch * d.train_windows + w, inputs, targets);
            for (int k = 0; k < T; k++) {
                if (k > 0) CHECK(inputs[k] == targets[k - 1]);
                if (inputs[k] == 0) continue;               // its place is inputs[k] - 1
                CHECK_MSG(!seen[inputs[k]], "token %d twice in an epoch", inputs[k]);
                seen[inputs[k]] = true;
                count++;
                bool end = inputs[k] == n || shard_token(&shard, (size_t)inputs[k]) == 0;
                CHECK_MSG(targets[k] == (end ? 0 : inputs[k] + 1) || (end && targets[k] == 1), "%d after %d", targets[k],
                          inputs[k]);
                if (!end || k + 1 >= T) continue;           // which document comes next
                int32_t next = targets[k] == 0 ? inputs[k + 1] + 4096 * targets[k + 1] : 1;
                if (epoch == 0) after[inputs[k]] = next;
                else if (after[inputs[k]]) { seams++; same_seams += after[inputs[k]] == next; }
            }
        }
        int zeros = 0;
        for (int i = 0; i < n; i++) zeros += shard_token(&shard, (size_t)i) == 0;
        CHECK_MSG(count >= n - zeros - 2 * T, "%d of %d tokens in epoch %d", count, n - zeros, (int)epoch);
    }
    CHECK_MSG(seams > 40 && same_seams * 4 < seams, "%d of %d documents have the same one behind in another epoch",
              same_seams, seams);

    // A loader that begins in the middle of the second epoch, as a resume does, and goes backwards.
    dataloader_open(&again, dir, T, VOCAB, 3);
    dataloader_by_documents(&again, 0);
    for (uint64_t k = 0; k < d.train_windows; k++) {
        uint64_t sequence = d.train_windows * 3 / 2 + (k % 2 ? k : d.train_windows - k);
        int32_t x[2][T], y[2][T];
        dataloader_train(&d, d.train_windows * 3 / 2 + k, x[0], y[0]);
        dataloader_train(&d, sequence, x[0], y[0]);
        dataloader_train(&again, sequence, x[1], y[1]);
        CHECK(memcmp(x[0], x[1], sizeof x[0]) == 0 && memcmp(y[0], y[1], sizeof y[0]) == 0);
    }
    dataloader_close(&again);
    dataloader_close(&d);
    shard_close(&shard);
    free(path);
    free(dir);
}

TEST(ranks_together_have_what_one_has) {
    char *folders[2] = { loader_folder(), test_folder("data/ranks") };
    put_documents(folders[1], 70);
    for (int by_documents = 0; by_documents < 2; by_documents++) {
        enum { BATCH = 12 };
        DataLoader one, part;
        dataloader_open(&one, folders[by_documents], T, VOCAB, 7);
        dataloader_open(&part, folders[by_documents], T, VOCAB, 7);
        if (by_documents) dataloader_by_documents(&one, 0), dataloader_by_documents(&part, 0);
        for (uint64_t step = 0; step < 20; step++) {        // through several epochs
            static int32_t whole[2][BATCH * T], parts[2][BATCH * T];
            dataloader_batch(&one, step, BATCH, 0, 1, whole[0], whole[1]);
            for (int size = 2; size <= 4; size++) {
                memset(parts, 0xff, sizeof parts);
                for (int rank = 0; rank < size; rank++)
                    dataloader_batch(&part, step, BATCH, rank, size, parts[0] + rank * (BATCH / size * T),
                                     parts[1] + rank * (BATCH / size * T));
                CHECK_MSG(memcmp(whole, parts, sizeof whole) == 0, "step %d, %d ranks", (int)step, size);
            }
        }
        dataloader_close(&one);
        dataloader_close(&part);
        free(folders[by_documents]);
    }
}

// Reads many windows of 1 GB of shards; fails where that takes much memory.
static void read_a_gigabyte(void *arg) {
    DataLoader d;
    int32_t inputs[4 * T], targets[4 * T];
    double before = machine_resident();
    dataloader_open(&d, (const char *)arg, T, VOCAB, 7);
    free(dataloader_classes(&d));
    for (uint64_t step = 0; step < 10000; step++) dataloader_batch(&d, step, 4, 0, 1, inputs, targets);
    double grown = machine_resident() - before;
    dataloader_close(&d);
    if (grown > 1.5 * DATALOADER_RESIDENT) fail("%.0f MB more memory", 1e-6 * grown);
}

TEST(a_large_corpus_takes_no_memory) {
    char *dir = test_folder("data/large"), *val = format("%s/x_val.bin", dir), errors[256];
    put_shard(val, 0, 100);
    for (int i = 0; i < 5; i++) {                           // 100,000,000 tokens each, all 0: no blocks on the disk
        enum { TOKENS = 100000000 };
        char *path = format("%s/x_train_%d.bin", dir, i);
        int32_t header[SHARD_HEADER_BYTES / 4] = { shard_kinds[0].magic, shard_kinds[0].version, TOKENS };
        put(path, header, sizeof header);
        if (truncate(path, SHARD_HEADER_BYTES + 2ll * TOKENS) != 0) fail("%s: %s", path, strerror(errno));
        free(path);
    }
    CHECK_MSG(run_child(read_a_gigabyte, dir, errors, sizeof errors) == 0, "%s", errors);
    free(test_folder("data/large"));
    free(val);
    free(dir);
}

// The shard is cut while it is mapped.
static void cut_open_shard(void *arg) {
    DataLoader d;
    int32_t inputs[T], targets[T];
    dataloader_open(&d, (const char *)arg, T, VOCAB, 1);
    if (truncate(d.train[0].path, 0) != 0) fail("truncate");
    for (uint64_t n = 0; n < d.train_windows; n++) dataloader_train(&d, n, inputs, targets);
}

TEST(a_shard_that_is_cut_while_open_is_named) {
    char *dir = loader_folder();
    CHECK_FAILS(cut_open_shard, dir, 1, "x_train_000000.bin: was overwritten or cut while in use");
    free(dir);
}

TEST(classes_are_tenths_of_the_text) {
    char *dir = test_folder("data/classes"), *train = format("%s/x_train.bin", dir), *val = format("%s/x_val.bin", dir);
    uint32_t ids[1000];
    for (int i = 0; i < 1000; i++) ids[i] = i < 250 ? 7 : i < 350 ? 3 : (uint32_t)(20 + (i - 350) / 13);     // 50 of 1.3 %
    CHECK(shard_write(train, ids, 1000, 100) == 0);
    put_shard(val, 0, 50);
    DataLoader d;
    dataloader_open(&d, dir, T, 100, 7);
    uint8_t *classes = dataloader_classes(&d);
    CHECK(classes[7] == 1 && classes[3] == 3);              // their middles at 12.5 and 30 %
    CHECK(classes[20] == 3 && classes[69] == 9 && classes[99] == 9 && classes[0] == 9);
    for (int t = 21; t < 70; t++) CHECK(classes[t] == classes[t - 1] || classes[t] == classes[t - 1] + 1);
    free(classes);
    dataloader_close(&d);
    free(train);
    free(val);
    free(dir);
}

TEST(validation_windows_are_consecutive) {
    char *dir = loader_folder();
    DataLoader d;
    dataloader_open(&d, dir, T, VOCAB, 7);
    // 100 tokens: 6 windows (96 inputs and their targets); 48 tokens: 2, since a third would lack its last target
    CHECK(dataloader_val_windows(&d, 0) == 8);
    CHECK(dataloader_val_windows(&d, 1000000) == 8);
    CHECK(dataloader_val_windows(&d, 5 * T + T - 1) == 5);
    CHECK(dataloader_val_windows(&d, 1) == 1);
    for (uint64_t i = 0; i < 8; i++) {
        int32_t inputs[T], targets[T];
        dataloader_val(&d, i, inputs, targets);
        int first = i < 6 ? 5000 + T * (int)i : 6000 + T * (int)(i - 6);
        for (int k = 0; k < T; k++) CHECK(inputs[k] == first + k && targets[k] == first + k + 1);
    }
    dataloader_close(&d);
    free(dir);
}

TEST(a_sample_of_validation_windows_is_spread_over_the_split) {
    DataLoader d = { .val_windows = 1000 };
    for (uint64_t windows = 1; windows <= d.val_windows; windows += windows < 20 ? 1 : 245) {
        uint64_t before = 0;
        for (uint64_t i = 0; i < windows; i++) {
            uint64_t at = dataloader_val_spread(&d, windows, i);
            CHECK(at >= i * 1000 / windows && at < (i + 1) * 1000 / windows + 1 && (i == 0 || at > before));
            before = at;
        }
    }
    CHECK(dataloader_val_spread(&d, 1, 0) == 500 && dataloader_val_spread(&d, 4, 3) == 875);
    for (uint64_t i = 0; i < 1000; i++) CHECK(dataloader_val_spread(&d, 1000, i) == i);
}

TEST(short_shards_give_the_windows_that_fit) {
    for (int count = T + 1; count <= 4 * T; count++) {
        char *dir = test_folder("data/short"), *train = format("%s/train.bin", dir), *val = format("%s/val.bin", dir);
        put_shard(train, 0, count);
        put_shard(val, 0, T + 1);
        DataLoader d;
        dataloader_open(&d, dir, T, VOCAB, 3);
        CHECK((int)d.train_windows == (count < 2 * T ? 1 : (count - T) / T));
        CHECK(d.val_windows == 1);
        int last = 0, first = count;
        for (uint64_t n = 0; n < 300; n++) {
            int32_t inputs[T], targets[T];
            dataloader_train(&d, n, inputs, targets);
            if (inputs[0] < first) first = inputs[0];
            if (targets[T - 1] > last) last = targets[T - 1];
        }
        CHECK(first == 0);
        int reach = T * (int)d.train_windows + T - 1;       // the last target at the largest offset
        CHECK_MSG(last == (reach < count - 1 ? reach : count - 1), "%d tokens: the last one used is %d", count, last);
        dataloader_close(&d);
        free(train);
        free(val);
        free(dir);
    }
}

TEST(the_later_word_of_a_name_says_its_split) {
    CHECK(dataloader_split("fineweb_train_000001.bin") == 't' && dataloader_split("fineweb_val_000000.bin") == 'v');
    CHECK(dataloader_split("medieval_train_000000.bin") == 't' && dataloader_split("training_val.bin") == 'v');
    CHECK(dataloader_split("tokenizer.bin") == 0 && dataloader_split("train.txt") == 0);
    CHECK(dataloader_split("train_000000.bin.tmp") == 0 && dataloader_split("bin") == 0);
}

TEST(fingerprint_tells_data_apart) {
    char *dir = loader_folder(), *path = format("%s/x_val_000001.bin", dir);
    DataLoader d;
    dataloader_open(&d, dir, T, VOCAB, 7);
    uint64_t before = dataloader_fingerprint(&d);
    dataloader_close(&d);
    put_shard(path, 6001, 48);      // one more in each token
    dataloader_open(&d, dir, T, VOCAB, 7);
    CHECK(dataloader_fingerprint(&d) != before);
    dataloader_close(&d);
    put_shard(path, 6000, 48);
    dataloader_open(&d, dir, 2 * T, VOCAB, 9);
    CHECK(dataloader_fingerprint(&d) == before);
    dataloader_close(&d);

    // A shard of 400 kB: the first and the last token count, and its length.
    enum { N = 200000 };
    uint32_t *ids = (uint32_t *)xcalloc(N + 1, sizeof *ids);
    uint64_t prints[4];
    for (int i = 0; i < 4; i++) {
        ids[0] = i == 1;
        ids[N - 1] = i == 2;
        CHECK(shard_write(path, ids, N + (i == 3), VOCAB) == 0);
        dataloader_open(&d, dir, T, VOCAB, 0);
        prints[i] = dataloader_fingerprint(&d);
        dataloader_close(&d);
        for (int k = 0; k < i; k++) CHECK_MSG(prints[k] != prints[i], "shards %d and %d", k, i);
    }
    free(ids);
    free(path);
    free(dir);
}

// The last token of the training shard changes after it was mapped.
static void spoil_open_shard(void *arg) {
    const Opening *o = (const Opening *)arg;
    DataLoader d;
    int32_t inputs[T], targets[T];
    uint16_t bad = 99;
    dataloader_open(&d, o->dir, T, o->V, 1);
    int fd = open(d.train[0].path, O_WRONLY);
    if (pwrite(fd, &bad, sizeof bad, SHARD_HEADER_BYTES + 2 * T) != sizeof bad) fail("pwrite");
    close(fd);
    dataloader_train(&d, 0, inputs, targets);
}

TEST(bad_shards_are_refused_in_one_line) {
    char *dir = test_folder("data/bad"), *train = format("%s/x_train.bin", dir), *val = format("%s/val.bin", dir);
    char *words = format("%s: the header says 100 tokens (1224 bytes), the file has 1223 bytes", train);
    Opening o = { dir, T, 100, true, false }, none = { ROOT "/none", T, 100, true, false };
    CHECK_FAILS(open_loader, &none, 1, ROOT "/none: cannot be read: No such file");
    CHECK_FAILS(open_loader, &o, 1, "no training shard");
    put_shard(train, 0, 100);
    CHECK_FAILS(open_loader, &o, 1, "no validation shard");
    put_shard(val, 0, T);
    CHECK_FAILS(open_loader, &o, 1, "no validation shard holds the 17 tokens");
    put_shard(val, 0, 100);
    char errors[256];
    CHECK_MSG(run_child(open_loader, &o, errors, sizeof errors) == 0, "%s", errors);

    // A token outside the vocabulary, found when the folder is opened, and when a window of a changed file is read
    Opening small = { dir, T, 96, false, false };
    CHECK_FAILS(open_loader, &small, 1, "train.bin: token 96 is 96: the vocabulary has 96 tokens (0 to 95)");
    put_shard(train, 0, 90);
    CHECK_FAILS(open_loader, &small, 1, "val.bin: token 96 is 96: the vocabulary has 96 tokens (0 to 95)");
    put_shard(val, 0, 60);
    put_shard(train, 60, T + 1);
    small.V = 77;
    CHECK_FAILS(spoil_open_shard, &small, 1, "x_train.bin: was overwritten or cut while in use");
    put_shard(train, 0, 100);

    size_t n;
    char *good = read_file(train, &n), *bad = (char *)xmalloc(n + 2);
    put(train, good, n - 1);
    CHECK_FAILS(open_loader, &o, 1, words);
    memset(bad, 0, n + 2);
    memcpy(bad, good, n);
    put(train, bad, n + 2);
    CHECK_FAILS(open_loader, &o, 1, "the file has 1226 bytes");
    put(train, good, 1000);
    CHECK_FAILS(open_loader, &o, 1, "train.bin: 1000 bytes");
    put(train, good, 0);
    CHECK_FAILS(open_loader, &o, 1, "train.bin: 0 bytes");
    bad[0] ^= 1;
    put(train, bad, n);
    CHECK_FAILS(open_loader, &o, 1, "not a token shard");
    memcpy(bad, good, n);
    bad[4] = 7;
    put(train, bad, n);
    CHECK_FAILS(open_loader, &o, 1, "version 7");
    memcpy(bad, good, n);
    bad[11] = (char)0x80;
    put(train, bad, n);
    CHECK_FAILS(open_loader, &o, 1, "the header says -");
    put(train, good, n);
    chmod(train, 0);
    Opening nobody = { dir, T, 100, true, true };
    CHECK_FAILS(open_loader, &nobody, 1, "Permission denied");
    unlink(train);
    if (mkdir(train, 0777) != 0) fail("%s: %s", train, strerror(errno));
    CHECK_FAILS(open_loader, &o, 1, "not a file");
    free(good);
    free(bad);
    free(words);
    free(train);
    free(val);
    free(dir);
}

// ---------------------------------------------------------------------------------------------------------------------
// The program tokenize

// 1,000 characters of which some take several bytes: the split counts characters.
static char *thousand_characters(size_t *n) {
    static const char *const letters[] = { "a", "b", "\xc3\xa9", "\xe2\x82\xac", "\n" };
    char *text = (char *)xcalloc(4001, 1);
    *n = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const char *letter = letters[hash64(5, i) % COUNT_OF(letters)];
        memcpy(text + *n, letter, strlen(letter));
        *n += strlen(letter);
    }
    return text;
}

TEST(tokenize_shards_splits_as_nanogpt) {
    free(test_folder("data/split"));
    size_t n;
    char *text = thousand_characters(&n);
    put(ROOT "/split/text.txt", text, n);
    CHECK(run(TOKENIZE " shards --tokenizer=char --out=" ROOT "/split/out/char " ROOT "/split/text.txt") == 0);
    DataLoader d;
    dataloader_open(&d, ROOT "/split/out/char", 1, 5, 0);
    CHECK(d.train[0].count == 900 && d.val[0].count == 100);
    CHECK(strcmp(d.train[0].path, ROOT "/split/out/char/train_000000.bin") == 0);

    Tokenizer t;
    char error[256];
    CHECK(tokenizer_load(&t, ROOT "/split/out/char/tokenizer.bin", error, sizeof error) == 0 && t.size == 5);
    char *back = (char *)xmalloc(4000);     // train, then validation, decoded: the text
    size_t length = 0;
    for (size_t i = 0; i < 1000; i++) {
        int bytes = 0;
        const char *token =
            tokenizer_token(&t, (int)(i < 900 ? shard_token(&d.train[0], i) : shard_token(&d.val[0], i - 900)), &bytes);
        memcpy(back + length, token, (size_t)bytes);
        length += (size_t)bytes;
    }
    CHECK(length == n && memcmp(back, text, n) == 0);
    size_t train_tokens = d.train[0].count;
    dataloader_close(&d);

    // A vocabulary of bytes splits at the same character; several shards together are the one shard.
    CHECK(run(TOKENIZE " shards --tokenizer=byte --shard-tokens=100 --name=medieval --out=" ROOT "/split/out/byte "
              ROOT "/split/text.txt") == 0);
    dataloader_open(&d, ROOT "/split/out/byte", 1, 256, 0);
    CHECK(train_tokens == 900 && d.train_shards >= (int)n / 112);
    size_t at = 0;
    bool same = true;
    for (int i = 0; i < d.train_shards + d.val_shards; i++) {
        const Shard *s = dataloader_shard(&d, i);
        CHECK(s->count <= 100);
        if (i == d.train_shards) CHECK((text[at] & 0xc0) != 0x80);
        for (size_t k = 0; k < s->count; k++) same = same && at < n && shard_token(s, k) == (uint8_t)text[at++];
    }
    CHECK(same && at == n);
    dataloader_close(&d);

    // No character is cut where a shard ends.
    CHECK(run(TOKENIZE " shards --shard-tokens=7 --out=" ROOT "/split/out/small " ROOT "/split/text.txt") == 0);
    dataloader_open(&d, ROOT "/split/out/small", 1, 5, 0);
    uint32_t ids[4000];
    CHECK(tokenizer_encode(&t, text, n, ids, error, sizeof error) == 1000);
    size_t k = 0;
    for (int i = 0; i < d.train_shards; i++) {
        CHECK(d.train[i].count <= 7 && k + d.train[i].count <= 900);
        for (size_t j = 0; j < d.train[i].count; j++) CHECK(shard_token(&d.train[i], j) == ids[k + j]);
        k += d.train[i].count;
    }
    CHECK(k == 900);
    dataloader_close(&d);
    tokenizer_free(&t);
    free(back);
    free(text);
}

TEST(tokenize_shards_takes_a_validation_text) {
    free(test_folder("data/val"));
    put_text(ROOT "/val/train.txt", "abcabc\n");
    put_text(ROOT "/val/val.txt", "xyz\n");
    CHECK(run(TOKENIZE " shards --out=" ROOT "/val/out --val=" ROOT "/val/val.txt " ROOT "/val/train.txt") == 0);
    DataLoader d;
    dataloader_open(&d, ROOT "/val/out", 1, 7, 0);      // \n a b c x y z
    static const uint16_t train[] = { 1, 2, 3, 1, 2, 3, 0 }, val[] = { 4, 5, 6, 0 };
    CHECK(d.train[0].count == 7 && memcmp(d.train[0].tokens, train, sizeof train) == 0);
    CHECK(d.val[0].count == 4 && memcmp(d.val[0].tokens, val, sizeof val) == 0);
    dataloader_close(&d);
    put_text(ROOT "/val/train.txt", "abcabcabcabc\n");
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/val/out " ROOT "/val/train.txt", 1, "holds shards");
}

TEST(tokenize_encodes_and_decodes) {
    free(test_folder("data/filter"));
    put_text(ROOT "/filter/text", "ab\xc3\xa9\nba");
    CHECK(run(TOKENIZE " shards --out=" ROOT "/filter/out --val=" ROOT "/filter/text " ROOT "/filter/text") == 0);
#define FILTER(command) TOKENIZE " " command " --tokenizer=" ROOT "/filter/out/tokenizer.bin"
    CHECK(run(FILTER("encode") " <" ROOT "/filter/text >" ROOT "/filter/ids") == 0);
    CHECK(same_file(ROOT "/filter/ids", "1\n2\n3\n0\n2\n1\n", 12));
    CHECK(run(FILTER("decode") " <" ROOT "/filter/ids | cmp - " ROOT "/filter/text") == 0);
    CHECK(run(FILTER("encode --u16") " <" ROOT "/filter/text >" ROOT "/filter/u16") == 0);
    CHECK(same_file(ROOT "/filter/u16", "\1\0\2\0\3\0\0\0\2\0\1", 12));
    CHECK(run(FILTER("decode --u16") " <" ROOT "/filter/u16 | cmp - " ROOT "/filter/text") == 0);
    CHECK(run(FILTER("encode") " </dev/null | cmp - /dev/null") == 0);
    CHECK_FAILS(shell, "printf 'ab\\nz' | " FILTER("encode"), 1, "stdin: line 2: character U+007A is not in the vocab");
    CHECK_FAILS(shell, "printf '1\\n2 x3\\n' | " FILTER("decode"), 1, "line 2: \"x3\": a token id expected");
    CHECK_FAILS(shell, "printf '1\\n-2\\n' | " FILTER("decode"), 1, "line 2: \"-2\"");
    CHECK_FAILS(shell, "printf '1 2 4' | " FILTER("decode"), 1, "id number 3 is 4: the vocabulary has 4 tokens");
    CHECK_FAILS(shell, "printf 99999999999999999999 | " FILTER("decode"), 1, "the vocabulary has 4 tokens");
    CHECK_FAILS(shell, "printf '1\\0002' | " FILTER("decode"), 1, "a token id expected");
    CHECK_FAILS(shell, "printf '\\1\\0\\2' | " FILTER("decode --u16"), 1, "3 bytes: an even number");
    CHECK_FAILS(shell, FILTER("encode") " <" ROOT "/filter", 1, "stdin: cannot be read: Is a directory");
    CHECK_FAILS(shell, FILTER("encode") " <" ROOT "/filter/text >/dev/full", 1, "stdout: cannot be written");
    CHECK_FAILS(shell, TOKENIZE " encode --tokenizer=" ROOT "/filter/ids </dev/null", 1, "not a tokenizer file");
    CHECK(run(TOKENIZE " info " ROOT "/filter/out") == 0);
    CHECK_FAILS(shell, TOKENIZE " info " ROOT "/filter/ids", 1, "not a tokenizer file");
}

// A byte-pair encoding of the project's own sources: trained, kept beside the shards it made; every byte comes back.
TEST(tokenize_trains_and_uses_a_byte_pair_encoding) {
    free(test_folder("data/bpe"));
#define BPE(command) TOKENIZE " " command " --tokenizer=" ROOT "/bpe/tok.json"
    CHECK(run(TOKENIZE " train --vocab=700 --out=" ROOT "/bpe/tok.json train_gpt.c muon.h") == 0);
    CHECK(run(BPE("encode") " <muon.h >" ROOT "/bpe/ids && " BPE("decode") " <" ROOT "/bpe/ids | cmp - muon.h") == 0);
    CHECK(run("printf 'a\\0b\\377\\303\\r\\n' >" ROOT "/bpe/odd && " BPE("encode --u16") " <" ROOT "/bpe/odd | "
              BPE("decode --u16") " | cmp - " ROOT "/bpe/odd") == 0);
    CHECK(run("! printf '<|endoftext|>' | " BPE("encode") " | grep -qx 0") == 0);  // text never makes a special token
    // Shards of 1,000 tokens: all full but the last, and together what encoding the text at once gives.
    CHECK(run(BPE("shards") " --shard-tokens=1000 --out=" ROOT "/bpe/out --val=" ROOT "/bpe/odd muon.h") == 0);
    DataLoader d;
    dataloader_open(&d, ROOT "/bpe/out", 1, 700, 0);
    size_t n, at = 0;
    char *text = read_file(ROOT "/bpe/ids", &n), *place = text;
    for (int i = 0; i < d.train_shards; i++) {
        CHECK(i == d.train_shards - 1 || d.train[i].count == 1000);
        for (size_t k = 0; k < d.train[i].count; k++, at++)
            if (shard_token(&d.train[i], k) != strtol(place, &place, 10)) { CHECK_MSG(false, "token %zu differs", at); break; }
    }
    CHECK(strtol(place, &place, 10) == 0 && *place == '\n' && !place[1]);
    free(text);
    dataloader_close(&d);
    CHECK(run("cmp " ROOT "/bpe/tok.json " ROOT "/bpe/out/tokenizer.json") == 0);
    CHECK(!file_exists(ROOT "/bpe/out/tokenizer.bin"));
    CHECK(run(TOKENIZE " info " ROOT "/bpe/out | grep -q '700 tokens, kind bpe'") == 0);
    CHECK_FAILS(shell, TOKENIZE " train --vocab=256 --out=" ROOT "/bpe/x muon.h", 2, "--vocab=256: an integer from 257");
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 muon.h", 2, "--out=FILE.json is missing");
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 --out=" ROOT "/bpe/x", 2, "the text file is missing");
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 --out=" ROOT "/none/x muon.h", 1, "/none/x: cannot be written");
    CHECK_FAILS(shell, TOKENIZE " train --vocab=300 --out=" ROOT "/bpe/x " ROOT "/none", 1, "/none: cannot be read");
    put_text(ROOT "/bpe/bad.json", "{\"model\": {\"type\": \"WordPiece\"}}");
    CHECK_FAILS(shell, TOKENIZE " encode --tokenizer=" ROOT "/bpe/bad.json </dev/null", 1, "bad.json: ");
}

TEST(tokenize_refuses_bad_texts_and_writes_nothing) {
    free(test_folder("data/texts"));
#define SHARDS TOKENIZE " shards --out=" ROOT "/texts/out "
    put_text(ROOT "/texts/empty", "");
    put_text(ROOT "/texts/short", "0123456789");
    put_text(ROOT "/texts/just_enough", "0123456789x");
    put(ROOT "/texts/latin1", "ok\nok\ncaf\xe9\n0123456789", 21);
    put_text(ROOT "/texts/secret", "0123456789x");
    chmod(ROOT "/texts/secret", 0);
    CHECK_FAILS(shell, SHARDS ROOT "/texts/empty", 1, "/empty: the text is empty");
    CHECK_FAILS(shell, SHARDS ROOT "/texts/none", 1, "/none: cannot be read: No such file");
    CHECK_FAILS(shell, SHARDS ROOT "/texts/short", 1, "/short: 10 characters: too short to split");
    CHECK_FAILS(shell, SHARDS ROOT "/texts/latin1", 1, "/latin1: line 3: byte 0xE9 is not UTF-8; --tokenizer=byte");
    CHECK_FAILS(shell_as_nobody, SHARDS ROOT "/texts/secret", 1, "/secret: cannot be read: Permission denied");
    CHECK_FAILS(shell, SHARDS "--val=" ROOT "/texts/latin1 " ROOT "/texts/short", 1, "/latin1: line 3: byte 0xE9");
    CHECK_FAILS(shell, SHARDS "--tokenizer=bpe " ROOT "/texts/short", 2, "char, byte or a tokenizer's file expected");
    CHECK_FAILS(shell, SHARDS "--shard-tokens=1e6 " ROOT "/texts/short", 2, "--shard-tokens=1e6");
    CHECK_FAILS(shell, SHARDS "--colour " ROOT "/texts/short", 2, "--colour: not expected here");
    CHECK_FAILS(shell, SHARDS, 2, "the text file is missing");
    CHECK_FAILS(shell, TOKENIZE " shards x", 2, "--out=DIR is missing");
    CHECK_FAILS(shell, TOKENIZE " encode", 2, "--tokenizer=FILE is missing");
    CHECK_FAILS(shell, TOKENIZE " prepare", 2, "prepare: unknown command");
    CHECK_FAILS(shell, TOKENIZE, 2, "a command expected");
    CHECK_FAILS(shell, TOKENIZE " shards --out=" ROOT "/texts/short/out " ROOT "/texts/just_enough", 1, "be made");
    CHECK(!file_exists(ROOT "/texts/out"));

    // A full disk, met by the second shard: the first one goes again too.
    char *text = (char *)xmalloc(300000);
    memset(text, 'x', 300000);
    put(ROOT "/texts/large", text, 300000);
    CHECK_FAILS(shell_on_full_disk, SHARDS ROOT "/texts/large", 1, "train_000000.bin: cannot be written: File too");
    CHECK_FAILS(shell_on_full_disk, SHARDS "--val=" ROOT "/texts/large " ROOT "/texts/just_enough", 1, "val_0000");
    CHECK(rmdir(ROOT "/texts/out") == 0);       // it is empty
    CHECK(run(SHARDS ROOT "/texts/just_enough") == 0);
    free(text);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(utf8_every_code_point_and_no_other);
    RUN(char_vocabulary_is_in_code_point_order);
    RUN(byte_vocabulary_takes_any_bytes);
    RUN(encode_names_what_it_cannot_encode);
    RUN(tokenizer_file_round_trip_and_layout);
    RUN(tokens_of_llmc_encode_as_the_vocabulary_they_are_of);
    RUN(either_half_of_gpt2s_pair_loads);
    RUN(damaged_tokenizer_files_are_refused);
    RUN(the_hash_tells_vocabularies_apart);
    RUN(shard_layout);
    RUN(wide_and_raw_shards);
    RUN(permutation_is_a_bijection);
    RUN(an_epoch_takes_every_window_once);
    RUN(the_order_is_a_function_of_the_seed);
    RUN(documents_are_shuffled_whole);
    RUN(ranks_together_have_what_one_has);
    RUN(a_large_corpus_takes_no_memory);
    RUN(a_shard_that_is_cut_while_open_is_named);
    RUN(classes_are_tenths_of_the_text);
    RUN(validation_windows_are_consecutive);
    RUN(a_sample_of_validation_windows_is_spread_over_the_split);
    RUN(short_shards_give_the_windows_that_fit);
    RUN(the_later_word_of_a_name_says_its_split);
    RUN(fingerprint_tells_data_apart);
    RUN(bad_shards_are_refused_in_one_line);
    RUN(tokenize_shards_splits_as_nanogpt);
    RUN(tokenize_shards_takes_a_validation_text);
    RUN(tokenize_encodes_and_decodes);
    RUN(tokenize_trains_and_uses_a_byte_pair_encoding);
    RUN(tokenize_refuses_bad_texts_and_writes_nothing);
    return tests_end();
}

/* fuzz_tokenizer.h - part of fuzz.c: texts and files of tokenizers.
 *
 * The first byte of an input says what the others are: '0' a text, '1' a tokenizer.json, '2' a tokenizer.bin, '3'
 * GPT-2's two files, the merges from the first "#version" on (of any other byte its last two bits count). What is encoded
 * comes back, and no file makes the loader crash.
 */
enum { PATTERNS = COUNT_OF(bpe_patterns), CHARS = 0x100000 };

static Tokenizer byte_tokens, chars;      // chars: every code point below CHARS, which is about as many as there may be
static Bpe bpe[PATTERNS];           // one small vocabulary, with each pattern
static BpeEncoder encoders[PATTERNS];
static bool tokenizers_made;

static void tokenizers_make(void) {
    static const char *const special[] = { BPE_EOT };
    char error[512];
    tokenizers_made = true;
    tokenizer_bytes(&byte_tokens);
    uint8_t *seen = (uint8_t *)xcalloc(UTF8_CODE_POINTS, 1);
    for (uint32_t c = 0; c < CHARS; c++) seen[c] = c < 0xd800 || c >= 0xe000;
    if (tokenizer_train_chars(&chars, seen, error, sizeof error) != 0) fail("%s", error);
    free(seen);

    // Runs, words, spaces, parts of characters, all bytes: a vocabulary with tokens that end within characters.
    static const char *const parts[] = { "the ", " a", "\xc3\xa9", "\xe2\x82\xac\xe2\x82", "\xf0\x9f\x98\x80", "\n\n",
                                         "  ", "\xc2\xa0", "'ll", "12", "\xff\xfe", "aaaa", "--", "\t\r\n",
                                         "\xcc\x81" };
    char text[20000];
    for (size_t i = 0; i < sizeof text; ) {
        uint64_t h = hash64(11, i);
        if (h % 8 == 0) text[i++] = (char)(h >> 8);
        else for (const char *p = parts[h / 8 % COUNT_OF(parts)]; *p && i < sizeof text; ) text[i++] = *p++;
    }
    BpeWords words = { 0 };
    if (bpe_count(&words, text, sizeof text, error, sizeof error) != 0) fail("%s", error);
    for (int i = 0; i < PATTERNS; i++) {
        if (bpe_train(&bpe[i], &words, 600, special, 1, error, sizeof error) != 0) fail("%s", error);
        bpe[i].pattern = i;
        bpe[i].ignore_merges = i % 2 == 1;
        if (bpe_encoder_open(&encoders[i], &bpe[i], error, sizeof error) != 0) fail("%s", error);
    }
    bpe_words_free(&words);
}

static bool is_utf8(const char *text, size_t n) {
    uint32_t c = 0;
    for (size_t i = 0, length; i < n; i += length)
        if ((length = (size_t)utf8_decode(text + i, n - i, &c)) == 0 || c >= CHARS) return false;
    return true;
}

static void same_bytes(const Tokenizer *t, const uint32_t *ids, long count, const char *text, size_t n) {
    size_t at = 0;
    for (long i = 0; i < count; i++) {
        int length = 0;
        const char *token = tokenizer_token(t, (int)ids[i], &length);
        bool same = token && at + (size_t)length <= n && memcmp(text + at, token, (size_t)length) == 0;
        REQUIRE(same, "kind %s, id %ld of %ld is %u", tokenizer_kind_name(t), i, count, ids[i]);
        at += (size_t)length;
    }
    REQUIRE(at == n, "kind %s: %zu of %zu bytes", tokenizer_kind_name(t), at, n);
}

// Encodes by b's pattern, with JIT, without it, and in parts: the same ids; and they decode to the text.
static void round_trip_bpe(BpeEncoder *e, const char *text, size_t n) {
    uint32_t *ids = (uint32_t *)xmalloc(n * sizeof *ids), *other = (uint32_t *)xmalloc(n * sizeof *other);
    char *back = (char *)xmalloc(n), error[256];
    long count = bpe_encode(e, text, n, ids, error, sizeof error);
    REQUIRE(count >= 0, "%s", error);
    REQUIRE(bpe_decode(e->bpe, ids, (size_t)count, NULL) == (long)n, "pattern %d", e->bpe->pattern);
    bool decoded = bpe_decode(e->bpe, ids, (size_t)count, back) == (long)n && memcmp(back, text, n) == 0;
    REQUIRE(decoded, "pattern %d", e->bpe->pattern);
    bool jit = e->splitter.jit;
    e->splitter.jit = false;
    REQUIRE(bpe_encode(e, text, n, other, error, sizeof error) == count, "pattern %d without JIT", e->bpe->pattern);
    REQUIRE(memcmp(ids, other, (size_t)count * sizeof *ids) == 0, "pattern %d without JIT", e->bpe->pattern);
    e->splitter.jit = jit;
    long sum = 0;
    for (size_t from = 0, to; from < n; from = to) {
        to = bpe_cut(text, from + 1, n);
        long got = bpe_encode(e, text + from, to - from, other + sum, error, sizeof error);
        REQUIRE(got > 0, "%s", error);
        sum += got;
    }
    bool same = sum == count && memcmp(ids, other, (size_t)count * sizeof *ids) == 0;
    REQUIRE(same, "pattern %d in parts: %ld ids instead of %ld", e->bpe->pattern, sum, count);
    free(ids);
    free(other);
    free(back);
}

static void try_tokens_of(const char *text, size_t n) {
    uint32_t *ids = (uint32_t *)xcalloc(n, sizeof *ids);
    char error[256];
    long count = tokenizer_encode(&byte_tokens, text, n, ids, error, sizeof error);
    REQUIRE(count == (long)n, "%s", error);
    same_bytes(&byte_tokens, ids, count, text, n);
    count = tokenizer_encode(&chars, text, n, ids, error, sizeof error);
    REQUIRE((count >= 0) == is_utf8(text, n), "%ld", count);
    if (count >= 0) same_bytes(&chars, ids, count, text, n);
    free(ids);
    for (int i = 0; i < PATTERNS; i++) round_trip_bpe(&encoders[i], text, n);
}

// Loads a file. What is taken must give every byte back and be the same vocabulary when it is saved and loaded again.
static void try_file(const char *name) {
    static const char text[] = "The \xc3\xa9 \xff\xc3  'll 12\n\n\0aaaa-- \xf0\x9f\x98\x80";
    enum { N = 256 + sizeof text };
    char *path = format("%s/%s", folder, name), *saved = format("%s/saved", folder), all[N], error[512] = "";
    uint32_t ids[UNICODE_NFC_GROWTH * N], other[UNICODE_NFC_GROWTH * N];
    Tokenizer t, back;
    memcpy(all, text, sizeof text);
    for (int i = 0; i < 256; i++) all[sizeof text + (size_t)i] = (char)i;
    if (tokenizer_load(&t, path, error, sizeof error) != 0) {
        REQUIRE(strstr(error, folder) && !strchr(error, '\n'), "%s", error);
    } else {
        long count = tokenizer_encode(&t, all, N, ids, error, sizeof error);
        REQUIRE(count >= 0 || !t.bpe, "%s", error);
        if (count >= 0) same_bytes(&t, ids, count, all, N);
        REQUIRE(tokenizer_save(&t, saved) == 0, "%s", strerror(errno));
        REQUIRE(tokenizer_load(&back, saved, error, sizeof error) == 0, "%s", error);
        REQUIRE(back.size == t.size && back.eot == t.eot && back.kind == t.kind, "%d tokens, %d", t.size, back.size);
        REQUIRE(tokenizer_hash(&back) == tokenizer_hash(&t), "%d tokens", t.size);
        REQUIRE(tokenizer_encode(&back, all, N, other, error, sizeof error) == count, "%s", error);
        REQUIRE(count < 0 || memcmp(ids, other, (size_t)count * sizeof *ids) == 0, "%ld ids", count);
        tokenizer_free(&back);
        tokenizer_free(&t);
    }
    free(path);
    free(saved);
}

static void try_tokenizer(const char *data, size_t size) {
    if (!tokenizers_made) tokenizers_make();
    if (size == 0) return;
    const char *input = data + 1;
    size_t n = size - 1;
    if (data[0] % 4 == 0) try_tokens_of(input, n);
    else if ((uint8_t)data[0] % 4 < 3) {
        put((uint8_t)data[0] % 4 == 1 ? "tokenizer.json" : "tokenizer.bin", input, n);
        try_file((uint8_t)data[0] % 4 == 1 ? "tokenizer.json" : "tokenizer.bin");
    } else {
        const char *merges = (const char *)memmem(input, n, "#version", 8);
        size_t first = merges ? (size_t)(merges - input) : n;
        put("encoder.json", input, first);
        put("vocab.bpe", input + first, n - first);
        try_file("encoder.json");
        try_file("vocab.bpe");
    }
}

static void tokenizers_free(void) {
    if (!tokenizers_made) return;
    for (int i = 0; i < PATTERNS; i++) {
        bpe_encoder_close(&encoders[i]);
        bpe_free(&bpe[i]);
    }
    tokenizer_free(&byte_tokens);
    tokenizer_free(&chars);
}

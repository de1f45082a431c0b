/* test_bpe.c - byte-level BPE: the ids of `tokenizers` and `tiktoken`, its training, the field's files, any bytes.
 *
 * Run from the project's folder; reads dev/golden/bpe_ids.golden (see make_bpe.py), writes under build/test/bpe only.
 */
#define _GNU_SOURCE
#include "../../src/checkpoint.h"
#include "shell.h"
#include "tokens.h"

#define ROOT "build/test/bpe"
#define EOT "<|endoftext|>"

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

static Checkpoint golden_file;
static char *golden_json;       // tokenizer.json of the golden file, as `tokenizers` wrote it
static Bpe golden;

static const CkptTensor *golden_tensor(const char *kind, const char *name) {
    char *full = format("%s%s", kind, name);
    const CkptTensor *t = checkpoint_find(&golden_file, full);
    if (!t) fail("%s: no %s", golden_file.path, full);
    free(full);
    return t;
}


static void open_golden(void) {
    char error[512];
    free(test_folder("bpe"));
    if (checkpoint_open(&golden_file, "dev/golden/bpe_ids.golden", error, sizeof error) != 0) fail("%s", error);
    const CkptTensor *json = golden_tensor("", "tokenizer.json");
    golden_json = format("%.*s", (int)json->shape[0], (const char *)json->data);
    put_text(ROOT "/golden.json", golden_json);
    if (bpe_load(&golden, ROOT "/golden.json", error, sizeof error) != 0) fail("%s", error);
}

static BpeEncoder encoder_of(const Bpe *b) {
    BpeEncoder e;
    char error[256];
    if (bpe_encoder_open(&e, b, error, sizeof error) != 0) fail("%s", error);
    return e;
}

// The ids of a text, which the caller frees.
static uint32_t *encode(BpeEncoder *e, const char *text, size_t n, size_t *count) {
    char error[256];
    uint32_t *ids = (uint32_t *)xmalloc(bpe_room(e->bpe, n) * sizeof *ids);
    long result = bpe_encode(e, text, n, ids, error, sizeof error);
    if (result < 0) fail("%s", error);
    *count = (size_t)result;
    return ids;
}

static bool round_trip(BpeEncoder *e, const char *text, size_t n) {
    size_t count;
    uint32_t *ids = encode(e, text, n, &count);
    bool same = bpe_decode(e->bpe, ids, count, NULL) == (long)n;
    char *back = (char *)xmalloc(n);
    same = same && bpe_decode(e->bpe, ids, count, back) == (long)n && memcmp(back, text, n) == 0;
    free(ids);
    free(back);
    return same;
}

static bool same_strings(const BpeStrings *a, const BpeStrings *b) {
    return a->count == b->count && memcmp(a->start, b->start, (a->count + 1) * sizeof *a->start) == 0 &&
           memcmp(a->bytes, b->bytes, a->start[a->count]) == 0;
}

static bool same_bpe(const Bpe *a, const Bpe *b) {
    for (size_t i = 0; i < a->added_count && i < b->added_count; i++)
        if (a->added[i].id != b->added[i].id || a->added[i].special != b->added[i].special ||
            a->added[i].normalized != b->added[i].normalized) return false;
    return same_strings(&a->tokens, &b->tokens) && a->merge_count == b->merge_count &&
           memcmp(a->merges, b->merges, a->merge_count * sizeof *a->merges) == 0 &&
           a->added_count == b->added_count && a->nfc == b->nfc;
}

static Bpe train(const BpeWords *words, size_t size) {
    static const char *const special[] = { EOT };
    Bpe b;
    char error[256];
    if (bpe_train(&b, words, size, special, 1, error, sizeof error) != 0) fail("%s", error);
    return b;
}

static void count_words(BpeWords *words, const char *text, size_t n) {
    char error[256];
    if (bpe_count(words, text, n, error, sizeof error) != 0) fail("%s", error);
}

// ---------------------------------------------------------------------------------------------------------------------
// Encoding and decoding

static void check_ids(BpeEncoder *e, const char *name, const char *text, size_t n, const int32_t *expected,
                      size_t size) {
    size_t count, same = 0;
    uint32_t *ids = encode(e, text, n, &count);
    while (same < count && same < size && ids[same] == (uint32_t)expected[same]) same++;
    CHECK_MSG(same == count && same == size, "%s: %zu ids of %zu, the same up to %zu", name, count, size, same);
    free(ids);
}

// Of the golden file's list of strings `name`, each by itself.
static void check_list(BpeEncoder *e, const char *name, size_t expected) {
    char *bytes_name = format("%s.bytes", name), *count_name = format("%s.count", name);
    const char *text = golden_tensor("text.", name)->data;
    const int32_t *ids = golden_tensor("ids.", name)->data, *bytes = golden_tensor("text.", bytes_name)->data;
    const CkptTensor *counts = golden_tensor("ids.", count_name);
    CHECK(counts->shape[0] == expected);
    for (size_t i = 0; i < counts->shape[0]; i++) {
        size_t count = (size_t)((const int32_t *)counts->data)[i];
        check_ids(e, name, text, (size_t)bytes[i], ids, count);
        text += bytes[i];
        ids += count;
    }
    free(bytes_name);
    free(count_name);
}

TEST(ids_are_those_of_tokenizers_and_tiktoken) {
    static const char *const texts[] = { "kjv", "code", "torture" };
    BpeEncoder e = encoder_of(&golden);
    for (int jit = 1; jit >= 0; jit--) {        // without JIT the matcher sees the text in windows
        if (!jit) e.splitter.jit = false;
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
            const CkptTensor *text = golden_tensor("text.", texts[i]), *ids = golden_tensor("ids.", texts[i]);
            check_ids(&e, texts[i], text->data, text->shape[0], ids->data, ids->shape[0]);
        }
        check_list(&e, "random", 1000);
    }
    bpe_encoder_close(&e);
}

TEST(ids_with_other_patterns_are_those_of_both) {
    static const char *const names[] = { "llama3", "qwen2", "gpt4o" };
    const CkptTensor *text = golden_tensor("text.", "others");
    char error[512];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const CkptTensor *json = golden_tensor("tokenizer.", names[i]), *ids = golden_tensor("ids.", names[i]);
        Bpe b, saved;
        CHECK(write_file(ROOT "/other.json", json->data, json->shape[0]) == 0);
        CHECK_MSG(bpe_load(&b, ROOT "/other.json", error, sizeof error) == 0, "%s", error);
        CHECK(b.pattern == (int)i + 1 && b.ignore_merges);
        CHECK(bpe_save(&b, ROOT "/other.json") == 0);
        CHECK_MSG(bpe_load(&saved, ROOT "/other.json", error, sizeof error) == 0, "%s", error);
        CHECK(same_bpe(&saved, &b) && saved.pattern == b.pattern && saved.ignore_merges);
        for (int kind = 0; kind < 4; kind++) {      // of the one and of the other, with JIT and without
            BpeEncoder e = encoder_of(kind % 2 ? &saved : &b);
            if (kind >= 2) e.splitter.jit = false;
            check_ids(&e, names[i], text->data, text->shape[0], ids->data, ids->shape[0]);
            bpe_encoder_close(&e);
        }
        b.ignore_merges = false;                    // the word that is a token by itself only so
        uint32_t word = (uint32_t)b.tokens.count - 1;
        BpeEncoder one = encoder_of(&saved), other = encoder_of(&b);
        size_t count;
        uint32_t *whole = encode(&one, " firmament", 10, &count);
        CHECK(count == 1 && whole[0] == word);
        uint32_t *parts = encode(&other, " firmament", 10, &count);
        CHECK(count > 1);
        free(whole);
        free(parts);
        bpe_encoder_close(&one);
        bpe_encoder_close(&other);
        bpe_free(&b);
        bpe_free(&saved);
    }
}

// n bytes of a kind: any; text with bytes that are wrong in it; parts of characters; spaces; what patterns look at.
static void fill(char *text, size_t n, int kind, uint64_t seed) {
    static const char *const parts[] = { "the ", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\n", " ",
                                         "\xc2\xa0", "\xe2\x80\x83", "'s", "9", "\xff", "\xed\xa0\x80", "\xc0\x80",
                                         "\xf0\x9f" };
    for (size_t i = 0; i < n; ) {
        uint64_t h = hash64(seed, i);
        if (kind == 0) text[i++] = (char)h;
        else if (kind == 1) for (const char *p = parts[h % COUNT_OF(parts)]; *p && i < n; ) text[i++] = *p++;
        else if (kind == 2) text[i++] = "\x80\xbf\xc3\xe2\xf0\xf4\x8f\x90 a"[h % 10];
        else if (kind == 3) text[i++] = " \n\t\r\v\f\0a"[h % 8];
        else text[i++] = " \n\r/'.sS1aA\x7f("[h % 12];
    }
}

// What transformers' Qwen2Tokenizer saves: NFC, and added tokens that are made from text, within special ones too.
TEST(ids_of_qwen2_as_saved_are_those_of_tokenizers) {
    const CkptTensor *json = golden_tensor("tokenizer.", "qwen2_saved");
    char error[512];
    Bpe b, again;
    put(ROOT "/qwen2.json", json->data, json->shape[0]);
    if (bpe_load(&b, ROOT "/qwen2.json", error, sizeof error) != 0) fail("%s", error);
    CHECK(b.nfc && b.pattern == 2);
    CHECK(bpe_save(&b, ROOT "/again.json") == 0);
    if (bpe_load(&again, ROOT "/again.json", error, sizeof error) != 0) fail("%s", error);
    CHECK(same_bpe(&b, &again));
    BpeEncoder e = encoder_of(&again);
    check_list(&e, "marked", 1000);
    // Bytes that are not UTF-8 come back, and what is beside them is normalized.
    static const char text[] = "e\xcc\x81\xff\xcc\x81" "e\xcc\x81\xed\xa0\x80\0\xe1\x84\x80\xe1\x85\xa1";
    static const char normal[] = "\xc3\xa9\xff\xcc\x81\xc3\xa9\xed\xa0\x80\0\xea\xb0\x80";
    char back[sizeof text];
    size_t count;
    uint32_t *ids = encode(&e, text, sizeof text, &count);
    CHECK(bpe_decode(&again, ids, count, NULL) == sizeof normal);
    CHECK(bpe_decode(&again, ids, count, back) == sizeof normal && memcmp(back, normal, sizeof normal) == 0);
    free(ids);
    bpe_encoder_close(&e);
    bpe_free(&again);
    bpe_free(&b);
}

TEST(letters_newer_than_pcre2_make_one_piece) {
    const CkptTensor *json = golden_tensor("tokenizer.", "kawi"), *text = golden_tensor("text.", "kawi");
    const CkptTensor *ids = golden_tensor("ids.", "kawi");
    char error[512];
    Bpe b;
    put(ROOT "/kawi.json", json->data, json->shape[0]);
    if (bpe_load(&b, ROOT "/kawi.json", error, sizeof error) != 0) fail("%s", error);
    BpeEncoder e = encoder_of(&b);
    check_ids(&e, "kawi", text->data, text->shape[0], ids->data, ids->shape[0]);
    CHECK(ids->shape[0] == 1);
    bpe_encoder_close(&e);
    bpe_free(&b);
}

TEST(any_bytes_come_back) {
    BpeEncoder e = encoder_of(&golden);
    static char text[5000];
    CHECK(round_trip(&e, "", 0));
    for (int b = 0; b < 256; b++) CHECK_MSG(round_trip(&e, &(char){ (char)b }, 1), "byte %d", b);
    for (uint64_t i = 0; i < 2000; i++) {
        size_t n = i < 1900 ? i % 60 : sizeof text;
        e.splitter.jit = e.splitter.jit && i % 40 != 39;
        fill(text, n, (int)(i % 5), i);
        CHECK_MSG(round_trip(&e, text, n), "text %d of %zu bytes", (int)i, n);
    }
    CHECK(bpe_decode(&golden, &(uint32_t){ (uint32_t)golden.tokens.count }, 1, text) == -1);
    CHECK(bpe_decode(&golden, &(uint32_t){ BPE_NONE }, 1, text) == -1);
    bpe_encoder_close(&e);
}

TEST(pieces_are_those_of_gpt2) {
    static const struct { const char *text, *pieces; } cases[] = {      // pieces, with | between them
        { "Hello world's end", "Hello| world|'s| end" },
        { "I'LL we'll", "I|'|LL| we|'ll" },
        { "a  b\n\n c \n", "a| | b|\n\n| c| \n" },
        { "'s't'm'd'll've're'x", "'s|'t|'m|'d|'ll|'ve|'re|'|x" },
        { "x1 22,3", "x|1| 22|,|3" },
        { "a \xff b\xc3", "a| |\xff| b|\xc3" },
        { "\xc3\xa9t\xc3\xa9\xe2\x80\xa8!", "\xc3\xa9t\xc3\xa9|\xe2\x80\xa8|!" },
        { "a \xc2\xa0 b", "a| \xc2\xa0| b" },
        { "a\xe1\xa0\x8e" "b", "a|\xe1\xa0\x8e|b" },
        { "  \xe1\xa0\x8e" "b", " | \xe1\xa0\x8e|b" },      // U+180E is no space
    };
    BpeSplitter s;
    char error[256];
    CHECK(bpe_splitter_open(&s, 0, error, sizeof error) == 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char joined[64];
        size_t at = 0;
        const char *piece;
        bpe_splitter_start(&s, cases[i].text, strlen(cases[i].text));
        for (long n; (n = bpe_split(&s, &piece, error, sizeof error)) > 0; at += (size_t)n) {
            if (at > 0) joined[at++] = '|';
            memcpy(joined + at, piece, (size_t)n);
        }
        joined[at] = '\0';
        CHECK_MSG(strcmp(joined, cases[i].pieces) == 0, "case %zu: %s instead of %s", i, joined, cases[i].pieces);
    }
    bpe_splitter_close(&s);
}

static const void *values(const Checkpoint *file, const char *kind, const char *name, size_t *n) {
    char *full = format("%s.%s", kind, name);
    const CkptTensor *t = checkpoint_find(file, full);
    if (!t) fail("%s: no %s", file->path, full);
    free(full);
    *n = t->shape[0];
    return t->data;
}

static const char probe[] = "aC1C!!CACAa";          // of dev/golden/make_unicode.py, which says what it tells
enum { PROBE = sizeof probe - 1 };

// Whether the pieces of the probe with code point c for C end where `ends` says, in characters.
static bool probe_ends(BpeSplitter *s, uint32_t c, const uint8_t *ends) {
    char text[4 * PROBE], error[256];
    const char *piece;
    size_t byte_of[PROBE + 1], n = 0, at = 0;
    for (size_t k = 0; k <= PROBE; k++) {
        byte_of[k] = n;
        if (probe[k] == 'C') n += (size_t)utf8_encode(c, (uint8_t *)text + n);
        else if (k < PROBE) text[n++] = probe[k];
    }
    bpe_splitter_start(s, text, n);
    for (long length; (length = bpe_split(s, &piece, error, sizeof error)) > 0; at++)
        if ((size_t)(piece - text) + (size_t)length != byte_of[ends[at]]) return false;
    return at > 0 && ends[at - 1] == PROBE;
}

TEST(every_code_point_splits_as_in_tokenizers_and_tiktoken) {
    static const char *const names[] = { "gpt2", "llama3", "qwen2", "gpt4o" };
    Checkpoint file;
    char error[256];
    if (checkpoint_open(&file, "dev/golden/unicode.golden", error, sizeof error) != 0) fail("%s", error);
    for (int pattern = 0; pattern < (int)COUNT_OF(names); pattern++) {
        size_t classes, runs, wrong = 0;
        uint32_t first_wrong = 0;
        const uint8_t *ends = values(&file, "ends", names[pattern], &classes);
        const int32_t *counts = values(&file, "count", names[pattern], &classes);
        const int32_t *first = values(&file, "first", names[pattern], &runs);
        const uint8_t *kind = values(&file, "kind", names[pattern], &runs);
        size_t *found = xcalloc(classes, sizeof *found);
        #pragma omp parallel for schedule(dynamic)
        for (size_t i = 0; i < runs; i++) {
            BpeSplitter s;
            char reason[256];
            uint32_t end = i + 1 < runs ? (uint32_t)first[i + 1] : 0x110000, count = 0;
            if (bpe_splitter_open(&s, pattern, reason, sizeof reason) != 0) fail("%s", reason);
            for (uint32_t c = (uint32_t)first[i]; c < end; c++) {
                if (c >= 0xd800 && c < 0xe000) continue;
                s.jit = s.jit && c != end - 1;      // of each run the last one without it
                count++;
                if (probe_ends(&s, c, ends + PROBE * kind[i])) continue;
                #pragma omp critical
                {
                    first_wrong = wrong++ && first_wrong < c ? first_wrong : c;
                }
            }
            #pragma omp atomic
            found[kind[i]] += count;
            bpe_splitter_close(&s);
        }
        CHECK_MSG(wrong == 0, "%s: %zu code points, the first U+%04X", names[pattern], wrong, first_wrong);
        for (size_t k = 0; k < classes; k++)
            CHECK_MSG(found[k] == (size_t)counts[k], "%s: class %zu: %zu of %d", names[pattern], k, found[k], counts[k]);
        free(found);
    }
    checkpoint_close(&file);
}

// The golden vocabulary with runs of up to eight a, made of any two shorter ones, and its merges in another order: a
// merge can make a pair of a lower rank, and a token in several ways.
static Bpe shuffled_merges(uint64_t seed) {
    Bpe b;
    char error[512];
    if (bpe_load(&b, ROOT "/golden.json", error, sizeof error) != 0) fail("%s", error);
    uint32_t runs[9] = { 0 };
    for (size_t n = 1; n <= 8; n++) {
        runs[n] = bpe_strings_add(&b.tokens, "aaaaaaaa", n);
        for (size_t left = 1; left < n; left++) bpe_add_merge(&b, runs[left], runs[n - left], runs[n]);
    }
    BpeMerge *merges = b.merges;
    uint32_t count = b.merge_count;
    free(b.ranks.slots);
    b.ranks.count = 0;
    bpe_pairs_make(&b.ranks, 1024);
    b.merges = NULL;
    b.merge_count = 0;
    for (uint32_t left = count; left > 0; left--) {
        uint32_t i = (uint32_t)(hash64(seed, left) % left);
        bpe_add_merge(&b, merges[i].left, merges[i].right, merges[i].token);
        merges[i] = merges[left - 1];
    }
    free(merges);
    return b;
}

TEST(long_pieces_merge_as_short_ones) {
    static const char runs[] = "aaaaaaaaaa-= ", english[] = "etaoinshr dlu";    // pairs that overlap; all kinds
    for (uint64_t seed = 0; seed < 10; seed++) {
        Bpe b = shuffled_merges(seed);
        BpeEncoder e = encoder_of(seed ? &b : &golden);
        for (uint64_t i = 0; i < 3000; i++) {
            uint32_t one[BPE_SHORT], other[BPE_SHORT];
            size_t n = 1 + i % BPE_SHORT;
            for (size_t k = 0; k < n; k++) {
                uint64_t h = hash64(hash64(seed, i), k);
                one[k] = other[k] = b.byte_id[(uint8_t)(i / 64 % 2 ? runs : english)[h % 13]];
            }
            size_t count = bpe_merge_short(e.bpe, one, n);
            CHECK_MSG(bpe_merge_long(&e, other, n) == count && memcmp(one, other, count * sizeof *one) == 0,
                      "order %d, case %d", (int)seed, (int)i);
        }
        bpe_encoder_close(&e);
        bpe_free(&b);
    }
}

TEST(a_line_of_20_megabytes_is_one_piece) {
    static const char *const of[] = { "a", " ", "-=", "\xc3\xa9", "\x80\xff" };
    enum { N = 20 << 20 };
    BpeEncoder e = encoder_of(&golden);
    char *text = (char *)xmalloc(N), error[256];
    for (size_t i = 0; i < COUNT_OF(of); i++) {
        const char *piece;
        for (size_t k = 0, n = strlen(of[i]); k < N; k++) text[k] = of[i][k % n];
        bpe_splitter_start(&e.splitter, text, N);
        CHECK_MSG(bpe_split(&e.splitter, &piece, error, sizeof error) == N, "piece %zu", i);
        CHECK_MSG(i > 2 || round_trip(&e, text, N), "piece %zu", i);
    }
    free(text);
    bpe_encoder_close(&e);
}

// Writes where the pieces of a text end, counted from `base`. Returns how many there are.
static size_t piece_ends(BpeSplitter *s, const char *text, size_t n, size_t base, size_t *ends) {
    char error[256];
    size_t count = 0;
    const char *piece;
    bpe_splitter_start(s, text, n);
    for (long length; (length = bpe_split(s, &piece, error, sizeof error)) > 0; )
        ends[count++] = base + (size_t)(piece - text) + (size_t)length;
    return count;
}

TEST(a_text_may_be_cut_at_bpe_cut) {
    static char text[20000];
    static size_t whole[20000], parts[20000];
    char error[256];
    for (int pattern = 0; pattern < (int)COUNT_OF(bpe_patterns); pattern++) {
        BpeSplitter s;
        CHECK(bpe_splitter_open(&s, pattern, error, sizeof error) == 0);
        int cuts = 0;
        for (uint64_t i = 0; i < 500; i++) {
            size_t n = i < 475 ? 100 : sizeof text, count = 0;
            fill(text, n, (int)(i % 5), i);
            for (size_t from = 0, to; from < n; from = to) {
                to = bpe_cut(text, from + 1, n);
                cuts += to < n;
                count += piece_ends(&s, text + from, to - from, from, parts + count);
            }
            bool same = piece_ends(&s, text, n, 0, whole) == count && memcmp(whole, parts, count * sizeof *whole) == 0;
            CHECK_MSG(same, "pattern %d, text %d", pattern, (int)i);
        }
        CHECK_MSG(cuts > 1000, "%d cuts", cuts);
        bpe_splitter_close(&s);
    }
}

TEST(special_tokens_are_never_made_from_text) {
    uint32_t eot = bpe_special(&golden, EOT);
    CHECK(eot == 0 && bpe_special(&golden, "<|other|>") == BPE_NONE);
    BpeEncoder e = encoder_of(&golden);
    size_t count;
    uint32_t *ids = encode(&e, EOT, strlen(EOT), &count);
    for (size_t i = 0; i < count; i++) CHECK(ids[i] != eot);
    free(ids);
    bpe_encoder_close(&e);
    char text[32];
    CHECK(bpe_decode(&golden, &eot, 1, text) == (long)strlen(EOT) && memcmp(text, EOT, strlen(EOT)) == 0);

    // Nor by training, where its text is a word: HF's trainer would give the merge the special token's id.
    BpeWords words = { 0 };
    static const char *const special[] = { "the" };
    char error[256];
    Bpe b;
    count_words(&words, "the the the these", 17);
    CHECK(bpe_train(&b, &words, 300, special, 1, error, sizeof error) == 0);
    for (uint32_t id = 0; id < b.tokens.count; id++) {
        size_t n;
        const char *token = bpe_token(&b, id, &n);
        CHECK(id == bpe_special(&b, "the") || n != 3 || memcmp(token, "the", 3) != 0);
    }
    bpe_words_free(&words);
    bpe_free(&b);
}

// ---------------------------------------------------------------------------------------------------------------------
// Training

TEST(training_gives_the_merges_of_tokenizers) {
    static const char *const texts[] = { "torture", "code", "kjv" };    // in whatever order
    BpeWords words = { 0 };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const CkptTensor *text = golden_tensor("text.", texts[i]);
        count_words(&words, text->data, text->shape[0]);
    }
    Bpe b = train(&words, golden.tokens.count);
    uint32_t same = 0;
    while (same < b.merge_count && same < golden.merge_count &&
           memcmp(&b.merges[same], &golden.merges[same], sizeof *b.merges) == 0) same++;
    CHECK_MSG(same_bpe(&b, &golden), "the same up to merge %u of %u", same, golden.merge_count);
    bpe_free(&b);

    // Every part of a text counts: twice the text is twice the counts, and the same vocabulary.
    uint64_t total = 0, again = 0;
    for (size_t i = 0; i < words.strings.count; i++) total += words.counts[i] * bpe_string_length(&words.strings, i);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const CkptTensor *text = golden_tensor("text.", texts[i]);
        again += text->shape[0];
        count_words(&words, text->data, text->shape[0]);
    }
    CHECK(total == again);
    b = train(&words, golden.tokens.count);
    CHECK(same_bpe(&b, &golden));
    bpe_free(&b);
    bpe_words_free(&words);
}

TEST(small_and_impossible_vocabularies) {
    BpeWords words = { 0 };
    char error[256];
    Bpe b = train(&words, 1000);                // of no text
    CHECK(b.tokens.count == 257 && b.merge_count == 0 && bpe_special(&b, EOT) == 0);
    CHECK(b.byte_id['!'] == 1 && b.byte_id[0] == 189 && b.byte_id[' '] == 221 && b.byte_id[0xad] == 256);
    bpe_free(&b);
    count_words(&words, "aaaa", 4);
    b = train(&words, 1000);                    // aa, then aaaa, then nothing is left to merge
    CHECK(b.tokens.count == 259 && b.merge_count == 2);
    bpe_free(&b);
    static const char *const twice[] = { EOT, EOT }, *const byte[] = { "a" };
    CHECK(bpe_train(&b, &words, 256, twice, 1, error, sizeof error) == -1 && strstr(error, "at least 257 expected"));
    CHECK(bpe_train(&b, &words, 300, twice, 2, error, sizeof error) == -1 && strstr(error, "given twice"));
    CHECK(bpe_train(&b, &words, 300, byte, 1, error, sizeof error) == -1 && strstr(error, "two characters or more"));
    bpe_words_free(&words);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

TEST(saved_and_loaded_again_the_same) {
    char error[512];
    Bpe b;
    CHECK(bpe_save(&golden, ROOT "/saved.json") == 0);
    CHECK_MSG(bpe_load(&b, ROOT "/saved.json", error, sizeof error) == 0, "%s", error);
    CHECK(same_bpe(&b, &golden) && memcmp(b.byte_id, golden.byte_id, sizeof b.byte_id) == 0);
    char *saved = read_file(ROOT "/saved.json", NULL);      // merges "a b"; `tokenizers` writes ["a","b"]
    CHECK(strstr(golden_json, "[\"t\",\"h\"]") && strstr(saved, "\"t h\""));
    free(saved);
    bpe_free(&b);
    CHECK(bpe_save(&golden, ROOT "/none/saved.json") == -1 && errno == ENOENT);
}

// GPT-2's two files of a vocabulary; of the merges the first `merges`, then these lines.
static void write_gpt2(const Bpe *v, const char *version, uint32_t merges, const char *more) {
    FILE *encoder = fopen(ROOT "/encoder.json", "w"), *bpe = fopen(ROOT "/vocab.bpe", "w");
    if (!encoder || !bpe) fail(ROOT ": %s", strerror(errno));
    char **names = (char **)xcalloc(v->tokens.count, sizeof *names);
    for (uint32_t id = 0; id < v->tokens.count; id++) {
        size_t n;
        const char *bytes = bpe_token(v, id, &n);
        names[id] = bpe_make_name((const uint8_t *)bytes, n);
        cJSON *name = cJSON_CreateString(names[id]);
        char *quoted = cJSON_PrintUnformatted(name);
        fprintf(encoder, "%s%s: %u", id ? ", " : "{", quoted, id);
        cJSON_Delete(name);
        free(quoted);
    }
    fputs("}\n", encoder);
    fputs(version, bpe);
    for (uint32_t i = 0; i < merges; i++) fprintf(bpe, "%s %s\n", names[v->merges[i].left], names[v->merges[i].right]);
    fputs(more, bpe);
    for (uint32_t id = 0; id < v->tokens.count; id++) free(names[id]);
    free(names);
    fclose(encoder);
    fclose(bpe);
}

// The golden vocabulary with one more token, of two others.
static Bpe golden_and(const char *left, const char *right) {
    Bpe b;
    char error[512], *both = format("%s%s", left, right);
    if (bpe_load(&b, ROOT "/golden.json", error, sizeof error) != 0) fail("%s", error);
    uint32_t ids[2] = { bpe_strings_find(&b.tokens, left, strlen(left)),
                        bpe_strings_find(&b.tokens, right, strlen(right)) };
    if (ids[0] == BPE_NONE || ids[1] == BPE_NONE) fail("%s, %s: not in the golden vocabulary", left, right);
    bpe_add_merge(&b, ids[0], ids[1], bpe_strings_add(&b.tokens, both, strlen(both)));
    free(both);
    return b;
}

TEST(gpt2_files) {
    char error[512];
    Bpe b;
    uint32_t all = golden.merge_count;
    write_gpt2(&golden, "#version: 0.2\n", all, "");
    CHECK_MSG(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == 0, "%s", error);
    CHECK(same_bpe(&b, &golden));
    bpe_free(&b);
    write_gpt2(&golden, "#version: 0.2\n", all, "th\n");
    CHECK(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "vocab.bpe: line 945: two tokens expected"), "%s", error);
    CHECK(bpe_load_gpt2(&b, ROOT "/vocab.bpe", ROOT "/vocab.bpe", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "vocab.bpe:1: expected a value, found '#': JSON has no comments"), "%s", error);
    CHECK(bpe_load_gpt2(&b, ROOT "/golden.json", ROOT "/vocab.bpe", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "golden.json: model.vocab: "), "%s", error);
    CHECK(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/none", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "none: cannot be read: No such file"), "%s", error);
}

TEST(gpt2_files_of_other_vocabularies_are_refused) {
    static const struct { const char *left, *right; } other[] = {       // of Llama 3's kind
        { ".", "\n" }, { "(", "s" }, { "\t", "a" }, { "1", "a" }, { "!", " " },
    };
    char error[512];
    Bpe b;
    for (size_t i = 0; i < COUNT_OF(other); i++) {
        Bpe more = golden_and(other[i].left, other[i].right);
        write_gpt2(&more, "", more.merge_count, "");
        CHECK(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == -1);
        CHECK_MSG(strstr(error, "vocab.bpe: token 1200, \"") && strstr(error, "more than a piece"), "%s", error);
        bpe_free(&more);
    }
    Bpe more = golden_and(" ", "'");            // of GPT-2's kind, but half of its merges are missing
    write_gpt2(&more, "", more.merge_count, "");
    CHECK_MSG(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == 0, "%s", error);
    bpe_free(&b);
    write_gpt2(&more, "", more.merge_count / 2, "");
    CHECK(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "vocab.bpe: token 729, \"") && strstr(error, "made by no merge"), "%s", error);
    bpe_free(&more);
    more = golden_and("<", "/");                // as CLIP's: nothing makes h</w>
    bpe_strings_add(&more.tokens, "h</w>", 5);
    bpe_strings_add(&more.tokens, "th</w>", 6);
    write_gpt2(&more, "", more.merge_count, "t h</w>\n");
    CHECK(bpe_load_gpt2(&b, ROOT "/encoder.json", ROOT "/vocab.bpe", error, sizeof error) == -1);
    CHECK_MSG(strstr(error, "token 1201, \"h</w>\", is made by no merge"), "%s", error);
    bpe_free(&more);
}

// Whether bpe_of_tokens takes a vocabulary, and makes the merges it has.
static int of_tokens(const Bpe *b, bool *same) {
    uint32_t *start = (uint32_t *)xmalloc((b->tokens.count + 1) * sizeof *start);
    for (size_t i = 0; i <= b->tokens.count; i++) start[i] = (uint32_t)b->tokens.start[i];
    Bpe derived;
    int result = bpe_of_tokens(&derived, b->tokens.bytes, start, b->tokens.count);
    *same = result == 0 && same_bpe(&derived, b) && memcmp(derived.byte_id, b->byte_id, sizeof b->byte_id) == 0;
    if (result == 0) bpe_free(&derived);
    free(start);
    return result;
}

TEST(merges_follow_from_the_tokens_in_their_order) {
    bool same;
    CHECK(of_tokens(&golden, &same) == 0 && same);
    // Runs of every length up to 200, made of an odd number of parts, and what repeats: tokens over BPE_SHORT.
    char *text = (char *)xcalloc(1 << 20, 1);
    size_t n = 0;
    for (int length = 1; length < 200; length++)
        for (int kind = 0; kind < 4; kind++) {
            for (int i = 0; i < length; i++) text[n++] = kind == 1 ? "ab"[i % 2] : "a = "[kind];
            text[n++] = '\n';
        }
    BpeWords words = { 0 };
    count_words(&words, text, n);
    Bpe b = train(&words, 600);
    size_t longest = 0, length;
    for (uint32_t id = 0; id < b.tokens.count; id++) {
        bpe_token(&b, id, &length);
        longest = length > longest ? length : longest;
    }
    CHECK_MSG(longest > BPE_SHORT, "%zu", longest);
    CHECK(of_tokens(&b, &same) == 0 && same);
    bpe_words_free(&words);
    free(text);

    static const struct { const char *left, *right; } other[] = { { ".", "\n" }, { "(", "s" } };
    for (size_t i = 0; i < COUNT_OF(other); i++) {
        Bpe more = golden_and(other[i].left, other[i].right);
        CHECK(of_tokens(&more, &same) == -1);
        bpe_free(&more);
    }
    bpe_strings_add(&b.tokens, "xyz", 3);       // not two tokens
    CHECK(of_tokens(&b, &same) == -1);
    bpe_free(&b);
}

// A tokenizer.json with one place of it changed, as cases[i]: refused with these words, or (NULL) taken.
typedef struct { const char *find, *replace, *words; } Change;

static void check_changes(const char *json, const Change *cases, size_t count) {
    Bpe b;
    char error[512];
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(json, cases[i].find);
        CHECK_MSG(at, "case %zu: %s is not in the file", i, cases[i].find);
        if (!at) continue;
        char *changed = format("%.*s%s%s", (int)(at - json), json, cases[i].replace, at + strlen(cases[i].find));
        put_text(ROOT "/changed.json", changed);
        int result = bpe_load(&b, ROOT "/changed.json", error, sizeof error);
        if (result == 0) bpe_free(&b);
        CHECK_MSG(result == (cases[i].words ? -1 : 0), "case %zu: %s", i, cases[i].replace);
        if (result != 0 && cases[i].words)
            CHECK_MSG(strstr(error, ROOT "/changed.json:") && strstr(error, cases[i].words) && !strchr(error, '\n'),
                      "case %zu: no \"%s\" in: %s", i, cases[i].words, error);
        free(changed);
    }
}

TEST(other_splits_are_refused_in_one_line) {
#define BEHAVIOR "\"behavior\":\"Isolated\",\"invert\":false"
    static const Change cases[] = {
        { BEHAVIOR, "\"behavior\":\"Removed\",\"invert\":true", NULL },
        { BEHAVIOR, "\"behavior\":\"Removed\",\"invert\":false", "pretokenizers.0.invert: false: true expected" },
        { BEHAVIOR, "\"behavior\":\"Isolated\",\"invert\":true", "pretokenizers.0.invert: true: false expected" },
        { BEHAVIOR, "\"behavior\":\"MergedWithNext\",\"invert\":false", "0.behavior: \"MergedWithNext\": \"Isolated\"" },
        { "\"Split\"", "\"Digits\"", "pretokenizers.0.type: \"Digits\": \"Split\" expected" },
        { "\"Regex\":\"(?i:", "\"Regex\":\"(?i:'z|", "0.pattern.Regex: (?i:'z|'s" },
        { "\"Regex\":\"", "\"String\":\"", "0.pattern.Regex: missing: the pattern of GPT-2, Llama 3" },
        { "\"use_regex\":false", "\"use_regex\":true", "pretokenizers.1.use_regex: true: false expected" },
        { "\"add_prefix_space\":false", "\"add_prefix_space\":true", "1.add_prefix_space: true: false" },
        { "\"use_regex\":false}]", "\"use_regex\":false},{}]", "pretokenizers.2: {}: null expected" },
        { "\"pretokenizers\":", "\"other\":", "pretokenizers.0.type: missing" },
    };
    const CkptTensor *json = golden_tensor("tokenizer.", "llama3");
    char *text = format("%.*s", (int)json->shape[0], (const char *)json->data);
    check_changes(text, cases, COUNT_OF(cases));
    free(text);
}

#define ADDED(id, content, flag) "{\"id\":" id ",\"content\":\"" content "\",\"special\":false,\"" flag "\":true},"

TEST(other_tokenizer_files_are_refused_in_one_line) {
    static const Change cases[] = {
        { "\"truncation\":null", "\"truncation\":{\"max_length\":9}", "truncation: {\"max_length\":9}: null expected" },
        { "\"padding\":null", "\"padding\":1", "padding: 1: null expected" },
        { "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", NULL },
        { "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", "normalizer: {\"type\":\"NFKC\"}: null {" },
        { "\"normalizer\":null", "\"normalizer\":1", "normalizer: 1: null {" },
        { "\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"type\":\"Metaspace\"", "\"Metaspace\"" },
        { "\"pre_tokenizer\":", "\"pre\":", "pre_tokenizer.type: missing: \"ByteLevel\" \"Sequence\" expected" },
        { "\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space: true: false expected" },
        { "\"use_regex\":true", "\"use_regex\":false", "pre_tokenizer.use_regex: false: true expected" },
        { "\"post_processor\":{\"type\":\"ByteLevel", "\"post_processor\":{\"type\":\"X", "processor.type: \"X\"" },
        { "\"post_processor\":{\"type\":\"ByteLevel", "\"post_processor\":{\"type\":\" ", "processor.type: \" \"" },
        { "\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"X\"", "decoder.type: \"X\"" },
        { "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type: \"Unigram\": \"BPE\" expected" },
        { "\"dropout\":null", "\"dropout\":0.1", "model.dropout: 0.1: null expected" },
        { "\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "model.end_of_word_suffix: \"</w>\"" },
        { "\"byte_fallback\":false", "\"byte_fallback\":true", "model.byte_fallback: true" },
        { "\"ignore_merges\":false", "\"ignore_merges\":0", "model.ignore_merges: 0: false true expected" },
        { "\"ignore_merges\":false", "\"ignore_merges\":true", NULL },
        { "\"post_processor\":{\"type\":\"ByteLevel", "\"post_processor\":{\"type\":\"TemplateProcessing", NULL },
        { "\"special\":true", "\"special\":false", NULL },
        { "\"lstrip\":false", "\"lstrip\":true", NULL },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("1200", "a b", "lstrip"), "added_tokens[0].lstrip: true: false" },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("1200", "a b", "single_word"), "added_tokens[0].single_word: true" },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("1200", "a b", "other"), "\"a b\": has a space or a line end" },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("1200", " a", "other"), NULL },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("1", "zz", "other"), "model.vocab: \"!\": an id of its own" },
        { "\"added_tokens\":[", "\"added_tokens\":[" ADDED("287", "\xc4\xa0t", "other"), "an added token, and other bytes" },
        { "\"added_tokens\":[{\"id\":0", "\"added_tokens\":[{\"id\":-1", "added_tokens[0]: content" },
        { "\"added_tokens\":[{\"id\":0", "\"added_tokens\":[{\"id\":7", "model.vocab: \"'\": an id of its own" },
        { "\"added_tokens\":[", "\"added_tokens\":{\"a\":1},\"other\":[", "added_tokens: a list expected" },
        { "\"<|endoftext|>\":0,\"!\":1,", "\"!\":1,\"<|endoftext|>\":1200,", "\"<|endoftext|>\": one id expected" },
        { "\"added_tokens\":[", "\"added_tokens\":[{\"id\":1200,\"content\":\"<|endoftext|>\",\"special\":true},", "one id" },
        { "\"vocab\":{", "\"vocab\":3,\"other\":{", "model.vocab: an object" },
        { "\"!\":1,", "\"!\":1.5,", "model.vocab: \"!\": an id of its own" },
        { "\"!\":1,", "\"!\":\"1\",", "model.vocab: \"!\": an id of its own" },
        { "\"!\":1,", "\"!\":2,", "an id of its own of 0, 1, 2, ... expected" },
        { "\"!\":1,", "", "model.vocab: no token has id 1, of 1199 tokens" },
        { "\"!\":1,", "\"th!\":1,", "model.vocab: no token is byte 0x21 alone" },
        { "\"!\":1,", "\"\":1,", "model.vocab: \"\": not a token of bytes" },
        { "\"!\":1,", "\"\\n!\":1,", "model.vocab: \"?!\": not a token of bytes" },
        { "\"!\":1,", "\" !\":1,", "model.vocab: \" !\": not a token of bytes" },
        { "\"!\":1,", "\"\xe2\x96\x81\":1,", "not a token of bytes (byte-level BPE)" },
        { "\"!\":1,", "\"\xc1\xa1\":1,", "changed.json:1: a string is not UTF-8: byte 0xc1" },
        { "\"!\":1,\"\\\"\":2,", "\"!\":1,\"!\":2,", "model.vocab: \"!\": a second token of these bytes" },
        { "\"merges\":[", "\"merges\":[\"t\",", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":[\"t h e\",", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":[[\"t\",\"h\",\"e\"],", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":[[\"t\"],", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":[3,", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":[\"z q\",", "model.merges[0]: two tokens expected" },
        { "\"merges\":[", "\"merges\":1,\"other\":[", "model.merges: a list expected" },
        { "{\"version\"", "[{\"version\"", "expected ',' or ']', found the end of the text" },
        { "{\"version\"", "{\"version\"\n", NULL },         // still a tokenizer.json
    };
    Bpe b;
    char error[512];
    check_changes(golden_json, cases, COUNT_OF(cases));
    size_t n = strlen(golden_json);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 16) {
        CHECK(write_file(ROOT "/cut.json", golden_json, cut) == 0);
        bool refused = bpe_load(&b, ROOT "/cut.json", error, sizeof error) == -1 && strstr(error, ROOT "/cut.json:") == error;
        CHECK_MSG(refused, "cut at %zu", cut);
    }
    CHECK(write_file(ROOT "/nul.json", golden_json, n + 1) == 0);
    CHECK(bpe_load(&b, ROOT "/nul.json", error, sizeof error) == -1 && strstr(error, "expected nothing behind the end of the JSON text, found the byte 0x00"));
    CHECK(bpe_load(&b, ROOT "/none.json", error, sizeof error) == -1 && strstr(error, "No such file"));
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    open_golden();
    RUN(ids_are_those_of_tokenizers_and_tiktoken);
    RUN(ids_with_other_patterns_are_those_of_both);
    RUN(ids_of_qwen2_as_saved_are_those_of_tokenizers);
    RUN(letters_newer_than_pcre2_make_one_piece);
    RUN(any_bytes_come_back);
    RUN(pieces_are_those_of_gpt2);
    RUN(every_code_point_splits_as_in_tokenizers_and_tiktoken);
    RUN(long_pieces_merge_as_short_ones);
    RUN(a_line_of_20_megabytes_is_one_piece);
    RUN(a_text_may_be_cut_at_bpe_cut);
    RUN(special_tokens_are_never_made_from_text);
    RUN(training_gives_the_merges_of_tokenizers);
    RUN(small_and_impossible_vocabularies);
    RUN(saved_and_loaded_again_the_same);
    RUN(gpt2_files);
    RUN(gpt2_files_of_other_vocabularies_are_refused);
    RUN(merges_follow_from_the_tokens_in_their_order);
    RUN(other_splits_are_refused_in_one_line);
    RUN(other_tokenizer_files_are_refused_in_one_line);
    bpe_free(&golden);
    free(golden_json);
    checkpoint_close(&golden_file);
    return tests_end();
}

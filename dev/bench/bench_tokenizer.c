/* bench_tokenizer.c - our side of bench_tokenizer.py: how long training a byte-pair encoding and encoding take.
 *
 *     build/bench_tokenizer --train=VOCAB --out=FILE.json TEXT       a line of JSON; all threads count the words
 *     build/bench_tokenizer --encode=FILE.json --out=IDS TEXT        a line of JSON; one thread; uint32 ids, to compare
 *
 * Reading the text isn't counted. Encoding is measured after a warm-up over the whole text; `split` is the part of it
 * that finds where the pieces end, measured by itself.
 */
#define _GNU_SOURCE
#include "../../data/tokenizer.h"
#include "../../src/flags.h"
#include "../../src/machine.h"

static void time_training(const char *text, size_t n, size_t vocab, const char *out) {
    static const char *const special[] = { BPE_EOT };
    BpeWords words = { 0 };
    Bpe b;
    char error[ERROR_ROOM];
    double start = seconds_now();
    if (bpe_count(&words, text, n, error, sizeof error) != 0) fail("%s", error);
    double counted = seconds_now();
    if (bpe_train(&b, &words, vocab, special, COUNT_OF(special), error, sizeof error) != 0) fail("%s", error);
    double end = seconds_now();
    printf("{\"seconds\": %.4f, \"count\": %.4f, \"words\": %zu, \"tokens\": %zu, \"mb\": %.0f}\n", end - start,
           counted - start, words.strings.count, b.tokens.count, 1e-6 * machine_resident());
    if (bpe_save(&b, out) != 0) fail("%s: cannot be written: %s", out, strerror(errno));
    bpe_words_free(&words);
    bpe_free(&b);
}

static void time_encoding(const char *text, size_t n, const char *vocabulary, const char *out) {
    Tokenizer t;
    char error[ERROR_ROOM];
    if (tokenizer_load(&t, vocabulary, error, sizeof error) != 0) fail("%s", error);
    uint32_t *ids = (uint32_t *)xmalloc(tokenizer_room(&t, n) * sizeof *ids);
    double seconds[2], start;
    long count = 0;
    for (int i = 0; i < 2; i++) {
        start = seconds_now();
        count = tokenizer_encode(&t, text, n, ids, error, sizeof error);
        seconds[i] = seconds_now() - start;
        if (count < 0) fail("%s", error);
    }
    size_t pieces = 0;
    const char *piece;
    start = seconds_now();
    bpe_splitter_start(&t.encoder->splitter, text, n);
    while (bpe_split(&t.encoder->splitter, &piece, error, sizeof error) > 0) pieces++;
    printf("{\"seconds\": %.4f, \"split\": %.4f, \"ids\": %ld, \"pieces\": %zu}\n", seconds[1], seconds_now() - start,
           count, pieces);
    if (write_file(out, ids, (size_t)count * sizeof *ids) != 0) fail("%s: cannot be written: %s", out, strerror(errno));
    free(ids);
    tokenizer_free(&t);
}

int main(int argc, char **argv) {
    program_begin();
    const char *vocab = NULL, *vocabulary = NULL, *out = NULL, *path = NULL, *value;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--train"))) vocab = value;
        else if ((value = flag_value(argv[i], "--encode"))) vocabulary = value;
        else if ((value = flag_value(argv[i], "--out"))) out = value;
        else if (argv[i][0] != '-' && !path) path = argv[i];
        else fail_usage("%s: unknown; expected --train=VOCAB or --encode=FILE, --out=FILE, TEXT", argv[i]);
    }
    if (!path || !out || !vocab == !vocabulary)
        fail_usage("--train=VOCAB or --encode=FILE, --out=FILE and TEXT are expected");
    size_t n;
    char *text = read_file(path, &n);
    if (!text) fail("%s: cannot be read: %s", path, strerror(errno));
    if (vocab) time_training(text, n, (size_t)integer_of("--train", vocab, 257, TOKENIZER_MAX_TOKENS), out);
    else time_encoding(text, n, vocabulary, out);
    free(text);
    return 0;
}

/* tokenize.c - the program build/tokenize: text to a tokenizer and token shards, text to ids and back.
 *
 * Formats and splits are described in data/README.md; reading shards in dataloader.h, vocabularies in tokenizer.h.
 */
#define _GNU_SOURCE
#include "dataloader.h"
#include "tokenizer.h"
#include <signal.h>

enum { CHUNK_BYTES = 16 << 20, UTF8_LONGEST = 4 };
enum { DEFAULT_SHARD_TOKENS = 100000000 };  // 200 MB a shard, as the FineWeb shards of llm.c and modded-nanogpt

static const char help[] =
    "Usage:\n"
    "  tokenize train --vocab=N --out=FILE.json TEXT ...\n"
    "      A byte-pair encoding of N tokens (<|endoftext|>, 256 bytes, merges), in Hugging Face's format.\n"
    "  tokenize shards --tokenizer=char|byte|FILE --out=DIR [--val=FILE] [--name=NAME] [--shard-tokens=N] TEXT\n"
    "      Writes DIR/train_000000.bin, ..., DIR/val_000000.bin, ... and the tokenizer; DIR must hold no shards.\n"
    "      The first 90 % of TEXT's characters are for training, the rest for validation (nanoGPT's split);\n"
    "      with --val=FILE all of TEXT is for training and FILE for validation. The vocabulary comes from both.\n"
    "      --tokenizer=char    a token is a UTF-8 character that occurs in the text (default)\n"
    "      --tokenizer=byte    a token is a byte: 256 tokens, takes any file\n"
    "      --tokenizer=FILE    a tokenizer.json of a byte-pair encoding, or a tokenizer.bin; takes any file\n"
    "      --name=NAME         files are called NAME_train_000000.bin and so on\n"
    "      --shard-tokens=N    at most N tokens a shard (100000000)\n"
    "  tokenize encode --tokenizer=FILE [--u16] < text > ids\n"
    "      One decimal id a line; --u16: raw little-endian uint16.\n"
    "  tokenize decode --tokenizer=FILE [--u16] < ids > text\n"
    "  tokenize info DIR\n"
    "      Shards, tokens, vocabulary and bytes per token of a data folder.\n";

// ---------------------------------------------------------------------------------------------------------------------
// Arguments

typedef struct {
    const char *tokenizer, *out, *val, *name, *shard_tokens, *vocab, *argument;
    char **texts;                               // of train: the last `text_count` words
    int text_count;
    bool u16;
} Arguments;

// The value of --name=value where `word` is that flag, else NULL.
static const char *flag_value(const char *word, const char *name) {
    size_t n = strlen(name);
    return strncmp(word, name, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static Arguments parse_arguments(const char *command, int argc, char **argv) {
    bool shards = strcmp(command, "shards") == 0, info = strcmp(command, "info") == 0;
    bool train = strcmp(command, "train") == 0;
    Arguments a = { 0 };
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *value;
        if (train && a.text_count > 0 && word[0] != '-') a.text_count++;
        else if (train && word[0] != '-') a.texts = argv + i, a.text_count = 1;
        else if (train && !a.texts && (value = flag_value(word, "--vocab"))) a.vocab = value;
        else if (train && !a.texts && (value = flag_value(word, "--out"))) a.out = value;
        else if (!train && !info && (value = flag_value(word, "--tokenizer"))) a.tokenizer = value;
        else if (shards && (value = flag_value(word, "--out"))) a.out = value;
        else if (shards && (value = flag_value(word, "--val"))) a.val = value;
        else if (shards && (value = flag_value(word, "--name"))) a.name = value;
        else if (shards && (value = flag_value(word, "--shard-tokens"))) a.shard_tokens = value;
        else if (!train && !shards && !info && strcmp(word, "--u16") == 0) a.u16 = true;
        else if (word[0] != '-' && (shards || info) && !a.argument) a.argument = word;
        else fail_usage("tokenize %s: %s: not expected here (see tokenize --help)", command, word);
    }
    if ((shards || info) && !a.argument)
        fail_usage("tokenize %s: %s is missing (see tokenize --help)", command, info ? "the folder" : "the text file");
    if (train && (!a.vocab || !a.out || !*a.out || !a.texts))
        fail_usage("tokenize train: %s is missing",
                   !a.vocab ? "--vocab=N" : !a.texts ? "the text file" : "--out=FILE.json");
    if (!train && !shards && !info && !a.tokenizer) fail_usage("tokenize %s: --tokenizer=FILE is missing", command);
    if (shards && (!a.out || !*a.out)) fail_usage("tokenize shards: --out=DIR is missing");
    return a;
}

// ---------------------------------------------------------------------------------------------------------------------
// shards

typedef struct {
    const char *path;
    char *bytes;
    size_t size;
} Text;

typedef struct {
    size_t tokens;
    int shards;
} Written;

static Tokenizer load_tokenizer(const char *path) {
    Tokenizer t;
    char error[4400];
    if (tokenizer_load(&t, path, error, sizeof error) != 0) fail("%s", error);
    return t;
}

static Text read_text(const char *path) {
    Text t = { path, NULL, 0 };
    t.bytes = read_file(path, &t.size);
    if (!t.bytes) fail("%s: cannot be read: %s (a text file expected)", path, strerror(errno));
    if (t.size == 0) fail("%s: the text is empty", path);
    return t;
}

// The position behind the first `count` characters; a byte that is not UTF-8 counts as one.
static size_t skip_chars(const Text *t, size_t count) {
    size_t at = 0;
    for (uint32_t c; count > 0 && at < t->size; count--) {
        int length = utf8_decode(t->bytes + at, t->size - at, &c);
        at += (size_t)(length ? length : 1);
    }
    return at;
}

static size_t count_chars(const Text *t) {
    size_t count = 0;
    uint32_t c;
    for (size_t at = 0; at < t->size; count++) {
        int length = utf8_decode(t->bytes + at, t->size - at, &c);
        at += (size_t)(length ? length : 1);
    }
    return count;
}

static int count_shards(const char *dir, char split) {
    int count;
    char **names = dataloader_names(dir, split, &count);
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
    return count;
}

// What has been written so far, removed again where something later fails: a folder holds a whole corpus or none.
static char **written;
static int written_count;

static void keep_or_undo(int result, char *path) {
    if (result == 0) {
        written = (char **)xrealloc(written, ((size_t)written_count + 1) * sizeof *written);
        written[written_count++] = path;
        return;
    }
    int error = errno;
    for (int i = 0; i < written_count; i++) unlink(written[i]);
    fail("%s: cannot be written: %s", path, strerror(error));
}

// Writes what a shard holds as the next one of its split, and empties it.
static void write_shard(Written *w, const char *prefix, const char *split, const uint32_t *shard, size_t *held,
                        int V) {
    char *path = format("%s%s_%06d.bin", prefix, split, w->shards++);
    keep_or_undo(shard_write(path, shard, *held, V), path);
    *held = 0;
}

// Encodes n bytes of text, which the vocabulary is known to cover, into shards prefix_SPLIT_000000.bin, ... of
// shard_tokens tokens each but for the last.
static Written write_split(const Tokenizer *t, const char *text, size_t n, const char *prefix, const char *split,
                           size_t shard_tokens) {
    uint32_t *shard = (uint32_t *)xmalloc((n < shard_tokens ? n : shard_tokens) * sizeof *shard), *ids = NULL;
    size_t held = 0, done = 0, room = 0;
    Written w = { 0, 0 };
    Progress progress = progress_start();
    while (done < n) {
        size_t take = n - done < CHUNK_BYTES ? n - done : CHUNK_BYTES;
        if (t->bpe) take = take == n - done ? take : bpe_cut(text + done, take, n - done);
        for (int i = 1; !t->bpe && i < UTF8_LONGEST && done + take < n && (text[done + take] & 0xc0) == 0x80; i++)
            take--;                                                     // don't cut through a character
        if (take > room) ids = (uint32_t *)xrealloc(ids, (room = take) * sizeof *ids);
        char error[128];
        long got = tokenizer_encode(t, text + done, take, ids, error, sizeof error);
        if (got < 0) fail("%s", error);
        done += take;
        w.tokens += (size_t)got;
        for (size_t from = 0, part; from < (size_t)got; from += part) {
            part = (size_t)got - from < shard_tokens - held ? (size_t)got - from : shard_tokens - held;
            memcpy(shard + held, ids + from, part * sizeof *shard);
            held += part;
            if (held == shard_tokens) write_shard(&w, prefix, split, shard, &held, t->size);
        }
        if (done < n && progress_due(&progress, false))
            progress_line(&progress, "%s: %.0f of %.0f MB", split, 1e-6 * (double)done, 1e-6 * (double)n);
    }
    if (held > 0) write_shard(&w, prefix, split, shard, &held, t->size);
    progress_end(&progress);
    free(shard);
    free(ids);
    return w;
}

static void print_split(const char *split, Written w, size_t bytes) {
    printf("  %-6s %12zu tokens of %zu bytes of text, %d shard%s\n", split, w.tokens, bytes, w.shards,
           w.shards == 1 ? "" : "s");
}

static void command_shards(const Arguments *a) {
    const char *kind = a->tokenizer ? a->tokenizer : "char";
    bool chars = strcmp(kind, "char") == 0, bytes = strcmp(kind, "byte") == 0;
    if (!chars && !bytes && !file_exists(kind))
        fail_usage("--tokenizer=%s: char, byte or a tokenizer's file expected", kind);
    if (a->name && strchr(a->name, '/')) fail_usage("--name=%s: a name without '/' expected", a->name);
    char *rest = NULL;
    long long shard_tokens = a->shard_tokens ? strtoll(a->shard_tokens, &rest, 10) : DEFAULT_SHARD_TOKENS;
    if ((rest && (*rest || rest == a->shard_tokens)) || shard_tokens < UTF8_LONGEST || shard_tokens > INT32_MAX)
        fail_usage("--shard-tokens=%s: a number of %d to %d expected", a->shard_tokens, UTF8_LONGEST, INT32_MAX);

    Text train = read_text(a->argument), val = { 0 };
    if (a->val) val = read_text(a->val);

    Tokenizer t;
    char error[160];
    if (bytes) {
        tokenizer_bytes(&t);
    } else if (!chars) {
        t = load_tokenizer(kind);
        if (t.kind == TOKENIZER_OTHER) fail("%s: a vocabulary that decodes only: a tokenizer.json expected", kind);
    } else {
        static uint8_t seen[UTF8_CODE_POINTS];
        const char *hint = "; --tokenizer=byte (make: TOKENIZER=byte) takes any file";
        if (tokenizer_scan_chars(seen, train.bytes, train.size, error, sizeof error) < 0)
            fail("%s: %s%s", train.path, error, hint);
        if (tokenizer_scan_chars(seen, val.bytes, val.size, error, sizeof error) < 0)
            fail("%s: %s%s", val.path, error, hint);
        if (tokenizer_train_chars(&t, seen, error, sizeof error) != 0) fail("%s: %s%s", train.path, error, hint);
    }

    const char *train_text = train.bytes, *val_text = val.bytes;
    size_t train_size = train.size, val_size = val.size;
    if (!a->val) {
        size_t all = count_chars(&train), train_chars = (size_t)((double)all * 0.9);
        if (train_chars < 2 || all - train_chars < 2)       // an input and its target
            fail("%s: %zu characters: too short to split 90 : 10 (at least 11 expected)", train.path, all);
        train_size = skip_chars(&train, train_chars);
        val_text = train_text + train_size;
        val_size = train.size - train_size;
    }

    if (make_dirs(a->out) != 0) fail("%s: cannot be made: %s", a->out, strerror(errno));
    if (count_shards(a->out, 't') + count_shards(a->out, 'v') > 0)
        fail("%s: holds shards already: remove them or choose another --out", a->out);

    char *prefix = a->name && *a->name ? format("%s/%s_", a->out, a->name) : format("%s/", a->out);
    Written w_train = write_split(&t, train_text, train_size, prefix, "train", (size_t)shard_tokens);
    Written w_val = write_split(&t, val_text, val_size, prefix, "val", (size_t)shard_tokens);
    char *vocabulary = format("%s/tokenizer.%s", a->out, t.bpe ? "json" : "bin");
    keep_or_undo(tokenizer_save(&t, vocabulary), vocabulary);
    keep_or_undo(tokenizer_sign(&t, a->out), format("%s/vocabulary", a->out));

    printf("  %-6s %12d tokens, kind %s\n", "vocab", t.size, tokenizer_kind_name(&t));
    print_split("train", w_train, train_size);
    print_split("val", w_val, val_size);

    for (int i = 0; i < written_count; i++) free(written[i]);
    free(written);
    free(prefix);
    free(train.bytes);
    free(val.bytes);
    tokenizer_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// train

static void command_train(const Arguments *a) {
    static const char *const special[] = { "<|endoftext|>" };
    char *rest;
    long vocab = strtol(a->vocab, &rest, 10);
    if (rest == a->vocab || *rest || vocab < 257 || vocab > TOKENIZER_MAX_TOKENS)
        fail_usage("--vocab=%s: a number of 257 to %d expected", a->vocab, TOKENIZER_MAX_TOKENS);
    BpeWords words = { 0 };
    Bpe bpe;
    char error[256];
    size_t size = 0;
    for (int i = 0; i < a->text_count; i++) {
        Text text = read_text(a->texts[i]);
        if (bpe_count(&words, text.bytes, text.size, error, sizeof error) != 0) fail("%s: %s", text.path, error);
        size += text.size;
        free(text.bytes);
    }
    if (bpe_train(&bpe, &words, (size_t)vocab, special, COUNT_OF(special), error, sizeof error) != 0) fail("%s", error);
    if (bpe_save(&bpe, a->out) != 0) fail("%s: cannot be written: %s", a->out, strerror(errno));
    printf("%s: %zu tokens from %zu bytes of text, %zu different words%s\n", a->out, bpe.tokens.count, size,
           words.strings.count, bpe.tokens.count < (size_t)vocab ? "; there is nothing left to merge" : "");
    bpe_words_free(&words);
    bpe_free(&bpe);
}

// ---------------------------------------------------------------------------------------------------------------------
// encode, decode: filters from stdin to stdout

static char *read_stdin(size_t *size) {
    size_t n = 0, room = 1 << 16;
    char *bytes = (char *)xmalloc(room);
    for (size_t got; (got = fread(bytes + n, 1, room - n - 1, stdin)) > 0; ) {
        n += got;
        if (n == room - 1) bytes = (char *)xrealloc(bytes, room *= 2);
    }
    if (ferror(stdin)) fail("stdin: cannot be read: %s", strerror(errno));
    bytes[n] = '\0';
    *size = n;
    return bytes;
}

static void command_encode(const Arguments *a) {
    Tokenizer t = load_tokenizer(a->tokenizer);
    size_t n;
    char *text = read_stdin(&n), error[160];
    if (a->u16 && t.size > UINT16_MAX + 1) fail_usage("--u16: %d tokens don't fit 16 bits", t.size);
    uint32_t *ids = (uint32_t *)xmalloc(n * sizeof *ids);
    long count = tokenizer_encode(&t, text, n, ids, error, sizeof error);
    if (count < 0) fail("stdin: %s", error);
    for (long i = 0; i < count; i++) {
        uint16_t narrow = (uint16_t)ids[i];
        if (a->u16) fwrite(&narrow, sizeof narrow, 1, stdout);
        else printf("%u\n", ids[i]);
    }
    free(ids);
    free(text);
    tokenizer_free(&t);
}

static void write_token(const Tokenizer *t, long id, size_t number) {
    int length;
    const char *bytes = id > INT32_MAX ? NULL : tokenizer_token(t, (int)id, &length);
    if (!bytes)
        fail("stdin: id number %zu is %ld: the vocabulary has %d tokens (0 to %d)", number, id, t->size, t->size - 1);
    fwrite(bytes, 1, (size_t)length, stdout);
}

static void command_decode(const Arguments *a) {
    Tokenizer t = load_tokenizer(a->tokenizer);
    size_t n, number = 0;
    char *input = read_stdin(&n);
    if (a->u16) {
        if (n % 2 != 0) fail("stdin: %zu bytes: an even number expected, two bytes an id", n);
        for (uint16_t id; number < n / 2; number++) {
            memcpy(&id, input + 2 * number, 2);
            write_token(&t, id, number + 1);
        }
    } else {
        static const char blank[] = " \t\r\n";
        for (char *p = input + strspn(input, blank); p < input + n; p += strspn(p, blank)) {
            char *end = p;
            long id = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : 0;
            if (end == p || (*end && !strchr(blank, *end)) || (!*end && end < input + n))
                fail("stdin: line %zu: \"%.*s\": a token id expected", tokenizer_line(input, (size_t)(p - input)),
                     (int)(strcspn(p, blank) < 40 ? strcspn(p, blank) : 40), p);
            write_token(&t, id, ++number);
            p = end;
        }
    }
    free(input);
    tokenizer_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// info

static void print_shards(const char *split, const Shard *shards, int count) {
    size_t tokens = 0, bytes = 0;
    for (int i = 0; i < count; i++) {
        tokens += shards[i].count;
        bytes += shards[i].bytes;
    }
    printf("  %-16s %zu tokens, %d shard%s, %.1f MB\n", split, tokens, count, count == 1 ? "" : "s",
           1e-6 * (double)bytes);
}

static void command_info(const Arguments *a) {
    const char *dir = a->argument;
    char *path = tokenizer_path(dir);
    Tokenizer t = { 0 };
    char error[512];
    if (file_exists(path)) {
        t = load_tokenizer(path);
        if (tokenizer_check(&t, path, dir, error, sizeof error) != 0) fail("%s", error);
    }
    DataLoader d;
    dataloader_open(&d, dir, 1, t.size ? t.size : INT32_MAX, 0);
    printf("%s\n", dir);
    print_shards("train", d.train, d.train_shards);
    print_shards("val", d.val, d.val_shards);
    if (t.size) {
        uint64_t tokens = 0, bytes = 0;
        for (int i = 0; i < d.val_shards; i++) {
            const Shard *s = &d.val[i];
            for (size_t k = 0; k < s->count; k++, tokens++) {
                int length;
                if (!tokenizer_token(&t, (int)shard_token(s, k), &length))
                    fail("%s: token %zu is %u: %s has %d tokens", s->path, k, shard_token(s, k), path, t.size);
                bytes += (uint64_t)length;
            }
        }
        printf("  %-16s %d tokens, kind %s\n", "vocabulary", t.size, tokenizer_kind_name(&t));
        printf("  %-16s %.4f (validation)\n", "bytes per token", (double)bytes / (double)tokens);
    } else {
        printf("  %-16s none beside the shards (tokenizer.bin)\n", "vocabulary");
    }
    printf("  %-16s %016llx\n", "fingerprint", (unsigned long long)dataloader_fingerprint(&d));
    dataloader_close(&d);
    tokenizer_free(&t);
    free(path);
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(const Arguments *); } commands[] = {
        { "train", command_train }, { "shards", command_shards }, { "encode", command_encode },
        { "decode", command_decode }, { "info", command_info },
    };
    signal(SIGXFSZ, SIG_IGN);   // a file-size limit is an error of write, to be reported as a full disk is
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { fputs(help, stdout); return 0; }
    if (argc < 2)
        fail_usage("tokenize: a command expected: train, shards, encode, decode or info (see tokenize --help)");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        Arguments a = parse_arguments(argv[1], argc - 2, argv + 2);
        commands[i].run(&a);
        if (fflush(stdout) != 0 || ferror(stdout)) fail("stdout: cannot be written: %s", strerror(errno));
        return 0;
    }
    fail_usage("tokenize: %s: unknown command: train, shards, encode, decode or info expected", argv[1]);
}

/* tokenize.c - the program build/tokenize: texts to a tokenizer and token shards, text to ids and back.
 *
 * Formats, documents and splits are described in data/README.md; reading shards in dataloader.h, vocabularies in
 * tokenizer.h. Texts are read in chunks, as often as needed, and shards are written as tokens come: memory does not
 * grow with the corpus.
 */
#define _GNU_SOURCE
#include "../src/flags.h"
#include "../src/gzip.h"
#include "../src/machine.h"
#include "dataloader.h"
#include "tokenizer.h"

enum { CHUNK_BYTES = 4 << 20, UTF8_LONGEST = 4 };
enum { DEFAULT_SHARD_TOKENS = 100000000 };  // 200 MB a shard, as the FineWeb shards of llm.c and modded-nanogpt
enum { DEFAULT_VAL_EVERY = 10 };

static const char help[] =
    "Usage:\n"
    "  tokenize train --vocab=N --out=FILE.json [--documents=HOW] [--ext=EXT,...] TEXT ...\n"
    "      A byte-pair encoding of N tokens (<|endoftext|>, 256 bytes, merges), in Hugging Face's format.\n"
    "  tokenize shards --out=DIR [--tokenizer=char|byte|FILE] [--documents=HOW] [--val=TEXT | --val-every=N]\n"
    "                  [--format=llmc|nanogpt] [--name=NAME] [--shard-tokens=N] [--ext=EXT,...] TEXT ...\n"
    "      Writes DIR/train_000000.bin, ..., DIR/val_000000.bin, ... and the tokenizer; DIR must hold no shards.\n"
    "      --tokenizer=char    a token is a UTF-8 character that occurs in the text (default)\n"
    "      --tokenizer=byte    a token is a byte: 256 tokens, takes any file\n"
    "      --tokenizer=FILE    a tokenizer.json of a byte-pair encoding, or a tokenizer.bin; takes any file\n"
    "      --val=TEXT          all of TEXT ... is for training and this file or folder for validation\n"
    "      --val-every=N       every Nth document is for validation (10). A corpus of fewer documents, such as one\n"
    "                          text, is cut as nanoGPT does: the first 90 % of its characters are for training\n"
    "      --format=llmc       shards with llm.c's header, two bytes a token or four (default)\n"
    "      --format=nanogpt    train.bin and val.bin, two bytes a token and nothing else\n"
    "      --name=NAME         files are called NAME_train_000000.bin and so on\n"
    "      --shard-tokens=N    at most N tokens a shard (100000000)\n"
    "  tokenize encode --tokenizer=FILE [--u16] < text > ids\n"
    "      One decimal id a line; --u16: raw little-endian uint16.\n"
    "  tokenize decode --tokenizer=FILE [--u16] < ids > text\n"
    "  tokenize convert --tokenizer=FILE --out=FILE\n"
    "      The same vocabulary as a tokenizer.json, or a tokenizer.bin where it is no byte-pair encoding.\n"
    "  tokenize info DIR|FILE\n"
    "      Shards, tokens, vocabulary and bytes per token of a data folder; what a tokenizer's file or a shard holds.\n"
    "  tokenize verify DIR\n"
    "      Whether a prepared folder's shards and tokenizer are whole, by DIR/fingerprint; of more than 2^29 training\n"
    "      tokens only their shards' sizes.\n"
    "  tokenize install NEW DIR < fingerprint\n"
    "      Writes NEW/fingerprint, the two lines given and each shard's checksum, size and name, and moves the folder NEW to\n"
    "      DIR when all of it is on the disk. What was DIR is NEW then.\n"
    "\n"
    "TEXT is a file, gzip or not, or a folder: all files below it in the order of their paths, none whose name begins\n"
    "with a dot; --ext=txt,md takes only these extensions (and txt.gz, md.gz). Where there is a folder or more than\n"
    "one file, each file is a document. --documents=HOW divides files further; a document begins\n"
    "      endoftext           after a line that is exactly <|endoftext|>\n"
    "      line                with every line that is not empty\n"
    "      blank               with a line after an empty one\n"
    "      heading             with a line that is not indented, after an empty one\n"
    "and the tokenizer's end-of-text token, where it has one, stands before each and for the lines <|endoftext|>.\n"
    "Nothing else is taken from a text or added to it.\n";

// ---------------------------------------------------------------------------------------------------------------------
// Failing: what has been written so far goes again, a folder holds a whole corpus or none.

static char **written;
static int written_count;

static void remember(const char *path) {
    written = (char **)xrealloc(written, ((size_t)written_count + 1) * sizeof *written);
    written[written_count++] = xstrdup(path);
}

__attribute__((noreturn)) PRINTF_LIKE(1, 2) static void give_up(const char *fmt, ...) {
    va_list args;
    for (int i = 0; i < written_count; i++) unlink(written[i]);
    va_start(args, fmt);
    fail_line(EXIT_FAILED, fmt, args);
}

// ---------------------------------------------------------------------------------------------------------------------
// Arguments

typedef struct {
    const char *tokenizer, *out, *val, *val_every, *name, *shard_tokens, *vocab, *documents, *ext, *format;
    char **texts;           // the words that are no flags
    int text_count;
    bool u16;
} Arguments;

// A command's flags with a value, and how many texts it takes at least and at most.
typedef struct {
    const char *name;
    void (*run)(const Arguments *);
    const char *flags, *what;
    int least, most;
} Command;

static Arguments parse_arguments(const Command *command, int argc, char **argv) {
    Arguments a = { .texts = (char **)xcalloc((size_t)argc, sizeof *a.texts) };
    const struct { const char *name; const char **value; } flags[] = {
        { "tokenizer", &a.tokenizer }, { "out", &a.out }, { "val", &a.val }, { "val-every", &a.val_every },
        { "name", &a.name }, { "shard-tokens", &a.shard_tokens }, { "vocab", &a.vocab },
        { "documents", &a.documents }, { "ext", &a.ext }, { "format", &a.format },
    };
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        bool known = false;
        for (size_t k = 0; k < COUNT_OF(flags) && !known && strncmp(word, "--", 2) == 0; k++) {
            const char *value = flag_value(word + 2, flags[k].name);
            char *listed = format(" %s ", flags[k].name);
            known = value && strstr(command->flags, listed);
            if (known) *flags[k].value = value;
            free(listed);
        }
        if (!known && strcmp(word, "--u16") == 0 && strstr(command->flags, " u16 ")) known = a.u16 = true;
        if (!known && word[0] != '-' && a.text_count < command->most) {
            a.texts[a.text_count++] = argv[i];
            known = true;
        }
        if (!known) fail_usage("tokenize %s: %s: not expected here (see tokenize --help)", command->name, word);
    }
    if (a.text_count < command->least)
        fail_usage("tokenize %s: %s is missing (see tokenize --help)", command->name, command->what);
    return a;
}

// ---------------------------------------------------------------------------------------------------------------------
// Texts: files and folders, read in chunks and handed on in pieces that are each part of one document

#define SEPARATOR "<|endoftext|>"
enum { SEPARATOR_BYTES = sizeof SEPARATOR - 1, SEPARATOR_LINE = SEPARATOR_BYTES + 2 };     // with \r\n

enum { UNDIVIDED, ENDOFTEXT, LINE, BLANK, HEADING };
static const char *const divisions[] = { "", "endoftext", "line", "blank", "heading" };

typedef struct {
    const char *name;       // as the user gave it, the first of several
    char **paths;           // (count): the files, in order
    struct stat *seen;      // (count): what they were when they were found
    int count;
    double bytes;           // of all files, as they are on the disk
    int division;           // how a file is divided into documents
    bool documents;         // each file is a document or more; else all is one text
    bool keep_separators;   // lines <|endoftext|> stay in the text: the vocabulary has no token for them
} Corpus;

typedef struct {
    const char *bytes;      // never cut through a character
    size_t n;               // at least 1
    bool first;             // it begins a document
    const char *path;
    size_t line;            // where its first byte stands
} Piece;

// What to do with a piece; false: no more.
typedef bool Take(void *state, const Piece *piece);


// Whether the file's name ends in one of the extensions, ".gz" behind it or not.
static bool has_extension(const char *name, const char *extensions) {
    size_t n = strlen(name);
    if (n > 3 && strcmp(name + n - 3, ".gz") == 0) n -= 3;
    for (const char *e = extensions; *e; e += strcspn(e, ","), e += *e == ',') {
        size_t length = strcspn(e, ",");
        if (length > 0 && n > length && name[n - length - 1] == '.' && strncmp(name + n - length, e, length) == 0)
            return true;
    }
    return false;
}

static void add_path(Corpus *c, char *path, double bytes) {
    if ((c->count & (c->count - 1)) == 0)
        c->paths = (char **)xrealloc(c->paths, (c->count ? 2 * (size_t)c->count : 1) * sizeof *c->paths);
    c->paths[c->count++] = path;
    c->bytes += bytes;
}

// A text is read several times: all must be the same.
static void see_texts(Corpus *c) {
    c->seen = (struct stat *)xcalloc((size_t)c->count, sizeof *c->seen);
    for (int i = 0; i < c->count; i++)
        if (stat(c->paths[i], &c->seen[i]) != 0) fail("%s: cannot be read: %s", c->paths[i], strerror(errno));
}

static void check_unchanged(const Corpus *c, int i, FILE *f) {
    const struct stat *was = &c->seen[i];
    struct stat st;
    if (fstat(fileno(f), &st) != 0) give_up("%s: cannot be read: %s", c->paths[i], strerror(errno));
    if (st.st_dev != was->st_dev || st.st_ino != was->st_ino || st.st_size != was->st_size ||
        st.st_mtim.tv_sec != was->st_mtim.tv_sec || st.st_mtim.tv_nsec != was->st_mtim.tv_nsec)
        give_up("%s: changed while it was read: a text that nothing writes to expected", c->paths[i]);
}

// Adds the files below dir that are not empty. Links to files are followed, links to folders are not.
static void add_folder(Corpus *c, const char *dir, const char *extensions) {
    DIR *folder = opendir(dir);
    if (!folder) fail("%s: cannot be read: %s", dir, strerror(errno));
    size_t n = strlen(dir);
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        if (entry->d_name[0] == '.') continue;
        char *path = format("%s%s%s", dir, n > 0 && dir[n - 1] == '/' ? "" : "/", entry->d_name);
        struct stat st;
        if (lstat(path, &st) != 0) fail("%s: cannot be read: %s", path, strerror(errno));
        if (S_ISDIR(st.st_mode)) {
            add_folder(c, path, extensions);
        } else if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
                   (!extensions || has_extension(entry->d_name, extensions))) {
            add_path(c, path, (double)st.st_size);
            continue;
        }
        free(path);
    }
    closedir(folder);
}

static Corpus open_corpus(char **texts, int text_count, const Arguments *a) {
    Corpus c = { .name = texts[0] };
    if (a->documents) {
        c.division = ENDOFTEXT;
        while (c.division < (int)COUNT_OF(divisions) && strcmp(a->documents, divisions[c.division]) != 0) c.division++;
        if (c.division == (int)COUNT_OF(divisions))
            fail_usage("--documents=%s: endoftext, line, blank or heading expected", a->documents);
    }
    c.documents = c.division != UNDIVIDED || text_count > 1;
    for (int i = 0; i < text_count; i++) {
        struct stat st;
        if (stat(texts[i], &st) != 0)
            fail("%s: cannot be read: %s (a text file or a folder expected)", texts[i], strerror(errno));
        if (S_ISDIR(st.st_mode)) {
            int before = c.count;
            c.documents = true;
            add_folder(&c, texts[i], a->ext);
            if (c.count == before)
                fail("%s: no file in this folder that is not empty%s%s", texts[i],
                     a->ext ? " and has an extension of --ext=" : "", a->ext ? a->ext : "");
            qsort(c.paths + before, (size_t)(c.count - before), sizeof *c.paths, compare_strings);
        } else if (S_ISREG(st.st_mode)) {
            add_path(&c, xstrdup(texts[i]), (double)st.st_size);
        } else {
            fail("%s: neither a file nor a folder (a text is read more than once)", texts[i]);
        }
    }
    see_texts(&c);
    return c;
}

static void close_corpus(Corpus *c) {
    for (int i = 0; i < c->count; i++) free(c->paths[i]);
    free(c->paths);
    free(c->seen);
}

// Fails where writing `path`, by the flag --out=out, would replace the input.
static void keep_input(const char *out, const char *path, const char *input) {
    if (same_regular_file(path, input))
        fail_usage("--out=%s: %s would be replaced, which is read here: another --out expected", out, input);
}

static void keep_corpus(const char *out, const char *path, const Corpus *c) {
    for (int i = 0; i < c->count; i++) keep_input(out, path, c->paths[i]);
}

// Likewise of a tokenizer's file; of a pair (tokenizer_pairs), either half of which names both.
static void keep_tokenizer(const char *out, const char *path, const char *tokenizer) {
    const char *slash = strrchr(tokenizer, '/'), *name = slash ? slash + 1 : tokenizer;
    keep_input(out, path, tokenizer);
    for (int i = 0; i < 4; i++) {
        const char *const *pair = tokenizer_pairs[i / 2];
        if (strcmp(name, pair[i % 2]) != 0) continue;
        char *half = format("%.*s%s", (int)(name - tokenizer), tokenizer, pair[1 - i % 2]);
        keep_input(out, path, half);
        free(half);
    }
}

// How many of the last bytes of a chunk are the beginning of a character that goes on behind it.
static size_t cut_character(const char *text, size_t n) {
    for (size_t back = 1; back < UTF8_LONGEST && back <= n; back++) {
        uint8_t byte = (uint8_t)text[n - back];
        if (byte >> 6 == 0x2) continue;
        size_t length = byte >> 5 == 0x6 ? 2 : byte >> 4 == 0xe ? 3 : byte >> 3 == 0x1e ? 4 : 1;
        return length > back ? back : 0;
    }
    return 0;
}

// Where a file's division into documents stands, and whom to hand its pieces to.
typedef struct {
    const Corpus *c;
    Piece piece;
    bool content;           // the document has a line that is not empty
    bool after_empty;       // the last line was empty
    bool in_line;           // the next byte does not begin a line
    Take *take;
    void *state;
} Divider;

// Once for all texts: a mark <|endoftext|> that is no line of its own would be learned as text, letter by letter; so
// would any mark where files aren't divided by them.
static void warn_of_marks(const Divider *d, const char *bytes, size_t n) {
    static bool warned;
    for (const char *at = bytes; !warned && (at = memmem(at, n - (size_t)(at - bytes), SEPARATOR, SEPARATOR_BYTES)); at++) {
        const char *behind = at + SEPARATOR_BYTES, *end = bytes + n;
        bool line = (at > bytes ? at[-1] == '\n' : !d->in_line) && (behind == end || *behind == '\n' || *behind == '\r');
        if (line && d->c->division == ENDOFTEXT) continue;      // kept for a vocabulary that has no token for it
        size_t number = d->piece.line;
        for (const char *p = bytes; p < at; p++) number += *p == '\n';
        fprintf(stderr, d->c->division == ENDOFTEXT
                        ? "warning: %s: line %zu: " SEPARATOR " stays text: a document ends with a line that is this mark and nothing else\n"
                        : "warning: %s: line %zu: " SEPARATOR " stays text: --documents=endoftext (make: DOCUMENTS=endoftext) divides by lines of it\n",
                d->piece.path, number);
        warned = true;
    }
}

static bool hand_on(Divider *d, const char *bytes, size_t n) {
    if (n == 0) return true;
    warn_of_marks(d, bytes, n);
    d->piece.bytes = bytes;
    d->piece.n = n;
    bool more = d->take(d->state, &d->piece);
    d->piece.first = false;
    for (size_t i = 0; i < n; i++) d->piece.line += bytes[i] == '\n';
    return more;
}

// Hands on the documents of n bytes, all of the file's rest where `end`. Sets *used to the number of bytes that need
// not be shown again. Returns false where the taker has enough.
static bool divide(Divider *d, const char *text, size_t n, bool end, size_t *used) {
    const Corpus *c = d->c;
    size_t from = 0, at = c->division == UNDIVIDED ? n : 0;
    while (at < n) {
        const char *newline = (const char *)memchr(text + at, '\n', n - at);
        size_t next = newline ? (size_t)(newline - text) + 1 : n;
        if (!d->in_line) {
            if (!newline && !end && n - at < SEPARATOR_LINE) break;        // it can't be told yet what line this is
            size_t length = next - at - (newline != NULL);
            length -= length > 0 && text[at + length - 1] == '\r';
            bool begins = c->division == LINE ? length > 0
                        : c->division == BLANK ? length > 0 && d->after_empty
                        : c->division == HEADING ? length > 0 && d->after_empty && text[at] != ' ' && text[at] != '\t'
                        : false;
            bool separator = c->division == ENDOFTEXT && length == SEPARATOR_BYTES &&
                             memcmp(text + at, SEPARATOR, SEPARATOR_BYTES) == 0;
            if (separator || (begins && d->content)) {
                if (!hand_on(d, text + from, (separator && c->keep_separators ? next : at) - from)) return false;
                from = separator ? next : at;
                if (separator && !c->keep_separators) d->piece.line++;
                d->piece.first = d->piece.first || d->content;
                d->content = false;
            }
            d->content = d->content || (length > 0 && !separator);
            d->after_empty = length == 0;
        }
        d->in_line = !newline;
        at = next;
    }
    if (!end && at == n) at -= cut_character(text, n);
    *used = at;
    return at <= from || hand_on(d, text + from, at - from);
}

// Shows all pieces of a corpus to `take` until it returns false. doing: for the line of progress, or NULL.
static void read_corpus(const Corpus *c, const char *doing, Take *take, void *state) {
    char *buffer = (char *)xmalloc(CHUNK_BYTES);
    double done = 0, start = seconds_now();
    Progress progress = progress_start();
    bool more = true;
    for (int i = 0; i < c->count && more; i++) {
        const char *path = c->paths[i];
        char error[ERROR_ROOM];
        TextFile *f = text_file_open(path, error, sizeof error);
        if (!f) give_up("%s", error);
        check_unchanged(c, i, f->f);
        Divider d = { .c = c, .piece = { .first = c->documents || i == 0, .path = path, .line = 1 },
                      .take = take, .state = state };
        size_t held = 0, used = 0;
        for (bool end = false; more && !end; held -= used) {
            long got = text_file_read(f, buffer + held, CHUNK_BYTES - held, error, sizeof error);
            if (got < 0) give_up("%s", error);
            held += (size_t)got;
            end = held < CHUNK_BYTES;
            more = divide(&d, buffer, held, end, &used);
            if (more) memmove(buffer, buffer + used, held - used);
            if (doing && seconds_now() - start > 2 && progress_due(&progress, false))
                progress_line(&progress, "%s: %.0f of %.0f MB", doing, 1e-6 * (done + (double)ftello(f->f)),
                              1e-6 * c->bytes);
        }
        done += (double)ftello(f->f);
        check_unchanged(c, i, f->f);
        text_file_close(f);
    }
    progress_end(&progress);
    free(buffer);
}

// ---------------------------------------------------------------------------------------------------------------------
// Counting

// The position behind the first `count` characters of n bytes; a byte that is not UTF-8 counts as one.
static size_t skip_chars(const char *text, size_t n, size_t count) {
    size_t at = 0;
    for (uint32_t c; count > 0 && at < n; count--) {
        int length = utf8_decode(text + at, n - at, &c);
        at += (size_t)(length ? length : 1);
    }
    return at;
}

static size_t count_chars(const char *text, size_t n) {
    size_t count = 0;
    uint32_t c;
    for (size_t at = 0; at < n; count++) {
        int length = utf8_decode(text + at, n - at, &c);
        at += (size_t)(length ? length : 1);
    }
    return count;
}

typedef struct { size_t documents, enough, chars; } Count;

static bool take_count(void *state, const Piece *p) {
    Count *count = (Count *)state;
    count->documents += p->first;
    if (count->documents >= count->enough) return false;
    count->chars += count_chars(p->bytes, p->n);
    return true;
}

// Documents and characters, up to where the enough-th document begins; there must be one.
static Count count_corpus(const Corpus *c, size_t enough) {
    Count count = { .enough = enough };
    read_corpus(c, "counting", take_count, &count);
    if (count.documents == 0) fail("%s: the text is empty", c->name);
    return count;
}

static bool take_chars(void *state, const Piece *p) {
    char error[160];
    size_t line;
    int behind = 0;
    if (tokenizer_scan_chars((uint8_t *)state, p->bytes, p->n, error, sizeof error) >= 0) return true;
    if (sscanf(error, "line %zu%n", &line, &behind) != 1) give_up("%s: %s", p->path, error);
    give_up("%s: line %zu%s; --tokenizer=byte (make: TOKENIZER=byte) takes any file", p->path, p->line + line - 1,
            error + behind);
}

// ---------------------------------------------------------------------------------------------------------------------
// Gathering: pieces to stretches of text that can be tokenized by themselves

typedef struct {
    bool words;             // a stretch ends where a byte-pair encoding's piece ends; else anywhere between characters
    char *text;             // (room): `held` bytes not yet used, of which `searched` hold no end of a stretch
    size_t held, room, searched;
    const char *path;       // where text[0] stands
    size_t line;
    void (*use)(void *state, const char *text, size_t n, const char *path, size_t line);
    void *state;
} Gather;

static void gather_use(Gather *g, size_t n) {
    if (n == 0) return;
    g->use(g->state, g->text, n, g->path, g->line);
    for (size_t i = 0; i < n; i++) g->line += g->text[i] == '\n';
    memmove(g->text, g->text + n, g->held -= n);
    g->searched = 0;
}

static void gather_add(Gather *g, const Piece *p) {
    if (g->held == 0) {
        g->path = p->path;
        g->line = p->line;
    }
    if (g->held + p->n > g->room) g->text = (char *)xrealloc(g->text, g->room = 2 * g->held + p->n);
    memcpy(g->text + g->held, p->bytes, p->n);
    g->held += p->n;
    if (!g->words) { gather_use(g, g->held); return; }
    if (g->held < CHUNK_BYTES) return;
    // Half a chunk, or more where there is no place to cut: a piece is kept whole, however long it is.
    size_t from = g->searched > CHUNK_BYTES / 2 ? g->searched : CHUNK_BYTES / 2, cut = bpe_cut(g->text, from, g->held);
    if (cut < g->held) gather_use(g, cut);
    else g->searched = g->held;
}

static void gather_end(Gather *g) { gather_use(g, g->held); }

// ---------------------------------------------------------------------------------------------------------------------
// train

static void use_for_training(void *state, const char *text, size_t n, const char *path, size_t line) {
    char error[256];
    (void)line;
    if (bpe_count((BpeWords *)state, text, n, error, sizeof error) != 0) give_up("%s: %s", path, error);
}

typedef struct { Gather gather; size_t bytes; } Training;

// A byte 0xff, which is no UTF-8 and so ends pieces and joins none, keeps a document's last word from the next one's
// first.
static bool take_training(void *state, const Piece *p) {
    Training *t = (Training *)state;
    if (p->first && t->gather.held > 0) gather_add(&t->gather, &(Piece){ "\xff", 1, false, p->path, p->line });
    gather_add(&t->gather, p);
    t->bytes += p->n;
    return true;
}

static void command_train(const Arguments *a) {
    static const char *const special[] = { SEPARATOR };
    if (!a->vocab || !a->out || !*a->out)
        fail_usage("tokenize train: %s is missing", !a->vocab ? "--vocab=N" : "--out=FILE.json");
    long long vocab = integer_of("--vocab", a->vocab, 257, TOKENIZER_MAX_TOKENS);
    BpeWords words = { 0 };
    Bpe bpe;
    char error[256];
    Corpus c = open_corpus(a->texts, a->text_count, a);
    keep_corpus(a->out, a->out, &c);
    count_corpus(&c, 1);
    Training t = { .gather = { .words = true, .use = use_for_training, .state = &words } };
    read_corpus(&c, "counting words", take_training, &t);
    gather_end(&t.gather);
    if (bpe_train(&bpe, &words, (size_t)vocab, special, COUNT_OF(special), error, sizeof error) != 0) fail("%s", error);
    if (bpe_save(&bpe, a->out) != 0) fail("%s: cannot be written: %s", a->out, strerror(errno));
    printf("%s: %zu tokens from %zu bytes of text, %zu different words%s\n", a->out, bpe.tokens.count, t.bytes,
           words.strings.count, bpe.tokens.count < (size_t)vocab ? "; there is nothing left to merge" : "");
    bpe_words_free(&words);
    bpe_free(&bpe);
    free(t.gather.text);
    close_corpus(&c);
}

// ---------------------------------------------------------------------------------------------------------------------
// shards

static Tokenizer load_tokenizer(const char *path) {
    Tokenizer t;
    char error[ERROR_ROOM];
    if (tokenizer_load(&t, path, error, sizeof error) != 0) fail("%s", error);
    return t;
}

// Text to ids, with the file and the line named where that can't be.
typedef struct {
    const Tokenizer *t;
    uint32_t *ids;          // (room)
    size_t room;
} Encoder;

static size_t encode(Encoder *e, const char *text, size_t n, const char *path, size_t first_line) {
    char error[256];
    size_t line;
    int behind = 0;
    size_t most = tokenizer_room(e->t, n);
    if (most > e->room) e->ids = (uint32_t *)xrealloc(e->ids, (e->room = most) * sizeof *e->ids);
    long count = tokenizer_encode(e->t, text, n, e->ids, error, sizeof error);
    if (count >= 0) return (size_t)count;
    if (sscanf(error, "line %zu%n", &line, &behind) == 1)
        give_up("%s: line %zu%s", path, first_line + line - 1, error + behind);
    give_up("%s: %s", path, error);
}

// One split on its way to the disk. Files have their names with ".tmp" behind until the whole corpus is written.
typedef struct {
    const char *split;      // "train" or "val"
    const char *prefix;     // DIR/ or DIR/NAME_
    bool raw;               // nanoGPT's: one file, no header
    int kind;               // of shard_kinds
    size_t shard_tokens;
    Encoder encoder;
    Gather gather;
    char *path;             // of the open shard, or NULL
    FILE *f;
    size_t in_shard;        // its tokens
    int shards;
    size_t tokens, bytes;   // of all shards, and the text they hold
} Split;

static void cannot_write(const Split *s) {
    give_up("%.*s: cannot be written: %s", (int)(strlen(s->path) - 4), s->path, strerror(errno));
}

static void open_shard(Split *s) {
    static const char no_header[SHARD_HEADER_BYTES];
    s->path = s->raw ? format("%s%s.bin.tmp", s->prefix, s->split)
                     : format("%s%s_%06d.bin.tmp", s->prefix, s->split, s->shards);
    s->f = fopen(s->path, "wb");
    if (!s->f) cannot_write(s);
    remember(s->path);
    if (!s->raw && fwrite(no_header, sizeof no_header, 1, s->f) != 1) cannot_write(s);
    s->in_shard = 0;
    s->shards++;
}

static void close_shard(Split *s) {
    if (!s->path) return;
    int32_t header[3] = { shard_kinds[s->kind].magic, shard_kinds[s->kind].version, (int32_t)s->in_shard };
    if (!s->raw && (fseek(s->f, 0, SEEK_SET) != 0 || fwrite(header, sizeof header, 1, s->f) != 1)) cannot_write(s);
    if (fflush(s->f) != 0 || sync_fd(fileno(s->f)) < 0 || fclose(s->f) != 0) cannot_write(s);
    free(s->path);
    s->path = NULL;
}

static void write_tokens(Split *s, const uint32_t *ids, size_t n) {
    s->tokens += n;
    while (n > 0) {
        uint16_t narrow[4096];
        if (!s->path) open_shard(s);
        size_t part = s->shard_tokens - s->in_shard < n ? s->shard_tokens - s->in_shard : n;
        bool wide = shard_kinds[s->kind].width == 4;
        if (!wide && part > COUNT_OF(narrow)) part = COUNT_OF(narrow);
        for (size_t i = 0; !wide && i < part; i++) narrow[i] = (uint16_t)ids[i];
        if (fwrite(wide ? (const void *)ids : narrow, (size_t)shard_kinds[s->kind].width, part, s->f) != part)
            cannot_write(s);
        s->in_shard += part;
        ids += part;
        n -= part;
        if (s->in_shard == s->shard_tokens) close_shard(s);
    }
}

static void use_for_shards(void *state, const char *text, size_t n, const char *path, size_t line) {
    Split *s = (Split *)state;
    size_t count = encode(&s->encoder, text, n, path, line);
    write_tokens(s, s->encoder.ids, count);
    s->bytes += n;
}

static void add_to_split(Split *s, const Piece *p, bool end_of_text) {
    if (p->first) {
        uint32_t eot = (uint32_t)s->encoder.t->eot;
        gather_end(&s->gather);
        if (end_of_text) write_tokens(s, &eot, 1);
    }
    gather_add(&s->gather, p);
}

static void end_split(Split *s) {
    gather_end(&s->gather);
    close_shard(s);
    free(s->gather.text);
    free(s->encoder.ids);
}

typedef struct {
    Split train, val;
    Split *all;             // where everything goes, NULL where the corpus is divided
    bool end_of_text;
    size_t every, documents;    // every-th document is for validation; or 0:
    size_t train_chars, chars;  // the first train_chars characters are for training
} Sharding;

static bool take_shards(void *state, const Piece *p) {
    Sharding *s = (Sharding *)state;
    s->documents += p->first;
    if (s->all || s->every) {
        add_to_split(s->all ? s->all : s->documents % s->every == 0 ? &s->val : &s->train, p, s->end_of_text);
        return true;
    }
    Piece part = *p;
    size_t left = s->train_chars - s->chars;
    part.n = left > 0 ? skip_chars(p->bytes, p->n, left) : 0;
    if (part.n > 0) {
        add_to_split(&s->train, &part, s->end_of_text);
        s->chars += part.n < p->n ? left : count_chars(p->bytes, p->n);
    }
    if (part.n == p->n) return true;
    for (size_t i = 0; i < part.n; i++) part.line += p->bytes[i] == '\n';
    part.first = p->first && part.n == 0;
    part.bytes += part.n;
    part.n = p->n - part.n;
    add_to_split(&s->val, &part, s->end_of_text);
    return true;
}

static int count_shards(const char *dir, char split) {
    int count;
    char **names = dataloader_names(dir, split, &count);
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
    return count;
}

static void print_split(const Split *s) {
    printf("  %-6s %12zu tokens of %zu bytes of text, %d shard%s\n", s->split, s->tokens, s->bytes, s->shards,
           s->shards == 1 ? "" : "s");
}

static void command_shards(const Arguments *a) {
    if (!a->out || !*a->out) fail_usage("tokenize shards: --out=DIR is missing");
    const char *kind = a->tokenizer ? a->tokenizer : "char";
    bool chars = strcmp(kind, "char") == 0, bytes = strcmp(kind, "byte") == 0;
    if (!chars && !bytes && !file_exists(kind))
        fail_usage("--tokenizer=%s: char, byte or a tokenizer's file expected", kind);
    bool raw = a->format && strcmp(a->format, "nanogpt") == 0;
    if (a->format && !raw && strcmp(a->format, "llmc") != 0)
        fail_usage("--format=%s: llmc or nanogpt expected", a->format);
    if (a->name && (raw || strchr(a->name, '/')))
        fail_usage("--name=%s: %s", a->name, raw ? "files of --format=nanogpt are train.bin and val.bin"
                                                 : "a name without '/' expected");
    if (raw && a->shard_tokens) fail_usage("--shard-tokens=%s: --format=nanogpt has one file a split", a->shard_tokens);
    if (a->val && a->val_every)
        fail_usage("--val-every=%s: --val=%s says what is for validation", a->val_every, a->val);
    size_t shard_tokens = a->shard_tokens ? (size_t)integer_of("--shard-tokens", a->shard_tokens, 4, INT32_MAX) : DEFAULT_SHARD_TOKENS;
    size_t every = a->val_every ? (size_t)integer_of("--val-every", a->val_every, 2, INT32_MAX) : DEFAULT_VAL_EVERY;

    Corpus corpora[2] = { open_corpus(a->texts, a->text_count, a) };
    int corpus_count = 1;
    char *val = (char *)(uintptr_t)a->val;
    if (val) corpora[corpus_count++] = open_corpus(&val, 1, a);
    Sharding s = { .every = every };
    Count count = count_corpus(&corpora[0], val ? 1 : every);
    if (val) count_corpus(&corpora[1], 1);
    if (!val && count.documents < every) {
        s.every = 0;
        s.train_chars = (size_t)((double)count.chars * 0.9);
        if (s.train_chars < 2 || count.chars - s.train_chars < 2)       // an input and its target
            fail("%s: %zu characters: too short to split 90 : 10 (at least 11 expected)", corpora[0].name, count.chars);
    }

    Tokenizer t;
    char error[160];
    if (bytes) {
        tokenizer_bytes(&t);
    } else if (!chars) {
        t = load_tokenizer(kind);
        if (t.kind == TOKENIZER_OTHER) fail("%s: a vocabulary that decodes only: a tokenizer.json expected", kind);
    } else {
        static uint8_t seen[UTF8_CODE_POINTS];
        for (int i = 0; i < corpus_count; i++) {
            corpora[i].keep_separators = true;
            read_corpus(&corpora[i], "reading characters", take_chars, seen);
        }
        if (tokenizer_train_chars(&t, seen, error, sizeof error) != 0)
            fail("%s: %s; --tokenizer=byte (make: TOKENIZER=byte) takes any file", corpora[0].name, error);
    }
    if (raw && t.size > UINT16_MAX + 1)
        fail("--format=nanogpt: %d tokens don't fit 16 bits: --format=llmc has 32", t.size);

    char *vocabulary = format("%s/tokenizer.%s", a->out, t.bpe ? "json" : "bin");
    char *sidecar = format("%s/vocabulary", a->out);
    for (int i = 0; i < corpus_count; i++) {
        keep_corpus(a->out, vocabulary, &corpora[i]);
        keep_corpus(a->out, sidecar, &corpora[i]);
    }
    if (!chars && !bytes) keep_tokenizer(a->out, vocabulary, kind);
    if (make_dirs(a->out) != 0) fail("%s: cannot be made: %s", a->out, strerror(errno));
    if (count_shards(a->out, 't') + count_shards(a->out, 'v') > 0)
        fail("%s: holds shards already: remove them or choose another --out", a->out);

    char *prefix = a->name && *a->name ? format("%s/%s_", a->out, a->name) : format("%s/", a->out);
    Split *splits[] = { &s.train, &s.val };
    for (int i = 0; i < 2; i++) {
        *splits[i] = (Split){ .split = i == 0 ? "train" : "val", .prefix = prefix, .raw = raw,
                              .kind = raw ? 0 : shard_kind(t.size), .shard_tokens = raw ? SIZE_MAX : shard_tokens,
                              .encoder = { .t = &t } };
        splits[i]->gather = (Gather){ .words = t.bpe != NULL, .use = use_for_shards, .state = splits[i] };
    }
    for (int i = 0; i < corpus_count; i++) {
        s.all = val ? splits[i] : NULL;
        s.end_of_text = corpora[i].documents && t.eot >= 0;
        corpora[i].keep_separators = t.eot < 0;
        read_corpus(&corpora[i], "tokenizing", take_shards, &s);
    }
    end_split(&s.train);
    end_split(&s.val);

    int shards = written_count;
    if (tokenizer_save(&t, vocabulary) != 0) give_up("%s: cannot be written: %s", vocabulary, strerror(errno));
    remember(vocabulary);
    if (tokenizer_sign(&t, a->out) != 0) give_up("%s/vocabulary: cannot be written: %s", a->out, strerror(errno));
    remember(sidecar);
    for (int i = 0; i < shards; i++) {
        char *name = format("%.*s", (int)(strlen(written[i]) - 4), written[i]);
        if (rename(written[i], name) != 0) give_up("%s: cannot be written: %s", name, strerror(errno));
        free(written[i]);
        written[i] = name;
    }
    if (sync_folder(vocabulary) < 0) give_up("%s: cannot be synced: %s", a->out, strerror(errno));

    printf("  %-6s %12d tokens, kind %s\n", "vocab", t.size, tokenizer_kind_name(&t));
    print_split(&s.train);
    print_split(&s.val);

    for (int i = 0; i < written_count; i++) free(written[i]);
    free(written);
    free(sidecar);
    free(vocabulary);
    free(prefix);
    for (int i = 0; i < corpus_count; i++) close_corpus(&corpora[i]);
    tokenizer_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// encode, decode: filters from stdin to stdout

typedef struct { Encoder encoder; bool u16; } Printing;

static void use_for_printing(void *state, const char *text, size_t n, const char *path, size_t line) {
    Printing *p = (Printing *)state;
    size_t count = encode(&p->encoder, text, n, path, line);
    for (size_t i = 0; i < count; i++) {
        uint32_t id = p->encoder.ids[i];
        if (!p->u16) printf("%u\n", id);
        else putchar_unlocked((int)(id & 255)), putchar_unlocked((int)(id >> 8));
    }
}

static void command_encode(const Arguments *a) {
    if (!a->tokenizer) fail_usage("tokenize encode: --tokenizer=FILE is missing");
    Tokenizer t = load_tokenizer(a->tokenizer);
    if (a->u16 && t.size > UINT16_MAX + 1) fail_usage("--u16: %d tokens don't fit 16 bits", t.size);
    Printing p = { { .t = &t }, a->u16 };
    Gather g = { .words = t.bpe != NULL, .use = use_for_printing, .state = &p };
    char *buffer = (char *)xmalloc(CHUNK_BYTES);
    Piece piece = { .bytes = buffer, .path = "stdin", .line = 1 };
    for (size_t held = 0, got, used; (got = fread(buffer + held, 1, CHUNK_BYTES - held, stdin)) > 0; held -= used) {
        held += got;
        used = piece.n = held - (held < CHUNK_BYTES ? 0 : cut_character(buffer, held));
        gather_add(&g, &piece);
        for (size_t i = 0; i < used; i++) piece.line += buffer[i] == '\n';
        memmove(buffer, buffer + used, held - used);
    }
    if (ferror(stdin)) fail("stdin: cannot be read: %s", strerror(errno));
    gather_end(&g);
    free(buffer);
    free(g.text);
    free(p.encoder.ids);
    tokenizer_free(&t);
}

static void write_token(const Tokenizer *t, long id, size_t number) {
    int length;
    const char *bytes = id > INT32_MAX ? NULL : tokenizer_token(t, (int)id, &length);
    if (!bytes)
        fail("stdin: id number %zu is %ld: the vocabulary has %d tokens (0 to %d)", number, id, t->size, t->size - 1);
    for (int i = 0; i < length; i++) putc_unlocked(bytes[i], stdout);
}

static void command_decode(const Arguments *a) {
    if (!a->tokenizer) fail_usage("tokenize decode: --tokenizer=FILE is missing");
    Tokenizer t = load_tokenizer(a->tokenizer);
    size_t number = 0, line = 1, n = 0;
    char word[40];
    for (int low, high; a->u16 && (low = getc_unlocked(stdin)) != EOF; ) {
        if ((high = getc_unlocked(stdin)) != EOF) write_token(&t, low | high << 8, ++number);
        else if (!ferror(stdin)) fail("stdin: %zu bytes: an even number expected, two bytes an id", 2 * number + 1);
    }
    for (int c = 0; !a->u16 && c != EOF; line += c == '\n') {
        c = getc_unlocked(stdin);
        if (c != EOF && c != ' ' && c != '\t' && c != '\r' && c != '\n') {
            if (n < sizeof word - 1) word[n++] = (char)c;       // an id has fewer digits: the rest is only cut off
            continue;
        }
        word[n] = '\0';
        if (n > 0 && strspn(word, "0123456789") != n)
            fail("stdin: line %zu: \"%s\": a token id expected", line, word);
        if (n > 0) write_token(&t, strtol(word, NULL, 10), ++number);
        n = 0;
    }
    if (ferror(stdin)) fail("stdin: cannot be read: %s", strerror(errno));
    tokenizer_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// convert, info

static void command_convert(const Arguments *a) {
    if (!a->tokenizer || !a->out || !*a->out)
        fail_usage("tokenize convert: --%s=FILE is missing", a->tokenizer ? "out" : "tokenizer");
    keep_tokenizer(a->out, a->out, a->tokenizer);
    Tokenizer t = load_tokenizer(a->tokenizer);
    if (tokenizer_save(&t, a->out) != 0) fail("%s: cannot be written: %s", a->out, strerror(errno));
    tokenizer_free(&t);
}

static void print_shards(const char *split, const Shard *shards, int count) {
    size_t tokens = 0, bytes = 0;
    for (int i = 0; i < count; i++) {
        tokens += shards[i].count;
        bytes += shards[i].bytes;
    }
    printf("  %-16s %zu tokens, %d shard%s, %.1f MB\n", split, tokens, count, count == 1 ? "" : "s",
           1e-6 * (double)bytes);
}

// A data folder, and its tokenizer, of size 0 where it has none; path: of the tokenizer.
static Tokenizer open_folder(DataLoader *d, const char *dir, const char *path) {
    Tokenizer t = { 0 };
    char error[ERROR_ROOM];
    if (file_exists(path)) {
        t = load_tokenizer(path);
        if (tokenizer_check(&t, path, dir, error, sizeof error) != 0) fail("%s", error);
    }
    dataloader_open(d, dir, 1, t.size ? t.size : INT32_MAX, 0);
    return t;
}

static void info_of_folder(const char *dir) {
    char *path = tokenizer_path(dir);
    DataLoader d;
    Tokenizer t = open_folder(&d, dir, path);
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
                bytes += shard_token(s, k) == (uint32_t)t.eot ? 0 : (uint64_t)length;      // it stands for no text
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

static void info_of_shard(const char *path) {
    Shard s = shard_open(path);
    uint32_t largest = 0;
    for (size_t i = 0; i < s.count; i++) largest = shard_token(&s, i) > largest ? shard_token(&s, i) : largest;
    printf("%s\n  %-16s %zu of %d bytes, the largest %u%s\n", path, "tokens", s.count, s.width, largest,
           s.tokens == s.map ? "; no header: nanoGPT's" : "");
    shard_close(&s);
}

// A token as text between quotes; what is not printable ASCII as \n or \xNN.
static void print_token(const char *bytes, int n) {
    putchar('"');
    for (int i = 0; i < n; i++) {
        uint8_t c = (uint8_t)bytes[i];
        if (c == '\n') printf("\\n");
        else if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 32 || c == 127) printf("\\x%02x", c);
        else putchar(c);
    }
    putchar('"');
}

static int token_length(const Tokenizer *t, int id) { return (int)(t->start[id + 1] - t->start[id]); }

static void info_of_tokenizer(const char *path) {
    enum { LONGEST = 5 };
    Tokenizer t = load_tokenizer(path);
    int longest[LONGEST], count = 0;
    for (int id = 0; id < t.size; id++) {       // the longest first; of equally long ones the lower id
        int at = count;
        if (id == t.eot) continue;
        while (at > 0 && token_length(&t, longest[at - 1]) < token_length(&t, id)) at--;
        if (at == LONGEST) continue;
        count += count < LONGEST;
        memmove(longest + at + 1, longest + at, (size_t)(count - 1 - at) * sizeof *longest);
        longest[at] = id;
    }
    printf("%s\n  %-16s %d tokens, kind %s: %s\n", path, "vocabulary", t.size, tokenizer_kind_name(&t),
           t.kind == TOKENIZER_OTHER ? "decodes only" : "encodes and decodes");
    if (t.eot >= 0) printf("  %-16s %d\n", "end of text", t.eot);
    else printf("  %-16s none\n", "end of text");
    printf("  %-16s", "longest tokens");
    for (int i = 0; i < count; i++) {
        putchar(' ');
        print_token((char *)t.bytes + t.start[longest[i]], token_length(&t, longest[i]));
    }
    printf("\n  %-16s %016llx\n", "hash", (unsigned long long)tokenizer_hash(&t));
    tokenizer_free(&t);
}

static void command_info(const Arguments *a) {
    const char *path = a->texts[0], *slash = strrchr(path, '/');
    struct stat st;
    if (stat(path, &st) != 0) fail("%s: cannot be read: %s", path, strerror(errno));
    int32_t magic = 0;
    FILE *f = S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (f && fread(&magic, sizeof magic, 1, f) != 1) magic = 0;
    if (f) fclose(f);
    bool shard = dataloader_split(slash ? slash + 1 : path) != 0;
    for (size_t i = 0; i < COUNT_OF(shard_kinds); i++) shard = shard || magic == shard_kinds[i].magic;
    (S_ISDIR(st.st_mode) ? info_of_folder : shard ? info_of_shard : info_of_tokenizer)(path);
}

// ---------------------------------------------------------------------------------------------------------------------
// verify, install: for data/prepare.sh

static void command_verify(const Arguments *a) {
    char *path = tokenizer_path(a->texts[0]);
    DataLoader d;
    Tokenizer t = open_folder(&d, a->texts[0], path);
    dataloader_close(&d);
    tokenizer_free(&t);
    free(path);
}

static void sync_files(const char *dir) {
    DIR *folder = opendir(dir);
    if (!folder) fail("%s: cannot be read: %s", dir, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        if (entry->d_name[0] == '.') continue;
        char *path = format("%s/%s", dir, entry->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0 || sync_fd(fd) < 0) fail("%s: cannot be synced: %s", path, strerror(errno));
        close(fd);
        free(path);
    }
    closedir(folder);
}

// Moves the folder `made` to `dir`, or where that is there changes the two: dir is there at any time, and whole, however many
// do this at once. A volume that can't change them moves dir to made.old first.
static void put_in_place(const char *made, const char *dir) {
    char *old = format("%s.old", made), *marker = format("%s/fingerprint", dir);
    for (int tries = 0; rename(made, dir) != 0; tries++) {
        if ((errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) || tries == 100)
            fail("%s: cannot be replaced: %s", dir, strerror(errno));
        if (!file_exists(marker)) fail("%s: no fingerprint, so not a prepared folder: not replaced", dir);
        if (machine_exchange(made, dir) == 0) break;
        if (errno != EINVAL && errno != ENOSYS && errno != ENOENT) fail("%s: cannot be replaced: %s", dir, strerror(errno));
        if (rename(dir, old) != 0 && errno != ENOENT) fail("%s: cannot be replaced: %s", dir, strerror(errno));
    }
    if (sync_folder(dir) < 0) fail("%s: its folder cannot be synced: %s", dir, strerror(errno));
    free(old);
    free(marker);
}

static void command_install(const Arguments *a) {
    const char *made = a->texts[0], *dir = a->texts[1];
    char *path = format("%s/fingerprint", made), *text, line[ERROR_ROOM];
    size_t size;
    int lines = 0;
    FILE *f = text_open(&text, &size);
    for (; fgets(line, sizeof line, stdin); lines += strchr(line, '\n') != NULL) fputs(line, f);
    if (ferror(stdin)) fail("stdin: cannot be read: %s", strerror(errno));
    if (lines != 2) fail("stdin: %d lines: the two lines of a fingerprint expected", lines);
    for (int split = 0; split < 2; split++) {
        int count;
        Shard *shards = dataloader_shards(made, "tv"[split], &count);
        for (int i = 0; i < count; i++) {
            fprintf(f, "%016llx %zu %s\n", (unsigned long long)shard_sum(&shards[i]), shards[i].bytes, shard_name(&shards[i]));
            shard_close(&shards[i]);
        }
        free(shards);
    }
    text_close(f, &text);
    sync_files(made);
    if (write_file(path, text, size) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    put_in_place(made, dir);
    free(text);
    free(path);
}

int main(int argc, char **argv) {
    static const Command commands[] = {
        { "train", command_train, " vocab out documents ext ", "the text file", 1, INT32_MAX },
        { "shards", command_shards, " tokenizer out val val-every name shard-tokens documents ext format ",
          "the text file", 1, INT32_MAX },
        { "encode", command_encode, " tokenizer u16 ", "", 0, 0 },
        { "decode", command_decode, " tokenizer u16 ", "", 0, 0 },
        { "convert", command_convert, " tokenizer out ", "", 0, 0 },
        { "info", command_info, " ", "the folder or file", 1, 1 },
        { "verify", command_verify, " ", "the folder", 1, 1 },
        { "install", command_install, " ", "the new folder or where it goes", 2, 2 },
    };
    program_begin();
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { fputs(help, stdout); return 0; }
    if (argc < 2)
        fail_usage("tokenize: a command expected: train, shards, encode, decode, convert, info, verify or install (see --help)");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        Arguments a = parse_arguments(&commands[i], argc - 2, argv + 2);
        commands[i].run(&a);
        free(a.texts);
        return 0;
    }
    fail_usage("tokenize: %s: unknown command: train, shards, encode, decode, convert, info, verify or install expected", argv[1]);
}

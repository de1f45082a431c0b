/* tokenizer.h - text to token ids and back: characters, bytes, and byte-pair encoding (bpe.h, its files bpe_files.h).
 *
 * defines: Tokenizer, tokenizer_bytes, tokenizer_scan_chars, tokenizer_train_chars, tokenizer_of_bpe, tokenizer_load,
 *          tokenizer_save, tokenizer_path, tokenizer_hash, tokenizer_sign, tokenizer_check, tokenizer_token,
 *          tokenizer_encode, tokenizer_room, tokenizer_kind_name, tokenizer_free
 *
 * A vocabulary is a list of byte strings; id i is the i-th. Decoding is writing them one after another, whatever the
 * vocabulary's kind. Functions that can fail return -1 and put one line into `error` (room bytes), never exit: a
 * sampler wants to report a bad prompt and go on.
 *
 * Byte-pair encodings are in tokenizer.json (Hugging Face's format), the others in tokenizer.bin, llm.c's. GPT-2's own
 * pair of files, encoder.json and vocab.bpe, and llm.c's gpt2_tokenizer.bin are read too. llm.c's file, little endian
 * (llm.c, llmc/tokenizer.h), is 256 int32 of header, then per token a length byte and its bytes.
 *     [0] 20240328   [1] version 2   [2] number of tokens   [3] id of the end-of-text token, -1 where there is none
 *     [4] kind (ours: 0 other, 1 byte, 2 char; llm.c leaves it 0)   the rest 0
 */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "../src/utf8.h"
#include "bpe_files.h"

enum { TOKENIZER_MAGIC = 20240328, TOKENIZER_VERSION = 2, TOKENIZER_HEADER_BYTES = 256 * 4 };
enum { TOKENIZER_MAX_TOKENS = 1 << 20 };
enum { TOKENIZER_OTHER = 0, TOKENIZER_BYTE = 1, TOKENIZER_CHAR = 2, TOKENIZER_BPE = 3 };

typedef struct {
    int kind;               // TOKENIZER_BYTE, _CHAR, _BPE, or TOKENIZER_OTHER, which decodes only
    int size;               // V, the number of tokens
    int eot;                // id of the end-of-text token, -1 where there is none
    uint8_t *bytes;         // all tokens, end to end
    uint32_t *start;        // (V + 1): token i is bytes[start[i]] .. bytes[start[i + 1] - 1]
    int32_t byte_id[256];   // the token that is just this byte, -1 where there is none
    uint32_t *char_id;      // (UTF8_CODE_POINTS): 1 + the token that is just this character, 0 where there is none
    Bpe *bpe;               // of TOKENIZER_BPE, else NULL
    BpeEncoder *encoder;    // likewise: encoding is one thread's
} Tokenizer;

// ---------------------------------------------------------------------------------------------------------------------
// Building a vocabulary

static inline void tokenizer_free(Tokenizer *t) {
    free(t->bytes);
    free(t->start);
    free(t->char_id);
    if (t->encoder) bpe_encoder_close(t->encoder);
    if (t->bpe) bpe_free(t->bpe);
    free(t->encoder);
    free(t->bpe);
    memset(t, 0, sizeof *t);
}

static inline void tokenizer_reserve(Tokenizer *t, int kind, int size, size_t bytes) {
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->size = size;
    t->eot = -1;
    t->bytes = (uint8_t *)xmalloc(bytes);
    t->start = (uint32_t *)xcalloc((size_t)size + 1, sizeof *t->start);
}

// Fills the two tables encoding looks into, from the tokens. char_id is 4 MB of addresses, of which only the pages of
// the scripts in use become memory.
static inline void tokenizer_index(Tokenizer *t) {
    for (int b = 0; b < 256; b++) t->byte_id[b] = -1;
    t->char_id = (uint32_t *)xcalloc(UTF8_CODE_POINTS, sizeof *t->char_id);
    for (int id = 0; id < t->size; id++) {
        const uint8_t *token = t->bytes + t->start[id];
        size_t length = t->start[id + 1] - t->start[id];
        uint32_t c = 0;
        if (length == 1) t->byte_id[token[0]] = id;
        if ((size_t)utf8_decode((const char *)token, length, &c) == length) t->char_id[c] = (uint32_t)id + 1;
    }
}

// The byte vocabulary: token i is byte i, V = 256. It encodes any input.
static inline void tokenizer_bytes(Tokenizer *t) {
    tokenizer_reserve(t, TOKENIZER_BYTE, 256, 256);
    for (int b = 0; b < 256; b++) {
        t->bytes[b] = (uint8_t)b;
        t->start[b + 1] = (uint32_t)b + 1;
    }
    tokenizer_index(t);
}

// The special token between documents: of GPT-2's name or, where there is none, of Llama 3's. -1: there is none.
static inline int tokenizer_find_eot(const Bpe *b) {
    uint32_t eot = bpe_special(b, BPE_EOT);
    if (eot == BPE_NONE) eot = bpe_special(b, "<|end_of_text|>");
    return eot == BPE_NONE ? -1 : (int)eot;
}

// The vocabulary of a byte-pair encoding, which becomes the tokenizer's. Returns 0, or -1 with b freed.
static inline int tokenizer_of_bpe(Tokenizer *t, Bpe *b, char *error, size_t room) {
    size_t size = b->tokens.count;
    memset(t, 0, sizeof *t);
    if (size > TOKENIZER_MAX_TOKENS) {
        snprintf(error, room, "%zu tokens: at most %d expected", size, TOKENIZER_MAX_TOKENS);
        bpe_free(b);
        return -1;
    }
    tokenizer_reserve(t, TOKENIZER_BPE, (int)size, b->tokens.start[size]);
    memcpy(t->bytes, b->tokens.bytes, b->tokens.start[size]);
    for (size_t id = 0; id <= size; id++) t->start[id] = (uint32_t)b->tokens.start[id];
    t->eot = tokenizer_find_eot(b);
    t->bpe = (Bpe *)xmalloc(sizeof *t->bpe);
    *t->bpe = *b;
    t->encoder = (BpeEncoder *)xmalloc(sizeof *t->encoder);
    if (bpe_encoder_open(t->encoder, t->bpe, error, room) == 0) return 0;
    tokenizer_free(t);
    return -1;
}

static inline size_t tokenizer_line(const char *text, size_t position) {
    size_t line = 1;
    for (size_t i = 0; i < position; i++) line += text[i] == '\n';
    return line;
}

// Marks in seen (UTF8_CODE_POINTS bytes, zeroed by the caller before the first text) the characters of n bytes of
// text. Returns the number of characters, or -1 with the line and the byte named where the text is not UTF-8.
static inline long tokenizer_scan_chars(uint8_t *seen, const char *text, size_t n, char *error, size_t room) {
    long count = 0;
    int length = 0;
    for (size_t i = 0; i < n; i += (size_t)length, count++) {
        uint32_t c = 0;
        length = utf8_decode(text + i, n - i, &c);
        if (length == 0) {
            snprintf(error, room, "line %zu: byte 0x%02X is not UTF-8", tokenizer_line(text, i), (uint8_t)text[i]);
            return -1;
        }
        seen[c] = 1;
    }
    return count;
}

// The character vocabulary: the distinct code points in order, id = rank (nanoGPT's sorted(set(text))).
// seen: from tokenizer_scan_chars over every text. Returns 0, or -1 where there are none or too many.
static inline int tokenizer_train_chars(Tokenizer *t, const uint8_t *seen, char *error, size_t room) {
    int size = 0;
    for (uint32_t c = 0; c < UTF8_CODE_POINTS; c++) size += seen[c] != 0;
    if (size == 0 || size > TOKENIZER_MAX_TOKENS) {
        snprintf(error, room, "%d distinct characters: a vocabulary has 1 to %d", size, TOKENIZER_MAX_TOKENS);
        return -1;
    }
    tokenizer_reserve(t, TOKENIZER_CHAR, size, 4 * (size_t)size);
    int id = 0;
    for (uint32_t c = 0; c < UTF8_CODE_POINTS; c++) {
        if (!seen[c]) continue;
        t->start[id + 1] = t->start[id] + (uint32_t)utf8_encode(c, t->bytes + t->start[id]);
        id++;
    }
    tokenizer_index(t);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// The file

// The tokenizer's file in the folder of a corpus or of a run: tokenizer.json, or where there is none tokenizer.bin,
// whether that exists or not. To be freed.
static inline char *tokenizer_path(const char *dir) {
    char *path = format("%s/tokenizer.json", dir);
    if (file_exists(path)) return path;
    free(path);
    return format("%s/tokenizer.bin", dir);
}

// GPT-2's pair of files by GPT-2's names for them, and by Hugging Face's.
static const char *const tokenizer_pairs[2][2] = { { "encoder.json", "vocab.bpe" }, { "vocab.json", "merges.txt" } };

// Whether a JSON text begins as encoder.json does: an object whose first value is a number.
static inline bool tokenizer_is_encoder(const char *text) {
    text += strspn(text, " \t\r\n{");
    if (*text != '"') return false;
    for (text++; *text && *text != '"'; text++) text += *text == '\\' && text[1];
    text += *text == '"';
    text += strspn(text, " \t\r\n:");
    return *text >= '0' && *text <= '9';
}

// Reads the pair of which path is the encoder (else the merges); the other one is beside it. Where there is one by both
// of its names, the one that goes with path's name is taken.
static inline int tokenizer_load_pair(Tokenizer *t, const char *path, bool encoder, char *error, size_t room) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int first = strcmp(name, tokenizer_pairs[1][!encoder]) == 0;
    char *other = format("%.*s%s", (int)(name - path), path, tokenizer_pairs[first][encoder]);
    char *second = format("%.*s%s", (int)(name - path), path, tokenizer_pairs[!first][encoder]);
    Bpe bpe;
    int result = -1;
    if (!file_exists(other) && !file_exists(second))
        snprintf(error, room, "%s: half of a vocabulary: %s or %s expected beside it", path,
                 tokenizer_pairs[0][encoder], tokenizer_pairs[1][encoder]);
    else {
        const char *beside = file_exists(other) ? other : second;
        result = bpe_load_gpt2(&bpe, encoder ? path : beside, encoder ? beside : path, error, room);
        if (result == 0) result = tokenizer_of_bpe(t, &bpe, error, room);
    }
    free(other);
    free(second);
    return result;
}

// The characters of a tokenizer.json whose words are one character each, as export writes a vocabulary of characters.
// Returns 0, or -1 with a line that names path and key.
static inline int tokenizer_take_words(Tokenizer *t, const cJSON *root, const char *path, char *error, size_t room) {
    const cJSON *vocab = bpe_json_at(root, "model.vocab"), *split = bpe_json_at(root, "pre_tokenizer.pattern.Regex");
    int size = cJSON_IsObject(vocab) ? cJSON_GetArraySize(vocab) : 0;
    const char **names = (const char **)xcalloc((size_t)size, sizeof *names), *wrong = NULL;
    size_t bytes = 0;
    for (const cJSON *item = size ? vocab->child : NULL; item && !wrong; item = item->next) {
        uint32_t c;
        long id = bpe_json_id(item, (size_t)size);
        size_t length = strlen(item->string);
        if (id < 0 || names[id] || !length || (size_t)utf8_decode(item->string, length, &c) != length)
            wrong = "model.vocab: words of one character each with ids from 0 on expected";
        else names[id] = item->string, bytes += length;
    }
    if (size < 1 || size > TOKENIZER_MAX_TOKENS) wrong = "model.vocab: 1 to 1048576 words expected";
    if (!cJSON_IsString(split) || strcmp(split->valuestring, "[\\s\\S]")) wrong = "pre_tokenizer: a Split into single characters expected";
    if (wrong) snprintf(error, room, "%s: %s", path, wrong);
    else {
        tokenizer_reserve(t, TOKENIZER_CHAR, size, bytes);
        for (int id = 0; id < size; id++) {
            size_t length = strlen(names[id]);
            memcpy(t->bytes + t->start[id], names[id], length);
            t->start[id + 1] = t->start[id] + (uint32_t)length;
        }
        tokenizer_index(t);
    }
    free(names);
    return wrong ? -1 : 0;
}

static inline int tokenizer_load_json(Tokenizer *t, const char *path, char *error, size_t room) {
    cJSON *root = bpe_read_json(path, error, room);
    if (!root) return -1;
    const cJSON *type = bpe_json_at(root, "model.type");
    Bpe bpe;
    int result;
    if (cJSON_IsString(type) && !strcmp(type->valuestring, "WordLevel")) result = tokenizer_take_words(t, root, path, error, room);
    else if ((result = bpe_take_json(&bpe, root, path, error, room)) == 0) result = tokenizer_of_bpe(t, &bpe, error, room);
    cJSON_Delete(root);
    return result;
}

// Reads a vocabulary: Hugging Face's tokenizer.json of a byte-pair encoding or of single characters, either one of GPT-2's pair of
// files, or the file that tokenizer_save or llm.c (version 2) writes. llm.c's tokens become a byte-pair encoding where they are
// one of GPT-2's kind. Returns 0, or -1 with a line that names path and what is damaged; t then needs no
// tokenizer_free.
static inline int tokenizer_load(Tokenizer *t, const char *path, char *error, size_t room) {
    memset(t, 0, sizeof *t);
    size_t n;
    char *file = read_file(path, &n);
    if (!file) {
        snprintf(error, room, "%s: cannot be read: %s", path, strerror(errno));
        return -1;
    }
    Bpe bpe;
    bool json = file[strspn(file, " \t\r\n")] == '{', encoder = json && tokenizer_is_encoder(file);
    if (encoder || strncmp(file, "#version", 8) == 0) {
        free(file);
        return tokenizer_load_pair(t, path, encoder, error, room);
    }
    if (json) {
        free(file);
        return tokenizer_load_json(t, path, error, room);
    }
    int32_t header[5] = { 0 };
    memcpy(header, file, n < sizeof header ? n : sizeof header);
    if (n < TOKENIZER_HEADER_BYTES || header[0] != TOKENIZER_MAGIC || header[1] != TOKENIZER_VERSION) {
        snprintf(error, room, "%s: not a tokenizer file (%d bytes of header with magic %d, version %d expected)", path,
                 TOKENIZER_HEADER_BYTES, TOKENIZER_MAGIC, TOKENIZER_VERSION);
        free(file);
        return -1;
    }
    int size = header[2], eot = header[3];
    if (size < 1 || size > TOKENIZER_MAX_TOKENS || eot < -1 || eot >= size) {
        snprintf(error, room, "%s: %d tokens, end-of-text %d: 1 to %d tokens and an id among them (or -1) expected",
                 path, size, eot, TOKENIZER_MAX_TOKENS);
        free(file);
        return -1;
    }
    tokenizer_reserve(t, header[4], size, n - TOKENIZER_HEADER_BYTES);
    t->eot = eot;
    size_t at = TOKENIZER_HEADER_BYTES;
    int id = 0;
    for (; id < size && at < n; id++) {
        size_t length = (uint8_t)file[at++];
        if (length == 0 || length > n - at) break;
        memcpy(t->bytes + t->start[id], file + at, length);
        t->start[id + 1] = t->start[id] + (uint32_t)length;
        at += length;
    }
    free(file);
    if (id < size || at != n) {
        if (id < size) snprintf(error, room, "%s: damaged: token %d of %d is empty or cut off", path, id, size);
        else snprintf(error, room, "%s: damaged: %zu bytes follow the last of %d tokens", path, n - at, size);
        tokenizer_free(t);
        return -1;
    }
    if (t->kind == TOKENIZER_OTHER && bpe_of_tokens(&bpe, t->bytes, t->start, (size_t)size) == 0) {
        if (tokenizer_find_eot(&bpe) == eot) {
            tokenizer_free(t);
            return tokenizer_of_bpe(t, &bpe, error, room);
        }
        bpe_free(&bpe);
    }
    tokenizer_index(t);
    return 0;
}

// Writes the file as a whole or not at all: a byte-pair encoding as tokenizer.json, else llm.c's, whose tokens are at
// most 255 bytes long. Returns 0, or -1 with errno set.
static inline int tokenizer_save(const Tokenizer *t, const char *path) {
    if (t->bpe) return bpe_save(t->bpe, path);
    int32_t header[TOKENIZER_HEADER_BYTES / 4] = { TOKENIZER_MAGIC, TOKENIZER_VERSION, t->size, t->eot, t->kind };
    size_t n = sizeof header;
    uint8_t *file = (uint8_t *)xmalloc(n + (size_t)t->size + t->start[t->size]);
    memcpy(file, header, n);
    for (int id = 0; id < t->size; id++) {
        size_t length = t->start[id + 1] - t->start[id];
        file[n++] = (uint8_t)length;
        memcpy(file + n, t->bytes + t->start[id], length);
        n += length;
    }
    int result = write_file(path, file, n), error = errno;
    free(file);
    errno = error;
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// The sidecar: DIR/vocabulary says which vocabulary the shards in DIR were written with, so that ids are never read with
// another one that happens to have as many tokens.

// A hash of what ids depend on: all tokens in their order, the end-of-text token, the merges, the added tokens that are
// made from text, the normalization. The file's format doesn't count.
static inline uint64_t tokenizer_hash(const Tokenizer *t) {
    uint64_t h = hash64((uint64_t)t->size, (uint64_t)(int64_t)t->eot);
    for (uint32_t i = 0; t->bpe && i < t->bpe->merge_count; i++)
        h = hash64(h, bpe_pair(t->bpe->merges[i].left, t->bpe->merges[i].right));
    for (size_t i = 0; t->bpe && i < t->bpe->added_count; i++)
        if (!t->bpe->added[i].special) h = hash64(h, t->bpe->added[i].id);
    if (t->bpe && t->bpe->nfc) h = hash64(h, hash_string("NFC"));
    for (int id = 0; id < t->size; id++) {
        h = hash64(h, t->start[id + 1] - t->start[id]);
        for (uint32_t i = t->start[id]; i < t->start[id + 1]; i++) h = mix64(h ^ t->bytes[i]);
    }
    return h;
}

// Writes DIR/vocabulary. Returns 0, or -1 with errno set.
static inline int tokenizer_sign(const Tokenizer *t, const char *dir) {
    char *path = format("%s/vocabulary", dir);
    char *line = format("%d tokens, hash %016llx\n", t->size, (unsigned long long)tokenizer_hash(t));
    int result = write_file(path, line, strlen(line)), error = errno;
    free(line);
    free(path);
    errno = error;
    return result;
}

// Whether t, read from `path`, is the vocabulary of DIR/vocabulary; a folder without that file is taken as it is.
// Returns 0, or -1 with a line that names both.
static inline int tokenizer_check(const Tokenizer *t, const char *path, const char *dir, char *error, size_t room) {
    char *sidecar = format("%s/vocabulary", dir);
    size_t n;
    char *line = read_file(sidecar, &n);
    int size = 0, result = 0;
    unsigned long long hash = 0;
    if (!line && errno != ENOENT) {
        snprintf(error, room, "%s: cannot be read: %s", sidecar, strerror(errno));
        result = -1;
    } else if (line && (sscanf(line, "%d tokens, hash %llx", &size, &hash) != 2)) {
        snprintf(error, room, "%s: not a vocabulary's sidecar (\"N tokens, hash ...\" expected)", sidecar);
        result = -1;
    } else if (line && (size != t->size || hash != tokenizer_hash(t))) {
        snprintf(error, room, "%s: another vocabulary than the one the shards were written with: %d tokens, hash %016llx; "
                 "%s says %d tokens, hash %016llx", path, t->size, (unsigned long long)tokenizer_hash(t), sidecar, size, hash);
        result = -1;
    }
    free(line);
    free(sidecar);
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Encoding and decoding

static inline const char *tokenizer_kind_name(const Tokenizer *t) {
    return t->kind == TOKENIZER_BYTE ? "byte" : t->kind == TOKENIZER_CHAR ? "char"
         : t->kind == TOKENIZER_BPE ? "bpe" : "other";
}

// The bytes of token id, *length of them, no NUL behind; NULL where id is not in 0 .. V-1.
static inline const char *tokenizer_token(const Tokenizer *t, int id, int *length) {
    if (id < 0 || id >= t->size) return NULL;
    *length = (int)(t->start[id + 1] - t->start[id]);
    return (const char *)t->bytes + t->start[id];
}

// How many ids n bytes of text can become: a token is at least one byte long.
static inline size_t tokenizer_room(const Tokenizer *t, size_t n) { return t->bpe ? bpe_room(t->bpe, n) : n; }

// n bytes of text to ids (tokenizer_room of them). A character is its token where the vocabulary
// has one, else its bytes' tokens where it has those. Returns the number of ids, or -1 with the line and the character
// named. A vocabulary of another kind (merged tokens) is refused: character by character it would be spelled in valid
// but wrong tokens, which a model was never trained on.
static inline long tokenizer_encode(const Tokenizer *t, const char *text, size_t n, uint32_t *ids, char *error,
                                    size_t room) {
    if (t->bpe) return bpe_encode(t->encoder, text, n, ids, error, room);
    if (t->kind != TOKENIZER_BYTE && t->kind != TOKENIZER_CHAR) {
        snprintf(error, room, "this vocabulary of %d tokens decodes only: encoding needs kind char, byte or bpe",
                 t->size);
        return -1;
    }
    long count = 0;
    for (size_t i = 0; i < n; ) {
        uint32_t c = 0;
        int length = utf8_decode(text + i, n - i, &c);
        if (length && t->char_id[c]) {
            ids[count++] = t->char_id[c] - 1;
            i += (size_t)length;
            continue;
        }
        for (size_t end = i + (size_t)(length ? length : 1); i < end; i++) {
            int id = t->byte_id[(uint8_t)text[i]];
            if (id >= 0) { ids[count++] = (uint32_t)id; continue; }
            size_t line = tokenizer_line(text, i);
            if (length) snprintf(error, room, "line %zu: character U+%04X is not in the vocabulary", line, (unsigned)c);
            else snprintf(error, room, "line %zu: byte 0x%02X is not UTF-8", line, (uint8_t)text[i]);
            return -1;
        }
    }
    return count;
}

#endif // TOKENIZER_H

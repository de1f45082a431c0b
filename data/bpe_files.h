/* bpe_files.h - the field's files of byte-pair encodings: Hugging Face's tokenizer.json, read and written; GPT-2's
 * encoder.json with vocab.bpe, and vocabularies of tokens alone (llm.c's), read.
 *
 * defines: bpe_load, bpe_load_gpt2, bpe_of_tokens, bpe_save
 *
 * Functions that can fail return -1 and put one line into `error` (room bytes) that names the file and the key. Needs
 * cJSON. Test: dev/test/test_bpe.c.
 */
#ifndef BPE_FILES_H
#define BPE_FILES_H

#include "../src/json.h"
#include "bpe.h"

// ---------------------------------------------------------------------------------------------------------------------
// Names: how these files write a token's bytes

// The byte that GPT-2 writes as this character (bpe_character); -1 where there is none.
static inline int bpe_byte(uint32_t character) {
    uint32_t byte = character < 0x100 ? character : character <= 0x120 ? character - 0x100
                  : character <= 0x142 ? character - 0x121 + 0x7f : 0xad;
    return bpe_character(byte) == character ? (int)byte : -1;
}

// The bytes of a name of n bytes, into bytes (room for n). Returns how many, or -1 where the name has another character
// than GPT-2's 256.
static inline long bpe_parse_name(const char *name, size_t n, uint8_t *bytes) {
    long count = 0;
    for (size_t i = 0; i < n; ) {
        uint32_t c = 0;
        int length = utf8_decode(name + i, n - i, &c), byte = length ? bpe_byte(c) : -1;
        if (byte < 0) return -1;
        bytes[count++] = (uint8_t)byte;
        i += (size_t)length;
    }
    return count;
}

// The name of a token: the opposite. The caller frees it.
static inline char *bpe_make_name(const uint8_t *bytes, size_t n) {
    uint8_t *name = (uint8_t *)xmalloc(2 * n + 1), *end = name;         // each of the 256 is one or two bytes long
    for (size_t i = 0; i < n; i++) end += utf8_encode(bpe_character(bytes[i]), end);
    *end = '\0';
    return (char *)name;
}

// The token of this name, or BPE_NONE.
static inline uint32_t bpe_named(const Bpe *b, const char *name, size_t n) {
    uint8_t *bytes = (uint8_t *)xmalloc(n);
    long count = bpe_parse_name(name, n, bytes);
    uint32_t id = count > 0 ? bpe_strings_find(&b->tokens, bytes, (size_t)count) : BPE_NONE;
    free(bytes);
    return id;
}

// ---------------------------------------------------------------------------------------------------------------------
// What a tokenizer.json says

// What a tokenizer.json may say, beside its tokens and merges: one of these values. Everything else would make other
// ids, but for the post-processor, which adds special tokens: the caller does that.
typedef struct { const char *key, *values; bool required; } BpeSetting;

static const BpeSetting bpe_settings[] = {
    { "truncation", "null", false },                { "padding", "null", false },
    { "normalizer", "null {\"type\":\"NFC\"}", false }, { "pre_tokenizer.type", "\"ByteLevel\" \"Sequence\"", true },
    { "post_processor.type", "\"ByteLevel\" \"TemplateProcessing\" \"Sequence\"", false },
    { "decoder.type", "\"ByteLevel\"", false },
    { "model.type", "\"BPE\"", false },             { "model.dropout", "null", false },
    { "model.continuing_subword_prefix", "\"\"", false }, { "model.end_of_word_suffix", "\"\"", false },
    { "model.byte_fallback", "false", false },      { "model.ignore_merges", "false true", false },
}, bpe_byte_level[] = {                             // GPT-2's split
    { "pre_tokenizer.add_prefix_space", "false", true }, { "pre_tokenizer.use_regex", "true", false },
}, bpe_sequence[] = {                               // a split by another pattern, its matches kept
    { "pre_tokenizer.pretokenizers.0.type", "\"Split\"", true },
    { "pre_tokenizer.pretokenizers.0.behavior", "\"Isolated\" \"Removed\"", true },
    { "pre_tokenizer.pretokenizers.1.type", "\"ByteLevel\"", true },
    { "pre_tokenizer.pretokenizers.1.add_prefix_space", "false", true },
    { "pre_tokenizer.pretokenizers.1.use_regex", "false", true },
    { "pre_tokenizer.pretokenizers.2", "null", false },
}, bpe_isolated = { "pre_tokenizer.pretokenizers.0.invert", "false", true },
  bpe_removed = { "pre_tokenizer.pretokenizers.0.invert", "true", true };

// "a.b" of an object, "a.0" of a list; NULL where there is none.
static inline const cJSON *bpe_json_at(const cJSON *object, const char *key) {
    const char *dot = strchr(key, '.');
    char *head = format("%.*s", (int)(dot ? dot - key : (long)strlen(key)), key);
    const cJSON *item = cJSON_IsArray(object) ? cJSON_GetArrayItem(object, atoi(head))
                                              : cJSON_GetObjectItemCaseSensitive(object, head);
    free(head);
    return dot && item ? bpe_json_at(item, dot + 1) : item;
}

static inline int bpe_check_settings(const cJSON *root, const BpeSetting *settings, size_t count, char *error,
                                     size_t room) {
    for (size_t i = 0; i < count; i++) {
        const cJSON *item = bpe_json_at(root, settings[i].key);
        if (!settings[i].required && (!item || cJSON_IsNull(item))) continue;
        char *value = item ? cJSON_PrintUnformatted(item) : xstrdup("missing");
        const char *at = value && *value ? strstr(settings[i].values, value) : NULL;
        bool accepted = at && strchr(" ", at[strlen(value)]);     // a whole one of them
        if (!accepted)
            snprintf(error, room, "%s: %.60s: %s expected", settings[i].key, value ? value : "?", settings[i].values);
        free(value);
        if (!accepted) return -1;
    }
    return 0;
}

// Everything but the tokens and the merges. Fills b's nfc, pattern and ignore_merges.
static inline int bpe_take_settings(Bpe *b, const cJSON *root, char *error, size_t room) {
    if (bpe_check_settings(root, bpe_settings, COUNT_OF(bpe_settings), error, room) != 0) return -1;
    b->nfc = cJSON_IsObject(bpe_json_at(root, "normalizer"));
    b->ignore_merges = cJSON_IsTrue(bpe_json_at(root, "model.ignore_merges"));
    if (strcmp(bpe_json_at(root, "pre_tokenizer.type")->valuestring, "ByteLevel") == 0)
        return bpe_check_settings(root, bpe_byte_level, COUNT_OF(bpe_byte_level), error, room);
    if (bpe_check_settings(root, bpe_sequence, COUNT_OF(bpe_sequence), error, room) != 0) return -1;
    bool removed = strcmp(bpe_json_at(root, "pre_tokenizer.pretokenizers.0.behavior")->valuestring, "Removed") == 0;
    if (bpe_check_settings(root, removed ? &bpe_removed : &bpe_isolated, 1, error, room) != 0) return -1;
    const cJSON *regex = bpe_json_at(root, "pre_tokenizer.pretokenizers.0.pattern.Regex");
    for (b->pattern = 0; b->pattern < (int)COUNT_OF(bpe_patterns); b->pattern++)
        if (cJSON_IsString(regex) && strcmp(regex->valuestring, bpe_patterns[b->pattern]) == 0) return 0;
    snprintf(error, room, "pre_tokenizer.pretokenizers.0.pattern.Regex: %.60s: the pattern of GPT-2, Llama 3, Qwen2 or "
             "GPT-4o expected", cJSON_IsString(regex) ? regex->valuestring : "missing");
    return -1;
}

// An id of a vocabulary of at most `size` tokens; -1 where item is none.
static inline long bpe_json_id(const cJSON *item, size_t size) {
    double x = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return x >= 0 && x < (double)size && x == (double)(long)x ? (long)x : -1;
}

typedef struct {
    const char *text;
    const cJSON *added;     // its entry in added_tokens, or NULL
    bool both;              // it is in the vocabulary too
} BpeName;

// The names of a vocabulary by id, from {"name": id, ...} and (NULL: none) [{"content": "text", "id": id, ...}, ...],
// into names (size of them, zeroed). Returns how many there are, or -1.
static inline long bpe_collect_names(BpeName *names, size_t size, const cJSON *vocab, const cJSON *added, char *error,
                                     size_t room) {
    const cJSON *item;
    long count = 0;
    cJSON_ArrayForEach(item, added) {
        const cJSON *content = bpe_json_at(item, "content");
        long id = bpe_json_id(bpe_json_at(item, "id"), size);
        if (!cJSON_IsString(content) || strlen(content->valuestring) < 2 || id < 0 || names[id].text) {
            snprintf(error, room, "added_tokens[%ld]: content of two characters or more, its own id expected", count);
            return -1;
        }
        static const char *const flags[] = { "single_word", "lstrip", "rstrip" };     // where a token counts as found
        for (size_t i = 0; i < COUNT_OF(flags) && !cJSON_IsTrue(bpe_json_at(item, "special")); i++) {
            if (!cJSON_IsTrue(bpe_json_at(item, flags[i]))) continue;
            snprintf(error, room, "added_tokens[%ld].%s: true: false expected of a token that is not special", count, flags[i]);
            return -1;
        }
        names[id] = (BpeName){ content->valuestring, item, false };
        count++;
    }
    cJSON_ArrayForEach(item, vocab) {
        long id = bpe_json_id(item, size);
        if (id >= 0 && names[id].added && !names[id].both && strcmp(names[id].text, item->string) == 0) {
            names[id].both = true;
            continue;
        }
        if (id < 0 || names[id].text) {
            snprintf(error, room, "model.vocab: \"%.40s\": an id of its own of 0, 1, 2, ... expected", item->string);
            return -1;
        }
        names[id] = (BpeName){ item->string, NULL, false };
        count++;
    }
    return count;
}

// Whether an added token has one id, and is found as `tokenizers` finds it: in a text that is cut by bpe_cut and, of
// those looked for in the normalized text, spelled as that is. Returns 0, or -1.
static inline int bpe_check_added(const Bpe *b, const BpeAdded *added, char *error, size_t room) {
    size_t n = bpe_string_length(&b->tokens, added->id), normal_length;
    char *text = format("%.*s", (int)n, (const char *)b->tokens.bytes + b->tokens.start[added->id]);
    char *normal = unicode_nfc(text, n, &normal_length);
    const char *wrong = NULL;
    uint32_t named = bpe_named(b, text, n);
    if (bpe_added(b, text) != added || (named != BPE_NONE && named != added->id)) wrong = "one id expected, there are two";
    else if (!b->any_plain) wrong = NULL;           // none is looked for
    else if (bpe_cut(text, 1, n) < n) wrong = "has a space or a line end behind other characters: not implemented";
    else if (b->nfc && added->normalized && (normal_length != n || memcmp(normal, text, n) != 0))
        wrong = "is not in normalization form C";
    if (wrong) snprintf(error, room, "added_tokens: \"%.40s\": %s", text, wrong);
    free(text);
    free(normal);
    return wrong ? -1 : 0;
}

static inline int bpe_take_vocab(Bpe *b, const cJSON *vocab, const cJSON *added, char *error, size_t room) {
    if (!cJSON_IsObject(vocab) || (added && !cJSON_IsArray(added) && !cJSON_IsNull(added))) {
        snprintf(error, room, cJSON_IsObject(vocab) ? "added_tokens: a list expected"
                                                    : "model.vocab: an object of tokens and their ids expected");
        return -1;
    }
    size_t size = (size_t)cJSON_GetArraySize(vocab) + (size_t)cJSON_GetArraySize(added);
    BpeName *names = (BpeName *)xcalloc(size, sizeof *names);
    long count = bpe_collect_names(names, size, vocab, added, error, room);
    bool taken = count >= 0;
    for (long id = 0; taken && id < count; id++) {
        const char *name = names[id].text;
        size_t length = name ? strlen(name) : 0;
        uint8_t *bytes = (uint8_t *)xmalloc(length);
        const cJSON *entry = names[id].added;
        bool special = entry && cJSON_IsTrue(bpe_json_at(entry, "special")), merged = !entry || (names[id].both && !special);
        long n = name && merged ? bpe_parse_name(name, length, bytes) : 0;
        bool same = !entry || ((size_t)n == length && memcmp(bytes, name, length) == 0);
        if (merged) taken = n > 0 && same && bpe_strings_add(&b->tokens, bytes, (size_t)n) == id;
        else bpe_strings_append(&b->tokens, name, length);
        if (entry && taken) bpe_add(b, (uint32_t)id, special, cJSON_IsTrue(bpe_json_at(entry, "normalized")));
        free(bytes);
        if (taken) continue;
        if (!name) snprintf(error, room, "model.vocab: no token has id %ld, of %ld tokens", id, count);
        else snprintf(error, room, "model.vocab: \"%.40s\": %s", name, !same ? "an added token, and other bytes here"
                      : n > 0 ? "a second token of these bytes" : "not a token of bytes (byte-level BPE)");
    }
    free(names);
    for (size_t i = 0; taken && i < b->added_count; i++) taken = bpe_check_added(b, &b->added[i], error, room) == 0;
    for (int byte = 0; taken && byte < 256; byte++) {
        b->byte_id[byte] = bpe_strings_find(&b->tokens, &(uint8_t){ (uint8_t)byte }, 1);
        if (b->byte_id[byte] != BPE_NONE) continue;
        snprintf(error, room, "model.vocab: no token is byte 0x%02X alone (byte-level BPE expected)", byte);
        taken = false;
    }
    return taken ? 0 : -1;
}

// The next merge: two tokens whose bytes together are a third.
static inline int bpe_take_merge(Bpe *b, const char *left, size_t left_length, const char *right, size_t right_length) {
    char *both = format("%.*s%.*s", (int)left_length, left, (int)right_length, right);
    uint32_t ids[3] = { bpe_named(b, left, left_length), bpe_named(b, right, right_length),
                        bpe_named(b, both, left_length + right_length) };
    free(both);
    if (ids[0] == BPE_NONE || ids[1] == BPE_NONE || ids[2] == BPE_NONE) return -1;
    bpe_add_merge(b, ids[0], ids[1], ids[2]);
    return 0;
}

// "left right", length bytes.
static inline int bpe_take_merge_line(Bpe *b, const char *line, size_t length) {
    const char *space = (const char *)memchr(line, ' ', length);
    return space ? bpe_take_merge(b, line, (size_t)(space - line), space + 1, length - (size_t)(space - line) - 1) : -1;
}

// ["left right", ...] or [["left", "right"], ...]
static inline int bpe_take_merges(Bpe *b, const cJSON *merges, char *error, size_t room) {
    const cJSON *item;
    long i = 0;
    if (!cJSON_IsArray(merges)) {
        snprintf(error, room, "model.merges: a list expected");
        return -1;
    }
    cJSON_ArrayForEach(item, merges) {
        int taken = -1;
        const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;
        if (cJSON_IsString(item))
            taken = bpe_take_merge_line(b, item->valuestring, strlen(item->valuestring));
        else if (cJSON_IsString(left) && cJSON_IsString(right) && !right->next)
            taken = bpe_take_merge(b, left->valuestring, strlen(left->valuestring), right->valuestring,
                                   strlen(right->valuestring));
        if (taken != 0) {
            snprintf(error, room, "model.merges[%ld]: two tokens expected that together are one of model.vocab", i);
            return -1;
        }
        i++;
    }
    return 0;
}

// The object in a file, to be deleted; NULL with a line that names path and line where it is none.
static inline cJSON *bpe_read_json(const char *path, char *error, size_t room) {
    JsonReader r = { .name = path, .has_lines = true, .error = error, .room = room };
    size_t n;
    char *text = read_file(path, &n);
    if (!text) {
        snprintf(error, room, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    cJSON *root = json_parse_object(&r, text, n) ? r.root : NULL;
    if (root) r.root = NULL;                    // it stays
    json_free(&r);
    free(text);
    return root;
}

// Puts "path: " before a reason. Returns -1, b freed.
static inline int bpe_refuse(Bpe *b, const char *path, const char *reason, char *error, size_t room) {
    snprintf(error, room, "%s: %s", path, reason);
    for (char *c = error; *c; c++)
        if ((unsigned char)*c < ' ') *c = '?';      // of a name: one line it stays
    bpe_free(b);
    return -1;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading: tokenizer.json, GPT-2's pair of files, tokens alone

// Takes what a tokenizer.json of byte-level BPE type with a split of bpe_patterns says. Returns 0, or -1 with a line that names
// path and the key; b then needs no bpe_free.
static inline int bpe_take_json(Bpe *b, const cJSON *root, const char *path, char *error, size_t room) {
    memset(b, 0, sizeof *b);
    char reason[256];
    bpe_pairs_make(&b->ranks, 1024);
    bool taken = bpe_take_settings(b, root, reason, sizeof reason) == 0 &&
                 bpe_take_vocab(b, bpe_json_at(root, "model.vocab"), bpe_json_at(root, "added_tokens"), reason,
                                sizeof reason) == 0 &&
                 bpe_take_merges(b, bpe_json_at(root, "model.merges"), reason, sizeof reason) == 0;
    return taken ? 0 : bpe_refuse(b, path, reason, error, room);
}

// Reads such a file.
static inline int bpe_load(Bpe *b, const char *path, char *error, size_t room) {
    cJSON *root = bpe_read_json(path, error, room);
    int result = root ? bpe_take_json(b, root, path, error, room) : -1;
    cJSON_Delete(root);
    return result;
}

// Whether a file that doesn't say how it splits can be GPT-2's: every token is special, a byte or what a merge makes
// (CLIP's and others mark the end of a word; half a file makes less), and of ASCII is within one piece (those of
// Llama 3, GPT-4 and Qwen have ".\n" and "(s"). Returns 0, or -1.
static inline int bpe_check_gpt2(const Bpe *b, char *error, size_t room) {
    BpeSplitter splitter;
    if (bpe_splitter_open(&splitter, 0, error, room) != 0) return -1;
    bool *made = (bool *)xcalloc(b->tokens.count, sizeof *made);
    for (int byte = 0; byte < 256; byte++) made[b->byte_id[byte]] = true;
    for (size_t i = 0; i < b->added_count; i++) made[b->added[i].id] = true;
    for (uint32_t i = 0; i < b->merge_count; i++) made[b->merges[i].token] = true;
    int result = 0;
    for (uint32_t id = 0; result == 0 && id < b->tokens.count; id++) {
        size_t n, ascii = 0;
        const char *token = bpe_token(b, id, &n), *piece;
        while (ascii < n && (signed char)token[ascii] >= 0) ascii++;
        bpe_splitter_start(&splitter, token, n);
        bool checked = ascii == n && bpe_special(b, BPE_EOT) != id;
        bool whole = !checked || bpe_split(&splitter, &piece, error, room) == (long)n;
        if (made[id] && whole) continue;
        char *name = bpe_make_name((const uint8_t *)token, n);
        snprintf(error, room, "token %u, \"%.40s\", is %s: not a vocabulary with GPT-2's split (its tokenizer.json "
                 "expected)", id, name, made[id] ? "more than a piece" : "made by no merge");
        free(name);
        result = -1;
    }
    free(made);
    bpe_splitter_close(&splitter);
    return result;
}

// Reads GPT-2's two files: {"name": id, ...}, and a line "left right" for each merge. <|endoftext|> is special.
static inline int bpe_load_gpt2(Bpe *b, const char *encoder_json, const char *vocab_bpe, char *error, size_t room) {
    memset(b, 0, sizeof *b);
    size_t n;
    char *text = read_file(vocab_bpe, &n), reason[256];
    if (!text) {
        snprintf(error, room, "%s: cannot be read: %s", vocab_bpe, strerror(errno));
        return -1;
    }
    cJSON *vocab = bpe_read_json(encoder_json, error, room), *added = cJSON_CreateArray();
    if (!vocab) {
        free(text);
        cJSON_Delete(added);
        return -1;
    }
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(vocab, BPE_EOT);
    if (id) {
        cJSON *special = cJSON_CreateObject();
        cJSON_AddStringToObject(special, "content", BPE_EOT);
        cJSON_AddNumberToObject(special, "id", cJSON_GetNumberValue(id));
        cJSON_AddTrueToObject(special, "special");
        cJSON_AddItemToArray(added, special);
    }
    bpe_pairs_make(&b->ranks, 1024);
    int result = bpe_take_vocab(b, vocab, added, reason, sizeof reason);
    if (result != 0) bpe_refuse(b, encoder_json, reason, error, room);
    size_t line = 1;
    for (const char *at = text; result == 0 && at < text + n; line++) {
        size_t length = strcspn(at, "\n");
        bool comment = line == 1 && strncmp(at, "#version", 8) == 0;
        if (!comment && bpe_take_merge_line(b, at, length) != 0) {
            snprintf(reason, sizeof reason, "line %zu: two tokens expected that together are one of %.80s", line,
                     encoder_json);
            result = bpe_refuse(b, vocab_bpe, reason, error, room);
        }
        at += length + 1;
    }
    if (result == 0 && bpe_check_gpt2(b, reason, sizeof reason) != 0)
        result = bpe_refuse(b, vocab_bpe, reason, error, room);
    cJSON_Delete(vocab);
    cJSON_Delete(added);
    free(text);
    return result;
}

// Makes a vocabulary of its `count` tokens alone (token i is bytes[start[i]] .. bytes[start[i + 1] - 1]), whose ids are
// in the order of the merges, as GPT-2's are: what the merges before a token make of its bytes must be two tokens, and
// the pair of them is its merge. There is no other merge of the same token: wherever a text has these bytes and nothing
// joins them with their neighbours, the same merges lead to the same pair. Returns 0, or -1 where the tokens are of
// another kind; b then needs no bpe_free.
static inline int bpe_of_tokens(Bpe *b, const uint8_t *bytes, const uint32_t *start, size_t count) {
    memset(b, 0, sizeof *b);
    bpe_pairs_make(&b->ranks, 1024);
    memset(b->byte_id, 0xff, sizeof b->byte_id);
    bool taken = true;
    for (size_t id = 0; taken && id < count; id++) {
        const uint8_t *token = bytes + start[id];
        size_t n = start[id + 1] - start[id];
        bool special = n == strlen(BPE_EOT) && memcmp(token, BPE_EOT, n) == 0 && b->added_count == 0;
        if (special) bpe_add_special(b, BPE_EOT);
        else taken = n <= BPE_SHORT_ROOM && bpe_strings_add(&b->tokens, token, n) == id;
        if (n == 1) b->byte_id[*token] = (uint32_t)id;
    }
    for (int byte = 0; byte < 256; byte++) taken = taken && b->byte_id[byte] != BPE_NONE;
    for (uint32_t id = 0; taken && id < count; id++) {
        const uint8_t *token = bytes + start[id];
        size_t n = start[id + 1] - start[id];
        uint32_t ids[BPE_SHORT_ROOM];
        if (n == 1 || (b->added_count && id == b->added[0].id)) continue;
        for (size_t i = 0; i < n; i++) ids[i] = b->byte_id[token[i]];
        taken = bpe_merge_short(b, ids, n) == 2;
        if (taken) bpe_add_merge(b, ids[0], ids[1], id);
    }
    char reason[256];
    if (taken && bpe_check_gpt2(b, reason, sizeof reason) == 0) return 0;
    bpe_free(b);
    return -1;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing: tokenizer.json

static inline cJSON *bpe_byte_level_json(bool use_regex) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "ByteLevel");
    cJSON_AddFalseToObject(object, "add_prefix_space");
    cJSON_AddTrueToObject(object, "trim_offsets");
    cJSON_AddBoolToObject(object, "use_regex", use_regex);
    return object;
}

static inline cJSON *bpe_pre_tokenizer_json(int pattern) {
    if (pattern == 0) return bpe_byte_level_json(true);
    cJSON *object = cJSON_CreateObject(), *split = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "Sequence");
    cJSON *list = cJSON_AddArrayToObject(object, "pretokenizers");
    cJSON_AddStringToObject(split, "type", "Split");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(split, "pattern"), "Regex", bpe_patterns[pattern]);
    cJSON_AddStringToObject(split, "behavior", "Isolated");
    cJSON_AddFalseToObject(split, "invert");
    cJSON_AddItemToArray(list, split);
    cJSON_AddItemToArray(list, bpe_byte_level_json(false));
    return object;
}

// Writes a tokenizer.json as a whole or not at all. Returns 0, or -1 with errno set.
static inline int bpe_save(const Bpe *b, const char *path) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", "1.0");
    cJSON_AddNullToObject(root, "truncation");
    cJSON_AddNullToObject(root, "padding");
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens");
    char **names = (char **)xcalloc(b->tokens.count, sizeof *names);
    for (size_t i = 0; i < b->added_count; i++) {
        static const char *const flags[] = { "single_word", "lstrip", "rstrip" };
        uint32_t id = b->added[i].id;
        size_t n;
        const char *text = bpe_token(b, id, &n);
        cJSON *object = cJSON_CreateObject();
        names[id] = format("%.*s", (int)n, text);
        cJSON_AddNumberToObject(object, "id", id);
        cJSON_AddStringToObject(object, "content", names[id]);
        for (size_t k = 0; k < COUNT_OF(flags); k++) cJSON_AddFalseToObject(object, flags[k]);
        cJSON_AddBoolToObject(object, "normalized", b->added[i].normalized);
        cJSON_AddBoolToObject(object, "special", b->added[i].special);
        cJSON_AddItemToArray(added, object);
    }
    if (b->nfc) cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "normalizer"), "type", "NFC");
    else cJSON_AddNullToObject(root, "normalizer");
    cJSON_AddItemToObject(root, "pre_tokenizer", bpe_pre_tokenizer_json(b->pattern));
    cJSON_AddItemToObject(root, "post_processor", bpe_byte_level_json(true));
    cJSON_AddItemToObject(root, "decoder", bpe_byte_level_json(true));

    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddNullToObject(model, "dropout");
    cJSON_AddNullToObject(model, "unk_token");
    cJSON_AddNullToObject(model, "continuing_subword_prefix");
    cJSON_AddNullToObject(model, "end_of_word_suffix");
    cJSON_AddFalseToObject(model, "fuse_unk");
    cJSON_AddFalseToObject(model, "byte_fallback");
    cJSON_AddBoolToObject(model, "ignore_merges", b->ignore_merges);
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    for (uint32_t id = 0; id < b->tokens.count; id++) {
        size_t n;
        const char *bytes = bpe_token(b, id, &n);
        bool merged = !names[id];
        if (merged) names[id] = bpe_make_name((const uint8_t *)bytes, n);
        if (merged || bpe_special(b, names[id]) == id || bpe_strings_find(&b->tokens, bytes, n) == id)
            cJSON_AddNumberToObject(vocab, names[id], id);
    }
    for (uint32_t i = 0; i < b->merge_count; i++) {
        char *line = format("%s %s", names[b->merges[i].left], names[b->merges[i].right]);
        cJSON_AddItemToArray(merges, cJSON_CreateString(line));
        free(line);
    }
    char *text = cJSON_Print(root);
    if (!text) fail("out of memory: %zu tokens as JSON", b->tokens.count);
    int result = write_file(path, text, strlen(text)), error = errno;
    for (size_t id = 0; id < b->tokens.count; id++) free(names[id]);
    free(names);
    free(text);
    cJSON_Delete(root);
    errno = error;
    return result;
}

#endif // BPE_FILES_H

/* import_gguf.h - reads a model in llama.cpp's format (gguf_model.h), with its tokenizer.
 *
 * defines: import_gguf
 *
 * Tokenizers are byte-level BPE there. One that is what export_gguf.h makes of bytes or characters becomes that again; one that can't
 * be read here is told in a line, and the model has none then.
 */
#ifndef IMPORT_GGUF_H
#define IMPORT_GGUF_H

#include "gguf_model.h"             // defines: gguf_take_model, gguf_check_keys, gguf_tensors

// ---------------------------------------------------------------------------------------------------------------------
// The tokenizer

// A vocabulary as the file has it: token i is named[i], length[i] bytes of the file.
typedef struct { const char **named; size_t *length; int32_t *type; int n; } GgufTokens;

static void gguf_tokens_free(GgufTokens *t) { free(t->named), free(t->length), free(t->type); }

// Without rows at the end that are no tokens. Returns what is wrong, or NULL.
static const char *gguf_take_tokens(GgufTokens *t, const GgufFile *g, int V) {
    const GgufKey *names = gguf_key(g, "tokenizer.ggml.tokens"), *types = gguf_key(g, "tokenizer.ggml.token_type");
    *t = (GgufTokens){0};
    if (!names || names->type != GGUF_ARRAY || names->item != GGUF_STRING || names->count == 0 || names->count > (uint64_t)V)
        return "tokenizer.ggml.tokens: an array of strings is expected, at most as many as the embedding has rows";
    if (types && (types->type != GGUF_ARRAY || types->item != GGUF_I32 || types->count != names->count))
        return "tokenizer.ggml.token_type: an array of as many i32 as tokens is expected";
    t->n = (int)names->count;
    t->named = xmalloc((size_t)t->n * sizeof *t->named);
    t->length = xmalloc((size_t)t->n * sizeof *t->length);
    t->type = xcalloc((size_t)t->n, sizeof *t->type);
    if (types) memcpy(t->type, types->at, (size_t)t->n * sizeof *t->type);
    const uint8_t *at = names->at;
    for (int i = 0; i < t->n; i++) {
        t->named[i] = gguf_next_string(&at, &t->length[i]);
        if (!t->length[i] || memchr(t->named[i], 0, t->length[i])) return "tokenizer.ggml.tokens: a name is empty or has a byte 0";
    }
    while (t->n > 1 && t->type[t->n - 1] == TOKEN_UNUSED) t->n--;
    return NULL;
}

// Makes out of tokens that are one byte each, byte i token i, or one character each, the vocabulary of bytes or of characters that it
// was; an end-of-text token behind them has no part in it. false where it is another one.
static bool gguf_take_characters(Tokenizer *out, const GgufTokens *t, uint64_t merges) {
    int n = t->n - (t->n > 1 && t->type[t->n - 1] == TOKEN_CONTROL);
    bool bytes = n == 256 && !merges, characters = true;
    uint8_t *all = xmalloc(4 * (size_t)n);
    uint32_t *start = xcalloc((size_t)n + 1, sizeof *start), c;
    for (int i = 0; i < n && (bytes || characters); i++) {
        uint8_t token[16];
        long length = t->length[i] <= sizeof token ? bpe_parse_name(t->named[i], t->length[i], token) : -1;
        bytes = bytes && length == 1 && token[0] == i;
        characters = characters && length > 0 && utf8_decode((const char *)token, (size_t)length, &c) == length;
        if (!bytes && !characters) break;
        memcpy(all + start[i], token, (size_t)length);
        start[i + 1] = start[i] + (uint32_t)length;
    }
    if (bytes) tokenizer_bytes(out);
    else if (characters) {
        tokenizer_reserve(out, TOKENIZER_CHAR, n, start[n]);
        memcpy(out->bytes, all, start[n]);
        memcpy(out->start, start, ((size_t)n + 1) * sizeof *start);
        tokenizer_index(out);
    }
    free(all), free(start);
    return bytes || characters;
}

// The split of a name; -1 where there is none here.
static int gguf_split_named(const GgufFile *g) {
    const GgufKey *k = gguf_key(g, "tokenizer.ggml.pre");
    const uint8_t *at = k ? k->at : NULL;
    size_t n = 0;
    const char *name = k && k->type == GGUF_STRING ? gguf_next_string(&at, &n) : "";
    for (int i = 0; i < (int)COUNT_OF(gguf_splits); i++)
        if (strlen(gguf_splits[i].name) == n && !memcmp(gguf_splits[i].name, name, n)) return i;
    return -1;
}

// The tokens and merges of a byte-pair encoding into b. Returns 0, or -1 with what is wrong in reason; b then needs no bpe_free.
static int gguf_take_bpe(Bpe *b, const GgufFile *g, const GgufTokens *t, const GgufKey *merges, char *reason, size_t room) {
    memset(b, 0, sizeof *b);
    b->pattern = gguf_split_named(g);
    if (b->pattern < 0) {
        snprintf(reason, room, "tokenizer.ggml.pre: gpt-2, llama-bpe, qwen2 or gpt-4o is expected");
        return -1;
    }
    b->ignore_merges = gguf_splits[b->pattern].ignore_merges;
    b->nfc = !strcmp(gguf_splits[b->pattern].name, "qwen2");               // its owner's does, and GGUF has no key for it
    bpe_pairs_make(&b->ranks, 1024);
    cJSON *vocab = cJSON_CreateObject(), *added = cJSON_CreateArray();
    for (int i = 0; i < t->n; i++) {
        char *name = format("%.*s", (int)t->length[i], t->named[i]);
        if (t->type[i] >= TOKEN_CONTROL && t->type[i] <= TOKEN_UNUSED) {
            cJSON *item = cJSON_CreateObject();
            cJSON_AddStringToObject(item, "content", name);
            cJSON_AddNumberToObject(item, "id", i);
            cJSON_AddBoolToObject(item, "special", t->type[i] != TOKEN_USER_DEFINED);
            cJSON_AddItemToArray(added, item);
        } else cJSON_AddNumberToObject(vocab, name, i);
        free(name);
    }
    int result = bpe_take_vocab(b, vocab, added, reason, room);
    const uint8_t *at = merges->at;
    for (uint64_t i = 0; result == 0 && i < merges->count; i++) {
        size_t n;
        const char *line = gguf_next_string(&at, &n);
        result = bpe_take_merge_line(b, line, n);
        if (result != 0) snprintf(reason, room, "tokenizer.ggml.merges: %llu: two tokens expected that together are one", (unsigned long long)i);
    }
    cJSON_Delete(vocab), cJSON_Delete(added);
    if (result != 0) bpe_free(b);
    return result;
}

// Makes out of the file's tokenizer one of ours. Returns 0, or -1 with what is wrong in reason.
static int gguf_take_tokenizer(Tokenizer *out, const GgufFile *g, int V, char *reason, size_t room) {
    const GgufKey *model = gguf_key(g, "tokenizer.ggml.model"), *merges = gguf_key(g, "tokenizer.ggml.merges");
    char *is = model ? gguf_value_text(model) : xstrdup("missing");
    bool known = !strcmp(is, "\"gpt2\"");
    if (!known) snprintf(reason, room, "tokenizer.ggml.model is %s: \"gpt2\" is expected", is);
    free(is);
    if (!known) return -1;
    GgufTokens t;
    const char *wrong = gguf_take_tokens(&t, g, V);
    if (!wrong && (!merges || merges->type != GGUF_ARRAY || merges->item != GGUF_STRING)) wrong = "tokenizer.ggml.merges: an array of strings is expected";
    int result = wrong ? -1 : 0;
    Bpe b;
    if (wrong) snprintf(reason, room, "%s", wrong);
    else if (!gguf_take_characters(out, &t, merges->count)) {
        result = gguf_take_bpe(&b, g, &t, merges, reason, room);
        if (result == 0) result = tokenizer_of_bpe(out, &b, reason, room);
    }
    gguf_tokens_free(&t);
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// The model

// The rows of position_embd up to the last one that isn't zeros: the rest fills up to a multiple (gguf_positions).
static int gguf_used_positions(const SafeTensor *t) {
    size_t rows = (size_t)t->shape[0], cols = (size_t)t->shape[1], n = rows * cols;
    float *x = xmalloc(n * sizeof *x);
    tensor_floats(x, t->of, n, t->type);
    while (n > 0 && x[n - 1] == 0) n--;
    free(x);
    return max_int(1, (int)((n + cols - 1) / cols));
}

// Ends the program where the file is none, or of a model that can't be had here.
static void import_gguf(OpenModel *o, const char *path, int64_t context) {
    GgufFile g;
    char error[ERROR_ROOM];
    if (gguf_open(&g, path, error, sizeof error) != 0) fail("%s", error);
    Keys k = {0};
    gguf_take_model(&k, &g);
    const SafeTensor *stretches = gguf_arch_of(&g) == GGUF_LLAMA ? gguf_tensor(&g, GGUF_STRETCHES) : NULL;
    if (stretches) gguf_take_stretches(&k, &g, stretches);
    const SafeTensor *positions = gguf_tensor(&g, "position_embd.weight");
    int theirs = gguf_size(&g, gguf_archs[gguf_arch_of(&g)].name, "context_length", -1);
    if (positions && positions->ndim == 2) theirs = gguf_used_positions(positions);
    if (positions) check_no_context(context);
    keys_set(&k, "model.context", "%d", positions ? theirs : import_context(theirs, context));
    double numbers = 0;
    for (int i = 0; i < g.n_tensors; i++) numbers += (double)safetensor_numbers(&g.tensors[i]);
    import_plan(o, &k, path, numbers);
    gguf_check_keys(&g, &o->model);
    if (stretches) gguf_check_stretches(&g, stretches, &o->model);
    TensorList list = {.type = TENSOR_F32};
    gguf_tensors(&list, &o->model);
    for (int i = 0; i < list.n && positions; i++)
        if (!strcmp(list.tensors[i].name, positions->name) && positions->ndim == 2) list.tensors[i].shape[0] = positions->shape[0];
    const SafeTensor **of = match_tensors(&list, g.tensors, g.n_tensors, "", stretches ? GGUF_STRETCHES : "", path);
    take_tensors(&list, of, path);
    if (gguf_take_tokenizer(&o->tokenizer, &g, o->model.V, error, sizeof error) != 0) {
        o->tokenizer = (Tokenizer){.eot = -1};
        printf("no tokenizer: %s: %s\n", path, error);
    }
    const GgufKey *end = gguf_key(&g, "tokenizer.ggml.eos_token_id");
    char *ends = end ? gguf_value_text(end) : NULL, *ours = format("%d", o->tokenizer.eot);
    if (ends && strcmp(ends, ours)) tell_other_end(o, ends);
    free(ends), free(ours);
    free(of);
    list_free(&list), gguf_close(&g);
}

#endif // IMPORT_GGUF_H

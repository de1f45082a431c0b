/* export_gguf.h - one file for llama.cpp and what is built on it: the model (gguf_model.h) and its tokenizer.
 *
 * defines: export_gguf
 *
 * The tokenizer is llama.cpp's model "gpt2", byte-level BPE, whatever it is here: a vocabulary of bytes has no merges, one of
 * characters those that build its characters of several bytes, byte by byte.
 */
#ifndef EXPORT_GGUF_H
#define EXPORT_GGUF_H

#include "gguf_model.h"             // defines: gguf_check, gguf_tensors, gguf_put_model

// Whether the merges make every token out of its bytes: then it doesn't matter whether they are ignored for whole pieces.
static bool gguf_merges_make_all(const Bpe *b) {
    bool *added = xcalloc(b->tokens.count, sizeof *added), all = true;
    for (size_t i = 0; i < b->added_count; i++) added[b->added[i].id] = true;
    for (uint32_t id = 0; all && id < b->tokens.count; id++) {
        size_t n;
        const uint8_t *bytes = (const uint8_t *)bpe_token(b, id, &n);
        uint32_t ids[BPE_SHORT_ROOM];
        if (added[id]) continue;
        for (size_t i = 0; i < n && n <= BPE_SHORT_ROOM; i++) ids[i] = b->byte_id[bytes[i]];
        all = n <= BPE_SHORT_ROOM && bpe_merge_short(b, ids, n) == 1;
    }
    free(added);
    return all;
}

// The name of token id in the file, to be freed, and its type.
static char *gguf_token(const Tokenizer *t, int id, int eot, GgufTokenType *type) {
    int length = 0;
    const char *bytes = tokenizer_token(t, id, &length);
    *type = id == eot && (id >= t->size || t->bpe) ? TOKEN_CONTROL : bytes ? TOKEN_NORMAL : TOKEN_UNUSED;
    if (!bytes) return *type == TOKEN_CONTROL ? xstrdup(BPE_EOT) : format("unused %d", id);      // a blank: no other name has one
    for (size_t i = 0; t->bpe && i < t->bpe->added_count; i++)
        if (t->bpe->added[i].id == (uint32_t)id) {
            *type = t->bpe->added[i].special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
            return format("%.*s", length, bytes);
        }
    return bpe_make_name((const uint8_t *)bytes, (size_t)length);
}

static void gguf_put_tokens(GgufKeys *k, const Tokenizer *t, int V, int eot, const char *run) {
    GgufTokenType *types = xmalloc((size_t)V * sizeof *types);
    BpeStrings names = {0};
    gguf_put_array(k, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)V);
    for (int id = 0; id < V; id++) {
        char *name = gguf_token(t, id, eot, &types[id]);
        if (bpe_strings_add(&names, name, strlen(name)) != (uint32_t)id)
            fail("%s: tokens %u and %d are both \"%.40s\" in a GGUF file, which llama.cpp refuses", run, bpe_strings_find(&names, name, strlen(name)), id, name);
        gguf_add_string(k, name, strlen(name));
        free(name);
    }
    gguf_put_array(k, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)V);
    for (int id = 0; id < V; id++) gguf_add_i32(k, (int32_t)types[id]);
    bpe_strings_free(&names);
    free(types);
}

// The merges that build each character of several bytes from its first on. Returns them, two names with a blank between, each once.
static BpeStrings gguf_character_merges(const Tokenizer *t) {
    BpeStrings merges = {0};
    for (int id = 0; id < t->size; id++) {
        int length = 0;
        const uint8_t *bytes = (const uint8_t *)tokenizer_token(t, id, &length);
        for (int n = 1; n < length; n++) {
            char *left = bpe_make_name(bytes, (size_t)n), *right = bpe_make_name(bytes + n, 1), *merge = format("%s %s", left, right);
            bpe_strings_add(&merges, merge, strlen(merge));
            free(left), free(right), free(merge);
        }
    }
    return merges;
}

static void gguf_put_merges(GgufKeys *k, const Tokenizer *t) {
    BpeStrings merges = {0};
    if (!t->bpe) merges = gguf_character_merges(t);
    for (uint32_t i = 0; t->bpe && i < t->bpe->merge_count; i++) {
        size_t left_length, right_length;
        const char *left_bytes = bpe_token(t->bpe, t->bpe->merges[i].left, &left_length), *right_bytes = bpe_token(t->bpe, t->bpe->merges[i].right, &right_length);
        char *left = bpe_make_name((const uint8_t *)left_bytes, left_length), *right = bpe_make_name((const uint8_t *)right_bytes, right_length),
             *merge = format("%s %s", left, right);
        bpe_strings_append(&merges, merge, strlen(merge));
        free(left), free(right), free(merge);
    }
    gguf_put_array(k, "tokenizer.ggml.merges", GGUF_STRING, merges.count);
    for (size_t i = 0; i < merges.count; i++) gguf_add_string(k, (const char *)merges.bytes + merges.start[i], bpe_string_length(&merges, i));
    bpe_strings_free(&merges);
}

// The token that the model expects least: of all tokens the one whose largest logit over their mean, behind any other one, is
// lowest. The model reads its vocabulary, as many tokens at once as its context holds.
static int gguf_least_expected(Model *m, const Tokenizer *t) {
    float *most = xmalloc((size_t)m->V * sizeof *most);
    int *ids = xmalloc((size_t)m->T * sizeof *ids), least = 0;
    for (int v = 0; v < m->V; v++) most[v] = -INFINITY;
    for (int first = 0; first < t->size; first += m->T) {
        int n = t->size - first < m->T ? t->size - first : m->T;
        for (int i = 0; i < n; i++) ids[i] = first + i;
        trunk_forward(m, ids, (Batch){.B = 1, .T = n});
        for (int i = 0; i < n; i++) {
            float *z = m->logits, mean = 0;
            linear_forward(z, m->norm + (size_t)i * m->C, model_linear(m, PRODUCT_OUTPUT, 0), 1, (Epilogue){0});
            for (int v = 0; v < m->V; v++) mean += z[v] / (float)m->V;
            for (int v = 0; v < m->V; v++) most[v] = fmaxf(most[v], z[v] - mean);
        }
    }
    for (int v = 1; v < m->V; v++)
        if (most[v] < most[least]) least = v;
    free(most), free(ids);
    return least;
}

// llama.cpp ends a text at token 11 where a file names none. The vocabulary's own end-of-text token; else a row that the model has
// beside its tokens; else one of them, so that logits and vocabulary stay what they are.
static int gguf_choose_eot(Model *m, const Tokenizer *t) {
    if (t->eot >= 0) return t->eot;
    if (m->V > t->size) return t->size;
    choose_threads();
    int id = gguf_least_expected(m, t), length = 0;
    const char *bytes = tokenizer_token(t, id, &length);
    char *name = bpe_make_name((const uint8_t *)bytes, (size_t)length);
    printf("llama.cpp needs an end-of-text token and the vocabulary has none: the one that the model expects least ends a text there, \"%s\"\n", name);
    free(name);
    return id;
}

static void gguf_put_tokenizer(GgufKeys *k, OpenModel *o, const char *run) {
    const Tokenizer *t = &o->tokenizer;
    if (!t->size) {
        gguf_put_string(k, "tokenizer.ggml.model", "no_vocab");
        return;
    }
    int eot = gguf_choose_eot(&o->model, t), pattern = t->bpe ? t->bpe->pattern : 0;
    if (t->bpe && t->bpe->ignore_merges != gguf_splits[pattern].ignore_merges && !gguf_merges_make_all(t->bpe))
        fail("%s: tokenizer.json has ignore_merges %s, which llama.cpp's \"%s\" can't say: some tokens are made by no merge", run,
             t->bpe->ignore_merges ? "true" : "false", gguf_splits[pattern].name);
    gguf_put_string(k, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(k, "tokenizer.ggml.pre", gguf_splits[pattern].name);
    gguf_put_tokens(k, t, o->model.V, eot, run);
    gguf_put_merges(k, t);
    gguf_put_u32(k, "tokenizer.ggml.bos_token_id", (uint32_t)eot);
    gguf_put_u32(k, "tokenizer.ggml.eos_token_id", (uint32_t)eot);
    gguf_put_bool(k, "tokenizer.ggml.add_bos_token", false);
    gguf_put_bool(k, "tokenizer.ggml.add_eos_token", false);
}

// What llama.cpp does otherwise, a line for each thing.
static void gguf_say(const OpenModel *o) {
    const Model *m = &o->model;
    const Config *c = m->config;
    const Tokenizer *t = &o->tokenizer;
    if (gguf_arch(c) == GGUF_GPT2 && !c->model.bias) printf("llama.cpp's gpt2 has biases: zeros are written\n");
    if (gguf_positions(m) != m->T)
        printf("llama.cpp makes contexts of a multiple of %d: positions %d to %d are zeros, run it with a context of %d\n", POSITIONS_MULTIPLE, m->T,
               gguf_positions(m) - 1, m->T);
    if (gguf_arch(c) == GGUF_GPT2) printf("llama.cpp's GELU is a table in float16: its logits differ by up to 3e-4 of the largest\n");
    if (m->router.E && !c->model.shared_experts) printf("llama.cpp's deepseek2 has a shared expert: one of zeros is written\n");
    if (t->kind == TOKENIZER_CHAR) printf("llama.cpp leaves out of a prompt, without a word, what is not in this vocabulary of %d characters\n", t->size);
    if (t->bpe && t->bpe->nfc) printf("llama.cpp does not normalize a prompt to Unicode's form C, as this tokenizer does\n");
}

// Whether the keys of the header, read again, are those of a model with just its tensors: checked before anything is written. By how much
// RoPE is slower, only a tensor's numbers say.
static void gguf_check_header(const char *path, const char *header, size_t size, uint64_t file_size, const Config *of) {
    char error[ERROR_ROOM];
    GgufFile g;
    if (gguf_parse(&g, path, header, size, file_size, error, sizeof error) != 0) fail("%s", error);
    Keys keys = {0};
    gguf_take_model(&keys, &g);
    Config c = keys_config(&keys, path);
    c.model.rope_factor = of->model.rope_factor;
    Model again = model_plan(&c, 1, c.model.vocab, false);
    TensorList list = {.type = TENSOR_F32};
    gguf_tensors(&list, &again);
    for (int i = 0; i < list.n; i++) {
        const SafeTensor *t = gguf_tensor(&g, list.tensors[i].name);
        size_t bytes = (size_t)list.tensors[i].ndim * sizeof *t->shape;
        if (list.n != g.n_tensors || !t || t->ndim != list.tensors[i].ndim || memcmp(t->shape, list.tensors[i].shape, bytes) != 0)
            fail("%s: its keys would not say what %s is", path, list.tensors[i].name);
    }
    list_free(&list), gguf_close(&g);
    model_free(&again);
    config_free(&c, config_fields, N_FIELDS);
}

// Writes the file at path. Ends the program where llama.cpp has no way to say what the model is, or the file can't be written.
static void export_gguf(OpenModel *o, const char *run, const char *path, TensorType type) {
    const Model *m = &o->model;
    check_new(path);
    gguf_check(m, run);
    if (o->tokenizer.size && o->tokenizer.kind == TOKENIZER_OTHER) fail("%s: its tokenizer only decodes, so that no GGUF file can be made of it", run);
    TensorList list = {.type = type};
    gguf_tensors(&list, m);
    char *name = runlog_name(run);
    GgufKeys keys;
    gguf_keys_open(&keys);
    gguf_put_model(&keys, m, name, type);
    gguf_put_tokenizer(&keys, o, run);
    char error[ERROR_ROOM];
    size_t size;
    uint64_t file_size;
    char *header = gguf_header(&keys, list.tensors, list.n, &size, &file_size);
    gguf_check_header(path, header, size, file_size, m->config);
    if (gguf_write(path, header, size, list.tensors, list.n, tensor_fetch, error, sizeof error) != 0) fail("%s", error);
    gguf_say(o);
    free(header), free(name);
    list_free(&list);
}

#endif // EXPORT_GGUF_H

/* export_hf.h - a folder that transformers' AutoModelForCausalLM and AutoTokenizer load as it is.
 *
 * defines: export_hf
 *
 * config.json, generation_config.json, model.safetensors (or several, with model.safetensors.index.json), tokenizer.json and
 * tokenizer_config.json. What stands in them: hf.h. Checked against transformers 5.24 by dev/golden/check_export.py.
 */
#ifndef EXPORT_HF_H
#define EXPORT_HF_H

#include "hf.h"

// Ends the program where no class can say what the model is.
static void hf_check(const OpenModel *o, const char *run, const HfClass *hf) {
    char *name = format("%s (%s)", hf->name, hf->when);
    check_needs(&o->config, run, name, hf->needs);
    if (hf == &hf_classes[HF_GPT2]) check_no_groups(&o->model, run, hf->name);
    if (hf == &hf_classes[HF_NANOCHAT] && !(o->config.model.logit_softcap > 0))
        fail("%s: model.logit_softcap is 0, which NanoChatForCausalLM can't say: more than 0 is expected", run);
    if (o->tokenizer.size && o->tokenizer.kind == TOKENIZER_OTHER)
        fail("%s: its tokenizer only decodes, so that no tokenizer.json can be made of it", run);
    free(name);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

// One file, or as many as none is larger than shard_bytes (or than one tensor), with the index that says what is where.
static void hf_write_tensors(const TensorList *l, const char *folder, double shard_bytes) {
    int *end = xmalloc(((size_t)l->n + 1) * sizeof *end), shards = 0;
    double total = 0, bytes = 0;
    for (int i = 0; i < l->n; i++) {
        double size = (double)safetensor_bytes(&l->tensors[i]);
        if (i > 0 && bytes + size > shard_bytes) end[shards++] = i, bytes = 0;
        bytes += size, total += size;
    }
    end[shards++] = l->n;
    char error[ERROR_ROOM], *map;
    size_t map_size;
    FILE *index = text_open(&map, &map_size);
    fprintf(index, "{\n  \"metadata\": {\"total_size\": %.0f},\n  \"weight_map\": {", total);
    for (int s = 0, first = 0; s < shards; first = end[s++]) {
        char *name = shards == 1 ? xstrdup("model.safetensors") : format("model-%05d-of-%05d.safetensors", s + 1, shards);
        char *path = format("%s/%s", folder, name);
        if (safetensors_write(path, l->tensors + first, end[s] - first, tensor_fetch, error, sizeof error) != 0) fail("%s", error);
        for (int i = first; i < end[s]; i++) fprintf(index, "%s\n    \"%s\": \"%s\"", i ? "," : "", l->tensors[i].name, name);
        free(name), free(path);
    }
    fputs("\n  }\n}\n", index);
    if (shards > 1) put_file(index, &map, &map_size, folder, "model.safetensors.index.json");
    else text_close(index, &map), free(map);
    free(end);
}

// ---------------------------------------------------------------------------------------------------------------------
// config.json. transformers refuses an integer where it expects a float: those have a point or an exponent.

static void hf_put_float(FILE *f, const char *key, double x) {
    char number[40];
    json_number(number, x);
    fprintf(f, ",\n  \"%s\": %s%s", key, number, strpbrk(number, ".e") ? "" : ".0");
}

static void hf_put_bool(FILE *f, const char *key, bool x) { fprintf(f, ",\n  \"%s\": %s", key, x ? "true" : "false"); }

// The keys of a list; all_one: of experts where the model has none. A rank of 0 is null.
static void hf_put_keys(FILE *f, const Config *c, const HfKey *keys, bool all_one) {
    for (; keys && keys->name; keys++) {
        const Field *field = config_find(config_fields, N_FIELDS, keys->key);
        const void *at = (const char *)c + field->offset;
        if (field->type == FIELD_FLOAT) { hf_put_float(f, keys->name, all_one ? 1 : *(const double *)at); continue; }
        int x = all_one ? 1 : *(const int *)at;
        if (!strcmp(keys->key, "model.head_size")) x = head_size(c);
        if (!strcmp(keys->key, "model.shared_experts")) x = max_int(x, 1);
        if (x || strcmp(keys->key, "model.q_lora")) fprintf(f, ",\n  \"%s\": %d", keys->name, x);
        else fprintf(f, ",\n  \"%s\": null", keys->name);
    }
}

// Unused ids are null: a class's defaults would end a text at some ordinary token.
static void hf_put_ids(FILE *f, int eot) {
    char id[16] = "null";
    if (eot >= 0) snprintf(id, sizeof id, "%d", eot);
    fprintf(f, ",\n  \"bos_token_id\": %s,\n  \"eos_token_id\": %s,\n  \"pad_token_id\": null", id, id);
}

// What a class has beside keys with the same value here.
static void hf_put_others(FILE *f, const Model *m, const HfClass *hf) {
    const Config *c = m->config;
    for (const HfFixed *fixed = hf->fixed; fixed->name; fixed++)
        fprintf(f, ",\n  \"%s\": %.*s", fixed->name, (int)strcspn(fixed->values, "|"), fixed->values);
    if (hf == &hf_classes[HF_GPT2]) {
        fprintf(f, ",\n  \"n_ctx\": %d,\n  \"activation_function\": \"%s\"", m->T, c->model.mlp == MLP_GELU_ERF ? "gelu" : "gelu_new");
        hf_put_float(f, "embd_pdrop", c->model.dropout), hf_put_float(f, "resid_pdrop", c->model.dropout);
        hf_put_float(f, "attn_pdrop", c->model.attn_dropout ? c->model.dropout : 0);
        return;
    }
    if (hf == &hf_classes[HF_DEEPSEEK]) fprintf(f, ",\n  \"first_k_dense_replace\": %d", m->D);     // without experts all layers
    if (hf != &hf_classes[HF_LLAMA]) return;
    hf_put_bool(f, "attention_bias", c->model.bias), hf_put_bool(f, "mlp_bias", c->model.bias);
    if (c->model.rope_factor == 1) return;
    fputs(",\n  \"rope_scaling\": {\"rope_type\": \"llama3\"", f);
    hf_put_keys(f, c, hf_llama3_keys, false);
    fputs("}", f);
}

static void hf_write_config(const OpenModel *o, const HfClass *hf, const char *folder, TensorType type) {
    static const char *const types[TENSOR_TYPES] = {"float32", "bfloat16", "float16"};
    const Model *m = &o->model;
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    fprintf(f, "{\n  \"model_type\": \"%s\",\n  \"architectures\": [\"%s\"],\n  \"vocab_size\": %d", hf->type, hf->name, m->V);
    hf_put_keys(f, m->config, hf->keys, false);
    hf_put_keys(f, m->config, hf->expert_keys, !m->router.E);
    hf_put_others(f, m, hf);
    hf_put_bool(f, "tie_word_embeddings", !m->table[HEAD].count);
    hf_put_ids(f, o->tokenizer.eot);
    fprintf(f, ",\n  \"dtype\": \"%s\"\n}\n", types[type]);
    put_file(f, &text, &size, folder, "config.json");

    f = text_open(&text, &size);
    fprintf(f, "{\n  \"_from_model_config\": true");
    hf_put_ids(f, o->tokenizer.eot);
    fputs("\n}\n", f);
    put_file(f, &text, &size, folder, "generation_config.json");
}

// ---------------------------------------------------------------------------------------------------------------------
// The tokenizer

// A vocabulary of characters or bytes as a tokenizer.json: characters are words of one character (WordLevel: one that is
// not in it raises an error, as here), bytes a byte-pair encoding without merges.
static void hf_write_vocabulary(const Tokenizer *t, const char *folder) {
    bool bytes = t->kind == TOKENIZER_BYTE;
    static const char byte_level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}";
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    fputs("{\n  \"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": null, \"post_processor\": null,\n", f);
    if (bytes) fprintf(f, "  \"pre_tokenizer\": %s,\n  \"decoder\": %s,\n  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                       "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, "
                       "\"ignore_merges\": false, \"merges\": [], \"vocab\": {", byte_level, byte_level);
    else fputs("  \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\\\\s\\\\S]\"}, \"behavior\": \"Isolated\", \"invert\": false},\n"
               "  \"decoder\": {\"type\": \"Fuse\"},\n  \"model\": {\"type\": \"WordLevel\", \"unk_token\": \"\", \"vocab\": {", f);
    for (int id = 0; id < t->size; id++) {
        int length = 0;
        const char *token = tokenizer_token(t, id, &length);
        char *name = bytes ? bpe_make_name((const uint8_t *)token, (size_t)length) : format("%.*s", length, token);
        fputs(id ? ", " : "", f);
        if (!*name && length == 1) fputs("\"\\u0000\"", f);      // the character U+0000, where a string of C ends
        else json_put_string(f, name, SIZE_MAX);
        fprintf(f, ": %d", id);
        free(name);
    }
    fputs("}}\n}\n", f);
    put_file(f, &text, &size, folder, "tokenizer.json");
}

static void hf_write_tokenizer(const OpenModel *o, const char *folder) {
    const Tokenizer *t = &o->tokenizer;
    char *path = format("%s/tokenizer.json", folder);
    if (!t->bpe) hf_write_vocabulary(t, folder);
    else if (bpe_save(t->bpe, path) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    fprintf(f, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"model_max_length\": %d,\n  \"clean_up_tokenization_spaces\": false", o->model.T);
    if (t->eot >= 0) {
        int length = 0;
        const char *token = tokenizer_token(t, t->eot, &length);
        char *name = format("%.*s", length, token);
        fputs(",\n  \"eos_token\": ", f);
        json_put_string(f, name, SIZE_MAX);
        fputs(",\n  \"bos_token\": ", f);
        json_put_string(f, name, SIZE_MAX);
        free(name);
    }
    fputs("\n}\n", f);
    put_file(f, &text, &size, folder, "tokenizer_config.json");
    free(path);
}

// Writes the folder at path. Ends the program where the model has what no class there can say, or a file can't be written.
static void export_hf(const OpenModel *o, const char *run, const char *path, TensorType type, double shard_bytes) {
    const Model *m = &o->model;
    const HfClass *hf = hf_class_of(m->config);
    hf_check(o, run, hf);
    TensorList list = {.type = type};
    hf->tensors(&list, m);
    char *folder = folder_begin(path);
    if (o->tokenizer.size) hf_write_tokenizer(o, folder);
    hf_write_config(o, hf, folder, type);
    hf_write_tensors(&list, folder, shard_bytes);
    folder_end(folder, path);
    if (hf == &hf_classes[HF_GPT2] && !m->config->model.bias) printf("GPT2LMHeadModel has biases: zeros are written\n");
    if (m->router.E && !m->config->model.shared_experts) printf("DeepseekV3ForCausalLM has a shared expert: one of zeros is written\n");
    list_free(&list);
}

#endif // EXPORT_HF_H

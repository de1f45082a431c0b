/* import_hf.h - reads a folder as transformers writes and loads it: config.json, model.safetensors or the files of
 * model.safetensors.index.json, tokenizer.json.
 *
 * defines: import_hf
 *
 * What stands in them: hf.h. Checked against transformers 5.24 by dev/golden/check_import.py.
 */
#ifndef IMPORT_HF_H
#define IMPORT_HF_H

#include "hf.h"

// ---------------------------------------------------------------------------------------------------------------------
// config.json

static cJSON *hf_read_json(const char *path) {
    char error[ERROR_ROOM];
    size_t size;
    char *text = read_file(path, &size);
    if (!text) fail("%s: cannot be read: %s", path, strerror(errno));
    JsonReader r = {.name = path, .has_lines = true, .error = error, .room = sizeof error};
    if (!json_parse_object(&r, text, size)) fail("%s", error);
    cJSON *root = r.root;
    r.root = NULL;
    json_free(&r);
    free(text);
    return root;
}

// A key's value; NULL where it isn't there or null.
static const cJSON *hf_get(const cJSON *config, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, name);
    return cJSON_IsNull(item) ? NULL : item;
}

static bool hf_true(const cJSON *config, const char *path, const char *name, bool missing) {
    const cJSON *item = hf_get(config, name);
    if (item && !cJSON_IsBool(item)) fail("%s: %s: true or false is expected", path, name);
    return item ? cJSON_IsTrue(item) : missing;
}

// The value of a key as text: a number, else the default; null is 0.
static void hf_number(char buffer[40], const cJSON *config, const char *path, const char *name, const char *missing) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, name);
    if (item && !cJSON_IsNull(item) && !cJSON_IsNumber(item)) fail("%s: %s: a number is expected", path, name);
    if (cJSON_IsNumber(item)) json_number(buffer, item->valuedouble);
    else snprintf(buffer, 40, "%s", item ? "0" : missing);
}

static void hf_keys(Keys *k, const cJSON *config, const char *path, const HfKey *keys, int64_t context) {
    char value[40];
    for (; keys && keys->name; keys++) {
        hf_number(value, config, path, keys->name, keys->missing);
        if (!strcmp(keys->key, "model.rope_theta")) continue;            // hf_rope knows more places
        if (!strcmp(keys->key, "model.context")) {
            int64_t theirs = (int64_t)fmin(fmax(atof(value), 1), 1e9);
            keys_set(k, keys->key, "%d", strcmp(keys->name, "n_positions") ? import_context(theirs, context) : (int)theirs);
        }
        else keys_set(k, keys->key, "%s", value);
    }
}

// RoPE's base stands beside the other keys, or (transformers 5) in rope_parameters, as does what LlamaForCausalLM may say of
// longer contexts; anything else there is refused.
static void hf_rope(Keys *k, const cJSON *config, const char *path, const HfClass *hf) {
    const cJSON *rope = hf_get(config, "rope_scaling");
    if (!rope) rope = hf_get(config, "rope_parameters");
    const cJSON *type = hf_get(rope, hf_get(rope, "rope_type") ? "rope_type" : "type"), *partial = hf_get(rope, "partial_rotary_factor");
    const char *name = !type ? "default" : cJSON_IsString(type) ? type->valuestring : "?";
    bool llama3 = hf == &hf_classes[HF_LLAMA] && !strcmp(name, "llama3");
    char base[40];
    if (rope && !cJSON_IsObject(rope)) fail("%s: rope_parameters: an object is expected", path);
    if (strcmp(name, "default") && !llama3)
        fail("%s: rope_type is %.100s: default%s is expected", path, name, hf == &hf_classes[HF_LLAMA] ? " or llama3" : "");
    for (const cJSON *item = rope ? rope->child : NULL; item; item = item->next)
        if (cJSON_IsObject(item)) fail("%s: rope_parameters: one set for all layers is expected", path);
    if (!partial) partial = hf_get(config, "partial_rotary_factor");
    if (partial && !(cJSON_IsNumber(partial) && partial->valuedouble == 1)) fail("%s: partial_rotary_factor: 1 is expected", path);
    hf_number(base, hf_get(rope, "rope_theta") ? rope : config, path, "rope_theta", "10000");      // in all classes
    keys_set(k, "model.rope_theta", "%s", base);
    if (!llama3) return;
    for (const HfKey *key = hf_llama3_keys; key->name; key++)
        if (!hf_get(rope, key->name)) fail("%s: rope_type llama3: %s is missing", path, key->name);
    hf_keys(k, rope, path, hf_llama3_keys, 0);
}

// What is the same in all models of a class must be so here.
static void hf_check_fixed(const cJSON *config, const char *path, const HfFixed *fixed) {
    for (; fixed->name; fixed++) {
        const cJSON *item = hf_get(config, fixed->name);
        char *value = item ? cJSON_PrintUnformatted(item) : NULL, *word = value ? format("|%s|", value) : NULL,
             *list = format("|%s|", fixed->values);
        if (word && !strstr(list, word)) fail("%s: %s is %.100s: %s is expected", path, fixed->name, value, fixed->values);
        free(value), free(word), free(list);
    }
    if (hf_get(config, "quantization_config")) fail("%s: quantization_config: weights of F32, BF16 or F16 are expected", path);
}

static void hf_gpt2_activation(Keys *k, const cJSON *config, const char *path) {
    static const struct { const char *theirs, *ours; } names[] = {
        {"gelu_new", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_tanh"}, {"gelu_fast", "gelu_tanh"}, {"gelu", "gelu_erf"},
    };
    const cJSON *item = hf_get(config, "activation_function");
    const char *theirs = !item ? "gelu_new" : cJSON_IsString(item) ? item->valuestring : "?";
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!strcmp(theirs, names[i].theirs)) { keys_set(k, "model.mlp", "%s", names[i].ours); return; }
    fail("%s: activation_function is %.100s: gelu_new, gelu_pytorch_tanh, gelu_fast or gelu is expected", path, theirs);
}

static const HfClass *hf_class_named(const cJSON *config, const char *path) {
    const cJSON *type = hf_get(config, "model_type");
    const char *name = cJSON_IsString(type) ? type->valuestring : "missing";
    for (int i = 0; i < HF_CLASSES; i++)
        if (!strcmp(hf_classes[i].type, name)) return &hf_classes[i];
    fail("%s: model_type is %.100s: gpt2, llama, nanochat or deepseek_v3 is expected", path, name);
}

// The keys of the model that config.json describes, whose head is tied or not.
static Keys hf_model_keys(const HfClass *hf, const cJSON *config, const char *path, bool tied, int64_t context) {
    Keys k = {0};
    char vocab[40];
    keys_set(&k, "model.arch", "%s", hf->arch);
    for (const Needs *needs = hf->needs; needs->key; needs++)
        keys_set(&k, needs->key, "%.*s", (int)strcspn(needs->values, " "), needs->values);
    hf_check_fixed(config, path, hf->fixed);
    hf_keys(&k, config, path, hf->keys, context);
    hf_number(vocab, config, path, "vocab_size", hf == &hf_classes[HF_GPT2] ? "50257" : "0");
    if (!strcmp(vocab, "0")) fail("%s: vocab_size: at least 1 is expected", path);
    keys_set(&k, "model.vocab", "%s", vocab);
    keys_set(&k, "model.head", "%s", tied ? "tied" : "untied");
    if (hf == &hf_classes[HF_GPT2]) {
        hf_gpt2_activation(&k, config, path);
        keys_set(&k, "model.bias", "true");
        return k;
    }
    hf_rope(&k, config, path, hf);
    bool attention = hf_true(config, path, "attention_bias", false), mlp = hf_true(config, path, "mlp_bias", false);
    if (hf == &hf_classes[HF_LLAMA]) keys_set(&k, "model.bias", attention || mlp ? "true" : "false");
    if (!hf->expert_keys) return k;
    char layers[40], dense[40];
    hf_number(layers, config, path, "num_hidden_layers", "61"), hf_number(dense, config, path, "first_k_dense_replace", "3");
    bool experts = atof(dense) < atof(layers);
    if (experts) hf_keys(&k, config, path, hf->expert_keys, 0), keys_set(&k, "model.dense_layers", "%s", dense);
    else keys_set(&k, "model.experts", "0");
    return k;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

#define HF_BUFFERS ".attn.bias .attn.masked_bias rotary_emb.inv_freq"    // older files have these beside the weights: masks, angles

typedef struct { SafeFile *files; int n; } HfFiles;

static void hf_open_file(HfFiles *h, const char *folder, const char *name) {
    char error[ERROR_ROOM], *path = format("%s/%s", folder, name);
    h->files = xrealloc(h->files, ((size_t)h->n + 1) * sizeof *h->files);
    if (safetensors_open(&h->files[h->n], path, error, sizeof error) != 0) fail("%s", error);
    h->n++;
    free(path);
}

// The files of an index, each once. They lie in the folder.
static void hf_open_index(HfFiles *h, const char *folder, const char *path) {
    cJSON *root = hf_read_json(path);
    const cJSON *map = hf_get(root, "weight_map");
    if (!cJSON_IsObject(map)) fail("%s: weight_map: an object is expected", path);
    int n = 0;
    const char **names = xcalloc((size_t)cJSON_GetArraySize(map), sizeof *names);
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item) || strchr(item->valuestring, '/') || *item->valuestring == '.')
            fail("%s: weight_map: %.100s: the name of a file in this folder is expected", path, item->string);
        names[n++] = item->valuestring;
    }
    if (n) qsort(names, (size_t)n, sizeof *names, compare_strings);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[i - 1])) hf_open_file(h, folder, names[i]);
    free(names);
    cJSON_Delete(root);
}

// file: one of the folder, or NULL: model.safetensors, or where there is none those of the index.
static void hf_open(HfFiles *h, const char *folder, const char *file) {
    char *one = format("%s/%s", folder, file ? file : "model.safetensors"),
         *index = format("%s/model.safetensors.index.json", folder), *pickle = format("%s/pytorch_model.bin", folder);
    if (file || file_exists(one)) hf_open_file(h, folder, file ? file : "model.safetensors");
    else if (file_exists(index)) hf_open_index(h, folder, index);
    else if (file_exists(pickle))
        fail("%s: is a program of Python's that only Python can run: save_pretrained of transformers writes it as model.safetensors",
             pickle);
    else fail("%s: no model.safetensors and no model.safetensors.index.json", folder);
    free(one), free(index), free(pickle);
}

// The tensors of all files in one array; none of them twice.
static SafeTensor *hf_all(const HfFiles *h, const char *where, const char *prefix, int *n) {
    *n = 0;
    for (int i = 0; i < h->n; i++) *n += h->files[i].n;
    SafeTensor *all = xmalloc((size_t)*n * sizeof *all), *at = all;
    for (int i = 0; i < h->n; at += h->files[i++].n)
        if (h->files[i].n) memcpy(at, h->files[i].tensors, (size_t)h->files[i].n * sizeof *at);
    const char **names = xmalloc((size_t)*n * sizeof *names);
    for (int i = 0; i < *n; i++) names[i] = without(all[i].name, prefix);
    if (*n) qsort(names, (size_t)*n, sizeof *names, compare_strings);
    for (int i = 1; i < *n; i++)
        if (!strcmp(names[i - 1], names[i])) fail("%s: %.200s is there twice", where, names[i]);
    free(names);
    return all;
}

static const SafeTensor *hf_find(const SafeTensor *all, int n, const char *name, const char *prefix) {
    for (int i = 0; i < n; i++) if (!strcmp(without(all[i].name, prefix), without(name, prefix))) return &all[i];
    return NULL;
}

// Whether the head is the embedding: where config.json says so and there is no head of other numbers in the file.
static bool hf_is_tied(const HfClass *hf, const cJSON *config, const char *path, const SafeTensor *all, int n) {
    const SafeTensor *head = hf_find(all, n, "lm_head.weight", hf->prefix),
                     *embedding = hf_find(all, n, hf == &hf_classes[HF_GPT2] ? "wte.weight" : "embed_tokens.weight", hf->prefix);
    if (!hf_true(config, path, "tie_word_embeddings", hf == &hf_classes[HF_GPT2])) return false;
    if (!head || !embedding || head->type >= TENSOR_TYPES || head->type != embedding->type) return true;
    bool same = safetensor_numbers(head) == safetensor_numbers(embedding);
    if (same && !memcmp(head->of, embedding->of, (size_t)safetensor_bytes(head))) return true;
    printf("%s: tie_word_embeddings, but lm_head.weight has other numbers than the embedding: it is taken, as transformers does\n",
           hf->name);
    return false;
}

// Says where texts end at another token there, or at several: generation_config.json, or else config.json, has eos_token_id, a number or a
// list.
static void hf_tell_ends(const OpenModel *o, const cJSON *config, const char *folder) {
    char *path = format("%s/generation_config.json", folder);
    cJSON *generation = file_exists(path) ? hf_read_json(path) : NULL;
    const cJSON *ends = hf_get(generation, "eos_token_id");
    if (!ends) ends = hf_get(config, "eos_token_id");
    bool list = cJSON_IsArray(ends), same = cJSON_IsNumber(ends) && ends->valuedouble == o->tokenizer.eot;
    for (const cJSON *item = list ? ends->child : NULL; item; item = item->next)
        if (cJSON_IsNumber(item) && item->valuedouble == o->tokenizer.eot) same = cJSON_GetArraySize(ends) == 1;
    char *text = ends ? cJSON_PrintUnformatted(ends) : NULL;
    if (text && !same) tell_other_end(o, text);
    free(text), free(path);
    cJSON_Delete(generation);
}

// Reads a folder's model and tokenizer into o. file: one of its .safetensors files, or NULL. Ends the program where it can't.
static void import_hf(OpenModel *o, const char *folder, const char *file, int64_t context) {
    static const char *const tokenizers[] = {"tokenizer.json", "vocab.json", "encoder.json"};
    char *path = format("%s/config.json", folder), *where = file ? format("%s/%s", folder, file) : xstrdup(folder);
    if (!file_exists(path)) fail("%s: no such file: %s has no model in Hugging Face's form", path, folder);
    cJSON *config = hf_read_json(path);
    const HfClass *hf = hf_class_named(config, path);
    if (hf == &hf_classes[HF_GPT2]) check_no_context(context);
    HfFiles files = {0};
    hf_open(&files, folder, file);
    int n;
    double numbers = 0;
    SafeTensor *all = hf_all(&files, where, hf->prefix, &n);
    for (int i = 0; i < n; i++) numbers += (double)safetensor_numbers(&all[i]);
    bool tied = hf_is_tied(hf, config, path, all, n);
    Keys keys = hf_model_keys(hf, config, path, tied, context);
    import_plan(o, &keys, path, numbers);
    TensorList list = {.type = TENSOR_F32};
    hf->tensors(&list, &o->model);
    bool attention = hf_true(config, path, "attention_bias", false), mlp = hf_true(config, path, "mlp_bias", false);
    for (int i = 0; i < list.n && hf == &hf_classes[HF_LLAMA] && attention != mlp; i++)
        if (ends_with_one(list.tensors[i].name, ".bias") && !strstr(list.tensors[i].name, attention ? "self_attn" : "mlp"))
            source_of(&list.tensors[i])->way = ZEROS;
    if (hf == &hf_classes[HF_LLAMA] && attention != mlp)
        printf("LlamaForCausalLM without %s: zeros here\n", mlp ? "attention_bias" : "mlp_bias");
    const SafeTensor **of = match_tensors(&list, all, n, hf->prefix, tied ? HF_BUFFERS " lm_head.weight" : HF_BUFFERS, where);
    take_tensors(&list, of, where);
    import_tokenizer(o, folder, tokenizers, COUNT_OF(tokenizers));
    hf_tell_ends(o, config, folder);
    list_free(&list);
    for (int i = 0; i < files.n; i++) safetensors_close(&files.files[i]);
    cJSON_Delete(config);
    free(files.files), free(all), free(of), free(path), free(where);
}

#endif // IMPORT_HF_H

/* export_hf.h - a folder that transformers' AutoModelForCausalLM and AutoTokenizer load as it is.
 *
 * defines: export_hf
 *
 * config.json, generation_config.json, model.safetensors (or several, with model.safetensors.index.json), tokenizer.json and
 * tokenizer_config.json. Checked against transformers 5.24 by dev/golden/check_export.py. What is told apart by model.mixer
 * and model.norm:
 *
 *   layernorm       GPT2LMHeadModel       its four matrices of a block are (in, out); its biases are zeros where the model has none
 *   rmsnorm         LlamaForCausalLM      as it is
 *   rmsnorm_plain   NanoChatForCausalLM   turns queries and keys by the opposite angle: the same where half of each head of W_q
 *                                         and W_k has the other sign, since only products of the two matter
 *   mixer mla       DeepseekV3ForCausalLM rotated rows in pairs (2i, 2i + 1) instead of (i, i + half); W_kvb head by head
 */
#ifndef EXPORT_HF_H
#define EXPORT_HF_H

static const Needs hf_gpt2[] = {
    {"model.experts", "0"}, {"model.position", "learned"}, {"model.mlp", "gelu_tanh gelu_erf"}, {"model.qk_norm", "false"}, {"model.embed_norm", "false"},
    {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
}, hf_llama[] = {
    {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.qk_norm", "false"}, {"model.embed_norm", "false"},
    {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
}, hf_nanochat[] = {
    {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "relu2"}, {"model.qk_norm", "true"}, {"model.embed_norm", "true"},
    {"model.attn_softcap", "0"}, {"model.head", "untied"}, {"model.bias", "false"},
};

static const Needs hf_deepseek[] = {
    {"model.norm", "rmsnorm"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.embed_norm", "false"}, {"model.bias", "false"},
    {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
};

static void hf_check(const OpenModel *o, const char *run) {
    const Config *c = &o->config;
    if (c->model.mixer == MIXER_MLA) {
        check_needs(c, run, "DeepseekV3ForCausalLM (model.mixer is mla)", hf_deepseek, COUNT_OF(hf_deepseek));
        return;
    }
    switch ((NormKind)c->model.norm) {
    case NORM_LAYERNORM:
        check_needs(c, run, "GPT2LMHeadModel (model.norm is layernorm)", hf_gpt2, COUNT_OF(hf_gpt2));
        check_no_groups(&o->model, run, "GPT2LMHeadModel");
        break;
    case NORM_RMSNORM:
        check_needs(c, run, "LlamaForCausalLM (model.norm is rmsnorm)", hf_llama, COUNT_OF(hf_llama));
        break;
    case NORM_RMSNORM_PLAIN:
        check_needs(c, run, "NanoChatForCausalLM (model.norm is rmsnorm_plain)", hf_nanochat, COUNT_OF(hf_nanochat));
        if (!(c->model.logit_softcap > 0))
            fail("%s: model.logit_softcap is 0, which NanoChatForCausalLM can't say: more than 0 is expected", run);
        break;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

static void hf_gpt2_tensors(TensorList *l, const Model *m) {
    const struct { const char *name; TensorId w, b; int rows, cols; bool norm; } kinds[] = {
        {"ln_1", NORM1_W, NORM1_B, 1, m->C, true}, {"attn.c_attn", WQ, BQ, 3 * m->C, m->C, false}, {"attn.c_proj", WO, BO, m->C, m->C, false},
        {"ln_2", NORM2_W, NORM2_B, 1, m->C, true}, {"mlp.c_fc", W_IN, B_IN, m->F, m->C, false}, {"mlp.c_proj", W_OUT, B_OUT, m->C, m->F, false},
    };
    list_add(l, xstrdup("transformer.wte.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("transformer.wpe.weight"), weight(m, WPE, 0), m->T, m->C, AS_IT_IS, 0);
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            list_add(l, format("transformer.h.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i), kinds[k].rows, kinds[k].cols,
                     kinds[k].norm ? AS_IT_IS : TRANSPOSED, 0);
            list_add(l, format("transformer.h.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), 1,
                     kinds[k].norm ? kinds[k].cols : kinds[k].rows, AS_IT_IS, 0);
        }
    list_add(l, xstrdup("transformer.ln_f.weight"), weight(m, NORMF_W, 0), 1, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("transformer.ln_f.bias"), weight(m, NORMF_B, 0), 1, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("lm_head.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0);
}

// Llama's and NanoChat's names: those of a block by the tensor's, each with its bias where the model has one.
static void hf_llama_tensors(TensorList *l, const Model *m) {
    bool nanochat = m->config->model.norm == NORM_RMSNORM_PLAIN;
    const struct { const char *name; TensorId w, b; } kinds[] = {
        {"input_layernorm", NORM1_W, N_TENSORS}, {"self_attn.q_proj", WQ, BQ}, {"self_attn.k_proj", WK, BK}, {"self_attn.v_proj", WV, BV},
        {"self_attn.o_proj", WO, BO}, {"post_attention_layernorm", NORM2_W, N_TENSORS}, {"mlp.gate_proj", W_GATE, B_GATE},
        {nanochat ? "mlp.fc1" : "mlp.up_proj", W_IN, B_IN}, {nanochat ? "mlp.fc2" : "mlp.down_proj", W_OUT, B_OUT},
    };
    list_add(l, xstrdup("model.embed_tokens.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0);
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            const Tensor *t = &m->table[kinds[k].w];
            bool turned = nanochat && (kinds[k].w == WQ || kinds[k].w == WK);
            if (t->count) list_add(l, format("model.layers.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i), t->rows, t->cols,
                                   turned ? TURNED : AS_IT_IS, m->HS);
            if (kinds[k].b != N_TENSORS && m->table[kinds[k].b].count)
                list_add(l, format("model.layers.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), 1, m->table[kinds[k].b].cols, AS_IT_IS, 0);
        }
    if (m->table[NORMF_W].count) list_add(l, xstrdup("model.norm.weight"), weight(m, NORMF_W, 0), 1, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("lm_head.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0);
}

// W_kvb: here the keys of all heads, then the values of all; there head by head.
static int *hf_by_head(int heads, int nope, int value) {
    int size = nope + value, *order = xmalloc((size_t)heads * (size_t)size * sizeof *order);
    for (int i = 0; i < heads * size; i++) {
        int h = i / size, r = i % size;
        order[i] = r < nope ? h * nope + r : heads * nope + h * value + r - nope;
    }
    return order;
}

static void hf_deepseek_attention(TensorList *l, const Model *m, int i) {
    const Config *c = m->config;
    int nope = c->model.nope, rope = c->model.rope, value = c->model.v_head, latent = c->model.kv_lora, low = c->model.q_lora, q = m->NH * (nope + rope);
    const char *at = "model.layers.%d.self_attn.%s.weight";
    if (low) {
        list_add(l, format(at, i, "q_a_proj"), weight(m, W_QA, i), low, m->C, AS_IT_IS, 0);
        list_add(l, format(at, i, "q_a_layernorm"), weight(m, Q_NORM_W, i), 1, low, AS_IT_IS, 0);
        list_add_reordered(l, format(at, i, "q_b_proj"), weight(m, W_QB, i), q, low, rows_in_pairs(m->NH, nope, rope));
    } else list_add_reordered(l, format(at, i, "q_proj"), weight(m, WQ, i), q, m->C, rows_in_pairs(m->NH, nope, rope));
    list_add_reordered(l, format(at, i, "kv_a_proj_with_mqa"), weight(m, W_KVA, i), latent + rope, m->C, rows_in_pairs(1, latent, rope));
    list_add(l, format(at, i, "kv_a_layernorm"), weight(m, KV_NORM_W, i), 1, latent, AS_IT_IS, 0);
    list_add_reordered(l, format(at, i, "kv_b_proj"), weight(m, W_KVB, i), m->NH * (nope + value), latent, hf_by_head(m->NH, nope, value));
    list_add(l, format(at, i, "o_proj"), weight(m, WO, i), m->C, m->NH * value, AS_IT_IS, 0);
}

// gate, up and down of one MLP of this width; `copy` of each tensor, zeros where the model has none.
static void hf_deepseek_mlp(TensorList *l, const Model *m, const char *at, TensorId gate, TensorId in, TensorId out, int width, int copy) {
    list_add(l, format("%s.gate_proj.weight", at), weight(m, gate, copy), width, m->C, AS_IT_IS, 0);
    list_add(l, format("%s.up_proj.weight", at), weight(m, in, copy), width, m->C, AS_IT_IS, 0);
    list_add(l, format("%s.down_proj.weight", at), weight(m, out, copy), m->C, width, AS_IT_IS, 0);
}

// The router and its bias stay fp32, as transformers keeps them. Without a shared expert there is one of zeros: the class has
// no other way to say it without being told of missing tensors.
static void hf_deepseek_experts(TensorList *l, const Model *m, int i, int copy) {
    int E = m->router.E, width = m->config->model.expert_width, shared = m->config->model.shared_experts;
    char *at = format("model.layers.%d.mlp.gate", i);
    list_add(l, format("%s.weight", at), weight(m, W_ROUTER, copy), E, m->C, AS_IT_IS, 0);
    list_add(l, format("%s.e_score_correction_bias", at), weight(m, ROUTER_BIAS, copy), 1, E, AS_IT_IS, 0);
    l->tensors[l->n - 2].type = l->tensors[l->n - 1].type = TENSOR_F32;
    free(at);
    for (int e = 0; e < E; e++) {
        at = format("model.layers.%d.mlp.experts.%d", i, e);
        hf_deepseek_mlp(l, m, at, W_EXPERT_GATE, W_EXPERT_IN, W_EXPERT_OUT, width, copy * E + e);
        free(at);
    }
    at = format("model.layers.%d.mlp.shared_experts", i);
    hf_deepseek_mlp(l, m, at, W_SHARED_GATE, W_SHARED_IN, W_SHARED_OUT, max_int(shared, 1) * width, copy);
    free(at);
}

static void hf_deepseek_tensors(TensorList *l, const Model *m) {
    list_add(l, xstrdup("model.embed_tokens.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0);
    for (int i = 0; i < m->L; i++) {
        list_add(l, format("model.layers.%d.input_layernorm.weight", i), weight(m, NORM1_W, i), 1, m->C, AS_IT_IS, 0);
        hf_deepseek_attention(l, m, i);
        list_add(l, format("model.layers.%d.post_attention_layernorm.weight", i), weight(m, NORM2_W, i), 1, m->C, AS_IT_IS, 0);
        char *at = format("model.layers.%d.mlp", i);
        if (i < m->D) hf_deepseek_mlp(l, m, at, W_GATE, W_IN, W_OUT, m->F, i);
        else hf_deepseek_experts(l, m, i, i - m->D);
        free(at);
    }
    list_add(l, xstrdup("model.norm.weight"), weight(m, NORMF_W, 0), 1, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("lm_head.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0);
}

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

static void hf_put_int(FILE *f, const char *key, int x) { fprintf(f, ",\n  \"%s\": %d", key, x); }
static void hf_put_bool(FILE *f, const char *key, bool x) { fprintf(f, ",\n  \"%s\": %s", key, x ? "true" : "false"); }

// Unused ids are null: a class's defaults would end a text at some ordinary token.
static void hf_put_ids(FILE *f, int eot) {
    char id[16] = "null";
    if (eot >= 0) snprintf(id, sizeof id, "%d", eot);
    fprintf(f, ",\n  \"bos_token_id\": %s,\n  \"eos_token_id\": %s,\n  \"pad_token_id\": null", id, id);
}

static void hf_put_gpt2(FILE *f, const Model *m) {
    const Config *c = m->config;
    fprintf(f, ",\n  \"model_type\": \"gpt2\",\n  \"architectures\": [\"GPT2LMHeadModel\"]");
    hf_put_int(f, "n_positions", m->T), hf_put_int(f, "n_ctx", m->T);
    hf_put_int(f, "n_embd", m->C), hf_put_int(f, "n_layer", m->L), hf_put_int(f, "n_head", m->NH), hf_put_int(f, "n_inner", m->F);
    fprintf(f, ",\n  \"activation_function\": \"%s\"", c->model.mlp == MLP_GELU_ERF ? "gelu" : "gelu_new");
    hf_put_float(f, "layer_norm_epsilon", c->model.norm_eps);
    hf_put_float(f, "embd_pdrop", c->model.dropout), hf_put_float(f, "resid_pdrop", c->model.dropout);
    hf_put_float(f, "attn_pdrop", c->model.attn_dropout ? c->model.dropout : 0);
}

static void hf_put_llama(FILE *f, const Model *m) {
    const Config *c = m->config;
    bool nanochat = c->model.norm == NORM_RMSNORM_PLAIN;
    fprintf(f, ",\n  \"model_type\": \"%s\",\n  \"architectures\": [\"%s\"]", nanochat ? "nanochat" : "llama",
            nanochat ? "NanoChatForCausalLM" : "LlamaForCausalLM");
    hf_put_int(f, "max_position_embeddings", m->T), hf_put_int(f, "hidden_size", m->C), hf_put_int(f, "intermediate_size", m->F);
    hf_put_int(f, "num_hidden_layers", m->L), hf_put_int(f, "num_attention_heads", m->NH), hf_put_int(f, "num_key_value_heads", m->NKV);
    hf_put_int(f, "head_dim", m->HS);
    fprintf(f, ",\n  \"hidden_act\": \"%s\"", nanochat ? "relu2" : "silu");
    hf_put_float(f, "rms_norm_eps", c->model.norm_eps), hf_put_float(f, "rope_theta", c->model.rope_theta);
    hf_put_bool(f, "attention_bias", c->model.bias);
    if (nanochat) hf_put_float(f, "final_logit_softcapping", c->model.logit_softcap);
    else hf_put_bool(f, "mlp_bias", c->model.bias);
}

static void hf_put_deepseek(FILE *f, const Model *m) {
    const Config *c = m->config;
    int E = m->router.E;
    fprintf(f, ",\n  \"model_type\": \"deepseek_v3\",\n  \"architectures\": [\"DeepseekV3ForCausalLM\"]");
    hf_put_int(f, "max_position_embeddings", m->T), hf_put_int(f, "hidden_size", m->C), hf_put_int(f, "intermediate_size", m->F);
    hf_put_int(f, "num_hidden_layers", m->L), hf_put_int(f, "num_attention_heads", m->NH), hf_put_int(f, "num_key_value_heads", m->NH);
    if (c->model.q_lora) hf_put_int(f, "q_lora_rank", c->model.q_lora);
    else fputs(",\n  \"q_lora_rank\": null", f);
    hf_put_int(f, "kv_lora_rank", c->model.kv_lora), hf_put_int(f, "qk_nope_head_dim", c->model.nope);
    hf_put_int(f, "qk_rope_head_dim", c->model.rope), hf_put_int(f, "v_head_dim", c->model.v_head);
    hf_put_int(f, "first_k_dense_replace", m->D);            // all layers where there are no experts: the rest is then not used
    hf_put_int(f, "n_routed_experts", E ? E : 1), hf_put_int(f, "num_experts_per_tok", E ? c->model.experts_per_token : 1);
    hf_put_int(f, "n_shared_experts", E ? max_int(c->model.shared_experts, 1) : 1);
    hf_put_int(f, "moe_intermediate_size", E ? c->model.expert_width : 1);
    hf_put_int(f, "n_group", E ? c->model.expert_groups : 1), hf_put_int(f, "topk_group", E ? c->model.groups_per_token : 1);
    hf_put_float(f, "routed_scaling_factor", E ? c->model.router_scale : 1);
    hf_put_bool(f, "norm_topk_prob", true), hf_put_bool(f, "rope_interleave", true);
    fputs(",\n  \"hidden_act\": \"silu\"", f);
    hf_put_float(f, "rms_norm_eps", c->model.norm_eps), hf_put_float(f, "rope_theta", c->model.rope_theta);
    hf_put_bool(f, "attention_bias", false);
}

static void hf_write_config(const OpenModel *o, const char *folder, TensorType type) {
    static const char *const types[TENSOR_TYPES] = {"float32", "bfloat16", "float16"};
    const Model *m = &o->model;
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    fprintf(f, "{\n  \"vocab_size\": %d", m->V);
    if (m->config->model.mixer == MIXER_MLA) hf_put_deepseek(f, m);
    else if (m->config->model.norm == NORM_LAYERNORM) hf_put_gpt2(f, m);
    else hf_put_llama(f, m);
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

static void hf_write_tokenizer(const OpenModel *o, const char *run, const char *folder) {
    const Tokenizer *t = &o->tokenizer;
    char *path = format("%s/tokenizer.json", folder);
    if (t->kind == TOKENIZER_OTHER) fail("%s: its tokenizer only decodes, so that no tokenizer.json can be made of it", run);
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

// Writes all files into folder. Ends the program where the model has what no class there can say, or a file can't be written.
static void export_hf(const OpenModel *o, const char *run, const char *folder, TensorType type, double shard_bytes) {
    const Model *m = &o->model;
    hf_check(o, run);
    TensorList list = {.type = type};
    if (m->config->model.mixer == MIXER_MLA) hf_deepseek_tensors(&list, m);
    else if (m->config->model.norm == NORM_LAYERNORM) hf_gpt2_tensors(&list, m);
    else hf_llama_tensors(&list, m);
    hf_write_tokenizer(o, run, folder);
    hf_write_config(o, folder, type);
    hf_write_tensors(&list, folder, shard_bytes);
    if (m->config->model.norm == NORM_LAYERNORM && !m->config->model.bias) printf("GPT2LMHeadModel has biases: zeros are written\n");
    if (m->router.E && !m->config->model.shared_experts) printf("DeepseekV3ForCausalLM has a shared expert: one of zeros is written\n");
    list_free(&list);
}

#endif // EXPORT_HF_H

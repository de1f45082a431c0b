/* gguf_model.h - a model as llama.cpp's GGUF files have it: which of its architectures it is, its tensors, its keys.
 *
 * defines: GgufArch, gguf_archs, gguf_arch, gguf_check, gguf_positions, GgufTokenType, gguf_splits, gguf_tensors, gguf_put_model,
 *          gguf_take_model, gguf_take_stretches, gguf_check_stretches, gguf_check_keys
 *
 * What is told apart by model.mixer and model.norm, checked against llama.cpp by dev/golden/check_gguf.py:
 *
 *   mixer mla       deepseek2   rotated rows in pairs (2i, 2i + 1) instead of (i, i + half); W_kvb's keys transposed head by head, its
 *                               values as they are; a layer's experts as one tensor
 *   norm layernorm  gpt2        matrices (out, in) as here; as many positions as the context rounded up to POSITIONS_MULTIPLE
 *   norm rmsnorm    llama       rows of W_q and W_k, and their biases, in pairs; with rope_factor a tensor of how much slower each pair turns
 *
 * llama.cpp takes a wrong or missing key for another model without a word, so that every key it knows of the architecture is
 * written, and one that is not known here is refused.
 */
#ifndef GGUF_MODEL_H
#define GGUF_MODEL_H

#include "formats.h"                // defines: Needs, check_needs, check_no_groups; tensor_list.h
#include "../src/gguf.h"            // defines: GgufKeys, gguf_put_u32, ..., GgufFile, gguf_parse, gguf_key

enum { GATING_SIGMOID = 2,          // llama.cpp's number for it
       POSITIONS_MULTIPLE = 256 };  // llama.cpp makes contexts of such a multiple, and its gpt2 then needs a row for each position

typedef enum { GGUF_GPT2, GGUF_LLAMA, GGUF_DEEPSEEK2, GGUF_ARCHS } GgufArch;

static const Needs gguf_gpt2_needs[] = {
    {"model.mixer", "attention"}, {"model.norm", "layernorm"}, {"model.experts", "0"}, {"model.position", "learned"}, {"model.mlp", "gelu_tanh"},
    {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
    {"model.head_size", "0"}, {NULL, NULL},
}, gguf_llama_needs[] = {
    {"model.mixer", "attention"}, {"model.norm", "rmsnorm"}, {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "swiglu"},
    {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"}, {NULL, NULL},
}, gguf_deepseek2_needs[] = {
    {"model.mixer", "mla"}, {"model.norm", "rmsnorm"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.qk_norm", "false"},
    {"model.embed_norm", "false"}, {"model.bias", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
    {"model.rope_factor", "1"}, {NULL, NULL},
};

// A key of the architecture (behind its name and a point) and the key here that has the same value, a u32 or an f32. missing: what
// llama.cpp takes where there is no such key; NULL: it has to be there.
typedef struct { const char *name, *key, *missing; } GgufField;

static const GgufField gguf_gpt2_fields[] = {
    {"context_length", "model.context", NULL}, {"embedding_length", "model.width", NULL}, {"block_count", "model.layers", NULL},
    {"feed_forward_length", "model.mlp_width", NULL}, {"attention.head_count", "model.heads", NULL},
    {"attention.layer_norm_epsilon", "model.norm_eps", NULL}, {NULL, NULL, NULL},
}, gguf_llama_fields[] = {
    {"context_length", "model.context", NULL}, {"embedding_length", "model.width", NULL}, {"block_count", "model.layers", NULL},
    {"feed_forward_length", "model.mlp_width", NULL}, {"attention.head_count", "model.heads", NULL},
    {"attention.head_count_kv", "model.kv_heads", "0"}, {"attention.layer_norm_rms_epsilon", "model.norm_eps", NULL},
    {"rope.freq_base", "model.rope_theta", "10000"}, {NULL, NULL, NULL},
}, gguf_deepseek2_fields[] = {
    {"context_length", "model.context", NULL}, {"embedding_length", "model.width", NULL}, {"block_count", "model.layers", NULL},
    {"feed_forward_length", "model.mlp_width", NULL}, {"attention.head_count", "model.heads", NULL},
    {"attention.layer_norm_rms_epsilon", "model.norm_eps", NULL}, {"rope.freq_base", "model.rope_theta", "10000"},
    {"attention.q_lora_rank", "model.q_lora", "0"}, {"attention.kv_lora_rank", "model.kv_lora", NULL},
    {"rope.dimension_count", "model.rope", NULL}, {"attention.value_length_mla", "model.v_head", NULL}, {NULL, NULL, NULL},
}, gguf_expert_fields[] = {
    {"leading_dense_block_count", "model.dense_layers", "0"}, {"expert_count", "model.experts", NULL},
    {"expert_used_count", "model.experts_per_token", NULL}, {"expert_shared_count", "model.shared_experts", NULL},
    {"expert_feed_forward_length", "model.expert_width", NULL}, {"expert_weights_scale", "model.router_scale", "1"}, {NULL, NULL, NULL},
}, gguf_group_fields[] = {
    {"expert_group_count", "model.expert_groups", "1"}, {"expert_group_used_count", "model.groups_per_token", "1"}, {NULL, NULL, NULL},
};

static const struct { const char *name; const Needs *needs; const GgufField *fields; } gguf_archs[GGUF_ARCHS] = {
    [GGUF_GPT2] = {"gpt2", gguf_gpt2_needs, gguf_gpt2_fields}, [GGUF_LLAMA] = {"llama", gguf_llama_needs, gguf_llama_fields},
    [GGUF_DEEPSEEK2] = {"deepseek2", gguf_deepseek2_needs, gguf_deepseek2_fields},
};

static GgufArch gguf_arch(const Config *c) {
    return c->model.mixer == MIXER_MLA ? GGUF_DEEPSEEK2 : c->model.norm == NORM_LAYERNORM ? GGUF_GPT2 : GGUF_LLAMA;
}

// Ends the program where llama.cpp's architecture can't say what the model is.
static void gguf_check(const Model *m, const char *run) {
    const Config *c = m->config;
    GgufArch arch = gguf_arch(c);
    char *format_name = format("llama.cpp's %s", gguf_archs[arch].name);
    check_needs(c, run, format_name, gguf_archs[arch].needs);
    if (arch == GGUF_GPT2) check_no_groups(m, run, format_name);
    if (arch == GGUF_DEEPSEEK2 && (m->L == 26 || m->L == 27 || m->L == 48))
        fail("%s: model.layers is %d, which llama.cpp's deepseek2 takes for another model: not 26, 27 or 48 is expected", run, m->L);
    if (m->router.E && !(c->model.router_scale > 0))
        fail("%s: model.router_scale is 0, which llama.cpp takes for 1: more than 0 is expected", run);
    free(format_name);
}

static int gguf_positions(const Model *m) {
    bool learned = gguf_arch(m->config) == GGUF_GPT2;
    return learned ? (m->T + POSITIONS_MULTIPLE - 1) / POSITIONS_MULTIPLE * POSITIONS_MULTIPLE : m->T;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tokenizers

typedef enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_USER_DEFINED = 4, TOKEN_UNUSED = 5 } GgufTokenType;    // llama.cpp's numbers

// What llama.cpp calls the splits of bpe_patterns, and whether a piece that is a token becomes it whatever the merges say there.
static const struct { const char *name; bool ignore_merges; } gguf_splits[COUNT_OF(bpe_patterns)] = {
    {"gpt-2", false}, {"llama-bpe", true}, {"qwen2", false}, {"gpt-4o", false},
};

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

static void gguf_gpt2_tensors(TensorList *l, const Model *m) {
    const struct { const char *name; TensorId w, b; int rows, cols; } kinds[] = {
        {"attn_norm", NORM1_W, NORM1_B, VECTOR, m->C}, {"attn_qkv", WQ, BQ, 3 * m->C, m->C}, {"attn_output", WO, BO, m->C, m->C},
        {"ffn_norm", NORM2_W, NORM2_B, VECTOR, m->C}, {"ffn_up", W_IN, B_IN, m->F, m->C}, {"ffn_down", W_OUT, B_OUT, m->C, m->F},
    };
    SafeTensor *positions = list_add(l, xstrdup("position_embd.weight"), weight(m, WPE, 0), m->T, m->C, PADDED, 0);
    positions->shape[0] = (uint64_t)gguf_positions(m);
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            bool norm = kinds[k].rows == VECTOR;
            list_add(l, format("blk.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i), kinds[k].rows, kinds[k].cols, AS_IT_IS, 0);
            list_add(l, format("blk.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), VECTOR, norm ? kinds[k].cols : kinds[k].rows, AS_IT_IS, 0);
        }
    list_add(l, xstrdup("output_norm.bias"), weight(m, NORMF_B, 0), VECTOR, m->C, AS_IT_IS, 0);
}

#define GGUF_STRETCHES "rope_freqs.weight"
#define STRETCH_TOLERANCE 1e-5       // relative: converters compute them in fp32

// How many times slower than theta^(-2i/rotated) pair i of a head turns, of rotated/2 of them; to be freed.
static float *gguf_stretches(const Model *m) {
    float *x = xmalloc((size_t)(m->rotated / 2) * sizeof *x);
    for (int i = 0; i < m->rotated / 2; i++) x[i] = (float)(pow(m->config->model.rope_theta, -2.0 * i / m->rotated) / rope_frequency(m, i));
    return x;
}

static void gguf_llama_tensors(TensorList *l, const Model *m) {
    const struct { const char *name; TensorId w, b; int heads; } kinds[] = {          // heads: whose rows turn
        {"attn_norm", NORM1_W, N_TENSORS, 0}, {"attn_q", WQ, BQ, m->NH}, {"attn_k", WK, BK, m->NKV}, {"attn_v", WV, BV, 0},
        {"attn_output", WO, BO, 0}, {"ffn_norm", NORM2_W, N_TENSORS, 0}, {"ffn_gate", W_GATE, B_GATE, 0}, {"ffn_up", W_IN, B_IN, 0},
        {"ffn_down", W_OUT, B_OUT, 0},
    };
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            const Tensor *w = &m->table[kinds[k].w], *b = kinds[k].b != N_TENSORS ? &m->table[kinds[k].b] : NULL;
            char *name = format("blk.%d.%s.weight", i, kinds[k].name);
            int heads = kinds[k].heads;
            if (heads) list_add_reordered(l, name, weight(m, kinds[k].w, i), w->rows, w->cols, rows_in_pairs(heads, 0, m->HS));
            else list_add(l, name, weight(m, kinds[k].w, i), kinds[k].b == N_TENSORS ? VECTOR : w->rows, w->cols, AS_IT_IS, 0);
            if (!b || !b->count) continue;
            name = format("blk.%d.%s.bias", i, kinds[k].name);
            if (heads) list_add_reordered(l, name, weight(m, kinds[k].b, i), b->cols, 1, rows_in_pairs(heads, 0, m->HS));
            else list_add(l, name, weight(m, kinds[k].b, i), VECTOR, b->cols, AS_IT_IS, 0);
        }
    if (m->config->model.rope_factor != 1) list_add_own(l, xstrdup(GGUF_STRETCHES), gguf_stretches(m), m->rotated / 2);
}

static void gguf_deepseek2_attention(TensorList *l, const Model *m, int i) {
    const Config *c = m->config;
    int nope = c->model.nope, rope = c->model.rope, value = c->model.v_head, latent = c->model.kv_lora, low = c->model.q_lora, q = m->NH * (nope + rope);
    const float *kvb = weight(m, W_KVB, i), *values = kvb ? kvb + (size_t)m->NH * nope * latent : NULL;     // behind the keys of all heads
    if (low) {
        list_add(l, format("blk.%d.attn_q_a.weight", i), weight(m, W_QA, i), low, m->C, AS_IT_IS, 0);
        list_add(l, format("blk.%d.attn_q_a_norm.weight", i), weight(m, Q_NORM_W, i), VECTOR, low, AS_IT_IS, 0);
        list_add_reordered(l, format("blk.%d.attn_q_b.weight", i), weight(m, W_QB, i), q, low, rows_in_pairs(m->NH, nope, rope));
    } else list_add_reordered(l, format("blk.%d.attn_q.weight", i), weight(m, WQ, i), q, m->C, rows_in_pairs(m->NH, nope, rope));
    list_add_reordered(l, format("blk.%d.attn_kv_a_mqa.weight", i), weight(m, W_KVA, i), latent + rope, m->C, rows_in_pairs(1, latent, rope));
    list_add(l, format("blk.%d.attn_kv_a_norm.weight", i), weight(m, KV_NORM_W, i), VECTOR, latent, AS_IT_IS, 0);
    list_add(l, format("blk.%d.attn_k_b.weight", i), kvb, m->NH * nope, latent, TRANSPOSED, nope);
    list_add_stacked(l, format("blk.%d.attn_v_b.weight", i), values, m->NH, (size_t)value * latent, value, latent);
    list_add(l, format("blk.%d.attn_output.weight", i), weight(m, WO, i), m->C, m->NH * value, AS_IT_IS, 0);
}

// An MLP of this width: `copy` of its tensors, zeros where the model has none.
static void gguf_deepseek2_mlp(TensorList *l, const Model *m, int i, const char *suffix, TensorId gate, TensorId in, TensorId out, int width, int copy) {
    list_add(l, format("blk.%d.ffn_gate%s.weight", i, suffix), weight(m, gate, copy), width, m->C, AS_IT_IS, 0);
    list_add(l, format("blk.%d.ffn_up%s.weight", i, suffix), weight(m, in, copy), width, m->C, AS_IT_IS, 0);
    list_add(l, format("blk.%d.ffn_down%s.weight", i, suffix), weight(m, out, copy), m->C, width, AS_IT_IS, 0);
}

// A layer's experts, which lie one behind the other. llama.cpp always has a shared one: where the model has none it is of zeros.
static void gguf_deepseek2_experts(TensorList *l, const Model *m, int i, int copy) {
    int E = m->router.E, width = m->config->model.expert_width, shared = m->config->model.shared_experts;
    const struct { const char *name; TensorId id; } kinds[] = {{"gate", W_EXPERT_GATE}, {"up", W_EXPERT_IN}, {"down", W_EXPERT_OUT}};
    list_add(l, format("blk.%d.ffn_gate_inp.weight", i), weight(m, W_ROUTER, copy), E, m->C, AS_IT_IS, 0);
    list_add(l, format("blk.%d.exp_probs_b.bias", i), weight(m, ROUTER_BIAS, copy), VECTOR, E, AS_IT_IS, 0);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const Tensor *t = &m->table[kinds[k].id];
        list_add_stacked(l, format("blk.%d.ffn_%s_exps.weight", i, kinds[k].name), weight(m, kinds[k].id, copy * E), E, t->stride, t->rows, t->cols);
    }
    gguf_deepseek2_mlp(l, m, i, "_shexp", W_SHARED_GATE, W_SHARED_IN, W_SHARED_OUT, max_int(shared, 1) * width, copy);
}

static void gguf_deepseek2_tensors(TensorList *l, const Model *m) {
    for (int i = 0; i < m->L; i++) {
        list_add(l, format("blk.%d.attn_norm.weight", i), weight(m, NORM1_W, i), VECTOR, m->C, AS_IT_IS, 0);
        gguf_deepseek2_attention(l, m, i);
        list_add(l, format("blk.%d.ffn_norm.weight", i), weight(m, NORM2_W, i), VECTOR, m->C, AS_IT_IS, 0);
        if (i < m->D) gguf_deepseek2_mlp(l, m, i, "", W_GATE, W_IN, W_OUT, m->F, i);
        else gguf_deepseek2_experts(l, m, i, i - m->D);
    }
}

// All tensors of the model's architecture. Vectors, positions and the router stay fp32, as llama.cpp's own converter has them.
static void gguf_tensors(TensorList *l, const Model *m) {
    list_add(l, xstrdup("token_embd.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0);
    switch (gguf_arch(m->config)) {
    case GGUF_GPT2: gguf_gpt2_tensors(l, m); break;
    case GGUF_DEEPSEEK2: gguf_deepseek2_tensors(l, m); break;
    default: gguf_llama_tensors(l, m);
    }
    list_add(l, xstrdup("output_norm.weight"), weight(m, NORMF_W, 0), VECTOR, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("output.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0);
    for (int i = 0; i < l->n; i++) {
        SafeTensor *t = &l->tensors[i];
        if (t->ndim == 1 || strstr(t->name, "position_embd") || strstr(t->name, "ffn_gate_inp")) t->type = TENSOR_F32;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys

static void gguf_put_size(GgufKeys *k, const char *arch, const char *key, int x) {
    char *name = format("%s.%s", arch, key);
    gguf_put_u32(k, name, (uint32_t)x);
    free(name);
}

static void gguf_put_fields(GgufKeys *k, const char *arch, const GgufField *fields, const Config *c) {
    for (; fields->name; fields++) {
        const Field *f = config_find(config_fields, N_FIELDS, fields->key);
        const void *value = (const char *)c + f->offset;
        char *name = format("%s.%s", arch, fields->name);
        if (f->type == FIELD_INT) gguf_put_u32(k, name, (uint32_t)*(const int *)value);
        else gguf_put_f32(k, name, (float)*(const double *)value);
        free(name);
    }
}

// Without experts all layers are dense, and there are none of the rest. Groups are a matter only where some of several stay.
static void gguf_put_experts(GgufKeys *k, const Model *m, const char *arch) {
    Config c = *m->config;
    char *norm = format("%s.expert_weights_norm", arch);
    c.model.dense_layers = m->D;
    c.model.shared_experts = max_int(c.model.shared_experts, 1);
    if (!m->router.E) c.model.experts_per_token = c.model.shared_experts = c.model.expert_width = 0, c.model.router_scale = 1;
    gguf_put_fields(k, arch, gguf_expert_fields, &c);
    gguf_put_bool(k, norm, true);
    gguf_put_size(k, arch, "expert_gating_func", GATING_SIGMOID);
    if (m->router.E && m->router.kept < m->router.groups) gguf_put_fields(k, arch, gguf_group_fields, &c);
    free(norm);
}

// The keys of the model, those of its architecture and of its file.
static void gguf_put_model(GgufKeys *k, const Model *m, const char *name, TensorType type) {
    static const uint32_t file_types[TENSOR_TYPES] = {[TENSOR_F32] = 0, [TENSOR_F16] = 1, [TENSOR_BF16] = 32};     // llama.cpp's numbers
    Config c = *m->config;
    GgufArch kind = gguf_arch(&c);
    const char *arch = gguf_archs[kind].name;
    bool latent = kind == GGUF_DEEPSEEK2;
    c.model.context = gguf_positions(m);
    gguf_put_string(k, "general.architecture", arch);
    gguf_put_string(k, "general.name", name);
    gguf_put_u32(k, "general.file_type", file_types[type]);
    gguf_put_size(k, arch, "vocab_size", m->V);
    gguf_put_fields(k, arch, gguf_archs[kind].fields, &c);
    if (kind == GGUF_GPT2) return;
    gguf_put_size(k, arch, "attention.key_length", latent ? c.model.kv_lora + c.model.rope : m->HS);
    gguf_put_size(k, arch, "attention.value_length", latent ? c.model.kv_lora : m->HS);
    if (!latent) {
        gguf_put_size(k, arch, "rope.dimension_count", m->HS);
        return;
    }
    gguf_put_size(k, arch, "attention.head_count_kv", 1);                              // the latent is the key of all heads
    gguf_put_size(k, arch, "attention.key_length_mla", c.model.nope + c.model.rope);
    gguf_put_experts(k, m, arch);
}

// ---------------------------------------------------------------------------------------------------------------------
// The other way

static const GgufKey *gguf_arch_key(const GgufFile *g, const char *arch, const char *name) {
    char *full = format("%s.%s", arch, name);
    const GgufKey *k = gguf_key(g, full);
    free(full);
    return k;
}

// A u32 of the architecture; missing: where there is none, -1: it has to be there.
static int gguf_size(const GgufFile *g, const char *arch, const char *name, int missing) {
    const GgufKey *k = gguf_arch_key(g, arch, name);
    uint32_t x = 0;
    if (!k && missing >= 0) return missing;
    if (!gguf_value(k, GGUF_U32, &x, sizeof x) || x > INT_MAX) fail("%s: key %s.%s: a u32 below 2^31 is expected", g->path, arch, name);
    return (int)x;
}

static void gguf_take_fields(Keys *k, const GgufFile *g, const char *arch, const GgufField *fields) {
    for (; fields->name; fields++) {
        const GgufKey *of = gguf_arch_key(g, arch, fields->name);
        float x = 0;
        char number[32];
        if (!of && fields->missing) keys_set(k, fields->key, "%s", fields->missing);
        else if (config_find(config_fields, N_FIELDS, fields->key)->type == FIELD_INT)
            keys_set(k, fields->key, "%d", gguf_size(g, arch, fields->name, -1));
        else {
            if (!gguf_value(of, GGUF_F32, &x, sizeof x) || !isfinite(x)) fail("%s: key %s.%s: an f32 is expected", g->path, arch, fields->name);
            for (int digits = 1; digits <= 9; digits++) {                              // the shortest decimal of this float
                snprintf(number, sizeof number, "%.*g", digits, (double)x);
                if ((float)strtod(number, NULL) == x) break;
            }
            keys_set(k, fields->key, "%s", number);
        }
    }
}

// The architecture that the file says. Ends the program where it is none of these.
static GgufArch gguf_arch_of(const GgufFile *g) {
    const GgufKey *k = gguf_key(g, "general.architecture");
    const uint8_t *at = k ? k->at : NULL;
    size_t n = 0;
    const char *name = k && k->type == GGUF_STRING ? gguf_next_string(&at, &n) : "";
    for (int i = 0; i < GGUF_ARCHS; i++)
        if (strlen(gguf_archs[i].name) == n && !memcmp(gguf_archs[i].name, name, n)) return (GgufArch)i;
    fail("%s: general.architecture is \"%.*s\": gpt2, llama or deepseek2 is expected", g->path, (int)(n < 60 ? n : 60), name);
}

// The config's keys of what the file says the model is. Ends the program where it doesn't.
static void gguf_take_model(Keys *k, const GgufFile *g) {
    GgufArch kind = gguf_arch_of(g);
    const char *arch = gguf_archs[kind].name;
    const SafeTensor *embedding = gguf_tensor(g, "token_embd.weight");
    if (!embedding || embedding->ndim != 2 || embedding->shape[0] > 1 << 20) fail("%s: token_embd.weight: a matrix of at most 2^20 rows is expected", g->path);
    for (const Needs *needs = gguf_archs[kind].needs; needs->key; needs++) keys_set(k, needs->key, "%s", needs->values);
    keys_set(k, "model.vocab", "%d", (int)embedding->shape[0]);
    keys_set(k, "model.head", gguf_tensor(g, "output.weight") ? "untied" : "tied");
    gguf_take_fields(k, g, arch, gguf_archs[kind].fields);
    if (kind == GGUF_LLAMA) {
        keys_set(k, "model.bias", gguf_tensor(g, "blk.0.attn_q.bias") ? "true" : "false");
        keys_set(k, "model.head_size", "%d", gguf_size(g, arch, "attention.key_length", 0));
    }
    if (kind != GGUF_DEEPSEEK2) return;
    keys_set(k, "model.nope", "%d", max_int(0, gguf_size(g, arch, "attention.key_length_mla", -1) - gguf_size(g, arch, "rope.dimension_count", -1)));
    if (!gguf_size(g, arch, "expert_count", 0)) return;
    gguf_take_fields(k, g, arch, gguf_expert_fields);
    gguf_take_fields(k, g, arch, gguf_group_fields);
}

/* Llama 3.1's longer contexts, which in a GGUF file are numbers, x_i times slower pair i of a head, and no keys. The largest is
 * rope_factor F. A pair between, 1/x = r + (1 - r)/F, turns low + r (high - low) times within rope_original tokens (rope_frequency), low 1 and
 * high 4 as in all that is published; where none is between, those that stay turn high times at least. gguf_check_stretches looks
 * whether it is so. */
static void gguf_take_stretches(Keys *k, const GgufFile *g, const SafeTensor *t) {
    enum { LOW = 1, HIGH = 4 };
    if (t->ndim != 1 || t->type != TENSOR_F32 || !t->shape[0] || t->shape[0] > INT_MAX)
        fail("%s: " GGUF_STRETCHES ": a vector in F32 is expected", g->path);
    int n = (int)t->shape[0], between = 0;
    float *x = xmalloc((size_t)n * sizeof *x), theta = 10000;
    tensor_floats(x, t->of, (size_t)n, t->type);
    gguf_value(gguf_arch_key(g, gguf_archs[GGUF_LLAMA].name, "rope.freq_base"), GGUF_F32, &theta, sizeof theta);
    double factor = x[n - 1], sum = 0, stays = 1;
    for (int i = 0; i < n; i++) {
        double length = 2 * M_PI * pow(theta, (double)i / n), r = (1 / x[i] - 1 / factor) / (1 - 1 / factor);     // tokens in which it turns once
        if (x[i] < 1 + STRETCH_TOLERANCE) stays = ceil(HIGH * length);
        else if (x[i] < factor * (1 - STRETCH_TOLERANCE)) between++, sum += (LOW + r * (HIGH - LOW)) * length;
    }
    double original = round(between ? sum / between : stays);
    free(x);
    if (!(factor >= 1 && factor <= 1e6 && original >= 1 && original <= 1e9))
        fail("%s: " GGUF_STRETCHES ": numbers from 1 on, the last one the largest, expected", g->path);
    keys_set(k, "model.rope_factor", "%.9g", factor);
    keys_set(k, "model.rope_low", "%d", LOW), keys_set(k, "model.rope_high", "%d", HIGH);
    keys_set(k, "model.rope_original", "%.0f", original);
}

// Ends the program where the model's angles aren't those of the tensor, a vector.
static void gguf_check_stretches(const GgufFile *g, const SafeTensor *t, const Model *m) {
    const Config *c = m->config;
    if (t->shape[0] != (uint64_t)m->rotated / 2)
        fail("%s: " GGUF_STRETCHES ": %llu numbers instead of %d", g->path, (unsigned long long)t->shape[0], m->rotated / 2);
    float *x = xmalloc((size_t)t->shape[0] * sizeof *x), *ours = gguf_stretches(m);
    tensor_floats(x, t->of, (size_t)t->shape[0], t->type);
    for (int i = 0; i < m->rotated / 2; i++)
        if (!(fabsf(x[i] - ours[i]) <= STRETCH_TOLERANCE * ours[i]))
            fail("%s: " GGUF_STRETCHES ": pair %d is %g times slower; Llama 3.1's formula with factor %g, frequency factors %g and %g, original context %d "
                 "has %g: its folder of Hugging Face says by which one it is", g->path, i, (double)x[i], c->model.rope_factor, c->model.rope_low,
                 c->model.rope_high, c->model.rope_original, (double)ours[i]);
    free(x), free(ours);
}

// A key's value in a message; to be freed.
static char *gguf_value_text(const GgufKey *k) {
    uint32_t x;
    float f;
    const uint8_t *at = k->at;
    size_t n;
    if (gguf_value(k, GGUF_U32, &x, sizeof x)) return format("%u", x);
    if (gguf_value(k, GGUF_F32, &f, sizeof f)) return format("%g", (double)f);
    if (k->type == GGUF_BOOL) return xstrdup(*k->at ? "true" : "false");
    if (k->type != GGUF_STRING) return format("of type %s", gguf_type_name(k->type));
    const char *text = gguf_next_string(&at, &n);
    return format("\"%.*s\"", (int)(n < 60 ? n : 60), text);
}

// Whether a key that isn't written here says what is so anyway.
static bool gguf_says_nothing(const char *name, const GgufKey *k) {
    static const char *const zeros[] = {"expert_count", "expert_used_count", "expert_shared_count", "expert_group_count", "expert_group_used_count",
                                        "nextn_predict_layers"};
    uint32_t x;
    float f;
    char *value = gguf_value_text(k);
    bool nothing = !strcmp(name, "tensor_data_layout") || (!strcmp(name, "rope.scaling.type") && !strcmp(value, "\"none\"")) ||
                   (!strcmp(name, "rope.scaling.factor") && gguf_value(k, GGUF_F32, &f, sizeof f) && f == 1);
    for (size_t i = 0; i < COUNT_OF(zeros); i++)
        nothing = nothing || (!strcmp(name, zeros[i]) && gguf_value(k, GGUF_U32, &x, sizeof x) && x <= (strstr(name, "group") != NULL));      // 1 group is none
    free(value);
    return nothing;
}

/* Whether all that the file g says of its architecture is so of the model m: each of its keys has the value that would be written of
 * m. (But for the context, of which m may have less.) Ends the program where one has not, or is none that would be written. */
static void gguf_check_keys(const GgufFile *g, const Model *m) {
    char error[ERROR_ROOM];
    size_t size;
    uint64_t file_size;
    GgufKeys keys;
    gguf_keys_open(&keys);
    gguf_put_model(&keys, m, "", TENSOR_F32);
    char *header = gguf_header(&keys, NULL, 0, &size, &file_size);
    GgufFile own;
    if (gguf_parse(&own, "own keys", header, size, file_size, error, sizeof error) != 0) fail("%s", error);
    const char *arch = gguf_archs[gguf_arch(m->config)].name;
    for (int i = 0; i < g->n_keys; i++) {
        const GgufKey *k = &g->keys[i], *expected = gguf_key(&own, k->name);
        const char *name = k->name + strlen(arch) + 1;
        if (strncmp(k->name, arch, strlen(arch)) || name[-1] != '.' || !strcmp(name, "context_length")) continue;
        char *is = gguf_value_text(k);
        if (!expected && !gguf_says_nothing(name, k)) fail("%s: key %.80s is %s: not known here, it may be of another kind of model", g->path, k->name, is);
        char *should = expected ? gguf_value_text(expected) : NULL;
        if (expected && (k->type != expected->type || strcmp(is, should))) fail("%s: key %.80s is %s: %s is expected", g->path, k->name, is, should);
        free(is), free(should);
    }
    gguf_close(&own);
    free(header);
}

#endif // GGUF_MODEL_H

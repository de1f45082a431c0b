/* gguf_model.h - a model as llama.cpp's GGUF files have it: which of its architectures it is, its tensors, its keys.
 *
 * defines: GgufArch, gguf_arch, gguf_check, gguf_tensors, gguf_put_model
 *
 * What is told apart by model.mixer and model.norm, checked against llama.cpp by dev/golden/check_gguf.py:
 *
 *   mixer mla       deepseek2   rotated rows in pairs (2i, 2i + 1) instead of (i, i + half); W_kvb's keys transposed head by head, its
 *                               values as they are; a layer's experts as one tensor
 *   norm layernorm  gpt2        matrices (out, in) as here; as many positions as the context rounded up to POSITIONS_MULTIPLE
 *   norm rmsnorm    llama       rows of W_q and W_k, and their biases, in pairs
 *
 * llama.cpp takes a wrong or missing key for another model without a word, so that every key it knows of the architecture is
 * written.
 */
#ifndef GGUF_MODEL_H
#define GGUF_MODEL_H

#include "formats.h"                // defines: Needs, check_needs, check_no_groups; tensor_list.h
#include "../src/gguf.h"            // defines: GgufKeys, gguf_put_u32, ..., GgufFile, gguf_parse, gguf_key

enum { GATING_SIGMOID = 2,          // llama.cpp's number for it
       POSITIONS_MULTIPLE = 256 };  // llama.cpp makes contexts of such a multiple, and its gpt2 then needs a row for each position

typedef enum { GGUF_GPT2, GGUF_LLAMA, GGUF_DEEPSEEK2, GGUF_ARCHS } GgufArch;

static const char *const gguf_archs[GGUF_ARCHS] = {"gpt2", "llama", "deepseek2"};

static GgufArch gguf_arch(const Config *c) {
    return c->model.mixer == MIXER_MLA ? GGUF_DEEPSEEK2 : c->model.norm == NORM_LAYERNORM ? GGUF_GPT2 : GGUF_LLAMA;
}

static const Needs gguf_gpt2[] = {
    {"model.experts", "0"}, {"model.position", "learned"}, {"model.mlp", "gelu_tanh"}, {"model.qk_norm", "false"}, {"model.embed_norm", "false"},
    {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"}, {"model.head_size", "0"},
}, gguf_llama[] = {
    {"model.norm", "rmsnorm"}, {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.qk_norm", "false"},
    {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"}, {"model.rope_factor", "1"},
}, gguf_deepseek2[] = {
    {"model.norm", "rmsnorm"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.qk_norm", "false"}, {"model.embed_norm", "false"},
    {"model.bias", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"}, {"model.rope_factor", "1"},
};

// Ends the program where llama.cpp's architecture can't say what the model is.
static void gguf_check(const Model *m, const char *run) {
    const Config *c = m->config;
    switch (gguf_arch(c)) {
    case GGUF_DEEPSEEK2:
        check_needs(c, run, "llama.cpp's deepseek2 (model.mixer is mla)", gguf_deepseek2, COUNT_OF(gguf_deepseek2));
        if (m->L == 26 || m->L == 27 || m->L == 48)
            fail("%s: model.layers is %d, which llama.cpp's deepseek2 takes for another model: not 26, 27 or 48 is expected", run, m->L);
        if (m->router.E && !(c->model.router_scale > 0))
            fail("%s: model.router_scale is 0, which llama.cpp takes for 1: more than 0 is expected", run);
        break;
    case GGUF_GPT2:
        check_needs(c, run, "llama.cpp's gpt2 (model.norm is layernorm)", gguf_gpt2, COUNT_OF(gguf_gpt2));
        check_no_groups(m, run, "llama.cpp's gpt2");
        break;
    default:
        check_needs(c, run, "llama.cpp", gguf_llama, COUNT_OF(gguf_llama));
    }
}

static int gguf_positions(const Model *m) {
    bool learned = gguf_arch(m->config) == GGUF_GPT2;
    return learned ? (m->T + POSITIONS_MULTIPLE - 1) / POSITIONS_MULTIPLE * POSITIONS_MULTIPLE : m->T;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

static void gguf_gpt2_tensors(TensorList *l, const Model *m) {
    const struct { const char *name; TensorId w, b; int rows, cols; } kinds[] = {
        {"attn_norm", NORM1_W, NORM1_B, 1, m->C}, {"attn_qkv", WQ, BQ, 3 * m->C, m->C}, {"attn_output", WO, BO, m->C, m->C},
        {"ffn_norm", NORM2_W, NORM2_B, 1, m->C}, {"ffn_up", W_IN, B_IN, m->F, m->C}, {"ffn_down", W_OUT, B_OUT, m->C, m->F},
    };
    SafeTensor *positions = list_add(l, xstrdup("position_embd.weight"), weight(m, WPE, 0), m->T, m->C, PADDED, 0);
    positions->ndim = 2, positions->shape[0] = (uint64_t)gguf_positions(m);
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            bool norm = kinds[k].rows == 1;
            list_add(l, format("blk.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i), kinds[k].rows, kinds[k].cols, AS_IT_IS, 0);
            list_add(l, format("blk.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), 1, norm ? kinds[k].cols : kinds[k].rows, AS_IT_IS, 0);
        }
    list_add(l, xstrdup("output_norm.bias"), weight(m, NORMF_B, 0), 1, m->C, AS_IT_IS, 0);
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
            else list_add(l, name, weight(m, kinds[k].w, i), w->rows, w->cols, AS_IT_IS, 0);
            if (!b || !b->count) continue;
            name = format("blk.%d.%s.bias", i, kinds[k].name);
            if (heads) list_add_reordered(l, name, weight(m, kinds[k].b, i), b->cols, 1, rows_in_pairs(heads, 0, m->HS));
            else list_add(l, name, weight(m, kinds[k].b, i), 1, b->cols, AS_IT_IS, 0);
        }
}

static void gguf_deepseek2_attention(TensorList *l, const Model *m, int i) {
    const Config *c = m->config;
    int nope = c->model.nope, rope = c->model.rope, value = c->model.v_head, latent = c->model.kv_lora, low = c->model.q_lora, q = m->NH * (nope + rope);
    const float *kvb = weight(m, W_KVB, i);                                            // the keys of all heads, then the values of all
    if (low) {
        list_add(l, format("blk.%d.attn_q_a.weight", i), weight(m, W_QA, i), low, m->C, AS_IT_IS, 0);
        list_add(l, format("blk.%d.attn_q_a_norm.weight", i), weight(m, Q_NORM_W, i), 1, low, AS_IT_IS, 0);
        list_add_reordered(l, format("blk.%d.attn_q_b.weight", i), weight(m, W_QB, i), q, low, rows_in_pairs(m->NH, nope, rope));
    } else list_add_reordered(l, format("blk.%d.attn_q.weight", i), weight(m, WQ, i), q, m->C, rows_in_pairs(m->NH, nope, rope));
    list_add_reordered(l, format("blk.%d.attn_kv_a_mqa.weight", i), weight(m, W_KVA, i), latent + rope, m->C, rows_in_pairs(1, latent, rope));
    list_add(l, format("blk.%d.attn_kv_a_norm.weight", i), weight(m, KV_NORM_W, i), 1, latent, AS_IT_IS, 0);
    list_add(l, format("blk.%d.attn_k_b.weight", i), kvb, m->NH * nope, latent, TRANSPOSED, nope);
    list_add_stacked(l, format("blk.%d.attn_v_b.weight", i), kvb + (size_t)m->NH * nope * latent, m->NH, (size_t)value * latent, value, latent);
    list_add(l, format("blk.%d.attn_output.weight", i), weight(m, WO, i), m->C, m->NH * value, AS_IT_IS, 0);
}

// An MLP of this width: `copy` of its tensors, zeros where the model has none.
static void gguf_deepseek2_mlp(TensorList *l, const Model *m, int i, const char *suffix, TensorId gate, TensorId in, TensorId out, int width, int copy) {
    list_add(l, format("blk.%d.ffn_gate%s.weight", i, suffix), weight(m, gate, copy), width, m->C, AS_IT_IS, 0)->ndim = 2;
    list_add(l, format("blk.%d.ffn_up%s.weight", i, suffix), weight(m, in, copy), width, m->C, AS_IT_IS, 0)->ndim = 2;
    list_add(l, format("blk.%d.ffn_down%s.weight", i, suffix), weight(m, out, copy), m->C, width, AS_IT_IS, 0)->ndim = 2;
}

// A layer's experts, which lie one behind the other. llama.cpp always has a shared one: where the model has none it is of zeros.
static void gguf_deepseek2_experts(TensorList *l, const Model *m, int i, int copy) {
    int E = m->router.E, width = m->config->model.expert_width, shared = m->config->model.shared_experts;
    const struct { const char *name; TensorId id; } kinds[] = {{"gate", W_EXPERT_GATE}, {"up", W_EXPERT_IN}, {"down", W_EXPERT_OUT}};
    list_add(l, format("blk.%d.ffn_gate_inp.weight", i), weight(m, W_ROUTER, copy), E, m->C, AS_IT_IS, 0)->ndim = 2;
    list_add(l, format("blk.%d.exp_probs_b.bias", i), weight(m, ROUTER_BIAS, copy), 1, E, AS_IT_IS, 0);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const Tensor *t = &m->table[kinds[k].id];
        list_add_stacked(l, format("blk.%d.ffn_%s_exps.weight", i, kinds[k].name), weight(m, kinds[k].id, copy * E), E, t->stride, t->rows, t->cols);
    }
    gguf_deepseek2_mlp(l, m, i, "_shexp", W_SHARED_GATE, W_SHARED_IN, W_SHARED_OUT, max_int(shared, 1) * width, copy);
}

static void gguf_deepseek2_tensors(TensorList *l, const Model *m) {
    for (int i = 0; i < m->L; i++) {
        list_add(l, format("blk.%d.attn_norm.weight", i), weight(m, NORM1_W, i), 1, m->C, AS_IT_IS, 0);
        gguf_deepseek2_attention(l, m, i);
        list_add(l, format("blk.%d.ffn_norm.weight", i), weight(m, NORM2_W, i), 1, m->C, AS_IT_IS, 0);
        if (i < m->D) gguf_deepseek2_mlp(l, m, i, "", W_GATE, W_IN, W_OUT, m->F, i);
        else gguf_deepseek2_experts(l, m, i, i - m->D);
    }
}

// All tensors of the model's architecture. Vectors, positions and the router stay fp32, as llama.cpp's own converter has them.
static void gguf_tensors(TensorList *l, const Model *m) {
    list_add(l, xstrdup("token_embd.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0)->ndim = 2;
    switch (gguf_arch(m->config)) {
    case GGUF_GPT2: gguf_gpt2_tensors(l, m); break;
    case GGUF_DEEPSEEK2: gguf_deepseek2_tensors(l, m); break;
    default: gguf_llama_tensors(l, m);
    }
    list_add(l, xstrdup("output_norm.weight"), weight(m, NORMF_W, 0), 1, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("output.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0)->ndim = 2;
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

static void gguf_put_number(GgufKeys *k, const char *arch, const char *key, double x) {
    char *name = format("%s.%s", arch, key);
    gguf_put_f32(k, name, (float)x);
    free(name);
}

// Groups of experts are a matter only where some of several stay.
static void gguf_put_experts(GgufKeys *k, const Model *m, const char *arch) {
    const Config *c = m->config;
    gguf_put_size(k, arch, "leading_dense_block_count", m->D);
    gguf_put_size(k, arch, "expert_count", m->router.E), gguf_put_size(k, arch, "expert_used_count", m->router.E ? c->model.experts_per_token : 0);
    gguf_put_size(k, arch, "expert_shared_count", m->router.E ? max_int(c->model.shared_experts, 1) : 0);
    gguf_put_size(k, arch, "expert_feed_forward_length", m->router.E ? c->model.expert_width : 0);
    gguf_put_number(k, arch, "expert_weights_scale", m->router.E ? c->model.router_scale : 1);
    char *norm = format("%s.expert_weights_norm", arch);
    gguf_put_bool(k, norm, true);
    free(norm);
    gguf_put_size(k, arch, "expert_gating_func", GATING_SIGMOID);
    if (c->model.groups_per_token >= c->model.expert_groups) return;
    gguf_put_size(k, arch, "expert_group_count", c->model.expert_groups), gguf_put_size(k, arch, "expert_group_used_count", c->model.groups_per_token);
}

// The keys of the model, those of its architecture and of its file.
static void gguf_put_model(GgufKeys *k, const Model *m, const char *name, TensorType type) {
    static const uint32_t file_types[TENSOR_TYPES] = {[TENSOR_F32] = 0, [TENSOR_F16] = 1, [TENSOR_BF16] = 32};     // llama.cpp's numbers
    const Config *c = m->config;
    GgufArch kind = gguf_arch(c);
    const char *arch = gguf_archs[kind];
    bool latent = kind == GGUF_DEEPSEEK2;
    gguf_put_string(k, "general.architecture", arch);
    gguf_put_string(k, "general.name", name);
    gguf_put_u32(k, "general.file_type", file_types[type]);
    gguf_put_size(k, arch, "vocab_size", m->V);
    gguf_put_size(k, arch, "context_length", gguf_positions(m)), gguf_put_size(k, arch, "embedding_length", m->C);
    gguf_put_size(k, arch, "block_count", m->L), gguf_put_size(k, arch, "feed_forward_length", m->F);
    gguf_put_size(k, arch, "attention.head_count", m->NH);
    gguf_put_number(k, arch, kind == GGUF_GPT2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", c->model.norm_eps);
    if (kind == GGUF_GPT2) return;
    gguf_put_size(k, arch, "attention.head_count_kv", latent ? 1 : m->NKV);            // deepseek2: the latent is the key of all heads
    gguf_put_number(k, arch, "rope.freq_base", c->model.rope_theta);
    gguf_put_size(k, arch, "rope.dimension_count", latent ? c->model.rope : m->HS);
    gguf_put_size(k, arch, "attention.key_length", latent ? c->model.kv_lora + c->model.rope : m->HS);
    gguf_put_size(k, arch, "attention.value_length", latent ? c->model.kv_lora : m->HS);
    if (!latent) return;
    gguf_put_size(k, arch, "attention.q_lora_rank", c->model.q_lora), gguf_put_size(k, arch, "attention.kv_lora_rank", c->model.kv_lora);
    gguf_put_size(k, arch, "attention.key_length_mla", c->model.nope + c->model.rope);
    gguf_put_size(k, arch, "attention.value_length_mla", c->model.v_head);
    gguf_put_experts(k, m, arch);
}

#endif // GGUF_MODEL_H

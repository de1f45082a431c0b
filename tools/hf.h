/* hf.h - Hugging Face's models: what each class can say, its keys of config.json and its tensors, for both directions.
 *
 * defines: HfClass, HfKey, HfFixed, hf_classes, hf_class_of
 *
 *   GPT2LMHeadModel       layernorm; its four matrices of a block are (in, out)
 *   LlamaForCausalLM      rmsnorm; as it is
 *   NanoChatForCausalLM   rmsnorm_plain; turns queries and keys by the opposite angle: the same where half of each head of W_q
 *                         and W_k has the other sign, since only products of the two matter
 *   DeepseekV3ForCausalLM mixer mla; rotated rows in pairs (2i, 2i + 1) instead of (i, i + half); W_kvb head by head
 *
 * Names, defaults and conventions are those of transformers 5.24: dev/golden/check_export.py and check_import.py.
 */
#ifndef HF_H
#define HF_H

#include "formats.h"

// A key of config.json and the key here that has the same value. missing: what the class takes where there is no such key.
typedef struct { const char *name, *key, *missing; } HfKey;

// A key of config.json that is no choice here: JSON values that are the same model, of which the first is written and is what
// a missing key means; '|' between them.
typedef struct { const char *name, *values; } HfFixed;

typedef struct {
    const char *type, *name, *when;          // model_type, architectures, and which models are of it
    const char *arch, *prefix;               // model.arch nearest to it; what names of tensors may lack
    const Needs *needs;                      // what is the same in all of its models: the first value is an import's
    const HfKey *keys, *expert_keys;         // each list ends with a name of NULL
    const HfFixed *fixed;
    void (*tensors)(TensorList *l, const Model *m);
} HfClass;

// ---------------------------------------------------------------------------------------------------------------------
// config.json

static const Needs hf_gpt2_needs[] = {
    {"model.mixer", "attention"}, {"model.norm", "layernorm"}, {"model.experts", "0"}, {"model.position", "learned"},
    {"model.mlp", "gelu_tanh gelu_erf"}, {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"},
    {"model.logit_softcap", "0"}, {"model.head_size", "0"}, {NULL, NULL},
}, hf_llama_needs[] = {
    {"model.mixer", "attention"}, {"model.norm", "rmsnorm"}, {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "swiglu"},
    {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"}, {NULL, NULL},
}, hf_nanochat_needs[] = {
    {"model.mixer", "attention"}, {"model.norm", "rmsnorm_plain"}, {"model.experts", "0"}, {"model.position", "rope"}, {"model.mlp", "relu2"},
    {"model.qk_norm", "true"}, {"model.embed_norm", "true"}, {"model.attn_softcap", "0"}, {"model.head", "untied"}, {"model.bias", "false"},
    {"model.rope_factor", "1"}, {NULL, NULL},
}, hf_deepseek_needs[] = {
    {"model.mixer", "mla"}, {"model.norm", "rmsnorm"}, {"model.position", "rope"}, {"model.mlp", "swiglu"}, {"model.qk_norm", "false"},
    {"model.embed_norm", "false"}, {"model.bias", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
    {"model.rope_factor", "1"}, {NULL, NULL},
};

static const HfKey hf_gpt2_keys[] = {
    {"n_positions", "model.context", "1024"}, {"n_embd", "model.width", "768"}, {"n_layer", "model.layers", "12"},
    {"n_head", "model.heads", "12"}, {"n_inner", "model.mlp_width", "0"}, {"layer_norm_epsilon", "model.norm_eps", "1e-5"}, {NULL, NULL, NULL},
}, hf_llama_keys[] = {
    {"max_position_embeddings", "model.context", "2048"}, {"hidden_size", "model.width", "4096"},
    {"intermediate_size", "model.mlp_width", "11008"}, {"num_hidden_layers", "model.layers", "32"}, {"num_attention_heads", "model.heads", "32"},
    {"num_key_value_heads", "model.kv_heads", "0"}, {"head_dim", "model.head_size", "0"}, {"rms_norm_eps", "model.norm_eps", "1e-6"},
    {"rope_theta", "model.rope_theta", "10000"}, {NULL, NULL, NULL},
}, hf_nanochat_keys[] = {
    {"max_position_embeddings", "model.context", "2048"}, {"hidden_size", "model.width", "768"},
    {"intermediate_size", "model.mlp_width", "8192"}, {"num_hidden_layers", "model.layers", "12"}, {"num_attention_heads", "model.heads", "6"},
    {"num_key_value_heads", "model.kv_heads", "0"}, {"head_dim", "model.head_size", "0"}, {"rms_norm_eps", "model.norm_eps", "1e-6"},
    {"rope_theta", "model.rope_theta", "10000"}, {"final_logit_softcapping", "model.logit_softcap", "15"}, {NULL, NULL, NULL},
}, hf_deepseek_keys[] = {
    {"max_position_embeddings", "model.context", "4096"}, {"hidden_size", "model.width", "7168"},
    {"intermediate_size", "model.mlp_width", "18432"}, {"num_hidden_layers", "model.layers", "61"}, {"num_attention_heads", "model.heads", "128"},
    {"num_key_value_heads", "model.kv_heads", "128"}, {"q_lora_rank", "model.q_lora", "1536"}, {"kv_lora_rank", "model.kv_lora", "512"},
    {"qk_nope_head_dim", "model.nope", "128"}, {"qk_rope_head_dim", "model.rope", "64"}, {"v_head_dim", "model.v_head", "128"},
    {"rms_norm_eps", "model.norm_eps", "1e-6"}, {"rope_theta", "model.rope_theta", "10000"}, {NULL, NULL, NULL},
}, hf_expert_keys[] = {
    {"n_routed_experts", "model.experts", "256"}, {"num_experts_per_tok", "model.experts_per_token", "8"},
    {"n_shared_experts", "model.shared_experts", "1"}, {"moe_intermediate_size", "model.expert_width", "2048"},
    {"n_group", "model.expert_groups", "8"}, {"topk_group", "model.groups_per_token", "4"},
    {"routed_scaling_factor", "model.router_scale", "2.5"}, {NULL, NULL, NULL},
};

// Of rope_scaling (transformers 5: rope_parameters) where its rope_type is llama3, which only LlamaForCausalLM has here.
static const HfKey hf_llama3_keys[] = {
    {"factor", "model.rope_factor", "1"}, {"low_freq_factor", "model.rope_low", "1"}, {"high_freq_factor", "model.rope_high", "4"},
    {"original_max_position_embeddings", "model.rope_original", "8192"}, {NULL, NULL, NULL},
};

static const HfFixed hf_gpt2_fixed[] = {
    {"scale_attn_weights", "true"}, {"scale_attn_by_inverse_layer_idx", "false"}, {"add_cross_attention", "false"}, {NULL, NULL},
}, hf_llama_fixed[] = {
    {"hidden_act", "\"silu\"|\"swish\""}, {NULL, NULL},
}, hf_nanochat_fixed[] = {
    {"hidden_act", "\"relu2\""}, {"attention_bias", "false"}, {NULL, NULL},
}, hf_deepseek_fixed[] = {
    {"hidden_act", "\"silu\"|\"swish\""}, {"attention_bias", "false"}, {"norm_topk_prob", "true"}, {"rope_interleave", "true"},
    {"scoring_func", "\"sigmoid\""}, {"topk_method", "\"noaux_tc\""}, {"moe_layer_freq", "1"},    // transformers has nothing else, others ask
    {NULL, NULL},
};

// ---------------------------------------------------------------------------------------------------------------------
// Tensors

static void hf_gpt2_tensors(TensorList *l, const Model *m) {
    const struct { const char *name; TensorId w, b; int rows, cols; bool norm; } kinds[] = {
        {"ln_1", NORM1_W, NORM1_B, VECTOR, m->C, true}, {"attn.c_attn", WQ, BQ, 3 * m->C, m->C, false}, {"attn.c_proj", WO, BO, m->C, m->C, false},
        {"ln_2", NORM2_W, NORM2_B, VECTOR, m->C, true}, {"mlp.c_fc", W_IN, B_IN, m->F, m->C, false}, {"mlp.c_proj", W_OUT, B_OUT, m->C, m->F, false},
    };
    list_add(l, xstrdup("transformer.wte.weight"), weight(m, WTE, 0), m->V, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("transformer.wpe.weight"), weight(m, WPE, 0), m->T, m->C, AS_IT_IS, 0);
    for (int i = 0; i < m->L; i++)
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            list_add(l, format("transformer.h.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i), kinds[k].rows, kinds[k].cols,
                     kinds[k].norm ? AS_IT_IS : TRANSPOSED, 0);
            list_add(l, format("transformer.h.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), VECTOR,
                     kinds[k].norm ? kinds[k].cols : kinds[k].rows, AS_IT_IS, 0);
        }
    list_add(l, xstrdup("transformer.ln_f.weight"), weight(m, NORMF_W, 0), VECTOR, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("transformer.ln_f.bias"), weight(m, NORMF_B, 0), VECTOR, m->C, AS_IT_IS, 0);
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
            if (t->count) list_add(l, format("model.layers.%d.%s.weight", i, kinds[k].name), weight(m, kinds[k].w, i),
                                   kinds[k].b == N_TENSORS ? VECTOR : t->rows, t->cols, turned ? TURNED : AS_IT_IS, m->HS);
            if (kinds[k].b != N_TENSORS && m->table[kinds[k].b].count)
                list_add(l, format("model.layers.%d.%s.bias", i, kinds[k].name), weight(m, kinds[k].b, i), VECTOR, m->table[kinds[k].b].cols, AS_IT_IS, 0);
        }
    if (m->table[NORMF_W].count) list_add(l, xstrdup("model.norm.weight"), weight(m, NORMF_W, 0), VECTOR, m->C, AS_IT_IS, 0);
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
        list_add(l, format(at, i, "q_a_layernorm"), weight(m, Q_NORM_W, i), VECTOR, low, AS_IT_IS, 0);
        list_add_reordered(l, format(at, i, "q_b_proj"), weight(m, W_QB, i), q, low, rows_in_pairs(m->NH, nope, rope));
    } else list_add_reordered(l, format(at, i, "q_proj"), weight(m, WQ, i), q, m->C, rows_in_pairs(m->NH, nope, rope));
    list_add_reordered(l, format(at, i, "kv_a_proj_with_mqa"), weight(m, W_KVA, i), latent + rope, m->C, rows_in_pairs(1, latent, rope));
    list_add(l, format(at, i, "kv_a_layernorm"), weight(m, KV_NORM_W, i), VECTOR, latent, AS_IT_IS, 0);
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
    list_add(l, format("%s.e_score_correction_bias", at), weight(m, ROUTER_BIAS, copy), VECTOR, E, AS_IT_IS, 0);
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
        list_add(l, format("model.layers.%d.input_layernorm.weight", i), weight(m, NORM1_W, i), VECTOR, m->C, AS_IT_IS, 0);
        hf_deepseek_attention(l, m, i);
        list_add(l, format("model.layers.%d.post_attention_layernorm.weight", i), weight(m, NORM2_W, i), VECTOR, m->C, AS_IT_IS, 0);
        char *at = format("model.layers.%d.mlp", i);
        if (i < m->D) hf_deepseek_mlp(l, m, at, W_GATE, W_IN, W_OUT, m->F, i);
        else hf_deepseek_experts(l, m, i, i - m->D);
        free(at);
    }
    list_add(l, xstrdup("model.norm.weight"), weight(m, NORMF_W, 0), VECTOR, m->C, AS_IT_IS, 0);
    if (m->table[HEAD].count) list_add(l, xstrdup("lm_head.weight"), weight(m, HEAD, 0), m->V, m->C, AS_IT_IS, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// The classes

typedef enum { HF_GPT2, HF_LLAMA, HF_NANOCHAT, HF_DEEPSEEK, HF_CLASSES } HfClassId;

static const HfClass hf_classes[HF_CLASSES] = {
    [HF_GPT2]     = {"gpt2", "GPT2LMHeadModel", "model.norm is layernorm", "gpt2", "transformer.", hf_gpt2_needs, hf_gpt2_keys, NULL,
                     hf_gpt2_fixed, hf_gpt2_tensors},
    [HF_LLAMA]    = {"llama", "LlamaForCausalLM", "model.norm is rmsnorm", "llama", "model.", hf_llama_needs, hf_llama_keys, NULL,
                     hf_llama_fixed, hf_llama_tensors},
    [HF_NANOCHAT] = {"nanochat", "NanoChatForCausalLM", "model.norm is rmsnorm_plain", "speedrun", "model.", hf_nanochat_needs,
                     hf_nanochat_keys, NULL, hf_nanochat_fixed, hf_llama_tensors},
    [HF_DEEPSEEK] = {"deepseek_v3", "DeepseekV3ForCausalLM", "model.mixer is mla", "k2", "model.", hf_deepseek_needs, hf_deepseek_keys,
                     hf_expert_keys, hf_deepseek_fixed, hf_deepseek_tensors},
};

// The class that a model of this config is of, if any is.
static const HfClass *hf_class_of(const Config *c) {
    if (c->model.mixer == MIXER_MLA) return &hf_classes[HF_DEEPSEEK];
    switch ((NormKind)c->model.norm) {
    case NORM_LAYERNORM: return &hf_classes[HF_GPT2];
    case NORM_RMSNORM: return &hf_classes[HF_LLAMA];
    case NORM_RMSNORM_PLAIN: break;
    }
    return &hf_classes[HF_NANOCHAT];
}

#endif // HF_H

/* test_export.c - what build/export writes, read by plain loops over the formats' definitions: names, shapes, bytes, and
 * which weight of the checkpoint stands where. That transformers and llama.cpp read the same model from it:
 * dev/golden/check_export.py and check_gguf.py.
 */
#define _GNU_SOURCE
#include "../../src/checkpoint.h"
#include "../../src/gguf.h"
#include "../../data/tokenizer.h"
#include "test.h"
#include "train.h"

// ---------------------------------------------------------------------------------------------------------------------
// Types

static double f16_value(uint16_t h) {
    double x = h & 0x3ff;
    int exponent = h >> 10 & 31;
    x = exponent ? ldexp(1024 + x, exponent - 25) : ldexp(x, -24);
    return h & 0x8000 ? -x : x;
}

TEST(f16_and_bf16_round_to_the_nearest) {
    for (uint32_t h = 0; h < 0x7c00; h++)
        CHECK_MSG(tensor_f16((float)f16_value((uint16_t)h)) == h, "%04x", h);
    for (uint32_t h = 0; h + 1 < 0x7c00; h++) {                  // between two neighbours: the middle goes to the even one
        double low = f16_value((uint16_t)h), high = f16_value((uint16_t)(h + 1)), middle = (low + high) / 2;
        CHECK_MSG(tensor_f16((float)middle) == (h & 1 ? h + 1 : h), "the middle above %04x", h);
        CHECK_MSG(tensor_f16(nextafterf((float)middle, INFINITY)) == h + 1, "above the middle above %04x", h);
        CHECK_MSG(tensor_f16(nextafterf(-(float)middle, 0)) == (0x8000 | h), "below the middle above %04x", h);
    }
    CHECK(tensor_f16(65519) == 0x7bff && tensor_f16(65520) == 0x7c00 && tensor_f16(-INFINITY) == 0xfc00);
    CHECK((tensor_f16(NAN) & 0x7fff) > 0x7c00 && (tensor_bf16(NAN) & 0x7fff) > 0x7f80);
    CHECK(tensor_bf16(1.00390625f) == 0x3f80 && tensor_bf16(1.01171875f) == 0x3f82 && tensor_bf16(-1) == 0xbf80);
    float x[3] = {1, 70000, 3e38f};
    uint16_t words[3];
    CHECK(tensor_convert(words, x, 3, TENSOR_F16) == 2 && tensor_convert(words, x, 3, TENSOR_BF16) == 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

// A safetensors file, checked as its owner's reader does: no gap, no overlap, no byte behind.
typedef struct { char *bytes; cJSON *header; const char *data; } Read;

static Read read_safetensors(const char *path) {
    size_t size;
    Read r = {.bytes = read_file(path, &size)};
    CHECK_MSG(r.bytes != NULL, "%s: %s", path, strerror(errno));
    if (!r.bytes) return r;
    uint64_t length;
    memcpy(&length, r.bytes, 8);
    CHECK(length % 8 == 0 && length + 8 <= size);
    char *text = format("%.*s", (int)length, r.bytes + 8);
    r.header = cJSON_Parse(text);
    free(text);
    r.data = r.bytes + 8 + length;
    double end = 0;
    for (const cJSON *t = r.header->child; t; t = t->next) {
        const cJSON *offsets = cJSON_GetObjectItem(t, "data_offsets");
        if (!offsets) continue;
        CHECK_MSG(offsets->child->valuedouble == end, "a gap before %s", t->string);
        end = offsets->child->next->valuedouble;
    }
    CHECK_MSG(8 + (double)length + end == (double)size, "%s has %zu bytes", path, size);
    return r;
}

static void read_free(Read *r) {
    cJSON_Delete(r->header);
    free(r->bytes);
}

// A tensor's numbers where it is there with this shape and in fp32, else NULL and a failed check. rows 1: a vector.
static const float *tensor_at(const Read *r, const char *name, int rows, int cols) {
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(r->header, name), *shape = cJSON_GetObjectItem(t, "shape");
    CHECK_MSG(t && !strcmp(cJSON_GetObjectItem(t, "dtype")->valuestring, "F32"), "no %s", name);
    if (!t) return NULL;
    bool fits = rows == 1 ? cJSON_GetArraySize(shape) == 1 && shape->child->valueint == cols
                          : cJSON_GetArraySize(shape) == 2 && shape->child->valueint == rows && shape->child->next->valueint == cols;
    CHECK_MSG(fits, "the shape of %s", name);
    return fits ? (const float *)(r->data + (size_t)cJSON_GetObjectItem(t, "data_offsets")->child->valuedouble) : NULL;
}

// Matrix `copy` of a checkpoint's tensor.
static const float *saved(const Checkpoint *c, const char *name, int copy) {
    const CkptTensor *t = checkpoint_find(c, name);
    return (const float *)t->data + (size_t)copy * t->shape[1] * t->shape[2];
}

static void train_tiny(const char *name, const char *keys) {
    CHECK(TRAIN("build/test/run.json --run.dir=build/test/export_%s --overwrite --train.steps=12 --model.heads=2 "
                "--optimizer.qk_clip.tau=0 --optimizer.adamw.lr=0.05 %s", name, keys) == 0);
}

static int export(const char *name, const char *arguments) {
    return shell("%s/export build/test/export_%s %s > build/test/out.txt 2> build/test/err.txt", build, name, arguments);
}

static void export_anew(const char *name, const char *arguments) {
    shell("rm -rf build/test/export_%s/hf build/test/export_%s/llmc build/test/export_%s/model.gguf", name, name, name);
    int code = export(name, arguments);
    char *text = read_file("build/test/err.txt", NULL);
    CHECK_MSG(code == 0, "%s", text);
    free(text);
}

static Checkpoint checkpoint_of(const char *name) {
    char *folder = format("build/test/export_%s", name);
    Checkpoint c = run_checkpoint(folder);
    free(folder);
    return c;
}

TEST(gpt2_matrices_are_transposed_and_what_is_missing_is_zero) {
    enum { C = 16, F = 64 };
    train_tiny("gpt2", "--model.bias=false --model.head=untied");
    export_anew("gpt2", "--format=hf");
    Read r = read_safetensors("build/test/export_gpt2/hf/model.safetensors");
    Checkpoint c = checkpoint_of("gpt2");
    const float *qkv = tensor_at(&r, "transformer.h.1.attn.c_attn.weight", C, 3 * C), *out = tensor_at(&r, "transformer.h.1.mlp.c_proj.weight", F, C),
                *bias = tensor_at(&r, "transformer.h.0.mlp.c_fc.bias", 1, F), *gain = tensor_at(&r, "transformer.h.0.ln_2.weight", 1, C);
    const char *const names[] = {"w.wq", "w.wk", "w.wv"};
    for (int o = 0; o < 3 * C && qkv; o++)
        for (int i = 0; i < C; i++) CHECK_MSG(qkv[i * 3 * C + o] == saved(&c, names[o / C], 1)[o % C * C + i], "c_attn %d, %d", o, i);
    for (int o = 0; o < C && out; o++)
        for (int i = 0; i < F; i++) CHECK(out[i * C + o] == saved(&c, "w.w_out", 1)[o * F + i]);
    for (int i = 0; i < F && bias; i++) CHECK(bias[i] == 0);
    CHECK(gain && !memcmp(gain, saved(&c, "w.norm2_w", 0), C * sizeof *gain));
    CHECK(cJSON_GetObjectItemCaseSensitive(r.header, "lm_head.weight") != NULL);
    checkpoint_close(&c);
    read_free(&r);
}

TEST(llama_is_as_it_is_and_nanochat_turns_half_of_each_head) {
    enum { C = 16, HS = 8 };
    train_tiny("llama", "--model.arch=llama --model.kv_heads=1");
    export_anew("llama", "--format=hf --shard_mb=0.005");
    Checkpoint c = checkpoint_of("llama");
    char *index_text = read_file("build/test/export_llama/hf/model.safetensors.index.json", NULL);
    cJSON *index = cJSON_Parse(index_text), *map = cJSON_GetObjectItem(index, "weight_map");
    CHECK(index && cJSON_GetObjectItem(index, "metadata") && !file_exists("build/test/export_llama/hf/model.safetensors"));
    const cJSON *where = cJSON_GetObjectItemCaseSensitive(map, "model.layers.1.self_attn.k_proj.weight");
    CHECK(where != NULL);
    char *path = format("build/test/export_llama/hf/%s", where ? where->valuestring : "");
    Read r = read_safetensors(path);
    const float *k = tensor_at(&r, "model.layers.1.self_attn.k_proj.weight", HS, C);
    CHECK(k && !memcmp(k, saved(&c, "w.wk", 1), HS * C * sizeof *k));
    read_free(&r), checkpoint_close(&c), cJSON_Delete(index), free(index_text), free(path);

    train_tiny("nanochat", "--model.arch=speedrun --optimizer.name=muon");
    export_anew("nanochat", "");
    c = checkpoint_of("nanochat");
    r = read_safetensors("build/test/export_nanochat/hf/model.safetensors");
    const float *q = tensor_at(&r, "model.layers.0.self_attn.q_proj.weight", C, C), *v = tensor_at(&r, "model.layers.0.self_attn.v_proj.weight", C, C);
    for (int o = 0; o < C && q && v; o++)
        for (int i = 0; i < C; i++) {
            CHECK(q[o * C + i] == (o % HS < HS / 2 ? 1 : -1) * saved(&c, "w.wq", 0)[o * C + i]);
            CHECK(v[o * C + i] == saved(&c, "w.wv", 0)[o * C + i]);
        }
    char *config = read_file("build/test/export_nanochat/hf/config.json", NULL);
    CHECK_MSG(strstr(config, "\"final_logit_softcapping\": 15.0,") && strstr(config, "\"eos_token_id\": null"), "%s", config);
    free(config), read_free(&r), checkpoint_close(&c);
}

TEST(k2_turns_neighbours_has_heads_together_and_experts_one_by_one) {
    enum { C = 16, NH = 2, NOPE = 4, ROPE = 4, VALUE = 3, LATENT = 6, E = 4, W = 8, Q = NOPE + ROPE };
    train_tiny("k2", "--model.arch=k2 --model.q_lora=0 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3 "
               "--model.experts=4 --model.experts_per_token=2 --model.expert_width=8 --model.dense_layers=1");
    export_anew("k2", "");
    Read r = read_safetensors("build/test/export_k2/hf/model.safetensors");
    Checkpoint c = checkpoint_of("k2");
    static const int pairs[ROPE] = {0, 2, 1, 3};                   // our halves (0, 1 | 2, 3) turn (0, 2) and (1, 3)
    const float *q = tensor_at(&r, "model.layers.1.self_attn.q_proj.weight", NH * Q, C),
                *kv = tensor_at(&r, "model.layers.1.self_attn.kv_b_proj.weight", NH * (NOPE + VALUE), LATENT),
                *down = tensor_at(&r, "model.layers.1.mlp.experts.3.down_proj.weight", C, W),
                *bias = tensor_at(&r, "model.layers.1.mlp.gate.e_score_correction_bias", 1, E);
    for (int o = 0; o < NH * Q && q; o++) {
        int from = o % Q < NOPE ? o : o / Q * Q + NOPE + pairs[o % Q - NOPE];
        CHECK_MSG(!memcmp(q + o * C, saved(&c, "w.wq", 1) + from * C, C * sizeof *q), "row %d of q", o);
    }
    for (int o = 0; o < NH * (NOPE + VALUE) && kv; o++) {
        int h = o / (NOPE + VALUE), i = o % (NOPE + VALUE), from = i < NOPE ? h * NOPE + i : NH * NOPE + h * VALUE + i - NOPE;
        CHECK_MSG(!memcmp(kv + o * LATENT, saved(&c, "w.w_kvb", 1) + from * LATENT, LATENT * sizeof *kv), "row %d of kv", o);
    }
    CHECK(down && !memcmp(down, saved(&c, "w.w_expert_out", 3), C * W * sizeof *down));
    CHECK(bias && !memcmp(bias, saved(&c, "w.router_bias", 0), E * sizeof *bias));
    CHECK(cJSON_GetObjectItemCaseSensitive(r.header, "model.layers.0.mlp.gate_proj.weight") != NULL);
    read_free(&r), checkpoint_close(&c);
}

TEST(llmc_reads_what_it_writes_itself) {
    enum { C = 16, T = 16, L = 2, HEADER = 1024, V = 128 };
    train_tiny("llmc", "--model.heads=2");
    export_anew("llmc", "--format=llmc");
    size_t size;
    char *file = read_file("build/test/export_llmc/llmc/model.bin", &size);
    Checkpoint c = checkpoint_of("llmc");
    const int32_t *header = (const int32_t *)file;
    const float *x = (const float *)(file + HEADER);
    int v = header[3];
    CHECK(header[0] == 20240326 && header[1] == 3 && header[2] == T && header[4] == L && header[5] == 2 && header[6] == C && header[7] == V);
    CHECK_MSG(size == HEADER + 4u * (V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C), "%zu", size);
    CHECK(!memcmp(x, saved(&c, "w.wte", 0), (size_t)v * C * 4) && x[v * C] == 0 && x[V * C - 1] == 0);
    const float *qkv = x + V * C + T * C + 2 * L * C;                // behind wte, wpe, ln1w, ln1b
    CHECK(!memcmp(qkv + 3 * C * C + C * C, saved(&c, "w.wk", 1), C * C * 4));
    CHECK(!memcmp(x + size / 4 - HEADER / 4 - C, saved(&c, "w.normf_b", 0), C * 4));
    Tokenizer t;
    char error[ERROR_ROOM];
    CHECK(tokenizer_load(&t, "build/test/export_llmc/llmc/tokenizer.bin", error, sizeof error) == 0 && t.size == v);
    tokenizer_free(&t), free(file), checkpoint_close(&c);
}

static GgufFile open_gguf(const char *name) {
    GgufFile g;
    char *path = format("build/test/export_%s/model.gguf", name), error[ERROR_ROOM];
    if (gguf_open(&g, path, error, sizeof error) != 0) fail("%s", error);
    free(path);
    return g;
}

// A tensor's numbers where it is there with these dimensions (0: none) and in fp32, else NULL and a failed check.
static const float *gguf_at(const GgufFile *g, const char *name, uint64_t a, uint64_t b, uint64_t c) {
    const SafeTensor *t = gguf_tensor(g, name);
    CHECK_MSG(t != NULL, "no %s", name);
    if (!t) return NULL;
    bool fits = t->type == TENSOR_F32 && t->ndim == (c ? 3 : b ? 2 : 1) && t->shape[0] == a && (!b || t->shape[1] == b) && (!c || t->shape[2] == c);
    CHECK_MSG(fits, "%s: type %d, %d dimensions", name, t->type, t->ndim);
    return fits ? t->of : NULL;
}

static void check_u32(const GgufFile *g, const char *name, uint32_t expected) {
    const GgufKey *k = gguf_key(g, name);
    CHECK_MSG(k && k->type == GGUF_U32 && !memcmp(k->at, &expected, 4), "%s is not %u", name, expected);
}

static void check_string(const GgufFile *g, const char *name, uint64_t i, const char *expected) {
    const GgufKey *k = gguf_key(g, name);
    const uint8_t *at = k ? k->at : NULL;
    const char *text = NULL;
    size_t n = 0;
    CHECK_MSG(k && k->item == GGUF_STRING && i < k->count, "no string %llu of %s", (unsigned long long)i, name);
    if (!k || k->item != GGUF_STRING || i >= k->count) return;
    for (uint64_t s = 0; s <= i; s++) text = gguf_next_string(&at, &n);
    CHECK_MSG(n == strlen(expected) && !memcmp(text, expected, n), "%s, %llu is \"%.*s\" instead of \"%s\"", name, (unsigned long long)i, (int)n, text, expected);
}

TEST(gguf_of_gpt2_has_positions_of_zeros_and_an_end_of_text_in_a_spare_row) {
    enum { C = 16, T = 16, POSITIONS = 256, V = 40 };
    train_tiny("gguf_gpt2", "--model.bias=false --model.vocab=40");
    export_anew("gguf_gpt2", "--format=gguf");
    GgufFile g = open_gguf("gguf_gpt2");
    Checkpoint c = checkpoint_of("gguf_gpt2");
    const float *positions = gguf_at(&g, "position_embd.weight", POSITIONS, C, 0), *qkv = gguf_at(&g, "blk.1.attn_qkv.weight", 3 * C, C, 0),
                *bias = gguf_at(&g, "blk.0.ffn_up.bias", 4 * C, 0, 0);
    CHECK(positions && !memcmp(positions, saved(&c, "w.wpe", 0), T * C * sizeof *positions));
    for (int i = T * C; positions && i < POSITIONS * C; i++) CHECK(positions[i] == 0);
    CHECK(qkv && !memcmp(qkv + C * C, saved(&c, "w.wk", 1), C * C * sizeof *qkv));
    for (int i = 0; bias && i < 4 * C; i++) CHECK(bias[i] == 0);
    CHECK(gguf_at(&g, "token_embd.weight", V, C, 0) && !gguf_tensor(&g, "output.weight"));
    check_u32(&g, "gpt2.context_length", POSITIONS), check_u32(&g, "gpt2.block_count", 2), check_u32(&g, "gpt2.feed_forward_length", 4 * C);
    check_string(&g, "general.architecture", 0, "gpt2"), check_string(&g, "tokenizer.ggml.pre", 0, "gpt-2");
    Tokenizer t;
    char error[ERROR_ROOM];
    CHECK(tokenizer_load(&t, "build/test/export_gguf_gpt2/tokenizer.bin", error, sizeof error) == 0);
    const GgufKey *types = gguf_key(&g, "tokenizer.ggml.token_type");
    const int32_t control = 3, unused = 5;
    check_u32(&g, "tokenizer.ggml.eos_token_id", (uint32_t)t.size), check_u32(&g, "tokenizer.ggml.bos_token_id", (uint32_t)t.size);
    check_string(&g, "tokenizer.ggml.tokens", (uint64_t)t.size, BPE_EOT), check_string(&g, "tokenizer.ggml.tokens", 0, "\xc4\x8a");      // the line feed
    CHECK(types && types->count == V && !memcmp(types->at + 4 * t.size, &control, 4) && !memcmp(types->at + 4 * (V - 1), &unused, 4));
    tokenizer_free(&t), checkpoint_close(&c), gguf_close(&g);
}

TEST(gguf_of_llama_has_neighbours_turn_in_the_heads_of_queries_and_keys) {
    enum { C = 16, HS = 8 };
    train_tiny("gguf_llama", "--model.arch=llama --model.kv_heads=1 --model.bias=true --model.rope_theta=500");
    export_anew("gguf_llama", "--format=gguf");
    GgufFile g = open_gguf("gguf_llama");
    Checkpoint c = checkpoint_of("gguf_llama");
    static const int pairs[HS] = {0, 4, 1, 5, 2, 6, 3, 7};          // our halves (0 .. 3 | 4 .. 7) turn (0, 4), (1, 5), ...
    const float *q = gguf_at(&g, "blk.1.attn_q.weight", C, C, 0), *k = gguf_at(&g, "blk.1.attn_k.weight", HS, C, 0),
                *bias = gguf_at(&g, "blk.1.attn_q.bias", C, 0, 0), *v = gguf_at(&g, "blk.0.attn_v.weight", HS, C, 0);
    for (int o = 0; o < C && q && bias; o++) {
        int from = o / HS * HS + pairs[o % HS];
        CHECK_MSG(!memcmp(q + o * C, saved(&c, "w.wq", 1) + from * C, C * sizeof *q) && bias[o] == saved(&c, "w.bq", 1)[from], "row %d of q", o);
    }
    for (int o = 0; o < HS && k; o++) CHECK_MSG(!memcmp(k + o * C, saved(&c, "w.wk", 1) + pairs[o] * C, C * sizeof *k), "row %d of k", o);
    CHECK(v && !memcmp(v, saved(&c, "w.wv", 0), HS * C * sizeof *v));
    check_u32(&g, "llama.attention.head_count_kv", 1), check_u32(&g, "llama.rope.dimension_count", HS);
    const GgufKey *theta = gguf_key(&g, "llama.rope.freq_base");
    CHECK(theta && theta->type == GGUF_F32 && !memcmp(theta->at, &(float){500}, 4));
    CHECK(gguf_tensor(&g, "output.weight") != NULL);
    checkpoint_close(&c), gguf_close(&g);
    // In half precision vectors stay as they are.
    export_anew("gguf_llama", "--format=gguf --type=f16");
    g = open_gguf("gguf_llama");
    CHECK(gguf_tensor(&g, "blk.0.attn_q.weight")->type == TENSOR_F16 && gguf_tensor(&g, "blk.0.attn_norm.weight")->type == TENSOR_F32);
    gguf_close(&g);
}

TEST(gguf_of_k2_has_keys_transposed_by_head_and_the_experts_of_a_layer_together) {
    enum { C = 16, NH = 2, NOPE = 4, ROPE = 4, VALUE = 3, LATENT = 6, E = 4, W = 8 };
    train_tiny("gguf_k2", "--model.arch=k2 --model.q_lora=0 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3 "
               "--model.experts=4 --model.experts_per_token=2 --model.expert_width=8 --model.dense_layers=1 --model.layers=3 --model.shared_experts=0");
    export_anew("gguf_k2", "--format=gguf");
    GgufFile g = open_gguf("gguf_k2");
    Checkpoint c = checkpoint_of("gguf_k2");
    const float *kvb = saved(&c, "w.w_kvb", 2), *k = gguf_at(&g, "blk.2.attn_k_b.weight", NH, LATENT, NOPE),
                *v = gguf_at(&g, "blk.2.attn_v_b.weight", NH, VALUE, LATENT), *up = gguf_at(&g, "blk.2.ffn_up_exps.weight", E, W, C),
                *shared = gguf_at(&g, "blk.2.ffn_down_shexp.weight", C, W, 0);
    for (int h = 0; h < NH && k; h++)
        for (int i = 0; i < LATENT; i++)
            for (int n = 0; n < NOPE; n++) CHECK_MSG(k[(h * LATENT + i) * NOPE + n] == kvb[(h * NOPE + n) * LATENT + i], "%d, %d, %d of k", h, i, n);
    CHECK(v && !memcmp(v, kvb + NH * NOPE * LATENT, NH * VALUE * LATENT * sizeof *v));
    for (int e = 0; e < E && up; e++) CHECK_MSG(!memcmp(up + e * W * C, saved(&c, "w.w_expert_in", E + e), W * C * sizeof *up), "expert %d", e);
    for (int i = 0; i < C * W && shared; i++) CHECK(shared[i] == 0);
    CHECK(gguf_at(&g, "blk.1.exp_probs_b.bias", E, 0, 0) && gguf_tensor(&g, "blk.0.ffn_gate.weight") && !gguf_tensor(&g, "blk.1.ffn_gate.weight"));
    check_u32(&g, "deepseek2.attention.key_length", LATENT + ROPE), check_u32(&g, "deepseek2.attention.key_length_mla", NOPE + ROPE);
    check_u32(&g, "deepseek2.leading_dense_block_count", 1), check_u32(&g, "deepseek2.expert_shared_count", 1);
    check_u32(&g, "deepseek2.attention.head_count_kv", 1), check_u32(&g, "deepseek2.expert_gating_func", 2);
    checkpoint_close(&c), gguf_close(&g);
}

// Positions of a context of 1 are a matrix still: transformers refuses a vector.
TEST(a_matrix_of_one_row_has_two_dimensions) {
    train_tiny("one", "--model.context=1 --train.steps=1");
    export_anew("one", "--format=hf");
    Read r = read_safetensors("build/test/export_one/hf/model.safetensors");
    const cJSON *positions = cJSON_GetObjectItem(cJSON_GetObjectItem(r.header, "transformer.wpe.weight"), "shape");
    const cJSON *gain = cJSON_GetObjectItem(cJSON_GetObjectItem(r.header, "transformer.ln_f.weight"), "shape");
    CHECK(cJSON_GetArraySize(positions) == 2 && positions->child->valueint == 1 && positions->child->next->valueint == 16);
    CHECK(cJSON_GetArraySize(gain) == 1 && gain->child->valueint == 16);
    read_free(&r);
}

TEST(what_a_format_cannot_say_is_refused_in_one_line) {
    train_tiny("odd", "--model.mlp=relu2");
    check_error_line(export("odd", ""), 1, "model.mlp is relu2, which GPT2LMHeadModel");
    check_error_line(export("odd", "--format=llmc"), 1, "model.mlp is relu2, which llm.c");
    check_error_line(export("odd", "--format=gguf"), 1, "model.mlp is relu2, which llama.cpp's gpt2");
    CHECK(!file_exists("build/test/export_odd/model.gguf") && !file_exists("build/test/export_odd/model.gguf.tmp"));
    CHECK(!file_exists("build/test/export_odd/hf") && !file_exists("build/test/export_odd/llmc"));
    CHECK(!file_exists("build/test/export_odd/hf.tmp") && !file_exists("build/test/export_odd/llmc.tmp"));
    check_error_line(export("odd", "--out="), 2, "--out=: a path");
    check_error_line(export("odd", "--format=onnx"), 2, "hf, gguf or llmc is expected");
    check_error_line(export("odd", "--type=f64"), 2, "f32, bf16 or f16 is expected");
    check_error_line(export("none", ""), 1, "build/test/export_none holds no run");
    train_tiny("full", "");
    export_anew("full", "--type=bf16");
    check_error_line(export("full", ""), 1, "is there already");
    CHECK(shell("rm -rf build/test/export_slash") == 0 && export("full", "--out=build/test/export_slash//") == 0);
    CHECK(file_exists("build/test/export_slash/config.json") && !file_exists("build/test/export_slash.tmp"));
    train_tiny("plain", "--model.arch=speedrun --optimizer.name=muon");
    check_error_line(export("plain", "--format=gguf"), 1, "model.norm is rmsnorm_plain, which llama.cpp");
    train_tiny("deep", "--train.steps=1 --model.layers=27 --model.arch=k2 --model.kv_lora=4 --model.nope=4 --model.rope=4 --model.v_head=4 --model.experts=0");
    check_error_line(export("deep", "--format=gguf"), 1, "model.layers is 27, which llama.cpp's deepseek2 takes for another model");
    // What a killed export left is no part of the next one.
    CHECK(shell("mkdir -p build/test/export_full/llmc.tmp && cd build/test/export_full/llmc.tmp && touch .unfinished && echo left > model-00009.bin") == 0);
    CHECK(export("full", "--format=llmc") == 0 && !file_exists("build/test/export_full/llmc/model-00009.bin"));
    CHECK(!file_exists("build/test/export_full/llmc.tmp"));
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    find_programs();
    RUN(f16_and_bf16_round_to_the_nearest);
    RUN(gpt2_matrices_are_transposed_and_what_is_missing_is_zero);
    RUN(llama_is_as_it_is_and_nanochat_turns_half_of_each_head);
    RUN(k2_turns_neighbours_has_heads_together_and_experts_one_by_one);
    RUN(llmc_reads_what_it_writes_itself);
    RUN(gguf_of_gpt2_has_positions_of_zeros_and_an_end_of_text_in_a_spare_row);
    RUN(gguf_of_llama_has_neighbours_turn_in_the_heads_of_queries_and_keys);
    RUN(gguf_of_k2_has_keys_transposed_by_head_and_the_experts_of_a_layer_together);
    RUN(a_matrix_of_one_row_has_two_dimensions);
    RUN(what_a_format_cannot_say_is_refused_in_one_line);
    return tests_end();
}

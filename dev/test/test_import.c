/* test_import.c - what build/import takes and what it refuses: models that this project exported, those that transformers
 * and the package gguf wrote themselves (dev/golden/hf, gguf.golden), and damaged files.
 *
 * That transformers computes the same from what it wrote: dev/golden/check_import.py.
 */
#define _GNU_SOURCE
#include "../../src/checkpoint.h"
#include "../../src/gguf.h"
#include "../../src/safetensors.h"
#include "../../data/tokenizer.h"
#include "test.h"
#include "train.h"

static int import(const char *from, const char *out, const char *more) {
    return shell("rm -rf '%s' && %s/import '%s' --out='%s' %s > build/test/out.txt 2> build/test/err.txt", out, build, from, out, more);
}

static void import_well(const char *from, const char *out, const char *more) {
    int code = import(from, out, more);
    char *text = read_file("build/test/err.txt", NULL);
    CHECK_MSG(code == 0, "%s: %s", from, text);
    free(text);
}

static bool printed(const char *words) {
    char *text = read_file("build/test/out.txt", NULL);
    bool found = strstr(text, words) != NULL;
    free(text);
    return found;
}

// ---------------------------------------------------------------------------------------------------------------------
// Types

TEST(every_half_and_bf16_is_read_as_the_float_that_it_is) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t word = (uint16_t)h;
        float x;
        tensor_floats(&x, &word, 1, TENSOR_F16);
        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff)) { CHECK(isnan(x)); continue; }
        CHECK_MSG(tensor_f16(x) == h, "%04x is read as %g", h, x);
        tensor_floats(&x, &word, 1, TENSOR_BF16);
        CHECK_MSG(isnan(x) || tensor_bf16(x) == h, "%04x is read as %g", h, x);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// There and back

// Every weight of a is in b, with the same bits.
static void check_same_weights(const char *a, const char *b) {
    Checkpoint ca = run_checkpoint(a), cb = run_checkpoint(b);
    int compared = 0;
    for (int i = 0; i < ca.n_tensors; i++) {
        const CkptTensor *ta = &ca.tensors[i], *tb = checkpoint_find(&cb, ta->name);
        if (strncmp(ta->name, "w.", 2)) continue;
        compared++;
        CHECK_MSG(tb && !memcmp(ta->shape, tb->shape, sizeof ta->shape) &&
                  !memcmp(ta->data, tb->data, sizeof(float) * ta->shape[0] * ta->shape[1] * ta->shape[2]),
                  "%s and %s differ in %s", a, b, ta->name);
    }
    CHECK_MSG(compared > 7, "only %d tensors", compared);
    checkpoint_close(&ca), checkpoint_close(&cb);
}

TEST(an_exported_model_comes_back_with_the_same_bits) {
    static const struct { const char *name, *keys, *export; } models[] = {
        {"gpt2", "--model.dropout=0 --model.norm_eps=1e-6 --model.mlp=gelu_erf", ""}, {"gpt2_untied", "--model.dropout=0 --model.head=untied --model.mlp_width=40", "--shard_mb=0.003"},
        {"llama", "--model.arch=llama --model.kv_heads=1 --model.rope_theta=500", "--shard_mb=0.005"},
        {"llama_bias", "--model.arch=llama --model.head=tied --model.bias=true", ""},
        {"speedrun", "--model.arch=speedrun --optimizer.name=muon", ""},
        {"k2", "--model.arch=k2 --model.q_lora=6 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3 --model.experts=4 "
               "--model.expert_width=8 --model.layers=3 --model.expert_groups=2 --model.shared_experts=2", ""},
        {"k2_dense", "--model.arch=k2 --model.experts=0 --model.q_lora=0 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3", ""},
        {"llmc", "--model.layers=3", "--format=llmc"},
        {"gguf_gpt2", "--model.bias=false", "--format=gguf"},
        {"gguf_llama", "--model.arch=llama --model.kv_heads=1 --model.rope_theta=500 --model.norm_eps=1e-6 --model.vocab=40", "--format=gguf"},
        {"gguf_llama_long", "--model.arch=llama --model.head_size=20 --model.rope_factor=32 --model.rope_original=100", "--format=gguf"},
        {"gguf_llama_linear", "--model.arch=llama --model.head_size=8 --model.rope_factor=4 --model.rope_original=1", "--format=gguf"},
        {"gguf_llama_bias", "--model.arch=llama --model.head=tied --model.bias=true", "--format=gguf"},
        {"gguf_k2", "--model.arch=k2 --model.q_lora=6 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3 --model.experts=6 "
                    "--model.expert_width=8 --model.layers=3 --model.expert_groups=3 --model.groups_per_token=2 --model.shared_experts=0", "--format=gguf"},
        {"gguf_k2_dense", "--model.arch=k2 --model.experts=0 --model.q_lora=0 --model.kv_lora=6 --model.nope=4 --model.rope=4 --model.v_head=3", "--format=gguf"},
    };
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        bool llmc = !strcmp(models[i].name, "llmc"), gguf = !strncmp(models[i].name, "gguf", 4);
        const char *file = llmc ? "/model.bin" : gguf ? "" : "/config.json";
        char *run = format("build/test/import_%s", models[i].name), *there = format("%s/there", run),
             *back = format("build/test/back/import_%s", models[i].name), *from = format("%s%s", there, llmc ? "/model.bin" : "");
        CHECK(TRAIN("build/test/run.json --run.dir=%s --overwrite --train.steps=12 --model.heads=2 --optimizer.qk_clip.tau=0 "
                    "--optimizer.adamw.lr=0.05 %s", run, models[i].keys) == 0);
        CHECK(shell("rm -rf %s && %s/export %s --out=%s %s > build/test/out.txt", there, build, run, there, models[i].export) == 0);
        import_well(from, back, "");
        check_same_weights(run, back);
        CHECK(!printed("no tokenizer"));
        if (!llmc) CHECK_MSG(shell("cmp %s/vocabulary %s/vocabulary", run, back) == 0, "%s", models[i].name);
        // and its config is the model's: what is exported again is the same
        CHECK_MSG(shell("rm -rf %s_again && %s/export %s --out=%s_again %s > build/test/out.txt && cmp %s%s %s_again%s", there, build, back,
                        there, models[i].export, there, file, there, file) == 0, "%s", models[i].name);
        free(run), free(there), free(back), free(from);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Files that are none

// A safetensors file of this header, whose length is written as `length` where that isn't 0, with `data` bytes behind it.
static void write_safetensors(const char *path, const char *header, uint64_t length, size_t data) {
    size_t n = strlen(header);
    char *bytes = xcalloc(8 + n + data, 1);
    if (!length) length = n;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n);
    if (write_file(path, bytes, 8 + n + data) != 0) fail("%s: %s", path, strerror(errno));
    free(bytes);
}

TEST(a_damaged_safetensors_file_gets_one_line) {
#define A "\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}"
    static const struct { const char *header; uint64_t length; size_t data; const char *words; } cases[] = {
        {"{" A "}", 0, 7, "behind the end of the file"}, {"{" A "}", 0, 9, "bytes behind the last tensor"},
        {"{" A "}", (uint64_t)1 << 63, 8, "100 MB"}, {"{" A "}", 1000, 8, "its header would end behind the file"},
        {"{}", 0, 1, "bytes behind the last tensor"}, {"", 0, 0, "is empty"}, {"[]", 0, 0, "an object"},
        {"{" A ", " A "}", 0, 8, "overlap"},
        {"{" A ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 0, 8, "overlap"},
        {"{" A ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [12, 16]}}", 0, 16, "a gap"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 0, 8, "a gap"},
        {"{" A ", \"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 16]}}", 0, 16, "a: the name is taken twice"},
        {"{\"a\": {\"dtype\": \"F99\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 0, 8, "a: dtype: not a type"},
        {"{\"a\": {\"dtype\": 32, \"shape\": [2], \"data_offsets\": [0, 8]}}", 0, 8, "dtype: a string"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 0, 8, "not as many bytes as its shape"},
        {"{\"a\": {\"dtype\": \"F4\", \"shape\": [3], \"data_offsets\": [0, 1]}}", 0, 1, "not as many bytes as its shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 0]}}", 0, 0, "not as many bytes"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 0]}}", 0, 0, "a list of sizes"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-2], \"data_offsets\": [0, 8]}}", 0, 8, "a list of sizes"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,1,2], \"data_offsets\": [0, 8]}}", 0, 8, "more than 8"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", 0, 8, "two offsets in order"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 9223372036854775807]}}", 0, 8, "two offsets in order"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0]}}", 0, 8, "two offsets in order"},
        {"{\"a\": 1}", 0, 0, "a: an object expected"}, {"{\"__metadata__\": 1}", 0, 0, "__metadata__: an object"},
        {"{\"__metadata__\": {\"a\": 1}}", 0, 0, "__metadata__: strings"},
        {"{\"__metadata__\": {}, \"__metadata__\": {}}", 0, 0, "__metadata__: there twice"},
        {"{\"a\\u001b[2J\": 1}", 0, 0, "a?[2J: an object expected"}, {"\xef\xbb\xbf{}", 0, 0, "byte order mark"},
    };
    char error[ERROR_ROOM];
    SafeFile f;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        write_safetensors("build/test/bad.safetensors", cases[i].header, cases[i].length, cases[i].data);
        int code = safetensors_open(&f, "build/test/bad.safetensors", error, sizeof error);
        CHECK_MSG(code == -1 && strstr(error, cases[i].words) && strstr(error, "build/test/bad.safetensors") && !strchr(error, '\n'),
                  "%s: %d, %s", cases[i].header, code, code ? error : "");
        if (code == 0) safetensors_close(&f);
    }
    write_text("build/test/bad.safetensors", "short");
    CHECK(safetensors_open(&f, "build/test/bad.safetensors", error, sizeof error) == -1 && strstr(error, "too short"));
    CHECK(safetensors_open(&f, "build/test", error, sizeof error) == -1 && strstr(error, "not a regular file"));
    // what its owner's reader takes, too: any order, blanks around, no numbers, types that are no weights'
    write_safetensors("build/test/bad.safetensors",
                      " \n{\"z\": {\"dtype\": \"BOOL\", \"shape\": [], \"data_offsets\": [8, 9]}, " A ", \"e\": {\"dtype\": \"I64\", "
                      "\"shape\": [0, 9007199254740992, 9007199254740992], \"data_offsets\": [8, 8]}, \"__metadata__\": {\"a\": \"b\"}}  ", 0, 9);
    CHECK_MSG(safetensors_open(&f, "build/test/bad.safetensors", error, sizeof error) == 0, "%s", error);
    CHECK(f.n == 3 && !strcmp(f.tensors[0].name, "a") && f.tensors[0].ndim == 1 && f.tensors[2].ndim == 0 && f.tensors[1].type >= TENSOR_TYPES);
    safetensors_close(&f);
#undef A
}

// A small folder: an exported model, whose file `from` is changed by a command of sed's, or of the shell where it has a blank first.
static void check_refused(const char *change, int expected, const char *words) {
    CHECK(shell("rm -rf build/test/import_odd && cp -r build/test/import_odd_as_it_was build/test/import_odd") == 0);
    CHECK(shell("cd build/test/import_odd && %s", change) == 0);
    check_error_line(import("build/test/import_odd", "build/test/import_odd_back", ""), expected, words);
    CHECK_MSG(!file_exists("build/test/import_odd_back") && !file_exists("build/test/import_odd_back.tmp"), "%s", change);
}

TEST(what_is_no_model_of_ours_is_refused_in_one_line) {
    CHECK(TRAIN("build/test/run.json --run.dir=build/test/import_odd_run --overwrite --train.steps=1 --model.arch=llama --optimizer.qk_clip.tau=0") == 0);
    CHECK(shell("rm -rf build/test/import_odd_as_it_was && %s/export build/test/import_odd_run --out=build/test/import_odd_as_it_was "
                "> build/test/out.txt", build) == 0);
    static const struct { const char *change, *words; int code; } cases[] = {
        {"rm config.json", "config.json: no such file", 1}, {"rm model.safetensors", "no model.safetensors and no", 1},
        {"rm model.safetensors && echo 1 > pytorch_model.bin", "pytorch_model.bin: is a program of Python's", 1},
        {"sed -i 's/\"llama\"/\"mistral\"/' config.json", "model_type is mistral: gpt2, llama", 1},
        {"sed -i 's/\"silu\"/\"gelu\"/' config.json", "hidden_act is \"gelu\"", 1},
        {"sed -i 's/\"hidden_size\": 16/\"hidden_size\": \"16\"/' config.json", "hidden_size: a number is expected", 1},
        {"sed -i 's/\"hidden_size\": 16/\"hidden_size\": 65536/; /head_dim/d' config.json", "describes a model of", 1},
        {"sed -i 's/\"hidden_size\": 16/\"hidden_size\": 1e300/; /head_dim/d' config.json", "config.json: ", 1},
        {"sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/' config.json",
         "missing: model.layers.2.input_layernorm.weight, model.layers.2.self_attn.q_proj.weight", 1},
        {"sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 1/' config.json", "unknown: model.layers.1.input_layernorm.weight, ", 1},
        {"sed -i 's/\"num_key_value_heads\": 2/\"num_key_value_heads\": 1/' config.json",
         "of another shape: model.layers.0.self_attn.k_proj.weight is 16 x 16 instead of 8 x 16, ", 1},
        {"sed -i 's/input_layernorm/other_layernorm/' model.safetensors", "missing: model.layers.0.input_layernorm.weight; unknown: model.layers.0.other_layernorm.weight", 1},
        {"sed -i 's/\"F32\",\"shape\":\\[16\\]/\"I32\",\"shape\":[16]/' model.safetensors", "neither F32 nor BF16 nor F16: ", 1},
        {"sed -i 's/\"rope_theta\": 10000.0/\"rope_parameters\": {\"rope_type\": \"yarn\"}/' config.json", "rope_type is yarn: default or llama3", 1},
        {"sed -i 's/\"attention_bias\": false/\"attention_bias\": 1/' config.json", "attention_bias: true or false is expected", 1},
        {"sed -i 's/\"tie_word_embeddings\": false/\"tie_word_embeddings\": \"no\"/' config.json", "tie_word_embeddings: true or false is expected", 1},
        {"truncate -s -1 model.safetensors", "behind the end of the file", 1},
        {"echo '{\"weight_map\": {\"a\": \"../x\"}}' > model.safetensors.index.json && rm model.safetensors", "the name of a file in this folder", 1},
        {"echo '{\"weight_map\": {\"a\": \"one\", \"b\": \"one\"}}' > model.safetensors.index.json && rm model.safetensors", "one: cannot be read", 1},
        {"echo '{\"weight_map\": {\"a\": \"one\", \"b\": \"two\"}}' > model.safetensors.index.json && cp model.safetensors one && mv model.safetensors two",
         "is there twice", 1},
        {"printf '\\377\\377\\377\\377' | dd of=model.safetensors conv=notrunc bs=1 seek=$(($(stat -c %s model.safetensors) - 4)) 2> /dev/null",
         "has NaN or infinity", 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) check_refused(cases[i].change, cases[i].code, cases[i].words);
    // as many dimensions as the format has, of what this class has none
    CHECK(shell("rm -rf build/test/import_odd && cp -r build/test/import_odd_as_it_was build/test/import_odd") == 0);
    write_safetensors("build/test/import_odd/model.safetensors", "{\"lm_head.weight\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,2], "
                      "\"data_offsets\": [0, 8]}}", 0, 8);
    check_error_line(import("build/test/import_odd", "build/test/import_odd_back", ""), 1, "the tensors have 2");
    CHECK(shell("sed -i 's/\"tie_word_embeddings\": false/\"tie_word_embeddings\": true/' build/test/import_odd/config.json") == 0);
    check_error_line(import("build/test/import_odd", "build/test/import_odd_back", ""), 1, "the tensors have 2");
    CHECK(shell("rm -rf build/test/import_soft && cp -r dev/golden/hf/deepseek build/test/import_soft && "
                "sed -i '1s/{/{\"scoring_func\": \"softmax\",/' build/test/import_soft/config.json") == 0);
    check_error_line(import("build/test/import_soft", "build/test/import_odd_back", ""), 1, "scoring_func is \"softmax\": \"sigmoid\" is expected");
    check_error_line(import("build/test/none", "build/test/import_odd_back", ""), 1, "build/test/none: No such file");
    check_error_line(import("build/test/run.json", "build/test/import_odd_back", ""), 1, "a Hugging Face folder");
    check_error_line(import("build/test/import_odd_as_it_was", "build/test/import_odd_back", "--context=17"), 2, "at most the model's, 16,");
    check_error_line(import("dev/golden/hf/gpt2", "build/test/import_odd_back", "--context=8"), 2, "--context=8: for models whose positions are rotated");
    check_error_line(import("build/test/import_odd_as_it_was", "build/test/import_odd_back", "--seed=1"), 2, "unknown flag");
    import_well("build/test/import_odd_as_it_was/", "build/test/import_odd_back/", "");
    // What a killed import left is no part of the next one; a folder of that name which is somebody's stays.
    CHECK(shell("rm -rf build/test/import_mine* && cp -r build/test/import_odd_as_it_was build/test/import_mine.tmp") == 0);
    check_error_line(import("build/test/import_mine.tmp", "build/test/import_mine", ""), 1, "import_mine.tmp: is there already, and nothing unfinished");
    CHECK(shell("diff -r build/test/import_odd_as_it_was build/test/import_mine.tmp") == 0 && !file_exists("build/test/import_mine"));
    CHECK(shell("mkdir -p build/test/import_odd_back.tmp && cd build/test/import_odd_back.tmp && touch .unfinished && echo left > checkpoint.best.bin") == 0);
    import_well("build/test/import_odd_as_it_was/model.safetensors", "build/test/import_odd_back", "--context=8");
    CHECK(!file_exists("build/test/import_odd_back/checkpoint.best.bin") && !file_exists("build/test/import_odd_back/.unfinished") && printed("context 8"));
    check_error_line(shell("%s/import build/test/import_odd_as_it_was --out=build/test/import_odd_back > build/test/out.txt 2> build/test/err.txt", build), 1,
                     "is there already");
}

TEST(a_damaged_file_of_llm_c_is_refused_in_one_line) {
    CHECK(TRAIN("build/test/run.json --run.dir=build/test/import_odd_run --overwrite --train.steps=1 --optimizer.qk_clip.tau=0") == 0);
    CHECK(shell("rm -rf build/test/import_bin && %s/export build/test/import_odd_run --format=llmc --out=build/test/import_bin > build/test/out.txt", build) == 0);
    size_t size;
    char *good = read_file("build/test/import_bin/model.bin", &size), *bytes = xmalloc(size + 4);
    static const struct { int at, value; long size; const char *words; } cases[] = {
        {1, 1, 0, "is version 1"}, {7, 1, 0, "a vocabulary of"}, {3, -5, 0, "a vocabulary of -5"}, {4, 3, 0, "cut off or damaged"},
        {6, 65536, 0, "describes a model of"}, {4, 1 << 30, 0, "model.layers"}, {2, 16, -4, "cut off or damaged"}, {2, 16, 4, "cut off or damaged"},
        {7, 1 << 30, 0, "a vocabulary of"}, {2, 16, -20000, "cut off"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        memcpy(bytes, good, size);
        memcpy(bytes + 4 * cases[i].at, &cases[i].value, 4);
        size_t n = (long)size + cases[i].size > 100 ? (size_t)((long)size + cases[i].size) : 100;
        if (write_file("build/test/import_bin/bad.bin", bytes, n) != 0) fail("bad.bin");
        check_error_line(import("build/test/import_bin/bad.bin", "build/test/import_odd_back", ""), 1, cases[i].words);
        CHECK(!file_exists("build/test/import_odd_back"));
    }
    free(good), free(bytes);
}

// ---------------------------------------------------------------------------------------------------------------------
// What transformers wrote

// A number of the first line of a log that has these words.
static double logged(const char *folder, const char *words, const char *key) {
    char *path = format("%s/log.jsonl", folder), *text = read_file(path, NULL), *line = text ? strstr(text, words) : NULL,
         *at = line ? strstr(line, key) : NULL;
    double x = at ? strtod(at + strlen(key), NULL) : NAN;
    free(path), free(text);
    return x;
}

#define FIRST_LOSS "\"event\": \"eval\", \"step\": 0", "\"val_loss\": "

TEST(models_of_transformers_have_its_losses) {
    char *text = read_file("dev/golden/hf/expected.txt", NULL), *rest = text, name[64];
    double loss;
    int n, models = 0;
    write_text("build/test/tune.json", "{\"train\": {\"steps\": 1, \"batch\": 2}, \"optimizer\": {\"name\": \"muon\"}}");
    for (; sscanf(rest, "%63s %lf%n", name, &loss, &n) == 2; rest += n, models++) {
        char *from = format("dev/golden/hf/%s", name), *run = format("build/test/import_hf_%s", name), *tuned = format("%s_tuned", run);
        import_well(from, run, "");
        CHECK_MSG(TRAIN("build/test/tune.json --run.dir=%s --overwrite --data.dir=dev/golden/hf/data --train.init=%s", tuned, run) == 0,
                  "%s", name);
        double ours = logged(tuned, FIRST_LOSS);
        CHECK_MSG(fabs(ours / loss - 1) < 1e-5, "%s: %.9g instead of %.9g", name, ours, loss);
        free(from), free(run), free(tuned);
    }
    CHECK(models == 5);
    free(text);
}

TEST(a_tokenizer_comes_with_its_model) {
    import_well("dev/golden/hf/gpt2", "build/test/import_hf_gpt2", "");
    CHECK(!printed("no tokenizer"));
    CHECK(shell("for t in dev/golden/hf/gpt2 build/test/import_hf_gpt2; do %s/tokenize encode --tokenizer=$t/tokenizer.json < README.md > "
                "build/test/ids_$(basename $t).txt; done && cmp build/test/ids_gpt2.txt build/test/ids_import_hf_gpt2.txt", build) == 0);
    CHECK(shell("%s/generate build/test/import_hf_gpt2 --prompt='Light' --tokens=5 > build/test/out.txt", build) == 0 && printed("Light"));
    // Llama 3's end of a text ends it here, too
    CHECK(shell("sed -i 's/<|endoftext|>/<|end_of_text|>/' build/test/import_hf_gpt2/tokenizer.json") == 0);
    Tokenizer before, after;
    char error[ERROR_ROOM];
    if (tokenizer_load(&before, "dev/golden/hf/gpt2/tokenizer.json", error, sizeof error) != 0 ||
        tokenizer_load(&after, "build/test/import_hf_gpt2/tokenizer.json", error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    CHECK(before.eot >= 0 && after.eot == before.eot);
    CHECK(shell("rm -rf build/test/import_ends && cp -r dev/golden/hf/gpt2 build/test/import_ends && "
                "echo '{\"eos_token_id\": [%d, 1]}' > build/test/import_ends/generation_config.json", before.eot) == 0);
    import_well("build/test/import_ends", "build/test/import_ends_run", "");
    char *ends = format("end of text: eos_token_id is [%d,1], but only token %d ends a text here", before.eot, before.eot);
    CHECK_MSG(printed(ends), "%s", ends);
    free(ends);
    tokenizer_free(&before), tokenizer_free(&after);
    import_well("dev/golden/hf/llama", "build/test/import_hf_llama", "");
    CHECK(printed("no tokenizer: dev/golden/hf/llama: has none"));
    check_error_line(shell("%s/generate build/test/import_hf_llama 2> build/test/err.txt", build), 1, "has no tokenizer");
    // one that can't be read here is said, and the model comes without it
    CHECK(shell("rm -rf build/test/import_uni && cp -r dev/golden/hf/llama build/test/import_uni && "
                "echo '{\"pre_tokenizer\": null, \"model\": {\"type\": \"Unigram\"}}' > build/test/import_uni/tokenizer.json") == 0);
    import_well("build/test/import_uni", "build/test/import_uni_run", "");
    CHECK(printed("no tokenizer: build/test/import_uni/tokenizer.json: pre_tokenizer.type: missing"));
}

// ---------------------------------------------------------------------------------------------------------------------
// train.init

TEST(fine_tuning_begins_with_the_weights_of_a_run) {
    const char *base = "build/test/import_base", *tuned = "build/test/import_tuned";
    write_text("build/test/tune.json", "{\"data\": {\"dir\": \"build/test/data\"}, \"train\": {\"steps\": 6, \"batch\": 6, \"sample_tokens\": 0}}");
    CHECK(TRAIN("build/test/run.json --run.dir=%s --overwrite --train.steps=12 --train.eval_every=0 --optimizer.name=adamw", base) == 0);
    double last = logged(base, "\"event\": \"eval\", \"step\": 12", "\"val_loss\": ");
    // under Muon, AdamW and a route; its model's keys need not be said
    static const char *const optimizers[] = {"", "--optimizer.name=adamw", "--optimizer.name=muon --optimizer.route=q=adamw,mlp_in=none"};
    for (size_t i = 0; i < COUNT_OF(optimizers); i++) {
        CHECK(TRAIN("build/test/tune.json --run.dir=%s --overwrite --train.init=%s %s", tuned, base, optimizers[i]) == 0);
        CHECK_MSG(logged(tuned, FIRST_LOSS) == last, "%.12g instead of %.12g", logged(tuned, FIRST_LOSS), last);
        CHECK(printed("weights    build/test/import_base/checkpoint.bin, step 12") && step_of("build/test/import_tuned/checkpoint.bin") == 6);
    }
    // fewer positions: the first ones
    CHECK(TRAIN("build/test/tune.json --run.dir=%s --overwrite --train.init=%s --model.context=8", tuned, base) == 0);
    Checkpoint a = run_checkpoint(base), b;
    char error[512];
    CHECK(TRAIN("build/test/tune.json --run.dir=%s --overwrite --train.init=%s --model.context=8 --train.steps=1 --optimizer.name=sgd "
                "--optimizer.sgd.lr=0", tuned, base) == 0);
    if (checkpoint_open(&b, "build/test/import_tuned/checkpoint.bin", error, sizeof error) != 0) fail("%s", error);
    CHECK(checkpoint_find(&b, "w.wpe")->shape[1] == 8 && !memcmp(checkpoint_find(&a, "w.wpe")->data, checkpoint_find(&b, "w.wpe")->data, 8 * 16 * 4));
    CHECK(!memcmp(checkpoint_find(&a, "w.w_in")->data, checkpoint_find(&b, "w.w_in")->data, 2 * 64 * 16 * 4));
    checkpoint_close(&a), checkpoint_close(&b);
    // it goes on by itself, without the weights that it began with
    CHECK(shell("rm -rf %s_moved && mv %s %s_moved", base, base, base) == 0);
    CHECK(shell("%s --run.dir=%s --resume --train.steps=2 > build/test/out.txt 2>&1", trainer, tuned) == 0 && step_of("build/test/import_tuned/checkpoint.bin") == 2);
    CHECK(shell("mv %s_moved %s", base, base) == 0);
}

TEST(other_weights_than_the_config_asks_for_are_refused) {
    CHECK(TRAIN("build/test/run.json --run.dir=build/test/import_base --overwrite --train.steps=1 --train.eval_every=0") == 0);
    CHECK(shell("rm -rf build/test/import_bytes && %s/tokenize shards --tokenizer=byte --out=build/test/import_bytes build/test/words.txt > build/test/out.txt && "
                "rm -rf build/test/import_never", build) == 0);
#define TUNE "build/test/run.json --run.dir=build/test/import_never --train.init=build/test/import_base "
    static const struct { const char *keys, *words; } cases[] = {
        {"--model.width=32 --model.layers=3 --model.dropout=0", "checkpoint.bin: model.layers is 2 in it, but 3 here, model.width is 16 in it, but 32 here"},
        {"--model.arch=llama --model.norm=rmsnorm", "model.arch is \"gpt2\" in it, but \"llama\" here, model.norm is \"layernorm\" in it"},
        {"--model.context=17", "model.context is 16 in it: it has no positions for 17"},
        {"--data.dir=build/test/import_bytes", "the tokens of build/test/import_bytes are others than those of build/test/import_base/tokenizer.bin: prepare"},
        {"--train.init=build/test/import_none", "train.init: build/test/import_none/checkpoint.bin: cannot be opened"},
        {"--run.dir=build/test/import_base --overwrite", "is the run's own folder"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_error_line(TRAIN(TUNE "%s", cases[i].keys), 2, cases[i].words);
        CHECK(!file_exists("build/test/import_never") && file_exists("build/test/import_base/checkpoint.bin"));
    }
#undef TUNE
    import_well("dev/golden/hf/llama", "build/test/import_hf_llama", "");
    check_error_line(shell("%s --run.dir=build/test/import_hf_llama --resume 2> build/test/err.txt", trainer), 1,
                     "is of an imported model, with weights and no training to go on with; --train.init=build/test/import_hf_llama begins one");
}

// ---------------------------------------------------------------------------------------------------------------------
// GGUF: a model that the package gguf wrote (dev/golden/make_gguf.py), and changes of it

#define GGUF_GOLDEN "dev/golden/gguf.golden"

TEST(a_gguf_file_of_its_owner_is_read_with_its_tokenizer) {
    enum { C = 8, HS = 4, V = 262 };
    import_well(GGUF_GOLDEN, "build/test/import_golden", "");
    Checkpoint c = run_checkpoint("build/test/import_golden");
    // number i of tensor t is ((7 i + 13 t) mod 31 - 15) / 64; 2 is attn_q, 3 attn_k, whose neighbouring rows turn together
    static const struct { const char *name; int t, count; bool heads; } tensors[] = {
        {"w.wte", 0, V * C, false}, {"w.norm1_w", 1, C, false}, {"w.wq", 2, C * C, true}, {"w.wk", 3, HS * C, true}, {"w.wv", 4, HS * C, false},
        {"w.w_gate", 7, 12 * C, false}, {"w.w_out", 9, 12 * C, false}, {"w.normf_w", 10, C, false},
    };
    static const int from[HS] = {0, 2, 1, 3};
    for (size_t k = 0; k < COUNT_OF(tensors); k++) {
        const CkptTensor *tensor = checkpoint_find(&c, tensors[k].name);
        CHECK_MSG(tensor && tensor->shape[0] * tensor->shape[1] * tensor->shape[2] == (uint64_t)tensors[k].count, "%s", tensors[k].name);
        for (int i = 0; tensor && i < tensors[k].count; i++) {
            int row = i / C, there = tensors[k].heads ? (row / HS * HS + from[row % HS]) * C + i % C : i;
            float x = ((const float *)tensor->data)[i];
            CHECK_MSG(x == (float)((7 * there + 13 * tensors[k].t) % 31 - 15) / 64, "number %d of %s is %g", i, tensors[k].name, x);
        }
    }
    CHECK(!checkpoint_find(&c, "w.head"));
    checkpoint_close(&c);
    Tokenizer t;
    char error[ERROR_ROOM];
    if (tokenizer_load(&t, "build/test/import_golden/tokenizer.json", error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    static const uint32_t expected[] = {104, 105, 258, 32, 99, 97, 102, 259};       // as llama.cpp has them
    uint32_t ids[16];
    CHECK(t.size == 261 && t.eot == 260 && t.bpe->merge_count == 4);
    CHECK(tokenizer_encode(&t, "hi the caf\xc3\xa9", 12, ids, error, sizeof error) == 8 && !memcmp(ids, expected, sizeof expected));
    tokenizer_free(&t);
}

// Imports the golden file with these bytes in the place of others, of as many; returns the exit code.
static int import_changed(const char *there, const char *then, size_t n) {
    size_t size, at = 0;
    char *bytes = read_file(GGUF_GOLDEN, &size);
    while (at + n < size && memcmp(bytes + at, there, n) != 0) at++;
    CHECK_MSG(at + n < size, "no %s", there);
    memcpy(bytes + at, then, n);
    if (write_file("build/test/changed.gguf", bytes, size) != 0) fail("changed.gguf");
    free(bytes);
    return import("build/test/changed.gguf", "build/test/import_odd_back", "");
}

// The vector of how much slower pairs turn, of the file that the tests above have exported: its numbers are checked.
static void check_stretches(void) {
    static const struct { int pair; float x; const char *words; } cases[] = {
        {5, 1.5f, "times slower; Llama 3.1's formula with factor 32, frequency factors 1 and 4, original context "},
        {9, 0.5f, "rope_freqs.weight: numbers from 1 on, the last one the largest, expected"},
        {9, NAN, "rope_freqs.weight: numbers from 1 on"}, {0, NAN, "rope_freqs.weight: pair 0 is nan times slower"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t size;
        GgufFile g;
        char error[ERROR_ROOM], *bytes = read_file("build/test/import_gguf_llama_long/there", &size);
        if (gguf_open(&g, "build/test/import_gguf_llama_long/there", error, sizeof error) != 0) fail("%s", error);
        const SafeTensor *t = gguf_tensor(&g, "rope_freqs.weight");
        memcpy(bytes + ((const uint8_t *)t->of - g.bytes) + (size_t)cases[i].pair * sizeof(float), &cases[i].x, sizeof(float));
        if (write_file("build/test/changed.gguf", bytes, size) != 0) fail("changed.gguf");
        check_error_line(import("build/test/changed.gguf", "build/test/import_odd_back", ""), 1, cases[i].words);
        gguf_close(&g);
        free(bytes);
    }
}

TEST(what_a_gguf_file_says_otherwise_is_refused_in_one_line) {
#define CHANGE(there, then) there, then, sizeof(there) - 1
    static const struct { const char *there, *then; size_t n; const char *words; } cases[] = {
        {CHANGE("\5\0\0\0\0\0\0\0llama", "\5\0\0\0\0\0\0\0mamba"), "general.architecture is \"mamba\": gpt2, llama or deepseek2 is expected"},
        {CHANGE("llama.rope.freq_base", "llama.rope.freq_bass"), "key llama.rope.freq_bass is 500: not known here"},
        {CHANGE("llama.block_count", "llama.block_cound"), "key llama.block_count: a u32 below 2^31 is expected"},
        {CHANGE("llama.block_count\4\0\0\0\1", "llama.block_count\4\0\0\0\2"), "missing: blk.1.attn_norm.weight, blk.1.attn_q.weight"},
        {CHANGE("llama.block_count\4\0\0\0\1\0\0\0", "llama.block_count\4\0\0\0\xff\xff\xff\xff"), "a u32 below 2^31"},
        {CHANGE("llama.block_count\4\0\0\0\1\0\0\0", "llama.block_count\6\0\0\0\0\0\x80\x3f"), "a u32 below 2^31"},
        {CHANGE("length\4\0\0\0\x08", "length\4\0\0\0\x10"), "describes a model of 5584 numbers, but the tensors have 2600"},
        {CHANGE("length\4\0\0\0\x0c", "length\4\0\0\0\x0a"), "of another shape: blk.0.ffn_gate.weight is 12 x 8 instead of 10 x 8, "},
        {CHANGE("rope.dimension_count\4\0\0\0\4", "rope.dimension_count\4\0\0\0\2"), "key llama.rope.dimension_count is 2: 4 is expected"},
        {CHANGE("blk.0.ffn_up.weight", "blk.0.ffn_in.weight"), "missing: blk.0.ffn_up.weight; unknown: blk.0.ffn_in.weight"},
        {CHANGE("epsilon\6\0\0\0\xbd\x37\x86\x35", "epsilon\6\0\0\0\0\0\xc0\x7f"), "layer_norm_rms_epsilon: an f32 is expected"},
        {CHANGE("token_embd.weight", "token_emb_.weight"), "token_embd.weight: a matrix"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_error_line(import_changed(cases[i].there, cases[i].then, cases[i].n), 1, cases[i].words);
        CHECK(!file_exists("build/test/import_odd_back"));
    }
    check_stretches();
    // another end of a text is said
    CHECK(import_changed("eos_token_id\4\0\0\0\4\1", "eos_token_id\4\0\0\0\3\0", 18) == 0);
    CHECK(printed("end of text: eos_token_id is 3, but only token 260 ends a text here"));
    // a tokenizer that can't be read is left out, and said
    static const struct { const char *there, *then; size_t n; const char *words; } without[] = {
        {CHANGE("gpt-2", "gpt-9"), "tokenizer.ggml.pre: gpt-2, llama-bpe, qwen2 or gpt-4o is expected"},
        {CHANGE("\4\0\0\0\0\0\0\0gpt2", "\4\0\0\0\0\0\0\0bert"), "tokenizer.ggml.model is \"bert\""},
        {CHANGE("tokenizer.ggml.merges", "tokenizer.ggml.mergez"), "tokenizer.ggml.merges: an array of strings"},
        {CHANGE("\3\0\0\0\0\0\0\0t h", "\3\0\0\0\0\0\0\0t H"), "tokenizer.ggml.merges: 0: two tokens expected"},
    };
    for (size_t i = 0; i < COUNT_OF(without); i++) {
        CHECK_MSG(import_changed(without[i].there, without[i].then, without[i].n) == 0, "%s", without[i].words);
        CHECK_MSG(printed("no tokenizer: ") && printed(without[i].words), "%s", without[i].words);
    }
    CHECK(shell("head -c 5000 " GGUF_GOLDEN " > build/test/changed.gguf") == 0);
    check_error_line(import("build/test/changed.gguf", "build/test/import_odd_back", ""), 1, "changed.gguf: name of tensor 2: the file ends within it");
    check_error_line(import(GGUF_GOLDEN, "build/test/import_odd_back", "--context=33"), 2, "at most the model's, 32,");
#undef CHANGE
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    find_programs();
    RUN(every_half_and_bf16_is_read_as_the_float_that_it_is);
    RUN(an_exported_model_comes_back_with_the_same_bits);
    RUN(a_damaged_safetensors_file_gets_one_line);
    RUN(what_is_no_model_of_ours_is_refused_in_one_line);
    RUN(a_damaged_file_of_llm_c_is_refused_in_one_line);
    RUN(models_of_transformers_have_its_losses);
    RUN(a_tokenizer_comes_with_its_model);
    RUN(fine_tuning_begins_with_the_weights_of_a_run);
    RUN(other_weights_than_the_config_asks_for_are_refused);
    RUN(a_gguf_file_of_its_owner_is_read_with_its_tokenizer);
    RUN(what_a_gguf_file_says_otherwise_is_refused_in_one_line);
    return tests_end();
}

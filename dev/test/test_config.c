// test_config.c - src/config.h: what a config file and an override may say, what each mistake is answered with.
#define _GNU_SOURCE
#include "../../src/config.h"
#include "test.h"

// ---------------------------------------------------------------------------------------------------------------------
// A table with every type of field

typedef struct {
    struct { char *dir; int64_t seed; } run;
    struct { int arch, norm, width; bool bias; double eps; } model;
    struct { int steps, batch; double clip; ConfigList betas; } train;
    struct { struct { double lr, lrs; } muon; ConfigMap route, labels; } optimizer;
    int free_int;
    int64_t free_int64;
    double free_float;
    ConfigList free_list;
} Config;

#define AT(member) offsetof(Config, member)

static const Field fields[] = {
    { "run.dir", FIELD_STRING, AT(run.dir), "runs/a", 0, 0, NULL, "folder | of the run" },
    { "run.seed", FIELD_INT64, AT(run.seed), "1", 0, 9007199254740992.0, NULL, "of everything" },
    { "model.arch", FIELD_CHOICE, AT(model.arch), "gpt2", 0, 0, "gpt2|speedrun|llama", "preset" },
    { "model.norm", FIELD_CHOICE, AT(model.norm), "layernorm", 0, 0, "layernorm|rmsnorm", "kind of norm" },
    { "model.width", FIELD_INT, AT(model.width), "128", 1, 65536, NULL, "channels" },
    { "model.bias", FIELD_BOOL, AT(model.bias), "true", 0, 0, NULL, "biases" },
    { "model.eps", FIELD_FLOAT, AT(model.eps), "1e-5", 1e-12, 1, NULL, "under the root" },
    { "train.steps", FIELD_INT, AT(train.steps), "1000", 1, 1e9, NULL, "optimizer steps" },
    { "train.batch", FIELD_INT, AT(train.batch), "12", 1, 1e6, NULL, "sequences" },
    { "train.clip", FIELD_FLOAT, AT(train.clip), "1", 0, 1e9, NULL, "largest norm" },
    { "train.betas", FIELD_LIST, AT(train.betas), "0.9,0.95", 0, 0.999, NULL, "decays" },
    { "optimizer.muon.lr", FIELD_FLOAT, AT(optimizer.muon.lr), "0.02", 0, 10, NULL, "learning rate" },
    { "optimizer.muon.lrs", FIELD_FLOAT, AT(optimizer.muon.lrs), "0", 0, 10, NULL, "another one" },
    { "optimizer.route", FIELD_MAP, AT(optimizer.route), "{}", 0, 0, "q|k|v:adamw|muon", "role to rule" },
    { "optimizer.labels", FIELD_MAP, AT(optimizer.labels), "a=b", 0, 0, NULL, "any to any" },
    { "free_int", FIELD_INT, AT(free_int), "-1", 0, 0, NULL, "no bounds" },
    { "free_int64", FIELD_INT64, AT(free_int64), "0", 0, 0, NULL, "no bounds" },
    { "free_float", FIELD_FLOAT, AT(free_float), "0", 0, 0, NULL, "no bounds" },
    { "free_list", FIELD_LIST, AT(free_list), "", 0, 0, NULL, "no bounds" },
};
enum { N = COUNT_OF(fields) };

static const ConfigPreset presets[] = {
    { "model.arch", "llama", "model.bias", "false" },
    { "model.arch", "llama", "model.norm", "rmsnorm" },
    { "model.arch", "speedrun", "model.eps", "1e-6" },
    { "model.norm", "rmsnorm", "model.width", "256" },          // a preset's choice chooses presets below it
};

enum { MAX_OVERRIDES = 4 };

// What one load is given: the file's bytes (NULL: no file) and overrides.
typedef struct { const char *json; const char *overrides[MAX_OVERRIDES]; size_t size; const char *path; } Input;

static const char *file_of(const Input *in) {
    static char path[] = "build/test/test_config/x.json";
    if (in->path || !in->json) return in->path;
    if (write_file(path, in->json, in->size ? in->size : strlen(in->json)) != 0) fail("%s: %s", path, strerror(errno));
    return path;
}

static Config load(Input in) {
    Config c;
    memset(&c, 0x5a, sizeof c);                                 // nothing may be left of it
    int n = 0;
    while (n < MAX_OVERRIDES && in.overrides[n]) n++;
    config_load(&c, fields, N, presets, COUNT_OF(presets), file_of(&in), n, (char **)(uintptr_t)in.overrides, NULL);
    return c;
}

static void load_and_free(void *arg) {
    Config c = load(*(Input *)arg);
    config_free(&c, fields, N);
}

#define LOAD(text, ...) load((Input){ .json = (text), .overrides = { __VA_ARGS__ } })     // ...: overrides
#define FREE(c) config_free(&(c), fields, N)

// ---------------------------------------------------------------------------------------------------------------------
// What is right

TEST(defaults_come_from_the_table) {
    Config c = LOAD(NULL);
    CHECK(strcmp(c.run.dir, "runs/a") == 0 && c.run.seed == 1);
    CHECK(c.model.arch == 0 && c.model.norm == 0 && c.model.width == 128 && c.model.bias && c.model.eps == 1e-5);
    CHECK(c.train.steps == 1000 && c.train.batch == 12 && c.train.clip == 1);
    CHECK(c.train.betas.n == 2 && c.train.betas.v[0] == 0.9 && c.train.betas.v[1] == 0.95);
    CHECK(c.optimizer.muon.lr == 0.02 && c.optimizer.route.n == 0 && c.optimizer.labels.n == 1);
    CHECK(strcmp(c.optimizer.labels.keys[0], "a") == 0 && strcmp(c.optimizer.labels.values[0], "b") == 0);
    CHECK(c.free_int == -1 && c.free_int64 == 0 && c.free_float == 0 && c.free_list.n == 0);
    FREE(c);
}

TEST(a_file_sets_every_type) {
    Config c = LOAD("{\"run\": {\"dir\": \"a\\u00e9\\ud83d\\ude00\\n\\\"\", \"seed\": 9007199254740992},\n"
                    " \"model\": {\"arch\": \"speedrun\", \"bias\": false, \"width\": 7, \"eps\": 2.5E-3},\r\n"
                    "\t\"train\": {\"betas\": [0.5, 0, 1e-3]}, \"free_int\": -2147483648,"
                    " \"free_int64\": -9007199254740992, \"free_float\": -1.7976931348623157e308, \"free_list\": [],"
                    " \"optimizer\": {\"route\": {\"v\": \"muon\", \"q\": \"adamw\"},"
                    " \"labels\": {}, \"muon\": {\"lr\": 1}}}");
    CHECK(strcmp(c.run.dir, "a\xc3\xa9\xf0\x9f\x98\x80\n\"") == 0 && c.run.seed == INT64_C(1) << 53);
    CHECK(c.model.arch == 1 && !c.model.bias && c.model.width == 7 && c.model.eps == 0.0025);
    CHECK(c.train.betas.n == 3 && c.train.betas.v[0] == 0.5 && c.train.betas.v[1] == 0 && c.train.betas.v[2] == 1e-3);
    CHECK(c.free_int == INT_MIN && c.free_int64 == -(INT64_C(1) << 53) && c.free_float == -DBL_MAX);
    CHECK(c.optimizer.route.n == 2 && strcmp(c.optimizer.route.keys[0], "v") == 0);
    CHECK(strcmp(c.optimizer.route.values[0], "muon") == 0 && strcmp(c.optimizer.route.values[1], "adamw") == 0);
    CHECK(c.optimizer.labels.n == 0 && c.optimizer.muon.lr == 1 && c.train.steps == 1000);
    FREE(c);
}

TEST(overrides_set_every_type) {
    Config c = LOAD(NULL, "--run.dir=a=b, {c}", "--run.seed=5", "--model.arch=speedrun", "--model.bias=false");
    CHECK(strcmp(c.run.dir, "a=b, {c}") == 0 && c.run.seed == 5 && c.model.arch == 1 && !c.model.bias);
    FREE(c);
    c = LOAD(NULL, "--train.betas=0.1,0.2,0.3", "--optimizer.route=q=adamw,k=muon", "--free_float=-2e-3", "--run.dir=");
    CHECK(c.train.betas.n == 3 && c.train.betas.v[2] == 0.3 && c.optimizer.route.n == 2 && c.free_float == -0.002);
    CHECK(strcmp(c.optimizer.route.keys[1], "k") == 0 && strcmp(c.optimizer.route.values[1], "muon") == 0);
    CHECK(*c.run.dir == '\0');
    FREE(c);
    c = LOAD(NULL, "--train.betas=[]", "--optimizer.route={\"v\": \"muon\"}", "--optimizer.labels=", "--run.dir=7");
    CHECK(c.train.betas.n == 0 && c.optimizer.route.n == 1 && c.optimizer.labels.n == 0 && strcmp(c.run.dir, "7") == 0);
    FREE(c);
}

TEST(overrides_rule_the_file_and_it_the_presets_and_they_the_defaults) {
    const char *file = "{\"model\": {\"arch\": \"llama\", \"bias\": true}, \"train\": {\"steps\": 5, \"batch\": 6}}";
    Config c = LOAD(file, "--train.steps=7", "--train.steps=8", "--train.steps=8");
    CHECK(c.model.bias && c.model.norm == 1 && c.train.steps == 8 && c.train.batch == 6);
    CHECK(c.model.width == 256);                                // through model.norm, which the preset set
    FREE(c);
    c = LOAD(file, "--model.arch=gpt2");                        // presets follow the final choice
    CHECK(c.model.arch == 0 && c.model.norm == 0 && c.model.width == 128);
    FREE(c);
    c = LOAD(NULL, "--model.width=64", "--model.arch=llama", "--model.norm=layernorm");
    CHECK(!c.model.bias && c.model.norm == 0 && c.model.width == 64);
    FREE(c);
    c = LOAD("{\"model\": {\"norm\": \"layernorm\"}}", "--model.arch=llama",
             "--optimizer.route=q=muon", "--optimizer.route=k=muon");
    CHECK(c.model.norm == 0 && !c.model.bias && c.model.width == 128);
    CHECK(c.optimizer.route.n == 1 && strcmp(c.optimizer.route.keys[0], "k") == 0);     // the last one wins as a whole
    FREE(c);
}

TEST(text_serves_as_a_file) {
    Config c;
    const char text[] = "{\"train\": {\"steps\": 3}}garbage";
    config_load_text(&c, fields, N, presets, COUNT_OF(presets), text, strcspn(text, "g"), "stored config", 0, NULL);
    CHECK(c.train.steps == 3);
    FREE(c);
    char error[256];
    CHECK(!config_try(&c, fields, N, NULL, 0, text, strlen(text), "stored config", 0, NULL, NULL, error, sizeof error));
    CHECK_MSG(strstr(error, "stored config:1: expected nothing behind the end") == error, "%s", error);
    CHECK(c.run.dir == NULL && c.train.betas.n == 0);
    for (size_t room = 1; room < 60; room++) {
        char *exact = (char *)xmalloc(room);                    // AddressSanitizer sees a byte behind it
        CHECK(!config_try(&c, fields, N, NULL, 0, text, strlen(text), "stored config", 0, NULL, NULL, exact, room));
        CHECK(strlen(exact) < room && strncmp(exact, error, strlen(exact)) == 0);
        free(exact);
    }
    char *cut = (char *)memcpy(xmalloc(10), "{\"run\": \"\xe2", 10);
    CHECK(!config_try(&c, fields, N, NULL, 0, cut, 10, "cut", 0, NULL, NULL, error, sizeof error));
    CHECK_MSG(strcmp(error, "cut:1: a string is not UTF-8: byte 0xe2") == 0, "%s", error);
    free(cut);
}

// ---------------------------------------------------------------------------------------------------------------------
// What is wrong. Every line must be one, name its place and say what is expected.

#define INPUT_FAILS(words, ...)                                  \
    do {                                                         \
        Input in_ = { __VA_ARGS__ };                             \
        CHECK_FAILS(load_and_free, &in_, EXIT_USAGE, words);     \
    } while (0)
#define FILE_FAILS(words, text, ...) INPUT_FAILS(words, .json = (text), .overrides = { __VA_ARGS__ })
#define OVERRIDE_FAILS(text, words) FILE_FAILS("error: " text ": " words, NULL, text)

#define X "build/test/test_config/x.json:"

TEST(unknown_keys) {
    FILE_FAILS(X "3: train.stepz: unknown key, did you mean train.steps?", "{\n\"train\": {\n\"stepz\": 1}}");
    FILE_FAILS(X "1: train.Steps: unknown key, did you mean train.steps?", "{\"train\": {\"Steps\": 1}}");
    FILE_FAILS(X "1: train.STEPS: unknown key, did you mean train.steps?", "{\"train\": {\"STEPS\": 1}}");
    FILE_FAILS(X "1: Train: unknown key, did you mean train?", "{\"Train\": {\"steps\": 1}}");
    FILE_FAILS(X "1: trian: unknown key, did you mean train?", "{\"trian\": {\"steps\": 1}}");
    FILE_FAILS(X "1: optimizer.mun: unknown key, did you mean optimizer.muon?", "{\"optimizer\": {\"mun\": {}}}");
    FILE_FAILS(X "2: steps: unknown key, did you mean train.steps?", "{\"run\": {\"seed\": 1},\n \"steps\": 1}");
    FILE_FAILS(X "1: train.lr: unknown key, did you mean optimizer.muon.lr?", "{\"train\": {\"lr\": 1}}");
    FILE_FAILS(X "1: zebra: unknown key; --help lists all keys", "{\"zebra\": 1}");
    FILE_FAILS(X "1: : unknown key", "{\"\": 1}");
    FILE_FAILS(X "1: a?b: unknown key", "{\"a\\nb\": 1}");
    FILE_FAILS(X "1: train.steps: a key has no dot", "{\"train.steps\": 1}");
    FILE_FAILS(X "1: train.steps.x: a key has no dot", "{\"train\": {\"steps.x\": 1}}");
}

TEST(duplicate_keys) {
    FILE_FAILS(X "3: train.steps: the key is given twice", "{\"train\": {\"steps\": 1,\n\"batch\": 1,\n\"steps\": 1}}");
    FILE_FAILS(X "2: train: the key is given twice", "{\"train\": {\"steps\": 1},\n\"train\": {\"batch\": 1}}");
    FILE_FAILS(X "1: train.steps: the key is given twice", "{\"train\": {\"steps\": 1, \"st\\u0065ps\": 1}}");
    FILE_FAILS(X "2: optimizer.route.q: q is given twice",
               "{\"optimizer\": {\"route\": {\"q\": \"muon\",\n\"q\": \"muon\"}}}");
    OVERRIDE_FAILS("--optimizer.route=q=muon,q=adamw", "q is given twice");
}

TEST(wrong_types) {
    FILE_FAILS(X "2: train.steps: \"ten\" is a string, expected an integer from 1 to 1000000000",
               "{\"train\": {\n\"steps\": \"ten\"}}");
    FILE_FAILS(X "1: train.steps: true is a boolean, expected an integer", "{\"train\": {\"steps\": true}}");
    FILE_FAILS(X "1: train.steps: null is no value, expected an integer", "{\"train\": {\"steps\": null}}");
    FILE_FAILS(X "1: train.steps: [...] is a list, expected an integer", "{\"train\": {\"steps\": [1]}}");
    FILE_FAILS(X "1: train.steps: {...} is an object, expected an integer", "{\"train\": {\"steps\": {}}}");
    FILE_FAILS(X "1: train.clip: \"1\" is a string, expected a number from 0 to 1000000000",
               "{\"train\": {\"clip\": \"1\"}}");
    FILE_FAILS(X "1: model.bias: 1 is a number, expected true or false", "{\"model\": {\"bias\": 1}}");
    FILE_FAILS(X "1: model.bias: \"true\" is a string, expected true or false", "{\"model\": {\"bias\": \"true\"}}");
    FILE_FAILS(X "1: run.dir: 3.50 is a number, expected a string", "{\"run\": {\"dir\": 3.50}}");
    FILE_FAILS(X "1: run.dir: null is no value, expected a string", "{\"run\": {\"dir\": null}}");
    FILE_FAILS(X "1: model.arch: 0 is a number, expected one of gpt2, speedrun, llama", "{\"model\": {\"arch\": 0}}");
    FILE_FAILS(X "1: model.arch: \"GPT2\" is unknown, expected one of gpt2, speedrun, llama",
               "{\"model\": {\"arch\": \"GPT2\"}}");
    FILE_FAILS(X "1: model.arch: \"gpt\" is unknown", "{\"model\": {\"arch\": \"gpt\"}}");
#define TEN "0123456789"
    FILE_FAILS("\"" TEN TEN TEN TEN TEN "abcdefghi\xc3\xa9...\" is unknown", "{\"model\": {\"arch\": \"" TEN TEN TEN TEN TEN "abcdefghi\xc3\xa9z\"}}");
    FILE_FAILS(X "1: model.arch: \"gpt2|speedrun\" is unknown", "{\"model\": {\"arch\": \"gpt2|speedrun\"}}");
    FILE_FAILS(X "1: train.betas: 0.9 is a number, expected a list of numbers from 0 to 0.999",
               "{\"train\": {\"betas\": 0.9}}");
    FILE_FAILS(X "1: train.betas: [...] has item 2 that is not allowed, expected a list",
               "{\"train\": {\"betas\": [0.1, \"a\"]}}");
    FILE_FAILS(X "1: train.betas: [...] has item 1 that is not allowed, expected a list",
               "{\"train\": {\"betas\": [1.5]}}");
    FILE_FAILS(X "1: free_list: [...] has item 1 that is not allowed, expected a list", "{\"free_list\": [1e999]}");
    FILE_FAILS(X "1: train: is a section, expected an object {...} with keys such as train.steps", "{\"train\": 3}");
    FILE_FAILS(X "1: optimizer.muon: is a section, expected an object", "{\"optimizer\": {\"muon\": \"fast\"}}");
    FILE_FAILS(X "1: optimizer.route: \"q\" is a string, expected an object: names q, k, v, each with one of adamw, m",
               "{\"optimizer\": {\"route\": \"q\"}}");
    FILE_FAILS(X "3: optimizer.route.k: \"sgd\" is unknown, expected one of adamw, muon",
               "{\"optimizer\": {\"route\": {\"q\": \"muon\",\n\n\"k\": \"sgd\"}}}");
    FILE_FAILS(X "2: optimizer.route.w: \"w\" is no name known here, expected one of q, k, v",
               "{\"optimizer\": {\"route\": {\"q\": \"muon\",\n\"w\": \"muon\"}}}");
    FILE_FAILS(X "1: optimizer.route.q: {...} is an object, expected one of",
               "{\"optimizer\": {\"route\": {\"q\": {\"k\": 1}}}}");
    FILE_FAILS(X "1: optimizer.labels.q: 3 is a number, expected a string",
               "{\"optimizer\": {\"labels\": {\"q\": 3}}}");
    FILE_FAILS(X "4: train.steps: \"x\" is a string",
               "{\"optimizer\": {\"labels\": {\"q\": \"3\",\n \"r\": \"\"}},\n\"train\": {\n\"steps\": \"x\"}}");
}

TEST(out_of_range) {
    FILE_FAILS(X "1: train.steps: 0 is out of range, expected an integer from 1 to 1000000000",
               "{\"train\": {\"steps\": 0}}");
    FILE_FAILS(X "1: train.steps: -1 is out of range", "{\"train\": {\"steps\": -1}}");
    FILE_FAILS(X "1: train.steps: 1000000001 is out of range", "{\"train\": {\"steps\": 1000000001}}");
    FILE_FAILS(X "1: train.steps: 99999999999999999999 is out of range",
               "{\"train\": {\"steps\": 99999999999999999999}}");
    FILE_FAILS(X "1: train.steps: 1.5 is not written as an integer", "{\"train\": {\"steps\": 1.5}}");
    FILE_FAILS(X "1: train.steps: 2.0 is not written as an integer", "{\"train\": {\"steps\": 2.0}}");
    FILE_FAILS(X "1: train.steps: 1e3 is not written as an integer", "{\"train\": {\"steps\": 1e3}}");
    FILE_FAILS(X "1: run.seed: 9007199254740993 is out of range", "{\"run\": {\"seed\": 9007199254740993}}");
    FILE_FAILS(X "1: free_int: 2147483648 is out of range, expected an integer from -2147483648 to 2147483647",
               "{\"free_int\": 2147483648}");
    FILE_FAILS(X "1: free_int64: -9007199254740993 is out of range", "{\"free_int64\": -9007199254740993}");
    FILE_FAILS(X "1: free_float: 1e999 is out of range, expected a number", "{\"free_float\": 1e999}");
    FILE_FAILS(X "1: train.clip: -0.5 is out of range, expected a number from 0 to 1000000000",
               "{\"train\": {\"clip\": -0.5}}");
    FILE_FAILS(X "1: model.eps: 0 is out of range, expected a number from 1e-12 to 1", "{\"model\": {\"eps\": 0}}");
}

TEST(syntax) {
    FILE_FAILS("x.json: is empty, expected a JSON object", " \n");
    FILE_FAILS(X "1: expected an object {...}, found '['", "[1]");
    FILE_FAILS(X "2: expected an object {...}, found 3", "\n3");
    FILE_FAILS(X "2: expected nothing behind the end of the JSON text, found x", "{}\nx");
    FILE_FAILS(X "1: expected nothing behind the end of the JSON text, found '}'", "{}}");
    INPUT_FAILS(X "1: expected nothing behind the end of the JSON text, found the byte 0x00", .json = "{}", .size = 3);
    FILE_FAILS(X "3: expected ',' or '}', found the end of the text", "{\"train\": {\n\"steps\": 3\n");
    FILE_FAILS(X "2: expected ',' or '}', found '\"'", "{\"run\": {\"seed\": 1\n\"dir\": \"\"}}");
    FILE_FAILS(X "1: expected a key in double quotes, found '}'", "{\"run\": {},}");
    FILE_FAILS(X "1: expected a key in double quotes, found run", "{run: {}}");
    FILE_FAILS(X "1: expected a key in double quotes, found '''", "{'run': {}}");
    FILE_FAILS(X "1: expected ':' behind the key, found '}'", "{\"run\"}");
    FILE_FAILS(X "1: expected a value, found ']'", "{\"free_list\": [1,]}");
    FILE_FAILS(X "1: expected ',' or ']', found 2", "{\"free_list\": [1 2]}");
    FILE_FAILS(X "1: expected a value, found True", "{\"model\": {\"bias\": True}}");
    FILE_FAILS(X "1: expected a value, found truely", "{\"model\": {\"bias\": truely}}");
    FILE_FAILS(X "1: expected a value, found NaN", "{\"free_float\": NaN}");
    FILE_FAILS(X "1: expected a digit, found Infinity", "{\"free_float\": -Infinity}");
    FILE_FAILS(X "1: expected a value, found +1", "{\"free_float\": +1}");
    FILE_FAILS(X "1: expected a value, found .5", "{\"free_float\": .5}");
    FILE_FAILS(X "1: expected a digit, found '}'", "{\"free_float\": 1.}");
    FILE_FAILS(X "1: expected a digit, found '}'", "{\"free_float\": 1e}");
    FILE_FAILS(X "1: expected ',' or '}', found x10", "{\"free_int\": 0x10}");
    FILE_FAILS(X "1: 01 has a leading zero", "{\"free_int\": 01}");
    FILE_FAILS(X "1: -007 has a leading zero", "{\"free_int\": -007}");
    FILE_FAILS(X "1: a number of more than 60 characters",
               "{\"free_float\": 0.1000000000000000000000000000000000000000000000000000000000000000000000}");
    FILE_FAILS(X "2: expected a key in double quotes, found '/': JSON has no comments", "{\n// seed\n\"run\": {}}");
    FILE_FAILS(X "1: expected ',' or '}', found '#': JSON has no comments", "{\"free_int\": 1 # one\n}");
    FILE_FAILS(X "1: begins with a byte order mark", "\xef\xbb\xbf{}");
    FILE_FAILS(X "1: a string is not closed in its line", "{\"run\": {\"dir\": \"a\n\"}}");
    FILE_FAILS(X "1: a string is not closed in its line", "{\"run\": {\"dir\": \"a");
    FILE_FAILS(X "1: a string holds the control byte 0x09", "{\"run\": {\"dir\": \"a\tb\"}}");
    FILE_FAILS(X "1: expected one of \" \\ / b f n r t u behind a backslash, found x", "{\"run\": {\"dir\": \"\\x\"}}");
    FILE_FAILS(X "1: expected four hexadecimal digits behind \\u, found g", "{\"run\": {\"dir\": \"\\u12g4\"}}");
    FILE_FAILS(X "1: \\u0000 in a string", "{\"run\": {\"dir\": \"a\\u0000b\"}}");
    FILE_FAILS(X "1: half a surrogate pair", "{\"run\": {\"dir\": \"\\ud800\"}}");
    FILE_FAILS(X "1: half a surrogate pair", "{\"run\": {\"dir\": \"\\ud800\\u0041\"}}");
    FILE_FAILS(X "1: half a surrogate pair", "{\"run\": {\"dir\": \"\\udc00\"}}");
    FILE_FAILS(X "1: a string is not UTF-8: byte 0xff", "{\"run\": {\"dir\": \"\xff\"}}");
    FILE_FAILS(X "1: a string is not UTF-8: byte 0xc0", "{\"run\": {\"dir\": \"\xc0\x80\"}}");
    FILE_FAILS(X "1: a string is not UTF-8: byte 0xed", "{\"run\": {\"dir\": \"\xed\xa0\x80\"}}");
    char deep[1 << 16];
    memset(deep, '[', sizeof deep);
    INPUT_FAILS(X "1: nested deeper than 100", .json = deep, .size = sizeof deep);
}

TEST(files_that_cannot_be_read) {
    INPUT_FAILS("build/test/none.json: cannot be read: No such file", .path = "build/test/none.json");
    INPUT_FAILS("build/test/test_config: cannot be read: Is a directory", .path = "build/test/test_config");
}

TEST(wrong_overrides) {
    OVERRIDE_FAILS("--train.stepz=3", "unknown key, did you mean --train.steps?");
    OVERRIDE_FAILS("--train.Steps=3", "unknown key, did you mean --train.steps?");
    OVERRIDE_FAILS("--zebra=3", "unknown key; --help lists all keys");
    OVERRIDE_FAILS("--train=3", "train is a section, expected one of its keys, such as --train.steps");
    OVERRIDE_FAILS("train.steps=3", "expected --section.key=value");
    OVERRIDE_FAILS("--model.bias", "expected --model.bias=VALUE, where VALUE is: true or false");
    OVERRIDE_FAILS("--train.steps", "expected --train.steps=VALUE, where VALUE is: integer from 1 to 1000000000");
    OVERRIDE_FAILS("--train.steps=ten", "\"ten\" is a string, expected an integer from 1 to 1000000000");
    OVERRIDE_FAILS("--train.steps=", "\"\" is a string, expected an integer");
    OVERRIDE_FAILS("--train.steps=010", "\"010\" is a string, expected an integer");
    OVERRIDE_FAILS("--train.steps=1.5", "1.5 is not written as an integer, expected an integer");
    OVERRIDE_FAILS("--train.steps=0", "0 is out of range");
    OVERRIDE_FAILS("--free_float=nan", "\"nan\" is a string, expected a number");
    OVERRIDE_FAILS("--free_float=inf", "\"inf\" is a string, expected a number");
    OVERRIDE_FAILS("--free_float=0x10", "\"0x10\" is a string, expected a number");
    OVERRIDE_FAILS("--free_float=1e999", "1e999 is out of range");
    OVERRIDE_FAILS("--model.bias=yes", "\"yes\" is a string, expected true or false");
    OVERRIDE_FAILS("--model.bias=1", "1 is a number, expected true or false");
    OVERRIDE_FAILS("--model.bias=True", "\"True\" is a string, expected true or false");
    OVERRIDE_FAILS("--model.arch=gpt3", "\"gpt3\" is unknown, expected one of gpt2, speedrun, llama");
    OVERRIDE_FAILS("--train.betas=0.1,x", "\"0.1,x\" is a string, expected a list of numbers from 0 to 0.999");
    OVERRIDE_FAILS("--train.betas=0.1,7", "[...] has item 2 that is not allowed");
    OVERRIDE_FAILS("--optimizer.route=q",
                   "\"q\" is a string, expected an object: names q, k, v, each with one of adamw, muon");
    OVERRIDE_FAILS("--optimizer.route=q=sgd", "\"sgd\" is unknown, expected one of adamw, muon");
    OVERRIDE_FAILS("--optimizer.route=x=muon", "\"x\" is no name known here, expected one of q, k, v");
    OVERRIDE_FAILS("--run.dir=\xff", "a string is not UTF-8");
    FILE_FAILS("error: --train.steps=1?2: \"1\\n2\" is a string", NULL, "--train.steps=1\n2");
    FILE_FAILS("error: --train.steps=0: 0 is out of range",
               NULL, "--train.steps=0", "--train.steps=5");  // each counts
    FILE_FAILS(X "1: train.steps: 0 is out of range", "{\"train\": {\"steps\": 0}}", "--train.steps=5");
    char *giant = (char *)xmalloc(100000);
    memset(giant, 'x', 99999);
    memcpy(giant, "--train.steps=", 14);
    giant[99999] = '\0';
    FILE_FAILS("xxxxx...: \"xxxxx", NULL, giant);
    free(giant);
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

TEST(what_is_written_reads_back_the_same) {
    Config c = LOAD("{\"run\": {\"dir\": \"\\u0001\\\"\\\\\\n\\t\\u007f\\u20ac\", \"seed\": 9007199254740992},"
                    " \"model\": {\"arch\": \"llama\", \"width\": 5}, \"free_list\": [1, -2.5, 1e-300, 0.1],"
                    " \"free_float\": -0.0, \"optimizer\": {\"labels\": {\"\\\"\": \"a b\", \"\": \"\"}}}");
    char *text = config_text(&c, fields, N);
    Config back;
    config_load_text(&back, fields, N, presets, COUNT_OF(presets), text, strlen(text), "text", 0, NULL);
    CHECK(config_differences(&c, &back, fields, N, NULL, NULL) == 0);
    CHECK(strcmp(c.run.dir, back.run.dir) == 0 && signbit(back.free_float) && back.model.arch == 2 && !back.model.bias);
    CHECK(back.free_list.n == 4 && memcmp(c.free_list.v, back.free_list.v, 4 * sizeof(double)) == 0);
    char *again = config_text(&back, fields, N);
    CHECK(strcmp(text, again) == 0);
    free(text); free(again);
    FREE(c); FREE(back);
}

TEST(the_text_is_pretty) {
    Config c = LOAD(NULL);
    char *text = config_text(&c, fields, N);
    const char *expected =
        "{\n"
        "  \"run\": {\n"
        "    \"dir\": \"runs/a\",\n"
        "    \"seed\": 1\n"
        "  },\n"
        "  \"model\": {\n"
        "    \"arch\": \"gpt2\",\n"
        "    \"norm\": \"layernorm\",\n"
        "    \"width\": 128,\n"
        "    \"bias\": true,\n"
        "    \"eps\": 1e-5\n"
        "  },\n"
        "  \"train\": {\n"
        "    \"steps\": 1000,\n"
        "    \"batch\": 12,\n"
        "    \"clip\": 1,\n"
        "    \"betas\": [0.9, 0.95]\n"
        "  },\n"
        "  \"optimizer\": {\n"
        "    \"muon\": {\n"
        "      \"lr\": 0.02,\n"
        "      \"lrs\": 0\n"
        "    },\n"
        "    \"route\": {},\n"
        "    \"labels\": {\"a\": \"b\"}\n"
        "  },\n"
        "  \"free_int\": -1,\n"
        "  \"free_int64\": 0,\n"
        "  \"free_float\": 0,\n"
        "  \"free_list\": []\n"
        "}\n";
    CHECK_MSG(strcmp(text, expected) == 0, "%s", text);
    free(text);
    FREE(c);
    // Sections that end together, at the next key and at the end
    const Field deep[] = { { "a.b.c", FIELD_INT, 0, "3", 0, 0, NULL, "" }, { "d", FIELD_INT, 0, "3", 0, 0, NULL, "" },
                           { "e.f", FIELD_INT, 0, "3", 0, 0, NULL, "" } };
    int x = 3;
    text = config_text(&x, deep, 3);
    CHECK_MSG(strcmp(text, "{\n  \"a\": {\n    \"b\": {\n      \"c\": 3\n    }\n  },\n  \"d\": 3,\n"
                           "  \"e\": {\n    \"f\": 3\n  }\n}\n") == 0, "%s", text);
    free(text);
}

TEST(numbers_are_as_short_as_exact) {
    static const struct { double x; const char *text; } cases[] = {
        { 0.02, "0.02" }, { 1e-5, "1e-5" }, { 0.1 + 0.2, "0.30000000000000004" }, { 1e9, "1000000000" },
        { 1e22, "1e+22" }, { 1.0 / 3, "0.3333333333333333" }, { -2.5, "-2.5" }, { -0.0, "-0" }, { 0, "0" },
        { 1e-10, "1e-10" }, { 5e-324, "5e-324" }, { DBL_MAX, "1.7976931348623157e+308" },
        { 3.4e-5f, "3.400000059627928e-5" },
    };
    char buffer[32];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_MSG(strcmp(json_number(buffer, cases[i].x), cases[i].text) == 0, "%s, not %s", buffer, cases[i].text);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t bits = mix64(i);
        double x;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) continue;
        double back = strtod(json_number(buffer, x), NULL);
        CHECK_MSG(memcmp(&x, &back, sizeof x) == 0, "%s", buffer);
        CHECK(strlen(buffer) < sizeof buffer);
    }
}

static void note_difference(const char *key, const char *va, const char *vb, void *context) {
    char **line = (char **)context, *old = *line;
    *line = format("%s%s: %s -> %s; ", old, key, va, vb);
    free(old);
}

TEST(differences_are_told) {
    Config a = LOAD(NULL), b = LOAD(NULL, "--train.steps=5", "--run.dir=b", "--optimizer.route=q=muon");
    char *lines = xstrdup("");
    CHECK(config_differences(&a, &b, fields, N, note_difference, &lines) == 3);
    CHECK_MSG(strcmp(lines, "run.dir: \"runs/a\" -> \"b\"; train.steps: 1000 -> 5; "
                            "optimizer.route: {} -> {\"q\": \"muon\"}; ") == 0, "%s", lines);
    free(lines);
    FREE(a); FREE(b);
}

TEST(help_lists_every_key) {
    for (int markdown = 0; markdown < 2; markdown++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        config_help(out, fields, N, markdown);
        fclose(out);
        for (int i = 0; i < N; i++) {
            char *row = format(markdown ? "| `%s` | " : "  --%s=", fields[i].key);
            CHECK_MSG(strstr(text, row) != NULL, "no %s in:\n%s", row, text);
            CHECK(fields[i].help[0] == 'f' || strstr(text, fields[i].help));
            free(row);
        }
        if (markdown) {
            CHECK(strstr(text, "| `model.arch` | one of `gpt2`, `speedrun`, `llama` | `gpt2` | preset |\n"));
            CHECK(strstr(text, "folder \\| of the run"));
            CHECK(strstr(text, "| `train.steps` | integer from 1 to 1000000000 | `1000` | optimizer steps |\n"));
        } else CHECK(strstr(text, "  --train.steps=1000  (integer from 1 to 1000000000)\n        optimizer steps\n"));
        free(text);
    }
    CHECK(strcmp(config_choice_name(fields, N, "model.arch", 2), "llama") == 0);
    CHECK(strcmp(config_choice_name(fields, N, "model.arch", 3), "?") == 0);
    CHECK(strcmp(config_choice_name(fields, N, "train.steps", 0), "?") == 0);
}

/* Any bytes are taken or refused with one line, never a crash: a right config with a few bytes changed. What is taken
 * must read back the same. */
TEST(changed_bytes_never_crash) {
    static const char right[] = "{\"run\": {\"dir\": \"a\\u00e9\", \"seed\": 12},\n"
                                "\"model\": {\"bias\": true, \"eps\": 1e-3},\n"
                                "\"optimizer\": {\"route\": {\"q\": \"muon\"}}, \"free_list\": [1, 2.5]}";
    static const char pool[] = "{}[]\",:\\u0123456789.eE+- \n\ttrfalsn\0\x80\xc3\xff";
    int taken = 0;
    for (uint64_t trial = 0; trial < 20000; trial++) {
        char text[sizeof right], error[512] = "";
        memcpy(text, right, sizeof right);
        size_t size = trial % 5 == 0 ? hash64(trial, 7) % sizeof right : sizeof right - 1;
        for (uint64_t k = 0; k <= hash64(trial, 8) % 3; k++) {
            uint64_t h = hash64(trial, k);
            text[h % (sizeof right - 1)] = pool[(h >> 32) % (sizeof pool - 1)];
        }
        char *exact = (char *)memcpy(xmalloc(size), text, size);        // AddressSanitizer sees a read behind it
        Config c, back;
        if (config_try(&c, fields, N, presets, COUNT_OF(presets), exact, size, "x", 0, NULL, NULL, error, sizeof error)) {
            taken++;
            char *written = config_text(&c, fields, N);
            config_load_text(&back, fields, N, NULL, 0, written, strlen(written), "written", 0, NULL);
            CHECK_MSG(config_differences(&c, &back, fields, N, NULL, NULL) == 0, "%.*s", (int)size, text);
            free(written);
            FREE(c); FREE(back);
        } else CHECK_MSG(strncmp(error, "x:", 2) == 0 && !strchr(error, '\n') && strlen(error) > 10, "%s", error);
        free(exact);
    }
    CHECK_MSG(taken > 200 && taken < 15000, "%d taken", taken);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    free(test_folder("test_config"));
    RUN(defaults_come_from_the_table);
    RUN(a_file_sets_every_type);
    RUN(overrides_set_every_type);
    RUN(overrides_rule_the_file_and_it_the_presets_and_they_the_defaults);
    RUN(text_serves_as_a_file);
    RUN(unknown_keys);
    RUN(duplicate_keys);
    RUN(wrong_types);
    RUN(out_of_range);
    RUN(syntax);
    RUN(files_that_cannot_be_read);
    RUN(wrong_overrides);
    RUN(what_is_written_reads_back_the_same);
    RUN(the_text_is_pretty);
    RUN(numbers_are_as_short_as_exact);
    RUN(differences_are_told);
    RUN(help_lists_every_key);
    RUN(changed_bytes_never_crash);
    return tests_end();
}

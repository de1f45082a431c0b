/* test_plan.c - the law of losses (tools/law.h) against values computed by hand, and what a budget buys (tools/plan.h) on machines and
 * of texts that are made up.
 */
#define _GNU_SOURCE
#include "../../tools/plan.h"
#include "test.h"

static const LawOf simple = {.E = 1, .A = 100, .a = 0.5, .B = 1000, .b = 0.5, .repeat = 4, .sd = 0.02};
static const Law law = {.muon = {1, 100, 0.5, 1000, 0.5, 4, 0.02}, .adamw = {1, 100, 0.5, 2000, 0.5, 4, 0.02}, .best_vocab = 1024, .vocab_k = 0.01,
                        .kjv_deflate = 2, .texts = {{2, 1}, {3, 1.2}}, .params = {1e5, 3e6}, .bytes = {1e6, 4e7}};

static bool near(double x, double y) { return fabs(x - y) <= 1e-9 * fabs(y); }

TEST(the_law_is_its_formula) {
    // N = 10^4: 100 / 100 = 1; D = 10^6: 1000 / 1000 = 1; b = 1/2: sqrt(1^2 + 1^2); V = 4096: two octaves, 1.04
    CHECK(near(law_bits(&law, &simple, 1e4, 1e6, 1e6, 1024, 1), 1 + sqrt(2)));
    CHECK(near(law_bits(&law, &simple, 1e4, 1e6, 1e6, 4096, 1.5), (1 + sqrt(2)) * 1.5 * 1.04));
    CHECK(near(law_bits(&law, &simple, 1e6, 4e6, 1e9, 1024, 1), 1 + sqrt(0.1 * 0.1 + 0.5 * 0.5)));
    const LawOf plain = {.E = 1, .A = 100, .a = 0.5, .B = 1e6, .b = 1, .repeat = 4};     // b = 1: a sum
    CHECK(near(law_bits(&law, &plain, 1e4, 1e6, 1e6, 1024, 1), 3));
    // a text that is read twice counts as 1 + 4 (1 - e^(-1/4)), and at most as 1 + 4
    CHECK(near(law_effective_bytes(&simple, 5e5, 1e6), 5e5) && near(law_effective_bytes(&simple, 2e6, 1e6), 1.8847968677143803e6));
    CHECK(near(law_effective_bytes(&simple, 1e12, 1e6), 5e6));
    for (double raw = 1e5; raw < 2e7; raw *= 1.7) CHECK(fabs(law_raw_bytes(&simple, law_effective_bytes(&simple, raw, 1e6), 1e6) / raw - 1) < 1e-9);
    CHECK(isinf(law_raw_bytes(&simple, 5e6, 1e6)));
    // how hard a text is: as fitted, or as deflate says
    CHECK(law_hardness(&law, 2) == 1 && law_hardness(&law, 3.001) == 1.2 && law_hardness(&law, 3.1) == 1.55 && law_hardness(&law, 1) == 0.5);
    // a = b: both terms are 1 for N = 10^4 and D = 10^6
    CHECK(near(law_best_bytes(&simple, 1e4), 1e6) && near(law_best_weights(&simple, 1e6), 1e4));
    const LawOf uneven = {.E = 1, .A = 30, .a = 0.3, .B = 27, .b = 0.25, .repeat = 4};
    double n = 1e6, d = law_best_bytes(&uneven, n), least = law_bits(&law, &uneven, n, d, 1e15, 1024, 1);
    CHECK(near(law_best_weights(&uneven, d), n));
    CHECK(least < law_bits(&law, &uneven, n * 1.05, d / 1.05, 1e15, 1024, 1) && least < law_bits(&law, &uneven, n / 1.05, d * 1.05, 1e15, 1024, 1));
    double N = 3e4, D = law_best_bytes(&simple, N), at = law_bits(&law, &simple, N, D, 1e12, 1024, 1);      // along N D = constant
    CHECK(at < law_bits(&law, &simple, N * 1.1, D / 1.1, 1e12, 1024, 1) && at < law_bits(&law, &simple, N / 1.1, D * 1.1, 1e12, 1024, 1));
}

static void read_law(void *text) {
    if (write_file("build/test/plan/law.json", text, strlen(text)) != 0) fail("%s", strerror(errno));
    law_read("build/test/plan/law.json");
}

#define NUMBERS "{\"E\": 1, \"A\": 2, \"a\": 0.3, \"B\": 3, \"b\": 0.4, \"repeat\": 5, \"sd\": 0.01}"
#define REST ", \"vocab\": {\"best\": 2048, \"k\": 0.002}, \"texts\": {\"kjv\": {\"deflate\": 2.4, \"hardness\": 1}, \"x\": {\"deflate\": 3, \"hardness\": 1.1}}, \"range\": {\"params\": [1, 2], \"bytes\": [3, 4]}}"

TEST(a_law_that_is_none_is_one_line) {
    free(test_folder("plan"));
    read_law("{\"muon\": " NUMBERS ", \"adamw\": " NUMBERS REST);
    Law read = law_read("build/test/plan/law.json");
    CHECK(read.muon.E == 1 && read.muon.A == 2 && read.muon.a == 0.3 && read.adamw.B == 3 && read.adamw.b == 0.4 && read.adamw.repeat == 5 &&
          read.muon.sd == 0.01 && read.best_vocab == 2048 && read.vocab_k == 0.002 && read.kjv_deflate == 2.4 && read.texts[1].hardness == 1.1 && read.params[1] == 2 && read.bytes[0] == 3);
    CHECK_FAILS(read_law, "{\"muon\": " NUMBERS REST, EXIT_USAGE, "build/test/plan/law.json: adamw.E: missing; a number of at least 0 is expected");
    CHECK_FAILS(read_law, "{\"muon\": {\"E\": 1, \"A\": -2}, \"adamw\": " NUMBERS REST, EXIT_USAGE, "muon.A: no such number; a number of at least 1e-06");
    CHECK_FAILS(read_law, "{\"muon\": " NUMBERS ", \"adamw\": " NUMBERS "}", EXIT_USAGE, "vocab.best: missing");
    CHECK_FAILS(read_law, "{\"muon\": " NUMBERS ", \"adamw\": " NUMBERS ", \"vocab\": {\"best\": 1, \"k\": 0}, \"texts\": {\"kjv\": {\"deflate\": 2}}}", EXIT_USAGE,
                "law.json: texts.*.hardness: missing");
    CHECK_FAILS(read_law, "{\"muon\": ", EXIT_USAGE, "build/test/plan/law.json:1: ");
    Law own = law_read("configs/law.json");              // the project's
    CHECK(own.muon.a > 0 && own.kjv_deflate > 1);
    CHECK(law_knows(&own, own.kjv_deflate) && law_knows(&own, 2.5965) && law_hardness(&own, own.kjv_deflate) == 1 && !law_knows(&own, 2.2) && !law_knows(&own, 1e-9));
}

// ---------------------------------------------------------------------------------------------------------------------
// The rates' rule against what the studies measured, and whom it warns

static Config rates_config(const char *optimizer, int width, int steps, double rate, const char *more) {
    Config c;
    char error[ERROR_ROOM];
    bool muon = !strcmp(optimizer, "muon");
    char *text = format("{\"model\": {\"layers\": 4, \"width\": %d}, \"train\": {\"steps\": %d}, \"optimizer\": {\"name\": \"%s\", \"%s\": {\"lr\": %g}%s}}",
                        width, steps, optimizer, muon ? "muon" : "adamw", rate, more);
    if (!config_try(&c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), text, strlen(text), "test", 0, NULL, NULL, error, sizeof error))
        fail("%s", error);
    free(text);
    return c;
}

static void warn_of(void *config) { warn_rates(config), exit(7); }

static bool warns(const Config *c) {
    char errors[1024];
    CHECK(run_child(warn_of, (void *)(uintptr_t)c, errors, sizeof errors) == 7);
    return *errors;
}

TEST(rates_far_from_the_rule_are_said) {
    // dev/exp/scale-rules/best.csv: widths 32 to 256, 150 steps; dev/exp/scaling: the best of three or four at 244 steps; the default run
    static const struct { const char *optimizer; int width, steps; double best; } measured[] = {
        {"muon", 32, 150, 0.0317}, {"muon", 64, 150, 0.0285}, {"muon", 128, 150, 0.0258}, {"muon", 256, 150, 0.0262}, {"muon", 32, 244, 0.02},
        {"muon", 128, 244, 0.02}, {"muon", 128, 1200, 0.0113}, {"adamw", 32, 150, 0.0103}, {"adamw", 64, 150, 0.0056}, {"adamw", 128, 150, 0.0024},
        {"adamw", 256, 150, 0.0020}, {"adamw", 32, 244, 0.005}, {"adamw", 128, 244, 0.0015}};
    for (size_t i = 0; i < COUNT_OF(measured); i++)
        for (int times = -5; times <= 5; times += 5) {
            Config c = rates_config(measured[i].optimizer, measured[i].width, measured[i].steps, measured[i].best * pow(7, times / 5.0), "");
            RateCheck r = {0};
            CHECK(rate_check(&c, &r) && (times || fabs(log2(r.is / r.rule)) < 1.01));
            CHECK_MSG(warns(&c) == (times != 0), "case %zu: %g, the rule has %g", i, r.is, r.rule);
            config_free(&c, config_fields, N_FIELDS);
        }
    // 0.005 under match_rms_adamw are 0.0113 of keller's at width 128
    Config c = rates_config("muon", 128, 1200, 0.005, ", \"recipe\": \"none\"");
    c.optimizer.muon.scale = MUON_SCALE_MATCH_RMS_ADAMW;
    RateCheck r;
    CHECK(rate_check(&c, &r) && fabs(r.rule / 0.005 - 1) < 0.01);
    c.optimizer.muon.lr = 0.02;
    CHECK_FAILS(warn_of, &c, 7, "warning: optimizer.muon.lr: 0.02 is far from 0.005, about the best at width 128 and 1200 steps");
    // nothing is said of what was not measured
    const int width = c.model.width, layers = c.model.layers;
    c.model.width = 512;
    CHECK(!warns(&c));
    c.model.width = width, c.model.layers = 12;
    CHECK(!warns(&c));
    c.model.layers = layers, c.train.steps = 50;
    CHECK(!warns(&c));
    c.train.steps = 1200, c.train.minutes = 5;
    CHECK(!warns(&c));
    c.train.minutes = 0, c.model.experts = 4;
    CHECK(!warns(&c));
    c.model.experts = 0, c.optimizer.muon.scale = MUON_SCALE_SPECTRAL;
    CHECK(!warns(&c));
    c.optimizer.muon.scale = MUON_SCALE_MATCH_RMS_ADAMW;
    CHECK(warns(&c));
    config_free(&c, config_fields, N_FIELDS);
    static const char *const others[] = {"normuon", "sgd"};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        Config other = rates_config(others[i], 128, 1200, 0.5, ", \"muon\": {\"lr\": 5}");
        CHECK_MSG(!warns(&other), "%s", others[i]);
        config_free(&other, config_fields, N_FIELDS);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A machine of 30 GFLOP/s, and a text

static double room;                      // weights that its memory holds

static bool shape(void *slower, Candidate *c) {
    (void)slower;
    c->weights = 12.0 * c->layers * c->width * c->width + (double)c->vocab * c->width;
    c->params = c->weights + (double)c->vocab * c->width;
    return c->weights < room;
}

static Machine machine_of(double flops) {
    Machine m = {.n = 1};
    double C = 128;
    m.of[0] = (WidthCosts){128, 0, {6 * 20 * C / flops, 6 * 12 * C * C / flops, 6 * C / flops}, {1e-4, 5 * 6 * 12 * C * C * C / flops / 10, 20 * C / flops}};
    return m;
}

static const TextFacts text = {.bytes = 4e6, .val_bytes = 4e5, .deflate = 2, .n = 3,
                               .vocab = {{512, 2.3, 3}, {1024, 2.8, 4}, {2048, 3.4, 5}}};
static const LawOf real = {.E = 0.6, .A = 30, .a = 0.34, .B = 27, .b = 0.28, .repeat = 15, .sd = 0.04};
static const Given nothing = {.bf16 = -1, .dropout = -1};

static bool best(Candidate *c, const Machine *m, const Given *g, Budgeted b) {
    return plan_best(c, 0, INT_MAX, g, &text, m, &b, &law, &real, shape, NULL);
}

TEST(minutes_buy_the_lowest_loss_that_ends_in_time) {
    Machine m = machine_of(3e10);
    double before = INFINITY, weights = 0;
    room = INFINITY;
    for (double minutes = 0.5; minutes < 2000; minutes *= 2.3) {
        Candidate c;
        CHECK(best(&c, &m, &nothing, (Budgeted){.seconds = 60 * minutes, .used = 4}));
        CHECK_MSG(c.seconds < 60 * minutes * 1.01 && c.seconds > 60 * minutes * 0.93, "%g minutes: %.1f seconds", minutes, c.seconds);
        CHECK_MSG(c.bits < before && c.weights >= 0.7 * weights, "%g minutes: %.3f bits, %.3g weights", minutes, c.bits, c.weights);
        CHECK(c.layers >= 2 && c.steps >= 20 && c.weights >= 2.0 * c.vocab * c.width && c.bf16 == 0);
        CHECK(c.batch * c.context >= 256 && c.context >= 64 && c.context <= 256);
        // no other shape of this plan's vocabulary does better
        for (size_t i = 0; i < COUNT_OF(plan_widths); i++) {
            Given g = nothing;
            Candidate other;
            g.width = plan_widths[i], g.layers = (plan_widths[i] + 16) / 32;
            if (g.layers >= 2 && best(&other, &m, &g, (Budgeted){.seconds = 60 * minutes, .used = 4})) CHECK(other.bits >= c.bits);
        }
        before = c.bits, weights = c.weights;
    }
    Candidate slow, fast;
    Machine half = machine_of(1.5e10);
    CHECK(best(&slow, &half, &nothing, (Budgeted){.seconds = 600}) && best(&fast, &m, &nothing, (Budgeted){.seconds = 600}));
    CHECK(slow.bits > fast.bits);
    CHECK(!best(&slow, &m, &nothing, (Budgeted){.seconds = 5, .used = 1}));                  // the tokenizer alone takes 3
}

// The same shape as by seconds that are added up here.
TEST(seconds_are_those_of_every_part) {
    WidthCosts w = {64, 0, {1e-5, 2e-5, 1e-8}, {1e-3, 2e-3, 1e-6}};
    Candidate c = {.layers = 3, .width = 64, .vocab = 1000, .steps = 200, .tokens = 200 * 1024, .eval_tokens = 2048, .final_tokens = 30000, .prepare_seconds = 7};
    double token = 1e-5 + 6e-5 + 1e-5, step = 1e-3 + 6e-3 + 1e-3;
    CHECK(near(candidate_seconds(&c, &w, 5), 5 + 7 + 1.5 + 204800 * token + 200 * step + (11 * 2048 + 30000) * token / 3));
    Machine m = {.of = {w}, .n = 1};
    WidthCosts wide = machine_costs(&m, 128, 0);         // twice the width: products four times, Newton-Schulz eight
    CHECK(near(wide.token.base, 2e-5) && near(wide.token.layer, 8e-5) && near(wide.token.vocab, 2e-8) && near(wide.step.layer, 1.6e-2) && near(wide.step.vocab, 2e-6));
    CHECK(isinf(machine_costs(&m, 64, 1).token.base) && machine_knows(&m, 64, 0) && !machine_knows(&m, 64, 1) && !machine_knows(&m, 96, 0));
}

TEST(keys_that_are_given_stay) {
    Machine m = machine_of(3e10);
    Given g = {.layers = 3, .width = 96, .context = 32, .batch = 5, .bf16 = -1, .dropout = 0.3};
    Candidate c;
    room = INFINITY;
    CHECK(best(&c, &m, &g, (Budgeted){.seconds = 300}));
    CHECK(c.layers == 3 && c.width == 96 && c.context == 32 && c.batch == 5 && c.dropout == 0.3 && c.seconds > 280 && c.seconds < 303);
    g = nothing, g.steps = 70;
    CHECK(best(&c, &m, &g, (Budgeted){.seconds = 300}) && c.steps == 70 && c.seconds < 303);
    g = nothing, g.bf16 = 1;                             // which was not measured
    CHECK(!best(&c, &m, &g, (Budgeted){.seconds = 300}));
}

TEST(tokens_and_parameters_are_met) {
    Machine m = machine_of(3e10);
    Candidate c;
    room = INFINITY;
    for (double params = 5e5; params < 3e7; params *= 3) {
        CHECK(best(&c, &m, &nothing, (Budgeted){.params = params}));
        CHECK_MSG(fabs(log(c.params / params)) < log(1.4), "%g parameters: %g", params, c.params);
        double wanted = fmin(law_raw_bytes(&real, law_best_bytes(&real, c.weights), 4e6), 4e6 * 15) / c.bytes_per_token;
        CHECK_MSG(fabs(c.tokens / wanted - 1) < 0.02, "%g tokens instead of %g", c.tokens, wanted);
    }
    for (double tokens = 1e6; tokens < 1e8; tokens *= 5) {
        CHECK(best(&c, &m, &nothing, (Budgeted){.tokens = tokens}));
        CHECK(fabs(c.tokens / tokens - 1) < 0.02);
        double wanted = law_best_weights(&real, law_effective_bytes(&real, c.tokens * c.bytes_per_token, 4e6));
        CHECK_MSG(fabs(log(c.weights / wanted)) < log(1.6), "%g tokens: %g weights instead of %g", tokens, c.weights, wanted);
    }
    CHECK(best(&c, &m, &nothing, (Budgeted){.tokens = 1e8}) && c.dropout == 0.2);             // read 60 times or more
    room = 1e6;                                          // no more than memory holds
    CHECK(best(&c, &m, &nothing, (Budgeted){.seconds = 36000}) && c.weights < 1e6);
    room = 0;
    CHECK(!best(&c, &m, &nothing, (Budgeted){.seconds = 36000}));
}

// Each rule at the points that its source has measured.
TEST(rules_go_through_what_was_measured) {
    CHECK(batch_tokens(393216) == 1024 && batch_tokens(2.46e6) == 2048 && batch_tokens(100) == 256 && batch_tokens(1e15) == 65536);
    static const double rates[][2] = {{150, 0.026}, {384, 0.02}, {1536, 0.01}, {1200, 0.0113}};
    for (size_t i = 0; i < COUNT_OF(rates); i++)
        CHECK_MSG(fabs(muon_rate((int)rates[i][0]) / rates[i][1] - 1) < 0.12, "%g steps: %g", rates[i][0], muon_rate((int)rates[i][0]));
    CHECK(near(adamw_rate(128, false), 0.005) && near(adamw_rate(128, true), 0.0025) && near(adamw_rate(256, true), 0.00125));
    CHECK(context_tokens(3.4) == 128 && context_tokens(1) == 256 && context_tokens(20) == 64);
}

// ---------------------------------------------------------------------------------------------------------------------
// The program

static int plan(const char *fmt, ...) PRINTF_LIKE(1, 2);
static int plan(const char *fmt, ...) {
    char *arguments;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&arguments, fmt, args) < 0) fail("out of memory");
    va_end(args);
    char *command = format("DATA_ROOT=build/test/plan/data RUNS_DIR=build/test/plan/runs ${BUILD:-build}/plan %s > build/test/plan/out.txt 2> build/test/plan/err.txt",
                           arguments);
    int status = system(command);
    free(command), free(arguments);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void check_refused(const char *arguments, const char *words) {
    int code = plan("%s", arguments);
    char *said = read_file("build/test/plan/err.txt", NULL), *newline = strchr(said, '\n');
    CHECK_MSG(code == EXIT_USAGE && strstr(said, words) && newline && !newline[1], "%s: exit code %d, no \"%s\" in: %s", arguments, code, words, said);
    free(said);
}

static bool said(const char *words) {
    char *out = read_file("build/test/plan/out.txt", NULL);
    bool has = out && strstr(out, words);
    if (!has) printf("    no \"%s\" in: %s\n", words, out);
    free(out);
    return has;
}

static void write_words(const char *path, size_t bytes) {
    static const char *const words[] = {"light ", "water ", "earth ", "heaven ", "and ", "the ", "was ", "good\n"};
    char *line = (char *)xmalloc(bytes + 16);
    size_t n = 0;
    for (size_t i = 0; n < bytes; i++) n += (size_t)sprintf(line + n, "%s", words[hash64(1, i) % COUNT_OF(words)]);
    if (write_file(path, line, bytes) != 0) fail("%s: %s", path, strerror(errno));
    free(line);
}

TEST(what_no_plan_can_be_made_of_is_one_line) {
    free(test_folder("plan"));
    write_words("build/test/plan/few.txt", 600);
    write_words("build/test/plan/words.txt", 30000);
    static const struct { const char *arguments, *words; } cases[] = {
        {"", "none of MINUTES=10, TOKENS=20M and PARAMS=2M: one is expected"},
        {"--minutes=1 --params=2M", "more than one of MINUTES=10, TOKENS=20M and PARAMS=2M: one is expected"},
        {"--minutes=0", "MINUTES=0: a number from 0.01 to 1e+06 expected"},
        {"--minutes=-3", "MINUTES=-3: a number from"},
        {"--minutes=ten", "MINUTES=ten: a number from"},
        {"--tokens=20X", "TOKENS=20X: a number from 1000 to 1e12 expected, such as 20M"},
        {"--params=5", "PARAMS=5: a number from 1000"},
        {"--minutes=1 --train.minutes=2", "--train.minutes=2: not beside MINUTES=1, which decides it"},
        {"--minutes=1 --model.widht=64", "--model.widht=64: unknown key, did you mean --model.width?"},
        {"--minutes=1 --schedule.kind=cosine", "--schedule.kind=cosine: needs the number of steps, which MINUTES=1 leaves open"},
        {"--minutes=1 --fast", "--fast: unknown flag"},
        {"--minutes=1 --law=none.json", "none.json: cannot be read"},
        {"--minutes=1 --data=build/test/plan/none.txt", "DATA=build/test/plan/none.txt: neither a corpus"},
        {"--minutes=1 --data=build/test/plan/few.txt", "DATA=build/test/plan/few.txt: 540 bytes of training and 60 of validation; at least 1000 and 100 are expected"},
        {"--minutes=0.01 --data=build/test/plan/words.txt", "MINUTES=0.01: too short for this text on this machine; MINUTES="},
        {"--params=2M --data=build/test/plan/words.txt --model.width=64 --model.heads=5", "the plan: model.width: 64 is not a multiple of model.heads (5)"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) check_refused(cases[i].arguments, cases[i].words);
}

// By tokens, so that no clock decides; the keys that are given stay.
TEST(a_plan_is_carried_out) {
    free(test_folder("plan"));
    write_words("build/test/plan/words.txt", 30000);
    CHECK(plan("--tokens=8k --data=build/test/plan/words.txt --model.width=32 --model.context=32 --train.sample_tokens=0") == 0);
    CHECK(said("plan       ") && said("TOKENS=8k: planned ") && said("bits per byte, if the text is like the law's\n") && said("layers x 32: ") && said("config     build"));
    CHECK(file_exists("build/test/plan/runs/words-8k-tokens/checkpoint.bin"));
    char *config = read_file("build/test/plan/runs/words-8k-tokens/config.json", NULL);
    CHECK(config && strstr(config, "\"width\": 32,") && strstr(config, "\"context\": 32,") && strstr(config, "words-bpe"));
    free(config);
    CHECK(plan("--params=60k --data=build/test/plan/words.txt --tokenizer=char --plan --optimizer.name=adamw --model.arch=gpt2") == 0);
    CHECK(said("16 tokens of vocabulary, 1.00 bytes each") && !file_exists("build/test/plan/runs/words-60k-params"));
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(the_law_is_its_formula);
    RUN(a_law_that_is_none_is_one_line);
    RUN(rates_far_from_the_rule_are_said);
    RUN(minutes_buy_the_lowest_loss_that_ends_in_time);
    RUN(seconds_are_those_of_every_part);
    RUN(keys_that_are_given_stay);
    RUN(tokens_and_parameters_are_met);
    RUN(rules_go_through_what_was_measured);
    RUN(what_no_plan_can_be_made_of_is_one_line);
    RUN(a_plan_is_carried_out);
    return tests_end();
}

/* plan.c - one dial: the best model that this machine can train in some minutes, or of some tokens, or with some parameters.
 *
 *     build/plan --minutes=10 [--data=my.txt] [--plan] [--section.key=value ...]         `make train MINUTES=10 DATA=my.txt
 * ARGS=--plan`
 *
 *     --minutes=N            of all: tokenizer, training, validation, saving
 *     --tokens=20M           of training: the model that is compute-optimal for them
 *     --params=2M            of the model: as many tokens as are compute-optimal for it
 *     --data=TEXT            a corpus by name, a text or a folder, as data/prepare.sh takes it (kjv)
 *     --tokenizer=KIND       char, byte, bpe (of --vocab=N), gpt2 or a file; else a byte-pair encoding whose size is chosen, too
 *     --plan                 says what it would do, and ends
 *     --law=FILE             configs/law.json
 *     --section.key=value    a key of the trainer that stays as given; the rest of the plan adapts to it
 *
 * It prepares the text as bytes, looks at how well byte-pair encodings of several sizes compress it, and measures this machine
 * for some seconds with the trainer's own code. Of all shapes and vocabularies it takes the one whose loss the law (law.h)
 * expects to be the lowest (plan.h), prepares the data, writes a config into build/plans and trains it. docs/dial.md says what
 * it can't know.
 */
#define _GNU_SOURCE
#include "gpt.h"
#include "../src/flags.h"
#include "../src/gzip.h"
#include "../src/stats.h"
#include "../data/bpe.h"
#include "plan.h"

typedef struct {
    Budgeted budget;
    char *budget_words, *short_words;    // as the user gave it, "MINUTES=10"; for the config's name, "10min"
    const char *data, *tokenizer, *vocab, *law;
    bool only_plan;
    char **overrides;
    int n_overrides;
    double begun;                        // the clock when the program began
} Asked;

// ---------------------------------------------------------------------------------------------------------------------
// The arguments

// "20M" -> 2e7; at least 1.
static double amount_of(const char *what, const char *text) {
    static const struct { char letter; double times; } units[] = {{'k', 1e3}, {'K', 1e3}, {'M', 1e6}, {'G', 1e9}, {'B', 1e9}};
    char *end;
    double x = strtod(text, &end), times = 1;
    for (size_t i = 0; i < COUNT_OF(units) && end > text && *end; i++)
        if (*end == units[i].letter && !end[1]) times = units[i].times, end++;
    if (end == text || *end || !(x * times >= 1000 && x * times <= 1e12))
        fail_usage("%s=%s: a number from 1000 to 1e12 expected, such as 20M", what, text);
    return x * times;
}

static Asked asked_of(int argc, char **argv) {
    Asked a = {.data = "kjv", .tokenizer = "", .vocab = "", .law = "configs/law.json", .begun = seconds_now(),
               .overrides = xcalloc((size_t)argc, sizeof(char *))};
    int budgets = 0;
    for (int i = 1; i < argc; i++) {
        const char *s = argv[i], *v;
        if ((v = flag_value(s, "--minutes"))) {
            a.budget.seconds = 60 * number_of("MINUTES", v, 0.01, 1e6);
            a.budget_words = format("MINUTES=%s", v), a.short_words = format("%gmin", a.budget.seconds / 60), budgets++;
        } else if ((v = flag_value(s, "--tokens"))) {
            a.budget.tokens = amount_of("TOKENS", v);
            a.budget_words = format("TOKENS=%s", v), a.short_words = format("%s-tokens", v), budgets++;
        } else if ((v = flag_value(s, "--params"))) {
            a.budget.params = amount_of("PARAMS", v);
            a.budget_words = format("PARAMS=%s", v), a.short_words = format("%s-params", v), budgets++;
        } else if ((v = flag_value(s, "--data"))) a.data = v;
        else if ((v = flag_value(s, "--tokenizer"))) a.tokenizer = v;
        else if ((v = flag_value(s, "--vocab"))) a.vocab = v;
        else if ((v = flag_value(s, "--law"))) a.law = v;
        else if (!strcmp(s, "--plan")) a.only_plan = true;
        else if (!strncmp(s, "--", 2) && strchr(s, '.')) {
            static const char *const decided[] = {"--data.dir=", "--train.minutes=", "--model.vocab=", "--train.init="};
            for (size_t k = 0; k < COUNT_OF(decided); k++)
                if (!strncmp(s, decided[k], strlen(decided[k])))
                    fail_usage("%s: not beside %s, which decides it", s, a.budget_words ? a.budget_words : "a budget");
            a.overrides[a.n_overrides++] = argv[i];
        } else
            fail_usage("%s: unknown flag; --minutes=10, --tokens=20M or --params=2M, --data=, --tokenizer=, --vocab=, --plan or "
                       "--section.key=value expected", s);
    }
    if (budgets != 1) fail_usage("%s of MINUTES=10, TOKENS=20M and PARAMS=2M: one is expected", budgets ? "more than one" : "none");
    return a;
}

// ---------------------------------------------------------------------------------------------------------------------
// The config of a candidate

typedef struct { const Asked *asked; Config user; Given given; Machine machine; double memory; } Planner;

// A config's text; beside it stand the user's keys. dir: of the data; vocab, steps, minutes: 0 leaves them out.
static char *candidate_config(const Planner *p, const Candidate *c, const char *dir, int vocab, int steps, double minutes) {
    const Config *user = &p->user;
    const char *name = config_choice_name(config_fields, N_FIELDS, "optimizer.name", user->optimizer.name);
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    int heads = p->given.heads ? p->given.heads : max_int(1, c->width / 32);
    while (!p->given.heads && c->width % heads) heads--;
    fprintf(f, "{\n  \"data\": {\"dir\": ");
    json_put_string(f, dir, SIZE_MAX);
    fprintf(f, "},\n  \"model\": {\"arch\": \"%s\", \"layers\": %d, \"width\": %d, \"heads\": %d, ",
            config_choice_name(config_fields, N_FIELDS, "model.arch", user->model.arch), c->layers, c->width, heads);
    if (user->model.mixer == MIXER_ATTENTION && heads % 2 == 0) fprintf(f, "\"kv_heads\": %d, ", heads / 2);
    if (c->dropout > 0) fprintf(f, "\"dropout\": %g, ", c->dropout);
    if (vocab) fprintf(f, "\"vocab\": %d, ", vocab);
    fprintf(f, "\"context\": %d},\n  \"train\": {", c->context);
    if (minutes > 0) fprintf(f, "\"minutes\": %.6g, ", minutes);
    if (steps) fprintf(f, "\"steps\": %d, ", steps);
    fprintf(f, "\"batch\": %d, \"eval_every\": %d, \"eval_tokens\": %.0f, \"final_eval_tokens\": %.0f, ", c->batch,
            max_int(1, c->eval_every), c->eval_tokens, c->final_tokens);
    fprintf(f, "\"save_every\": %d, \"precision\": \"%s\"},\n", max_int(1, c->steps / 4), c->bf16 ? "bf16" : "fp32");
    fprintf(f, "  \"schedule\": {\"kind\": \"trapezoid\", \"warmup\": %d, \"cooldown\": 0.5, \"final\": 0.0},\n",
            max_int(1, c->steps / 50));
    double rate = muon_rate(max_int(1, c->steps));
    if (user->optimizer.muon.scale == MUON_SCALE_MATCH_RMS_ADAMW) rate /= user->optimizer.muon.rms * sqrt(c->width);
    bool matrices = rule_keys(optimizer_rule(user)) == KEYS_MUON;
    fprintf(f, "  \"optimizer\": {\"name\": \"%s\"", name);
    if (matrices) fprintf(f, ", \"muon\": {\"lr\": %.3g, \"weight_decay\": 0.1}", rate);
    if (matrices || !strcmp(name, "adamw"))
        fprintf(f, ", \"adamw\": {\"lr\": %.3g, \"weight_decay\": 0.1}", adamw_rate(c->width, !matrices));
    fprintf(f, "}\n}\n");
    text_close(f, &text);
    return text;
}

static void load(Config *c, char *text, char **overrides, int n) {
    config_load_text(c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), text, strlen(text), "the plan", n,
                     overrides);
    free(text);
}

// The keys that the user has given, and with them the config as it is without a plan.
static Given given_of(const Asked *a, Config *user) {
    ConfigSource from[N_FIELDS];
    Given g = {.bf16 = -1};
    int dropout = 0;
    char error[ERROR_ROOM];
    static const char base[] = "{\"model\": {\"arch\": \"llama\"}, \"schedule\": {\"kind\": \"trapezoid\"}, "
                               "\"optimizer\": {\"name\": \"muonclip\"}}";
    if (!config_try(user, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), base, strlen(base), "the plan",
                    a->n_overrides, a->overrides, from, error, sizeof error))
        fail_usage("%s", error);
    const struct { const char *key; int *to, value; } keys[] = {
        {"model.layers", &g.layers, user->model.layers}, {"model.width", &g.width, user->model.width},
        {"model.heads", &g.heads, user->model.heads}, {"model.context", &g.context, user->model.context},
        {"train.batch", &g.batch, user->train.batch}, {"train.steps", &g.steps, user->train.steps},
        {"model.dropout", &dropout, 1}};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (from[config_find(config_fields, N_FIELDS, keys[i].key) - config_fields] == CONFIG_COMMAND) *keys[i].to = keys[i].value;
    if (user->train.precision != PRECISION_AUTO) g.bf16 = user->train.precision == PRECISION_BF16;
    gemm_use_precision(GEMM_BF16);
    if (g.bf16 < 0 && gemm_emulated()) g.bf16 = 0;       // no faster
    g.dropout = dropout ? user->model.dropout : -1;
    if (user->schedule.kind == SCHEDULE_COSINE && a->budget.seconds > 0)
        fail_usage("--schedule.kind=cosine: needs the number of steps, which %s leaves open; trapezoid is expected", a->budget_words);
    return g;
}

// ---------------------------------------------------------------------------------------------------------------------
// The text

// The folder of the data in tokens of this kind, prepared unless it is. To be freed.
static char *prepared_folder(const Asked *a, const char *kind) {
    setenv("DATA", a->data, 1);
    setenv("KIND", kind, 1);
    fflush(stdout);
    int status = system("data/prepare.sh \"$DATA\" \"$KIND\""), code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_INTERRUPTED;
    if (code) _exit(code);                               // it has said why
    FILE *f = popen("data/prepare.sh --folder \"$DATA\" \"$KIND\"", "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t n = f ? getline(&line, &room, f) : -1;
    if (f) pclose(f);
    if (n < 1) fail("data/prepare.sh: no folder for %s", a->data);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

enum { SAMPLE_BYTES = 4 << 20, MERGED_BYTES = 2 << 20, ENCODED_BYTES = 1 << 19 };

// The text of a folder, its first bytes; the bytes of both splits into `facts`, and as its first vocabulary the folder's own.
static char *text_sample(const char *folder, TextFacts *facts, size_t *n) {
    char *path = tokenizer_path(folder), error[ERROR_ROOM];
    Tokenizer t;
    if (tokenizer_load(&t, path, error, sizeof error) != 0) fail("%s", error);
    char *text = xmalloc(SAMPLE_BYTES + 4096);
    double tokens[2] = {0, 0}, read = 0;
    *n = 0;
    for (int split = 0; split < 2; split++) {
        int count;
        Shard *shards = dataloader_shards(folder, split ? 'v' : 't', &count);
        for (int s = 0; s < count; s++) {
            tokens[split] += (double)shards[s].count;
            for (size_t i = 0; i < shards[s].count && !split && *n < SAMPLE_BYTES; i++, read++) {
                int length, token = (int)shard_token(&shards[s], i);
                const char *bytes = token == t.eot ? NULL : tokenizer_token(&t, token, &length);
                if (!bytes || length > 4096) continue;
                memcpy(text + *n, bytes, (size_t)length);
                *n += (size_t)length;
            }
            shard_close(&shards[s]);
        }
        free(shards);
    }
    double each = read > 0 ? (double)*n / read : 1;
    facts->bytes = tokens[0] * each, facts->val_bytes = tokens[1] * each;
    facts->vocab[0].size = t.size;
    facts->vocab[0].bytes_per_token = each;
    tokenizer_free(&t);
    free(path);
    return text;
}

// The same vocabulary with its first merges only: a smaller one that the same training would have made.
static double bytes_per_token(const Bpe *whole, int size, const char *text, size_t n) {
    Bpe b = *whole;
    char error[256];
    BpeEncoder e;
    b.merge_count = 0;
    b.merges = NULL;
    bpe_pairs_make(&b.ranks, 1024);
    for (int i = 0; i < size - 257; i++) bpe_add_merge(&b, whole->merges[i].left, whole->merges[i].right, whole->merges[i].token);
    uint32_t *ids = xmalloc(bpe_room(&b, n) * sizeof *ids);
    if (bpe_encoder_open(&e, &b, error, sizeof error) != 0) fail("%s", error);
    long count = bpe_encode(&e, text, n, ids, error, sizeof error);
    if (count < 1) fail("byte-pair encoding: %s", error);
    bpe_encoder_close(&e);
    free(b.merges), free(b.ranks.slots), free(ids);
    return (double)n / (double)count;
}

// Vocabularies to choose from: how well each compresses the text, and what it takes to train and apply it.
static void weigh_vocabularies(TextFacts *facts, const char *text, size_t n) {
    static const int sizes[] = {512, 1024, 2048, 4096, 8192};
    static const char *const special[] = {BPE_EOT};
    char error[256];
    BpeWords words = {0};
    Bpe b;
    double begun = seconds_now();
    size_t merged = n < MERGED_BYTES ? n : MERGED_BYTES, encoded = n < ENCODED_BYTES ? n : ENCODED_BYTES;
    if (bpe_count(&words, text, merged, error, sizeof error) != 0) fail("byte-pair encoding: %s", error);
    if (bpe_train(&b, &words, (size_t)sizes[COUNT_OF(sizes) - 1], special, 1, error, sizeof error) != 0)
        fail("byte-pair encoding: %s", error);
    double seconds = (seconds_now() - begun) * facts->bytes / (double)merged;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        if (i > 0 && b.merge_count < (uint32_t)sizes[i] - 257) break;            // the text has no more pairs
        int size = min_int(sizes[i], (int)b.merge_count + 257);
        begun = seconds_now();
        double each = bytes_per_token(&b, size, text, encoded);
        double apply = (seconds_now() - begun) * (facts->bytes + facts->val_bytes) / (double)encoded;
        facts->vocab[facts->n].size = size;
        facts->vocab[facts->n].bytes_per_token = each;
        facts->vocab[facts->n++].seconds = seconds + apply + 0.5;
    }
    bpe_words_free(&words);
    bpe_free(&b);
}

// What the plan needs to know of the text; *folder: of what is prepared already, to be freed.
static TextFacts text_facts(const Asked *a, char **folder) {
    TextFacts facts = {0};
    bool given = *a->tokenizer || *a->vocab;
    size_t n;
    if (*a->vocab) setenv("VOCAB", a->vocab, 1);
    *folder = prepared_folder(a, *a->tokenizer ? a->tokenizer : given ? "bpe" : "byte");
    char *text = text_sample(*folder, &facts, &n);
    if (facts.bytes < 1000 || facts.val_bytes < 100)
        fail_usage("DATA=%s: %.0f bytes of training and %.0f of validation; at least 1000 and 100 are expected", a->data,
                   facts.bytes, facts.val_bytes);
    facts.deflate = law_deflate_bits(text, n);
    if (given) facts.n = 1;
    else weigh_vocabularies(&facts, text, n);
    free(text);
    return facts;
}

// ---------------------------------------------------------------------------------------------------------------------
// The machine

// The seconds of a step on so many tokens, the optimizer's apart: the median of a few, behind one that warms up.
static double measure_step(Planner *p, int width, int bf16, int layers, int vocab, double *optimizer) {
    enum { STEPS = 5 };
    static const char *const not_these[] = {"--model.layers=", "--model.width=", "--train.batch=", "--train.micro_batch=",
                                            "--train.parts=", "--train.steps=", "--model.context=", "--train.local_steps="};
    char **overrides = xcalloc((size_t)p->asked->n_overrides + 1, sizeof *overrides);
    int n = 0;
    for (int i = 0; i < p->asked->n_overrides; i++) {
        bool other = true;
        for (size_t k = 0; k < COUNT_OF(not_these); k++)
            other = other && strncmp(p->asked->overrides[i], not_these[k], strlen(not_these[k]));
        if (other) overrides[n++] = p->asked->overrides[i];
    }
    Candidate c = {.layers = layers, .width = width, .bf16 = bf16, .context = 128, .batch = 8, .eval_every = 1, .steps = 1000};
    Trainer t = {0};
    load(&t.config, candidate_config(p, &c, "none", vocab, 1000, 0), overrides, n);
    config_resolve(&t.config, "the plan");
    choose_precision(&t.config);
    trainer_plan(&t);
    trainer_allocate(&t);
    tensors_init(t.model.params, t.model.table, 1);
    for (int i = 0; i < t.config.train.batch * t.model.T; i++) {
        t.inputs[i] = (int)(hash64(1, (uint64_t)i) % (uint64_t)vocab);
        t.targets[i] = (int)(hash64(2, (uint64_t)i) % (uint64_t)vocab);
    }
    double took[STEPS], of_optimizer[STEPS];
    for (t.step = 0; t.step <= STEPS; t.step++) {
        StepResult r;
        double begun = seconds_now();
        if (!train_on_batch(&t, &r)) fail("measuring width %d: %s", width, r.trouble);
        if (t.step == 0) continue;
        took[t.step - 1] = seconds_now() - begun - r.optimizer_seconds;
        of_optimizer[t.step - 1] = r.optimizer_seconds;
    }
    double tokens = (double)t.config.train.batch * t.model.T;
    *optimizer = median_of(of_optimizer, STEPS);
    trainer_free(&t);
    free(overrides);
    return median_of(took, STEPS) / tokens;
}

// Three trainings tell what a layer, a token of the vocabulary and all else cost.
static void measure_width(Planner *p, int width, int bf16) {
    enum { FEW = 256, MANY = 1024 };
    double step[3], token[3] = {measure_step(p, width, bf16, 1, FEW, &step[0]), measure_step(p, width, bf16, 2, FEW, &step[1]),
                                measure_step(p, width, bf16, 1, MANY, &step[2])};
    Costs of[2];
    for (int i = 0; i < 2; i++) {
        const double *x = i ? step : token;
        Costs *c = &of[i];
        c->layer = fmax(0.1 * x[0], x[1] - x[0]);        // noise makes nothing free
        c->vocab = fmax(0, x[2] - x[0]) / (MANY - FEW);
        c->base = fmax(0, x[0] - c->layer - FEW * c->vocab);
    }
    p->machine.of[p->machine.n++] = (WidthCosts){width, bf16, of[0], of[1]};
}

// PlanShape: parameters and weights of a candidate's model, and whether memory holds its training.
static bool shape_of(void *planner, Candidate *c) {
    Planner *p = planner;
    if (p->given.heads && c->width % p->given.heads) return false;
    Candidate sized = *c;
    if (!sized.context) sized.context = 128;
    sized.batch = max_int(1, MICRO_TOKENS / sized.context);
    Trainer t = {0};
    load(&t.config, candidate_config(p, &sized, "none", c->vocab, 1000, 0), p->asked->overrides, p->asked->n_overrides);
    config_resolve(&t.config, "the plan");
    trainer_plan(&t);
    MemoryPlan plan = memory_plan(&t);
    c->params = (double)t.model.n_params;
    c->weights = weights_per_token(&t.model);
    trainer_free(&t);
    return memory_total(&plan) < p->memory;
}

// ---------------------------------------------------------------------------------------------------------------------
// The plan

// What a plan is made of, and the plan.
typedef struct { TextFacts text; Law law; const LawOf *of; Candidate best; } Plans;

static bool best_of(Planner *p, const Plans *s, int least, int most, Candidate *best) {
    return plan_best(best, least, most, &p->given, &s->text, &p->machine, &p->asked->budget, &s->law, s->of, shape_of, p);
}

// Measures the width that the plan would take, and the next wider one, until both were measured: each measurement may show that
// another is better, and from a narrow one, whose overheads are large, a wide one looks slower than it is.
static bool settle(Planner *p, Plans *s) {
    int first = p->given.width ? p->given.width : 64;
    if (p->given.bf16 != 1) measure_width(p, first, 0);
    if (p->given.bf16 != 0) measure_width(p, first, 1);
    while (best_of(p, s, 0, INT_MAX, &s->best)) {
        int width = s->best.width, bf16 = s->best.bf16;
        if (machine_knows(&p->machine, width, bf16) && !p->given.width) width = plan_wider(width);
        if (machine_knows(&p->machine, width, bf16) || p->machine.n == MACHINE_WIDTHS) return true;
        measure_width(p, width, bf16);
    }
    return false;
}

// Ends the program where the budget buys nothing, with what would do.
__attribute__((noreturn)) static void nothing_fits(Planner *p, Plans *s, Asked *a) {
    double seconds = a->budget.seconds;
    for (int i = 0; i < 60 && seconds > 0; i++) {
        a->budget.seconds *= 1.25;
        if (!best_of(p, s, 0, INT_MAX, &s->best)) continue;
        double unit = pow(10, floor(log10(a->budget.seconds / 60)) - 1);
        fail_usage("%s: too short for this text on this machine; MINUTES=%g would do: %.0f s for the text, the tokenizer and "
                   "measuring, and 20 steps of the smallest model", a->budget_words, ceil(a->budget.seconds / 60 / unit) * unit,
                   a->budget.used + s->best.prepare_seconds + AROUND_SECONDS);
    }
    fail_usage("%s: no model fits: %s", a->budget_words, p->memory < 1e8 ? "the machine has too little free memory"
               : "the keys that are given leave none (--model.width must be a multiple of --model.heads)");
}

static const char *amount_text(char buffer[32], double x) {
    snprintf(buffer, 32, x >= 1e9 ? "%.3gG" : x >= 1e6 ? "%.3gM" : "%.3gk", x / (x >= 1e9 ? 1e9 : x >= 1e6 ? 1e6 : 1e3));
    return buffer;
}

// The loss that the law expects, with its error for a text that it was fitted to.
static const char *expected_text(char buffer[80], const Plans *s) {
    if (law_knows(&s->law, s->text.deflate))
        snprintf(buffer, 80, "expected %.3f +- %.3f bits per byte", s->best.bits, s->best.bits * s->of->sd);
    else snprintf(buffer, 80, "expected about %.2f bits per byte, if the text is like the law's", s->best.bits);
    return buffer;
}

// Five lines: what, and why.
static void print_choice(Planner *p, const Plans *s, const char *name) {
    const Asked *a = p->asked;
    const Candidate *c = &s->best;
    const TextFacts *t = &s->text;
    char n[32], d[32], u[32], time[32], expected[80];
    double read = c->tokens * c->bytes_per_token;
    printf("plan       %d layers x %d: %s parameters, %s tokens in %s, %s\n", c->layers, c->width, amount_text(n, c->params),
           amount_text(d, c->tokens), format_seconds(time, c->seconds), expected_text(expected, s));
    printf("text       %s: %s bytes of training, %.2f bits a byte by deflate; ", name, amount_text(u, t->bytes), t->deflate);
    printf("%d tokens of vocabulary, %.2f bytes each: read %.2f times\n", c->vocab, c->bytes_per_token, read / t->bytes);
    WidthCosts w = machine_costs(&p->machine, c->width, c->bf16);
    double token = costs_at(w.token, c->layers, c->vocab), step = costs_at(w.step, c->layers, c->vocab);
    double size = (double)c->batch * c->context;
    printf("machine    %.0f tokens a second in %s, the optimizer takes %.0f %%; %s for text, tokenizer and measuring\n",
           size / (size * token + step), c->bf16 ? "bf16" : "fp32", 100 * step / (size * token + step),
           format_seconds(time, a->budget.used + c->prepare_seconds));
    printf("steps      %d of %d x %d tokens%s", c->steps, c->batch, c->context,
           a->budget.seconds > 0 ? ", more or fewer by the clock" : "");
    if (c->dropout > 0) printf(", dropout %g", c->dropout);
    if (c->weights < s->law.params[0] || c->weights > s->law.params[1] || read < s->law.bytes[0] || read > s->law.bytes[1])
        printf("; beyond what the law was fitted to (%s)", a->law);
    printf("\nagainst    ");
    Candidate other;
    const struct { int least, most; const char *what, *why; } others[] = {
        {0, c->width / 2, "half the width", "learns less from"}, {2 * c->width, INT_MAX, "twice the width", "sees no more than"}};
    int told = 0;
    for (int i = 0; i < 2; i++) {
        if (a->budget.seconds == 0 || p->given.width || !best_of(p, s, others[i].least, others[i].most, &other)) continue;
        printf("%s%s %s %s tokens: %.3f expected", told++ ? "; " : "", others[i].what, others[i].why,
               amount_text(d, other.tokens), other.bits);
    }
    if (a->budget.tokens > 0) printf("%.2g weights a byte are compute-optimal by the law", c->weights / read), told++;
    if (a->budget.params > 0) printf("as many tokens as are compute-optimal by the law, as far as the text has them"), told++;
    printf("%s\n", told ? "" : "nothing else fits");
    fflush(stdout);
}

// ---------------------------------------------------------------------------------------------------------------------
// Carrying it out

static volatile pid_t training;

static void pass_on(int number) { if (training > 0 && number != SIGINT) kill(training, number); }

// Trains the config, with the user's keys; returns the trainer's exit code. Ctrl-C comes to both from the terminal, other
// signals are passed on: the trainer saves.
static int run_trainer(const Asked *a, const char *config, double minutes) {
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    char **argv = xcalloc((size_t)a->n_overrides + 4, sizeof *argv), left[64];
    const char *trainer = getenv("TRAINER");
    int n = 0;
    argv[n++] = xstrdup(trainer && *trainer ? trainer : "./train_gpt");
    argv[n++] = xstrdup(config);
    for (int i = 0; i < a->n_overrides; i++) argv[n++] = a->overrides[i];
    snprintf(left, sizeof left, "--train.minutes=%.6g", minutes);
    if (minutes > 0) argv[n++] = left;
    fflush(NULL);
    for (size_t i = 0; i < COUNT_OF(passed); i++) signal(passed[i], pass_on);
    training = fork();
    if (training == 0) {
        for (size_t i = 0; i < COUNT_OF(passed); i++) signal(passed[i], SIG_DFL);
        execv(argv[0], argv);
        fail("%s: cannot be started: %s", argv[0], strerror(errno));
    }
    if (training < 0) fail("fork: %s", strerror(errno));
    int status;
    while (waitpid(training, &status, 0) < 0 && errno == EINTR) {}
    free(argv[0]), free(argv[1]), free(argv);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void planner_free(Planner *p, Asked *a) {
    config_free(&p->user, config_fields, N_FIELDS);
    free(a->budget_words), free(a->short_words), free(a->overrides);
}

// "build/data/kjv-byte" -> "kjv".
static char *text_name(const char *folder) {
    char *name = runlog_name(folder), *behind = strstr(name, "-byte");
    if (behind) *behind = '\0';
    return name;
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    Asked a = asked_of(argc, argv);
    choose_threads();
    Planner p = {.asked = &a};
    Plans s = {.law = law_read(a.law)};
    p.given = given_of(&a, &p.user);
    MachineMemory memory = machine_memory("");
    p.memory = 0.8 * fmin(memory.available, memory.group);
    s.of = rule_keys(optimizer_rule(&p.user)) == KEYS_MUON ? &s.law.muon : &s.law.adamw;
    char *folder;
    s.text = text_facts(&a, &folder);
    char *name = text_name(folder);
    double measuring = seconds_now();
    a.budget.used = measuring - a.begun + (a.budget.seconds > 0 ? fmin(0.03 * a.budget.seconds, 3) : 0);
    if (!settle(&p, &s)) nothing_fits(&p, &s, &a);
    a.budget.used = seconds_now() - a.begun;
    if (!best_of(&p, &s, 0, INT_MAX, &s.best)) nothing_fits(&p, &s, &a);
    print_choice(&p, &s, name);
    if (a.only_plan) {
        planner_free(&p, &a);
        free(folder), free(name);
        return 0;
    }

    // The data in the tokens that were chosen, the config, the training
    if (!*a.tokenizer && !*a.vocab) {
        char vocab[16];
        snprintf(vocab, sizeof vocab, "%d", s.best.vocab);
        setenv("VOCAB", vocab, 1);
        free(folder);
        folder = prepared_folder(&a, "bpe");
    }
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    char *plans = format("%s/plans", build), *config = format("%s/%s-%s.json", plans, name, a.short_words);
    double minutes = (a.budget.seconds - (seconds_now() - a.begun)) / 60;
    if (a.budget.seconds > 0 && minutes <= 0)
        fail_usage("%s: over before the first step, by the text's preparation, which need not be done again", a.budget_words);
    bool by_clock = a.budget.seconds > 0;
    char *text = candidate_config(&p, &s.best, folder, 0, by_clock ? 0 : s.best.steps, by_clock ? minutes : 0);
    if (make_dirs(plans) != 0 || write_file(config, text, strlen(text)) != 0)
        fail("%s: cannot be written: %s", config, strerror(errno));
    printf("config     %s\n", config);
    int code = run_trainer(&a, config, by_clock ? minutes : 0);
    char planned[32], used[32], expected[80];
    if (code == 0)
        printf("%s: planned %s, used %s; %s\n", a.budget_words, format_seconds(planned, by_clock ? a.budget.seconds : s.best.seconds),
               format_seconds(used, seconds_now() - a.begun), expected_text(expected, &s));
    planner_free(&p, &a);
    free(folder), free(name), free(plans), free(config), free(text);
    return code;
}

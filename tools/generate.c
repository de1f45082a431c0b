/* generate.c - writes text with a trained model, a token at a time; several texts at once; or line by line with somebody at a terminal.
 *
 *     build/generate runs/default --prompt="In the beginning" [--tokens=500] [--temperature=0.8] [--top_k=0] [--top_p=1] [--min_p=0]
 *                    [--repetition_penalty=1] [--seed=1] [--samples=1] [--start=eot] [--ignore_eot] [--json] [--lines]
 *                    [--checkpoint=FILE]
 *
 * Needs only the run's folder: config.json, a checkpoint (the one with the lowest validation loss, or FILE) and the
 * tokenizer. The same seed writes the same text; sample i is the text of seed + i.
 */
#include "gpt.h"
#include "model.h"           // defines: OpenModel, model_open_text, model_encode, model_close

enum { TEXTS_AT_ONCE = 8 };      // of --samples: memory for their keys and values, and for the prompt in each

typedef struct {
    const char *run, *prompt, *checkpoint;
    bool after_eot, ignore_eot, json, lines;
    int64_t tokens, seed, samples;
    SampleRule rule;
} Wish;

static Wish wish_of(int argc, char **argv) {
    Wish w = {.tokens = 500, .seed = 1, .samples = 1, .rule = sample_plainly(0.8)};
    const char *value;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--prompt"))) w.prompt = value;
        else if (!strcmp(argv[i], "--start=eot")) w.after_eot = true;
        else if (flag_value(argv[i], "--start")) fail_usage("%s: --start=eot is expected", argv[i]);
        else if (!strcmp(argv[i], "--ignore_eot")) w.ignore_eot = true;
        else if (!strcmp(argv[i], "--json")) w.json = true;
        else if (!strcmp(argv[i], "--lines")) w.lines = true;
        else if ((value = flag_value(argv[i], "--checkpoint"))) w.checkpoint = value;
        else if ((value = flag_value(argv[i], "--tokens"))) w.tokens = integer_of("--tokens", value, 1, 10000000);
        else if ((value = flag_value(argv[i], "--temperature"))) w.rule.temperature = number_of("--temperature", value, 0, 100);
        else if ((value = flag_value(argv[i], "--top_k"))) w.rule.top_k = (int)integer_of("--top_k", value, 0, INT32_MAX);
        else if ((value = flag_value(argv[i], "--top_p"))) w.rule.top_p = number_of("--top_p", value, 0, 1);
        else if ((value = flag_value(argv[i], "--min_p"))) w.rule.min_p = number_of("--min_p", value, 0, 1);
        else if ((value = flag_value(argv[i], "--repetition_penalty")))
            w.rule.repetition_penalty = number_of("--repetition_penalty", value, 0.01, 100);
        else if ((value = flag_value(argv[i], "--seed"))) w.seed = integer_of("--seed", value, 0, (int64_t)1 << 53);
        else if ((value = flag_value(argv[i], "--samples"))) w.samples = integer_of("--samples", value, 1, 1000000);
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: generate RUN [--prompt=TEXT] [--tokens=500] [--temperature=0.8] [--top_k=0] [--top_p=1] [--min_p=0]\n"
                   "                    [--repetition_penalty=1] [--seed=1] [--samples=1] [--start=eot] [--ignore_eot] [--json]\n"
                   "                    [--lines] [--checkpoint=FILE]\n"
                   "Writes text with the model of a run's folder. temperature 0 takes the likeliest token each time; top_k > 0\n"
                   "draws among the k likeliest, top_p < 1 among the likeliest that have this much probability together, min_p\n"
                   "leaves out what is less likely than this share of the likeliest one; repetition_penalty > 1 makes tokens\n"
                   "that the text has less likely. --samples=4 writes four texts, of the seeds from --seed on; --json one line\n"
                   "of JSON for each. A text ends at <|endoftext|>, unless --ignore_eot, or after --tokens. One that reaches\n"
                   "the model's context goes on from the last half of it.\n"
                   "--start=eot begins a document: <|endoftext|>, then the prompt. Without a prompt the text begins as the\n"
                   "training's own samples do: with a line end, or where the training was by documents (data.order) with\n"
                   "<|endoftext|>. --lines reads prompts from the standard input instead, line after line of one text, and so\n"
                   "does a terminal without --prompt. Without --checkpoint the model is the one of the lowest validation loss:\n"
                   "checkpoint.best.bin where the run has one, else checkpoint.bin.\n");
            exit(0);
        }
        else if (argv[i][0] == '-')
            fail_usage("%s: unknown flag; expected --prompt, --tokens, --temperature, --top_k, --top_p, --min_p, --repetition_penalty, "
                       "--seed, --samples, --start, --ignore_eot, --json, --lines or --checkpoint", argv[i]);
        else if (w.run) fail_usage("%s: one run is expected, %s is already given", argv[i], w.run);
        else w.run = argv[i];
    }
    if (!w.run) fail_usage("the folder of a run is expected, such as runs/default");
    if (w.lines && (w.prompt || w.json || w.samples > 1)) fail_usage("--lines: reads its prompts: without --prompt, --json and --samples");
    w.lines |= !w.prompt && !w.json && w.samples == 1 && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    return w;
}

static void print_token(const Tokenizer *t, int token) {
    int length = 0;
    const char *bytes = tokenizer_token(t, token, &length);
    if (bytes) fwrite(bytes, 1, (size_t)length, stdout);
    if (fflush(stdout) != 0) exit(EXIT_FAILED);        // no more is wanted, or fits
}

// What text b wrote behind its first n tokens: up to the end-of-text token, where it stops.
typedef struct { int n; const char *stopped; } Written;

static Written written_of(const Sampler *s, int b, int n, int eot) {
    const int *tokens = s->tokens + (size_t)b * s->room;
    for (int i = n; i < s->n; i++) if (tokens[i] == eot) return (Written){i - n, "end-of-text"};
    return (Written){s->n - n, "length"};
}

// Bytes that aren't UTF-8, such as the half of a character, become U+FFFD.
static void put_json_text(const char *text, size_t n) {
    char *clean = xmalloc(3 * n + 1), *to = clean;
    for (size_t i = 0; i < n; ) {
        uint32_t c;
        int length = utf8_decode(text + i, n - i, &c);
        to += utf8_encode(length && c ? c : 0xfffd, (uint8_t *)to);
        i += length ? (size_t)length : 1;
    }
    *to = '\0';
    json_put_string(stdout, clean, SIZE_MAX);
    free(clean);
}

typedef struct { double prompt, rest; } Seconds;      // until the first token of each text, and of all the others

static void print_sample(const OpenModel *o, const Wish *w, const Sampler *s, int b, int64_t sample, int prompt, int eot,
                         Seconds seconds) {
    const int *tokens = s->tokens + (size_t)b * s->room;
    Written written = written_of(s, b, prompt, eot);
    TokenText text = {&o->tokenizer, xstrdup(""), 0};
    for (int i = 0; i < written.n; i++) token_text_add(&text, tokens[prompt + i]);
    if (w->json) {
        printf("{\"sample\": %lld, \"seed\": %lld, \"prompt\": ", (long long)sample, (long long)(w->seed + sample));
        put_json_text(w->prompt ? w->prompt : "", w->prompt ? strlen(w->prompt) : 0);
        printf(", \"text\": ");
        put_json_text(text.text, text.n);
        printf(", \"tokens\": %d, \"stopped\": \"%s\", \"texts_at_once\": %d, \"prompt_seconds\": %.6f, \"seconds\": %.6f}\n",
               written.n, written.stopped, s->B, seconds.prompt, seconds.rest);
    } else {
        printf("--- sample %lld, seed %lld ---\n%s", (long long)sample, (long long)(w->seed + sample), w->prompt ? w->prompt : "");
        fwrite(text.text, 1, text.n, stdout);
        putchar('\n');
    }
    if (fflush(stdout) != 0) exit(EXIT_FAILED);
    free(text.text);
}

// Writes the samples; one alone appears as it grows. Returns whether all logits were finite.
static bool write_samples(OpenModel *o, const Wish *w, const int *start, int n_start, int eot) {
    bool finite = true, alone = w->samples == 1 && !w->json;
    if (alone && !w->prompt && start[0] != o->tokenizer.eot) print_token(&o->tokenizer, start[0]);
    if (alone && w->prompt) fputs(w->prompt, stdout);
    for (int64_t first = 0; first < w->samples && finite; first += o->model.B) {
        int B = (int)(w->samples - first < o->model.B ? w->samples - first : o->model.B), ended = 0;
        Sampler s = sampler_open(&o->model, B, o->tokenizer.size, w->rule, (uint64_t)(w->seed + first));
        bool done[TEXTS_AT_ONCE] = {false};
        sampler_prompt(&s, start, n_start);
        double begin = seconds_now();
        Seconds seconds = {0, 0};
        while (s.n < n_start + w->tokens && ended < B && (finite = sampler_next(&s))) {
            if (s.n == n_start + 1) seconds.prompt = seconds_now() - begin;
            for (int b = 0; b < B; b++) {
                int token = s.tokens[(size_t)b * s.room + s.n - 1];
                if (token == eot && !done[b]) done[b] = true, ended++;
                if (alone && token != eot) print_token(&o->tokenizer, token);
            }
        }
        seconds.rest = seconds_now() - begin - seconds.prompt;
        for (int b = 0; b < B && !alone && finite; b++) print_sample(o, w, &s, b, first + b, n_start, eot, seconds);
        sampler_close(&s);
    }
    if (alone) putchar('\n');
    return finite;
}

// Line after line of one text: the model goes on behind each, and what it wrote is read with the next one. Returns whether all
// logits were finite.
static bool write_behind_lines(OpenModel *o, const Wish *w, const int *start, int n_start, int eot) {
    bool prompts = isatty(STDIN_FILENO), finite = true;
    if (prompts)
        fprintf(stderr, "Begin a text, and the model goes on for %lld tokens or to the end of its document; then go on yourself. "
                        "Ctrl-D ends.\n", (long long)w->tokens);
    Sampler s = sampler_open(&o->model, 1, o->tokenizer.size, w->rule, (uint64_t)w->seed);
    sampler_prompt(&s, start, n_start);
    char *line = NULL, error[ERROR_ROOM];
    size_t room = 0;
    for (ssize_t length; finite; ) {
        if (prompts) fputs("> ", stderr);
        if ((length = getline(&line, &room, stdin)) < 0) break;
        if (length && line[length - 1] == '\n') length--;
        if (length && line[length - 1] == '\r') length--;
        long n;
        int *ids = model_encode(o, line, (size_t)length, &n, error, sizeof error), begin = sample_start(&o->config, &o->tokenizer), end;
        if (!ids && !prompts) fail_usage("standard input: %s, in \"%.*s\"", error, (int)length, line);
        if (!ids) { fprintf(stderr, "%s; try again\n", error); continue; }
        if (s.n + n == 0) sampler_prompt(&s, &begin, 1);
        sampler_prompt(&s, ids, (int)n);
        free(ids);
        for (end = s.n + (int)w->tokens; s.n < end && (finite = sampler_next(&s)); ) {
            if (s.tokens[s.n - 1] == eot) break;
            print_token(&o->tokenizer, s.tokens[s.n - 1]);
        }
        putchar('\n');
        fflush(stdout);
    }
    free(line);
    sampler_close(&s);
    return finite;
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    Wish w = wish_of(argc, argv);
    OpenModel o;
    model_open_text(&o, w.run, w.checkpoint, w.samples < TEXTS_AT_ONCE ? (int)w.samples : TEXTS_AT_ONCE);
    if (!w.checkpoint && strstr(o.checkpoint, "/checkpoint.best.bin"))
        fprintf(stderr, "%s: step %ld, validation loss %.4f\n", o.checkpoint, o.step, o.val_loss);

    char error[ERROR_ROOM];
    long n_prompt;
    int *prompt = model_encode(&o, w.prompt, w.prompt ? strlen(w.prompt) : 0, &n_prompt, error, sizeof error), n = 0;
    if (!prompt) fail_usage("--prompt: %s", error);
    int *start = xmalloc(((size_t)n_prompt + 1) * sizeof *start);
    if (w.after_eot && o.tokenizer.eot < 0) fail_usage("--start=eot: the tokenizer of %s has no end-of-text token", w.run);
    if (w.after_eot) start[n++] = o.tokenizer.eot;
    else if (n_prompt == 0 && !w.lines) start[n++] = sample_start(&o.config, &o.tokenizer);
    memcpy(start + n, prompt, (size_t)n_prompt * sizeof *start);
    bool finite = (w.lines ? write_behind_lines : write_samples)(&o, &w, start, n + (int)n_prompt, w.ignore_eot ? -1 : o.tokenizer.eot);
    if (!finite) fail("%s: a model that diverged: its logits aren't finite", o.checkpoint);
    free(start), free(prompt);
    model_close(&o);
    return 0;
}

/* generate.c - writes text with a trained model, a token at a time.
 *
 *     build/generate runs/default --prompt="In the beginning" [--tokens=500] [--temperature=0.8] [--top_k=0] [--seed=1]
 *                    [--start=eot] [--checkpoint=FILE]
 *
 * Needs only the run's folder: config.json, a checkpoint (the one with the lowest validation loss, or FILE) and the
 * tokenizer. The same seed writes the same text.
 */
#define GPT_NO_MAIN
#include "../train_gpt.c"

// A run's best model: checkpoint.best.bin where it has one, else its last; to be freed.
static char *best_checkpoint(const char *run) {
    char *best = format("%s/checkpoint.best.bin", run);
    if (file_exists(best)) return best;
    free(best);
    return format("%s/checkpoint.bin", run);
}

static void print_token(void *tokenizer, int token) {
    int length = 0;
    const char *bytes = tokenizer_token(tokenizer, token, &length);
    if (bytes) fwrite(bytes, 1, (size_t)length, stdout);
    if (fflush(stdout) != 0) exit(EXIT_FAILED);        // no more is wanted, or fits
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    const char *run = NULL, *prompt = "", *chosen = NULL, *value;
    bool after_eot = false;
    double temperature = 0.8;
    int64_t tokens = 500, top_k = 0, seed = 1;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--prompt"))) prompt = value;
        else if (!strcmp(argv[i], "--start=eot")) after_eot = true;
        else if (flag_value(argv[i], "--start")) fail_usage("%s: --start=eot is expected", argv[i]);
        else if ((value = flag_value(argv[i], "--checkpoint"))) chosen = value;
        else if ((value = flag_value(argv[i], "--tokens"))) tokens = integer_of("--tokens", value, 1, 10000000);
        else if ((value = flag_value(argv[i], "--temperature"))) temperature = number_of("--temperature", value, 0, 100);
        else if ((value = flag_value(argv[i], "--top_k"))) top_k = integer_of("--top_k", value, 0, 65536);
        else if ((value = flag_value(argv[i], "--seed"))) seed = integer_of("--seed", value, 0, (int64_t)1 << 53);
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: generate RUN [--prompt=TEXT] [--tokens=500] [--temperature=0.8] [--top_k=0] [--seed=1]\n"
                   "                    [--start=eot] [--checkpoint=FILE]\n"
                   "Writes text with the model of a run's folder. temperature 0 takes the likeliest token each time;\n"
                   "top_k > 0 draws among the k likeliest. --start=eot begins a document: <|endoftext|>, then the prompt.\n"
                   "Without a prompt the text begins as the training's own samples do: with a line end, or where the\n"
                   "training was by documents (data.order) with <|endoftext|>. Without --checkpoint the model is the one of the lowest\n"
                   "validation loss: checkpoint.best.bin where the run has one, else checkpoint.bin.\n");
            return 0;
        }
        else if (argv[i][0] == '-')
            fail_usage("%s: unknown flag; expected --prompt, --tokens, --temperature, --top_k, --seed, --start or --checkpoint", argv[i]);
        else if (run) fail_usage("%s: one run is expected, %s is already given", argv[i], run);
        else run = argv[i];
    }
    if (!run) fail_usage("the folder of a run is expected, such as runs/default");

    char *config_path = format("%s/config.json", run), *vocabulary = tokenizer_path(run);
    char *checkpoint_path = chosen ? xstrdup(chosen) : best_checkpoint(run), error[ERROR_ROOM];
    if (!file_exists(config_path)) fail("%s: no such file: %s holds no run", config_path, run);
    Config config;
    Tokenizer tokenizer;
    config_load(&config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), config_path, 0, NULL, NULL);
    config_resolve(&config, config_path);
    if (tokenizer_load(&tokenizer, vocabulary, error, sizeof error) != 0 ||
        tokenizer_check(&tokenizer, vocabulary, run, error, sizeof error) != 0)
        fail("%s", error);
    if (tokenizer.size > config.model.vocab)
        fail("%s: %d tokens, but the model of %s has %d",
             vocabulary, tokenizer.size, config_path, config.model.vocab);

    choose_threads();
    choose_precision(&config);
    Model model = model_plan(&config, 1, config.model.vocab, false);
    model_allocate(&model);
    CheckpointState state = read_weights(&model, checkpoint_path);
    if (!chosen && strstr(checkpoint_path, "/checkpoint.best.bin"))
        fprintf(stderr, "%s: step %lld, validation loss %.4f\n", checkpoint_path, (long long)state.step, state.progress[2]);

    size_t n = strlen(prompt);
    uint32_t *ids = xmalloc((tokenizer_room(&tokenizer, n) + 1) * sizeof *ids);
    int *start = xmalloc((tokenizer_room(&tokenizer, n) + 1) * sizeof *start), n_start = 0;
    long n_prompt = tokenizer_encode(&tokenizer, prompt, n, ids, error, sizeof error);
    if (n > 0 && n_prompt < 0) fail_usage("--prompt: %s", error);
    if (after_eot && tokenizer.eot < 0) fail_usage("--start=eot: %s has no end-of-text token", vocabulary);
    if (after_eot) start[n_start++] = tokenizer.eot;
    else if (n == 0) start[n_start++] = sample_start(&config, &tokenizer);
    if (n == 0 && start[0] != tokenizer.eot) print_token(&tokenizer, start[0]);
    for (long i = 0; i < n_prompt; i++) start[n_start++] = (int)ids[i];
    fputs(prompt, stdout);
    bool finite = generate(&model, tokenizer.size, start, n_start, (int)tokens, temperature, (int)top_k, (uint64_t)seed,
                           print_token, &tokenizer);
    putchar('\n');
    fflush(stdout);
    if (!finite) fail("%s: a model that diverged: its logits aren't finite", checkpoint_path);
    free(start); free(ids); free(config_path); free(vocabulary); free(checkpoint_path);
    model_free(&model);
    tokenizer_free(&tokenizer);
    config_free(&config, config_fields, N_FIELDS);
    return 0;
}

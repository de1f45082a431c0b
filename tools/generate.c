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
#include "model.h"           // defines: OpenModel, model_open, model_close

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

    OpenModel o;
    char error[ERROR_ROOM];
    choose_threads();
    model_open(&o, run, chosen);
    if (!o.tokenizer.size) fail("%s: has no tokenizer, so that its model can neither read nor write text", run);
    if (!chosen && strstr(o.checkpoint, "/checkpoint.best.bin"))
        fprintf(stderr, "%s: step %ld, validation loss %.4f\n", o.checkpoint, o.step, o.val_loss);

    size_t n = strlen(prompt);
    uint32_t *ids = xmalloc((tokenizer_room(&o.tokenizer, n) + 1) * sizeof *ids);
    int *start = xmalloc((tokenizer_room(&o.tokenizer, n) + 1) * sizeof *start), n_start = 0;
    long n_prompt = tokenizer_encode(&o.tokenizer, prompt, n, ids, error, sizeof error);
    if (n > 0 && n_prompt < 0) fail_usage("--prompt: %s", error);
    if (after_eot && o.tokenizer.eot < 0) fail_usage("--start=eot: the tokenizer of %s has no end-of-text token", run);
    if (after_eot) start[n_start++] = o.tokenizer.eot;
    else if (n == 0) start[n_start++] = sample_start(&o.config, &o.tokenizer);
    if (n == 0 && start[0] != o.tokenizer.eot) print_token(&o.tokenizer, start[0]);
    for (long i = 0; i < n_prompt; i++) start[n_start++] = (int)ids[i];
    fputs(prompt, stdout);
    bool finite = generate(&o.model, o.tokenizer.size, start, n_start, (int)tokens, temperature, (int)top_k, (uint64_t)seed,
                           print_token, &o.tokenizer);
    putchar('\n');
    fflush(stdout);
    if (!finite) fail("%s: a model that diverged: its logits aren't finite", o.checkpoint);
    free(start); free(ids);
    model_close(&o);
    return 0;
}

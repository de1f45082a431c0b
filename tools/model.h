/* model.h - opens the model of a run's folder, to be used: by generate, and by whatever else needs weights and no training.
 *
 * defines: OpenModel, model_open, model_open_text, model_encode, model_close
 * Included behind gpt.h. Needs only the folder: config.json, a checkpoint and the tokenizer, which an imported model
 * may lack.
 */
#ifndef MODEL_H
#define MODEL_H

typedef struct {
    Config config;                       // resolved; the model points to it
    Model model;                         // without gradients
    Tokenizer tokenizer;                 // size 0 where the folder has none
    char *checkpoint;                    // the file that the weights are from
    long step;                           // of the weights
    double val_loss;                     // the last that was known when they were saved; NaN: none was
} OpenModel;

// from: a checkpoint, or NULL: checkpoint.best.bin where the run has one, else its last. texts: sequences at a time. Threads are
// chosen already; products are in fp32, whatever the training's precision was, as other programs have this model. Ends
// the program by a line that names the file where something is missing, damaged or of another model.
static inline void model_open(OpenModel *o, const char *run, const char *from, int texts) {
    char *path = format("%s/config.json", run), *vocabulary = tokenizer_path(run);
    char error[ERROR_ROOM];
    if (!file_exists(path)) fail("%s: no such file: %s holds no run", path, run);
    config_load(&o->config, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), path, 0, NULL, NULL);
    config_resolve(&o->config, path);
    gemm_use_precision(GEMM_FP32);
    o->tokenizer = (Tokenizer){.eot = -1};
    if (file_exists(vocabulary) && (tokenizer_load(&o->tokenizer, vocabulary, error, sizeof error) != 0 ||
                                    tokenizer_check(&o->tokenizer, vocabulary, run, error, sizeof error) != 0))
        fail("%s", error);
    if (o->tokenizer.size > o->config.model.vocab)
        fail("%s: %d tokens, but the model of %s has %d", vocabulary, o->tokenizer.size, path, o->config.model.vocab);
    o->model = model_plan(&o->config, texts, o->config.model.vocab, false);
    model_allocate(&o->model);
    o->checkpoint = from ? xstrdup(from) : weights_path(run);
    CheckpointState state = read_weights(&o->model, o->checkpoint);
    o->step = state.step;
    o->val_loss = state.progress[2];
    free(path), free(vocabulary);
}

// The same for a program that reads and writes text, on as many threads as there are: without a tokenizer it ends as well.
static inline void model_open_text(OpenModel *o, const char *run, const char *from, int texts) {
    choose_threads();
    model_open(o, run, from, texts);
    if (!o->tokenizer.size) fail("%s: has no tokenizer, so that its model can neither read nor write text", run);
}

// The tokens of n bytes of text, *count of them; to be freed. NULL with a line in error that names what the tokenizer lacks.
static inline int *model_encode(const OpenModel *o, const char *text, size_t n, long *count, char *error, size_t room) {
    uint32_t *words = xmalloc((tokenizer_room(&o->tokenizer, n) + 1) * sizeof *words);
    *count = n ? tokenizer_encode(&o->tokenizer, text, n, words, error, room) : 0;
    int *ids = *count < 0 ? NULL : xmalloc((size_t)*count * sizeof *ids);
    for (long i = 0; i < *count; i++) ids[i] = (int)words[i];
    free(words);
    return ids;
}

static inline void model_close(OpenModel *o) {
    free(o->checkpoint);
    model_free(&o->model);
    tokenizer_free(&o->tokenizer);
    config_free(&o->config, config_fields, N_FIELDS);
}

#endif // MODEL_H

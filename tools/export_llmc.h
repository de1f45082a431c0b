/* export_llmc.h - llm.c's model file (llmc.h) and its tokenizer's.
 *
 * defines: export_llmc
 */
#ifndef EXPORT_LLMC_H
#define EXPORT_LLMC_H

#include "llmc.h"

// Writes the folder at path: model.bin and tokenizer.bin. Ends the program where it can't.
static void export_llmc(const OpenModel *o, const char *run, const char *path) {
    const Model *m = &o->model;
    check_needs(&o->config, run, "llm.c", llmc_needs);
    check_no_groups(m, run, "llm.c");
    if (m->F != 4 * m->C) fail("%s: model.mlp_width is %d, which llm.c can't say: 4 times model.width (%d) is expected", run, m->F, 4 * m->C);
    int padded = (m->V + LLMC_VOCAB_MULTIPLE - 1) / LLMC_VOCAB_MULTIPLE * LLMC_VOCAB_MULTIPLE;
    int32_t header[LLMC_HEADER] = {LLMC_MODEL_MAGIC, LLMC_FP32, m->T, m->V, m->L, m->NH, m->C, padded};
    TensorList list = {.type = TENSOR_F32};
    llmc_tensors(&list, m, padded);

    Tokenizer plain = o->tokenizer;
    plain.bpe = NULL;                                    // only the tokens' bytes: llm.c's file knows no merges
    plain.kind = o->tokenizer.bpe ? TOKENIZER_OTHER : o->tokenizer.kind;
    for (int id = 0; id < plain.size; id++)
        if (plain.start[id + 1] - plain.start[id] > 255)
            fail("%s: token %d has %u bytes, which llm.c's tokenizer file can't say: at most 255", run, id, plain.start[id + 1] - plain.start[id]);
    char error[ERROR_ROOM], *folder = folder_begin(path), *model = format("%s/model.bin", folder), *tokens = format("%s/tokenizer.bin", folder);
    if (tensors_write(model, header, sizeof header, list.tensors, list.n, 1, tensor_fetch, error, sizeof error) != 0) fail("%s", error);
    if (plain.size && tokenizer_save(&plain, tokens) != 0) fail("%s: cannot be written: %s", tokens, strerror(errno));
    folder_end(folder, path);
    if (!o->config.model.bias) printf("llm.c has biases: zeros are written\n");
    list_free(&list);
    free(model), free(tokens);
}

#endif // EXPORT_LLMC_H

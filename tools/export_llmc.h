/* export_llmc.h - llm.c's model file and its tokenizer's.
 *
 * defines: export_llmc
 *
 * model.bin (llm.c's train_gpt2.c, version 3): 256 int32, [0] 20240326 [1] 3 [2] context [3] vocabulary [4] layers [5] heads
 * [6] width [7] vocabulary padded to a multiple of 128, the rest 0; then fp32, each tensor of all layers before the next
 * one: wte wpe ln1w ln1b qkvw qkvb attprojw attprojb ln2w ln2b fcw fcb fcprojw fcprojb lnfw lnfb, matrices (out, in).
 */
#ifndef EXPORT_LLMC_H
#define EXPORT_LLMC_H

enum { LLMC_MODEL_MAGIC = 20240326, LLMC_FP32 = 3, LLMC_VOCAB_MULTIPLE = 128 };

// What llm.c's GPT-2 is: nothing of it is a choice there.
static const Needs llmc_needs[] = {
    {"model.mixer", "attention"}, {"model.experts", "0"}, {"model.norm", "layernorm"}, {"model.position", "learned"}, {"model.mlp", "gelu_tanh"}, {"model.head", "tied"},
    {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
    {"model.norm_eps", "1e-5"},
};

// The tensors in the file's order.
static void llmc_tensors(TensorList *l, const Model *m, int padded) {
    const struct { TensorId id; int rows, cols; } kinds[] = {
        {NORM1_W, 1, m->C}, {NORM1_B, 1, m->C}, {WQ, 3 * m->C, m->C}, {BQ, 1, 3 * m->C}, {WO, m->C, m->C}, {BO, 1, m->C},
        {NORM2_W, 1, m->C}, {NORM2_B, 1, m->C}, {W_IN, m->F, m->C}, {B_IN, 1, m->F}, {W_OUT, m->C, m->F}, {B_OUT, 1, m->C},
    };
    list_add(l, xstrdup("wte"), weight(m, WTE, 0), m->V, m->C, PADDED, 0);
    l->tensors[0].shape[0] = (uint64_t)padded;
    list_add(l, xstrdup("wpe"), weight(m, WPE, 0), m->T, m->C, AS_IT_IS, 0);
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (int i = 0; i < m->L; i++)
            list_add(l, xstrdup(m->table[kinds[k].id].name), weight(m, kinds[k].id, i), kinds[k].rows, kinds[k].cols, AS_IT_IS, 0);
    list_add(l, xstrdup("normf_w"), weight(m, NORMF_W, 0), 1, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("normf_b"), weight(m, NORMF_B, 0), 1, m->C, AS_IT_IS, 0);
}

// Writes folder/model.bin and folder/tokenizer.bin. Ends the program where it can't.
static void export_llmc(const OpenModel *o, const char *run, const char *folder) {
    const Model *m = &o->model;
    check_needs(&o->config, run, "llm.c", llmc_needs, COUNT_OF(llmc_needs));
    check_no_groups(m, run, "llm.c");
    if (m->F != 4 * m->C) fail("%s: model.mlp_width is %d, which llm.c can't say: 4 times model.width (%d) is expected", run, m->F, 4 * m->C);
    int padded = (m->V + LLMC_VOCAB_MULTIPLE - 1) / LLMC_VOCAB_MULTIPLE * LLMC_VOCAB_MULTIPLE;
    int32_t header[256] = {LLMC_MODEL_MAGIC, LLMC_FP32, m->T, m->V, m->L, m->NH, m->C, padded};
    TensorList list = {.type = TENSOR_F32};
    llmc_tensors(&list, m, padded);

    char error[ERROR_ROOM], *path = format("%s/model.bin", folder), *tokens = format("%s/tokenizer.bin", folder);
    if (tensors_write(path, header, sizeof header, list.tensors, list.n, tensor_fetch, error, sizeof error) != 0) fail("%s", error);
    Tokenizer plain = o->tokenizer;
    plain.bpe = NULL;                                    // only the tokens' bytes: llm.c's file knows no merges
    plain.kind = o->tokenizer.bpe ? TOKENIZER_OTHER : o->tokenizer.kind;
    for (int id = 0; id < plain.size; id++)
        if (plain.start[id + 1] - plain.start[id] > 255)
            fail("%s: token %d has %u bytes, which llm.c's tokenizer file can't say: at most 255", run, id, plain.start[id + 1] - plain.start[id]);
    if (tokenizer_save(&plain, tokens) != 0) fail("%s: cannot be written: %s", tokens, strerror(errno));
    if (!o->config.model.bias) printf("llm.c has biases: zeros are written\n");
    list_free(&list);
    free(path), free(tokens);
}

#endif // EXPORT_LLMC_H

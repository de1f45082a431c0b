/* llmc.h - llm.c's model file: what it can say and its tensors, for both directions.
 *
 * defines: LLMC_MODEL_MAGIC, LLMC_FP32, LLMC_BF16, LLMC_HEADER, llmc_needs, llmc_tensors
 *
 * model.bin (llm.c's train_gpt2.c, version 3; version 5 has bf16 instead of fp32): 256 int32, [0] 20240326 [1] version
 * [2] context [3] vocabulary [4] layers [5] heads [6] width [7] vocabulary padded to a multiple of 128, the rest 0; then each
 * tensor of all layers before the next one: wte wpe ln1w ln1b qkvw qkvb attprojw attprojb ln2w ln2b fcw fcb fcprojw fcprojb
 * lnfw lnfb, matrices (out, in).
 */
#ifndef LLMC_H
#define LLMC_H

#include "formats.h"

enum { LLMC_MODEL_MAGIC = 20240326, LLMC_FP32 = 3, LLMC_BF16 = 5, LLMC_VOCAB_MULTIPLE = 128, LLMC_HEADER = 256 };

// What llm.c's GPT-2 is: nothing of it is a choice there.
static const Needs llmc_needs[] = {
    {"model.mixer", "attention"}, {"model.experts", "0"}, {"model.norm", "layernorm"}, {"model.position", "learned"}, {"model.mlp", "gelu_tanh"}, {"model.head", "tied"},
    {"model.qk_norm", "false"}, {"model.embed_norm", "false"}, {"model.attn_softcap", "0"}, {"model.logit_softcap", "0"},
    {"model.norm_eps", "1e-5"}, {"model.head_size", "0"}, {NULL, NULL},
};

// The tensors in the file's order.
static void llmc_tensors(TensorList *l, const Model *m, int padded) {
    const struct { TensorId id; int rows, cols; } kinds[] = {
        {NORM1_W, VECTOR, m->C}, {NORM1_B, VECTOR, m->C}, {WQ, 3 * m->C, m->C}, {BQ, VECTOR, 3 * m->C}, {WO, m->C, m->C}, {BO, VECTOR, m->C},
        {NORM2_W, VECTOR, m->C}, {NORM2_B, VECTOR, m->C}, {W_IN, m->F, m->C}, {B_IN, VECTOR, m->F}, {W_OUT, m->C, m->F}, {B_OUT, VECTOR, m->C},
    };
    list_add(l, xstrdup("wte"), weight(m, WTE, 0), m->V, m->C, PADDED, 0);
    l->tensors[0].shape[0] = (uint64_t)padded;
    list_add(l, xstrdup("wpe"), weight(m, WPE, 0), m->T, m->C, AS_IT_IS, 0);
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (int i = 0; i < m->L; i++)
            list_add(l, xstrdup(m->table[kinds[k].id].name), weight(m, kinds[k].id, i), kinds[k].rows, kinds[k].cols, AS_IT_IS, 0);
    list_add(l, xstrdup("normf_w"), weight(m, NORMF_W, 0), VECTOR, m->C, AS_IT_IS, 0);
    list_add(l, xstrdup("normf_b"), weight(m, NORMF_B, 0), VECTOR, m->C, AS_IT_IS, 0);
}

#endif // LLMC_H

/* import_llmc.h - reads llm.c's model file (llmc.h), of fp32 or bf16, and its tokenizer where that lies beside it.
 *
 * defines: import_llmc
 */
#ifndef IMPORT_LLMC_H
#define IMPORT_LLMC_H

#include "llmc.h"

// Ends the program where the file isn't one, or has not as many bytes as its header says.
static void import_llmc(OpenModel *o, const char *path) {
    static const char *const tokenizers[] = {"tokenizer.bin", "gpt2_tokenizer.bin", "tokenizer.json"};
    MappedFile file;
    char error[ERROR_ROOM];
    int32_t header[LLMC_HEADER] = {0};
    if (tensors_map(&file, path, error, sizeof error) != 0) fail("%s", error);
    if (file.size < sizeof header) fail("%s: has %zu bytes, too few for llm.c's header: cut off", path, file.size);
    memcpy(header, file.bytes, sizeof header);
    if (header[1] != LLMC_FP32 && header[1] != LLMC_BF16)
        fail("%s: is version %d of llm.c's file: %d (fp32) or %d (bf16) is expected", path, header[1], LLMC_FP32, LLMC_BF16);
    int padded = header[7];
    if (header[3] < 1 || padded < header[3] || padded > 1 << 21)
        fail("%s: damaged: a vocabulary of %d, padded to %d", path, header[3], padded);

    Keys k = {0};
    for (const Needs *needs = llmc_needs; needs->key; needs++) keys_set(&k, needs->key, "%s", needs->values);
    keys_set(&k, "model.context", "%d", header[2]), keys_set(&k, "model.vocab", "%d", header[3]);
    keys_set(&k, "model.layers", "%d", header[4]), keys_set(&k, "model.heads", "%d", header[5]);
    keys_set(&k, "model.width", "%d", header[6]), keys_set(&k, "model.bias", "true");
    TensorList list = {.type = header[1] == LLMC_FP32 ? TENSOR_F32 : TENSOR_BF16};
    import_plan(o, &k, path, (double)(file.size - sizeof header) / tensor_type_bytes(list.type));
    llmc_tensors(&list, &o->model, padded);
    SafeTensor *found = xmalloc((size_t)list.n * sizeof *found);
    const SafeTensor **of = xmalloc((size_t)list.n * sizeof *of);
    uint64_t end = sizeof header;
    for (int i = 0; i < list.n; i++) end += safetensor_bytes(&list.tensors[i]);
    if (end != file.size) fail("%s: has %zu bytes, its header says %llu: cut off or damaged", path, file.size, (unsigned long long)end);
    end = sizeof header;
    for (int i = 0; i < list.n; i++) {
        found[i] = list.tensors[i];
        found[i].of = file.bytes + end;
        of[i] = &found[i];
        end += safetensor_bytes(&found[i]);
    }
    take_tensors(&list, of, path);
    char *folder = folder_of(path);
    import_tokenizer(o, folder, tokenizers, COUNT_OF(tokenizers));
    list_free(&list);
    file_unmap(&file);
    free(found), free(of), free(folder);
}

#endif // IMPORT_LLMC_H

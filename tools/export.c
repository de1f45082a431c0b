/* export.c - takes a run's model to other programs: a folder for Hugging Face's transformers, a file for llama.cpp, or the two
 * files of llm.c.
 *
 *     build/export runs/default [--format=hf|gguf|llmc] [--type=f32|bf16|f16] [--out=PATH] [--checkpoint=FILE] [--shard_mb=5000]
 *
 * A format holds a model exactly or not at all: what it can't say is refused with the key that it can't, what it says in
 * another way (zero biases, transposed matrices, a rotation that runs the other way) is written so. The folder or the file
 * appears as a whole, when all of it is written.
 */
#include "gpt.h"
#include "model.h"                  // defines: OpenModel, model_open, model_close
#include "formats.h"                // defines: check_needs, put_file, folder_begin, folder_end, ...; tensor_list.h
#include "export_gguf.h"            // defines: export_gguf
#include "export_hf.h"              // defines: export_hf
#include "export_llmc.h"            // defines: export_llmc

// ---------------------------------------------------------------------------------------------------------------------
// The command line

// Writes the folder, or the file, as a whole.
static void export_to(OpenModel *o, const char *run, const char *format_name, TensorType type, double shard_bytes, const char *out) {
    char *quoted = shell_quoted(out);
    if (!strcmp(format_name, "gguf")) export_gguf(o, run, out, type);
    else if (!strcmp(format_name, "hf")) export_hf(o, run, out, type, shard_bytes);
    else export_llmc(o, run, out);
    printf("%s: the model of %s, step %ld", quoted, o->checkpoint, o->step);
    if (isfinite(o->val_loss)) printf(", validation loss %.4f", o->val_loss);
    putchar('\n');
    if (!o->tokenizer.size) printf("%s has no tokenizer, and so has this\n", run);
    free(quoted);
}

int main(int argc, char **argv) {
    program_begin();
    const char *run = NULL, *chosen = NULL, *format_name = "hf", *type_name = "f32", *out = NULL, *value;
    double shard_mb = 5000;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--format"))) format_name = value;
        else if ((value = flag_value(argv[i], "--type"))) type_name = value;
        else if ((value = flag_value(argv[i], "--out"))) out = value;
        else if ((value = flag_value(argv[i], "--checkpoint"))) chosen = value;
        else if ((value = flag_value(argv[i], "--shard_mb"))) shard_mb = number_of("--shard_mb", value, 0.001, 1e6);
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: export RUN [--format=hf|gguf|llmc] [--type=f32|bf16|f16] [--out=PATH] [--checkpoint=FILE]\n"
                   "Writes the model of a run's folder for other programs:\n"
                   "  hf     a folder for transformers' AutoModelForCausalLM and AutoTokenizer (GPT2LMHeadModel, LlamaForCausalLM,\n"
                   "         NanoChatForCausalLM, DeepseekV3ForCausalLM, by what the model is); more than --shard_mb=5000 MB are split into files\n"
                   "  gguf   a file for llama.cpp (its gpt2, llama or deepseek2, by what the model is), with the tokenizer\n"
                   "  llmc   llm.c's model.bin and tokenizer.bin, in fp32; for models of GPT-2's kind\n"
                   "Without --out: RUN/FORMAT, RUN/model.gguf. Without --checkpoint: the one of the lowest validation loss.\n");
            return 0;
        }
        else if (argv[i][0] == '-')
            fail_usage("%s: unknown flag; expected --format, --type, --out, --checkpoint or --shard_mb", argv[i]);
        else if (run) fail_usage("%s: one run is expected, %s is already given", argv[i], run);
        else run = argv[i];
    }
    if (!run) fail_usage("the folder of a run is expected, such as runs/default");
    bool one_file = !strcmp(format_name, "gguf");
    if (!one_file && strcmp(format_name, "hf") && strcmp(format_name, "llmc")) fail_usage("--format=%s: hf, gguf or llmc is expected", format_name);
    TensorType type = tensor_type_of(type_name);
    if (type == TENSOR_TYPES) fail_usage("--type=%s: f32, bf16 or f16 is expected", type_name);
    if (!strcmp(format_name, "llmc") && type != TENSOR_F32) fail_usage("--type=%s: llm.c's CPU program reads f32 only", type_name);
    char *path = out ? out_path(out) : one_file ? format("%s/model.gguf", run) : format("%s/%s", run, format_name);
    check_new(path);
    OpenModel o;
    model_open(&o, run, chosen, 1);
    export_to(&o, run, format_name, type, shard_mb * 1e6, path);
    free(path);
    model_close(&o);
    return 0;
}

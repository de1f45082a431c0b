/* import.c - makes a run's folder of a model of other programs: Hugging Face's folders, llama.cpp's files, llm.c's.
 *
 *     build/import FROM [--out=FOLDER] [--context=N]
 *
 * FROM: a folder with config.json and model.safetensors (or several with their index), one such file, a .gguf file, or llm.c's
 * model.bin.
 * The folder has config.json, checkpoint.bin (the weights; no optimizer's state, and no log) and the tokenizer, so that what
 * needs a model takes it as a run's: sample, export, train.init. It appears as a whole, when all of it is written.
 *
 * Nothing of what is read is executed, and no size in it is believed before it is compared with the file.
 */
#include "gpt.h"
#include "model.h"                  // defines: OpenModel, model_close
#include "formats.h"                // defines: folder_begin, folder_end, ...; tensor_list.h

// ---------------------------------------------------------------------------------------------------------------------
// The model that is made: planned by keys that a format's reader says, then filled with tensors

/* Plans o's model by its keys, which are used up, and allocates its weights, zeros. where: the file they are of, for
 * messages. numbers: as many as the tensors to come have: a model of many more is refused before it takes memory. */
static void import_plan(OpenModel *o, Keys *k, const char *where, double numbers) {
    o->config = keys_config(k, where);
    o->model = model_plan(&o->config, 1, o->config.model.vocab, false);
    if ((double)o->model.n_params > 2 * numbers)
        fail("%s: describes a model of %zu numbers, but the tensors have %.0f", where, o->model.n_params, numbers);
    o->model.params = xaligned(o->model.n_params * sizeof(float));
}

// Learned positions are taken as they are.
static void check_no_context(int64_t wanted) {
    if (wanted) fail_usage("--context=%lld: for models whose positions are rotated, and this one's are learned", (long long)wanted);
}

// The context: of rotated positions less than the model's own serves as well, and takes less memory.
static int import_context(int64_t theirs, int64_t wanted) {
    enum { USUAL = 4096 };
    if (wanted > theirs) fail_usage("--context=%lld: at most the model's, %lld, expected", (long long)wanted, (long long)theirs);
    if (!wanted && theirs > USUAL) printf("context: %d of its %lld tokens; --context=N takes more\n", USUAL, (long long)theirs);
    return (int)(wanted ? wanted : theirs < USUAL ? theirs : USUAL);
}

static const char *without(const char *name, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) ? name : name + n;
}

// Whether a name ends with one of these words, blanks between them.
static bool ends_with_one(const char *name, const char *words) {
    size_t length = strlen(name);
    for (size_t n; *words; words += n + (words[n] == ' ')) {
        n = strcspn(words, " ");
        if (n && n <= length && !strncmp(name + length - n, words, n)) return true;
    }
    return false;
}

typedef struct { const char *name; const SafeTensor *tensor; bool taken; } Found;        // by its name without the prefix

static int found_by_name(const void *a, const void *b) { return strcmp(((const Found *)a)->name, ((const Found *)b)->name); }

// A list of names in a message that has room for so many bytes.
typedef struct { FILE *f; char *text; size_t size, more; } Names;

PRINTF_LIKE(2, 3) static void names_add(Names *l, const char *fmt, ...) {
    enum { ROOM = ERROR_ROOM / 5 };
    if (!l->f) l->f = text_open(&l->text, &l->size);
    if (ftell(l->f) > ROOM) { l->more++; return; }
    va_list args;
    fputs(ftell(l->f) ? ", " : "", l->f);
    va_start(args, fmt);
    vfprintf(l->f, fmt, args);
    va_end(args);
}

// Puts the list behind what it is of; it is used up.
static void names_put(FILE *f, Names *l, const char *what) {
    if (!l->f) return;
    text_close(l->f, &l->text);
    fprintf(f, "; %s: %s", what, l->text);
    if (l->more) fprintf(f, " and %zu more", l->more);
    free(l->text);
}

static const char *shape_text(const SafeTensor *t, char *buffer, size_t room) {
    size_t n = 0;
    *buffer = '\0';
    for (int i = 0; i < t->ndim && n < room; i++)
        n += (size_t)snprintf(buffer + n, room - n, "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
    return t->ndim ? buffer : "one number";
}

/* For each tensor of the list but those of zeros the one of its name among the n that were found; to be freed. What is
 * missing, unknown, of another shape or type is told in one line, all of it, and ends the program. prefix: what names may
 * lack; ignored: endings of names of what is no weight, blanks between them. */
static const SafeTensor **match_tensors(const TensorList *list, const SafeTensor *tensors, int n, const char *prefix,
                                        const char *ignored, const char *where) {
    Found *found = xcalloc((size_t)n, sizeof *found);
    Names missing = {0}, unknown = {0}, shapes = {0}, types = {0};
    char have[200], want[200];
    for (int i = 0; i < n; i++) found[i] = (Found){without(tensors[i].name, prefix), &tensors[i], false};
    if (n) qsort(found, (size_t)n, sizeof *found, found_by_name);
    const SafeTensor **of = xcalloc((size_t)list->n, sizeof *of);
    for (int i = 0; i < list->n; i++) {
        const SafeTensor *t = &list->tensors[i];
        if (source_of(t)->way == ZEROS) continue;
        Found key = {.name = without(t->name, prefix)},
              *f = n ? bsearch(&key, found, (size_t)n, sizeof *found, found_by_name) : NULL;
        if (!f) { names_add(&missing, "%s", t->name); continue; }
        f->taken = true;
        of[i] = f->tensor;
        bool same = f->tensor->ndim == t->ndim;
        for (int d = 0; d < t->ndim && same; d++) same = f->tensor->shape[d] == t->shape[d];
        if (!same)
            names_add(&shapes, "%s is %s instead of %s", t->name, shape_text(f->tensor, have, sizeof have),
                      shape_text(t, want, sizeof want));
        if (f->tensor->type >= TENSOR_TYPES) names_add(&types, "%s is %s", t->name, safetensors_types[f->tensor->type].name);
    }
    for (int i = 0; i < n; i++)
        if (!found[i].taken && !ends_with_one(found[i].name, ignored)) names_add(&unknown, "%.200s", found[i].tensor->name);
    free(found);
    char *words;
    size_t size;
    FILE *f = text_open(&words, &size);
    names_put(f, &missing, "missing"), names_put(f, &unknown, "unknown"), names_put(f, &shapes, "of another shape");
    names_put(f, &types, "neither F32 nor BF16 nor F16");
    text_close(f, &words);
    if (*words) fail("%s: %s", where, words + 2);
    free(words);
    return of;
}

// Fills the model's weights: tensor i of the list with the numbers of *of[i], which may be NULL.
static void take_tensors(const TensorList *list, const SafeTensor *const *of, const char *where) {
    for (int i = 0; i < list->n; i++) {
        if (!of[i]) continue;
        size_t numbers = (size_t)safetensor_numbers(of[i]);
        float *values = xmalloc(numbers * sizeof *values);
        tensor_floats(values, of[i]->of, numbers, of[i]->type);
        for (size_t k = 0; k < numbers; k++)
            if (!isfinite(values[k])) fail("%s: %s: has NaN or infinity", where, of[i]->name);
        tensor_put(&list->tensors[i], values);
        free(values);
    }
}

// The tokenizer, of the first of these files that is there; without one that can be read here the model has none, and a line says so.
static void import_tokenizer(OpenModel *o, const char *folder, const char *const *names, size_t n) {
    char error[ERROR_ROOM] = "";
    for (size_t i = 0; i < n; i++) {
        char *path = format("%s/%s", folder, names[i]);
        if (file_exists(path)) {
            bool loaded = tokenizer_load(&o->tokenizer, path, error, sizeof error) == 0;
            if (loaded && o->tokenizer.size <= o->config.model.vocab) { free(path); return; }
            if (loaded) {
                snprintf(error, sizeof error, "%s: %d tokens, but the model has %d", path, o->tokenizer.size, o->config.model.vocab);
                tokenizer_free(&o->tokenizer);
            }
            free(path);
            break;
        }
        free(path);
    }
    o->tokenizer = (Tokenizer){.eot = -1};
    printf("no tokenizer: %s%s\n", *error ? error : folder, *error ? "" : ": has none that could be read here");
}

// Texts end here at the tokenizer's own end-of-text token. Says so where the file has another one or several: ends, what it says.
static void tell_other_end(const OpenModel *o, const char *ends) {
    if (!o->tokenizer.size) return;
    printf("end of text: eos_token_id is %.100s, but ", ends);
    if (o->tokenizer.eot < 0) printf("no token ends a text here\n");
    else printf("only token %d ends a text here\n", o->tokenizer.eot);
}

#include "import_gguf.h"            // defines: import_gguf
#include "import_hf.h"              // defines: import_hf
#include "import_llmc.h"            // defines: import_llmc

// ---------------------------------------------------------------------------------------------------------------------
// The run's folder

static void import_checkpoint(const OpenModel *o, const char *path) {
    CkptTensor list[CHECKPOINT_MAX_TENSORS];
    CheckpointState state = {.evaluated = -1, .progress = {0, NAN, NAN, NAN}};
    char error[ERROR_ROOM];
    int n = checkpoint_state(&state, list);
    n += checkpoint_weights(&o->model, list + n);
    if (!checkpoint_put(path, NULL, list, n, &o->config, error, sizeof error)) fail("%s", error);
}

static void import_save(OpenModel *o, const char *out) {
    char *folder = folder_begin(out);
    free(o->config.run.dir);
    o->config.run.dir = xstrdup(out);
    char *text = config_text(&o->config, config_fields, N_FIELDS), *config = format("%s/config.json", folder),
         *tokenizer = format("%s/tokenizer.%s", folder, o->tokenizer.bpe ? "json" : "bin"), *checkpoint = format("%s/checkpoint.bin", folder);
    if (write_file(config, text, strlen(text)) != 0) fail("%s: cannot be written: %s", config, strerror(errno));
    if (o->tokenizer.size && (tokenizer_save(&o->tokenizer, tokenizer) != 0 || tokenizer_sign(&o->tokenizer, folder) != 0))
        fail("%s: cannot be written: %s", tokenizer, strerror(errno));
    import_checkpoint(o, checkpoint);
    folder_end(folder, out);
    free(text), free(config), free(tokenizer), free(checkpoint);
}

// ---------------------------------------------------------------------------------------------------------------------
// The command line

// runs/NAME of FROM's last part; to be freed.
static char *import_out(const char *from) {
    char *real = realpath(from, NULL), *name = runlog_name(real ? real : from);
    char *out = format("%s/%s", runs_folder(), name);
    free(real), free(name);
    return out;
}

// Reads whatever FROM is into o.
static void import_any(OpenModel *o, const char *from, int64_t context) {
    struct stat st;
    int32_t magic = 0;
    if (stat(from, &st) != 0) fail("%s: %s", from, strerror(errno));
    if (S_ISDIR(st.st_mode)) { import_hf(o, from, NULL, context); return; }
    FILE *f = fopen(from, "rb");
    if (!f) fail("%s: %s", from, strerror(errno));
    if (fread(&magic, sizeof magic, 1, f) != 1) magic = 0;
    fclose(f);
    if (magic == LLMC_MODEL_MAGIC) check_no_context(context), import_llmc(o, from);
    else if (!memcmp(&magic, "GGUF", sizeof magic)) import_gguf(o, from, context);
    else if (ends_with_one(from, ".safetensors")) {
        const char *slash = strrchr(from, '/');
        char *folder = folder_of(from);
        import_hf(o, folder, slash ? slash + 1 : from, context);
        free(folder);
    }
    else fail("%s: a Hugging Face folder, its .safetensors file, a GGUF file or llm.c's model file is expected", from);
}

int main(int argc, char **argv) {
    program_begin();
    const char *from = NULL, *out = NULL, *value;
    int64_t context = 0;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--out"))) out = value;
        else if ((value = flag_value(argv[i], "--context"))) context = integer_of("--context", value, 1, 1048576);
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: import FROM [--out=FOLDER] [--context=N]\n"
                   "Makes a run's folder of a model of other programs, to sample from, to export and to begin a training with (train.init):\n"
                   "  a folder with config.json and model.safetensors, as transformers has them, of GPT2LMHeadModel, LlamaForCausalLM,\n"
                   "  NanoChatForCausalLM or DeepseekV3ForCausalLM; a GGUF file in f32, f16 or bf16, of gpt2, llama or deepseek2; or llm.c's model.bin.\n"
                   "Without --out: runs/NAME by FROM's last part. --context=N: at most N tokens where positions are rotated (4096).\n");
            return 0;
        }
        else if (argv[i][0] == '-') fail_usage("%s: unknown flag; expected --out or --context", argv[i]);
        else if (from) fail_usage("%s: one model is expected, %s is already given", argv[i], from);
        else from = argv[i];
    }
    if (!from) fail_usage("a model is expected: a folder with config.json and model.safetensors, a GGUF file, or llm.c's model.bin");
    OpenModel o = {0};
    char *folder = out ? out_path(out) : import_out(from), *quoted = shell_quoted(folder);
    check_new(folder);
    import_any(&o, from, context);
    import_save(&o, folder);
    printf("%s: %zu parameters, %d layers of width %d, context %d\n", quoted, o.model.n_params, o.model.L, o.model.C, o.model.T);
    free(folder), free(quoted);
    model_close(&o);
    return 0;
}

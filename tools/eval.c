/* eval.c - how well a trained model predicts a text, or chooses among given endings.
 *
 *     build/eval runs/default FILE [--window=T] [--stride=T/2] [--json] [--checkpoint=FILE]
 *
 * A text: its loss in nats per token, perplexity, bits per byte, and the loss by how frequent tokens are in it. Windows of `window`
 * tokens begin `stride` tokens apart; each counts the tokens that none before it did, so that behind the first window every
 * token has at least window - stride others before it. All tokens count but the first, which has none.
 *
 * A file .jsonl in HellaSwag's form (Zellers et al., 2019), a line {"ctx": "...", "endings": ["...", ...], "label": 0} for each
 * question: the ending with the smallest loss per token, and the one with the smallest loss in all, each read behind the
 * context and a blank (llm.c's and nanochat's "acc_norm", and "acc"). What doesn't fit the model's context is cut in front.
 */
#include "gpt.h"
#include "model.h"           // defines: OpenModel, model_open_text, model_encode, model_close

enum { WINDOWS_AT_ONCE = 8 };

typedef struct { const char *run, *file, *checkpoint; int64_t window, stride; bool json; } Asking;

static Asking asking_of(int argc, char **argv) {
    Asking w = {0};
    const char *value;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--window"))) w.window = integer_of("--window", value, 1, INT32_MAX);
        else if ((value = flag_value(argv[i], "--stride"))) w.stride = integer_of("--stride", value, 1, INT32_MAX);
        else if ((value = flag_value(argv[i], "--checkpoint"))) w.checkpoint = value;
        else if (!strcmp(argv[i], "--json")) w.json = true;
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: eval RUN FILE [--window=T] [--stride=T/2] [--json] [--checkpoint=FILE]\n"
                   "How well the model of a run's folder predicts the text in FILE: nats per token, perplexity, bits per byte.\n"
                   "Windows of --window tokens (the model's context) begin --stride tokens apart (half of it), and each counts\n"
                   "the tokens that none before it did. A FILE.jsonl has questions in HellaSwag's form instead, a line\n"
                   "{\"ctx\": \"...\", \"endings\": [\"...\", ...], \"label\": 0} for each. --json prints one line of JSON.\n");
            exit(0);
        }
        else if (argv[i][0] == '-') fail_usage("%s: unknown flag; expected --window, --stride, --json or --checkpoint", argv[i]);
        else if (!w.run) w.run = argv[i];
        else if (!w.file) w.file = argv[i];
        else fail_usage("%s: a run and a file are expected, %s and %s are already given", argv[i], w.run, w.file);
    }
    if (!w.file) fail_usage("the folder of a run and a file are expected, such as runs/default text.txt");
    return w;
}

// The tokens of a text, to be freed; what: names it where it has characters that the tokenizer lacks.
static int *encode(const OpenModel *o, const char *what, const char *text, size_t n, long *count) {
    char error[ERROR_ROOM];
    int *ids = model_encode(o, text, n, count, error, sizeof error);
    if (!ids) fail("%s: %s", what, error);
    return ids;
}

// Ends the program where a loss isn't a number, which large weights do.
static void check_finite(const OpenModel *o, double loss) {
    if (!isfinite(loss)) fail("%s: a model that diverged: its losses aren't finite", o->checkpoint);
}

static double token_bytes(const Tokenizer *t, int token) {
    int length = 0;
    return tokenizer_token(t, token, &length) && token != t->eot ? length : 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// A text

// The loss of each of the n - 1 tokens behind the first.
static void text_losses(OpenModel *o, float *losses, const int *ids, long n, int window, int stride) {
    Model *m = &o->model;
    int T = n - 1 < window ? (int)(n - 1) : window;
    int *inputs = xmalloc((size_t)m->B * T * sizeof *inputs), *targets = xmalloc((size_t)m->B * T * sizeof *targets);
    Progress progress = progress_start();
    double begin = seconds_now();
    for (long known = 0, start = 0; known < n - 1 && !interrupted; ) {
        long starts[WINDOWS_AT_ONCE], ends[WINDOWS_AT_ONCE], firsts[WINDOWS_AT_ONCE];
        int B = 0;
        for (; B < m->B && known < n - 1; B++, start += stride) {
            long at = start + T > n - 1 ? n - 1 - T : start;                  // the last window is whole, too
            starts[B] = at, firsts[B] = known, ends[B] = known = at + T;
            memcpy(inputs + (size_t)B * T, ids + at, (size_t)T * sizeof *inputs);
            memcpy(targets + (size_t)B * T, ids + at + 1, (size_t)T * sizeof *targets);
        }
        model_loss(m, inputs, targets, B, T);
        for (int b = 0; b < B; b++)
            for (long i = firsts[b]; i < ends[b]; i++) losses[i] = m->losses[(size_t)b * T + (size_t)(i - starts[b])];
        double left = (seconds_now() - begin) * (double)(n - 1 - known) / (double)known;
        if (progress.terminal && progress_due(&progress, false))
            progress_line(&progress, "%ld of %ld tokens, %.0f s left", known, n - 1, left);
    }
    if (progress.open) fputs("\r\033[K", stdout), fflush(stdout);
    free(inputs), free(targets);
}

static void evaluate_text(OpenModel *o, const Asking *w, const char *text, size_t bytes) {
    int window = w->window ? (int)w->window : o->model.T, stride = w->stride ? (int)w->stride : max_int(1, window / 2);
    if (window > o->model.T) fail_usage("--window=%d: the model's context has %d tokens", window, o->model.T);
    if (stride > window) fail_usage("--stride=%d: at most the window, %d, is expected: what lies between would never be read", stride, window);
    long n;
    int *ids = encode(o, w->file, text, bytes, &n), V = o->model.V;
    if (n < 2) fail("%s: %ld token%s; two or more are expected", w->file, n, n == 1 ? "" : "s");
    float *losses = xmalloc((size_t)n * sizeof *losses);
    text_losses(o, losses, ids, n, window, stride);
    if (interrupted) exit(EXIT_INTERRUPTED);

    DataFrequency *f = xcalloc((size_t)V, sizeof *f);
    for (long i = 1; i < n; i++) f[ids[i]].count++;
    uint8_t *classes = dataloader_classes_of(f, V, (uint64_t)(n - 1));
    double nats = 0, counted = 0, by_class[DATALOADER_CLASSES] = {0}, of_class[DATALOADER_CLASSES] = {0};
    for (long i = 1; i < n; i++) {
        nats += losses[i - 1];
        counted += token_bytes(&o->tokenizer, ids[i]);
        by_class[classes[ids[i]]] += losses[i - 1];
        of_class[classes[ids[i]]]++;
    }
    double loss = nats / (double)(n - 1);
    check_finite(o, loss);
    char a[32], b[32], c[32];
    if (w->json) {
        printf("{\"file\": ");
        json_put_string(stdout, w->file, SIZE_MAX);
        printf(", \"tokens\": %ld, \"bytes\": %.0f, \"loss\": %s, \"perplexity\": %s, \"bits_per_byte\": %s, \"window\": %d, \"stride\": %d, "
               "\"by_frequency\": [", n - 1, counted, number_or_null(a, loss), number_or_null(b, exp(loss)),
               number_or_null(c, bits_per_byte(nats, counted)), window, stride);
        for (int k = 0; k < DATALOADER_CLASSES; k++)
            printf("%s%s", k ? ", " : "", number_or_null(a, of_class[k] ? by_class[k] / of_class[k] : NAN));
        printf("]}\n");
    } else {
        printf("%s: %ld tokens, %.0f bytes, in windows of %d, %d apart\n", w->file, n - 1, counted, window, stride);
        printf("loss %.4f nats per token, perplexity %.4g, %.4f bits per byte\n", loss, exp(loss), bits_per_byte(nats, counted));
        printf("loss by frequency, from the text's commonest tenth of the tokens to the rarest:");
        for (int k = 0; k < DATALOADER_CLASSES; k++)
            if (of_class[k]) printf(" %.2f", by_class[k] / of_class[k]);
            else printf(" -");
        putchar('\n');
    }
    free(classes), free(f), free(losses), free(ids);
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions

typedef struct { double sum; int n; } EndingLoss;

// The loss of an ending behind a context, n_ids tokens of which the last n_end are the ending's.
static EndingLoss ending_loss(Model *m, const int *ids, long n_ids, long n_end) {
    if (n_ids - 1 > m->T) ids += n_ids - 1 - m->T, n_ids = m->T + 1;
    int T = (int)n_ids - 1, n = n_end < T ? (int)n_end : T;
    model_loss(m, ids, ids + 1, 1, T);
    EndingLoss loss = {0, n};
    for (int i = T - n; i < T; i++) loss.sum += m->losses[i];
    return loss;
}

// Which of a question's endings the model takes: by loss per token, and by loss. Returns the right one, or -1 where the line is none.
static int answer(OpenModel *o, const char *what, cJSON *question, int *by_mean, int *by_sum) {
    const cJSON *ctx = cJSON_GetObjectItemCaseSensitive(question, "ctx"), *label = cJSON_GetObjectItemCaseSensitive(question, "label");
    const cJSON *endings = cJSON_GetObjectItemCaseSensitive(question, "endings");
    if (!cJSON_IsString(ctx)) fail("%s: ctx: a string is expected", what);
    int n = cJSON_IsArray(endings) ? cJSON_GetArraySize(endings) : 0;
    if (n < 2) fail("%s: endings: two strings or more are expected", what);
    double right = cJSON_IsNumber(label) ? label->valuedouble : -1;
    char *end = "";
    if (cJSON_IsString(label) && *label->valuestring) right = strtod(label->valuestring, &end);      // HellaSwag has them so, too
    if (*end || !(right >= 0 && right < n && right == floor(right))) fail("%s: label: the number of an ending, 0 to %d, is expected", what, n - 1);
    double best_mean = INFINITY, best_sum = INFINITY;
    long n_ctx;
    int *before = encode(o, what, ctx->valuestring, strlen(ctx->valuestring), &n_ctx);
    for (int e = 0; e < n; e++) {
        const cJSON *ending = cJSON_GetArrayItem(endings, e);
        if (!cJSON_IsString(ending)) fail("%s: endings: strings are expected", what);
        char *text = format(" %s", ending->valuestring);
        long n_end;
        int *behind = encode(o, what, text, strlen(text), &n_end);
        before = xrealloc(before, (size_t)(n_ctx + n_end + 1) * sizeof *before);
        memcpy(before + n_ctx, behind, (size_t)n_end * sizeof *before);
        if (n_ctx + n_end < 2) fail("%s: ctx: a token before an ending's is expected", what);
        EndingLoss loss = ending_loss(&o->model, before, n_ctx + n_end, n_end);
        check_finite(o, loss.sum);
        if (loss.sum / loss.n < best_mean) best_mean = loss.sum / loss.n, *by_mean = e;
        if (loss.sum < best_sum) best_sum = loss.sum, *by_sum = e;
        free(behind), free(text);
    }
    free(before);
    return (int)right;
}

static void evaluate_questions(OpenModel *o, const Asking *w, char *text, size_t bytes) {
    int line = 0, questions = 0, mean = 0, sum = 0;
    double chance = 0, begin = seconds_now();
    Progress progress = progress_start();
    for (char *at = text, *end; at < text + bytes && !interrupted; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + bytes - at));
        if (!end) end = text + bytes;
        line++;
        char *what = format("%s:%d", w->file, line), error[ERROR_ROOM];
        if (strspn(at, " \t\r") < (size_t)(end - at)) {
            JsonReader r = {.name = what, .error = error, .room = sizeof error};
            if (!json_parse_object(&r, at, (size_t)(end - at))) fail("%s", error);
            int by_mean = 0, by_sum = 0, right = answer(o, what, r.root, &by_mean, &by_sum);
            questions++;
            mean += by_mean == right;
            sum += by_sum == right;
            chance += 1.0 / cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(r.root, "endings"));
            json_free(&r);
        }
        free(what);
        double left = (seconds_now() - begin) * (double)(text + bytes - end) / (double)(end - text + 1);
        if (progress.terminal && progress_due(&progress, false))
            progress_line(&progress, "%d questions, %.1f %% right, %.0f s left", questions, 100.0 * mean / questions, left);
    }
    if (progress.open) fputs("\r\033[K", stdout), fflush(stdout);
    if (interrupted) exit(EXIT_INTERRUPTED);
    if (!questions) fail("%s: no question; lines {\"ctx\": \"...\", \"endings\": [...], \"label\": 0} are expected", w->file);
    double by_mean = (double)mean / questions, by_sum = (double)sum / questions;
    if (w->json) {
        printf("{\"file\": ");
        json_put_string(stdout, w->file, SIZE_MAX);
        printf(", \"questions\": %d, \"accuracy_per_token\": %.6f, \"accuracy\": %.6f, \"chance\": %.6f}\n", questions, by_mean, by_sum,
               chance / questions);
    } else
        printf("%s: %d questions\nright by the loss per token: %.2f %%, by the whole loss: %.2f %%; by chance: %.2f %%; standard error %.2f %%\n",
               w->file, questions, 100 * by_mean, 100 * by_sum, 100 * chance / questions, 100 * sqrt(by_mean * (1 - by_mean) / questions));
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    take_signals();
    Asking w = asking_of(argc, argv);
    size_t n = strlen(w.file), bytes;
    bool questions = n > 6 && !strcmp(w.file + n - 6, ".jsonl");
    if (questions && (w.window || w.stride)) fail_usage("--window and --stride are a text's, and %s has questions", w.file);
    char *text = read_file(w.file, &bytes);
    if (!text) fail("%s: %s", w.file, strerror(errno));
    OpenModel o;
    model_open_text(&o, w.run, w.checkpoint, questions ? 1 : WINDOWS_AT_ONCE);
    (questions ? evaluate_questions(&o, &w, text, bytes) : evaluate_text(&o, &w, text, bytes));
    free(text);
    model_close(&o);
    return 0;
}

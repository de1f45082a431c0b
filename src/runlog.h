/* runlog.h - a run's log.jsonl: writing it, reading it, cutting it back for a resume, and drawing the picture of training.
 *
 * defines: RunStart, RunStep, RunEval, RunQk, RunMoe, RunEnd, runlog_put_start, runlog_put_step, runlog_put_eval,
 *          runlog_put_qk, runlog_put_moe, runlog_put_steps, runlog_put_end,
 *          runlog_check, runlog_sync, RunLog, runlog_read, runlog_free, RunFollow, runlog_follow, runlog_cut, runlog_val_loss,
 *          runlog_sample_loss, runlog_best_val_loss, runlog_qk_text, runlog_moe_text,
 *          runlog_seconds, runlog_last_step, runlog_all_steps, runlog_name, runlog_smooth, runlog_time_unit,
 *          runlog_draw, runlog_plot; Flat, flat_of, flat_value, flat_free, config_item, config_value, run_optimizer, run_labels
 * The log has one JSON object a line. Its "event" is one of start, step, eval, qk, moe, steps, end; others are passed over. It is
 * written a line at a time, so a killed run may leave half a line at the end: that is no error.
 */
#ifndef RUNLOG_H
#define RUNLOG_H

#include <math.h>
#include "config.h"
#include "moe.h"             // what there is to say of experts' loads
#include "plot.h"
#include "util.h"

// ---------------------------------------------------------------------------------------------------------------------
// Events, as they are written and read. A number that is missing or null (NaN or infinity were) is read as NaN.

typedef struct {
    long step;                  // 0, or where a run goes on
    const char *config, *cpu, *isa, *commit;     // the config as JSON, of any number of lines
    int threads, ranks;         // threads of each rank
    size_t params, optimizer_bytes;
    uint64_t data, epoch_tokens;                 // fingerprint of the data, and its tokens of training
    char *const *resumed_with;  // n_resumed overrides of a run that goes on, --section.key=value
    int n_resumed;
} RunStart;

typedef struct {
    long step;
    double tokens, loss, bpb, lr, grad_norm, ms, tok_per_s;      // of training; loss in nats per token
    double max_logit;           // the largest of all layers and heads
    double optimizer_ms;        // the optimizer's part of ms
    double cpu_ms;              // what all threads together computed
    double seconds;             // read only. Of training until here: the sum of ms over all steps (see runlog_read)
    double cpu_seconds;         // read only. Likewise of cpu_ms
} RunStep;

typedef struct {
    long step;
    double tokens, val_loss, val_bpb, train_seconds;
    double eval_tokens;         // that val_loss is the mean of
    bool whole;                 // they are the whole validation split
    double sample_loss;         // the mean of those that validations on the way use
} RunEval;
typedef struct {
    long step;
    double max_logit;           // over all layers and heads
    long clipped;               // heads
    float *of_heads;            // read only. The largest of each head, (layers, heads); NULL where they aren't logged so
    int layers, heads;
} RunQk;
typedef struct { long step; double dead, max_load; } RunMoe;   // share of the experts without tokens; the largest load of one
                                                                // over its layer's mean, of all layers
typedef struct {
    long step;
    double val_loss, train_seconds;
    char reason[32];
    double sent_bytes;          // of weights and gradients that a rank sent in a step, the mean; 0 or NaN: one rank
} RunEnd;

// ---------------------------------------------------------------------------------------------------------------------
// Writing. An error stays with the stream: runlog_check ends the program by it, naming the log's path.

static inline void runlog_check(FILE *f, const char *path) {
    int error = stream_error(f);
    if (error) fail("%s: cannot be written: %s", path, strerror(error));
}

// The log as it is now survives a power cut: before a checkpoint that knows its last step, and before the files that belong
// to a run only where there is a log.
static inline void runlog_sync(FILE *f, const char *path) {
    runlog_check(f, path);
    if (sync_fd(fileno(f)) < 0) fail("%s: cannot be synced: %s", path, strerror(errno));
}

static inline const char *number_or_null(char buffer[32], double x) {
    if (isfinite(x)) snprintf(buffer, 32, "%.9g", x);
    else strcpy(buffer, "null");
    return buffer;
}

static inline void runlog_put_start(FILE *f, const RunStart *s) {
    fprintf(f, "{\"event\": \"start\", \"step\": %ld, \"config\": ", s->step);
    for (const char *p = s->config; *p; p++)             // on one line
        if (*p != '\n') fputc(*p, f);
        else while (p[1] == ' ') p++;
    if (s->ranks > 1) fprintf(f, ", \"ranks\": %d", s->ranks);
    fprintf(f, ", \"cpu\": \"%s\", \"threads\": %d, \"isa\": \"%s\", \"params\": %zu, \"optimizer_bytes\": %zu, "
               "\"data\": \"%016llx\", \"epoch_tokens\": %llu, \"commit\": \"%s\"", s->cpu, s->threads, s->isa, s->params,
            s->optimizer_bytes, (unsigned long long)s->data, (unsigned long long)s->epoch_tokens, s->commit);
    cJSON *list = cJSON_CreateStringArray((const char *const *)s->resumed_with, s->n_resumed);
    char *resumed = cJSON_PrintUnformatted(list);
    if (s->n_resumed > 0 && resumed) fprintf(f, ", \"resumed_with\": %s", resumed);
    fprintf(f, "}\n");
    cJSON_free(resumed);
    cJSON_Delete(list);
}

static inline void runlog_put_step(FILE *f, const RunStep *s) {
    char bpb[32];
    fprintf(f, "{\"event\": \"step\", \"step\": %ld, \"tokens\": %.0f, \"loss\": %.9g, \"bpb\": %s, \"lr\": %.6g, "
               "\"grad_norm\": %.6g, \"max_logit\": %.6g, \"ms\": %.3f, \"cpu_ms\": %.3f, \"optimizer_ms\": %.3f, "
               "\"tok_per_s\": %.1f}\n", s->step, s->tokens, s->loss, number_or_null(bpb, s->bpb), s->lr, s->grad_norm,
            s->max_logit, s->ms, s->cpu_ms, s->optimizer_ms, s->tok_per_s);
}

// max_logits: (layers, heads) of the step's forward passes; clipped: heads that QK-Clip scaled after it.
static inline void runlog_put_qk(FILE *f, long step, const float *max_logits, int layers, int heads, int clipped) {
    fprintf(f, "{\"event\": \"qk\", \"step\": %ld, \"max_logit\": [", step);
    for (int l = 0; l < layers; l++)
        for (int h = 0; h < heads; h++)
            fprintf(f, "%s%.6g%s", h ? ", " : l ? ", [" : "[", max_logits[l * heads + h], h == heads - 1 ? "]" : "");
    fprintf(f, "], \"clipped\": %d}\n", clipped);
}

// loads: (layers, experts) tokens of the step.
static inline void runlog_put_moe(FILE *f, long step, const int *loads, int layers, int experts) {
    fprintf(f, "{\"event\": \"moe\", \"step\": %ld, \"dead\": [", step);
    for (int l = 0; l < layers; l++) fprintf(f, "%s%.4g", l ? ", " : "", moe_load(loads + l * experts, experts).dead);
    fprintf(f, "], \"max_load\": [");
    for (int l = 0; l < layers; l++) fprintf(f, "%s%.4g", l ? ", " : "", moe_load(loads + l * experts, experts).largest);
    fprintf(f, "]}\n");
}

// by_frequency: the losses of n classes of tokens, the commonest first.
static inline void runlog_put_eval(FILE *f, const RunEval *e, const double *by_frequency, int n) {
    char a[32], b[32], c[32];
    fprintf(f, "{\"event\": \"eval\", \"step\": %ld, \"tokens\": %.0f, \"val_loss\": %s, \"val_bpb\": %s, "
               "\"eval_tokens\": %.0f, \"whole\": %s, \"sample_loss\": %s, \"train_seconds\": %.3f, \"by_frequency\": [",
            e->step, e->tokens, number_or_null(a, e->val_loss), number_or_null(b, e->val_bpb), e->eval_tokens,
            e->whole ? "true" : "false", number_or_null(c, e->sample_loss), e->train_seconds);
    for (int i = 0; i < n; i++) fprintf(f, "%s%s", i ? ", " : "", number_or_null(a, by_frequency[i]));
    fprintf(f, "]}\n");
}

// With train.minutes: when `step` steps were done, after so many seconds of the run, their number was fixed.
static inline void runlog_put_steps(FILE *f, long step, long steps, double minutes, double seconds) {
    fprintf(f, "{\"event\": \"steps\", \"step\": %ld, \"steps\": %ld, \"minutes\": %.9g, \"seconds\": %.3f}\n", step, steps, minutes, seconds);
}

// val_loss: of this step, or NAN.
static inline void runlog_put_end(FILE *f, const RunEnd *e) {
    char a[32];
    fprintf(f, "{\"event\": \"end\", \"step\": %ld, \"val_loss\": %s, \"train_seconds\": %.3f, ", e->step,
            number_or_null(a, e->val_loss), e->train_seconds);
    if (e->sent_bytes > 0) fprintf(f, "\"sent_bytes\": %.0f, ", e->sent_bytes);
    fprintf(f, "\"reason\": \"%s\"}\n", e->reason);
}

// ---------------------------------------------------------------------------------------------------------------------
// The log in memory

typedef struct {
    RunStep *steps;
    RunEval *evals;
    RunQk *qks;
    RunMoe *moes;
    int n_steps, n_evals, n_qks, n_moes;
    cJSON *start;               // the last start event, NULL where there is none
    double fixed_steps;         // of the last steps event behind it; 0 where there is none
    bool ended;                 // `end` holds the last end event
    RunEnd end;
} RunLog;

static inline void runlog_free(RunLog *log) {
    for (int i = 0; i < log->n_qks; i++) free(log->qks[i].of_heads);
    free(log->steps);
    free(log->evals);
    free(log->qks);
    free(log->moes);
    cJSON_Delete(log->start);
    memset(log, 0, sizeof *log);
}

// Room for one more element in an array that doubles: n is its length now.
static inline void *runlog_grow(void *array, int n, size_t size) {
    return n == 0 || (n >= 16 && (n & (n - 1)) == 0) ? xrealloc(array, (size_t)(n < 16 ? 16 : 2 * n) * size) : array;
}

// ---------------------------------------------------------------------------------------------------------------------
// Lines

// The event in the line that begins at `line`, parsed (the caller deletes it), or NULL where it is none. *next: the
// line behind it. *cut: the text ends without a newline, so this may be half a line.
static inline cJSON *runlog_next(char *line, const char *end, char **next, bool *cut) {
    char *newline = (char *)memchr(line, '\n', (size_t)(end - line)), *stop = newline ? newline : line + (end - line);
    *next = newline ? newline + 1 : stop;
    *cut = !newline;
    char kept = *stop;
    *stop = '\0';
    cJSON *event = cJSON_ParseWithLengthOpts(line, (size_t)(stop - line) + 1, NULL, true);
    *stop = kept;
    if (event && cJSON_IsString(cJSON_GetObjectItemCaseSensitive(event, "event"))) return event;
    cJSON_Delete(event);
    return NULL;
}

static inline double runlog_number(const cJSON *event, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

// The event's step, or -1 where it has none.
static inline long runlog_step(const cJSON *event) {
    double step = runlog_number(event, "step");
    return step >= 0 && step < 1e15 ? (long)step : -1;
}

static inline bool runlog_is(const cJSON *event, const char *name) {
    return strcmp(cJSON_GetObjectItemCaseSensitive(event, "event")->valuestring, name) == 0;
}

// The largest number (or the sum) of a number, an array of them, or an array of such arrays; NaN where there is none.
static inline double runlog_fold(const cJSON *item, bool sum) {
    if (cJSON_IsNumber(item)) return item->valuedouble;
    double result = NAN;
    const cJSON *part;
    cJSON_ArrayForEach(part, item) {
        double v = runlog_fold(part, sum);
        result = isnan(result) ? v : isnan(v) ? result : sum ? result + v : fmax(result, v);
    }
    return result;
}

// Takes what an event says of each head: an array of layers, each an array of as many heads.
static inline void runlog_take_heads(RunQk *q, const cJSON *max_logit) {
    int layers = cJSON_GetArraySize(max_logit), heads = layers ? cJSON_GetArraySize(max_logit->child) : 0, n = 0;
    const cJSON *layer, *head;
    if (heads == 0) return;
    q->of_heads = (float *)xmalloc((size_t)layers * (size_t)heads * sizeof(float));
    cJSON_ArrayForEach(layer, max_logit)
        if (cJSON_GetArraySize(layer) == heads)
            cJSON_ArrayForEach(head, layer) q->of_heads[n++] = cJSON_IsNumber(head) ? (float)head->valuedouble : NAN;
    q->layers = layers, q->heads = heads;
    if (n == layers * heads) return;
    free(q->of_heads);
    q->of_heads = NULL;
}

// Appends one event to the log. False where it lacks the step that its kind must have.
static inline bool runlog_take(RunLog *log, const cJSON *event) {
    long step = runlog_step(event);
    if (runlog_is(event, "step")) {
        log->steps = (RunStep *)runlog_grow(log->steps, log->n_steps, sizeof *log->steps);
        RunStep *s = &log->steps[log->n_steps], *before = log->n_steps > 0 ? s - 1 : NULL;
        *s = (RunStep){
            .step = step, .tokens = runlog_number(event, "tokens"), .loss = runlog_number(event, "loss"),
            .bpb = runlog_number(event, "bpb"), .lr = runlog_number(event, "lr"), .grad_norm = runlog_number(event, "grad_norm"),
            .ms = runlog_number(event, "ms"), .tok_per_s = runlog_number(event, "tok_per_s"),
            .optimizer_ms = runlog_number(event, "optimizer_ms"), .cpu_ms = runlog_number(event, "cpu_ms"),
            .max_logit = runlog_number(event, "max_logit"),
            .seconds = before ? before->seconds : 0, .cpu_seconds = before ? before->cpu_seconds : 0,
        };
        long steps = step - (before ? before->step : 0);
        if (s->ms > 0) s->seconds += 1e-3 * s->ms * (double)(steps > 1 ? steps : 1);
        s->cpu_seconds += 1e-3 * s->cpu_ms * (double)(steps > 1 ? steps : 1);
        log->n_steps++;
    } else if (runlog_is(event, "eval")) {
        log->evals = (RunEval *)runlog_grow(log->evals, log->n_evals, sizeof *log->evals);
        log->evals[log->n_evals++] = (RunEval){
            .step = step, .tokens = runlog_number(event, "tokens"), .val_loss = runlog_number(event, "val_loss"),
            .val_bpb = runlog_number(event, "val_bpb"), .train_seconds = runlog_number(event, "train_seconds"),
            .eval_tokens = runlog_number(event, "eval_tokens"), .sample_loss = runlog_number(event, "sample_loss"),
            .whole = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(event, "whole")),
        };
    } else if (runlog_is(event, "qk")) {
        const cJSON *max_logit = cJSON_GetObjectItemCaseSensitive(event, "max_logit");
        double clipped = runlog_fold(cJSON_GetObjectItemCaseSensitive(event, "clipped"), true);
        log->qks = (RunQk *)runlog_grow(log->qks, log->n_qks, sizeof *log->qks);
        log->qks[log->n_qks] = (RunQk){ .step = step, .max_logit = runlog_fold(max_logit, false),
                                        .clipped = clipped > 0 && clipped < 1e15 ? (long)clipped : 0 };
        runlog_take_heads(&log->qks[log->n_qks++], max_logit);
    } else if (runlog_is(event, "moe")) {
        const cJSON *dead = cJSON_GetObjectItemCaseSensitive(event, "dead");
        log->moes = (RunMoe *)runlog_grow(log->moes, log->n_moes, sizeof *log->moes);
        log->moes[log->n_moes++] = (RunMoe){ step, runlog_fold(dead, true) / fmax(1, cJSON_GetArraySize(dead)),
                                             runlog_fold(cJSON_GetObjectItemCaseSensitive(event, "max_load"), false) };
    } else if (runlog_is(event, "end")) {
        const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "reason"));
        log->end = (RunEnd){ step, runlog_number(event, "val_loss"), runlog_number(event, "train_seconds"), "",
                             runlog_number(event, "sent_bytes") };
        snprintf(log->end.reason, sizeof log->end.reason, "%s", reason ? reason : "?");
        log->ended = true;
    } else if (runlog_is(event, "start")) {
        cJSON_Delete(log->start);
        log->start = cJSON_Duplicate(event, true);
        log->fixed_steps = 0;
        return true;
    } else if (runlog_is(event, "steps")) {
        log->fixed_steps = runlog_number(event, "steps");
    } else {
        return true;
    }
    return step >= 0;
}

/* Takes the events of a text, line by line; half an event at its end is passed over. *number counts on by its lines.
 * False where line *number is no event. */
static inline bool runlog_take_lines(RunLog *log, char *text, size_t size, int *number) {
    char *next;
    bool cut = false;
    for (char *line = text; line < text + size; line = next, ++*number) {
        cJSON *event = runlog_next(line, text + size, &next, &cut);
        if (event && !runlog_is(event, "end")) log->ended = false;
        bool taken = event ? runlog_take(log, event) : cut;
        cJSON_Delete(event);
        if (!taken) return false;
    }
    return true;
}

/* Reads a log.jsonl; runlog_free releases what *log holds, which is empty after a failure. A step that was logged after
 * a gap counts its ms for each step of the gap, so that `seconds` runs on where only every tenth step is logged. An end
 * event that steps follow (a resumed run) doesn't count.
 * Returns 0; -1 with errno set where the file can't be read; or the number of the first line that is no event. */
static inline int runlog_read(const char *path, RunLog *log) {
    memset(log, 0, sizeof *log);
    size_t size = 0;
    char *text = read_file(path, &size);
    if (!text) return -1;
    int number = 1;
    bool fine = runlog_take_lines(log, text, size, &number);
    free(text);
    if (!fine) runlog_free(log);
    return fine ? 0 : number;
}

// How far a log that grows has been read: `at` bytes of a file, the last of them to know it again; line lines + 1 is `bad`.
typedef struct { dev_t device; ino_t inode; off_t at; char last[256]; int lines; bool bad; } RunFollow;

// The bytes before `at`, as many as last has room for; how many they are, or -1.
static inline ssize_t runlog_last_bytes(int fd, off_t at, char last[256]) {
    off_t n = at < 256 ? at : 256;
    return pread(fd, last, (size_t)n, at - n) == n ? (ssize_t)n : -1;
}

// Whether what was read is still what the file begins with: a run that goes on replaces its log, another may begin in its folder.
static inline bool runlog_same_so_far(int fd, const struct stat *st, const RunFollow *f) {
    char last[sizeof f->last];
    if (st->st_dev != f->device || st->st_ino != f->inode || st->st_size < f->at) return false;
    ssize_t n = runlog_last_bytes(fd, f->at, last);
    return n >= 0 && memcmp(last, f->last, (size_t)n) == 0;
}

/* Reads on in a log that is being written: what has come since the last call, in whole lines, is added to *log, which is
 * read anew where the file is another one. *log and *f begin as zeros.
 * Returns 1 where *log has changed, 0 where nothing has come; -1 with errno set where the file can't be read, and *log is
 * empty; -2 where line f->lines + 1 is no event, before which *log ends until the file is another one. */
static inline int runlog_follow(const char *path, RunLog *log, RunFollow *f) {
    struct stat st;
    int fd = file_open(path);
    bool known = fd >= 0 && fstat(fd, &st) == 0, same = known && runlog_same_so_far(fd, &st, f);
    if (!same) {
        runlog_free(log);
        *f = known ? (RunFollow){ .device = st.st_dev, .inode = st.st_ino } : (RunFollow){ 0 };
    }
    size_t size = known && !f->bad ? (size_t)(st.st_size - f->at) : 0;
    char *text = (char *)xmalloc(size + 1);
    ssize_t got = known ? pread(fd, text, size, f->at) : -1;
    int error = errno, result = -1;
    while (got > 0 && text[got - 1] != '\n') got--;                     // the rest comes later
    if (got > 0) {
        int number = 1;
        text[got] = '\0';
        f->bad = !runlog_take_lines(log, text, (size_t)got, &number);
        f->lines += number - 1;
        f->at += got;
        runlog_last_bytes(fd, f->at, f->last);
    }
    if (got >= 0) result = f->bad ? -2 : got > 0 || !same;
    free(text);
    if (fd >= 0) close(fd);
    errno = error;
    return result;
}

/* Cuts a log back to what a checkpoint knows: its step, and the step of the last validation it had seen. Later events go,
 * and so do `end` events and half a line at the end. What stays keeps its bytes: start and steps events all, eval events up to and
 * including `evaluated`, others up to and including `step`. Behind these two a line that is no event is what a power cut
 * left, and goes with all that follows it. The file is replaced as a whole. *last: the last step in it, -1 where there is
 * none.
 * Returns as runlog_read does, and but for 0 the file is as it was. */
static inline int runlog_cut(const char *path, long step, long evaluated, long *last) {
    size_t size = 0, kept = 0;
    char *text = read_file(path, &size), *next;
    *last = -1;
    if (!text) return -1;
    int number = 1, result = 0;
    bool cut = false;
    long validated = -1;
    for (char *line = text, *end = text + size; line < end && !result; line = next, number++) {
        cJSON *event = runlog_next(line, end, &next, &cut);
        if (!event && !cut && *last >= step && validated >= evaluated) break;
        if (!event && !cut) result = number;
        bool eval = event && runlog_is(event, "eval");
        bool known = event && (runlog_is(event, "start") || runlog_is(event, "steps") || runlog_step(event) <= (eval ? evaluated : step));
        if (known && !runlog_is(event, "end")) {
            memmove(text + kept, line, (size_t)(next - line));
            kept += (size_t)(next - line);
            if (cut) text[kept++] = '\n';           // a whole event that lacks only its newline
            if (runlog_step(event) <= step && runlog_step(event) > *last) *last = runlog_step(event);
            if (eval && runlog_step(event) > validated) validated = runlog_step(event);
        }
        cJSON_Delete(event);
    }
    if (!result) result = write_file(path, text, kept);
    int error = errno;
    free(text);
    errno = error;
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// What a run reached

// The final validation loss: the end event's, else the last evaluation's, else NaN.
static inline double runlog_val_loss(const RunLog *log) {
    if (log->ended && isfinite(log->end.val_loss)) return log->end.val_loss;
    return log->n_evals ? log->evals[log->n_evals - 1].val_loss : NAN;
}

// A validation's loss that compares with the run's others: of the tokens that those on the way use.
static inline double runlog_sample_loss(const RunEval *e) { return isnan(e->sample_loss) ? e->val_loss : e->sample_loss; }

// The lowest validation loss, always of the same tokens; NaN where there is none.
static inline double runlog_best_val_loss(const RunLog *log) {
    double best = log->ended && !log->n_evals ? log->end.val_loss : NAN;
    for (int i = 0; i < log->n_evals; i++)               // fmin passes over a NaN; the weights of step 0 are nobody's best
        if (log->evals[i].step > 0 || log->n_evals == 1) best = fmin(best, runlog_sample_loss(&log->evals[i]));
    return best;
}

// QK-Clip's threshold in the config of the last start event, NaN where it says none.
static inline double runlog_tau(const RunLog *log) {
    const cJSON *item = log->start;
    const char *const path[] = { "config", "optimizer", "qk_clip" };
    for (size_t i = 0; i < COUNT_OF(path); i++) item = cJSON_GetObjectItemCaseSensitive(item, path[i]);
    return runlog_number(item, "tau");
}

/* What QK-Clip did in the whole run: "largest logit 19.2 of tau 100, no head clipped", or how often and when last. The
 * caller frees it; NULL where it is off or nothing is logged of it. */
static inline char *runlog_qk_text(const RunLog *log) {
    double tau = runlog_tau(log), largest = NAN;
    long clips = 0, steps = 0, last = 0;
    for (int i = 0; i < log->n_steps; i++) largest = fmax(largest, log->steps[i].max_logit);   // fmax passes over a NaN
    for (int i = 0; i < log->n_qks; i++) {
        const RunQk *q = &log->qks[i];
        largest = fmax(largest, q->max_logit);
        clips += q->clipped;
        steps += q->clipped > 0;
        if (q->clipped > 0) last = q->step;
    }
    if (!(tau > 0) || isnan(largest)) return NULL;
    if (!clips) return format("largest logit %.3g of tau %g, no head clipped", largest, tau);
    return format("largest logit %.3g of tau %g, heads clipped %ld time%s, in %ld step%s up to step %ld", largest, tau,
                  clips, clips == 1 ? "" : "s", steps, steps == 1 ? "" : "s", last);
}

/* How the experts were used in the last step that was logged, and at worst: "none without tokens, largest load 1.6 of the mean
 * at step 300; at worst 12 % and 5.1". The caller frees it; NULL where nothing is logged of them. */
static inline char *runlog_moe_text(const RunLog *log) {
    if (!log->n_moes) return NULL;
    const RunMoe *last = &log->moes[log->n_moes - 1];
    double dead = 0, load = 0;
    for (int i = 0; i < log->n_moes; i++) {
        dead = fmax(dead, log->moes[i].dead);
        load = fmax(load, log->moes[i].max_load);
    }
    char none[] = "none", share[32];
    snprintf(share, sizeof share, "%.3g %%", 100 * last->dead);
    return format("%s without tokens, largest load %.3g of the mean at step %ld; at worst %.3g %% and %.3g",
                  last->dead > 0 ? share : none, last->max_load, last->step, 100 * dead, load);
}

// Seconds of training, without evaluations and saving.
static inline double runlog_seconds(const RunLog *log) {
    if (log->ended && isfinite(log->end.train_seconds)) return log->end.train_seconds;
    double seconds = log->n_steps ? log->steps[log->n_steps - 1].seconds : 0;
    return log->n_evals ? fmax(seconds, log->evals[log->n_evals - 1].train_seconds) : seconds;
}

// CPU seconds of training up to a step, NaN where the log doesn't say.
static inline double runlog_cpu_seconds(const RunLog *log, long step) {
    double seconds = log->n_steps ? 0 : NAN;
    for (int i = 0; i < log->n_steps && log->steps[i].step <= step; i++) seconds = log->steps[i].cpu_seconds;
    return seconds;
}

// The last step that was logged.
static inline long runlog_last_step(const RunLog *log) {
    long last = log->ended ? log->end.step : 0;
    if (log->n_steps && log->steps[log->n_steps - 1].step > last) last = log->steps[log->n_steps - 1].step;
    if (log->n_evals && log->evals[log->n_evals - 1].step > last) last = log->evals[log->n_evals - 1].step;
    return last;
}

// The steps that the run has when it is done, NaN where the log doesn't say.
static inline double runlog_all_steps(const RunLog *log) {
    const cJSON *train = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(log->start, "config"), "train");
    bool open = runlog_number(train, "minutes") > 0;
    return log->fixed_steps > 0 ? log->fixed_steps : open ? NAN : runlog_number(train, "steps");
}

// The run's name: the last part of its folder's path, "runs/kjv/" -> "kjv". The caller frees it.
static inline char *runlog_name(const char *folder) {
    size_t end = strlen(folder), start;
    while (end > 1 && folder[end - 1] == '/') end--;
    for (start = end; start > 0 && folder[start - 1] != '/'; ) start--;
    return format("%.*s", (int)(end - start), folder + start);
}

/* out[i] = exponential moving average of y[0 ... i]: a value counts 1/window of the average when it comes, and more at
 * the start, 1/(1 + i/10), so that the average starts at y[0] and follows the steep first part without lag. A NaN or
 * infinity gives a NaN and is left out of the average. */
static inline void runlog_smooth(const double *y, int n, double window, double *out) {
    double average = 0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (isfinite(y[i])) average += (y[i] - average) / fmax(1, fmin(window, 1 + count++ / 10.0));
        out[i] = isfinite(y[i]) ? average : NAN;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Configs as flat lists of section.key and the value's JSON

typedef struct { int n; char **keys, **values; } Flat;

static inline void flat_add(Flat *f, const cJSON *item, const char *prefix) {
    const cJSON *part;
    if (cJSON_IsObject(item) && item->child) {
        cJSON_ArrayForEach(part, item) {
            char *key = *prefix ? format("%s.%s", prefix, part->string) : xstrdup(part->string);
            flat_add(f, part, key);
            free(key);
        }
        return;
    }
    f->keys = (char **)runlog_grow(f->keys, f->n, sizeof *f->keys);
    f->values = (char **)runlog_grow(f->values, f->n, sizeof *f->values);
    f->keys[f->n] = xstrdup(config_name_now(prefix));
    char number[32];
    if (cJSON_IsNumber(item)) f->values[f->n++] = xstrdup(json_number(number, item->valuedouble));
    else f->values[f->n++] = cJSON_IsString(item) ? xstrdup(item->valuestring) : cJSON_PrintUnformatted(item);
}

static inline Flat flat_of(const cJSON *config) {
    Flat f = { 0, NULL, NULL };
    if (config) flat_add(&f, config, "");
    return f;
}

static inline void flat_free(Flat *f) {
    for (int i = 0; i < f->n; i++) {
        free(f->keys[i]);
        free(f->values[i]);
    }
    free(f->keys);
    free(f->values);
    *f = (Flat){ 0, NULL, NULL };
}

// The value of a key, "-" where there is none.
static inline const char *flat_value(const Flat *f, const char *key) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->keys[i], key) == 0) return f->values[i];
    return "-";
}

// A key's value in a config of any age.
static inline cJSON *config_item(const cJSON *config, const char *section, const char *key) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(config, section)) {
        char *name = format("%s.%s", section, item->string), *wanted = format("%s.%s", section, key);
        bool found = strcmp(config_name_now(name), wanted) == 0;
        free(name), free(wanted);
        if (found) return (cJSON *)(uintptr_t)item;
    }
    return NULL;
}

static inline double config_value(const cJSON *config, const char *section, const char *key) {
    const cJSON *item = config_item(config, section, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

// ---------------------------------------------------------------------------------------------------------------------
// What a run is, in a few words, for titles and legends

// A config's optimizer as people write it; NULL where the config doesn't say.
static inline const char *run_optimizer(const cJSON *config) {
    static const char *const written[][2] = {
        { "muonclip", "MuonClip" }, { "muon", "Muon" }, { "normuon", "NorMuon" }, { "adamw", "AdamW" }, { "adam", "Adam" },
        { "sgd", "SGD" }, { "rmsprop", "RMSprop" },
    };
    const char *name = cJSON_GetStringValue(config_item(config, "optimizer", "name"));
    for (size_t i = 0; i < COUNT_OF(written) && name; i++)
        if (strcmp(name, written[i][0]) == 0) return written[i][1];
    return name;
}

// The learning rate of the hidden matrices, NaN where the config doesn't say.
static inline double run_lr(const cJSON *config) {
    const char *name = cJSON_GetStringValue(config_item(config, "optimizer", "name"));
    bool elementwise = name && (!strcmp(name, "adamw") || !strcmp(name, "adam") || !strcmp(name, "rmsprop"));
    const char *section = name && !strcmp(name, "sgd") ? "sgd" : elementwise ? "adamw" : "muon";
    return config_value(cJSON_GetObjectItemCaseSensitive(config, "optimizer"), section, "lr");
}

/* Whether a label says this key's value: it differs between runs, of the optimizer's own keys between two of the same
 * optimizer (others differ by what the optimizers are), and isn't said already or only where a run lies. */
static inline bool run_key_tells(const Flat *flat, int n, const char *key) {
    if (!strcmp(key, "optimizer.name") || !strcmp(key, "run.dir") || !strcmp(key, "model.vocab")) return false;
    bool own = strncmp(key, "optimizer.", 10) == 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            bool same = strcmp(flat_value(&flat[i], "optimizer.name"), flat_value(&flat[j], "optimizer.name")) == 0;
            if ((same || !own) && strcmp(flat_value(&flat[i], key), flat_value(&flat[j], key)) != 0) return true;
        }
    return false;
}

/* labels[i] of n runs by their configs (NULL: unknown): "MuonClip, lr 0.02, seed 2, batch=16": the optimizer, the rate of the
 * hidden matrices, and what else differs among the runs. names[i], such as the folder's, is the label where there is no
 * config, and stands behind those that would be alike. To be freed. */
static inline void run_labels(const cJSON *const *configs, const char *const *names, int n, char **labels) {
    enum { MOST = 4 };
    Flat *flat = (Flat *)xcalloc((size_t)n, sizeof *flat);
    for (int i = 0; i < n; i++) flat[i] = flat_of(configs[i]);
    for (int i = 0; i < n; i++) {
        const char *optimizer = run_optimizer(configs[i]);
        labels[i] = optimizer ? format("%s, lr %.4g", optimizer, run_lr(configs[i])) : xstrdup(names[i]);
        for (int k = 0, told = 0; k < flat[i].n && optimizer; k++) {
            const char *key = flat[i].keys[k], *last = strrchr(key, '.'), *value = flat[i].values[k];
            bool rate = last && !strcmp(last, ".lr") && strtod(value, NULL) == run_lr(configs[i]);
            if (rate || !run_key_tells(flat, n, key) || told++ >= MOST) continue;
            bool seed = strcmp(key, "run.seed") == 0, data = strcmp(key, "data.dir") == 0;
            char *longer = format("%s, %s%s%s", labels[i], data ? "" : last ? last + 1 : key, seed ? " " : data ? "" : "=",
                                  data && strrchr(value, '/') ? strrchr(value, '/') + 1 : value);
            free(labels[i]);
            labels[i] = longer;
        }
    }
    bool *alike = (bool *)xcalloc((size_t)n, sizeof *alike);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) alike[i] = alike[i] || (i != j && strcmp(labels[i], labels[j]) == 0);
    for (int i = 0; i < n; i++) {
        if (alike[i] && run_optimizer(configs[i])) {
            char *longer = format("%s (%s)", labels[i], names[i]);
            free(labels[i]);
            labels[i] = longer;
        }
        flat_free(&flat[i]);
    }
    free(alike);
    free(flat);
}

// ---------------------------------------------------------------------------------------------------------------------
// The picture of training

// One run as arrays, for two panels: x[0] in tokens, x[1] in seconds.
typedef struct {
    double *step_x[2], *loss, *smooth;
    double *eval_x[2], *val_loss;   // of the same tokens at every point
    double *other_x[2], *other_loss;    // validations of other tokens: those at the end of all steps
    double *epoch_x[2];             // where an epoch ends, every `epochs`-th one
    double *moe_x, *dead, *max_load;    // of the experts, over tokens
    int n_steps, n_evals, n_others, n_epochs, epochs, n_moes;
} RunCurves;

// Whether runs' tokens stand for different amounts of text, so that only bits per byte can be compared: the ratio of the
// two losses of the first validation differs.
static inline bool runlog_other_tokens(const RunLog *logs, int n) {
    double first = NAN;
    bool differ = false;
    for (int i = 0; i < n; i++) {
        const RunEval *e = logs[i].n_evals ? &logs[i].evals[0] : NULL;
        double ratio = e && e->val_loss > 0 ? e->val_bpb / e->val_loss : NAN;
        if (!isfinite(ratio)) return false;
        if (i == 0) first = ratio;
        differ = differ || fabs(ratio / first - 1) > 1e-3;
    }
    return differ;
}

enum { RUNLOG_MAX_EPOCHS = 30 };                 // more marks would be a wall

// Where epochs of training end, in tokens and in seconds of training (between two steps: in proportion).
static inline void runlog_epochs(RunCurves *c, const RunLog *log, double second) {
    double tokens = runlog_number(log->start, "epoch_tokens");
    const RunStep *steps = log->steps, *last = log->n_steps ? &steps[log->n_steps - 1] : NULL;
    double n = last && tokens > 0 ? floor(last->tokens / tokens * (1 + 1e-12)) : 0;
    if (!(n >= 1 && n < 1e9)) return;
    for (c->epochs = 1; n / c->epochs > RUNLOG_MAX_EPOCHS; ) c->epochs *= 10;
    for (int i = 0, at = 0; c->n_epochs < (int)n / c->epochs; c->n_epochs++) {
        double x = tokens * c->epochs * (at + 1);
        while (i < log->n_steps - 1 && steps[i].tokens < x) i++;
        const RunStep *before = i > 0 ? &steps[i - 1] : &(const RunStep){ 0 };
        double part = steps[i].tokens > before->tokens ? (x - before->tokens) / (steps[i].tokens - before->tokens) : 1;
        c->epoch_x[0][at] = x;
        c->epoch_x[1][at++] = (before->seconds + part * (steps[i].seconds - before->seconds)) / second;
    }
}

// bpb: the losses in bits per byte.
static inline RunCurves runlog_curves(const RunLog *log, double second, bool bpb) {
    RunCurves c = { .n_steps = log->n_steps, .n_evals = log->n_evals };
    size_t steps = (size_t)log->n_steps * sizeof(double), evals = (size_t)log->n_evals * sizeof(double);
    double **of_steps[] = { &c.step_x[0], &c.step_x[1], &c.loss, &c.smooth };
    double **of_evals[] = { &c.eval_x[0], &c.eval_x[1], &c.val_loss };
    double **of_others[] = { &c.other_x[0], &c.other_x[1], &c.other_loss };
    for (size_t i = 0; i < COUNT_OF(of_steps); i++) *of_steps[i] = (double *)xmalloc(steps);
    for (size_t i = 0; i < COUNT_OF(of_evals); i++) *of_evals[i] = (double *)xmalloc(evals);
    for (size_t i = 0; i < COUNT_OF(of_others); i++) *of_others[i] = (double *)xmalloc(evals);
    for (int i = 0; i < 2; i++) c.epoch_x[i] = (double *)xmalloc(RUNLOG_MAX_EPOCHS * sizeof(double));
    for (int i = 0; i < log->n_steps; i++) {
        c.step_x[0][i] = log->steps[i].tokens;
        c.step_x[1][i] = log->steps[i].seconds / second;
        c.loss[i] = bpb ? log->steps[i].bpb : log->steps[i].loss;
    }
    for (int i = 0; i < log->n_evals; i++) {
        const RunEval *e = &log->evals[i], *first = &log->evals[0];
        c.eval_x[0][i] = e->tokens;
        c.eval_x[1][i] = e->train_seconds / second;
        c.val_loss[i] = bpb ? e->val_bpb : e->val_loss;
        if (i == 0 || e->eval_tokens == first->eval_tokens || isnan(e->sample_loss)) continue;    // of the same tokens
        for (int k = 0; k < 2; k++) c.other_x[k][c.n_others] = c.eval_x[k][i];
        c.other_loss[c.n_others++] = c.val_loss[i];
        c.val_loss[i] = e->sample_loss * (bpb ? first->val_bpb / first->val_loss : 1);      // the same bytes a token
    }
    double **of_moes[] = { &c.moe_x, &c.dead, &c.max_load };
    for (size_t i = 0; i < COUNT_OF(of_moes); i++) *of_moes[i] = (double *)xmalloc((size_t)log->n_moes * sizeof(double));
    double per_step = log->n_steps ? log->steps[0].tokens / (double)log->steps[0].step : NAN;
    for (; c.n_moes < log->n_moes; c.n_moes++) {
        const RunMoe *e = &log->moes[c.n_moes];
        c.moe_x[c.n_moes] = per_step * (double)e->step;
        c.dead[c.n_moes] = e->dead;
        c.max_load[c.n_moes] = e->max_load;
    }
    runlog_smooth(c.loss, c.n_steps, fmin(100, c.n_steps / 40.0), c.smooth);
    runlog_epochs(&c, log, second);
    return c;
}

static inline void runlog_free_curves(RunCurves *c) {
    double *all[] = { c->step_x[0], c->step_x[1], c->loss, c->smooth, c->eval_x[0], c->eval_x[1], c->val_loss,
                      c->other_x[0], c->other_x[1], c->other_loss, c->epoch_x[0], c->epoch_x[1], c->moe_x, c->dead, c->max_load };
    for (size_t i = 0; i < COUNT_OF(all); i++) free(all[i]);
}

// What the axis of training times counts in, in seconds, and its label.
static inline double runlog_time_unit(double longest, const char **label) {
    double second = longest < 1200 ? 1 : longest < 4 * 3600 ? 60 : 3600;
    *label = second == 1 ? "seconds of training" : second == 60 ? "minutes of training" : "hours of training";
    return second;
}

// "kjv: validation loss 1.4321 (2.066 bits per byte) at step 2000"; the caller frees it.
static inline char *runlog_title(const RunLog *log, const char *label) {
    const RunEval *last = log->n_evals ? &log->evals[log->n_evals - 1] : NULL;
    double val_loss = runlog_val_loss(log);
    if (isnan(val_loss)) return format("%s: step %ld", label, runlog_last_step(log));
    char *bpb = last && isfinite(last->val_bpb) ? format(" (%.3f bits per byte)", last->val_bpb) : xstrdup("");
    bool early = log->ended && strcmp(log->end.reason, "done") != 0;
    char *title = format("%s: validation loss %.4f%s%s at step %ld%s%s", label, val_loss, bpb,
                         last && last->whole ? " of the whole split" : "", runlog_last_step(log),
                         early ? ", " : "", early ? log->end.reason : "");
    free(bpb);
    return title;
}

// What the legend calls the validations of these runs: the tokens they are of, where all are of as many. The caller frees.
static inline char *runlog_val_label(const RunLog *logs, int n) {
    const RunEval *same = NULL;
    for (int i = 0; i < n; i++) {
        const RunEval *first = logs[i].n_evals ? &logs[i].evals[0] : NULL;
        if (!first) continue;
        if (!(first->eval_tokens > 0) || (same && same->eval_tokens != first->eval_tokens)) return xstrdup("validation loss");
        same = first;
    }
    if (!same) return xstrdup("validation loss");
    return same->whole ? xstrdup("validation loss, whole split") : format("validation loss, %.0f tokens", same->eval_tokens);
}

/* What the picture of two runs says: "MuonClip comes to AdamW's last loss in 55 % of its tokens". NULL where both have one
 * optimizer or nothing can be said. To be freed. */
static inline char *runlog_message(const RunCurves *curves, const char *const *optimizers) {
    if (!strcmp(optimizers[0], optimizers[1]) || !curves[0].n_evals || !curves[1].n_evals) return NULL;
    double last[2];
    for (int i = 0; i < 2; i++) last[i] = curves[i].val_loss[curves[i].n_evals - 1];
    if (!(last[0] != last[1]) || !isfinite(last[0] + last[1])) return NULL;
    int better = last[1] < last[0], other = !better;
    const RunCurves *c = &curves[better];
    double whole = curves[other].eval_x[0][curves[other].n_evals - 1], at = NAN;
    for (int k = 1; k < c->n_evals && isnan(at); k++)
        if (c->val_loss[k] <= last[other])               // on the line from the point before
            at = c->eval_x[0][k] - (c->eval_x[0][k] - c->eval_x[0][k - 1]) * (last[other] - c->val_loss[k])
                                   / (c->val_loss[k - 1] - c->val_loss[k]);
    if (!(at > 0) || !(whole > 0) || at > whole) return NULL;
    return format("%s comes to %s's last loss in %.0f %% of its tokens", optimizers[better], optimizers[other], 100 * at / whole);
}

/* Draws n runs into one PNG: loss over tokens, and loss over the time of training. Of each run the training loss (thin,
 * translucent), the same smoothed (runlog_smooth), and the validation loss with a dot at each evaluation, always of the
 * same tokens; a cross is a validation of others, at the end that of the whole split. A run's colour is its optimizer's
 * (plot_choose_colors), its label what it is (run_labels; names: what it is called where its config isn't known). One run's
 * validation is black, with its result as the title, what QK-Clip did below it, and upright dashes where an epoch ends; where it
 * has experts, a third panel shows how they were used.
 * log_axes: both axes logarithmic, on which a power law is a straight line. Returns 0, or -1 with errno set. */
static inline int runlog_draw(const RunLog *logs, const char *const *names, int n, bool log_axes,
                              const char *png_path) {
    double longest = 0;
    for (int i = 0; i < n; i++) longest = fmax(longest, runlog_seconds(&logs[i]));
    const char *time;
    double second = runlog_time_unit(longest, &time);
    bool bpb = runlog_other_tokens(logs, n);

    enum { PER_RUN = 4, KEYS = 5 };                 // lines of a run; entries of the legend that explain them
    int per_panel = PER_RUN * n + KEYS;
    RunCurves *curves = (RunCurves *)xmalloc((size_t)n * sizeof *curves);
    PlotSeries *series = (PlotSeries *)xcalloc((size_t)per_panel * 2, sizeof *series);
    bool others = false;
    for (int i = 0; i < n; i++) {
        curves[i] = runlog_curves(&logs[i], second, bpb);
        others = others || curves[i].n_others;
    }
    const cJSON **configs = (const cJSON **)xcalloc((size_t)n, sizeof *configs);
    const char **optimizers = (const char **)xcalloc((size_t)n, sizeof *optimizers);
    char **labels = (char **)xcalloc((size_t)n, sizeof *labels);
    int *colors = (int *)xcalloc((size_t)n, sizeof *colors);
    for (int i = 0; i < n; i++) {
        configs[i] = cJSON_GetObjectItemCaseSensitive(logs[i].start, "config");
        optimizers[i] = run_optimizer(configs[i]) ? run_optimizer(configs[i]) : names[i];
    }
    run_labels(configs, names, n, labels);
    plot_choose_colors(optimizers, n, colors);
    const RunCurves *alone = n == 1 && curves[0].n_epochs ? &curves[0] : NULL;      // whose epochs are marked
    char *val_label = runlog_val_label(logs, n), *epochs = NULL;
    if (alone) epochs = alone->epochs == 1 ? xstrdup("end of an epoch") : format("every %dth end of an epoch", alone->epochs);
    for (int panel = 0; panel < 2; panel++) {
        PlotSeries *raw = series + panel * per_panel, *smooth = raw + n, *val = smooth + n, *other = val + n, *keys = other + n;
        for (int i = 0; i < n; i++) {               // by kind, so that no run's noise lies on another's line
            const RunCurves *c = &curves[i];
            const double *x = c->step_x[panel];
            int color = n == 1 ? PLOT_BLACK : colors[i];
            raw[i] = (PlotSeries){ .x = x, .y = c->loss, .n = c->n_steps, .color = colors[i], .style = PLOT_FAINT };
            smooth[i] = (PlotSeries){ .x = x, .y = c->smooth, .n = c->n_steps, .color = colors[i] };
            val[i] = (PlotSeries){ .x = c->eval_x[panel], .y = c->val_loss, .n = c->n_evals, .color = color,
                                   .style = PLOT_LINE | PLOT_POINTS };
            other[i] = (PlotSeries){ .x = c->other_x[panel], .y = c->other_loss, .n = c->n_others, .color = color,
                                     .style = PLOT_CROSS };
            if (n > 1) {
                val[i].label = labels[i];
                smooth[i].style = PLOT_DASHED;
            }
        }
        const char *words[KEYS] = { "training loss", "training loss, smoothed", val_label,
                                    others ? "validation loss, whole split" : NULL, epochs };
        const unsigned styles[KEYS] = { PLOT_FAINT, n > 1 ? PLOT_DASHED : PLOT_LINE, PLOT_LINE | PLOT_POINTS, PLOT_CROSS, PLOT_DASHED };
        for (int k = 0; k < KEYS; k++) {
            int color = n > 1 || k == 4 ? PLOT_GREY : k >= 2 ? PLOT_BLACK : colors[0];
            keys[k] = (PlotSeries){ .label = words[k], .color = color, .style = styles[k] };
        }
    }
    char *whole = run_optimizer(configs[0]) ? format("%s (%s)", names[0], labels[0]) : xstrdup(labels[0]);
    char *title = n == 1 ? runlog_title(&logs[0], whole) : n == 2 ? runlog_message(curves, optimizers) : NULL;
    if (!title) title = xstrdup("Loss of training and validation");
    char *qk = n == 1 ? runlog_qk_text(&logs[0]) : NULL, *below = qk ? format("QK-Clip: %s", qk) : NULL;
    const RunCurves *c = &curves[0];
    PlotSeries experts[] = {
        { .label = "largest load / mean load", .x = c->moe_x, .y = c->max_load, .n = c->n_moes, .color = colors[0] },
        { .label = "share of experts without tokens", .x = c->moe_x, .y = c->dead, .n = c->n_moes, .color = PLOT_BLACK },
    };
    char *moe = n == 1 ? runlog_moe_text(&logs[0]) : NULL;
    if (moe) moe[strcspn(moe, ";")] = '\0';             // a panel has no room for what was worst; the run's last line says it
    if (moe && !below) below = xstrdup("");
    int n_panels = moe ? 3 : 2;
    PlotPanel panels[3];
    panels[2] = (PlotPanel){ .xlabel = "tokens", .ylabel = "experts of all layers", .title = moe, .series = experts,
                             .n_series = COUNT_OF(experts), .robust = true };
    for (int panel = 0; panel < 2; panel++)
        panels[panel] = (PlotPanel){ .xlabel = panel == 0 ? "tokens" : time, .ylabel = bpb ? "loss (bits per byte)" : "loss (nats per token)",
                                     .title = !below ? NULL : panel == 0 ? below : "",
                                     .xlog = log_axes, .ylog = log_axes, .robust = !log_axes,
                                     .series = series + panel * per_panel, .n_series = per_panel,
                                     .marks = alone ? alone->epoch_x[panel] : NULL, .n_marks = alone ? alone->n_epochs : 0 };
    int result = plot_png(png_path, title, panels, n_panels, 800 * n_panels, 720), error = errno;
    for (int i = 0; i < n; i++) runlog_free_curves(&curves[i]), free(labels[i]);
    free(configs), free(optimizers), free(labels), free(colors), free(whole);
    free(curves);
    free(series);
    free(title);
    free(qk);
    free(below);
    free(moe);
    free(val_label);
    free(epochs);
    errno = error;
    return result;
}

/* runlog_draw for run folders: reads FOLDER/log.jsonl of each. names: what the runs are called; NULL: as their folders.
 * Returns 0, or -1 with errno set: EBADMSG where a log has a bad line, else what reading or writing
 * met. */
static inline int runlog_plot(const char *const *run_folders, const char *const *names, int n, const char *png_path) {
    RunLog *logs = (RunLog *)xcalloc((size_t)n, sizeof *logs);
    char **called = (char **)xcalloc((size_t)n, sizeof *called);
    int result = 0, error = 0;
    for (int i = 0; i < n; i++) {
        called[i] = names ? xstrdup(names[i]) : runlog_name(run_folders[i]);
        char *path = format("%s/log.jsonl", run_folders[i]);
        int read = result == 0 ? runlog_read(path, &logs[i]) : 0;
        if (read != 0) { error = read > 0 ? EBADMSG : errno; result = -1; }
        free(path);
    }
    if (result == 0) {
        result = runlog_draw(logs, (const char *const *)called, n, false, png_path);
        error = errno;
    }
    for (int i = 0; i < n; i++) {
        runlog_free(&logs[i]);
        free(called[i]);
    }
    free(logs);
    free(called);
    errno = error;
    return result;
}

#endif // RUNLOG_H

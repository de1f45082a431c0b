/* watch_run.h - what the page of `make watch` is told of a run: its curves, thinned to what a screen can show, config, samples.
 *
 * defines: WATCH_BUCKETS, watch_thin, watch_put_run
 * The page loads it as a script, since a browser lets a page of file:// read nothing else: one call, watch.run({...}), of JSON.
 * So a name or a sample can hold anything: it is a JSON string in a file of its own, never a part of the page's HTML.
 * Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef WATCH_RUN_H
#define WATCH_RUN_H

#include <stddef.h>
#include "../src/runlog.h"

enum {
    WATCH_BUCKETS = 800,                // about a panel's pixels
    WATCH_HEAD_BUCKETS = 200,           // of the largest logits of each head: there are many heads
    WATCH_SAMPLE_BYTES = 20000,         // the last ones of sample.txt
};

/* Which of n points are drawn, ascending, into kept (room for n): of each of the buckets, runs of n / buckets points, those where
 * a curve has its lowest or its highest value or its first NaN; and the first and the last of all. So that each point that is
 * kept is a step with all its values, and no spike is lost. curves[k][i]: of curve k, point i. Returns how many are kept. */
static inline int watch_thin(const double *const *curves, int n_curves, int n, int buckets, int *kept) {
    bool *keep = (bool *)xcalloc((size_t)n, sizeof *keep);
    for (int b = 0; b < buckets && n > 2 * buckets; b++) {
        int begin = (int)((int64_t)n * b / buckets), end = (int)((int64_t)n * (b + 1) / buckets);
        for (int k = 0; k < n_curves; k++) {
            int lowest = -1, highest = -1, missing = -1;
            for (int i = begin; i < end; i++) {
                double y = curves[k][i];
                if (!isfinite(y)) missing = missing < 0 ? i : missing;
                if (isfinite(y) && (lowest < 0 || y < curves[k][lowest])) lowest = i;
                if (isfinite(y) && (highest < 0 || y > curves[k][highest])) highest = i;
            }
            if (lowest >= 0) keep[lowest] = keep[highest] = true;
            if (missing >= 0) keep[missing] = true;
        }
    }
    int count = 0;
    for (int i = 0; i < n; i++)
        if (n <= 2 * buckets || keep[i] || i == 0 || i == n - 1) kept[count++] = i;
    free(keep);
    return count;
}

// ---------------------------------------------------------------------------------------------------------------------
// Parts of a run as JSON. Each is an object of columns of one length, of the points that are kept.

static inline void watch_put_text(FILE *f, const char *text) { json_put_string(f, text, SIZE_MAX); }

// Point i's value is the double, or the long, at `offset` in the i-th of elements of `size` bytes. shapes: one of the curves
// of watch_thin.
typedef struct { const char *name; const void *first; size_t size, offset; bool is_long, shapes; } WatchColumn;
#define WATCH_ARRAY(name, array) { name, array, sizeof(double), 0, false, false }
#define WATCH_SHAPE(name, array) { name, array, sizeof(double), 0, false, true }
#define WATCH_MEMBER(type, member, first, shapes) { #member, first, sizeof(type), offsetof(type, member), false, shapes }
#define WATCH_STEP(type, first) { "step", first, sizeof(type), offsetof(type, step), true, false }

static inline void watch_put_table(FILE *f, const char *name, const WatchColumn *columns, int n_columns, int n) {
    double *values = (double *)xmalloc((size_t)n_columns * (size_t)n * sizeof *values);
    const double **curves = (const double **)xmalloc((size_t)n_columns * sizeof *curves);
    int *kept = (int *)xmalloc((size_t)n * sizeof *kept), n_curves = 0;
    for (int k = 0; k < n_columns; k++) {
        const WatchColumn *c = &columns[k];
        double *x = values + (size_t)k * (size_t)n;
        for (int i = 0; i < n; i++) {
            const char *at = (const char *)c->first + (size_t)i * c->size + c->offset;
            x[i] = c->is_long ? (double)*(const long *)at : *(const double *)at;
        }
        if (c->shapes) curves[n_curves++] = x;
    }
    int count = watch_thin(curves, n_curves, n, WATCH_BUCKETS, kept);
    fprintf(f, ",\n\"%s\": {", name);
    for (int k = 0; k < n_columns; k++) {
        const double *x = values + (size_t)k * (size_t)n;
        fprintf(f, "%s\"%s\": [", k ? ",\n" : "", columns[k].name);
        for (int i = 0; i < count; i++) {
            double y = x[kept[i]];
            if (i) fputc(',', f);
            if (isfinite(y)) fprintf(f, "%.*g", fabs(y) < 1e4 ? 6 : 12, y);
            else fputs("null", f);
        }
        fputc(']', f);
    }
    fputc('}', f);
    free(values), free(curves), free(kept);
}

// A number of each step, smoothed as the losses are (runlog_curves); to be freed.
static inline double *watch_smooth(const RunLog *log, size_t offset) {
    int n = log->n_steps;
    double *y = (double *)xmalloc((size_t)n * sizeof *y), *smooth = (double *)xmalloc((size_t)n * sizeof *smooth);
    for (int i = 0; i < n; i++) y[i] = *(const double *)((const char *)&log->steps[i] + offset);
    runlog_smooth(y, n, fmin(100, n / 40.0), smooth);
    free(y);
    return smooth;
}

// Losses in nats a token and in bits a byte; evals are of the same tokens at every point, others of others (runlog_curves).
static inline void watch_put_curves(FILE *f, const RunLog *log) {
    RunCurves nats = runlog_curves(log, 1, false), bits = runlog_curves(log, 1, true);
    const RunStep *s = log->steps;
    double *smooth[2];                              // of the gradient's norm and the tokens a second
    for (int k = 0; k < 2; k++) smooth[k] = watch_smooth(log, k ? offsetof(RunStep, tok_per_s) : offsetof(RunStep, grad_norm));
    const WatchColumn steps[] = {
        WATCH_STEP(RunStep, s), WATCH_ARRAY("tokens", nats.step_x[0]), WATCH_ARRAY("seconds", nats.step_x[1]),
        WATCH_SHAPE("nats", nats.loss), WATCH_ARRAY("smooth_nats", nats.smooth), WATCH_ARRAY("bits", bits.loss),
        WATCH_ARRAY("smooth_bits", bits.smooth), WATCH_MEMBER(RunStep, lr, s, false), WATCH_MEMBER(RunStep, grad_norm, s, true),
        WATCH_MEMBER(RunStep, max_logit, s, true), WATCH_MEMBER(RunStep, tok_per_s, s, true),
        WATCH_ARRAY("smooth_grad_norm", smooth[0]), WATCH_ARRAY("smooth_tok_per_s", smooth[1]),
    };
    const WatchColumn evals[] = {
        WATCH_STEP(RunEval, log->evals), WATCH_ARRAY("tokens", nats.eval_x[0]), WATCH_ARRAY("seconds", nats.eval_x[1]),
        WATCH_SHAPE("nats", nats.val_loss), WATCH_ARRAY("bits", bits.val_loss),
    };
    const WatchColumn others[] = {
        WATCH_ARRAY("tokens", nats.other_x[0]), WATCH_ARRAY("seconds", nats.other_x[1]), WATCH_SHAPE("nats", nats.other_loss),
        WATCH_ARRAY("bits", bits.other_loss),
    };
    const WatchColumn experts[] = {
        WATCH_STEP(RunMoe, log->moes), WATCH_ARRAY("tokens", nats.moe_x), WATCH_SHAPE("dead", nats.dead),
        WATCH_SHAPE("max_load", nats.max_load),
    };
    watch_put_table(f, "steps", steps, COUNT_OF(steps), nats.n_steps);
    watch_put_table(f, "evals", evals, COUNT_OF(evals), nats.n_evals);
    watch_put_table(f, "others", others, COUNT_OF(others), nats.n_others);
    watch_put_table(f, "experts", experts, COUNT_OF(experts), nats.n_moes);
    runlog_free_curves(&nats), runlog_free_curves(&bits);
    free(smooth[0]), free(smooth[1]);
}

// The largest logit of each head: of each bucket of logged steps the largest, at its last step. "of": (layers * heads) arrays.
static inline void watch_put_heads(FILE *f, const RunLog *log) {
    const RunQk *last = log->n_qks ? &log->qks[log->n_qks - 1] : NULL;
    int n = 0, heads = last && last->of_heads ? last->layers * last->heads : 0;
    const RunQk **qks = (const RunQk **)xmalloc((size_t)log->n_qks * sizeof *qks);
    for (const RunQk *q = log->qks, *end = q + log->n_qks; q < end && heads; q++)           // of the model that it is now
        if (q->of_heads && q->layers == last->layers && q->heads == last->heads) qks[n++] = q;
    int buckets = n < WATCH_HEAD_BUCKETS ? n : WATCH_HEAD_BUCKETS;
    fprintf(f, ",\n\"heads\": {\"layers\": %d, \"heads\": %d, \"step\": [", heads ? last->layers : 0, heads ? last->heads : 0);
    for (int b = 0; b < buckets; b++) fprintf(f, "%s%ld", b ? "," : "", qks[(int64_t)n * (b + 1) / buckets - 1]->step);
    double per_step = log->n_steps && log->steps[0].step > 0 ? log->steps[0].tokens / (double)log->steps[0].step : NAN;
    fputs("], \"tokens\": [", f);
    for (int b = 0; b < buckets; b++) {
        double tokens = per_step * (double)qks[(int64_t)n * (b + 1) / buckets - 1]->step;
        fprintf(f, "%s%.12g", b ? "," : "", isfinite(tokens) ? tokens : 0);
    }
    fputs("], \"of\": [", f);
    for (int h = 0; h < heads; h++) {
        for (int b = 0; b < buckets; b++) {
            double largest = NAN;
            for (int i = (int)((int64_t)n * b / buckets); i < (int)((int64_t)n * (b + 1) / buckets); i++)
                largest = fmax(largest, qks[i]->of_heads[h]);
            fputs(b ? "," : h ? ",\n[" : "[", f);
            if (isfinite(largest)) fprintf(f, "%.4g", largest);
            else fputs("null", f);
        }
        fputc(']', f);
    }
    fputs("]}", f);
    free(qks);
}

// The end of sample.txt, from the head of a sample on where there is one: "--- step 20 ---". Empty where there is none.
static inline void watch_put_samples(FILE *f, const char *folder) {
    char *path = format("%s/sample.txt", folder), *text = read_file(path, NULL);
    size_t size = text ? strlen(text) : 0;
    const char *from = text ? text : "";
    if (size > WATCH_SAMPLE_BYTES) {
        from = text + size - WATCH_SAMPLE_BYTES;
        const char *head = strstr(from, "\n--- step ");
        if (head) from = head + 1;
        while ((*from & 0xc0) == 0x80) from++;              // not within a character
    }
    fputs(",\n\"samples\": ", f);
    watch_put_text(f, from);
    free(path), free(text);
}

/* Writes watch.run({...}) of the run in `folder`, whose log is read: its id and version as the list of runs has them, the config
 * as pairs of key and value, QK-Clip's tau or null, the curves and the samples. */
static inline void watch_put_run(FILE *f, const char *folder, const RunLog *log, const char *id, const char *version) {
    Flat flat = flat_of(cJSON_GetObjectItemCaseSensitive(log->start, "config"));
    double tau = runlog_tau(log);
    fprintf(f, "watch.run({\"id\": \"%s\", \"version\": \"%s\", \"tau\": ", id, version);
    if (tau > 0) fprintf(f, "%.6g", tau);
    else fputs("null", f);
    fputs(",\n\"config\": [", f);
    for (int i = 0; i < flat.n; i++) {
        fputs(i ? ",\n[" : "[", f);
        watch_put_text(f, flat.keys[i]);
        fputs(", ", f);
        watch_put_text(f, flat.values[i]);
        fputc(']', f);
    }
    fputc(']', f);
    flat_free(&flat);
    watch_put_curves(f, log);
    watch_put_heads(f, log);
    watch_put_samples(f, folder);
    fputs("});\n", f);
}

#endif // WATCH_RUN_H

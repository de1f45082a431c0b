/* corpus.h - what a run trains on and is validated on: the data that its config names, what its tokens are as text, and the
 * sums of a validation.
 *
 * defines: corpus_open, text_bytes, bits_per_byte, sample_start, TokenText, token_text_add, ValidationPart, Validation,
 *          validation_begin, validation_windows, validation_part, validation_add, validation_end, validated_text
 */
#ifndef CORPUS_H
#define CORPUS_H

#include "keys.h"
#include "runlog.h"
#include "../data/dataloader.h"
#include "../data/tokenizer.h"

/* Opens the tokenizer and the shards of data.dir, and sets model.vocab where the config leaves it to them. tokenizer->size is
 * 0 where the data has none. `where` names the config in messages; what can't be opened ends the program. */
static inline void corpus_open(Config *c, const char *where, Tokenizer *tokenizer, DataLoader *data) {
    char error[ERROR_ROOM], *path = tokenizer_path(c->data.dir);
    if (file_exists(path) && (tokenizer_load(tokenizer, path, error, sizeof error) != 0 ||
                              tokenizer_check(tokenizer, path, c->data.dir, error, sizeof error) != 0))
        fail("%s", error);
    if (c->model.vocab == 0) c->model.vocab = tokenizer->size;
    if (c->model.vocab == 0) {
        if (!file_exists(c->data.dir))
            fail("%s: no such folder: `make data` prepares build/data/kjv; data.dir names another", c->data.dir);
        fail_usage("%s: model.vocab: 0, and %s does not exist to tell the vocabulary: give its size", where, path);
    }
    free(path);
    dataloader_open(data, c->data.dir, c->model.context, c->model.vocab, (uint64_t)c->run.seed);
    if (c->data.order != ORDER_BY_DOCUMENTS) return;
    if (tokenizer->size == 0 || tokenizer->eot < 0)
        fail_usage("%s: data.order: documents, but %s has no tokenizer with an end-of-text token", where, c->data.dir);
    if (!dataloader_by_documents(data, tokenizer->eot))
        fail_usage("%s: data.order: documents, but no training shard of %s has an end-of-text token (%d)", where,
                   c->data.dir, tokenizer->eot);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tokens as text

// The bytes of text that n tokens stand for, none for an end-of-text token; 0 without a tokenizer.
static inline double text_bytes(const Tokenizer *t, const int *tokens, int n) {
    double bytes = 0.0;
    for (int i = 0, length; i < n; i++)
        if (tokens[i] != t->eot && tokenizer_token(t, tokens[i], &length)) bytes += length;
    return bytes;
}

// A loss that doesn't depend on the vocabulary. NaN where the bytes aren't known.
static inline double bits_per_byte(double nats, double bytes) { return bytes > 0 ? nats / (log(2.0) * bytes) : NAN; }

// What a text begins with where nobody says it: the end-of-text token that stands before each document, where the model
// was trained by documents; else a line end, or the first token of a vocabulary without one.
static inline int sample_start(const Config *c, const Tokenizer *t) {
    if (c->data.order == ORDER_BY_DOCUMENTS && t->eot >= 0) return t->eot;
    int newline = t->bpe ? (int)t->bpe->byte_id['\n'] : t->byte_id['\n'];
    return newline >= 0 ? newline : 0;
}

// A text that grows by tokens. Begins as {tokenizer, xstrdup(""), 0}; text, of n bytes and a NUL, is the caller's to free.
typedef struct { const Tokenizer *tokenizer; char *text; size_t n; } TokenText;

static inline void token_text_add(void *to, int token) {
    TokenText *t = (TokenText *)to;
    int length = 0;
    const char *bytes = tokenizer_token(t->tokenizer, token, &length);
    if (!bytes) return;
    t->text = (char *)xrealloc(t->text, t->n + (size_t)length + 1);
    memcpy(t->text + t->n, bytes, (size_t)length);
    t->text[t->n += (size_t)length] = '\0';
}

// ---------------------------------------------------------------------------------------------------------------------
// Validation. On the way always the same sample of windows, spread over the split; at the end other windows, of which those
// of the sample are summed up apart, so that both kinds can be compared.

typedef struct {                         // of some windows
    double windows, sampled;             // how many, and how many of them the validations on the way have
    double nats, sample_nats, bytes, class_nats[DATALOADER_CLASSES], class_tokens[DATALOADER_CLASSES];
} ValidationPart;

typedef struct {
    DataLoader *data;
    uint64_t windows, sample;            // how many windows; how many the validations on the way have
    uint64_t first;                      // of the last validation_windows
    ValidationPart sums;
} Validation;

// eval_tokens: of a validation on the way, all_tokens: of this one; 0: the whole split.
static inline Validation validation_begin(DataLoader *data, int64_t eval_tokens, int64_t all_tokens) {
    return (Validation){.data = data, .windows = dataloader_val_windows(data, (uint64_t)all_tokens),
                        .sample = dataloader_val_windows(data, (uint64_t)eval_tokens)};
}

// The windows from number `first` of the validation on, up to `most`: (B, T) tokens. Returns B; 0 where there are no more.
static inline int validation_windows(Validation *v, uint64_t first, int most, int *inputs, int *targets) {
    size_t T = (size_t)v->data->T;
    int B = 0;
    for (v->first = first; B < most && first + (uint64_t)B < v->windows; B++)
        dataloader_val(v->data, dataloader_val_spread(v->data, v->windows, first + (uint64_t)B), inputs + (size_t)B * T, targets + (size_t)B * T);
    return B;
}

// Whether the i-th window is one of those that the validations on the way have.
static inline bool validation_samples(const Validation *v, uint64_t i) {
    uint64_t window = dataloader_val_spread(v->data, v->windows, i), near = window * v->sample / v->data->val_windows;
    for (uint64_t k = near > 0 ? near - 1 : 0; k <= near + 1 && k < v->sample; k++)
        if (dataloader_val_spread(v->data, v->sample, k) == window) return true;
    return false;
}

// What came of the B windows of validation_windows: losses (B, T), their sum is nats. classes: (V) of the tokens, by frequency
// (dataloader_classes).
static inline ValidationPart validation_part(const Validation *v, const Tokenizer *tokenizer, const uint8_t *classes, const int *targets,
                                             const float *losses, int B, double nats) {
    ValidationPart p = {.windows = B, .nats = nats, .bytes = text_bytes(tokenizer, targets, B * v->data->T)};
    for (int b = 0, n = 0; b < B; b++) {
        bool sampled = validation_samples(v, v->first + (uint64_t)b);
        p.sampled += sampled;
        for (int t = 0; t < v->data->T; t++, n++) {
            p.class_nats[classes[targets[n]]] += losses[n];
            p.class_tokens[classes[targets[n]]]++;
            if (sampled) p.sample_nats += losses[n];
        }
    }
    return p;
}

static inline void validation_add(Validation *v, const ValidationPart *p) {
    v->sums.windows += p->windows, v->sums.sampled += p->sampled;
    v->sums.nats += p->nats, v->sums.sample_nats += p->sample_nats, v->sums.bytes += p->bytes;
    for (int i = 0; i < DATALOADER_CLASSES; i++) {
        v->sums.class_nats[i] += p->class_nats[i];
        v->sums.class_tokens[i] += p->class_tokens[i];
    }
}

// The losses of the windows so far: in nats per token, in bits per byte, of the sample alone, by_class (DATALOADER_CLASSES).
static inline RunEval validation_end(const Validation *v, double *by_class) {
    const ValidationPart *s = &v->sums;
    double T = (double)v->data->T, tokens = s->windows * T, loss = s->nats / tokens;
    for (int i = 0; i < DATALOADER_CLASSES; i++) by_class[i] = s->class_tokens[i] > 0 ? s->class_nats[i] / s->class_tokens[i] : NAN;
    return (RunEval){
        .val_loss = loss, .val_bpb = bits_per_byte(s->nats, s->bytes), .eval_tokens = tokens,
        .whole = v->windows == v->data->val_windows,
        .sample_loss = v->windows == v->sample ? loss : s->sampled == (double)v->sample ? s->sample_nats / ((double)v->sample * T) : NAN};
}

// What a validation was of, in words, in a buffer that lives until the next call.
static inline const char *validated_text(const RunEval *e, const DataLoader *d) {
    static char text[128];
    uint64_t all = 0, rest;                              // what fills no window of its shard, beside a first token
    for (int i = 0; i < d->val_shards; i++) all += d->val[i].count - 1;
    rest = all - d->val_windows * (uint64_t)d->T;
    int n = snprintf(text, sizeof text, "%s%.0f tokens", e->whole ? "the whole split, " : "", e->eval_tokens);
    if (e->whole && rest * 50 > all)
        snprintf(text + n, sizeof text - (size_t)n, " without the %llu that fill no window", (unsigned long long)rest);
    return text;
}

#endif // CORPUS_H

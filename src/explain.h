/* explain.h - one optimizer step told in numbers: what came in, and what became of every tensor and every head.
 *
 * defines: Explanation, ExplainSize, explain_step
 *
 * It computes the step on copies of the weights and of the optimizer's state, so that the training it looks at stays the
 * same to the last bit. Two files are written into a folder:
 *
 *     step.md      sections between <!-- explain: NAME --> and <!-- end -->, NAME being batch, sizes, update, spectrum, heads:
 *                  dev/a_step.sh puts them into docs/a-step.md
 *     spectra.csv  tensor,matrix,number,gradient,momentum,update: singular values, the largest first; where a rule cuts matrices
 *                  into heads, a matrix is a head, layer after layer
 */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "markdown.h"
#include "spectrum.h"
#include "util.h"
#include "../data/tokenizer.h"
#include "../muon.h"

typedef struct { const char *letter, *words; int value; } ExplainSize;

typedef struct {
    const char *folder;
    int step, steps;                // which one of how many, from 1
    const Muon *muon;               // after muon_begin_step
    void *scratch;                  // of muon_step_all, for so many threads
    int threads;
    double loss, bpb;               // of the batch, before the step; bpb NaN where the bytes are not known
    double grad_norm;               // of all gradients, before clipping
    const int *inputs, *targets;    // the first n_tokens of the batch
    int n_tokens;
    const Tokenizer *tokenizer;     // size 0: none
    const ExplainSize *sizes;       // n_sizes letters that shapes are made of
    int n_sizes;
    const float *max_logits;        // (layers, heads) the largest attention logit of the step
    int layers, heads;
    double tau;                     // QK-Clip's; 0: off
} Explanation;

// ---------------------------------------------------------------------------------------------------------------------
// What happened to one matrix, or to all copies of a tensor

typedef enum { EXPLAIN_GRADIENT, EXPLAIN_MOMENTUM, EXPLAIN_UPDATE, EXPLAIN_LOOKS } ExplainLook;

typedef struct {
    int tensor, index;
    double weight, change, decay;           // sums of squares: of W, of the step without decay, of what decay took
    double gradient, momentum;              // likewise
    int directions;                         // min(rows, cols), or 0 for a vector
    double *sigma[EXPLAIN_LOOKS];           // `directions` singular values, descending; the update's over the learning rate
                                            // and the scale, which is what the rule made of the momentum
} ExplainedMatrix;

static inline double explain_squares(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

// Singular values of x / unit, descending; zeros where the unit is zero. To be freed.
static inline double *explain_spectrum(const float *x, int rows, int cols, double unit) {
    int n = rows < cols ? rows : cols;
    double *sigma = xmalloc((size_t)n * sizeof *sigma);
    singular_values(sigma, x, rows, cols);
    for (int i = 0; i < n - 1 - i; i++) {
        double swapped = sigma[i];
        sigma[i] = sigma[n - 1 - i];
        sigma[n - 1 - i] = swapped;
    }
    for (int i = 0; i < n; i++) sigma[i] = unit > 0 ? sqrt(sigma[i]) / unit : 0;
    return sigma;
}

// How many matrices a rule takes a copy of the tensor for: its blocks, heads of equal height, where it is cut.
static inline int explain_blocks(const MuonParam *p) {
    return p->blocks[0] && !p->blocks[1] && muon_rule_is_for_matrices(p->rule) ? p->rows / p->blocks[0] : 1;
}

/* Matrix `index` of tensor i, in blocks where there are: m before the step, with its gradients; after is the Muon of copies that has stepped. What
 * muon.h transforms is the momentum with Nesterov's look ahead, where there is one (its head: Direction). */
static inline ExplainedMatrix explain_matrix(const Muon *m, const Muon *after, int i, int index) {
    const MuonParam *p = &m->params[i];
    const MuonOptions *o = p->options ? p->options : &m->options;
    const int blocks = explain_blocks(p), rows = p->rows / blocks;
    const size_t n = (size_t)rows * (size_t)p->cols, at = (size_t)(index / blocks) * p->stride + (size_t)(index % blocks) * n;
    const float *w = p->w + at, *stepped = after->params[i].w + at, *g = p->g + at;
    const bool matrix = rows > 1 && p->cols > 1, transforms = muon_rule_is_for_matrices(p->rule);
    const bool looks_ahead = (muon_rule_uses(p->rule) & MUON_USES_MOMENTUM) && (o->nesterov || o->look_ahead > 0);
    const bool adds_decay = muon_rule_uses(p->rule) & MUON_USES_ADDED_DECAY;
    const double lr = p->rule == MUON_RULE_NONE ? 0 : p->lr * m->lr_factor;
    const double step = lr * (transforms ? muon_update_scale(o, rows, p->cols) : 1);
    const double decay = adds_decay ? 0 : (o->decay_scaled ? step : lr) * p->weight_decay * o->decay_factor;
    double from_g, from_b;
    size_t floats;
    float *b = muon_state(after, i, MUON_SLOT_MOMENTUM, &floats);
    float *change = xmalloc(n * sizeof *change), *momentum = xmalloc(n * sizeof *momentum);
    ExplainedMatrix e = { .tensor = i, .index = index, .directions = !matrix ? 0 : rows < p->cols ? rows : p->cols };
    if (b) b += (size_t)index * n;
    muon_look_ahead(o, after->t, &from_g, &from_b);
    for (size_t k = 0; k < n; k++) {
        double lost = (double)w[k] - stepped[k], scaled = m->grad_scale * g[k] + (adds_decay ? p->weight_decay * w[k] : 0);
        double taken = o->cautious && lost * w[k] < 0 ? 0 : decay * w[k];      // cautious: not where the step makes W larger
        change[k] = (float)(lost - taken);
        momentum[k] = b ? b[k] : (float)scaled;
        if (b && looks_ahead) momentum[k] = (float)(from_b * b[k] + from_g * scaled);
        e.decay += taken * taken;
    }
    e.weight = explain_squares(w, n);
    e.gradient = explain_squares(g, n) * m->grad_scale * m->grad_scale;
    e.momentum = explain_squares(momentum, n);
    e.change = explain_squares(change, n);
    if (matrix) {
        e.sigma[EXPLAIN_GRADIENT] = explain_spectrum(g, rows, p->cols, m->grad_scale > 0 ? 1 / m->grad_scale : 0);
        e.sigma[EXPLAIN_MOMENTUM] = explain_spectrum(momentum, rows, p->cols, 1);
        e.sigma[EXPLAIN_UPDATE] = explain_spectrum(change, rows, p->cols, step);
    }
    free(change), free(momentum);
    return e;
}

static inline void explained_free(ExplainedMatrix *all, int n) {
    for (int i = 0; i < n; i++)
        for (int look = 0; look < EXPLAIN_LOOKS; look++) free(all[i].sigma[look]);
    free(all);
}

// ---------------------------------------------------------------------------------------------------------------------
// The sections of step.md

// A token as a table's cell: quoted, a line's end as \n, what is no printable ASCII, ` and | as \xff.
static inline void explain_token(MarkdownTable *t, const Tokenizer *tokenizer, int id) {
    int length;
    const char *bytes = tokenizer_token(tokenizer, id, &length);
    char *text;
    size_t size;
    FILE *out = text_open(&text, &size);
    if (bytes) fputc('`', out);
    else length = 0;
    for (int i = 0; i < length; i++)
        if (bytes[i] == '\n') fputs("\\n", out);
        else if (bytes[i] < ' ' || bytes[i] > '~' || bytes[i] == '`' || bytes[i] == '|')
            fprintf(out, "\\x%02x", (unsigned char)bytes[i]);
        else fputc(bytes[i], out);
    if (bytes) fputc('`', out);
    text_close(out, &text);
    markdown_cell(t, "%s", text);
    free(text);
}

static inline void explain_batch(FILE *out, const Explanation *e) {
    fprintf(out, "<!-- explain: batch -->\nStep %d of %d. Loss %.4f nats per token", e->step, e->steps, e->loss);
    if (isfinite(e->bpb)) fprintf(out, ", %.4f bits per byte", e->bpb);
    fprintf(out, ". The gradient's norm is %.4f", e->grad_norm);
    if (e->muon->grad_scale < 1) fprintf(out, ", so that clipping multiplies it by %.4f", e->muon->grad_scale);
    else fputs(": clipping leaves it as it is", out);
    fprintf(out, ". The schedule multiplies every learning rate by %.4g.\n\nThe batch begins with\n\n", e->muon->lr_factor);
    MarkdownTable t = { .columns = 1 + e->n_tokens };
    for (int targets = 0; targets < 2; targets++) {
        const int *ids = targets ? e->targets : e->inputs;
        markdown_cell(&t, targets ? "target" : "input");
        for (int i = 0; i < e->n_tokens; i++) markdown_cell(&t, "%d", ids[i]);
        if (!e->tokenizer->size) continue;
        markdown_cell(&t, "%s", "");
        for (int i = 0; i < e->n_tokens; i++) explain_token(&t, e->tokenizer, ids[i]);
    }
    markdown_end(out, &t, false);
    fputs("<!-- end -->\n\n", out);
}

static inline void explain_sizes(FILE *out, const Explanation *e) {
    MarkdownTable t = { .columns = e->n_sizes };
    for (int i = 0; i < e->n_sizes; i++) markdown_cell(&t, "%s", e->sizes[i].letter);
    for (int i = 0; i < e->n_sizes; i++) markdown_cell(&t, "%s", e->sizes[i].words);
    for (int i = 0; i < e->n_sizes; i++) markdown_cell(&t, "%d", e->sizes[i].value);
    fputs("<!-- explain: sizes -->\n", out);
    markdown_end(out, &t, false);
    fputs("<!-- end -->\n\n", out);
}

// Of all copies of a tensor together: norms are roots of sums over all their numbers, RMS of means.
static inline void explain_update(FILE *out, const Muon *m, const ExplainedMatrix *all) {
    MarkdownTable t = markdown_start("tensor\tcopies of (out, in)\trule\tgradient's norm\tmomentum's norm\tweights' RMS\t"
                                     "step's RMS\tdecay's RMS\tstep / weights");
    for (int i = 0; i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        const char *rule = muon_rule_name(p->rule);
        double n = (double)p->count * p->rows * p->cols;
        ExplainedMatrix sum = { 0 };
        for (int k = 0; k < p->count * explain_blocks(p); k++, all++) {
            sum.weight += all->weight, sum.change += all->change, sum.decay += all->decay;
            sum.gradient += all->gradient, sum.momentum += all->momentum;
        }
        markdown_cell(&t, "%s\t%d of %d x %d\t%s\t%.2g\t%.2g\t%.3g\t%.2g\t%.2g", p->name, p->count, p->rows, p->cols,
                      rule ? rule : "", sqrt(sum.gradient), sqrt(sum.momentum), sqrt(sum.weight / n), sqrt(sum.change / n),
                      sqrt(sum.decay / n));
        if (sum.weight > 0) markdown_cell(&t, "%.2g %%", 100 * sqrt(sum.change / sum.weight));
        else markdown_cell(&t, "-");
    }
    fputs("<!-- explain: update -->\n", out);
    markdown_end(out, &t, false);
    fputs("<!-- end -->\n\n", out);
}

// 0 for a matrix of zeros.
static inline double explain_effective_rank(const double *sigma, int n) {
    double *squares = xmalloc((size_t)n * sizeof *squares), entropy;
    for (int i = 0; i < n; i++) squares[i] = sigma[i] * sigma[i];
    entropy = spectrum_entropy(squares, n);
    free(squares);
    return isnan(entropy) ? 0 : exp(entropy);
}

// A tensor's copies, or their heads, each have a spectrum; here are their means.
static inline void explain_spectra(FILE *out, const Muon *m, const ExplainedMatrix *all) {
    MarkdownTable t = markdown_start("tensor\tmomentum: largest singular value\tmedian\tsmallest\teffective rank\t"
                                     "update: largest\tmedian\tsmallest\teffective rank");
    for (int i = 0, count; i < m->n; i++, all += count) {
        int n = all->directions, blocks = explain_blocks(&m->params[i]);
        count = m->params[i].count * blocks;
        if (!n) continue;
        markdown_cell(&t, blocks > 1 ? "%s, head by head" : "%s", m->params[i].name);
        for (int look = EXPLAIN_MOMENTUM; look <= EXPLAIN_UPDATE; look++) {
            double largest = 0, median = 0, smallest = 0, rank = 0;
            for (int k = 0; k < count; k++) {
                const double *sigma = all[k].sigma[look];
                largest += sigma[0] / count, median += sigma[n / 2] / count, smallest += sigma[n - 1] / count;
                rank += explain_effective_rank(sigma, n) / count;
            }
            markdown_cell(&t, "%.2g\t%.2g\t%.2g\t%.0f of %d", largest, median, smallest, rank, n);
        }
    }
    fputs("<!-- explain: spectrum -->\n", out);
    markdown_end(out, &t, false);
    fputs("<!-- end -->\n\n", out);
}

// How many heads a threshold would scale.
static inline int explain_count_above(const Explanation *e, double tau) {
    int count = 0;
    for (int i = 0; i < e->layers * e->heads; i++) count += muon_qk_gamma(e->max_logits[i], tau) < 1;
    return count;
}

static inline void explain_heads(FILE *out, const Explanation *e) {
    const int n = e->layers * e->heads;
    double largest = -INFINITY;
    MarkdownTable t = { .columns = 1 + e->heads };
    markdown_cell(&t, "layer");
    for (int h = 0; h < e->heads; h++) markdown_cell(&t, "head %d", h);
    for (int i = 0; i < n; i++) {
        double gamma = muon_qk_gamma(e->max_logits[i], e->tau);
        largest = fmax(largest, e->max_logits[i]);
        if (i % e->heads == 0) markdown_cell(&t, "%d", i / e->heads);
        if (gamma < 1) markdown_cell(&t, "%.3g, x %.3f", e->max_logits[i], gamma);
        else markdown_cell(&t, "%.3g", e->max_logits[i]);
    }
    fputs("<!-- explain: heads -->\n", out);
    markdown_end(out, &t, false);
    int scaled = explain_count_above(e, e->tau);
    if (e->tau > 0) fprintf(out, "\ntau is %g: QK-Clip scales %d of the %d heads in this step.", e->tau, scaled, n);
    else fprintf(out, "\nQK-Clip is off.");
    if (scaled == 0 && largest > 0)
        fprintf(out, " With a tau of %.3g, half of the largest logit, it would scale %d, the head with the largest by gamma = 0.5.",
                largest / 2, explain_count_above(e, largest / 2));
    fputs("\n<!-- end -->\n", out);
}

// ---------------------------------------------------------------------------------------------------------------------

// Writes what is in the stream, of text_open, to a file of the folder. Returns 0, or the errno.
static inline int explain_write(const Explanation *e, const char *name, FILE *f, char **text, const size_t *size) {
    char *path = format("%s/%s", e->folder, name);
    text_close(f, text);
    int error = write_file(path, *text, *size) == 0 ? 0 : errno;
    free(path), free(*text);
    return error;
}

static inline int explain_files(const Explanation *e, const ExplainedMatrix *all, int n) {
    char *text;
    size_t size;
    if (make_dirs(e->folder) != 0) return errno;
    FILE *f = text_open(&text, &size);
    fprintf(f, "tensor,matrix,number,gradient,momentum,update\n");
    for (int k = 0; k < n; k++)
        for (int j = 0; j < all[k].directions; j++)
            fprintf(f, "%s,%d,%d,%.6g,%.6g,%.6g\n", e->muon->params[all[k].tensor].name, all[k].index, j + 1,
                    all[k].sigma[EXPLAIN_GRADIENT][j], all[k].sigma[EXPLAIN_MOMENTUM][j], all[k].sigma[EXPLAIN_UPDATE][j]);
    int error = explain_write(e, "spectra.csv", f, &text, &size);
    if (error) return error;
    f = text_open(&text, &size);
    explain_batch(f, e);
    explain_sizes(f, e);
    explain_update(f, e->muon, all);
    explain_spectra(f, e->muon, all);
    explain_heads(f, e);
    return explain_write(e, "step.md", f, &text, &size);
}

/* Tells the step that m has begun and not yet taken, into e->folder, which is made. Returns 0, or an errno where that can't
 * be written. Where the step fails there is nothing to tell: the step itself will say so. Costs the step once more, about
 * p^2 (2 q + 2 p) FLOPs in double for each of three looks at a matrix p x q, and while it lasts a copy of the weights and
 * of the optimizer's state. */
static inline int explain_step(const Explanation *e) {
    const Muon *m = e->muon;
    size_t state_bytes = muon_state_bytes(m->params, m->n, &m->options);
    MuonParam *params = xmalloc((size_t)(m->n + 1) * sizeof *params);
    Muon after = *m;
    int n = 0, error = 0;
    after.params = params;
    after.state = xmalloc(state_bytes + 1);
    if (state_bytes) memcpy(after.state, m->state, state_bytes);
    for (int i = 0; i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        size_t floats = (size_t)(p->count - 1) * p->stride + (size_t)p->rows * (size_t)p->cols;
        params[i] = *p;
        params[i].w = xmalloc(floats * sizeof(float));
        memcpy(params[i].w, p->w, floats * sizeof(float));
        n += p->count * explain_blocks(p);
    }
    ExplainedMatrix *all = xcalloc((size_t)n + 1, sizeof *all);
    for (int i = 0, k = 0; i < m->n; i++)
        for (int index = 0; index < m->params[i].count * explain_blocks(&m->params[i]); index++) all[k++] = (ExplainedMatrix){ .tensor = i, .index = index };
    if (muon_step_all(&after, e->scratch, e->threads) == MUON_OK) {
        #pragma omp parallel for schedule(dynamic)
        for (int k = 0; k < n; k++) all[k] = explain_matrix(m, &after, all[k].tensor, all[k].index);
        error = explain_files(e, all, n);
    }
    for (int i = 0; i < m->n; i++) free(params[i].w);
    free(params), free(after.state);
    explained_free(all, n);
    return error;
}

#endif // EXPLAIN_H

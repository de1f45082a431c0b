/* tail-memory.c - do rare facts learn as fast as frequent ones? The one-layer associative memory of arXiv 2509.26030.
 *
 *     build/study_tail-memory FOLDER [quick]      -> CSV files and tail-memory.png; README.md beside this explains
 *
 * K facts: for the k-th input vector, name the k-th output vector. Both sets are orthonormal: the rows of E_in and of
 * E_out, K x K. One matrix W, K x K, from zero, answers with a softmax over row k of the logits E_in W E_out^T; fact k
 * is met with probability p_k, and the loss is the mean of -log of the right answer's probability. (The paper's W is
 * this one transposed.) With D the K x K matrix of rows p_k (softmax - onehot_k), the gradient is E_in^T D E_out.
 *
 * All of it in double: Newton-Schulz too, by muon.h's coefficients, for some reference figures lie so close to a
 * rounding edge that muon_orthogonalize's float changes their last digit. The exact polar factor is muon_svd_power's
 * (float in, double inside, float out). For K = 999, where speed matters more, muon_orthogonalize does both.
 */
#define _GNU_SOURCE
#include "../../../src/gemm.h"
#include "../../../src/markdown.h"
#include "../../../src/plot.h"
#include "../../../src/vec.h"
#define MUON_STATIC
#define MUON_GEMM gemm
#define MUON_GEMM_SYMMETRIC gemm_symmetric
#define MUON_IMPLEMENTATION
#include "../../../muon.h"

enum {
    SWEEP = 121,                    // learning rates, 10 an octave: from 1/64 to 64 times the one where p = 0.9
    STEPS = 150, KEPT_STEPS = 20,   // how many steps are made; all of the first are kept in the CSV, then every tenth
    DOUBLE_UP_TO = 300,             // larger K: muon_orthogonalize, the exact polar factor by 16 steps of exact12
    GROUPS = 8, POWER_STEPS = 12,   // the power law: groups of 1, 1, 2, 4, ... 64 facts, each half as frequent
    SEED = 1,                       // of the random embeddings
};
static const double alpha = 0.8, beta = 0.2;    // a share beta of the facts has the share alpha of the probability
static const double best_reaches = 0.9;         // optimizers are compared where the best fact has this probability

enum { GD, SIGN, ADAM, POLAR, NEWTON_SCHULZ, OPTIMIZERS = NEWTON_SCHULZ + MUON_COEFF_COUNT };
enum { DECOUPLED, COUPLED, RANDOM, EMBEDDINGS };
static const char *const embedding_names[] = { "decoupled", "coupled", "random" };

static const char *optimizer_name(int o) {
    static const char *const names[] = { "gd", "signgd", "adam", "polar" };
    return o < NEWTON_SCHULZ ? names[o] : muon_coefficients(o - NEWTON_SCHULZ)->name;
}

// The learning rates of many steps: the paper's. Muon's and the sign's updates don't shrink with K, a gradient does.
static double learning_rate(int o, int K) {
    return o == GD ? 5.0 * K : o == SIGN || o == ADAM ? 0.05 : 0.5;
}

static const char *folder;

// ---------------------------------------------------------------------------------------------------------------------
// The memory's facts

typedef struct {
    int K, embedding;
    double *p;                              // K
    double *in, *in_t, *out, *out_t;        // K x K: row k of `in` is the k-th input; and transposes
} Facts;

static double *matrix_new(int K) { return (double *)xcalloc((size_t)K * (size_t)K, sizeof(double)); }

static double norm_of(const double *x, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

VEC_PASS(void, add_rows, (double *sum, const double *rows, int stride, const double q[4], int n),
         (sum, rows, stride, q, n)) {
    const double *b = rows + stride, *c = b + stride, *d = c + stride;
    VEC_LOOP for (int j = 0; j < n; j++) sum[j] += q[0] * rows[j] + q[1] * b[j] + q[2] * c[j] + q[3] * d[j];
}

// out = (Q X)^T, all K x K; zeros of Q, such as of block-diagonal embeddings, cost nothing. out overlaps neither.
static void rotate(double *out, const double *Q, const double *X, int K) {
    double *row = (double *)xmalloc((size_t)K * sizeof *row);
    for (int i = 0; i < K; i++) {
        const double *q = Q + (size_t)i * K;
        memset(row, 0, (size_t)K * sizeof *row);
        int k = 0;
        for (; k + 4 <= K; k += 4)
            if (q[k] != 0 || q[k + 1] != 0 || q[k + 2] != 0 || q[k + 3] != 0)
                add_rows(row, X + (size_t)k * K, K, q + k, K);
        for (; k < K; k++)
            for (int j = 0; j < K; j++) row[j] += q[k] * X[(size_t)k * K + j];
        for (int j = 0; j < K; j++) out[(size_t)j * K + i] = row[j];
    }
    free(row);
}

static void transpose(double *out, const double *x, int K) {
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) out[(size_t)j * K + i] = x[(size_t)i * K + j];
}

// x <- steps of Newton-Schulz on x / (c->norm |x|), as muon_orthogonalize; y, a and aa are K x K of scratch.
static void newton_schulz(double *x, const MuonCoefficients *c, int K, double *y, double *a, double *aa) {
    size_t n = (size_t)K * (size_t)K;
    double norm = c->norm * norm_of(x, n);
    for (size_t i = 0; i < n; i++) x[i] /= norm;
    for (int s = 0; s < c->steps; s++) {
        const double *abc = c->abc[s < c->rows ? s : c->rows - 1];
        transpose(y, x, K);
        rotate(a, x, y, K);                                     // X X^T, symmetric
        rotate(aa, a, a, K);
        for (size_t i = 0; i < n; i++) a[i] = abc[1] * a[i] + abc[2] * aa[i] + (i % (K + 1) == 0 ? abc[0] : 0);
        rotate(y, a, x, K);                                     // (a I + b A + c A A) X, transposed
        transpose(x, y, K);
    }
}

// The rotation by Euler's angles a, b, c about z, y, z.
static void rotation(double r[9], double a, double b, double c) {
    const double entries[9] = {
        cos(a) * cos(b) * cos(c) - sin(a) * sin(c), -cos(a) * cos(b) * sin(c) - sin(a) * cos(c), cos(a) * sin(b),
        sin(a) * cos(b) * cos(c) + cos(a) * sin(c), -sin(a) * cos(b) * sin(c) + cos(a) * cos(c), sin(a) * sin(b),
        -sin(b) * cos(c), sin(b) * sin(c), cos(b) };
    memcpy(r, entries, sizeof entries);
}

// x: column k is the embedding of fact k. Decoupled: one coordinate each. Coupled: three facts share three coordinates,
// by the paper's angles. Random: an orthonormal basis (Gram and Schmidt, twice, of a Gaussian matrix).
static void embed(double *x, int K, int embedding, bool output) {
    double r[9];
    rotation(r, output ? 3.638 : 1.715, output ? 2.949 : 0.876, output ? 5.218 : 3.098);
    for (int i = 0; i < K; i++) {
        double *row = x + (size_t)i * K;
        if (embedding == DECOUPLED) row[i] = 1;
        else if (embedding == COUPLED) memcpy(row + i / 3 * 3, r + i % 3 * 3, 3 * sizeof *r);
        else for (int j = 0; j < K; j++) row[j] = normal_of(hash64(hash64(SEED, output), (uint64_t)i * K + j));
        for (int again = 0; embedding == RANDOM && again < 2; again++) {
            for (int k = 0; k < i; k++) {
                double dot = 0;
                for (int j = 0; j < K; j++) dot += row[j] * x[(size_t)k * K + j];
                for (int j = 0; j < K; j++) row[j] -= dot * x[(size_t)k * K + j];
            }
            double norm = norm_of(row, (size_t)K);
            for (int j = 0; j < K; j++) row[j] /= norm;
        }
    }
}

static Facts facts_new(int K, int embedding) {
    Facts f = { K, embedding, (double *)xcalloc((size_t)K, sizeof(double)), matrix_new(K), matrix_new(K),
                matrix_new(K), matrix_new(K) };
    int head = (int)lround(beta * K);
    for (int k = 0; k < K; k++) f.p[k] = k < head ? alpha / head : (1 - alpha) / (K - head);
    embed(f.in_t, K, embedding, false);
    embed(f.out_t, K, embedding, true);
    transpose(f.in, f.in_t, K);
    transpose(f.out, f.out_t, K);
    return f;
}

static int group_of(int k) {                // 0 | 1 | 2 3 | 4 ... 7 | ...
    int g = 0;
    while (1 << g <= k) g++;
    return g;
}

static Facts power_law_facts(int embedding) {
    Facts f = facts_new(1 << (GROUPS - 1), embedding);
    double sum = 0;
    for (int k = 0; k < f.K; k++) sum += f.p[k] = pow(2, -group_of(k));
    for (int k = 0; k < f.K; k++) f.p[k] /= sum;
    return f;
}

static void facts_free(Facts *f) {
    free(f->p), free(f->in), free(f->in_t), free(f->out), free(f->out_t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Learning

typedef struct {
    const Facts *f;
    int optimizer, t;
    double *w, *g, *u, *logits, *half;      // K x K: weights, gradient, update, logits; half a product
    double *m, *v;                          // Adam's moments; m also scratch of Newton-Schulz
    float *x;                               // the update as muon.h takes it
    void *scratch;
} Learner;

static Learner learner_new(const Facts *f, int optimizer) {
    int K = f->K;
    size_t svd = muon_svd_power_bytes(K, K), products = muon_orthogonalize_bytes(K, K);
    Learner l = { f, optimizer, 0, matrix_new(K), matrix_new(K), matrix_new(K), matrix_new(K), matrix_new(K),
                  matrix_new(K), matrix_new(K), (float *)xaligned((size_t)K * (size_t)K * sizeof(float)),
                  xaligned(svd > products ? svd : products) };
    return l;
}

static void learner_free(Learner *l) {
    free(l->w), free(l->g), free(l->u), free(l->logits), free(l->half), free(l->m), free(l->v), free(l->x);
    free(l->scratch);
    gemm_free();                            // of this thread
}

typedef struct { double loss, worst, best; int worst_fact; } Outcome;     // worst, best: probabilities of facts

// Of logits times `scale`. d, where not NULL, gets p_k (softmax - onehot_k), the right answer's as minus the sum of the
// others, which stays exact where the softmax is 1; right, where not NULL, the K probabilities of the right answers.
static Outcome outcome_of(const Facts *f, const double *logits, double scale, double *d, double *right) {
    int K = f->K;
    Outcome o = { 0, 1, 0, 0 };
    for (int k = 0; k < K; k++) {
        const double *row = logits + (size_t)k * K;
        double most = -INFINITY, others = 0, own;
        for (int j = 0; j < K; j++) most = fmax(most, scale * row[j]);
        for (int j = 0; j < K; j++) others += j == k ? 0 : exp(scale * row[j] - most);
        own = exp(scale * row[k] - most);
        double probability = own / (own + others);
        o.loss += f->p[k] * (log(own + others) + most - scale * row[k]);
        if (probability < o.worst) o.worst = probability, o.worst_fact = k;
        o.best = fmax(o.best, probability);
        if (right) right[k] = probability;
        for (int j = 0; d && j < K; j++)
            d[(size_t)k * K + j] = f->p[k] * (j == k ? -others : exp(scale * row[j] - most)) / (own + others);
    }
    return o;
}

static void logits_of(Learner *l, const double *w) {
    rotate(l->half, l->f->in, w, l->f->K);                      // (E_in W)^T
    rotate(l->logits, l->f->out, l->half, l->f->K);             // (E_out W^T E_in^T)^T
}

static void check(int code) {
    if (code != MUON_OK) fail("muon.h: %s", muon_strerror(code));
}

// u: what the optimizer makes of the gradient g.
static void update_of(Learner *l) {
    static const double beta1 = 0.9, beta2 = 0.95, eps = 1e-12;       // gradients of learnt facts are tiny
    int K = l->f->K, o = l->optimizer;
    size_t n = (size_t)K * (size_t)K;
    double norm = norm_of(l->g, n);
    l->t++;
    double unseen1 = pow(beta1, l->t), unseen2 = pow(beta2, l->t);
    for (size_t i = 0; i < n; i++) {
        double g = l->g[i];
        if (o == GD) l->u[i] = g;
        else if (o == SIGN) l->u[i] = (g > 0) - (g < 0);
        else if (o >= POLAR) l->x[i] = (float)(g / norm);
        else {
            l->m[i] = beta1 * l->m[i] + (1 - beta1) * g;
            l->v[i] = beta2 * l->v[i] + (1 - beta2) * g * g;
            l->u[i] = l->m[i] / (1 - unseen1) / (sqrt(l->v[i] / (1 - unseen2)) + eps);
        }
    }
    if (o < POLAR) return;
    const MuonCoefficients *c = muon_coefficients(o == POLAR ? MUON_COEFF_EXACT12 : o - NEWTON_SCHULZ);
    if (o > POLAR && K <= DOUBLE_UP_TO) {
        memcpy(l->u, l->g, n * sizeof *l->u);
        newton_schulz(l->u, c, K, l->half, l->logits, l->m);
        return;
    }
    if (o == POLAR && K <= DOUBLE_UP_TO) check(muon_svd_power(l->x, K, K, 0, l->scratch));
    else check(muon_orthogonalize(l->x, K, K, c, o == POLAR ? 16 : c->steps, l->scratch));
    for (size_t i = 0; i < n; i++) l->u[i] = l->x[i];
}

// The loss with the present weights, and u.
static Outcome learner_look(Learner *l, double *right) {
    logits_of(l, l->w);
    double *d = l->u;                                           // not yet needed for the update
    Outcome o = outcome_of(l->f, l->logits, 1, d, right);
    rotate(l->half, l->f->in_t, d, l->f->K);
    rotate(l->g, l->f->out_t, l->half, l->f->K);                // E_in^T D E_out
    update_of(l);
    return o;
}

static void learner_step(Learner *l, double lr) {
    for (size_t i = 0; i < (size_t)l->f->K * (size_t)l->f->K; i++) l->w[i] -= lr * l->u[i];
}

// ---------------------------------------------------------------------------------------------------------------------
// One step, many steps, the power law

typedef struct {
    double lr, peak;                        // where the best fact has p = 0.9; the largest gap of the sweep
    Outcome at;
    double loss[SWEEP], gap[SWEEP];         // from the largest learning rate to the smallest
} OneStep;

static double sweep_rate(double lr, double i) { return lr * pow(2, 6 - i / 10); }

static double gap_at(const Learner *l, double lr, double *loss) {
    Outcome o = outcome_of(l->f, l->logits, -lr, NULL, NULL);
    if (loss) *loss = o.loss;
    return o.best - o.worst;
}

static void one_step(OneStep *r, const Facts *f, int optimizer) {
    Learner l = learner_new(f, optimizer);
    learner_look(&l, NULL);
    logits_of(&l, l.u);                                         // of one step with a learning rate of -1
    double lo = 0, hi = 1e-3;
    while (outcome_of(f, l.logits, -hi, NULL, NULL).best < best_reaches) hi *= 2;
    for (int i = 0; i < 50; i++) {
        double middle = (lo + hi) / 2;
        *(outcome_of(f, l.logits, -middle, NULL, NULL).best < best_reaches ? &lo : &hi) = middle;
    }
    r->lr = hi;
    r->at = outcome_of(f, l.logits, -hi, NULL, NULL);
    int widest = 0;
    for (int i = 0; i < SWEEP; i++) {
        r->gap[i] = gap_at(&l, sweep_rate(r->lr, i), &r->loss[i]);
        if (r->gap[i] > r->gap[widest]) widest = i;
    }
    r->peak = r->gap[widest];
    for (int i = -9; i <= 9; i++) r->peak = fmax(r->peak, gap_at(&l, sweep_rate(r->lr, widest + i / 10.0), NULL));
    learner_free(&l);
}

typedef struct { Outcome at[STEPS + 1]; double gap[STEPS + 1], peak; int peak_step; } ManySteps;

static void many_steps(ManySteps *r, const Facts *f, int optimizer) {
    Learner l = learner_new(f, optimizer);
    r->peak = 0;
    for (int t = 0; t <= STEPS; t++) {
        r->at[t] = learner_look(&l, NULL);
        r->gap[t] = r->at[t].best - r->at[t].worst;
        if (r->gap[t] > r->peak) r->peak = r->gap[t], r->peak_step = t;
        learner_step(&l, learning_rate(optimizer, f->K));
    }
    learner_free(&l);
}

// right: the mean probability of the right answer for each group of facts.
static void power_law(double right[GROUPS], const Facts *f, int optimizer) {
    Learner l = learner_new(f, optimizer);
    double *each = (double *)xcalloc((size_t)f->K, sizeof *each);
    for (int t = 0; t <= POWER_STEPS; t++) {
        learner_look(&l, each);
        learner_step(&l, optimizer == GD ? 30 : optimizer == SIGN || optimizer == ADAM ? 0.25 : 0.5);
    }
    memset(right, 0, GROUPS * sizeof *right);
    for (int k = 0; k < f->K; k++) right[group_of(k)] += each[k] / (k == 0 ? 1 : 1 << (group_of(k) - 1));
    free(each);
    learner_free(&l);
}

// ---------------------------------------------------------------------------------------------------------------------
// What must come out

static int missed;

static void must(bool holds, const char *claim) {
    printf("%s: %s\n", holds ? "holds" : "DOES NOT HOLD", claim);
    missed += !holds;
}

// The value rounds to the printed one: it lies within half a unit of its last digit.
static void expect(double value, const char *printed, const char *what, int K, int embedding, const char *of) {
    if (alpha != 0.8 || beta != 0.2 || best_reaches != 0.9) return;         // another experiment than the reference's
    double unit = pow(10, 1 - (double)strlen(strchr(printed, '.'))), off = (value - atof(printed)) / unit;
    if (off >= -0.5 && off <= 0.5) return;
    printf("NOT AS EXPECTED: %s of %s, %s, K = %d: %.6f, not %s\n", what, of, embedding_names[embedding], K, value,
           printed);
    missed++;
}

enum { KELLER = NEWTON_SCHULZ + MUON_COEFF_KELLER, POLAR_EXPRESS = NEWTON_SCHULZ + MUON_COEFF_POLAR_EXPRESS };

// From an independent program (numpy, float64, exact SVD), rounded. NULL: the gap grows up to learning rates far beyond
// the sweep, where the loss has long risen again.
static const struct { int K, embedding, optimizer; const char *loss, *worst, *peak; } one_step_reference[] = {
    { 99, DECOUPLED, GD, ".919", ".0154", ".978" }, { 99, COUPLED, GD, ".919", ".0154", ".978" },
    { 300, DECOUPLED, GD, "1.127", ".0054", ".992" }, { 300, COUPLED, GD, "1.127", ".0054", ".992" },
    { 99, DECOUPLED, SIGN, ".105", ".9000", ".000" }, { 99, COUPLED, SIGN, ".727", ".0651", "1.000" },
    { 300, DECOUPLED, SIGN, ".105", ".900", ".000" }, { 300, COUPLED, SIGN, ".863", ".288", NULL },
    { 99, DECOUPLED, POLAR, ".106", ".8955", ".0087" }, { 99, COUPLED, POLAR, ".106", ".8955", ".0087" },
    { 300, DECOUPLED, POLAR, ".106", ".8983", ".0035" }, { 300, COUPLED, POLAR, ".106", ".8983", ".0035" },
    { 99, DECOUPLED, KELLER, ".363", ".652", ".304" }, { 300, DECOUPLED, KELLER, ".167", ".834", ".113" },
    { 99, DECOUPLED, POLAR_EXPRESS, ".1255", ".878", ".041" },
    { 300, DECOUPLED, POLAR_EXPRESS, ".167", ".662", ".304" },
};
static const struct { int optimizer; const char *worst, *best; } ten_steps_reference[] = {       // K = 99, decoupled
    { POLAR, ".599", ".608" }, { KELLER, ".279", ".484" }, { POLAR_EXPRESS, ".458", ".514" }, { GD, ".882", "1.0" },
};
static const struct { int optimizer; const char *right[GROUPS]; } power_law_reference[] = {
    { GD, { ".989", ".975", ".938", ".817", ".407", ".083", ".027", ".014" } },
    { POLAR, { ".765", ".765", ".765", ".765", ".764", ".764", ".762", ".756" } },
};

// ---------------------------------------------------------------------------------------------------------------------
// Tables (standard output, Markdown), CSV files, the picture

typedef struct { FILE *file; char *name, *text; size_t size; } Csv;

static void csv_open(Csv *c, const char *name, const char *columns) {
    c->name = format("%s/%s.csv", folder, name);
    c->file = text_open(&c->text, &c->size);
    fprintf(c->file, "%s\n", columns);
}

static void csv_close(Csv *c) {
    text_close(c->file, &c->text);
    if (write_file(c->name, c->text, c->size) != 0) fail("%s: %s", c->name, strerror(errno));
    free(c->name), free(c->text);
}

static void study_one_step(OneStep (*r)[OPTIMIZERS], int K, Csv *table, Csv *sweep) {
    Facts facts[EMBEDDINGS];
    for (int e = 0; e < EMBEDDINGS; e++) facts[e] = facts_new(K, e);
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (int e = 0; e < EMBEDDINGS; e++)
        for (int o = 0; o < OPTIMIZERS; o++) one_step(&r[e][o], &facts[e], o);
    MarkdownTable t = { .columns = 7 };
    markdown_cell(&t, "K = %d, one step\tembeddings\tlearning rate\tloss\tworst p\tof fact\tlargest gap", K);
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int e = 0; e < EMBEDDINGS; e++) {
            const OneStep *s = &r[e][o];
            markdown_cell(&t, "%s\t%s\t%.4g\t%.3f\t%.4f\t%d\t%.4f", optimizer_name(o), embedding_names[e], s->lr,
                          s->at.loss, s->at.worst, s->at.worst_fact, s->peak);
            fprintf(table->file, "%d,%s,%s,%.5g,%.5f,%.5f,%d,%.5f\n", K, embedding_names[e], optimizer_name(o),
                    s->lr, s->at.loss, s->at.worst, s->at.worst_fact, s->peak);
            for (int i = 0; K == 99 && i < SWEEP; i += 4)
                fprintf(sweep->file, "%d,%s,%s,%.4g,%.4f,%.4f\n", K, embedding_names[e], optimizer_name(o),
                        sweep_rate(s->lr, i), s->loss[i], s->gap[i]);
        }
    printf("\n");
    markdown_end(stdout, &t, false);
    for (size_t i = 0; i < COUNT_OF(one_step_reference); i++) {
        if (one_step_reference[i].K != K) continue;
        int e = one_step_reference[i].embedding, o = one_step_reference[i].optimizer;
        const OneStep *s = &r[e][o];
        expect(s->at.loss, one_step_reference[i].loss, "loss", K, e, optimizer_name(o));
        expect(s->at.worst, one_step_reference[i].worst, "worst p", K, e, optimizer_name(o));
        if (one_step_reference[i].peak)
            expect(s->peak, one_step_reference[i].peak, "largest gap", K, e, optimizer_name(o));
    }
    for (int e = 0; e < EMBEDDINGS; e++) facts_free(&facts[e]);
}

// The gradient at W = 0 has three distinct singular values that aren't zero: those of D = diag(p) (J / K - I).
static void study_singular_values(int K, Csv *table) {
    int head = (int)lround(beta * K);
    double often = alpha / head, rarely = (1 - alpha) / (K - head), share = (double)head / K;
    double values[3] = { often, sqrt(often * often * (1 - share) + rarely * rarely * share), rarely };
    double norm = sqrt((double)(K - 1) / K * (head * often * often + (K - head) * rarely * rarely));
    MarkdownTable t = { .columns = 4 };
    markdown_cell(&t, "K = %d, singular values\tx %d\tx 1\tx %d", K, head - 1, K - head - 1);
    markdown_cell(&t, "gradient, over its norm\t%.4f\t%.4f\t%.5f", values[0] / norm, values[1] / norm, values[2] / norm);
    for (int set = 0; set < MUON_COEFF_COUNT; set++) {
        const MuonCoefficients *c = muon_coefficients(set);
        double after[3];
        for (int i = 0; i < 3; i++) after[i] = muon_phi(c, c->steps, values[i] / norm);
        markdown_cell(&t, "%s, %d steps\t%.3f\t%.3f\t%.3f", c->name, c->steps, after[0], after[1], after[2]);
        fprintf(table->file, "%d,%s,%d,%.5f,%.5f,%.5f\n", K, c->name, c->steps, after[0], after[1], after[2]);
        static const char *const keller[] = { ".721", ".755", ".946" }, *const express[] = { ".866", "1.055", ".911" };
        for (int i = 0; i < 3 && K == 99 && set <= MUON_COEFF_POLAR_EXPRESS; i++)
            expect(after[i], (set == MUON_COEFF_KELLER ? keller : express)[i], "singular value", K, DECOUPLED, c->name);
    }
    printf("\n");
    markdown_end(stdout, &t, false);
}

static void study_many_steps(ManySteps (*r)[OPTIMIZERS], int K, Csv *table, Csv *steps) {
    Facts facts[] = { facts_new(K, DECOUPLED), facts_new(K, COUPLED) };
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (int e = DECOUPLED; e <= COUPLED; e++)
        for (int o = 0; o < OPTIMIZERS; o++) many_steps(&r[e][o], &facts[e], o);
    MarkdownTable t = { .columns = 7 };
    markdown_cell(&t, "K = %d, many steps\tembeddings\tlearning rate\tp of worst, best after 10\tloss after 100\tlargest gap\tat step", K);
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int e = DECOUPLED; e <= COUPLED; e++) {
            const ManySteps *s = &r[e][o];
            markdown_cell(&t, "%s\t%s\t%.4g\t%.3f, %.3f\t%.2g\t%.3f\t%d", optimizer_name(o), embedding_names[e],
                          learning_rate(o, K), s->at[10].worst, s->at[10].best, s->at[100].loss, s->peak, s->peak_step);
            fprintf(table->file, "%d,%s,%s,%.4g,%.5f,%.5f,%.4g,%.5f,%d\n", K, embedding_names[e], optimizer_name(o),
                    learning_rate(o, K), s->at[10].worst, s->at[10].best, s->at[100].loss, s->peak, s->peak_step);
            for (int step = 0; step <= STEPS; step++)
                if (step <= KEPT_STEPS || step % 10 == 0)
                    fprintf(steps->file, "%d,%s,%s,%d,%.4g,%.4f,%.4f\n", K, embedding_names[e], optimizer_name(o), step,
                            s->at[step].loss, s->at[step].worst, s->at[step].best);
        }
    printf("\n");
    markdown_end(stdout, &t, false);
    for (size_t i = 0; K == 99 && i < COUNT_OF(ten_steps_reference); i++) {
        int o = ten_steps_reference[i].optimizer;
        expect(r[DECOUPLED][o].at[10].worst, ten_steps_reference[i].worst, "worst p", K, DECOUPLED, optimizer_name(o));
        expect(r[DECOUPLED][o].at[10].best, ten_steps_reference[i].best, "best p", K, DECOUPLED, optimizer_name(o));
    }
    if (K == 99) {
        expect(r[DECOUPLED][GD].peak, ".966", "largest gap", K, DECOUPLED, "gd");
        expect(r[COUPLED][SIGN].gap[40], ".605", "gap at step 40", K, COUPLED, "signgd");
        expect(r[COUPLED][SIGN].peak, ".722", "largest gap", K, COUPLED, "signgd");
    }
    facts_free(&facts[0]), facts_free(&facts[1]);
}

static void study_power_law(double (*r)[OPTIMIZERS][GROUPS], Csv *table) {
    static const int embeddings[] = { DECOUPLED, RANDOM };
    Facts facts[] = { power_law_facts(DECOUPLED), power_law_facts(RANDOM) };
    int K = facts[0].K;
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (int e = 0; e < 2; e++)
        for (int o = 0; o < OPTIMIZERS; o++) power_law(r[e][o], &facts[e], o);
    MarkdownTable t = { .columns = GROUPS + 2 };
    markdown_cell(&t, "K = %d, power law\tembeddings", K);
    for (int g = 0; g < GROUPS; g++) markdown_cell(&t, "%d of 1/%d", g ? 1 << (g - 1) : 1, 1 << g);
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int e = 0; e < 2; e++) {
            markdown_cell(&t, "%s\t%s", optimizer_name(o), embedding_names[embeddings[e]]);
            fprintf(table->file, "%s,%s", embedding_names[embeddings[e]], optimizer_name(o));
            for (int g = 0; g < GROUPS; g++) {
                markdown_cell(&t, "%.3f", r[e][o][g]);
                fprintf(table->file, ",%.5f", r[e][o][g]);
            }
            fprintf(table->file, "\n");
        }
    printf("\n");
    markdown_end(stdout, &t, false);
    for (size_t i = 0; i < COUNT_OF(power_law_reference); i++)
        for (int g = 0; g < GROUPS; g++)
            expect(r[0][power_law_reference[i].optimizer][g], power_law_reference[i].right[g], "p of a group", K,
                   DECOUPLED, optimizer_name(power_law_reference[i].optimizer));
    facts_free(&facts[0]), facts_free(&facts[1]);
}

// Of K = 99. The polynomials that end at 1 (quintic, cubic, exact12) would lie on "polar": one stands for them.
static void draw(OneStep (*one)[OPTIMIZERS], ManySteps (*many)[OPTIMIZERS], const char *path) {
    static const struct { int optimizer; const char *label; unsigned style; } shown[] = {
        { GD, "gradient descent", PLOT_LINE }, { SIGN, "sign of the gradient", PLOT_LINE },
        { ADAM, "adam", PLOT_DASHED }, { KELLER, "muon, keller x 5", PLOT_LINE },
        { POLAR_EXPRESS, "muon, polar_express x 5", PLOT_LINE }, { POLAR, "muon, exact U V^T", PLOT_LINE },
        { NEWTON_SCHULZ + MUON_COEFF_EXACT12, "muon, exact12", PLOT_DASHED },
    };
    PlotSeries series[2][2][COUNT_OF(shown)];
    PlotPanel panels[4];
    double step[STEPS + 1];
    const char *names[COUNT_OF(shown)];
    int colors[COUNT_OF(shown)];
    for (size_t i = 0; i < COUNT_OF(shown); i++) names[i] = shown[i].label;
    plot_choose_colors(names, COUNT_OF(shown), colors);
    for (int t = 0; t <= STEPS; t++) step[t] = t;
    for (int row = 0; row < 2; row++)
        for (int e = DECOUPLED; e <= COUPLED; e++) {
            for (size_t i = 0; i < COUNT_OF(shown); i++) {
                int o = shown[i].optimizer, lowest = 0;         // no longer a step than the one of the lowest loss
                for (int k = 0; k < SWEEP; k++)
                    if (one[e][o].loss[k] < one[e][o].loss[lowest]) lowest = k;
                series[row][e][i] = (PlotSeries){
                    .label = shown[i].label, .x = row ? step : one[e][o].loss + lowest,
                    .y = row ? many[e][o].gap : one[e][o].gap + lowest, .n = row ? STEPS + 1 : SWEEP - lowest,
                    .color = colors[i], .style = shown[i].style };
            }
            panels[2 * row + e] = (PlotPanel){
                .title = row ? e ? "many steps, coupled embeddings" : "many steps, decoupled embeddings"
                             : e ? "one step, coupled embeddings" : "one step, decoupled embeddings",
                .xlabel = row ? "step" : "loss after the step, its length varied", .ylabel = "gap: best p - worst p",
                .ymin = 0, .ymax = 1.02, .xmin = 0, .xmax = row ? STEPS : log(99),
                .series = series[row][e], .n_series = COUNT_OF(shown) };
        }
    if (plot_png_small(path, "How far the best learnt of 99 facts is ahead of the worst", panels, 4, 2, 900, 700) != 0)
        fail("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv) {
    program_begin();
    bool quick = argc == 3 && strcmp(argv[2], "quick") == 0;
    if (argc < 2 || argv[1][0] == '-' || (argc > 2 && !quick)) fail_usage("usage: study_tail-memory FOLDER [quick]");
    folder = argv[1];
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
    setvbuf(stdout, NULL, _IOLBF, 0);
    static const int sizes[] = { 99, 300, 999 };
    int n_sizes = quick ? 1 : COUNT_OF(sizes);
    static OneStep one[COUNT_OF(sizes)][EMBEDDINGS][OPTIMIZERS];
    static ManySteps many[COUNT_OF(sizes)][2][OPTIMIZERS];
    static double power[2][OPTIMIZERS][GROUPS];
    Csv table, detail;

    csv_open(&table, "singular_values", "K,coefficients,steps,head,one,tail");
    for (int i = 0; i < n_sizes; i++) study_singular_values(sizes[i], &table);
    csv_close(&table);
    csv_open(&table, "one_step", "K,embeddings,optimizer,lr,loss,worst_p,worst_fact,largest_gap");
    csv_open(&detail, "sweep", "K,embeddings,optimizer,lr,loss,gap");
    for (int i = 0; i < n_sizes; i++) study_one_step(one[i], sizes[i], &table, &detail);
    csv_close(&table), csv_close(&detail);
    csv_open(&table, "many_steps", "K,embeddings,optimizer,lr,worst_p_10,best_p_10,loss_100,largest_gap,at_step");
    csv_open(&detail, "steps", "K,embeddings,optimizer,step,loss,worst_p,best_p");
    for (int i = 0; i < n_sizes && sizes[i] == 99; i++) study_many_steps(many[i], sizes[i], &table, &detail);
    csv_close(&table), csv_close(&detail);
    csv_open(&table, "power_law", "embeddings,optimizer,1,1/2,1/4,1/8,1/16,1/32,1/64,1/128");
    study_power_law(power, &table);
    csv_close(&table);
    char *path = format("%s/tail-memory.png", folder);
    draw(one[0], many[0], path);
    free(path);

    printf("\n");
    for (int i = 0; i < n_sizes; i++) {
        OneStep (*r)[OPTIMIZERS] = one[i];
        printf("K = %d, where the best fact has p = 0.9\n", sizes[i]);
        must(r[DECOUPLED][GD].at.worst < 0.03 && r[COUPLED][GD].at.worst < 0.03 && r[RANDOM][GD].at.worst < 0.03,
             "gradient descent has hardly begun with the worst one, whatever the embeddings");
        must(r[DECOUPLED][POLAR].at.worst > 0.89 && r[COUPLED][POLAR].at.worst > 0.89
             && r[RANDOM][POLAR].at.worst > 0.89,
             "with the exact polar factor the worst one has p > 0.89, whatever the embeddings");
        must(r[DECOUPLED][SIGN].at.worst > 0.89 && r[COUPLED][SIGN].at.worst < 0.5,
             "the sign is balanced with decoupled embeddings, not with coupled ones");
        must(r[DECOUPLED][KELLER].at.worst < r[DECOUPLED][POLAR].at.worst - 0.01
             && r[DECOUPLED][NEWTON_SCHULZ + MUON_COEFF_EXACT12].at.worst > 0.89,
             "keller's five steps are less balanced than the exact factor; exact12 is as balanced");
    }
    const ManySteps *decoupled = many[0][DECOUPLED], *coupled = many[0][COUPLED];
    must(decoupled[POLAR].peak < 0.02 && coupled[POLAR].peak < 0.02 && decoupled[GD].peak > 0.9
         && coupled[SIGN].peak > 0.5 && coupled[SIGN].gap[STEPS] < 0.01,
         "over many steps: the exact factor's gap stays small, gradient descent's doesn't, the sign's closes at last");
    if (missed) fail("%d of the expected results were missed", missed);
    return 0;
}

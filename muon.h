/* muon.h - the Muon optimizer, with AdamW for what Muon is not for and QK-Clip, for any C or C++ program.

   Put this line in exactly one source file; every other file includes muon.h without it:

       #define MUON_IMPLEMENTATION
       #include "muon.h"

   defines: MuonParam, MuonOptions, MuonCoefficients, Muon; muon_default_options, muon_state_bytes, muon_scratch_bytes,
            muon_init, muon_begin_step, muon_step_one, muon_step, muon_grad_norm, muon_state; muon_orthogonalize,
            muon_orthogonalize_bytes, muon_coefficients, muon_phi, muon_scale; muon_qk_gamma, muon_qk_clip;
            muon_rule_name, muon_scale_name, muon_strerror

   What Muon is: the gradient of a matrix is usually dominated by a few singular directions. Muon keeps a momentum of
   it and, before stepping, replaces every singular value by (about) one: U S V^T becomes U V^T, the steepest descent
   direction under the spectral norm. Every direction the gradient has seen learns at the same pace, the rare ones too.
   The orthogonal factor comes from a few Newton-Schulz steps, which are matrix products only.

   ====================================================================================================================
   A complete program: a matrix by Muon, a vector by AdamW. Build: cc example.c -lm

--- example.c begins ---
#define MUON_IMPLEMENTATION
#include "muon.h"
#include <stdio.h>
#include <stdlib.h>
enum { ROWS = 16, COLS = 32, STEPS = 200 };
static float W[ROWS * COLS], dW[ROWS * COLS], b[ROWS], db[ROWS];   // weights from zero, gradients
static float loss_and_gradients(void) {   // half the squared distance to a target whose columns count 1, 1/2, ... 1/32
    float loss = 0.0f;
    for (int i = 0; i < ROWS; i++) {
        db[i] = b[i] - 1.0f;
        loss += 0.5f * db[i] * db[i];
        for (int j = 0; j < COLS; j++) {
            float distance = W[i * COLS + j] - sinf((float)(i * j));
            dW[i * COLS + j] = distance / (float)(1 + j);
            loss += 0.5f * distance * dW[i * COLS + j];
        }
    }
    return loss;
}
int main(void) {
    MuonParam params[] = {   // name, weights, gradients, count, rows, cols, stride, rule, learning rate, weight decay
        { "W", W, dW, 1, ROWS, COLS, 0, MUON_RULE_MUON, 0.2, 0.0 },
        { "b", b, db, 1, 1, ROWS, 0, MUON_RULE_ADAMW, 0.05, 0.0 } };
    MuonOptions options = muon_default_options();
    void *memory = malloc(muon_state_bytes(params, 2, &options));
    void *scratch = malloc(muon_scratch_bytes(params, 2, &options));
    Muon m;
    int error = muon_init(&m, params, 2, &options, memory);
    for (int step = 0; step <= STEPS && !error; step++) {
        float loss = loss_and_gradients();
        if (step % 20 == 0) printf("step %3d  loss %.6f\n", step, loss);
        error = muon_step(&m, 1.0 - (double)step / (double)STEPS, 1.0, scratch);   // the learning rate falls to zero
    }
    if (error) printf("%s\n", muon_strerror(error));
    free(memory), free(scratch);
    return error;
}
--- example.c ends ---

   ====================================================================================================================
   The rules. W is rows x cols = outputs x inputs, row-major; g its gradient times grad_scale; lr = param.lr times
   lr_factor; wd = param.weight_decay; t counts steps from 1. States start at zero.

   MUON_RULE_ADAMW  (Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101)
       m <- beta1 m + (1 - beta1) g              v <- beta2 v + (1 - beta2) g^2
       W <- (1 - lr wd) W - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

   MUON_RULE_MUON  (Keller Jordan, github.com/KellerJordan/Muon; decay as in torch.optim.Muon and Moonlight, arXiv
                    2502.16982)
       b <- momentum b + (1 - momentum) g
       u <- (1 - momentum) g + momentum b        Nesterov; else u = b
       X <- u / (c.norm |u|_F)                   |u|_F summed in double: a gradient times 1e-30 or 1e30 changes nothing
       ns_steps times:                           (a, b, c) from the coefficient set
           A = X X^T                             every singular value s of X becomes
           X <- (a I + b A + c A A) X            a s + b s^3 + c s^5
       W <- (1 - lr wd) W - lr scale X           the decay takes lr without the scale
     A zero u gives a zero X: only the decay acts. A tall matrix uses X^T X from the right, so that A is always of the
     smaller side; the result is the transposed one. With a constant momentum the accumulating form b <- momentum b + g
     gives the same X; with a changing one (a warm-up such as 0.85 to 0.95 over 300 steps: set m.options.momentum
     before each step) it does not.

   Coefficients (MuonCoefficients: a set of yours works as well as those of muon_coefficients)
       MUON_COEFF_KELLER   (3.4445, -4.7750, 2.0315) in every step. It trades exactness for a steep slope at zero: five
                           steps multiply a tiny singular value by 485, and bring 0.0052..1 (relative to |u|_F) into
                           0.68..1.14. muon_phi is this map.

   Scale, what multiplies X
       MUON_SCALE_NONE              1
       MUON_SCALE_KELLER            sqrt(max(1, rows / cols))       lr about 0.02; torch: adjust_lr_fn="original"
       MUON_SCALE_MATCH_RMS_ADAMW   0.2 sqrt(max(rows, cols))       Moonlight, equations 4 and 7: the update's RMS is
                                    then about 0.2, as AdamW's is, so that AdamW's lr and decay can be used for both
     Converting one into the other:  lr_keller sqrt(max(1, rows / cols)) = lr_match 0.2 sqrt(max(rows, cols)),
     for a square matrix lr_keller = 0.2 sqrt(cols) lr_match: 2.3 times at 128, 3.9 at 384, 5.5 at 768.

   QK-Clip  (Kimi K2, arXiv 2507.20534, section 2.1) after the step, per layer; see muon_qk_clip. Muon with
     MUON_SCALE_MATCH_RMS_ADAMW, weight decay and QK-Clip is what that report calls MuonClip.

   ====================================================================================================================
   Which tensor gets which rule
       MUON_RULE_MUON    hidden matrices: attention's W_q, W_k, W_v, W_o and the MLP's. Their inputs and outputs are
                         dense vectors, whose size the spectral norm bounds.
       MUON_RULE_ADAMW   embeddings and position tables (their input is one-hot: a row's gradient says nothing about the
                         other rows), the output head, tied or not (its outputs are logits, one per token), and
                         everything that is no matrix: biases, norm gains, scalars, as rows = 1.
       MUON_RULE_NONE    what is saved but not trained.
     Q, K and V: give each its own MuonParam even where they lie in one packed 3C x C matrix (w, w + C*C, w + 2*C*C with
     stride 3*C*C). Orthogonalized together, the block with the largest gradient holds down the others: gradients of
     1 : 0.1 : 3 come out with an RMS of 1 : 0.11 : 1.7, instead of equal.
     Equal matrices of all layers are one MuonParam with a count, stride floats apart; each is orthogonalized alone.

   The contract
     - The caller's memory: muon_state_bytes for a Muon's life, muon_scratch_bytes per thread while stepping; aligned as
       malloc does. No allocation, no stdio, no exit, no globals. Functions return 0 or a MUON_E_* code.
     - The params array and coefficient set stay the caller's and must outlive the Muon. lr, weight_decay, w, g and
       every option may change between steps; count, rows, cols and rule may not: the state's layout follows from them.
     - NaN or infinity in any gradient: muon_begin_step returns MUON_E_NOT_FINITE, says where (bad_tensor, bad_matrix)
       and has changed nothing. AdamW stays finite with gradients beyond 1e19, but its squares do not hold them.
     - Threads: muon_begin_step from one thread, then muon_step_one of different matrices from any number of them, in
       any order, to the same bits. Compiled with OpenMP, norms, scans and AdamW of large tensors share their loops
       among its threads, with the same bits; a caller with threads of another kind compiles without it.
     - Checkpoints: the numbers of muon_state for slots 0, 1, ..., and m.t; muon_init, then put both back.

   Macros, defined before the implementation is included
       MUON_GEMM(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
           your own C = alpha op(A) op(B) + beta C in float, row-major, C m x n; where beta is 0, C is not read. All of
           Muon's cost is here: (4 p^2 q + 2 p^3) ns_steps FLOPs per p x q matrix, p <= q. The built-in one is a blocked
           loop that compilers vectorize at -O3; sqrtf of AdamW needs -fno-math-errno for that.
       MUON_GEMM_SYMMETRIC(trans, n, k, alpha, a, lda, beta, c, ldc)
           your own C = alpha op(A) op(A)^T + beta C, C and op(A) n x n and n x k, C symmetric: half of that cost for
           who computes one triangle and mirrors it. Without it MUON_GEMM computes all of C.
       MUON_STATIC   makes every function static.
*/
#ifndef MUON_H
#define MUON_H

#include <stddef.h>

#if defined(MUON_STATIC)
#define MUONDEF static inline
#elif defined(__cplusplus)
#define MUONDEF extern "C"
#else
#define MUONDEF extern
#endif

enum { MUON_RULE_NONE, MUON_RULE_ADAMW, MUON_RULE_MUON, MUON_RULE_COUNT };
enum { MUON_COEFF_KELLER, MUON_COEFF_COUNT };
enum { MUON_SCALE_NONE, MUON_SCALE_KELLER, MUON_SCALE_MATCH_RMS_ADAMW, MUON_SCALE_COUNT };
enum { MUON_SLOT_MOMENTUM = 0, MUON_SLOT_SECOND_MOMENT = 1 };   // of muon_state; Muon has the first, AdamW both

enum {                      // what the functions return; muon_strerror puts it into words
    MUON_OK = 0,
    MUON_E_ARGUMENT,        // a null pointer, an index, a size or a factor outside its range
    MUON_E_OPTIONS,         // a MuonOptions field outside its range
    MUON_E_PARAM,           // a MuonParam that can't be: m->bad_tensor is its index
    MUON_E_NOT_FINITE,      // NaN or infinity in a gradient: m->bad_tensor, m->bad_matrix say which; or in a state
    MUON_E_LOGIT,           // NaN or +infinity among QK-Clip's maximum logits
    MUON_E_COUNT
};

enum { MUON_MAX_ROWS = 16, MUON_MAX_NS_STEPS = 100 };

// A Newton-Schulz polynomial per step: step i takes row i, or the last one from there on.
typedef struct {
    const char *name;
    double norm;                            // X starts as u / (norm |u|_F); above 1 where a set needs the room
    int rows;                               // 1 .. MUON_MAX_ROWS
    double abc[MUON_MAX_ROWS][3];           // s -> a s + b s^3 + c s^5
} MuonCoefficients;

typedef struct {
    const char *name;                       // for the caller's messages; never read here
    float *w;                               // count matrices of rows x cols, row-major; a vector is rows = 1
    const float *g;                         // their gradients, laid out like w
    int count, rows, cols;
    size_t stride;                          // floats between successive matrices of w and of g; unused where count is 1
    int rule;                               // MUON_RULE_*
    double lr;                              // this tensor's own peak learning rate; times lr_factor in a step
    double weight_decay;                    // decoupled: per step W loses lr * weight_decay of itself
} MuonParam;

typedef struct {
    double momentum;                        // Muon's, in [0, 1)
    int nesterov;                           // 0 or 1
    int ns_steps;                           // 1 .. MUON_MAX_NS_STEPS
    const MuonCoefficients *coefficients;   // muon_coefficients(MUON_COEFF_*), or the caller's own
    int scale;                              // MUON_SCALE_*
    double beta1, beta2;                    // AdamW's, in [0, 1)
    double eps;                             // AdamW's, > 0. Where a mean loss makes embedding gradients tiny: 1e-10
} MuonOptions;

typedef struct {
    long long t;                            // steps begun so far: save it, and set it after muon_init to resume
    MuonOptions options;                    // may be changed between steps (momentum warm-up)
    int bad_tensor, bad_matrix;             // where the last error was, or -1
    const MuonParam *params;
    int n;
    float *state;
    double lr_factor, grad_scale;           // of the step begun; grad_scale is -1 where none is
} Muon;

/* momentum 0.95, Nesterov, 5 steps, MUON_COEFF_KELLER, MUON_SCALE_MATCH_RMS_ADAMW; betas 0.9 and 0.95, eps 1e-8.
   Source: Moonlight's examples/toy_train.py. */
MUONDEF MuonOptions muon_default_options(void);

/* Bytes of state for these n tensors: rows * cols * count floats, once for Muon, twice for AdamW. Bytes of scratch
   that each thread needs in muon_step_one: for the largest Muon matrix, p x q with p <= q, 2 p (p + q) floats.
   w and g may still be NULL: a caller can plan its memory first. Both are 0 where another argument is bad; muon_init
   says what is wrong. */
MUONDEF size_t muon_state_bytes(const MuonParam *params, int n, const MuonOptions *options);
MUONDEF size_t muon_scratch_bytes(const MuonParam *params, int n, const MuonOptions *options);

/* Starts m with zero states and t = 0. memory: muon_state_bytes, written; may be NULL where that is 0.
   Fails with MUON_E_ARGUMENT, MUON_E_OPTIONS or MUON_E_PARAM (m->bad_tensor). */
MUONDEF int muon_init(Muon *m, const MuonParam *params, int n, const MuonOptions *options, void *memory);

/* Begins a step: scans every gradient of a tensor that has a rule, adds one to t, keeps both factors for muon_step_one.
   lr_factor: the schedule, times each tensor's lr. grad_scale: times every gradient, such as clip / max(clip, norm).
   Both finite and >= 0. Fails with MUON_E_NOT_FINITE (a gradient, as scaled), MUON_E_ARGUMENT, MUON_E_OPTIONS or
   MUON_E_PARAM: weights, states and t are as before, and muon_step_one refuses until a step has begun. */
MUONDEF int muon_begin_step(Muon *m, double lr_factor, double grad_scale);

/* Steps one matrix by its rule. To be called once for each tensor and matrix after muon_begin_step; reads m and writes
   only this matrix, its state and scratch (one per thread; NULL where muon_scratch_bytes is 0), so calls may run at
   once. Fails with MUON_E_ARGUMENT (as where no step has begun), or MUON_E_NOT_FINITE where the momentum holds NaN or
   infinity, as from a damaged checkpoint; then the weights are untouched. */
MUONDEF int muon_step_one(const Muon *m, int tensor, int matrix, void *scratch);

/* The whole step: muon_begin_step, then muon_step_one for every matrix in order. */
MUONDEF int muon_step(Muon *m, double lr_factor, double grad_scale, void *scratch);

/* Square root of the sum of g^2 over all tensors that have a rule, grad_scale not applied: for gradient clipping.
   Summed in double in a fixed order; NaN or infinity in, NaN or infinity out. */
MUONDEF double muon_grad_norm(const Muon *m);

/* A tensor's state in slot MUON_SLOT_*, for checkpoints: *n floats, matrix after matrix without gaps, to read or write.
   NULL and *n = 0 where the tensor has no such slot, so that a loop over slots ends at the first NULL. */
MUONDEF float *muon_state(const Muon *m, int tensor, int slot, size_t *n);

/* x <- about U V^T of x = U S V^T, in place: steps of the set on x / (c->norm |x|_F). A zero x stays zero.
   x: rows x cols, row-major, of any orientation. scratch: muon_orthogonalize_bytes. Fails with MUON_E_ARGUMENT or
   MUON_E_NOT_FINITE, x unchanged. */
MUONDEF int muon_orthogonalize(float *x, int rows, int cols, const MuonCoefficients *c, int steps, void *scratch);
MUONDEF size_t muon_orthogonalize_bytes(int rows, int cols);

/* The coefficient set MUON_COEFF_*; NULL for any other number, so that a loop can find one by its name. */
MUONDEF const MuonCoefficients *muon_coefficients(int set);

/* What muon_orthogonalize makes of a singular value x = S_i / |S|_F, in exact arithmetic. */
MUONDEF double muon_phi(const MuonCoefficients *c, int steps, double x);

/* The factor MUON_SCALE_* for a matrix of this shape; NaN for any other number. */
MUONDEF double muon_scale(int scale, int rows, int cols);

/* tau / S where S > tau > 0, else 1: also for S <= 0 and for S = -infinity (no logit seen), where min(1, tau / S) would
   turn or wipe the weights. NaN where S is NaN or +infinity, for no factor mends that. */
MUONDEF double muon_qk_gamma(double max_logit, double tau);

/* QK-Clip of one layer's projections, after its step: every query head's logits become gamma_h = muon_qk_gamma(S_h,
   tau) times what they were. wq: n_heads * head_size x cols; wk: n_kv_heads * head_size x cols; bq, bk: their biases,
   or NULL. max_logit: n_heads values S_h, each the largest softmax input (1/sqrt(head_size) included, masked pairs not)
   over the whole batch of the step, taken in its forward. Head h reads key h / (n_heads / n_kv_heads). alpha in [0, 1]:
   the queries' share, 0.5 in Kimi K2. tau = 0: off. *clipped (or NULL): how many heads had gamma_h < 1.
       f = (largest gamma_h of the heads that share a key)^(1 - alpha)
       W_k, b_k *= f          W_q,h, b_q,h *= gamma_h / f
   With one head per key that is Kimi K2's rule; a head that need not be clipped keeps its logits and is never clipped
   for another's sake. The biases scale too, or the logits would not scale by gamma_h. RoPE commutes with all of it;
   QK-norm undoes it: use one of the two.
   Fails with MUON_E_ARGUMENT or MUON_E_LOGIT, nothing changed. */
MUONDEF int muon_qk_clip(float *wq, float *bq, float *wk, float *bk, int n_heads, int n_kv_heads, int head_size,
                         int cols, const float *max_logit, double tau, double alpha, int *clipped);

/* The names by which a configuration calls them ("none", "adamw", "muon"; "none", "keller", "match_rms_adamw"), NULL
   for any other number; and a sentence for every code. */
MUONDEF const char *muon_rule_name(int rule);
MUONDEF const char *muon_scale_name(int scale);
MUONDEF const char *muon_strerror(int code);

#endif // MUON_H

// =====================================================================================================================
#if defined(MUON_IMPLEMENTATION) && !defined(MUON_IMPLEMENTED)
#define MUON_IMPLEMENTED

#include <math.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------------------------
// Names and tables

MUONDEF const char *muon_rule_name(int rule) {
    static const char *const names[] = { "none", "adamw", "muon" };
    return rule >= 0 && rule < MUON_RULE_COUNT ? names[rule] : NULL;
}

MUONDEF const char *muon_scale_name(int scale) {
    static const char *const names[] = { "none", "keller", "match_rms_adamw" };
    return scale >= 0 && scale < MUON_SCALE_COUNT ? names[scale] : NULL;
}

MUONDEF const char *muon_strerror(int code) {
    static const char *const words[] = {
        "no error",
        "an argument is outside its range",
        "an optimizer option is outside its range",
        "a tensor's entry in the parameter table is not valid",
        "NaN or infinity in a gradient or in the optimizer's state",
        "NaN or infinity in a maximum attention logit",
    };
    return code >= 0 && code < MUON_E_COUNT ? words[code] : "unknown error code";
}

MUONDEF const MuonCoefficients *muon_coefficients(int set) {
    static const MuonCoefficients sets[] = {
        { "keller", 1.0, 1, { { 3.4445, -4.7750, 2.0315 } } },   // Keller Jordan, kellerjordan.github.io/posts/muon
    };
    return set >= 0 && set < MUON_COEFF_COUNT ? &sets[set] : NULL;
}

static const double *muon__abc(const MuonCoefficients *c, int step) {
    return c->abc[step < c->rows ? step : c->rows - 1];
}

MUONDEF double muon_phi(const MuonCoefficients *c, int steps, double x) {
    x /= c->norm;
    for (int step = 0; step < steps; step++) {
        const double *abc = muon__abc(c, step);
        x *= abc[0] + x * x * (abc[1] + x * x * abc[2]);
    }
    return x;
}

MUONDEF double muon_scale(int scale, int rows, int cols) {
    switch (scale) {
    case MUON_SCALE_NONE:            return 1.0;
    case MUON_SCALE_KELLER:          return rows > cols ? sqrt((double)rows / cols) : 1.0;
    case MUON_SCALE_MATCH_RMS_ADAMW: return 0.2 * sqrt((double)(rows > cols ? rows : cols));
    default:                         return NAN;
    }
}

MUONDEF MuonOptions muon_default_options(void) {
    MuonOptions o;
    o.momentum = 0.95;
    o.nesterov = 1;
    o.ns_steps = 5;
    o.coefficients = muon_coefficients(MUON_COEFF_KELLER);
    o.scale = MUON_SCALE_MATCH_RMS_ADAMW;
    o.beta1 = 0.9;
    o.beta2 = 0.95;
    o.eps = 1e-8;
    return o;
}

// ---------------------------------------------------------------------------------------------------------------------
// What is accepted, and where a tensor's state lies

static size_t muon__size(const MuonParam *p) { return (size_t)p->rows * (size_t)p->cols; }

// How many numbers a rule keeps per weight.
static size_t muon__slots(int rule) { return rule == MUON_RULE_ADAMW ? 2 : rule == MUON_RULE_MUON ? 1 : 0; }

static int muon__not_negative(double x) { return x >= 0.0 && x <= 1e300; }   // and neither NaN nor infinity

static int muon__good_coefficients(const MuonCoefficients *c, int steps) {
    return c && c->rows >= 1 && c->rows <= MUON_MAX_ROWS && c->norm > 0.0 && steps >= 1 && steps <= MUON_MAX_NS_STEPS;
}

static int muon__good_param(const MuonParam *p, int with_pointers) {
    if (p->count < 1 || p->rows < 1 || p->cols < 1 || p->rule < 0 || p->rule >= MUON_RULE_COUNT) return 0;
    if ((double)p->count * p->rows * p->cols > (double)((size_t)-1 / 64)) return 0;
    if (p->rule == MUON_RULE_NONE) return 1;
    return (!with_pointers || (p->w && p->g)) && (p->count == 1 || p->stride >= muon__size(p))
        && muon__not_negative(p->lr) && muon__not_negative(p->weight_decay);
}

// The first thing wrong with the table or the options, as a code; *bad is the index of a bad entry, or -1.
static int muon__check(const MuonParam *params, int n, const MuonOptions *o, int with_pointers, int *bad) {
    *bad = -1;
    if (n < 0 || (n > 0 && !params) || !o) return MUON_E_ARGUMENT;
    if (!(o->momentum >= 0.0 && o->momentum < 1.0) || !muon__good_coefficients(o->coefficients, o->ns_steps)
        || !muon_scale_name(o->scale) || !(o->beta1 >= 0.0 && o->beta1 < 1.0) || !(o->beta2 >= 0.0 && o->beta2 < 1.0)
        || !((float)o->eps > 0.0f && o->eps < 1.0)) return MUON_E_OPTIONS;
    for (int i = 0; i < n; i++)
        if (!muon__good_param(&params[i], with_pointers)) { *bad = i; return MUON_E_PARAM; }
    return MUON_OK;
}

// Floats of state before tensor number `tensor`: tensor after tensor, slot after slot, matrix after matrix.
static size_t muon__offset(const MuonParam *params, int tensor) {
    size_t floats = 0;
    for (int i = 0; i < tensor; i++)
        floats += muon__slots(params[i].rule) * (size_t)params[i].count * muon__size(&params[i]);
    return floats;
}

MUONDEF size_t muon_state_bytes(const MuonParam *params, int n, const MuonOptions *options) {
    int bad;
    return muon__check(params, n, options, 0, &bad) == MUON_OK ? muon__offset(params, n) * sizeof(float) : 0;
}

MUONDEF size_t muon_scratch_bytes(const MuonParam *params, int n, const MuonOptions *options) {
    int bad;
    size_t most = 0;
    if (muon__check(params, n, options, 0, &bad) != MUON_OK) return 0;
    for (int i = 0; i < n; i++) {
        const MuonParam *p = &params[i];
        size_t bytes = muon__size(p) * sizeof(float) + muon_orthogonalize_bytes(p->rows, p->cols);
        if (p->rule == MUON_RULE_MUON && bytes > most) most = bytes;
    }
    return most;
}

MUONDEF float *muon_state(const Muon *m, int tensor, int slot, size_t *n) {
    *n = 0;
    if (!m || tensor < 0 || tensor >= m->n) return NULL;
    const MuonParam *p = &m->params[tensor];
    if (slot < 0 || (size_t)slot >= muon__slots(p->rule)) return NULL;
    *n = (size_t)p->count * muon__size(p);
    return m->state + muon__offset(m->params, tensor) + (size_t)slot * *n;
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrix product: the built-in one

#ifndef MUON_GEMM_SYMMETRIC
#define MUON_GEMM_SYMMETRIC(trans, n, k, alpha, a, lda, beta, c, ldc) \
    MUON_GEMM(trans, !(trans), n, n, k, alpha, a, lda, a, lda, beta, c, ldc)
#endif

#ifndef MUON_GEMM
#define MUON_GEMM muon__gemm

enum { MUON__KC = 64, MUON__NC = 128 };   // one block of op(B), 32 KB: stays in the first-level cache

/* C = alpha op(A) op(B) + beta C. A block of alpha op(B) is packed row by row, whatever its orientation, so that the
   innermost loop adds four multiples of contiguous rows to a contiguous piece of C, which compilers vectorize. */
static void muon__gemm(int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                       const float *b, int ldb, float beta, float *c, int ldc) {
    float block[MUON__KC * MUON__NC], row[MUON__KC];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float *cij = &c[(size_t)i * (size_t)ldc + (size_t)j];
            *cij = beta == 0.0f ? 0.0f : beta * *cij;
        }
    const size_t a_i = trans_a ? 1 : (size_t)lda, a_k = trans_a ? (size_t)lda : 1;   // steps along op(A)'s i and k
    const size_t b_k = trans_b ? 1 : (size_t)ldb, b_j = trans_b ? (size_t)ldb : 1;
    for (int j0 = 0; j0 < n; j0 += MUON__NC) {
        const int nc = n - j0 < MUON__NC ? n - j0 : MUON__NC;
        for (int k0 = 0; k0 < k; k0 += MUON__KC) {
            const int kc = k - k0 < MUON__KC ? k - k0 : MUON__KC;
            memset(block, 0, sizeof block);   // zeros past kc let the loop below always take four
            memset(row, 0, sizeof row);
            for (int kk = 0; kk < kc; kk++)
                for (int jj = 0; jj < nc; jj++)
                    block[kk * MUON__NC + jj] = alpha * b[(size_t)(k0 + kk) * b_k + (size_t)(j0 + jj) * b_j];
            for (int i = 0; i < m; i++) {
                float *ci = c + (size_t)i * (size_t)ldc + (size_t)j0;
                for (int kk = 0; kk < kc; kk++) row[kk] = a[(size_t)i * a_i + (size_t)(k0 + kk) * a_k];
                for (int kk = 0; kk < kc; kk += 4) {
                    const float *b0 = block + kk * MUON__NC, *b1 = b0 + MUON__NC;
                    const float *b2 = b1 + MUON__NC, *b3 = b2 + MUON__NC;
                    const float r0 = row[kk], r1 = row[kk + 1], r2 = row[kk + 2], r3 = row[kk + 3];
                    for (int jj = 0; jj < nc; jj++) ci[jj] += r0 * b0[jj] + r1 * b1[jj] + r2 * b2[jj] + r3 * b3[jj];
                }
            }
        }
    }
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Sums, scans

// Where OpenMP is on, its threads share loops over large tensors, unless they are in a parallel region of it.
#if defined(_OPENMP)
#define MUON__PARALLEL(condition) MUON__PRAGMA(omp parallel for if (condition))
#define MUON__PRAGMA(text) _Pragma(#text)
#else
#define MUON__PARALLEL(condition)
#endif
enum { MUON__LARGE = 1 << 16, MUON__PARTS = 64 };

// Where part i of n numbers begins; part MUON__PARTS is behind the last. Fixed, so that the bits don't depend on threads.
static size_t muon__part(size_t n, int i) { return i < MUON__PARTS ? n / MUON__PARTS * (size_t)i : n; }

// Sum of squares in double, whose range holds the square of every float; eight partial sums, a fixed order.
static double muon__part_of_squares(const float *x, size_t n) {
    double part[8] = { 0 }, rest = 0.0;
    const size_t eights = n - n % 8;
    for (size_t i = 0; i < eights; i += 8)
        for (size_t l = 0; l < 8; l++) part[l] += (double)x[i + l] * (double)x[i + l];
    for (size_t i = eights; i < n; i++) rest += (double)x[i] * (double)x[i];
    return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7])) + rest;
}

// The same for any size, a large tensor in parts.
static double muon__sum_of_squares(const float *x, size_t n) {
    double part[MUON__PARTS], sum = 0.0;
    if (n < MUON__LARGE) return muon__part_of_squares(x, n);
    MUON__PARALLEL(1)
    for (int i = 0; i < MUON__PARTS; i++)
        part[i] = muon__part_of_squares(x + muon__part(n, i), muon__part(n, i + 1) - muon__part(n, i));
    for (int i = 0; i < MUON__PARTS; i++) sum += part[i];
    return sum;
}

// Whether every scale * x[i] is finite: looks at the exponent's bits, so that -ffast-math can't optimize it away.
static int muon__all_finite(const float *x, size_t n, float scale) {
    unsigned bad[MUON__PARTS], any = 0;
    MUON__PARALLEL(n >= MUON__LARGE)
    for (int part = 0; part < MUON__PARTS; part++) {
        const size_t end = muon__part(n, part + 1);
        unsigned found = 0;
        for (size_t i = muon__part(n, part); i < end; i++) {
            float scaled = scale * x[i];
            unsigned bits;
            memcpy(&bits, &scaled, sizeof bits);
            found |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        bad[part] = found;
    }
    for (int part = 0; part < MUON__PARTS; part++) any |= bad[part];
    return any == 0;
}

MUONDEF double muon_grad_norm(const Muon *m) {
    double sum = 0.0;
    for (int i = 0; i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        if (p->rule == MUON_RULE_NONE) continue;
        for (int j = 0; j < p->count; j++) sum += muon__sum_of_squares(p->g + (size_t)j * p->stride, muon__size(p));
    }
    return sqrt(sum);
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton-Schulz

MUONDEF size_t muon_orthogonalize_bytes(int rows, int cols) {
    if (rows < 1 || cols < 1) return 0;
    size_t r = (size_t)rows, c = (size_t)cols, p = r < c ? r : c;
    return (r * c + 2 * p * p) * sizeof(float);
}

/* The iteration on x, with `other` of the same size to alternate with and two p x p matrices behind it. Returns the one
   of the two that holds the result, or NULL, x unchanged, where x is not finite. Singular values are at most 1 after
   division by the Frobenius norm, which bounds the largest one. */
static float *muon__newton_schulz(float *x, float *other, int rows, int cols, const MuonCoefficients *c, int steps) {
    const size_t size = (size_t)rows * (size_t)cols;
    const int wide = rows <= cols, p = wide ? rows : cols;
    const size_t pp = (size_t)p * (size_t)p;
    float *A = other + size, *P = A + pp;
    if (!muon__all_finite(x, size, 1.0f)) return NULL;
    const double norm = sqrt(muon__sum_of_squares(x, size));
    if (norm == 0.0) return x;
    const double inverse = 1.0 / (c->norm * norm);
    for (size_t i = 0; i < size; i++) x[i] = (float)((double)x[i] * inverse);   // in double: 1 / 1e-40 is no float

    for (int step = 0; step < steps; step++) {
        const double *abc = muon__abc(c, step);
        const float a = (float)abc[0], b = (float)abc[1];
        MUON_GEMM_SYMMETRIC(!wide, p, wide ? cols : rows, 1.0f, x, cols, 0.0f, A, p);        // A = X X^T, or X^T X
        MUON_GEMM_SYMMETRIC(0, p, p, (float)abc[2], A, p, 0.0f, P, p);                       // P = a I + b A + c A A
        for (size_t i = 0; i < pp; i++) P[i] += b * A[i];
        for (size_t i = 0; i < pp; i += (size_t)p + 1) P[i] += a;
        if (wide) MUON_GEMM(0, 0, rows, cols, p, 1.0f, P, p, x, cols, 0.0f, other, cols);    // X <- P X
        else      MUON_GEMM(0, 0, rows, cols, p, 1.0f, x, cols, P, p, 0.0f, other, cols);    // X <- X P
        float *swap = x;
        x = other;
        other = swap;
    }
    return x;
}

MUONDEF int muon_orthogonalize(float *x, int rows, int cols, const MuonCoefficients *c, int steps, void *scratch) {
    if (!x || rows < 1 || cols < 1 || !scratch || !muon__good_coefficients(c, steps)) return MUON_E_ARGUMENT;
    float *result = muon__newton_schulz(x, (float *)scratch, rows, cols, c, steps);
    if (!result) return MUON_E_NOT_FINITE;
    if (result != x) memcpy(x, result, (size_t)rows * (size_t)cols * sizeof(float));
    return MUON_OK;
}

// ---------------------------------------------------------------------------------------------------------------------
// The step

MUONDEF int muon_init(Muon *m, const MuonParam *params, int n, const MuonOptions *options, void *memory) {
    if (!m) return MUON_E_ARGUMENT;
    memset(m, 0, sizeof *m);
    m->bad_matrix = -1;
    m->grad_scale = -1.0;
    int code = muon__check(params, n, options, 1, &m->bad_tensor);
    if (code != MUON_OK) return code;
    size_t bytes = muon_state_bytes(params, n, options);
    if (bytes > 0 && !memory) return MUON_E_ARGUMENT;
    m->options = *options;
    m->params = params;
    m->n = n;
    m->state = (float *)memory;
    if (bytes > 0) memset(memory, 0, bytes);   // all bits zero is 0.0f
    return MUON_OK;
}

MUONDEF int muon_begin_step(Muon *m, double lr_factor, double grad_scale) {
    if (!m || m->t < 0) return MUON_E_ARGUMENT;
    m->bad_tensor = m->bad_matrix = -1;
    m->grad_scale = -1.0;
    if (!muon__not_negative(lr_factor) || !muon__not_negative(grad_scale)) return MUON_E_ARGUMENT;
    int code = muon__check(m->params, m->n, &m->options, 1, &m->bad_tensor);
    if (code != MUON_OK) return code;
    for (int i = 0; i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        if (p->rule == MUON_RULE_NONE) continue;
        for (int j = 0; j < p->count; j++) {
            if (muon__all_finite(p->g + (size_t)j * p->stride, muon__size(p), (float)grad_scale)) continue;
            m->bad_tensor = i;
            m->bad_matrix = j;
            return MUON_E_NOT_FINITE;
        }
    }
    m->t++;
    m->lr_factor = lr_factor;
    m->grad_scale = grad_scale;
    return MUON_OK;
}

/* (1 - lr wd) W - lr update is computed as W - (lr wd W + lr update) in both rules: 1 - lr wd does not fit a float, and
   its error would be the same in every step. */

static void muon__adamw(const Muon *m, const MuonParam *p, float *w, const float *g, float *mom, float *second) {
    const MuonOptions *o = &m->options;
    const double lr = p->lr * m->lr_factor;
    const float scale = (float)m->grad_scale, decay = (float)(lr * p->weight_decay), eps = (float)o->eps;
    const float b1 = (float)o->beta1, c1 = (float)(1.0 - o->beta1);
    const float b2 = (float)o->beta2, c2 = (float)(1.0 - o->beta2);
    const float step = (float)(lr / (1.0 - pow(o->beta1, (double)m->t)));                 // both bias corrections
    const float root = (float)(1.0 / sqrt(1.0 - pow(o->beta2, (double)m->t)));
    const size_t n = muon__size(p);
    MUON__PARALLEL(n >= MUON__LARGE)
    for (size_t i = 0; i < n; i++) {
        const float gi = scale * g[i];
        const float mi = b1 * mom[i] + c1 * gi;
        const float vi = b2 * second[i] + c2 * gi * gi;
        mom[i] = mi;
        second[i] = vi;
        w[i] -= decay * w[i] + step * mi / (sqrtf(vi) * root + eps);
    }
}

static int muon__muon(const Muon *m, const MuonParam *p, float *w, const float *g, float *mom, float *x) {
    const MuonOptions *o = &m->options;
    const double lr = p->lr * m->lr_factor;
    const float mu = (float)o->momentum, nu = (float)((1.0 - o->momentum) * m->grad_scale);
    const float from_g = o->nesterov ? nu : 0.0f, from_mom = o->nesterov ? mu : 1.0f;
    const size_t n = muon__size(p);
    for (size_t i = 0; i < n; i++) {
        mom[i] = mu * mom[i] + nu * g[i];
        x[i] = from_g * g[i] + from_mom * mom[i];
    }
    x = muon__newton_schulz(x, x + n, p->rows, p->cols, o->coefficients, o->ns_steps);
    if (!x) return MUON_E_NOT_FINITE;
    const float decay = (float)(lr * p->weight_decay), step = (float)(lr * muon_scale(o->scale, p->rows, p->cols));
    for (size_t i = 0; i < n; i++) w[i] -= decay * w[i] + step * x[i];
    return MUON_OK;
}

MUONDEF int muon_step_one(const Muon *m, int tensor, int matrix, void *scratch) {
    if (!m || m->grad_scale < 0.0 || tensor < 0 || tensor >= m->n) return MUON_E_ARGUMENT;
    const MuonParam *p = &m->params[tensor];
    if (matrix < 0 || matrix >= p->count || (p->rule == MUON_RULE_MUON && !scratch)) return MUON_E_ARGUMENT;
    if (p->rule == MUON_RULE_NONE) return MUON_OK;
    float *w = p->w + (size_t)matrix * p->stride;
    const float *g = p->g + (size_t)matrix * p->stride;
    size_t n;
    const size_t at = (size_t)matrix * muon__size(p);
    float *first = muon_state(m, tensor, MUON_SLOT_MOMENTUM, &n) + at;
    if (p->rule == MUON_RULE_MUON) return muon__muon(m, p, w, g, first, (float *)scratch);
    muon__adamw(m, p, w, g, first, muon_state(m, tensor, MUON_SLOT_SECOND_MOMENT, &n) + at);
    return MUON_OK;
}

MUONDEF int muon_step(Muon *m, double lr_factor, double grad_scale, void *scratch) {
    int code = muon_begin_step(m, lr_factor, grad_scale);
    for (int i = 0; code == MUON_OK && i < m->n; i++)
        for (int j = 0; code == MUON_OK && j < m->params[i].count; j++) code = muon_step_one(m, i, j, scratch);
    return code;
}

// ---------------------------------------------------------------------------------------------------------------------
// QK-Clip

MUONDEF double muon_qk_gamma(double max_logit, double tau) {
    if (max_logit != max_logit || max_logit > 1e300) return NAN;
    return tau > 0.0 && max_logit > tau ? tau / max_logit : 1.0;
}

static void muon__multiply(float *x, size_t n, double factor) {
    if (!x || factor == 1.0) return;
    for (size_t i = 0; i < n; i++) x[i] *= (float)factor;
}

MUONDEF int muon_qk_clip(float *wq, float *bq, float *wk, float *bk, int n_heads, int n_kv_heads, int head_size,
                         int cols, const float *max_logit, double tau, double alpha, int *clipped) {
    if (clipped) *clipped = 0;
    if (!wq || !wk || n_heads < 1 || n_kv_heads < 1 || n_heads % n_kv_heads != 0 || head_size < 1 || cols < 1
        || !max_logit || !muon__not_negative(tau) || !(alpha >= 0.0 && alpha <= 1.0)) return MUON_E_ARGUMENT;
    if (tau == 0.0) return MUON_OK;
    for (int h = 0; h < n_heads; h++) {
        double gamma = muon_qk_gamma(max_logit[h], tau);
        if (gamma != gamma) return MUON_E_LOGIT;
    }
    const int group = n_heads / n_kv_heads;
    const size_t rows = (size_t)head_size, size = rows * (size_t)cols;
    for (int kv = 0; kv < n_kv_heads; kv++) {
        double largest = 0.0;
        for (int h = kv * group; h < (kv + 1) * group; h++) {
            double gamma = muon_qk_gamma(max_logit[h], tau);
            if (gamma > largest) largest = gamma;
        }
        const double key_factor = pow(largest, 1.0 - alpha);
        muon__multiply(wk + (size_t)kv * size, size, key_factor);
        muon__multiply(bk ? bk + (size_t)kv * rows : NULL, rows, key_factor);
        for (int h = kv * group; h < (kv + 1) * group; h++) {
            double gamma = muon_qk_gamma(max_logit[h], tau);
            muon__multiply(wq + (size_t)h * size, size, gamma / key_factor);
            muon__multiply(bq ? bq + (size_t)h * rows : NULL, rows, gamma / key_factor);
            if (clipped && gamma < 1.0) ++*clipped;
        }
    }
    return MUON_OK;
}

#endif // MUON_IMPLEMENTATION

/* muon.h - the Muon optimizer and its family, for any C or C++ program: one header, no dependency, your memory.

   Put this line in exactly one source file; every other file includes muon.h without it:

       #define MUON_IMPLEMENTATION
       #include "muon.h"

   defines: MuonParam, MuonOptions, MuonCoefficients, Muon; muon_default_options, muon_state_bytes, muon_scratch_bytes,
            muon_init, muon_init_apart, muon_begin_step, muon_step_one, muon_step_all, muon_step, muon_grad_norm,
            muon_sum_of_squares, muon_state;
            muon_orthogonalize, muon_svd_power, muon_spectral_power and their _bytes; muon_coefficients, muon_phi,
            muon_flops, muon_param_flops, muon_scale, muon_update_scale, muon_look_ahead; muon_qk_gamma, muon_qk_clip,
            muon_qk_clip_mla; muon_rule_name, muon_rule_uses, muon_rule_is_for_matrices, muon_scale_name, muon_strerror,
            muon_version

   What Muon is: the gradient of a matrix is usually dominated by a few singular directions. Muon keeps a momentum of
   it and, before stepping, replaces every singular value by (about) one: U S V^T becomes U V^T, the steepest descent
   direction under the spectral norm. Every direction the gradient has seen learns at the same pace, the rare ones too.
   The orthogonal factor comes from a few Newton-Schulz steps, which are matrix products only.

   ====================================================================================================================
   One step of MuonClip, as in a textbook: W is a weight matrix, G its gradient, M its momentum (zeros at first). Written
   for reading: the library does the same (a test compares the two) for any shape, faster, and says what goes wrong.

--- step.c begins ---
#include <math.h>
#include <string.h>
#define EACH(i, n) for (int i = 0; i < (n); i++)
enum { R = 16, C = 32 };                                       // outputs, inputs; R <= C, else transpose
void muonclip_step(float W[R][C], float G[R][C], float M[R][C], float lr, float decay) {
    float X[R][C], PX[R][C], A[R][R], P[R][R], squares = 0;
    EACH(i, R) EACH(j, C) {
        M[i][j] = 0.95f * M[i][j] + 0.05f * G[i][j];           // momentum: a running mean of the gradients,
        X[i][j] = 0.95f * M[i][j] + 0.05f * G[i][j];           // and Nesterov's look ahead
        squares += X[i][j] * X[i][j];
    }
    EACH(i, R) EACH(j, C) X[i][j] /= sqrtf(squares);           // now no singular value is above 1
    EACH(step, 5) {                                            // Newton-Schulz: X = U S V^T becomes about U V^T;
        memset(A, 0, sizeof A), memset(PX, 0, sizeof PX);      // a step makes 3.4445 s - 4.775 s^3 + 2.0315 s^5 of s
        EACH(i, R) EACH(j, R) EACH(k, C) A[i][j] += X[i][k] * X[j][k];                       // A = X X^T
        EACH(i, R) EACH(j, R) P[i][j] = 3.4445f * (i == j) - 4.7750f * A[i][j];              // P = a I + b A
        EACH(i, R) EACH(j, R) EACH(k, R) P[i][j] += 2.0315f * A[i][k] * A[k][j];             //     + c A A
        EACH(i, R) EACH(j, C) EACH(k, R) PX[i][j] += P[i][k] * X[k][j];                      // X <- P X
        memcpy(X, PX, sizeof X);
    }
    EACH(i, R) EACH(j, C)                                      // weight decay, and a step of AdamW's usual size: RMS 0.2
        W[i][j] -= lr * (decay * W[i][j] + 0.2f * sqrtf(C) * X[i][j]);
}
// QK-Clip, after the step: queries and keys of an attention head whose largest logit q . k / sqrt(size) was above tau.
void qk_clip(float Wq[R][C], float Wk[R][C], float max_logit, float tau) {
    if (max_logit > tau) EACH(i, R) EACH(j, C) Wq[i][j] *= sqrtf(tau / max_logit), Wk[i][j] *= sqrtf(tau / max_logit);
}
--- step.c ends ---

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
    MuonParam params[] = {   // name, weights, gradients, count, rows, cols, stride, rule, rate, decay, options, blocks
        { "W", W, dW, 1, ROWS, COLS, 0, MUON_RULE_MUON, 0.2, 0.0, NULL, { 0 } },
        { "b", b, db, 1, 1, ROWS, 0, MUON_RULE_ADAMW, 0.05, 0.0, NULL, { 0 } } };
    MuonOptions options = muon_default_options();
    void *memory = malloc(muon_state_bytes(params, 2, &options));
    void *scratch = malloc(muon_scratch_bytes(params, 2, &options));
    Muon m;
    int error = muon_init(&m, params, 2, &options, memory);
    for (int step = 0; step <= STEPS && !error; step++) {
        float loss = loss_and_gradients();
        if (step % 20 == 0) printf("step %3d  loss %.6f\n", step, loss);
        error = muon_step(&m, 1.0 - (double)step / (double)STEPS, 1.0, scratch, 1);   // the rate falls to zero
    }
    if (error) printf("%s%s%s\n", muon_strerror(error), m.bad_field ? ": " : "", m.bad_field ? m.bad_field : "");
    free(memory), free(scratch);
    return error;
}
--- example.c ends ---

   ====================================================================================================================
   The rules. W is rows x cols = outputs x inputs, row-major; g its gradient times grad_scale; lr = param.lr times
   lr_factor; wd = param.weight_decay; t counts steps from 1. States start at zero. Every rule goes through the same
   four stages; its row in the table below says which kind of each it takes:

       1. direction   g becomes u by a momentum, by second moments, or both
       2. transform   of u = U S V^T as a matrix: none, or its singular values replaced
       3. scale       by the shape, so that one learning rate serves matrices of all shapes (transformed matrices only)
       4. decay       and the step: W <- W - lr wd W - lr u

   MUON_RULE_...  name      direction   transform         kept per weight   source
   SGD            sgd       momentum    -                 1                 torch.optim.SGD: decay is added to g
   RMSPROP        rmsprop   rms         -                 1                 torch.optim.RMSprop, likewise
   ADAM           adam      adam        -                 2                 arXiv 1412.6980, torch.optim.Adam, likewise
   ADAMW          adamw     adam        -                 2                 arXiv 1711.05101
   MUON           muon      momentum    Newton-Schulz     1                 Keller Jordan, kellerjordan.github.io/posts/
                                                                            muon; decay: torch.optim.Muon, 2502.16982
   NORMUON        normuon   momentum    the same, evened  1 + 1 / cols      arXiv 2510.05491
   SVD            svd       momentum    U V^T exactly     1                 what Newton-Schulz approaches
   MSGD           msgd      momentum    U S^1 V^T: none   1                 these and the next: the spectral family of
   MSGDS          msgds     momentum    U S^(1/2) V^T     1                 "Delving into Muon and Beyond", arXiv
   MSGDQ          msgdq     momentum    U S^(1/4) V^T     1                 2602.04669 (its Adam decouples decay: it is
   MSGDZ          msgdz     momentum    U S^0 V^T         1                 adamw here)
   ADAMS          adams     adam        U S^(1/2) V^T     2
   ADAMQ          adamq     adam        U S^(1/4) V^T     2
   ADAMZ          adamz     adam        U S^0 V^T         2
   NONE           none      saved by the caller, but not trained
   MuonClip, the optimizer of Kimi K2 (arXiv 2507.20534), is MUON_RULE_MUON with MUON_SCALE_MATCH_RMS_ADAMW, weight
   decay, and muon_qk_clip after each step.

   1. Direction
      momentum   b <- momentum b + (1 - momentum) g      where options.accumulate is 0: an exponential moving average
                 b <- momentum b + g                     where it is 1: as torch.optim.SGD and Moonlight have it
                 u <- b + s g, a look ahead by the gradient. Where u's size doesn't matter all forms in use are this one,
                 with s as options.nesterov and options.look_ahead say:
                     nesterov 0                         s = look_ahead; 0: none (Kimi K2's report, timm, dion); 1: heavyball
                     nesterov 1, MUON_NESTEROV          s = (1 - momentum) / momentum of the mean, 1 / momentum of the sum,
                                                        computed as u <- momentum b + (1 - momentum) g, or momentum b + g
                     nesterov 2, MUON_NESTEROV_CORRECTED   each of the two by its own bias correction (optax):
                         u <- momentum b / (1 - momentum^(t + 1)) + (1 - momentum) g / (1 - momentum^t), or g of the sum's
                 With a constant momentum both forms give a transform that ignores size (muon, svd) the same u but for a
                 factor; with a changing one (a warm-up such as 0.85 to 0.95 over 300 steps: set m.options.momentum
                 before each step) they do not. torch's sgd and the paper's msgd rules accumulate, without a
                 look ahead; muon_default_options averages and looks ahead.
      rms        v <- beta2 v + (1 - beta2) g^2            u <- g / (sqrt(v) + eps)
      adam       m <- beta1 m + (1 - beta1) g              v as above
                 u <- (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
                 where options.adam_nesterov is 1, with beta1 m / (1 - beta1^(t + 1)) + (1 - beta1) g / (1 - beta1^t) for
                 m / (1 - beta1^t): NAdam, as optax.nadamw has it

   2. Transform
      Newton-Schulz   X <- u / (c.norm |u|_F)              |u|_F summed in double: a gradient times 1e-30 or 1e30
                      ns_steps times:                      changes nothing, and a zero u stays zero
                          A = X X^T                        (a, b, c) from the coefficient set: every singular value
                          X <- (a I + b A + c A A) X       s of X becomes a s + b s^3 + c s^5
                      A tall matrix uses X^T X from the right, so that A is always of the smaller side.
      around it       guard        0: none. Else X <- u / (c.norm |u|_F + guard), or, with MUON_GUARD_MAX, X <- u / max(c.norm
                                   |u|_F, guard), as other codes have it (1e-7): below it a step shrinks with the gradient
                      equalize     1: first each row of u is scaled to the length |u|_F / sqrt(rows) (MuonEq, arXiv 2603.28254,
                                   as nanochat has it); a row of zeros stays one
                      renormalize  1: then X <- X sqrt(min(rows, cols)) / |X|_F, the length of U V^T (Muon+, arXiv 2602.21545)
      evened, after   v <- beta2 v + (1 - beta2) mean of a row's squares; each row of X / (sqrt(v) + eps); then X is
                      scaled back to the Frobenius norm it had, as modded-nanogpt and nanochat do it (the paper gives
                      the update an RMS of 0.2). options.axis: MUON_AXIS_ROWS, a v for each row (the paper); or
                      MUON_AXIS_LONGER, for each row where rows >= cols, else for each column (those two codes)
      U V^T exactly   one-sided Jacobi SVD in double: some hundred times the work of Newton-Schulz. Singular values
                      below the float32 noise, 1.2e-7 max(rows, cols) times the largest, count as zero and stay zero.
      U S^p V^T       muon_spectral_power: coupled Newton iterations, no SVD

      Coefficient sets (MuonCoefficients: one of yours works as well as those of muon_coefficients), with the gain, what
      all steps together multiply a tiny singular value by, and where singular values go (relative to |u|_F; muon_phi)
      MUON_COEFF_KELLER                5 steps   gain 485    not exact: 0.0052..1 goes into 0.68..1.14
      MUON_COEFF_POLAR_EXPRESS         5 steps   gain 970    modded-nanogpt's list: 0.003..1 into 0.86..1.14
      MUON_COEFF_POLAR_EXPRESS_PAPER   5 steps   gain 967    arXiv 2505.16932: 0.003..1 into 0.87..1.13; exact with more
      MUON_COEFF_BJORCK               10 steps   gain 537    (15/8, -10/8, 3/8): converges to 1 from below
      MUON_COEFF_CUBIC                15 steps   gain 438    (3/2, -1/2): the classical iteration
      MUON_COEFF_EXACT12              12 steps   gain 4096   (2, -3/2, 1/2): modded-nanogpt's track 3, nearly U V^T
      MUON_COEFF_DEEPSEEKV4           10 steps   gain 79263  8 of Keller's, 2 of exact12's: 0.0001..1 into 0.99..1.003
      MUON_COEFF_CUBIC5                5 steps   gain 119    arXiv 2606.00371, no A A product: 0.007..1 into 0.77..1.31
      MUON_COEFF_CANS                  5 steps   gain 1039   arXiv 2506.10935: 0.001..1 into 0.88..1.13
      MUON_COEFF_AOL                   4 steps   gain 90     Turbo-Muon: 0.02..1 into 0.98..1.09
      MUON_COEFF_YOUJIACHENG           5 steps   gain 493    modded-nanogpt's second list: 0.003..1 into 0.97..1.15
      "quintic" is the name of both bjorck (here, once) and youjiacheng (timm, pytorch_optimizer, Emerging-Optimizers; in optax
      "dion"): bjorck in the five steps of the other has a gain of 23 and leaves a singular value of 0.003 at 0.07.

   3. Scale, what multiplies a transformed u
      MUON_SCALE_NONE              1
      MUON_SCALE_KELLER            sqrt(max(1, rows / cols))       lr about 0.02; torch: adjust_lr_fn="original"
      MUON_SCALE_MATCH_RMS_ADAMW   0.2 sqrt(max(rows, cols))       Moonlight (arXiv 2502.16982, equations 4 and 7): the
                                   RMS of an orthogonal u is then 0.2, about AdamW's, whose lr and decay serve both
      MUON_SCALE_RMS_ONE           sqrt(max(rows, cols))           an RMS of 1: the first Muon of modded-nanogpt
      MUON_SCALE_RMS_EXACT         0.2 / RMS(u)                    an RMS of 0.2 whatever the rule made of u (Moonlight,
                                   table 1): rules of different length at one lr; a u of zeros stays zero
      MUON_SCALE_SPECTRAL          sqrt(rows / cols)               the spectral norm of a map between vectors measured by RMS:
                                   dion's default, torch's "spectral_unclamped", timm's "rms_to_rms"
      MUON_SCALE_KELLER_TRANSPOSED sqrt(max(1, cols / rows))       Keras up to 3.12: Keller's, of kernels inputs x outputs
      options.rms stands for the 0.2 of two of them. AdamW's own is about sqrt((1 - beta1) / (1 + beta1)), 0.23 at 0.9;
      DeepSeek-V4 has 0.18 (arXiv 2606.19348).
      Converting one into the other:  lr_keller sqrt(max(1, rows / cols)) = lr_match 0.2 sqrt(max(rows, cols)),
      for a square matrix lr_keller = 0.2 sqrt(cols) lr_match: 2.3 times at 128, 3.9 at 384, 5.5 at 768.
      The spectral family is stated without a scale for p > 0, with MUON_SCALE_KELLER for p = 0.

   Blocks (MuonParam.blocks): the rows of a matrix may be cut into blocks, each of which goes through stages 2 and 3 as a
   matrix of its own, so that none holds down another. Per-head Muon (Kimi K3, arXiv 2607.24653, section 2.5; GLM-5's Muon
   Split, arXiv 2602.15763) cuts W_q, W_k and W_v, whose rows are head after head, but not W_o. The scale is the block's, as
   in dion: where blocks and matrix have no more rows than columns it is that of the whole matrix too; for a tall matrix, such as
   the up-projections of latent attention, a block's is what keeps the update's size. With MUON_SCALE_KELLER an orthogonal
   update of rows x cols has the Frobenius norm sqrt(rows) cut or not (blocks no taller than wide), with
   MUON_SCALE_MATCH_RMS_ADAMW every block has an RMS of 0.2: the learning rate carries over.

   4. Decay is decoupled and takes lr without the scale; sgd, rmsprop and adam add wd W to g instead, as torch does.
      options.cautious (arXiv 2510.12402): only where u W >= 0, so that the decay never works against the step.
      options.decay_scaled: with the scale, W <- W - lr scale (wd W + u), as muonium, nanochat and modded-nanogpt have it.
      options.decay_factor: times wd, for a schedule of its own. 1: the decay falls as lr does; lr_factor: as its square
      (AdamC, arXiv 2506.02285); a cosine to zero (nanochat); 1 / lr_factor would hold it constant.

   QK-Clip  (Kimi K2, arXiv 2507.20534, section 2.1) after the step, per layer: muon_qk_clip; muon_qk_clip_mla for
   multi-head latent attention.

   ====================================================================================================================
   Which tensor gets which rule
       muon and kin      hidden matrices: attention's W_q, W_k, W_v, W_o and the MLP's. Their inputs and outputs are
                         dense vectors, whose size the spectral norm bounds.
       adamw             embeddings and position tables (their input is one-hot: a row's gradient says nothing about the
                         other rows), the output head, tied or not (its outputs are logits, one per token), and
                         everything that is no matrix: biases, norm gains, scalars, as rows = 1.
     Q, K and V: give each its own MuonParam even where they lie in one packed 3C x C matrix (w, w + C*C, w + 2*C*C with
     stride 3*C*C). Orthogonalized together, the block with the largest gradient holds down the others: gradients of
     1 : 0.1 : 3 come out with an RMS of 1 : 0.11 : 1.7, instead of equal. (Packed: one MuonParam of 3C rows.)
     Equal matrices of all layers are one MuonParam with a count, stride floats apart; each is transformed alone.
     Attention heads: blocks { head size } for W_q, W_k and W_v; of latent attention { content + rotary } for the queries'
     up-projection, { content, value } for that of keys and values, whose rows are a head's keys, then its values; and
     { latent, rotary } where a down-projection has the shared rotary key's rows behind the latent's.

   What Newton-Schulz costs. The p x p matrices R = X X^T, P = a I + b R + c R R and their products commute and are
   symmetric: one triangle of each is computed. Several steps can share one R, carried along as R <- P R P, with their
   P's multiplied into one Q: X <- Q X comes once at the end ("Gram space", Dao-AILab's gram-newton-schulz). s steps
   that share an R cost 3 p^2 q + (4 s - 3) p^3 FLOPs, p <= q: as much as s steps alone where p = q, less for every
   longer matrix (s = 1, 3, 5 of a 1 : 4 matrix: 13, 7, 5.8 p^3 a step). Rounding grows with s, so that the first
   MUON_GRAM_STEPS - 1 = 2 steps share one, then 3 at a time; square and nearly square matrices take each step alone. A
   cubic, c = 0, saves R R, p^3 a step: a quarter of a square matrix's work. muon_param_flops counts it.

   The contract
     - The caller's memory: muon_state_bytes for a Muon's life, muon_scratch_bytes per thread while stepping; aligned as
       malloc does (to 64 bytes is faster). Weights, gradients, state and scratch don't overlap. No allocation, no stdio,
       no exit, no globals. Functions return 0 or a code MUON_E_*.
     - The params array, a param's own options and the coefficient sets stay the caller's and must outlive the Muon
       (muon_init copies the common options). lr, weight_decay, w, g and every other option may change between steps;
       count, rows, cols, blocks, rule and options.axis may not: the state's layout follows from them.
     - A step that is refused has changed nothing, t included: for NaN or infinity in any gradient (MUON_E_NOT_FINITE),
       for an argument, an option or an entry of the table. bad_tensor, bad_matrix and bad_field say where.
     - MUON_OK means finite weights; a state or a step that leaves the range of a float is a code. Gradients may have any
       size a float has; the rules with second moments take those beyond 1e19, whose squares are no floats, as 1e19.
     - Any compiler flags, -ffast-math too: NaN and infinity are told by their bits.
     - Threads: muon_step shares the work through MUON_PARALLEL_FOR, to the same bits for any number of them. Or, from
       threads of your own: muon_begin_step from one, then muon_step_one of different matrices from any, in any order.
     - Checkpoints: the numbers of muon_state for every slot, and m.t; muon_init, then put both back.

   Macros, defined before the implementation is included
       MUON_GEMM(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
           your own C = alpha op(A) op(B) + beta C in float, row-major, C m x n; where beta is 0, C is not read. It is
           called from several threads at once, as are the two below: where muon_step is given threads, small matrices
           run side by side, and your own threads may call muon_step_one. So it must keep nothing in static buffers, and
           should not start threads of its own there. Nearly all of Muon's cost is here. The built-in one is a blocked
           loop that compilers vectorize at -O3; sqrtf of the Adam rules needs -fno-math-errno for that.
       MUON_GEMM_SYMMETRIC(trans, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
           your own C = alpha op(A) op(B)^T + beta C, op(A) and op(B) n x k, for products known to be symmetric: compute
           one triangle, half of the cost, and mirror it. Without it MUON_GEMM computes both, and one is mirrored.
       MUON_GRAM_STEPS   how many steps may share a Gram matrix: 3 unless you define it, also as an expression. Where
           MUON_GEMM rounds to bf16: 2, for that noise grows faster. 1: every step takes its own
       MUON_GEMM_EXACT
           as MUON_GEMM, for muon_spectral_power, which needs float: where MUON_GEMM rounds to bf16. Without it, that.
       MUON_PARALLEL_FOR(n, threads, body, context)
           your own threads: calls body(context, i, thread) for i = 0 .. n-1, once each, in any order, several at once,
           and returns when all are done. thread: 0 .. threads-1 (threads 0: any), no two calls at once with the same.
           Called from within a body, it may run all of them on that thread. Built in: OpenMP where the compiler has it
           on, else a loop.
       MUON_ASSERT(condition)   states what must hold inside; off unless you define it, such as as assert
       MUON_STATIC              makes every function static, in a program whose only file with muon.h this is
*/
#ifndef MUON_H
#define MUON_H

#include <stddef.h>

/* Of this file and of the library that `make libmuon` makes of it (semver.org): the first number changes where a program has to,
   or has to be compiled anew, the second where something is added, the third where a fault is mended. */
#define MUON_VERSION "1.0.0"

#if defined(MUON_STATIC)
#define MUONDEF static inline
#elif defined(__cplusplus)
#define MUONDEF extern "C"
#else
#define MUONDEF extern
#endif

enum {
    MUON_RULE_NONE,
    MUON_RULE_SGD, MUON_RULE_RMSPROP, MUON_RULE_ADAM, MUON_RULE_ADAMW,
    MUON_RULE_MUON, MUON_RULE_NORMUON, MUON_RULE_SVD,
    MUON_RULE_MSGD, MUON_RULE_MSGDS, MUON_RULE_MSGDQ, MUON_RULE_MSGDZ,
    MUON_RULE_ADAMS, MUON_RULE_ADAMQ, MUON_RULE_ADAMZ,
    MUON_RULE_COUNT
};
enum {
    MUON_COEFF_KELLER, MUON_COEFF_POLAR_EXPRESS, MUON_COEFF_POLAR_EXPRESS_PAPER,
    MUON_COEFF_BJORCK, MUON_COEFF_CUBIC, MUON_COEFF_EXACT12,
    MUON_COEFF_DEEPSEEKV4, MUON_COEFF_CUBIC5, MUON_COEFF_CANS, MUON_COEFF_AOL, MUON_COEFF_YOUJIACHENG,
    MUON_COEFF_COUNT
};
enum { MUON_SCALE_NONE, MUON_SCALE_KELLER, MUON_SCALE_MATCH_RMS_ADAMW, MUON_SCALE_RMS_ONE, MUON_SCALE_RMS_EXACT,
       MUON_SCALE_SPECTRAL, MUON_SCALE_KELLER_TRANSPOSED, MUON_SCALE_COUNT };
enum { MUON_NESTEROV_OFF, MUON_NESTEROV, MUON_NESTEROV_CORRECTED, MUON_NESTEROV_COUNT };
enum { MUON_GUARD_ADD, MUON_GUARD_MAX, MUON_GUARD_COUNT };
enum { MUON_AXIS_ROWS, MUON_AXIS_LONGER, MUON_AXIS_COUNT };
enum { MUON_USES_MOMENTUM = 1,         // momentum, nesterov, look_ahead, accumulate
       MUON_USES_BETA1 = 2,            // and adam_nesterov
       MUON_USES_BETA2 = 4,            // and eps
       MUON_USES_NEWTON_SCHULZ = 8,    // coefficients, ns_steps, guard, guard_form, equalize, renormalize
       MUON_USES_SCALE = 16,           // and rms, decay_scaled
       MUON_USES_ADDED_DECAY = 32,     // its weight decay is added to the gradient; the others' is decoupled
       MUON_USES_AXIS = 64 };
enum { MUON_SLOT_MOMENTUM, MUON_SLOT_SECOND_MOMENT, MUON_SLOT_COUNT };   // of muon_state

enum {                      // what the functions return; muon_strerror puts it into words
    MUON_OK = 0,
    MUON_E_ARGUMENT,        // a null pointer, an index, a size or a factor outside its range: m->bad_field
    MUON_E_OPTIONS,         // a MuonOptions field outside its range: m->bad_field; m->bad_tensor is whose, -1 for the
                            // Muon's own
    MUON_E_PARAM,           // a MuonParam that can't be: m->bad_tensor is its index, m->bad_field what is wrong
    MUON_E_VECTOR,          // one row or one column (a block's, too) under a rule that transforms matrices: m->bad_tensor
    MUON_E_NOT_FINITE,      // NaN or infinity in a gradient: m->bad_tensor, m->bad_matrix say which; or in a matrix
    MUON_E_STATE,           // NaN or infinity in a tensor's state, as from a damaged checkpoint
    MUON_E_DIVERGED,        // a result is not finite: of coefficients that don't converge, or a step beyond FLT_MAX
    MUON_E_LOGIT,           // NaN or +infinity among QK-Clip's maximum logits
    MUON_E_COUNT
};

enum { MUON_MAX_ROWS = 16, MUON_MAX_NS_STEPS = 100, MUON_MAX_BLOCKS = 4 };

// A Newton-Schulz polynomial per step: step i takes row i, or the last one from there on.
typedef struct {
    const char *name;
    int steps;                              // how many where MuonOptions.ns_steps is 0, 1 .. MUON_MAX_NS_STEPS
    double norm;                            // X starts as u / (norm |u|_F); above 1 where a set needs the room
    int rows;                               // 1 .. MUON_MAX_ROWS
    double abc[MUON_MAX_ROWS][3];           // s -> a s + b s^3 + c s^5
} MuonCoefficients;

typedef struct {
    double momentum;                        // in [0, 1)
    int nesterov;                           // MUON_NESTEROV_OFF (0), MUON_NESTEROV (1) or MUON_NESTEROV_CORRECTED
    double look_ahead;                      // where nesterov is off: u <- b + look_ahead g; >= 0
    int accumulate;                         // 0: b <- mu b + (1 - mu) g; 1: b <- mu b + g
    const MuonCoefficients *coefficients;   // muon_coefficients(MUON_COEFF_*), or the caller's own
    int ns_steps;                           // 1 .. MUON_MAX_NS_STEPS; 0: as the coefficients say
    double guard;                           // of |u|_F before Newton-Schulz, >= 0; 0: none is needed
    int guard_form;                         // MUON_GUARD_*
    int equalize, renormalize;              // 1: MuonEq's rows before, Muon+'s length after Newton-Schulz
    int scale;                              // MUON_SCALE_*, of transformed matrices
    double rms;                             // of MUON_SCALE_MATCH_RMS_ADAMW and MUON_SCALE_RMS_EXACT, > 0
    int cautious;                           // 1: decoupled decay only where it agrees with the step
    int decay_scaled;                       // 1: decoupled decay takes the scale as well
    double decay_factor;                    // times every decoupled decay, >= 0
    int axis;                               // MUON_AXIS_*, of NorMuon's second moments
    double beta1, beta2;                    // in [0, 1); beta2 of every second moment: Adam's, RMSprop's, NorMuon's
    double eps;                             // in [1e-20, 1), 1e-20 is DeepSeek-V4's: below that, g^2 is no float (or denormal)
                                            // where eps must bound the step. Where a mean loss makes embedding gradients
                                            // tiny: 1e-10
    int adam_nesterov;                      // 1: Adam's first moment looks ahead (NAdam)
} MuonOptions;

typedef struct {
    const char *name;                       // for the caller's messages; never read here
    float *w;                               // count matrices of rows x cols, row-major; a vector is rows = 1
    const float *g;                         // their gradients, laid out like w
    int count, rows, cols;
    size_t stride;                          // floats between successive matrices of w and of g; unused where count is 1
    int rule;                               // MUON_RULE_*
    double lr;                              // this tensor's own peak learning rate; times lr_factor in a step
    double weight_decay;                    // lr * weight_decay of W is lost in a step (sgd, rmsprop, adam: see above)
    const MuonOptions *options;             // this tensor's own; NULL: those of muon_init
    int blocks[MUON_MAX_BLOCKS];            // heights of the blocks that a matrix is cut into, a list from the top down, over
                                            // and over: { 32 } every 32 rows; zeros: none. Transformed matrices only
} MuonParam;

typedef struct {
    long long t;                            // steps begun so far: save it, and set it after muon_init to resume
    MuonOptions options;                    // may be changed between steps (momentum warm-up)
    int bad_tensor, bad_matrix;             // where muon_init, muon_begin_step or muon_step met an error, or -1
    const char *bad_field;                  // and in what: the name of a field or an argument ("eps"), or NULL
    const MuonParam *params;
    int n;
    float *state;
    double lr_factor, grad_scale;           // of the step begun; grad_scale is -1 where none is
    float *const *slots;                    // of muon_init_apart, else NULL
    long long *steps;
} Muon;

/* momentum 0.95, averaged, Nesterov, MUON_COEFF_KELLER and its 5 steps, no guard, MUON_SCALE_MATCH_RMS_ADAMW, rms 0.2,
   plain decay, its factor 1; betas 0.9 and 0.95, eps 1e-8. Source: Moonlight's examples/toy_train.py; averaged as in
   torch.optim.Muon. */
MUONDEF MuonOptions muon_default_options(void);

/* Bytes of state for these n tensors: the table of rules says how many floats per weight. Bytes of scratch that one
   thread needs while stepping: for the largest matrix or block that is transformed, p x q with p <= q, 2 p q + 4 p^2
   floats; svd 3 p q + 2 p^2. w and g may still be NULL: a caller can plan its memory
   first. Both are 0 where another argument is bad; muon_init says what is wrong. Scratch is a
   multiple of 64 bytes. */
MUONDEF size_t muon_state_bytes(const MuonParam *params, int n, const MuonOptions *options);
MUONDEF size_t muon_scratch_bytes(const MuonParam *params, int n, const MuonOptions *options);

/* Starts m with zero states and t = 0. memory: muon_state_bytes, written; may be NULL where that is 0.
   Fails with MUON_E_ARGUMENT, MUON_E_OPTIONS, MUON_E_PARAM or MUON_E_VECTOR (m->bad_tensor, m->bad_field). */
MUONDEF int muon_init(Muon *m, const MuonParam *params, int n, const MuonOptions *options, void *memory);

/* As muon_init, for tensors whose states are pieces of memory of the caller's, as in a binding to another language, and which may
   sit steps out (one without a gradient is left out of the table): slots[tensor * MUON_SLOT_COUNT + slot], the numbers that
   muon_state has there, read and written, NULL where the rule keeps none; steps[tensor], how many steps have made them, in place
   of t, which a step adds one to. Zeros at first. Both arrays must outlive the Muon. Fails as muon_init, and with MUON_E_PARAM
   (bad_field "slots" or "steps") where a piece is missing or a number of steps is negative. */
MUONDEF int muon_init_apart(Muon *m, const MuonParam *params, int n, const MuonOptions *options, float *const *slots,
                            long long *steps);

/* Begins a step: scans every gradient of a tensor that has a rule, adds one to t, keeps both factors for muon_step_one.
   lr_factor: the schedule, times each tensor's lr. grad_scale: times every gradient, such as clip / max(clip, norm).
   Both finite and >= 0; an lr_factor from -1e-12 on is the rounding of a schedule that ends at zero, and counts as 0 (a
   compiler's fused 1 - n * (1 / n) is -2e-17). Fails with MUON_E_NOT_FINITE (a gradient, as scaled) or as muon_init:
   weights, states and t are as before, and muon_step_one refuses until a step has begun. */
MUONDEF int muon_begin_step(Muon *m, double lr_factor, double grad_scale);

/* Steps one matrix by its rule. To be called once for each tensor and matrix after muon_begin_step; reads m and writes
   only this matrix, its state and scratch (one per thread; NULL where muon_scratch_bytes is 0), so calls may run at
   once. Fails with MUON_E_ARGUMENT (as where no step has begun), MUON_E_STATE where a matrix to be transformed isn't
   finite, which then comes from its state, or MUON_E_DIVERGED where the transform's result isn't: the weights are
   untouched (of a matrix in blocks, those of the block). Or with MUON_E_DIVERGED where a weight is no longer finite after
   the step. */
MUONDEF int muon_step_one(const Muon *m, int tensor, int matrix, void *scratch);

/* Every matrix after muon_begin_step. scratch: threads (>= 1) times muon_scratch_bytes. Matrices that are transformed
   run side by side, one per thread, as long as they are small; for a large one all threads work together, as far as
   MUON_GEMM shares its work. Fails as muon_step_one; the matrices that could be stepped have been. */
MUONDEF int muon_step_all(Muon *m, void *scratch, int threads);

/* The whole step: muon_begin_step, then muon_step_all, whose arguments are looked at before the step begins. */
MUONDEF int muon_step(Muon *m, double lr_factor, double grad_scale, void *scratch, int threads);

/* Square root of the sum of g^2 over all tensors that have a rule, grad_scale not applied: for gradient clipping.
   Summed in double in a fixed order; NaN or infinity in, NaN or infinity out. */
MUONDEF double muon_grad_norm(const Muon *m);

/* Sum of the squares of n floats, in double, in an order that depends on n alone: for a norm that several processes share. */
MUONDEF double muon_sum_of_squares(const float *x, size_t n);

/* A tensor's state in slot MUON_SLOT_*, for checkpoints: *n floats, matrix after matrix without gaps, to read or write;
   rows * cols per matrix; normuon's second moment rows, with MUON_AXIS_LONGER max(rows, cols) of each block. NULL and
   *n = 0 where the rule keeps nothing in this slot. */
MUONDEF float *muon_state(const Muon *m, int tensor, int slot, size_t *n);

/* x <- about U V^T of x = U S V^T, in place: steps of the set on x / (c->norm |x|_F). A zero x stays zero.
   x: rows x cols, row-major, of any orientation. scratch: muon_orthogonalize_bytes. Fails with MUON_E_ARGUMENT or
   MUON_E_NOT_FINITE, x unchanged; or MUON_E_DIVERGED. */
MUONDEF int muon_orthogonalize(float *x, int rows, int cols, const MuonCoefficients *c, int steps, void *scratch);
MUONDEF size_t muon_orthogonalize_bytes(int rows, int cols);

/* x <- U S^power V^T of x = U S V^T, exactly, in place, for any power >= 0: one-sided Jacobi (Hestenes 1958) in double.
   power 0 is the polar factor U V^T. Singular values up to 1.2e-7 max(rows, cols) times the largest are set to zero:
   in float they are rounding. About 6 p^2 q FLOPs a sweep, 6 to 12 sweeps, p <= q, on the calling thread. x, failures:
   as muon_orthogonalize. scratch: muon_svd_power_bytes. */
MUONDEF int muon_svd_power(float *x, int rows, int cols, double power, void *scratch);
MUONDEF size_t muon_svd_power_bytes(int rows, int cols);

/* x <- about U S^power V^T for power 1, 1/2, 1/4 or 0, by products alone, whatever the size of x. With X = x / |x|_F
   and G = X X^T (of the smaller side), a coupled Newton iteration gives (G + r I)^(-1/2) with the relative ridge
   r = 1e-4 trace(G) / p; power 0 is that times X; 1/2 takes the root of it by another iteration, with a ridge of its
   own; 1/4 is 1/2 of 1/2. An iteration is 15 steps of three products, 90 p^3 FLOPs. Singular values below 0.4 % of
   |x|_F, or 2.3 % / sqrt(p) where that is more, come out too small, by up to all they are: for the ridge where p is
   small, for the number of steps where it is large. From there on they are at most 10 % too small, and at most 2.2 %
   (power 1/2), 3.3 % (1/4) or 0.1 % (0) too large: the root's own ridge lifts large ones where most others are nearly
   zero, 2.1 and 3.1 % at rank 1 with p = 128. Source: arXiv 2602.04669 and its code, whose absolute ridge of 1e-6 made it
   depend on the size of x. x, failures: as muon_orthogonalize. scratch: muon_spectral_power_bytes. */
MUONDEF int muon_spectral_power(float *x, int rows, int cols, double power, void *scratch);
MUONDEF size_t muon_spectral_power_bytes(int rows, int cols);

/* The coefficient set MUON_COEFF_*; NULL for any other number, so that a loop can find one by its name. */
MUONDEF const MuonCoefficients *muon_coefficients(int set);

/* What muon_orthogonalize makes of a singular value x = S_i / |S|_F, in exact arithmetic. */
MUONDEF double muon_phi(const MuonCoefficients *c, int steps, double x);

/* FLOPs (a multiply-add is two) of a rule's products in one step of one matrix: of Newton-Schulz, in `steps` steps, one
   triangle of each symmetric product; of the spectral family all of it. 0 for rules without products and for svd, whose
   work depends on the matrix; NaN for an unknown rule. Newton-Schulz's steps count as quintics. */
MUONDEF double muon_flops(int rule, int rows, int cols, int steps);

/* The same for one matrix of a tensor as it is stepped: by its coefficient set, whose cubics (c = 0) are cheaper, and the
   number of its steps, in its blocks. options: the common ones. */
MUONDEF double muon_param_flops(const MuonParam *p, const MuonOptions *options);

/* The factor MUON_SCALE_* for a matrix of this shape (RMS_EXACT: for a u whose RMS is 1); NaN for any other number. The
   second: of these options, whose rms counts. */
MUONDEF double muon_scale(int scale, int rows, int cols);
MUONDEF double muon_update_scale(const MuonOptions *o, int rows, int cols);

/* The look ahead of step t (from 1): u = *from_g g + *from_b b, b as it is after the step. */
MUONDEF void muon_look_ahead(const MuonOptions *o, long long t, double *from_g, double *from_b);

/* tau / S where S > tau > 0, else 1: also for S <= 0 and for S = -infinity (no logit seen), where min(1, tau / S) would
   turn or wipe the weights. NaN where S is NaN or +infinity, for no factor mends that. */
MUONDEF double muon_qk_gamma(double max_logit, double tau);

/* QK-Clip of one layer's projections, after its step: every query head's logits become gamma_h = muon_qk_gamma(S_h,
   tau) times what they were. wq: n_heads * head_size x cols; wk: n_kv_heads * head_size x cols; bq, bk: their biases,
   or NULL. max_logit: n_heads values S_h, each the largest softmax input (1/sqrt(head_size) included, masked pairs not)
   over the whole batch of the step, taken in its forward. Head h reads key h / (n_heads / n_kv_heads). alpha in [0, 1]:
   the queries' share, 0.5 in Kimi K2. tau: 0 is off, else >= 1.2e-38.
   *clipped (or NULL): how many heads had gamma_h < 1.
       f = (largest gamma_h of the heads that share a key)^(1 - alpha)
       W_k, b_k *= f          W_q,h, b_q,h *= gamma_h / f
   With one head per key that is Kimi K2's rule; a head that need not be clipped keeps its logits and is never clipped
   for another's sake. The biases scale too, or the logits would not scale by gamma_h. RoPE commutes with all of it;
   QK-norm undoes it: use one of the two.
   Fails with MUON_E_ARGUMENT or MUON_E_LOGIT, nothing changed. */
MUONDEF int muon_qk_clip(float *wq, float *bq, float *wk, float *bk, int n_heads, int n_kv_heads, int head_size,
                         int cols, const float *max_logit, double tau, double alpha, int *clipped);

/* QK-Clip for multi-head latent attention (Kimi K2, section 2.1), where a head's query and key are a content part and a
   rotary part, and the rotary key is one for all heads: logit = q_content . k_content + q_rotary . k_rotary. The
   content parts take gamma_h^alpha and gamma_h^(1 - alpha), the rotary query gamma_h, the shared rotary key stays.
   wq: n_heads times (content + rotary rows) x q_cols. wk: n_heads times k_rows >= content rows x k_cols, the first
   `content` of them the head's key (behind them, say, its value's up-projection), untouched beyond. No biases, as the
   model has none. The rest, failures included, as muon_qk_clip. */
MUONDEF int muon_qk_clip_mla(float *wq, int q_cols, float *wk, int k_cols, int k_rows, int n_heads, int content,
                             int rotary, const float *max_logit, double tau, double alpha, int *clipped);

/* The names by which a configuration calls them ("adamw", "keller"; as in the tables above), NULL for any other number;
   and some words for every code. */
MUONDEF const char *muon_rule_name(int rule);
// 1 where the rule transforms whole matrices, 0 where it works on single weights (or for `none`).
MUONDEF int muon_rule_is_for_matrices(int rule);
// The sum of MUON_USES_* for the options that change a step of the rule, and for how it decays; 0 for `none` and for any
// other number.
MUONDEF int muon_rule_uses(int rule);
MUONDEF const char *muon_scale_name(int scale);
MUONDEF const char *muon_strerror(int code);
// MUON_VERSION as the implementation has it: of a shared library, whether it is the one that the program was compiled for.
MUONDEF const char *muon_version(void);

#endif // MUON_H

// =====================================================================================================================
#if defined(MUON_IMPLEMENTATION) && !defined(MUON_IMPLEMENTED)
#define MUON_IMPLEMENTED

#include <float.h>
#include <math.h>
#include <string.h>

#ifndef MUON_ASSERT
#define MUON_ASSERT(condition) ((void)sizeof(condition))
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Names and tables

enum { MUON__MOMENTUM = 1, MUON__RMS, MUON__ADAM };                                 // directions; 0: none
enum { MUON__ELEMENTWISE, MUON__NEWTON_SCHULZ, MUON__EVENED, MUON__SVD, MUON__POWER }; // transforms

typedef struct {
    const char *name;
    int direction, transform;
    double power;                           // of MUON__POWER
    int adds_decay;                         // the decay is added to the gradient, not taken from the weights
} muon__Rule;

static const muon__Rule *muon__rule(int rule) {
    static const muon__Rule rules[] = {     // in the order of MUON_RULE_*
        { "none",    0,              MUON__ELEMENTWISE,    1.0,  0 },
        { "sgd",     MUON__MOMENTUM, MUON__ELEMENTWISE,    1.0,  1 },
        { "rmsprop", MUON__RMS,      MUON__ELEMENTWISE,    1.0,  1 },
        { "adam",    MUON__ADAM,     MUON__ELEMENTWISE,    1.0,  1 },
        { "adamw",   MUON__ADAM,     MUON__ELEMENTWISE,    1.0,  0 },
        { "muon",    MUON__MOMENTUM, MUON__NEWTON_SCHULZ,  0.0,  0 },
        { "normuon", MUON__MOMENTUM, MUON__EVENED,         0.0,  0 },
        { "svd",     MUON__MOMENTUM, MUON__SVD,            0.0,  0 },
        { "msgd",    MUON__MOMENTUM, MUON__POWER,          1.0,  0 },
        { "msgds",   MUON__MOMENTUM, MUON__POWER,          0.5,  0 },
        { "msgdq",   MUON__MOMENTUM, MUON__POWER,          0.25, 0 },
        { "msgdz",   MUON__MOMENTUM, MUON__POWER,          0.0,  0 },
        { "adams",   MUON__ADAM,     MUON__POWER,          0.5,  0 },
        { "adamq",   MUON__ADAM,     MUON__POWER,          0.25, 0 },
        { "adamz",   MUON__ADAM,     MUON__POWER,          0.0,  0 },
    };
    return rule >= 0 && rule < MUON_RULE_COUNT ? &rules[rule] : NULL;
}

MUONDEF int muon_rule_is_for_matrices(int rule) {
    const muon__Rule *r = muon__rule(rule);
    return r && r->transform != MUON__ELEMENTWISE;
}

MUONDEF int muon_rule_uses(int rule) {
    const muon__Rule *r = muon__rule(rule);
    if (!r) return 0;
    return (r->direction == MUON__MOMENTUM ? MUON_USES_MOMENTUM : 0)
         | (r->direction == MUON__ADAM ? MUON_USES_BETA1 : 0)
         | (r->direction == MUON__ADAM || r->direction == MUON__RMS || r->transform == MUON__EVENED ? MUON_USES_BETA2 : 0)
         | (r->transform == MUON__NEWTON_SCHULZ || r->transform == MUON__EVENED ? MUON_USES_NEWTON_SCHULZ : 0)
         | (r->transform != MUON__ELEMENTWISE ? MUON_USES_SCALE : 0)
         | (r->adds_decay ? MUON_USES_ADDED_DECAY : 0)
         | (r->transform == MUON__EVENED ? MUON_USES_AXIS : 0);
}

MUONDEF const char *muon_rule_name(int rule) {
    const muon__Rule *r = muon__rule(rule);
    return r ? r->name : NULL;
}

MUONDEF const char *muon_scale_name(int scale) {
    static const char *const names[] = { "none", "keller", "match_rms_adamw", "rms_one", "rms_exact", "spectral",
                                         "keller_transposed" };
    return scale >= 0 && scale < MUON_SCALE_COUNT ? names[scale] : NULL;
}

MUONDEF const char *muon_strerror(int code) {
    static const char *const words[] = {
        "no error",
        "an argument is outside its range",
        "an optimizer option is outside its range",
        "a tensor's entry in the parameter table is not valid",
        "a vector (one row or one column) under a rule for matrices; adamw is for vectors",
        "NaN or infinity in a gradient",
        "NaN or infinity in the optimizer's state",
        "diverged: NaN or infinity in a transform's result or in a weight",
        "NaN or infinity in a maximum attention logit",
    };
    return code >= 0 && code < MUON_E_COUNT ? words[code] : "unknown error code";
}

MUONDEF const char *muon_version(void) { return MUON_VERSION; }

MUONDEF const MuonCoefficients *muon_coefficients(int set) {
    // The paper's list is for X / 1.01: each step but the last of its list has (a, b, c) for s / 1.01.
#define MUON__1_01(a, b, c) { (a) / 1.01, (b) / (1.01 * 1.01 * 1.01), (c) / (1.01 * 1.01 * 1.01 * 1.01 * 1.01) }
    static const MuonCoefficients sets[] = {
        // Keller Jordan, kellerjordan.github.io/posts/muon
        { "keller", 5, 1.0, 1, { { 3.4445, -4.7750, 2.0315 } } },
        // github.com/KellerJordan/modded-nanogpt, train_gpt.py ("5 iters, safety_factor 2e-2, cushion 2")
        { "polar_express", 5, 1.02, 5, {
            { 8.156554524902461, -22.48329292557795, 15.878769915207462 },
            { 4.042929935166739, -2.808917465908714, 0.5000178451051316 },
            { 3.8916678022926607, -2.772484153217685, 0.5060648178503393 },
            { 3.285753657755655, -2.3681294933425376, 0.46449024233003106 },
            { 2.3465413258596377, -1.7097828382687081, 0.42323551169305323 } } },
        // Amsel, Persson, Musco, Gower, arXiv 2505.16932, algorithm 1, for singular values in [1e-3, 1]
        { "polar_express_paper", 5, 1.01, 8, {
            MUON__1_01(8.28721201814563, -23.595886519098837, 17.300387312530933),
            MUON__1_01(4.107059111542203, -2.9478499167379106, 0.5448431082926601),
            MUON__1_01(3.9486908534822946, -2.908902115962949, 0.5518191394370137),
            MUON__1_01(3.3184196573706015, -2.488488024314874, 0.51004894012372),
            MUON__1_01(2.300652019954817, -1.6689039845747493, 0.4188073119525673),
            MUON__1_01(1.891301407787398, -1.2679958271945868, 0.37680408948524835),
            MUON__1_01(1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
            { 1.875, -1.25, 0.375 } } },
        // Bjorck and Bowie 1971, of order 5 and 3; Higham, Functions of Matrices, 2008, chapter 8: for the polar factor
        { "bjorck", 10, 1.0, 1, { { 1.875, -1.25, 0.375 } } },
        { "cubic", 15, 1.0, 1, { { 1.5, -0.5, 0.0 } } },
        // modded-nanogpt, records/track_3_optimization
        { "exact12", 12, 1.0, 1, { { 2.0, -1.5, 0.5 } } },
        // DeepSeek-V4, arXiv 2606.19348: eight steps of Keller's, which spread out, and two of exact12's, which converge
        { "deepseekv4", 10, 1.0, 9, {
            { 3.4445, -4.7750, 2.0315 }, { 3.4445, -4.7750, 2.0315 }, { 3.4445, -4.7750, 2.0315 },
            { 3.4445, -4.7750, 2.0315 }, { 3.4445, -4.7750, 2.0315 }, { 3.4445, -4.7750, 2.0315 },
            { 3.4445, -4.7750, 2.0315 }, { 3.4445, -4.7750, 2.0315 }, { 2.0, -1.5, 0.5 } } },
        // arXiv 2606.00371, for singular values from 0.007, bf16's floor; the numbers: NVIDIA's Emerging-Optimizers
        { "cubic5", 5, 1.0, 5, {
            { 3.3656576, -3.3420992, 0.0 }, { 2.5744352, -1.4957376, 0.0 }, { 2.5368962, -1.4312570, 0.0 },
            { 2.4418906, -1.2764040, 0.0 }, { 2.2230472, -0.9630650, 0.0 } } },
        // CANS, Grishina, Smirnov, Rakhuba, arXiv 2506.10935 (Remez, adaptive interval); the numbers: Emerging-Optimizers.
        // Five times in a row they are steep at 1, where rounding would be amplified 50,000 times: hence the norm
        { "cans", 5, 1.01, 5, {
            { 8.4703, -25.1081, 18.6293 }, { 4.1828, -3.1087, 0.5806 }, { 3.9619, -2.9541, 0.5630 },
            { 3.2866, -2.4647, 0.5074 }, { 2.2737, -1.6447, 0.4162 } } },
        /* Turbo-Muon, github.com/thib-s/flash-newton-schulz. There "almost orthogonal layers" scale X in place of its
           Frobenius norm. Its first polynomial is negative from 0.8838 on, so that with |u|_F alone a matrix of about rank
           one would be stepped the wrong way: hence the norm, which keeps every singular value below 0.87. */
        { "aol", 4, 1.15, 4, {
            { 4.0098, -7.0585, 2.4635 }, { 3.4585, -5.5479, 2.5959 }, { 2.7573, -3.2939, 1.4254 },
            { 2.7215, -3.0494, 1.3169 } } },
        // You Jiacheng, modded-nanogpt
        { "youjiacheng", 5, 1.0, 5, {
            { 4.0848, -6.8946, 2.9270 }, { 3.9505, -6.3029, 2.6377 }, { 3.7418, -5.5913, 2.3037 },
            { 2.8769, -3.1427, 1.2046 }, { 2.8366, -3.0525, 1.2012 } } },
    };
#undef MUON__1_01
    return set >= 0 && set < MUON_COEFF_COUNT ? &sets[set] : NULL;
}

/* -ffast-math takes for granted that every number is finite: compilers then leave out the comparisons that ask, and may
   follow a NaN into its bits. So the bits go through a volatile, and no NaN is written as one. */
static unsigned long long muon__bits(double x) {
    volatile unsigned long long opaque;
    unsigned long long bits;
    memcpy(&bits, &x, sizeof bits);
    opaque = bits;
    return opaque;
}

static double muon__nan(void) {
    volatile unsigned long long opaque = 0x7ffull << 52 | 1ull << 51;
    const unsigned long long bits = opaque;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int muon__is_finite(double x) { return (muon__bits(x) >> 52 & 0x7ff) != 0x7ff; }

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
    case MUON_SCALE_RMS_ONE:         return sqrt((double)(rows > cols ? rows : cols));
    case MUON_SCALE_RMS_EXACT:       return 0.2;
    case MUON_SCALE_SPECTRAL:        return sqrt((double)rows / cols);
    case MUON_SCALE_KELLER_TRANSPOSED: return cols > rows ? sqrt((double)cols / rows) : 1.0;
    default:                         return muon__nan();
    }
}

MUONDEF double muon_update_scale(const MuonOptions *o, int rows, int cols) {
    const int by_rms = o->scale == MUON_SCALE_MATCH_RMS_ADAMW || o->scale == MUON_SCALE_RMS_EXACT;
    return muon_scale(o->scale, rows, cols) * (by_rms ? o->rms / 0.2 : 1.0);
}

MUONDEF void muon_look_ahead(const MuonOptions *o, long long t, double *from_g, double *from_b) {
    const double mu = o->momentum, nu = o->accumulate ? 1.0 : 1.0 - mu;
    switch (o->nesterov) {
    case MUON_NESTEROV:
        *from_g = nu;
        *from_b = mu;
        break;
    case MUON_NESTEROV_CORRECTED:
        *from_g = nu / (1.0 - pow(mu, (double)t));
        *from_b = mu / (1.0 - pow(mu, (double)t + 1.0));
        break;
    default:
        *from_g = o->look_ahead;
        *from_b = 1.0;
    }
}

MUONDEF MuonOptions muon_default_options(void) {
    MuonOptions o;
    o.momentum = 0.95;
    o.nesterov = MUON_NESTEROV;
    o.look_ahead = 0.0;
    o.accumulate = 0;
    o.coefficients = muon_coefficients(MUON_COEFF_KELLER);
    o.ns_steps = 0;
    o.guard = 0.0;
    o.guard_form = MUON_GUARD_ADD;
    o.equalize = o.renormalize = 0;
    o.scale = MUON_SCALE_MATCH_RMS_ADAMW;
    o.rms = 0.2;
    o.cautious = 0;
    o.decay_scaled = 0;
    o.decay_factor = 1.0;
    o.axis = MUON_AXIS_ROWS;
    o.beta1 = 0.9;
    o.beta2 = 0.95;
    o.eps = 1e-8;
    o.adam_nesterov = 0;
    return o;
}

// ---------------------------------------------------------------------------------------------------------------------
// What is accepted, and where a tensor's state lies

static size_t muon__min(size_t a, size_t b) { return a < b ? a : b; }

static size_t muon__size(const MuonParam *p) { return (size_t)p->rows * (size_t)p->cols; }

static const MuonOptions *muon__options(const MuonParam *p, const MuonOptions *common) {
    return p->options ? p->options : common;
}

// A piece of a matrix that is transformed alone: rows first .. first+height-1.
typedef struct { int first, height; } muon__Block;

// How many blocks a matrix of p has: 1 where it isn't cut, or not transformed. *in_list, *list_height: of the list once.
static int muon__blocks(const MuonParam *p, int *in_list, int *list_height) {
    *in_list = *list_height = 0;
    while (*in_list < MUON_MAX_BLOCKS && p->blocks[*in_list]) *list_height += p->blocks[(*in_list)++];
    return *in_list && muon_rule_is_for_matrices(p->rule) ? p->rows / *list_height * *in_list : 1;
}

static int muon__count_blocks(const MuonParam *p) {
    int in_list, list_height;
    return muon__blocks(p, &in_list, &list_height);
}

static muon__Block muon__block(const MuonParam *p, int i) {
    muon__Block b = { 0, p->rows };
    int in_list, list_height;
    if (muon__blocks(p, &in_list, &list_height) == 1) return b;
    b.first = i / in_list * list_height;
    for (int k = 0; k < i % in_list; k++) b.first += p->blocks[k];
    b.height = p->blocks[i % in_list];
    return b;
}

// Whether NorMuon's second moments are those of rows; how many there are.
static int muon__evens_rows(const MuonOptions *o, int rows, int cols) { return o->axis == MUON_AXIS_ROWS || rows >= cols; }

static int muon__lines(const MuonOptions *o, int rows, int cols) { return muon__evens_rows(o, rows, cols) ? rows : cols; }

// The second moments of a matrix before its block `end`.
static size_t muon__lines_before(const MuonParam *p, const MuonOptions *o, int end) {
    size_t lines = 0;
    for (int i = 0; i < end; i++) lines += (size_t)muon__lines(o, muon__block(p, i).height, p->cols);
    return lines;
}

// Floats that a tensor keeps in a slot.
static size_t muon__slot_size(const MuonParam *p, const MuonOptions *common, int slot) {
    const muon__Rule *r = muon__rule(p->rule);
    const MuonOptions *o = muon__options(p, common);
    const size_t count = (size_t)p->count;
    if (slot == MUON_SLOT_MOMENTUM && (r->direction == MUON__MOMENTUM || r->direction == MUON__ADAM))
        return count * muon__size(p);
    if (slot == MUON_SLOT_SECOND_MOMENT && (r->direction == MUON__RMS || r->direction == MUON__ADAM))
        return count * muon__size(p);
    if (slot != MUON_SLOT_SECOND_MOMENT || r->transform != MUON__EVENED) return 0;
    return count * muon__lines_before(p, o, muon__count_blocks(p));
}

static int muon__not_negative(double x) { return muon__is_finite(x) && x >= 0.0 && x <= FLT_MAX; }

static int muon__fraction(double x) { return muon__not_negative(x) && x < 1.0; }

static int muon__ns_steps(const MuonOptions *o) { return o->ns_steps ? o->ns_steps : o->coefficients->steps; }

static int muon__good_steps(int steps) { return steps >= 1 && steps <= MUON_MAX_NS_STEPS; }

// The functions muon__bad_... return the name of the first field that is outside its range, or NULL.
static const char *muon__bad_coefficients(const MuonCoefficients *c) {
    if (!c) return "coefficients";
    if (c->rows < 1 || c->rows > MUON_MAX_ROWS) return "coefficients->rows";
    if (!muon__not_negative(c->norm) || c->norm < FLT_MIN) return "coefficients->norm";
    for (int i = 0; i < c->rows; i++)
        for (int j = 0; j < 3; j++)
            if (!muon__is_finite(c->abc[i][j]) || fabs(c->abc[i][j]) > 1e30) return "coefficients->abc";
    return NULL;
}

static const char *muon__bad_option(const MuonOptions *o) {
    const char *bad = muon__bad_coefficients(o->coefficients);
    if (!muon__fraction(o->momentum)) return "momentum";
    if (o->nesterov < 0 || o->nesterov >= MUON_NESTEROV_COUNT) return "nesterov";
    if (!muon__not_negative(o->look_ahead)) return "look_ahead";
    if (bad) return bad;
    if (!muon__good_steps(muon__ns_steps(o))) return o->ns_steps ? "ns_steps" : "coefficients->steps";
    if (!muon__not_negative(o->guard)) return "guard";
    if (o->guard_form < 0 || o->guard_form >= MUON_GUARD_COUNT) return "guard_form";
    if (!muon_scale_name(o->scale)) return "scale";
    if (!muon__not_negative(o->rms) || o->rms < FLT_MIN) return "rms";
    if (!muon__not_negative(o->decay_factor)) return "decay_factor";
    if (o->axis < 0 || o->axis >= MUON_AXIS_COUNT) return "axis";
    if (!muon__fraction(o->beta1)) return "beta1";
    if (!muon__fraction(o->beta2)) return "beta2";
    return muon__fraction(o->eps) && o->eps >= 1e-20 ? NULL : "eps";
}

// The list of blocks: positive heights, then zeros, whose sum divides the rows.
static const char *muon__bad_blocks(const MuonParam *p) {
    double height = 0.0;
    for (int i = 0; i < MUON_MAX_BLOCKS; i++) {
        if (p->blocks[i] < 0 || (i > 0 && p->blocks[i] && !p->blocks[i - 1])) return "blocks";
        height += p->blocks[i];
    }
    return height > p->rows || (height > 0.0 && p->rows % (int)height) ? "blocks" : NULL;
}

static const char *muon__bad_entry(const MuonParam *p, int with_pointers) {
    if (!muon__rule(p->rule)) return "rule";
    if (p->count < 1) return "count";
    if (p->rows < 1) return "rows";
    if (p->cols < 1) return "cols";
    if ((double)p->count * p->rows * p->cols > (double)((size_t)-1 / 64)) return "count";   // more than memory can hold
    if (p->rule == MUON_RULE_NONE) return NULL;
    if (with_pointers && !p->w) return "w";
    if (with_pointers && !p->g) return "g";
    if (p->count > 1 && p->stride < muon__size(p)) return "stride";
    if (!muon__not_negative(p->lr)) return "lr";
    if (!muon__not_negative(p->weight_decay)) return "weight_decay";
    return muon__bad_blocks(p);
}

// The name of what makes a matrix, or one of its blocks, a vector under a rule for matrices; NULL: nothing.
static const char *muon__vector(const MuonParam *p) {
    if (!muon_rule_is_for_matrices(p->rule)) return NULL;
    for (int i = 0; i < MUON_MAX_BLOCKS; i++)
        if (p->blocks[i] == 1) return "blocks";
    return p->rows == 1 ? "rows" : p->cols == 1 ? "cols" : NULL;
}

/* The first thing wrong with the table or the options, as a code; *bad is the index of a bad entry, or -1, *field the
   name of what is wrong, or NULL. */
static int muon__check(const MuonParam *params, int n, const MuonOptions *options, int with_pointers, int *bad,
                       const char **field) {
    *bad = -1;
    if ((*field = n < 0 ? "n" : n > 0 && !params ? "params" : !options ? "options" : NULL)) return MUON_E_ARGUMENT;
    if ((*field = muon__bad_option(options))) return MUON_E_OPTIONS;
    for (int i = 0; i < n; i++) {
        const MuonParam *p = &params[i];
        *bad = i;
        if ((*field = muon__bad_entry(p, with_pointers))) return MUON_E_PARAM;
        if ((*field = muon__vector(p))) return MUON_E_VECTOR;
        if ((*field = p->options ? muon__bad_option(p->options) : NULL)) return MUON_E_OPTIONS;
    }
    *bad = -1;
    return MUON_OK;
}

// Floats of state before a tensor's slot: tensor after tensor, slot after slot, matrix after matrix.
static size_t muon__offset(const MuonParam *params, const MuonOptions *common, int tensor, int slot) {
    size_t floats = 0;
    for (int i = 0; i < tensor; i++)
        for (int s = 0; s < MUON_SLOT_COUNT; s++) floats += muon__slot_size(&params[i], common, s);
    for (int s = 0; s < slot; s++) floats += muon__slot_size(&params[tensor], common, s);
    return floats;
}

MUONDEF size_t muon_state_bytes(const MuonParam *params, int n, const MuonOptions *options) {
    const char *field;
    int bad;
    if (muon__check(params, n, options, 0, &bad, &field) != MUON_OK) return 0;
    return muon__offset(params, options, n, 0) * sizeof(float);
}

// Bytes that a rule's transform of a matrix needs besides the matrix itself.
static size_t muon__transform_bytes(int rule, int rows, int cols) {
    switch (muon__rule(rule)->transform) {
    case MUON__NEWTON_SCHULZ:
    case MUON__EVENED: return muon_orthogonalize_bytes(rows, cols);
    case MUON__SVD:    return muon_svd_power_bytes(rows, cols);
    case MUON__POWER:  return muon_spectral_power_bytes(rows, cols);
    default:           return 0;
    }
}

// Floats of a matrix in scratch, such that what lies behind it begins at a multiple of 64 bytes as it does.
static size_t muon__room(size_t n) { return (n + 15) / 16 * 16; }

MUONDEF size_t muon_scratch_bytes(const MuonParam *params, int n, const MuonOptions *options) {
    const char *field;
    int bad;
    size_t most = 0;
    if (muon__check(params, n, options, 0, &bad, &field) != MUON_OK) return 0;
    for (int i = 0; i < n; i++) {
        const MuonParam *p = &params[i];
        if (!muon_rule_is_for_matrices(p->rule)) continue;
        for (int k = 0; k < MUON_MAX_BLOCKS && (k == 0 || p->blocks[k]); k++) {
            const int rows = p->blocks[k] ? p->blocks[k] : p->rows;
            const size_t floats = muon__room((size_t)rows * (size_t)p->cols);
            const size_t bytes = floats * sizeof(float) + muon__transform_bytes(p->rule, rows, p->cols);
            if (bytes > most) most = bytes;
        }
    }
    return (most + 63) / 64 * 64;           // and so does the next thread's part
}

MUONDEF float *muon_state(const Muon *m, int tensor, int slot, size_t *n) {
    *n = 0;
    if (!m || tensor < 0 || tensor >= m->n || slot < 0 || slot >= MUON_SLOT_COUNT) return NULL;
    *n = muon__slot_size(&m->params[tensor], &m->options, slot);
    if (m->slots) return *n ? m->slots[tensor * MUON_SLOT_COUNT + slot] : NULL;
    return *n ? m->state + muon__offset(m->params, &m->options, tensor, slot) : NULL;
}

// Steps that made a tensor's state.
static long long muon__t(const Muon *m, int tensor) { return m->steps ? m->steps[tensor] : m->t; }

// ---------------------------------------------------------------------------------------------------------------------
// Threads

typedef void muon__Body(void *context, int i, int thread);

#ifndef MUON_PARALLEL_FOR
#define MUON_PARALLEL_FOR muon__parallel_for
#if defined(_OPENMP)
#include <omp.h>
#endif
static void muon__parallel_for(int n, int threads, muon__Body *body, void *context) {
#if defined(_OPENMP)
    if (threads == 0 || threads > omp_get_max_threads()) threads = omp_get_max_threads();
    #pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int i = 0; i < n; i++) body(context, i, omp_get_thread_num());
#else
    (void)threads;
    for (int i = 0; i < n; i++) body(context, i, 0);
#endif
}
#endif

// Work on n numbers is done in MUON__PARTS parts, whoever does them, so that sums don't depend on the threads.
enum { MUON__PARTS = 64, MUON__LARGE = 1 << 16 };

static size_t muon__part(size_t n, int i) { return i < MUON__PARTS ? n / MUON__PARTS * (size_t)i : n; }

// body(context, i, 0) for every part i of n numbers; side by side only where that is worth starting threads.
static void muon__for_parts(size_t n, muon__Body *body, void *context) {
    if (n >= MUON__LARGE) {
        MUON_PARALLEL_FOR(MUON__PARTS, 0, body, context);
        return;
    }
    for (int i = 0; i < MUON__PARTS; i++) body(context, i, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Matrix products: the caller's, or the built-in one

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

#ifndef MUON_GEMM_SYMMETRIC
#define MUON_GEMM_SYMMETRIC muon__gemm_symmetric
/* All of C, one triangle of it mirrored: the two differ by rounding, which a chain of products would amplify. */
static void muon__gemm_symmetric(int trans, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                                 float beta, float *c, int ldc) {
    MUON_GEMM(trans, !trans, n, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) c[(size_t)i * (size_t)ldc + (size_t)j] = c[(size_t)j * (size_t)ldc + (size_t)i];
}
#endif
#ifndef MUON_GEMM_EXACT
#define MUON_GEMM_EXACT MUON_GEMM
#endif
#ifndef MUON_GRAM_STEPS
#define MUON_GRAM_STEPS 3
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Sums, scans

typedef struct {
    const float *x;
    size_t n;
    float scale;
    double sum[MUON__PARTS];
    unsigned bad[MUON__PARTS];
} muon__Scan;

// Sum of squares of a part in double, whose range holds the square of every float; eight partial sums, a fixed order.
static void muon__squares_body(void *context, int i, int thread) {
    muon__Scan *s = (muon__Scan *)context;
    const float *x = s->x + muon__part(s->n, i);
    const size_t n = muon__part(s->n, i + 1) - muon__part(s->n, i), eights = n - n % 8;
    double part[8] = { 0 }, rest = 0.0;
    (void)thread;
    for (size_t k = 0; k < eights; k += 8)
        for (size_t l = 0; l < 8; l++) part[l] += (double)x[k + l] * (double)x[k + l];
    for (size_t k = eights; k < n; k++) rest += (double)x[k] * (double)x[k];
    s->sum[i] = ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7])) + rest;
}

MUONDEF double muon_sum_of_squares(const float *x, size_t n) {
    muon__Scan s;
    double sum = 0.0;
    s.x = x;
    s.n = n;
    muon__for_parts(n, muon__squares_body, &s);
    for (int i = 0; i < MUON__PARTS; i++) sum += s.sum[i];
    return sum;
}

// Whether any scale * x[i] is NaN or infinite: has an exponent of ones, which is kept from the compiler as above.
static unsigned muon__any_not_finite(const float *x, size_t n, float scale) {
    volatile unsigned opaque = 0x7f800000u;
    const unsigned ones = opaque;
    unsigned any = 0;
    for (size_t i = 0; i < n; i++) {
        const float scaled = scale * x[i];
        unsigned bits;
        memcpy(&bits, &scaled, sizeof bits);
        any |= (bits & ones) == ones;
    }
    return any;
}

static void muon__finite_body(void *context, int i, int thread) {
    muon__Scan *s = (muon__Scan *)context;
    const size_t from = muon__part(s->n, i);
    (void)thread;
    s->bad[i] = muon__any_not_finite(s->x + from, muon__part(s->n, i + 1) - from, s->scale);
}

static int muon__all_finite(const float *x, size_t n, float scale) {
    muon__Scan s;
    unsigned any = 0;
    s.x = x;
    s.n = n;
    s.scale = scale;
    muon__for_parts(n, muon__finite_body, &s);
    for (int i = 0; i < MUON__PARTS; i++) any |= s.bad[i];
    return any == 0;
}

MUONDEF double muon_grad_norm(const Muon *m) {
    double sum = 0.0;
    for (int i = 0; m && i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        if (p->rule == MUON_RULE_NONE) continue;
        for (int j = 0; j < p->count; j++) sum += muon_sum_of_squares(p->g + (size_t)j * p->stride, muon__size(p));
    }
    return sqrt(sum);
}

/* x <- x / (norm |x|_F), with the guard that guarded has (NULL: none), and *length = |x|_F; 0 where x is not finite. Computed
   in double: 1 / 1e-40 is no float. */
static int muon__normalize(float *x, size_t n, double norm, const MuonOptions *guarded, double *length) {
    if (!muon__all_finite(x, n, 1.0f)) return 0;
    *length = sqrt(muon_sum_of_squares(x, n));
    if (*length == 0.0) return 1;
    double divisor = norm * *length;
    if (guarded && guarded->guard_form == MUON_GUARD_ADD) divisor += guarded->guard;
    else if (guarded && guarded->guard > divisor) divisor = guarded->guard;
    const double inverse = 1.0 / divisor;
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)x[i] * inverse);
    return 1;
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton-Schulz

/* FLOPs of s steps that share one Gram matrix R of a p x q matrix: R p^2 q; then p^3 each for R R, of a quintic; Q P, from
   the second on; R P and P R P, up to the last but one; and Q X 2 p^2 q. */
static double muon__run_flops(double p, double q, int s, int quintics) {
    return 3.0 * p * p * q + (3.0 * (s - 1) + quintics) * p * p * p;
}

/* How many steps from `step` on share a Gram matrix: most - 1 at first, while small singular values are far off, then
   most at a time, where that is less work by a tenth: for nearly square matrices it would only be more rounding. */
static int muon__run_length(int p, int q, int step, int steps, int most) {
    int s = step == 0 ? most - 1 : most;
    if (s > steps - step) s = steps - step;
    return s > 1 && muon__run_flops(p, q, s, s) < 0.9 * s * muon__run_flops(p, q, 1, 1) ? s : 1;
}

// Of `steps` steps by set c; NULL: of quintics.
static double muon__flops(int rule, int rows, int cols, const MuonCoefficients *c, int steps) {
    const muon__Rule *r = muon__rule(rule);
    const int p = rows < cols ? rows : cols, q = rows < cols ? cols : rows;
    double flops = 0.0;
    if (!r) return muon__nan();
    if (r->transform == MUON__POWER && r->power < 1.0) {   // maps, and coupled iterations: 15 steps of 3 products each
        const double maps = r->power == 0.25 ? 2.0 : 1.0, iterations = r->power == 0.0 ? 1.0 : 2.0 * maps;
        return maps * 4.0 * p * p * q + iterations * 90.0 * p * p * p;
    }
    if (r->transform != MUON__NEWTON_SCHULZ && r->transform != MUON__EVENED) return 0.0;
    for (int step = 0, s; step < steps; step += s) {
        int quintics = 0;
        s = muon__run_length(p, q, step, steps, MUON_GRAM_STEPS);
        for (int i = step; i < step + s; i++) quintics += !c || muon__abc(c, i)[2] != 0.0;
        flops += muon__run_flops(p, q, s, quintics);
    }
    return flops;
}

MUONDEF double muon_flops(int rule, int rows, int cols, int steps) { return muon__flops(rule, rows, cols, NULL, steps); }

MUONDEF double muon_param_flops(const MuonParam *p, const MuonOptions *options) {
    const MuonOptions *o = muon__options(p, options);
    double flops = 0.0;
    for (int i = 0; i < muon__count_blocks(p); i++)
        flops += muon__flops(p->rule, muon__block(p, i).height, p->cols, o->coefficients, muon__ns_steps(o));
    return flops;
}

MUONDEF size_t muon_orthogonalize_bytes(int rows, int cols) {
    if (rows < 1 || cols < 1) return 0;
    const size_t r = (size_t)rows, c = (size_t)cols, p = muon__min(r, c);
    return (r * c + 4 * p * p) * sizeof(float);
}

static void muon__swap(float **a, float **b) {
    float *c = *a;
    *a = *b;
    *b = c;
}

// C = A P for P = a I + Z: p x p matrices that are symmetric and commute, so that C is symmetric, too.
static void muon__times(float *C, const float *A, float a, const float *Z, int p) {
    memcpy(C, A, (size_t)p * (size_t)p * sizeof(float));
    MUON_GEMM_SYMMETRIC(0, p, p, 1.0f, A, p, Z, p, a, C, p);
}

/* The textbook's iteration (muonclip_step at the head), `steps` times
       A = X X^T          P = a I + b A + c A A          X <- P X
   on x, rows x cols with Frobenius norm at most 1. Returns the one of x and `other` that holds the result; `other` has
   x's size and four p x p matrices behind it.
   A step alone (most = 1: each) is these lines, with R for A and Z = P - a I. Steps i .. end-1 that share a Gram matrix
   never form the X between them: as P is a polynomial in R, the next X X^T is P X X^T P = P R P, and the X after them
   all is the product Q of their P's times the first X.
       A = X X^T of the next step      stands below as R <- P R P
       X <- P X of each step           stands below as Q <- Q P, and once X <- Q X
   A cubic's Z is b R alone: no product.
   P is kept as a and Z, for MUON_GEMM may round its operands (to bf16): A P is computed as a A + A Z, whose first term
   then stays exact. Only a shared Q begins as the whole matrix P. A tall x has X^T X for R, and X Q for Q X. */
static float *muon__newton_schulz(float *x, float *other, int rows, int cols, const MuonCoefficients *c, int steps,
                                  int most) {
    const int wide = rows <= cols, p = wide ? rows : cols, q = wide ? cols : rows;
    const size_t n = (size_t)rows * (size_t)cols, pp = (size_t)p * (size_t)p;
    float *R = other + n, *Z = R + pp, *Q = Z + pp, *S = Q + pp;
    for (int step = 0, end; step < steps; step = end) {
        end = step + muon__run_length(p, q, step, steps, most);
        const int alone = end == step + 1;
        MUON_GEMM_SYMMETRIC(!wide, p, q, 1.0f, x, cols, x, cols, 0.0f, R, p);             // R = X X^T, or X^T X
        for (int i = step; i < end; i++) {
            const double *abc = muon__abc(c, i);
            const float a = (float)abc[0];
            if (abc[2] != 0.0) {                                                          // P - a I = b R + c R R
                memcpy(Z, R, pp * sizeof(float));
                MUON_GEMM_SYMMETRIC(0, p, p, (float)abc[2], R, p, R, p, (float)abc[1], Z, p);
            } else {
                for (size_t k = 0; k < pp; k++) Z[k] = (float)abc[1] * R[k];
            }
            if (i + 1 < end) {                                                            // R <- P R P
                muon__times(S, R, a, Z, p);
                muon__times(R, S, a, Z, p);
            }
            if (i > step) {                                                               // Q <- Q P
                muon__times(S, Q, a, Z, p);
                muon__swap(&Q, &S);
            } else {                                                                      // or, at first, Q = P, or Z
                muon__swap(&Q, &Z);
                for (size_t k = 0; k < pp && !alone; k += (size_t)p + 1) Q[k] += a;
            }
        }
        const float a = alone ? (float)muon__abc(c, step)[0] : 0.0f;                      // X <- a X + Z X, or Q X
        if (alone) memcpy(other, x, n * sizeof(float));
        if (wide) MUON_GEMM(0, 0, rows, cols, p, 1.0f, Q, p, x, cols, a, other, cols);
        else      MUON_GEMM(0, 0, rows, cols, p, 1.0f, x, cols, Q, p, a, other, cols);
        muon__swap(&x, &other);
    }
    return x;
}

// The code of a transform whose result is x.
static int muon__result(const float *x, size_t n) { return muon__all_finite(x, n, 1.0f) ? MUON_OK : MUON_E_DIVERGED; }

/* *x <- about U V^T, with `other` and what lies behind it as room; the result is in *x or in other, *x then points to
   it. guarded: the options with a guard, or NULL. Fails with MUON_E_NOT_FINITE, *x unchanged, or MUON_E_DIVERGED. */
static int muon__polar(float **x, float *other, int rows, int cols, const MuonCoefficients *c, int steps,
                       const MuonOptions *guarded) {
    const size_t n = (size_t)rows * (size_t)cols;
    double length;
    if (!muon__normalize(*x, n, c->norm, guarded, &length)) return MUON_E_NOT_FINITE;
    if (length == 0.0) return MUON_OK;
    *x = muon__newton_schulz(*x, other, rows, cols, c, steps, MUON_GRAM_STEPS);
    return muon__result(*x, n);
}

MUONDEF int muon_orthogonalize(float *x, int rows, int cols, const MuonCoefficients *c, int steps, void *scratch) {
    if (!x || rows < 1 || cols < 1 || !scratch || muon__bad_coefficients(c) || !muon__good_steps(steps))
        return MUON_E_ARGUMENT;
    float *result = x;
    const int code = muon__polar(&result, (float *)scratch, rows, cols, c, steps, NULL);
    if (result != x) memcpy(x, result, (size_t)rows * (size_t)cols * sizeof(float));
    return code;
}

// ---------------------------------------------------------------------------------------------------------------------
// U S^power V^T exactly

MUONDEF size_t muon_svd_power_bytes(int rows, int cols) {
    if (rows < 1 || cols < 1) return 0;
    const size_t r = (size_t)rows, c = (size_t)cols, p = muon__min(r, c);
    return (r * c + p * p) * sizeof(double);
}

// u . v, four partial sums.
static double muon__dot(const double *u, const double *v, size_t n) {
    double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;
    const size_t fours = n - n % 4;
    for (size_t i = 0; i < fours; i += 4) {
        s0 += u[i] * v[i];
        s1 += u[i + 1] * v[i + 1];
        s2 += u[i + 2] * v[i + 2];
        s3 += u[i + 3] * v[i + 3];
    }
    for (size_t i = fours; i < n; i++) s0 += u[i] * v[i];
    return (s0 + s1) + (s2 + s3);
}

// (u, v) <- (c u - s v, s u + c v)
static void muon__rotate(double *u, double *v, size_t n, double c, double s) {
    for (size_t i = 0; i < n; i++) {
        const double ui = u[i];
        u[i] = c * ui - s * v[i];
        v[i] = s * ui + c * v[i];
    }
}

/* The rows of A (x, or its transpose where x is tall; p x q) are rotated in pairs until all are orthogonal: then J A =
   S V^T, with J the product of the rotations, so that A = J^T S V^T and U S^power V^T = J^T S^(power - 1) (J A). */
MUONDEF int muon_svd_power(float *x, int rows, int cols, double power, void *scratch) {
    if (!x || rows < 1 || cols < 1 || !scratch || !muon__not_negative(power)) return MUON_E_ARGUMENT;
    const int wide = rows <= cols;
    const size_t r = (size_t)rows, c = (size_t)cols, p = muon__min(r, c), q = wide ? c : r;
    if (!muon__all_finite(x, r * c, 1.0f)) return MUON_E_NOT_FINITE;
    double *A = (double *)scratch, *J = A + p * q, largest = 0.0;
    for (size_t i = 0; i < p; i++)
        for (size_t j = 0; j < q; j++) A[i * q + j] = wide ? x[i * c + j] : x[j * c + i];
    for (size_t i = 0; i < p * p; i++) J[i] = i % (p + 1) == 0 ? 1.0 : 0.0;
    for (int sweep = 0, rotated = 1; rotated && sweep < 60; sweep++) {
        rotated = 0;
        for (size_t i = 0; i + 1 < p; i++)
            for (size_t k = i + 1; k < p; k++) {
                double *u = A + i * q, *v = A + k * q;
                const double uu = muon__dot(u, u, q), vv = muon__dot(v, v, q), uv = muon__dot(u, v, q);
                if (uv == 0.0 || fabs(uv) <= 1e-15 * sqrt(uu) * sqrt(vv)) continue;
                rotated = 1;
                const double zeta = (vv - uu) / (2.0 * uv);
                const double t = (zeta >= 0.0 ? 1.0 : -1.0) / (fabs(zeta) + sqrt(1.0 + zeta * zeta));
                const double cosine = 1.0 / sqrt(1.0 + t * t);
                muon__rotate(u, v, q, cosine, cosine * t);
                muon__rotate(J + i * p, J + k * p, p, cosine, cosine * t);
            }
    }
    for (size_t i = 0; i < p; i++) {
        const double s = sqrt(muon__dot(A + i * q, A + i * q, q));
        if (s > largest) largest = s;
    }
    const double noise = (double)FLT_EPSILON * (double)q * largest;
    for (size_t i = 0; i < p; i++) {
        const double s = sqrt(muon__dot(A + i * q, A + i * q, q)), factor = s > noise ? pow(s, power - 1.0) : 0.0;
        for (size_t j = 0; j < q; j++) A[i * q + j] *= factor;
    }
    for (size_t i = 0; i < p; i++)
        for (size_t j = 0; j < q; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < p; k++) sum += J[k * p + i] * A[k * q + j];
            if (!muon__is_finite((float)sum)) return MUON_E_DIVERGED;   // as a large power of a large x
            x[wide ? i * c + j : j * c + i] = (float)sum;
        }
    return MUON_OK;
}

// ---------------------------------------------------------------------------------------------------------------------
// U S^power V^T by coupled Newton iterations

MUONDEF size_t muon_spectral_power_bytes(int rows, int cols) { return muon_orthogonalize_bytes(rows, cols); }

// A <- (A + A^T) / 2
static void muon__symmetrize(float *A, int p) {
    for (int i = 0; i < p; i++)
        for (int j = 0; j < i; j++) {
            float *lower = &A[(size_t)i * (size_t)p + (size_t)j], *upper = &A[(size_t)j * (size_t)p + (size_t)i];
            *lower = *upper = 0.5f * (*lower + *upper);
        }
}

/* M^(1/2) and M^(-1/2) of a symmetric positive matrix, up to a relative ridge (Denman-Beavers in Newton-Schulz form;
   Higham, Functions of Matrices, section 6.7): Y = M / |M|_F, Z = I; T = (3 I - Z Y) / 2; Y <- Y T, Z <- T Z.
   In this order and in full it is stable; with one triangle of each product, mirrored, it is not, symmetric though they
   are.
   room: four p x p matrices, the first of which holds M. On return *root and *inverse are two of them, and the others
   are free to be written. */
static void muon__coupled(float *room, int p, float **root, float **inverse) {
    const size_t pp = (size_t)p * (size_t)p;
    float *Y = room, *Z = Y + pp, *T = Z + pp, *S = T + pp;
    double trace = 0.0;
    for (size_t i = 0; i < pp; i += (size_t)p + 1) trace += Y[i];
    for (size_t i = 0; i < pp; i += (size_t)p + 1) Y[i] = (float)(Y[i] + 1e-4 * trace / p);
    const double length = sqrt(muon_sum_of_squares(Y, pp));
    for (size_t i = 0; i < pp; i++) Y[i] = (float)(Y[i] / length);
    for (size_t i = 0; i < pp; i++) Z[i] = i % ((size_t)p + 1) == 0 ? 1.0f : 0.0f;
    for (int step = 0; step < 15; step++) {
        MUON_GEMM_EXACT(0, 0, p, p, p, -0.5f, Z, p, Y, p, 0.0f, T, p);
        for (size_t i = 0; i < pp; i += (size_t)p + 1) T[i] += 1.5f;
        MUON_GEMM_EXACT(0, 0, p, p, p, 1.0f, Y, p, T, p, 0.0f, S, p);
        muon__swap(&Y, &S);
        MUON_GEMM_EXACT(0, 0, p, p, p, 1.0f, T, p, Z, p, 0.0f, S, p);
        muon__swap(&Z, &S);
        if (step % 5 == 4) {
            muon__symmetrize(Y, p);
            muon__symmetrize(Z, p);
        }
    }
    const double half = sqrt(length);
    for (size_t i = 0; i < pp; i++) Y[i] = (float)(Y[i] * half);
    for (size_t i = 0; i < pp; i++) Z[i] = (float)(Z[i] / half);
    *root = Y;
    *inverse = Z;
}

/* One map of x with |x|_F = 1: quarters 2 gives (X X^T)^(-1/2) X, quarters 1 (X X^T)^(-1/4) X; the result in `other`,
   behind which lie the four matrices of muon__coupled. */
static void muon__inverse_root(const float *x, float *other, int rows, int cols, int quarters) {
    const int wide = rows <= cols, p = wide ? rows : cols, q = wide ? cols : rows;
    float *room = other + (size_t)rows * (size_t)cols, *root, *inverse;
    MUON_GEMM_EXACT(!wide, wide, p, p, q, 1.0f, x, cols, x, cols, 0.0f, room, p);
    muon__coupled(room, p, &root, &inverse);
    if (quarters == 1) {
        if (inverse != room) memcpy(room, inverse, (size_t)p * (size_t)p * sizeof(float));
        muon__coupled(room, p, &root, &inverse);
        inverse = root;
    }
    if (wide) MUON_GEMM_EXACT(0, 0, rows, cols, p, 1.0f, inverse, p, x, cols, 0.0f, other, cols);
    else      MUON_GEMM_EXACT(0, 0, rows, cols, p, 1.0f, x, cols, inverse, p, 0.0f, other, cols);
}

/* *x <- about U S^power V^T; result and failures as muon__polar. |x|_F is taken out before each map and put back as its
   power: (f X)^(1/2) = f^(1/2) X^(1/2). */
static int muon__spectral(float **x, float *other, int rows, int cols, double power) {
    const size_t n = (size_t)rows * (size_t)cols;
    double length;
    if (power == 1.0) return muon__all_finite(*x, n, 1.0f) ? MUON_OK : MUON_E_NOT_FINITE;
    if (!muon__normalize(*x, n, 1.0, NULL, &length)) return MUON_E_NOT_FINITE;
    if (length == 0.0) return MUON_OK;
    double factor = pow(length, power);
    muon__inverse_root(*x, other, rows, cols, power == 0.0 ? 2 : 1);
    if (power == 0.25) {                                          // 1/2 of 1/2
        memcpy(*x, other, n * sizeof(float));
        if (!muon__normalize(*x, n, 1.0, NULL, &length)) return MUON_E_DIVERGED;
        factor *= sqrt(length);
        muon__inverse_root(*x, other, rows, cols, 1);
    }
    for (size_t i = 0; i < n; i++) other[i] = (float)(other[i] * factor);
    *x = other;
    return muon__result(other, n);
}

MUONDEF int muon_spectral_power(float *x, int rows, int cols, double power, void *scratch) {
    if (!x || rows < 1 || cols < 1 || !scratch || !(power == 1.0 || power == 0.5 || power == 0.25 || power == 0.0))
        return MUON_E_ARGUMENT;
    float *result = x;
    const int code = muon__spectral(&result, (float *)scratch, rows, cols, power);
    if (result != x) memcpy(x, result, (size_t)rows * (size_t)cols * sizeof(float));
    return code;
}

// ---------------------------------------------------------------------------------------------------------------------
// The step

// Where an error is, or nowhere: -1, -1, NULL. Returns the code.
static int muon__at(Muon *m, int code, int tensor, int matrix, const char *field) {
    m->bad_tensor = tensor;
    m->bad_matrix = matrix;
    m->bad_field = field;
    return code;
}

// What both ways to start have in common.
static int muon__init(Muon *m, const MuonParam *params, int n, const MuonOptions *options) {
    if (!m) return MUON_E_ARGUMENT;
    memset(m, 0, sizeof *m);
    m->bad_matrix = -1;
    m->grad_scale = -1.0;
    const int code = muon__check(params, n, options, 1, &m->bad_tensor, &m->bad_field);
    if (code != MUON_OK) return code;
    m->options = *options;
    m->params = params;
    m->n = n;
    return MUON_OK;
}

MUONDEF int muon_init(Muon *m, const MuonParam *params, int n, const MuonOptions *options, void *memory) {
    const int code = muon__init(m, params, n, options);
    if (code != MUON_OK) return code;
    const size_t bytes = muon_state_bytes(params, n, options);
    if (bytes > 0 && !memory) {
        m->n = 0;
        return muon__at(m, MUON_E_ARGUMENT, -1, -1, "memory");
    }
    m->state = (float *)memory;
    if (bytes > 0) memset(memory, 0, bytes);   // all bits zero is 0.0f
    return MUON_OK;
}

MUONDEF int muon_init_apart(Muon *m, const MuonParam *params, int n, const MuonOptions *options, float *const *slots,
                            long long *steps) {
    int code = muon__init(m, params, n, options), bad = -1;
    if (code != MUON_OK) return code;
    const char *field = n > 0 && !slots ? "slots" : n > 0 && !steps ? "steps" : NULL;
    if (field) code = MUON_E_ARGUMENT;
    for (int i = 0; i < n && !field; i++) {
        for (int s = 0; s < MUON_SLOT_COUNT; s++)
            if (!slots[i * MUON_SLOT_COUNT + s] && muon__slot_size(&params[i], options, s) > 0) field = "slots";
        if (steps[i] < 0) field = "steps";
        if (field) code = MUON_E_PARAM, bad = i;
    }
    if (field) {
        m->n = 0;
        return muon__at(m, code, bad, -1, field);
    }
    m->slots = slots;
    m->steps = steps;
    return MUON_OK;
}

MUONDEF int muon_begin_step(Muon *m, double lr_factor, double grad_scale) {
    if (!m) return MUON_E_ARGUMENT;
    m->grad_scale = -1.0;
    if (muon__is_finite(lr_factor) && lr_factor < 0.0 && lr_factor >= -1e-12) lr_factor = 0.0;
    const char *field = m->t < 0 ? "t" : !muon__not_negative(lr_factor) ? "lr_factor"
                      : !muon__not_negative(grad_scale) ? "grad_scale" : NULL;
    if (muon__at(m, field != NULL, -1, -1, field)) return MUON_E_ARGUMENT;
    int code = muon__check(m->params, m->n, &m->options, 1, &m->bad_tensor, &m->bad_field);
    if (code != MUON_OK) return code;
    for (int i = 0; i < m->n; i++) {
        const MuonParam *p = &m->params[i];
        if (p->rule == MUON_RULE_NONE) continue;
        const MuonOptions *o = muon__options(p, &m->options);
        const double step = p->lr * lr_factor * muon_update_scale(o, p->rows, p->cols);
        if (!muon__not_negative(step)) return muon__at(m, MUON_E_PARAM, i, -1, "lr");
        if (!muon__not_negative((o->decay_scaled ? step : p->lr * lr_factor) * p->weight_decay * o->decay_factor))
            return muon__at(m, MUON_E_PARAM, i, -1, "weight_decay");
        for (int j = 0; j < p->count; j++)
            if (!muon__all_finite(p->g + (size_t)j * p->stride, muon__size(p), (float)grad_scale))
                return muon__at(m, MUON_E_NOT_FINITE, i, j, "g");
    }
    m->t++;
    for (int i = 0; i < m->n && m->steps; i++) m->steps[i] += m->params[i].rule != MUON_RULE_NONE;
    m->lr_factor = lr_factor;
    m->grad_scale = grad_scale;
    return MUON_OK;
}

// One matrix, or one block of it, in a step: what the stages share.
typedef struct {
    const muon__Rule *rule;
    const MuonOptions *options;
    int rows, cols;
    float *w, *mom, *second;                // mom and second: its state, NULL where the rule has none
    const float *g;
    float grad_scale, added_decay;          // the gradient is grad_scale g + added_decay w
    float from_g, from_b;                   // u = from_g g + from_b b; Adam's, as a part of its first moment
    float first_factor, second_factor;      // Adam's bias corrections
    float decay, step;                      // W <- W - decay W - step u
    float *u;                               // transformed; NULL where u is made on the way
    unsigned bad[MUON__PARTS];              // whether a part's weights are no longer finite
} muon__Matrix;

// A gradient as second moments take it, for beyond 1e19 its square is no float.
static float muon__limited(float g) {
    const float above = g < 1e19f ? g : 1e19f;
    return above > -1e19f ? above : -1e19f;
}

// Stage 1: the state's numbers from .. to-1, and their u. None of u, g, w and the state overlap, which is said here because GCC
// vectorizes at -O2 only what needs few checks of it: AdamW's loop has five arrays.
static void muon__direction(const muon__Matrix *a, size_t from, size_t to, float *__restrict u) {
    const MuonOptions *o = a->options;
    const float *__restrict g = a->g + from, *__restrict w = a->w + from, scale = a->grad_scale, wd = a->added_decay;
    float *__restrict mom = a->mom ? a->mom + from : NULL, *__restrict second = a->second ? a->second + from : NULL;
    const float eps = (float)o->eps;
    const float mu = (float)o->momentum, nu = o->accumulate ? 1.0f : (float)(1.0 - o->momentum);
    const float from_g = a->from_g, from_b = a->from_b;
    const int ahead = o->adam_nesterov;
    const float b1 = (float)o->beta1, c1 = (float)(1.0 - o->beta1);
    const float b2 = (float)o->beta2, c2 = (float)(1.0 - o->beta2);
    const float first_factor = a->first_factor, second_factor = a->second_factor;
    const size_t n = to - from;
    switch (a->rule->direction) {
    case MUON__MOMENTUM:
        for (size_t i = 0; i < n; i++) {
            const float gi = scale * g[i] + wd * w[i];
            mom[i] = mu * mom[i] + nu * gi;
            u[i] = from_g * gi + from_b * mom[i];
        }
        break;
    case MUON__RMS:
        for (size_t i = 0; i < n; i++) {
            const float gi = muon__limited(scale * g[i] + wd * w[i]);
            second[i] = b2 * second[i] + c2 * gi * gi;
            u[i] = gi / (sqrtf(second[i]) + eps);
        }
        break;
    case MUON__ADAM:
        for (size_t i = 0; i < n; i++) {
            const float gi = muon__limited(scale * g[i] + wd * w[i]);
            mom[i] = b1 * mom[i] + c1 * gi;
            second[i] = b2 * second[i] + c2 * gi * gi;
            u[i] = ahead ? (from_g * gi + from_b * mom[i]) / (sqrtf(second[i]) * second_factor + eps)
                         : mom[i] / (sqrtf(second[i]) * second_factor + eps) * first_factor;
        }
        break;
    default:
        break;
    }
}

// Sums of squares of n <= MUON__FEW lines of u from `line` on: of rows, or of columns.
enum { MUON__FEW = 16 };

static void muon__line_squares(const muon__Matrix *a, const float *u, int by_rows, int line, int n, double *squares) {
    const size_t cols = (size_t)a->cols, count = by_rows ? cols : (size_t)a->rows;
    const size_t next = by_rows ? cols : 1, along = by_rows ? 1 : cols;
    const float *from = u + (size_t)line * next;
    memset(squares, 0, (size_t)n * sizeof *squares);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < (size_t)n; k++) {
            const double x = from[k * next + i * along];
            squares[k] += x * x;
        }
}

/* NorMuon, after the orthogonalization of u: every row (or column, as options.axis says) divided by the root of its
   running mean square, then all of it scaled back to the Frobenius norm it had. factors: room for one of each. */
static void muon__even_out(const muon__Matrix *a, float *u, float *factors) {
    const MuonOptions *o = a->options;
    const int by_rows = muon__evens_rows(o, a->rows, a->cols), lines = muon__lines(o, a->rows, a->cols);
    const size_t cols = (size_t)a->cols;
    double before = 0.0, after = 0.0, squares[MUON__FEW];
    for (int line = 0; line < lines; line++) {
        const int at = line % MUON__FEW;
        if (at == 0) muon__line_squares(a, u, by_rows, line, (int)muon__min(MUON__FEW, (size_t)(lines - line)), squares);
        const double mean = squares[at] / (by_rows ? a->cols : a->rows);
        a->second[line] = (float)(o->beta2 * a->second[line] + (1.0 - o->beta2) * mean);
        const double factor = 1.0 / (sqrt((double)a->second[line]) + o->eps);
        before += squares[at];
        after += squares[at] * factor * factor;
    }
    const double back = after > 0.0 ? sqrt(before / after) : 0.0;
    for (int line = 0; line < lines; line++) factors[line] = (float)(back / (sqrt((double)a->second[line]) + o->eps));
    for (size_t i = 0; i < (size_t)a->rows; i++)
        for (size_t j = 0; j < cols; j++) u[i * cols + j] *= factors[by_rows ? i : j];
}

// Of MUON_SCALE_RMS_EXACT: u over its root mean square, in double as 1 / 1e-40 is no float.
static void muon__to_rms_one(const muon__Matrix *a, float *u) {
    const size_t n = (size_t)a->rows * (size_t)a->cols;
    double squares = 0.0;
    for (size_t i = 0; i < n; i++) squares += (double)u[i] * u[i];
    const double factor = squares > 0.0 ? sqrt((double)n / squares) : 0.0;
    for (size_t i = 0; i < n; i++) u[i] = (float)((double)u[i] * factor);
}

// MuonEq, before Newton-Schulz: every row of u gets the length |u|_F / sqrt(rows).
static void muon__equalize(const muon__Matrix *a, float *u) {
    const size_t cols = (size_t)a->cols;
    const double length = sqrt(muon_sum_of_squares(u, (size_t)a->rows * cols) / a->rows);
    for (int i = 0; i < a->rows; i++) {
        float *row = u + (size_t)i * cols;
        double squares;
        muon__line_squares(a, u, 1, i, 1, &squares);
        const double factor = squares > 0.0 ? length / sqrt(squares) : 0.0;
        for (size_t j = 0; j < cols; j++) row[j] = (float)(row[j] * factor);
    }
}

// Newton-Schulz with what stands around it.
static int muon__orthogonalized(const muon__Matrix *a, float **u, float *other) {
    const MuonOptions *o = a->options;
    const size_t n = (size_t)a->rows * (size_t)a->cols;
    if (o->equalize) muon__equalize(a, *u);
    const int code = muon__polar(u, other, a->rows, a->cols, o->coefficients, muon__ns_steps(o), o);
    if (code != MUON_OK || !o->renormalize) return code;
    const double length = sqrt(muon_sum_of_squares(*u, n)), full = sqrt((double)(a->rows < a->cols ? a->rows : a->cols));
    for (size_t i = 0; i < n && length > 0.0; i++) (*u)[i] = (float)((*u)[i] * (full / length));
    return MUON_OK;
}

// Stage 2: *u in place, or in `other`, the room behind it.
static int muon__transform(const muon__Matrix *a, float **u, float *other) {
    float *from = *u;
    int code;
    switch (a->rule->transform) {
    case MUON__SVD:
        return muon_svd_power(*u, a->rows, a->cols, 0.0, other);
    case MUON__POWER:
        return muon__spectral(u, other, a->rows, a->cols, a->rule->power);
    default:
        code = muon__orthogonalized(a, u, other);
        if (code == MUON_OK && a->rule->transform == MUON__EVENED) muon__even_out(a, *u, *u == from ? other : from);
        return code;
    }
}

/* Stages 3 and 4 for numbers from .. to-1, in pieces that stay in the first-level cache; returns whether a weight is no
   longer finite. (1 - lr wd) W - lr u is computed as W - (lr wd W + lr u): 1 - lr wd does not fit a float, and its error
   would be the same in every step. */
enum { MUON__PIECE = 1024 };

static unsigned muon__apply(const muon__Matrix *a, size_t from, size_t to, const float *u) {
    const float decay = a->decay, step = a->step;
    unsigned bad = 0;
    for (size_t n; from < to; from += n, u += n) {
        float *w = a->w + from;
        n = muon__min(MUON__PIECE, to - from);
        if (a->options->cautious)
            for (size_t i = 0; i < n; i++) w[i] -= (u[i] * w[i] >= 0.0f ? decay * w[i] : 0.0f) + step * u[i];
        else
            for (size_t i = 0; i < n; i++) w[i] -= decay * w[i] + step * u[i];
        bad |= muon__any_not_finite(w, n, 1.0f);
    }
    return bad;
}

// Part i of an elementwise rule, a piece of u at a time.
static void muon__elementwise_body(void *context, int i, int thread) {
    muon__Matrix *a = (muon__Matrix *)context;
    const size_t n = (size_t)a->rows * (size_t)a->cols, end = muon__part(n, i + 1);
    float u[MUON__PIECE];
    (void)thread;
    a->bad[i] = 0;
    for (size_t from = muon__part(n, i), to; from < end; from = to) {
        to = from + muon__min(MUON__PIECE, end - from);
        muon__direction(a, from, to, u);
        a->bad[i] |= muon__apply(a, from, to, u);
    }
}

static void muon__direction_body(void *context, int i, int thread) {
    const muon__Matrix *a = (const muon__Matrix *)context;
    const size_t n = (size_t)a->rows * (size_t)a->cols, from = muon__part(n, i);
    (void)thread;
    muon__direction(a, from, muon__part(n, i + 1), a->u + from);
}

static void muon__apply_body(void *context, int i, int thread) {
    muon__Matrix *a = (muon__Matrix *)context;
    const size_t n = (size_t)a->rows * (size_t)a->cols, from = muon__part(n, i);
    (void)thread;
    a->bad[i] = muon__apply(a, from, muon__part(n, i + 1), a->u + from);
}

static muon__Matrix muon__matrix(const Muon *m, int tensor, int matrix, int block) {
    const MuonParam *p = &m->params[tensor];
    const MuonOptions *o = muon__options(p, &m->options);
    const muon__Block b = muon__block(p, block);
    const size_t count = (size_t)p->count, at = (size_t)matrix, before = (size_t)b.first * (size_t)p->cols;
    const double lr = p->lr * m->lr_factor, t = (double)muon__t(m, tensor);
    double from_g, from_b;
    muon__Matrix a;
    size_t n;
    a.rule = muon__rule(p->rule);
    a.options = o;
    a.rows = b.height;
    a.cols = p->cols;
    a.w = p->w + at * p->stride + before;
    a.g = p->g + at * p->stride + before;
    a.mom = muon_state(m, tensor, MUON_SLOT_MOMENTUM, &n);
    if (a.mom) a.mom += at * (n / count) + before;
    a.second = muon_state(m, tensor, MUON_SLOT_SECOND_MOMENT, &n);
    if (a.second) a.second += at * (n / count) + (a.rule->transform == MUON__EVENED ? muon__lines_before(p, o, block) : before);
    a.grad_scale = (float)m->grad_scale;
    a.added_decay = a.rule->adds_decay ? (float)p->weight_decay : 0.0f;
    muon_look_ahead(o, muon__t(m, tensor), &from_g, &from_b);
    if (a.rule->direction == MUON__ADAM) {
        from_g = (1.0 - o->beta1) / (1.0 - pow(o->beta1, t));
        from_b = o->beta1 / (1.0 - pow(o->beta1, t + 1.0));
    }
    a.from_g = (float)from_g;
    a.from_b = (float)from_b;
    a.first_factor = (float)(1.0 / (1.0 - pow(o->beta1, t)));
    a.second_factor = (float)(1.0 / sqrt(1.0 - pow(o->beta2, t)));
    const double step = lr * (a.rule->transform == MUON__ELEMENTWISE ? 1.0 : muon_update_scale(o, a.rows, a.cols));
    a.step = (float)step;
    a.decay = a.rule->adds_decay ? 0.0f : (float)((o->decay_scaled ? step : lr) * p->weight_decay * o->decay_factor);
    a.u = NULL;
    return a;
}

// One block, or a matrix that isn't cut.
static int muon__step_block(const Muon *m, int tensor, int matrix, int block, void *scratch) {
    muon__Matrix a = muon__matrix(m, tensor, matrix, block);
    const size_t n = (size_t)a.rows * (size_t)a.cols;
    unsigned bad = 0;
    if (a.rule->transform == MUON__ELEMENTWISE) {
        muon__for_parts(n, muon__elementwise_body, &a);
    } else {
        if (!scratch) return MUON_E_ARGUMENT;
        a.u = (float *)scratch;
        muon__for_parts(n, muon__direction_body, &a);
        const int code = muon__transform(&a, &a.u, a.u + muon__room(n));
        if (code != MUON_OK) return code == MUON_E_NOT_FINITE ? MUON_E_STATE : code;   // the gradient was finite
        if (a.options->scale == MUON_SCALE_RMS_EXACT) muon__to_rms_one(&a, a.u);
        muon__for_parts(n, muon__apply_body, &a);
    }
    for (int i = 0; i < MUON__PARTS; i++) bad |= a.bad[i];
    return bad ? MUON_E_DIVERGED : MUON_OK;
}

MUONDEF int muon_step_one(const Muon *m, int tensor, int matrix, void *scratch) {
    if (!m || m->grad_scale < 0.0 || tensor < 0 || tensor >= m->n) return MUON_E_ARGUMENT;
    const MuonParam *p = &m->params[tensor];
    if (matrix < 0 || matrix >= p->count) return MUON_E_ARGUMENT;
    int first = MUON_OK;
    for (int i = 0; i < muon__count_blocks(p) && p->rule != MUON_RULE_NONE; i++) {
        const int code = muon__step_block(m, tensor, matrix, i, scratch);
        if (first == MUON_OK) first = code;
    }
    return first;
}

/* Matrices, or their blocks, run side by side, one per thread, where a product p x p x q has fewer multiply-adds than this:
   small ones always, middling ones where there are enough of them for all threads. For others all threads work together. */
enum { MUON__SMALL = 1 << 24, MUON__MIDDLING = 1 << 28, MUON__MAX_THREADS = 256 };

static int muon__side_by_side(const MuonParam *p, int below) {
    int rows = p->blocks[0] ? 0 : p->rows;
    for (int i = 0; i < MUON_MAX_BLOCKS; i++) rows = p->blocks[i] > rows ? p->blocks[i] : rows;   // of the highest block
    const double small = rows < p->cols ? rows : p->cols;
    return muon_rule_is_for_matrices(p->rule) && small * rows * p->cols < below;
}

// Of a tensor's matrices, as many as run side by side: all of their blocks, or none.
static int muon__pieces(const MuonParam *p, int below) {
    return muon__side_by_side(p, below) ? p->count * muon__count_blocks(p) : 0;
}

static int muon__count_side_by_side(const Muon *m, int below) {
    int count = 0;
    for (int i = 0; i < m->n; i++) count += muon__pieces(&m->params[i], below);
    return count;
}

typedef struct { int code, tensor, matrix; } muon__Fault;

// Of several faults the first in the table counts, whichever thread met it.
static void muon__keep_fault(muon__Fault *kept, int code, int tensor, int matrix) {
    if (code == MUON_OK) return;
    if (kept->code != MUON_OK && (tensor > kept->tensor || (tensor == kept->tensor && matrix > kept->matrix))) return;
    kept->code = code;
    kept->tensor = tensor;
    kept->matrix = matrix;
}

typedef struct {
    const Muon *m;
    char *scratch;
    size_t bytes;                           // of each thread's scratch
    int below, threads;
    muon__Fault faults[MUON__MAX_THREADS];
} muon__Steps;

// Block number i of all those that run side by side.
static void muon__step_body(void *context, int i, int thread) {
    muon__Steps *s = (muon__Steps *)context;
    int tensor = 0;
    MUON_ASSERT(thread >= 0 && thread < s->threads);   // or else two would share scratch
    for (int pieces; i >= (pieces = muon__pieces(&s->m->params[tensor], s->below)); tensor++) i -= pieces;
    const int blocks = muon__count_blocks(&s->m->params[tensor]), matrix = i / blocks;
    const int code = muon__step_block(s->m, tensor, matrix, i % blocks, s->scratch + (size_t)thread * s->bytes);
    muon__keep_fault(&s->faults[thread], code, tensor, matrix);
}

// What is wrong with muon_step_all's arguments; NULL: nothing.
static const char *muon__bad_room(const Muon *m, const void *scratch, int threads) {
    if (threads < 1) return "threads";
    return !scratch && muon_scratch_bytes(m->params, m->n, &m->options) > 0 ? "scratch" : NULL;
}

MUONDEF int muon_step_all(Muon *m, void *scratch, int threads) {
    if (!m) return MUON_E_ARGUMENT;
    const char *field = m->grad_scale < 0.0 ? "m" : muon__bad_room(m, scratch, threads);   // m: no step has begun
    if (muon__at(m, field != NULL, -1, -1, field)) return MUON_E_ARGUMENT;
    muon__Steps s;
    memset(&s, 0, sizeof s);
    s.m = m;
    s.scratch = (char *)scratch;
    s.bytes = muon_scratch_bytes(m->params, m->n, &m->options);
    s.below = muon__count_side_by_side(m, MUON__MIDDLING) >= threads ? MUON__MIDDLING : MUON__SMALL;
    s.threads = threads = threads < MUON__MAX_THREADS ? threads : MUON__MAX_THREADS;
    MUON_PARALLEL_FOR(muon__count_side_by_side(m, s.below), threads, muon__step_body, &s);
    muon__Fault fault = s.faults[0];
    for (int i = 1; i < threads; i++) muon__keep_fault(&fault, s.faults[i].code, s.faults[i].tensor, s.faults[i].matrix);
    for (int i = 0; i < m->n; i++)
        for (int j = 0; j < m->params[i].count && !muon__side_by_side(&m->params[i], s.below); j++)
            muon__keep_fault(&fault, muon_step_one(m, i, j, scratch), i, j);
    return fault.code == MUON_OK ? MUON_OK : muon__at(m, fault.code, fault.tensor, fault.matrix, NULL);
}

MUONDEF int muon_step(Muon *m, double lr_factor, double grad_scale, void *scratch, int threads) {
    if (!m) return MUON_E_ARGUMENT;
    const char *field = muon__bad_room(m, scratch, threads);
    if (field) {                            // before the step counts
        m->grad_scale = -1.0;
        return muon__at(m, MUON_E_ARGUMENT, -1, -1, field);
    }
    const int code = muon_begin_step(m, lr_factor, grad_scale);
    return code == MUON_OK ? muon_step_all(m, scratch, threads) : code;
}

// ---------------------------------------------------------------------------------------------------------------------
// QK-Clip

MUONDEF double muon_qk_gamma(double max_logit, double tau) {
    const unsigned long long minus_infinity = 0xfffull << 52;
    if (!muon__is_finite(max_logit)) return muon__bits(max_logit) == minus_infinity ? 1.0 : muon__nan();
    return tau > 0.0 && max_logit > tau ? tau / max_logit : 1.0;
}

static void muon__multiply(float *x, size_t n, double factor) {
    if (!x || factor == 1.0) return;
    for (size_t i = 0; i < n; i++) x[i] *= (float)factor;
}

// What both clips ask of these arguments; *off where there is nothing to do.
static int muon__check_clip(const float *max_logit, int n_heads, double tau, double alpha, int *clipped, int *off) {
    if (clipped) *clipped = 0;
    *off = tau == 0.0;
    if (!max_logit || n_heads < 1 || !muon__not_negative(tau) || !muon__not_negative(alpha) || alpha > 1.0)
        return MUON_E_ARGUMENT;
    if (tau > 0.0 && tau < FLT_MIN) return MUON_E_ARGUMENT;   // tau / max_logit might be 0, and the key's factor 0 / 0
    for (int h = 0; h < n_heads && !*off; h++)
        if (!muon__is_finite(muon_qk_gamma(max_logit[h], tau))) return MUON_E_LOGIT;
    return MUON_OK;
}

MUONDEF int muon_qk_clip(float *wq, float *bq, float *wk, float *bk, int n_heads, int n_kv_heads, int head_size,
                         int cols, const float *max_logit, double tau, double alpha, int *clipped) {
    int off;
    const int code = muon__check_clip(max_logit, n_heads, tau, alpha, clipped, &off);
    if (!wq || !wk || n_kv_heads < 1 || n_heads % n_kv_heads != 0 || head_size < 1 || cols < 1) return MUON_E_ARGUMENT;
    if (code != MUON_OK || off) return code;
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

MUONDEF int muon_qk_clip_mla(float *wq, int q_cols, float *wk, int k_cols, int k_rows, int n_heads, int content,
                             int rotary, const float *max_logit, double tau, double alpha, int *clipped) {
    int off;
    const int code = muon__check_clip(max_logit, n_heads, tau, alpha, clipped, &off);
    if (!wq || !wk || q_cols < 1 || k_cols < 1 || content < 1 || rotary < 0 || k_rows < content) return MUON_E_ARGUMENT;
    if (code != MUON_OK || off) return code;
    const size_t content_size = (size_t)content * (size_t)q_cols, rotary_size = (size_t)rotary * (size_t)q_cols;
    for (int h = 0; h < n_heads; h++) {
        const double gamma = muon_qk_gamma(max_logit[h], tau);
        float *query = wq + (size_t)h * (content_size + rotary_size);
        float *key = wk + (size_t)h * (size_t)k_rows * (size_t)k_cols;
        muon__multiply(query, content_size, pow(gamma, alpha));
        muon__multiply(query + content_size, rotary_size, gamma);
        muon__multiply(key, (size_t)content * (size_t)k_cols, pow(gamma, 1.0 - alpha));
        if (clipped && gamma < 1.0) ++*clipped;
    }
    return MUON_OK;
}

#endif // MUON_IMPLEMENTATION

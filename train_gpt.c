/* train_gpt.c - pretrains a GPT on a CPU: layers, tensors, model, optimizer, training loop, top to bottom.
 *
 *     ./train_gpt configs/default.json [--section.key=value ...] [--resume]
 *
 * How to read it. The chapters stand in the order of the program: each layer's forward pass next to its backward,
 * then the table of tensors that everything else loops over, then the model, the optimizer's glue and the loop.
 * This file is what is trained and how. What it stands on is elsewhere: muon.h has the optimizers; src/gemm.h (matrix
 * products), src/attn.h (attention), src/vec.h (loops compiled for every instruction set) and src/profile.h (where time
 * goes) make it fast; src/keys.h has every key of a config, data/ turns text into tokens, src/corpus.h and src/run.h are a
 * run's data and its folder, src/runlog.h its log, src/resume.h what it goes on from, src/screen.h what it prints;
 * src/trainer.h binds these to a model: what opens, resumes, saves and logs a training, around its steps.
 * docs/a-step.md follows one step through it, in real numbers.
 *
 * Letters:  B batch (sequences)   T time (tokens of a sequence)   N = B*T   C channels   V vocabulary   L layers
 *           NH query heads   NKV key/value heads   HS head size (C/NH)   F width of the MLP   IC, OC a product's inputs, outputs
 *           QKV = (NH + 2 NKV)*HS   H width of the MLP's first product: F, or 2F with a gate
 *           E experts   K of them for a token   D layers without experts, the first ones
 *           b, t, n, l, h, v, i count sequences, places, tokens, layers, heads, the vocabulary, channels
 * Weights are (out, in), row-major: y = x W^T. All numbers in memory are fp32. `d` in front of a name is the loss's
 * gradient.
 * Forward functions take: outputs, then what they keep for the backward pass, inputs, weights, sizes. Backward
 * functions mirror them; they add into weight gradients and overwrite input gradients, unless they say otherwise.
 *
 * Reproducible to the bit: every random number is a hash of what it belongs to, and every sum has an order that
 * doesn't depend on the number of threads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <float.h>
#include <math.h>

#include "src/util.h"        // defines: fail, fail_usage, xmalloc, format, read_file, mix64, hash64, seconds_now,
                             // Progress
#include "src/machine.h"     // defines: machine_cpu, machine_threads, machine_memory, wait_politely; openmp.h
#include "src/vec.h"         // defines: VEC_PASS, VEC_LOOP, VEC_SUM, vec_expf, ..., vec_max, Dropout, dropout_factor
#include "src/gemm.h"        // defines: gemm, gemm_with, gemm_in, gemm_pack_b, gemm_symmetric_in, gemm_isa, gemm_use_precision
#include "src/attn.h"        // defines: Attention, attention_forward, attention_backward, attention_scratch_floats
#include "src/moe.h"         // defines: Router, moe_choose, moe_choose_backward, moe_sort, moe_move_bias, moe_quantile_bias, ...
#include "src/sample.h"      // defines: SampleRule, sample_plainly, SampleRoom, sample_room, sample_token
#include "src/profile.h"     // defines: profile_start, profile_lap, profile_stop, profile_print
#include "src/checkpoint.h"  // defines: CkptTensor, checkpoint_save, checkpoint_open, checkpoint_read, checkpoint_find
#include "src/signals.h"     // defines: interrupted, take_signals
#include "src/dist.h"        // defines: dist_begin, dist_rank, dist_ranks, dist_any, dist_first, dist_share, dist_gather, ...
#include "data/tokenizer.h"  // defines: Tokenizer, tokenizer_check, tokenizer_path
#include "data/dataloader.h" // defines: DataLoader, dataloader_batch, dataloader_val, dataloader_fingerprint, ...
#ifndef MUON_C_COMMIT
#define MUON_C_COMMIT "unknown"  // the Makefile says which
#endif
static GemmPrecision muon_precision;  // of Newton-Schulz's products: optimizer.muon.precision
#define MUON_STATIC
#define MUON_GEMM(...) gemm_in(muon_precision, __VA_ARGS__)
#define MUON_GEMM_SYMMETRIC(...) gemm_symmetric_in(muon_precision, __VA_ARGS__)
#define MUON_GEMM_EXACT(...) gemm_in(GEMM_FP32, __VA_ARGS__)
#define MUON_GRAM_STEPS (muon_precision == GEMM_BF16 ? 2 : 3)
#define MUON_IMPLEMENTATION
#include "muon.h"            // defines: MuonParam, muon_init, muon_begin_step, muon_step_all, muon_qk_clip
#include "src/units.h"       // defines: UnitPlace, Units, units_plan, units_begin, units_ready, units_finish, units_share_weights, ...
#include "src/outer.h"       // defines: Outer, outer_plan, outer_begin, outer_step
#include "src/average.h"     // defines: Averages, averages_ahead, averages_follow, averages_mix_tail
#include "src/explain.h"     // defines: Explanation, ExplainSize, explain_step
#include "src/keys.h"        // defines: Config, config_fields, Role, tensor_rule, rule_lr, Owners, check_keys, ...; config.h
#include "src/runlog.h"      // defines: RunStart, RunStep, RunEval, RunEnd, and the functions that log them
#include "src/run.h"         // defines: Arguments, arguments_parse, RunFolder, run_open, run_write_files, run_draw, ...
#include "src/corpus.h"      // defines: corpus_open, text_bytes, bits_per_byte, sample_start, TokenText, Validation, ...
#include "src/resume.h"      // defines: CheckpointState, checkpoint_state, checkpoint_put, checkpoint_take, Best, ...
#include "src/budget.h"      // defines: Budget, BudgetCost, BudgetWork, budget_begin, budget_lap, budget_decide, budget_revise
#include "src/rates.h"       // defines: muon_rate, adamw_rate, warn_rates
#include "src/screen.h"      // defines: MemoryPlan, check_memory, Plan, print_plan, print_validation, print_step, print_done

// =====================================================================================================================
// 1. Layers

// ---------------------------------------------------------------------------------------------------------------------
// Dropout, on the embedding, the attention weights and the ends of both branches. Which elements are kept is a hash of
// seed, site, sequence, position and channel: micro-batches, threads and the backward pass all see the same bits.

typedef enum { DROP_EMBED, DROP_ATTENTION, DROP_MIXER, DROP_MLP } DropSite;

// A rectangle of x, in place: rows of tokens from n on, channels from i on. The same function serves the backward pass.
VEC_PASS(void, dropout_rows, (float *x, size_t stride, Dropout drop, int T, int n, int i, int rows, int columns),
         (x, stride, drop, T, n, i, rows, columns)) {
    uint32_t threshold = dropout_threshold(drop.rate);
    float keep_scale = 1.0f / (1.0f - drop.rate);
    for (int r = 0; r < rows; r++, x += stride) {
        uint64_t row_key = hash64(drop.key, drop.first_sequence * (uint64_t)T + (uint64_t)(n + r));
        VEC_LOOP for (int c = 0; c < columns; c++)
            x[c] *= dropout_factor(row_key, (uint32_t)(i + c), threshold, keep_scale);
    }
}

// out, x: (N, C), the same or not. The backward pass: dx = dropout(dout).
static void dropout_apply(float *out, const float *x, Dropout drop, int N, int T, int C) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        if (out != x) memcpy(out + (size_t)n * C, x + (size_t)n * C, (size_t)C * sizeof *x);
        dropout_rows(out + (size_t)n * C, (size_t)C, drop, T, n, 0, 1, C);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Sums over tokens, for gradients of biases and gains: each piece of SUM_TOKENS tokens has a sum of its own, and these
// are added in order, so that the result doesn't depend on the number of threads.

enum { SUM_TOKENS = 64 };

static int sum_pieces(int N) { return (N + SUM_TOKENS - 1) / SUM_TOKENS; }

// total (n) += the rows of pieces: the first n floats of each `stride`
static void sum_add_pieces(float *total, const float *pieces, int count, int n, size_t stride) {
    if (!total) return;
    for (int piece = 0; piece < count; piece++) vec_add(total, pieces + (size_t)piece * stride, (size_t)n);
}

// db (C) += sum over n of dout[n], dout: (N, C); sums: room for (sum_pieces(N), C)
static void bias_backward(float *db, const float *dout, int N, int C, float *sums) {
    #pragma omp parallel for
    for (int piece = 0; piece < sum_pieces(N); piece++) {
        float *sum = sums + (size_t)piece * C;
        memset(sum, 0, (size_t)C * sizeof *sum);
        for (int n = piece * SUM_TOKENS; n < N && n < (piece + 1) * SUM_TOKENS; n++)
            vec_add(sum, dout + (size_t)n * C, (size_t)C);
    }
    sum_add_pieces(db, sums, sum_pieces(N), C, (size_t)C);
}

// ---------------------------------------------------------------------------------------------------------------------
// Embedding: x[n] = wte[token[n]] + wpe[n mod T]

static void embedding_forward(float *x, const int *tokens, const float *wte, const float *wpe, int B, int T, int C) {
    #pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        memcpy(x + (size_t)n * C, wte + (size_t)tokens[n] * C, (size_t)C * sizeof *x);
        if (wpe) vec_add(x + (size_t)n * C, wpe + (size_t)(n % T) * C, (size_t)C);
    }
}

// A token may occur many times: each thread owns some channels and goes through all tokens in order.
static void embedding_backward(float *dwte, float *dwpe, const float *dx, const int *tokens, int B, int T, int C) {
    enum { CHANNELS = 64 };
    #pragma omp parallel for
    for (int first = 0; first < C; first += CHANNELS) {
        int channels = first + CHANNELS < C ? CHANNELS : C - first;
        for (int n = 0; n < B * T; n++) {
            const float *d = dx + (size_t)n * C + first;
            vec_add(dwte + (size_t)tokens[n] * C + first, d, (size_t)channels);
            if (dwpe) vec_add(dwpe + (size_t)(n % T) * C + first, d, (size_t)channels);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Norm over the channels of each token: out = (x - mean) * rstd * w + b, rstd = 1/sqrt(variance + eps).
// mean == NULL makes it RMSNorm: nothing is subtracted and rstd = 1/sqrt(mean of squares + eps). w, b may be NULL.

VEC_INLINE void norm_scale(float *out, const float *x, float mu, float s, const float *w, const float *b, int C) {
    if (w && b) VEC_LOOP for (int i = 0; i < C; i++) out[i] = (x[i] - mu) * s * w[i] + b[i];
    else if (w) VEC_LOOP for (int i = 0; i < C; i++) out[i] = (x[i] - mu) * s * w[i];
    else        VEC_LOOP for (int i = 0; i < C; i++) out[i] = (x[i] - mu) * s;
}

// One token. mean, rstd: its own.
VEC_PASS(void, norm_row, (float *out, float *mean, float *rstd, const float *x, const float *w, const float *b, int C,
                          float eps), (out, mean, rstd, x, w, b, C, eps)) {
    float mu = mean ? vec_sum(x, C) / C : 0.0f, sum = 0.0f;
    VEC_SUM(sum) for (int i = 0; i < C; i++) sum += (x[i] - mu) * (x[i] - mu);
    float s = 1.0f / sqrtf(sum / C + eps);
    norm_scale(out, x, mu, s, w, b, C);
    if (mean) *mean = mu;
    *rstd = s;
}

// stride: floats from a token's x to the next one's
static void norm_forward(float *out, float *mean, float *rstd, const float *x, size_t stride, const float *w, const float *b,
                         int N, int C, float eps) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++)
        norm_row(out + (size_t)n * C, mean ? mean + n : NULL, rstd + n, x + n * stride, w, b, C, eps);
}

// With xhat = (x - mean) * rstd and d = dout * w:  dx += rstd * (d - average(d) - xhat * average(d * xhat)); RMSNorm
// has no average(d).  dw += dout * xhat,  db += dout. In the same pass dout becomes out again, which the next product
// needs.
VEC_PASS(void, norm_row_backward, (float *dx, float *dw, float *db, float *dout, const float *x, float mu, float s,
                                   const float *w, const float *b, int C, bool mean),
         (dx, dw, db, dout, x, mu, s, w, b, C, mean)) {
    float sum_d = 0.0f, sum_dx = 0.0f;
    if (w)
        VEC_SUM(sum_d, sum_dx) for (int i = 0; i < C; i++) {
            float d = dout[i] * w[i], xhat = (x[i] - mu) * s;
            sum_d += d;
            sum_dx += d * xhat;
            dw[i] += dout[i] * xhat;
        }
    else
        VEC_SUM(sum_d, sum_dx) for (int i = 0; i < C; i++) {
            sum_d += dout[i];
            sum_dx += dout[i] * (x[i] - mu) * s;
        }
    if (db) VEC_LOOP for (int i = 0; i < C; i++) db[i] += dout[i];
    float average_d = mean ? sum_d / C : 0.0f, average_dx = sum_dx / C;
    if (w) VEC_LOOP for (int i = 0; i < C; i++)
        dx[i] += s * (dout[i] * w[i] - average_d - (x[i] - mu) * s * average_dx);
    else VEC_LOOP for (int i = 0; i < C; i++)
        dx[i] += s * (dout[i] - average_d - (x[i] - mu) * s * average_dx);
    norm_scale(dout, x, mu, s, w, b, C);
}

// ADDS into dx, since x also goes on along the residual stream. dout is overwritten by out as norm_forward gave it.
// stride: of x and dx; sums: room for (sum_pieces(N), 2 C)
static void norm_backward(float *dx, float *dw, float *db, float *dout, const float *x, size_t stride, const float *mean,
                          const float *rstd, const float *w, const float *b, int N, int C, float *sums) {
    #pragma omp parallel for
    for (int piece = 0; piece < sum_pieces(N); piece++) {
        float *sum = sums + (size_t)piece * 2 * C;
        memset(sum, 0, 2 * (size_t)C * sizeof *sum);
        for (int n = piece * SUM_TOKENS; n < N && n < (piece + 1) * SUM_TOKENS; n++)
            norm_row_backward(dx + n * stride, sum, db ? sum + C : NULL, dout + (size_t)n * C, x + n * stride,
                              mean ? mean[n] : 0.0f, rstd[n], w, b, C, mean != NULL);
    }
    sum_add_pieces(dw, sums, sum_pieces(N), C, 2 * (size_t)C);
    sum_add_pieces(db, sums + C, sum_pieces(N), C, 2 * (size_t)C);
}

// ---------------------------------------------------------------------------------------------------------------------
// MLP activation: act from h, for a rectangle of rows x columns of them, which begins where the pointers say.
//   gelu_tanh  x/2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3)      gelu_erf  x Phi(x)
//   relu2      max(0, x)^2                                                              swiglu    gate sigmoid(gate) x
// act: rows of F floats. h: rows of F floats, for swiglu of 2F, the gate's half first.

#define SQRT_2_OVER_PI 0.7978845608f
#define SQRT_1_OVER_2  0.7071067812f
#define SQRT_1_OVER_2PI 0.3989422804f

static size_t mlp_h_stride(int F, MlpKind kind) { return kind == MLP_SWIGLU ? 2 * (size_t)F : (size_t)F; }

VEC_INLINE float gelu_sigmoid(float x) { return vec_sigmoidf(2.0f * SQRT_2_OVER_PI * (x + 0.044715f * x * x * x)); }

// Pieces of rows are too short for the CPU to see what comes next: the row PREFETCH_ROWS further on is asked for early.
enum { PREFETCH_ROWS = 16 };

VEC_INLINE void prefetch_row(const float *row, int columns) {
    for (int i = 0; i < columns; i += 16) __builtin_prefetch(row + i, 1);
}

VEC_PASS(void, mlp_act_forward, (float *act, const float *h, int F, int rows, int columns, MlpKind kind),
         (act, h, F, rows, columns, kind)) {
    for (int r = 0; r < rows; r++, act += F, h += mlp_h_stride(F, kind)) {
        const float *x = h, *gate = h;
        prefetch_row(act + (size_t)PREFETCH_ROWS * F, columns);
        switch (kind) {
        case MLP_GELU_TANH:
            VEC_LOOP for (int i = 0; i < columns; i++) act[i] = x[i] * gelu_sigmoid(x[i]);
            break;
        case MLP_GELU_ERF:
            VEC_LOOP for (int i = 0; i < columns; i++) act[i] = 0.5f * x[i] * (1.0f + vec_erff(SQRT_1_OVER_2 * x[i]));
            break;
        case MLP_RELU2:                                  // 0 * NaN is NaN
            VEC_LOOP for (int i = 0; i < columns; i++) act[i] = (x[i] > 0.0f ? x[i] : 0.0f) * x[i];
            break;
        case MLP_SWIGLU:
            x += F;
            VEC_LOOP for (int i = 0; i < columns; i++) act[i] = gate[i] * vec_sigmoidf(gate[i]) * x[i];
            break;
        }
    }
}

// From h and dact: h becomes dh, and dact becomes act again, which the gradient of the next weight needs.
VEC_PASS(void, mlp_act_backward, (float *h, float *dact, int F, int rows, int columns, MlpKind kind),
         (h, dact, F, rows, columns, kind)) {
    for (int r = 0; r < rows; r++, dact += F, h += mlp_h_stride(F, kind)) {
        prefetch_row(h + PREFETCH_ROWS * mlp_h_stride(F, kind), columns);
        switch (kind) {
        case MLP_GELU_TANH:                              // s + x s (1 - s) 2 u'
            VEC_LOOP for (int i = 0; i < columns; i++) {
                float x = h[i], s = gelu_sigmoid(x);
                float slope = 2.0f * SQRT_2_OVER_PI * (1.0f + 3.0f * 0.044715f * x * x);
                h[i] = dact[i] * (s + x * s * (1.0f - s) * slope);
                dact[i] = x * s;
            }
            break;
        case MLP_GELU_ERF:                               // Phi(x) + x phi(x)
            VEC_LOOP for (int i = 0; i < columns; i++) {
                float x = h[i], e = vec_expf(-0.5f * x * x), phi = 0.5f * (1.0f + vec_erff_of(SQRT_1_OVER_2 * x, e));
                h[i] = dact[i] * (phi + x * SQRT_1_OVER_2PI * e);
                dact[i] = x * phi;
            }
            break;
        case MLP_RELU2:
            VEC_LOOP for (int i = 0; i < columns; i++) {
                float x = h[i], positive = x > 0.0f ? x : 0.0f * x;
                h[i] = dact[i] * 2.0f * positive;
                dact[i] = positive * x;
            }
            break;
        case MLP_SWIGLU:                                 // silu'(g) = sigmoid(g) (1 + g (1 - sigmoid(g)))
            VEC_LOOP for (int i = 0; i < columns; i++) {
                float gate = h[i], x = h[F + i], d = dact[i], s = vec_sigmoidf(gate);
                h[i] = d * x * s * (1.0f + gate * (1.0f - s));
                h[F + i] = d * gate * s;
                dact[i] = gate * s * x;
            }
            break;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Linear: out (N, OC) = x (N, IC) w^T + b. An epilogue is what follows it in the block: it is done to each piece of out as
// soon as that is finished, while it is in cache.

typedef struct {
    int IC, OC;
    const float *w, *b;      // (OC, IC); (OC) or NULL
    float *dw, *db;          // their gradients
    bool fresh;              // nothing is in dw yet: the next gradient is written over it
    const float *packed_forward, *packed_backward;   // w as gemm_pack_b made it for either product, or NULL
} Linear;

typedef struct {
    const float *residual;   // (N, OC), or NULL. The end of a branch: out = residual + dropout(out), which is also the
    Dropout dropout;         // whole of the residual's forward pass; its backward is the identity for both
    int T;
    float *act;              // (N, OC), or NULL. The MLP: act = activation(out)
    MlpKind mlp;
} Epilogue;

typedef struct { const Linear *linear; Epilogue epilogue; } LinearEpilogue;

// Adds b (columns), the same for each row, and x, laid out as out; either may be NULL.
VEC_PASS(void, add_to_rows, (float *out, const float *b, const float *x, size_t stride, int rows, int columns),
         (out, b, x, stride, rows, columns)) {
    for (int r = 0; r < rows; r++, out += stride) {
        if (b) VEC_LOOP for (int i = 0; i < columns; i++) out[i] += b[i];
        if (x) VEC_LOOP for (int i = 0; i < columns; i++) out[i] += x[(size_t)r * stride + i];
    }
}

static void linear_epilogue(void *arg, int row, int column, int rows, int columns, float *out, size_t stride) {
    const LinearEpilogue *of = arg;
    const Epilogue *e = &of->epilogue;
    size_t at = (size_t)row * stride + (size_t)column;
    const float *b = of->linear->b ? of->linear->b + column : NULL, *residual = e->residual ? e->residual + at : NULL;
    bool drops = e->dropout.rate > 0.0f;
    add_to_rows(out, b, drops ? NULL : residual, stride, rows, columns);
    if (drops) {
        dropout_rows(out, stride, e->dropout, e->T, row, column, rows, columns);
        add_to_rows(out, NULL, residual, stride, rows, columns);
    }
    if (e->act) mlp_act_forward(e->act + at, out, (int)stride, rows, columns, e->mlp);
}

static void linear_forward(float *out, const float *x, const Linear *l, int N, Epilogue epilogue) {
    LinearEpilogue of = {l, epilogue};
    bool more = l->b || epilogue.residual || epilogue.act;
    gemm_with((GemmExtras){l->packed_forward, more ? linear_epilogue : NULL, &of},
              false, true, N, l->OC, l->IC, 1.0f, x, l->IC, l->w, l->IC, 0.0f, out, l->OC);
}

// What follows the gradient dx where x is the MLP's activation of h: as soon as a piece of dx is finished, h becomes dh there,
// and dx becomes x, which the gradient of w needs. h is NULL where x is something else.
typedef struct { float *h; MlpKind mlp; } InputEpilogue;

static void linear_input_epilogue(void *arg, int row, int column, int rows, int columns, float *dx, size_t stride) {
    const InputEpilogue *e = arg;
    int F = (int)stride;
    mlp_act_backward(e->h + (size_t)row * mlp_h_stride(F, e->mlp) + (size_t)column, dx, F, rows, columns, e->mlp);
}

// dx = dout w
static void linear_backward_input(float *dx, const float *dout, const Linear *l, int N, InputEpilogue epilogue) {
    gemm_with((GemmExtras){l->packed_backward, epilogue.h ? linear_input_epilogue : NULL, &epilogue},
              false, false, N, l->IC, l->OC, 1.0f, dout, l->OC, l->w, l->IC, 0.0f, dx, l->IC);
}

// dw += dout^T x, db += sum of dout's rows; sums: room for (sum_pieces(N), OC)
static void linear_backward_weight(const float *dout, const float *x, Linear *l, int N, float *sums) {
    gemm(true, false, l->OC, l->IC, N, 1.0f, dout, l->OC, x, l->IC, l->fresh ? 0.0f : 1.0f, l->dw, l->IC);
    l->fresh = false;
    if (l->db) bias_backward(l->db, dout, N, l->OC, sums);
}

// ---------------------------------------------------------------------------------------------------------------------
// RoPE, half-split (Su et al. 2021, arXiv 2104.09864, in the layout of Hugging Face's Llama): in each head the pair
// (i, i + HS/2) at position t turns by the angle t * theta^(-2i/HS). In place, on `heads` heads of HS floats, each `apart`
// floats from the next, in rows of `stride` floats. cosines, sines: (T, HS/2). The backward pass turns by the opposite angle:
// direction = -1.

VEC_PASS(void, rope_row, (float *x, const float *cosines, const float *sines, float direction, int heads, int HS, int apart),
         (x, cosines, sines, direction, heads, HS, apart)) {
    int half = HS / 2;
    for (int h = 0; h < heads; h++, x += apart)
        VEC_LOOP for (int i = 0; i < half; i++) {
            float a = x[i], b = x[half + i], s = direction * sines[i];
            x[i] = a * cosines[i] - b * s;
            x[half + i] = b * cosines[i] + a * s;
        }
}

static void rope_apply(float *x, const float *cosines, const float *sines, float direction, int B, int T, int heads,
                       int HS, int apart, int stride) {
    #pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        size_t at = (size_t)(n % T) * (size_t)(HS / 2);
        rope_row(x + (size_t)n * stride, cosines + at, sines + at, direction, heads, HS, apart);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// QK-norm: RMSNorm without gain of each query and key head, in place: y = x * rstd. Rows as in rope_apply; rstd
// (N, heads). It follows RoPE here; since a rotation keeps lengths, the order makes no difference.

VEC_PASS(void, qk_norm_row, (float *x, float *rstd, int heads, int HS, float eps), (x, rstd, heads, HS, eps)) {
    for (int h = 0; h < heads; h++, x += HS) {
        float s = rstd[h] = 1.0f / sqrtf(vec_dot(x, x, HS) / HS + eps);
        VEC_LOOP for (int i = 0; i < HS; i++) x[i] *= s;
    }
}

static void qk_norm_forward(float *x, float *rstd, int N, int heads, int HS, int stride, float eps) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++) qk_norm_row(x + (size_t)n * stride, rstd + (size_t)n * heads, heads, HS, eps);
}

// dx = rstd * (dy - y * average(dy * y)), in place on dy
VEC_PASS(void, qk_norm_row_backward, (float *dy, const float *y, const float *rstd, int heads, int HS),
         (dy, y, rstd, heads, HS)) {
    for (int h = 0; h < heads; h++, dy += HS, y += HS) {
        float s = rstd[h], average = vec_dot(dy, y, HS) / HS;
        VEC_LOOP for (int i = 0; i < HS; i++) dy[i] = s * (dy[i] - y[i] * average);
    }
}

static void qk_norm_backward(float *dy, const float *y, const float *rstd, int N, int heads, int HS, int stride) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++)
        qk_norm_row_backward(dy + (size_t)n * stride, y + (size_t)n * stride, rstd + (size_t)n * heads, heads, HS);
}

// ---------------------------------------------------------------------------------------------------------------------
// Loss of a token, in nats: lse - z[target], with z = c tanh(logit / c) where the soft-cap c > 0, and
// lse = log sum_v exp(z_v). z: (V) logits of one token.

// logits become z; returns lse.
VEC_PASS(float, loss_row, (float *z, float softcap, int V), (z, softcap, V)) {
    if (softcap > 0.0f)
        VEC_LOOP for (int v = 0; v < V; v++) z[v] = softcap * vec_tanhf(z[v] / softcap);
    float m = vec_max(z, V), sum = 0.0f;
    VEC_SUM(sum) for (int v = 0; v < V; v++) sum += vec_expf(z[v] - m);
    return m + logf(sum);
}

// dlogits = dloss * (softmax(z) - onehot(target)) * (1 - (z/c)^2), written over z. dloss: the weight of a token's loss.
VEC_PASS(void, loss_row_backward, (float *z, float lse, int target, float softcap, float dloss, int V),
         (z, lse, target, softcap, dloss, V)) {
    float cap = softcap > 0.0f ? 1.0f / softcap : 0.0f, zt = z[target] * cap;
    VEC_LOOP for (int v = 0; v < V; v++)
        z[v] = dloss * vec_expf(z[v] - lse) * (1.0f - (z[v] * cap) * (z[v] * cap));
    z[target] -= dloss * (1.0f - zt * zt);
}

// losses: (N); logits: (N, V) become z or, where backward, the gradients of dloss * (sum of the losses).
static void loss_forward_backward(float *losses, float *logits, const int *targets, float softcap, int N, int V,
                                  bool backward, float dloss) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        float *z = logits + (size_t)n * V, lse = loss_row(z, softcap, V);
        losses[n] = lse - z[targets[n]];
        if (backward) loss_row_backward(z, lse, targets[n], softcap, dloss, V);
    }
}

// =====================================================================================================================
// 2. Tensors: one row per kind of tensor. Allocation, initial values, checkpoints, the optimizer's groups, the printed
// summary and the gradient tests are loops over this table; to add a tensor, add a row.

typedef enum { WTE, WPE, NORM1_W, NORM1_B, WQ, W_QA, W_KVA, WK, WV, BQ, BK, BV, Q_NORM_W, W_QB, KV_NORM_W, W_KVB, WO, BO,
               NORM2_W, NORM2_B, W_GATE, W_IN, B_GATE, B_IN, W_OUT, B_OUT, W_ROUTER, ROUTER_BIAS, W_EXPERT_GATE, W_EXPERT_IN,
               W_EXPERT_OUT, W_SHARED_GATE, W_SHARED_IN, W_SHARED_OUT, NORMF_W, NORMF_B, HEAD, N_TENSORS } TensorId;

typedef enum { FILL_ZERO, FILL_ONE, FILL_NORMAL, FILL_UNIFORM } Fill;   // normal: sigma = size; uniform: +-size

typedef struct {
    const char *name;        // as in checkpoints and messages
    Role role;
    int first_layer, count;  // copies: of the layers from first_layer on, or 1; 0 where the model has none of it
    int each;                // of these in a layer: 1, or the number of experts
    int rows, cols;          // (out, in) of a copy; a vector is one row
    Fill fill;
    double size;
    bool stacked;            // below the row above
    size_t offset, stride;   // floats from the start of the parameters to copy 0, and from each copy to the next
    int rule;                // who updates it
    bool decay;              // is it subject to weight decay
} Tensor;

// Rows that are stacked make one taller matrix: their tensors lie end to end, so that one product serves all of them, and
// the stack's copies one after the other: copy i of a tensor is at offset + stride * i. Returns the number of floats of all.
static size_t tensors_place(Tensor table[N_TENSORS]) {
    size_t end = 0;
    for (int first = 0, next; first < N_TENSORS; first = next) {
        size_t stride = 0;
        int copies = 0;
        for (next = first; next < N_TENSORS && (next == first || table[next].stacked); next++) {
            Tensor *t = &table[next];
            if (!t->count) continue;
            t->offset = end + stride;
            stride += (size_t)t->rows * t->cols;
            copies = t->count;
        }
        for (int id = first; id < next; id++) table[id].stride = stride;
        end += stride * copies;
    }
    return end;
}

// Fills the table, returns the number of parameters.
static size_t tensor_table(Tensor table[N_TENSORS], const Config *c, int V) {
    int L = c->model.layers, C = c->model.width, F = c->model.mlp_width, T = c->model.context;
    int NH = c->model.heads, KV = c->model.kv_heads * head_size(c);
    bool latent = c->model.mixer == MIXER_MLA, ranked = latent && c->model.q_lora > 0;
    int QR = c->model.q_lora, KVR = c->model.kv_lora, Q = NH * (latent ? c->model.nope + c->model.rope : head_size(c)),
        att = latent ? NH * c->model.v_head : Q;
    int E = c->model.experts, W = c->model.expert_width, S = W * c->model.shared_experts;
    int D = E ? c->model.dense_layers : L, X = L - D;        // layers with a dense MLP, and those behind them with experts
    bool speedrun = c->model.init == INIT_SPEEDRUN;
    bool bias = c->model.bias, gate = c->model.mlp == MLP_SWIGLU, learned = c->model.position == POSITION_LEARNED,
         gain = c->model.norm != NORM_RMSNORM_PLAIN, norm_bias = bias && c->model.norm == NORM_LAYERNORM,
         untied = c->model.head == HEAD_UNTIED;
    // gpt2: N(0, 0.02), the projections into the residual stream divided by sqrt(2 L) (GPT-2; nanoGPT's model.py).
    // speedrun: uniform +-sqrt(3) 0.5 / sqrt(fan-in), those projections and the head zero, the embedding N(0, 1)
    // (modded-nanogpt).
    Fill hidden = speedrun ? FILL_UNIFORM : FILL_NORMAL, residual = speedrun ? FILL_ZERO : FILL_NORMAL;
    double of_1 = sqrt(3.0) * 0.5, from_c = speedrun ? of_1 / sqrt(C) : 0.02, into = 0.02 / sqrt(2.0 * L),
           from_qr = speedrun ? of_1 / sqrt(QR) : 0.02, from_kvr = speedrun ? of_1 / sqrt(KVR) : 0.02;

    enum { ALONE, STACKED };             // below the row above
    const struct { const char *name; Role role; int stacked, first_layer, count, rows, cols; Fill fill; double size; }
    kinds[N_TENSORS] = {                 // name, role, stack, first layer, copies, rows, cols, fill, size
        [WTE]     = {"wte", ROLE_EMBED, ALONE, 0, 1, V, C, FILL_NORMAL, speedrun ? 1.0 : 0.02},
        [WPE]     = {"wpe", ROLE_EMBED, ALONE, 0, learned, T, C, FILL_NORMAL, 0.02},
        [NORM1_W] = {"norm1_w", ROLE_NORM, ALONE, 0, L * gain, 1, C, FILL_ONE, 0},
        [NORM1_B] = {"norm1_b", ROLE_NORM, ALONE, 0, L * norm_bias, 1, C, FILL_ZERO, 0},
        [WQ]      = {"wq", ROLE_Q, ALONE, 0, L * !ranked, Q, C, hidden, from_c},
        [W_QA]    = {"w_qa", ROLE_Q_A, STACKED, 0, L * ranked, QR, C, hidden, from_c},
        [W_KVA]   = {"w_kva", ROLE_KV_A, STACKED, 0, L * latent, KVR + c->model.rope, C, hidden, from_c},
        [WK]      = {"wk", ROLE_K, STACKED, 0, L * !latent, KV, C, hidden, from_c},
        [WV]      = {"wv", ROLE_V, STACKED, 0, L * !latent, KV, C, hidden, from_c},
        [BQ]      = {"bq", ROLE_BIAS, ALONE, 0, L * bias, 1, Q, FILL_ZERO, 0},
        [BK]      = {"bk", ROLE_BIAS, STACKED, 0, L * bias, 1, KV, FILL_ZERO, 0},
        [BV]      = {"bv", ROLE_BIAS, STACKED, 0, L * bias, 1, KV, FILL_ZERO, 0},
        [Q_NORM_W]  = {"q_norm_w", ROLE_NORM, ALONE, 0, L * ranked, 1, QR, FILL_ONE, 0},
        [W_QB]      = {"w_qb", ROLE_Q_B, ALONE, 0, L * ranked, Q, QR, hidden, from_qr},
        [KV_NORM_W] = {"kv_norm_w", ROLE_NORM, ALONE, 0, L * latent, 1, KVR, FILL_ONE, 0},
        [W_KVB]     = {"w_kvb", ROLE_KV_B, ALONE, 0, L * latent, NH * (c->model.nope + c->model.v_head), KVR, hidden, from_kvr},
        [WO]      = {"wo", ROLE_O, ALONE, 0, L, C, att, residual, into},
        [BO]      = {"bo", ROLE_BIAS, ALONE, 0, L * bias, 1, C, FILL_ZERO, 0},
        [NORM2_W] = {"norm2_w", ROLE_NORM, ALONE, 0, L * gain, 1, C, FILL_ONE, 0},
        [NORM2_B] = {"norm2_b", ROLE_NORM, ALONE, 0, L * norm_bias, 1, C, FILL_ZERO, 0},
        [W_GATE]  = {"w_gate", ROLE_MLP_GATE, ALONE, 0, D * gate, F, C, hidden, from_c},
        [W_IN]    = {"w_in", ROLE_MLP_IN, STACKED, 0, D, F, C, hidden, from_c},
        [B_GATE]  = {"b_gate", ROLE_BIAS, ALONE, 0, D * gate * bias, 1, F, FILL_ZERO, 0},
        [B_IN]    = {"b_in", ROLE_BIAS, STACKED, 0, D * bias, 1, F, FILL_ZERO, 0},
        [W_OUT]   = {"w_out", ROLE_MLP_OUT, ALONE, 0, D, C, F, residual, into},
        [B_OUT]   = {"b_out", ROLE_BIAS, ALONE, 0, D * bias, 1, C, FILL_ZERO, 0},
        [W_ROUTER]      = {"w_router", ROLE_ROUTER, ALONE, D, X, E, C, hidden, from_c},
        [ROUTER_BIAS]   = {"router_bias", ROLE_ROUTER_BIAS, ALONE, D, X, 1, E, FILL_ZERO, 0},
        [W_EXPERT_GATE] = {"w_expert_gate", ROLE_MLP_GATE, ALONE, D, X * E * gate, W, C, hidden, from_c},   // layer by layer
        [W_EXPERT_IN]   = {"w_expert_in", ROLE_MLP_IN, STACKED, D, X * E, W, C, hidden, from_c},
        [W_EXPERT_OUT]  = {"w_expert_out", ROLE_MLP_OUT, ALONE, D, X * E, C, W, residual, into},
        [W_SHARED_GATE] = {"w_shared_gate", ROLE_MLP_GATE, ALONE, D, X * gate * (S > 0), S, C, hidden, from_c},
        [W_SHARED_IN]   = {"w_shared_in", ROLE_MLP_IN, STACKED, D, X * (S > 0), S, C, hidden, from_c},
        [W_SHARED_OUT]  = {"w_shared_out", ROLE_MLP_OUT, ALONE, D, X * (S > 0), C, S, residual, into},
        [NORMF_W] = {"normf_w", ROLE_NORM, ALONE, 0, gain, 1, C, FILL_ONE, 0},
        [NORMF_B] = {"normf_b", ROLE_NORM, ALONE, 0, norm_bias, 1, C, FILL_ZERO, 0},
        [HEAD]    = {"head", ROLE_HEAD, ALONE, 0, untied, V, C, speedrun ? FILL_ZERO : FILL_NORMAL, 0.02},
    };
    for (int id = 0; id < N_TENSORS; id++)
        table[id] = (Tensor){
            .name = kinds[id].name, .role = kinds[id].role, .first_layer = kinds[id].first_layer, .count = kinds[id].count,
            .each = id == W_EXPERT_GATE || id == W_EXPERT_IN || id == W_EXPERT_OUT ? E : 1,
            .rows = kinds[id].rows, .cols = kinds[id].cols, .fill = kinds[id].fill, .size = kinds[id].size,
            .stacked = kinds[id].stacked, .rule = tensor_rule(c, kinds[id].role, kinds[id].name),
            .decay = tensor_decays(c, kinds[id].role)};
    return tensors_place(table);
}

// Initial values: element i of a tensor is a function of (seed, name, i), so that a change of one socket of the model
// leaves the other tensors as they were.
static void tensors_init(float *params, const Tensor table[N_TENSORS], uint64_t seed) {
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *t = &table[id];
        uint64_t key = hash64(seed, hash_string(t->name));
        size_t each = (size_t)t->rows * t->cols;
        for (int m = 0; m < t->count; m++) {
            float *w = params + t->offset + t->stride * m, size = (float)t->size;
            #pragma omp parallel for
            for (size_t i = 0; i < each; i++) {
                uint64_t h = hash64(key, (uint64_t)m * each + i);
                if (t->fill == FILL_ZERO) w[i] = 0.0f;
                else if (t->fill == FILL_ONE) w[i] = 1.0f;
                else if (t->fill == FILL_UNIFORM) w[i] = size * (2.0f * uniform_of(h) - 1.0f);
                else w[i] = size * normal_of(h);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Products: y = x W^T + b, where W is a stack of tensors and b a stack of biases. Each has as many copies as its tensors.

typedef enum { PRODUCT_QKV, PRODUCT_QB, PRODUCT_KVB, PRODUCT_O, PRODUCT_MLP_IN, PRODUCT_MLP_OUT, PRODUCT_ROUTER,
               PRODUCT_EXPERT_IN, PRODUCT_EXPERT_OUT, PRODUCT_SHARED_IN, PRODUCT_SHARED_OUT, PRODUCT_OUTPUT, PRODUCTS } ProductId;

typedef struct { TensorId first, last, first_bias, last_bias; bool biased; } Product;

static Product product_of(const Tensor table[N_TENSORS], ProductId id) {
    static const Product products[PRODUCTS] = {
        [PRODUCT_QKV]     = {WQ, WV, BQ, BV, true},
        [PRODUCT_QB]      = {.first = W_QB, .last = W_QB},
        [PRODUCT_KVB]     = {.first = W_KVB, .last = W_KVB},
        [PRODUCT_O]       = {WO, WO, BO, BO, true},
        [PRODUCT_MLP_IN]  = {W_GATE, W_IN, B_GATE, B_IN, true},
        [PRODUCT_MLP_OUT] = {W_OUT, W_OUT, B_OUT, B_OUT, true},
        [PRODUCT_ROUTER]     = {.first = W_ROUTER, .last = W_ROUTER},
        [PRODUCT_EXPERT_IN]  = {.first = W_EXPERT_GATE, .last = W_EXPERT_IN},
        [PRODUCT_EXPERT_OUT] = {.first = W_EXPERT_OUT, .last = W_EXPERT_OUT},
        [PRODUCT_SHARED_IN]  = {.first = W_SHARED_GATE, .last = W_SHARED_IN},
        [PRODUCT_SHARED_OUT] = {.first = W_SHARED_OUT, .last = W_SHARED_OUT},
        [PRODUCT_OUTPUT]  = {.first = HEAD, .last = HEAD},
    };
    Product p = products[id];
    if (id == PRODUCT_OUTPUT && !table[HEAD].count) p.first = p.last = WTE;    // tied
    while (p.first < p.last && !table[p.first].count) p.first++;
    while (p.first_bias < p.last_bias && !table[p.first_bias].count) p.first_bias++;
    return p;
}

static bool product_has(Product p, TensorId id) { return id >= p.first && id <= p.last; }

static int product_rows(const Tensor table[N_TENSORS], Product p) {
    int rows = 0;
    for (int id = (int)p.first; id <= (int)p.last; id++) rows += table[id].count ? table[id].rows : 0;
    return rows;
}

static bool tensor_is_in_a_product(const Tensor table[N_TENSORS], TensorId id) {
    for (int product = 0; product < PRODUCTS; product++)
        if (product_has(product_of(table, (ProductId)product), id)) return true;
    return false;
}

// =====================================================================================================================
// 3. The model's memory

enum { PARTS_LEVELS = 32 };

typedef struct {             // what attention keeps for its backward pass
    float *qkv, *dqkv;       // (N, QKV) queries, keys, values after RoPE and QK-norm. Their gradients take their place,
                             // but where QK-norm still needs them
    float *qk_rstd;          // (N, NH + NKV)
    float *att, *lse;        // (N, NH HS), (B, NH, T)
} AttentionActs;

typedef struct {             // what latent attention keeps; LatentSizes says what the letters are
    float *down;             // (N, QKV) in each row the queries or their low-rank form, the latent, the rotated key
    float *q_rstd, *kv_rstd; // (N) of the norms of low-rank form and latent
    float *q;                // (N, NH HS) of rows as wide as q_stride. Without a low-rank form they lie in down
    float *kv;               // (N, NH (nope + HV)) the unrotated keys of all heads, the values of all heads
    float *att, *lse;        // (N, NH HV), (B, NH, T)
} LatentActs;

typedef struct {             // what the dense MLP keeps
    float *h, *dh;           // (N, H) before the activation; its gradient takes its place
} DenseActs;

typedef struct {             // what a mixture of experts keeps; the N K rows of all experts lie sorted by expert (moe.h)
    float *scores, *dlogits; // (N, E) the router's sigmoids; the gradient of its logits takes their place
    float *weights;          // (N, K) of a token's experts; their gradients take their place
    int *chosen, *place;     // (N, K) a token's experts, and the rows where they have it
    int *first;              // (E + 1) each expert's first row
    float *h, *dh;           // (N K, width of an expert's first product) as in DenseActs
    DenseActs shared;
} MoeActs;

typedef struct {             // what a block keeps
    float *x;                // (N, C) the residual stream that enters
    float *norm1_mean, *norm1_rstd;   // (N), (N)
    AttentionActs attention;
    LatentActs latent;
    float *cache;            // (B, T, the mixer's cache), of heads each by itself: what sampling keeps of earlier tokens
    float *x_mid;            // (N, C) after the mixer
    float *norm2_mean, *norm2_rstd;
    DenseActs dense;         // one of these two
    MoeActs moe;
} BlockActs;

typedef struct Model Model;

typedef struct {             // the sequences of a micro-batch
    int B, T;
    uint64_t first_sequence; // number of the first one in the whole training, for dropout
    bool training;           // drops, and is followed by a backward pass
    bool cached;             // sampling: each sequence goes on behind `past` tokens, of which the caches have keys and values,
    int past;                // and joins them
    float dloss;             // then: the weight of a token's loss
} Batch;

typedef struct { float *base; size_t end; } Arena;       // base NULL: only measured

static float *arena_take(Arena *arena, size_t floats) {
    float *place = arena->base ? arena->base + arena->end : NULL;
    arena->end += (floats + 15) / 16 * 16;
    return place;
}

// What fills a socket of a block. In all of them m->norm holds the normalized input. A member may be NULL where it says so.
typedef struct {
    size_t (*cache)(const Model *m);         // a mixer's: floats that sampling keeps of a token; an MLP's is NULL
    size_t (*work)(const Model *m);          // floats of m->work that it needs while one of its functions runs
    void (*plan_shared)(Model *m, Arena *arena);                    // places what its layers share; or NULL
    void (*plan)(Model *m, BlockActs *acts, Arena *arena);          // places what a layer keeps
    // out = x + socket(m->norm); out NULL: only what the backward pass needs
    void (*forward)(Model *m, float *out, const float *x, int layer, Batch batch);
    // from m->dx, the gradient of out, to m->dnorm, that of m->norm, and the weights' gradients
    void (*backward)(Model *m, int layer, Batch batch);
    // the gradients of the weights whose input is m->norm; called last, after the norm's backward pass, which writes the
    // normalized input back over m->dnorm. So m->dx must stay, and other weights' gradients come before m->dnorm is written
    void (*backward_first)(Model *m, int layer, Batch batch);
    // QK-Clip of a layer's heads with a logit above tau, counted into *clipped; a MUON_ code. NULL: it has no such heads
    int (*clip)(Model *m, int layer, double tau, double alpha, int *clipped);
    double (*pair_flops)(const Model *m);    // forward and backward, of a token and each that it sees, beside the products; or NULL
} Socket;

struct Model {
    const Config *config;    // the caller's, which must outlive the model
    int B, T, C, V, L, NH, NKV, HS, F;
    int rotated;             // channels of a head that RoPE turns; 0: none
    int QKV, H;              // width of a row of qkv, (NH + 2 NKV) HS, or of down; of h, F or for swiglu 2F
    Router router;           // E, K and how experts are chosen; E 0: there are none
    int D;                   // layers without experts
    int logit_rows;          // tokens whose logits are computed at a time
    int threads;             // that there is scratch memory for
    Tensor table[N_TENSORS];
    size_t n_params, n_acts;
    bool backward;           // has gradients, and keeps what the backward pass needs
    float *params, *grads;   // grads: where the gradients go that are computed now, one of `sums_of_parts`
    int levels;              // of the tree in which the gradients of this rank's parts of a batch are summed up
    float *sums_of_parts[PARTS_LEVELS];  // the first one has the whole batch's in the end
    void (*layer_done)(void *listener, int layer);   // called in a backward pass when a layer's gradients are made; or NULL
    void *listener;
    Linear *linears;         // n_linears: the copies of each product, product after product
    int n_linears, first_linear[PRODUCTS];
    size_t n_packed;
    float *packed;           // room for all their weights packed, where that pays
    BlockActs *blocks;       // L of them; without gradients they share all memory, with recompute all but x
    float *acts;             // the arena of what blocks point to and of everything below

    float *embedding, *embed_rstd;   // before and for the norm of the embedding, where there is one
    float *x_last, *normf_mean, *normf_rstd;
    float *norm, *dnorm;             // (N, C) a norm's output on its way into a product; its gradient takes its place
    float *work;                     // what a socket needs while one of its functions runs; (N, C) at least
    float *dx;                       // (N, C) the residual stream's gradient
    float *logits, *losses;          // (logit_rows, V), (N)
    float *sums;                     // (sum_pieces(N), widest_sum)
    float *dqkv;                     // (N, QKV) with QK-norm; of latent attention the gradient of down
    float *scratch;                  // of the attention, per thread
    float *sequence_max;             // (L, B, NH) largest attention logit of each sequence in this micro-batch
    float *max_logits;               // (L, NH) likewise since model_begin_grads; training forwards only
    float *rope_cos, *rope_sin;      // (T, rotated/2)
    int *loads;                      // (L - D, E) tokens of each expert since model_begin_grads; training forwards only
    int *gaps;                       // (L - D, E, MOE_BINS) likewise, of quantile balancing (moe_count_gaps)
    float *behind;                   // (N) the score + bias behind those of a token's experts, for it
    float *fractions;                // (B, E) of each sequence, for the balance loss (moe_fractions)
};

// Copy i of a tensor, such as that of the i-th layer that has one; NULL where the model has none.
static float *weight(const Model *m, TensorId id, int i) {
    const Tensor *t = &m->table[id];
    return t->count && m->params ? m->params + t->offset + t->stride * i : NULL;
}

static float *gradient(const Model *m, TensorId id, int i) {
    const Tensor *t = &m->table[id];
    return t->count && m->grads ? m->grads + t->offset + t->stride * i : NULL;
}

static Linear *model_linear(const Model *m, ProductId id, int i) { return &m->linears[m->first_linear[id] + i]; }

static Dropout dropout_of(const Model *m, DropSite site, int layer, Batch batch) {
    uint64_t key = hash64(hash64(hash64((uint64_t)m->config->run.seed, hash_string("dropout")), site), (uint64_t)layer);
    bool on = batch.training && (site != DROP_ATTENTION || m->config->model.attn_dropout);
    return (Dropout){on ? (float)m->config->model.dropout : 0.0f, key, batch.first_sequence};
}

// RoPE: turns `heads` heads of the batch's tokens, each by its position.
static void rotate(const Model *m, float *x, float direction, Batch batch, int heads, int apart, int stride) {
    size_t at = (size_t)batch.past * (size_t)(m->rotated / 2);
    rope_apply(x, m->rope_cos + at, m->rope_sin + at, direction, batch.B, batch.T, heads, m->rotated, apart, stride);
}

// Puts `heads` pieces of `width` floats of each token's row of x into a cache (B, heads, T, cache_stride): what attention reads of
// a head lies together.
static void cache_keep(const Model *m, float *cache, size_t cache_stride, const float *x, size_t stride, int heads, int width,
                       Batch batch) {
    for (int b = 0; b < batch.B; b++)
        for (int h = 0; h < heads; h++)
            for (int t = 0; t < batch.T; t++)
                memcpy(cache + (((size_t)b * heads + h) * m->T + batch.past + t) * cache_stride,
                       x + ((size_t)b * batch.T + t) * stride + (size_t)h * width, (size_t)width * sizeof *x);
}

// The gradient of a branch in front of its dropout: m->dx, or where the branch drops m->dnorm, filled from it.
static const float *branch_gradient(Model *m, Dropout drop, Batch batch) {
    if (!(drop.rate > 0.0f)) return m->dx;
    int N = batch.B * batch.T;
    dropout_apply(m->dnorm, m->dx, drop, N, batch.T, m->C);
    profile_lap(PASS_DROPOUT, 0, 8.0 * N * m->C);
    return m->dnorm;
}

// How many sums wait for others when this part of a batch is computed (model_begin_grads).
static int sums_before(int part) { return __builtin_popcount((unsigned)part); }

static int max_int(int a, int b) { return a > b ? a : b; }
static int min_int(int a, int b) { return a < b ? a : b; }

static void lap_linear(Pass pass, const Linear *l, int N) {
    profile_lap(pass, 2.0 * N * l->OC * l->IC, 4.0 * ((double)N * (l->OC + l->IC) + (double)l->OC * l->IC));
}

// The three products of a Linear, with the profile's laps.
static void product_forward(float *out, const float *x, const Linear *l, int N, Epilogue epilogue) {
    linear_forward(out, x, l, N, epilogue);
    lap_linear(PASS_LINEAR_FORWARD, l, N);
}

static void product_backward_input(float *dx, const float *dout, const Linear *l, int N, InputEpilogue epilogue) {
    linear_backward_input(dx, dout, l, N, epilogue);
    lap_linear(PASS_LINEAR_INPUT, l, N);
}

static void product_backward_weight(const float *dout, const float *x, Linear *l, int N, float *sums) {
    linear_backward_weight(dout, x, l, N, sums);
    lap_linear(PASS_LINEAR_WEIGHT, l, N);
}

// =====================================================================================================================
// 4. Mixers: tokens see each other. out = x + mixer(norm(x))

// ---------------------------------------------------------------------------------------------------------------------
// Attention of NH query heads, which share NKV keys and values

static size_t mixer_attention_cache(const Model *m) { return 2 * (size_t)m->NKV * m->HS; }

static Attention attention_of(const Model *m, int layer, Batch batch) {
    size_t keys = batch.cached ? (size_t)m->HS : (size_t)m->QKV;            // in the cache each head's lie together
    return (Attention){
        .B = batch.B, .Tq = batch.T, .Tk = batch.past + batch.T, .NH = m->NH, .NKV = m->NKV, .HS_qk = m->HS, .HS_v = m->HS,
        .keys_apart = batch.cached ? 2 * m->NKV * m->T : 0, .kv_apart = batch.cached ? (size_t)m->T * m->HS : 0,
        .q_stride = (size_t)m->QKV, .k_stride = keys, .v_stride = keys, .out_stride = (size_t)(m->NH * m->HS),
        .scale = 1.0f / sqrtf((float)m->HS), .softcap = (float)m->config->model.attn_softcap,
        .dropout = dropout_of(m, DROP_ATTENTION, layer, batch),
    };
}

static size_t mixer_attention_work(const Model *m) { return (size_t)m->B * m->T * m->NH * m->HS; }

static void mixer_attention_plan_shared(Model *m, Arena *arena) {
    if (m->backward && m->config->model.qk_norm) m->dqkv = arena_take(arena, (size_t)m->B * m->T * m->QKV);
    Attention attention = attention_of(m, 0, (Batch){.B = m->B, .T = m->T});
    m->scratch = arena_take(arena, (size_t)m->threads * attention_scratch_floats(&attention));
}

static void mixer_attention_plan(Model *m, BlockActs *acts, Arena *arena) {
    AttentionActs *a = &acts->attention;
    size_t N = (size_t)m->B * m->T;
    bool qk_norm = m->config->model.qk_norm;
    a->qkv = arena_take(arena, N * m->QKV);
    a->dqkv = qk_norm ? m->dqkv : a->qkv;
    if (qk_norm) a->qk_rstd = arena_take(arena, N * (m->NH + m->NKV));
    a->att = arena_take(arena, N * m->NH * m->HS);
    a->lse = arena_take(arena, N * m->NH);
}

static void mixer_attention_forward(Model *m, float *out, const float *x, int layer, Batch batch) {
    AttentionActs *a = &m->blocks[layer].attention;
    int T = batch.T, N = batch.B * T, Q = m->NH * m->HS, KV = m->NKV * m->HS, heads = m->NH + m->NKV;
    float *q = a->qkv, *k = q + Q, *v = k + KV;
    product_forward(a->qkv, m->norm, model_linear(m, PRODUCT_QKV, layer), N, (Epilogue){0});
    if (m->rope_cos) rotate(m, a->qkv, 1.0f, batch, heads, m->HS, m->QKV);
    if (a->qk_rstd) qk_norm_forward(a->qkv, a->qk_rstd, N, heads, m->HS, m->QKV, (float)m->config->model.norm_eps);
    if (m->rope_cos || a->qk_rstd)
        profile_lap(PASS_POSITION, 0, 8.0 * N * heads * m->HS * ((m->rope_cos != NULL) + (a->qk_rstd != NULL)));
    if (batch.cached) {
        float *cache = m->blocks[layer].cache;
        cache_keep(m, cache, (size_t)m->HS, k, (size_t)m->QKV, 2 * m->NKV, m->HS, batch);
        k = cache, v = cache + (size_t)m->T * KV;
    }
    attention_forward(a->att, a->lse, m->sequence_max + (size_t)layer * m->B * m->NH, q, k, v,
                      attention_of(m, layer, batch), m->scratch);
    // Two products forward, five backward, of which causality leaves half.
    profile_lap(PASS_ATTENTION_FORWARD, 4.0 * N * Q * (T + 1) / 2, 4.0 * N * (m->QKV + Q));
    product_forward(out, a->att, model_linear(m, PRODUCT_O, layer), N,
                    (Epilogue){.residual = x, .dropout = dropout_of(m, DROP_MIXER, layer, batch), .T = T});
}

static void mixer_attention_backward(Model *m, int layer, Batch batch) {
    AttentionActs *a = &m->blocks[layer].attention;
    int T = batch.T, N = batch.B * T, Q = m->NH * m->HS, KV = m->NKV * m->HS, heads = m->NH + m->NKV;
    float *q = a->qkv, *k = q + Q, *v = k + KV, *dq = a->dqkv, *dk = dq + Q, *dv = dk + KV;
    float *datt = m->work;
    Linear *o = model_linear(m, PRODUCT_O, layer);
    const float *dout = branch_gradient(m, dropout_of(m, DROP_MIXER, layer, batch), batch);
    product_backward_input(datt, dout, o, N, (InputEpilogue){0});
    product_backward_weight(dout, a->att, o, N, m->sums);
    attention_backward(dq, dk, dv, datt, a->att, a->lse, q, k, v, attention_of(m, layer, batch), m->scratch);
    profile_lap(PASS_ATTENTION_BACKWARD, 10.0 * N * Q * (T + 1) / 2, 8.0 * N * (m->QKV + Q));
    if (a->qk_rstd) qk_norm_backward(a->dqkv, a->qkv, a->qk_rstd, N, heads, m->HS, m->QKV);
    if (m->rope_cos) rotate(m, a->dqkv, -1.0f, batch, heads, m->HS, m->QKV);
    if (m->rope_cos || a->qk_rstd)
        profile_lap(PASS_POSITION, 0, (8.0 * (m->rope_cos != NULL) + 12.0 * (a->qk_rstd != NULL)) * N * heads * m->HS);
    product_backward_input(m->dnorm, a->dqkv, model_linear(m, PRODUCT_QKV, layer), N, (InputEpilogue){0});
}

static void mixer_attention_backward_first(Model *m, int layer, Batch batch) {
    product_backward_weight(m->blocks[layer].attention.dqkv, m->norm, model_linear(m, PRODUCT_QKV, layer),
                            batch.B * batch.T, m->sums);
}

static int mixer_attention_clip(Model *m, int layer, double tau, double alpha, int *clipped) {
    return muon_qk_clip(weight(m, WQ, layer), weight(m, BQ, layer), weight(m, WK, layer), weight(m, BK, layer), m->NH, m->NKV,
                        m->HS, m->C, m->max_logits + layer * m->NH, tau, alpha, clipped);
}

static double mixer_attention_pair_flops(const Model *m) { return 12.0 * m->NH * m->HS; }

static const Socket mixer_attention = {
    .cache = mixer_attention_cache, .work = mixer_attention_work, .plan_shared = mixer_attention_plan_shared,
    .plan = mixer_attention_plan, .forward = mixer_attention_forward, .backward = mixer_attention_backward,
    .backward_first = mixer_attention_backward_first, .clip = mixer_attention_clip, .pair_flops = mixer_attention_pair_flops};

// ---------------------------------------------------------------------------------------------------------------------
// Latent attention (MLA: DeepSeek-V2, arXiv 2405.04434, section 2.1; as in DeepSeek-V3 and Kimi K2). Of each token the keys
// and values of all heads are one short vector, the latent c: [k_h; v_h] = W_kvb norm(W_kva x). RoPE can't go through W_kvb,
// so a head has `nope` unrotated channels and `rope` rotated ones, whose key is one for all heads and comes from x:
//     logit = (q_h . k_h + rotated q_h . rotated key) / sqrt(nope + rope)
// Queries have a low-rank form of their own, W_qb norm(W_qa x), or are a plain W_q x.

#define LATENT_EPS 1e-6f                 // of both norms, as all published code has it

typedef struct {
    int QR, KVR, nope, rope, HV;         // ranks of queries (0: plain) and of keys and values; channels of a head
    int Q;                               // floats of a row of down in front of the latent: QR, or NH HS
    size_t q_stride, kv_stride, att_stride;      // floats from a token's queries, keys and values, output to the next one's
} LatentSizes;

static LatentSizes latent_sizes(const Model *m) {
    const Config *c = m->config;
    LatentSizes s = {.QR = c->model.q_lora, .KVR = c->model.kv_lora, .nope = c->model.nope, .rope = c->model.rope,
                     .HV = c->model.v_head};
    s.Q = s.QR ? s.QR : m->NH * m->HS;
    s.q_stride = s.QR ? (size_t)m->NH * m->HS : (size_t)m->QKV;
    s.kv_stride = (size_t)m->NH * (s.nope + s.HV);
    s.att_stride = (size_t)m->NH * s.HV;
    return s;
}

static Attention latent_attention_of(const Model *m, int layer, Batch batch) {
    LatentSizes s = latent_sizes(m);
    return (Attention){
        .B = batch.B, .Tq = batch.T, .Tk = batch.T, .NH = m->NH, .NKV = m->NH, .HS_qk = m->HS, .HS_v = s.HV,
        .q_stride = s.q_stride, .k_stride = (size_t)m->NH * m->HS, .v_stride = s.kv_stride, .out_stride = s.att_stride,
        .scale = 1.0f / sqrtf((float)m->HS), .softcap = (float)m->config->model.attn_softcap,
        .dropout = dropout_of(m, DROP_ATTENTION, layer, batch),
    };
}

// That of tokens behind others, whose heads share one key, latent and rotated key, and one value, the latent.
static Attention absorbed_attention_of(const Model *m, Batch batch) {
    int KVR = m->config->model.kv_lora, key = KVR + m->config->model.rope;
    return (Attention){
        .B = batch.B, .Tq = batch.T, .Tk = batch.past + batch.T, .keys_apart = m->T, .NH = m->NH, .NKV = 1, .HS_qk = key, .HS_v = KVR,
        .q_stride = (size_t)m->NH * key, .k_stride = (size_t)key, .v_stride = (size_t)key, .out_stride = (size_t)m->NH * KVR,
        .scale = 1.0f / sqrtf((float)m->HS), .softcap = (float)m->config->model.attn_softcap,
    };
}

static size_t mixer_mla_cache(const Model *m) { return (size_t)(m->config->model.kv_lora + m->config->model.rope); }

// The keys, and behind them what a product with norm in front of it needs, or the gradient of att.
static size_t mixer_mla_work(const Model *m) {
    LatentSizes s = latent_sizes(m);
    size_t whole = (size_t)m->B * m->T * (m->NH * m->HS + max_int(m->NH * s.HV, max_int(s.QR, s.KVR))),
           absorbed = (size_t)(m->backward ? 1 : m->B * m->T) * m->NH * (2 * s.KVR + s.rope);   // in training a sample's token
    return whole > absorbed ? whole : absorbed;
}

static void mixer_mla_plan_shared(Model *m, Arena *arena) {
    if (m->backward) m->dqkv = arena_take(arena, (size_t)m->B * m->T * m->QKV);
    Attention whole = latent_attention_of(m, 0, (Batch){.B = m->B, .T = m->T}), absorbed = absorbed_attention_of(m, (Batch){.B = 1, .T = 1, .past = m->T - 1});
    size_t a = attention_scratch_floats(&whole), b = attention_scratch_floats(&absorbed);
    m->scratch = arena_take(arena, (size_t)m->threads * (a > b ? a : b));
}

static void mixer_mla_plan(Model *m, BlockActs *acts, Arena *arena) {
    LatentActs *a = &acts->latent;
    LatentSizes s = latent_sizes(m);
    size_t N = (size_t)m->B * m->T;
    a->down = arena_take(arena, N * m->QKV);
    if (s.QR) a->q_rstd = arena_take(arena, N);
    a->kv_rstd = arena_take(arena, N);
    a->q = s.QR ? arena_take(arena, N * s.q_stride) : a->down;
    a->kv = arena_take(arena, N * s.kv_stride);
    a->att = arena_take(arena, N * s.att_stride);
    a->lse = arena_take(arena, N * m->NH);
}

// up (N, OC) = W norm(x), where x are the IC channels of each row of down that begin at `from`; norm: room for (N, IC)
static void latent_up_forward(Model *m, float *up, float *norm, float *rstd, const float *from, TensorId gain, ProductId product,
                              int layer, int N) {
    const Linear *l = model_linear(m, product, layer);
    norm_forward(norm, NULL, rstd, from, (size_t)m->QKV, weight(m, gain, layer), NULL, N, l->IC, LATENT_EPS);
    profile_lap(PASS_NORM, 0, 8.0 * N * l->IC);
    if (up) product_forward(up, norm, l, N, (Epilogue){0});
}

// dfrom, rows of m->dqkv as `from` of down, and the gradients of W and gain, from dup; dnorm: room, becomes norm again
static void latent_up_backward(Model *m, float *dfrom, float *dnorm, const float *dup, const float *rstd, const float *from,
                               TensorId gain, ProductId product, int layer, int N) {
    Linear *l = model_linear(m, product, layer);
    product_backward_input(dnorm, dup, l, N, (InputEpilogue){0});
    #pragma omp parallel for
    for (int n = 0; n < N; n++) memset(dfrom + (size_t)n * m->QKV, 0, (size_t)l->IC * sizeof *dfrom);
    norm_backward(dfrom, gradient(m, gain, layer), NULL, dnorm, from, (size_t)m->QKV, NULL, rstd, weight(m, gain, layer), NULL,
                  N, l->IC, m->sums);
    profile_lap(PASS_NORM, 0, 20.0 * N * l->IC);
    product_backward_weight(dup, dnorm, l, N, m->sums);
}

// k (N, NH HS): each head's own key, and behind it the token's rotated one, `rotated` in rows of down.
static void latent_keys_forward(const Model *m, float *k, const float *kv, const float *rotated, int N) {
    LatentSizes s = latent_sizes(m);
    #pragma omp parallel for
    for (int n = 0; n < N; n++)
        for (int h = 0; h < m->NH; h++) {
            float *to = k + ((size_t)n * m->NH + h) * m->HS;
            memcpy(to, kv + (size_t)n * s.kv_stride + (size_t)h * s.nope, (size_t)s.nope * sizeof *to);
            memcpy(to + s.nope, rotated + (size_t)n * m->QKV, (size_t)s.rope * sizeof *to);
        }
    profile_lap(PASS_POSITION, 0, 8.0 * N * m->NH * m->HS);
}

// The rotated key's gradient is the sum of those of all heads, in their order.
static void latent_keys_backward(const Model *m, float *dkv, float *drotated, const float *dk, int N) {
    LatentSizes s = latent_sizes(m);
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        float *sum = drotated + (size_t)n * m->QKV;
        memset(sum, 0, (size_t)s.rope * sizeof *sum);
        for (int h = 0; h < m->NH; h++) {
            const float *from = dk + ((size_t)n * m->NH + h) * m->HS;
            memcpy(dkv + (size_t)n * s.kv_stride + (size_t)h * s.nope, from, (size_t)s.nope * sizeof *from);
            vec_add(sum, from + s.nope, (size_t)s.rope);
        }
    }
    profile_lap(PASS_POSITION, 0, 8.0 * N * m->NH * m->HS);
}

// att of tokens behind others, of which only latents and rotated keys are there. Instead of their keys and values, the
// query goes back through W_k, and W_v comes after the sum (DeepSeek-V2, section 2.1.2):
//     q . W_k c = (W_k^T q) . c          sum_j p_j W_v c_j = W_v sum_j p_j c_j
static void latent_absorbed(Model *m, int layer, Batch batch) {
    LatentActs *a = &m->blocks[layer].latent;
    LatentSizes s = latent_sizes(m);
    int N = batch.B * batch.T, KVR = s.KVR, key = KVR + s.rope, q_stride = m->NH * key, sum_stride = m->NH * KVR;
    const float *cache = m->blocks[layer].cache, *wk = weight(m, W_KVB, layer), *wv = wk + (size_t)m->NH * s.nope * KVR;
    float *q = m->work, *sum = q + (size_t)N * q_stride;
    for (int h = 0; h < m->NH; h++) {
        const float *from = a->q + (size_t)h * m->HS;
        float *to = q + (size_t)h * key;
        gemm(false, false, N, KVR, s.nope, 1.0f, from, s.q_stride, wk + (size_t)h * s.nope * KVR, KVR, 0.0f, to, q_stride);
        for (int n = 0; n < N; n++)
            memcpy(to + (size_t)n * q_stride + KVR, from + n * s.q_stride + s.nope, (size_t)s.rope * sizeof *q);
    }
    attention_forward(sum, a->lse, m->sequence_max + (size_t)layer * m->B * m->NH, q, cache, cache,
                      absorbed_attention_of(m, batch), m->scratch);
    for (int h = 0; h < m->NH; h++)
        gemm(false, true, N, s.HV, KVR, 1.0f, sum + (size_t)h * KVR, sum_stride, wv + (size_t)h * s.HV * KVR, KVR, 0.0f,
             a->att + (size_t)h * s.HV, s.att_stride);
}

static void mixer_mla_forward(Model *m, float *out, const float *x, int layer, Batch batch) {
    LatentActs *a = &m->blocks[layer].latent;
    LatentSizes s = latent_sizes(m);
    int T = batch.T, N = batch.B * T, HS = m->HS;
    float *latent = a->down + s.Q, *rotated = latent + s.KVR, *k = m->work, *norm = k + (size_t)N * m->NH * HS;
    product_forward(a->down, m->norm, model_linear(m, PRODUCT_QKV, layer), N, (Epilogue){0});
    if (s.QR) latent_up_forward(m, a->q, norm, a->q_rstd, a->down, Q_NORM_W, PRODUCT_QB, layer, N);
    rotate(m, a->q + s.nope, 1.0f, batch, m->NH, HS, (int)s.q_stride);
    rotate(m, rotated, 1.0f, batch, 1, s.rope, m->QKV);
    profile_lap(PASS_POSITION, 0, 8.0 * N * (m->NH + 1) * s.rope);
    latent_up_forward(m, batch.past ? NULL : a->kv, norm, a->kv_rstd, latent, KV_NORM_W, PRODUCT_KVB, layer, N);
    if (batch.cached) {
        float *cache = m->blocks[layer].cache;
        cache_keep(m, cache, mixer_mla_cache(m), norm, (size_t)s.KVR, 1, s.KVR, batch);
        cache_keep(m, cache + s.KVR, mixer_mla_cache(m), rotated, (size_t)m->QKV, 1, s.rope, batch);
    }
    if (batch.past) latent_absorbed(m, layer, batch);
    else {
        latent_keys_forward(m, k, a->kv, rotated, N);
        attention_forward(a->att, a->lse, m->sequence_max + (size_t)layer * m->B * m->NH, a->q, k, a->kv + m->NH * s.nope,
                          latent_attention_of(m, layer, batch), m->scratch);
        profile_lap(PASS_ATTENTION_FORWARD, 2.0 * N * m->NH * (HS + s.HV) * (T + 1) / 2, 8.0 * N * m->NH * (HS + s.HV));
    }
    product_forward(out, a->att, model_linear(m, PRODUCT_O, layer), N,
                    (Epilogue){.residual = x, .dropout = dropout_of(m, DROP_MIXER, layer, batch), .T = T});
}

static void mixer_mla_backward(Model *m, int layer, Batch batch) {
    LatentActs *a = &m->blocks[layer].latent;
    LatentSizes s = latent_sizes(m);
    int T = batch.T, N = batch.B * T, HS = m->HS;
    float *latent = a->down + s.Q, *rotated = latent + s.KVR, *v = a->kv + m->NH * s.nope, *dq = s.QR ? a->q : m->dqkv;
    float *dlatent = m->dqkv + s.Q, *drotated = dlatent + s.KVR, *k = m->work, *datt = k + (size_t)N * m->NH * HS, *dnorm = datt;
    Linear *o = model_linear(m, PRODUCT_O, layer);
    const float *dout = branch_gradient(m, dropout_of(m, DROP_MIXER, layer, batch), batch);
    product_backward_input(datt, dout, o, N, (InputEpilogue){0});
    product_backward_weight(dout, a->att, o, N, m->sums);
    latent_keys_forward(m, k, a->kv, rotated, N);        // again; their gradients take their place, as those of the values
    attention_backward(dq, k, v, datt, a->att, a->lse, a->q, k, v, latent_attention_of(m, layer, batch), m->scratch);
    profile_lap(PASS_ATTENTION_BACKWARD, (6.0 * HS + 4.0 * s.HV) * N * m->NH * (T + 1) / 2, 16.0 * N * m->NH * (HS + s.HV));
    latent_keys_backward(m, a->kv, drotated, k, N);
    rotate(m, dq + s.nope, -1.0f, batch, m->NH, HS, (int)s.q_stride);
    rotate(m, drotated, -1.0f, batch, 1, s.rope, m->QKV);
    profile_lap(PASS_POSITION, 0, 8.0 * N * (m->NH + 1) * s.rope);
    latent_up_backward(m, dlatent, dnorm, a->kv, a->kv_rstd, latent, KV_NORM_W, PRODUCT_KVB, layer, N);
    if (s.QR) latent_up_backward(m, m->dqkv, dnorm, dq, a->q_rstd, a->down, Q_NORM_W, PRODUCT_QB, layer, N);
    product_backward_input(m->dnorm, m->dqkv, model_linear(m, PRODUCT_QKV, layer), N, (InputEpilogue){0});
}

static void mixer_mla_backward_first(Model *m, int layer, Batch batch) {
    product_backward_weight(m->dqkv, m->norm, model_linear(m, PRODUCT_QKV, layer), batch.B * batch.T, m->sums);
}

static int mixer_mla_clip(Model *m, int layer, double tau, double alpha, int *clipped) {
    LatentSizes s = latent_sizes(m);
    return muon_qk_clip_mla(weight(m, s.QR ? W_QB : WQ, layer), s.QR ? s.QR : m->C, weight(m, W_KVB, layer), s.KVR, s.nope,
                            m->NH, s.nope, s.rope, m->max_logits + layer * m->NH, tau, alpha, clipped);
}

static double mixer_mla_pair_flops(const Model *m) { return 6.0 * m->NH * (m->HS + m->config->model.v_head); }

static const Socket mixer_mla = {
    .cache = mixer_mla_cache, .work = mixer_mla_work, .plan_shared = mixer_mla_plan_shared, .plan = mixer_mla_plan,
    .forward = mixer_mla_forward, .backward = mixer_mla_backward, .backward_first = mixer_mla_backward_first,
    .clip = mixer_mla_clip, .pair_flops = mixer_mla_pair_flops};

// =====================================================================================================================
// 5. MLPs: each token by itself. out = x + mlp(norm(x))

// ---------------------------------------------------------------------------------------------------------------------
// Dense: one hidden layer of width F for all tokens

// out = x + dropout(w_out activation(w_in m->norm)); act: room for (N, F). Without out only h is computed.
static void dense_forward(Model *m, float *out, float *act, const DenseActs *a, const float *x, const Linear *in,
                          const Linear *last, Dropout drop, Batch batch) {
    MlpKind kind = (MlpKind)m->config->model.mlp;
    int N = batch.B * batch.T, F = last->IC;
    bool gate = kind == MLP_SWIGLU;                      // gate and input come from one product: both must be there
    product_forward(a->h, m->norm, in, N, (Epilogue){.act = gate || !out ? NULL : act, .mlp = kind});
    if (!out) return;
    if (gate) {
        #pragma omp parallel for
        for (int n = 0; n < N; n++) mlp_act_forward(act + (size_t)n * F, a->h + (size_t)n * in->OC, F, 1, F, kind);
        profile_lap(PASS_ACTIVATION, 0, 12.0 * N * F);
    }
    product_forward(out, act, last, N, (Epilogue){.residual = x, .dropout = drop, .T = batch.T});
}

// To m->dnorm, which may be where dout is. The activation is computed again from h on the way.
static void dense_backward(Model *m, const float *dout, float *act, const DenseActs *a, const Linear *in, Linear *last, int N) {
    product_backward_input(act, dout, last, N, (InputEpilogue){a->h, (MlpKind)m->config->model.mlp});
    product_backward_weight(dout, act, last, N, m->sums);
    product_backward_input(m->dnorm, a->dh, in, N, (InputEpilogue){0});
}

static size_t mlp_dense_work(const Model *m) { return (size_t)m->B * m->T * m->F; }

static void mlp_dense_plan(Model *m, BlockActs *acts, Arena *arena) {
    acts->dense.h = acts->dense.dh = arena_take(arena, (size_t)m->B * m->T * m->H);
}

static void mlp_dense_forward(Model *m, float *out, const float *x, int layer, Batch batch) {
    dense_forward(m, out, m->work, &m->blocks[layer].dense, x, model_linear(m, PRODUCT_MLP_IN, layer),
                  model_linear(m, PRODUCT_MLP_OUT, layer), dropout_of(m, DROP_MLP, layer, batch), batch);
}

static void mlp_dense_backward(Model *m, int layer, Batch batch) {
    const float *dout = branch_gradient(m, dropout_of(m, DROP_MLP, layer, batch), batch);
    dense_backward(m, dout, m->work, &m->blocks[layer].dense, model_linear(m, PRODUCT_MLP_IN, layer),
                   model_linear(m, PRODUCT_MLP_OUT, layer), batch.B * batch.T);
}

static void mlp_dense_backward_first(Model *m, int layer, Batch batch) {
    product_backward_weight(m->blocks[layer].dense.dh, m->norm, model_linear(m, PRODUCT_MLP_IN, layer),
                            batch.B * batch.T, m->sums);
}

static const Socket mlp_dense = {.work = mlp_dense_work, .plan = mlp_dense_plan, .forward = mlp_dense_forward,
                                 .backward = mlp_dense_backward, .backward_first = mlp_dense_backward_first};

// ---------------------------------------------------------------------------------------------------------------------
// Mixture of experts: sum over a token's K of E experts of weight * expert(x), plus the shared expert, which all tokens have
// (DeepSeek-V3, arXiv 2412.19437). Tokens are gathered into rows sorted by expert, so that each expert's product is over one
// block; its results are added up in the order of tokens. No token is dropped; an expert without tokens costs nothing.

static size_t moe_rows(const Model *m) { return (size_t)m->B * m->T * m->router.K; }

// m->work: (N K, C) what goes into the experts and comes out of them, and behind it room for the activations.
static float *moe_act(const Model *m) { return m->work + moe_rows(m) * m->C; }

static size_t mlp_moe_work(const Model *m) {
    size_t W = (size_t)m->config->model.expert_width, shared = (size_t)m->B * m->T * m->config->model.shared_experts;
    return moe_rows(m) * m->C + W * (moe_rows(m) > shared ? moe_rows(m) : shared);
}

static void mlp_moe_plan_shared(Model *m, Arena *arena) {
    size_t counts = (size_t)(m->L - m->D) * m->router.E;
    m->loads = (int *)arena_take(arena, counts);
    if (m->config->model.balance == BALANCE_QUANTILE) {
        m->gaps = (int *)arena_take(arena, counts * MOE_BINS);
        m->behind = arena_take(arena, (size_t)m->B * m->T);
    }
    if (m->config->model.balance == BALANCE_AUX) m->fractions = arena_take(arena, (size_t)m->B * m->router.E);
}

static void mlp_moe_plan(Model *m, BlockActs *acts, Arena *arena) {
    MoeActs *a = &acts->moe;
    size_t N = (size_t)m->B * m->T, rows = moe_rows(m);
    a->scores = a->dlogits = arena_take(arena, N * m->router.E);
    a->weights = arena_take(arena, rows);
    a->chosen = (int *)arena_take(arena, rows);
    a->place = (int *)arena_take(arena, rows);
    a->first = (int *)arena_take(arena, (size_t)m->router.E + 1);
    a->h = a->dh = arena_take(arena, rows * product_rows(m->table, product_of(m->table, PRODUCT_EXPERT_IN)));
    if (m->config->model.shared_experts)
        a->shared.h = a->shared.dh = arena_take(arena, N * product_rows(m->table, product_of(m->table, PRODUCT_SHARED_IN)));
}

VEC_PASS(void, sigmoid_row, (float *x, int n), (x, n)) {
    VEC_LOOP for (int i = 0; i < n; i++) x[i] = vec_sigmoidf(x[i]);
}

// Scores, the choice, and the rows of each expert. The router computes in fp32 whatever the precision of the others. counts:
// these tokens count for the experts' balance.
static void moe_route(Model *m, const MoeActs *a, int x, int N, bool counts) {
    const Router *r = &m->router;
    const float *bias = weight(m, ROUTER_BIAS, x);
    bool gaps = m->gaps && counts;
    int E = r->E, K = r->K;
    gemm_in(GEMM_FP32, false, true, N, E, m->C, 1.0f, m->norm, m->C, weight(m, W_ROUTER, x), m->C, 0.0f, a->scores, E);
    lap_linear(PASS_LINEAR_FORWARD, model_linear(m, PRODUCT_ROUTER, x), N);
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        float *scores = a->scores + (size_t)n * E;
        sigmoid_row(scores, E);
        float behind = moe_choose(a->chosen + n * K, a->weights + n * K, scores, bias, r);
        if (gaps) m->behind[n] = behind;
    }
    moe_sort(a->place, a->first, a->chosen, N, r);
    for (int e = 0; e < E && counts; e++) m->loads[x * E + e] += a->first[e + 1] - a->first[e];
    #pragma omp parallel for if (gaps)
    for (int e = 0; e < (gaps ? E : 0); e++)
        moe_count_gaps(m->gaps + ((size_t)x * E + e) * MOE_BINS, a->scores + e, (size_t)E, m->behind, N);
    profile_lap(PASS_ROUTING, 0, 4.0 * N * E);
}

// The rows of x (N, C) that the experts have, into m->work.
static void moe_gather(Model *m, const MoeActs *a, const float *x, int N) {
    int C = m->C, K = m->router.K;
    #pragma omp parallel for
    for (int n = 0; n < N; n++)
        for (int j = 0; j < K; j++)
            memcpy(m->work + (size_t)a->place[n * K + j] * C, x + (size_t)n * C, (size_t)C * sizeof *x);
    profile_lap(PASS_ROUTING, 0, 4.0 * N * (K + 1) * C);
}

// One product of every expert that has rows, as product_forward, product_backward_input or product_backward_weight has it
// (in: what comes from; out: what is written, for weights the rows x that they met). Where no expert has more than a thread's
// part of all rows, the experts are computed side by side, each by one thread, and else one after the other: the same bits.
static void experts_product(Model *m, const MoeActs *a, int x, ProductId id, Pass pass, float *out, const float *in) {
    int E = m->router.E, largest = 0, rows = a->first[E];
    for (int e = 0; e < E; e++) largest = max_int(largest, a->first[e + 1] - a->first[e]);
    #pragma omp parallel for schedule(dynamic, 1) if (largest <= rows / omp_get_max_threads())
    for (int e = 0; e < E; e++) {
        Linear *l = model_linear(m, id, x * E + e);
        size_t first = (size_t)a->first[e], from = first * l->OC, to = first * l->IC;      // rows of OC and of IC numbers
        int n = a->first[e + 1] - a->first[e];
        if (n == 0) continue;
        if (pass == PASS_LINEAR_FORWARD) linear_forward(out + from, in + to, l, n, (Epilogue){0});
        else if (pass == PASS_LINEAR_INPUT) linear_backward_input(out + to, in + from, l, n, (InputEpilogue){0});
        else linear_backward_weight(in + from, out + to, l, n, NULL);
    }
    lap_linear(pass, model_linear(m, id, x * E), rows);
}

VEC_PASS(void, add_scaled_row, (float *sum, const float *x, float keep, float scale, int n), (sum, x, keep, scale, n)) {
    VEC_LOOP for (int i = 0; i < n; i++) sum[i] = keep * sum[i] + scale * x[i];
}

// out += dropout(sum over j of weights[j] * row of expert j), a token at a time; weights NULL: all 1. The rows are used up.
static void moe_combine(Model *m, float *out, const MoeActs *a, const float *weights, Dropout drop, Batch batch) {
    int C = m->C, K = m->router.K;
    #pragma omp parallel for
    for (int n = 0; n < batch.B * batch.T; n++) {
        float *sum = m->work + (size_t)a->place[n * K] * C;
        for (int j = 0; j < K; j++)
            add_scaled_row(sum, m->work + (size_t)a->place[n * K + j] * C, j > 0, weights ? weights[n * K + j] : 1.0f, C);
        if (drop.rate > 0.0f) dropout_rows(sum, (size_t)C, drop, batch.T, n, 0, 1, C);
        vec_add(out + (size_t)n * C, sum, (size_t)C);
    }
    profile_lap(PASS_ROUTING, 0, 4.0 * batch.B * batch.T * (K + 2) * C);
}

static void mlp_moe_forward(Model *m, float *out, const float *x, int layer, Batch batch) {
    MoeActs *a = &m->blocks[layer].moe;
    MlpKind kind = (MlpKind)m->config->model.mlp;
    int N = batch.B * batch.T, at = layer - m->D, rows = N * m->router.K, W = m->config->model.expert_width;
    size_t H = mlp_h_stride(W, kind);
    float *act = moe_act(m);
    Dropout drop = dropout_of(m, DROP_MLP, layer, batch);
    moe_route(m, a, at, N, batch.training && out);       // a recomputation doesn't count again
    moe_gather(m, a, m->norm, N);
    experts_product(m, a, at, PRODUCT_EXPERT_IN, PASS_LINEAR_FORWARD, a->h, m->work);
    if (out) {
        #pragma omp parallel for
        for (int r = 0; r < rows; r++) mlp_act_forward(act + (size_t)r * W, a->h + r * H, W, 1, W, kind);
        profile_lap(PASS_ACTIVATION, 0, 4.0 * rows * (W + H));
        experts_product(m, a, at, PRODUCT_EXPERT_OUT, PASS_LINEAR_FORWARD, m->work, act);
    }
    if (a->shared.h)
        dense_forward(m, out, act, &a->shared, x, model_linear(m, PRODUCT_SHARED_IN, at), model_linear(m, PRODUCT_SHARED_OUT, at),
                      drop, batch);
    else if (out) memcpy(out, x, (size_t)N * m->C * sizeof *x);
    if (out) moe_combine(m, out, a, a->weights, drop, batch);
}

// A row of an expert: h becomes dh, dact becomes weight * activation(h), which the gradient of w_out needs. Comes with dact not
// yet weighted, so that the gradient of the weight, <dout, w_out act> = <dact, act>, is what it returns.
VEC_PASS(float, expert_act_backward, (float *h, float *dact, float weight, int W, MlpKind kind), (h, dact, weight, W, kind)) {
    enum { PIECE = 256 };
    float dweight = 0.0f, kept[PIECE];
    for (int i = 0; i < W; i += PIECE) {
        int n = i + PIECE < W ? PIECE : W - i;
        float *d = dact + i;
        VEC_LOOP for (int k = 0; k < n; k++) {
            kept[k] = d[k];
            d[k] *= weight;
        }
        mlp_act_backward(h + i, d, W, 1, n, kind);
        dweight += vec_dot(kept, d, n);
        VEC_LOOP for (int k = 0; k < n; k++) d[k] *= weight;
    }
    return dweight;
}

// The experts' activations backward: a->weights become their gradients.
static void moe_act_backward(Model *m, const MoeActs *a, float *dact, int N) {
    MlpKind kind = (MlpKind)m->config->model.mlp;
    int K = m->router.K, W = m->config->model.expert_width;
    size_t H = mlp_h_stride(W, kind);
    #pragma omp parallel for
    for (int i = 0; i < N * K; i++) {
        size_t row = (size_t)a->place[i];
        a->weights[i] = expert_act_backward(a->h + row * H, dact + row * W, a->weights[i], W, kind);
    }
    profile_lap(PASS_ACTIVATION, 0, 8.0 * N * K * (W + H));
}

// From the gradients of the weights, and of the balance loss where there is one, to those of the router's logits:
// dlogit = dscore * score * (1 - score).
static void moe_route_backward(Model *m, const MoeActs *a, Batch batch) {
    const Router *r = &m->router;
    int E = r->E, K = r->K, T = batch.T;
    float aux = m->fractions ? (float)m->config->model.balance_rate * batch.dloss : 0.0f;
    #pragma omp parallel for if (m->fractions)
    for (int b = 0; b < (m->fractions ? batch.B : 0); b++)
        moe_fractions(m->fractions + (size_t)b * E, a->chosen + b * T * K, T, r);
    #pragma omp parallel for
    for (int n = 0; n < batch.B * T; n++) {
        float *scores = a->scores + (size_t)n * E, dscores[MOE_MOST_EXPERTS];
        moe_choose_backward(dscores, a->weights + n * K, scores, a->chosen + n * K, r);
        if (m->fractions) moe_balance_backward(dscores, m->fractions + (size_t)(n / T) * E, scores, aux, E);
        for (int e = 0; e < E; e++) scores[e] = dscores[e] * scores[e] * (1.0f - scores[e]);
    }
    profile_lap(PASS_ROUTING, 0, 8.0 * batch.B * T * E);
}

static void mlp_moe_backward(Model *m, int layer, Batch batch) {
    MoeActs *a = &m->blocks[layer].moe;
    int N = batch.B * batch.T, C = m->C, E = m->router.E, at = layer - m->D;
    float *act = moe_act(m);
    const float *dout = branch_gradient(m, dropout_of(m, DROP_MLP, layer, batch), batch);
    moe_gather(m, a, dout, N);
    experts_product(m, a, at, PRODUCT_EXPERT_OUT, PASS_LINEAR_INPUT, act, m->work);
    moe_act_backward(m, a, act, N);
    experts_product(m, a, at, PRODUCT_EXPERT_OUT, PASS_LINEAR_WEIGHT, act, m->work);
    experts_product(m, a, at, PRODUCT_EXPERT_IN, PASS_LINEAR_INPUT, m->work, a->dh);
    if (a->shared.h)
        dense_backward(m, dout, act, &a->shared, model_linear(m, PRODUCT_SHARED_IN, at), model_linear(m, PRODUCT_SHARED_OUT, at),
                       N);
    else memset(m->dnorm, 0, (size_t)N * C * sizeof(float));
    moe_combine(m, m->dnorm, a, NULL, (Dropout){0}, batch);
    moe_route_backward(m, a, batch);
    gemm_in(GEMM_FP32, false, false, N, C, E, 1.0f, a->dlogits, E, weight(m, W_ROUTER, at), C, 1.0f, m->dnorm, C);
    lap_linear(PASS_LINEAR_INPUT, model_linear(m, PRODUCT_ROUTER, at), N);
}

static void mlp_moe_backward_first(Model *m, int layer, Batch batch) {
    MoeActs *a = &m->blocks[layer].moe;
    int N = batch.B * batch.T, C = m->C, E = m->router.E, at = layer - m->D;
    Linear *router = model_linear(m, PRODUCT_ROUTER, at);
    moe_gather(m, a, m->norm, N);
    experts_product(m, a, at, PRODUCT_EXPERT_IN, PASS_LINEAR_WEIGHT, m->work, a->dh);
    gemm_in(GEMM_FP32, true, false, E, C, N, 1.0f, a->dlogits, E, m->norm, C, router->fresh ? 0.0f : 1.0f, router->dw, C);
    router->fresh = false;
    lap_linear(PASS_LINEAR_WEIGHT, router, N);
    if (a->shared.h) product_backward_weight(a->shared.dh, m->norm, model_linear(m, PRODUCT_SHARED_IN, at), N, m->sums);
}

static const Socket mlp_moe = {.work = mlp_moe_work, .plan_shared = mlp_moe_plan_shared, .plan = mlp_moe_plan,
                               .forward = mlp_moe_forward, .backward = mlp_moe_backward,
                               .backward_first = mlp_moe_backward_first};

// =====================================================================================================================
// 6. Model

// ---------------------------------------------------------------------------------------------------------------------
// Its memory, planned, allocated and linked

enum { LOGITS_AT_A_TIME = 1 << 25,       // at most: 128 MB
       LOGITS_OF_NO_GRADIENTS = 256 };   // tokens, of a model that only reads and writes texts

// The N tokens of a micro-batch in equal pieces.
static int logit_rows(int N, int V) {
    int most = LOGITS_AT_A_TIME / V, pieces = (N + most - 1) / most;
    return (N + pieces - 1) / pieces;
}

// What fills the sockets of layer l.
static const Socket *mixer_of(const Model *m, int l) {
    (void)l;
    return m->config->model.mixer == MIXER_MLA ? &mixer_mla : &mixer_attention;
}
static const Socket *mlp_of(const Model *m, int l) { return l < m->D ? &mlp_dense : &mlp_moe; }

// What the block of layer l keeps beside its input.
static void block_plan(Model *m, int l, Arena *arena) {
    BlockActs *a = &m->blocks[l];
    size_t N = (size_t)m->B * m->T;
    bool mean = m->config->model.norm == NORM_LAYERNORM;
    if (mean) a->norm1_mean = arena_take(arena, N);
    a->norm1_rstd = arena_take(arena, N);
    mixer_of(m, l)->plan(m, a, arena);
    a->x_mid = arena_take(arena, N * m->C);
    if (mean) a->norm2_mean = arena_take(arena, N);
    a->norm2_rstd = arena_take(arena, N);
    mlp_of(m, l)->plan(m, a, arena);
}

// The most floats that a gradient of vectors sums up over tokens: that of a bias, or of a norm's gain and bias.
static size_t widest_sum(const Model *m) {
    int widest = 0;
    for (int id = 0; id < PRODUCTS; id++) widest = max_int(widest, product_rows(m->table, product_of(m->table, (ProductId)id)));
    for (int id = 0; id < N_TENSORS; id++) if (m->table[id].rows == 1) widest = max_int(widest, 2 * m->table[id].cols);
    return (size_t)max_int(widest, 2 * m->C);
}

// Is layer l the first one with this socket?
static bool socket_is_new(const Model *m, int l, const Socket *socket) {
    for (int before = 0; before < l; before++)
        if (mixer_of(m, before) == socket || mlp_of(m, before) == socket) return false;
    return true;
}

// Places what each kind of socket shares among its layers, and the room in which all of them work.
static void sockets_plan_shared(Model *m, Arena *arena) {
    size_t work = (size_t)m->B * m->T * m->C;
    for (int i = 0; i < 2 * m->L; i++) {
        const Socket *socket = i % 2 ? mlp_of(m, i / 2) : mixer_of(m, i / 2);
        if (!socket_is_new(m, i / 2, socket)) continue;
        if (socket->work(m) > work) work = socket->work(m);
        if (socket->plan_shared) socket->plan_shared(m, arena);
    }
    m->work = arena_take(arena, work);
}

// Gives every activation its place from `base` on; base NULL only measures n_acts.
static void model_plan_acts(Model *m, float *base) {
    Arena at = {base, 0};
    size_t N = (size_t)m->B * m->T, C = (size_t)m->C;
    bool backward = m->backward, share = !backward || m->config->train.recompute == RECOMPUTE_BLOCK;
    if (m->config->model.embed_norm) {
        m->embedding = arena_take(&at, N * C);
        m->embed_rstd = arena_take(&at, N);
    }
    sockets_plan_shared(m, &at);
    for (int l = 0; l < m->L; l++) m->blocks[l].x = l == 0 || backward ? arena_take(&at, N * C) : m->blocks[0].x;
    for (int l = 0; l < m->L; l++) m->blocks[l].cache = arena_take(&at, N * mixer_of(m, l)->cache(m));
    size_t first = at.end, end = at.end;                 // blocks that share lie over each other
    for (int l = 0; l < m->L; l++) {
        if (share) at.end = first;
        block_plan(m, l, &at);
        if (at.end > end) end = at.end;
    }
    at.end = end;
    m->x_last = arena_take(&at, N * C);
    if (m->config->model.norm == NORM_LAYERNORM) m->normf_mean = arena_take(&at, N);
    m->normf_rstd = arena_take(&at, N);
    m->norm = m->dnorm = arena_take(&at, N * C);
    m->logits = arena_take(&at, (size_t)m->logit_rows * m->V);
    m->losses = arena_take(&at, N);
    if (backward) {
        m->dx = arena_take(&at, N * C);
        m->sums = arena_take(&at, (size_t)sum_pieces((int)N) * widest_sum(m));
    }
    m->sequence_max = arena_take(&at, (size_t)m->L * m->B * m->NH);
    m->max_logits = arena_take(&at, (size_t)m->L * m->NH);
    if (m->rotated) {
        m->rope_cos = arena_take(&at, (size_t)m->T * m->rotated / 2);
        m->rope_sin = arena_take(&at, (size_t)m->T * m->rotated / 2);
    }
    m->n_acts = at.end;
}

// Tells every product where its weights and gradients are.
static void model_link(Model *m) {
    m->n_linears = 0;
    for (int id = 0; id < PRODUCTS; id++) {
        Product p = product_of(m->table, (ProductId)id);
        m->first_linear[id] = m->n_linears;
        for (int i = 0; i < m->table[p.first].count; i++)
            m->linears[m->n_linears++] = (Linear){
                .IC = m->table[p.first].cols, .OC = product_rows(m->table, p),
                .w = weight(m, p.first, i), .dw = gradient(m, p.first, i),
                .b = p.biased ? weight(m, p.first_bias, i) : NULL, .db = p.biased ? gradient(m, p.first_bias, i) : NULL};
    }
}

// With few tokens in a micro-batch, packing the weights takes a share of each product that shows: then they are packed
// once a step for all of its micro-batches. With more of them that would only cost memory.
enum { PACK_BELOW_TOKENS = 1024 };

// on: packs every weight for the products of the coming micro-batches. off: the weights are about to change.
static void model_pack(Model *m, bool on) {
    float *place = m->packed;
    for (Linear *l = m->linears; place && l < m->linears + m->n_linears; l++) {
        l->packed_forward = l->packed_backward = NULL;
        if (!on) continue;
        gemm_pack_b(place, true, l->OC, l->IC, l->w, l->IC);
        l->packed_forward = place;
        place += gemm_packed_floats(l->OC, l->IC);
        gemm_pack_b(place, false, l->IC, l->OC, l->w, l->IC);
        l->packed_backward = place;
        place += gemm_packed_floats(l->IC, l->OC);
    }
    if (m->packed) profile_lap(PASS_PACK, 0, on ? 8.0 * m->n_packed : 0);
}

// The sizes of a model for micro-batches of up to B sequences of up to config.model.context tokens; nothing of it is
// allocated yet, so that it can be printed first. backward: with gradients. `config` must be resolved, and outlive the model.
static Model model_plan(const Config *config, int B, int V, bool backward) {
    Model m = {.config = config, .B = B, .T = config->model.context,
               .C = config->model.width, .V = V, .L = config->model.layers, .backward = backward,
               .NH = config->model.heads, .NKV = config->model.kv_heads, .F = config->model.mlp_width};
    bool latent = config->model.mixer == MIXER_MLA;
    m.HS = latent ? config->model.nope + config->model.rope : head_size(config);
    m.rotated = latent ? config->model.rope : config->model.position == POSITION_ROPE ? m.HS : 0;
    m.H = config->model.mlp == MLP_SWIGLU ? 2 * m.F : m.F;
    m.router = (Router){config->model.experts, config->model.experts_per_token, config->model.expert_groups,
                        config->model.groups_per_token, (float)config->model.router_scale};
    m.D = m.router.E ? config->model.dense_layers : m.L;
    m.levels = backward;
    for (int part = 1; backward && part < config->train.parts / dist_ranks(); part++) m.levels = max_int(m.levels, sums_before(part) + 1);
    m.logit_rows = logit_rows(B * m.T, V);
    if (!backward) m.logit_rows = max_int(B, min_int(m.logit_rows, LOGITS_OF_NO_GRADIENTS));
    m.threads = omp_get_max_threads();
    m.n_params = tensor_table(m.table, config, V);
    m.QKV = product_rows(m.table, product_of(m.table, PRODUCT_QKV));
    m.blocks = xcalloc((size_t)m.L, sizeof *m.blocks);
    for (int id = 0; id < PRODUCTS; id++) m.n_linears += m.table[product_of(m.table, (ProductId)id).first].count;
    m.linears = xcalloc((size_t)m.n_linears, sizeof *m.linears);
    model_plan_acts(&m, NULL);
    model_link(&m);
    if (backward && B < config->train.batch && B * m.T < PACK_BELOW_TOKENS)
        for (const Linear *l = m.linears; l < m.linears + m.n_linears; l++)
            m.n_packed += gemm_packed_floats(l->OC, l->IC) + gemm_packed_floats(l->IC, l->OC);
    return m;
}

// The angle by which RoPE turns pair i from one token to the next: f = theta^(-2i/rotated). With rope_factor a pair of few turns
// within rope_original tokens is slower by that: by r f + (1 - r) f / rope_factor, r = (turns - low) / (high - low) within 0 .. 1
// (Llama 3.1; transformers' rope_type llama3).
static double rope_frequency(const Model *m, int i) {
    const Config *c = m->config;
    double f = pow(c->model.rope_theta, -2.0 * i / m->rotated), turns = c->model.rope_original * f / (2.0 * M_PI);
    if (c->model.rope_factor == 1.0) return f;
    double r = fmin(fmax((turns - c->model.rope_low) / (c->model.rope_high - c->model.rope_low), 0.0), 1.0);
    return r * f + (1.0 - r) * f / c->model.rope_factor;
}

// Allocates what model_plan has planned. The weights are zero: tensors_init or a checkpoint fills them.
static void model_allocate(Model *m) {
    m->params = xaligned(m->n_params * sizeof(float));
    for (int i = 0; i < m->levels; i++) m->sums_of_parts[i] = xaligned(m->n_params * sizeof(float));
    m->grads = m->sums_of_parts[0];
    m->acts = xaligned(m->n_acts * sizeof(float));
    if (m->n_packed) m->packed = xaligned(m->n_packed * sizeof(float));
    model_plan_acts(m, m->acts);
    model_link(m);
    int pairs = m->rotated / 2;
    for (int t = 0; t < m->T && pairs; t++)
        for (int i = 0; i < pairs; i++) {
            double angle = t * rope_frequency(m, i);
            m->rope_cos[(size_t)t * pairs + i] = (float)cos(angle);
            m->rope_sin[(size_t)t * pairs + i] = (float)sin(angle);
        }
}

static void model_free(Model *m) {
    free(m->params);
    for (int i = 0; i < m->levels; i++) free(m->sums_of_parts[i]);
    free(m->acts);
    free(m->packed);
    free(m->linears);
    free(m->blocks);
}

// The weights that multiply one token: those of all products, of experts those that a token has.
static double weights_per_token(const Model *m) {
    double weights = 0.0;
    for (int id = 0; id < PRODUCTS; id++) {
        Product p = product_of(m->table, (ProductId)id);
        const Tensor *t = &m->table[p.first];
        bool of_experts = id == PRODUCT_EXPERT_IN || id == PRODUCT_EXPERT_OUT;
        double copies = of_experts && m->router.E ? (double)t->count / m->router.E * m->router.K : t->count;
        weights += copies * product_rows(m->table, p) * t->cols;
    }
    return weights;
}

// Floating-point operations of the forward and backward pass for one token: 6 for each of these weights, and what the mixer does
// for each token that it sees, of which causality leaves half.
static double flops_per_token(const Model *m) {
    double pairs = 0.0;
    for (int l = 0; l < m->L; l++) pairs += mixer_of(m, l)->pair_flops ? mixer_of(m, l)->pair_flops(m) : 0.0;
    return 6.0 * weights_per_token(m) + pairs * (m->T / 2.0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward and backward: a block, the trunk of all blocks, the output product with the loss

static void block_forward(Model *m, float *x_next, int l, Batch batch) {
    BlockActs *a = &m->blocks[l];
    int N = batch.B * batch.T, C = m->C;
    float eps = (float)m->config->model.norm_eps;
    norm_forward(m->norm, a->norm1_mean, a->norm1_rstd, a->x, C, weight(m, NORM1_W, l), weight(m, NORM1_B, l), N, C, eps);
    profile_lap(PASS_NORM, 0, 8.0 * N * C);
    mixer_of(m, l)->forward(m, a->x_mid, a->x, l, batch);      // x_mid = x + mixer(norm(x))
    norm_forward(m->norm, a->norm2_mean, a->norm2_rstd, a->x_mid, C, weight(m, NORM2_W, l), weight(m, NORM2_B, l),
                 N, C, eps);
    profile_lap(PASS_NORM, 0, 8.0 * N * C);
    mlp_of(m, l)->forward(m, x_next, a->x_mid, l, batch);      // x_next = x_mid + mlp(norm(x_mid))
}

// On entry m->dx is the gradient of x_next, on return that of x.
static void block_backward(Model *m, int l, Batch batch) {
    BlockActs *a = &m->blocks[l];
    const Socket *mixer = mixer_of(m, l), *mlp = mlp_of(m, l);
    int N = batch.B * batch.T, C = m->C;
    bool gone = m->config->train.recompute == RECOMPUTE_BLOCK && l + 1 < m->L;    // but the last block is still there
    if (gone) block_forward(m, NULL, l, batch);

    mlp->backward(m, l, batch);
    norm_backward(m->dx, gradient(m, NORM2_W, l), gradient(m, NORM2_B, l), m->dnorm, a->x_mid, C, a->norm2_mean,
                  a->norm2_rstd, weight(m, NORM2_W, l), weight(m, NORM2_B, l), N, C, m->sums);
    profile_lap(PASS_NORM, 0, 20.0 * N * C);
    mlp->backward_first(m, l, batch);

    mixer->backward(m, l, batch);
    norm_backward(m->dx, gradient(m, NORM1_W, l), gradient(m, NORM1_B, l), m->dnorm, a->x, C, a->norm1_mean,
                  a->norm1_rstd, weight(m, NORM1_W, l), weight(m, NORM1_B, l), N, C, m->sums);
    profile_lap(PASS_NORM, 0, 20.0 * N * C);
    mixer->backward_first(m, l, batch);
}

// From tokens to m->norm, the normalized residual stream in front of the output product. tokens: (B, T).
static void trunk_forward(Model *m, const int *tokens, Batch batch) {
    int B = batch.B, T = batch.T, N = B * T, C = m->C;
    float eps = (float)m->config->model.norm_eps, *x0 = m->blocks[0].x;
    Dropout drop = dropout_of(m, DROP_EMBED, 0, batch);
    const float *wpe = weight(m, WPE, 0);
    embedding_forward(m->embedding ? m->embedding : x0, tokens, weight(m, WTE, 0), wpe ? wpe + (size_t)batch.past * C : NULL,
                      B, T, C);
    profile_lap(PASS_EMBEDDING, 0, 8.0 * N * C);
    if (m->embedding) {
        norm_forward(x0, NULL, m->embed_rstd, m->embedding, C, NULL, NULL, N, C, eps);
        profile_lap(PASS_NORM, 0, 8.0 * N * C);
    }
    if (drop.rate > 0.0f) {
        dropout_apply(x0, x0, drop, N, T, C);
        profile_lap(PASS_DROPOUT, 0, 8.0 * N * C);
    }
    for (int l = 0; l < m->L; l++) block_forward(m, l + 1 < m->L ? m->blocks[l + 1].x : m->x_last, l, batch);
    norm_forward(m->norm, m->normf_mean, m->normf_rstd, m->x_last, C, weight(m, NORMF_W, 0), weight(m, NORMF_B, 0),
                 N, C, eps);
    profile_lap(PASS_NORM, 0, 8.0 * N * C);
}

// The gradients of layer l are made, and of all above: L is what is behind the blocks, but for a tied head.
static void layer_done(Model *m, int l) {
    if (m->layer_done) m->layer_done(m->listener, l);
}

// From m->dnorm, the gradient of m->norm, to those of all weights.
static void trunk_backward(Model *m, const int *tokens, Batch batch) {
    int B = batch.B, T = batch.T, N = B * T, C = m->C;
    memset(m->dx, 0, (size_t)N * C * sizeof(float));
    norm_backward(m->dx, gradient(m, NORMF_W, 0), gradient(m, NORMF_B, 0), m->dnorm, m->x_last, C, m->normf_mean,
                  m->normf_rstd, weight(m, NORMF_W, 0), weight(m, NORMF_B, 0), N, C, m->sums);
    profile_lap(PASS_NORM, 0, 20.0 * N * C);
    layer_done(m, m->L);
    for (int l = m->L - 1; l >= 0; l--) {
        block_backward(m, l, batch);
        layer_done(m, l);
    }
    Dropout drop = dropout_of(m, DROP_EMBED, 0, batch);
    if (drop.rate > 0.0f) {
        dropout_apply(m->dx, m->dx, drop, N, T, C);
        profile_lap(PASS_DROPOUT, 0, 8.0 * N * C);
    }
    float *dx0 = m->dx;
    if (m->embedding) {
        dx0 = m->work;
        memset(dx0, 0, (size_t)N * C * sizeof(float));
        norm_backward(dx0, NULL, NULL, m->dx, m->embedding, C, NULL, m->embed_rstd, NULL, NULL, N, C, m->sums);
        profile_lap(PASS_NORM, 0, 20.0 * N * C);
    }
    embedding_backward(gradient(m, WTE, 0), gradient(m, WPE, 0), dx0, tokens, B, T, C);
    profile_lap(PASS_EMBEDDING, 0, 12.0 * N * C);
}

// From m->norm to the sum of the losses of N tokens, in nats; with backward also back: m->norm becomes the gradient of
// dloss * (that sum), and the output product's weight gets its own. logit_rows tokens at a time: all of (N, V) would be
// the largest thing in memory.
static double output_forward_backward(Model *m, const int *targets, int N, bool backward, float dloss) {
    Linear *output = model_linear(m, PRODUCT_OUTPUT, 0);
    for (int n = 0; n < N; n += m->logit_rows) {
        int rows = min_int(m->logit_rows, N - n);
        float *norm = m->norm + (size_t)n * m->C, *dnorm = m->dnorm + (size_t)n * m->C;
        product_forward(m->logits, norm, output, rows, (Epilogue){0});
        loss_forward_backward(m->losses + n, m->logits, targets + n, (float)m->config->model.logit_softcap, rows, m->V,
                              backward, dloss);
        profile_lap(PASS_LOSS, 0, (backward ? 8.0 : 4.0) * rows * m->V);
        if (!backward) continue;
        product_backward_weight(m->logits, norm, output, rows, m->sums);
        product_backward_input(dnorm, m->logits, output, rows, (InputEpilogue){0});
    }
    double sum = 0.0;
    for (int n = 0; n < N; n++) sum += m->losses[n];
    return sum;
}

// The sum of the losses of B*T tokens, in nats, without dropout.
static double model_loss(Model *m, const int *tokens, const int *targets, int B, int T) {
    trunk_forward(m, tokens, (Batch){.B = B, .T = T});
    return output_forward_backward(m, targets, B * T, false, 0.0f);
}

// The same in training: adds the gradients of dloss * (the sum of the losses), and collects the heads' largest logits
// in max_logits. first_sequence: number of the first sequence in the whole training, for dropout.
static double model_gradients(Model *m, const int *tokens, const int *targets, int B, int T, uint64_t first_sequence,
                              float dloss) {
    Batch batch = {.B = B, .T = T, .first_sequence = first_sequence, .training = true, .dloss = dloss};
    trunk_forward(m, tokens, batch);
    for (int l = 0; l < m->L; l++)
        for (int b = 0; b < B; b++)
            for (int h = 0; h < m->NH; h++) {
                float *largest = &m->max_logits[l * m->NH + h];
                *largest = (float)attention_larger(m->sequence_max[((size_t)l * m->B + b) * m->NH + h], *largest);
            }
    double loss = output_forward_backward(m, targets, B * T, true, dloss);
    trunk_backward(m, tokens, batch);
    return loss;
}

// ---------------------------------------------------------------------------------------------------------------------
// Gradients, before the first micro-batch and after the last one

// The gradients of a batch's parts are summed in a fixed binary tree, as a counter carries: part 1 is added to part 0, part 3 to
// part 2 and both to the first two, ... So every aligned run of 2^k parts has a sum of its own, whichever rank it is on.

static void model_use_grads(Model *m, float *grads) {
    for (Linear *l = m->linears; l < m->linears + m->n_linears; l++) {
        l->dw = grads + (l->dw - m->grads);
        if (l->db) l->db = grads + (l->db - m->grads);
    }
    m->grads = grads;
}

// Of a new batch no largest logits, no loads of experts.
static void model_zero_counts(Model *m) {
    for (int i = 0; i < m->L * m->NH; i++) m->max_logits[i] = -INFINITY;
    size_t counts = (size_t)(m->L - m->D) * m->router.E;
    if (m->loads) memset(m->loads, 0, counts * sizeof *m->loads);
    if (m->gaps) memset(m->gaps, 0, counts * MOE_BINS * sizeof *m->gaps);
}

// Begins a part of this rank, counted from 0, with gradients of zero; they go behind the sums that wait for others. A product's
// is only marked as fresh: the first one is written over what is there, which saves two passes over memory. model_end_grads must
// follow the last micro-batch.
static void model_begin_grads(Model *m, int part) {
    if (part == 0) model_zero_counts(m);
    model_use_grads(m, m->sums_of_parts[sums_before(part)]);
    for (Linear *l = m->linears; l < m->linears + m->n_linears; l++) l->fresh = true;
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *t = &m->table[id];
        for (int i = 0; i < t->count && !tensor_is_in_a_product(m->table, (TensorId)id); i++)
            memset(gradient(m, (TensorId)id, i), 0, (size_t)t->rows * t->cols * sizeof(float));
    }
    profile_lap(PASS_GRADIENT, 0, 0);
}

// What no micro-batch wrote, of the layers from `layer` on, is still an earlier step's gradient: it becomes the zero that it
// stands for.
static void model_settle_grads(Model *m, int layer) {
    for (int id = 0; id < PRODUCTS; id++) {
        const Tensor *t = &m->table[product_of(m->table, (ProductId)id).first];
        for (int i = 0; i < t->count; i++) {
            Linear *l = model_linear(m, (ProductId)id, i);
            if (!l->fresh || t->first_layer + i / t->each < layer) continue;
            memset(l->dw, 0, (size_t)l->OC * l->IC * sizeof(float));
            l->fresh = false;
        }
    }
}

// Ends it: adds up the sums that are complete; behind the last of all `parts` what is left, too, from the right, unless
// that was done layer by layer. Then m->grads is that of all.
static void model_end_grads(Model *m, int part, int parts) {
    bool last = part + 1 == parts;
    model_settle_grads(m, 0);
    int level = last && m->layer_done ? 0 : sums_before(part);
    for (int bit = 1; level > 0 && (part & bit || last); bit <<= 1, level--)
        units_add_long(m->sums_of_parts[level - 1], m->sums_of_parts[level], m->n_params);
    if (last) model_use_grads(m, m->sums_of_parts[0]);
    if (parts > 1) profile_lap(PASS_GRADIENT, 0, 12.0 * m->n_params);
}

// Of the micro-batches of all ranks.
static void model_share_counts(Model *m) {
    size_t counts = (size_t)(m->L - m->D) * m->router.E;
    dist_max_floats(m->max_logits, (size_t)m->L * m->NH);
    if (m->loads) dist_sum_ints(m->loads, counts);
    if (m->gaps) dist_sum_ints(m->gaps, counts * MOE_BINS);
}

// ---------------------------------------------------------------------------------------------------------------------
// Sampling

// Texts that a model writes side by side, all of one length and a token of each at a time. Only new tokens go through it, on the
// keys and values that its caches keep. A text that reaches the context is read anew from its last half, and goes on from there:
// so the model always sees between T/2 and T tokens, and that reading costs about one more token's work for each.
typedef struct {
    Model *m;
    SampleRule rule;
    uint64_t seed;            // text b is the one that seed + b writes alone
    int B, V;                 // V: the tokens to draw from; a vocabulary may be smaller than model.vocab, which is padded then
    int n, room;              // tokens of each text, and how many fit
    int first, read;          // the model sees those from `first` on; the caches have those before `read`
    int *tokens, *inputs;     // (B, room); those that go through the model
    uint8_t *seen;            // (B, V) the tokens that a text has
    SampleRoom candidates;
} Sampler;

static Sampler sampler_open(Model *m, int B, int V, SampleRule rule, uint64_t seed) {
    return (Sampler){.m = m, .rule = rule, .seed = seed, .B = B, .V = V, .candidates = sample_room(V),
                     .inputs = xmalloc((size_t)B * m->T * sizeof(int)), .seen = xcalloc((size_t)B * V, 1)};
}

static void sampler_close(Sampler *s) {
    free(s->tokens), free(s->inputs), free(s->seen);
    sample_room_free(s->candidates);
}

// Makes room for n more tokens of each text.
static void sampler_grow(Sampler *s, int n) {
    if (s->n + n <= s->room) return;
    int room = max_int(s->n + n, 2 * s->room);
    int *tokens = xmalloc((size_t)s->B * room * sizeof *tokens);
    for (int b = 0; b < s->B && s->n; b++)
        memcpy(tokens + (size_t)b * room, s->tokens + (size_t)b * s->room, (size_t)s->n * sizeof *tokens);
    free(s->tokens);
    s->tokens = tokens;
    s->room = room;
}

static void sampler_add(Sampler *s, int b, int at, int token) {
    s->tokens[(size_t)b * s->room + at] = token;
    if (token < s->V) s->seen[(size_t)b * s->V + token] = 1;
}

// Every text goes on with these.
static void sampler_prompt(Sampler *s, const int *tokens, int n) {
    sampler_grow(s, n);
    for (int b = 0; b < s->B; b++)
        for (int i = 0; i < n; i++) sampler_add(s, b, s->n + i, tokens[i]);
    s->n += n;
}

// Draws a token for every text. false where the logits aren't finite, which large weights do.
static bool sampler_next(Sampler *s) {
    Model *m = s->m;
    if (s->n - s->first > m->T) s->first = s->read = s->n - max_int(1, m->T / 2);
    int new = s->n - s->read;
    for (int b = 0; b < s->B; b++)
        memcpy(s->inputs + b * new, s->tokens + (size_t)b * s->room + s->read, (size_t)new * sizeof(int));
    trunk_forward(m, s->inputs, (Batch){.B = s->B, .T = new, .cached = true, .past = s->read - s->first});
    s->read = s->n;
    sampler_grow(s, 1);
    for (int b = 0; b < s->B; b++)             // of each text its last token's
        memmove(m->norm + (size_t)b * m->C, m->norm + ((size_t)(b + 1) * new - 1) * m->C, (size_t)m->C * sizeof(float));
    linear_forward(m->logits, m->norm, model_linear(m, PRODUCT_OUTPUT, 0), s->B, (Epilogue){0});
    float cap = (float)m->config->model.logit_softcap;
    for (int b = 0; b < s->B; b++) {
        float *z = m->logits + (size_t)b * m->V;
        for (int v = 0; cap > 0.0f && v < s->V; v++) z[v] = cap * vec_tanhf(z[v] / cap);
        for (int v = 0; v < s->V; v++) if (!isfinite(z[v])) return false;
        double draw = uniform_of(hash64(s->seed + (uint64_t)b, (uint64_t)s->n));
        sampler_add(s, b, s->n, sample_token(z, s->V, &s->rule, s->seen + (size_t)b * s->V, draw, s->candidates));
    }
    s->n++;
    return true;
}

// Writes a sample: n_new tokens after the prompt, each given to emit(arg, token) as soon as it is drawn. false where the logits
// aren't finite; a signal ends the sample early.
static bool generate(Model *m, int V, const int *prompt, int n_prompt, int n_new, SampleRule rule, uint64_t seed,
                     void (*emit)(void *arg, int token), void *arg) {
    Sampler s = sampler_open(m, 1, V, rule, seed);
    sampler_prompt(&s, prompt, n_prompt);
    bool finite = true;
    for (int i = 0; i < n_new && !interrupted && (finite = sampler_next(&s)); i++) emit(arg, s.tokens[s.n - 1]);
    sampler_close(&s);
    return finite;
}

// =====================================================================================================================
// 7. Training: the optimizer's glue, the step, validation, the loop, main

typedef struct {
    Config config;
    Model model;
    Muon muon;
    MuonParam groups[N_TENSORS];         // one for each row of the tensor table that the model has
    UnitPlace places[N_TENSORS];        // the layers of their matrices
    int n_groups;
    Units units;                         // what of them this rank steps, the optimizer's table; all where it makes local steps
    Outer outer;                         // the steps around these, where train.local_steps has them
    Averages averages;                   // of weights, where optimizer.ema_nesterov or optimizer.tail_ema has them
    MuonOptions options[KEYS_SECTIONS];  // of the tensors under muon and its family, under sgd, under adamw and its kin
    MuonCoefficients own_coefficients;
    void *state, *scratch;               // of the optimizer; scratch_bytes for each thread
    size_t state_bytes, scratch_bytes;
    DataLoader data;
    Tokenizer tokenizer;                 // size 0 where the data has none
    int *inputs, *targets;               // (batch, T) of a step, this rank's sequences first, or the windows of a validation
    double *part_losses;                 // (parts) of a step, the sums
    int step;                            // optimizer steps done
    RunEval eval;                        // the last validation; its step is -1 before the first
    uint8_t *classes;                    // (V) of the tokens, by frequency
    double train_seconds, smooth_loss;
    double val_by_class[DATALOADER_CLASSES];
    double sent_bytes;                   // in the steps of this process, which began at step first_step
    int first_step;
    bool stop_told;                      // that a signal acts at the next outer step
    Best best;
    Budget budget;                       // of train.minutes
    RunFolder run;
    bool current_is_good;                // run.checkpoint was read or written by this process: worth keeping as run.previous
    int explained;                       // the step that --explain tells, counted from 1; 0: none
    FILE *log;
    Progress progress;                   // on the screen, since this process began to train
    Rate rate;
    double begun;
} Trainer;

typedef struct {
    double loss, bpb, lr, grad_norm;
    double seconds, cpu_seconds, optimizer_seconds;     // the last is a part of the first
    int clipped;
    char trouble[160];
} StepResult;

// ---------------------------------------------------------------------------------------------------------------------
// What the optimizer updates, and the memory of a training

// One group for each kind of tensor; with packed_qkv one for q, k and v, which lie end to end in every layer. With per_head
// each head's rows are a block that the optimizer transforms alone; latent attention's w_kvb, the keys of all heads and then the
// values of all heads, is then two groups, w_kb and w_vb.
static void optimizer_groups(Trainer *t) {
    const Config *c = &t->config;
    Product qkv = product_of(t->model.table, PRODUCT_QKV);
    t->n_groups = 0;
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *row = &t->model.table[id];
        bool packed = c->optimizer.muon.packed_qkv && product_has(qkv, (TensorId)id);
        if (!row->count || (packed && (TensorId)id != qkv.first)) continue;
        int rows = packed ? product_rows(t->model.table, qkv) : row->rows;
        RuleKeys keys = rule_keys(row->rule);
        HeadRows head = c->optimizer.muon.per_head ? head_rows(c, row->role) : (HeadRows){0, 0};
        bool first = row->role == ROLE_EMBED, last = id == NORMF_W || id == NORMF_B || id == HEAD;
        t->places[t->n_groups] = (UnitPlace){first ? -1 : last ? t->model.L : row->first_layer, row->each};
        t->groups[t->n_groups++] = (MuonParam){
            packed ? "wqkv" : row->name, weight(&t->model, (TensorId)id, 0), gradient(&t->model, (TensorId)id, 0),
            row->count, rows, row->cols, row->stride, row->rule, rule_lr(c, row->rule, row->role),
            row->decay ? rule_decay(c, row->rule) : 0.0, keys == KEYS_MUON ? NULL : &t->options[keys],
            {head.first}};
        if (!head.second) continue;
        MuonParam *keys_of = &t->groups[t->n_groups - 1], *values_of = &t->groups[t->n_groups++];
        size_t behind = (size_t)c->model.heads * head.first * row->cols;
        *values_of = *keys_of;
        t->places[t->n_groups - 1] = t->places[t->n_groups - 2];
        keys_of->name = "w_kb", keys_of->rows = c->model.heads * head.first;
        values_of->name = "w_vb", values_of->rows = c->model.heads * head.second, values_of->blocks[0] = head.second;
        if (keys_of->w) values_of->w = keys_of->w + behind, values_of->g = keys_of->g + behind;
    }
}

// What muon.h refused, in words: of which tensor, and which field, where it says so.
static void optimizer_error(const Trainer *t, int code, char *text, size_t room) {
    const Muon *m = &t->muon;
    snprintf(text, room, "optimizer: %s%s%s%s%s", m->bad_tensor >= 0 ? m->params[m->bad_tensor].name : "",
             m->bad_tensor >= 0 ? ": " : "", m->bad_field ? m->bad_field : "", m->bad_field ? ": " : "", muon_strerror(code));
}

// "wq, layer 3", "w_expert_in, layer 3, expert 17": which matrix of one of the optimizer's tensors, counted from 0.
static void matrix_words(const Trainer *t, int group, int matrix, char *text, size_t room) {
    const MuonParam *g = &t->muon.params[group];
    if (t->units.owned_units) matrix = t->units.list[t->units.owned_units[group]].matrix;
    int layer = matrix, expert = -1;
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *row = &t->model.table[id];
        if (strcmp(row->name, g->name)) continue;
        layer = row->first_layer + matrix / row->each;
        if (row->each > 1) expert = matrix % row->each;
    }
    int n = snprintf(text, room, "%s, layer %d", g->name, layer);
    if (expert >= 0) snprintf(text + n, room - (size_t)n, ", expert %d", expert);
}

// The outer step is of all that changes in the ranks' own: what is trained, and the routers' biases, which have no rule.
static void outer_step_plan(Trainer *t) {
    const Config *c = &t->config;
    MuonParam changed[N_TENSORS];
    memcpy(changed, t->groups, sizeof changed);
    for (int g = 0; g < t->n_groups; g++)
        if (!strcmp(changed[g].name, t->model.table[ROUTER_BIAS].name)) changed[g].rule = MUON_RULE_SGD;
    t->outer = outer_plan(changed, t->places, t->n_groups, c->train.outer_lr, c->train.outer_momentum, dist_ranks(), dist_rank());
}

// Sizes of model and optimizer; config must be resolved, with its vocabulary.
static void trainer_plan(Trainer *t) {
    t->model = model_plan(&t->config, t->config.train.micro_batch, t->config.model.vocab, true);
    optimizer_options(&t->config, t->options, &t->own_coefficients);
    optimizer_groups(t);
    bool local = t->config.train.local_steps > 0;        // each rank then steps all
    t->units = units_plan(t->groups, t->places, t->n_groups, &t->options[KEYS_MUON], local ? 1 : dist_ranks(), local ? 0 : dist_rank(),
                          t->config.train.dist_bytes == TRAVEL_BF16);
    units_own(&t->units, t->groups, t->n_groups);
    if (local) outer_step_plan(t);
    t->state_bytes = muon_state_bytes(t->units.owned, t->units.n_owned, &t->options[KEYS_MUON]);
    t->scratch_bytes = muon_scratch_bytes(t->groups, t->n_groups, &t->options[KEYS_MUON]);
}

// Model and optimizer as planned, with zero weights.
static void trainer_allocate(Trainer *t) {
    model_allocate(&t->model);
    optimizer_groups(t);                                 // again, now that weights and gradients have addresses
    units_link(&t->units, t->groups, t->n_groups, t->model.params, t->model.n_params);
    if (t->config.train.local_steps) outer_link(&t->outer, t->groups, t->model.params, t->model.n_params);
    t->averages = averages_link(t->groups, t->n_groups, t->model.params, t->model.n_params, looks_ahead(&t->config), has_tail(&t->config));
    size_t ids = (size_t)t->config.train.batch * (size_t)t->model.T * sizeof *t->inputs;
    t->inputs = xmalloc(ids);
    t->targets = xmalloc(ids);
    t->part_losses = xcalloc((size_t)t->config.train.parts, sizeof *t->part_losses);
    t->state = xmalloc(t->state_bytes);
    t->scratch = xaligned(t->scratch_bytes * (size_t)omp_get_max_threads());
    int code = muon_init(&t->muon, t->units.owned, t->units.n_owned, &t->options[KEYS_MUON], t->state);
    if (code == MUON_OK) return;
    char error[160];
    optimizer_error(t, code, error, sizeof error);
    fail("%s", error);
}

static void trainer_free(Trainer *t) {
    free(t->inputs);
    free(t->targets);
    free(t->part_losses);
    free(t->state);
    free(t->scratch);
    free(t->classes);
    units_free(&t->units);
    outer_free(&t->outer);
    averages_free(&t->averages);
    model_free(&t->model);
    config_free(&t->config, config_fields, N_FIELDS);
}

// What is around the steps, and has no say in what is learned:
#include "src/trainer.h"     // defines: trainer_open, resume_run, save_run, tell_step, show_sample, explain, train_end, ...

// ---------------------------------------------------------------------------------------------------------------------
// The optimizer's step

// What the schedule multiplies every peak learning rate by in this step, counted from 0. A trapezoid's cooldown is one line to the
// end, or as many as the clock has made of it: each begins where the one before it is at that step.
static double schedule_factor(const Config *c, int step) {
    const ConfigList *bends = &c->schedule.bends;
    double steps = first_steps(c), final = c->schedule.final, warmup = warmup_steps(c), cooldown = cooldown_steps(c), height = 1;
    if (step < warmup) return (step + 1) / (warmup + 1);
    if (c->schedule.kind == SCHEDULE_COSINE)
        return final + (1 - final) * 0.5 * (1 + cos(M_PI * (step - warmup) / (steps - warmup)));
    if (c->schedule.kind != SCHEDULE_TRAPEZOID || steps - step >= cooldown) return 1.0;
    for (int i = 0; i + 1 < bends->n && step >= bends->v[i]; i += 2) {
        height *= (steps - bends->v[i]) / cooldown;
        steps = i + 3 < bends->n ? bends->v[i + 3] : c->train.steps;
        cooldown = steps - bends->v[i];
    }
    return final + (1 - final) * height * (steps - step) / cooldown;
}

static double muon_momentum(const Config *c, int step) {
    double warmup = momentum_warmup_steps(c);
    if (step >= warmup) return c->optimizer.muon.momentum;
    double done = step / warmup;
    return c->optimizer.muon.momentum_start + done * (c->optimizer.muon.momentum - c->optimizer.muon.momentum_start);
}

// What Muon's weight decay is multiplied by in this step, beside the learning rate.
static double decay_factor(const Config *c, int step) {
    switch (c->optimizer.muon.decay_schedule) {
    case DECAY_LR: return schedule_factor(c, step);
    case DECAY_COSINE: return 0.5 * (1 + cos(M_PI * step / c->train.steps));
    default: return 1.0;
    }
}

// QK-Clip of every layer, after the update. The logits are those of this step's batch, so before the update (as in Kimi K2) and
// before a soft-cap. Each head with one above tau gets gamma = tau / its largest: queries and keys are scaled so that their
// products shrink by gamma. *clipped: how many heads.
static int qk_clip(Trainer *t, int *clipped) {
    Model *m = &t->model;
    *clipped = 0;
    for (int l = 0; l < m->L; l++) {
        const Socket *mixer = mixer_of(m, l);
        int here = 0, code = MUON_OK;
        if (mixer->clip)
            code = mixer->clip(m, l, t->config.optimizer.qk_clip.tau, t->config.optimizer.qk_clip.alpha, &here);
        if (code != MUON_OK) return code;
        *clipped += here;
    }
    return MUON_OK;
}

// The experts' biases, after the update, from the loads of the whole batch.
static void balance_experts(Trainer *t) {
    Model *m = &t->model;
    int E = m->router.E;
    for (int x = 0; x < m->L - m->D; x++) {
        float *bias = weight(m, ROUTER_BIAS, x);
        if (t->config.model.balance == BALANCE_BIAS)
            moe_move_bias(bias, m->loads + x * E, E, (float)t->config.model.balance_rate);
        else if (t->config.model.balance == BALANCE_QUANTILE)
            moe_quantile_bias(bias, m->gaps + (size_t)x * E * MOE_BINS, &m->router);
    }
}

// The optimizer's half of a step, with the gradients and max_logits of the whole batch in place: the factor that clips the
// gradients is passed on (they stay), learning rates are scheduled, every tensor is updated by its rule, heads are clipped. Of
// several ranks each updates what it owns, after all have agreed that nothing is wrong, and sends it to the others.
// Returns false with result->trouble in words where a number isn't finite: the run then ends without saving.
static bool optimizer_step(Trainer *t, StepResult *result) {
    const Config *c = &t->config;
    const Model *m = &t->model;
    double factor = schedule_factor(c, t->step), clip = c->train.grad_clip, scale = 1.0;
    result->lr = factor * rule_lr(c, optimizer_rule(c), ROLE_O);                 // for the log: that of hidden matrices
    result->grad_norm = units_grad_norm(&t->units, m->grads);
    if (clip > 0 && isfinite(result->grad_norm))
        scale = fmin(1.0, clip / (result->grad_norm + 1e-6));                    // as torch's clip_grad_norm_

    t->muon.options.momentum = muon_momentum(c, t->step);                        // of Muon and its family
    t->muon.options.decay_factor = decay_factor(c, t->step);
    int code = muon_begin_step(&t->muon, factor, scale);                         // looks for NaN; no weight has changed yet
    bool ready = !dist_any(code != MUON_OK || !isfinite(result->loss));
    profile_lap(PASS_GRADIENT, 0, 8.0 * m->n_params);
    if (ready && t->step + 1 == t->explained) explain(t, result);
    if (ready) code = muon_step_all(&t->muon, t->scratch, omp_get_max_threads());     // each tensor by its rule
    profile_lap(PASS_OPTIMIZER, t->units.flops, (12.0 * m->n_params + 2.0 * (double)t->state_bytes) / t->units.ranks);
    if (ready) units_share_weights(&t->units, m->params, false);
    profile_lap(PASS_RANKS, 0, 0);
    if (ready && code == MUON_OK) code = qk_clip(t, &result->clipped);
    if (ready && code == MUON_OK) balance_experts(t);
    profile_lap(PASS_OPTIMIZER, 0, 0);
    char where[64];
    if (code == MUON_E_NOT_FINITE) {
        matrix_words(t, t->muon.bad_tensor, t->muon.bad_matrix, where, sizeof where);
        snprintf(result->trouble, sizeof result->trouble, "NaN or infinity in the gradient of %s (loss %g)", where, result->loss);
    }
    else if (!isfinite(result->loss))
        snprintf(result->trouble, sizeof result->trouble, "the loss is %s", isnan(result->loss) ? "NaN" : "infinite");
    else if (code != MUON_OK)
        optimizer_error(t, code, result->trouble, sizeof result->trouble);
    return !dist_words(result->trouble, sizeof result->trouble);
}

// ---------------------------------------------------------------------------------------------------------------------
// The step

// With ranks that step together: the last backward pass has left a layer, whose gradients go to the ranks that step them.
static void send_layer(void *trainer, int layer) {
    Trainer *t = trainer;
    model_settle_grads(&t->model, layer);
    units_ready(&t->units, t->model.sums_of_parts, sums_before(t->config.train.parts / dist_ranks() - 1), layer);
    profile_lap(PASS_RANKS, 0, 0);
}

// Before a step's last micro-batch, and behind it: then of what this rank steps m->grads is the sum over all ranks.
static void begin_exchange(Trainer *t) {
    if (t->units.ranks == 1) return;
    t->model.layer_done = send_layer;
    t->model.listener = t;
    units_begin(&t->units);
}

static void end_exchange(Trainer *t) {
    if (t->units.ranks == 1) return;
    send_layer(t, INT_MIN);
    units_finish(&t->units, t->model.grads);
    t->model.layer_done = NULL;
}

// Whether the weights are those of the run, on all ranks: with local steps they are so behind an outer step.
static bool weights_are_shared(const Trainer *t) {
    int every = t->config.train.local_steps;
    return every == 0 || t->step % every == 0;
}

// Behind a step that was done: the outer one, where it is time. False as optimizer_step.
static bool make_outer_step(Trainer *t, StepResult *result) {
    int every = t->config.train.local_steps;
    if (every == 0 || (t->step + 1) % every) return true;
    int code = outer_step(&t->outer, t->model.params);
    if (code != MUON_OK) snprintf(result->trouble, sizeof result->trouble, "outer step: %s", muon_strerror(code));
    profile_lap(PASS_RANKS, 0, 0);
    return !dist_words(result->trouble, sizeof result->trouble);
}

// EMA-Nesterov: how far a step begins ahead, in means of what a step changes.
static double ahead_factor(const Config *c, int step) {
    bool ahead = step >= averages_steps(c, c->optimizer.ema_nesterov.begin) && step < averages_steps(c, c->optimizer.ema_nesterov.end);
    return !ahead ? 0.0 : c->optimizer.ema_nesterov.beta * schedule_factor(c, step);
}

// Behind a step that was done: the averages of weights follow, and the last step mixes the tail's in.
static void follow_averages(Trainer *t) {
    const Config *c = &t->config;
    int begin = max_int((int)ceil(averages_steps(c, c->optimizer.tail_ema.begin)), 1), done = t->step + 1;
    if (looks_ahead(c)) averages_follow(&t->averages, c->optimizer.ema_nesterov.gamma);
    if (has_tail(c) && done == begin) averages_begin_tail(&t->averages);
    if (has_tail(c) && done > begin) averages_follow_tail(&t->averages, c->optimizer.tail_ema.horizon);
    if (has_tail(c) && done == c->train.steps) averages_mix_tail(&t->averages, c->optimizer.tail_ema.mix);
    profile_lap(PASS_OPTIMIZER, 0, 0);
}

// Whether a signal has come, to any of the ranks: all get the same answer, also where one comes just now. Between outer steps
// nobody asks.
static bool stopping(const Trainer *t) {
    if (!weights_are_shared(t)) return false;
    bool any = dist_any(interrupted);
    if (any) interrupted = 1;
    return any;
}

// One step on the batch in t->inputs and t->targets, this rank's parts of it: forward and backward of every micro-batch, then
// the optimizer. False as optimizer_step; or without words where a signal came before the last micro-batch: then nothing has
// changed.
static bool train_on_batch(Trainer *t, StepResult *result) {
    const Config *c = &t->config;
    Model *m = &t->model;
    int parts = c->train.parts / dist_ranks(), passed = dist_rank() * parts, each = c->train.batch / c->train.parts;
    int B = c->train.micro_batch, T = m->T;
    double tokens = (double)c->train.batch * T, averaged = c->train.local_steps ? tokens / dist_ranks() : tokens;  // by a gradient
    *result = (StepResult){0};
    memset(t->part_losses, 0, (size_t)c->train.parts * sizeof *t->part_losses);
    if (looks_ahead(c)) averages_ahead(&t->averages, ahead_factor(c, t->step));
    model_pack(m, true);
    for (int part = 0; part < parts; part++) {
        model_begin_grads(m, part);
        for (int first = part * each; first < (part + 1) * each; first += B) {
            if (stopping(t)) {
                if (looks_ahead(c)) averages_back(&t->averages);
                return false;
            }
            if (part + 1 == parts && first + B == (part + 1) * each) begin_exchange(t);
            uint64_t sequence = (uint64_t)t->step * (uint64_t)c->train.batch + (uint64_t)(passed * each + first);
            size_t at = (size_t)first * T;
            t->part_losses[passed + part] +=
                model_gradients(m, t->inputs + at, t->targets + at, B, T, sequence, (float)(1.0 / averaged));
        }
        model_end_grads(m, part, parts);
    }
    end_exchange(t);
    if (t->units.ranks > 1) model_share_counts(m);
    dist_sum_doubles(t->part_losses, (size_t)c->train.parts);
    for (int part = 0; part < c->train.parts; part++) result->loss += t->part_losses[part] / tokens;
    profile_lap(PASS_RANKS, 0, 0);
    model_pack(m, false);                                                        // what is packed is of the old weights
    double before = seconds_now();
    bool fine = optimizer_step(t, result) && make_outer_step(t, result);
    if (fine) follow_averages(t);
    result->optimizer_seconds = seconds_now() - before;
    return fine;
}

static bool train_step(Trainer *t, StepResult *result) {
    int batch = t->config.train.batch, mine = batch / dist_ranks(), T = t->model.T;
    double start = seconds_now(), cpu_start = cpu_seconds_now(), sent = dist_sent_bytes();
    profile_start();
    dataloader_batch(&t->data, (uint64_t)t->step, batch, dist_rank(), dist_ranks(), t->inputs, t->targets);
    profile_lap(PASS_DATA, 0, 12.0 * mine * T);
    bool fine = train_on_batch(t, result);
    double bytes[] = {text_bytes(&t->tokenizer, t->targets, mine * T), cpu_seconds_now() - cpu_start};
    dist_sum_doubles(bytes, fine ? 2 : 0);
    result->bpb = bits_per_byte(result->loss * batch * T, bytes[0]);
    profile_stop();
    t->sent_bytes += dist_sent_bytes() - sent;
    result->seconds = seconds_now() - start;
    result->cpu_seconds = bytes[1];
    return fine;
}

// ---------------------------------------------------------------------------------------------------------------------
// Validation, without dropout. Returns false where a signal cut it short. Each rank takes every so many micro-batches of windows;
// what came of them is added up in the order of the windows.
static bool evaluate(Trainer *t) {
    const Config *c = &t->config;
    Model *m = &t->model;
    int64_t tokens = t->step < c->train.steps ? c->train.eval_tokens : c->train.final_eval_tokens;
    Validation v = validation_begin(&t->data, c->train.eval_tokens, tokens);
    ValidationPart mine, *all = xmalloc((size_t)dist_ranks() * sizeof *all);
    bool stopped = false;
    for (uint64_t first = 0; first < v.windows && !(stopped = stopping(t)); first += (uint64_t)m->B * (uint64_t)dist_ranks()) {
        int B = validation_windows(&v, first + (uint64_t)m->B * (uint64_t)dist_rank(), m->B, t->inputs, t->targets);
        double nats = B ? model_loss(m, t->inputs, t->targets, B, m->T) : 0.0;
        mine = validation_part(&v, &t->tokenizer, t->classes, t->targets, m->losses, B, nats);
        dist_gather(&mine, all, sizeof mine);
        for (int r = 0; r < dist_ranks(); r++) validation_add(&v, &all[r]);
    }
    free(all);
    if (stopped) return false;
    t->eval = validation_end(&v, t->val_by_class);
    t->eval.step = t->step;
    t->eval.tokens = (double)c->train.batch * m->T * t->step;
    t->eval.train_seconds = t->train_seconds;
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// The loop

static bool due(int every, int step, int steps) { return step == steps || (every > 0 && step % every == 0); }

// Trains until all steps are done, a signal comes or a number isn't finite. Each turn first deals with the weights of t->step
// steps (validates, saves, samples), ends where they are the last, and else makes the next step: so step 0 is validated, too.
// Returns the program's exit code.
static int train(Trainer *t) {
    const Config *c = &t->config;
    int saved = t->step > 0 ? t->step : -1;              // the step that checkpoint.bin has; -1: none
    char trouble[200] = "";
    StepResult result = {0};
    tell_begin(t);
    if (c->train.local_steps) outer_begin(&t->outer);
    for (;; ) {
        if (t->budget.seconds > 0 && weights_are_shared(t)) settle_steps(t);
        int steps = c->train.steps;

        // Validate: every eval_every steps and at the end, but not again after a resume
        bool saves_now = t->step > 0 && due(c->train.save_every, t->step, steps);
        bool evaluates = due(c->train.eval_every, t->step, steps);
        bool stops = stopping(t);
        if (t->units.halves && (saves_now || evaluates || stops)) units_share_weights(&t->units, t->model.params, true);
        bool validates = evaluates && t->eval.step != t->step && !stops && evaluate(t);
        if (validates) tell_validation(t);

        // Save, show: what isn't sound is not kept
        bool last = t->step >= steps || stops;
        bool saves = t->step != saved && (last || saves_now);
        bool samples = !last && t->step > 0 && c->train.sample_every && t->step % c->train.sample_every == 0;
        if ((validates || saves || samples) && !state_is_sound(t, trouble, sizeof trouble)) break;
        if (!last) keep_best(t);
        if (saves) {
            save_run(t);
            saved = t->step;
        }
        if (last) {
            drop_older_best(t);
            break;
        }
        if (validates) show_losses(t);                   // the end does, too
        if (samples) {
            check_undisturbed(t);
            progress_end(&t->progress);
            show_sample(t, t->step);
        }

        // Step
        if (!train_step(t, &result)) {
            if (!*result.trouble) continue;              // a signal, nothing has changed: the next turn saves and ends
            snprintf(trouble, sizeof trouble, "%s", result.trouble);
            break;
        }
        t->step++;
        t->train_seconds += result.seconds;
        t->smooth_loss = isfinite(t->smooth_loss) ? 0.95 * t->smooth_loss + 0.05 * result.loss : result.loss;
        tell_step(t, &result);
    }
    progress_end(&t->progress);
    return train_end(t, trouble, *result.trouble ? t->step + 1 : t->step);
}

// ---------------------------------------------------------------------------------------------------------------------
// The program

// The whole program but for main's name, so that tests can run it in a child process.
static int train_main(int argc, char **argv) {
    double begun = seconds_now();

    // The config: of a file, or where a run goes on of its folder
    Arguments a = arguments_parse(argc, argv);
    char *dir = a.resume && !a.print_config ? run_resumed_dir(&a) : NULL, *where = run_config_path(&a, dir);
    Trainer t = {.explained = a.explained};
    Config *c = &t.config;
    ConfigSource sources[N_FIELDS];
    config_load(c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets),
                dir || a.config_path ? where : NULL, a.n_overrides, a.overrides, sources);
    if (!dir) init_adopt(c, sources);
    config_resolve_minutes(c, sources, dir != NULL, where);
    t.budget = budget_begin(60 * c->train.minutes, 0, begun);
    choose_parts(c, where);
    check_config(c, sources, &a, dir != NULL, where, owners_of);
    if (a.print_config) {
        config_resolve(c, where);
        config_write(stdout, c, config_fields, N_FIELDS);
        config_free(c, config_fields, N_FIELDS);
        free(a.overrides); free(where);
        return 0;
    }

    if (a.explained && dist_ranks() > 1) fail_usage("--explain=%d: on one rank only", a.explained);

    // The plan, and a folder for the run
    choose_threads();
    if (dir) check_resumed(c, dir, a.resume_from);
    else init_check(c, where);
    trainer_open(&t, where);
    check_ranks(&t);
    t.run = trainer_open_run(&a, dir || !*c->run.dir ? dir : xstrdup(c->run.dir), c, t.tokenizer.size > 0);
    free(c->run.dir);
    c->run.dir = xstrdup(t.run.dir);
    trainer_begin(&t);
    take_signals();

    // The weights
    if (a.resume) resume_run(&t, &a);
    else {
        if (dist_rank() == 0) run_clear(&t.run);
        begin_weights(&t);
    }
    const char *log = dist_rank() == 0 ? t.run.log : "/dev/null";        // rank 0 writes for all
    t.log = fopen(log, a.resume ? "a" : "w");
    if (!t.log) fail("%s: cannot be written: %s", log, strerror(errno));
    log_start(&t, a.overrides, a.resume ? a.n_overrides : 0);
    if (dist_rank() == 0) run_write_files(&t.run, c, &t.tokenizer);
    free(where); free(a.overrides);
    printf("run        %s\n\n", c->run.dir);
    if (dist_rank() == 0) dist_tell("run %s\n", t.run.dir);

    int code = train(&t);
    if (a.profile) profile_print(c->train.precision == PRECISION_BF16 ? GEMM_BF16 : GEMM_FP32);
    if (a.profile && dist_ranks() > 1) print_traffic(t.model.n_params);
    trainer_close(&t);
    return code;
}

#ifndef GPT_NO_MAIN
int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    dist_begin(&argc, &argv);
    return train_main(argc, argv);
}
#endif

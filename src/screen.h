/* screen.h - what a training says: its plan, and whether memory holds it; its progress; what came of it.
 *
 * defines: MemoryPlan, memory_total, check_memory, check_vectors, Plan, print_plan, print_validation, StepLine, print_step,
 *          print_traffic, print_diverged, print_interrupted, print_done, megabytes
 */
#ifndef SCREEN_H
#define SCREEN_H

#include "corpus.h"
#include "dist.h"
#include "gemm.h"
#include "machine.h"
#include "profile.h"
#include "resume.h"

// ---------------------------------------------------------------------------------------------------------------------
// The plan

static inline double megabytes(double bytes) { return bytes / 1048576.0; }

typedef struct { double weights, gradients, optimizer, activations, other; } MemoryPlan;     // bytes

static inline double memory_total(const MemoryPlan *p) {
    return p->weights + p->gradients + p->optimizer + p->activations + p->other;
}

// What of the mapped shards counts as the process's memory, and the program with its libraries, gemm.h's blocks and a
// picture's pixels: PROGRAM_BYTES, as measured.
static inline double memory_of_program(const DataLoader *d) {
    enum { PROGRAM_BYTES = 16 << 20 };
    double shards = 0.0;
    for (int i = 0; i < d->train_shards; i++) shards += (double)d->train[i].bytes;
    for (int i = 0; i < d->val_shards; i++) shards += (double)d->val[i].bytes;
    return PROGRAM_BYTES + fmin(shards, DATALOADER_RESIDENT);
}

/* Ends the program where the plan is more than the machine or its control groups have left, since the kernel would kill
 * it later without a word; warns where it is close. The line has the keys that help. */
static inline void check_memory(const MemoryPlan *plan, const MachineMemory *m, const Config *c, const char *where) {
    const struct { double left; bool hard; const char *what; } limits[] = {
        {m->group, true, "its control group leaves"}, {m->available + m->swap, true, "the machine has free"},
        {m->group_high, false, "its control group leaves before it slows it down"},
        {m->available, false, "the machine has free without swapping"}};
    double planned = memory_total(plan);
    char keys[256];
    snprintf(keys, sizeof keys, "%s%sa smaller model.context, model.width, model.layers or model.vocab takes less",
             c->train.micro_batch > 1 ? "a smaller train.micro_batch, " : "",
             c->train.recompute == RECOMPUTE_NONE ? "train.recompute=block, " : "");
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        if (limits[i].hard && planned > limits[i].left)
            fail_usage("%s: %.0f MB of memory planned, more than the %.0f MB that %s: %s", where, megabytes(planned),
                       megabytes(limits[i].left), limits[i].what, keys);
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        if (planned > 0.9 * limits[i].left && dist_rank() == 0) {
            fflush(stdout);
            fprintf(stderr, "warning: %.0f MB of memory planned of the %.0f MB that %s: %s\n", megabytes(planned),
                    megabytes(limits[i].left), limits[i].what, keys);
            return;
        }
}

// A rule that transforms matrices would only scale a vector to unit length.
static inline void check_vectors(const MuonParam *groups, int n, const char *where) {
    for (const MuonParam *p = groups; p < groups + n; p++)
        if (muon_rule_is_for_matrices(p->rule) && (p->rows == 1 || p->cols == 1))
            fail_usage("%s: optimizer.route: %s, %d x %d, is a vector, and %s is for matrices; adamw is for both", where, p->name,
                       p->rows, p->cols, muon_rule_name(p->rule));
}

typedef struct {
    size_t params;
    double flops;                        // of a token, forward and backward
    MemoryPlan memory;
    const DataLoader *data;
    const MuonParam *groups;             // n_groups, the optimizer's
    int n_groups;
    size_t whole_state;                  // bytes of the optimizer's state, on all ranks together
    int ranks;
} Plan;

static inline void print_plan(const Config *c, const Plan *p) {
    static const char *const norms[] = {"layernorm", "rmsnorm", "rmsnorm without gain"},
                      *const positions[] = {"learned positions", "RoPE"};
    static const char *const mlps[] = {"GELU (tanh)", "GELU (erf)", "ReLU^2", "SwiGLU"},
                      *const heads[] = {"tied", "untied"};
    const MemoryPlan *m = &p->memory;
    const DataLoader *d = p->data;
    int T = c->model.context;
    printf("model      %s: %d layers, width %d, %d heads%s, context %d, vocabulary %d\n",
           config_choice_name(config_fields, N_FIELDS, "model.arch", c->model.arch), c->model.layers, c->model.width,
           c->model.heads, c->model.mixer == MIXER_MLA ? " of latent attention" : c->model.kv_heads < c->model.heads ? " with shared keys" : "", T, c->model.vocab);
    printf("           %s, %s%s, %s of %d, %s head%s\n",
           norms[c->model.norm], positions[c->model.position], c->model.qk_norm ? ", QK-norm" : "",
           mlps[c->model.mlp], c->model.mlp_width, heads[c->model.head],
           c->model.logit_softcap > 0 ? ", soft-capped logits" : "");
    const char *balances[] = {"nothing", "biases", "quantiles", "a loss"};
    if (c->model.experts > 0) {
        printf("experts    %d of width %d, %d for a token", c->model.experts, c->model.expert_width, c->model.experts_per_token);
        if (c->model.expert_groups > 1) printf(", of %d of %d groups", c->model.groups_per_token, c->model.expert_groups);
        if (c->model.shared_experts) printf(", %d shared", c->model.shared_experts);
        if (c->model.dense_layers) printf(", behind %d dense layer%s", c->model.dense_layers, c->model.dense_layers == 1 ? "" : "s");
        printf("; balanced by %s\n", balances[c->model.balance]);
    }
    printf("size       %.2fM parameters, %.2f MFLOP a token (forward and backward)\n", (double)p->params / 1e6, p->flops / 1e6);
    printf("memory     %.0f MB: weights %.1f, gradients %.1f, optimizer %.1f, activations %.1f, other %.1f\n",
           megabytes(memory_total(m)), megabytes(m->weights), megabytes(m->gradients), megabytes(m->optimizer),
           megabytes(m->activations), megabytes(m->other));
    printf("data       %s: %.2fM training tokens, ", c->data.dir, (double)d->train_tokens / 1e6);
    double epochs = (double)c->train.steps * c->train.batch / (double)d->train_windows;
    if (c->train.minutes > 0 && c->train.steps > MOST_STEPS / 2) printf("steps for %g minutes", c->train.minutes);
    else if (c->train.minutes > 0) printf("%g minutes, but at most %d steps", c->train.minutes, c->train.steps);
    else printf("%d steps", c->train.steps);
    printf(" of %d x %d tokens (%d at once)", c->train.batch, T, c->train.micro_batch);
    if (c->train.minutes == 0) printf(" are %.2f epochs", epochs);
    printf("\n");
    uint64_t on_the_way = dataloader_val_windows(d, (uint64_t)c->train.eval_tokens),
             at_end = dataloader_val_windows(d, (uint64_t)c->train.final_eval_tokens);
    printf("validation %llu tokens on the way, %s%llu at the end\n", (unsigned long long)(on_the_way * (uint64_t)T),
           at_end == d->val_windows ? "the whole split of " : "", (unsigned long long)(at_end * (uint64_t)T));
    char cpu[96];
    printf("machine    %s, %d threads, %s kernels, %s%s\n", machine_cpu("", cpu, sizeof cpu), omp_get_max_threads(),
           gemm_isa(), c->train.precision == PRECISION_BF16 ? "bf16" : "fp32",
           gemm_emulated() ? " (emulated, no faster)" : "");
    if (p->ranks > 1 && c->train.local_steps)
        printf("ranks      %d, %d here, %s; %d thread%s of rank 0; each keeps all of the optimizer's state\n",
               p->ranks, dist_here(), dist_here() == 1 || dist_sharing() > 1 ? "not bound to cores" : "each bound to cores of its own",
               omp_get_max_threads(), omp_get_max_threads() == 1 ? "" : "s");
    else if (p->ranks > 1)
        printf("ranks      %d, %d here, %s; %d thread%s of rank 0; batch of %d parts; of %.1f MB of the optimizer's state rank 0 keeps %.1f\n",
               p->ranks, dist_here(), dist_here() == 1 || dist_sharing() > 1 ? "not bound to cores" : "each bound to cores of its own",
               omp_get_max_threads(), omp_get_max_threads() == 1 ? "" : "s", c->train.parts, megabytes((double)p->whole_state),
               megabytes(m->optimizer));
    if (c->train.local_steps)
        printf("outer step every %d steps%s: Nesterov's SGD, lr %g, momentum %g\n", c->train.local_steps,
               p->ranks > 1 ? ", which each rank makes alone" : "", c->train.outer_lr, c->train.outer_momentum);
    int wide = 8;
    for (const MuonParam *g = p->groups; g < p->groups + p->n_groups; g++) wide = (int)strlen(g->name) > wide ? (int)strlen(g->name) : wide;
    printf("tensors    %-*s  count  rows x cols   rule        lr      decay\n", wide, "name");
    for (const MuonParam *g = p->groups; g < p->groups + p->n_groups; g++) {
        const char *rule = muon_rule_name(g->rule);
        printf("           %-*s %5d %6d x %-6d  %-6s  %8.3g  %8.3g\n", wide,
               g->name, g->count, g->rows, g->cols, rule ? rule : "", g->lr, g->weight_decay);
    }
    if (c->optimizer.qk_clip.tau > 0)
        printf("QK-Clip    tau %g, alpha %g\n", c->optimizer.qk_clip.tau, c->optimizer.qk_clip.alpha);
    if (looks_ahead(c))
        printf("look-ahead EMA-Nesterov, beta %g, gamma %g\n", c->optimizer.ema_nesterov.beta, c->optimizer.ema_nesterov.gamma);
    if (has_tail(c))
        printf("tail       the last weights move by %g towards their average over %g steps\n", c->optimizer.tail_ema.mix, c->optimizer.tail_ema.horizon);
    fflush(stdout);
}

// ---------------------------------------------------------------------------------------------------------------------
// The progress

// "/1200", or of a run that ends by the clock and is expected to end there "/~1200"; "" where it isn't known yet.
static inline const char *print_steps(char buffer[24], int steps, bool open) {
    snprintf(buffer, 24, "/%s%d", open ? "~" : "", steps);
    return steps > 0 ? buffer : "";
}

// steps, open: as print_steps.
static inline void print_validation(const RunEval *e, int steps, bool open, const DataLoader *data) {
    char of[24];
    printf("step %ld%s: validation loss %.4f", e->step, print_steps(of, steps, open), e->val_loss);
    if (isfinite(e->val_bpb)) printf(", %.4f bits per byte", e->val_bpb);
    printf(", of %s\n", validated_text(e, data));
}

typedef struct {
    int step, steps;
    bool open;                           // as print_steps
    double loss, bpb, smooth_loss;       // of training
    double tokens, speed, begun;         // tokens a step; steps a second; seconds_now() when this process began to train
} StepLine;

static inline void print_step(Progress *progress, const StepLine *s) {
    char a[32], b[32], of[24], bpb[48] = "";
    if (!progress_due(progress, s->step == s->steps)) return;
    if (isfinite(s->bpb)) snprintf(bpb, sizeof bpb, " (%.3f bits per byte)", s->bpb);
    progress_line(progress, "step %d%s  loss %.4f%s  smoothed %.4f  %.0f tok/s  %s, ETA %s", s->step,
                  print_steps(of, s->steps, s->open), s->loss, bpb,
                  s->smooth_loss, s->tokens * s->speed, format_seconds(a, seconds_now() - s->begun),
                  format_seconds(b, (s->steps - s->step) / s->speed));
}

// Beside the profile: what rank 0 sent, and what the least of an all-reduce of the gradients would be.
static inline void print_traffic(size_t params) {
    double ranks = dist_ranks(), least = 8.0 * (double)params * (ranks - 1) / ranks;
    printf("           rank 0 sent %.3f MB a step (8 P (N - 1) / N: %.3f) and waited %.2f ms\n",
           megabytes(dist_sent_bytes() / profile_starts), megabytes(least), 1e3 * dist_wait_seconds() / profile_starts);
}

// ---------------------------------------------------------------------------------------------------------------------
// The end

// step: the one that failed.
static inline void print_diverged(const RunFolder *r, const Config *c, int step, const char *trouble) {
    char *saved = checkpoints_of(r), *command = run_resume_command(r, previous_is_better(r) ? r->previous : NULL);
    fflush(stdout);
    fprintf(stderr, "error: step %d: %s; ", step, trouble);
    if (*saved) fprintf(stderr, "saved before: %s; with another learning rate: %s --%s=RATE\n", saved, command, lr_key(c));
    else fprintf(stderr, "nothing was saved yet\n");
    free(saved);
    free(command);
}

static inline void print_interrupted(const RunFolder *r, int step) {
    char *command = run_resume_command(r, NULL);
    fprintf(ferror(stdout) ? stderr : stdout, "interrupted at step %d and saved; go on with: %s\n", step, command);
    free(command);
    int error = stream_error(stdout);                // no other exit code for it: all is saved
    if (!error || error == EPIPE) return;
    fprintf(stderr, "error: stdout: cannot be written: %s\n", strerror(error));
    dist_tell("ended %d\n", EXIT_INTERRUPTED);
    _exit(EXIT_INTERRUPTED);
}

/* The last validation `e` is that of the last step. by_class: its losses by the tokens' frequency; planned: bytes of memory;
 * sent: bytes that a rank sent in a step, 0 of one rank; samples: there is a tokenizer to sample with. */
static inline void print_done(const RunFolder *r, const RunEval *e, const double *by_class, const Best *best,
                              const DataLoader *data, double planned, double sent, bool samples) {
    char a[32];
    printf("done: %ld steps, %.2fM tokens in %s of training (%.0f tok/s), validation loss %.4f", e->step, e->tokens / 1e6,
           format_seconds(a, e->train_seconds), e->tokens / e->train_seconds, e->val_loss);
    if (isfinite(e->val_bpb)) printf(" (%.4f bits per byte)", e->val_bpb);
    printf(" of %s", validated_text(e, data));
    if (machine_resident() > 0)
        printf(", at most %.0f MB of memory (%.0f planned)", megabytes(machine_resident()), megabytes(planned));
    if (sent > 0) printf(", sent %.3g MB a step from each rank", megabytes(sent));
    printf("\nloss by frequency, from the commonest tenth of the tokens to the rarest:");
    for (int i = 0; i < DATALOADER_CLASSES; i++)
        if (isfinite(by_class[i])) printf(" %.2f", by_class[i]);
        else printf(" -");
    RunLog log;
    bool read = runlog_read(r->log, &log) == 0;
    char *qk = read ? runlog_qk_text(&log) : NULL, *moe = read ? runlog_moe_text(&log) : NULL;
    if (qk) printf("\nQK-Clip: %s", qk);
    if (moe) printf("\nexperts: %s", moe);
    free(qk);
    free(moe);
    runlog_free(&log);
    bool kept = best->kept == best->step;
    if (best->step >= 0 && best->step != e->step)
        printf("\nbest validation loss %.4f at step %ld%s%s: the last %ld steps made the model %s", best->loss, best->step,
               kept ? ", kept in " : ", no longer kept", kept ? r->best : "", e->step - best->step,
               e->sample_loss > best->loss ? "worse" : "no better");
    printf("\npicture: %s/loss.png", r->dir);
    if (samples) {
        const char *build = getenv("BUILD");             // make's
        char *run = shell_quoted(r->dir);
        printf("   more text: make sample RUN=%s", run);
        if (build && *build && strcmp(build, "build")) printf(" BUILD=%s", build);
        free(run);
    }
    printf("\n");
}

#endif // SCREEN_H

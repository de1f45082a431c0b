/* tensorboard.c - a run's log as an event file, which TensorBoard and what reads its files show.
 *
 *     build/tensorboard runs/default            -> runs/default/events.out.tfevents.muon; tensorboard --logdir=runs
 *
 * Every scalar of log.jsonl has a tag: loss/train, loss/validation, optimizer/learning_rate and so on (put_steps and its
 * neighbours). The log has no time of day: the last event is when the log was last written, those before it earlier by their
 * seconds of training.
 */
#define _GNU_SOURCE
#include "../src/flags.h"
#include "../src/runlog.h"
#include "tfevents.h"

#define FILE_NAME "events.out.tfevents.muon"        // TensorBoard takes what has "tfevents" in its name

static void print_help(void) {
    puts("usage: tensorboard RUN [--out=FOLDER]\n"
         "Writes the scalars of RUN/log.jsonl as FOLDER/" FILE_NAME " for TensorBoard.\n"
         "  --out=FOLDER   where to (default: RUN)");
}

typedef struct { TfEvents events; const RunLog *log; double begin; } Board;     // begin: the time of day at no second of training

// The time of day of a step. *i: the logged step to look from, for steps in ascending order.
static double time_of(const Board *b, long step, int *i) {
    const RunLog *log = b->log;
    while (*i < log->n_steps && log->steps[*i].step < step) ++*i;
    int at = *i < log->n_steps ? *i : log->n_steps - 1;
    return b->begin + (at >= 0 ? log->steps[at].seconds : 0);
}

static void put_steps(Board *b) {
    for (const RunStep *s = b->log->steps, *end = s + b->log->n_steps; s < end; s++) {
        tfevents_add(&b->events, "loss/train", s->loss);
        tfevents_add(&b->events, "loss/train_bits_per_byte", s->bpb);
        tfevents_add(&b->events, "optimizer/learning_rate", s->lr);
        tfevents_add(&b->events, "optimizer/gradient_norm", s->grad_norm);
        tfevents_add(&b->events, "attention/largest_logit", s->max_logit);
        tfevents_add(&b->events, "speed/tokens_per_second", s->tok_per_s);
        tfevents_add(&b->events, "tokens", s->tokens);
        tfevents_put(&b->events, s->step, b->begin + s->seconds);
    }
}

// Of the whole split where that is what was validated last: sample_loss then compares with those before.
static void put_evals(Board *b) {
    for (const RunEval *e = b->log->evals, *end = e + b->log->n_evals; e < end; e++) {
        tfevents_add(&b->events, "loss/validation", runlog_sample_loss(e));
        if (e->whole) tfevents_add(&b->events, "loss/validation_whole_split", e->val_loss);
        tfevents_add(&b->events, "loss/validation_bits_per_byte", e->val_bpb);
        tfevents_put(&b->events, e->step, b->begin + (isfinite(e->train_seconds) ? e->train_seconds : 0));
    }
}

static void put_heads(Board *b) {
    int at = 0;
    for (const RunQk *q = b->log->qks, *end = q + b->log->n_qks; q < end; q++) {
        tfevents_add(&b->events, "attention/clipped_heads", (double)q->clipped);
        for (int i = 0; q->of_heads && i < q->layers * q->heads; i++) {
            char tag[64];
            snprintf(tag, sizeof tag, "logit/layer_%d_head_%d", i / q->heads + 1, i % q->heads + 1);
            tfevents_add(&b->events, tag, q->of_heads[i]);
        }
        tfevents_put(&b->events, q->step, time_of(b, q->step, &at));
    }
}

static void put_experts(Board *b) {
    int at = 0;
    for (const RunMoe *m = b->log->moes, *end = m + b->log->n_moes; m < end; m++) {
        tfevents_add(&b->events, "experts/share_without_tokens", m->dead);
        tfevents_add(&b->events, "experts/largest_load", m->max_load);
        tfevents_put(&b->events, m->step, time_of(b, m->step, &at));
    }
}

int main(int argc, char **argv) {
    program_begin();
    const char *run = NULL, *out = NULL, *value;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return 0;
        }
        if ((value = flag_value(argv[i], "--out")) && *value) out = value;
        else if (argv[i][0] == '-') fail_usage("%s: unknown option; expected --out=FOLDER or --help", argv[i]);
        else if (argv[i][0] && run) fail_usage("%s and %s: one run expected", run, argv[i]);
        else if (argv[i][0]) run = argv[i];
    }
    if (!run) fail_usage("no run given; expected a folder such as runs/default (--help says more)");

    RunLog log;
    struct stat st;
    char *path = format("%s/log.jsonl", run), *to = format("%s/" FILE_NAME, out ? out : run);
    int bad = runlog_read(path, &log);
    if (bad < 0 || stat(path, &st) != 0) fail("%s: %s; expected a run's log", path, strerror(errno));
    if (bad > 0) fail("%s:%d: not an event; expected a JSON object with \"event\" and \"step\"", path, bad);
    if (out && make_dirs(out) != 0) fail("%s: cannot be made: %s", out, strerror(errno));
    Board b = { .log = &log, .begin = (double)st.st_mtim.tv_sec + 1e-9 * (double)st.st_mtim.tv_nsec - runlog_seconds(&log) };
    Replacement r = replace_open(to);
    if (r.f) {
        b.events = tfevents_begin(r.f, b.begin);
        put_steps(&b), put_evals(&b), put_heads(&b), put_experts(&b);
    }
    if (replace_close(&r, r.f ? stream_error(r.f) : 0) != 0) fail("%s: cannot be written: %s", to, strerror(errno));
    printf("wrote %s; show it by: tensorboard --logdir=%s\n", to, out ? out : run);
    tfevents_end(&b.events);
    runlog_free(&log);
    free(path), free(to);
    return 0;
}

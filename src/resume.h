/* resume.h - what a run goes on from: the state beside the weights that its checkpoints have, whether that is sound and of
 * this run, and which weights were the best; and what a run of its own begins with, the weights of another one (train.init).
 *
 * defines: CheckpointState, ckpt_tensor, checkpoint_state, checkpoint_moments, checkpoint_is_sound, checkpoint_open_sound,
 *          may_change, checkpoint_check_config, checkpoints_of, previous_is_better, check_resumed, checkpoint_open_to_resume,
 *          checkpoint_take, checkpoint_put, run_config_path, Best, best_compare, best_resume,
 *          weights_path, init_adopt, init_check
 */
#ifndef RESUME_H
#define RESUME_H

#include <float.h>
#include "run.h"

// ---------------------------------------------------------------------------------------------------------------------
// The state beside the weights

enum { CHECKPOINT_STATE_TENSORS = 5, PROGRESS_NUMBERS = 4 };

typedef struct {
    int64_t step, evaluated, muon_t, fingerprint;        // evaluated: the step of the last validation, or -1; of the data
    double progress[PROGRESS_NUMBERS];                   // seconds of training, smoothed loss, the last validation's loss and
} CheckpointState;                                       // its bits per byte

static inline CkptTensor ckpt_tensor(const char *prefix, const char *name, CkptType type, int ndim,
                                     size_t a, size_t b, size_t c, size_t stride, void *data) {
    CkptTensor t = {.type = type, .ndim = ndim, .shape = {a, b, c, 1}, .stride = stride, .data = data};
    snprintf(t.name, sizeof t.name, "%s%s", prefix, name);
    return t;
}

// The first of a checkpoint's tensors, and the only ones that are no model's.
static inline int checkpoint_state(CheckpointState *state, CkptTensor *list) {
    int n = 0;
    list[n++] = ckpt_tensor("", "step", CKPT_I64, 1, 1, 1, 1, 0, &state->step);
    list[n++] = ckpt_tensor("", "evaluated", CKPT_I64, 1, 1, 1, 1, 0, &state->evaluated);
    list[n++] = ckpt_tensor("", "optimizer_t", CKPT_I64, 1, 1, 1, 1, 0, &state->muon_t);
    list[n++] = ckpt_tensor("", "data_fingerprint", CKPT_I64, 1, 1, 1, 1, 0, &state->fingerprint);
    list[n++] = ckpt_tensor("", "progress", CKPT_F64, 1, PROGRESS_NUMBERS, 1, 1, 0, state->progress);
    return n;
}

// An optimizer's state of every tensor, its slots by the letters, "mv": the momenta m.NAME and the second moments v.NAME, (count,
// rows, cols), or of normuon (count, rows or columns, 1). Of a rank above 0 that has one of its own: m.NAME@RANK. Returns how many.
static inline int checkpoint_moments(const Muon *m, const char *letters, int rank, CkptTensor *list) {
    int n = 0;
    for (int i = 0; i < m->n; i++)
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            const MuonParam *p = &m->params[i];
            size_t size, count = (size_t)p->count, rows = (size_t)p->rows, cols = (size_t)p->cols;
            float *data = muon_state(m, i, slot, &size);
            size_t each = size / count, width = each == rows * cols ? cols : 1;
            if (!data) continue;
            char prefix[] = {letters[slot], '.', '\0'};
            list[n] = ckpt_tensor(prefix, p->name, CKPT_F32, 3, count, each / width, width, 0, data);
            size_t end = strlen(list[n].name);
            if (rank > 0) snprintf(list[n].name + end, sizeof list[n].name - end, "@%d", rank);
            n++;
        }
    return n;
}

// Whether these numbers are a state that training can have: all finite, second moments v.* not negative, counters that
// agree. Else what is wrong is in words.
static inline bool checkpoint_is_sound(const CheckpointState *s, const CkptTensor *list, int n, char *words, size_t room) {
    for (int i = 0; i < n; i++) {
        bool squares = !strncmp(list[i].name, "v.", 2);
        if (checkpoint_between(&list[i], squares ? 0 : -FLT_MAX, FLT_MAX)) continue;
        snprintf(words, room, "%s in %.71s", squares ? "NaN, infinity or a number below zero" : "NaN or infinity", list[i].name);
        return false;
    }
    if (s->step < 0 || s->step > INT_MAX || s->muon_t != s->step || s->evaluated < -1 || s->evaluated > s->step) {
        snprintf(words, room, "impossible counters: step %lld, validated at %lld, optimizer's %lld", (long long)s->step,
                 (long long)s->evaluated, (long long)s->muon_t);
        return false;
    }
    if (!(s->progress[0] >= 0) || !isfinite(s->progress[0])) {
        snprintf(words, room, "impossible seconds of training: %g", s->progress[0]);
        return false;
    }
    if (s->evaluated == s->step && !isfinite(s->progress[2])) {
        snprintf(words, room, "the validation loss is %s", isnan(s->progress[2]) ? "NaN" : "infinite");
        return false;
    }
    return true;
}

// Opens the checkpoint at path and reads its state; where it isn't whole and sound, -1 with a line in error that names it.
static inline int checkpoint_open_sound(Checkpoint *file, const char *path, CheckpointState *state, char *error, size_t room) {
    CkptTensor list[CHECKPOINT_STATE_TENSORS];
    char words[200];
    if (checkpoint_open(file, path, error, room) != 0) return -1;
    int n = checkpoint_state(state, list), i = 0;
    while (i < n && checkpoint_read(file, &list[i], error, room) == 0) i++;
    if (i == n && checkpoint_is_sound(state, file->tensors, file->n_tensors, words, sizeof words)) return 0;
    if (i == n) snprintf(error, room, "%s: not to go on from: %s", path, words);
    checkpoint_close(file);
    return -1;
}

// A run's own config rules when it goes on. What may change: where its folders are now (the data's fingerprint is in the
// checkpoint), how long and how often, and the learning rates, which a run that diverged needs. key: up to its end or "=".
static inline bool may_change(const char *key) {
    static const char *const allowed[] = {"run.dir", "run.lock", "data.dir", "train.steps", "train.minutes", "train.eval_every",
                                          "train.save_every", "train.sample_every", "train.sample_tokens"};
    static const char *const rates[] = {".lr", ".embed_lr", ".head_lr"};
    size_t n = strcspn(key, "=");
    for (size_t i = 0; i < COUNT_OF(allowed); i++)
        if (strlen(allowed[i]) == n && !strncmp(key, allowed[i], n)) return true;
    for (size_t i = 0; i < COUNT_OF(rates) && !strncmp(key, "optimizer.", 10); i++) {
        size_t length = strlen(rates[i]);
        if (n > length && !strncmp(key + n - length, rates[i], length)) return true;
    }
    return false;
}

// The first key for which a checkpoint of another config can't be taken: its weights need the same model, its state to go on
// from nearly the whole config.
typedef struct { bool only_model; char *words; } ConfigDifference;

static inline void note_difference(const char *key, const char *saved, const char *mine, void *context) {
    ConfigDifference *d = context;
    bool by_the_clock = !strcmp(key, "schedule.bends");  // as train.steps, behind the checkpoint
    if (d->words || (d->only_model ? strncmp(key, "model.", 6) != 0 : by_the_clock || may_change(key))) return;
    d->words = format("%s is %s in it, but %s in the run's config", key, saved, mine);
}

// Whether the config that a checkpoint carries is the run's. Else -1, with a line in error that names the first key.
static inline int checkpoint_check_config(const Checkpoint *file, const Config *mine, bool only_model, char *error, size_t room) {
    const CkptTensor *text = checkpoint_find(file, "config");
    if (!text || text->type != CKPT_U8 || text->ndim != 1) return ckpt_error(error, room, "%s: carries no config", file->path);
    Config saved;
    char *name = format("%s: its config", file->path);
    bool read = config_try(&saved, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), text->data,
                           (size_t)text->shape[0], name, 0, NULL, NULL, error, room);
    free(name);
    if (!read) return -1;
    ConfigDifference d = {.only_model = only_model};
    config_differences(&saved, mine, config_fields, N_FIELDS, note_difference, &d);
    config_free(&saved, config_fields, N_FIELDS);
    if (d.words) ckpt_error(error, room, "%s: is of another run: %s", file->path, d.words);
    free(d.words);
    return d.words ? -1 : 0;
}

// "runs/x/checkpoint.bin (step 20, validation loss 3.1)" for each of the run's checkpoints, or what is wrong with it; ""
// where there are none. To be freed.
static inline char *checkpoints_of(const RunFolder *r) {
    const char *const paths[] = {r->checkpoint, r->previous, r->best};
    char *all = xstrdup(""), error[ERROR_ROOM];
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        if (!file_exists(paths[i])) continue;
        Checkpoint file;
        CheckpointState s;
        char *one = NULL, *before = all;
        if (checkpoint_open_sound(&file, paths[i], &s, error, sizeof error) != 0) one = xstrdup(error);
        else {
            bool validated = s.evaluated == s.step;
            one = format("%s (step %lld, %s loss %.4f)", paths[i], (long long)s.step, validated ? "validation" : "training",
                         s.progress[validated ? 2 : 1]);
            checkpoint_close(&file);
        }
        all = format("%s%s%s", before, *before ? ", " : "", one);
        free(before);
        free(one);
    }
    return all;
}

// Whether the checkpoint before the last has the lower loss: of a run that diverges the last one may be ruined already.
static inline bool previous_is_better(const RunFolder *r) {
    const char *const paths[] = {r->checkpoint, r->previous};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        Checkpoint file;
        CheckpointState s;
        char error[ERROR_ROOM];
        if (checkpoint_open_sound(&file, paths[i], &s, error, sizeof error) != 0) return false;
        checkpoint_close(&file);
        loss[i] = s.progress[s.evaluated == s.step ? 2 : 1];
    }
    return loss[1] < loss[0];
}

// Fails where the checkpoint of the run in dir, or `from` where that isn't "", is of another config, or data.dir holds other
// data than it was trained on: before anything else of the data is looked at, which could only say that a token or a shard
// is wrong. A checkpoint that can't be read is told later.
static inline void check_resumed(const Config *c, const char *dir, const char *from) {
    char *path = *from ? xstrdup(from) : format("%s/checkpoint.bin", dir);
    Checkpoint file;
    int64_t kept;
    char error[ERROR_ROOM];
    CkptTensor tensor = ckpt_tensor("", "data_fingerprint", CKPT_I64, 1, 1, 1, 1, 0, &kept);
    if (checkpoint_open(&file, path, error, sizeof error) != 0) { free(path); return; }
    if (checkpoint_check_config(&file, c, false, error, sizeof error) != 0) fail_usage("%s", error);
    bool read = checkpoint_read(&file, &tensor, error, sizeof error) == 0;
    checkpoint_close(&file);
    if (read && kept == 0)
        fail("%s: is of an imported model, with weights and no training to go on with; --train.init=%s begins one", path, dir);
    if (!read || (uint64_t)kept == dataloader_fingerprint_of(c->data.dir)) { free(path); return; }
    char *made_of_path = format("%s/fingerprint", c->data.dir), *made_of = read_file(made_of_path, NULL);
    const char *origin = made_of ? strchr(made_of, '\n') : NULL;
    bool told = origin && origin[1] && origin[1] != '\n';
    fail("%s: was trained on other data than %s now holds (%s%.*s); prepare the same text again, name its folder by --data.dir=, "
         "or start a new run", path, c->data.dir, told ? "that " : "prepared anew, or another folder",
         told ? (int)strcspn(origin + 1, "\n") : 0, told ? origin + 1 : "");
}

/* Opens a checkpoint to go on from; ends the program where it can't be, or has the best weights alone. */
static inline void checkpoint_open_to_resume(Checkpoint *file, const RunFolder *r, const char *path) {
    CheckpointState state;
    char error[ERROR_ROOM];
    if (checkpoint_open_sound(file, path, &state, error, sizeof error) != 0) {
        if (strcmp(path, r->previous) && file_exists(r->previous))
            fail("%s; the one before it: %s", error, run_resume_command(r, r->previous));
        fail("%s", error);
    }
    if (!strcmp(path, r->best))
        fail("%s: has the best weights alone, to sample from, and no state of the optimizer: go on with %s", path,
             run_resume_command(r, NULL));
}

// Reads n tensors to where the list says, and closes the file; ends the program where one isn't there or is another.
static inline void checkpoint_take(Checkpoint *file, const CkptTensor *list, int n) {
    char error[ERROR_ROOM];
    for (int i = 0; i < n; i++)
        if (checkpoint_read(file, &list[i], error, sizeof error) != 0) fail("%s", error);
    checkpoint_close(file);
}

// Saves n tensors and the config, for which the list has room, to path; what stood there goes to previous where that is
// given. Returns false with a line in error where the disk won't have it.
static inline bool checkpoint_put(const char *path, const char *previous, CkptTensor *list, int n, const Config *c, char *error,
                                  size_t room) {
    static bool warned;
    char *text = config_text(c, config_fields, N_FIELDS);
    list[n++] = ckpt_tensor("", "config", CKPT_U8, 1, strlen(text), 1, 1, 0, text);
    bool saved = checkpoint_save(path, previous, list, n, error, room) == 0;
    if (saved && *error && !warned) fprintf(stderr, "warning: %s\n", error);
    warned = warned || (saved && *error);
    free(text);
    return saved;
}

// The config of a run that begins, or that goes on in dir; to be freed. What the command line may not change then, and a
// folder without a run, end the program.
static inline char *run_config_path(const Arguments *a, const char *dir) {
    if (!dir) return xstrdup(a->config_path ? a->config_path : "defaults");
    for (int i = 0; i < a->n_overrides; i++)
        if (!may_change(a->overrides[i] + 2))
            fail_usage("%s: a resumed run keeps its config; only data.dir, run.lock, train.steps, train.minutes, train.*_every, "
                       "train.sample_tokens and optimizer.*.lr, .embed_lr and .head_lr may change", a->overrides[i]);
    char *path = format("%s/config.json", dir);
    if (!file_exists(path)) fail_usage("--resume: %s does not exist: %s holds no run", path, dir);
    return path;
}

// ---------------------------------------------------------------------------------------------------------------------
// The best model: where checkpoint.best.bin exists it has the weights with the lowest validation loss, of the tokens that
// all validations use. It is written before a step leaves these weights behind, and removed where the last ones are better.

typedef struct { long step, kept; double loss; } Best;   // of the lowest loss; of the weights that are kept; -1: none

// Takes a validation's result. The initial weights are none.
static inline void best_compare(Best *b, const RunEval *e) {
    double loss = isfinite(e->sample_loss) ? e->sample_loss : e->val_loss;
    if (e->step == 0 || !(loss < b->loss)) return;
    b->loss = loss;
    b->step = e->step;
}

// The log rounds a loss: the exact one where a checkpoint has it.
static inline double unrounded(double logged, double kept) { return fabs(kept - logged) <= 1e-8 * fabs(logged) ? kept : logged; }

// The best of a resumed run's validations, by its log, which was cut back to `step`. eval: the last one, as the checkpoint
// knows it. A file of another step is of a future that is trained anew.
static inline void best_resume(Best *b, const RunFolder *r, long step, const RunEval *eval) {
    RunLog log;
    Checkpoint file;
    CheckpointState state;
    char error[ERROR_ROOM];
    if (runlog_read(r->log, &log) == 0) {
        for (int i = 0; i < log.n_evals; i++) {
            double loss = runlog_sample_loss(&log.evals[i]);
            if (log.evals[i].step == 0 || !(loss < b->loss)) continue;
            b->loss = loss;
            b->step = log.evals[i].step;
        }
        runlog_free(&log);
    }
    bool logged = b->step >= 0;
    if (file_exists(r->best) && checkpoint_open_sound(&file, r->best, &state, error, sizeof error) == 0) {
        checkpoint_close(&file);
        if (!logged && state.step <= eval->step) {
            b->step = state.step;
            b->loss = state.progress[2];
        }
        if (state.step == b->step) {
            b->kept = b->step;
            b->loss = unrounded(b->loss, state.progress[2]);
        }
        else unlink(r->best);
    }
    if (b->step == step) b->loss = unrounded(b->loss, eval->val_loss);
    if (!logged && eval->step == step) best_compare(b, eval);
}

// ---------------------------------------------------------------------------------------------------------------------
// train.init: the weights of another run, or of an imported model, to begin with. The optimizer and the steps are new.

// The checkpoint whose weights are a run's model: checkpoint.best.bin where there is one, else the last. To be freed.
static inline char *weights_path(const char *run) {
    char *best = format("%s/checkpoint.best.bin", run);
    if (file_exists(best)) return best;
    free(best);
    return format("%s/checkpoint.bin", run);
}

// What a model's weights may be trained on with, although they were not: dropout, balance and angles have no weights.
static inline bool init_may_change(const char *key) {
    return config_name_index("model.init|model.context|model.dropout|model.attn_dropout|model.balance|model.balance_rate|"
                             "model.rope_theta|model.rope_factor|model.rope_low|model.rope_high|model.rope_original", key) >= 0;
}

static inline void init_note_difference(const char *key, const char *theirs, const char *mine, void *context) {
    char **words = context, *before = *words;
    if (strncmp(key, "model.", 6) != 0 || init_may_change(key)) return;
    *words = format("%s%s%s is %s in it, but %s here", before, *before ? ", " : "", key, theirs, mine);
    free(before);
}

// The config that train.init's checkpoint carries, to be freed by config_free. Ends the program where there is none.
static inline Config init_config(const Config *c, char **path) {
    Checkpoint file;
    CheckpointState state;
    Config theirs;
    char error[ERROR_ROOM];
    *path = weights_path(c->train.init);
    if (checkpoint_open_sound(&file, *path, &state, error, sizeof error) != 0) fail_usage("train.init: %s", error);
    const CkptTensor *text = checkpoint_find(&file, "config");
    if (!text || text->type != CKPT_U8 || text->ndim != 1) fail_usage("train.init: %s: carries no config", *path);
    if (!config_try(&theirs, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), text->data, (size_t)text->shape[0], *path, 0,
                    NULL, NULL, error, sizeof error))
        fail_usage("train.init: %s", error);
    checkpoint_close(&file);
    return theirs;
}

// Where the config begins with another run's weights: takes its model's keys from that, but those of the file and the command line.
static inline void init_adopt(Config *c, const ConfigSource *from) {
    if (!*c->train.init) return;
    char *path;
    Config theirs = init_config(c, &path);
    for (int i = 0; i < N_FIELDS; i++)
        if (!strncmp(config_fields[i].key, "model.", 6) && from[i] < CONFIG_FILE) config_copy(c, &theirs, &config_fields[i]);
    config_free(&theirs, config_fields, N_FIELDS);
    free(path);
}

// The tokenizer in a folder, of size 0 where there is none.
static inline Tokenizer init_tokenizer(const char *dir) {
    Tokenizer t = {0};
    char *path = tokenizer_path(dir), error[ERROR_ROOM];
    if (file_exists(path) && tokenizer_load(&t, path, error, sizeof error) != 0) fail("%s", error);
    free(path);
    return t;
}

// Ends the program where the data's tokens are others than those of the weights; says where that can't be told.
static inline void init_check_tokenizer(const Config *c) {
    Tokenizer own = init_tokenizer(c->train.init), data = init_tokenizer(c->data.dir);
    char *path = tokenizer_path(c->train.init), *quoted = shell_quoted(path);
    if (!own.size || !data.size)
        printf("note: %s has no tokenizer: whether the data's tokens are those of the weights can't be told\n",
               data.size ? c->train.init : c->data.dir);
    else if (tokenizer_hash(&own) != tokenizer_hash(&data))
        fail_usage("train.init: the tokens of %s are others than those of %s: prepare the text with that (make data TOKENIZER=%s)",
                   c->data.dir, path, quoted);
    if (own.size) tokenizer_free(&own);
    if (data.size) tokenizer_free(&data);
    free(path), free(quoted);
}

/* Ends the program where those weights are of another model than the config's, naming all keys that differ, or of other tokens
 * than the data's. Before anything of the data is looked at, which could only say that some token is wrong. */
static inline void init_check(Config *c, const char *where) {
    if (!*c->train.init) return;
    char *path, *words = xstrdup("");
    Config theirs = init_config(c, &path);
    config_resolve(c, where);
    config_differences(&theirs, c, config_fields, N_FIELDS, init_note_difference, &words);
    if (*words) fail_usage("train.init: %s: %s", path, words);
    if (c->model.position == POSITION_LEARNED && c->model.context > theirs.model.context)
        fail_usage("train.init: %s: model.context is %d in it: it has no positions for %d", path, theirs.model.context, c->model.context);
    if (*c->run.dir && run_within(c->run.dir, c->train.init) && run_within(c->train.init, c->run.dir))
        fail_usage("train.init: %s is the run's own folder: another run.dir is expected", c->train.init);
    init_check_tokenizer(c);
    config_free(&theirs, config_fields, N_FIELDS);
    free(path), free(words);
}

#endif // RESUME_H

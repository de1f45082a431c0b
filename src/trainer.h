/* trainer.h - a Trainer around its steps: opened, resumed, saved, logged, told, ended. The glue between train_gpt.c, which
 * knows what is trained, and the services, which know no model: run.h, runlog.h, resume.h, screen.h, corpus.h, explain.h.
 *
 * defines: owners_of, choose_threads, choose_precision, memory_plan, choose_parts, trainer_open, trainer_begin, trainer_close, trainer_open_run,
 *          checkpoint_weights, state_is_sound, check_undisturbed, save_run, keep_best, drop_older_best, read_weights,
 *          begin_weights, resume_run, settle_steps, log_start, tell_begin, tell_step, tell_validation, show_losses, show_sample, explain, train_end
 *
 * Included by train_gpt.c, behind Trainer and what it is made of. Nothing here has a say in what is learned.
 */
#ifndef TRAINER_H
#define TRAINER_H

// ---------------------------------------------------------------------------------------------------------------------
// From a config to a trainer before its first step

// Which rule owns which of the model's tensors, for what the keys' checks ask.
static inline Owners owners_of(const Config *c) {
    Owners owners = {.c = c};
    Tensor table[N_TENSORS];
    tensor_table(table, c, 1);           // what there is: sizes don't matter
    for (int id = 0; id < N_TENSORS; id++) owners_add(&owners, table[id].name, table[id].role, table[id].count > 0);
    return owners;
}

// Called before there are any threads, so that they compute as this one does.
static inline void choose_threads(void) {
    int threads = machine_threads() / dist_sharing();
    vec_flush_subnormals();
    if (!getenv("OMP_NUM_THREADS")) omp_set_num_threads(max_int(threads, 1));
}

// Parts of a batch where the config leaves that open, and whether they suit the ranks: each has an aligned run of 2^k of them, or
// with local steps one.
static inline void choose_parts(Config *c, const char *where) {
    int ranks = dist_ranks(), at_once = max_int(c->train.micro_batch, 1);
    if (c->train.local_steps && c->train.parts == 0) c->train.parts = ranks;
    if (c->train.local_steps && c->train.parts != ranks)
        fail_usage("%s: train.parts: %d on %d rank%s; with train.local_steps each part is of one rank, also where a run goes on: as many "
                   "are expected", where, c->train.parts, ranks, ranks == 1 ? "" : "s");
    if (c->train.parts == 0 && ranks > 1) c->train.parts = 8 % ranks == 0 && c->train.batch % (8 * at_once) == 0 ? 8 : ranks;
    int each = c->train.parts / ranks;
    if (ranks > 1 && (c->train.parts % ranks || (each & (each - 1))))
        fail_usage("%s: train.parts: %d on %d ranks; the ranks times a power of two is expected", where, c->train.parts, ranks);
}

// "auto" is decided once and kept with the run.
static inline void choose_precision(Config *c) {
    if (c->train.precision == PRECISION_AUTO)
        c->train.precision = strcmp(gemm_isa(), "amx") ? PRECISION_FP32 : PRECISION_BF16;
    if (c->optimizer.muon.precision == PRECISION_AUTO) c->optimizer.muon.precision = c->train.precision;
    gemm_use_precision(c->train.precision == PRECISION_BF16 ? GEMM_BF16 : GEMM_FP32);
    muon_precision = c->optimizer.muon.precision == PRECISION_BF16 ? GEMM_BF16 : GEMM_FP32;
}

// What rank 0 gathers while it saves a run of local steps: the velocity, and the moments of the other ranks.
static inline double saving_bytes(const Trainer *t) {
    double velocity = (double)muon_state_bytes(t->outer.groups, t->outer.n_groups, &t->outer.options);
    return dist_rank() == 0 ? velocity + (dist_ranks() - 1) * (double)t->state_bytes : 0;
}

static inline MemoryPlan memory_plan(const Trainer *t) {
    const Model *m = &t->model;
    double batch = 2.0 * sizeof(int) * t->config.train.batch * m->T, saving = t->config.train.local_steps ? saving_bytes(t) : 0;
    if (!t->config.train.local_steps && dist_ranks() > 1 && dist_rank() == 0)
        saving = (double)muon_state_bytes(t->groups, t->n_groups, &t->options[KEYS_MUON]);
    return (MemoryPlan){.weights = 4.0 * (m->n_params + m->n_packed), .gradients = 4.0 * m->n_params * m->levels,
                        .optimizer = (double)t->state_bytes + outer_bytes(&t->outer) +
                                     averages_bytes(m->n_params, looks_ahead(&t->config), has_tail(&t->config)), .activations = 4.0 * m->n_acts,
                        .other = (double)t->scratch_bytes * omp_get_max_threads() + units_room_bytes(&t->units, m->n_params) + batch + saving +
                                 memory_of_program(&t->data)};
}

// Tensors that a checkpoint may have.
static inline int checkpoint_most(const Trainer *t) {
    int moments = t->config.train.local_steps ? MUON_SLOT_COUNT * dist_ranks() + 1 : MUON_SLOT_COUNT;
    int weights = 1 + looks_ahead(&t->config) + has_tail(&t->config);                // and their averages
    return CHECKPOINT_STATE_TENSORS + weights * N_TENSORS + moments * t->n_groups + 2;    // and the config, and used_seconds
}

// The data that the config asks for, and the plan of model and optimizer on it.
static inline void trainer_open(Trainer *t, const char *where) {
    config_resolve(&t->config, where);
    choose_precision(&t->config);
    corpus_open(&t->config, where, &t->tokenizer, &t->data);
    t->classes = dataloader_classes(&t->data);
    trainer_plan(t);
    check_vectors(t->groups, t->n_groups, where);
    MachineMemory memory = machine_memory("");
    MemoryPlan plan = memory_plan(t);
    double *shared[] = {&memory.available, &memory.swap, &memory.group, &memory.group_high};       // by the ranks of this machine
    for (size_t i = 0; i < COUNT_OF(shared); i++) *shared[i] /= dist_here();
    check_memory(&plan, &memory, &t->config, where);
    if (t->config.train.local_steps && checkpoint_most(t) > CKPT_MAX_TENSORS)
        fail_usage("%s: train.local_steps: a checkpoint, which has the moments of each rank, would be of up to %d tensors, more than %d: "
                   "fewer ranks are expected", where, checkpoint_most(t), CKPT_MAX_TENSORS);
}

// Ends the program where ranks would train different things, and says which.
static inline void check_ranks(const Trainer *t) {
    static const char *const what[] = {"config", "data", "build of the program", "kind of CPU (GEMM_ISA=avx2 makes all use the same)"};
    char *text = config_text(&t->config, config_fields, N_FIELDS);
    uint64_t mine[] = {hash_string(text), dataloader_fingerprint(&t->data), hash_string(MUON_C_COMMIT), hash_string(gemm_isa())},
             (*all)[COUNT_OF(what)] = xmalloc((size_t)dist_ranks() * sizeof *all);
    dist_gather(mine, all, sizeof mine);
    for (int r = 1; r < dist_ranks(); r++)
        for (size_t i = 0; i < COUNT_OF(what); i++)
            if (all[r][i] != all[0][i]) fail_usage("rank %d has another %s than rank 0", r, what[i]);
    free(text), free(all);
}

// Says the plan and carries it out: a trainer before its first step, with zero weights.
static inline void trainer_begin(Trainer *t) {
    if (dist_rank() == 0) warn_rates(&t->config);
    print_plan(&t->config, &(Plan){t->model.n_params, flops_per_token(&t->model), memory_plan(t), &t->data, t->groups,
                                   t->n_groups, muon_state_bytes(t->groups, t->n_groups, &t->options[KEYS_MUON]), dist_ranks()});
    trainer_allocate(t);
    t->eval.step = -1;
    t->best = (Best){-1, -1, INFINITY};
    t->eval.val_loss = t->eval.sample_loss = t->eval.val_bpb = t->smooth_loss = NAN;
    for (int i = 0; i < DATALOADER_CLASSES; i++) t->val_by_class[i] = NAN;
}

static inline void trainer_close(Trainer *t) {
    if (t->log) fclose(t->log);
    run_close(&t->run);
    dataloader_close(&t->data);
    if (t->tokenizer.size) tokenizer_free(&t->tokenizer);
    trainer_free(t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Checkpoints: everything that the next step depends on. The order of the data, dropout and initial values are hashes
// of the seed and the step, so that there is no generator's state besides the step.

enum { CHECKPOINT_MAX_TENSORS = CHECKPOINT_STATE_TENSORS + N_TENSORS + 1 };      // of weights alone, and the config

// PREFIX.NAME of numbers that lie as a model's weights do, each (count, rows, cols). Returns how many.
static inline int checkpoint_like_weights(const Model *m, const char *prefix, float *numbers, CkptTensor *list) {
    int n = 0;
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *row = &m->table[id];
        if (row->count)
            list[n++] = ckpt_tensor(prefix, row->name, CKPT_F32, 3, (size_t)row->count, (size_t)row->rows, (size_t)row->cols,
                                    row->stride, numbers + (weight(m, (TensorId)id, 0) - m->params));
    }
    return n;
}

// The weights w.NAME of a model.
static inline int checkpoint_weights(const Model *m, CkptTensor *list) { return checkpoint_like_weights(m, "w.", m->params, list); }

typedef struct { CheckpointState state; CkptTensor *list; int n; } Saved;      // to be freed by saved_free

static inline void saved_free(Saved *s) { free(s->list); }

// What a checkpoint holds, for saving and for reading alike: the state, the weights w.NAME and where there are their averages a.NAME,
// of what steps changed, and e.NAME, of the tail; saved_moments adds the optimizer's.
static inline void saved_list(Saved *s, Trainer *t) {
    s->list = xmalloc((size_t)checkpoint_most(t) * sizeof *s->list);
    s->state = (CheckpointState){t->step, t->eval.step, t->muon.t, (int64_t)dataloader_fingerprint(&t->data),
                                 {t->train_seconds, t->smooth_loss, t->eval.val_loss, t->eval.val_bpb}};
    s->n = checkpoint_state(&s->state, s->list);
    s->n += checkpoint_weights(&t->model, s->list + s->n);
    if (t->averages.mean) s->n += checkpoint_like_weights(&t->model, "a.", t->averages.mean, s->list + s->n);
    if (t->averages.tail) s->n += checkpoint_like_weights(&t->model, "e.", t->averages.tail, s->list + s->n);
}

// m.NAME and v.NAME of the optimizer, of a rank where each has its own; the velocity of the outer step is o.NAME.
static inline void saved_moments(Saved *s, const Muon *muon, const char *letters, int rank) {
    s->n += checkpoint_moments(muon, letters, rank, s->list + s->n);
}

// Whether what the last step left may be kept: its numbers, and the loss of the validation or, where there was none, of its
// first window. One that isn't finite is what a run ends by; it is then in words. Each rank looks at what it steps itself.
static inline bool state_is_sound(Trainer *t, char *words, size_t room) {
    Saved s;
    CkptTensor *moments = xmalloc((size_t)(t->muon.n * MUON_SLOT_COUNT) * sizeof *moments);
    saved_list(&s, t);
    bool sound = checkpoint_is_sound(&s.state, s.list, s.n, words, room) &&
                 checkpoint_is_sound(&s.state, moments, checkpoint_moments(&t->muon, "mv", 0, moments), words, room);
    free(moments);
    saved_free(&s);
    if (sound && t->eval.step != t->step) {
        dataloader_val(&t->data, 0, t->inputs, t->targets);
        double loss = model_loss(&t->model, t->inputs, t->targets, 1, t->model.T);
        if (!isfinite(loss)) snprintf(words, room, "the loss is %s", isnan(loss) ? "NaN" : "infinite");
    }
    return !dist_words(words, room);
}

// The end of a run that can't go on.
__attribute__((noreturn)) static inline void run_failed(Trainer *t, const char *words) {
    runlog_put_end(t->log, &(RunEnd){t->step, NAN, t->train_seconds, "failed", 0});
    fflush(t->log);
    putchar('\n');
    fail("%s", words);
}

// To be called before anything is kept that was computed from the data. Rank 0 keeps it.
static inline void check_undisturbed(Trainer *t) {
    if (dist_rank() > 0) return;
    const char *disturbed = run_disturbed(&t->run, &t->data);
    if (disturbed) run_failed(t, disturbed);
}

// The state of an optimizer's n groups as one process has it: on rank 0 gathered into memory, of all units.
static inline Muon whole_state(Units *units, const Muon *muon, const MuonParam *groups, int n, void *memory) {
    Muon whole = *muon;
    if (dist_rank() == 0) muon_init(&whole, groups, n, &muon->options, memory);
    units_gather_state(units, muon, groups, dist_rank() == 0 ? &whole : NULL);
    return whole;
}

// The n bytes of each rank but 0, to rank 0's `all`, in their order.
static inline void gather_bytes(DistMessages *m, const char *mine, char *all, size_t n) {
    const size_t most = 1 << 30;         // of a message
    for (int r = 1; r < dist_ranks(); r++)
        for (size_t at = 0; at < n; at += most) {
            size_t here = n - at < most ? n - at : most;
            if (dist_rank() == 0) dist_receive(m, all + (size_t)(r - 1) * n + at, here, r);
            if (dist_rank() == r) dist_send(m, mine + at, here, 0);
        }
    dist_finish(m);
}

// The moments, for rank 0 to save: of all units; with local steps of all ranks, and the velocity of the outer step. Returns the
// memory that they were gathered in, to be freed; NULL: they are where they always are.
static inline void *gather_moments(Saved *s, Trainer *t) {
    Outer *o = &t->outer;
    bool local = t->config.train.local_steps > 0;
    if (!local && dist_ranks() == 1) {
        saved_moments(s, &t->muon, "mv", 0);
        return NULL;
    }
    size_t whole_bytes = local ? muon_state_bytes(o->groups, o->n_groups, &o->options)
                               : muon_state_bytes(t->groups, t->n_groups, &t->options[KEYS_MUON]);
    size_t others = local ? (size_t)(dist_ranks() - 1) * t->state_bytes : 0;
    char *memory = dist_rank() == 0 ? xmalloc(whole_bytes + others + 1) : NULL;
    Muon whole = local ? whole_state(&o->units, &o->muon, o->groups, o->n_groups, memory)
                       : whole_state(&t->units, &t->muon, t->groups, t->n_groups, memory);
    if (memory) saved_moments(s, &whole, local ? "o" : "mv", 0);
    if (local) gather_bytes(&o->units.receives, t->state, memory + whole_bytes, t->state_bytes);
    for (int r = 0; r < dist_ranks() && local && memory; r++) {
        Muon theirs = t->muon;
        if (r > 0) theirs.state = (float *)(void *)(memory + whole_bytes + (size_t)(r - 1) * t->state_bytes);
        saved_moments(s, &theirs, "mv", r);
    }
    return memory;
}

static inline void lap(Trainer *t, BudgetCost of, double amount) { budget_lap(&t->budget, of, amount, seconds_now()); }

// Rank 0 saves, the others wait.
static inline void save_run(Trainer *t) {
    Saved s;
    char error[ERROR_ROOM];
    double used = t->budget.used + seconds_now() - t->budget.clock;
    check_undisturbed(t);
    saved_list(&s, t);
    if (t->config.train.minutes > 0) s.list[s.n++] = ckpt_tensor("", "used_seconds", CKPT_F64, 1, 1, 1, 1, 0, &used);
    void *memory = gather_moments(&s, t);
    if (dist_rank() == 0) {
        runlog_sync(t->log, t->run.log);
        const char *previous = t->current_is_good ? t->run.previous : NULL;
        if (!checkpoint_put(t->run.checkpoint, previous, s.list, s.n, &t->config, error, sizeof error))
            run_failed(t, format("%s; earlier checkpoints are as they were", error));
    }
    free(memory);
    saved_free(&s);
    dist_pause();
    t->current_is_good = true;
    lap(t, COST_SAVE, 1);
}

// Best weights that can't be saved are no reason to end a training: the end says that they aren't kept.
static inline void save_best(Trainer *t) {
    Saved s;
    char error[ERROR_ROOM];
    saved_list(&s, t);
    bool saved = checkpoint_put(t->run.best, NULL, s.list, s.n, &t->config, error, sizeof error);
    saved_free(&s);
    if (!saved) {
        printf("%s\n", error);
        unlink(t->run.best);
    }
    t->best.kept = saved ? t->step : -1;
}

// Where the weights of now are the best ones: keeps them before the next step changes them.
static inline void keep_best(Trainer *t) {
    if (dist_rank() > 0 || t->best.step != t->step || t->best.kept == t->step) return;
    save_best(t);
    lap(t, COST_BEST, 1);
}

// At the end: checkpoint.bin has the weights of now, so that where they are the best ones an older checkpoint of these goes.
static inline void drop_older_best(Trainer *t) {
    if (dist_rank() == 0 && t->best.step == t->step && t->best.kept != t->step) unlink(t->run.best);
}

// The state of this rank's units, out of a checkpoint's of all; letters: as checkpoint_moments has them.
static inline void take_units(const Units *units, const Muon *muon, const MuonParam *groups, const char *letters,
                              const Checkpoint *file) {
    char error[ERROR_ROOM];
    for (int i = 0, own = 0; i < units->n; i++) {
        const Unit *u = &units->list[i];
        if (u->owner != units->rank) continue;
        Muon of_group = {.options = muon->options, .params = &groups[u->group], .n = 1, .state = muon->state};
        CkptTensor list[MUON_SLOT_COUNT];
        int n = checkpoint_moments(&of_group, letters, 0, list), next = 0;       // what the whole tensor has, in the order of slots
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            size_t here;
            float *to = muon_state(muon, own, slot, &here);
            if (!to || next == n) continue;
            const CkptTensor *from = checkpoint_match(file, &list[next++], error, sizeof error);
            if (!from) fail("%s", error);
            memcpy(to, (const float *)from->data + units_slice(u, of_group.params, &muon->options, slot).at, here * sizeof *to);
        }
        own++;
    }
}

static inline void resume(Trainer *t, const char *path) {
    Checkpoint file;
    Saved s;
    bool local = t->config.train.local_steps > 0;
    checkpoint_open_to_resume(&file, &t->run, path);
    saved_list(&s, t);
    if (t->units.ranks == 1) saved_moments(&s, &t->muon, "mv", local ? dist_rank() : 0);
    else take_units(&t->units, &t->muon, t->groups, "mv", &file);
    if (local) take_units(&t->outer.units, &t->outer.muon, t->outer.groups, "o", &file);
    const CkptTensor *used = checkpoint_find(&file, "used_seconds");
    bool told = used && used->type == CKPT_F64 && used->ndim == 1 && used->shape[0] == 1 && *(const double *)used->data >= 0;
    double used_seconds = told ? *(const double *)used->data : 0;
    checkpoint_take(&file, s.list, s.n);
    t->budget.used = told ? used_seconds : s.state.progress[0];      // the latter of a run that was not by the clock until now
    saved_free(&s);
    t->step = (int)s.state.step;
    t->eval.step = s.state.evaluated;
    if (t->step == t->config.train.steps && t->eval.step == t->step) t->eval.step--;   // it may have been one on the way
    t->muon.t = s.state.muon_t;
    t->train_seconds = s.state.progress[0];
    t->smooth_loss = s.state.progress[1];
    t->eval.val_loss = s.state.progress[2];
    t->eval.val_bpb = s.state.progress[3];
    t->current_is_good = !strcmp(path, t->run.checkpoint);
}

// Reads the weights of a checkpoint of the same model into it, and its state; ends the program where it can't be.
static inline CheckpointState read_weights(const Model *m, const char *path) {
    Checkpoint file;
    CkptTensor list[N_TENSORS];
    CheckpointState state;
    char error[ERROR_ROOM];
    if (checkpoint_open_sound(&file, path, &state, error, sizeof error) != 0 ||
        checkpoint_check_config(&file, m->config, true, error, sizeof error) != 0)
        fail("%s", error);
    checkpoint_take(&file, list, checkpoint_weights(m, list));
    return state;
}

// The weights of a training that begins: those of train.init, or as the seed has them. Of learned positions the first ones.
static inline void begin_weights(Trainer *t) {
    const Config *c = &t->config;
    if (!*c->train.init) {
        tensors_init(t->model.params, t->model.table, (uint64_t)c->run.seed);
        return;
    }
    Checkpoint file;
    CkptTensor list[N_TENSORS];
    CheckpointState state;
    char error[ERROR_ROOM], *path = weights_path(c->train.init);
    if (checkpoint_open_sound(&file, path, &state, error, sizeof error) != 0) fail("%s", error);
    for (int i = checkpoint_weights(&t->model, list) - 1; i >= 0; i--) {
        const CkptTensor *theirs = checkpoint_find(&file, list[i].name);
        bool first = !strcmp(list[i].name, "w.wpe") && theirs && theirs->ndim == 3 && theirs->shape[2] == list[i].shape[2] &&
                     theirs->shape[1] > list[i].shape[1];
        if (first) memcpy(list[i].data, theirs->data, list[i].shape[1] * list[i].shape[2] * sizeof(float));
        else if (checkpoint_read(&file, &list[i], error, sizeof error) != 0) fail("%s", error);
    }
    checkpoint_close(&file);
    printf("weights    %s, step %lld\n", path, (long long)state.step);
    free(path);
}

// Goes on from a checkpoint: the run's own, or the one that the command line names.
static inline void resume_run(Trainer *t, const Arguments *a) {
    const Config *c = &t->config;
    run_check_tokenizer(&t->run, c->data.dir, &t->tokenizer);
    resume(t, *a->resume_from ? a->resume_from : t->run.checkpoint);
    if (t->step > c->train.steps)
        fail_usage("train.steps: %d, but the run is already at step %d", c->train.steps, t->step);
    if (a->explained && a->explained <= t->step)
        fail_usage("--explain=%d: the run is already at step %d", a->explained, t->step);
    print_resumed(a, &t->run, t->step);
    if (dist_rank() > 0) return;
    run_cut(&t->run, t->step, t->eval.step);
    best_resume(&t->best, &t->run, t->step, &t->eval);
}

// ---------------------------------------------------------------------------------------------------------------------
// The clock, which with train.minutes decides how many steps there are

static inline BudgetWork budget_work(const Trainer *t) {
    const Config *c = &t->config;
    double disk = 100e6, weights = 4.0 * (double)t->model.n_params,              // bytes a second, where no save was seen yet
           token = t->budget.cost[COST_STEP] / ((double)c->train.batch * t->model.T);
    return (BudgetWork){
        c->train.eval_every, c->train.save_every, c->train.sample_every,
        (double)dataloader_val_windows(&t->data, (uint64_t)c->train.eval_tokens),
        (double)dataloader_val_windows(&t->data, (uint64_t)c->train.final_eval_tokens), c->train.batch,
        {[COST_BEST] = weights / disk, [COST_SAVE] = (weights + (double)t->state_bytes) / disk, [COST_PICTURE] = 0.3,
         [COST_SAMPLE] = 5 * token * c->train.sample_tokens}};
}

// The steps of the run, or of one that ends by the clock about as many as it will have; 0: it isn't known yet.
static inline int steps_expected(const Trainer *t) {
    BudgetWork work = budget_work(t);
    int most = t->config.train.steps;
    if (t->config.train.minutes == 0) return most;
    return t->budget.steps == 0 ? 0 : budget_fit(&t->budget, &work, t->step, min_int(most, steps_with_cooldown_at(&t->config, t->step)), most);
}

// The end of a run in whose minutes not even the shortest one fits, which has made a step or two: it leaves nothing.
__attribute__((noreturn)) static inline void budget_too_short(Trainer *t, int shortest, double needed) {
    run_clear(&t->run);
    rmdir(t->run.dir);
    double unit = pow(10, floor(log10(needed / 60)) - 1), minutes = ceil(1.1 * needed / 60 / unit) * unit;
    fail_usage("train.minutes: %g is too short: at %.3g s a step a run of %d step%s with its warm-up and cooldown, the last validation, "
               "checkpoint and sample take longer; at least %g is expected, or a smaller model, batch, schedule.warmup or "
               "train.final_eval_tokens", t->config.train.minutes, t->budget.cost[COST_STEP], shortest, shortest == 1 ? "" : "s", minutes);
}

// From now on the run has so many steps, and is the one that its config.json repeats without a clock: train.minutes is 0. why:
// behind the number on the screen.
static inline void put_steps(Trainer *t, int steps, const char *why) {
    Config *c = &t->config;
    char a[32], b[32];
    c->train.steps = steps;
    c->train.minutes = 0;
    t->budget.look = budget_next_look(t->step, steps);
    if (dist_rank() > 0) return;
    check_undisturbed(t);
    runlog_put_steps(t->log, t->step, steps, t->budget.seconds / 60, t->budget.used);
    runlog_sync(t->log, t->run.log);
    run_write_config(&t->run, c);
    progress_end(&t->progress);
    printf("step %d: %s of %s are used; the run has %d steps%s\n", t->step, format_seconds(a, t->budget.used),
           format_seconds(b, t->budget.seconds), steps, why);
    if (t->explained > steps) fprintf(stderr, "warning: step %d, to be explained, is not among them\n", t->explained);
    fflush(stdout);
}

// In the cooldown: bends it where the run would end late, or early.
static inline void revise_steps(Trainer *t) {
    Config *c = &t->config;
    BudgetWork work = budget_work(t);
    int before = c->train.steps, every = c->train.local_steps ? c->train.local_steps : 1, least = t->step + every;
    if (has_tail(c)) least = max_int(least, (int)averages_steps(c, c->optimizer.tail_ema.begin) + every);
    int now = budget_revise(&t->budget, &work, t->step, before, least, t->budget.most);
    dist_share(&now, sizeof now, 0);
    now = max_int(now / every, (least + every - 1) / every) * every;
    t->budget.look = budget_next_look(t->step, now);
    if (now == before) return;
    ConfigList *bends = &c->schedule.bends;
    bends->v = xrealloc(bends->v, (size_t)(bends->n + 2) * sizeof *bends->v);
    bends->v[bends->n++] = t->step, bends->v[bends->n++] = before;
    put_steps(t, now, now < before ? ", fewer, to end in time" : ", more, since there is time");
}

// Between two steps: fixes the number of steps where it is time to begin the cooldown, and looks at the clock in it. Rank 0's clock
// decides for all.
static inline void settle_steps(Trainer *t) {
    const Config *c = &t->config;
    if (c->train.minutes == 0) {
        if (t->step >= t->budget.look && t->step < c->train.steps) revise_steps(t);
        return;
    }
    BudgetWork work = budget_work(t);
    int most = t->budget.most = c->train.steps, every = c->train.local_steps ? c->train.local_steps : 1,
        now = min_int(most, steps_with_cooldown_at(c, t->step)), next = min_int(most, steps_with_cooldown_at(c, t->step + every));
    int answer = budget_decide(&t->budget, &work, t->step, now, next, most);
    if (dist_rank() == 0 && answer == BUDGET_TOO_SHORT) budget_too_short(t, now, budget_end(&t->budget, &work, t->step, now));
    dist_share(&answer, sizeof answer, 0);
    if (answer != BUDGET_OPEN)
        put_steps(t, now, now == most ? ", the most it may have" : now > t->step ? ", the cooldown begins" : "");
}

// ---------------------------------------------------------------------------------------------------------------------
// The log, the screen and the samples

// changed: the overrides of a resumed run, n of --section.key=value.
static inline void log_start(Trainer *t, char *const *changed, int n) {
    if (dist_rank() > 0) return;
    char cpu[96], *text = config_text(&t->config, config_fields, N_FIELDS);
    runlog_put_start(t->log, &(RunStart){
        .step = t->step, .config = text, .cpu = machine_cpu("", cpu, sizeof cpu), .isa = gemm_isa(), .commit = MUON_C_COMMIT,
        .threads = omp_get_max_threads(), .ranks = dist_ranks(), .params = t->model.n_params,
        .optimizer_bytes = t->state_bytes + (size_t)outer_bytes(&t->outer),
        .data = dataloader_fingerprint(&t->data), .epoch_tokens = t->data.train_windows * (uint64_t)t->model.T,
        .resumed_with = changed, .n_resumed = n});
    free(text);
    runlog_sync(t->log, t->run.log);
    if (sync_folder(t->run.log) < 0) fail("%s: its folder cannot be synced: %s", t->run.log, strerror(errno));
}

enum { LOG_QK_EVERY = 10, LOG_MOE_EVERY = 10 };          // and at every step that clips a head; and at the last step

static inline void log_step(Trainer *t, const StepResult *r) {
    const Model *m = &t->model;
    double tokens = (double)t->config.train.batch * m->T;
    runlog_put_step(t->log, &(RunStep){
        .step = t->step, .tokens = tokens * t->step, .loss = r->loss, .bpb = r->bpb, .lr = r->lr, .grad_norm = r->grad_norm,
        .max_logit = vec_max(m->max_logits, m->L * m->NH), .ms = 1e3 * r->seconds, .cpu_ms = 1e3 * r->cpu_seconds,
        .optimizer_ms = 1e3 * r->optimizer_seconds, .tok_per_s = tokens / r->seconds});
    if (t->step % LOG_QK_EVERY == 0 || r->clipped) runlog_put_qk(t->log, t->step, m->max_logits, m->L, m->NH, r->clipped);
    if (m->loads && (t->step % LOG_MOE_EVERY == 0 || t->step == t->config.train.steps))
        runlog_put_moe(t->log, t->step, m->loads, m->L - m->D, m->router.E);
    runlog_check(t->log, t->run.log);
}

// When training begins in this process.
static inline void tell_begin(Trainer *t) {
    t->begun = seconds_now();
    t->first_step = t->step;
    t->progress = progress_start();
    t->rate = (Rate){0};
    rate_note(&t->rate, t->train_seconds, t->step);
    lap(t, COST_OTHER, 1);
}

// A step's result, into the log and onto the screen.
static inline void tell_step(Trainer *t, const StepResult *r) {
    const Config *c = &t->config;
    if (t->step == t->explained) {
        progress_end(&t->progress);
        printf("explained step %d: %s/step%d/step.md\n", t->step, c->run.dir, t->step);
    }
    log_step(t, r);
    lap(t, COST_STEP, 1);
    print_step(&t->progress, &(StepLine){t->step, steps_expected(t), c->train.minutes > 0, r->loss, r->bpb, t->smooth_loss,
                                         (double)c->train.batch * c->model.context,
                                         rate_note(&t->rate, t->train_seconds, t->step), t->begun});
    int every = c->train.local_steps;
    if (!interrupted || t->stop_told || !every || t->step % every == 0) return;
    t->stop_told = true;
    progress_end(&t->progress);
    printf("stops at step %d, when the weights of all ranks become one (train.local_steps)\n", t->step + every - t->step % every);
    fflush(stdout);
}

// A validation's likewise, compared with the best one so far.
static inline void tell_validation(Trainer *t) {
    check_undisturbed(t);
    runlog_put_eval(t->log, &t->eval, t->val_by_class, DATALOADER_CLASSES);
    runlog_check(t->log, t->run.log);
    best_compare(&t->best, &t->eval);
    progress_end(&t->progress);
    print_validation(&t->eval, steps_expected(t), t->config.train.minutes > 0, &t->data);
    lap(t, COST_VALIDATION, t->eval.eval_tokens / t->model.T);
}

// Bytes of weights and gradients that a rank sent in a step, the mean over all ranks and the steps of this process.
static inline double sent_a_step(const Trainer *t) {
    double *all = xmalloc((size_t)dist_ranks() * sizeof *all), sum = 0.0;
    dist_gather(&t->sent_bytes, all, sizeof *all);
    for (int r = 0; r < dist_ranks(); r++) sum += all[r];
    free(all);
    return t->step > t->first_step ? sum / dist_ranks() / (t->step - t->first_step) : 0;
}

static inline void log_end(Trainer *t, const char *reason, double sent) {
    RunEnd end = {t->step, t->eval.step == t->step ? t->eval.val_loss : NAN, t->train_seconds, "", sent};
    snprintf(end.reason, sizeof end.reason, "%s", reason);
    runlog_put_end(t->log, &end);
    runlog_sync(t->log, t->run.log);
}

// Opens the run's folder on rank 0; the others only know where it is.
static inline RunFolder trainer_open_run(const Arguments *a, char *dir, const Config *c, bool tokenizes) {
    if (dist_ranks() == 1) return run_open(a, dir, c, tokenizes);
    RunFolder r = {.lock = -1, .program = a->program};
    if (dist_rank() == 0) r = run_open(a, dir, c, tokenizes);
    int n = r.dir ? (int)strlen(r.dir) : 0;
    dist_share(&n, sizeof n, 0);
    char *name = xcalloc((size_t)n + 1, 1);
    if (r.dir) memcpy(name, r.dir, (size_t)n);
    dist_share(name, (size_t)n, 0);
    if (dist_rank() == 0) free(name);
    else run_paths(&r, name);
    return r;
}

// Draws loss.png anew; the other ranks wait.
static inline void show_losses(Trainer *t) {
    if (dist_rank() == 0) run_draw(&t->run);
    dist_pause();
    lap(t, COST_PICTURE, 1);
}

// Draws a sample into the run's sample.txt, unless a signal cuts it short, and onto the screen. step: of the model's weights.
static inline void show_sample(Trainer *t, int step) {
    if (!t->tokenizer.size || t->config.train.sample_tokens == 0 || dist_rank() > 0) return;
    TokenText s = {&t->tokenizer, xstrdup(""), 0};
    int start = sample_start(&t->config, &t->tokenizer);
    uint64_t seed = hash64((uint64_t)t->config.run.seed, hash_string("sample"));
    if (!generate(&t->model, min_int(t->model.V, t->tokenizer.size), &start, 1, t->config.train.sample_tokens, sample_plainly(0.8),
                  seed, token_text_add, &s))
        fprintf(stderr, "warning: the sample of step %d ends early: logits that aren't finite\n", step);
    if (!interrupted) run_add_sample(&t->run, step, s.text);
    printf("--- sample of step %d ---%s%s\n--------------\n", step, *s.text == '\n' ? "" : "\n", s.text);
    fflush(stdout);
    free(s.text);
    lap(t, COST_SAMPLE, 1);
}

// --explain: tells the step that the optimizer has begun, into RUN/stepN. Where that can't be written, training goes on.
static inline void explain(Trainer *t, const StepResult *result) {
    const Model *m = &t->model;
    const ExplainSize sizes[] = {
        {"B", "sequences", t->config.train.batch}, {"T", "tokens of each", m->T}, {"V", "vocabulary", m->V},
        {"C", "channels", m->C}, {"L", "layers", m->L}, {"NH", "query heads", m->NH}, {"NKV", "key/value heads", m->NKV},
        {"HS", "size of a head", m->HS}, {"F", "width of the MLP", m->F}, {"E", "experts", m->router.E},
    };
    char *folder = format("%s/step%d", t->config.run.dir, t->explained);
    int n = t->config.train.batch * m->T, error = explain_step(&(Explanation){
        .folder = folder, .step = t->step + 1, .steps = t->config.train.steps, .muon = &t->muon, .scratch = t->scratch,
        .threads = omp_get_max_threads(), .loss = result->loss,
        .bpb = bits_per_byte(result->loss * n, text_bytes(&t->tokenizer, t->targets, n)),
        .grad_norm = result->grad_norm, .inputs = t->inputs, .targets = t->targets, .n_tokens = min_int(m->T, 12),
        .tokenizer = &t->tokenizer, .sizes = sizes, .n_sizes = (int)COUNT_OF(sizes) - !m->router.E,
        .max_logits = m->max_logits, .layers = m->L,
        .heads = m->NH, .tau = t->config.optimizer.qk_clip.tau});
    if (error) fprintf(stderr, "warning: %s: step %d is not explained: %s\n", folder, t->explained, strerror(error));
    if (error) t->explained = 0;
    free(folder);
}

// ---------------------------------------------------------------------------------------------------------------------
// The end

// Says how the run ended. trouble: why its step `failed` was the last one, or "". Returns the program's exit code.
static inline int train_end(Trainer *t, const char *trouble, int failed) {
    bool whole = t->step == t->config.train.steps && t->eval.step == t->step;
    const char *reason = *trouble ? "diverged" : interrupted && !whole ? "interrupted" : "done";
    double sent = sent_a_step(t);
    if (dist_rank() > 0) return *trouble ? EXIT_FAILED : interrupted && !whole ? EXIT_INTERRUPTED : 0;
    log_end(t, reason, sent);
    run_draw(&t->run);
    if (*trouble) {
        print_diverged(&t->run, &t->config, failed, trouble);
        return EXIT_FAILED;
    }
    if (interrupted && !whole) {
        print_interrupted(&t->run, t->step);
        return EXIT_INTERRUPTED;
    }
    int sampled = t->step;
    if (t->best.step >= 0 && t->best.step != t->step && t->best.kept == t->best.step)
        sampled = (int)read_weights(&t->model, t->run.best).step;
    printf("\n");
    show_sample(t, sampled);
    MemoryPlan plan = memory_plan(t);
    print_done(&t->run, &t->eval, t->val_by_class, &t->best, &t->data, memory_total(&plan), sent, t->tokenizer.size > 0);
    lap(t, COST_OTHER, 1);
    char a[32], b[32];
    if (t->budget.seconds > 0) printf("time: %s of %s\n", format_seconds(a, t->budget.used), format_seconds(b, t->budget.seconds));
    return 0;
}

#endif // TRAINER_H

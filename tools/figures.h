/* figures.h - a study of ab.c and its figures: means over seeds, paired differences, what an arm needs to a loss, which keys
 * change nothing, which point of a sweep is the best.
 *
 * defines: Axis, study, append, free_words, short_key; figures, figure_of, loss_of, count_state, Difference, difference_of,
 *          ToTarget, to_loss, to_target, target_loss, same_runs, point_at, look_for_effects, best_point, best_label, edge_of
 * Everything is computed from the runs' logs (runs.h). Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef FIGURES_H
#define FIGURES_H

#include "../src/stats.h"
#include "runs.h"

// ---------------------------------------------------------------------------------------------------------------------
// The study: what is trained, and what its figures are compared by

typedef struct {
    char *key, **values;
    int n;
    bool numeric, integer, geometric;   // geometric: of factors rather than of steps
    bool closed;                        // can't be widened
    bool idle;                          // changes nothing, see look_for_effects
    double lo, hi;                      // a range to draw from; NaN: a list
} Axis;

static struct {
    RunList list;
    bool sweep, extend;
    double target;                      // given, else NaN
    int random, base;                   // points to draw, 0: the whole grid; the number of budget 1
    Axis *axes;
    int n_axes;
    char ***points;                     // of each arm of a sweep, the value on each axis
    char **fingerprints;                // of each arm's data
    char **common;                      // overrides of all arms
    int n_common;
    const char *only;                   // sections and keys that may differ, NULL: all
    char *config, *notes;               // of a sweep; lines for the report
    bool all_same;                      // the points are one and the same training, see look_for_effects
} study;

// Puts more behind *text, the caller's to free; NULL: no text yet.
PRINTF_LIKE(2, 3) static void append(char **text, const char *fmt, ...) {
    va_list args;
    char more[1024];
    va_start(args, fmt);
    vsnprintf(more, sizeof more, fmt, args);
    va_end(args);
    char *longer = format("%s%s", *text ? *text : "", more);
    free(*text);
    *text = longer;
}

static void free_words(char **words, int n) {
    for (int i = 0; i < n; i++) free(words[i]);
    free(words);
}

// What a label calls an axis: its key's last name, with the one before it where another axis ends alike.
static const char *short_key(int axis) {
    const char *key = study.axes[axis].key, *name = strrchr(key, '.') + 1;
    bool alike = false;
    for (int k = 0; k < study.n_axes; k++)
        alike = alike || (k != axis && !strcmp(strrchr(study.axes[k].key, '.') + 1, name));
    if (alike) for (name--; name > key && name[-1] != '.'; name--) {}
    return name;
}

// ---------------------------------------------------------------------------------------------------------------------
// Figures: everything that a report says, from the runs' metrics

static const struct { const char *key, *title, *format; double factor; bool error; } figures[FIGURES] = {
    [LOSS] = { "loss", "final loss", "%.4f", 1, true }, [BPB] = { "bpb", "bits per byte", "%.4f", 1, true },
    [TOKENS] = { "tokens", "tokens", NULL, 1, false },
    [SECONDS] = { "seconds", "seconds", "%.1f", 1, true }, [CPU] = { "cpu_seconds", "CPU seconds", "%.1f", 1, true },
    [TOK_PER_S] = { "tok_per_s", "tok/s", "%.0f", 1, false },
    [SHARE] = { "optimizer_share", "optimizer's share", "%.1f %%", 100, false },
    [STATE] = { "state_bytes_per_param", "state bytes/param", "%.2f", 1, false },
    [SPIKES] = { "spikes", "spikes", "%.3g", 1, false }, [LOGIT] = { "max_logit", "max logit", "%.2f", 1, false },
};

// An arm's figure over the seeds: what only a whole run has of those that are done, else of all. LOGIT: the highest.
static Sample figure_of(int arm, int budget, Figure f) {
    const RunList *l = &study.list;
    double *x = xmalloc((size_t)l->n_seeds * sizeof *x), highest = NAN;
    for (int s = 0; s < l->n_seeds; s++) {
        const Metrics *m = &runs_at(l, arm, budget, s)->m;
        x[s] = m->state == RUN_DONE || f > CPU ? m->of[f] : NAN;
        highest = fmax(highest, x[s]);
    }
    Sample sample = sample_of(x, l->n_seeds);
    if (f == LOGIT) sample.mean = highest;
    free(x);
    return sample;
}

static double loss_of(int arm) { return figure_of(arm, study.base, LOSS).mean; }

static int count_state(int arm, RunState state) {
    int n = 0;
    for (int s = 0; s < study.list.n_seeds; s++) n += runs_at(&study.list, arm, study.base, s)->m.state == state;
    return n;
}

typedef struct { Sample d; double low, high, t, p; } Difference;       // final loss, arm - first arm, same seeds

static Difference difference_of(int arm) {
    const RunList *l = &study.list;
    double *d = xmalloc((size_t)l->n_seeds * sizeof *d);
    for (int s = 0; s < l->n_seeds; s++)
        d[s] = runs_at(l, arm, study.base, s)->m.of[LOSS] - runs_at(l, 0, study.base, s)->m.of[LOSS];
    Difference r = { .d = sample_of(d, l->n_seeds) };
    free(d);
    double reach = t_quantile(0.05, r.d.n - 1) * r.d.se;
    r.low = r.d.mean - reach;
    r.high = r.d.mean + reach;
    r.t = r.d.se > 0 ? r.d.mean / r.d.se : NAN;
    r.p = t_two_sided(r.t, r.d.n - 1);
    return r;
}

typedef struct { RatioResult at, low, high; bool interval; int seeds; } ToTarget;    // a: the first arm, b: this

// What an arm needs to a loss (NaN: the first arm's at budget number `base`), in TOKENS or SECONDS, beside the first arm; over
// the seeds that both brought to the end at every budget.
static ToTarget to_loss(int arm, Figure what, double target, int base) {
    const RunList *l = &study.list;
    int *seeds = xmalloc((size_t)l->n_seeds * sizeof *seeds), n = 0, budgets = l->n_budgets;
    for (int s = 0; s < l->n_seeds; s++) {
        bool fine = true;
        for (int b = 0; b < budgets; b++)
            fine = fine && runs_at(l, 0, b, s)->m.state == RUN_DONE && runs_at(l, arm, b, s)->m.state == RUN_DONE;
        if (fine) seeds[n++] = s;
    }
    size_t size = (size_t)(budgets * n);
    double *x = xmalloc(4 * (size + 1) * sizeof *x), *loss = x + size, *own_x = loss + size, *own_loss = own_x + size;
    for (int b = 0; b < budgets; b++)
        for (int i = 0; i < n; i++) {
            const Metrics *first = &runs_at(l, 0, b, seeds[i])->m, *own = &runs_at(l, arm, b, seeds[i])->m;
            x[b * n + i] = first->of[what], loss[b * n + i] = first->of[LOSS];
            own_x[b * n + i] = own->of[what], own_loss[b * n + i] = own->of[LOSS];
        }
    Curves a = { x, loss }, b = { own_x, own_loss };
    ToTarget t = { .at = { NAN, 2, { NAN, 2 }, { NAN, 2 } }, .seeds = n };
    for (int i = 0; i < n; i++) seeds[i] = i;
    if (n) t.at = ratio_of(&a, &b, budgets, n, seeds, n, target, base);
    t.interval = ratio_interval(&a, &b, budgets, n, target, base, &t.low, &t.high);
    free(x);
    free(seeds);
    return t;
}

static ToTarget to_target(int arm, Figure what) { return to_loss(arm, what, study.target, study.base); }

static double target_loss(void) { return isnan(study.target) ? loss_of(0) : study.target; }

static bool same_loss(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

// Whether two arms' runs are identical to the bit, as far as the logs tell: in every step's and every validation's loss.
static bool same_runs(int a, int b) {
    const RunList *l = &study.list;
    for (int i = 0; i < l->n_budgets * l->n_seeds && a != b; i++) {
        const RunLog *p = &runs_at(l, a, i % l->n_budgets, i / l->n_budgets)->log;
        const RunLog *q = &runs_at(l, b, i % l->n_budgets, i / l->n_budgets)->log;
        if (p->n_steps == 0 || p->n_steps != q->n_steps || p->n_evals != q->n_evals) return false;
        for (int k = p->n_steps - 1; k >= 0; k--)           // the last ones differ first
            if (!same_loss(p->steps[k].loss, q->steps[k].loss)) return false;
        for (int k = 0; k < p->n_evals; k++)
            if (!same_loss(p->evals[k].val_loss, q->evals[k].val_loss)) return false;
    }
    return true;
}

// The point that shares all values with `like` but those of these axes (-1: none); -1 where there is none.
static int point_at(int like, int axis, int i, int axis2, int i2) {
    for (int a = 0; a < study.list.n_arms; a++) {
        bool fits = true;
        for (int k = 0; k < study.n_axes && fits; k++) {
            const char *value = k == axis ? study.axes[k].values[i] : k == axis2 ? study.axes[k].values[i2]
                                : study.points[like][k];
            fits = strcmp(study.points[a][k], value) == 0;
        }
        if (fits) return a;
    }
    return -1;
}

// Finds the axes that change nothing: points that differ only in one are one and the same training. Points that were
// drawn differ in all axes.
static void look_for_effects(void) {
    int n = study.list.n_arms;
    study.all_same = study.sweep && n > 1;
    for (int a = 1; a < n && study.all_same; a++) study.all_same = same_runs(0, a);
    for (int k = 0; k < study.n_axes; k++) {
        Axis *axis = &study.axes[k];
        axis->idle = axis->n != 1 && (study.all_same || !study.random);
        for (int a = 0; a < n && axis->idle && !study.all_same; a++) axis->idle = same_runs(a, point_at(a, k, 0, -1, 0));
    }
}

// The point of a sweep with the lowest mean loss among those that no seed let diverge; -1 where there is none, or no two
// differ.
static int best_point(void) {
    int best = -1;
    if (study.all_same) return -1;
    for (int a = 0; a < study.list.n_arms; a++)
        if (count_state(a, RUN_DONE) == study.list.n_seeds && (best < 0 || loss_of(a) < loss_of(best))) best = a;
    return best;
}

// The best point's values, those of axes that change nothing left out; to be freed.
static char *best_label(void) {
    char *label = NULL;
    for (int k = 0; k < study.n_axes; k++)
        if (!study.axes[k].idle) append(&label, "%s%s=%s", label ? " " : "", short_key(k), study.points[best_point()][k]);
    return label;
}

// -1 or 1 where the best point lies at the lower or upper edge of an axis of numbers (a range: in its outer tenth).
static int edge_of(int best, int axis) {
    const Axis *a = &study.axes[axis];
    const char *value = study.points[best][axis];
    double part = log(atof(value) / a->lo) / log(a->hi / a->lo);
    if (a->idle) return 0;
    if (!isnan(a->lo)) return part < 0.1 ? -1 : part > 0.9;
    if (!a->numeric || a->n < 2) return 0;
    return !strcmp(value, a->values[0]) ? -1 : !strcmp(value, a->values[a->n - 1]);
}

#endif // FIGURES_H

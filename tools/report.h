/* report.h - what a study of ab.c found (figures.h), written down: report.md, report.json, runs.csv, curves.csv and ab.png or
 * sweep.png.
 *
 * defines: write_report, write_json
 * Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef REPORT_H
#define REPORT_H

#include "../src/markdown.h"
#include "../src/plot.h"
#include "figures.h"

// ---------------------------------------------------------------------------------------------------------------------
// report.md

// A number by this format; NULL: as 983.0k, 1.638M. Into a buffer of 64 bytes.
static const char *number_text(char *buffer, const char *fmt, double x) {
    int power = x >= 1e9 ? 3 : x >= 1e6 ? 2 : x >= 1e3 ? 1 : 0;
    if (!isfinite(x)) strcpy(buffer, "-");
    else if (fmt) snprintf(buffer, 64, fmt, x);
    else snprintf(buffer, 64, "%.*f%.1s", power ? power == 1 ? 1 : 3 : 0, x / pow(1e3, power), &"\0kMG"[power]);
    return buffer;
}

static void cell_sample(MarkdownTable *g, const char *fmt, double factor, Sample s, bool error) {
    char mean[64], around[64];
    number_text(mean, fmt, factor * s.mean);
    if (error && s.n > 1) markdown_cell(g, "%s ± %s", mean, number_text(around, fmt[1] == '+' ? "%.4f" : fmt, factor * s.se));
    else markdown_cell(g, "%s", mean);
}

// A cell of what a log says, whatever that is: a tab would begin another cell, a newline another row.
static void cell_text(MarkdownTable *g, const char *text) {
    char *plain = xstrdup(text);
    for (char *c = plain; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
    markdown_cell(g, "%s", plain);
    free(plain);
}

static void put_differences(FILE *out) {
    const RunList *l = &study.list;
    Flat *flat = xcalloc((size_t)l->n_arms, sizeof *flat);
    MarkdownTable g = { .columns = l->n_arms + 1 };
    markdown_cell(&g, "key");
    for (int a = 0; a < l->n_arms; a++) {
        flat[a] = flat_of(l->arms[a].resolved);
        markdown_cell(&g, "%s", l->arms[a].label);
    }
    for (int a = 0; a < l->n_arms; a++)
        for (int i = 0; i < flat[a].n; i++) {
            const char *key = flat[a].keys[i];
            bool differ = false, seen = false;
            for (int b = 0; b < l->n_arms; b++) {
                const char *value = flat_value(&flat[b], key);
                differ = differ || strcmp(value, flat_value(&flat[0], key)) != 0;
                seen = seen || (b < a && strcmp(value, "-") != 0);
            }
            if (!differ || seen || !strncmp(key, "run.", 4)) continue;
            cell_text(&g, key);
            for (int b = 0; b < l->n_arms; b++) cell_text(&g, flat_value(&flat[b], key));
        }
    markdown_end(out, &g, true);
    fputc('\n', out);
    for (int a = 0; a < l->n_arms; a++) flat_free(&flat[a]);
    free(flat);
}

static int compare_points(const void *a, const void *b) {
    double x = loss_of(*(const int *)a), y = loss_of(*(const int *)b);
    if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

// One row an arm, or a point: of random ones the best first. The last column says which seeds the means leave out.
static void put_results(FILE *out) {
    const RunList *l = &study.list;
    int *order = xmalloc((size_t)l->n_arms * sizeof *order), best = study.sweep ? best_point() : -1;
    MarkdownTable g = { .columns = FIGURES + 2 };
    for (int a = 0; a < l->n_arms; a++) order[a] = a;
    if (study.random) qsort(order, (size_t)l->n_arms, sizeof *order, compare_points);
    markdown_cell(&g, study.sweep ? "point" : "arm");
    for (int f = 0; f < FIGURES; f++) markdown_cell(&g, "%s", figures[f].title);
    markdown_cell(&g, "left out");
    for (int i = 0; i < l->n_arms; i++) {
        int a = order[i], diverged = count_state(a, RUN_DIVERGED);
        int missing = l->n_seeds - diverged - count_state(a, RUN_DONE);
        markdown_cell(&g, best >= 0 && same_runs(a, best) ? "**%s**" : "%s", l->arms[a].label);
        for (int f = 0; f < FIGURES; f++)
            cell_sample(&g, figures[f].format, figures[f].factor, figure_of(a, study.base, f), figures[f].error);
        if (diverged == l->n_seeds) markdown_cell(&g, "diverged");
        else if (diverged) markdown_cell(&g, "%d of %d diverged", diverged, l->n_seeds);
        else if (missing) markdown_cell(&g, "%d of %d not trained", missing, l->n_seeds);
        else markdown_cell(&g, "-");
    }
    markdown_end(out, &g, true);
    fputc('\n', out);
    free(order);
}

static void put_paired(FILE *out) {
    MarkdownTable g = markdown_start("arm\tdifference\t95 % interval\tt\tp\tseeds");
    for (int a = 1; a < study.list.n_arms; a++) {
        Difference d = difference_of(a);
        char text[64];
        markdown_cell(&g, "%s", study.list.arms[a].label);
        cell_sample(&g, "%+.4f", 1, d.d, true);
        if (d.d.n > 1) markdown_cell(&g, "%+.4f to %+.4f", d.low, d.high);
        else markdown_cell(&g, "-");
        markdown_cell(&g, "%s", number_text(text, "%.2f", d.t));
        markdown_cell(&g, "%s", number_text(text, "%.2g", d.p));
        markdown_cell(&g, "%d", d.d.n);
    }
    markdown_end(out, &g, true);
    fputc('\n', out);
}

static void cell_reach(MarkdownTable *g, Reach r, const char *fmt) {
    static const char *const words[] = { "at most ", "", "not reached by ", "" };
    char number[64];
    markdown_cell(g, "%s%s", words[r.beyond + 1], number_text(number, fmt, r.x));
}

static void cell_ratio(MarkdownTable *g, const ToTarget *t) {
    static const char *const marks[] = { "<= ", "", ">= ", "" };
    if (t->at.beyond == 2) markdown_cell(g, "-");
    else if (!t->interval) markdown_cell(g, "%s%.3f", marks[t->at.beyond + 1], t->at.ratio);
    else markdown_cell(g, "%s%.3f (%s%.3f to %s%.3f)", marks[t->at.beyond + 1], t->at.ratio, marks[t->low.beyond + 1],
              t->low.ratio, marks[t->high.beyond + 1], t->high.ratio);
}

// How many times fewer tokens than the first arm every other one needs to the loss at which that ends at each budget: whether a
// lead lasts where runs are longer.
static void put_leads(FILE *out) {
    const RunList *l = &study.list;
    MarkdownTable g = { .columns = l->n_budgets + 1 };
    fprintf(out, "Times fewer tokens (95 %%) to the loss at which %s ends:\n\n", l->arms[0].label);
    markdown_cell(&g, "arm");
    for (int b = 0; b < l->n_budgets; b++) markdown_cell(&g, "at budget %g", l->budgets[b]);
    for (int a = 1; a < l->n_arms; a++) {
        markdown_cell(&g, "%s", l->arms[a].label);
        for (int b = 0; b < l->n_budgets; b++) {
            ToTarget t = to_loss(a, TOKENS, NAN, b);
            cell_ratio(&g, &t);
        }
    }
    markdown_end(out, &g, true);
    fputc('\n', out);
}

static void put_budgets(FILE *out) {
    const RunList *l = &study.list;
    static const Figure shown[] = { TOKENS, SECONDS, CPU, LOSS };
    MarkdownTable g = markdown_start("arm\tbudget\ttokens\tseconds\tCPU seconds\tfinal loss");
    for (int a = 0; a < l->n_arms; a++)
        for (int b = 0; b < l->n_budgets; b++) {
            markdown_cell(&g, "%s", l->arms[a].label);
            markdown_cell(&g, "%g", l->budgets[b]);
            for (size_t k = 0; k < COUNT_OF(shown); k++)
                cell_sample(&g, figures[shown[k]].format, 1, figure_of(a, b, shown[k]), figures[shown[k]].error);
        }
    markdown_end(out, &g, true);
    fputc('\n', out);
    fprintf(out, "To a validation loss of %.4f%s:\n\n", target_loss(),
            isnan(study.target) ? ", the first arm's at budget 1" : "");
    g = markdown_start("arm\ttokens\tseconds\ttimes fewer tokens (95 %)\ttimes fewer seconds (95 %)\tseeds");
    for (int a = 0; a < l->n_arms; a++) {
        ToTarget tokens = to_target(a, TOKENS), seconds = to_target(a, SECONDS);
        markdown_cell(&g, "%s", l->arms[a].label);
        cell_reach(&g, tokens.at.b, NULL);
        cell_reach(&g, seconds.at.b, "%.1f");
        if (a == 0) { markdown_cell(&g, "1"); markdown_cell(&g, "1"); }
        else { cell_ratio(&g, &tokens); cell_ratio(&g, &seconds); }
        markdown_cell(&g, "%d", tokens.seeds);
    }
    markdown_end(out, &g, true);
    fputc('\n', out);
    put_leads(out);
    if (l->n_seeds < BOOTSTRAP_SEEDS)
        fprintf(out, "Fewer than %d seeds: no interval of the ratios can be given.\n\n", BOOTSTRAP_SEEDS);
}

static void put_best(FILE *out) {
    int best = best_point();
    if (study.all_same) fputs("No best: all points are identical to the bit.\n\n", out);
    else if (best < 0) fputs("No point came to its end with every seed.\n\n", out);
    else {
        char *label = best_label();
        fprintf(out, "Best: %s, validation loss %.4f.\n\n", label, loss_of(best));
        free(label);
    }
    for (int k = 0; k < study.n_axes; k++)
        if (study.axes[k].idle)
            fprintf(out, "**%s changes nothing here:** runs that differ only in it are identical to the bit.\n\n",
                    study.axes[k].key);
    for (int k = 0; k < study.n_axes && best >= 0; k++)
        if (edge_of(best, k))
            fprintf(out, "**Warning:** the best %s, %s, lies at the %s edge of what was tried: the optimum may lie "
                    "beyond.\n\n",
                    study.axes[k].key, study.points[best][k], edge_of(best, k) < 0 ? "lower" : "upper");
}

// Arms that are identical to the bit though their configs differ, but for what an axis without effect explains.
static void put_identical(FILE *out) {
    const RunList *l = &study.list;
    for (int a = 0; a < l->n_arms && !(study.sweep && study.all_same); a++) {
        char *others = NULL;
        bool told = false;                              // as another one's twin
        for (int b = 0; b < l->n_arms; b++) {
            bool explained = study.sweep;
            for (int k = 0; k < study.n_axes && explained; k++)
                explained = !strcmp(study.points[a][k], study.points[b][k]) || study.axes[k].idle;
            if (a == b || explained || !same_runs(a, b)) continue;
            told = told || b < a;
            append(&others, ", %s", l->arms[b].label);
        }
        if (others && !told)
            fprintf(out, "- Identical to the bit: %s%s. What differs between their configs changes nothing here.\n",
                    l->arms[a].label, others);
        free(others);
    }
}

// What part of its threads' seconds a run computed; NaN where the log doesn't say.
static double busy_of(const Run *r) {
    return r->m.of[CPU] / (r->m.of[SECONDS] * runlog_number(r->log.start, "threads"));
}

enum { BUSY_PERCENT = 90 };

/* Runs whose CPU seconds are fewer for their seconds than the busiest run's. Threads that spin while they wait don't hide
 * it: another process takes the cores they would spin on. */
static void put_waiting(FILE *out) {
    const RunList *l = &study.list;
    double most = NAN;
    char *names = NULL;
    for (int i = 0; i < l->n_runs; i++) most = fmax(most, busy_of(&l->runs[i]));
    for (int i = 0; i < l->n_runs; i++)
        if (busy_of(&l->runs[i]) < BUSY_PERCENT / 100.0 * most)
            append(&names, "%s%s (%.0f %%)", names ? ", " : "", l->runs[i].name, 100 * busy_of(&l->runs[i]));
    if (names)
        fprintf(out, "- **Seconds and CPU seconds disagree:** the busiest run's threads computed %.0f %% of the time, those of "
                     "these runs less than %d %% of that: %s. Another process ran beside them, or one thread's work kept the "
                     "others waiting; seconds don't compare, CPU seconds nearly do.\n", 100 * most, BUSY_PERCENT, names);
    free(names);
}

// What else a reader must know: other machines, programs or amounts of tokens among the runs.
static void put_notes(FILE *out) {
    static const char *const keys[] = { "cpu", "threads", "isa", "commit" };
    const RunList *l = &study.list;
    long start = ftell(out);
    if (study.notes) fputs(study.notes, out);
    for (size_t k = 0; k < COUNT_OF(keys); k++)
        for (int i = 1; i < l->n_runs; i++) {
            const cJSON *a = cJSON_GetObjectItemCaseSensitive(l->runs[0].log.start, keys[k]);
            const cJSON *b = cJSON_GetObjectItemCaseSensitive(l->runs[i].log.start, keys[k]);
            if (!a || !b || cJSON_Compare(a, b, true)) continue;
            char *first = cJSON_PrintUnformatted(a), *other = cJSON_PrintUnformatted(b);
            fprintf(out, "- The runs' \"%s\" differs, %s and %s: seconds don't compare.\n", keys[k], first, other);
            free(first);
            free(other);
            break;
        }
    for (int a = 1; a < l->n_arms; a++)
        if (fabs(figure_of(a, study.base, TOKENS).mean - figure_of(0, study.base, TOKENS).mean) > 0.5) {
            fputs("- The arms are trained on different numbers of tokens.\n", out);
            break;
        }
    put_identical(out);
    put_waiting(out);
    if (ftell(out) > start) fputc('\n', out);
}

#define WHAT_FIGURES_ARE "## What the figures are\n"
static const char what_figures_are[] = WHAT_FIGURES_ARE "\n"
    "- Each is computed from `runs/*/log.jsonl`; `build/ab report` makes this report again. ± is the standard error\n"
    "  over seeds.\n"
    "- final loss, bits per byte: of the last validation. tok/s: median over a run's steps, mean over seeds.\n"
    "- seconds: of training, by the clock. CPU seconds: of the same, what all threads together computed.\n"
    "- optimizer's share: of the time of all steps, from the gradient's norm to QK-Clip.\n"
    "- spikes: steps of a run whose loss is more than 4 standard deviations above the mean of the 50 losses before it\n"
    "  (at least 20), mean over seeds. max logit: the highest attention logit that was logged (every tenth step and\n"
    "  those that clip), over all seeds.\n";
static const char what_comparisons_are[] =
    "- difference: arm minus first arm at the same seed (same order of the data, same initial weights of the tensors\n"
    "  that both have); interval and two-sided p by Student's t over the seeds. No correction for several arms.\n"
    "- A budget is a factor of train.steps; every run is trained to the end of its own schedule. Between budgets the\n"
    "  final loss is interpolated on a straight line in the logarithm of tokens or seconds, never beyond them. Times\n"
    "  fewer: what the first arm needs over what this one needs; its interval by the bootstrap over paired seeds\n"
    "  (10,000 resamples, percentiles), which is rough for few seeds.\n";

static void put_report(FILE *out) {
    char number[32];
    const RunList *l = &study.list;
    fputs(study.sweep ? "# Sweep of" : "# Comparison of", out);
    for (int i = 0; i < (study.sweep ? study.n_axes : l->n_arms); i++)
        fprintf(out, "%s %s", i ? "," : "", study.sweep ? study.axes[i].key : l->arms[i].label);
    fprintf(out, "\n\n![Validation losses](%s)\n\n", study.sweep ? "sweep.png" : "ab.png");
    if (!study.sweep) {
        fputs("## What differs\n\n", out);
        put_differences(out);
    }
    fputs("## Results\n\nSeeds", out);
    for (int s = 0; s < l->n_seeds; s++) fprintf(out, "%s %s", s ? "," : "", json_number(number, l->seeds[s]));
    if (l->budgets[study.base] != 1) fprintf(out, "; %g of the config's steps", l->budgets[study.base]);
    fputs(".\n\n", out);
    put_results(out);
    if (study.sweep) put_best(out);
    else {
        fprintf(out, "Final loss against %s:\n\n", l->arms[0].label);
        put_paired(out);
    }
    if (l->n_budgets > 1) put_budgets(out);
    put_notes(out);
    fputs(what_figures_are, out);
    if (!study.sweep) fputs(what_comparisons_are, out);
}

// ---------------------------------------------------------------------------------------------------------------------
// report.json: the same figures

static void write_json(const char *name, cJSON *json) {
    char *path = format("%s/%s", study.list.out, name), *text = cJSON_Print(json);
    if (write_file(path, text, strlen(text)) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    cJSON_Delete(json);
    free(text);
    free(path);
}

static const char *const run_states[] = { "missing", "started", "done", "diverged" };      // in the order of RunState

static cJSON *json_sample(cJSON *parent, const char *name, Sample s) {
    cJSON *json = cJSON_AddObjectToObject(parent, name);
    cJSON_AddNumberToObject(json, "mean", s.mean);          // a NaN becomes null
    cJSON_AddNumberToObject(json, "se", s.se);
    cJSON_AddNumberToObject(json, "n", s.n);
    return json;
}

static void json_bound(cJSON *parent, const char *name, double x, int beyond) {
    static const char *const words[] = { "at most", "equal", "at least", "unknown" };
    cJSON *json = cJSON_AddObjectToObject(parent, name);
    cJSON_AddNumberToObject(json, "value", x);
    cJSON_AddStringToObject(json, "is", words[beyond + 1]);
}

static void json_to_target(cJSON *parent, const char *name, ToTarget t) {
    cJSON *json = cJSON_AddObjectToObject(parent, name);
    json_bound(json, "needs", t.at.b.x, t.at.b.beyond);
    json_bound(json, "ratio", t.at.ratio, t.at.beyond);
    if (!t.interval) return;
    json_bound(json, "low", t.low.ratio, t.low.beyond);
    json_bound(json, "high", t.high.ratio, t.high.beyond);
}

static cJSON *json_arm(int a) {
    const RunList *l = &study.list;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "label", l->arms[a].label);
    for (int f = 0; f < FIGURES; f++) json_sample(json, figures[f].key, figure_of(a, study.base, f));
    cJSON_AddNumberToObject(json, "diverged", count_state(a, RUN_DIVERGED));
    if (study.sweep) return json;
    Difference d = difference_of(a);
    cJSON *difference = json_sample(json, "difference", d.d), *budgets = cJSON_AddArrayToObject(json, "budgets");
    cJSON_AddNumberToObject(difference, "low", d.low);
    cJSON_AddNumberToObject(difference, "high", d.high);
    cJSON_AddNumberToObject(difference, "p", d.p);
    for (int b = 0; b < l->n_budgets; b++) {
        cJSON *budget = cJSON_CreateObject();
        cJSON_AddNumberToObject(budget, "budget", l->budgets[b]);
        for (int f = LOSS; f <= CPU; f++) json_sample(budget, figures[f].key, figure_of(a, b, f));
        cJSON_AddItemToArray(budgets, budget);
    }
    if (l->n_budgets < 2) return json;
    json_to_target(json, "tokens_to_target", to_target(a, TOKENS));
    json_to_target(json, "seconds_to_target", to_target(a, SECONDS));
    for (int b = 0; b < l->n_budgets; b++)
        json_to_target(cJSON_GetArrayItem(budgets, b), "tokens_to_first", to_loss(a, TOKENS, NAN, b));
    return json;
}

static void write_report_json(void) {
    const RunList *l = &study.list;
    cJSON *json = cJSON_CreateObject(), *arms = cJSON_AddArrayToObject(json, "arms"), *runs, *best;
    for (int a = 0; a < l->n_arms; a++) cJSON_AddItemToArray(arms, json_arm(a));
    if (l->n_budgets > 1) cJSON_AddNumberToObject(json, "target_loss", target_loss());
    if (study.sweep && best_point() >= 0) {
        int edges = 0;
        best = cJSON_AddObjectToObject(json, "best");
        for (int k = 0; k < study.n_axes; k++) {
            if (study.axes[k].idle) continue;
            cJSON_AddStringToObject(best, study.axes[k].key, study.points[best_point()][k]);
            edges += edge_of(best_point(), k) != 0;
        }
        cJSON_AddNumberToObject(json, "best_loss", loss_of(best_point()));
        cJSON_AddBoolToObject(json, "at_edge", edges > 0);
    }
    cJSON *idle = study.sweep ? cJSON_AddArrayToObject(json, "without_effect") : NULL;
    for (int k = 0; k < study.n_axes; k++)
        if (study.axes[k].idle) cJSON_AddItemToArray(idle, cJSON_CreateString(study.axes[k].key));
    runs = cJSON_AddArrayToObject(json, "runs");
    for (int i = 0; i < l->n_runs; i++) {
        const Run *r = &l->runs[i];
        cJSON *run = cJSON_CreateObject();
        cJSON_AddStringToObject(run, "name", r->name);
        cJSON_AddStringToObject(run, "arm", l->arms[r->arm].label);
        cJSON_AddNumberToObject(run, "seed", l->seeds[r->seed]);
        cJSON_AddNumberToObject(run, "budget", l->budgets[r->budget]);
        cJSON_AddStringToObject(run, "state", run_states[r->m.state]);
        for (int f = 0; f < FIGURES; f++) cJSON_AddNumberToObject(run, figures[f].key, r->m.of[f]);
        cJSON_AddItemToArray(runs, run);
    }
    write_json("report.json", json);
}

// A field of text: in quotes, its own ones doubled (RFC 4180).
static void put_csv_text(FILE *out, const char *text) {
    fputc('"', out);
    for (const char *c = text; *c; c++) fprintf(out, *c == '"' ? "\"\"" : "%c", *c);
    fputc('"', out);
}

// Likewise, in quotes only where it has to be.
static void put_csv_word(FILE *out, const char *text) {
    if (strpbrk(text, ",\"")) put_csv_text(out, text);
    else fputs(text, out);
}

// The first three columns of a run's lines.
static void put_run(FILE *out, const Run *r) {
    const RunList *l = &study.list;
    char seed[32], budget[32];
    put_csv_text(out, l->arms[r->arm].label);
    fprintf(out, ",%s,%s", json_number(seed, l->seeds[r->seed]),
            json_number(budget, l->budgets[r->budget]));
}

static void put_csv_number(FILE *out, double x) {
    if (isnan(x)) fputc(',', out);
    else fprintf(out, ",%.8g", x);
}

// runs.csv: a line for each run, with a sweep's keys behind the figures; what a log doesn't say is empty.
static void put_runs_csv(FILE *out) {
    const RunList *l = &study.list;
    fputs("arm,seed,budget,state", out);
    for (int f = 0; f < FIGURES; f++) fprintf(out, ",%s", figures[f].key);
    for (int k = 0; k < study.n_axes; k++) fputc(',', out), put_csv_word(out, study.axes[k].key);
    fputc('\n', out);
    for (int i = 0; i < l->n_runs; i++) {
        const Run *r = &l->runs[i];
        put_run(out, r);
        fprintf(out, ",%s", run_states[r->m.state]);
        for (int f = 0; f < FIGURES; f++) put_csv_number(out, r->m.of[f]);
        for (int k = 0; k < study.n_axes; k++) fputc(',', out), put_csv_word(out, study.points[r->arm][k]);
        fputc('\n', out);
    }
}

// curves.csv: a line for each validation of each run.
static void put_curves_csv(FILE *out) {
    const RunList *l = &study.list;
    fputs("arm,seed,budget,step,tokens,seconds,cpu_seconds,val_loss,val_bpb\n", out);
    for (int i = 0; i < l->n_runs; i++)
        for (int k = 0; k < l->runs[i].log.n_evals; k++) {
            const RunEval *e = &l->runs[i].log.evals[k];
            const double numbers[] = { e->tokens, e->train_seconds, runlog_cpu_seconds(&l->runs[i].log, e->step), e->val_loss,
                                       e->val_bpb };
            put_run(out, &l->runs[i]);
            fprintf(out, ",%ld", e->step);
            for (size_t f = 0; f < COUNT_OF(numbers); f++) put_csv_number(out, numbers[f]);
            fputc('\n', out);
        }
}

static void write_csv(const char *name, void (*put)(FILE *)) {
    char *path = format("%s/%s", study.list.out, name), *text;
    size_t size;
    FILE *out = text_open(&text, &size);
    put(out);
    text_close(out, &text);
    if (write_file(path, text, strlen(text)) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    free(text);
    free(path);
}

// ---------------------------------------------------------------------------------------------------------------------
// Pictures

// Numbers for a picture that is being drawn: they live until free_kept.
static double **kept_numbers;
static int n_kept;

static double *keep(int n) {
    kept_numbers = runlog_grow(kept_numbers, n_kept, sizeof *kept_numbers);
    return kept_numbers[n_kept++] = xcalloc((size_t)n + 1, sizeof(double));
}

static void free_kept(void) {
    for (int i = 0; i < n_kept; i++) free(kept_numbers[i]);
    free(kept_numbers);
    kept_numbers = NULL;
    n_kept = 0;
}

static void add_series(PlotPanel *p, PlotSeries s) {
    PlotSeries *all = runlog_grow((void *)p->series, p->n_series, sizeof *all);
    all[p->n_series++] = s;
    p->series = all;
}

static void draw(const char *name, const char *title, PlotPanel *panels, int n, int rows, int width, int height) {
    char *path = format("%s/%s", study.list.out, name);
    if (plot_png_small(path, title, panels, n, rows, width, height) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
    for (int p = 0; p < n; p++) free((void *)panels[p].series);
    free_kept();
}

// Mean, lowest and highest over the seeds: a band and a line.
static void add_curve(PlotPanel *p, int arm, const double *x, const double *mean, const double *lo, const double *hi,
                      int n) {
    const Arm *a = &study.list.arms[arm];
    add_series(p, (PlotSeries){ .x = x, .lo = lo, .hi = hi, .n = n, .color = a->color, .style = PLOT_BAND });
    add_series(p, (PlotSeries){ .x = x, .y = mean, .n = n, .color = a->color, .style = PLOT_LINE | PLOT_POINTS, .label = a->legend });
}

// Validation losses over tokens and over time, of the runs at budget 1 that are done (where none is, of all).
static void add_evaluations(PlotPanel *panels, int arm, double second) {
    const RunList *l = &study.list;
    int n = 0, done = count_state(arm, RUN_DONE);
    for (int s = 0; s < l->n_seeds; s++) n = (int)fmax(n, runs_at(l, arm, study.base, s)->log.n_evals);
    double *x[2] = { keep(n), keep(n) }, *mean = keep(n), *lo = keep(n), *hi = keep(n);
    for (int i = 0; i < n; i++) {
        int count = 0;
        lo[i] = INFINITY, hi[i] = -INFINITY;
        for (int s = 0; s < l->n_seeds; s++) {
            const Run *r = runs_at(l, arm, study.base, s);
            if ((done && r->m.state != RUN_DONE) || r->log.n_evals <= i) continue;
            const RunEval *e = &r->log.evals[i];
            x[0][i] += e->tokens, x[1][i] += e->train_seconds / second, mean[i] += runlog_sample_loss(e), count++;
            lo[i] = fmin(lo[i], runlog_sample_loss(e)), hi[i] = fmax(hi[i], runlog_sample_loss(e));
        }
        x[0][i] /= count, x[1][i] /= count, mean[i] /= count;
    }
    for (int p = 0; p < 2; p++) add_curve(&panels[p], arm, x[p], mean, lo, hi, n);
}

// Final losses over the budgets, and the target.
static void add_finals(PlotPanel *p, int arm, Figure what, double unit) {
    const RunList *l = &study.list;
    int n = l->n_budgets;
    double *x = keep(n), *mean = keep(n), *lo = keep(n), *hi = keep(n);
    for (int b = 0; b < n; b++) {
        lo[b] = INFINITY, hi[b] = -INFINITY;
        x[b] = figure_of(arm, b, what).mean / unit, mean[b] = figure_of(arm, b, LOSS).mean;
        for (int s = 0; s < l->n_seeds; s++) {
            double loss = runs_at(l, arm, b, s)->m.of[LOSS];
            lo[b] = fmin(lo[b], loss), hi[b] = fmax(hi[b], loss);
        }
    }
    add_curve(p, arm, x, mean, lo, hi, n);
}

// Colours by the arms' optimizers; in legends what was given as the label, or else what the arm is.
static void name_arms(void) {
    RunList *l = &study.list;
    size_t n = (size_t)l->n_arms;
    const cJSON **configs = xcalloc(n, sizeof *configs);
    const char **optimizers = xcalloc(n, sizeof *optimizers), **names = xcalloc(n, sizeof *names);
    char **legends = xcalloc(n, sizeof *legends);
    int *colors = xcalloc(n, sizeof *colors);
    for (int a = 0; a < l->n_arms; a++) {
        configs[a] = l->arms[a].resolved;
        names[a] = l->arms[a].label;
        optimizers[a] = run_optimizer(configs[a]) ? run_optimizer(configs[a]) : names[a];
    }
    run_labels(configs, names, l->n_arms, legends);
    plot_choose_colors(optimizers, l->n_arms, colors);
    for (int a = 0; a < l->n_arms; a++) {
        l->arms[a].color = colors[a];
        free(l->arms[a].legend);
        l->arms[a].legend = l->arms[a].named ? xstrdup(names[a]) : xstrdup(legends[a]);
        free(legends[a]);
    }
    free(configs), free(optimizers), free(names), free(legends), free(colors);
}

static void draw_compare(void) {
    const RunList *l = &study.list;
    const char *time;
    double longest = 0, all_longest = 0;
    for (int i = 0; i < l->n_runs; i++) {
        double seconds = runlog_seconds(&l->runs[i].log);
        all_longest = fmax(all_longest, seconds);
        if (l->runs[i].budget == study.base) longest = fmax(longest, seconds);
    }
    name_arms();
    double second = runlog_time_unit(longest, &time);
    const char *all_time;
    double all_second = runlog_time_unit(all_longest, &all_time);
    PlotPanel panels[4] = {
        { .title = "While training", .xlabel = "tokens", .ylabel = "validation loss (nats per token)", .robust = true },
        { .title = "While training", .xlabel = time, .ylabel = "validation loss (nats per token)", .robust = true },
        { .title = "After whole schedules", .xlabel = "tokens", .ylabel = "final validation loss", .xlog = true },
        { .title = "After whole schedules", .xlabel = all_time, .ylabel = "final validation loss", .xlog = true },
    };
    int n = l->n_budgets > 1 ? 4 : 2;
    for (int a = 0; a < l->n_arms; a++) {
        add_evaluations(panels, a, second);
        add_finals(&panels[2], a, TOKENS, 1);
        add_finals(&panels[3], a, SECONDS, all_second);
    }
    for (int p = 2; p < 4 && n == 4; p++) {
        double lo = INFINITY, hi = -INFINITY, *x = keep(2), *y = keep(2);
        for (int k = 0; k < panels[p].n_series; k++)
            for (int i = 0; i < panels[p].series[k].n; i++) {
                lo = fmin(lo, panels[p].series[k].x[i]);
                hi = fmax(hi, panels[p].series[k].x[i]);
            }
        x[0] = lo, x[1] = hi, y[0] = y[1] = target_loss();
        add_series(&panels[p], (PlotSeries){ .x = x, .y = y, .n = 2, .color = PLOT_GREY, .style = PLOT_DASHED,
                                             .label = "target" });
    }
    if (n == 2) for (int p = 2; p < 4; p++) { free((void *)panels[p].series); panels[p].series = NULL; }
    char *title = l->n_seeds == 1 ? format("Validation loss, seed %.0f", l->seeds[0])
                  : format("Validation loss: mean of %d seeds, band from the lowest to the highest", l->n_seeds);
    draw("ab.png", title, panels, n, n / 2, 1600, n == 4 ? 1300 : 720);
    free(title);
}

// The loss of a point, NaN where a seed diverged or isn't trained.
static double point_loss(int a) { return count_state(a, RUN_DONE) == study.list.n_seeds ? loss_of(a) : NAN; }

// Losses along one axis: of a grid at the best point's other values, of drawn points all. Diverged ones are crosses.
static void add_axis(PlotPanel *p, int axis, int best) {
    const Axis *ax = &study.axes[axis];
    const RunList *l = &study.list;
    int n = study.random ? l->n_arms : ax->n, n_bad = 0;
    double *x = keep(n), *y = keep(n), *lo = keep(n), *hi = keep(n), *bad_x = keep(n), *bad_y = keep(n);
    double top = -INFINITY, bottom = INFINITY, *at = keep(1), *least = keep(1);
    int color = plot_optimizer(run_optimizer(l->arms[0].resolved));
    if (color < 0) color = PLOT_OTHERS;
    *p = (PlotPanel){ .xlabel = ax->key, .ylabel = "final validation loss", .xlog = ax->geometric };
    if (!ax->numeric) p->xnames = (const char *const *)ax->values, p->n_xnames = ax->n;
    for (int i = 0; i < n; i++) {
        int a = study.random ? i : point_at(best < 0 ? 0 : best, axis, i, -1, 0), name = 0;
        while (!ax->numeric && strcmp(ax->values[name], study.points[a][axis]) != 0) name++;
        x[i] = ax->numeric ? atof(study.points[a][axis]) : name;
        y[i] = point_loss(a);
        lo[i] = INFINITY, hi[i] = -INFINITY;
        for (int s = 0; s < l->n_seeds; s++) {
            double loss = runs_at(l, a, study.base, s)->m.of[LOSS];
            lo[i] = fmin(lo[i], loss), hi[i] = fmax(hi[i], loss);
        }
        if (count_state(a, RUN_DIVERGED)) bad_x[n_bad++] = x[i];
        if (isnan(y[i])) continue;
        top = fmax(top, hi[i]), bottom = fmin(bottom, lo[i]);
        if (a == best) *at = x[i], *least = y[i];
    }
    for (int i = 0; i < n_bad; i++)                     // above all others
        bad_y[i] = top > bottom ? top + 0.1 * (top - bottom) : isfinite(top) ? 1.1 * top : 1;
    bool line = ax->numeric && !study.random;
    if (best >= 0)
        add_series(p, (PlotSeries){ .x = at, .y = least, .n = 1, .color = PLOT_BLACK, .style = PLOT_RING, .label = "best" });
    if (l->n_seeds > 1 && line)
        add_series(p, (PlotSeries){ .x = x, .lo = lo, .hi = hi, .n = n, .color = color, .style = PLOT_BAND,
                                    .label = "lowest to highest seed" });
    add_series(p, (PlotSeries){ .x = x, .y = y, .n = n, .color = color, .style = PLOT_POINTS | (line ? PLOT_LINE : 0),
                                .label = l->n_seeds > 1 ? "mean of the seeds" : "final loss" });
    if (n_bad)
        add_series(p, (PlotSeries){ .x = bad_x, .y = bad_y, .n = n_bad, .color = PLOT_BLACK, .style = PLOT_CROSS,
                                    .label = "diverged" });
}

static void draw_sweep(void) {
    int best = best_point(), n = 0, shown[6];
    char *label = best < 0 ? NULL : best_label();
    char *title = label ? format("Sweep: best %s, validation loss %.4f", label, loss_of(best))
                        : xstrdup(study.all_same ? "Sweep: all points are identical" : "Sweep: no point came to its end");
    free(label);
    for (int k = 0; k < study.n_axes && n < (int)COUNT_OF(shown); k++)
        if (study.axes[k].n != 1) shown[n++] = k;
    if (n == 0) shown[n++] = 0;
    if (n == 2 && !study.random) {
        const Axis *ax = &study.axes[shown[0]], *ay = &study.axes[shown[1]];
        double *values = keep(ax->n * ay->n);
        char **texts = xcalloc((size_t)(ax->n * ay->n), sizeof *texts);
        PlotHeat heat = { .values = values, .texts = (const char *const *)texts, .nx = ax->n, .ny = ay->n, .marked = -1 };
        for (int i = 0; i < ax->n * ay->n; i++) {
            int a = point_at(best < 0 ? 0 : best, shown[0], i % ax->n, shown[1], i / ax->n);
            values[i] = point_loss(a);
            texts[i] = count_state(a, RUN_DIVERGED) ? xstrdup("diverged")
                       : isnan(values[i]) ? xstrdup("-") : format("%.4f", values[i]);
            if (a == best) heat.marked = i;
        }
        PlotPanel panel = { .xlabel = ax->key, .ylabel = ay->key, .heat = &heat,
                            .xnames = (const char *const *)ax->values, .n_xnames = ax->n,
                            .ynames = (const char *const *)ay->values, .n_ynames = ay->n };
        draw("sweep.png", title, &panel, 1, 1, 1200, 780);
        free_words(texts, ax->n * ay->n);
    } else {
        PlotPanel panels[COUNT_OF(shown)];
        int rows = n > 3 ? 2 : 1;
        for (int p = 0; p < n; p++) add_axis(&panels[p], shown[p], best);
        draw("sweep.png", title, panels, n, rows, n == 1 ? 1200 : 800 * ((n - 1) / rows + 1), 720 * rows);
    }
    free(title);
}

// ---------------------------------------------------------------------------------------------------------------------
// All of it

// Reads the runs' logs, writes every file of the report into the study's folder, and prints its results.
static void write_report(void) {
    RunList *l = &study.list;
    runs_read(l);
    for (int a = 0; a < l->n_arms; a++) {               // as the trainer had it, with what was left open filled in
        const cJSON *start = runs_at(l, a, study.base, 0)->log.start;
        cJSON_Delete(l->arms[a].resolved);
        l->arms[a].resolved = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(start, "config"), true);
    }
    look_for_effects();
    char *text, *path = format("%s/report.md", l->out);
    size_t size;
    FILE *out = text_open(&text, &size);
    put_report(out);
    text_close(out, &text);
    char *first = strstr(text, "## ");
    if (write_file(path, text, strlen(text)) != 0) fail("%s: cannot be written: %s", path, strerror(errno));
    write_report_json();
    write_csv("runs.csv", put_runs_csv);
    write_csv("curves.csv", put_curves_csv);
    if (study.sweep) draw_sweep();
    else draw_compare();
    printf("\n%.*swrote %s, report.json, runs.csv, curves.csv, %s\n", (int)(strstr(text, WHAT_FIGURES_ARE) - first), first, path,
           study.sweep ? "sweep.png" : "ab.png");
    free(text);
    free(path);
}

#endif // REPORT_H

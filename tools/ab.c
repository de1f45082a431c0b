/* ab.c - trains arms against each other, or the points of a grid, and reports what the logs say.
 *
 *     build/ab configs/default_adamw.json configs/default.json --seeds="1 2 3" --budgets=0.5,1,2
 *     build/ab sweep configs/default.json --grid="optimizer.muon.lr=0.005,0.01,0.02" --extend
 *     build/ab report runs/ab-default_adamw-default
 *
 * OUT/study.json says what belongs together, OUT/runs/NAME are the runs (runs.h), and everything else in OUT is made
 * from these (figures.h, report.h): report.md, whose end says what each figure means, report.json with the same,
 * runs.csv with a line for each run, curves.csv with one for each validation, and ab.png or sweep.png.
 */
#define _GNU_SOURCE
#include "report.h"
#include "../src/flags.h"
#include "../src/run.h"         // defines: run_data_conflict
#include "../data/dataloader.h"
#include "../data/tokenizer.h"

// ---------------------------------------------------------------------------------------------------------------------
// The study

enum { EXTEND_ROUNDS = 4 };

// The words of a text between any of the separators; the list and its words are to be freed.
static char **split(const char *text, const char *separators, int *n) {
    char **words = NULL;
    for (*n = 0; *(text += strspn(text, separators)); text += strcspn(text, separators)) {
        words = runlog_grow(words, *n, sizeof *words);
        words[(*n)++] = format("%.*s", (int)strcspn(text, separators), text);
    }
    return words;
}

// The numbers of a flag, ascending, each once.
static double *numbers_of(const char *flag, const char *text, double least, bool integer, int *n) {
    char **words = split(text, ", ", n);
    double *x = xmalloc((size_t)(*n + 1) * sizeof *x);
    for (int i = 0; i < *n; i++)
        x[i] = integer ? (double)integer_of(flag, words[i], (int64_t)least, (int64_t)CONFIG_MAX_INTEGER)
                       : number_of(flag, words[i], least, CONFIG_MAX_INTEGER);
    if (*n == 0) fail_usage("%s: expected at least one number", flag);
    qsort(x, (size_t)*n, sizeof *x, compare_doubles);
    for (int i = 1; i < *n; i++)
        if (x[i] == x[i - 1]) fail_usage("%s: %g is given twice", flag, x[i]);
    free_words(words, *n);
    return x;
}

// label: becomes the arm's.
static Arm make_arm(char *label, const char *config, char **overrides, int n) {
    Arm arm = { .label = label, .config = xstrdup(config), .n_overrides = study.n_common + n };
    arm.overrides = xcalloc((size_t)(arm.n_overrides + 1), sizeof(char *));
    for (int i = 0; i < arm.n_overrides; i++)           // the arm's own last: of a key the last one counts
        arm.overrides[i] = xstrdup(i < study.n_common ? study.common[i] : overrides[i - study.n_common]);
    return arm;
}

static void add_arm(Arm arm) {
    RunList *l = &study.list;
    l->arms = runlog_grow(l->arms, l->n_arms, sizeof *l->arms);
    l->arms[l->n_arms++] = arm;
}

// [LABEL=]CONFIG.json[,--section.key=value ...]. Without a label the config's name and the overrides are it.
static void parse_arm(const char *text) {
    size_t equals = strcspn(text, "="), comma = strcspn(text, ",");
    bool named = text[equals] && equals < comma;
    const char *rest = named ? text + equals + 1 : text;
    char *copy = xstrdup(rest), **overrides = NULL;
    int n = 0;
    for (char *at = copy; (at = strstr(at, ",--")); ) {
        *at++ = '\0';
        overrides = runlog_grow(overrides, n, sizeof *overrides);
        overrides[n++] = at;
    }
    char *label = named ? format("%.*s", (int)equals, text) : runlog_name(copy), *dot = strrchr(label, '.');
    if (!named && dot && dot > label) *dot = '\0';
    for (int i = 0; i < n && !named; i++) {             // --optimizer.muon.lr=0.02 -> " lr=0.02"
        const char *key = overrides[i] + 2, *end = key + strcspn(key, "=");
        while (end > key && end[-1] != '.') end--;
        append(&label, " %s", end);
    }
    Arm arm = make_arm(label, copy, overrides, n);
    arm.named = named;
    add_arm(arm);
    free(overrides);
    free(copy);
}

// ---------------------------------------------------------------------------------------------------------------------
// Grids

static void sort_axis(Axis *a) {
    double x, previous = NAN, first = NAN;
    a->numeric = a->integer = true;
    for (int i = 0; i < a->n; i++) {
        a->numeric = a->numeric && read_number(a->values[i], &x);
        a->integer = a->integer && a->values[i][strspn(a->values[i], "0123456789")] == '\0';
    }
    for (int i = 1; i < a->n && a->numeric; i++)
        for (int j = i; j > 0 && atof(a->values[j]) < atof(a->values[j - 1]); j--) {
            char *kept = a->values[j];
            a->values[j] = a->values[j - 1];
            a->values[j - 1] = kept;
        }
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(a->values[i], a->values[j])) fail_usage("--grid: %s: %s is given twice", a->key, a->values[i]);
    // Factors that are all the same, or values that span more than a factor of three.
    a->geometric = a->numeric && a->n > 1 && atof(a->values[0]) > 0;
    for (int i = 0; i < a->n && a->geometric; i++, previous = x) {
        x = atof(a->values[i]);
        if (i == 1) first = x / previous;
        if (i > 1 && fabs(log(x / previous) / log(first) - 1) > 0.02) a->geometric = false;
    }
    if (a->numeric && a->n > 1 && atof(a->values[0]) > 0)
        a->geometric = a->geometric || atof(a->values[a->n - 1]) > 3 * atof(a->values[0]);
}

// KEY=VALUE,VALUE,... or KEY=LOW..HIGH
static void parse_axis(const char *text) {
    size_t equals = strcspn(text, "=");
    if (!text[equals] || !memchr(text, '.', equals) || !text[equals + 1])
        fail_usage("--grid: %s; expected section.key=value,value,... or section.key=low..high", text);
    study.axes = runlog_grow(study.axes, study.n_axes, sizeof *study.axes);
    Axis *a = &study.axes[study.n_axes++];
    *a = (Axis){ .key = format("%.*s", (int)equals, text), .lo = NAN, .hi = NAN };
    for (int i = 0; i < study.n_axes - 1; i++)
        if (strcmp(study.axes[i].key, a->key) == 0) fail_usage("--grid: %s is given twice", a->key);
    const char *values = text + equals + 1, *dots = strstr(values, "..");
    if (!dots) {
        a->values = split(values, ",", &a->n);
        if (a->n == 0) fail_usage("--grid: %s: no value", a->key);
        sort_axis(a);
        return;
    }
    char *low = format("%.*s", (int)(dots - values), values);
    if (!read_number(low, &a->lo) || !read_number(dots + 2, &a->hi) || !(a->lo > 0 && a->hi > a->lo))
        fail_usage("--grid: %s: %s; expected low..high with 0 < low < high", a->key, values);
    a->numeric = a->geometric = true;
    a->integer = !strpbrk(values, "eE") && a->lo == floor(a->lo) && a->hi == floor(a->hi);
    free(low);
    if (!study.random) fail_usage("--grid: %s: a range needs --random=N, the number of points to draw", a->key);
}

static char *axis_text(const Axis *a, double x) {
    return a->integer ? format("%.0f", x) : format("%.4g", x);
}

// The value of point i on an axis: of the grid's product in order (the last axis fastest), or drawn by a hash.
static char *point_value(int i, int axis) {
    const Axis *a = &study.axes[axis];
    if (!study.random) {
        for (int k = study.n_axes - 1; k > axis; k--) i /= study.axes[k].n;
        return xstrdup(a->values[i % a->n]);
    }
    uint64_t hash = hash64(hash_string(a->key), (uint64_t)i);
    if (isnan(a->lo)) return xstrdup(a->values[hash % (uint64_t)a->n]);
    return axis_text(a, a->lo * pow(a->hi / a->lo, uniform_of(hash)));
}

// The arms of a sweep, in place of those it had.
static void make_points(void) {
    RunList *l = &study.list;
    for (int i = 0; i < l->n_arms; i++) {
        free_words(study.points[i], study.n_axes);
        free(study.fingerprints[i]);
    }
    free(study.points);
    runs_remove_arms(l);
    int n = study.random ? study.random : 1;
    for (int k = 0; k < study.n_axes && !study.random; k++) {
        n *= study.axes[k].n;
        if (n > 1000) fail_usage("--grid: more than 1000 points");
    }
    study.points = xcalloc((size_t)n, sizeof *study.points);
    for (int i = 0; i < n; i++) {
        char **values = xcalloc((size_t)study.n_axes, sizeof *values), *label = xstrdup("");
        char **overrides = xcalloc((size_t)study.n_axes, sizeof *overrides);
        for (int k = 0; k < study.n_axes; k++) {
            values[k] = point_value(i, k);
            overrides[k] = format("--%s=%s", study.axes[k].key, values[k]);
            append(&label, "%s%s=%s", k ? " " : "", short_key(k), values[k]);
        }
        bool seen = false;                              // drawn twice
        for (int j = 0; j < l->n_arms && !seen; j++) seen = strcmp(l->arms[j].label, label) == 0;
        if (seen) {
            free_words(values, study.n_axes);
            free(label);
        } else {
            study.points[l->n_arms] = values;
            add_arm(make_arm(label, study.config, overrides, study.n_axes));
        }
        free_words(overrides, study.n_axes);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What may be compared

static void check_overrides(void) {
    static const char *const ours[][2] = { { "--run.seed=", "--seeds" }, { "--run.dir=", "--out" } };
    for (int a = 0; a < study.list.n_arms; a++)
        for (int i = 0; i < study.list.arms[a].n_overrides; i++)
            for (size_t k = 0; k < COUNT_OF(ours); k++) {
                const char *o = study.list.arms[a].overrides[i];
                if (!strncmp(o, ours[k][0], strlen(ours[k][0])))
                    fail_usage("%s: %s sets it for all arms", o, ours[k][1]);
            }
}

static const char *data_dir(const Arm *arm) { return config_item(arm->resolved, "data", "dir")->valuestring; }

static bool same_file(const char *a, const char *b) {
    size_t na = 0, nb = 0;
    char *ta = read_file(a, &na), *tb = read_file(b, &nb);
    bool same = ta && tb ? na == nb && memcmp(ta, tb, na) == 0 : !ta && !tb;
    free(ta);
    free(tb);
    return same;
}

// Opens an arm's data: its fingerprint as the trainer logs it, and how many tokens the last validation predicts.
static char *look_at_data(const Arm *arm, double *validated) {
    DataLoader d;
    double T = config_value(arm->resolved, "model", "context");
    double most = config_value(arm->resolved, "train", "final_eval_tokens");
    dataloader_open(&d, data_dir(arm), (int)T, INT_MAX, 1);
    char *fingerprint = format("%016llx", (unsigned long long)dataloader_fingerprint(&d));
    *validated = (double)dataloader_val_windows(&d, (uint64_t)most) * T;
    dataloader_close(&d);
    return fingerprint;
}

// Whether the rules of a comparison (--only) let this key differ: it, or the section it is in, is named.
static bool may_differ(const char *key) {
    int n;
    char **names = split(study.only ? study.only : key, ",", &n);
    bool may = false;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        may = may || (!strncmp(key, names[i], length) && (!key[length] || key[length] == '.'));
    }
    free_words(names, n);
    return may;
}

// Refuses two arms whose losses don't compare, by one line with the reason.
static void check_pair(const Arm *first, const Arm *arm, const char *data, const char *other_data, double validated,
                       double other) {
    char *ta = tokenizer_path(data_dir(first)), *tb = tokenizer_path(data_dir(arm));
    if (!same_file(ta, tb))
        fail_usage("%s and %s don't compare: other tokenizers, %s and %s", first->label, arm->label, ta, tb);
    free(ta);
    free(tb);
    if (strcmp(data, other_data) != 0)
        fail_usage("%s and %s don't compare: other data, %s has fingerprint %s and %s has %s", first->label, arm->label,
                   data_dir(first), data, data_dir(arm), other_data);
    Flat fa = flat_of(first->resolved), fb = flat_of(arm->resolved);
    bool differ = false;
    for (int i = 0; i < fa.n + fb.n; i++) {
        const char *key = i < fa.n ? fa.keys[i] : fb.keys[i - fa.n];
        const char *va = flat_value(&fa, key), *vb = flat_value(&fb, key);
        if (strcmp(va, vb) == 0 || !strncmp(key, "run.", 4)) continue;
        differ = true;
        if (!may_differ(key))
            fail_usage("%s and %s: %s is %s and %s, but only %s may differ (--only)", first->label, arm->label, key, va, vb,
                       study.only);
        if (strstr(key, "eval_tokens"))
            fail_usage("%s and %s don't compare: other validation, %s is %s and %s", first->label, arm->label, key,
                       va, vb);
    }
    if (validated != other)
        fail_usage("%s and %s don't compare: at model.context %s and %s a validation predicts %.0f and %.0f tokens; "
                   "give a train.final_eval_tokens that both contexts divide", first->label, arm->label,
                   flat_value(&fa, "model.context"), flat_value(&fb, "model.context"), validated, other);
    if (!differ) fail_usage("%s and %s are the same: no key differs", first->label, arm->label);
    flat_free(&fa);
    flat_free(&fb);
}

// Resolves the arms and refuses what can't be run or doesn't compare.
static void check_arms(void) {
    RunList *l = &study.list;
    double *validated = xcalloc((size_t)l->n_arms, sizeof *validated);
    free(study.fingerprints);
    study.fingerprints = xcalloc((size_t)l->n_arms, sizeof *study.fingerprints);
    check_overrides();
    for (int a = 0; a < l->n_arms; a++) {
        Arm *arm = &l->arms[a], *first = &l->arms[0];
        char *error = runs_resolve(l->trainer, arm), *name = safe_name(arm->label);
        if (error) fail_usage("%s", error);
        if (config_value(arm->resolved, "train", "minutes") > 0)
            fail_usage("%s: train.minutes: runs are compared at given train.steps; 0 is expected", arm->label);
        for (int b = 0; b < a; b++) {
            char *other = safe_name(l->arms[b].label);
            if (strcmp(name, other) == 0)
                fail_usage("two arms are called %s; name them: label=%s", arm->label, arm->config);
            free(other);
        }
        free(name);
        const char *same[][2] = { { "data", "dir" }, { "model", "context" }, { "train", "final_eval_tokens" } };
        bool as_first = a > 0;
        for (size_t k = 0; k < COUNT_OF(same); k++)
            as_first = as_first && cJSON_Compare(config_item(arm->resolved, same[k][0], same[k][1]),
                                                 config_item(first->resolved, same[k][0], same[k][1]), true);
        if (as_first) validated[a] = validated[0];
        study.fingerprints[a] = as_first ? xstrdup(study.fingerprints[0]) : look_at_data(arm, &validated[a]);
        for (int b = 0; b < (study.sweep && a > 1 ? 1 : a); b++)
            check_pair(&l->arms[b], arm, study.fingerprints[b], study.fingerprints[a], validated[b], validated[a]);
    }
    free(validated);
    runs_make(l);
}

// Fails where OUT is no place for runs, before anything is written there.
static void check_out(void) {
    for (int a = 0; a < study.list.n_arms; a++) {
        char *conflict = run_data_conflict(study.list.out, data_dir(&study.list.arms[a]));
        if (conflict) fail_usage("--out: %s", conflict);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The program

static void print_help(void) {
    puts("usage: ab ARM ARM [...] [flags]         train arms against each other, from the same seeds\n"
         "       ab sweep CONFIG --grid=\"...\"     train the points of a grid\n"
         "       ab report OUT                    the report of what is there, again\n"
         "ARM: [label=]CONFIG.json[,--section.key=value ...]; the first one is what the others are compared with.\n"
         "  --seeds=\"1 2 3\"          run.seed of each round (1)\n"
         "  --budgets=0.5,1,2        whole schedules of these factors of train.steps: tokens and seconds to a loss\n"
         "  --target=LOSS            that loss (the first arm's final loss at budget 1)\n"
         "  --grid=\"a.b=1,2 c.d=x,y\" axes of a sweep; with --random=N also ranges a.b=0.001..0.1, drawn in the log\n"
         "  --random=N               draw N points instead of the whole grid\n"
         "  --budget=0.5             of a sweep: this factor of train.steps\n"
         "  --extend                 of a sweep: widen the grid while the best lies at its edge\n"
         "  --out=FOLDER             (runs/ab-LABEL-LABEL, runs/sweep-CONFIG; $RUNS_DIR/... where that is set)\n"
         "  --trainer=PROGRAM        (./train_gpt)\n"
         "  --only=optimizer,a.b     sections and keys that may differ; another difference is refused\n"
         "  --section.key=value      for all arms\n"
         "Ctrl-C saves and ends; the same command goes on. What is trained already is taken as it is.");
}

// flag_value of a flag that must say something.
static const char *given(const char *argument, const char *flag) {
    const char *value = flag_value(argument, flag);
    if (value && !*value) fail_usage("%s: a value is expected", argument);
    return value;
}

// Makes the study of the command line behind the program's name.
static void parse_arguments(int argc, char **argv) {
    RunList *l = &study.list;
    const char *seeds = "1", *budgets = "1", *grid = NULL, *value, **arms = xcalloc((size_t)argc + 1, sizeof *arms);
    int n = 0;
    l->trainer = "./train_gpt";
    study.target = NAN;
    for (int i = 0; i < argc; i++) {
        char *s = argv[i];
        for (const char *c = s; *c; c++)                // labels and values become cells of tables
            if ((unsigned char)*c < ' ' || *c == 127) fail_usage("%s: has a newline, a tab or the like; expected none in an argument", s);
        if (i == 0 && strcmp(s, "sweep") == 0) study.sweep = true;
        else if (*s != '-') arms[n++] = s;
        else if ((value = given(s, "--seeds"))) seeds = value;
        else if ((value = given(s, "--out"))) { free(l->out); l->out = xstrdup(value); }
        else if ((value = given(s, "--trainer"))) l->trainer = value;
        else if (!study.sweep && (value = given(s, "--only"))) study.only = value;
        else if (!study.sweep && (value = given(s, "--budgets"))) budgets = value;
        else if (study.sweep && (value = given(s, "--budget"))) budgets = value;
        else if (!study.sweep && (value = given(s, "--target"))) study.target = number_of("--target", value, 0, 1e9);
        else if (study.sweep && (value = given(s, "--grid"))) grid = value;
        else if (study.sweep && (value = given(s, "--random"))) study.random = (int)integer_of("--random", value, 1, 1000);
        else if (study.sweep && strcmp(s, "--extend") == 0) study.extend = true;
        else if (!strncmp(s, "--", 2) && memchr(s, '.', strcspn(s, "="))) {
            study.common = runlog_grow(study.common, study.n_common, sizeof *study.common);
            study.common[study.n_common++] = xstrdup(s);
        } else fail_usage("%s: unknown flag here; --help says which there are", s);
    }
    l->seeds = numbers_of("--seeds", seeds, 0, true, &l->n_seeds);
    l->budgets = numbers_of(study.sweep ? "--budget" : "--budgets", budgets, 1e-6, false, &l->n_budgets);
    while (!study.sweep && study.base < l->n_budgets && l->budgets[study.base] != 1) study.base++;
    if (study.base == l->n_budgets)
        fail_usage("--budgets: %s; expected 1 among them, the configs' own train.steps", budgets);
    if (study.sweep) {
        if (l->n_budgets > 1) fail_usage("--budget: %s; expected one number", budgets);
        if (n != 1) fail_usage("sweep: %d configs; expected one, such as configs/default.json", n);
        if (!grid) fail_usage("sweep: expected --grid=\"section.key=value,value ...\"");
        if (study.extend && study.random) fail_usage("--extend: not with --random, whose ranges are given");
        study.config = xstrdup(arms[0]);
        char **axes = split(grid, " ", &study.n_axes);
        int n_axes = study.n_axes;
        if (n_axes == 0) fail_usage("--grid: blank; expected section.key=value,value,...");
        for (study.n_axes = 0; study.n_axes < n_axes; ) parse_axis(axes[study.n_axes]);
        free_words(axes, n_axes);
        make_points();
    } else {
        if (n < 2)
            fail_usage("expected two arms or more, such as configs/default_adamw.json configs/default.json, not %d", n);
        for (int i = 0; i < n; i++) parse_arm(arms[i]);
    }
    free(arms);
    if (l->out) return;
    char *name = study.sweep ? runlog_name(study.config) : format("%s-%s", l->arms[0].label, l->arms[1].label);
    if (study.sweep && strrchr(name, '.')) *strrchr(name, '.') = '\0';
    char *safe = safe_name(name);
    l->out = format("%s/%s-%s", runs_folder(), study.sweep ? "sweep" : "ab", safe);
    free(name);
    free(safe);
}

// OUT/study.json: the command line, with the grid as it is now.
static void save_study(int argc, char **argv) {
    cJSON *json = cJSON_CreateObject(), *arguments = cJSON_AddArrayToObject(json, "arguments");
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "--grid=", 7) != 0 || study.random)
            cJSON_AddItemToArray(arguments, cJSON_CreateString(argv[i]));
    char *grid = xstrdup("--grid=");
    for (int k = 0; k < study.n_axes && !study.random; k++, append(&grid, " "))
        for (int i = 0; i < study.axes[k].n; i++)
            append(&grid, "%s%s%s", i ? "," : study.axes[k].key, i ? "" : "=", study.axes[k].values[i]);
    if (study.sweep && !study.random) cJSON_AddItemToArray(arguments, cJSON_CreateString(grid));
    free(grid);
    write_json("study.json", json);
}

// Makes the study of OUT/study.json, and its configs of the logs.
static void load_study(const char *out) {
    char *path = format("%s/study.json", out), *text = read_file(path, NULL);
    if (!text) fail_usage("%s: %s; expected the folder of a comparison or a sweep", path, strerror(errno));
    cJSON *json = cJSON_Parse(text), *arguments = cJSON_GetObjectItemCaseSensitive(json, "arguments"), *item;
    char **words = xcalloc((size_t)cJSON_GetArraySize(arguments) + 1, sizeof *words);
    int n = 0;
    cJSON_ArrayForEach(item, arguments) words[n++] = xstrdup(cJSON_IsString(item) ? item->valuestring : "");
    if (n == 0) fail("%s: damaged: no \"arguments\"", path);
    parse_arguments(n, words);
    free(study.list.out);
    study.list.out = xstrdup(out);
    runs_make(&study.list);
    cJSON_Delete(json);
    free_words(words, n);
    free(text);
    free(path);
}

// Widens the grid by its own factor, or step, where the best lies at an edge. False where there is nothing to widen.
static bool extend_grid(void) {
    look_for_effects();
    int best = best_point();
    bool widened = false;
    for (int k = 0; k < study.n_axes && best >= 0; k++) {
        Axis *a = &study.axes[k];
        int edge = edge_of(best, k), at = edge < 0 ? 0 : a->n - 1;
        if (edge == 0 || a->closed) continue;
        double x = atof(a->values[at]), inner = atof(a->values[at - edge]);
        char *value = axis_text(a, a->geometric ? x * x / inner : 2 * x - inner);
        char *override = format("--%s=%s", a->key, value);
        Arm probe = make_arm(NULL, study.config, &override, 1);
        char *error = !strcmp(value, a->values[at]) ? xstrdup("no further integer")
                                                    : runs_resolve(study.list.trainer, &probe);
        if (error) {
            append(&study.notes, "- %s is not widened to %s: %s\n", a->key, value, error);
            a->closed = true;
            free(value);
        } else {
            printf("the best %s lies at the edge, %s: trying %s\n", a->key, a->values[at], value);
            a->values = xrealloc(a->values, (size_t)(a->n + 1) * sizeof *a->values);
            if (edge < 0) memmove(a->values + 1, a->values, (size_t)a->n * sizeof *a->values);
            a->values[edge < 0 ? 0 : a->n] = value;
            a->n++;
            widened = true;
        }
        arm_free(&probe);
        free(error);
        free(override);
    }
    if (widened) make_points();
    return widened;
}

int main(int argc, char **argv) {
    program_begin();
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return 0;
        }
    if (argc > 1 && strcmp(argv[1], "report") == 0) {
        if (argc != 3) fail_usage("report: expected one folder, such as runs/ab-default_adamw-default");
        load_study(argv[2]);
    } else {
        parse_arguments(argc - 1, argv + 1);
        check_arms();
        check_out();
        runs_begin(&study.list);
        save_study(argc - 1, argv + 1);
        runs_train(&study.list, study.fingerprints);
        for (int round = 0; study.extend && round < EXTEND_ROUNDS && extend_grid(); round++) {
            check_arms();
            save_study(argc - 1, argv + 1);
            runs_train(&study.list, study.fingerprints);
        }
    }
    write_report();
    return 0;
}

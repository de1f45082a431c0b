// test_ab.c - tests of src/stats.h against textbooks and enumeration, of the reports of tools/ab.c against logs made by
// hand and figures worked out here in another way, and of tools/runs.h with small trainings: killed, diverging, refused.
#define _GNU_SOURCE
#define main ab_main
#include "../../tools/ab.c"
#undef main
#include "test.h"
#include "tokens.h"

TEST(tables_in_markdown) {
    for (int aligned = 0; aligned < 2; aligned++) {
        MarkdownTable t = markdown_start("arm\tloss\tn");
        markdown_cell(&t, "%s\t%.2f ± %.2f", "a|b", 1.25, 0.5);
        markdown_cell(&t, "%d", 12);
        markdown_cell(&t, "%s", "longer\t\t-");
        char *text;
        size_t size;
        FILE *out = text_open(&text, &size);
        markdown_end(out, &t, aligned);
        text_close(out, &text);
        CHECK_MSG(strcmp(text, aligned ? "| arm    |        loss |   n |\n"
                                         "|--------|------------:|----:|\n"
                                         "| a\\|b   | 1.25 ± 0.50 |  12 |\n"
                                         "| longer |             |   - |\n"
                                       : "| arm | loss | n |\n|---|---|---|\n| a\\|b | 1.25 ± 0.50 | 12 |\n| longer | | - |\n") == 0, "%s", text);
        free(text);
    }
}

static bool near(double a, double b, double relative) { return fabs(a - b) <= relative * fmax(fabs(a), fabs(b)); }

// ---------------------------------------------------------------------------------------------------------------------
// Statistics

TEST(students_t_is_the_textbooks) {
    // Two-sided 5 % and 1 % points of every table of t, and 0.1 % of ten degrees of freedom.
    static const struct { double df, p, t; } table[] = {
        { 1, 0.05, 12.706 }, { 2, 0.05, 4.303 }, { 3, 0.05, 3.182 }, { 4, 0.05, 2.776 }, { 5, 0.05, 2.571 },
        { 9, 0.05, 2.262 }, { 10, 0.05, 2.228 }, { 20, 0.05, 2.086 }, { 30, 0.05, 2.042 }, { 120, 0.05, 1.980 },
        { 1, 0.01, 63.657 }, { 2, 0.01, 9.925 }, { 5, 0.01, 4.032 }, { 10, 0.01, 3.169 }, { 30, 0.01, 2.750 },
        { 10, 0.001, 4.587 }, { 1e6, 0.05, 1.960 },
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        double t = t_quantile(table[i].p, table[i].df);
        CHECK_MSG(fabs(t - table[i].t) < 6e-4, "df %g, p %g: %.5f", table[i].df, table[i].p, t);
        CHECK(near(t_two_sided(t, table[i].df), table[i].p, 1e-9));
    }
    // In closed form: 1 - 2/pi atan(t) for df 1, 1 - t / sqrt(t^2 + 2) for df 2.
    for (double t = 0.01; t < 1e4; t *= 1.7) {
        double one = 2 / M_PI * atan(1 / t), two = 2 / (sqrt(t * t + 2) * (sqrt(t * t + 2) + t));
        CHECK_MSG(near(t_two_sided(t, 1), one, 1e-11), "t %g: %g, %g", t, t_two_sided(t, 1), one);
        CHECK_MSG(near(t_two_sided(-t, 2), two, 1e-11), "t %g: %g, %g", t, t_two_sided(t, 2), two);
    }
    CHECK(t_two_sided(0, 5) == 1 && isnan(t_two_sided(NAN, 5)) && isnan(t_two_sided(1, 0)));
    CHECK(isnan(t_quantile(0.05, 0)));
}

TEST(the_incomplete_beta_function) {
    // I_x(a, 1) = x^a; I_x(1, b) = 1 - (1-x)^b; I_0.5(a, a) = 0.5
    for (double x = 0.05; x < 1; x += 0.05)
        for (double a = 0.5; a < 40; a *= 1.9) {
            CHECK(near(beta_fraction(x, a, 1), pow(x, a), 1e-12));
            CHECK(near(beta_fraction(x, 1, a), 1 - pow(1 - x, a), 1e-12));
            CHECK(near(beta_fraction(0.5, a, a), 0.5, 1e-12));
        }
    CHECK(beta_fraction(0, 2, 3) == 0 && beta_fraction(1, 2, 3) == 1);
}

TEST(means_leave_out_what_is_no_number) {
    double x[] = { 2, NAN, 4, INFINITY, 9 };
    Sample s = sample_of(x, 5), one = sample_of(x, 2), none = sample_of(x + 1, 1);
    CHECK(s.n == 3 && s.mean == 5 && near(s.sd, sqrt(13), 1e-12) && near(s.se, sqrt(13.0 / 3), 1e-12));
    CHECK(one.n == 1 && one.mean == 2 && isnan(one.se));
    CHECK(none.n == 0 && isnan(none.mean));
}

TEST(a_target_is_interpolated_never_extrapolated) {
    double log_x[] = { log(100), log(200), log(400) }, loss[] = { 3, 2, 1.5 };
    Reach r = reach_target(log_x, loss, 3, 2.5);
    CHECK(r.beyond == 0 && near(r.x, 100 * sqrt(2), 1e-12));
    r = reach_target(log_x, loss, 3, 1.75);
    CHECK(r.beyond == 0 && near(r.x, 200 * sqrt(2), 1e-12));
    r = reach_target(log_x, loss, 3, 1.5);
    CHECK(r.beyond == 0 && near(r.x, 400, 1e-12));
    r = reach_target(log_x, loss, 3, 3);
    CHECK(r.beyond == 0 && near(r.x, 100, 1e-12));
    r = reach_target(log_x, loss, 3, 3.1);
    CHECK(r.beyond == -1 && near(r.x, 100, 1e-12));
    r = reach_target(log_x, loss, 3, 1.4);
    CHECK(r.beyond == 1 && near(r.x, 400, 1e-12));
}

// What either arm needs to the other's loss, as the words of a bound.
TEST(ratios_of_bounds_are_bounds) {
    double x[] = { 100, 200 }, high[] = { 3, 2 }, low[] = { 1, 0.5 };
    Curves slow = { x, high }, fast = { x, low };
    int seed = 0;
    RatioResult r = ratio_of(&slow, &fast, 2, 1, &seed, 1, NAN, 1);      // target 2: fast had it before 100
    CHECK(r.beyond == 1 && near(r.ratio, 2, 1e-12) && r.b.beyond == -1 && r.a.beyond == 0);
    r = ratio_of(&fast, &slow, 2, 1, &seed, 1, NAN, 1);                  // target 0.5: slow never gets there
    CHECK(r.beyond == -1 && near(r.ratio, 1, 1e-12) && r.b.beyond == 1);
    r = ratio_of(&slow, &fast, 2, 1, &seed, 1, 0.1, 1);                  // neither
    CHECK(r.beyond == 2);
    r = ratio_of(&slow, &fast, 2, 1, &seed, 1, 1.5, 1);                  // one not yet, one before: at least
    CHECK(r.beyond == 1 && near(r.ratio, 2, 1e-12));
    RatioResult lo, hi;
    CHECK(!ratio_interval(&slow, &fast, 2, 1, NAN, 1, &lo, &hi));
}


TEST(the_bootstrap_is_the_enumeration_of_all_resamples) {
    enum { BUDGETS = 3, SEEDS = 3 };
    double xa[9], xb[9], la[9], lb[9];
    for (int b = 0; b < BUDGETS; b++)
        for (int s = 0; s < SEEDS; s++) {
            xa[b * SEEDS + s] = 1000 * pow(2, b) * (1 + 0.05 * s);
            xb[b * SEEDS + s] = 1300 * pow(2, b) * (1 + 0.03 * (s == 1));
            la[b * SEEDS + s] = 3 - 0.50 * b + 0.06 * s * s;
            lb[b * SEEDS + s] = 2.9 - 0.45 * b + 0.02 * s - 0.03 * (s == 1);
        }
    Curves a = { xa, la }, b = { xb, lb };
    double all[27];
    for (int k = 0; k < 27; k++) {                      // by other means: interpolation in log2, sums by hand
        int chosen[] = { k % 3, k / 3 % 3, k / 9 };
        double target = 0, needs[2] = { NAN, NAN };
        for (int i = 0; i < SEEDS; i++) target += la[1 * SEEDS + chosen[i]] / 3;
        for (int arm = 0; arm < 2; arm++) {
            double x[BUDGETS] = { 0 }, loss[BUDGETS] = { 0 };
            for (int n = 0; n < BUDGETS; n++)
                for (int i = 0; i < SEEDS; i++) {
                    x[n] += log2((arm ? xb : xa)[n * SEEDS + chosen[i]]) / 3;
                    loss[n] += (arm ? lb : la)[n * SEEDS + chosen[i]] / 3;
                }
            for (int n = 1; n < BUDGETS; n++)
                if (loss[n - 1] > target && loss[n] <= target + 1e-12)
                    needs[arm] = exp2(x[n] + (target - loss[n]) / (loss[n - 1] - loss[n]) * (x[n - 1] - x[n]));
        }
        all[k] = needs[0] / needs[1];
    }
    qsort(all, 27, sizeof *all, compare_doubles);
    RatioResult low, high;
    CHECK(ratio_interval(&a, &b, BUDGETS, SEEDS, NAN, 1, &low, &high));
    CHECK_MSG(near(low.ratio, all[(int)ceil(0.025 * 27) - 1], 1e-9), "%g, enumerated %g", low.ratio, all[0]);
    CHECK_MSG(near(high.ratio, all[(int)ceil(0.975 * 27) - 1], 1e-9), "%g, enumerated %g", high.ratio, all[26]);
    CHECK(low.beyond == 0 && high.beyond == 0 && low.ratio < high.ratio);
    // Five seeds and 3125 resamples: the ends' ranks among all of them are the quantiles, but for the draws' own noise.
    double x5[10], l5[2][10];
    for (int i = 0; i < 10; i++) {
        x5[i] = i < 5 ? 1000 : 2000;
        l5[0][i] = (i < 5 ? 3 : 2) + 0.1 * (i % 5 == 1) - 0.07 * (i % 5 == 3);
        l5[1][i] = l5[0][i] - 0.3 - 0.04 * (i % 5) * (i % 5 - 1.5);
    }
    Curves a5 = { x5, l5[0] }, b5 = { x5, l5[1] };
    CHECK(ratio_interval(&a5, &b5, 2, 5, NAN, 1, &low, &high));
    double below[2] = { 0, 0 }, up_to[2] = { 0, 0 };
    for (int k = 0; k < 3125; k++) {
        int chosen[] = { k % 5, k / 5 % 5, k / 25 % 5, k / 125 % 5, k / 625 };
        double ratio = ratio_of(&a5, &b5, 2, 5, chosen, 5, NAN, 1).ratio;
        for (int end = 0; end < 2; end++) {
            below[end] += ratio < (end ? high : low).ratio * (1 - 1e-9);
            up_to[end] += ratio < (end ? high : low).ratio * (1 + 1e-9);
        }
    }
    CHECK_MSG(below[0] / 3125 < 0.030 && up_to[0] / 3125 > 0.020, "%g to %g", below[0] / 3125, up_to[0] / 3125);
    CHECK_MSG(below[1] / 3125 < 0.980 && up_to[1] / 3125 > 0.970, "%g to %g", below[1] / 3125, up_to[1] / 3125);
    // The draws themselves: each of the 27 comes as often as it should, within 5 standard deviations of 10,000 draws.
    int counts[27] = { 0 };
    for (uint64_t k = 0; k < BOOTSTRAPS; k++)
        counts[hash64(k, 0) % 3 + 3 * (hash64(k, 1) % 3) + 9 * (hash64(k, 2) % 3)]++;
    for (int k = 0; k < 27; k++) CHECK_MSG(abs(counts[k] - BOOTSTRAPS / 27) < 95, "%d: %d", k, counts[k]);
}

TEST(spikes_stand_out_of_the_losses_before_them) {
    double loss[120];
    for (int i = 0; i < 120; i++) loss[i] = 3 + (i < 60 ? 1 : 0.01) * (i % 2 ? 1 : -1);
    CHECK(count_spikes(loss, 120) == 0);
    loss[10] = 100;                                     // too early to tell
    CHECK(count_spikes(loss, 120) == 0);
    loss[80] = 4;                                       // 1 above, where 30 of the 50 before swing by 1: not 4 sigma
    CHECK(count_spikes(loss, 120) == 0);
    loss[80] = 3.01, loss[119] = 4;                     // all of the 50 before are quiet now
    CHECK(count_spikes(loss, 120) == 1);
    loss[118] = 40;                                     // hides the next one
    CHECK(count_spikes(loss, 120) == 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Running the program in a child

typedef struct { const char *arguments[16], *out; } Call;

static void call(void *argument) {
    const Call *c = argument;
    char *argv[18] = { (char *)"ab" };
    int n = 1;
    for (; c->arguments[n - 1]; n++) argv[n] = (char *)c->arguments[n - 1];
    if (c->out && !freopen(c->out, "w", stdout)) fail("%s: %s", c->out, strerror(errno));
    int code = ab_main(n, argv);
    fflush(stdout);
    _exit(code);
}

static int run_ab(const Call *c) {
    char errors[1024];
    int code = run_child(call, (void *)c, errors, sizeof errors);
    if (*errors) printf("    %s", errors);
    return code;
}

static void put_file(const char *folder, const char *name, const char *text) {
    char *path = format("%s/%s", folder, name);
    if (write_file(path, text, strlen(text)) != 0) fail("%s: %s", path, strerror(errno));
    free(path);
}

static char *get_file(const char *folder, const char *name) {
    char *path = format("%s/%s", folder, name), *text = read_file(path, NULL);
    free(path);
    return text ? text : xstrdup("");
}

static cJSON *get_json(const char *folder, const char *name) {
    char *text = get_file(folder, name);
    cJSON *json = cJSON_Parse(text);
    free(text);
    return json;
}

static int count_words(const char *text, const char *word) {
    int n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

// The number at a path such as "arms/1/loss/mean"; NaN where there is none.
static double number_at(const cJSON *json, const char *path) {
    int n;
    char **keys = split(path, "/", &n);
    for (int i = 0; i < n; i++)
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(keys[i]))
                                   : cJSON_GetObjectItemCaseSensitive(json, keys[i]);
    free_words(keys, n);
    return cJSON_IsNumber(json) ? json->valuedouble : NAN;
}

static const char *word_at(const cJSON *json, const char *list, int i, const char *key) {
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, list), i);
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, key));
    return word ? word : "";
}

#define CHECK_NUMBER(json, path, expected)                                                                    \
    do {                                                                                                      \
        double got_ = number_at(json, path), expected_ = expected;                                            \
        CHECK_MSG(near(got_, expected_, 1e-9), "%s: %.12g, expected %.12g", path, got_, expected_);           \
    } while (0)

// ---------------------------------------------------------------------------------------------------------------------
// A comparison made by hand: 2 arms x 3 budgets x 3 seeds

enum { STEPS = 40, BATCH_TOKENS = 64 };

static double hand_loss(int arm, int budget, int seed) {
    return 3 - 0.4 * budget - arm * (0.25 + 0.02 * seed) + 0.05 * seed * (budget + 1);
}

static double hand_seconds(int arm, int budget, int seed) {
    return (1 + 0.3 * arm) * 10 * pow(2, budget) * (1 + 0.01 * seed);
}

static double hand_busy;                 // CPU milliseconds for each of a step's; 0: the log doesn't say

// One log: training losses 2 +- 0.01 with `spikes` steps far above; a step takes 10 + step % 3 ms, the optimizer's part
// 1 + arm ms.
static void hand_log(const char *folder, int arm, double val_loss, double seconds, int steps, int spikes,
                     const char *reason) {
    if (make_dirs(folder) != 0) fail("%s: %s", folder, strerror(errno));
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    fprintf(f, "{\"event\": \"start\", \"step\": 0, \"config\": {\"train\": {\"steps\": %d}, "
               "\"optimizer\": {\"name\": \"%s\"}}, \"cpu\": \"x\", \"threads\": 1, \"isa\": \"avx2\", "
               "\"params\": 1000, \"optimizer_bytes\": %d, \"data\": \"00\", "
               "\"commit\": \"%s\"}\n", steps, arm ? "muon" : "adamw", arm ? 4100 : 8000, arm ? "b" : "a");
    fprintf(f, "{\"event\": \"eval\", \"step\": 0, \"tokens\": 0, \"val_loss\": 4, \"val_bpb\": 5, "
               "\"train_seconds\": 0}\n");
    for (int s = 1; s <= steps; s++) {
        double loss = 2 + (s % 2 ? 0.01 : -0.01) + (s > steps - 2 * spikes && s % 2 ? 3 * s : 0), ms = 10 + s % 3;
        fprintf(f, "{\"event\": \"step\", \"step\": %d, \"tokens\": %d, \"loss\": %.9g, \"lr\": 0.01, "
                   "\"grad_norm\": 1, \"ms\": %g, \"optimizer_ms\": %d, \"tok_per_s\": %.1f",
                s, BATCH_TOKENS * s, loss, ms, 1 + arm, BATCH_TOKENS / ms * 1000);
        if (hand_busy > 0) fprintf(f, ", \"cpu_ms\": %.9g", hand_busy * ms);
        fputs("}\n", f);
        if (s % 10 == 0)
            fprintf(f, "{\"event\": \"qk\", \"step\": %d, \"max_logit\": [[1, %d], [2, 0]], \"clipped\": 0}\n",
                    s, s + spikes);
    }
    if (strcmp(reason, "done") == 0)
        fprintf(f, "{\"event\": \"eval\", \"step\": %d, \"tokens\": %d, \"val_loss\": %.9g, \"val_bpb\": %.9g, "
                   "\"train_seconds\": %.9g}\n", steps, BATCH_TOKENS * steps, val_loss, val_loss * 1.5, seconds);
    char number[32];
    snprintf(number, sizeof number, "%.9g", val_loss);
    fprintf(f, "{\"event\": \"end\", \"step\": %d, \"val_loss\": %s, \"train_seconds\": %.9g, \"reason\": \"%s\"}\n",
            steps, isnan(val_loss) ? "null" : number, seconds, reason);
    text_close(f, &text);
    put_file(folder, "log.jsonl", text);
    free(text);
}

TEST(every_figure_of_a_report_is_the_logs) {
    static const char *const names[][3] = { { "a-x0.5", "a", "a-x2" }, { "b-x0.5", "b", "b-x2" } };
    char *out = test_folder("ab_hand"), line[256];
    for (int arm = 0; arm < 2; arm++)
        for (int budget = 0; budget < 3; budget++)
            for (int seed = 0; seed < 3; seed++) {
                char *folder = format("%s/runs/%s-s%d", out, names[arm][budget], seed + 1);
                hand_log(folder, arm, hand_loss(arm, budget, seed), hand_seconds(arm, budget, seed),
                         (int)(STEPS * pow(2, budget - 1)), arm + (budget == 1 ? seed : 0), "done");
                free(folder);
            }
    put_file(out, "study.json",
             "{\"arguments\": [\"a=x.json\", \"b=y.json\", \"--seeds=1 2 3\", \"--budgets=0.5,1,2\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    cJSON *json = get_json(out, "report.json");
    char *md = get_file(out, "report.md");

    for (int arm = 0; arm < 2; arm++) {
        double l[3], mean = 0, squares = 0, seconds = 0, share = 0;
        for (int s = 0; s < 3; s++) {
            l[s] = hand_loss(arm, 1, s);
            mean += l[s] / 3;
            seconds += hand_seconds(arm, 1, s) / 3;
        }
        for (int s = 0; s < 3; s++) squares += pow(l[s] - mean, 2);
        char path[64];
        const struct { const char *key; double value; } expected[] = {
            { "loss/mean", mean }, { "loss/se", sqrt(squares / 2 / 3) }, { "bpb/mean", 1.5 * mean }, { "loss/n", 3 },
            { "bpb/se", 1.5 * sqrt(squares / 6) }, { "seconds/mean", seconds }, { "tokens/mean", STEPS * BATCH_TOKENS },
            { "tok_per_s/mean", round(BATCH_TOKENS / 11.0 * 1e4) / 10 },
            { "state_bytes_per_param/mean", arm ? 4.1 : 8 },
            { "spikes/mean", arm + 1 }, { "max_logit/mean", 42 + arm }, { "diverged", 0 },
        };
        for (size_t i = 0; i < COUNT_OF(expected); i++) {
            snprintf(path, sizeof path, "arms/%d/%s", arm, expected[i].key);
            CHECK_NUMBER(json, path, expected[i].value);
        }
        for (int s = 1; s <= STEPS; s++) share += 10 + s % 3;
        snprintf(path, sizeof path, "arms/%d/optimizer_share/mean", arm);
        CHECK_NUMBER(json, path, STEPS * (1.0 + arm) / share);
        snprintf(line, sizeof line, "%.4f ± %.4f", mean, sqrt(squares / 6));
        CHECK_MSG(strstr(md, line), "%s not in: %s", line, md);
    }
    // A line for each run, with the figures of its log alone.
    char *csv = get_file(out, "runs.csv");
    int lines = 0;
    for (char *c = csv; *c; c++) lines += *c == '\n';
    CHECK_MSG(lines == 1 + 2 * 3 * 3, "%d lines", lines);
    CHECK(strncmp(csv, "arm,seed,budget,state,loss,bpb,tokens,seconds,", 46) == 0);
    for (int s = 0; s < 3; s++) {
        snprintf(line, sizeof line, "\n\"b\",%d,1,done,%.8g,%.8g,%d,", s + 1, hand_loss(1, 1, s), 1.5 * hand_loss(1, 1, s),
                 STEPS * BATCH_TOKENS);
        CHECK_MSG(strstr(csv, line), "%s not in: %s", line, csv);
    }
    free(csv);
    // The paired difference: with two degrees of freedom everything has a closed form; 4.30265273 is t's 5 % point.
    double d[3], mean = 0, squares = 0;
    for (int s = 0; s < 3; s++) { d[s] = hand_loss(1, 1, s) - hand_loss(0, 1, s); mean += d[s] / 3; }
    for (int s = 0; s < 3; s++) squares += pow(d[s] - mean, 2);
    double se = sqrt(squares / 6), t = fabs(mean / se), reach = 4.302652729749465 * se;
    CHECK_NUMBER(json, "arms/1/difference/mean", mean);
    CHECK_NUMBER(json, "arms/1/difference/se", se);
    CHECK_NUMBER(json, "arms/1/difference/low", mean - reach);
    CHECK_NUMBER(json, "arms/1/difference/high", mean + reach);
    CHECK_NUMBER(json, "arms/1/difference/p", 2 / (sqrt(t * t + 2) * (sqrt(t * t + 2) + t)));
    // b's mean falls linearly in the logarithm from budget 0 on, so that what it needs has a closed form too.
    double target = (hand_loss(0, 1, 0) + hand_loss(0, 1, 1) + hand_loss(0, 1, 2)) / 3;
    double at[2] = { 0, 0 }, log_s[2] = { 0, 0 };
    for (int b = 0; b < 2; b++)
        for (int s = 0; s < 3; s++) {
            at[b] += hand_loss(1, b, s) / 3;
            log_s[b] += log(hand_seconds(1, b, s)) / 3;
        }
    double part = (at[0] - target) / (at[0] - at[1]), tokens = STEPS * BATCH_TOKENS;
    CHECK(part > 0 && part < 1);
    CHECK_NUMBER(json, "target_loss", target);
    CHECK_NUMBER(json, "arms/0/tokens_to_target/needs/value", tokens);
    CHECK_NUMBER(json, "arms/1/tokens_to_target/needs/value", tokens / 2 * pow(2, part));
    CHECK_NUMBER(json, "arms/1/tokens_to_target/ratio/value", 2 / pow(2, part));
    CHECK_NUMBER(json, "arms/1/seconds_to_target/needs/value", exp(log_s[0] + part * (log_s[1] - log_s[0])));
    // The same to where a ends at each budget: at the first one b is already below it.
    double later = (hand_loss(0, 2, 0) + hand_loss(0, 2, 1) + hand_loss(0, 2, 2)) / 3, twice = (at[0] - later) / (at[0] - at[1]);
    CHECK(twice > 0 && twice < 2);
    CHECK_NUMBER(json, "arms/1/budgets/1/tokens_to_first/ratio/value", 2 / pow(2, part));
    CHECK_NUMBER(json, "arms/1/budgets/2/tokens_to_first/ratio/value", 4 / pow(2, twice));
    CHECK_NUMBER(json, "arms/1/budgets/2/tokens_to_first/needs/value", tokens / 2 * pow(2, twice));
    CHECK(strstr(md, " at budget 0.5 |") && strstr(md, "| >= 1.000 ("));
    // With three seeds the 2.5 % and 97.5 % points are the least and the greatest of the 27 resamples.
    double least = INFINITY, greatest = 0;
    for (int k = 0; k < 27; k++) {
        int chosen[] = { k % 3, k / 3 % 3, k / 9 };
        double goal = 0, l0 = 0, l1 = 0;
        for (int i = 0; i < 3; i++) {
            goal += hand_loss(0, 1, chosen[i]) / 3;
            l0 += hand_loss(1, 0, chosen[i]) / 3;
            l1 += hand_loss(1, 1, chosen[i]) / 3;
        }
        double ratio = pow(2, 1 - (l0 - goal) / (l0 - l1));
        least = fmin(least, ratio), greatest = fmax(greatest, ratio);
    }
    CHECK_NUMBER(json, "arms/1/tokens_to_target/low/value", least);
    CHECK_NUMBER(json, "arms/1/tokens_to_target/high/value", greatest);
    snprintf(line, sizeof line, " %.3f (%.3f to %.3f) |", 2 / pow(2, part), least, greatest);
    CHECK_MSG(strstr(md, line), "%s not in: %s", line, md);
    CHECK(strstr(md, "| optimizer.name | adamw | muon |") && strstr(md, "\"commit\" differs, \"a\" and \"b\""));
    CHECK_NUMBER(json, "runs/5/seed", 1);               // the order of training: arms within budgets within seeds
    CHECK(strcmp(word_at(json, "runs", 5, "name"), "b-x2-s1") == 0);
    CHECK(strcmp(word_at(json, "runs", 6, "name"), "a-x0.5-s2") == 0);
    cJSON_Delete(json);
    free(md);
    free(out);
}

TEST(what_a_report_cannot_say_it_does_not) {
    char *out = test_folder("ab_gaps"), *folder;
    static const char *const reasons[] = { "done", "diverged", "interrupted" };
    for (int seed = 0; seed < 3; seed++) {
        folder = format("%s/runs/a-s%d", out, seed + 1);
        hand_log(folder, 0, 2 + seed, 1, STEPS, 0, "done");
        free(folder);
        folder = format("%s/runs/b-s%d", out, seed + 1);
        hand_log(folder, 1, seed == 0 ? 1.5 : NAN, 1, STEPS, 0, reasons[seed]);
        free(folder);
    }
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"b=y.json\", \"--seeds=1 2 3\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    cJSON *json = get_json(out, "report.json");
    char *md = get_file(out, "report.md");
    CHECK_NUMBER(json, "arms/1/loss/n", 1);
    CHECK_NUMBER(json, "arms/1/difference/mean", -0.5);
    CHECK(isnan(number_at(json, "arms/1/difference/p")) && isnan(number_at(json, "arms/1/difference/low")));
    CHECK_NUMBER(json, "arms/1/diverged", 1);
    CHECK(isnan(number_at(json, "target_loss")) && !strstr(md, "times fewer"));       // no ratio of a curve's middle
    CHECK(strstr(md, "1 of 3 diverged") != NULL);
    CHECK(strcmp(word_at(json, "runs", 3, "state"), "diverged") == 0);
    CHECK(strcmp(word_at(json, "runs", 5, "state"), "started") == 0);
    cJSON_Delete(json);
    free(md);
    free(out);
}

TEST(targets_out_of_reach_are_bounds) {
    char *out = test_folder("ab_bounds"), *folder;
    for (int arm = 0; arm < 3; arm++)
        for (int budget = 0; budget < 2; budget++) {
            folder = format("%s/runs/%c%s-s1", out, 'a' + arm, budget ? "" : "-x0.5");
            hand_log(folder, 1, 3 - 0.5 * budget + (arm == 1 ? 1 : arm == 2 ? -2 : 0), 1, STEPS / 2 * (1 + budget), 0,
                     "done");
            free(folder);
        }
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"b=y.json\", \"c=z.json\", \"--budgets=0.5,1\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    char *md = get_file(out, "report.md");
    CHECK(strstr(md, "not reached by 2.6k") && strstr(md, "at most 1.3k"));
    CHECK(strstr(md, "<= 1.000") && strstr(md, ">= 2.000") && strstr(md, "no interval of the ratios can be given"));
    free(md);
    free(out);
}

TEST(a_sweeps_report) {
    char *out = test_folder("ab_sweep"), *folder;
    static const char *const lrs[] = { "0.01", "0.02", "0.04", "8" }, *const batches[] = { "8", "16" };
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            folder = format("%s/runs/lr=%s-batch=%s-x0.5-s7", out, lrs[i], batches[j]);
            hand_log(folder, 1, i == 3 ? NAN : 2 + 0.1 * pow(i - 1, 2) + 0.05 * j, 1, STEPS, 0,
                     i == 3 ? "diverged" : "done");
            free(folder);
        }
    put_file(out, "study.json", "{\"arguments\": [\"sweep\", \"c.json\", \"--seeds=7\", \"--budget=0.5\", "
                                "\"--grid=o.lr=0.02,0.01,8,0.04 train.batch=8,16\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    cJSON *json = get_json(out, "report.json"), *best = cJSON_GetObjectItem(json, "best");
    char *md = get_file(out, "report.md"), *png = format("%s/sweep.png", out);
    CHECK(strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(best, "o.lr")), "0.02") == 0);
    CHECK(strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(best, "train.batch")), "8") == 0);
    CHECK_NUMBER(json, "best_loss", 2);
    CHECK(strstr(md, "**lr=0.02 batch=8**") && strstr(md, "train.batch, 8, lies at the lower edge"));
    CHECK(!strstr(md, "best o.lr"));
    CHECK(file_exists(png) && strcmp(word_at(json, "arms", 0, "label"), "lr=0.01 batch=8") == 0);
    cJSON_Delete(json);
    free(md);
    free(png);
    free(out);
}

// A sweep of o.lr, train.batch and o.beta: the loss of a point by its indices.
static void hand_sweep(const char *out, double (*loss)(int, int, int)) {
    static const char *const lrs[] = { "0.01", "0.02", "0.04" }, *const batches[] = { "8", "16" }, *const betas[] = { "0.8", "0.9" };
    for (int i = 0; i < 12; i++) {
        char *folder = format("%s/runs/lr=%s-batch=%s-beta=%s-s1", out, lrs[i / 4], batches[i / 2 % 2], betas[i % 2]);
        hand_log(folder, 1, loss(i / 4, i / 2 % 2, i % 2), 1, STEPS, 0, "done");
        free(folder);
    }
    put_file(out, "study.json", "{\"arguments\": [\"sweep\", \"c.json\", "
                                "\"--grid=o.lr=0.01,0.02,0.04 train.batch=8,16 o.beta=0.8,0.9\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
}

static double without_beta(int lr, int batch, int beta) { return 2 + 0.1 * lr + 0.05 * batch + 0 * beta; }
static double without_any(int lr, int batch, int beta) { return 2 + 0 * (lr + batch + beta); }
static double without_much(int lr, int batch, int beta) { return 2 + 0.1 * (lr == 1) + 0.05 * batch * beta; }

// An axis that changes nothing is named, and no best is found among points that are the same.
TEST(a_sweep_says_what_changes_nothing) {
    char *out = test_folder("ab_idle");
    hand_sweep(out, without_beta);
    char *md = get_file(out, "report.md"), *csv = get_file(out, "runs.csv");
    cJSON *json = get_json(out, "report.json"), *best = cJSON_GetObjectItem(json, "best");
    CHECK(strstr(md, "**o.beta changes nothing here:** runs that differ only in it are identical to the bit."));
    CHECK(!strstr(md, "o.lr changes nothing") && !strstr(md, "train.batch changes nothing") && !strstr(md, "- Identical"));
    CHECK_MSG(strstr(md, "\nBest: lr=0.01 batch=8, validation loss 2.0000.\n"), "%s", md);
    CHECK(strstr(md, "| **lr=0.01 batch=8 beta=0.8** ") && strstr(md, "| **lr=0.01 batch=8 beta=0.9** "));
    CHECK(strstr(md, "the best o.lr, 0.01, lies at the lower edge") && !strstr(md, "the best o.beta"));
    CHECK(cJSON_GetObjectItem(best, "o.lr") && !cJSON_GetObjectItem(best, "o.beta"));
    cJSON *idle = cJSON_GetObjectItem(json, "without_effect");
    CHECK(cJSON_GetArraySize(idle) == 1 && !strcmp(cJSON_GetStringValue(cJSON_GetArrayItem(idle, 0)), "o.beta"));
    // A column for each key of the grid.
    CHECK_MSG(strstr(csv, ",max_logit,o.lr,train.batch,o.beta\n"), "%s", csv);
    CHECK(strstr(csv, "\n\"lr=0.04 batch=16 beta=0.9\",1,1,done,2.25,") && strstr(csv, ",0.04,16,0.9\n"));
    cJSON_Delete(json);
    free(md), free(csv), free(out);

    out = test_folder("ab_idle");
    hand_sweep(out, without_any);
    md = get_file(out, "report.md");
    json = get_json(out, "report.json");
    CHECK(strstr(md, "No best: all points are identical to the bit.") && !strstr(md, "Best: ") && !strstr(md, "Warning"));
    CHECK(strstr(md, "**o.lr changes nothing") && strstr(md, "**train.batch changes nothing") && !strstr(md, "| **lr="));
    CHECK(!cJSON_GetObjectItem(json, "best") && cJSON_GetArraySize(cJSON_GetObjectItem(json, "without_effect")) == 3);
    cJSON_Delete(json);
    free(md), free(out);

    out = test_folder("ab_idle");                       // some values of some axes do
    hand_sweep(out, without_much);
    md = get_file(out, "report.md");
    CHECK(!strstr(md, "changes nothing here:**"));
    CHECK_MSG(strstr(md, "- Identical to the bit: lr=0.01 batch=8 beta=0.8, lr=0.01 batch=8 beta=0.9, lr=0.01 batch=16 beta=0.8, "
                         "lr=0.04 batch=8 beta=0.8,"), "%s", md);
    free(md), free(out);
}

TEST(identical_arms_are_told) {
    char *out = test_folder("ab_same");
    for (int arm = 0; arm < 3; arm++)
        for (int seed = 1; seed < 3; seed++) {
            char *folder = format("%s/runs/%c-s%d", out, 'a' + arm, seed);
            hand_log(folder, 1, 2 + 0.1 * seed + (arm == 1 && seed == 2 ? 1e-8 : 0), 1, STEPS, 0, "done");
            free(folder);
        }
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"b=y.json\", \"c=z.json\", \"--seeds=1 2\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    char *md = get_file(out, "report.md");
    CHECK_MSG(strstr(md, "- Identical to the bit: a, c. What differs between their configs changes nothing here.\n"), "%s", md);
    free(md), free(out);
}

// CPU seconds stand beside the clock's, in every table; runs that the machine was shared with are named.
// A label may have any character that is printed; in a CSV its quotes are doubled, and so are those of a sweep's values.
TEST(labels_with_quotes_are_csv) {
    char *out = test_folder("ab_quotes"), label[] = "say \"hi\"";
    for (int arm = 0; arm < 2; arm++) {
        char *name = safe_name(arm ? label : "a"), *folder = format("%s/runs/%s-s1", out, name);
        hand_log(folder, arm, 2, 1, STEPS, 0, "done");
        free(name), free(folder);
    }
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"say \\\"hi\\\"=y.json\", \"--seeds=1\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    static const char *const files[] = { "runs.csv", "curves.csv" };
    for (int i = 0; i < 2; i++) {
        char *csv = get_file(out, files[i]);
        CHECK_MSG(strstr(csv, "\n\"say \"\"hi\"\"\",1,1,") && strstr(csv, "\n\"a\",1,1,"), "%s", csv);
        for (char *line = csv; *line; line = strchr(line, '\n') + 1) {          // as many fields as the head has
            int fields = 0, head = 0;
            for (char *c = csv; *c != '\n'; c++) head += *c == ',';
            for (char *c = line, quoted = 0; quoted || *c != '\n'; c++) { quoted ^= *c == '"'; fields += !quoted && *c == ','; }
            CHECK_MSG(fields == head, "%d fields instead of %d: %s", fields, head, line);
        }
        free(csv);
    }
    free(out);
}

TEST(a_sweeps_words_are_csv) {
    char *out = test_folder("ab_words");
    put_file(out, "study.json", "{\"arguments\": [\"sweep\", \"c.json\", \"--grid=o.a,b=x\\\"y,z\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    char *csv = get_file(out, "runs.csv");
    CHECK_MSG(strstr(csv, ",max_logit,\"o.a,b\"\n") && strstr(csv, ",\"x\"\"y\"\n") && strstr(csv, ",z\n"), "%s", csv);
    free(csv), free(out);
}

// What a log says of a config, in a table's cells: a tab or a newline would begin others.
TEST(configs_stay_in_their_cells) {
    char *out = test_folder("ab_cells"), *runs[2] = { format("%s/runs/a-s1", out), format("%s/runs/b-s1", out) };
    for (int i = 0; i < 2; i++) {
        hand_log(runs[i], i, 2, 1, STEPS, 0, "done");
        char *log = get_file(runs[i], "log.jsonl"), *config = strstr(log, "\"config\": {");
        CHECK(config != NULL);
        if (config) config += strlen("\"config\": {");
        char *other = format("%.*s\"x\": {\"o\\ty\": \"%d\\n|\\t3\"}, %s", (int)(config ? config - log : 0), log, i, config ? config : "");
        put_file(runs[i], "log.jsonl", other);
        free(log), free(other), free(runs[i]);
    }
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"b=y.json\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    char *md = get_file(out, "report.md");
    CHECK_MSG(strstr(md, "\n| x.o y ") && strstr(md, "| 0 \\| 3 | 1 \\| 3 |\n"), "%s", md);
    free(md), free(out);
}

// A study.json that a hand or a fault has made gets one line, as a command does.
TEST(what_no_study_can_be_is_refused) {
    char *out = test_folder("ab_hand"), *many = xstrdup("--seeds=1"), number[16];
    for (int i = 2; i <= 400; i++) {
        snprintf(number, sizeof number, " %d", i);
        char *more = format("%s%s", many, number);
        free(many);
        many = more;
    }
    char *thousand = format("\"sweep\", \"c.json\", \"--grid=a.b=0.5..900\", \"--random=1000\", \"%s\"]}", many);
    const struct { const char *arguments, *words; int code; } cases[] = {
        { "\"a\\tb=x.json\", \"b=y.json\"]}", "a b=x.json: has a newline, a tab or the like; expected none in an argument", EXIT_USAGE },
        { "\"a=x.json\", \"b=y.json\", \"--new\\nline\"]}", "--new line: has a newline, a tab or the like", EXIT_USAGE },
        { "\"sweep\", \"c.json\", \"--grid= \"]}", "--grid: blank; expected section.key=value,value,...", EXIT_USAGE },
        { thousand, " arms, 1 budgets and 400 seeds: expected 100000 runs at most", EXIT_USAGE },
        { "]}", "/study.json: damaged: no \"arguments\"", EXIT_FAILED },
        { "\"a.json\"", "/study.json: damaged: no \"arguments\"", EXIT_FAILED },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = format("{\"arguments\": [%s", cases[i].arguments);
        put_file(out, "study.json", text);
        CHECK_FAILS(call, (&(Call){ { "report", out }, NULL }), cases[i].code, cases[i].words);
        free(text);
    }
    free(many), free(thousand), free(out);
}

TEST(cpu_seconds_and_curves) {
    char *out = test_folder("ab_cpu"), line[256];
    for (int arm = 0; arm < 2; arm++)
        for (int seed = 1; seed < 3; seed++) {
            char *folder = format("%s/runs/%c-s%d", out, 'a' + arm, seed);
            double seconds = 0;
            for (int s = 1; s <= STEPS; s++) seconds += (10 + s % 3) / 1000.0;
            hand_busy = arm == 1 && seed == 2 ? 0.6 : 0.95;         // a thread that waited for another process
            hand_log(folder, arm, 3 - arm, seconds, STEPS, 0, "done");
            free(folder);
        }
    hand_busy = 0;
    put_file(out, "study.json", "{\"arguments\": [\"a=x.json\", \"b=y.json\", \"--seeds=1 2\"]}");
    CHECK(run_ab(&(Call){ { "report", out }, NULL }) == 0);
    char *md = get_file(out, "report.md"), *curves = get_file(out, "curves.csv"), *csv = get_file(out, "runs.csv");
    cJSON *json = get_json(out, "report.json");
    double all = 0;
    for (int s = 1; s <= STEPS; s++) all += (10 + s % 3) / 1000.0;
    CHECK_NUMBER(json, "arms/0/cpu_seconds/mean", 0.95 * all);
    CHECK_NUMBER(json, "arms/1/cpu_seconds/mean", (0.95 + 0.6) / 2 * all);
    CHECK_NUMBER(json, "runs/3/cpu_seconds", 0.6 * all);
    CHECK(strstr(md, "CPU seconds |") && strstr(csv, ",seconds,cpu_seconds,"));
    CHECK_MSG(strstr(md, "computed 95 % of the time") && strstr(md, ": b-s2 (60 %). Another process"), "%s", md);
    CHECK(!strstr(md, "b-s1 (") && !strstr(md, "a-s"));
    CHECK(strncmp(curves, "arm,seed,budget,step,tokens,seconds,cpu_seconds,val_loss,val_bpb\n\"a\",1,1,0,0,0,0,4,5\n", 84) == 0);
    CHECK_MSG(count_words(curves, "\n") == 1 + 2 * 2 * 2, "%s", curves);
    snprintf(line, sizeof line, "\n\"b\",2,1,%d,%d,%.8g,%.8g,2,3\n", STEPS, STEPS * BATCH_TOKENS, all, 0.6 * all);
    CHECK_MSG(strstr(curves, line), "%s not in: %s", line, curves);
    cJSON_Delete(json);
    free(md), free(curves), free(csv), free(out);
}

TEST(random_points_lie_in_their_range) {
    memset(&study, 0, sizeof study);
    study.random = 400;
    parse_axis("o.lr=0.001..0.1");
    parse_axis("train.batch=2..64");
    parse_axis("o.name=a,b");
    int low = 0, named = 0;
    for (int i = 0; i < study.random; i++) {
        char *lr = point_value(i, 0), *batch = point_value(i, 1), *name = point_value(i, 2), *again = point_value(i, 0);
        CHECK(atof(lr) >= 0.001 && atof(lr) <= 0.1 && strlen(lr) <= 8 && strcmp(lr, again) == 0);
        CHECK(!strchr(batch, '.') && atoi(batch) >= 2 && atoi(batch) <= 64);
        low += atof(lr) < 0.01;                         // half of them: log-uniform
        named += name[0] == 'a';
        free(lr), free(batch), free(name), free(again);
    }
    CHECK_MSG(abs(low - 200) < 50 && abs(named - 200) < 50, "%d, %d", low, named);
    for (int k = 0; k < 3; k++) { free(study.axes[k].key); free_words(study.axes[k].values, study.axes[k].n); }
    free(study.axes);
    memset(&study, 0, sizeof study);
}

// ---------------------------------------------------------------------------------------------------------------------
// Small trainings

#define ROOT "build/test/ab_runs"

// The lab's verdicts (dev/exp/lab.sh) on runs written by hand: differences -0.5, -0.6, -0.4 of b and +0.3, -0.2, +0.2 of
// c against a, whose standard errors are 0.0577 and 0.1528.
TEST(the_labs_verdicts) {
    if (make_dirs(ROOT "/lab") != 0) fail(ROOT "/lab: %s", strerror(errno));
    put_file(ROOT "/lab", "runs.csv",
             "arm,seed,budget,state,loss,bpb,seconds\n"
             "\"a\",1,1,done,2.0,3,10\n\"b\",1,1,done,1.5,3,20\n\"c c\",1,1,done,2.3,3,30\n"
             "\"a\",2,1,done,2.3,3,11\n\"b\",2,1,done,1.7,3,20\n\"c c\",2,1,done,2.1,3,30\n"
             "\"a\",3,1,done,2.3,3,12\n\"b\",3,1,done,1.9,3,20\n\"c c\",3,1,done,2.5,3,30\n"
             "\"a\",4,1,done,9.0,3,10\n\"b\",4,1,diverged,,,\n");
    put_file(ROOT "/lab", "script.sh",
             "BUILD=. QUICK= OUT=.\n. dev/exp/lab.sh\nlab_csv=" ROOT "/lab/runs.csv\n"
             "lab_losses b; lab_losses a seconds; lab_effect b a; lab_effect 'c c' a; lab_losses d; lab_table | tail -n 2\n"
             "lab_effect b a | lab_point 7; lab_arms_of | head -n 2 | lab_points\n"
             "lab_must 'one is less than two' 1 '<' 2\nlab_must 'two is less than one' 2 '<' '1 + 0'\necho never\n");
    CHECK(system("bash " ROOT "/lab/script.sh > " ROOT "/lab/out.txt 2>&1") != 0);
    char *said = get_file(ROOT "/lab", "out.txt");
    const char *expected =
        "1.70000000 0.11547005 3\n10.75000000 0.47871355 4\n-0.50000000 0.05773503 lower\n0.10000000 0.15275252 inconclusive\nnan nan 0\n"
        "| b | 1.7000 ± 0.1155 | -0.5000 ± 0.0577, lower | 3 | 1 |\n"
        "| c c | 2.3000 ± 0.1155 | +0.1000 ± 0.1528, inconclusive | 3 | 0 |\n"
        "7 -0.50000000 -0.557735 -0.442265\n"
        "names a|b\npoints\n0 3.90000000 2.19853 5.60147\n1 1.70000000 1.58453 1.81547\n"
        "holds: one is less than two (1 < 2)\n"
        "error: an expected result was missed: two is less than one (2 < 1 + 0 doesn't hold)\n";
    CHECK_MSG(strcmp(said, expected) == 0, "%s", said);
    free(said);
}
static char *trainer;

static void make_data(const char *folder, unsigned step, bool tokenizer) {
    enum { N = 4096 };
    static uint32_t ids[N];
    for (unsigned i = 0; i < N; i++) ids[i] = 'a' + (i * i / 7 + step * i) % 23;
    char *train = format("%s/train.bin", folder), *val = format("%s/val.bin", folder);
    char *path = format("%s/tokenizer.bin", folder);
    if (make_dirs(folder) || shard_write(train, ids, N, 256) || shard_write(val, ids, 600, 256))
        fail("%s: %s", folder, strerror(errno));
    Tokenizer t;
    tokenizer_bytes(&t);
    if (tokenizer && tokenizer_save(&t, path) != 0) fail("%s: %s", path, strerror(errno));
    tokenizer_free(&t);
    free(train);
    free(val);
    free(path);
}

static void make_world(void) {
    free(test_folder("ab_runs"));
    trainer = format("--trainer=%s", getenv("TRAINER") ? getenv("TRAINER") : "./train_gpt");
    make_data(ROOT "/data", 0, true);
    make_data(ROOT "/other", 1, true);
    make_data(ROOT "/bare", 0, false);
    static const char config[] =
        "{\"data\": {\"dir\": \"" ROOT "/data\"}, "
        "\"model\": {\"layers\": 1, \"heads\": 2, \"width\": 16, \"context\": 16, \"vocab\": 256}, "
        "\"train\": {\"steps\": 6, \"batch\": 2, \"eval_every\": 3, \"eval_tokens\": 256, \"final_eval_tokens\": 256, \"save_every\": 0}, "
        "\"optimizer\": {\"name\": \"%s\"}}\n";
    char *a = format(config, "adamw"), *b = format(config, "muon");
    put_file(ROOT, "a.json", a);
    put_file(ROOT, "b.json", b);
    free(a);
    free(b);
}

#define ARMS ROOT "/a.json", ROOT "/b.json"

TEST(what_does_not_compare_is_refused) {
    static const struct { const char *arm, *flag, *words; } cases[] = {
        { "x=" ROOT "/a.json", "--seeds=1", "a and x are the same: no key differs" },
        { "x=" ROOT "/b.json,--data.dir=" ROOT "/other", "--seeds=1", "other data" },
        { "x=" ROOT "/b.json,--data.dir=" ROOT "/bare", "--seeds=1", "other tokenizers" },
        { "x=" ROOT "/b.json,--train.eval_tokens=128", "--seeds=1", "train.eval_tokens is 256 and 128" },
        { "x=" ROOT "/b.json,--train.final_eval_tokens=128", "--seeds=1", "train.final_eval_tokens is 256 and 128" },
        { "x=" ROOT "/b.json,--model.context=24", "--seeds=1", "16 and 24 a validation predicts 256 and 240" },
        { "x=" ROOT "/b.json,--train.stepz=1", "--seeds=1", "did you mean" },
        { "x=" ROOT "/b.json,--model.block=16,--train.stepz=1", "--seeds=1", "did you mean" },        // behind a note
        { "x=" ROOT "/none.json", "--seeds=1", "none.json" },
        { "a=" ROOT "/b.json", "--seeds=1", "two arms are called a" },
        { ROOT "/b.json", "--run.seed=3", "--seeds sets it" },
        { ROOT "/b.json", "--seeds=1 x", "--seeds=x: an integer from 0 to 9007199254740992 expected" },
        { ROOT "/b.json", "--seeds=1 1", "given twice" },
        { ROOT "/b.json", "--budgets=0.5,2", "expected 1 among them" },
        { ROOT "/b.json", "--extend", "unknown flag" },
        { ROOT "/b.json", "--only=", "--only=: a value is expected" },
        { ROOT "/b.json", "--target=low", "--target=low: a number from 0" },
        { "x=" ROOT "/b.json,--train.batch=8", "--only=optimizer,train.batc", "train.batch is" },
        { "x=" ROOT "/b.json,--model.dropout=0.1", "--only=optimizer,train.batch", "only optimizer,train.batch may differ" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Call c = { { ROOT "/a.json", cases[i].arm, cases[i].flag, "--out=" ROOT "/refused", trainer }, NULL };
        CHECK_FAILS(call, &c, 2, cases[i].words);
    }
    CHECK(!file_exists(ROOT "/refused"));
    static const struct { const char *grid, *flag, *words; } sweeps[] = {
        { "--grid=o.lr=0.1..1", "--seeds=1", "needs --random" }, { "--grid=lr=1", "--seeds=1", "expected section.key" },
        { "--grid=train.batch=2,2", "--seeds=1", "given twice" },
        { "--grid=train.batch=2 model.unheard_of=1", "--seeds=1", "unknown key" },
        { "--grid=o.lr=3..1", "--random=4", "low < high" }, { "--grid=o.lr=1", "--random=0", "--random=0: an integer from 1 to 1000 expected" },
    };
    for (size_t i = 0; i < COUNT_OF(sweeps); i++) {
        Call c = { { "sweep", ROOT "/a.json", sweeps[i].grid, sweeps[i].flag, "--out=" ROOT "/refused", trainer },
                   NULL };
        CHECK_FAILS(call, &c, 2, sweeps[i].words);
    }
    // A study in a data folder: an arm's, any other, one that `make data` would replace with it.
    static const struct { const char *out, *words; } places[] = {
        { "--out=" ROOT "/data", "--out: " ROOT "/data is a data folder" }, { "--out=" ROOT "/bare", ROOT "/bare is a data folder" },
        { "--out=" ROOT "/data/in/it", "in/it lies in the data folder" }, { "--out=" ROOT, ROOT " holds the data folder" },
    };
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        CHECK_FAILS(call, (&(Call){ { ARMS, places[i].out, trainer }, NULL }), 2, places[i].words);
        CHECK_FAILS(call, (&(Call){ { "sweep", ROOT "/a.json", "--grid=train.batch=2,4", places[i].out, trainer }, NULL }), 2, places[i].words);
    }
    static const char *const written[] = { ROOT "/data/study.json", ROOT "/data/runs", ROOT "/data/in", ROOT "/bare/study.json",
                                           ROOT "/bare/runs", ROOT "/study.json", ROOT "/runs" };
    for (size_t i = 0; i < COUNT_OF(written); i++) CHECK_MSG(!file_exists(written[i]), "%s is written", written[i]);
    CHECK_FAILS(call, (&(Call){ { "report", ROOT "/refused" }, NULL }), 2, "expected the folder of a comparison");
}

TEST(another_context_with_the_same_validation_compares) {
    Call c = { { ROOT "/a.json", "x=" ROOT "/a.json,--model.context=32", "--out=" ROOT "/context", "--train.steps=2",
                 trainer }, NULL };
    CHECK(run_ab(&c) == 0);
}

TEST(a_diverging_arm_is_a_row) {
    Call c = { { ROOT "/a.json", "wild=" ROOT "/b.json,--optimizer.muon.lr=1e6,--optimizer.adamw.lr=1e6",
                 "--out=" ROOT "/wild", "--train.steps=12", trainer }, NULL };
    CHECK(run_ab(&c) == 0);
    cJSON *json = get_json(ROOT "/wild", "report.json");
    char *md = get_file(ROOT "/wild", "report.md");
    CHECK(strcmp(word_at(json, "runs", 1, "state"), "diverged") == 0 && strstr(md, "| diverged |"));
    CHECK(isfinite(number_at(json, "arms/0/loss/mean")) && isnan(number_at(json, "arms/1/loss/mean")));
    cJSON_Delete(json);
    free(md);
}

TEST(a_failing_run_stops_everything) {
    make_data(ROOT "/short", 0, true);
    put_file(ROOT "/short", "train.bin", "no shard");
    Call c = { { ARMS, "--out=" ROOT "/failing", "--data.dir=" ROOT "/short", trainer }, NULL };
    CHECK_FAILS(call, &c, 1, "no training shard holds");
    Call d = { { ARMS, "--out=" ROOT "/failing", "--model.vocab=50", trainer }, NULL };
    CHECK_FAILS(call, &d, 1, "a-s1: exit code 1: ");
}

// A log as it stands: nothing may touch it again.
static char *log_of(const char *out, const char *run) {
    char *path = format("%s/runs/%s", out, run), *text = get_file(path, "log.jsonl");
    free(path);
    return text;
}

// Starts a comparison of four runs and sends its process group a signal while the second one trains. Its exit code.
static int break_off(const Call *c, const char *out, int number) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        call((void *)c);
    }
    for (double start = seconds_now(); seconds_now() - start < 60; usleep(1000)) {
        char *log = log_of(out, "b-s1");
        bool trains = count_words(log, "{\"event\": \"step\"") > 20;
        free(log);
        if (trains) break;
    }
    kill(-pid, number);                                 // not to the trainer, which has a group of its own
    int status = 0;
    waitpid(pid, &status, 0);
    return exit_code(status);
}

TEST(killed_and_interrupted_comparisons_go_on) {
    static const int signals[] = { SIGKILL, SIGTERM };
    static const char *const outs[] = { ROOT "/killed", ROOT "/interrupted" };
    Call whole = { { ARMS, "--out=" ROOT "/whole", "--train.steps=200", "--train.eval_every=0", "--seeds=1 2",
                     trainer }, NULL };
    CHECK(run_ab(&whole) == 0);
    cJSON *expected = get_json(ROOT "/whole", "report.json");
    for (int k = 0; k < 2; k++) {
        char *flag = format("--out=%s", outs[k]);
        Call c = { { ARMS, flag, "--train.steps=200", "--train.eval_every=0", "--seeds=1 2", trainer }, NULL };
        int code = break_off(&c, outs[k], signals[k]);
        CHECK_MSG(code == (k ? EXIT_INTERRUPTED : 128 + SIGKILL), "exit code %d", code);
        char *first = log_of(outs[k], "a-s1");
        CHECK(count_words(first, "\"reason\": \"done\"") == 1);
        CHECK(run_ab(&c) == 0);
        char *again = log_of(outs[k], "a-s1"), *second = log_of(outs[k], "b-s1");
        CHECK(strcmp(first, again) == 0);               // taken as it was
        CHECK(count_words(second, "\"event\": \"start\"") == 2 && count_words(second, "{\"event\": \"step\"") == 200);
        cJSON *json = get_json(outs[k], "report.json");
        static const char *const paths[] = {
            "arms/0/loss/mean", "arms/1/loss/mean", "arms/1/loss/se", "arms/1/difference/mean", "arms/1/difference/p",
            "arms/0/bpb/mean", "arms/1/max_logit/mean", "arms/0/spikes/mean", "runs/1/loss", "runs/2/loss",
            "runs/3/loss", "runs/1/tokens",
        };
        for (size_t i = 0; i < COUNT_OF(paths); i++)
            CHECK_MSG(number_at(json, paths[i]) == number_at(expected, paths[i]), "%s: %.17g, %.17g", paths[i],
                      number_at(json, paths[i]), number_at(expected, paths[i]));
        cJSON_Delete(json);
        free(first), free(again), free(second), free(flag);
    }
    cJSON_Delete(expected);
}

TEST(a_changed_config_is_made_anew_the_rest_is_kept) {
    Call c = { { ARMS, "--out=" ROOT "/changed", trainer }, ROOT "/said.txt" };
    CHECK(run_ab(&c) == 0);
    c.arguments[1] = "b=" ROOT "/b.json,--optimizer.muon.lr=0.03";
    CHECK(run_ab(&c) == 0);
    char *said = get_file(ROOT, "said.txt");
    CHECK_MSG(strstr(said, "b-s1: made anew: optimizer.muon.lr was 0.02 and is 0.03"), "%s", said);
    CHECK(strstr(said, "1 of 2 runs are there already") != NULL);
    free(said);
    make_data(ROOT "/data", 2, true);                   // other data under the same name
    CHECK(run_ab(&c) == 0);
    said = get_file(ROOT, "said.txt");
    CHECK(strstr(said, "a-s1: made anew: the data is another") && strstr(said, "b-s1: made anew: the data is another"));
    free(said);
    make_data(ROOT "/data", 0, true);
    put_file(ROOT "/changed/runs/a-s1", "log.jsonl", "nonsense\n");
    CHECK_FAILS(call, &c, 1, "log.jsonl:1: not a line of a run's log");
}

TEST(the_cost_is_said_first) {
    // Few steps: no time, which would cost as much to measure. What is there already costs nothing.
    Call c = { { ARMS, "--seeds=1 2", "--out=" ROOT "/cost", trainer }, ROOT "/said.txt" };
    CHECK(run_ab(&c) == 0);
    char *said = get_file(ROOT, "said.txt");
    CHECK_MSG(strncmp(said, "4 trainings, 24 steps\n", 22) == 0, "%s", said);
    free(said);
    c.arguments[2] = "--seeds=1 2 3";
    CHECK(run_ab(&c) == 0);
    said = get_file(ROOT, "said.txt");
    CHECK_MSG(strncmp(said, "4 of 6 runs are there already\n2 trainings, 12 steps\n", 52) == 0, "%s", said);
    free(said);
    char count[40];
    CHECK(!strcmp(with_commas(count, 25200), "25,200") && !strcmp(with_commas(count, 999), "999") &&
          !strcmp(with_commas(count, 1e6), "1,000,000"));
    // More: each kind of arm is measured, whose schedule doesn't fit into few steps, and leaves nothing behind.
    Call many = { { "sweep", ROOT "/b.json", "--grid=optimizer.muon.lr=0.01,0.02", "--train.steps=50",
                    "--schedule.kind=trapezoid", "--schedule.warmup=20", "--schedule.cooldown=20", "--schedule.final=0.2",
                    "--optimizer.muon.momentum_warmup=30", "--out=" ROOT "/many", trainer }, ROOT "/said.txt" };
    CHECK(run_ab(&many) == 0);
    said = get_file(ROOT, "said.txt");
    int seconds = 0;
    CHECK_MSG(sscanf(said, "2 trainings, 100 steps, about %d s\n", &seconds) == 1 && seconds > 0, "%s", said);
    CHECK(!file_exists(ROOT "/many/cost"));
    free(said);
}

TEST(rates_and_schedules_cost_nothing) {
    static const struct { const char *override; bool same; } cases[] = {
        { "--optimizer.muon.lr=0.5", true }, { "--optimizer.adamw.weight_decay=0", true }, { "--schedule.kind=constant", true },
        { "--run.seed=7", true }, { "--train.steps=70", true }, { "--optimizer.name=adamw", false }, { "--optimizer.muon.steps=9", false },
        { "--train.batch=4", false }, { "--model.layers=2", false }, { "--optimizer.muon.coefficients=bjorck", false },
        { "--optimizer.route=q=adamw", false }, { "--train.precision=bf16", false },
    };
    Arm base = { .config = (char *)ROOT "/b.json" };
    char *error = runs_resolve(trainer + strlen("--trainer="), &base);
    CHECK(!error);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *override = (char *)(uintptr_t)cases[i].override;
        Arm arm = { .config = base.config, .overrides = &override, .n_overrides = 1 };
        error = runs_resolve(trainer + strlen("--trainer="), &arm);
        CHECK_MSG(!error && same_cost(&base, &arm) == cases[i].same, "%s: %s", override, error ? error : "");
        cJSON_Delete(arm.resolved);
    }
    cJSON_Delete(base.resolved);
}

TEST(a_sweep_widens_its_grid) {
    Call c = { { "sweep", ROOT "/b.json", "--grid=optimizer.muon.lr=0.0001,0.0002", "--extend", "--out=" ROOT "/wide",
                 "--train.steps=3", trainer }, ROOT "/said.txt" };
    CHECK(run_ab(&c) == 0);
    char *said = get_file(ROOT, "said.txt"), *md = get_file(ROOT "/wide", "report.md");
    char *arguments = get_file(ROOT "/wide", "study.json");
    CHECK(strstr(said, "lies at the edge") != NULL);
    cJSON *json = get_json(ROOT "/wide", "report.json");
    int points = cJSON_GetArraySize(cJSON_GetObjectItem(json, "arms"));
    bool at_edge = cJSON_IsTrue(cJSON_GetObjectItem(json, "at_edge"));
    CHECK(points > 2 && points <= 2 + EXTEND_ROUNDS && (strstr(arguments, "0.0004") || strstr(arguments, "5e-05")));
    CHECK(at_edge ? points == 2 + EXTEND_ROUNDS && strstr(md, "**Warning:**") != NULL : !strstr(md, "**Warning:**"));
    cJSON_Delete(json);
    free(said), free(arguments), free(md);
}

// By trainings: no gradient is as long as that. And the trainer's log has the CPU seconds that the tables show.
TEST(a_key_without_effect_is_named) {
    Call c = { { "sweep", ROOT "/b.json", "--grid=train.grad_clip=1e6,1e7 optimizer.muon.lr=0.01,0.02", "--extend",
                 "--out=" ROOT "/idle", "--train.steps=30", trainer }, ROOT "/said.txt" };
    CHECK(run_ab(&c) == 0);
    char *md = get_file(ROOT "/idle", "report.md"), *curves = get_file(ROOT "/idle", "curves.csv");
    cJSON *json = get_json(ROOT "/idle", "report.json");
    CHECK_MSG(strstr(md, "**train.grad_clip changes nothing here:**") && strstr(md, "\nBest: lr=0.0"), "%s", md);
    CHECK(!strstr(md, "1e+08") && !strstr(md, "100000000"));            // not widened
    for (int i = 0; i < 4; i++) {
        char *path = format("runs/%d/cpu_seconds", i), *wall = format("runs/%d/seconds", i);
        double cpu = number_at(json, path), seconds = number_at(json, wall);
        CHECK_MSG(cpu > 0.02 * seconds && cpu < 1000 * seconds, "%g CPU seconds in %g", cpu, seconds);
        free(path), free(wall);
    }
    CHECK(count_words(curves, "\n\"clip=1e6 lr=") + count_words(curves, "\n\"grad_clip=1e6 lr=") >= 2);
    cJSON_Delete(json);
    free(md), free(curves);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    make_world();
    RUN(tables_in_markdown);
    RUN(students_t_is_the_textbooks);
    RUN(the_incomplete_beta_function);
    RUN(means_leave_out_what_is_no_number);
    RUN(a_target_is_interpolated_never_extrapolated);
    RUN(ratios_of_bounds_are_bounds);
    RUN(the_bootstrap_is_the_enumeration_of_all_resamples);
    RUN(spikes_stand_out_of_the_losses_before_them);
    RUN(the_labs_verdicts);
    RUN(every_figure_of_a_report_is_the_logs);
    RUN(what_a_report_cannot_say_it_does_not);
    RUN(targets_out_of_reach_are_bounds);
    RUN(a_sweeps_report);
    RUN(a_sweep_says_what_changes_nothing);
    RUN(identical_arms_are_told);
    RUN(labels_with_quotes_are_csv);
    RUN(a_sweeps_words_are_csv);
    RUN(configs_stay_in_their_cells);
    RUN(what_no_study_can_be_is_refused);
    RUN(cpu_seconds_and_curves);
    RUN(random_points_lie_in_their_range);
    RUN(what_does_not_compare_is_refused);
    RUN(another_context_with_the_same_validation_compares);
    RUN(a_diverging_arm_is_a_row);
    RUN(a_failing_run_stops_everything);
    RUN(killed_and_interrupted_comparisons_go_on);
    RUN(a_changed_config_is_made_anew_the_rest_is_kept);
    RUN(the_cost_is_said_first);
    RUN(rates_and_schedules_cost_nothing);
    RUN(a_sweep_widens_its_grid);
    RUN(a_key_without_effect_is_named);
    free(trainer);
    return tests_end();
}

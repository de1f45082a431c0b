/* heavy-tail.c - do rare facts wait for the frequent ones, and less so under Muon? README.md beside this file explains.
 *
 *     build/study_heavy-tail FOLDER SEEDS FACTS.json STEPS TEXT.json STEPS [quick]     -> CSV files, heavy-tail.png
 *     build/study_heavy-tail FOLDER draw                            heavy-tail.png again, from the CSV files
 *
 * FACTS.json is the model of the first part, which learns facts made here; TEXT.json, with its data, that of the
 * second, which reads a text. Both are trained by every optimizer from the same seeds, weights and batches. quick: no
 * search for learning rates, those of `arms` are taken.
 */
#include "../lab.h"

enum { FACTS, TEXT, PARTS, MOST_SEEDS = 16 };
enum { SGD, ADAM, MUON, VO_MLP, QK, ARMS };
enum { HIDDEN, EMBED, RATES };                          // learning rates: of the hidden matrices; of embeddings and head

typedef struct { const char *label, *name, *route, *rate; double start[PARTS][RATES]; } Arm;

// Who trains the hidden matrices (optimizer.name and .route), the key of their learning rate, and where the search for
// both rates begins: near the best of both at once.
// Embeddings, head and norms are Adam's in all arms.
static const Arm arms[ARMS] = {
    [SGD] = { "SGD", "sgd", "embed=adam,norm=adam,head=adam", "sgd.lr", { { 0.8, 0.00125 } } },
    [ADAM] = { "Adam", "adam", "", "adamw.lr", { { 0.01, 0.00125 }, { 0.0025, 0.02 } } },
    [MUON] = { "Muon", "muon", "", "muon.lr", { { 0.02, 0.0025 }, { 0.01, 0.02 } } },
    [VO_MLP] = { "Muon on V O MLP", "muon", "q=adam,k=adam", "muon.lr", { { 0.04, 0.005 } } },
    [QK] = { "Muon on Q K", "muon", "v=adam,o=adam,mlp_in=adam,mlp_out=adam", "muon.lr", { { 0.01, 0.000625 } } },
};
static const int text_arms[2] = { ADAM, MUON };         // of the text; the facts have all

// ---------------------------------------------------------------------------------------------------------------------
// Facts: classes (people) with a two-part name and an answer to each question. Group g has 2^(g-1) classes, group 0 one,
// and each of them is selected 2^(DOUBLINGS-g) times an epoch; every time all its questions are asked.

enum {
    DOUBLINGS = 9, GROUPS = DOUBLINGS + 1, CLASSES = 1 << DOUBLINGS,
    SELECTIONS = (DOUBLINGS + 2) << (DOUBLINGS - 1),    // of an epoch: 2^9 for group 0, 2^8 for each other
    NAMES = 32, QUESTIONS = 6, ANSWERS = 64,            // first names, and as many last ones
    ALL_FACTS = CLASSES * QUESTIONS, SAMPLES = SELECTIONS * QUESTIONS,
    LAST = NAMES, QUESTION = LAST + NAMES, ANSWER = QUESTION + QUESTIONS, VOCABULARY = ANSWER + ANSWERS,
    POSITIONS = 3,                                      // first name, last name, question; behind them the answer
    TAIL_GROUPS = 3,                                    // the rarest, taken together
};

typedef struct {
    int group[CLASSES], first[CLASSES], last[CLASSES], answer[CLASSES][QUESTIONS];
    int selected[SELECTIONS];                           // class of each selection of an epoch
    uint64_t order;                                     // key of the epochs' permutations
} World;

static World *world_new(uint64_t seed) {
    World *w = xcalloc(1, sizeof *w);
    uint64_t names = hash64(seed, hash_string("names")), answers = hash64(seed, hash_string("answers"));
    int n = 0;
    w->order = hash64(seed, hash_string("order"));
    for (int c = 0; c < CLASSES; c++) {
        while (c >> w->group[c]) w->group[c]++;         // class 0; 1; 2 and 3; 4 to 7; ...
        uint64_t name = dataloader_permute((uint64_t)c, NAMES * NAMES, names);
        w->first[c] = (int)(name / NAMES);
        w->last[c] = LAST + (int)(name % NAMES);
        for (int q = 0; q < QUESTIONS; q++)
            w->answer[c][q] = ANSWER + (int)(hash64(answers, (uint64_t)(c * QUESTIONS + q)) % ANSWERS);
        for (int i = 0; i < 1 << (DOUBLINGS - w->group[c]); i++) w->selected[n++] = c;
    }
    return w;
}

// The sequence of one fact: its tokens, and as targets the ones behind them.
static void ask(const World *w, int c, int q, int *inputs, int *targets) {
    inputs[0] = w->first[c];
    inputs[1] = targets[0] = w->last[c];
    inputs[2] = targets[1] = QUESTION + q;
    targets[2] = w->answer[c][q];
}

// Batch number t->step: every epoch has each sample once, in an order of its own.
static void facts_batch(const World *w, Trainer *t) {
    uint64_t batch = (uint64_t)t->config.train.batch, n = (uint64_t)t->step * batch;
    for (uint64_t b = 0; b < batch; b++, n++) {
        uint64_t i = dataloader_permute(n % SAMPLES, SAMPLES, hash64(w->order, n / SAMPLES));
        ask(w, w->selected[i / QUESTIONS], (int)(i % QUESTIONS), t->inputs + b * POSITIONS, t->targets + b * POSITIONS);
    }
}

// The accuracy of each group's answers. Returns the mean loss of an answer, counted as often as training asks for it.
static double facts_look(double accuracy[GROUPS], Trainer *t, const World *w) {
    Model *m = &t->model;
    double loss = 0;
    for (int first = 0; first < ALL_FACTS; first += m->B) {
        int n = min_int(m->B, ALL_FACTS - first);
        for (int b = 0; b < n; b++)
            ask(w, (first + b) / QUESTIONS, (first + b) % QUESTIONS, t->inputs + b * POSITIONS, t->targets + b * POSITIONS);
        model_loss(m, t->inputs, t->targets, n, POSITIONS);
        for (int b = 0; b < n; b++) {
            int at = b * POSITIONS + POSITIONS - 1, best = 0, g = w->group[(first + b) / QUESTIONS];
            const float *z = m->logits + (size_t)at * VOCABULARY;
            for (int v = 1; v < VOCABULARY; v++) best = z[v] > z[best] ? v : best;
            accuracy[g] += (double)(best == t->targets[at]) / (QUESTIONS * (g ? 1 << (g - 1) : 1));
            loss += m->losses[at] * (1 << (DOUBLINGS - g));
        }
    }
    return loss / SAMPLES;
}

// ---------------------------------------------------------------------------------------------------------------------
// Training

enum { TENTHS = DATALOADER_CLASSES, MOST_CLASSES = GROUPS > TENTHS ? GROUPS : TENTHS, MOST_MOMENTS = 40 };
static const int looks_of[2][PARTS] = { { 40, 20 }, { 16, 4 } };        // after the one before the first step; quick

// What one training did, at each of its moments: `of` is the accuracy of each group of facts, or the loss of each tenth
// of the text's tokens, from the most frequent to the rarest.
typedef struct { int n; double step[MOST_MOMENTS + 1], loss[MOST_MOMENTS + 1], of[MOST_MOMENTS + 1][MOST_CLASSES]; } Course;

static struct { const char *config; int steps; } parts[PARTS];
static int seeds;
static bool quick;
enum { MOST_TRIED = 2 * LAB_OCTAVES + 1 };
typedef struct { int n; double rate[MOST_TRIED], loss[MOST_TRIED], best; } Tried;       // of a search
static struct { Tried tried[PARTS][ARMS][RATES]; Course courses[PARTS][ARMS][MOST_SEEDS]; } *results;   // lab_shared

static double rate_of(int part, int arm, int which) {
    return quick ? arms[arm].start[part][which] : results->tried[part][arm][which].best;
}

// adam: the rate of hidden matrices and norms that are Adam's.
static void open_arm(Trainer *t, int part, int arm, const double rates[RATES], double adam, int steps, int seed) {
    const Arm *a = &arms[arm];
    char *keys[] = { format("--optimizer.name=%s", a->name), format("--optimizer.route=%s", a->route),
                     format("--optimizer.adamw.lr=%g", adam), format("--optimizer.%s=%g", a->rate, rates[HIDDEN]),
                     format("--optimizer.adamw.embed_lr=%g", rates[EMBED]), format("--optimizer.adamw.head_lr=%g", rates[EMBED]),
                     format("--train.steps=%d", steps) };
    lab_open_bare(t, parts[part].config, COUNT_OF(keys), keys, seed);
    for (size_t i = 0; i < COUNT_OF(keys); i++) free(keys[i]);
    const Model *m = &t->model;
    if (part == TEXT) {
        dataloader_open(&t->data, t->config.data.dir, m->T, m->V, (uint64_t)seed);
        t->classes = dataloader_classes(&t->data);
    } else if (m->T != POSITIONS || m->V != VOCABULARY || m->logit_rows != t->config.train.batch * m->T) {
        fail_usage("%s: model.context %d, model.vocab %d and a batch that fits at once expected", parts[part].config,
                   POSITIONS, VOCABULARY);
    }
}

// One training with so many looks at it. Returns the loss at its end, INFINITY where it diverged.
static double train_arm(Course *c, int part, int arm, const double rates[RATES], double adam, int steps, int looks, int seed) {
    Trainer t = {0};
    World *w = part == FACTS ? world_new((uint64_t)seed) : NULL;
    bool fine = true;
    open_arm(&t, part, arm, rates, adam, steps, seed);
    memset(c, 0, sizeof *c);
    for (int i = 0; i <= looks && fine; i++) {
        while (t.step < steps * i / looks && fine) {
            if (w) facts_batch(w, &t);
            else dataloader_batch(&t.data, (uint64_t)t.step, t.config.train.batch, 0, 1, t.inputs, t.targets);
            fine = isfinite(lab_step_on(&t));
        }
        c->step[i] = t.step;
        if (w) c->loss[i] = facts_look(c->of[i], &t, w);
        else {
            evaluate(&t);
            c->loss[i] = t.eval.val_loss;
            memcpy(c->of[i], t.val_by_class, sizeof t.val_by_class);
        }
        c->n = i + 1;
    }
    trainer_close(&t);
    free(w);
    return fine ? c->loss[looks] : INFINITY;
}

typedef struct { int part, arm, which; double rates[RATES], best; } Search;      // best: the lowest loss so far

// Of half the steps and one seed; kept in ascending order of the rates.
static double loss_at_rate(void *context, double rate) {
    Search *s = context;
    Tried *tried = &results->tried[s->part][s->arm][s->which];
    Course c;
    s->rates[s->which] = rate;
    double adam = s->arm == ADAM ? s->rates[HIDDEN] : rate_of(s->part, ADAM, HIDDEN), loss = s->best;
    if (s->which == HIDDEN || tried->n > 0)             // else it is the search before's best
        loss = train_arm(&c, s->part, s->arm, s->rates, adam, parts[s->part].steps / 2, 1, 1);
    s->best = fmin(s->best, loss);
    int i = tried->n++;
    for (; i > 0 && tried->rate[i - 1] > rate; i--) {
        tried->rate[i] = tried->rate[i - 1];
        tried->loss[i] = tried->loss[i - 1];
    }
    tried->rate[i] = rate;
    tried->loss[i] = loss;
    return loss;
}

// First the rate of the hidden matrices, then with it that of embeddings and head.
static void search(int part, int arm) {
    Search s = { .part = part, .arm = arm, .best = INFINITY };
    const double *start = arms[arm].start[part];
    memcpy(s.rates, start, sizeof s.rates);
    for (s.which = HIDDEN; s.which < RATES; s.which++)
        s.rates[s.which] = results->tried[part][arm][s.which].best = lab_best_rate(start[s.which], loss_at_rate, &s);
}

// number: of the seed, from 0.
static void train_seed(int part, int arm, int number) {
    double rates[RATES] = { rate_of(part, arm, HIDDEN), rate_of(part, arm, EMBED) }, adam = rate_of(part, ADAM, HIDDEN);
    Course *c = &results->courses[part][arm][number];
    if (isinf(train_arm(c, part, arm, rates, adam, parts[part].steps, looks_of[quick][part], number + 1)))
        fail("%s, seed %d: diverged at the learning rate %g", arms[arm].label, number + 1, rates[HIDDEN]);
}

// In three rounds, for the other arms take over Adam's rate for what it keeps, and a text takes longer than all facts.
static void first_round(int job) {
    search(job ? FACTS : TEXT, ADAM);
    for (int a = 0; a < ARMS && job; a++)
        if (a != ADAM) search(FACTS, a);
}

static void second_round(int job) {
    if (job > 0) train_seed(FACTS, (job - 1) / seeds, (job - 1) % seeds);
    else if (!quick) search(TEXT, MUON);
}

static void third_round(int job) { train_seed(TEXT, text_arms[job / seeds], job % seeds); }

static void put_rates(int part, int arm, MarkdownTable *table, LabCsv *csv) {
    static const char *const names[RATES] = { "hidden matrices", "embeddings and head" };
    for (int k = 0; k < RATES; k++) {
        const Tried *tried = &results->tried[part][arm][k];
        const char *of = part == TEXT ? "text" : "facts", *label = arms[arm].label;
        char losses[512] = "";
        for (int i = 0, at = 0; i < tried->n; i++) {
            at += snprintf(losses + at, sizeof losses - (size_t)at, "%s%g: %.4f", i ? ", " : "", tried->rate[i], tried->loss[i]);
            fprintf(csv->to, "%s,%s,%s,%g,%.5f\n", of, label, names[k], tried->rate[i], tried->loss[i]);
        }
        markdown_cell(table, "%s: %s: %s\t%s\t%g", of, label, names[k], losses, tried->best);
    }
}

static void rates_tables(void) {
    LabCsv *csv = lab_csv("rates.csv", "part,arm,of,rate,loss");
    MarkdownTable table = markdown_start("\t\tbest");
    printf("\nThe loss after half of the steps, seed 1, at each learning rate.\n\n");
    for (int a = 0; a < ARMS; a++) put_rates(FACTS, a, &table, csv);
    for (int a = 0; a < 2; a++) put_rates(TEXT, text_arms[a], &table, csv);
    markdown_end(stdout, &table, false);
    lab_csv_save(csv);
}

// ---------------------------------------------------------------------------------------------------------------------
// Results

static double mean_of(const double *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] / n;
    return sum;
}

// The step and the first n numbers of `of` at a fraction of the way from moment i - 1 to moment i.
static void between(const Course *c, int i, double part, int n, double *step, double *of) {
    *step = c->step[i - 1] + part * (c->step[i] - c->step[i - 1]);
    for (int k = 0; k < n; k++) of[k] = c->of[i - 1][k] + part * (c->of[i][k] - c->of[i - 1][k]);
}

// The names of n columns behind the first ones: g0, g1, ... To be freed.
static char *columns(const char *first, char letter, int from, int n) {
    char *text = xstrdup(first);
    for (int k = from; k < from + n; k++) {
        char *longer = format("%s,%c%d", text, letter, k);
        free(text);
        text = longer;
    }
    return text;
}

static void write_courses(int part, const char *name) {
    char *head = part == FACTS ? columns("arm,seed,step,loss", 'g', 0, GROUPS) : columns("arm,seed,step,loss", 't', 1, TENTHS);
    LabCsv *csv = lab_csv(name, head);
    free(head);
    for (int i = 0; i < ARMS * seeds; i++) {
        const Course *c = &results->courses[part][i / seeds][i % seeds];        // of no moments where it wasn't trained
        for (int k = 0; k < c->n; k++) {
            fprintf(csv->to, "%s,%d,%g,%.5f", arms[i / seeds].label, i % seeds + 1, c->step[k], c->loss[k]);
            for (int g = 0; g < (part == FACTS ? (int)GROUPS : (int)TENTHS); g++) fprintf(csv->to, ",%.5g", c->of[k][g]);
            fprintf(csv->to, "\n");
        }
    }
    lab_csv_save(csv);
}

// Where the courses of facts are compared: at the same step; where the mean accuracy of the most frequent groups is the
// same; where the loss is.
static const struct { const char *name; int one_of, groups; double level; } places[] = {
    { "1/8 of the steps", 8, 0, 0 }, { "1/4", 4, 0, 0 }, { "1/2", 2, 0, 0 }, { "the end", 1, 0, 0 },
    { "groups 0 to 4 at 0.9", 0, 5, 0.9 }, { "0 to 4 at 0.99", 0, 5, 0.99 }, { "0 to 6 at 0.95", 0, 7, 0.95 }, { "loss at 1", 0, 0, 1 },
};
enum { PLACES = COUNT_OF(places), QUARTER = 1, HALF = 2, END = 3, ALIKE = 6 };

static double steps_at[PLACES][ARMS][MOST_SEEDS], accuracy_at[PLACES][ARMS][GROUPS][MOST_SEEDS], tail_at[PLACES][ARMS][MOST_SEEDS];

// What has to rise to a place's level.
static double progress(const Course *c, int i, int p) {
    return places[p].groups ? mean_of(c->of[i], places[p].groups) : -c->loss[i];
}

// The step, and each group's accuracy, at a place, on straight lines between moments; NaN where it was never reached.
static void find_place(int p, int arm, int s) {
    const Course *c = &results->courses[FACTS][arm][s];
    double step = NAN, of[GROUPS];
    for (int g = 0; g < GROUPS; g++) of[g] = NAN;
    if (places[p].one_of) between(c, (c->n - 1) / places[p].one_of, 1, GROUPS, &step, of);
    for (int i = 1; i < c->n && !places[p].one_of; i++) {
        double before = progress(c, i - 1, p), now = progress(c, i, p), level = places[p].groups ? places[p].level : -places[p].level;
        if (now < level) continue;
        between(c, i, (level - before) / (now - before), GROUPS, &step, of);
        break;
    }
    steps_at[p][arm][s] = step;
    tail_at[p][arm][s] = mean_of(of + GROUPS - TAIL_GROUPS, TAIL_GROUPS);
    for (int g = 0; g < GROUPS; g++) accuracy_at[p][arm][g][s] = of[g];
}

// A cell of a table: the mean over seeds, with so many digits, behind some words.
static void put_mean(MarkdownTable *t, const char *words, const double *x, int digits) {
    double mean = mean_of(x, seeds);
    if (isfinite(mean)) markdown_cell(t, "%s%.*f", words, digits, mean);
    else markdown_cell(t, "%s-", words);
}

// The same of differences, with their standard error and whether they count.
static void put_difference(MarkdownTable *t, Sample d, bool verdict) {
    if (d.n == 0) markdown_cell(t, "-");
    else if (d.n == 1) markdown_cell(t, "%.3f", d.mean);
    else markdown_cell(t, "%.3f (%.3f)%s%s", d.mean, d.se, verdict ? ", " : "", verdict ? lab_verdict(d) : "");
}

static void facts_tables(void) {
    char *head = columns("place,arm,seed,step", 'g', 0, GROUPS);
    LabCsv *csv = lab_csv("places.csv", head);
    free(head);
    printf("\nFacts: accuracy of the answers of each group, mean of %d seeds.\n", seeds);
    for (int p = 0; p < (int)PLACES; p++) {
        MarkdownTable table = { .columns = GROUPS + 2 };
        markdown_cell(&table, "%s\tstep", places[p].name);
        for (int g = 0; g < GROUPS; g++) markdown_cell(&table, "%d", g);
        for (int a = 0; a < ARMS; a++) {
            for (int s = 0; s < seeds; s++) {
                find_place(p, a, s);
                fprintf(csv->to, "%s,%s,%d,%.1f", places[p].name, arms[a].label, s + 1, steps_at[p][a][s]);
                for (int g = 0; g < GROUPS; g++) fprintf(csv->to, ",%.4f", accuracy_at[p][a][g][s]);
                fprintf(csv->to, "\n");
            }
            markdown_cell(&table, "%s", arms[a].label);
            put_mean(&table, "", steps_at[p][a], 0);
            for (int g = 0; g < GROUPS; g++) put_mean(&table, "", accuracy_at[p][a][g], 3);
        }
        printf("\n");
        markdown_end(stdout, &table, false);
    }
    lab_csv_save(csv);
}

static const struct { int a, b; } pairs[] = { { MUON, ADAM }, { ADAM, SGD }, { VO_MLP, ADAM }, { QK, ADAM }, { MUON, VO_MLP } };

static void facts_pairs(void) {
    LabCsv *csv = lab_csv("pairs.csv", "arm,other,place,seeds,difference,error");
    printf("\nFacts: accuracy of the tail (groups %d to %d), paired difference (standard error).\n\n",
           GROUPS - TAIL_GROUPS, GROUPS - 1);
    MarkdownTable table = { .columns = PLACES + 1 };
    markdown_cell(&table, "%s", "");
    for (int p = 0; p < (int)PLACES; p++) markdown_cell(&table, "%s", places[p].name);
    for (size_t k = 0; k < COUNT_OF(pairs); k++) {
        const char *a = arms[pairs[k].a].label, *b = arms[pairs[k].b].label;
        markdown_cell(&table, "%s - %s", a, b);
        for (int p = 0; p < (int)PLACES; p++) {
            Sample d = lab_paired(tail_at[p][pairs[k].a], tail_at[p][pairs[k].b], seeds);
            put_difference(&table, d, true);
            fprintf(csv->to, "%s,%s,%s,%d,%.4f,%.4f\n", a, b, places[p].name, d.n, d.mean, d.se);
        }
    }
    markdown_end(stdout, &table, false);
    lab_csv_save(csv);
}

// Where the courses of text are compared: at the loss of the arm that is behind after a fourth, a half and all of its
// steps; and at their ends.
static const struct { const char *name; int one_of; bool same_loss; } text_places[] = {
    { "equal loss at 1/4", 4, true }, { "equal loss at 1/2", 2, true }, { "equal loss at the end", 1, true },
    { "equal steps at the end", 1, false },
};
enum { TEXT_PLACES = COUNT_OF(text_places), RARE_TENTHS = 3 };
static Sample text_difference[TEXT_PLACES][TENTHS + 1];     // Adam - Muon; the last one of the rarest tenths together

// Each tenth's loss where the mean loss first falls to `target`; returns the step.
static double at_loss(const Course *c, double target, double of[TENTHS]) {
    double step = NAN;
    int i = 1;
    while (i < c->n && c->loss[i] > target) i++;
    for (int k = 0; k < TENTHS; k++) of[k] = NAN;
    if (i < c->n) between(c, i, (c->loss[i - 1] - target) / (c->loss[i - 1] - c->loss[i]), TENTHS, &step, of);
    return step;
}

// At a place: the step, the loss and each tenth's loss of both arms.
static void find_text_place(int p, int s, double step[2], double loss[2], double of[2][TENTHS]) {
    const Course *c[2] = { &results->courses[TEXT][text_arms[0]][s], &results->courses[TEXT][text_arms[1]][s] };
    int i = (c[0]->n - 1) / text_places[p].one_of;
    for (int a = 0; a < 2; a++) {
        loss[a] = text_places[p].same_loss ? fmax(c[0]->loss[i], c[1]->loss[i]) : c[a]->loss[i];
        if (text_places[p].same_loss) step[a] = at_loss(c[a], loss[a], of[a]);
        else between(c[a], i, 1, TENTHS, &step[a], of[a]);
    }
}

static void text_tables(void) {
    LabCsv *csv = lab_csv("tenths.csv", "place,tenth,seeds,adam_minus_muon,error");
    printf("\nText: loss of Adam - loss of Muon in each tenth of the tokens, from the most frequent to the rarest, mean of %d "
           "seeds (standard error).\n\n", seeds);
    MarkdownTable table = { .columns = TENTHS + 4 };
    markdown_cell(&table, "%s\tAdam: step, loss\tMuon", "");
    for (int k = 0; k < TENTHS; k++) markdown_cell(&table, "%d", k + 1);
    markdown_cell(&table, "rarest %d", RARE_TENTHS);
    for (int p = 0; p < (int)TEXT_PLACES; p++) {
        double steps[2][MOST_SEEDS], losses[2][MOST_SEEDS], tenths[TENTHS + 1][2][MOST_SEEDS], step[2], loss[2], of[2][TENTHS];
        for (int s = 0; s < seeds; s++) {
            find_text_place(p, s, step, loss, of);
            for (int a = 0; a < 2; a++) {
                steps[a][s] = step[a];
                losses[a][s] = loss[a];
                for (int k = 0; k < TENTHS; k++) tenths[k][a][s] = of[a][k];
                tenths[TENTHS][a][s] = mean_of(of[a] + TENTHS - RARE_TENTHS, RARE_TENTHS);
            }
        }
        markdown_cell(&table, "%s", text_places[p].name);
        for (int a = 0; a < 2; a++) {
            char step_words[32];
            snprintf(step_words, sizeof step_words, "%.0f, ", mean_of(steps[a], seeds));
            put_mean(&table, step_words, losses[a], 3);
        }
        for (int k = 0; k <= TENTHS; k++) {
            Sample d = text_difference[p][k] = lab_paired(tenths[k][0], tenths[k][1], seeds);
            put_difference(&table, d, k == TENTHS);
            if (k < TENTHS) fprintf(csv->to, "%s,%d,%d,%.5f,%.5f\n", text_places[p].name, k + 1, d.n, d.mean, d.se);
        }
    }
    markdown_end(stdout, &table, false);
    lab_csv_save(csv);
}

// ---------------------------------------------------------------------------------------------------------------------
// The picture

typedef struct { double mean[MOST_MOMENTS + 1], low[MOST_MOMENTS + 1], high[MOST_MOMENTS + 1]; } Band;

static void band_set(Band *b, int i, Sample x) {
    double se = x.n > 1 ? x.se : 0;
    b->mean[i] = x.mean;
    b->low[i] = x.mean - se;
    b->high[i] = x.mean + se;
}

// Two series: the band of standard errors, and behind `apart` others the line itself.
static void band_series(PlotSeries *series, int apart, const Band *b, const double *x, int n, const char *label, int color,
                        unsigned style) {
    *series = (PlotSeries){ .x = x, .y = b->mean, .lo = b->low, .hi = b->high, .n = n, .color = color, .style = PLOT_BAND };
    series[apart] = *series;
    series[apart].label = label;
    series[apart].style = style;
}

// What the picture shows: the courses of facts.csv, what they are at each place, and the differences of tenths.csv.
static void read_results(void) {
    LabTable facts = lab_table("facts.csv"), tenths = lab_table("tenths.csv");
    const char *labels[ARMS], *names[TEXT_PLACES];
    for (int a = 0; a < ARMS; a++) labels[a] = arms[a].label;
    for (int p = 0; p < (int)TEXT_PLACES; p++) names[p] = text_places[p].name;
    memset(results->courses[FACTS], 0, sizeof results->courses[FACTS]);
    for (int row = 1; row < facts.rows; row++) {
        int arm = lab_which(&facts, row, "arm", labels, ARMS), seed = (int)lab_number(&facts, row, "seed");
        if (seed < 1 || seed > MOST_SEEDS) fail("%s:%d: seed: expected 1 to %d", facts.path, row + 1, MOST_SEEDS);
        Course *c = &results->courses[FACTS][arm][seed - 1];
        if (c->n > MOST_MOMENTS) fail("%s:%d: more than %d moments of a training", facts.path, row + 1, MOST_MOMENTS + 1);
        seeds = max_int(seeds, seed);
        c->step[c->n] = lab_number(&facts, row, "step");
        c->loss[c->n] = lab_number(&facts, row, "loss");
        for (int g = 0; g < GROUPS; g++) c->of[c->n][g] = lab_number(&facts, row, (char[]){ 'g', (char)('0' + g), 0 });
        c->n++;
    }
    for (int i = 0; i < ARMS * seeds; i++) {
        if (results->courses[FACTS][i / seeds][i % seeds].n < 2) fail("%s: no whole training of an arm and a seed", facts.path);
        for (int p = 0; p < (int)PLACES; p++) find_place(p, i / seeds, i % seeds);
    }
    for (int row = 1; row < tenths.rows; row++) {
        int p = lab_which(&tenths, row, "place", names, TEXT_PLACES), tenth = (int)lab_number(&tenths, row, "tenth");
        if (tenth < 1 || tenth > TENTHS) fail("%s:%d: tenth: expected 1 to %d", tenths.path, row + 1, TENTHS);
        text_difference[p][tenth - 1] = (Sample){ .n = (int)lab_number(&tenths, row, "seeds"),
                                                  .mean = lab_number(&tenths, row, "adam_minus_muon"),
                                                  .se = lab_number(&tenths, row, "error") };
    }
    lab_table_free(&facts), lab_table_free(&tenths);
}

static void draw(void) {
    if (!results) results = lab_shared(sizeof *results);
    read_results();
    static Band groups[2][ARMS], tails[ARMS], tenths[TEXT_PLACES];
    static double number[MOST_CLASSES + 1];
    PlotSeries at[2][2 * ARMS], over[2 * ARMS], text[2 * TEXT_PLACES];
    const Course *any = &results->courses[FACTS][ADAM][0];
    const char *names[ARMS];
    int colors[ARMS];
    for (int k = 0; k <= MOST_CLASSES; k++) number[k] = k;
    for (int a = 0; a < ARMS; a++) names[a] = arms[a].label;
    plot_choose_colors(names, ARMS, colors);
    for (int a = 0; a < ARMS; a++) {
        for (int k = 0; k < 2; k++) {
            for (int g = 0; g < GROUPS; g++)
                band_set(&groups[k][a], g, sample_of(accuracy_at[k ? ALIKE : QUARTER][a][g], seeds));
            band_series(&at[k][a], ARMS, &groups[k][a], number, GROUPS, arms[a].label, colors[a], PLOT_LINE | PLOT_POINTS);
        }
        for (int i = 0; i < any->n; i++) {
            double values[MOST_SEEDS];
            for (int s = 0; s < seeds; s++)
                values[s] = mean_of(results->courses[FACTS][a][s].of[i] + GROUPS - TAIL_GROUPS, TAIL_GROUPS);
            band_set(&tails[a], i, sample_of(values, seeds));
        }
        band_series(&over[a], ARMS, &tails[a], any->step, any->n, arms[a].label, colors[a], PLOT_LINE);
    }
    for (int p = 0; p < (int)TEXT_PLACES; p++) {
        bool same = text_places[p].same_loss;
        for (int k = 0; k < TENTHS; k++) band_set(&tenths[p], k, text_difference[p][k]);
        band_series(&text[p], TEXT_PLACES, &tenths[p], number + 1, TENTHS, text_places[p].name,
                    same ? PLOT_RAMP - 1 - 2 * p : PLOT_GREY, same ? PLOT_LINE | PLOT_POINTS : PLOT_DASHED);
    }
    char *titles[] = { format("facts: after %.0f steps", steps_at[QUARTER][ADAM][0]),
                       format("facts: where groups 0 to %d are at %g", places[ALIKE].groups - 1, places[ALIKE].level),
                       format("facts: groups %d to %d", GROUPS - TAIL_GROUPS, GROUPS - 1) };
    PlotPanel panels[4] = {
        { .title = titles[0], .xlabel = "group, from frequent to rare", .series = at[0], .n_series = 2 * ARMS },
        { .title = titles[1], .xlabel = "group, from frequent to rare", .series = at[1], .n_series = 2 * ARMS },
        { .title = titles[2], .xlabel = "step", .series = over, .n_series = 2 * ARMS },
        { .title = "text: loss of Adam - loss of Muon", .xlabel = "tenth of the tokens, from frequent to rare",
          .ylabel = "nats per token", .series = text, .n_series = 2 * TEXT_PLACES },
    };
    for (int k = 0; k < 3; k++) {
        panels[k].ylabel = "accuracy of the answers";
        panels[k].ymax = 1.02;
    }
    lab_draw("heavy-tail.png", "Rare facts and rare tokens under several optimizers", panels, 4, 2, 1000, 800);
    for (size_t k = 0; k < COUNT_OF(titles); k++) free(titles[k]);
}

int main(int argc, char **argv) {
    if (lab_draws_again(argc, argv, draw)) return 0;
    quick = argc == 8 && !strcmp(argv[7], "quick");
    if (argc != 7 + quick)
        fail_usage("usage: study_heavy-tail FOLDER SEEDS FACTS.json STEPS TEXT.json STEPS [quick], or FOLDER draw");
    seeds = (int)integer_of("SEEDS", argv[2], 1, MOST_SEEDS);
    for (int p = 0; p < PARTS; p++) {
        parts[p].config = argv[3 + 2 * p];
        parts[p].steps = (int)integer_of("STEPS", argv[4 + 2 * p], 2, 1000000);
    }
    lab_begin(argv, argv[1]);
    results = lab_shared(sizeof *results);
    if (!quick) lab_each(2, first_round);
    lab_each(1 + ARMS * seeds, second_round);
    lab_each(2 * seeds, third_round);
    if (!quick) rates_tables();
    write_courses(FACTS, "facts.csv");
    write_courses(TEXT, "text.csv");
    facts_tables();
    facts_pairs();
    text_tables();
    int place = quick ? END : HALF;                     // where Muon's tail is nearly learnt, others' on the way
    Sample muon = lab_paired(tail_at[place][MUON], tail_at[place][ADAM], seeds),
           adam = lab_paired(tail_at[place][ADAM], tail_at[place][SGD], seeds);
    draw();
    printf("\n");
    bool enough = seeds < 3 || (muon.mean > 3 * muon.se && adam.mean > 3 * adam.se);
    lab_must(muon.mean > 0.1 && adam.mean > 0.02 && enough,
             "facts: at equal steps the tail's accuracy is higher with Muon than with Adam, and lowest with SGD");
    return 0;
}

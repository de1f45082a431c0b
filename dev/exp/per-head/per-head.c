/* per-head.c - what becomes of attention heads whose gradients differ in size, when their queries, keys or values are one
 * matrix: the updates of each head by four rules, of random gradients and in a small GPT; README.md beside this file explains.
 *
 *     build/study_per-head FOLDER CONFIG STEPS RULES [--key=value ...]     -> spread.csv, updates.csv and heads.csv in FOLDER
 *
 * spread.csv: of HEADS x HIGH rows whose heads' gradients are spread evenly, on a log scale, over a factor; updates.csv: each
 * head at the largest one; heads.csv: of each layer's W_q, W_k and W_v in a training of STEPS by the first RULES of them, every
 * LOOK_EVERY steps.
 */
#include "../lab.h"

enum { MUON, PER_HEAD, NORMUON, EXACT, ARMS };
static const struct { const char *name, *key; int rule, cut; } arms[ARMS] = {
    { "muon", "muon", MUON_RULE_MUON, 0 }, { "per-head", "muon", MUON_RULE_MUON, 1 },
    { "normuon", "normuon", MUON_RULE_NORMUON, 0 }, { "exact polar factor", "svd", MUON_RULE_SVD, 0 } };

enum { HEADS = 8, HIGH = 16, WIDE = 128, EACH = HIGH * WIDE, SIZE = HEADS * EACH, MOST_DECADES = 7, LOOK_EVERY = 10 };
enum { GAUSSIAN, DECAYING, KINDS };
static const char *const kind_names[KINDS] = { "gaussian", "decaying" };    // a head's singular values: alike, or 1/i

static void check(int code) {
    if (code != MUON_OK) fail("muon.h: %s", muon_strerror(code));
}

static void *scratch_of(size_t bytes) {
    if (bytes == 0) fail("muon.h: no scratch for this matrix");
    return xmalloc(bytes);
}

// x (rows x cols) becomes its polar factor U V^T.
static void polar(float *x, int rows, int cols) {
    void *scratch = scratch_of(muon_svd_power_bytes(rows, cols));
    check(muon_svd_power(x, rows, cols, 0, scratch));
    free(scratch);
}

// A head's gradient g, HIGH x WIDE, of Frobenius norm 1, and its polar factor: Gaussian; or the polar factor of a Gaussian with
// the i-th row over i, and the rows mixed by a rotation, as the polar factor's are then.
static void make_head(float *g, float *factor, int kind, int head) {
    static float rows[EACH], mix[HIGH * HIGH];
    for (int i = 0; i < EACH; i++) g[i] = normal_of(hash64((uint64_t)head + 1, (uint64_t)i));
    memcpy(factor, g, EACH * sizeof *g);
    polar(factor, HIGH, WIDE);
    if (kind == DECAYING) {
        for (int i = 0; i < HIGH * HIGH; i++) mix[i] = normal_of(hash64((uint64_t)head + 101, (uint64_t)i));
        polar(mix, HIGH, HIGH);
        for (int i = 0; i < EACH; i++) rows[i] = factor[i] / (float)(i / WIDE + 1);
        gemm(false, false, HIGH, WIDE, HIGH, 1, mix, HIGH, rows, WIDE, 0, g, WIDE);
        memcpy(rows, factor, sizeof rows);
        gemm(false, false, HIGH, WIDE, HIGH, 1, mix, HIGH, rows, WIDE, 0, factor, WIDE);
    }
    float size = (float)sqrt(lab_dot(g, g, EACH));
    for (int i = 0; i < EACH; i++) g[i] /= size;
}

// update (SIZE): what the first step by this rule takes from weights of zero.
static void update_of(float *update, const float *g, int rule) {
    MuonOptions options = muon_default_options();
    static float w[SIZE];
    memset(w, 0, sizeof w);
    MuonParam p = { "w", w, g, 1, HEADS * HIGH, WIDE, 0, arms[rule].rule, 1, 0, NULL, { arms[rule].cut ? HIGH : 0 } };
    Muon m;
    void *state = xmalloc(muon_state_bytes(&p, 1, &options)), *scratch = scratch_of(muon_scratch_bytes(&p, 1, &options));
    check(muon_init(&m, &p, 1, &options, state));
    check(muon_step(&m, 1, 1, scratch, 1));
    for (int i = 0; i < SIZE; i++) update[i] = -w[i];
    free(state), free(scratch);
}

// ratios: of each rule's updates, the largest head's norm over the smallest one's, at the largest spread of Gaussian gradients.
static void spread_heads(double ratios[ARMS]) {
    static float unit[SIZE], factor[SIZE], g[SIZE], update[SIZE];
    LabCsv *csv = lab_csv("spread.csv", "gradients,rule,spread,largest_over_smallest,least_cosine");
    LabCsv *each = lab_csv("updates.csv", "gradients,rule,head,gradient,update,cosine");
    for (int i = 0; i < KINDS * (MOST_DECADES + 1) * ARMS; i++) {
        int r = i % ARMS, decades = i / ARMS % (MOST_DECADES + 1), kind = i / ARMS / (MOST_DECADES + 1);
        double least = INFINITY, most = 0, cosine = 1;
        for (int h = 0; h < HEADS && r == 0 && decades == 0; h++) make_head(unit + h * EACH, factor + h * EACH, kind, h);
        for (int k = 0; k < SIZE; k++) g[k] = unit[k] * (float)pow(10, -(double)decades * (k / EACH) / (HEADS - 1));
        update_of(update, g, r);
        for (int h = 0; h < HEADS; h++) {
            const float *u = update + h * EACH, *own = factor + h * EACH;
            double size = sqrt(lab_dot(u, u, EACH)), c = lab_dot(u, own, EACH) / size / sqrt(lab_dot(own, own, EACH));
            least = fmin(least, size), most = fmax(most, size), cosine = fmin(cosine, c);
            if (decades == MOST_DECADES)
                fprintf(each->to, "%s,%s,%d,%.4g,%.5g,%.4f\n", kind_names[kind], arms[r].name, h,
                        sqrt(lab_dot(g + h * EACH, g + h * EACH, EACH)), size, c);
        }
        fprintf(csv->to, "%s,%s,1e%d,%.6g,%.4f\n", kind_names[kind], arms[r].name, decades, most / least, cosine);
        if (kind == GAUSSIAN && decades == MOST_DECADES) ratios[r] = most / least;
    }
    lab_csv_save(csv), lab_csv_save(each);
}

// ---------------------------------------------------------------------------------------------------------------------
// A training

// A line for the queries, keys and values of each layer: the largest head's norm over the smallest one's, of its gradient and of the
// step that was made, which is what the weights lost: there is no decay.
static void look(FILE *csv, const Trainer *t, int rule, const float *before) {
    static const TensorId ids[] = { WQ, WK, WV };
    const Model *m = &t->model;
    size_t n = (size_t)m->HS * (size_t)m->C;
    for (size_t k = 0; k < COUNT_OF(ids) * (size_t)m->L; k++) {
        const Tensor *row = &m->table[ids[k / (size_t)m->L]];
        int l = (int)(k % (size_t)m->L);
        double least[2] = { INFINITY, INFINITY }, most[2] = { 0, 0 };
        for (int h = 0; h < row->rows / m->HS; h++) {
            size_t at = (size_t)(weight(m, ids[k / (size_t)m->L], l) - m->params) + (size_t)h * n;
            double squares[2] = { lab_dot(m->grads + at, m->grads + at, n), 0 };
            for (size_t i = at; i < at + n; i++) squares[1] += ((double)before[i] - m->params[i]) * ((double)before[i] - m->params[i]);
            for (int j = 0; j < 2; j++) least[j] = fmin(least[j], squares[j]), most[j] = fmax(most[j], squares[j]);
        }
        fprintf(csv, "%s,%d,%s,%d,%.2f,%.2f\n", arms[rule].name, t->step, row->name, l, sqrt(most[0] / least[0]), sqrt(most[1] / least[1]));
    }
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 50) fail_usage("usage: study_per-head FOLDER CONFIG STEPS RULES [--key=value ...]");
    lab_begin(argv, argv[1]);
    int steps = (int)integer_of("STEPS", argv[3], 1, 1000000), trained = (int)integer_of("RULES", argv[4], 1, ARMS);
    double ratios[ARMS];
    spread_heads(ratios);

    LabCsv *csv = lab_csv("heads.csv", "rule,step,matrix,layer,gradient,update");
    for (int r = 0; r < trained; r++) {
        Trainer t = { 0 };
        char *keys[64];
        int n = 0;
        for (int i = 5; i < argc; i++) keys[n++] = argv[i];
        keys[n++] = format("--train.steps=%d", steps);
        keys[n++] = format("--optimizer.name=%s", arms[r].key);
        if (arms[r].cut) keys[n++] = "--optimizer.muon.per_head=true";
        lab_open(&t, argv[2], n, keys, 1);
        float *before = xmalloc(t.model.n_params * sizeof *before);
        while (t.step < steps) {
            memcpy(before, t.model.params, t.model.n_params * sizeof *before);
            lab_step(&t);
            if (t.step % LOOK_EVERY == 0) look(csv->to, &t, r, before);
        }
        free(before);
        trainer_close(&t);
    }
    lab_csv_save(csv);
    lab_must(ratios[MUON] > 1e4, "under plain Muon heads' updates differ by more than 1e4 where their gradients differ by 1e7");
    lab_must(ratios[PER_HEAD] < 1.1, "under per-head Muon by less than 1.1");
    lab_must(ratios[NORMUON] < 1.2, "under NorMuon by less than 1.2");
    return 0;
}

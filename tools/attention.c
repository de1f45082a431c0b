/* attention.c - draws where a model's heads look: a map for each layer and head, a row for each token of a prompt.
 *
 *     build/attention runs/default --prompt="In the beginning God created the heaven and the earth." [--out=FILE.png] [--checkpoint=FILE]
 *
 * Cell (i, j) is as dark as the square root of softmax_j(scale q_i . k_j), from 0 to 1 in all maps: small weights are seen, too. Each
 * map says its largest logit, scale q . k before a soft-cap, which QK-Clip holds under tau. Prompts of up to 64 tokens.
 */
#include "gpt.h"
#include "model.h"           // defines: OpenModel, model_open_text, model_encode, model_close

enum { MOST_TOKENS = 64, MOST_NAMES = 16, MAP_WIDTH = 250, MAP_HEIGHT = 240 };

// The queries and keys of a layer as its attention has them, behind a forward pass of a model that keeps them. work: the room for
// keys that are put together, (N, NH * HS).
static Attention queries_and_keys(const Model *m, int layer, int T, const float **q, const float **k, float *work) {
    Batch batch = {.B = 1, .T = T};
    if (m->config->model.mixer == MIXER_MLA) {
        const LatentActs *a = &m->blocks[layer].latent;
        LatentSizes s = latent_sizes(m);
        latent_keys_forward(m, work, a->kv, a->down + s.Q + s.KVR, T);
        *q = a->q, *k = work;
        return latent_attention_of(m, layer, batch);
    }
    *q = m->blocks[layer].attention.qkv;
    *k = *q + m->NH * m->HS;
    return attention_of(m, layer, batch);
}

// The map of a head, rows from the last token up, NaN where causality leaves nothing. Returns the largest logit.
static double head_map(double *values, const float *q, const float *k, Attention a, int h) {
    int T = a.Tq, kv = h / (a.NH / a.NKV);
    double *s = xmalloc((size_t)T * sizeof *s), largest = -INFINITY;
    for (int i = 0; i < T; i++) {
        double sum = 0, top = -INFINITY, *row = values + (size_t)(T - 1 - i) * T;
        largest = fmax(largest, attention_reference_logits(s, q + (size_t)i * a.q_stride + (size_t)h * a.HS_qk,
                                                           k + (size_t)kv * a.HS_qk, a, i + 1));
        for (int j = 0; j <= i; j++) top = fmax(top, s[j]);
        for (int j = 0; j <= i; j++) sum += exp(s[j] - top);
        for (int j = 0; j < T; j++) row[j] = j <= i ? sqrt(exp(s[j] - top) / sum) : NAN;
    }
    free(s);
    return largest;
}

// Tokens as names of an axis; what wouldn't print becomes a dot.
static char **token_names(const Tokenizer *t, const int *ids, int n) {
    char **names = xmalloc((size_t)n * sizeof *names);
    for (int i = 0; i < n; i++) {
        int length = 0;
        const char *bytes = tokenizer_token(t, ids[i], &length);
        names[i] = format("%.*s", length, bytes ? bytes : "");
        for (char *c = names[i]; *c; c++) if ((unsigned char)*c < ' ') *c = '.';
    }
    return names;
}

static void draw(const OpenModel *o, const Model *m, const int *ids, int n, const char *path) {
    int heads = m->L * m->NH;
    PlotPanel *panels = xcalloc((size_t)heads, sizeof *panels);
    PlotHeat *maps = xcalloc((size_t)heads, sizeof *maps);
    char **names = token_names(&o->tokenizer, ids, n), **back = xmalloc((size_t)n * sizeof *back);
    for (int i = 0; i < n; i++) back[n - 1 - i] = names[i];
    float *work = xmalloc((size_t)n * m->NH * m->HS * sizeof *work);
    for (int l = 0; l < m->L; l++) {
        const float *q, *k;
        Attention a = queries_and_keys(m, l, n, &q, &k, work);
        for (int h = 0; h < m->NH; h++) {
            double *values = xmalloc((size_t)n * n * sizeof *values), largest = head_map(values, q, k, a, h);
            maps[l * m->NH + h] = (PlotHeat){.values = values, .nx = n, .ny = n, .marked = -1, .max = 1};
            panels[l * m->NH + h] = (PlotPanel){
                .title = format("layer %d head %d: %.3g", l + 1, h + 1, largest), .heat = &maps[l * m->NH + h],
                .xnames = n <= MOST_NAMES ? (const char *const *)names : NULL, .n_xnames = n <= MOST_NAMES ? n : 0,
                .ynames = n <= MOST_NAMES ? (const char *const *)back : NULL, .n_ynames = n <= MOST_NAMES ? n : 0};
        }
    }
    char *title = format("Where each token looks; largest logit. %s", o->checkpoint);
    if (plot_png_small(path, title, panels, heads, m->L, min_int(MAP_WIDTH * m->NH + 40, PLOT_MAX_SIZE),
                       min_int(MAP_HEIGHT * m->L + 60, PLOT_MAX_SIZE)) != 0)
        fail("%s: %s", path, strerror(errno));
    for (int i = 0; i < heads; i++) free((void *)maps[i].values), free((char *)panels[i].title);
    for (int i = 0; i < n; i++) free(names[i]);
    free(names), free(back), free(panels), free(maps), free(work), free(title);
}

int main(int argc, char **argv) {
    program_begin();
    wait_politely(argv);
    const char *run = NULL, *prompt = NULL, *out = NULL, *checkpoint = NULL, *value;
    for (int i = 1; i < argc; i++) {
        if ((value = flag_value(argv[i], "--prompt"))) prompt = value;
        else if ((value = flag_value(argv[i], "--out"))) out = value;
        else if ((value = flag_value(argv[i], "--checkpoint"))) checkpoint = value;
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: attention RUN --prompt=TEXT [--out=RUN/attention.png] [--checkpoint=FILE]\n"
                   "Draws where the heads of a run's model look when it reads TEXT, up to %d tokens, a map for each layer and head,\n"
                   "and prints each head's largest attention logit.\n", MOST_TOKENS);
            return 0;
        }
        else if (argv[i][0] == '-') fail_usage("%s: unknown flag; expected --prompt, --out or --checkpoint", argv[i]);
        else if (run) fail_usage("%s: one run is expected, %s is already given", argv[i], run);
        else run = argv[i];
    }
    if (!run) fail_usage("the folder of a run is expected, such as runs/default");
    if (!prompt || !*prompt) fail_usage("--prompt: the text that the model is to read is expected");
    OpenModel o;
    model_open_text(&o, run, checkpoint, 1);
    char error[ERROR_ROOM];
    long n;
    int *ids = model_encode(&o, prompt, strlen(prompt), &n, error, sizeof error), most = min_int(MOST_TOKENS, o.model.T);
    if (!ids) fail_usage("--prompt: %s", error);
    if (n > most) fail_usage("--prompt: %ld tokens; at most %d %s expected", n, most, most == 1 ? "is" : "are");

    // A model that keeps what its layers compute, as a backward pass needs it.
    o.config.train.recompute = RECOMPUTE_NONE;
    Model m = model_plan(&o.config, 1, o.model.V, true);
    model_allocate(&m);
    memcpy(m.params, o.model.params, m.n_params * sizeof *m.params);
    trunk_forward(&m, ids, (Batch){.B = 1, .T = (int)n});
    for (int i = 0; i < m.L * m.NH; i++)
        if (!isfinite(m.sequence_max[i])) fail("%s: a model that diverged: its logits aren't finite", o.checkpoint);
    char *path = out ? xstrdup(out) : format("%s/attention.png", run);
    draw(&o, &m, ids, (int)n, path);
    printf("largest logits, a row for each layer, heads from left to right:\n");
    for (int l = 0; l < m.L; l++)
        for (int h = 0; h < m.NH; h++) printf("%10.3g%s", m.sequence_max[(size_t)l * m.B * m.NH + h], h + 1 < m.NH ? "" : "\n");
    printf("picture: %s\n", path);
    free(path), free(ids);
    model_free(&m);
    model_close(&o);
    return 0;
}

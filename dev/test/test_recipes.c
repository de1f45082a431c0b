/* test_recipes.c - every optimizer.recipe, by its keys alone, against the packages themselves: dev/golden/packages.py ran them.
 *
 * Errors are of the change of the weights, relative. Run from the project's root.
 */
#define _GNU_SOURCE
#define MUON_IMPLEMENTATION
#include "../../src/keys.h"
#include "test.h"
#include "../../src/checkpoint.h"

static Checkpoint golden_file;

static const CkptTensor *golden(const char *kind, const char *name, const char *shape) {
    char *key = format("%s%s%s%s%s", kind, *name ? "." : "", name, *shape ? "." : "", shape);
    const CkptTensor *t = checkpoint_find(&golden_file, key);
    if (!t) fail("%s: no tensor %s", golden_file.path, key);
    free(key);
    return t;
}

static const char *word(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static double number(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : item ? item->valuedouble : NAN;
}

// The config of these words, each a key with its value; to be freed.
static Config config_of(int n, char **overrides) {
    Config c;
    char error[512];
    if (!config_try(&c, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), NULL, 0, "", n, overrides, NULL, error,
                    sizeof error)) fail("%s", error);
    config_resolve(&c, "test_recipes");
    return c;
}

// Relative distance of what two runs made of the same start.
static double distance(const float *x, const float *reference, const float *start, size_t n) {
    double off = 0.0, moved = 0.0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i] - reference[i], b = (double)reference[i] - start[i];
        off += a * a, moved += b * b;
    }
    return sqrt(off / moved);
}

enum { MOST_KEPT = 8 };

// The weights after each step that the file keeps, `kept` matrices one after the other.
static float *run_recipe(const cJSON *described, const char *shape) {
    const CkptTensor *base = golden("base", shape, ""), *steps = golden("steps", "", "");
    const int rows = (int)base->shape[0], cols = (int)base->shape[1], *kept = steps->data, n_kept = (int)steps->shape[0];
    const size_t n = (size_t)rows * (size_t)cols;
    char *overrides[] = {format("--optimizer.recipe=%s", word(described, "recipe")),
                         format("--optimizer.muon.lr=%g", number(described, "lr")),
                         format("--optimizer.muon.weight_decay=%g", number(described, "weight_decay"))};
    Config c = config_of(COUNT_OF(overrides), overrides);
    MuonOptions options[KEYS_SECTIONS];
    MuonCoefficients own;
    optimizer_options(&c, options, &own);
    char width[16];
    snprintf(width, sizeof width, "%d", cols);
    const int *columns = golden("columns", width, "")->data;
    float *w = xmalloc(n * sizeof *w), *g = xmalloc(n * sizeof *g), *after = xmalloc((size_t)n_kept * n * sizeof *after);
    memcpy(w, golden("w", shape, "")->data, n * sizeof *w);
    const int rule = tensor_rule(&c, ROLE_O, "wo");
    MuonParam p = {shape, w, g, 1, rows, cols, 0, rule, rule_lr(&c, rule, ROLE_O), rule_decay(&c, rule), NULL, {0}};
    void *state = xmalloc(muon_state_bytes(&p, 1, &options[KEYS_MUON]));
    void *scratch = xmalloc(muon_scratch_bytes(&p, 1, &options[KEYS_MUON]));
    Muon m;
    CHECK(muon_init(&m, &p, 1, &options[KEYS_MUON], state) == MUON_OK);
    for (int t = 0, k = 0; k < n_kept; t++) {
        for (int j = 0; j < cols; j++) {
            const int from = columns[t * cols + j];
            for (int i = 0; i < rows; i++) {
                const float x = ((const float *)base->data)[i * cols + abs(from) - 1];
                g[i * cols + j] = from < 0 ? -x : x;
            }
        }
        CHECK(muon_step(&m, 1.0, 1.0, scratch, 1) == MUON_OK);
        if (t + 1 == kept[k]) memcpy(after + (size_t)k++ * n, w, n * sizeof *w);
    }
    for (size_t i = 0; i < COUNT_OF(overrides); i++) free(overrides[i]);
    free(w); free(g); free(state); free(scratch);
    config_free(&c, config_fields, N_FIELDS);
    return after;
}

static cJSON *cases_of_file(void) {
    const CkptTensor *text = golden("cases", "", "");
    return cJSON_ParseWithLength(text->data, (size_t)text->shape[0]);
}

/* Within 1e-5 of the package in float32 at each step kept; and as far from the package as it is, in bfloat16 or float16, as
 * the package in float32 is. */
TEST(recipes_are_the_packages) {
    static const char *const shapes[] = {"wide", "tall", "square", "tiny"};
    const CkptTensor *steps = golden("steps", "", "");
    const int n_kept = (int)steps->shape[0];
    cJSON *cases = cases_of_file();
    const cJSON *described;
    cJSON_ArrayForEach(described, cases) {
        const char *name = word(described, "name");
        const bool half = number(described, "as_it_is") != 0;
        double worst[MOST_KEPT] = {0}, far[MOST_KEPT] = {0};
        for (size_t s = 0; s < COUNT_OF(shapes); s++) {
            const float *start = golden("w", shapes[s], "")->data, *exact = golden("exact", name, shapes[s])->data;
            const float *as_it_is = half ? golden("as_it_is", name, shapes[s])->data : NULL;
            const size_t n = golden("base", shapes[s], "")->shape[0] * golden("base", shapes[s], "")->shape[1];
            float *after = run_recipe(described, shapes[s]);
            for (int k = 0; k < n_kept; k++) {
                const size_t at = (size_t)k * n;
                const double error = distance(after + at, exact + at, start, n);
                CHECK_MSG(error <= 1e-5, "%s, %s, step %d: %.2e from %s", name, shapes[s], ((const int *)steps->data)[k], error,
                          word(described, "version"));
                worst[k] = fmax(worst[k], error);
                if (!half) continue;
                const double ours = distance(as_it_is + at, after + at, start, n);
                const double own = distance(as_it_is + at, exact + at, start, n);
                CHECK_MSG(fabs(ours - own) <= 1e-5 + 1e-3 * own, "%s, %s: %.4e from the package as it is, itself %.4e", name,
                          shapes[s], ours, own);
                far[k] = fmax(far[k], ours);
            }
            free(after);
        }
        printf("     %-18s %-24s", name, word(described, "version"));
        for (int k = 0; k < n_kept; k++) printf(" %.1e", worst[k]);
        for (int k = 0; k < n_kept && half; k++) printf("%s %.1e", k ? "" : "   as it is", far[k]);
        printf("\n");
    }
    cJSON_Delete(cases);
}

static const float *clipped(const char *when, const char *name) { return golden("qk_clip", when, name)->data; }

static float *copied(const char *name) {
    const CkptTensor *t = golden("qk_clip", "before", name);
    size_t bytes = (size_t)(t->shape[0] * t->shape[1]) * sizeof(float);
    return memcpy(xmalloc(bytes), t->data, bytes);
}

// muon_qk_clip and muon_qk_clip_mla against pytorch_optimizer's MuonClip, tau 100, alpha 1/2: the same to a float's last bit.
TEST(qk_clip_is_that_of_muon_clip) {
    enum { HEADS = 4, SIZE = 6, CONTENT = 6, ROTARY = 4, WIDTH = 10, LATENT = 8 };
    const float *logits = golden("qk_clip", "logits", "")->data, *content = clipped("before", "mla_query"),
                *rotary = clipped("before", "mla_query_rotary");
    float q[HEADS][CONTENT + ROTARY][WIDTH];
    int n;
    float *now[] = {copied("mha_query"), copied("mha_key")}, *key = copied("mla_key");
    const float *theirs[] = {clipped("after", "mha_query"), clipped("after", "mha_key")};
    CHECK(muon_qk_clip(now[0], NULL, now[1], NULL, HEADS, HEADS, SIZE, WIDTH, logits, 100, 0.5, &n) == MUON_OK && n == 2);
    for (int i = 0; i < HEADS * SIZE * WIDTH; i++)
        for (int k = 0; k < 2; k++)
            CHECK_MSG(fabsf(now[k][i] - theirs[k][i]) <= 2e-7f * fabsf(theirs[k][i]), "%d: %g, %g", i, now[k][i], theirs[k][i]);
    for (int h = 0; h < HEADS; h++) {
        memcpy(q[h], content + h * CONTENT * WIDTH, sizeof(float) * CONTENT * WIDTH);
        memcpy(q[h][CONTENT], rotary + h * ROTARY * WIDTH, sizeof(float) * ROTARY * WIDTH);
    }
    CHECK(muon_qk_clip_mla(q[0][0], WIDTH, key, LATENT, CONTENT, HEADS, CONTENT, ROTARY, logits, 100, 0.5, &n) == MUON_OK &&
          n == 2);
    for (int i = 0; i < HEADS * CONTENT * LATENT; i++) {
        const float theirs_key = clipped("after", "mla_key")[i];
        CHECK_MSG(fabsf(key[i] - theirs_key) <= 2e-7f * fabsf(theirs_key), "key %d: %g, %g", i, key[i], theirs_key);
    }
    for (int h = 0; h < HEADS; h++)
        for (int r = 0; r < CONTENT + ROTARY; r++)
            for (int j = 0; j < WIDTH; j++) {
                const float x = r < CONTENT ? clipped("after", "mla_query")[(h * CONTENT + r) * WIDTH + j]
                                            : clipped("after", "mla_query_rotary")[(h * ROTARY + r - CONTENT) * WIDTH + j];
                CHECK_MSG(fabsf(q[h][r][j] - x) <= 2e-7f * fabsf(x), "head %d, row %d: %g, %g", h, r, q[h][r][j], x);
            }
    free(now[0]); free(now[1]); free(key);
}

// Each recipe has a case, and the rate and the decay that its package has where nobody says otherwise.
TEST(every_recipe_is_run_with_its_packages_defaults) {
    cJSON *cases = cases_of_file();
    const cJSON *described;
    int length;
    const char *name;
    for (int i = 0; (name = config_name_at(RECIPES, i, &length)); i++) {
        char *recipe = format("%.*s", length, name), *override = format("--optimizer.recipe=%s", recipe);
        Config c = config_of(1, &override);
        bool found = false;
        cJSON_ArrayForEach(described, cases) {
            if (strcmp(word(described, "recipe"), recipe)) continue;
            found = true;
            const double lr = number(described, "default_lr"), decay = number(described, "default_weight_decay");
            CHECK_MSG(isnan(lr) || c.optimizer.muon.lr == lr, "%s: rate %g, the package's %g", recipe, c.optimizer.muon.lr, lr);
            CHECK_MSG(isnan(decay) || c.optimizer.muon.weight_decay == decay, "%s: decay %g, the package's %g", recipe,
                      c.optimizer.muon.weight_decay, decay);
        }
        CHECK_MSG(found, "%s: no case", recipe);
        config_free(&c, config_fields, N_FIELDS);
        free(recipe); free(override);
    }
    cJSON_Delete(cases);
}

int main(int argc, char **argv) {
    if (argc > 1) tests_only = argv[1];
    char error[512];
    if (checkpoint_open(&golden_file, "dev/golden/packages.golden", error, sizeof error) != 0) fail("%s", error);
    RUN(recipes_are_the_packages);
    RUN(qk_clip_is_that_of_muon_clip);
    RUN(every_recipe_is_run_with_its_packages_defaults);
    checkpoint_close(&golden_file);
    return tests_end();
}

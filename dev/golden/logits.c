/* logits.c - the logits of a run's model, for check_export.py to compare with those of other programs.
 *
 *     build/logits RUN ID ID ... > logits.f32        (number of ids, V) fp32: after each id those of the next token
 */
#include "../../tools/gpt.h"
#include "../../tools/model.h"

int main(int argc, char **argv) {
    program_begin();
    if (argc < 3) fail_usage("a run's folder and ids are expected");
    OpenModel o;
    choose_threads();
    gemm_use_precision(GEMM_FP32);
    model_open(&o, argv[1], NULL, 1);
    int n = argc - 2, V = o.model.V, *ids = xmalloc((size_t)n * sizeof *ids);
    if (n > o.model.T) fail_usage("%d ids: the model of %s sees at most %d", n, argv[1], o.model.T);
    for (int i = 0; i < n; i++) ids[i] = (int)integer_of("ID", argv[2 + i], 0, V - 1);
    float cap = (float)o.config.model.logit_softcap;
    trunk_forward(&o.model, ids, (Batch){.B = 1, .T = n});
    for (int i = 0; i < n; i++) {
        float *z = o.model.logits;
        linear_forward(z, o.model.norm + (size_t)i * o.model.C, model_linear(&o.model, PRODUCT_OUTPUT, 0), 1, (Epilogue){0});
        for (int v = 0; cap > 0 && v < V; v++) z[v] = cap * tanhf(z[v] / cap);
        fwrite(z, sizeof *z, (size_t)V, stdout);
    }
    free(ids);
    model_close(&o);
    return 0;
}

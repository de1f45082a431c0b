/* mlp.c - a small network trained with muon.h, the C library and nothing else: how to drop muon.h into a program.

   Build, from the project's root:  cc -O2 -I. dev/mlp.c -o build/mlp -lm
   Run:                             build/mlp               muon against adamw
                                    build/mlp normuon       any rule of muon.h for the hidden matrices
                                    build/mlp sgd 0.5       and its learning rate

   The task: which of three interleaved spirals does a point of the plane lie on? It needs no data from outside, no
   linear model does better than guessing, and it takes hidden layers that work together, which is what Muon is for.
   The network: 2 inputs, three hidden layers of tanh, 3 outputs, softmax; the mean cross-entropy of fresh points. */
#define MUON_IMPLEMENTATION
#include "muon.h"
#include <stdio.h>
#include <stdlib.h>

enum { INPUTS = 2, WIDTH = 32, CLASSES = 3, LAYERS = 4, BATCH = 64, STEPS = 1000, TEST_POINTS = 1500 };

// Weights, and with the same layout their gradients. Each matrix has a row per output, as muon.h expects.
typedef struct {
    float first[WIDTH * INPUTS], hidden[LAYERS - 2][WIDTH * WIDTH], last[CLASSES * WIDTH], biases[LAYERS][WIDTH];
} Net;

static const int sizes[LAYERS + 1] = { INPUTS, WIDTH, WIDTH, WIDTH, CLASSES };

static float *matrix(Net *net, int layer) {
    return layer == 0 ? net->first : layer == LAYERS - 1 ? net->last : net->hidden[layer - 1];
}

// Uniform in [0, 1): Knuth's linear congruential generator (MMIX), its upper 24 bits.
static float uniform(unsigned long long *seed) {
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (float)(*seed >> 40) / 16777216.0f;
}

// A point on a random spiral, two turns from the center outwards, a third of a turn behind the next; returns which.
static int spiral_point(unsigned long long *seed, float *point) {
    const int spiral = (int)(uniform(seed) * CLASSES);
    const float radius = 0.1f + 0.9f * uniform(seed), angle = 6.2831853f * (2.0f * radius + (float)spiral / CLASSES);
    point[0] = radius * cosf(angle) + 0.02f * (uniform(seed) - 0.5f);
    point[1] = radius * sinf(angle) + 0.02f * (uniform(seed) - 0.5f);
    return spiral;
}

/* One point through the network: returns its loss, -log p of the right class, and in *right whether that was the most
   likely one. With grad, which may be NULL, adds 1 / BATCH of its gradients. */
static float forward_backward(Net *net, Net *grad, const float *point, int label, int *right) {
    float x[LAYERS + 1][WIDTH] = { { 0 } }, d[WIDTH], below[WIDTH], sum = 0.0f;   // each layer's input; gradients
    int guess = 0;
    for (int i = 0; i < INPUTS; i++) x[0][i] = point[i];
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < sizes[l + 1]; i++) {
            const float *row = matrix(net, l) + i * sizes[l];
            float z = net->biases[l][i];
            for (int j = 0; j < sizes[l]; j++) z += row[j] * x[l][j];
            x[l + 1][i] = l < LAYERS - 1 ? tanhf(z) : z;
        }
    const float *logits = x[LAYERS];
    for (int i = 1; i < CLASSES; i++) if (logits[i] > logits[guess]) guess = i;
    for (int i = 0; i < CLASSES; i++) sum += expf(logits[i] - logits[guess]);
    *right = guess == label;
    const float loss = logf(sum) + logits[guess] - logits[label];
    if (!grad) return loss;
    for (int i = 0; i < CLASSES; i++) d[i] = (expf(logits[i] - logits[guess]) / sum - (float)(i == label)) / BATCH;
    for (int l = LAYERS - 1; l >= 0; l--) {
        for (int j = 0; j < sizes[l]; j++) below[j] = 0.0f;
        for (int i = 0; i < sizes[l + 1]; i++) {
            const float *row = matrix(net, l) + i * sizes[l];
            float *g = matrix(grad, l) + i * sizes[l];
            grad->biases[l][i] += d[i];
            for (int j = 0; j < sizes[l]; j++) {
                g[j] += d[i] * x[l][j];
                below[j] += d[i] * row[j];
            }
        }
        for (int j = 0; j < sizes[l]; j++) d[j] = below[j] * (1.0f - x[l][j] * x[l][j]);   // tanh' = 1 - tanh^2
    }
    return loss;
}

static int moved(FILE *f, int saving, void *x, size_t bytes) {
    return (saving ? fwrite(x, 1, bytes, f) : fread(x, 1, bytes, f)) == bytes;
}

/* A checkpoint, written or read: the weights, t, and the numbers of every slot of every tensor. Before it is read,
   muon_init has made m for the same table. Returns whether all of it went well. */
static int checkpoint(FILE *f, int saving, Net *net, Muon *m) {
    int good = moved(f, saving, net, sizeof *net) && moved(f, saving, &m->t, sizeof m->t);
    for (int i = 0; i < m->n; i++)
        for (int slot = 0; slot < MUON_SLOT_COUNT; slot++) {
            size_t n;
            float *state = muon_state(m, i, slot, &n);
            if (state) good = good && moved(f, saving, state, n * sizeof *state);
        }
    return good;
}

// Trains a network, its hidden matrices by this rule, and prints losses and accuracy. Returns 0, or 1 after an error.
static int train(int rule, double rate) {
    static Net net, grad;
    unsigned long long seed = 1;
    float *weights = (float *)&net, point[INPUTS];
    for (size_t i = 0; i < sizeof net / sizeof *weights; i++) weights[i] = 0.6f * (uniform(&seed) - 0.5f);
    for (int i = 0; i < WIDTH * INPUTS; i++) net.first[i] *= 10.0f;     // few inputs: larger weights, finer features

    // Hidden matrices by the rule, all in one row of the table; the ends and the biases by AdamW.
    const MuonParam params[] = {
        { "hidden", net.hidden[0], grad.hidden[0], LAYERS - 2, WIDTH, WIDTH, WIDTH * WIDTH, rule, rate, 0.01, NULL, { 0 } },
        { "first", net.first, grad.first, 1, WIDTH, INPUTS, 0, MUON_RULE_ADAMW, 0.01, 0.0, NULL, { 0 } },
        { "last", net.last, grad.last, 1, CLASSES, WIDTH, 0, MUON_RULE_ADAMW, 0.01, 0.01, NULL, { 0 } },
        { "biases", net.biases[0], grad.biases[0], 1, LAYERS, WIDTH, 0, MUON_RULE_ADAMW, 0.01, 0.0, NULL, { 0 } } };
    const int n_params = sizeof params / sizeof *params;
    const MuonOptions options = muon_default_options();
    void *state = malloc(muon_state_bytes(params, n_params, &options));
    void *scratch = malloc(muon_scratch_bytes(params, n_params, &options) + 1);   // 0 bytes where no rule needs any
    FILE *file = tmpfile();                                             // a program of yours would fopen a name
    Muon m;
    int error = !state || !scratch || !file ? MUON_E_ARGUMENT : muon_init(&m, params, n_params, &options, state);

    for (int step = 0; step < STEPS && !error; step++) {
        float loss = 0.0f;
        int right;
        memset(&grad, 0, sizeof grad);
        for (int i = 0; i < BATCH; i++) {
            const int label = spiral_point(&seed, point);
            loss += forward_backward(&net, &grad, point, label, &right) / BATCH;
        }
        if (step == 100) grad.hidden[1][7] = NAN;                       // what a broken batch does
        const double warm_up = (step + 1) / 20.0, decay = 1.0 - (double)step / STEPS;
        const double norm = muon_grad_norm(&m), clip = norm > 1.0 ? 1.0 / norm : 1.0;
        error = muon_step(&m, warm_up < decay ? warm_up : decay, clip, scratch, 1);
        if (error == MUON_E_NOT_FINITE) {          // nothing has changed: leave this batch out
            printf("step %3d  %s in %s, number %d: left out\n", step, muon_strerror(error), params[m.bad_tensor].name,
                   m.bad_matrix);
            error = MUON_OK;
        }
        if (step % 100 == 99) printf("step %3d  loss %.4f\n", step + 1, loss);
        if (step + 1 == STEPS / 2) {                                    // save, forget everything, and go on from there
            error = !checkpoint(file, 1, &net, &m);
            memset(&net, 0, sizeof net);
            rewind(file);
            if (!error) error = muon_init(&m, params, n_params, &options, state) || !checkpoint(file, 0, &net, &m);
        }
    }
    int rights = 0;
    for (int i = 0, right; i < TEST_POINTS && !error; i++, rights += right) {
        const int label = spiral_point(&seed, point);
        forward_backward(&net, NULL, point, label, &right);
    }
    if (error) printf("%s\n", muon_strerror(error));
    else printf("%s: %.1f %% of new points right\n", muon_rule_name(rule), 100.0 * rights / TEST_POINTS);
    if (file) fclose(file);
    free(state), free(scratch);
    return error != 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return train(MUON_RULE_ADAMW, 0.02) || train(MUON_RULE_MUON, 0.02);
    int rule = MUON_RULE_SGD;
    while (rule < MUON_RULE_COUNT && strcmp(argv[1], muon_rule_name(rule)) != 0) rule++;
    if (rule == MUON_RULE_COUNT) return printf("%s: no such rule\n", argv[1]), 2;
    return train(rule, argc > 2 ? atof(argv[2]) : 0.02);
}

/* weight-decay.c - how large the matrices of finished runs are, and what their blocks add to the residual stream.
 *
 *     build/study_weight-decay FOLDER RUN [RUN ...]       -> FOLDER/rms.csv, a line for each run
 *
 * RMS of all hidden matrices of the last checkpoint, and of x_out - x_in of a block, over the first batch of the training
 * text, mean over blocks.
 */
#include "../lab.h"

static void load(Trainer *t, const char *run) {
    char *path = format("%s/config.json", run), *from = format("%s/checkpoint.bin", run);
    lab_open(t, path, 0, NULL, 1);
    read_weights(&t->model, from);
    free(path), free(from);
}

static double rms_of_matrices(const Model *m) {
    double squares = 0, n = 0;
    for (int id = 0; id < N_TENSORS; id++) {
        const Tensor *row = &m->table[id];
        if (!role_is_hidden(row->role)) continue;
        size_t size = (size_t)row->rows * (size_t)row->cols;
        for (int l = 0; l < row->count; l++) {
            const float *w = weight(m, (TensorId)id, l);
            squares += lab_dot(w, w, size);
            n += (double)size;
        }
    }
    return sqrt(squares / n);
}

static double rms_of_blocks(Trainer *t) {
    Model *m = &t->model;
    size_t size = (size_t)m->B * (size_t)m->T * (size_t)m->C;       // (B, T, C)
    double sum = 0;
    dataloader_batch(&t->data, 0, m->B, 0, 1, t->inputs, t->targets);
    model_loss(m, t->inputs, t->targets, m->B, m->T);
    for (int l = 0; l < m->L; l++) {
        const float *in = m->blocks[l].x, *out = l + 1 < m->L ? m->blocks[l + 1].x : m->x_last;
        double squares = 0;
        for (size_t i = 0; i < size; i++) squares += ((double)out[i] - in[i]) * ((double)out[i] - in[i]);
        sum += sqrt(squares / (double)size) / m->L;
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 3) fail_usage("usage: study_weight-decay FOLDER RUN [RUN ...]");
    lab_begin(argv, argv[1]);
    LabCsv *csv = lab_csv("rms.csv", "run,matrices,block_outputs");
    for (int i = 2; i < argc; i++) {
        Trainer t = { 0 };
        load(&t, argv[i]);
        fprintf(csv->to, "%s,%.5g,%.5g\n", strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i], rms_of_matrices(&t.model),
                rms_of_blocks(&t));
        trainer_close(&t);
    }
    lab_csv_save(csv);
    return 0;
}

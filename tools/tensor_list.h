/* tensor_list.h - the tensors of a format, each with how it is made of the model's, and how the model's is made of it.
 *
 * defines: Way, Source, TensorList, VECTOR, list_add, list_add_reordered, list_add_stacked, list_add_own, list_free, rows_in_pairs,
 *          tensor_fetch, tensor_put
 * Included behind gpt.h. An export writes a list, an import reads one: names, shapes and what is turned, transposed or
 * moved stand in one place for both.
 */
#ifndef TENSOR_LIST_H
#define TENSOR_LIST_H

#include "../src/safetensors.h"     // defines: TensorType, SafeTensor

// TRANSPOSED: each block of head rows, (head, cols), as (cols, head); head 0: all rows are one block. TURNED: in each block of
// head rows the second half with the other sign, which lets RoPE run the other way. ZEROS: a bias that the model has not.
// PADDED: as it is, then zeros up to the shape. REORDERED: row r is row order[r] here.
typedef enum { AS_IT_IS, TRANSPOSED, TURNED, ZEROS, PADDED, REORDERED } Way;

// Of the model: (rows, cols), in `copies` pieces of as many rows each, `stride` floats apart. own: those floats where the list has them,
// NULL where the model has.
typedef struct { float *at; int rows, cols, head, *order, copies; size_t stride; Way way; float *own; } Source;

typedef struct { SafeTensor *tensors; int n, room; TensorType type; } TensorList;      // each tensor is `of` a Source of its own

enum { VECTOR = 0 };       // rows of what has one dimension; a matrix of one row still has two

// Appends a tensor, its name becoming the list's. at NULL: zeros.
static SafeTensor *list_add(TensorList *l, char *name, const float *at, int rows, int cols, Way way, int head) {
    if (l->n == l->room) {
        l->room = 2 * l->room + 64;
        l->tensors = xrealloc(l->tensors, (size_t)l->room * sizeof *l->tensors);
    }
    Source *source = xmalloc(sizeof *source);
    *source = (Source){(float *)(uintptr_t)at, rows == VECTOR ? 1 : rows, cols, head, NULL, 1, 0, at ? way : ZEROS, NULL};
    SafeTensor *t = &l->tensors[l->n++];
    uint64_t r = (uint64_t)rows, c = (uint64_t)cols, block = (uint64_t)head;
    *t = (SafeTensor){.name = name, .type = l->type, .ndim = rows == VECTOR ? 1 : 2, .shape = {rows == VECTOR ? c : r, c}, .of = source};
    if (way == TRANSPOSED && head) t->ndim = 3, t->shape[0] = r / block, t->shape[1] = c, t->shape[2] = block;
    else if (way == TRANSPOSED) t->shape[0] = c, t->shape[1] = r;
    return t;
}

static Source *source_of(const SafeTensor *t) { return (Source *)(uintptr_t)t->of; }

// A matrix with its rows in this order, which becomes the list's. cols 1: a vector, of one dimension.
static void list_add_reordered(TensorList *l, char *name, const float *at, int rows, int cols, int *order) {
    SafeTensor *t = list_add(l, name, at, rows, cols, REORDERED, 0);
    source_of(t)->order = order;
    if (cols == 1) t->ndim = 1;
}

// One tensor of three dimensions of `copies` matrices (rows, cols), which are `stride` floats apart.
static void list_add_stacked(TensorList *l, char *name, const float *at, int copies, size_t stride, int rows, int cols) {
    SafeTensor *t = list_add(l, name, at, copies * rows, cols, AS_IT_IS, 0);
    source_of(t)->copies = copies, source_of(t)->stride = stride;
    t->ndim = 3, t->shape[0] = (uint64_t)copies, t->shape[1] = (uint64_t)rows, t->shape[2] = (uint64_t)cols;
}

// A vector of what the model has in another form; the floats become the list's.
static void list_add_own(TensorList *l, char *name, float *own, int n) { source_of(list_add(l, name, own, VECTOR, n, AS_IT_IS, 0))->own = own; }

static void list_free(TensorList *l) {
    for (int i = 0; i < l->n; i++) {
        Source *source = source_of(&l->tensors[i]);
        free(l->tensors[i].name), free(source->order), free(source->own), free(source);
    }
    free(l->tensors);
}

// An order of the rows of `blocks` blocks: of each the last `rotated` ones, whose halves turn together here, so that neighbours do.
static int *rows_in_pairs(int blocks, int plain, int rotated) {
    int size = plain + rotated, *order = xmalloc((size_t)blocks * (size_t)size * sizeof *order);
    for (int i = 0; i < blocks * size; i++) {
        int r = i % size - plain;
        order[i] = r < 0 ? i : i - r + (r % 2 ? rotated / 2 + r / 2 : r / 2);
    }
    return order;
}

// The model's row that is row r of the tensor, or becomes one of it.
static float *source_row(const Source *s, int r) {
    int each = s->rows / s->copies, row = s->way == REORDERED ? s->order[r] : r;
    return s->at + (size_t)(row / each) * s->stride + (size_t)(row % each) * (size_t)s->cols;
}

// Numbers of a tensor from the model (out), or the model's from them (in). Exactly one of the two is not NULL.
static void source_move(const Source *s, float *out, const float *in) {
    size_t cols = (size_t)s->cols, block = (size_t)(s->head && s->way == TRANSPOSED ? s->head : s->rows);
    for (int r = 0; r < s->rows; r++) {
        float *row = source_row(s, r), sign = s->way == TURNED && r % s->head >= s->head / 2 ? -1.0f : 1.0f;
        // A row begins here in the tensor, and its numbers are so far apart.
        size_t begin = (size_t)r * cols, apart = 1;
        if (s->way == TRANSPOSED) begin = (size_t)r / block * block * cols + (size_t)r % block, apart = block;
        for (size_t c = 0; c < cols; c++)
            if (out) out[begin + c * apart] = sign * row[c];
            else row[c] = sign * in[begin + c * apart];
    }
}

// Fills out with t's numbers, from the model. For tensors_write.
static void tensor_fetch(float *out, const SafeTensor *t) {
    const Source *s = source_of(t);
    if (s->way == ZEROS || s->way == PADDED) memset(out, 0, (size_t)safetensor_numbers(t) * sizeof *out);
    if (s->way != ZEROS) source_move(s, out, NULL);
}

// The other way: t's numbers become the model's, but for what is ZEROS here. (Whether those are zeros, and what lies behind a
// PADDED one, is the caller's to look at.)
static void tensor_put(const SafeTensor *t, const float *in) {
    if (source_of(t)->way != ZEROS) source_move(source_of(t), NULL, in);
}

#endif // TENSOR_LIST_H

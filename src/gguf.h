/* gguf.h - llama.cpp's file of a model, GGUF version 3: keys with values, then tensors. Written; and read without believing a
 * number in it before it is checked.
 *
 * defines: GgufType, GgufKeys, gguf_keys_open, gguf_put_u32, gguf_put_f32, gguf_put_bool, gguf_put_string, gguf_put_array,
 *          gguf_add_string, gguf_add_i32, gguf_header, gguf_write; GgufKey, GgufFile, gguf_parse, gguf_open, gguf_key,
 *          gguf_tensor, gguf_value, gguf_next_string, gguf_close
 *
 * The file, little endian (as the package gguf 0.19.0 and llama.cpp of October 2026 have it; a string is a u64 and as many bytes):
 *
 *     "GGUF"    u32 version 3, u64 tensors, u64 keys
 *     keys      string name, u32 type, value; of an array: u32 type of the items, u64 how many, the items
 *     tensors   string name, u32 dimensions, u64 each of them, the fastest first; u32 type, u64 offset in the data
 *     data      from the next multiple of general.alignment (32) on; each tensor begins at the first multiple behind the one before
 *
 * Nothing here knows a model. Functions that can fail return -1 and put one line into `error` (room bytes). Tests:
 * dev/test/test_gguf.c, and the parser gguf of dev/test/fuzz.c.
 */
#ifndef GGUF_H
#define GGUF_H

#include <limits.h>
#include "safetensors.h"

typedef enum { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64,
               GGUF_I64, GGUF_F64, GGUF_TYPES } GgufType;

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32, GGUF_MOST_DIMENSIONS = 4,
       GGUF_KEY_ROOM = 65536, GGUF_NAME_ROOM = 64 };      // of the name of a key, of a tensor, with llama.cpp's NUL behind it

static inline const char *gguf_type_name(GgufType type) {
    static const char *const names[GGUF_TYPES] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64",
                                                  "i64", "f64"};
    return names[type];
}

static const uint32_t gguf_tensor_types[TENSOR_TYPES] = {[TENSOR_F32] = 0, [TENSOR_F16] = 1, [TENSOR_BF16] = 30};    // ggml's numbers

static inline uint64_t gguf_align(uint64_t x, uint64_t alignment) { return (x + alignment - 1) / alignment * alignment; }

// ---------------------------------------------------------------------------------------------------------------------
// Writing: keys one by one, then the file as a whole

typedef struct { FILE *f; char *bytes; size_t size; uint64_t n; } GgufKeys;

static inline void gguf_keys_open(GgufKeys *k) {
    *k = (GgufKeys){0};
    k->f = text_open(&k->bytes, &k->size);
}

static inline void gguf_add_u64(GgufKeys *k, uint64_t x) { fwrite(&x, sizeof x, 1, k->f); }
static inline void gguf_add_u32(GgufKeys *k, uint32_t x) { fwrite(&x, sizeof x, 1, k->f); }
static inline void gguf_add_i32(GgufKeys *k, int32_t x) { fwrite(&x, sizeof x, 1, k->f); }

static inline void gguf_add_string(GgufKeys *k, const char *bytes, size_t n) {
    gguf_add_u64(k, n);
    fwrite(bytes, 1, n, k->f);
}

static inline void gguf_add_key(GgufKeys *k, const char *key, GgufType type) {
    gguf_add_string(k, key, strlen(key));
    gguf_add_u32(k, type);
    k->n++;
}

static inline void gguf_put_u32(GgufKeys *k, const char *key, uint32_t x) { gguf_add_key(k, key, GGUF_U32), gguf_add_u32(k, x); }
static inline void gguf_put_bool(GgufKeys *k, const char *key, bool x) { gguf_add_key(k, key, GGUF_BOOL), fputc(x, k->f); }

static inline void gguf_put_f32(GgufKeys *k, const char *key, float x) {
    gguf_add_key(k, key, GGUF_F32);
    fwrite(&x, sizeof x, 1, k->f);
}

static inline void gguf_put_string(GgufKeys *k, const char *key, const char *text) {
    gguf_add_key(k, key, GGUF_STRING);
    gguf_add_string(k, text, strlen(text));
}

// An array of n items of a type, which the caller adds.
static inline void gguf_put_array(GgufKeys *k, const char *key, GgufType type, uint64_t n) {
    gguf_add_key(k, key, GGUF_ARRAY);
    gguf_add_u32(k, type);
    gguf_add_u64(k, n);
}

// The file up to the data, for n tensors of different names; *size is a multiple of GGUF_ALIGNMENT, *file_size that of all of it.
// Closes the keys. The caller frees it.
static inline char *gguf_header(GgufKeys *k, const SafeTensor *tensors, int n, size_t *size, uint64_t *file_size) {
    text_close(k->f, &k->bytes);
    GgufKeys all;
    gguf_keys_open(&all);
    fwrite("GGUF", 1, 4, all.f);
    gguf_add_u32(&all, GGUF_VERSION);
    gguf_add_u64(&all, (uint64_t)n);
    gguf_add_u64(&all, k->n);
    fwrite(k->bytes, 1, k->size, all.f);
    free(k->bytes);
    uint64_t offset = 0;
    for (int i = 0; i < n; i++) {
        const SafeTensor *t = &tensors[i];
        gguf_add_string(&all, t->name, strlen(t->name));
        gguf_add_u32(&all, (uint32_t)t->ndim);
        for (int d = t->ndim - 1; d >= 0; d--) gguf_add_u64(&all, t->shape[d]);
        gguf_add_u32(&all, gguf_tensor_types[t->type]);
        gguf_add_u64(&all, offset);
        offset = gguf_align(offset + safetensor_bytes(t), GGUF_ALIGNMENT);
    }
    for (long end = ftell(all.f); end % GGUF_ALIGNMENT; end++) fputc(0, all.f);
    text_close(all.f, &all.bytes);
    *size = all.size;
    *file_size = all.size + offset;
    return all.bytes;
}

// Writes the tensors behind their header (gguf_header); the rest as tensors_write.
static inline int gguf_write(const char *path, const void *header, size_t size, const SafeTensor *tensors, int n,
                             void (*fetch)(float *out, const SafeTensor *t), char *error, size_t room) {
    return tensors_write(path, header, size, tensors, n, GGUF_ALIGNMENT, fetch, error, room);
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

typedef struct {
    char *name;
    GgufType type, item;     // of an array: GGUF_ARRAY and the type of its items; else the same twice
    uint64_t count;          // items; 1 where it is no array
    const uint8_t *at;       // the value's bytes, the first item's
} GgufKey;

typedef struct {
    char *path;
    const uint8_t *bytes, *at, *end;         // the file, and what is left of it to read
    MappedFile map;                          // of gguf_open
    uint64_t size;                           // of the whole file
    GgufKey *keys;
    SafeTensor *tensors;                     // in the order of the file; shapes the slowest dimension first; `of` its bytes in the file
    int n_keys, n_tensors;
    uint64_t alignment, data_bytes;          // data_bytes: up to the end of the last tensor
    char *error;
    size_t room;
} GgufFile;

// Writes "file: ..." as one line. Always false, so that a caller can return it.
PRINTF_LIKE(2, 3) static inline bool gguf_error(GgufFile *g, const char *fmt, ...) {
    char reason[400];
    va_list args;
    va_start(args, fmt);
    error_line_of(reason, sizeof reason, fmt, args);
    va_end(args);
    snprintf(g->error, g->room, "%s: %s", g->path, reason);
    return false;
}

static inline uint64_t gguf_left(const GgufFile *g) { return (uint64_t)(g->end - g->at); }

static inline bool gguf_take(GgufFile *g, void *to, size_t n, const char *of) {
    if (gguf_left(g) < n) return gguf_error(g, "%.80s: the file ends within it", of);
    memcpy(to, g->at, n);
    g->at += n;
    return true;
}

// The next name, of fewer than `most` bytes, to be freed. kind, number: "key", "tensor" and which of them.
static inline bool gguf_take_name(GgufFile *g, char **name, uint64_t most, const char *kind, int number) {
    char of[40];
    uint64_t n = 0;
    snprintf(of, sizeof of, "name of %s %d", kind, number);
    if (!gguf_take(g, &n, sizeof n, of)) return false;
    if (n == 0 || n >= most) return gguf_error(g, "%s: %llu bytes long: 1 to %llu expected", of, (unsigned long long)n, (unsigned long long)most - 1);
    if (n > gguf_left(g)) return gguf_error(g, "%s: the file ends within it", of);
    if (memchr(g->at, 0, n)) return gguf_error(g, "%s: has a byte 0", of);
    *name = (char *)xmalloc(n + 1);
    memcpy(*name, g->at, n);
    (*name)[n] = '\0';
    g->at += n;
    return true;
}

// Passes over `count` values of a type, all of which must be there.
static inline bool gguf_skip_values(GgufFile *g, GgufType type, uint64_t count, const char *name) {
    static const unsigned char sizes[GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};      // of a string: its length
    if (count > gguf_left(g) / sizes[type])
        return gguf_error(g, "key %.80s: %llu values of type %s, which the file has no room for", name, (unsigned long long)count, gguf_type_name(type));
    if (type == GGUF_STRING)
        for (uint64_t i = 0, n = 0; i < count; i++) {
            if (!gguf_take(g, &n, sizeof n, name)) return false;
            if (n > gguf_left(g)) return gguf_error(g, "key %.80s: string %llu ends behind the file's end", name, (unsigned long long)i);
            g->at += n;
        }
    else {
        for (uint64_t i = 0; type == GGUF_BOOL && i < count; i++)
            if (g->at[i] > 1) return gguf_error(g, "key %.80s: a bool is %d: 0 or 1 expected", name, g->at[i]);
        g->at += count * sizes[type];
    }
    return true;
}

static inline bool gguf_take_key(GgufFile *g) {
    GgufKey *k = &g->keys[g->n_keys];
    uint32_t type = 0, item;
    *k = (GgufKey){.count = 1};
    if (!gguf_take_name(g, &k->name, GGUF_KEY_ROOM, "key", g->n_keys)) return false;
    g->n_keys++;
    if (!gguf_take(g, &type, sizeof type, k->name)) return false;
    item = type;
    if (type == GGUF_ARRAY && !(gguf_take(g, &item, sizeof item, k->name) && gguf_take(g, &k->count, sizeof k->count, k->name))) return false;
    if (item >= GGUF_TYPES || item == GGUF_ARRAY)
        return gguf_error(g, "key %.80s: type %u: 0 to %d expected, and no array of arrays", k->name, item, GGUF_TYPES - 1);
    k->type = (GgufType)type, k->item = (GgufType)item;
    k->at = g->at;
    return gguf_skip_values(g, k->item, k->count, k->name);
}

// A tensor's type from ggml's number; those that are quantized are not read.
static inline bool gguf_take_type(GgufFile *g, SafeTensor *t) {
    static const struct { uint32_t type; const char *name; } others[] = {
        {2, "Q4_0"}, {3, "Q4_1"}, {6, "Q5_0"}, {7, "Q5_1"}, {8, "Q8_0"}, {10, "Q2_K"}, {11, "Q3_K"}, {12, "Q4_K"}, {13, "Q5_K"}, {14, "Q6_K"},
        {28, "F64"},
    };
    uint32_t type = 0;
    if (!gguf_take(g, &type, sizeof type, t->name)) return false;
    for (int i = 0; i < TENSOR_TYPES; i++)
        if (gguf_tensor_types[i] == type) { t->type = (TensorType)i; return true; }
    const char *name = "";
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (others[i].type == type) name = others[i].name;
    return gguf_error(g, "tensor %s: type %u%s%s%s: F32, F16 or BF16 expected", t->name, type, *name ? " (" : "", name, *name ? ")" : "");
}

static inline bool gguf_take_tensor(GgufFile *g) {
    SafeTensor *t = &g->tensors[g->n_tensors];
    uint32_t ndim = 0;
    uint64_t offset = 0, bytes = 1;
    *t = (SafeTensor){0};
    if (!gguf_take_name(g, &t->name, GGUF_NAME_ROOM, "tensor", g->n_tensors)) return false;
    g->n_tensors++;
    if (!gguf_take(g, &ndim, sizeof ndim, t->name)) return false;
    if (ndim < 1 || ndim > GGUF_MOST_DIMENSIONS)
        return gguf_error(g, "tensor %s: %u dimensions: 1 to %d expected", t->name, ndim, GGUF_MOST_DIMENSIONS);
    t->ndim = (int)ndim;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (!gguf_take(g, &t->shape[d], sizeof t->shape[d], t->name)) return false;
        if (t->shape[d] == 0 || __builtin_mul_overflow(bytes, t->shape[d], &bytes))
            return gguf_error(g, "tensor %s: a dimension is %llu: more than 0 expected, and fewer than 2^64 numbers", t->name, (unsigned long long)t->shape[d]);
    }
    if (!gguf_take_type(g, t) || !gguf_take(g, &offset, sizeof offset, t->name)) return false;
    // Where the data begins isn't known yet: no tensor is larger than the file, and each follows the one before.
    if (__builtin_mul_overflow(bytes, (uint64_t)tensor_type_bytes(t->type), &bytes) || bytes > g->size)
        return gguf_error(g, "tensor %s: larger than the file", t->name);
    uint64_t expected = gguf_align(g->data_bytes, g->alignment);
    if (offset != expected)
        return gguf_error(g, "tensor %s: offset %llu: %llu expected, the first multiple of %llu behind the tensor before", t->name,
                          (unsigned long long)offset, (unsigned long long)expected, (unsigned long long)g->alignment);
    g->data_bytes = expected + bytes;
    if (g->data_bytes > g->size) return gguf_error(g, "tensor %s: ends behind the file's end", t->name);
    return true;
}

// A key's value, which must be of this type; false where there is none such.
static inline bool gguf_value(const GgufKey *k, GgufType type, void *x, size_t bytes) {
    if (!k || k->type != type) return false;
    memcpy(x, k->at, bytes);
    return true;
}

// Whether n names, each at the begin of a struct of `size` bytes, are different.
static inline bool gguf_check_names(GgufFile *g, const void *structs, size_t size, int n, const char *kind) {
    char **names = (char **)xmalloc((size_t)n * sizeof *names), twice[81] = "";
    for (int i = 0; i < n; i++) names[i] = *(char *const *)(const void *)((const char *)structs + (size_t)i * size);
    qsort(names, (size_t)n, sizeof *names, compare_strings);
    for (int i = 1; i < n; i++)
        if (!strcmp(names[i], names[i - 1])) snprintf(twice, sizeof twice, "%s", names[i]);
    free(names);
    return !*twice || gguf_error(g, "%s %s: is there twice", kind, twice);
}

// The key of this name, or NULL.
static inline const GgufKey *gguf_key(const GgufFile *g, const char *name) {
    for (int i = 0; i < g->n_keys; i++)
        if (!strcmp(g->keys[i].name, name)) return &g->keys[i];
    return NULL;
}

// The tensor of this name, or NULL.
static inline const SafeTensor *gguf_tensor(const GgufFile *g, const char *name) {
    for (int i = 0; i < g->n_tensors; i++)
        if (!strcmp(g->tensors[i].name, name)) return &g->tensors[i];
    return NULL;
}

// The bytes of the string at *at, *n of them, no NUL behind; moves *at to the next one of an array.
static inline const char *gguf_next_string(const uint8_t **at, size_t *n) {
    uint64_t length;
    memcpy(&length, *at, sizeof length);
    const char *text = (const char *)*at + sizeof length;
    *at += sizeof length + length;
    *n = (size_t)length;
    return text;
}

static inline void gguf_close(GgufFile *g) {
    for (int i = 0; i < g->n_keys; i++) free(g->keys[i].name);
    for (int i = 0; i < g->n_tensors; i++) free(g->tensors[i].name);
    free(g->keys), free(g->tensors), free(g->path);
    file_unmap(&g->map);
    memset(g, 0, sizeof *g);
}

static inline bool gguf_take_alignment(GgufFile *g) {
    const GgufKey *k = gguf_key(g, "general.alignment");
    uint32_t x = GGUF_ALIGNMENT;
    if (k && k->type == GGUF_U32) memcpy(&x, k->at, sizeof x);
    g->alignment = x;
    if ((k && k->type != GGUF_U32) || x == 0 || (x & (x - 1)) || x > 1 << 20)
        return gguf_error(g, "key general.alignment: %s %u: a u32 expected, a power of two up to 2^20", k ? gguf_type_name(k->type) : "", x);
    return true;
}

static inline bool gguf_take_all(GgufFile *g) {
    enum { LEAST_KEY = 8 + 1 + 4 + 1, LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8 };      // bytes of them
    char magic[4];
    uint32_t version = 0;
    uint64_t tensors = 0, keys = 0;
    if (gguf_left(g) < 24 || !gguf_take(g, magic, sizeof magic, "the header") || memcmp(magic, "GGUF", 4) != 0)
        return gguf_error(g, "no GGUF file: \"GGUF\" and 20 bytes of header expected at its beginning");
    gguf_take(g, &version, sizeof version, "version"), gguf_take(g, &tensors, sizeof tensors, "tensors"), gguf_take(g, &keys, sizeof keys, "keys");
    if (version != GGUF_VERSION)
        return gguf_error(g, "version %u: %d expected%s", version, GGUF_VERSION, version == (uint32_t)GGUF_VERSION << 24 ? " (this one is big-endian)" : "");
    if (keys > gguf_left(g) / LEAST_KEY || tensors > gguf_left(g) / LEAST_TENSOR || keys > INT_MAX || tensors > INT_MAX)
        return gguf_error(g, "%llu keys and %llu tensors, which the file has no room for", (unsigned long long)keys, (unsigned long long)tensors);
    g->keys = (GgufKey *)xcalloc(keys, sizeof *g->keys);
    g->tensors = (SafeTensor *)xcalloc(tensors, sizeof *g->tensors);
    for (uint64_t i = 0; i < keys; i++)
        if (!gguf_take_key(g)) return false;
    if (!gguf_check_names(g, g->keys, sizeof *g->keys, g->n_keys, "key") || !gguf_take_alignment(g)) return false;
    for (uint64_t i = 0; i < tensors; i++)
        if (!gguf_take_tensor(g)) return false;
    return gguf_check_names(g, g->tensors, sizeof *g->tensors, g->n_tensors, "tensor");
}

// Where the tensors' bytes are. Behind them the file may be filled up to a multiple of the alignment.
static inline bool gguf_place(GgufFile *g) {
    uint64_t begin = gguf_align((uint64_t)(g->at - g->bytes), g->alignment), at = 0, left;
    if (g->n_tensors == 0) return true;
    if (begin > g->size || g->data_bytes > (left = g->size - begin))
        return gguf_error(g, "tensor %s: the file ends within or before it, at %llu bytes", g->tensors[g->n_tensors - 1].name, (unsigned long long)g->size);
    if (left > gguf_align(g->data_bytes, g->alignment))
        return gguf_error(g, "%llu bytes follow the last tensor", (unsigned long long)(left - g->data_bytes));
    for (int i = 0; i < g->n_tensors; i++) {
        g->tensors[i].of = g->bytes + begin + at;
        at = gguf_align(at + safetensor_bytes(&g->tensors[i]), g->alignment);
    }
    return true;
}

/* Reads the first n bytes of a file of `size` bytes, which must stay until gguf_close; where n is less, tensors lie behind what is
 * there. Every number is checked before it is believed; what is no key, type, shape or place that llama.cpp takes is refused: names
 * that are there twice, tensors that overlap, leave a gap or are cut off, and quantized ones. Returns 0, or -1 with a line that
 * names path and the key or tensor; g then needs no gguf_close. */
static inline int gguf_parse(GgufFile *g, const char *path, const void *bytes, size_t n, uint64_t size, char *error, size_t room) {
    *g = (GgufFile){.path = xstrdup(path), .bytes = (const uint8_t *)bytes, .size = size, .alignment = GGUF_ALIGNMENT, .error = error, .room = room};
    g->at = g->bytes, g->end = g->bytes + n;
    if (gguf_take_all(g) && gguf_place(g)) return 0;
    gguf_close(g);
    return -1;
}

// gguf_parse of a whole file, of which only what is looked at becomes memory.
static inline int gguf_open(GgufFile *g, const char *path, char *error, size_t room) {
    MappedFile map;
    if (tensors_map(&map, path, error, room) != 0) return -1;
    int result = gguf_parse(g, path, map.bytes, map.size, map.size, error, room);
    if (result == 0) g->map = map;
    else file_unmap(&map);
    return result;
}

#endif // GGUF_H

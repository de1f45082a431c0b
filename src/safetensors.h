/* safetensors.h - Hugging Face's files of tensors, written and read, in fp32, bf16 or fp16.
 *
 * defines: TensorType, tensor_type_of, tensor_type_bytes, tensor_convert, tensor_floats, SafeTensor, tensors_write,
 *          safetensors_write, tensors_map, SafeFile, safetensors_open, safetensors_close
 *
 * The file, little endian (the safetensors package's own reader, version 0.8):
 *
 *     u64       bytes of the header
 *     header    JSON: {"__metadata__": {"format": "pt"}, NAME: {"dtype": "F32|BF16|F16", "shape": [...],
 *               "data_offsets": [begin, end]}, ...}, blanks up to a multiple of 8; offsets count from its end, and leave
 *               no gap
 *     tensors   row-major, one behind the other
 *
 * A file may have tensors of other types, too (safetensors_types): they are read as far as their size. Nothing here knows a
 * model. No function prints or ends the program, but for want of memory: an error is one line in the caller's buffer.
 */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "json.h"
#include "util.h"

typedef enum { TENSOR_F32, TENSOR_BF16, TENSOR_F16, TENSOR_TYPES } TensorType;

// The type of a name ("f32", "bf16", "f16"), or TENSOR_TYPES.
static inline TensorType tensor_type_of(const char *name) {
    static const char *const names[TENSOR_TYPES] = {"f32", "bf16", "f16"};
    int type = 0;
    while (type < TENSOR_TYPES && strcmp(names[type], name) != 0) type++;
    return (TensorType)type;
}

static inline size_t tensor_type_bytes(TensorType type) { return type == TENSOR_F32 ? 4 : 2; }

// x rounded to bfloat16: nearest, ties to even; NaN stays one.
static inline uint16_t tensor_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// x rounded to IEEE's binary16, likewise; beyond 65504 infinity.
static inline uint16_t tensor_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    int exponent = (int)(bits >> 23 & 0xff) - 127;
    uint32_t fraction = bits & 0x7fffffu;
    if (exponent == 128) return (uint16_t)(sign | 0x7c00u | (fraction ? 0x200u : 0));
    if (exponent < -25) return sign;
    // A number of 2^-14 and more has 10 of its 23 bits of fraction; a smaller one loses a further bit with each power of two.
    int drop = exponent >= -14 ? 13 : 13 + (-14 - exponent);
    uint32_t whole = fraction | 0x800000u, kept = whole >> drop, rest = whole & ((1u << drop) - 1), half = 1u << (drop - 1);
    if (rest > half || (rest == half && (kept & 1))) kept++;
    uint32_t value = exponent >= -14 ? ((uint32_t)(exponent + 14) << 10) + kept : kept;     // a carry goes into the exponent
    return (uint16_t)(sign | (value > 0x7c00u ? 0x7c00u : value));
}

// Writes n numbers of x into out (n * tensor_type_bytes bytes, not x). Returns how many finite ones the type can't hold.
static inline size_t tensor_convert(void *out, const float *x, size_t n, TensorType type) {
    size_t lost = 0;
    for (size_t i = 0; i < n; i++) {
        if (type == TENSOR_F32) { ((float *)out)[i] = x[i]; continue; }
        uint16_t word = type == TENSOR_BF16 ? tensor_bf16(x[i]) : tensor_f16(x[i]);
        uint16_t largest = type == TENSOR_BF16 ? 0x7f80u : 0x7c00u;
        lost += (word & 0x7fffu) == largest && isfinite(x[i]);
        ((uint16_t *)out)[i] = word;
    }
    return lost;
}

// The float of a half: exact.
static inline float tensor_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ffu;
    if (exponent == 31) exponent = 255;
    else if (exponent) exponent += 127 - 15;
    else if (fraction) {                                 // 2^-24 * fraction: a float's own exponent, down from 2^-15
        for (exponent = 127 - 14; !(fraction & 0x400u); exponent--) fraction <<= 1;
        fraction &= 0x3ffu;
    }
    uint32_t bits = sign | exponent << 23 | fraction << 13;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// n numbers of a type, at any address, as floats: the other way, exact.
static inline void tensor_floats(float *out, const void *from, size_t n, TensorType type) {
    if (type == TENSOR_F32) { memcpy(out, from, n * sizeof *out); return; }
    for (size_t i = 0; i < n; i++) {
        uint16_t word;
        memcpy(&word, (const char *)from + 2 * i, sizeof word);
        uint32_t bits = (uint32_t)word << 16;
        if (type == TENSOR_F16) out[i] = tensor_of_f16(word);
        else memcpy(out + i, &bits, sizeof bits);
    }
}

enum { SAFETENSORS_DIMS = 8 };

typedef struct {
    char *name;
    TensorType type;         // of a file that was read also a row of safetensors_types behind those
    int ndim;                // 1 to 4; of a file that was read 0 to SAFETENSORS_DIMS
    uint64_t shape[SAFETENSORS_DIMS];    // the first ndim of it
    const void *of;          // what fetch makes the tensor of; of a file that was read its bytes there
} SafeTensor;

static inline uint64_t safetensor_numbers(const SafeTensor *t) {
    uint64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

static inline uint64_t safetensor_bytes(const SafeTensor *t) { return safetensor_numbers(t) * tensor_type_bytes(t->type); }

// The types of the format, with the bits of a number; the first three are those of TensorType.
static const struct { const char *name; int bits; } safetensors_types[] = {
    {"F32", 32}, {"BF16", 16}, {"F16", 16}, {"F64", 64}, {"I64", 64}, {"U64", 64}, {"C64", 64}, {"I32", 32}, {"U32", 32}, {"I16", 16},
    {"U16", 16}, {"I8", 8}, {"U8", 8}, {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
};

// The file up to the tensors: the header's length, its JSON, its blanks. The caller frees it.
static inline char *safetensors_header(const SafeTensor *tensors, int n, size_t *size) {
    char *text;
    FILE *out = text_open(&text, size);
    uint64_t at = 0, length = 0;
    fwrite(&length, sizeof length, 1, out);                      // once it is known
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", out);
    for (int i = 0; i < n; i++) {
        uint64_t end = at + safetensor_bytes(&tensors[i]);
        fputc(',', out);
        json_put_string(out, tensors[i].name, SIZE_MAX);
        fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_types[tensors[i].type].name);
        for (int d = 0; d < tensors[i].ndim; d++) fprintf(out, "%s%llu", d ? "," : "", (unsigned long long)tensors[i].shape[d]);
        fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
        at = end;
    }
    fputc('}', out);
    for (long end = ftell(out); end % 8; end++) fputc(' ', out);
    text_close(out, &text);
    length = *size - sizeof length;
    memcpy(text, &length, sizeof length);
    return text;
}

/* Writes n tensors of different names, one behind the other, into the file at path behind `size` bytes of header, as a whole
 * or not at all (replace_open); behind each, zeros up to a multiple of `alignment` bytes. fetch(out, t) fills out with t's numbers. Returns 0, or -1 with one line in error: the file
 * can't be written, or a number doesn't fit a type. */
static inline int tensors_write(const char *path, const void *header, size_t size, const SafeTensor *tensors, int n, size_t alignment,
                                void (*fetch)(float *out, const SafeTensor *t), char *error, size_t room) {
    Replacement file = replace_open(path);
    int code = 0;
    if (file.f && fwrite(header, 1, size, file.f) != size) code = errno ? errno : EIO;
    *error = '\0';
    for (int i = 0; file.f && i < n && !code; i++) {
        size_t numbers = (size_t)safetensor_numbers(&tensors[i]);
        float *values = (float *)xmalloc(numbers * sizeof *values);
        void *bytes = xmalloc(numbers * sizeof *values);
        fetch(values, &tensors[i]);
        size_t lost = tensor_convert(bytes, values, numbers, tensors[i].type);
        if (lost) {
            snprintf(error, room, "%s: %zu numbers are beyond what the type holds (65504 in f16); f32 or bf16 hold them", tensors[i].name, lost);
            code = ERANGE;
        } else if (fwrite(bytes, tensor_type_bytes(tensors[i].type), numbers, file.f) != numbers) code = errno ? errno : EIO;
        for (size_t end = numbers * tensor_type_bytes(tensors[i].type); !code && end % alignment; end++)
            if (fputc(0, file.f) == EOF) code = errno ? errno : EIO;
        free(values), free(bytes);
    }
    if (replace_close(&file, code) == 0) return 0;
    if (!*error) snprintf(error, room, "%s: cannot be written: %s", path, strerror(errno));
    return -1;
}

// The tensors with safetensors' header; the rest as tensors_write.
static inline int safetensors_write(const char *path, const SafeTensor *tensors, int n, void (*fetch)(float *out, const SafeTensor *t),
                                    char *error, size_t room) {
    size_t size;
    char *header = safetensors_header(tensors, n, &size);
    int result = tensors_write(path, header, size, tensors, n, 1, fetch, error, room);
    free(header);
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

// Maps the file at path. 0, or -1 with a line in error.
static inline int tensors_map(MappedFile *m, const char *path, char *error, size_t room) {
    const char *reason = file_map(m, file_open(path));
    if (reason) snprintf(error, room, "%s: cannot be read: %s", path, reason);
    return reason ? -1 : 0;
}

typedef struct {
    MappedFile file;
    SafeTensor *tensors;     // n of them, by name
    int n;
} SafeFile;

enum { SAFETENSORS_HEADER = 100000000, SAFETENSORS_MOST = 1000000 };

// A whole number of JSON, up to 2^53. false where item is none.
static inline bool safetensors_number(const cJSON *item, uint64_t *x) {
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= 9007199254740992.0) || value != floor(value)) return false;
    *x = (uint64_t)value;
    return true;
}

// One entry of the header, with the numbers of its offsets; what is wrong with it, or NULL. limit: bytes of all tensors.
// Nothing is multiplied or added before it is known to be small enough.
static inline const char *safetensors_entry(SafeTensor *t, const cJSON *item, uint64_t limit, uint64_t offsets[2]) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "dtype"), *shape = cJSON_GetObjectItemCaseSensitive(item, "shape"),
                *at = cJSON_GetObjectItemCaseSensitive(item, "data_offsets"), *dim;
    int known = 0;
    if (!cJSON_IsString(type)) return "dtype: a string expected";
    while (known < (int)COUNT_OF(safetensors_types) && strcmp(safetensors_types[known].name, type->valuestring)) known++;
    if (known == (int)COUNT_OF(safetensors_types)) return "dtype: not a type of safetensors";
    t->type = (TensorType)known;
    if (!cJSON_IsArray(shape)) return "shape: a list of sizes expected";
    uint64_t bits = (uint64_t)safetensors_types[known].bits, size;
    bool empty = false, fits = true;
    cJSON_ArrayForEach(dim, shape) {
        if (!safetensors_number(dim, &size)) return "shape: a list of sizes expected";
        if (t->ndim == SAFETENSORS_DIMS) return "shape: more than 8 sizes";
        t->shape[t->ndim++] = size;
        empty |= size == 0;
        fits = fits && !__builtin_mul_overflow(bits, size, &bits);
    }
    if (empty) bits = 0, fits = true;
    if (!cJSON_IsArray(at) || cJSON_GetArraySize(at) != 2 || !safetensors_number(at->child, &offsets[0]) ||
        !safetensors_number(at->child->next, &offsets[1]) || offsets[0] > offsets[1])
        return "data_offsets: two offsets in order expected";
    if (offsets[1] > limit) return "data_offsets: behind the end of the file: cut off, or damaged";
    if (!fits || bits % 8 || bits / 8 != offsets[1] - offsets[0]) return "data_offsets: not as many bytes as its shape has";
    return NULL;
}

typedef struct { uint64_t begin, end; } SafeSpan;

static inline int safetensors_by_begin(const void *a, const void *b) {
    const SafeSpan *x = (const SafeSpan *)a, *y = (const SafeSpan *)b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

static inline int safetensors_by_name(const void *a, const void *b) {
    return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

// "PATH: NAME: what is wrong", of a name that a user didn't write: no control characters, not endless. Always -1.
static inline int safetensors_refuse(const char *path, const char *name, const char *wrong, char *error, size_t room) {
    snprintf(error, room, "%s: %.200s%s%s", path, name, *name ? ": " : "", wrong);
    for (char *c = error; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    return -1;
}

// Fills in f->tensors from the header's object, whose tensors begin at data.
static inline int safetensors_take(SafeFile *f, const char *path, const cJSON *root, const unsigned char *data, char *error, size_t room) {
    uint64_t limit = (uint64_t)(f->file.bytes + f->file.size - data), end = 0;
    int most = cJSON_GetArraySize(root);
    if (most > SAFETENSORS_MOST) return safetensors_refuse(path, "", "more than a million tensors", error, room);
    f->tensors = (SafeTensor *)xcalloc((size_t)most, sizeof *f->tensors);
    SafeSpan *spans = (SafeSpan *)xmalloc((size_t)most * sizeof *spans);
    const char *wrong = NULL, *name = "";
    bool metadata = false;
    for (const cJSON *item = root->child; item && !wrong; item = item->next) {
        name = item->string;
        if (!strcmp(name, "__metadata__")) {
            wrong = metadata ? "there twice" : cJSON_IsObject(item) ? NULL : "an object expected";
            for (const cJSON *word = item->child; word && !wrong; word = word->next)
                if (!cJSON_IsString(word)) wrong = "strings expected";
            metadata = true;
            continue;
        }
        SafeTensor *t = &f->tensors[f->n];
        uint64_t offsets[2] = {0, 0};
        wrong = cJSON_IsObject(item) ? safetensors_entry(t, item, limit, offsets) : "an object expected";
        spans[f->n] = (SafeSpan){offsets[0], offsets[1]};
        t->name = xstrdup(name);
        t->of = data + offsets[0];
        f->n++;
    }
    if (!wrong) {
        name = "";
        if (f->n) qsort(spans, (size_t)f->n, sizeof *spans, safetensors_by_begin);
        for (int i = 0; i < f->n && !wrong; end = spans[i++].end)
            if (spans[i].begin != end) wrong = spans[i].begin < end ? "damaged: tensors overlap" : "damaged: a gap between tensors";
        if (!wrong && end != limit) wrong = "damaged: bytes behind the last tensor";
        if (f->n) qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, safetensors_by_name);
        for (int i = 1; i < f->n && !wrong; i++)
            if (!strcmp(f->tensors[i - 1].name, name = f->tensors[i].name)) wrong = "the name is taken twice";
    }
    if (wrong) safetensors_refuse(path, name, wrong, error, room);
    free(spans);
    return wrong ? -1 : 0;
}

static inline void safetensors_close(SafeFile *f) {
    for (int i = 0; i < f->n; i++) free(f->tensors[i].name);
    free(f->tensors);
    file_unmap(&f->file);
    memset(f, 0, sizeof *f);
}

/* Maps a file and checks its header as its owner's reader does: every tensor has as many bytes as its type and shape ask for,
 * all together are the rest of the file, without gap or overlap, no name is taken twice. Returns 0, and safetensors_close ends
 * it; or -1 with one line in error that names the file and what is wrong, nothing to close. Test: dev/test/test_import.c. */
static inline int safetensors_open(SafeFile *f, const char *path, char *error, size_t room) {
    memset(f, 0, sizeof *f);
    if (tensors_map(&f->file, path, error, room) != 0) return -1;
    uint64_t length = 0;
    int result = -1;
    if (f->file.size >= sizeof length) memcpy(&length, f->file.bytes, sizeof length);
    if (f->file.size < sizeof length) safetensors_refuse(path, "", "too short for a safetensors file: cut off", error, room);
    else if (length > SAFETENSORS_HEADER)
        safetensors_refuse(path, "", "no safetensors file: its header would have more than 100 MB", error, room);
    else if (length > f->file.size - sizeof length)
        safetensors_refuse(path, "", "its header would end behind the file: cut off, or no safetensors file", error, room);
    else {
        JsonReader r = {.name = path, .has_lines = true, .error = error, .room = room};
        if (json_parse_object(&r, (const char *)f->file.bytes + sizeof length, (size_t)length))
            result = safetensors_take(f, path, r.root, f->file.bytes + sizeof length + length, error, room);
        json_free(&r);
    }
    if (result != 0) safetensors_close(f);
    return result;
}

#endif // SAFETENSORS_H

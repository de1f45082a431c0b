/* safetensors.h - writes Hugging Face's files of tensors, in fp32, bf16 or fp16.
 *
 * defines: TensorType, tensor_type_of, tensor_type_bytes, tensor_convert, SafeTensor, tensors_write, safetensors_write
 *
 * The file, little endian (the safetensors package's own reader, version 0.8):
 *
 *     u64       bytes of the header
 *     header    JSON: {"__metadata__": {"format": "pt"}, NAME: {"dtype": "F32|BF16|F16", "shape": [...],
 *               "data_offsets": [begin, end]}, ...}, blanks up to a multiple of 8; offsets count from its end, and leave
 *               no gap
 *     tensors   row-major, one behind the other
 *
 * Nothing here knows a model.
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

typedef struct {
    char *name;
    TensorType type;
    int ndim;                // 1 to 4
    uint64_t shape[4];
    const void *of;          // what fetch makes the tensor of
} SafeTensor;

static inline uint64_t safetensor_numbers(const SafeTensor *t) {
    uint64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

static inline uint64_t safetensor_bytes(const SafeTensor *t) { return safetensor_numbers(t) * tensor_type_bytes(t->type); }

// The file up to the tensors: the header's length, its JSON, its blanks. The caller frees it.
static inline char *safetensors_header(const SafeTensor *tensors, int n, size_t *size) {
    char *text;
    FILE *out = text_open(&text, size);
    uint64_t at = 0, length = 0;
    fwrite(&length, sizeof length, 1, out);                      // once it is known
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", out);
    for (int i = 0; i < n; i++) {
        static const char *const types[TENSOR_TYPES] = {"F32", "BF16", "F16"};
        uint64_t end = at + safetensor_bytes(&tensors[i]);
        fputc(',', out);
        json_put_string(out, tensors[i].name, SIZE_MAX);
        fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", types[tensors[i].type]);
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
 * or not at all (replace_open). fetch(out, t) fills out with t's numbers. Returns 0, or -1 with one line in error: the file
 * can't be written, or a number doesn't fit a type. */
static inline int tensors_write(const char *path, const void *header, size_t size, const SafeTensor *tensors, int n,
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
    int result = tensors_write(path, header, size, tensors, n, fetch, error, room);
    free(header);
    return result;
}

#endif // SAFETENSORS_H

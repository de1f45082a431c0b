/* test_gguf.c - GGUF files: what the package gguf wrote (dev/golden/make_gguf.py) is read to the last number, what gguf.h writes is
 * read again, and a header that lies about anything is refused in one line that names it.
 */
#define _GNU_SOURCE
#include "../../src/gguf.h"
#include "test.h"

#define GOLDEN "dev/golden/gguf.golden"

// ---------------------------------------------------------------------------------------------------------------------
// What others wrote, and what is written here

TEST(every_type_of_value_is_read) {
    GgufFile g;
    char error[ERROR_ROOM];
    if (gguf_open(&g, GOLDEN, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    const struct { const char *name; GgufType type; size_t bytes; double value; } numbers[] = {
        {"every.uint8", GGUF_U8, 1, 42}, {"every.int8", GGUF_I8, 1, 42}, {"every.uint16", GGUF_U16, 2, 42}, {"every.int16", GGUF_I16, 2, 42},
        {"every.uint32", GGUF_U32, 4, 42}, {"every.int32", GGUF_I32, 4, 42}, {"every.uint64", GGUF_U64, 8, 42}, {"every.int64", GGUF_I64, 8, 42},
        {"every.bool", GGUF_BOOL, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint64_t x = 0;
        CHECK_MSG(gguf_value(gguf_key(&g, numbers[i].name), numbers[i].type, &x, numbers[i].bytes) && (double)x == numbers[i].value, "%s", numbers[i].name);
        CHECK_MSG(!gguf_value(gguf_key(&g, numbers[i].name), GGUF_F32, &x, 4), "%s as f32", numbers[i].name);
    }
    float f = 0;
    double d = 0;
    CHECK(gguf_value(gguf_key(&g, "every.float32"), GGUF_F32, &f, sizeof f) && f == 42);
    CHECK(gguf_value(gguf_key(&g, "every.float64"), GGUF_F64, &d, sizeof d) && d == 42);
    const GgufKey *text = gguf_key(&g, "every.string"), *array = gguf_key(&g, "every.array"), *tokens = gguf_key(&g, "tokenizer.ggml.tokens");
    const uint8_t *at = text->at;
    size_t n;
    const char *string = gguf_next_string(&at, &n);
    CHECK(text->type == GGUF_STRING && n == 7 && !memcmp(string, "na\xc3\xafve\n", n));
    CHECK(array->type == GGUF_ARRAY && array->item == GGUF_F32 && array->count == 2 && !memcmp(array->at, (float[]){1.5f, -2.25f}, 8));
    CHECK(tokens->item == GGUF_STRING && tokens->count == 262 && !gguf_key(&g, "no such key"));
    at = tokens->at;
    for (int i = 0; i <= 260; i++) string = gguf_next_string(&at, &n);
    CHECK(n == 13 && !memcmp(string, "<|endoftext|>", n));
    gguf_close(&g);
}

// Number i of tensor t is ((7 i + 13 t) mod 31 - 15) / 64 in the files that make_gguf.py writes.
static void check_numbers(const GgufFile *g) {
    for (int t = 0; t < g->n_tensors; t++) {
        size_t n = (size_t)safetensor_numbers(&g->tensors[t]);
        float *x = xmalloc(n * sizeof *x);
        tensor_floats(x, g->tensors[t].of, n, g->tensors[t].type);
        for (size_t i = 0; i < n; i++)
            CHECK_MSG(x[i] == (float)((7 * (long)i + 13 * t) % 31 - 15) / 64, "number %zu of %s is %g", i, g->tensors[t].name, x[i]);
        free(x);
    }
}

TEST(tensors_of_every_type_shape_and_alignment_are_read) {
    GgufFile g;
    char error[ERROR_ROOM];
    const char *const files[] = {GOLDEN, "dev/test/fuzz_corpus/gguf/small", "dev/test/fuzz_corpus/gguf/aligned"};
    const int counts[] = {11, 3, 2};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (gguf_open(&g, files[i], error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); continue; }
        CHECK_MSG(g.n_tensors == counts[i], "%s: %d tensors", files[i], g.n_tensors);
        check_numbers(&g);
        gguf_close(&g);
    }
    CHECK(gguf_open(&g, files[1], error, sizeof error) == 0);
    const SafeTensor *t = gguf_tensor(&g, "tensor bf16");
    CHECK(t && t->type == TENSOR_BF16 && t->ndim == 3 && t->shape[0] == 2 && t->shape[1] == 1 && t->shape[2] == 3);
    CHECK(gguf_tensor(&g, "tensor f16")->shape[1] == 5 && !gguf_tensor(&g, "tensor"));
    gguf_close(&g);
    CHECK(gguf_open(&g, "build/test/no such file", error, sizeof error) == -1 && strstr(error, "cannot be read"));
    CHECK(gguf_open(&g, "build/test", error, sizeof error) == -1 && strstr(error, "not a regular file"));
}

static void fetch_numbers(float *out, const SafeTensor *t) {
    for (uint64_t i = 0; i < safetensor_numbers(t); i++) out[i] = (float)((7 * (long)i + 13 * *(const int *)t->of) % 31 - 15) / 64;
}

// The same file as the package's.
TEST(what_is_written_is_the_same_file) {
    char error[ERROR_ROOM], names[3][16] = {"tensor f32", "tensor f16", "tensor bf16"}, *folder = test_folder("gguf"), *path = format("%s/written.gguf", folder);
    static const int order[3] = {0, 1, 2};
    SafeTensor tensors[3] = {
        {.name = names[0], .type = TENSOR_F32, .ndim = 1, .shape = {3}, .of = &order[0]},
        {.name = names[1], .type = TENSOR_F16, .ndim = 2, .shape = {2, 5}, .of = &order[1]},
        {.name = names[2], .type = TENSOR_BF16, .ndim = 3, .shape = {2, 1, 3}, .of = &order[2]},
    };
    GgufKeys k;
    gguf_keys_open(&k);
    gguf_put_string(&k, "general.architecture", "small");
    gguf_put_u32(&k, "a", 7), gguf_put_f32(&k, "b", 0.5f), gguf_put_bool(&k, "c", true);
    gguf_put_array(&k, "d", GGUF_STRING, 2);
    gguf_add_string(&k, "", 0), gguf_add_string(&k, "the end", 7);
    gguf_put_array(&k, "e", GGUF_I32, 1);
    gguf_add_i32(&k, -3);
    size_t size, n;
    uint64_t file_size;
    char *header = gguf_header(&k, tensors, 3, &size, &file_size);
    CHECK(gguf_write(path, header, size, tensors, 3, fetch_numbers, error, sizeof error) == 0);
    GgufFile g, part;
    if (gguf_open(&g, path, error, sizeof error) != 0) { CHECK_MSG(false, "%s", error); return; }
    CHECK(g.size == file_size && g.n_keys == 6 && g.n_tensors == 3 && gguf_tensor(&g, "tensor bf16")->ndim == 3);
    CHECK(gguf_parse(&part, path, header, size, file_size, error, sizeof error) == 0 && part.n_tensors == 3);      // before anything is written
    gguf_close(&part);
    CHECK(gguf_parse(&part, path, header, size, file_size - 64, error, sizeof error) == -1);
    check_numbers(&g);
    const uint8_t *at = gguf_key(&g, "d")->at;
    gguf_next_string(&at, &n);
    CHECK(n == 0 && !memcmp(gguf_next_string(&at, &n), "the end", 7) && n == 7);
    // The data of the package's file with the same tensors, byte by byte.
    GgufFile theirs = {0};
    CHECK(gguf_open(&theirs, "dev/test/fuzz_corpus/gguf/small", error, sizeof error) == 0 && theirs.size - (uint64_t)((const uint8_t *)theirs.tensors[0].of - theirs.bytes) ==
          file_size - size);
    CHECK(!memcmp(theirs.tensors[0].of, g.tensors[0].of, file_size - size));
    gguf_close(&g), gguf_close(&theirs), free(header), free(path), free(folder);
}

// ---------------------------------------------------------------------------------------------------------------------
// What lies

typedef struct { uint8_t bytes[1024]; size_t n; } Made;

static void put(Made *f, const void *bytes, size_t n) { memcpy(f->bytes + f->n, bytes, n), f->n += n; }
static void put8(Made *f, uint8_t x) { put(f, &x, sizeof x); }
static void put32(Made *f, uint32_t x) { put(f, &x, sizeof x); }
static void put64(Made *f, uint64_t x) { put(f, &x, sizeof x); }
static void put_text(Made *f, const char *text) { put64(f, strlen(text)), put(f, text, strlen(text)); }

static Made header(uint32_t version, uint64_t tensors, uint64_t keys) {
    Made f = {.n = 0};
    put(&f, "GGUF", 4), put32(&f, version), put64(&f, tensors), put64(&f, keys);
    return f;
}

static Made with_key(const char *name, uint32_t type) {
    Made f = header(3, 0, 1);
    put_text(&f, name), put32(&f, type);
    return f;
}

static void put_tensor(Made *f, const char *name, uint64_t numbers, uint32_t type, uint64_t offset) {
    put_text(f, name), put32(f, 1), put64(f, numbers), put32(f, type), put64(f, offset);
}

static void put_data(Made *f, size_t n) {
    while (f->n % 32) put8(f, 0);
    for (size_t i = 0; i < n; i++) put8(f, (uint8_t)i);
}

// Refuses the file as a whole and, since it lies in memory of its own length, reads nothing behind it. words: of the one line.
static void check_refused(const Made *f, const char *words) {
    uint8_t *bytes = memcpy(xmalloc(f->n), f->bytes, f->n);
    char error[ERROR_ROOM] = "";
    GgufFile g;
    CHECK_MSG(gguf_parse(&g, "x.gguf", bytes, f->n, f->n, error, sizeof error) == -1, "taken, instead of \"%s\"", words);
    CHECK_MSG(!strncmp(error, "x.gguf: ", 8) && strstr(error, words) && !strchr(error, '\n'), "no \"%s\" in: %s", words, error);
    free(bytes);
}

TEST(numbers_of_keys_and_tensors_are_not_believed) {
    Made f = {.n = 0};
    check_refused(&f, "no GGUF file");
    f = header(3, 0, 0);
    f.bytes[0] = 'g';
    check_refused(&f, "no GGUF file");
    f = header(2, 0, 0);
    check_refused(&f, "version 2: 3 expected");
    f = header(3u << 24, 0, 0);
    check_refused(&f, "big-endian");
    f = header(3, 0, 1ull << 63);
    check_refused(&f, "9223372036854775808 keys");
    f = header(3, UINT64_MAX, 0);
    check_refused(&f, "18446744073709551615 tensors");
    f = header(3, 0, 1);
    check_refused(&f, "1 keys");
    f = header(3, 1, 0);
    check_refused(&f, "1 tensors");
}

TEST(keys_that_lie_are_refused) {
    Made f = header(3, 0, 1);
    put64(&f, 1ull << 63), put_text(&f, "a name");
    check_refused(&f, "name of key 0: 9223372036854775808 bytes long");
    f = header(3, 0, 1);
    put64(&f, 60000), put_text(&f, "a name");
    check_refused(&f, "name of key 0: the file ends within it");
    f = header(3, 0, 1);
    put64(&f, 0), put64(&f, 0);
    check_refused(&f, "name of key 0: 0 bytes long");
    f = with_key("a\nb", 13);
    check_refused(&f, "key a b: type 13: 0 to 12 expected");
    f = with_key("a", GGUF_U64), put32(&f, 1);
    check_refused(&f, "key a: 1 values of type u64, which the file has no room for");
    f = with_key("a", GGUF_BOOL), put8(&f, 2);
    check_refused(&f, "key a: a bool is 2");
    f = with_key("a", GGUF_STRING), put64(&f, 1ull << 62), put8(&f, 0);
    check_refused(&f, "key a: string 0 ends behind the file's end");
    f = with_key("a", GGUF_ARRAY), put32(&f, GGUF_U8), put64(&f, 1ull << 63), put64(&f, 0);
    check_refused(&f, "key a: 9223372036854775808 values of type u8");
    f = with_key("a", GGUF_ARRAY), put32(&f, GGUF_F64), put64(&f, (1ull << 61) + 1), put64(&f, 0);      // 8 bytes, where the product wraps
    check_refused(&f, "values of type f64");
    f = with_key("a", GGUF_ARRAY), put32(&f, GGUF_STRING), put64(&f, 1ull << 61), put64(&f, 0);
    check_refused(&f, "values of type string");
    f = with_key("a", GGUF_ARRAY), put32(&f, GGUF_STRING), put64(&f, 2), put_text(&f, ""), put64(&f, 9), put64(&f, 0);
    check_refused(&f, "key a: string 1 ends behind the file's end");
    f = with_key("a", GGUF_ARRAY), put32(&f, GGUF_ARRAY), put64(&f, 0);
    check_refused(&f, "no array of arrays");
    f = header(3, 0, 3);
    put_text(&f, "twice"), put32(&f, GGUF_U8), put8(&f, 1), put_text(&f, "once"), put32(&f, GGUF_U8), put8(&f, 1);
    put_text(&f, "twice"), put32(&f, GGUF_U8), put8(&f, 1);
    check_refused(&f, "key twice: is there twice");
    f = header(3, 0, 1);
    put64(&f, 3), put(&f, "a\0b", 3), put32(&f, GGUF_U8), put8(&f, 1);
    check_refused(&f, "name of key 0: has a byte 0");
    const uint32_t alignments[] = {0, 3, 1u << 31};
    for (size_t i = 0; i < COUNT_OF(alignments); i++) {
        f = with_key("general.alignment", GGUF_U32), put32(&f, alignments[i]);
        check_refused(&f, "key general.alignment: u32");
    }
    f = with_key("general.alignment", GGUF_U64), put64(&f, 32);
    check_refused(&f, "key general.alignment: u64");
}

TEST(tensors_that_lie_are_refused) {
    Made f = header(3, 1, 0);
    put_text(&f, "w"), put32(&f, 1000000), put_data(&f, 64);
    check_refused(&f, "tensor w: 1000000 dimensions: 1 to 4 expected");
    f = header(3, 1, 0);
    put_text(&f, "w"), put32(&f, 0), put_data(&f, 64);
    check_refused(&f, "tensor w: 0 dimensions");
    f = header(3, 1, 0);
    put_text(&f, "w"), put32(&f, 2), put64(&f, 4), put64(&f, 0), put32(&f, 0), put64(&f, 0), put_data(&f, 64);
    check_refused(&f, "tensor w: a dimension is 0");
    f = header(3, 1, 0);
    put_text(&f, "w"), put32(&f, 2), put64(&f, 1ull << 32), put64(&f, 1ull << 32), put32(&f, 0), put64(&f, 0), put_data(&f, 64);
    check_refused(&f, "fewer than 2^64 numbers");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 1ull << 62, 0, 0), put_data(&f, 64);              // 2^64 bytes
    check_refused(&f, "tensor w: larger than the file");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 4, 8, 0), put_data(&f, 64);
    check_refused(&f, "tensor w: type 8 (Q8_0): F32, F16 or BF16 expected");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 4, 99, 0), put_data(&f, 64);
    check_refused(&f, "tensor w: type 99: F32");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 17, 0, 0), put_data(&f, 64);
    check_refused(&f, "tensor w: the file ends within or before it");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 4, 0, 0);
    check_refused(&f, "tensor w: the file ends within or before it");
    f = header(3, 1, 0);
    put_tensor(&f, "w", 4, 0, 0), put_data(&f, 65);
    check_refused(&f, "49 bytes follow the last tensor");
    f = header(3, 1, 0);
    put_tensor(&f, "a name that is longer than llama.cpp's names of tensors, which have at most 63 bytes", 4, 0, 0), put_data(&f, 64);
    check_refused(&f, "name of tensor 0: 84 bytes long: 1 to 63 expected");
    const struct { uint64_t offset; const char *words; } seconds[] = {
        {0, "tensor b: offset 0: 32 expected"}, {16, "tensor b: offset 16: 32 expected"}, {64, "tensor b: offset 64: 32 expected"},
        {UINT64_MAX - 31, "32 expected"},
    };
    for (size_t i = 0; i < COUNT_OF(seconds); i++) {
        f = header(3, 2, 0);
        put_tensor(&f, "a", 4, 0, 0), put_tensor(&f, "b", 8, 1, seconds[i].offset), put_data(&f, 128);
        check_refused(&f, seconds[i].words);
    }
    f = header(3, 2, 0);
    put_tensor(&f, "a", 4, 0, 0), put_tensor(&f, "a", 8, 1, 32), put_data(&f, 64);
    check_refused(&f, "tensor a: is there twice");
    f = header(3, 2, 0);
    put_tensor(&f, "a", 4, 0, 0), put_tensor(&f, "b", 8, 1, 32), put_data(&f, 48);          // the last one need not be filled up
    GgufFile g;
    char error[ERROR_ROOM];
    CHECK_MSG(gguf_parse(&g, "x.gguf", f.bytes, f.n, f.n, error, sizeof error) == 0 && g.n_tensors == 2, "%s", error);
    gguf_close(&g);
}

TEST(a_file_that_ends_anywhere_is_refused) {
    size_t n = 0;
    char *file = read_file("dev/test/fuzz_corpus/gguf/small", &n);
    for (size_t cut = 0; cut + 20 < n; cut++) {                           // the last tensor, of 12 bytes, is filled up by 20
        Made f = {.n = cut};
        memcpy(f.bytes, file, cut);
        check_refused(&f, "");
    }
    free(file);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(every_type_of_value_is_read);
    RUN(tensors_of_every_type_shape_and_alignment_are_read);
    RUN(what_is_written_is_the_same_file);
    RUN(numbers_of_keys_and_tensors_are_not_believed);
    RUN(keys_that_lie_are_refused);
    RUN(tensors_that_lie_are_refused);
    RUN(a_file_that_ends_anywhere_is_refused);
    return tests_end();
}

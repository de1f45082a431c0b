/* tfevents.h - writing TensorBoard's event files: scalars over steps.
 *
 * defines: crc32c, TfEvents, tfevents_begin, tfevents_add, tfevents_put
 * A file is records, each an event in protobuf's encoding (tensorflow/core/util/event.proto, framework/summary.proto). Of the
 * messages only this much is needed:
 *
 *     Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
 *     Summary { repeated Value value = 1; }      Value { string tag = 1; float simple_value = 2; }
 *
 * A record (tensorflow/core/lib/io/record_writer.h), all numbers little-endian:
 *
 *     uint64 length, uint32 masked crc of the length, the event's bytes, uint32 masked crc of them
 *
 * Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef TFEVENTS_H
#define TFEVENTS_H

#include "../src/util.h"

// CRC-32C of n bytes (Castagnoli's polynomial 0x1edc6f41, bits reversed; RFC 3720, appendix B.4), a bit at a time.
static inline uint32_t crc32c(const void *bytes, size_t n) {
    uint32_t crc = 0xffffffffu;
    for (const unsigned char *p = (const unsigned char *)bytes, *end = p + n; p < end; p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

// A crc as records hold it: the crc of bytes that contain crcs would be weak. Rotated right by 15 bits, a constant added.
static inline uint32_t tf_masked_crc(const void *bytes, size_t n) {
    uint32_t crc = crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// ---------------------------------------------------------------------------------------------------------------------
// Protobuf: a field is its number and kind, then a varint, 8 or 4 bytes, or a length and as many bytes

typedef struct { unsigned char *at; size_t n, room; } TfBytes;
enum { TF_VARINT = 0, TF_64BIT = 1, TF_BYTES = 2, TF_32BIT = 5 };

static inline void tf_add(TfBytes *b, const void *bytes, size_t n) {
    if (b->n + n > b->room) b->at = (unsigned char *)xrealloc(b->at, b->room = 2 * (b->n + n) + 256);
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

// Seven bits a byte, the lowest first; the eighth says that more follow.
static inline void tf_add_varint(TfBytes *b, uint64_t x) {
    for (; x >= 128; x >>= 7) tf_add(b, &(unsigned char){ (unsigned char)(x | 128) }, 1);
    tf_add(b, &(unsigned char){ (unsigned char)x }, 1);
}

static inline void tf_add_field(TfBytes *b, int number, int kind) { tf_add_varint(b, (uint64_t)(number << 3 | kind)); }

static inline void tf_add_bytes(TfBytes *b, int number, const void *bytes, size_t n) {
    tf_add_field(b, number, TF_BYTES);
    tf_add_varint(b, n);
    tf_add(b, bytes, n);
}

// The low n bytes of x.
static inline void tf_add_fixed(TfBytes *b, uint64_t x, int n) {
    for (int i = 0; i < n; i++) tf_add(b, &(unsigned char){ (unsigned char)(x >> 8 * i) }, 1);
}

static inline void tf_add_double(TfBytes *b, int number, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    tf_add_field(b, number, TF_64BIT);
    tf_add_fixed(b, bits, 8);
}

static inline void tf_add_float(TfBytes *b, int number, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    tf_add_field(b, number, TF_32BIT);
    tf_add_fixed(b, bits, 4);
}

// ---------------------------------------------------------------------------------------------------------------------
// Events

typedef struct { FILE *f; TfBytes summary, value, event; } TfEvents;

// Writes t->event as a record. An error stays with the stream.
static inline void tf_put_record(TfEvents *t) {
    TfBytes record = { NULL, 0, 0 };
    tf_add_fixed(&record, t->event.n, 8);
    tf_add_fixed(&record, tf_masked_crc(record.at, 8), 4);
    tf_add(&record, t->event.at, t->event.n);
    tf_add_fixed(&record, tf_masked_crc(t->event.at, t->event.n), 4);
    fwrite(record.at, 1, record.n, t->f);
    free(record.at);
}

// The first record of a file says its version. wall_time: seconds since 1970. tfevents_end releases what *t holds.
static inline TfEvents tfevents_begin(FILE *f, double wall_time) {
    static const char version[] = "brain.Event:2";
    TfEvents t = { .f = f };
    tf_add_double(&t.event, 1, wall_time);
    tf_add_bytes(&t.event, 3, version, strlen(version));
    tf_put_record(&t);
    return t;
}

// Adds a scalar to the event that tfevents_put writes next. One that isn't finite is left out.
static inline void tfevents_add(TfEvents *t, const char *tag, double x) {
    if (!isfinite(x)) return;
    t->value.n = 0;
    tf_add_bytes(&t->value, 1, tag, strlen(tag));
    tf_add_float(&t->value, 2, (float)x);
    tf_add_bytes(&t->summary, 1, t->value.at, t->value.n);
}

// Writes the scalars that were added as the event of a step, where there are any. A step of 0 isn't written, as protobuf has it.
static inline void tfevents_put(TfEvents *t, long step, double wall_time) {
    if (t->summary.n == 0) return;
    t->event.n = 0;
    tf_add_double(&t->event, 1, wall_time);
    if (step) tf_add_field(&t->event, 2, TF_VARINT), tf_add_varint(&t->event, (uint64_t)step);
    tf_add_bytes(&t->event, 5, t->summary.at, t->summary.n);
    tf_put_record(t);
    t->summary.n = 0;
}

static inline void tfevents_end(TfEvents *t) { free(t->summary.at), free(t->value.at), free(t->event.at); }

#endif // TFEVENTS_H

/* checkpoint.h - named tensors in one file that is either whole or refused.
 *
 * defines: CkptType, CkptTensor, Checkpoint, checkpoint_save, checkpoint_open, checkpoint_find, checkpoint_match,
 *          checkpoint_read, checkpoint_close, checkpoint_between
 *
 * The file, little endian; offsets count from its start:
 *
 *     header   64 bytes    char magic[8] "MUONCKPT", u32 version 1, u32 n_tensors (up to 4096), u64 file_size, zeros
 *     entries  128 each    char name[72] (NUL padded, unique), u32 type (0 u8, 1 i32, 2 i64, 3 f32, 4 f64),
 *                          u32 ndim (0..4), u64 shape[4] (unused: 1), u64 offset (multiple of 64), u64 bytes
 *     payloads             in the order of the entries, row-major, zeros up to the next multiple of 64 behind each
 *     trailer  8 bytes     u32 crc32 (zlib's) of every byte before the trailer, u32 zero
 *
 * Nothing here knows a model. No function prints or ends the program: an error is one line in the caller's buffer.
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "gzip.h"
#include "util.h"

typedef enum { CKPT_U8, CKPT_I32, CKPT_I64, CKPT_F32, CKPT_F64 } CkptType;

typedef struct {
    char name[72];
    CkptType type;
    int ndim;               // 0 (one number) to 4
    uint64_t shape[4];      // the first ndim count
    size_t stride;          // elements in memory from one item of shape[0] to the next; 0: contiguous
    void *data;
} CkptTensor;

typedef struct {
    char *path;
    const unsigned char *map;
    size_t size;
    CkptTensor *tensors;    // in the order of the file; data points into the map, which is read-only
    int n_tensors;
} Checkpoint;

// ---------------------------------------------------------------------------------------------------------------------
// The bytes

enum { CKPT_VERSION = 1, CKPT_ALIGN = 64, CKPT_TRAILER = 8,
       CKPT_MAX_TENSORS = 4096 };                    // each name is compared with all others
static const char ckpt_magic[8] = { 'M', 'U', 'O', 'N', 'C', 'K', 'P', 'T' };

typedef struct { char magic[8]; uint32_t version, n_tensors; uint64_t file_size; unsigned char zeros[40]; } CkptHeader;
typedef struct { char name[72]; uint32_t type, ndim; uint64_t shape[4], offset, bytes; } CkptEntry;

_Static_assert(sizeof(CkptHeader) == 64 && sizeof(CkptEntry) == 128, "the structs are the file's bytes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are written as they lie in memory");

static inline size_t ckpt_type_size(CkptType type) {
    static const unsigned char sizes[] = { 1, 4, 8, 4, 8 };
    return sizes[type];
}

static inline const char *ckpt_type_name(CkptType type) {
    static const char *const names[] = { "u8", "i32", "i64", "f32", "f64" };
    return names[type];
}

static inline uint64_t ckpt_align(uint64_t x) { return (x + CKPT_ALIGN - 1) / CKPT_ALIGN * CKPT_ALIGN; }

// *bytes = product of the shape * size of the type. false where the product overflows or ndim is no such number.
static inline bool ckpt_bytes(const CkptTensor *t, uint64_t *bytes) {
    if (t->ndim < 0 || t->ndim > 4) return false;
    *bytes = ckpt_type_size(t->type);
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(*bytes, t->shape[i], bytes)) return false;
    return true;
}

// A tensor in memory is `n` pieces of `bytes` each, `step` bytes apart.
typedef struct { uint64_t n; size_t bytes, step; } CkptPieces;

static inline CkptPieces ckpt_pieces(const CkptTensor *t, uint64_t bytes) {
    if (bytes == 0) return (CkptPieces){ 0, 0, 0 };
    if (t->stride == 0 || t->ndim == 0) return (CkptPieces){ 1, (size_t)bytes, 0 };
    return (CkptPieces){ t->shape[0], (size_t)(bytes / t->shape[0]), t->stride * ckpt_type_size(t->type) };
}

// Writes the line into error. Always -1, so that a caller can return it.
PRINTF_LIKE(3, 4) static inline int ckpt_error(char *error, size_t room, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(error, room, fmt, args);
    va_end(args);
    return -1;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing: a buffered file that sums up what passes through. After an error it takes everything and writes nothing.

typedef struct {
    int fd, error;          // error: the errno of the first write that failed, or 0
    uint32_t crc;
    uint64_t position;
    size_t used;
    unsigned char buffer[1 << 16];
} CkptWriter;

static inline void ckpt_flush(CkptWriter *w) {
    for (size_t done = 0; done < w->used && !w->error; ) {
        ssize_t wrote = write(w->fd, w->buffer + done, w->used - done);
        if (wrote > 0) done += (size_t)wrote;
        else if (wrote == 0) w->error = EIO;
        else if (errno != EINTR) w->error = errno;
    }
    w->used = 0;
}

static inline void ckpt_put(CkptWriter *w, const void *bytes, size_t size) {
    const unsigned char *from = (const unsigned char *)bytes;
    w->position += size;
    for (size_t n; size > 0 && !w->error; from += n, size -= n) {
        n = sizeof w->buffer - w->used < size ? sizeof w->buffer - w->used : size;
        memcpy(w->buffer + w->used, from, n);
        w->crc = crc_of(w->crc, w->buffer + w->used, n);
        if ((w->used += n) == sizeof w->buffer) ckpt_flush(w);
    }
}

static inline void ckpt_put_padding(CkptWriter *w) {
    static const unsigned char zeros[CKPT_ALIGN];
    ckpt_put(w, zeros, (size_t)(ckpt_align(w->position) - w->position));
}

// Fills in the header and the entries. 0, or -1 with a line in error: a tensor that no file could hold.
static inline int ckpt_plan(CkptHeader *header, CkptEntry *entries, const CkptTensor *tensors, int n,
                            char *error, size_t room) {
    uint64_t end = sizeof *header + (uint64_t)n * sizeof *entries;
    if (n > CKPT_MAX_TENSORS) return ckpt_error(error, room, "%d tensors, expected at most %d", n, CKPT_MAX_TENSORS);
    for (int i = 0; i < n; i++) {
        const CkptTensor *t = &tensors[i];
        CkptEntry *e = &entries[i];
        size_t length = strnlen(t->name, sizeof t->name);
        if (length == 0 || length == sizeof t->name)
            return ckpt_error(error, room, "tensor %d: its name has %zu characters, expected 1 to 71", i, length);
        for (int j = 0; j < i; j++)
            if (strcmp(t->name, tensors[j].name) == 0)
                return ckpt_error(error, room, "tensor %s: the name is taken twice", t->name);
        if (!ckpt_bytes(t, &e->bytes)) return ckpt_error(error, room, "tensor %s: impossible shape", t->name);
        memcpy(e->name, t->name, length);
        e->type = (uint32_t)t->type;
        e->ndim = (uint32_t)t->ndim;
        for (int j = 0; j < 4; j++) e->shape[j] = j < t->ndim ? t->shape[j] : 1;
        e->offset = ckpt_align(end);
        end = e->offset + e->bytes;
    }
    memcpy(header->magic, ckpt_magic, sizeof ckpt_magic);
    header->version = CKPT_VERSION;
    header->n_tensors = (uint32_t)n;
    header->file_size = ckpt_align(end) + CKPT_TRAILER;
    return 0;
}

// Everything from header to trailer, down to the disk. Returns 0 or an errno.
static inline int ckpt_write(int fd, const CkptHeader *header, const CkptEntry *entries, const CkptTensor *tensors,
                             int n) {
    CkptWriter w;
    w.fd = fd;
    w.error = 0;
    w.crc = 0;
    w.position = w.used = 0;
    ckpt_put(&w, header, sizeof *header);
    ckpt_put(&w, entries, (size_t)n * sizeof *entries);
    for (int i = 0; i < n; i++) {
        CkptPieces pieces = ckpt_pieces(&tensors[i], entries[i].bytes);
        for (uint64_t k = 0; k < pieces.n; k++)
            ckpt_put(&w, (const char *)tensors[i].data + k * pieces.step, pieces.bytes);
        ckpt_put_padding(&w);
    }
    uint32_t trailer[2] = { w.crc, 0 };
    ckpt_put(&w, trailer, sizeof trailer);
    ckpt_flush(&w);
    if (!w.error && sync_fd(fd) < 0) w.error = errno;
    return w.error;
}

// Keeps the checkpoint at path as `previous`: by a second name, so that it stands at path until the new one replaces it.
// The detour over a third name replaces an older `previous` in one step. On a volume without hard links (exFAT, many
// FUSE and network ones) it is renamed instead. Returns 0, 1 where it was renamed, or -1 with errno set.
static inline int ckpt_keep(const char *path, const char *previous) {
    char *link_name = format("%s.link", previous);
    unlink(link_name);
    int linked = link(path, link_name), result = linked == 0 ? rename(link_name, previous) : rename(path, previous);
    int error = errno;
    unlink(link_name);      // rename leaves it where both names already were one file: after a save that died just here
    free(link_name);
    errno = error;
    return result == 0 ? linked != 0 : -1;
}

/* Saves tensors[0..n) to the path `name`, or where its links lead, as a whole or not at all: writes path.tmp, fsyncs it,
 * links what stood at path to `previous` (NULL: keeps no previous one), renames path.tmp to path, fsyncs the folder.
 * Whenever the process or the machine dies, a good file stands at path or at `previous`, given that path was good.
 * Returns 0, and error[room] is empty or one line that says which of these the volume can't do; or -1 with one line in
 * error[room] that names the file, path.tmp removed and path as it was (only where the folder can't be synced, path is
 * the new one). Tensors must have names of their own, up to 71 characters. */
static inline int checkpoint_save(const char *name, const char *previous, const CkptTensor *tensors, int n,
                                  char *error, size_t room) {
    CkptHeader header = { 0 };
    CkptEntry *entries = (CkptEntry *)xcalloc((size_t)n, sizeof *entries);
    if (ckpt_plan(&header, entries, tensors, n, error, room) != 0) {
        free(entries);
        return -1;
    }
    *error = '\0';
    bool in_place;
    char *path = file_behind(name, &in_place);
    if (!path || in_place) {
        ckpt_error(error, room, "%s: cannot be written: %s", name, path ? "a device or a pipe" : strerror(errno));
        free(path);
        free(entries);
        return -1;
    }
    char *temporary = format("%s.tmp", path);
    int code, kept = 0, synced, result = 0, fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) result = ckpt_error(error, room, "%s: cannot be created: %s", temporary, strerror(errno));
    else {
        code = ckpt_write(fd, &header, entries, tensors, n);
        if (close(fd) != 0 && !code) code = errno;
        if (code)
            result = ckpt_error(error, room, "%s: cannot be written: %s", temporary, strerror(code));
        else if (previous && file_exists(path) && (kept = ckpt_keep(path, previous)) < 0 && errno != EXDEV)
            result = ckpt_error(error, room, "%s: cannot be kept as %s: %s", path, previous, strerror(errno));
        else if (rename(temporary, path) != 0) {
            code = errno;
            if (kept > 0) rename(previous, path);
            result = ckpt_error(error, room, "%s: cannot be replaced: %s", path, strerror(code));
        } else if ((synced = sync_folder(path)) < 0)
            result = ckpt_error(error, room, "%s: its folder cannot be synced: %s", path, strerror(errno));
        else if (kept < 0)
            ckpt_error(error, room, "%s: is on another volume than %s: no earlier one is kept", path, previous);
        else if (kept > 0 || synced > 0)
            ckpt_error(error, room, "%s: this volume has no %s: a power cut while it is saved may leave only an earlier one",
                       path, kept == 0 ? "fsync of folders" : synced == 0 ? "hard links" : "hard links and no fsync of folders");
        if (result != 0) unlink(temporary);
    }
    free(temporary);
    free(path);
    free(entries);
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

static inline void checkpoint_close(Checkpoint *c) {
    if (c->map) munmap((void *)(uintptr_t)c->map, c->size);
    free(c->tensors);
    free(c->path);
    memset(c, 0, sizeof *c);
}

// The tensor of that name, its data in the map (aligned to 64 bytes, read-only), or NULL.
static inline const CkptTensor *checkpoint_find(const Checkpoint *c, const char *name) {
    for (int i = 0; i < c->n_tensors; i++)
        if (strcmp(c->tensors[i].name, name) == 0) return &c->tensors[i];
    return NULL;
}

// Maps the file and looks at what can be told from its size and header. 0, or -1 with a line in error.
static inline int ckpt_map(Checkpoint *c, const char *path, char *error, size_t room) {
    int fd = file_open(path);
    if (fd < 0) return ckpt_error(error, room, "%s: cannot be opened: %s", path, strerror(errno));
    MappedFile file;
    const char *reason = file_map(&file, fd);
    if (reason) return ckpt_error(error, room, "%s: cannot be read: %s", path, reason);
    c->map = file.bytes, c->size = file.size;
    if (c->size < sizeof(CkptHeader) + CKPT_TRAILER)
        return ckpt_error(error, room, "%s: has %zu bytes, too few for a checkpoint: cut off", path, c->size);

    CkptHeader header;
    memcpy(&header, c->map, sizeof header);
    if (memcmp(header.magic, ckpt_magic, sizeof ckpt_magic) != 0)
        return ckpt_error(error, room, "%s: is no checkpoint: it does not begin with MUONCKPT", path);
    if (header.version != CKPT_VERSION)
        return ckpt_error(error, room, "%s: is version %u, this program reads version %d", path, header.version,
                          CKPT_VERSION);
    if (header.file_size != c->size)
        return ckpt_error(error, room, "%s: has %zu bytes, its header says %llu: %s", path, c->size,
                          (unsigned long long)header.file_size, header.file_size > c->size ? "cut off" : "damaged");
    return 0;
}

// The stored sum against the bytes.
static inline int ckpt_check_sum(const Checkpoint *c, char *error, size_t room) {
    uint32_t trailer[2];
    memcpy(trailer, c->map + c->size - CKPT_TRAILER, sizeof trailer);
    uint32_t crc = crc_of(0, c->map, c->size - CKPT_TRAILER);
    if (crc != trailer[0])
        return ckpt_error(error, room, "%s: damaged: checksum 0x%08x instead of 0x%08x", c->path, crc, trailer[0]);
    if (trailer[1] != 0)
        return ckpt_error(error, room, "%s: damaged: its last four bytes are not zero", c->path);
    return 0;
}

// Fills in c->tensors. Every number of the file is compared before it is added or multiplied: none can overflow.
static inline int ckpt_read_entries(Checkpoint *c, char *error, size_t room) {
    CkptHeader header;
    memcpy(&header, c->map, sizeof header);
    size_t limit = c->size - CKPT_TRAILER, space = (limit - sizeof header) / sizeof(CkptEntry);
    if (header.n_tensors > space)
        return ckpt_error(error, room, "%s: damaged: too small for the %u tensors of its header", c->path,
                          header.n_tensors);
    if (header.n_tensors > CKPT_MAX_TENSORS)
        return ckpt_error(error, room, "%s: has %u tensors, expected at most %d", c->path, header.n_tensors, CKPT_MAX_TENSORS);
    c->tensors = (CkptTensor *)xcalloc(header.n_tensors, sizeof *c->tensors);
    uint64_t end = sizeof header + header.n_tensors * sizeof(CkptEntry);
    for (uint32_t i = 0; i < header.n_tensors; i++) {
        CkptEntry e;
        CkptTensor *t = &c->tensors[i];
        memcpy(&e, c->map + sizeof header + i * sizeof e, sizeof e);
        const char *wrong = NULL;
        uint64_t bytes = 0;
        if (e.name[0] == '\0' || !memchr(e.name, '\0', sizeof e.name)) wrong = "name";
        else if (checkpoint_find(c, e.name)) wrong = "name, taken twice";
        else if (e.type > CKPT_F64) wrong = "type";
        else if (e.ndim > 4) wrong = "number of dimensions";
        else {
            memcpy(t->name, e.name, sizeof t->name);
            memcpy(t->shape, e.shape, sizeof t->shape);
            t->type = (CkptType)e.type;
            t->ndim = (int)e.ndim;
            for (uint32_t j = e.ndim; j < 4; j++)
                if (e.shape[j] != 1) wrong = "shape";
            if (!ckpt_bytes(t, &bytes) || bytes != e.bytes) wrong = "shape";
            else if (e.offset % CKPT_ALIGN || e.offset < end || e.offset > limit || bytes > limit - e.offset)
                wrong = "offset";
        }
        if (wrong) return ckpt_error(error, room, "%s: damaged: entry %u has an impossible %s", c->path, i, wrong);
        t->data = (void *)(uintptr_t)(c->map + e.offset);
        end = e.offset + bytes;
        c->n_tensors++;
    }
    return 0;
}

/* Maps the file at path and verifies all of it: magic, version, size, checksum, entries. Cost: one pass over the bytes.
 * Returns 0, and checkpoint_close ends it; or -1 with one line in error[room] that names the file, nothing to close. */
static inline int checkpoint_open(Checkpoint *c, const char *path, char *error, size_t room) {
    memset(c, 0, sizeof *c);
    c->path = xstrdup(path);
    if (ckpt_map(c, path, error, room) == 0 && ckpt_check_sum(c, error, room) == 0 &&
        ckpt_read_entries(c, error, room) == 0)
        return 0;
    checkpoint_close(c);
    return -1;
}

// "f32 4 x 128 x 64"; buffer of at least 112 bytes.
static inline const char *ckpt_describe(const CkptTensor *t, char *buffer) {
    int n = sprintf(buffer, "%s", ckpt_type_name(t->type));
    for (int i = 0; i < t->ndim; i++)
        n += sprintf(buffer + n, "%s%llu", i ? " x " : " ", (unsigned long long)t->shape[i]);
    return buffer;
}

/* The tensor of the name, type and shape that `like` says, or NULL with one line in error[room]. */
static inline const CkptTensor *checkpoint_match(const Checkpoint *c, const CkptTensor *like, char *error, size_t room) {
    const CkptTensor *from = checkpoint_find(c, like->name);
    bool same = from && from->type == like->type && from->ndim == like->ndim;
    for (int i = 0; same && i < like->ndim; i++) same = from->shape[i] == like->shape[i];
    char have[112], want[112];
    if (!from) ckpt_error(error, room, "%s: has no tensor %s", c->path, like->name);
    else if (!same)
        ckpt_error(error, room, "%s: tensor %s is %s, expected %s", c->path, like->name, ckpt_describe(from, have), ckpt_describe(like, want));
    return same ? from : NULL;
}

/* Copies the tensor named into->name to into->data, its items into->stride elements apart (0: contiguous).
 * Returns 0; or -1 with one line in error[room], nothing copied: no such tensor, another type or another shape. */
static inline int checkpoint_read(const Checkpoint *c, const CkptTensor *into, char *error, size_t room) {
    const CkptTensor *from = checkpoint_match(c, into, error, room);
    if (!from) return -1;
    uint64_t bytes = 0;
    ckpt_bytes(from, &bytes);
    CkptPieces pieces = ckpt_pieces(into, bytes);
    for (uint64_t k = 0; k < pieces.n; k++)
        memcpy((char *)into->data + k * pieces.step, (const char *)from->data + k * pieces.bytes, pieces.bytes);
    return 0;
}

// Whether every number of an f32 tensor, in memory or in a file, is at least low and at most high; NaN is not. Tensors of
// other types are.
static inline bool checkpoint_between(const CkptTensor *t, float low, float high) {
    uint64_t bytes = 0;
    if (t->type != CKPT_F32 || !ckpt_bytes(t, &bytes)) return true;
    CkptPieces pieces = ckpt_pieces(t, bytes);
    bool between = true;
    for (uint64_t k = 0; k < pieces.n; k++) {
        const float *x = (const float *)(const void *)((const char *)t->data + k * pieces.step);
        for (size_t i = 0; i < pieces.bytes / sizeof *x; i++) between &= x[i] >= low && x[i] <= high;
    }
    return between;
}

#endif // CHECKPOINT_H

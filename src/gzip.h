/* gzip.h - what zlib does here: checksums, packed bytes, and text files that may be gzip's.
 *
 * defines: crc_of, deflated; TextFile, text_file_open, text_file_read, text_file_close
 * Needs zlib (-lz). Test: dev/test/test_corpora.c, and for the first two test_checkpoint.c and test_plot.c.
 */
#ifndef GZIP_H
#define GZIP_H

#include <zlib.h>
#include "util.h"

// CRC-32 (of gzip, PNG) of n bytes; crc: of the bytes before them, 0 at the beginning. n may exceed 4 GB.
static inline uint32_t crc_of(uint32_t crc, const void *bytes, size_t n) {
    return (uint32_t)crc32_z(crc, (const unsigned char *)bytes, n);
}

// n bytes in zlib's format (RFC 1950), level 1 (fastest) to 9 (smallest): *size bytes, to be freed.
static inline unsigned char *deflated(const void *bytes, size_t n, int level, size_t *size) {
    uLongf packed = compressBound((uLong)n);
    unsigned char *out = (unsigned char *)xmalloc(packed);
    if (compress2(out, &packed, (const unsigned char *)bytes, (uLong)n, level) != Z_OK) fail("out of memory: %zu bytes to pack", n);
    *size = packed;
    return out;
}

// A file as it is read: its bytes as they are, or where it is gzip the text of all its members. zlib's gzread is not for
// this: it passes over what stands behind a member and is none, and hands on packed bytes that have lost their magic.
typedef struct {
    const char *path;
    FILE *f;
    bool gzip, in_member;
    z_stream z;             // its next_in, avail_in: the bytes of `buffer` that are not yet used, of plain texts too
    uint8_t buffer[1 << 18];
} TextFile;

// Looks for more bytes where all are used: 1; 0 at the end of the file; or -1 with a line in error.
static inline int text_file_refill(TextFile *t, char *error, size_t room) {
    if (t->z.avail_in > 0) return 1;
    t->z.next_in = t->buffer;
    t->z.avail_in = (unsigned)fread(t->buffer, 1, sizeof t->buffer, t->f);
    if (!ferror(t->f)) return t->z.avail_in > 0;
    snprintf(error, room, "%s: cannot be read: %s (a text file expected)", t->path, strerror(errno));
    return -1;
}

static inline void text_file_close(TextFile *t) {
    if (t->gzip) inflateEnd(&t->z);
    if (t->f) fclose(t->f);
    free(t);
}

// The program that has packed a text, by its name or by its first n bytes; NULL where it is none of these.
static inline const char *text_file_packer(const char *path, const uint8_t *bytes, size_t n) {
    static const struct { const char *name, *ends, *magic; size_t length; } packers[] = {
        { "xz", ".xz", "\xfd" "7zXZ", 6 }, { "zstd", ".zst", "\x28\xb5\x2f\xfd", 4 }, { "zip", ".zip", "PK\3\4", 4 },
        { "bzip2", ".bz2", "BZh91AY&SY", 10 }, { "7-zip", ".7z", "7z\xbc\xaf\x27\x1c", 6 }, { "lz4", ".lz4", "\4\x22\x4d\x18", 4 },
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; i < COUNT_OF(packers); i++)
        if ((dot && strcmp(dot, packers[i].ends) == 0) ||
            (n >= packers[i].length && memcmp(bytes, packers[i].magic, packers[i].length) == 0)) return packers[i].name;
    return NULL;
}

// Opens a file, whose path must stay. A text whose name ends in .gz or .dz must begin as gzip does; none may be packed by
// another program. NULL with a line in error
// that names the path where it can't be read.
static inline TextFile *text_file_open(const char *path, char *error, size_t room) {
    TextFile *t = (TextFile *)xcalloc(1, sizeof *t);
    const char *dot = strrchr(path, '.');
    t->path = path;
    t->f = fopen(path, "rb");
    int more = t->f ? text_file_refill(t, error, room) : -1;
    if (!t->f) snprintf(error, room, "%s: cannot be read: %s (a text file expected)", path, strerror(errno));
    bool gzip = more > 0 && t->z.avail_in >= 2 && t->buffer[0] == 0x1f && t->buffer[1] == 0x8b;
    if (more >= 0 && !gzip && dot && (strcmp(dot, ".gz") == 0 || strcmp(dot, ".dz") == 0)) {
        snprintf(error, room, "%s: not a gzip file, as its name says: it does not begin with the bytes 1f 8b", path);
        more = -1;
    }
    const char *packer = more >= 0 && !gzip ? text_file_packer(path, t->buffer, t->z.avail_in) : NULL;
    if (packer) {
        snprintf(error, room, "%s: packed by %s: a text expected, as it is or packed by gzip", path, packer);
        more = -1;
    }
    if (gzip && inflateInit2(&t->z, 15 + 16) != Z_OK) fail("out of memory: %s", path);       // 16: gzip's format only
    t->gzip = gzip;
    if (more >= 0) return t;
    text_file_close(t);
    return NULL;
}

// Reads n bytes of text, fewer only at its end. Returns how many, or -1 with a line in error that names the path.
static inline long text_file_read(TextFile *t, char *to, size_t n, char *error, size_t room) {
    size_t got = 0;
    int more = 0;
    while (got < n && (more = text_file_refill(t, error, room)) > 0) {
        if (!t->gzip) {
            size_t part = t->z.avail_in < n - got ? t->z.avail_in : n - got;
            memcpy(to + got, t->z.next_in, part);
            t->z.next_in += part;
            t->z.avail_in -= (unsigned)part;
            got += part;
            continue;
        }
        if (!t->in_member && *t->z.next_in == 0) {      // zeros may fill the file up, as on tapes
            for (; (more = text_file_refill(t, error, room)) > 0; t->z.avail_in--)
                if (*t->z.next_in++ != 0) {
                    snprintf(error, room, "%s: more behind its zeros (a damaged gzip file)", t->path);
                    return -1;
                }
            break;
        }
        t->in_member = true;
        t->z.next_out = (uint8_t *)to + got;
        t->z.avail_out = (unsigned)(n - got);
        int code = inflate(&t->z, Z_NO_FLUSH);
        got = n - t->z.avail_out;
        if (code == Z_STREAM_END) {
            t->in_member = false;
            inflateReset(&t->z);
        } else if (code != Z_OK) {
            snprintf(error, room, "%s: %s (a damaged gzip file)", t->path, t->z.msg ? t->z.msg : zError(code));
            return -1;
        }
    }
    if (more < 0) return -1;
    if (got == n || !t->in_member) return (long)got;
    snprintf(error, room, "%s: cut off (a damaged gzip file)", t->path);
    return -1;
}

#endif // GZIP_H

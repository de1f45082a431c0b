/* utf8.h - characters of UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF).
 *
 * defines: UTF8_CODE_POINTS, utf8_decode, utf8_encode, utf8_length
 * C standard library only. Test: dev/test/test_data.c, every code point.
 */
#ifndef UTF8_H
#define UTF8_H

#include <stddef.h>
#include <stdint.h>

enum { UTF8_CODE_POINTS = 0x110000 };

// The character at text, of which n bytes are left: its length in bytes (1 to 4) and its code point in *c; 0 where the
// bytes are not UTF-8.
static inline int utf8_decode(const char *text, size_t n, uint32_t *c) {
    static const uint32_t smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *s = (const unsigned char *)text;
    if (n == 0) return 0;
    if (s[0] < 0x80) { *c = s[0]; return 1; }
    int length = s[0] >> 5 == 0x6 ? 2 : s[0] >> 4 == 0xe ? 3 : s[0] >> 3 == 0x1e ? 4 : 0;
    if (length == 0 || n < (size_t)length) return 0;
    uint32_t value = s[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if (s[i] >> 6 != 0x2) return 0;
        value = value << 6 | (s[i] & 0x3fu);
    }
    if (value < smallest[length] || value >= UTF8_CODE_POINTS || (value >= 0xd800 && value < 0xe000)) return 0;
    *c = value;
    return length;
}

// Writes code point c as UTF-8 into out (4 bytes). Returns its length.
static inline int utf8_encode(uint32_t c, uint8_t *out) {
    static const uint8_t first[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    if (c < 0x80) { out[0] = (uint8_t)c; return 1; }
    int length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(first[length] | c);
    return length;
}

// How many characters a text has: of UTF-8, the bytes that don't go on with one.
static inline int utf8_length(const char *text) {
    int n = 0;
    for (; *text; text++) n += (unsigned char)*text >> 6 != 0x2;
    return n;
}

#endif // UTF8_H

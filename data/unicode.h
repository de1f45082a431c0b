/* unicode.h - classes and normalization of characters as in `tokenizers` and `tiktoken`, whatever version of Unicode the
 * libraries here have: theirs is 16.0 for classes and, where a text is normalized, 9.0.
 *
 * defines: unicode_added, unicode_nfc
 *
 * dev/golden/make_unicode.py prints the tables, and writes a reference of every code point. Needs PCRE2 and utf8proc
 * (-lpcre2-8 -lutf8proc).
 */
#ifndef UNICODE_H
#define UNICODE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include "../src/utf8.h"
#include "../src/util.h"

// The code points, in hexadecimal, that Unicode 15.0, 15.1 and 16.0 added to a class of 14.0. None left one.
static const struct { const char *name, *ranges; } unicode_classes[] = {
    { "L", "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 1123F-11240 "
        "11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 11F02 11F04-11F10 11F12-11F33 "
        "1342F 13441-13446 13460-143FA 16100-1611D 16D40-16D6C 18CFF 1B132 1B155 1DF25-1DF2A 1E030-1E06D "
        "1E4D0-1E4EB 1E5D0-1E5ED 1E5F0 2B739 2EBF0-2EE5D 31350-323AF" },
    { "N", "10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16D70-16D79 1CCF0-1CCF9 1D2C0-1D2D3 "
        "1E4F0-1E4F9 1E5F1-1E5FA" },
    { "Lu", "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65" },
    { "Ll", "1C8A A7CD A7DB 10D70-10D85 1DF25-1DF2A" },
    { "Lm", "10D4E 10D6F 16D40-16D42 16D6B-16D6C 1E030-1E06D 1E4EB" },
    { "Lo", "105C0-105F3 10D4A-10D4D 10D4F 10EC2-10EC4 1123F-11240 11380-11389 1138B 1138E 11390-113B5 113B7 "
        "113D1 113D3 11BC0-11BE0 11F02 11F04-11F10 11F12-11F33 1342F 13441-13446 13460-143FA 16100-1611D "
        "16D43-16D6A 18CFF 1B132 1B155 1E4D0-1E4EA 1E5D0-1E5ED 1E5F0 2B739 2EBF0-2EE5D 31350-323AF" },
    { "M", "897 CF3 ECE 10D69-10D6D 10EFC-10EFF 11241 113B8-113C0 113C2 113C5 113C7-113CA 113CC-113D0 113D2 "
        "113E1-113E2 11F00-11F01 11F03 11F34-11F3A 11F3E-11F42 11F5A 13440 13447-13455 1611E-1612F 1E08F "
        "1E4EC-1E4EF 1E5EE-1E5EF" },
};

// What `tokenizers` leaves where it is when it normalizes, as if it were no part of anything: its tables are of Unicode
// 9.0. These are the characters since then that order or join with others.
static const uint32_t unicode_inert[][2] = {
    { 0x7FD, 0x7FD }, { 0x897, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE }, { 0xC3C, 0xC3C }, { 0xD3B, 0xD3C },
    { 0xEBA, 0xEBA }, { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE }, { 0x1DF6, 0x1DFA }, { 0xA82C, 0xA82C },
    { 0x105C9, 0x105C9 }, { 0x105D2, 0x105D2 }, { 0x105DA, 0x105DA }, { 0x105E4, 0x105E4 }, { 0x10D24, 0x10D27 },
    { 0x10D69, 0x10D6D }, { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 },
    { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x11383, 0x11383 }, { 0x11385, 0x11385 }, { 0x1138E, 0x1138E },
    { 0x11391, 0x11391 }, { 0x113BB, 0x113BB }, { 0x113C2, 0x113C2 }, { 0x113C5, 0x113C5 }, { 0x113C7, 0x113C9 },
    { 0x113CE, 0x113D0 }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A }, { 0x11935, 0x11935 }, { 0x11938, 0x11938 },
    { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 },
    { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 },
    { 0x1611E, 0x16129 }, { 0x1612F, 0x1612F }, { 0x16D67, 0x16D6A }, { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F },
    { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF }, { 0x1E5EE, 0x1E5EF }
};

// What a PCRE2 of this version of Unicode lacks of the class \p{name}: "41-5A C0", or "" where that is nothing.
static inline const char *unicode_added(const char *name, size_t length, const char *version) {
    int major = 0;
    sscanf(version, "%d", &major);
    for (size_t i = 0; major < 16 && i < COUNT_OF(unicode_classes); i++)
        if (strlen(unicode_classes[i].name) == length && strncmp(unicode_classes[i].name, name, length) == 0)
            return unicode_classes[i].ranges;
    return "";
}

static inline bool unicode_is_inert(uint32_t c) {
    size_t low = 0, high = COUNT_OF(unicode_inert);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > unicode_inert[middle][1]) low = middle + 1;
        else high = middle;
    }
    return low < COUNT_OF(unicode_inert) && c >= unicode_inert[low][0];
}

enum { UNICODE_NFC_GROWTH = 3 };    // in UTF-8 no text becomes longer than by this factor (UAX #15, 9.1)

// n bytes in normalization form C (UAX #15: characters and their marks composed): *length bytes, to be freed. Bytes that
// are not UTF-8 stay as they are, and what is on their two sides is normalized by itself.
static inline char *unicode_nfc(const char *text, size_t n, size_t *length) {
    char *out = (char *)xmalloc(UNICODE_NFC_GROWTH * n);
    *length = 0;
    bool plain = true;          // text[from] .. text[at - 1] has nothing from U+0300 on, so it is normalized
    for (size_t from = 0, at = 0; from < n; ) {
        uint32_t c = 0;
        int bytes = utf8_decode(text + at, n - at, &c);
        if (bytes > 0 && !unicode_is_inert(c)) {
            plain = plain && c < 0x300;
            at += (size_t)bytes;
            continue;
        }
        uint8_t *normal = NULL;
        utf8proc_ssize_t count = (utf8proc_ssize_t)(at - from);
        if (!plain) count = utf8proc_map((const uint8_t *)text + from, count, &normal, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (count < 0) fail("out of memory: %zu bytes to normalize", at - from);
        memcpy(out + *length, normal ? (const char *)normal : text + from, (size_t)count);
        *length += (size_t)count;
        free(normal);
        plain = true;
        for (size_t end = at + (bytes > 0 ? (size_t)bytes : at < n); at < end; at++) out[(*length)++] = text[at];
        from = at;
    }
    return out;
}

#endif // UNICODE_H

/* unicode.h - what the libraries' versions of Unicode lack beside that of `tokenizers` and `tiktoken`, 16.0.
 *
 * defines: unicode_added
 *
 * dev/golden/make_unicode.py prints the tables, and a reference of every code point that dev/test/test_bpe.c reads.
 */
#ifndef UNICODE_H
#define UNICODE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

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

// What a PCRE2 of this version of Unicode lacks of the class \p{name}: "41-5A C0", or "" where that is nothing.
static inline const char *unicode_added(const char *name, size_t length, const char *version) {
    int major = 0;
    sscanf(version, "%d", &major);
    for (size_t i = 0; major < 16 && i < sizeof unicode_classes / sizeof *unicode_classes; i++)
        if (strlen(unicode_classes[i].name) == length && strncmp(unicode_classes[i].name, name, length) == 0)
            return unicode_classes[i].ranges;
    return "";
}

#endif // UNICODE_H

/* json.h - a strict reader of JSON that knows lines, over cJSON; numbers and strings as JSON.
 *
 * defines: cJSON's, JsonReader, JsonPosition, json_parse, json_parse_object, json_free, json_error, json_number,
 *          json_put_string
 *
 * A text is scanned by the grammar (RFC 8259), which notes where each value stands, and then read by cJSON. The scan is
 * there because cJSON takes a BOM, 01, 1e999 and raw control bytes, rounds long integers and tells no line.
 *
 * cJSON has the project's memory: where there is none left the program ends with one line. cJSON itself returns NULL for
 * it, which is also what it returns for a text that is no JSON: a good file would be called damaged. Include this in the
 * place of <cjson/cJSON.h>. Test: dev/test/test_config.c.
 */
#ifndef JSON_H
#define JSON_H

#include <cjson/cJSON.h>
#include <ctype.h>
#include "utf8.h"
#include "util.h"

__attribute__((constructor)) static void json_use_xmalloc(void) {
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = xmalloc, .free_fn = free });
}

// ---------------------------------------------------------------------------------------------------------------------
// Values as text

// The shortest decimal that reads back as the same double; buffer of at least 32 bytes.
static inline const char *json_number(char *buffer, double x) {
    if (fabs(x) < 1e15 && x == (double)(long long)x && !(x == 0 && signbit(x))) {
        sprintf(buffer, "%lld", (long long)x);
        return buffer;
    }
    for (int digits = 1; digits <= 17; digits++) {
        sprintf(buffer, "%.*g", digits, x);
        if (strtod(buffer, NULL) == x) break;
    }
    char *exponent = strchr(buffer, 'e');       // 1e-05 -> 1e-5
    if (exponent && exponent[2] == '0') memmove(exponent + 2, exponent + 3, strlen(exponent + 3) + 1);
    return buffer;
}

// s as a JSON string; of a longer one than `limit` bytes "..." behind as many, or those of a whole character.
static inline void json_put_string(FILE *out, const char *s, size_t limit) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    fputc('"', out);
    size_t i = 0;
    for (; s[i] && (i < limit || (unsigned char)s[i] >> 6 == 0x2); i++) {
        const char *escaped = strchr(plain, s[i]);
        if (escaped) fprintf(out, "\\%c", letter[escaped - plain]);
        else if ((unsigned char)s[i] < 0x20) fprintf(out, "\\u%04x", s[i]);
        else fputc(s[i], out);
    }
    fputs(s[i] ? "...\"" : "\"", out);
}

// ---------------------------------------------------------------------------------------------------------------------
// The reader

typedef struct { int line; const char *value; } JsonPosition;

typedef struct {
    const char *name;               // of the text, for messages: a file, or what else is read as a whole
    bool has_lines;                 // it is a file: messages say the line and the key
    char *error;                    // one line
    size_t room;
    const char *at, *end;           // the text that is left
    int line;
    JsonPosition *positions;        // [0] the whole text, then the value behind each key, in the order of the text
    int n_positions;
    cJSON *root;
} JsonReader;

static inline void json_free(JsonReader *r) {
    cJSON_Delete(r->root);
    free(r->positions);
    r->root = NULL;
    r->positions = NULL;
    r->n_positions = 0;
}

// Writes "file:line: key: ..." or "--override: ..." into the error. Always false, so that a caller can return it.
PRINTF_LIKE(4, 5) static inline bool json_error(JsonReader *r, int line, const char *key, const char *fmt, ...) {
    va_list args;
    size_t n = (size_t)snprintf(r->error, r->room, "%.300s%s:", r->name, strlen(r->name) > 300 ? "..." : "");
    if (r->has_lines && line > 0 && n < r->room) n += (size_t)snprintf(r->error + n, r->room - n, "%d:", line);
    if (r->has_lines && key && n < r->room) n += (size_t)snprintf(r->error + n, r->room - n, " %.300s:", key);
    if (n + 1 < r->room) {
        r->error[n++] = ' ';
        va_start(args, fmt);
        vsnprintf(r->error + n, r->room - n, fmt, args);
        va_end(args);
    }
    for (char *c = r->error; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';       // a key or a name must not make a second line of it
    return false;
}

// ---------------------------------------------------------------------------------------------------------------------
// The scan: RFC 8259 and no more. Each function stands at the first byte of its thing and ends behind the last one.

enum { JSON_MAX_DEPTH = 100, JSON_MAX_DIGITS = 60 };    // cJSON's limits are 1000 and 63

static inline bool json_scan_value(JsonReader *r, int depth);

static inline int json_peek(const JsonReader *r) { return r->at < r->end ? (unsigned char)*r->at : -1; }

static inline void json_skip_space(JsonReader *r) {
    for (; r->at < r->end && memchr(" \t\r\n", *r->at, 4); r->at++)
        if (*r->at == '\n') r->line++;
}

static inline bool json_in_word(int c) { return c > 0 && (isalnum(c) || strchr("_+-.", c)); }

// "expected ..., found ...": what stands where the scan is.
static inline bool json_syntax(JsonReader *r, const char *expected) {
    int c = json_peek(r), word = 0;
    while (word < 24 && r->at + word < r->end && json_in_word((unsigned char)r->at[word])) word++;
    if (c < 0) return json_error(r, r->line, NULL, "expected %s, found the end of the text", expected);
    if (word > 0) return json_error(r, r->line, NULL, "expected %s, found %.*s", expected, word, r->at);
    if (c == '/' || c == '#')
        return json_error(r, r->line, NULL, "expected %s, found '%c': JSON has no comments", expected, c);
    if (c >= 0x20 && c < 0x7f) return json_error(r, r->line, NULL, "expected %s, found '%c'", expected, c);
    return json_error(r, r->line, NULL, "expected %s, found the byte 0x%02x", expected, (unsigned)c);
}

// The four digits of \uXXXX, or -1.
static inline int json_scan_hex(JsonReader *r) {
    int code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        int c = json_peek(r);
        if (c < 0 || !isxdigit(c)) return -1;
        code = 16 * code + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return code;
}

static inline bool json_scan_escape(JsonReader *r) {
    r->at++;
    int c = json_peek(r);
    if (c > 0 && strchr("\"\\/bfnrt", c)) { r->at++; return true; }
    if (c != 'u') return json_syntax(r, "one of \" \\ / b f n r t u behind a backslash");
    r->at++;
    int code = json_scan_hex(r);
    if (code >= 0xd800 && code < 0xdc00 && r->end - r->at > 2 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        int low = json_scan_hex(r);
        return (low >= 0xdc00 && low < 0xe000) || json_error(r, r->line, NULL, "half a surrogate pair in a string");
    }
    if (code < 0) return json_syntax(r, "four hexadecimal digits behind \\u");
    if (code == 0) return json_error(r, r->line, NULL, "\\u0000 in a string");
    return code < 0xd800 || code >= 0xe000 || json_error(r, r->line, NULL, "half a surrogate pair in a string");
}

static inline bool json_scan_string(JsonReader *r) {
    for (r->at++; json_peek(r) != '"'; ) {
        int c = json_peek(r), n;
        uint32_t code;
        if (c < 0 || c == '\n') return json_error(r, r->line, NULL, "a string is not closed in its line");
        if (c < 0x20) return json_error(r, r->line, NULL, "a string holds the control byte 0x%02x", (unsigned)c);
        if (c == '\\') {
            if (!json_scan_escape(r)) return false;
        } else if ((n = utf8_decode(r->at, (size_t)(r->end - r->at), &code)) > 0) r->at += n;
        else return json_error(r, r->line, NULL, "a string is not UTF-8: byte 0x%02x", (unsigned)c);
    }
    r->at++;
    return true;
}

static inline bool json_scan_digits(JsonReader *r) {
    if (!isdigit(json_peek(r))) return json_syntax(r, "a digit");
    while (isdigit(json_peek(r))) r->at++;
    return true;
}

static inline bool json_scan_number(JsonReader *r) {
    const char *start = r->at;
    if (json_peek(r) == '-') r->at++;
    const char *digits = r->at;
    if (!json_scan_digits(r)) return false;
    if (*digits == '0' && r->at - digits > 1) {
        int length = r->at - start < JSON_MAX_DIGITS ? (int)(r->at - start) : JSON_MAX_DIGITS;
        return json_error(r, r->line, NULL, "%.*s has a leading zero", length, start);
    }
    if (json_peek(r) == '.') {
        r->at++;
        if (!json_scan_digits(r)) return false;
    }
    if (json_peek(r) == 'e' || json_peek(r) == 'E') {
        r->at++;
        if (json_peek(r) == '+' || json_peek(r) == '-') r->at++;
        if (!json_scan_digits(r)) return false;
    }
    if (r->at - start > JSON_MAX_DIGITS)
        return json_error(r, r->line, NULL, "a number of more than %d characters", JSON_MAX_DIGITS);
    return true;
}

static inline void json_note_position(JsonReader *r, int line) {
    size_t n = (size_t)r->n_positions++;
    if ((n & (n - 1)) == 0)                     // 0 or a power of two: the array is full and doubles
        r->positions = (JsonPosition *)xrealloc(r->positions, (n ? 2 * n : 1) * sizeof *r->positions);
    r->positions[n] = (JsonPosition){ line, r->at };
}

// An object or an array, which differ in the key before each item.
static inline bool json_scan_items(JsonReader *r, int depth, bool object) {
    const char *more = object ? "',' or '}'" : "',' or ']'";
    int close = object ? '}' : ']';
    if (depth == JSON_MAX_DEPTH) return json_error(r, r->line, NULL, "nested deeper than %d", JSON_MAX_DEPTH);
    r->at++;
    json_skip_space(r);
    if (json_peek(r) == close) { r->at++; return true; }
    for (;;) {
        if (object) {
            int line = r->line;
            if (json_peek(r) != '"') return json_syntax(r, "a key in double quotes");
            if (!json_scan_string(r)) return false;
            json_skip_space(r);
            if (json_peek(r) != ':') return json_syntax(r, "':' behind the key");
            r->at++;
            json_skip_space(r);
            json_note_position(r, line);
        }
        if (!json_scan_value(r, depth + 1)) return false;
        json_skip_space(r);
        int c = json_peek(r);
        if (c != ',' && c != close) return json_syntax(r, more);
        r->at++;
        if (c == close) return true;
        json_skip_space(r);
    }
}

static inline bool json_scan_value(JsonReader *r, int depth) {
    static const char *const words[] = { "true", "false", "null" };
    int c = json_peek(r);
    if (c == '{' || c == '[') return json_scan_items(r, depth, c == '{');
    if (c == '"') return json_scan_string(r);
    if (c == '-' || isdigit(c)) return json_scan_number(r);
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(r->end - r->at) < length || memcmp(r->at, words[i], length) != 0) continue;
        if (r->at + length < r->end && isalnum((unsigned char)r->at[length])) continue;
        r->at += length;
        return true;
    }
    return json_syntax(r, "a value");
}

/* Reads text[0..size) into r->root and r->positions, in the place of what was read before; the text must stay until they
 * have been used. Of r name, has_lines, error and room are set. False with one line in the error where it is no JSON. */
static inline bool json_parse(JsonReader *r, const char *text, size_t size) {
    r->at = text;
    r->end = text + size;
    r->line = 1;
    r->n_positions = 0;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return json_error(r, 1, NULL, "begins with a byte order mark: save the file as UTF-8 without one");
    json_skip_space(r);
    if (r->at == r->end) return json_error(r, 0, NULL, "is empty, expected a JSON object");
    json_note_position(r, r->line);
    if (!json_scan_value(r, 0)) return false;
    json_skip_space(r);
    if (r->at < r->end) return json_syntax(r, "nothing behind the end of the JSON text");
    cJSON_Delete(r->root);
    r->root = cJSON_ParseWithLength(text, size);
    return r->root || json_error(r, 0, NULL, "cannot be parsed");
}

// json_parse of what must be an object.
static inline bool json_parse_object(JsonReader *r, const char *text, size_t size) {
    if (!json_parse(r, text, size)) return false;
    if (cJSON_IsObject(r->root)) return true;
    r->at = r->positions[0].value;
    r->line = r->positions[0].line;
    return json_syntax(r, "an object {...}");
}

#endif // JSON_H

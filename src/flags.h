/* flags.h - the arguments of programs: what a flag says, and numbers that are nothing else.
 *
 * defines: flag_value, read_number, number_of, integer_of
 */
#ifndef FLAGS_H
#define FLAGS_H

#include "util.h"

// What "flag=" in an argument is followed by, perhaps nothing; NULL where the argument is another one. flag: "--tokens".
static inline const char *flag_value(const char *argument, const char *flag) {
    size_t n = strlen(flag);
    return strncmp(argument, flag, n) == 0 && argument[n] == '=' ? argument + n + 1 : NULL;
}

// Whether the whole text is one finite number, as strtod reads it.
static inline bool read_number(const char *text, double *x) {
    char *end;
    *x = strtod(text, &end);
    return end != text && !*end && isfinite(*x);
}

// The number that `text` is, from least to most. Where it is none the program ends by fail_usage, with what it is of:
// "--temperature=hot: a number from 0 to 100 expected".
static inline double number_of(const char *what, const char *text, double least, double most) {
    double x;
    if (!read_number(text, &x) || x < least || x > most)
        fail_usage("%s=%s: a number from %g to %g expected", what, text, least, most);
    return x;
}

// The same of an integer, in decimal digits: 10.0, 1e3 and 0x10 are none.
static inline int64_t integer_of(const char *what, const char *text, int64_t least, int64_t most) {
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || *end || errno || strpbrk(text, " \t\n\v\f\r") || x < least || x > most)
        fail_usage("%s=%s: an integer from %lld to %lld expected", what, text, (long long)least, (long long)most);
    return x;
}

#endif // FLAGS_H

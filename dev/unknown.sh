#!/bin/sh
# What make says of variables on its command line that the Makefile doesn't know: dev/unknown.sh "NAME ..." KNOWN ...
# The nearest known one, or the config's keys of that name, which go into ARGS; the keys are those of src/keys.h's table.
names=$1
shift
for name in $names; do
    printf '%s\n' "$@" | awk -v name="$name" '
        function min(a, b) { return a < b ? a : b }
        function distance(a, b,   i, j, d) {            # Levenshtein
            for (i = 0; i <= length(a); i++) d[i, 0] = i
            for (j = 0; j <= length(b); j++) d[0, j] = j
            for (i = 1; i <= length(a); i++) for (j = 1; j <= length(b); j++)
                d[i, j] = min(min(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + (substr(a, i, 1) != substr(b, j, 1)))
            return d[length(a), length(b)]
        }
        NR == FNR { far = distance(toupper(name), $0); if (NR == 1 || far < least) { least = far; nearest = $0 } next }
        /^ *\{"[a-z0-9_.]+", FIELD_/ { split($0, part, "\""); last = part[2]; sub(/.*\./, "", last)
                                       if (last == tolower(name)) keys = keys (keys ? " or " : "") "--" part[2] "=..." }
        END { text = name ": make has no such variable; "
              if (keys && least > 0) text = text "a key of the config goes into ARGS=\"" keys "\""
              else if (least < length(name) / 2) text = text "did you mean " nearest "?"
              else text = text "`make help` lists them"
              print text }' - src/keys.h
done | paste -sd';' - | sed 's/;\([A-Za-z_]*: make\)/; \1/g'

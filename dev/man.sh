#!/bin/sh
# The manual page of train_gpt from what it says of itself: man.sh TRAINER VERSION > train_gpt.1
# Its --help is usage, a sentence, "  --flag  text" with lines that go on below the text, and "  --section.key=default  (what)" with
# the text in the next line; man(7) says what becomes of them.
help=$("$1" --help) || exit
printf '%s\n' "$help" | awk -v version="$2" '
    function text(s) {                          # a backslash, a hyphen and a point that begins a line mean something to man
        gsub(/\\/, "\\e", s)
        gsub(/-/, "\\-", s)
        sub(/^[.'"'"']/, "\\\\\\&&", s)
        return s
    }
    NR == 1 { usage = $0; sub(/^usage: train_gpt /, "", usage); next }
    NR == 2 {
        printf ".TH TRAIN_GPT 1 \"\" \"muon.c %s\"\n.SH NAME\ntrain_gpt \\- pretrains a small GPT with Muon, AdamW and their kin\n", version
        printf ".SH SYNOPSIS\n.B train_gpt\n%s\n.SH DESCRIPTION\n%s\n.SH OPTIONS\n", text(usage), text($0)
        next
    }
    /^  --[a-z_]+\.[a-z_.]+=/ {
        key = $1
        sub(/^--/, "", key)
        section = key
        sub(/\..*/, "", section)
        if (section != last) printf "%s.SS %s\n", last ? "" : ".SH KEYS\nOf the config, or of the command line.\n", section
        last = section
        what = $0
        sub(/^  [^ ]*  /, "", what)
        printf ".TP\n.B %s\n%s\n", text($1), text(what)
        inside = 0
        next
    }
    /^  --/ {
        flag = $1
        sub(/^  [^ ]* */, "")
        printf ".TP\n.B %s\n%s\n", text(flag), text($0)
        next
    }
    /^ / { sub(/^ */, ""); print (last ? ".br\n" : "") text($0) }
    END {
        print ".SH EXIT STATUS\n0: done; 1: failed; 2: a wrong command line or config; 130: interrupted, and saved."
        print ".SH SEE ALSO\nThe folders configs and docs of muon.c."
    }'

#!/bin/sh
# dev/bench/tokenizer.sh BUILD [-q] [--text=FILE]: training a byte-pair encoding and encoding, by
# BUILD/bench_tokenizer beside PyPI's tokenizers and tiktoken on the same text: the dictionary GCIDE (40 MB) where
# Debian's dict-gcide is installed, else the King James text. -q: one round. A whole run, without arguments,
# is kept in BUILD/results/MACHINE-tokenizer.md, with KEEP=1 in dev/bench/results.
#
# The two live in a venv under BUILD, made when it is missing; MUON_VENV=/path names another, which is used as it is.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1 results=${KEEP:+dev/bench}
results=${results:-$1}/results
shift
whole=$# text='' quick=''
for word in "$@"; do
    case $word in
        -q) quick=-q ;;
        --text=?*) text=${word#--text=} ;;
        *) echo "error: dev/bench/tokenizer.sh: $word: -q or --text=FILE expected" >&2; exit 2 ;;
    esac
done

venv=${MUON_VENV:-$build/venv}
usable() { "$venv/bin/python" -c 'import tokenizers, tiktoken, numpy' 2>/dev/null; }
if ! usable && [ -n "${MUON_VENV:-}" ]; then
    echo "error: MUON_VENV=$MUON_VENV: its bin/python cannot import tokenizers, tiktoken and numpy" >&2
    exit 1
elif ! usable; then
    dev/setup.sh venv >&2 || exit 1
    echo "pip fetches tokenizers and tiktoken from PyPI into $venv, where they take about 100 MB" >&2
    if ! { [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"; } ||
            ! "$venv/bin/pip" install --disable-pip-version-check -q -r dev/golden/requirements_bpe.txt >&2 || ! usable
    then
        echo "error: tokenizers and tiktoken could not be installed into $venv, see above" >&2
        exit 1
    fi
fi

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
name=$text
if [ -z "$text" ]; then
    text=$folder/text
    if [ -e /usr/share/dictd/gcide.dict.dz ]; then
        name="GCIDE (dict-gcide)"
        gzip -dc </usr/share/dictd/gcide.dict.dz >"$text" || exit 1
    else
        name="the King James text (bible-kjv-text)"
        dev/setup.sh kjv >&2 || exit 1
        (cd / && bible -f gen1:1-rev22:21 </dev/null) >"$text" || exit 1
    fi
fi
{ "$venv/bin/python" -B dev/bench/bench_tokenizer.py "$build" "$text" "$name" $quick && : >"$folder/ok"; } |
    tee "$folder/output"
[ -e "$folder/ok" ] || exit 1
[ "$whole" = 0 ] || exit 0
kept=$results/$("$build/bench" --name)-tokenizer.md
mkdir -p "$results" && cp "$folder/output" "$kept" && chmod 644 "$kept" && echo "kept in $kept"

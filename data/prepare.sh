#!/bin/sh
# Makes a data folder (token shards, tokenizer) from a corpus by name or from a text. Run from the project's folder,
# after build/tokenize is built:
#
#   data/prepare.sh kjv|shakespeare|path/to/text.txt [char|byte|bpe] prepares build/data/NAME, or says it is up to date
#   data/prepare.sh --folder kjv|shakespeare|path/to/text.txt        prints that folder's name and does nothing
#
# NAME is the corpus, or the text's file name without extension. What a folder was made of is in its `fingerprint`: the
# checksum of the text, the tokenizer, the split and the format. Where that has changed it is made anew, in a folder of
# its own that takes the old one's place when it is complete.
#
# Environment: DATA_MIRROR, a folder with tinyshakespeare/input.txt, used instead of a download;
#              VOCAB, the tokens of a byte-pair encoding (4096), which is trained on the training text;
#              DATA_ROOT, where the prepared folders go (build/data); BUILD, where tokenize is (build).
set -eu

format=1            # of the prepared folder: raise it when what is written changes
root=${DATA_ROOT:-build/data}
tokenize=${BUILD:-build}/tokenize

kjv_sha256=cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d
shakespeare_sha256=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
shakespeare_url=https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt

fail() { echo "error: $*" >&2; exit 1; }
fail_usage() { echo "error: $*" >&2; exit 2; }

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d' ' -f1
}

# check_sha256 FILE EXPECTED WHAT
check_sha256() {
    found=$(sha256 "$1")
    [ "$found" = "$2" ] || fail "$3: not the text expected: sha256 $found instead of $2"
}

# The whole King James text, one verse a line: "Ge1:1 In the beginning ...". -f turns off pretty-printing and with it
# line wrapping. From / because bible looks for its text in the current folder first.
kjv_text() {
    (cd / && bible -f gen1:1-rev22:21 </dev/null)
}

# Splits verses on stdin into train.txt and val.txt of folder $1: every tenth chapter (the 10th, 20th, ... 1180th of
# 1189, counted through all books) is for validation. The text's last tenth, nanoGPT's choice, would be letters and
# Revelation only: another kind of text than what was trained on.
kjv_split() {
    awk -v train="$1/train.txt" -v val="$1/val.txt" '
        { chapter = $1; sub(/:.*/, "", chapter) }
        chapter != last { count++; last = chapter }
        { print > (count % 10 == 0 ? val : train) }'
}

# Brings tiny Shakespeare to file $1.
shakespeare_text() {
    mirrored=${DATA_MIRROR:+$DATA_MIRROR/tinyshakespeare/input.txt}
    if [ -n "$mirrored" ] && [ -e "$mirrored" ]; then
        cat "$mirrored" >"$1" 2>/dev/null || fail "$mirrored: cannot be copied"
        check_sha256 "$1" $shakespeare_sha256 "$mirrored"
        return
    fi
    echo "downloading $shakespeare_url (1.1 MB)"
    if command -v curl >/dev/null; then
        curl -fsSL --connect-timeout 20 --retry 2 -o "$1" "$shakespeare_url" 2>/dev/null && got=yes || got=no
    elif command -v wget >/dev/null; then
        wget -q --timeout=20 --tries=3 -O "$1" "$shakespeare_url" && got=yes || got=no
    else
        got=no
    fi
    [ "$got" = yes ] || fail "tiny Shakespeare can't be downloaded (internet, curl or wget is missing):" \
        "save $shakespeare_url as FOLDER/tinyshakespeare/input.txt and set DATA_MIRROR=FOLDER"
    check_sha256 "$1" $shakespeare_sha256 "$shakespeare_url"
}

# ----------------------------------------------------------------------------------------------------------------------

only_folder=no
if [ "${1:-}" = --folder ]; then only_folder=yes; shift; fi
data=${1:-}
tokenizer=${2:-char}
[ -n "$data" ] || fail_usage "data/prepare.sh: a corpus (kjv, shakespeare) or a text file expected"

case $data in
    kjv | shakespeare) name=$data ;;
    *)  name=$(basename -- "$data")
        case $name in ?*.*) name=${name%.*} ;; esac
        name=$(printf %s "$name" | LC_ALL=C tr -c 'A-Za-z0-9._-' _ | sed 's/^[.-]/_/') ;;
esac
folder=$root/$name
if [ $only_folder = yes ]; then echo "$folder"; exit 0; fi

case $tokenizer in
    char | byte) kind=$tokenizer ;;
    bpe) kind="bpe of ${VOCAB:=4096}" ;;
    *) fail_usage "TOKENIZER=$tokenizer: char, byte or bpe expected" ;;
esac
case $data in
    kjv)         text=$kjv_sha256 split="every 10th chapter" ;;
    shakespeare) text=$shakespeare_sha256 split="last 10 %" ;;
    *)  [ -e "$data" ] || fail_usage "DATA=$data: neither a corpus (kjv, shakespeare) nor a text file that exists"
        [ ! -d "$data" ] || fail_usage "DATA=$data: a folder: a text file expected (for ready shards: --data.dir=$data)"
        [ -r "$data" ] || fail "$data: cannot be read: permission denied"
        [ -s "$data" ] || fail "$data: the text is empty"
        text=$(sha256 "$data") split="last 10 %" ;;
esac

fingerprint="text sha256 $text, tokenizer $kind, validation $split, format $format"
if [ "$(cat "$folder/fingerprint" 2>/dev/null)" = "$fingerprint" ] &&
        { [ -e "$folder/tokenizer.bin" ] || [ -e "$folder/tokenizer.json" ]; } &&
        [ -e "$folder/train_000000.bin" ] && [ -e "$folder/val_000000.bin" ]; then
    echo "$folder: up to date"
    exit 0
fi
[ -x "$tokenize" ] || fail "$tokenize is missing: run make $tokenize first"

echo "preparing $folder"
mkdir -p "$root" || fail "$root: cannot be made"
new=$folder.new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$new" || fail "$new: cannot be made"

# shards TEXT [ARGUMENT]: the tokenizer, trained on TEXT where it has merges, and the shards
shards() {
    vocabulary=$tokenizer
    if [ "$tokenizer" = bpe ]; then
        vocabulary=$new/bpe.json
        "$tokenize" train --vocab="$VOCAB" --out="$vocabulary" "$1"
    fi
    "$tokenize" shards --tokenizer="$vocabulary" --out="$new" ${2:+"$2"} "$1"
}

case $data in
    kjv)
        sh "$(dirname "$0")/../dev/setup.sh" corpus
        kjv_text >"$new/all.txt" || fail "bible -f gen1:1-rev22:21 failed"
        check_sha256 "$new/all.txt" $kjv_sha256 "the text of \`bible -f gen1:1-rev22:21\` (Debian: bible-kjv)"
        kjv_split "$new" <"$new/all.txt" || fail "$new: cannot be written"
        shards "$new/train.txt" --val="$new/val.txt" ;;
    shakespeare)
        # The download stays, for another tokenizer.
        kept=$root/shakespeare.txt
        if [ ! -e "$kept" ] || [ "$(sha256 "$kept")" != $shakespeare_sha256 ]; then
            shakespeare_text "$new/all.txt"
            mv "$new/all.txt" "$kept"
        fi
        shards "$kept" ;;
    *)
        case $data in -*) data=./$data ;; esac
        shards "$data" ;;
esac

rm -f "$new/all.txt" "$new/train.txt" "$new/val.txt" "$new/bpe.json"
echo "$fingerprint" >"$new/fingerprint" || fail "$new/fingerprint: cannot be written"
rm -rf "$folder"
mv "$new" "$folder"

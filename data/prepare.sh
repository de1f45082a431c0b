#!/bin/sh
# Makes a data folder (token shards, tokenizer) of a corpus by name, of a text or of a folder of texts. Run from the
# project's folder, after build/tokenize is built:
#
#   data/prepare.sh DATA [TOKENIZER]                prepares the folder, or says it is up to date
#   data/prepare.sh --folder DATA [TOKENIZER]       prints the folder's name and does nothing
#   data/prepare.sh --tokenizer DATA [OUT]          trains a byte-pair encoding of VOCAB tokens into the file OUT
#   data/prepare.sh --names                         prints the names of the corpora
#
# DATA:       a name of the table below, the path of a text (gzip or not) or of a folder of texts; or --config=FILE: the
#             corpus and the tokenizer that a config's data.dir names (build/data/kjv-bpe4096), nothing where it names
#             another folder.
# TOKENIZER:  char (default), byte, bpe (of VOCAB tokens, trained on the text), gpt2, or the path of a tokenizer's file.
# The folder: build/data/NAME, NAME-byte, NAME-bpe4096, NAME-gpt2, NAME-FILE. NAME is the corpus's name, or that of the
#             text or the folder without extension. Where that is already the folder of another text of this name, or of
#             the same one with other DOCUMENTS or EXT, six letters of a checksum go behind it. What a folder was made of
#             is in its `fingerprint`: in the first line the contents, in the second where they are from (empty for a
#             corpus), behind them each shard's checksum, bytes and name. Where the contents have changed, or a shard is
#             not what these say, it is made anew, in a folder of its own that takes the old one's place when all of it
#             is on the disk.
#
# Environment: VOCAB, tokens of a byte-pair encoding (4096); DOCUMENTS, EXT: --documents= and --ext= of build/tokenize,
#              for a text or a folder; SHARDS, how many training shards of a corpus that comes as shards (8);
#              DATA_MIRROR, a folder that holds what would be downloaded or installed: DATA_MIRROR/DIR/FILE or
#              DATA_MIRROR/FILE (data/README.md has the names of the files); DATA_URL, the same as an address, to
#              download from; DATA_ROOT, where the folders go (build/data); BUILD, where tokenize is (build).
set -eu

# The corpora: name|where from|bytes of the text, - where not known|its checksum, likewise|documents
# Where from: a Debian package and the version of it that the checksum is of, or the address of the folder to download
# from. Documents: how tokenize divides the text, or chapters, 90:5, shards: see take_kjv, take_hutter, take_shards.
corpora() {
    cat <<'END'
kjv|bible-kjv-text 4.38|4404412|sha256 cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d|chapters
shakespeare|https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare|1115394|sha256 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed|text
gcide|dict-gcide 0.48.5+nmu2|39952321|sha256 56d960740d06762a99e287202763094c7a2eccf97c4ac739d1fdd25fa5e64759|heading
jargon|dict-jargon 4.4.7-3.1|1418350|sha256 6c8118c277d0b00736d406d4941b77b69932d6ab125f7179ff88fe12939cc19e|heading
linux-doc|linux-doc 6.1.192-2|28551878|sha256 21d3781fbf895987f2cbcc4c31895d43b0727845429eb1ad5d35f98204f33634|files
tinystories|https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main|-|-|endoftext
enwik8|http://mattmahoney.net/dc|100000000|md5 a1fa5ffddb56f4953e226637dabbb36a|90:5
text8|http://mattmahoney.net/dc|100000000|md5 3bea1919949baf155f99411df5fada7e|90:5
fineweb10B|https://huggingface.co/datasets/kjj0/fineweb10B-gpt2/resolve/main|-|-|shards
finewebedu10B|https://huggingface.co/datasets/kjj0/finewebedu10B-gpt2/resolve/main|-|-|shards
END
}
gpt2_url=https://openaipublic.blob.core.windows.net/gpt-2/encodings/main     # encoder.json, vocab.bpe
linux_doc=/usr/share/doc/linux-doc/Documentation
dictionaries=/usr/share/dictd

format=4                        # of the prepared folder: raise it when what is written changes
root=${DATA_ROOT:-build/data}
downloads=$root/.downloads      # a data folder's name never begins with a dot
tokenize=${BUILD:-build}/tokenize
setup=$(dirname "$0")/../dev/setup.sh

fail() { echo "error: $*" >&2; exit 1; }
say() { echo "$*" 2>/dev/null || fail "stdout: cannot be written"; }
fail_usage() { echo "error: $*" >&2; exit 2; }

# A file-size limit is an error of the write, as a full disk is, here and in what is called.
trap '' XFSZ

# save FILE FROM COMMAND [ARG ...]: what the command makes of FROM becomes FILE. cat writes it, since not every command
# (bible, unzip) says that the disk is full; what the command itself says where it fails is in the line.
save() {
    to=$1 of=$2
    shift 2
    said=$({ { "$@" 2>&1 >&4 || echo failed; } 4>&1 >&3 | cat >"$to" || echo unwritten; } 3>&1 2>&1)
    case $said in
        *unwritten) fail "$to: cannot be written: $(echo "$said" | sed -n 's/^cat: \(.*: \)*//p' | tail -n 1)" ;;
        *failed) fail "$of: damaged, or cannot be read: $(echo "$said" | sed '$d' | tail -n 1)" ;;
    esac
}

# A word as a shell reads it back, in quotes only where it needs them.
quoted() {
    case $1 in
        '' | *[!A-Za-z0-9_@%+=:,./-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf %s "$1" ;;
    esac
}

# sum sha256|md5 < FILE
sum() {
    case $1 in
        sha256) if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi ;;
        md5)    if command -v md5sum >/dev/null; then md5sum; else md5 -r; fi ;;
    esac | cut -d' ' -f1
}

# The name that a path gives a data folder: its last part without extension, in letters that need no quotes.
name_of() {
    of=${1%"${1##*[!/]}"}
    of=${of##*/}
    case $of in ?*.gz | ?*.dz) of=${of%.*} ;; esac
    case $of in ?*.*) of=${of%.*} ;; esac
    printf %s "$of" | LC_ALL=C tr -c 'A-Za-z0-9._-' _ | sed 's/^[.-]/_/'
}

# A path that means the same from everywhere; one that doesn't exist as it is.
absolute() {
    if [ -d "$1" ]; then (cd "$1" && pwd -P); return; fi
    case $1 in */*) above=${1%/*}/ ;; *) above=./ ;; esac
    printf '%s/%s\n' "$(cd "$above" 2>/dev/null && pwd -P || printf %s "${above%/}")" "${1##*/}"
}

# ----------------------------------------------------------------------------------------------------------------------
# Downloads. A file that is complete and right is kept as .downloads/DIR/FILE; until then it is FILE.part, and a
# download that was cut goes on from there. FILE.sha256 beside it says what it must be: written after the first
# download, or before it by who knows the checksum.

# Whether file $1 has a checksum, beside it or beside $2, and fails where it isn't the file's.
check_recorded() {
    for beside in "$1" "$2"; do
        [ -e "$beside.sha256" ] || continue
        wanted=$(cut -d' ' -f1 "$beside.sha256") found=$(sum sha256 <"$1")
        [ "$wanted" = "$found" ] || fail "$1: not the file expected: sha256 $found instead of $wanted ($beside.sha256)"
        return 0
    done
    return 1
}

# with_curl URL FILE [FLAG ...]: curl's exit code; its complaint, where it showed no progress, is in $reason.
with_curl() {
    from=$1 to=$2 code=0
    shift 2
    if [ -t 2 ]; then
        curl -fL -# --connect-timeout 20 --retry 2 "$@" -o "$to" "$from" || code=$?
        reason="curl's exit code $code"
    else
        reason=$(curl -fLsS --connect-timeout 20 --retry 2 "$@" -o "$to" "$from" 2>&1) || code=$?
        reason=$(echo "$reason" | tail -n 1)
    fi
    return $code
}

# download URL FILE: brings FILE, or the rest of it where a part is there. Why it can't be: $reason.
download() {
    if command -v curl >/dev/null; then
        with_curl "$1" "$2" -C - && return 0
        [ $code = 33 ] && with_curl "$1" "$2"       # a server that can't begin in the middle
    else
        reason="curl or wget is missing, or there is no internet"
        command -v wget >/dev/null && wget -q -c --timeout=20 --tries=3 -O "$2" "$1"
    fi
}

# fetch DIR/FILE URL [optional]: sets $got to the path of the file: the mirror's, that of an earlier download, or of one
# made now from URL/FILE. Where it can't be had it returns 1 if it is optional, else it fails.
fetch() {
    kept=$downloads/$1
    for got in ${DATA_MIRROR:+"$DATA_MIRROR/$1" "$DATA_MIRROR/${1##*/}"} "$kept"; do
        [ -f "$got" ] || continue
        [ -r "$got" ] || fail "$got: cannot be read: permission denied"
        check_recorded "$got" "$kept" || :
        return 0
    done
    url=$2/${1##*/}
    [ -z "${DATA_URL:-}" ] || url=$DATA_URL/$1
    mkdir -p "${kept%/*}" 2>/dev/null || fail "${kept%/*}: cannot be made"
    if [ -s "$kept.part" ]; then say "going on with the download of $url"; else say "downloading $url"; fi
    if ! download "$url" "$kept.part"; then
        [ -s "$kept.part" ] || rm -f "$kept.part"
        [ -z "${3:-}" ] || return 1
        fail "$url can't be downloaded ($reason): try again, or save it as FOLDER/$1 and set DATA_MIRROR=FOLDER"
    fi
    if ! check_recorded "$kept.part" "$kept"; then
        echo "$(sum sha256 <"$kept.part")  ${1##*/}" >"$kept.sha256" || fail "$kept.sha256: cannot be written"
    fi
    mv "$kept.part" "$kept"
    got=$kept
}

# check_text FILE WHAT: that FILE is the corpus's text.
check_text() {
    bytes=$(($(wc -c <"$1")))
    found="${checksum% *} $(sum "${checksum% *}" <"$1")"
    [ "$found" != "$checksum" ] || return 0
    [ $bytes = "$size" ] || found="$bytes bytes instead of $size, $found"
    fail "$2: not the text expected: $found instead of $checksum"
}

# check_package FILE: likewise, of a Debian package: another version than the table's may have another text.
check_package() {
    installed=$(dpkg-query -W -f '${Version}' "${source% *}" 2>/dev/null || echo unknown)
    if [ "$installed" = "${source#* }" ] || [ "$(sum sha256 <"$1")" = "${checksum#* }" ]; then
        check_text "$1" "the text of Debian's $source"
    else
        echo "warning: ${source% *} is version $installed here, not ${source#* }: not the text of data/README.md" >&2
    fi
}

# ----------------------------------------------------------------------------------------------------------------------
# Texts. Each sets what tokenize gets: $text, and where they are needed $val, $documents, $ext.

# The whole King James text, one verse a line: "Ge1:1 In the beginning ...". -f turns off pretty-printing and with it
# line wrapping. From / because bible looks for its text in the current folder first.
kjv_text() {
    (cd / && bible -f gen1:1-rev22:21 </dev/null)
}

# Prints the verses of file $2 whose chapter is for validation ($1 is 1) or for training (0): every tenth chapter (the 10th,
# 20th, ... 1180th of 1189, counted through all books) is for validation. The text's last tenth, nanoGPT's choice, would be letters and
# Revelation only: another kind of text than what was trained on.
kjv_split() {
    awk -v val="$1" '
        { chapter = $1; sub(/:.*/, "", chapter) }
        chapter != last { count++; last = chapter }
        (count % 10 == 0) == val' "$2"
}

# Sets $got to the mirror's file; where there is none to nothing, and the corpus's package is installed.
mirrored_or_installed() {
    got=${DATA_MIRROR:+$DATA_MIRROR/$1}
    [ -z "$got" ] || [ ! -e "$got" ] || return 0
    got=
    sh "$setup" "$name"
}

take_kjv() {
    mirrored_or_installed kjv/kjv.txt
    if [ -n "$got" ]; then
        save "$new/all.txt" "$got" cat "$got"
        check_text "$new/all.txt" "$got"
    else
        save "$new/all.txt" "bible -f gen1:1-rev22:21" kjv_text
        check_package "$new/all.txt"
    fi
    save "$new/train.txt" "$new/all.txt" kjv_split 0 "$new/all.txt"
    save "$new/val.txt" "$new/all.txt" kjv_split 1 "$new/all.txt"
    text=$new/train.txt val=$new/val.txt
}

# Three bytes of the GCIDE are no UTF-8 (a quote of Windows's, Latin-1's c with cedilla and superscript one): with what
# they stand for the text is plain ASCII.
take_dictionary() {
    mirrored_or_installed "$name/$name.dict.dz"
    packed=${got:-$dictionaries/$name.dict.dz}
    save "$new/all.txt" "$packed" gzip -dc <"$packed"
    if [ "$name" = gcide ]; then
        mv "$new/all.txt" "$new/raw.txt"
        save "$new/all.txt" "$new/raw.txt" env LC_ALL=C tr '\222\347\271' "'c'" <"$new/raw.txt"
    fi
    if [ -n "$got" ]; then check_text "$new/all.txt" "$got"; else check_package "$new/all.txt"; fi
    text=$new/all.txt documents=heading
}

linux_doc_text() {
    (cd $linux_doc && find . \( -name '*.rst.gz' -o -name '*.txt.gz' \) | LC_ALL=C sort | xargs gzip -dc)
}

# All .rst and .txt files, each a document. The checksum is that of their texts one after another.
take_linux_doc() {
    sh "$setup" "$name"
    save "$new/all.txt" $linux_doc linux_doc_text
    check_package "$new/all.txt"
    text=$linux_doc ext=rst,txt
}

take_shakespeare() {
    fetch tinyshakespeare/input.txt "$source"
    check_text "$got" "$got"
    text=$got
}

take_tinystories() {
    fetch tinystories/TinyStoriesV2-GPT4-valid.txt "$source"
    val=$got
    fetch tinystories/TinyStoriesV2-GPT4-train.txt "$source"
    text=$got documents=endoftext
}

hutter_val() {
    tail -c +90000001 "$1" | head -c 5000000
}

# The Hutter prize's 100,000,000 bytes: by custom the first 90 million are for training, 5 million for validation, and
# the last 5 for a test.
take_hutter() {
    got=${DATA_MIRROR:+$DATA_MIRROR/$name/$name}
    if [ -z "$got" ] || [ ! -f "$got" ]; then
        fetch "$name/$name.zip" "$source"
        sh "$setup" zip
        save "$new/all.txt" "$got" unzip -p "$got" "$name"
        check_text "$new/all.txt" "$got"
        got=$new/all.txt
    else
        check_text "$got" "$got"
    fi
    save "$new/train.txt" "$got" head -c 90000000 "$got"
    save "$new/val.txt" "$got" hutter_val "$got"
    text=$new/train.txt val=$new/val.txt
}

# GPT-2's own pair of files. Sets $vocabulary.
take_gpt2() {
    fetch gpt2/encoder.json $gpt2_url "$@" && fetch gpt2/vocab.bpe $gpt2_url "$@" && vocabulary=$got
}

# Ready shards: one for validation and SHARDS for training. A header that the file's size contradicts is refused.
take_shards() {
    case $name in finewebedu10B) stem=finewebedu ;; *) stem=fineweb ;; esac
    i=0
    while [ $i -le "$SHARDS" ]; do
        if [ $i = 0 ]; then file=${stem}_val_000000.bin; else file=$(printf '%s_train_%06d.bin' $stem $i); fi
        fetch "$name/$file" "$source"
        "$tokenize" info "$got" >/dev/null || exit 1
        ln "$got" "$new/$file" 2>/dev/null || cp "$got" "$new/$file" || fail "$new/$file: cannot be written"
        i=$((i + 1))
    done
    if take_gpt2 optional; then
        "$tokenize" convert --tokenizer="$vocabulary" --out="$new/tokenizer.json"
    else
        echo "warning: no tokenizer ($reason): the shards can be trained on, but no text can be sampled" >&2
    fi
}

# ----------------------------------------------------------------------------------------------------------------------
# What is asked for

mode=prepare
case ${1:-} in
    --folder | --tokenizer) mode=${1#--}; shift ;;
    --names) corpora | cut -d'|' -f1; exit 0 ;;
esac
data=${1:-} out='' config='' tokenizer=${2:-}
if [ "$mode" = tokenizer ]; then tokenizer=bpe out=${2:-}; fi
names=$(corpora | cut -d'|' -f1 | tr '\n' ' ')
names=${names% }
[ -n "$data" ] || fail_usage "data/prepare.sh: a corpus ($names), a text file or a folder expected"

case $data in
    --config=*)
        config=${data#--config=} data=
        named=$(sed -nE 's,.*"build/data/([^"/]+)/?".*,\1,p' "$config" 2>/dev/null | head -n 1)
        for name in $names; do
            case $named in "$name" | "$name"-*) data=$name ;; esac
        done
        of=${named#"$data"}
        case $tokenizer$of in
            -byte) tokenizer=byte ;;
            -gpt2) tokenizer=gpt2 ;;
            -bpe[1-9]*) tokenizer=bpe VOCAB=${of#-bpe} ;;
            -*) data= ;;        # some tokenizer's file: only who made the folder knows which
        esac
        if [ -z "$data" ]; then
            [ -z "$tokenizer" ] || fail_usage "TOKENIZER=$tokenizer: $config names no corpus: DATA=... expected"
            exit 0
        fi ;;
esac

row=$(corpora | awk -F'|' -v name="$data" '$1 "" == name')
IFS='|' read -r _ source size checksum split <<END
$row
END
name=$data
if [ -z "$row" ]; then
    name=$(name_of "$data")
    for corpus in $names; do
        case $name in "$corpus" | "$corpus"-*) name=$name-text; break ;; esac       # not the corpus's
    done
fi

: "${VOCAB:=4096}" "${SHARDS:=8}"
if [ "$split" = shards ]; then
    case $tokenizer in '' | gpt2) ;; *) fail_usage "TOKENIZER=$tokenizer: $name comes as tokens of gpt2" ;; esac
    case $SHARDS in '' | *[!0-9]* | 0) fail_usage "SHARDS=$SHARDS: the number of training shards expected" ;; esac
fi
case $VOCAB in *[!0-9]* | 0*) fail_usage "VOCAB=$VOCAB: the number of tokens expected" ;; esac
case ${tokenizer:=char} in
    char) suffix='' kind=char ;;
    bpe)  suffix=-bpe$VOCAB kind="bpe of $VOCAB" ;;
    byte | gpt2) suffix=-$tokenizer kind=$tokenizer ;;
    *)  [ -f "$tokenizer" ] || fail_usage "TOKENIZER=$tokenizer: char, byte, bpe, gpt2 or a tokenizer's file expected"
        suffix=-$(name_of "$tokenizer") kind="of sha256 $(sum sha256 <"$tokenizer")"
        case $suffix in -byte | -gpt2 | -bpe*) suffix=$suffix-file ;; esac ;;
esac
[ "$split" != shards ] || suffix=
folder=$root/$name$suffix
documents=${DOCUMENTS:-} ext=${EXT:-}

# Prints what is asked for, by its contents; the corpus's name and checksum stand for those of a corpus.
contents() {
    if [ "$split" = shards ]; then
        echo "$name as published, $SHARDS training shards, format $format"
    elif [ -n "$row" ]; then
        echo "$name $checksum, tokenizer $kind, documents $split, format $format"
    else
        if [ -d "$data" ]; then
            found=$(cd "$data" && find -L . -type f -exec cksum {} + 2>/dev/null | LC_ALL=C sort | sum sha256)
        else
            found=$(sum sha256 <"$data")
        fi
        echo "text $found, tokenizer $kind, documents ${documents:-files}${ext:+ of $ext}, format $format"
    fi
}

# The same by where it is from: nothing for a corpus, whose folder's name says it, but for a tokenizer's file.
origin=''
case $kind in
    of*) of=$(absolute "$tokenizer") ;;
    *) of=$kind ;;
esac
[ -n "$row" ] || origin="of $(absolute "$data"), tokenizer $of, documents ${documents:-files}${ext:+ of $ext}"
[ -z "$row" ] || [ "$of" = "$kind" ] || origin="of $name, tokenizer $of"
origin=$(printf %s "$origin" | tr '\n' '?')

# Whether folder $1 is nobody's, of the same origin or of the same contents, which is only then looked at.
is_ours() {
    [ -e "$1/fingerprint" ] || return 0
    [ "$(sed -n 2p "$1/fingerprint")" != "$origin" ] || return 0
    [ -r "$data" ] && [ "$(sed -n 1p "$1/fingerprint")" = "$(contents)" ]
}

taken=''
if [ -n "$origin" ]; then
    other=$folder-$(printf %s "$origin" | sum sha256 | cut -c1-6)
    if [ -e "$other" ] || ! is_ours "$folder"; then taken=$folder folder=$other; fi
fi
if [ "$mode" = folder ]; then say "$folder"; exit 0; fi

if [ -n "$row" ]; then
    [ -z "$documents$ext" ] || fail_usage "DOCUMENTS and EXT are for a text or a folder: $name has its own"
else
    [ -e "$data" ] || fail_usage "DATA=$data: neither a corpus ($names) nor a text file or folder that exists"
    [ -r "$data" ] || fail "$data: cannot be read: permission denied"
    if [ -d "$data" ]; then
        for shard in "$data"/*train*.bin; do
            [ ! -e "$shard" ] || fail_usage "DATA=$data: holds token shards, not texts: train on it by --data.dir=$(quoted "$data")"
        done
    else
        [ -s "$data" ] || fail "$data: the text is empty"
    fi
fi
fingerprint=$(contents)

# Whether the folder is there, of the same contents, and whole; else $why says why not.
is_up_to_date() {
    why='what it is made of has changed'
    [ "$(sed -n 1p "$folder/fingerprint" 2>/dev/null)" = "$fingerprint" ] || return 1
    [ -e "$folder/tokenizer.bin" ] || [ -e "$folder/tokenizer.json" ] || [ "$split" = shards ] || return 1
    why=$("$tokenize" verify "$folder" 2>&1) || { why=${why#error: }; return 1; }
}

[ "$mode" != prepare ] || [ -x "$tokenize" ] || fail "$tokenize is missing: run make $(quoted "$tokenize") first"
# A folder is made beside its place, by a name that says who makes it: what a killed preparation left goes, of this folder or
# of another one of the user's, also where the killed one was done but for that. One that is at work on this machine or
# another is left alone.
host=$(uname -n)
for left in "$root"/*.new.*; do
    maker=${left##*.new.}
    maker=${maker%.old}
    process=${maker##*.}
    case $maker in
        "$host.$process") ;;
        "$process") [ "$left" = "$folder.new.$process" ] || continue ;;
        *) continue ;;
    esac
    case $process in '' | *[!0-9]*) continue ;; esac
    if [ -d "$left" ] && [ -O "$left" ] && [ ! -d "/proc/$process" ] && ! kill -0 "$process" 2>/dev/null; then
        rm -rf "$left" 2>/dev/null || :             # another preparation may be at it, too
    fi
done
if [ "$mode" = prepare ] && is_up_to_date; then
    say "$folder: up to date"
    exit 0
fi

if [ "$mode" = prepare ] && [ -e "$folder" ] && [ ! -e "$folder/fingerprint" ]; then
    [ -z "$config" ] || exit 0      # the user's own folder: the config says where it is
    fail "$folder: no fingerprint, so not made by data/prepare.sh: move it, or train on it by --data.dir=$(quoted "$folder")"
fi

# ----------------------------------------------------------------------------------------------------------------------
# Making it

[ -x "$tokenize" ] || fail "$tokenize is missing: run make $(quoted "$tokenize") first"
if [ "$mode" = tokenizer ]; then
    [ -n "$out" ] || [ ! -e "$folder.json" ] || say "$folder.json: replaced"
    : "${out:=$folder.json}"
else
    [ -z "$taken" ] || [ -e "$folder" ] || say "$taken is $(sed -n 2p "$taken/fingerprint"): not what is asked for"
    if [ -e "$folder" ]; then say "preparing $folder anew: $why"; else say "preparing $folder"; fi
fi
mkdir -p "$root" 2>/dev/null || fail "$root: cannot be made; make DATA_ROOT=FOLDER has prepared data elsewhere"

new=$folder.new.$host.$$
trap 'rm -rf "$new" "$new.old"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$new" 2>/dev/null || fail "$new: cannot be made; make DATA_ROOT=FOLDER has prepared data elsewhere"

text=$data val='' vocabulary=$tokenizer
case $text in -*) text=./$text ;; esac
if [ -n "$row" ]; then
    case $name in
        gcide | jargon) take_dictionary ;;
        linux-doc) take_linux_doc ;;
        enwik8 | text8) take_hutter ;;
        fineweb*) take_shards ;;
        *) take_"$name" ;;
    esac
fi
if [ "$split" != shards ]; then
    set -- ${documents:+--documents="$documents"} ${ext:+--ext="$ext"}
    case $tokenizer in
        bpe) vocabulary=${out:-$new/bpe.json}
             "$tokenize" train --vocab="$VOCAB" --out="$vocabulary" "$@" "$text" ;;
        gpt2) take_gpt2 ;;
    esac
    [ "$mode" = prepare ] || exit 0
    "$tokenize" shards --tokenizer="$vocabulary" --out="$new" "$@" ${val:+--val="$val"} "$text"
fi

rm -f "$new/all.txt" "$new/raw.txt" "$new/train.txt" "$new/val.txt" "$new/bpe.json"

# The text is what it was when the fingerprint was made of it.
[ -n "$row" ] || [ "$(contents)" = "$fingerprint" ] || fail "$data: changed while it was read: a text that nothing writes to expected"
printf '%s\n' "$fingerprint" "$origin" | "$tokenize" install "$new" "$folder"

#!/usr/bin/env bash
# Every target of `make help` as the first command of a fresh clone, in its quick form: dev/test/targets.sh [TARGET ...]
# First as whoever starts it; then, where that is root, as a user without rights in a clone whose folder has blanks in its name,
# for which root installs before what the project's setup.sh would. What is committed is tried, not what lies in the folder.
# A target must end with 0 and leave no file behind that git would show. Takes an hour or so: not a part of `make test`.
# MAKEARGS are for every make: "CFLAGS=-O1" by default, since most of the time goes into compiling.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MAKELEVEL
read -ra makeargs <<< "${MAKEARGS:-CFLAGS=-O1}"
work=$(mktemp -d) && chmod 755 "$work" || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
failed=0 tried=0

# target|arguments, a line for each form; sample, eval, attention, plot, tensorboard and export need a run.
forms() {
    cat <<'END'
all|
train|QUICK=1 SEED=2
train|QUICK=1 DATA=README.md TOKENIZER=bpe VOCAB=300
train|QUICK=1 RANKS=2
train|MINUTES=0.2 DATA=README.md
data|
tokenizer|VOCAB=300 OUT=build/my\ tokens.json
test|
test-ranks|
fuzz|RUNS=1000
ab|QUICK=1
sweep|QUICK=1
sample|ARGS=--tokens=20 PROMPT=In\ the\ beginning
sample|ARGS=--tokens=20\ --samples=3\ --json
eval|DATA=README.md
attention|PROMPT=In\ the\ beginning
plot|
watch|ARGS=--once
tensorboard|
export|TYPE=bf16
export|FORMAT=hf OUT=build/my\ model
export|FORMAT=gguf TYPE=f16 OUT=build/my\ model.gguf
import|FROM=dev/golden/hf/llama OUT=build/my\ run
import|FROM=dev/golden/gguf.golden OUT=build/my\ run
pictures|
bench|ARGS=peaks\ -q
bench-torch|ARGS=--help
bench-muon|ARGS=-q
bench-tokenizer|ARGS=-q
bench-ranks|ARGS=plan
study|
help|
clean|
distclean|
END
    for run in dev/exp/*/run.sh; do study=${run%/run.sh}; echo "study|QUICK=1 NAME=${study##*/}"; done
}

# try FOLDER USER TARGET ARGUMENT ...: USER is "" for whoever this is.
try() {
    local folder=$1 user=$2 target=$3 code start=$SECONDS
    shift 3
    local as=()
    [ -z "$user" ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups env "HOME=$work/home")
    rm -rf "$folder" "${work:?}/home"
    git clone -q . "$folder" && mkdir "$work/home" || exit 1
    [ -z "$user" ] || chown -R 65534:65534 "$folder" "$work/home"
    tried=$((tried + 1))
    (
        cd "$folder" || exit 1
        case $target in
            sample | eval | attention | plot | tensorboard | export)    # without a run one line says what to do
                said=$("${as[@]}" make -s "$target" "${makeargs[@]}" "$@" 2>&1 >/dev/null | grep -v '^make')
                case $(echo "$said" | wc -l):$said in "1:error: "*"make train"*) ;; *) echo "$said"; exit 1 ;; esac
                "${as[@]}" make train QUICK=1 "${makeargs[@]}" || exit ;;
        esac
        "${as[@]}" make "$target" "${makeargs[@]}" "$@" || exit
        left=$(git -c safe.directory='*' status --porcelain)
        [ -z "$left" ] || { echo "left behind: $left"; exit 1; }
    ) < /dev/null > "$work/output" 2>&1
    code=$?
    if [ $code = 0 ]; then echo "ok   make $target $* ($((SECONDS - start)) s)"
    else
        echo "FAIL make $target $*: exit code $code"
        tail -n 15 "$work/output"
        failed=$((failed + 1))
    fi
    rm -rf "$folder"
}

for target in $(make -s help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
    grep -q "^$target|" <(forms) || { echo "FAIL $target: no form of it in dev/test/targets.sh"; failed=$((failed + 1)); }
done
users=("")
if [ "$(id -u)" = 0 ]; then
    users+=(nobody)
    for group in build kjv venv fuzz watch; do dev/setup.sh $group || exit 1; done
fi
for user in "${users[@]}"; do
    folder=$work/clone
    [ -z "$user" ] || folder="$work/a clone of $user's"
    echo "== as ${user:-$(id -un)}, in $folder"
    while IFS='|' read -r target arguments; do
        [ $# = 0 ] || [[ " $* " == *" $target "* ]] || continue
        eval "set_of_words=($arguments)"
        # shellcheck disable=SC2154 # eval sets it
        try "$folder" "$user" "$target" "${set_of_words[@]}" < /dev/null
    done < <(forms)
done
echo "$((tried - failed)) of $tried worked"
[ $failed = 0 ]

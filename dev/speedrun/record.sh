#!/usr/bin/env bash
# Checks finished runs against the rules of a track and keeps them as a record: dev/speedrun/records/NAME with the config, each
# run's log (start, validations, end) and record.md with machine, seeds, losses, tokens, seconds and the verdict.
#
#     dev/speedrun/record.sh shakespeare|kjv|gcide|open_TRACK NAME RUN ...        after the runs, each with another seed
#
# `targets` has for each track the loss to be reached, the standard deviation of the baseline's seeds that the rule uses (0: one
# run is enough), and the sections and keys that may differ from the track's config.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 3 ] || { echo "error: expected a track, a name and runs" >&2; exit 2; }
track=$1 name=$2 here=dev/speedrun
shift 2
read -r _ target sigma free < <(grep "^$track " $here/targets) || { echo "error: $track: not a track of $here/targets" >&2; exit 2; }
fail() { echo "error: $*" >&2; exit 1; }
make -s train_gpt >&2
base=$(./train_gpt $here/$track.json --print-config)

# A config as lines section.key=value
flat() { sed -E 's/,$//' | awk '/^  "[a-z0-9_]+": \{$/ { split($0, a, "\""); section = a[2]; sub_ = ""; next }
    /^    "[a-z0-9_]+": \{$/ { split($0, a, "\""); sub_ = a[2] "."; next }
    /^    \}/ { sub_ = ""; next }
    /^ +"[a-z0-9_]+":/ { split($0, a, "\""); value = $0; sub(/^ +"[a-z0-9_]+": /, "", value); print section "." sub_ a[2] "=" value }' | sort; }
may_differ() { local rule; for rule in run model.vocab train.precision ${free//,/ }; do case $1 in "$rule" | "$rule".*) return 0 ;; esac; done; return 1; }

losses="" seeds="" seconds="" tokens=""
for run in "$@"; do
    grep -qs '"event": "end".*"reason": "done"' "$run/log.jsonl" || fail "$run: not trained to its end"
    while IFS= read -r line; do
        key=${line#[<>] } key=${key%%=*}
        may_differ "$key" || fail "$run: $key differs from $here/$track.json; only $free may"
    done < <(diff <(flat <<< "$base") <(flat < "$run/config.json") | grep '^[<>]')
    [ "$run" = "$1" ] || [ -z "$(diff <(flat < "$1/config.json") <(flat < "$run/config.json") | grep '^[<>]' | grep -v ' run\.')" ] ||
        fail "$run: another config than $1"
    read -r loss used < <(sed -n 's/.*"event": "end".*"val_loss": \([0-9.]*\), "train_seconds": \([0-9.]*\),.*/\1 \2/p' "$run/log.jsonl" | tail -n 1)
    seed=$(flat < "$run/config.json" | sed -n 's/^run.seed=//p')
    case " $seeds " in *" $seed "*) fail "$run: seed $seed is there twice" ;; esac
    tokens=$(sed -n 's/.*"event": "eval".*"tokens": \([0-9]*\),.*/\1/p' "$run/log.jsonl" | tail -n 1)
    losses="$losses $loss" seeds="$seeds $seed" seconds="$seconds $used"
done
verdict=$(awk -v l="$losses" -v t="$target" -v s="$sigma" 'BEGIN { n = split(l, x, " "); for (i = 1; i <= n; i++) m += x[i] / n
    z = (t - m) * sqrt(n); ok = s > 0 ? z >= 3.09 * s : m <= t
    printf "mean %.4f of %d, (target - mean) sqrt(n) = %.4f, needed %.4f: %s", m, n, z, (s > 0 ? 3.09 * s : 0), (ok ? "a record" : "not significant") }')
whole=$(flat <<< "$base" | awk -F= '/^train.steps=|^train.batch=|^model.context=/ { n = (n ? n : 1) * $2 } END { print n }')
case $track in open_*) ;; *) [ "$tokens" -lt "$whole" ] || fail "$tokens tokens: no fewer than the baseline's $whole" ;; esac
case $verdict in *"not significant") fail "$verdict" ;; esac
out=$here/records/$name
mkdir -p "$out"
cp "$1/config.json" "$out/config.json"
for run in "$@"; do
    grep -E '"event": "(start|eval|end)"' "$run/log.jsonl" > "$out/log-$(flat < "$run/config.json" | sed -n 's/^run.seed=//p').jsonl"
done
{
    echo "# $name"
    echo
    echo "Track $track, target $target. Machine: $(sed -n 's/.*"cpu": "\([^"]*\)", "threads": \([0-9]*\), "isa": "\([^"]*\)".*/\1, \2 threads, \3/p' "$1/log.jsonl" | head -n 1); commit $(sed -n 's/.*"commit": "\([^"]*\)".*/\1/p' "$1/log.jsonl" | head -n 1)."
    echo
    echo "| seed | validation loss | tokens | seconds of training |"
    echo "|---|---|---|---|"
    paste -d' ' <(printf '%s\n' $seeds) <(printf '%s\n' $losses) <(printf '%s\n' $seconds) | while read -r a b c; do echo "| $a | $b | $tokens | $c |"; done
    echo
    echo "Rule: $verdict."
    echo
    echo "Again: \`./train_gpt $out/config.json --run.dir=runs/$name --run.seed=SEED\`"
} > "$out/record.md"
cat "$out/record.md"

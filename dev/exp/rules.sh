#!/usr/bin/env bash
# The learning rate of every rule, found by build/ab sweep: each rule of muon.h trains a config's model at its default
# learning rate and at factors of two around it, further on while the best lies at an edge; then the best once more with
# other seeds. From the project's folder; what is trained already is kept in build/exp/rules:
#
#     [ARGS="--train.batch=8"] dev/exp/rules.sh [CONFIG] [STEPS] [SEEDS] [RULE ...]     configs/default.json 200 3, all rules
set -euo pipefail
config=${1:-configs/default.json} steps=${2:-200} seeds=${3:-3} out=build/exp/rules
shift $(($# < 3 ? $# : 3))
rules=${*:-sgd rmsprop adam adamw muon muonclip normuon svd msgd msgds msgdq msgdz adams adamq adamz}
make -s all build/ab data CONFIG="$config"
mkdir -p $out

# Which key is a rule's learning rate.
key_of() {
    case $1 in sgd) echo sgd.lr ;; rmsprop | adam | adamw) echo adamw.lr ;; *) echo muon.lr ;; esac
}
# The config without its own settings of the optimizer (its last section), so that the defaults of the rule's name hold;
# AdamW, where it owns embeddings, head and norms, keeps the config's learning rate.
sed '/"optimizer"/,$d' "$config" > $out/config.json
adamw_lr=$(sed -n 's/.*"adamw".*"lr": *\([0-9.e-]*\).*/\1/p' "$config")
echo "  \"optimizer\": {\"name\": \"muon\"${adamw_lr:+, \"adamw\": {\"lr\": $adamw_lr}}}}" >> $out/config.json

sweep() {   # RULE FOLDER FLAG ...: its report is in FOLDER
    local rule=$1 folder=$2
    shift 2
    # shellcheck disable=SC2086 # one word an argument
    build/ab sweep $out/config.json --out="$folder" --optimizer.name="$rule" --train.steps="$steps" --train.eval_every=0 \
        --train.save_every=0 ${ARGS:-} "$@" > "$folder.txt"
}
times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4g\n", a * b }'; }

printf "| rule | key | losses at learning rates | best | mean of %s seeds (deviation) |\n|---|---|---|---|---|\n" "$seeds"
for rule in $rules; do
    key=$(key_of "$rule")
    start=$(./train_gpt $out/config.json --optimizer.name="$rule" --print-config | sed -n "/\"${key%.lr}\": {/,/}/s/.*\"lr\": \([0-9.e-]*\).*/\1/p" | head -n 1)
    sweep "$rule" $out/"$rule" --extend --grid="optimizer.$key=$(times "$start" 0.5),$start,$(times "$start" 2)"
    best=$(sed -n "s/.*\"optimizer.$key\":[^\"]*\"\(.*\)\".*/\1/p" "$out/$rule/report.json")
    sweep "$rule" $out/"$rule"-best --grid="optimizer.$key=$best" --seeds="$(seq -s ' ' "$seeds")"
    printf "| %s | %s | %s | %s%s | %s |\n" "$rule" "optimizer.$key" \
        "$(sed -n 's/^| \**lr=\([^ *]*\)\** *| *\([^ ]*\).*\(diverged\|-\) |$/\1: \2 \3/p' "$out/$rule/report.md" |
            awk '{ printf "%s%s %s", s, $1, $3 == "diverged" ? $3 : sprintf("%.3f", $2); s = ", " }')" \
        "$best" "$(grep -q '"at_edge":.*true' "$out/$rule/report.json" && echo " (at the edge)")" \
        "$(sed -n 's/^| \*.*lr=[^|]*| *\([^|]*[^ |]\) *|.*/\1/p' "$out/$rule-best/report.md" |
            awk -v n="$seeds" '{ printf "%.4f (%.4f)", $1, $3 * sqrt(n) }')"
done

#!/usr/bin/env bash
# The learning rate of every rule, found by a sweep: each rule of muon.h trains a config's model at its default learning
# rate and at factors of two around it, further on wherever the best lies at an edge; then the best once more with other
# seeds. From the project's folder, after `make all data`; one run per processor at a time, whose bits don't depend on it:
#
#     [ARGS="--train.batch=8"] dev/exp/rules.sh [CONFIG] [STEPS] [SEEDS] [RULE ...]     configs/default.json 200 3, all rules
set -euo pipefail
config=${1:-configs/default.json} steps=${2:-200} seeds=${3:-3} out=build/exp/rules
shift $(($# < 3 ? $# : 3))
rules=${*:-sgd rmsprop adam adamw muon muonclip normuon svd msgd msgds msgdq msgdz adams adamq adamz}
rm -rf $out
mkdir -p $out
export OMP_NUM_THREADS=1 config steps out

# Which key is a rule's learning rate, and what the default of it is.
key_of() {
    case $1 in sgd) echo sgd.lr ;; rmsprop | adam | adamw) echo adamw.lr ;; *) echo muon.lr ;; esac
}
# The config without its own settings of the optimizer (its last section), so that the defaults of the rule's name hold;
# AdamW, where it owns embeddings, head and norms, keeps the config's learning rate.
sed '/"optimizer"/,$d' "$config" > $out/config.json
adamw_lr=$(sed -n 's/.*"adamw".*"lr": *\([0-9.e-]*\).*/\1/p' "$config")
echo "  \"optimizer\": {\"name\": \"muon\"${adamw_lr:+, \"adamw\": {\"lr\": $adamw_lr}}}}" >> $out/config.json

run() {     # RULE KEY LR SEED: one run, kept; its final validation loss
    local dir=$out/$1-$3-$4
    # shellcheck disable=SC2086 # one word an argument
    [ -e "$dir/log.jsonl" ] || ./train_gpt $out/config.json --optimizer.name="$1" --optimizer."$2"="$3" --run.seed="$4" ${ARGS:-} \
        --train.steps="$steps" --train.eval_every=0 --train.save_every=0 --run.dir="$dir" > /dev/null 2>&1 || true
    sed -n 's/.*"event": "eval", .*"val_loss": \([0-9.]*\),.*/\1/p' "$dir/log.jsonl" | tail -n 1
}
loss_of() {
    local loss
    loss=$(run "$1" "$2" "$3" "$4")
    [ -n "$loss" ] && grep -q '"reason": "done"' "$out/$1-$3-$4/log.jsonl" || loss=99     # diverged
    echo "$3 $loss"
}
export -f run loss_of
times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4g\n", a * b }'; }

printf "| rule | key | losses at learning rates | best | mean of %s seeds (deviation) |\n|---|---|---|---|---|\n" "$seeds"
for rule in $rules; do
    key=$(key_of "$rule")
    start=$(./train_gpt $out/config.json --optimizer.name="$rule" --print-config | sed -n "/\"${key%.lr}\": {/,/}/s/.*\"lr\": \([0-9.e-]*\).*/\1/p" | head -n 1)
    rates="$(times "$start" 0.5) $start $(times "$start" 2)" tried="" table=""
    for round in 1 2 3 4; do
        table+=$(printf '%s\n' $rates | xargs -P "$(nproc)" -I{} bash -c "loss_of $rule $key {} 1")$'\n'
        table=$(printf '%s' "$table" | sort -g)$'\n'
        best=$(printf '%s' "$table" | sort -g -k2 | head -n 1 | cut -d' ' -f1)
        lowest=$(printf '%s' "$table" | head -n 1 | cut -d' ' -f1) highest=$(printf '%s' "$table" | tail -n 1 | cut -d' ' -f1)
        if [ "$best" = "$lowest" ]; then rates="$(times "$lowest" 0.5) $(times "$lowest" 0.25)"
        elif [ "$best" = "$highest" ]; then rates="$(times "$highest" 2) $(times "$highest" 4)"
        else break; fi
    done
    edge=
    [ "$best" = "$lowest" ] || [ "$best" = "$highest" ] && edge=" (at the edge)"
    stats=$(seq "$seeds" | xargs -P "$(nproc)" -I{} bash -c "loss_of $rule $key $best {}" |
        awk '$2 == 99 { bad++; next } { n++; s += $2; q += $2 * $2 }
            END { if (n) { m = s / n; v = q / n - m * m; printf "%.4f (%.4f)", m, sqrt((v > 0 ? v : 0) * n / (n > 1 ? n - 1 : 1)) }
                  if (bad) printf " %d diverged", bad }')
    printf "| %s | %s | %s | %s | %s |\n" "$rule" "optimizer.$key" "$(printf '%s' "$table" | awk '{ printf "%s%s: %s", s, $1, $2 == 99 ? "diverged" : sprintf("%.3f", $2); s = ", " }')" "$best$edge" "$stats"
done

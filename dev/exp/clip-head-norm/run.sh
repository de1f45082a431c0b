#!/usr/bin/env bash
# make study NAME=clip-head-norm [QUICK=1]: QK-Clip, per-head Muon and QK-norm, each with and without the others, where logits are
# healthy and where they are made to grow.
# minutes: 20
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/qk-clip/config.json steps=300 tau=100 heads=12
[ -z "$QUICK" ] || { steps=80 tau=10 heads=8 SEEDS=1; small=(--model.layers=2 --train.batch=4); }
lab_begin clip-head-norm "--train.steps=$steps" ${QUICK:+"${small[@]}"}
data/prepare.sh kjv

# Clip and norm together are the norm alone: it bounds a logit by the root of the head's size, 5.7, so that no head comes to tau.
declare -A flags=([plain]="" [clip]="--optimizer.qk_clip.tau=$tau" [head]="--optimizer.muon.per_head=true" [norm]="--model.qk_norm=true")
arms="plain|plain
clip|clip
per-head|head
clip + per-head|clip head
norm|norm
per-head + norm|head norm"
flags_of() { local part; printf -- '--optimizer.qk_clip.tau=0'; for part in $1; do printf ' %s' "${flags[$part]}"; done; }
# healthy: each arm at its own best rate, of whole runs of the first seed, but those with the clip, which no healthy logit comes to.
# growing: eight times the best one, and no decay.
[ -n "$QUICK" ] || while IFS='|' read -r arm parts; do
    [[ $arm != clip* ]] || continue
    # shellcheck disable=SC2046 # one word a flag
    lab_search "healthy $arm" $config optimizer.muon.lr=0.0025,0.005,0.01 --budget=1 $(flags_of "$parts")
    # shellcheck disable=SC2046
    lab_arm "healthy $arm" $config $(flags_of "$parts") "--optimizer.muon.lr=$best"
done <<< "$arms"
[ -n "$QUICK" ] || lab_compare compare-healthy
while IFS='|' read -r arm parts; do
    # shellcheck disable=SC2046
    lab_arm "growing $arm" $config $(flags_of "$parts") --optimizer.muon.lr=0.04 --optimizer.muon.weight_decay=0
done <<< "$arms"
lab_compare compare-growing

# Heads clipped per step, of all, in percent: an arm's mean over seeds.
clipped_of() {
    sed -n 's/.*"event": "qk".*"clipped": \([0-9]*\).*/\1/p' "$lab_runs/compare-growing/runs/$(tr ' +' '-' <<< "$1")-s"*/log.jsonl |
        awk -v of=$((steps * heads * $(wc -w <<< "$SEEDS"))) '{ n += $1 } END { printf "%.1f", 100 * n / of }'
}
echo "| case | arm | learning rate | final loss | against plain | largest logit | heads clipped a step |"
echo "|---|---|---|---|---|---|---|"
while read -r arm; do
    case=${arm%% *}
    read -r loss error _ < <(lab_losses "$arm")
    read -r difference of verdict < <(lab_effect "$arm" "$case plain")
    read -r logit spread _ < <(lab_losses "$arm" max_logit)
    lr=0.04
    [ "$case" = growing ] || lr=$(awk -F, -v a="$arm" '$1 == a && (least == "" || $5 < least) { least = $5; lr = $3 } END { print lr }' "$lab_grids")
    printf '| %s | %s | %s | %.4f ± %.4f | %s | %.1f ± %.1f | %s |\n' "$case" "${arm#* }" "$lr" "$loss" "$error" \
        "$([ "$arm" = "$case plain" ] || printf '%+.4f ± %.4f, %s' "$difference" "$of" "$verdict")" "$logit" "$spread" \
        "$(! [[ $arm = growing*clip* ]] || printf '%s %%' "$(clipped_of "$arm")")"
done < <(lab_arms_of)
echo "| growing: effect of | beside | on the final loss |"
echo "|---|---|---|"
while IFS='|' read -r what beside with without; do
    read -r difference of verdict < <(lab_effect "growing $with" "growing $without")
    printf '| %s | %s | %+.4f ± %.4f, %s |\n' "$what" "$beside" "$difference" "$of" "$verdict"
done <<< "QK-Clip|nothing|clip|plain
QK-Clip|per-head|clip + per-head|per-head
per-head|nothing|per-head|plain
per-head|QK-Clip|clip + per-head|clip
per-head|QK-norm|per-head + norm|norm
QK-norm|nothing|norm|plain
QK-norm|per-head|per-head + norm|per-head
QK-norm, in place of QK-Clip|nothing|norm|clip
QK-norm, in place of QK-Clip|per-head|per-head + norm|clip + per-head"

# The largest logit of each step that is logged, of the first seed.
{
    for case in growing $([ -n "$QUICK" ] || echo healthy); do
        echo "panel $case: largest logit|step|largest logit of any head|ylog"
        while read -r arm; do
            echo "line ${arm#* }"
            sed -n 's/.*"event": "step", "step": \([0-9]*\),.*"max_logit": \([0-9.e+-]*\),.*/\1 \2/p' \
                "$lab_runs/compare-$case/runs/$(tr ' +' '-' <<< "$arm")-s${SEEDS%% *}/log.jsonl" | awk '$1 % 5 == 0'
        done < <(lab_arms_of | grep "^$case")
    done
    for case in growing $([ -n "$QUICK" ] || echo healthy); do
        echo "panel $case: final loss||validation loss, nats"
        lab_arms_of | grep "^$case" | lab_points | sed "s/$case //g"
    done
} | "$BUILD/chart" "$OUT/clip-head-norm.png" "QK-Clip, per-head Muon and QK-norm" 1500 860 2
peak() { lab_losses "growing $1" max_logit | cut -d" " -f1; }
lab_must "logits grow without clip and norm" "$(peak plain)" ">" $((2 * tau))
lab_must "under per-head Muon, too" "$(peak per-head)" ">" $((2 * tau))
lab_must "QK-Clip holds them under per-head Muon" "$(peak "clip + per-head")" "<" $((2 * tau))
lab_must "QK-norm bounds them" "$(peak "per-head + norm")" "<" 5.7

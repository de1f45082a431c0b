#!/usr/bin/env bash
# make study NAME=weight-decay [QUICK=1]: decay of Muon's matrices in units of the whole run, the sum over all steps of
# learning rate times decay, plain and cautious, in a short run and one five times as long.
# minutes: 9
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json lengths="100 500" sums="0.3 1 3 10"
flags=(--optimizer.adamw.embed_lr=0.02 --optimizer.adamw.head_lr=0.02 --model.layers=2)
[ -z "$QUICK" ] || { lengths="20 60" sums="1 10" flags+=(--train.batch=4); }
lab_begin weight-decay "${flags[@]}"
data/prepare.sh kjv

# The decay whose sum over a run of so many steps is this: the schedule warms up for 5 % and falls over 60 %.
decay() { awk -v steps="$1" -v lr="$2" -v sum="$3" 'BEGIN { for (s = 0; s < steps; s++) { w = 0.05 * steps; c = 0.6 * steps
    total += s < w ? (s + 1) / (w + 1) : steps - s < c ? (steps - s) / c : 1 }; printf "%.6g", sum / (lr * total) }'; }
for steps in $lengths; do
    # One learning rate for all sums, the best without decay. A rate that is searched with decay comes out too large for
    # anything else, since a large one makes the weights small sooner.
    lab_search "$steps none" $config optimizer.muon.lr=0.01,0.02,0.04 "--train.steps=$steps"
    lr=("--train.steps=$steps" "--optimizer.muon.lr=$best")
    lab_arm "$steps none" $config "${lr[@]}"
    for sum in $sums; do
        wd=--optimizer.muon.weight_decay=$(decay "$steps" "$best" "$sum")
        lab_arm "$steps plain $sum" $config "${lr[@]}" "$wd"
        lab_arm "$steps cautious $sum" $config "${lr[@]}" "$wd" --optimizer.muon.cautious=true
    done
    lab_compare "compare-$steps"
done
# RMS of matrices and of what blocks add to the residual stream, from the checkpoints.
runs=()
for steps in $lengths; do runs+=("$lab_runs/compare-$steps/runs/"*); done
"$BUILD/study_weight-decay" "$OUT" "${runs[@]}" > "$lab_runs/rms.txt"
rms_of() { awk -F, -v a="$(tr ' ' - <<< "$1")-s" -v c="$2" 'index($1, a) == 1 { m += $c; n++ } END { printf "%.4f", m / n }' "$OUT/rms.csv"; }
echo "| steps | sum of lr x decay | plain: loss | against none | cautious: loss | against none | RMS of matrices, plain | of block outputs, plain |"
echo "|---|---|---|---|---|---|---|---|"
for steps in $lengths; do
    read -r none error _ < <(lab_losses "$steps none")
    printf '| %d | 0 | %.4f ± %.4f | | | | %s | %s |\n' "$steps" "$none" "$error" "$(rms_of "$steps none" 2)" "$(rms_of "$steps none" 3)"
    for sum in $sums; do
        read -r p pe _ < <(lab_losses "$steps plain $sum")
        read -r pd pde pv < <(lab_effect "$steps plain $sum" "$steps none")
        read -r c ce _ < <(lab_losses "$steps cautious $sum")
        read -r cd cde cv < <(lab_effect "$steps cautious $sum" "$steps none")
        printf '| %d | %s | %.4f ± %.4f | %+.4f ± %.4f, %s | %.4f ± %.4f | %+.4f ± %.4f, %s | %s | %s |\n' "$steps" "$sum" "$p" "$pe" "$pd" "$pde" "$pv" \
            "$c" "$ce" "$cd" "$cde" "$cv" "$(rms_of "$steps plain $sum" 2)" "$(rms_of "$steps plain $sum" 3)"
    done
done
{
    for steps in $lengths; do
        echo "panel $steps steps|sum of learning rate x decay|loss minus that without decay, nats|xlog"
        for kind in plain cautious; do
            echo "line $kind"
            for sum in $sums; do lab_effect "$steps $kind $sum" "$steps none" | lab_point "$sum"; done
        done
        echo "dashed"
        for sum in $sums; do echo "$sum 0"; done
    done
} | "$BUILD/chart" "$OUT/weight-decay.png" "Weight decay in a short and in a long run" 900 420 1
long=${lengths#* } most=${sums##* }
lab_must "decay makes the matrices smaller" "$(rms_of "$long plain $most" 2)" "<" "$(rms_of "$long none" 2)"
lab_must "a sum of $most costs loss" "$(lab_effect "$long plain $most" "$long none" | cut -d" " -f1)" ">" 0

#!/usr/bin/env bash
# make study NAME=balance [QUICK=1]: how a mixture's loads are kept even: not at all, by biases at three rates, by quantiles, by
# a loss; experts without tokens, largest loads and what they cost.
# minutes: 15
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json rates="1e-3 1e-2 1e-1" steps=150 last=50
flags=(--model.experts=64 --model.experts_per_token=4 --model.expert_width=32 --model.shared_experts=1 --model.dense_layers=1 --train.batch=8)
[ -z "$QUICK" ] || { rates="1e-2" steps=60 last=20 SEEDS=1; flags+=(--model.layers=2 --train.batch=4 --model.experts=16); }
lab_begin balance "${flags[@]}" "--train.steps=$steps"
data/prepare.sh kjv

lab_arm none $config --model.balance=none
for rate in $rates; do lab_arm "bias $rate" $config --model.balance=bias "--model.balance_rate=$rate"; done
lab_arm quantile $config --model.balance=quantile
[ -n "$QUICK" ] || lab_arm "loss 1e-2" $config --model.balance=aux --model.balance_rate=1e-2
lab_compare

# Of each run and step that is logged: the share of all experts without tokens, the largest load of one over its layer's mean.
table=$OUT/loads.csv
echo "arm,seed,step,dead,max_load" > "$table"
while read -r arm; do
    for log in "$lab_runs/compare/runs/$(tr ' ' - <<< "$arm")-s"*/log.jsonl; do
        seed=${log%/log.jsonl} seed=${seed##*-s}
        sed -n 's/.*"event": "moe", "step": \([0-9]*\), "dead": \[\(.*\)\], "max_load": \[\(.*\)\].*/\1|\2|\3/p' "$log" | awk -F'|' -v arm="$arm" -v seed="$seed" '
            { n = split($2, dead, ", "); split($3, load, ", "); mean = most = 0
              for (i = 1; i <= n; i++) { mean += dead[i] / n; if (load[i] > most) most = load[i] }
              printf "%s,%s,%d,%.4f,%.3f\n", arm, seed, $1, mean, most }' >> "$table"
    done
done < <(lab_arms_of)
# Mean and standard error over seeds of column COLUMN of an arm's steps from FROM to TO.
loads_of() {
    awk -F, -v a="$1" -v c="$2" -v from="$3" -v to="$4" '$1 == a && $3 >= from && $3 <= to { sum[$2] += $c; k[$2]++ }
        END { for (s in sum) { x[++n] = sum[s] / k[s]; m += x[n] } if (!n) { print "nan nan"; exit } m /= n
              for (i = 1; i <= n; i++) v += (x[i] - m) ^ 2; e = (n > 1) ? sqrt(v / (n - 1) / n) : 0; printf "%.6f %.6f\n", m, e }' "$table"
}
echo "| arm | final loss | against none | without tokens, step 20 | in the last $last steps | largest load over the mean, last $last steps |"
echo "|---|---|---|---|---|---|"
while read -r arm; do
    read -r loss error _ < <(lab_losses "$arm")
    read -r difference of verdict < <(lab_effect "$arm" none)
    read -r early _ < <(loads_of "$arm" 4 20 20)
    read -r dead _ < <(loads_of "$arm" 4 $((steps - last + 1)) "$steps")
    read -r load spread < <(loads_of "$arm" 5 $((steps - last + 1)) "$steps")
    [ "$arm" != none ] || verdict=
    awk -v a="$arm" -v l="$loss" -v e="$error" -v d="$difference" -v f="$of" -v v="$verdict" -v x="$early" -v y="$dead" -v m="$load" -v s="$spread" 'BEGIN {
        printf "| %s | %.4f ± %.4f | %s | %.1f %% | %.1f %% | %.2f ± %.2f |\n", a, l, e, v == "" ? "" : sprintf("%+.4f ± %.4f, %s", d, f, v), 100 * x, 100 * y, m, s }'
done < <(lab_arms_of)
{
    for what in "4 experts without tokens|share of all experts|" "5 largest load|load of the busiest expert over the mean|ylog"; do
        echo "panel ${what#* }" | awk -F'|' '{ print $1 "|step|" $2 "|" $3 }'
        while read -r arm; do
            echo "line $arm"
            for step in $(awk -F, -v a="$arm" '$1 == a { print $3 }' "$table" | sort -nu); do
                loads_of "$arm" "${what%% *}" "$step" "$step" | lab_point "$step"
            done
        done < <(lab_arms_of)
    done
} | "$BUILD/chart" "$OUT/balance.png" "A mixture of experts, balanced in different ways" 1400 520 1
end="$((steps - last + 1)) $steps"
# shellcheck disable=SC2086
most() { loads_of "$1" 5 $end | cut -d" " -f1; }
lab_must "biases that move by 0.01 make loads more even" "$(most "bias 1e-2")" "<" "$(most none)"
lab_must "quantiles do, too" "$(most quantile)" "<" "$(most none)"

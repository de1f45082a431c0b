#!/usr/bin/env bash
# make study NAME=scale-rules [QUICK=1]: does the best learning rate stay where it is when the model gets wider?
# minutes: 17
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json widths=${WIDTHS:-32 64 128 256}
flags=(--model.layers=2 --train.steps=150 --train.batch=8)
[ -z "$QUICK" ] || { widths="32 64" flags+=(--train.steps=30 --train.batch=4); }
lab_begin scale-rules "${flags[@]}"
data/prepare.sh kjv

# Embedding and head at their own best, found once under Muon.
lab_search "embedding and head" $config optimizer.adamw.lr=0.01,0.02,0.04 --model.width=128
vectors=("--optimizer.adamw.embed_lr=$best" "--optimizer.adamw.head_lr=$best")
[ -n "$QUICK" ] && step=2 points=1 || step=1.41421 points=2
grid() { awk -v m="$1" -v s="$step" -v n="$points" 'BEGIN { for (i = -n; i <= n; i++) printf "%s%.5g", (i > -n ? "," : ""), m * s ^ i }'; }
declare -A last=([keller]=0.02 [match_rms_adamw]=0.01 [adamw]=0.006)
declare -A key=([keller]=optimizer.muon.lr [match_rms_adamw]=optimizer.muon.lr [adamw]=optimizer.adamw.lr)
declare -A rule=([keller]=--optimizer.muon.scale=keller [match_rms_adamw]=--optimizer.muon.scale=match_rms_adamw [adamw]=--optimizer.name=adamw)
for width in $widths; do
    for scale in keller match_rms_adamw adamw; do
        # The whole schedule already here, since its optimum is the result; the grid begins around the width before.
        lab_search "$scale $width" $config "${key[$scale]}=$(grid "${last[$scale]}")" "--model.width=$width" "${vectors[@]}" "${rule[$scale]}" --budget=1
        last[$scale]=$best
    done
    # Moonlight's claim: AdamW's best rate serves Muon under match_rms_adamw.
    lab_arm "$width own" $config "--model.width=$width" "${vectors[@]}" "${rule[match_rms_adamw]}" "--optimizer.muon.lr=${last[match_rms_adamw]}"
    lab_arm "$width AdamW's" $config "--model.width=$width" "${vectors[@]}" "${rule[match_rms_adamw]}" "--optimizer.muon.lr=${last[adamw]}"
    lab_arm "$width AdamW" $config "--model.width=$width" "${vectors[@]}" "${rule[adamw]}" "--optimizer.adamw.lr=${last[adamw]}"
    lab_compare "compare-$width"
done

# The best rate as the vertex of the parabola through the lowest point and its neighbours, in log2 of the rate.
awk -F, 'NR > 1 && $4 == "done" && split($1, w, " ") == 2 && w[2] > 0 { n[$1]++; x[$1, n[$1]] = log($3) / log(2); y[$1, n[$1]] = $5; if (!seen[$1]++) name[++names] = $1 }
    END { print "rule,width,log2_best,best,loss"
        for (i = 1; i <= names; i++) { s = name[i]; if (n[s] < 3) continue; b = 2; for (k = 2; k < n[s]; k++) if (y[s, k] < y[s, b]) b = k
            h = x[s, b] - x[s, b - 1]; d1 = (y[s, b + 1] - y[s, b - 1]) / 2; d2 = y[s, b + 1] - 2 * y[s, b] + y[s, b - 1]
            v = x[s, b] - (d2 > 0 ? h * d1 / d2 : 0); split(s, w, " ")
            printf "%s,%d,%.3f,%.5g,%.4f\n", w[1], w[2], v, 2 ^ v, y[s, b] } }' "$lab_grids" > "$OUT/best.csv"
# Slope of log2(best rate) over log2(width), by least squares, with its standard error.
awk -F, 'NR > 1 { k = $1; t = log($2) / log(2); n[k]++; X[k] += t; Y[k] += $3; XX[k] += t * t; XY[k] += t * $3; YY[k] += $3 * $3; if (!seen[k]++) name[++names] = k }
    END { print "rule,shift_per_doubling,error"
        for (i = 1; i <= names; i++) { k = name[i]; m = n[k]; sxx = XX[k] - X[k] ^ 2 / m; sxy = XY[k] - X[k] * Y[k] / m; syy = YY[k] - Y[k] ^ 2 / m
            slope = sxy / sxx; e = m > 2 ? sqrt((syy - slope * sxy) / (m - 2) / sxx) : 0; printf "%s,%.3f,%.3f\n", k, slope, e < 0 ? 0 : e } }' "$OUT/best.csv" > "$OUT/shift.csv"
cat "$OUT/best.csv" "$OUT/shift.csv"
echo "| width | AdamW | Muon at its own best rate | Muon at AdamW's best rate | regret |"
echo "|---|---|---|---|---|"
for width in $widths; do
    read -r a ae _ < <(lab_losses "$width AdamW")
    read -r o oe _ < <(lab_losses "$width own")
    read -r b be _ < <(lab_losses "$width AdamW's")
    read -r d de verdict < <(lab_effect "$width AdamW's" "$width own")
    printf '| %d | %.4f ± %.4f | %.4f ± %.4f | %.4f ± %.4f | %+.4f ± %.4f, %s |\n' "$width" "$a" "$ae" "$o" "$oe" "$b" "$be" "$d" "$de" "$verdict"
done
{
    for scale in keller match_rms_adamw adamw; do
        echo "panel $scale|learning rate|validation loss, nats|xlog"
        for width in $widths; do
            echo "line width $width"
            awk -F, -v s="$scale $width" '$1 == s && $4 == "done" { print $3, $5 }' "$lab_grids"
        done
    done
} | "$BUILD/chart" "$OUT/scale-rules.png" "Loss over the learning rate, four widths" 1200 420 1
first=${widths%% *}
read -r a _ < <(lab_losses "$first AdamW")
read -r o _ < <(lab_losses "$first own")
lab_must "Muon ends lower than AdamW at width $first" "$o" "<" "$a"

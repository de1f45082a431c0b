#!/usr/bin/env bash
# make study NAME=per-head [QUICK=1]: heads whose gradients differ in size, under Muon whole and head by head.
# minutes: 20
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json steps=200 trained=4
flags=(--model.heads=8 --train.batch=8 --optimizer.muon.scale=rms_exact --optimizer.adamw.embed_lr=0.02 --optimizer.adamw.head_lr=0.02)
[ -z "$QUICK" ] || { steps=40 trained=2 SEEDS=1; flags+=(--model.layers=2 --train.batch=4); }
lab_begin per-head "${flags[@]}" "--train.steps=$steps"
data/prepare.sh kjv
"$BUILD/study_per-head" "$OUT" $config "$steps" $trained "${flags[@]}" --optimizer.muon.lr=0.01

# Of the ratios in COLUMN of heads.csv the geometric mean over steps and layers, and the largest.
spread_of() {                           # RULE MATRIX COLUMN
    awk -F, -v r="$1" -v w="$2" -v c="$3" '$1 == r && $3 == w { m += log($c); n++; if ($c > top) top = $c } END { printf "%.2f %.1f\n", exp(m / n), top }' "$OUT/heads.csv"
}
echo "| random gradients, spread over 1e7 | largest over smallest update | least cosine with a head's own polar factor | the same, singular values 1/i | cosine |"
echo "|---|---|---|---|---|"
awk -F, '$3 == "1e7" { if (!($2 in seen)) { seen[$2] = 1; name[++n] = $2 } r[$2, $1] = $4; c[$2, $1] = $5 }
    END { for (i = 1; i <= n; i++) printf "| %s | %.4g | %.3f | %.4g | %.3f |\n", name[i], r[name[i], "gaussian"], c[name[i], "gaussian"], r[name[i], "decaying"], c[name[i], "decaying"] }' "$OUT/spread.csv"
echo "| training: largest over smallest head, mean (largest of all) | W_q: gradient | update | W_k: gradient | update | W_v: gradient | update |"
echo "|---|---|---|---|---|---|---|"
awk -F, 'NR > 1 && !seen[$1]++ { print $1 }' "$OUT/heads.csv" | while read -r rule; do
    printf '| %s |' "$rule"
    for matrix in wq wk wv; do for column in 5 6; do
        read -r mean most < <(spread_of "$rule" $matrix $column)
        printf ' %s (%s) |' "$mean" "$most"
    done; done
    echo
done

arms="muon|--optimizer.name=muon
per-head|--optimizer.name=muon --optimizer.muon.per_head=true
normuon|--optimizer.name=normuon
exact polar factor|--optimizer.name=svd"
[ -z "$QUICK" ] || arms=$(head -n 2 <<< "$arms")
lab_search_arms $config optimizer.muon.lr=0.005,0.01,0.02 <<< "$arms"
lab_compare
lab_table
{
    echo "panel Random gradients: a head's update|a head's gradient, norm|its update, norm|xlog ylog"
    for rule in muon per-head normuon "exact polar factor"; do
        echo "line $rule"
        awk -F, -v r="$rule" '$1 == "gaussian" && $2 == r { print $4, $5 }' "$OUT/updates.csv"
    done
    echo "panel Training with Muon: largest over smallest head|step|ratio|ylog"
    for matrix in wq wk wv; do
        echo "line gradient, $matrix"
        awk -F, -v w=$matrix '$1 == "muon" && $3 == w { sum[$2] += log($5); n[$2]++ } END { for (s in sum) print s, exp(sum[s] / n[s]) }' "$OUT/heads.csv" | sort -n
    done
    echo "panel Final loss||validation loss, nats"
    lab_arms_of | lab_points
} | "$BUILD/chart" "$OUT/per-head.png" "Attention heads under Muon" 1400 800 2

#!/usr/bin/env bash
# make study NAME=spectral [QUICK=1]: U S^p V^T of the momentum and of Adam's direction, p = 1, 1/2, 1/4, 0.
# minutes: 41
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/spectral/config.json
flags=()
[ -z "$QUICK" ] || flags=(--train.steps=40 --train.batch=4 --model.layers=2)
lab_begin spectral "${flags[@]}"
data/prepare.sh kjv

# Rule, key of its learning rate, grid.
rules="msgd optimizer.muon.lr 0.25 0.5 1 2
msgds optimizer.muon.lr 0.05 0.1 0.2 0.4
msgdq optimizer.muon.lr 0.025 0.05 0.1 0.2
msgdz optimizer.muon.lr 0.01 0.02 0.04 0.08
adam optimizer.adamw.lr 0.002 0.004 0.008 0.016
adams optimizer.muon.lr 0.01 0.02 0.04 0.08
adamq optimizer.muon.lr 0.01 0.02 0.04 0.08
adamz optimizer.muon.lr 0.01 0.02 0.04 0.08"
[ -z "$QUICK" ] || rules=$(grep -E "^(msgd|msgdz|adam) " <<< "$rules" | cut -d' ' -f1-2,4-5)

while read -r rule key grid; do
    lab_search "$rule" $config "$key=${grid// /,}" "--optimizer.name=$rule"
    lab_arm "$rule" $config "--optimizer.name=$rule" "--$key=$best"
    if [ -z "$QUICK" ] && [ "$rule" != adam ]; then  # the same rate, embedding and head under the rule, too
        lab_arm "$rule everywhere" $config "--optimizer.name=$rule" "--$key=$best" "--optimizer.route=embed=$rule,head=$rule"
    fi
done <<< "$rules"
[ -n "$QUICK" ] || for rule in msgd msgds msgdq msgdz; do        # p changes an update's shape and not its size
    lab_search "$rule at RMS 0.2" $config optimizer.muon.lr=0.005,0.01,0.02 "--optimizer.name=$rule" --optimizer.muon.scale=rms_exact
    lab_arm "$rule at RMS 0.2" $config "--optimizer.name=$rule" "--optimizer.muon.lr=$best" --optimizer.muon.scale=rms_exact
done
lab_compare
lab_table

# What half and twice the best rate cost, a window of a factor 4 that every grid has: the worse of the two over the best.
awk -F, 'NR > 1 { n[$1]++; v[$1, n[$1]] = $3; l[$1, n[$1]] = $4 == "done" ? $5 : 1e9; if (!($1 in b) || l[$1, n[$1]] < l[$1, b[$1]]) b[$1] = n[$1]
        if (!seen[$1]++) name[++names] = $1 }
    END { print "search,best,loss,spread"
        for (i = 1; i <= names; i++) { s = name[i]; worst = 0
            for (k = 1; k <= n[s]; k++) { r = v[s, k] / v[s, b[s]]; if (r > 0.49 && r < 2.05 && l[s, k] > worst) worst = l[s, k] }
            printf "%s,%s,%.4f,%s\n", s, v[s, b[s]], l[s, b[s]], (worst < 1e9 ? sprintf("%.4f", worst - l[s, b[s]]) : "diverged") } }' "$lab_grids" > "$OUT/spread.csv"
cat "$OUT/spread.csv"
grid_panel() {                          # TITLE RULE=LABEL ...: losses over the learning rate, in units of the best one
    echo "panel $1|learning rate over the best one|validation loss at half length|xlog"
    for pair in "${@:2}"; do
        echo "line ${pair#*=}"
        awk -F, -v s="${pair%%=*}" 'FNR == NR { if ($1 == s) best = $2; next } $1 == s && $4 == "done" { print $3 / best, $5 }' "$OUT/spread.csv" "$lab_grids"
    done
}
{
    grid_panel "Momentum" "msgd=p = 1" "msgds=p = 1/2" "msgdq=p = 1/4" "msgdz=p = 0"
    grid_panel "Adam's direction" "adam=p = 1" "adams=p = 1/2" "adamq=p = 1/4" "adamz=p = 0"
    [ -n "$QUICK" ] || grid_panel "Momentum, every update at RMS 0.2" "msgd at RMS 0.2=p = 1" "msgds at RMS 0.2=p = 1/2" "msgdq at RMS 0.2=p = 1/4" "msgdz at RMS 0.2=p = 0"
} | "$BUILD/chart" "$OUT/spectral.png" "The spectral family: final loss over the learning rate" 1200 420 1
read -r difference error _ < <(lab_effect msgdz msgd)
lab_must "momentum with p = 0 ends lower than with p = 1" "$difference" "<" 0

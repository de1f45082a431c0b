#!/usr/bin/env bash
# make study NAME=newton-schulz [QUICK=1]: does a better polar factor train better? Every update has an RMS of 0.2, or
# else the coefficients would be another learning rate.
# minutes: 50
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json
flags=(--train.steps=200 --optimizer.adamw.embed_lr=0.02 --optimizer.adamw.head_lr=0.02 --optimizer.muon.scale=rms_exact)
[ -z "$QUICK" ] || flags+=(--train.steps=40 --train.batch=4 --model.layers=2)
lab_begin newton-schulz "${flags[@]}"
data/prepare.sh kjv

# Arm, and what it is.
arms="keller x 5|--optimizer.muon.steps=5
keller x 1|--optimizer.muon.steps=1
keller x 2|--optimizer.muon.steps=2
keller x 3|--optimizer.muon.steps=3
keller x 10|--optimizer.muon.steps=10
polar_express x 5|--optimizer.muon.coefficients=polar_express
quintic x 10|--optimizer.muon.coefficients=bjorck
exact12 x 12|--optimizer.muon.coefficients=exact12
deepseekv4 x 10|--optimizer.muon.coefficients=deepseekv4
cans x 5|--optimizer.muon.coefficients=cans
cubic5 x 5|--optimizer.muon.coefficients=cubic5
aol x 4|--optimizer.muon.coefficients=aol
exact SVD|--optimizer.name=svd
keller x 5 in bf16|--optimizer.muon.precision=bf16
none (momentum)|--optimizer.name=msgd --optimizer.muon.momentum=0.95 --optimizer.muon.momentum_form=ema --optimizer.muon.nesterov=true"
[ -z "$QUICK" ] || arms=$(grep -E "^(keller x 5|keller x 1\||none)" <<< "$arms" | grep -v bf16)
lab_search_arms $config optimizer.muon.lr=0.005,0.01,0.02 <<< "$arms"
lab_compare
lab_table
{
    echo "panel Final loss, mean and standard error of $(wc -w <<< "$SEEDS") seeds||validation loss, nats"
    lab_arms_of | grep -v none | lab_points
} | "$BUILD/chart" "$OUT/newton-schulz.png" "Does a better polar factor train better?" 1600 440 1
lab_arms_of | while read -r arm; do
    [ "$arm" = "keller x 5" ] || lab_effect "$arm" "keller x 5" | awk -v a="$arm" '{ printf "smallest detectable difference, %s: %.4f nats\n", a, 3 * $2 }'
done
read -r difference error _ < <(lab_effect "none (momentum)" "keller x 5")
lab_must "momentum that isn't orthogonalized ends higher than Muon" "$difference" ">" "3 * $error"

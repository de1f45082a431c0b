#!/usr/bin/env bash
# make study NAME=batch [QUICK=1]: AdamW and Muon at four batch sizes, the same tokens, learning rate and momentum tuned at each.
# minutes: 33
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/lab.json tokens=393216 batches="2 8 32 128"
flags=(--data.dir=build/data/gcide --optimizer.adamw.embed_lr=0.02 --optimizer.adamw.head_lr=0.02)
[ -z "$QUICK" ] || { tokens=16384 batches="2 8" flags+=(--model.layers=2); }
lab_begin batch "${flags[@]}"
data/prepare.sh gcide

# Around the rate that the square root of the batch says, down to the eighth of it: AdamW's losses are flat at large batches.
scaled() { awk -v lr="$1" -v b="$2" 'BEGIN { lr *= sqrt(b / 8); printf "%.4g,%.4g,%.4g,%.4g,%.4g", lr / 8, lr / 4, lr / 2, lr, 2 * lr }'; }
for batch in $batches; do
    size=("--train.batch=$batch" "--train.steps=$((tokens / batch / 128))")
    lab_search "adamw $batch" $config "optimizer.adamw.lr=$(scaled 0.004 "$batch")" --optimizer.name=adamw "${size[@]}"
    adamw=(--optimizer.name=adamw "--optimizer.adamw.lr=$best" "${size[@]}")
    lab_search "muon $batch" $config "optimizer.muon.lr=$(scaled 0.02 "$batch")" "${size[@]}"
    muon=("--optimizer.muon.lr=$best" "${size[@]}")
    if [ -z "$QUICK" ]; then
        lab_search "adamw $batch beta1" $config optimizer.adamw.beta1=0.8,0.9,0.95 "${adamw[@]}"
        adamw+=("--optimizer.adamw.beta1=$best")
        lab_search "muon $batch momentum" $config optimizer.muon.momentum=0.8,0.9,0.95 "${muon[@]}"
        muon+=("--optimizer.muon.momentum=$best")
    fi
    lab_arm "adamw $batch" $config "${adamw[@]}"
    lab_arm "muon $batch" $config "${muon[@]}"
    lab_compare "compare-$batch"
done
echo "| tokens a step | AdamW | Muon | Muon - AdamW | seconds of AdamW | of Muon | optimizer's share, Muon |"
echo "|---|---|---|---|---|---|---|"
for batch in $batches; do
    read -r a ae _ < <(lab_losses "adamw $batch")
    read -r m me _ < <(lab_losses "muon $batch")
    read -r d de verdict < <(lab_effect "muon $batch" "adamw $batch")
    read -r as _ < <(lab_losses "adamw $batch" seconds)
    read -r ms _ < <(lab_losses "muon $batch" seconds)
    read -r share _ < <(lab_losses "muon $batch" optimizer_share)
    printf '| %d | %.4f ± %.4f | %.4f ± %.4f | %+.4f ± %.4f, %s | %.1f | %.1f | %.0f %% |\n' $((batch * 128)) "$a" "$ae" "$m" "$me" "$d" "$de" \
        "$verdict" "$as" "$ms" "$(awk "BEGIN { print 100 * $share }")"
done
curve() {                               # OPTIMIZER COLUMN
    echo "line $1"
    for batch in $batches; do lab_losses "$1 $batch" "$2" | lab_point $((batch * 128)); done
}
{
    echo "panel The same tokens|tokens a step|final validation loss, nats|xlog"
    curve adamw loss
    curve muon loss
    echo "panel What they take|tokens a step|seconds of training|xlog ylog"
    curve adamw seconds
    curve muon seconds
} | "$BUILD/chart" "$OUT/batch.png" "AdamW and Muon over the batch size" 900 420 1
for batch in $batches; do
    read -r d _ _ < <(lab_effect "muon $batch" "adamw $batch")
    [ "$batch" = 2 ] || lab_must "Muon ends lower at $batch sequences a step" "$d" "<" 0
done

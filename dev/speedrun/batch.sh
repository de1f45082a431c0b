#!/usr/bin/env bash
# AdamW and Muon at three batch sizes, equal tokens: the learning rates found by search.sh and half and twice them, one seed each,
# then three seeds at the better ones. Newton-Schulz costs (T n / B)(2/3 + n/3m) of a layer's work, n the smaller side, T n here
# its five steps, B tokens a step: tokens and seconds are both printed.
#
#     dev/speedrun/batch.sh kjv|shakespeare [TOKENS=409600] [BATCHES="4 16 64"]
set -euo pipefail
cd "$(dirname "$0")/../.."
track=${1:?kjv or shakespeare} tokens=${2:-409600} batches=${3:-4 16 64} here=dev/speedrun out=${OUT:-runs/speedrun/$track-batch}
make -s all build/ab data CONFIG="$here/$track.json"
common="--train.eval_every=0 --train.save_every=0"
block=$(sed -n 's/.*"block": \([0-9]*\).*/\1/p' $here/$track.json)
times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4g", a * b }'; }
echo "| batch, tokens a step | optimizer | learning rate | final loss | seconds | optimizer's share |"
echo "|---|---|---|---|---|---|"
for batch in $batches; do
    arms=()
    for optimizer in adamw muon; do
        read -r _ _ flags < <(grep "^$optimizer " "${TUNED:-$here/$track.tuned}")
        key=optimizer.$optimizer.lr
        tuned=$(echo "$flags" | sed -n "s/.*--$key=\([0-9.e-]*\).*/\1/p")
        sweep=$out/$optimizer-$batch
        mkdir -p "$out"
        # shellcheck disable=SC2086 # one word a flag
        build/ab sweep $here/$track.json $flags --grid="$key=$(times "$tuned" 0.5),$tuned,$(times "$tuned" 2)" --extend $common \
            --train.batch="$batch" --train.steps=$((tokens / batch / block)) --out="$sweep" > "$sweep.txt"
        best=$(sed -n 's/^Best: lr=\(.*\), validation loss.*/\1/p' "$sweep/report.md")
        arms+=("$optimizer=$here/$track.json,${flags// /,},--$key=$best")
    done
    # shellcheck disable=SC2086
    build/ab "${arms[@]}" --seeds="${SEEDS:-1 2 3}" $common --train.batch="$batch" --train.steps=$((tokens / batch / block)) \
        --out="$out/compare-$batch" > "$out/compare-$batch.txt"
    for i in 0 1; do
        optimizer=$([ $i = 0 ] && echo adamw || echo muon)
        rate=${arms[$i]##*=}
        row=$(grep -E "^\| (\*\*)?$optimizer" "$out/compare-$batch/report.md" | head -n 1)
        echo "$row" | awk -F'|' -v b="$batch, $((batch * block))" -v o="$optimizer" -v r="$rate" '{ printf "| %s | %s | %s |%s|%s|%s|\n", b, o, r, $3, $6, $8 }'
    done
done

#!/usr/bin/env bash
# Do fp32 and bf16 train alike? A config's loss curve in both precisions with several seeds: how far apart the precisions
# are with the same seed, beside how far apart the seeds are. From the project's folder:
#
#     dev/exp/precision.sh [CONFIG] [STEPS] [SEEDS]        configs/default.json 500 4; at least 10 steps, 2 seeds
set -euo pipefail
config=${1:-configs/default.json} steps=${2:-500} seeds=${3:-4} out=build/exp/precision
[ "$steps" -ge 10 ] && [ "$seeds" -ge 2 ] || { echo "error: at least 10 steps and 2 seeds are needed" >&2; exit 2; }
make -s all data CONFIG="$config"
mkdir -p $out
for seed in $(seq "$seeds"); do
    for precision in fp32 bf16; do
        ./train_gpt "$config" --train.steps="$steps" --train.precision=$precision --run.seed="$seed" \
            --train.save_every=0 --train.eval_every=0 --run.dir=$out/$precision-$seed --overwrite > /dev/null
        sed -n 's/.*"event": "step", "step": \([0-9]*\), .*"loss": \([0-9.]*\),.*/'"$precision $seed"' \1 \2/p' \
            $out/$precision-$seed/log.jsonl
        sed -n 's/.*"event": "eval", .*"val_loss": \([0-9.]*\),.*/'"$precision $seed"' val \1/p' \
            $out/$precision-$seed/log.jsonl | tail -n 1
    done
done | awk -v steps="$steps" -v seeds="$seeds" '
    $3 == "val" { val[$1, $2] = $4; next }
    { part = int(($3 - 1) * 10 / steps); sum[$1, $2, part] += $4; count[part] += ($1 == "fp32" && $2 == 1) }
    END {
        printf "| steps | fp32, mean of seeds | seeds apart (standard deviation) | bf16 - fp32, mean | largest with one seed |\n"
        printf "|---|---|---|---|---|\n"
        for (part = 0; part <= 10; part++) {
            mean = square = difference = largest = 0
            for (s = 1; s <= seeds; s++) {
                a = part < 10 ? sum["fp32", s, part] / count[part] : val["fp32", s]
                b = part < 10 ? sum["bf16", s, part] / count[part] : val["bf16", s]
                mean += a / seeds; square += a * a / seeds; difference += (b - a) / seeds
                d = b > a ? b - a : a - b
                if (d > largest) largest = d
            }
            variance = square - mean * mean
            title = part < 10 ? sprintf("%d-%d", part * steps / 10 + 1, (part + 1) * steps / 10) : "validation"
            printf "| %s | %.4f | %.4f | %+.4f | %.4f |\n", title, mean, sqrt((variance > 0 ? variance : 0) * seeds / (seeds - 1)), difference, largest
        }
    }'

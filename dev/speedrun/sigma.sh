#!/usr/bin/env bash
# How much seeds differ: the first optimizer of TRACK.tuned (the baseline, AdamW) with ten seeds; prints mean and standard
# deviation. Done once for a track and then kept in `targets`, since a rule that used each record's own three seeds would mean
# nothing.
#
#     [SEEDS="1 2 ... 10"] dev/speedrun/sigma.sh shakespeare|kjv|gcide [OPTIMIZER]
set -euo pipefail
cd "$(dirname "$0")/../.."
track=${1:?shakespeare or kjv} optimizer=${2:-adamw} here=dev/speedrun
make -s all build/ab data CONFIG="$here/$track.json"
read -r _ _ flags < <(grep "^$optimizer " "${TUNED:-$here/$track.tuned}") || { echo "error: $optimizer: not in $track.tuned" >&2; exit 1; }
losses=""
for seed in ${SEEDS:-1 2 3 4 5 6 7 8 9 10}; do
    out=${OUT:-runs/speedrun${QUICK:+-quick}/$track-sigma}/$optimizer-$seed
    # shellcheck disable=SC2086 # one word a flag
    grep -qs '"reason": "done"' "$out/log.jsonl" || ./train_gpt $here/$track.json $flags --run.seed="$seed" --train.eval_every=0 \
        --train.save_every=0 --run.dir="$out" --overwrite ${QUICK:+--train.steps=4 --train.eval_tokens=2048 --train.final_eval_tokens=2048} > /dev/null
    losses="$losses $(sed -n 's/.*"event": "end".*"val_loss": \([0-9.]*\),.*/\1/p' "$out/log.jsonl")"
done
awk -v l="$losses" -v t="$track $optimizer" 'BEGIN { n = split(l, x, " "); for (i = 1; i <= n; i++) m += x[i] / n
    for (i = 1; i <= n; i++) s += (x[i] - m) ^ 2 / (n - 1); printf "%s: mean %.4f, standard deviation %.4f of %d seeds:%s\n", t, m, sqrt(s), n, l }'

#!/usr/bin/env bash
# The optimizer track: optimizers with the settings that search.sh found (TRACK.tuned), each to the end of its own schedule
# at several lengths, three seeds; tokens to the loss at which the first one ends, at the full length and at each, with intervals, in
# runs/speedrun/TRACK-compare.
#
#     [SEEDS="1 2 3"] [BUDGETS=0.25,0.5,1] [ARGS="--train.steps=200"] dev/speedrun/compare.sh shakespeare|kjv|gcide [OPTIMIZER ...]
#
# Only the optimizer, its schedule and the gradient's clipping may differ; build/ab refuses anything else.
set -euo pipefail
cd "$(dirname "$0")/../.."
track=${1:?shakespeare or kjv} here=dev/speedrun
shift
make -s all build/ab data CONFIG="$here/$track.json"
arms=()
for optimizer in ${*:-adamw muon muonclip}; do
    line=$(grep "^$optimizer " "${TUNED:-$here/$track.tuned}") || { echo "error: $optimizer: not in $track.tuned" >&2; exit 1; }
    read -r name _ flags <<< "$line"
    arms+=("$name=$here/$track.json,${flags// /,}")
done
# shellcheck disable=SC2086 # one word a flag
build/ab "${arms[@]}" --only=optimizer,schedule,train.grad_clip --seeds="${SEEDS:-1 2 3}" --budgets="${BUDGETS:-0.25,0.5,1}" \
    --out="${OUT:-runs/speedrun/$track-compare}" ${QUICK:+--train.steps=8 --train.eval_tokens=2048 --train.final_eval_tokens=2048} ${ARGS:-}

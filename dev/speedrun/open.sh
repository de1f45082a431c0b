#!/usr/bin/env bash
# The open track: seconds of training to a target loss, and beside it, on the same machine right after, what the baseline does.
#
#     [SEED=1] [ARGS="--train.precision=bf16"] dev/speedrun/open.sh [shakespeare|kjv|gcide]
#
# shakespeare: a validation loss of 1.4697 over tiny Shakespeare's whole validation split; the baseline is nanoGPT's recipe in
# PyTorch for as many seconds (in bf16 where ours is). PyTorch lives in build/venv (make bench-torch makes it, 3 GB) or where MUON_VENV
# says; without it, our run alone. kjv, gcide: the loss at which AdamW ends in the optimizer track; the baseline is that run.
set -euo pipefail
cd "$(dirname "$0")/../.."
track=${1:-shakespeare} seed=${SEED:-1} here=dev/speedrun
config=$here/open_$track.json out=${OUT:-runs/speedrun${QUICK:+-quick}/open_$track-$seed$(tr -cs 'a-zA-Z0-9.=_\n' - <<< "${ARGS:-}")}
read -r _ target _ < <(grep "^open_$track " $here/targets) || { echo "error: $track: not an open track of $here/targets" >&2; exit 2; }
make -s all data CONFIG="$config"

train() {                               # FOLDER CONFIG FLAG ...; says "loss seconds"
    if [ ! -e "$1/log.jsonl" ]; then
        ./train_gpt "$2" --run.dir="$1" --run.seed="$seed" ${QUICK:+--train.steps=4 --train.eval_tokens=2048 --train.final_eval_tokens=2048} "${@:3}" >&2
    elif ! grep -q '"reason": "done"' "$1/log.jsonl"; then ./train_gpt --run.dir="$1" --resume >&2; fi
    sed -n 's/.*"event": "end".*"val_loss": \([0-9.]*\), "train_seconds": \([0-9.]*\),.*/\1 \2/p' "$1/log.jsonl" | tail -n 1
}
say() { awk -v w="$1" -v l="$2" -v s="$3" -v t="$target" 'BEGIN { printf "%s: validation loss %.4f after %.1f seconds of training: %s %.4f\n", w, l, s, (l <= t ? "reached" : "missed"), t }'; }

# shellcheck disable=SC2086 # one word a flag
result=$(train "$out" "$config" ${ARGS:-})
read -r loss seconds <<< "$result"
say muon.c "$loss" "$seconds"
if [ "$track" != shakespeare ]; then
    read -r _ _ flags < <(grep "^adamw " "$here/$track.tuned") || { echo "error: $here/$track.tuned: no adamw" >&2; exit 1; }
    # shellcheck disable=SC2086
    result=$(train "$out-adamw" "$here/$track.json" $flags --train.eval_every=0 --train.save_every=0)
    read -r loss seconds <<< "$result"
    say "AdamW, the track's baseline" "$loss" "$seconds"
    exit 0
fi
python=${MUON_VENV:-build/venv}/bin/python
bf16=$(grep -q '"event": "start".*"precision": "bf16"' "$out/log.jsonl" && echo --bf16 || true)
if [ -x "$python" ]; then
    # shellcheck disable=SC2086 # a flag or nothing
    "$python" $here/nanogpt_recipe.py build/data/shakespeare --seconds="$seconds" $bf16 | tee "$out/nanogpt.txt" | tail -n 1
else
    echo "nanoGPT's recipe: not run, since there is no PyTorch in ${MUON_VENV:-build/venv}"
fi

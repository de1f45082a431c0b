#!/usr/bin/env bash
# The open track: seconds of training to a validation loss of 1.4697 on tiny Shakespeare (whole validation split), and
# beside it, on the same machine right after, what nanoGPT's recipe in PyTorch reaches in as many seconds.
#
#     [SEED=1] [ARGS="--train.precision=bf16"] dev/speedrun/open.sh [CONFIG]        dev/speedrun/open_shakespeare.json
#
# Where ours trains in bf16, PyTorch does, too (autocast).
#
# PyTorch lives in build/venv (make bench-torch makes it, 3 GB) or where MUON_VENV says; without it, our run alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
config=${1:-dev/speedrun/open_shakespeare.json} seed=${SEED:-1} target=1.4697
out=${OUT:-runs/speedrun/open-$(basename "$config" .json)-$seed}
make -s all data CONFIG="$config"
# shellcheck disable=SC2086 # one word a flag
if [ ! -e "$out/log.jsonl" ]; then ./train_gpt "$config" --run.dir="$out" --run.seed="$seed" ${QUICK:+--train.steps=4 --train.eval_tokens=2048} ${ARGS:-}
elif ! grep -q '"reason": "done"' "$out/log.jsonl"; then ./train_gpt --run.dir="$out" --resume; fi
read -r loss seconds < <(sed -n 's/.*"event": "end".*"val_loss": \([0-9.]*\), "train_seconds": \([0-9.]*\),.*/\1 \2/p' "$out/log.jsonl" | tail -n 1)
awk -v l="$loss" -v s="$seconds" -v t=$target 'BEGIN { printf "muon.c: validation loss %.4f after %.0f seconds of training: %s %.4f\n", l, s, l <= t ? "reached" : "missed", t }'
python=${MUON_VENV:-build/venv}/bin/python
bf16=$(grep -q '"event": "start".*"precision": "bf16"' "$out/log.jsonl" && echo --bf16 || true)
if [ -x "$python" ]; then
    # shellcheck disable=SC2086 # a flag or nothing
    "$python" dev/speedrun/nanogpt_recipe.py build/data/shakespeare --seconds="$seconds" $bf16 | tee "$out/nanogpt.txt" | tail -n 1
else
    echo "nanoGPT's recipe: not run, since there is no PyTorch in build/venv"
fi

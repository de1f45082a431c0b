#!/usr/bin/env bash
# make study NAME=qk-clip [QUICK=1]. The config, steps, seeds of the healthy case and of the others, keys.
# minutes: 24
# needs: tokenize
set -euo pipefail
data/prepare.sh kjv
experiment=(dev/exp/qk-clip/config.json 300 3 3 tune)
[ -z "$QUICK" ] || experiment=(dev/exp/qk-clip/config.json 80 1 1 --model.layers=2 --train.batch=4 --train.eval_tokens=16384 --train.final_eval_tokens=16384)
"$BUILD/study_qk-clip" "$OUT" "${experiment[@]}"

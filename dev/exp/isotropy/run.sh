#!/usr/bin/env bash
# make study NAME=isotropy [QUICK=1]. The config, its steps, how many seeds, and keys of the config.
# minutes: 9
# needs: tokenize
set -euo pipefail
data/prepare.sh kjv
experiment=(dev/exp/isotropy/config.json 400 3)
[ -z "$QUICK" ] || experiment=(dev/exp/isotropy/config.json 60 1 --model.layers=2 --train.batch=8 --train.eval_tokens=8192 --train.final_eval_tokens=8192)
"$BUILD/study_isotropy" "$OUT" "${experiment[@]}"

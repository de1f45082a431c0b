#!/usr/bin/env bash
# make study NAME=duality [QUICK=1]. The config, how many steps it is trained, how many seeds, and keys of the config.
# minutes: 8
# needs: tokenize
set -euo pipefail
data/prepare.sh kjv
experiment=(dev/exp/duality/config.json 200 3)
[ -z "$QUICK" ] || experiment=(dev/exp/duality/config.json 60 1 --model.layers=2 --train.batch=8)
"$BUILD/study_duality" "$OUT" "${experiment[@]}"

#!/usr/bin/env bash
# make study NAME=heavy-tail [QUICK=1]. How many seeds; config and steps of the facts and of the text.
# minutes: 20
# needs: tokenize
set -euo pipefail
data/prepare.sh --config=dev/exp/heavy-tail/text.json
experiment=(3 dev/exp/heavy-tail/facts.json 1000 dev/exp/heavy-tail/text.json 600)
[ -z "$QUICK" ] || experiment=(1 dev/exp/heavy-tail/facts.json 300 dev/exp/heavy-tail/text.json 60 quick)
"$BUILD/study_heavy-tail" "$OUT" "${experiment[@]}"

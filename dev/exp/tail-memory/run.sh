#!/usr/bin/env bash
# make study NAME=tail-memory [QUICK=1]: its program does everything. BUILD, OUT and QUICK are the Makefile's.
# minutes: 4
set -euo pipefail
"$BUILD/study_tail-memory" "$OUT" ${QUICK:+quick}

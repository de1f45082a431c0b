#!/usr/bin/env bash
# make study NAME=scaling [QUICK=1]: how does the loss fall with parameters, text and vocabulary, under Muon and under AdamW?
# minutes: 50
# needs: tokenize trainer
#
# Every run is trained by one thread, two at a time, and kept in runs/lab/scaling: the study goes on where it was stopped.
# ONLY="muon kjv": those of the plan whose line matches. GO_ON=1: what dev/exp/scaling/runs.csv has is not trained again.
. dev/exp/lab.sh
here=dev/exp/scaling
folder=${RUNS_DIR:-runs}/lab/scaling
[ -z "$QUICK" ] || folder=$OUT/runs
mkdir -p "$folder" "$OUT"
export here folder GO_ON="${GO_ON:-}" trainer="${TRAINER:-./train_gpt}" DATA_ROOT="${DATA_ROOT:-build/data}" QUICK

# One line of the plan: optimizer text vocabulary layers width steps seed rate, and "held" where it is kept out of the fit; a step is 16 x 128
# tokens. Heads have 32 numbers.
# $one, for a shell that xargs starts. It prints a row of runs.csv.
# shellcheck disable=SC2016 # that shell's
one='set -eu
optimizer=$1 text=$2 vocab=$3 layers=$4 width=$5 steps=$6 seed=$7 rate=$8 held=${9:+1}
run=$folder/$1-$2-$3-$4-$5-$6-$7-$8
data=$DATA_ROOT/$text-bpe$vocab
if [ -n "$GO_ON" ] && grep "^$optimizer,$text,$vocab,$layers,$width,[0-9]*,$((steps * 2048)),[0-9]*,$seed,$rate," $here/runs.csv; then exit; fi
case $optimizer in
    muon) rates="--optimizer.name=muonclip --optimizer.muon.scale=keller --optimizer.muon.lr=$rate --optimizer.adamw.lr=0.01" ;;
    adamw) rates="--optimizer.name=adamw --optimizer.adamw.lr=$rate --optimizer.adamw.embed_lr=0.01 --optimizer.adamw.head_lr=0.01" ;;
esac
if ! grep -qs "^{\"event\": \"end\".*\"done\"" "$run/log.jsonl"; then
    OMP_NUM_THREADS=1 "$trainer" configs/default.json --run.dir="$run" --overwrite --run.seed="$seed" --data.dir="$data" --model.vocab="$vocab" \
        --model.layers="$layers" --model.width="$width" --model.heads=$((width / 32)) --model.kv_heads=$((width / 32)) --train.steps="$steps" \
        --train.eval_every=0 --train.save_every=0 --train.sample_tokens=0 --train.eval_tokens=2048 --train.final_eval_tokens=${QUICK:+2048}${QUICK:-65536} \
        $rates > "$run.txt" 2>&1 < /dev/null || { tail -n 2 "$run.txt" >&2; exit 1; }
fi
words() { sed -n "s/.*\"$1\": \"*\([^,}\"]*\).*/\1/p" "$run/log.jsonl" | tail -n 1; }
mlp=$(words mlp_width)
weights=$((layers * (4 * width * width + 3 * width * mlp) + vocab * width))
echo "$optimizer,$text,$vocab,$layers,$width,$weights,$((steps * 2048)),$(words epoch_tokens),$seed,$rate,$(words val_loss),$(words val_bpb),${held:-0}"'

plan=$here/plan.txt
if [ -n "$QUICK" ]; then
    printf 'muon kjv 1024 1 32 %d 1 0.02\nadamw kjv 1024 1 32 %d 1 0.01\n' 6 6 > "$OUT/plan.txt"
    plan=$OUT/plan.txt
fi
grep -v '^#' "$plan" | grep -- "${ONLY:-}" > "$folder/plan.txt"
awk '{ print $2, $3 }' "$folder/plan.txt" | sort -u | while read -r text vocab; do VOCAB=$vocab data/prepare.sh "$text" bpe; done
echo "optimizer,text,vocab,layers,width,params,tokens,epoch_tokens,seed,rate,loss,bpb,held_out" > "$folder/runs.csv"
xargs -P 2 -L 1 sh -c "$one" sh < "$folder/plan.txt" | sort >> "$folder/runs.csv"

# How well deflate packs the first MiB of each text, its documents without anything between them: what is not law but text.
echo "text,bits_per_byte_of_deflate" > "$folder/texts.csv"
for text in $(awk '!seen[$2]++ { print $2 }' "$folder/plan.txt"); do
    data/prepare.sh "$text" byte
    echo "$text,$( (set +o pipefail; lab_text "$text" train 2>/dev/null | head -c 1048576 | "$BUILD/study_scaling" --deflate) )" >> "$folder/texts.csv"
done
"$BUILD/study_scaling" "$folder"
for table in runs.csv texts.csv fit.csv law.json scaling.png; do cp "$folder/$table" "$OUT"; done
if [ "$OUT" = "$here" ]; then mv "$OUT/law.json" configs/law.json; fi        # make study KEEP=1: the law that make train MINUTES= goes by
[ -z "$QUICK" ] || echo "holds: a law was fitted ($(wc -l < "$OUT/fit.csv") lines)"

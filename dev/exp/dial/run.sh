#!/usr/bin/env bash
# make study NAME=dial [MINUTES="1 3"] [QUICK=1]: does `make train MINUTES=` choose well, against half and twice its width and vocabulary in the same minutes?
# minutes: 330
# needs: plan tokenize eval chart
#
# Minutes of one thread; as many trainings at a time as there are cores, which nothing else should use: they end by the clock. Each is
# kept in runs/lab/dial, and the study goes on where it was stopped. JOBS=1: one at a time. TEXTS="kjv": others than these three.
. dev/exp/lab.sh
MINUTES=${MINUTES:-1 3 10 30} TEXTS=${TEXTS:-kjv gcide jargon}         # the law is fitted to the first two
folder=${RUNS_DIR:-runs}/lab/dial
[ -z "$QUICK" ] || { MINUTES=0.2 TEXTS=kjv folder=$OUT/runs; rm -rf "$folder"; }
arms=(choice {half,twice}\ the\ width {half,twice}\ the\ vocabulary)
mkdir -p "$folder" "$OUT"
export folder BUILD QUICK DATA_ROOT="${DATA_ROOT:-build/data}" TRAINER="${TRAINER:-./train_gpt}"

# What all arms of a text are judged by, which their tokens of validation are not, since each divides it in another way: eight pieces of
# 50 kB, whole lines, spread over its validation, or all of it where it is no longer.
for text in $TEXTS; do
    data/prepare.sh "$text" byte
    [ ! -s "$folder/$text.txt" ] || continue
    lab_text "$text" val > "$folder/$text.all"
    size=$(wc -c < "$folder/$text.all")
    if [ "$size" -le 400000 ]; then cat "$folder/$text.all"
    else for piece in {0..7}; do dd if="$folder/$text.all" iflag=skip_bytes,count_bytes,fullblock skip=$((piece * (size / 8))) count=50000 status=none | sed '1d;$d'; done
    fi > "$folder/$text.part"
    mv "$folder/$text.part" "$folder/$text.txt" && rm "$folder/$text.all"
done

# One text and budget: the choice, then what is against it, one after the other. Each begins with nothing prepared. A line of results.csv each.
# shellcheck disable=SC2016 # that shell's
one='set -eu
minutes=$1 text=$2
arm() {
    run=$folder/$minutes-$text-$1
    name=$1
    shift
    [ ! -s "$run/row.csv" ] || return 0
    code=0
    if ! grep -qs " planned .* used " "$run/plan.txt"; then
        rm -rf "$run" && mkdir -p "$run"
        DATA_ROOT=$run/data OMP_NUM_THREADS=1 "$BUILD/plan" --minutes="$minutes" --data="$text" "$@" --run.dir="$run/run" > "$run/plan.txt" 2>&1 \
            < /dev/null || code=$?
    fi
    if [ $code = 2 ]; then              # nothing of this kind fits
        echo "$minutes,$text,$name,,,,,,,,," > "$run/row.csv"
    elif [ $code != 0 ]; then
        tail -n 2 "$run/plan.txt" >&2; exit 255                # stops the others, too
    else
        bits=$(OMP_NUM_THREADS=1 "$BUILD/eval" "$run/run" "$folder/$text.txt" --json | sed "s/.*\"bits_per_byte\": \([0-9.]*\).*/\1/")
        plan=$(sed -n "s/^plan .*: \([0-9.]*[kMG]\) parameters.*expected [a-z ]*\([0-9.]*\).*/\1,\2/p" "$run/plan.txt")
        used=$(sed -n "s/.* used \([0-9:]*\)[ s]*; .*/\1/p" "$run/plan.txt")
        echo "$minutes,$text,$name,$(key layers),$(key width),$(key vocab),${plan%,*},$(words tokens),$used,${plan#*,},$(words val_bpb),$bits" > "$run/row.csv"
    fi
    rm -rf "$run/data"
}
key() { sed -n "s/^{\"event\": \"start\".*\"model\": {[^}]*\"$1\": \([0-9]*\).*/\1/p" "$run/run/log.jsonl"; }
words() { sed -n "s/^{\"event\": \"eval\".*\"$1\": \([0-9.]*\).*/\1/p" "$run/run/log.jsonl" | tail -n 1; }
arm choice
width=$(cut -d, -f5 "$run/row.csv") vocab=$(cut -d, -f6 "$run/row.csv")
arm "half the width" --model.width=$((width / 2))
arm "twice the width" --model.width=$((2 * width))
[ -z "$QUICK" ] || exit 0
arm "half the vocabulary" --vocab=$((vocab / 2))
arm "twice the vocabulary" --vocab=$((2 * vocab))'
for minutes in $MINUTES; do for text in $TEXTS; do echo "$minutes $text"; done; done | xargs -P "${JOBS:-$(nproc)}" -L 1 sh -c "$one" sh

{
    echo "minutes,text,arm,layers,width,vocab,params,tokens,used,expected,validation,bpb"
    for minutes in $MINUTES; do for text in $TEXTS; do
        for arm in "${arms[@]}"; do cat "$folder/$minutes-$text-$arm/row.csv" 2>/dev/null || [ -n "$QUICK" ]; done
    done; done
} > "$OUT/results.csv"

# A row a choice: what it is, what it came to, and the others' bits per byte against its own.
awk -F, 'function row() { if (n) print line " |" } NR == 1 { print "| minutes | text | the choice | expected | its validation | the pieces | half the width | twice the width | half the vocabulary | twice the vocabulary |"
        print "|---|---|---|---|---|---|---|---|---|---|"; next }
    $3 == "choice" { row(); n++; own = $12; line = "| " $1 " | " $2 " | " $4 " x " $5 ", V " $6 " | " $10 " | " sprintf("%.3f | %.4f", $11, $12); next }
    { line = line sprintf(" | %s", $12 == "" ? "nothing fits" : sprintf("%+.1f %%", 100 * ($12 / own - 1))) } END { row() }' "$OUT/results.csv"
for text in $TEXTS; do
    echo "panel $text|minutes of one thread|bits per byte|xlog"
    for arm in "${arms[@]}"; do
        echo "$([ "$arm" = choice ] && echo line || echo points) $arm"
        awk -F, -v t="$text" -v a="$arm" '$2 == t && $3 == a && $12 != "" { print $1, $12 }' "$OUT/results.csv"
    done
done | "$BUILD/chart" "$OUT/dial.png" "What the dial chose, and what it did not" 1200 420 1
read -r good widths all < <(awk -F, '$3 == "choice" { own = $12; all++; good++; widths++; missed = wide = 0 }
    $12 != "" && $12 < own / 1.01 { good -= !missed; missed = 1; if ($3 ~ /width/) { widths -= !wide; wide = 1 } } END { print good, widths, all }' "$OUT/results.csv")
echo "the choice is the best, or within 1 % of it, in $good of $all; among widths in $widths"
[ "$widths" = "$all" ] || { echo "error: an expected result was missed: half or twice the width is more than 1 % better in $((all - widths)) of $all" >&2; exit 1; }
echo "holds: neither half nor twice the width is more than 1 % better"

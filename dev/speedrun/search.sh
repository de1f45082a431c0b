#!/usr/bin/env bash
# The optimizer track's search: every optimizer's settings on one model, by coordinate descent at half the track's length
# with one seed. Each line of `coordinates` is a grid, tried with the best of the lines before it; a change is kept where
# it improves the loss by more than 0.003. The optimizers that the track is about get four coordinates or more, AdamW the rates of
# embedding and head apart too, since Muon has that by its nature, EMA-Nesterov (around Muon) its two settings; the others a learning
# rate. A grid of learning rates, decays or momenta (not of EMA-Nesterov's) is widened while its best lies at the edge.
#
#     dev/speedrun/search.sh shakespeare|kjv|gcide [OPTIMIZER ...]
#
# Runs are kept in runs/speedrun/TRACK/OPTIMIZER-N; what is there already is taken as it is. Writes TRACK.tuned, a line
# for each optimizer with the flags that were best, and prints each grid's losses.
set -euo pipefail
cd "$(dirname "$0")/../.."
track=${1:?shakespeare or kjv} here=dev/speedrun
shift
make -s all build/ab data CONFIG="$here/$track.json"
quick=${QUICK:+--train.steps=4 --train.eval_tokens=2048 --train.final_eval_tokens=2048}
out=${OUT:-runs/speedrun/$track} tuned=${TUNED:-$here/$track.tuned}
mkdir -p "$(dirname "$out")"
all="adamw muon muonclip normuon per_head ema_nesterov adamz adam sgd muon_rms msgds msgdq msgdz adams adamq"

name_of() {
    case $1 in
        muon_rms) echo "muon --optimizer.muon.scale=match_rms_adamw" ;;
        per_head) echo "muonclip --optimizer.muon.per_head=true" ;;
        ema_nesterov) echo "muon --optimizer.ema_nesterov.beta=0.3 --optimizer.ema_nesterov.gamma=0.97" ;;
        *) echo "$1" ;;
    esac
}

coordinates() {
    case $1 in
        adamw) echo "optimizer.adamw.lr=0.002,0.004,0.008"
               echo "optimizer.adamw.weight_decay=0.1,0.3,0.9"
               echo "optimizer.adamw.beta2=0.9,0.95,0.99"
               echo "schedule.warmup=0,0.05,0.15"
               echo "optimizer.adamw.embed_lr=0.01,0.02,0.04"
               [ "$track" = shakespeare ] || echo "optimizer.adamw.head_lr=0.005,0.01,0.02" ;;     # there it is the embedding
        muon | normuon | adamz | ema_nesterov)
               echo "optimizer.muon.lr=0.01,0.02,0.04"
               echo "optimizer.muon.weight_decay=0.03,0.1,0.3"
               echo "optimizer.adamw.lr=0.0025,0.005,0.01"
               if [ "$1" = adamz ]; then echo "optimizer.adamw.beta1=0.8,0.9,0.95"; else echo "optimizer.muon.momentum=0.8,0.9,0.95"; fi
               if [ "$1" = ema_nesterov ]; then
                   echo "optimizer.ema_nesterov.gamma=0.9,0.97,0.99"
                   echo "optimizer.ema_nesterov.beta=0.15,0.3,0.6"
               fi ;;
        muonclip | per_head)
               echo "optimizer.muon.lr=0.004,0.008,0.016"
               echo "optimizer.muon.weight_decay=0.1,0.3,0.9"
               echo "optimizer.adamw.lr=0.0025,0.005,0.01"
               echo "optimizer.muon.momentum=0.8,0.9,0.95" ;;
        adam)  echo "optimizer.adamw.lr=0.002,0.004,0.008" ;;
        sgd)   echo "optimizer.sgd.lr=0.1,0.2,0.4" ;;
        muon_rms) echo "optimizer.muon.lr=0.004,0.008,0.016" ;;
        msgds | msgdq) echo "optimizer.muon.lr=0.05,0.1,0.2" ;;
        msgdz | adams) echo "optimizer.muon.lr=0.005,0.01,0.02" ;;
        adamq) echo "optimizer.muon.lr=0.01,0.02,0.04" ;;
        *) echo "error: $1: one of $all expected" >&2; exit 2 ;;
    esac
}

# The best point of a sweep: its label (key=value without the section) and its loss.
best_of() {
    sed -n 's/^Best: \(.*\), validation loss \([0-9.]*\)\.$/\1 \2/p' "$1/report.md" | grep . ||
        { echo "error: $1/report.md: no run of the grid came to its end" >&2; return 1; }
}

touch "$tuned"
for optimizer in ${*:-$all}; do coordinates "$optimizer" > /dev/null || exit 2; done
for optimizer in ${*:-$all}; do
    # shellcheck disable=SC2046 # two words where there are two flags
    flags=$(printf ' --optimizer.name=%s' $(name_of "$optimizer" | sed 's/ --.*//'))$(name_of "$optimizer" | sed -n 's/[^ ]*\( --.*\)/\1/p')
    best="" number=0
    while read -r grid; do
        number=$((number + 1)) key=${grid%%=*} extend=
        case $key in *lr | *.weight_decay | *.momentum | *.beta1) extend=--extend ;; esac
        # shellcheck disable=SC2086 # one word a flag
        build/ab sweep $here/$track.json --grid="$grid" $extend --budget=0.5 --out="$out/$optimizer-$number" \
            --train.eval_every=0 --train.save_every=0 $flags $quick > "$out-$optimizer-$number.txt" || { tail -n 3 "$out-$optimizer-$number.txt" >&2; exit 1; }
        found=$(best_of "$out/$optimizer-$number")
        read -r label loss <<< "$found"
        if [ -z "$best" ] || awk "BEGIN { exit !($best - $loss > 0.003) }"; then
            best=$loss flags="$flags --$key=${label#*=}"
        fi
        echo "$track $optimizer $grid: best $label $loss"
    done < <(coordinates "$optimizer")
    grep -v "^$optimizer " "$tuned" > "$tuned.new" || true
    echo "$optimizer $best$flags" >> "$tuned.new"
    mv "$tuned.new" "$tuned"
done

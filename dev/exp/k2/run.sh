#!/usr/bin/env bash
# make study NAME=k2 [QUICK=1]: latent attention and experts against shared keys and one MLP of the same work for a token, with
# MuonClip and AdamW: per step and FLOP, and per second.
# minutes: 15
# needs: ab chart tokenize
. dev/exp/lab.sh
steps=200 each=40 turns=2 optimizers="MuonClip AdamW"
flags=(--data.dir=build/data/kjv --model.layers=3 --train.batch=8 --train.eval_tokens=65536 --train.final_eval_tokens=65536 --optimizer.adamw.embed_lr=0.01 --optimizer.adamw.head_lr=0.01)
[ -z "$QUICK" ] || { steps=40 each=10 turns=1 optimizers=MuonClip SEEDS=1; flags+=(--model.layers=2 --train.batch=4 --train.eval_tokens=16384 --train.final_eval_tokens=16384); }
lab_begin k2 "${flags[@]}"
data/prepare.sh kjv
declare -A config=([k2]=configs/k2.json [dense]=configs/k2_dense.json)
declare -A optimizer=([MuonClip]=--optimizer.name=muonclip [AdamW]=--optimizer.name=adamw) key=([MuonClip]=optimizer.muon.lr [AdamW]=optimizer.adamw.lr)
declare -A grid=([MuonClip]=0.005,0.01,0.02 [AdamW]=0.00125,0.0025,0.005)

# Tokens a second, of the median of all steps of short runs in turns; measured once, for a machine without other work.
speed=$lab_runs/speed.csv
if [ ! -e "$speed" ]; then
    for optimizer in $optimizers; do
        for arm in k2 dense; do
            for turn in $(seq $turns); do
                run=$lab_runs/speed-$arm-$optimizer-$turn
                "${TRAINER:-./train_gpt}" "${config[$arm]}" "${flags[@]}" "${optimizer[$optimizer]}" --train.eval_every=0 "--train.steps=$each" "--run.dir=$run" --overwrite > "$run.txt"
                sed -n 's/.*"event": "step", "step": \([0-9]*\), "tokens": \([0-9]*\),.* "ms": \([0-9.]*\),.*/\1 \2 \3/p' "$run/log.jsonl" |
                    awk -v of="$arm,$optimizer" '{ print of "," 1000 * $2 / $1 / $3 }'
            done
        done
    done | sort -t, -k1,2 -k3n | awk -F, '{ k = $1 "," $2; if (k != last && n) print last "," x[int((n + 1) / 2)]; if (k != last) n = 0; x[++n] = $3; last = k }
        END { print last "," x[int((n + 1) / 2)] }' > "$speed.part"
    mv "$speed.part" "$speed"
fi
cp "$speed" "$OUT/speed.csv"
of() { awk -F, -v a="$1" -v o="$2" '$1 == a && $2 == o { print $3 }' "$speed"; }
ratio() { awk -v a="$(of k2 "$1")" -v b="$(of dense "$1")" 'BEGIN { printf "%.3f", a / b }'; }

# Each arm at its own best rate, of whole runs, for that of half of them is too large; and the dense model once more, for as many seconds as the other one takes.
for optimizer in $optimizers; do
    for arm in dense k2; do
        [ -n "$QUICK" ] && best=0.01 || lab_search "$arm $optimizer" "${config[$arm]}" "${key[$optimizer]}=${grid[$optimizer]}" "${optimizer[$optimizer]}" "--train.steps=$steps" --budget=1
        own=("${optimizer[$optimizer]}" "--${key[$optimizer]}=$best")
        lab_arm "$arm $optimizer" "${config[$arm]}" "${own[@]}" "--train.steps=$steps"
        [ "$arm" = k2 ] || lab_arm "dense $optimizer longer" "${config[$arm]}" "${own[@]}" "--train.steps=$(awk -v s=$steps -v r="$(ratio "$optimizer")" 'BEGIN { printf "%d", s / r }')"
    done
done
lab_compare

flops() { sed -n 's/^size .* \([0-9.]*\) MFLOP a token.*/\1/p' "$lab_runs/speed-$1-MuonClip-1.txt"; }
echo "| optimizer | model | tokens a second | MFLOP a token | final loss | k2 against it, equal steps | equal seconds |"
echo "|---|---|---|---|---|---|---|"
for optimizer in $optimizers; do
    read -r loss error _ < <(lab_losses "k2 $optimizer")
    printf '| %s | k2 | %.0f | %s | %.4f ± %.4f | | |\n' "$optimizer" "$(of k2 "$optimizer")" "$(flops k2)" "$loss" "$error"
    read -r d de dv < <(lab_effect "k2 $optimizer" "dense $optimizer")
    read -r l le lv < <(lab_effect "k2 $optimizer" "dense $optimizer longer")
    read -r loss error _ < <(lab_losses "dense $optimizer")
    read -r long more _ < <(lab_losses "dense $optimizer longer")
    printf '| %s | dense | %.0f | %s | %.4f ± %.4f; %.4f ± %.4f | %+.4f ± %.4f, %s | %+.4f ± %.4f, %s |\n' "$optimizer" "$(of dense "$optimizer")" "$(flops dense)" \
        "$loss" "$error" "$long" "$more" "$d" "$de" "$dv" "$l" "$le" "$lv"
done
[ -n "$QUICK" ] || for arm in dense k2; do
    read -r d de dv < <(lab_effect "$arm MuonClip" "$arm AdamW")
    printf '%s: MuonClip against AdamW %+.4f ± %.4f, %s\n' "$arm" "$d" "$de" "$dv"
done
{
    for optimizer in $optimizers; do
        echo "panel $optimizer||validation loss, nats"
        printf '%s\n' "dense $optimizer" "dense $optimizer longer" "k2 $optimizer" | lab_points | sed "s/ $optimizer//g"
    done
    echo "panel Speed||tokens a second"
    echo "names $(paste -sd'|' <<< "$(printf '%s\n' $optimizers)")"
    for arm in dense k2; do
        echo "points $arm"
        i=0; for optimizer in $optimizers; do echo "$i $(of "$arm" "$optimizer")"; i=$((i + 1)); done
    done
} | "$BUILD/chart" "$OUT/k2.png" "Kimi K2 in miniature and its dense twin" 1200 440 1
lab_must "both do the same work for a token within 5 %" "$(flops k2)" "<" "1.05 * $(flops dense)"
lab_must "latent attention and experts train" "$(lab_losses "k2 MuonClip" | cut -d" " -f1)" "<" 2.7
read -r difference error _ < <(lab_effect "k2 MuonClip" "dense MuonClip longer")
[ -n "$QUICK" ] || lab_must "in equal seconds the dense model ends lower" "$difference" ">" "3 * $error"

#!/usr/bin/env bash
# make study NAME=components [QUICK=1]: which matrices need Muon. Embedding and head stay on Adam at one rate throughout.
# minutes: 10
# needs: ab chart tokenize
. dev/exp/lab.sh
config=dev/exp/components/config.json
flags=()
[ -z "$QUICK" ] || flags+=(--train.steps=60 --train.batch=4 --model.layers=2)
lab_begin components "${flags[@]}"
data/prepare.sh kjv

mlp=mlp_gate=muon,mlp_in=muon,mlp_out=muon
declare -A route=([qk]=q=muon,k=muon [vo]=v=muon,o=muon [ffn]=$mlp [vo+ffn]=v=muon,o=muon,$mlp)
arms=(qk vo ffn vo+ffn)

lab_search adam $config optimizer.adamw.lr=0.002,0.004,0.008 --optimizer.name=adam
adam=(--optimizer.name=adam "--optimizer.adamw.lr=$best")
lab_search muon $config optimizer.muon.lr=0.01,0.02,0.04 "--optimizer.adamw.lr=$best"
muon_lr=$best
lab_arm adam $config "${adam[@]}"
lab_arm muon $config "${adam[@]:1}" "--optimizer.muon.lr=$muon_lr"
[ -n "$QUICK" ] || for arm in "${arms[@]}"; do       # half, once and twice all-Muon's rate, or beyond
    lab_search "$arm" $config "optimizer.muon.lr=$(awk "BEGIN { print $muon_lr / 2 \",\" $muon_lr \",\" $muon_lr * 2 }")" \
        "${adam[@]}" "--optimizer.route=${route[$arm]}"
    lab_arm "$arm" $config "${adam[@]}" "--optimizer.route=${route[$arm]}" "--optimizer.muon.lr=$best"
done
lab_compare
lab_table

# The share of the gap from Adam to Muon that an arm closes; low and high: 95 % of all resamples of the seeds, of three seeds all.
awk -F, '$4 == "done" { gsub(/"/, "", $1); loss[$1, $2] = $5; if (!seen[$1]++) arm[++arms] = $1; if (!is[$2]++) seed[++n] = $2 }
    END { print "arm,share,low,high"
        for (i = 1; i <= n; i++) { whole = 1; for (a = 1; a <= arms; a++) whole = whole && (arm[a], seed[i]) in loss
            if (whole && kept < 5) seed[++kept] = seed[i] }
        n = kept                                         # seeds that all arms have; n^n resamples of at most five
        for (a = 1; a <= arms; a++) { m = 0
            for (k = 0; k < n ^ n; k++) { gap = own = 0; rest = k
                for (i = 1; i <= n; i++) { s = seed[rest % n + 1]; rest = int(rest / n)
                    gap += loss["adam", s] - loss["muon", s]; own += loss["adam", s] - loss[arm[a], s] }
                x = own / gap; for (j = m++; j > 0 && v[j] > x; j--) v[j + 1] = v[j]; v[j + 1] = x }
            gap = own = 0
            for (i = 1; i <= n; i++) { gap += loss["adam", seed[i]] - loss["muon", seed[i]]; own += loss["adam", seed[i]] - loss[arm[a], seed[i]] }
            printf "%s,%.3f,%.3f,%.3f\n", arm[a], own / gap, v[int(0.025 * m) + 1], v[int(0.975 * m + 0.9999)] } }' \
    "$lab_csv" > "$OUT/shares.csv"
column -s, -t "$OUT/shares.csv" 2>/dev/null || cat "$OUT/shares.csv"
{
    echo "panel Final loss||validation loss, nats"
    lab_arms_of | lab_points
    echo "panel Share of the gap from Adam to Muon that is closed||share"
    echo "names $(lab_arms_of | paste -sd'|')"
    echo "points here"
    awk -F, 'NR > 1 { print NR - 2, $2, $3, $4 }' "$OUT/shares.csv"
    [ -n "$QUICK" ] || printf 'points arXiv 2509.26030, 160M parameters\n2 0.088\n3 0.445\n5 0.943\n'
} | "$BUILD/chart" "$OUT/components.png" "Which matrices need Muon" 980 440 1
read -r difference error _ < <(lab_effect muon adam)
lab_must "Muon on all matrices ends lower than Adam" "$difference" "<" 0
[ -n "$QUICK" ] || lab_must "the gap is at least 5 standard errors" "$difference" "<" "-5 * $error"

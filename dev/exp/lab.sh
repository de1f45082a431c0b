# lab.sh - what studies that compare trainings share: a search of a learning rate, a comparison with seeds, verdicts,
# tables and pictures, all by build/ab and from its runs.csv. For run.sh to source:
#
#     lab_begin NAME FLAG ...                  runs in runs/lab/NAME (QUICK: OUT/runs), where they go on and
#                                              are found again; FLAGs (--section.key=value) are common to all
#     lab_search ARM CONFIG KEY=V,V,V FLAG ... stage 1: half the steps, first seed, the grid widened while its best is at
#                                              the edge and there is a value beyond; sets `best` to the best value,
#                                              appends to grids.csv
#     lab_arm ARM CONFIG FLAG ...              an arm of stage 2, in the order of calls; the first is the baseline
#     lab_search_arms CONFIG KEY=V,V,V         arms of stage 2 on stdin, a line "ARM|FLAG ..." each, every one with its own best
#                                              value of the key (QUICK: the second one)
#     lab_compare [RUNS]                       stage 2: all arms, every seed of SEEDS ("1 2 3"), whole schedules; adds
#                                              the runs to runs.csv; the arms are then forgotten
#     lab_losses ARM [COLUMN]                  "mean error n" of its final losses, or of another column of runs.csv
#     lab_effect ARM BASE                      "difference error verdict": of final losses, ARM - BASE, same seeds, and
#                                              lower, higher or inconclusive (within 3 standard errors)
#     lab_arms_of                              the arms of runs.csv, a line each
#     lab_table                                runs.csv as a Markdown table, one row an arm
#     lab_point X                              "value error ..." on stdin as a point at X for build/chart, with its error bar
#     lab_points                               arms on stdin, a line each, as names and points of their final losses
#     lab_must "CLAIM" A OP B                  ends the study where the numbers don't hold
#     lab_text TEXT train|val                  the text of a split that data/prepare.sh has made of bytes, or of its first shard
# runs.csv and grids.csv come to OUT where the whole study came to its end.
# shellcheck shell=bash
set -euo pipefail

lab_begin() {
    study=$1 lab_common=("${@:2}") lab_arms=() best=
    lab_runs=${RUNS_DIR:-runs}/lab/$study
    [ -z "$QUICK" ] || { lab_runs=$OUT/runs; lab_common+=(--train.eval_tokens=16384 --train.final_eval_tokens=16384 --train.sample_tokens=0); }
    mkdir -p "$OUT" "$lab_runs"
    lab_csv=$lab_runs/runs.csv lab_grids=$lab_runs/grids.csv
    rm -f "$lab_csv" "$lab_grids"
    # Results that are kept change only where all of the study came to its end.
    trap 'if [ $? = 0 ]; then for table in "$lab_csv" "$lab_grids"; do [ ! -e "$table" ] || cp "$table" "$OUT"; done; fi' EXIT
    SEEDS=${SEEDS:-1 2 3}
}

# Output of build/ab goes into a file; what it printed last is shown where it fails.
lab_ab() {
    local log=$1
    "$BUILD/ab" "${@:2}" --trainer="${TRAINER:-./train_gpt}" --train.eval_every=0 --train.save_every=0 "${lab_common[@]}" < /dev/null > "$log" || { tail -n 3 "$log" >&2; return 1; }
}

lab_search() {
    local out="$lab_runs/search-$1" key=${3%%=*}
    lab_ab "$out.txt" sweep "$2" --grid="$3" --extend --budget=0.5 --seeds="${SEEDS%% *}" --out="$out" "${@:4}"
    best=$(sed -n 's/^Best: [^=]*=\(.*\), validation loss [0-9.]*\.$/\1/p' "$out/report.md")
    [ -n "$best" ] || { echo "error: $out/report.md: no run of the grid came to its end" >&2; return 1; }
    [ -e "$lab_grids" ] || echo "search,key,value,state,loss" > "$lab_grids"
    awk -F, -v a="$1" -v k="$key" 'NR > 1 { gsub(/"/, "", $1); sub(/[^=]*=/, "", $1); print a "," k "," $1 "," $4 "," $5 }' \
        "$out/runs.csv" | sort -t, -k3g >> "$lab_grids"
    echo "search $1: $key=$best"
}

lab_arm() {
    local flags
    flags=$(printf ',%s' "${@:3}")
    lab_arms+=("$1=$2${flags%,}")
}

lab_search_arms() {
    local arm what
    while IFS='|' read -r arm what; do
        best=$(cut -d, -f2 <<< "$2")
        # shellcheck disable=SC2086 # one word a flag
        [ -n "$QUICK" ] || lab_search "$arm" "$1" "$2" $what
        # shellcheck disable=SC2086
        lab_arm "$arm" "$1" $what "--${2%%=*}=$best"
    done
}

lab_compare() {
    local out="$lab_runs/${1:-compare}"
    lab_ab "$out.txt" "${lab_arms[@]}" --seeds="$SEEDS" --out="$out"
    if [ -e "$lab_csv" ]; then tail -n +2 "$out/runs.csv" >> "$lab_csv"; else cp "$out/runs.csv" "$lab_csv"; fi
    lab_arms=()
}

# Mean and standard error of column COLUMN (default: loss) over an arm's seeds that came to their end.
lab_losses() {
    awk -F, -v a="\"$1\"" -v c="${2:-loss}" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) k = i }
        $1 == a && $4 == "done" { x[++n] = $k; m += $k }
        END { if (!n) { print "nan nan 0"; exit } m /= n; for (i = 1; i <= n; i++) s += (x[i] - m) ^ 2
              e = n > 1 ? sqrt(s / (n - 1) / n) : 0; printf "%.8f %.8f %d\n", m, e, n }' "$lab_csv"
}

lab_effect() {
    awk -F, -v a="\"$1\"" -v b="\"$2\"" '$4 == "done" && $1 == a { x[$2] = $5 } $4 == "done" && $1 == b { y[$2] = $5 }
        END { for (s in x) if (s in y) { d[++n] = x[s] - y[s]; m += d[n] }
              if (!n) { print "nan nan inconclusive"; exit } m /= n; for (i = 1; i <= n; i++) v += (d[i] - m) ^ 2
              e = n > 1 ? sqrt(v / (n - 1) / n) : 0
              verdict = n < 3 || m * m <= 9 * e * e ? "inconclusive" : m < 0 ? "lower" : "higher"
              printf "%.8f %.8f %s\n", m, e, verdict }' "$lab_csv"
}

lab_arms_of() { awk -F, 'NR > 1 && !seen[$1]++ { gsub(/"/, "", $1); print $1 }' "$lab_csv"; }

lab_table() {
    local arm base mean error n difference of verdict diverged
    base=$(lab_arms_of | head -n 1)
    echo "| arm | final loss | against $base | seeds | diverged |"
    echo "|---|---|---|---|---|"
    while read -r arm; do
        read -r mean error n < <(lab_losses "$arm")
        read -r difference of verdict < <(lab_effect "$arm" "$base")
        diverged=$(awk -F, -v a="\"$arm\"" '$1 == a && $4 == "diverged"' "$lab_csv" | wc -l)
        printf '| %s | %.4f ± %.4f | %s | %d | %d |\n' "$arm" "$mean" "$error" \
            "$([ "$arm" = "$base" ] || printf '%+.4f ± %.4f, %s' "$difference" "$of" "$verdict")" "$n" "$diverged"
    done < <(lab_arms_of)
}

lab_point() { awk -v x="$1" '{ print x, $1, $1 - $2, $1 + $2 }'; }

lab_points() {
    local arms i
    mapfile -t arms
    (IFS='|'; echo "names ${arms[*]}")
    echo "points"
    for i in "${!arms[@]}"; do lab_losses "${arms[$i]}" | lab_point "$i"; done
}

lab_must() {
    case " $2 $4 " in *nan*) echo "error: $1: no run of an arm came to its end" >&2; exit 1 ;; esac
    if awk "BEGIN { exit !($2 $3 $4) }"; then echo "holds: $1 ($2 $3 $4)"
    else echo "error: an expected result was missed: $1 ($2 $3 $4 doesn't hold)" >&2; exit 1; fi
}

lab_text() {
    tail -c +1025 "$DATA_ROOT/$1-byte/$2_000000.bin" | "$BUILD/tokenize" decode --u16 --tokenizer="$DATA_ROOT/$1-byte/tokenizer.bin"
}

#!/usr/bin/env bash
# Brings docs/a-step.md up to date: the numbers of a step of the default run, two pictures, the lines that its links point to.
#
#     dev/a_step.sh            trains the default run and its AdamW twin to step 100 (a minute on 2 cores), into build/a-step
#     dev/a_step.sh --links    the lines only
#
# CONFIG, ADAMW, STEP and PAGE name other configs, another step and another page; ARGS adds keys to both configs.
# What stands in the page between <!-- explain: NAME --> and <!-- end --> is replaced by the section of the same name in the
# step.md that `train_gpt --explain` writes; pictures come to the page's folder.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build} trainer=${TRAINER:-./train_gpt} page=${PAGE:-docs/a-step.md} step=${STEP:-100}
folder=$(dirname "$page") out=$build/a-step

# A link [`name`](../FILE#L12) goes to the line of FILE where name is defined: the last one on a line
# that begins at its margin.
links() {
    grep -o '\[`[a-zA-Z0-9_]*`\](\.\./[^)#]*#L[0-9]*)' "$page" | sort -u | while IFS= read -r link; do
        name=${link#*\`} name=${name%%\`*} file=${link#*(../} file=${file%%#*}
        line=$(grep -nE "^[A-Za-z].*\b$name(, )?\(" "$file" | tail -n 1 | cut -d: -f1 || true)
        [ -n "$line" ] || { echo "error: $page: $file has no function $name" >&2; exit 1; }
        sed -i "s|\[\`$name\`\](\.\./$file#L[0-9]*)|[\`$name\`](../$file#L$line)|g" "$page"
    done
}

# explain CONFIG NAME: trains until the step is told; then the closed pipe ends the run.
explain() {
    data/prepare.sh "--config=$1" > "$out/prepared.txt"
    # shellcheck disable=SC2086
    { "$trainer" "$1" --explain="$step" --run.dir="$out/$2" --overwrite ${ARGS:-} 2>&1 || true; } | sed -n "/^explained step/q; /^error/p"
    [ -e "$out/$2/step$step/step.md" ] || { echo "error: $1: step $step was not told" >&2; exit 1; }
}

# The first hidden matrix of the last layer's MLP, by `of`: gradient, momentum or update (columns 4, 5, 6), over the largest.
spectrum() {
    awk -F, -v of="$2" -v tensor="$tensor" -v matrix="$matrix" '$1 == tensor && $2 == matrix {
        if ($3 == 1) largest = $of
        print $3, $of / largest }' "$out/$1/step$step/spectra.csv"
}

# The share of its directions that each tensor uses: the mean of its matrices' effective ranks over their number of directions.
shares() {
    awk -F, -v of="$2" -v wanted="$tensors" '
        FNR > 1 { key = $1 "," $2; if (!(key in n)) order[++keys] = key; n[key]++; square[key, n[key]] = $of * $of; energy[key] += $of * $of }
        END {
            for (i = 1; i <= keys; i++) {
                key = order[i]; entropy = 0
                for (k = 1; k <= n[key]; k++) { q = square[key, k] / energy[key]; if (q > 0) entropy -= q * log(q) }
                split(key, part, ","); sum[part[1]] += exp(entropy) / n[key]; count[part[1]]++
            }
            names = split(wanted, name, "|")
            for (i = 1; i <= names; i++) print i - 1, 100 * sum[name[i]] / count[name[i]]
        }' "$out/$1/step$step/spectra.csv"
}

pictures() {
    # The matrices under a rule for matrices are those that get no embedding, position or head.
    tensors=$(awk -F, 'FNR > 1 && $1 !~ /^(wte|wpe|head)$/ && !seen[$1]++ { printf "%s%s", sep, $1; sep = "|" }' "$out/muonclip/step$step/spectra.csv")
    tensor=${TENSOR:-w_in}
    matrix=$(awk -F, -v t="$tensor" '$1 == t { last = $2 } END { print last }' "$out/muonclip/step$step/spectra.csv")
    {
        echo "panel |number of the singular value, the largest first|singular value, over the largest|ylog"
        echo "dashed the gradient"; spectrum muonclip 4
        echo "line AdamW's step"; spectrum adamw 6
        echo "line MuonClip's step"; spectrum muonclip 6
    } | "$build/chart" "$folder/singular_values.png" "MuonClip's step goes nearly as far in rare directions as in common ones" 900 420 1
    {
        echo "panel ||effective rank, % of all directions|"
        echo "names $tensors"
        echo "points the gradient"; shares muonclip 4
        echo "points AdamW's step"; shares adamw 6
        echo "points MuonClip's step"; shares muonclip 6
    } | "$build/chart" "$folder/directions.png" "MuonClip's step uses most directions of every hidden matrix" 900 420 1
}

# What the log's first line says of `key`, without quotes.
logged() { sed -n "1s/.*\"$1\": \"*\([^\",}]*\).*/\1/p" "$out/muonclip/log.jsonl"; }

# The page with each section of step.md in its place, and one that says which program and machine it was.
sections() {
    printf '<!-- explain: run -->\nCommit %s, %s threads of %s, %s.\n<!-- end -->\n' "$(logged commit)" "$(logged threads)" \
        "$(logged cpu)" "$(logged isa)" >> "$out/muonclip/step$step/step.md"
    awk 'FNR == NR { if (/^<!-- explain: /) name = $0; if (name) text[name] = text[name] $0 "\n"; if (/^<!-- end -->/) name = ""; next }
         /^<!-- explain: / { if (!($0 in text)) { print "error: no section " $0 > "/dev/stderr"; exit 1 } printf "%s", text[$0]; skipped = 1 }
         !skipped { print }
         /^<!-- end -->/ { skipped = 0 }' "$out/muonclip/step$step/step.md" "$page" > "$out/page.md"
    cp "$out/page.md" "$page"
}

[ $# -eq 0 ] || [ "$*" = --links ] || { echo "usage: dev/a_step.sh [--links]" >&2; exit 2; }
if [ $# -eq 0 ]; then
    mkdir -p "$out"
    explain "${CONFIG:-configs/default.json}" muonclip
    explain "${ADAMW:-configs/default_adamw.json}" adamw
    sections
    pictures
fi
links

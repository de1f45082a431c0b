#!/bin/sh
# Runs test programs one after another and adds up their last lines: run.sh PROGRAM...
# A program that ends without its "N passed, N failed" line, such as by a signal, counts as one failure, and so does one in
# which no test ran.
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    echo "== $program"
    { "$program" 2>&1; echo "exit code $?" > "$log.code"; } | tee "$log"
    tally=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    code=$(sed -n 's/^exit code //p' "$log.code"); rm -f "$log.code"
    if [ -z "$tally" ] || [ "$tally" = "0 0" ] || { [ "$code" -ne 0 ] && [ "${tally#* }" -eq 0 ]; }; then
        echo "FAIL $program ended with exit code $code${tally:+ after $tally (passed, failed)}"
        tally="${tally:-0 0}"
        tally="${tally% *} $((${tally#* } + 1))"
    fi
    passed=$((passed + ${tally% *}))
    failed=$((failed + ${tally#* }))
done
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

#!/bin/sh
# Runs test programs and adds up their last lines: run.sh PROGRAMS...
# JOBS (the number of cores) of the arguments run at a time, the programs of one, which share files, one after the other. Each
# one's output appears as a whole when it ends. A program that ends
# without its "N passed, N failed" line, such as by a signal, counts as one failure, and so does one in which no test ran.
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT TERM
export logs GOMP_SPINCOUNT="${GOMP_SPINCOUNT-1000}"     # threads that wait leave the cores to the other programs

# Runs the programs of $1 and prints them; the tally of each becomes a line of $logs/tally.
run_one='for program in $1; do
    log=$(mktemp "$logs/XXXXXX")
    begin=$(date +%s)
    "$program" > "$log" 2>&1
    code=$?
    tally=$(sed -n "s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p" "$log" | tail -n 1)
    if [ -z "$tally" ] || [ "$tally" = "0 0" ] || { [ "$code" -ne 0 ] && [ "${tally#* }" -eq 0 ]; }; then
        echo "FAIL $program ended with exit code $code${tally:+ after $tally (passed, failed)}" >> "$log"
        tally="${tally:-0 0}"
        tally="${tally% *} $((${tally#* } + 1))"
    fi
    {
        flock 9
        echo "== $program ($(($(date +%s) - begin)) s)"
        cat "$log"
        echo "$tally" >> "$logs/tally"
    } 9> "$logs/lock"
    rm -f "$log"
done'
printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-$(nproc)}" sh -c "$run_one" sh
passed=0
failed=0
while read -r p f; do
    passed=$((passed + p))
    failed=$((failed + f))
done < "$logs/tally"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

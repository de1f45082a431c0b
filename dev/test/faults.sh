#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086,SC2091,SC2048,SC2231,SC2069 # a command's words; numbers; what goes to the pipe
# Faults by the thousand, beyond what `make test` has time for. From the project's folder, after `make` and make build/ab:
#
#   dev/test/faults.sh [kill] [ranks] [study] [data] [disk] [memory]     all of them, or those that are named
#
#   kill     KILLS (1000) trainings, each killed by SIGKILL after 20 to 400 ms and resumed: the weights of a run that wasn't
#   ranks    KILLS/20 trainings on four ranks (train_gpt_mpi of make all MPI=1, or RANKED), one of which is killed after 0.3 to 2.5 s and
#            that go on with two or four: all end within ten seconds, the exit code is 1, the weights those of one rank
#   study    KILLS/10 kills of ab and its trainings: likewise
#   data     KILLS/10 kills of data/prepare.sh: the folder is whole or not there, in the end that of a preparation that wasn't
#   disk     every program with a limit on files' sizes that grows, and on a full disk where it may mount a small one: one line
#            and exit code 1, or all is well; afterwards it goes on
#   memory   every program with its first allocation failing, its second, ... (STRIDE=1, at most ALLOCATIONS=2000 each)
#
# SEED (1) decides when. Works in build/faults; ends with exit code 1 where anything did not hold.
set -u
: "${KILLS:=1000}" "${SEED:=1}" "${STRIDE:=1}" "${ALLOCATIONS:=2000}" "${BUILD:=build}" "${TRAINER:=./train_gpt}"
export BUILD OMP_NUM_THREADS=1 GOMP_SPINCOUNT=1000
RANDOM=$SEED
work=build/faults
failures=0
trap '' XFSZ

wrong() { echo "WRONG $*"; failures=$((failures + 1)); }

rm -rf $work
mkdir -p $work
seq -f 'light and water, heaven and earth: %g' 400 > $work/text
"$BUILD/tokenize" shards --out=$work/data $work/text > $work/out || exit 1
cat > $work/run.json <<END
{"data": {"dir": "$work/data"}, "model": {"layers": 2, "heads": 2, "width": 16, "context": 16, "dropout": 0.1},
 "train": {"steps": 600, "batch": 6, "micro_batch": 3, "eval_every": 50, "eval_tokens": 256, "final_eval_tokens": 256, "save_every": 7,
           "sample_every": 100, "sample_tokens": 20}, "optimizer": {"qk_clip": {"tau": 0.01}}}
END

# weights FILE: a checkpoint's bytes behind the five numbers that are no weights (the seconds differ), without the checksum.
weights() {
    n=$(od -An -tu4 -j12 -N4 "$1" | tr -d ' ')
    tail -c +$((64 + 128 * n + 5 * 64 + 1)) "$1" | head -c -8 | cksum
}

# same_losses A B: the logs of two runs, without what depends on the clock.
losses() { grep -v '"start"\|"end"' "$1/log.jsonl" | sed 's/, "ms".*//; s/, "train_seconds".*//'; }

# killed COMMAND ...: runs it, kills it and its children after 20 to 400 ms. Its exit code, 137 where it was killed.
killed() {
    setsid "$@" > $work/out 2> $work/err &
    pid=$!
    sleep "$(printf '0.%03d' $((20 + RANDOM % 380)))"
    kill -KILL -- -$pid 2> /dev/null
    wait $pid 2> /dev/null
    code=$?
    while kill -0 -- -$pid 2> /dev/null; do sleep 0.01; done       # a child that draws may die later, with the folder's lock
    return $code
}

go_on() {      # FOLDER: what the command needs to go on with a run, or to begin it
    if [ -e "$1/checkpoint.bin" ] || [ -e "$1/checkpoint.prev.bin" ]; then echo "--resume"; else echo "$work/run.json --overwrite"; fi
}

train_killed() { killed $TRAINER $(go_on $work/run) --run.dir=$work/run; }

# until_done PART COMMAND ...: again and again while it is killed, which counts in kills. Fails where it ends by an error.
until_done() {
    part=$1
    shift
    while "$@"; code=$?; [ $code = 137 ]; do kills=$((kills + 1)); done
    [ $code = 0 ] || wrong "$part, kill $kills: exit code $code: $(cat $work/err)"
    return $code
}

test_kill() {
    $TRAINER $work/run.json --run.dir=$work/run > $work/out || { wrong "the run that is compared with"; return; }
    mv $work/run $work/whole                # a checkpoint has the run's config, and its folder in it
    kills=0 runs=0
    while [ $kills -lt "$KILLS" ]; do
        rm -rf $work/run
        until_done kill train_killed
        runs=$((runs + 1))
        [ $code = 0 ] || return
        [ "$(weights $work/run/checkpoint.bin)" = "$(weights $work/whole/checkpoint.bin)" ] || wrong "run $runs, kill $kills: other weights"
        [ "$(losses $work/run)" = "$(losses $work/whole)" ] || wrong "run $runs, kill $kills: another log"
        cmp -s $work/run/sample.txt $work/whole/sample.txt || wrong "run $runs, kill $kills: other samples"
    done
    echo "kill: $kills kills in $runs runs"
}

ranks_killed() {
    setsid dev/ranks.sh "$1" "$library" $RANKED $(go_on $work/run) --run.dir=$work/run > $work/out 2> $work/err &
    pid=$!
    sleep "$((RANDOM % 3)).$((3 + RANDOM % 7))"
    set -- $(pgrep -f "^$RANKED ")
    [ $# -eq 0 ] || { shift $((RANDOM % $#)); kill -KILL "$1" 2> /dev/null; }
    begin=$SECONDS
    wait $pid 2> /dev/null
    code=$?
    while pgrep -f "^$RANKED " > /dev/null; do sleep 0.05; done
    [ $code = 0 ] || [ $((SECONDS - begin)) -le 10 ] || wrong "ranks, kill $kills: $((SECONDS - begin)) seconds to the end"
    if [ $code = 1 ] && grep -q "^error: a rank died" $work/err; then return 137; fi
    return $code
}

test_ranks() {
    : "${RANKED:=${TRAINER}_mpi}"
    library=openmpi
    [ "${RANKED%mpich}" = "$RANKED" ] || library=mpich
    [ -x "$RANKED" ] || { echo "ranks: not tried: no $RANKED"; return; }
    sed -i 's/"batch": 6, "micro_batch": 3/"batch": 8, "parts": 8/' $work/run.json
    $TRAINER $work/run.json --run.dir=$work/run > $work/out || { wrong "the run that is compared with"; return; }
    rm -rf $work/whole && mv $work/run $work/whole
    kills=0 runs=0
    while [ $kills -lt $((KILLS / 20)) ]; do
        rm -rf $work/run
        until_done ranks ranks_killed $((2 + RANDOM % 2 * 2))
        runs=$((runs + 1))
        [ $code = 0 ] || return
        [ "$(weights $work/run/checkpoint.bin)" = "$(weights $work/whole/checkpoint.bin)" ] || wrong "ranks, run $runs, kill $kills: other weights"
        [ "$(losses $work/run)" = "$(losses $work/whole)" ] || wrong "ranks, run $runs, kill $kills: another log"
    done
    echo "ranks: $kills kills in $runs runs"
}

test_study() {
    set -- $work/run.json "$work/run.json,--optimizer.name=adamw" --trainer=$TRAINER --seeds="1 2" --train.steps=300
    "$BUILD/ab" "$@" --out=$work/again > $work/out 2>&1 || { wrong "the study that is compared with: $(tail -n 1 $work/out)"; return; }
    mv $work/again $work/study
    kills=0 studies=0
    while [ $kills -lt $((KILLS / 10)) ]; do
        rm -rf $work/again
        until_done study killed "$BUILD/ab" "$@" --out=$work/again
        studies=$((studies + 1))
        [ $code = 0 ] || return
        for run in $work/study/runs/*; do
            name=${run##*/}
            [ "$(weights $work/again/runs/"$name"/checkpoint.bin)" = "$(weights "$run"/checkpoint.bin)" ] || wrong "study $studies: $name: other weights"
        done
    done
    echo "study: $kills kills in $studies studies"
}

test_data() {
    seq -f 'a longer text for the preparation, line %g' 60000 > $work/long
    rm -rf $work/prepared $work/root
    DATA_ROOT=$work/prepared data/prepare.sh $work/long byte > $work/out || { wrong "the preparation that is compared with"; return; }
    kills=0 folders=0
    while [ $kills -lt $((KILLS / 10)) ]; do
        [ $((RANDOM % 3)) = 0 ] || rm -rf $work/root/long-byte          # now and then a damaged one is made anew
        [ ! -e $work/root/long-byte ] || truncate -s 5000 $work/root/long-byte/train_000000.bin
        until_done data killed env DATA_ROOT=$work/root data/prepare.sh $work/long byte
        folders=$((folders + 1))
        diff -r $work/prepared/long-byte $work/root/long-byte > /dev/null || wrong "data, kill $kills: another folder"
        [ "$(ls $work/root)" = long-byte ] || wrong "data, kill $kills: left behind: $(ls $work/root)"
    done
    echo "data: $kills kills in $folders preparations"
}

# said CODE WHAT: that a program with this exit code, its stderr in $work/err, did all or said why not in one line. OpenMP's
# threads are made by its runtime, which ends a program without memory in words of its own.
said() {
    [ "$1" -le 2 ] || wrong "$2: exit code $1: $(cat $work/err)"
    [ "$1" = 0 ] || grep -q '^error: \|^libgomp: Out of memory' $work/err || wrong "$2: exit code $1 and no error: $(cat $work/err)"
    [ "$(grep -c '^error: ' $work/err)" -le 1 ] || wrong "$2: more than one error: $(cat $work/err)"
}

# The programs, on a folder for what they write. rest: what must work afterwards, without the fault.
commands='train study shards prepare generate plot info print'
command_for() {
    case $1 in
        train)    echo "$TRAINER $work/run.json --train.steps=20 --overwrite --run.dir=$2/run" ;;
        study)    echo "$BUILD/ab $work/run.json $work/run.json,--optimizer.name=adamw --trainer=$TRAINER --train.steps=20 --out=$2/study" ;;
        shards)   echo "$BUILD/tokenize shards --tokenizer=byte --out=$2/shards $work/text" ;;
        prepare)  echo "env DATA_ROOT=$2/root data/prepare.sh $work/text byte" ;;
        generate) echo "$BUILD/generate $work/small --tokens=50" ;;
        plot)     echo "$BUILD/plot $work/small --out=$2/loss.png" ;;
        info)     echo "$BUILD/tokenize info $work/data" ;;
        print)    echo "$TRAINER $work/run.json --print-config" ;;
    esac
}
small() { [ -e $work/small ] || $TRAINER $work/run.json --train.steps=20 --run.dir=$work/small > $work/out || wrong "a small run"; }

test_disk() {
    small
    tries=0
    for blocks in 0 1 2 3 5 8 13 21 34 55 89 144 233 377 610; do
        for command in $commands; do
            rm -rf $work/limit
            mkdir $work/limit
            { (ulimit -f $blocks; eval "$(command_for $command $work/limit)") 2>&1 > $work/limit/out; echo $? > $work/code; } | cat > $work/err
            said "$(cat $work/code)" "$command with files up to $((blocks * 512)) bytes"
            rm -rf $work/limit/shards
            eval "$(command_for $command $work/limit)" > $work/out 2> $work/err || wrong "$command after it: $(cat $work/err)"
            tries=$((tries + 1))
        done
    done
    mkdir -p $work/disk
    if mount -t tmpfs -o size=16k none $work/disk 2> /dev/null; then
        for kb in 16 32 48 64 96 128 192 256 384 512 1024 2048; do
            mount -o remount,size=${kb}k $work/disk
            for command in $commands; do
                rm -rf $work/disk/*
                eval "$(command_for $command $work/disk)" > $work/disk/out 2> $work/err
                said $? "$command on a disk of $kb kB"
                tries=$((tries + 1))
            done
        done
        umount $work/disk
    else
        echo "disk: no small disk can be mounted here: only limits on files"
    fi
    echo "disk: $tries runs"
}

test_memory() {
    small
    cat > $work/failing.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static long left = -1, *shared;
__attribute__((constructor)) static void begin(void) { const char *at = getenv("FAIL_AT"); left = at ? atol(at) : 0; unsetenv("LD_PRELOAD"); }
static int fails(void) {
    if (left <= 0 || __atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED) != 0) return 0;
    int fd = open(getenv("FAIL_MARK"), O_WRONLY | O_CREAT, 0666);
    if (fd >= 0) close(fd);
    errno = ENOMEM;
    return (void)shared, 1;
}
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return fails() ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return fails() ? NULL : __libc_memalign(a, n); }
END
    ${CC:-cc} -shared -fPIC $work/failing.c -o $work/failing.so || { wrong "no failing allocations without a compiler"; return; }
    for command in $commands; do
        case $command in study | prepare) continue ;; esac              # of many processes
        n=1
        while [ $n -le "$ALLOCATIONS" ]; do
            rm -rf $work/limit $work/mark
            mkdir $work/limit
            FAIL_MARK=$work/mark FAIL_AT=$n LD_PRELOAD=$work/failing.so $(command_for $command $work/limit) > $work/out 2> $work/err
            code=$?
            [ -e $work/mark ] || break
            said $code "$command without its allocation $n"
            ! grep -q 'damaged\|not a line' $work/err || wrong "$command without its allocation $n: taken for damage: $(cat $work/err)"
            n=$((n + STRIDE))
        done
        echo "memory: $command, $((n - 1)) allocations"
    done
}

for part in ${*:-kill ranks study data disk memory}; do
    case $part in
        kill | ranks | study | data | disk | memory) test_$part ;;
        *) echo "error: $part: kill, ranks, study, data, disk or memory expected" >&2; exit 2 ;;
    esac
done
echo "$failures did not hold"
[ $failures = 0 ]

#!/usr/bin/env bash
# What ranks cost: dev/bench/ranks.sh [ROUNDS]      the first three of these, from the project's folder, on a quiet machine
#                  dev/bench/ranks.sh speed|plan    only the first two, only the third, which needs root for the slow networks
#                  dev/bench/ranks.sh loss          the fourth
#
# 1. Speed at 6 x 384, 16 sequences of 256 tokens: 2 ranks of 1 thread and 1 process of 2 threads in turns (medians of ROUNDS rounds),
#    and of the ranks' step the share that communication takes where nothing hides it.
# 2. Bytes that a rank sends in a step, beside 8 P (N - 1) / N.
# 3. The same exchange over TCP on a loopback whose rate is that of 1 and 10 Gbit/s for each of two ranks (a network namespace, tc's
#    token bucket), at 6 x 384 and 124M with one sequence a rank; and from it and the seconds that one process of this machine takes
#    for a pass and for the optimizer, how long 124M and 10 billion tokens take on N such nodes: the pass and the optimizer are
#    shared out, of the exchange nothing is hidden.
# 4. Losses of 200 steps of the default run on two ranks, gradients and weights as fp32 and as bf16, seeds 1, 2, 3.
# shellcheck disable=SC2086,SC2034,SC1003 # words; sizes by their name
set -euo pipefail
part=${1:-all} rounds=5
case $part in [1-9]*) rounds=$part part=all ;; esac
out=build/bench_ranks
mkdir -p $out
make all MPI=1 > $out/make.log 2>&1 || { tail -n 5 $out/make.log >&2; exit 1; }
make data DATA=kjv TOKENIZER=bpe > /dev/null
six="--model.layers=6 --model.heads=6 --model.width=384 --model.context=256 --model.mlp_width=1536 --train.batch=16"
gpt2="--model.arch=gpt2 --model.layers=12 --model.heads=12 --model.width=768 --model.context=64 --model.vocab=50257 --train.batch=2"
common="configs/default.json --train.eval_tokens=256 --train.final_eval_tokens=256 --train.eval_every=0 --train.sample_tokens=0 --overwrite --run.dir=$out/run --profile"

speed() { sed -n 's/.*"tok_per_s": \([0-9.]*\).*/\1/p' $out/run/log.jsonl | tail -n +2 | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
median() { sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
ranks_row() { sed -n 's/^           ranks  *\([0-9.]*\)  *\([0-9.]*\) %.*/\'"$1"'/p' $out/screen; }
step_ms() { sed -n 's/^profile .* steps of \([0-9.]*\) ms.*/\1/p' $out/screen; }
waited() { sed -n 's/^           rank 0 sent .* waited \([0-9.]*\) ms.*/\1/p' $out/screen; }
sent() { sed -n 's/^           rank 0 sent \([0-9.]*\) MB.*N: \([0-9.]*\)).*/\1 \2/p' $out/screen; }

losses() {
    for seed in 1 2 3; do
        for bytes in fp32 bf16; do
            OMP_NUM_THREADS=1 dev/ranks.sh 2 openmpi ./train_gpt_mpi configs/default.json --train.steps=200 --train.sample_tokens=0 --train.eval_every=0 \
                --train.dist_bytes=$bytes --run.seed=$seed --run.dir=$out/loss --overwrite --profile > $out/screen
            printf '%s %s %s %s\n' $bytes $seed "$(sed -n 's/^done: .*validation loss \([0-9.]*\).*/\1/p' $out/screen)" "$(sent)"
        done
    done | awk '{ print "seed " $2 ", " $1 ": validation loss " $3 ", " $4 " MB sent a step"; n[$1]++; s[$1] += $3; q[$1] += $3 * $3 }
                END { for (k in n) printf "%s: %.4f +- %.4f\n", k, s[k] / n[k], sqrt((q[k] / n[k] - (s[k] / n[k])^2) / (n[k] - 1)) }'
}

sed -n 's/^model name[^:]*: /machine: /p' /proc/cpuinfo | head -n 1
echo "commit: $(git describe --always --dirty --exclude '*'), $(nproc) cores"
if [ "$part" = loss ]; then losses; exit; fi
if [ "$part" != plan ]; then
for round in $(seq "$rounds"); do
    ./train_gpt $common $six --train.steps=4 > $out/screen
    speed >> $out/threads.$$
    OMP_NUM_THREADS=1 dev/ranks.sh 2 openmpi ./train_gpt_mpi $common $six --train.parts=2 --train.steps=4 > $out/screen
    speed >> $out/ranks.$$
    ranks_row 2 >> $out/share.$$
    awk "BEGIN { print 100 * $(waited) / $(step_ms) }" >> $out/waited.$$
    echo "round $round: 1 x 2 threads $(tail -n 1 $out/threads.$$) tok/s, 2 ranks x 1 thread $(tail -n 1 $out/ranks.$$); exchange $(tail -n 1 $out/share.$$) % of a step, of which rank 0 waits $(tail -n 1 $out/waited.$$) %"
done
read -r mb least <<< "$(sent)"
threads=$(median < $out/threads.$$) ranks=$(median < $out/ranks.$$)
echo "6 x 384: ratio $(awk "BEGIN { printf \"%.3f\", $ranks / $threads }"), exchange $(median < $out/share.$$) % of a step, waiting $(median < $out/waited.$$) %; $mb MB sent a step by a rank, formula $least"
rm -f $out/*.$$

# The optimizer's share on four ranks, where every matrix is stepped once; and where each of them steps all.
OMP_NUM_THREADS=1 dev/ranks.sh 4 openmpi ./train_gpt_mpi $common $six --train.parts=4 --train.steps=4 > $out/screen
sed -n 's/^           optimizer  *\([0-9.]*\)  *\([0-9.]*\) %.*/4 ranks, sharded: the optimizer takes \1 ms, \2 % of a step/p' $out/screen
OMP_NUM_THREADS=1 dev/ranks.sh 4 openmpi ./train_gpt_mpi $common $six --train.local_steps=1 --train.steps=4 > $out/screen
sed -n 's/^           optimizer  *\([0-9.]*\)  *\([0-9.]*\) %.*/4 ranks, each of which steps all: \1 ms, \2 % of a step/p' $out/screen
fi

[ "$part" != speed ] || exit 0
{ [ "$(id -u)" -eq 0 ] && command -v tc >/dev/null; } || { echo "slow networks: not measured (root and iproute2 are needed)"; exit 0; }
net=ranks$$
trap 'ip netns del $net' EXIT
ip netns add $net
ip netns exec $net ip link set lo up
exchange() {     # seconds a step that two ranks of the model $1 take at $2 Gbit/s, into $out/screen
    ip netns exec $net tc qdisc replace dev lo root tbf rate $((2 * $2))gbit burst 1mb latency 200ms
    OMP_NUM_THREADS=1 OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_pml=ob1 ip netns exec $net \
        dev/ranks.sh 2 openmpi ./train_gpt_mpi $common ${!1} --train.batch=2 --train.parts=2 --train.steps=4 > $out/screen
    awk "BEGIN { print $(ranks_row 1) / 1000 }"
}
printf '\n| model | Gbit/s | MB sent | exchange, s a step | by the formula, s |\n|---|---|---|---|---|\n'
for gbit in 1 10; do
    for model in six gpt2; do
        seconds[gbit]=$(exchange $model $gbit)
        read -r mb least <<< "$(sent)"
        awk -v m=$model -v g=$gbit -v mb="$mb" -v s="${seconds[gbit]}" -v least="$least" \
            'BEGIN { printf "| %s | %d | %.1f | %.3f | %.3f |\n", m == "six" ? "6 x 384" : "124M", g, mb, s, least * 1048576 * 8 / (g * 1e9) }'
    done
done

# One node: seconds a token without the optimizer, and the optimizer's seconds. Two ranks send P x 4 bytes each, N ranks 2 (N - 1) / N of it.
./train_gpt $common $gpt2 --model.context=256 --train.batch=4 --train.micro_batch=4 --train.steps=3 > $out/screen
optimizer=$(sed -n 's/^           optimizer  *\([0-9.]*\) .*/\1/p' $out/screen)
awk -v step="$(step_ms)" -v optimizer="$optimizer" -v slow="${seconds[1]}" -v fast="${seconds[10]}" 'BEGIN {
    token = (step - optimizer) / 1000 / (4 * 256); optimizer /= 1000
    printf "\n124M on one node: %.1f tokens/s without the optimizer, which takes %.2f s\n\n", 1 / token, optimizer
    print "| nodes | tokens a step | s a step, 10 Gbit/s | of one node'"'"'s speed, per node | days for 10 billion tokens | 1 Gbit/s: of one node'"'"'s speed | days |"
    print "|---|---|---|---|---|---|---|"
    for (batch = 32768; batch <= 524288; batch *= 16)
        for (n = 1; n <= 64; n *= n < 4 ? 2 : 4) {
            least = batch * token + optimizer; share = n > 1 ? 2 * (n - 1) / n : 0
            a = least / n + share * fast; b = least / n + share * slow
            printf "| %d | %d | %.1f | %.2f | %.0f | %.2f | %.0f |\n", n, batch, a, least / n / a, a * 1e10 / batch / 86400, least / n / b, b * 1e10 / batch / 86400
        } }'

#!/usr/bin/env bash
# What train.local_steps costs in loss and saves in bytes: dev/bench/local_steps.sh      from the project's folder
#
# Two ranks of one thread train the same number of tokens together (0) and alone for 1, 10 and 30 steps, with the keys' outer
# learning rate and momentum: final validation losses of three seeds, their mean, and the bytes that a rank sends in a step. A
# small model on characters; ARGS has further keys, STEPS, SEEDS and LOCAL other numbers.
# shellcheck disable=SC2086 # words
set -euo pipefail
steps=${STEPS:-300} seeds=${SEEDS:-1 2 3} locals=${LOCAL:-0 1 10 30}
out=build/local_steps
mkdir -p $out
make all MPI=1 > $out/make.log 2>&1 || { tail -n 5 $out/make.log >&2; exit 1; }
make data DATA=kjv > /dev/null
common="configs/default.json --data.dir=build/data/kjv --model.context=64 --train.batch=8 --train.steps=$steps --train.eval_every=0 --train.save_every=0
        --train.sample_tokens=0 --overwrite ${ARGS-}"
sed -n 's/^model name[^:]*: /machine: /p' /proc/cpuinfo | head -n 1
echo "commit: $(git describe --always --dirty --exclude '*'); $steps steps, 2 ranks; "$common
for seed in $seeds; do
    for k in $locals; do
        run=$out/$k-$seed
        OMP_NUM_THREADS=1 dev/ranks.sh 2 openmpi ./train_gpt_mpi $common --run.seed="$seed" --run.dir=$run \
            "$([ "$k" = 0 ] && echo --train.parts=2 || echo --train.local_steps="$k")" > $run.txt
        sed -n 's/.*"event": "end".*"val_loss": \([0-9.]*\).*"sent_bytes": \([0-9]*\).*/'"$k $seed"' \1 \2/p' $run/log.jsonl
    done
done | tee $out/runs.txt
echo "| local steps | validation loss, mean of the seeds | smallest, largest | MB a step |"
echo "|---|---|---|---|"
for k in $locals; do
    awk -v k="$k" '$1 == k { n++; sum += $3; sent = $4; if (n == 1 || $3 < low) low = $3; if ($3 > high) high = $3 }
                   END { printf "| %s | %.4f | %.4f, %.4f | %.3f |\n", k, sum / n, low, high, sent / 1e6 }' $out/runs.txt
done

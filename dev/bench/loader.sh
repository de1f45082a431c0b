#!/bin/sh
# What reading the data costs: trains the default model for 100 steps on the King James text and on 1 GB of shards (the
# same text 120 times over, in byte tokens, two bytes each), and prints for both the most memory, the share of a step
# that reading its batch takes, and the system calls of it. From the project's folder: dev/bench/loader.sh
set -eu
out=build/loader steps=${STEPS:-100}
make train_gpt build/tokenize >/dev/null
mkdir -p $out
if [ ! -e $out/large/train_000004.bin ]; then
    rm -rf $out/small $out/large
    (cd / && bible -f gen1:1-rev22:21 </dev/null) >$out/kjv.txt
    build/tokenize shards --tokenizer=byte --out=$out/small $out/kjv.txt
    for i in $(seq 120); do cat $out/kjv.txt; done >$out/kjv120.txt
    build/tokenize shards --tokenizer=byte --out=$out/large $out/kjv120.txt
    rm $out/kjv120.txt
fi
echo "| shards | bytes | most memory, MB | tok/s | reading, share of a step |"
echo "|---|---|---|---|---|"
for size in small large; do
    ./train_gpt configs/default.json --data.dir=$out/$size --train.steps="$steps" --train.eval_every=0 --train.eval_tokens=4096 --train.final_eval_tokens=4096 \
        --train.save_every=0 --run.dir=$out/run --overwrite --profile >$out/$size.txt
    bytes=$(cat $out/$size/train_*.bin | wc -c)
    memory=$(sed -n 's/.*at most \([0-9]*\) MB of memory.*/\1/p' $out/$size.txt)
    speed=$(sed -n 's/.*training (\([0-9]*\) tok.*/\1/p' $out/$size.txt)
    share=$(awk '$1 == "data" && $4 == "%" { print $2 " ms, " $3 " %" }' $out/$size.txt)
    echo "| $size | $bytes | $memory | $speed | $share |"
done

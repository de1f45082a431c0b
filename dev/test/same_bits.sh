#!/usr/bin/env bash
# Does a change leave every result as it was? Trains each preset for 20 steps in both precisions, and small models with
# every socket, with the trainer of COMMIT and with that of the working tree, and compares to the last bit: the losses and
# the gradients' norms of all steps, and every weight and every number of the optimizer's state in the checkpoints. From
# the project's folder; needs git, python3 and the King James text (`make data`). About ten minutes on 2 cores.
#
#     dev/test/same_bits.sh COMMIT [CASE ...]        CASE: words of the lines below that choose among them
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: dev/test/same_bits.sh COMMIT [CASE ...]" >&2; exit 2; }
commit=$(git rev-parse --short "$1^{commit}")
shift
root=build/same_bits old=build/same_bits/$commit
mkdir -p $root
if [ ! -x $old/train_gpt ]; then
    rm -rf "$old" && mkdir -p "$old"
    git archive "$commit" | tar x -C "$old"
    make -C "$old" train_gpt > $root/make.log 2>&1 || { cat $root/make.log >&2; exit 1; }
fi
make train_gpt
for tokenizer in char bpe; do make data DATA=kjv TOKENIZER=$tokenizer > /dev/null; done

tiny="--model.layers=2 --model.heads=4 --model.width=32 --model.block=32 --train.batch=6 --train.micro_batch=3"
cases() {
    for config in configs/*.json; do
        [ "$config" != configs/law.json ] || continue
        for precision in fp32 bf16; do
            echo "$(basename "$config" .json)_$precision $config --train.precision=$precision --train.batch=4"
        done
    done
    for rule in sgd rmsprop adam adamw muon normuon svd msgd msgds msgdq msgdz adams adamq adamz muonclip; do
        echo "rule_$rule configs/gpt2.json --optimizer.name=$rule $tiny"
    done
    echo "dropout configs/gpt2.json --model.dropout=0.1 $tiny"
    echo "recompute configs/default.json --model.dropout=0.1 --train.recompute=block $tiny"
    echo "clipped configs/default.json --optimizer.qk_clip.tau=0.05 $tiny"
    echo "clipped_biases configs/gpt2.json --optimizer.name=muonclip --optimizer.qk_clip.tau=0.05 $tiny"
    echo "packed configs/default.json --optimizer.muon.packed_qkv=true $tiny"
    echo "softcaps configs/speedrun.json --model.attn_softcap=20 --train.recompute=block $tiny"
    echo "gelu configs/gpt2.json --model.mlp=relu2 --model.norm=rmsnorm --model.position=rope --model.head=untied $tiny"
}

# The steps' losses and norms, then name, shape and checksum of every tensor of weights and of state.
numbers() {
    python3 - "$1" <<'PYTHON'
import hashlib, json, struct, sys
for line in open(sys.argv[1] + "/log.jsonl"):
    e = json.loads(line)
    if e["event"] == "step":
        print("step", e["step"], e["loss"], e["grad_norm"], e["lr"])
data = open(sys.argv[1] + "/checkpoint.bin", "rb").read()
for i in range(struct.unpack_from("<I", data, 12)[0]):
    name, _, ndim, *shape, offset, size = struct.unpack_from("<72sII4QQQ", data, 64 + 128 * i)
    name = name.rstrip(b"\0").decode()
    if name[:2] in ("w.", "m.", "v."):
        print(name, shape[:ndim], hashlib.sha256(data[offset:offset + size]).hexdigest()[:16])
PYTHON
}

failed=0 n=0
while read -r name config flags; do
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    data=build/data/kjv
    case $name in default*) data=build/data/kjv-bpe4096 ;; esac
    # shellcheck disable=SC2086 # one word a flag
    set_of="--data.dir=$data --train.steps=20 --train.eval_every=0 --train.eval_tokens=2048 --schedule.warmup=4 $flags"
    case $config in *speedrun*) set_of="$set_of --optimizer.muon.momentum_warmup=10" ;; esac
    for side in old new; do
        trainer=./train_gpt
        [ $side = new ] || trainer=$old/train_gpt
        # shellcheck disable=SC2086
        $trainer "$([ $side = new ] || echo "$old/")$config" $set_of --run.dir=$root/run_$side --overwrite > $root/$side.out 2>&1 ||
            { echo "FAIL $name: $trainer ended:"; tail -n 2 $root/$side.out; }
        numbers $root/run_$side > $root/$side.txt
    done
    n=$((n + 1))
    if cmp -s $root/old.txt $root/new.txt; then
        echo "same $name: $(grep -c ^step $root/new.txt) steps to loss $(awk '$1 == "step" { l = $3 } END { print l }' $root/new.txt), $(grep -c '^[wmv]\.' $root/new.txt) tensors"
    else
        failed=$((failed + 1))
        echo "DIFFERENT $name:"
        diff $root/old.txt $root/new.txt | head -n 6 || :
    fi
done < <(cases)
echo "$((n - failed)) of $n cases have the same bits as $commit"
[ $failed -eq 0 ] && [ $n -gt 0 ]

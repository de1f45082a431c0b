#!/usr/bin/env python3
"""A model exported for llm.c, in llm.c's own program: the same loss as here.

    make && make build/export build/logits && build/venv/bin/python -B dev/golden/check_llmc.py PATH/TO/train_gpt2

PATH/TO/train_gpt2: what llm.c's `make train_gpt2` builds of train_gpt2.c. It has its files by names that it knows: gpt2_124M.bin,
gpt2_tokenizer.bin and two of tokens, which are links to ours in build/check_llmc. Its first line of loss is the mean of five
batches of four sequences of 64 tokens, and within 1e-4 of what our logits of these tokens are. Needs numpy.
"""
import os
import re
import subprocess
import sys

import numpy as np

from exported import Folder, build, check, end, our_logits

BATCHES, SEQUENCES, CONTEXT = 5, 4, 64


def link(folder, name, to):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(os.path.abspath(to), path)


def their_loss(program, folder):
    process = subprocess.Popen([program], cwd=folder, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        found = re.match(r"val loss ([0-9.]+)", line)
        if found:
            process.kill()
            process.wait()
            return float(found.group(1))
    raise RuntimeError(f"{program} said no loss, and ended with exit code {process.wait()}")


def our_loss(run, tokens):
    losses = []
    for i in range(BATCHES * SEQUENCES):
        window = tokens[i * CONTEXT:(i + 1) * CONTEXT + 1]
        z = our_logits(run, window[:-1].tolist())
        z -= z.max(1, keepdims=True)
        losses.append((np.log(np.exp(z).sum(1)) - z[np.arange(CONTEXT), window[1:]]).mean())
    return np.mean(losses)


def main():
    program = os.path.abspath(sys.argv.pop(1))
    work = Folder("check_llmc")
    run = work.train("gpt2", "bpe", ["--model.arch=gpt2"])
    build("export", run, "--format=llmc", "--out=" + work.file("model"))
    shard = os.path.join(work.data("bpe"), "train_000000.bin")
    link(work.path, "gpt2_124M.bin", work.file("model/model.bin"))
    link(work.path, "gpt2_tokenizer.bin", work.file("model/tokenizer.bin"))
    for split in ("train", "val"):
        link(work.path, f"dev/data/tinyshakespeare/tiny_shakespeare_{split}.bin", shard)
    theirs, ours = their_loss(program, work.path), our_loss(run, np.fromfile(shard, np.uint16)[512:])
    check(abs(theirs - ours) <= 1e-4, f"llm.c's train_gpt2: loss {theirs:.6f}, here {ours:.6f}")
    end()


if __name__ == "__main__":
    main()

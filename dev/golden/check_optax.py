#!/usr/bin/env python3
"""A training by recipe optax, and the same by optax's rule restated in numpy: the losses of sixty steps.

    make && make data TOKENIZER=bpe && build/venv/bin/python -B dev/golden/check_optax.py

The model is that of configs/default.json, its tokens the first of the King James text: as many as one batch, so that every
step has the same ones, in any order. train_gpt says the losses and, with all rates at zero, the weights it begins with. Here
gradients are autograd's of model.py in float64, and the rule is that of optax.contrib.muon(rate, weight_decay=decay) 0.2.8 as its
documentation and source state it, with embedding and head under its AdamW. Within 1e-5. Three minutes. Needs torch, numpy.
"""
import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import torch

import golden_file
import model

STEPS, BATCH, CONTEXT = 60, 16, 128
RATE, DECAY, WARMUP, COOLDOWN = 0.001, 0.1, 6, 30
FOLDER, PREPARED = "build/check_optax", "build/data/kjv-bpe4096"
MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_in", "w_out")


def shard(path, tokens):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    with open(path, "wb") as f:
        f.write(header.tobytes() + tokens.astype("<u2").tobytes())


def prepare():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(f"{FOLDER}/data")
    tokens = np.fromfile(f"{PREPARED}/train_000000.bin", "<u2")[512:][: BATCH * CONTEXT + 1]
    for i in range(BATCH):  # a shard that holds one window gives that one in every epoch
        shard(f"{FOLDER}/data/train_{i:06}.bin", tokens[i * CONTEXT :][: CONTEXT + 1])
    shard(f"{FOLDER}/data/val.bin", tokens)
    shutil.copy(f"{PREPARED}/tokenizer.json", f"{FOLDER}/data")
    return tokens.astype(np.int64)


def train(name, *keys):
    """Return the config and the log of a run, and the weights at its end."""
    run = f"{FOLDER}/{name}"
    subprocess.run(["./train_gpt", "configs/default.json", f"--data.dir={FOLDER}/data", f"--run.dir={run}",
                    "--optimizer.recipe=optax", "--train.eval_every=0", "--train.sample_tokens=0", *keys], check=True,
                   stdout=subprocess.DEVNULL)
    with open(f"{run}/log.jsonl") as f:
        log = [json.loads(line) for line in f]
    with open(f"{run}/config.json") as f:
        config = json.load(f)
    with open(f"{run}/checkpoint.bin", "rb") as f:
        saved = golden_file.decode(f.read())
    return config, [e for e in log if e["event"] == "step"], {k[2:]: v for k, v in saved.items() if k.startswith("w.")}


def rate_factor(step):
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    return min(1, (STEPS - step) / COOLDOWN)


class Optax:
    """optax.contrib.muon in numpy, float64, with weights outputs x inputs."""

    def __init__(self):
        self.count, self.mean, self.square = 0, {}, {}

    def step(self, w, gradients, rate):
        self.count += 1
        for name, g in gradients.items():
            if name in MATRICES:
                w[name] -= rate * (np.stack([self.muon((name, i), x) for i, x in enumerate(g)]) + DECAY * w[name])
            else:
                w[name] -= rate * (self.nadam(name, g) + (DECAY * w[name] if name in ("wte", "head") else 0))

    def ahead(self, key, g, beta):
        """The mean of the gradients at the next step, each of its two parts corrected by its own count."""
        m = self.mean[key] = beta * self.mean.get(key, 0) + (1 - beta) * g
        return beta * m / (1 - beta ** (self.count + 1)) + (1 - beta) * g / (1 - beta**self.count)

    def muon(self, key, g):
        x = self.ahead(key, g, 0.95)
        x = x.T if g.shape[0] > g.shape[1] else x
        x = x / (np.linalg.norm(x) + 1e-8)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.T if g.shape[0] > g.shape[1] else x
        return math.sqrt(max(1, g.shape[0] / g.shape[1])) * x

    def nadam(self, name, g):
        v = self.square[name] = 0.999 * self.square.get(name, 0) + 0.001 * g * g
        return self.ahead(name, g, 0.9) / (np.sqrt(v / (1 - 0.999**self.count)) + 1e-8)


def main():
    torch.set_num_threads(2)
    tokens = prepare()
    rates = [f"--optimizer.muon.lr={RATE}", f"--optimizer.muon.weight_decay={DECAY}", f"--optimizer.adamw.lr={RATE}",
             f"--optimizer.adamw.weight_decay={DECAY}", "--schedule.kind=trapezoid", "--schedule.final=0", "--train.grad_clip=0"]
    _, _, start = train("start", "--train.steps=1", "--optimizer.muon.lr=0", "--optimizer.adamw.lr=0", "--schedule.warmup=0")
    config, log, _ = train("run", f"--train.steps={STEPS}", f"--schedule.warmup={WARMUP}", f"--schedule.cooldown={COOLDOWN}",
                           *rates)
    m = config["model"] | {"block": CONTEXT, "head_size": 0}
    w = {k: v.astype(np.float64).reshape(dict(model.tensor_shapes(m))[k]) for k, v in start.items()}
    inputs, targets = (torch.tensor(x.reshape(BATCH, CONTEXT)) for x in (tokens[:-1], tokens[1:]))
    optimizer, worst = Optax(), 0.0
    for step, line in enumerate(log):
        leaves = {k: torch.tensor(v, requires_grad=True) for k, v in w.items()}
        loss = model.forward(m, leaves, inputs, targets)[0]
        gradients = dict(zip(leaves, (g.numpy() for g in torch.autograd.grad(loss, list(leaves.values())))))
        worst = max(worst, abs(loss.item() - line["loss"]))
        if step % 10 == 0 or step == STEPS - 1:
            print(f"step {step + 1}: {line['loss']:.6f}, restated {loss.item():.6f}", flush=True)
        optimizer.step(w, gradients, RATE * rate_factor(step))
    print(f"largest difference of a loss in {len(log)} steps: {worst:.1e}")
    sys.exit(0 if len(log) == STEPS and worst <= 1e-5 else "not within 1e-5")


if __name__ == "__main__":
    main()

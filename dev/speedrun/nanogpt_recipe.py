"""nanoGPT's recipe for tiny Shakespeare (6 layers of width 384) in PyTorch, for so many seconds of training.

    dev/speedrun/nanogpt_recipe.py DATA --seconds=600 [--threads=2] [--seed=1337] [--bf16]

DATA is a folder of shards, such as build/data/shakespeare. Says what the validation loss over the whole split is when
the seconds of training are over (evaluation doesn't count), beside the tokens seen. The recipe's settings are those of
nanoGPT's config/train_shakespeare_char.py (github.com/karpathy/nanoGPT): 64 sequences of 256 characters a step, dropout
0.2, AdamW 1e-3 with betas 0.9 and 0.99, decay 0.1, warm-up of 100 steps, cosine to 1e-4 over 5,000 steps, clip 1.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

L, NH, C, T, B, STEPS, DROPOUT = 6, 6, 384, 256, 64, 5000, 0.2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.fc, self.proj = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (z.view(b, t, NH, C // NH).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=DROPOUT if self.training else 0.0)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(b, t, C)), DROPOUT, self.training)
        return x + F.dropout(self.proj(F.gelu(self.fc(self.norm2(x)))), DROPOUT, self.training)


class Model(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, C), nn.Embedding(T, C)
        self.blocks = nn.ModuleList(Block() for _ in range(L))
        self.norm = nn.LayerNorm(C, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("out.weight", "proj.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * L) if residual else 1))

    def forward(self, x, y):
        h = F.dropout(self.tokens(x) + self.positions(torch.arange(x.shape[1])), DROPOUT, self.training)
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.norm(h), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), y.reshape(-1))


def shard(folder, split):
    files = sorted(Path(folder).glob(f"*{split}*.bin"))
    return torch.from_numpy(np.concatenate([np.fromfile(f, np.uint16)[512:] for f in files]).astype(np.int64))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data")
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=1337)
    arguments.add_argument("--bf16", action="store_true", help="autocast to bf16")
    a = arguments.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    train, val = shard(a.data, "train"), shard(a.data, "val")
    model = Model(int(max(train.max(), val.max())) + 1)
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=a.bf16)
    used, step = 0.0, 0
    while used < a.seconds and step < STEPS:
        start = time.perf_counter()
        lr = 1e-3 * step / 100 if step < 100 else \
            1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100))) * 9e-4
        for group in optimizer.param_groups:
            group["lr"] = lr
        at = torch.randint(len(train) - T, (B,))
        x = torch.stack([train[i:i + T] for i in at])
        y = torch.stack([train[i + 1:i + 1 + T] for i in at])
        with autocast:
            loss = model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        used += time.perf_counter() - start
        step += 1
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.4f}, {used:.0f} s", flush=True)
    model.eval()
    total = windows = 0
    with torch.no_grad(), autocast:
        for first in range(0, (len(val) - 1) // T, B):
            rows = [i * T for i in range(first, min(first + B, (len(val) - 1) // T))]
            x = torch.stack([val[i:i + T] for i in rows])
            y = torch.stack([val[i + 1:i + 1 + T] for i in rows])
            total += model(x, y).item() * len(rows)
            windows += len(rows)
    print(f"after {used:.0f} s of training, {step} steps, {step * B * T / 1e6:.2f}M tokens ({step * B * T / used:.0f} "
          f"tok/s): validation loss {total / windows:.4f} over the whole split")


if __name__ == "__main__":
    main()

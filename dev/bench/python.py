#!/usr/bin/env python3
"""A step of tools/python/muon_c.py beside one of torch.optim.Muon, on this machine: docs/python.md has a table of it.

    make libmuon && OMP_NUM_THREADS=2 build/venv/bin/python dev/bench/python.py [6x384] [12x768] [float32] [bfloat16] [rounds=5]

The hidden matrices of a GPT of so many layers and that width (four of width x width, one of 4 width x width and its transpose
in each layer), float32 or bfloat16 parameters, settings of torch.optim.Muon everywhere, as many threads, in one process. Three sides:

    muon_c             Newton-Schulz in float32
    torch in float32   torch.optim.Muon with its Newton-Schulz restated in float32, which it has no setting for
    torch              torch.optim.Muon as it is, Newton-Schulz in bfloat16: of one width x width matrix, a tenth of a layer's
                       products, since some CPUs take a minute for a layer; left out with the word `fast`

They take turns, in an order that turns around each round; the first step, which makes the states, isn't counted. Times are medians
of the rounds, in milliseconds for all layers, of which `layers=N` are measured (2 of 12 x 768); ratios are those of single rounds:
median, least and largest. The root mean square of the first step is checked to be alike.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "python"))

import torch

import muon_c

SIDES = ("muon_c", "torch in float32", "torch")
MEASURED = {"12x768": 2}


def newton_schulz_in_float32(gradient, coefficients, steps, eps):
    """torch.optim.Muon's iteration, without its casts."""
    a, b, c = coefficients
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.float().T if tall else gradient.float()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(gradient.dtype)


def matrices(shapes, dtype):
    torch.manual_seed(1)
    parameters = [torch.nn.Parameter((0.02 * torch.randn(shape)).to(dtype)) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn(p.shape).to(dtype)
    return parameters


class Side:
    """An optimizer of these matrices; its first step is done."""

    def __init__(self, name, shapes, dtype):
        self.parameters, self.times = matrices(shapes, dtype), []
        before = [p.detach().clone().float() for p in self.parameters]
        self.optimizer = (muon_c.Muon if name == "muon_c" else torch.optim.Muon)(self.parameters, lr=0.02)
        self.inside = newton_schulz_in_float32 if name == "torch in float32" else torch.optim._muon._zeropower_via_newtonschulz
        self.step()
        squares = sum((p.detach().float() - b).square().sum(dtype=torch.float64).item() for p, b in zip(self.parameters, before))
        self.rms = (squares / sum(p.numel() for p in self.parameters)) ** 0.5

    def step(self):
        kept, torch.optim._muon._zeropower_via_newtonschulz = torch.optim._muon._zeropower_via_newtonschulz, self.inside
        begin = time.perf_counter()
        self.optimizer.step()
        self.times.append(time.perf_counter() - begin)
        torch.optim._muon._zeropower_via_newtonschulz = kept


def compare(model, kind, rounds, measured, slow):
    layers, width = map(int, model.split("x"))
    layer = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]
    sides = {name: Side(name, layer * measured if name != "torch" else layer[:1], getattr(torch, kind))
             for name in SIDES if slow or name != "torch"}
    ours, theirs = (sides[name].rms for name in SIDES[:2])
    if abs(ours / theirs - 1) > 0.03:
        sys.exit(f"error: {model} {kind}: the RMS of a step is {ours:.3e} of ours, {theirs:.3e} of torch's")
    for side in sides.values():
        side.times.clear()
    for round_ in range(rounds):
        for side in list(sides.values())[:: 1 if round_ % 2 == 0 else -1]:
            side.step()
    ms = {name: [1e3 * t * layers * (10 if name == "torch" else 1 / measured) for t in side.times] for name, side in sides.items()}
    flop = layers * sum(muon_c.library.muon_flops(muon_c._RULES["muon"], *shape, 5) for shape in layer)
    cells = [f"{statistics.median(ms['muon_c']):.0f}", f"{flop / 1e6 / statistics.median(ms['muon_c']):.0f}"]
    for name in SIDES[1:]:
        ratios = [b / a for a, b in zip(ms["muon_c"], ms.get(name, []))]
        cells += [f"{statistics.median(ms[name]):.0f}", f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                  ] if ratios else ["", ""]
    print(f"| {model} | {kind} | {' | '.join(cells)} |", flush=True)


def main(*words):
    given = dict(word.split("=") for word in words if "=" in word)
    models = [w for w in words if w[0].isdigit()] or ["6x384", "12x768"]
    kinds = [w for w in words if w in ("float32", "bfloat16")] or ["float32", "bfloat16"]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "CPU")
    print(f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, muon.h {muon_c.library.muon_version().decode()}\n")
    print("| model | parameters | muon_c, ms | GFLOP/s | torch in float32, ms | ratio | torch as it is, ms | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for model in models:
        for kind in kinds:
            measured = int(given.get("layers", MEASURED.get(model, model.split("x")[0])))
            compare(model, kind, int(given.get("rounds", 5)), measured, "fast" not in words)


if __name__ == "__main__":
    main(*sys.argv[1:])

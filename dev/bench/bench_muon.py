#!/usr/bin/env python3
"""Compares a step of Muon with PyTorch's, on this machine: dev/bench/muon.sh runs it behind build/bench_muon.

What is compared
    A step for the hidden matrices of a GPT, in milliseconds: `build/bench_muon --model` beside
    - in bf16: torch.optim.Muon, which orthogonalizes in bf16;
    - in fp32: the same step in fp32, restated below, since torch.optim.Muon has no other precision than bf16.

Why it is fair
    - The same matrices, momentum, coefficients, number of steps, scale, decay and threads. The root mean square of the
      first step's update, in which the scale and every singular value take part, is checked to be alike.
    - Both sides are processes of their own and take turns, in an order that turns around each round. A ratio is the
      median of single rounds' ratios; the smallest and largest stand beside it.
    - What isn't alike: torch.optim.Muon keeps X itself in bf16 between its products; ours multiplies in bf16, but keeps
      everything in fp32. Only ours looks for NaN and infinity in the gradients.
"""
import json
import os
import signal
import statistics
import sys
import time

from bench_torch import CLEAR, NO_AMX, Failed, Report, cpu_seconds, ratio_cells, run, turns

MODELS = {"4x128": (4, 128), "6x384": (6, 384), "12x768": (12, 768)}     # layers, width: as bench_muon.c has them
SIDES = ("ours", "PyTorch")
COST = 5                        # seconds of a measurement, with the start of its process


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch's side: a child process, which prints a line of JSON. Nothing else imports torch.

def fp32_muon(torch, parameters, lr, weight_decay, momentum=0.95, abc=(3.4445, -4.7750, 2.0315), steps=5):
    """A step of torch.optim.Muon with adjust_lr_fn="match_rms_adamw", but in fp32."""
    a, b, c = abc
    buffers = [torch.zeros_like(p) for p in parameters]

    def newton_schulz(x):
        tall = x.size(0) > x.size(1)
        x = x.T if tall else x
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.T if tall else x

    @torch.no_grad()
    def step():
        for p, buffer in zip(parameters, buffers):
            buffer.lerp_(p.grad, 1 - momentum)
            update = newton_schulz(p.grad.lerp(buffer, momentum))
            p.mul_(1 - lr * weight_decay)
            p.add_(update, alpha=-lr * 0.2 * max(p.shape) ** 0.5)

    return step


def child(model, precision, measured, seconds):
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(1)
    (layers, width), measured = MODELS[model], int(measured)
    shapes = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes for _ in range(measured)]
    for p in parameters:
        p.grad = torch.rand_like(p) - 0.5
    lr, weight_decay = 1e-3, 0.1
    if precision == "bf16":
        step = torch.optim.Muon(parameters, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw").step
    else:
        step = fp32_muon(torch, parameters, lr, weight_decay)
    step()
    squares = sum(p.detach().square().sum(dtype=torch.float64).item() for p in parameters)
    rms = (squares / sum(p.numel() for p in parameters)) ** 0.5 / lr
    times = []
    while len(times) < 3 or sum(times) < float(seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * statistics.median(times) * layers / measured, "rms": rms}))


# ----------------------------------------------------------------------------------------------------------------------

class Sides:
    def __init__(self, program, seconds):
        self.program, self.seconds, self.no_amx = program, f"{seconds:g}", False

    def ours(self, model, precision):
        line, = run([self.program, f"--model={model}", f"--precision={precision}", f"--seconds={self.seconds}"],
                    os.environ)
        self.threads, self.layers = str(line["threads"]), str(line["layers"])       # PyTorch's as well
        return line

    def torch(self, model, precision):
        """After bf16 was killed by SIGILL, the same without AMX, as bf16 does from then on."""
        limits = NO_AMX if self.no_amx and precision == "bf16" else {}
        try:
            line, = run([sys.executable, "-B", __file__, "--child", model, precision, self.layers, self.seconds],
                        {**os.environ, "OMP_NUM_THREADS": self.threads, **limits})
            return line
        except Failed as failure:
            if self.no_amx or precision != "bf16" or failure.signal != signal.SIGILL:
                raise
            self.no_amx = True
            return self.torch(model, precision)


def compare(sides, report, models, rounds, as_json):
    remarks = set()
    for model, precision in ((m, p) for m in models for p in ("fp32", "bf16")):
        lines = {side: [] for side in SIDES}
        for round_ in range(rounds):
            for side in turns(round_, SIDES):            # ours is the first
                report.note(f"Muon {model} {precision}, round {round_ + 1} of {rounds}: {side}")
                lines[side].append((sides.ours if side == "ours" else sides.torch)(model, precision))
                report.done += COST
        ours, theirs = (lines[side] for side in SIDES)
        if not abs(ours[0]["rms"] / theirs[0]["rms"] - 1) < 0.03:
            raise Failed(f"{model} {precision}: the RMS of an update is {ours[0]['rms']:.4f} of ours, but"
                         f" {theirs[0]['rms']:.4f} of PyTorch's")
        ratios = [b["ms"] / a["ms"] for a, b in zip(ours, theirs)]
        ms = [statistics.median(line["ms"] for line in side) for side in (ours, theirs)]
        here = ["emulated"] * ours[0]["emulated"] + ["no AMX"] * (sides.no_amx and precision == "bf16")
        remarks.update(here)
        if as_json:
            print(json.dumps({"kind": "muon_torch", "model": model, "precision": precision, "ms": ms[0],
                              "torch_ms": ms[1], "ratios": ratios, "remarks": here}), flush=True)
        else:
            report.row(model, precision, *(f"{x:.2f}" for x in ms), *ratio_cells(ratios), ", ".join(here))
    return remarks


def main(program, *options):
    quick, as_json = "-q" in options, "--json" in options
    models, rounds = list(MODELS)[:2 if quick else None], 1 if quick else 3
    report = Report(COST * 2 * len(models) * rounds * len(SIDES))
    if not as_json:
        report.say("", "## Muon beside PyTorch", "", "Milliseconds of a step, medians of the rounds. PyTorch in bf16:"
                   " torch.optim.Muon; in fp32: its step, restated.", "A ratio over 1 means that ours is faster.", "")
        report.head("<model |<precision|   ours ms|PyTorch ms|ratio|<of rounds|<remarks ")
    all_before, own_before = cpu_seconds()
    remarks = compare(Sides(program, 0.3 if quick else 0.5), report, models, rounds, as_json)
    all_after, own_after = cpu_seconds()
    others = max(0, all_after - all_before - (own_after - own_before)) / (time.monotonic() - report.started)
    if not as_json:
        report.explain(remarks)
        report.say("", f"Other processes took {100 * others / os.cpu_count():.1f} % of the CPUs meanwhile.")


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--child":
            child(*sys.argv[2:])
        else:
            main(*sys.argv[1:])
    except Failed as failure:
        sys.exit(f"{CLEAR}error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)

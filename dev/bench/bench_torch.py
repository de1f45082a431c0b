#!/usr/bin/env python3
"""Compares this project's training step and matrix products with PyTorch's, on this machine, in one run.

What is compared
    Training: tokens per second of whole steps (gradients to zero, forward, backward, clipping of the gradient's norm
    to 1, AdamW) of GPT-2 style models on random tokens: `build/bench --step` beside the model below.
    Products: GFLOP/s of the three products of a linear layer (forward x W^T, dx = dout W, dW = dout^T x) in shapes
    that these models meet: `build/bench --product` beside torch.mm.

Why it is fair
    - The same arithmetic on the same shapes with the same number of threads; the losses are checked to start alike.
      PyTorch is used as its documentation advises: fused attention (scaled_dot_product_attention), fused AdamW,
      autocast for bf16, and both eager and compiled (torch.compile). The ratio is to the faster of the two.
    - Both sides take turns, in an order that turns around each round, so that a machine that slows down (heat,
      neighbours) slows both. A ratio is the median of single rounds' ratios; the smallest and largest stand beside it.
      What other processes took of the CPUs is said at the end.
    - Each training measurement is a process of its own: one warm-up step (which compiles), then at least 3 steps and
      --seconds of them, of which the median counts. Resident is the process's largest resident size (VmHWM);
      PyTorch's holds its libraries, too: `import torch` alone is told in the report's head.
    - What isn't alike: for bf16 products PyTorch gets operands that are bf16 already and writes bf16, while ours
      starts from fp32, converts within the measured time and writes fp32. PyTorch's autocast keeps weights and
      optimizer in fp32, as ours does, but runs attention in bf16.
    - --isa=avx2 limits both sides alike: GEMM_ISA=avx2 here, the variables AVX2_ONLY there.

PyTorch in bf16 may be killed by SIGILL on virtual machines that hide AMX' CPUID leaves: oneDNN then finds AMX, but no
tiles. Such a measurement is made again without AMX, and its row says so.
"""
import argparse
import contextlib
import datetime
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build/bench"

# Layers, heads, width, vocabulary, sequences a step, tokens a sequence: build/bench knows them by the same names. The
# first three are nanoGPT's character models, the others GPT-2's 124M.
MODELS = {
    "4x128":        (4, 4, 128, 65, 12, 64),
    "6x384-b16":    (6, 6, 384, 65, 16, 256),
    "6x384-b64":    (6, 6, 384, 65, 64, 256),
    "12x768-t64":   (12, 12, 768, 50304, 4, 64),
    "12x768-t256":  (12, 12, 768, 50304, 4, 256),
    "12x768-t1024": (12, 12, 768, 50304, 1, 1024),
}
# Form, M, N, K: the result is M x N, of sums over K.
PRODUCTS = [
    ("forward", 768, 384, 128), ("forward", 4096, 512, 128), ("dx", 768, 128, 512), ("dw", 512, 128, 768),
    ("forward", 4096, 1152, 384), ("forward", 16384, 1536, 384), ("dx", 4096, 384, 1536),
    ("dw", 384, 384, 4096), ("dw", 1536, 384, 16384),
    ("forward", 1024, 3072, 768), ("dx", 1024, 768, 3072), ("dw", 3072, 768, 1024),
]
PRECISIONS = ("fp32", "bf16")
SIDES = ("ours", "eager", "compiled")
PRODUCT_SECONDS = 0.3           # of each side, shape and round
PRODUCT_COST = 0.45             # with what comes before

AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}
NO_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "DNNL_MAX_CPU_ISA": "AVX512_CORE_BF16"}
REMARKS = {
    "emulated": "ours rounds to bf16 and multiplies in fp32, since this CPU, or what it is limited to, has no bf16",
    "no AMX": "PyTorch ran with ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, since its AMX path is killed by SIGILL here",
}


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch's side: child processes, which print a line of JSON for each figure. Nothing else imports torch.

def gpt(layers, heads, width, vocab, block):
    """GPT-2: pre-LayerNorm, biases, GELU (tanh), learned positions, head tied to the embedding, no dropout."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
            self.attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.fc, self.fc_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            b, t, _ = x.shape
            q, k, v = (z.view(b, t, heads, -1).transpose(1, 2) for z in self.attn(self.ln_1(x)).split(width, dim=2))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, width)
            x = x + self.attn_proj(mixed)
            return x + self.fc_proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(block, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.ln_f = nn.LayerNorm(width, eps=1e-5)
            for name, p in self.named_parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(p)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe.weight
            for layer in self.blocks:
                x = layer(x)
            logits = F.linear(self.ln_f(x), self.wte.weight)
            return F.cross_entropy(logits.view(-1, vocab), targets.view(-1))

    return GPT()


def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def child_step(model_name, precision, variant, seconds):
    import torch
    layers, heads, width, vocab, batch, block = MODELS[model_name]
    torch.manual_seed(1)
    model = gpt(layers, heads, width, vocab, block)
    loss_of = torch.compile(model) if variant == "compiled" else model
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
    tokens, targets = torch.randint(vocab, (2, batch, block))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            loss = loss_of(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    first_loss, times = step(), []
    while len(times) < 3 or sum(times) < float(seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(json.dumps({"tok_per_s": batch * block / median, "ms": 1e3 * median, "loss": first_loss,
                      "resident_mb": resident_mb()}))


def child_products(precision):
    """Measures a product for each line "FORM,M,N,K" on stdin, until there is no more."""
    import torch
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for form, *sizes in (line.split(",") for line in sys.stdin):
        m, n, k = map(int, sizes)
        x = torch.randn(k, m, dtype=dtype).T if form == "dw" else torch.randn(m, k, dtype=dtype)
        w = torch.randn(n, k, dtype=dtype).T if form == "forward" else torch.randn(k, n, dtype=dtype)
        out = torch.empty(m, n, dtype=dtype)

        def seconds_of(calls):
            start = time.perf_counter()
            for _ in range(calls):
                torch.mm(x, w, out=out)
            return time.perf_counter() - start

        seconds_of(2)           # to warm up
        calls, times = 1 + int(0.03 / seconds_of(1)), []
        while len(times) < 5 or sum(times) * calls < PRODUCT_SECONDS:
            times.append(seconds_of(calls) / calls)
        print(json.dumps({"gflops": 2e-9 * m * n * k / statistics.median(times)}), flush=True)


def child_about():
    import torch
    print(json.dumps({"version": torch.__version__, "isa": torch.backends.cpu.get_cpu_capability(),
                      "resident_mb": resident_mb()}))


def child(kind, *arguments):
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    {"step": child_step, "products": child_products, "about": child_about}[kind](*arguments)


# ----------------------------------------------------------------------------------------------------------------------
# Both sides

class Failed(Exception):
    """The reason in one line; signal is what killed the process, or 0."""

    def __init__(self, reason, signal_number=0):
        super().__init__(reason)
        self.signal = signal_number


def failure_of(returncode, stderr):
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return Failed(f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}", -returncode)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["it ended without a word"]
    # The line with Python's exception: torch.compile adds advice after it.
    errors = [line for line in lines if re.match(r"[\w.]*(error|exception|compiler|missing)\b", line, re.I)]
    return Failed((errors or lines)[-1][:160])


def run(command, environment):
    """Runs a program and returns the lines of JSON that it prints, as dictionaries."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise failure_of(done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Server:
    """A program that stays and answers each line with a line of JSON; it waits asleep while others are measured."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, line):
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise failure_of(self.process.wait(), self.process.stderr.read())
        return json.loads(answer)

    def close(self):
        self.process.communicate()


class Sides:
    """Our programs and PyTorch's, with the same threads and limits."""

    def __init__(self, threads, isa):
        self.threads, self.no_amx = threads, False
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.ours_environment = {**environment, **({"GEMM_ISA": isa} if isa else {})}
        self.torch_environment = {**environment, **(AVX2_ONLY if isa else {}),
                                  "TORCHINDUCTOR_CACHE_DIR": str(ROOT / "build/torch-cache")}

    def bench(self, *arguments):
        return run([str(BENCH), *arguments, f"--threads={self.threads}"], self.ours_environment)

    def torch(self, how, *arguments):
        """how, run or Server, starts a child of this program."""
        limits = NO_AMX if self.no_amx and "bf16" in arguments else {}
        return how([sys.executable, __file__, "--child", *arguments], {**self.torch_environment, **limits})

    def retrying(self, precision, measure):
        """measure(), and once more without AMX where bf16 was killed by SIGILL; from then on bf16 does without it."""
        try:
            return measure()
        except Failed as failure:
            if failure.signal != signal.SIGILL or precision != "bf16" or self.no_amx:
                raise
        self.no_amx = True
        return measure()

    def step(self, side, model, precision, seconds):
        """One measurement of training: a dictionary with tok_per_s, resident_mb, loss."""
        if side == "ours":
            line, = self.bench(f"--step={model}", f"--precision={precision}", f"--seconds={seconds:g}")
        else:
            line, = self.retrying(precision, lambda: self.torch(run, "step", model, precision, side, f"{seconds:g}"))
        expected = math.log(MODELS[model][3])
        if not abs(line["loss"] - expected) < 0.1 * expected:
            raise Failed(f"the loss starts at {line['loss']:.2f}, but without training it is near {expected:.2f}")
        return line

    @contextlib.contextmanager
    def products(self, precision):
        """Gives a function of side and product, which returns a dictionary with gflops."""
        server = None

        def ask_torch(product):
            nonlocal server
            if server is None or server.process.poll() is not None:
                server = self.torch(Server, "products", precision)
            return server.ask(product)

        def measure(side, product):
            if side == "ours":
                return self.bench(f"--product={product}", f"--precision={precision}", f"--seconds={PRODUCT_SECONDS:g}")[0]
            return self.retrying(precision, lambda: ask_torch(product))

        try:
            yield measure
        finally:
            if server:
                server.close()

    def remarks(self, precision, line_of_ours):
        marks = {"emulated": line_of_ours["emulated"], "no AMX": precision == "bf16" and self.no_amx}
        return [mark for mark, set_ in marks.items() if set_]


# ----------------------------------------------------------------------------------------------------------------------
# Output: the report to stdout, what is under way to stderr

class Report:
    """Prints lines as they come, and keeps them for the file."""

    def __init__(self, cost):
        self.lines, self.started, self.cost, self.done = [], time.monotonic(), cost, 0.0
        self.moving = sys.stderr.isatty()

    def say(self, *lines):
        self.clear()
        for line in lines:
            print(line, flush=True)
            self.lines.append(line)

    def note(self, text):
        """One moving line on a terminal, a line of its own elsewhere."""
        # The estimate of the whole becomes what was measured, as more of it is done.
        elapsed = time.monotonic() - self.started
        left = (self.cost - self.done) * (elapsed + 30) / (self.done + 30)
        text = f"{text} ({left / 60:.0f} min left)" if left > 90 else f"{text} ({left:.0f} s left)"
        print(f"\r\033[K{text}" if self.moving else text, end="" if self.moving else "\n", file=sys.stderr, flush=True)

    def clear(self):
        if self.moving:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def head(self, columns):
        """Columns: titles, padded to the width that they shall have; text columns end in a space or are told by <."""
        self.columns = [(title.lstrip("<"), title.startswith("<")) for title in columns.split("|")]
        self.row(*(title for title, _ in self.columns))
        self.say("|" + "|".join(":" + "-" * (len(title) + 1) if left else "-" * (len(title) + 1) + ":"
                                for title, left in self.columns) + "|")

    def row(self, *cells):
        self.say("| " + " | ".join(str(cell).ljust(len(title)) if left else str(cell).rjust(len(title))
                                   for cell, (title, left) in zip(cells, self.columns)) + " |")

    def explain(self, marks, failures):
        """What the column of remarks meant."""
        lines = [f"- {mark}: {REMARKS[mark]}." for mark in REMARKS if mark in marks]
        self.say(*([""] if lines or failures else []), *lines, *(f"- {failure}" for failure in failures))


def step_cost(side, model, seconds, first_round):
    """Seconds that a measurement is expected to take: at 60 GFLOP/s a thread, two threads; compiling comes first."""
    layers, _, width, vocab, batch, block = MODELS[model]
    step = 6 * (12 * layers * width ** 2 + vocab * width) * batch * block / 120e9
    start = {"ours": 1, "eager": 4, "compiled": 8 + 3 * layers * first_round}[side]
    return start + step + max(seconds, 3 * step)


def cpu_seconds():
    """CPU time that all processes, or other virtual machines, have used, and that of this one and its children."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    own = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), sum(own[:4])


def turns(round_, sides):
    return sides if round_ % 2 == 0 else sides[::-1]


def spread(ratios):
    return f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "-"


# ----------------------------------------------------------------------------------------------------------------------
# The two comparisons. What fails on PyTorch's side is told, and the rest goes on; what fails on ours ends the run.

def compare_training(sides, report, options):
    report.say("", "## Training", "",
               "Tokens per second, median of the rounds; ratio: ours to the faster of PyTorch's two.", "")
    report.head("<model       |<precision|    ours|   eager|compiled|ratio|<of rounds|ours MB|eager MB|compiled MB|<remarks      ")
    marks, failures = set(), []
    for model in options.models:
        for precision in options.precisions:
            measured = {side: [] for side in SIDES}
            failed = set()
            for round_ in range(options.rounds):
                for side in turns(round_, SIDES):
                    cost = step_cost(side, model, options.seconds, round_ == 0)
                    if side not in failed:
                        report.note(f"training {model} {precision}, round {round_ + 1} of {options.rounds}: {side}")
                        try:
                            measured[side].append(sides.step(side, model, precision, options.seconds))
                        except Failed as failure:
                            if side == "ours":
                                raise Failed(f"{BENCH.name} --step={model} --precision={precision}: {failure}")
                            failed.add(side)
                            failures.append(f"{model} {precision}, {side}: failed: {failure}")
                    report.done += cost

            def median(side, key):
                return statistics.median(line[key] for line in measured[side])

            theirs = [side for side in SIDES[1:] if side not in failed]
            best = max(theirs, key=lambda side: median(side, "tok_per_s"), default=None)
            ratios = [a["tok_per_s"] / b["tok_per_s"] for a, b in zip(measured["ours"], measured[best])] if best else []
            remarks = sides.remarks(precision, measured["ours"][0])
            marks.update(remarks)

            def cells(key):
                return ("failed" if side in failed else f"{median(side, key):.0f}" for side in SIDES)

            report.row(model, precision, *cells("tok_per_s"), f"{statistics.median(ratios):.2f}" if ratios else "-",
                       spread(ratios), *cells("resident_mb"), ", ".join(remarks))
    report.explain(marks, failures)
    return not any(", eager: " in failure for failure in failures)


def compare_products(sides, report, options):
    complete = True
    for precision in options.precisions:
        report.say("", f"## Products, {precision}", "", "GFLOP/s, median of the rounds.", "")
        report.head("<form   |    M|    N|    K|  ours|PyTorch|ratio|<of rounds|<remarks      ")
        marks, table = set(), []
        with sides.products(precision) as measure:
            for product in PRODUCTS:
                name = ",".join(map(str, product))
                report.note(f"products {precision}, {name}")
                measured = {side: [] for side in ("ours", "PyTorch")}
                for round_ in range(options.rounds):
                    for side in turns(round_, list(measured)):
                        try:
                            measured[side].append(measure(side, name))
                        except Failed as failure:
                            raise Failed(f"product {name}, {precision}, {side}: {failure}")
                        report.done += PRODUCT_COST
                ours, theirs = ([line["gflops"] for line in lines] for lines in measured.values())
                ratios = [a / b for a, b in zip(ours, theirs)]
                table.append([statistics.median(values) for values in (ours, theirs, ratios)])
                remarks = sides.remarks(precision, measured["ours"][0])
                marks.update(remarks)
                report.row(*product, "{:.0f}".format(table[-1][0]), "{:.0f}".format(table[-1][1]),
                           "{:.2f}".format(table[-1][2]), spread(ratios), ", ".join(remarks))
        report.explain(marks, [])
        ours, theirs, ratio = map(statistics.median, zip(*table))
        least, product = min((ratio, product) for (_, _, ratio), product in zip(table, PRODUCTS))
        report.say("", f"Medians over the shapes: ours {ours:.0f}, PyTorch {theirs:.0f} ({ours / theirs:.2f}); of the ratios "
                       f"{ratio:.2f}. Smallest ratio: {least:.2f} ({product[0]} {' x '.join(map(str, product[1:]))}).")
    return complete


def print_head(sides, report, options):
    machine, *peaks = sides.bench("peaks", "--json")
    about, = sides.torch(run, "about")
    report.say("# Beside PyTorch", "",
               f"- machine: {machine['cpu']}, {machine['cpus']} CPUs, {options.threads} threads used",
               "- peaks: " + "; ".join(f"{peak['what']} {peak.get('all', peak['one']):.0f} {peak['unit']}"
                                       for peak in peaks if peak["unit"] == "GFLOP/s"),
               f"- ours: {machine['isa']}, {machine['compiler']}, commit {machine['commit']}",
               f"- PyTorch {about['version']}: {about['isa']}; {about['resident_mb']:.0f} MB of its resident size are "
               "there after `import torch`",
               f"- rounds: {options.rounds}, of {options.seconds:g} s and at least 3 steps each; "
               f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")


def parse_options():
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            print(f"error: bench-torch: {message}", file=sys.stderr)
            sys.exit(2)

    def names_of(allowed):
        def parse(text):
            for name in text.split(","):
                if name not in allowed:
                    raise argparse.ArgumentTypeError(f"{name!r}: expected some of {','.join(allowed)}")
            return text.split(",")
        return parse

    def number(kind, least):
        def parse(text):
            try:
                value = kind(text)
            except ValueError:
                value = None
            if value is None or not least <= value <= 3600:
                raise argparse.ArgumentTypeError(f"{text!r}: a number from {least} to 3600 is expected")
            return value
        return parse

    p = Parser(prog="bench-torch", description="Compares training steps and matrix products with PyTorch's.",
               epilog="Without arguments the report is also written to dev/bench/results; with any, only by --save.",
               allow_abbrev=False)
    p.add_argument("--models", type=names_of(MODELS), metavar="A,B", help=f"some of {','.join(MODELS)}")
    p.add_argument("--precisions", type=names_of(PRECISIONS), metavar="A,B", default=PRECISIONS, help="fp32,bf16")
    p.add_argument("--rounds", type=number(int, 1), metavar="N", help="measurements of each kind (default: 3)")
    p.add_argument("--seconds", type=number(float, 0.1), metavar="S", default=3.0, help="of steps each (default: 3)")
    p.add_argument("--threads", type=number(int, 1), metavar="N", default=len(os.sched_getaffinity(0)),
                   help="default: the CPUs this process may use")
    p.add_argument("--isa", choices=["avx2"], help="limit both sides to AVX2")
    p.add_argument("--gemm-only", action="store_true", help="the products only")
    p.add_argument("--steps-only", action="store_true", help="the training steps only")
    p.add_argument("--save", action="store_true", help="write the report to dev/bench/results in any case")
    p.add_argument("-q", action="store_true", dest="quick", help="one round and the two smallest models")
    options = p.parse_args()
    if options.gemm_only and options.steps_only:
        p.error("--gemm-only and --steps-only leave nothing to do")
    options.save |= len(sys.argv) == 1
    options.models = options.models or list(MODELS)[:2 if options.quick else None]
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main():
    options = parse_options()
    if not os.access(BENCH, os.X_OK):
        raise Failed(f"{BENCH.relative_to(ROOT)} is missing: please run `make bench` or `make all` first")
    models = [] if options.gemm_only else options.models
    cost = sum(step_cost(side, model, options.seconds, round_ == 0) for side in SIDES for model in models
               for round_ in range(options.rounds) for _ in options.precisions)
    cost += 0 if options.steps_only else 2 * PRODUCT_COST * len(PRODUCTS) * options.rounds * len(options.precisions)
    print(f"this takes about {math.ceil(cost / 60)} min", file=sys.stderr)

    sides, report = Sides(options.threads, options.isa), Report(cost)
    all_before, own_before = cpu_seconds()
    print_head(sides, report, options)
    complete = options.gemm_only or compare_training(sides, report, options)
    complete &= options.steps_only or compare_products(sides, report, options)

    all_after, own_after = cpu_seconds()
    others = all_after - all_before - (own_after - own_before)
    share = max(0, others) / ((time.monotonic() - report.started) * os.cpu_count())
    report.say("", f"Other processes took {100 * share:.1f} % of the CPUs meanwhile"
                   + (": too much for figures to rely on." if share > 0.03 else "."))
    if not complete:
        raise Failed("PyTorch's side is incomplete, see above" + (": nothing was saved" if options.save else ""))
    if options.save:
        stem = subprocess.run([BENCH, "--name", f"--threads={options.threads}"], env=sides.ours_environment,
                              stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        file = ROOT / f"dev/bench/results/{stem}-torch.md"
        file.parent.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text("\n".join(report.lines) + "\n")
        new.replace(file)
        print(f"written: {file.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        try:
            main()
        except Failed as failure:
            print(f"\nerror: {failure}" if sys.stderr.isatty() else f"error: {failure}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("\ninterrupted: nothing was saved", file=sys.stderr)
            sys.exit(130)

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
BUILD = ROOT / os.environ.get("BUILD", "build")
BENCH = BUILD / "bench"
RESULTS = ROOT / "dev/bench/results" if os.environ.get("KEEP") else BUILD / "results"

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
PRODUCT_COST = 0.5              # seconds, with what comes before

AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2",
             "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3"}        # what torch.compile gives to the C++ compiler
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
# Measurements of both sides

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
    return Failed((errors or lines)[-1].removeprefix("error: ")[:160])


def run(command, environment):
    """Runs a program and returns the lines of JSON that it prints, as dictionaries."""
    done = subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise failure_of(done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Server:
    """A child that stays until our end, answers each line with a line of JSON, and sleeps meanwhile."""

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


class Sides:
    """Our program and PyTorch's children, with the same threads and limits."""

    def __init__(self, threads, isa):
        self.no_amx, self.servers = False, {}
        self.threads = [f"--threads={threads}"] if threads else []      # without, as many as ours finds best
        self.environment = {**os.environ, **({"GEMM_ISA": isa} if isa else {})}
        self.machine, *self.peaks = self.bench("peaks", "--json")
        self.threads = [f"--threads={self.machine['threads']}"]
        # A cache for each instruction set: torch.compile takes one's programs for the other's, which then fail.
        self.torch_environment = {**os.environ, **(AVX2_ONLY if isa else {}),
                                  "OMP_NUM_THREADS": str(self.machine["threads"]),
                                  "TORCHINDUCTOR_CACHE_DIR": str(BUILD / "torch-cache" / (isa or "native"))}

    def bench(self, *arguments):
        return run([str(BENCH), *arguments, *self.threads], self.environment)

    def torch(self, start, *arguments):
        """start: run or Server. After bf16 was killed by SIGILL, the same without AMX, as bf16 does from then on."""
        limits = NO_AMX if self.no_amx and "bf16" in arguments else {}
        return start([sys.executable, __file__, "--child", *arguments], {**self.torch_environment, **limits})

    def retry_without_amx(self, precision, failure):
        if self.no_amx or precision != "bf16" or failure.signal != signal.SIGILL:
            raise failure
        self.no_amx = True
        self.servers.pop(precision, None)

    def step(self, side, model, precision, seconds):
        """A dictionary with tok_per_s, resident_mb and loss, the first step's."""
        try:
            if side == "ours":
                line, = self.bench(f"--step={model}", f"--precision={precision}", f"--seconds={seconds:g}")
            else:
                line, = self.torch(run, "step", model, precision, side, f"{seconds:g}")
        except Failed as failure:
            self.retry_without_amx(precision, failure)
            return self.step(side, model, precision, seconds)
        expected = math.log(MODELS[model][3])
        if not abs(line["loss"] - expected) < 0.1 * expected:
            raise Failed(f"the loss starts at {line['loss']:.2f}, but an untrained model's is near {expected:.2f}")
        return line

    def product(self, side, product, precision):
        """A dictionary with gflops."""
        try:
            if side == "ours":
                return self.bench(f"--product={product}", f"--precision={precision}", f"--seconds={PRODUCT_SECONDS}")[0]
            if precision not in self.servers:
                self.servers[precision] = self.torch(Server, "products", precision)
            return self.servers[precision].ask(product)
        except Failed as failure:
            self.retry_without_amx(precision, failure)
            return self.product(side, product, precision)

    def close(self):
        for server in self.servers.values():
            server.process.communicate()

    def remarks(self, precision, line_of_ours):
        return [*["emulated"] * line_of_ours["emulated"], *["no AMX"] * (self.no_amx and precision == "bf16")]


def cpu_seconds():
    """CPU time that was used on all CPUs, by other virtual machines too, and that of this process and its children."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])


# ----------------------------------------------------------------------------------------------------------------------
# Output: the report to stdout, what is under way to stderr

CLEAR = "\r\033[K" if sys.stderr.isatty() else ""     # takes away the moving line


class Report:
    """Prints lines as they come, and keeps them for the file."""

    def __init__(self, cost):
        self.lines, self.columns, self.cost, self.done, self.started = [], [], cost, 0.0, time.monotonic()

    def say(self, *lines):
        print(CLEAR, end="", file=sys.stderr, flush=True)
        print(*lines, sep="\n", flush=True)
        self.lines += lines

    def note(self, text):
        """One moving line on a terminal, a line of its own elsewhere."""
        # The expected costs give way to the measured ones, as there are more of these.
        minutes = (self.cost - self.done) * (time.monotonic() - self.started + 30) / (self.done + 30) / 60
        left = f"{minutes:.0f} min" if minutes >= 1.5 else f"{60 * minutes:.0f} s"
        print(f"{CLEAR}{text} ({left} left)", end="" if CLEAR else "\n", file=sys.stderr, flush=True)

    def head(self, columns):
        """Titles, as wide as the columns shall be, separated by |; < begins those of text."""
        self.columns = [(len(title.lstrip("<")), title[0] == "<") for title in columns.split("|")]
        self.row(*(title.strip("< ") for title in columns.split("|")))
        self.say("|" + "|".join(":" + "-" * (n + 1) if text else "-" * (n + 1) + ":" for n, text in self.columns) + "|")

    def row(self, *cells):
        self.say("| " + " | ".join(cell.ljust(n) if text else cell.rjust(n)
                                   for cell, (n, text) in zip(map(str, cells), self.columns)) + " |")

    def explain(self, remarks, failures=()):
        lines = [f"- {remark}: {REMARKS[remark]}." for remark in sorted(remarks)] + [f"- {f}" for f in failures]
        if lines:
            self.say("", *lines)


def step_seconds(model):
    """What a step would take at 200 GFLOP/s: 6 operations a parameter and token."""
    layers, _, width, vocab, batch, block = MODELS[model]
    return 6 * (12 * layers * width ** 2 + vocab * width) * batch * block / 200e9


def rounds_of(model, options):
    return options.rounds or (2 if step_seconds(model) > 2 else 3)


def step_cost(side, model, options, round_):
    """Seconds that a measurement is expected to take; what is compiled in the first round comes from a cache later."""
    start = {"ours": 1, "eager": 4, "compiled": 10 if round_ else 10 + 2 * MODELS[model][0]}[side]
    return start + step_seconds(model) + max(options.seconds, 3 * step_seconds(model))


# ----------------------------------------------------------------------------------------------------------------------
# The two comparisons

def turns(round_, sides):
    return sides if round_ % 2 == 0 else sides[::-1]


def ratio_cells(ratios):
    """The median, and from which to which."""
    if not ratios:
        return "-", ""
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""


def compare_training(sides, report, options):
    """Returns PyTorch's failures; compiling may fail, and the rest goes on."""
    report.say("", "## Training", "", "Tokens per second, medians of the rounds. Ratio: ours to PyTorch's faster one.",
               "")
    report.head("<model       |<precision|    ours|   eager|compiled|ratio|<of rounds|ours MB|eager MB|compiled MB|"
                "<remarks ")
    all_remarks, failures = set(), {}
    for model, precision in ((m, p) for m in options.models for p in options.precisions):
        lines = {side: [] for side in SIDES}
        rounds = rounds_of(model, options)
        for round_ in range(rounds):
            for side in turns(round_, SIDES):
                if (model, precision, side) not in failures:
                    report.note(f"training {model} {precision}, round {round_ + 1} of {rounds}: {side}")
                    try:
                        lines[side].append(sides.step(side, model, precision, options.seconds))
                    except Failed as failure:
                        if side == "ours":
                            raise Failed(f"{BENCH.name} --step={model} --precision={precision}: {failure}")
                        failures[model, precision, side] = failure
                report.done += step_cost(side, model, options, round_)

        done = [side for side in SIDES if (model, precision, side) not in failures]
        speed, memory = ({side: statistics.median(line[key] for line in lines[side]) for side in done}
                         for key in ("tok_per_s", "resident_mb"))
        best = max(done[1:], key=speed.get, default=None)
        ratios = [a["tok_per_s"] / b["tok_per_s"] for a, b in zip(lines["ours"], lines[best])] if best else []
        remarks = sides.remarks(precision, lines["ours"][0])
        all_remarks.update(remarks)
        speeds, memories = ([f"{of[side]:.0f}" if side in of else "failed" for side in SIDES] for of in (speed, memory))
        report.row(model, precision, *speeds, *ratio_cells(ratios), *memories, ", ".join(remarks))
    report.explain(all_remarks, [f"{' '.join(key)} failed: {failure}" for key, failure in failures.items()])
    return failures


def compare_products(sides, report, options, precision):
    report.say("", f"## Products in {precision}", "", "GFLOP/s, medians of the rounds.", "")
    report.head("<form   |    M|    N|    K|  ours|PyTorch|ratio|<of rounds|<remarks ")
    all_remarks, rows = set(), []
    for product in PRODUCTS:
        name = ",".join(map(str, product))
        report.note(f"products {precision}, {name}")
        lines = {"ours": [], "PyTorch": []}
        for round_ in range(options.rounds or 3):
            for side in turns(round_, list(lines)):
                try:
                    lines[side].append(sides.product(side, name, precision))
                except Failed as failure:
                    raise Failed(f"product {name} {precision}, {side}: {failure}")
                report.done += PRODUCT_COST
        ours, theirs = ([line["gflops"] for line in lines[side]] for side in lines)
        ratios = [a / b for a, b in zip(ours, theirs)]
        rows.append([statistics.median(values) for values in (ours, theirs, ratios)])
        remarks = sides.remarks(precision, lines["ours"][0])
        all_remarks.update(remarks)
        report.row(*product, *(f"{gflops:.0f}" for gflops in rows[-1][:2]), *ratio_cells(ratios), ", ".join(remarks))
    report.explain(all_remarks)
    ours, theirs, ratio = map(statistics.median, zip(*rows))
    least, product = min((row[2], product) for row, product in zip(rows, PRODUCTS))
    report.say("", f"Medians over the shapes: ours {ours:.0f}, PyTorch {theirs:.0f}: {ours / theirs:.2f}; of the"
               f" ratios {ratio:.2f}. Smallest ratio: {least:.2f} ({product[0]}, {' x '.join(map(str, product[1:]))}).")


def print_head(sides, report, options):
    machine = sides.machine
    peaks = [f"{peak['what']} {peak.get('all', peak['one']):.0f}" for peak in sides.peaks if peak["unit"] == "GFLOP/s"]
    about, = sides.torch(run, "about")
    report.say("# Beside PyTorch", "",
               f"- machine: {machine['cpu']}, {machine['cpus']} CPUs; {machine['threads']} threads used",
               f"- peaks in GFLOP/s: {'; '.join(peaks)}",
               f"- ours: {machine['isa']}, {machine['compiler']}, commit {machine['commit']}",
               f"- PyTorch: {about['version']}, {about['isa']}; `import torch` alone takes "
               f"{about['resident_mb']:.0f} MB",
               f"- rounds: {options.rounds or '3, of the large models 2'}; of training each 3 steps or more, "
               f"{options.seconds:g} s or more",
               f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")


# ----------------------------------------------------------------------------------------------------------------------
# The command line

def parse_options():
    def some_of(names):
        def parse(text):
            if not set(text.split(",")) <= set(names):
                raise argparse.ArgumentTypeError(f"{text}: expected some of {','.join(names)}")
            return text.split(",")
        return parse

    def positive(kind):
        def parse(text):
            with contextlib.suppress(ValueError):
                if 0 < kind(text) < 10000:
                    return kind(text)
            raise argparse.ArgumentTypeError(f"{text}: a positive number is expected")
        return parse

    p = argparse.ArgumentParser(
        prog="dev/bench/torch.sh", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares training steps and matrix products with PyTorch's.\nmodels: " + " ".join(MODELS),
        epilog="A whole run on an idle machine writes its report to build/results, too (KEEP=1: to dev/bench/results); "
               "any other only by --save.")
    p.error = lambda message: (print(f"error: {message}", file=sys.stderr), sys.exit(2))
    p.add_argument("--models", type=some_of(MODELS), metavar="A,B", help="these only")
    p.add_argument("--precisions", type=some_of(PRECISIONS), metavar="A,B", default=PRECISIONS, help="default: both")
    p.add_argument("--rounds", type=positive(int), metavar="N", help="default: 3, of the large models 2")
    p.add_argument("--seconds", type=positive(float), metavar="S", default=3.0, help="of training in each (default: 3)")
    p.add_argument("--threads", type=positive(int), metavar="N", help="default: as the trainer chooses")
    p.add_argument("--isa", choices=["avx2"], help="limit both sides")
    p.add_argument("--gemm-only", action="store_true", help="no training")
    p.add_argument("--steps-only", action="store_true", help="no products")
    p.add_argument("--save", action="store_true", help="write the report in any case")
    p.add_argument("-q", dest="quick", action="store_true", help="one round, the two smallest models")
    options = p.parse_args()
    if options.gemm_only and options.steps_only:
        p.error("--gemm-only and --steps-only leave nothing to do")
    options.models = options.models or list(MODELS)[:2 if options.quick else None]
    options.rounds = options.rounds or (1 if options.quick else None)
    return options


def main():
    options = parse_options()
    if not os.access(BENCH, os.X_OK):
        raise Failed(f"{BENCH.relative_to(ROOT)} is missing: please run `make bench` or `make all` first")
    models = [] if options.gemm_only else options.models
    products = [] if options.steps_only else PRODUCTS
    cost = len(options.precisions) * (
        sum(step_cost(side, model, options, round_) for side in SIDES for model in models
            for round_ in range(rounds_of(model, options)))
        + 2 * PRODUCT_COST * len(products) * (options.rounds or 3))
    print(f"this takes about {math.ceil(cost / 60)} min", file=sys.stderr)

    sides, report = Sides(options.threads, options.isa), Report(cost)
    all_before, own_before = cpu_seconds()
    print_head(sides, report, options)
    failures = compare_training(sides, report, options) if models else {}
    for precision in options.precisions if products else []:
        compare_products(sides, report, options, precision)

    sides.close()
    all_after, own_after = cpu_seconds()
    others = max(0, all_after - all_before - (own_after - own_before)) / (time.monotonic() - report.started)
    busy = others / os.cpu_count() > 0.03
    report.say("", f"Other processes took {100 * others / os.cpu_count():.1f} % of the CPUs meanwhile"
                   + (": too much for figures to rely on." if busy else "."))
    if any(side == "eager" for _, _, side in failures):
        raise Failed("PyTorch's side is incomplete, see the report, which was not written to a file")
    if options.save or (len(sys.argv) == 1 and not busy):
        stem = subprocess.run([BENCH, "--name", *sides.threads], env=sides.environment, text=True, check=True,
                              stdout=subprocess.PIPE).stdout.strip()
        file = RESULTS / f"{stem}-torch.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text("\n".join(report.lines) + "\n")
        new.replace(file)
        print(f"written: {file}", file=sys.stderr)
    elif len(sys.argv) == 1:
        print(f"not written to {RESULTS}, since the machine was busy; --save does it anyway", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        try:
            main()
        except Failed as failure:
            sys.exit(f"{CLEAR}error: {failure}")
        except KeyboardInterrupt:
            print(f"{CLEAR}interrupted: nothing was written", file=sys.stderr)
            sys.exit(130)

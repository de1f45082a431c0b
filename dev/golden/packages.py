"""Make packages.golden: what public packages' Muon does to a matrix, by running them as they are installed.

    python packages.py            run all, print the distances and write the file
    python packages.py --check    the same, but compare with the file that is there

Each runs sixty steps on the same gradients, a wide, a tall and a square matrix with a falling spectrum, and a square one of
norm 5e-7, where the guard on the norm decides. It runs twice: in
float32 inside, where its own code lets bfloat16 and float16 be taken out of it (a cast to them becomes one to float32), and
as it is. dev/test/test_recipes.c holds muon.h, set by the recipe's keys alone, against both. What PyPI doesn't have (dion,
and the optimizers of models) is restated in float64 from its published formula: `restated` in CASES.
"""

import contextlib
import inspect
import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path

os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", TORCHDYNAMO_DISABLE="1", DS_ACCELERATOR="cpu")

import numpy as np
import torch

import golden_file

FOLDER = Path(__file__).resolve().parent
FILE = FOLDER / "packages.golden"
STEPS, KEPT = 60, (1, 3, 60)
SHAPES = dict(wide=(12, 20), tall=(20, 12), square=(16, 16), tiny=(16, 16))
LR = 0.02
KERAS_312 = "keras==3.12.0"


def generator(*name):
    return np.random.default_rng(zlib.crc32("/".join(map(str, name)).encode()))


def base(rows, cols):
    """float32, of Frobenius norm 1, its singular values falling from a half to a seventh."""
    rng = generator("packages", 0, rows, cols)
    u, _, vt = np.linalg.svd(rng.standard_normal((rows, cols)), full_matrices=False)
    s = np.geomspace(0.5, 0.15, len(vt))
    return (u * s / np.linalg.norm(s) @ vt).astype(np.float32)


def column_changes(cols):
    """int32 (STEPS, cols): step t's gradient has as column j the base's column |c| - 1, negated where c < 0."""
    rng = generator("packages", "columns", cols)
    return np.array([(rng.permutation(cols) + 1) * rng.choice([-1, 1], cols) for _ in range(STEPS)], np.int32)


BASE = {shape: base(*size) * np.float32(5e-7 if shape == "tiny" else 1) for shape, size in SHAPES.items()}
COLUMNS = {cols: column_changes(cols) for _, cols in SHAPES.values()}
START = {shape: (0.02 * generator("packages", "start", shape).standard_normal(size)).astype(np.float32)
         for shape, size in SHAPES.items()}


def gradient(shape, t):
    c = COLUMNS[SHAPES[shape][1]][t]
    return BASE[shape][:, abs(c) - 1] * np.sign(c).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch's: make(parameter, lr, decay) gives the optimizer of one matrix

@contextlib.contextmanager
def no_half_precision():
    """A cast to bfloat16 or float16 becomes one to float32, in every code that is called inside."""
    half = (torch.bfloat16, torch.float16)
    names = ("bfloat16", "half", "to")
    kept = {name: getattr(torch.Tensor, name) for name in names}

    def to(self, *args, **given):
        swap = lambda x: torch.float32 if isinstance(x, torch.dtype) and x in half else x
        return kept["to"](self, *map(swap, args), **{k: swap(v) for k, v in given.items()})

    torch.Tensor.bfloat16 = torch.Tensor.half = lambda self, *args, **given: self.float()
    torch.Tensor.to = to
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(torch.Tensor, name, function)


def run_torch(make, shape, decay):
    torch.manual_seed(1)
    p = torch.nn.Parameter(torch.tensor(START[shape]))
    optimizer, after = make(p, LR, decay), []
    for t in range(STEPS):
        p.grad = torch.tensor(gradient(shape, t))
        optimizer.step()
        if t + 1 in KEPT:
            after.append(p.detach().numpy().copy())
    return np.array(after)


def torch_muon(p, lr, decay, **given):
    return torch.optim.Muon([p], lr=lr, weight_decay=decay, **given)


def keller(p, lr, decay):
    from muon import SingleDeviceMuon
    return SingleDeviceMuon([p], lr=lr, weight_decay=decay)


def timm(p, lr, decay, **given):
    from timm.optim import Muon
    return Muon([p], lr=lr, weight_decay=decay, **given)


def pytorch_optimizer(p, lr, decay):
    from pytorch_optimizer import Muon
    return Muon([{"params": [p], "use_muon": True}], lr=lr, weight_decay=decay)


def muon_clip(p, lr, decay):
    from pytorch_optimizer import MuonClip
    return MuonClip([{"params": [p], "use_muon": True}], lr=lr, weight_decay=decay)


def heavyball(p, lr, decay):
    import heavyball
    return heavyball.Muon([p], lr=lr, weight_decay=decay)


def muonium(p, lr, decay, package="muonium"):
    """On a CPU its Triton kernel asserts; its own loop in plain PyTorch stands in."""
    if package == "muonium":
        from muonium import Muon
        from muonium.orthogonalize import orthogonalize
        orthogonalize.pe_loop_triton = orthogonalize.pe_loop
    else:
        from dtensor_muon import Muon
        from dtensor_muon.orthogonalize import orthogonalize
        orthogonalize.pe_loop_triton = orthogonalize.pe_loop
    return Muon([p], lr=lr, wd=decay)


def dtensor_muon(p, lr, decay):
    return muonium(p, lr, decay, "dtensor_muon")


def optimuon(p, lr, decay):
    from optimuon import Muon
    return Muon([p], lr=lr, weight_decay=decay)


def deepspeed(p, lr, decay):
    from deepspeed.runtime.zero.muon.original_muon import SingleDeviceMuon
    return SingleDeviceMuon([p], lr=lr, weight_decay=decay)


# ----------------------------------------------------------------------------------------------------------------------
# JAX's, whose kernels are inputs x outputs

def run_optax(shape, decay):
    import jax
    import jax.numpy as jnp
    import optax
    muon = optax.contrib.muon(LR, weight_decay=decay)
    w, after, step = {"w": jnp.asarray(START[shape].T)}, [], jax.jit(muon.update)
    state = muon.init(w)
    for t in range(STEPS):
        update, state = step({"w": jnp.asarray(gradient(shape, t).T)}, state, w)
        w = optax.apply_updates(w, update)
        if t + 1 in KEPT:
            after.append(np.asarray(w["w"]).T)
    return np.array(after)


def run_keras(shape, decay):
    import keras
    w, after = keras.Variable(START[shape].T), []
    muon = keras.optimizers.Muon(LR, weight_decay=decay)
    muon.build([w])
    for t in range(STEPS):
        muon.apply([keras.ops.convert_to_tensor(gradient(shape, t).T)], [w])
        if t + 1 in KEPT:
            after.append(np.asarray(w.value).T)
    return np.array(after)


def keras312(code):
    """What the code prints, in a process of its own, with that version in front of the other."""
    target = Path(sys.prefix) / "keras312"
    if not target.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, KERAS_312], check=True)
    return subprocess.run([sys.executable, "-B", "-c", "import sys, keras, packages; " + code],
                          stdout=subprocess.PIPE, check=True, cwd=FOLDER, env=os.environ | {"PYTHONPATH": f"{target}:{FOLDER}"}).stdout


def run_keras312(shape, decay):
    out = keras312(f"sys.stdout.buffer.write(packages.run_keras({shape!r}, {decay}).astype('f4').tobytes())")
    return np.frombuffer(out, "<f4").reshape(len(KEPT), *SHAPES[shape])


# ----------------------------------------------------------------------------------------------------------------------
# Restated in float64: what can't be installed

POLAR_EXPRESS = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
                 (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                 (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                 (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                 (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]
KELLER = (3.4445, -4.7750, 2.0315)


def iterate(x, polynomials):
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for a, b, c in polynomials:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def restate(shape, decay, step):
    """step(w, b, g, state) -> the change of w but for decay, and what decay is multiplied by; b: zeros, in place."""
    w, b, state, after = START[shape].astype(np.float64), np.zeros(SHAPES[shape]), {}, []
    for t in range(STEPS):
        u, decays = step(w, b, gradient(shape, t).astype(np.float64), state)
        w = w - LR * u - LR * decay * decays * w
        if t + 1 in KEPT:
            after.append(w.copy())
    return np.array(after)


def dion(w, b, g, state):  # microsoft/dion 0a059a4, Muon
    b[:] = 0.95 * b + g
    x = iterate(b / (1.02 * np.linalg.norm(b) + 1e-8), POLAR_EXPRESS)
    return math.sqrt(w.shape[0] / w.shape[1]) * x, 1.0


def moonlight(w, b, g, state):  # MoonshotAI/Moonlight, examples/toy_train.py
    b[:] = 0.95 * b + g
    u = g + 0.95 * b
    return 0.2 * math.sqrt(max(w.shape)) * iterate(u / (np.linalg.norm(u) + 1e-7), 5 * [KELLER]), 1.0


def deepseek_v4(w, b, g, state):  # arXiv 2606.19348
    b[:] = 0.95 * b + g
    u = g + 0.95 * b
    x = iterate(u / np.linalg.norm(u), 8 * [KELLER] + 2 * [(2.0, -1.5, 0.5)])
    return 0.18 * math.sqrt(max(w.shape)) * x, 1.0


def modded_track3(w, b, g, state):  # KellerJordan/modded-nanogpt, records/track_3_optimization/train_gpt_simple.py
    b[:] = 0.95 * b + 0.05 * g
    u = 0.95 * b + 0.05 * g
    return math.sqrt(max(1, w.shape[0] / w.shape[1])) * iterate(u / (np.linalg.norm(u) + 1e-7), 12 * [(2.0, -1.5, 0.5)]), 1.0


def nanochat(w, b, g, state):  # karpathy/nanochat, nanochat/optim.py of July 2026
    rows, cols = w.shape
    b[:] = 0.95 * b + 0.05 * g
    x = 0.95 * b + 0.05 * g
    x = x / np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(x) / math.sqrt(rows)
    x = iterate(x / (1.01 * np.linalg.norm(x) + 1e-6), POLAR_EXPRESS)
    x *= math.sqrt(min(rows, cols)) / np.linalg.norm(x)
    mean = (x * x).mean(axis=1 if rows >= cols else 0, keepdims=True)
    v = state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * mean
    evened = x / np.sqrt(np.maximum(v, 1e-10))
    scale = math.sqrt(max(1, rows / cols))
    u = evened * np.linalg.norm(x) / np.linalg.norm(evened)
    return scale * u, scale * (u * w >= 0)


# ----------------------------------------------------------------------------------------------------------------------

def of_torch(make, **given):
    return lambda shape, decay: run_torch(lambda p, lr, wd: make(p, lr, wd, **given), shape, decay)


def restated(step):
    return lambda shape, decay: restate(shape, decay, step)


# name: (recipe, what ran, how, whether it has a precision of its own inside)
CASES = {
    "torch": ("torch", "torch 2.15.0", of_torch(torch_muon), True),
    "torch_match": ("torch_match", "torch 2.15.0", of_torch(torch_muon, adjust_lr_fn="match_rms_adamw"), True),
    "keller": ("keller", "muon-optimizer 0.1.0", of_torch(keller), True),
    "optax": ("optax", "optax 0.2.8", run_optax, False),
    "keras": ("keras", "keras 3.15.1", run_keras, False),
    "keras312": ("keras312", "keras 3.12.0", run_keras312, False),
    "timm": ("timm", "timm 1.0.31", of_torch(timm), True),
    "nmuon": ("nmuon", "timm 1.0.31", of_torch(timm, nesterov=True), True),
    "pytorch_optimizer": ("pytorch_optimizer", "pytorch_optimizer 4.1.0", of_torch(pytorch_optimizer), True),
    "muon_clip": ("kimi_k2", "pytorch_optimizer 4.1.0", of_torch(muon_clip), True),
    "heavyball": ("heavyball", "heavyball 3.2.1", of_torch(heavyball), True),
    "muonium": ("muonium", "muonium 0.2.0", of_torch(muonium), True),
    "dtensor_muon": ("muonium", "dtensor-muon 0.1.0", of_torch(dtensor_muon), True),
    "optimuon": ("optimuon", "optimuon 0.1.1", of_torch(optimuon), True),
    "deepspeed": ("deepspeed", "deepspeed 0.19.8", of_torch(deepspeed), True),
    "dion": ("dion", "restated", restated(dion), False),
    "moonlight": ("moonlight", "restated", restated(moonlight), False),
    "deepseek_v4": ("deepseek_v4", "restated", restated(deepseek_v4), False),
    "nanochat": ("nanochat", "restated", restated(nanochat), False),
    "modded_track3": ("modded_track3", "restated", restated(modded_track3), False),
}


def defaults(name):
    """{"default_lr": ..., "default_weight_decay": ...} of the package's own signature, as far as it has them."""
    import heavyball
    import keras
    import muon
    import muonium
    import optax
    import optimuon
    import pytorch_optimizer
    import timm.optim
    from deepspeed.runtime.zero.muon import original_muon
    signatures = {
        "torch": torch.optim.Muon, "torch_match": torch.optim.Muon, "keller": muon.SingleDeviceMuon, "optax": optax.contrib.muon,
        "keras": keras.optimizers.Muon, "timm": timm.optim.Muon, "nmuon": timm.optim.Muon,
        "pytorch_optimizer": pytorch_optimizer.Muon, "heavyball": heavyball.Muon, "muonium": muonium.Muon,
        "optimuon": optimuon.Muon, "deepspeed": original_muon.SingleDeviceMuon}
    if name == "keras312":
        return json.loads(keras312("import json; print(json.dumps(packages.of_signature(keras.optimizers.Muon)))"))
    return of_signature(signatures[name]) if name in signatures else {}


def of_signature(function):
    given = inspect.signature(function).parameters
    found = {"default_lr": next((given[k].default for k in ("lr", "learning_rate") if k in given), None),
             "default_weight_decay": next((given[k].default for k in ("weight_decay", "wd") if k in given), None)}
    return {k: v for k, v in found.items() if isinstance(v, (int, float))}


CAUTIOUS = ("muonium", "optimuon", "nanochat")


def apart(x, reference, shape):
    """Relative distance of two changes of the weights, the first times the factor that makes it least."""
    x, reference = (a.astype(np.float64) - START[shape] for a in (x, reference))
    return np.linalg.norm(x * np.sum(x * reference) / np.sum(x * x) - reference) / np.linalg.norm(reference)


def qk_clip():
    """What MuonClip of pytorch_optimizer makes of queries and keys when it only clips, at a rate of zero. Four heads, two of them over
    tau; with latent attention a head's query has six content rows and four rotary ones, which are parameters of their own.
    """
    from pytorch_optimizer import MuonClip
    rng, logits = generator("packages", "qk_clip"), np.array([50, 150, 400, 99.9], np.float32)
    sizes = {"mha_query": (24, 10), "mha_key": (24, 10), "mla_query": (24, 10), "mla_query_rotary": (16, 10), "mla_key": (24, 8)}
    before = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    after = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in before.items()}
    groups = []
    for name, p in after.items():
        p.grad = torch.zeros_like(p)
        groups.append({"params": [p], "use_muon": True, "qk_clip": name[4:], "attention_name": name[:3]})
    MuonClip(groups, lr=0.0).step(attention_max_logits={name: torch.tensor(logits) for name in ("mha", "mla")})
    return {"qk_clip.logits": logits} | {f"qk_clip.before.{k}": x for k, x in before.items()} | {
        f"qk_clip.after.{k}": p.detach().numpy() for k, p in after.items()}


def distances(x, reference, shape):
    """Of the change of the weights, relative, at each of the steps kept."""
    return [np.linalg.norm(a - b) / np.linalg.norm(b - START[shape]) for a, b in zip(x.astype(np.float64), reference)]


@contextlib.contextmanager
def heavyball_in_float32():
    """Its bfloat16 comes of a rounding by chance, not of a cast."""
    import heavyball
    kept = heavyball.utils.stochastic_round_
    heavyball.utils.stochastic_round_ = lambda ref, source=None: ref if source is None else source.to(ref.dtype)
    try:
        yield
    finally:
        heavyball.utils.stochastic_round_ = kept


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: packages.py [--check]")
    torch.set_num_threads(1)
    tensors, described = {}, []
    tensors |= {f"columns.{cols}": x for cols, x in COLUMNS.items()}
    for shape in SHAPES:
        tensors |= {f"base.{shape}": BASE[shape], f"w.{shape}": START[shape]}
    print(f"{'':20}{'':26}as it is, from the same in float32, at steps {', '.join(map(str, KEPT))}")
    for name, (recipe, version, run, half) in CASES.items():
        decay, worst = 0.1 if recipe in CAUTIOUS else 0.5, np.zeros(len(KEPT))
        for shape in SHAPES:
            with no_half_precision(), heavyball_in_float32() if name == "heavyball" else contextlib.nullcontext():
                exact = run(shape, decay)
            tensors[f"exact.{name}.{shape}"] = exact.astype(np.float32)
            if half:
                as_it_is = run(shape, decay)
                tensors[f"as_it_is.{name}.{shape}"] = as_it_is.astype(np.float32)
                if shape != "tiny":
                    worst = np.maximum(worst, distances(as_it_is, exact.astype(np.float64), shape))
        print(f"  {name:18}{version:26}" + ("  ".join(f"{x:.1e}" for x in worst) if half else ""))
        described.append(dict(name=name, recipe=recipe, version=version, lr=LR, weight_decay=decay, as_it_is=half,
                              **defaults(name)))
    tensors |= qk_clip()
    print("\nhow far from torch's the change of the weights after 1, 3, 60 steps is, whatever its size; worst of three shapes")
    for case in described:
        far = [max(apart(tensors[f"exact.{case['name']}.{s}"][k], tensors[f"exact.torch.{s}"][k], s) for s in SHAPES if s != "tiny")
               for k in range(len(KEPT))]
        print(f"  {case['name']:18}" + "  ".join(f"{x:.1e}" for x in far))
    data = golden_file.encode({"cases": json.dumps(described), "steps": np.array(KEPT, np.int32)} | tensors)
    print(f"{len(data)} bytes, {zlib.crc32(data[:-8]):08x}")
    if not sys.argv[1:]:
        FILE.write_bytes(data)
    elif FILE.read_bytes() != data:
        sys.exit(f"not reproduced: {FILE.name}")


if __name__ == "__main__":
    main()

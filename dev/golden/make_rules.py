"""Make the reference files rules_steps.golden and rules_transforms.golden that test_rules.c compares with.

    python make_rules.py            check the restatement against PyTorch's own optimizers, then write both files
    python make_rules.py --check    the same, but compare with the files that are there and fail on any difference

Everything is computed in float64. A second run in float32 shows how near a correct float32 program comes.
"""

import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

import golden_file
import rules

FOLDER = Path(__file__).resolve().parent
STEPS = 50


def generator(*name):
    return np.random.default_rng(zlib.crc32("/".join(map(str, name)).encode()))


def float32_values(x):
    """The float64 tensor of these values rounded to float32: what both sides read."""
    return torch.tensor(np.asarray(x).astype(np.float32)).double()


def to_float32(x):
    return x.contiguous().numpy().astype(np.float32)


def relative(x, reference):
    return float((x.double() - reference).norm() / reference.norm())


# ----------------------------------------------------------------------------------------------------------------------
# Matrices of an RMS of 1

def matrix(kind, rows, cols):
    """gaussian; inverse, inverse2: singular values i^-1, i^-2; rank8"""
    rng = generator("rules", kind, rows, cols)
    x = rng.standard_normal((rows, cols))
    if kind == "rank8":
        x = rng.standard_normal((rows, 8)) @ rng.standard_normal((8, cols))
    elif kind != "gaussian":
        u, _, vt = np.linalg.svd(x, full_matrices=False)
        x = u * np.arange(1.0, len(vt) + 1) ** -dict(inverse=1, inverse2=2)[kind] @ vt
    return float32_values(x * math.sqrt(rows * cols) / np.linalg.norm(x))


# ----------------------------------------------------------------------------------------------------------------------
# Fifty steps of every rule

SHAPES = dict(wide=(16, 28), tall=(28, 16), square=(20, 20))
KINDS = ("gaussian", "inverse", "rank8")
# Of the C test, relative, on the change of the weights. BOUNDS_HERE: adam's u of a first step is sign(g), and a square
# matrix of signs has singular values far below the others, where float32's error of the inverse root is largest;
# deepseekv4 multiplies the rounding in empty directions by 79263; cans is steep at large singular values.
BOUNDS = dict(gaussian=1e-5, inverse=1e-4, rank8=1e-4)
BOUNDS_HERE = {("adamq", "gaussian_square"): 5e-5, ("adamz", "gaussian_square"): 1e-4,
               **{("muon_deepseekv4", f"rank8_{shape}"): 5e-3 for shape in SHAPES},
               **{("muon_cans", f"gaussian_{shape}"): 1e-4 for shape in SHAPES}}

SUM = dict(accumulate=True, momentum=0.9, nesterov=False, lr=0.02)
SPECTRAL = dict(accumulate=True, momentum=0.9, nesterov=False)
FEW, SOME, ALL = 1, 2, 3  # wide Gaussian; Gaussian of every shape; every matrix
CASES = {  # name: (rule, options, matrices)
    "sgd_plain": ("sgd", SUM | dict(momentum=0.0), FEW),
    "sgd_momentum": ("sgd", SUM, FEW),
    "sgd_nesterov": ("sgd", SUM | dict(nesterov=True), FEW),
    "sgd_average": ("sgd", {}, FEW),
    "rmsprop": ("rmsprop", {}, FEW),
    "adam": ("adam", {}, FEW),
    "adamw": ("adamw", dict(beta2=0.999, eps=1e-4), FEW),
    "adamw_cautious": ("adamw", dict(cautious=True), FEW),
    "muon_average": ("muon", dict(nesterov=False, scale="keller"), SOME),
    "muon_average_nesterov": ("muon", dict(scale="match_rms_adamw"), SOME),
    "muon_sum": ("muon", dict(accumulate=True, nesterov=False, scale="rms_one", weight_decay=0.0), SOME),
    "muon_sum_nesterov": ("muon", dict(accumulate=True, scale="match_rms_adamw"), SOME),
    "muon_cautious": ("muon", dict(cautious=True, weight_decay=0.5, scale="keller"), SOME),
    "muon_rms_exact": ("muon", dict(scale="rms_exact"), SOME),
    "msgds_rms_exact": ("msgds", SPECTRAL | dict(scale="rms_exact"), SOME),
    "muon_look_ahead": ("muon", dict(nesterov=False, look_ahead=1.0), SOME),
    "muon_sum_look_ahead": ("muon", dict(nesterov=False, look_ahead=0.7, accumulate=True), FEW),
    "muon_corrected": ("muon", dict(nesterov="corrected", scale="spectral"), SOME),
    "muon_sum_corrected": ("muon", dict(nesterov="corrected", accumulate=True, scale="keller_transposed"), SOME),
    "muon_guard_add": ("muon", dict(guard=3.0, coefficients="youjiacheng", scale="match_rms_adamw", rms=0.18), SOME),
    "muon_guard_max": ("muon", dict(guard=30.0, guard_form="max"), SOME),
    "muon_equalize": ("muon", dict(equalize=True), SOME),
    "muon_renormalize": ("muon", dict(renormalize=True, scale="rms_exact", rms=0.3), SOME),
    "muon_plus": ("muon", dict(renormalize=True, scale="keller"), SOME),
    "muon_decay_scaled": ("muon", dict(decay_scaled=True, weight_decay=0.5, scale="match_rms_adamw"), SOME),
    "muon_decay_scaled_cautious": ("muon", dict(decay_scaled=True, cautious=True, weight_decay=0.5, scale="spectral"), SOME),
    "normuon_nanochat": ("normuon", dict(equalize=True, renormalize=True, axis="longer", scale="keller",
                                         decay_scaled=True, beta2=0.9), SOME),
    "adamw_nesterov": ("adamw", dict(adam_nesterov=True, decay_scaled=True), FEW),
    "adams_nesterov": ("adams", dict(adam_nesterov=True), FEW),
    "muon_9_steps": ("muon", dict(coefficients="polar_express_paper", ns_steps=9), SOME),
    **{f"muon_{name}": ("muon", dict(coefficients=name), ALL) for name in rules.COEFFICIENTS},
    "normuon": ("normuon", dict(scale="match_rms_adamw"), ALL),
    "normuon_longer": ("normuon", dict(scale="match_rms_adamw", axis="longer"), ALL),
    "muon_per_head": ("muon", dict(scale="match_rms_adamw", blocks=(4,)), SOME),
    "muon_per_head_keller": ("muon", dict(scale="keller", blocks=(4,)), SOME),
    "muon_blocks": ("muon", dict(scale="keller", blocks=(3, 5)), FEW),
    "normuon_per_head": ("normuon", dict(axis="longer", blocks=(4,)), SOME),
    "svd": ("svd", dict(scale="keller"), ALL),
    "msgd": ("msgd", SPECTRAL | dict(lr=0.02), FEW),
    **{name: (name, SPECTRAL, ALL) for name in ("msgds", "msgdq", "msgdz")},
    **{name: (name, {}, ALL) for name in ("adams", "adamq", "adamz")},
}


def matrices(which):
    return [f"{kind}_{shape}" for kind in (KINDS if which == ALL else KINDS[:1])
            for shape in (SHAPES if which > FEW else ("wide",))]


def column_changes(cols):
    """int32 (STEPS, cols): step t's gradient has as column j the base's column |c| - 1, negated where c < 0.

    So it keeps the base's singular values and column space, the momentum keeps the rank, and all values are exact.
    """
    rng = generator("rules", "columns", cols)
    return np.array([(rng.permutation(cols) + 1) * rng.choice([-1, 1], cols) for _ in range(STEPS)], np.int32)


def schedules():
    """lr_factor: half the rate, the full one, then down; momentum_factor: a warm-up; grad_scale: from 1/8 to 4; decay_factor."""
    t = np.arange(STEPS)
    lr_factor = np.where(t < 5, (t + 5) / 10, 1 - 0.015 * (t - 5))
    grad_scale = generator("rules", "grad_scale").integers(8, 256, STEPS) / 64
    return dict(lr_factor=lr_factor, momentum_factor=np.minimum(0.9 + 0.005 * t, 1.0), grad_scale=grad_scale,
                decay_factor=1 - 0.02 * t)


def run(rule, o, w, base, columns, plan, dtype=torch.float64):
    """The weights after one step and after all."""
    optimizer = rules.Optimizer(rule, o, w.to(dtype).clone())
    base, after = base.to(dtype), []
    for t in range(STEPS):
        c = torch.tensor(columns[t], dtype=torch.int64)
        g = base[:, c.abs() - 1] * c.sign() * float(plan["grad_scale"][t])
        factors = [float(plan[name][t]) for name in ("lr_factor", "momentum_factor", "decay_factor")]
        optimizer.step(g, *factors)
        if t in (0, STEPS - 1):
            after.append(optimizer.w.clone())
    return after


def bound(case, m):
    return BOUNDS_HERE.get((case, m), BOUNDS[m.split("_")[0]])


def steps_golden():
    plan, described = schedules(), []
    columns = {shape[1]: column_changes(shape[1]) for shape in SHAPES.values()}
    weights = {shape: float32_values(0.25 * generator("rules", "weights", shape).standard_normal(size))
               for shape, size in SHAPES.items()}
    bases = {m: matrix(m.split("_")[0], *SHAPES[m.split("_")[1]]) for m in matrices(ALL)}
    tensors = dict(plan) | {f"columns.{n}": x for n, x in columns.items()}
    tensors |= {f"w.{shape}": to_float32(x) for shape, x in weights.items()}
    tensors |= {f"base.{m}": to_float32(x) for m, x in bases.items()}
    print(f"\nfloat32's error of the weights' change, worst of 1 and {STEPS} steps\n{'':26}" +
          "".join(f"{m:>17}" for m in bases))
    for name, (rule, options, which) in CASES.items():
        o, errors = rules.DEFAULTS | options, []
        for m in matrices(which):
            w, cols = weights[m.split("_")[1]], bases[m].shape[1]
            inputs = (rule, o, w, bases[m], columns[cols], plan)
            exact, near = run(*inputs), run(*inputs, dtype=torch.float32)
            tensors[f"first.{name}.{m}"], tensors[f"last.{name}.{m}"] = map(to_float32, exact)
            errors.append(max(relative(n.double() - w, e - w) for n, e in zip(near, exact)))
            assert errors[-1] <= bound(name, m), f"{name}, {m}: float32 errs by {errors[-1]:.1e}"
        print(f"  {name:24}" + "".join(f"{e:17.1e}" for e in errors))
        described.append(dict(name=name, rule=rule, **o, matrices={m: bound(name, m) for m in matrices(which)}))
    return {"cases": json.dumps(described), **tensors}


# ----------------------------------------------------------------------------------------------------------------------
# The restatement against PyTorch's own optimizers

def train_both(rule, options, torch_optimizer, shape=(16, 28)):
    """Return the weights after twenty steps by the restatement and by PyTorch."""
    o, rng = rules.DEFAULTS | options, generator("rules", "torch", rule)
    w = torch.tensor(rng.standard_normal(shape))
    ours, parameter = rules.Optimizer(rule, o, w.clone()), torch.nn.Parameter(w.clone())
    theirs = torch_optimizer([parameter], lr=o["lr"], weight_decay=o["weight_decay"])
    for t in range(20):
        factor, g = 1 - 0.03 * t, torch.tensor(rng.standard_normal(shape))
        parameter.grad = g.clone()
        theirs.param_groups[0]["lr"] = o["lr"] * factor
        theirs.step()
        ours.step(g, factor)
    return ours.w - w, parameter.detach() - w


def check_torch():
    def bind(optimizer, **fixed):
        return lambda params, **given: optimizer(params, **fixed, **given)

    betas = dict(betas=(0.9, 0.95), eps=1e-3)
    for rule, options, optimizer in (
            ("sgd", SUM | dict(momentum=0.0), bind(torch.optim.SGD)),
            ("sgd", SUM, bind(torch.optim.SGD, momentum=0.9)),
            ("sgd", SUM | dict(nesterov=True), bind(torch.optim.SGD, momentum=0.9, nesterov=True)),
            ("rmsprop", dict(eps=1e-3), bind(torch.optim.RMSprop, alpha=0.95, eps=1e-3)),
            ("adam", dict(eps=1e-3), bind(torch.optim.Adam, **betas)),
            ("adamw", dict(eps=1e-3), bind(torch.optim.AdamW, **betas))):
        ours, theirs = train_both(rule, options, optimizer)
        assert relative(ours, theirs) < 1e-12, f"{rule}: {relative(ours, theirs):.1e}"


def torch_muon_error():
    """{adjust_lr_fn: how far the iteration of torch.optim.Muon, in bfloat16, leads from float64's in twenty steps}"""
    errors = {}
    for adjust, scale in (("original", "keller"), ("match_rms_adamw", "match_rms_adamw")):
        for shape in SHAPES.values():
            ours, theirs = train_both(
                "muon", dict(scale=scale),
                lambda p, **given: torch.optim.Muon(p, momentum=0.95, ns_coefficients=(3.4445, -4.7750, 2.0315),
                                                    ns_steps=5, adjust_lr_fn=adjust, **given), shape)
            errors[adjust] = max(errors.get(adjust, 0.0), relative(theirs, ours))
    assert max(errors.values()) < 0.03, errors
    return errors


# ----------------------------------------------------------------------------------------------------------------------
# The transforms

X = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.5, 1.0]
PHI = {  # published to these digits: five steps on X
    "keller": [.004849, .048473, .145071, .470544, 1.110357, .698917, 1.122332, .712120, 1.079592, .765439, .696436],
    "polar_express": [.009701, .096874, .287462, .846647, .979348, .996775, 1.108276, 1.016459, 1.129064, 1.086403,
                      .903537],
    "bjorck": [.000232, .002317, .006952, .023171, .069434, .228493, .615812, .995849, 1, 1, 1],
}
# (set, steps): smallest and largest singular value, |XXᵀ - 1|_F, cosine with U Vᵀ
GAUSSIAN_384_1536 = {
    ("keller", 5): (.7545, 1.134, 5.30, .9896), ("polar_express", 5): (.8589, 1.141, 3.70, .9959),
    ("polar_express_paper", 5): (.8704, 1.124, 3.36, .9967), ("bjorck", 5): (.546, .972, 7.10, .9909),
    ("cubic", 5): (.194, .531, 16.97, .9717), ("bjorck", 10): (1, 1, 0, 1), ("cubic", 15): (1, 1, 0, 1),
    ("exact12", 12): (1, 1, 0, 1),
}
INVERSE_128_512 = {
    ("keller", 5): (.682, 1.133, 3.98, .9886), ("polar_express", 5): (.859, 1.141, 2.21, .9954),
    ("polar_express_paper", 5): (.871, 1.124, 1.93, .9963), ("bjorck", 5): (.141, 1, 9.40, .8242),
    ("cubic", 5): (.046, 1, 10.69, .6444), ("bjorck", 10): (1, 1, 0, 1), ("cubic", 15): (.999, 1, .005, 1),
    ("exact12", 12): (1, 1, 0, 1),
}
INVERSE2_128_512 = {("keller", 5): (.0284, None, None, .649), ("polar_express", 5): (.0569, None, None, .738),
                    ("exact12", 12): (.237, None, None, .925), ("bjorck", 5): (None, None, None, .324)}


def quality(s):
    """Of a matrix with these singular values and the factors of the original: min, max, |XXᵀ - 1|_F, cosine."""
    return np.array([s.min(), s.max(), np.linalg.norm(s * s - 1), s.sum() / np.linalg.norm(s) / math.sqrt(len(s))])


def check_tables():
    for name, row in PHI.items():
        assert np.allclose(rules.phi(name, np.array(X), 5), row, rtol=0, atol=6e-7), name
    spectra = (("gaussian", 384, 1536, GAUSSIAN_384_1536), ("inverse", 128, 512, INVERSE_128_512),
               ("inverse2", 128, 512, INVERSE2_128_512), ("gaussian", 128, 128, {}))
    for kind, rows, cols, published in spectra:
        s = np.linalg.svd(matrix(kind, rows, cols).numpy(), compute_uv=False)
        s = s / np.linalg.norm(s)
        print(f"\n{kind} {rows}x{cols}, sigma_min/F {s.min():.1e}: singular values min, max; |XXᵀ - 1|_F; cosine")
        for name, steps in GAUSSIAN_384_1536:
            values = quality(rules.phi(name, s, steps))
            print(f"  {name:20}{steps:3}  " + "".join(f"{x:9.4f}" for x in values))
            for x, expected in zip(values, published.get((name, steps), ())):
                assert expected is None or abs(x - expected) <= 0.01 * expected + 0.002, (kind, name, steps, x)


def check_spectral():
    """The restatement against the exact factors; float64, so that what remains is the ridge."""
    print("\nspectral powers 1/2, 1/4, 0: error against U Sᵖ Vᵀ")
    for kind, rows, cols, limits in (("gaussian", 128, 512, (5e-5, 5e-5)), ("gaussian", 128, 128, (3e-3, 1.1e-2)),
                                     ("inverse", 128, 512, (2.5e-3, 5e-3))):
        x = matrix(kind, rows, cols)
        errors = spectral_errors(x)
        print(f"  {kind:9} {rows}x{cols}" + "".join(f"{e:10.1e}" for e in errors))
        assert errors[0] <= 1.1 * limits[0] and errors[1] <= 1.5 * limits[1], errors
        for size in (1e-6, 1e6):
            assert np.allclose(spectral_errors(size * x), errors, rtol=1e-6)


def spectral_errors(x):
    return np.array([relative(rules.spectral_power(x, p), rules.svd_power(x, p)) for p in (0.5, 0.25, 0.0)])


def transforms_golden():
    """Matrices with their factors, the scalar maps of 1 .. 16 steps, the quality of every set."""
    x = {"gaussian_wide": matrix("gaussian", 32, 128), "gaussian_square": matrix("gaussian", 48, 48),
         "gaussian_tall": matrix("gaussian", 40, 24), "inverse_wide": matrix("inverse", 32, 128),
         "inverse2_wide": matrix("inverse2", 32, 128), "rank8_wide": matrix("rank8", 24, 40),
         "row": matrix("gaussian", 1, 9), "column": matrix("gaussian", 9, 1)}
    inputs = np.array(X + list(np.geomspace(1e-5, 1, 30)))
    tensors = {"phi.in": inputs}
    for name in rules.COEFFICIENTS:
        tensors[f"phi.{name}"] = np.array([rules.phi(name, inputs, steps) for steps in range(1, 17)])
    for m, value in x.items():
        u, s, vt = rules.svd(value)
        tensors |= {f"x.{m}": to_float32(value), f"u.{m}": to_float32(u), f"s.{m}": s.numpy(),
                    f"vt.{m}": to_float32(vt), f"spectral.{m}": spectral_errors(value)}
        for name in rules.COEFFICIENTS:
            mapped = rules.phi(name, s / value.norm())
            limit = (1e-3 if m == "rank8_wide" else 5e-12) * max(1, rules.phi(name, 1e-9) / 1e-9 / 4096)
            assert relative(rules.newton_schulz(value, name), u * mapped @ vt) < limit, (name, m)
            tensors[f"quality.{name}.{m}"] = quality(mapped.numpy())
    return tensors


def main():
    check_only = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check_only:
        sys.exit("usage: make_rules.py [--check]")
    torch.set_num_threads(1)  # one order of summation
    check_torch()
    bfloat16 = torch_muon_error()
    print("torch.optim.SGD, RMSprop, Adam, AdamW: ok\ntorch.optim.Muon iterates in bfloat16: its weights differ by",
          ", ".join(f"{e:.1e} ({name})" for name, e in bfloat16.items()))
    check_tables()
    check_spectral()
    files = {"rules_transforms.golden": transforms_golden() | {
                 f"torch_muon.{name}": np.array([e]) for name, e in bfloat16.items()},
             "rules_steps.golden": steps_golden()}

    print()
    different = []
    for name, tensors in files.items():
        data = golden_file.encode(tensors)
        if not check_only:
            (FOLDER / name).write_bytes(data)
        elif not (FOLDER / name).exists() or (FOLDER / name).read_bytes() != data:
            different.append(name)
        print(f"{len(data):8}  {zlib.crc32(data[:-8]):08x}  {name}")
    if different:
        sys.exit(f"not reproduced: {' '.join(different)}")


if __name__ == "__main__":
    main()

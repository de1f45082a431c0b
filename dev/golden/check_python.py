#!/usr/bin/env python3
"""tools/python/muon_c.py against PyTorch and against what the tests of others ask of a Muon.

    build/venv/bin/pip install -r dev/golden/requirements.txt
    make libmuon && build/venv/bin/python -B dev/golden/check_python.py [WORD ...]

Where torch isn't installed, only what needs numpy alone. WORD: only checks whose name has it. Ends with exit code 1 where something
doesn't hold. The parts:

    recipes      every recipe against the packages themselves, by packages.golden (packages.py ran them), through both interfaces
    torch_...    against torch.optim.Muon and AdamW; what torch's test/test_optim.py and test/optim ask of an optimizer
    nanochat     what its tests/test_optim.py asks, of the recipe and of AdamW beside it
    emerging     what Emerging-Optimizers' tests/test_muon_utils.py and test_orthogonalized_optimizer.py ask
    docs         the programs of docs/python.md run
"""
import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "python"))

import numpy as np

import golden_file
import muon_c
from exported import check, end, wanted

torch = muon_c.torch
GOLDEN = golden_file.decode((ROOT / "dev/golden/packages.golden").read_bytes())
CASES = json.loads(GOLDEN["cases"].tobytes().decode())
SHAPES = ("wide", "tall", "square", "tiny")
CHECKS = []


def checks(function):
    CHECKS.append(function)
    return function


def with_torch(function):
    if torch is not None:
        CHECKS.append(function)
    return function


def distance(x, y, start):
    """Of two changes of the weights, relative, in float64."""
    x, y, start = (np.asarray(a, np.float64) for a in (x, y, start))
    return np.linalg.norm(x - y) / np.linalg.norm(y - start)


def raises(kind, words, function, *arguments, **given):
    """That function raises `kind`, one line that has `words`."""
    try:
        function(*arguments, **given)
    except kind as e:
        check(re.search(words, str(e)) is not None and "\n" not in str(e), f"{kind.__name__}: {e}")
    except Exception as e:      # another kind
        check(False, f"{kind.__name__} expected, not {type(e).__name__}: {e}")
    else:
        check(False, f"{kind.__name__} with {words!r} expected: nothing was raised")


# ----------------------------------------------------------------------------------------------------------------------
# numpy

def gradient(shape, t):
    base = GOLDEN[f"base.{shape}"]
    c = GOLDEN[f"columns.{base.shape[1]}"][t]
    return np.ascontiguousarray(base[:, abs(c) - 1] * np.sign(c).astype(np.float32))


@checks
def recipes():
    """Both interfaces, all four matrices in one call: within 1e-5 of the packages in float32, and the same bits as each other."""
    steps = [int(s) for s in GOLDEN["steps"]]
    for case in CASES:
        settings = dict(recipe=case["recipe"], lr=case["lr"], weight_decay=case["weight_decay"])
        w, states, worst = [GOLDEN[f"w.{s}"].copy() for s in SHAPES], [{} for _ in SHAPES], {}
        if torch is not None:
            p = [torch.nn.Parameter(torch.tensor(x)) for x in w]
            optimizer = muon_c.Muon(p, **settings)
        for t in range(steps[-1]):
            g = [gradient(s, t) for s in SHAPES]
            muon_c.step(w, g, states, threads=2, **settings)
            if torch is not None:
                for x, y in zip(p, g):
                    x.grad = torch.tensor(y)
                optimizer.step()
            if t + 1 in steps:
                k = steps.index(t + 1)
                worst[t + 1] = max(distance(w[i], GOLDEN[f"exact.{case['name']}.{s}"][k], GOLDEN[f"w.{s}"]) for i, s in enumerate(SHAPES))
        same = torch is None or all(np.array_equal(x, y.detach().numpy()) for x, y in zip(w, p))
        check(max(worst.values()) <= 1e-5 and same,
              f"{case['recipe']:18}{case['version']:24}" + "".join(f" {x:.1e}" for x in worst.values()) + ("" if same else ": torch differs"))
        defaults = muon_c._settings_of(case["recipe"], None)
        for key, theirs in (("lr", case.get("default_lr")), ("weight_decay", case.get("default_weight_decay"))):
            if theirs is not None:
                check(defaults[key] == theirs, f"{case['recipe']}: {key} {theirs} by default")
    check({c["recipe"] for c in CASES} == set(muon_c.RECIPES), "every recipe has a case")
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    check(all(f"| `{name}` |" in page for name in muon_c.RECIPES), "and a row in docs/recipes.md")


@checks
def structs():
    """The structs here are those of muon.h, field by field: what the library writes into them is found where it should be."""
    o = muon_c.library.muon_default_options()
    found = {name: getattr(o, name) for name, _ in o._fields_ if name != "coefficients"}
    check(found == dict(momentum=0.95, nesterov=1, look_ahead=0.0, accumulate=0, ns_steps=0, guard=0.0, guard_form=0, equalize=0,
                        renormalize=0, scale=2, rms=0.2, cautious=0, decay_scaled=0, decay_factor=1.0, axis=0, beta1=0.9,
                        beta2=0.95, eps=1e-8, adam_nesterov=0), "MuonOptions")
    header = (ROOT / "muon.h").read_text(encoding="utf-8")
    for name, struct in (("MuonCoefficients", muon_c._Coefficients), ("MuonOptions", muon_c._Options), ("MuonParam", muon_c._Param),
                         ("Muon", muon_c._Muon)):
        plain = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.S)
        body = re.search(r"typedef struct \{([^}]*)\} " + name + ";", plain).group(1)
        fields = [re.search(r"(\w+)(\[.*)?$", part.strip()).group(1) for line in body.split(";") if line.strip() for part in line.split(",")]
        check(fields == [n for n, _ in struct._fields_], f"{name}: {', '.join(fields)}")
    macro = re.search(r'#define MUON_VERSION "(.*)"', header).group(1)
    check(muon_c.library.muon_version().decode() == macro and macro.startswith(muon_c.VERSION), f"version {macro}")
    codes = re.search(r"MUON_OK = 0,(.*?)MUON_E_COUNT", header, re.S).group(1)
    codes = re.findall(r"^    (MUON_E_\w+),", codes, re.M)
    check([codes[i - 1] for i in (4, 5, 6, 7, 8)] == ["MUON_E_VECTOR", "MUON_E_NOT_FINITE", "MUON_E_STATE", "MUON_E_DIVERGED",
                                                     "MUON_E_LOGIT"], "codes")


@checks
def numpy_bits_and_errors():
    """The same bits for any number of threads and after a restart; what can't be is said."""
    rng = np.random.default_rng(1)
    shapes = [(16, 24), (24, 16), (300, 260), (40,), (3, 8, 12)]
    rules = ["muon", "normuon", "muon", "adamw", "muon"]
    ends = []
    for threads in (1, 2, 3):
        rng = np.random.default_rng(1)
        w, states = [rng.standard_normal(s).astype(np.float32) for s in shapes], [{} for _ in shapes]
        for t in range(4):
            if t == 2:      # as from a file
                states = pickle.loads(pickle.dumps(states))
            for x, s, rule in zip(w, states, rules):
                muon_c.step([x], [rng.standard_normal(x.shape).astype(np.float32)], [s], threads=threads, rule=rule,
                            **(dict(batched=True) if x.ndim == 3 else {}))
        ends.append(w)
    check(all(np.array_equal(a, b) for e in ends for a, b in zip(e, ends[0])) and states[0]["step"] == 4, "1, 2, 3 threads")
    x, g = np.ones((4, 6), np.float32), np.ones((4, 6), np.float32)
    before = x.copy()
    muon_c.step([x, x.copy()], [None, g], [{}, {}])
    check(np.array_equal(x, before), "a gradient that is None")
    state = {}
    g[2, 3] = np.nan
    raises(FloatingPointError, r"array 0 \(4 x 6\): NaN or infinity in its gradient", muon_c.step, [x], [g], [state])
    check(np.array_equal(x, before) and state["step"] == 0 and not state["momentum_buffer"].any(), "which changes nothing")
    g[2, 3] = 1
    for words, kind, arguments, given in (
            ("float64", TypeError, ([x.astype(np.float64)], [g], [{}]), {}),
            ("contiguous", TypeError, ([x[:, ::2]], [g[:, ::2]], [{}]), {}),
            ("numpy array is expected, not list", TypeError, ([x], [[1.0]], [{}]), {}),
            (r"gradients\[0\]: of shape \(6, 4\)", ValueError, ([x], [np.ascontiguousarray(g.T)], [{}]), {}),
            ("1 weights, 2 gradients", ValueError, ([x], [g, g], [{}]), {}),
            ("momentun", TypeError, ([x], [g], [{}]), dict(momentun=0.9)),
            ("rule 'adan'", ValueError, ([x], [g], [{}]), dict(rule="adan")),
            ("recipe 'kers'", ValueError, ([x], [g], [{}]), dict(recipe="kers")),
            ("lr is outside", ValueError, ([x], [g], [{}]), dict(lr=-1)),
            ("momentum is outside", ValueError, ([x], [g], [{}]), dict(momentum=1.0)),
            ("ns_steps is outside", ValueError, ([x], [g], [{}]), dict(ns_steps=101)),
            ("ns_coefficients 'kelle'", ValueError, ([x], [g], [{}]), dict(ns_coefficients="kelle")),
            ("ns_coefficients: a name", ValueError, ([x], [g], [{}]), dict(ns_coefficients=[(1, 2)])),
            ("adjust_lr_fn 'x'", ValueError, ([x], [g], [{}]), dict(adjust_lr_fn="x")),
            ("blocks is outside", ValueError, ([x], [g], [{}]), dict(blocks=(3,))),
            ("vector; rule adamw", ValueError, ([x[:1]], [g[:1]], [{}]), {}),
            ("muon is for matrices", ValueError, ([x[0]], [g[0]], [{}]), {}),
            ("twice", ValueError, ([x, x], [g, g], [{}, {}]), {}),
            ("momentum_buffer of 3 numbers, not 24", ValueError, ([x], [g], [{"momentum_buffer": np.zeros(3, np.float32)}]), {})):
        raises(kind, words, muon_c.step, *arguments, **given)
    check(np.array_equal(x, before), "none of which has changed the weights")
    raises(ValueError, "axis", muon_c.step, [x], [g], [{}], rule="normuon", axis="columns")


@checks
def qk_clip():
    """MuonClip's, against pytorch_optimizer's: two of four heads above 100."""
    q, k = (GOLDEN[f"qk_clip.before.mha_{x}"].copy() for x in ("query", "key"))
    clipped = muon_c.qk_clip(q, k, GOLDEN["qk_clip.logits"])
    error = max(np.abs(x / GOLDEN[f"qk_clip.after.mha_{n}"] - 1).max() for x, n in ((q, "query"), (k, "key")))
    check(clipped == 2 and error <= 2e-7, f"two heads, to {error:.1e}")
    raises(FloatingPointError, "logit", muon_c.qk_clip, q, k, [1, 2, float("nan"), 3])
    raises(ValueError, "do not fit", muon_c.qk_clip, q, k, [1, 2, 3, 4, 5])


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch

def parameters(shapes, dtype=None, seed=1):
    torch.manual_seed(seed)
    return [torch.nn.Parameter((0.05 * torch.randn(s)).to(dtype or torch.float32)) for s in shapes]


def give_gradients(ps, seed):
    torch.manual_seed(seed)
    for p in ps:
        p.grad = torch.randn(p.shape).to(p.dtype)


def twins(shapes, dtype=None):
    return parameters(shapes, dtype), parameters(shapes, dtype)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b))


def state_of(optimizer):
    """A state as torch.save and torch.load make it."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file)


@contextlib.contextmanager
def newton_schulz_in_float32():
    """torch.optim.Muon with its casts to bfloat16 taken out."""
    kept = torch.Tensor.to

    def to(self, *args, **given):
        swap = lambda x: torch.float32 if x is torch.bfloat16 else x
        return kept(self, *map(swap, args), **{k: swap(v) for k, v in given.items()})

    torch.Tensor.to = to
    try:
        yield
    finally:
        torch.Tensor.to = kept


MATRICES = [(32, 48), (48, 32), (64, 64), (96, 32), (2, 50)]
GROUPS = lambda ps: [dict(params=ps[:2]), dict(params=ps[2:3], rule="adamw", lr=3e-3, weight_decay=0.02, betas=(0.8, 0.9), eps=1e-7),
                     dict(params=ps[3:], rule="normuon", lr=5e-3, weight_decay=0.3)]
MIXED = [(32, 48), (48, 32), (7, 5, 3), (24, 16), (16, 40)]


@with_torch
def torch_muon():
    """torch.optim.Muon at steps 1, 3, 60, in float32, with every argument that it has; and once as it is."""
    for given in ({}, dict(nesterov=False), dict(momentum=0.8, weight_decay=0.0), dict(ns_steps=3, eps=1e-3),
                  dict(ns_coefficients=(2.0, -1.5, 0.5), ns_steps=12), dict(adjust_lr_fn="match_rms_adamw"),
                  dict(adjust_lr_fn="spectral_unclamped"), dict(adjust_lr_fn="original"), dict(lr=torch.tensor(0.02)),
                  dict(momentum=0.0, nesterov=False)):
        words, worst = ", ".join(f"{k}={v}" for k, v in given.items()) or "as it is by default", []
        given = dict(lr=0.02) | given           # where a step is small, the rounding of the weights is all that one sees
        for exact in (True,) if len(given) > 1 else (True, False):
            ours, theirs = twins(MATRICES)
            start = [p.detach().clone() for p in ours]
            a, b = muon_c.Muon(ours, **given), torch.optim.Muon(theirs, **given)
            for t in range(60):
                give_gradients(ours, t)
                give_gradients(theirs, t)
                a.step()
                with newton_schulz_in_float32() if exact else contextlib.nullcontext():
                    b.step()
                if t + 1 in (1, 3, 60):
                    worst.append(max(distance(x.detach(), y.detach(), s) for x, y, s in zip(ours, theirs, start)))
            buffers = all(torch.allclose(a.state[x]["momentum_buffer"], b.state[y]["momentum_buffer"], atol=1e-6) for x, y in zip(ours, theirs))
            check(buffers, f"{words}: the buffers")
        check(max(worst[:3]) <= 1e-5, f"{words}: " + " ".join(f"{x:.1e}" for x in worst[:3]))
        if worst[3:]:
            check(1e-3 < max(worst[3:]) < 0.03, "torch in bfloat16: " + " ".join(f"{x:.1e}" for x in worst[3:]))


@with_torch
def torch_elementwise():
    """AdamW, Adam, RMSprop, SGD beside torch's, parameters of any shape, each that sits out other steps."""
    for rule, theirs_of, given in (
            ("adamw", torch.optim.AdamW, dict(lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)),
            ("adamw", torch.optim.AdamW, dict(lr=0.01)), ("adam", torch.optim.Adam, dict(lr=0.01, weight_decay=0.1)),
            ("rmsprop", torch.optim.RMSprop, dict(lr=0.01, weight_decay=0.1, eps=1e-6)),
            ("sgd", torch.optim.SGD, dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)),
            ("sgd", torch.optim.SGD, dict(lr=0.01, momentum=0.9, weight_decay=0.1))):
        ours, theirs = twins([(6, 8), (5,), (), (2, 3, 4), (0,), (1, 9)])
        start = [p.detach().clone() for p in ours]
        own = dict(accumulate=True, nesterov=False) | given if rule == "sgd" else given
        a, b = muon_c.Muon(ours, rule=rule, **own), theirs_of(theirs, **given)
        for t in range(20):
            for ps in (ours, theirs):
                give_gradients(ps, t)
                ps[t % 4].grad = None
                for p in ps:
                    if p.grad is not None:
                        p.grad *= p.numel() > 1 or 3.0
            a.step()
            b.step()
        worst = max(distance(x.detach(), y.detach(), s) for x, y, s in zip(ours, theirs, start) if x.numel())
        check(worst <= 1e-5 and a.state[ours[0]]["step"] == 15, f"{rule}: {worst:.1e} from {theirs_of.__name__}")


@with_torch
def torch_states():
    """A state goes on with the same bits: from a file, by deepcopy, by pickle, in bfloat16 too, whatever torch's casts do."""
    for dtype in (torch.float32, torch.bfloat16):
        ours, other = twins(MIXED, dtype)
        a = muon_c.Muon(GROUPS(ours), lr=0.02)
        for t in range(5):
            give_gradients(ours, t)
            a.step()
        with torch.no_grad():
            for x, y in zip(ours, other):
                y.copy_(x)
        b = muon_c.Muon(GROUPS(other), lr=0.9, momentum=0.1)
        kept = copy.deepcopy(a.state_dict())
        b.load_state_dict(a.state_dict())           # shared tensors would go two steps at once
        c, d = copy.deepcopy(a), pickle.loads(pickle.dumps(a))
        e_of = [torch.nn.Parameter(p.detach().clone()) for p in ours]
        e = muon_c.Muon(GROUPS(e_of))
        e.load_state_dict(state_of(a))
        sets = [ours, other, *([p for g in o.param_groups for p in g["params"]] for o in (c, d)), e_of]
        check(repr(kept) == repr(a.state_dict()), "loading leaves what is loaded")
        for t in range(5, 10):
            for o, ps in zip((a, b, c, d, e), sets):
                give_gradients(ps, t)
                o.step()
        for words, o, ps in zip(("another optimizer", "deepcopy", "pickle", "torch.save"), (b, c, d, e), sets[1:]):
            same = equal(ours, ps) and all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for p, q in zip(ours, ps)
                                           for x, y in zip(a.state[p].values(), o.state[q].values()))
            check(same and len(o.param_groups) == 3 and o.param_groups[0]["lr"] == 0.02, f"{dtype}, {words}: the same bits")
        check(all(v.dtype == torch.float32 for s in e.state.values() for v in s.values() if isinstance(v, torch.Tensor)), "float32 states")
        c.add_param_group(dict(params=parameters([(8, 8)]), lr=1.0))
        check(c.param_groups[3]["lr"] == 1.0 and c.param_groups[3]["rule"] == "muon" and len(a.param_groups) == 3, "a copy's own groups")
    a = muon_c.Muon(parameters([(4, 4)]), recipe="keller")
    raises(ValueError, "different number of parameter groups", a.load_state_dict, c.state_dict())
    older = a.state_dict()
    del older["param_groups"][0]["eps_form"], older["param_groups"][0]["rms"]       # of a version that had fewer settings
    a.load_state_dict(older)
    check(a.param_groups[0]["eps_form"] == "add" and a.param_groups[0]["rms"] == 0.2, "settings that a state lacks stay")
    wrong = muon_c.Muon(parameters([(4, 6)]))
    give_gradients(wrong.param_groups[0]["params"], 1)
    wrong.step()
    state = wrong.state_dict()
    state["state"][0]["momentum_buffer"] = torch.zeros(3, 3)
    wrong.load_state_dict(state)
    raises(ValueError, r"parameter 0 of group 0 \(4 x 6\): momentum_buffer of 9 numbers", wrong.step)


@with_torch
def torch_states_of_torch():
    """A run of torch.optim.Muon and AdamW goes on here from their state_dicts; and back."""
    shapes = [(24, 32), (32, 24)]
    for rule, make in (("muon", torch.optim.Muon), ("adamw", torch.optim.AdamW)):
        ours, theirs = twins(shapes)
        with newton_schulz_in_float32():
            b = make(theirs, lr=0.01)
            for t in range(4):
                give_gradients(theirs, t)
                b.step()
            a = muon_c.Muon(ours, rule=rule, lr=0.5)
            a.load_state_dict(b.state_dict())
            with torch.no_grad():
                for x, y in zip(ours, theirs):
                    x.copy_(y)
            start = [p.detach().clone() for p in ours]
            for t in range(4, 8):
                give_gradients(theirs, t)
                give_gradients(ours, t)
                a.step()
                b.step()
        worst = max(distance(x.detach(), y.detach(), s) for x, y, s in zip(ours, theirs, start))
        check(worst <= 1e-5 and a.param_groups[0]["lr"] == 0.01 and a.param_groups[0]["rule"] == rule, f"{make.__name__}: {worst:.1e}")
        state = a.state_dict()
        if rule == "muon":
            state["param_groups"][0]["ns_coefficients"], state["param_groups"][0]["ns_steps"] = (3.4445, -4.7750, 2.0315), 5
        else:
            for s in state["state"].values():
                s["step"] = torch.tensor(float(s["step"]))
        back = make(theirs)
        back.load_state_dict(state)
        back.step()
        check(True, f"and back into {make.__name__}")


@with_torch
def torch_groups():
    """Groups, settings and names; what is wrong is refused when it is given, and nothing is left behind."""
    p = parameters([(4, 6), (6, 4), (5,), (8, 8)])
    o = muon_c.Muon([dict(params=p[:1], lr=0.5), dict(params=p[1:2], recipe="heavyball"), dict(params=p[2:3], rule="adamw")],
                    lr=0.1, weight_decay=0.0)
    g = o.param_groups
    check([x["lr"] for x in g] == [0.5, 0.1, 0.1] and g[1]["momentum"] == 0.9 and g[1]["look_ahead"] == 1.0 and g[0]["momentum"] == 0.95,
          "a group's own, then what is given for all, then the recipe's")
    check("momentum" not in g[2] and "betas" not in g[0] and g[2]["betas"] == (0.9, 0.999), "only what the rule uses")
    o.add_param_group(dict(params=p[3], rule="normuon"))
    check(g[3]["beta2"] == 0.95 and g[3]["params"] == [p[3]], "add_param_group of one parameter")
    k = muon_c.Muon([dict(params=p[:1]), dict(params=p[2:3], rule="adamw")], recipe="keller")
    check(k.param_groups[0]["lr"] == 0.02 and k.param_groups[1]["lr"] == 3e-4 and k.param_groups[1]["eps"] == 1e-10, "a recipe's AdamW")
    named = muon_c.Muon([("blocks.0.wq", p[0]), ("blocks.0.wo", p[1])])
    give_gradients(p, 1)
    p[1].grad[0, 0] = float("inf")
    raises(FloatingPointError, r"blocks\.0\.wo \(6 x 4\): NaN or infinity in its gradient; nothing has changed", named.step)
    repr(o)
    fresh = lambda *shape, **given: torch.nn.Parameter(torch.zeros(*shape, **given))
    for words, kind, make in (
            ("empty parameter list", ValueError, lambda: muon_c.Muon([])),
            ("iterable of Tensors", TypeError, lambda: muon_c.Muon(fresh(4, 4))),
            ("can only optimize Tensors", TypeError, lambda: muon_c.Muon([5])),
            ("non-leaf", ValueError, lambda: muon_c.Muon([fresh(4, 4) * 2])),
            ("more than one parameter group", ValueError, lambda: muon_c.Muon([dict(params=p[0]), dict(params=p[0])])),
            ("muon is for matrices", ValueError, lambda: muon_c.Muon([fresh(4)])),
            ("muon is for matrices", ValueError, lambda: muon_c.Muon([fresh(2, 3, 4)])),
            ("a vector; rule adamw", ValueError, lambda: muon_c.Muon([fresh(1, 9)])),
            ("float64, cpu", TypeError, lambda: muon_c.Muon([fresh(4, 4, dtype=torch.float64)])),
            ("float16, cpu", TypeError, lambda: muon_c.Muon([fresh(4, 4, dtype=torch.float16)])),
            ("complex64", TypeError, lambda: muon_c.Muon([fresh(4, 4, dtype=torch.complex64)])),
            ("float32, meta", TypeError, lambda: muon_c.Muon([fresh(4, 4, device="meta")])),
            ("not contiguous", TypeError, lambda: muon_c.Muon([torch.nn.Parameter(torch.zeros(4, 6).T)])),
            ("not contiguous", TypeError, lambda: muon_c.Muon([torch.nn.Parameter(torch.zeros(10, 5, 2)[..., 0])])),
            ("lr is outside", ValueError, lambda: muon_c.Muon([fresh(4, 4)], lr=-1e-2)),
            ("weight_decay is outside", ValueError, lambda: muon_c.Muon([fresh(4, 4)], weight_decay=-1)),
            ("momentum is outside", ValueError, lambda: muon_c.Muon([fresh(4, 4)], momentum=-0.1)),
            ("eps is outside", ValueError, lambda: muon_c.Muon([fresh(4, 4)], eps=-1)),
            ("betas is outside", ValueError, lambda: muon_c.Muon([fresh(4, 4)], rule="adamw", betas=(1.0, 0.9))),
            ("adjust_lr_fn 'arbitrary'", ValueError, lambda: muon_c.Muon([fresh(4, 4)], adjust_lr_fn="arbitrary")),
            ("no setting 'ns_stps'", TypeError, lambda: muon_c.Muon([fresh(4, 4)], ns_stps=4)),
            ("rule 'adan'", ValueError, lambda: o.add_param_group(dict(params=fresh(4, 4), rule="adan"))),
            ("lr is outside", ValueError, lambda: o.add_param_group(dict(params=fresh(4, 4), lr=float("nan"))))):
        raises(kind, words, make)
    check(len(o.param_groups) == 4, "a group that was refused isn't there")
    q = fresh(4, 4)
    q.grad = torch.zeros(4, 4).to_sparse()
    raises(TypeError, "dense gradient", muon_c.Muon([q]).step)
    q.grad, before = torch.full((4, 4), float("nan")), q.detach().clone()
    own = muon_c.Muon([q])
    raises(FloatingPointError, "nothing has changed", own.step)
    check(torch.equal(q, before) and own.state[q]["step"] == 0, "a NaN changes nothing")


@with_torch
def torch_steps():
    """Closures, hooks, zero_grad, gradients that are None or of another layout, empty parameters; versions for autograd."""
    p = parameters([(4, 6), (6, 4), (0, 5), (8, 8)])
    o, x = muon_c.Muon(p, lr=0.1), torch.randn(6)

    def closure():
        o.zero_grad()
        loss = (p[0] @ x).square().sum()
        loss.backward()
        return loss

    before, calls = [q.detach().clone() for q in p], []
    first = o.step(closure)
    for _ in range(60):
        for group in o.param_groups:
            group["lr"] *= 0.9
        last = o.step(closure)
    check(last < 1e-2 * first and torch.is_grad_enabled(), f"a closure: the loss falls from {first:.2g} to {last:.2g}")
    check(torch.equal(p[3], before[3]) and p[3] not in o.state, "no gradient: neither weights nor state")
    o.zero_grad()
    check(p[0].grad is None and o.step() is None, "a step without any gradient")
    o.register_step_pre_hook(lambda *_: calls.append("before"))
    o.register_step_post_hook(lambda *_: calls.append("after"))
    p[1].grad = torch.randn(4, 6).T
    twin = torch.nn.Parameter(p[1].detach().clone())
    twin.grad = p[1].grad.contiguous()
    version, alone = p[1]._version, muon_c.Muon([twin], lr=o.param_groups[0]["lr"])
    o.step()
    alone.step()
    check(calls == ["before", "after"] and torch.equal(twin, p[1]), "hooks; a gradient that is a transpose")
    check(p[1]._version > version, "autograd sees that a parameter has changed")
    q = parameters([(4, 4)])[0]
    loss = (q * q).sum()
    q.grad = torch.ones(4, 4)
    muon_c.Muon([q]).step()
    raises(RuntimeError, "modified by an inplace operation", lambda: loss.backward())
    frozen = parameters([(4, 4)])[0].requires_grad_(False)
    muon_c.Muon([frozen]).step()
    check(frozen.grad is None, "a frozen parameter")


@with_torch
def torch_schedulers():
    """Rates that schedulers set are those of the steps; momentum is cycled, too."""
    schedulers = torch.optim.lr_scheduler
    for make in (lambda o: schedulers.StepLR(o, 3, 0.5), lambda o: schedulers.LambdaLR(o, lambda t: 1 / (1 + t)),
                 lambda o: schedulers.CosineAnnealingLR(o, 12), lambda o: schedulers.OneCycleLR(o, 0.05, total_steps=20),
                 lambda o: schedulers.CyclicLR(o, 0.01, 0.05, 4, cycle_momentum=True),
                 lambda o: schedulers.SequentialLR(o, [schedulers.LinearLR(o, 0.1, total_iters=4), schedulers.ExponentialLR(o, 0.9)], [4]),
                 lambda o: schedulers.ChainedScheduler([schedulers.ConstantLR(o, 0.5, 3), schedulers.StepLR(o, 4)])):
        ours, theirs = twins([(24, 16), (16, 24)])
        start = [x.detach().clone() for x in ours]
        a, b = muon_c.Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # SequentialLR's own
            sa, sb = make(a), make(b)
        for t in range(12):
            give_gradients(ours, t)
            give_gradients(theirs, t)
            a.step()
            with newton_schulz_in_float32():
                b.step()
            sa.step()
            sb.step()
        same = all(a.param_groups[0][k] == b.param_groups[0][k] for k in ("lr", "momentum"))
        worst = max(distance(x.detach(), y.detach(), s) for x, y, s in zip(ours, theirs, start))
        check(same and worst <= 1e-5, f"{type(sa).__name__}: {worst:.1e}, lr {a.param_groups[0]['lr']:.3g}, momentum {a.param_groups[0]['momentum']:.3g}")
    p = parameters([(4, 4)])
    o = muon_c.Muon(p, lr=1.0)
    plateau = schedulers.ReduceLROnPlateau(o, patience=0)
    for _ in range(3):
        plateau.step(1.0)
    check(o.param_groups[0]["lr"] < 1.0, "ReduceLROnPlateau")


@with_torch
def torch_bfloat16():
    """bfloat16 parameters: the copy in float32 steps as a float32 parameter would, small steps add up, changed weights count."""
    rounded = parameters(MIXED, torch.bfloat16)
    full = [torch.nn.Parameter(p.detach().float()) for p in rounded]
    a, b = muon_c.Muon(GROUPS(rounded), lr=1e-4), muon_c.Muon(GROUPS(full), lr=1e-4)
    for t in range(20):
        give_gradients(rounded, t)
        for p, q in zip(rounded, full):
            q.grad = p.grad.float()
        a.step()
        b.step()
    check(all(torch.equal(a.state[p]["master"], q) and torch.equal(p, q.bfloat16()) for p, q in zip(rounded, full)), "as float32, then rounded")
    with torch.no_grad():
        rounded[0].zero_()
        full[0].zero_()
        rounded[1][3] = full[1][3] = 2.0
    give_gradients(rounded, 20)
    for p, q in zip(rounded, full):
        q.grad = p.grad.float()
    a.step()
    b.step()
    check(all(torch.equal(a.state[p]["master"], q) for p, q in zip(rounded, full)), "weights changed from outside")
    p, q = parameters([(32, 32)], torch.bfloat16)[0], parameters([(32, 32)], torch.bfloat16)[0]
    with torch.no_grad():
        p.fill_(1.0), q.fill_(1.0)
    a, b = muon_c.Muon([p], lr=1e-3, weight_decay=0.0), torch.optim.Muon([q], lr=1e-3, weight_decay=0.0)
    g = torch.randn(32, 32).bfloat16()
    for _ in range(30):
        p.grad, q.grad = g.clone(), g.clone()
        a.step()
        b.step()
    moved = [float((x.detach().float() - 1).abs().mean()) for x in (p, q)]
    check(moved[0] > 2 * moved[1], f"30 steps of rate 1e-3 from weights of 1: moved by {moved[0]:.1e}, torch's by {moved[1]:.1e}")


@with_torch
def torch_threads():
    """The same bits for any number of threads, many shapes in one call."""
    kept, ends = torch.get_num_threads(), []
    shapes = [(8, 8 * k) for k in range(1, 9)] + [(300, 260), (512, 512)] + [(16 * k, 24) for k in range(1, 9)]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        ps = parameters(shapes)
        o = muon_c.Muon(ps, lr=0.02)
        for t in range(3):
            give_gradients(ps, t)
            o.step()
        ends.append([p.detach().clone() for p in ps])
    torch.set_num_threads(kept)
    check(all(equal(e, ends[0]) for e in ends), f"{len(shapes)} matrices, 1, 2 and 3 threads")


@with_torch
def torch_trains():
    """A small model, Muon and AdamW in one optimizer, learns what it is given; the same twice, to the bit."""
    def run():
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        hidden = [model[2].weight]
        others = [p for p in model.parameters() if p is not hidden[0]]
        o = muon_c.Muon([dict(params=hidden, lr=0.02), dict(params=others, rule="adamw", lr=5e-3, weight_decay=0.0)])
        x = torch.randn(256, 8)
        y, losses = (x[:, :1] * x[:, 1:2]).tanh(), []
        for _ in range(150):
            o.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            o.step()
            losses.append(loss.item())
        return losses
    a, b = run(), run()
    check(a == b and a[-1] < 0.1 * a[0], f"loss {a[0]:.3f} to {a[-1]:.4f}, twice")


# ----------------------------------------------------------------------------------------------------------------------
# What others ask

@with_torch
def nanochat():
    """Of its optimizer, on a GPU: AdamW is torch's, runs are deterministic, a distance to a target falls, a first step is flat."""
    sizes = [(48,), (1024, 4)] + 3 * [(32, 64)] + 2 * [(64, 32)]
    groups = lambda ps: [dict(params=ps[:1], rule="adamw", lr=0.02, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0),
                         dict(params=ps[1:2], rule="adamw", lr=0.02, betas=(0.8, 0.96), eps=1e-10, weight_decay=0.0),
                         dict(params=ps[2:5], lr=0.02, weight_decay=0.0), dict(params=ps[5:], lr=0.02, weight_decay=0.0)]
    ours, theirs = twins([(64, 32)])
    given = dict(lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    a, b = muon_c.Muon(ours, rule="adamw", **given), torch.optim.AdamW(theirs, **given)
    for t in range(10):
        give_gradients(ours, t)
        give_gradients(theirs, t)
        a.step()
        b.step()
    check(torch.allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6), f"AdamW: within {float((ours[0] - theirs[0]).detach().abs().max()):.1e} of torch's")
    ends = []
    for _ in range(2):
        ps = parameters(sizes)
        o = muon_c.Muon(groups(ps), recipe="nanochat")
        for t in range(5):
            give_gradients(ps, t)
            o.step()
        ends.append(ps)
    check(equal(*ends), "two runs, the same bits")
    targets = [p.detach().clone() for p in parameters(sizes, seed=9)]
    ps = parameters(sizes, seed=9)
    with torch.no_grad():
        for p in ps:
            p += 0.1
    o, far = muon_c.Muon(groups(ps), recipe="nanochat"), lambda: [float((p.detach() - t).norm()) for p, t in zip(ps, targets)]
    before = far()
    for _ in range(50):
        for p, t in zip(ps, targets):
            p.grad = 2 * (p.detach() - t)
        o.step()
    ratios = [b / a for a, b in zip(before, far())]
    check(max(ratios) < 0.5, f"fifty steps: distances are {min(ratios):.2f} to {max(ratios):.2f} of what they were")
    p = torch.nn.Parameter(torch.zeros(32, 64))
    give_gradients([p], 0)
    muon_c.Muon([p], recipe="nanochat", lr=1.0, momentum=0.0, beta2=0.99, weight_decay=0.0).step()
    s = torch.linalg.svdvals(p.detach())
    check(s.max() / s.min() < 4.0, f"the first step's singular values: largest over smallest {s.max() / s.min():.2f}")
    raises(ValueError, "beta2", muon_c.Muon, [p], recipe="nanochat", beta2=1.0)        # theirs takes it: a second moment that stays zero


def iterate(x, rows, steps):
    """Newton-Schulz in the precision of x; the last row for all further steps."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True)
    for i in range(steps):
        a, b, c = rows[min(i, len(rows) - 1)]
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


EMERGING = {     # their tables, as in their muon_utils.py: rounded to four digits in polar_express
    "youjiacheng": [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046),
                    (2.8366, -3.0525, 1.2012)],
    "polar_express_paper": [(8.2051, -22.9019, 16.4607), (4.0664, -2.8612, 0.5184), (3.9096, -2.8234, 0.5250), (3.2856, -2.4153, 0.4853),
                            (2.2779, -1.6198, 0.3985), (1.8726, -1.2307, 0.3585), (1.8564, -1.2132, 0.3568), (1.8750, -1.2500, 0.3750)],
    "cubic5": [(3.3656576, -3.3420992, 0.0), (2.5744352, -1.4957376, 0.0), (2.5368962, -1.4312570, 0.0), (2.4418906, -1.2764040, 0.0),
               (2.2230472, -0.9630650, 0.0)],
    "deepseekv4": 8 * [(3.4445, -4.7750, 2.0315)] + 2 * [(2.0, -1.5, 0.5)],
    "cans": [(8.4703, -25.1081, 18.6293), (4.1828, -3.1087, 0.5806), (3.9619, -2.9541, 0.5630), (3.2866, -2.4647, 0.5074),
             (2.2737, -1.6447, 0.4162)],
}


@with_torch
def emerging():
    """Of orthogonalize: close to U V^T and to the iteration, in batches, at any size of the input, with sets and steps of one's own."""
    torch.manual_seed(5)
    for shape in ((512, 512), (512, 256), (256, 512)):
        x = torch.randn(shape)
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        far = (muon_c.orthogonalize(x.clone(), "youjiacheng") - u @ v).abs().max()
        check(far < 0.1, f"{shape}: within {far:.3f} of U V^T by youjiacheng, their quintic (they ask for 0.1)")
    for name, steps in (("youjiacheng", 5), ("cubic5", 5), ("deepseekv4", 10), ("polar_express_paper", 9), ("cans", 5), ("cans", 9)):
        for shape in ((511, 513), (511, 257), (257, 513)):
            x, rows = torch.randn(shape), EMERGING[name]
            exact = iterate(x.double(), rows, steps)
            ours, plain = (float((y - exact).abs().max()) for y in (muon_c.orthogonalize(x.clone(), rows, steps), iterate(x, rows, steps)))
            check(ours <= max(1e-6, 4 * plain), f"{name} x {steps}, {shape}: {ours:.1e} from float64, the plain iteration in float32 {plain:.1e}")
            if name != "cans":                          # whose norm is another here
                far = float((muon_c.orthogonalize(x.clone(), name, steps) - exact).abs().max())
                check(far <= (5e-4 if name == "polar_express_paper" else max(1e-6, 4 * plain)), f"and by name {far:.1e}")
    for shape in ((511, 513), (511, 257), (257, 513)):
        x = 2.0 ** torch.randint(-10, -5, shape)
        expected = iterate(x.double(), [(3, 5, 7), (11, 13, 17)], 2)
        far = float(((muon_c.orthogonalize(x.clone(), [(3, 5, 7), (11, 13, 17)]) - expected) / expected).abs().max())
        check(far < 1e-5, f"own triples on positive numbers, {shape}: {far:.1e}, relative (they ask for 1e-6 of one float32 code and another)")
    for shape in ((2, 256, 256), (4, 128, 256), (3, 256, 128)):
        x = torch.randint(-3, 4, shape).float()
        slices = torch.stack([muon_c.orthogonalize(y.clone(), "cubic5") for y in x])
        check(torch.equal(muon_c.orthogonalize(x.clone(), "cubic5"), slices), f"a batch {shape}: the bits of its slices")
    x = 1e-30 * torch.randn(256, 256)
    far = float((muon_c.orthogonalize(x.clone()) - muon_c.orthogonalize(1e30 * x.double().float())).abs().max())
    check(torch.linalg.vector_norm(x) == 0 and far < 1e-4, f"numbers of 1e-30, whose norm in float32 is 0: {far:.1e} from those of 1")
    for shape in ((512, 512), (512, 256), (256, 512)):
        p = min(shape)
        u, v = (torch.linalg.qr(torch.randn(n, p)).Q for n in shape)
        x = u @ torch.diag(torch.logspace(6, -6, p)) @ v.T
        far = {name: float((muon_c.orthogonalize(x.clone(), name, steps) - u @ v.T).norm())
               for name, steps in (("polar_express_paper", 10), ("deepseekv4", 10), ("youjiacheng", 5))}
        check(far["youjiacheng"] > max(far["polar_express_paper"], far["deepseekv4"]), f"condition 1e12, {shape}: " + ", ".join(f"{k} {v:.2f}" for k, v in far.items()))
    for shape in ((512, 256), (256, 512)):
        y = muon_c.orthogonalize(torch.randn(shape), "polar_express_paper", 16)
        gram = y.T @ y if shape[0] > shape[1] else y @ y.T
        far = float((gram - torch.eye(256)).abs().max())
        check(far < 1e-5, f"polar_express_paper x 16, {shape}: |O O^T - I| {far:.1e} (they ask for 1e-5)")
    raises(TypeError, "a matrix, or a batch", muon_c.orthogonalize, torch.zeros(10))
    raises(TypeError, "a matrix, or a batch", muon_c.orthogonalize, torch.zeros(2, 3, 4, 5))
    raises(TypeError, "float32.*float64", muon_c.orthogonalize, torch.zeros(5, 7, dtype=torch.float64))
    raises(ValueError, "ns_coefficients 'nonexistent'", muon_c.orthogonalize, torch.zeros(5, 7), "nonexistent")
    for rows, cols in ((512, 512), (512, 256), (256, 512), (97, 37), (37, 97)):
        for name, scale in (("original", max(1, rows / cols) ** 0.5), ("rms_one", max(rows, cols) ** 0.5), ("spectral_unclamped", (rows / cols) ** 0.5)):
            p, q = torch.nn.Parameter(torch.zeros(rows, cols)), torch.nn.Parameter(torch.zeros(rows, cols))
            p.grad = q.grad = torch.randn(rows, cols)
            muon_c.Muon([p], lr=1.0, adjust_lr_fn=name).step()
            muon_c.Muon([q], lr=1.0, adjust_lr_fn="none").step()
            if not torch.allclose(p, scale * q, rtol=1e-5):
                check(False, f"scale {name} of {rows} x {cols}")
    check(True, "scales")
    for shape in ((5, 7), (33, 65), (127, 257)):       # their momentum is torch.optim.SGD's where lr and momentum are chosen for it
        for momentum, lr in ((0.0, 2.0), (0.5, 2.0)):
            p, q = (torch.nn.Parameter(torch.randint(-5, 5, shape).float()) for _ in "pq")
            with torch.no_grad():
                q.copy_(p)
            a = muon_c.Muon([p], rule="msgd", lr=lr, momentum=momentum, nesterov=False, weight_decay=0.0, adjust_lr_fn="none")
            b = torch.optim.SGD([q], lr=lr * (1 - momentum), momentum=momentum)
            for _ in range(5):
                p.grad = torch.randint(-5, 5, shape).float()
                q.grad = p.grad.clone()
                a.step()
                b.step()
            check(torch.equal(p, q), f"without a transform (msgd), {shape}, momentum {momentum}: torch's SGD, to the bit")


@with_torch
def docs():
    """Every Python program of docs/python.md, on its own."""
    page = ROOT / "docs/python.md"
    programs = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8") if page.exists() else "", re.S | re.M)
    check(len(programs) >= 2, f"{len(programs)} programs")
    for i, program in enumerate(programs):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, "-B", "-c", program], cwd=folder, capture_output=True, text=True,
                                  env=os.environ | {"PYTHONPATH": str(ROOT / "tools/python")})
            check(done.returncode == 0, f"program {i + 1}: {done.stdout.strip().splitlines()[-1:] or ''} {done.stderr[-500:]}")


def main():
    print(f"muon.h {muon_c.library.muon_version().decode()}, numpy {np.__version__}, " + (f"torch {torch.__version__}, {torch.get_num_threads()} threads"
                                                                                         if torch is not None else "without torch"))
    for function in CHECKS:
        if not wanted(function.__name__):
            continue
        begin = time.monotonic()
        print(f"{function.__name__}: {function.__doc__.splitlines()[0]}")
        try:
            function()
        except Exception:
            check(False, f"{function.__name__} ended: " + traceback.format_exc())
        print(f"      {time.monotonic() - begin:.1f} s")
    end()


if __name__ == "__main__":
    main()

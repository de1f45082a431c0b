"""Make the reference files gradients_*.golden and steps_*.golden that test_gpt.c compares with.

    python make_golden.py            check the restatement against PyTorch's own functions, then write every file
    python make_golden.py --check    the same, but compare with the files that are there and fail on any difference

Everything is computed in float64 from float32 weights. A second run in float32 shows how near a correct float32
program comes, and runs with one part of the optimizer left out show how far a wrong one stays away.
"""

import copy
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import golden_file
import model
import optim

FOLDER = Path(__file__).resolve().parent
BATCH, BLOCK, VOCAB, STEPS = 3, 16, 37, 10
TOLERANCE = 2e-6           # of the C test, relative, on each loss
FLOAT32_LIMIT = 1e-6       # what a float32 run of the same formulas may use of it
ABLATION_LIMIT = 1e-5      # what leaving something out must at least change
GRADIENT_LIMIT = 5e-6      # float32 gradients here; the C test allows 1e-5

# ----------------------------------------------------------------------------------------------------------------------
# The configs

SIZES = dict(layers=2, heads=4, kv_heads=4, width=32, block=BLOCK, vocab=VOCAB)
GPT2 = dict(arch="gpt2", **SIZES, norm="layernorm", norm_eps=1e-5, embed_norm=False, bias=True, position="learned",
            rope_theta=10000.0, qk_norm=False, mlp="gelu_tanh", mlp_width=64, head="tied", logit_softcap=0.0,
            attn_softcap=0.0)
SPEEDRUN = GPT2 | dict(arch="speedrun", norm="rmsnorm_plain", norm_eps=1e-6, embed_norm=True, bias=False,
                       position="rope", qk_norm=True, mlp="relu2", head="untied", logit_softcap=15.0)
LLAMA = GPT2 | dict(arch="llama", norm="rmsnorm", bias=False, position="rope", kv_heads=2, mlp="swiglu",
                    head="untied")
MIXED = GPT2 | dict(position="rope", kv_heads=1, mlp="gelu_erf", attn_softcap=5.0)
# heads that are not width/heads channels wide: wider ones, and contexts as Llama 3.1 makes them longer; narrower ones
WIDE = LLAMA | dict(head_size=12, bias=True, rope_theta=500.0, rope_factor=8.0, rope_low=1.0, rope_high=4.0, rope_original=24)
NARROW = SPEEDRUN | dict(head_size=6, kv_heads=2)
MLA = LLAMA | dict(mixer="mla", norm_eps=1e-6, q_lora=24, kv_lora=20, nope=12, rope=8, v_head=16)
del MLA["kv_heads"]  # every head has its own keys
MLA_PLAIN = MLA | dict(q_lora=0, nope=10, rope=4, v_head=6, attn_softcap=5.0)
EXPERTS = dict(experts=8, experts_per_token=2, expert_width=16, shared_experts=1, dense_layers=1, expert_groups=1,
               groups_per_token=1, router_scale=2.5, balance="bias", balance_rate=0.01)
MOE = LLAMA | EXPERTS
MOE_GROUPS = LLAMA | EXPERTS | dict(experts_per_token=3, shared_experts=2, dense_layers=0, expert_groups=2)
MOE_AUX = MIXED | EXPERTS | dict(mlp="gelu_tanh", shared_experts=0, balance="aux", balance_rate=0.5)
K2 = MLA | EXPERTS | dict(experts_per_token=3, expert_groups=2)
DEAD = 2  # the expert of the first layer with experts that gets no token, in the gradient files and in muonclip_k2


def gradient_config(m):
    return {"model": m, "train": {"steps": 1, "batch": BATCH, "grad_clip": 0.0},
            "optimizer": {"name": "adamw", "qk_clip": {"tau": 0.0}}}


def steps_config(m, name, grad_clip, muon, adamw, tau=0.0, alpha=0.5, outer={}):
    muon = dict(lr=0.02, momentum=0.95, nesterov=True, steps=5, coefficients="keller", scale="keller",
                weight_decay=0.1) | muon
    adamw = dict(lr=0.003, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1) | adamw
    return {"model": m, "train": {"steps": STEPS, "batch": BATCH, "grad_clip": grad_clip} | outer,
            "optimizer": {"name": name, "muon": muon, "adamw": adamw, "qk_clip": {"tau": tau, "alpha": alpha}}}


# A file's config with the gains of its random weights. Without RoPE a key bias has a true gradient of zero, of which
# float32 leaves some 1e-8 of the terms: the small wo of "gpt2" makes them small beside the other gradients, so that the
# test's bound of 1e-9 · ‖all gradients‖ is well above a float32 program's noise.
# With experts the seed is one whose choices are so clear that products in bf16 choose the same.
GRADIENTS = {
    "gpt2": (GPT2, dict(wq=1.4, wk=1.4, wo=0.005)),
    "speedrun": (SPEEDRUN, dict(wq=1.4, wk=1.4)),
    "llama": (LLAMA, dict(wq=1.4, wk=1.4)),
    "mixed": (MIXED, dict(wq=2.0, wk=2.0)),
    "wide": (WIDE, dict(wq=1.4, wk=1.4)),
    "narrow": (NARROW, dict(wq=1.4, wk=1.4)),
    "mla": (MLA, dict(w_qa=0.02, w_kva=0.02, w_qb=2.0, w_kvb=1.4)),
    "mla_plain": (MLA_PLAIN, dict(wq=2.0, w_kvb=2.0)),
    "moe": (MOE, dict(wq=1.4, wk=1.4), 359),
    "moe_groups": (MOE_GROUPS, dict(wq=1.4, wk=1.4), 144),
    "moe_aux": (MOE_AUX, dict(wq=1.4, wk=1.4), 215),
    "k2": (K2, dict(w_qb=1.4), 1),
}
CHOICE_MARGIN = 4e-3       # of a score, between experts that are chosen and others, in the gradient files

# Wrong conventions of latent attention and of longer contexts, as changes of the model's section: each must move the loss.
WRONG = {
    "wide": (dict(rope_factor=1.0), dict(rope_low=3.0), dict(rope_high=8.0)),
    "mla": (dict(attn_root="nope"), dict(latent_eps=1e-5)),  # the latter shows by the tiny w_qa and w_kva above
    "mla_plain": (dict(attn_root="nope"),),
}

# A file's seed and config. The same noise, divided by a tiny eps, would make AdamW move such a key bias and with it the
# maximum logits: the gpt2 files take an eps far above the noise. The clipped runs have a low tau and a high rate, so
# that queries and keys grow fast, and seeds with which at least two heads are over tau at each step.
MUONCLIP = dict(lr=0.05, scale="match_rms_adamw")
TRAINING = {
    "adamw": (19, steps_config(GPT2, "adamw", 1.0, {}, dict(eps=1e-5))),
    "muon": (26, steps_config(GPT2, "muon", 1.0, {}, dict(eps=1e-5))),
    "muonclip": (24, steps_config(GPT2, "muonclip", 1.0, MUONCLIP, dict(eps=1e-5), tau=1.5)),
    "muonclip_gqa": (11, steps_config(LLAMA | dict(bias=True), "muonclip", 2.0, MUONCLIP, {}, tau=1.5, alpha=0.3)),
    "muonclip_wide": (11, steps_config(WIDE, "muonclip", 2.0, MUONCLIP, {}, tau=1.5, alpha=0.3)),
    "muonclip_mla": (1, steps_config(MLA, "muonclip", 1.0, MUONCLIP, {}, tau=1.5)),
    "muonclip_mla_plain": (1, steps_config(MLA_PLAIN, "muonclip", 1.0, MUONCLIP, {}, tau=1.5, alpha=0.3)),
    "muonclip_moe": (34, steps_config(MOE | dict(balance_rate=0.05), "muonclip", 2.0, MUONCLIP, {}, tau=1.5, alpha=0.3)),
    "muonclip_k2": (0, steps_config(K2 | dict(balance_rate=0.05), "muonclip", 1.0, MUONCLIP, {}, tau=1.5)),
}
TRAINING["muloco"] = (0, steps_config(MOE | dict(balance_rate=0.05), "muon", 2.0, dict(lr=0.01), {},
                                         outer=dict(local_steps=2, outer_lr=0.7, outer_momentum=0.5)))
TRAINING["averages"] = (0, steps_config(MOE | dict(balance_rate=0.05), "muon", 2.0, dict(lr=0.01), {}))
TRAINING["averages"][1]["optimizer"] |= dict(ema_nesterov=dict(beta=1.5, gamma=0.7, begin=2, end=8),
                                             tail_ema=dict(mix=0.6, horizon=3.0, begin=6))
# the tensors stored after the last step, where there are
FINAL = ("wq", "bk", "w_kva", "w_qb", "w_kvb", "w_expert_in", "w_expert_out", "w_shared_in", "w_router", "router_bias",
         "w_out", "wte")
STEP_MARGIN = 1e-5         # of a choice in the training runs

# What is left out: changes of the config, or arguments of Optimizer.
WITHOUT = {
    "clip": {"optimizer": {"qk_clip": {"tau": 0.0}}},
    "decay": {"optimizer": {"muon": {"weight_decay": 0.0}}},
    "adamw_decay": {"optimizer": {"adamw": {"weight_decay": 0.0}}},
    "nesterov": {"optimizer": {"muon": {"nesterov": False}}},
    "grad_clip": {"train": {"grad_clip": 0.0}},
    "bias_scaling": dict(clip_biases=False),
    "separate_qkv": dict(packed_qkv=True),
    "rotated_clip": dict(rotated_alpha=0.5),
    "rotated_root": {"model": {"attn_root": "nope"}},  # logits divided by sqrt(nope) instead of sqrt(nope + rope)
    "router_bias": {"model": {"balance_rate": 0.0}},
    "normalization": {"model": {"normalized": False}},
    "router_scale": {"model": {"router_scale": 1.0}},
    "separate_experts": dict(stacked_experts=True),
    "outer_step": {"train": {"local_steps": 0}},
    "outer_lr": {"train": {"outer_lr": 1.0}},
    "outer_momentum": {"train": {"outer_momentum": 0.0}},
    "outer_nesterov": dict(outer_nesterov=False),
    "look_ahead": {"optimizer": {"ema_nesterov": {"beta": 0.0}}},
    "memory": {"optimizer": {"ema_nesterov": {"gamma": 0.0}}},
    "begin": {"optimizer": {"ema_nesterov": {"begin": 3}}},
    "end": {"optimizer": {"ema_nesterov": {"end": 9}}},
}
ABLATIONS = {
    "adamw": ("adamw_decay", "grad_clip"),
    "muon": ("decay", "adamw_decay", "nesterov", "separate_qkv", "grad_clip"),
    "muonclip": ("clip", "decay", "adamw_decay", "nesterov", "bias_scaling", "separate_qkv", "grad_clip"),
}
ABLATIONS["muonclip_gqa"] = ABLATIONS["muonclip"]
ABLATIONS["muonclip_wide"] = ABLATIONS["muonclip"]
ABLATIONS["muonclip_mla"] = ("clip", "rotated_clip", "rotated_root", "decay", "adamw_decay", "nesterov", "grad_clip")
ABLATIONS["muonclip_mla_plain"] = ABLATIONS["muonclip_mla"]
ABLATIONS["muonclip_moe"] = ("clip", "decay", "adamw_decay", "router_bias", "normalization", "router_scale",
                             "separate_experts")
ABLATIONS["muloco"] = ("outer_step", "outer_lr", "outer_momentum", "outer_nesterov", "router_bias")
ABLATIONS["averages"] = ("look_ahead", "memory", "begin", "end")
ABLATIONS["muonclip_k2"] = ("rotated_clip",) + ABLATIONS["muonclip_moe"]


def merged(config, changes):
    """Return a copy of the nested dictionary with the changes applied."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        config[key] = merged(config[key], value) if isinstance(value, dict) else value
    return config


# ----------------------------------------------------------------------------------------------------------------------
# Weights and tokens: all random, nothing zero, large enough that every nonlinearity bends

def generator(*name):
    return np.random.default_rng(zlib.crc32("/".join(map(str, name)).encode()))


def random_weights(m, seed, **gains):
    """Return {name: float32 array}: W ~ N(0, gain²/columns), gain 1 unless given by name; vectors get 0.3."""
    def deviation(name, shape):
        if name in ("wte", "wpe"):
            return 0.3 if m["head"] == "tied" else 1.0
        if name == "head":
            return 1.5 if m["logit_softcap"] > 0 else 0.3
        if name.startswith("b") or "norm" in name:
            return 0.3
        if name == "router_bias":
            return 0.1
        return gains.get(name, 1.0) / shape[-1] ** 0.5

    weights = {}
    for name, shape in model.tensor_shapes(m).items():
        center = 1.0 if name.endswith("norm_w") or name in ("norm1_w", "norm2_w", "normf_w") else 0.0
        values = center + deviation(name, shape) * generator(seed, name).standard_normal(shape)
        weights[name] = values.astype(np.float32)
    return weights


def random_tokens(seed, steps):
    """Return inputs and targets (steps, B, T): a cycle of 12 tokens, one in three replaced by any token."""
    rng = generator(seed, "tokens")
    cycle = rng.permutation(VOCAB)[:12]
    phase = rng.integers(0, 12, (steps, BATCH, 1)) + np.arange(BLOCK + 1)
    noise = rng.integers(0, VOCAB, phase.shape)
    tokens = np.where(rng.random(phase.shape) < 1 / 3, noise, cycle[phase % 12]).astype(np.int32)
    return tokens[..., :-1].copy(), tokens[..., 1:].copy()


def to_torch(weights, dtype):
    return {name: torch.tensor(value, dtype=dtype) for name, value in weights.items()}


def to_float32(x):
    return x.detach().numpy().astype(np.float32)


# ----------------------------------------------------------------------------------------------------------------------
# Running

def loss_and_gradients(m, w, inputs, targets):
    """Return of one batch (B, T) the loss, {name: gradient}, the largest logits (L, NH), the logits and the routing.

    The gradients are those of the loss plus, with balance aux, its rate times the balance losses of all layers.
    """
    leaves = {name: x.detach().clone().requires_grad_() for name, x in w.items()}
    tokens = [torch.tensor(x, dtype=torch.int64) for x in (inputs, targets)]
    loss, logits, max_logit, routed = model.forward(m, leaves, *tokens)
    whole = loss + m["balance_rate"] * routed["balance"] if m.get("balance") == "aux" else loss
    grads = torch.autograd.grad(whole, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return loss.item(), dict(zip(leaves, grads)), max_logit, logits.detach(), routed


def train(config, weights, inputs, targets, dtype=torch.float64, **departures):
    """Train over the given batches (steps, B, T). Losses and maximum logits are those before each update."""
    w = to_torch(weights, dtype)
    optimizer = optim.Optimizer(config, w, **departures)
    rows = []
    for batch in zip(inputs, targets):
        optimizer.begin()
        loss, grads, max_logit, _, routed = loss_and_gradients(config["model"], w, *batch)
        norm, gamma = optimizer.step(grads, max_logit, routed["loads"])
        optimizer.finish()
        loads = torch.stack(routed["loads"]).numpy() if routed["loads"] else np.zeros((0, 0))
        rows.append((loss, max_logit.numpy(), norm, gamma.numpy(), loads, routed["margin"]))
    losses, max_logits, norms, gammas, loads, margins = map(np.array, zip(*rows))
    return dict(losses=losses, max_logits=max_logits, norms=norms, gammas=gammas, loads=loads, margins=margins, final=w)


def worst(losses, reference):
    return float(np.max(np.abs(losses - reference) / np.abs(reference)))


# ----------------------------------------------------------------------------------------------------------------------
# The restatement against PyTorch's own functions and against mathematics

def check_close(name, ours, theirs, tolerance=1e-12):
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    assert error <= tolerance, f"{name}: relative error {error:.2e}, at most {tolerance:.0e} expected"


def check_layers():
    rng = generator("layers")
    def rand(*shape):
        return torch.tensor(rng.standard_normal(shape))

    x, gain, shift = 3 * rand(5, 32), rand(32), rand(32)
    for eps in (1e-5, 0.5):
        m = dict(norm="layernorm", norm_eps=eps)
        check_close("layernorm", model.norm(m, x, gain, shift), F.layer_norm(x, (32,), gain, shift, eps))
        m = dict(norm="rmsnorm", norm_eps=eps)
        check_close("rmsnorm", model.norm(m, x, gain), F.rms_norm(x, (32,), gain, eps))
        m = dict(norm="rmsnorm_plain", norm_eps=eps)
        check_close("rmsnorm_plain", model.norm(m, x), F.rms_norm(x, (32,), None, eps))
    check_close("gelu_tanh", model.activation("gelu_tanh", x), F.gelu(x, approximate="tanh"))
    check_close("gelu_erf", model.activation("gelu_erf", x), F.gelu(x))
    check_close("relu2", model.activation("relu2", x), F.relu(x).square())
    check_close("silu", model.activation("swiglu", x), F.silu(x))
    weight, bias = rand(7, 32), rand(7)
    check_close("linear", model.linear(x, weight, bias), F.linear(x, weight, bias))

    for kv_heads in (4, 2, 1):
        q, k, v = 2 * rand(3, 4, 16, 8), 2 * rand(3, kv_heads, 16, 8), rand(3, kv_heads, 16, 8)
        out, max_logit = model.attend(q, k, v, 0.0)
        check_close("attention", out, F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
        for h in range(4):
            pairs = [q[b, h, i] @ k[b, h // (4 // kv_heads), j] for b in range(3) for i in range(16)
                     for j in range(i + 1)]
            check_close("maximum logit", max_logit[h], max(pairs) / 8**0.5)

    # RoPE is the multiplication of x1 + i·x2 by exp(i · angle), so the logits depend on distances only.
    angle = torch.arange(16)[:, None] * 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    turned = torch.complex(q[..., :4], q[..., 4:]) * torch.polar(torch.ones_like(angle), angle)
    check_close("rope", model.rope(dict(rope_theta=10000.0), q), torch.cat([turned.real, turned.imag], -1))

    z, target = 4 * rand(3, 16, VOCAB), torch.tensor(rng.integers(0, VOCAB, (3, 16)))
    check_close("cross-entropy", model.cross_entropy(z, target), F.cross_entropy(z.flatten(0, 1), target.flatten()))


def check_moe():
    """A token at a time, with the words of the paper: arXiv 2412.19437, equations 12 to 20."""
    for m in (MOE, MOE_GROUPS, MOE_AUX):
        x = torch.tensor(generator("moe").standard_normal((2, 5, m["width"])))
        w = {n: t[0] for n, t in to_torch(random_weights(m, "moe"), torch.float64).items()}
        ours, loads, _, balance = model.moe(m, x, w)
        theirs, counts, losses = torch.zeros_like(x), torch.zeros(m["experts"]), []
        for b in range(x.shape[0]):
            f, p = torch.zeros(m["experts"], dtype=x.dtype), torch.zeros(m["experts"], dtype=x.dtype)
            for t in range(x.shape[1]):
                score = [torch.sigmoid(x[b, t] @ w["w_router"][e]) for e in range(m["experts"])]
                by = [float(score[e] + w["router_bias"][e]) for e in range(m["experts"])]
                size = m["experts"] // m["expert_groups"]
                group = [sum(sorted(by[g * size:(g + 1) * size])[-2:]) for g in range(m["expert_groups"])]
                stays = sorted(range(len(group)), key=lambda g: -group[g])[: m["groups_per_token"]]
                of = [e for e in range(m["experts"]) if e // size in stays]
                chosen = sorted(of, key=lambda e: -by[e])[: m["experts_per_token"]]
                for e in chosen:
                    one = {n.replace("expert_", ""): w[n][e] for n in w if n.startswith("w_expert_")}
                    gate = score[e] / sum(score[i] for i in chosen) * m["router_scale"]
                    theirs[b, t] += gate * model.mlp(m, x[b, t], one)
                    counts[e] += 1
                    f[e] += m["experts"] / (m["experts_per_token"] * x.shape[1])
                p += torch.stack(score) / sum(score) / x.shape[1]
                if m["shared_experts"]:
                    theirs[b, t] += model.mlp(m, x[b, t], w, "shared_")
            losses.append(f @ p)
        check_close("moe", ours, theirs)
        check_close("balance loss", balance, sum(losses) / len(losses))
        assert torch.equal(loads.to(counts.dtype), counts)


def check_adamw():
    rng = generator("adamw")
    o = dict(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-3)
    ours = torch.tensor(rng.standard_normal((4, 5)))
    theirs = torch.nn.Parameter(ours.clone())
    reference = torch.optim.AdamW([theirs], o["lr"], (o["beta1"], o["beta2"]), o["eps"], weight_decay=0.3)
    m, v = torch.zeros_like(ours), torch.zeros_like(ours)
    for t in range(1, 8):
        g = torch.tensor(rng.standard_normal((4, 5)))
        theirs.grad = 10 * g
        norm = torch.nn.utils.clip_grad_norm_([theirs], 2.0)
        clipped = {"g": 10 * g}
        check_close("gradient norm", norm.new_tensor(optim.clip_grad_norm(clipped, 2.0)), norm)
        optim.adamw(ours, clipped["g"], m, v, t, o, 0.3)
        reference.step()
        check_close("adamw", ours, theirs.detach())


def check_outer_step():
    """Three workers' mean against torch's SGD with Nesterov's momentum."""
    rng = generator("outer")
    for momentum in (0.0, 0.5, 0.9):
        o = dict(outer_lr=0.7, outer_momentum=momentum, outer_nesterov=True)
        ours = torch.tensor(rng.standard_normal((4, 5)))
        theirs, v = torch.nn.Parameter(ours.clone()), torch.zeros_like(ours)
        reference = torch.optim.SGD([theirs], o["outer_lr"], momentum, nesterov=momentum > 0)
        for _ in range(6):
            workers = [ours + torch.tensor(rng.standard_normal((4, 5))) for _ in range(3)]
            theirs.grad = theirs.detach() - torch.stack(workers).mean(0)
            optim.outer_step(ours, workers, v, o)
            reference.step()
            check_close("outer step", ours, theirs.detach())


def check_muon():
    rng = generator("muon")
    a, b, c = optim.KELLER
    for rows, cols in ((32, 32), (64, 32), (32, 64)):
        # The iteration changes singular values only, each by the scalar polynomial.
        x = torch.tensor(rng.standard_normal((rows, cols)))
        u, s, vt = torch.linalg.svd(x, full_matrices=False)
        s = s / s.norm()
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        check_close("orthogonalize", optim.orthogonalize(x, 5), u @ torch.diag(s) @ vt)

        # PyTorch's Muon iterates in bfloat16, so momentum, decay and scale agree only roughly.
        for scale, rule in (("keller", "original"), ("match_rms_adamw", "match_rms_adamw")):
            for nesterov in (True, False):
                o = dict(lr=0.1, momentum=0.7, nesterov=nesterov, steps=5, coefficients="keller", scale=scale,
                         weight_decay=0.5)
                ours = torch.tensor(0.1 * rng.standard_normal((rows, cols)))
                theirs, buffer = torch.nn.Parameter(ours.clone()), torch.zeros_like(ours)
                reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.7, nesterov=nesterov, weight_decay=0.5,
                                             ns_coefficients=optim.KELLER, ns_steps=5, adjust_lr_fn=rule)
                for _ in range(4):
                    g = torch.tensor(rng.standard_normal((rows, cols)))
                    theirs.grad = g
                    reference.step()
                    optim.muon(ours, optim.muon_direction(g, buffer, o), o)
                check_close("muon", ours, theirs.detach(), 0.03)
    assert not optim.orthogonalize(torch.zeros(3, 4), 5).any()


def check_qk_clip():
    """On frozen inputs of a layer its heads' logits become exactly gamma times the old ones; a silent head stays."""
    for kv_heads in (4, 2, 1):
        for bias in (True, False):
            m = LLAMA | dict(kv_heads=kv_heads, bias=bias)
            w = to_torch(random_weights(m, "qk_clip", wq=1.8, wk=1.8), torch.float64)
            inputs, targets = (x[0] for x in random_tokens("qk_clip", 1))
            before = loss_and_gradients(m, w, inputs, targets)[2]
            tau = float(before.flatten().median())
            for layer in range(m["layers"]):
                clipped = {name: x.clone() for name, x in w.items()}
                gamma = optim.qk_clip(m, clipped, before, tau, 0.3)
                for name in w.keys() - {"wte", "normf_w", "head"}:  # the layers before this one stay as they were
                    clipped[name][:layer] = w[name][:layer]
                after = loss_and_gradients(m, clipped, inputs, targets)[2]
                check_close("qk-clip", after[layer], gamma[layer] * before[layer])
                check_close("qk-clip", after[layer], before[layer].clamp(max=tau))
                for h in (gamma[layer] == 1).nonzero().flatten().tolist():
                    for name, head in (("wq", h), ("wk", h // (4 // kv_heads))):
                        rows = slice(8 * head, 8 * head + 8)
                        assert torch.equal(clipped[name][layer, rows], w[name][layer, rows]), "a silent head moved"


def check_qk_clip_latent():
    """The same for latent attention, whose heads never clip for another's sake; and of each part by hand."""
    for m in (MLA, MLA_PLAIN):
        w = to_torch(random_weights(m, "qk_clip", wq=2, w_qb=2, w_kvb=2), torch.float64)
        inputs, targets = (x[0] for x in random_tokens("qk_clip", 1))
        before = loss_and_gradients(m, w, inputs, targets)[2]
        tau, alpha, nope = float(before.flatten().median()), 0.3, m["nope"]
        for layer in range(m["layers"]):
            clipped = {name: x.clone() for name, x in w.items()}
            gamma = optim.qk_clip_latent(m, clipped, before, tau, alpha)
            query = "w_qb" if m["q_lora"] else "wq"
            for h in range(m["heads"]):
                g, q = gamma[layer, h], h * (nope + m["rope"])
                for name, begin, end, factor in ((query, q, q + nope, g**alpha), (query, q + nope, q + nope + m["rope"], g),
                                                 ("w_kvb", h * nope, h * nope + nope, g ** (1 - alpha))):
                    check_close("qk-clip", clipped[name][layer, begin:end], w[name][layer, begin:end] * factor)
            assert torch.equal(clipped["w_kva"], w["w_kva"]) and (gamma[layer] < 1).any() and (gamma < 1).sum() < gamma.numel()
            values = m["heads"] * nope
            assert torch.equal(clipped["w_kvb"][:, values:], w["w_kvb"][:, values:])
            for name in w.keys() - {"wte", "normf_w", "head"}:  # the layers before this one stay as they were
                clipped[name][:layer] = w[name][:layer]
            after = loss_and_gradients(m, clipped, inputs, targets)[2]
            check_close("qk-clip", after[layer], gamma[layer] * before[layer])


# ----------------------------------------------------------------------------------------------------------------------
# The files

def gradient_golden(name, m, gains, seed=None):
    """Return the file's tensors and print how near float32 comes."""
    key = f"gradients/{name}" if seed is None else f"gradients/{name}/{seed}"
    weights = random_weights(m, key, **gains)
    if "router_bias" in weights:  # with groups all are negative, so that a group that doesn't stay must not count as 0
        weights["router_bias"] -= 2 * (m["expert_groups"] > 1)
        weights["router_bias"][0, DEAD] = -5
    inputs, targets = (x[0] for x in random_tokens(key, 1))
    loss, grads, max_logit, logits, routed = loss_and_gradients(m, to_torch(weights, torch.float64), inputs, targets)
    near_loss, near, *_ = loss_and_gradients(m, to_torch(weights, torch.float32), inputs, targets)
    floor = 1e-4 * float(torch.stack([g.norm() for g in grads.values()]).norm())
    error = max(float((near[n] - g).norm()) / max(float(g.norm()), floor) for n, g in grads.items())
    print(f"{name:14} loss {loss:.4f}  float32: loss {abs(near_loss / loss - 1):.1e}, gradients {error:.1e}  "
          f"S {max_logit.min():.1f}..{max_logit.max():.1f}  |logit| <= {logits.abs().max():.1f}")
    assert error <= GRADIENT_LIMIT, name
    for changes in WRONG.get(name, ()):
        wrong = loss_and_gradients(m | changes, to_torch(weights, torch.float64), inputs, targets)[0]
        print(f"{'':14} with {changes}: loss {abs(wrong / loss - 1):.1e} away")
        assert abs(wrong / loss - 1) > ABLATION_LIMIT, f"{name}: {changes} must show"
    if routed["loads"]:
        print(f"{'':14} loads {' '.join(str(x.tolist()) for x in routed['loads'])}, choices by {routed['margin']:.4f} and more")
        assert routed["margin"] > CHOICE_MARGIN, f"{name}: {routed['margin']}: another seed"
        assert routed["loads"][0][DEAD] == 0 and not any(grads[n][0, DEAD].any() for n in grads if "w_expert" in n)
        assert sum(int((load == 0).sum()) for load in routed["loads"]) == 1, f"{name}: one expert is dead"
    return {
        "config": json.dumps(gradient_config(m)), "inputs": inputs, "targets": targets,
        **{f"w.{n}": x for n, x in weights.items()}, **{f"g.{n}": to_float32(g) for n, g in grads.items()},
        "loss": np.array([loss]), "max_logit": max_logit.numpy(),
    }


def float32_error(config, weights, inputs, targets, reference):
    """The worst loss of float32 runs that sum in different orders: as given, sequences or hidden units reversed."""
    flipped = {n: x.copy() for n, x in weights.items()}
    for n, axis in (("w_gate", 1), ("b_gate", 1), ("w_in", 1), ("b_in", 1), ("w_out", 2),
                    ("w_expert_gate", 2), ("w_expert_in", 2), ("w_expert_out", 3),
                    ("w_shared_gate", 1), ("w_shared_in", 1), ("w_shared_out", 2)):
        if n in flipped:
            flipped[n] = np.flip(flipped[n], axis).copy()
    runs = ((weights, inputs, targets), (weights, inputs[:, ::-1].copy(), targets[:, ::-1].copy()),
            (flipped, inputs, targets))
    return max(worst(train(config, *run, dtype=torch.float32)["losses"], reference) for run in runs)


def training_golden(name, seed, config):
    """Return the file's tensors; print and assert what they are worth."""
    m, clips = config["model"], config["optimizer"]["name"] == "muonclip"
    gains = dict(w_qb=1.8, w_kvb=1.8) if model.is_latent(m) else {}
    weights = random_weights(m, f"steps/{name}/{seed}", **(dict(wq=1.8, wk=1.8) | gains))
    dead = model.is_latent(m) and "experts" in m  # of it Muon orthogonalizes zeros
    if dead:
        weights["router_bias"][0, DEAD] = -5
    inputs, targets = random_tokens(f"steps/{name}/{seed}", STEPS)
    run = train(config, weights, inputs, targets)
    error = float32_error(config, weights, inputs, targets, run["losses"])
    limit, norms, clipped = config["train"]["grad_clip"], run["norms"], run["gammas"] < 1
    print(f"\n{name}\n  losses            {' '.join(f'{x:.4f}' for x in run['losses'])}")
    print(f"  gradient norms    {norms.min():.2f}..{norms.max():.2f}, {(norms > limit).sum()} of {STEPS} over {limit}")
    print(f"  maximum logits    {run['max_logits'].min():.2f}..{run['max_logits'].max():.2f}")
    if clips:
        smallest = run["gammas"].min(axis=(1, 2))
        print(f"  heads clipped     {' '.join(str(x) for x in clipped.sum((1, 2)))} of {clipped[0].size}; "
              f"smallest gamma {' '.join(f'{x:.3f}' for x in smallest)}")
        assert (clipped.sum((1, 2)) >= 2).all(), f"{name}: heads must clip at every step"
        assert all(len(np.unique(g[g < 1])) == (g < 1).sum() for g in run["gammas"]), f"{name}: gammas must differ"
    print(f"  float32           {error:.1e}")
    if "experts" in m:
        moved = float((run["final"]["router_bias"] - torch.tensor(weights["router_bias"])).abs().max())
        print(f"  experts' loads    {run['loads'].min()}..{run['loads'].max()}, biases moved by up to {moved:.2f}, "
              f"choices by {run['margins'].min():.1e} and more")
        assert run["margins"].min() > STEP_MARGIN, f"{name}: another seed"
        assert not dead or not run["loads"][:, 0, DEAD].any()
    assert error <= FLOAT32_LIMIT, f"{name}: float32 must stay within {FLOAT32_LIMIT}"
    assert run["losses"][-1] < 0.9 * run["losses"][0], f"{name}: the loss must go down clearly"
    assert (norms > limit).any()

    ablations = {}
    for part in ABLATIONS[name]:
        changes = WITHOUT[part]
        departs = not changes.keys() & config.keys()
        other = train(config, weights, inputs, targets, **changes) if departs else \
            train(merged(config, changes), weights, inputs, targets)
        difference = worst(other["losses"], run["losses"])
        print(f"  without {part:12} {difference:.1e}")
        assert difference > ABLATION_LIMIT, f"{name}: leaving out {part} must show"
        ablations[f"losses_without_{part}"] = other["losses"]
    return {
        "config": json.dumps(config), "inputs": inputs, "targets": targets,
        **{f"w.{n}": x for n, x in weights.items()}, "losses": run["losses"], "max_logit": run["max_logits"],
        **({"loads": run["loads"].astype(np.int32)} if "experts" in m else {}),
        **ablations, **{f"final.{n}": to_float32(run["final"][n]) for n in FINAL if n in run["final"]},
    }


def main():
    check_only = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check_only:
        sys.exit("usage: make_golden.py [--check]")
    torch.set_num_threads(1)  # one order of summation
    torch.use_deterministic_algorithms(True)
    for check in (check_layers, check_moe, check_adamw, check_muon, check_outer_step, check_qk_clip, check_qk_clip_latent):
        check()
        print(f"{check.__name__}: ok")
    print(f"\nPyTorch {torch.__version__}; every figure is the largest relative error or difference to float64")
    files = {f"gradients_{name}.golden": gradient_golden(name, *case) for name, case in GRADIENTS.items()}
    files |= {f"steps_{name}.golden": training_golden(name, *case) for name, case in TRAINING.items()}

    print()
    total, different = 0, []
    for name, tensors in files.items():
        data = golden_file.encode(tensors)
        assert all(np.array_equal(x, tensors[n]) for n, x in golden_file.decode(data).items() if n != "config")
        total += len(data)
        if not check_only:
            (FOLDER / name).write_bytes(data)
        elif not (FOLDER / name).exists() or (FOLDER / name).read_bytes() != data:
            different.append(name)
        print(f"{len(data):8}  {zlib.crc32(data[:-8]):08x}  {name}")
    print(f"{total:8}  bytes in all")
    if different:
        sys.exit(f"not reproduced: {' '.join(different)}")


if __name__ == "__main__":
    main()

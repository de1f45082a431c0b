"""AdamW, Muon, MuonClip and MuLoCo's outer step restated in PyTorch, one plain step at a time, in the dtype of the weights.

MuonClip = Muon with decoupled decay, then QK-Clip on the query and key projections.
Sources: AdamW, arXiv 1711.05101; Muon, kellerjordan.github.io/posts/muon; the RMS-matching scale, arXiv 2502.16982;
QK-Clip, arXiv 2507.20534 (its form for heads that share a key is this project's own); the outer step, arXiv 2311.08105;
EMA-Nesterov, arXiv 2605.25395.
"""

import math

import torch

from model import is_latent

MATRICES = ("wq", "w_qa", "w_kva", "w_qb", "w_kvb", "wk", "wv", "wo",  # what Muon owns, each matrix of each layer by itself
            "w_gate", "w_in", "w_out", "w_expert_gate", "w_expert_in", "w_expert_out", "w_shared_gate", "w_shared_in", "w_shared_out")
TABLES = ("wte", "wpe", "head", "w_router")  # AdamW's with decay; norms and biases are AdamW's without
QKV = ("wq", "wk", "wv")
KELLER = (3.4445, -4.7750, 2.0315)


def clip_grad_norm(grads, limit):
    """Scale all gradients in place by min(1, limit/(‖g‖ + 1e-6)); limit 0 is off. Returns ‖g‖ before."""
    total = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
    if limit > 0:
        for g in grads.values():
            g *= min(1.0, limit / (total + 1e-6))
    return total


def adamw(w, g, m, v, t, o, decay):
    """w = (1 − lr·decay) w − lr·m̂/(sqrt(v̂) + eps) with bias-corrected moments; w, m and v in place, t from 1."""
    m.mul_(o["beta1"]).add_((1 - o["beta1"]) * g)
    v.mul_(o["beta2"]).add_((1 - o["beta2"]) * g * g)
    m_hat, v_hat = m / (1 - o["beta1"] ** t), v / (1 - o["beta2"] ** t)
    w.mul_(1 - o["lr"] * decay).sub_(o["lr"] * m_hat / (v_hat.sqrt() + o["eps"]))


def orthogonalize(u, steps):
    """Newton–Schulz: u/‖u‖_F with each singular value s sent through a·s + b·s³ + c·s⁵, `steps` times; 0 stays 0."""
    a, b, c = KELLER
    size = u.norm()
    if size == 0:
        return torch.zeros_like(u)
    tall = u.shape[0] > u.shape[1]
    x = (u.T if tall else u) / size
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def shape_scale(rule, rows, cols):
    """keller: sqrt(max(1, rows/cols)); match_rms_adamw: 0.2·sqrt(max(rows, cols)), an RMS of about 0.2 per entry"""
    return {"keller": math.sqrt(max(1, rows / cols)), "match_rms_adamw": 0.2 * math.sqrt(max(rows, cols))}[rule]


def muon_direction(g, buffer, o):
    """Advance the momentum buffer (in place) and return what Muon orthogonalizes."""
    buffer.mul_(o["momentum"]).add_((1 - o["momentum"]) * g)
    return (1 - o["momentum"]) * g + o["momentum"] * buffer if o["nesterov"] else buffer


def muon(w, u, o):
    """W = (1 − lr·decay) W − lr·s·orthogonalize(u) for one matrix, in place."""
    assert o["coefficients"] == "keller", o
    w.mul_(1 - o["lr"] * o["weight_decay"])
    w.sub_(o["lr"] * shape_scale(o["scale"], *w.shape) * orthogonalize(u, o["steps"]))


def qk_clip(model, w, max_logit, tau, alpha, biases=True):
    """Scale every head's logits by gamma_h = tau/S_h where S_h > tau; weights and biases in place, S (L, NH).

    With g the largest gamma of the heads that share a key: W_k *= g^(1−alpha), W_q,h *= gamma_h / g^(1−alpha).
    Returns the gammas (L, NH).
    """
    L, NH, NKV = model["layers"], model["heads"], model["kv_heads"]
    assert not max_logit.isnan().any() and not model["qk_norm"]
    gamma = torch.where(max_logit > tau, tau / max_logit, torch.ones_like(max_logit))
    grouped = gamma.view(L, NKV, NH // NKV)
    key = grouped.amax(-1, keepdim=True) ** (1 - alpha)
    for names, factor in ((("wq", "bq"), grouped / key), (("wk", "bk"), key)):
        factor = factor.flatten(1)  # (L, heads)
        for name in names[: 2 if biases else 1]:
            if name in w:
                w[name].unflatten(1, (factor.shape[1], -1)).mul_(factor.view(*factor.shape, *[1] * (w[name].ndim - 1)))
    return gamma


def qk_clip_latent(model, w, max_logit, tau, alpha, rotated_alpha=1.0):
    """QK-Clip of latent attention (Kimi K2, section 2.1): the content parts of a head's query and key take gamma^alpha
    and gamma^(1−alpha), its rotated query gamma; the rotated key, which all heads share, stays. Returns the gammas (L, NH).
    """
    NH, nope = model["heads"], model["nope"]
    assert not max_logit.isnan().any()
    gamma = torch.where(max_logit > tau, tau / max_logit, torch.ones_like(max_logit))
    factor = gamma[:, :, None, None]  # a head's, over its rows and columns
    queries = w["w_qb" if model["q_lora"] else "wq"].unflatten(1, (NH, -1))
    queries[:, :, :nope] *= factor**alpha
    queries[:, :, nope:] *= factor**rotated_alpha
    w["w_kvb"][:, : NH * nope].unflatten(1, (NH, -1)).mul_(factor ** (1 - alpha))
    return gamma


def balance(m, bias, loads):
    """Move each expert's bias by the rate towards the mean load: b += rate·sign(mean load − load), DeepSeek-V3's rule."""
    if m.get("experts", 0) and m["balance"] == "bias":
        for layer, load in enumerate(loads):
            bias[layer] += m["balance_rate"] * torch.sign(load.to(bias.dtype).mean() - load)


def outer_step(a, workers, v, o):
    """v = mu·v + d, a = a − eta·(d + mu·v) with d = a − mean of the workers' weights; a and v in place."""
    d = a - sum(workers) / len(workers)
    v.mul_(o["outer_momentum"]).add_(d)
    a.sub_(o["outer_lr"] * (d + o["outer_momentum"] * v if o["outer_nesterov"] else v))


class Optimizer:
    """The optimizer of a config over a dictionary of weights, which it changes in place.

    Departures from it, for measuring what they cost: clip_biases=False lets QK-Clip forget the biases, packed_qkv=True
    orthogonalizes the stacked (wq; wk; wv) of a layer as one matrix, stacked_experts=True likewise a layer's experts,
    outer_nesterov=False takes the outer step along v alone,
    rotated_alpha=0.5 scales the rotated queries of latent attention as the others.
    """

    def __init__(self, config, w, clip_biases=True, packed_qkv=False, rotated_alpha=1.0, stacked_experts=False,
                 outer_nesterov=True):
        self.model, self.options, self.grad_clip = config["model"], config["optimizer"], config["train"]["grad_clip"]
        self.w, self.clip_biases, self.packed_qkv, self.rotated_alpha = w, clip_biases, packed_qkv, rotated_alpha
        self.stacked_experts = stacked_experts
        self.first = {name: torch.zeros_like(x) for name, x in w.items()}  # AdamW's first moment, Muon's momentum
        self.second = {name: torch.zeros_like(x) for name, x in w.items()}
        self.t = 0
        self.outer = config["train"] | dict(outer_nesterov=outer_nesterov)
        self.anchor = {name: x.clone() for name, x in w.items()}
        self.velocity = {name: torch.zeros_like(x) for name, x in w.items()}
        self.ahead = self.options.get("ema_nesterov", dict(beta=0.0, gamma=0.0, begin=0, end=0))
        self.tail = self.options.get("tail_ema", dict(mix=0.0))
        self.steps = config["train"]["steps"]
        self.mean = {name: torch.zeros_like(x) for name, x in w.items()}
        self.average, self.before = {}, {}

    def begin(self):
        """Move the weights to where the gradient of the next step is to be taken; begin and end are steps here."""
        self.before = {name: x.clone() for name, x in self.w.items()}
        if self.ahead["begin"] <= self.t < self.ahead["end"]:
            for name, x in self.w.items():
                if name != "router_bias":
                    x.add_(self.ahead["beta"] * self.mean[name])

    def finish(self):
        """Behind a step: the mean of changes, and the tail's average, which the last step mixes in."""
        gamma = self.ahead["gamma"]
        for name, x in self.w.items():
            if name == "router_bias":
                continue
            self.mean[name] = gamma * self.mean[name] + (1 - gamma) * (x - self.before[name])
            if self.tail["mix"] and self.t == self.tail["begin"]:
                self.average[name] = x.clone()
            if self.tail["mix"] and self.t > self.tail["begin"]:
                self.average[name] += (x - self.average[name]) / self.tail["horizon"]
            if self.tail["mix"] and self.t == self.steps:
                x.copy_((1 - self.tail["mix"]) * x + self.tail["mix"] * self.average[name])

    def step(self, grads, max_logit, loads=()):
        """Clip the gradients, update every tensor, clip the heads. Returns the gradients' norm and the gammas.

        loads: how many tokens each expert had in this step, one (E) for each layer that has experts.
        """
        self.t += 1
        name, by_muon = self.options["name"], {}
        total = clip_grad_norm(grads, self.grad_clip)
        for key, g in grads.items():
            if key == "router_bias":
                balance(self.model, self.w[key], loads)
            elif key in MATRICES and name != "adamw":
                by_muon[key] = muon_direction(g, self.first[key], self.options["muon"])
            else:
                decay = self.options["adamw"]["weight_decay"] if key in MATRICES + TABLES else 0.0
                adamw(self.w[key], g, self.first[key], self.second[key], self.t, self.options["adamw"], decay)
        if self.packed_qkv:
            for layer in range(self.model["layers"]):
                self._muon_packed([by_muon[key][layer] for key in QKV], layer)
        for key, u in by_muon.items():
            if not (self.packed_qkv and key in QKV):  # an expert's matrices each by themselves, too
                if self.stacked_experts and u.ndim == 4:
                    pairs = zip(self.w[key].flatten(1, 2), u.flatten(1, 2))
                else:
                    pairs = zip(self.w[key].flatten(0, -3), u.flatten(0, -3))
                for matrix, direction in pairs:
                    muon(matrix, direction, self.options["muon"])
        gamma = torch.ones_like(max_logit)
        if name == "muonclip" and self.options["qk_clip"]["tau"] > 0:
            keys = self.options["qk_clip"]
            if is_latent(self.model):
                gamma = qk_clip_latent(self.model, self.w, max_logit, **keys, rotated_alpha=self.rotated_alpha)
            else:
                gamma = qk_clip(self.model, self.w, max_logit, **keys, biases=self.clip_biases)
        if self.outer.get("local_steps", 0) and self.t % self.outer["local_steps"] == 0:  # one worker
            for key, a in self.anchor.items():
                outer_step(a, [self.w[key]], self.velocity[key], self.outer)
                self.w[key].copy_(a)
        return total, gamma

    def _muon_packed(self, directions, layer):
        packed = torch.cat([self.w[key][layer] for key in QKV])
        muon(packed, torch.cat(directions), self.options["muon"])
        for key, part in zip(QKV, packed.split([u.shape[0] for u in directions])):
            self.w[key][layer] = part

"""Every rule of muon.h restated in PyTorch, one plain step at a time, in the dtype of the weights.

Sources: SGD, RMSprop, Adam, AdamW as torch.optim states them; Muon, kellerjordan.github.io/posts/muon; its scales,
arXiv 2502.16982; NorMuon, arXiv 2510.05491; cautious decay, arXiv 2510.12402; the spectral family, arXiv 2602.04669,
with a relative ridge; Polar Express, arXiv 2505.16932; deepseekv4, arXiv 2606.19348; cubic5, arXiv 2606.00371; CANS, arXiv
2506.10935; aol, thib-s/flash-newton-schulz; per-head Muon, which is blocks of rows, arXiv 2607.24653; MuonEq, arXiv
2603.28254; Muon+, arXiv 2602.21545; the corrected look ahead, optax.contrib.muon and optax.nadamw.
"""

import math

import torch

# ----------------------------------------------------------------------------------------------------------------------
# Newton-Schulz

# Of the paper's list, for singular values up to 1.01: each step but the last of them is stated for s / 1.01.
PAPER = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
]

# name: (steps, norm, rows); the last row serves every later step.
COEFFICIENTS = {
    "keller": (5, 1.0, [(3.4445, -4.7750, 2.0315)]),
    "polar_express": (5, 1.02, [
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]),
    "polar_express_paper": (5, 1.01, [(a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in PAPER] +
                            [(15 / 8, -10 / 8, 3 / 8)]),
    "bjorck": (10, 1.0, [(15 / 8, -10 / 8, 3 / 8)]),
    "cubic": (15, 1.0, [(3 / 2, -1 / 2, 0.0)]),
    "exact12": (12, 1.0, [(2.0, -3 / 2, 1 / 2)]),
    "deepseekv4": (10, 1.0, 8 * [(3.4445, -4.7750, 2.0315)] + [(2.0, -3 / 2, 1 / 2)]),
    "cubic5": (5, 1.0, [(3.3656576, -3.3420992, 0.0), (2.5744352, -1.4957376, 0.0), (2.5368962, -1.4312570, 0.0),
                        (2.4418906, -1.2764040, 0.0), (2.2230472, -0.9630650, 0.0)]),
    # norm 1.01: at 1 all five polynomials are steep
    "cans": (5, 1.01, [(8.4703, -25.1081, 18.6293), (4.1828, -3.1087, 0.5806), (3.9619, -2.9541, 0.5630),
                      (3.2866, -2.4647, 0.5074), (2.2737, -1.6447, 0.4162)]),
    # norm 1.15: the first polynomial is negative from 0.8838 on
    "aol": (4, 1.15, [(4.0098, -7.0585, 2.4635), (3.4585, -5.5479, 2.5959), (2.7573, -3.2939, 1.4254),
                      (2.7215, -3.0494, 1.3169)]),
    "youjiacheng": (5, 1.0, [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
                             (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012)]),
}


def polynomials(name, steps=0):
    """Yield (a, b, c) of each step; steps 0: as many as the set says."""
    default, _, rows = COEFFICIENTS[name]
    for step in range(steps or default):
        yield rows[min(step, len(rows) - 1)]


def phi(name, x, steps=0):
    """The scalar map: what becomes of a singular value x = sigma/‖u‖_F."""
    x = x / COEFFICIENTS[name][1]
    for a, b, c in polynomials(name, steps):
        x = a * x + b * x**3 + c * x**5
    return x


def newton_schulz(u, name, steps=0, guard=0.0, guard_form="add"):
    """x = u/(norm ‖u‖_F), then x <- a x + (b A + c A A) x with A = x xᵀ of the smaller side; 0 stays 0."""
    size = COEFFICIENTS[name][1] * u.norm()
    if size == 0:
        return u
    tall = u.shape[0] > u.shape[1]
    x = (u.T if tall else u) / (size + guard if guard_form == "add" else max(size, guard))
    for a, b, c in polynomials(name, steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


# ----------------------------------------------------------------------------------------------------------------------
# U Sᵖ Vᵀ

def svd(x):
    """U, S, Vᵀ in float64, without the singular values that are rounding noise of float32."""
    u, s, vt = torch.linalg.svd(x.double(), full_matrices=False)
    keep = s > torch.finfo(torch.float32).eps * max(x.shape) * s.max()
    return u[:, keep], s[keep], vt[keep]


def svd_power(x, power):
    u, s, vt = svd(x)
    return (u * s**power @ vt).to(x.dtype)


def coupled(m):
    """(m + r)^(1/2) and (m + r)^(-1/2), r = 1e-4 trace(m)/n, by Y = m/‖m‖, Z = 1; T = (3 − Z Y)/2; Y T, T Z."""
    eye = torch.eye(len(m), dtype=m.dtype)
    m = m + 1e-4 * m.trace() / len(m) * eye
    size = m.norm()
    y, z = m / size, eye
    for _ in range(15):
        t = (3 * eye - z @ y) / 2
        y, z = y @ t, t @ z
    return y * size.sqrt(), z / size.sqrt()


def spectral_power(x, power):
    """What muon_spectral_power states: about U Sᵖ Vᵀ for p = 1, 1/2, 1/4, 0 by coupled Newton iterations."""
    if power == 1 or x.norm() == 0:
        return x
    if power == 0.25:
        return spectral_power(spectral_power(x, 0.5), 0.5)
    if x.shape[0] > x.shape[1]:
        return spectral_power(x.T, power).T
    size = x.norm()
    x = x / size
    inverse = coupled(x @ x.T)[1]  # G^(-1/2)
    if power == 0.5:
        inverse = coupled(inverse)[0]  # G^(-1/4)
    return size**power * inverse @ x


# ----------------------------------------------------------------------------------------------------------------------
# The four stages

DIRECTION = dict(rmsprop="rms", adam="adam", adamw="adam", adams="adam", adamq="adam", adamz="adam")  # else: momentum
POWER = dict(msgd=1.0, msgds=0.5, msgdq=0.25, msgdz=0.0, adams=0.5, adamq=0.25, adamz=0.0)
ADDS_DECAY = ("sgd", "rmsprop", "adam")
ELEMENTWISE = ("sgd", "rmsprop", "adam", "adamw")
DEFAULTS = dict(momentum=0.95, nesterov=True, look_ahead=0.0, accumulate=False, coefficients="keller", ns_steps=0, guard=0.0,
                guard_form="add", equalize=False, renormalize=False, scale="none", rms=0.2, cautious=False,
                decay_scaled=False, axis="rows", blocks=(), beta1=0.9, beta2=0.95, eps=1e-8, adam_nesterov=False, lr=0.1,
                weight_decay=0.1)  # nesterov: False, True or "corrected"


def shape_scale(rule, rows, cols, rms=0.2):
    return {"none": 1.0, "keller": math.sqrt(max(1, rows / cols)), "match_rms_adamw": rms * math.sqrt(max(rows, cols)),
            "rms_one": math.sqrt(max(rows, cols)), "rms_exact": rms, "spectral": math.sqrt(rows / cols),
            "keller_transposed": math.sqrt(max(1, cols / rows))}[rule]


class Optimizer:
    """One matrix under one rule; o: DEFAULTS with changes, w: changed in place by step()."""

    def __init__(self, rule, o, w):
        self.rule, self.o, self.w, self.t = rule, o, w, 0
        self.first, self.second = torch.zeros_like(w), torch.zeros_like(w)
        self.evened = {}  # normuon's second moments, by the block's number

    def step(self, g, lr_factor=1.0, momentum_factor=1.0, decay_factor=1.0):
        o, w, lr = self.o, self.w, self.o["lr"] * lr_factor
        self.t += 1
        if self.rule in ADDS_DECAY:
            g = g + o["weight_decay"] * w
        u = self.direction(g, o["momentum"] * momentum_factor)
        if self.rule not in ELEMENTWISE:  # each block of rows as a matrix of its own
            heights = o["blocks"] and len(w) // sum(o["blocks"]) * list(o["blocks"]) or [len(w)]
            u = torch.cat([self.scaled(self.transform(x, i)) for i, x in enumerate(u.split(heights))])
        decay = torch.zeros_like(w)
        if self.rule not in ADDS_DECAY:
            decay = lr * decay_factor * o["weight_decay"] * w * (u * w >= 0 if o["cautious"] else 1)
            if o["decay_scaled"] and self.rule not in ELEMENTWISE:
                decay = shape_scale(o["scale"], *w.shape, o["rms"]) * decay
        w.sub_(decay + lr * u)

    def direction(self, g, mu):
        o, kind = self.o, DIRECTION.get(self.rule)
        if kind is None:
            new = g if o["accumulate"] else (1 - mu) * g
            self.first = mu * self.first + new
            if o["nesterov"] == "corrected":
                return new / (1 - mu**self.t) + mu * self.first / (1 - mu ** (self.t + 1))
            return new + mu * self.first if o["nesterov"] else self.first + o["look_ahead"] * g
        self.second = o["beta2"] * self.second + (1 - o["beta2"]) * g * g
        if kind == "rms":
            return g / (self.second.sqrt() + o["eps"])
        self.first = o["beta1"] * self.first + (1 - o["beta1"]) * g
        m_hat, v_hat = self.first / (1 - o["beta1"] ** self.t), self.second / (1 - o["beta2"] ** self.t)
        if o["adam_nesterov"]:
            m_hat = o["beta1"] * self.first / (1 - o["beta1"] ** (self.t + 1)) + (1 - o["beta1"]) * g / (1 - o["beta1"] ** self.t)
        return m_hat / (v_hat.sqrt() + o["eps"])

    def scaled(self, u):
        if self.o["scale"] == "rms_exact" and u.norm() > 0:
            u = u / u.square().mean().sqrt()
        return shape_scale(self.o["scale"], *u.shape, self.o["rms"]) * u

    def orthogonalized(self, u):
        o = self.o
        if o["equalize"]:
            lengths = u.norm(dim=1, keepdim=True)
            u = u / lengths * u.norm() / math.sqrt(len(u))
        x = newton_schulz(u, o["coefficients"], o["ns_steps"], o["guard"], o["guard_form"])
        return x * math.sqrt(min(x.shape)) / x.norm() if o["renormalize"] else x

    def transform(self, u, block):
        o = self.o
        if self.rule == "muon":
            return self.orthogonalized(u)
        if self.rule == "normuon":
            x = self.orthogonalized(u)
            rows, cols = x.shape
            mean = (x * x).mean(1 if o["axis"] == "rows" or rows >= cols else 0, keepdim=True)
            v = self.evened[block] = o["beta2"] * self.evened.get(block, 0.0) + (1 - o["beta2"]) * mean
            normed = x / (v.sqrt() + o["eps"])
            return normed * x.norm() / normed.norm()
        if self.rule == "svd":
            return svd_power(u, 0)
        return spectral_power(u, POWER[self.rule]) if self.rule in POWER else u

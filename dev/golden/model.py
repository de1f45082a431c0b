"""The model of train_gpt.c restated in PyTorch, one formula after the other; gradients are autograd's.

Letters: B batch, T time, C channels, V vocab, L layers, NH heads, NKV kv heads, HS head size, F mlp width, E experts.
Weights are (out, in): y = x Wᵀ. `m` is the "model" section of a config with every key written out (but `mixer` where it
is attention, `head_size` where it is C/NH, and RoPE's longer contexts where there are none), `w` a dictionary of tensors by name; what a config doesn't use is absent. All arithmetic is in the dtype of
the weights.
"""

import math

import torch

NORMS = ("layernorm", "rmsnorm", "rmsnorm_plain")
MLPS = ("gelu_tanh", "gelu_erf", "relu2", "swiglu")
LATENT_EPS = 1e-6


def is_latent(m):
    """Whether the mixer is multi-head latent attention"""
    return m.get("mixer", "attention") == "mla"


def mixer_shapes(m):
    """The mixer's part of tensor_shapes; latent attention has no biases."""
    L, C, NH = m["layers"], m["width"], m["heads"]
    if not is_latent(m):
        size = m.get("head_size") or C // NH
        q, kv, bias = NH * size, m["kv_heads"] * size, m["bias"]
        return [("wq", (L, q, C), True), ("wk", (L, kv, C), True), ("wv", (L, kv, C), True),
                ("bq", (L, q), bias), ("bk", (L, kv), bias), ("bv", (L, kv), bias),
                ("wo", (L, C, q), True), ("bo", (L, C), bias)]
    queries, rank, latent = NH * (m["nope"] + m["rope"]), m["q_lora"], m["kv_lora"]
    return [("wq", (L, queries, C), not rank), ("w_qa", (L, rank, C), rank), ("w_kva", (L, latent + m["rope"], C), True),
            ("q_norm_w", (L, rank), rank), ("w_qb", (L, queries, rank), rank),
            ("kv_norm_w", (L, latent), True), ("w_kvb", (L, NH * (m["nope"] + m["v_head"]), latent), True),
            ("wo", (L, C, NH * m["v_head"]), True)]


def tensor_shapes(m):
    """Return {name: shape} of the model's tensors; those of a layer are stacked, the layer first."""
    L, C, F, V, T = m["layers"], m["width"], m["mlp_width"], m["vocab"], m["block"]
    gain = m["norm"] != "rmsnorm_plain"
    shift = m["norm"] == "layernorm" and m["bias"]
    learned, gate, bias = m["position"] == "learned", m["mlp"] == "swiglu", m["bias"]
    E, S = m.get("experts", 0), m.get("shared_experts", 0) * m.get("expert_width", 0)
    D = m["dense_layers"] if E else L  # layers with a dense MLP; those behind them have experts
    X, W = L - D, m.get("expert_width", 0)
    table = [  # name, shape, present
        ("wte", (V, C), True), ("wpe", (T, C), learned),
        ("norm1_w", (L, C), gain), ("norm1_b", (L, C), shift),
        *mixer_shapes(m),
        ("norm2_w", (L, C), gain), ("norm2_b", (L, C), shift),
        ("w_gate", (D, F, C), D and gate), ("b_gate", (D, F), D and gate and bias),
        ("w_in", (D, F, C), D), ("b_in", (D, F), D and bias),
        ("w_out", (D, C, F), D), ("b_out", (D, C), D and bias),
        ("w_router", (X, E, C), E), ("router_bias", (X, E), E),
        ("w_expert_gate", (X, E, W, C), E and gate), ("w_expert_in", (X, E, W, C), E), ("w_expert_out", (X, E, C, W), E),
        ("w_shared_gate", (X, S, C), S and gate), ("w_shared_in", (X, S, C), S), ("w_shared_out", (X, C, S), S),
        ("normf_w", (C,), gain), ("normf_b", (C,), shift),
        ("head", (V, C), m["head"] == "untied"),
    ]
    return {name: shape for name, shape, present in table if present}


def linear(x, weight, bias=None):
    """x Wᵀ + b"""
    y = x @ weight.T
    return y if bias is None else y + bias


def rmsnorm(x, eps):
    """x / sqrt(mean(x²) + eps) over the last dimension"""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def layernorm(x, eps):
    """(x − mean) / sqrt(var + eps) over the last dimension, the variance being the biased one"""
    centered = x - x.mean(-1, keepdim=True)
    return rmsnorm(centered, eps)


def norm(m, x, gain=None, shift=None):
    """The configured norm with its gain and shift, where it has them."""
    y = layernorm(x, m["norm_eps"]) if m["norm"] == "layernorm" else rmsnorm(x, m["norm_eps"])
    y = y if gain is None else y * gain
    return y if shift is None else y + shift


def rope(m, x):
    """Rotate the pairs (i, i + HS/2) of x (..., T, HS) by the angles pos · f, f = rope_theta^(−2i/HS).

    With rope_factor (Llama 3.1): of wavelengths 2π/f above rope_original/rope_low f is divided by it, of those below
    rope_original/rope_high it stays, and between it is interpolated.
    """
    T, HS = x.shape[-2:]
    frequency = m["rope_theta"] ** (-2.0 * torch.arange(HS // 2, dtype=torch.float64) / HS)
    if m.get("rope_factor", 1) != 1:
        length, low, high = 2 * math.pi / frequency, m["rope_low"], m["rope_high"]
        smooth = (m["rope_original"] / length - low) / (high - low)
        between = (1 - smooth) * frequency / m["rope_factor"] + smooth * frequency
        frequency = torch.where(length < m["rope_original"] / high, frequency,
                                torch.where(length > m["rope_original"] / low, frequency / m["rope_factor"], between))
    angle = torch.arange(T, dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    x1, x2 = x[..., : HS // 2], x[..., HS // 2 :]
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)


def softcap(z, cap):
    """cap · tanh(z / cap); cap 0 is off"""
    return cap * torch.tanh(z / cap) if cap > 0 else z


def attend(q, k, v, cap, root=None):
    """Causal attention of q (B, NH, T, HS) over k (B, NKV, T, HS) and v (B, NKV, T, its own head size).

    Returns the output, a head as long as v's, and S (NH): the largest q·k/sqrt(HS) over the batch and the pairs j <= i,
    taken before the soft-cap. Query head h reads kv head h / (NH/NKV). root: another one than sqrt(HS).
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    score = q @ k.transpose(-2, -1) / (root or math.sqrt(q.shape[-1]))
    future = torch.ones(score.shape[-2:], dtype=torch.bool).triu(1)
    max_logit = score.detach().masked_fill(future, -math.inf).amax((0, 2, 3))
    weight = torch.softmax(softcap(score, cap).masked_fill(future, -math.inf), -1)
    return weight @ v, max_logit


def attention(m, x, w):
    """Return attn(x) (B, T, C) and the largest logit of each head (NH); `w` holds one layer's tensors."""
    def heads(y, count):  # (B, T, count·HS) -> (B, count, T, HS)
        return y.unflatten(-1, (count, -1)).transpose(1, 2)

    q = heads(linear(x, w["wq"], w.get("bq")), m["heads"])
    k = heads(linear(x, w["wk"], w.get("bk")), m["kv_heads"])
    v = heads(linear(x, w["wv"], w.get("bv")), m["kv_heads"])
    if m["qk_norm"]:
        q, k = rmsnorm(q, m["norm_eps"]), rmsnorm(k, m["norm_eps"])
    if m["position"] == "rope":
        q, k = rope(m, q), rope(m, k)
    out, max_logit = attend(q, k, v, m["attn_softcap"])
    return linear(out.transpose(1, 2).flatten(2), w["wo"], w.get("bo")), max_logit


def latent_attention(m, x, w):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1); returns what `attention` does.

    A head's query is [q of `nope` dimensions | q of `rope` dimensions, rotated], from x or from the norm of its low-rank
    projection; its key is [k from the latent | one rotated key of x for all heads], its value comes from the latent. The
    latent is the norm of a projection of x. Both norms are RMSNorm with a gain and an eps of LATENT_EPS. Rows of w_kvb:
    the keys of all heads, then the values of all heads. A rotated pair is (i, i + rope/2).

    Two wrong conventions, for showing that they don't pass: m["latent_eps"], another eps, and m["attn_root"] "nope",
    logits divided by sqrt(nope).
    """
    NH, nope, rotated, value = m["heads"], m["nope"], m["rope"], m["v_head"]
    eps = m.get("latent_eps", LATENT_EPS)

    def heads(y):  # (B, T, NH·size) -> (B, NH, T, size)
        return y.unflatten(-1, (NH, -1)).transpose(1, 2)

    rank = m["q_lora"]
    q = heads(linear(rmsnorm(linear(x, w["w_qa"]), eps) * w["q_norm_w"], w["w_qb"]) if rank else linear(x, w["wq"]))
    latent, key = linear(x, w["w_kva"]).split([m["kv_lora"], rotated], -1)
    up = linear(rmsnorm(latent, eps) * w["kv_norm_w"], w["w_kvb"])
    k, v = (heads(y) for y in up.split([NH * nope, NH * value], -1))
    q = torch.cat([q[..., :nope], rope(m, q[..., nope:])], -1)
    key = rope(m, key)[:, None].expand(-1, NH, -1, -1)
    root = math.sqrt(nope) if m.get("attn_root") == "nope" else None
    out, max_logit = attend(q, torch.cat([k, key], -1), v, m["attn_softcap"], root)
    return linear(out.transpose(1, 2).flatten(2), w["wo"]), max_logit


def activation(kind, z):
    """gelu_tanh (GPT-2's approximation), gelu_erf (the exact one), relu2 = max(0, z)², or swiglu's silu"""
    if kind == "gelu_tanh":
        return 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    if kind == "gelu_erf":
        return 0.5 * z * (1 + torch.erf(z / math.sqrt(2)))
    if kind == "relu2":
        return z.clamp(min=0) ** 2
    return z * torch.sigmoid(z)


def mlp(m, x, w, kind=""):
    """w_out·act(w_in x), or for swiglu w_out·(silu(w_gate x) * (w_in x)), each product with its bias.

    kind: "" for the tensors of the dense MLP, "shared_" for those of the expert that every token has.
    """
    up = linear(x, w[f"w_{kind}in"], w.get(f"b_{kind}in"))
    if m["mlp"] == "swiglu":
        hidden = activation("swiglu", linear(x, w[f"w_{kind}gate"], w.get(f"b_{kind}gate"))) * up
    else:
        hidden = activation(m["mlp"], up)
    return linear(hidden, w[f"w_{kind}out"], w.get(f"b_{kind}out"))


def choose(m, score, bias):
    """Which experts each token has, by score + bias (..., E), as booleans; and by how little the choice was made.

    With groups the sum of a group's two best is its score, and experts of the groups that don't stay count −inf.
    """
    by, groups, margin = score + bias, m["expert_groups"], math.inf
    def best(x, k):  # the k largest as booleans, and the smallest gap to the next one
        ordered = x.sort(-1, descending=True).values
        chosen = torch.zeros_like(x, dtype=torch.bool).scatter(-1, x.topk(k).indices, True)
        gap = float((ordered[..., k - 1] - ordered[..., k]).min()) if k < x.shape[-1] else math.inf
        return chosen, gap

    if groups > 1:
        grouped = by.unflatten(-1, (groups, -1))
        stays, margin = best(grouped.topk(2).values.sum(-1), m["groups_per_token"])
        by = grouped.masked_fill(~stays[..., None], -math.inf).flatten(-2)
    chosen, gap = best(by, m["experts_per_token"])
    return chosen, min(margin, gap)


def moe(m, x, w):
    """Σ over a token's experts of weight·expert(x), plus the shared expert; x (B, T, C), `w` holds one layer's tensors.

    score = sigmoid(w_router x); weight = router_scale·score/(Σ of the chosen + 1e-20). Returns the sum, how many tokens
    each expert has (E), the choice's margin and the sequence-wise balance loss of DeepSeek-V3: the mean over sequences
    of Σ f_i P_i, f_i = E/(K T)·(tokens of the sequence with expert i), P_i = the mean of score_i/Σ score.
    """
    score = torch.sigmoid(linear(x, w["w_router"]))
    chosen, margin = choose(m, score.detach(), w["router_bias"].detach())
    weight = score * chosen
    if m.get("normalized", True):
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
    weight = weight * m["router_scale"]
    out = mlp(m, x, w, "shared_") if m["shared_experts"] else torch.zeros_like(x)
    for e in range(m["experts"]):
        one = {name.replace("expert_", ""): w[name][e] for name in w if name.startswith("w_expert_")}
        out = out + weight[..., e, None] * mlp(m, x, one)
    f = chosen.to(x.dtype).mean(1) * m["experts"] / m["experts_per_token"]
    balance = (f * (score / score.sum(-1, keepdim=True)).mean(1)).sum(-1).mean()
    return out, chosen.sum((0, 1)), margin, balance


def cross_entropy(logits, targets):
    """The mean over all B·T of log Σ exp(z) − z[target], in nats."""
    return (torch.logsumexp(logits, -1) - logits.gather(-1, targets[..., None])[..., 0]).mean()


def forward(m, w, inputs, targets):
    """Return the loss, the logits (B, T, V), the largest attention logits (L, NH), and of the experts a dictionary.

    inputs, targets: (B, T) int64. The dictionary: `loads`, one (E) of each layer with experts; `margin`, the smallest of
    all choices; `balance`, the sum of the layers' balance losses.
    """
    assert m["norm"] in NORMS and m["mlp"] in MLPS and m["position"] in ("learned", "rope"), m
    x = w["wte"][inputs]
    if m["position"] == "learned":
        x = x + w["wpe"][: inputs.shape[1]]
    if m["embed_norm"]:
        x = rmsnorm(x, m["norm_eps"])
    stacked = [n for n in w if n not in ("wte", "wpe", "normf_w", "normf_b", "head")]
    mixer = latent_attention if is_latent(m) else attention
    max_logits, routed = [], dict(loads=[], margin=math.inf, balance=0.0)
    dense = m["dense_layers"] if m.get("experts", 0) else m["layers"]
    for l in range(m["layers"]):
        has_experts = l >= dense
        layer = {}
        for name in stacked:  # those of experts begin behind the dense layers, those of a dense MLP end there
            first = dense if "expert" in name or "router" in name or "shared" in name else 0
            if first <= l < first + len(w[name]):
                layer[name] = w[name][l - first]
        y, max_logit = mixer(m, norm(m, x, layer.get("norm1_w"), layer.get("norm1_b")), layer)
        x = x + y
        h = norm(m, x, layer.get("norm2_w"), layer.get("norm2_b"))
        if has_experts:
            y, loads, margin, balance = moe(m, h, layer)
            routed["loads"].append(loads)
            routed["margin"] = min(routed["margin"], margin)
            routed["balance"] = routed["balance"] + balance
        else:
            y = mlp(m, h, layer)
        x = x + y
        max_logits.append(max_logit)
    x = norm(m, x, w.get("normf_w"), w.get("normf_b"))
    logits = softcap(linear(x, w["wte"] if m["head"] == "tied" else w["head"]), m["logit_softcap"])
    return cross_entropy(logits, targets), logits, torch.stack(max_logits), routed

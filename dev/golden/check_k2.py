"""Does transformers' DeepseekV3ForCausalLM compute what this project's model.py does, with the same weights?

    python check_k2.py

Latent attention with and without the queries' low-rank form, each with dense MLPs and (where model.py has them) with a
mixture of experts, in one group and in two. The weights are handed over in DeepSeek's order: rotated rows interleaved,
w_kvb's rows head by head. Fails where a logit is off by more than 1e-5 of the largest one, or where the loss is not that of
gradients_mla.golden, which the C program is compared with. Handing the rows over as they are must fail.
Needs the packages of requirements.txt and transformers (5.24.0 was used).
"""

import sys
from pathlib import Path

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

import golden_file
import make_golden
import model

TOLERANCE = 1e-5
EXPERTS = dict(experts=8, experts_per_token=2, expert_width=24, shared_experts=1, dense_layers=1, expert_groups=1,
               groups_per_token=1, router_scale=2.827)


def interleaved(rotated):
    """Rows of a rotated part: pairs (i, i + rope/2) of ours become neighbours (2i, 2i+1)."""
    first, second = rotated.chunk(2)
    return torch.stack([first, second], 1).flatten(0, 1)


def queries(m, w, swap):
    """The rows of w_q or w_qb, per head [nope | rope]"""
    heads = w.unflatten(0, (m["heads"], -1))
    return torch.cat([torch.cat([h[: m["nope"]], swap(h[m["nope"] :])]) for h in heads])


def attention_of(m, w, swap):
    """{name: tensor} of a layer's self_attn; w: one layer's tensors"""
    nope, value = m["nope"], m["v_head"]
    out = {"kv_a_proj_with_mqa.weight": torch.cat([w["w_kva"][: m["kv_lora"]], swap(w["w_kva"][m["kv_lora"] :])]),
           "kv_a_layernorm.weight": w["kv_norm_w"], "o_proj.weight": w["wo"]}
    keys, values = w["w_kvb"].split([m["heads"] * nope, m["heads"] * value])
    by_head = [keys.unflatten(0, (m["heads"], nope)), values.unflatten(0, (m["heads"], value))]
    out["kv_b_proj.weight"] = torch.cat(by_head, 1).flatten(0, 1)
    if m["q_lora"]:
        out |= {"q_a_proj.weight": w["w_qa"], "q_a_layernorm.weight": w["q_norm_w"],
                "q_b_proj.weight": queries(m, w["w_qb"], swap)}
    else:
        out["q_proj.weight"] = queries(m, w["wq"], swap)
    return out


def mlp_of(m, w):
    """{name: tensor} of a layer's mlp"""
    parts = (("gate_proj", "gate"), ("up_proj", "in"), ("down_proj", "out"))
    if "w_router" not in w:
        return {f"{name}.weight": w[f"w_{ours}"] for name, ours in parts}
    return {"gate.weight": w["w_router"], "gate.e_score_correction_bias": w["router_bias"],
            "experts.gate_up_proj": torch.cat([w["w_expert_gate"], w["w_expert_in"]], 1),
            "experts.down_proj": w["w_expert_out"],
            **{f"shared_experts.{name}.weight": w[f"w_shared_{ours}"] for name, ours in parts}}


def layer_of(m, w, layer):
    """One layer's tensors; those of experts begin behind the dense layers, those of a dense MLP end there."""
    dense = m["dense_layers"] if m.get("experts", 0) else m["layers"]
    out = {}
    for name, x in w.items():
        first = dense if "expert" in name or "router" in name or "shared" in name else 0
        if name not in ("wte", "normf_w", "head") and first <= layer < first + len(x):
            out[name] = x[layer - first]
    return out


def transformers_logits(m, w, tokens, swap=interleaved):
    experts = m.get("experts", 0)
    config = DeepseekV3Config(
        vocab_size=m["vocab"], hidden_size=m["width"], intermediate_size=m["mlp_width"],
        moe_intermediate_size=m.get("expert_width", 8), num_hidden_layers=m["layers"], num_attention_heads=m["heads"],
        num_key_value_heads=m["heads"], n_routed_experts=experts or 2, num_experts_per_tok=m.get("experts_per_token", 1),
        n_shared_experts=m.get("shared_experts", 1), n_group=m.get("expert_groups", 1),
        topk_group=m.get("groups_per_token", 1), first_k_dense_replace=m["dense_layers"] if experts else m["layers"],
        kv_lora_rank=m["kv_lora"], q_lora_rank=m["q_lora"] or None, qk_nope_head_dim=m["nope"],
        qk_rope_head_dim=m["rope"], v_head_dim=m["v_head"], routed_scaling_factor=m.get("router_scale", 1.0),
        rope_theta=m["rope_theta"], rms_norm_eps=m["norm_eps"], max_position_embeddings=m["block"],
        tie_word_embeddings=False, attn_implementation="eager",
        experts_implementation="eager")  # the other one has no float64
    state = {"model.embed_tokens.weight": w["wte"], "model.norm.weight": w["normf_w"], "lm_head.weight": w["head"]}
    for layer in range(m["layers"]):
        one, at = layer_of(m, w, layer), f"model.layers.{layer}."
        state |= {f"{at}input_layernorm.weight": one["norm1_w"], f"{at}post_attention_layernorm.weight": one["norm2_w"]}
        state |= {f"{at}self_attn.{name}": x for name, x in attention_of(m, one, swap).items()}
        state |= {f"{at}mlp.{name}": x for name, x in mlp_of(m, one).items()}
    theirs = DeepseekV3ForCausalLM(config).double().eval()
    theirs.load_state_dict(state)  # every name and shape must fit
    with torch.no_grad():
        return theirs(tokens).logits


def compare(name, m, w, inputs, targets):
    """Largest difference of logits over the largest logit; with rows as they are the difference must be seen."""
    tokens = torch.tensor(inputs, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)
    ours = model.forward(m, w, *tokens)[1]
    def error(theirs):
        return float((theirs - ours).abs().max() / ours.abs().max())

    theirs = transformers_logits(m, w, tokens[0])
    near, far = error(theirs), error(transformers_logits(m, w, tokens[0], swap=lambda rows: rows))
    print(f"{name:28} largest logit {ours.abs().max():.2f}, largest difference / that {near:.1e}, rows not interleaved {far:.1e}")
    return near <= TOLERANCE < far, model.cross_entropy(theirs, tokens[1]).item()


def main():
    torch.set_num_threads(1)
    tensors = golden_file.decode((Path(__file__).resolve().parent / "gradients_mla.golden").read_bytes())
    w = {name[2:]: torch.tensor(x, dtype=torch.float64) for name, x in tensors.items() if name.startswith("w.")}
    fine, loss = compare("gradients_mla.golden", make_golden.MLA, w, tensors["inputs"], tensors["targets"])
    off = abs(loss / tensors["loss"][0] - 1)
    print(f"{'':28} loss {loss:.9f}, off by {off:.1e} from the file's")
    fine = fine and off <= 1e-6
    for kind, base in (("low-rank queries", make_golden.MLA), ("plain queries", make_golden.MLA_PLAIN | dict(attn_softcap=0.0))):
        cases = {"dense": base}
        if hasattr(model, "moe"):
            cases |= {"experts": base | EXPERTS, "experts in two groups": base | EXPERTS | dict(expert_groups=2)}
        for name, m in cases.items():
            w = make_golden.to_torch(make_golden.random_weights(m, "k2", wq=2, w_qb=2, w_kvb=2), torch.float64)
            inputs, targets = (x[0] for x in make_golden.random_tokens("k2", 1))
            fine = compare(f"{kind}, {name}", m, w, inputs, targets)[0] and fine
    sys.exit(0 if fine else "not the same")


if __name__ == "__main__":
    main()

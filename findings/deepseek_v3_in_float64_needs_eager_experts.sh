#!/bin/sh
# The guess: a model of transformers computes in whatever type its weights have, so that model.double() is a reference in float64,
# as it is for GPT-2 and Llama.
#
# The truth (transformers 5.24.0, torch 2.15.0): a model with experts, here DeepseekV3ForCausalLM, takes a grouped product for them
# unless it is told otherwise, and that product has no float64: the forward pass raises an error about the type of a matrix that
# names neither experts nor the setting. With experts_implementation="eager" the same weights compute in float64. In float32 the
# two ways agree to rounding: only the type is the matter.
#
# Why it matters: whoever checks a mixture of experts against transformers does it in float64, and meets an error that seems to be
# of the model's own code; converting the weights back to float32 "mends" it and loses the digits that the check was for.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import torch
import transformers

print("transformers", transformers.__version__, "torch", torch.__version__)
SIZES = dict(vocab_size=40, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, n_shared_experts=1, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
             q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, first_k_dense_replace=1,
             max_position_embeddings=16)
ids = torch.arange(12)[None]


def logits(dtype, **how):
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(transformers.DeepseekV3Config(**SIZES), **how).eval().to(dtype)
    with torch.no_grad():
        return model(ids).logits


llama = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)).eval().double()
print("Llama in float64: logits of", llama(ids).logits.dtype)
try:
    said = f"logits of {logits(torch.float64).dtype}"
except RuntimeError as error:
    said = "RuntimeError: " + str(error).splitlines()[0]
print("float64, as it comes:", said)
eager = logits(torch.float64, experts_implementation="eager")
apart = (logits(torch.float32) - logits(torch.float32, experts_implementation="eager")).abs().max().item()
rounding = (logits(torch.float32, experts_implementation="eager") - eager).abs().max().item()
print(f"float64, eager: logits of {eager.dtype}; float32: the two ways differ by {apart:.1e}, float32 and float64 by {rounding:.1e}")
as_told = "RuntimeError" in said and "ouble" in said and llama(ids).logits.dtype == eager.dtype == torch.float64
sys.exit(not (as_told and apart < 1e-5 and rounding < 1e-5))
PYTHON

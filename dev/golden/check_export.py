#!/usr/bin/env python3
"""Exported models in the programs that own the formats: the same logits, tokens and greedy text as here.

    build/venv/bin/pip install -r dev/golden/requirements_export.txt
    make && make build/export build/logits && build/venv/bin/python -B dev/golden/check_export.py [WORD ...]

Trains a tiny model of each kind (its norms, biases and heads are then no longer what they began as), exports it in every
type, and loads the folder with transformers: no missing and no unexpected key, logits of 64 tokens within 1e-5 of the
largest in f32 (in bf16 and f16 within what rounding the weights does), AutoTokenizer's ids of a torture text, and
greedy tokens. WORD: only models whose name has it. Ends with exit code 1 where something does not hold.
"""
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from exported import TEXT, Folder, build, check, end, our_greedy, our_ids, our_logits, wanted

LIMITS = {"f32": 1e-5, "bf16": 5e-2, "f16": 5e-3}
# name, data, keys
MODELS = [
    ("gpt2", "bpe", ["--model.arch=gpt2"]),
    ("gpt2_untied_no_bias_erf", "bpe", ["--model.arch=gpt2", "--model.head=untied", "--model.bias=false", "--model.mlp=gelu_erf"]),
    ("gpt2_char", "char", ["--model.arch=gpt2", "--model.mlp_width=96"]),
    ("llama_grouped", "bpe", ["--model.arch=llama", "--model.kv_heads=2", "--model.rope_theta=500"]),
    ("llama_tied_bias", "byte", ["--model.arch=llama", "--model.head=tied", "--model.bias=true", "--model.norm_eps=1e-6"]),
    ("llama_wide_heads_long", "bpe", ["--model.arch=llama", "--model.kv_heads=2", "--model.head_size=12", "--model.rope_factor=8",
                                      "--model.rope_original=40"]),
    ("k2", "bpe", ["--model.arch=k2", "--model.kv_lora=16", "--model.q_lora=24", "--model.nope=8", "--model.rope=4", "--model.v_head=8",
                    "--model.experts=8", "--model.experts_per_token=2", "--model.expert_width=24", "--model.expert_groups=2", "--model.shared_experts=0"]),
    ("k2_shared", "bpe", ["--model.arch=k2", "--model.layers=3", "--model.kv_lora=16", "--model.q_lora=0", "--model.nope=8", "--model.rope=4",
                          "--model.v_head=8", "--model.experts=4", "--model.experts_per_token=2", "--model.expert_width=16",
                          "--model.shared_experts=2"]),
    ("k2_dense_plain", "char", ["--model.arch=k2", "--model.experts=0", "--model.kv_lora=16", "--model.q_lora=0", "--model.nope=8", "--model.rope=8", "--model.v_head=12"]),
    ("nanochat", "bpe", ["--model.arch=speedrun", "--model.kv_heads=2", "--optimizer.name=muon"]),
    ("nanochat_narrow_heads", "bpe", ["--model.arch=speedrun", "--model.head_size=6", "--optimizer.name=muon"]),
    ("nanochat_char_padded", "char", ["--model.arch=speedrun", "--model.vocab=160", "--optimizer.name=muon"]),
]


def check_hf(work, name, folder):
    ids = our_ids(folder, TEXT)
    ours = our_logits(folder, ids[:64])
    for type_name, limit in LIMITS.items():
        out = work.file(name + "_" + type_name)
        build("export", folder, "--format=hf", "--type=" + type_name, "--out=" + out,
              *(["--shard_mb=0.05"] if type_name == "f32" else []))
        model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
        left = {k: v for k, v in info.items() if v}
        check(not left, f"{name} {type_name}: {type(model).__name__}, loading info {left or 'empty'}")
        with torch.no_grad():
            theirs = model(torch.tensor([ids[:64]])).logits[0].double().numpy()
        error = np.abs(theirs - ours).max() / np.abs(ours).max()
        check(error <= limit, f"{name} {type_name}: logits differ by {error:.1e} of the largest, {np.abs(ours).max():.3g} (limit {limit:.0e})")
        if type_name != "f32":
            continue
        tokenizer = AutoTokenizer.from_pretrained(out)
        check(tokenizer(TEXT)["input_ids"] == ids, f"{name}: AutoTokenizer's ids of the torture text, {len(ids)} of them")
        check(tokenizer.decode(ids) == TEXT, f"{name}: and back")
        prompt = ids[:8]
        text = our_greedy(folder, tokenizer.decode(prompt), 40)
        greedy = model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None)[0].tolist()
        check(tokenizer.decode(greedy) + "\n" == text.decode("utf-8", "replace"), f"{name}: 40 greedy tokens")


def main():
    print("transformers", transformers.__version__, "torch", torch.__version__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work = Folder("check_export")
    for name, kind, keys in MODELS:
        if wanted(name):
            check_hf(work, name, work.train(name, kind, keys))
    end()


if __name__ == "__main__":
    main()

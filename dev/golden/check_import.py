#!/usr/bin/env python3
"""Models that transformers wrote, imported: the same loss and logits here, and the same bits when they are exported again.

    build/venv/bin/pip install -r dev/golden/requirements_export.txt
    make && make build/import build/export build/logits && build/venv/bin/python -B dev/golden/check_import.py [WORD ...]

Makes a tiny model of each kind with random weights (every norm, bias and head is random, too), has save_pretrained write it in
fp32, bf16 or fp16, in one file or in several, and imports the folder. The logits of a sequence are within 1e-5 of transformers'
largest, computed in float64 from the file's weights; the loss of a text is transformers' within 1e-5, and fine-tuning (train.init)
begins with exactly that loss; what is exported in fp32 is the file again, tensor by tensor, bit by bit. WORD: only models whose
name has it. Ends with exit code 1 where something does not hold.

With --write the models that test_import.c reads are written anew into dev/golden/hf, with the losses that it expects.
"""
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, NanoChatConfig, NanoChatForCausalLM, PreTrainedTokenizerFast

from exported import BUILD, ROOT, TEXT, TRAINER, Folder, build, check, end, our_ids, our_logits, run, wanted

VOCAB, CONTEXT, WINDOWS = 29, 16, 6
GOLDEN = os.path.join(ROOT, "dev", "golden", "hf")
LLAMA = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
GPT2 = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
LONG = {"rope_theta": 500.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 12}
DEEPSEEK = LLAMA | dict(num_key_value_heads=4, kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6,
                        moe_intermediate_size=8, n_routed_experts=4, num_experts_per_tok=2, first_k_dense_replace=1, rope_parameters=None)


def narrow(config):
    config.head_dim = 6  # NanoChatConfig knows no such key, its model does
    return config


# name, model, type, bytes of a file; where test_import.c reads it: True
MODELS = [
    ("gpt2", lambda: GPT2LMHeadModel(GPT2Config(**(GPT2 | dict(vocab_size=272)))), "float32", None, True),  # as many as its tokenizer
    ("gpt2_untied_erf", lambda: GPT2LMHeadModel(GPT2Config(**GPT2, n_inner=40, activation_function="gelu", layer_norm_epsilon=1e-6,
                                                           tie_word_embeddings=False)), "float32", "4KB", False),
    ("gpt2_f16", lambda: GPT2LMHeadModel(GPT2Config(**GPT2)), "float16", None, False),
    ("llama", lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=2)), "bfloat16", None, True),
    ("llama_wide_long", lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=2, head_dim=6, rope_parameters=LONG)), "float32",
     "4KB", True),
    ("llama_tied_attention_bias", lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=1, tie_word_embeddings=True,
                                                                       attention_bias=True, rms_norm_eps=1e-5)), "float32", None, False),
    ("llama_mlp_bias", lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, mlp_bias=True)), "float32", None, False),
    ("llama_all_biases", lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, mlp_bias=True, attention_bias=True)), "bfloat16", None, False),
    ("nanochat", lambda: NanoChatForCausalLM(NanoChatConfig(**LLAMA, num_key_value_heads=2)), "float32", None, True),
    ("nanochat_narrow", lambda: NanoChatForCausalLM(narrow(NanoChatConfig(**LLAMA, final_logit_softcapping=5.0))), "float32", None, False),
    ("deepseek", lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**DEEPSEEK, q_lora_rank=None, n_group=1, topk_group=1)), "float32", "8KB", True),
    ("deepseek_groups", lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**DEEPSEEK, q_lora_rank=10, n_group=2, topk_group=1, n_shared_experts=2,
                                                                       tie_word_embeddings=True)), "float32", None, False),
    ("deepseek_dense", lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**(DEEPSEEK | dict(first_k_dense_replace=2)), q_lora_rank=10)),
     "float32", None, False),
]


def made(name, make, type_name):
    """A model with random weights, large enough that every nonlinearity bends."""
    torch.manual_seed(sum(map(ord, name)))
    model = make().eval()
    with torch.no_grad():
        for key, weight in list(model.named_parameters()) + [b for b in model.named_buffers() if "e_score" in b[0]]:
            gain = key.endswith("weight") and weight.dim() == 1
            weight.normal_(float(gain), 0.2 if weight.dim() > 1 else 0.3)
    return model.to(getattr(torch, type_name))


def write_data(folder):
    """Tokens by chance, as nanoGPT has them: ids of two bytes."""
    os.makedirs(folder, exist_ok=True)
    for split in ("train", "val"):
        np.random.default_rng(len(split)).integers(0, VOCAB, WINDOWS * CONTEXT + 1).astype("<u2").tofile(os.path.join(folder, split + ".bin"))


def expected(folder, data):
    """transformers' loss of the validation's windows and the logits of the first one, in float64."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager",
                                                       experts_implementation="eager", output_loading_info=True)  # the default knows no float64
    assert not any(info.values()), info
    ids = torch.tensor(np.fromfile(os.path.join(data, "val.bin"), "<u2").astype(np.int64))
    with torch.no_grad():
        logits = model(ids[:-1].view(WINDOWS, CONTEXT)).logits.double()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]).item()
    return loss, logits[0].numpy(), ids[:CONTEXT].tolist()


def write_tokenizer(folder):
    """A byte-level BPE of 270 tokens, GPT-2's split, trained by tokenizers; returns its ids of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT * 5], trainers.BpeTrainer(vocab_size=270, special_tokens=["<|endoftext|>"], show_progress=False,
                                                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return tokenizer.encode(TEXT).ids


def first_losses(work, name, folder, data):
    """The losses of the first validation of a fine-tuning, and of one that goes on for a step."""
    out = work.file("tuned_" + name)
    shutil.rmtree(out, ignore_errors=True)
    run(TRAINER, work.file("empty.json"), "--run.dir=" + out, "--data.dir=" + data, "--train.init=" + folder, "--train.steps=1",
        "--train.batch=2", "--optimizer.name=muon")
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as log:
        return [e["val_loss"] for e in map(json.loads, log) if e["event"] == "eval"]


def check_import(work, data, name, make, type_name, shard):
    theirs, ours, again = work.file(name), work.file("run_" + name), work.file("again_" + name)
    made(name, make, type_name).save_pretrained(theirs, **({"max_shard_size": shard} if shard else {}))
    assert (shard is None) == os.path.exists(os.path.join(theirs, "model.safetensors")), os.listdir(theirs)
    build("import", theirs, "--out=" + ours)
    loss, logits, ids = expected(theirs, data)
    error = np.abs(our_logits(ours, ids) - logits).max() / np.abs(logits).max()
    check(error <= 1e-5, f"{name}: logits differ by {error:.1e} of the largest, {np.abs(logits).max():.3g}")
    first, later = first_losses(work, name, ours, data)
    check(abs(first / loss - 1) <= 1e-5, f"{name}: fine-tuning begins with the loss {first:.9g}, transformers' {loss:.9g}; a step later {later:.4f}")
    build("export", ours, "--out=" + again)
    files = [os.path.join(theirs, f) for f in os.listdir(theirs) if f.endswith(".safetensors")]
    before = {k: v for f in files for k, v in load_file(f).items()}
    after = load_file(os.path.join(again, "model.safetensors"))
    same = all(k in after and torch.equal(v.float(), after[k]) for k, v in before.items())
    zeros = [k for k in after if k not in before]
    check(same and not any(after[k].any() for k in zeros),
          f"{name}: exported again, {len(before)} tensors are the same" + (f", {len(zeros)} more are zeros" if zeros else ""))


def check_tokenizer(work):
    theirs, ours = work.file("tokenizer"), work.file("run_tokenizer")
    made("tokenizer", lambda: GPT2LMHeadModel(GPT2Config(**(GPT2 | dict(vocab_size=272)))), "float32").save_pretrained(theirs)
    ids = write_tokenizer(theirs)
    build("import", theirs, "--out=" + ours)
    check(our_ids(ours, TEXT) == ids == AutoTokenizer.from_pretrained(theirs)(TEXT)["input_ids"], f"tokenizer: its {len(ids)} ids of a text")


def write_goldens():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    data = os.path.join(GOLDEN, "data")
    write_data(data)
    lines = []
    for name, make, type_name, shard, kept in MODELS:
        if not kept:
            continue
        folder = os.path.join(GOLDEN, name)
        made(name, make, type_name).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        lines.append(f"{name} {expected(folder, data)[0]:.12g}")
        os.remove(os.path.join(folder, "generation_config.json"))
    ids = write_tokenizer(os.path.join(GOLDEN, "gpt2"))
    config = os.path.join(GOLDEN, "gpt2", "tokenizer_config.json")
    os.remove(config)
    with open(os.path.join(GOLDEN, "expected.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    print(*lines, f"{len(ids)} ids", sep="\n")


def main():
    print("transformers", transformers.__version__, "torch", torch.__version__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if "--write" in sys.argv:
        write_goldens()
        return
    work = Folder("check_import")
    data = work.file("data")
    write_data(data)
    with open(work.file("empty.json"), "w", encoding="utf-8") as f:
        f.write("{}")
    for name, make, type_name, shard, _ in MODELS:
        if wanted(name):
            check_import(work, data, name, make, type_name, shard)
    if wanted("tokenizer"):
        check_tokenizer(work)
    end()


if __name__ == "__main__":
    main()

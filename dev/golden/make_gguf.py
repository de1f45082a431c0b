"""A tiny model written by the package gguf, which llama.cpp's people publish: writes gguf.golden, and the corpus of fuzz's parser.

    python make_gguf.py            write the files
    python make_gguf.py --check    compare them with those that are there, and fail on any difference

Needs gguf==0.19.0 and numpy. The model is a llama of one layer; number i of tensor t is ((7 i + 13 t) mod 31 - 15) / 64,
t counting the tensors: every type holds it exactly. Its vocabulary is the 256 bytes, four merges, an end-of-text token
and a row that is no token. Behind the model's keys there is one of each type that a value can have.
"""
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

FOLDER = Path(__file__).resolve().parent
CORPUS = FOLDER.parent / "test" / "fuzz_corpus" / "gguf"
LAYERS, WIDTH, HEADS, KV_HEADS, FF, CONTEXT, VOCAB = 1, 8, 2, 1, 12, 32, 262
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16}
TENSORS = [("token_embd.weight", "bf16", (VOCAB, WIDTH)), ("blk.0.attn_norm.weight", "f32", (WIDTH,)), ("blk.0.attn_q.weight", "f32", (WIDTH, WIDTH)),
           ("blk.0.attn_k.weight", "f16", (WIDTH // HEADS * KV_HEADS, WIDTH)), ("blk.0.attn_v.weight", "bf16", (WIDTH // HEADS * KV_HEADS, WIDTH)),
           ("blk.0.attn_output.weight", "f32", (WIDTH, WIDTH)), ("blk.0.ffn_norm.weight", "f32", (WIDTH,)), ("blk.0.ffn_gate.weight", "f16", (FF, WIDTH)),
           ("blk.0.ffn_up.weight", "f32", (FF, WIDTH)), ("blk.0.ffn_down.weight", "f32", (WIDTH, FF)), ("output_norm.weight", "f32", (WIDTH,))]
MERGES = ["t h", "Ġ th", "Ġth e", "Ã ©"]


def byte_names():
    """GPT-2's name of each byte: itself where it can be seen, else the next character from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(b) if b in seen else chr(next(hidden)) for b in range(256)]


def numbers(t, shape):
    return (((7 * np.arange(np.prod(shape)) + 13 * t) % 31 - 15) / 64).astype(np.float32).reshape(shape)


def add_tensor(writer, t, name, kind, shape):
    x = numbers(t, shape)
    if kind == "bf16":
        x = (x.view(np.uint32) >> 16).astype(np.uint16)
    elif kind == "f16":
        x = x.astype(np.float16)
    writer.add_tensor(name, x, raw_shape=shape if kind == "bf16" else None, raw_dtype=TYPES[kind])


def add_every_type(writer):
    for kind in gguf.GGUFValueType:
        if kind not in (gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY):
            writer.add_key_value("every." + kind.name.lower(), True if kind == gguf.GGUFValueType.BOOL else 42, kind)
    writer.add_string("every.string", "naïve\n")
    writer.add_array("every.array", [1.5, -2.25])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model(path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(CONTEXT), w.add_embedding_length(WIDTH), w.add_block_count(LAYERS), w.add_feed_forward_length(FF)
    w.add_head_count(HEADS), w.add_head_count_kv(KV_HEADS), w.add_layer_norm_rms_eps(1e-6), w.add_rope_freq_base(500.0)
    w.add_rope_dimension_count(WIDTH // HEADS), w.add_vocab_size(VOCAB), w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    names = byte_names()
    tokens = names + ["th", "Ġth", "Ġthe", "Ã©", "<|endoftext|>", "<unused>"]
    assert len(tokens) == VOCAB
    w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("gpt-2"), w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (VOCAB - 2) + [gguf.TokenType.CONTROL, gguf.TokenType.UNUSED])
    w.add_token_merges(MERGES), w.add_bos_token_id(VOCAB - 2), w.add_eos_token_id(VOCAB - 2), w.add_add_bos_token(False)
    add_every_type(w)
    for t, (name, kind, shape) in enumerate(TENSORS):
        add_tensor(w, t, name, kind, shape)
    finish(w)


def small(path):
    """Values of every type, tensors of every type and of one to three dimensions."""
    w = gguf.GGUFWriter(path, "small")
    add_every_type(w)
    w.add_array("strings", ["", "a", "the end"])
    for t, (kind, shape) in enumerate([("f32", (3,)), ("f16", (2, 5)), ("bf16", (2, 1, 3))]):
        add_tensor(w, t, "tensor " + kind, kind, shape)
    finish(w)


def aligned(path):
    w = gguf.GGUFWriter(path, "aligned")
    w.add_custom_alignment(64)
    for t in range(2):
        add_tensor(w, t, f"t{t}", "f32", (t + 1,))
    finish(w)


def keys(path):
    w = gguf.GGUFWriter(path, "none")
    w.add_array("numbers", list(range(9)))
    finish(w)


def main():
    check, same = "--check" in sys.argv, True
    files = [(FOLDER / "gguf.golden", model)] + [(CORPUS / f.__name__, f) for f in (small, aligned, keys)]
    CORPUS.mkdir(exist_ok=True)
    for path, make in files:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made"
            make(made)
            if not check:
                path.write_bytes(made.read_bytes())
            elif path.read_bytes() != made.read_bytes():
                same = False
                print(path, "differs")
        print(path.name, path.stat().st_size, "bytes")
    sys.exit(not same)


if __name__ == "__main__":
    main()

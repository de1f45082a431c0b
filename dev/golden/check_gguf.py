#!/usr/bin/env python3
"""Models exported as GGUF, in llama.cpp: the same logits, tokens, greedy text and perplexity as here.

    build/venv/bin/pip install -r dev/golden/requirements_gguf.txt
    make && make build/export build/logits && build/venv/bin/python -B dev/golden/check_gguf.py [WORD ...]

Trains a tiny model of each kind, exports it in every type, and loads the file with llama.cpp, which PyPI's xllamacpp carries and
whose C interface its library exports; keys and values in fp32, flash attention off, since llama.cpp's defaults round to float16.
In f32 the logits of 192 tokens are within 1e-5 of the largest (gpt2, whose GELU is a table in float16 there: 3e-4), the
perplexity within 1e-3, the ids of a torture text and 100 greedy tokens the same; in f16 and bf16 logits of nine tokens in ten are within
what rounding the weights does (a token to which two experts are nearly equal may get the other one). llama.cpp has nothing to warn of. WORD: only models whose name has it. Ends with exit code 1 where something
does not hold.
"""
import ctypes
import importlib.metadata
import random
import unicodedata

import numpy as np

from exported import TEXT, Folder, build, check, end, our_greedy, our_ids, our_logits, wanted

CONTEXT, TOKENS, GREEDY = 256, 192, 100
LIMITS = {"f32": 1e-5, "bf16": 5e-2, "f16": 5e-3}
GPT2_LIMIT = 3e-4
KEYS = [f"--model.context={CONTEXT}", "--train.batch=1", "--train.steps=10"]
K2 = ["--model.arch=k2", "--model.kv_lora=16", "--model.nope=8", "--model.rope=4", "--model.v_head=8"]
# name, data, keys
MODELS = [
    ("gpt2", "bpe", ["--model.arch=gpt2"]),
    ("gpt2_untied_no_bias", "bpe", ["--model.arch=gpt2", "--model.head=untied", "--model.bias=false", "--model.context=200"]),
    ("gpt2_char", "char", ["--model.arch=gpt2", "--model.mlp_width=96"]),
    ("llama_grouped", "bpe", ["--model.arch=llama", "--model.kv_heads=2", "--model.rope_theta=500"]),
    ("llama_tied_bias", "byte", ["--model.arch=llama", "--model.head=tied", "--model.bias=true", "--model.norm_eps=1e-6"]),
    ("llama_wide_heads_long", "bpe", ["--model.arch=llama", "--model.kv_heads=2", "--model.head_size=12", "--model.rope_factor=8",
                                      "--model.rope_original=40"]),
    ("llama_char_padded", "char", ["--model.arch=llama", "--model.vocab=160", "--model.kv_heads=1"]),
    ("k2", "bpe", K2 + ["--model.q_lora=24", "--model.experts=8", "--model.experts_per_token=2", "--model.expert_width=24",
                        "--model.shared_experts=0"]),
    ("k2_groups", "bpe", K2 + ["--model.q_lora=0", "--model.layers=3", "--model.experts=12", "--model.experts_per_token=2",
                               "--model.expert_width=16", "--model.expert_groups=4", "--model.groups_per_token=2", "--model.shared_experts=2"]),
    ("k2_one_group", "bpe", K2 + ["--model.q_lora=0", "--model.experts=6", "--model.experts_per_token=2", "--model.expert_width=16",
                                  "--model.expert_groups=3"]),
    ("k2_tied_all_experts", "bpe", K2 + ["--model.q_lora=24", "--model.experts=4", "--model.dense_layers=0", "--model.experts_per_token=2",
                                         "--model.expert_width=16", "--model.head=tied"]),
    ("k2_dense_plain", "char", K2 + ["--model.q_lora=0", "--model.experts=0"]),
]


def torture():
    """Characters by chance, of every kind there is and in runs of one kind, between contractions and runs of blanks. All are as
    old as Unicode 3.2: llama.cpp splits by 15.1, we by 16."""
    draw, kinds = random.Random(1), {}
    for c in range(1, 0x30000):
        kinds.setdefault(unicodedata.ucd_3_2_0.category(chr(c)), []).append(chr(c))
    kinds = [kinds[k] for k in sorted(kinds) if k not in ("Cn", "Cs", "Co")] + [["'s", "'ll", "'T", " ", "  ", "\n", "\r\n", "\t", "7", "x", "X", "."]] * 8
    return "".join(draw.choice(kind) for kind in draw.choices(kinds, k=6000) for _ in range(draw.choice((1, 1, 2, 5))))


class ModelParams(ctypes.Structure):
    """llama_model_params, of which nothing is changed."""
    _fields_ = [("all", ctypes.c_uint8 * 256)]


class ContextParams(ctypes.Structure):
    """llama_context_params up to what is changed; longer than it is."""
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32), ("n_seq_max", ctypes.c_uint32),
                ("counts", ctypes.c_uint32 * 3), ("n_threads", ctypes.c_int32), ("n_threads_batch", ctypes.c_int32), ("ctx_type", ctypes.c_int32),
                ("types", ctypes.c_int32 * 3), ("flash_attn_type", ctypes.c_int32), ("rope_freq_base", ctypes.c_float),
                ("rope_freq_scale", ctypes.c_float), ("yarn", ctypes.c_float * 4), ("yarn_orig_ctx", ctypes.c_uint32), ("defrag_thold", ctypes.c_float),
                ("cb_eval", ctypes.c_void_p), ("cb_eval_user_data", ctypes.c_void_p), ("type_k", ctypes.c_int32), ("type_v", ctypes.c_int32),
                ("rest", ctypes.c_uint8 * 144)]


class Batch(ctypes.Structure):
    """llama_batch."""
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
GGML_F32, GGML_F16, LEVEL_WARN, FLASH_OFF, FLASH_AUTO = 0, 1, 3, 0, -1


class Library:
    """llama.cpp's C interface."""

    def __init__(self):
        files = importlib.metadata.files("xllamacpp")
        path = [str(f.locate()) for f in files if f.name.endswith(".so")]
        self.c = ctypes.CDLL(path[0])
        for name, result in (("model_default_params", ModelParams), ("context_default_params", ContextParams), ("model_load_from_file", ctypes.c_void_p),
                             ("init_from_model", ctypes.c_void_p), ("model_get_vocab", ctypes.c_void_p), ("get_logits_ith", ctypes.POINTER(ctypes.c_float)),
                             ("batch_init", Batch), ("get_memory", ctypes.c_void_p)):
            getattr(self.c, "llama_" + name).restype = result
        self.said = []
        self.log = LOG(lambda level, text, data: self.said.append(text.decode().strip()) if level >= LEVEL_WARN and level < 5 else None)
        self.c.llama_log_set(self.log, None)
        self.c.llama_backend_init()


class Model:
    """A model that llama.cpp has loaded, with a context for CONTEXT tokens."""

    def __init__(self, library, path, exact=True):
        self.c = library.c
        library.said.clear()
        self.model = self.c.llama_model_load_from_file(path.encode(), self.c.llama_model_default_params())
        if not self.model:
            raise RuntimeError(path + ": " + " | ".join(library.said))
        params = self.c.llama_context_default_params()
        defaults = [params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.ctx_type, *params.types, params.flash_attn_type,
                    params.rope_freq_base, params.rope_freq_scale, *params.yarn, params.type_k, params.type_v]
        assert defaults == [512, 2048, 512, 1, 0, -1, -1, -1, FLASH_AUTO, 0, 0, -1, -1, -1, -1, GGML_F16, GGML_F16], f"another struct: {defaults}"
        params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
        if exact:
            params.flash_attn_type, params.type_k, params.type_v = FLASH_OFF, GGML_F32, GGML_F32
        params.n_threads = params.n_threads_batch = 2
        self.context = ctypes.c_void_p(self.c.llama_init_from_model(ctypes.c_void_p(self.model), params))
        self.vocabulary = ctypes.c_void_p(self.c.llama_model_get_vocab(ctypes.c_void_p(self.model)))
        self.size = self.c.llama_vocab_n_tokens(self.vocabulary)
        self.warnings = list(library.said)

    def ids(self, text):
        data = text.encode()
        out = (ctypes.c_int32 * len(data))()
        n = self.c.llama_tokenize(self.vocabulary, data, len(data), out, len(data), True, False)
        assert n >= 0
        return list(out[:n])

    def text(self, ids):
        data = b""
        for i in ids:
            piece = ctypes.create_string_buffer(512)
            n = self.c.llama_token_to_piece(self.vocabulary, i, piece, 512, 0, True)
            data += piece.raw[:n]
        return data

    def logits(self, ids, past=0, last=False):
        """(len(ids), size): after each of them those of the next token; last: (1, size), after the last one."""
        if past == 0:
            self.c.llama_memory_clear(ctypes.c_void_p(self.c.llama_get_memory(self.context)), True)
        batch = self.c.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, past + i, 1, 0, not last or i + 1 == len(ids)
        assert self.c.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(self.c.llama_get_logits_ith(self.context, i), (self.size,)).astype(np.float64) for i in range(len(ids) - 1 if last else 0, len(ids))]
        self.c.llama_batch_free(batch)
        return np.stack(rows)

    def greedy(self, ids, n):
        ids, z = list(ids), self.logits(ids)
        for _ in range(n):
            ids.append(int(z[-1].argmax()))
            z = self.logits(ids[-1:], len(ids) - 1)
        return ids

    def close(self):
        self.c.llama_free(self.context)
        self.c.llama_model_free(ctypes.c_void_p(self.model))


def perplexity(logits, ids):
    z = logits[:-1] - logits[:-1].max(1, keepdims=True)
    return np.exp((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), ids[1:]]).mean())


def check_tokens(model, name, kind, folder):
    for of, text in (("a text", TEXT), ("a torture text", torture())):
        if kind == "char" and text != TEXT:
            continue                        # ours refuses what isn't in its vocabulary, llama.cpp leaves it out
        ids = model.ids(text)
        check(ids == our_ids(folder, text), f"{name}: ids of {of}, {len(ids)} of them")
        check(model.text(ids).decode() == text, f"{name}: and back")


def check_model(library, work, name, kind, folder):
    ids = (our_ids(folder, TEXT) * TOKENS)[:TOKENS]
    ours = our_logits(folder, ids)
    for type_name, limit in LIMITS.items():
        if type_name == "f32" and name.startswith("gpt2"):
            limit = GPT2_LIMIT
        out = work.file(f"{name}_{type_name}.gguf")
        said = build("export", folder, "--format=gguf", "--type=" + type_name, "--out=" + out).decode()
        model = Model(library, out)
        theirs = model.logits(ids)
        errors = np.abs(theirs - ours).max(1) / np.abs(ours).max()
        error = errors.max() if type_name == "f32" else np.quantile(errors, 0.9)      # rounded weights may choose another expert
        check(error <= limit, f"{name} {type_name}: logits differ by {error:.1e} of the largest, {np.abs(ours).max():.3g} (limit {limit:.0e})")
        if type_name == "f32":
            print(said, end="")
            expected = ["special_eos_id is not in special_eog_ids"] if "end-of-text" in said else []
            check(len(model.warnings) == len(expected) and all(a in b for a, b in zip(expected, model.warnings)),
                  f"{name}: {expected or 'nothing'} to warn of {model.warnings or ''}")
            check_tokens(model, name, kind, folder)
            a, b = perplexity(ours, ids), perplexity(theirs, ids)
            check(abs(a - b) <= 1e-3 * a, f"{name}: perplexity {b:.6g}, here {a:.6g}")
            prompt = ids[:8]
            text = our_greedy(folder, model.text(prompt).decode(), GREEDY)
            check(model.text(model.greedy(prompt, GREEDY)) + b"\n" == text, f"{name}: {GREEDY} greedy tokens")
        model.close()


def main():
    print("xllamacpp", importlib.metadata.version("xllamacpp"))
    library, work = Library(), Folder("check_gguf")
    for name, kind, keys in MODELS:
        if wanted(name):
            check_model(library, work, name, kind, work.train(name, kind, KEYS + keys))
    end()


if __name__ == "__main__":
    main()

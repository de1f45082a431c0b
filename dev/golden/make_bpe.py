"""Make the reference file bpe_ids.golden that test_bpe.c compares with; compare data/bpe.h with others at length.

    python make_bpe.py            train and encode by Hugging Face's tokenizers, check with tiktoken, write the file
    python make_bpe.py --check    the same, but compare with the file that is there and fail on any difference
    python make_bpe.py --full [FILE]    compile data/bpe.h and compare it with both: merges, ids of the whole King James
                                  text, all sources, every code point, 10,000 random strings; times. Trains on FILE too

Needs tokenizers and tiktoken, for --full also transformers (pip), a C compiler and libraries, and the program `bible`.

Unicode versions differ between PCRE2, tokenizers and tiktoken: what one of them doesn't know is no letter to it.
Compared is what Python's unicodedata (3.11: Unicode 14) has assigned.
"""

import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import numpy as np
import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import golden_file

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
EOT = "<|endoftext|>"
SUFFIXES = "'s|'t|'re|'ve|'m|'ll|'d"
PATTERN = SUFFIXES + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (rf"(?i:{SUFFIXES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORD = r"[^\r\n\p{L}\p{N}]?"
OTHERS = dict(llama3=LLAMA3, qwen2=LLAMA3.replace("{1,3}", ""), gpt4o=(
    f"{WORD}{UPPER}*{LOWER}+(?i:{SUFFIXES})?|{WORD}{UPPER}+{LOWER}*(?i:{SUFFIXES})?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"))


# ----------------------------------------------------------------------------------------------------------------------
# Texts

def bible(verses):
    # `bible` looks for its text in the current folder first
    return subprocess.run(["bible", "-f", verses], cwd="/", capture_output=True, check=True, text=True).stdout


def sources():
    files = [p for p in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True)
             .stdout.split("\n") if p.endswith((".c", ".h", ".py", ".sh", ".md", ".json"))]
    return "".join((ROOT / p).read_bytes().decode() for p in files)


def known():
    """Every code point that is assigned and not a surrogate."""
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def torture():
    spaces = "".join(chr(c) for c in (9, 10, 11, 12, 13, 0x1c, 0x1f, 0x20, 0x85, 0xa0, 0x1680, 0x180e, 0x2000, 0x200a,
                                      0x200b, 0x2028, 0x2029, 0x202f, 0x205f, 0x2060, 0x3000, 0xfeff))
    lines = [
        "I'll we've they're I'd he's I'm don't I'LL WE'VE 'tis '' 'sd 'd's ''ll '’s it’s",
        "café cafe\u0301 naïve Ångström A\u030angstro\u0308m ﬁn ǄǅǆǇ straße ſ İı",
        "αβγΑΒΓ Привет \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 नमस्ते สวัสดี 你好，世界。 こんにちは",
        "안녕 \u1112\u1161\u11ab \U00020000\U0002a6d6 \U00010400\U00010428 \u202eright to left\u202c",
        "1234567890 \u0661\u0662\u0663 ²³½⅕ ⅠⅡ 〇三 x1y2 3rd 0x1F 1e-9 1,000.5 \U0001d7ce\U0001d7cf",
        "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea ❤\ufe0f",
        "\U0001f44d\U0001f3fd #\ufe0f\u20e3",
        "".join("a" + s + "b" + s + s + "1" + s + s + s + "!" for s in spaces), spaces, spaces + "x", " " * 70 + "x",
        "\x00 \x00\x00a\x00 \x01\x7f\x80\x9f \ufffd\uffff\U0010ffff",
        "a" * 100 + "ab" * 100 + "!?" * 60 + "=" * 79 + "-" * 300 + " " * 33 + "\t" * 9, "\r\n\r\n\n\n \n \r x \r\n",
        f"{EOT}<|endoftext|> <|im_start|>{EOT * 2}", "\u0301\u0301 \u0301a\u0301", "\ufeffBOM",
    ]
    return "\n".join(lines)


def random_strings(count, alphabet):
    rng = random.Random(7)
    spaces = [c for c in alphabet if c.isspace()] + ["\u180e", "\u200b", "\ufeff"]
    latin = [c for c in alphabet if ord(c) < 0x250]
    words = ["'s", "'ll", "'re", "'", " the", "the", "ing", "  ", "\n\n", "\r\n", " 12", "\u00e9", "e\u0301", EOT, "\0"]

    def character():
        kind = rng.random()
        return rng.choice(alphabet if kind < 0.4 else spaces if kind < 0.55 else latin if kind < 0.8 else words)

    return ["".join(character() for _ in range(rng.randrange(15))) for _ in range(count)]


# ----------------------------------------------------------------------------------------------------------------------
# The two references

def train(documents, size, pattern=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=size, special_tokens=[EOT],
                                                                 initial_alphabet=alphabet, show_progress=False))
    tokenizer.encode_special_tokens = True  # special tokens are never made from text
    return tokenizer


def byte_of_character():
    """GPT-2's printable characters of the bytes."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def with_word(tokenizer, word):
    """The same with one more token, which no merge makes: only a piece that is just this word becomes it."""
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = True
    data["model"]["vocab"][word] = tokenizer.get_vocab_size()
    result = Tokenizer.from_str(json.dumps(data))
    result.encode_special_tokens = True
    return result


def tiktoken_of(tokenizer, pattern=PATTERN):
    byte = byte_of_character()
    ranks = {bytes(byte[c] for c in name): id for name, id in tokenizer.get_vocab().items() if name != EOT}
    return tiktoken.Encoding("trained", pat_str=pattern, mergeable_ranks=ranks,
                             special_tokens={EOT: tokenizer.token_to_id(EOT)})


def ids_of_both(tokenizer, reference, text):
    ids = tokenizer.encode(text).ids
    assert ids == reference.encode_ordinary(text), f"tokenizers and tiktoken differ on {text[:60]!r}"
    return ids


# ----------------------------------------------------------------------------------------------------------------------
# The file

def make():
    texts = dict(kjv=bible("gen1:1-gen7:24"), code=(ROOT / "muon.h").read_text()[:16000], torture=torture())
    tokenizer = train(texts.values(), 1200)
    reference = tiktoken_of(tokenizer)
    tensors = {"tokenizer.json": tokenizer.to_str()}
    for name, text in texts.items():
        tensors[f"text.{name}"] = text
        tensors[f"ids.{name}"] = np.array(ids_of_both(tokenizer, reference, text), "<i4")
    strings = random_strings(1000, known())
    ids = [ids_of_both(tokenizer, reference, s) for s in strings]
    tensors["text.random"] = "".join(strings)
    tensors["text.random.bytes"] = np.array([len(s.encode()) for s in strings], "<i4")
    tensors["ids.random"] = np.array(sum(ids, []), "<i4")
    tensors["ids.random.count"] = np.array([len(i) for i in ids], "<i4")
    together = "\n".join([*strings[:300], texts["torture"], texts["code"][:1500], texts["kjv"][:1500]])
    tensors["text.others"] = together
    for name, pattern in OTHERS.items():
        other = with_word(train(texts.values(), 500, pattern), "\u0120firmament")
        tensors[f"tokenizer.{name}"] = other.to_str()
        tensors[f"ids.{name}"] = np.array(ids_of_both(other, tiktoken_of(other, pattern), together), "<i4")
    return golden_file.encode(tensors)


# ----------------------------------------------------------------------------------------------------------------------
# data/bpe.h beside them

WRAPPER = r"""
#define _GNU_SOURCE
#include "data/bpe.h"

static char error[512];

typedef struct { Bpe bpe; BpeEncoder encoder; } Opened;

const char *reason(void) { return error; }

int train(const char *text, size_t n, size_t size, const char *path, double seconds[2]) {
    static const char *const special[] = { "<|endoftext|>" };
    BpeWords words = { 0 };
    Bpe b;
    double start = seconds_now();
    if (bpe_count(&words, text, n, error, sizeof error) != 0) return -1;
    seconds[0] = seconds_now() - start;
    if (bpe_train(&b, &words, size, special, 1, error, sizeof error) != 0) return -1;
    seconds[1] = seconds_now() - start;
    bpe_words_free(&words);
    int result = bpe_save(&b, path);
    bpe_free(&b);
    return result;
}

void *load(const char *path) {
    Opened *o = xmalloc(sizeof *o);
    if (bpe_load(&o->bpe, path, error, sizeof error) != 0) return NULL;
    return bpe_encoder_open(&o->encoder, &o->bpe, error, sizeof error) == 0 ? o : NULL;
}

long encode(Opened *o, const char *text, size_t n, uint32_t *ids) {
    return bpe_encode(&o->encoder, text, n, ids, error, sizeof error);
}
"""


class Ours:
    def __init__(self, folder):
        self.folder = Path(folder)
        source, library = self.folder / "wrapper.c", self.folder / "wrapper.so"
        source.write_text(WRAPPER)
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-O3", "-fopenmp", "-fPIC", "-shared", f"-I{ROOT}",
                        source, "-o", library, "-lpcre2-8", "-lcjson"], check=True)
        self.c = ctypes.CDLL(str(library))
        self.c.reason.restype = ctypes.c_char_p
        self.c.load.restype = ctypes.c_void_p
        self.c.encode.restype = ctypes.c_long
        self.c.encode.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
        self.c.train.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

    def train(self, text, size, name):
        """Returns the tokenizer.json written, and the seconds for counting and for all of training."""
        data, path, seconds = text.encode(), self.folder / name, (ctypes.c_double * 2)()
        assert self.c.train(data, len(data), size, str(path).encode(), seconds) == 0, self.c.reason()
        return path, list(seconds)

    def load(self, path):
        self.handle = self.c.load(str(path).encode())
        assert self.handle, self.c.reason()

    def encode(self, data):
        ids = np.empty(len(data), "<u4")
        count = self.c.encode(self.handle, data, len(data), ids.ctypes.data)
        assert count >= 0, self.c.reason()
        return ids[:count]


def documents(text, size=10000):
    """The text in parts of about `size` characters whose pieces are those of the whole."""
    parts, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        while end < len(text) and not (text[end] == "\n" and "!" <= text[end - 1] <= "~"):
            end += 1
        parts.append(text[start:end])
        start = end
    return parts


def merges_of(tokenizer):
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in json.loads(tokenizer)["model"]["merges"]]


def compare_training(ours, name, text, size):
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    start = time.perf_counter()
    tokenizer = train(documents(text), size)
    theirs = time.perf_counter() - start
    path, seconds = ours.train(text, size, f"{name}.json")
    merges, expected = merges_of(path.read_text()), merges_of(tokenizer.to_str())
    same = merges == expected and Tokenizer.from_file(str(path)).get_vocab() == tokenizer.get_vocab()
    first = next((i for i, (a, b) in enumerate(zip(merges, expected)) if a != b), min(len(merges), len(expected)))
    print(f"train {name}: {len(text.encode()) * 1e-6:.1f} MB to {size} tokens: ours {seconds[1]:.2f} s (counting "
          f"{seconds[0]:.2f}), tokenizers {theirs:.2f} s; merges {len(merges)} and {len(expected)}, "
          + ("all the same" if same else f"the same up to {first}"))
    return tokenizer, path


def compare_ids(ours, tokenizer, reference, name, text):
    data = text.encode()
    parts = documents(text)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    ours.encode(data)
    start = time.perf_counter()
    ids = ours.encode(data)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    expected = [i for e in tokenizer.encode_batch_fast(parts) for i in e.ids]
    theirs = time.perf_counter() - start
    start = time.perf_counter()
    third = [i for p in parts for i in reference.encode_ordinary(p)]
    tiktokens = time.perf_counter() - start
    assert ids.tolist() == expected == third, f"{name}: the ids differ"
    size = len(data) * 1e-6
    print(f"encode {name}: {size:.1f} MB, {len(ids)} ids, the same by all three; MB/s on one thread: ours "
          f"{size / seconds:.1f}, tokenizers {size / theirs:.1f}, tiktoken {size / tiktokens:.1f}")


def full(file):
    from transformers import PreTrainedTokenizerFast

    kjv, code, alphabet = bible("gen1:1-rev22:21"), sources(), known()
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(folder)
        compare_training(ours, "kjv", kjv, 4096)
        compare_training(ours, "torture", torture() * 3, 2000)
        compare_training(ours, "code", code, 16384)
        if file:
            compare_training(ours, Path(file).name, Path(file).read_bytes().decode(errors="replace"), 32768)
        tokenizer, path = compare_training(ours, "both", kjv + code, 8192)
        ours.load(path)
        reference = tiktoken_of(tokenizer)
        compare_ids(ours, tokenizer, reference, "kjv", kjv)
        compare_ids(ours, tokenizer, reference, "code", code)
        loaded = PreTrainedTokenizerFast(tokenizer_file=str(path))
        assert loaded.encode(kjv[:200000]) == ours.encode(kjv[:200000].encode()).tolist()
        print("transformers: loads our tokenizer.json, the same ids on 200,000 characters of kjv")
        for name, strings in {
            "torture": [torture()],
            "10,000 random strings": random_strings(10000, alphabet),
            f"{len(alphabet)} characters, each between others": [f"a{c}b {c}1{c}{c} {c}\n" for c in alphabet],
        }.items():
            wrong = {"tokenizers": [], "tiktoken": []}
            for s in strings:
                ids = ours.encode(s.encode()).tolist()
                if ids != tokenizer.encode(s).ids:
                    wrong["tokenizers"].append(s)
                if ids != reference.encode_ordinary(s):
                    wrong["tiktoken"].append(s)
            print(f"encode {name}: " + "; ".join(f"{len(v)} differ from {k} {v[:3] or ''}" for k, v in wrong.items()))


def main():
    if sys.argv[1:2] == ["--full"]:
        return full(sys.argv[2] if len(sys.argv) > 2 else None)
    data, path = make(), FOLDER / "bpe_ids.golden"
    if sys.argv[1:] == ["--check"]:
        if path.read_bytes() != data:
            sys.exit(f"error: {path.name} differs")
        print(f"{path.name}: the same, {len(data)} bytes")
    else:
        path.write_bytes(data)
        print(f"{path.name}: {len(data)} bytes")


main()

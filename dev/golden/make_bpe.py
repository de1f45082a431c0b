"""Make the reference file bpe_ids.golden that test_bpe.c compares with; compare data/bpe.h with others at length.

    python make_bpe.py            train and encode by Hugging Face's tokenizers, check with tiktoken, write the file
    python make_bpe.py --check    the same, but compare with the file that is there and fail on any difference
    python make_bpe.py --full     compile data/tokenizer.h and compare it with both at length: merges, ids of the whole
                                  King James text, all sources, every code point, 10,000 random strings; with
                                  transformers; of tiny Shakespeare too where DATA_MIRROR=FOLDER has
                                  tinyshakespeare/input.txt, with GPT-2's own vocabulary where GPT2_FOLDER has
                                  encoder.json and vocab.bpe

Needs what requirements_bpe.txt lists (pip), the program `bible`, for --full also a C compiler and the libraries.

The characters are those of Unicode 16, which tokenizers and tiktoken know; PCRE2 by data/unicode.h.
"""

import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tiktoken
import unicodedata2
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import golden_file

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
PATH = FOLDER / "bpe_ids.golden"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")    # else transformers says that PyTorch is missing
EOT = "<|endoftext|>"
KAWI = "\U00011f04\U00011f05"       # letters of Unicode 15
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
    return [chr(c) for c in range(0x110000) if unicodedata2.category(chr(c)) not in ("Cn", "Cs")]


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


def qwen2(tokenizer, folder):
    """What transformers' own class for Qwen2 saves: text is normalized, and some added tokens are made from it."""
    from transformers import AddedToken, Qwen2Tokenizer

    model = json.loads(tokenizer.to_str())["model"]
    saved = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])
    saved.add_tokens(["<|im_start|>", "<|fim_tool_call|>"], special_tokens=True)
    saved.add_tokens(["<tool_call>", "caf\u00e9", "text"])
    saved.add_tokens([AddedToken(t, normalized=False) for t in ("</tool_call>", "tool", "</tool_call>x", "im", "e\u0301!")])
    saved.save_pretrained(folder)
    return (Path(folder) / "tokenizer.json").read_text()


def marked_strings(count):
    """Strings of characters that normalization moves, joins and divides, and of what added tokens are made of."""
    rng, characters = random.Random(8), [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    decomposed = [unicodedata2.normalize("NFD", c) for c in characters]
    hangul = [c for c in characters if 0x1100 <= ord(c) < 0x1200 or 0xAC00 <= ord(c) < 0xD7A4]
    pools = [[c for c in characters if unicodedata2.combining(c)], hangul, list("aeocAE ,\n"), ["cafe\u0301", "caf\u00e9"],
             [c for c, d in zip(characters, decomposed) if c != d], sorted({c for d in decomposed if len(d) > 1 for c in d}),
             ["<tool_call>", "</tool_call>", "</tool_call>x", "<|im_start|>", "<|fim_tool_call|>", EOT, "tool", "<", "te", "xt"]]
    return ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(10))) for _ in range(count)]


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
    """The code is that of the file which is there: a source of the project would change."""
    code = golden_file.decode(PATH.read_bytes())["text.code"].tobytes().decode()
    texts = dict(kjv=bible("gen1:1-gen7:24"), code=code, torture=torture())
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
    kawi = train([f"a{KAWI}"] * 9, 265)
    tensors["tokenizer.kawi"], tensors["text.kawi"] = kawi.to_str(), f"a{KAWI}"
    tensors["ids.kawi"] = np.array(ids_of_both(kawi, tiktoken_of(kawi), f"a{KAWI}"), "<i4")
    strings = marked_strings(1000)
    with tempfile.TemporaryDirectory() as folder:
        tensors["tokenizer.qwen2_saved"] = qwen2(train(texts.values(), 500, OTHERS["qwen2"]), folder)
    saved = Tokenizer.from_str(tensors["tokenizer.qwen2_saved"])
    saved.encode_special_tokens = True
    ids = [saved.encode(s).ids for s in strings]
    tensors["text.marked"] = "".join(strings)
    tensors["text.marked.bytes"] = np.array([len(s.encode()) for s in strings], "<i4")
    tensors["ids.marked"] = np.array(sum(ids, []), "<i4")
    tensors["ids.marked.count"] = np.array([len(i) for i in ids], "<i4")
    return golden_file.encode(tensors)


# ----------------------------------------------------------------------------------------------------------------------
# data/bpe.h beside them

WRAPPER = r"""
#define _GNU_SOURCE
#include "data/tokenizer.h"

static char error[4400];

const char *reason(void) { return error; }

int train(const char *text, size_t n, size_t size, const char *path) {
    static const char *const special[] = { BPE_EOT };
    BpeWords words = { 0 };
    Bpe b;
    if (bpe_count(&words, text, n, error, sizeof error) != 0) return -1;
    if (bpe_train(&b, &words, size, special, 1, error, sizeof error) != 0) return -1;
    bpe_words_free(&words);
    int result = bpe_save(&b, path);
    bpe_free(&b);
    return result;
}

Tokenizer *load(const char *path) {
    Tokenizer *t = xmalloc(sizeof *t);
    return tokenizer_load(t, path, error, sizeof error) == 0 ? t : NULL;
}

long encode(Tokenizer *t, const char *text, size_t n, uint32_t *ids) {
    return tokenizer_encode(t, text, n, ids, error, sizeof error);
}
"""


class Ours:
    def __init__(self, folder):
        self.folder = Path(folder)
        source, library = self.folder / "wrapper.c", self.folder / "wrapper.so"
        source.write_text(WRAPPER)
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-O3", "-fopenmp", "-fPIC", "-shared", f"-I{ROOT}",
                        source, "-o", library, "-lpcre2-8", "-lutf8proc", "-lcjson"], check=True)
        self.c = ctypes.CDLL(str(library))
        self.c.reason.restype = ctypes.c_char_p
        self.c.load.restype = ctypes.c_void_p
        self.c.encode.restype = ctypes.c_long
        self.c.encode.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
        self.c.train.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p]

    def train(self, text, size, name):
        """Returns the tokenizer.json written."""
        data, path = text.encode(), self.folder / name
        assert self.c.train(data, len(data), size, str(path).encode()) == 0, self.c.reason()
        return path

    def load(self, path):
        self.handle = self.c.load(str(path).encode())
        assert self.handle, self.c.reason()

    def encode(self, data):
        ids = np.empty(3 * len(data), "<u4")     # normalization makes a text longer by at most this factor
        count = self.c.encode(self.handle, data, len(data), ids.ctypes.data)
        assert count >= 0, self.c.reason()
        return ids[:count].tolist()


def documents(text, size=10000):
    """The text in parts of about `size` characters whose pieces are those of the whole: see bpe_cut."""
    parts, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        while end < len(text) and not (text[end] == "\n" and text[end - 1].isalnum() and text[end - 1].isascii()):
            end += 1
        parts.append(text[start:end])
        start = end
    return parts


def merges_of(tokenizer):
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in json.loads(tokenizer)["model"]["merges"]]


failures = 0


def report(line, same):
    global failures
    failures += not same
    print(line if same else f"DIFFERENT: {line}", flush=True)


def compare_training(ours, name, text, size):
    tokenizer = train(documents(text), size)
    path = ours.train(text, size, f"{name}.json")
    merges, expected = merges_of(path.read_text()), merges_of(tokenizer.to_str())
    same = merges == expected and Tokenizer.from_file(str(path)).get_vocab() == tokenizer.get_vocab()
    first = next((i for i, (a, b) in enumerate(zip(merges, expected)) if a != b), min(len(merges), len(expected)))
    report(f"train {name}, {len(text.encode())} bytes to {size} tokens: {first} of {len(expected)} merges as by "
           "tokenizers", same)
    return tokenizer, path


def compare_ids(ours, path, name, texts, lists, references):
    """Loads path and encodes all texts (whole) and lists of strings (each by itself) beside every reference."""
    ours.load(path)
    wrong, ids = {}, 0
    for part, strings in {**{k: documents(v) for k, v in texts.items()}, **lists}.items():
        expected = {k: [encode(s) for s in strings] for k, encode in references.items()}
        whole = part in texts
        got = [ours.encode(texts[part].encode())] if whole else [ours.encode(s.encode()) for s in strings]
        ids += sum(len(i) for i in got)
        for k, v in expected.items():
            if whole:
                v = [sum(v, [])]
            bad = [i for i in range(len(v)) if v[i] != got[i]]
            if bad:
                wrong[f"{part} by {k}"] = [strings[i][:20] for i in bad[:3]] if not whole else "the text"
    report(f"encode {name}: {ids} ids of the texts{' and strings' if lists else ''} as by {', '.join(references)}"
           + (f": {wrong}" if wrong else ""), not wrong)


def gpt2(folder):
    """GPT-2's own vocabulary by tokenizers and tiktoken, and its two files."""
    encoder = next(folder / n for n in ("encoder.json", "vocab.json") if (folder / n).exists())
    merges = next(folder / n for n in ("vocab.bpe", "merges.txt") if (folder / n).exists())
    tokenizer = Tokenizer(models.BPE.from_file(str(encoder), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer, tiktoken_of(tokenizer), [encoder, merges]


def write_llmc(tokenizer, path):
    """llm.c's layout: the tokens, without merges."""
    byte, size = byte_of_character(), tokenizer.get_vocab_size()
    header = np.zeros(256, "<i4")
    header[:4] = 20240328, 2, size, tokenizer.token_to_id(EOT)
    names = [tokenizer.id_to_token(i) for i in range(size)]
    tokens = [n.encode() if n == EOT else bytes(byte[c] for c in n) for n in names]
    path.write_bytes(header.tobytes() + b"".join(bytes([len(t)]) + t for t in tokens))
    return path


def full():
    from transformers import PreTrainedTokenizerFast

    texts = dict(kjv=bible("gen1:1-rev22:21"), sources=sources(), torture=torture())
    shakespeare = Path(os.environ.get("DATA_MIRROR", "-")) / "tinyshakespeare" / "input.txt"
    if shakespeare.exists():
        texts["shakespeare"] = shakespeare.read_bytes().decode()
    lists = {"10,000 random strings": random_strings(10000, known()),
             "every character between others": [f"a{c}b {c}1{c}{c} {c}\n" for c in known()]}

    print(f"texts: {', '.join(texts)}; strings: {', '.join(lists)}")

    def both(tokenizer, pattern=PATTERN):
        reference = tiktoken_of(tokenizer, pattern)
        return {"tokenizers": lambda s: tokenizer.encode(s).ids, "tiktoken": reference.encode_ordinary}

    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(folder)
        for name, size in dict(kjv=4096, sources=16384, torture=2000, shakespeare=4096).items():
            if name in texts:
                compare_training(ours, name, texts[name], size)
        tokenizer, path = compare_training(ours, "together", "".join(texts.values()), 8192)
        loaded = PreTrainedTokenizerFast(tokenizer_file=str(path))
        compare_ids(ours, path, "our tokenizer.json", texts, lists, both(tokenizer))
        compare_ids(ours, path, "our tokenizer.json", texts, {},
                    {"transformers": lambda s: loaded.encode(s, split_special_tokens=True)})
        compare_ids(ours, write_llmc(tokenizer, ours.folder / "llmc.bin"), "its tokens in llm.c's layout", texts, {},
                    both(tokenizer))
        for name, pattern in OTHERS.items():
            other = with_word(train(documents(texts["sources"]), 8000, pattern), "\u0120firmament")
            other.save(str(ours.folder / "other.json"))
            compare_ids(ours, ours.folder / "other.json", f"{name}'s split", texts, lists, both(other, pattern))
        saved = qwen2(train(documents(texts["sources"]), 8000, OTHERS["qwen2"]), ours.folder)
        saved = Tokenizer.from_str(saved)
        saved.encode_special_tokens = True
        compare_ids(ours, ours.folder / "tokenizer.json", "what Qwen2Tokenizer saves", texts,
                    lists | {"20,000 strings of marks": marked_strings(20000)}, {"tokenizers": lambda s: saved.encode(s).ids})
        if "GPT2_FOLDER" in os.environ:
            tokenizer, _, files = gpt2(Path(os.environ["GPT2_FOLDER"]))
            for path in [*files, write_llmc(tokenizer, ours.folder / "gpt2.bin")]:
                compare_ids(ours, path, f"GPT-2's own, {path.name}", texts, lists, both(tokenizer))
    if failures:
        sys.exit(f"error: {failures} comparisons differ")


def main():
    if sys.argv[1:] == ["--full"]:
        return full()
    data, path = make(), PATH
    if sys.argv[1:] == ["--check"]:
        if path.read_bytes() != data:
            sys.exit(f"error: {path.name} differs")
        print(f"{path.name}: the same, {len(data)} bytes")
    else:
        path.write_bytes(data)
        print(f"{path.name}: {len(data)} bytes")


if __name__ == "__main__":
    main()

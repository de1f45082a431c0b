"""Token files in the field's formats, both ways: what build/tokenize writes is read here by numpy as llm.c and nanoGPT
read theirs, and what numpy writes here as they write is read by build/tokenize. Needs numpy and a built build/tokenize:

    build/venv/bin/python dev/golden/check_shards.py [TEXT]     # TEXT: README.md

llm.c (dev/data/data_common.py): 256 int32 of header, [0] 20240520, [1] 1, [2] the number of tokens, then uint16; or
[0] 20240801, [1] 7, then uint32. nanoGPT (data/*/prepare.py, train.py): np.uint16 tokens and nothing else.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
TOKENIZE = ROOT / "build" / "tokenize"
HEADER = 256
KINDS = {(20240520, 1): "<u2", (20240801, 7): "<u4"}


def tokenize(*arguments, stdin=b""):
    return subprocess.run([TOKENIZE, *map(str, arguments)], input=stdin, check=True, capture_output=True).stdout


def encode(tokenizer, path):
    ids = tokenize("encode", f"--tokenizer={tokenizer}", stdin=path.read_bytes())
    return np.array(ids.split(), np.int64)


def read_llmc(path):
    data = path.read_bytes()
    header = np.frombuffer(data, "<i4", HEADER)
    assert not header[3:].any(), f"{path}: the header's rest is not zero"
    tokens = np.frombuffer(data, KINDS[header[0], header[1]], offset=4 * HEADER)
    assert len(tokens) == header[2], f"{path}: {len(tokens)} tokens, the header says {header[2]}"
    return tokens


def read_nanogpt(path):
    return np.memmap(path, dtype=np.uint16, mode="r")


def write_llmc(path, tokens, wide):
    header = np.zeros(HEADER, dtype=np.int32)
    header[:3] = [20240801, 7, len(tokens)] if wide else [20240520, 1, len(tokens)]
    with open(path, "wb") as f:
        f.write(header.tobytes())
        f.write(np.array(tokens, dtype=np.uint32 if wide else np.uint16).tobytes())


def write_nanogpt(path, tokens):
    np.array(tokens, dtype=np.uint16).tofile(path)


def together(folder, split, read):
    return np.concatenate([read(path) for path in sorted(folder.glob(f"{split}*.bin"))])


def check_written(folder, tokenizer, text, val, formats):
    """Ours in numpy: each split's tokens are the ids that encoding its text gives."""
    path = folder / tokenizer if tokenizer.endswith(".json") else tokenizer
    for name, arguments, read in formats:
        out = folder / f"{tokenizer}-{name}"
        tokenize("shards", f"--tokenizer={path}", f"--out={out}", f"--val={val}", *arguments, text)
        vocabulary = next(out.glob("tokenizer.*"))
        total = 0
        for split, source in ("train", text), ("val", val):
            expected = encode(vocabulary, source)
            tokens = together(out, split, read)
            assert np.array_equal(tokens, expected), f"{out}: {split}: other tokens than `tokenize encode` gives"
            total += len(tokens)
        print(f"  {tokenizer}, {name}: {total} tokens of {tokens.dtype} are those of `tokenize encode`")


def check_read(folder, tokenizer, tokens, wide, text=b""):
    """Numpy's in ours: `tokenize info` finds the tokens, `tokenize decode` the text."""
    for name, write in ("llmc", lambda p, t: write_llmc(p, t, wide)), ("nanogpt", write_nanogpt):
        if wide and name == "nanogpt":
            continue
        out = folder / f"numpy-{name}-{'wide' if wide else 'narrow'}"
        out.mkdir()
        cut = len(tokens) * 9 // 10
        write(out / ("train.bin" if name == "nanogpt" else "x_train_000001.bin"), tokens[:cut])
        write(out / ("val.bin" if name == "nanogpt" else "x_val_000000.bin"), tokens[cut:])
        (out / tokenizer.name).write_bytes(tokenizer.read_bytes())
        info = tokenize("info", out).decode()
        for split, count in ("train", cut), ("val", len(tokens) - cut):
            assert f"  {split:<16} {count} tokens, 1 shard" in info, info
        decoded = tokenize("decode", f"--tokenizer={tokenizer}", stdin=" ".join(map(str, tokens[cut:])).encode())
        assert not text or text.endswith(decoded), f"{out}: another text"
        per_token = float(info.split("bytes per token")[1].split()[0])
        assert abs(len(decoded) / (len(tokens) - cut) - per_token) < 1e-4, info
        print(f"  {out.name}: {len(tokens)} tokens, {per_token} bytes each, read as written")


def main():
    text = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "README.md"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        val = folder / "val.txt"
        val.write_bytes(text.read_bytes()[-3000:].decode(errors="ignore").encode())
        many = folder / "many.txt"      # 66,000 characters: more than 16 bits hold
        many.write_text("".join(chr(c) for c in range(32, 68080) if not 0xd800 <= c < 0xe000))
        tokenize("train", "--vocab=600", f"--out={folder / 'tok.json'}", text)

        print("what build/tokenize writes, read by numpy")
        llmc = ("llmc", ["--shard-tokens=4000"], read_llmc)
        nanogpt = ("nanogpt", ["--format=nanogpt"], read_nanogpt)
        for tokenizer in "byte", "char", "tok.json":
            check_written(folder, tokenizer, text, val, [llmc, nanogpt])
        check_written(folder, "char", many, many, [("llmc of 32 bits", [], read_llmc)])

        print("what numpy writes, read by build/tokenize")
        vocabulary = folder / "tok.json-llmc" / "tokenizer.json"
        check_read(folder, vocabulary, encode(vocabulary, text), wide=False, text=text.read_bytes())
        vocabulary = folder / "char-llmc of 32 bits" / "tokenizer.bin"
        rng = np.random.default_rng(1)
        check_read(folder, vocabulary, rng.integers(0, 66000, 5000), wide=True)
        tokens = rng.integers(0, 600, 777)
        write_llmc(folder / "one.bin", tokens, wide=False)
        info = tokenize("info", folder / "one.bin").decode()
        assert f"777 of 2 bytes, the largest {tokens.max()}" in info, info
    print("all the same")


if __name__ == "__main__":
    main()

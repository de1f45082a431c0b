"""What tokenizers and tiktoken take every code point for: writes unicode.golden, and the tables of data/unicode.h.

    python make_unicode.py            write the file, print the tables
    python make_unicode.py --check    compare both with those that are there, and fail on any difference; some minutes

Needs what requirements_bpe.txt lists, and a Python whose unicodedata is of Unicode 14 as PCRE2 10.42 is (3.11).

What a split takes a code point for shows in where the pieces of PROBE end, C being the code point: "aC" is one piece
where C is a letter, "1C" where it is a digit, "!!C" where it is a mark or nothing of these, "CACAa" where a word may
begin and go on with it, and so on.
"""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import tiktoken
import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

import golden_file
from make_bpe import OTHERS, PATTERN, ROOT

FOLDER = Path(__file__).resolve().parent
PROBE = "aC1C!!CACAa"
CLASSES = "L N Lu Ll Lt Lm Lo M".split()
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


# ----------------------------------------------------------------------------------------------------------------------
# The reference

def encoding_of(pattern):
    """A vocabulary of bytes and of the pairs that join C with its neighbours: its ids show where pieces end."""
    pairs = [bytes([x, c]) for x in b"aA1!" for c in range(256)] + [bytes([c, x]) for x in b"A1!" for c in range(128, 192)]
    tokens = [bytes([b]) for b in range(256)] + sorted({*pairs, b"!!", b"Aa"})
    return tiktoken.Encoding("pairs", pat_str=pattern, mergeable_ranks={t: i for i, t in enumerate(tokens)},
                             special_tokens={})


def piece_ends(pattern):
    """{where the pieces of PROBE end: [code points]} by tokenizers; asserts that tiktoken has the same pieces."""
    split, encoding, classes = pre_tokenizers.Split(Regex(pattern), "isolated"), encoding_of(pattern), {}
    for c in CODE_POINTS:
        text = PROBE.replace("C", chr(c))
        pieces = split.pre_tokenize_str(text)
        ids = [i for piece, _ in pieces for i in encoding._encode_single_piece(piece)]
        assert ids == encoding.encode_ordinary(text), f"tokenizers and tiktoken differ on U+{c:04X}"
        classes.setdefault(tuple(end for _, (_, end) in pieces), []).append(c)
    return classes


def make():
    tensors = {}
    for name, pattern in dict(gpt2=PATTERN, **OTHERS).items():
        classes = piece_ends(pattern)
        kind = {c: k for k, members in enumerate(classes.values()) for c in members}
        runs = [c for c in CODE_POINTS if c == 0 or kind[c] != kind.get(c - 1)]
        ends = np.zeros((len(classes), len(PROBE)), "u1")
        for k, positions in enumerate(classes):
            ends[k, :len(positions)] = positions
        tensors[f"ends.{name}"] = ends
        tensors[f"count.{name}"] = np.array([len(members) for members in classes.values()], "<i4")
        tensors[f"first.{name}"] = np.array(runs, "<i4")
        tensors[f"kind.{name}"] = np.array([kind[c] for c in runs], "u1")
        print(f"{name}: {len(classes)} classes of", ", ".join(str(len(m)) for m in classes.values()), "code points")
    return golden_file.encode(tensors)


# ----------------------------------------------------------------------------------------------------------------------
# The tables

def ranges(code_points):
    """Ascending numbers as [[first, last], ...]."""
    pairs = []
    for c in code_points:
        if pairs and pairs[-1][1] == c - 1:
            pairs[-1][1] = c
        else:
            pairs.append([c, c])
    return pairs


def written(code_points):
    """Ascending numbers as "41-5A C0" in quotes."""
    words = [f"{first:X}-{last:X}" if last > first else f"{first:X}" for first, last in ranges(code_points)]
    return f'"{" ".join(words)}"'


def added(name):
    """The code points of a class in Unicode 16 that are not in it in Unicode 14."""
    before, now = ({c for c in CODE_POINTS if data.category(chr(c)).startswith(name)}
                   for data in (unicodedata, unicodedata2))
    assert not before - now
    return sorted(now - before)


def inert():
    """The code points that Unicode 16's NFC moves, joins or divides and that of tokenizers leaves as they are."""
    nfc, found = normalizers.NFC().normalize_str, set()
    for c in CODE_POINTS:
        character, parts = chr(c), unicodedata2.normalize("NFD", chr(c))
        assert nfc(character) == unicodedata2.normalize("NFC", character)
        if unicodedata2.combining(character):       # 1 and 240 are the smallest class and the largest
            texts = f"a\u0345{character}", f"a{character}\u0334", f"e{character}\u0301"
            if any(nfc(t) != unicodedata2.normalize("NFC", t) for t in texts):
                found.add(c)
        if parts != character and unicodedata2.normalize("NFC", parts) == character and nfc(parts) != character:
            found |= {c, ord(max(parts))}       # of an old and a new part the new one
    return sorted(found)


def tables():
    assert (unicodedata.unidata_version, unicodedata2.unidata_version) == ("14.0.0", "16.0.0")
    pairs = ", ".join(f"{{ 0x{first:X}, 0x{last:X} }}" for first, last in ranges(inert()))
    return {**{name: written(added(name)) for name in CLASSES if added(name)}, "inert": pairs}


def main():
    check, path = sys.argv[1:] == ["--check"], FOLDER / "unicode.golden"
    header = " ".join((ROOT / "data" / "unicode.h").read_text().split()).replace('" "', "") if check else ""
    for name, table in tables().items():
        print(f"{name}: {table}")
        if check and table not in header:
            sys.exit(f"error: data/unicode.h has another table for {name}")
    data = make()
    if check and path.read_bytes() != data:
        sys.exit(f"error: {path.name} differs")
    if not check:
        path.write_bytes(data)
    print(f"{path.name}: {len(data)} bytes{', the same' if check else ''}")


if __name__ == "__main__":
    main()

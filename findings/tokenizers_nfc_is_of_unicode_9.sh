#!/bin/sh
# The guess: a library whose split pattern knows the letters of Unicode 16 also normalizes by Unicode 16, or at least by one
# version throughout; and comparing NFC of every single code point would show a difference.
#
# The truth: Hugging Face's tokenizers 0.23.3 splits by Unicode 16 (\p{L} takes Kawi letters, new in 15.0) but normalizes by
# tables of about Unicode 9. Single code points give no sign of it: NFC of each of them is the same in both. It shows in
# sequences: a combining mark that is newer than the tables has class 0 there, so that it blocks the composition in front of it
# (e + U+1ABF + acute accent stays, NFC makes it U+00E9 + U+1ABF) and is not put into canonical order; a composition that is
# newer (Dives Akuru, 13.0) isn't made. Marks of Unicode 9 behave as they should.
#
# Why it matters: Qwen2's tokenizer normalizes by NFC before it splits. Who reimplements it with a current Unicode library
# (utf8proc, ICU, Python's unicodedata) gets other token ids for such texts, without an error, and a test over all single code
# points passes. To be exact, marks that came after Unicode 9 must be treated as inert.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3 unicodedata2==16.0.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
import unicodedata2 as u
from tokenizers import Regex, normalizers, pre_tokenizers

nfc = normalizers.NFC().normalize_str
print("tokenizers", version("tokenizers"), " unicodedata2: Unicode", u.unidata_version)

letters = pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated").pre_tokenize_str("a\U00011f04")
print("the regex takes U+11F04 (Unicode 15.0) as a letter:", len(letters) == 1)
assert len(letters) == 1

single = sum(nfc(chr(c)) != u.normalize("NFC", chr(c)) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
print("single code points whose NFC differs from Unicode 16's:", single)
assert single == 0

for text, since, same in (("e\u1abf\u0301", "14.0", False), ("a\u1df6\u0301", "10.0", False),
                          ("\U00011935\U00011930", "13.0", False), ("e\u08d4\u0301", "9.0", True)):
    ours, theirs = u.normalize("NFC", text), nfc(text)
    print(f"{ascii(text):28} of Unicode {since:5} NFC {ascii(ours):20} tokenizers {ascii(theirs)}")
    assert (ours == theirs) == same

# How many marks: each combining one between e and an acute accent of the same or a higher class.
marks = [c for c in range(0x300, 0x110000) if not 0xD800 <= c <= 0xDFFF and u.combining(chr(c))]
differ = sum(nfc("e" + chr(c) + "\u0301") != u.normalize("NFC", "e" + chr(c) + "\u0301") for c in marks)
print(f"of {len(marks)} combining marks {differ} give another string between e and an acute accent")
assert 0 < differ < len(marks) // 4
PYTHON
echo "as described"

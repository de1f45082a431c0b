#!/bin/sh
# The guess: add_tokens() of a token that a merge already makes is a no-op, since the vocabulary has it; or it gets a new id at
# the end, so that a loader may keep added tokens in a table of their own, apart from the ones that merges make.
#
# The truth (Hugging Face's tokenizers 0.23.3): the token keeps the id of the merge's result, and the file lists it in
# added_tokens and in the vocabulary. From then on it is cut out of the text before anything is split or merged: "him" was one
# token by the merges, and is two ids, h and im, though no merge and no id has changed.
#
# Why it matters: a reader of tokenizer.json that puts added tokens behind the vocabulary gives that string a second id, one
# that drops listed added tokens because their id exists encodes the text as before, and one that removes the id from the
# merges' results loses the words built on it. All three load without an error and give other ids.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from tokenizers import Tokenizer, models

print("tokenizers", version("tokenizers"))
vocabulary = {"h": 0, "i": 1, "m": 2, "im": 3, "him": 4}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("i", "m"), ("h", "im")]))
before = tokenizer.encode("him").ids
added = tokenizer.add_tokens(["im"])
after = tokenizer.encode("him").ids
file = json.loads(tokenizer.to_str())
print("ids of 'him' before and after add_tokens(['im']):", before, after, " tokens added by its own count:", added)
print("size", tokenizer.get_vocab_size(), " added_tokens", [(t["id"], t["content"]) for t in file["added_tokens"]],
      " still in the vocabulary:", file["model"]["vocab"]["im"])
assert before == [4] and after == [0, 3]
assert tokenizer.get_vocab_size() == 5 and [(t["id"], t["content"]) for t in file["added_tokens"]] == [(3, "im")]
assert file["model"]["vocab"]["im"] == 3
again = Tokenizer.from_str(tokenizer.to_str()).encode("him").ids
print("ids after saving and loading:", again)
assert again == after
PYTHON
echo "as described"

"""What check_export.py and check_gguf.py share: tiny models, trained for a few steps so that no norm, bias or head is what it
began as, their runs and logits by the programs here, and checks that are counted."""
import os
import shutil
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD", os.path.join(ROOT, "build"))
TRAINER = os.environ.get("TRAINER", os.path.join(ROOT, "train_gpt"))
TEXT = "Light & water, naïve café: 12345 times — “quoted” 東京 🙂\r\n\tIN THE BEGINNING  was the word.\n\n"
TINY = ["--model.layers=2", "--model.width=32", "--model.heads=4", "--model.context=64", "--train.steps=30", "--train.batch=4",
        "--train.eval_every=0", "--train.save_every=0", "--train.sample_tokens=0", "--optimizer.adamw.lr=0.02"]
failures = 0


def run(*command, text=b""):
    return subprocess.run(command, cwd=ROOT, check=True, input=text, stdout=subprocess.PIPE).stdout


def build(name, *arguments, text=b""):
    return run(os.path.join(BUILD, name), *arguments, text=text)


def check(holds, words):
    global failures
    print(("ok    " if holds else "WRONG ") + words)
    failures += not holds


def wanted(name):
    """Whether a model is asked for: by a word of the command line, or all."""
    return not sys.argv[1:] or any(word in name for word in sys.argv[1:])


def end():
    print(failures, "failures")
    sys.exit(1 if failures else 0)


class Folder:
    """A new folder build/NAME with the data and the runs of a check."""

    def __init__(self, name):
        self.path = os.path.join(BUILD, name)
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path)

    def file(self, name):
        return os.path.join(self.path, name)

    def data(self, kind):
        """A folder of shards, bpe, char or byte: text of the torture line and of this project's README, so that every
        character is known."""
        folder = self.file("data_" + kind)
        if not os.path.isdir(folder):
            text = self.file("text.txt")
            with open(text, "w", encoding="utf-8", newline="") as f, open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
                f.write(TEXT * 20 + readme.read())
            tokenizer = []
            if kind == "bpe":
                tokenizer = ["--tokenizer=" + self.file("bpe.json")]
                build("tokenize", "train", "--vocab=400", "--out=" + self.file("bpe.json"), text)
            elif kind == "byte":
                tokenizer = ["--tokenizer=byte"]
            build("tokenize", "shards", "--out=" + folder, *tokenizer, text)
        return folder

    def train(self, name, kind, keys):
        empty, folder = self.file("empty.json"), self.file("run_" + name)
        with open(empty, "w", encoding="utf-8") as f:
            f.write("{}")
        run(TRAINER, empty, "--run.dir=" + folder, "--data.dir=" + self.data(kind), *TINY, *keys)
        return folder


def our_ids(folder, text):
    vocabulary = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(vocabulary):
        vocabulary = os.path.join(folder, "tokenizer.bin")
    return [int(i) for i in build("tokenize", "encode", "--tokenizer=" + vocabulary, text=text.encode()).split()]


def our_logits(folder, ids):
    raw = build("logits", folder, *map(str, ids))
    return np.frombuffer(raw, np.float32).reshape(len(ids), -1).astype(np.float64)


def our_greedy(folder, prompt, tokens):
    """The text of prompt and so many tokens, each the likeliest."""
    return build("generate", folder, "--prompt=" + prompt, f"--tokens={tokens}", "--temperature=0", "--ignore_eot")

#!/usr/bin/env python3
"""Compares training a byte-pair encoding and encoding with tokenizers and tiktoken: dev/bench/tokenizer.sh runs it.

Why it is fair
    - The same text, vocabulary and threads: training with all, encoding with one, after a warm-up over the whole text.
      Merges and ids are compared: they are the same.
    - All take turns, three rounds; a figure is the median.
    - What isn't alike: tokenizers and tiktoken are given the text in parts of about 10,000 characters (each is slower
      with one long string) and make Python's objects of the ids; ours is a process of its own, which writes an array.
"""
import importlib.metadata
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
from bench_torch import Failed, Report, run  # noqa: E402
from make_bpe import documents, merges_of, tiktoken_of, train  # noqa: E402

SIZES = (4096, 32768)


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def ours(program, text, *arguments):
    line, = run([program, *map(str, arguments), str(text)], os.environ)
    return line


def main(build, path, name, *options):
    rounds, threads = (1 if "-q" in options else 3), len(os.sched_getaffinity(0))
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    program, report = f"{build}/bench_tokenizer", Report(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text = Path(path).read_bytes().decode("utf-8", "replace")       # of bytes that aren't UTF-8 both know only ours
        path, vocabulary, ids = folder / "text", folder / "tokenizer.json", folder / "ids"
        path.write_bytes(text.encode())
        size, parts = path.stat().st_size * 1e-6, documents(text)
        machine = run([f"{build}/bench", "peaks", "--json", "-q"], os.environ)[0]
        report.say("# Byte-pair encoding", "",
                   f"- machine: {machine['cpu']}, {machine['cpus']} CPUs, load before the run {os.getloadavg()[0]:.1f}",
                   f"- ours: {machine['compiler']}, commit {machine['commit']}; "
                   + ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("tokenizers", "tiktoken")),
                   f"- text: {name}, {size:.1f} MB; medians of {rounds} round{'s' if rounds > 1 else ''}",
                   f"- date: {machine['date']}", "")
        report.head("<what                         |    ours|tokenizers|tiktoken|ratio to the faster")
        notes = []
        for vocab in SIZES:
            training, encoding = {"ours": [], "tokenizers": []}, {"ours": [], "tokenizers": [], "tiktoken": []}
            for _ in range(rounds):
                line = ours(program, path, f"--train={vocab}", f"--out={vocabulary}")
                training["ours"].append(line["seconds"])
                os.environ["TOKENIZERS_PARALLELISM"] = "true"
                tokenizer, seconds = timed(lambda: train(parts, vocab))
                training["tokenizers"].append(seconds)
            if merges_of(vocabulary.read_text()) != merges_of(tokenizer.to_str()):
                sys.exit(f"error: {vocab} tokens: other merges than tokenizers'")
            row(report, f"train {line['tokens']} tokens, s", training, lambda x: x)
            reference = tiktoken_of(tokenizer)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            others = {"tokenizers": lambda: [i for e in tokenizer.encode_batch_fast(parts) for i in e.ids],
                      "tiktoken": lambda: [i for p in parts for i in reference.encode_ordinary(p)]}
            splits = []
            for round_ in range(rounds):
                at = ours(program, path, f"--encode={vocabulary}", f"--out={ids}")
                encoding["ours"].append(at["seconds"])
                splits.append(at["split"])
                expected = np.fromfile(ids, "<u4")
                for side, work in others.items():
                    if round_ == 0 and not np.array_equal(work(), expected):            # the warm-up
                        sys.exit(f"error: {vocab} tokens: other ids than {side}'s")
                    encoding[side].append(timed(work)[1])
            row(report, f"encode with {line['tokens']} tokens, MB/s", encoding, lambda x: size / x)
            split = statistics.median(splits) / at["pieces"]
            rest = statistics.median(encoding["ours"]) / at["pieces"] - split
            notes.append(f"- {line['tokens']} tokens: of the training, which takes {line['mb']} MB of memory, counting"
                         f" {line['words']} different words is {line['count']:.2f} s. Encoding: {at['ids']} tokens,"
                         f" {at['pieces']} pieces; PCRE2 takes {1e9 * split:.0f} ns to find one, its tokens"
                         f" {1e9 * rest:.0f} ns.")
        report.say("", f"Training with {threads} threads, encoding with one after a warm-up. Merges and ids are equal.",
                   "", *notes)


def row(report, what, seconds, figure):
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    best = min(v for side, v in medians.items() if side != "ours")
    cells = [f"{figure(medians[side]):.2f}" if side in medians else "-" for side in ("ours", "tokenizers", "tiktoken")]
    report.row(what, *cells, f"{best / medians['ours']:.1f}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)

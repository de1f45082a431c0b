#!/usr/bin/env python3
"""Sampling beside llama.cpp on this machine: tokens per second of one text, in turns.

    build/venv/bin/pip install -r dev/golden/requirements_gguf.txt
    make && make build/export && build/venv/bin/python -B dev/bench/sampling.py RUN [--rounds=5] [--tokens=100]

Exports the run's model as GGUF (f32) and lets both write the last `tokens` tokens of a full context behind a prompt that fills the rest
of it, with two threads (OMP_NUM_THREADS to change that): the prompt's tokens per second, then those of writing. llama.cpp once with keys
and values in fp32 and flash attention off, as exact as here, once with its defaults, float16 and flash attention. Then what is here
alone: texts side by side, and behind the context. A run of one step will do: `make train STEPS=1 ARGS="--run.dir=runs/x ..."`.
"""
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import check_gguf as llama
from exported import BUILD, build


def here(run, prompt, tokens, samples=1):
    out = build("generate", run, "--prompt=" + prompt, f"--tokens={tokens}", "--temperature=0", "--ignore_eot", "--json", f"--samples={samples}")
    said = json.loads(out.splitlines()[0])
    return said["prompt_seconds"], (said["tokens"] - 1) * samples / said["seconds"]


def there(model, ids, tokens):
    begin = time.perf_counter()
    token = int(model.logits(ids, last=True).argmax())
    middle = time.perf_counter()
    for i in range(tokens - 1):
        token = int(model.logits([token], past=len(ids) + i, last=True).argmax())
    return middle - begin, (tokens - 1) / (time.perf_counter() - middle)


def main():
    flags = dict(a[2:].split("=") for a in sys.argv[1:] if a.startswith("--"))
    run = next(a for a in sys.argv[1:] if not a.startswith("--"))
    rounds, tokens = int(flags.get("rounds", 5)), int(flags.get("tokens", 100))
    with open(os.path.join(run, "config.json"), encoding="utf-8") as f:
        context = json.load(f)["model"]["context"]
    path = os.path.join(BUILD, "sampling.gguf")
    if os.path.exists(path):
        os.remove(path)
    build("export", run, "--format=gguf", "--type=f32", "--out=" + path)
    library = llama.Library()
    llama.CONTEXT = context
    sides = {"llama.cpp, exact": llama.Model(library, path), "llama.cpp, its defaults": llama.Model(library, path, exact=False)}
    prompt, ids = "", []
    while len(ids) < context - tokens:          # so many tokens for both
        prompt += " and" if ids else "and"
        ids = next(iter(sides.values())).ids(prompt)
    rows = {"here": []} | {name: [] for name in sides}
    for _ in range(rounds):
        rows["here"].append(here(run, prompt, tokens))
        for name, model in sides.items():
            rows[name].append(there(model, ids, tokens))
    base = statistics.median(r[1] for r in rows["here"])
    for name, r in rows.items():
        first, rate = statistics.median(x[0] for x in r), statistics.median(x[1] for x in r)
        print(f"{name:24} prompt of {len(ids)}: {len(ids) / first:8.0f} tokens/s   writing: {rate:8.1f} tokens/s   here is {base / rate:.2f} times as fast")
    for samples in (2, 4, 8):
        rate = statistics.median(here(run, prompt, tokens, samples)[1] for _ in range(rounds))
        print(f"{samples} texts side by side{'':5} {rate:.1f} tokens/s, {rate / base:.2f} times one text's")
    rate = statistics.median(here(run, prompt, context + tokens)[1] for _ in range(min(rounds, 3)))
    print(f"one context further{'':5} {rate:.1f} tokens/s")


main()

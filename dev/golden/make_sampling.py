"""Writes sampling.golden: the distributions that the logits processors of transformers leave, for test_sample.c.

    build/venv/bin/pip install -r dev/golden/requirements_export.txt
    build/venv/bin/python dev/golden/make_sampling.py [--check]

For each case: `rule` f64 (5) temperature, top_k, top_p, min_p, repetition_penalty; `z` f32 (V) logits; `seen` u8 (V); `p` f64 (V).
In float64, in the order in which generate() applies them.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

import golden_file

V = 50
RULES = [  # temperature, top_k, top_p, min_p, repetition_penalty
    (1.0, 0, 1.0, 0.0, 1.0), (0.7, 0, 1.0, 0.0, 1.0), (1.3, 5, 1.0, 0.0, 1.0), (1.0, 1, 1.0, 0.0, 1.0),
    (1.0, 0, 0.9, 0.0, 1.0), (0.8, 0, 0.5, 0.0, 1.0), (1.0, 0, 0.02, 0.0, 1.0), (1.0, 0, 1.0, 0.1, 1.0),
    (1.5, 0, 1.0, 0.02, 1.0), (1.0, 0, 1.0, 0.0, 1.3), (0.9, 12, 0.8, 0.0, 1.0), (0.9, 30, 0.95, 0.05, 1.2),
    (2.0, 49, 0.99, 0.0, 0.8), (1.0, 50, 1.0, 0.0, 1.0), (1.0, 100, 0.7, 0.2, 1.0),
]


def distribution(z, seen, rule):
    temperature, top_k, top_p, min_p, penalty = rule
    steps = LogitsProcessorList()
    if penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(penalty))
    if temperature != 1:
        steps.append(TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(TopKLogitsWarper(min(top_k, V)))
    if top_p < 1:
        steps.append(TopPLogitsWarper(top_p))
    if min_p:
        steps.append(MinPLogitsWarper(min_p))
    ids = torch.tensor(np.flatnonzero(seen)[None].astype(np.int64))
    return torch.softmax(steps(ids, torch.tensor(z[None].astype(np.float64))), -1)[0].numpy()


def main():
    random = np.random.default_rng(7)
    tensors = {}
    for i, rule in enumerate(RULES):
        z = (2 * random.standard_normal(V)).astype(np.float32)
        seen = (random.random(V) < 0.2).astype(np.uint8)
        tensors |= {f"rule.{i}": np.array(rule), f"z.{i}": z, f"seen.{i}": seen, f"p.{i}": distribution(z, seen, rule)}
    path = Path(__file__).parent / "sampling.golden"
    data = golden_file.encode(tensors)
    if "--check" in sys.argv[1:]:
        old = golden_file.decode(path.read_bytes())
        same = old.keys() == tensors.keys() and all(np.allclose(old[n], tensors[n], 1e-12, 1e-15) for n in old)
        print(f"{path.name}: {'as before' if same else 'OTHER VALUES'}")
        sys.exit(not same)
    path.write_bytes(data)
    print(f"{path.name}: {len(RULES)} rules, {len(data)} bytes")


main()

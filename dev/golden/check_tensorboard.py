#!/usr/bin/env python3
"""Event files of `make tensorboard`, in TensorBoard: the numbers of the log, and the bytes that TensorBoard itself would write.

    build/venv/bin/pip install -r dev/golden/requirements_tensorboard.txt
    make build/tensorboard && build/venv/bin/python -B dev/golden/check_tensorboard.py [--write] [RUN ...]

tensorboard.golden is what the package's own messages and record writer make of tensorboard.jsonl, a log by hand, last written at
MTIME; dev/test/test_tensorboard.c compares with it byte for byte. --write writes it anew, else it is compared with. Then
build/tensorboard writes that log's file, that of a log of 3,000 steps and those of RUN ...; EventAccumulator has to read every
scalar back, at its step and rounded to float32, and nothing else. A byte that is changed in such a file has to be found, or its
checksums would not have been read. A quarter of a minute. Ends with exit code 1 where something does not hold.
"""
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = pathlib.Path(__file__).parent
BUILD = os.environ.get("BUILD", "build")
NAME, MTIME = "events.out.tfevents.muon", 1_700_000_000
STEP_TAGS = [("loss/train", "loss"), ("loss/train_bits_per_byte", "bpb"), ("optimizer/learning_rate", "lr"),
             ("optimizer/gradient_norm", "grad_norm"), ("attention/largest_logit", "max_logit"),
             ("speed/tokens_per_second", "tok_per_s"), ("tokens", "tokens")]


def events_of(path):
    """(step, seconds of training, [(tag, value)]) of a log, those of a kind together: steps, validations, heads, experts; and the
    seconds of the whole run."""
    log = [json.loads(line) for line in open(path)]
    kind = {name: [e for e in log if e["event"] == name] for name in ("step", "eval", "qk", "moe", "end")}
    events, seconds, at, before = [], 0.0, {}, 0
    for e in kind["step"]:
        seconds += 1e-3 * e["ms"] * max(1, e["step"] - before)
        before = e["step"]
        at[e["step"]] = seconds
        events.append((e["step"], seconds, [(tag, e.get(key)) for tag, key in STEP_TAGS]))
    for e in kind["eval"]:
        sampled = e.get("sample_loss")
        values = [("loss/validation", e["val_loss"] if sampled is None else sampled)]
        values += [("loss/validation_whole_split", e["val_loss"])] if e.get("whole") else []
        events.append((e["step"], e["train_seconds"], values + [("loss/validation_bits_per_byte", e["val_bpb"])]))
    for e in kind["qk"]:
        heads = [(f"logit/layer_{i + 1}_head_{j + 1}", x) for i, layer in enumerate(e["max_logit"]) for j, x in enumerate(layer)]
        events.append((e["step"], at[e["step"]], [("attention/clipped_heads", e["clipped"])] + heads))
    for e in kind["moe"]:
        values = [("experts/share_without_tokens", sum(e["dead"]) / len(e["dead"])), ("experts/largest_load", max(e["max_load"]))]
        events.append((e["step"], at[e["step"]], values))
    events = [(step, second, [(t, v) for t, v in values if v is not None and math.isfinite(v)]) for step, second, values in events]
    whole = kind["end"][-1]["train_seconds"] if kind["end"] else max([seconds] + [e["train_seconds"] for e in kind["eval"]])
    return [e for e in events if e[2]], whole


def written_by_tensorboard(path):
    """The file's bytes, of its own messages and records."""
    events, whole = events_of(path)
    begin = MTIME - whole
    messages = [event_pb2.Event(wall_time=begin, file_version="brain.Event:2")]
    for step, second, values in events:
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in values])
        messages.append(event_pb2.Event(wall_time=begin + second, step=step, summary=summary))
    with tempfile.NamedTemporaryFile() as f:
        writer = RecordWriter(f)
        for m in messages:
            writer.write(m.SerializeToString())
        writer.flush()
        return pathlib.Path(f.name).read_bytes()


def ours(folder, out):
    subprocess.run([f"{BUILD}/tensorboard", folder, f"--out={out}"], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(out) / NAME


def check_numbers(path, out):
    """Whether TensorBoard reads from `out` every scalar of the log, and how many there are."""
    board = EventAccumulator(str(out), size_guidance={"scalars": 0, "tensors": 0})
    board.Reload()
    expected = {}
    for step, _, values in events_of(path)[0]:
        for tag, value in values:
            expected.setdefault(tag, []).append((step, float(np.float32(value))))
    found = {tag: [(s.step, s.value) for s in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert found.keys() == expected.keys(), f"tags: {sorted(found.keys() ^ expected.keys())}"
    for tag, values in expected.items():
        assert found[tag] == values, f"{tag}: {[pair for pair in zip(found[tag], values) if pair[0] != pair[1]][:1]}"
    return sum(map(len, expected.values()))


def long_log(path):
    """3,000 steps, every tenth with what is logged of heads and experts."""
    draw = random.Random(1)
    with open(path, "w") as f:
        for step in range(1, 3001):
            event = {"event": "step", "step": step, "tokens": 2048 * step, "loss": draw.random() * 8, "bpb": None if step % 7 == 0 else draw.random(),
                     "lr": draw.random() * 1e-3, "grad_norm": draw.expovariate(1), "max_logit": draw.gauss(0, 30), "ms": draw.random() * 90,
                     "tok_per_s": draw.random() * 1e5}
            f.write(json.dumps(event) + "\n")
            if step % 10 == 0:
                heads = [[draw.gauss(0, 30) for _ in range(4)] for _ in range(3)]
                f.write(json.dumps({"event": "qk", "step": step, "max_logit": heads, "clipped": draw.randrange(12)}) + "\n")
                f.write(json.dumps({"event": "moe", "step": step, "dead": [draw.random() for _ in range(2)], "max_load": [3, draw.random() * 8]}) + "\n")
            if step % 100 == 0:
                f.write(json.dumps({"event": "eval", "step": step, "val_loss": draw.random(), "val_bpb": None, "train_seconds": step / 10}) + "\n")


def check_damage(path):
    """Whether TensorBoard finds a byte that was changed in the middle of a record."""
    whole = sum(1 for _ in EventFileLoader(str(path)).Load())
    damaged = path.with_name("damaged.tfevents")
    bytes_of = bytearray(path.read_bytes())
    bytes_of[len(bytes_of) // 2] ^= 1
    damaged.write_bytes(bytes_of)
    read = sum(1 for _ in EventFileLoader(str(damaged)).Load())
    assert 0 < read < whole, f"{read} of {whole} events read of a damaged file"


def main():
    log, golden = HERE / "tensorboard.jsonl", HERE / "tensorboard.golden"
    expected = written_by_tensorboard(log)
    if "--write" in sys.argv:
        golden.write_bytes(expected)
    assert golden.read_bytes() == expected, f"{golden} is not what tensorboard writes; --write writes it anew"
    with tempfile.TemporaryDirectory() as work:
        work, runs = pathlib.Path(work), {}
        for name in ("small", "long"):
            runs[name] = work / name
            runs[name].mkdir()
        (runs["small"] / "log.jsonl").write_bytes(log.read_bytes())
        os.utime(runs["small"] / "log.jsonl", (MTIME, MTIME))
        long_log(runs["long"] / "log.jsonl")
        runs |= {a: pathlib.Path(a) for a in sys.argv[1:] if a != "--write"}
        for i, (name, run) in enumerate(runs.items()):
            path = ours(run, work / f"out{i}")
            print(f"ok {name}: {check_numbers(run / 'log.jsonl', path.parent)} scalars")
            if name == "small":
                assert path.read_bytes() == expected, "not the bytes that tensorboard writes"
            check_damage(path)
    print("ok: bytes, numbers, checksums")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as wrong:
        sys.exit(f"FAIL {wrong}")

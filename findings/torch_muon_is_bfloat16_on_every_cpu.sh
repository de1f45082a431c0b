#!/bin/sh
# The guess: torch.optim.Muon on float32 parameters computes in float32, as torch.optim.AdamW does; bfloat16 is a matter of the
# parameters, or of torch.set_float32_matmul_precision.
#
# The truth: Newton-Schulz is in bfloat16 whatever the parameters are, on a CPU as on a GPU, and no argument changes that (torch
# 2.15.0, torch/optim/_muon.py). On a CPU without AVX512_BF16 or AMX, PyTorch has no fast bfloat16 product: one of 768 x 768 takes ten
# to fifty times as long as in float32 (A @ B, addmm; A @ A.T a few times).
#
# Why it matters: on an AVX2 machine a step for a 6 x 384 GPT takes half a minute, where the same formula in float32 takes under a
# second; nothing says so, and a profile shows addmm. It is also less exact: the first update is a percent off. On a CPU without these
# instructions take a Muon that stays in float32.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${MUON_VENV:-}" ]; then python=$MUON_VENV/bin/python; else
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 numpy
    python=$folder/venv/bin/python
fi
"$python" - <<'PYTHON'
import sys, time
import torch

seen = set()
addmm = torch.addmm
def spy(x, *rest, **given):
    seen.add(x.dtype)
    return addmm(x, *rest, **given)

p = torch.nn.Parameter(torch.randn(64, 64))
p.grad = torch.randn(64, 64)
torch.addmm = spy
torch.set_float32_matmul_precision("highest")
torch.optim.Muon([p]).step()
torch.addmm = addmm
print("torch", torch.__version__, "- a float32 parameter's products are in", *seen)
if seen != {torch.bfloat16}:
    sys.exit("this is no longer so")

def seconds(dtype):
    a = torch.randn(768, 768).to(dtype)
    torch.addmm(a, a, a)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        torch.addmm(a, a, a)
        times.append(time.perf_counter() - begin)
    return min(times)

ratio = seconds(torch.bfloat16) / seconds(torch.float32)
flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
fast = [f for f in ("avx512_bf16", "amx_bf16") if f in flags]
print(f"a product of 768 x 768 in bfloat16 takes {ratio:.1f} times as long as in float32; this CPU has {fast or 'no bfloat16 instructions'}")
if not fast and ratio < 3:
    sys.exit("this is no longer so")
PYTHON
echo "as described"

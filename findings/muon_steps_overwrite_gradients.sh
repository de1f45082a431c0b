#!/bin/sh
# The guess: an optimizer's step() reads p.grad and leaves it as it is, as all of torch.optim do; so a gradient's norm may be
# logged after the step, and one set of gradients may be handed to two optimizers to compare them.
#
# The truth: muon-optimizer 0.1.0 (Keller Jordan's own), pytorch_optimizer 4.1.0 and dtensor-muon 0.1.0 build Nesterov's look-ahead
# inside p.grad itself: after step() it holds (1 - mu) g + mu b, or g + mu b. torch.optim.Muon, timm, optimuon and muonium leave it.
#
# Why it matters: the loop is right as long as gradients are zeroed before the next backward pass. But a norm that is logged after
# the step is the look-ahead's: a tenth of the gradient's at the first step of the former two, nearly twice it at the third. Whoever
# gives the same gradients to a second optimizer (an A/B in one process), or adds a further backward pass to them, trains on
# momenta, without an error; a test of one's own Muon against these packages must hand them a copy.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 numpy muon-optimizer==0.1.0 muonium==0.2.0 \
    dtensor-muon==0.1.0 timm==1.0.31 pytorch_optimizer==4.1.0 optimuon==0.1.1
TORCHDYNAMO_DISABLE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import torch
import muon, muonium, dtensor_muon, timm.optim, pytorch_optimizer, optimuon

for package in (muonium, dtensor_muon):        # their Triton kernel asserts CUDA: the plain PyTorch loop they have beside it
    module = sys.modules[f"{package.__name__}.orthogonalize.orthogonalize"]
    module.pe_loop_triton = module.pe_loop
cases = (
    ("torch", torch.optim.Muon, False),
    ("muon-optimizer", muon.SingleDeviceMuon, True),
    ("pytorch_optimizer", lambda p: pytorch_optimizer.Muon([{"params": p, "use_muon": True}]), True),
    ("dtensor-muon", dtensor_muon.Muon, True),
    ("muonium", muonium.Muon, False),
    ("timm", lambda p: timm.optim.Muon(p, nesterov=True), False),
    ("optimuon", optimuon.Muon, False),
)
torch.manual_seed(1)
gradient = torch.randn(16, 24)
for name, make, expected in cases:
    p = torch.nn.Parameter(torch.randn(16, 24))
    p.grad = gradient.clone()
    make([p]).step()
    changed = not torch.equal(p.grad, gradient)
    norm = p.grad.norm() / gradient.norm()
    print(f"{name:18}{version(name):8} p.grad after step(): {'changed' if changed else 'as it was':10} norm {norm:.4f} of the gradient's")
    if changed != expected:
        sys.exit("this is no longer so")
PYTHON
echo "as described"

#!/bin/sh
# The guess: b.load_state_dict(a.state_dict()) gives the optimizer b a state of its own, with the numbers that a's has; its docstring's
# inner function says "Make a deep copy of value, casting all tensors to device of param".
#
# The truth: (torch 2.15.0, torch/optim/optimizer.py) where type and device are the parameter's, b has a's very tensors: a step of
# b moves a's momentum. And where the state has another type than the parameter, it is cast to the parameter's: a float32 state of
# bfloat16 parameters comes back with 8 bits, silently; pytorch/pytorch issue 43706 is open since 2020.
#
# Why it matters: an A/B in one process that begins with b.load_state_dict(a.state_dict()) trains two models on one momentum. And
# an optimizer with float32 states for bfloat16 parameters, master weights among them, doesn't go on from its own checkpoint with
# the same numbers, unless its load_state_dict puts the states back after torch's.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${MUON_VENV:-}" ]; then python=$MUON_VENV/bin/python; else
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 numpy
    python=$folder/venv/bin/python
fi
"$python" - <<'PYTHON'
import sys
import torch

def optimizer(kind, dtype):
    torch.manual_seed(1)
    p = torch.nn.Parameter(torch.randn(16, 16, dtype=dtype))
    p.grad = torch.randn(16, 16).to(dtype)
    return kind([p]), p

shared = []
for kind, name in ((torch.optim.Muon, "momentum_buffer"), (torch.optim.AdamW, "exp_avg")):
    (a, p), (b, q) = optimizer(kind, torch.float32), optimizer(kind, torch.float32)
    a.step()
    b.load_state_dict(a.state_dict())
    before = a.state[p][name].clone()
    b.step()
    shared.append(not torch.equal(a.state[p][name], before))
    print(f"torch {torch.__version__} {kind.__name__}: a step of the other optimizer {'moves' if shared[-1] else 'leaves'} this one's {name}")

class WithFloat32State(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    def step(self):
        for p in self.param_groups[0]["params"]:
            self.state[p]["momentum"] = torch.full_like(p, 1 + 2.0 ** -12, dtype=torch.float32)

(a, p), (b, q) = optimizer(WithFloat32State, torch.bfloat16), optimizer(WithFloat32State, torch.bfloat16)
a.step()
b.load_state_dict(a.state_dict())
loaded = b.state[q]["momentum"]
print(f"a float32 state of bfloat16 parameters comes back as {loaded.dtype}: {a.state[p]['momentum'][0, 0]:.6f} is {loaded[0, 0]:.6f}")
if not all(shared) or loaded.dtype != torch.bfloat16:
    sys.exit("this is no longer so")
PYTHON
echo "as described"

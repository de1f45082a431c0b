#!/bin/sh
# The guess: Muon's step doesn't depend on the gradient's size, whatever it is normalized by, and `eps` is the small number that
# keeps the division safe: a smaller eps makes the step independent of ever smaller gradients.
#
# The truth (optax 0.2.8): that holds for preconditioning='frobenius' and 'spectral'. With 'aol' and 'schatten' the argument eps
# reaches nothing. A constant 1e-8 stands in its place, and it bounds a square: what is compared with it is of the size of the
# gradient's squared norm, so that the floor lies at norms of about 1e-4, not 1e-8. Five Newton-Schulz steps multiply small values
# by about 480 and hide it down to entries of 1e-6; below, the step shrinks in proportion to the gradient, for every eps: to
# 1/270 of its size for entries of 1e-10.
#
# Why it matters: matrices behind a zero-initialized projection, experts that saw few tokens and early layers have such gradients.
# They learn hundreds of times slower than the others, where Muon promises the same pace, and no error or NaN says so. A comparison
# of preconditionings then measures this floor; and an eps of AOL or Schatten in one's own code must be of the square's size (1e-30).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check optax==0.2.8 jax==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys
import jax
import jax.numpy as jnp
import numpy as np
import optax

print("optax", optax.__version__, "jax", jax.__version__)
gradient = np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32)


def largest(preconditioning, size, eps):
    """The largest singular value of Muon's first step on a gradient whose entries have this size."""
    muon = optax.contrib.muon(1.0, preconditioning=preconditioning, eps=eps, nesterov=False)
    weights = {"w": jnp.zeros((16, 32))}
    step, _ = muon.update({"w": jnp.asarray(gradient * size)}, muon.init(weights), weights)
    return np.linalg.svd(np.asarray(step["w"]), compute_uv=False).max()


sizes = (1.0, 1e-6, 1e-8, 1e-10)
holds = True
for name in ("frobenius", "spectral", "aol", "schatten"):
    for eps in (1e-8, 1e-30):
        steps = [largest(name, size, eps) for size in sizes]
        print(f"{name:10} eps {eps:5.0e}: largest singular value of a step at entries of", ", ".join(f"{size:.0e}: {s:.4f}" for size, s in zip(sizes, steps)))
        if name in ("frobenius", "spectral"):
            holds &= min(steps) > 1.5
        else:
            holds &= steps[1] > 1.5 and steps[2] < 0.7 and steps[3] < 0.01
sys.exit(0 if holds else "this is no longer so")
PYTHON

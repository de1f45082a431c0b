"""The optimizers of muon.h in Python, on the CPU: a torch.optim.Optimizer, and functions on numpy arrays.

One file over the shared library that `make libmuon` builds (build/libmuon.so; a C compiler is all that takes). Copy both where
you want them and name the library by MUON_LIBRARY=/path/libmuon.so, or leave this file where it is. docs/python.md has examples,
what was compared and how fast it is; the head of muon.h has every formula.

    Muon             for PyTorch, in place of torch.optim.Muon and of the AdamW beside it
    step             the same step on numpy arrays
    orthogonalize    x <- about U V^T of a matrix x = U S V^T, numpy's or torch's
    qk_clip          MuonClip's scaling of an attention's queries and keys, after a step
    RECIPES          the settings of other packages' Muon (docs/recipes.md), by name
"""

import ctypes
import ctypes.util
import os
from pathlib import Path

try:
    import torch
except ImportError:         # the functions on numpy arrays do without
    torch = None

__all__ = ["Muon", "RECIPES", "library", "orthogonalize", "qk_clip", "step"]

VERSION = "1.0"             # the MUON_VERSION whose structs stand below: another first number is another library


# ----------------------------------------------------------------------------------------------------------------------
# The library: muon.h's structs and functions

class _Coefficients(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("steps", ctypes.c_int), ("norm", ctypes.c_double), ("rows", ctypes.c_int),
                ("abc", ctypes.c_double * 3 * 16)]


class _Options(ctypes.Structure):
    _fields_ = [("momentum", ctypes.c_double), ("nesterov", ctypes.c_int), ("look_ahead", ctypes.c_double),
                ("accumulate", ctypes.c_int), ("coefficients", ctypes.POINTER(_Coefficients)), ("ns_steps", ctypes.c_int),
                ("guard", ctypes.c_double), ("guard_form", ctypes.c_int), ("equalize", ctypes.c_int),
                ("renormalize", ctypes.c_int), ("scale", ctypes.c_int), ("rms", ctypes.c_double), ("cautious", ctypes.c_int),
                ("decay_scaled", ctypes.c_int), ("decay_factor", ctypes.c_double), ("axis", ctypes.c_int),
                ("beta1", ctypes.c_double), ("beta2", ctypes.c_double), ("eps", ctypes.c_double),
                ("adam_nesterov", ctypes.c_int)]


class _Param(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("w", ctypes.c_void_p), ("g", ctypes.c_void_p), ("count", ctypes.c_int),
                ("rows", ctypes.c_int), ("cols", ctypes.c_int), ("stride", ctypes.c_size_t), ("rule", ctypes.c_int),
                ("lr", ctypes.c_double), ("weight_decay", ctypes.c_double), ("options", ctypes.POINTER(_Options)),
                ("blocks", ctypes.c_int * 4)]


class _Muon(ctypes.Structure):
    _fields_ = [("t", ctypes.c_longlong), ("options", _Options), ("bad_tensor", ctypes.c_int), ("bad_matrix", ctypes.c_int),
                ("bad_field", ctypes.c_char_p), ("params", ctypes.POINTER(_Param)), ("n", ctypes.c_int),
                ("state", ctypes.c_void_p), ("lr_factor", ctypes.c_double), ("grad_scale", ctypes.c_double),
                ("slots", ctypes.c_void_p), ("steps", ctypes.c_void_p)]


_OK, _E_VECTOR, _E_NOT_FINITE, _E_STATE, _E_DIVERGED, _E_LOGIT = 0, 4, 5, 6, 7, 8
_USES_MOMENTUM, _USES_BETA1, _USES_BETA2, _USES_NEWTON_SCHULZ, _USES_SCALE, _USES_AXIS = 1, 2, 4, 8, 16, 64
_SLOTS = 2


def _load():
    beside = Path(__file__).resolve().parents[2] / "build" / "libmuon.so"
    path = os.environ.get("MUON_LIBRARY") or (str(beside) if beside.exists() else ctypes.util.find_library("muon"))
    if not path:
        raise OSError(f"no libmuon.so: `make libmuon` builds {beside}; MUON_LIBRARY=/path/libmuon.so names another")
    lib = ctypes.CDLL(path)
    pointer, size, integer, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_double
    for name, result, *arguments in (
            ("version", ctypes.c_char_p),
            ("strerror", ctypes.c_char_p, integer),
            ("default_options", _Options),
            ("coefficients", ctypes.POINTER(_Coefficients), integer),
            ("rule_name", ctypes.c_char_p, integer),
            ("rule_uses", integer, integer),
            ("scale_name", ctypes.c_char_p, integer),
            ("state_bytes", size, pointer, integer, pointer),
            ("flops", number, integer, integer, integer, integer),
            ("scratch_bytes", size, pointer, integer, pointer),
            ("init_apart", integer, pointer, pointer, integer, pointer, pointer, pointer),
            ("step", integer, pointer, number, number, pointer, integer),
            ("orthogonalize_bytes", size, integer, integer),
            ("orthogonalize", integer, pointer, integer, integer, pointer, integer, pointer),
            ("qk_clip", integer, *4 * [pointer], *4 * [integer], pointer, number, number, pointer)):
        function = getattr(lib, "muon_" + name)
        function.restype, function.argtypes = result, arguments
    version = lib.muon_version().decode()
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise OSError(f"{path}: muon.h {version}, but {Path(__file__).name} is for {VERSION}")
    return lib


library = _load()


def _names(function):
    """{name: number} of one of muon.h's enums; its functions end with NULL."""
    names = {}
    while (name := function(len(names))) is not None:
        names[name.decode()] = len(names)
    return names


def _sets():
    sets = {}
    while found := library.muon_coefficients(len(sets)):
        sets[found.contents.name.decode()] = found
    return sets


_RULES, _SCALES, _SETS = _names(library.muon_rule_name), _names(library.muon_scale_name), _sets()
_SCALES |= {"original": _SCALES["keller"], "spectral_unclamped": _SCALES["spectral"]}       # torch's names
_USES = {rule: library.muon_rule_uses(number) for rule, number in _RULES.items()}
_NESTEROV = {False: 0, True: 1, "corrected": 2}
_EPS_FORMS = {"add": 0, "max": 1}
_AXES = {"rows": 0, "longer": 1}


# ----------------------------------------------------------------------------------------------------------------------
# Settings: what a parameter group may say

_COMMON = dict(rule="muon", lr=1e-3, weight_decay=0.1, decay_factor=1.0, cautious=False)
_MOMENTUM = dict(momentum=0.95, nesterov=True, look_ahead=0.0, accumulate=False)
_MATRIX = dict(adjust_lr_fn="original", rms=0.2, decay_scaled=False, blocks=(), batched=False)
_NEWTON_SCHULZ = dict(ns_coefficients="keller", ns_steps=None, ns_norm=1.0, eps=1e-7, eps_form="max", equalize=False,
                      renormalize=False)
_ADAM = dict(betas=(0.9, 0.999), eps=1e-8, adam_nesterov=False)

_POLAR_EXPRESS = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
                  (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                  (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                  (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                  (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]


def _recipe(lr, weight_decay, scale, eps, eps_form, adamw=None, **other):
    """A recipe: of the rule that owns the matrices, then of AdamW where the package brings one: lr, beta1, beta2, eps, decay."""
    lr_, *betas, eps_, decay = adamw or (1e-3, 0.9, 0.999, 1e-8, 0.01)           # torch.optim.AdamW's
    return (dict(lr=lr, weight_decay=weight_decay, adjust_lr_fn=scale, eps=eps, eps_form=eps_form) | other,
            dict(lr=lr_, betas=tuple(betas), eps=eps_, weight_decay=decay))


# name: (settings of its Muon, settings of its AdamW). docs/recipes.md says where each comes from.
RECIPES = {
    "torch": _recipe(1e-3, 0.1, "original", 1e-7, "max"),
    "torch_match": _recipe(1e-3, 0.1, "match_rms_adamw", 1e-7, "max"),
    "keller": _recipe(0.02, 0, "original", 1e-7, "add", (3e-4, 0.9, 0.95, 1e-10, 0)),
    "optax": _recipe(0.02, 0, "original", 1e-8, "add", (0.02, 0.9, 0.999, 1e-8, 0), nesterov="corrected"),
    "keras": _recipe(1e-3, 0.004, "match_rms_adamw", 1e-7, "add", (1e-3, 0.9, 0.999, 1e-7, 0.004), accumulate=True),
    "keras312": _recipe(1e-3, 0.1, "keller_transposed", 1e-7, "add", (1e-4, 0.9, 0.999, 1e-7, 1), accumulate=True, ns_steps=6),
    "timm": _recipe(0.02, 0, "match_rms_adamw", 1e-7, "max", (0.02, 0.9, 0.95, 1e-7, 0), nesterov=False,
                    ns_coefficients="youjiacheng"),
    "nmuon": _recipe(0.02, 0, "match_rms_adamw", 1e-7, "max", (0.02, 0.9, 0.95, 1e-7, 0), ns_coefficients="youjiacheng"),
    "pytorch_optimizer": _recipe(0.02, 0, "original", 1e-7, "max", (3e-4, 0.9, 0.95, 1e-10, 0)),
    "kimi_k2": _recipe(2e-4, 0.1, "match_rms_adamw", 0, "add", (2e-4, 0.9, 0.95, 1e-8, 0.1), accumulate=True, nesterov=False),
    "moonlight": _recipe(1e-3, 0.1, "match_rms_adamw", 1e-7, "add", (1e-3, 0.9, 0.95, 1e-8, 0.1), accumulate=True),
    "heavyball": _recipe(0.0025, 0, "original", 1e-7, "max", momentum=0.9, nesterov=False, look_ahead=1.0,
                         ns_coefficients="youjiacheng"),
    "dion": _recipe(0.01, 0.01, "spectral", 1e-8, "add", (0.01, 0.9, 0.95, 1e-8, 0.01), accumulate=True, nesterov=False,
                    ns_coefficients="polar_express"),
    "muonium": _recipe(1e-3, 0.1, "original", 1e-7, "add", (1e-3, 0.9, 0.95, 1e-8, 0.1), accumulate=True,
                       ns_coefficients="polar_express", cautious=True, decay_scaled=True),
    "optimuon": _recipe(0.02, 0, "original", 1e-6, "add", rule="normuon", ns_coefficients="polar_express", axis="longer",
                        beta2=0.95, cautious=True),
    "deepspeed": _recipe(0.02, 0, "original", 1e-7, "add", (3e-4, 0.9, 0.95, 1e-10, 0)),
    "deepseek_v4": _recipe(2.7e-4, 0.1, "match_rms_adamw", 0, "add", (2.7e-4, 0.9, 0.95, 1e-20, 0.1), rms=0.18,
                           accumulate=True, ns_coefficients="deepseekv4"),
    "nanochat": _recipe(0.02, 0.28, "original", 1e-6, "add", (0.008, 0.8, 0.96, 1e-10, 0.01), rule="normuon",
                        ns_coefficients=_POLAR_EXPRESS, ns_norm=1.01, equalize=True, renormalize=True, axis="longer", beta2=0.9,
                        cautious=True, decay_scaled=True),
    "modded_track3": _recipe(0.025, 0.05, "original", 1e-7, "add", (0.015, 0.8, 0.95, 1e-10, 0.001),
                             ns_coefficients="exact12"),
}


def _settings_of(recipe, rule):
    """Every setting that a rule has, by a recipe (None: torch); rule None: the recipe's own."""
    if recipe is not None and recipe not in RECIPES:
        raise ValueError(f"recipe {recipe!r}: one of {', '.join(RECIPES)} is expected")
    matrix, adamw = RECIPES[recipe or "torch"]
    rule = rule or matrix.get("rule", "muon")
    if rule not in _RULES:
        raise ValueError(f"rule {rule!r}: one of {', '.join(_RULES)} is expected")
    uses = _USES[rule]
    known = dict(_COMMON)
    for bit, more in ((_USES_MOMENTUM, _MOMENTUM), (_USES_SCALE, _MATRIX), (_USES_BETA1, _ADAM)):
        known |= more if uses & bit else {}
    if uses & _USES_BETA2 and not uses & _USES_BETA1:
        known |= dict(beta2=0.95, second_eps=1e-8, axis="rows") if uses & _USES_AXIS else dict(beta2=0.99, eps=1e-8)
    known |= _NEWTON_SCHULZ if uses & _USES_NEWTON_SCHULZ else {}
    own = matrix if uses & _USES_NEWTON_SCHULZ else adamw
    return known | {key: value for key, value in own.items() if key in known} | dict(rule=rule, recipe=recipe)


def _coefficients(group):
    """The polynomials, by name, as one triple or as a list of them, and the number of steps (0: as their set has it)."""
    given, steps = group["ns_coefficients"], group["ns_steps"]
    if isinstance(given, str):
        if given not in _SETS:
            raise ValueError(f"ns_coefficients {given!r}: one of {', '.join(_SETS)}, or triples, are expected")
        return _SETS[given], int(steps or 0)
    rows = [given] if not hasattr(given[0], "__len__") else list(given)
    if not 1 <= len(rows) <= 16 or any(len(row) != 3 for row in rows):
        raise ValueError("ns_coefficients: a name, three numbers, or a list of up to 16 such triples is expected")
    own = _Coefficients(b"own", len(rows) if len(rows) > 1 else 5, float(group["ns_norm"]), len(rows))
    for i, row in enumerate(rows):
        own.abc[i][:] = [float(x) for x in row]
    return ctypes.pointer(own), int(steps or 0)


def _choice(group, key, table):
    if group[key] not in table:
        raise ValueError(f"{key} {group[key]!r}: one of {', '.join(map(str, table))} is expected")
    return table[group[key]]


def _options(group):
    """A group's MuonOptions."""
    o, uses = library.muon_default_options(), _USES[group["rule"]]
    o.decay_factor, o.cautious = float(group["decay_factor"]), bool(group["cautious"])
    if uses & _USES_MOMENTUM:
        o.momentum, o.nesterov = float(group["momentum"]), _choice(group, "nesterov", _NESTEROV)
        o.look_ahead, o.accumulate = float(group["look_ahead"]), bool(group["accumulate"])
    if uses & _USES_SCALE:
        scale = group["adjust_lr_fn"] or "original"
        o.scale = _choice({"adjust_lr_fn": scale}, "adjust_lr_fn", _SCALES)
        o.rms, o.decay_scaled = float(group["rms"]), bool(group["decay_scaled"])
    if uses & _USES_NEWTON_SCHULZ:
        o.coefficients, o.ns_steps = _coefficients(group)
        o.guard, o.guard_form = float(group["eps"]), _choice(group, "eps_form", _EPS_FORMS)
        o.equalize, o.renormalize = bool(group["equalize"]), bool(group["renormalize"])
    elif uses & _USES_BETA2:
        o.eps = float(group["eps"])
    if uses & _USES_BETA1:
        (o.beta1, o.beta2), o.adam_nesterov = map(float, group["betas"]), bool(group["adam_nesterov"])
    elif uses & _USES_BETA2:
        o.beta2 = float(group["beta2"])
    if uses & _USES_AXIS:
        o.eps, o.axis = float(group["second_eps"]), _choice(group, "axis", _AXES)
    return o


def _slots(uses):
    """The names of the two things that a rule keeps, torch's where torch has the rule; None: not kept."""
    first = "momentum_buffer" if uses & _USES_MOMENTUM else "exp_avg" if uses & _USES_BETA1 else None
    second = ("second_momentum_buffer" if uses & _USES_AXIS else "exp_avg_sq" if uses & _USES_BETA1
              else "square_avg" if uses & _USES_BETA2 else None)
    return first, second


_KEPT = {rule: _slots(uses) for rule, uses in _USES.items()}


# ----------------------------------------------------------------------------------------------------------------------
# A step of many tensors, whatever they are

class _Tensor:
    """One parameter in a step. After it is made, at() says where its weights and gradient are, find_state where its state."""

    def __init__(self, name, shape, group, options):
        self.name, self.shape, self.step, self.slots = name, shape, 0, (None, None)
        rule, numbers = group["rule"], _product(shape)
        uses, count, rows, cols = _USES[rule], 1, 1, numbers
        if uses & _USES_SCALE:
            if len(shape) != 2 and not (len(shape) == 3 and group["batched"]):
                raise ValueError(f"{self}: {rule} is for matrices, parameters of two axes; adamw is for others, and batched=True"
                                 " makes three axes a batch of matrices")
            count, rows, cols = (1, *shape)[-3:]
        self.param = _Param(None, None, None, count, rows, cols, rows * cols, _RULES[rule], group["lr"], group["weight_decay"],
                            ctypes.pointer(options))
        if blocks := group.get("blocks"):
            if len(blocks) > 4:
                raise ValueError(f"{self}: blocks: at most 4 heights are expected")
            self.param.blocks[:len(blocks)] = blocks
        first, second = _KEPT[rule]
        self.kept = []                      # (slot, name, floats) of the state
        if first:
            self.kept.append((0, first, numbers))
        if second and uses & _USES_AXIS:
            floats = library.muon_state_bytes(ctypes.byref(self.param), 1, ctypes.byref(options)) // 4
            self.kept.append((1, second, max(0, floats - numbers)))
        elif second:
            self.kept.append((1, second, numbers))

    def at(self, weights, gradient):
        self.param.w, self.param.g = weights, gradient

    def find_state(self, state, zeros):
        """Its arrays in `state`, made by zeros(shape) where they are missing, and the number of steps."""
        self.slots = [None, None]
        for slot, name, floats in self.kept:
            x = state.get(name)
            if x is None:
                x = state[name] = zeros(self.shape if floats == _product(self.shape) else (floats,))
            if _product(x.shape) != floats:
                raise ValueError(f"{self}: {name} of {_product(x.shape)} numbers, not {floats}: of another shape or rule")
            self.slots[slot] = _array(x, name)
        self.step = int(state.get("step", 0))

    def __str__(self):
        return f"{self.name} ({' x '.join(map(str, self.shape)) or 'a number'})"


def _product(shape):
    n = 1
    for x in shape:
        n *= x
    return n


_FIELDS = {"guard": "eps", "guard_form": "eps_form", "scale": "adjust_lr_fn", "coefficients->abc": "ns_coefficients",
           "coefficients->norm": "ns_norm", "beta1": "betas"}


def _error(muon, code, tensors):
    """The exception for a code of muon.h: whom it is about, and what."""
    who = f"{tensors[muon.bad_tensor]}: " if 0 <= muon.bad_tensor < len(tensors) else ""
    field = muon.bad_field.decode() if muon.bad_field else ""
    if code == _E_NOT_FINITE:
        return FloatingPointError(f"{who}NaN or infinity in its gradient; nothing has changed")
    if code in (_E_STATE, _E_DIVERGED):
        return FloatingPointError(who + library.muon_strerror(code).decode())
    if code == _E_VECTOR:
        return ValueError(f"{who}a matrix of one row or column is a vector; rule adamw is for vectors")
    return ValueError(f"{who}{_FIELDS.get(field, field)} is outside its range")


class _Scratch:
    """Memory that the library works in, kept from step to step."""

    def __init__(self):
        self.memory = b""

    def address(self, size):
        if len(self.memory) < size + 64:
            self.memory = (ctypes.c_char * (size + 64))()
        return -(-ctypes.addressof(self.memory) // 64) * 64 if size else None


def _begin(tensors):
    """A Muon of these tensors, checked by the library, and the arrays that it points to."""
    n, muon, options = len(tensors), _Muon(), library.muon_default_options()
    params, slots, steps = (_Param * n)(), (ctypes.c_void_p * (_SLOTS * n))(), (ctypes.c_longlong * n)()
    for i, t in enumerate(tensors):
        params[i], steps[i] = t.param, t.step
        slots[_SLOTS * i], slots[_SLOTS * i + 1] = t.slots
    code = library.muon_init_apart(ctypes.byref(muon), params, n, ctypes.byref(options), slots, steps)
    if code != _OK:
        raise _error(muon, code, tensors)
    return muon, steps, (params, slots, options)


def _check(tensors):
    """That the library would take these tensors, before there are gradients or a state."""
    for t in tensors:
        t.at(64, 64)                    # which nobody reads
        t.slots = (64, 64)
    _begin(tensors)


def _step(tensors, threads, scratch):
    """Steps all of them in one call, so that matrices share the threads; t.step becomes what it then is."""
    if len({t.param.w for t in tensors}) < len(tensors):
        raise ValueError("muon_c: one parameter stands twice in a step")
    muon, steps, kept = _begin(tensors)
    _use_threads(threads)
    size = library.muon_scratch_bytes(kept[0], len(tensors), ctypes.byref(kept[2]))
    code = library.muon_step(ctypes.byref(muon), 1.0, 1.0, scratch.address(threads * size), threads)
    for t, made in zip(tensors, steps):
        t.step = made
    if code != _OK:
        raise _error(muon, code, tensors)


def _use_threads(threads):
    """The library's OpenMP may be another than torch's, which has its own beside it."""
    if hasattr(library, "omp_set_num_threads"):
        library.omp_set_num_threads(threads)


# ----------------------------------------------------------------------------------------------------------------------
# numpy

def _array(x, name, like=None):
    """The address of an array that the library may read and write."""
    if torch is not None and isinstance(x, torch.Tensor):
        kind = "float32" if x.dtype is torch.float32 else str(x.dtype)[6:]
        contiguous, address = x.is_contiguous() and x.is_cpu, x.data_ptr()
    elif hasattr(x, "__array_interface__"):
        kind, contiguous, address = str(x.dtype), x.flags["C_CONTIGUOUS"] and x.flags["WRITEABLE"], x.ctypes.data
    else:
        raise TypeError(f"{name}: a numpy array is expected, not {type(x).__name__}")
    if kind != "float32" or not contiguous:
        raise TypeError(f"{name}: a contiguous, writable array of float32 in the CPU's memory is expected"
                        f"{'' if kind == 'float32' else ', not ' + kind}")
    if like is not None and tuple(x.shape) != tuple(like.shape):
        raise ValueError(f"{name}: of shape {tuple(x.shape)}, but its weights are of shape {tuple(like.shape)}")
    return address


_numpy_scratch = _Scratch()


def step(weights, gradients, states, threads=None, **settings):
    """One step of a list of numpy arrays, in place.

    weights    float32 arrays, C-contiguous; read and written
    gradients  one for each, of its shape; a None leaves its weights and state alone
    states     a dict for each, empty at first, then with the number of steps and the arrays that the rule keeps ("step",
               "momentum_buffer", ...): read and written; save them to go on later with the same bits
    threads    None: all that the library's OpenMP takes
    settings   as of Muon's parameter groups: rule, recipe, lr, ... All arrays of one call have one rule; further calls are for
               the others. Raises as Muon does."""
    import numpy
    unknown = settings.keys() - _settings_of(settings.get("recipe"), settings.get("rule")).keys()
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: {settings.get('rule', 'muon')} has no such setting")
    if not len(weights) == len(gradients) == len(states):
        raise ValueError(f"{len(weights)} weights, {len(gradients)} gradients, {len(states)} states: not as many of each")
    group = _settings_of(settings.get("recipe"), settings.get("rule")) | settings
    options, tensors, of = _options(group), [], []
    for i, (w, g, state) in enumerate(zip(weights, gradients, states)):
        if g is None or w.size == 0:
            continue
        t = _Tensor(f"array {i}", w.shape, group, options)
        t.at(_array(w, f"weights[{i}]"), _array(g, f"gradients[{i}]", w))
        t.find_state(state, lambda shape: numpy.zeros(shape, numpy.float32))
        tensors.append(t)
        of.append(state)
    try:
        _step(tensors, threads or os.cpu_count() or 1, _numpy_scratch)
    finally:
        for t, state in zip(tensors, of):
            state["step"] = t.step


def orthogonalize(x, coefficients="keller", steps=None, norm=1.0):
    """x <- about U V^T of x = U S V^T, in place, and returned; of three axes: each of a batch of matrices.

    x             float32, contiguous, numpy's or torch's, of any orientation. No scale is applied: see muon.h
    coefficients  the name of a set of muon.h, three numbers a, b, c, or a list of such triples, one a step, the last for
                  all further steps
    steps         None: as many as the set has
    norm          with triples: x starts as x / (norm |x|_F)"""
    if len(x.shape) not in (2, 3):
        raise TypeError(f"a matrix, or a batch of matrices, is expected, not an array of shape {tuple(x.shape)}")
    address, (rows, cols) = _array(x, "x"), x.shape[-2:]
    chosen, steps = _coefficients(dict(ns_coefficients=coefficients, ns_steps=steps, ns_norm=norm))
    scratch = _numpy_scratch.address(library.muon_orthogonalize_bytes(rows, cols))
    steps = steps or chosen.contents.steps
    for i in range(_product(x.shape[:-2])):
        code = library.muon_orthogonalize(address + 4 * i * rows * cols, rows, cols, chosen, steps, scratch)
        if code != _OK:
            kind = FloatingPointError if code in (_E_NOT_FINITE, _E_DIVERGED) else ValueError
            raise kind(library.muon_strerror(code).decode())
    return x


def qk_clip(wq, wk, max_logits, tau=100.0, alpha=0.5, bq=None, bk=None):
    """QK-Clip of one layer, in place, after its step (Kimi K2): a head whose largest logit was S > tau has its logits scaled by
    tau / S. Returns how many heads were.

    wq, wk      (heads * size, width) and (key heads * size, width), bq, bk their biases: float32, contiguous, numpy's or torch's
    max_logits  one number a head: the largest input of its softmax, over the whole batch of the step
    alpha       the queries' share"""
    heads, width = len(max_logits), wq.shape[1]
    size = wq.shape[0] // heads
    if wq.shape[0] % heads or wk.shape[0] % size or wk.shape[1] != width:
        raise ValueError(f"queries {tuple(wq.shape)}, keys {tuple(wk.shape)}, {heads} heads: do not fit each other")
    clipped, logits = ctypes.c_int(), (ctypes.c_float * heads)(*map(float, max_logits))
    biases = [b if b is None else _array(b, "a bias") for b in (bq, bk)]
    code = library.muon_qk_clip(_array(wq, "wq"), biases[0], _array(wk, "wk"), biases[1], heads, wk.shape[0] // size, size, width,
                                logits, tau, alpha, ctypes.byref(clipped))
    if code != _OK:
        raise (FloatingPointError if code == _E_LOGIT else ValueError)(library.muon_strerror(code).decode())
    return clipped.value


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch

if torch is not None:
    class Muon(torch.optim.Optimizer):
        """Muon, and beside it AdamW or any other rule of muon.h, for parameters in the CPU's memory.

        With its defaults this is torch.optim.Muon, whose arguments it takes in their order, but for Newton-Schulz in float32,
        where torch's is in bfloat16. One optimizer may have groups of several rules:

            optimizer = muon_c.Muon([dict(params=hidden), dict(params=others, rule="adamw", lr=3e-4)], lr=0.02)

        Settings hold for the group that has them, given here for all groups that don't; else they are the recipe's.

        params, lr, weight_decay, momentum, nesterov, eps, ns_steps    as in torch.optim.Muon (eps: below a norm of that, a step
                         shrinks with its gradient); nesterov="corrected" is optax's. eps of adamw: torch.optim.AdamW's
        ns_coefficients  three numbers, a list of triples, one a step, or the name of a set of muon.h ("polar_express")
        adjust_lr_fn     None or "original", "match_rms_adamw", "spectral_unclamped"; or another scale of muon.h ("rms_exact")
        recipe           the settings of another package's Muon, by name (docs/recipes.md); None: torch's
        rule             "muon", "normuon", "svd", "msgd", ..., for matrices; "adamw", "adam", "sgd", "rmsprop" for any shape
        betas            of adamw and its kin; beta2: of normuon, rmsprop
        further ones, as muon.h has them: accumulate, look_ahead, rms, cautious, decay_scaled, decay_factor, equalize,
                         renormalize, axis, blocks (heights of attention heads), adam_nesterov; eps_form "max" or "add", ns_norm
                         of own triples, second_eps of normuon, batched=True for parameters (experts, outputs, inputs)

        Parameters are float32 or bfloat16, contiguous, on the CPU. States are float32 for both; a bfloat16 parameter also has a
        float32 copy, state[p]["master"], which is what is stepped, so that steps smaller than its last digit add up; where the
        parameter isn't what the last step left, as after loading weights, it counts. Gradients may have any layout.

        As torch's: parameters without a gradient sit a step out; add_param_group, schedulers, closures, hooks, deepcopy, pickle.
        state_dict may be saved by torch.save; a run that goes on from it has the same bits, for any number of threads; a state
        of torch.optim.Muon or AdamW, of float32 parameters, can be loaded. Otherwise than torch's: NaN or infinity in a gradient
        raises FloatingPointError and changes nothing; a matrix with one row or column is refused by matrix rules.
        Threads: torch.get_num_threads()."""

        def __init__(self, params, lr=None, weight_decay=None, momentum=None, nesterov=None, ns_coefficients=None, eps=None,
                     ns_steps=None, adjust_lr_fn=None, *, recipe=None, rule=None, **further):
            given = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, ns_coefficients=ns_coefficients,
                         eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn, recipe=recipe, rule=rule) | further
            known = _COMMON | _MOMENTUM | _MATRIX | _NEWTON_SCHULZ | _ADAM | dict(beta2=0, second_eps=0, axis=0)
            for key in further.keys() - known.keys():
                raise TypeError(f"Muon has no setting {key!r}; those that it has: {', '.join(sorted(known))}")
            self._given = {key: value for key, value in given.items() if value is not None}
            self._scratch = _Scratch()
            super().__init__(params, _settings_of(recipe, rule) | self._given)

        def add_param_group(self, param_group):
            if isinstance(param_group, dict):
                own = self._given | param_group
                settings = _settings_of(own.get("recipe"), own.get("rule"))
                param_group = settings | {k: v for k, v in self._given.items() if k in settings} | param_group
            groups, of_another_rule = len(self.param_groups), self.defaults.keys() - set(param_group)
            super().add_param_group(param_group)
            for key in of_another_rule:
                del self.param_groups[groups][key]
            try:
                _check(list(self._tensors(groups)))
            except Exception:
                del self.param_groups[groups:]
                raise

        def __getstate__(self):
            return super().__getstate__() | {"_given": self._given}

        def __setstate__(self, state):
            """Of pickle, and of load_state_dict, whose groups take what they don't say from those that were there."""
            before = self.__dict__.get("param_groups", [])
            super().__setstate__(state)
            self.__dict__.setdefault("_scratch", _Scratch())
            for i, group in enumerate(self.param_groups):
                there = before[i] if i < len(before) else _settings_of(group.get("recipe"), group.get("rule"))
                for key, value in there.items():
                    group.setdefault(key, value)

        def load_state_dict(self, state_dict):
            """As torch's, which would round a float32 state to bfloat16 where its parameter is that, and share its tensors with
            the optimizer that the state is of."""
            loaded = {}

            def keep(_, seen):
                loaded.update(seen)

            def restore(_):
                old = [i for group in loaded["param_groups"] for i in group["params"]]
                for i, p in zip(old, (p for group in self.param_groups for p in group["params"])):
                    for key, value in loaded["state"].get(i, {}).items():
                        if isinstance(value, torch.Tensor) and key != "step":
                            self.state[p][key] = value.detach().to("cpu", torch.float32, copy=True).contiguous()

            hooks = (self.register_load_state_dict_pre_hook(keep),                      # the last
                     self.register_load_state_dict_post_hook(restore, prepend=True))    # the first
            try:
                super().load_state_dict(state_dict)
            finally:
                for hook in hooks:
                    hook.remove()

        def _tensors(self, index, with_gradient=False):
            """The _Tensors of a group, all or those that a step is for."""
            group = self.param_groups[index]
            options, names = _options(group), group.get("param_names")
            for i, p in enumerate(group["params"]):
                if p.numel() == 0 or (with_gradient and p.grad is None):
                    continue
                name = names[i] if names else f"parameter {i} of group {index}"
                if not p.is_cpu or p.dtype not in _TYPES or p.layout != torch.strided or not p.is_contiguous():
                    raise TypeError(f"{name}: contiguous, of float32 or bfloat16 and on the CPU, is expected, not {_kind(p)}")
                if with_gradient and p.grad.layout != torch.strided:
                    raise TypeError(f"{name}: a dense gradient is expected, not {_kind(p.grad)}")
                t = _Tensor(name, p.shape, group, options)
                t.parameter = p
                yield t

        def _weights(self, p):
            """What is stepped: the parameter, or its copy in float32."""
            if p.dtype == torch.float32:
                return p
            master = self.state[p].get("master")
            if master is None:
                master = p.detach().float()
            elif not torch.equal(rounded := master.to(p.dtype), p):
                master = torch.where(rounded == p, master, p.float())
            self.state[p]["master"] = master
            return master

        def _place(self, t):
            """Finds, or makes, what t is stepped with; returned, for it must outlive the step."""
            p = t.parameter
            w, g = self._weights(p), p.grad.float().contiguous()
            t.at(w.data_ptr(), g.data_ptr())
            t.find_state(self.state[p], torch.zeros)
            return w, g

        @torch.no_grad()
        def step(self, closure=None):
            """One step of every parameter that has a gradient. closure: called first, with gradients on; its loss is returned."""
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            tensors = [t for i in range(len(self.param_groups)) for t in self._tensors(i, with_gradient=True)]
            placed = [self._place(t) for t in tensors]
            try:
                _step(tensors, torch.get_num_threads(), self._scratch)
            finally:
                for t, (w, _) in zip(tensors, placed):
                    self.state[t.parameter]["step"] = t.step
                    if t.parameter.dtype != torch.float32:
                        t.parameter.copy_(w)
                torch.autograd.graph.increment_version([t.parameter for t in tensors])
            return loss

    _TYPES = (torch.float32, torch.bfloat16)

    def _kind(x):
        layout = str(x.layout)[6:] if x.layout != torch.strided or x.is_contiguous() else "not contiguous"
        return f"{str(x.dtype)[6:]}, {x.device.type}, {layout}"

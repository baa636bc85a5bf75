"""The parameters of Flax's and Haiku's modules, by their names and shapes.

Flax: a kernel (inputs, units) and a bias for each gate (linen and nnx.LSTMCell), or for all of them side by
side (nnx.OptimizedLSTMCell, GRUCell, SimpleCell). Haiku: ``w`` and ``b`` (haiku/_src/recurrent.py).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.modules import Module, Norm
from streamrnn.foreign.network import Stage, shape_problems
from streamrnn.model.activations import say_activation
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

CELLS = {4: "lstm", 3: "gru", 1: "rnn"}  # by the gates in one kernel
IGNORED = ("params", "value")  # parts of a name that say nothing
EPSILON = {"Flax": 1e-6, "Haiku": 1e-5}  # of their layer norms
FORGET_BIAS = 1.0  # that Haiku's LSTM adds to its own

Parts = Mapping[str, np.ndarray]  # of one module: kernel, bias, w, ...
Path = tuple[str, ...]


class Gates(NamedTuple):
    """A cell whose gates have kernels of their own: the names of those of its inputs and of its state."""

    cell: str
    inputs: tuple[str, ...]  # in PyTorch's order
    state: tuple[str, ...]


GATED = (
    Gates("lstm", ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")),
    Gates("gru", ("ir", "iz", "in"), ("hr", "hz", "hn")),
    Gates("rnn", ("i",), ("h",)),
    Gates("", ("dense_i",), ("dense_h",)),  # which cell, its width says
)


def find(tensors: Mapping[str, np.ndarray]) -> tuple[str, list[Module]] | None:
    """The library and its modules, in no order; None for tensors that are not named as theirs.

    Raises ModelError naming those that are of no module that can be run.
    """
    by_module: dict[Path, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in tensors.items():
        *path, last = [part for part in re.split(r"[./]", name) if part not in IGNORED] or [name]
        by_module[tuple(part.removesuffix("_") for part in path)][last] = array
    leaves = {last for parts in by_module.values() for last in parts}
    if "kernel" in leaves:
        return "Flax", _modules("Flax", by_module, _flax_cells)
    if leaves & {"w", "w_i"} and leaves <= {"w", "b", "w_i", "w_h", "scale", "offset"}:
        return "Haiku", _modules("Haiku", by_module, _haiku_cells)
    return None


def _modules(
    library: str,
    by_module: dict[Path, dict[str, np.ndarray]],
    cells: Callable[[dict[Path, dict[str, np.ndarray]]], list[Module]],
) -> list[Module]:
    """The cells, which take their parts out of ``by_module``, and what is left: linear layers, norms."""
    modules = cells(by_module)
    problems = [problem for module in modules for stage in module.stages for problem in shape_problems(stage)]
    for path, parts in by_module.items():
        name = ".".join(path)
        weight, bias = parts.get("kernel", parts.get("w")), parts.get("bias", parts.get("b"))
        shift = parts.get("offset", bias)
        if weight is not None and weight.ndim == 2 and (bias is None or bias.shape == weight.shape[1:]):
            dense = Dense(weight.T, np.zeros(weight.shape[1]) if bias is None else bias)
            modules.append(Module(name, (Stage(name, dense),)))
        elif "scale" in parts and parts["scale"].ndim == 1 and "mean" not in parts:
            scale = parts["scale"].astype(np.float64)
            shift = np.zeros(len(scale)) if shift is None else shift.astype(np.float64)
            if shift.shape != scale.shape:
                problems.append(f"{quoted(name)}: scale {scale.shape} and shift {shift.shape} do not fit")
                continue
            modules.append(
                Module(name, norm=Norm(say_activation("layer_norm", EPSILON[library]), scale, shift))
            )
        else:
            shapes = ", ".join(f"{quoted(part)} {array.shape}" for part, array in parts.items())
            problems.append(
                f"{quoted(name)} of {shapes}: no cell, linear layer or layer norm of {library}, and others "
                f"cannot be run; if it does not take part in answers, leave it out: `--ignore '{name}*'`"
            )
    if problems:
        raise ModelError(*problems)
    return modules


def _flax_cells(by_module: dict[Path, dict[str, np.ndarray]]) -> list[Module]:
    modules = []
    for parent in dict.fromkeys(path[:-1] for path in by_module):
        children = {path[-1] for path in by_module if path and path[:-1] == parent}
        for gates in GATED:
            if children >= {*gates.inputs, *gates.state}:
                parts = [[by_module.pop((*parent, gate)) for gate in side] for side in gates[1:]]
                modules.append(_flax_cell(".".join(parent) or "cell", gates.cell, *parts))
                break
    return modules


def _flax_cell(name: str, cell: str, inputs: Sequence[Parts], state: Sequence[Parts]) -> Module:
    weights, biases = [], []
    for side in (inputs, state):
        kernels = [parts.get("kernel", np.zeros((0, 0), np.float32)) for parts in side]
        if len({kernel.shape for kernel in kernels}) != 1 or kernels[0].ndim != 2 or not kernels[0].size:
            raise ModelError(
                f"{quoted(name)}: kernels {[kernel.shape for kernel in kernels]}, expected alike ones"
            )
        given = [parts.get("bias", np.zeros(kernels[0].shape[1], np.float32)) for parts in side]
        if any(bias.shape != kernels[0].shape[1:] for bias in given):
            raise ModelError(
                f"{quoted(name)}: biases {[bias.shape for bias in given]} do not fit their kernels"
            )
        weights.append(np.concatenate([kernel.T for kernel in kernels]))
        biases.append(np.concatenate(given))
    count = len(weights[1]) // weights[1].shape[1]
    if not cell and count not in CELLS:
        raise ModelError(f"{quoted(name)}: a kernel of {count} gates, expected 4, 3 or 1")
    return Module(name, (Stage(name, Layer(*weights, *biases), cell or CELLS[count]),))


def _haiku_cells(by_module: dict[Path, dict[str, np.ndarray]]) -> list[Module]:
    modules = []
    for path in list(by_module):
        name = ".".join(path)
        above = path[-2] if len(path) > 1 else ""
        if {"w_i", "w_h", "b"} <= by_module.get(path, {}).keys():
            modules.append(_haiku_gru(name, by_module.pop(path)))
        elif path[-1:] == ("linear",) and "lstm" in above and path in by_module:
            modules.append(_haiku_lstm(".".join(path[:-1]), by_module.pop(path)))
        elif path[-1:] == ("linear",) and "rnn" in above and (*path[:-1], "linear_1") in by_module:
            both = by_module.pop(path), by_module.pop((*path[:-1], "linear_1"))
            modules.append(_haiku_rnn(".".join(path[:-1]), *both))
    return modules


def _haiku_lstm(name: str, parts: Parts) -> Module:
    """i, g, f, o = (x, h) w + b, with one more for f."""
    weight, bias = parts["w"], parts.get("b", np.zeros(parts["w"].shape[-1], np.float32))
    hidden = weight.shape[-1] // 4
    if weight.ndim != 2 or not 0 < hidden < len(weight) or bias.shape != (4 * hidden,):
        raise ModelError(f"{quoted(name)}: w {weight.shape} and b {bias.shape} are not those of an LSTM")
    turned = np.concatenate([weight.T, bias[:, np.newaxis]], 1).reshape(4, hidden, -1)[[0, 2, 1, 3]]
    turned[1, :, -1] += FORGET_BIAS
    whole = turned.reshape(4 * hidden, -1)
    inputs = len(weight) - hidden
    layer = Layer(whole[:, :inputs], whole[:, inputs:-1], whole[:, -1], np.zeros(4 * hidden))
    return Module(name, (Stage(name, layer, "lstm"),))


def _haiku_gru(name: str, parts: Parts) -> Module:
    """z, r, a; h' = (1 - z) h + z a, so that PyTorch's z is 1 - z: of the opposite weights."""
    sides = [parts["w_i"], parts["w_h"], parts["b"][np.newaxis]]
    hidden = sides[1].shape[0]
    if any(side.ndim != 2 or side.shape[1] != 3 * hidden for side in sides):
        shapes = ", ".join(str(side.shape) for side in sides)
        raise ModelError(f"{quoted(name)}: w_i, w_h and b of shapes {shapes} are not those of a GRU")
    turned = []
    for side in sides:
        by_gate = side.T.reshape(3, hidden, -1)[[1, 0, 2]]
        by_gate[1] *= -1
        turned.append(by_gate.reshape(3 * hidden, -1))
    layer = Layer(turned[0], turned[1], turned[2][:, 0], np.zeros(3 * hidden))
    return Module(name, (Stage(name, layer, "gru", reset="before"),))


def _haiku_rnn(name: str, inputs: Parts, state: Parts) -> Module:
    """relu(x w + b + h w + b)."""
    arrays = [inputs["w"].T, state["w"].T]
    biases = [side.get("b", np.zeros(side["w"].shape[-1], np.float32)) for side in (inputs, state)]
    return Module(name, (Stage(name, Layer(*arrays, *biases), "rnn", "relu"),))

"""Products of two vectors that are an activation, as exporters write those that older ONNX has not."""

import math
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.onnx.graph import Node
from streamrnn.foreign.vectors import Activation, RowVector, ScaleShift, activated, in_front, scaled
from streamrnn.model.activations import find_activation, say_activation
from streamrnn.model.settings import ModelError


class _Scaled(NamedTuple):
    """``vector`` times a number plus another, what it was made of."""

    vector: RowVector
    scale: float
    shift: float


def product(node: Node, a: RowVector, b: RowVector) -> RowVector:
    """x sigmoid(x), x hard_sigmoid(x), and x (1 + erf(x / sqrt(2))) / 2. Raises ModelError for others."""
    if node.op == "Mul":
        for x, gate in ((a, b), (b, a)):
            if made := _silu(node, x, gate) or _gelu(node, x, gate):
                return made
    what = "product" if node.op == "Mul" else "quotient"
    raise ModelError(f"{node}: a {what} of rows and rows, as attention has it, cannot be run")


def check_erf(output: RowVector) -> None:
    """Raise ModelError for an erf that became no part of an activation."""
    for vector in in_front([output]):
        if _is_erf(vector):
            raise ModelError(f"{vector.name}: cannot be run, only as a part of gelu")


def _is_erf(vector: RowVector) -> bool:
    return isinstance(vector.part, Activation) and vector.part.activation == "erf"


def _silu(node: Node, x: RowVector, gate: RowVector) -> RowVector | None:
    if not isinstance(gate.part, Activation) or gate.of != (x,):
        return None
    if gate.part.activation == "sigmoid":
        return activated(x, str(node), "silu")
    if gate.part.activation.startswith("hard_sigmoid"):
        found = find_activation(gate.part.activation)
        return activated(x, str(node), say_activation("hard_silu", found.alpha, found.beta))
    return None


def _gelu(node: Node, x: RowVector, gate: RowVector) -> RowVector | None:
    outer = _unscaled(gate)
    if not _is_erf(outer.vector) or outer.scale != outer.shift:
        return None
    inner, given = _unscaled(outer.vector.of[0]), _unscaled(x)
    if inner.vector is not given.vector or inner.shift or given.shift:
        return None
    # of the erf's argument, x / sqrt(2), x is what goes into gelu
    if not math.isclose(inner.scale, math.sqrt(0.5), rel_tol=1e-6):
        return None
    made = activated(given.vector, str(node), "gelu")
    return scaled(made, str(node), 2 * given.scale * outer.scale)


def _unscaled(vector: RowVector) -> _Scaled:
    """What scaling by one number for all was done to."""
    scale, shift = 1.0, 0.0
    while isinstance(vector.part, ScaleShift):
        numbers = [np.unique(values) for values in vector.part]
        if any(values.size != 1 for values in numbers):
            break
        shift += scale * float(numbers[1][0])
        scale *= float(numbers[0][0])
        vector = vector.of[0]
    return _Scaled(vector, scale, shift)

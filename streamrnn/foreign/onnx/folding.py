"""The operators of ONNX that only move, count or combine constants, by numpy.

They make no more elements than LARGEST, whatever a file asks for.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamrnn.foreign.onnx.graph import DTYPES, FAULTS, Node, tensor_values
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

LARGEST = 1 << 26  # elements of one tensor

Given = Sequence[np.ndarray | None]  # a node's inputs; None for one that is left out
Operator = Callable[[Node, Given], np.ndarray | list[np.ndarray]]


def fold(node: Node, given: Given) -> list[np.ndarray]:
    """The outputs of ``node``, of an operator in MAKES. Raises ModelError if its inputs do not fit."""
    try:
        made = MAKES[node.op](node, given)
        return made if isinstance(made, list) else [made]
    except FAULTS as error:
        raise ModelError(f"{node}: does not fit its inputs ({quoted(str(error))}); export it anew") from error


def _ints(given: Given, k: int, node: Node, name: str, default: Any = None) -> Any:
    """Integers from input ``k``, or in older opsets from the attribute ``name``."""
    found = given[k] if k < len(given) else None
    if found is None:
        return node.attributes.get(name, default)
    if found.dtype.kind != "i" or found.ndim > 1:
        raise ValueError(f"{name} of type {found.dtype}")
    return [int(value) for value in found.ravel()]


def _first(given: Given) -> np.ndarray:
    if not given or given[0] is None:
        raise ValueError("no input")
    return given[0]


def _sized(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape``, if a tensor of it may be made."""
    if min(shape, default=0) < 0 or math.prod(shape) > LARGEST:
        raise ValueError(f"shape {tuple(shape)}, at most {LARGEST:,} elements are made")
    return tuple(shape)


def _constant(node: Node, given: Given) -> np.ndarray:
    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    for name, value in node.attributes.items():
        if name == "value":
            return tensor_values(node.name, value)
        if name in kinds:
            return np.asarray(value, kinds[name])
    raise ValueError("no value")


def _constant_of_shape(node: Node, given: Given) -> np.ndarray:
    value = node.attributes.get("value")
    fill = np.zeros(1, np.float32) if value is None else tensor_values(node.name, value)
    return np.broadcast_to(fill.reshape(()), _sized(_ints(given, 0, node, "")))


def _expand(node: Node, given: Given) -> np.ndarray:
    data = _first(given)
    shape = np.broadcast_shapes(data.shape, tuple(_ints(given, 1, node, "")))
    return np.broadcast_to(data, _sized(shape))


def _shape(node: Node, given: Given) -> np.ndarray:
    shape = np.array(_first(given).shape, np.int64)
    return shape[node.attributes.get("start", 0) : node.attributes.get("end")]


def _reshape(node: Node, given: Given) -> np.ndarray:
    data, shape = _first(given), _ints(given, 1, node, "shape")
    if not node.attributes.get("allowzero"):
        shape = [size or data.shape[k] for k, size in enumerate(shape)]
    return data.reshape(shape)


def _flatten(node: Node, given: Given) -> np.ndarray:
    data, axis = _first(given), node.attributes.get("axis", 1)
    return data.reshape(math.prod(data.shape[:axis]), -1)


def _squeeze(node: Node, given: Given) -> np.ndarray:
    axes = _ints(given, 1, node, "axes")
    return np.squeeze(_first(given), None if axes is None else tuple(axes))


def _unsqueeze(node: Node, given: Given) -> np.ndarray:
    return np.expand_dims(_first(given), tuple(_ints(given, 1, node, "axes")))


def _transpose(node: Node, given: Given) -> np.ndarray:
    return np.transpose(_first(given), node.attributes.get("perm"))


def _slice(node: Node, given: Given) -> np.ndarray:
    data = _first(given)
    starts, ends = _ints(given, 1, node, "starts"), _ints(given, 2, node, "ends")
    axes = _ints(given, 3, node, "axes", list(range(len(starts))))
    steps = _ints(given, 4, node, "steps", [1] * len(starts))
    cuts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # an end before the first element, which a slice of Python would take from the back
        whole = step < 0 and end < -data.shape[axis]
        cuts[axis] = slice(start, None if whole else end, step)
    return data[tuple(cuts)]


def _gather(node: Node, given: Given) -> np.ndarray:
    data, indices, axis = _first(given), given[1], node.attributes.get("axis", 0)
    if indices is None or indices.dtype.kind != "i":
        raise ValueError("indices are not integers")
    _sized([indices.size, data.size // max(data.shape[axis], 1)])
    return np.take(data, indices, axis)


def _concat(node: Node, given: Given) -> np.ndarray:
    arrays = [array for array in given if array is not None]
    _sized([sum(array.size for array in arrays)])
    return np.concatenate(arrays, node.attributes["axis"])


def _split(node: Node, given: Given) -> list[np.ndarray]:
    data, axis = _first(given), node.attributes.get("axis", 0)
    sizes = _ints(given, 1, node, "split")
    if sizes is None:
        parts = node.attributes.get("num_outputs", len(node.outputs))
        each = -(-data.shape[axis] // parts)
        sizes = [each] * (parts - 1) + [data.shape[axis] - each * (parts - 1)]
    if sum(sizes) != data.shape[axis] or min(sizes) < 0:
        raise ValueError(f"parts of {sizes}")
    return np.split(data, np.cumsum(sizes)[:-1], axis)


def _tile(node: Node, given: Given) -> np.ndarray:
    data, repeats = _first(given), _ints(given, 1, node, "")
    _sized([size * count for size, count in zip(data.shape, repeats, strict=True)])
    return np.tile(data, repeats)


def _where(node: Node, given: Given) -> np.ndarray:
    condition, a, b = (_first(given[k:]) for k in range(3))
    _sized(np.broadcast_shapes(condition.shape, a.shape, b.shape))
    return np.where(condition, a, b)


def _range(node: Node, given: Given) -> np.ndarray:
    start, end, step = (_first(given[k:]).item() for k in range(3))
    _sized([max(math.ceil((end - start) / step), 0)])
    return np.asarray(np.arange(start, end, step), _first(given).dtype)


def _cast(node: Node, given: Given) -> np.ndarray:
    data = _first(given)
    _sized(data.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        return data.astype(DTYPES[node.attributes["to"]], copy=False)


def _arithmetic(function: Callable[..., np.ndarray], truth: bool = False) -> Operator:
    """Of two arrays; ``truth``: what it says is true or not."""

    def operator(node: Node, given: Given) -> np.ndarray:
        a, b = given
        if a is None or b is None or a.dtype != b.dtype:
            raise ValueError("inputs of different types")
        _sized(np.broadcast_shapes(a.shape, b.shape))
        with np.errstate(all="ignore"):
            return function(a, b).astype(np.bool_ if truth else a.dtype, copy=False)

    return operator


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "i":
        return np.trunc(a / b)  # integers are rounded towards 0
    return a / b


# those that give values of their first input, each as it is
MOVES: dict[str, Operator] = {
    "Identity": lambda node, given: _first(given),
    "Dropout": lambda node, given: _first(given),
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Tile": _tile,
    "Expand": _expand,
    "Concat": _concat,
}
JOINS = ("Concat",)  # of these, those that have more than one input to move
MAKES: dict[str, Operator] = MOVES | {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divide),
    "Equal": _arithmetic(np.equal, truth=True),
    "Less": _arithmetic(np.less, truth=True),
    "LessOrEqual": _arithmetic(np.less_equal, truth=True),
    "Greater": _arithmetic(np.greater, truth=True),
    "GreaterOrEqual": _arithmetic(np.greater_equal, truth=True),
    "And": _arithmetic(np.logical_and, truth=True),
    "Or": _arithmetic(np.logical_or, truth=True),
    "Not": lambda node, given: np.logical_not(_first(given)),
    "Neg": lambda node, given: -_first(given),
    "Where": _where,
    "Range": _range,
}

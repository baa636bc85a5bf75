"""Products and sums with constants: the dense layers and the scaling of an ONNX graph."""

import numpy as np

from streamrnn.foreign.network import Stage
from streamrnn.foreign.onnx.graph import Node
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError


def dense_stage(node: Node, width: int, weight: np.ndarray, addend: np.ndarray | None) -> Stage:
    """The dense layer that MatMul or Gemm is to rows of ``width`` values; without ``addend``, of no bias."""
    factors = [1.0, 1.0]
    if node.op == "Gemm":
        factors = [node.number(name, 1.0) for name in ("alpha", "beta")]
        if node.number("transA"):
            raise ModelError(f"{node}: attribute transA, {node.attributes['transA']}, expected 0")
        weight = weight.T if node.number("transB") else weight
    if weight.size and max(weight.shape[:-2], default=1) == 1:
        weight = weight.reshape(weight.shape[-2:])
    if weight.ndim != 2 or len(weight) != width or not weight.size:
        raise ModelError(f"{node}: weights of shape {weight.shape}, expected ({width}, units)")
    units = weight.shape[1]
    if addend is None:
        addend = np.zeros(units)
    if max(addend.shape[:-1], default=1) != 1 or addend.size not in (1, units):
        raise ModelError(f"{node}: a bias of shape {addend.shape}, expected ({units},)")
    bias = np.broadcast_to(addend.ravel(), units)
    return Stage(node.name, Dense(factors[0] * weight.T, factors[1] * bias))


def scaling_of(node: Node, width: int, values: np.ndarray, right: bool) -> tuple[np.ndarray, np.ndarray]:
    """The factor and the addend that Add, Sub, Mul or Div of ``values`` is to rows of ``width``.

    With ``right`` it has the rows first.
    """
    if max(values.shape[:-1], default=1) != 1 or values.size not in (1, width):
        raise ModelError(f"{node}: constants of shape {values.shape}, expected one for each of {width}")
    constants, one, zero = values.ravel().astype(np.float64), np.ones(1), np.zeros(1)
    if node.op == "Add":
        return one, constants
    if node.op == "Sub":
        return (one, -constants) if right else (-one, constants)
    with np.errstate(divide="ignore"):
        return constants if node.op == "Mul" else 1 / constants, zero

"""Recurrent layers in Keras's layout, which RTNeural's files have too."""

import numpy as np

from streamrnn.foreign.network import Stage
from streamrnn.model.cells import GATES
from streamrnn.model.parts import Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

# where PyTorch's gates are among Keras's: i, f, c, o; z, r, h
ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}


def keras_stage(
    name: str,
    cell: str,
    kernel: np.ndarray,
    recurrent: np.ndarray,
    bias: np.ndarray | None,
    activation: str = "tanh",
) -> Stage:
    """A recurrent layer of H units of ``cell`` with G gates.

    ``kernel`` is (inputs, G H), ``recurrent`` (H, G H), ``bias`` (G H,), or none; that of a gru whose reset
    gate acts after the product with the state (``reset_after``) is (2, G H), and a gru without a bias is
    taken as such a one. Raises ModelError naming the layer and what does not fit.
    """
    gates = GATES[cell]
    hidden = recurrent.shape[0] if recurrent.ndim else 0
    shapes = [(gates * hidden,), (2, gates * hidden)] if cell == "gru" else [(gates * hidden,)]
    if bias is None:
        bias = np.zeros(shapes[-1], np.float32)
    fits = kernel.ndim == 2 and kernel.shape[1] == gates * hidden and kernel.shape[0]
    if not (hidden and fits and recurrent.shape == (hidden, gates * hidden) and bias.shape in shapes):
        found = f"kernel {kernel.shape}, recurrent kernel {recurrent.shape}, bias {bias.shape}"
        raise ModelError(
            f"{quoted(name)}: expected kernel (inputs, {gates} H), recurrent kernel (H, {gates} H) and bias "
            f"({gates} H,){' or (2, 3 H)' if cell == 'gru' else ''} of a {cell}, found {found}"
        )

    def by_gate(columns: np.ndarray) -> np.ndarray:
        """(n, G H) as (G H, n), the gates in PyTorch's order."""
        return columns.T.reshape(gates, hidden, -1)[[*ORDER[cell]]].reshape(gates * hidden, -1)

    biases = np.atleast_2d(bias)
    bias_ih = by_gate(biases[:1])[:, 0]
    bias_hh = by_gate(biases[1:])[:, 0] if len(biases) == 2 else np.zeros_like(bias_ih)
    reset = "before" if cell == "gru" and len(biases) == 1 else "after"
    return Stage(name, Layer(by_gate(kernel), by_gate(recurrent), bias_ih, bias_hh), cell, activation, reset)

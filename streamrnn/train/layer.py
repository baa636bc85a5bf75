"""A recurrent layer in training: from tensors in PyTorch's layout to what is compiled, and gradients back."""

import numpy as np

from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import GRU, LSTM, RNN_RELU, RNN_TANH, aligned
from streamrnn.kernels.simd import LANES
from streamrnn.model.settings import GATES
from streamrnn.train.recurrence import ROWS, Unrolled, backward, forward

_CODES = {("lstm", "tanh"): LSTM, ("gru", "tanh"): GRU, ("rnn", "tanh"): RNN_TANH, ("rnn", "relu"): RNN_RELU}


class Layer:
    """A recurrent layer of ``inputs`` -> ``hidden`` units, and the memory of the chunk it last saw.

    ``tensors`` and ``gradient`` are views into the network's vectors: weight_ih (G * H, I),
    weight_hh (G * H, H), bias_ih and bias_hh (G * H,), in that order.
    """

    def __init__(
        self,
        cell: str,
        activation: str,
        inputs: int,
        hidden: int,
        tensors: list[np.ndarray],
        gradient: list[np.ndarray],
    ) -> None:
        self.inputs, self.hidden, self.width = inputs, hidden, packed_rows(hidden)
        self.tensors, self.gradient = tensors, gradient
        self._cell = cell
        self._code = _CODES[cell, activation]
        self._blocks = 1 if cell == "rnn" else 4  # of preactivations; a GRU's candidate has two
        self._unrolled: Unrolled | None = None

    def _weights(self) -> np.ndarray:
        """All weights as one matrix over [x | h | 1]: (blocks, W, I + W + 1)."""
        inputs, hidden, width = self.inputs, self.hidden, self.width
        w_ih, w_hh, b_ih, b_hh = (
            tensor.reshape(GATES[self._cell], hidden, *tensor.shape[1:]) for tensor in self.tensors
        )
        whole = np.zeros((self._blocks, width, inputs + width + 1), w_ih.dtype)
        gates = len(w_ih)
        whole[:gates, :hidden, :inputs] = w_ih
        whole[:gates, :hidden, inputs : inputs + hidden] = w_hh
        whole[:gates, :hidden, -1] = b_ih + b_hh
        if self._cell == "gru":
            whole[2, :hidden, inputs:-1] = 0
            whole[2, :hidden, -1] = b_ih[2]
            whole[3, :hidden, inputs : inputs + hidden] = w_hh[2]
            whole[3, :hidden, -1] = b_hh[2]
        return whole

    def forward(self, x: np.ndarray, begins: np.ndarray, carried: bool) -> np.ndarray:
        """Hidden states (T, B, W) for inputs (T, B, I); ``carried``: on from where the last chunk ended."""
        steps, lanes, _ = x.shape
        unrolled, before = self._unrolled, self._unrolled
        if unrolled is None or (unrolled.steps, unrolled.lanes) != (steps, lanes):
            unrolled = self._unrolled = self._unroll(steps, lanes, x.dtype)
        z = unrolled.z.reshape(steps + 1, lanes, -1)
        c = unrolled.c.reshape(steps + 1, lanes, -1)
        if carried and before is not None:
            end = before.steps
            z[0] = before.z.reshape(end + 1, lanes, -1)[end]
            c[0] = before.c.reshape(end + 1, lanes, -1)[end]
        else:
            z[0, :, self.inputs : -1] = 0
            c[0] = 0
        z[:steps, :, : self.inputs] = x
        unrolled.begins[:] = begins.ravel()
        whole = self._weights()
        blocks = whole.reshape(self._blocks, -1, LANES, whole.shape[-1])
        forward(self._code, unrolled, _flat(blocks.transpose(1, 0, 3, 2)))
        recurrent = blocks[..., self.inputs : -1].reshape(*blocks.shape[:3], -1, LANES)
        self._back = recurrent.transpose(3, 1, 0, 2, 4)
        self._into_inputs = blocks[..., : self.inputs].transpose(1, 0, 2, 3)
        return unrolled.h.reshape(steps, lanes, self.width)

    def backward(self, dh: np.ndarray, wanted: bool) -> np.ndarray | None:
        """Adds to the gradient, from dL/dh (T, B, H); returns dL/dx (T, B, I) if it is wanted."""
        unrolled, width = self._unrolled, self.width
        assert unrolled is not None
        if width != self.hidden:
            dh = np.pad(dh, ((0, 0), (0, 0), (0, width - self.hidden)))
        carry = np.zeros((2, unrolled.lanes * width), dh.dtype)
        backward(self._code, unrolled, _flat(self._back), _flat(dh), carry[0], carry[1])
        rows = unrolled.steps * unrolled.lanes
        d_gates = unrolled.gates.reshape(rows, -1)
        z = unrolled.z.reshape(rows + unrolled.lanes, -1)[:rows]
        d_whole = (d_gates.T @ z).reshape(-1, self._blocks, LANES, z.shape[1])
        self._add(d_whole.transpose(1, 0, 2, 3).reshape(self._blocks, width, -1)[:, : self.hidden])
        if not wanted:
            return None
        into = self._into_inputs.reshape(-1, self.inputs)
        return (d_gates @ into).reshape(unrolled.steps, unrolled.lanes, self.inputs)

    def _add(self, whole: np.ndarray) -> None:
        """Adds the gradient of all weights, (blocks, H, I + W + 1), to those of the tensors."""
        gates, inputs, hidden = GATES[self._cell], self.inputs, self.hidden
        parts = [
            whole[:gates, :, :inputs],
            whole[:gates, :, inputs : inputs + hidden],
            whole[:gates, :, -1],
            whole[:gates, :, -1],
        ]
        if self._cell == "gru":
            with_state = whole[[0, 1, 3]]
            parts[1], parts[3] = with_state[..., inputs : inputs + hidden], with_state[..., -1]
        for gradient, part in zip(self.gradient, parts, strict=True):
            gradient += part.reshape(gradient.shape)

    def _unroll(self, steps: int, lanes: int, dtype: np.dtype) -> Unrolled:
        if lanes % ROWS:
            raise ValueError(f"lanes must be a multiple of {ROWS}, not {lanes}")
        size = lanes * self.width
        kind = dtype.type
        unrolled = Unrolled(
            inputs=self.inputs,
            width=self.width,
            lanes=lanes,
            steps=steps,
            z=aligned((steps + 1) * lanes * (self.inputs + self.width + 1), kind),
            gates=aligned(steps * size * self._blocks, kind),
            c=aligned((steps + 1) * size, kind),
            tanh_c=aligned(steps * size, kind),
            h=aligned(steps * size, kind),
            begins=np.zeros(steps * lanes, np.uint8),
            zeros=np.zeros(LANES, kind),
        )
        unrolled.z.reshape(-1, self.inputs + self.width + 1)[:, -1] = 1
        return unrolled


def _flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).ravel()

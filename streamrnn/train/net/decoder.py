"""Networks that write several rows, each row fed back as the input of the next, and their gradients.

Free running, as they do in service: the gradient goes through what is fed back (Werbos 1990), and no true row
is shown to them in its place (which leaves a network unprepared for its own errors: Bengio et al. 2015).
"""

from collections.abc import Sequence

import numpy as np

from streamrnn.model.settings import DECODER
from streamrnn.train.net.layer import LayerState, RecurrentLayer
from streamrnn.train.net.network import NetworkShape, Weights


class RowWriter:
    """Recurrent layers and a head that write K rows of O outputs in B lanes at once.

    The layers take [x, u]: what stays the same over all rows, and the row before. ``prefix`` stands before
    the names of their tensors among ``weights``.
    """

    def __init__(self, weights: Weights, prefix: str = "") -> None:
        self.layers: list[RecurrentLayer] = weights.make_layers(prefix)
        parts = [weights.tensors, weights.gradients]
        (self._weight, self._d_weight), (self._bias, self._d_bias) = (
            [part[f"{prefix}head.{name}"] for part in parts] for name in ("weight", "bias")
        )

    def forward(
        self, x: np.ndarray, u: np.ndarray, before: Sequence[LayerState | None], rows: int
    ) -> np.ndarray:
        """The rows (K, B, O) from ``x`` (B, X), the row before the first one, (B, O), and layers' states."""
        begins = np.zeros((rows, len(x)), np.uint8)
        for layer, state in zip(self.layers, before, strict=True):
            layer.begin(begins, state)
        written = np.empty((rows, *u.shape), u.dtype)
        self._tops = np.empty((rows, len(x), self.layers[-1].hidden), u.dtype)
        for row in range(rows):
            step = np.concatenate([x, u], axis=1)[None]
            for layer in self.layers:
                step = layer.forward(step, row)[..., : layer.hidden]
            self._tops[row] = step[0]
            u = written[row] = step[0] @ self._weight.T + self._bias
        return written

    def backward(self, dy: np.ndarray) -> list[LayerState]:
        """Adds to the gradient from dL/d(rows), (K, B, O); returns that of the states before the first."""
        total = np.empty_like(dy)  # dL/d(row), of itself and of what it is fed to
        fed = np.zeros_like(dy[0])
        for row in range(len(dy) - 1, -1, -1):
            total[row] = dy[row] + fed
            step: np.ndarray | None = (total[row] @ self._weight)[None]
            for layer in reversed(self.layers):
                assert step is not None
                step = layer.backward(step, wanted=True, at=row)
            assert step is not None
            fed = step[0, :, -fed.shape[1] :]
        flat = total.reshape(-1, total.shape[2])
        self._d_weight += flat.T @ self._tops.reshape(len(flat), -1)
        self._d_bias += flat.sum(axis=0)
        return [layer.carry for layer in self.layers]


class CurveNetwork(Weights):
    """A vector to sequence: K rows from one frame, from a state of zeros."""

    def __init__(self, shape: NetworkShape, dtype: type = np.float32) -> None:
        super().__init__(shape, dtype)
        self._writer = RowWriter(self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The curves, (K, B, O), of frames (B, C)."""
        nothing = np.zeros((len(x), self.shape.outputs), x.dtype)
        return self._writer.forward(x, nothing, [None] * self.shape.layers, self.shape.horizon)

    def backward(self, dy: np.ndarray) -> None:
        """Sets the gradient from dL/dy, (K, B, O), of the last ``forward``."""
        self.gradient[:] = 0
        self._writer.backward(dy)


class EncoderDecoder(Weights):
    """Two networks, the second of which begins from the states of the first (Sutskever et al. 2014)."""

    def __init__(self, shape: NetworkShape, dtype: type = np.float32) -> None:
        super().__init__(shape, dtype)
        self._encoder = self.make_layers()
        self._decoder = RowWriter(self, DECODER)

    def encode(self, x: np.ndarray, begins: np.ndarray, carried: bool) -> None:
        """Steps the encoder through a chunk, (T, B, C), as ``RowNetwork.forward`` does."""
        for layer in self._encoder:
            layer.begin(begins, layer.end() if carried else None)
            x = layer.forward(x)[..., : layer.hidden]

    def decode(self, places: Sequence[int], u: np.ndarray) -> np.ndarray:
        """The rows (K, P * B, O) that follow P steps of the chunk, in rising order, from ``u`` (P * B, O)."""
        self._places = places
        states = []
        for layer in self._encoder:
            at = [layer.state(place) for place in places]
            states.append(LayerState(*(np.concatenate(parts) for parts in zip(*at, strict=True))))
        return self._decoder.forward(np.empty((len(u), 0), u.dtype), u, states, self.shape.horizon)

    def decode_at(self, steps: np.ndarray, lanes: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The rows (K, n, O) that follow some steps, (n,), each in a lane, (n,); n is a multiple of ROWS."""
        states = [layer.states(steps, lanes) for layer in self._encoder]
        return self._decoder.forward(np.empty((len(u), 0), u.dtype), u, states, self.shape.horizon)

    def backward(self, dy: np.ndarray) -> None:
        """Sets the gradient from dL/d(rows), (K, P * B, O), of the last ``decode``."""
        self.gradient[:] = 0
        lanes = dy.shape[1] // len(self._places)
        states = self._decoder.backward(dy)
        starts = [0, *(place + 1 for place in self._places[:-1])]
        for number in range(len(self._places) - 1, -1, -1):
            of_place = slice(number * lanes, (number + 1) * lanes)
            for layer, state in zip(self._encoder, states, strict=True):
                layer.carry.h[:] += state.h[of_place]
                layer.carry.memory[:] += state.memory[of_place]
            start = starts[number]
            steps = self._places[number] + 1 - start
            step: np.ndarray | None = np.zeros((steps, lanes, self.shape.hidden), dy.dtype)
            for k in range(self.shape.layers - 1, -1, -1):
                assert step is not None
                step = self._encoder[k].backward(step, wanted=k > 0, at=start)

"""The network that is trained: its weights in one vector, its forward pass and its gradient.

Backpropagation through time, truncated at the ends of chunks over which the state is carried (Werbos 1990;
Williams & Peng 1990). Tensors have the names and layout of a model file; inputs and targets are standardised.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamrnn.model.cells import find_cell
from streamrnn.model.settings import DECODER, SPREAD_SHAPE, network_shapes
from streamrnn.train.net.layer import RecurrentLayer
from streamrnn.train.net.spread import freedom, log_excess

_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class NetworkShape:
    """What a network looks like."""

    cell: str  # a name in the table of cells
    inputs: int  # C
    outputs: int  # O
    hidden: int = 32  # H
    layers: int = 1
    activation: str = "tanh"  # or "relu", rnn only
    highway: int = 0  # frames that the head sees, the current one first
    relation: str = "sequence-to-sequence"
    horizon: int = 1  # rows of a prediction
    spread: bool = False  # whether the head says the spread of its forecasts' errors, too

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by its name in a model file."""
        return network_shapes(vars(self), self.inputs, self.outputs)


class Weights:
    """The weights of a network and their gradient, each in one vector.

    ``tensors`` and ``gradients`` are views, by name, into ``weights`` and ``gradient``, (P,), of ``dtype``.
    They are a model file's, but for "spread.shape": here it is log(nu - 2), which any number can be.
    """

    def __init__(self, shape: NetworkShape, dtype: type = np.float32) -> None:
        self.shape = shape
        count = sum(map(math.prod, shape.tensors().values()))
        self.weights: np.ndarray = np.zeros(count, dtype)
        self.gradient: np.ndarray = np.zeros(count, dtype)
        self.tensors = self.views(self.weights)
        self.gradients = self.views(self.gradient)

    def make_layers(self, prefix: str = "") -> list[RecurrentLayer]:
        """The recurrent layers whose names begin with ``prefix``."""
        shape = self.shape
        return [
            RecurrentLayer(
                shape.cell,
                shape.activation,
                self.tensors[f"{prefix}weight_ih_l{k}"].shape[1],
                shape.hidden,
                [self.tensors[f"{prefix}{part}_l{k}"] for part in _PARTS],
                [self.gradients[f"{prefix}{part}_l{k}"] for part in _PARTS],
            )
            for k in range(shape.layers)
        ]

    def views(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of a vector (P,) that belong to each tensor, in its shape."""
        views, at = {}, 0
        for name, shape in self.shape.tensors().items():
            size = math.prod(shape)
            views[name] = vector[at : at + size].reshape(shape)
            at += size
        return views

    def start(self, rng: np.random.Generator) -> None:
        """First weights: recurrent ones orthogonal gate by gate (Saxe et al. 2014), others uniform with the
        variance of Glorot & Bengio 2010, biases 0 but those of the gate that keeps the state, 1: an LSTM's
        or sLSTM's forget gate (Gers et al. 2000), a GRU's update gate.

        With a highway the head starts at zero: whatever the highway does, the network begins with that.
        """
        shape, cell = self.shape, find_cell(self.shape.cell, self.shape.activation)
        for whole_name, tensor in self.tensors.items():
            name = whole_name.removeprefix(DECODER)
            if name.startswith("weight_hh"):
                for gate in tensor.reshape(-1, shape.hidden, shape.hidden):
                    gate[:] = _orthogonal(rng, shape.hidden)
            elif name.startswith("weight_ih") or (name == "head.weight" and not shape.highway):
                fan_out = shape.hidden if name.startswith("weight") else shape.outputs
                bound = math.sqrt(6 / (tensor.shape[1] + fan_out))
                tensor[:] = rng.uniform(-bound, bound, tensor.shape)
            else:
                tensor[:] = 0
            if name.startswith("bias_ih") and cell.keeps:
                tensor.reshape(-1, shape.hidden)[cell.gates.index(cell.keeps)] = 1

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes over a model file's weights, by name."""
        for name, tensor in self.tensors.items():
            tensor[:] = log_excess(tensors[name]) if name == SPREAD_SHAPE else tensors[name]

    def stated(self) -> dict[str, np.ndarray]:
        """The weights as a model file has them, by name."""
        return {
            name: freedom(tensor) if name == SPREAD_SHAPE else tensor for name, tensor in self.tensors.items()
        }


class RowNetwork(Weights):
    """A prediction for each row: the pass both ways over one chunk of T steps and B lanes."""

    def __init__(self, shape: NetworkShape, dtype: type = np.float32) -> None:
        super().__init__(shape, dtype)
        self.layers = self.make_layers()

    def forward(
        self,
        x: np.ndarray,
        past: np.ndarray | None,
        begins: np.ndarray,
        carried: bool,
        masks: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Predictions (T, B, O) for inputs ``x`` (T, B, C), with ``past`` (T, B, highway * C) for the head.

        Of a network that says its spread (T, B, 2 * O): behind the predictions the logarithms of each
        output's factor on the running spread, from the hidden state alone.

        ``begins`` (T, B) uint8 is 1 where a sequence begins; ``carried``: states go on from the chunk before.
        ``masks`` (B, H), one a layer, are what dropout leaves of its outputs.
        """
        self._past, self._masks = past, masks
        for k, layer in enumerate(self.layers):
            layer.begin(begins, layer.end() if carried else None)
            x = layer.forward(x)[..., : layer.hidden]
            if masks is not None:
                x = x * masks[k]
        self._top = x
        y = x @ self.tensors["head.weight"].T + self.tensors["head.bias"]
        if past is not None:
            y += past @ self.tensors["highway.weight"].T
        if self.shape.spread:
            said = x @ self.tensors["spread.weight"].T + self.tensors["spread.bias"]
            y = np.concatenate([y, said], axis=-1)
        return y

    def backward(self, dy: np.ndarray) -> None:
        """Sets the gradient from dL/dy, (T, B, O) or (T, B, 2 * O), of the last ``forward``."""
        self.gradient[:] = 0
        outputs = self.shape.outputs
        dh = self._backward_head("head", dy[..., :outputs])
        if self._past is not None:
            flat = dy[..., :outputs].reshape(-1, outputs)
            self.gradients["highway.weight"][:] = flat.T @ self._past.reshape(len(flat), -1)
        if self.shape.spread:
            dh += self._backward_head("spread", dy[..., outputs:])
        self.backward_layers(dh, inputs=False)

    def _backward_head(self, head: str, dy: np.ndarray) -> np.ndarray:
        """Sets the gradient of a head from dL/d(what it says), (T, B, O). Returns dL/dh, (T, B, H)."""
        flat = dy.reshape(-1, self.shape.outputs)
        self.gradients[f"{head}.weight"][:] = flat.T @ self._top.reshape(-1, self.shape.hidden)
        self.gradients[f"{head}.bias"][:] = flat.sum(0)
        return dy @ self.tensors[f"{head}.weight"]

    def backward_layers(self, dh: np.ndarray, inputs: bool) -> np.ndarray | None:
        """Adds to the gradient of all layers from dL/dh, (T, B, H), of the last one's outputs.

        Returns dL/dx, (T, B, C), if ``inputs``.
        """
        d: np.ndarray | None = dh
        for k in range(self.shape.layers - 1, -1, -1):
            assert d is not None
            if self._masks is not None:
                d = d * self._masks[k]
            d = self.layers[k].backward(d, wanted=k > 0 or inputs)
        return d


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(size, size)))
    return q * np.sign(np.diag(r))  # so that every orthogonal matrix is as likely (Mezzadri 2007)

"""Recurrent networks written out from their formulas: float64, slow, and nothing of streamrnn in it.

``tensors`` are those of a model file, by PyTorch's names and in PyTorch's layout; anything that can be
made an array of float64 will do.
"""

from collections.abc import Mapping, Sequence

import numpy as np


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def rnn(w_ih, w_hh, b_ih, b_hh, x, h, activation):
    """Elman 1990: h' = phi(W_x x + b_x + W_h h + b_h)."""
    a = w_ih @ x + b_ih + w_hh @ h + b_hh
    return np.maximum(a, 0) if activation == "relu" else np.tanh(a)


def gru(w_ih, w_hh, b_ih, b_hh, x, h, reset):
    """Cho et al. 2014: the reset gate acts on h, "before" the product with W_h, as they write it, or "after".

    After it, as PyTorch and cuDNN compute it, it acts on W_h h + b_h.
    """
    size = len(h)
    from_input, from_state = w_ih @ x + b_ih, w_hh @ h + b_hh
    r = sigmoid(from_input[:size] + from_state[:size])
    z = sigmoid(from_input[size : 2 * size] + from_state[size : 2 * size])
    if reset == "before":
        candidate = w_hh[2 * size :] @ (r * h) + b_hh[2 * size :]
    else:
        candidate = r * from_state[2 * size :]
    n = np.tanh(from_input[2 * size :] + candidate)
    return (1 - z) * n + z * h


def lstm(w_ih, w_hh, b_ih, b_hh, x, h, c):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000: h' and c'."""
    size = len(h)
    a = w_ih @ x + b_ih + w_hh @ h + b_hh
    i, f = sigmoid(a[:size]), sigmoid(a[size : 2 * size])
    g, o = np.tanh(a[2 * size : 3 * size]), sigmoid(a[3 * size :])
    c = f * c + i * g
    return o * np.tanh(c), c


def slstm(w_ih, w_hh, b_ih, b_hh, x, h, cn):
    """The sLSTM of Beck et al. 2024 as they define it, without a stabiliser: h', and [c', n']."""
    size = len(h)
    c, n = np.zeros((2, size)) + cn
    a = w_ih @ x + b_ih + w_hh @ h + b_hh
    i, f = np.exp(a[:size]), sigmoid(a[size : 2 * size])
    z, o = np.tanh(a[2 * size : 3 * size]), sigmoid(a[3 * size :])
    c, n = f * c + i * z, f * n + i
    return o * c / n, np.stack([c, n])


ACTIVATIONS = {
    "linear": lambda a: a,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": sigmoid,
}


def dense(tensors, name, activations, x):
    """Dense layers in a row: phi(W x + b), each with its phi."""
    for k, activation in enumerate(activations):
        x = ACTIVATIONS[activation](tensors[f"{name}.{k}.weight"] @ x + tensors[f"{name}.{k}.bias"])
    return x


def layers_of(tensors, prefix=""):
    """The weights of each recurrent layer, by names after ``prefix``, in the order that the cells take."""
    depth = sum(name.startswith(f"{prefix}weight_hh_l") for name in tensors)
    return [
        [tensors[f"{prefix}{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        for k in range(depth)
    ]


def step(cell, layers, x, h, c, activation, reset):
    """One step of stacked layers: their new ``h`` and ``c``, lists of a state a layer."""
    new_h, new_c = [], []
    for weights, h_k, c_k in zip(layers, h, c, strict=True):
        if cell in ("lstm", "slstm"):
            x, c_k = (lstm if cell == "lstm" else slstm)(*weights, x, h_k, c_k)
        elif cell == "gru":
            x = gru(*weights, x, h_k, reset)
        else:
            x = rnn(*weights, x, h_k, activation)
        new_h.append(x)
        new_c.append(c_k)
    return new_h, new_c


def zeros_of(layers):
    return [np.zeros(weights[1].shape[1]) for weights in layers]


class Network:
    """A network that remembers: its tensors in float64, its state, and the frames that it has seen."""

    def __init__(self, cell, tensors, activation="tanh", *, reset="after", before=(), after=()):
        self.given = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
        self.cell, self.how = cell, (activation, reset)
        self.before, self.after = before, after
        self.layers = layers_of(self.given)
        self.h, self.c, self.frames = zeros_of(self.layers), zeros_of(self.layers), []

    def scaled(self, values, side):
        """Physical values in standard deviations, of the "input" or the "output" side."""
        if f"{side}.mean" not in self.given:
            return values
        return (values - self.given[f"{side}.mean"]) / self.given[f"{side}.std"]

    def physical(self, y):
        return y * self.given["output.std"] + self.given["output.mean"] if "output.mean" in self.given else y

    def take(self, row):
        """Steps on by a row, in physical units."""
        x = self.scaled(np.asarray(row, np.float64), "input")
        self.frames.append(x)
        x = dense(self.given, "before", self.before, x)
        self.h, self.c = step(self.cell, self.layers, x, self.h, self.c, *self.how)

    def prediction(self):
        """What the head says now, in physical units: (outputs,)."""
        top = dense(self.given, "after", self.after, self.h[-1])
        y = self.given["head.weight"] @ top + self.given["head.bias"]
        if "highway.weight" in self.given:
            highway = self.given["highway.weight"].shape[1] // len(self.frames[0])
            seen = [self.frames[max(len(self.frames) - 1 - back, 0)] for back in range(highway)]
            y = y + self.given["highway.weight"] @ np.concatenate(seen)
        return self.physical(y)

    def rollout(self, horizon):
        """The next rows, each forecast taken as the frame that follows; the network stays where it is."""
        kept = self.h, self.c, [*self.frames]
        rows = []
        for _ in range(horizon):
            rows.append(self.prediction())
            self.take(rows[-1])
        self.h, self.c, self.frames = kept
        return np.array(rows)

    def decoded(self, row, horizon, target):
        """What an encoder-decoder writes after ``row``, which it has taken: (horizon, outputs).

        Sutskever, Vinyals & Le 2014: the decoder begins from the encoder's state, and is fed what it wrote.
        """
        layers, weight = layers_of(self.given, "decoder."), self.given["decoder.head.weight"]
        u = np.zeros(len(weight))
        if target == "next":
            u = self.scaled(np.asarray(row, np.float64)[: len(weight)], "output")
        h, c, rows = self.h, self.c, []
        for _ in range(horizon):
            h, c = step(self.cell, layers, u, h, c, *self.how)
            u = weight @ h[-1] + self.given["decoder.head.bias"]
            rows.append(self.physical(u))
        return np.array(rows)

    def written(self, row, horizon):
        """The curve that a vector-to-sequence network writes for one row: (horizon, outputs)."""
        weight = self.given["head.weight"]
        x, u = self.scaled(np.asarray(row, np.float64), "input"), np.zeros(len(weight))
        h, c, rows = zeros_of(self.layers), zeros_of(self.layers), []
        for _ in range(horizon):
            h, c = step(self.cell, self.layers, np.concatenate([x, u]), h, c, *self.how)
            u = weight @ h[-1] + self.given["head.bias"]
            rows.append(self.physical(u))
        return np.array(rows)


def run(
    cell: str,
    tensors: Mapping[str, np.ndarray],
    rows: np.ndarray,
    activation: str = "tanh",
    *,
    reset: str = "after",
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    relation: str = "sequence-to-sequence",
    horizon: int = 1,
    target: str = "next",
    rollout: int = 0,
) -> np.ndarray:
    """The prediction after each of ``rows`` (n, channels), from a state of zeros: (n, outputs) float64.

    Rows and predictions are in physical units when the tensors have means and deviations. ``before`` and
    ``after`` are the activations of dense layers. With a highway the head sees the last frames, too, of which
    those before the first row are equal to it. Of the relations that write several rows, and of a
    ``rollout`` of so many, (n, horizon, outputs). A sequence to vector is a sequence to sequence of which
    only the last prediction counts.
    """
    network = Network(cell, tensors, activation, reset=reset, before=before, after=after)
    predictions = []
    for row in rows:
        if relation == "vector-to-sequence":
            predictions.append(network.written(row, horizon))
            continue
        network.take(row)
        if relation == "encoder-decoder":
            predictions.append(network.decoded(row, horizon, target))
        else:
            predictions.append(network.rollout(rollout) if rollout else network.prediction())
    return np.array(predictions)

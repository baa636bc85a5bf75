"""Recurrent networks written out from their formulas: float64, slow, and nothing of streamrnn in it.

``tensors`` are those of a model file, by PyTorch's names and in PyTorch's layout; anything that can be
made an array of float64 will do.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(a: np.ndarray) -> np.ndarray:
    power = np.exp(a - a.max())
    return power / power.sum()


# of one value or of a vector, and the numbers behind their names
ACTIVATIONS = {
    "linear": lambda a: a,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda a, alpha=0.2, beta=0.5: np.clip(alpha * a + beta, 0, 1),
    "leaky_relu": lambda a, alpha=0.01: np.where(a > 0, a, alpha * a),
    "thresholded_relu": lambda a, alpha=1.0: np.where(a > alpha, a, 0),
    "elu": lambda a, alpha=1.0: np.where(a > 0, a, alpha * np.expm1(np.minimum(a, 0))),
    "selu": lambda a, alpha=1.6732632423543772, gamma=1.0507009873554805: (
        gamma * np.where(a > 0, a, alpha * np.expm1(np.minimum(a, 0)))
    ),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "softplus": lambda a: np.logaddexp(0, a),
    "silu": lambda a: a * sigmoid(a),
    "hard_silu": lambda a, alpha=1 / 6, beta=0.5: a * np.clip(alpha * a + beta, 0, 1),
    "gelu": lambda a: a * np.vectorize(math.erfc, otypes=[float])(-a / math.sqrt(2)) / 2,
    "gelu_tanh": lambda a: a * sigmoid(2 * math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)),
    "scaled_tanh": lambda a, alpha=1.0, beta=1.0: alpha * np.tanh(beta * a),
    "affine": lambda a, alpha=1.0, beta=0.0: alpha * a + beta,
    "clip": lambda a, low=-1.0, high=1.0: np.clip(a, low, high),
    "softmax": softmax,
    "log_softmax": lambda a: a - a.max() - np.log(np.exp(a - a.max()).sum()),
    "layer_norm": lambda a, epsilon=1e-5: (a - a.mean()) / np.sqrt(a.var() + epsilon),
}


def activate(said: str, a: np.ndarray) -> np.ndarray:
    """An activation as a model file says it, with its numbers if there are any: of ``a``."""
    name, _, numbers = said.rstrip(")").partition("(")
    return ACTIVATIONS[name](a, *map(float, numbers.split(",") if numbers else ()))


def rnn(w_ih, w_hh, b_ih, b_hh, x, h, activation):
    """Elman 1990: h' = phi(W_x x + b_x + W_h h + b_h)."""
    return activate(activation, w_ih @ x + b_ih + w_hh @ h + b_hh)


def gru(w_ih, w_hh, b_ih, b_hh, x, h, reset, activation="tanh", gate="sigmoid"):
    """Cho et al. 2014: the reset gate acts on h, "before" the product with W_h, as they write it, or "after".

    After it, as PyTorch and cuDNN compute it, it acts on W_h h + b_h.
    """
    size = len(h)
    from_input, from_state = w_ih @ x + b_ih, w_hh @ h + b_hh
    r = activate(gate, from_input[:size] + from_state[:size])
    z = activate(gate, from_input[size : 2 * size] + from_state[size : 2 * size])
    if reset == "before":
        candidate = w_hh[2 * size :] @ (r * h) + b_hh[2 * size :]
    else:
        candidate = r * from_state[2 * size :]
    n = activate(activation, from_input[2 * size :] + candidate)
    return (1 - z) * n + z * h


def lstm(w_ih, w_hh, b_ih, b_hh, x, h, c, activation="tanh", gate="sigmoid", output=None):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000: h' and c'."""
    size = len(h)
    a = w_ih @ x + b_ih + w_hh @ h + b_hh
    i, f = activate(gate, a[:size]), activate(gate, a[size : 2 * size])
    g, o = activate(activation, a[2 * size : 3 * size]), activate(gate, a[3 * size :])
    c = f * c + i * g
    return o * activate(output or activation, c), c


def slstm(w_ih, w_hh, b_ih, b_hh, x, h, cn):
    """The sLSTM of Beck et al. 2024 as they define it, without a stabiliser: h', and [c', n']."""
    size = len(h)
    c, n = np.zeros((2, size)) + cn
    a = w_ih @ x + b_ih + w_hh @ h + b_hh
    i, f = np.exp(a[:size]), sigmoid(a[size : 2 * size])
    z, o = np.tanh(a[2 * size : 3 * size]), sigmoid(a[3 * size :])
    c, n = f * c + i * z, f * n + i
    return o * c / n, np.stack([c, n])


def dense(tensors, name, activations, x):
    """Dense layers in a row: phi(W x + b), each with its phi."""
    for k, activation in enumerate(activations):
        x = activate(activation, tensors[f"{name}.{k}.weight"] @ x + tensors[f"{name}.{k}.bias"])
    return x


def layers_of(tensors, prefix=""):
    """The weights of each recurrent layer, by names after ``prefix``, in the order that the cells take."""
    depth = sum(name.startswith(f"{prefix}weight_hh_l") for name in tensors)
    return [
        [tensors[f"{prefix}{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        for k in range(depth)
    ]


class Chain:
    """Stacked layers: of each its ``cells``, what a model file says of it, and its weights in ``layers``.

    Dense layers ``between`` them, lists of activations; ``skips``, which add what a layer gives further on.
    """

    def __init__(self, cells, layers, tensors=None, between=(), skips=()):
        self.cells, self.layers, self.tensors = cells, layers, tensors
        self.between, self.skips = between, skips

    def step(self, x, h, c):
        """One step: new ``h`` and ``c``, lists of a state a layer, and what the last layer gives."""
        new_h, new_c, given = [], [], [x]
        for k, (cell, weights, h_k, c_k) in enumerate(zip(self.cells, self.layers, h, c, strict=True)):
            phi = cell.get("activation", "tanh")
            gate, reset = cell.get("recurrent_activation", "sigmoid"), cell.get("reset", "after")
            if cell["cell"] == "lstm":
                x, c_k = lstm(*weights, x, h_k, c_k, phi, gate, cell.get("output_activation"))
            elif cell["cell"] == "slstm":
                x, c_k = slstm(*weights, x, h_k, c_k)
            elif cell["cell"] == "gru":
                x = gru(*weights, x, h_k, reset, phi, gate)
            else:
                x = rnn(*weights, x, h_k, phi)
            new_h.append(x)
            new_c.append(c_k)
            given.append(x)
            x = dense(self.tensors, f"between.{k}", self.between[k] if k < len(self.between) else (), x)
            for begin, end in self.skips:
                if end == k + 2:
                    x = x + given[begin]
        return new_h, new_c, x


def zeros_of(layers):
    return [np.zeros(weights[1].shape[1]) for weights in layers]


class Network:
    """A network that remembers: its tensors in float64, its state, and the frames that it has seen."""

    def __init__(self, cells, tensors, *, before=(), between=(), after=(), skips=()):
        self.given = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
        self.cells, self.before, self.after = cells, before, after
        self.layers = layers_of(self.given)
        self.chain = Chain(cells, self.layers, self.given, between, skips)
        self.h, self.c, self.frames = zeros_of(self.layers), zeros_of(self.layers), []
        self.top = None  # what goes on behind the last layer

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
        self.h, self.c, self.top = self.chain.step(x, self.h, self.c)

    def prediction(self):
        """What the head says now, in physical units: (outputs,)."""
        top = dense(self.given, "after", self.after, self.top)
        y = self.given["head.weight"] @ top + self.given["head.bias"]
        if "highway.weight" in self.given:
            highway = self.given["highway.weight"].shape[1] // len(self.frames[0])
            seen = [self.frames[max(len(self.frames) - 1 - back, 0)] for back in range(highway)]
            y = y + self.given["highway.weight"] @ np.concatenate(seen)
        return self.physical(y)

    def rollout(self, horizon):
        """The next rows, each forecast taken as the frame that follows; the network stays where it is."""
        kept = self.h, self.c, [*self.frames], self.top
        rows = []
        for _ in range(horizon):
            rows.append(self.prediction())
            self.take(rows[-1])
        self.h, self.c, self.frames, self.top = kept
        return np.array(rows)

    def decoded(self, row, horizon, target):
        """What an encoder-decoder writes after ``row``, which it has taken: (horizon, outputs).

        Sutskever, Vinyals & Le 2014: the decoder begins from the encoder's state, and is fed what it wrote.
        """
        decoder = Chain(self.cells, layers_of(self.given, "decoder."))
        weight = self.given["decoder.head.weight"]
        u = np.zeros(len(weight))
        if target == "next":
            u = self.scaled(np.asarray(row, np.float64)[: len(weight)], "output")
        h, c, rows = self.h, self.c, []
        for _ in range(horizon):
            h, c, top = decoder.step(u, h, c)
            u = weight @ top + self.given["decoder.head.bias"]
            rows.append(self.physical(u))
        return np.array(rows)

    def written(self, row, horizon):
        """The curve that a vector-to-sequence network writes for one row: (horizon, outputs)."""
        weight = self.given["head.weight"]
        x, u = self.scaled(np.asarray(row, np.float64), "input"), np.zeros(len(weight))
        h, c, rows = zeros_of(self.layers), zeros_of(self.layers), []
        for _ in range(horizon):
            h, c, top = self.chain.step(np.concatenate([x, u]), h, c)
            u = weight @ top + self.given["head.bias"]
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
    **more: Any,
) -> np.ndarray:
    """``run_network`` of layers of one ``cell``; ``before`` and ``after`` are activations of dense layers."""
    kind = {"cell": cell, "activation": activation, "reset": reset}
    cells = [kind] * len(layers_of(tensors))
    return run_network(Network(cells, tensors, before=before, after=after), rows, **more)


def run_settings(
    settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], rows: np.ndarray, **more: Any
) -> np.ndarray:
    """``run_network`` of what a model file says and holds."""
    cells = settings.get("cells") or [settings] * settings["layers"]

    def listed(layers):
        return [layer["activation"] for layer in layers]

    around = {key: listed(settings.get(key, ())) for key in ("before", "after")}
    between = [listed(layers) for layers in settings.get("between", ())]
    network = Network(cells, tensors, between=between, skips=settings.get("skips", ()), **around)
    how = {key: settings[key] for key in ("relation", "horizon", "target")}
    return run_network(network, rows, **how, **more)


def run_network(
    network: Network,
    rows: np.ndarray,
    relation: str = "sequence-to-sequence",
    horizon: int = 1,
    target: str = "next",
    rollout: int = 0,
) -> np.ndarray:
    """The prediction after each of ``rows`` (n, channels), from a state of zeros: (n, outputs) float64.

    Rows and predictions are in physical units when the tensors have means and deviations. With a highway the
    head sees the last frames, too, of which those before the first row are equal to it. Of the relations that
    write several rows, and of a ``rollout`` of so many, (n, horizon, outputs). A sequence to vector is a
    sequence to sequence of which only the last prediction counts.
    """
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

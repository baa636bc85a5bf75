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


def run(
    cell: str,
    tensors: Mapping[str, np.ndarray],
    rows: np.ndarray,
    activation: str = "tanh",
    *,
    reset: str = "after",
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> np.ndarray:
    """The prediction after each of ``rows`` (n, channels), from a state of zeros: (n, outputs) float64.

    Rows and predictions are in physical units when the tensors have means and deviations. ``before`` and
    ``after`` are the activations of dense layers. With a highway the head sees the last frames, too, of which
    those before the first row are equal to it.
    """
    given = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    depth = sum(name.startswith("weight_hh_l") for name in given)
    layers = [
        [given[f"{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        for k in range(depth)
    ]
    h = [np.zeros(weights[1].shape[1]) for weights in layers]
    c = [np.zeros(weights[1].shape[1]) for weights in layers]
    predictions, frames = [], []
    for row in np.asarray(rows, np.float64):
        x = (row - given["input.mean"]) / given["input.std"] if "input.mean" in given else row
        frames.append(x)
        x = dense(given, "before", before, x)
        for k, weights in enumerate(layers):
            if cell == "lstm":
                h[k], c[k] = lstm(*weights, x, h[k], c[k])
            elif cell == "gru":
                h[k] = gru(*weights, x, h[k], reset)
            else:
                h[k] = rnn(*weights, x, h[k], activation)
            x = h[k]
        y = given["head.weight"] @ dense(given, "after", after, x) + given["head.bias"]
        if "highway.weight" in given:
            highway = given["highway.weight"].shape[1] // len(row)
            seen = [frames[max(len(frames) - 1 - back, 0)] for back in range(highway)]
            y += given["highway.weight"] @ np.concatenate(seen)
        predictions.append(y * given["output.std"] + given["output.mean"] if "output.mean" in given else y)
    return np.array(predictions)

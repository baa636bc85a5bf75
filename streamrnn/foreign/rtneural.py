"""RTNeural's JSON: a list of Keras's layers, with what programs for guitars have put beside it."""

from typing import Any

import numpy as np

from streamrnn.foreign.arrays import period_of, tensors_of, unused
from streamrnn.foreign.keras.layout import keras_stage
from streamrnn.foreign.lowering import lower
from streamrnn.foreign.network import Foreign, Stage
from streamrnn.foreign.vectors import RowVector, activated, passed, scaled, summed
from streamrnn.model.activations import say_activation
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

DENSE = ("dense", "time-distributed-dense")
# how many arrays of weights each type of layer has
WEIGHTS = {**dict.fromkeys(DENSE, 2), "lstm": 3, "gru": 3, "batchnorm": 4, "prelu": 1, "activation": 0}
ACTIVATIONS = ("linear", "tanh", "relu", "sigmoid", "softmax", "elu")
GAINS = ("in_gain", "out_gain")  # dB, as AIDA-X has them


def read_layer_list(content: dict[str, Any]) -> Foreign:
    """The network of an object with "layers". Raises ModelError naming each layer that cannot be run."""
    layers = content["layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ModelError(f'"layers": expected a list of objects, found {quoted(layers)}')
    arrays, problems = list[list[np.ndarray]](), list[str]()
    for k, layer in enumerate(layers):
        try:
            arrays.append(_arrays(k, layer))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(*problems)
    declared = content.get("in_shape")
    if isinstance(declared, list) and declared and type(declared[-1]) is int and declared[-1] > 0:
        width = declared[-1]
    else:
        width = next((len(given[0]) for given in arrays if given), 0)
    start = vector = RowVector('"in_shape"', width)
    gains = [_gain(content, key) for key in GAINS]
    if gains[0] != 1:
        start = vector = scaled(start, "in_gain", gains[0])
    for k, (layer, given) in enumerate(zip(layers, arrays, strict=True)):
        vector = _passed(f"layers[{k}] {layer['type']}", layer, given, vector)
    if content.get("in_skip"):
        if content["in_skip"] != 1 or vector.width != 1 or start.width != 1:
            raise ModelError(f'"in_skip": {quoted(content["in_skip"])} cannot be run; only 1 of one channel')
        vector = summed("in_skip", [vector, start])
    if gains[1] != 1:
        vector = scaled(vector, "out_gain", gains[1])
    return lower(
        "RTNeural",
        vector,
        unused(content, {"in_shape", "layers", "samplerate", "in_skip", *GAINS}),
        sample_period_s=period_of(content.get("samplerate")),
    )


def _gain(content: dict[str, Any], key: str) -> float:
    """A factor out of decibels."""
    decibels = content.get(key) or 0
    if type(decibels) not in (int, float) or not abs(decibels) <= 200:
        raise ModelError(f'"{key}": expected decibels, found {quoted(decibels)}')
    return float(10 ** (decibels / 20))


def _arrays(k: int, layer: dict[str, Any]) -> list[np.ndarray]:
    """The weights of layer ``k``. Raises ModelError naming it and what does not fit or cannot be run."""
    kind = layer.get("type")
    if not isinstance(kind, str) or kind not in WEIGHTS:
        raise ModelError(
            f"layers[{k}]: a layer of type {quoted(kind)} cannot be run; only {', '.join(WEIGHTS)} can"
        )
    name, weights = f"layers[{k}] {kind}", layer.get("weights", [])
    if not isinstance(weights, list) or len(weights) != WEIGHTS[kind]:
        raise ModelError(f'{name}: expected "weights" of {WEIGHTS[kind]} arrays')
    named = {f"{name} weights[{place}]": values for place, values in enumerate(weights)}
    arrays = list(tensors_of(named).values())
    if any(not array.size or not array.ndim for array in arrays):
        raise ModelError(f"{name}: weights of no numbers")
    return arrays


def _passed(name: str, layer: dict[str, Any], arrays: list[np.ndarray], vector: RowVector) -> RowVector:
    """After one layer."""
    kind, activation = layer["type"], layer.get("activation") or "linear"
    recurrent = kind in ("lstm", "gru")
    known = ("linear", "tanh") if recurrent else ACTIVATIONS
    if activation not in known:
        raise ModelError(f"{name}: activation {quoted(activation)}, but only {', '.join(known)} can run")
    if recurrent:
        after = passed(vector, keras_stage(name, kind, arrays[0], arrays[1], arrays[2]))
    elif kind in DENSE:
        kernel, bias = arrays
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            shapes = f"{kernel.shape} and {bias.shape}"
            raise ModelError(f"{name}: expected weights (inputs, units) and (units,), found {shapes}")
        after = passed(vector, Stage(name, Dense(kernel.T, bias, activation)))
    elif kind == "batchnorm":
        gamma, beta, mean, variance = (array.astype(np.float64).ravel() for array in arrays)
        epsilon = layer.get("epsilon", 1e-3)
        if type(epsilon) not in (int, float) or not (variance + epsilon > 0).all():
            raise ModelError(
                f"{name}: epsilon {quoted(epsilon)}, expected a number that makes variances positive"
            )
        scale = gamma / np.sqrt(variance + epsilon)
        after = scaled(vector, name, scale, beta - mean * scale)
    elif kind == "prelu":
        slopes = arrays[0].ravel()
        if (slopes != slopes[0]).any():
            raise ModelError(f"{name}: has a slope for each unit, which no activation here has")
        after = activated(vector, name, say_activation("leaky_relu", float(slopes[0])))
    else:
        after = activated(vector, name, activation)
    declared = layer.get("shape")
    if isinstance(declared, list) and declared and declared[-1] != after.width:
        raise ModelError(
            f'{name}: "shape" says {quoted(declared[-1])} units, its weights are those of {after.width}'
        )
    return after

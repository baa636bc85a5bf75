"""The table of Keras's layers: what each that can be run does to a row, and why the others cannot be."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from streamrnn.foreign.keras.activations import activation_of
from streamrnn.foreign.keras.archive import Archive
from streamrnn.foreign.keras.calls import Given, LayerSettings, inner_layer
from streamrnn.foreign.keras.recurrent import KEYS, read_recurrent, read_rnn
from streamrnn.foreign.keras.shaping import (
    read_concatenate,
    read_flatten,
    read_get_item,
    read_input,
    read_reshape,
)
from streamrnn.foreign.keras.values import (
    DTYPES,
    Context,
    Value,
    alike,
    check_axis,
    check_settings,
    constant,
    dtype_of,
    number_of,
    numbers_of,
    one_input,
    take_weights,
    unlike_units,
    weight_names,
)
from streamrnn.foreign.network import Stage
from streamrnn.foreign.vectors import activated, passed, scaled, summed
from streamrnn.model.activations import say_activation
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

EPSILON = 1e-7  # keras.backend.epsilon(), the least deviation that Normalization divides by


def read_layer(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """What ``layer`` gives. Raises ModelError naming each setting of it that cannot be run."""
    row = check_layer(layer)
    if (dtype := dtype_of(layer.config)) != DTYPES[0]:
        context.notes.append(f"{layer} computes in {quoted(dtype)}, here in float32")
    if said := {key: value for key, value in given.named.items() if key != "initial_state"}:
        raise ModelError(f"{layer}: called with {quoted(said)}, expected its input alone")
    return row.read(context, layer, given)


def check_layer(layer: LayerSettings) -> "Row":
    """The row of a layer. Raises ModelError if it has none, or for settings that cannot be run."""
    if layer.kind in REFUSED:
        raise ModelError(f"{layer}: {REFUSED[layer.kind]}")
    row = TABLE.get(layer.kind)
    if row is None:
        if layer.kind.endswith("Cell"):
            raise ModelError(f"{layer}: a cell outside of RNN")
        raise ModelError(f"{layer}: cannot be run; of Keras's layers only {', '.join(TABLE)} can")
    check_settings(layer, row.keys)
    return row


# what can be run


def _nothing(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """A layer that only trains."""
    return given.values


def _masking(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = quoted(layer.config.get("mask_value", 0.0))
    context.notes.append(f"{layer}: a row of {value} alone was passed over; here it is a row as any other")
    return given.values


def _dense(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = one_input(layer, given)
    weights = take_weights(context, layer)
    kernel = weights["kernel"]
    if kernel.ndim != 2 or kernel.shape[1] != layer.config.get("units"):
        raise unlike_units(layer, kernel)
    activation = activation_of(layer, "activation", context.archive.version, vectors=True)
    bias = weights.get("bias", np.zeros(kernel.shape[1], np.float32))
    return [value._replace(vector=passed(value.given, Stage(layer.name, Dense(kernel.T, bias, activation))))]


def _time_distributed(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    inner = inner_layer(layer, "layer")
    if inner.kind not in BY_ROW:
        raise ModelError(f"{layer}: around {inner.kind}, which cannot be run")
    return read_layer(context, inner, given)


def _activation(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = one_input(layer, given)
    said = activation_of(layer, "activation", context.archive.version, vectors=True)
    return [value._replace(vector=activated(value.given, layer.name, said))]


def _layer_of_activation(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """A layer that is an activation by its class."""
    value = one_input(layer, given)
    said = activation_of(layer, "", context.archive.version, vectors=True)
    return [value._replace(vector=activated(value.given, layer.name, said))]


def _normalization(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """It gives (x - mean) / max(sqrt(variance), EPSILON), or inverted, x * max(...) + mean."""
    value = one_input(layer, given)
    if layer.config.get("axis", -1) not in (-1, 2, None, [-1], [2], []):
        raise ModelError(f"{layer}: axis {quoted(layer.config['axis'])}, expected -1, the channels")
    mean, variance = (values.ravel() for values in normalization(context.archive, layer))
    std = np.maximum(np.sqrt(variance), EPSILON)
    factors = (std, mean) if layer.config.get("invert") else (1 / std, -mean / std)
    return [value._replace(vector=scaled(value.given, str(layer), *factors))]


def normalization(archive: Archive, layer: LayerSettings) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance of a Normalization layer, float64, in the shapes that the file has."""
    given: list[Any] = [layer.config.get(key) for key in ("mean", "variance")]
    if any(values is None for values in given):
        given = [*archive.take(layer, weight_names(layer))[:2]]
    try:
        mean, variance = (np.asarray(values, np.float64) for values in given)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{layer}: mean and variance {quoted(given)}, expected numbers") from error
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
        raise ModelError(f"{layer}: mean and variance {quoted(given)}, expected finite ones")
    return mean, variance


def _batch_normalization(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """(x - moving_mean) / sqrt(moving_variance + epsilon) * gamma + beta."""
    value = one_input(layer, given)
    check_axis(layer, value)
    weights = {name: array.astype(np.float64) for name, array in take_weights(context, layer).items()}
    variance = weights["moving_variance"] + number_of(layer, "epsilon", 1e-3)
    if not (variance > 0).all():
        raise ModelError(f"{layer}: moving_variance has values below 0")
    scale = weights.get("gamma", 1.0) / np.sqrt(variance)
    shift = weights.get("beta", 0.0) - weights["moving_mean"] * scale
    return [value._replace(vector=scaled(value.given, str(layer), scale, shift))]


def _layer_normalization(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = one_input(layer, given)
    check_axis(layer, value)
    weights = take_weights(context, layer)
    said = say_activation("layer_norm", number_of(layer, "epsilon", 1e-3))
    vector = activated(value.given, layer.name, said)
    scale, shift = weights.get("gamma", 1.0), weights.get("beta", 0.0)
    return [value._replace(vector=scaled(vector, str(layer), scale, shift))]


def _rescaling(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = one_input(layer, given)
    scale, offset = (numbers_of(layer, key, usual) for key, usual in (("scale", 1.0), ("offset", 0.0)))
    return [value._replace(vector=scaled(value.given, str(layer), scale, offset))]


def _sum(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """Add, Subtract and Average, and + and - of what is not a layer."""
    if len(given.values) == 1 and len(given.constants) == 1:  # x + 1
        value, number = given.values[0], constant(layer, given)
        return [
            value._replace(vector=scaled(value.given, str(layer), 1.0, number * SIGNS.get(layer.kind, 1)))
        ]
    value, vectors = alike(layer, given)
    if layer.kind == "Subtract":
        vectors = [vectors[0], *(scaled(vector, str(layer), -1.0) for vector in vectors[1:])]
    vector = summed(layer.name, vectors)
    if layer.kind == "Average":
        vector = scaled(vector, str(layer), 1 / len(vectors))
    return [value._replace(vector=vector)]


SIGNS = {"Subtract": -1}


def _product(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """Multiply and divide by a number."""
    if len(given.values) != 1 or len(given.constants) != 1:
        raise ModelError(f"{layer}: a product of two vectors, as attention has it, cannot be run")
    value, number = given.values[0], constant(layer, given)
    if layer.kind != "Multiply" and not number:
        raise ModelError(f"{layer}: divides by 0")
    return [
        value._replace(
            vector=scaled(value.given, str(layer), number if layer.kind == "Multiply" else 1 / number)
        )
    ]


class Row(NamedTuple):
    """A layer that can be run: what it does, and the settings that this goes by."""

    read: Callable[[Context, LayerSettings, Given], list[Value]]
    keys: tuple[str, ...] = ()


TABLE = {
    "InputLayer": Row(read_input, ("batch_shape", "sparse", "ragged", "optional")),
    "LSTM": Row(read_recurrent, KEYS["LSTM"]),
    "GRU": Row(read_recurrent, KEYS["GRU"]),
    "SimpleRNN": Row(read_recurrent, KEYS["SimpleRNN"]),
    "RNN": Row(read_rnn, ("cell",)),
    "Dense": Row(_dense, ("activation", "use_bias")),
    "TimeDistributed": Row(_time_distributed, ("layer",)),
    "Normalization": Row(_normalization, ("axis", "mean", "variance", "invert")),
    "BatchNormalization": Row(_batch_normalization, ("axis", "epsilon", "center", "scale")),
    "LayerNormalization": Row(_layer_normalization, ("axis", "epsilon", "center", "scale")),
    "Rescaling": Row(_rescaling, ("scale", "offset")),
    "Activation": Row(_activation, ("activation",)),
    "ReLU": Row(_layer_of_activation, ("max_value", "negative_slope", "threshold")),
    "LeakyReLU": Row(_layer_of_activation, ("alpha", "negative_slope")),
    "ELU": Row(_layer_of_activation, ("alpha",)),
    "ThresholdedReLU": Row(_layer_of_activation, ("theta",)),
    "Softmax": Row(_layer_of_activation, ("axis",)),
    "Reshape": Row(read_reshape, ("target_shape",)),
    "Flatten": Row(read_flatten, ("data_format",)),
    "Add": Row(_sum),
    "Subtract": Row(_sum),
    "Average": Row(_sum),
    "Multiply": Row(_product),
    "Divide": Row(_product),
    "TrueDivide": Row(_product),
    "Concatenate": Row(read_concatenate, ("axis",)),
    "GetItem": Row(read_get_item),
    "Masking": Row(_masking, ("mask_value",)),
    **dict.fromkeys(
        (
            "Dropout",
            "SpatialDropout1D",
            "GaussianDropout",
            "GaussianNoise",
            "AlphaDropout",
            "ActivityRegularization",
        ),
        Row(_nothing, ("alpha",)),
    ),
}
BY_ROW = (
    "Dense",
    "Activation",
    "BatchNormalization",
    "LayerNormalization",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Dropout",
)

_WINDOW_END = "would need the end of a window before it begins, and a stream has none"
_SEVERAL_ROWS = "sees several rows at once, and a step of a stream sees one; its state does not hold them"
REFUSED = {
    "Bidirectional": f"its second direction {_WINDOW_END}",
    "RepeatVector": f"what follows {_WINDOW_END}: an autoencoder or a decoder; train one here with "
    "`streamrnn train --relation encoder-decoder`",
    "Lambda": "is code, which is not run; write it with layers of Keras",
    **dict.fromkeys(
        ("Conv1D", "SeparableConv1D", "DepthwiseConv1D", "ConvLSTM1D", "ConvLSTM2D", "Conv2D"), _SEVERAL_ROWS
    ),
    **dict.fromkeys(
        ("MaxPooling1D", "AveragePooling1D", "GlobalAveragePooling1D", "GlobalMaxPooling1D"), _SEVERAL_ROWS
    ),
    **dict.fromkeys(("Attention", "AdditiveAttention", "MultiHeadAttention"), _SEVERAL_ROWS),
    "Embedding": "takes the numbers of tokens, and what comes in are values",
    "Permute": "has channels take the place of rows, which come one by one",
    "ZeroPadding1D": _SEVERAL_ROWS,
    "PReLU": "has a slope for each unit, which no activation here has; train it with LeakyReLU",
}

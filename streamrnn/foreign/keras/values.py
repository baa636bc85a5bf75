"""What Keras's layers are given and give, and what their settings and weights are checked for."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from streamrnn.foreign.keras.archive import Archive
from streamrnn.foreign.keras.calls import Given, LayerSettings
from streamrnn.foreign.vectors import RowVector
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

# what a layer is set to that its answers do not hang on, or that its weights carry already
HARMLESS = re.compile(
    r"name|trainable|dtype|units|batch_shape|batch_input_shape|input_shape|input_dim|input_length|rate|stddev"
    r"|noise_shape|seed|dropout|recurrent_dropout|stateful|unroll|implementation|return_sequences|l1|l2"
    r"|unit_forget_bias|zero_output_for_mask|return_state|momentum|synchronized|renorm\w*|supports_masking"
    r"|\w+_(initializer|regularizer|constraint)"
)
DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
# the weights of a layer, in order; those in OFF are only there where its setting is not off
WEIGHTS = {
    **dict.fromkeys(CELLS, ("kernel", "recurrent_kernel", "bias")),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "Normalization": ("mean", "variance", "count"),
}
OFF = {"bias": "use_bias", "gamma": "scale", "beta": "center"}

MOST = 1 << 20  # of an input's sizes


ROWS, LAST, AHEAD, FLAT, STATE = "rows", "last", "ahead", "flat", "state"


class Value(NamedTuple):
    """What a layer gives.

    ``axes`` is ROWS, of each row of a sequence; LAST, once for all of it; AHEAD, that as ``size`` rows; FLAT,
    what comes in without an axis of channels, ``size`` values; STATE, what a recurrent layer keeps.
    """

    vector: RowVector | None
    axes: str
    size: int = 0

    @property
    def given(self) -> RowVector:
        assert self.vector is not None
        return self.vector


@dataclass
class Context:
    """What reading one file goes by, and what comes of it besides."""

    archive: Archive
    inputs: dict[str, RowVector]  # what goes into the input layers of rows
    notes: list[str] = field(default_factory=list)
    rows: int | None = None  # of its input, where that is fixed
    states: list[str] = field(default_factory=list)  # the layers that take states from outside
    remembers: list[str] = field(default_factory=list)  # the stateful layers
    last: str = ""  # the last recurrent layer that answers once


def check_settings(layer: LayerSettings, read: tuple[str, ...]) -> None:
    """Raise ModelError naming each setting that is neither in ``read`` nor harmless, and not off."""
    problems = [
        f"{layer}: {quoted(key)[1:-1]} {quoted(value)} cannot be run"
        for key, value in layer.config.items()
        if value not in (None, False) and key not in read and not HARMLESS.fullmatch(key)
    ]
    dtype = dtype_of(layer.config)
    if dtype not in DTYPES:
        problems.append(f"{layer}: dtype {quoted(dtype)} cannot be run, only {' or '.join(DTYPES)}")
    if problems:
        raise ModelError(*problems)


def dtype_of(config: dict[str, Any]) -> Any:
    """The name of a layer's policy, which is a text or a policy's own settings."""
    dtype = config.get("dtype") or DTYPES[0]
    if not isinstance(dtype, dict) or not isinstance(dtype.get("config"), dict):
        return dtype
    return dtype["config"].get("name", dtype.get("class_name"))


def weight_names(layer: LayerSettings) -> list[str]:
    """The weights that a layer has."""
    names = WEIGHTS.get(layer.kind.removesuffix("Cell"), ())
    return [name for name in names if name not in OFF or layer.config.get(OFF[name], True) is True]


def take_weights(context: Context, layer: LayerSettings) -> dict[str, np.ndarray]:
    names = weight_names(layer)
    return dict(zip(names, context.archive.take(layer, names), strict=True))


def one_input(layer: LayerSettings, given: Given) -> Value:
    """The one thing that a layer takes."""
    if len(given.values) != 1 or given.constants:
        raise ModelError(f"{layer}: takes {len(given.values)} inputs, expected one")
    value: Value = given.values[0]
    if value.vector is None or value.axes == AHEAD:
        what = "rows ahead" if value.axes == AHEAD else "no rows of channels"
        raise ModelError(f"{layer}: takes {what}, which cannot be run")
    return value._replace(axes=LAST) if value.axes == STATE else value  # the state after the last row


def alike(layer: LayerSettings, given: Given) -> tuple[Value, list[RowVector]]:
    """What a layer merges, all for each row or all once; the state that a layer leaves is as its last row."""
    axes = {LAST if value.axes == STATE else value.axes for value in given.values}
    if len(axes) != 1 or any(value.vector is None for value in given.values) or given.constants:
        raise ModelError(f"{layer}: merges what comes for each row with what comes once, or what are no rows")
    first = given.values[0]._replace(axes=axes.pop())
    return first, [value.given for value in given.values]


def constant(layer: LayerSettings, given: Given) -> float:
    [number] = given.constants
    if type(number) not in (int, float):
        raise ModelError(f"{layer}: with {quoted(number)}, expected a number")
    return float(number)


def number_of(layer: LayerSettings, key: str, usual: float) -> float:
    number = layer.config.get(key, usual)
    if type(number) not in (int, float) or not math.isfinite(number):
        raise ModelError(f"{layer}: {key} {quoted(number)}, expected a number")
    return float(number)


def numbers_of(layer: LayerSettings, key: str, usual: float) -> np.ndarray:
    try:
        return np.asarray(layer.config.get(key, usual), np.float64).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{layer}: {key} {quoted(layer.config[key])}, expected numbers") from error


def unlike_units(layer: LayerSettings, weights: np.ndarray) -> ModelError:
    units = quoted(layer.config.get("units"))
    return ModelError(f"{layer}: units {units} do not fit weights of shape {weights.shape}")


def check_axis(layer: LayerSettings, value: Value) -> None:
    last = 2 if value.axes == ROWS else 1
    if layer.config.get("axis", -1) not in (-1, last, [-1], [last]):
        raise ModelError(f"{layer}: axis {quoted(layer.config['axis'])}, expected -1, the channels")

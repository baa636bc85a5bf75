"""Keras's own layers with a file's settings and weights, for the self-check.

Keras loads nothing of the file: its loader would import and make whatever the settings name.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.foreign.keras.activations import HARD_SIGMOID, activation_of
from streamrnn.foreign.keras.archive import Archive, open_archive
from streamrnn.foreign.keras.calls import Given, LayerSettings, cells_within, inner_layer, input_layers, run
from streamrnn.foreign.keras.layers import TABLE, normalization
from streamrnn.foreign.keras.shaping import input_shape
from streamrnn.foreign.keras.values import CELLS, WEIGHTS, weight_names
from streamrnn.foreign.network import Foreign, Witness

BACKENDS = ("jax", "torch", "tensorflow")  # the quickest over a long sequence first
PASSED_ON = ("Masking", "ActivityRegularization")  # beside those that have a rate


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """Keras's layers, called as the file says, in float32; None without Keras or a backend."""
    backend = os.environ.get("KERAS_BACKEND") or next(filter(_is_installed, BACKENDS), None)
    if backend is None or not _is_installed("keras"):
        return None
    os.environ["KERAS_BACKEND"] = backend
    keras: Any = importlib.import_module("keras")
    archive = open_archive(path)
    shapes = {layer.name: input_shape(layer) for layer in input_layers(archive.config)}
    flat = all(len(shape) == 2 for shape in shapes.values())
    made: dict[tuple[str, str], Any] = {}

    def answers(sequences: np.ndarray) -> np.ndarray:
        batch, start, inputs = len(sequences), 0, dict[str, np.ndarray]()
        for name, shape in shapes.items():
            width = shape[-1] or 0
            if len(shape) == 3:
                inputs[name] = sequences[:, :, start : start + width]
                start += width
            else:
                inputs[name] = sequences.reshape(batch, -1) if flat else np.zeros((batch, width), np.float32)

        def apply(layer: LayerSettings, given: Given) -> list[Any]:
            if layer.kind == "InputLayer":
                return [inputs[layer.name]]
            return _called(keras, archive, made, layer, given)

        outputs = [np.asarray(keras.ops.convert_to_numpy(one)) for one in run(archive.config, apply)]
        rank = outputs[0].ndim
        whole = np.concatenate([one for one in outputs if one.ndim == rank][: _heads(foreign, outputs)], -1)
        return whole.reshape(batch, -1 if rank == 3 and foreign.horizon == 1 else 1, len(foreign.head_bias))

    return Witness(answers, foreign.window if flat else None)


def _heads(foreign: Foreign, outputs: list[np.ndarray]) -> int:
    """How many of the outputs, states behind them, make up the network's."""
    widths = np.cumsum([output.shape[-1] if foreign.horizon == 1 else output[0].size for output in outputs])
    return int(np.searchsorted(widths, len(foreign.head_bias))) + 1


def _called(
    keras: Any, archive: Archive, made: dict[tuple[str, str], Any], layer: LayerSettings, given: Given
) -> list[Any]:
    """What one layer gives, an array for each output."""
    kind = layer.kind.removesuffix("Cell")
    if "rate" in layer.config or "stddev" in layer.config or kind in PASSED_ON:
        return given.values
    if kind == "TimeDistributed":
        return _called(keras, archive, made, inner_layer(layer, "layer"), given)
    if kind == "RNN":
        value = given.values[0]
        cells = cells_within(layer)
        for k, cell in enumerate(cells):
            last = cell is cells[-1] and not layer.config.get("return_sequences")
            value = _layer(keras, archive, made, cell, value, f"{k}", return_sequences=not last)(value)
        return [value]
    if kind == "GetItem":
        cuts = given.constants[0]
        return [given.values[0][tuple(cuts) if isinstance(cuts, list) else cuts]]
    if given.constants:
        number = given.constants[0]
        operations: dict[str, Callable[[Any], Any]] = {
            "Add": lambda x: x + number,
            "Subtract": lambda x: x - number,
            "Multiply": lambda x: x * number,
        }
        return [operations.get(kind, lambda x: x / number)(given.values[0])]
    if kind in CELLS:
        inner = layer._replace(path=f"{layer.path}/cell")
        value, *states = given.values + given.named.get("initial_state", [])
        keys = {key: bool(layer.config.get(key)) for key in ("return_sequences", "return_state")}
        call = _layer(keras, archive, made, inner, value, "", **keys)
        found = call(value, initial_state=states if len(states) > 1 else states[0]) if states else call(value)
        return list(found) if keys["return_state"] else [found]
    takes = given.values if len(given.values) > 1 else given.values[0]
    return [_layer(keras, archive, made, layer, given.values[0], "")(takes)]


def _layer(
    keras: Any,
    archive: Archive,
    made: dict[tuple[str, str], Any],
    layer: LayerSettings,
    value: Any,
    number: str,
    **keys: Any,
) -> Any:
    """A layer of Keras, of settings that ``read`` has checked; made once."""
    key = layer.path, number
    if key in made:
        return made[key]
    kind = layer.kind.removesuffix("Cell")
    make = getattr(keras.layers, kind)
    if kind == "Normalization":
        mean, variance = normalization(archive, layer)
        made[key] = make(
            layer.config.get("axis", -1), mean, variance, bool(layer.config.get("invert")), dtype="float32"
        )
        return made[key]
    keys |= {name: layer.config[name] for name in ("units", *TABLE[kind].keys) if name in layer.config}
    keys = {name: value for name, value in keys.items() if value is not None}
    keys |= {name: _activation(keras, archive, layer, name) for name in keys if name.endswith("activation")}
    if "axis" in keys:
        keys["axis"] = -1
    if kind == "LeakyReLU" and "alpha" in keys:
        keys["negative_slope"] = keys.pop("alpha")
    made[key] = make(**keys, dtype="float32")
    if kind in WEIGHTS:
        made[key].build(value.shape)
        made[key].set_weights(archive.take(layer, weight_names(layer)))
    return made[key]


def _activation(keras: Any, archive: Archive, layer: LayerSettings, key: str) -> Any:
    """An activation that ``read`` has checked: Keras's own of that name or class."""
    found = layer.config[key]
    if isinstance(found, dict) and found.get("class_name") == "function":
        found = found["config"]
    if isinstance(found, dict):
        settings = {name: value for name, value in found["config"].items() if type(value) in (int, float)}
        if "alpha" in settings and found["class_name"] == "LeakyReLU":
            settings["negative_slope"] = settings.pop("alpha")
        return getattr(keras.layers, found["class_name"])(**settings)
    if activation_of(layer, key, archive.version, vectors=True) == HARD_SIGMOID[2]:
        return lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)
    return found


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

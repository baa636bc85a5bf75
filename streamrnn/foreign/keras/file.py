"""Keras files, ``.keras`` and ``.h5``: Sequential models, and Functional ones without branches."""

import importlib
import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.foreign.chain import join
from streamrnn.foreign.keras.archive import Archive, open_archive
from streamrnn.foreign.keras.layers import (
    CELLS,
    PASSED_OVER,
    LayerSettings,
    normalization,
    ordered,
    read_layers,
    take_weights,
    unwrapped,
)
from streamrnn.foreign.network import GOES_ON, Foreign, ImportOptions, Witness
from streamrnn.model.stated import quoted

BACKENDS = ("jax", "torch", "tensorflow")  # the quickest over a long sequence first


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the Keras file at ``path``.

    Raises ModelError naming every layer, setting and weight that cannot be used, UserError without h5py.
    """
    archive = open_archive(path)
    parts, notes, once = read_layers(archive)
    window = _fixed_rows(archive.config)
    if once:
        said = f"layer {quoted(once)} was trained to answer once per sequence (return_sequences false)"
        goes_on = "" if window else f", and {GOES_ON}"
        notes.append(f"{said}; here every row is answered{goes_on}")
    elif window > 1:
        said = f"the file is of windows of {window} rows, each from a state of zeros"
        notes.append(f"{said}, of which it answers every row; here {GOES_ON}")
    return replace(join("Keras", parts, notes), window=window if once else 0)


def _fixed_rows(model: dict[str, Any]) -> int:
    """The rows that a network sees at a time, if its input is fixed to them and no state goes on; else 0."""
    layers = ordered(model)
    if any(settings.config.get("stateful") for settings in layers):
        return 0
    for settings in layers:
        shape = settings.config.get("batch_shape") or settings.config.get("batch_input_shape")
        if isinstance(shape, list) and len(shape) == 3 and type(shape[1]) is int:
            return max(shape[1], 0)
    return 0


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """Keras's own layers with the file's settings and weights, in float32; None without it or a backend.

    Keras loads nothing of the file: its loader would import and make whatever the settings name.
    """
    backend = os.environ.get("KERAS_BACKEND") or next(filter(_is_installed, BACKENDS), None)
    if backend is None or not _is_installed("keras"):
        return None
    os.environ["KERAS_BACKEND"] = backend
    keras: Any = importlib.import_module("keras")
    archive = open_archive(path)
    layers = [
        _made(keras, inner, archive)
        for settings in ordered(archive.config)
        if settings.kind not in PASSED_OVER
        for inner in unwrapped(settings)
        if inner.kind not in PASSED_OVER
    ]

    def run(rows: np.ndarray) -> np.ndarray:
        values = rows[np.newaxis]  # (1, n, C)
        for layer in layers:
            values = layer(values)
        return np.asarray(keras.ops.convert_to_numpy(values))[0]

    return run


def _made(keras: Any, layer: LayerSettings, archive: Archive) -> Any:
    """A layer of Keras, or one in place of a cell, of settings that ``read`` has checked."""
    kind, config = layer.kind.removesuffix("Cell"), layer.config
    make = getattr(keras.layers, kind)
    if kind == "Normalization":
        mean, variance = normalization(layer, archive)
        return make(config.get("axis", -1), mean, variance, bool(config.get("invert")), dtype="float32")
    kept: dict[str, Any] = {"activation": config.get("activation", "linear"), "dtype": "float32"}
    if kind == "Activation":
        return make(**kept)
    kept |= {"units": int(config["units"]), "use_bias": config.get("use_bias", True) is True}
    names = ["kernel", "bias"]
    if kind in CELLS:
        kept["return_sequences"] = True
        names.insert(1, "recurrent_kernel")
    if kind == "GRU":
        kept["reset_after"] = bool(config.get("reset_after", False))
    weights = take_weights(layer, archive, names)
    made = make(**kept)
    made.build((1, None, len(weights[0])))
    made.set_weights(weights)
    return made


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

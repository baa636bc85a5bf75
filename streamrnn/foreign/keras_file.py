"""Keras files, ``.keras`` and ``.h5``: Sequential models, and Functional ones without branches."""

import importlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.foreign.chain import join
from streamrnn.foreign.keras_archive import ZIP_MAGIC, open_archive
from streamrnn.foreign.keras_layers import read_layers
from streamrnn.foreign.network import Foreign, ImportOptions, Witness

BACKENDS = ("jax", "torch", "tensorflow")  # the quickest over a long sequence first


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the Keras file at ``path``.

    Raises ModelError naming every layer, setting and weight that cannot be used, UserError without h5py.
    """
    parts, notes = read_layers(open_archive(path))
    return join("Keras", parts, notes)


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """Keras itself, which runs the file's layers in float32; None without it, or without a backend for it.

    The layers are called one by one, with sequences of any length, and the last one answers every row.
    """
    backend = os.environ.get("KERAS_BACKEND") or next(filter(_is_installed, BACKENDS), None)
    if backend is None or not _is_installed("keras"):
        return None
    os.environ["KERAS_BACKEND"] = backend
    keras: Any = importlib.import_module("keras")
    with tempfile.TemporaryDirectory() as folder, path.open("rb") as file:
        # Keras goes by the ending of the name
        kind = "keras" if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC else "h5"
        copy = shutil.copyfile(path, Path(folder) / f"model.{kind}")
        model = keras.saving.load_model(copy, compile=False, safe_mode=True)
    for layer in model._flatten_layers():  # with those in wrappers
        layer.dtype_policy = "float32"

    def run(rows: np.ndarray) -> np.ndarray:
        values = rows[np.newaxis]  # (1, n, C)
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            for setting, value in {"return_sequences": True, "stateful": False, "unroll": False}.items():
                if hasattr(layer, setting):
                    setattr(layer, setting, value)
            values = layer(values)
        return np.asarray(keras.ops.convert_to_numpy(values))[0]

    return run


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

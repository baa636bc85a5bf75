"""A Keras file apart from what its layers mean: their settings as JSON, and the weights of each.

``.keras`` is a zip of ``config.json`` and ``model.weights.h5``, where a layer's weights stand under its
class, numbered (keras/src/saving/saving_lib.py); ``.h5`` is HDF5 with the settings as an attribute and the
weights under the layer's own name (keras/src/legacy/saving/legacy_h5_format.py).
"""

import io
import json
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.foreign.hdf5 import REMEDY, TEXT, VERSION, read_hdf5
from streamrnn.foreign.keras.calls import LayerSettings
from streamrnn.foreign.network import numbers
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

ZIP_MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LONGEST_CONFIG = 16 << 20  # bytes
LARGEST_WEIGHTS = 1 << 30
LARGEST_DIRECTORY = 4 << 20  # of a zip: the list of what is in it, some 80 bytes for each
MOST_EXPANSION = 4  # of a member beyond 1 MiB; Keras packs nothing


class Directory(io.FileIO):
    """A zip whose directory, which zipfile reads at once and whole, is not too long to be read."""

    most = LARGEST_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        asked = self.most + 1 if size is None or size < 0 else min(size, self.most + 1)
        read = super().read(asked) or b""
        if len(read) > self.most:
            raise zipfile.BadZipFile(f"its directory is longer than {self.most:,} bytes")
        return read


@dataclass
class Archive:
    """What a Keras file holds: ``config`` of the model, and its weights by their paths."""

    config: Any
    weights: dict[str, np.ndarray]
    by_name: bool  # a layer's weights stand under its name (.h5), else under its class and number
    version: str = ""  # of the Keras that wrote it; "" = not said
    used: set[str] = field(default_factory=set)

    def take(self, layer: LayerSettings, names: list[str]) -> list[np.ndarray]:
        """The weights called ``names`` of one layer, as float32. Raises ModelError naming those missing."""
        found, missing = [], []
        for k, name in enumerate(names):
            at = self._find(layer, name) if self.by_name else f"layers/{layer.path}/vars/{k}"
            if at in self.weights:
                self.used.add(at)
                found.append(self.weights[at] if name == "count" else numbers(at, self.weights[at]))
            else:
                missing.append(f"{at}: missing, the {name} of layer {quoted(layer.name)}")
        if missing:
            raise ModelError(*missing)
        return found

    def unused(self) -> list[str]:
        """The paths of all weights that no layer took; the state of random generators does not count."""
        return sorted(
            path
            for path in self.weights.keys() - self.used
            if not {"seed_generator", "seed_generator_state"} & set(path.split("/"))
        )

    def _find(self, layer: LayerSettings, name: str) -> str:
        """Where a weight of a .h5 is: ``model_weights/LAYER/.../NAME``; Keras 2 ends it with ``:0``.

        A layer of a model within another stands under the name of that.
        """
        group = layer.group or layer.name
        start = f"model_weights/{group}/"
        places = [
            path
            for path in self.weights
            if path.startswith(start)
            and path.split("/")[-1].removesuffix(":0") == name
            and (not layer.cell or path.split("/")[-2] == layer.cell)
            and (group == layer.name or layer.name in path.split("/")[2:-1])
        ]
        if len(places) > 1:
            raise ModelError(
                f"layer {quoted(layer.name)}: several weights are called {name}: {quoted(places)}"
            )
        return places[0] if places else f"{start}{layer.cell and layer.cell + '/'}{name}"


def open_archive(path: Path) -> Archive:
    """The Keras file at ``path``. Raises ModelError for a file that is not one, or not whole."""
    with path.open("rb") as file:
        zipped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if zipped:
        config, metadata, content = _unzip(path)
        said = _parse(metadata, METADATA) if metadata else {}
        version = said.get(VERSION) if isinstance(said, dict) else ""
        return Archive(_parse(config, CONFIG), read_hdf5(content), False, str(version or ""))
    weights = read_hdf5(path.read_bytes())
    if TEXT not in weights:
        raise ModelError(f"{TEXT}: missing, so this file holds weights without their layers; {REMEDY}")
    text, version = (weights.pop(key, np.zeros(0, np.uint8)).tobytes() for key in (TEXT, VERSION))
    return Archive(_parse(text, TEXT), weights, True, version.decode(errors="replace"))


def _unzip(path: Path) -> tuple[bytes, bytes, bytes]:
    """``config.json``, ``metadata.json`` and ``model.weights.h5``, none larger than it can honestly be.

    Without the second it is empty.
    """
    try:
        with Directory(path) as file, zipfile.ZipFile(file) as archive:
            file.most = max(LONGEST_CONFIG, LARGEST_WEIGHTS)
            names = Counter(archive.namelist())
            if problems := [
                f"{name}: {'more than once' if names[name] else 'not'} in the file; save it anew with Keras"
                for name in (CONFIG, WEIGHTS)
                if names[name] != 1
            ]:
                raise ModelError(*problems)
            metadata = _member(archive, METADATA, LONGEST_CONFIG) if names[METADATA] == 1 else b""
            return (
                _member(archive, CONFIG, LONGEST_CONFIG),
                metadata,
                _member(archive, WEIGHTS, LARGEST_WEIGHTS),
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        # OSError: a place in front of the file
        # RuntimeError and its NotImplementedError: encrypted, or packed in a way unknown to zipfile
        raise ModelError(f"not a whole .keras file ({quoted(str(error))})") from error


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(f"{name}: packed by method {info.compress_type}; save it anew with Keras")
    if info.file_size > most or info.file_size > max(1 << 20, MOST_EXPANSION * info.compress_size):
        raise ModelError(
            f"{name}: says that it is {info.file_size:,} bytes, packed in {info.compress_size:,}; "
            "save it anew with Keras"
        )
    return archive.read(info)


def _parse(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: not valid JSON ({error})") from error

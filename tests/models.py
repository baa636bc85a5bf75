"""Seeded, untrained models for tests, and model files taken apart and put together by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from streamrnn.model import cells
from streamrnn.model.model import Model, random_model

CELLS = [(cell.name, cell.activation) for cell in cells.CELLS if cell.reset == "after"]  # that can be trained
# cell, activation, layers: every kind of step there is
ARCHITECTURES = [(*cell, layers) for cell in CELLS for layers in ((1, 3) if cell[0] == "gru" else (1, 2))]

# what a network can have beside its cell
ADDED = {
    "before": [{"units": 20, "activation": "tanh"}, {"units": 5, "activation": "sigmoid"}],
    "after": [{"units": 18, "activation": "relu"}, {"units": 3, "activation": "linear"}],
    "highway": 4,
}

# what layers of several kinds can have, and what can stand around them
LAYERED = {
    "cell": "mixed",
    "layers": 4,
    "cells": [
        {"cell": "lstm", "activation": "relu", "recurrent_activation": "hard_sigmoid"},
        {"cell": "gru", "reset": "before"},
        {"cell": "gru", "activation": "softsign", "recurrent_activation": "hard_sigmoid(0.16666667, 0.5)"},
        {"cell": "lstm", "output_activation": "elu(0.5)"},
    ],
    "before": [{"units": 20, "activation": "gelu"}, {"units": 7, "activation": "layer_norm(0.001)"}],
    "between": [
        [{"units": 18, "activation": "silu"}, {"units": 5, "activation": "softmax"}],
        [],
        [{"units": 7, "activation": "leaky_relu(0.3)"}],
    ],
    "after": [{"units": 3, "activation": "log_softmax"}],
    "skips": [[0, 4], [1, 3], [2, 5], [3, 5]],
}

# other relations than sequence to sequence, for ``untrained``
VALUES = [{"name": "y0", "unit": "bar"}, {"name": "y1"}]
RELATIONS = {
    "sequence-to-vector": {"relation": "sequence-to-vector", "outputs": VALUES} | ADDED,
    "vector-to-sequence": {"relation": "vector-to-sequence", "outputs": VALUES, "horizon": 4},
    "encoder-decoder": {"relation": "encoder-decoder", "horizon": 3, "outputs": [{"name": "c0"}]},
    "encoder-decoder of values": {
        "relation": "encoder-decoder",
        "horizon": 6,
        "outputs": VALUES,
        "target": "value",
        "ahead": 2,
    },
}


def untrained(
    cell: str = "lstm", channels: int = 3, hidden: int = 5, *, seed: int = 0, **settings: Any
) -> Model:
    """A random model whose scaling is not the identity; keywords as ``random_model``'s."""
    rng = np.random.default_rng(seed + 1)
    mean, std = rng.normal(0, 10, channels), rng.uniform(0.5, 20, channels)
    return random_model(cell, channels, hidden, seed=seed, **{"mean": mean, "std": std} | settings)


def save_parts(path: Path, settings: Any, tensors: dict[str, np.ndarray], **metadata: str) -> Path:
    """A file by the safetensors library's own writer, of settings and tensors that may be wrong."""
    metadata = {"format": "streamrnn/1", "model": json.dumps(settings)} | metadata
    safetensors.numpy.save_file(tensors, path, metadata)
    return path


def save_header(path: Path, header: Any, body: bytes = b"") -> Path:
    """A file of a header, as JSON or as bytes, that may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def load_header(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and the bytes after it."""
    content = path.read_bytes()
    end = 8 + struct.unpack_from("<Q", content)[0]
    return json.loads(content[8:end]), content[end:]

"""Flax's parameters in msgpack, as flax.serialization writes them."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.errors import UserError
from streamrnn.foreign.network import Foreign, ImportOptions, Witness, numbers
from streamrnn.foreign.torch_file import kept, network_of
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

ARRAY = 1  # the extension type of an array: its shape, the name of its dtype, and its bytes
DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "bfloat16": "<u2"}
MOST_ARRAYS, DEEPEST = 10_000, 32


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the msgpack file at ``path``.

    Raises ModelError for a file that is none, UserError without msgpack, OptionsError for --dense, --ignore.
    """
    if importlib.util.find_spec("msgpack") is None:
        raise UserError("msgpack is not installed, which reads Flax's files: pip install msgpack")
    import msgpack

    try:
        content = msgpack.unpackb(path.read_bytes(), ext_hook=_array, strict_map_key=False)
        named = dict(_flat(content, ()))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ModelError(f"not a whole file of Flax ({quoted(str(error))}); save it again") from error
    tensors = {name: numbers(quoted(name), array) for name, array in kept(named, options.ignore).items()}
    if not any(name.split(".")[-1] == "kernel" for name in tensors):
        raise ModelError("msgpack, but not of Flax: none of its arrays is a kernel")
    return network_of("Flax", tensors, options)


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """None: parameters do not say which modules of Flax they are of."""
    return None


def _array(code: int, data: bytes) -> np.ndarray:
    import msgpack

    if code != ARRAY:
        raise ValueError(f"an extension of type {code}")
    shape, name, content = msgpack.unpackb(data)
    if name not in DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of {name} of shape {shape}")
    if len(shape) > 8 or math.prod(shape) * np.dtype(DTYPES[name]).itemsize != len(content):
        raise ValueError(f"shape {shape} does not fit {len(content)} bytes")
    array = np.frombuffer(content, DTYPES[name])
    if name == "bfloat16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)


def _flat(content: Any, above: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Every array in dictionaries of dictionaries, by the keys to it."""
    if isinstance(content, np.ndarray):
        yield ".".join(above), content
    elif isinstance(content, dict) and len(above) < DEEPEST and len(content) <= MOST_ARRAYS:
        if "__msgpack_chunked_array__" in content:
            raise ValueError("an array in chunks, of more than a gigabyte")
        for key, value in content.items():
            yield from _flat(value, (*above, str(key)))
    else:
        raise ValueError(f"{'.'.join(above)}: {type(content).__name__} in place of an array")

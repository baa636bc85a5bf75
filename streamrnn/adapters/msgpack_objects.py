"""msgpack: what ``json_objects`` reads, in bytes; arrays of msgpack-numpy, and bare bytes of a known type."""

from typing import Any

import msgpack
import numpy as np

from streamrnn.adapters.adapter import Harvest, Message, Plan, Rejected
from streamrnn.adapters.dtypes import dtype_of
from streamrnn.adapters.headers import shown
from streamrnn.adapters.objects import ObjectReader

_NUMPY = {b"nd", b"type", b"data"}  # the keys of an array or a number; an array has shape and kind as well


class MsgpackAdapter:
    """Messages of one object of msgpack, or of a topic and one."""

    def __init__(self, plan: Plan):
        self._objects, self._dtype = ObjectReader(plan), dtype_of(plan.dtype)
        self._count = len(plan.channels)

    def read(self, message: Message, harvest: Harvest) -> None:
        topic, payload = self._objects.split(message)
        said = unpacked(payload)
        self._objects.enter(
            self._rows(said) if type(said) is bytes else said, topic, message.came_ns, harvest
        )

    def _rows(self, data: bytes) -> Any:
        """Rows of bare bytes, as JavaScript sends a typed array: of `input.dtype`."""
        row = self._count * self._dtype.itemsize
        if not (row and data) or len(data) % row:
            raise Rejected(
                "channels", f"{len(data)} bytes, {row} a row of {self._count} {self._dtype} wanted"
            )
        return np.frombuffer(data, self._dtype).reshape(-1, self._count).tolist()


def unpacked(payload: bytes) -> Any:
    """What a payload holds. Raises Rejected."""
    try:
        return msgpack.unpackb(
            payload, object_pairs_hook=_mapped, ext_hook=_refuse_extension, strict_map_key=False
        )
    except Rejected:
        raise
    except (ValueError, msgpack.UnpackException, TypeError) as error:  # TypeError: a list as a key
        raise Rejected("syntax", f"no msgpack ({error!s:.60}), it begins with {payload[:20]!r}") from None


def _mapped(pairs: list[tuple[Any, Any]]) -> Any:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Rejected("value", "the same key twice in one map")
    return _of_numpy(found) if found.keys() >= _NUMPY else found


def _of_numpy(said: dict[Any, Any]) -> Any:
    """What msgpack-numpy packed: nested lists, or one number. Objects are pickles there, never looked at."""
    if said.get(b"kind") not in (None, b"", ""):
        raise Rejected("dtype", f"an array of kind {shown(said[b'kind'])}; numbers wanted")
    name, data, shape = said[b"type"], said[b"data"], said.get(b"shape", [])
    dtype = dtype_of(name.decode("latin-1") if isinstance(name, bytes) else name)
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > 2:
        raise Rejected("shape", "an array of more than two dimensions, or without bytes")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise Rejected("shape", f"its shape is {shown(shape)}")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if not data or len(data) != size:  # of nothing there may be any number
        raise Rejected("shape", f"{len(data)} bytes of data, {size} by its shape")
    return np.frombuffer(data, dtype).reshape(shape).tolist()


def _refuse_extension(code: int, data: bytes) -> None:
    raise Rejected("dtype", f"an extension of type {code}; only timestamps are read")

"""Channels as messages show them: names of keys that hold numbers, or c1, c2, ... for values in a row.

What cannot be read is passed over here: who reads it later rejects it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from pydantic_core import from_json

from streamrnn.adapters.adapter import FoundChannels, Message, Plan, Rejected
from streamrnn.adapters.names import is_name
from streamrnn.wire.frame import DTYPES, FRAME

MOST = 4000  # channels: beside other columns, as many as a file may have
_DEEPEST = 8  # keys within keys
_HEAD = FRAME.itemsize


def in_frames(messages: Sequence[Message], plan: Plan) -> FoundChannels | None:
    return _in_a_row(_frame_width(message.parts[-1]) for message in messages)


def in_raw(messages: Sequence[Message], plan: Plan) -> FoundChannels | None:
    """A message is taken for one row."""
    sizes = (len(message.parts[-1]) for message in messages)
    return _in_a_row(0 if size % 4 else size // 4 for size in sizes)


def in_arrays(messages: Sequence[Message], plan: Plan) -> FoundChannels | None:
    """By the shapes in headers."""
    return _in_a_row(_array_width(message.parts) for message in messages)


def in_json(messages: Sequence[Message], plan: Plan) -> FoundChannels | None:
    return _in_objects(_decoded(messages, from_json), plan)


def in_msgpack(messages: Sequence[Message], plan: Plan) -> FoundChannels | None:
    from streamrnn.adapters.msgpack_objects import unpacked

    return _in_objects(_decoded(messages, unpacked), plan)


def _in_a_row(widths: Iterable[int]) -> FoundChannels | None:
    """As many as most of some messages have; 0 = none can be told."""
    counts = Counter(width for width in widths if 0 < width <= MOST)
    if not counts:
        return None
    (width, _) = counts.most_common(1)[0]
    return FoundChannels(tuple(f"c{place + 1}" for place in range(width)), {})


def _frame_width(payload: bytes) -> int:
    if len(payload) < _HEAD:
        return 0
    head = np.frombuffer(payload, FRAME, 1)[0]
    dtype, rows = DTYPES.get(int(head["dtype"])), int(head["rows"])
    if head["magic"] != b"SR" or dtype is None or rows == 0:
        return 0
    width, rest = divmod(len(payload) - _HEAD, rows * dtype.itemsize)
    return 0 if rest else width


def _array_width(parts: Sequence[bytes]) -> int:
    if len(parts) < 2:
        return 0
    with suppress(ValueError):
        header = from_json(parts[-2])
        shape = header.get("shape") if type(header) is dict else None
        if type(shape) is list and shape and type(shape[-1]) is int:
            return int(shape[-1])
    return 0


def _decoded(messages: Sequence[Message], decode: Callable[[bytes], Any]) -> Iterator[Any]:
    for message in messages:
        with suppress(ValueError, Rejected):
            said = decode(message.parts[-1])
            yield from said if type(said) is list and said and type(said[0]) in (dict, list) else [said]


def _in_objects(said: Iterable[Any], plan: Plan) -> FoundChannels | None:
    """Of rows: objects whose numbers have keys go before lists, which have none."""
    elsewhere = {tuple(path.split(".")) for path in (plan.time, plan.stream) if path}
    paths: dict[tuple[str, ...], None] = {}
    texts: dict[tuple[str, ...], None] = {}
    widths = list[int]()
    for row in said:
        width = _row_width(row, plan)
        widths.append(width)
        if not width and type(row) is dict and len(paths) < MOST:
            paths |= dict.fromkeys(path for path in _places(row, ()) if path not in elsewhere)
            texts |= dict.fromkeys(path for path in _places(row, (), str) if path not in elsewhere)
    if not paths:
        return _in_a_row(widths)
    told = {tuple(path.split(".")): channel for channel, path in plan.fields.items()}
    names, fields = list[str](), dict[str, str]()
    for path in list(paths)[:MOST]:
        key = ".".join(path)
        if not is_name(told.get(path, key)):
            continue
        names.append(told.get(path, key))
        if len(path) > 1 or path in told:
            fields[names[-1]] = key
    words = [".".join(path) for path in texts if path not in paths]
    return FoundChannels(tuple(dict.fromkeys(names)), fields, tuple(filter(is_name, words)))


def _row_width(row: Any, plan: Plan) -> int:
    """How many values a row has that come by their place; 0 = they have keys, or there are none."""
    if type(row) is dict:
        row = row.get("values") if type(row.get("values")) in (list, dict) else row
    if type(row) is dict:
        return len(row) if "0" in row and all(type(key) is str and key.isdigit() for key in row) else 0
    if type(row) is list:
        return len(row)
    if type(row) is bytes:
        return len(row) // np.dtype(plan.dtype).itemsize
    return 1 if _is_number(row) else 0


def _places(
    said: Mapping[Any, Any], above: tuple[str, ...], kind: type | None = None
) -> Iterator[tuple[str, ...]]:
    """The paths of the keys that hold numbers, or what is of ``kind``."""
    for key, value in said.items():
        if type(key) is not str or not key or (above and "." in key):
            continue
        if _is_number(value) if kind is None else type(value) is kind:
            yield (*above, key)
        elif type(value) is dict and "." not in key and len(above) < _DEEPEST:
            yield from _places(value, (*above, key), kind)


def _is_number(value: Any) -> bool:
    return type(value) in (float, int, bool)

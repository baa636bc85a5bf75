"""The recording kept with an event: some rows of its stream, from before it until after it.

A blob is zlib's of a line of JSON and, behind it, columns of ``rows`` little-endian values each: those of
``_HEAD``, then each channel's value and each output's forecast of that row, float32, physical units less the
offsets that the line names.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn.errors import UserError

_HEAD = (("wall_ns", "<i8"), ("time_ns", "<i8"), ("seq", "<u8"), ("score", "<f4"), ("mark", "<u1"))
ROW = np.dtype([*_HEAD])  # of a row, before its values
# What stands out in a row, as bits of its mark: as in a daemon's history
RESET, GAP, IMPUTED, ANOMALY = 1, 2, 4, 8
MOST_BYTES = 64 << 20  # of a recording, unpacked
_LINE_BYTES = 4 << 20


def pack(
    heads: np.ndarray,
    values: np.ndarray,
    forecasts: np.ndarray,
    channels: Sequence[tuple[str, float]],
    outputs: Sequence[tuple[str, float]],
) -> bytes:
    """The blob of n rows: ``heads`` (n,) of ROW, ``values`` (n, channels) and ``forecasts`` (n, outputs).

    ``channels`` and ``outputs`` are names and offsets.
    """
    about = {"rows": len(heads), "channels": list(channels), "outputs": list(outputs)}
    columns = [np.ascontiguousarray(heads[name], kind) for name, kind in _HEAD]
    columns += [np.ascontiguousarray(each, "<f4") for each in (values.T, forecasts.T)]
    body = b"".join(column.tobytes() for column in columns)
    return zlib.compress(json.dumps(about).encode() + b"\n" + body, 1)


def unpack(blob: bytes) -> dict[str, Any]:
    """The columns of a recording, JSON-ready, NaN as None.

    ``rows``; ``wall_ns``, ``time_ns`` (0 = the source told none), ``seq``, ``score``, ``mark``; ``channels``
    and ``outputs``, names; ``values`` and ``forecasts``, a list for each of these. Raises UserError for
    what is none.
    """
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(blob, MOST_BYTES)
        line, found, body = raw.partition(b"\n")
        if not unpacking.eof or not found or len(line) > _LINE_BYTES:
            raise ValueError
        about = json.loads(line)
        rows, named = int(about["rows"]), [about["channels"], about["outputs"]]
        names = [[str(name) for name, _ in each] for each in named]
        offsets = [float(offset) for each in named for _, offset in each]
        if rows < 0 or len(body) != rows * (ROW.itemsize + 4 * len(offsets)):
            raise ValueError
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("the recording of an event is damaged") from error
    columns: dict[str, Any] = {"rows": rows}
    at = 0
    for name, kind in _HEAD:
        column = np.frombuffer(body, kind, rows, at)
        columns[name] = _numbers(column) if name == "score" else column.tolist()
        at += column.nbytes
    lists = []
    for offset in offsets:
        column = np.frombuffer(body, "<f4", rows, at)
        lists.append(_numbers(column, offset))
        at += column.nbytes
    columns["channels"], columns["outputs"] = names
    columns["values"], columns["forecasts"] = lists[: len(names[0])], lists[len(names[0]) :]
    return columns


def _numbers(values: np.ndarray, offset: float = 0.0) -> list[float | None]:
    """Six digits of each, and the offset; None for NaN."""
    return [None if value != value else float(f"{value:.6g}") + offset for value in values.tolist()]

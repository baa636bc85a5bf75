"""The chunks of XDF, and the samples in them.

Source: the format's specification, https://github.com/sccn/xdf/wiki/Specifications. A file is "XDF:" and then
chunks: length, tag, content.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamrnn.recordings.stored import Damaged, FileBytes, Short, Window

MAGIC = b"XDF:"
FILE_HEADER, STREAM_HEADER, SAMPLES, CLOCK_OFFSET, BOUNDARY, STREAM_FOOTER = range(1, 7)
LONGEST_CHUNK = 16 << 20  # bytes of one that is read; recorders write one for half a second
DTYPES = {"int8": "<i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "float32": "<f4", "double64": "<f8"}
_LENGTHS = {1: struct.Struct("<B"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}
FARTHEST = 1e10  # s: of a clock that counts since its computer was started, or since 1970


class XdfChunk(NamedTuple):
    """A chunk: where its content is, which begins with a stream's number but for tags 1 and 5."""

    tag: int
    at: int
    size: int  # bytes of the content


class XdfChunks:
    """Iterates over the chunks of a file; then ``end`` is where the last whole one ends."""

    def __init__(self, file: FileBytes) -> None:
        self._file, self._window = file, Window(file)
        self.end = len(MAGIC)

    def __iter__(self) -> Iterator[XdfChunk]:
        while self.end < self._file.size:
            try:
                size, at = _length(self._window, self.end)
                if size < 2 or at + size > self._file.size:
                    return
                tag = int.from_bytes(self._window.read(at, 2), "little")
            except (Short, Damaged):
                return
            if not FILE_HEADER <= tag <= STREAM_FOOTER:
                return
            yield XdfChunk(tag, at + 2, size - 2)
            self.end = at + size

    def content(self, chunk: XdfChunk) -> memoryview:
        """What is in a chunk. Raises Damaged for one that is too long to be read."""
        if chunk.size > LONGEST_CHUNK:
            raise Damaged(
                f"a chunk of {chunk.size:,} bytes, which is more than the {LONGEST_CHUNK:,} read at once"
            )
        return self._window.read(chunk.at, chunk.size)

    def stream(self, chunk: XdfChunk) -> int:
        """The number of the stream that a chunk is of. Raises Damaged where it has none."""
        if chunk.size < 4:
            raise Damaged(f"a chunk of {chunk.size} bytes")
        return int.from_bytes(self._window.read(chunk.at, 4), "little")


def _length(window: Window, at: int) -> tuple[int, int]:
    """A length of variable size, and where it ends. Raises Damaged, Short."""
    form = _LENGTHS.get(window.read(at, 1)[0])
    if form is None:
        raise Damaged("a length of another size than 1, 4 or 8 bytes")
    return form.unpack(window.read(at + 1, form.size))[0], at + 1 + form.size


def read_samples(content: memoryview, dtype: np.dtype, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples behind a chunk's stream number: stamps and values.

    Returns (n,) float64 of s, NaN where a stamp was left out, and (n, channels) of ``dtype``. Raises Damaged.
    """
    form = _LENGTHS.get(content[0]) if len(content) else None
    if form is None or len(content) < 1 + form.size:
        raise Damaged("samples without their number")
    count = form.unpack_from(content, 1)[0]
    body = np.frombuffer(content, np.uint8, offset=1 + form.size)
    size = channels * dtype.itemsize
    if count * (1 + size) > len(body):
        raise Damaged(f"{count:,} samples in {len(body):,} bytes")
    rows = _even_rows(body, count, size) if count else None
    stamps, values = rows or _odd_rows(body, count, size)
    return stamps, values.view(dtype)


def _even_rows(body: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Stamps, and (count, size) uint8 of values, as recorders write them: with a stamp for all, for the first
    one, or for none. None where it is another way. Raises Damaged.
    """
    for first, others in ((8, 8), (8, 0), (0, 0)):
        if count * (1 + size + others) + first - others != len(body) or body[0] != first:
            continue
        table = body[first - others :].reshape(count, -1)  # the first row may have a stamp before its begin
        if not (table[1:, 0] == others).all():
            continue
        values = np.ascontiguousarray(table[:, 1 + others :])
        if others:
            return _checked(np.ascontiguousarray(table[:, 1:9]).view("<f8")[:, 0]), values
        stamps = np.full(count, np.nan)
        if first:
            stamps[:1] = _checked(body[1:9].view("<f8"))
        return stamps, values
    return None


def _odd_rows(body: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of samples of which any may have a stamp. Raises Damaged."""
    begins, at = np.empty(count, np.int64), 0
    stamped = np.zeros(count, bool)
    every = body.tobytes()
    for row in range(count):
        if at >= len(every) or every[at] not in (0, 8):
            raise Damaged("a stamp of another size than 8 bytes")
        begins[row], stamped[row] = at, every[at] == 8
        at += 1 + every[at] + size
    if at != len(every):
        raise Damaged(f"{count:,} samples take {at:,} bytes of {len(every):,}")
    stamps = np.full(count, np.nan)
    stamps[stamped] = _checked(body[begins[stamped, None] + np.arange(1, 9)].view("<f8")[:, 0])
    return stamps, body[(begins + 1 + 8 * stamped)[:, None] + np.arange(size)]


def _checked(stamps: np.ndarray) -> np.ndarray:
    if not (np.abs(stamps) < FARTHEST).all():
        raise Damaged("a stamp that is no time")
    return stamps

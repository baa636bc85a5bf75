"""Samples of TDMS channels, from where the segments have them, a few MB at a time."""

from typing import NamedTuple

import numpy as np

from streamrnn.recordings.stored import PIECE, FileBytes
from streamrnn.recordings.tdms.metadata import EPOCH
from streamrnn.recordings.tdms.segments import Layout, Segments, Stored, StoredPart, samples_of

_SECOND = 10**9


class StoredAs(NamedTuple):
    """What a part of a channel's samples is."""

    kind: str
    scale: int  # see ``StoredPart``
    bit: int


class RawSamples:
    """The raw data of a file; what channels of one segment share is read once while they take turns."""

    def __init__(self, file: FileBytes, segments: Segments) -> None:
        self.segments, self._file = segments, file
        self.stored = [{each.channel: each for each in layout.stored} for layout in segments.layouts]
        self.stored_as = dict[int, set[tuple[StoredAs, ...]]]()  # the ways, one as a rule, of each channel
        for layout in segments.layouts:
            for each in layout.stored:
                parts = tuple(StoredAs(part.dtype.name, part.scale, part.bit) for part in each.parts)
                self.stored_as.setdefault(each.channel, set()).add(parts)
        self._key, self._block = (0, 0), np.zeros(0, np.uint8)

    def block(self, at: int, size: int) -> np.ndarray:
        """(size,) uint8. Raises Short."""
        if self._key != (at, size):
            self._block = np.frombuffer(self._file.read(at, size), np.uint8)
            self._key = at, size
        return self._block


class Cursor:
    """The samples of one channel, in order."""

    def __init__(self, samples: RawSamples, channel: int) -> None:
        self._samples, self._channel = samples, channel
        self._segment, self._done, self._have = -1, 0, 0  # samples of the segment: read, and all
        self._layout, self._stored = Layout(0, ()), Stored(channel, 0, ())

    def ready(self) -> int:
        """How many samples can be read at once; 0 = there are no more."""
        segments = self._samples.segments
        while self._done == self._have:
            self._segment += 1
            if self._segment >= len(segments.at):
                return 0
            layout = segments.layout[self._segment]
            stored = self._samples.stored[layout].get(self._channel)
            if stored is not None:
                self._layout, self._stored, self._done = segments.layouts[layout], stored, 0
                self._have = samples_of(self._layout, stored, segments.size[self._segment])
        stride = max(part.stride for part in self._stored.parts)
        most = max(1, PIECE // stride)
        if self._layout.size and self._has_small_chunks():
            most = max(1, PIECE // self._layout.size) * self._stored.samples
        return min(self._have - self._done, most)

    def read(self, count: int) -> list[np.ndarray]:
        """The next ``count`` samples that are ``ready``: (count,) of each part. Raises Short."""
        found = list[list[np.ndarray]]()
        while count:
            some = self._next(count)
            found.append(some)
            count -= len(some[0])
            self._done += len(some[0])
        if len(found) == 1:
            return found[0]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _has_small_chunks(self) -> bool:
        part = self._stored.parts[0]
        side_by_side = part.stride == part.dtype.itemsize and len(self._stored.parts) == 1
        return side_by_side and self._layout.size <= PIECE >> 4

    def _next(self, count: int) -> list[np.ndarray]:
        begin, stored = self._samples.segments.at[self._segment], self._stored
        if not self._layout.size:
            return [self._strided(begin + part.base, part, self._done, count) for part in stored.parts]
        chunk, first = divmod(self._done, stored.samples)
        at = begin + chunk * self._layout.size
        if first == 0 and count > stored.samples and self._has_small_chunks():
            chunks, part = count // stored.samples, stored.parts[0]
            block = self._samples.block(at, chunks * self._layout.size).reshape(chunks, -1)
            own = block[:, part.base : part.base + stored.samples * part.stride]
            return [np.ascontiguousarray(own).reshape(-1).view(part.dtype)]
        count = min(count, stored.samples - first)
        return [self._strided(at + part.base, part, first, count) for part in stored.parts]

    def _strided(self, base: int, part: StoredPart, first: int, count: int) -> np.ndarray:
        size = part.dtype.itemsize
        rows = self._samples.block(base + first * part.stride, count * part.stride).reshape(
            count, part.stride
        )
        numbers = np.ascontiguousarray(rows[:, part.within : part.within + size]).view(part.dtype)[:, 0]
        return numbers if part.bit < 0 else (numbers >> part.bit) & 1


def timestamps(stamps: np.ndarray) -> np.ndarray:
    """(n,) int64 ns since 1970 of LabVIEW's stamps, whole s since 1904 and 2^-64 of them."""
    high = stamps["fraction"].astype(np.uint64) >> np.uint64(32)  # 2^-32 s, 0.23 ns
    ns = (high * np.uint64(_SECOND) + np.uint64(1 << 31)) >> np.uint64(32)
    return (stamps["second"].astype(np.int64) + EPOCH) * _SECOND + ns.astype(np.int64)

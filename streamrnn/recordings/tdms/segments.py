"""The segments of a TDMS file: what each says of its channels, and where their samples lie.

Source: National Instruments, "TDMS File Format Internal Structure". A segment is a head of 28 bytes,
metadata and raw data; what it does not say is as in the segment before. Its data are chunks of one layout, of
which the last may be cut. DAQmx's layout is not in that paper; it is read as the library npTDMS reads it.
"""

import itertools
import struct
from array import array
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from streamrnn.recordings.stored import LONGEST, Damaged, FileBytes, Short
from streamrnn.recordings.tdms.metadata import (
    DTYPES,
    NO_DATA,
    SAME,
    TIMESTAMP,
    Fields,
    RawIndex,
    read_object,
)

MAGIC = b"TDSm"
_HEAD = struct.Struct("<4sII")
METADATA, NEW_LIST, RAW, INTERLEAVED, BIG_ENDIAN, DAQMX = (1 << bit for bit in (1, 2, 3, 5, 6, 7))
_OPEN_ENDED = (1 << 64) - 1  # as a segment's length: the program that wrote it was killed
_HEAD_SIZE = 28
MOST_OBJECTS = 1 << 16  # groups and channels of a file


class StoredPart(NamedTuple):
    """Where a channel's numbers lie: number k of a chunk is at ``base + k * stride + within`` of it."""

    dtype: np.dtype
    base: int
    within: int
    stride: int
    scale: int = -1  # of DAQmx: the scale that this is the input of
    bit: int = -1  # of a DAQmx line: the bit that counts; -1 = all


class Stored(NamedTuple):
    """A channel in a chunk."""

    channel: int
    samples: int  # -1 = as many rows as there are data
    parts: tuple[StoredPart, ...]


class Layout(NamedTuple):
    """A chunk."""

    size: int  # bytes; 0 = rows until the data end
    stored: tuple[Stored, ...]


@dataclass
class Start:
    """Where a channel's samples begin anew: from number ``sample`` on these properties hold."""

    sample: int
    properties: dict[str, Any]


@dataclass
class TdmsObject:
    """A channel, or a group, or the file."""

    path: tuple[str, ...]  # of names: none is the file, one a group
    properties: dict[str, Any] = field(default_factory=dict)
    index: RawIndex | None = None  # as said last
    samples: int = 0
    starts: list[Start] = field(default_factory=list)


WAVEFORM = ("wf_start_time", "wf_start_offset", "wf_increment")


class Segments:
    """All segments. ``objects`` are in the order in which they came; ``cut`` says what lacks at the end."""

    def __init__(self, file: FileBytes) -> None:
        """Raises Damaged for a file that is not TDMS."""
        self._file = file
        self.objects = list[TdmsObject]()
        self._by_path = dict[tuple[str, ...], int]()
        self.layouts = list[Layout]()
        self._known = dict[Layout, int]()
        self.at, self.size, self.layout = array("q"), array("q"), array("q")  # of each segment's raw data
        self.cut = ""
        self._list = list[tuple[int, RawIndex]]()  # of the segment: objects that have data
        at = 0
        while at < file.size:
            try:
                following = self._segment(at)
            except Damaged as error:
                if not self.layouts:
                    raise
                what = f"what follows byte {at:,} of {file.size:,} is no whole segment"
                self.cut = f"{what} ({error.what}); left out"
                return
            at = following

    def _segment(self, at: int) -> int:
        """Reads a segment; returns where the next one begins. Raises Damaged."""
        magic, toc, _ = self._file.unpack(_HEAD, at)
        if magic != MAGIC:
            raise Damaged("it does not begin as a segment")
        order = ">" if toc & BIG_ENDIAN else "<"
        length, meta = struct.unpack(order + "QQ", self._file.read(at + _HEAD.size, 16))
        begin = at + _HEAD_SIZE
        end = begin + length
        if length == _OPEN_ENDED or end > self._file.size:
            end = self._file.size
            self.cut = "the last segment was not ended: its whole samples are taken"
        if meta > LONGEST:
            raise Damaged(f"its metadata are {meta:,} bytes long")
        if begin + meta > end:
            raise Short("its metadata are cut")
        if toc & METADATA:
            self._metadata(Fields(self._file.read(begin, meta), order), bool(toc & NEW_LIST))
        if toc & RAW and end > begin + meta:
            self._data(toc, order, begin + meta, end)
        return end

    def _metadata(self, fields: Fields, anew: bool) -> None:
        if anew:
            self._list = []
        said = list[tuple[int, dict[str, Any]]]()
        places = {number: place for place, (number, _) in enumerate(self._list)}
        gone = set[int]()
        for _ in range(fields.u4()):
            path, index, properties = read_object(fields)
            number = self._by_path.get(path)
            if number is None:
                if len(self.objects) >= MOST_OBJECTS:
                    raise Damaged(f"it has more than {MOST_OBJECTS:,} channels")
                number = self._by_path[path] = len(self.objects)
                self.objects.append(TdmsObject(path))
            said.append((number, properties))
            if index == NO_DATA:
                gone.add(number)
                continue
            before = self.objects[number].index
            if index == SAME and before is not None:
                index = before
            elif index == SAME:
                raise Damaged("a channel is stored as before, and was not before")
            gone.discard(number)
            self.objects[number].index = index
            if number in places:
                self._list[places[number]] = number, index
            else:
                places[number] = len(self._list)
                self._list.append((number, index))
        if gone:
            self._list = [each for each in self._list if each[0] not in gone]
        for number, properties in said:
            self._told(self.objects[number], properties)

    def _told(self, known: TdmsObject, properties: dict[str, Any]) -> None:
        """Takes an object's properties; those of the times hold from its next sample on."""
        changed = {
            name: value
            for name, value in properties.items()
            if name in WAVEFORM and known.properties.get(name) != value
        }
        known.properties.update(properties)
        if changed:
            told = {name: known.properties[name] for name in WAVEFORM if name in known.properties}
            if known.starts and known.starts[-1].sample == known.samples:
                known.starts.pop()
            known.starts.append(Start(known.samples, told))

    def _data(self, toc: int, order: str, at: int, end: int) -> None:
        """Adds the raw data of a segment: its whole chunks, and the whole samples of one that is cut."""
        layout = _layout(self._list, toc, order)
        if not layout.stored:
            return
        whole = end - at if layout.size == 0 else (end - at) // layout.size * layout.size
        if whole:
            self._add(layout, at, whole)
        if rest := end - at - whole:
            self._add(_cut_layout(layout, rest), at + whole, rest)

    def _add(self, layout: Layout, at: int, size: int) -> None:
        for stored in layout.stored:
            self.objects[stored.channel].samples += samples_of(layout, stored, size)
        if layout not in self._known:
            self._known[layout] = len(self.layouts)
            self.layouts.append(layout)
        self.at.append(at)
        self.size.append(size)
        self.layout.append(self._known[layout])


def samples_of(layout: Layout, stored: Stored, size: int) -> int:
    """Samples of a channel in ``size`` bytes of raw data."""
    return size // layout.size * stored.samples if layout.size else size // stored.parts[0].stride


def _layout(listed: list[tuple[int, RawIndex]], toc: int, order: str) -> Layout:
    """The chunk of a segment's channels. Raises Damaged for what cannot be in one."""
    if any(index.widths for _, index in listed):
        return _daqmx_layout(listed, order)
    if toc & INTERLEAVED:
        sizes = [index.width for _, index in listed]
        if not all(sizes):
            raise Damaged("text between interleaved samples")
        places = [*itertools.accumulate(sizes, initial=0)]
        stored = tuple(
            Stored(number, -1, (StoredPart(_dtype(index, order), 0, place, places[-1]),))
            for (number, index), place in zip(listed, places, strict=False)
        )
        return Layout(0, stored)
    found, at = list[Stored](), 0
    for number, index in listed:
        if index.width and index.samples:
            found.append(
                Stored(number, index.samples, (StoredPart(_dtype(index, order), at, 0, index.width),))
            )
        at += index.size
    return Layout(at, tuple(found) if at else ())


def _dtype(index: RawIndex, order: str) -> np.dtype:
    if index.kind == TIMESTAMP:
        fields = [("fraction", "u8"), ("second", "i8")]
        return np.dtype([(name, order + kind) for name, kind in (fields if order == "<" else fields[::-1])])
    return np.dtype(order + DTYPES.get(index.kind, f"V{index.width}"))


def _daqmx_layout(listed: list[tuple[int, RawIndex]], order: str) -> Layout:
    """Samples of each card are interleaved, one card behind the other."""
    widths = listed[0][1].widths
    if any(index.widths != widths for _, index in listed):
        raise Damaged("DAQmx channels beside others, or of other cards")
    rows = [0] * len(widths)
    for _, index in listed:
        for scaler in index.scalers:
            if scaler.buffer >= len(widths):
                raise Damaged("a DAQmx channel of a card that is not there")
            rows[scaler.buffer] = max(rows[scaler.buffer], index.samples)
    sizes = [count * width for count, width in zip(rows, widths, strict=True)]
    bases = [*itertools.accumulate(sizes, initial=0)]
    alone = len(widths) == 1
    stored = list[Stored]()
    for number, index in listed:
        parts = list[StoredPart]()
        for scaler in index.scalers:
            dtype = np.dtype(order + scaler.kind)
            width = widths[scaler.buffer]
            if scaler.at + dtype.itemsize > width:
                raise Damaged("a DAQmx channel that is wider than its card's row")
            base = bases[scaler.buffer]
            parts.append(StoredPart(dtype, base, scaler.at, width, scaler.scale, scaler.bit))
        if parts and index.samples:
            stored.append(Stored(number, -1 if alone else index.samples, tuple(parts)))
    return Layout(0 if alone else sum(sizes), tuple(stored) if sum(sizes) else ())


def _cut_layout(layout: Layout, rest: int) -> Layout:
    """What is whole in a chunk of which there are ``rest`` bytes."""
    left = list[Stored]()
    for stored in layout.stored:
        count = min((rest - part.base) // part.stride for part in stored.parts)
        if (count := min(count, stored.samples)) > 0:
            left.append(stored._replace(samples=count))
    return Layout(rest, tuple(left))

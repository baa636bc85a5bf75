"""bsread, the wire of the Paul Scherrer Institute's beam data: headers in JSON, then channels of any type.

A message is a pulse: a main header (``pulse_id``, which is the number of the row, ``global_timestamp``, its
time), a data header that describes the channels and comes again every time, and two parts for each channel,
its value and its time. Channels are found by name; element k of one with several elements is the model's
channel ``name[k]``, counted as the bytes are. No value (None) is empty parts, NaN here; so is a value that
has another length than its header says, which is counted, too.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Message, Plan, Refused, Rejected, RowBlock
from streamrnn.adapters.dtypes import BY_NAME, to_float64
from streamrnn.adapters.headers import read_header, shown, whole
from streamrnn.adapters.names import Names
from streamrnn.adapters.packed import packed_sizes, unpacked
from streamrnn.adapters.source import Origin, StreamFinder

LARGEST = 4 << 20  # bytes of a channel's value
DATA_HEADER_BYTES = 1 << 20
_KNOWN = 8  # data headers: their hash changes with the type of a value
_KNOWN_STREAMS = 1 << 12
_ELEMENT = re.compile(r"(.+)\[(\d{1,9})\]", re.DOTALL)
_NOTHING = Origin(None, None)


class _Pick(NamedTuple):
    """A channel of a message that the model has, or has elements of."""

    name: str
    part: int
    dtype: np.dtype
    size: int  # in bytes
    packed: str
    columns: list[int]  # of the row
    elements: list[int]  # of the value, one a column


class _Layout(NamedTuple):
    """What a data header says."""

    parts: int  # of a message
    picks: list[_Pick]


class BsreadAdapter:
    """Reads pulses, each into a block of one row."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._finder, self._names = StreamFinder(plan), Names(plan)
        self._elements: dict[str, list[tuple[int, int]]] = {}  # channel -> columns and their elements
        for column, path in enumerate(self._names.paths):
            if match := _ELEMENT.fullmatch(".".join(path)):
                self._elements.setdefault(match[1], []).append((column, int(match[2])))
        self._known: dict[tuple[str, bytes], _Layout] = {}  # by how it is packed and its bytes
        self._last: dict[str, tuple[int, int]] = {}  # stream -> number and time of its newest pulse

    def read(self, message: Message, harvest: Harvest) -> None:
        parts = message.parts
        if len(parts) < 2 or len(parts) % 2:
            raise Rejected("parts", f"it has {len(parts)} parts, not two headers and two for each channel")
        main = read_header(parts[0], "main header")
        if not str(main.get("htype")).startswith("bsr_m-"):
            raise Rejected("syntax", f"its main header says htype {shown(main.get('htype'))}, not bsr_m-1.1")
        stream = self._finder.of(_NOTHING, main)
        seq = whole(main.get("pulse_id", 0))
        if seq is None:
            raise Rejected("syntax", f"its pulse_id is {shown(main['pulse_id'])}")
        ts_ns = _time(main.get("global_timestamp")) if self._plan.time else None
        layout = self._layout(parts[1], main.get("dh_compression") or "none")
        if len(parts) != layout.parts:
            raise Rejected("parts", f"it has {len(parts)} parts, and its data header says {layout.parts}")
        row = np.full((1, len(self._plan.channels)), np.nan)
        failed: Rejected | None = None
        for pick in layout.picks:
            try:
                if parts[pick.part] or parts[pick.part + 1]:
                    row[0, pick.columns] = _values(parts[pick.part], pick)[pick.elements]
            except Rejected as error:
                if error.reason == "dtype":
                    raise
                failed = failed or Rejected(error.reason, f"{shown(pick.name)}: {error.what}")
        if failed is not None:  # once for a message, whatever its channels are like
            harvest.refused.append(Refused(failed.reason, stream.encode(), failed.what))
        times = np.array([message.came_ns if ts_ns is None else ts_ns])
        if "pulse_id" not in main:
            seq = NO_SEQ
        harvest.blocks.append(RowBlock(stream, row, times, seq, self._begins(stream, seq, ts_ns)))

    def _begins(self, stream: str, seq: int, ts_ns: int | None) -> bool:
        """Whether the sender was started anew: its numbers went back, and its time did not."""
        if seq == NO_SEQ or ts_ns is None:
            return seq == 0
        last_seq, last_ns = self._last.get(stream, (NO_SEQ, 0))
        if ts_ns < last_ns:
            return False
        if len(self._last) >= _KNOWN_STREAMS and stream not in self._last:
            self._last.clear()
        self._last[stream] = (seq, ts_ns)
        return seq == 0 or seq < last_seq

    def _layout(self, content: bytes, packed: object) -> _Layout:
        """What a data header says; read when its bytes are new."""
        if not isinstance(packed, str):
            raise Rejected("dtype", f"its dh_compression is {shown(packed)}")
        if (layout := self._known.get((packed, content))) is None:
            layout = self._read_layout(_data_header(content, packed).get("channels"))
            if len(self._known) >= _KNOWN:
                del self._known[next(iter(self._known))]
            self._known[packed, content] = layout
        return layout

    def _read_layout(self, channels: object) -> _Layout:
        if not isinstance(channels, list) or not all(isinstance(said, Mapping) for said in channels):
            raise Rejected("syntax", "its data header has no list of channels")
        picks: dict[str, _Pick] = {}
        for number, said in enumerate(channels):
            name = said.get("name")
            if not isinstance(name, str):
                raise Rejected("syntax", f"a channel of its data header is called {shown(name)}")
            column, elements = self._names.index(name), self._elements.get(name)
            if column is None and elements is None:
                continue
            if name in picks:
                raise Rejected("channels", f"its data header has two channels {shown(name)}")
            picks[name] = _pick(name, 2 + 2 * number, said, column, elements or [])
        if not picks:
            found = ", ".join(str(said.get("name"))[:40] for said in channels[:3])
            raise Rejected("channels", f"none of its {len(channels)} channels is the model's: {found}"[:150])
        return _Layout(2 + 2 * len(channels), list(picks.values()))


def _data_header(content: bytes, packed: str) -> dict[str, Any]:
    if packed == "none":
        return read_header(content, "data header", DATA_HEADER_BYTES)
    sizes = [size for size in packed_sizes(content, packed) if size <= DATA_HEADER_BYTES]
    for size in sizes:
        try:
            return read_header(unpacked(content, packed, size, 1), "data header", DATA_HEADER_BYTES)
        except Rejected:
            if size == sizes[-1]:
                raise
    raise Rejected("oversized", f"its data header has more than {DATA_HEADER_BYTES} bytes when unpacked")


def _pick(
    name: str, part: int, said: Mapping[str, Any], column: int | None, elements: list[tuple[int, int]]
) -> _Pick:
    """Raises Rejected for a channel that cannot be read, or has no such elements."""
    kind = said.get("type") or "float64"
    if kind == "string":
        raise Rejected("value", f"{shown(name)} is text")
    dtype = BY_NAME.get(kind.lower()) if isinstance(kind, str) else None
    encoding = said.get("encoding") or "little"
    if dtype is None or encoding not in ("little", "big"):
        raise Rejected("dtype", f"{shown(name)} is of type {shown(kind)}, encoding {shown(encoding)}")
    shape = said.get("shape")
    lengths = [1] if shape is None else shape if isinstance(shape, list) and len(shape) <= 8 else [None]
    count = 1
    for length in map(whole, lengths):
        if length is None or count * length * dtype.itemsize > LARGEST:
            raise Rejected("shape", f"{shown(name)} has the shape {shown(shape)}, which cannot be")
        count *= length
    if column is not None:
        if count > 1:
            raise Rejected(
                "shape", f"{shown(name)} has {count} elements: call channels {name[:40]}[0] and so on"
            )
        elements = [(column, 0)]
    packed = said.get("compression") or "none"
    if not isinstance(packed, str):
        raise Rejected("dtype", f"{shown(name)} is packed by {shown(packed)}")
    there = [(at, element) for at, element in elements if element < count]
    return _Pick(
        name,
        part,
        dtype.newbyteorder(">") if encoding == "big" else dtype,
        count * dtype.itemsize,
        packed,
        [at for at, _ in there],
        [element for _, element in there],
    )


def _values(content: bytes, pick: _Pick) -> np.ndarray:
    return to_float64(unpacked(content, pick.packed, pick.size, pick.dtype.itemsize), pick.dtype)


def _time(said: object) -> int | None:
    """ns since the epoch of ``{"sec": ..., "ns": ...}``; None where there is none."""
    if said is None:
        return None
    if isinstance(said, Mapping):
        seconds, ns = whole(said.get("sec")), whole(said.get("ns"))
        if seconds is not None and ns is not None and seconds < 1 << 32 and ns < 10**9:
            return seconds * 10**9 + ns
    raise Rejected("time", f"its global_timestamp is {shown(said)}")

"""What the metadata of a TDMS segment say of one object: where its data are, and its properties."""

import re
import struct
from typing import Any, NamedTuple

from streamrnn.recordings.stored import Damaged

DTYPES = {
    1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8",
    9: "f4", 10: "f8", 0x19: "f4", 0x1A: "f8", 0x21: "u1",
}  # fmt: skip
STRING, BOOLEAN, TIMESTAMP, DAQMX_DATA = 0x20, 0x21, 0x44, 0xFFFFFFFF
_OTHER_WIDTHS = {11: 16, 0x1B: 16, TIMESTAMP: 16, 0x08000C: 8, 0x10000D: 16}  # bytes; no numbers of ours
KINDS = {
    11: "extended",
    0x1B: "extended",
    STRING: "text",
    TIMESTAMP: "times",
    0x08000C: "complex",
    0x10000D: "complex",
}
_DAQMX_KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
_FORMAT_SCALER, _LINE_SCALER = 0x1269, 0x126A
_NAME = re.compile(r"/'((?:[^']|'')*)'")
EPOCH = -2_082_844_800  # s: 1904 to 1970


class Scaler(NamedTuple):
    """Where a DAQmx channel's raw numbers are, in a row of a card."""

    kind: str
    buffer: int  # the card
    at: int  # bytes
    scale: int
    bit: int  # -1 = all


class RawIndex(NamedTuple):
    """How a channel is stored."""

    kind: int
    samples: int  # in a chunk
    width: int  # bytes of one; 0 = text
    size: int  # bytes in a chunk, where samples are not interleaved
    scalers: tuple[Scaler, ...] = ()
    widths: tuple[int, ...] = ()  # bytes of a row of each card


NO_DATA, SAME = RawIndex(-1, 0, 0, 0), RawIndex(-2, 0, 0, 0)  # in place of one


class Fields:
    """Reads metadata field by field. Each call raises Damaged where they end before."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._at, self.order = data, 0, order
        self._u4, self._u8 = struct.Struct(order + "I"), struct.Struct(order + "Q")

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise Damaged("its metadata end early")
        self._at += size
        return self._data[self._at - size : self._at]

    def u4(self) -> int:
        return int(self._u4.unpack(self.take(4))[0])

    def u8(self) -> int:
        return int(self._u8.unpack(self.take(8))[0])

    def text(self) -> str:
        return self.take(self.u4()).decode("utf-8", "replace")

    def timestamp(self) -> int:
        """ns since 1970, exact but for what is below 1 ns."""
        fraction, second = struct.unpack(self.order + ("Qq" if self.order == "<" else "qQ"), self.take(16))[
            :: 1 if self.order == "<" else -1
        ]
        return (second + EPOCH) * 10**9 + ((fraction * 10**9 + (1 << 63)) >> 64)


def read_object(fields: Fields) -> tuple[tuple[str, ...], RawIndex, dict[str, Any]]:
    """The next object: its path, how it is stored (or NO_DATA, or SAME as before), its properties."""
    path = _path(fields.text())
    index = _raw_index(fields)
    properties = {}
    for _ in range(fields.u4()):
        name = fields.text()
        properties[name] = _value(fields)
    return path, index, properties


def _path(text: str) -> tuple[str, ...]:
    if text == "/":
        return ()
    names = tuple(name.replace("''", "'") for name in _NAME.findall(text))
    if not 1 <= len(names) <= 2 or _NAME.sub("", text):
        raise Damaged(f"a channel's path is {text[:60]!r}")
    return names


def _value(fields: Fields) -> Any:
    kind = fields.u4()
    if kind == STRING:
        return fields.text()
    if kind == TIMESTAMP:
        return fields.timestamp()
    if kind in DTYPES:
        code = {"i": "bhiq", "u": "BHIQ", "f": "??fd"}[DTYPES[kind][0]]["1248".index(DTYPES[kind][1])]
        return struct.unpack(fields.order + code, fields.take(int(DTYPES[kind][1])))[0]
    if kind in _OTHER_WIDTHS:
        fields.take(_OTHER_WIDTHS[kind])
        return None
    if kind == 0:
        return None
    raise Damaged(f"a property of the unknown type {kind:#x}")


def _raw_index(fields: Fields) -> RawIndex:
    head = fields.u4()
    if head == 0xFFFFFFFF:
        return NO_DATA
    if head == 0:
        return SAME
    kind = fields.u4()
    if fields.u4() != 1:
        raise Damaged("data of more than one dimension")
    count = fields.u8()
    if head in (_FORMAT_SCALER, _LINE_SCALER):
        return _daqmx_index(fields, kind, count, head == _LINE_SCALER)
    if kind == STRING:
        return RawIndex(kind, count, 0, fields.u8())
    width = int(DTYPES[kind][1]) if kind in DTYPES else _OTHER_WIDTHS.get(kind, 0)
    if width == 0:
        raise Damaged(f"data of the unknown type {kind:#x}")
    return RawIndex(kind, count, width, count * width)


def _daqmx_index(fields: Fields, kind: int, count: int, lines: bool) -> RawIndex:
    scalers = list[Scaler]()
    for _ in range(fields.u4()):
        code, buffer, at = fields.u4(), fields.u4(), fields.u4()
        fields.take(1 if lines else 4)
        scale = fields.u4()
        if code >= len(_DAQMX_KINDS):
            raise Damaged(f"DAQmx data of the unknown type {code:#x}")
        place, bit = divmod(at, 8) if lines else (at, -1)
        scalers.append(Scaler(_DAQMX_KINDS[code], buffer, place, scale, bit))
    widths = tuple(fields.u4() for _ in range(fields.u4()))
    if not widths or not all(widths):
        raise Damaged("DAQmx data without a width")
    return RawIndex(kind, count, 0, 0, tuple(scalers), widths)

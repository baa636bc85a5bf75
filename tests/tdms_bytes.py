"""TDMS as bytes, by its specification: npTDMS writes nothing interleaved, nothing of DAQmx, nothing cut."""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

NONE, SAME = 0xFFFFFFFF, 0
CODES = {"i1": 1, "i2": 2, "i4": 3, "i8": 4, "u1": 5, "u2": 6, "u4": 7, "u8": 8, "f4": 9, "f8": 10}
DAQMX_CODES = {"u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5}
META, NEW_LIST, RAW, INTERLEAVED, BIG_ENDIAN, DAQMX = 2, 4, 8, 32, 64, 128
UNENDED = (1 << 64) - 1


class Time(NamedTuple):
    """As LabVIEW has it: whole seconds since 1904, and 2^-64 of them."""

    second: int
    fraction: int


def labview(ns: int) -> Time:
    """A moment, ns since 1970."""
    second, rest = divmod(ns, 10**9)
    return Time(second + 2_082_844_800, (rest << 64) // 10**9 + (rest > 0))


class Writes:
    """Objects and segments in one order of bytes."""

    def __init__(self, order: str = "<") -> None:
        self.order = order

    def pack(self, codes: str, *values: object) -> bytes:
        return struct.pack(self.order + codes, *values)

    def text(self, text: str) -> bytes:
        return self.pack("I", len(text.encode())) + text.encode()

    def stamp(self, time: Time) -> bytes:
        return self.pack("Qq", time.fraction, time.second) if self.order == "<" else self.pack("qQ", *time)

    def properties(self, told: Mapping[str, object]) -> bytes:
        found = self.pack("I", len(told))
        for name, value in told.items():
            found += self.text(name)
            if isinstance(value, Time):
                found += self.pack("I", 0x44) + self.stamp(value)
            elif isinstance(value, str):
                found += self.pack("I", 0x20) + self.text(value)
            elif isinstance(value, int):
                found += self.pack("II", 7, value)
            else:
                found += self.pack("Id", 10, value)
        return found

    def index(self, kind: str, samples: int) -> bytes:
        return self.pack("IIIQ", 20, CODES[kind], 1, samples)

    def daqmx(
        self,
        samples: int,
        scalers: Sequence[tuple[str, int, int, int]],
        widths: Sequence[int],
        lines: bool = False,
    ) -> bytes:
        """``scalers``: kind, card, byte (or bit), number of the scale."""
        found = self.pack("IIIQI", 0x126A if lines else 0x1269, NONE, 1, samples, len(scalers))
        for kind, card, at, scale in scalers:
            found += self.pack("IIIBI" if lines else "IIIII", DAQMX_CODES[kind], card, at, 0, scale)
        return found + self.pack(f"{1 + len(widths)}I", len(widths), *widths)

    def entry(self, path: str, index: bytes | int = NONE, told: Mapping[str, object] | None = None) -> bytes:
        stored = self.pack("I", index) if isinstance(index, int) else index
        return self.text(path) + stored + self.properties(told or {})

    def segment(
        self, entries: Sequence[bytes], raw: bytes = b"", flags: int = 0, length: int | None = None
    ) -> bytes:
        """``length``: what it says of itself, in place of what it is."""
        meta = self.pack("I", len(entries)) + b"".join(entries) if entries else b""
        toc = (
            flags | (META if entries else 0) | (RAW if raw else 0) | (BIG_ENDIAN if self.order == ">" else 0)
        )
        size = len(meta) + len(raw) if length is None else length
        return b"TDSm" + struct.pack("<II", toc, 4713) + self.pack("QQ", size, len(meta)) + meta + raw


def scale(kind: str, number: int = 0, count: int = 1, **told: object) -> dict[str, object]:
    """The properties of a scale."""
    names = {f"NI_Scale[{number}]_{kind}_{name}": value for name, value in told.items()}
    return {"NI_Number_Of_Scales": count, f"NI_Scale[{number}]_Scale_Type": kind, **names}


def interleaved(*columns: np.ndarray) -> bytes:
    """Rows of numbers of the columns' own types."""
    parts = [np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1) for column in columns]
    return np.hstack(parts).tobytes()

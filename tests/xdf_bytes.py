"""XDF, written by its specification; no library of Python writes it."""

import struct
from collections.abc import Sequence

import numpy as np

DTYPES = {"int16": "<i2", "int32": "<i4", "int64": "<i8", "int8": "<i1", "float32": "<f4", "double64": "<f8"}


def chunk(tag: int, content: bytes, size: int = 4) -> bytes:
    """A chunk with a length of ``size`` bytes."""
    form = {1: "<B", 4: "<I", 8: "<Q"}[size]
    return bytes([size]) + struct.pack(form, len(content) + 2) + struct.pack("<H", tag) + content


def file_header(date: str = "2026-03-04T05:06:07+0000") -> bytes:
    text = f"<?xml version='1.0'?><info><version>1.0</version><datetime>{date}</datetime></info>"
    return b"XDF:" + chunk(1, text.encode(), 1)


def stream_header(
    number: int, name: str, labels: Sequence[str], rate: float, kind: str, units: Sequence[str] = ()
) -> bytes:
    units = units or [""] * len(labels)
    told = "".join(
        f"<channel><label>{label}</label><unit>{unit}</unit></channel>"
        for label, unit in zip(labels, units, strict=True)
    )
    text = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>x</type>"
        f"<channel_count>{len(labels)}</channel_count><nominal_srate>{rate}</nominal_srate>"
        f"<channel_format>{kind}</channel_format><source_id>s{number}</source_id>"
        f"<desc><channels>{told}</channels></desc></info>"
    )
    return chunk(2, struct.pack("<I", number) + text.encode())


def samples(number: int, kind: str, stamps: Sequence[float | None], values: np.ndarray) -> bytes:
    """A chunk of samples; a stamp of None is left out."""
    values = np.asarray(values, DTYPES[kind]).reshape(len(stamps), -1)
    body = b"".join(
        (b"\0" if stamp is None else b"\x08" + struct.pack("<d", stamp)) + row.tobytes()
        for stamp, row in zip(stamps, values, strict=True)
    )
    return chunk(3, struct.pack("<IBI", number, 4, len(stamps)) + body)


def texts(number: int, stamp: float, text: str) -> bytes:
    """A chunk with an event."""
    body = b"\x08" + struct.pack("<d", stamp) + bytes([1, len(text)]) + text.encode()
    return chunk(3, struct.pack("<IBB", number, 1, 1) + body)


def clock_offset(number: int, at: float, offset: float) -> bytes:
    return chunk(4, struct.pack("<Idd", number, at, offset))


def boundary() -> bytes:
    return chunk(5, bytes.fromhex("43A546DCCBF5410FB30ED546738CBE91"))


def stream_footer(number: int) -> bytes:
    return chunk(6, struct.pack("<I", number) + b"<info></info>")

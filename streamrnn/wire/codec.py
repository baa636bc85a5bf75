"""Frames decoded, and predictions' values encoded, compiled. Offsets come from the dtypes of ``wire.frame``.

Hostile bytes stop here: ``decode`` compares every count with the length before anything is read.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.stats import REASONS
from streamrnn.wire import frame
from streamrnn.wire.memory import (
    address_of,
    copy_words,
    read_f32,
    read_f64,
    read_i16,
    read_i32,
    read_i64,
    read_u8,
    read_u16,
    read_u64,
    write_f32,
)


class Header(NamedTuple):
    """What a message says of its rows, as far as it could be read."""

    dtype: int
    flags: int
    rows: int
    seq: int  # of the first row, its bits
    ts: int
    row_ns: int
    at: int  # the address of the values


_MAGIC = int.from_bytes(b"SR", "little")
_KNOWN_FLAGS = frame.END | frame.RESET | frame.SEQ | frame.TS
_F32, _F64, _I16, _I32 = frame.DTYPES
_HEAD = frame.FRAME.itemsize


def offset(dtype: np.dtype, field: str) -> int:
    fields = dtype.fields
    assert fields is not None
    return fields[field][1]


_VERSION_AT, _DTYPE_AT, _FLAGS_AT, _ROWS_AT, SEQ_AT, TS_AT, _DT_AT = (
    offset(frame.FRAME, name) for name in ("version", "dtype", "flags", "rows", "seq", "ts_ns", "dt_ns")
)
_MAGIC_BAD, _VERSION_BAD, _DTYPE_BAD, _FLAGS_BAD = (
    REASONS.index(name) for name in ("magic", "version", "dtype", "flags")
)
_NO_ROWS, _TRUNCATED, _OVERSIZED, _CHANNELS_BAD, _DOUBLE = (
    REASONS.index(name) for name in ("rows", "truncated", "oversized", "channels", "float64")
)


@inlined
def _value_bytes(dtype):
    if dtype == _F64:
        return 8
    if dtype == _I16:
        return 2
    return 4


@inlined
def _misfit(size, rows, value_bytes, channels):
    """Why ``size`` bytes are not rows x channels values; -1 when they are."""
    expected = rows * channels * value_bytes
    if size == expected:
        return -1
    if size > 0 and size % (rows * value_bytes) == 0:
        return _CHANNELS_BAD
    return _TRUNCATED if size < expected else _OVERSIZED


@inlined
def _unread(dtype, rows):
    """The header of a message that is refused."""
    return Header(dtype, 0, rows, 0, 0, 0, 0)


@inlined
def decode(payload, size, channels):
    """Reads a frame's header. Returns -1 or an index into REASONS, and the header.

    What cannot be read of it is as in a frame of one row of float32.
    """
    if size >= 2:
        if read_u16(payload) != _MAGIC:
            return _MAGIC_BAD, _unread(_F32, 1)
    elif size == 1 and read_u8(payload) != _MAGIC & 0xFF:
        return _MAGIC_BAD, _unread(_F32, 1)
    if size < _HEAD:
        return _TRUNCATED, _unread(_F32, 1)
    if read_u8(payload + _VERSION_AT) != frame.VERSION:
        return _VERSION_BAD, _unread(_F32, 1)
    dtype, rows = np.int64(read_u8(payload + _DTYPE_AT)), np.int64(read_u16(payload + _ROWS_AT))
    flags = np.int64(read_u16(payload + _FLAGS_AT))
    if dtype < _F32 or dtype > _I32:
        return _DTYPE_BAD, _unread(dtype, rows)
    if flags & ~_KNOWN_FLAGS:
        return _FLAGS_BAD, _unread(dtype, rows)
    if rows == 0:
        return _NO_ROWS, _unread(dtype, rows)
    reason = _misfit(size - _HEAD, rows, _value_bytes(dtype), channels)
    seq, ts = np.int64(read_u64(payload + SEQ_AT)), read_i64(payload + TS_AT) if flags & frame.TS else 0
    return reason, Header(dtype, flags, rows, seq, ts, read_i64(payload + _DT_AT), payload + _HEAD)


@inlined
def decode_raw(payload, size, channels):
    """The same of a raw message: rows of float32, one or more than two, without number or time."""
    rows = max(size // (4 * channels), 1)
    header = Header(_F32, 0, rows, 0, 0, 0, payload)
    if size == 0:
        return _TRUNCATED, header
    if rows == 2 and size == 8 * channels:  # or one of float64, NumPy's default
        return _DOUBLE, header
    return _misfit(size, rows, 4, channels), header


@inlined
def size_wanted(header, channels, raw):
    """The size of a message that has what its header, as far as it was read, says; of a raw one, of a row."""
    if raw == 1:
        return 4 * channels
    return _HEAD + max(header.rows, 1) * channels * _value_bytes(header.dtype)


@inlined
def _number(dtype, at, channel):
    """Value ``channel`` of the row at address ``at``, float64."""
    if dtype == _F32:
        return np.float64(read_f32(at + 4 * channel))
    if dtype == _F64:
        return read_f64(at + 8 * channel)
    if dtype == _I16:
        return np.float64(read_i16(at + 2 * channel))
    return np.float64(read_i32(at + 4 * channel))


@inlined
def decode_row(header, row, channels, offsets, values, to):
    """Writes row ``row`` of a decoded message, less the ``offsets`` if there are any, to ``values[to:]``.

    ``values`` are float32, ``offsets`` float64, (channels,) or (0,).
    """
    dtype = header.dtype
    at = header.at + row * channels * _value_bytes(dtype)
    if offsets.size > 0:
        for channel in range(channels):
            values[to + channel] = np.float32(_number(dtype, at, channel) - offsets[channel])
    elif dtype == _F32:
        copy_words(address_of(values, to), at, channels)
    elif dtype == _F64:
        for channel in range(channels):
            values[to + channel] = np.float32(read_f64(at + 8 * channel))
    elif dtype == _I16:
        for channel in range(channels):
            values[to + channel] = np.float32(read_i16(at + 2 * channel))
    else:
        for channel in range(channels):
            values[to + channel] = np.float32(read_i32(at + 4 * channel))


@inlined
def encode_values(to, values, offsets):
    """Writes the float32 values at address ``values``, with the ``offsets``, (n,) float64, to ``to``."""
    for output in range(offsets.size):
        write_f32(to + 4 * output, np.float32(read_f32(values + 4 * output) + offsets[output]))


@inlined
def is_utf8(name):
    """Whether the id at address ``name`` (its length in byte 127) is well-formed UTF-8 (RFC 3629)."""
    length = np.int64(read_u8(name + frame.TOPIC_BYTES))
    at = 0
    while at < length:
        lead = np.int64(read_u8(name + at))
        at += 1
        if lead < 0x80:
            continue
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if lead < 0xC2 or lead > 0xF4 or at + more > length:
            return False
        code = lead & (0x3F >> more)
        for _ in range(more):
            byte = np.int64(read_u8(name + at))
            if byte & 0xC0 != 0x80:
                return False
            code = code << 6 | byte & 0x3F
            at += 1
        too_short = (more == 2 and code < 0x800) or (more == 3 and code < 0x10000)
        if too_short or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            return False
    return True

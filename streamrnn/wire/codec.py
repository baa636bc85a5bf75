"""Frames decoded, and predictions' values encoded, compiled. Offsets come from the dtypes of ``wire.frame``.

Hostile bytes stop here: ``decode`` compares every count with the length before anything is read.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.stats import REASONS
from streamrnn.wire import frame
from streamrnn.wire.memory import (
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

# indices into a decoded header, int64
DTYPE, FLAGS, ROW_COUNT, FIRST_SEQ, FIRST_TS, ROW_NS, AT = range(7)
HEADER_FIELDS = 7

_MAGIC = int.from_bytes(b"SR", "little")
_KNOWN_FLAGS = frame.END | frame.RESET | frame.SEQ | frame.TS
_F32, _F64, _I16, _I32 = frame.DTYPES
_HEAD = frame.FRAME.itemsize


def _offset(dtype: np.dtype, field: str) -> int:
    fields = dtype.fields
    assert fields is not None
    return fields[field][1]


_VERSION_AT, _DTYPE_AT, _FLAGS_AT, _ROWS_AT, SEQ_AT, TS_AT, _DT_AT = (
    _offset(frame.FRAME, name) for name in ("version", "dtype", "flags", "rows", "seq", "ts_ns", "dt_ns")
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
def decode(payload, size, channels, header):
    """Reads a frame's header into ``header``. Returns -1, or an index into REASONS.

    What cannot be read of it is as in a frame of one row of float32.
    """
    header[DTYPE], header[ROW_COUNT] = _F32, 1
    if size >= 2:
        if read_u16(payload) != _MAGIC:
            return _MAGIC_BAD
    elif size == 1 and read_u8(payload) != _MAGIC & 0xFF:
        return _MAGIC_BAD
    if size < _HEAD:
        return _TRUNCATED
    if read_u8(payload + _VERSION_AT) != frame.VERSION:
        return _VERSION_BAD
    header[DTYPE] = read_u8(payload + _DTYPE_AT)
    header[FLAGS] = read_u16(payload + _FLAGS_AT)
    header[ROW_COUNT] = read_u16(payload + _ROWS_AT)
    header[FIRST_SEQ] = np.int64(read_u64(payload + SEQ_AT))
    header[FIRST_TS] = read_i64(payload + TS_AT) if header[FLAGS] & frame.TS else 0
    header[ROW_NS] = read_i64(payload + _DT_AT)
    header[AT] = payload + _HEAD
    if header[DTYPE] < _F32 or header[DTYPE] > _I32:
        return _DTYPE_BAD
    if header[FLAGS] & ~_KNOWN_FLAGS:
        return _FLAGS_BAD
    if header[ROW_COUNT] == 0:
        return _NO_ROWS
    return _misfit(size - _HEAD, header[ROW_COUNT], _value_bytes(header[DTYPE]), channels)


@inlined
def decode_raw(payload, size, channels, header):
    """The header of a raw message: rows of float32, one or more than two, without number or time."""
    header[DTYPE] = _F32
    header[FLAGS] = header[FIRST_SEQ] = header[FIRST_TS] = header[ROW_NS] = 0
    header[ROW_COUNT] = max(size // (4 * channels), 1)
    header[AT] = payload
    if size == 0:
        return _TRUNCATED
    if header[ROW_COUNT] == 2 and size == 8 * channels:  # or one of float64, NumPy's default
        return _DOUBLE
    return _misfit(size, header[ROW_COUNT], 4, channels)


@inlined
def size_wanted(header, channels, raw):
    """The size of a message that has what its header, as far as it was read, says; of a raw one, of a row."""
    if raw == 1:
        return 4 * channels
    return _HEAD + max(header[ROW_COUNT], 1) * channels * _value_bytes(header[DTYPE])


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
    dtype = header[DTYPE]
    at = header[AT] + row * channels * _value_bytes(dtype)
    if offsets.size > 0:
        for channel in range(channels):
            values[to + channel] = np.float32(_number(dtype, at, channel) - offsets[channel])
    elif dtype == _F32:
        for channel in range(channels):
            values[to + channel] = read_f32(at + 4 * channel)
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

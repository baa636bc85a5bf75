"""The wire, byte by byte: what DESIGN says, what Python packs, and what compiled code reads are one thing."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamrnn.compiling.jit import compiled
from streamrnn.stats import REASONS
from streamrnn.wire import codec, frame
from streamrnn.wire.frame import (
    BANDS,
    DTYPES,
    END,
    FRAME,
    PREDICTION,
    RESET,
    SEQ,
    TS,
    WireError,
    flag_names,
    pack_frame,
    unpack_prediction,
)
from streamrnn.wire.memory import address_of

FRAME_LAYOUT = {
    "magic": (0, "2s"),
    "version": (2, "B"),
    "dtype": (3, "B"),
    "flags": (4, "H"),
    "rows": (6, "H"),
    "seq": (8, "Q"),
    "ts_ns": (16, "q"),
    "dt_ns": (24, "q"),
}
PREDICTION_LAYOUT = {
    "magic": (0, "2s"),
    "version": (2, "B"),
    "kind": (3, "B"),
    "flags": (4, "H"),
    "horizon": (6, "H"),
    "seq": (8, "Q"),
    "ts_ns": (16, "q"),
    "step": (24, "Q"),
    "recv_ns": (32, "q"),
    "pub_ns": (40, "q"),
    "score": (48, "f"),
    "gap": (52, "I"),
    "epoch": (56, "I"),
    "residual": (60, "f"),
}
FRAME_FORMAT, PREDICTION_FORMAT = "<2sBBHHQqq", "<2sBBHHQqQqqfIIf"
VALUE_BYTES = {1: 4, 2: 8, 3: 2, 4: 4}
NO_OFFSETS = np.zeros(0)
U64, I64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)


@compiled
def _decode(payload, channels, raw):
    if raw:
        return codec.decode_raw(address_of(payload, 0), payload.size, channels)
    return codec.decode(address_of(payload, 0), payload.size, channels)


@compiled
def _decode_row(header, row, channels, offsets, values, to):
    codec.decode_row(header, row, channels, offsets, values, to)


@compiled
def _are_utf8(names, valid):
    for row in range(valid.size):
        valid[row] = codec.is_utf8(address_of(names, row * 128))


def placed(payload: bytes, offset: int = 0, around: int = 0xFF) -> np.ndarray:
    """The bytes at an address ``offset`` past an aligned one, with ``around`` before and after them."""
    room = np.full(len(payload) + 256, around, np.uint8)
    begin = -room.ctypes.data % 64 + 64 + offset
    room[begin : begin + len(payload)] = np.frombuffer(payload, np.uint8)
    return room[begin : begin + len(payload)]


def decoded(payload: np.ndarray, channels: int, raw: bool = False) -> tuple[str | None, codec.Header]:
    """The reason that compiled code gives, None for a good message, and the header it read."""
    reason, header = _decode(payload, channels, raw)
    assert -1 <= reason < len(REASONS)
    return None if reason < 0 else REASONS[reason], header


def reference(payload: bytes, channels: int) -> str | list[int]:
    """DESIGN in plain Python: why a frame is refused, or dtype, flags, rows, seq, ts_ns and dt_ns."""
    if not b"SR".startswith(payload[:2]):
        return "magic"
    if len(payload) < 32:
        return "truncated"
    _, version, dtype, flags, rows, seq, ts_ns, dt_ns = struct.unpack_from(FRAME_FORMAT, payload)
    for reason, wrong in (
        ("version", version != 1),
        ("dtype", dtype not in VALUE_BYTES),
        ("flags", flags >= 16),
        ("rows", rows == 0),
    ):
        if wrong:
            return reason
    found, expected = len(payload) - 32, rows * channels * VALUE_BYTES[dtype]
    if found != expected:
        whole_rows = found > 0 and found % (rows * VALUE_BYTES[dtype]) == 0
        return "channels" if whole_rows else "truncated" if found < expected else "oversized"
    return [dtype, flags, rows, seq, ts_ns if flags & 8 else 0, dt_ns]


@pytest.mark.parametrize(
    ("dtype", "layout", "whole"),
    [(FRAME, FRAME_LAYOUT, FRAME_FORMAT), (PREDICTION, PREDICTION_LAYOUT, PREDICTION_FORMAT)],
    ids=["frame", "prediction"],
)
def test_offsets_and_sizes_are_those_of_the_design(dtype, layout, whole):
    assert list(dtype.names) == list(layout)
    kinds = {"2s": "S2", "B": "u1", "H": "<u2", "I": "<u4", "Q": "<u8", "q": "<i8", "f": "<f4"}
    for name, (offset, kind) in layout.items():
        assert dtype.fields[name] == (np.dtype(kinds[kind]), offset)
    ends = [offset + struct.calcsize(kind) for offset, kind in layout.values()]
    assert [offset for offset, _ in layout.values()][1:] == ends[:-1]
    assert dtype.itemsize == ends[-1] == struct.calcsize(whole)


def test_codes_are_those_of_the_design():
    assert (END, RESET, SEQ, TS) == (1, 2, 4, 8)
    assert {code: dtype.str for code, dtype in DTYPES.items()} == {1: "<f4", 2: "<f8", 3: "<i2", 4: "<i4"}
    assert (frame.PER_FRAME, frame.PER_SEQUENCE, frame.ROLLOUT, frame.EVENT) == (1, 2, 3, 4)
    flags = ("WARMING", "GAP", "RESET", "IMPUTED", "DEGRADED", "RESTORED", "EVICTED", "ANOMALY")
    assert [flag_names(1 << bit) for bit in range(8)] == [*flags]
    assert flag_names(2 | 4 | 64) == "GAP|RESET|EVICTED"
    assert frame.EVICTED == 64


@pytest.mark.parametrize("code", VALUE_BYTES)
@given(data=st.data(), flags=st.integers(0, 3), rows=st.integers(1, 5), dt_ns=I64)
def test_pack_frame_is_the_one_liner_of_the_design(code, data, flags, rows, dt_ns):
    seq, ts_ns = (data.draw(st.none() | numbers) for numbers in (U64, I64))
    x = np.arange(rows * 3, dtype=DTYPES[code]).reshape(rows, 3)
    said = flags | (0 if seq is None else 4) | (0 if ts_ns is None else 8)
    expected = struct.pack("<2sBBHHQqq", b"SR", 1, code, said, rows, seq or 0, ts_ns or 0, dt_ns)
    assert pack_frame(x, seq, ts_ns, dt_ns, flags) == expected + x.tobytes()


def test_pack_frame_takes_one_row_and_any_memory_order():
    x = np.arange(12, dtype="<f4").reshape(4, 3)
    assert pack_frame(x[1]) == pack_frame(x[1:2])
    assert pack_frame(np.asfortranarray(x)) == pack_frame(x)
    assert pack_frame(x[::2, ::-1]) == pack_frame(x[::2, ::-1].copy())


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 3), "<u4"), np.zeros((1, 3), ">f4"), np.zeros((0, 3), "<f4"), np.zeros((65536, 1), "<i2")],
    ids=["dtype", "byte order", "no rows", "too many rows"],
)
def test_pack_frame_refuses_what_no_header_can_describe(values):
    with pytest.raises(WireError, match="a frame c"):
        pack_frame(values)


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.tuples(st.integers(1, 4), *[st.integers(0, 2**16 - 1)], U64, I64, U64, I64, I64),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.integers(0, 4),
)
def test_unpack_prediction_reads_every_field(horizon, outputs, numbers, counts, bands):
    kind, flags, *clocks = numbers
    flags = flags | BANDS if bands else flags & ~BANDS
    fields = (b"SP", 1, kind, flags, horizon, *clocks, 0.5, *counts, -2.25)
    shape = 1 + 2 * bands, horizon, outputs
    values = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    message = struct.pack(PREDICTION_FORMAT, *fields) + values.tobytes()
    header, found, sides = unpack_prediction(message, bands)
    assert header.tolist() == fields
    assert (found.shape, sides.shape) == (shape[1:], (2 * bands, *shape[1:]))
    assert found.tobytes() + sides.tobytes() == values.tobytes()


def test_how_many_bands_a_prediction_has_must_be_told():
    fields = (b"SP", 1, 1, BANDS, 1, *[0] * 5, 0.5, 0, 0, -2.25)
    message = struct.pack(PREDICTION_FORMAT, *fields) + bytes(4 * 5 * 3)
    for bands, problem in (
        (0, "it has bands; how many"),
        (1, None),
        (2, None),
        (3, "do not divide into 1 rows"),
    ):
        if problem is None:
            assert unpack_prediction(message, bands)[2].shape == (2 * bands, 1, 15 // (1 + 2 * bands))
        else:
            with pytest.raises(WireError, match=problem):
                unpack_prediction(message, bands)


GOOD_PREDICTION = struct.pack(PREDICTION_FORMAT, b"SP", 1, 1, 0, 2, *[0] * 5, 0.0, 0, 0, 0.0) + bytes(24)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        GOOD_PREDICTION[:63],
        b"SR" + GOOD_PREDICTION[2:],
        b"SP\x02" + GOOD_PREDICTION[3:],
        GOOD_PREDICTION[:-1],
        GOOD_PREDICTION + bytes(4),
        GOOD_PREDICTION[:6] + bytes(2) + GOOD_PREDICTION[8:],
        pack_frame(np.zeros((9, 1), "<f4")),
    ],
    ids=["empty", "short", "magic", "version", "ragged", "odd rows", "horizon 0 with values", "a frame"],
)
def test_unpack_prediction_refuses_rubbish(payload):
    with pytest.raises(WireError):
        unpack_prediction(payload)


@given(st.binary(max_size=160), st.booleans())
def test_unpack_prediction_raises_nothing_but_wire_errors(rest, honest):
    payload = b"SP\x01" + rest if honest else rest
    try:
        header, values, _ = unpack_prediction(payload)
    except WireError:
        return
    assert header.tobytes() + values.tobytes() == payload
    assert len(values) == header["horizon"]


FRAMES = st.builds(
    lambda code, flags, rows, width, seq, ts_ns, dt_ns: (
        struct.pack(FRAME_FORMAT, b"SR", 1, code, flags, rows, seq, ts_ns, dt_ns)
        + bytes(rows * width * VALUE_BYTES[code])
    ),
    st.integers(1, 4),
    st.integers(0, 15),
    st.integers(1, 4),
    st.integers(1, 4),
    U64,
    I64,
    I64,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good frame with a byte changed, cut short, or with something after it."""
    payload = bytearray(draw(FRAMES))
    if draw(st.booleans()):
        at = draw(st.integers(0, 31))
        payload[at] = draw(st.integers(0, 255))
    length = draw(st.just(len(payload)) | st.integers(0, len(payload)))
    return bytes(payload[:length]) + draw(st.just(b"") | st.binary(max_size=9))


@given(FRAMES | mutated() | st.binary(max_size=80), st.integers(1, 4), st.integers(0, 7))
@example(struct.pack(FRAME_FORMAT, b"SR", 1, 2, 15, 65535, 2**64 - 1, -1, -(2**63)), 3, 0)
def test_decode_reads_a_frame_as_plain_python_does(payload, channels, offset):
    expected = reference(payload, channels)
    here = placed(payload, offset)
    reason, header = decoded(here, channels)
    if isinstance(expected, str):
        assert reason == expected
    else:
        assert reason is None
        fields = header._replace(seq=header.seq % 2**64, at=header.at - here.ctypes.data)
        assert fields == (*expected, 32)


@pytest.mark.parametrize(("at", "size"), [(0, 2), (2, 1), (3, 1), (4, 2), (6, 2)], ids=list(FRAME_LAYOUT)[:5])
@pytest.mark.parametrize("code", VALUE_BYTES)
def test_decode_judges_every_value_of_a_field_as_plain_python_does(at, size, code):
    payload = placed(pack_frame(np.ones((2, 3), DTYPES[code]), seq=9))
    for value in range(1 << 8 * size):
        payload[at : at + size] = np.frombuffer(value.to_bytes(size, "little"), np.uint8)
        expected = reference(payload.tobytes(), 3)
        assert decoded(payload, 3)[0] == (expected if isinstance(expected, str) else None)


@pytest.mark.parametrize(
    "payload",
    [pack_frame(np.ones(3, "<f4"))[:32], b"?" * 32, b"S?" * 16, b"SR\1\1" + bytes(28)],
    ids=["good", "magic", "half the magic", "rows"],
)
def test_decode_judges_every_length_of_a_header_as_plain_python_does(payload):
    for length in range(33):
        assert decoded(placed(payload[:length]), 3)[0] == reference(payload[:length], 3)


@given(FRAMES | mutated() | st.binary(max_size=80), st.integers(1, 4))
def test_decode_reads_no_byte_outside_the_payload(payload, channels):
    reasons = {decoded(placed(payload, around=around), channels)[0] for around in (0, 1, ord("S"), 0xFF)}
    assert len(reasons) == 1


@pytest.mark.parametrize("code", VALUE_BYTES)
def test_decode_accepts_exactly_one_length(code):
    rows, channels = 3, 5
    payload = pack_frame(np.zeros((rows, channels), DTYPES[code])) + bytes(200)
    row_bytes = rows * VALUE_BYTES[code]
    end = 32 + channels * row_bytes
    for length in range(len(payload)):
        whole_rows = length > 32 and (length - 32) % row_bytes == 0
        expected = "channels" if whole_rows else "truncated" if length < end else "oversized"
        assert decoded(placed(payload[:length]), channels)[0] == (None if length == end else expected)


@given(st.binary(max_size=100), st.integers(1, 4), st.integers(0, 7))
def test_a_raw_message_is_whole_rows_of_float32_or_refused(payload, channels, offset):
    here = placed(payload, offset)
    reason, header = decoded(here, channels, raw=True)
    if len(payload) == 8 * channels:
        assert reason == "float64"
    elif payload and len(payload) % (4 * channels) == 0:
        assert reason is None
        assert header == (1, 0, len(payload) // (4 * channels), 0, 0, 0, here.ctypes.data)
    else:
        assert reason in ("truncated", "oversized", "channels")


@pytest.mark.parametrize("code", VALUE_BYTES)
@given(data=st.data(), offset=st.integers(0, 15), channels=st.integers(1, 20), rows=st.integers(1, 3))
def test_decode_row_converts_as_numpy_does_at_any_address(code, data, offset, channels, rows):
    size = rows * channels * VALUE_BYTES[code]
    body = data.draw(st.binary(min_size=size, max_size=size))
    block = np.frombuffer(body, DTYPES[code]).reshape(rows, channels)
    here = placed(pack_frame(block), offset)
    reason, header = decoded(here, channels)
    assert reason is None
    with np.errstate(over="ignore", invalid="ignore"):
        expected = block.astype(np.float32)
    for row in range(rows):
        values = np.full(channels + 2, 7, np.float32)
        _decode_row(header, row, channels, NO_OFFSETS, values, 1)
        assert values[1:-1].view(np.uint32).tolist() == expected[row].view(np.uint32).tolist()
        assert values[0] == values[-1] == 7


@pytest.mark.parametrize(
    ("code", "values"),
    [
        (1, [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38]),
        (2, [np.nan, np.inf, -0.0, 1e300, 1e-300, 16777217.0, 1 + 2**-24, 1 + 3 * 2**-24]),
        (3, [-32768, 32767, 0, -1]),
        (4, [-(2**31), 2**31 - 1, 16777217, 16777219, -1]),
    ],
)
def test_decode_row_converts_the_corners_as_numpy_does(code, values):
    row = np.array(values, DTYPES[code])
    _, header = decoded(here := placed(pack_frame(row)), len(row))
    out = np.zeros(len(row), np.float32)
    _decode_row(header, 0, len(row), NO_OFFSETS, out, 0)
    with np.errstate(over="ignore"):
        assert out.tobytes() == row.astype(np.float32).tobytes()
        offsets = np.linspace(-3, 123456789, len(row))
        _decode_row(header, 0, len(row), offsets, out, 0)
        assert out.tobytes() == (row.astype(np.float64) - offsets).astype(np.float32).tobytes()
    assert len(here) == 32 + row.nbytes


@given(
    st.tuples(st.integers(0, 2**16 - 1), U64, I64, U64, I64, I64, *[st.integers(0, 2**32 - 1)] * 2),
    st.integers(0, 7),
    st.floats(width=32, allow_nan=False),
    st.floats(width=32, allow_nan=False),
)
def test_a_prediction_encoded_is_the_prediction_unpacked(numbers, offset, score, residual):
    said = frame.blank_predictions(1)[0]
    names = ("flags", "seq", "ts_ns", "step", "recv_ns", "pub_ns", "gap", "epoch")
    for name, number in zip(names, numbers, strict=True):
        said[name] = number
    said["kind"], said["horizon"], said["score"], said["residual"] = frame.PER_FRAME, 1, score, residual
    flags, seq, ts, step, received, published, gap, epoch = numbers
    expected = (b"SP", 1, 1, flags, 1, seq, ts, step, received, published, score, gap, epoch, residual)
    assert said.tobytes() == struct.pack("<2sBBHHQqQqqfIIf", *expected)
    bands = int(flags & BANDS != 0)
    header, values, sides = unpack_prediction(said.tobytes() + bytes(8 + 16 * bands), bands)
    assert header.tolist() == expected
    assert values.tolist() == [[0, 0]]
    assert sides.tolist() == [[[0, 0]]] * 2 * bands


def python_says(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def compiled_says(names: list[bytes], around: int = 0x80) -> list[bool]:
    """Whether each is UTF-8, as compiled code finds; what follows a name is ``around``."""
    table = b"".join(name.ljust(127, bytes([around])) + bytes([len(name)]) for name in names)
    valid = np.zeros(len(names), np.bool_)
    _are_utf8(np.frombuffer(table, np.uint8), valid)
    return valid.tolist()


@given(
    st.lists(st.binary(max_size=127) | st.text(max_size=31).map(str.encode), min_size=1), st.integers(0, 255)
)
def test_utf8_is_what_python_decodes(names, around):
    assert compiled_says(names, around) == [python_says(name) for name in names]


# every value where the meaning of a byte changes, and its neighbours
EDGES = sorted(
    {
        *(byte + step for byte in (0x80, 0x90, 0xA0, 0xC0, 0xC2, 0xE0, 0xF0, 0xF5) for step in (-1, 0, 1)),
        *(0x00, 0xED, 0xEE, 0xF4, 0xFF),
    }
)


def test_utf8_is_what_python_decodes_for_every_pair_of_bytes():
    pairs = [bytes([first, second]) for first in range(256) for second in range(256)]
    assert compiled_says(pairs) == [python_says(pair) for pair in pairs]


@pytest.mark.parametrize("length", [3, 4])
def test_utf8_is_what_python_decodes_at_every_edge(length):
    names = [b""]
    for _ in range(length):
        names = [name + bytes([edge]) for name in names for edge in EDGES]
    for begin, end in pairwise([*range(0, len(names), 1 << 16), len(names)]):
        some = names[begin:end]
        assert compiled_says(some) == [python_says(name) for name in some]

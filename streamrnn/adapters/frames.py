"""Frames, and raw messages, for those who take any format by one mechanism; a daemon's pump reads its own.

What is refused, and why, is as there; but what a raw message may hold is the model's to say.
"""

import struct

import numpy as np

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.wire.frame import DTYPES, END, FRAME, RESET, SEQ, TOPIC_BYTES, TS, VERSION

_HEAD = struct.Struct("<2sBBHHQqq")  # of ``FRAME``
assert _HEAD.size == FRAME.itemsize
_FLAGS = END | RESET | SEQ | TS
_LARGEST_SEQ = 1 << 62
_FURTHEST = 1 << 62  # ns from the epoch: 146 years
_FLOAT32 = np.dtype("<f4")


class FrameAdapter:
    """Reads ``[topic] [frame]`` into blocks; of one part where ``input.stream`` says whose they are."""

    def __init__(self, plan: Plan):
        self._plan, self._count = plan, len(plan.channels)

    def read(self, message: Message, harvest: Harvest) -> None:
        stream, payload = named_payload(message, self._plan.stream)
        if payload[:2] != b"SR"[: len(payload)]:
            raise Rejected("magic", f"it begins with {payload[:20]!r}")
        if len(payload) < _HEAD.size:
            raise Rejected("truncated", f"{len(payload)} bytes, and a header has {_HEAD.size}")
        _, version, code, flags, rows, seq, ts_ns, dt_ns = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise Rejected("version", f"its version is {version}")
        if (dtype := DTYPES.get(code)) is None:
            raise Rejected("dtype", f"its dtype is {code}")
        if flags & ~_FLAGS:
            raise Rejected("flags", f"its flags are {flags}")
        if rows == 0:
            raise Rejected("rows", "it has 0 rows")
        size, wanted = len(payload) - _HEAD.size, rows * self._count * dtype.itemsize
        if size != wanted:
            same = size and size % (rows * dtype.itemsize) == 0
            reason = "channels" if same else "truncated" if size < wanted else "oversized"
            raise Rejected(reason, f"{size} bytes of values, {wanted} wanted")
        values = np.frombuffer(payload, dtype, offset=_HEAD.size).reshape(rows, self._count)
        if code > 2:  # of integers none is lost in float64
            values = values.astype(np.float64)
        times = _times(message.came_ns, flags, ts_ns, dt_ns or self._plan.period_ns, rows)
        if flags & SEQ and seq > _LARGEST_SEQ:
            raise Rejected("value", f"its number is {seq}")
        numbered = seq if flags & SEQ else NO_SEQ
        harvest.blocks.append(RowBlock(stream, values, times, numbered, bool(flags & RESET)))


class RawAdapter:
    """Reads ``[topic] [float32 values]`` into blocks: a row, or more than two."""

    def __init__(self, plan: Plan):
        self._plan, self._row = plan, 4 * len(plan.channels)

    def read(self, message: Message, harvest: Harvest) -> None:
        stream, payload = named_payload(message, self._plan.stream)
        if not stream.isprintable() or stream[0] in "{[":
            raise Rejected("topic", f"{stream[:20]!r} is no stream's id in front of raw values")
        rows, rest = divmod(len(payload), self._row)
        if rest or not rows:
            reason = "oversized" if rows else "truncated"
            raise Rejected(reason, f"{len(payload)} bytes, and a row has {self._row}")
        if rows == 2:
            raise Rejected("float64", f"{len(payload)} bytes: two rows of float32, or one of float64")
        values = np.frombuffer(payload, _FLOAT32).reshape(rows, -1)
        times = _times(message.came_ns, 0, 0, self._plan.period_ns, rows)
        harvest.blocks.append(RowBlock(stream, values, times))


def named_payload(message: Message, stream: str) -> tuple[str, bytes]:
    """Whose a message is, and its payload; ``stream`` says whose those of one part are. Raises Rejected."""
    topic, parts = message.topic, message.parts
    if topic is None and len(parts) == 2:
        topic, parts = parts[0], parts[1:]
    if len(parts) != 1 or (topic is None and not stream):
        raise Rejected("parts", f"{len(message.parts)} parts, a topic and a payload wanted")
    if topic is None:
        return stream, parts[0]
    if not 0 < len(topic) <= TOPIC_BYTES:
        raise Rejected("topic", f"a topic of {len(topic)} bytes, 1 to {TOPIC_BYTES} wanted")
    try:
        return topic.decode(), parts[0]
    except UnicodeDecodeError:
        raise Rejected("topic", "its topic is not UTF-8") from None


def _times(came_ns: int, flags: int, ts_ns: int, row_ns: int, rows: int) -> np.ndarray:
    """(rows,) int64; of rows that do not say when they were, back from when their message came."""
    first = ts_ns if flags & TS and ts_ns else came_ns - (rows - 1) * row_ns
    if abs(first) + rows * abs(row_ns) >= _FURTHEST:
        raise Rejected("time", f"its time is {ts_ns} ns, and {row_ns} ns from row to row")
    return first + row_ns * np.arange(rows, dtype=np.int64)

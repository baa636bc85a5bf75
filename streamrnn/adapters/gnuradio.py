"""GNU Radio's ZeroMQ sinks: vectors of values one after another, as many as its scheduler had.

``pub_sink`` and ``push_sink`` send the bytes of k vectors, with ``pass_tags`` a header of tags before them,
which alone has a number: the offset of the first vector. Whether tags are on is not said, so a header is what
reads as one, with whole vectors behind it. ``pub_msg_sink`` sends one message of the library's form (PMT);
a vector of float32 is read. Rows are timed backwards from when their message came: a scheduler keeps them for
seconds. Complex values are two channels of ``float32`` each.
"""

import struct

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.adapters.dtypes import BY_NAME, to_float64
from streamrnn.adapters.source import StreamFinder
from streamrnn.adapters.stamps import row_times
from streamrnn.errors import ConfigError

_TAGS = b"\xf0\x5f\x01"  # u16 0x5FF0, u8 version
_TAGS_HEAD = struct.Struct("<3xQQ")  # offset of the first vector, number of tags
_TAG_BYTES = 8 + 3  # of the shortest: an offset, and key, value and source of a byte each
_MOST_TAG_BYTES = 1 << 18
_PDU = b"\x07\x06\x0a\x08"  # a pair of nothing and a uniform vector of float32
_PDU_HEAD = struct.Struct(">4xIB")  # number of values, bytes of padding

# PMT: what a first byte says of the bytes behind it
_SIZES = {0: 0, 1: 0, 3: 4, 4: 8, 5: 16, 6: 0, 11: 8, 13: 8}  # plain values: true, false, int32, double, ...
_SYMBOL, _PAIR, _VECTOR, _DICTIONARY, _UNIFORM, _TUPLE = 2, 7, 8, 9, 10, 12
_COUNT, _LENGTH = struct.Struct(">I"), struct.Struct(">H")
_UNIFORM_HEAD = struct.Struct(">BIB")  # type of the items, their number, bytes of padding
_ITEM_BYTES = (1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 8, 16)  # of uniform vectors: u8, s8, ..., c32, c64
_KNOWN = 1 << 16  # streams whose next number is known


class GnuRadioAdapter:
    """Reads ``[key] [vectors]``, the key or not, into blocks. Raises ConfigError for an unknown dtype."""

    def __init__(self, plan: Plan):
        if plan.dtype not in BY_NAME:
            raise ConfigError(f"input.dtype: {plan.dtype!r} is none of {', '.join(BY_NAME)}")
        self._dtype = BY_NAME[plan.dtype]
        self._channels, self._period_ns = len(plan.channels), plan.period_ns
        self._row_bytes = self._channels * self._dtype.itemsize
        self._finder = StreamFinder(plan)
        self._next: dict[str, int] = {}  # the number that a stream's next row should have

    def read(self, message: Message, harvest: Harvest) -> None:
        parts, topic = message.parts, message.topic
        if len(parts) == 2 and topic is None:
            topic, parts = parts[0], parts[1:]
        if len(parts) != 1:
            raise Rejected("parts", f"it has {len(message.parts)} parts, not vectors, or a key and vectors")
        content = parts[0]
        stream = self._finder.of(self._finder.of_topic(topic))
        seq, begin = NO_SEQ, 0
        dtype = self._dtype
        if (values_at := _vector_of_a_pdu(content)) is not None:
            dtype, begin = BY_NAME["float32"].newbyteorder(">"), values_at
        elif (head := self._tags(content)) is not None:
            seq, begin = head
        rows, rest = divmod(len(content) - begin, self._channels * dtype.itemsize)
        if rest or not rows:
            raise Rejected(
                "oversized" if rows else "truncated",
                f"{len(content) - begin} bytes are no whole number of vectors of {self._channels} "
                f"{dtype.name}, {self._channels * dtype.itemsize} bytes each",
            )
        times = row_times(message.came_ns, rows, self._period_ns)
        values = to_float64(content[begin:], dtype).reshape(rows, self._channels)
        harvest.blocks.append(RowBlock(stream, values, times, seq, self._begins(stream, seq, rows)))

    def _tags(self, content: bytes) -> tuple[int, int] | None:
        """The number of the first row, and where its values begin; None where no tags are in front."""
        if content[:3] != _TAGS or len(content) < _TAGS_HEAD.size:
            return None
        plain = len(content) % self._row_bytes == 0  # it may be values alone, which only look like a header
        seq, tags = _TAGS_HEAD.unpack_from(content)
        at = _TAGS_HEAD.size
        if tags > (len(content) - at) // _TAG_BYTES or seq >> 62:
            if plain:
                return None
            raise Rejected("syntax", f"its header says {tags} tags from row {seq} on, which cannot be")
        for _ in range(tags):
            at += 8
            for _ in range(3):
                at = _behind(content, at)
        return None if plain and (len(content) - at) % self._row_bytes else (seq, at)

    def _begins(self, stream: str, seq: int, rows: int) -> bool:
        """Whether a row is the first of a flow graph that was started: its numbers begin again."""
        if seq == NO_SEQ:
            return False
        begins = seq == 0 or seq < self._next.get(stream, 0)
        if len(self._next) >= _KNOWN and stream not in self._next:
            self._next.clear()
        self._next[stream] = seq + rows
        return begins


def _vector_of_a_pdu(content: bytes) -> int | None:
    """Where the float32 values of a message of ``pub_msg_sink`` begin; None for what is none."""
    if content[:4] != _PDU or len(content) < _PDU_HEAD.size:
        return None
    count, padding = _PDU_HEAD.unpack_from(content)
    begin = _PDU_HEAD.size + padding
    return begin if begin + 4 * count == len(content) else None


def _behind(content: bytes, at: int) -> int:
    """Where the PMT ends that begins at ``at``. Raises Rejected for one that is cut short or unknown.

    No recursion: what a pair, a dictionary, a vector or a tuple holds is what is still to come behind it.
    Each takes a byte at least, so none can hold more than there are bytes.
    """
    end = min(len(content), _MOST_TAG_BYTES)
    awaited = 1
    while awaited:
        if awaited > end - at:
            raise Rejected("syntax", "its tags are cut short, or beyond 256 KiB")
        kind = content[at]
        awaited -= 1
        at += 1
        try:
            if kind in (_PAIR, _DICTIONARY):
                awaited += 2
            elif kind in (_VECTOR, _TUPLE):
                awaited += int(_COUNT.unpack_from(content, at)[0])
                at += _COUNT.size
            elif kind == _SYMBOL:
                at += _LENGTH.size + int(_LENGTH.unpack_from(content, at)[0])
            elif kind == _UNIFORM:
                item, count, padding = _UNIFORM_HEAD.unpack_from(content, at)
                at += _UNIFORM_HEAD.size + padding + count * _ITEM_BYTES[item]
            else:
                at += _SIZES[kind]
        except (struct.error, LookupError):
            raise Rejected("syntax", f"its tags have what is no PMT at byte {at}") from None
    if at > end:
        raise Rejected("syntax", "its tags are cut short, or beyond 256 KiB")
    return at

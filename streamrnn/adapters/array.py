"""Arrays: a JSON header with dtype and shape, then the bytes, as in the pyzmq guide's ``send_array``.

The header never says in which order the bytes are. Most arrays have the values of a row side by side
(``input.order = "C"``); a transposed view, and what some data frames give, those of a channel (``"F"``),
under the same header.
"""

from collections.abc import Sequence

from streamrnn.adapters.adapter import Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.adapters.dtypes import dtype_of, to_float64
from streamrnn.adapters.headers import read_header, shown, whole
from streamrnn.adapters.names import value_at
from streamrnn.adapters.source import StreamFinder
from streamrnn.adapters.stamps import Stamps, row_times

_LONGEST = 1 << 40  # of what a shape may say


class ArrayAdapter:
    """Reads ``[topic] [header] [bytes]``, the topic or not, into blocks."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._finder, self._stamps = StreamFinder(plan), Stamps(plan)

    def read(self, message: Message, harvest: Harvest) -> None:
        topic, head, content = _taken_apart(message)
        origin = self._finder.of_topic(topic)
        header = read_header(head, "header")
        stream = self._finder.of(origin, header)
        dtype = dtype_of(header.get("dtype"))
        rows = _rows(header.get("shape"), len(self._plan.channels))
        if (wanted := rows * len(self._plan.channels) * dtype.itemsize) != len(content):
            raise Rejected(
                "truncated" if len(content) < wanted else "oversized",
                f"its header says {shown(header['shape'])} of {dtype.name}, {wanted} bytes, and "
                f"{len(content)} follow",
            )
        said = value_at(header, self._stamps.path) if self._stamps.path else None
        last_ns = message.came_ns if said is None else self._stamps.ns(said)
        times = row_times(last_ns, rows, self._plan.period_ns)
        if rows:
            shape = (rows, len(self._plan.channels))
            values = to_float64(content, dtype).reshape(shape, order="F" if self._plan.order == "F" else "C")
            harvest.blocks.append(RowBlock(stream, values, times))


def _taken_apart(message: Message) -> tuple[bytes | None, bytes, bytes]:
    """Topic, header and bytes.

    A sender that fails between header and bytes leaves its header in front of the next message; such a
    message is one part too long, and all of it is dropped.
    """
    parts: Sequence[bytes] = message.parts
    topic = message.topic
    if len(parts) == 3 and topic is None and parts[0][:1] != b"{":
        topic, parts = parts[0], parts[1:]
    if len(parts) != 2:
        glued = len(parts) > 2 and all(part[:1] == b"{" for part in parts[:2])
        raise Rejected(
            "parts",
            f"it has {len(message.parts)} parts, not a header and bytes, or a topic and these"
            f"{': in front is the header of one whose bytes were never sent' if glued else ''}",
        )
    if parts[0][:1] != b"{":
        raise Rejected("syntax", f"{shown(bytes(parts[0][:20]))} stands where a header begins with {{")
    return topic, parts[0], parts[1]


def _rows(shape: object, channels: int) -> int:
    """How many rows a shape stands for: [channels], [rows, channels], and [] where there is one channel."""
    if not isinstance(shape, list) or len(shape) > 2:
        raise Rejected("shape", f"its shape is {shown(shape)}, not [{channels}] or [rows, {channels}]")
    lengths = [length for length in map(whole, shape) if length is not None and length < _LONGEST]
    if len(lengths) != len(shape):
        raise Rejected("shape", f"its shape is {shown(shape)}, with what is no length")
    if not lengths:
        lengths = [1]
    if lengths[-1] == channels:
        return lengths[0] if len(lengths) == 2 else 1
    if len(lengths) == 2 and lengths[0] == channels:
        raise Rejected(
            "shape", f"its shape is {shape}, channels by rows; send rows by channels, [rows, {channels}]"
        )
    raise Rejected("channels", f"its shape is {shape}, not [{channels}] or [rows, {channels}]")

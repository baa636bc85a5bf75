"""Open Ephys GUI, its ZMQ Interface plugin: a message has one channel's samples of a block.

``DATA``, a JSON header, float32 values. The messages of a block follow each other, one for each channel that
the plugin sends; when the model's channels have all come, their samples become rows, numbered by
``sample_num``. A block that lacks one when the next begins is dropped and counted. Numbers that go back are
an acquisition that was started anew: its rows begin a new sequence.

Samples have no wall-clock time. The first of an acquisition is taken to be of when its message came, those
after it follow by their numbers and ``sample_rate``; with ``input.time = ""`` a block's last row is of when
it came.

Channels are found by ``channel_name``. Older plugins do not send it: then channel 0 is the model's ``CH1``,
as the GUI calls it, and so on, or its first where none of the model's channels is called like that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from streamrnn.adapters.adapter import Harvest, Message, Plan, Refused, Rejected, RowBlock
from streamrnn.adapters.dtypes import BY_NAME, to_float64
from streamrnn.adapters.headers import read_header, shown, whole
from streamrnn.adapters.names import Names
from streamrnn.adapters.source import StreamFinder, named
from streamrnn.adapters.stamps import row_times

STREAMS = 16  # whose blocks are gathered at the same time
BLOCK_BYTES = 8 << 20  # of a block that waits for its other channels
_VALUES = BY_NAME["float32"]
_LIMIT = 2**62  # ns
_CALLED = re.compile(r"CH\d+")


class _Samples(NamedTuple):
    """What a message says."""

    source: str  # the GUI's name of the stream
    stream: str
    number: int | None  # of the message, of all that the plugin sends
    channel: str
    column: int | None  # of the model
    first: int  # number of the first sample
    size: int  # samples
    rate: float  # samples a second
    content: bytes


@dataclass
class _Acquisition:
    """A stream of the GUI since it was started, and its newest block."""

    stream: str
    zero: int  # a sample, and
    zero_ns: int  # when it came
    begins: bool  # whether rows of it are still to come
    number: int = -1  # of its newest message
    first: int = -1
    count: int = 0
    done: bool = True  # whether all of the block has come, or it was dropped
    other: str = ""  # a channel of the block that is none of the model's
    parts: dict[int, bytes] = field(default_factory=dict)  # column -> values


class OpenEphysAdapter:
    """Reads messages of single channels into blocks of rows of all."""

    def __init__(self, plan: Plan):
        self._plan, self._names, self._finder = plan, Names(plan), StreamFinder(plan)
        self._called = any(_CALLED.fullmatch(channel) for channel in plan.channels)
        self._acquisitions: dict[str, _Acquisition] = {}

    def read(self, message: Message, harvest: Harvest) -> None:
        said = self._samples(message)
        if said is None:
            return
        now = self._acquisition(said, message.came_ns, harvest)
        if (said.first, said.size) != (now.first, now.count):
            self._drop(now, harvest)
            now.first, now.count, now.done = said.first, said.size, False
        if said.column is None:
            now.other = now.other or said.channel
            return
        if now.done or said.column in now.parts:
            raise Rejected("parts", f"{shown(said.channel)} has come for block {now.first} before")
        if (len(now.parts) + 1) * 4 * now.count > BLOCK_BYTES:
            now.done = True
            now.parts.clear()
            raise Rejected("oversized", f"its block of {now.count} samples comes to over {BLOCK_BYTES} bytes")
        now.parts[said.column] = said.content
        if len(now.parts) == len(self._plan.channels):
            self._finish(now, said, message.came_ns, harvest)

    def _samples(self, message: Message) -> _Samples | None:
        """What a message says; None for an event, a spike or nothing. Raises Rejected."""
        parts = message.parts
        kind = bytes(parts[0][:8]).rstrip(b"\0") if parts else b""
        if kind == b"EVENT":
            return None
        if kind != b"DATA":
            raise Rejected("parts", f"its first part is not DATA but {shown(kind)}")
        if len(parts) != 3:
            raise Rejected("parts", f"it has {len(parts)} parts, not DATA, a header and values")
        header = read_header(parts[1], "header")
        content = header.get("content")
        if header.get("type") != "data" or not isinstance(content, Mapping):
            raise Rejected(
                "syntax", f"its header is of type {shown(header.get('type'))}, not data with content"
            )
        first, count = whole(content.get("sample_num")), whole(content.get("num_samples"))
        number = whole(header.get("message_num", 0))
        if first is None or count is None or number is None or first >= _LIMIT:
            found = [content.get("sample_num"), content.get("num_samples"), header.get("message_num")]
            raise Rejected("syntax", f"its sample_num, num_samples, message_num are {shown(found)}")
        size, told = 4 * count, header.get("data_size", 4 * count)
        if len(parts[2]) != size or told != size:
            raise Rejected(
                "truncated" if len(parts[2]) < size else "oversized",
                f"its {count} samples have {len(parts[2])} bytes, and its header says {shown(told)}",
            )
        rate: Any = content.get("sample_rate")
        if type(rate) not in (int, float) or not 1e-6 < rate < 1e12:
            raise Rejected("time", f"its sample_rate is {shown(rate)}")
        channel, column = self._channel(content)
        source = named(content.get("stream"))
        stream = self._stream(message, header, source)
        if not count:
            return None
        number = number if "message_num" in header else None
        return _Samples(source, stream, number, channel, column, first, count, float(rate), parts[2])

    def _stream(self, message: Message, header: dict[str, Any], source: str) -> str:
        origin = self._finder.of_topic(message.topic)
        return self._finder.of(origin, header) if self._plan.stream or origin.stream else source

    def _channel(self, content: Mapping[str, Any]) -> tuple[str, int | None]:
        """What a channel is called, and the model's column for it."""
        name, number = content.get("channel_name"), whole(content.get("channel_num"))
        if isinstance(name, str):
            return name, self._names.index(name)
        if name is not None or number is None:
            found = [name, content.get("channel_num")]
            raise Rejected("syntax", f"its channel_name and channel_num are {shown(found)}")
        name = f"CH{number + 1}"
        if self._called:
            return name, self._names.index(name)
        return name, number if number < len(self._plan.channels) else None

    def _acquisition(self, said: _Samples, came_ns: int, harvest: Harvest) -> _Acquisition:
        """The one that a message belongs to; a new one where numbers go back."""
        now = self._acquisitions.get(said.source)
        anew = now is not None and (
            said.first < now.first or (said.number is not None and said.number <= now.number)
        )
        if now is None or anew or now.stream != said.stream:
            if now is not None:
                self._drop(now, harvest)
            elif len(self._acquisitions) >= STREAMS:
                self._drop(self._acquisitions.pop(next(iter(self._acquisitions))), harvest)
            now = _Acquisition(said.stream, said.first, came_ns, anew or said.first == 0)
            self._acquisitions[said.source] = now
        if said.number is not None:
            now.number = said.number
        return now

    def _drop(self, now: _Acquisition, harvest: Harvest) -> None:
        """Lets the block go that still waits, if one does, and counts it."""
        if not now.done:
            stream = now.stream.encode()
            if now.parts:
                lacks = [name for k, name in enumerate(self._plan.channels) if k not in now.parts]
                what = f"{len(lacks)} channels of block {now.first} have not come, as {shown(lacks[0])}"
                harvest.refused.append(Refused("parts", stream, what))
            else:
                what = f"none of the channels of block {now.first} is the model's, as {shown(now.other)}"
                harvest.refused.append(Refused("channels", stream, what))
        now.done, now.other = True, ""
        now.parts = {}

    def _finish(self, now: _Acquisition, said: _Samples, came_ns: int, harvest: Harvest) -> None:
        """Enters a block that is complete. Raises Rejected for times that cannot be."""
        parts, now.parts, now.done, now.other = now.parts, {}, True, ""
        period_ns = 1e9 / said.rate
        if self._plan.time:
            numerator, denominator = said.rate.as_integer_ratio()
            start = now.zero_ns + (said.first - now.zero) * 10**9 * denominator // numerator
            if not start + said.size * period_ns < _LIMIT:
                raise Rejected("time", f"block {now.first}, {said.rate} samples a second, is beyond any time")
            times = start + np.round(np.arange(said.size) * period_ns).astype(np.int64)
        else:
            times = row_times(came_ns, said.size, round(period_ns))
        values = np.empty((said.size, len(parts)))
        for column, content in parts.items():
            values[:, column] = to_float64(content, _VALUES)
        harvest.blocks.append(RowBlock(now.stream, values, times, said.first, now.begins))
        now.begins = False

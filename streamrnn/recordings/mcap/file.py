"""MCAP, as robots and Foxglove write it: topics of messages, each with a time and fields.

Messages are in the order of their times, as they were logged; equal ones in that of the file. Chunks may
overlap, so a message is held until none that is still to come is earlier, by what the chunks say of their
first one. The numbers of a message are channels by the path of their field.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.mcap.messages import decoder_of
from streamrnn.recordings.mcap.numbers import Decoder, Numbers, Undecodable
from streamrnn.recordings.mcap.records import (
    CHANNEL,
    CHUNK,
    DATA_END,
    FOOTER,
    LATEST,
    MESSAGE,
    MESSAGE_INDEX,
    RECORD_HEAD,
    SCHEMA,
    McapMessage,
    McapSchema,
    McapTopic,
    inner_records,
    read_chunk,
    read_chunk_head,
    read_message,
    read_schema,
    read_topic,
    records_of,
)
from streamrnn.recordings.recording import (
    ChannelGroup,
    Contents,
    RecordedChannel,
    Samples,
    Told,
    rows_at_once,
)
from streamrnn.recordings.stored import PIECE, Damaged, FileBytes, Window

_LOOKED_AT = 100  # messages of a topic that show its fields
_MOST_TOPICS = 1 << 12
_MOST_HELD = 1 << 22  # values that wait for earlier ones
_ROWS = 1 << 14  # of a piece: more would take long to come together, from every chunk of the file
_FIRST_DATE = 10**17  # ns: earlier times, before 1973, count from the start of a simulation


class _Fields:
    """What the messages of a topic hold."""

    def __init__(self, decode: Decoder) -> None:
        self.decode, self.seen = decode, 0
        self.found = dict[str, str]()  # by path: "" = a number, else why it is no channel

    def look(self, numbers: Numbers) -> None:
        """Adds the fields of a message."""
        self.seen += 1
        for path, value in numbers.items():
            if not isinstance(value, str):
                self.found[path] = ""
            else:
                self.found.setdefault(path, value)

    def numbers(self) -> list[str]:
        return [path for path, why in self.found.items() if not why]


class _Block:
    """A chunk, or messages that stand outside of one, a few MB of them."""

    __slots__ = ("at", "chunk", "first", "holds", "size")

    def __init__(self, at: int, size: int, first: int, chunk: bool) -> None:
        self.at, self.size, self.first, self.chunk = at, size, first, chunk  # first: ns, the earliest message
        self.holds = -1 if chunk else 0  # which topics it has, a bit each; -1 = it is not said

    def may_have(self, bit: int) -> bool:
        return self.holds < 0 or bool(self.holds & bit)


class McapRecording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path) -> None:
        self._file = FileBytes(path)
        self._schemas, self._topics = dict[int, McapSchema](), dict[int, McapTopic]()
        self._bits = dict[int, int]()  # of a topic: its place in ``_Block.holds``
        self._blocks, self._cut = self._index()
        self._known: tuple[_Block | None, bytes] = None, b""  # the chunk that was read last
        self._fields, self._refused = dict[int, _Fields](), dict[int, str]()
        self._look()
        self._groups = [topic for topic, fields in self._fields.items() if fields.numbers()]
        firsts = np.array([*(block.first for block in self._blocks), LATEST])
        self._start = int(firsts.min())
        self._behind = np.minimum.accumulate(firsts[::-1])[::-1][1:].tolist()  # of each block: the earliest
        self.contents = self._contents()

    def close(self) -> None:
        self._file.close()

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        topic = self._groups[group]
        fields, most = self._fields[topic], min(_ROWS, rows_at_once(len(channels)))
        paths = [fields.numbers()[channel] for channel in channels]
        held, bit = _Held(len(paths)), self._bit(topic)
        ready, count = list[tuple[np.ndarray, np.ndarray]](), 0
        for block, behind in zip(self._blocks, self._behind, strict=True):
            if block.may_have(bit):
                for message in self._messages(block):
                    if message.topic == topic:
                        held.add(message.time, self._row(fields, paths, message))
            if (some := held.release(behind)) is not None:
                ready.append(some)
                count += len(some[0])
            if count >= most:
                yield from self._pieces(ready, most)
                ready, count = [], 0
        yield from self._pieces(ready, most)

    def _pieces(self, ready: list[tuple[np.ndarray, np.ndarray]], most: int) -> Iterator[Samples]:
        if ready:
            times, values = (np.concatenate(parts) for parts in zip(*ready, strict=True))
            for begin in range(0, len(times), most):
                some = slice(begin, begin + most)
                yield Samples(times[some] - self._start, values[some])

    def _row(self, fields: _Fields, paths: list[str], message: McapMessage) -> list[float]:
        numbers = self._decoded(fields, message)
        found = (numbers.get(path) for path in paths)
        return [value if isinstance(value, float) else np.nan for value in found]

    def _decoded(self, fields: _Fields, message: McapMessage) -> Numbers:
        try:
            return fields.decode(message.data)
        except Undecodable as error:
            name = self._topics[message.topic].name
            raise Damaged(f"the message of {name!r} at {message.time} ns cannot be read: {error}") from None

    def _index(self) -> tuple[list[_Block], str]:
        """Finds the blocks, and what lacks at the end."""
        window, blocks, ended, end = Window(self._file), list[_Block](), False, 0
        for code, at, size in records_of(self._file):
            end = at + size
            if code == CHUNK:
                head = read_chunk_head(self._file, at, size)
                empty = head.first == head.last == 0
                blocks.append(_Block(at, size, LATEST if empty else head.first, True))
            elif code == MESSAGE_INDEX and size >= 6 and blocks and blocks[-1].chunk:
                topic, length = struct.unpack("<HI", window.read(at, 6))
                blocks[-1].holds = max(blocks[-1].holds, 0) | (self._bit(topic) if length else 0)
            elif code == MESSAGE and size <= PIECE:
                message = read_message(window.read(at, size))
                if not blocks or blocks[-1].chunk or end - blocks[-1].at > PIECE:
                    blocks.append(_Block(at - RECORD_HEAD, 0, LATEST, False))
                blocks[-1].size = end - blocks[-1].at
                blocks[-1].first = min(blocks[-1].first, message.time)
                blocks[-1].holds |= self._bit(message.topic)
            elif code in (SCHEMA, CHANNEL) and size <= PIECE:
                self._learn(code, window.read(at, size))
            elif code in (DATA_END, FOOTER):
                ended = True
        if ended:
            return blocks, ""
        if blocks and blocks[-1].chunk:
            blocks[-1].holds = -1  # where it is said what is in the last chunk may be cut
        return blocks, f"what follows byte {end:,} of {self._file.size:,} is no whole record; left out"

    def _bit(self, topic: int) -> int:
        return 1 << self._bits.setdefault(topic, len(self._bits))

    def _learn(self, code: int, content: memoryview) -> None:
        """Takes a schema or a topic; the first one of a number counts."""
        if code == SCHEMA:
            number, schema = read_schema(content)
            self._schemas.setdefault(number, schema)
        else:
            number, topic = read_topic(content)
            if len(self._topics) >= _MOST_TOPICS:
                raise Damaged(f"more than {_MOST_TOPICS:,} topics")
            self._topics.setdefault(number, topic)

    def _messages(self, block: _Block) -> Iterator[McapMessage]:
        """The messages of a block, in the order of the file. Raises Damaged."""
        if not block.chunk:
            content = self._file.read(block.at, block.size)
        elif self._known[0] is block:
            content = self._known[1]
        else:
            self._known = None, b""
            content = read_chunk(self._file, read_chunk_head(self._file, block.at, block.size))
            self._known = block, content
        for code, part in inner_records(content):
            if code == MESSAGE:
                yield read_message(part)
            elif code in (SCHEMA, CHANNEL):
                self._learn(code, part)

    def _look(self) -> None:
        """Finds the fields of every topic by the first messages of it, all of one block."""
        for block in self._blocks:
            known = {*self._fields, *self._refused}
            if block.holds >= 0 and not block.holds & ~sum(map(self._bit, known)):
                continue
            for message in self._messages(block):
                if message.topic in known or message.topic in self._refused:
                    continue
                fields = self._fields.get(message.topic) or self._begin(message.topic)
                if fields is not None and fields.seen < _LOOKED_AT:
                    fields.look(self._decoded(fields, message))

    def _begin(self, number: int) -> _Fields | None:
        """The fields of a topic that comes for the first time; None for one that is not read."""
        topic = self._topics.get(number)
        if topic is None:
            raise Damaged(f"a message of topic {number}, which is not there")
        try:
            self._fields[number] = _Fields(decoder_of(topic.encoding, self._schemas.get(topic.schema)))
        except Undecodable as error:
            self._refused[number] = str(error)
            return None
        return self._fields[number]

    def _contents(self) -> Contents:
        names = self._names()
        left_out = [(names[topic], why) for topic, why in self._refused.items()]
        for topic, fields in self._fields.items():
            left_out += [(f"{names[topic]}.{path}", why) for path, why in fields.found.items() if why]
        return Contents(
            said="MCAP",
            groups=tuple(self._group(topic, names[topic]) for topic in self._groups),
            start_ns=self._start if self._start >= _FIRST_DATE and self._blocks else None,
            zoned=self._start >= _FIRST_DATE,
            left_out=tuple(left_out),
            cut=self._cut,
        )

    def _names(self) -> dict[int, str]:
        """Of topics, with their number where another is called the same."""
        names = {number: topic.name.strip("/") for number, topic in self._topics.items()}
        every = [*names.values()]
        return {k: name if every.count(name) == 1 else f"{name} ({k})" for k, name in names.items()}

    def _group(self, topic: int, name: str) -> ChannelGroup:
        paths = self._fields[topic].numbers()
        channels = (RecordedChannel(f"{name}.{path}" if path else name) for path in paths)
        return ChannelGroup(name, tuple(channels))


class _Held:
    """Messages that wait for earlier ones."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._times, self._rows = list[int](), list[list[float]]()

    def add(self, time: int, row: list[float]) -> None:
        """Raises UserError for one too many."""
        self._times.append(time)
        self._rows.append(row)
        if len(self._rows) * (self._width + 1) > _MOST_HELD:
            raise UserError(
                "its messages are too far from the order of their times to be sorted in memory; write it "
                "anew in that order, as `mcap sort` does"
            )

    def release(self, behind: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Those that none before ``behind`` ns can come in front of, by time: (n,) ns, (n, width)."""
        if not self._times or min(self._times) > behind:
            return None
        times = np.array(self._times, np.int64)
        rows = np.array(self._rows, np.float64).reshape(len(times), self._width)
        order = np.argsort(times, kind="stable")
        count = int(np.searchsorted(times[order], behind, "right"))
        out, held = order[:count], np.sort(order[count:])
        self._times, self._rows = times[held].tolist(), rows[held].tolist()
        return times[out], rows[out]


def open_recording(path: Path, told: Told) -> McapRecording:
    """Opens an MCAP file. Raises UserError."""
    return McapRecording(path)

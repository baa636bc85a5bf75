"""The records of MCAP, at its top and within its chunks.

Source: the format's specification, https://mcap.dev/spec. A record is a code, its length, and its content.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from streamrnn.recordings.packed import unpack
from streamrnn.recordings.stored import LONGEST, Damaged, FileBytes, Short

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, DATA_END = 1, 2, 3, 4, 5, 6, 7, 15
_HEAD = struct.Struct("<BQ")
RECORD_HEAD = _HEAD.size
_CHUNK = struct.Struct("<QQQII")
_MESSAGE = struct.Struct("<HIQQ")
LATEST = (1 << 63) - 1


def records_of(file: FileBytes) -> Iterator[tuple[int, int, int]]:
    """The whole records of a file: code, where the content is, and its size."""
    at = len(MAGIC)
    while at + RECORD_HEAD <= file.size:
        code, size = file.unpack(_HEAD, at)
        at += RECORD_HEAD
        if code == 0 or at + size > file.size or code == MAGIC[0]:  # the magic stands at the end, too
            return
        yield code, at, size
        at += size


class McapSchema(NamedTuple):
    """What messages look like."""

    name: str
    encoding: str
    data: bytes


class McapTopic(NamedTuple):
    """A channel record: messages of one kind."""

    name: str
    encoding: str
    schema: int  # 0 = none


class McapMessage(NamedTuple):
    """A message; ``time`` is ns, ``data`` a part of what was read."""

    topic: int
    time: int
    data: memoryview


class ChunkHead(NamedTuple):
    """What a chunk says before its records."""

    first: int  # ns, of its messages
    last: int
    size: int  # bytes, unpacked
    checksum: int  # 0 = none
    codec: str
    at: int  # of the packed records
    packed: int


def read_chunk_head(file: FileBytes, at: int, size: int) -> ChunkHead:
    """The head of the chunk that is ``size`` bytes from ``at`` on. Raises Damaged."""
    end = at + size
    try:
        first, last, unpacked, checksum, length = file.unpack(_CHUNK, at)
        at += _CHUNK.size
        if length > 64:
            raise Damaged(f"a chunk that is packed in a way of {length:,} letters")
        codec = file.read(at, length).decode("utf-8", "replace")
        packed = int.from_bytes(file.read(at + length, 8), "little")
    except Short:
        raise Damaged("a chunk that is cut") from None
    at += length + 8
    if at + packed > end:
        raise Damaged("a chunk that is longer than its record")
    if codec not in ("", "zstd", "lz4"):
        raise Damaged(f"a chunk packed by {codec!r}, which is not known")
    return ChunkHead(min(first, LATEST), min(last, LATEST), unpacked, checksum, codec, at, packed)


def read_chunk(file: FileBytes, head: ChunkHead) -> bytes:
    """The records in a chunk. Raises Damaged."""
    if max(head.size, head.packed) > LONGEST:
        raise Damaged(
            f"a chunk of {max(head.size, head.packed):,} bytes, more than the {LONGEST:,} read at once"
        )
    try:
        data = file.read(head.at, head.packed)
        if head.codec:
            data = unpack(data, head.codec, head.size)
    except Damaged as error:
        raise Damaged(f"a chunk that cannot be read: {error.what}") from None
    if len(data) != head.size or (head.checksum and zlib.crc32(data) != head.checksum):
        raise Damaged("a chunk that is not what was written, by its checksum")
    return data


def inner_records(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Codes and contents of the records of a chunk. Raises Damaged."""
    view, at = memoryview(data), 0
    while at < len(view):
        if at + _HEAD.size > len(view):
            raise Damaged("a chunk whose last record is cut")
        code, size = _HEAD.unpack_from(view, at)
        at += _HEAD.size
        if at + size > len(view):
            raise Damaged("a chunk whose last record is cut")
        yield code, view[at : at + size]
        at += size


def read_message(content: memoryview) -> McapMessage:
    """Raises Damaged."""
    if len(content) < _MESSAGE.size:
        raise Damaged("a message without a time")
    topic, _, time, _ = _MESSAGE.unpack_from(content)
    if time > LATEST:
        raise Damaged("a message at a time beyond the years that ns count")
    return McapMessage(topic, time, content[_MESSAGE.size :])


def read_schema(content: memoryview) -> tuple[int, McapSchema]:
    """A schema, and its number. Raises Damaged."""
    fields = _Fields(content)
    number, name, encoding = fields.number(2), fields.text(), fields.text()
    return number, McapSchema(name, encoding, fields.take(fields.number(4)))


def read_topic(content: memoryview) -> tuple[int, McapTopic]:
    """A channel record, and its number. Raises Damaged."""
    fields = _Fields(content)
    number, schema = fields.number(2), fields.number(2)
    return number, McapTopic(fields.text(), fields.text(), schema)


class _Fields:
    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise Damaged("a record that is cut")
        return bytes(self._content[self._at - size : self._at])

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        return self.take(self.number(4)).decode("utf-8", "replace")

"""Blocks: many messages of one shard in one message of the log. Frames on their way in, predictions out.

A header, and behind it the messages, each with its topic and its payload as they are on ZeroMQ. What a
gateway appends is numbered by it, from 0 on and shard by shard, so that a block that comes twice, or not at
all, is seen; what a worker appends says up to where in the log it answers.
"""

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, read_u16, read_u32, write_u16, write_u32

_BLOCK = struct.Struct("<2sBBHHIIQQqqII")
ENTRY = np.dtype([("came", "<u4"), ("size", "<u4"), ("topic", "<u2"), ("unused", "<u2")])  # topic: its bytes
assert (_BLOCK.size, ENTRY.itemsize) == (56, 12)
VERSION = 1
FRAMES, RAW, PREDICTIONS = range(3)  # kinds
HEAD, ENTRY_BYTES = _BLOCK.size, ENTRY.itemsize
MOST_CAME = 0xFFFFFFFF  # ns: what came later than that behind the first says this
_SIZE_AT, _TOPIC_AT = 4, 8


class BlockError(ValueError):
    """A message that is no block."""


class BlockHeader(NamedTuple):
    """What stands at the head of a block, in this order."""

    magic: bytes  # 2 bytes
    version: int  # u8
    kind: int  # u8
    shard: int  # u16
    shards: int  # u16: that there are
    messages: int  # u32
    rows: int  # u32: in them, as far as their headers say
    gateway: int  # u64: who appended it, anew with each of its starts; 0 = a worker
    number: int  # u64: of the gateway's blocks of the shard; of a worker, the position in the log
    base_ns: int  # i64: CLOCK_REALTIME when the first message was here
    sealed_ns: int  # i64: and when nothing was added any more
    size: int  # u32: bytes behind the header
    check: int  # u32: their CRC-32


class SealedBlock(NamedTuple):
    """A block that was checked."""

    header: BlockHeader
    body: np.ndarray  # uint8, of its own


_BLANK: dict[str, Any] = {**dict.fromkeys(BlockHeader._fields, 0), "magic": b"SB", "version": VERSION}


def seal(body: np.ndarray, **header: int) -> bytes:
    """A block of the messages in ``body``, uint8."""
    size, check = len(body), zlib.crc32(body.data)
    head = _BLANK | header | {"size": size, "check": check}
    return _BLOCK.pack(*head.values()) + body.tobytes()


def header_of(data: bytes) -> BlockHeader:
    """What the first ``HEAD`` bytes say, whatever they are."""
    return BlockHeader(*_BLOCK.unpack_from(data))


def open_block(data: bytes, shard: int, shards: int, kinds: tuple[int, ...]) -> SealedBlock:
    """The block in a message of one of so many shards. Raises BlockError, which says what is wrong."""
    if len(data) < HEAD:
        raise BlockError(f"{len(data)} bytes are no block")
    header = header_of(data)
    if header.magic != b"SB" or header.version != VERSION:
        raise BlockError(f"not a block of version {VERSION}: it begins with {data[:3]!r}")
    if header.kind not in kinds:
        raise BlockError(f"a block of kind {header.kind}, which does not belong here")
    if (header.shard, header.shards) != (shard, shards):
        said = f"{header.shard} of {header.shards}"
        raise BlockError(f"a block of shard {said} in {shard} of {shards}")
    body = np.frombuffer(data, np.uint8, offset=HEAD).copy()  # compiled for what can be written to
    if header.size != len(body):
        raise BlockError(f"{len(body)} bytes where its header says {header.size}")
    if header.check != zlib.crc32(body.data):
        raise BlockError("damaged: its bytes do not have its check")
    if count_messages(body) != header.messages:
        raise BlockError(f"its bytes are not the {header.messages} messages that its header says")
    return SealedBlock(header, body)


@inlined
def entry_at(body, at):
    """Of the message at ``at``: bytes of its topic and of its payload. It must be whole."""
    entry = address_of(body, at)
    return np.int64(read_u16(entry + _TOPIC_AT)), np.int64(read_u32(entry + _SIZE_AT))


@inlined
def write_entry(body, at, came, topic, size):
    """Begins a message at ``at``, of so many bytes of topic and payload, that came at ``came``, see ENTRY."""
    entry = address_of(body, at)
    write_u32(entry, np.uint32(came))
    write_u32(entry + _SIZE_AT, np.uint32(size))
    write_u16(entry + _TOPIC_AT, np.uint16(topic))
    write_u16(entry + _TOPIC_AT + 2, np.uint16(0))


@compiled
def count_messages(body):
    """How many messages fill ``body``, uint8, exactly, each with a topic that can be one; -1 if none do."""
    at = count = np.int64(0)
    while at < body.size:
        if body.size - at < ENTRY_BYTES:
            return np.int64(-1)
        topic, size = entry_at(body, at)
        if topic < 1 or topic > TOPIC_BYTES or size > body.size - at - ENTRY_BYTES - topic:
            return np.int64(-1)
        at += ENTRY_BYTES + topic + size
        count += 1
    return count


@compiled
def end_within(body, begin, most):
    """Where the last one ends of the messages from ``begin`` on that have ``most`` bytes, or the first."""
    at = np.int64(begin)
    while at < body.size:
        topic, size = entry_at(body, at)
        end = at + ENTRY_BYTES + topic + size
        if end - begin > most and at > begin:
            break
        at = end
    return at


def messages_in(block: SealedBlock) -> list[tuple[bytes, bytes]]:
    """Topics and payloads."""
    found, at, data = [], 0, block.body.tobytes()
    for _ in range(int(block.header.messages)):
        entry = np.frombuffer(data, ENTRY, 1, at)[0]
        topic, size = int(entry["topic"]), int(entry["size"])
        at += ENTRY_BYTES + topic + size
        found.append((data[at - size - topic : at - size], data[at - size : at]))
    return found

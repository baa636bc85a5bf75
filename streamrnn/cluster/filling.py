"""A gateway's messages on their way into blocks, each into that of its stream's shard. Compiled."""

from typing import NamedTuple

import numpy as np

from streamrnn.cluster.blocks import ENTRY_BYTES, MOST_CAME, write_entry
from streamrnn.cluster.shards import shard_of
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.stats import REASONS
from streamrnn.wire import codec, frame
from streamrnn.wire.memory import address_of, copy_bytes, read_u16

PARTS, TOPIC, TOO_LARGE = (REASONS.index(name) for name in ("parts", "topic", "oversized"))
ROWS_PER_MESSAGE = 0xFFFF  # a frame says how many in 16 bits
_ROWS_AT, _HEAD = codec.offset(frame.FRAME, "rows"), frame.FRAME.itemsize


class Filling(NamedTuple):
    """The blocks that are being filled, one of each shard."""

    content: np.ndarray  # (shards * room,) uint8; its pages are touched only when they are used
    room: int  # bytes in a block
    most: int  # rows in a block
    limit: int  # rows in a message: what has more is refused, as its answers were too many for one commit
    raw: int  # 1 for input format "raw"
    alone: np.ndarray  # uint8: the id of the stream that messages of one part are of; none = they are refused
    used: np.ndarray  # (shards,) int64: bytes
    messages: np.ndarray  # (shards,) int64
    rows: np.ndarray  # (shards,) int64
    base_ns: np.ndarray  # (shards,) int64: when the first one came
    rejected: np.ndarray  # (len(REASONS),) int64


def make_filling(
    shards: int, room: int, most: int, raw: bool, stream: str, limit: int = ROWS_PER_MESSAGE
) -> Filling:
    def counts() -> np.ndarray:
        return np.zeros(shards, np.int64)

    return Filling(
        content=np.zeros(shards * room, np.uint8),
        room=room,
        most=most,
        limit=limit,
        raw=int(raw),
        alone=np.frombuffer(stream.encode(), np.uint8).copy(),
        used=counts(),
        messages=counts(),
        rows=counts(),
        base_ns=counts(),
        rejected=np.zeros(len(REASONS), np.int64),
    )


@inlined
def _enter(filling, shard, topic, length, payload, size, rows, now):
    at = shard * filling.room + filling.used[shard]
    if filling.messages[shard] == 0:
        filling.base_ns[shard] = now
    came = min(max(now - filling.base_ns[shard], 0), MOST_CAME)
    write_entry(filling.content, at, came, length, size)
    to = address_of(filling.content, at + ENTRY_BYTES)
    copy_bytes(to, topic, length)
    copy_bytes(to + length, payload, size)
    filling.used[shard] += ENTRY_BYTES + length + size
    filling.messages[shard] += 1
    filling.rows[shard] += rows


@compiled
def fill_blocks(filling, inbox, count, first, now):
    """Enters messages ``first`` to ``count`` of an ``Inbox`` until one finds no room. Returns how far.

    ``now`` is when they came, ns.
    """
    content = address_of(inbox.content, 0)
    for message in range(first, count):
        part = inbox.message_end[message - 1] if message > 0 else 0
        parts = inbox.message_end[message] - part
        begin = inbox.part_end[part - 1] if part > 0 else 0
        end = inbox.part_end[part]
        topic, length, payload, size = content + begin, end - begin, content + end, np.int64(0)
        if parts == 1 and filling.alone.size > 0:
            payload, size = topic, length
            topic, length = address_of(filling.alone, 0), filling.alone.size
        elif parts == 2:
            size = inbox.part_end[part + 1] - end
        else:
            filling.rejected[PARTS] += 1
            continue
        if length < 1 or length > frame.TOPIC_BYTES:
            filling.rejected[TOPIC] += 1
            continue
        need = ENTRY_BYTES + length + size
        if need > filling.room:
            filling.rejected[TOO_LARGE] += 1
            continue
        rows = 1
        if filling.raw == 0 and size >= _HEAD:
            rows = max(np.int64(read_u16(payload + _ROWS_AT)), 1)
        if rows > filling.limit:
            filling.rejected[TOO_LARGE] += 1
            continue
        shard = shard_of(topic, length, filling.used.size)
        fits = filling.used[shard] + need <= filling.room and filling.rows[shard] + rows <= filling.most
        if filling.messages[shard] > 0 and not fits:
            return message
        _enter(filling, shard, topic, length, payload, size, rows, now)
    return count

"""The streams of one shard: blocks stepped, and all that is remembered of them as bytes and back."""

import json
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from streamrnn.cluster.blocks import (
    ENTRY_BYTES,
    FRAMES,
    HEAD,
    PREDICTIONS,
    RAW,
    SealedBlock,
    count_messages,
    end_within,
    seal,
)
from streamrnn.cluster.stepping import MESSAGES, READ, USED, bytes_of_row, let_go, make_written, step_block
from streamrnn.compiling.jit import hand_over
from streamrnn.daemon.pump import Pump, make_pump
from streamrnn.engine.advance import Core, message_bytes, prepared
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.streams.exchange import find_slots
from streamrnn.streams.plausible import Doubts
from streamrnn.streams.record import ID_WORDS, layout_of
from streamrnn.streams.recovery import PUT, restore
from streamrnn.streams.rules import unlearn
from streamrnn.streams.slots import Slots, make_slots
from streamrnn.streams.snapshot import ID_BYTES, Snapshot, read_from, write_to
from streamrnn.wire.frame import TOPIC_BYTES

FORMAT = "streamrnn-shard/1"
_HEADER_LIMIT = 1 << 16
_TOGETHER = 1 << 20  # bytes that are said before they are taken out
_LENGTH = struct.Struct("<I")
DOUBTS = 256  # of ``Doubts.topics``


class Stepping(NamedTuple):
    """A pump and a core, as compiled code takes them."""

    pump: Pump
    core: Core
    handed: tuple[Any, Any]
    kept: object  # for as long as this is used


class CheckpointError(UserError):
    """A checkpoint that cannot be taken up."""


class Stepper:
    """The streams of a shard, on an engine that several share; not for use from two threads at once.

    Everything it says depends on what it steps alone: times are those of the blocks.
    """

    def __init__(self, engine: Engine, shard: int, shards: int, capacity: int, idle_s: float, seed: int):
        """``seed``: of all that step this shard. Streams silent for ``idle_s`` are let go, 0 = never."""
        self.shard, self.shards, self._capacity, self._idle_s = shard, shards, capacity, idle_s
        self.engine = engine
        self._slots = make_slots(layout_of(engine.core.net), capacity)
        self._slots.seed[0] = np.uint64(seed)
        self.now_ns = 0  # the latest time of a block, as its log's clock bears out
        self._stepping: dict[int, Stepping] = {}
        self._doubts: Doubts | None = None
        core = engine.core
        room = core.batch.rows * bytes_of_row(message_bytes(core))  # what the predictions of a batch may need
        self._written = make_written(room + max(room, _TOGETHER))
        self._handed = hand_over(self._written)
        self._full = list[np.ndarray]()
        self._sealed_ns = 0  # of the block that was stepped last

    @property
    def streams(self) -> int:
        return int(self._slots.counts[1])

    def _ready(self, kind: int) -> Stepping:
        """What steps blocks of a kind."""
        if kind not in self._stepping:
            core = self.engine.core._replace(slots=self._slots)
            core = core._replace(tile=core.tile._replace(work=self._capacity * self._slots.words))
            pump = make_pump(core, 0, 0, kind == RAW, "", self._idle_s)
            self._doubts = self._doubts or pump.doubts  # of topics, whatever comes
            pump = pump._replace(doubts=self._doubts)
            core, kept = prepared(core)
            handed = hand_over(pump), hand_over(core, known=False)
            self._stepping[kind] = Stepping(pump, core, handed, kept)
        return self._stepping[kind]

    def step(self, block: SealedBlock, logged_ns: int) -> None:
        """Steps a block that is in the log since ``logged_ns``; what is said of it comes by ``flush``."""
        header = block.header
        self.now_ns = max(self.now_ns, min(header.sealed_ns, logged_ns))
        stepping, most_bytes = self._ready(header.kind), bytes_of_row(message_bytes(self.engine.core))
        self._written.tally[READ] = 0
        self._sealed_ns = header.sealed_ns
        times = header.base_ns, header.sealed_ns
        while step_block(*stepping.handed, block.body, *times, self._handed, most_bytes):
            self._full.append(self._taken())

    def let_go(self) -> None:
        """Lets go of streams that were silent for too long."""
        stepping, slot = self._ready(FRAMES), 0
        self._sealed_ns = self.now_ns
        while self._idle_s and slot < self._capacity:
            slot = let_go(*stepping.handed, self.now_ns, slot, self._handed)
            if slot < self._capacity:
                self._full.append(self._taken())

    def _taken(self) -> np.ndarray:
        """What was written since the last time."""
        body = self._written.content[: int(self._written.tally[USED])].copy()
        self._written.tally[USED] = self._written.tally[MESSAGES] = 0
        return body

    @property
    def said_bytes(self) -> int:
        """Of what ``flush`` gives."""
        return sum(map(len, self._full)) + int(self._written.tally[USED])

    def flush(self, position: int, most: int) -> list[bytes]:
        """Blocks of all that was said since the last time, up to ``position`` in the log.

        Each has ``most`` bytes or fewer, or a single message.
        """
        bodies, self._full = [*self._full, self._taken()], []
        return [block for body in bodies for block in self._sealed(body, position, most - HEAD)]

    def _sealed(self, body: np.ndarray, position: int, most: int) -> Iterator[bytes]:
        begin, sealed = 0, self._sealed_ns
        while begin < len(body):
            end = int(end_within(body, begin, most))
            part = body[begin:end]
            messages = int(count_messages(part))
            yield seal(
                part,
                kind=PREDICTIONS,
                shard=self.shard,
                shards=self.shards,
                messages=messages,
                rows=messages,
                number=position,
                base_ns=sealed,
                sealed_ns=sealed,
            )
            begin = end

    def adopt(self, engine: Engine, idle_s: float) -> None:
        """Goes on with another model or rules, of the same shape."""
        if engine.model.fingerprint != self.engine.model.fingerprint:
            unlearn(self._slots)
        self.engine, self._idle_s = engine, idle_s
        self._stepping.clear()

    def checkpoint(self) -> bytes:
        """All that is remembered, as ``take_up`` takes it."""
        ids, records, again = taken_of(self._slots)
        doubts = self._ready(FRAMES).pump.doubts
        layout = layout_of(self.engine.core.net)._asdict()
        snapshot = Snapshot(self.engine.model.fingerprint, layout, 0, ids, records)
        return pack_checkpoint(snapshot, again, doubts.topics, self.shard, self.now_ns)

    def take_up(self, data: bytes) -> None:
        """Goes on with the streams of a checkpoint. Raises CheckpointError for one that is not whole."""
        snapshot, again, doubts, self.now_ns = unpack_checkpoint(data, self.shard)
        if snapshot.layout != layout_of(self.engine.core.net)._asdict():
            raise CheckpointError(
                f"shard {self.shard}: its records are laid out as with another model or version"
            )
        stepping = self._ready(FRAMES)
        ids = np.ascontiguousarray(snapshot.ids).reshape(-1).view(np.uint64)
        records = np.ascontiguousarray(snapshot.records).reshape(-1).view(np.uint64)
        fate = np.zeros(len(again), np.uint8)
        restore(stepping.core.net, self._slots, ids, records, 0, fate)
        if bad := int((fate != PUT).sum()):
            raise CheckpointError(
                f"shard {self.shard}: {bad} of {len(fate)} records are damaged, or have no room"
            )
        found = np.zeros(len(again), np.int64)
        find_slots(self._slots, ids, found)
        self._slots.notes["again"][found] = again
        stepping.pump.doubts.topics[:] = doubts


def bytes_of_one(core: Core) -> int:
    """Of a block of the largest prediction alone."""
    return HEAD + ENTRY_BYTES + TOPIC_BYTES + message_bytes(core)


def taken_of(slots: Slots) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the streams in slots that nothing steps: ids, records as in a snapshot, ``again`` of notes."""
    taken = np.flatnonzero(slots.committed)
    ids = slots.ids.reshape(slots.capacity, ID_WORDS)[taken].view(np.uint8)
    records = slots.state[: slots.capacity * slots.words].reshape(slots.capacity, slots.words)[taken]
    return ids, records, slots.notes["again"][taken]


def pack_checkpoint(
    snapshot: Snapshot, again: np.ndarray, doubts: np.ndarray, shard: int, now_ns: int
) -> bytes:
    text = json.dumps({"format": FORMAT, "shard": shard, "now_ns": now_ns, "streams": len(again)}).encode()
    file = BytesIO()
    file.write(_LENGTH.pack(len(text)) + text + again.tobytes() + doubts.tobytes())
    write_to(file, snapshot)
    return file.getvalue()


def unpack_checkpoint(data: bytes, shard: int) -> tuple[Snapshot, np.ndarray, np.ndarray, int]:
    """Snapshot, ``again`` (n,), doubts and time of ``pack_checkpoint``. Raises CheckpointError."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        if length > _HEADER_LIMIT:
            raise ValueError("a header too long")
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        if (head["format"], head["shard"]) != (FORMAT, shard):
            raise ValueError("of another shard or version")
        at, count, now = _LENGTH.size + length, int(head["streams"]), int(head["now_ns"])
        if not 0 <= count <= len(data) // ID_BYTES:
            raise ValueError("fewer bytes than streams")
        numbers = np.frombuffer(data, np.uint64, count + DOUBTS, at)
        snapshot = read_from(BytesIO(data[at + numbers.nbytes :]), f"shard {shard}")
        if len(snapshot.ids) != count:
            raise ValueError("of another number of streams than its header says")
    except UserError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise CheckpointError(f"shard {shard}: its checkpoint is damaged ({error})") from error
    return snapshot, numbers[:count], numbers[count:], now

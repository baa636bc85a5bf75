"""The streams of one shard: blocks stepped, and all that is remembered of them as bytes and back."""

import json
import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np

from streamrnn.cluster.blocks import FRAMES, PREDICTIONS, RAW, SealedBlock, count_messages, end_within, seal
from streamrnn.cluster.stepping import MESSAGES, READ, USED, bytes_of_row, let_go, make_written, step_block
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

FORMAT = "streamrnn-shard/1"
_HEADER_LIMIT = 1 << 16
_LENGTH = struct.Struct("<I")
DOUBTS = 256  # of ``Doubts.topics``


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
        self._pumps: dict[int, tuple[Pump, Core, object]] = {}
        self._doubts: Doubts | None = None
        self._written = make_written(0)

    @property
    def streams(self) -> int:
        return int(self._slots.counts[1])

    @property
    def room(self) -> int:
        """Bytes that the predictions of a batch may need."""
        core = self.engine.core
        return core.batch.rows * bytes_of_row(message_bytes(core))

    def _pump(self, kind: int) -> tuple[Pump, Core]:
        """The pump for blocks of a kind, and the core that it steps."""
        if kind not in self._pumps:
            core = self.engine.core._replace(slots=self._slots)
            core = core._replace(tile=core.tile._replace(work=self._capacity * self._slots.words))
            pump = make_pump(core, 0, 0, kind == RAW, "", self._idle_s)
            self._doubts = self._doubts or pump.doubts  # of topics, whatever comes
            self._pumps[kind] = pump._replace(doubts=self._doubts), *prepared(core)
        return self._pumps[kind][:2]

    def step(self, block: SealedBlock, position: int, logged_ns: int, most: int) -> list[bytes]:
        """Steps a block, at ``position`` in the log since ``logged_ns``. Returns blocks of its predictions.

        Each has ``most`` bytes or fewer, or a single message.
        """
        header = block.header
        sealed = int(header["sealed_ns"])
        self.now_ns = max(self.now_ns, min(sealed, logged_ns))
        pump, core = self._pump(int(header["kind"]))
        written, most_bytes = self._room(), bytes_of_row(message_bytes(core))
        written.tally[READ] = 0
        found, more = list[bytes](), True
        while more:
            written.tally[USED] = written.tally[MESSAGES] = 0
            base = int(header["base_ns"])
            more = step_block(pump, core, block.body, base, sealed, written, most_bytes)
            found += self._blocks(position, sealed, most)
        return found

    def let_go(self, position: int, most: int) -> list[bytes]:
        """Lets go of streams that were silent for too long. Returns blocks that say so."""
        pump, core = self._pump(FRAMES)
        found, slot = list[bytes](), 0
        while self._idle_s and slot < self._capacity:
            written = self._room()
            written.tally[USED] = written.tally[MESSAGES] = 0
            slot = let_go(pump, core, self.now_ns, slot, written)
            found += self._blocks(position, self.now_ns, most)
        return found

    def _room(self):  # type: ignore[no-untyped-def]  # of what is compiled
        if not self._written.content.size:
            self._written = make_written(max(self.room, 1 << 20))
        return self._written

    def _blocks(self, position: int, sealed_ns: int, most: int) -> Iterator[bytes]:
        body = self._written.content[: int(self._written.tally[USED])]
        begin = 0
        while begin < len(body):
            end = int(end_within(body, begin, most))
            times = {"base_ns": sealed_ns, "sealed_ns": sealed_ns}
            what = {"kind": PREDICTIONS, "shard": self.shard, "shards": self.shards, "number": position}
            messages = int(count_messages(body[begin:end]))
            yield seal(body[begin:end], messages=messages, rows=messages, **what, **times)
            begin = end

    def adopt(self, engine: Engine, idle_s: float) -> None:
        """Goes on with another model or rules, of the same shape."""
        if engine.model.fingerprint != self.engine.model.fingerprint:
            unlearn(self._slots)
        self.engine, self._idle_s = engine, idle_s
        self._pumps.clear()

    def checkpoint(self) -> bytes:
        """All that is remembered, as ``take_up`` takes it."""
        ids, records, again = taken_of(self._slots)
        pump, _ = self._pump(FRAMES)
        layout = layout_of(self.engine.core.net)._asdict()
        snapshot = Snapshot(self.engine.model.fingerprint, layout, 0, ids, records)
        return pack_checkpoint(snapshot, again, pump.doubts.topics, self.shard, self.now_ns)

    def take_up(self, data: bytes) -> None:
        """Goes on with the streams of a checkpoint. Raises CheckpointError for one that is not whole."""
        snapshot, again, doubts, self.now_ns = unpack_checkpoint(data, self.shard)
        if snapshot.layout != layout_of(self.engine.core.net)._asdict():
            raise CheckpointError(
                f"shard {self.shard}: its records are laid out as with another model or version"
            )
        pump, core = self._pump(FRAMES)
        ids = np.ascontiguousarray(snapshot.ids).reshape(-1).view(np.uint64)
        records = np.ascontiguousarray(snapshot.records).reshape(-1).view(np.uint64)
        fate = np.zeros(len(again), np.uint8)
        restore(core.net, self._slots, ids, records, 0, fate)
        if bad := int((fate != PUT).sum()):
            raise CheckpointError(
                f"shard {self.shard}: {bad} of {len(fate)} records are damaged, or have no room"
            )
        found = np.zeros(len(again), np.int64)
        find_slots(self._slots, ids, found)
        self._slots.notes["again"][found] = again
        pump.doubts.topics[:] = doubts


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

"""The course of one shard: its streams, and how far along its input they are.

A worker goes it, and whoever comes to the same state again: from a checkpoint, by what the head tells.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from streamrnn.cluster.blocks import FRAMES, RAW, BlockError, open_block
from streamrnn.cluster.engines import Agreed, Engines
from streamrnn.cluster.heads import CHANGED, LET_GO, Checkpoint, ShardHead
from streamrnn.cluster.jetstream import JetStream, Logged, each, insist
from streamrnn.cluster.pieces import read_pieces
from streamrnn.cluster.stepper import Stepper
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import WorkerTally
from streamrnn.errors import UserError

_PATIENCE_S = 600.0  # as long as the pin is ours, there is nobody else to find a shard
_COMMIT_BYTES, _COMMIT_MESSAGES = 1 << 25, 100  # of predictions before those of the last block

log = logging.getLogger("streamrnn")


class ShardCourse:
    """Streams of a shard, and ``head``, which says where they are. Its methods take long, one at a time."""

    def __init__(self, number: int, agreed: Agreed, tally: WorkerTally, most_bytes: int):
        """``most_bytes``: of a block of predictions."""
        self.number, self.tally, self._most_bytes = number, tally, most_bytes
        terms, streams = agreed.terms, agreed.config.streams
        how = number, terms.shards, streams.capacity, streams.idle_timeout, terms.seed
        self._stepper = Stepper(agreed.engine, *how)
        self.terms, self._lets_go = terms, streams.idle_timeout > 0
        begun = ((0, CHANGED, terms.revision),)
        self.head = ShardHead(number, revision=terms.revision, since=begun)

    @property
    def streams(self) -> int:
        return self._stepper.streams

    def take_up(self, checkpoint: Checkpoint, data: bytes) -> None:
        """Goes on from a checkpoint. Raises CheckpointError."""
        self._stepper.take_up(data)
        position, rows, gateways = checkpoint.position, checkpoint.rows, checkpoint.gateways
        self.head = replace(
            self.head, position=position, rows=rows, gateways=gateways, checkpoint=checkpoint, since=()
        )

    def take_all(self, messages: Sequence[Logged]) -> list[bytes]:
        """``take`` for messages in order, as many as one commit can answer. Returns blocks of predictions."""
        most = min(_COMMIT_BYTES, _COMMIT_MESSAGES * self._most_bytes)
        for message in messages:
            self.take(message)
            if self._stepper.said_bytes > most:
                break
        return self._said()

    def _said(self) -> list[bytes]:
        return self._stepper.flush(self.head.position, self._most_bytes)

    def redo_all(self, messages: Sequence[Logged]) -> None:
        """The same for messages that were done before: nothing is counted twice."""
        stats = self._stepper.engine.stats
        arrays = stats.counters, stats.rejected, stats.resets
        counts, told = [array.copy() for array in arrays], replace(self.tally)
        while messages := [message for message in messages if message.seq > self.head.position]:
            self.take_all(messages)
        for array, before in zip(arrays, counts, strict=True):
            array[:] = before
        for name in ("repeated", "missed", "no_blocks"):
            setattr(self.tally, name, getattr(told, name))

    def take(self, message: Logged) -> None:
        """Steps one message of the input, which may be anything."""
        head, skipped = self.head, replace(self.head, position=message.seq)
        try:
            block = open_block(message.data, self.number, self.terms.shards, (FRAMES, RAW))
        except BlockError as error:
            self.tally.no_blocks += 1
            log.error("shard %d: message %d is left out: %s", self.number, message.seq, error)
            self.head = skipped
            return
        gateway, number = f"{block.header.gateway:016x}", block.header.number
        last = head.gateways[gateway][0] if gateway in head.gateways else number - 1
        if number <= last:
            self.tally.repeated += 1
            self.head = skipped
            return
        if number > last + 1:
            self.tally.missed += number - last - 1
            missing = f"{number - last - 1} of its blocks before message {message.seq} are missing"
            log.error("shard %d: gateway %s: %s", self.number, gateway, missing)
        self._stepper.step(block, message.time_ns)
        rows = head.rows + block.header.rows
        self.head = head.behind(message.seq, rows, block.header.sealed_ns, gateway, number)

    def let_go(self) -> list[bytes]:
        """Lets go of streams that were silent for too long. Returns blocks that say so."""
        if not self._lets_go:
            return []
        self._stepper.let_go()
        self._note(LET_GO, 0)
        return self._said()

    def adopt(self, agreed: Agreed) -> None:
        """Goes on with another revision of the terms."""
        self._stepper.adopt(agreed.engine, agreed.config.streams.idle_timeout)
        self.terms, self._lets_go = agreed.terms, agreed.config.streams.idle_timeout > 0
        self.head = replace(self.head, revision=agreed.terms.revision)
        self._note(CHANGED, agreed.terms.revision)

    def _note(self, what: str, more: int) -> None:
        self.head = replace(self.head, since=(*self.head.since, (self.head.position, what, more)))

    def checkpoint(self) -> bytes:
        return self._stepper.checkpoint()


async def find_course(
    head: ShardHead,
    jetstream: JetStream,
    subjects: Subjects,
    engines: Engines,
    tally: WorkerTally,
    do: Callable[..., Any],
) -> ShardCourse:
    """The state that a head tells of: that of its checkpoint, and from there what came since stepped anew.

    ``do``, a coroutine function, runs what takes long. Raises Unavailable, and UserError where the log does
    not hold what the head tells of.
    """
    found = head.checkpoint
    agreed = await engines.of(found.revision if found is not None else head.since[0][2])
    course = ShardCourse(head.shard, agreed, tally, jetstream.most_bytes)
    if found is not None:
        data = await read_pieces(jetstream, subjects.results, found.pieces)
        await do(course.take_up, found, data)
    state = (await insist(lambda: jetstream.state(subjects.inputs), _PATIENCE_S))["state"]
    if int(state["last_seq"]) < head.position:
        raise UserError(
            f"shard {head.shard}: its head is at {head.position:,}, but the input ends at "
            f"{state['last_seq']:,}: the servers have lost what they had"
        )
    events = [event for event in head.since if event[0] > 0 or event[1] != CHANGED]
    first = course.head.position + 1
    async for messages in each(jetstream, subjects.inputs, subjects.input(head.shard), first, head.position):
        while messages:
            await _redo(course, events, messages[0].seq, engines, do)
            until = events[0][0] if events else head.position
            now = [message for message in messages if message.seq <= until]
            await do(course.redo_all, now)
            messages = messages[len(now) :]
    await _redo(course, events, head.position + 1, engines, do)
    there = replace(head, worker="", position=0, time_ns=0)
    if replace(course.head, worker="", position=0, time_ns=0) != there:
        raise UserError(
            f"shard {head.shard}: what came since its checkpoint is not what its head tells of "
            f"({course.head.rows:,} rows of {head.rows:,}); `streamrnn cluster check` looks closer"
        )
    course.head = head
    return course


async def _redo(
    course: ShardCourse,
    events: list[tuple[int, str, int]],
    before: int,
    engines: Engines,
    do: Callable[..., Any],
) -> None:
    """Does what was done behind messages before number ``before``."""
    while events and events[0][0] < before:
        _, what, revision = events.pop(0)
        if what == LET_GO:
            await do(course.let_go)
        else:
            await do(course.adopt, await engines.of(revision))

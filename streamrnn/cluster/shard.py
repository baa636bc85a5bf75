"""One shard at work: found again, followed along the log, and each step of the way committed."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from streamrnn.cluster.course import ShardCourse, find_course
from streamrnn.cluster.engines import Engines
from streamrnn.cluster.heads import Checkpoint, ShardHead, head_in
from streamrnn.cluster.jetstream import (
    Headers,
    JetStream,
    LogFull,
    Logged,
    Unavailable,
    WrongLast,
    insist,
)
from streamrnn.cluster.pieces import write_pieces
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import ShardTally, WorkerTally
from streamrnn.errors import UserError

_READ, _READ_BYTES = 64, 1 << 22  # messages and bytes of the input that are taken at once
_AGAIN_S = 0.2
_LAGGING_S = 0.005  # a replica that has not yet what was rung for is asked again
_PATIENCE_S = 600.0  # of who finds a shard again: as long as the pin is ours, there is nobody else to
_PURGES = 64  # that wait for what is kept to be old enough, at most
_WORTH = 1000  # rows since the last checkpoint that are worth one when a shard is handed over

log = logging.getLogger("streamrnn")
Value = TypeVar("Value")


class Means(NamedTuple):
    """What all shards of a worker use."""

    worker: str
    jetstream: JetStream
    names: Subjects
    engines: Engines
    thread: ThreadPoolExecutor  # a single one: engines are not for two
    tally: WorkerTally
    acknowledge: Callable[[int, int], Any]  # coroutine function of a shard and a position


class Shard:
    """A shard that this worker has. ``run`` until it is cancelled, as the shard is lost, or ``leave``."""

    def __init__(self, means: Means, number: int):
        self._means, self._number = means, number
        self._names, self._jetstream = means.names, means.jetstream
        self.tally = ShardTally()
        self._bell, self._rung = asyncio.Event(), 0
        self._leaving = asyncio.Event()
        self._saving: asyncio.Task[tuple[Checkpoint, int]] | None = None
        self._purging, self._purged_s = set[asyncio.Task[None]](), float("-inf")
        self._pressed, self._saved = False, 0  # a checkpoint is wanted; up to where the last one is
        # what is committed, and the number of its message
        self._committed = ShardHead(number)
        self._last = 0

    def ring(self, number: int) -> None:
        """There is input up to message ``number``."""
        self._rung = max(self._rung, number)
        self._bell.set()

    def leave(self) -> None:
        """Has ``run`` end as soon as all that is begun is committed."""
        self._leaving.set()
        self._bell.set()

    def renew(self) -> None:
        """Has it go on with the newest terms."""
        self._bell.set()

    def press(self) -> None:
        """Has it write a checkpoint, if input could be removed by one: there is no room for more."""
        if self._saving is None and self._committed.position > self._saved:
            self._pressed = True
            self._bell.set()

    async def run(self) -> None:
        """Works. Raises UserError for what is in the log and cannot be taken up."""
        try:
            while not self._leaving.is_set():
                try:
                    await self._find()
                    await self._follow()
                except WrongLast:
                    self._means.tally.refused += 1
                    log.warning("shard %d: a commit was refused: another worker has it, or had", self._number)
                except Unavailable as error:
                    log.warning("shard %d: %s; trying again", self._number, error)
                    await asyncio.sleep(_AGAIN_S)
        finally:
            self._let_be()

    def _let_be(self) -> None:
        """Ends what is under way beside the rows."""
        for task in (*self._purging, *([self._saving] if self._saving is not None else [])):
            task.cancel()
        self._saving = None

    async def _do(self, work: Callable[..., Value], *arguments: Any) -> Value:
        """Runs what takes long on the thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._means.thread, work, *arguments)

    async def _find(self) -> None:
        """Comes to the state that the last head tells of, and makes the shard this worker's."""
        self._let_be()
        means, subject = self._means, self._names.state(self._number)
        message = await insist(lambda: self._jetstream.last(self._names.results, subject), _PATIENCE_S)
        self._last = message.seq if message is not None else 0
        if message is None:
            agreed = await means.engines.of(means.engines.newest)
            self._course = ShardCourse(self._number, agreed, means.tally, self._jetstream.most_bytes)
        else:
            head = head_in(message, self._number, self._names.checkpoint(self._number))
            how = self._jetstream, self._names, means.engines, means.tally, self._do
            try:
                self._course = await find_course(head, *how)
            except UserError as error:
                await self._require_last(error)
                raise
        found = self._course.head.checkpoint
        if found is not None:
            self.tally.checkpoint_rows, self.tally.checkpoint_ns = found.rows, found.written_ns
        self._saved = found.position if found is not None else 0
        self.tally.all_rows, self.tally.streams = self._course.head.rows, self._course.streams
        self._course.head = replace(self._course.head, worker=means.worker)
        await self._commit([], self._course.head)
        means.tally.takeovers += 1

    async def _require_last(self, error: UserError) -> None:
        """Raises WrongLast where the head is another by now: what went before that may be gone."""
        message = await self._jetstream.last(self._names.results, self._names.state(self._number))
        if message is None or message.seq != self._last:
            raise WrongLast("another worker was here") from error

    # --- following the log

    async def _follow(self) -> None:
        """Reads, steps and commits: while one commit is under way the next messages are stepped."""
        reading = asyncio.create_task(self._read(self._course.head.position))
        committing: asyncio.Task[None] | None = None
        try:
            while True:
                waiting = {task for task in (reading, committing, self._saving) if task is not None}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if committing is not None and committing.done():
                    await committing
                    committing = None
                outputs, leaving = list[bytes](), False
                if reading.done():
                    messages = reading.result()
                    leaving = not messages and self._leaving.is_set()
                    after = messages[-1].seq if messages else self._course.head.position
                    reading = asyncio.create_task(self._read(after))
                    outputs = await self._step(messages)
                    while messages := [each for each in messages if each.seq > self._course.head.position]:
                        if committing is not None:
                            await committing
                        committing = asyncio.create_task(self._commit(outputs, self._course.head))
                        outputs = await self._step(messages)
                if self._saving is not None and (self._saving.done() or leaving):
                    await self._take_saved()
                if self._course.head != self._committed:
                    if committing is not None:
                        await committing
                    committing = asyncio.create_task(self._commit(outputs, self._course.head))
                if leaving:
                    if committing is not None:
                        await committing
                    return
        finally:
            for task in (reading, committing):
                if task is not None:
                    task.cancel()

    async def _read(self, after: int) -> list[Logged]:
        """The messages behind number ``after``; none where something else is to be done."""
        subject = self._names.input(self._number)
        while True:
            self._bell.clear()
            changes = self._means.engines.newest > self._course.head.revision
            if changes or self._pressed or self._leaving.is_set():
                return []
            what = self._names.inputs, subject, after + 1, _READ, _READ_BYTES
            found: list[Logged] = await insist(lambda what=what: self._jetstream.read(*what), _PATIENCE_S)  # type: ignore[misc]
            if found:
                self.tally.pending = found[-1].pending
                return found
            self.tally.pending = 0
            if self._rung > after:
                await asyncio.sleep(_LAGGING_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), self._course.terms.pin_s)

    async def _step(self, messages: list[Logged]) -> list[bytes]:
        """Steps messages, and does what is due behind them. Returns blocks of what they are answered."""
        course = self._course
        before = course.head.rows
        # all at once: on a busy machine each way to the thread and back may take its turn
        outputs: list[bytes] = await self._do(course.take_all, messages)
        self._means.tally.rows += course.head.rows - before
        self.tally.all_rows = course.head.rows
        newest = self._means.engines.newest
        changes = newest > course.head.revision
        if changes:
            await self._do(course.adopt, await self._means.engines.of(newest))
        many = course.terms.checkpoint_rows
        if self._leaving.is_set():
            many = min(many, _WORTH)
        due = changes or self._pressed or course.head.rows - self.tally.checkpoint_rows >= many
        self._pressed = False
        if due and self._saving is None:
            outputs += await self._save()
        return outputs

    async def _commit(self, outputs: list[bytes], head: ShardHead) -> None:
        """Appends outputs and head, all or none, behind the last head. Raises WrongLast, Unavailable."""
        subject, state = self._names.output(self._number), self._names.state(self._number)
        kept = {"Nats-TTL": f"{max(round(self._course.terms.keep_s), 1)}s"}
        messages: list[tuple[str, bytes, Headers]] = [(subject, block, kept) for block in outputs]
        messages.append((state, head.told(), {}))
        while True:
            try:
                self._last = await self._jetstream.commit(messages, self._last)
                break
            except LogFull as error:
                self.tally.held = True
                log.warning("shard %d: held back, the log is full: %s", self._number, error)
                await asyncio.sleep(5 * _AGAIN_S)
            except (Unavailable, WrongLast) as error:
                if await self._was_committed(messages[-1][1], error):
                    break
                if isinstance(error, Unavailable):  # others may have been refused with us
                    await asyncio.sleep(_AGAIN_S * secrets.randbelow(100) / 100)
        self.tally.held = False
        self._committed = head
        self.tally.position, self.tally.time_ns = head.position, head.time_ns
        self._means.tally.commits += 1
        await self._means.acknowledge(self._number, head.position)

    async def _was_committed(self, head: bytes, error: Exception) -> bool:
        """Whether a commit of which nobody knows was made. Raises WrongLast where another was."""
        subject = self._names.state(self._number)
        message = await insist(lambda: self._jetstream.last(self._names.results, subject), _PATIENCE_S)
        found = message.seq if message is not None else 0
        if message is not None and found > self._last and message.data == head:
            self._last = found
            return True
        if found != self._last:
            raise WrongLast("another worker was here") from error
        if isinstance(error, WrongLast):  # a replica that is behind: it will see
            await asyncio.sleep(_LAGGING_S)
        return False

    # --- checkpoints

    async def _save(self) -> list[bytes]:
        """Begins a checkpoint, behind streams that leave. Returns what is said of these."""
        outputs: list[bytes] = await self._do(self._course.let_go)
        head = self._course.head
        data = await self._do(self._course.checkpoint)
        self.tally.checkpoint_rows, self.tally.streams = head.rows, self._course.streams
        self._saved = head.position
        self._saving = asyncio.create_task(self._write(data, head))
        return outputs

    async def _write(self, data: bytes, head: ShardHead) -> tuple[Checkpoint, int]:
        """Writes a checkpoint of a moment. Returns where it is, and how many events are in it."""
        pieces = await write_pieces(self._jetstream, self._names.checkpoint(self._number), data)
        what = head.position, head.revision, head.rows, head.gateways, time.time_ns()
        return Checkpoint(pieces, *what), len(head.since)

    async def _take_saved(self) -> None:
        """Has the next head tell of the checkpoint that was written."""
        assert self._saving is not None
        saving, self._saving = self._saving, None
        try:
            checkpoint, events = await saving
        except Unavailable as error:
            self._means.tally.checkpoint_failures += 1
            log.error("shard %d: no checkpoint: %s; the one before stays", self._number, error)
            return
        self._course.head = self._course.head.with_checkpoint(checkpoint, events)
        self.tally.checkpoint_ns = checkpoint.written_ns
        now, kept_s = time.monotonic(), self._course.terms.keep_input_s
        if now - self._purged_s >= kept_s / _PURGES:
            self._purged_s = now
            task = asyncio.create_task(self._purge(checkpoint, kept_s))
            self._purging.add(task)
            task.add_done_callback(self._purging.discard)

    async def _purge(self, checkpoint: Checkpoint, kept_s: float) -> None:
        """Removes what no recovery needs any more, once a head that says so is there."""
        while (there := self._committed.checkpoint) is None or there.position < checkpoint.position:
            await asyncio.sleep(_AGAIN_S)
        await asyncio.sleep(kept_s)
        purge, names, number = self._jetstream.purge, self._names, self._number
        try:
            await purge(names.inputs, names.input(number), seq=checkpoint.position + 1)
            await purge(names.results, names.checkpoint(number), seq=checkpoint.pieces.first)
            await purge(names.results, names.state(number), keep=1)
        except (Unavailable, UserError) as error:  # the next one does it
            log.debug("shard %d: not purged: %s", self._number, error)

"""A gateway's life: frames from ZeroMQ into the log, and predictions from the log to ZeroMQ."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from streamrnn.adapters.tally import IntakeTally
from streamrnn.cluster.connect import connect
from streamrnn.cluster.intake import BlockIntake
from streamrnn.cluster.jetstream import LogFull, Unavailable, insist
from streamrnn.cluster.members import Members
from streamrnn.cluster.metrics import GatewayCollector
from streamrnn.cluster.publishing import Publishing
from streamrnn.cluster.shown import Shown
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import GatewayTally
from streamrnn.cluster.terms import Terms, fetch_model, newest_terms
from streamrnn.daemon.connections import Connections
from streamrnn.daemon.intake import Intake, compile_intake
from streamrnn.daemon.security import Guard
from streamrnn.daemon.sockets import LINGER_MS, open_input, open_output
from streamrnn.errors import ConfigError, UserError
from streamrnn.model.model import Model
from streamrnn.mqtt.setup import make_readers
from streamrnn.settings.config import Config
from streamrnn.stats import REASONS, Stats
from streamrnn.wire.frame import PREDICTION

if TYPE_CHECKING:
    from streamrnn.daemon.json_output import JsonOutput

_TURN_S, _WORD_S = 0.25, 5.0
_AGAIN_S, _FULL_S = 0.1, 0.5
_DRAIN_S = 20.0
_COMMIT_BYTES = 1 << 28  # of predictions of a block
_COMMIT_MESSAGES = 300  # full ones, that is: servers take 1000 in one batch

log = logging.getLogger("streamrnn")


def answer_bytes(model: Model, terms: Terms) -> int:
    """Bytes in the largest prediction."""
    predict = terms.config.predict
    rows = max(predict.horizon, model.horizon, 1)
    return PREDICTION.itemsize + 4 * rows * len(model.outputs) * (1 + 2 * len(predict.bands))


class Gateway:
    """One gateway. ``run`` until ``stop``."""

    def __init__(self, config: Config):
        self.config, self.tally, self.adapted = config, GatewayTally(), IntakeTally()
        if config.input.adapted:
            self.adapted = IntakeTally(config.input.format)
        self.names = Subjects(config.cluster.name)
        self.name = f"{config.cluster.gateway}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._appending: dict[int, asyncio.Task[None]] = {}
        self.blocks: BlockIntake | None = None
        self.ready = self.failed = False
        self._intake: Intake | None = None
        self._readers: list[Any] = []  # of brokers
        self._json: JsonOutput | None = None
        self._told: dict[str, float] = {}
        self._next_word = 0.0

    def stop(self) -> None:
        self._stopping.set()

    def _broke(self) -> None:
        """The input broke; called on its thread."""
        self.failed = True
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self, say_ready: Callable[[str], object]) -> int:
        """Works until ``stop``. Returns the exit code. Raises UserError where it cannot begin."""
        self._loop = asyncio.get_running_loop()
        self.jetstream = await connect(self.config.cluster, f"gateway {self.name}")
        terms = await insist(lambda: newest_terms(self.jetstream, self.names), 60.0)
        if terms is None:
            raise ConfigError(
                f"there is no cluster {self.names.name} on these servers; `streamrnn cluster init` makes one"
            )
        model = await fetch_model(self.jetstream, self.names, terms)
        members = Members(self.jetstream, self.names, self.name, "gateway", terms.pin_s)
        await insist(members.start, 60.0)
        self._shown = Shown(self.config, members, terms, GatewayCollector(self.tally, self._rejected))
        context = zmq.Context()
        guard = Guard(context, self.config.security)
        guard.start()
        publishing: asyncio.Task[None] | None = None
        try:
            publishes, publishing = await self._open_output(context, guard, terms, model)
            receives = self._open_input(context, guard, terms, model)
            self.ready = True
            says = [f"receives on {', '.join(receives)}"] if receives else []
            says += [f"publishes on {', '.join(publishes)}"] if publishes else []
            what = f"gateway {self.name} of cluster {self.names.name}"
            say_ready(f"{what}, {', '.join(says)}{self._shown.where}")
            while not self._stopping.is_set():
                self.jetstream.require_open()
                with suppress(Unavailable):
                    await members.tell(rows=self.tally.rows, held=self.tally.held)
                self._shown.turned()
                self._tell()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _TURN_S)
                if publishing is not None and publishing.done():
                    publishing.result()
        finally:
            self.ready = False
            drained = await self._drain(publishing)
            with suppress(Unavailable):
                await members.leave()
            await self.jetstream.close()
            self._shown.stop()
            guard.stop()
            context.destroy(0 if self.failed else LINGER_MS)
        return 1 if self.failed or not drained else 0

    # --- in

    def _open_input(self, context: zmq.Context, guard: Guard, terms: Terms, model: Model) -> list[str]:
        """Takes from publishers. Returns where."""
        how = self.config.input
        if not (how.connect or how.bind):
            return []
        most_bytes = self.jetstream.most_bytes
        most_rows = max(min(_COMMIT_BYTES, _COMMIT_MESSAGES * most_bytes) // answer_bytes(model, terms), 1)
        how_much = terms.shards, most_rows, most_bytes
        self.blocks = BlockIntake(self.config, *how_much, self.tally, self._append_soon, self._broke)
        source, receives = open_input(context, guard, how, len(model.channels))
        self._taken = Connections(source, how.publishers)
        if how.adapted:
            compile_intake()
            config = Config.model_validate(self.config.model_dump(mode="json") | terms.sections)
            self._intake = Intake(context, config, model, self.adapted, self._broke)
            self._readers = make_readers(how, self.config.mqtt, self._intake.enter, self._broke)
            self._intake.others = [reader.taken_until for reader in self._readers]
            source = self._intake.start(self._taken)
            for reader in self._readers:
                reader.start()
        self.blocks.start(source)
        return [*receives, *how.brokers]

    def _rejected(self) -> dict[str, float]:
        """Messages that were turned away, by reason."""
        own = self.blocks.filling.rejected.tolist() if self.blocks is not None else [0] * len(REASONS)
        return dict(self.adapted.joined(dict(zip(REASONS, own, strict=True))))

    def _tell(self) -> None:
        """Says what was turned away since it last did, now and then."""
        now = self._loop.time()
        if now < self._next_word:
            return
        self._next_word = now + _WORD_S
        rejected = self._rejected()
        new = {why: count - self._told.get(why, 0) for why, count in rejected.items()}
        if said := ", ".join(f"{count:g} {why}" for why, count in new.items() if count > 0):
            log.warning("rejected: %s", said)
        self._told = rejected

    def _append_soon(self, shard: int, name: str, block: bytes, rows: int) -> None:
        """Has a block appended; called on the intake's thread."""
        self._loop.call_soon_threadsafe(self._begin, shard, name, block, rows)

    def _begin(self, shard: int, name: str, block: bytes, rows: int) -> None:
        self.tally.waiting += 1
        self._appending[shard] = asyncio.create_task(self._append(shard, name, block, rows))

    async def _append(self, shard: int, name: str, block: bytes, rows: int) -> None:
        """Appends a block, again and again until it is there: under its name it is there once."""
        subject, warned = self.names.input(shard), False
        while True:
            try:
                await self.jetstream.append(subject, block, name)
                break
            except (Unavailable, UserError) as error:
                full = isinstance(error, LogFull)
                self.tally.retries += 1
                self.tally.held = True
                if not warned:
                    log.warning(
                        "shard %d: %s: %s", shard, "the log is full" if full else "not appended", error
                    )
                warned = True
                await asyncio.sleep(_FULL_S if full else _AGAIN_S)
        self.tally.waiting -= 1
        self.tally.blocks += 1
        self.tally.rows += rows
        self.tally.held = False
        assert self.blocks is not None
        self.blocks.done(shard)

    # --- out

    async def _open_output(
        self, context: zmq.Context, guard: Guard, terms: Terms, model: Model
    ) -> tuple[list[str], asyncio.Task[None] | None]:
        """Publishes to subscribers. Returns where, and the task that does."""
        how = self.config.output
        if not (how.connect or how.bind):
            return [], None
        size, levels = answer_bytes(model, terms), terms.config.predict.bands
        if how.format == "json":
            from streamrnn.daemon.json_output import JsonOutput  # and pyarrow, which is slow to import

            counters = np.zeros(
                len(Stats.zeros().counters), np.int64
            )  # none is lost here: see ``Publishing``
            self._json = JsonOutput(context, model, levels, size, counters, self._broke, bare=False)
            size = self._json.message_bytes
        sink, publishes = open_output(context, guard, how, size)
        if self._json is not None:
            sink = self._json.start(Connections(sink, how.connect))
        publishing = Publishing(
            self.jetstream, self.names, self.config.cluster.gateway, terms.shards, sink, self.tally
        )
        await publishing.start()
        return publishes, asyncio.create_task(publishing.run())

    async def _drain(self, publishing: asyncio.Task[None] | None) -> bool:
        """Takes nothing more, and has the log take what was taken. Returns whether it did."""
        if publishing is not None:
            publishing.cancel()
        if self._json is not None:
            await asyncio.to_thread(self._json.close, LINGER_MS)
        if self.blocks is None:
            return True
        for reader in self._readers:
            reader.stop()
        stopping = asyncio.create_task(asyncio.to_thread(self.blocks.stop))
        end = self._loop.time() + _DRAIN_S
        while self._loop.time() < end and (not stopping.done() or self.tally.waiting):
            await asyncio.sleep(0.01)
        lost = self.tally.waiting + self.blocks.abandon()
        await stopping
        if self._intake is not None:
            await asyncio.to_thread(self._intake.close)
        if lost:
            log.error("stopped with %d blocks that the log did not take; their rows are lost", lost)
        return not lost

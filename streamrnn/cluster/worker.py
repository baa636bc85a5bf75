"""A worker's life: it takes shards as the servers give them, keeps its share, and hands over when it ends."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from streamrnn.adapters.tally import IntakeTally
from streamrnn.cluster.connect import connect
from streamrnn.cluster.engines import Engines
from streamrnn.cluster.jetstream import Unavailable, insist
from streamrnn.cluster.members import Members
from streamrnn.cluster.metrics import WorkerCollector, lag_s
from streamrnn.cluster.pins import Pins
from streamrnn.cluster.shard import Means, Shard
from streamrnn.cluster.shown import Shown
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import WorkerTally
from streamrnn.cluster.warm import warm_up
from streamrnn.daemon.describe import labels_of
from streamrnn.daemon.refusals import Refusals
from streamrnn.errors import UserError
from streamrnn.settings.config import Config
from streamrnn.web.metrics import StatsCollector

_TURN_S, _WORD_S = 0.05, 5.0
_COOL_S = 30.0  # how long a shard that cannot be taken up is left to others
_HAND_OVER_S = 20.0
_PRESS_S = 1.0

log = logging.getLogger("streamrnn")


class _NoSnapshots:
    """For a scrape: a worker has checkpoints."""

    failures = 0

    def age_s(self) -> float:
        return float("nan")


class Worker:
    """One worker. ``run`` until ``stop``."""

    def __init__(self, config: Config):
        self.config, self.tally = config, WorkerTally()
        self.names = Subjects(config.cluster.name)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._thread = ThreadPoolExecutor(1, "step")
        self._stopping = asyncio.Event()
        self._shards: dict[int, Shard] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving = set[int]()
        self._cooling: dict[int, float] = {}
        self._surplus: asyncio.Task[None] | None = None
        self._used = set[int]()  # shards that somebody had: others have had no rows, and are nobody's
        self._next_press = 0.0
        self.ready = False

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, say_ready: Callable[[str], object]) -> int:
        """Works until ``stop``, and hands over. Returns the exit code.

        Raises Unavailable, UserError where it cannot begin.
        """
        self.jetstream = await connect(self.config.cluster, f"worker {self.name}")
        self.engines = Engines(self.jetstream, self.names, self._thread)
        agreed = await insist(self.engines.renew, 60.0)
        terms = self.terms = agreed.terms
        await asyncio.get_running_loop().run_in_executor(self._thread, warm_up, agreed.engine)
        self.pins = Pins(
            self.jetstream, self.names, terms.shards, terms.pin_s, self._taken, self._lost, self._rung
        )
        self._means = Means(
            self.name,
            self.jetstream,
            self.names,
            self.engines,
            self._thread,
            self.tally,
            self.pins.acknowledge,
        )
        self.members = Members(self.jetstream, self.names, self.name, "worker", terms.pin_s)
        await insist(self.members.start, 60.0)
        await self.pins.start()
        info = labels_of(agreed.engine.model)
        capacity = terms.shards * agreed.config.streams.capacity
        stats = StatsCollector(agreed.engine.stats, capacity, info, _NoSnapshots(), IntakeTally())
        self._shown = Shown(self.config, self.members, terms, stats, WorkerCollector(self.tally))
        self._refusals, self._next_word = Refusals(agreed.engine, IntakeTally()), time.monotonic()
        self.ready = True
        say_ready(
            f"worker {self.name} of cluster {self.names.name}, {terms.shards} shards{self._shown.where}"
        )
        try:
            while not self._stopping.is_set():
                self.jetstream.require_open()
                with suppress(Unavailable):
                    await self._turn()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _TURN_S)
        finally:
            self.ready = False
            await self._hand_all_over()
            self._shown.stop()
        return 0

    async def _turn(self) -> None:
        now = time.monotonic()
        self._shown.turned()
        if now >= self._next_word:
            self._next_word = now + _WORD_S
            self._refusals.tell()
            self._refusals.tell_counts(_WORD_S)
        self._press(now)
        for shard in [shard for shard, until in self._cooling.items() if now > until]:
            del self._cooling[shard]
            self.pins.reopen(shard)
        owned = self.pins.owned
        self.pins.asking = len(owned) < self.members.share(self.terms.shards)
        await self.pins.ask()
        figures = {
            shard: [each.pending, round(lag_s(each), 3), each.streams, each.all_rows]
            for shard, each in self.tally.shards.items()
        }
        held = any(each.held for each in self.tally.shards.values())
        await self.members.tell(shards=figures, rows=self.tally.rows, held=held)
        self._used.update(owned, self.members.shards(self.terms.shards))
        too_many = len(owned) > self.members.share(len(self._used))
        if too_many and (self._surplus is None or self._surplus.done()):
            newest = next((shard for shard in reversed(self._shards) if shard in owned), None)
            if newest is not None:
                self._surplus = asyncio.create_task(self._hand_over(newest))

    def _press(self, now: float) -> None:
        """Where gateways find no room, has checkpoints written, and what came before them removed."""
        if now >= self._next_press and any(each.get("held") for each in self.members.present("gateway")):
            self._next_press = now + _PRESS_S
            for shard in self._shards.values():
                shard.press()

    async def renew(self) -> None:
        """Takes the newest terms, as at SIGHUP; goes on as before where that cannot be done."""
        try:
            agreed = await insist(self.engines.renew, 30.0)
        except (Unavailable, UserError) as error:
            for line in str(error).splitlines():
                log.error("not reloaded, all goes on as before: %s", line)
            return
        for shard in self._shards.values():
            shard.renew()
        log.info("reloaded; revision %d, the model is %s", agreed.terms.revision, agreed.terms.fingerprint)

    def _taken(self, number: int) -> None:
        """A shard is ours."""
        if number in self._tasks:
            return
        shard = self._shards[number] = Shard(self._means, number)
        self.tally.shards[number] = shard.tally
        task = self._tasks[number] = asyncio.create_task(shard.run())
        task.add_done_callback(lambda ended: self._ended(number, ended))

    def _lost(self, number: int) -> None:
        """A shard is ours no more."""
        if number in self._tasks:
            log.info("shard %d: it is another worker's now", number)
            self._tasks[number].cancel()

    def _rung(self, number: int, message: int) -> None:
        if number in self._shards:
            self._shards[number].ring(message)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._forget(number)
        if task.cancelled() or (error := task.exception()) is None:
            goes_on = not self._stopping.is_set() and number not in self._leaving
            if goes_on and number in self.pins.owned:
                self._taken(number)  # it came back before its old task had ended
            return
        for line in str(error).splitlines():
            log.error("%s", line)
        if not isinstance(error, UserError):
            log.error("shard %d broke", number, exc_info=error)
        self.tally.failures += 1
        self._cooling[number] = time.monotonic() + _COOL_S
        self._giving = asyncio.create_task(self.pins.give_up(number))

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._shards.pop(number, None)
        self.tally.shards.pop(number, None)

    async def _hand_over(self, number: int) -> None:
        """Commits what is begun of a shard, and lets others have it."""
        shard, task = self._shards.get(number), self._tasks.get(number)
        if shard is None or task is None:
            return
        self._leaving.add(number)
        shard.leave()
        await asyncio.wait({task}, timeout=_HAND_OVER_S)
        await self.pins.give_up(number)
        self._leaving.discard(number)
        self._cooling[number] = time.monotonic() + 2 * self.terms.pin_s

    async def _hand_all_over(self) -> None:
        self.pins.asking = False
        with suppress(Unavailable):
            await self.members.leave()
        await asyncio.gather(
            *(self._hand_over(number) for number in list(self._shards)), return_exceptions=True
        )
        for task in list(self._tasks.values()):
            task.cancel()
        await self.jetstream.close()
        self._thread.shutdown(wait=False)

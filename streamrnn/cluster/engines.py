"""The engines of a worker, one for each revision of the terms that its shards go on with."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from streamrnn.cluster.jetstream import JetStream, insist
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.terms import Terms, fetch_model, newest_terms, terms_of
from streamrnn.engine.engine import Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.config import Config
from streamrnn.stats import Stats

_KEPT = 3
_PATIENCE_S = 60.0


class Agreed(NamedTuple):
    """A revision of the terms, ready to be stepped by."""

    terms: Terms
    config: Config
    engine: Engine


def make_engine(model: Model, config: Config) -> Engine:
    """An engine whose slots are not used: each shard has its own. Raises ConfigError."""
    return Engine(model, 1, config.faults, None, config.predict, config.adapt.rows, 1)


class Engines:
    """Makes engines as they are needed, on the thread that steps them."""

    def __init__(self, jetstream: JetStream, names: Subjects, thread: ThreadPoolExecutor):
        self._jetstream, self._names, self._thread = jetstream, names, thread
        self._ready: dict[int, Agreed] = {}
        self._lock = asyncio.Lock()
        self._stats: Stats | None = None
        self.newest = 0  # the revision that shards go on with

    async def renew(self) -> Agreed:
        """Takes the newest terms. Raises Unavailable, UserError, ConfigError where there are none."""
        terms = await newest_terms(self._jetstream, self._names)
        if terms is None:
            raise ConfigError(
                f"there is no cluster {self._names.name} on these servers; `streamrnn cluster init` makes one"
            )
        agreed = await self.of(terms.revision)
        self.newest = max(self.newest, terms.revision)
        return agreed

    async def of(self, revision: int) -> Agreed:
        """What a revision says. Raises Unavailable, UserError."""
        async with self._lock:
            if revision not in self._ready:
                self._ready[revision] = await self._make(revision)
                while len(self._ready) > _KEPT:
                    del self._ready[min(self._ready)]
            return self._ready[revision]

    async def _make(self, revision: int) -> Agreed:
        terms = await insist(lambda: terms_of(self._jetstream, self._names, revision), _PATIENCE_S)
        model = await fetch_model(self._jetstream, self._names, terms)
        config, loop = terms.config, asyncio.get_running_loop()
        make: Callable[[], Engine] = lambda: make_engine(model, config)  # noqa: E731
        engine = await loop.run_in_executor(self._thread, make)
        self._stats = self._stats or engine.stats  # one for all
        engine.core = engine.core._replace(stats=self._stats)
        return Agreed(terms, config, engine)

"""Which model serves and which is its shadow: from one configuration to the next, and where they swap."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from streamrnn.daemon.driver import Driver
from streamrnn.daemon.pump import Pump
from streamrnn.daemon.shadow import Shadow, refuse_other_channels
from streamrnn.daemon.state_keeper import Keeper
from streamrnn.engine.advance import Core
from streamrnn.engine.engine import Engine
from streamrnn.engine.options import refuse_unable
from streamrnn.errors import ConfigError, UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config
from streamrnn.streams.exchange import find_streams, request_resets
from streamrnn.streams.holding import set_hold

log = logging.getLogger("streamrnn")

_BEAT_S = 0.25


class NextModels(NamedTuple):
    """What a configuration makes of the models that run; all of it can be done."""

    swaps: bool  # the shadow serves
    core: Core  # of whichever serves then
    shadow_core: Core | None  # of a shadow that stays
    beginning: Model | None  # or of one to be made


class Succession:
    """The models of a daemon: ``engine`` has the one that serves, ``shadow`` the other, if there is one."""

    def __init__(self, engine: Engine, keeper: Keeper, config: Config):
        """Raises as ``Shadow``."""
        self._engine, self._keeper = engine, keeper
        self._filed = engine.model.fingerprint  # of the model that the configuration named when it was read
        self.shadow: Shadow | None = None
        try:
            if config.shadow:
                self.shadow = Shadow(read_model(config.shadow), engine, config)
        except UserError:
            keeper.discard()
            raise

    def compile(self) -> None:
        """See ``Shadow.compile``."""
        if self.shadow is not None:
            self.shadow.compile()

    @property
    def keepers(self) -> list[Keeper]:
        """Of the streams of each model."""
        return [self._keeper, *([self.shadow.keeper] if self.shadow is not None else [])]

    @contextmanager
    def behind(self, first: Core, pump: Pump) -> Iterator[Pump]:
        """See ``Shadow.behind``; without a shadow the pump as it is."""
        if self.shadow is None:
            yield pump
            return
        with self.shadow.behind(first, pump) as both:
            yield both

    def planned(self, model: Model, config: Config) -> NextModels:
        """What a configuration, whose model is ``model``, comes to. Raises ConfigError for what cannot be."""
        shadow = self.shadow
        swaps = shadow is not None and model.fingerprint == shadow.engine.model.fingerprint
        if swaps and model.fingerprint == self._filed:
            raise ConfigError(
                f"model: {config.model} served before `streamrnn promote`; write model and shadow the other "
                "way round, or promote once more to go back to it"
            )
        heir, other = self._engine, shadow.engine if shadow is not None else None
        if swaps and other is not None:
            heir, other = other, heir
        core = heir.replacement(model, config.faults)
        if not config.shadow:
            return NextModels(swaps, core, None, None)
        beside = read_model(config.shadow)
        refuse_other_channels(model, beside)
        if other is not None and beside.fingerprint == other.model.fingerprint:
            return NextModels(swaps, core, other.replacement(beside, config.faults), None)
        refuse_unable(beside, config.faults, config.adapt.rows, config.predict)
        return NextModels(swaps, core, None, beside)

    @contextmanager
    def swapped(self, driver: Driver) -> Iterator[None]:
        """Has the shadow serve and the model be the shadow; the block goes on from there before a frame does.

        Waits for snapshots under way. Raises UserError, nothing changed, where their live states cannot trade
        places.
        """
        assert self.shadow is not None
        with self._keeper.lock, self.shadow.keeper.lock, driver.paused():
            self._keeper.swap(self.shadow.keeper)
            self._engine.swap(self.shadow.engine)
            self.shadow.begin_anew()
            yield
        for keeper in self.keepers:
            keeper.save_soon()

    def adopt(self, models: NextModels, config: Config) -> Shadow | None:
        """Goes on as planned while nothing steps the streams, the swap done. Returns a shadow to be ended."""
        another = self._filed != self._engine.model.fingerprint
        self._filed = self._engine.model.fingerprint
        shadow = self.shadow
        if shadow is not None and models.shadow_core is not None:
            shadow.adopt(models.shadow_core, config)
            if another:
                shadow.begin_anew()
            return None
        self.shadow = None
        return shadow

    def reset(self, words: np.ndarray | None) -> None:
        """Has the shadow's streams of some ids, (n, ID_WORDS) uint64, or all, begin anew with their next row.

        As ``hold`` called while nothing steps them.
        """
        if self.shadow is not None:
            slots = self.shadow.engine.core.slots
            request_resets(slots, np.flatnonzero(slots.committed) if words is None else self._known(words))

    def hold(self, words: np.ndarray, hold: np.uint32) -> None:
        """Sets HOLD of the shadow's streams of some ids."""
        if self.shadow is not None:
            set_hold(self.shadow.engine.core.slots, self._known(words), hold)

    def _known(self, words: np.ndarray) -> np.ndarray:
        """The slots of those of some ids that the shadow has streams of, each once, (n,) int64."""
        assert self.shadow is not None
        found = find_streams(self.shadow.engine.core.slots, words)
        return np.unique(found[found >= 0])

    def settle(
        self,
        gone: Shadow | None,
        models: NextModels,
        config: Config,
        driver: Driver,
        beat: Callable[[], None],
    ) -> None:
        """Ends a shadow that has gone, and begins the one that is to come, if any."""
        if gone is not None:
            gone.keeper.end()
        if models.beginning is not None:
            self._begin(models.beginning, config, driver, beat)

    def _begin(self, model: Model, config: Config, driver: Driver, beat: Callable[[], None]) -> None:
        """Has a daemon that runs step a shadow from here on, or logs why it cannot.

        What it takes is compiled while frames are answered; ``beat`` is called meanwhile.
        """
        with ThreadPoolExecutor(1) as worker:
            made = worker.submit(self._made, model, config)
            while not made.done():
                wait([made], _BEAT_S)
                beat()
        try:
            shadow = made.result()
        except UserError as error:
            for line in str(error).splitlines():
                log.error("serving goes on without the shadow: %s", line)
            return
        with driver.paused():
            self.shadow = shadow
        shadow.keeper.start()
        log.info("the shadow is %s", model.fingerprint)

    def _made(self, model: Model, config: Config) -> Shadow:
        shadow = Shadow(model, self._engine, config)
        shadow.compile()
        shadow.keeper.recover()
        return shadow

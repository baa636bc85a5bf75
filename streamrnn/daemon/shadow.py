"""A shadow: a second model beside the one that serves, on the same rows, until it takes over or leaves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from streamrnn.compiling.calls import Prepared
from streamrnn.compiling.inside import KNOWN
from streamrnn.daemon.comparing import SideBySide, make_side_by_side
from streamrnn.daemon.pump import Pump
from streamrnn.daemon.shadowing import Beside, make_beside, take_shadow
from streamrnn.daemon.state_keeper import Keeper
from streamrnn.engine.advance import Core
from streamrnn.engine.engine import Engine
from streamrnn.engine.helpers import compile_steps
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.config import Config
from streamrnn.settings.sections import State

FOLDER = "shadow"  # within those of the first model's state


def refuse_other_channels(first: Model, shadow: Model) -> None:
    """Raises ConfigError for a model that cannot take the same rows, or is the same."""
    if shadow.fingerprint == first.fingerprint:
        raise ConfigError(
            f"shadow: is the model {first.fingerprint} itself; name the one that is to be compared with it"
        )
    here, theirs = ([channel.stated() for channel in model.channels] for model in (first, shadow))
    if [channel["name"] for channel in here] != [channel["name"] for channel in theirs]:
        more = _listed(theirs, here, "has channels more ({})") + _listed(here, theirs, "lacks channels ({})")
        raise ConfigError(
            f"shadow: it {' and '.join(more) or 'has its channels in another order'}; both models take the "
            f"same rows, so it must have {', '.join(channel['name'] for channel in here)}, in this order"
        )
    for ours, other in zip(here, theirs, strict=True):
        if ours != other:
            raise ConfigError(
                f'shadow: its channel "{ours["name"]}" is {_described(other)}, that of the model '
                f"{_described(ours)}; train it on the same values"
            )


def _listed(those: list[dict], without: list[dict], words: str) -> list[str]:
    known = {channel["name"] for channel in without}
    names = [channel["name"] for channel in those if channel["name"] not in known]
    return [words.format(", ".join(names))] if names else []


def _described(channel: dict) -> str:
    unit, offset = channel.get("unit") or "without a unit", channel.get("offset", 0)
    return f"{unit}, less {offset:g}" if offset else str(unit)


def _state_beside(state: State) -> State:
    """Where the shadow's streams are kept, if the first model's are."""
    folders = {"live": state.live, "snapshots": state.snapshots}
    beside = {key: str(Path(folder, FOLDER)) for key, folder in folders.items() if folder}
    return state.model_copy(update=beside)


class Shadow:
    """Made, compiled, recovered and started as the daemon is; then its pump steps it behind the first model.

    ``found`` is how the two compare since ``since``, s since the Unix epoch.
    """

    def __init__(self, model: Model, first: Engine, config: Config):
        """Raises ConfigError where the two cannot take the same rows, or the model not what is configured."""
        refuse_other_channels(first.model, model)
        self._first = first
        self._idle_ns = round(config.streams.idle_timeout * 1e9)
        capacity = config.streams.capacity
        self.keeper = Keeper(_state_beside(config.state), "another shadow")
        home = partial(self.keeper.home, fingerprint=model.fingerprint, capacity=capacity)
        how = config.predict, config.adapt.rows, config.streams.workers
        self.engine = Engine(model, capacity, config.faults, home, *how)
        # messages in hand are known by their ids' hashes, and stay known when it takes over
        self.engine.core.slots.seed[:] = first.core.slots.seed
        self.begin_anew()

    def begin_anew(self) -> None:
        """Compares from here on."""
        outputs = min(len(self._first.model.outputs), len(self.engine.model.outputs))
        self.found: SideBySide = make_side_by_side(outputs if self.forecasting else 0, self.engine.capacity)
        self.since = time.time()

    @property
    def forecasting(self) -> bool:
        """Whether both models forecast the channels."""
        return bool(self._first.core.net.forecasts and self.engine.core.net.forecasts)

    def compile(self) -> None:
        """Compiles what it takes, or loads it from the cache."""
        compile_steps(self.engine.core)
        self.keeper.compile(self.engine)
        if KNOWN:
            Prepared(take_shadow, self._beside(self._first.core, self.engine.core), known=False)

    def adopt(self, core: Core, config: Config) -> None:
        """Goes on with other rules, while nothing steps the streams."""
        self._idle_ns = round(config.streams.idle_timeout * 1e9)
        self.engine.replace(self.engine.model, core)
        self.keeper.adopt(self.engine.model.fingerprint, _state_beside(config.state))

    def _beside(self, first: Core, shadow: Core) -> Beside:
        return make_beside(first, shadow, self.found, self._idle_ns)

    @contextmanager
    def behind(self, first: Core, pump: Pump) -> Iterator[Pump]:
        """For a pump's thread: the pump with the shadow behind ``first``, a core that is prepared."""
        with self.engine.helped() as core:
            beside = self._beside(first, core)
            if KNOWN:
                prepared = Prepared(take_shadow, beside, known=False)
                yield pump._replace(shadow=prepared.callee)
            else:
                yield pump._replace(shadow=beside)

"""What a daemon has compiled, or loaded from the cache, before its first frame."""

import logging
import time

from streamrnn.compiling.jit import compiling
from streamrnn.daemon.intake import compile_intake
from streamrnn.daemon.journal import compile_watching
from streamrnn.daemon.page.read_records import compile_reading
from streamrnn.daemon.pump import Pump, run
from streamrnn.daemon.state_keeper import Keeper
from streamrnn.daemon.succession import Succession
from streamrnn.engine.engine import Engine
from streamrnn.engine.helpers import compile_steps
from streamrnn.settings.config import Config
from streamrnn.streams.record import layout_of
from streamrnn.streams.slots import make_slots

log = logging.getLogger("streamrnn")


def compile_kernels(
    config: Config, pump: Pump, engine: Engine, keeper: Keeper, succession: Succession
) -> None:
    """Loads all of it from the cache, or compiles it and says so."""
    started = time.monotonic()
    with compiling(log.info):
        run.prepare(pump, engine.core)
        compile_steps(engine.core)
        keeper.compile(engine)
        if config.events.path:
            compile_watching(engine)
        succession.compile()
        if config.input.adapted:
            compile_intake()
        if config.http.address is not None or config.state.live or config.state.snapshots:
            compile_reading(make_slots(layout_of(engine.core.net), 1))
    log.debug("kernels ready after %.1f s", time.monotonic() - started)

"""The journal of events of a daemon, where its configuration names one."""

from pathlib import Path

from streamrnn.engine.engine import Engine
from streamrnn.events.ring import RingFile
from streamrnn.events.watch import look, make_watch, sealed_of
from streamrnn.events.writer import Writer
from streamrnn.settings.config import Config


def open_journal(config: Config, engine: Engine) -> Writer | None:
    """Has the engine say what happens to its streams, and opens the journal that it goes into.

    The lock of ``state.live``, where that is set, is held. Raises as ``RingFile`` and ``Writer``.
    """
    if not config.events.path:
        return None
    live = config.state.live
    ring = RingFile(Path(live) if live else None, engine.capacity)
    named = (
        [(each.name, each.offset) for each in of] for of in (engine.model.channels, engine.model.outputs)
    )
    writer = Writer(config.events, ring, *named)
    engine.core = engine.core._replace(journal=ring.ring)
    return writer


def compile_watching(engine: Engine) -> None:
    """Compiles, or loads from the cache, what the journal's thread runs."""
    core, outputs = engine.core, engine.core.net.outputs if engine.core.net.forecasts else 0
    look.prepare(core.slots, make_watch(1, 1, core.net.inputs, outputs), 0, 0, 0, 0)
    sealed_of.prepare(core.journal.marks)

"""The journal of events of a daemon, where its configuration names one."""

from collections.abc import Iterator
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
    writer = Writer(config.events, ring, *_named(engine))
    engine.core = engine.core._replace(journal=ring.ring)
    return writer


def adopt_engine(writer: Writer, engine: Engine) -> None:
    """Has a journal go on with what an engine now is, after a swap of models."""
    writer.adopt(engine.core.slots, engine.core.net.forecasts == 1, *_named(engine))


def _named(engine: Engine) -> Iterator[list[tuple[str, float]]]:
    """Names and offsets of channels and outputs."""
    for of in (engine.model.channels, engine.model.outputs):
        yield [(each.name, each.offset) for each in of]


def compile_watching(engine: Engine) -> None:
    """Compiles, or loads from the cache, what the journal's thread runs."""
    core, outputs = engine.core, engine.core.net.outputs if engine.core.net.forecasts else 0
    look.prepare(core.slots, make_watch(1, 1, core.net.inputs, outputs), 0, 0, 0, 0)
    sealed_of.prepare(core.journal.marks)

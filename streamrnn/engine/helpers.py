"""Helpers: threads that take their share of an engine's batches, beside the one that leads."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamrnn.compiling.jit import compiled
from streamrnn.engine.advance import Core, help_through, prepared
from streamrnn.engine.crew import OPEN, bell_of, report, stay
from streamrnn.kernels.network import aligned
from streamrnn.kernels.packing import make_scratch
from streamrnn.streams.batch import make_tile
from streamrnn.streams.slots import WORK_RECORDS
from streamrnn.system.semaphores import post_from_python

log = logging.getLogger("streamrnn")


@compiled(unknown="core")
def help_out(core):
    """What a helper's thread does until it is called off; ``core`` is of its own."""
    while stay(core.crew):
        streams = help_through(core)
        if streams > 0:
            report(core.crew, streams)


def compile_steps(core: Core) -> None:
    """Compiles what workers run, or loads it from the cache."""
    prepared(core)
    if core.crew.workers > 1:
        help_out.prepare(core)


def core_of(core: Core, number: int) -> Core:
    """The leader's core with what helper ``number`` works in."""
    slots, work = core.slots, core.adaptation.work
    return core._replace(
        adaptation=core.adaptation._replace(work=aligned(work.size)),
        bands=core.bands._replace(work=aligned(core.bands.work.size)),
        scratch=make_scratch(core.net),
        tile=make_tile(core.net.out_width, (slots.capacity + number * WORK_RECORDS) * slots.words),
        crew=core.crew._replace(number=number),
    )


def _help(core: Core) -> None:
    core, _kept = prepared(core)
    help_out(core)


@contextmanager
def helped(core: Core) -> Iterator[Core]:
    """Has a leader's helpers, if any, at hand for the block, in which its thread calls ``advance``.

    With the core that it calls it with.
    """
    leader, _kept = prepared(core)
    if core.crew.workers > 1:
        help_out.prepare(leader)
    crew, threads = core.crew, list[threading.Thread]()
    crew.board[OPEN] = 1
    for number in range(1, crew.workers):
        thread = threading.Thread(target=_help, args=(core_of(core, number),), name=f"worker-{number}")
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError as error:  # the others do its part
            log.warning("worker %d of %d cannot start: %s", 1 + number, crew.workers, error)
        else:
            threads.append(thread)
    try:
        yield leader
    finally:
        crew.board[OPEN] = 0
        for number in range(1, crew.workers):
            post_from_python(bell_of(crew.bells, number))
        for thread in threads:
            thread.join()

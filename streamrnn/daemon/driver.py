"""The thread that the pump runs on, and how Python gets a word in between two frames."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from streamrnn.daemon.pump import END, FAILED, HEARTBEAT, PAUSE, STOP, Pump, run
from streamrnn.engine.advance import Core
from streamrnn.engine.engine import Engine

log = logging.getLogger("streamrnn")


class Driver:
    """Runs a pump over an engine until ``stop``; ``pump`` and ``engine.core`` may change while ``paused``."""

    def __init__(
        self,
        pump: Pump,
        engine: Engine,
        on_failure: Callable[[], object],
        bare: bool = False,
        behind: Callable[[Core, Pump], AbstractContextManager[Pump]] = lambda core, pump: nullcontext(pump),
    ):
        """``on_failure`` is called on the pump's thread when its input socket breaks.

        ``bare``: what it sends is without the outputs' offsets. ``behind`` gives the pump as it runs over
        a core that is prepared, with a shadow or not.
        """
        self.pump, self._engine, self._on_failure, self._bare = pump, engine, on_failure, bare
        self._behind = behind
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._one_at_a_time = threading.Lock()
        self._parked, self._resume = threading.Event(), threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the pump after the batch it is at."""
        with self._one_at_a_time:
            self.pump.control[STOP] = END
            self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Holds the pump between two frames for the block; what arrives meanwhile waits in the socket."""
        with self._one_at_a_time:
            self._parked.clear()
            self.pump.control[STOP] = PAUSE
            while self._thread.is_alive() and not self._parked.wait(0.1):
                pass
            try:
                yield
            finally:
                self.pump.control[STOP] = 0
                self._resume.set()

    def _run(self) -> None:
        # a handler run on this thread would interrupt libzmq between the two parts of a message
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._engine.helped() as core, self._behind(core, self.pump) as pump:
                run(pump, self._said(core))
            if self.pump.control[STOP] != PAUSE:
                break
            self._parked.set()
            self._resume.wait()
            self._resume.clear()  # here: a pause that follows at once must not take this one back
        if error := int(self.pump.control[FAILED]):
            log.error("the input socket broke: %s; ending", os.strerror(error))
            self._on_failure()

    def _said(self, core: Core) -> Core:
        if not self._bare:
            return core
        return core._replace(net=core.net._replace(out_offsets=core.net.out_offsets[:0]))

    @property
    def failed(self) -> bool:
        """Whether the pump ended because a socket broke."""
        return bool(self.pump.control[FAILED])

    def heartbeat_age_s(self) -> float | None:
        """How long ago the pump was last seen at work; None before it began."""
        beat = int(self.pump.control[HEARTBEAT])
        return max(time.monotonic() - beat / 1e9, 0.0) if beat else None

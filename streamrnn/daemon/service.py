"""The daemon's life: start, READY, run, stop. Python around the compiled pump."""

import logging
import os
import select
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

import numba
import zmq

from streamrnn import stats as counted
from streamrnn.config import Config
from streamrnn.daemon.log import set_up_log
from streamrnn.daemon.pump import FAILED, HEARTBEAT, STOP, Pump, make_pump, run
from streamrnn.daemon.sockets import open_input, open_output
from streamrnn.engine import Engine
from streamrnn.errors import UserError
from streamrnn.jit import slow_notice
from streamrnn.model.native import read_model
from streamrnn.web.app import WebServer
from streamrnn.web.metrics import make_registry

log = logging.getLogger("streamrnn")

_WATCH_S = 5.0  # how often the log tells of frames that were turned away
_STALE_S = 2.0  # a heartbeat older than this is a pump that hangs


class Service:
    """One daemon. ``start`` returns when it is ready, ``wait`` when it was told to stop."""

    def __init__(self, config: Config):
        """Reads the model. Raises ConfigError where the two cannot run."""
        config.require_endpoints()
        self.config = config
        self.model = read_model(config.model)
        self.engine = Engine(self.model, config.streams.capacity, config.faults)
        # A byte in this pipe says stop. Of two signals at once the kernel may hand both to a thread other
        # than the main one, which then sleeps on in any lock; what the C handler writes here wakes it.
        self._told, self.stop_fd = os.pipe()
        os.set_blocking(self.stop_fd, False)
        self._state = "starting"
        self._refused: dict[str, int] = {}
        self.compiling = False  # when nothing but time is lost by an exception
        self._pump: Pump | None = None
        self._thread: threading.Thread | None = None
        self._context = zmq.Context()
        self._web: WebServer | None = None

    def start(self) -> None:
        """Serves HTTP, compiles, opens the sockets, starts the pump, in this order.

        Raises UserError for an address that cannot be used.
        """
        if self.config.http.address is not None:
            info = {
                "fingerprint": self.model.fingerprint,
                "cell": self.model.cell,
                "hidden": str(self.model.hidden),
                "layers": str(len(self.model.layers)),
                "channels": str(len(self.model.channels)),
                "outputs": str(len(self.model.outputs)),
            }
            registry = make_registry(self.engine.stats, self.engine.capacity, info)
            self._web = WebServer(*self.config.http.address, registry, self._health, self.readiness)
            self._web.start()
        self._compile()
        # the output first: who waits there should be back before frames come in
        self._sink, publishes = open_output(self._context, self.config.output)
        channels = len(self.model.channels)
        self._source, receives = open_input(self._context, self.config.input, channels)
        self._pump = make_pump(
            self.engine.core,
            self._source.underlying,
            self._sink.underlying,
            self.config.input.format == "raw",
            self.config.streams.idle_timeout,
        )
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()
        self._state = "ready"
        log.info("%s", self._description(receives, publishes))

    def wait(self) -> int:
        """Blocks until ``stop``, then ends everything. Returns the exit code."""
        while not select.select([self._told], [], [], _WATCH_S)[0]:
            self._tell_of_refusals()
        failed = self._pump is not None and self._pump.control[FAILED] != 0
        self.close()
        return 1 if failed else 0

    def _tell_of_refusals(self) -> None:
        """Logs what was turned away since the last look: a publisher that is wrong sees nothing itself."""
        stats = self.engine.stats
        now = dict(zip(counted.REASONS, stats.rejected.tolist(), strict=True))
        now["late"] = int(stats.counters[counted.LATE])
        more = {why: count - self._refused.get(why, 0) for why, count in now.items()}
        self._refused = now
        if any(more.values()):
            words = ", ".join(f"{why} {count:,}" for why, count in more.items() if count)
            log.warning("not answered in the last %.0f s, by reason: %s", _WATCH_S, words)

    def stop(self) -> None:
        """Asks the daemon to end; safe from a signal handler."""
        with suppress(BlockingIOError):
            os.write(self.stop_fd, b"\0")

    def close(self) -> None:
        """Stops the pump, lets what was published leave, closes what is open."""
        self._state = "stopping"
        if self._pump is not None and self._thread is not None:
            self._pump.control[STOP] = 1
            self._thread.join()
            self._source.close()
            self._sink.close()
            totals = self.engine.stats.counters
            log.info(
                "stopped after %d frames, %d predictions",
                totals[counted.RECEIVED],
                totals[counted.PREDICTIONS],
            )
        if self._web is not None:
            self._web.stop()
        self._context.destroy()  # closes sockets, too, that a start that failed left open

    def _compile(self) -> None:
        """Loads the pump from the cache, or compiles it and says so."""
        self._state = "compiling kernels"
        started = time.monotonic()
        example = make_pump(self.engine.core, 0, 0, False, 0)
        self.compiling = True
        try:
            with slow_notice(log.info):
                run.compile((numba.typeof(example), numba.typeof(self.engine.core)))
        finally:
            self.compiling = False
        log.debug("kernels ready after %.1f s", time.monotonic() - started)

    def _run(self) -> None:
        assert self._pump is not None
        # a handler run on this thread would interrupt libzmq between the two parts of a message
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        run(self._pump, self.engine.core)
        if error := int(self._pump.control[FAILED]):
            log.error("the input socket broke: %s; ending", os.strerror(error))
            self.stop()

    def _health(self) -> tuple[bool, str]:
        """Whether the pump's heartbeat is fresh."""
        if self._pump is None or self._pump.control[HEARTBEAT] == 0:
            return self._state != "stopping", self._state
        age = time.monotonic() - self._pump.control[HEARTBEAT] / 1e9
        return bool(age < _STALE_S), f"the pump's heartbeat is {max(age, 0):.2f} s old"

    def readiness(self) -> tuple[bool, str]:
        """Whether model, kernels and sockets are all there, and what is being done otherwise."""
        return self._state == "ready", self._state

    def _description(self, receives: list[str], publishes: list[str]) -> str:
        model, web = self.model, f", http://{self._web.address}" if self._web else ""
        return (
            f"ready: {model.cell} {len(model.channels)} -> {model.hidden} x {len(model.layers)}, "
            f"{self.engine.capacity} streams; receives on {', '.join(receives)}, "
            f"publishes on {', '.join(publishes)}{web}"
        )


class _StoppedAtStart(BaseException):
    """Raised by a signal while the daemon starts: compiling is not worth waiting for."""


def serve(config: Config) -> int:
    """Runs the daemon until SIGTERM or SIGINT; a second SIGINT ends it at once. Returns the exit code."""
    set_up_log(config.log)
    service = Service(config)
    interrupts = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            os._exit(128 + signal.SIGINT)
        service.stop()
        if service.compiling:
            service.compiling = False  # a second signal must not interrupt what the first began
            raise _StoppedAtStart

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    signal.set_wakeup_fd(service.stop_fd, warn_on_full_buffer=False)
    try:
        service.start()
    except _StoppedAtStart:
        service.close()
        return 0
    except UserError:
        service.close()
        raise
    return service.wait()

"""The daemon's life: start, READY, run, reload, stop. Python around the compiled pump."""

import functools
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq

from streamrnn import stats as counted
from streamrnn.adapters.tally import IntakeTally
from streamrnn.compiling.jit import compiling
from streamrnn.daemon.backlog import Backlog
from streamrnn.daemon.control import Control
from streamrnn.daemon.describe import labels_of, ready_line
from streamrnn.daemon.driver import Driver
from streamrnn.daemon.journal import adopt_engine, open_journal
from streamrnn.daemon.log import set_up_log
from streamrnn.daemon.operator import Operator
from streamrnn.daemon.page.side_by_side import side_by_side
from streamrnn.daemon.page.views import PageViews
from streamrnn.daemon.pump import Pump, make_pump
from streamrnn.daemon.refusals import Refusals
from streamrnn.daemon.reload import refuse_what_is_fixed
from streamrnn.daemon.security import Guard
from streamrnn.daemon.sockets import Sockets
from streamrnn.daemon.state_keeper import Keeper
from streamrnn.daemon.succession import NextModels, Succession
from streamrnn.daemon.systemd import notify, watchdog_s
from streamrnn.daemon.warming import compile_kernels
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config
from streamrnn.settings.secret_file import read_token
from streamrnn.system.heap import free_messages_fast
from streamrnn.web.app import WebServer
from streamrnn.web.control import Door
from streamrnn.web.journal import JournalReader
from streamrnn.web.metrics import make_registry

log = logging.getLogger("streamrnn")

_WATCH_S = 5.0  # how often the log tells of late rows and resets, and systemd of the state
_LOOK_S = 0.25  # how often it looks whether all is well
_STALE_S = 2.0  # a heartbeat older than this is a pump that hangs


class Service:
    """One daemon. ``start`` returns when it is ready, ``wait`` when it was told to stop."""

    def __init__(self, load: Callable[[], Config], reset: bool = False):
        """Reads configuration and model, takes the state's memory and lock.

        ``load`` gives the configuration, at a reload again. ``reset`` gives up a state of another
        model. Raises ConfigError where these cannot run together, UserError where something is taken.
        """
        self.load = load
        self.config = config = load()
        set_up_log(config.log)
        self.model = model = read_model(config.model)
        free_messages_fast()
        self._context = zmq.Context()
        self.guard = Guard(self._context, config.security)
        self.keeper = Keeper(config.state, "--on-mismatch=reset" if reset else "")
        capacity = config.streams.capacity
        home = functools.partial(self.keeper.home, fingerprint=model.fingerprint, capacity=capacity)
        how = config.predict, config.adapt.rows, config.streams.workers
        with compiling(log.info):  # for how errors add up in rollouts it feeds another one
            self.engine = Engine(model, capacity, config.faults, home, *how)
            self.succession = Succession(self.engine, self.keeper, config)
        self.journal = open_journal(config, self.engine)
        # A byte in this pipe says stop, or the number of a signal. Of two signals at once the kernel may hand
        # both to a thread other than the main one, which then sleeps on in any lock; this wakes it.
        self._told, self.told_fd = os.pipe()
        os.set_blocking(self.told_fd, False)
        self._state = "starting"
        self.tally = IntakeTally(config.input.format if config.input.adapted else "")
        self._refusals = Refusals(self.engine, self.tally)
        self.compiling = False  # when nothing but time is lost by an exception
        self.driver: Driver | None = None
        self._model_info = labels_of(model)
        self._web: WebServer | None = None
        self._control: Control | None = None
        self._events = Path(config.events.path) if config.events.path else None
        self._operator = Operator(self.engine, self.succession, self._events)
        self._token = read_token(Path(config.http.token_file)) if config.http.control else ""

    def start(self) -> None:
        """Serves HTTP, compiles, finds the streams, opens the sockets, starts the pump, in this order.

        Raises UserError for an address, and ConfigError for a state, that cannot be used.
        """
        if self.config.http.address is not None:
            shown = self.engine.stats, self.engine.capacity, self._model_info, self.keeper, self.tally
            beside = functools.partial(side_by_side, self.engine, self.succession)
            registry = make_registry(*shown, self.journal, beside)
            door = Door(self._operator.act, self._token, self.readiness)
            views = PageViews(self.engine, self.tally, self.keeper, self.readiness, door.is_open, beside)
            checks = self._health, self.readiness
            reader = JournalReader(self._events) if self._events is not None else None
            self._web = WebServer(*self.config.http.address, registry, *checks, views, door, reader)
            self._web.start()
        self._compile()
        for keeper in self.succession.keepers:
            keeper.recover()
        if self.journal is not None:
            self.journal.start(self.engine.core.slots, self.engine.core.net.forecasts == 1)
        self.guard.start()
        how = self.config, self.engine, self.tally, self.stop
        self._sockets = Sockets(self._context, self.guard, *how)
        source, sink = self._sockets.source.socket.underlying, self._sockets.sink.socket.underlying
        pump = self._make_pump(source, sink)
        bare, behind = self.config.output.format == "json", self.succession.behind
        self.driver = Driver(pump, self.engine, self.stop, bare, behind)
        self.driver.start()
        for keeper in self.succession.keepers:
            keeper.start()
        folders = [Path(folder) for folder in (self.config.state.live, self.config.state.snapshots) if folder]
        self._operator.start(self.driver, self.promote)
        self._control = Control(folders, self.keeper, self.driver, self.engine, self._operator)
        self._control.start()
        # the slots where they are not on tmpfs, and the copy for snapshots: both take memory as streams come
        intake = self._sockets.intake
        rows = 0 if intake is None else intake.own_bytes
        self._backlog = Backlog(2 * self.engine.core.slots.state.nbytes + rows)
        self._state = "ready"
        page = self._web.address if self._web else None
        workers = self.engine.core.crew.workers
        log.info("%s", ready_line(self.config, self.model, workers, self._sockets, page))
        notify(READY=1, STATUS=self._status())

    def wait(self) -> int:
        """Blocks until ``stop``, then ends everything. Returns the exit code."""
        beat_s = min(_LOOK_S, (watchdog_s() or _WATCH_S) / 3)
        next_look = time.monotonic() + _WATCH_S
        while True:
            told = b""
            if select.select([self._told], [], [], beat_s)[0]:
                told = os.read(self._told, 64)
            if told.strip(bytes([signal.SIGHUP])):
                break
            if told:
                self.reload()
            self._beat()
            self._mend()
            self._bound_backlog()
            self._refusals.tell()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _WATCH_S
                self._refusals.tell_counts(_WATCH_S)
                self._refusals.tell_notes()
                self.keeper.look()
                notify(STATUS=self._status())
        failed = self._sockets.failed or (self.driver is not None and self.driver.failed)
        kept = self.close()
        return 1 if failed or not kept else 0

    def stop(self) -> None:
        """Asks the daemon to end; safe from a signal handler."""
        with suppress(BlockingIOError):
            os.write(self.told_fd, b"\0")

    def close(self) -> bool:
        """Stops the pump, lets what was published leave, keeps the streams, closes what is open.

        Returns whether the streams are kept as they should be.
        """
        kept = True
        self._state = "stopping"
        notify(STOPPING=1, STATUS="stopping")
        if self._control is not None:
            self._control.stop()
        self._operator.stop()
        if self.driver is not None:
            totals = self.engine.stats.counters
            self._sockets.leave_brokers(lambda: int(totals[counted.RECEIVED]))
            self.driver.stop()
            self._sockets.close()
            for keeper in self.succession.keepers:
                kept = keeper.stop() and kept
            log.info(
                "stopped after %d frames, %d predictions",
                totals[counted.RECEIVED],
                totals[counted.PREDICTIONS],
            )
        else:
            for keeper in self.succession.keepers:
                keeper.discard()
        if self.journal is not None:
            self.journal.stop()
        if self._web is not None:
            self._web.stop()
        self.guard.stop()
        self._context.destroy()  # closes sockets, too, that a start that failed left open
        return kept

    def reload(self) -> None:
        """Reads configuration and models anew, and goes on with them or, whatever is wrong, as before."""
        assert self._control is not None
        notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        with self._control.busy:
            try:
                config = self.load()
                refuse_what_is_fixed(self.config, config)
                model = read_model(config.model)
                models = self.succession.planned(model, config)
                if models.swaps:
                    self._swap()
                    models = self.succession.planned(model, config)
            except UserError as error:
                for line in str(error).splitlines():
                    log.error("not reloaded, all goes on as before: %s", line)
            except Exception:  # nothing was touched yet, and whatever it is, it must not end the daemon
                log.exception("not reloaded, all goes on as before")
            else:
                self._take(config, model, models)
                log.info("reloaded; the model is %s", model.fingerprint)
        notify(READY=1)

    def _take(self, config: Config, model: Model, models: NextModels) -> None:
        """Goes on with another configuration and model between two frames."""
        assert self.driver is not None
        cut, core = self.guard.removed(config.security), models.core
        self.keeper.announce(model.fingerprint)
        with self.driver.paused():
            if model.fingerprint != self.model.fingerprint:
                self.engine.unlearn()
            self.engine.replace(model, core)
            gone = self.succession.adopt(models, config)
            self._sockets.adopt(config, model)
            idle_ns = round(config.streams.idle_timeout * 1e9)
            self.driver.pump = self.driver.pump._replace(row_ns=core.rules.period_ns, idle_ns=idle_ns)
            self.config, self.model = config, model
            self.guard.update(config.security)
            self.keeper.adopt(model.fingerprint, config.state)
            if cut:
                self._reopen()
        self.keeper.save_soon()  # a power loss must find whose the streams are
        self._model_info.update(labels_of(model))
        set_up_log(config.log)
        self.succession.settle(gone, models, config, self.driver, self._beat)

    def promote(self) -> dict[str, str]:
        """Has the shadow serve, as ``Control`` was asked, which is busy. Raises UserError where it cannot."""
        if self.succession.shadow is None:
            raise UserError("no shadow runs; name one in the configuration (shadow = ...), and send SIGHUP")
        files = {"model": self.config.shadow, "shadow": str(self.config.model)}
        self._swap()
        self.config = self.config.model_copy(update=files | {"model": Path(files["model"])})
        return files | {"fingerprint": self.model.fingerprint}

    def _swap(self) -> None:
        """Has the shadow serve, and the model be its shadow, between two frames. Raises UserError."""
        assert self.driver is not None
        with self.succession.swapped(self.driver):
            self.model = self.engine.model
            pump = self.driver.pump
            stays = {name: getattr(pump, name) for name in ("control", "poll_items", "arrivals")}
            self.driver.pump = self._make_pump(pump.source, pump.sink)._replace(**stays)
            self._sockets.adopt(self.config, self.model)
            if self.journal is not None:
                adopt_engine(self.journal, self.engine)
        self._model_info.update(labels_of(self.model))
        log.info("the shadow took over; the model is %s", self.model.fingerprint)

    def _reopen(self) -> None:
        """Cuts every peer off. Ends the process where an address is gone; the streams stay where they are."""
        assert self.driver is not None
        try:
            self._sockets.reopen()
        except (UserError, zmq.ZMQError) as error:
            log.critical("%s; ending", error)
            self.keeper.save()
            os._exit(1)
        pump = self.driver.pump
        source, sink = self._sockets.source.socket.underlying, self._sockets.sink.socket.underlying
        pump.poll_items[0], pump.poll_items[2] = source, sink
        self.driver.pump = pump._replace(source=source, sink=sink)

    def _mend(self) -> None:
        """Connects anew where libzmq gave up."""
        assert self.driver is not None
        for connections, endpoints in self._sockets.given_up():
            with self.driver.paused():
                connections.renew(endpoints)

    def _bound_backlog(self) -> None:
        """Cuts every peer off where what waits to be read takes too much memory."""
        assert self.driver is not None
        if not (held := self._backlog.excess()):
            return
        log.warning(
            "what waits to be read takes %d MB: every connection is cut off and what waited is lost; "
            "send fewer or smaller frames",
            held >> 20,
        )
        with self.driver.paused():
            self._reopen()
        time.sleep(_LOOK_S)  # libzmq closes sockets in its own time
        self._backlog.give_back()

    def _make_pump(self, source: int, sink: int) -> Pump:
        how = self.config.input
        stream = "" if how.adapted else how.stream
        return make_pump(
            self.engine.core, source, sink, how.format == "raw", stream, self.config.streams.idle_timeout
        )

    def _compile(self) -> None:
        self._state = "compiling kernels"
        notify(STATUS=self._state)
        self.compiling = True
        try:
            how = self.engine, self.keeper, self.succession
            compile_kernels(self.config, self._make_pump(0, 0), *how)
        finally:
            self.compiling = False

    def _health(self) -> tuple[bool, str]:
        """Whether the pump's heartbeat is fresh."""
        age = self.driver.heartbeat_age_s() if self.driver is not None else None
        if age is None:
            return self._state != "stopping", self._state
        return age < _STALE_S, f"the pump's heartbeat is {age:.2f} s old"

    def readiness(self) -> tuple[bool, str]:
        """Whether model, kernels and sockets are all there, and what is being done otherwise."""
        return self._state == "ready", self._state

    def _beat(self) -> None:
        if self._health()[0]:
            notify(WATCHDOG=1)

    def _status(self) -> str:
        counters = self.engine.stats.counters
        return (
            f"{counters[counted.STREAMS]:,} of {self.engine.capacity:,} streams, "
            f"{counters[counted.PREDICTIONS]:,} predictions"
        )

"""Messages of other formats than frames: read on a thread of its own, handed to the pump as frames.

socket -> adapter -> (assembler) -> inproc:// -> pump
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import zmq

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.adapters.gather import GatheredRows
from streamrnn.adapters.inbox import messages_in
from streamrnn.adapters.setup import make_gatherer
from streamrnn.adapters.tally import IntakeTally
from streamrnn.daemon.connections import Connections
from streamrnn.daemon.requests import Requests
from streamrnn.model.model import Model
from streamrnn.rows.assembler import Assembler
from streamrnn.settings.config import Config
from streamrnn.streams.slots import id_words
from streamrnn.wire.frame import RESET, SEQ, TS
from streamrnn.wire.many import DRY, ERROR, LOST, frame_buffer, make_inbox, receive, send_rows

_FEED_ROWS = 10_000  # that wait for the pump, beyond which messages wait
_LOOK_S = 0.02  # how often the clock lets rows go that wait for a sensor
_MEND_S = 0.25  # how often it looks for connections that were given up
_FORGET_S = 1.0  # and for streams that were silent for too long
_STALL_NS = 200_000_000  # a turn that took so long was no turn, and so much later the clock is trusted again
_FULL_MS = 50  # how late what is asked can be while the pump takes nothing
_ALIKE = 0.01  # the share that the period of rows may be off the model's
_NAMES = 1 << 16  # ids whose words are remembered

log = logging.getLogger("streamrnn")


class Intake:
    """Reads what comes from senders whose messages are no frames.

    ``adopt`` and ``reopen`` are called while the pump is paused.
    """

    def __init__(
        self,
        context: zmq.Context,
        config: Config,
        model: Model,
        tally: IntakeTally,
        on_failure: Callable[[], object],
    ):
        """``on_failure`` is called on this thread when it breaks. Raises ConfigError."""
        self.failed = False
        self.handed_on = 0  # rows that wait for the pump, or that it has taken
        self._tally, self._on_failure = tally, on_failure
        self._idle_ns = round(config.streams.idle_timeout * 1e9)
        self._gatherer = make_gatherer(config, model, tally)
        _compare(config, model)
        self._feed, self._inbox = _Feed(context, len(model.channels)), make_inbox()
        # of gatherer, feed and tally, which the threads of other transports use, too
        self._busy = threading.Lock()
        # what had come by then, CLOCK_MONOTONIC ns, was taken; of other transports, what tells it
        self._taken_until, self.others = 0, list[Callable[[], int]]()
        self._turned = self._trusts_from = 0
        self._stopped = False
        self._next_look = self._next_mend = self._next_forget = 0.0
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._requests = Requests(self._thread)

    @property
    def own_bytes(self) -> int:
        """What it may come to need, beside messages that wait."""
        held = 0 if self._tally.assembler is None else self._tally.assembler.most_bytes
        return 2 * held + self._inbox.content.nbytes  # it grows by a copy

    def start(self, taken: Connections) -> zmq.Socket:
        """Begins to take messages from a socket, the thread's from here on. Returns the pump's source."""
        self._input = taken
        self._thread.start()
        return self._feed.end

    def adopt(self, config: Config, model: Model) -> None:
        """Goes on for another model, of the same channels."""
        self._idle_ns = round(config.streams.idle_timeout * 1e9)
        self._gatherer.adopt(model.sample_period_s)
        _compare(config, model)

    def reopen(self, open_input: Callable[[], Connections]) -> None:
        """Closes the socket, and goes on with what ``open_input`` returns. Raises what that raises."""

        def work() -> None:
            self._input.close(0)
            self._input = open_input()

        self._requests.wait_for(self._requests.ask(work))

    def enter(self, messages: Iterable[Message], refused: Iterable[Refused] = ()) -> bool:
        """Makes rows of messages and hands them on; counts what a transport turned away itself.

        For any thread, which waits where the pump is behind. Returns whether all was: not after ``close``.
        """
        with self._turn_of():
            self._tally.refuse(refused)
            self._hand_on(self._gatherer.take(messages, time.monotonic_ns()))
            return not self._stopped

    def close(self) -> None:
        """Ends the thread; the pump has ended, and what waits for it is lost."""
        self._stopped = True
        if self._thread.is_alive():
            self._thread.join()
            self._input.close(0)
        with self._busy:
            self._feed.close()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._stopped:
                self._turn()
        except Exception:
            log.critical("the input broke; ending", exc_info=True)
            self.failed = True
            self._on_failure()

    def _turn(self) -> None:
        """Takes what waits, or waits for it."""
        self._attend()
        began = time.monotonic_ns()
        count = receive(self._input.socket.underlying, self._inbox)
        if count < 0:
            raise RuntimeError(f"the input socket broke: {os.strerror(int(self._inbox.tally[ERROR]))}")
        if count:
            self.enter(messages_in(self._inbox, time.time_ns()))
        else:
            self._input.socket.poll(round(1000 * _LOOK_S))
        if began > self._turned + _STALL_NS:  # libzmq's thread must first read what has come meanwhile
            self._trusts_from = began + _STALL_NS
        self._turned = began
        if self._inbox.tally[DRY] and began >= self._trusts_from:
            self._taken_until = began
        if lost := int(self._inbox.tally[LOST]):
            self._inbox.tally[LOST] = 0
            with self._turn_of():
                self._tally.lose(lost)
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK_S
            self._look(now)

    def _look(self, now: float) -> None:
        """Lets rows go by the clock, forgets streams, connects anew where libzmq gave up.

        The clock stands where all that had come by then was taken: what waits in a socket, as after a stall,
        may be what a row waits for.
        """
        until = min([self._taken_until, *(taken_until() for taken_until in self.others)])
        with self._turn_of():
            self._hand_on(self._gatherer.release(until))
            if now >= self._next_forget and self._idle_ns:
                self._next_forget = now + _FORGET_S
                self._gatherer.forget(until, self._idle_ns)
        if now >= self._next_mend:
            self._next_mend = now + _MEND_S
            if endpoints := self._input.given_up():
                self._input.renew(endpoints)

    @contextmanager
    def _turn_of(self) -> Iterator[None]:
        """For one thread at a time; this one goes on to do what is asked while it waits."""
        while not self._busy.acquire(timeout=_FULL_MS / 1000):
            self._attend()
        try:
            yield
        finally:
            self._busy.release()

    def _hand_on(self, gathered: Iterable[GatheredRows]) -> None:
        """Hands rows to the pump, and waits for it where it is behind, so that messages wait, too."""
        for rows in gathered:
            sent = 0
            while sent < len(rows.stream) and not self._stopped:
                before, sent = sent, self._feed.send(rows, sent)
                self.handed_on += sent - before
                self._attend()

    def _attend(self) -> None:
        """Does what was asked, on its own thread."""
        while threading.current_thread() is self._thread and self._requests.do_next():
            pass


def _compare(config: Config, model: Model) -> None:
    """Warns of a pace that is not the model's, or too slow for streams to stay."""
    apart, learned, idle = config.assemble.period_ns / 1e9, model.sample_period_s, config.streams.idle_timeout
    if apart and learned and abs(apart / learned - 1) > _ALIKE:
        log.warning("assemble.period is %g s, but the model's rows are %g s apart", apart, learned)
    if 0 < idle <= 2 * apart:
        log.warning(
            "streams.idle_timeout of %g s lets streams go that have a row every %g s; raise it", idle, apart
        )


class _Feed:
    """The way of rows to the pump: two sockets within this process."""

    def __init__(self, context: zmq.Context, channels: int):
        self.end, self._socket = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        self._socket.linger, self._socket.sndhwm, self.end.rcvhwm = 0, _FEED_ROWS, 1  # they add up
        address = f"inproc://rows-{id(self)}"
        self.end.bind(address)
        self._socket.connect(address)
        self._buffer = frame_buffer(channels)
        self._words: dict[str, np.ndarray] = {}

    def send(self, rows: GatheredRows, first: int) -> int:
        """Hands on rows from ``first`` on. Returns how far it came within a moment."""
        names = np.concatenate([self._words_of(name) for name in rows.names])
        flags = np.where(rows.seq >= 0, SEQ | TS, TS) | np.where(rows.begins, RESET, 0)
        columns = rows.stream, flags, np.maximum(rows.seq, 0), rows.ts_ns, rows.values
        sent: int = send_rows(
            self._socket.underlying, self._buffer, names, *map(np.ascontiguousarray, columns), first
        )
        if sent < len(rows.stream):
            self._socket.poll(_FULL_MS, zmq.POLLOUT)
        return sent

    def _words_of(self, name: str) -> np.ndarray:
        if (words := self._words.get(name)) is None:
            if len(self._words) >= _NAMES:
                self._words.clear()
            words = self._words.setdefault(name, id_words(name))
        return words

    def close(self) -> None:
        self._socket.close(0)
        self.end.close(0)


def compile_intake() -> None:
    """Compiles, or loads from the cache, what ``Intake`` needs."""
    inbox, buffer = make_inbox(1, 1), frame_buffer(1)
    receive.prepare(0, inbox)
    counts, names, values = np.zeros(1, np.int64), np.zeros(1, np.uint64), np.zeros((1, 1))
    send_rows.prepare(0, buffer, names, counts, counts, counts, counts, values, 0)
    assembler = Assembler(channels=1, period_ns=1, hold_ns=1, lateness_ns=1, capacity=1)
    assembler.stream("")
    for _ in (*assembler.take(counts, counts, counts, values[0]), *assembler.release(1)):
        pass

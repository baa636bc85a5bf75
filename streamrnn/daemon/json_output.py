"""Output format "json": a thread between the pump, which speaks one format, and those who subscribe."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import zmq

from streamrnn import stats as counted
from streamrnn.daemon.connections import Connections
from streamrnn.daemon.requests import Requests
from streamrnn.model.model import Model
from streamrnn.wire.frame import EVICTED, PREDICTION
from streamrnn.wire.objects import Objects

_FLAGS_AT = 4  # the low byte of a prediction's flags
_HEADER_BYTES = PREDICTION.itemsize
# what may wait for this thread: the predictions of the largest block; of rollouts what it makes in a second
_WAITING, _WAITING_VALUES = 1 << 16, 1 << 21
_TURN, _TURN_BYTES = 256, 1 << 16  # most that is converted at once: a few ms
_LOOK_S = 0.25  # how often it looks for connections that were given up
_AGAIN_S = 60.0  # how often the log tells that it is too slow, while it is
_ALIVE_MS = 100  # how often it is looked, while waiting for the thread, whether it is there

log = logging.getLogger("streamrnn")


class JsonOutput:
    """Publishes as JSON what the pump sends to ``sink``, and has the socket that it leaves by.

    The sink is a socket within this process, which never makes the pump wait: what does not fit into its
    queue is lost, and said in the log. Methods but ``close`` are called while the pump is paused, and have
    their effect behind all that it has sent.
    """

    def __init__(
        self,
        context: zmq.Context,
        model: Model,
        levels: Sequence[float],
        message_bytes: int,
        counters: np.ndarray,
        on_failure: Callable[[], object],
        bare: bool = True,
    ):
        """``levels``: of bands; ``message_bytes``: of the largest prediction; ``counters``: of ``Stats``.

        ``bare``: what is sent here is without the outputs' offsets.
        ``on_failure`` is called on this thread when it breaks.
        """
        self._levels, self._bare = levels, bare
        self._objects = self._objects_of(model)
        values = (message_bytes - _HEADER_BYTES) // 4
        self.message_bytes = self._objects.largest(values)  # of the longest JSON
        self._waiting = max(min(_WAITING, _WAITING_VALUES // values), 1)
        self.failed = False
        self._counters, self._on_failure = counters, on_failure
        self._context = context
        self._closed = False
        self._taken = self._lost = self._told = 0
        self._next_look = self._next_word = 0.0
        self._thread = threading.Thread(target=self._run, name="json", daemon=True)
        self._requests = Requests(self._thread)

    def start(self, output: Connections) -> zmq.Socket:
        """Begins to publish by ``output``, which is the thread's from here on. Returns the sink."""
        self._output = output
        self._source, sink = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        sink.sndhwm, self._source.rcvhwm = self._waiting, 1  # they add up
        address = f"inproc://json-{id(self)}"
        self._source.bind(address)
        sink.connect(address)
        self.sink = sink
        self._thread.start()
        return sink

    def adopt(self, model: Model) -> None:
        """What comes from here on is another model's."""
        objects = self._objects_of(model)
        self._ask(lambda: setattr(self, "_objects", objects))

    def _objects_of(self, model: Model) -> Objects:
        offsets = model.output_offsets if self._bare else np.zeros(len(model.outputs))
        return Objects([output.name for output in model.outputs], offsets, self._levels)

    def reopen(self, open_output: Callable[[], Connections]) -> None:
        """Closes the output, and goes on with what ``open_output`` returns. Raises what that raises."""

        def work() -> None:
            self._output.close(0)
            self._output = open_output()

        self._requests.wait_for(self._ask(work))

    def close(self, linger: int) -> None:
        """Ends the thread once all that was sent has left, for ``linger`` ms at most; the pump has ended."""

        def work() -> None:
            self._output.close(linger)
            self._closed = True

        self._requests.wait_for(self._ask(work))
        self._thread.join()
        self.sink.close(0)
        self._source.close(0)

    def _ask(self, work: Callable[[], Any]) -> Future[Any]:
        """Has the thread do ``work`` behind all that was sent; waits only while its queue is full."""
        done = self._requests.ask(work)
        while self._thread.is_alive():
            if self.sink.poll(_ALIVE_MS, zmq.POLLOUT):
                self.sink.send(b"", zmq.NOBLOCK)  # no stream has this id
                break
        return done

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._closed:
                self._turn()
        except Exception:
            log.critical("JSON output broke; ending", exc_info=True)
            self.failed = True
            self._on_failure()

    def _turn(self) -> None:
        """Publishes some of what waits, or waits for it, and does what is asked behind that."""
        # nothing is waited for at the output, but polling lets it hear of subscribers that come and leave
        zmq.zmq_poll([(self._source, zmq.POLLIN), (self._output.socket, 0)], round(1000 * _LOOK_S))
        sent = int(self._counters[counted.PREDICTIONS] + self._counters[counted.ANOMALIES])
        topics, payloads, asked, dry = self._receive()
        if topics:
            send = self._output.socket.send
            for topic, text in zip(topics, self._objects.texts(topics, payloads), strict=True):
                send(topic, zmq.SNDMORE)
                send(text)
        self._taken += sum(not _is_farewell(payload) for payload in payloads)
        if dry:  # so what had been sent by then, and was not taken, is lost
            self._lost = max(self._lost, sent - self._taken)
        if asked:
            self._requests.do_next()
        elif (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK_S
            self._look(now)

    def _receive(self) -> tuple[list[bytes], list[bytes], bool, bool]:
        """Topics and payloads that wait, up to what was asked; whether it was; whether that is all."""
        topics, payloads = list[bytes](), list[bytes]()
        receive, size = self._source.recv, 0
        while len(topics) < _TURN and size < _TURN_BYTES:
            try:
                topic = receive(zmq.NOBLOCK)
            except zmq.Again:
                return topics, payloads, False, True
            if not topic:
                return topics, payloads, True, False
            payload = receive()
            topics.append(topic)
            payloads.append(payload)
            size += len(payload)
        return topics, payloads, False, False

    def _look(self, now: float) -> None:
        """Connects anew where libzmq gave up, and tells of what was lost."""
        if endpoints := self._output.given_up():
            self._output.renew(endpoints)
        if self._lost > self._told and now >= self._next_word:
            self._next_word = now + _AGAIN_S
            log.warning(
                "output: %s predictions came faster than they could be made JSON, and were not published. "
                'Leave output.format at "prediction" for so many',
                f"{self._lost - self._told:,}",
            )
            self._told = self._lost


def _is_farewell(payload: bytes) -> bool:
    """Whether it says that a stream was let go, which is not counted."""
    return len(payload) == _HEADER_BYTES and payload[_FLAGS_AT] & EVICTED != 0

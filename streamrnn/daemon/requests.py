"""What other threads ask of one that alone may do it: a socket is one thread's."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any

_LOOK_S = 0.1  # how often it is looked, while waiting for the thread, whether it is there


class Requests:
    """Work for ``thread``, in the order in which it was asked for."""

    def __init__(self, thread: threading.Thread):
        self._thread = thread
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def ask(self, work: Callable[[], Any]) -> Future[Any]:
        """Has the thread do ``work`` when it next looks."""
        done: Future[Any] = Future()
        self._asked.put((work, done))
        return done

    def wait_for(self, done: Future[Any]) -> None:
        """Raises what the work raised; returns at once where the thread has ended."""
        while self._thread.is_alive() and not done.done():
            wait([done], _LOOK_S)
        if done.done():
            done.result()

    def do_next(self) -> bool:
        """Does what was asked first, on the thread itself; whether anything was."""
        if self._asked.empty():
            return False
        work, done = self._asked.get()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return True

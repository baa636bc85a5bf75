"""What stands at the other end of a socket, or runs beside a test."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from daemons import DEADLINE_S

ANY_PORT = "tcp://127.0.0.1:*"


def bound(context: zmq.Context, kind: int, **settings: int) -> tuple[zmq.Socket, str]:
    """A socket on a free port, which gives up waiting in the end."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.sndtimeo = socket.rcvtimeo = round(1000 * DEADLINE_S)
    for name, value in settings.items():
        setattr(socket, name, value)
    if kind == zmq.SUB:
        socket.subscribe(b"")
    socket.bind(ANY_PORT)
    return socket, socket.last_endpoint.decode()


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[None]:
    """Runs ``work`` in another thread while the body runs, and raises what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def command(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-m", "streamrnn", *map(str, words)], text=True, **(pipes | options)
    )

"""The daemon as a process: what its signals do."""

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType

from streamrnn.daemon.service import Service
from streamrnn.errors import UserError
from streamrnn.settings.config import Config


class _StoppedAtStart(BaseException):
    """Raised by a signal while the daemon starts: compiling is not worth waiting for."""


def serve(load: Callable[[], Config], reset: bool = False, reloads: bool = False) -> int:
    """Runs the daemon until SIGTERM or SIGINT; a second SIGINT ends it at once. Returns the exit code.

    With ``reloads`` SIGHUP reads the configuration anew, else it ends the daemon as the others do.
    """
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the journal
    service = Service(load, reset)
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

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    if reloads:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # the wakeup descriptor tells of it
    signal.set_wakeup_fd(service.told_fd, warn_on_full_buffer=False)
    try:
        service.start()
    except _StoppedAtStart:
        service.close()
        return 0
    except UserError:
        service.close()
        raise
    return service.wait()

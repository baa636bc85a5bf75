"""Threads that must not delay a frame."""

import os
import threading
from contextlib import suppress


def give_way() -> None:
    """Has this thread run only where nothing else would: on a shared core, a frame interrupts it at once.

    Linux schedules threads one by one. Where a sandbox forbids it, the thread only costs more.
    """
    with suppress(OSError):
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))

"""How much memory the messages take that wait to be read.

libzmq bounds how many messages wait, peer by peer; not their bytes, nor the parts of one that has no end, nor
what peers have left behind that are gone. (A lower mark, set while connections are open, makes some of them
stand still for ever in libzmq 4.3.5.) So what is watched is this process's memory, and all are cut off.
"""

import ctypes
from pathlib import Path

HELD_BYTES = 1 << 30


def anonymous_bytes() -> int:
    """Memory of this process that neither a file nor shared memory backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


class Backlog:
    """What this process's memory has grown by since it was least."""

    def __init__(self, own_bytes: int):
        """``own_bytes``: what the process itself may come to need, beside the messages."""
        self._limit = HELD_BYTES + own_bytes
        self._least = anonymous_bytes()

    def excess(self) -> int:
        """The bytes that it has grown by when they are too many, else 0."""
        now = anonymous_bytes()
        self._least = min(self._least, now)
        return now - self._least if now - self._least > self._limit else 0

    def give_back(self) -> None:
        """Returns freed memory to the system, and counts from here."""
        ctypes.CDLL(None).malloc_trim(0)
        self._least = anonymous_bytes()

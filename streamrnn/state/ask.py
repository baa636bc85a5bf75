"""How a running daemon is asked, over a socket in each folder that it keeps its state in.

A connection is one request: a line of JSON and, for an export or an import, the descriptor of a memory
file (memfd) for the snapshot; a line of JSON comes back, after empty ones for as long as it takes. So the
daemon opens nobody's files, and nothing that it is handed can make it wait.

    {"do": "export"}                            {"streams": 3, "held": 3}
    {"do": "export", "streams": ["pump-1"]}     {"streams": 1, "held": 3}
    {"do": "export", "sort": "age", "prefix": "pump-", "limit": 1}  likewise; a limit of null is none
    {"do": "import", "replace": false}          {"streams": 3, "replaced": 0}
    {"do": "reset", "streams": ["pump-1"]}      {"streams": 1}; null for all of them
    {"do": "hold", "streams": ["pump-1"]}       {"streams": 1, "changed": 1}
    {"do": "release", "prefix": "pump-"}        likewise
    {"do": "promote"}                           {"model": "new.safetensors", "shadow": ...}
                                                {"error": "no such stream: ..."}
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from streamrnn.errors import UserError

SOCKET = "control"
AT_WORK = b"\n"  # what a daemon says that takes its time
LINE_BYTES = 1 << 16  # of a request
_ANSWER_S = 60  # of silence, after which nobody waits for the daemon any more


def ask(folder: Path, subject: object, request: dict[str, Any], file: int | None = None) -> dict | None:
    """What the daemon that keeps its state in ``folder`` answers; None where none listens.

    ``file`` is the descriptor of a memory file that goes with the request. Raises UserError for what the
    daemon refuses, which begins with ``subject``, and where it may not or cannot be asked.
    """
    line = json.dumps(request).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise UserError(f"{subject}: too many streams for one request; name fewer, or all")
    with socket.socket(socket.AF_UNIX) as connection:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _ANSWER_S, 0))
        try:
            with address_in(folder) as address:
                connection.connect(address)
            with suppress(BrokenPipeError):  # who may not ask is told so before the request is read
                socket.send_fds(connection, [line], [] if file is None else [file])
            with connection.makefile("rb") as answer:
                while (line := answer.readline()) == AT_WORK:
                    pass
                said = json.loads(line)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise UserError(
                f"{folder}: the daemon there cannot be asked ({error.strerror}); be its user, or root"
            ) from error
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: the daemon there gave no answer; try again") from error
    if "error" in said:
        raise UserError(f"{subject}: {said['error']}")
    return said


@contextmanager
def address_in(folder: Path) -> Iterator[str]:
    """The address of the socket in ``folder``, however long its path is: unix(7) allows 107 bytes."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)

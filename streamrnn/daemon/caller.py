"""One who asks over a control socket: what was sent so far, and what is said back."""

import fcntl
import json
import os
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from streamrnn.errors import UserError
from streamrnn.state.ask import AT_WORK, LINE_BYTES

REQUEST_S = 2.0  # a caller may take this long to make its request
_TELL_S = 1.0
_PEER = struct.Struct("iII")  # pid, uid, gid (unix(7), SO_PEERCRED)


class Caller:
    """One connection, and what it has sent so far."""

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self._connection, self.fileno = connection, connection.fileno
        self.pid, self.uid, _ = _PEER.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        )
        self.deadline = time.monotonic() + REQUEST_S
        self._told = time.monotonic()
        self._line = bytearray()
        self._files: list[int] = []

    def has_asked(self) -> bool:
        """Takes what has arrived; whether it is a whole line. Raises OSError for who has left."""
        try:
            data, files, _, _ = socket.recv_fds(self._connection, LINE_BYTES, 1)
        except BlockingIOError:
            return False
        self._files += files
        self._line += data
        if not data:
            raise ConnectionResetError("left without a request")
        if len(self._line) > LINE_BYTES or len(self._files) > 1:
            raise UserError(f"a request is one line of at most {LINE_BYTES:,} bytes, with one file at most")
        return data.endswith(b"\n")

    def request(self) -> Any:
        """The request. Raises UserError for what is none."""
        try:
            return json.loads(self._line)
        except (ValueError, RecursionError):
            raise UserError("a request is one line of JSON") from None

    def memory(self) -> int:
        """The memory file that came with the request; no other kind is sure never to block.

        Raises UserError where there is none.
        """
        try:
            fcntl.fcntl(self._files[0], fcntl.F_GET_SEALS)
        except (IndexError, OSError):
            raise UserError("a memory file (memfd) must come with this request") from None
        return self._files[0]

    def at_work(self) -> None:
        """Tells the caller, at most once a second, that its request is being done."""
        if (now := time.monotonic()) >= self._told + _TELL_S:
            self._told = now
            with suppress(OSError):  # nobody listens any more
                self._connection.send(AT_WORK)

    def tell(self, said: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody listens any more
            self._connection.send(json.dumps(said).encode() + b"\n")

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._connection.close()

"""What is too large for a message, in several of one subject: checkpoints and models."""

import secrets
import zlib
from typing import Any, NamedTuple

from streamrnn.cluster.jetstream import JetStream, Logged, insist
from streamrnn.errors import UserError

_ID, _INDEX = "Streamrnn-Id", "Streamrnn-Piece"
_PATIENCE_S = 60.0
LARGEST = 1 << 32  # bytes


class Pieces(NamedTuple):
    """Where something stands in the log."""

    subject: str
    id: str
    first: int  # number of its first message
    number: int
    size: int
    check: int  # CRC-32

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "subject"}


class DamagedPieces(UserError):
    """Not what was written."""


async def write_pieces(jetstream: JetStream, subject: str, data: bytes) -> Pieces:
    """Appends ``data``. Raises Unavailable where that takes too long."""
    name, room = secrets.token_hex(12), jetstream.most_bytes
    pieces = [data[at : at + room] for at in range(0, len(data), room)] or [b""]
    first = 0
    for index, piece in enumerate(pieces):
        headers = {_ID: name, _INDEX: str(index)}

        async def append(piece: bytes = piece, headers: dict[str, str] = headers) -> int:
            return await jetstream.append(subject, piece, f"{name}-{headers[_INDEX]}", headers)

        seq = await insist(append, _PATIENCE_S)
        first = first or seq
    return Pieces(subject, name, first, len(pieces), len(data), zlib.crc32(data))


async def read_pieces(jetstream: JetStream, stream: str, where: Pieces) -> bytes:
    """What was written. Raises DamagedPieces, and Unavailable."""
    if not 0 <= where.size <= LARGEST or not 0 < where.number <= where.size + 1:
        raise DamagedPieces(f"{where.subject}: {where.size} bytes in {where.number} pieces cannot be")
    found, size, at = dict[int, bytes](), 0, where.first
    while len(found) < where.number:

        async def read(at: int = at) -> list[Logged]:
            return await jetstream.read(stream, where.subject, at, 16, 1 << 24)

        messages = await insist(read, _PATIENCE_S)
        for message in messages:
            if message.headers.get(_ID) == where.id:
                found[int(message.headers.get(_INDEX, -1))] = message.data
                size += len(message.data)
        if not messages or size > where.size:
            raise DamagedPieces(f"{where.subject}: {len(found)} of {where.number} pieces are there")
        at = messages[-1].seq + 1
    data = b"".join(found.get(index, b"") for index in range(where.number))
    if (len(data), zlib.crc32(data)) != (where.size, where.check):
        raise DamagedPieces(f"{where.subject}: damaged: its bytes do not have their check")
    return data

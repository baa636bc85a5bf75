"""The bytes of a file or of standard input, unpacked if they are gzip's, as they come."""

import itertools
import os
import select
import zlib
from collections.abc import Iterator

from streamrnn.errors import UserError

PIECE = 1 << 16  # bytes asked for at once; gzip unfolds one to 64 MB at most
PATIENCE_MS = 50  # a pipe silent for this long has no more to give for now
GZIP, GZIP_WINDOW = b"\x1f\x8b", 31  # the magic bytes; zlib's code for "gzip, the largest window"


class ByteSource:
    """A file by its name, or standard input as ``-``.

    ``pieces`` may run in another thread; then ``stop`` it and wait for that thread before ``close``.
    """

    def __init__(self, source: str) -> None:
        self.name = "standard input" if source == "-" else source
        self._stopping = False
        try:
            self._fd = os.dup(0) if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror}") from error

    def pieces(self) -> Iterator[bytes]:
        """The content, piece by piece; an empty piece when nothing came for a moment. Ends after ``stop``."""
        raw = self._raw_pieces()
        start = b""
        while len(start) < len(GZIP) and (piece := next(raw, None)) is not None:
            start += piece
        whole = itertools.chain([start], raw)
        return self._unpacked(whole) if start.startswith(GZIP) else whole

    def _raw_pieces(self) -> Iterator[bytes]:
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        while not self._stopping:
            if not ready.poll(PATIENCE_MS):
                yield b""
                continue
            try:
                piece = os.read(self._fd, PIECE)
            except OSError as error:
                raise UserError(f"{self.name}: cannot be read: {error.strerror}") from error
            if not piece:
                return
            yield piece

    def _unpacked(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        member = None  # gzip files may be joined
        try:
            for packed in raw:
                if not packed:
                    yield b""
                while packed:
                    member = member or zlib.decompressobj(GZIP_WINDOW)
                    yield member.decompress(packed)
                    packed = member.unused_data
                    if member.eof:
                        member = None
        except zlib.error as error:
            raise UserError(
                f"{self.name}: its gzip data is damaged ({error}); copy the file again"
            ) from error
        if member and not self._stopping:
            raise UserError(f"{self.name}: its gzip data ends early; copy the file again")

    def stop(self) -> None:
        """Lets ``pieces`` end within a moment; for any thread."""
        self._stopping = True

    def close(self) -> None:
        """Gives the file back."""
        self.stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

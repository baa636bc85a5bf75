"""The bytes of a file, read where they are asked for, and never more than a piece at once."""

import os
import struct
from pathlib import Path

from streamrnn.errors import UserError

PIECE = 4 << 20  # bytes that are read at once, about
LONGEST = 64 << 20  # of what has to be taken whole: metadata, a block that is packed


class Damaged(UserError):
    """A file is not as its format says; ``what`` is."""

    def __init__(self, what: str) -> None:
        super().__init__(f"is damaged, or is not what it looks like: {what}")
        self.what = what


class Short(Damaged):
    """A file ends before what was to be read of it."""


class FileBytes:
    """A regular file; ``size`` is what it had when it was opened, so that one that still grows has an end."""

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that cannot be opened."""
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, at: int, size: int) -> bytes:
        """``size`` bytes from ``at`` on. Raises Short, before it takes any, where there are less."""
        if at < 0 or size < 0 or at + size > self.size:
            raise Short(f"it ends within {size:,} bytes at byte {at:,}")
        parts = []
        while size:
            try:
                part = os.pread(self._file.fileno(), size, at)
            except OSError as error:
                raise UserError(f"cannot be read: {error.strerror}") from error
            if not part:
                raise Short("it has become shorter while it was read")
            parts.append(part)
            at, size = at + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def unpack(self, form: struct.Struct, at: int) -> tuple:
        """The fields of a structure at ``at``. Raises Short."""
        return form.unpack(self.read(at, form.size))

    def close(self) -> None:
        self._file.close()


class Window:
    """Small reads of a file that lie side by side, from one large one."""

    def __init__(self, file: FileBytes) -> None:
        self._file, self._begin, self._bytes = file, 0, b""

    def read(self, at: int, size: int) -> memoryview:
        """As ``FileBytes.read``, of which it holds a piece, or ``size`` if that is more."""
        begin = at - self._begin
        if begin < 0 or begin + size > len(self._bytes):
            self._bytes = self._file.read(at, max(size, min(PIECE, self._file.size - at)))
            self._begin, begin = at, 0
        return memoryview(self._bytes)[begin : begin + size]

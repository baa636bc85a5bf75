"""Files that are whole under their name, or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def name_beside(path: Path) -> Path:
    """A hidden name in the same folder, that nobody has, for what will be renamed to ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A new file of these permissions that takes the place of ``path`` once the block has ended and all is on
    the disk; else nothing is left of it. Raises OSError.
    """
    temporary = name_beside(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

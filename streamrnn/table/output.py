"""The file that results go to: whole under its name, or not there at all."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.system.whole_file import name_beside
from streamrnn.table.result_formats import FORMATS
from streamrnn.table.results import PLAIN, ResultKind, result_batch, result_schema
from streamrnn.table.rows import Rows

if TYPE_CHECKING:
    from streamrnn.engine.engine import Answers

SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")


class WholeFile:
    """A file to be written: whole under its name, or not there at all. ``finish`` it or ``discard`` it.

    It is written under a temporary name beside its own and renamed by ``finish``; standard output (``-``),
    a pipe or a device gets what is written as it comes. Raises UserError where it cannot be written, as its
    user should within ``told``.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard output" if path == "-" else path
        self._target = Path(path)
        self._temporary: Path | None = None
        with self.told():
            self.stream = self._open(path)

    @property
    def at_once(self) -> bool:
        """Whether what is written is seen before ``finish``."""
        return self._temporary is None

    def finish(self) -> None:
        """Gives the file its name, or leaves nothing of it."""
        try:
            with self.told():
                self._close()
                if self._temporary is not None:
                    self._temporary.replace(self._target)
                    self._temporary = None
        except BaseException:
            self.discard()
            raise

    def finish_as(self, names: Sequence[str]) -> str:
        """Gives the file the first of ``names`` that nobody has, and returns that; never another's."""
        try:
            with self.told():
                self._close()
                temporary = self._temporary
                assert temporary is not None
                for name in names:
                    with contextlib.suppress(FileExistsError):
                        os.link(temporary, name)
                        temporary.unlink()
                        self._temporary = None
                        return name
                raise FileExistsError(errno.EEXIST, "is there already")
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leaves nothing of a file that was not finished."""
        with contextlib.suppress(OSError):
            self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close(self) -> None:
        if self.stream is sys.stdout.buffer:
            self.stream.flush()
        else:
            self.stream.close()

    def _open(self, path: str) -> BinaryIO:
        if path == "-":
            return sys.stdout.buffer
        if self._target.exists() and not self._target.is_file():
            return self._target.open("wb")  # a pipe or a device is never replaced
        self._target = self._target.resolve()  # a link goes on pointing at the file
        self._temporary = name_beside(self._target)
        return self._temporary.open("xb")

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """A file that cannot be written is the user's to mend; a reader that has left, the caller's."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"{self.name}: cannot be written: {error.strerror or error}") from error


class ResultWriter:
    """Writes results; made by ``open_writer``. ``finish`` it or ``discard`` it, as a ``WholeFile``."""

    def __init__(self, path: str, kind: str, schema: pa.Schema, offsets: Sequence[float] = ()) -> None:
        self.rows = 0  # written so far
        self._schema, self._offsets = schema, offsets
        self._file = WholeFile(path)
        self.name = self._file.name
        with self._file.told():
            self._format = FORMATS[kind](self._file.stream, schema)

    def write(self, rows: Rows, streams: Sequence[str], answers: "Answers", learned: np.ndarray) -> None:
        """One row of results for each of the n rows; ``learned`` as of ``result_batch``."""
        with self._file.told():
            self._format.write(result_batch(rows, streams, answers, learned, self._schema, self._offsets))
            if self._file.at_once:
                self._file.stream.flush()
        self.rows += len(rows.seq)

    def finish(self) -> None:
        """Completes the file and gives it its name, or leaves nothing of it."""
        try:
            with self._file.told():
                self._format.close()
        except BaseException:
            self.discard()
            raise
        self._file.finish()

    def discard(self) -> None:
        """Leaves nothing of a file that was not finished."""
        with contextlib.suppress(OSError):
            self._format.close()
        self._file.discard()


class Nowhere:
    """In place of a ``ResultWriter``, where nobody wants the rows."""

    name = "no file"

    def __init__(self) -> None:
        self.rows = 0

    def write(self, rows: Rows, streams: Sequence[str], answers: "Answers", learned: np.ndarray) -> None:
        self.rows += len(rows.seq)

    def finish(self) -> None:
        pass

    def discard(self) -> None:
        pass


def open_writer(
    path: str,
    kind: str | None,
    outputs: Sequence[str],
    time_type: pa.DataType | None = None,
    result: ResultKind = PLAIN,
) -> ResultWriter:
    """A ResultWriter to ``path``, or to standard output for ``-``.

    ``kind`` is "csv", "ndjson" or "parquet"; None takes it from the end of the path, or else is "csv".
    ``outputs`` names the predictions' columns, ``time_type`` is that of ``Rows.time``.
    Raises UserError for a file that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in PACKED:
        raise UserError(
            f"{path}: packed output is not written; leave {suffix} out, or pipe - through a packer"
        )
    kind = kind or SUFFIXES.get(suffix, "csv")
    if kind == "parquet" and path == "-" and os.isatty(1):
        raise UserError("parquet is not for a terminal; name a file with -o, or write csv or ndjson")
    schema = result_schema(outputs, time_type or pa.string(), result)
    return ResultWriter(path, kind, schema, result.offsets)

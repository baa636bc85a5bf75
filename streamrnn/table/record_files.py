"""Files of what comes in for as long as it comes: whole after a kill up to the last flush, as far as can be.

CSV is written in place: every flush adds whole lines, so what is there can be read at any time, and after any
end but a kill within a write, which may cut the last line. A parquet file cannot be read before its last
bytes, so it is written under a temporary name and gets its own once it is whole: a kill loses the one that
was under way.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.output import PACKED, SUFFIXES, WholeFile
from streamrnn.table.result_formats import CsvFormat, ParquetFormat

FLUSH_S = 1.0
_FLUSH_BYTES = 1 << 20
KINDS = ("csv", "parquet")
_SAME_SECOND = 1000  # files that may begin in one
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class Rotation(NamedTuple):
    """When one file is ended and the next one begun; 0 = not by that."""

    seconds: float = 0.0
    size: int = 0  # bytes


PARQUET_ROTATION = Rotation(600.0)  # in a folder, where nothing else is said: what a kill costs at most


class RecordFiles:
    """Writes batches of one schema, into one file or a folder of them; ``finish`` it."""

    def __init__(self, output: str, kind: str | None, rotation: Rotation | None, force: bool = False) -> None:
        """``output`` is a folder where it ends with a slash, is one, or is to rotate; - is standard output.

        ``kind`` is of ``KINDS``; None takes it from the output's name, or else is "csv". A file that is there
        is not written over without ``force``. Raises UserError for what cannot be written, at once.
        """
        path = Path(output)
        self._folder = path if output.endswith("/") or path.is_dir() or (rotation and output != "-") else None
        if rotation and output == "-":
            raise UserError("standard output does not rotate; name a folder with -o")
        if rotation and path.exists() and not path.is_dir():
            raise UserError(f"{output}: is a file; files that rotate need a folder: name one with -o")
        self._kind = kind or SUFFIXES.get("" if self._folder else path.suffix.lower(), "csv")
        if self._kind not in KINDS:
            raise UserError(
                f"{output}: recordings are csv or parquet; name the file accordingly, or see --as"
            )
        if self._kind == "parquet" and output == "-":
            raise UserError("parquet cannot be piped as it comes; name a file with -o, or write csv")
        self._rotation = rotation or (PARQUET_ROTATION if self._kind == "parquet" else Rotation())
        self._force, self.rows, self.files = force, 0, list[str]()
        self._file: _RecordFile | None = None
        if self._folder is None:
            self._rotation = Rotation()
            self._file = self._open(output)
        else:
            _make_folder(self._folder)

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes some rows; they are in the file after a second or so. Raises UserError."""
        if self._file is None:
            self._file = self._open_next()
        self.rows += len(batch)
        self._file.waiting += len(batch)
        with self._lost_told():
            self._file.write(batch)
        self.keep_up()

    def keep_up(self) -> None:
        """Flushes and rotates, where it is time to; called several times a second. Raises UserError."""
        if self._file is None:
            return
        with self._lost_told():
            self._file.keep_up()
        old = self._rotation.seconds and time.monotonic() - self._file.since >= self._rotation.seconds
        if old or (self._rotation.size and self._file.size >= self._rotation.size):
            self.finish()

    def finish(self) -> None:
        """Ends the file under way; one without rows is none. Raises UserError."""
        if self._file is not None:
            with self._lost_told():
                self._file.close()
            if self._file.name:
                self.files.append(self._file.name)
            self._file = None

    @contextlib.contextmanager
    def _lost_told(self) -> Iterator[None]:
        """Has ``rows`` leave out, behind an error, those that are in no file."""
        try:
            yield
        except BaseException:
            if self._file is not None:
                self.rows -= self._file.waiting
                self._file.waiting = 0
            raise

    def _open(self, name: str) -> "_RecordFile":
        there = name != "-" and Path(name).exists()
        if there and Path(name).is_file() and not self._force:
            raise UserError(f"{name}: is there already; name another, or replace it with --force")
        if (suffix := Path(name).suffix.lower()) in PACKED:
            raise UserError(f"{name}: packed files are not written; leave {suffix} out")
        return (_ParquetUnderWay if self._kind == "parquet" else _CsvInPlace)([name], self._force)

    def _open_next(self) -> "_RecordFile":
        """The next file of the folder, by the time at which it begins, UTC, and the first free number."""
        assert self._folder is not None
        stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = [str(self._folder / f"{stem}-{number:02d}.{self._kind}") for number in range(1, _SAME_SECOND)]
        return (_ParquetUnderWay if self._kind == "parquet" else _CsvInPlace)(names, False)


class _RecordFile(Protocol):
    """One file, made where it is to be."""

    name: str  # "" = nothing is there
    since: float  # CLOCK_MONOTONIC: when it was begun
    size: int  # bytes so far, about
    waiting: int  # rows that were taken, and that nobody could read yet

    def __init__(self, names: Sequence[str], force: bool) -> None:
        """It has the first of ``names`` that nobody else has, or with ``force`` the first."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def keep_up(self) -> None: ...
    def close(self) -> None: ...


class _CsvInPlace:
    """Lines, added where the file is to be; one that it replaces stays until there are some."""

    def __init__(self, names: Sequence[str], force: bool) -> None:
        self.since, self.size, self.waiting = time.monotonic(), 0, 0
        self._lines, self._whole = io.BytesIO(), 0  # what waits, and the bytes that are in the file
        self._format: CsvFormat | None = None
        self._next_flush = 0.0
        self.name, self._made = names[0], False
        self._regular = self.name != "-" and (Path(self.name).is_file() or not Path(self.name).exists())
        if self.name == "-":
            self._fd = os.dup(sys.stdout.fileno())
            self.name = "standard output"
        elif force or not self._regular:
            self._made = not Path(self.name).exists()
            with _told(self.name):
                self._fd = os.open(self.name, _MAKE, 0o666)
        else:
            self._made = True
            self.name, self._fd = _make_first(names)

    def write(self, batch: pa.RecordBatch) -> None:
        if self._format is None:
            self._format = CsvFormat(self._lines, batch.schema)
        self._format.write(batch)
        self.size = self._whole + self._lines.tell()

    def keep_up(self) -> None:
        now = time.monotonic()
        if self._lines.tell() >= _FLUSH_BYTES or now >= self._next_flush:
            self._next_flush = now + FLUSH_S
            self._flush()

    def _flush(self) -> None:
        lines = memoryview(self._lines.getvalue())
        self._lines = io.BytesIO()
        if self._format is not None:
            self._format.file = self._lines
        with _told(self.name):
            try:
                if self._regular and not self._whole and len(lines):
                    os.ftruncate(self._fd, 0)  # what was there, and is replaced
                for piece in _pieces(lines):
                    while len(piece):
                        piece = piece[os.write(self._fd, piece) :]
            except OSError:
                if self._regular:  # what is cut off within a line would be no row
                    os.ftruncate(self._fd, self._whole)
                raise
        self._whole += len(lines)
        self.waiting = 0

    def close(self) -> None:
        try:
            self._flush()
            if self._regular:
                with _told(self.name):
                    os.fsync(self._fd)
        finally:
            os.close(self._fd)
            if self._whole == 0:
                if self._made:
                    Path(self.name).unlink(missing_ok=True)
                self.name = ""


def _pieces(lines: memoryview) -> Iterator[memoryview]:
    """Whole lines, about ``_FLUSH_BYTES`` at a time: a kill between two leaves no part of one."""
    begin, content = 0, lines.obj
    assert isinstance(content, bytes)
    while begin < len(lines):
        end = content.rfind(b"\n", begin, begin + _FLUSH_BYTES) + 1
        end = end if end > begin else len(lines)
        yield lines[begin:end]
        begin = end


class _ParquetUnderWay:
    """A parquet file that has its name once it is whole."""

    def __init__(self, names: Sequence[str], force: bool) -> None:
        self.since, self.size, self.waiting = time.monotonic(), 0, 0
        self.name, self._names, self._force = "", names, force
        self._file = WholeFile(names[0])
        self._format: ParquetFormat | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            with self._file.told():
                if self._format is None:
                    self._schema = _widest(batch.schema)
                    self._format = ParquetFormat(self._file.stream, self._schema)
                self._format.write(batch.cast(self._schema))
                self.size = self._file.stream.tell()
        except BaseException:
            self._discard()
            raise

    def keep_up(self) -> None:
        pass

    def close(self) -> None:
        if self._format is None:
            self._file.discard()
            return
        try:
            with self._file.told():
                self._format.close()
                self._file.stream.flush()
                os.fsync(self._file.stream.fileno())
        except BaseException:
            self._discard()
            raise
        if self._force:
            self._file.finish()
            self.name = self._names[0]
        else:
            self.name = self._file.finish_as(self._names)
        self.waiting = 0

    def _discard(self) -> None:
        """Leaves nothing of a file that cannot be read."""
        if self._format is not None:
            with contextlib.suppress(OSError):
                self._format.close()
            self._format = None
        self._file.discard()


def _widest(schema: pa.Schema) -> pa.Schema:
    """With float64 in place of float32, as some later frame may have it."""
    fields = [f.with_type(pa.float64()) if pa.types.is_float32(f.type) else f for f in schema]
    return pa.schema(fields)


def _make_first(names: Sequence[str]) -> tuple[str, int]:
    """Makes the first file that is not there yet. Returns its name, and its descriptor."""
    for name in names:
        with contextlib.suppress(FileExistsError), _told(name, FileExistsError):
            return name, os.open(name, _MAKE | os.O_EXCL, 0o666)
    raise UserError(f"{names[-1]}: is there already; name another, or replace it with --force")


def _make_folder(folder: Path) -> None:
    with _told(str(folder)):
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "permission denied")


@contextlib.contextmanager
def _told(name: str, *others: type[OSError]) -> Iterator[None]:
    """What cannot be written is the user's to mend; a reader that has left, and ``others``, the caller's."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (BrokenPipeError, *others)):
            raise
        raise UserError(f"{name}: cannot be written: {error.strerror or error}") from error

"""Snapshots: the committed state of streams as safetensors files, and the folder that keeps some of them.

The header follows from a few fields, so a reader builds it anew from what it found and takes the file only
if every byte agrees. The body is not covered: each record carries a checksum of its own, so that damage
costs one stream and not all.
"""

import ctypes
import errno
import json
import logging
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from streamrnn.errors import UserError
from streamrnn.streams.thinning import TWO, Retention, kept
from streamrnn.wire.frame import TOPIC_BYTES

log = logging.getLogger("streamrnn")

FORMAT = "streamrnn-state/2"
ID_BYTES = TOPIC_BYTES + 1  # an id and, in its last byte, its length
HEADER_LIMIT = 1 << 16  # bytes; some ten times what a header takes
ALIGNMENT = 64  # bytes; the body begins at a multiple of it
PIECE_BYTES = 1 << 20  # written, and put on the disk, at a time: see ``write_snapshot``
READ_BYTES = 1 << 20  # at a time: memory grows with what a file holds, not with what its header says
REMEDY = "use the snapshot before it, or another copy"

# sync_file_range(2): begins to write what is not yet, and waits for it; no flush of the disk, no journal
_WRITE_AND_WAIT = 7
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_NAME = re.compile(r"snapshot-[0-9]{8,}\.safetensors")
_TEMPORARY = re.compile(r"\.snapshot-[0-9a-z_]{8}\.tmp")
_HEX = re.compile(r"[0-9a-f]+")


class SnapshotError(UserError):
    """Not a whole snapshot: ``name`` is the file, ``problem`` what is wrong and what to do."""

    def __init__(self, name: str | Path, problem: str):
        super().__init__(f"{name}: {problem}")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The committed state of n streams. Records are bits, not numbers: no arithmetic is done on them."""

    fingerprint: str  # of the model, hex
    layout: dict[str, int]  # how a record is laid out; ``words`` is its length
    written_ns: int  # CLOCK_REALTIME
    ids: np.ndarray  # (n, ID_BYTES) uint8: UTF-8, zeros, and the length in the last byte
    records: np.ndarray  # (n, words) float32


def write_to(file: BinaryIO, snapshot: Snapshot, settle: Callable[[], object] = lambda: None) -> None:
    """Write ``snapshot`` to an open, buffered file, or a pipe; the same one always gives the same bytes.

    ``settle`` is called after each piece of ``PIECE_BYTES``.
    Raises OSError, and ValueError for fields or arrays that do not fit each other.
    """
    ids, records = np.ascontiguousarray(snapshot.ids), np.ascontiguousarray(snapshot.records)
    count, words = len(ids), snapshot.layout.get("words")
    if (ids.dtype, ids.shape) != (np.uint8, (count, ID_BYTES)):
        raise ValueError(f"ids: expected (n, {ID_BYTES}) uint8, found {ids.shape} {ids.dtype}")
    if (records.dtype, records.shape) != (np.float32, (count, words)):
        raise ValueError(
            f"records: expected ({count}, {words}) float32, found {records.shape} {records.dtype}"
        )
    file.write(_encode_header(snapshot.fingerprint, snapshot.layout, snapshot.written_ns, count))
    for array in (ids, records):
        data = array.reshape(-1).view(np.uint8).data
        for at in range(0, len(data), PIECE_BYTES):
            file.write(data[at : at + PIECE_BYTES])
            settle()


def read_from(file: BinaryIO, name: str) -> Snapshot:
    """The snapshot in an open file, read to its end; its arrays are writable and C-contiguous.

    Memory is bounded by what the file holds. Raises OSError, and SnapshotError with ``name`` in it.
    """
    state = _read_header(file, name)
    count, words = state["count"], state["layout"]["words"]
    expected = count * (ID_BYTES + 4 * words)
    body = _read_up_to(file, expected)
    if len(body) < expected:
        said = f"{len(body):,} bytes follow its header, which says {expected:,}"
        raise SnapshotError(name, f"cut short: {said}; {REMEDY}")
    if file.read(1):
        raise SnapshotError(name, f"longer than the {expected:,} bytes that its header says; {REMEDY}")
    del state["count"]
    ids, records = np.split(np.frombuffer(body, np.uint8), [count * ID_BYTES])
    return Snapshot(
        **state, ids=ids.reshape(count, ID_BYTES), records=records.view(np.float32).reshape(count, words)
    )


def _read_header(file: BinaryIO, name: str) -> dict[str, Any]:
    """The fields of a snapshot's header, up to whose end ``file`` is read. Raises OSError, SnapshotError."""
    size = _read_up_to(file, 8)
    length = int.from_bytes(size, "little")
    if length > HEADER_LIMIT:
        raise SnapshotError(name, "not a snapshot; name a file that streamrnn wrote as one")
    header = bytes(size + _read_up_to(file, length))
    if len(header) < 8 + length or len(size) < 8:
        raise SnapshotError(name, f"cut short: it ends within its header; {REMEDY}")
    return _parse_header(header, name)


def write_snapshot(folder: Path, snapshot: Snapshot, retention: Retention | None = TWO) -> Path:
    """Write ``snapshot`` to a new file in ``folder``, whole or not at all; returns its path.

    The new file and its name are on the disk before older ones go, those that ``retention`` does not keep;
    None keeps all. Where the disk is full, those that it keeps beyond the newest ones go, too, the oldest
    first, until there is room. For one writer at a time: temporary files found in the folder are taken for
    those of killed writers.

    Each piece goes to the disk before the next is written: the kernel's own threads, which would write all of
    it at once, take a core from the pump for longer than the thread that calls this ever does.

    Raises OSError; then the snapshots that were there still are, and no temporary file is left. Where it
    was the folder's fsync that failed, the new snapshot stays too: it is whole, but a power loss may undo
    its name. The next attempt begins a new file, because an fsync that failed may succeed on the same
    file later without having written it.
    """
    _settle(folder, retention)
    path = folder / f"snapshot-{1 + newest_number(folder):08d}.safetensors"
    while True:
        try:
            _write_new(path, snapshot)
            break
        except OSError as error:
            older = snapshots_in(folder)[retention.newest :] if retention is not None else []
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not older:
                raise
            log.warning("%s: no room for a snapshot; %s goes for it", folder, older[-1].name)
            older[-1].unlink()
    _settle(folder, retention)
    return path


def _write_new(path: Path, snapshot: Snapshot) -> None:
    folder = path.parent
    descriptor, name = tempfile.mkstemp(".tmp", ".snapshot-", folder)  # of mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write_to(file, snapshot, lambda: _write_back(descriptor))
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_back(descriptor: int) -> None:
    """Has what was written go to the disk. Raises OSError: the fsync behind it does not tell of it again."""
    if _LIBC.sync_file_range(descriptor, 0, 0, _WRITE_AND_WAIT) != 0:
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL, errno.ESPIPE):  # where it is unknown, fsync does it all
            raise OSError(number, os.strerror(number))


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in the file at ``path``. Raises SnapshotError, too, for a file that cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise SnapshotError(path, "not a regular file; name a snapshot file")
        with path.open("rb") as file:
            return read_from(file, str(path))
    except FileNotFoundError as error:
        raise SnapshotError(path, "no such file; name a snapshot file") from error
    except OSError as error:
        raise SnapshotError(path, f"cannot be read ({error.strerror or error}); {REMEDY}") from error


def snapshots_in(folder: Path) -> list[Path]:
    """The files of ``folder`` that have a snapshot's name, the newest first. Raises OSError."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=number_of, reverse=True)


def newest_number(folder: Path) -> int:
    """The number of the newest snapshot in ``folder``, whole or not; 0 for none. Raises OSError."""
    return max(map(number_of, snapshots_in(folder)), default=0)


def number_of(path: Path) -> int:
    return int(path.stem.removeprefix("snapshot-"))


def written_ns(path: Path) -> int:
    """When the snapshot in the file at ``path`` was written, by its header. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            return int(_read_header(file, str(path))["written_ns"])
    except OSError as error:
        raise SnapshotError(path, f"cannot be read ({error.strerror or error}); {REMEDY}") from error


def _settle(folder: Path, retention: Retention | None) -> None:
    """Puts the folder's entries on the disk, and only then removes the snapshots that these replace.

    Temporary files, which a killed writer left, go first: they may be what fills the disk.
    """
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if retention is None:
        return
    older = snapshots_in(folder)[retention.newest :]
    written = dict(map(_dated, older)) if retention.spans else {}
    stay = kept(written, retention._replace(newest=0), time.time_ns())
    for path in older:
        if path not in stay:
            path.unlink()


def _dated(path: Path) -> tuple[Path, int]:
    """A file, and when it was written; of one that is damaged by what the folder says."""
    try:
        return path, written_ns(path)
    except SnapshotError:
        return path, path.stat().st_mtime_ns


def _encode_header(fingerprint: str, layout: dict[str, int], written_ns: int, count: int) -> bytes:
    """A file's bytes before its body. Raises ValueError for fields that no snapshot has."""
    numbers = (*layout.values(), written_ns, count)
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise ValueError("layout, written_ns and count: expected int, from 0 to the largest of 64 bits")
    if not 0 < layout["words"] < 1 << 32 or not all(map(str.isidentifier, layout)):
        raise ValueError("layout: expected identifiers, and words above 0")
    if not _HEX.fullmatch(fingerprint):
        raise ValueError("fingerprint: expected hex digits")
    fields = {"fingerprint": fingerprint, "layout": layout, "written_ns": written_ns, "count": count}
    state = json.dumps(fields)
    ids_end = count * ID_BYTES
    end = ids_end + 4 * count * layout["words"]
    header = {
        # the check makes a state that was damaged into another valid one disagree with the header
        "__metadata__": {"format": FORMAT, "state": state, "check": f"{zlib.crc32(state.encode()):08x}"},
        "ids": {"dtype": "U8", "shape": [count, ID_BYTES], "data_offsets": [0, ids_end]},
        "records": {"dtype": "F32", "shape": [count, layout["words"]], "data_offsets": [ids_end, end]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parse_header(header: bytes, name: str) -> dict[str, Any]:
    """The arguments with which ``_encode_header`` gives exactly ``header``. Raises SnapshotError."""
    try:
        metadata = json.loads(header[8:])["__metadata__"]
        if (found := metadata["format"]) != FORMAT:
            remedy = "name a snapshot, or use the version that wrote it"
            raise SnapshotError(name, f"its format is {found!r:.60}, not {FORMAT!r}; {remedy}")
        state: dict[str, Any] = json.loads(metadata["state"])
        if _encode_header(**state) != header:
            raise ValueError("bytes that its fields do not give")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SnapshotError(name, f"its header is damaged; {REMEDY}") from error
    return state


def _read_up_to(file: BinaryIO, size: int) -> bytearray:
    """The next ``size`` bytes, or as many as there are."""
    data = bytearray()
    while len(data) < size and (more := file.read(min(size - len(data), READ_BYTES))):
        data += more
    return data

"""The TARGET of `streamrnn state`: a folder, state.live or state.snapshots; the .toml that sets them; a file.

Where a daemon runs over a folder it is asked for its streams; else the files that it left are read.
"""

import dataclasses
import datetime
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.settings.config import load_config
from streamrnn.state.ask import ask
from streamrnn.streams.exchange import listed, stream_names
from streamrnn.streams.live import FILE, LOCK, Unusable, boot_id, hold_lock, read_header, read_live
from streamrnn.streams.snapshot import (
    ID_BYTES,
    Snapshot,
    SnapshotError,
    newest_number,
    read_from,
    read_snapshot,
    snapshots_in,
)
from streamrnn.streams.summary import whole_streams

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Target(NamedTuple):
    """Where a daemon keeps its state."""

    folders: list[Path]
    snapshots: Path | None  # the folder that snapshots may be written to


class Source(NamedTuple):
    """Streams, and where they come from."""

    origin: str
    snapshot: Snapshot
    now_ns: int | None = None  # CLOCK_MONOTONIC, where the records are of this boot
    held: int = 0  # streams there, where the snapshot has only those that a daemon was asked for


def find_target(target: Path) -> Target:
    """The folders that a TARGET means. Raises UserError, and ConfigError as ``load_config``."""
    if target.suffix == ".toml":
        state = load_config(target, {}).state
        folders = [Path(folder) for folder in (state.live, state.snapshots) if folder]
        if not folders:
            raise UserError(f"{target}: keeps no state; set state.live or state.snapshots")
        return Target(folders, Path(state.snapshots) if state.snapshots else None)
    if not target.is_dir():
        raise UserError(
            f"{target}: no such folder; name the state.live or state.snapshots of a daemon, or its .toml"
        )
    return Target([target], target)


def read_source(target: Path, wanted: dict[str, Any]) -> Source:
    """The streams of a TARGET as they are now, or were when it was left.

    Of a daemon those that are ``wanted``, as ``ask`` has them beside an export, of files all.
    """
    if target.suffix != ".toml" and not target.is_dir():
        return of_file(target, read_snapshot(target))
    folders = find_target(target).folders
    with memory_file() as file:
        for folder in folders:
            if (said := ask(folder, target, {"do": "export"} | wanted, file.fileno())) is not None:
                file.seek(0)
                snapshot = read_from(file, str(folder))
                origin = f"in the daemon that runs over {folder}"
                return Source(origin, snapshot, time.monotonic_ns(), said["held"])
    for folder in folders:
        _refuse_silence(folder)
    newest = max((newest_number(folder) for folder in folders if folder.is_dir()), default=0)
    for folder in folders:
        if (source := _of_live_state(folder, newest)) is not None:
            return source
    for folder in folders:
        if (source := _of_snapshots(folder)) is not None:
            return source
    raise UserError(f"{target}: holds no state; a daemon over it leaves some")


def of_file(path: Path, snapshot: Snapshot) -> Source:
    return Source(f"in {path}, written {utc(snapshot.written_ns)}, {ago(snapshot.written_ns)} ago", snapshot)


def _of_live_state(folder: Path, newest: int) -> Source | None:
    """A live state that a start would take over: no snapshot, up to number ``newest``, came after it."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            header = read_header(file.fileno())
            if header["boot"].decode() != boot_id():
                raise Unusable("of another boot of this machine")
            if newest > header["snapshot"]:
                raise Unusable("a snapshot is newer")
        remains = read_live(path)
    except Unusable as reason:
        say(f"warning: {path}: cannot be used: {reason}")
        return None
    ids = remains.ids.view(np.uint8).reshape(-1, ID_BYTES)
    records = remains.records.view(np.float32).reshape(len(ids), remains.layout.words)
    snapshot = Snapshot(remains.fingerprint, remains.layout._asdict(), time.time_ns(), ids, records)
    return Source(f"in the live state {path}, over which no daemon runs", snapshot, time.monotonic_ns())


def _of_snapshots(folder: Path) -> Source | None:
    """The newest snapshot in a folder that is whole."""
    for path in snapshots_in(folder) if folder.is_dir() else []:
        try:
            return of_file(path, read_snapshot(path))
        except SnapshotError as error:
            say(f"warning: {error}")
    return None


def newest_streams(folder: Path) -> Snapshot | None:
    """Every stream of a folder of snapshots that is not damaged; None where there is no snapshot."""
    source = _of_snapshots(folder)
    return leave_damaged(source.snapshot, str(folder)) if source is not None else None


def leave_damaged(snapshot: Snapshot, name: str) -> Snapshot:
    """The streams of a snapshot that are whole; says on stderr which are not."""
    whole = whole_streams(snapshot, name)
    if not whole.all():
        say(f"warning: damaged, and left out: {listed(stream_names(snapshot.ids[~whole]))}")
    return only(snapshot, whole)


def only(snapshot: Snapshot, which: np.ndarray) -> Snapshot:
    """The streams of a snapshot that ``which``, (n,) bool or their places, names."""
    if which.dtype == bool and which.all():
        return snapshot
    return dataclasses.replace(snapshot, ids=snapshot.ids[which], records=snapshot.records[which])


def _refuse_silence(folder: Path) -> None:
    """Raises UserError where a daemon runs that does not answer."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder}: its daemon is starting or stopping; try again when it is ready") from None
    finally:
        os.close(lock)


@contextmanager
def locked(target: Target) -> Iterator[Path]:
    """The folder of snapshots of a target that no daemon runs over, nor can for the block."""
    for folder in target.folders:
        _refuse_silence(folder)
        if (folder / FILE).exists():
            raise UserError(f"{folder}: a live state, which only a daemon changes; start the daemon first")
    if target.snapshots is None:
        raise UserError(f"{target.folders[0]}: no daemon runs, and no folder has snapshots; start the daemon")
    if target.snapshots.exists() and target.snapshots.stat().st_uid != os.geteuid():
        raise UserError(f"{target.snapshots}: its owner alone can use what is written there; be that user")
    lock = hold_lock(target.snapshots)
    try:
        yield target.snapshots
    finally:
        os.close(lock)


def memory_file() -> BinaryIO:
    """A file that a daemon takes and gives snapshots in."""
    return os.fdopen(os.memfd_create("streamrnn"), "w+b")


def duration(seconds: float) -> str:
    """A time in the largest unit that it fills."""
    size, unit = next(unit for unit in _UNITS if seconds >= unit[0] or unit[0] == 1)
    return f"{seconds / size:.1f}{unit}"


def utc(time_ns: int) -> str:
    """A CLOCK_REALTIME as text, to the second."""
    return datetime.datetime.fromtimestamp(time_ns // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(time_ns: int) -> str:
    """How long a CLOCK_REALTIME is past."""
    return duration(max(time.time_ns() - time_ns, 0) / 1e9)


def say(words: str) -> None:
    """Prints words, which go to stderr."""
    sys.stderr.write(f"{words}\n")

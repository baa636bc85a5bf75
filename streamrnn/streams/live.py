"""The live state: the slots' memory as a file on tmpfs, which outlives the process that steps them.

The file is a header page and then the block that ``make_slots`` divides. The kernel keeps what was
stored in it whatever becomes of the process; a power cut takes it, and a snapshot is what is left.
Never on a disk: its writeback would stall the pump.
"""

import ctypes
import fcntl
import mmap
import os
import stat
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamrnn.errors import ConfigError, UserError
from streamrnn.kernels.network import Network
from streamrnn.streams.live_header import (
    COPY_AT,
    FORMAT,
    HEADER,
    MAGIC,
    PAGE,
    AnotherFormat,
    Unusable,
    read_header,
)
from streamrnn.streams.record import ID_WORDS, RecordLayout, layout_of
from streamrnn.streams.recovery import finish
from streamrnn.streams.relaid import other_layouts, relaid_records
from streamrnn.streams.slots import WORK_RECORDS, live_bytes, make_slots

FILE, LOCK = "state", "lock"
_MEMORY_SYSTEMS = (0x01021994, 0x858458F6)  # statfs(2): tmpfs, ramfs
_LOOK_S = 0.2  # `streamrnn state` holds the lock for an instant, to see whether a daemon does
_HERE, _EXCHANGE = -100, 2  # renameat2(2): AT_FDCWD, RENAME_EXCHANGE
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Remains(NamedTuple):
    """The streams in a live state, as the counters of its slots say; nothing in them is checked yet."""

    fingerprint: str
    layout: RecordLayout
    ids: np.ndarray  # (n * ID_WORDS,) uint64
    records: np.ndarray  # (n * words / 2,) uint64


def hold_lock(folder: Path) -> int:
    """Keeps other daemons off a folder for as long as this process lives. Returns the lock's descriptor.

    The folder is made, for this user alone, where it is not there. Raises ConfigError for one that
    others can write to, and UserError where the lock is taken or cannot be had.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"{folder}: others can write here, or it is another user's; name a folder of this user's own"
            )
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be used ({error.strerror}); name a folder that this user can write"
        ) from error
    end = time.monotonic() + _LOOK_S
    while not _locked(lock):
        if time.monotonic() > end:
            os.close(lock)
            raise UserError(f"{folder}: another daemon keeps its state here; end it, or name another folder")
        time.sleep(0.01)
    return lock


def is_held(lock: int, folder: Path) -> bool:
    """Whether a lock is still that of a folder, which may have been removed and made again."""
    try:
        return os.path.samestat(os.fstat(lock), (folder / LOCK).stat())
    except OSError:
        return False


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def boot_id() -> str:
    """What tells this boot of the machine from every other."""
    return _BOOT_ID.read_text().strip()


class _Statfs(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_long), ("rest", ctypes.c_byte * 248))


def _refuse_disks(folder: Path) -> None:
    about = _Statfs()
    library = ctypes.CDLL(None, use_errno=True)
    if library.statfs(os.fsencode(folder), ctypes.byref(about)) == 0 and about.kind in _MEMORY_SYSTEMS:
        return
    raise ConfigError(
        f"{folder}: not on tmpfs; the live state needs a folder in memory, as under /run or /dev/shm"
    )


class LiveFile:
    """The live state of one daemon: ``block`` is what it keeps, ``taken_over`` whether others wrote it."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        fingerprint: str,
        capacity: int,
        reset: str = "",
        work: int = WORK_RECORDS,
    ):
        """Takes over the file in ``folder``, or makes one, all of its memory allocated.

        Until ``publish`` a new file does not replace the old one, whose streams it is to have first.

        A file of another boot, cut short or damaged is replaced, and ``why_not`` says so; one of
        another capacity, or with another number of records to work in than ``work``, is replaced, too, and
        its streams are in ``remains``. Raises ConfigError for a file of another model or layout, unless
        ``reset`` says why to replace it, and UserError where there is not enough memory.
        """
        self._lock = hold_lock(folder)
        _refuse_disks(folder)
        self._path, self._draft = folder / FILE, folder / f"{FILE}.new"
        self._fingerprint, self._successor = fingerprint, ""
        self._network, self._layout = network, layout_of(network)
        self._capacity, self._work = capacity, work
        self._size = PAGE + live_bytes(self._layout, capacity, work)
        self._generation = 0
        self._header_lock = threading.Lock()
        self.snapshot = 0  # a snapshot of a higher number was not taken of this state, but after it
        self.taken_over, self.why_not = False, ""
        self.remains: Remains | None = None
        try:
            self._map = self._take_over(reset)
            self.taken_over = True
        except Unusable as reason:
            self.why_not = str(reason)
            self._map = self._make()
        self.block = np.frombuffer(self._map, np.uint8, offset=PAGE)

    def _take_over(self, reset: str) -> mmap.mmap:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise Unusable("") from None
        except OSError as error:
            raise Unusable(f"cannot be opened ({error.strerror})") from error
        try:
            try:
                header = read_header(file)
            except AnotherFormat as error:
                if reset:
                    raise
                raise ConfigError(
                    f"{self._path}: {error}; run the version that wrote it, name another folder, or start "
                    "once with --on-mismatch=reset to begin anew"
                ) from None
            self._compare(header, reset)
            self.snapshot = int(header["snapshot"])
            if tuple(header["layout"]) != self._layout:
                left = _read_remains(file, header)
                records = relaid_records(self._network, left.layout, left.ids, left.records)
                self.remains = left._replace(layout=self._layout, records=records)
                raise Unusable(other_layouts(self._network)[left.layout])
            if (header["capacity"], header["work"]) != (self._capacity, self._work):
                self.remains = _read_remains(file, header)
                other = header["capacity"] != self._capacity
                raise Unusable(f"of {header['capacity']:,} slots" if other else "of other workers")
            if os.fstat(file).st_size != self._size:
                raise Unusable("cut short")
            self._generation = int(header["generation"])
            _allocate(file, self._size, self._path)
            found = mmap.mmap(file, self._size)
        finally:
            os.close(file)
        return found

    def _compare(self, header: np.void, reset: str) -> None:
        """Raises Unusable for another boot, ConfigError for another model or format."""
        if header["boot"].decode() != boot_id():
            raise Unusable("of another boot of this machine")
        models = [header[name].decode() for name in ("model", "successor")]
        known = self._layout, *other_layouts(self._network)
        if self._fingerprint in models and tuple(header["layout"]) in known:
            return
        if reset:
            other = f"the model {models[0]}" if models[0] != self._fingerprint else "another adapt.enabled"
            raise Unusable(f"of {other}, which {reset} gives up")
        raise mismatch(self._path, models[0], self._fingerprint)

    def _make(self) -> mmap.mmap:
        try:
            self._draft.unlink(missing_ok=True)
            file = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _allocate(file, self._size, self._draft)
                return mmap.mmap(file, self._size)
            except UserError:
                self._draft.unlink()
                raise
            finally:
                os.close(file)
        except OSError as error:
            raise UserError(f"{self._draft}: cannot be made ({error.strerror})") from error

    def publish(self) -> None:
        """Makes the file what a restart takes over; called once its streams are in it. Raises OSError."""
        self.adopt(self._fingerprint)
        if not self.taken_over:
            self._draft.replace(self._path)

    def is_there(self) -> bool:
        """Whether a restart would find the file: somebody may have removed it."""
        return is_held(self._lock, self._path.parent) and self._path.exists()

    def trade(self, other: "LiveFile") -> None:
        """Has the two files take each other's place and lock, at once. Raises UserError where they cannot."""
        ours, theirs = os.fsencode(self._path), os.fsencode(other._path)
        library = ctypes.CDLL(None, use_errno=True)
        if library.renameat2(_HERE, ours, _HERE, theirs, _EXCHANGE) != 0:
            raise UserError(
                f"{self._path}: cannot take the place of {other._path} ({os.strerror(ctypes.get_errno())}); "
                "both must be on one tmpfs"
            )
        for name in ("_path", "_draft", "_lock"):
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)

    def remove(self) -> None:
        """Gives the memory of the file back that nobody needs any more, and its lock."""
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def discard(self) -> None:
        """Gives the memory of a new file back that was not published."""
        self._draft.unlink(missing_ok=True)

    def _write_header(self) -> None:
        """Writes the copy that does not count yet; whole, it does."""
        header = np.zeros((), HEADER)
        header["magic"], header["format"], header["generation"] = MAGIC, FORMAT, self._generation + 1
        header["snapshot"] = self.snapshot
        header["boot"], header["model"], header["successor"] = boot_id(), self._fingerprint, self._successor
        header["capacity"], header["work"], header["layout"] = self._capacity, self._work, self._layout
        header["crc"] = zlib.crc32(header.tobytes())
        self._generation += 1
        at = COPY_AT[self._generation % 2]
        self._map[at : at + HEADER.itemsize] = header.tobytes()

    def announce(self, fingerprint: str, successor: str) -> None:
        """Says that a model is about to take over from another: a restart may find either at work."""
        with self._header_lock:
            self._fingerprint, self._successor = fingerprint, successor
            self._write_header()

    def adopt(self, fingerprint: str) -> None:
        """Says whose state this is from now on."""
        self.announce(fingerprint, "")

    def note(self, snapshot: int) -> None:
        """Says that a snapshot of this number is about to be taken."""
        with self._header_lock:
            self.snapshot = snapshot
            self._write_header()


def mismatch(path: Path, theirs: str, ours: str) -> ConfigError:
    """The error of a state that another model left, or this one with another ``adapt.enabled``."""
    if theirs == ours:
        return ConfigError(
            f"{path}: holds the state of this model with adaptation, where there is none now, or the other "
            "way round; set adapt.enabled as it was, name another folder, or start once with "
            "--on-mismatch=reset to begin anew"
        )
    return ConfigError(
        f"{path}: holds the state of the model {theirs}, the configured one is {ours}; configure that model, "
        "name another folder, or start once with --on-mismatch=reset to begin anew"
    )


def read_live(path: Path) -> Remains:
    """The streams in a live state that no daemon holds. Raises Unusable, and OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_remains(file, read_header(file))
    finally:
        os.close(file)


def _read_remains(file: int, header: np.void) -> Remains:
    layout = RecordLayout(*map(int, header["layout"]))
    capacity, work = int(header["capacity"]), int(header["work"])
    if os.fstat(file).st_size != PAGE + live_bytes(layout, capacity, work):
        raise Unusable("cut short")
    # a copy of this process's own, as far as it is written to
    block = np.frombuffer(mmap.mmap(file, 0, access=mmap.ACCESS_COPY), np.uint8, offset=PAGE)
    slots = make_slots(layout, capacity, block, work)
    finish(slots)
    taken = np.flatnonzero(slots.committed)
    records = slots.state_64[: capacity * layout.words // 2].reshape(capacity, layout.words // 2)
    return Remains(
        header["model"].decode(),
        layout,
        slots.ids.reshape(capacity, ID_WORDS)[taken].reshape(-1),
        records[taken].reshape(-1),
    )


def _allocate(file: int, size: int, path: Path) -> None:
    """Has all memory of the file at hand: writing to what a full tmpfs cannot give would be a bus error."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        raise UserError(
            f"{path}: no room for {size:,} bytes of live state ({error.strerror}); make the tmpfs larger, "
            "or streams.capacity smaller"
        ) from error

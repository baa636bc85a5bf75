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
from streamrnn.streams.record import ID_WORDS, RecordLayout, layout_of
from streamrnn.streams.slots import live_bytes, newest, record_count

FILE, LOCK = "state", "lock"
PAGE = 4096
_MAGIC, _FORMAT = b"SRSTATE", 3
_MEMORY_SYSTEMS = (0x01021994, 0x858458F6)  # statfs(2): tmpfs, ramfs
_LOOK_S = 0.2  # `streamrnn state` holds the lock for an instant, to see whether a daemon does
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u4"),
        ("crc", "<u4"),  # of the rest, with this as 0
        ("generation", "<u8"),  # of the two copies in the page, the later whole one counts
        ("boot", "S40"),
        ("model", "S64"),  # the fingerprint
        ("successor", "S64"),  # of the model that is taking over, while it does
        ("snapshot", "<u8"),  # the number of the last one that was taken of it
        ("capacity", "<u8"),
        ("layout", "<u4", len(RecordLayout._fields)),
    ]
)
_FORMAT_AT, _MOST_PARTS = 8, 32  # in every version: where format and crc are, the most parts of a layout
assert _HEADER.fields is not None and _HEADER.fields["format"][1] == _FORMAT_AT
_COPY_AT = (0, PAGE // 2)


class Unusable(Exception):
    """Why a file cannot be taken over; the newest snapshot is the next best."""


class AnotherFormat(Unusable):
    """It is one of another version."""


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

    def __init__(self, folder: Path, network: Network, fingerprint: str, capacity: int, reset: bool = False):
        """Takes over the file in ``folder``, or makes one, all of its memory allocated.

        Until ``publish`` a new file does not replace the old one, whose streams it is to have first.

        A file of another boot, cut short or damaged is replaced, and ``why_not`` says so; one of
        another capacity is replaced, too, and its streams are in ``remains``. Raises ConfigError for a
        file of another model or layout, unless ``reset`` says to replace it, and UserError where
        there is not enough memory.
        """
        self._lock = hold_lock(folder)
        _refuse_disks(folder)
        self._path, self._draft = folder / FILE, folder / f"{FILE}.new"
        self._fingerprint, self._successor = fingerprint, ""
        self._capacity, self._layout = capacity, layout_of(network)
        self._size = PAGE + live_bytes(network, capacity)
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

    def _take_over(self, reset: bool) -> mmap.mmap:
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
            if header["capacity"] != self._capacity:
                self.remains = _read_remains(file, header)
                raise Unusable(f"of {header['capacity']:,} slots")
            if os.fstat(file).st_size != self._size:
                raise Unusable("cut short")
            self._generation = int(header["generation"])
            _allocate(file, self._size, self._path)
            found = mmap.mmap(file, self._size)
        finally:
            os.close(file)
        return found

    def _compare(self, header: np.void, reset: bool) -> None:
        """Raises Unusable for another boot, ConfigError for another model or format."""
        if header["boot"].decode() != boot_id():
            raise Unusable("of another boot of this machine")
        models = [header[name].decode() for name in ("model", "successor")]
        if self._fingerprint in models and tuple(header["layout"]) == self._layout:
            return
        if reset:
            other = f"the model {models[0]}" if models[0] != self._fingerprint else "another adapt.enabled"
            raise Unusable(f"of {other}, which --on-mismatch=reset gives up")
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

    def discard(self) -> None:
        """Gives the memory of a new file back that was not published."""
        self._draft.unlink(missing_ok=True)

    def _write_header(self) -> None:
        """Writes the copy that does not count yet; whole, it does."""
        header = np.zeros((), _HEADER)
        header["magic"], header["format"], header["generation"] = _MAGIC, _FORMAT, self._generation + 1
        header["snapshot"] = self.snapshot
        header["boot"], header["model"], header["successor"] = boot_id(), self._fingerprint, self._successor
        header["capacity"], header["layout"] = self._capacity, self._layout
        header["crc"] = zlib.crc32(header.tobytes())
        self._generation += 1
        at = _COPY_AT[self._generation % 2]
        self._map[at : at + _HEADER.itemsize] = header.tobytes()

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


def read_header(file: int) -> np.void:
    """The header of an open live state. Raises Unusable for what is not one, or of another version."""
    page = os.pread(file, PAGE, 0)
    for at in _COPY_AT:
        if (found := _other_format(page[at : at + PAGE // 2])) is not None:
            raise AnotherFormat(f"of format {found}, this version knows {_FORMAT}")
    whole: list[np.void] = []
    for at in _COPY_AT:
        if len(page) < at + _HEADER.itemsize:
            break
        copy = np.frombuffer(page, _HEADER, 1, at).copy()
        crc = int(copy["crc"][0])
        copy["crc"] = 0
        if copy["magic"][0] == _MAGIC and crc == zlib.crc32(copy.tobytes()):
            whole.append(copy[0])
    if not whole:
        raise Unusable("its header is damaged")
    header: np.void = max(whole, key=lambda copy: int(copy["generation"]))
    return header


def _other_format(page: bytes) -> int | None:
    """The format of a whole header that another version wrote, with a layout of any number of words."""
    fixed = _HEADER.itemsize - _HEADER["layout"].itemsize
    if len(page) < fixed or not page.startswith(_MAGIC):
        return None
    found, crc = (int.from_bytes(page[at : at + 4], "little") for at in (_FORMAT_AT, _FORMAT_AT + 4))
    bare = page[: _FORMAT_AT + 4] + bytes(4) + page[_FORMAT_AT + 8 :]
    sizes = range(fixed, min(fixed + 4 * _MOST_PARTS, len(page)) + 1, 4)
    return found if found != _FORMAT and crc in map(zlib.crc32, (bare[:size] for size in sizes)) else None


def read_live(path: Path) -> Remains:
    """The streams in a live state that no daemon holds. Raises Unusable, and OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_remains(file, read_header(file))
    finally:
        os.close(file)


def _read_remains(file: int, header: np.void) -> Remains:
    layout, capacity = RecordLayout(*map(int, header["layout"])), int(header["capacity"])
    sizes = [capacity * ID_WORDS, -(-capacity // 8) * 8, record_count(capacity) * layout.words // 2]
    if os.fstat(file).st_size != PAGE + 8 * sum(sizes):
        raise Unusable("cut short")
    block = np.frombuffer(mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ), np.uint64, offset=PAGE)
    ids, committed, records = np.split(block, np.cumsum(sizes[:-1]))
    taken = np.flatnonzero(committed[:capacity])
    rows = records.reshape(record_count(capacity), layout.words // 2)
    return Remains(
        header["model"].decode(),
        layout,
        ids.reshape(capacity, ID_WORDS)[taken].reshape(-1),
        rows[newest(taken, committed[taken])].reshape(-1),
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

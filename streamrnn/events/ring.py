"""The ring of what happened as a file on tmpfs, beside the live state, and what of it counts at a start."""

import mmap
import os
import secrets
from pathlib import Path

import numpy as np

from streamrnn.errors import UserError
from streamrnn.stats import RESETS
from streamrnn.streams.happenings import BEGINS, ENTRY, HEAD, SEALED, TAKEN, Ring, make_ring, ring_bytes
from streamrnn.streams.live import boot_id
from streamrnn.streams.record import EPOCH, ID_WORDS, STEP
from streamrnn.streams.slots import Slots

FILE = "events"
_PAGE = 4096
_HEADER = np.dtype(
    [("magic", "S8"), ("format", "<u4"), ("entry", "<u4"), ("entries", "<u8"), ("boot", "S40"), ("id", "<u8")]
)
_MAGIC, _FORMAT = b"SREVENTS", 1
_LEAST, _MOST = 1 << 12, 1 << 16  # entries: 1 MB to 16 MB
NOTHING = 0  # the kind of an entry that does not count
_IDLE = RESETS.index("idle")


class RingFile:
    """The ring of one daemon; with no folder in this process's memory alone. The folder's lock is held."""

    def __init__(self, folder: Path | None, capacity: int):
        """Takes over the ring in ``folder``, or makes one for ``capacity`` streams. Raises UserError."""
        self.taken_over = False
        if folder is None:
            self._map = mmap.mmap(-1, _PAGE + ring_bytes(_entries(capacity)))
            self._write_header(_entries(capacity))
        else:
            try:
                self._map = self._open(folder / FILE, capacity)
            except OSError as error:
                raise UserError(
                    f"{folder / FILE}: no ring of events can be had there ({error.strerror}); make the tmpfs "
                    "larger, or name another folder in state.live"
                ) from error
        header = np.frombuffer(self._map, _HEADER, 1)[0]
        self.identity = int(header["id"])
        block = np.frombuffer(self._map, np.uint8, ring_bytes(int(header["entries"])), _PAGE)
        self.ring: Ring = make_ring(block)

    def _open(self, path: Path, capacity: int) -> mmap.mmap:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return self._make(path, capacity)
        try:
            size = os.fstat(file).st_size
            header = np.frombuffer(
                os.pread(file, _HEADER.itemsize, 0).ljust(_HEADER.itemsize, b"\0"), _HEADER
            )[0]
            entries = int(header["entries"])
            known = (header["magic"], header["format"], header["entry"]) == (_MAGIC, _FORMAT, ENTRY.itemsize)
            whole = entries in {1 << bit for bit in range(12, 17)} and size == _PAGE + ring_bytes(entries)
            if not (known and whole and header["boot"].decode(errors="replace") == boot_id()):
                return self._make(path, capacity)
            self.taken_over = True
            return mmap.mmap(file, size)
        finally:
            os.close(file)

    def _make(self, path: Path, capacity: int) -> mmap.mmap:
        draft, size = path.with_name(f"{path.name}.new"), _PAGE + ring_bytes(_entries(capacity))
        draft.unlink(missing_ok=True)
        file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)  # or a full tmpfs would be a bus error
            self._map = mmap.mmap(file, size)
            self._write_header(_entries(capacity))
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        return self._map

    def _write_header(self, entries: int) -> None:
        header = np.zeros((), _HEADER)
        header["magic"], header["format"], header["entry"] = _MAGIC, _FORMAT, ENTRY.itemsize
        header["entries"], header["boot"], header["id"] = entries, boot_id(), secrets.randbits(63)
        self._map[: _HEADER.itemsize] = header.tobytes()

    def recover(self, slots: Slots) -> int:
        """Leaves out what was put in for rows that were never committed, as a kill between the two leaves it.

        Called when the streams are in their slots and nothing steps them. Returns how many do not count.
        """
        ring, left_out = self.ring, 0
        size, head = ring.entries.size, int(ring.counts[HEAD])
        sealed, taken = int(ring.marks[SEALED]), int(ring.marks[TAKEN])
        if not taken <= sealed <= head <= taken + size:  # not what a pump can leave
            head = sealed = taken
        for number in range(sealed, head):
            entry = ring.entries[number % size]
            if entry["number"] != number + 1 or not _happened(entry, slots):
                entry["kind"] = NOTHING
                left_out += 1
        ring.counts[HEAD], ring.marks[SEALED] = head, head
        return left_out


def _happened(entry: np.void, slots: Slots) -> bool:
    """Whether the row of an entry is committed; of a stream that was to be let go, whether it was."""
    ids = slots.ids.reshape(-1, ID_WORDS)
    slot = int(entry["slot"])
    if not (0 <= slot < slots.capacity and (ids[slot] == entry["name"]).all()):  # the streams have moved
        found = np.flatnonzero((ids == entry["name"]).all(axis=1))
        slot = int(found[0]) if found.size else -1
    if entry["kind"] != BEGINS and entry["reason"] == _IDLE:
        return slot < 0
    if slot < 0:
        return False
    at = slot * slots.words
    now = int(slots.state_32[at + EPOCH]), int(slots.state_64[at // 2 + STEP])
    return now >= (int(entry["epoch"]), int(entry["step"]))


def _entries(capacity: int) -> int:
    """Room for an event of every stream at once, where that is not too much."""
    return min(max(1 << (2 * capacity - 1).bit_length(), _LEAST), _MOST)

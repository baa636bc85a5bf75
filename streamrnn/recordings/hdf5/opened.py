"""Opens HDF5 files, also those that a killed recorder or a broken copy left without their end."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
from h5py import h5d

from streamrnn.errors import UserError
from streamrnn.recordings.hdf5.store import Store

CACHE = 4 << 20  # bytes of unpacked chunks, of each dataset
_SHORT = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")


class Opened(NamedTuple):
    """A file that is open."""

    file: "h5py.File"
    note: str = ""  # what a user should know of how it was found
    size: int | None = None  # bytes that are there, where its end is missing; it is read as if zeros followed
    whole_size: int = 0  # bytes that it should have


class Padded(io.RawIOBase):
    """A file with zeros behind its end, up to a size."""

    def __init__(self, path: Path, size: int) -> None:
        self._file, self._size, self._at = path.open("rb", buffering=0), size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._file.seek(self._at)
        done = self._file.readinto(view[:count]) or 0
        while 0 < done < count and (more := self._file.readinto(view[done:count])):
            done += more
        view[done:count] = bytes(count - done)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def open_file(path: Path) -> Opened:
    """Raises UserError for a file that was not closed, or of which too little is there."""
    try:
        return Opened(h5py.File(path, "r", rdcc_nbytes=CACHE))
    except OSError as error:
        said = str(error)
    if (short := _SHORT.search(said)) is not None:
        size, whole_size = int(short[1]), int(short[2])
        with lost_if_short(size, whole_size):
            return Opened(h5py.File(Padded(path, whole_size), "r"), "", size, whole_size)
    if "already open for write" in said:
        try:
            file = h5py.File(path, "r", swmr=True, rdcc_nbytes=CACHE)
        except OSError:
            raise UserError(
                "its writer has not closed it; if that has ended, `h5clear -s FILE` lets it be read"
            ) from None
        return Opened(file, "its writer has not closed it; what is there is taken")
    raise UserError(f"cannot be read as HDF5: {said}")


@contextmanager
def lost_if_short(size: int | None, whole_size: int) -> Iterator[None]:
    """Says of a file without its end that what cannot be read was there."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        if size is None:
            raise
        raise UserError(
            f"only {size:,} of its {whole_size:,} bytes are there, and what says where samples are is not "
            "among them"
        ) from None


def whole_length(store: Store, size: int) -> int:
    """How many samples of a dataset lie within the first ``size`` bytes of its file."""
    data, length = store.data, store.length
    layout = data.id.get_create_plist().get_layout()
    if layout == h5d.CONTIGUOUS:
        offset, row = data.id.get_offset(), data.dtype.itemsize * data.size // max(1, data.shape[store.axis])
        there = 0 if offset is None else max(0, size - offset)
        if store.axis == 0:
            return min(length, there // row)
        return length if there >= row * data.shape[store.axis] else 0
    if layout != h5d.CHUNKED:
        return length
    for place in range(data.id.get_num_chunks()):
        chunk = data.id.get_chunk_info(place)
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
            length = min(length, int(chunk.chunk_offset[store.axis]))
    return length

"""Datasets of samples: which of their axes is time, which columns they have, and slabs of them as float64."""

import importlib.util
import math
from collections.abc import Sequence
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5z

from streamrnn.errors import UserError
from streamrnn.recordings.hdf5.packing import Packing
from streamrnn.recordings.recording import MOST_CHANNELS

MOST_CHUNK = 256 << 20  # bytes of a chunk, which is unpacked whole


class StoredColumn(NamedTuple):
    """A column of a dataset."""

    name: str
    unit: str
    pick: str | int | None  # field of a compound, place across time, or None: there is one only
    packing: Packing


class Store:
    """A dataset of ``length`` samples of the columns, along ``axis``."""

    def __init__(self, path: str, data: "h5py.Dataset", axis: int, columns: Sequence[StoredColumn]) -> None:
        self.path, self.data, self.axis, self.columns = path, data, axis, list(columns)
        self.length = int(data.shape[axis])
        self.note = ""  # what a user should know of it

    def read(self, begin: int, end: int, columns: Sequence[int]) -> np.ndarray:
        """Samples ``begin`` to ``end`` of columns by place: (end - begin, W) float64; NaN beyond its end."""
        count, there = end - begin, max(0, min(end, self.length) - begin)
        values = np.full((count, len(columns)), np.nan)
        if there and columns:
            raw = self.raw(begin, begin + there, columns)
            for at, place in enumerate(columns):
                column = self.columns[place]
                values[:there, at] = column.packing.unpack(self._picked(raw, column))
        return values

    def raw(self, begin: int, end: int, columns: Sequence[int]) -> np.ndarray:
        """The dataset between two samples, time first, or of a compound the fields of the columns."""
        fields = [self.columns[place].pick for place in columns]
        if self.data.dtype.names:
            return self.data.fields([str(field) for field in fields])[begin:end]
        slab = [slice(None)] * self.data.ndim
        slab[self.axis] = slice(begin, end)
        read = self.data[tuple(slab)]
        return read if self.axis == 0 else np.moveaxis(read, self.axis, 0)

    def one(self, begin: int, end: int) -> np.ndarray:
        """The raw numbers of its first column."""
        return self._picked(self.raw(begin, end, [0]), self.columns[0])

    def _picked(self, raw: np.ndarray, column: StoredColumn) -> np.ndarray:
        if isinstance(column.pick, str):
            return raw[column.pick]
        raw = raw.reshape(len(raw), -1)
        return raw[:, column.pick or 0]

    def kind(self, column: StoredColumn) -> np.dtype:
        """The type of a column's numbers."""
        kind = self.data.dtype[column.pick] if isinstance(column.pick, str) else self.data.dtype
        return np.dtype(kind)

    def at_once(self) -> int:
        """Samples in a chunk of its storage, 1 where it lies as a whole."""
        return int(self.data.chunks[self.axis]) if self.data.chunks else 1


def check_storage(path: str, data: "h5py.Dataset") -> None:
    """Raises UserError for data that is not in this file, or that cannot be read in bounded memory."""
    how = data.id.get_create_plist()
    if how.get_layout() == h5d.VIRTUAL or how.get_external_count():
        raise UserError(f"{path}: its samples are in another file, which is not opened; give that file")
    for place in range(how.get_nfilters()):
        _check_filter(path, *how.get_filter(place)[0::3])
    if data.chunks and (size := math.prod(data.chunks) * data.dtype.itemsize) > MOST_CHUNK:
        raise UserError(
            f"{path}: is stored in chunks of {size >> 20:,} MB, each of which is read whole; write it "
            "in smaller ones, as with h5repack"
        )


def _check_filter(path: str, code: int, name: bytes) -> None:
    """Raises UserError for data that is packed in a way that is not known."""
    if h5z.filter_avail(code):
        return
    if importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")  # which registers what it knows
    if not h5z.filter_avail(code):
        said = name.decode(errors="replace") if name.isascii() else ""
        what = f"{said} ({code})" if said.isprintable() and said else str(code)
        raise UserError(f"{path}: is packed by filter {what}, which h5py has not; pip install hdf5plugin")


def numeric(kind: np.dtype) -> bool:
    """Whether values of a type are numbers, or true and false."""
    return kind.subdtype is None and kind.kind in "iufb"


def columns_of(
    name: str, unit: str, across: int, names: Sequence[str], packing: Packing
) -> list[StoredColumn]:
    """Those of a dataset that has ``across`` numbers a sample, called ``names`` if there are as many."""
    if across == 1:
        return [StoredColumn(name, unit, None, packing)]
    if len(names) != across or len({*names}) < across:
        names = [f"{name}[{place}]" for place in range(across)]
    return [StoredColumn(each, unit, place, packing) for place, each in enumerate(names)][:MOST_CHANNELS]

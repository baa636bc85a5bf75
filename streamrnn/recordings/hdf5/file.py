"""An HDF5 file as a recording: which datasets have their samples together, and at which times."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.hdf5 import frames
from streamrnn.recordings.hdf5.attributes import UNITS, Said
from streamrnn.recordings.hdf5.folder import Folder
from streamrnn.recordings.hdf5.opened import Opened, lost_if_short, open_file, whole_length
from streamrnn.recordings.hdf5.packing import PLAIN
from streamrnn.recordings.hdf5.times import Stamped, Timed
from streamrnn.recordings.hdf5.walk import folders, lost
from streamrnn.recordings.recording import (
    NO_TIME,
    ChannelGroup,
    Contents,
    RecordedChannel,
    Samples,
    Told,
    rows_at_once,
)

PER_PIECE = 8  # times as long as a piece are the chunks that are read at once


class Hdf5Recording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path, opened: Opened, told: Told) -> None:
        self._file = opened.file
        root = Said(self._file["/"])
        kind = _kind(self._file, root, path)
        self._groups, left_out, notes = list[Timed](), dict[str, str](), [opened.note] if opened.note else []
        above = list[Folder]()
        short = None if opened.size is None else left_out
        for name, group, datasets in folders(self._file, short):
            above = [one for one in above if f"{name}/".startswith(f"{one.path}/") or not one.path]
            with lost(name, short):
                if frames.is_frame(group):
                    found, gone = frames.read_frame(name, group, datasets)
                    self._groups += found
                    left_out |= gone
                    continue
                folder = Folder(name, group, datasets, above, told, kind)
                above.append(folder)
                self._groups += folder.timed
                left_out |= folder.left_out
                notes += folder.notes
        if told.time not in (None, NO_TIME) and not any(
            isinstance(one.times, Stamped) for one in self._groups
        ):
            raise UserError(f'nothing in it is named "{told.time}" and has times of its samples')
        notes += [note for one in self._groups for note in one.times.notes]
        notes += [store.note for one in self._groups for store in one.stores if store.note]
        cut = _cut(self._groups, opened, left_out) if opened.size is not None else ""
        self._start = _start(self._groups)
        zeros = [one.times.zero for one in self._groups if one.times.zero is not None]
        self.contents = Contents(
            ", ".join(filter(None, ("HDF5", kind))),
            tuple(_described(one) for one in self._groups),
            self._start,
            bool(zeros) and all(zero.zoned for zero in zeros),
            tuple(left_out.items()),
            tuple(dict.fromkeys(notes)),
            cut,
        )

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        timed = self._groups[group]
        places = [(store, place) for store in timed.stores for place in range(len(store.columns))]
        wanted = dict[int, tuple[list[int], list[int]]]()  # of each store: places in it, and in the piece
        for at, channel in enumerate(channels):
            store, place = places[channel]
            inside, here = wanted.setdefault(timed.stores.index(store), ([], []))
            inside.append(place)
            here.append(at)
        count = rows_at_once(len(channels))
        chunk = max((timed.stores[of].at_once() for of in wanted), default=1)
        if chunk > count:
            count = min(chunk, PER_PIECE * count)
        elif chunk > 1:
            count -= count % chunk
        zero = timed.times.zero
        shift = 0 if zero is None or self._start is None else zero.ns - self._start
        for begin in range(0, timed.samples, count):
            end = min(begin + count, timed.samples)
            values = np.empty((end - begin, len(channels)))
            for of, (inside, here) in wanted.items():
                values[:, here] = timed.stores[of].read(begin, end, inside)
            yield Samples(timed.times.ns(begin, end) + shift, values)

    def close(self) -> None:
        self._file.close()


def open_recording(path: Path, told: Told) -> Hdf5Recording:
    """Raises UserError for a file that holds no samples, and whatever h5py does for a damaged one."""
    opened = open_file(path)
    with lost_if_short(opened.size, opened.whole_size):
        return Hdf5Recording(path, opened, told)


def _cut(groups: Sequence[Timed], opened: Opened, left_out: dict[str, str]) -> str:
    """Lets groups end where their samples are whole, in a file without its end; and says so.

    What has none is left out. Raises UserError if no group has any.
    """
    assert opened.size is not None
    whole = total = 0
    for timed in groups:
        before = timed.samples
        for store in (*timed.stores, *([timed.times.store] if isinstance(timed.times, Stamped) else [])):
            store.length = min(store.length, whole_length(store, opened.size))
        gone = [store for store in timed.stores if not store.length]
        if len(gone) < len(timed.stores):
            left_out |= dict.fromkeys((store.path for store in gone), "its samples are not there any more")
            timed.stores[:] = [store for store in timed.stores if store.length]
        timed.times.length = min(timed.times.length, *(store.length for store in timed.stores))
        if isinstance(timed.times, Stamped):
            timed.times.length = min(timed.times.length, timed.times.store.length)
        whole, total = whole + timed.samples, total + before
    there = f"only {opened.size:,} of its {opened.whole_size:,} bytes are there"
    if not whole:
        raise UserError(f"{there}, and no sample is whole")
    return f"{there}: {whole:,} of {total:,} samples are whole, and taken"


def _kind(file: "h5py.File", root: Said, path: Path) -> str:
    """What wrote a file, where that matters."""
    with path.open("rb") as bytes_:
        if bytes_.read(10) == b"MATLAB 7.3":
            return "MATLAB 7.3"
    if "_NCProperties" in root or any("_Netcdf4Dimid" in file[name].attrs for name in _scales(file)):
        return "netCDF-4"
    return ""


def _scales(file: "h5py.File") -> Iterator[str]:
    """The names of datasets at the top."""
    for name in file:
        with lost(name, {}):
            if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(
                file[name], h5py.Dataset
            ):
                yield name


def _start(groups: Sequence[Timed]) -> int | None:
    """The earliest moment of all groups that have one, ns since the Unix epoch."""
    found = [
        one.times.zero.ns + int(one.times.ns(0, 1)[0])
        for one in groups
        if one.times.zero is not None and one.samples
    ]
    return min(found, default=None)


def _described(one: Timed) -> ChannelGroup:
    columns = [(column, store) for store in one.stores for column in store.columns]
    channels = tuple(
        RecordedChannel(
            column.name,
            column.unit or Said(store.data).text(*UNITS),
            store.kind(column).name + ("" if column.packing == PLAIN else ", scaled"),
        )
        for column, store in columns
    )
    return ChannelGroup(one.folder, channels, one.samples, one.times.period_ns, one.times.timed)

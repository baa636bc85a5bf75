"""The datasets of one folder: which are samples, along which axis, and at which times."""

import re
from collections.abc import Sequence
from fractions import Fraction

import h5py
import numpy as np

from streamrnn.recordings.hdf5.attributes import PERIODS, RATES, UNITS, Moment, Said, period, since, start
from streamrnn.recordings.hdf5.packing import PLAIN, packing_of
from streamrnn.recordings.hdf5.store import Store, StoredColumn, check_storage, columns_of, numeric
from streamrnn.recordings.hdf5.times import Counted, Even, Stamped, TimeBase, Timed, rises
from streamrnn.recordings.recording import MOST_CHANNELS, Told
from streamrnn.recordings.time_names import rank_of

NO_TIMES = ("data", "start", "end")  # what times are called in tables, and other things in HDF5
TIMES = frozenset(("time", "times", "timestamp", "timestamps", "stamps", "zeit"))
LEAST_RANK = 99
NAMES_OF_COLUMNS = ("columns", "channels", "channel_names", "names", "labels")
CUT_SHORT = 0.5  # of its times must a dataset have that still grows


class Folder:
    """One folder. ``timed`` are its datasets of samples, those of the same times together."""

    def __init__(
        self,
        path: str,
        group: "h5py.Group",
        datasets: dict[str, "h5py.Dataset"],
        above: Sequence["Folder"],
        told: Told,
        kind: str,
    ) -> None:
        """``above`` are the folders that it is in; ``kind`` is what wrote the file."""
        self.path, self._datasets, self._above = path, datasets, above
        self._told, self._matlab, self._netcdf = told, kind.startswith("MATLAB"), kind == "netCDF-4"
        self.said = Said(group)
        self.scalars = {
            name.casefold(): float(np.asarray(data[()]).reshape(-1)[0])
            for name, data in datasets.items()
            if data.shape is not None and data.size == 1 and numeric(data.dtype)
        }
        self.left_out, self.notes = dict[str, str](), list[str]()
        self.stamps: dict[str, Stamped] = {}
        for name, data in datasets.items():
            if self._may_be_times(name, data):
                check_storage(self._full(name), data)
                store = Store(
                    self._full(name), data, int(np.argmax(data.shape)), self._columns(name, data, 1)
                )
                if rises(store):
                    self.stamps[name] = Stamped(store, Said(data), self._begins(data), told.unit)
                    self.left_out[self._full(name)] = "times"
        self.timed = self._find()

    def _full(self, name: str) -> str:
        return f"{self.path}/{name}".strip("/")

    def _may_be_times(self, name: str, data: "h5py.Dataset") -> bool:
        if self._told.time is not None:
            named = self._told.time in (name, self._full(name))
        else:
            named = _says_time(name) or since(Said(data).text(*UNITS)) is not None
        return named and bool(
            data.shape and data.size > 1 and data.size == max(data.shape) and data.dtype.kind in "iuf"
        )

    def _find(self) -> list[Timed]:
        found: dict[tuple[int, int], Timed] = {}
        for name, data in self._datasets.items():
            if name in self.stamps:
                continue
            if (why := self._why_none(name, data)) is not None:
                if why:
                    self.left_out[self._full(name)] = why
                continue
            check_storage(self._full(name), data)
            store, times = self._timed(name, data)
            if times is None:
                continue
            key = (id(times) if isinstance(times, Stamped) else 0, times.length)
            if isinstance(times, Even):
                key = (hash((times.period, times.zero)), times.length)
            found.setdefault(key, Timed(self.path, times, [])).stores.append(store)
        return [*found.values()]

    def _why_none(self, name: str, data: "h5py.Dataset") -> str | None:
        """Why a dataset is no samples, None where it may be; "" if that goes without saying."""
        said = Said(data)
        if data.shape is None or 0 in data.shape:
            return "empty"
        if data.dtype.names:
            return None if data.ndim == 1 else f"has {data.ndim} dimensions"
        if not numeric(data.dtype) or said.text("MATLAB_class") == "char":
            return (
                "text" if data.dtype.kind in "SUO" or "MATLAB_class" in said else f"no numbers ({data.dtype})"
            )
        if said.text("CLASS") == "DIMENSION_SCALE":
            without = said.text("NAME").startswith("This is a netCDF dimension but not")
            return "" if without else "a dimension"
        if data.size == 1:
            return "" if name.casefold() in (*RATES, *PERIODS) else "a single value"
        if data.ndim > 2:
            return f"has {data.ndim} dimensions"
        return None

    def _timed(self, name: str, data: "h5py.Dataset") -> tuple[Store, TimeBase | None]:
        """A dataset along its time, and its times; None for them, and a reason, where there are others."""
        if data.dtype.names:
            return self._compound(name, data)
        stamps, axis = self._times_of(name, data)
        if axis is None:
            axis = self._axis(name, data)
        across = data.size // data.shape[axis]
        store = Store(self._full(name), data, axis, self._columns(name, data, across))
        if across > MOST_CHANNELS:
            self.left_out[store.path] = f"has {across:,} numbers at a time"
            return store, None
        times = stamps or self._of_rate(store)
        if not times.timed and (others := self._candidates()):
            lengths = ", ".join(f"{stamps.length:,}" for stamps in others)
            self.left_out[store.path] = f"has {store.length:,} samples, and there are times of {lengths}"
            return store, None
        return store, times

    def _compound(self, name: str, data: "h5py.Dataset") -> tuple[Store, TimeBase | None]:
        fields = [(field, data.dtype[field]) for field in data.dtype.names]
        columns = [StoredColumn(field, "", field, PLAIN) for field, kind in fields if numeric(kind)]
        for field, kind in fields:
            if not numeric(kind):
                self.left_out[f"{self._full(name)}/{field}"] = (
                    "text" if kind.kind in "SUO" else f"no numbers ({kind})"
                )
        told = self._told.time
        clocks = [c for c in columns if (told == c.name if told else _says_time(c.name))]
        for clock in sorted(clocks, key=lambda column: rank_of(column.name) or LEAST_RANK):
            times = Store(self._full(name), data, 0, [clock])
            if rises(times):
                self.left_out[f"{self._full(name)}/{clock.name}"] = "times"
                kept = [column for column in columns if column is not clock]
                base = Stamped(times, Said(data), self._begins(data), self._told.unit)
                return Store(self._full(name), data, 0, kept), base
        store = Store(self._full(name), data, 0, columns)
        return store, self._of_rate(store)

    def _candidates(self) -> list[Stamped]:
        """All times of this folder and of those above it."""
        return [stamps for folder in (self, *self._above[::-1]) for stamps in folder.stamps.values()]

    def _times_of(self, name: str, data: "h5py.Dataset") -> tuple[Stamped | None, int | None]:
        """The times that belong to a dataset, and its axis along them; None for what is not known.

        Those that are attached to it; else of the nearest folder that has some of its length, or a rate.
        """
        if (found := self._attached(data)) is not None:
            return found
        axes = [*range(data.ndim)][:: -1 if self._matlab else 1]
        for folder in (self, *self._above[::-1]):
            ranked = sorted(
                folder.stamps.values(), key=lambda stamps: -_alike(stamps.store.path, self._full(name))
            )
            for stamps in ranked:
                for axis in axes:
                    if data.shape[axis] in (stamps.length, stamps.store.length):
                        return stamps, axis
            axis = self._axis(name, data, quiet=True)
            if ranked and data.maxshape[axis] is None and data.shape[axis] >= CUT_SHORT * ranked[0].length:
                return ranked[0], axis  # both grew, and not as far
            own = period(Said(data)) if folder is self else None
            if own or period(folder.said) or folder.scalar_period():
                return None, None
        return None, None

    def _attached(self, data: "h5py.Dataset") -> tuple[Stamped, int] | None:
        """Times that are attached to an axis as its scale."""
        if "DIMENSION_LIST" not in data.attrs:
            return None
        known = [*self.stamps.values(), *(s for folder in self._above for s in folder.stamps.values())]
        for axis, dimension in enumerate(data.dims):
            for scale in dimension.values():
                for stamps in known:
                    if stamps.store.data.id == scale.id:
                        return stamps, axis
        return None

    def _axis(self, name: str, data: "h5py.Dataset", quiet: bool = False) -> int:
        """The axis of time where nothing but the shape tells."""
        if data.ndim == 1 or data.size == max(data.shape):
            return int(np.argmax(data.shape))
        if "MATLAB_class" in data.attrs:
            return data.ndim - 1
        axis = int(np.argmax(data.shape))
        if not quiet:
            said = " x ".join(map(str, data.shape))
            self.notes.append(f'"{self._full(name)}" is {said}; time is taken to run along the longer side')
        return axis

    def _of_rate(self, store: Store) -> TimeBase:
        """Times of a rate that attributes or scalars say, here or above; else the order alone."""
        step = period(Said(store.data))
        for folder in (self, *self._above[::-1]):
            step = step or period(folder.said) or folder.scalar_period()
        _without_tail(store)
        return Counted(store.length) if step is None else Even(store.length, step, self._begins(store.data))

    def _begins(self, data: "h5py.Dataset") -> Moment | None:
        """The start that attributes say of a dataset, or of the nearest folder."""
        said = (Said(data), *(folder.said for folder in (self, *self._above[::-1])))
        return next((found for one in said if (found := start(one)) is not None), None)

    def scalar_period(self) -> Fraction | None:
        """What datasets of a single number say."""
        for name in RATES:
            if self.scalars.get(name, 0) > 0:
                return 10**9 / Fraction(str(self.scalars[name]))
        for name in PERIODS:
            if self.scalars.get(name, 0) > 0:
                return 10**9 * Fraction(str(self.scalars[name]))
        return None

    def _columns(self, name: str, data: "h5py.Dataset", across: int) -> list[StoredColumn]:
        said = Said(data)
        names: list[str] = []
        for key in NAMES_OF_COLUMNS:
            if isinstance(found := said[key], np.ndarray) and found.ndim == 1 and not names:
                names = [
                    one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in found
                ]
        unit = said.text(*UNITS)
        return columns_of(name, unit, across, names, packing_of(said, data.dtype, self._netcdf))


def _says_time(name: str) -> bool:
    """Whether a dataset, or a field, of this name has times if it rises: time_fast, imu_timestamps."""
    words = {word.casefold() for word in re.findall(r"[^\W\d_]+", name)}
    return name.casefold() not in NO_TIMES and (rank_of(name) is not None or bool(words & TIMES))


def _kind(kind: np.dtype) -> str:
    return "text" if kind.kind in "SUO" else f"no numbers ({kind})"


def _alike(one: str, other: str) -> int:
    """How much the names of a dataset and of its times have in common, at their ends."""
    count = 0
    for pair in (zip(one, other, strict=False), zip(one[::-1], other[::-1], strict=False)):
        for left, right in pair:
            if left != right:
                break
            count += 1
    return count


def _without_tail(store: Store) -> None:
    """Lets a dataset end where all that follows was never written."""
    fill = store.data.fillvalue
    if store.data.dtype.names or not isinstance(fill, np.number | np.bool_):
        return
    every, length = [*range(len(store.columns))], store.length
    while length > 0:
        begin = max(0, length - (1 << 16))
        raw = store.raw(begin, length, every).reshape(length - begin, -1)
        blank = (raw == fill).all(axis=1) if fill == fill else np.isnan(raw).all(axis=1)
        if not blank.all():
            length -= int(blank[::-1].argmin())
            break
        length = begin
    if 0 < length <= store.length - 2:
        store.note = (
            f'"{store.path}": its last {store.length - length:,} samples are all {fill:g}, as what was never '
            "written is; they are left out"
        )
        store.length = length

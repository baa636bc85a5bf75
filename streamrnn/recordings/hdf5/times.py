"""The times of datasets: of one that holds them, of a rate, or of nothing but their order."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.hdf5.attributes import Moment, Said, since
from streamrnn.recordings.hdf5.store import Store
from streamrnn.recordings.recording import even_ticks, to_ticks
from streamrnn.recordings.time_names import NS, unit_of_cell, unit_of_name

SLAB = 1 << 18
# numbers of at most this size count this unit since 1970, the same as in a table
EPOCH_UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
LEAST_EPOCH = 10**17  # ns: times from 1973 on are dates, as no recording is so long
DATENUM_1970, DATENUM = 719529, (693962, 767376)  # MATLAB's days since the year 0: of 1970; of 1900 and 2101


class TimeBase:
    """Times of ``length`` samples."""

    timed = True  # False: they only count the samples
    zero: Moment | None = None  # what the ns count from; None = no date is known
    period_ns: float | None = None  # where it is said

    def __init__(self, length: int) -> None:
        self.length, self.notes = length, list[str]()

    def ns(self, begin: int, end: int) -> np.ndarray:
        """Of samples ``begin`` to ``end``, (n,) int64, since ``zero``."""
        raise NotImplementedError


class Stamped(TimeBase):
    """Times that a dataset holds."""

    def __init__(self, store: Store, said: Said, begins: Moment | None, told_unit: str | None) -> None:
        """``begins``: the moment that attributes say, which relative times count from.

        What was never written at its end, and stands there as the fill value, is no time.
        """
        super().__init__(_written(store))
        self.store = store
        if self.length < store.length:
            left = store.length - self.length
            self.notes.append(
                f'"{store.path}": its last {left:,} times were never written; samples end there'
            )
        self._name = store.columns[0].name
        last = store.one(self.length - 1, self.length) if self.length else np.zeros(1)
        self._largest = float(np.abs(last[0].astype(np.float64)))
        units = said.text("units", "unit")
        self._shift = 0  # in the unit, of whole ones
        if (found := since(units)) is not None and told_unit is None:
            self._unit, self.zero = found
            return
        unit = told_unit or unit_of_cell(units) or unit_of_name(self._name)
        if (
            unit is None
            and DATENUM[0] < self._largest < DATENUM[1]
            and last.dtype.kind == "f"
            and ("MATLAB_class" in said)
        ):
            self._unit, self._shift, self.zero = NS["d"], DATENUM_1970, Moment(0, False)
            return
        if unit is None:
            unit = next((unit for most, unit in EPOCH_UNITS if self._largest < most), "ns")
        self._unit = NS[unit]
        self.zero = Moment(0, True) if self._largest * self._unit >= LEAST_EPOCH else begins

    def ns(self, begin: int, end: int) -> np.ndarray:
        numbers = self.store.one(begin, end)
        if not numbers.dtype.isnative:
            numbers = numbers.astype(numbers.dtype.newbyteorder("="))
        ns = to_ticks(numbers, self._unit, f'"{self.store.path}"', self._largest)
        return ns - self._shift * self._unit


class Even(TimeBase):
    """Times of a rate."""

    def __init__(self, length: int, period: Fraction, begins: Moment | None) -> None:
        super().__init__(length)
        self.zero, self.period, self.period_ns = begins, period, float(period)

    def ns(self, begin: int, end: int) -> np.ndarray:
        return even_ticks(begin, end - begin, self.period)


class Counted(TimeBase):
    """No times: the samples are counted."""

    timed = False

    def ns(self, begin: int, end: int) -> np.ndarray:
        return np.arange(begin, end, dtype=np.int64)


class Timed(NamedTuple):
    """Datasets that have their samples at the same times."""

    folder: str
    times: TimeBase
    stores: list[Store]

    @property
    def samples(self) -> int:
        return self.times.length


def _written(store: Store) -> int:
    """How many times of a dataset were written: what is the fill value to its end was not.

    Raises UserError for a dataset whose times are no numbers.
    """
    fill, length = store.data.fillvalue, store.length
    if not np.isscalar(fill) or not isinstance(fill, np.number) or length < 2:
        return length
    while length > 0:
        begin = max(0, length - SLAB)
        numbers = store.one(begin, length)
        blank = numbers == fill if fill == fill else np.isnan(numbers)
        if not blank.all():
            kept = length - int(blank[::-1].argmin())
            return store.length if store.length - kept < 2 and kept < 2 else kept
        length = begin
    raise UserError(f'"{store.path}": none of its times was ever written')


def rises(store: Store) -> bool:
    """Whether the first numbers of a dataset go up as times do."""
    numbers = store.one(0, min(store.length, 1000)).astype(np.float64)
    steps = np.diff(numbers[np.isfinite(numbers)])
    return bool(len(steps) == 0 or ((steps >= 0).mean() > 0.9 and (steps > 0).any()))

"""What a reader makes of a recording: groups of channels, and their samples piece by piece.

A reader is a module with ``open_recording(path, told) -> OpenRecording``, and a row of ``formats.FORMATS``.
It runs in a process of its own (``apart``), so that no damaged file can take more than that down: anything it
raises becomes an error, UserError as it stands there (without the file's name, which is put before it).

What every reader owes, whatever its library makes easy:

- Ticks are integers: ns from the recording's start, of each sample as it was recorded, never a sum of steps
  and nothing smoothed. A gap is to be seen in them.
- A sample that the file marks as invalid is NaN before anything is scaled; then scaled in float64, once.
- A time axis, a record counter, an index, text: no channel. What is left out is named, and why.
- Memory is bounded, whatever the file says: a size is checked before it is taken.
- Of a file that ends early, what is whole, and how much that is. Nothing is padded.
- Nothing of the file is run, and nothing unpickled.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from streamrnn.errors import UserError

MOST_CHANNELS = 4096  # of a recording
PIECE_VALUES = 1 << 20  # samples x channels in a piece, about
NO_TIME = "none"  # told as what has the times: nothing
_GOOD_TO = 10  # times are rounded to powers of it


class Told(NamedTuple):
    """What a user says of a recording; None is found out."""

    time: str | None = (
        None  # the name of what has the times, where a format leaves that open; "none": nothing
    )
    unit: str | None = None  # of times that are numbers: a key of ``NS``


class RecordedChannel(NamedTuple):
    """A channel as its file has it."""

    name: str  # within its group
    unit: str = ""
    stored: str = (
        ""  # numpy's name of its type, and what becomes of it: "int16, scaled"; "float32" is as it is
    )


class ChannelGroup(NamedTuple):
    """Channels that have their samples at the same times, one each."""

    name: str  # "" = of the file itself
    channels: tuple[RecordedChannel, ...]
    samples: int | None = None  # None = not known before they are read
    period_ns: float | None = None  # from sample to sample, where the file says it; None = its ticks do
    timed: bool = True  # False: the file says nothing of times, and ticks only count the samples


class Contents(NamedTuple):
    """What is in a recording."""

    said: str  # what it was taken for: "HDF5, MATLAB 7.3"
    groups: tuple[ChannelGroup, ...]  # those that have channels
    start_ns: int | None = None  # tick 0, since the Unix epoch; None = the file says no date
    zoned: bool = False  # whether the file says the zone of its times; else they are taken for UTC
    left_out: tuple[tuple[str, str], ...] = ()  # "group/name" of what is no channel, and why
    notes: tuple[str, ...] = ()  # what a user should look at
    cut: str = ""  # what lacks at the end, and how much is whole; "" = it is whole, as far as is known yet


class Samples(NamedTuple):
    """n samples, one after another, of the W channels asked for."""

    ticks: np.ndarray  # (n,) int64: ns from the start, or counted where the group is not timed
    values: np.ndarray  # (n, W) float64, C-contiguous: in the channels' units; NaN = none, or invalid
    begins: bool = False  # a new sequence begins here, though the ticks do not show it
    cut: str = ""  # as in ``Contents``, where it is found out only here


class OpenRecording(Protocol):
    """An open recording. Used by one thread at a time."""

    contents: Contents

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """The samples of a group's channels, by their places in ``contents``, in the order of the file.

        Each call begins anew, several may be under way at once, and any may be left before its end. A piece
        has about PIECE_VALUES values at most. Raises UserError for what cannot be read.
        """
        ...

    def close(self) -> None: ...


def rows_at_once(channels: int) -> int:
    """Samples of so many channels that make a piece."""
    return max(1, PIECE_VALUES // max(1, channels))


def even_ticks(first: int, count: int, period_ns: Fraction) -> np.ndarray:
    """Ticks of ``count`` samples from number ``first`` on, (count,) int64, each rounded for itself, half up.

    A rate as it is written makes an exact period: ``10**9 / Fraction(str(rate))``. Raises UserError for
    ticks beyond what int64 counts.
    """
    over, under = period_ns.numerator, period_ns.denominator
    if (first + count) * period_ns >= 1 << 62:
        raise UserError("its times are beyond the years that ns count")
    at_once = min(max(1, (1 << 62) // over), max(1, count))
    steps = np.arange(at_once, dtype=np.int64) * over
    ticks = np.empty(count, np.int64)
    for begin in range(0, count, at_once):
        whole, rest = divmod((first + begin) * over, under)
        some = ticks[begin : begin + at_once]
        some[:] = whole + (steps[: len(some)] + (rest + under // 2)) // under
    return ticks


def to_ticks(numbers: np.ndarray, unit_ns: int, where: str, largest: float | None = None) -> np.ndarray:
    """Times that are (n,) numbers of a unit as (n,) int64 of ns; integers are exact.

    Binary fractions are rounded to the power of ten of ns that the ``largest`` of all is good to, by default
    that of these: 0.1 + 0.2 s is 300,000,000 ns, and seconds since 1970 in float64 are good to a
    microsecond. Raises UserError for what is no number, or beyond what int64 counts.
    """
    if not len(numbers):
        return np.zeros(0, np.int64)
    if numbers.dtype.kind in "iu":
        if max(abs(int(numbers.min())), abs(int(numbers.max()))) * unit_ns >= 1 << 62:
            raise UserError(f"{where}: its times are beyond the years that ns count")
        return numbers.astype(np.int64) * unit_ns
    if not np.isfinite(numbers).all():
        raise UserError(f"{where}: a time of it is no number")
    most = numbers.dtype.type(np.abs(numbers).max() if largest is None else abs(largest))
    if max(float(most), float(np.abs(numbers).max())) * unit_ns >= 1 << 62:
        raise UserError(f"{where}: its times are beyond the years that ns count")
    step = float(np.spacing(most)) * unit_ns
    good_to = _GOOD_TO ** int(np.ceil(np.log10(max(step, 1.0))))
    numbers = numbers.astype(np.float64)
    whole = np.floor(numbers)
    ns = whole.astype(np.int64) * unit_ns + np.round((numbers - whole) * unit_ns).astype(np.int64)
    return (ns + good_to // 2) // good_to * good_to

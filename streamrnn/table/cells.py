"""Cells as numbers: columns of text (or of typed values) become arrays, and the bad cells are marked.

Each function takes an arrow array of n cells and returns (numbers, bad): an array (n,) and a mask
(n,) bool of the cells that cannot be read, None when all can.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING = pa.array(["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NaT", "null", "NULL", "None"])
LONGEST = 40  # characters of a cell in a message
CALENDAR = 0  # the unit of times that are dates or timestamps; numbers since the epoch have ns per unit
# a number of at most this magnitude counts these ns since 1970 (until the years 5138, 5138 and 5138)
EPOCH_UNITS = ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3))

Numbers = tuple[np.ndarray, np.ndarray | None]


def is_text(column: pa.Array | pa.Scalar) -> bool:
    """Whether it is to be parsed."""
    return pa.types.is_string(column.type)


def quoted(cell: pa.Scalar) -> str:
    """A cell as it stands in the file, in quotes, shortened where it is long."""
    if is_text(cell) and cell.is_valid:  # which may not be UTF-8
        text = cell.as_buffer().to_pybytes().decode(errors="replace")
    else:
        text = str(cell.as_py())
    return f'"{text[:LONGEST]}..."' if len(text) > LONGEST + 3 else f'"{text}"'


def to_float32(column: pa.Array) -> Numbers:
    """Values, float32; NaN for a missing cell."""
    done, bad = _cast(column, lambda cells: pc.cast(cells, pa.float32(), safe=False))
    return done.to_numpy(zero_copy_only=False), bad


def to_codes(column: pa.Array, find: Callable[[pa.Array], np.ndarray]) -> np.ndarray:
    """The numbers that ``find`` gives to cells of text, -1 to none, as float32; NaN for a missing cell."""
    codes = find(blanked(column)).astype(np.float32)
    codes[codes < 0] = np.nan
    return codes


def to_uint64(column: pa.Array) -> Numbers:
    """Sequence numbers, uint64; a missing cell is bad."""
    done, bad = _cast(column, lambda cells: pc.cast(cells, pa.uint64()))
    if done.null_count:
        bad = done.is_null().to_numpy(zero_copy_only=False)
    return done.fill_null(0).to_numpy(), bad


def to_ns(column: pa.Array, unit: int) -> Numbers:
    """Times in ns since the Unix epoch, int64; 0 for a missing cell.

    ``unit`` is CALENDAR or the ns per unit of a number. Text without a zone is UTC. Fractions of a
    number are good to a microsecond, which is what float64 holds of a time today.
    """
    done, bad = _cast(column, _calendar_ns if unit == CALENDAR else lambda cells: _epoch_ns(cells, unit))
    return done.fill_null(0).to_numpy(), bad


def find_time_unit(column: pa.Array) -> int | None:
    """What the first cell that is not missing says of a time column: its unit, or None if it is no time."""
    if not is_text(column):
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return CALENDAR
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            return None
    first = blanked(column).drop_null()[:1]
    if not len(first):
        return CALENDAR
    number, not_a_number = to_float64(first)
    if not_a_number is None:
        size = abs(float(number[0]))
        return next((unit for limit, unit in EPOCH_UNITS if size < limit), 1)
    return CALENDAR if to_ns(first, CALENDAR)[1] is None else None


def to_float64(column: pa.Array) -> Numbers:
    """Numbers, float64; NaN for a missing cell."""
    done, bad = _cast(column, lambda cells: pc.cast(cells, pa.float64(), safe=False))
    return done.to_numpy(zero_copy_only=False), bad


def _calendar_ns(cells: pa.Array) -> pa.Array:
    if not is_text(cells):
        zone = getattr(cells.type, "tz", None)
        return pc.cast(pc.cast(cells, pa.timestamp("ns", zone)), pa.int64())
    try:
        times = pc.cast(cells, pa.timestamp("ns"))
    except pa.ArrowInvalid:
        times = pc.cast(cells, pa.timestamp("ns", "UTC"))  # wants a zone in every cell
    return pc.cast(times, pa.int64())


def _epoch_ns(cells: pa.Array, unit: int) -> pa.Array:
    try:
        return pc.multiply_checked(pc.cast(cells, pa.int64()), unit)
    except pa.ArrowInvalid:
        numbers = pc.cast(cells, pa.float64())
    microseconds = pc.round(pc.multiply(numbers, unit / 1000))
    return pc.multiply_checked(pc.cast(microseconds, pa.int64()), 1000)


def _cast(column: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, np.ndarray | None]:
    """``cast`` of the whole column if it can be, else of every cell that can be; the rest is null and bad."""
    try:
        return cast(column), None
    except pa.ArrowInvalid:
        cells = blanked(column)
    pieces: list[pa.Array] = []
    _cast_by_halves(cells, cast, pieces)
    done = pa.concat_arrays(pieces)
    bad = pc.and_(done.is_null(), cells.is_valid()).to_numpy(zero_copy_only=False)
    return done, bad if bad.any() else None


def blanked(column: pa.Array) -> pa.Array:
    """The cells without space around them, null where they say that they are missing."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    if not is_text(column):
        return column
    trimmed = pc.ascii_trim_whitespace(column)
    return pc.if_else(pc.is_in(trimmed, value_set=MISSING), None, trimmed)


def _cast_by_halves(cells: pa.Array, cast: Callable[[pa.Array], pa.Array], pieces: list[pa.Array]) -> None:
    """Finds the few cells that cannot be cast among many that can."""
    try:
        pieces.append(cast(cells))
        return
    except pa.ArrowInvalid:
        if len(cells) == 1:
            pieces.append(cast(cells[:0]).take(pa.array([None], pa.int32())))
            return
    middle = len(cells) // 2
    _cast_by_halves(cells[:middle], cast, pieces)
    _cast_by_halves(cells[middle:], cast, pieces)

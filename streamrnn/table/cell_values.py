"""Cells as numbers: columns of text (or of typed values) become arrays, and the bad cells are marked.

Each function takes an arrow array of n cells and returns (numbers, bad): an array (n,) and a mask
(n,) bool of the cells that cannot be read, None when all can.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.table.words import MISSING, VALUE_OF_STATE

LONGEST = 40  # characters of a cell in a message
_MISSING = pa.array(MISSING)
# pyarrow looks for dateutil at each call with a scalar of Python's, where there is none: 0.1 ms
_NULL = pa.scalar(None)
# all that pyarrow reads as a number, and little else
NUMBER = r"(?i)^[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf(inity)?|nan(\(\w*\))?)$"
_STATES = 1000  # different texts at most that may stand for numbers

Numbers = tuple[np.ndarray, np.ndarray | None]


class Marks(NamedTuple):
    """What cells may say beside numbers."""

    missing: pa.Array  # of text: no value
    codes: np.ndarray  # float32: numbers that stand for no value
    states: dict[str, float]  # casefolded texts that stand for a number, where they may


def make_marks(missing: Sequence[str] = (), words: Mapping[str, float] | None = None) -> Marks:
    """The marks of a file: the usual ones, those of ``missing``, and ``words`` that stand for numbers."""
    return Marks(
        pa.array([*MISSING, *missing], pa.string()),
        missing_codes(missing),
        VALUE_OF_STATE | {word.strip().casefold(): value for word, value in (words or {}).items()},
    )


def missing_codes(missing: Sequence[str]) -> np.ndarray:
    """Those of the codes that are numbers, float32."""
    numbers = []
    for code in missing:
        try:
            numbers.append(float(code))
        except ValueError:
            continue
    codes = np.array(numbers, np.float32)
    return codes[~np.isnan(codes)]


PLAIN = make_marks()


def is_text(column: pa.Array | pa.Scalar) -> bool:
    """Whether it is to be parsed."""
    return pa.types.is_string(column.type)


def quoted(cell: pa.Scalar) -> str:
    """A cell as it stands in the file, in quotes, shortened where it is long."""
    text = str(cell.as_py())
    return f'"{text[:LONGEST]}..."' if len(text) > LONGEST + 3 else f'"{text}"'


def to_float32(
    column: pa.Array,
    marks: Marks = PLAIN,
    comma: bool = False,
    grouped: bool = False,
    state: bool = False,
    offset: float = 0.0,
) -> Numbers:
    """Values, float32; NaN for a missing cell.

    ``comma``: the cells have decimal commas; ``grouped``: commas between thousands; ``state``: they may be
    texts that stand for numbers; ``offset`` is taken off them before they are rounded.
    """
    if offset:
        numbers, bad = to_float64(column, marks, comma, grouped, state)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            return (numbers - offset).astype(np.float32), bad
    return _to_numbers(column, pa.float32(), marks, comma, grouped, state)


def to_float64(
    column: pa.Array,
    marks: Marks = PLAIN,
    comma: bool = False,
    grouped: bool = False,
    state: bool = False,
) -> Numbers:
    """The same as float64."""
    return _to_numbers(column, pa.float64(), marks, comma, grouped, state)


def _to_numbers(
    column: pa.Array, kind: pa.DataType, marks: Marks, comma: bool, grouped: bool, state: bool
) -> Numbers:
    if state and is_text(column):
        column = _as_numbers(column, marks)
    elif comma and is_text(column):
        column = _with_points(blanked(column, marks.missing))
    elif grouped and is_text(column):
        whole = pc.match_substring_regex(column, r"^\s*[-+]?\d{1,3}(,\d{3})+(\.\d+)?\s*$")
        column = pc.if_else(whole, pc.replace_substring(column, ",", ""), column)
    cast = cast_cells(column, lambda cells: pc.cast(cells, kind, safe=False), marks.missing, NUMBER)
    values, bad = cast[0].to_numpy(zero_copy_only=False), cast[1]
    if len(marks.codes):
        with np.errstate(over="ignore"):
            coded = np.isin(values.astype(np.float32, copy=False), marks.codes)
        values = np.where(coded, values.dtype.type(np.nan), values)
    return values, bad


def to_codes(column: pa.Array, find: Callable[[pa.Array], np.ndarray], marks: Marks = PLAIN) -> np.ndarray:
    """The numbers that ``find`` gives to cells of text, -1 to none, as float32; NaN for a missing cell."""
    codes = find(blanked(column, marks.missing)).astype(np.float32)
    codes[codes < 0] = np.nan
    return codes


def to_uint64(column: pa.Array) -> Numbers:
    """Sequence numbers, uint64; a missing cell is bad."""
    done, bad = cast_cells(
        column, lambda cells: pc.cast(cells, pa.uint64()), like=r"^(\d+|0[xX][0-9a-fA-F]+)$"
    )
    if done.null_count:
        bad = done.is_null().to_numpy(zero_copy_only=False)
    return done.fill_null(0).to_numpy(), bad


def cast_cells(
    column: pa.Array,
    cast: Callable[[pa.Array], pa.Array],
    missing: pa.Array = _MISSING,
    like: str | None = None,
) -> tuple[pa.Array, np.ndarray | None]:
    """``cast`` of the whole column if it can be, else of every cell that can be; the rest is null and bad.

    ``like`` is a pattern that text has where it can be cast: a cast that fails takes long.
    """
    try:
        return cast(column), None
    except pa.ArrowInvalid:
        cells = some = blanked(column, missing)
    if like is not None and is_text(cells):
        some = pc.if_else(pc.match_substring_regex(cells, like), cells, _NULL)
    pieces: list[pa.Array] = []
    _cast_by_halves(some, cast, pieces)
    done = pa.concat_arrays(pieces)
    bad = pc.and_(done.is_null(), cells.is_valid()).to_numpy(zero_copy_only=False)
    return done, bad if bad.any() else None


def blanked(column: pa.Array, missing: pa.Array = _MISSING) -> pa.Array:
    """The cells without space around them, null where they say that they are missing."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), _NULL, column)
    if not is_text(column):
        return column
    trimmed = pc.ascii_trim_whitespace(column)
    return pc.if_else(pc.is_in(trimmed, value_set=missing), _NULL, trimmed)


def _with_points(cells: pa.Array) -> pa.Array:
    """Numbers with decimal commas, and points between thousands where a comma follows, in the usual way.

    A point alone stays, and makes the cell a bad one: it may be either.
    """
    pointed = pc.match_substring(cells, ".")
    plain = pc.replace_substring(cells, ",", ".", max_replacements=1)
    if not pc.any(pointed).as_py():
        return plain
    grouped = pc.match_substring_regex(cells, r"^[-+]?\d{1,3}(\.\d{3})+,\d+$")
    whole = pc.replace_substring(pc.replace_substring(cells, ".", ""), ",", ".")
    return pc.if_else(grouped, whole, pc.if_else(pointed, pc.binary_join_element_wise("'", cells, ""), plain))


def _as_numbers(column: pa.Array, marks: Marks) -> pa.Array:
    """Cells of text with the numbers that they stand for in their place."""
    coded = blanked(column, marks.missing).dictionary_encode()
    texts = coded.dictionary.to_pylist()
    if len(texts) > _STATES:
        return column
    numbers = [
        repr(marks.states[text.casefold()]) if text.casefold() in marks.states else text for text in texts
    ]
    return pa.array(numbers, pa.string()).take(coded.indices)


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

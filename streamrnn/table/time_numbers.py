"""Numbers as times: since 1970 or since the start, in a unit, or days of a spreadsheet; exact to the ns."""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.recordings.time_names import NS
from streamrnn.table.cell_values import is_text

SERIAL, SERIAL_ZERO = "serial", -25569  # days since 1899-12-30, in days since 1970
_EXACT = pa.decimal128(38, 18)


def plain_ns(cells: pa.Array, unit: int) -> pa.Array:
    """Of whole numbers, and of decimal ones of no more digits than a ns has; ArrowInvalid for others."""
    # a cast that fails makes an error of every cell: of a column of fractions that takes longer than all else
    if not (is_text(cells) and len(cells) and "." in (cells[0].as_py() or "")):
        try:
            return pc.multiply_checked(pc.cast(cells, pa.int64()), unit)
        except pa.ArrowInvalid:
            pass
    digits = {10**9: 9, 10**6: 6, 10**3: 3}.get(unit)
    if digits is None or pa.types.is_floating(cells.type):
        raise pa.ArrowInvalid("no whole ns")
    return _unscaled(pc.cast(cells, pa.decimal128(18 + digits, digits)))


def number_ns(cells: pa.Array, unit: int) -> pa.Array:
    try:
        return plain_ns(cells, unit)
    except pa.ArrowInvalid:
        return _float_ns(cells, unit) if pa.types.is_floating(cells.type) else _exact_ns(cells, unit)


def _exact_ns(cells: pa.Array, unit: int) -> pa.Array:
    """Of decimal numbers, to the ns: float64 holds a time of today to a quarter of a microsecond."""
    try:
        exact = pc.cast(pc.cast(cells, _EXACT), pa.decimal256(40, 18))
    except pa.ArrowInvalid:
        return _float_ns(pc.cast(cells, pa.float64(), safe=False), unit)
    scaled = pc.multiply(exact, pa.scalar(decimal.Decimal(unit), pa.decimal256(20, 0)))
    return pc.cast(pc.round(scaled), pa.int64())


def _unscaled(numbers: pa.Decimal128Array) -> pa.Array:
    """The integers, int64, that decimal numbers are before the point is set."""
    _, data = numbers.buffers()
    words = np.frombuffer(data, np.int64).reshape(-1, 2)[numbers.offset : numbers.offset + len(numbers)]
    low, high = words[:, 0], words[:, 1]
    missing = numbers.is_null().to_numpy(zero_copy_only=False)
    if ((high != low >> 63) & ~missing).any():
        raise pa.ArrowInvalid("beyond the years that ns count")
    return pa.array(low, mask=missing)


def _float_ns(cells: pa.Array, unit: int) -> pa.Array:
    """Of binary numbers, rounded to the power of ten of ns that they are good to."""
    numbers = cells.to_numpy(zero_copy_only=False).astype(np.float64)
    known = np.isfinite(numbers)
    largest = np.abs(numbers[known]).max(initial=0.0)
    if largest * unit >= 2**63:
        raise pa.ArrowInvalid("beyond the years that ns count")
    good_to = 10 ** int(np.ceil(np.log10(max(np.spacing(largest) * unit, 1.0))))
    whole = np.floor(np.where(known, numbers, 0))
    ns = whole.astype(np.int64) * unit + np.round(np.where(known, numbers - whole, 0) * unit).astype(np.int64)
    ns = (ns + good_to // 2) // good_to * good_to
    return pa.array(ns, mask=~known)


def serial_ns(cells: pa.Array, good_to: int) -> pa.Array:
    """Spreadsheet days, rounded to multiples of ``good_to`` ns."""
    ns = _exact_ns(cells, NS["d"]) if not pa.types.is_floating(cells.type) else _float_ns(cells, NS["d"])
    whole = ns.fill_null(0).to_numpy(zero_copy_only=False) + SERIAL_ZERO * NS["d"]
    return pa.array(
        (whole + good_to // 2) // good_to * good_to, mask=ns.is_null().to_numpy(zero_copy_only=False)
    )

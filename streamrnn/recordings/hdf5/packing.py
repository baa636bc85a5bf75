"""Stored numbers -> values, by the conventions of netCDF (CF 1.11, sections 2.5.1 and 8.1).

Everything that says which numbers are none is in stored units, and applied before scaling.
"""

from typing import Any, NamedTuple

import numpy as np

from streamrnn.recordings.hdf5.attributes import Said

# What netCDF-4 writes where nothing was written, unless _FillValue says another number. Of 8 and 16 bits it
# is a number that sensors give, too.
_DEFAULT_FILL = {
    "i4": -2147483647,
    "u4": 4294967295,
    "i8": -9223372036854775806,
    "u8": 18446744073709551614,
    "f4": float(np.float32(9.9692099683868690e36)),
    "f8": 9.9692099683868690e36,
}


class Packing(NamedTuple):
    """How a number is stored."""

    scale: float = 1.0
    offset: float = 0.0
    none: tuple[Any, ...] = ()  # stored numbers that stand for no value
    least: Any = None  # of valid ones
    most: Any = None
    unsigned: bool = False  # whether signed integers stand for unsigned ones

    def unpack(self, raw: np.ndarray) -> np.ndarray:
        """(n,) numbers as float64; NaN where there is no value."""
        if not raw.dtype.isnative:
            raw = raw.astype(raw.dtype.newbyteorder("="))
        if self.unsigned:
            raw = raw.view(raw.dtype.str.replace("i", "u"))
        gone = np.zeros(len(raw), bool)
        for number in self.none:
            gone |= raw == number
        if self.least is not None:
            gone |= raw < self.least
        if self.most is not None:
            gone |= raw > self.most
        values = raw.astype(np.float64)
        if self.scale != 1.0:
            values *= self.scale
        if self.offset != 0.0:
            values += self.offset
        values[gone] = np.nan
        return values


PLAIN = Packing()


def packing_of(said: Said, kind: np.dtype, netcdf: bool) -> Packing:
    """What the attributes of a dataset say; of ``netcdf`` its own number for what was never written, too."""
    if kind.kind not in "iuf":
        return PLAIN
    unsigned = kind.kind == "i" and said.text("_Unsigned").casefold() == "true"
    stored = np.dtype(kind.str.replace("i", "u")) if unsigned else kind
    none = [number for name in ("_FillValue", "missing_value") for number in _numbers(said[name], stored)]
    if netcdf and "_FillValue" not in said:
        fill = _DEFAULT_FILL.get(stored.str.lstrip("<>=|"))
        none += [] if fill is None else [fill]
    least, most = (next(iter(_numbers(said[name], stored)), None) for name in ("valid_min", "valid_max"))
    limits = _numbers(said["valid_range"], stored)
    if len(limits) == 2:
        least, most = limits
    scale, offset = said.number("scale_factor"), said.number("add_offset")
    return Packing(
        1.0 if scale is None else float(scale),
        0.0 if offset is None else float(offset),
        tuple(dict.fromkeys(number for number in none if number == number)),
        least,
        most,
        unsigned,
    )


def _numbers(said: Any, kind: np.dtype) -> list[Any]:
    """Numbers of an attribute as a dataset of a type would store them; none for anything else."""
    array = np.asarray([] if said is None else said).reshape(-1)
    if array.dtype.kind not in "iuf":
        return []
    if kind.kind == "u" and array.dtype.kind == "i":  # -1 is 255 there
        bits = (1 << 8 * kind.itemsize) - 1
        return [int(number) & bits for number in array.tolist()]
    return [float(kind.type(number)) if kind.kind == "f" else number for number in array.tolist()]

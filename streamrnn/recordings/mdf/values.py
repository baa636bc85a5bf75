"""Values of MDF 4 channels: bits of a record to numbers, and numbers to what was measured."""

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrnn.recordings.mdf.blocks import MdfBlocks, MdfChannel
from streamrnn.recordings.stored import Damaged

_CC = struct.Struct("<BBHHHdd")
_MOST_DEEP = 4
_TEXTS, _LONGEST_TEXT = 8, 40  # that are shown
NUMBERS = range(6)  # data types: unsigned, signed, float, each with the low byte first and with the high one
TYPE_NAMES = {
    6: "text",
    7: "text",
    8: "text",
    9: "text",
    10: "bytes",
    11: "a picture or other file",
    12: "a picture or other file",
    13: "a date",
    14: "a time",
    15: "complex",
    16: "complex",
}
_ALL_INVALID, _HAS_INVALID = 1, 2


class Unconvertible(Exception):
    """A channel cannot be converted; its text says why."""


def raw_numbers(records: np.ndarray, begin: int, channel: MdfChannel) -> np.ndarray:
    """A channel's numbers as they are stored, (n,), of (n, bytes) uint8 whose data begin at ``begin``.

    Raises Damaged for a channel that is not in the record.
    """
    first, bits = begin + channel.byte_offset, channel.bits
    size = (channel.bit_offset + bits + 7) // 8
    big = channel.data_type % 2 == 1
    kind = "uif"[channel.data_type // 2]
    if not 1 <= bits <= 64 or size > 8 or first + size > records.shape[1]:
        raise Damaged(f"a channel of {bits} bits at byte {channel.byte_offset}")
    if channel.bit_offset == 0 and bits in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64)):
        dtype = np.dtype(f"{'>' if big else '<'}{kind}{size}")
        return np.ndarray((len(records),), dtype, records, first, (records.strides[0],))
    if kind == "f":
        raise Damaged(f"a float of {bits} bits")
    bytes_ = np.zeros((len(records), 8), np.uint8)
    own = records[:, first : first + size]
    bytes_[:, :size] = own[:, ::-1] if big else own
    numbers = bytes_.view("<u8")[:, 0] >> np.uint64(channel.bit_offset)
    spare = np.uint64(64 - bits)
    numbers = numbers << spare
    return numbers.view("<i8") >> np.int64(64 - bits) if kind == "i" else numbers >> spare


def invalid(records: np.ndarray, begin: int, data_size: int, channel: MdfChannel) -> np.ndarray | None:
    """(n,) bool: samples that the file says are invalid; None = none. Raises Damaged."""
    if channel.flags & _ALL_INVALID:
        return np.ones(len(records), bool)
    if not channel.flags & _HAS_INVALID:
        return None
    at = begin + data_size + channel.invalid_bit // 8
    if at >= records.shape[1]:
        raise Damaged(f"an invalidation bit {channel.invalid_bit} that is not in the record")
    return (records[:, at] >> (channel.invalid_bit % 8)) & 1 == 1


class MdfConversion(NamedTuple):
    """Raw numbers to float64; ``texts`` are the states that numbers stand for, where they stand for some."""

    apply: Callable[[np.ndarray], np.ndarray]
    unit: str
    texts: tuple[str, ...] = ()
    scaled: bool = True


def read_conversion(blocks: MdfBlocks, at: int, whole: bool, depth: int = 0) -> MdfConversion:
    """The conversion at ``at``, 0 is none, of ``whole`` numbers or others.

    Raises Unconvertible for one that gives no numbers, Damaged.
    """
    if not at:
        return MdfConversion(_as_float, "", scaled=False)
    if depth > _MOST_DEEP:
        raise Unconvertible("its conversions refer to others without an end")
    block = blocks.read(at, "CC", links=4, size=_CC.size)
    kind, _, _, references, count, _, _ = _CC.unpack_from(block.data)
    if len(block.data) < _CC.size + 8 * count or len(block.links) < 4 + references:
        raise Damaged("a conversion that is cut")
    p = np.frombuffer(block.data, "<f8", count, _CC.size)
    unit = blocks.text(block.links[1])
    least = {1: 2, 2: 6, 4: 2, 5: 2, 6: 4, 7: 1, 8: 2}.get(kind, 0)
    if count < least:
        raise Damaged("a conversion without its numbers")
    if kind in (7, 8):
        return _states(blocks, kind, p, block.links[4 : 4 + references], unit, whole, depth)
    if kind == 0:
        return MdfConversion(_as_float, unit, scaled=False)
    if kind == 1:
        return MdfConversion(lambda x: x * p[1] + p[0], unit)
    if kind == 2:
        return MdfConversion(lambda x: _ratio(x, p), unit)
    if kind in (4, 5):
        keys, values = p[: count // 2 * 2 : 2], p[1 : count // 2 * 2 : 2]
        if not (np.diff(keys) > 0).all():
            raise Damaged("a conversion by a table that does not rise")
        table = _nearest if kind == 5 else np.interp
        return MdfConversion(lambda x: table(x, keys, values), unit)
    if kind == 6:
        return MdfConversion(lambda x: _of_ranges(x, p, whole), unit)
    what = {
        3: "by a formula, and what a file says is not run",
        9: "of text",
        10: "of text",
        11: "of bits to text",
    }
    raise Unconvertible(f"its conversion is {what.get(kind, 'of an unknown kind')}")


def _as_float(x: np.ndarray) -> np.ndarray:
    return x


def _ratio(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return (p[0] * x * x + p[1] * x + p[2]) / (p[3] * x * x + p[4] * x + p[5])


def _nearest(x: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of the key that is nearest, of two the lower one."""
    above = (
        np.clip(np.searchsorted(keys, x), 1, len(keys) - 1) if len(keys) > 1 else np.zeros(len(x), np.int64)
    )
    below = np.maximum(above - 1, 0)
    found = values[np.where(keys[above] - x < x - keys[below], above, below)]
    return np.where(np.isnan(x), np.nan, found)


def _of_ranges(x: np.ndarray, p: np.ndarray, whole: bool) -> np.ndarray:
    """The value of the first range that holds a number, else the default."""
    found = np.full(len(x), p[-1] if len(p) % 3 == 1 else np.nan)
    for low, high, value in reversed([*zip(p[0:-1:3], p[1:-1:3], p[2::3], strict=False)]):
        found[_within(x, low, high, whole)] = value
    return found


def _within(x: np.ndarray, low: float, high: float, whole: bool) -> np.ndarray:
    """The upper end of a range of whole numbers is in it, that of others only where it is the lower one."""
    return (x >= low) & ((x <= high) if whole or low == high else (x < high))


def _states(
    blocks: MdfBlocks, kind: int, p: np.ndarray, links: tuple[int, ...], unit: str, whole: bool, depth: int
) -> MdfConversion:
    """Numbers that stand for texts stay as they are, unless others of the channel are measurements.

    Then these are converted, and what stands for a text is missing.
    """
    keys = [(low, low) for low in p] if kind == 7 else [*zip(p[0::2], p[1::2], strict=False)]
    if len(links) < len(keys):
        raise Damaged("a conversion to texts that are not there")
    texts, numeric = list[str](), dict[int, MdfConversion]()
    for place, link in enumerate(links[: len(keys) + 1]):
        if link and blocks.head(link)[0] == "CC":
            numeric[place] = read_conversion(blocks, link, whole, depth + 1)
        elif link and place < len(keys) and len(texts) < _TEXTS:
            low, high = keys[place]
            texts.append(
                f"{low:g}{'' if low == high else f' to {high:g}'} = {blocks.text(link)[:_LONGEST_TEXT]}"
            )
    if not numeric:
        return MdfConversion(_as_float, unit, tuple(texts), scaled=False)
    default = numeric.get(len(keys))

    def apply(x: np.ndarray) -> np.ndarray:
        found = np.full(len(x), np.nan) if default is None else default.apply(x)
        found = found.copy() if found is x else found
        for place, (low, high) in reversed([*enumerate(keys)]):
            hit = _within(x, low, high, whole)
            found[hit] = numeric[place].apply(x[hit]) if place in numeric else np.nan
        return found

    inner = next((each.unit for each in numeric.values() if each.unit), "")
    return MdfConversion(apply, unit or inner, tuple(texts))

"""How Python hands a named tuple of arrays to compiled code: the words of all its fields, and their type."""

import functools
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.types.misc import literal

from streamrnn.compiling.bundles import ArrayAt, Bundle
from streamrnn.compiling.known import known_fields

_known_fields: Any = functools.cache(known_fields)
_bundle: Any = functools.cache(Bundle)


class Handed:
    """A named tuple as compiled code takes it: ``kind`` is its type there, ``address`` that of its words.

    ``known``: the type says what is known of its numbers. Good for as long as this and the named tuple are.
    """

    def __init__(self, named_tuple: Any, known: bool = True) -> None:
        words: list[int] = []
        self.kind = _take_apart(named_tuple, words, known)
        self._words = np.array(words, np.uint64)
        self.address = self._words.ctypes.data


def _take_apart(named_tuple: Any, words: list[int], told: bool) -> Bundle:
    """Appends the words of a named tuple. Returns their type, which is ``told`` what is known of them."""
    known = _known_fields(type(named_tuple)) if told else {}
    kinds = list[types.Type]()
    for name, value in zip(named_tuple._fields, named_tuple, strict=True):
        if isinstance(value, tuple):
            kinds.append(_take_apart(value, words, told))
        elif isinstance(value, np.ndarray):
            flags = value.flags
            kinds.append(_array_at(value.dtype, value.ndim, flags.c_contiguous, flags.aligned))
            words += [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
        elif name in known and not (value and known[name]):
            kinds.append(literal(int(value)))
            words.append(0)
        else:
            kind, word = _number(value)
            kinds.append(kind)
            words.append(word)
    return _bundle(type(named_tuple), tuple(kinds))


@functools.cache
def _array_at(dtype: np.dtype, dimensions: int, contiguous: bool, aligned: bool) -> ArrayAt:
    if not contiguous:
        raise TypeError("an array in a named tuple that compiled code takes must be C-contiguous")
    return ArrayAt(types.Array(numba.from_dtype(dtype), dimensions, "C", aligned=aligned))


def _number(value: Any) -> tuple[types.Type, int]:
    if type(value) is int:
        return types.int64, value & 0xFFFF_FFFF_FFFF_FFFF
    kind = numba.typeof(value)
    raw = np.asarray(value).tobytes()
    return kind, int.from_bytes(raw, "little")

"""The types that values have in bytes, by the names that messages and the configuration have for them."""

import numpy as np

from streamrnn.adapters.adapter import Rejected
from streamrnn.adapters.headers import shown

_CODES = {
    **{f"float{8 * size}": f"f{size}" for size in (2, 4, 8)},
    **{f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for size in (1, 2, 4, 8) for sign in ("", "u")},
    "bool": "b1",
}
BY_NAME = {name: np.dtype(f"<{code}") for name, code in _CODES.items()}  # low byte first


def _by_spelling() -> dict[str, np.dtype]:
    """All dtypes that are read, by all of their names: float32, f4, <f4, =f4, >f4, |u1."""
    table = dict(BY_NAME)
    for dtype in BY_NAME.values():
        code = dtype.str[1:]
        table |= {code: dtype, f"<{code}": dtype, f"={code}": dtype}
        table[f">{code}"] = dtype.newbyteorder(">")
        if dtype.itemsize == 1:
            table[f"|{code}"] = dtype
    return table


# never numpy.dtype(text): text from outside can describe structures and objects
DTYPES = _by_spelling()


def dtype_of(said: object) -> np.dtype:
    """The type that a message names. Raises Rejected for any that is not read."""
    dtype = DTYPES.get(said) if isinstance(said, str) else None
    if dtype is None:
        found = "it says no dtype" if said is None else f"its dtype is {shown(said)}"
        raise Rejected("dtype", f"{found}, not float16 to 64, int8 to 64, uint8 to 64 or bool")
    return dtype


def to_float64(content: bytes, dtype: np.dtype) -> np.ndarray:
    """(n,) float64: all values in ``content``, whose length is a multiple of ``dtype``'s; a copy."""
    if dtype.kind == "b":  # any byte may stand for one
        return (np.frombuffer(content, np.uint8) != 0).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        return np.frombuffer(content, dtype).astype(np.float64)

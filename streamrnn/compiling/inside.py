"""Whether the Numba that is installed is one whose inside our shortcuts know.

Parts that are lowered and not compiled, named tuples by address, and types that are asked for once: together
they cut what there is to compile to a third, and none of them changes a bit. With another Numba, or with
STREAMRNN_PLAIN_NUMBA=1, all is compiled as Numba does it.
"""

import os
import re

import numba

OLDEST, NEWEST = (0, 61), (0, 68)  # that the same bits came out of


def is_known(version: str) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return OLDEST <= numbers <= NEWEST


KNOWN = is_known(numba.__version__) and not os.environ.get("STREAMRNN_PLAIN_NUMBA")

"""Whether numbers are finite, sixteen at a time."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, fma, load, splat, total

_ZERO = np.float32(0)


@inlined
def probe(values, at, width, lanes):
    """``lanes`` with NaN in one at least when any of ``width`` values is not finite, or else as they were."""
    for unit in range(at, at + width, LANES):
        lanes = fma(load(values, unit), splat(_ZERO), lanes)
    return lanes


@inlined
def all_finite(values, at, width):
    return total(probe(values, at, width, splat(_ZERO))) == _ZERO

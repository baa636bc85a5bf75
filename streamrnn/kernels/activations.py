"""tanh, the logistic function and their like, sixteen values at a time, within a few last bits of the truth.

Of single IEEE operations, so that their bits are the same on every processor.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, clamp, fill, fma, load, positive, store

LINEAR, TANH, RELU, SIGMOID = range(4)  # what dense layers do with their sums
_f = np.float32
_HALF = _f(0.5)
_CLAMP = _f(7.90531110763549805)  # where the fraction reaches 1, 3e-7 from the true value
_P1, _P3, _P5, _P7, _P9, _P11, _P13 = (
    _f(4.89352455891786e-03),
    _f(6.37261928875436e-04),
    _f(1.48572235717979e-05),
    _f(5.12229709037114e-08),
    _f(-8.60467152213735e-11),
    _f(2.00018790482477e-13),
    _f(-2.76076847742355e-16),
)
_Q0, _Q2, _Q4, _Q6 = (
    _f(4.89352518554385e-03),
    _f(2.26843463243900e-03),
    _f(1.18534705686654e-04),
    _f(1.19825839466702e-06),
)


@inlined
def fraction(x):
    """tanh x as p / q: a rational minimax approximation, the coefficients of Eigen's ``ptanh`` (MPL-2.0).

    Within 3e-7 of the true value everywhere.
    """
    x = clamp(x, -_CLAMP, _CLAMP)
    square = x * x
    p = fma(square, fill(x, _P13), fill(x, _P11))
    p = fma(square, p, fill(x, _P9))
    p = fma(square, p, fill(x, _P7))
    p = fma(square, p, fill(x, _P5))
    p = fma(square, p, fill(x, _P3))
    p = fma(square, p, fill(x, _P1))
    q = fma(square, fill(x, _Q6), fill(x, _Q4))
    q = fma(square, q, fill(x, _Q2))
    q = fma(square, q, fill(x, _Q0))
    return x * p, q


@inlined
def tanh(x):
    p, q = fraction(x)
    return p / q


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2."""
    half = fill(x, _HALF)
    return fma(half, tanh(half * x), half)


@inlined
def gated_tanh(gate, x):
    """sigmoid(gate) * tanh(x), with one division for both: it is the slowest operation of a step."""
    a, b = fraction(fill(x, _HALF) * gate)
    p, q = fraction(x)
    return (a + b) * p / ((b + b) * q)


@inlined
def activate(which, a, at, width, z, to):
    """A dense layer's phi of ``a[at:]``, to ``z[to:]``; ``which`` is LINEAR, TANH, RELU or SIGMOID."""
    for unit in range(0, width, LANES):
        value = load(a, at + unit)
        if which == TANH:
            value = tanh(value)
        elif which == SIGMOID:
            value = sigmoid(value)
        elif which == RELU:
            value = positive(value)
        store(z, to + unit, value)

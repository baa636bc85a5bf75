"""tanh, the logistic function and their like, sixteen values at a time, within a few last bits of the truth.

Of single IEEE operations, so that their bits are the same on every processor.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, clamp, fill, fma, load, nearest, positive, store, times_power_of_2
from streamrnn.model.activations import PLAIN

LINEAR, TANH, RELU, SIGMOID = range(len(PLAIN))  # the first rows of the table of activations
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
_ONE = _f(1)
LEAST_POWER = _f(-87)  # e to it is a normal number
_LOG2_E = _f(1.44269504088896341)
LN2_HIGH, LN2_LOW = (
    _f(0.693359375),
    _f(-2.12194440054690583e-4),
)  # whose sum is ln 2; k times the first is exact
_E2, _E3, _E4, _E5, _E6, _E7 = (
    _f(5.0000001201e-1),
    _f(1.6666665459e-1),
    _f(4.1665795894e-2),
    _f(8.3334519073e-3),
    _f(1.3981999507e-3),
    _f(1.9875691500e-4),
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
def _exp_parts(x):
    """k and e^r - 1, with e^x = 2^k e^r: the polynomial of Cephes' ``expf`` (Moshier 1989)."""
    k = nearest(x * fill(x, _LOG2_E))
    r = fma(k, fill(x, -LN2_HIGH), x)
    r = fma(k, fill(x, -LN2_LOW), r)
    p = fma(r, fill(x, _E7), fill(x, _E6))
    p = fma(r, p, fill(x, _E5))
    p = fma(r, p, fill(x, _E4))
    p = fma(r, p, fill(x, _E3))
    p = fma(r, p, fill(x, _E2))
    return k, fma(r * r, p, r)


@inlined
def exp(x):
    """e^x for x of 0 or less, from -87 down as that: within 1e-7 of the value. 1 for 0, and NaN for NaN."""
    k, less_1 = _exp_parts(clamp(x, LEAST_POWER, _f(0)))
    return times_power_of_2(less_1 + fill(x, _ONE), k)


@inlined
def exp_less_1(x):
    """e^x - 1 for x of 0 or less, all of its digits near 0, too. NaN for NaN."""
    k, less_1 = _exp_parts(clamp(x, LEAST_POWER, _f(0)))
    power = times_power_of_2(fill(x, _ONE), k)
    return fma(power, less_1, power - fill(x, _ONE))


@inlined
def log_1p(u):
    """ln(1 + u) for u of 0 to 1: 2 artanh(s) with s = u / (2 + u), a third at most, by its series."""
    s = u / (u + fill(u, _f(2)))
    square = s * s
    p = fma(square, fill(u, _f(1 / 13)), fill(u, _f(1 / 11)))
    p = fma(square, p, fill(u, _f(1 / 9)))
    p = fma(square, p, fill(u, _f(1 / 7)))
    p = fma(square, p, fill(u, _f(1 / 5)))
    p = fma(square, p, fill(u, _f(1 / 3)))
    p = fma(square, p, fill(u, _ONE))
    return (s + s) * p


@inlined
def log_sigmoid(x):
    """ln(1 / (1 + exp(-x))) = min(x, 0) - ln(1 + exp(-|x|)), within 3e-7 of the value."""
    above, below = positive(x), positive(fill(x, _f(0)) - x)
    u = exp(fill(x, _f(0)) - above - below)
    return fill(x, _f(0)) - below - log_1p(u)


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

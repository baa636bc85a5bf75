"""The cells: from preactivations and old state to new state, sixteen units at a time, one stream.

Every array is flat float32; an index says where a vector of ``width`` (hidden, padded to 16) begins.
"""

import numpy as np

from streamrnn.jit import inlined
from streamrnn.kernels.simd import LANES, clamp, fma, load, positive, splat, store

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
def _fraction(x):
    """tanh x as p / q: a rational minimax approximation, the coefficients of Eigen's ``ptanh`` (MPL-2.0).

    Within 3e-7 of the true value everywhere.
    """
    x = clamp(x, -_CLAMP, _CLAMP)
    square = x * x
    p = fma(square, splat(_P13), splat(_P11))
    p = fma(square, p, splat(_P9))
    p = fma(square, p, splat(_P7))
    p = fma(square, p, splat(_P5))
    p = fma(square, p, splat(_P3))
    p = fma(square, p, splat(_P1))
    q = fma(square, splat(_Q6), splat(_Q4))
    q = fma(square, q, splat(_Q2))
    q = fma(square, q, splat(_Q0))
    return x * p, q


@inlined
def tanh(x):
    p, q = _fraction(x)
    return p / q


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2."""
    half = splat(_HALF)
    return fma(half, tanh(half * x), half)


@inlined
def gated_tanh(gate, x):
    """sigmoid(gate) * tanh(x), with one division for both: it is the slowest operation of a step."""
    a, b = _fraction(splat(_HALF) * gate)
    p, q = _fraction(x)
    return (a + b) * p / ((b + b) * q)


@inlined
def rnn(gates, at, width, rectify, out, h):
    """h' = phi(a), with a = W [x, h] + b and phi tanh, or the rectifier (Elman 1990)."""
    for unit in range(0, width, LANES):
        a = load(gates, at + unit)
        if rectify:
            store(out, h + unit, positive(a))
        else:
            store(out, h + unit, tanh(a))


@inlined
def gru(from_input, from_state, at, width, state, old, new):
    """The GRU of Cho et al. 2014 as cuDNN and PyTorch compute it, reset gate after the product.

    r = sigma(a_r + u_r)   z = sigma(a_z + u_z)   n = tanh(a_n + r * u_n)   h' = (1 - z) * n + z * h
    with a = W x + b in ``from_input`` and u = W h + b in ``from_state``, each [r | z | n].
    """
    for unit in range(0, width, LANES):
        r = sigmoid(load(from_input, at + unit) + load(from_state, at + unit))
        z = sigmoid(load(from_input, at + width + unit) + load(from_state, at + width + unit))
        n = tanh(fma(r, load(from_state, at + 2 * width + unit), load(from_input, at + 2 * width + unit)))
        h = load(state, old + unit)
        store(state, new + unit, fma(z, h - n, n))


@inlined
def lstm(gates, at, width, state, old_c, new_c, new_h):
    """The LSTM of Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.

    c' = sigma(f) * c + sigma(i) * tanh(g)   h' = sigma(o) * tanh(c')

    with the preactivations [i | f | g | o] in ``gates``.
    """
    for unit in range(0, width, LANES):
        i = load(gates, at + unit)
        f = load(gates, at + width + unit)
        g = load(gates, at + 2 * width + unit)
        o = load(gates, at + 3 * width + unit)
        c = fma(sigmoid(f), load(state, old_c + unit), gated_tanh(i, g))
        store(state, new_c + unit, c)
        store(state, new_h + unit, gated_tanh(o, c))

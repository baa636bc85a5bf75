"""The cells: from preactivations and old state to new state, sixteen units at a time, one stream.

Every array is flat float32; an index says where a vector of ``width`` (units, padded to 16) begins. What a
layer gives goes to ``z``, too, where the product after it reads.
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
def _fraction(x):
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
    p, q = _fraction(x)
    return p / q


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2."""
    half = fill(x, _HALF)
    return fma(half, tanh(half * x), half)


@inlined
def gated_tanh(gate, x):
    """sigmoid(gate) * tanh(x), with one division for both: it is the slowest operation of a step."""
    a, b = _fraction(fill(x, _HALF) * gate)
    p, q = _fraction(x)
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


@inlined
def rnn(gates, at, width, rectify, state, new, z, to):
    """h' = phi(a), with a = W [x, h] + b and phi tanh, or the rectifier (Elman 1990)."""
    for unit in range(0, width, LANES):
        h = load(gates, at + unit)
        h = positive(h) if rectify else tanh(h)
        store(state, new + unit, h)
        store(z, to + unit, h)


@inlined
def gru(gates, at, width, state, old, new, z, to):
    """The GRU of Cho et al. 2014 as cuDNN and PyTorch compute it, reset gate after the product.

    r = sigma(a_r + u_r)   z = sigma(a_z + u_z)   n = tanh(a_n + r * u_n)   h' = (1 - z) * n + z * h
    with a = W x + b and u = W h + b, in ``gates`` as [a_r | a_z | a_n | u_r | u_z | u_n].
    """
    from_state = at + 3 * width
    for unit in range(0, width, LANES):
        r = sigmoid(load(gates, at + unit) + load(gates, from_state + unit))
        keep = sigmoid(load(gates, at + width + unit) + load(gates, from_state + width + unit))
        n = tanh(fma(r, load(gates, from_state + 2 * width + unit), load(gates, at + 2 * width + unit)))
        h = load(state, old + unit)
        h = fma(keep, h - n, n)
        store(state, new + unit, h)
        store(z, to + unit, h)


@inlined
def reset_state(gates, at, width, state, old, z, to):
    """r * h, with r = sigma(a) of ``gates[at:]``, to ``z[to:]``: all that the candidate state sees of h."""
    for unit in range(0, width, LANES):
        store(z, to + unit, sigmoid(load(gates, at + unit)) * load(state, old + unit))


@inlined
def gru_reset_before(gates, at, width, state, old, new, z, to):
    """The GRU of Cho et al. 2014 as written, its reset gate before the product: see ``reset_state``.

    z = sigma(a_z)   n = tanh(a_n)   h' = (1 - z) * n + z * h
    with a_z = W [x, h] + b and a_n = W [x, r * h] + b, in ``gates`` as [a_r | a_z | a_n].
    """
    for unit in range(0, width, LANES):
        keep = sigmoid(load(gates, at + width + unit))
        n = tanh(load(gates, at + 2 * width + unit))
        h = load(state, old + unit)
        h = fma(keep, h - n, n)
        store(state, new + unit, h)
        store(z, to + unit, h)


@inlined
def lstm(gates, at, width, state, old_c, new_c, new_h, z, to):
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
        h = gated_tanh(o, c)
        store(state, new_c + unit, c)
        store(state, new_h + unit, h)
        store(z, to + unit, h)

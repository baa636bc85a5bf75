"""The cells: from preactivations and old state to new state, sixteen units at a time, one stream.

Every array is flat float32; an index says where a vector of ``width`` (units, padded to 16) begins. ``old``
and ``new`` are where a layer's hidden state does in the old and in the new record; each further state of
its cell follows ``apart`` elements behind the one before. What a layer gives goes to ``z``, too, where the
product after it reads.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.activations import exp, fraction, gated_tanh, log_sigmoid, sigmoid, tanh
from streamrnn.kernels.simd import LANES, beyond, clamp, fill, fma, larger, load, positive, splat, store
from streamrnn.model.cells import code_of

LSTM, SLSTM, GRU, RNN_RELU = code_of("lstm"), code_of("slstm"), code_of("gru"), code_of("rnn", "relu")
GRU_RESET_BEFORE = code_of("gru", reset="before")
ANY = -1  # that of a network whose layers differ, or are of none of these
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NEVER = np.float32(-1e30)  # the logarithm of next to nothing
CAP = np.float32(15)  # of the input gate's preactivation: what one wild row weighs must fade before long
KEPT = np.float32(-(2.0**-16))  # the forget gate's logarithm, at most: a mean of more rows rounds them away


@inlined
def new_state(net, which, gates, at, width, state, old, new, apart, z, to):
    """The new state of a layer of the network's cell, from its preactivations and its old state.

    Of cell ``which`` in a network of ANY.
    """
    cell = which if net.cell == ANY else net.cell
    if cell == LSTM:
        lstm(gates, at, width, state, old, new, apart, z, to)
    elif cell == GRU:
        gru(gates, at, width, state, old, new, z, to)
    elif cell == GRU_RESET_BEFORE:
        gru_reset_before(gates, at, width, state, old, new, z, to)
    elif cell == SLSTM:
        slstm(gates, at, width, state, old, new, apart, z, to)
    else:
        rnn(gates, at, width, cell == RNN_RELU, state, new, z, to)


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
        a = fma(r, load(gates, from_state + 2 * width + unit), load(gates, at + 2 * width + unit))
        store(gates, at + 2 * width + unit, a)
    for unit in range(0, width, LANES):  # apart, so that what waits for r holds no other work up
        keep = sigmoid(load(gates, at + width + unit) + load(gates, from_state + width + unit))
        n = tanh(load(gates, at + 2 * width + unit))
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
def lstm(gates, at, width, state, old, new, apart, z, to):
    """The LSTM of Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.

    c' = sigma(f) * c + sigma(i) * tanh(g)   h' = sigma(o) * tanh(c')

    with the preactivations [i | f | g | o] in ``gates``.
    """
    for unit in range(0, width, LANES):
        i = load(gates, at + unit)
        f = load(gates, at + width + unit)
        g = load(gates, at + 2 * width + unit)
        c = fma(sigmoid(f), load(state, old + apart + unit), gated_tanh(i, g))
        store(state, new + apart + unit, c)
    for unit in range(0, width, LANES):  # apart, so that what waits for c holds no other work up
        h = gated_tanh(load(gates, at + 3 * width + unit), load(state, new + apart + unit))
        store(state, new + unit, h)
        store(z, to + unit, h)


@inlined
def exponential_gates(a_i, a_f, n, m):
    """i and f of an sLSTM, relative to the new stabiliser; that; and ln sigma(a_f).

    i = exp(a_i - m')   f = exp(ln sigma(a_f) + m - m')   m' = max(ln sigma(a_f) + m, a_i)

    One of i and f is 1 and neither is more. While ``n`` is 0 there is nothing to keep, whatever m is. ``a_i``
    and ln sigma(a_f) are held within what a stream without end can bear.
    """
    ones = fill(a_i, _ONE)
    a_i = clamp(a_i, -CAP, CAP)
    opened = clamp(log_sigmoid(a_f), _NEVER, KEPT)
    kept = fma(ones - beyond(n, _ZERO), fill(a_i, _NEVER), opened + m)
    new_m = larger(kept, a_i)
    return exp(a_i - new_m), exp(kept - new_m), new_m, opened


@inlined
def slstm(gates, at, width, state, old, new, apart, z, to):
    """The sLSTM of Beck et al. 2024 (xLSTM, section 2.2), its forget gate sigma as in their code.

    c' = f * c + i * tanh(g)   n' = f * n + i   h' = sigma(o) * c' / n'

    with the preactivations [i | f | g | o] in ``gates``, i and f by ``exponential_gates``, so that nothing
    overflows and n' is 1 or more. With exp for the forget gate, too, which they allow, m would grow without
    end; and without a cap, as later networks of theirs have one (xLSTM 7B, Beck et al. 2025, a soft one), a
    row far off would leave a stream that hears nothing more.
    """
    for unit in range(0, width, LANES):
        old_c, old_n = load(state, old + apart + unit), load(state, old + 2 * apart + unit)
        i, f, m, _ = exponential_gates(
            load(gates, at + unit), load(gates, at + width + unit), old_n, load(state, old + 3 * apart + unit)
        )
        c = fma(f, old_c, i * tanh(load(gates, at + 2 * width + unit)))
        n = fma(f, old_n, i)
        p, q = fraction(splat(_HALF) * load(gates, at + 3 * width + unit))
        # what c and n are rounded by, over many rows, may differ
        h = clamp((p + q) * c / ((q + q) * n), -_ONE, _ONE)
        store(state, new + apart + unit, c)
        store(state, new + 2 * apart + unit, n)
        store(state, new + 3 * apart + unit, m)
        store(state, new + unit, h)
        store(z, to + unit, h)

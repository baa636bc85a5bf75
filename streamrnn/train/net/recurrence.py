"""One recurrent layer over a chunk of time, forwards and backwards: what of training is compiled.

Everything that can wait until the chunk is through (gradients of weights, of a layer's inputs) is left to
NumPy's matrix products. What is here must go step by step: the product with the hidden state, the
gates, and their derivatives. Arrays are flat, float32 or float64; a step handles ``lanes`` sequences at once,
a multiple of ROWS. Hidden units are padded to ``width``, a multiple of sixteen; a unit of zero weights
has a hidden state of zero, and no gradient.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.activations import exp, sigmoid, tanh
from streamrnn.kernels.affine import GROUP, TILES
from streamrnn.kernels.cells import CAP, GRU, KEPT, LSTM, RNN_RELU, SLSTM, exponential_gates
from streamrnn.kernels.simd import (
    LANES,
    beyond,
    fill,
    fma,
    load,
    positive,
    store,
)
from streamrnn.kernels.tiles import tile_fma, tile_load, tile_store

ROWS = 16  # lanes are a multiple of it on every processor, so that what is learned does not depend on that
# Sixteen accumulators of 512 bits leave room in the registers of AVX-512; elsewhere four, of two or four.
_AT_ONCE = ROWS if TILES[6] == GROUP else 4
_ONE = np.float32(1)
_ZERO = np.float32(0)
_LEAST = np.float32(1e-25)  # a gradient below is none: what vanishes would be denormal, and slow, for long


class Unrolled(NamedTuple):
    """A layer unrolled over T steps of B lanes, W units (padded) and I inputs: what is kept for the way back.

    Preactivations and gates are in blocks of sixteen units, all gates of a block side by side, and behind
    them the recurrent parts of those that the table of cells says are apart, as of a GRU's candidate.
    """

    inputs: int  # I
    width: int  # W
    blocks: int  # of preactivations of a unit
    memories: int  # M: states of a unit beside the hidden one; room for one where it has none
    lanes: int  # B
    steps: int  # T
    z: np.ndarray  # (T + 1, B, I + W + 1): [input | hidden state before the step | 1]
    gates: np.ndarray  # (T, B, blocks * W): what the gates let through; after `backward`, dL/d(preactivation)
    memory: np.ndarray  # (T + 1, B, M, W): these states, the first ones before the chunk
    kept: np.ndarray  # (T, B, W): what the way back needs beside: tanh(c), or of an sLSTM 1 - sigma(a_f)
    h: np.ndarray  # (T, B, W): hidden states, the layer's outputs
    begins: np.ndarray  # (T, B) uint8: 1 = a sequence begins here, from a state of zeros
    zeros: np.ndarray  # (16,)


@inlined
def _product(w, at, z, first, stride, count, zeros, out, to, out_stride):
    """out[r] = W z[r] for _AT_ONCE rows of z and sixteen rows of W, packed [count][16] from ``at`` on."""
    tile = tile_load(zeros, 0, 1, _AT_ONCE)
    for k in range(count):
        tile = tile_fma(tile, w, at + k * LANES, z, first + k, stride)
    tile_store(tile, out, to, out_stride)


@inlined
def _lstm(unrolled, at, unit, memory, before):
    """From preactivations at ``gates[at:]`` to gates, and the new states of sixteen units at ``unit``.

    Their further states are at ``memory``; ``before`` is 0 where a sequence begins, or else 1. Returns h.
    """
    gates, one = unrolled.gates, LANES
    i = sigmoid(load(gates, at))
    f = sigmoid(load(gates, at + one))
    g = tanh(load(gates, at + 2 * one))
    o = sigmoid(load(gates, at + 3 * one))
    c = fma(f, load(unrolled.memory, memory) * fill(f, before), i * g)
    squashed = tanh(c)
    store(gates, at, i)
    store(gates, at + one, f)
    store(gates, at + 2 * one, g)
    store(gates, at + 3 * one, o)
    store(unrolled.memory, memory + unrolled.lanes * unrolled.width, c)
    store(unrolled.kept, unit, squashed)
    return o * squashed


@inlined
def _slstm(unrolled, at, unit, memory, before):
    """The same of an sLSTM; i and f with the stabiliser in them."""
    gates, width = unrolled.gates, unrolled.width
    g, o = tanh(load(gates, at + 2 * LANES)), sigmoid(load(gates, at + 3 * LANES))
    here = fill(g, before)
    old_c, old_n = here * load(unrolled.memory, memory), here * load(unrolled.memory, memory + width)
    old_m = here * load(unrolled.memory, memory + 2 * width)
    i, f, m, opened = exponential_gates(load(gates, at), load(gates, at + LANES), old_n, old_m)
    c, n = fma(f, old_c, i * g), fma(f, old_n, i)
    store(gates, at, i)
    store(gates, at + LANES, f)
    store(gates, at + 2 * LANES, g)
    store(gates, at + 3 * LANES, o)
    new = memory + unrolled.lanes * unrolled.memories * width
    store(unrolled.memory, new, c)
    store(unrolled.memory, new + width, n)
    store(unrolled.memory, new + 2 * width, m)
    within = beyond(opened - fill(g, KEPT), _ZERO)  # 0 where ln f is held
    store(unrolled.kept, unit, (fill(g, _ONE) - exp(opened)) * within)
    return o * c / n


@inlined
def _gru(unrolled, at, h):
    """The same of a GRU, ``h`` its state before."""
    gates, one = unrolled.gates, LANES
    r = sigmoid(load(gates, at))
    z = sigmoid(load(gates, at + one))
    n = tanh(fma(r, load(gates, at + 3 * one), load(gates, at + 2 * one)))
    store(gates, at, r)
    store(gates, at + one, z)
    store(gates, at + 2 * one, n)
    return fma(z, h - n, n)


@compiled
def forward(cell, unrolled, w):
    """All steps. ``unrolled.z`` has its inputs and ones, and the hidden state before the first step.

    ``w`` holds the layer's weights packed [W / 16][gates][I + W + 1][16].
    """
    z, gates, h = unrolled.z, unrolled.gates, unrolled.h
    inputs, width, lanes = unrolled.inputs, unrolled.width, unrolled.lanes
    count = unrolled.blocks
    stride, row_gates = inputs + width + 1, count * width
    for step in range(unrolled.steps):
        for lane in range(lanes):
            if unrolled.begins[step * lanes + lane] == 1:
                first = (step * lanes + lane) * stride + inputs
                for unit in range(width):
                    z[first + unit] = 0
        for block in range(width // LANES):
            for low in range(step * lanes, (step + 1) * lanes, _AT_ONCE):
                for gate in range(count):
                    _product(
                        w,
                        (block * count + gate) * stride * LANES,
                        z,
                        low * stride,
                        stride,
                        stride,
                        unrolled.zeros,
                        gates,
                        low * row_gates + (block * count + gate) * LANES,
                        row_gates,
                    )
                for row in range(low, low + _AT_ONCE):
                    at, unit = row * row_gates + block * count * LANES, row * width + block * LANES
                    here = row * stride + inputs + block * LANES
                    memory = row * unrolled.memories * width + block * LANES
                    before = _ZERO if unrolled.begins[row] == 1 else _ONE
                    if cell == LSTM:
                        new = _lstm(unrolled, at, unit, memory, before)
                    elif cell == SLSTM:
                        new = _slstm(unrolled, at, unit, memory, before)
                    elif cell == GRU:
                        new = _gru(unrolled, at, load(z, here))
                    elif cell == RNN_RELU:
                        new = positive(load(gates, at))
                    else:
                        new = tanh(load(gates, at))
                    store(h, unit, new)
                    store(z, here + lanes * stride, new)


@inlined
def _lstm_back(unrolled, at, unit, memory, dh, d_memory, here, before):
    """dL/d(preactivation) over the gates of sixteen units; dL/dc of the step before, at ``here``."""
    gates, one = unrolled.gates, LANES
    i, f = load(gates, at), load(gates, at + one)
    g, o = load(gates, at + 2 * one), load(gates, at + 3 * one)
    squashed = load(unrolled.kept, unit)
    ones, kept = fill(i, _ONE), fill(i, before)
    d_cell = fma(dh * o, ones - squashed * squashed, load(d_memory, here))
    d_cell = d_cell * beyond(d_cell, _LEAST)
    store(gates, at, d_cell * g * i * (ones - i))
    store(gates, at + one, d_cell * load(unrolled.memory, memory) * kept * f * (ones - f))
    store(gates, at + 2 * one, d_cell * i * (ones - g * g))
    store(gates, at + 3 * one, dh * squashed * o * (ones - o))
    store(d_memory, here, d_cell * f * kept)


@inlined
def _slstm_back(unrolled, at, unit, memory, dh, d_memory, here, before):
    """The same of an sLSTM. Whatever m is, h is the same, so that m counts as a constant."""
    gates, width = unrolled.gates, unrolled.width
    i, f = load(gates, at), load(gates, at + LANES)
    g, o = load(gates, at + 2 * LANES), load(gates, at + 3 * LANES)
    ones, kept = fill(i, _ONE), fill(i, before)
    new = memory + unrolled.lanes * unrolled.memories * width
    n = load(unrolled.memory, new + width)
    mean = load(unrolled.memory, new) / n
    d_mean = dh * o / n
    dc = d_mean + load(d_memory, here)
    dn = load(d_memory, here + width) - d_mean * mean
    dc, dn = dc * beyond(dc, _LEAST), dn * beyond(dn, _LEAST)
    m, cap = load(unrolled.memory, new + 2 * width), fill(i, CAP)
    within = beyond(cap - m, _ZERO) * beyond(i - exp(fill(i, -CAP) - m), _ZERO)  # 0 where a_i was held
    old_c, old_n = load(unrolled.memory, memory), load(unrolled.memory, memory + width)
    store(gates, at, (dc * g + dn) * i * within)
    store(gates, at + LANES, (dc * old_c + dn * old_n) * kept * f * load(unrolled.kept, unit))
    store(gates, at + 2 * LANES, dc * i * (ones - g * g))
    store(gates, at + 3 * LANES, dh * mean * o * (ones - o))
    store(d_memory, here, dc * f * kept)
    store(d_memory, here + width, dn * f * kept)


@inlined
def _gru_back(unrolled, at, h, dh):
    """The same of a GRU. Returns what of dL/dh goes to the state before, ``h``, past the gates."""
    gates, one = unrolled.gates, LANES
    r, z = load(gates, at), load(gates, at + one)
    n, u = load(gates, at + 2 * one), load(gates, at + 3 * one)
    ones = fill(r, _ONE)
    dn = dh * (ones - z) * (ones - n * n)
    store(gates, at, dn * u * r * (ones - r))
    store(gates, at + one, dh * (h - n) * z * (ones - z))
    store(gates, at + 2 * one, dn)
    store(gates, at + 3 * one, dn * r)
    return dh * z


@compiled
def backward(cell, unrolled, w_back, dh, carry, d_memory):
    """From dL/dh, (T, B, W), to dL/d(preactivation), in place of the gates. Changes ``carry``, ``d_memory``.

    ``w_back`` holds the recurrent weights packed [W / 16][gates * W][16], to go back through; ``carry``,
    (B, W), and ``d_memory``, (B, M, W), are dL/dh and that of the further states that come from after the
    chunk, zeros where it is cut, and leave as those of the state before it. A GRU, which has no further
    state, keeps there what goes past its gates.
    """
    z, gates = unrolled.z, unrolled.gates
    inputs, width, lanes = unrolled.inputs, unrolled.width, unrolled.lanes
    count = unrolled.blocks
    stride, row_gates = inputs + width + 1, count * width
    for step in range(unrolled.steps - 1, -1, -1):
        for lane in range(lanes):
            row = step * lanes + lane
            before = _ZERO if unrolled.begins[row] == 1 else _ONE
            for block in range(width // LANES):
                at, unit = row * row_gates + block * count * LANES, row * width + block * LANES
                memory = row * unrolled.memories * width + block * LANES
                here = lane * unrolled.memories * width + block * LANES
                state = row * stride + inputs + block * LANES
                d = load(dh, unit) + load(carry, lane * width + block * LANES)
                d = d * beyond(d, _LEAST)
                if cell == LSTM:
                    _lstm_back(unrolled, at, unit, memory, d, d_memory, here, before)
                elif cell == SLSTM:
                    _slstm_back(unrolled, at, unit, memory, d, d_memory, here, before)
                elif cell == GRU:
                    store(d_memory, here, _gru_back(unrolled, at, load(z, state), d))
                else:
                    h = load(unrolled.h, unit)
                    if cell == RNN_RELU:
                        store(gates, at, d * beyond(h, _ZERO))
                    else:
                        store(gates, at, d * (fill(h, _ONE) - h * h))
        for block in range(width // LANES):
            for low in range(0, lanes, _AT_ONCE):
                _product(
                    w_back,
                    block * row_gates * LANES,
                    gates,
                    (step * lanes + low) * row_gates,
                    row_gates,
                    row_gates,
                    unrolled.zeros,
                    carry,
                    low * width + block * LANES,
                    width,
                )
        for lane in range(lanes):
            begins = unrolled.begins[step * lanes + lane] == 1
            for unit in range(lane * width, (lane + 1) * width, LANES):
                if begins:
                    store(carry, unit, fill(load(carry, unit), _ZERO))
                elif cell == GRU:
                    store(carry, unit, load(carry, unit) + load(d_memory, unit))

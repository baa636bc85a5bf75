"""Bands of a rollout kept to their share, by what became of the rollouts before.

To first order errors add up as ``Bands.growth`` says, but networks are not linear, nor are errors of
different rows strangers to each other. So for some rows ahead, the leads, a rollout is remembered until the
row comes that it forecast so far ahead. Then, output by output and band by band, a factor f on how far the
band goes is moved as q is in ``bands``, by larger steps, as there are fewer of these. A row between leads has
a factor between theirs, by the logarithms of both. One rollout at a time is waited for at each lead; a gap,
or a sequence that ends, forgets it.
"""

import math

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.finite import filled, given
from streamrnn.kernels.network import copy
from streamrnn.kernels.simd import LANES, beyond, clamp, fma, load, positive, splat, store
from streamrnn.streams.bands import FARTHEST, LEADS, MOST_BANDS, grow, reach_of

# Of each lead, vectors of ``Network.out_width``: what was forecast, how far each band was told to go, in the
# model's standard deviations, 0 = it was not; and ln f of each.
FORECAST, REACH = range(2)
FACTOR = REACH + MOST_BANDS
LEAD_VECTORS = FACTOR + MOST_BANDS
BEHIND = 16  # words of zeros behind them, so that records of no two settings are of one length

FIRST_LEAP, LEAST_LEAP = np.float32(0.3), np.float32(0.1)
_PER_ROLLOUT = np.float32(1 / 10)  # after so many it is half of the first
MOST_ROLLOUTS = np.float32(2.0**20)  # counted

_ZERO, _ONE = np.float32(0), np.float32(1)


def ahead_words(outputs: int) -> int:
    """float32 words that this takes in a record; a multiple of 16."""
    return LEADS * LEAD_VECTORS * packed_rows(outputs) + BEHIND


@inlined
def ahead_size(net):
    """The same, for compiled code."""
    return LEADS * LEAD_VECTORS * net.out_width + BEHIND


@inlined
def learn_ahead(net, bands, state, waits, counts, old, new, values, row_at):
    """What the row ``values[row_at:]`` says of rollouts, from the part at ``state[old:]`` to ``state[new:]``.

    ``waits`` and ``counts`` are words of ``state``, LEADS each: how many rows are to come until the one that
    a lead waits for, 0 = it waits for none, and how many have come. They are changed where they stand.
    """
    width = net.out_width
    for lead in range(LEADS):
        before, after = old + lead * LEAD_VECTORS * width, new + lead * LEAD_VECTORS * width
        copy(state, after, state, before, LEAD_VECTORS * width)
        left = state[waits + lead]
        state[waits + lead] = max(left - _ONE, _ZERO)
        if left != _ONE:
            continue
        leap = max(LEAST_LEAP, FIRST_LEAP / (_ONE + state[counts + lead] * _PER_ROLLOUT))
        state[counts + lead] = min(state[counts + lead] + _ONE, MOST_ROLLOUTS)
        for unit in range(0, width, LANES):
            value, forecast = load(values, row_at + unit), load(state, after + FORECAST * width + unit)
            error = (filled(value, forecast) - forecast) * load(net.out_scale, unit)
            size = positive(error) + positive(splat(_ZERO) - error)
            for band in range(bands.number):
                reach = load(state, after + (REACH + band) * width + unit)
                step = given(value) * beyond(reach, _ZERO) * splat(leap)
                missed = beyond(positive(size - reach), _ZERO)
                at = after + (FACTOR + band) * width + unit
                moved = fma(step, missed - splat(_ONE - bands.levels[band]), load(state, at))
                store(state, at, clamp(moved, -FARTHEST, FARTHEST))


@inlined
def look_ahead(net, bands, state, spread_at, quantiles_at, ahead_at, step):
    """What bands of row ``step`` of a rollout are made of, to ``bands.work``: spreads, and then ln q f."""
    width = net.out_width
    grow(net, bands, state, spread_at, step)
    for band in range(bands.number):
        for unit in range(0, width, LANES):
            log = load(state, quantiles_at + band * width + unit)
            for lead in range(LEADS):
                at = ahead_at + (lead * LEAD_VECTORS + FACTOR + band) * width + unit
                log = fma(splat(bands.weights[step * LEADS + lead]), load(state, at), log)
            store(bands.work, (1 + band) * width + unit, log)


@inlined
def remember_ahead(net, bands, state, spread_at, quantiles_at, waits, ahead_at, values, first):
    """Has the leads that wait for nothing wait for the rollout ``values[first:]``, a vector a row.

    ``waits`` and ``ahead_at`` are as in ``learn_ahead``.
    """
    width = net.out_width
    for lead in range(LEADS):
        rows = bands.leads[lead]
        if rows == 0 or state[waits + lead] != _ZERO:
            continue
        state[waits + lead] = np.float32(rows)
        at = ahead_at + lead * LEAD_VECTORS * width
        look_ahead(net, bands, state, spread_at, quantiles_at, ahead_at, rows - 1)
        copy(state, at + FORECAST * width, values, first + (rows - 1) * width, width)
        for unit in range(0, width, LANES):
            spread, reach = load(bands.work, unit), splat(_ZERO)
            for band in range(bands.number):
                reach = reach_of(bands.work, (1 + band) * width + unit, spread, reach)
                store(state, at + (REACH + band) * width + unit, reach)


@inlined
def any_lead_free(bands, state, waits):
    """Whether a lead waits for no rollout."""
    free = False
    for lead in range(LEADS):
        free = free or (bands.leads[lead] > 0 and state[waits + lead] == _ZERO)
    return free


@inlined
def possible_ahead(net, state, waits, counts, at):
    """Whether rows can lead to such a part, all of it finite."""
    good = True
    for lead in range(LEADS):
        good = good and 0 <= state[waits + lead] < 65536 and 0 <= state[counts + lead] <= MOST_ROLLOUTS
        begin = at + lead * LEAD_VECTORS * net.out_width
        for word in range(begin + REACH * net.out_width, begin + FACTOR * net.out_width):
            good = good and state[word] >= 0
        for word in range(begin + FACTOR * net.out_width, begin + LEAD_VECTORS * net.out_width):
            good = good and abs(state[word]) <= FARTHEST
    return good


def leads_of(rows: int) -> list[int]:
    """Up to LEADS rows ahead of a rollout of so many, by even steps of their logarithms up to its last."""
    found = {round(rows ** ((lead + 1) / LEADS)) for lead in range(LEADS)}
    return sorted(found - {0, 1})


def lead_weights(rows: int) -> np.ndarray:
    """How much each lead's ln f has in that of each row of a rollout, (rows, LEADS) float32.

    That of the first row is 0.
    """
    leads = leads_of(rows)
    weights = np.zeros((rows, LEADS), np.float32)
    logs = [0.0, *map(math.log, leads)]
    for lead in range(len(leads)):
        heights = np.arange(len(logs)) == lead + 1
        weights[:, lead] = np.interp(np.log(np.arange(1, rows + 1)), logs, heights.astype(float))
    return weights

"""What an operator's verdict on an event does to its stream: taken as usual, or taken back and held.

As an event begins, what the score knew before is kept beside the slots until the next one of the stream does:
its levels, and each channel's statistics. So a long fault that has been learned can be taken back, and one
that is taken as usual does not leave the score blind by what it made of the levels meanwhile.
"""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.network import copy
from streamrnn.streams.commit import commit, seal
from streamrnn.streams.holding import BY_HAND, FREE, UNTIL_OVER, keep_learned
from streamrnn.streams.record import HOLD
from streamrnn.streams.score_part import (
    APART,
    COUNT,
    DEVIATION,
    LATEST,
    LEAST_SPREAD,
    LONGEST,
    MEAN,
    MOST,
    OF_INSTANT,
    OF_RUN,
    ROWS,
    RUN,
    SCALARS,
    SIZE,
    SPREAD,
    USUAL,
    WEIGHTED,
)
from streamrnn.streams.slots import record, work_records

NORMAL, REAL, UNDO = range(3)  # what a verdict does

# A channel is apart where its weighted mean is so many of its deviations off, or its size of its own; what it
# is taken to be then counts as so many rows, so that plain averages put it right soon.
_APART, _AS_ROWS = 3.0, 100.0
_BOUNDED = 8.0  # deviations: a weighted mean beyond them may be any, as a row moves it by ten at most
_OF_DEVIATION = 0.8  # the mean size of a normal variable
_LEAST_USUAL = 2.0**-13
_ZERO = np.float32(0)


@inlined
def remember(slots, slot, old, seq):
    """Keeps what the score knows by the record at word ``old``, before the row ``seq`` begins an event."""
    size = slots.adapt_at - slots.score_at
    copy(slots.before, slot * size, slots.state, old + slots.score_at, size)
    slots.notes[slot].began = seq
    slots.notes[slot].began_of = slots.notes[slot].id_check


@inlined
def _knows(slots, slot):
    return slots.notes[slot].began_of == slots.notes[slot].id_check


@inlined
def _take_channel(net, known, base, state, at, output):
    """Takes what a channel shows now as usual, if that is apart from what was known of it before.

    ``known[base:]`` and ``state[at:]`` are where the values of its vectors begin.
    """
    width = net.score_width
    spread = max(np.float64(known[base + SPREAD * width]), LEAST_SPREAD)
    usual = max(np.float64(known[base + USUAL * width]), _LEAST_USUAL)
    deviation, weighted = np.float64(state[at + DEVIATION * width]), np.float64(state[at + WEIGHTED * width])
    mean, size = np.float64(state[at + MEAN * width]), np.float64(state[at + SIZE * width])
    if abs(weighted) >= _BOUNDED * deviation:
        weighted = np.float64(state[at + LATEST * width]) * deviation
    centre = mean + weighted
    noise = size if abs(weighted) < 0.5 * size else usual
    shifted = abs(centre - np.float64(known[base + MEAN * width])) > _APART * spread
    apart = np.sqrt(np.sqrt(max(np.float64(known[base + APART * width]), 1e-3)))
    resized = abs(noise / usual - 1.0) > _APART * apart
    if net.switches[output] != _ZERO:
        noise = max(size, usual)
        resized = noise / usual - 1.0 > _APART * apart
    if shifted or resized:
        more = max(noise / usual, 1.0)
        state[at + MEAN * width] = centre
        state[at + WEIGHTED * width] = _ZERO
        state[at + DEVIATION * width] = min(np.float64(known[base + DEVIATION * width]) * more, MOST)
        state[at + SPREAD * width] = min(spread * more, MOST)
        state[at + SIZE * width] = state[at + USUAL * width] = min(noise, MOST)
        state[at + APART * width] = known[base + APART * width]
        state[at + COUNT * width] = min(np.float64(state[at + COUNT * width]), _AS_ROWS)
    if np.float64(state[at + RUN * width]) * net.run_scale[output] > 1.0:
        state[at + RUN * width] = -LONGEST  # counts no more until the channel says something else


@inlined
def _take_as_usual(net, slots, slot, at):
    """Has the score's part at word ``at`` of the state take what the stream shows now as usual."""
    state = slots.state
    before, base = slots.before, slot * (slots.adapt_at - slots.score_at)
    if _knows(slots, slot):
        for word in range(ROWS):
            state[at + word] = before[base + word]
    else:
        before, base = state, at
    for output in range(net.outputs):
        _take_channel(net, before, base + SCALARS + output, state, at + SCALARS + output, output)
    for way in range(OF_INSTANT, OF_RUN + 1):  # or all would be learned slower
        state[at + way] = _ZERO


@inlined
def _take_back(net, slots, slot, at):
    """Has the score's part at word ``at`` of the state know what it did before the event began."""
    state, width = slots.state, net.score_width
    size = slots.adapt_at - slots.score_at
    for unit in range(at + SCALARS, at + SCALARS + net.outputs):
        was = slots.before[slot * size + unit - at + MEAN * width]
        moved = state[unit + MEAN * width] - was  # what was taken into the mean stands out again
        state[unit + WEIGHTED * width] = min(max(state[unit + WEIGHTED * width] + moved, -MOST), MOST)
    keep_learned(net, slots.before, slot * size, state, at)


@compiled
def judge(net, slots, slot, verdict, since):
    """Commits a copy of a stream's record as a verdict has it: NORMAL, REAL or UNDO. Returns HOLD then, and
    whether something was taken back.

    ``since`` is the number of the row that the event began with, -1 for none; what was known before is of use
    only where it is of that event. Nothing may step the stream meanwhile.
    """
    work, at = work_records(slots), record(slots, slot)
    hold = slots.state_32[at + HOLD]
    knows = _knows(slots, slot) and slots.notes[slot].began == np.uint64(since)
    copy(slots.state, work, slots.state, at, slots.past_at)
    if net.forecasts == 1 and verdict == NORMAL:
        _take_as_usual(net, slots, slot, work + slots.score_at)
    if net.forecasts == 1 and verdict == REAL and knows:
        _take_back(net, slots, slot, work + slots.score_at)
    if hold != BY_HAND:
        hold = UNTIL_OVER if verdict == REAL else FREE
    slots.state_32[work + HOLD] = hold
    seal(slots, slot, work, slots.notes[slot].received, False)
    commit(slots, slot, work)
    return hold, knows

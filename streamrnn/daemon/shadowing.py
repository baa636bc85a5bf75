"""What the pump does for a shadow: a second model takes the rows of each batch behind the first. Compiled.

Its steps begin when the predictions of the batch have left, and nothing of it is published. It has slots and
rules of its own, so it is where a daemon of its own would be, that got these rows from the start.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload

from streamrnn.compiling.calls import NOBODY, call
from streamrnn.compiling.inside import KNOWN
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.daemon.comparing import SideBySide, compare, note_events, note_scores
from streamrnn.daemon.idle import IDLE, next_silent
from streamrnn.engine.advance import Core, advance, slot_for, stage
from streamrnn.kernels.network import copy
from streamrnn.stats import PREDICTED, STREAMS
from streamrnn.streams.batch import ROWS
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import id_length, is_of, record, release
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import address_of, prefetch

HAND_OVER, FOLLOW, SWEEP = range(3)  # what is to be done for the shadow
_AHEAD = 8  # rows


class Beside(NamedTuple):
    """Two models and what stands between them."""

    first: Core
    shadow: Core
    found: SideBySide
    forecasting: int  # 1 where both forecast the channels, so that they can be compared
    outputs: int  # channels that both forecast
    width: int  # of these in a record, padded
    idle_ns: int  # as of the pump
    swept: np.ndarray  # (1,) int64: the next slot to sweep
    # of the rows of the batch
    came: np.ndarray  # (ROWS * in_width,) float32: their values before anything was filled in
    last: np.ndarray  # (ROWS * in_width,) float32: those of the row before, for persistence
    forecasts: np.ndarray  # (2 * ROWS * width,) float32: what the first had forecast of them, then the shadow


def make_beside(first: Core, shadow: Core, found: SideBySide, idle_ns: int) -> Beside:
    """``first`` and ``shadow`` as they are prepared for ``advance``."""
    forecasting = int(bool(first.net.forecasts and shadow.net.forecasts))
    width = min(first.net.out_width, shadow.net.out_width)
    return Beside(
        first=first,
        shadow=shadow,
        found=found,
        forecasting=forecasting,
        outputs=min(first.net.outputs, shadow.net.outputs) if forecasting else 0,
        width=width,
        idle_ns=idle_ns,
        swept=np.zeros(1, np.int64),
        came=np.zeros(ROWS * first.net.in_width, np.float32),
        last=np.zeros(ROWS * first.net.in_width, np.float32),
        forecasts=np.zeros(2 * ROWS * width, np.float32),
    )


@inlined
def _hand_over(beside, count):
    """Keeps what the first model's step is about to replace: values as they came, and what was forecast."""
    first, width = beside.first, beside.first.net.in_width
    slots, batch = first.slots, first.batch
    copy(beside.came, 0, batch.values, 0, count * width)
    if beside.forecasting == 0:
        return
    for row in range(count):
        ahead = address_of(slots.state, record(slots, batch.slot[min(row + _AHEAD, count - 1)]))
        prefetch(ahead + 4 * slots.input_at)
        prefetch(ahead + 4 * slots.prediction_at)
        at = record(slots, batch.slot[row])
        copy(beside.last, row * width, slots.state, at + slots.input_at, width)
        copy(beside.forecasts, row * beside.width, slots.state, at + slots.prediction_at, beside.width)


@inlined
def _hand_on(beside, count):
    """Of rows that had others of their stream before them in the batch: what these have left for them."""
    batch, width = beside.first.batch, beside.first.net.in_width
    out_width = beside.first.net.out_width
    for row in range(count):
        after = batch.next[row]
        if after < 0:
            continue
        if batch.outcome[row] == PREDICTED:
            copy(beside.last, after * width, batch.values, row * width, width)
            copy(beside.forecasts, after * beside.width, batch.predicted, row * out_width, beside.width)
        else:
            copy(beside.last, after * width, beside.last, row * width, width)
            copy(beside.forecasts, after * beside.width, beside.forecasts, row * beside.width, beside.width)


@inlined
def _stage(beside, row, place):
    """Enters row ``row`` of the batch as row ``place`` of the shadow's, if it may enter. Whether it did."""
    batch, width = beside.first.batch, beside.first.net.in_width
    core, slots = beside.shadow, beside.shadow.slots
    copy(core.batch.values, place * width, beside.came, row * width, width)
    slot = batch.slot[row]
    name = address_of(beside.first.slots.ids, slot * ID_WORDS)
    length = id_length(beside.first.slots, slot)
    if id_length(slots, slot) != length or not is_of(slots, slot, name, length):  # as it mostly is
        slot = slot_for(core, name, place)
    if slot < 0:
        return False
    said = batch.said[row]
    stage(core, place, slot, batch.flags[row], said.seq, said.ts_ns, batch.received[row])
    core.batch.origin[place] = row
    if beside.forecasting == 1:
        at = record(slots, slot) + slots.prediction_at
        copy(beside.forecasts, (ROWS + place) * beside.width, slots.state, at, beside.width)
    return True


@inlined
def _look_at(beside, count):
    """Compares what the two models made of the ``count`` rows that the shadow has stepped."""
    first, core, found = beside.first, beside.shadow, beside.found
    width, out_width = beside.width, core.net.out_width
    for place in range(count):
        row, after = core.batch.origin[place], core.batch.next[place]
        ours, theirs = first.batch.outcome[row], core.batch.outcome[place]
        if beside.forecasting == 1 and after >= 0:
            to, here = (ROWS + after) * width, (ROWS + place) * width
            if theirs == PREDICTED:
                copy(beside.forecasts, to, core.batch.predicted, place * out_width, width)
            else:
                copy(beside.forecasts, to, beside.forecasts, here, width)
        if ours != PREDICTED or theirs != PREDICTED:
            continue
        found.rows[0] += 1
        if beside.forecasting == 1:
            compare(beside, row, place)
            note_scores(found, first.batch.said[row].score, core.batch.said[place].score)
            note_events(beside, row, place)


@inlined
def _follow(beside, count):
    """Has the shadow take the rows of the batch, as many at a time as it can."""
    core = beside.shadow
    if beside.forecasting == 1:
        _hand_on(beside, count)
    done = 0
    while done < count:
        taken = 0
        while done < count and taken < core.batch.rows:
            taken += _stage(beside, done, taken)
            done += 1
        if taken > 0:
            advance(core, taken)
            _look_at(beside, taken)


@inlined
def _sweep(beside, now):
    """Lets the shadow's streams go that were silent for too long, as the first model's are."""
    core, slots = beside.shadow, beside.shadow.slots
    while True:
        slot = next_silent(slots, beside.swept, now, beside.idle_ns)
        if slot < 0:
            return
        release(slots, slot)
        for which in range(2 * slot, 2 * slot + 2):
            beside.found.near[which] = beside.found.open[which] = np.uint8(0)
        core.stats.resets[IDLE] += 1
        core.stats.counters[STREAMS] = slots.counts[1]


@compiled(no_cpython_wrapper=True)
def take_shadow(beside, what, number):
    """Does ``what``: HAND_OVER or FOLLOW, of a batch of ``number`` rows; SWEEP, at ``number`` ns."""
    began = monotonic_ns()
    if what == HAND_OVER:
        _hand_over(beside, number)
    elif what == FOLLOW:
        _follow(beside, number)
    elif beside.idle_ns > 0:
        _sweep(beside, number)
    beside.found.spent_ns[0] += monotonic_ns() - began
    return 0


# ``Pump.shadow`` where there is none. With one it is what calls ``take_shadow``, or without shortcuts in
# compiling the ``Beside`` itself.
NO_SHADOW: Any = NOBODY if KNOWN else None

if KNOWN:

    @inlined
    def with_shadow(shadow, what, number):
        if shadow.code != 0:
            call(shadow.code, shadow.words, what, number)

else:

    def _through(shadow, what, number):
        """``take_shadow``, or nothing where there is none, which its type tells."""

    @overload(_through, jit_options={"nogil": True, "error_model": "numpy", "_nrt": False})
    def _through_of(shadow, what, number):
        if isinstance(shadow, types.NoneType):
            return lambda shadow, what, number: None
        return lambda shadow, what, number: take_shadow(shadow, what, number)

    @inlined
    def with_shadow(shadow, what, number):
        _through(shadow, what, number)

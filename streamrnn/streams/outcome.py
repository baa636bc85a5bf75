"""What became of a row's step: the record that follows, and what is said of the row."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.network import DECODED, copy, enter_row, next_place, scale_output
from streamrnn.kernels.simd import LANES, splat, store
from streamrnn.stats import NO_CHANNEL, PREDICTED, REASONS, RESETS
from streamrnn.streams.commit import seal
from streamrnn.streams.event import follow
from streamrnn.streams.health import note_health, survey
from streamrnn.streams.holding import hold_after
from streamrnn.streams.record import (
    DEGRADED,
    ENDED,
    EPOCH,
    FILLED,
    FIRST,
    FORESEEN,
    HOLD,
    LAST_RECEIVED,
    LAST_SEQ,
    MISSED,
    PAST_CHECK,
    PLACE,
    RESTORED,
    SEQ,
    STEP,
    TS,
    row_check,
)
from streamrnn.streams.refusal import turn_away
from streamrnn.streams.several_rows import answers_due
from streamrnn.streams.slots import record
from streamrnn.streams.spread import NOT_KEPT, foresee_spread, spread_at, tell_bands
from streamrnn.wire import frame

_DIVERGED = REASONS.index("diverged")
_BY_END, _BY_DIVERGENCE = RESETS.index("end"), RESETS.index("diverged")
_ZERO = np.float32(0)
_ONE = np.uint64(1)


@inlined
def _write_header(core, lane):
    """Number, time, step and epoch of the record that a lane writes."""
    slots, batch, tile = core.slots, core.batch, core.tile
    row, old, new = tile.row[lane], tile.old[lane], tile.new[lane]
    said = batch.said[row]
    header, before = new // 2, old // 2
    continues = slots.committed[tile.slot[lane]] > np.uint64(0) and tile.reset[lane] < 0
    ended, restored, first = np.uint32(0), np.uint32(0), said.seq
    filled = tile.imagined[lane] == 1 or said.flags & np.uint16(frame.IMPUTED) != 0
    missed = slots.state_32[old + MISSED]
    if continues:
        first = slots.state_64[before + FIRST]
    if tile.imagined[lane] == 1:
        slots.state_64[header + SEQ] = slots.state_64[before + SEQ] + _ONE
        time = np.int64(slots.state_64[before + TS])
        slots.state_64[header + TS] = np.uint64(time + core.rules.period_ns if time != 0 else 0)
        restored = slots.state_32[old + RESTORED]  # for the row behind the gap to say
    else:
        slots.state_64[header + SEQ] = said.seq
        slots.state_64[header + TS] = np.uint64(said.ts_ns)
        missed += said.gap
        if batch.flags[row] & frame.END != 0:
            ended = np.uint32(1 + _BY_END)
    foreseen = continues and said.gap == np.uint32(0)
    slots.state_64[header + FIRST] = first
    slots.state_64[header + LAST_SEQ] = slots.state_64[before + LAST_SEQ]
    slots.state_64[header + LAST_RECEIVED] = slots.state_64[before + LAST_RECEIVED]
    slots.state_64[header + STEP] = (slots.state_64[before + STEP] if continues else np.uint64(0)) + _ONE
    slots.state_32[new + MISSED] = missed
    slots.state_32[new + EPOCH] = slots.state_32[old + EPOCH] + np.uint32(1 if tile.reset[lane] >= 0 else 0)
    slots.state_32[new + ENDED] = ended
    slots.state_32[new + RESTORED] = restored
    slots.state_32[new + FILLED] = np.uint32(filled)
    slots.state_32[new + FORESEEN] = np.uint32(foreseen)
    slots.state_32[new + HOLD] = hold_after(core, lane)
    if core.net.past_rows > 0:
        _remember(core, lane, continues)


@inlined
def _remember(core, lane, continues):
    """Enters a lane's input as the newest row of its stream's past, and this in the past's check."""
    net, slots, tile = core.net, core.slots, core.tile
    old, new = tile.old[lane], tile.new[lane]
    past = record(slots, tile.slot[lane]) + slots.past_at
    place = next_place(net, tile.place[lane])
    check = slots.state_64[old // 2 + PAST_CHECK] if continues else np.uint64(0)
    if tile.kept[lane] == net.past_rows - 1:  # one row leaves: the next one to be written over
        leaves = next_place(net, place)
        check -= row_check(slots.state, past + leaves * net.inputs, leaves, net.inputs)
    enter_row(net, slots.state, past, place, slots.state, new + slots.input_at)
    check += row_check(
        slots.state, new + slots.input_at, place, net.inputs
    )  # just written there in one store
    slots.state_64[new // 2 + PAST_CHECK] = check
    slots.state_32[new + PLACE] = np.uint32(place)


@inlined
def _forget(slots, old, new, begun):
    """Turns a record with a non-finite state or output into one whose next row begins anew."""
    for word in range(new + (slots.forecast_at if begun else slots.score_at), new + slots.past_at, LANES):
        store(slots.state, word, splat(_ZERO))
    slots.state_32[new + FORESEEN] = np.uint32(0)
    if begun:  # the input that led here may not be one to fill in with
        width = slots.forecast_at - slots.input_at
        copy(slots.state, new + slots.input_at, slots.state, old + slots.input_at, width)
        slots.state_32[new + RESTORED] = slots.state_32[old + RESTORED]
    if slots.state_32[new + ENDED] == np.uint32(0):  # an END was heard all the same
        slots.state_32[new + ENDED] = np.uint32(1 + _BY_DIVERGENCE)


@inlined
def write(core, lane):
    """Completes the record that a lane's step began: header, prediction, check. Does not commit it.

    Nothing non-finite stays in it: such a step leaves a stream that starts anew with its next row.
    """
    net, slots, batch, tile = core.net, core.slots, core.batch, core.tile
    row, slot, old, new = tile.row[lane], tile.slot[lane], tile.old[lane], tile.new[lane]
    begun = slots.committed[slot] > np.uint64(0)
    if net.relation != DECODED:
        scale_output(net, core.scratch, lane, 0, slots.state, new + slots.prediction_at)
    if net.spread != NOT_KEPT:
        foresee_spread(net, core.scratch, lane, slots.state, spread_at(net, slots, new))
    _write_header(core, lane)
    saturated = survey(net, slots, new)
    finite = not np.isnan(saturated)
    if not finite:
        _forget(slots, old, new, begun)
    note_health(net, slots, old, new, begun and tile.reset[lane] < 0, saturated)
    if tile.imagined[lane] == 0 and finite:
        follow(core, lane)
    slots.notes[slot].received = batch.received[row]
    seal(slots, slot, new, batch.received[row], False)
    if tile.imagined[lane] == 1:
        return
    slots.notes[slot].again = np.uint64(0)
    batch.reset[row] = tile.reset[lane]
    if not finite:
        turn_away(core, row, _DIVERGED, NO_CHANNEL)
        return
    said = batch.said[row]
    if slots.state_32[new + DEGRADED] > np.uint32(0):
        said.flags |= np.uint16(frame.DEGRADED)
    batch.outcome[row] = PREDICTED
    said.step = slots.state_64[new // 2 + STEP]
    if net.window > 0 and said.step < np.uint64(net.window):
        said.flags |= np.uint16(frame.WARMING)
    batch.answers[row] = answers_due(core, batch.flags[row], said.step)
    said.epoch = slots.state_32[new + EPOCH]
    copy(batch.predicted, row * net.out_width, slots.state, new + slots.prediction_at, net.out_width)
    if core.bands.number > 0:
        at, forecast_at = spread_at(net, slots, new), new + slots.prediction_at
        to = row * 2 * core.bands.number * net.out_width
        tell_bands(net, core.bands, slots.state, at, forecast_at, batch.bands, to)

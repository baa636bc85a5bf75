"""Rows beyond the frame: the rollout of a forecast, the sequence that a decoder writes, rows given at once.

Lanes whose rows are to be answered by several rows go on after their own step, on copies of their streams'
states: each further row is one more step, whose input is the output of the one before.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.compiling.known import KnownIfZero
from streamrnn.kernels.finite import all_finite
from streamrnn.kernels.network import (
    DECODED,
    FROM_VECTOR,
    TO_SEQUENCE,
    TO_VECTOR,
    Network,
    aligned,
    copy,
    enter_row,
    look_back,
    next_place,
    scale_input,
    scale_output,
)
from streamrnn.kernels.rls import NOTHING
from streamrnn.stats import NO_CHANNEL, OWN, PREDICTED, REASONS, SEVERAL
from streamrnn.streams.commit import commit, seal
from streamrnn.streams.record import PLACE, STEP, rows_kept
from streamrnn.streams.refusal import turn_away
from streamrnn.streams.slots import record
from streamrnn.streams.spread import awaits_rollout, remember_rollout, spread_at, tell_bands_ahead
from streamrnn.wire import frame

_DIVERGED = REASONS.index("diverged")
_ZERO = np.float32(0)


class Decoder(NamedTuple):
    """What is asked beyond the row itself, and room for it."""

    rows: KnownIfZero  # of an answer of several rows; 0 = none is asked for
    every: int  # steps of a sequence from one answer to it to the next; 0 = at END only
    target_is_next: int  # 1 when a decoder begins with the last frame, else with zeros
    values: np.ndarray  # (batch rows * rows * out_width,) float32: physical units
    bands: np.ndarray  # (batch rows * 2 bands * rows * out_width,) float32: low and high of each, likewise


def make_decoder(
    network: Network, rows: int, every: int, target_is_next: bool, batch_rows: int, bands: int = 0
) -> Decoder:
    """``bands``: how many a rollout has."""
    size = batch_rows * rows * network.out_width
    return Decoder(rows, every, int(target_is_next), aligned(size), aligned(2 * bands * size))


@inlined
def answers_due(core, flags, step):
    """Which answers a row gets, OWN or SEVERAL or both, from the flags of its frame and its step."""
    net, decoder = core.net, core.decoder
    due = flags & frame.END != 0 or (decoder.every > 0 and step % np.uint64(decoder.every) == np.uint64(0))
    if net.relation == TO_VECTOR:
        return OWN if due else 0
    if net.relation == FROM_VECTOR or net.head_rows > 0:
        return SEVERAL
    if net.relation == DECODED:
        return SEVERAL if due else 0
    return OWN | SEVERAL if due and decoder.rows > 0 else OWN


@inlined
def _values_at(core, row, step):
    return (row * core.decoder.rows + step) * core.net.out_width


@inlined
def take_head_rows(core, lanes):
    """Keeps the rows that the head gave at once as the answer to each lane's row. One not finite is none."""
    net, decoder, batch, tile = core.net, core.decoder, core.batch, core.tile
    for lane in range(lanes):
        row = tile.row[lane]
        if tile.imagined[lane] == 1 or batch.outcome[row] != PREDICTED:
            continue
        for number in range(net.head_rows):
            scale_output(net, core.scratch, lane, number, decoder.values, _values_at(core, row, number))
        if not all_finite(decoder.values, _values_at(core, row, 0), net.head_rows * net.out_width):
            batch.answers[row] = 0
            turn_away(core, row, _DIVERGED, NO_CHANNEL)


@inlined
def begin_rows(core, lanes):
    """Moves the lanes that are to go on together, to the first ones. How many there are."""
    net, batch, scratch, tile = core.net, core.batch, core.scratch, core.tile
    count = 0
    for lane in range(lanes):
        row = tile.row[lane]
        wanted = batch.outcome[row] == PREDICTED and batch.answers[row] & SEVERAL != 0
        if tile.imagined[lane] == 1 or not wanted:
            continue
        tile.row[count], tile.slot[count] = row, tile.slot[lane]
        if net.relation == FROM_VECTOR:
            copy(scratch.gates, count * net.gate_stride, scratch.gates, lane * net.gate_stride, net.out_width)
        if net.relation != DECODED:  # the row's own step has given the first one
            to, source = _values_at(core, row, 0), row * net.out_width
            copy(core.decoder.values, to, batch.predicted, source, net.out_width)
        count += 1
    return count


@inlined
def take_rows(core, lanes, step):
    """Keeps what the lanes have come to as row ``step`` of their answers."""
    for lane in range(lanes):
        at = _values_at(core, core.tile.row[lane], step)
        scale_output(core.net, core.scratch, lane, 0, core.decoder.values, at)


@inlined
def _look_back(core, lane, own, work, step):
    """Looks back from row ``step`` of an answer, to those before it and then to the stream's past.

    Both stand in the past of the lane's first record to work in, a copy that is gone on with.
    """
    net, slots, tile = core.net, core.slots, core.tile
    past = work + slots.past_at
    if step == 1:
        copy(slots.state, past, slots.state, own + slots.past_at, slots.words - slots.past_at)
        tile.place[lane] = np.int64(slots.state_32[own + PLACE])
        tile.kept[lane] = rows_kept(slots, slots.state_64[own // 2 + STEP])
    look_back(net, core.scratch, lane, slots.state, past, tile.place[lane], tile.kept[lane])
    if net.past_rows > 0:
        tile.place[lane] = next_place(net, tile.place[lane])
        tile.kept[lane] = min(tile.kept[lane] + 1, net.past_rows - 1)
        enter_row(net, slots.state, past, tile.place[lane], slots.state, tile.new[lane] + slots.input_at)


@inlined
def _set_up(core, lane, step):
    """Sets a lane up for row ``step`` of its answer."""
    net, slots, scratch, tile = core.net, core.slots, core.scratch, core.tile
    row, slot = tile.row[lane], tile.slot[lane]
    own = record(slots, slot)  # of the row itself
    first = 0 if net.relation == DECODED else 1
    work = tile.work + 2 * lane * slots.words
    old = own if step == first else work + (step - 1) % 2 * slots.words
    new = work + step % 2 * slots.words
    tile.old[lane], tile.new[lane], tile.shows[lane] = old, new, NOTHING
    tile.source[lane], tile.target[lane] = old + slots.hidden_at, new + slots.hidden_at
    at, last = lane * net.z_stride, lane * net.gate_stride  # where the last step left its output
    if net.relation == TO_SEQUENCE:
        before = _values_at(core, row, step - 1)
        copy(slots.state, new + slots.input_at, core.decoder.values, before, net.in_width)
        scale_input(net, scratch, lane, slots.state, new + slots.input_at)
        if net.highway > 0:
            _look_back(core, lane, own, work, step)
    elif net.relation == FROM_VECTOR:
        scale_input(net, scratch, lane, slots.state, own + slots.input_at)
        copy(scratch.z, at + net.inputs, scratch.gates, last, net.out_width)
    elif step > 0:
        copy(scratch.z, at, scratch.gates, last, net.out_width)
    else:
        for output in range(net.outputs):
            value = _ZERO
            if core.decoder.target_is_next == 1:
                frame_value = slots.state[own + slots.input_at + output]
                value = (frame_value - net.out_mean[output]) * net.out_scale[output]
            scratch.z[at + output] = value


@inlined
def _tell_bands(core, row, lane):
    """Low and high of each band of a rollout, from the record of the row that it answers.

    Where the stream waits for a rollout to learn from, it remembers this one: by a second commit of the row's
    step, as rollouts come behind the first.
    """
    net, slots, decoder, slot = core.net, core.slots, core.decoder, core.tile.slot[lane]
    own, first = record(slots, slot), _values_at(core, row, 0)
    at, to, rows = spread_at(net, slots, own), 2 * core.bands.number * first, decoder.rows
    tell_bands_ahead(net, core.bands, slots.state, at, decoder.values, first, rows, decoder.bands, to)
    if awaits_rollout(core.bands, slots.state, at):
        work = core.tile.work + 2 * lane * slots.words
        copy(slots.state, work, slots.state, own, slots.past_at)
        here = spread_at(net, slots, work)
        remember_rollout(net, core.bands, slots.state, here, decoder.values, first)
        seal(slots, slot, work, slots.notes[slot].received, False)
        commit(slots, slot, work)


@inlined
def go_on(core, lanes, step):
    """Sets the lanes up for row ``step`` of their answers; or, with all rows written, ends them.

    Returns how many lanes go on. An answer that is not finite is none; its stream is as its own row left it.
    """
    net, decoder = core.net, core.decoder
    if step < decoder.rows:
        for lane in range(lanes):
            _set_up(core, lane, step)
        return lanes
    for lane in range(lanes):
        row = core.tile.row[lane]
        if not all_finite(decoder.values, _values_at(core, row, 0), decoder.rows * net.out_width):
            core.batch.answers[row] &= ~np.uint8(SEVERAL)
            if net.relation != TO_SEQUENCE:  # which has answered the row itself
                turn_away(core, row, _DIVERGED, NO_CHANNEL)
        elif core.bands.number > 0:
            _tell_bands(core, row, lane)
    return 0

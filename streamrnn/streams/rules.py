"""What a row may be: late, after a gap, with values missing, more or less usual.

``prepare`` looks at one row and the record of its stream and either turns it away or sets up a lane
of the tile for one step: the row's own, or one for a row that is missing before it.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.finite import all_finite, filled
from streamrnn.kernels.network import FROM_VECTOR, copy, look_back, scale_input
from streamrnn.kernels.rls import NOTHING, PROVES, TEACHES
from streamrnn.kernels.simd import LANES, load, splat, store
from streamrnn.stats import LATE_ROW, NO_CHANNEL, REASONS, RESETS
from streamrnn.streams import score
from streamrnn.streams.commit import commit, seal
from streamrnn.streams.holding import is_held
from streamrnn.streams.record import ENDED, FILLED, FIRST, PLACE, RESTORED, SEQ, STEP, rows_kept
from streamrnn.streams.refusal import turn_away
from streamrnn.streams.score_part import EVENT, UNUSUAL
from streamrnn.streams.slots import record, work_records, zero_record
from streamrnn.streams.spread import keep_spread, spread_at
from streamrnn.streams.unusual import measure
from streamrnn.wire import frame

GAP_POLICIES = ("step", "hold", "predict")
MISSING_POLICIES = ("reject", "hold", "predict")
_GAP_STEP, _GAP_HOLD, _GAP_PREDICT = range(3)
_MISSING_REJECT, _MISSING_HOLD, _MISSING_PREDICT = range(3)

_INFINITE, _MISSING = REASONS.index("infinite"), REASONS.index("missing")
_DIVERGED = REASONS.index("diverged")
_BY_FRAME, _BY_GAP, _BY_END = RESETS.index("frame"), RESETS.index("max_gap"), RESETS.index("end")
_BY_RESTART, _BY_REQUEST = RESETS.index("restart"), RESETS.index("request")
_BY_DIVERGENCE = RESETS.index("diverged")

SILENCE_NS = 1_000_000_000  # with no row taken for so long, one that goes back may be a source that restarted

_ZERO = np.float32(0)
_NAN = np.float32("nan")
_MOST_GAP = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
SKIP, IMAGINED, STEPPED = range(3)
_NONE, _LATE = -1, -2  # no reset; and none to ask of a row that is late


class Rules(NamedTuple):
    """What rows are judged by, for compiled code: the ``faults`` of the configuration, the model's score."""

    gap: int  # index into GAP_POLICIES
    max_gap: int
    missing: int  # index into MISSING_POLICIES
    period_ns: int  # the model's sample period; 0 = unknown
    levels: np.ndarray  # (12,) float32: of a stream that begins, see ``score.measure``
    threshold: np.float32  # score from which on there is an event
    codes: np.ndarray  # (n, inputs) float32: values that stand for a missing one
    # of a raw message, per channel, (inputs,) float32
    lowest: np.ndarray  # below this no sensor can be
    highest: np.ndarray  # nor above this
    least: np.ndarray  # what is nearer to zero, and not zero, is unlikely


@inlined
def _place(core, row, old):
    """Where a row stands in the sequence of its stream, which has begun: (reset, gap).

    ``reset`` is an index into RESETS, _NONE for a row that goes on, _LATE for one to drop; ``gap``
    the rows missing before it.

    A source that starts its numbers again without saying RESET goes back to where its sequence began, and on
    from there. It is believed when no row was taken for SILENCE_NS meanwhile; after an END, at once.
    """
    slots, batch = core.slots, core.batch
    slot, flags = batch.slot[row], batch.flags[row]
    header = old // 2
    last, first = slots.state_64[header + SEQ], slots.state_64[header + FIRST]
    ended = np.int64(slots.state_32[old + ENDED]) - 1
    if flags & frame.SEQ == 0:
        batch.said[row].seq = last + _ONE
    seq = batch.said[row].seq
    if flags & frame.RESET != 0:
        return _BY_FRAME, np.uint64(0)
    if flags & frame.SEQ == 0:
        return ended, np.uint64(0)
    if seq <= last:
        goes_back = seq <= first and seq < last
        if ended == _BY_END and goes_back:
            return _BY_END, np.uint64(0)
        begins = goes_back or (slots.notes[slot].again == seq and seq > np.uint64(0))
        slots.notes[slot].again = seq + _ONE if begins else np.uint64(0)
        silent = batch.received[row] - slots.notes[slot].received >= SILENCE_NS
        return (_BY_RESTART if silent and begins else _LATE), np.uint64(0)
    gap = seq - last - _ONE
    if ended == _BY_END:
        return ended, np.uint64(0)
    if ended < 0 and gap > np.uint64(core.rules.max_gap):
        return _BY_GAP, gap
    return ended, gap


@inlined
def refusal(core, row, begun):
    """Why the values of a row cannot be used, an index into REASONS or -1, and which channel's.

    What is missing is filled in from the stream's past, so the first row it ever sends must be complete.
    A value that is a code for none becomes NaN.
    """
    net, rules, batch = core.net, core.rules, core.batch
    at = row * net.in_width
    for code in range(len(rules.codes)):
        for channel in range(net.inputs):
            if batch.values[at + channel] == rules.codes[code, channel]:
                batch.values[at + channel] = _NAN
    gone = NO_CHANNEL
    if all_finite(batch.values, at, net.in_width):
        return -1, gone
    for channel in range(net.inputs):
        value = batch.values[at + channel]
        if np.isinf(value):
            return _INFINITE, channel
        if gone == NO_CHANNEL and np.isnan(value):
            gone = channel
    if gone != NO_CHANNEL and (rules.missing == _MISSING_REJECT or not begun):
        return _MISSING, gone
    return -1, gone


@inlined
def _impute(core, row, old, continues):
    """Fills the missing channels of a row from the stream's own past. Whether there were any.

    A sequence that begins has no forecast yet, but its channels have had values before.
    """
    net, slots, batch = core.net, core.slots, core.batch
    at = row * net.in_width
    if all_finite(batch.values, at, net.in_width):
        return False
    forecast = core.rules.missing == _MISSING_PREDICT and continues
    source = old + (slots.prediction_at if forecast else slots.input_at)
    for unit in range(0, net.in_width, LANES):
        filler = load(slots.state, source + unit)
        store(batch.values, at + unit, filled(load(batch.values, at + unit), filler))
    return True


@inlined
def _first_look(core, row, gap):
    """Says how many rows are missing before this one, once: a row comes back while they are filled in."""
    if core.batch.said[row].gap == np.uint32(0):
        core.batch.said[row].gap = np.uint32(min(gap, _MOST_GAP))


@inlined
def end_sequence(slots, slot, reason, seq, work):
    """Commits a copy of a stream's record, of number ``seq``, whose next row begins a new sequence.

    ``work`` is the word of the record to work in.
    """
    copy(slots.state, work, slots.state, record(slots, slot), slots.past_at)
    slots.state_64[work // 2 + SEQ] = seq
    slots.state_32[work + ENDED] = np.uint32(1 + reason)
    seal(slots, slot, work, slots.notes[slot].received, False)
    commit(slots, slot, work)


@compiled
def request_reset(slots, slot):
    """Has the stream of a slot begin anew with its next row, as an operator asked; after an END it does."""
    at = record(slots, slot)
    if slots.state_32[at + ENDED] != np.uint32(1 + _BY_END):
        end_sequence(slots, slot, _BY_REQUEST, slots.state_64[at // 2 + SEQ], work_records(slots))


@compiled
def unlearn(slots):
    """Has every stream begin anew with what it learns for its score and the correction of its forecasts."""
    work = work_records(slots)
    for slot in range(slots.capacity):
        if slots.committed[slot] == np.uint64(0):
            continue
        copy(slots.state, work, slots.state, record(slots, slot), slots.past_at)
        slots.notes[slot].began_of = np.uint64(0)
        for word in range(work + slots.score_at, work + slots.forecast_at, LANES):
            store(slots.state, word, splat(_ZERO))
        seal(slots, slot, work, slots.notes[slot].received, False)
        commit(slots, slot, work)


@inlined
def _keep_boundary(core, row, old, work):
    """A rejected row still ends its sequence, or begins a new one, which has numbers of its own."""
    slots, batch = core.slots, core.batch
    if batch.flags[row] & frame.RESET != 0:
        end_sequence(slots, batch.slot[row], _BY_FRAME, batch.said[row].seq, work)
    elif batch.flags[row] & frame.END != 0:
        end_sequence(slots, batch.slot[row], _BY_END, slots.state_64[old // 2 + SEQ], work)


@inlined
def _fill_gap(core, old, new):
    """The input of a row that is missing: the last one, or what was forecast of it."""
    net, slots = core.net, core.slots
    filler = slots.prediction_at if core.rules.gap == _GAP_PREDICT else slots.input_at
    copy(slots.state, new + slots.input_at, slots.state, old + filler, net.in_width)
    if net.forecasts == 1:
        score.keep(net, slots.state, old + slots.score_at, new + slots.score_at, True)
    if net.spread > 0:
        keep_spread(net, core.bands, slots.state, spread_at(net, slots, old), spread_at(net, slots, new))


@inlined
def _take_row(core, row, lane, old, new, continues):
    """The input of a row that is there, and what its prediction says of it."""
    net, slots, batch = core.net, core.slots, core.batch
    said = batch.said[row]
    said.residual = said.score = _NAN
    batch.begins[row] = np.uint8(0)
    flags = np.uint16(0 if continues and net.forecasts == 0 else frame.WARMING)
    if net.forecasts == 1:
        measure(core, row, lane, old, new, continues)
        if slots.state[new + slots.score_at + EVENT] == UNUSUAL:
            flags |= np.uint16(frame.ANOMALY)
    if slots.committed[batch.slot[row]] > np.uint64(0):
        if _impute(core, row, old, continues):
            flags |= np.uint16(frame.IMPUTED)
        if slots.state_32[old + RESTORED] != np.uint32(0):
            flags |= np.uint16(frame.RESTORED)
        if is_held(slots, old):
            flags |= np.uint16(frame.HELD)
    if said.gap > np.uint32(0):
        flags |= np.uint16(frame.GAP)
    if core.tile.reset[lane] >= 0:
        flags |= np.uint16(frame.WAS_RESET)
    said.flags = flags
    copy(slots.state, new + slots.input_at, batch.values, row * net.in_width, net.in_width)


@inlined
def _shows(core, row, old, new):
    """What a row is to the correction of its forecast; an unusual one, that is not known yet, only proves."""
    slots, said = core.slots, core.batch.said[row]
    filled = said.flags & np.uint16(frame.IMPUTED) != 0 or slots.state_32[old + FILLED] != np.uint32(0)
    if core.net.window > 0:  # or a forecast of fewer rows than the network takes
        filled = filled or slots.state_64[old // 2 + STEP] < np.uint64(core.net.window)
    if filled or said.gap > np.uint32(0) or is_held(slots, old):
        return NOTHING
    return TEACHES if slots.state[new + slots.score_at + EVENT] == _ZERO else PROVES


@inlined
def prepare(core, row, lane):
    """Sets lane ``lane`` up for one step on behalf of ``row``.

    Returns SKIP when the row is late or rejected, IMAGINED when a row missing before it is filled
    in first (the row is to be prepared again after that), STEPPED when the step is its own.
    """
    net, slots, batch, scratch, tile = core.net, core.slots, core.batch, core.scratch, core.tile
    slot = batch.slot[row]
    old, new = record(slots, slot), tile.work + 2 * lane * slots.words
    begun = slots.committed[slot] > np.uint64(0)
    if not begun:  # what is left there of a stream that was let go is not this one's
        old = zero_record(slots)
    reset, gap = _NONE, np.uint64(0)
    if begun:
        reset, gap = _place(core, row, old)
    elif batch.flags[row] & frame.SEQ == 0:
        batch.said[row].seq = np.uint64(0)
    if reset == _LATE:
        batch.outcome[row] = np.uint8(LATE_ROW)
        return SKIP
    reason, channel = refusal(core, row, begun)
    if reason >= 0:
        if begun:
            _keep_boundary(core, row, old, new)
        turn_away(core, row, reason, channel)
        return SKIP
    if gap > np.uint64(0):
        _first_look(core, row, gap)

    continues = begun and reset < 0
    imagined = gap > np.uint64(0) and continues and core.rules.gap != _GAP_STEP
    source = old if continues and net.relation != FROM_VECTOR else zero_record(slots)
    tile.row[lane], tile.slot[lane], tile.old[lane], tile.new[lane] = row, slot, old, new
    tile.source[lane], tile.target[lane] = source + slots.hidden_at, new + slots.hidden_at
    tile.reset[lane], tile.imagined[lane], tile.shows[lane] = reset, imagined, NOTHING
    tile.measured[lane], tile.compared[lane] = np.uint8(0), 0
    if imagined:
        _fill_gap(core, old, new)
    else:
        _take_row(core, row, lane, old, new, continues)
        if net.memory > 0 and continues:
            tile.shows[lane] = _shows(core, row, old, new)
    if net.forecasts == 1:
        copy(slots.state, new + slots.forecast_at, slots.state, old + slots.prediction_at, net.out_width)
    scale_input(net, scratch, lane, slots.state, new + slots.input_at)
    if net.highway > 0:
        tile.place[lane] = np.int64(slots.state_32[old + PLACE])
        steps = slots.state_64[old // 2 + STEP] if continues else np.uint64(0)
        tile.kept[lane] = rows_kept(slots, steps)
        look_back(net, scratch, lane, slots.state, old + slots.past_at, tile.place[lane], tile.kept[lane])
    elif net.relation == FROM_VECTOR:  # nothing was given out yet that could be fed back
        for output in range(net.outputs):
            scratch.z[lane * net.z_stride + net.inputs + output] = _ZERO
    return IMAGINED if imagined else STEPPED

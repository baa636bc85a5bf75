"""What a row may be: late, after a gap, with values missing; and the commit of what came of it.

``prepare`` looks at one row and the record of its stream and either turns it away or sets up a lane
of the tile for one step: the row's own, or one for a row that is missing before it. ``write``
completes the record that follows, which ``commit`` makes the stream's state.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.jit import compiled, inlined
from streamrnn.kernels.network import (
    DECODED,
    FROM_VECTOR,
    copy,
    look_back,
    scale_input,
    scale_output,
)
from streamrnn.kernels.simd import LANES, splat, store
from streamrnn.stats import LATE, MISSING_ROWS, REASONS, RESETS
from streamrnn.streams.batch import LATE_ROW, PREDICTED, REJECTED
from streamrnn.streams.decoder import answers_due
from streamrnn.streams.health import note_health, survey
from streamrnn.streams.record import (
    DEGRADED,
    ENDED,
    EPOCH,
    FIRST,
    RESTORED,
    SEQ,
    STEP,
    TS,
    all_finite,
)
from streamrnn.streams.slots import commit, record, seal, zero_record
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
_LARGEST = float(np.finfo(np.float32).max)
_MOST_GAP = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
SKIP, IMAGINED, STEPPED = range(3)
_NONE, _LATE = -1, -2  # no reset; and none to ask of a row that is late


class Rules(NamedTuple):
    """The ``faults`` section of the configuration, for compiled code."""

    gap: int  # index into GAP_POLICIES
    max_gap: int
    missing: int  # index into MISSING_POLICIES
    forecasts: int  # 1 when output k forecasts channel k one period ahead
    period_ns: int  # the model's sample period; 0 = unknown


@inlined
def _place(slots, rules, batch, row, old):
    """Where a row stands in the sequence of its stream, which has begun: (reset, gap).

    ``reset`` is an index into RESETS, _NONE for a row that goes on, _LATE for one to drop; ``gap``
    the rows missing before it.

    A source that starts its numbers again without saying RESET goes back to where its sequence began, and on
    from there. It is believed when no row was taken for SILENCE_NS meanwhile; after an END, at once.
    """
    slot, flags = batch.slot[row], batch.flags[row]
    header = old // 2
    last, first = slots.state_64[header + SEQ], slots.state_64[header + FIRST]
    ended = np.int64(slots.state_32[old + ENDED]) - 1
    if flags & frame.SEQ == 0:
        batch.seq[row] = last + _ONE
    seq = batch.seq[row]
    if flags & frame.RESET != 0:
        return _BY_FRAME, np.uint64(0)
    if flags & frame.SEQ == 0:
        return ended, np.uint64(0)
    if seq <= last:
        goes_back = seq <= first and seq < last
        if ended == _BY_END and goes_back:
            return _BY_END, np.uint64(0)
        begins = goes_back or (slots.again[slot] == seq and seq > np.uint64(0))
        slots.again[slot] = seq + _ONE if begins else np.uint64(0)
        silent = batch.received[row] - slots.received[slot] >= SILENCE_NS
        return (_BY_RESTART if silent and begins else _LATE), np.uint64(0)
    gap = seq - last - _ONE
    if ended == _BY_END:
        return ended, np.uint64(0)
    if ended < 0 and gap > np.uint64(rules.max_gap):
        return _BY_GAP, gap
    return ended, gap


@inlined
def refusal(net, rules, batch, row, begun):
    """Why the values of a row cannot be used: an index into REASONS, or -1.

    What is missing is filled in from the stream's past, so the first row it ever sends must be complete.
    """
    at = row * net.in_width
    if all_finite(batch.values, at, net.in_width):
        return -1
    gone = False
    for channel in range(net.inputs):
        value = batch.values[at + channel]
        if np.isinf(value):
            return _INFINITE
        gone = gone or np.isnan(value)
    if gone and (rules.missing == _MISSING_REJECT or not begun):
        return _MISSING
    return -1


@inlined
def _residual(net, slots, batch, row, old):
    """Root mean square of (x - forecast) / std over the channels that are there; NaN for none."""
    squares, there = 0.0, 0
    for output in range(net.outputs):
        value = batch.values[row * net.in_width + output]
        if not np.isnan(value):
            forecast = np.float64(slots.state[old + slots.prediction_at + output])
            error = (np.float64(value) - forecast) * np.float64(net.out_scale[output])
            squares += error * error
            there += 1
    return np.float32(min(np.sqrt(squares / there), _LARGEST)) if there > 0 else _NAN


@inlined
def _impute(net, slots, rules, batch, row, old, continues):
    """Fills the missing channels of a row from the stream's own past. Whether there were any.

    A sequence that begins has no forecast yet, but its channels have had values before.
    """
    forecast = rules.missing == _MISSING_PREDICT and continues
    source = old + (slots.prediction_at if forecast else slots.input_at)
    imputed = False
    for channel in range(net.inputs):
        at = row * net.in_width + channel
        if np.isnan(batch.values[at]):
            batch.values[at] = slots.state[source + channel]
            imputed = True
    return imputed


@inlined
def _turn_away(stats, batch, row, reason):
    batch.outcome[row] = np.uint8(REJECTED + reason)
    stats.rejected[reason] += 1
    return SKIP


@inlined
def _first_look(batch, stats, row, gap):
    """Counts the rows missing before this one, once: a row comes back while they are filled in."""
    if batch.gap[row] == np.uint32(0):
        counted = min(gap, _MOST_GAP)
        batch.gap[row] = np.uint32(counted)
        stats.counters[MISSING_ROWS] += np.int64(counted)


@inlined
def end_sequence(slots, slot, reason, seq):
    """Commits a copy of a stream's record, of number ``seq``, whose next row begins a new sequence."""
    committed = slots.committed[slot]
    old, new = record(slots, slot, committed), record(slots, slot, committed + _ONE)
    copy(slots.state, new, slots.state, old, slots.words)
    slots.state_64[new // 2 + SEQ] = seq
    slots.state_32[new + ENDED] = np.uint32(1 + reason)
    seal(slots, slot, new, slots.received[slot])
    commit(slots, slot)


@compiled
def request_reset(slots, slot):
    """Has the stream of a slot begin anew with its next row, as an operator asked; after an END it does."""
    at = record(slots, slot, slots.committed[slot])
    if slots.state_32[at + ENDED] != np.uint32(1 + _BY_END):
        end_sequence(slots, slot, _BY_REQUEST, slots.state_64[at // 2 + SEQ])


@inlined
def _keep_boundary(slots, batch, row, old):
    """A rejected row still ends its sequence, or begins a new one, which has numbers of its own."""
    if batch.flags[row] & frame.RESET != 0:
        end_sequence(slots, batch.slot[row], _BY_FRAME, batch.seq[row])
    elif batch.flags[row] & frame.END != 0:
        end_sequence(slots, batch.slot[row], _BY_END, slots.state_64[old // 2 + SEQ])


@inlined
def _fill_gap(net, slots, rules, old, new):
    """The input of a row that is missing: the last one, or what was forecast of it."""
    filler = slots.prediction_at if rules.gap == _GAP_PREDICT else slots.input_at
    copy(slots.state, new + slots.input_at, slots.state, old + filler, net.in_width)


@inlined
def _take_row(net, slots, rules, batch, row, lane, old, new, continues):
    """The input of a row that is there, and what its prediction says of it."""
    said = np.uint16(frame.WARMING)
    batch.residual[row] = _NAN
    if continues:
        said = np.uint16(0)
        if rules.forecasts == 1:
            batch.residual[row] = _residual(net, slots, batch, row, old)
    if slots.committed[batch.slot[row]] > np.uint64(0):
        if _impute(net, slots, rules, batch, row, old, continues):
            said |= np.uint16(frame.IMPUTED)
        if slots.state_32[old + RESTORED] != np.uint32(0):
            said |= np.uint16(frame.RESTORED)
    if batch.gap[row] > np.uint32(0):
        said |= np.uint16(frame.GAP)
    if batch.lane_reset[lane] >= 0:
        said |= np.uint16(frame.WAS_RESET)
    batch.said[row] = said
    copy(slots.state, new + slots.input_at, batch.values, row * net.in_width, net.in_width)


@inlined
def prepare(net, slots, rules, batch, scratch, stats, row, lane):
    """Sets lane ``lane`` up for one step on behalf of ``row``.

    Returns SKIP when the row is late or rejected, IMAGINED when a row missing before it is filled
    in first (the row is to be prepared again after that), STEPPED when the step is its own.
    """
    slot = batch.slot[row]
    committed = slots.committed[slot]
    old, new = record(slots, slot, committed), record(slots, slot, committed + _ONE)
    begun = committed > np.uint64(0)
    reset, gap = _NONE, np.uint64(0)
    if begun:
        reset, gap = _place(slots, rules, batch, row, old)
    elif batch.flags[row] & frame.SEQ == 0:
        batch.seq[row] = np.uint64(0)
    if reset == _LATE:
        batch.outcome[row] = np.uint8(LATE_ROW)
        stats.counters[LATE] += 1
        return SKIP
    reason = refusal(net, rules, batch, row, begun)
    if reason >= 0:
        if begun:
            _keep_boundary(slots, batch, row, old)
        return _turn_away(stats, batch, row, reason)
    if gap > np.uint64(0):
        _first_look(batch, stats, row, gap)

    continues = begun and reset < 0
    source = old if continues and net.relation != FROM_VECTOR else zero_record(slots)
    scratch.source[lane] = source + slots.hidden_at
    scratch.target[lane] = new + slots.hidden_at
    batch.lane_row[lane] = row
    batch.lane_reset[lane] = reset
    imagined = gap > np.uint64(0) and continues and rules.gap != _GAP_STEP
    batch.lane_imagined[lane] = imagined
    if imagined:
        _fill_gap(net, slots, rules, old, new)
    else:
        _take_row(net, slots, rules, batch, row, lane, old, new, continues)
    scale_input(net, scratch, lane, slots.state, new + slots.input_at)
    if net.highway > 0:
        look_back(net, scratch, slots.state, lane, new + slots.input_at, continues)
    elif net.relation == FROM_VECTOR:  # nothing was given out yet that could be fed back
        for output in range(net.outputs):
            scratch.z[lane * net.z_stride + net.inputs + output] = _ZERO
    return IMAGINED if imagined else STEPPED


@inlined
def _write_header(slots, rules, batch, row, lane, old, new):
    """Number, time, step and epoch of the record at ``new``, which follows the one at ``old``."""
    header, before = new // 2, old // 2
    begun = slots.committed[batch.slot[row]] > np.uint64(0)
    continues = begun and batch.lane_reset[lane] < 0
    ended, restored, first = np.uint32(0), np.uint32(0), batch.seq[row]
    if continues:
        first = slots.state_64[before + FIRST]
    if batch.lane_imagined[lane] == 1:
        slots.state_64[header + SEQ] = slots.state_64[before + SEQ] + _ONE
        time = np.int64(slots.state_64[before + TS])
        slots.state_64[header + TS] = np.uint64(time + rules.period_ns if time != 0 else 0)
        restored = slots.state_32[old + RESTORED]  # for the row behind the gap to say
    else:
        slots.state_64[header + SEQ] = batch.seq[row]
        slots.state_64[header + TS] = np.uint64(batch.ts[row])
        if batch.flags[row] & frame.END != 0:
            ended = np.uint32(1 + _BY_END)
    slots.state_64[header + FIRST] = first
    slots.state_64[header + STEP] = (slots.state_64[before + STEP] if continues else np.uint64(0)) + _ONE
    epoch = slots.state_32[old + EPOCH] if begun else np.uint32(0)
    slots.state_32[new + EPOCH] = epoch + np.uint32(1 if batch.lane_reset[lane] >= 0 else 0)
    slots.state_32[new + ENDED] = ended
    slots.state_32[new + RESTORED] = restored


@inlined
def _forget(slots, old, new, begun):
    """Turns a record with a non-finite state or output into one whose next row begins anew."""
    for word in range(new + slots.prediction_at, new + slots.words, LANES):
        store(slots.state, word, splat(_ZERO))
    if begun:  # the input that led here may not be one to fill in with
        width = slots.prediction_at - slots.input_at
        copy(slots.state, new + slots.input_at, slots.state, old + slots.input_at, width)
        slots.state_32[new + RESTORED] = slots.state_32[old + RESTORED]
    if slots.state_32[new + ENDED] == np.uint32(0):  # an END was heard all the same
        slots.state_32[new + ENDED] = np.uint32(1 + _BY_DIVERGENCE)


@inlined
def write(net, slots, rules, decoder, batch, scratch, stats, lane):
    """Completes the record that a lane's step began: header, prediction, check. Does not commit it.

    Nothing non-finite stays in it: such a step leaves a stream that starts anew with its next row.
    """
    row = batch.lane_row[lane]
    slot = batch.slot[row]
    committed = slots.committed[slot]
    old, new = record(slots, slot, committed), record(slots, slot, committed + _ONE)
    begun = committed > np.uint64(0)
    if net.relation != DECODED:
        scale_output(net, scratch, lane, slots.state, new + slots.prediction_at)
    _write_header(slots, rules, batch, row, lane, old, new)
    saturated = survey(net, slots, new)
    finite = not np.isnan(saturated)
    if not finite:
        _forget(slots, old, new, begun)
    note_health(net, slots, old, new, begun and batch.lane_reset[lane] < 0, saturated)
    slots.received[slot] = batch.received[row]
    seal(slots, slot, new, batch.received[row])
    if batch.lane_imagined[lane] == 1:
        return
    slots.again[slot] = np.uint64(0)
    if batch.lane_reset[lane] >= 0:
        stats.resets[batch.lane_reset[lane]] += 1
    if not finite:
        _turn_away(stats, batch, row, _DIVERGED)
        return
    if slots.state_32[new + DEGRADED] > np.uint32(0):
        batch.said[row] |= np.uint16(frame.DEGRADED)
    batch.outcome[row] = PREDICTED
    batch.step[row] = slots.state_64[new // 2 + STEP]
    batch.answers[row] = answers_due(net, decoder, batch.flags[row], batch.step[row])
    batch.epoch[row] = slots.state_32[new + EPOCH]
    copy(batch.predicted, row * net.out_width, slots.state, new + slots.prediction_at, net.out_width)

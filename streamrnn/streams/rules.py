"""What a row may be: late, after a gap, with values missing; and the commit of what came of it.

``prepare`` looks at one row and the record of its stream and either turns it away or sets up a lane
of the tile for one step: the row's own, or one for a row that is missing before it. ``commit``
writes the record that follows and makes it the stream's state.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.jit import inlined
from streamrnn.kernels.network import copy, scale_input, scale_output
from streamrnn.kernels.simd import LANES, fma, load, splat, store, total
from streamrnn.stats import LATE, MISSING_ROWS, REASONS, RESETS
from streamrnn.streams.batch import LATE_ROW, PREDICTED, REJECTED
from streamrnn.streams.slots import ENDED, EPOCH, HEADER, SEQ, STEP, TS, record, zero_record
from streamrnn.wire import frame
from streamrnn.wire.memory import store_release

GAP_POLICIES = ("step", "hold", "predict")
MISSING_POLICIES = ("reject", "hold", "predict")
_GAP_STEP, _GAP_HOLD, _GAP_PREDICT = range(3)
_MISSING_REJECT, _MISSING_HOLD, _MISSING_PREDICT = range(3)

_INFINITE, _MISSING = REASONS.index("infinite"), REASONS.index("missing")
_DIVERGED = REASONS.index("diverged")
_BY_FRAME, _BY_GAP = RESETS.index("frame"), RESETS.index("max_gap")
_BY_END, _BY_DIVERGENCE = RESETS.index("end"), RESETS.index("diverged")

_ZERO = np.float32(0)
_NAN = np.float32("nan")
_LARGEST = float(np.finfo(np.float32).max)
_MOST_GAP = np.uint64(0xFFFFFFFF)
SKIP, IMAGINED, STEPPED = range(3)


class Rules(NamedTuple):
    """The ``faults`` section of the configuration, for compiled code."""

    gap: int  # index into GAP_POLICIES
    max_gap: int
    missing: int  # index into MISSING_POLICIES
    forecasts: int  # 1 when output k forecasts channel k one period ahead
    period_ns: int  # the model's sample period; 0 = unknown


@inlined
def _all_finite(values, at, width):
    """Whether ``width`` values are all finite: any other makes its product with zero NaN."""
    probe = splat(_ZERO)
    for unit in range(0, width, LANES):
        probe = fma(load(values, at + unit), splat(_ZERO), probe)
    return total(probe) == _ZERO


@inlined
def refusal(net, rules, batch, row, has_history):
    """Why the values of a row cannot be used: an index into REASONS, or -1."""
    at = row * net.in_width
    if _all_finite(batch.values, at, net.in_width):
        return -1
    gone = False
    for channel in range(net.inputs):
        value = batch.values[at + channel]
        if np.isinf(value):
            return _INFINITE
        gone = gone or np.isnan(value)
    if gone and (rules.missing == _MISSING_REJECT or not has_history):
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
def _impute(net, slots, rules, batch, row, old):
    """Fills the missing channels of a row from the stream's own past. Whether there were any."""
    source = old + (slots.prediction_at if rules.missing == _MISSING_PREDICT else slots.input_at)
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
def _keep_boundary(slots, batch, row, old):
    """A rejected row still ends its sequence or begins a new one: commits a copy of the stream's record
    that says so. A new sequence has numbers of its own, so the copy takes the row's."""
    slot = batch.slot[row]
    new = record(slots, slot, slots.committed[slot] + np.uint64(1))
    copy(slots.state, new, slots.state, old, slots.words)
    begins = batch.flags[row] & frame.RESET != 0
    if begins:
        slots.state_64[new // 2 + SEQ] = batch.seq[row]
    slots.state_32[new + ENDED] = np.uint32(1 + (_BY_FRAME if begins else _BY_END))
    store_release(slots.committed, slot, slots.committed[slot] + np.uint64(1))


@inlined
def prepare(net, slots, rules, batch, scratch, stats, row, lane):
    """Sets lane ``lane`` up for one step on behalf of ``row``.

    Returns SKIP when the row is late or rejected, IMAGINED when a row missing before it is filled
    in first (the row is to be prepared again after that), STEPPED when the step is its own.
    """
    slot = batch.slot[row]
    committed = slots.committed[slot]
    old = record(slots, slot, committed)
    begun = committed > np.uint64(0)
    last = slots.state_64[old // 2 + SEQ]
    told_to_reset = batch.flags[row] & frame.RESET != 0
    if batch.flags[row] & frame.SEQ == 0:
        batch.seq[row] = last + np.uint64(1) if begun else np.uint64(0)
    seq = batch.seq[row]
    if begun and not told_to_reset and seq <= last:
        batch.outcome[row] = np.uint8(LATE_ROW)
        stats.counters[LATE] += 1
        return SKIP

    reset = -1
    if begun and told_to_reset:
        reset = _BY_FRAME
    elif begun and slots.state_32[old + ENDED] != np.uint32(0):
        reset = np.int64(slots.state_32[old + ENDED]) - 1
    gap = seq - last - np.uint64(1) if begun and not told_to_reset else np.uint64(0)
    if reset < 0 and gap > np.uint64(rules.max_gap):
        reset = _BY_GAP
    continues = begun and reset < 0
    reason = refusal(net, rules, batch, row, continues)
    if reason >= 0:
        if begun and batch.flags[row] & (frame.RESET | frame.END) != 0:
            _keep_boundary(slots, batch, row, old)
        return _turn_away(stats, batch, row, reason)
    if gap > np.uint64(0):
        _first_look(batch, stats, row, gap)

    new = record(slots, slot, committed + np.uint64(1))
    source = old if continues else zero_record(slots)
    scratch.source[lane] = source + slots.hidden_at
    scratch.target[lane] = new + slots.hidden_at
    batch.lane_row[lane] = row
    batch.lane_reset[lane] = reset
    if gap > np.uint64(0) and continues and rules.gap != _GAP_STEP:
        filler = slots.prediction_at if rules.gap == _GAP_PREDICT else slots.input_at
        copy(slots.state, new + slots.input_at, slots.state, old + filler, net.in_width)
        scale_input(net, scratch, lane, slots.state, new + slots.input_at)
        batch.lane_imagined[lane] = 1
        return IMAGINED

    said = np.uint16(0)
    batch.residual[row] = _NAN
    if continues:
        if rules.forecasts == 1:
            batch.residual[row] = _residual(net, slots, batch, row, old)
        if _impute(net, slots, rules, batch, row, old):
            said |= np.uint16(frame.IMPUTED)
    else:
        said |= np.uint16(frame.WARMING)
    if batch.gap[row] > np.uint32(0):
        said |= np.uint16(frame.GAP)
    if reset >= 0:
        said |= np.uint16(frame.WAS_RESET)
    batch.said[row] = said
    copy(slots.state, new + slots.input_at, batch.values, row * net.in_width, net.in_width)
    scale_input(net, scratch, lane, batch.values, row * net.in_width)
    batch.lane_imagined[lane] = 0
    return STEPPED


@inlined
def _write_header(slots, rules, batch, row, lane, old, new):
    """Number, time, step and epoch of the record at ``new``, which follows the one at ``old``."""
    header, before = new // 2, old // 2
    if batch.lane_imagined[lane] == 1:
        slots.state_64[header + SEQ] = slots.state_64[before + SEQ] + np.uint64(1)
        time = np.int64(slots.state_64[before + TS])
        slots.state_64[header + TS] = np.uint64(time + rules.period_ns if time != 0 else 0)
        slots.state_32[new + ENDED] = np.uint32(0)
    else:
        slots.state_64[header + SEQ] = batch.seq[row]
        slots.state_64[header + TS] = np.uint64(batch.ts[row])
        ends = batch.flags[row] & frame.END != 0
        slots.state_32[new + ENDED] = np.uint32(1 + _BY_END if ends else 0)
    begun = slots.committed[batch.slot[row]] > np.uint64(0)
    step = slots.state_64[before + STEP] if begun and batch.lane_reset[lane] < 0 else np.uint64(0)
    epoch = slots.state_32[old + EPOCH] if begun else np.uint32(0)
    if batch.lane_reset[lane] >= 0:
        epoch += np.uint32(1)
    slots.state_64[header + STEP] = step + np.uint64(1)
    slots.state_32[new + EPOCH] = epoch


@inlined
def _forget(slots, new):
    """Turns a record with a non-finite state or output into one whose next row begins anew."""
    for word in range(new + HEADER, new + slots.words, LANES):
        store(slots.state, word, splat(_ZERO))
    slots.state_32[new + ENDED] = np.uint32(1 + _BY_DIVERGENCE)


@inlined
def write(net, slots, rules, batch, scratch, stats, lane):
    """Completes the record that a lane's step began: header, prediction. Does not commit it.

    Nothing non-finite stays in it: such a step leaves a stream that starts anew with its next row.
    """
    row = batch.lane_row[lane]
    slot = batch.slot[row]
    committed = slots.committed[slot]
    old, new = record(slots, slot, committed), record(slots, slot, committed + np.uint64(1))
    scale_output(net, scratch, lane, slots.state, new + slots.prediction_at)
    _write_header(slots, rules, batch, row, lane, old, new)
    past_input = slots.words - slots.prediction_at
    finite = _all_finite(slots.state, new + slots.prediction_at, past_input)
    if not finite:
        _forget(slots, new)
    if batch.lane_imagined[lane] == 1:
        return
    if batch.lane_reset[lane] >= 0:
        stats.resets[batch.lane_reset[lane]] += 1
    if not finite:
        _turn_away(stats, batch, row, _DIVERGED)
        return
    batch.outcome[row] = PREDICTED
    batch.step[row] = slots.state_64[new // 2 + STEP]
    batch.epoch[row] = slots.state_32[new + EPOCH]
    copy(batch.predicted, row * net.out_width, slots.state, new + slots.prediction_at, net.out_width)

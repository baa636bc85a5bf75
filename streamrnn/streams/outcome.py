"""What became of a row's step: the record that follows, and what is said of the row."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.network import DECODED, copy, scale_output
from streamrnn.kernels.simd import LANES, splat, store
from streamrnn.stats import NO_CHANNEL, PREDICTED, REASONS, RESETS
from streamrnn.streams.health import note_health, survey
from streamrnn.streams.record import DEGRADED, ENDED, EPOCH, FILLED, FIRST, MISSED, RESTORED, SEQ, STEP, TS
from streamrnn.streams.refusal import turn_away
from streamrnn.streams.several_rows import answers_due
from streamrnn.streams.slots import record, seal
from streamrnn.wire import frame

_DIVERGED = REASONS.index("diverged")
_BY_END, _BY_DIVERGENCE = RESETS.index("end"), RESETS.index("diverged")
_ZERO = np.float32(0)
_ONE = np.uint64(1)


@inlined
def _write_header(slots, rules, batch, row, lane, old, new):
    """Number, time, step and epoch of the record at ``new``, which follows the one at ``old``."""
    header, before = new // 2, old // 2
    begun = slots.committed[batch.slot[row]] > np.uint64(0)
    continues = begun and batch.lane_reset[lane] < 0
    ended, restored, first = np.uint32(0), np.uint32(0), batch.seq[row]
    filled = batch.lane_imagined[lane] == 1 or batch.said[row] & np.uint16(frame.IMPUTED) != 0
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
    missed = slots.state_32[old + MISSED] if begun else np.uint32(0)
    if batch.lane_imagined[lane] == 0:
        missed += batch.gap[row]
    slots.state_32[new + MISSED] = missed
    slots.state_32[new + EPOCH] = epoch + np.uint32(1 if batch.lane_reset[lane] >= 0 else 0)
    slots.state_32[new + ENDED] = ended
    slots.state_32[new + RESTORED] = restored
    slots.state_32[new + FILLED] = np.uint32(filled)


@inlined
def _forget(slots, old, new, begun):
    """Turns a record with a non-finite state or output into one whose next row begins anew."""
    for word in range(new + (slots.prediction_at if begun else slots.score_at), new + slots.words, LANES):
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
        turn_away(net, slots, batch, stats, row, _DIVERGED, NO_CHANNEL)
        return
    if slots.state_32[new + DEGRADED] > np.uint32(0):
        batch.said[row] |= np.uint16(frame.DEGRADED)
    batch.outcome[row] = PREDICTED
    batch.step[row] = slots.state_64[new // 2 + STEP]
    batch.answers[row] = answers_due(net, decoder, batch.flags[row], batch.step[row])
    batch.epoch[row] = slots.state_32[new + EPOCH]
    copy(batch.predicted, row * net.out_width, slots.state, new + slots.prediction_at, net.out_width)

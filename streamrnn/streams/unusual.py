"""How unusual the rows of a tile are after their forecasts, and what that says of each."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.finite import all_finite, filled
from streamrnn.kernels.rls import PROVES, TEACHES
from streamrnn.kernels.simd import LANES, load, store, widened
from streamrnn.streams import score
from streamrnn.streams.batch import SHARED
from streamrnn.streams.holding import is_held, keep_learned
from streamrnn.streams.judging import remember
from streamrnn.streams.rarity import rate
from streamrnn.streams.record import STEP
from streamrnn.streams.score_part import EVENT, UNUSUAL
from streamrnn.streams.spread import keep_spread, spread_at, update_spread
from streamrnn.wire import frame

_ZERO = np.float32(0)
_SCORED = np.uint16(0xFFFF & ~frame.WARMING)


@inlined
def compare(core, row, lane, old):
    """How far the channels of a row that are there are from its forecast, in standard deviations."""
    net, state, values, tile = core.net, core.slots.state, core.batch.values, core.tile
    at, forecast_at = row * net.in_width, old + core.slots.prediction_at
    for unit in range(0, net.out_width, LANES):
        value, forecast = load(values, at + unit), load(state, forecast_at + unit)
        error = widened(filled(value, forecast)) - widened(forecast)
        error = error * widened(load(net.out_scale, unit))
        store(tile.squares, lane * net.out_width + unit, error * error)
    there = net.outputs
    if not all_finite(values, at, net.out_width):
        for output in range(net.outputs):
            there -= np.isnan(values[at + output])
    tile.compared[lane] = there


@inlined
def measure(core, row, lane, old, new, continues):
    """What a row says of its forecast, if there is one, for ``settle``."""
    net, slots, rules, batch, tile = core.net, core.slots, core.rules, core.batch, core.tile
    state, before, after = slots.state, old + slots.score_at, new + slots.score_at
    says = continues
    if net.window > 0:  # or the forecast was of less than the network takes
        says = says and slots.state_64[old // 2 + STEP] >= np.uint64(net.window)
    if says:
        compare(core, row, lane, old)
    if not says or batch.said[row].gap > np.uint32(0):  # or the forecast was of another row
        score.keep(net, state, before, after, continues)
        if net.spread > 0:
            keep_spread(net, core.bands, state, spread_at(net, slots, old), spread_at(net, slots, new))
    else:
        at, forecast, values = row * net.in_width, old + slots.prediction_at, batch.values
        known = score.measure(net, rules.levels, state, before, after, values, at, forecast, tile.rated, lane)
        tile.measured[lane] = np.uint8(known)
        if net.spread > 0:
            before, after = spread_at(net, slots, old), spread_at(net, slots, new)
            if is_held(slots, old):
                keep_spread(net, core.bands, state, before, after)
            else:
                update_spread(net, core.bands, state, before, after, values, at, forecast)


@inlined
def _residual(core, lane):
    """Root mean square of (x - forecast) / std over the channels that are there."""
    net, tile = core.net, core.tile
    squares, first = 0.0, lane * net.out_width
    for output in range(net.outputs):
        squares += tile.squares[first + output]
    return np.float32(min(np.sqrt(squares / tile.compared[lane]), frame.LARGEST))


@inlined
def _follow(core, lane, before, after):
    """What EVENT is after the row of a lane, and what that says of it."""
    state, batch, tile = core.slots.state, core.batch, core.tile
    row = tile.row[lane]
    said, was = batch.said[row], state[before + EVENT]
    event = score.event_after(was, said.score, core.rules.threshold)
    state[after + EVENT] = event
    if was == _ZERO and event != _ZERO:
        batch.begins[row] = np.uint8(1)
        remember(core.slots, tile.slot[lane], tile.old[lane], said.seq)
    if event == UNUSUAL:
        said.flags |= np.uint16(frame.ANOMALY)
    if event != _ZERO and tile.shows[lane] == TEACHES:  # an unusual row must not teach
        tile.shows[lane] = PROVES


@inlined
def settle(core, lanes):
    """The residuals and scores of a tile's rows, for lanes that have them, and what follows from each."""
    net, slots, batch, tile = core.net, core.slots, core.batch, core.tile
    state = slots.state
    rate(tile.rated, lanes)
    for lane in range(lanes):
        said = batch.said[tile.row[lane]]
        if tile.compared[lane] > 0:
            said.residual = _residual(core, lane)
        if tile.measured[lane] == 0:
            continue
        before, after = tile.old[lane] + slots.score_at, tile.new[lane] + slots.score_at
        said.score = score.settle(state, before, after, tile.rated, lane)
        if is_held(slots, tile.old[lane]):
            keep_learned(net, state, before, state, after)
        if not np.isnan(said.score):
            said.flags &= _SCORED
        if said.score >= SHARED:
            score.share_out(net, state, after, batch.shares, tile.row[lane] * net.out_width)
        if state[before + EVENT] != _ZERO or said.score >= core.rules.threshold:
            _follow(core, lane, before, after)

"""From staged rows to what is said of them: the one compiled way that every row takes.

The daemon's pump and ``Engine.feed`` (replay, tests, benchmarks) call the same ``advance``, so what a
replay shows is what the daemon does.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import DECODED, Network, Scratch, forward
from streamrnn.kernels.rls import Adaptation, adapt
from streamrnn.stats import NO_CHANNEL, REASONS, STREAMS, Stats
from streamrnn.streams.batch import Batch, TileLanes
from streamrnn.streams.outcome import write
from streamrnn.streams.refusal import refuse_row
from streamrnn.streams.rules import IMAGINED, SKIP, Rules, prepare, refusal
from streamrnn.streams.several_rows import Decoder, begin_rows, go_on, take_rows
from streamrnn.streams.slots import Slots, admit, commit, find
from streamrnn.wire.codec import is_utf8
from streamrnn.wire.frame import PREDICTION

_CAPACITY, _TOPIC = REASONS.index("capacity"), REASONS.index("topic")
_OF_ROW = -1  # the step of the row itself, before those that go on from it


class Core(NamedTuple):
    """Everything that ``advance`` works on."""

    net: Network
    slots: Slots
    rules: Rules
    adaptation: Adaptation
    decoder: Decoder
    batch: Batch
    scratch: Scratch
    tile: TileLanes
    stats: Stats


def message_bytes(core: Core) -> int:
    """Of the largest prediction."""
    return PREDICTION.itemsize + 4 * max(core.decoder.rows, 1) * core.net.outputs


@inlined
def _link(slots, batch, count):
    """Chains the rows of each stream in order. Returns how many streams can begin at once."""
    batch.number[0] += 1
    ready = 0
    for row in range(count):
        slot = batch.slot[row]
        if slots.batch[slot] == batch.number[0]:
            batch.next[slots.tail[slot]] = row
        else:
            slots.batch[slot] = batch.number[0]
            batch.ready[ready] = row
            ready += 1
        slots.tail[slot] = row
        batch.next[row] = -1
        batch.said[row].gap = np.uint32(0)
    return ready


@inlined
def _correct(core, lane):
    """Corrects the forecast of a lane by what its stream has shown, and learns from its row."""
    slots, tile = core.slots, core.tile
    old, new = tile.old[lane] + slots.adapt_at, tile.new[lane] + slots.adapt_at
    row = tile.new[lane] + slots.input_at
    adapt(core.net, core.adaptation, core.scratch, lane, slots.state, old, new, row, tile.shows[lane])


@inlined
def advance(core, count):
    """Takes rows 0 to ``count`` of the batch through the rules and the network, and commits each.

    Rows of one stream are taken in order, one a round; a round's streams are stepped a tile at a
    time. A row behind a gap comes back in the next round until the rows before it are filled in. Rows to be
    answered by several go on from their own step, before anything else of their streams is stepped.
    """
    net, slots, batch, tile = core.net, core.slots, core.batch, core.tile
    ready = _link(slots, batch, count)
    while ready > 0:
        at = waiting = 0
        while at < ready:
            lanes = 0
            while at < ready and lanes < TILE_STREAMS:
                row = batch.ready[at]
                at += 1
                what = prepare(core, row, lanes)
                if what != SKIP:
                    lanes += 1
                following = row if what == IMAGINED else batch.next[row]
                if following >= 0:
                    batch.ready[waiting] = following
                    waiting += 1
            step, first, last = _OF_ROW, 0, net.row_products
            while lanes > 0:
                forward(net, core.scratch, tile, slots.state, lanes, first, last)
                if core.adaptation.features > 0:
                    for lane in range(lanes):
                        _correct(core, lane)
                if step == _OF_ROW:
                    for lane in range(lanes):
                        write(core, lane)
                        commit(slots, tile.slot[lane])
                    lanes = begin_rows(core, lanes)
                    first, last = net.decoder_at, net.chain.size
                    step = 0 if net.relation == DECODED else 1
                else:
                    take_rows(core, lanes, step)
                    step += 1
                if lanes > 0:
                    lanes = go_on(core, lanes, step)
        ready = waiting


@inlined
def stage(core, row, slot, flags, seq, ts, received):
    """Enters a row, its values already in place, for the next ``advance``."""
    batch = core.batch
    batch.slot[row] = slot
    batch.flags[row] = flags
    batch.said[row].seq = seq
    batch.said[row].ts_ns = ts
    batch.received[row] = received


@inlined
def slot_for(core, name, row):
    """The slot of the id at address ``name`` for row ``row`` of the batch, its values in place.

    Otherwise -1 - index into REASONS, counted.
    """
    slot = find(core.slots, name)
    if slot >= 0:
        return slot
    slot, reason, channel = new_slot(core, name, row)
    if reason < 0:
        return slot
    refuse_row(core, row, name, reason, channel)
    return -1 - reason


@inlined
def new_slot(core, name, row):
    """The slot of a stream that begins with row ``row`` of the batch; or -1, and as ``refusal`` why not.

    That row must be usable as it is: with nothing known of the stream there is nothing to fill in from.
    """
    reason, channel = refusal(core, row, False)
    if not is_utf8(name):
        reason, channel = _TOPIC, NO_CHANNEL
    if reason >= 0:
        return -1, reason, channel
    slot = admit(core.slots, name)
    core.stats.counters[STREAMS] = core.slots.counts[1]
    return slot, -1 if slot >= 0 else _CAPACITY, NO_CHANNEL

"""From staged rows to what is said of them: the one compiled way that every row takes.

The daemon's pump and ``Engine.feed`` (replay, tests, benchmarks) call the same ``advance``, so what a
replay shows is what the daemon does. What depends on the kind of network, ``step_streams``, is compiled by
itself; whoever calls ``advance`` is compiled once for all of them.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.calls import Callee, Prepared, call
from streamrnn.compiling.inside import KNOWN
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.engine.crew import Crew, join, lay_out, take
from streamrnn.engine.stopwatch import COMMIT, ORDER, RULES, SCORE, STEP, TALLY, Stopwatch, lap
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import DECODED, Network, Scratch, forward
from streamrnn.kernels.rls import Adaptation, adapt
from streamrnn.kernels.windows import forward_windows
from streamrnn.stats import NO_CHANNEL, REASONS, STREAMS, Stats
from streamrnn.streams.bands import Bands
from streamrnn.streams.batch import Batch, TileLanes
from streamrnn.streams.commit import commit
from streamrnn.streams.happenings import Ring
from streamrnn.streams.outcome import write
from streamrnn.streams.refusal import refuse_row, tally
from streamrnn.streams.rules import IMAGINED, SKIP, Rules, prepare, refusal
from streamrnn.streams.several_rows import Decoder, begin_rows, go_on, take_head_rows, take_rows
from streamrnn.streams.slots import Slots, admit, find, record, zero_record
from streamrnn.streams.unusual import settle
from streamrnn.wire.codec import is_utf8
from streamrnn.wire.frame import PREDICTION
from streamrnn.wire.memory import address_of, prefetch

_CAPACITY, _TOPIC = REASONS.index("capacity"), REASONS.index("topic")
_FAR = 1 << 22  # words of records, from which on most must be fetched from memory
_APART = 256  # bytes
_OF_ROW = -1  # the step of the row itself, before those that go on from it


class Core(NamedTuple):
    """Everything that ``advance`` works on."""

    net: Network
    slots: Slots
    rules: Rules
    adaptation: Adaptation
    bands: Bands
    decoder: Decoder
    batch: Batch
    scratch: Scratch
    tile: TileLanes
    crew: Crew
    stats: Stats
    journal: Ring
    watch: Stopwatch
    stepping: Callee  # ``take_through``, once it is prepared


def message_bytes(core: Core) -> int:
    """Of the largest prediction."""
    values = max(core.decoder.rows, 1) * core.net.outputs
    return PREDICTION.itemsize + 4 * values * (1 + 2 * core.bands.number)


@inlined
def _link(slots, batch, ready, count):
    """Chains the rows of each stream in order, and lists the first ones. Returns how many streams."""
    batch.number[0] += 1
    streams = 0
    for row in range(count):
        slot = batch.slot[row]
        if slots.notes[slot].batch == batch.number[0]:
            batch.next[slots.notes[slot].tail] = row
        else:
            slots.notes[slot].batch = batch.number[0]
            ready[streams] = row
            streams += 1
        slots.notes[slot].tail = row
        batch.next[row] = -1
        batch.said[row].gap, batch.reset[row] = np.uint32(0), -1
    return streams


@inlined
def _fetch(core, first, end):
    """Has the records fetched of the streams ``first`` to ``end`` of those that are ready.

    Where they are more than the caches hold. Of every few lines one, the processor then guesses the others.
    """
    slots, batch, ready = core.slots, core.batch, core.crew.ready
    if slots.counts[1] * slots.words < _FAR:
        return
    for at in range(first, end):
        here = address_of(slots.state, record(slots, batch.slot[ready[at]]))
        for byte in range(0, 4 * slots.words, _APART):
            prefetch(here + byte)


@inlined
def _correct(core, lane):
    """Corrects the forecast of a lane by what its stream has shown, and learns from its row."""
    slots, tile = core.slots, core.tile
    old, new = tile.old[lane] + slots.adapt_at, tile.new[lane] + slots.adapt_at
    row = tile.new[lane] + slots.input_at
    adapt(core.net, core.adaptation, core.scratch, lane, slots.state, old, new, row, tile.shows[lane])


@inlined
def _set_up(core, streams):
    """Sets a lane up for a row of each of the ``streams`` in hand. Returns how many; some may end here."""
    batch, tile = core.batch, core.tile
    lane = 0
    while lane < streams:
        row = tile.following[lane]
        what = prepare(core, row, lane)
        tile.following[lane] = row if what == IMAGINED else batch.next[row]
        if what != SKIP:
            lane += 1
        elif tile.following[lane] < 0:
            streams -= 1
            tile.following[lane] = tile.following[streams]
    return streams


@inlined
def _step(core, lanes):
    """Steps the streams in the lanes, and commits each. Rows to be answered by several go on from there."""
    net, slots, tile = core.net, core.slots, core.tile
    step, first, last = _OF_ROW, 0, net.row_products
    while lanes > 0:
        if net.window > 0:
            nothing = zero_record(slots) + slots.hidden_at
            forward_windows(net, core.scratch, tile, slots.state, nothing, lanes)
        else:
            forward(net, core.scratch, tile, slots.state, lanes, first, last)
        if core.adaptation.features > 0:
            for lane in range(lanes):
                _correct(core, lane)
        lap(core.watch, STEP)
        if core.decoder.rows == 0 or step == _OF_ROW:
            for lane in range(lanes):
                write(core, lane)
                commit(slots, tile.slot[lane], tile.new[lane])
            if net.head_rows > 0:
                take_head_rows(core, lanes)
            if core.decoder.rows == 0 or net.head_rows > 0:
                lap(core.watch, COMMIT)
                break
            lanes = begin_rows(core, lanes)
            first, last = net.decoder_at, net.chain.size
            step = 0 if net.relation == DECODED else 1
        else:
            take_rows(core, lanes, step)
            step += 1
        lap(core.watch, COMMIT)
        if lanes > 0:
            lanes = go_on(core, lanes, step)


@inlined
def step_streams(core, shared, streams):
    """What a worker does of a batch of so many streams. Returns how many it took through all of their rows.

    Streams are taken in hand as others end, so that tiles stay full, and a row of each is stepped with every
    tile. A row behind a gap comes back until the rows before it are filled in.
    """
    crew, tile = core.crew, core.tile
    taken = hand = 0
    while True:
        first, more, end = take(crew, shared, streams, TILE_STREAMS - hand)
        ahead = min(first + TILE_STREAMS, end)
        if taken == 0:
            _fetch(core, first, ahead)
        _fetch(core, ahead, min(ahead + more, end))
        for place in range(first, first + more):
            tile.following[hand] = crew.ready[place]
            hand += 1
        if hand == 0:
            return taken
        taken += more
        lap(core.watch, ORDER)
        lanes = _set_up(core, hand)
        lap(core.watch, RULES)
        if core.net.forecasts == 1:
            settle(core, lanes)
            lap(core.watch, SCORE)
        _step(core, lanes)
        hand = 0
        for lane in range(lanes):
            if tile.following[lane] >= 0:
                tile.following[hand] = tile.following[lane]
                hand += 1


@compiled(no_cpython_wrapper=True)
def take_through(core, shared, streams):
    """``step_streams`` by itself, for ``call``."""
    return step_streams(core, shared == 1, streams)


def prepared(core: Core) -> tuple[Core, object]:
    """A core for ``advance``, good for as long as what comes with it.

    What is replaced in it afterwards, the steps do not see.
    """
    if not KNOWN:
        return core, None
    stepping = Prepared(take_through, core)
    return core._replace(stepping=stepping.callee), stepping


if KNOWN:

    @inlined
    def _take_through(core, shared, streams):
        stepping = core.stepping
        return call(stepping.code, stepping.words, np.int64(shared), streams)

else:
    _take_through = step_streams


@inlined
def help_through(core):
    """Takes of the streams that are laid out for all workers. Returns how many it took through."""
    return _take_through(core, True, 0)


@inlined
def advance(core, count):
    """Takes rows 0 to ``count`` of the batch through the rules and the network, and commits each.

    Rows of one stream are taken in order, by one worker.
    """
    streams = _link(core.slots, core.batch, core.crew.ready, count)
    shared = lay_out(core.crew, core.batch, streams, count)
    taken = _take_through(core, shared, streams)
    if shared:
        join(core.crew, taken)
    lap(core.watch, ORDER)
    tally(core, count)
    lap(core.watch, TALLY)


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

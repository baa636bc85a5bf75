"""The compiled half of the assembler: updates into the ticks that wait, and from these into rows.

The ticks that wait stand in a ring: one that the newest time has not let go is at most ``lateness`` behind
it, so that with the newest tick itself there are ceil(lateness / period) + 1 of them at most.

A row finds room, or the kernel stops there, says so, and is called again: everything done until then may
be done twice, and the update itself goes in only after the rows that it lets go have left.
"""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.rows.layout import (
    ASIDE,
    ASIDE_CAME,
    ASIDE_TICK,
    BEGINS,
    BEGUN,
    BELIEF,
    BELIEVED,
    DOUBTED,
    FIELDS,
    FIRST,
    FREE,
    FRESH,
    FURTHEST,
    HEARD,
    HELD,
    IGNORED,
    LAST,
    LATE,
    LEFT,
    MEAN,
    MIN,
    NEVER,
    NEWEST,
    PAST,
    REPLAYED,
    REPLAYING,
    ROWS_GIVEN,
    SILENT,
    SPOKE,
    STAGE,
    TICK,
    TIME,
    UNPLACED,
    UNTIL,
    VALUES_HELD,
    VALUES_MISSING,
    WAITING,
    WILD,
)


@inlined
def _tick(ticks, ts):
    """The tick whose interval ((k - 1) P, k P] holds ``ts``."""
    return -(-ts // ticks.period)


@inlined
def _tick_near(ticks, at, ts):
    """The same, sooner where it is the stream's newest one or the next: a division takes longest of all."""
    newest = ticks.fields[at + TICK]
    behind = newest * ticks.period - ts
    if 0 <= behind < ticks.period:
        return newest
    if -ticks.period <= behind < 0:
        return newest + 1
    return _tick(ticks, ts)


@inlined
def _give(ticks, room, stream, tick, slot):
    """Writes the row of a tick that has something in it, and frees its slot of the ring."""
    at, row = stream * FIELDS, room.filled[0]
    first, cell, to = stream * ticks.channels, slot * ticks.channels, row * ticks.channels
    now, held, missing = tick * ticks.period, 0, 0
    for channel in range(ticks.channels):
        here = first + channel
        count = ticks.waits_count[cell + channel]
        if count > 0:
            value = ticks.waits[cell + channel]
            if ticks.take == MEAN:
                value /= count
            ticks.gave[here], ticks.gave_ns[here] = value, ticks.waits_ns[cell + channel]
            until = ticks.gave_ns[here] + ticks.hold[channel]
            ticks.fields[at + UNTIL] = max(ticks.fields[at + UNTIL], until)
            ticks.waits_count[cell + channel] = 0
            ticks.how[here] = FRESH
        elif now - ticks.gave_ns[here] <= ticks.hold[channel]:
            value = ticks.gave[here]
            ticks.how[here] = HELD
            held += 1
        else:
            value = np.nan
            ticks.how[here] = SILENT
            missing += 1
        room.values[to + channel] = value
    room.stream[row], room.tick[row] = stream, tick
    room.begins[row] = ticks.fields[at + BEGINS] == 1
    ticks.fields[at + BEGINS] = 0
    if ticks.occupied[slot] > 0:
        ticks.occupied[slot] = 0
        ticks.fields[at + WAITING] -= 1
    room.filled[0] = row + 1
    ticks.counts[ROWS_GIVEN] += 1
    ticks.counts[VALUES_HELD] += held
    ticks.counts[VALUES_MISSING] += missing


@inlined
def _leave(ticks, room, stream, until, by_clock):
    """Lets the ticks up to ``until`` go, by the clock none behind the last row. Whether there was room."""
    at, fields = stream * FIELDS, ticks.fields
    before = left = fields[at + LEFT]
    done = True
    while left < until:
        tick = left + 1
        slot = stream * ticks.ring + (tick & (ticks.ring - 1))
        if ticks.occupied[slot] == 0 and tick * ticks.period > fields[at + UNTIL]:
            if fields[at + WAITING] > 0:
                left = tick
                continue
            if not by_clock:  # nothing waits and nothing is held: the rest is all alike
                left = until
            break
        if room.filled[0] == room.tick.size:
            done = False
            break
        _give(ticks, room, stream, tick, slot)
        left = tick
    if left != before:
        fields[at + LEFT] = left
        past = 0
        for channel in range(stream * ticks.channels, (stream + 1) * ticks.channels):
            past += ticks.spoken[channel] > left + 1
        fields[at + PAST] = past
    return done


@inlined
def _keep(ticks, cell, ts, value):
    """Adds an update to what waits of its channel and tick."""
    count = ticks.waits_count[cell]
    kept = ticks.waits[cell]
    if ticks.take == MEAN:
        value = kept + value if count > 0 else value
    elif ticks.take == LAST:
        value = kept if count > 0 and ts < ticks.waits_ns[cell] else value
    elif ticks.take == MIN:
        value = value if count == 0 or value < kept else kept
    else:
        value = value if count == 0 or value > kept else kept
    ticks.waits[cell] = value
    ticks.waits_ns[cell] = max(ticks.waits_ns[cell], ts) if count > 0 else ts
    ticks.waits_count[cell] = count + 1


@inlined
def _enter(ticks, room, stream, channel, ts, value, tick):
    """An update in time: what it lets go leaves, then it waits. Whether there was room."""
    at, fields = stream * FIELDS, ticks.fields
    here = stream * ticks.channels + channel
    if fields[at + STAGE] == FIRST:
        fields[at + STAGE] = BEGUN
        fields[at + NEWEST], fields[at + TICK] = ts, tick
        fields[at + LEFT] = max(-1, _tick(ticks, ts - ticks.lateness) - 1)  # what is before 1970 is no row
    if ts > fields[at + NEWEST]:
        fields[at + NEWEST], fields[at + TICK] = ts, tick
    following = fields[at + LEFT] + 1
    if tick > ticks.spoken[here]:
        if ticks.spoken[here] <= following < tick:
            fields[at + PAST] += 1
        ticks.spoken[here] = tick
    passed = fields[at + PAST] == ticks.channels
    if passed or fields[at + NEWEST] - ticks.lateness > following * ticks.period:
        until = _tick(ticks, fields[at + NEWEST] - ticks.lateness) - 1
        if passed:
            slowest = tick
            for other in range(stream * ticks.channels, (stream + 1) * ticks.channels):
                slowest = min(slowest, ticks.spoken[other])
            until = max(until, slowest - 1)
        if not _leave(ticks, room, stream, until, False):
            return False
    slot = stream * ticks.ring + (tick & (ticks.ring - 1))
    cell = slot * ticks.channels + channel
    if ticks.occupied[slot] == 0:
        ticks.occupied[slot] = 1
        fields[at + WAITING] += 1
    _keep(ticks, cell, ts, value)
    return True


@inlined
def _put_aside(ticks, stream, channel, ts, value, tick, now):
    """An update of a wild time waits for others that agree with it. Whether they are believed now."""
    at, fields = stream * FIELDS, ticks.fields
    count = fields[at + ASIDE]
    if count > 0:
        before = _tick(ticks, ticks.aside_ns[stream * ticks.agreeing + count - 1])
        ahead, were_ahead = tick > fields[at + TICK], fields[at + ASIDE_TICK] > fields[at + TICK]
        if ahead != were_ahead or tick < before - ticks.leap:
            ticks.counts[WILD] += count
            count = 0
    if count == 0:
        fields[at + ASIDE_TICK] = tick
    to = stream * ticks.agreeing + count
    ticks.aside_channel[to], ticks.aside_ns[to], ticks.aside_value[to] = channel, ts, value
    fields[at + ASIDE], fields[at + ASIDE_CAME] = count + 1, now
    if count + 1 == ticks.agreeing:
        fields[at + BELIEF] = BELIEVED
    return fields[at + BELIEF] == BELIEVED


@inlined
def _begin_anew(ticks, stream):
    """Forgets a stream of which nothing waits, but for what it has said aside."""
    at = stream * FIELDS
    ticks.fields[at + STAGE] = FIRST
    ticks.fields[at + PAST], ticks.fields[at + UNTIL], ticks.fields[at + BEGINS] = 0, NEVER, 1
    for channel in range(stream * ticks.channels, (stream + 1) * ticks.channels):
        ticks.spoken[channel] = ticks.gave_ns[channel] = NEVER


@inlined
def _believe(ticks, room, stream):
    """What was put aside goes in, in order. Whether there was room for what left."""
    at, fields = stream * FIELDS, ticks.fields
    if fields[at + BELIEF] == BELIEVED:
        if fields[at + ASIDE_TICK] < fields[at + TICK]:
            if not _leave(ticks, room, stream, fields[at + TICK], False):
                return False
            _begin_anew(ticks, stream)
        fields[at + BELIEF], fields[at + REPLAYED] = REPLAYING, 0
        fields[at + SPOKE] = fields[at + ASIDE_CAME]
    while fields[at + REPLAYED] < fields[at + ASIDE]:
        update = stream * ticks.agreeing + fields[at + REPLAYED]
        ts = ticks.aside_ns[update]
        tick = _tick(ticks, ts)
        if fields[at + STAGE] == BEGUN and tick <= fields[at + LEFT]:
            ticks.counts[LATE] += 1
        elif not _enter(
            ticks, room, stream, ticks.aside_channel[update], ts, ticks.aside_value[update], tick
        ):
            return False
        fields[at + REPLAYED] += 1
    fields[at + BELIEF], fields[at + ASIDE] = DOUBTED, 0
    return True


@compiled
def take_updates(ticks, updates, room, first, now):
    """Takes the updates from ``first`` on, said at ``now``, ns of our clock.

    Returns how many are done: fewer than there are, and no room is left.
    """
    fields, counts, streams = ticks.fields, ticks.counts, ticks.fields.size // FIELDS
    for update in range(first, updates.ts.size):
        stream, channel = np.int64(updates.stream[update]), np.int64(updates.channel[update])
        if stream < 0 or stream >= streams or channel < 0 or channel >= ticks.channels:
            counts[UNPLACED] += 1
            continue
        at = stream * FIELDS
        if fields[at + STAGE] == FREE:
            counts[UNPLACED] += 1
            continue
        if fields[at + BELIEF] == DOUBTED:  # or else it is the last one put aside, and they are going in
            ts, value = updates.ts[update], updates.value[update]
            if not np.isfinite(value):
                counts[IGNORED] += 1
                continue
            if ts <= -ticks.period or ts > FURTHEST:
                counts[TIME] += 1
                continue
            fields[at + HEARD] = now
            tick = _tick_near(ticks, at, ts)
            begun = fields[at + STAGE] == BEGUN
            if not begun or abs(tick - fields[at + TICK]) <= ticks.leap:
                if begun and tick <= fields[at + LEFT]:
                    counts[LATE] += 1
                    continue
                counts[WILD] += fields[at + ASIDE]
                fields[at + ASIDE] = 0
                fields[at + SPOKE] = now
                if not _enter(ticks, room, stream, channel, ts, value, tick):
                    return update
                continue
            if not _put_aside(ticks, stream, channel, ts, value, tick, now):
                continue
        if not _believe(ticks, room, stream):
            return update
    return updates.ts.size


@compiled
def release_rows(ticks, room, first, streams, now, at_the_end):
    """Lets go what is due at ``now``, ns of our clock, of the streams from ``first`` on; or all that waits.

    Returns how many streams are done: fewer than ``streams``, and no room is left.
    """
    fields = ticks.fields
    for stream in range(first, streams):
        at = stream * FIELDS
        if fields[at + STAGE] == FREE:
            continue
        waited = at_the_end or now - fields[at + ASIDE_CAME] > ticks.lateness
        if waited and fields[at + BELIEF] == DOUBTED and fields[at + ASIDE] > 0:
            fields[at + BELIEF] = BELIEVED
        if fields[at + BELIEF] != DOUBTED and not _believe(ticks, room, stream):
            return stream
        if fields[at + STAGE] == FIRST:
            continue
        until = fields[at + TICK]
        if not at_the_end:
            silence = max(0, now - fields[at + SPOKE])
            until = _tick(ticks, fields[at + NEWEST] + silence - ticks.lateness) - 1
        if not _leave(ticks, room, stream, until, not at_the_end):
            return stream
    return streams

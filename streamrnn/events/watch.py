"""What the journal's thread sees of all streams, now and then, while the pump goes on. Compiled.

Which were silent for long and spoke again, which lack rows, in which an event goes on; and their last rows,
for recordings. The pump neither waits nor knows.
"""

import mmap
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.events.recording import ANOMALY, GAP, IMPUTED, RESET
from streamrnn.streams.happenings import SEALED
from streamrnn.streams.rarity import SPARES
from streamrnn.streams.record import (
    COUNT,
    EPOCH,
    FILLED,
    FORESEEN,
    MISSED,
    RECEIVED,
    RESTORED,
    SEQ,
    STEP,
    TS,
)
from streamrnn.streams.score_part import EVENT, OF_INSTANT, OF_RUN, ROWS, UNUSUAL, WARMING_ROWS, WAYS
from streamrnn.streams.slots import Slots, record
from streamrnn.wire.memory import load_ordered

FOUND = 4096  # of one look
SILENT, HEARD, LACKS = 1, 2, 3  # kinds of what is found
SIGHTING = np.dtype(
    [
        ("slot", np.int64),
        ("kind", np.int64),
        ("rows", np.int64),  # that are missing, and all that ever were
        ("missed", np.int64),
        ("seq", np.uint64),  # of the last row, and when it was
        ("ts_ns", np.int64),
        ("received", np.int64),  # CLOCK_MONOTONIC ns
        ("stream", np.uint64),  # ``id_check`` of whose slot it was
    ]
)
SAMPLE = np.dtype(
    [
        ("received", np.int64),  # CLOCK_MONOTONIC ns
        ("ts_ns", np.int64),
        ("seq", np.uint64),
        ("score", np.float32),
        ("mark", np.uint32),
    ]
)
# What is known of a slot: a cache line.
SEEN = np.dtype(
    {
        "names": [
            *("stream", "count", "received", "usual", "step"),
            *("epoch", "missed", "taken", "silent", "event"),
        ],
        "formats": [
            np.uint64,  # ``id_check`` of whose it is
            np.uint64,  # the counter at the last look; 0 = nobody's
            np.int64,  # CLOCK_MONOTONIC ns of the row that was the last one then
            np.float64,  # ns from one such row to the next
            np.uint64,
            np.uint32,
            np.uint32,
            np.int64,  # samples so far
            np.uint8,  # 1 = it is, and that was said
            np.uint8,  # 1 = an event goes on
        ],
        "itemsize": 64,
    }
)
_TRIES = 4
_USUALLY = 10  # times the usual time between rows is a silence
_ZERO, _NAN = np.float32(0), np.float32("nan")
_NONE = np.uint64(0)


class Watch(NamedTuple):
    """What was seen, and the last ``kept`` samples of every stream."""

    kept: int
    channels: int
    outputs: int  # 0 = nothing is forecast
    seen: np.ndarray  # (capacity,) of SEEN
    samples: np.ndarray  # (capacity * kept,) of SAMPLE
    values: np.ndarray  # (capacity * kept * (channels + outputs),) float32: a row, its forecast
    found: np.ndarray  # (FOUND,) of SIGHTING


def sample_bytes(channels: int, outputs: int) -> int:
    return SAMPLE.itemsize + 4 * (channels + outputs)


def make_watch(capacity: int, kept: int, channels: int, outputs: int) -> Watch:
    """``kept`` samples of each of ``capacity`` streams; memory is taken as they come."""

    def array(count: int, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(mmap.mmap(-1, dtype.itemsize * max(count, 1)), dtype)[:count]

    return Watch(
        kept=kept,
        channels=channels,
        outputs=outputs,
        seen=array(capacity, SEEN),
        samples=array(capacity * kept, SAMPLE),
        values=array(capacity * kept * (channels + outputs), np.dtype(np.float32)),
        found=np.zeros(FOUND, SIGHTING),
    )


def preset(slots: Slots, watch: Watch, used: np.ndarray) -> None:
    """Takes the streams in the slots ``used`` as they are when nothing steps them yet; nothing is found."""
    words = slots.state_64.reshape(-1, slots.words // 2)[used]
    halves = slots.state_32.reshape(-1, slots.words)[used]
    seen = watch.seen
    seen["stream"][used], seen["count"][used] = slots.notes["id_check"][used], slots.committed[used]
    seen["received"][used], seen["step"][used] = words[:, RECEIVED].view(np.int64), words[:, STEP]
    seen["epoch"][used], seen["missed"][used] = halves[:, EPOCH], halves[:, MISSED]
    if watch.outputs:
        seen["event"][used] = halves[:, slots.score_at + EVENT] != 0


@inlined
def _score(state, at):
    """As ``last_scores``."""
    if state[at + ROWS] <= np.float32(WARMING_ROWS):
        return _NAN
    score = max(_ZERO, state[at + OF_RUN])
    for way in range(len(WAYS)):
        score = max(score, np.float32(np.float64(state[at + OF_INSTANT + way]) - SPARES[way]))
    return score


@inlined
def _take_sample(slots, watch, slot, at, mark):
    """Copies a stream's last row to the place of its next sample, where the next one goes if it is torn."""
    seen, state = watch.seen[slot], slots.state
    place = slot * watch.kept + seen.taken % watch.kept
    sample = watch.samples[place]
    sample.received = np.int64(slots.state_64[at // 2 + RECEIVED])
    sample.ts_ns = np.int64(slots.state_64[at // 2 + TS])
    sample.seq = slots.state_64[at // 2 + SEQ]
    sample.score = _score(state, at + slots.score_at)
    sample.mark = mark
    to = place * (watch.channels + watch.outputs)
    for channel in range(watch.channels):
        watch.values[to + channel] = state[at + slots.input_at + channel]
    foreseen = slots.state_32[at + FORESEEN] != np.uint32(0)
    for output in range(watch.outputs):
        forecast = state[at + slots.forecast_at + output] if foreseen else _NAN
        watch.values[to + watch.channels + output] = forecast


@inlined
def _mark(slots, seen, at, event, begun):
    """What stands out in a row, and in those since the last look."""
    mark = np.uint32(IMPUTED) if slots.state_32[at + FILLED] != np.uint32(0) else np.uint32(0)
    if event == UNUSUAL:
        mark |= np.uint32(ANOMALY)
    if not begun:
        if slots.state_32[at + EPOCH] != seen.epoch:
            mark |= np.uint32(RESET)
        if slots.state_32[at + MISSED] != seen.missed:
            mark |= np.uint32(GAP)
    return mark


@inlined
def _find(watch, count, kind, slot, rows, seq, ts, received):
    found = watch.found[count]
    found.slot, found.kind, found.rows = slot, kind, rows
    found.seq, found.ts_ns, found.received = seq, ts, received
    found.stream = watch.seen[slot].stream
    found.missed = np.int64(watch.seen[slot].missed) + rows
    return count + 1


@inlined
def _look_at(slots, watch, slot, count, sampling):
    """Takes in what is new in a slot. Returns how much was found so far."""
    seen, at = watch.seen[slot], record(slots, slot)
    event = np.float32(0)
    for _ in range(_TRIES):
        before = load_ordered(slots.state_64, at // 2 + COUNT)
        seq, ts = slots.state_64[at // 2 + SEQ], np.int64(slots.state_64[at // 2 + TS])
        received = np.int64(slots.state_64[at // 2 + RECEIVED])
        missed, epoch = slots.state_32[at + MISSED], slots.state_32[at + EPOCH]
        step, stream = slots.state_64[at // 2 + STEP], slots.notes[slot].id_check
        lacks = np.int64(missed) - np.int64(seen.missed)
        begun = seen.count == _NONE or stream != seen.stream or lacks < 0
        begun = begun or (epoch == np.uint32(0) and step < seen.step)
        put_back = lacks < 0 or slots.state_32[at + RESTORED] != np.uint32(0)
        if watch.outputs > 0:
            event = slots.state[at + slots.score_at + EVENT]
            if sampling:
                _take_sample(slots, watch, slot, at, _mark(slots, seen, at, event, begun))
        if load_ordered(slots.committed, slot) == before:
            break
    else:
        return count  # it is stepped faster than it can be read: next time
    if begun:
        if stream != seen.stream:
            seen.taken, seen.silent, seen.usual = 0, np.uint8(0), 0.0
        seen.stream, seen.missed = stream, missed if put_back else np.uint32(0)
    lacks = np.int64(missed) - np.int64(seen.missed)
    if lacks > 0:
        count = _find(watch, count, LACKS, slot, lacks, seq, ts, received)
    if received > seen.received and not begun:
        apart = np.float64(received - seen.received)
        if seen.silent == np.uint8(1):
            count = _find(watch, count, HEARD, slot, 0, seq, ts, received)
            seen.silent = np.uint8(0)
        elif seen.usual == 0.0:
            seen.usual = apart
        else:
            seen.usual += 0.1 * (apart - seen.usual)
    seen.received, seen.step, seen.epoch, seen.missed = received, step, epoch, missed
    seen.count, seen.event = before, np.uint8(event != np.float32(0))
    seen.taken += sampling
    return count


@compiled
def look(slots: Slots, watch: Watch, now: int, since: int, silence: int, sampling: int) -> int:
    """Looks at all streams. Returns how much was found, in ``watch.found``; where that is full, the rest is
    found the next time.

    ``now`` and ``since``, CLOCK_MONOTONIC ns: no silence began before that. ``silence`` ns without a row, and
    more than is usual, are one; 0 = none are. ``sampling``: 1 takes a sample of each stream that went on.
    """
    count = 0
    for slot in range(slots.capacity):
        if count + 2 > FOUND:
            break
        committed = load_ordered(slots.committed, slot)
        if committed == _NONE:
            watch.seen[slot].count = _NONE
            watch.seen[slot].event = np.uint8(0)
            continue
        seen = watch.seen[slot]
        if committed != seen.count or slots.notes[slot].id_check != seen.stream:
            count = _look_at(slots, watch, slot, count, sampling)
        elif silence > 0 and seen.silent == np.uint8(0):
            quiet = now - max(seen.received, since)
            if quiet > silence and quiet > _USUALLY * seen.usual:
                at = record(slots, slot) // 2
                seq, ts = slots.state_64[at + SEQ], np.int64(slots.state_64[at + TS])
                count = _find(watch, count, SILENT, slot, 0, seq, ts, max(seen.received, since))
                seen.silent = np.uint8(1)
    return count


@compiled
def sealed_of(marks: np.ndarray) -> int:
    """How many entries of a ring, by its ``marks``, are there to read: of rows that are committed."""
    return load_ordered(marks, SEALED)

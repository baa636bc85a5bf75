"""How two models come to differ over the same rows: counted by the pump, read by others without a lock."""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.streams.batch import ROWS
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.score_part import QUIET
from streamrnn.wire import frame
from streamrnn.wire.clock import realtime_ns
from streamrnn.wire.memory import address_of, copy_bytes

FIRST, SHADOW, PERSISTENCE = range(3)  # whose errors
LATEST = 32  # beginnings of events that are kept
BINS, PER_SCORE = 100, 10  # of the histogram of scores; the last bin holds all above
# An event that began with one of the two models, and what both said of that row.
BEGINNING = np.dtype(
    [
        ("stream", np.uint64, ID_WORDS),
        ("when_ns", np.int64),  # CLOCK_REALTIME
        ("ts_ns", np.int64),  # of the row; 0 = none
        ("seq", np.uint64),
        ("score", np.float32),  # of the first model; NaN = none
        ("shadow_score", np.float32),
        ("begins", np.uint8),  # 1 = with the first model
        ("shadow_begins", np.uint8),
    ]
)
_ANOMALY = np.uint16(frame.ANOMALY)


class SideBySide(NamedTuple):
    """Of the rows that both models answered."""

    rows: np.ndarray  # (2,) int64: how many; and of how many both had a forecast, no row missing before them
    values: np.ndarray  # (outputs,) int64: values of these that had come, channel by channel
    squares: np.ndarray  # (3 * outputs,) float64: squares of the errors: of FIRST, SHADOW, PERSISTENCE
    scores: np.ndarray  # (2 * BINS,) int64: rows by score, where both had one: of FIRST, then SHADOW
    events: np.ndarray  # (2,) int64: that began
    met: np.ndarray  # (2,) int64: of these, during which the other had one, too
    # of each slot of the shadow, (2 * capacity,) uint8 each:
    near: np.ndarray  # rows for which an event counts as going on yet
    open: np.ndarray  # 1 while an event that was counted has not met one of the other's
    latest: np.ndarray  # (LATEST,) of BEGINNING
    begun: np.ndarray  # (1,) int64: how many were ever written there
    spent_ns: np.ndarray  # (1,) int64: time of the pump's thread that the shadow took


def make_side_by_side(outputs: int, capacity: int) -> SideBySide:
    """``outputs``: channels that both forecast."""
    return SideBySide(
        rows=np.zeros(2, np.int64),
        values=np.zeros(outputs, np.int64),
        squares=np.zeros(3 * outputs),
        scores=np.zeros(2 * BINS, np.int64),
        events=np.zeros(2, np.int64),
        met=np.zeros(2, np.int64),
        near=np.zeros(2 * capacity, np.uint8),
        open=np.zeros(2 * capacity, np.uint8),
        latest=np.zeros(LATEST, BEGINNING),
        begun=np.zeros(1, np.int64),
        spent_ns=np.zeros(1, np.int64),
    )


@inlined
def compare(beside, row, place):
    """Adds up the squared errors of the two forecasts of a row, and of its last values, in physical units.

    ``row`` is its place in the first model's batch, ``place`` in the shadow's. Values that did not come, and
    rows behind a gap, whose forecasts were of another row, are left out.
    """
    first, shadow, found = beside.first, beside.shadow, beside.found
    said, shadows = first.batch.said[row], shadow.batch.said[place]
    gone = said.gap > np.uint32(0) or shadows.gap > np.uint32(0)
    if gone or np.isnan(said.residual) or np.isnan(shadows.residual):
        return
    found.rows[1] += 1
    came_at, mine_at = row * first.net.in_width, place * first.net.in_width
    one_at, other_at = row * beside.width, (ROWS + place) * beside.width
    for output in range(beside.outputs):
        value = beside.came[came_at + output]
        if value != first.batch.values[came_at + output] or value != shadow.batch.values[mine_at + output]:
            continue  # filled in by one of them: it was NaN, or stood for a missing one
        found.values[output] += 1
        one = np.float64(value) - np.float64(beside.forecasts[one_at + output])
        other = np.float64(value) - np.float64(beside.forecasts[other_at + output])
        change = np.float64(value) - np.float64(beside.last[came_at + output])
        found.squares[FIRST * beside.outputs + output] += one * one
        found.squares[SHADOW * beside.outputs + output] += other * other
        found.squares[PERSISTENCE * beside.outputs + output] += change * change


@inlined
def note_scores(found, one, other):
    """Counts the scores of a row, where both models have one."""
    if not (np.isnan(one) or np.isnan(other)):
        found.scores[min(np.int64(one * PER_SCORE), BINS - 1)] += 1
        found.scores[BINS + min(np.int64(other * PER_SCORE), BINS - 1)] += 1


@inlined
def _keep_beginning(beside, row, place):
    """Writes down that an event begins with a row, of one model or both."""
    first, shadow, found = beside.first, beside.shadow, beside.found
    kept, said = found.latest[found.begun[0] % LATEST], first.batch.said[row]
    name = address_of(first.slots.ids, first.batch.slot[row] * ID_WORDS)
    copy_bytes(address_of(found.latest, found.begun[0] % LATEST), name, 8 * ID_WORDS)
    kept.when_ns, kept.ts_ns, kept.seq = realtime_ns(), said.ts_ns, said.seq
    kept.score, kept.shadow_score = said.score, shadow.batch.said[place].score
    kept.begins, kept.shadow_begins = first.batch.begins[row], shadow.batch.begins[place]
    found.begun[0] += 1


@inlined
def note_events(beside, row, place):
    """Follows the events of a row's stream: which begin, and whether the other model has one meanwhile.

    One goes on until no row was an anomaly for QUIET rows.
    """
    first, shadow, found = beside.first.batch, beside.shadow.batch, beside.found
    at = 2 * shadow.slot[place]
    if first.begins[row] != 0 or shadow.begins[place] != 0:
        found.open[at + FIRST] |= first.begins[row]
        found.open[at + SHADOW] |= shadow.begins[place]
        found.events[FIRST] += first.begins[row]
        found.events[SHADOW] += shadow.begins[place]
        _keep_beginning(beside, row, place)
    elif (
        (first.said[row].flags | shadow.said[place].flags) & _ANOMALY == 0
        and found.near[at] == 0
        and found.near[at + 1] == 0
    ):
        return  # as nearly all
    for which in range(2):
        flags = first.said[row].flags if which == FIRST else shadow.said[place].flags
        if flags & _ANOMALY != 0:
            found.near[at + which] = np.uint8(QUIET)
        elif found.near[at + which] > 0:
            found.near[at + which] -= np.uint8(1)
    for which in range(2):
        if found.near[at + which] == 0:
            found.open[at + which] = np.uint8(0)
        elif found.near[at + 1 - which] > 0 and found.open[at + which] != 0:
            found.open[at + which] = np.uint8(0)
            found.met[which] += 1

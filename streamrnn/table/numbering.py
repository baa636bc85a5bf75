"""Numbers of rows by their times: what is missing leaves a gap, what comes late or twice gets no number."""

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.errors import UserError
from streamrnn.table.clock import slack_ns, tick_ns
from streamrnn.table.progress import counted

NEXT, NEWEST, SINCE = range(
    3
)  # of a stream: its next number; its newest time, 0 = none; rows since that time
TELLING = 30  # rows that tell which way time runs, and how fast
LATE, GAPS, FIRST_LATE, FIRST_GAP = range(4)  # counts, and the times of the first of each


@compiled
def _number(stream, ts_ns, period, slack, twice, state, counts, seq):  # type: ignore[no-untyped-def]
    """Numbers rows in order. ``twice``: a clock that ticks less often than rows come may say a time twice."""
    for row in range(stream.size):
        of = stream[row]
        ts, newest = ts_ns[row], state[of, NEWEST]
        if ts != 0 and newest != 0:
            step = ts - newest
            if step < 0 or (step == 0 and not twice):
                if counts[LATE] == 0:
                    counts[FIRST_LATE] = ts
                counts[LATE] += 1
                seq[row] = np.uint64(state[of, NEXT] - 1)  # as the row before: it is late
                continue
            rows = state[of, SINCE] + 1
            if step - rows * period > slack:
                if counts[GAPS] == 0:
                    counts[FIRST_GAP] = ts
                counts[GAPS] += 1
                state[of, NEXT] += max(np.int64(np.round(step / period)) - rows, 1)
        seq[row] = np.uint64(state[of, NEXT])
        state[of, NEXT] += 1
        if ts != 0:
            state[of, NEWEST], state[of, SINCE] = ts, 0
        else:
            state[of, SINCE] += 1


class TimeNumbers:
    """Numbers the rows of each stream, block by block, given the sample period in ns.

    A row is the next one, or as many further as periods have passed where that is a gap, by the rule of
    training. A row whose time is not above the newest of its stream has the number of the row before; one
    without a time is the next.
    """

    def __init__(self, period_ns: float) -> None:
        self._period = period_ns
        self._tick: int | None = None  # the finest so far
        self._checked = False
        self._state = np.zeros((0, 3), np.int64)
        self._counts = np.zeros(4, np.int64)
        self._other: str | None = None  # what to say of another sample period

    def said(self) -> list[str]:
        """What a user should know of the times so far."""
        said = [] if self._other is None else [self._other]
        if gaps := int(self._counts[GAPS]):
            at = _in_words(self._counts[FIRST_GAP])
            said.append(f"rows are missing in {counted(gaps, 'place')}, the first of them before {at}")
        if late := int(self._counts[LATE]):
            at = _in_words(self._counts[FIRST_LATE])
            said.append(
                f"{counted(late, 'row')} came late or twice, the first of them of {at}: they are left out; "
                "--no-time counts rows instead"
            )
        return said

    def number(self, stream: np.ndarray, ts_ns: np.ndarray) -> np.ndarray:
        """Of n rows in order, ``stream`` (n,) int32 from 0 on and ``ts_ns`` (n,) int64: (n,) uint64.

        Raises UserError where the times of the first rows run backwards.
        """
        if ts_ns.any():  # a pipe may begin with a row or two, which say little
            tick = tick_ns(ts_ns[ts_ns != 0])
            self._tick = tick if self._tick is None else min(self._tick, tick)
            if not self._checked and len(ts_ns) >= TELLING:
                self._check(stream, ts_ns)
        tick = self._tick or 1
        have, need = len(self._state), int(stream.max(initial=-1)) + 1
        if need > have:
            more = np.zeros((max(need, 2 * have) - have, 3), np.int64)
            self._state = np.concatenate([self._state, more])
        seq = np.empty(len(stream), np.uint64)
        slack = slack_ns(self._period, tick)
        arrays = (
            np.require(array, kind, ["C", "W"]) for array, kind in ((stream, np.int32), (ts_ns, np.int64))
        )
        _number(
            *arrays,
            float(self._period),
            float(slack),
            tick > self._period,
            self._state,
            self._counts,
            seq,
        )
        return seq

    def _check(self, stream: np.ndarray, ts_ns: np.ndarray) -> None:
        self._checked = True
        order = np.argsort(stream, kind="stable")
        steps = np.diff(ts_ns[order])[np.diff(stream[order]) == 0]
        usual = float(np.median(steps)) if len(steps) else self._period
        if abs(usual - self._period) > slack_ns(self._period, tick_ns(ts_ns)):
            self._other = (
                f"there is a row every {usual / 1e9:g} s, and the model was trained on one every "
                f"{self._period / 1e9:g} s; --no-time counts rows instead"
            )
        if usual < 0:
            raise UserError(
                "the time runs backwards; sort the rows by time, the oldest first, or count them as they "
                "are with --no-time"
            )


def _in_words(ns: np.integer) -> str:
    return str(np.datetime64(int(ns), "ns")).replace("T", " ").rstrip("0").rstrip(".")

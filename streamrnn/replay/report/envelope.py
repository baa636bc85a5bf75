"""What charts show of streams, in bounded memory: buckets of rows with the extremes of every series.

All buckets of a stream stand for as many consecutive rows. When they are full, each two neighbours become
one, so a stream of any length has half as many buckets as there is room for, or more. Of more streams than
there is room for, those with the highest scores so far are kept: one that comes to be among them begins then.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.engine.engine import Answers, Engine
from streamrnn.replay.report.tracks import (
    MARKS,
    NO_SCORE,
    Totals,
    Tracks,
    take,
)
from streamrnn.table import Rows

MOST, LEAST = 1024, 64  # buckets of a stream, the fewer the more series it has
ROOM = 64 << 20  # bytes for all streams
AT_LEAST = 16  # streams that are to fit
AHEAD = 1000  # most rows that are kept of an answer of several


class Envelope(NamedTuple):
    """One stream: n buckets, in order."""

    rows: int  # that a bucket stands for
    before: int  # rows of the stream before the first bucket
    seq: np.ndarray  # (n,) uint64: of the first row
    ts_ns: np.ndarray | None  # (n,) int64: of the first row; None where times are missing or go back
    last_ns: int  # of the last row; 0 = none
    score: np.ndarray  # (n,) float32: the highest, NaN = none
    marks: np.ndarray  # (n,) uint8
    low: np.ndarray  # (n, channels + outputs + bands' lows and highs) float32, NaN = no value
    high: np.ndarray  # likewise
    shares: np.ndarray  # (outputs,) float64: how much each has to do with scores of SHARED or more
    answers: int  # to a sequence, or of several rows
    answered: int  # seq of the row that the last of them is to
    ahead: np.ndarray  # (rows, outputs) float32: that answer, its first AHEAD rows
    sides: np.ndarray  # (2, rows, outputs) float32: low and high of its widest band; or (0, ...)


class Envelopes:
    """Takes the rows of a replay, block by block; ``learned`` are those that the model learned from."""

    def __init__(self, engine: Engine) -> None:
        model = engine.model
        self._shifted = bool(engine.core.net.forecasts)
        self._single = model.relation == "sequence-to-vector"
        ahead = 1 if self._single else min(engine.rows, AHEAD)
        outputs, sides = len(model.outputs), 2 * engine.core.bands.number
        series = len(model.channels) + outputs * (1 + sides)
        bucket, rest = 8 * series + 21, 4 * outputs * (3 * ahead + 3 + sides) + 100  # bytes
        buckets = MOST
        while buckets > LEAST and AT_LEAST * (buckets * bucket + rest) > ROOM:
            buckets //= 2
        places = max(min(ROOM // (buckets * bucket + rest), engine.capacity), 1)
        self.totals = Totals(
            place=np.zeros(0, np.int64),
            rows=np.zeros(0, np.int64),
            highest=np.zeros(0, np.float32),
            marks=np.zeros((0, len(MARKS)), np.int64),
            span=np.array([np.iinfo(np.int64).max, 0]),
        )
        # what no stream has come to is never touched, and takes no memory
        self._tracks = Tracks(
            taken=np.zeros(1, np.int64),
            stream=np.empty(places, np.int64),
            before=np.empty(places, np.int64),
            rows=np.empty(places, np.int64),
            shift=np.empty(places, np.int64),
            seq=np.empty((places, buckets), np.uint64),
            ts_ns=np.empty((places, buckets), np.int64),
            score=np.empty((places, buckets), np.float32),
            marks=np.empty((places, buckets), np.uint8),
            low=np.empty((places, buckets, series), np.float32),
            high=np.empty((places, buckets, series), np.float32),
            timed=np.empty(places, np.uint8),
            last_ns=np.empty(places, np.int64),
            forecast=np.empty((places, outputs), np.float32),
            bands=np.empty((places, sides, outputs), np.float32),
            epoch=np.empty(places, np.int64),
            shares=np.empty((places, outputs)),
            answers=np.empty(places, np.int64),
            answered=np.empty(places, np.uint64),
            ahead=np.empty((places, ahead, outputs), np.float32),
            sides=np.empty((places, min(sides, 2), ahead, outputs), np.float32),
        )

    def add(self, rows: Rows, answers: Answers, learned: np.ndarray) -> None:
        self._make_room(int(rows.stream.max(initial=-1)) + 1)
        asked = self._shifted, self._single
        take(rows.stream, rows.values, answers, learned, self.totals, self._tracks, *asked)

    def _make_room(self, streams: int) -> None:
        totals, have = self.totals, len(self.totals.place)
        if streams > have:
            new = max(streams, 2 * have) - have
            self.totals = totals._replace(
                place=np.concatenate([totals.place, np.full(new, -1)]),
                rows=np.concatenate([totals.rows, np.zeros(new, np.int64)]),
                highest=np.concatenate([totals.highest, np.full(new, NO_SCORE)]),
                marks=np.concatenate([totals.marks, np.zeros((new, len(MARKS)), np.int64)]),
            )

    @property
    def span_s(self) -> float:
        """From the first source time to the last; 0 where there are none."""
        first, last = self.totals.span.tolist()
        return max(last - first, 0) / 1e9

    def of(self, stream: int) -> Envelope | None:
        """What is kept of a stream; None for nothing."""
        tracks, place = self._tracks, int(self.totals.place[stream])
        if place < 0:
            return None
        shift = int(tracks.shift[place])
        n = ((int(tracks.rows[place]) - 1) >> shift) + 1
        low, high, score = (part[place, :n].copy() for part in (tracks.low, tracks.high, tracks.score))
        none = low > high
        low[none] = high[none] = np.nan
        score[score < 0] = np.nan
        answers = int(tracks.answers[place])
        return Envelope(
            rows=1 << shift,
            before=int(tracks.before[place]),
            seq=tracks.seq[place, :n],
            ts_ns=tracks.ts_ns[place, :n] if tracks.timed[place] else None,
            last_ns=int(tracks.last_ns[place]),
            score=score,
            marks=tracks.marks[place, :n],
            low=low,
            high=high,
            shares=tracks.shares[place],
            answers=answers,
            answered=int(tracks.answered[place]),
            ahead=tracks.ahead[place] if answers else tracks.ahead[place, :0],
            sides=tracks.sides[place],
        )

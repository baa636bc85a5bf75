"""The rows of a replay as they are kept for charts: by stream, in buckets that double as rows come."""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.engine.engine import Answers
from streamrnn.stats import LATE_ROW, OWN, PREDICTED, SEVERAL
from streamrnn.streams.batch import SHARED
from streamrnn.wire import frame

# what there is in a bucket, as bits of 1 << i; GAP_BEFORE, too, where its first row comes after the gap
GAP, RESET, IMPUTED, LATE, REJECTED, LEARNED, GAP_BEFORE = range(7)
MARKS = ("gap", "reset", "imputed", "late", "rejected", "learned")
NO_SCORE = np.float32(-1)

_FLAGS = (frame.GAP, frame.WAS_RESET, frame.IMPUTED)
_INFINITE = np.float32("inf")


class Totals(NamedTuple):
    """What is known of every stream."""

    place: np.ndarray  # (streams,) int64: in Tracks, -1 = none
    rows: np.ndarray  # (streams,) int64: predicted
    highest: np.ndarray  # (streams,) float32: score of a row that was not learned from, -1 = none
    marks: np.ndarray  # (streams, MARKS) int64: rows
    span: np.ndarray  # (2,) int64: first and last source time of all, ns


class Tracks(NamedTuple):
    """What is kept of the streams that can be drawn."""

    taken: np.ndarray  # (1,) int64: places
    stream: np.ndarray  # (places,) int64: index of the stream
    before: np.ndarray  # (places,) int64: rows of the stream before those kept
    rows: np.ndarray  # (places,) int64: kept
    shift: np.ndarray  # (places,) int64: a bucket stands for 1 << shift rows
    seq: np.ndarray  # (places, buckets) uint64: of the first row
    ts_ns: np.ndarray  # (places, buckets) int64: of the first row
    score: np.ndarray  # (places, buckets) float32: the highest, -1 = none
    marks: np.ndarray  # (places, buckets) uint8
    # (places, buckets, series) float32: channels, outputs, low and high of bands; above ``high`` = no value
    low: np.ndarray
    high: np.ndarray  # (places, buckets, series) float32
    timed: np.ndarray  # (places,) uint8: 1 while every row has a time, none before that of the row before it
    last_ns: np.ndarray  # (places,) int64
    forecast: np.ndarray  # (places, outputs) float32: of the last row
    bands: np.ndarray  # (places, 2 * bands, outputs) float32: likewise
    epoch: np.ndarray  # (places,) int64: of the last row, -1 = none
    shares: np.ndarray  # (places, outputs) float64: sums over rows of a score of SHARED or more
    answers: np.ndarray  # (places,) int64: to a sequence, or of several rows
    answered: np.ndarray  # (places,) uint64: seq of the row that the last of them is to
    ahead: np.ndarray  # (places, rows, outputs) float32: that answer
    sides: np.ndarray  # (places, 2, rows, outputs) float32: its widest band; or (places, 0, ...)


@inlined
def _merge(tracks: Tracks, place: int) -> None:
    """Makes one bucket of each two."""
    tracks.shift[place] += 1
    for at in range(tracks.score.shape[1] // 2):
        one, other = 2 * at, 2 * at + 1
        tracks.seq[place, at], tracks.ts_ns[place, at] = tracks.seq[place, one], tracks.ts_ns[place, one]
        tracks.score[place, at] = max(tracks.score[place, one], tracks.score[place, other])
        inside = tracks.marks[place, other] & np.uint8(~(1 << GAP_BEFORE) & 0xFF)
        tracks.marks[place, at] = tracks.marks[place, one] | inside
        for series in range(tracks.low.shape[2]):
            low, high = tracks.low[place, one, series], tracks.high[place, one, series]
            tracks.low[place, at, series] = min(low, tracks.low[place, other, series])
            tracks.high[place, at, series] = max(high, tracks.high[place, other, series])


@inlined
def _bucket(tracks: Tracks, place: int, seq: int, ts_ns: int) -> int:
    """The bucket of a stream's next row."""
    if tracks.rows[place] >> tracks.shift[place] == tracks.score.shape[1]:
        _merge(tracks, place)
    at = tracks.rows[place] >> tracks.shift[place]
    if at << tracks.shift[place] == tracks.rows[place]:
        tracks.seq[place, at], tracks.ts_ns[place, at] = seq, ts_ns
        tracks.score[place, at], tracks.marks[place, at] = NO_SCORE, np.uint8(0)
        for series in range(tracks.low.shape[2]):
            tracks.low[place, at, series], tracks.high[place, at, series] = _INFINITE, -_INFINITE
    if ts_ns == 0 or (tracks.rows[place] > 0 and ts_ns < tracks.last_ns[place]):
        tracks.timed[place] = np.uint8(0)
    tracks.last_ns[place] = ts_ns
    tracks.rows[place] += 1
    return at


@inlined
def _widen(tracks: Tracks, place: int, at: int, series: int, value: float) -> None:
    """Takes a value, NaN for none, into a bucket."""
    if value < tracks.low[place, at, series]:
        tracks.low[place, at, series] = value
    if value > tracks.high[place, at, series]:
        tracks.high[place, at, series] = value


@inlined
def _free_place(totals: Totals, tracks: Tracks, score: float) -> int:
    """A place for a stream that has none, or -1: a free one, or that of the least score below this one."""
    if tracks.taken[0] < len(tracks.stream):
        tracks.taken[0] += 1
        return tracks.taken[0] - 1
    if not score > NO_SCORE:
        return -1
    least = 0
    for place in range(1, len(tracks.stream)):
        if totals.highest[tracks.stream[place]] < totals.highest[tracks.stream[least]]:
            least = place
    if totals.highest[tracks.stream[least]] >= score:
        return -1
    totals.place[tracks.stream[least]] = -1
    return least


@inlined
def _begin(totals: Totals, tracks: Tracks, stream: int, place: int) -> None:
    """Gives a stream its place."""
    totals.place[stream] = place
    tracks.stream[place], tracks.before[place] = stream, totals.rows[stream]
    tracks.rows[place], tracks.shift[place] = 0, 0
    tracks.timed[place], tracks.last_ns[place] = np.uint8(1), 0
    tracks.epoch[place], tracks.answers[place] = -1, 0
    for output in range(tracks.forecast.shape[1]):
        tracks.shares[place, output] = 0.0


@inlined
def _draw(
    tracks: Tracks, place: int, at: int, values: np.ndarray, answers: Answers, row: int, shifted: bool
) -> None:
    """A row's values, and what was forecast of it (or, unless ``shifted``, is said at it)."""
    channels = values.shape[1]
    for channel in range(channels):
        _widen(tracks, place, at, channel, values[row, channel])
    said = answers.said[row]
    follows = said.gap == 0 and tracks.epoch[place] == np.int64(said.epoch)
    tracks.epoch[place] = np.int64(said.epoch)
    for output in range(tracks.forecast.shape[1]):
        if shifted and follows:
            _widen(tracks, place, at, channels + output, tracks.forecast[place, output])
        elif not shifted and answers.answers[row] != 0:
            _widen(tracks, place, at, channels + output, answers.values[row, output])
        tracks.forecast[place, output] = answers.values[row, output]
        for side in range(tracks.bands.shape[1]):
            if follows:
                series = channels + (1 + side) * tracks.forecast.shape[1] + output
                _widen(tracks, place, at, series, tracks.bands[place, side, output])
            tracks.bands[place, side, output] = answers.bands[row, side, output]
    if said.score >= SHARED:
        for output in range(tracks.forecast.shape[1]):
            tracks.shares[place, output] += np.float64(answers.shares[row, output])


@inlined
def _mark(totals: Totals, tracks: Tracks, stream: int, kind: int) -> None:
    """Counts what happened to a row, and marks the bucket of the stream's last row."""
    totals.marks[stream, kind] += 1
    place = totals.place[stream]
    if place >= 0:
        at = (tracks.rows[place] - 1) >> tracks.shift[place]
        tracks.marks[place, at] |= np.uint8(1 << kind)


@inlined
def _keep_answer(tracks: Tracks, place: int, seq: int, answers: Answers, which: int) -> None:
    """Keeps an answer of several rows, the stream's last so far."""
    tracks.answers[place] += 1
    tracks.answered[place] = seq
    for step in range(tracks.ahead.shape[1]):
        for output in range(tracks.ahead.shape[2]):
            tracks.ahead[place, step, output] = answers.several[which, step, output]
            for side in range(tracks.sides.shape[1]):
                widest = answers.bands_ahead.shape[1] - tracks.sides.shape[1]
                tracks.sides[place, side, step, output] = answers.bands_ahead[
                    which, widest + side, step, output
                ]


@compiled
def take(
    stream: np.ndarray,
    values: np.ndarray,
    answers: Answers,
    learned: np.ndarray,
    totals: Totals,
    tracks: Tracks,
    shifted: bool,
    single: bool,
) -> None:
    """Takes n rows into the buckets of their streams.

    ``shifted``: predictions are forecasts of the next row; ``single``: a row's own answers a sequence.
    """
    several = -1
    lowest = np.float32(-2)
    for row in range(stream.size):
        of = stream[row]
        if answers.outcome[row] != PREDICTED:
            _mark(totals, tracks, of, LATE if answers.outcome[row] == LATE_ROW else REJECTED)
            continue
        said = answers.said[row]
        score, seq, ts_ns = said.score, said.seq, said.ts_ns
        judged = NO_SCORE if learned[row] else score
        if totals.place[of] < 0 and (tracks.taken[0] < len(tracks.stream) or judged > lowest):
            place = _free_place(totals, tracks, judged)
            if place >= 0:
                _begin(totals, tracks, of, place)
            elif judged > lowest:  # nothing kept in this block was below it, nor will be
                lowest = judged
        totals.rows[of] += 1
        if judged > totals.highest[of]:
            totals.highest[of] = judged
        if ts_ns != 0:
            totals.span[0] = min(totals.span[0], ts_ns)
            totals.span[1] = max(totals.span[1], ts_ns)
        place = totals.place[of]
        if place >= 0:
            at = _bucket(tracks, place, seq, ts_ns)
            _draw(tracks, place, at, values, answers, row, shifted)
            if score > tracks.score[place, at]:
                tracks.score[place, at] = score
        for kind in range(len(_FLAGS)):
            if said.flags & np.uint16(_FLAGS[kind]) != 0:
                _mark(totals, tracks, of, kind)
        if learned[row]:
            _mark(totals, tracks, of, LEARNED)
        if place >= 0 and said.gap > 0 and at << tracks.shift[place] == tracks.rows[place] - 1:
            tracks.marks[place, at] |= np.uint8(1 << GAP_BEFORE)
        if answers.answers[row] & SEVERAL != 0:
            several += 1
            if place >= 0:
                _keep_answer(tracks, place, seq, answers, several)
        elif single and answers.answers[row] & OWN != 0 and place >= 0:
            tracks.answers[place] += 1
            tracks.answered[place] = seq
            for output in range(tracks.ahead.shape[2]):
                tracks.ahead[place, 0, output] = answers.values[row, output]

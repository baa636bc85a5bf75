"""From the validation part: where the score's levels lie, and from which score on it is worth an event."""

import math
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.affine import packed_halves
from streamrnn.kernels.simd import LANES
from streamrnn.streams.rarity import GAPS, LEVELS, POWER, SIDE, WORK, first_levels, place, rate
from streamrnn.streams.score import event_after, measure, settle
from streamrnn.streams.score_part import (
    INSTANT,
    LEARNING,
    RESIZED,
    SMOOTHED,
    SWITCHED,
    WARMING_ROWS,
    WAYS,
    score_words,
)
from streamrnn.train.data.dataset import Sequence
from streamrnn.train.net.recurrence import ROWS

# One row in a thousand, one in ten thousand. In the long run the levels are right, so the validation part has
# no more to say than this; what stands out there more often may well be faults.
LEAST_THRESHOLD, HIGHEST_THRESHOLD, STEP = 3.0, 4.0, 0.25
# Smoothed values 66 rows apart are independent of each other. This is as many as two of them take that exceed
# what one in 100 does.
TAUGHT = 12_000
EVENT_ROWS = 1000  # validation rows in which there may be an event
SHARES, LEAST_POWER = (0.9, 0.99, 0.999), 2.0**-32
SURPRISING = 2.0  # standard deviations of a number of events, before it is more than chance


class _Residuals(NamedTuple):
    """What ``update`` reads of a network, for residuals in place of rows: forecast by 0, in units of 1.

    They are no readings, so that runs of equal ones mean nothing.
    """

    outputs: int
    out_width: int
    score_width: int
    out_scale: np.ndarray
    run_scale: np.ndarray
    switches: np.ndarray


def calibrate(streams: list[np.ndarray], switches: Collection[bool] = ()) -> dict[str, Any]:
    """A model's "score", from the validation residuals of each stream.

    Each of ``streams`` is (n, O), in the order of the rows and the model's standard deviations, NaN for none;
    ``switches`` says which outputs are some, none by default. The levels are those that the score itself
    would have come to, stream after stream, all but the instant ones with those that it began with as if
    these had been seen for TAUGHT rows; a stream too short to have learned has no say. Of several streams
    they are those of all rows together: levels move slowly, and one stream's are not another's. The threshold
    is the least of those from LEAST_THRESHOLD to HIGHEST_THRESHOLD at which new streams of these residuals
    have no more than one event in EVENT_ROWS rows, but for chance.
    """
    first = levels = first_levels(streams[0].shape[1], switches=sum(switches))
    learned, said = 0, []
    for residuals in streams:
        rows = int(np.isfinite(residuals).any(axis=1).sum())
        if rows >= LEARNING:
            _, part, powers = _follow_score(residuals, levels, switches)
            levels, learned = part[: 3 * len(WAYS)], learned + rows
            said.append(powers[WARMING_ROWS:])
    if len(said) > 1:
        levels = _levels_of_all(np.concatenate(said), levels)
    weight = np.float32(learned / (learned + TAUGHT))
    levels[SMOOTHED:] = first[SMOOTHED:] + weight * (levels[SMOOTHED:] - first[SMOOTHED:])
    scores = [score_residuals(residuals, levels, switches)[0] for residuals in streams]
    rows = sum(int(np.isfinite(scored).sum()) for scored in scores)
    expected = rows / EVENT_ROWS
    usual = max(1.0, expected + SURPRISING * math.sqrt(expected))  # of a Poisson distribution
    threshold = LEAST_THRESHOLD
    while threshold < HIGHEST_THRESHOLD and sum(_events(scored, threshold) for scored in scores) > usual:
        threshold += STEP
    begins = {"instant": INSTANT, "smoothed": SMOOTHED, "resized": RESIZED, "switched": SWITCHED}
    stated = {way: levels[begin : begin + 3].astype(float).tolist() for way, begin in begins.items()}
    return {"rows": rows, **stated, "threshold": threshold}


def in_order(blocks: Iterable[tuple[np.ndarray, np.ndarray]], sequences: list[Sequence]) -> list[np.ndarray]:
    """The residuals of each stream, (n, O), NaN for none, one row after another, for ``calibrate``.

    ``blocks`` are what ``fit.residuals`` gives for ``sequences``: steps of lanes, which hold them end to end.
    """
    errors, theres = zip(*blocks, strict=True)
    outputs = errors[0].shape[1]
    lanes = [
        np.concatenate([part.reshape(-1, ROWS, outputs) for part in parts]) for parts in (errors, theres)
    ]
    error, there = (part.transpose(1, 0, 2).reshape(-1, outputs) for part in lanes)
    error = np.where(there, error, np.nan)[there.any(axis=1)]
    lengths = [int(np.isfinite(sequence.targets).any(axis=1).sum()) for sequence in sequences]
    streams: dict[str, list[np.ndarray]] = {}
    for sequence, part in zip(sequences, np.split(error, np.cumsum(lengths)[:-1]), strict=True):
        streams.setdefault(sequence.stream, []).append(part)
    return [np.concatenate(parts) for parts in streams.values()]


def score_residuals(
    residuals: np.ndarray, levels: np.ndarray, switches: Collection[bool] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a new stream of these residuals, (n,) float32, and the score's part of its last record.

    ``residuals`` (n, O), NaN for none, in the model's standard deviations; ``levels`` (12,) float32 are those
    that it begins with; ``switches`` says which outputs are some, none by default.
    """
    scores, part, _ = _follow_score(residuals, levels, switches)
    return scores, part


def _follow_score(
    residuals: np.ndarray, levels: np.ndarray, switches: Collection[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, and the fourth power that each way gave to each row, (n, ways) float32, NaN for none."""
    count, outputs = residuals.shape
    width = -(-outputs // LANES) * LANES
    values = np.zeros((count, width), np.float32)
    values[:, :outputs] = residuals
    scale, of_switches = np.zeros((2, width), np.float32)
    scale[:outputs] = 1
    of_switches[: len(switches)] = switches
    words = score_words(outputs)
    state, scores = np.zeros(2 * words + width, np.float32), np.zeros(count, np.float32)
    net = _Residuals(outputs, width, packed_halves(outputs), scale, np.zeros(width, np.float32), of_switches)
    powers, work = np.full((count, len(WAYS)), np.nan, np.float32), np.zeros(WORK, np.float32)
    last = _score(net, levels, state, words, values.reshape(-1), scores, powers, work)
    return scores, state[last : last + words], powers


def _levels_of_all(powers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """``levels``, but those of all ways save the instant one by what these rows exceed."""
    found = levels.copy()
    for way in range(1, len(WAYS)):
        known = powers[np.isfinite(powers[:, way]), way]
        if known.size:
            exceeded = np.log2(np.maximum(np.quantile(known, SHARES), LEAST_POWER)) / 4
            found[WAYS[way]] = np.clip(exceeded[0], *LEVELS)
            found[WAYS[way] + 1 : WAYS[way] + 3] = np.clip(np.diff(exceeded), *GAPS)
    return found


def event_rows(scores: np.ndarray, threshold: float) -> np.ndarray:
    """``event_after`` each row of a stream, (n,) float32: 0 = no event, 1 = in one, more = calm again."""
    rows = np.zeros(scores.shape, np.float32)
    _follow(scores, np.float32(threshold), rows)
    return rows


def _events(scores: np.ndarray, threshold: float) -> int:
    rows = event_rows(scores, threshold)
    return int(((rows > 0) & (np.concatenate([[0], rows[:-1]]) == 0)).sum())


@compiled
def _score(
    net: Any, first: Any, state: Any, words: Any, values: Any, scores: Any, powers: Any, work: Any
) -> Any:
    """``state`` holds two parts and a forecast of zeros. Returns where the last part begins."""
    old, new = 0, words
    for row in range(scores.size):
        scores[row] = np.float32(np.nan)
        if measure(net, first, state, old, new, values, row * net.out_width, 2 * words, work, 0):
            rate(work, 1)
            scores[row] = settle(state, old, new, work, 0)
            for way in range(powers.shape[1]):
                powers[row, way] = work[place(0) + way * SIDE + POWER]
        old, new = new, old
    return old


@compiled
def _follow(scores: Any, threshold: Any, rows: Any) -> None:
    event = np.float32(0)
    for row in range(scores.size):
        event = event_after(event, scores[row], threshold)
        rows[row] = event

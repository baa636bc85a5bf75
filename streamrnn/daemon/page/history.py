"""The last minutes of the streams that somebody looks at, sampled from their records."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamrnn.daemon.page.read_records import read_records, slot_of
from streamrnn.engine.engine import Engine
from streamrnn.model.parts import Channel
from streamrnn.streams.last_bands import widest_reach
from streamrnn.streams.last_score import last_scores
from streamrnn.streams.record import COUNT, EPOCH, FILLED, FORESEEN, ID_WORDS, MISSED, RECEIVED, STEP
from streamrnn.streams.score_part import EVENT, UNUSUAL
from streamrnn.streams.slots import id_words
from streamrnn.wire.frame import BAND_FIELDS

KEPT = 64  # streams
_SAMPLES = 1800  # of each, at most
_BYTES = 32 << 20  # of all of them, at most
_LATELY_S = 3.0
_NOWHERE = -1

# what a sample is marked with, beside its values
RESET, GAP, IMPUTED, ANOMALY = 1, 2, 4, 8


class History:
    """Samples of up to ``KEPT`` streams; those asked for longest ago make room for others.

    A sample is taken of a stream that went on since the last one: its last row, the forecast that was made of
    it (or, of a model with outputs of other quantities, these) with the widest of its bands, its score, and
    marks of what happened since.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, network = engine, engine.core.net
        self._channels, self._outputs = network.inputs, 0
        if network.forecasts or engine.model.relation == "sequence-to-sequence":
            self._outputs = network.outputs
        self._sides = 2 * self._outputs if engine.core.bands.number else 0
        each = 4 * (self._channels + self._outputs + self._sides) + 16
        self.samples = max(min(_SAMPLES, _BYTES // (KEPT * each)), 100)
        shape = KEPT, self.samples  # memory is taken as samples come
        self._when = np.zeros(shape)  # seconds of CLOCK_MONOTONIC
        self._score = np.zeros(shape, np.float32)
        self._mark = np.zeros(shape, np.uint8)
        self._values = np.zeros((*shape, self._channels), np.float32)
        self._forecasts = np.zeros((*shape, self._outputs), np.float32)
        self._bands = np.zeros((*shape, self._sides), np.float32)  # low of all outputs, then high
        self._taken = np.zeros(KEPT, np.int64)  # samples so far
        self._slot = np.full(KEPT, _NOWHERE)
        self._name = np.zeros((KEPT, ID_WORDS), np.uint64)
        self._count = np.zeros(KEPT, np.uint64)  # the slot's counter at the last sample
        self._epoch = np.zeros(KEPT, np.uint32)
        self._step = np.zeros(KEPT, np.uint64)
        self._missed = np.zeros(KEPT, np.uint32)
        self._asked = np.zeros(KEPT)  # when each was asked for, CLOCK_MONOTONIC s
        self._places: dict[str, int] = {}  # the one asked for longest ago first

    def keep(self, names: Iterable[str], at_any_rate: bool = False) -> None:
        """Has these streams, where they exist, sampled from now on.

        One that is new takes the place of the one asked for longest ago: if nobody did lately, or
        ``at_any_rate``.
        """
        now = time.monotonic()
        for name in names:
            place = self._places.pop(name, None)
            if place is None:
                words = id_words(name)
                if not (at_any_rate or self._has_room(now)):
                    continue
                if (slot := slot_of(self._engine.core.slots, words)) is None:
                    continue
                place = self._room()
                self._name[place], self._slot[place] = words, slot
                self._taken[place] = self._count[place] = 0
            self._places[name], self._asked[place] = place, now

    def _has_room(self, now: float) -> bool:
        """Whether there is a place that nobody asked for lately."""
        if len(self._places) < KEPT:
            return True
        return bool(now >= self._asked[next(iter(self._places.values()))] + _LATELY_S)

    def _room(self) -> int:
        if len(self._places) < KEPT:
            return len(self._places)
        return self._places.pop(next(iter(self._places)))

    def slot(self, name: str) -> int | None:
        """Where a stream that is sampled was last, to be looked at first."""
        place = self._places.get(name)
        return None if place is None or self._slot[place] == _NOWHERE else int(self._slot[place])

    def find_again(self) -> None:
        """Looks for the streams asked for that are not where they were: let go, perhaps back by now."""
        used, ids = len(self._places), self._engine.core.slots.ids.reshape(-1, ID_WORDS)
        moved = (ids[self._slot[:used]] != self._name[:used]).any(1) | (self._slot[:used] == _NOWHERE)
        moved &= self._asked[:used] >= time.monotonic() - _LATELY_S
        for place in np.flatnonzero(moved):
            found = slot_of(self._engine.core.slots, self._name[place])
            self._slot[place] = _NOWHERE if found is None else found

    def sample(self) -> None:
        """Takes a sample of each stream that went on."""
        slots, used = self._engine.core.slots, len(self._places)
        ids = slots.ids.reshape(-1, ID_WORDS)
        places = np.flatnonzero(self._slot[:used] != _NOWHERE)
        places = places[slots.committed[self._slot[places]] != self._count[places]]
        if not places.size:
            return
        which = self._slot[places]
        records = read_records(slots, which)
        good = (records.view(np.uint64)[:, COUNT] != 0) & (ids[which] == self._name[places]).all(1)
        self._enter(places[good], records[good])

    def _enter(self, places: np.ndarray, now: np.ndarray) -> None:
        """Enters one sample of each of ``places``, from its record."""
        slots, to = self._engine.core.slots, self._taken[places] % self.samples
        halves = now.view(np.uint32)
        epoch, missed, step = halves[:, EPOCH], halves[:, MISSED], now.view(np.uint64)[:, STEP]
        known = self._taken[places] > 0
        # a stream that was let go and came back has no resets yet, but fewer steps
        mark = RESET * (known & ((epoch != self._epoch[places]) | (step < self._step[places])))
        mark += GAP * (known & (missed > self._missed[places]))
        mark += IMPUTED * (halves[:, FILLED] != 0)
        score = np.full(len(places), np.nan)
        forecasts = now[:, slots.prediction_at : slots.prediction_at + self._outputs]
        if self._engine.core.net.forecasts:
            parts = now[:, slots.score_at :]
            score = last_scores(parts)
            mark += ANOMALY * (parts[:, EVENT] == UNUSUAL)
            of_this = now[:, slots.forecast_at : slots.forecast_at + self._outputs]
            forecasts = np.where(halves[:, [FORESEEN]] != 0, of_this, np.float32("nan"))
        if self._sides:
            reach = widest_reach(self._engine.core, now)
            self._bands[places, to] = np.concatenate([forecasts - reach, forecasts + reach], axis=1)
        self._when[places, to] = now.view(np.uint64)[:, RECEIVED] / 1e9
        self._score[places, to] = score
        self._mark[places, to] = mark
        self._values[places, to] = now[:, slots.input_at : slots.input_at + self._channels]
        self._forecasts[places, to] = forecasts
        self._count[places], self._epoch[places] = now.view(np.uint64)[:, COUNT], epoch
        self._step[places], self._missed[places] = step, missed
        self._taken[places] += 1

    def since(self, name: str, first: int) -> dict[str, Any] | None:
        """The samples of a stream from number ``first`` on, as far as they are kept, JSON-ready.

        ``first`` is the number of the first one given and ``next`` that of the one to come. ``values`` and
        ``forecasts`` are lists by channel and by output, and so are ``low`` and ``high`` of the widest band,
        where there are any. None where the stream is not sampled.
        """
        if (place := self._places.get(name)) is None:
            return None
        taken = int(self._taken[place])
        first = max(first if first <= taken else 0, taken - self.samples)
        at = np.arange(first, taken) % self.samples
        epoch_s = time.time() - time.monotonic()  # as it is now: clocks are set
        outputs = self._engine.model.outputs
        bands = np.split(self._bands[place, at], 2, axis=1) if self._sides else ()
        return {
            "first": first,
            "next": taken,
            "time": [round(when, 3) for when in (self._when[place, at] + epoch_s).tolist()],
            "score": _numbers(self._score[place, at]),
            "mark": self._mark[place, at].tolist(),
            "values": self._columns(self._values[place, at], self._engine.model.channels),
            "forecasts": self._columns(self._forecasts[place, at], outputs),
            **{
                side: self._columns(values, outputs) for side, values in zip(BAND_FIELDS, bands, strict=False)
            },
        }

    def curve(self, name: str, points: int, span_s: float) -> list[float | None]:
        """A small curve of the last ``span_s`` seconds of a stream, in ``points`` steps: the highest score of
        each, or its last value of the first channel where there is no score. None for a step without a row.
        """
        curve = np.full(points, np.nan)
        if (place := self._places.get(name)) is not None:
            held = min(int(self._taken[place]), self.samples)
            since = time.monotonic() - span_s
            step = np.floor((self._when[place, :held] - since) * (points / span_s)).astype(np.int64)
            seen = (step >= 0) & (step < points)
            if self._engine.core.net.forecasts:
                np.fmax.at(curve, step[seen], self._score[place, :held][seen])
            else:
                order = np.argsort(self._when[place, :held][seen])
                curve[step[seen][order]] = self._values[place, :held, 0][seen][order]
        return _numbers(curve.astype(np.float32))

    @staticmethod
    def _columns(values: np.ndarray, of: Sequence[Channel]) -> list[list[float | None]]:
        """Values, (n, columns), of channels or outputs, column by column."""
        return [_numbers(column, each.offset) for column, each in zip(values.T, of, strict=False)]


def _numbers(values: np.ndarray, offset: float = 0.0) -> list[float | None]:
    """Six digits of each, and the offset; None for NaN."""
    return [None if value != value else float(f"{value:.6g}") + offset for value in values.tolist()]

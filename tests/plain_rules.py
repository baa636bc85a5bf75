"""The rules in plain Python, a row at a time, and what it takes to hold an engine against them."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from slots_by_hand import find_slot

from streamrnn.compiling.jit import compiled
from streamrnn.engine.advance import advance, prepared, slot_for, stage
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import LATE, LATE_ROW, MISSING_ROWS, PREDICTED, REASONS, REJECTED, RESETS, STREAMS
from streamrnn.streams.batch import ROWS
from streamrnn.streams.record import CHECK, check_of, id_check, layout_of
from streamrnn.streams.recovery import PUT, restore
from streamrnn.streams.running_copy import Copy, copied, make_copy, refresh
from streamrnn.streams.slots import Slots, id_text, id_words
from streamrnn.streams.snapshot import Snapshot, read_from, write_to
from streamrnn.wire.frame import (
    ANOMALY,
    DEGRADED,
    END,
    GAP,
    IMPUTED,
    RESET,
    RESTORED,
    SEQ,
    WARMING,
    WAS_RESET,
)
from streamrnn.wire.memory import address_of

LAST_NUMBER = 2**64 - 1
MOST_COUNTED = 2**32 - 1  # missing rows before one
SILENCE_NS = 10**9
DEGRADED_STEPS = 1000
RUNS = 4096  # of the reference network in one test
WARMING_ROWS = 100  # rows before which there is no score


class Row(NamedTuple):
    """One row of a stream: its number, or None; flags of the frame; when it came, on the monotonic clock."""

    name: str
    values: np.ndarray
    seq: int | None = None
    flags: int = 0
    received: int = 0
    ts: int = 0


@dataclass
class Said:
    """What is said of a row; of one that is not predicted, its outcome and number alone."""

    outcome: int
    seq: int
    flags: int = 0
    step: int = 0
    gap: int = 0
    epoch: int = 0
    residual: float = np.nan
    values: Any = np.nan


@dataclass
class Stream:
    seq: int
    first: int
    input: np.ndarray
    forecast: np.ndarray
    received: int
    step: int = 0
    epoch: int = 0
    ended: str = ""  # why the next row begins anew
    again: int | None = None  # the next number of a source that may have started again
    restored: bool = False
    degraded: int = 0
    scored: int = 0  # rows
    inputs: list[np.ndarray] = field(default_factory=list)  # of the network, since the last reset
    run: str = ""

    def saved(self) -> "Stream":
        return replace(self, inputs=list(self.inputs), again=None)


class Network:
    """What the network says of inputs in order, none missing: an engine that never meets a fault.

    Each run begins from zeros; none is taken up again.
    """

    def __init__(self, model: Model):
        self.engine = Engine(model, RUNS, Faults(gap="step", missing="reject"))
        self.runs = 0

    def begin(self, inputs: Sequence[np.ndarray] = ()) -> str:
        """A run that has had ``inputs``."""
        self.runs += 1
        run = str(self.runs)
        if inputs:
            self.engine.feed([run], np.zeros(len(inputs), np.int64), np.stack(inputs))
        return run

    def step(self, run: str, values: np.ndarray) -> np.ndarray | None:
        """The forecast after one more input, or None where it is not finite."""
        answers = self.engine.feed([run], np.zeros(1, np.int64), values[None])
        assert answers.outcome[0] in (PREDICTED, REJECTED + REASONS.index("diverged"))
        return answers.values[0] if answers.outcome[0] == PREDICTED else None

    def saturated(self, run: str) -> bool:
        model, layout = self.engine.model, layout_of(self.engine.core.net)
        record = record_of(self.engine.core.slots, run)
        at, limit = layout.hidden_at, 0.9999
        if model.cell == "lstm":
            at, limit = layout.cell_at, 7.9
        elif model.cell == "slstm":  # h, c and then n
            at, limit = layout.cell_at + layout.layers * layout.width, 1e6
        elif model.activation == "relu":
            limit = 1e6
        units = record[at:].reshape(-1, layout.width)[: layout.layers, : layout.hidden]
        return bool((np.abs(units) > np.float32(limit)).mean() >= 0.9)


class Rules:
    """The rules, a row at a time. What is filled in is filled in here; the network sees rows in order."""

    def __init__(self, model: Model, capacity: int, gap: str, max_gap: int, missing: str):
        self.gap, self.max_gap, self.missing = gap, max_gap, missing
        self.forecasts, self.std = model.target == "next", model.output_std.astype(np.float64)
        self.capacity, self.network, self.window = capacity, Network(model), model.window
        self.streams: dict[str, Stream] = {}
        self.counts: Counter[str] = Counter()
        self.resets: Counter[str] = Counter()

    def reject(self, reason: str, seq: int) -> Said:
        self.counts[reason] += 1
        return Said(REJECTED + REASONS.index(reason), seq)

    def refusal(self, values: np.ndarray, begun: bool) -> str:
        if np.isinf(values).any():
            return "infinite"
        return "missing" if np.isnan(values).any() and (self.missing == "reject" or not begun) else ""

    def take(self, row: Row) -> Said:
        before = self.streams.get(row.name)
        if before is None:
            return self.admit(row)
        seq = (before.seq + 1) % 2**64 if row.seq is None else row.seq
        reset, gap = self.place(row, seq, before)
        if reset == "late":
            self.counts["late"] += 1
            return Said(LATE_ROW, seq)
        if reason := self.refusal(row.values, True):
            if row.flags & RESET:
                before.seq, before.ended = seq, "frame"
            elif row.flags & END:
                before.ended = "end"
            return self.reject(reason, seq)
        self.counts["missing rows"] += min(gap, MOST_COUNTED)
        for _ in range(gap if not reset and self.gap != "step" else 0):
            before.seq += 1
            self.advance(before, before.forecast if self.gap == "predict" else before.input, row.received)
            if before.ended:
                reset = before.ended
                break
        return self.step(row, seq, before, reset, gap)

    def admit(self, row: Row) -> Said:
        reason = self.refusal(row.values, False)
        if not reason and len(self.streams) == self.capacity:
            reason = "capacity"
        return self.reject(reason, row.seq or 0) if reason else self.step(row, row.seq or 0, None, "", 0)

    def place(self, row: Row, seq: int, before: Stream) -> tuple[str, int]:
        """Why the row begins anew, "late", or ""; and the rows missing before it."""
        if row.flags & RESET:
            return "frame", 0
        if row.seq is None:
            return before.ended, 0
        if seq > before.seq:
            gap = seq - before.seq - 1
            if before.ended:
                return before.ended, 0 if before.ended == "end" else gap
            return "max_gap" if gap > self.max_gap else "", gap
        goes_back = seq <= before.first and seq < before.seq
        if before.ended == "end" and goes_back:
            return "end", 0
        begins = goes_back or before.again == seq
        before.again = seq + 1 if begins else None
        silent = row.received - before.received >= SILENCE_NS
        return "restart" if silent and begins else "late", 0

    def step(self, row: Row, seq: int, before: Stream | None, reset: str, gap: int) -> Said:
        """The row's own step."""
        values, stream = row.values.copy(), before
        said, residual = GAP if gap else 0, np.nan
        if reset:
            said |= WAS_RESET
            self.resets[reset] += 1
        if before is not None:
            if not reset and self.forecasts and before.step >= self.window:  # or says little
                residual = self.residual(before, values)
            values, imputed = self.impute(before, values, not reset)
            said |= (IMPUTED if imputed else 0) | (RESTORED if before.restored else 0)
        known = not np.isnan(residual) and not gap  # behind a gap the forecast was of another row
        scored = 0 if before is None else before.scored
        if self.forecasts and not (known and scored >= WARMING_ROWS):
            said |= WARMING
        if stream is None or reset:
            said |= 0 if self.forecasts else WARMING
            stream = self.anew(seq, values, before)
            self.streams[row.name] = stream
        stream.seq, stream.again, stream.ended = seq, None, "end" if row.flags & END else ""
        if not self.advance(stream, values, row.received):
            return self.reject("diverged", seq)
        stream.restored, stream.scored = False, scored + known
        said |= DEGRADED if stream.degraded else 0
        said |= WARMING if stream.step < self.window else 0
        counted = min(gap, MOST_COUNTED)
        return Said(PREDICTED, seq, said, stream.step, counted, stream.epoch, residual, stream.forecast)

    def anew(self, seq: int, values: np.ndarray, before: Stream | None) -> Stream:
        stream = Stream(seq, seq, values, np.zeros(0, np.float32), 0, run=self.network.begin())
        if before is not None:
            stream.input, stream.epoch, stream.restored = before.input, before.epoch + 1, before.restored
            stream.scored = before.scored
        return stream

    def residual(self, before: Stream, values: np.ndarray) -> float:
        there = ~np.isnan(values)
        if not there.any():
            return np.nan
        errors = ((values - before.forecast.astype(np.float64)) / self.std)[there]
        return min(np.sqrt(np.mean(errors**2)), float(np.finfo(np.float32).max))

    def impute(self, before: Stream, values: np.ndarray, continues: bool) -> tuple[np.ndarray, bool]:
        gone = np.isnan(values)
        source = before.forecast if self.missing == "predict" and continues else before.input
        return np.where(gone, source if gone.any() else values, values), bool(gone.any())

    def advance(self, stream: Stream, values: np.ndarray, received: int) -> bool:
        """One step of the network. Whether it came to numbers; if not, the next row begins anew."""
        stream.step, stream.received = stream.step + 1, received
        forecast = self.network.step(stream.run, values)
        if forecast is None:
            stream.forecast, stream.degraded = np.zeros_like(values), 0
            stream.ended = stream.ended or "diverged"
            return False
        stream.input, stream.forecast = values, forecast
        stream.inputs.append(values)
        stream.degraded = stream.degraded + 1 if self.network.saturated(stream.run) else 0
        if stream.degraded >= DEGRADED_STEPS and not self.window:  # whose states begin anew by themselves
            stream.ended = stream.ended or "degraded"
        return True

    def put_back(self, saved: dict[str, Stream], received: int) -> None:
        """Gives streams as they were saved back; those beyond the capacity are left out."""
        for name, stream in saved.items():
            if name in self.streams or len(self.streams) < self.capacity:
                back = replace(stream.saved(), restored=True, received=received)
                back.run = self.network.begin(back.inputs)
                self.streams[name] = back


# what is compared


def assert_said(found: list[Said], expected: list[Said]) -> None:
    for at, (said, wanted) in enumerate(zip(found, expected, strict=True)):
        said = replace(said, flags=int(said.flags) & ~ANOMALY)  # the score has tests of its own
        for name in ("outcome", "flags", "step", "gap", "epoch"):
            assert (at, name, getattr(said, name)) == (at, name, getattr(wanted, name))
        if wanted.outcome < REJECTED:
            assert (at, said.seq) == (at, wanted.seq)
        np.testing.assert_allclose(said.residual, wanted.residual, rtol=1e-5)
        np.testing.assert_array_equal(said.values, wanted.values)


def assert_counted(engine: Engine, rules: Rules) -> None:
    stats, counts = engine.stats, rules.counts
    for reason, count in zip(REASONS, stats.rejected, strict=True):
        assert (reason, count) == (reason, counts[reason])
    for reason, count in zip(RESETS, stats.resets, strict=True):
        assert (reason, count) == (reason, rules.resets[reason])
    assert stats.counters[LATE] == counts["late"]
    assert stats.counters[MISSING_ROWS] == counts["missing rows"]
    assert stats.counters[STREAMS] == len(rules.streams)


def assert_finite(slots: Slots) -> None:
    """Of every record all but its header, whose words are not numbers."""
    records = slots.state.reshape(-1, slots.words)
    assert np.isfinite(records[:, slots.input_at :]).all()


# how rows reach an engine


def feed(engine: Engine, rows: list[Row]) -> list[Said]:
    """What ``Engine.feed`` says of rows without flags, all of them with numbers or none."""
    names = sorted({row.name for row in rows})
    seq = None if rows[0].seq is None else np.array([row.seq for row in rows], np.uint64)
    stream = np.array([names.index(row.name) for row in rows])
    answers = engine.feed(names, stream, np.array([row.values for row in rows]), seq)
    return [
        Said(**{part.name: getattr(answers, part.name)[at] for part in fields(Said)})
        for at in range(len(rows))
    ]


@compiled(unknown="core")
def _stage(core, row, name, flags, seq, ts, received):
    slot = slot_for(core, address_of(name, 0), row)
    if slot >= 0:
        stage(core, row, slot, flags, seq, ts, received)
    return slot


@compiled(unknown="core")
def _advance(core, count):
    advance(core, count)


def feed_by_hand(engine: Engine, rows: Sequence[Row]) -> list[Said]:
    """What comes of a batch of rows with the flags of their frames, each at the time it says."""
    (core, _kept), batch, staged = prepared(engine.core), engine.core.batch, 0
    assert len(rows) <= ROWS
    said: list[Said] = []
    for row in rows:
        batch.values[staged * core.net.in_width :][: len(row.values)] = row.values
        flags, seq = (row.flags, 0) if row.seq is None else (row.flags | SEQ, row.seq)
        slot = int(_stage(core, staged, id_words(row.name), flags, np.uint64(seq), row.ts, row.received))
        said.append(Said(PREDICTED if slot >= 0 else REJECTED - 1 - slot, seq))
        staged += slot >= 0
    _advance(core, staged)
    values = batch.predicted.reshape(-1, core.net.out_width)[:, : core.net.outputs].copy()
    each = iter(range(staged))
    for at, one in enumerate(said):
        if one.outcome == PREDICTED:
            row = next(each)
            said[at] = Said(batch.outcome[row], batch.said["seq"][row])
            if batch.outcome[row] == PREDICTED:
                numbers = [batch.said[row][name] for name in ("flags", "step", "gap", "epoch", "residual")]
                said[at] = Said(PREDICTED, batch.said["seq"][row], *numbers, values[row])
    return said


# what an engine remembers, and how it is kept elsewhere


def record_of(slots: Slots, name: str) -> np.ndarray:
    """A stream's committed record, (words,) float32: a view."""
    slot = int(find_slot(slots, id_words(name)))
    assert slot >= 0
    return slots.state.reshape(-1, slots.words)[slot]


def saved(engine: Engine, copy: Copy | None = None) -> bytes:
    """A snapshot of every stream, with ``copy`` brought up to date or with one of its own."""
    copy = copy or make_copy(engine.core.slots, np.arange(engine.capacity))
    assert refresh(engine.core.slots, copy)[1] == 0
    file, layout = io.BytesIO(), layout_of(engine.core.net)._asdict()
    write_to(file, Snapshot(engine.model.fingerprint, layout, 1, *copied(engine.core.slots, copy)))
    return file.getvalue()


@compiled
def _check_of(records, words, name):
    return check_of(records, 0, words, id_check(name, 0))


def vouch_for(slots: Slots, record: np.ndarray, name: np.ndarray) -> None:
    """Gives a record the check that makes it that of the id ``name``, as it is stored."""
    words = record.view(np.uint64)
    words[CHECK] = _check_of(record.copy(), slots.past_at, name.copy())


def names_in(snapshot: bytes) -> list[str]:
    """The ids of a snapshot's streams, in its order."""
    found = read_from(io.BytesIO(snapshot), "the test's own")
    return [id_text(words) for words in found.ids.view(np.uint64)]


def put_back(engine: Engine, snapshot: bytes, now: int) -> np.ndarray:
    """Gives a snapshot's streams back to an engine: what became of each, as ``restore`` says."""
    found = read_from(io.BytesIO(snapshot), "the test's own")
    fate = np.full(len(found.ids), 255, np.uint8)
    ids, records = (array.reshape(-1).view(np.uint64) for array in (found.ids, found.records))
    restore(engine.core.net, engine.core.slots, ids, records, now, fate)
    engine.stats.counters[STREAMS] = engine.core.slots.counts[1]
    return fate


def moved(
    engine: Engine,
    now: int = 1,
    predict: Predict = Predict(),  # noqa: B008
    memory: int = 0,
    **faults: Any,
) -> Engine:
    """An engine of its own with all that ``engine`` remembers."""
    other = Engine(engine.model, engine.capacity, Faults(**faults), predict=predict, memory=memory)
    assert (put_back(other, saved(engine), now) == PUT).all()
    return other

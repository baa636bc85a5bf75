"""The running spread of forecast errors: against its formula in plain Python, and what must hold of it."""

import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import untrained
from plain_rules import put_back, record_of, saved, vouch_for

from streamrnn.engine.engine import Engine
from streamrnn.kernels.packing import pack_network
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.streams import recovery
from streamrnn.streams.record import HEADER, layout_of
from streamrnn.streams.relaid import other_layouts, relaid
from streamrnn.streams.slots import id_words
from streamrnn.streams.snapshot import read_from, write_to
from streamrnn.streams.spread import (
    COUNT,
    KEPT,
    KEPT_AHEAD,
    LEAST_SPREAD,
    MOST_SPREAD,
    NOT_KEPT,
    QUANTILES,
    SCALARS,
    SPREAD,
    TOLD,
    VECTORS,
    spread_words,
)
from streamrnn.wire.frame import RESET, SEQ

MODEL = untrained("lstm", 3, 5, highway=2)


class PlainSpread:
    """Of one output, in float64."""

    def __init__(self) -> None:
        self.spread, self.count = 0.0, 0

    def take(self, error: float) -> None:
        """The error of a forecast in standard deviations; NaN where the channel was missing."""
        if math.isnan(error):
            return
        size = abs(error)
        if self.count >= 30:
            size = min(size, 10 * self.spread)
        self.spread += max(0.03, 1 / (self.count + 1)) * (size - self.spread)
        self.spread = min(max(self.spread, 2.0**-10), 2.0**20)
        self.count += 1


def engine_of(model: Model = MODEL, faults: Faults | None = None, capacity: int = 4) -> Engine:
    return Engine(model, capacity, faults or Faults(), predict=Predict(bands=(0.5, 0.9)))


def kept(engine: Engine, stream: str = "s") -> tuple[np.ndarray, np.ndarray]:
    """The spreads and counts of a stream, (outputs,) each."""
    slots, net = engine.core.slots, engine.core.net
    end = slots.forecast_at
    part = record_of(slots, stream)[end - spread_words(net.outputs) : end][SCALARS:].reshape(VECTORS, -1)
    return part[SPREAD, : net.outputs].copy(), part[COUNT, : net.outputs].copy()


def rows_of(model: Model, count: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, scale, (count, len(model.channels)))
    return (noise * model.input_std + model.input_mean).astype(np.float32)


def plain(model: Model, rows: np.ndarray, values: np.ndarray, unforecast: Sequence[int] = ()) -> np.ndarray:
    """The spreads after ``rows`` that were answered ``values``; those at ``unforecast`` follow none."""
    streams = [PlainSpread() for _ in model.outputs]
    for at in range(1, len(rows)):
        if at in unforecast:
            continue
        errors = (rows[at].astype(float) - values[at - 1]) / model.output_std
        for stream, error in zip(streams, errors.tolist(), strict=True):
            stream.take(error)
    return np.array([[stream.spread, stream.count] for stream in streams]).T


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 40])
def test_it_is_what_its_formula_says(channels):
    model = untrained("gru", channels, 7)
    rows = rows_of(model, 400)
    rows[np.random.default_rng(1).random(rows.shape) < 0.05] = np.nan
    rows[0] = model.input_mean
    rows[300] = 1e30  # as wild as can be: it counts as ten spreads
    rows[310] = np.nan
    engine = engine_of(model)
    said = engine.feed(["s"], np.zeros(len(rows), np.int64), rows)
    spreads, counts = plain(model, rows, said.values)
    np.testing.assert_allclose(kept(engine)[0], spreads, rtol=1e-5)
    np.testing.assert_array_equal(kept(engine)[1], counts)


def test_a_row_that_follows_no_forecast_changes_nothing():
    """Behind a gap, whatever fills it, and where a sequence begins; what was kept stays through both."""
    for gap in ("step", "hold", "predict"):
        engine, rows = engine_of(faults=Faults(gap=gap)), rows_of(MODEL, 60)
        seq = np.arange(60, dtype=np.uint64)
        seq[40:] += np.uint64(3)
        flags = np.full(60, SEQ, np.uint16)
        flags[50] |= RESET
        said = engine.feed(["s"], np.zeros(60, np.int64), rows, seq, flags=flags)
        spreads, counts = plain(MODEL, rows, said.values, unforecast=(40, 50))
        np.testing.assert_allclose(kept(engine)[0], spreads, rtol=1e-5)
        assert kept(engine)[1].tolist() == counts.tolist() == [57] * 3


def test_what_is_filled_in_does_not_count():
    engine, rows = engine_of(faults=Faults(missing="predict")), rows_of(MODEL, 100)
    rows[50:, 1] = np.nan
    engine.feed(["s"], np.zeros(100, np.int64), rows)
    assert kept(engine)[1].tolist() == [99, 49, 99]


def test_it_follows_a_change_of_scale():
    engine = engine_of()
    for scale in (1.0, 3.0, 0.3):
        rows = rows_of(MODEL, 2000, seed=int(10 * scale), scale=scale)
        said = engine.feed(["s"], np.zeros(len(rows), np.int64), rows)
        errors = abs(rows[1:] - said.values[:-1])[-300:] / MODEL.output_std
        np.testing.assert_allclose(kept(engine)[0], errors.mean(0), rtol=0.3)


def test_one_wild_row_moves_it_by_a_bounded_amount():
    engine = engine_of()
    engine.feed(["s"], np.zeros(500, np.int64), rows_of(MODEL, 500))
    before = kept(engine)[0]
    engine.feed(["s"], np.zeros(1, np.int64), np.full((1, 3), 3e37, np.float32))
    np.testing.assert_allclose(kept(engine)[0], before * 1.27, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(2, 9), st.integers(0, 99))
def test_how_rows_are_batched_changes_no_bit(pieces, streams, seed):
    count = sum(pieces)
    rng = np.random.default_rng(seed)
    stream = rng.integers(0, streams, count)
    rows = rows_of(MODEL, count, seed)
    together, ids = engine_of(capacity=streams), [str(k) for k in range(streams)]
    end = 0
    for piece in pieces:
        part = slice(end, end + piece)
        together.feed(ids, stream[part], rows[part])
        end += piece
    for k in set(stream.tolist()):
        alone = engine_of()
        alone.feed([str(k)], np.zeros((stream == k).sum(), np.int64), rows[stream == k])
        for one, other in zip(kept(together, str(k)), kept(alone, str(k)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_else_depends_on_it():
    rows = rows_of(MODEL, 300)
    one, other = Engine(MODEL, 4, Faults()), engine_of()
    ours, theirs = (engine.feed(["s"], np.zeros(300, np.int64), rows) for engine in (one, other))
    assert ours.said.tobytes() == theirs.said.tobytes()
    assert ours.values.tobytes() == theirs.values.tobytes()
    assert layout_of(other.core.net).words == layout_of(one.core.net).words + spread_words(3)


@pytest.mark.parametrize(
    ("vector", "value"),
    [
        *((SPREAD, size) for size in (0, -1, 2 * MOST_SPREAD, LEAST_SPREAD / 2)),
        (COUNT, -1),
        (QUANTILES + 1, 6.1),
        (TOLD, -1),
    ],
)
def test_a_record_that_rows_cannot_lead_to_is_not_taken(vector, value):
    engine = engine_of()
    engine.feed(["s"], np.zeros(10, np.int64), rows_of(MODEL, 10))
    assert put_back(engine_of(), saved(engine), 1).tolist() == [recovery.PUT]
    slots, net = engine.core.slots, engine.core.net
    record = record_of(slots, "s")
    record[slots.forecast_at - spread_words(net.outputs) + SCALARS + vector * net.out_width] = value
    vouch_for(slots, record, id_words("s"))
    assert put_back(engine_of(), saved(engine), 1).tolist() == [recovery.DAMAGED]


@pytest.mark.parametrize("channels", [*range(1, 34), 64, 100])
def test_records_of_no_two_settings_are_laid_out_alike(channels):
    """Or those of one would be taken for the other's: a record does not say which it is of."""
    network = pack_network(untrained("rnn", channels, 3))
    layouts = [
        layout_of(network._replace(memory=memory, spread=kind))
        for memory in (0, 500)
        for kind in (NOT_KEPT, KEPT, KEPT_AHEAD)
    ]
    before = [
        layout
        for memory in (0, 500)
        for layout, words in other_layouts(network._replace(memory=memory)).items()
        if words == "of the version before"
    ]
    assert len({*layouts, *before}) == len(layouts) + len(before) == 8


def test_what_is_known_of_errors_stays_when_rollouts_get_bands():
    model = untrained("lstm", 3, 5)
    first = Engine(model, 4, Faults(), predict=Predict(bands=(0.5, 0.9)))
    first.feed(["a"], np.zeros(200, np.int64), rows_of(model, 200))
    rolling = Engine(model, 4, Faults(), predict=Predict(bands=(0.5, 0.9), horizon=8))
    there = relaid(read_from(io.BytesIO(saved(first)), "the test's own"), rolling.core.net)
    file = io.BytesIO()
    write_to(file, there)
    assert put_back(rolling, file.getvalue(), 1).tolist() == [recovery.PUT]
    row = rows_of(model, 1, seed=9)
    wide, beside = (engine.feed(["a"], np.zeros(1, np.int64), row) for engine in (rolling, first))
    np.testing.assert_array_equal(wide.values, beside.values)
    reach = [said.bands[0, 3] - said.bands[0, 2] for said in (wide, beside)]
    np.testing.assert_allclose(reach[0], reach[1], rtol=0.5)  # r is the same, q is that of a new stream


@pytest.mark.parametrize("highway", [0, 1, 4])
@pytest.mark.parametrize("damaged", ["input", "last"])
def test_records_of_a_daemon_without_bands_are_laid_out_anew_and_back(highway, damaged):
    """All of them is as it was; what was damaged still is."""
    model = untrained("lstm", 3, 5, highway=highway)
    without, other = Engine(model, 4, Faults()), engine_of(model)
    for stream in "ab":
        without.feed([stream], np.zeros(40, np.int64), rows_of(model, 40))
    kept_as_was = read_from(io.BytesIO(saved(without)), "the test's own")
    word = {"input": HEADER, "last": layout_of(without.core.net).past_at - 1}[damaged]
    kept_as_was.records.view(np.uint32)[1, word] ^= 1 << 20
    there = relaid(kept_as_was, other.core.net)
    assert there.layout == layout_of(other.core.net)._asdict()
    file = io.BytesIO()
    write_to(file, there)
    assert put_back(other, file.getvalue(), 1).tolist() == [recovery.PUT, recovery.DAMAGED]
    back = relaid(there, without.core.net)
    assert back.records[0].tobytes() == kept_as_was.records[0].tobytes()
    assert relaid(back, without.core.net) is back

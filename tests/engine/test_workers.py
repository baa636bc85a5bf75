"""However many workers step the streams, every bit is as with one; so is what is counted and told."""

from typing import Any

import numpy as np
import pytest
from daemons import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ADDED, RELATIONS, untrained

from streamrnn.engine import crew
from streamrnn.engine.engine import Answers, Engine
from streamrnn.kernels.packing import pack_network
from streamrnn.model.model import Model, random_model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import REFUSAL
from streamrnn.streams.record import CHECK, LAST_RECEIVED, RECEIVED
from streamrnn.streams.slots import WORK_RECORDS
from streamrnn.wire.frame import END, RESET

CHANNELS, STREAMS, ROWS = 3, 40, 1500
NAMES = [f"s{number}" for number in range(STREAMS)]
FORECASTS = [
    untrained("lstm", CHANNELS, 5, layers=2, **ADDED),
    untrained("gru", CHANNELS, 20, reset="before"),
    untrained("slstm", CHANNELS, 4),
]
OTHERS = [untrained("lstm", CHANNELS, 6, **settings) for settings in RELATIONS.values()]
GROWING = untrained("rnn", CHANNELS, 20, activation="relu", seed=3)  # whose steps diverge now and then
FILLED = st.fixed_dictionaries(
    {
        "gap": st.sampled_from(["step", "hold", "predict"]),
        "max_gap": st.sampled_from([0, 2, 64]),
        "missing": st.sampled_from(["reject", "hold", "predict"]),
    }
)
HELD = st.fixed_dictionaries({"gap": st.sampled_from(["step", "hold"]), "max_gap": st.just(5)})
ROLLOUT = Predict(horizon=3, every=7)
# models, what is filled in, when several rows are predicted, rows over which corrections are learned
SETTINGS = st.one_of(
    *(
        st.tuples(st.just(model), FILLED, st.just(predict), st.just(memory))
        for model, predict, memory in (
            (FORECASTS[0], ROLLOUT, 200),
            (FORECASTS[1], Predict(), 0),
            (FORECASTS[2], ROLLOUT, 0),
            (GROWING, Predict(), 200),
        )
    ),
    st.tuples(st.sampled_from(OTHERS[:1] + OTHERS[2:]), HELD, st.just(Predict(every=9)), st.just(0)),
    st.tuples(st.just(OTHERS[1]), HELD, st.just(Predict()), st.just(0)),
)


@pytest.fixture(autouse=True, scope="module")
def everything_is_shared():
    """However little there is to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "WORTH", 0)
        yield


def rows_of(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Rows of streams that send much or little: some late, missing, incomplete, infinite or enormous."""
    share = rng.dirichlet(np.full(STREAMS, 0.3))
    stream = rng.choice(STREAMS, ROWS, p=0.5 * share + 0.5 / STREAMS)
    seq = np.zeros(ROWS, np.uint64)
    for number in range(STREAMS):
        steps = rng.choice([1, 1, 1, 1, 1, 1, 0, 2, 5, 9], (stream == number).sum())
        seq[stream == number] = np.cumsum(steps)
    values = rng.normal(0, 5, (ROWS, CHANNELS)).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    values[rng.random(values.shape) < 0.005] = np.inf
    values[rng.random(values.shape) < 0.005] = 1e38
    flags = np.where(rng.random(ROWS) < 0.03, END, 0) | np.where(rng.random(ROWS) < 0.02, RESET, 0)
    return stream, values, seq, np.arange(ROWS, dtype=np.int64), flags.astype(np.uint16)


def left_by(engine: Engine, answers: Answers) -> list[Any]:
    """All that came of rows, but for clocks."""
    slots, stats = engine.core.slots, engine.stats
    records = slots.state_64[: slots.capacity * slots.words // 2].reshape(slots.capacity, -1).copy()
    records[:, [CHECK, RECEIVED, LAST_RECEIVED]] = 0
    told = [name for name in REFUSAL.names or () if not name.endswith("_ns")]
    arrays = [
        *(part for name, part in answers._asdict().items() if name != "step_ns"),
        *(slots.ids, slots.committed, slots.notes["again"], records),
        *(stats.counters, stats.resets, stats.rejected, *(stats.refused[name] for name in told)),
    ]
    return [array.tobytes() for array in arrays]


def made(model: Model, workers: int, faults: dict[str, Any], predict: Predict, memory: int) -> Engine:
    return Engine(model, STREAMS - 2, Faults(**faults), predict=predict, memory=memory, workers=workers)


@settings(max_examples=16, deadline=None)
@given(SETTINGS, st.integers(0, 2**32 - 1))
def test_rows_of_any_kind(setting, seed):
    model, *how = setting
    rows = rows_of(np.random.default_rng(seed))
    alone, *others = (made(model, workers, *how) for workers in (1, 2, 3))
    expected = left_by(alone, alone.feed(NAMES, *rows))
    for engine in others:
        assert left_by(engine, engine.feed(NAMES, *rows)) == expected


def steps(engine: Engine) -> list[int]:
    """How many streams of batches each worker has stepped, ever."""
    board, first = engine.core.crew.board, crew._OF_WORKERS + crew._DONE
    return [int(board[first + number * crew._EACH]) for number in range(3)]


def test_all_workers_take_part():
    model = random_model("lstm", CHANNELS, 64)
    one, three = (made(model, workers, {}, Predict(), 0) for workers in (1, 3))
    rng = np.random.default_rng(0)

    def fed() -> bool:
        rows = rows_of(rng)
        assert left_by(three, three.feed(NAMES, *rows)) == left_by(one, one.feed(NAMES, *rows))
        return all(steps(three))

    wait_for(fed, "a step of each worker")


def test_how_many_there_are():
    """Small networks are one thread's; no more than there are cores, but where they are asked for."""
    sizes = {hidden: pack_network(random_model("lstm", 16, hidden)) for hidden in (32, 64, 128, 256)}
    assert [crew.usual_workers(network, 8) for network in sizes.values()] == [1, 1, 3, 8]
    assert crew.usual_workers(sizes[256], 2) == 2
    for workers in (1, 2, 5):
        core = made(FORECASTS[0], workers, {}, Predict(), 0).core
        assert core.crew.workers == workers
        assert core.slots.work == workers * WORK_RECORDS

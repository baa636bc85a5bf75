"""What an operator's requests and verdicts do to the streams of an engine."""

from typing import Any

import numpy as np
import pytest
from models import untrained
from pages import NoShadow, StandingPump

from streamrnn.daemon.operator import Operator
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.settings.sections import Faults
from streamrnn.streams.holding import BY_HAND, FREE, UNTIL_OVER
from streamrnn.streams.record import HOLD

NAMES = ["hall-1/a", "hall-1/b", "hall-2/a"]


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Three streams; of the first an event has begun with a row far off."""
    rows = np.random.default_rng(2).normal(size=(600, 3)).astype(np.float32)
    rows[500:] += 1000
    engine = Engine(untrained(), 8, Faults())
    for name in NAMES:
        of = rows if name == NAMES[0] else rows[:300]
        engine.feed([name], np.zeros(len(of), np.int64), of)
    return engine


@pytest.fixture
def operator(engine: Engine) -> Operator:
    operator = Operator(engine, NoShadow())
    operator.start(StandingPump(), dict)
    yield operator
    operator.act({"do": "release", "prefix": ""}, "test").result()
    operator.stop()


def holds(engine: Engine) -> list[int]:
    slots = engine.core.slots
    return slots.state_32.reshape(-1, slots.words)[:3, HOLD].tolist()


def test_streams_are_held_by_name_and_by_prefix(engine, operator):
    def done(**request: Any) -> dict[str, int]:
        return operator.act(request, "test").result()

    assert done(do="hold", streams=[NAMES[2], NAMES[0], NAMES[0]]) == {"streams": 2, "changed": 2}
    assert holds(engine) == [BY_HAND, FREE, BY_HAND]
    assert done(do="hold", prefix="hall-1/") == {"streams": 2, "changed": 1}
    assert done(do="release", prefix="") == {"streams": 3, "changed": 3}
    assert done(do="hold", prefix="nowhere") == {"streams": 0, "changed": 0}
    assert done(do="hold", streams=[]) == {"streams": 0, "changed": 0}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"do": "hold", "streams": [NAMES[0], "gone", "x" * 200, ""]}, "no such stream: 'gone'"),
        ({"do": "hold", "streams": NAMES[0]}, "not a request"),
        ({"do": "hold", "streams": [1]}, "not a request"),
        ({"do": "hold", "streams": None}, "not a request"),
        ({"do": "hold", "streams": NAMES, "prefix": ""}, "not a request"),
        ({"do": "hold"}, "not a request"),
        ({"do": "hold", "prefix": 1}, "not a request"),
        ({"do": "sudo"}, "not a request"),
    ],
)
def test_what_is_refused_changes_nothing(engine, operator, request_, why):
    with pytest.raises(UserError, match=why):
        operator.act(request_, "test").result()
    assert holds(engine) == [FREE] * 3


def test_a_verdict_is_of_one_event(engine, operator):
    def judged(*verdict: Any, name: str = NAMES[0]) -> str:
        return operator.submit(operator.judged, name, *verdict).result()

    began = int(engine.core.slots.notes[0]["began"])
    assert began >= 500
    before = engine.core.slots.state.tobytes()
    assert judged("real", False, 7) == ""  # long over, and no more known
    assert judged("real", False) == judged("normal", False, began) == judged("real", True, name="gone") == ""
    assert engine.core.slots.state.tobytes() == before
    back = "learning held until it is over, and what was learned since it began is taken back"
    for verdict in ("real", "work"):
        assert judged(verdict, True) == back
        assert holds(engine)[0] == UNTIL_OVER
        assert judged("", True) == "learning released"
        assert (judged("", True), holds(engine)[0]) == ("", FREE)
    assert judged("real", False, began) == back  # it ended, as it was learned
    assert judged("real", True, 7) == "learning held until it is over"  # it began before this process did
    assert judged("normal", True, began) == "what it shows now is taken as usual"
    assert holds(engine)[0] == FREE
    operator.act({"do": "hold", "prefix": NAMES[0]}, "test").result()
    assert judged("real", True, 7) == "learning is held by hand"
    assert holds(engine)[0] == BY_HAND

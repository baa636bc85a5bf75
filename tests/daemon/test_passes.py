"""The bench's account of where a row's time goes, from the daemon's own loop."""

from streamrnn.bench.daemon import CHANNELS
from streamrnn.bench.passes import row_time
from streamrnn.engine.stopwatch import PASSES
from streamrnn.model.model import random_model

LONG = ("receive", "rules", "step", "send")  # what cannot hide behind the looks at the clock


def test_every_pass_takes_its_time_and_all_no_more_than_there_is():
    time = row_time(random_model("lstm", CHANNELS, 16), 0.3)
    assert time.ns.keys() == set(PASSES) - {"wait"}
    assert all(time.ns[name] > 0 for name in LONG), time.ns
    assert 0 < sum(time.ns.values()) < 1e6
    assert 1 <= time.batch_rows <= 4096
    assert 0 <= time.waiting < 1

"""SIGKILL at random instants under full load: no step is lost, none is taken twice, no stream is dropped.

The state that a witness comes to, and every prediction that arrived, must be the same, bit for bit.
"""

import tempfile

import numpy as np
import pytest
from daemons import launch
from deaths import CHANNELS, LIVES, ROWS, STREAMS, Deaths, Witness, at_full_load, settings_in
from models import untrained

from streamrnn.model.model_file import write_model

# the clock lets nothing go; times are from 1970 on, of which the log would speak
HOUR_NS = 3600 * 10**9
ASSEMBLED = {
    "input.format": "json",
    "assemble.period": "1h",
    "streams.idle_timeout": "0",
    "log.level": "error",
}


@pytest.mark.parametrize(
    ("snapshots", "more", "window", "rounds", "long"),
    [
        (False, {}, 0, 60, 5000),
        (False, {"streams.workers": 3}, 0, 30, 5000),
        (True, {}, 0, 60, 5000),
        (False, ASSEMBLED, 0, 10, 200),
        (False, {}, 9, 10, 1000),
    ],
    ids=["live", "workers", "snapshots", "assembled", "windows"],
)
def test_any_number_of_deaths(tmp_path, request, snapshots, more, window, rounds, long):
    """Of rows that are assembled what waited is lost, and a gap; what was committed is not, nor doubled."""
    if request.config.getoption("--long"):
        rounds = long
    model = tmp_path / "model.safetensors"
    write_model(untrained("lstm", channels=CHANNELS, hidden=8, window=window), model)
    values = np.random.default_rng(0).normal(size=(ROWS, CHANNELS)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        settings = settings_in(tmp_path, live) | more
        if snapshots:
            settings |= {"state.snapshots": str(tmp_path / "snapshots"), "state.interval": "5ms"}
        with launch(model, settings, program=LIVES) as daemon, at_full_load(daemon, values) as heard:
            witness = Witness(daemon, values, HOUR_NS if more is ASSEMBLED else 0)
            deaths = Deaths(daemon, heard, witness, seed=7 + snapshots)
            for _ in range(rounds):
                deaths.die_once()
            assert not daemon.said
    assert witness.rows > (5 if more else 100) * rounds * STREAMS
    assert witness.predictions > rounds * STREAMS
    print(f"{rounds} deaths, {witness.rows} rows, {witness.predictions} predictions")

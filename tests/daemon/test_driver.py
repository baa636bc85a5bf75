"""The pump's thread: pauses that follow each other closely, and its end."""

import threading
import time

import numpy as np
import pytest
from daemons import DEADLINE_S

from streamrnn.daemon import driver as module
from streamrnn.daemon.driver import Driver
from streamrnn.daemon.pump import STOP, make_pump
from streamrnn.engine.engine import Engine
from streamrnn.model.model import random_model
from streamrnn.settings.sections import Faults


class Slow(threading.Event):
    """An event whose setter rests behind it, as a thread does that is put aside there."""

    def set(self) -> None:
        super().set()
        time.sleep(0.002)


@pytest.fixture
def driver(monkeypatch) -> Driver:
    engine = Engine(random_model("rnn", 1, 1), 1, Faults())

    def run(pump, core) -> None:
        while pump.control[STOP] == 0:
            time.sleep(0)

    monkeypatch.setattr(module, "run", run)
    return Driver(make_pump(engine.core, 0, 0, False, "", 0), engine, lambda: None)


def test_pauses_that_follow_each_other_at_once(driver):
    """The thread may be put aside between saying that it stands and waiting to go on."""
    driver._parked = Slow()
    driver.start()
    done = np.zeros(1, np.int64)

    def pause() -> None:
        for _ in range(100):
            with driver.paused():
                done[0] += 1

    pausing = [threading.Thread(target=pause, daemon=True) for _ in range(2)]
    for thread in pausing:
        thread.start()
    for thread in pausing:
        thread.join(DEADLINE_S)
    assert done[0] == 200
    driver.stop()

"""Who asks a running daemon for streams, or hands it some, waits for no compiler."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from models import untrained
from numba.core import event

from streamrnn.daemon.page.read_records import compile_reading, read_heads
from streamrnn.engine.engine import Engine
from streamrnn.settings.sections import Faults
from streamrnn.streams.choose import first, holding
from streamrnn.streams.exchange import (
    compile_transfer,
    find_slots,
    records_of,
    request_resets,
    shape_of_network,
    whole_records,
)
from streamrnn.streams.record import ID_WORDS, layout_of
from streamrnn.streams.slots import id_words
from streamrnn.streams.snapshot import Snapshot

NAMES = ("pump-1", "pump-2", "fan", "PUMP-3")


@contextmanager
def compiled_in_block() -> Iterator[list[str]]:
    """The functions that Numba compiles, or loads from the cache, as the block runs."""
    with event.install_recorder("numba:compile") as recorder:
        names: list[str] = []
        yield names
        names += [str(one.data["dispatcher"]) for _, one in recorder.buffer]


def test_nothing_is_compiled_for_who_asks():
    engine = Engine(untrained("gru", channels=2, hidden=4), 8, Faults())
    values = np.zeros((len(NAMES), 2), np.float32)
    engine.feed(NAMES, np.arange(len(NAMES)), values)
    core, slots = engine.core, engine.core.slots
    compile_reading(slots)
    compile_transfer(core.net, slots)
    with compiled_in_block() as names:
        heads = read_heads(slots, forecasts=False)
        here = holding(heads.ids, b"pump-", anywhere=False)
        anywhere = holding(heads.ids, b"PUmp", anywhere=True)
        chosen = first(heads.step.astype(np.float64), heads.ids, here, 1)
        found = np.empty(1, np.int64)
        find_slots(slots, id_words("fan").copy(), found)
        request_resets(slots, found)
        records = slots.state.reshape(-1, slots.words)[heads.slot]
        ids = slots.ids.reshape(-1, ID_WORDS)[heads.slot].view(np.uint8)
        layout = layout_of(core.net)
        snapshot = Snapshot(engine.model.fingerprint, layout._asdict(), 0, ids, records)
        shape = shape_of_network(core.net)
        whole = whole_records(records_of(snapshot, layout), shape)
    assert names == []
    assert (len(here), len(anywhere), len(chosen), int(found[0]) >= 0) == (2, 3, 1, True)
    assert whole.all()

"""Streams that are fed, go silent, end, are let go, killed, moved and put back, against plain Python."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from models import ADDED, untrained
from plain_rules import (
    LAST_NUMBER,
    SILENCE_NS,
    Row,
    Rules,
    Stream,
    assert_counted,
    assert_said,
    feed_by_hand,
    names_in,
    put_back,
    record_of,
    saved,
)
from slots_by_hand import find_slot, live_streams, release_slot

from streamrnn.engine.engine import Engine
from streamrnn.settings.sections import Faults
from streamrnn.stats import RESETS, STREAMS
from streamrnn.streams.live import LiveFile
from streamrnn.streams.record import ENDED, EPOCH, FIRST, PLACE, RESTORED, SEQ, STEP
from streamrnn.streams.recovery import NO_ROOM, PUT, recover, restore
from streamrnn.streams.rules import request_reset
from streamrnn.streams.running_copy import make_copy
from streamrnn.streams.slots import WORK_RECORDS, id_words
from streamrnn.wire.frame import END, RESET

MODELS = [
    untrained("lstm", channels=2, hidden=5, layers=2),
    untrained("gru", channels=2, hidden=4),
    untrained("rnn", channels=2, hidden=3, activation="relu"),
    untrained("lstm", channels=2, hidden=4, **ADDED),
    untrained("slstm", channels=2, hidden=3),
    untrained("lstm", channels=2, hidden=4, window=3),
]
NAMES = ["a", "b", "valve/温度", "x" * 127, "e", "f"]
FINITE = [0.0, -30.0, -1.0, 0.5, 3.0, 55.0]
VALUES = st.sampled_from([*FINITE * 4, np.nan, np.nan, np.inf])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        # how far a row's number is from the last; or it begins again, at the start or not; or has none
        st.sampled_from([1, 1, 1, 1, 1, 2, 3, 6, 0, -1, -2, "first", "zero", "last", None]),
        st.tuples(VALUES, VALUES),
        st.sampled_from([0, 0, 0, 0, 0, 0, END, RESET]),
    ),
    min_size=1,
    max_size=8,
)
KNOWN = precondition(lambda self: self.rules.streams)


def fed(engine: Engine, rules: Rules, rows: list[Row]) -> None:
    assert_said(feed_by_hand(engine, rows), [rules.take(row) for row in rows])


class Remembering(RuleBasedStateMachine):
    """An engine on a live state, killed at any time, and the plain rules, which are not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.file: LiveFile | None = None

    @initialize(
        model=st.sampled_from(MODELS),
        capacity=st.integers(3, 5),
        gap=st.sampled_from(["step", "hold", "predict"]),
        missing=st.sampled_from(["reject", "hold", "predict"]),
    )
    def first_start(self, model, capacity, gap, missing) -> None:
        faults = {"gap": gap, "max_gap": 3, "missing": missing}
        self.model, self.faults, self.capacity = model, Faults(**faults), capacity
        self.rules = Rules(model, capacity, **faults)
        self.now, self.snapshot, self.in_snapshot = 10 * SILENCE_NS, b"", dict[str, Stream]()
        self.start()
        assert not self.file.taken_over
        self.after_start()

    def start(self) -> None:
        """A new process: all that it has of the one before is the file."""
        if self.file is not None:
            os.close(self.file._lock)  # what the kernel does when a process ends

        def home(network, work):
            self.file = LiveFile(self.folder, network, self.model.fingerprint, self.capacity)
            return self.file.block

        self.engine = Engine(self.model, self.capacity, self.faults, home)

    def after_start(self) -> None:
        self.file.publish()
        self.engine.stats.counters[STREAMS] = self.engine.core.slots.counts[1]
        self.copy = make_copy(self.engine.core.slots, np.arange(self.engine.capacity))
        self.rules.counts.clear()
        self.rules.resets.clear()
        for stream in self.rules.streams.values():
            stream.again = None  # forgotten: at the worst another row is late

    def teardown(self) -> None:
        if self.file is not None:
            os.close(self.file._lock)
        shutil.rmtree(self.folder, ignore_errors=True)

    # what happens

    @rule(rows=ROWS)
    def rows(self, rows) -> None:
        last = {name: (stream.seq, stream.first) for name, stream in self.rules.streams.items()}
        batch = []
        for name, jump, values, flags in rows:
            seq, first = last.get(name, (4, 5))
            fixed = {None: None, "first": first, "zero": 0, "last": LAST_NUMBER}
            number = fixed[jump] if jump in fixed else max(seq + jump, 0) % 2**64
            if number is not None:
                last[name] = (number, first)
            batch.append(Row(name, np.array(values, np.float32), number, flags, self.now))
        fed(self.engine, self.rules, batch)

    @KNOWN
    @rule(jump=st.sampled_from([1, 1, 2, 4, 6]), seed=st.integers(0, 2**32 - 1))
    def every_stream_goes_on(self, jump, seed) -> None:
        rng = np.random.default_rng(seed)
        batch = [
            Row(name, rng.normal(0, 9, 2).astype(np.float32), (stream.seq + jump) % 2**64, 0, self.now)
            for name, stream in self.rules.streams.items()
        ]
        fed(self.engine, self.rules, batch)

    @rule(seconds=st.sampled_from([0.3, 1, 3600]))
    def time_passes(self, seconds) -> None:
        self.now += int(seconds * 1e9)

    @KNOWN
    @rule(data=st.data())
    def reset_on_request(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(self.rules.streams)))
        request_reset(self.engine.core.slots, int(find_slot(self.engine.core.slots, id_words(name))))
        if self.rules.streams[name].ended != "end":
            self.rules.streams[name].ended = "request"

    @KNOWN
    @rule(seconds=st.sampled_from([0.2, 1, 10]))
    def idle_streams_are_let_go(self, seconds) -> None:
        slots = self.engine.core.slots
        for _, slot in list(live_streams(slots)):
            if self.now - slots.notes["received"][slot] > seconds * 1e9:
                release_slot(slots, slot)
        self.engine.stats.counters[STREAMS] = slots.counts[1]
        for name, stream in list(self.rules.streams.items()):
            if self.now - stream.received > seconds * 1e9:
                del self.rules.streams[name]

    # what becomes of the process

    @KNOWN
    @rule(seed=st.none() | st.integers(0, 2**32 - 1))
    def killed(self, seed) -> None:
        """In the middle of a step: records to work in, and next rows of pasts, hold anything."""
        slots = self.engine.core.slots
        if seed is not None:
            rng, records = np.random.default_rng(seed), slots.state_32.reshape(-1, slots.words)
            parts = list(records[slots.capacity : slots.capacity + WORK_RECORDS])
            for record in records[: slots.capacity] if slots.past_rows else ():
                rows = record[slots.past_at :][: slots.past_rows * slots.row].reshape(slots.past_rows, -1)
                parts.append(rows[int(record[PLACE]) - 1])
            for torn in parts:
                written = rng.random(len(torn)) < rng.choice([0.1, 0.9, 1.0])
                torn[written] = rng.integers(0, 2**32, len(torn), np.uint32)[written]
        self.start()
        assert self.file.taken_over, self.file.why_not
        core, bad = self.engine.core, np.zeros(self.capacity, np.uint8)
        recover(core.net, core.slots, self.now, bad)
        assert not bad.any()
        self.after_start()

    @KNOWN
    @rule(more=st.integers(-2, 3))
    def started_with_another_capacity(self, more) -> None:
        before = self.capacity
        self.capacity = self.rules.capacity = max(before + more, len(self.rules.streams), 1)
        if self.capacity == before:
            return
        self.start()
        remains, core = self.file.remains, self.engine.core
        assert remains is not None
        fate = np.full(len(self.rules.streams), 255, np.uint8)
        restore(core.net, core.slots, remains.ids, remains.records, 0, fate)
        assert (fate == PUT).all()
        self.after_start()

    @KNOWN
    @rule()
    def snapshot_taken(self) -> None:
        self.snapshot = saved(self.engine, self.copy)
        self.in_snapshot = {name: stream.saved() for name, stream in self.rules.streams.items()}

    @precondition(lambda self: self.snapshot)
    @rule()
    def power_lost(self) -> None:
        """The file went with it: every stream stands where the snapshot has it."""
        shutil.rmtree(self.folder)
        self.capacity = self.rules.capacity = max(self.capacity, len(self.in_snapshot))
        self.start()
        assert not self.file.taken_over
        assert (put_back(self.engine, self.snapshot, self.now) == PUT).all()
        self.rules.streams.clear()
        self.rules.put_back(self.in_snapshot, self.now)
        self.after_start()

    @precondition(lambda self: self.snapshot)
    @rule()
    def snapshot_put_back_while_running(self) -> None:
        """Streams that run are replaced; what finds no room is said to."""
        core, known = self.engine.core, set(self.rules.streams)
        order = {name: self.in_snapshot[name] for name in names_in(self.snapshot)}
        fate = put_back(self.engine, self.snapshot, self.now)
        self.rules.put_back(order, self.now)
        left_out = [name for name in order if name not in self.rules.streams]
        assert [bool(each) for each in fate == NO_ROOM] == [name in left_out for name in order]
        assert set(fate) <= {PUT, NO_ROOM}
        assert {name for name, _ in live_streams(core.slots)} == known | set(order) - set(left_out)

    # what must hold

    @invariant()
    def every_stream_stands_where_it_should(self) -> None:
        slots, streams = self.engine.core.slots, self.rules.streams
        assert {name for name, _ in live_streams(slots)} == set(streams)
        assert slots.counts.tolist() == [self.capacity - len(streams), len(streams)]
        for name, stream in streams.items():
            record = record_of(slots, name)
            long, short = record.view(np.uint64), record.view(np.uint32)
            assert [int(long[word]) for word in (SEQ, STEP, FIRST)] == [stream.seq, stream.step, stream.first]
            assert (short[EPOCH], short[RESTORED]) == (stream.epoch, stream.restored)
            assert short[ENDED] == (1 + RESETS.index(stream.ended) if stream.ended else 0)
            for at, vector in ((slots.input_at, stream.input), (slots.prediction_at, stream.forecast)):
                np.testing.assert_array_equal(record[at : at + len(vector)], vector)
            assert slots.notes["received"][int(find_slot(slots, id_words(name)))] == stream.received

    @invariant()
    def all_is_counted(self) -> None:
        assert_counted(self.engine, self.rules)

    @invariant()
    def all_is_finite(self) -> None:
        slots = self.engine.core.slots
        for name in self.rules.streams:
            assert np.isfinite(record_of(slots, name)[slots.input_at :]).all()


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_a_slot_that_changed_hands_between_two_snapshots():
    """Its counter says the same as before, its record and its id do not."""
    engine, rows = Engine(MODELS[0], 1, Faults()), np.ones((3, 2), np.float32)
    copy = make_copy(engine.core.slots, np.arange(engine.capacity))
    for name in ("a", "b"):
        feed_by_hand(engine, [Row(name, values, seq) for seq, values in enumerate(rows)])
        assert names_in(saved(engine, copy)) == [name]
        release_slot(engine.core.slots, 0)
    assert names_in(saved(engine, copy)) == []

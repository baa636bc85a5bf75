"""What is told of messages and rows that were refused: who sent them, what was wrong, when."""

import json
import threading
import time

import numpy as np
import pytest
from daemons import DEADLINE_S, rows_answers, serving
from models import untrained

from streamrnn.adapters.tally import IntakeTally
from streamrnn.compiling.jit import compiled
from streamrnn.daemon.refusals import printable, refusals
from streamrnn.engine.engine import Engine
from streamrnn.settings.sections import Faults
from streamrnn.stats import NO_CHANNEL, REASONS, WHY
from streamrnn.streams.refusal import refuse
from streamrnn.streams.slots import id_words
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import address_of

NAN, INF = np.nan, np.inf
ROWS = np.random.default_rng(5).normal(0, 10, (40, 3)).astype(np.float32)


def engine_of(capacity: int = 4, **faults: str) -> Engine:
    return Engine(untrained(), capacity, Faults(**faults))


def told(engine: Engine) -> list[tuple[str, int, str, str]]:
    return [
        tuple(said[key] for key in ("reason", "count", "topic", "what"))
        for said in refusals(engine, IntakeTally())
    ]


def test_rows_are_told_of_by_stream_and_channel():
    engine, before = engine_of(2, missing="reject"), time.time()
    for stream, values in (
        ("a", [1, 2, 3]),
        ("a", [1, INF, 3]),
        ("new", [-INF, 2, NAN]),
        ("b", [1, 2, 3]),
        ("b", [NAN, 2, NAN]),
        ("c", [1, 2, 3]),
        ("d", [1, 2, 3]),
    ):
        engine.feed([stream], np.zeros(1, np.int64), np.array([values], np.float32))
    assert sorted(told(engine)) == [
        ("capacity", 2, "d", ""),
        ("infinite", 2, "new", "c0 is infinite"),
        ("missing", 1, "b", "c0 is missing"),
    ]
    (capacity, *others) = refusals(engine, IntakeTally())
    assert capacity["reason"] == "capacity", "the latest comes first"
    assert before - 0.01 <= capacity["first"] <= capacity["latest"] <= time.time() + 0.01
    assert (capacity["meaning"], capacity["remedy"]) == WHY["capacity"]
    assert (capacity["channel"], capacity["size"], capacity["wanted"]) == (None, None, None)
    assert {said["channel"] for said in others} == {"c0"}


def test_the_first_time_stays_and_the_latest_moves_on():
    engine, found = engine_of(), []
    while len(found) < 3:
        engine.feed(["a"], np.zeros(1, np.int64), np.full((1, 3), INF, np.float32))
        found += refusals(engine, IntakeTally())
        end = time.time_ns() + 2_000_000
        while time.time_ns() < end:
            pass
    assert [said["count"] for said in found] == [1, 2, 3]
    assert len({said["first"] for said in found}) == 1
    assert len({said["latest"] for said in found}) == 3


def test_what_diverged_is_told_of_by_its_stream():
    tensors = {name: array.copy() for name, array in untrained("rnn", activation="relu").tensors().items()}
    tensors["weight_hh_l0"][:] = tensors["weight_ih_l0"][:] = 1e30
    model = untrained("rnn", activation="relu")
    engine = Engine(type(model).from_tensors(model.settings(), tensors), 4, Faults())
    engine.feed(["wild"], np.zeros(3, np.int64), np.abs(ROWS[:3]) * 1000)
    (said,) = refusals(engine, IntakeTally())
    assert (said["reason"], said["topic"], said["channel"]) == ("diverged", "wild", None)


@compiled
def _flood(stats, reason, names, lengths, stop):
    """Refuses as fast as messages can come, for one stream after another, with its place for a size."""
    count, due = 0, monotonic_ns()
    while stop[0] == 0:
        if monotonic_ns() < due:
            continue
        due = monotonic_ns() + 500
        which = count % lengths.size
        name, length = address_of(names, 16 * which), lengths[which]
        refuse(stats, reason, name, length, length, which, NO_CHANNEL, np.float32(0))
        count += 1
    return count


def test_what_is_told_is_of_one_message_however_many_come():
    engine, stop = engine_of(), np.zeros(1, np.int64)
    ids = [letter * length for letter, length in (("a", 3), ("b", 127), ("c", 60), ("d", 1))]
    names, lengths = np.concatenate([id_words(name) for name in ids]), np.array([len(name) for name in ids])
    words = engine.stats, REASONS.index("truncated"), names, lengths
    assert _flood(*words, np.ones(1, np.int64)) == 0  # compiled
    flood = threading.Thread(target=_flood, args=(*words, stop))
    flood.start()
    found, end = [], time.monotonic() + DEADLINE_S
    while (len(found) < 2000 or len({said["topic"] for said in found}) < 4) and time.monotonic() < end:
        found += refusals(engine, IntakeTally())
    stop[0] = 1
    flood.join()
    for said in found:
        assert (said["topic"], said["size"]) == (ids[said["wanted"]], lengths[said["wanted"]])
        assert said["first"] <= said["latest"]
    counts = [said["count"] for said in found]
    assert {said["topic"] for said in found} == set(ids)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        (b"pump-1", "pump-1"),
        ("Halle 1/Ü 温 😀".encode(), "Halle 1/Ü 温 😀"),
        (b"a\0\x1b[31m\r\n", "a\\x00\\x1b[31m\\r\\n"),
        ("\u202eabc\u2028\xa0".encode(), "\\u202eabc\\u2028\\xa0"),
        (b"x\xff\xed\xa0\x80", "x\\xff\\xed\\xa0\\x80"),
        (b"", ""),
    ],
)
def test_a_topic_is_shown_in_letters_that_can_be_printed(topic, shown):
    assert printable(topic, len(topic)) == shown
    assert printable(topic, 300) == shown + "..."
    assert shown.isprintable()


def test_the_daemon_tells_of_them(model_file):
    with serving(model_file) as daemon, daemon.line() as line:
        assert json.loads(daemon.get("/api/refusals")[1]) == {"refusals": []}
        good, wrong = line.pack(ROWS[0]), "mess\nage"
        for parts in (
            [wrong.encode(), line.pack(np.ones(7, np.float32))],
            [b"y" * 300, good],
            [b"", good],
            [b"pump-1", good[32:]],
            [b"three", good, good],
            [b"pump-2", good[:-1]],
        ):
            line.publisher.send_multipart(parts)
        line.send_rows("good", ROWS)
        assert line.answers(len(ROWS)) == rows_answers(daemon.engine(), "good", ROWS)
        found = {said["reason"]: said for said in json.loads(daemon.get("/api/refusals")[1])["refusals"]}
        assert {reason: (said["count"], said["topic"], said["what"]) for reason, said in found.items()} == {
            "channels": (1, "mess\\nage", "60 bytes, 44 wanted"),
            "topic": (2, "", "a topic of 0 bytes, 127 at most"),
            "magic": (1, "pump-1", "12 bytes, 44 wanted"),
            "parts": (1, "three", "3 parts, 2 wanted"),
            "truncated": (1, "pump-2", "43 bytes, 44 wanted"),
        }
        assert (found["channels"]["size"], found["channels"]["wanted"]) == (60, 44)

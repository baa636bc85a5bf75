"""What objects of JSON and msgpack may say, and what they must not cost."""

import json
import tracemalloc

import msgpack
import numpy as np
import pytest

from streamrnn.adapters.adapter import Harvest, Message, Plan, Rejected
from streamrnn.adapters.gather import GatheredRows, Gatherer
from streamrnn.adapters.table import make_adapter
from streamrnn.adapters.tally import IntakeTally
from streamrnn.rows.assembler import Assembler

CAME = 1_700_000_000_123_456_789
FORMATS = ("json", "msgpack")
PEAK_BYTES = 16 << 20


class Reader:
    """Messages of one format, gathered into rows."""

    def __init__(self, form: str, assembler: Assembler | None = None, **settings: object):
        plan = Plan(("a", "b"), **({"stream": "s"} | settings))
        self.tally = IntakeTally(form)
        self.gatherer = Gatherer(make_adapter(form, plan), plan, assembler, self.tally)
        self._pack = json.dumps if form == "json" else msgpack.packb

    def take(self, *said: object, topic: bytes | None = None) -> list[GatheredRows]:
        """The rows of messages, which are packed unless they are bytes."""
        packed = (one if isinstance(one, bytes) else self._pack(one) for one in said)
        payloads = (one.encode() if isinstance(one, str) else one for one in packed)
        return [*self.gatherer.take(Message(topic, [payload], CAME) for payload in payloads)]

    def values(self, *said: object, topic: bytes | None = None) -> list[list[float]]:
        return [row for rows in self.take(*said, topic=topic) for row in rows.values.tolist()]

    @property
    def refused(self) -> dict[str, int]:
        return self.tally.joined({})


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_and_what_stands_for_none(form):
    rows = Reader(form).values(
        {"a": 1, "b": 2.5},
        {"b": True, "a": False, "c": "text"},
        [3, 4],
        [[5, 6], [7, 8]],
        {"values": [9, 10]},
        {"0": 1, "1": 2},
    )
    assert rows == [[1, 2.5], [0, 1], [3, 4], [5, 6], [7, 8], [9, 10], [1, 2]]
    missing = Reader(form).values({"a": None, "b": 1}, {"b": 2}, [None, 3], {"a": float("nan"), "b": 4})
    assert np.isnan([row[0] for row in missing]).all()
    assert [row[1] for row in missing] == [1, 2, 3, 4]


@pytest.mark.parametrize("form", FORMATS)
def test_a_row_that_is_no_row_costs_itself_alone(form):
    reader = Reader(form)
    bad = (
        {"a": "1", "b": 2},
        {"a": [1], "b": 2},
        [1],
        {"c": 1},
        "text",
        None,
        {},
        [],
        [[]],
        {"a": {}, "b": 1},
    )
    assert reader.values([1, 2], *bad, [3, 4]) == [[1, 2], [3, 4]]
    assert sum(reader.refused.values()) == len(bad)


@pytest.mark.parametrize("form", FORMATS)
def test_a_long_text_among_many_rows_takes_no_room_in_each(form):
    """An array of all of them would have room for it in every place."""
    reader = Reader(form)
    rows = [[float(row), 1.0] for row in range(2000)]
    reader.values([1, 2])
    tracemalloc.start()
    try:
        found = reader.values(*rows, {"a": "x" * 1_000_000, "b": 1})
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()
    assert found == rows
    assert reader.refused == {"value": 1}


@pytest.mark.parametrize("key", ["a", "time"])
def test_what_is_nested_deeper_than_python_goes_is_refused(key):
    said: object = 1
    for _ in range(1000):
        said = [said]
    reader = Reader("msgpack")
    packed = b"\x82" + msgpack.packb(key) + b"\x91" * 1000 + b"\x01" + msgpack.packb("b") + b"\x02"
    assert reader.values(packed, [1, 2]) == [[1, 2]]
    assert sum(reader.refused.values()) == 1
    assert Reader("json").values(json.dumps({key: 1, "b": [1]}), [1, 2]) == [[1, 2]]


@pytest.mark.parametrize("shape", [[0], [2**40, 0], [10**7, 0], [0, 2]])
def test_an_array_of_nothing_is_refused_whatever_its_shape(shape):
    reader = Reader("msgpack")
    array = {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": shape, b"data": b""}
    assert reader.values(array, [1, 2]) == [[1, 2]]
    assert reader.refused == {"shape": 1}


@pytest.mark.parametrize("form", FORMATS)
def test_of_a_message_of_bad_rows_no_more_than_some_are_looked_at(form):
    reader = Reader(form)
    assert reader.values([[1, 2], *[[]] * 100_000], [3, 4]) == [[1, 2], [3, 4]]
    assert reader.refused == {"channels": 101}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2, "b": 3}',
        '{"a" :1,"a":2,"b":3}',
        '{"a"\n:1,"a"\t: 2,"b":3}',
        '{"a": 1, "b": 3, "x": "\\":", "a": 2}',
        '{"a": 1, "b": 3, "deep": {"x": 1, "x": 2}}',
        '[{"a": 1, "b": 2, "b": 2}]',
    ],
)
def test_a_key_that_comes_twice_is_refused_however_it_is_written(text):
    reader = Reader("json")
    assert reader.values(text.encode(), [1, 2]) == [[1, 2]]
    assert reader.refused == {"value": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"a" : 1, "b" : 2}',
        '{\n  "a": 1,\n  "b": 2,\n  "c": "x"\n}',
        '{"a": 1, "b": 2, "time": "2026-11-29T08:00:00Z"}',
        '{"a": 1, "b": 2, "c": "one\\": two"}',
        '{"a":1,"b":2,"deep":{"a":1,"b":{"a":2}}}',
    ],
)
def test_what_looks_like_a_key_is_none(text):
    assert Reader("json").values(text.encode()) == [[1, 2]]


@pytest.mark.parametrize("form", FORMATS)
def test_where_a_topic_names_the_channel_a_message_is_one_value(form):
    assembler = Assembler(2, 10**9, hold_ns=0, lateness_ns=0, capacity=2)
    reader = Reader(form, assembler, topic="{stream}/{channel}", fields={"b": "b.value"})
    reader.values(1, {"value": 2}, {"a": 3}, topic=b"m/a")
    reader.values(5, {"b": {"value": 6}}, topic=b"m/b")
    reader.values(7, topic=b"m/b.value")
    assert reader.tally.values()["updates"] == 6
    assert reader.refused == {}
    for said in ([1, 2], [[1, 2]], {"c": 1}, "text", {"value": "1"}):
        reader.values(said, topic=b"m/a")
    reader.values(1, topic=b"m/c")
    assert reader.refused == {"value": 5, "channel": 1}


def test_what_was_wrong_is_told_in_letters():
    reader = Reader("json", Assembler(2, 1, hold_ns=0, lateness_ns=0, capacity=1), topic="{stream}/{channel}")
    reader.values(1, topic=b"m/x\n\x1b[31mCRITICAL")
    assert reader.tally.refused["channel"].what.isprintable()


@pytest.mark.parametrize("form", FORMATS)
def test_an_adapter_that_takes_too_much_ends_nothing(form, monkeypatch):
    reader = Reader(form)

    def too_much(message: Message, harvest: Harvest) -> None:
        raise MemoryError

    monkeypatch.setattr(reader.gatherer._adapter, "read", too_much)
    assert reader.values([1, 2]) == []
    assert reader.refused == {"syntax": 1}


def test_streams_stay_while_rows_of_them_may_come():
    assembler = Assembler(2, 4 * 10**9, hold_ns=0, lateness_ns=4 * 10**9, capacity=2)
    reader = Reader("json", assembler, topic="{stream}/{channel}")
    now = 10**12
    [*reader.gatherer.take([Message(b"m/a", [b"1"], CAME)], now)]
    reader.gatherer.forget(now + 11 * 10**9, 10**9)
    assert assembler.names == ["m"]
    found = [rows for rows in reader.gatherer.release(now + 11 * 10**9) for _ in rows.stream]
    assert len(found) == 1
    reader.gatherer.forget(now + 13 * 10**9, 10**9)
    assert assembler.names == [""]


def test_what_an_assembler_may_come_to_need_is_what_it_takes():
    assembler = Assembler(3, 10, hold_ns=100, lateness_ns=50, capacity=100)
    for name in range(100):
        assembler.stream(str(name))
    held = sum(array.nbytes for array in assembler._ticks if isinstance(array, np.ndarray))
    of_all = assembler.counts.nbytes + assembler._ticks.hold.nbytes
    assert assembler.most_bytes == held - of_all


def test_rejected_is_all_that_is_raised():
    with pytest.raises(Rejected):
        make_adapter("json", Plan(("a",))).read(Message(None, [b"1", b"2", b"3"], CAME), Harvest())


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_with_dots_is_a_path_as_well(form):
    plan = Plan(("motor.temp", "b"), stream="s")
    gatherer = Gatherer(make_adapter(form, plan), plan, None, IntakeTally(form))
    pack = (lambda said: json.dumps(said).encode()) if form == "json" else msgpack.packb
    said = [{"motor": {"temp": 1}, "b": 2}, {"motor.temp": 3, "b": 4}, {"motor": {"temp": 5}}]
    (rows,) = gatherer.take(Message(None, [pack(one)], CAME) for one in said)
    assert np.array_equal(rows.values, [[1, 2], [3, 4], [5, np.nan]], equal_nan=True)


@pytest.mark.parametrize("form", FORMATS)
def test_words_stand_for_what_the_model_was_told(form):
    words = {"on": 1.0, "off": 0.0, "unknown": float("nan")}
    reader = Reader(form, words=words)
    rows = reader.values({"a": "ON", "b": 2}, [3, " off"], {"a": "unknown", "b": 4}, {"a": "open", "b": 1})
    assert np.array_equal(rows, [[1, 2], [3, 0], [np.nan, 4]], equal_nan=True)
    assert reader.refused == {"value": 1}


def test_a_word_alone_is_a_value_where_its_topic_names_the_channel():
    assembler = Assembler(2, 10**9, hold_ns=0, lateness_ns=0, capacity=2)
    reader = Reader("json", assembler, topic="{stream}/{channel}", words={"on": 1.0})
    reader.take(b"ON", topic=b"m/a")
    assert reader.tally.values()["updates"] == 1
    for payload in (b"off", b"21.5 C", b"21,5"):
        reader.take(payload, topic=b"m/a")
    reader.take(b"{", topic=b"m/a")
    assert reader.refused == {"value": 3, "syntax": 1}
    assert "21,5" in reader.tally.refused["value"].what


def test_what_a_user_should_know_is_noted_once():
    reader = Reader("json", stream="machine")
    reader.take({"a": 1, "b": 2, "machine": "m1", "time": CAME})
    assert reader.tally.notes == {}
    reader.take({"a": 1, "b": 2, "time": CAME // 10**6})
    assert list(reader.tally.notes) == ["stream"]
    assert 'no key "machine"' in reader.tally.notes["stream"]
    reader = Reader("json", time_unit="ms")
    reader.take({"a": 1, "b": 2, "time": CAME // 10**9})
    assert "1970-01-20" in reader.tally.notes["time"]

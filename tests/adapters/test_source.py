"""Whose a message is, which channels it means, and when its rows were."""

import datetime
import random
from typing import get_args

import numpy as np
import pytest

from streamrnn.adapters.adapter import Plan, Rejected
from streamrnn.adapters.names import Names, value_at
from streamrnn.adapters.setup import make_gatherer
from streamrnn.adapters.source import Origin, StreamFinder
from streamrnn.adapters.stamps import Stamps, row_times, unit_of_name
from streamrnn.adapters.table import BY_NAME
from streamrnn.adapters.tally import IntakeTally
from streamrnn.errors import ConfigError
from streamrnn.model.model import random_model
from streamrnn.settings.config import load_config
from streamrnn.settings.sections import Input

CHANNELS = ("a", "b", "c")
NOTHING = Origin(None, None)
DAY = 1_700_000_000  # a day of 2023, in seconds


def plan(**settings: object) -> Plan:
    return Plan(CHANNELS, **settings)


def stream(said: object = None, topic: bytes | None = None, **settings: object) -> str:
    finder = StreamFinder(plan(**settings))
    return finder.of(finder.of_topic(topic), said)


def refused(reason: str, call, *arguments: object, **settings: object) -> str:
    """What is said where ``call`` rejects what it is given for ``reason``."""
    with pytest.raises(Rejected) as caught:
        call(*arguments, **settings)
    assert caught.value.reason == reason
    return caught.value.what


# streams


def test_a_topic_is_the_stream():
    assert stream(topic="Pumpe 1 ü".encode()) == "Pumpe 1 ü"


def test_without_a_topic_the_configuration_says_the_stream():
    assert stream(stream="pump") == stream(topic=b"", stream="pump") == "pump"
    assert "neither" in refused("stream", stream)
    refused("stream", stream, topic=b"")


def test_a_part_of_the_topic_is_the_stream():
    assert stream(topic=b"plant/pump/bearing", stream="{2}") == "pump"
    assert stream(topic=b"plant/pump/bearing", stream="{1}-{2}") == "plant-pump"
    assert "no part 4" in refused("topic", stream, topic=b"plant/pump/bearing", stream="{4}")
    refused("topic", stream, topic=b"plant", stream="{0}")


def test_a_pattern_names_stream_and_channel():
    finder = StreamFinder(plan(topic="plant/+/{stream}/{channel}"))
    assert finder.of_topic(b"plant/hall 1/pump/b") == Origin("pump", "b")
    for other in (b"plant/pump/b", b"plant/hall/pump/b/c", b"plants/hall/pump/b"):
        assert "unlike" in refused("topic", finder.of_topic, other)
    assert StreamFinder(plan(topic="m-{stream}.{channel}/#")).of_topic(b"m-7.a/x/y") == Origin("7", "a")


def test_what_follows_may_be_nothing():
    finder = StreamFinder(plan(topic="plant/{stream}/#"))
    assert {finder.of_topic(topic) for topic in (b"plant/p", b"plant/p/", b"plant/p/x/y")} == {
        Origin("p", None)
    }
    refused("topic", finder.of_topic, b"plant/")


def test_signs_in_a_pattern_mean_themselves():
    assert StreamFinder(plan(topic="a.b/{stream}")).of_topic(b"a.b/p").stream == "p"
    refused("topic", StreamFinder(plan(topic="a.b/{stream}")).of_topic, b"axb/p")


def test_a_key_says_the_stream_before_the_topic_does():
    said = {"of": {"machine": "pump", "number": 7}}
    assert stream(said, b"anything", stream="of.machine") == "pump"
    assert stream(said, stream="of.number") == "7"
    assert stream({}, b"topic", stream="of.machine") == "topic"
    assert stream({}, stream="of.machine") == "of.machine"  # it is the text of the configuration then
    finder = StreamFinder(plan(stream="of.machine", topic="x/{stream}"))
    assert finder.of(finder.of_topic(b"x/pump 2"), said) == "pump 2"


def test_a_topic_that_is_no_id_is_none_where_a_key_says_it():
    long = b"t" * 200
    assert stream({"m": "pump"}, long, stream="m") == "pump"
    refused("stream", stream, None, long)


@pytest.mark.parametrize("found", ["", "x" * 128, "ü" * 64, "a\nb", "\ud800", True, 1.0, [], {}])
def test_what_is_no_id_is_refused(found):
    refused("stream", stream, {"m": found}, stream="m")


def test_topics_are_bounded():
    finder = StreamFinder(plan(topic="{stream}/#"))
    assert finder.of_topic(b"p/" + b"x" * 1000).stream == "p"
    refused("topic", finder.of_topic, b"p/" + b"x" * 1024)
    refused("topic", finder.of_topic, b"\xff/x")
    for k in range(70_000):
        finder.of_topic(b"p/%d" % k)
    assert len(finder._known) <= 1 << 16
    assert finder.of_topic(b"p/1") == Origin("p", None)


# channels


def test_channels_are_called_by_their_names_or_by_their_fields():
    names = Names(plan(fields={"a": "bearing.temperature", "b": "c", "c": "b"}))
    assert names.paths == [("bearing", "temperature"), ("c",), ("b",)]
    assert [names.index(name) for name in ("bearing.temperature", "c", "b", "a", "z")] == [
        0,
        1,
        2,
        None,
        None,
    ]
    assert Names(plan()).paths == [("a",), ("b",), ("c",)]


def test_a_path_leads_through_objects_only():
    said = {"a": {"b": 1}, "l": [1]}
    assert value_at(said, ("a", "b")) == 1
    assert value_at(said, ("l", "0")) is value_at(said, ("a", "b", "c")) is value_at(said, ("x",)) is None


# times


@pytest.mark.parametrize(
    ("value", "unit", "ns"),
    [
        (DAY, "", DAY * 10**9),
        (DAY * 10**3 + 1, "", DAY * 10**9 + 10**6),
        (DAY * 10**6 + 1, "", DAY * 10**9 + 10**3),
        (DAY * 10**9 + 1, "", DAY * 10**9 + 1),
        (10**11 - 1, "", (10**11 - 1) * 10**9 if (10**11 - 1) * 10**9 < 2**62 else None),
        (5, "ns", 5),
        (-1, "", -(10**9)),
        (DAY + 0.123456, "", DAY * 10**9 + 123_456_000),
        (DAY * 1e3 + 0.125, "", DAY * 10**9 + 125_000),
        (DAY * 1e6 + 0.25, "", DAY * 10**9 + 250),
        (1.5, "us", 1500),
        (2**62, "ns", None),
        (-(2**62), "ns", None),
        (2**62, "s", None),
        (10**4000, "", None),
        (float("nan"), "", None),
        (float("inf"), "", None),
        (1e300, "s", None),
        (True, "", None),
        (None, "", None),
        ([1], "", None),
        ({}, "", None),
    ],
)
def test_numbers(value, unit, ns):
    stamps = Stamps(plan(time_unit=unit))
    if ns is None:
        refused("time", stamps.ns, value)
    else:
        assert stamps.ns(value) == ns


def test_a_float_is_exact_to_a_microsecond():
    rng, stamps = random.Random(5), Stamps(plan())
    for _ in range(2000):
        us = rng.randrange(10**15, 4 * 10**15)
        assert stamps.ns(us / 1e6) == us * 1000
        assert stamps.ns(us / 1e3) == us * 1000
        assert stamps.ns(us) == us * 1000


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("ts_ns", "ns"),
        ("time_ms", "ms"),
        ("t-us", "us"),
        ("t_s", "s"),
        ("time seconds", "s"),
        ("time_millis", "ms"),
        ("a microsecond", "us"),
        ("at.nanoseconds", "ns"),
        ("time", ""),
        ("status", ""),
        ("s", ""),
        ("ns", ""),
        ("", ""),
    ],
)
def test_units_in_names(name, unit):
    assert unit_of_name(name) == unit


def test_the_name_says_the_unit_before_the_size_does():
    assert Stamps(plan(time="meta.ts_ns")).ns(5) == 5
    assert Stamps(plan(time="ts_ns", time_unit="s")).ns(5) == 5 * 10**9
    assert Stamps(plan(time="meta.ts_ns")).path == ("meta", "ts_ns")
    assert Stamps(plan(time="")).path == ()


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20.123456789Z", DAY * 10**9 + 123_456_789),
        ("2023-11-14T22:13:20,5+00:00", DAY * 10**9 + 500_000_000),
        ("2023-11-14 23:13:20.000000001+01:00", DAY * 10**9 + 1),
        ("20231114T221320.25Z", DAY * 10**9 + 250_000_000),
        ("2023-11-14T22:13:20.1234567899999999", DAY * 10**9 + 123_456_789),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("2023-11-14", (DAY - 22 * 3600 - 13 * 60 - 20) * 10**9),
        ("1712010112345", None),  # ms in quotes, which Python takes for a day of 1712
        ("1712010112.345", None),
        ("20231114", None),
        ("2023-11-14T22.5", None),
        ("2023-11-14T22:13.5", None),
        ("2023-11-14T22:13:60Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("now", None),
        ("", None),
        (".5", None),
        ("x" * 100_000, None),
    ],
)
def test_texts(text, ns):
    if ns is None:
        assert len(refused("time", Stamps(plan()).ns, text)) < 100
    else:
        assert Stamps(plan()).ns(text) == ns


def test_texts_are_pythons_own():
    rng = random.Random(6)
    for _ in range(500):
        us = rng.randrange(0, 4 * 10**15)
        at = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=us)
        at = at.astimezone(datetime.timezone(datetime.timedelta(minutes=rng.randrange(-720, 720))))
        assert Stamps(plan()).ns(at.isoformat()) == us * 1000


def test_rows_are_timed_backwards():
    times = row_times(DAY * 10**9 + 7, 4, 10**6)
    assert times.dtype == np.int64
    assert times.tolist() == [DAY * 10**9 + 7 - k * 10**6 for k in (3, 2, 1, 0)]
    assert row_times(5, 3, 0).tolist() == [5, 5, 5]
    assert row_times(5, 0, 1).tolist() == []
    refused("time", row_times, DAY * 10**9, 10**9, 10**12)


def test_every_format_of_the_configuration_is_a_row_of_the_table():
    assert get_args(Input.model_fields["format"].annotation) == tuple(BY_NAME)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"input.fields": {"d": "x"}}, 'input.fields: "d" is no channel; there are a, b, c'),
        ({"input.topic": "{stream}/{channel}"}, "say in assemble.period how far apart these are"),
        (
            {"assemble.period": "1s", "assemble.lateness": "1h"},
            "assemble: a lateness of 36",
        ),
    ],
)
def test_settings_that_go_with_no_rows_are_errors_of_the_configuration(settings, what):
    config = load_config(None, {"input.format": "json"} | settings)
    with pytest.raises(ConfigError, match=what):
        make_gatherer(config, random_model("lstm", CHANNELS), IntakeTally("json"))

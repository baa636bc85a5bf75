"""A real daemon that makes rows of single values: what it tells of sensors that are late, held or silent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from daemons import Daemon, serving, wait_for
from single_values import SETTINGS, Sensors

ALL = ("c0", "c1", "c2")
ASSEMBLED = "rows_assembled_total", "values_held_total", "values_missing_total", "streams_incomplete"


@pytest.fixture(scope="module")
def daemon(model_file: Path) -> Iterator[Daemon]:
    with serving(model_file, SETTINGS) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def sensors(daemon: Daemon) -> Iterator[Sensors]:
    with zmq.Context() as context:
        sensors = Sensors(context, daemon)
        yield sensors
        sensors.close()


def asked(daemon: Daemon, path: str) -> Any:
    return json.loads(daemon.get(path)[1])


def counts(daemon: Daemon, *names: str) -> list[float]:
    metrics = daemon.metrics()
    return [metrics[f"streamrnn_{name}"] for name in names]


def stands(daemon: Daemon, stream: str) -> list[tuple[str, float | None]]:
    """Whether each sensor of a stream is fresh, held or silent, and how old its last value is, in hours."""
    found = asked(daemon, f"/api/streams/{stream}")
    ages = [(one.get("sensor"), one.get("value_age_s")) for one in found.get("channels", [])]
    return [(sensor, age and age / 3600) for sensor, age in ages]


def test_a_sensor_that_stops_is_held_then_silent_and_fresh_when_it_speaks_again(daemon, sensors):
    sensors.hours("m1", 0, 4, ALL)
    sensors.hours("m1", 4, 8, ("c0", "c2"))  # the rows up to hour 5 leave
    wait_for(lambda: counts(daemon, *ASSEMBLED) == [6, 2, 0, 0], "rows with a value that is held")
    held = [("fresh", 0.5), ("held", 2.5), ("fresh", 0.5)]
    wait_for(lambda: stands(daemon, "m1") == held, "a sensor that is held")
    wait_for(lambda: daemon.count("adapter_messages_total{json}") == 4 * 3 + 4 * 2, "all messages")

    sensors.hours("m1", 8, 10, ("c0", "c2"))  # those of 6 and 7
    wait_for(lambda: counts(daemon, *ASSEMBLED) == [8, 2, 2, 1], "rows without a value")
    silent = [("fresh", 0.5), ("silent", 4.5), ("fresh", 0.5)]
    wait_for(lambda: stands(daemon, "m1") == silent, "a sensor that is silent")
    told = {"adapter": "json", "messages": 24, "rows": 8}

    def status() -> dict[str, Any] | None:
        said = asked(daemon, "/api/status")["intake"]
        return said if told == {name: said[name] for name in told} else None

    intake = wait_for(status, "the status of a second")
    assert intake["messages_per_s"] > 0
    values = {"held": 2, "missing": 2, "late": 0, "dropped": {}, "incomplete": 1, "first_incomplete": ["m1"]}
    assert {name: intake["assembled"][name] for name in values} == values
    (listed,) = wait_for(lambda: asked(daemon, "/api/streams")["streams"], "the list")
    assert (listed["stream"], listed["silent"]) == ("m1", 1)

    daemon.wait_until_it_says('silent for longer than assemble.hold: "m1" go on without it')
    sensors.hours("m1", 10, 12, ALL)
    wait_for(lambda: counts(daemon, "streams_incomplete") == [0], "all sensors")
    wait_for(lambda: stands(daemon, "m1") == [("fresh", 0.5)] * 3, "the sensor that is back")


def test_values_that_come_late_or_at_wild_times_are_counted_and_logged(daemon, sensors):
    sensors.hours("m2", 0, 10, ALL)
    sensors.value("m2", "c1", 3)
    sensors.value("m2", "c1", 5000)
    sensors.value("m2", "c1", -1_000_000)
    sensors.hours("m2", 10, 12, ALL)
    names = "values_late_total", "values_dropped_total{wild}", "values_dropped_total{time}"
    wait_for(lambda: counts(daemon, *names) == [1, 1, 1], "what is of no use")
    said = wait_for(
        lambda: (of := asked(daemon, "/api/status")["intake"]["assembled"])["late"] and of, "late"
    )
    assert said["dropped"] == {"wild": 1, "time": 1}
    daemon.wait_until_it_says("values dropped in the last 5 s, by reason: ")
    assert wait_for(lambda: logged(daemon) == {"late": 1, "wild": 1, "time": 1}, "all three")


def logged(daemon: Daemon) -> dict[str, int]:
    """The values that were of no use, added up over the lines of the log."""
    found: dict[str, int] = {}
    for line in daemon.said.splitlines():
        if "values dropped in the last" in line:
            for each in line.rpartition("by reason: ")[2].rstrip('"}').split(", "):
                reason, _, count = each.partition(" ")
                found[reason] = found.get(reason, 0) + int(count)
    return found


def test_what_is_rejected_is_the_same_in_log_api_page_and_metrics(daemon, sensors):
    for topic, payload in (
        ("plant/m3/c9", "1"),
        ("plant/m3/c0", '"one"'),
        ("elsewhere/m3/c0", "1"),
        ("plant/m3/c0", "{"),
        ("plant/m3/c0", "1e39"),
        ("plant/m3/c0", '{"value": 1, "time": "soon"}'),
    ):
        sensors.send(topic, payload)
    reasons = dict.fromkeys(("channel", "value", "topic", "syntax", "infinite", "time"), 1)

    def refused() -> dict[str, int]:
        return {one["reason"]: one["count"] for one in asked(daemon, "/api/refusals")["refusals"]}

    wait_for(lambda: refused() == reasons, "each reason")
    of = {f"streamrnn_frames_rejected_total{{{reason}}}": count for reason, count in reasons.items()}
    scraped = {
        name: count for name, count in daemon.metrics().items() if "frames_rejected_total" in name and count
    }
    assert scraped == of
    assert asked(daemon, "/api/status")["rejected"] == reasons
    for reason in reasons:
        daemon.wait_until_it_says(f"rejected 1 ({reason})")


def test_a_daemon_that_takes_frames_tells_of_no_intake(model_file):
    with serving(model_file) as daemon, daemon.line() as line:
        line.send("a", [[1.0, 2.0, 3.0]])
        line.receive(1)
        assert asked(daemon, "/api/status")["intake"] is None
        assert "sensor" not in asked(daemon, "/api/streams/a")["channels"][0]
        assert counts(daemon, *ASSEMBLED) == [0, 0, 0, 0]
        assert not [name for name in daemon.metrics() if "adapter_messages" in name]

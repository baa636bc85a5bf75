"""How big a machine: what is measured, and what is made of it."""

import pytest
from models import untrained

from streamrnn.bench import size as module
from streamrnn.bench.size import Use, report, size
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.config import load_config
from streamrnn.streams.record import layout_of
from streamrnn.streams.snapshot import ID_BYTES


def test_a_daemon_is_measured_at_the_load(model_file):
    found = size(load_config(None, {"model": model_file}), 50, 500, 0.5, seconds=0.5)
    assert found["measured"]["streams"] == 50
    assert found["measured"]["rows_per_s"] == pytest.approx(500, rel=0.3)
    processor, memory = found["processor"], found["memory"]
    assert 0 < processor["pump"] <= processor["cores"] < 2
    assert processor["needed"] == pytest.approx(2 * processor["cores"])
    assert 5e7 < memory["program"] < 1e9
    assert (found["daemons"], found["machines"], found["limit"]) == (1, 1, "")


@pytest.fixture
def a_daemon_of_2_us(monkeypatch):
    """What is measured: 1,000 rows a second, each 2 us of the processor and 1 us of the pump's thread."""
    monkeypatch.setattr(module, "measure_use", lambda *_: Use(1000, 0.002, 0.001, 200_000_000))
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1})


def test_what_is_made_of_it(model_file, tmp_path, a_daemon_of_2_us):
    keys = {"model": model_file, "state.snapshots": str(tmp_path), "state.interval": "20s"}
    config = load_config(None, keys)
    found = size(config, 10_000, 400_000, 0.5)
    assert found["processor"]["cores"] == pytest.approx(0.8)
    assert (found["daemons"], found["machines"], found["limit"]) == (1, 1, "")
    layout = layout_of(Engine(read_model(model_file), 1, config.faults).core.net)
    snapshot = 10_000 * (4 * layout.words + ID_BYTES)
    disk = found["disk"]
    assert (disk["snapshot"], disk["bytes"], disk["bytes_per_s"]) == (snapshot, 3 * snapshot, snapshot / 20)
    assert found["memory"]["snapshot_copy"] == snapshot
    assert snapshot < found["memory"]["streams"] < 1.5 * snapshot
    assert (
        sum(found["memory"][part] for part in ("program", "streams", "snapshot_copy"))
        == (found["memory"]["bytes"])
    )
    twice = size(config, 20_000, 400_000, 0.5)["memory"]
    assert twice["streams"] == pytest.approx(2 * found["memory"]["streams"], rel=0.01)
    keys |= {"state.keep": "2, 24h hourly", "events.path": str(tmp_path / "events.db"), "events.size": "1GB"}
    more = size(load_config(None, keys), 10_000, 400_000, 0.5)
    assert more["disk"]["bytes"] == 27 * snapshot + 10**9
    assert more["memory"]["journal"] == load_config(None, keys).events.memory > 0
    assert found["network"]["in_bytes_per_s"] == 400_000 * (4 + 16 + 32 + 4 * 3)


def test_a_shadow_has_its_streams_beside(model_file, tmp_path, a_daemon_of_2_us):
    write_model(untrained(seed=4), tmp_path / "shadow.safetensors")
    alone = load_config(None, {"model": model_file})
    both = alone.model_copy(update={"shadow": str(tmp_path / "shadow.safetensors")})
    one, two = (size(config, 10_000, 1000, 0.5)["memory"]["streams"] for config in (alone, both))
    assert two == pytest.approx(2 * one, rel=0.01)


def test_what_is_too_much_for_one_is_said(model_file, a_daemon_of_2_us, capsys):
    config = load_config(None, {"model": model_file})
    found = size(config, 10_000, 1_500_000, 0.5)
    assert (found["daemons"], found["machines"], found["limit"]) == (3, 3, "processor")
    assert report(config, 10_000, 1_500_000, 0.5, as_json=False) == 0
    said = capsys.readouterr().out
    assert "take 3, each with a share of the streams" in said and "deploy/CLUSTER.md" in said
    assert size(config, 10_000, 1_500_000, 0.0)["limit"] == "processor"
    assert size(config, 10_000, 900_000, 0.0)["limit"] == ""
    assert size(config, 10**8, 1000, 0.5)["limit"] == "memory"

"""How many truths bands held, in the summary of a replay and in its report."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import untrained

from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import write_model
from streamrnn.replay import ReplayOptions, Summary, replay
from streamrnn.replay.coverage import Coverage
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import PREDICTED
from streamrnn.table import Reading, Rows

LEVELS = 0.5, 0.9
STREAMS, COUNT = 3, 900
MODEL = untrained("gru", 3, 6)


def recorded() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stream, number and values of rows: some missing, some late, values missing."""
    rng = np.random.default_rng(2)
    stream = rng.integers(0, STREAMS, COUNT)
    seq = np.zeros(COUNT, np.int64)
    for k in range(STREAMS):
        steps = rng.choice([1] * 30 + [0, 2, 90], (stream == k).sum())
        seq[stream == k] = np.cumsum(steps)
    values = (rng.normal(size=(COUNT, 3)) * MODEL.input_std + MODEL.input_mean).astype(np.float32)
    values[100:][rng.random((COUNT - 100, 3)) < 0.05] = np.nan
    return stream, seq.astype(np.uint64), values


def plain_shares(stream: np.ndarray, values: np.ndarray, said, learned: np.ndarray) -> np.ndarray:
    """The share of truths in each band of each output, (bands, outputs), row by row."""
    inside, truths = np.zeros((2, 3)), np.zeros(3)
    before: dict[int, int] = {}
    for at in range(len(stream)):
        if said.outcome[at] != PREDICTED:
            continue
        last = before.get(int(stream[at]))
        before[int(stream[at])] = at
        if last is None or said.gap[at] or said.epoch[at] != said.epoch[last] or learned[at]:
            continue
        for output in range(3):
            told = said.bands[last, :, output]
            if np.isnan(values[at, output]) or np.isnan(told[0]):
                continue
            truths[output] += 1
            for band in range(2):
                inside[band, output] += told[2 * band] <= values[at, output] <= told[2 * band + 1]
    return inside / truths


@pytest.mark.parametrize("pieces", [1, 7])
def test_shares_are_those_of_a_plain_count(pieces):
    stream, seq, values = recorded()
    ids, times = [f"s{k}" for k in range(STREAMS)], np.zeros(COUNT, np.int64)
    engine = Engine(MODEL, STREAMS, Faults(max_gap=20), predict=Predict(bands=LEVELS))
    said = engine.feed(ids, stream, values, seq)
    learned = np.arange(COUNT) < 60
    coverage = Coverage(LEVELS, 3)
    for part in np.array_split(np.arange(COUNT), pieces):
        rows = Rows(stream[part].astype(np.int32), values[part], seq[part], times[part], None, 1)
        answers = said._replace(
            **{
                name: getattr(said, name)[part]
                for name in said._fields
                if name not in ("several", "bands_ahead")
            }
        )
        coverage.add(rows, answers, learned[part])
    wanted = plain_shares(stream, values, said, learned)
    np.testing.assert_allclose(coverage.shares_by_output(), wanted)
    assert 0.4 < coverage.shares()[0] < 0.6


def replayed(folder: Path, **options) -> Summary:
    write_model(MODEL, folder / "model.safetensors")
    stream, seq, values = recorded()
    lines = [",".join(map(str, [f"s{s}", n, *row])) for s, n, row in zip(stream, seq, values, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["id,n,c0,c1,c2", *lines]) + "\n")
    return replay(
        ReplayOptions(
            str(folder / "rows.csv"),
            folder / "model.safetensors",
            Faults(),
            str(folder / "out.csv"),
            reading=Reading(stream="id", seq="n"),
            **options,
        )
    )


def test_the_summary_says_so(tmp_path):
    summary = replayed(tmp_path, predict=Predict(bands=LEVELS))
    first, second = summary.as_dict()["bands"]
    assert (first["level"], second["level"]) == LEVELS
    line = f"{100 * first['inside']:.1f} of each 100 truths were inside the 50 % band, "
    assert line + f"{100 * second['inside']:.1f} inside the 90 % band\n" in summary.text()
    json.dumps(summary.as_dict())
    without = replayed(tmp_path)
    assert "bands" not in without.as_dict()
    assert "band" not in without.text()


def test_the_report_draws_them(tmp_path):
    page = tmp_path / "out.html"
    summary = replayed(tmp_path, predict=Predict(bands=LEVELS), report=str(page))
    text = page.read_text()
    assert f"<p>{summary.covered}.</p>" in text
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    for chart in data["streams"][0]["charts"]:
        wide, narrow, shown, forecast = chart["lines"]
        assert [line["label"] for line in chart["lines"]] == ["90 % band", "50 % band", "input", "forecast"]
        lows, highs = (
            [np.frombuffer(base64.b64decode(line["ends"][end]), "<f4") for line in (wide, narrow)]
            for end in (0, 1)
        )
        (line,) = (np.frombuffer(base64.b64decode(end), "<f4") for end in forecast["ends"])
        known = ~np.isnan(lows[0])
        assert known.sum() > 200
        assert (lows[0] <= lows[1])[known].all() and (highs[1] <= highs[0])[known].all()
        assert (lows[1] <= line)[known].all() and (line <= highs[1])[known].all()
        assert shown["label"] == "input"
    plain = tmp_path / "plain.html"
    replayed(tmp_path, report=str(plain))
    assert "% band" not in plain.read_text().split('id="data">')[1]


def test_the_report_draws_the_widest_of_the_last_rollout(tmp_path):
    page = tmp_path / "out.html"
    replayed(tmp_path, predict=Predict(bands=LEVELS, horizon=7, every=50), report=str(page))
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert data["widest"] == "90 % band"
    for answer in data["streams"][0]["answer"]:
        low, high = (np.frombuffer(base64.b64decode(side), "<f4") for side in answer["sides"])
        values = np.frombuffer(base64.b64decode(answer["values"]), "<f4")
        assert len(low) == 7 and (low < values).all() and (values < high).all()


def test_of_a_recording_with_nothing_to_compare_nothing_is_said(tmp_path):
    summary = replay(
        ReplayOptions(
            str(_one_row(tmp_path)),
            _model(tmp_path),
            Faults(),
            None,
            predict=Predict(bands=LEVELS),
        )
    )
    assert summary.covered == ""
    assert [band["inside"] for band in summary.as_dict()["bands"]] == [None, None]


def _one_row(folder: Path) -> Path:
    (folder / "one.csv").write_text("c0,c1,c2\n1,2,3\n")
    return folder / "one.csv"


def _model(folder: Path) -> Path:
    write_model(replace(MODEL), folder / "m.safetensors")
    return folder / "m.safetensors"

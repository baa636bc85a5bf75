"""Readings far from zero beside what they change by: float32 takes nothing from them, in a file or live."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daemons import serving, wait_for
from tables import read

from streamrnn.client.send import SendOptions, send
from streamrnn.engine.engine import Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model, random_model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.model.parts import Channel
from streamrnn.model.settings import ModelError
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults, Predict
from streamrnn.table.reading import Reading
from streamrnn.table.with_model import with_model
from streamrnn.train.data.recording import DataOptions, read_recording
from streamrnn.train.descent import TrainSettings
from streamrnn.train.job import TrainOptions, train
from streamrnn.wire.frame import ROLLOUT

METER = 123_456_789
ROUND = 123_457_000  # what is taken off: of three digits fewer, so that it is the same in another recording
T0 = 1_767_312_000
ROWS = 600
A = [f"{math.sin(row / 5):.4f}" for row in range(ROWS)]
CELLS = [f"{METER + 3 * math.sin(row / 7):.2f}" for row in range(ROWS)]
LESS = np.array([float(Decimal(cell) - ROUND) for cell in CELLS])


def file_of(path: Path, cells: list[str], mark: str = ",", name: str = "meter") -> Path:
    lines = [f"{T0 + row}{mark}{a}{mark}{cell}" for row, (a, cell) in enumerate(zip(A, cells, strict=False))]
    path.write_text("\n".join([mark.join(["time", "a", name]), *lines]) + "\n")
    return path


def as_csv(folder: Path) -> Path:
    return file_of(folder / "meter.csv", CELLS)


def with_commas(folder: Path) -> Path:
    return file_of(folder / "meter.csv", [cell.replace(".", ",") for cell in CELLS], ";")


def one_a_row(folder: Path) -> Path:
    lines = [
        f"{T0 + row},{name},{cell}\n"
        for row in range(ROWS)
        for name, cell in (("a", A[row]), ("meter", CELLS[row]))
    ]
    path = folder / "meter.csv"
    path.write_text("".join(["time,sensor,value\n", *lines]))
    return path


def as_parquet(kind: pa.DataType) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        columns = {
            "time": pa.array(np.arange(T0, T0 + ROWS)),
            "a": pa.array([float(cell) for cell in A]),
            "meter": pa.array([Decimal(cell) for cell in CELLS], pa.decimal128(12, 2)).cast(kind),
        }
        pq.write_table(pa.table(columns), folder / "meter.parquet")
        return folder / "meter.parquet"

    return made


@pytest.mark.parametrize(
    "made", [as_csv, with_commas, one_a_row, as_parquet(pa.float64()), as_parquet(pa.decimal128(12, 2))]
)
def test_an_offset_is_taken_off_in_float64(tmp_path, made):
    long = {"channel": "sensor", "value": "value"} if made is one_a_row else {}
    found = read(made(tmp_path), **long)
    assert found.reader.offsets.tolist() == [0, ROUND]
    assert f'"meter" less {ROUND}' in found.reader.said and not found.reader.notes
    values = found.rows.values[:, 1].astype(np.float64)
    assert np.abs(values - LESS).max() < 1e-5  # of 0.01
    assert found.rows.values[:, 0].tolist() == np.array(A, np.float32).tolist()


def test_float32_stays_as_it_is(tmp_path):
    found = read(as_parquet(pa.float32())(tmp_path))
    assert not found.reader.offsets.any() and not found.reader.notes


def test_readings_that_float32_holds_have_no_offset(tmp_path):
    found = read(file_of(tmp_path / "x.csv", [f"{20 + math.sin(row):.2f}" for row in range(ROWS)]))
    assert not found.reader.offsets.any() and "less" not in found.reader.said


def test_what_an_offset_cannot_mend_is_told(tmp_path):
    wide = [str(10**8 * (row // 2 + 1) + row % 2) for row in range(ROWS)]  # steps of 1 over 3e10
    (said,) = read(file_of(tmp_path / "x.csv", [*wide[::2], *wide[::2]])).reader.notes or ("",)
    assert said == ""  # its changes are large
    cells = [str(10**10 * (row // 100) + row % 3) for row in range(ROWS)]
    (said,) = read(file_of(tmp_path / "x.csv", cells)).reader.notes
    assert said.startswith('"meter": as float32 its values have steps of 4096, and it changes by 2; ')


def test_a_code_for_none_does_not_hide_the_offset_and_is_told(tmp_path):
    cells = [*CELLS]
    cells[50::60] = ["-9999"] * len(cells[50::60])
    path = file_of(tmp_path / "x.csv", cells)
    found = read(path, missing=("-9999",))
    assert found.reader.offsets.tolist() == [0, ROUND]
    values = found.rows.values[:, 1]
    assert np.flatnonzero(np.isnan(values)).tolist() == [*range(50, ROWS, 60)]
    assert np.nanmax(np.abs(values - LESS)) < 1e-5
    data = DataOptions((str(path),))
    warnings = train(TrainOptions(data, None, hidden=4, highway=1, settings=TrainSettings(epochs=1))).warnings
    assert any(f'"meter": -9999 comes {len(cells[50::60])} times' in warning for warning in warnings)


@pytest.fixture
def model() -> Model:
    channels = (Channel("a"), Channel("meter", "kWh", METER))
    mean, std = np.float32([0, 0.5]), np.float32([0.7, 2.1])
    made = random_model(channels=["a", "meter"], hidden=8, mean=mean, std=std, sample_period_s=1.0)
    return replace(made, channels=channels, outputs=channels)


def without_offsets(model: Model) -> Model:
    plain = tuple(replace(channel, offset=0.0) for channel in model.channels)
    return replace(model, channels=plain, outputs=plain)


def test_a_model_says_what_is_taken_off(tmp_path, model):
    path = file_of(tmp_path / "x.csv", ["7", "8", str(METER)], name="Meter")
    for of, offset in ((model, METER), (without_offsets(model), 0)):
        found = read(path, ["a", "meter"], **vars(with_model(Reading(), of)))
        expected = np.float32([7 - offset, 8 - offset, METER - offset])
        assert found.rows.values[:, 1].tolist() == expected.tolist()


def test_machines_that_take_turns_have_an_offset_by_their_own_changes(tmp_path):
    lines = [
        f"{T0 + row},m{k},{float(cell) + 5000 * k:.2f}\n" for row, cell in enumerate(CELLS) for k in range(4)
    ]
    path = tmp_path / "x.csv"
    path.write_text("".join(["time,machine,meter\n", *lines]))
    found = read(path, stream="machine")
    assert found.reader.offsets.tolist() == [123_464_000] and not found.reader.notes


def test_what_a_model_has_no_offset_for_is_told(tmp_path, model):
    still = file_of(tmp_path / "still.csv", [f"{METER}"] * ROWS)
    moves = as_csv(tmp_path)
    with_offset = with_model(Reading(), model)
    assert not read(moves, ["a", "meter"], **vars(with_offset)).reader.notes
    (said,) = read(moves, ["a", "meter"], **vars(with_model(Reading(), without_offsets(model)))).reader.notes
    assert said.startswith('"meter": as float32 its values have steps of 8') and said.endswith("rows first")
    data = DataOptions((str(still), str(moves)), channels=("a", "meter"))
    warnings = train(TrainOptions(data, None, hidden=4, highway=1, settings=TrainSettings(epochs=1))).warnings
    assert any("train anew, with these rows first" in warning for warning in warnings)


def test_a_column_of_names_in_numbers_has_no_offset(tmp_path):
    lines = [f"{T0 + row},{1_000_000_001 + row % 4},{row % 7}.5\n" for row in range(ROWS)]
    path = tmp_path / "x.csv"
    path.write_text("".join(["time,machine,temp\n", *lines]))
    found = read(path)
    assert found.reader.channels == ["temp"] and found.reader.extremes(of_offsets=True) == []


def test_a_target_that_is_blank_at_first_has_the_offset_of_the_file_before(tmp_path):
    first = as_csv(tmp_path)
    many = [*[""] * 3000, *CELLS]  # more than is looked at to tell what a column is
    lines = [f"{T0 + 10**6 + row},{row % 9}.5,{cell}\n" for row, cell in enumerate(many)]
    (tmp_path / "late.csv").write_text("".join(["time,a,meter\n", *lines]))
    data = DataOptions((str(first), str(tmp_path / "late.csv")), targets=("meter",), labels=True)
    recording = read_recording(data, lambda rows: None)
    at = recording.names.index("meter")
    assert recording.offsets["meter"] == ROUND
    for part in recording.parts:
        known = part.values[~np.isnan(part.values[:, at]), at]
        assert np.abs(known - LESS).max() < 1e-5


def test_the_file_of_a_model_keeps_its_offsets(tmp_path, model):
    write_model(model, tmp_path / "m.safetensors")
    again = read_model(tmp_path / "m.safetensors")
    assert again.channels == again.outputs == model.channels
    assert again.fingerprint == model.fingerprint != without_offsets(model).fingerprint
    assert "offset" not in json.dumps(without_offsets(model).settings())


@pytest.mark.parametrize("offset", [math.inf, math.nan, 1e39])
def test_offsets_that_cannot_be_are_refused(model, offset):
    wrong = (model.channels[0], replace(model.channels[1], offset=offset))
    with pytest.raises(ModelError, match=r'"channels"\[1\]: expected a finite number as offset'):
        replace(model, channels=wrong, outputs=wrong)


def test_a_forecast_has_the_offsets_of_its_channels(model):
    with pytest.raises(ModelError, match=r'"outputs": offsets \[0.0, 0.0\] must be those of the channels'):
        replace(model, outputs=without_offsets(model).outputs)


def test_streams_are_not_taken_over_with_other_offsets(model):
    engine = Engine(model, 4, Faults())
    with pytest.raises(ConfigError, match="other offsets"):
        engine.replacement(without_offsets(model), Faults())
    value = replace(model, target="value", ahead=0)
    other = replace(value, outputs=(value.outputs[0], replace(value.outputs[1], offset=5.0)))
    with pytest.raises(ConfigError, match="other offsets"):
        Engine(value, 4, Faults()).replacement(other, Faults())
    engine.replacement(replace(model, input_std=np.float32([1, 2])), Faults())


def test_files_that_are_learned_from_together_have_one_offset(tmp_path):
    first = file_of(tmp_path / "1.csv", CELLS)
    later = [str(Decimal(cell) + 5000) for cell in CELLS]
    second = file_of(tmp_path / "2.csv", later, name="Meter")
    data = DataOptions((str(first), str(second)), channels=("a", "meter"))
    output = tmp_path / "m.safetensors"
    train(TrainOptions(data, output, hidden=4, highway=1, settings=TrainSettings(epochs=1)))
    model = read_model(output)
    assert model.channels[1].offset == ROUND
    assert model.input_mean[1] == pytest.approx(METER - ROUND + 2500, abs=5)


def test_train_and_replay_forecast_in_the_units_of_the_file(tmp_path):
    path, output = as_csv(tmp_path), tmp_path / "m.safetensors"
    report = train(
        TrainOptions(DataOptions((str(path),)), output, hidden=4, settings=TrainSettings(epochs=3))
    )
    assert report.errors.network[1] < report.errors.simple[1] / 2
    replay(
        ReplayOptions(str(path), output, Faults(), str(tmp_path / "out.csv"), report=str(tmp_path / "r.html"))
    )
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    at = header.split(",").index("meter_pred")
    forecasts = np.array([float(line.split(",")[at]) for line in lines])
    assert np.abs(forecasts[300:-1] - ROUND - LESS[301:]).max() < 0.3  # of +- 3
    page = (tmp_path / "r.html").read_text()
    assert f"meter \N{MINUS SIGN} {ROUND}" in page


def test_the_daemon_says_the_same_as_replay(tmp_path, model):
    path, file = as_csv(tmp_path), tmp_path / "m.safetensors"
    cells = [*CELLS]
    cells[20], cells[40] = "-9999", ""
    path = file_of(tmp_path / "meter.csv", cells)
    write_model(replace(model, missing=("-9999",)), file)
    output = tmp_path / "out.ndjson"
    replay(ReplayOptions(str(path), file, Faults(), str(output)))
    rows = [json.loads(text) for text in output.read_text().splitlines()]
    assert [row["seq"] for row in rows if "IMPUTED" in row["flags"]] == [20, 40]
    with serving(file) as daemon, daemon.line() as line:
        send(SendOptions(str(path), daemon.receives, model=file, block=3))
        said = line.receive(ROWS)
        stream = json.loads(daemon.get("/api/streams/meter")[1])
        meter = stream["channels"][1]
        assert (meter["name"], meter["unit"], meter["offset"]) == ("meter", "kWh", METER)
        assert meter["value"] == pytest.approx(float(CELLS[-1]), abs=1e-6)
        assert meter["forecast"] == pytest.approx(rows[-1]["meter_pred"], abs=1e-6)
        # a sender of its own: float64, then whole numbers, then float32, which has what it can hold
        after = int(rows[-1]["seq"]) + 1
        for k, values in enumerate(([0.5, METER + 1.25], [1, METER + 2], [0.5, METER + 3])):
            kind = (np.float64, np.int32, np.float32)[k]
            line.send("meter", np.array(values, kind), seq=after + k)
            (answer,) = line.receive()
            value = json.loads(daemon.get("/api/streams/meter")[1])["channels"][1]["value"]
            assert value == np.array(values, kind)[1] and answer.header["seq"] == after + k
    for row, prediction in zip(rows, said, strict=True):
        header = prediction.header
        assert (header["seq"], header["ts_ns"]) == (row["seq"], (T0 + row["seq"]) * 10**9)
        for name in ("score", "residual"):
            expected = np.nan if row[name] is None else row[name]
            assert np.float32(header[name]).tobytes() == np.float32(expected).tobytes()
        expected = np.float32([row["a_pred"], row["meter_pred"]])
        assert prediction.values[0].tolist() == expected.tolist()


def test_answers_of_several_rows_and_raw_messages_have_it_too(tmp_path, model):
    file, rows = tmp_path / "m.safetensors", np.float32([[0.5, 1], [0.25, 2], [0, 1.5]])
    write_model(model, file)
    engine = Engine(model, 4, Faults(), predict=Predict(horizon=2, every=1))
    said = engine.feed(["s"], np.zeros(3, np.int64), rows)
    readings = (rows + model.offsets).astype(np.float32)  # 123456792, as coarse as float32 is
    coarse = engine.feed(["t"], np.zeros(3, np.int64), (readings - model.offsets).astype(np.float32))
    settings = {"predict.horizon": 2, "predict.every": 1}
    with serving(file, settings) as daemon, daemon.line() as line:
        line.send("s", rows + model.offsets)
        found = [each.values for each in line.receive(6) if each.header["kind"] == ROLLOUT]
    expected = (said.several + model.offsets).astype(np.float32)
    assert np.array(found).tobytes() == expected.tobytes()
    with serving(file, {"input.format": "raw"}) as daemon, daemon.line() as line:
        for row in readings:
            line.send("t", row)
        found = [each.values[0] for each in line.receive(3)]
        assert np.array(found).tobytes() == (coarse.values + model.offsets).astype(np.float32).tobytes()
        line.send("u", np.float32([0.5, 1e30]))
        wait_for(lambda: daemon.count("frames_rejected_total{implausible}") == 1, "a refusal")
        (refusal,) = json.loads(daemon.get("/api/refusals")[1])["refusals"]
        assert (refusal["channel"], refusal["value"]) == ("meter", pytest.approx(1e30))

"""The main job on real data: the valve test bench, replayed from its files and streamed live."""

import os
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from daemons import serving

from streamrnn.client.send import SendOptions, send
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.wire.frame import EVENT, flag_names

SKAB = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "skab"
pytestmark = pytest.mark.skipif(not SKAB.is_dir(), reason=f"{SKAB} is missing")


@pytest.fixture(scope="module")
def valve_model(tmp_path_factory):
    """An untrained network of the bench's eight sensors, scaled as they are when nothing is wrong."""
    source = SKAB / "anomaly-free" / "anomaly-free.csv"
    table = pyarrow.csv.read_csv(source, parse_options=pyarrow.csv.ParseOptions(delimiter=";"))
    names = table.column_names[1:9]
    values = np.stack([table[name].to_numpy() for name in names])
    model = random_model("lstm", names, 32, mean=values.mean(1), std=values.std(1), sample_period_s=1.0)
    path = tmp_path_factory.mktemp("model") / "valve.safetensors"
    write_model(model, path)
    return path


def test_replayed_and_live_give_the_same_numbers(valve_model, tmp_path):
    files = sorted((SKAB / "valve1").glob("*.csv"))
    assert len(files) == 16
    with serving(valve_model) as daemon, daemon.line() as line:
        for file in files:
            output = tmp_path / f"{file.stem}.parquet"
            summary = replay(ReplayOptions(str(file), valve_model, Faults(), str(output)))
            assert summary.predicted == summary.rows > 700
            send(SendOptions(source=str(file), to=daemon.receives, model=valve_model))
            told_of = summary.anomalies.count
            heard = line.receive(summary.rows + told_of)
            live = [prediction for prediction in heard if prediction.header["kind"] != EVENT]
            assert len(live) == summary.rows
            told = pyarrow.parquet.read_table(output)

            names = [name for name in told.column_names if name.endswith("_pred")]
            replayed = np.stack([told[name].to_numpy() for name in names], axis=1)
            assert replayed.dtype == np.float32 and len(names) == 8
            values = np.concatenate([prediction.values for prediction in live])
            assert replayed.tobytes() == values.tobytes()

            headers = np.array([prediction.header for prediction in live])
            assert {prediction.stream for prediction in live} == {file.stem}
            for column in ("seq", "step"):
                np.testing.assert_array_equal(told[column].to_numpy(), headers[column])
            np.testing.assert_array_equal(told["score"].to_numpy(), headers["score"])
            residual = told["residual"].to_numpy()
            np.testing.assert_array_equal(residual, headers["residual"])
            assert np.isfinite(residual[1:][headers["gap"][1:] == 0]).all()
            flags = ["" if flag is None else flag for flag in told["flags"].to_pylist()]
            assert flags == [flag_names(int(flag)) for flag in headers["flags"]]

"""The same signals in files of every format: one and the same model from training, the same predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamrnn.cli import main
from streamrnn.model.model_file import read_model

NAMES, UNITS = ["flow", "pressure", "level"], ["l/min", "bar", "m"]


class Signals(NamedTuple):
    """Rows every 50 ms, with a gap, values that are missing, and a channel of whole numbers."""

    ns: np.ndarray  # (n,) int64, since 1970
    values: np.ndarray  # (n, 3) float64; NaN = missing


def signals() -> Signals:
    rng = np.random.default_rng(0)
    keep = np.r_[0:700, 760:1200]
    t = np.arange(1200)
    values = np.stack([np.sin(t / 9), np.cos(t / 14) + np.sin(t / 5) / 3, np.round(50 * np.sin(t / 30))], 1)
    values[:, :2] += rng.normal(0, 0.05, (1200, 2))
    values[rng.random(1200) < 0.01, 1] = np.nan
    return Signals(1_700_000_000 * 10**9 + t[keep] * 50_000_000, values[keep])


def write_csv(path: Path, all_: Signals) -> None:
    rows = [
        f"{np.datetime64(int(ns), 'ns')}Z," + ",".join("" if np.isnan(v) else repr(v) for v in row.tolist())
        for ns, row in zip(all_.ns, all_.values, strict=True)
    ]
    path.write_text("\n".join([f"time,{','.join(NAMES)}", f"UTC,{','.join(UNITS)}", *rows]) + "\n")


def write_parquet(path: Path, all_: Signals) -> None:
    times = pa.array(all_.ns).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table([times, *all_.values.T], ["time", *NAMES]), path)


def write_hdf5(path: Path, all_: Signals) -> None:
    with h5py.File(path, "w", track_order=True) as file:
        file["time"] = all_.ns / 1e9  # good to a microsecond
        for name, unit, values in zip(NAMES, UNITS, all_.values.T, strict=True):
            file[name], file[name].attrs["unit"] = values, unit


WRITERS: dict[str, Callable[[Path, Signals], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "h5": write_hdf5,
}


def train(path: Path) -> Path:
    model = path.with_name("model.safetensors")
    units = [
        word for name, unit in zip(NAMES, UNITS, strict=True) for word in ("--unit-of", f"{name}={unit}")
    ]
    told = [*map(str, ("train", path, "-o", model, "--epochs", 3, "--hidden", 16)), *units]
    result = CliRunner().invoke(main, told)
    assert result.exit_code == 0, result.stderr
    return model


def predictions(path: Path, model: Path) -> dict[str, list[object]]:
    output = path.with_name("out.parquet")
    result = CliRunner().invoke(main, ["replay", str(path), "-m", str(model), "-o", str(output)])
    assert result.exit_code == 0, result.stderr
    table = pq.read_table(output)
    return {name: table[name].to_pylist() for name in table.column_names if name != "time"}


def written(folder: Path, suffix: str) -> Path:
    (folder / suffix).mkdir()
    path = folder / suffix / f"rows.{suffix}"
    WRITERS[suffix](path, signals())
    return path


@pytest.fixture(scope="module")
def of_csv(tmp_path_factory) -> tuple[Path, dict[str, list[object]]]:
    path = written(tmp_path_factory.mktemp("csv"), "csv")
    model = train(path)
    return model, predictions(path, model)


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix != "csv"])
def test_one_model_and_the_same_predictions(of_csv, tmp_path, suffix):
    theirs, expected = of_csv
    path = written(tmp_path, suffix)
    ours = train(path)
    assert read_model(ours).fingerprint == read_model(theirs).fingerprint
    found = predictions(path, ours)
    assert found.keys() == expected.keys() and len(found["seq"]) == 1140 and max(found["seq"]) == 1199
    for name, column in found.items():
        assert repr(column) == repr(expected[name]), name


def test_a_unit_that_is_not_the_models_is_an_error(of_csv, tmp_path):
    model, _ = of_csv
    path = written(tmp_path, "h5")
    with h5py.File(path, "a") as file:
        file["pressure"].attrs["unit"] = "psi"
    words = ["replay", str(path), "-m", str(model), "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert '"pressure" is in psi, and the model learned it in bar; bring it to that unit' in result.stderr
    assert "--unit-of 'pressure=bar'" in result.stderr
    assert CliRunner().invoke(main, [*words, "--unit-of", "pressure=bar"]).exit_code == 0
    assert CliRunner().invoke(main, [*words, "--unit-of", "pressure"]).exit_code == 2
    units = {channel.name: channel.unit for channel in read_model(model).channels}
    assert units == dict(zip(NAMES, UNITS, strict=True))

"""The same signals in every format: one model of `train`, one replay, to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from edf_bytes import Signal, edf
from recorded import SECOND, START_NS
from xdf_bytes import file_header, samples, stream_footer, stream_header

from streamrnn.cli import main

START = START_NS - START_NS % SECOND  # whole seconds, as EDF and XDF have it
PERIOD = SECOND // 10
NAMES, UNIT = ("b.angle", "b.speed"), "deg"
ROWS = 1200


def crank():
    """Whole numbers, which every format can hold: (ROWS, 2) int16."""
    x, y, rows = 0.1, 0.1, []
    for _ in range(ROWS):
        x, y = 1 - 1.4 * x**2 + y, 0.3 * x
        rows.append((x, y))
    noise = np.random.default_rng(1).normal(0, 0.003, (ROWS, 2))
    return np.round(1000 * (np.array(rows) + noise)).astype(np.int16)


def csv(path, rows, ns):
    times = np.datetime_as_string((np.int64(START) + ns).astype("datetime64[ns]"), "ms")
    lines = [f"{time}Z,{a},{b}" for time, (a, b) in zip(times, rows.tolist(), strict=True)]
    path.write_text("\n".join([f"time,{NAMES[0]},{NAMES[1]}", f",{UNIT},{UNIT}", *lines, ""]))


def tdms(path, rows, ns):
    nptdms = pytest.importorskip("nptdms")
    start = np.datetime64(START, "ns").astype("datetime64[us]")
    told = {"wf_start_time": start, "wf_increment": PERIOD / SECOND, "unit_string": UNIT}
    with nptdms.TdmsWriter(str(path)) as writer:
        writer.write_segment(
            [nptdms.ChannelObject("bench", name, row, told) for name, row in zip(NAMES, rows.T, strict=True)]
        )


def mdf(path, rows, ns):
    asammdf = pytest.importorskip("asammdf")
    with asammdf.MDF() as file:
        file.header.abs_time = START
        told = {"timestamps": ns / SECOND, "unit": UNIT}
        file.append(
            [asammdf.Signal(row.copy(), name=n, **told) for n, row in zip(NAMES, rows.T, strict=True)]
        )
        path.write_bytes(file.save(path.with_suffix(".mf4"), compression=2).read_bytes())


def mcap(path, rows, ns):
    writer_of = pytest.importorskip("mcap.writer").Writer
    with path.open("wb") as output:
        writer = writer_of(output)
        writer.start()
        topic = writer.register_channel("/b", "json", 0)
        for time, (angle, speed) in zip((START + ns).tolist(), rows.tolist(), strict=True):
            writer.add_message(topic, time, json.dumps({"angle": angle, "speed": speed}).encode(), time)
        writer.finish()


def xdf(path, rows, ns):
    content = [file_header("2026-03-04T05:06:07Z"), stream_header(1, "b", NAMES, 10, "int16", [UNIT] * 2)]
    content += [
        samples(1, "int16", 77.0 + ns[k : k + 50] / SECOND, rows[k : k + 50]) for k in range(0, ROWS, 50)
    ]
    path.write_bytes(b"".join([*content, stream_footer(1)]))


def edf_(path, rows, ns):
    whole = (-32768.0, 32767.0), (-32768, 32767)
    signals = [
        Signal(name, UNIT, *whole, row.reshape(-1, 10)) for name, row in zip(NAMES, rows.T, strict=True)
    ]
    path.write_bytes(edf(signals, kind=""))


FORMATS = {"csv": csv, "tdms": tdms, "mdf": mdf, "mcap": mcap, "xdf": xdf, "edf": edf_}
UNITLESS = ("mcap",)  # formats that hold no units: they are told


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="streamrnn")
    assert result.exit_code == 0, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("alike")


@pytest.fixture(scope="module")
def known(folder):
    """The model and the predictions of the CSV file."""
    return trained(folder, "csv")


def trained(folder: Path, form: str) -> tuple[bytes, bytes]:
    place = folder / form
    place.mkdir(exist_ok=True)
    path, model, output = place / "bench", place / "model.safetensors", place / "out.csv"
    FORMATS[form](path, crank(), np.arange(ROWS, dtype=np.int64) * PERIOD)
    units = [word for name in NAMES for word in ("--unit-of", f"{name}={UNIT}")] if form in UNITLESS else []
    run("train", path, "-o", model, "--epochs", 2, "--hidden", 20, *units)
    run("replay", path, "-m", model, "-o", output)
    return model.read_bytes(), output.read_bytes()


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "csv"])
def test_a_model_and_its_replay_are_those_of_the_csv_file(folder, known, form):
    model, output = trained(folder, form)
    assert model == known[0]
    times = [line.split(b",")[0:3] for line in known[1].splitlines()[:2]], output.splitlines()[:2]
    assert columns(output) == columns(known[1]), times


def columns(output: bytes) -> list[list[bytes]]:
    """Of a CSV file of results, without the time, which each format writes as it is there."""
    lines = [line.split(b",") for line in output.splitlines()]
    keep = [k for k, name in enumerate(lines[0]) if name != b"time"]
    return [[line[k] for k in keep] for line in lines]

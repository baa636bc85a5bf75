"""Files that `record` wrote, read back as what they are; and files of others that look alike."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from tables import T0, fails, read, write

from streamrnn.cli import main
from streamrnn.model.model_file import read_model
from streamrnn.table import Reading, open_rows
from streamrnn.table.ends import PIPED, find_ends, with_ends
from streamrnn.table.reading import Raster
from streamrnn.table.record_files import RecordFiles

SECOND = 10**9
RASTER = Raster("2s", 2 * SECOND, 10 * SECOND, 2 * SECOND)


def recorded(
    folder: Path,
    channels: dict[str, np.ndarray],
    kind: str = "csv",
    streams: str = "ab",
    numbered: bool = True,
) -> Path:
    """A file of rows as `record` writes it, the streams in turn and each numbered from 7, or not at all."""
    count = len(next(iter(channels.values())))
    columns = {
        "stream": pa.array([streams[place % len(streams)] for place in range(count)]).dictionary_encode(),
        "time": pa.array(T0 + np.arange(count) * SECOND, pa.int64()).cast(pa.timestamp("ns", "UTC")),
        "seq": pa.array(7 + np.arange(count) // len(streams), pa.uint64()),
    }
    if not numbered:
        del columns["seq"]
    columns |= {name: pa.array(values) for name, values in channels.items()}
    path = folder / f"recorded.{kind}"
    files = RecordFiles(str(path), None, None, force=True)
    files.write(pa.RecordBatch.from_arrays([*columns.values()], [*columns]))
    files.finish()
    return path


def run(*words: object) -> Any:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="streamrnn")


def some(seed: int, count: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, count).astype(np.float32)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("streams", ["ab", "12", "#1"])
def test_a_recorded_file_says_so_and_is_read_as_what_it_is(tmp_path, kind, streams):
    """Ids that are numbers, or begin as comments do, among them."""
    path = recorded(tmp_path, {"x": some(0), "y": some(1)}, kind, streams)
    found = read(path)
    assert (found.reader.channels, found.reader.streams) == (["x", "y"], [*streams])
    assert found.rows.seq.tolist() == [7 + place // 2 for place in range(80)]
    assert "as record wrote it" in found.reader.said


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_channel_that_looks_like_the_time_is_not_taken_for_it(tmp_path, kind):
    timestamp = 1.6e9 + np.cumsum(np.random.default_rng(0).integers(1, 5, 80))
    found = read(recorded(tmp_path, {"timestamp": timestamp, "x": some(1)}, kind))
    assert found.rows.ts_ns.tolist() == [T0 + place * SECOND for place in range(80)]
    assert 'times of "time"' in found.reader.said


@pytest.mark.parametrize(
    ("channel", "value"), [("_field", "_value"), ("entity_id", "state"), ("Series", "Value")]
)
def test_channels_named_as_in_exports_of_single_values_make_no_such_file(tmp_path, channel, value):
    found = read(recorded(tmp_path, {channel: some(0), value: some(1)}))
    assert found.reader.channels == [channel, value] and len(found.rows.seq) == 80


@pytest.mark.parametrize("options", [{"count_rows": True}, {"raster": RASTER}, {"seq": "x"}])
def test_the_numbers_of_a_recorded_file_are_no_channel(tmp_path, options):
    """Those of streams in turn do not count, so nothing but their name tells."""
    path = recorded(tmp_path, {"x": np.arange(80).astype(np.uint32), "y": some(1), "z": some(2)})
    assert [name for name in read(path, **options).reader.channels if name != "x"] == ["y", "z"]


@pytest.mark.parametrize("exclude", ["slow", "SLOW"])
def test_what_is_excluded_is_looked_for_once(tmp_path, exclude):
    """Of files of rows and of single values; a name that is nowhere is said."""
    wide = recorded(tmp_path, {"x": some(0), "y": some(1), "slow": some(2)})
    lines = [
        f"{np.datetime64(T0 + place * SECOND // 2, 'ns')}Z,m1,{('x', 'slow', 'y')[place % 3]},{place % 7}.5"
        for place in range(300)
    ]
    long = write(tmp_path, "\n".join(["time,stream,channel,value", *lines, ""]), "long.csv")
    for path in (wide, long):
        assert read(path, raster=RASTER, exclude=[exclude]).reader.channels == ["x", "y"]
        options = (*("--period", "2s"), "-o", tmp_path / "m.safetensors")
        options += ("--epochs", "1", "--hidden", "4", "--highway", "0")
        done = run("train", path, *options, "--exclude", exclude)
        assert done.exit_code == 0, done.stderr
        assert "slow" not in [channel.name for channel in read_model(options[3]).channels]
        assert 'has no column "slw"' in fails(path, raster=RASTER, exclude=["slw"])
        estimated = run("train", path, *options, "--exclude", exclude, "--target", "slow")
        assert estimated.exit_code == 0, estimated.stderr
        model = read_model(options[3])
        assert [channel.name for channel in model.channels] == ["x", "y"]
        assert [output.name for output in model.outputs] == ["slow"]


@pytest.mark.parametrize(
    "names",
    [
        ["0.5", "1.5"],
        ["0.5"],
        ["a;1;2;3"],
        ["a;1;2;3", "b;1;2;3", "c;1;2;3"],
        ["a\tb", "c\td"],
        ["a, b", 'say "c"'],
    ],
)
def test_the_names_of_a_recorded_file_are_not_guessed_from(tmp_path, names):
    """However few rows there are yet."""
    for count in (1, 2, 80):
        channels = {name: some(place, count) for place, name in enumerate(names)}
        found = read(recorded(tmp_path, channels, numbered=False))
        assert found.reader.channels == names and len(found.rows.seq) == count
        assert found.rows.values[:, 0].tobytes() == some(0, count).tobytes()


def test_measurements_that_are_named_as_ours_are_measurements(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},2020-02-08 13:{place:02}:47,{rng.normal():.3f}" for place in range(60)]
    found = read(write(tmp_path, "\n".join(["stream,time,level", *lines, ""])))
    assert found.reader.channels == ["stream", "level"] and not found.reader.by_stream
    assert "as record wrote it" not in found.reader.said
    lines = [
        f"2020-02-08 13:{place:02}:47,{','.join(f'{value:.3f}' for value in rng.normal(size=3))}"
        for place in range(60)
    ]
    found = read(write(tmp_path, "\n".join(["time,stream,channel,value", *lines, ""])))
    assert found.reader.channels == ["stream", "channel", "value"] and len(found.rows.seq) == 60


def test_the_ends_of_recorded_streams_in_a_pipe_are_not_known_which_is_said(tmp_path, capsys):
    """Of a file they are."""
    path, pipe = recorded(tmp_path, {"x": some(0), "y": some(1)}), tmp_path / "pipe"
    os.mkfifo(pipe)

    def ends(source: Path) -> int:
        known = find_ends(str(source), None, Reading())
        assert known is not None
        with open_rows(str(source), None) as reader:
            return sum(int(last.sum()) for _, last in with_ends(reader, known))

    assert ends(path) == 2 and capsys.readouterr().err == ""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, path.read_bytes())
        assert ends(pipe) == 0
    assert capsys.readouterr().err == f"warning: {PIPED}\n"
    one = write(tmp_path, "x,y\n1,2\n2,5\n3,1\n")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, one.read_bytes())
        assert ends(pipe) == 1
    assert capsys.readouterr().err == ""

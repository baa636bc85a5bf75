"""Values at odd times read as rows at even ones: what the assembler makes of them, no more and no less."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tables import T0, fails, read, write

from streamrnn.cli import main
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.rows.assembler import Assembler
from streamrnn.table import Reading, open_rows
from streamrnn.table.reading import Raster

PERIOD = 10**9
NAMES = ["flow", "level", "temp"]


def raster(period_ns: int = PERIOD, hold: int = 3, late: int = 2, take: str = "last") -> Raster:
    return Raster(f"{period_ns}ns", period_ns, hold * period_ns, late * period_ns, take)


def updates(count: int = 600, seed: int = 0) -> list[tuple[int, str, str, float]]:
    """Time, stream, channel, value: of two machines, each channel at its own rate, a little out of order."""
    rng = np.random.default_rng(seed)
    found = []
    for stream in ("m1", "m2"):
        for place, name in enumerate(NAMES):
            times = T0 + np.cumsum(rng.integers(1, (1 + place) * PERIOD, count // (1 + place))) // 1000 * 1000
            found += [(int(time), stream, name, float(rng.normal(0, 10))) for time in times]
    order = np.argsort([time + int(rng.integers(0, 2 * PERIOD)) for time, *_ in found], kind="stable")
    return [found[place] for place in order]


def long_table(folder: Path, said: list[tuple[int, str, str, float]], name: str = "values.csv") -> Path:
    lines = [
        f"{np.datetime64(time, 'ns')}Z,{stream},{channel},{value!r}" for time, stream, channel, value in said
    ]
    return write(folder, "\n".join(["time,stream,channel,value", *lines, ""]), name)


def assembled(said: list[tuple[int, str, str, float]], told: Raster) -> list[tuple[Any, ...]]:
    """Stream, tick and values, float32 bits, of the rows that the assembler gives."""
    assembler = Assembler(
        len(NAMES), told.period_ns, told.take, hold_ns=told.hold_ns, lateness_ns=told.lateness_ns, capacity=9
    )

    def rows() -> Iterator[tuple[Any, ...]]:
        streams = np.array([assembler.stream(stream) for _, stream, _, _ in said], np.int32)
        channels = np.array([NAMES.index(channel) for _, _, channel, _ in said], np.int32)
        times, values = np.array([each[0] for each in said]), np.array([each[3] for each in said])
        for some in (*assembler.take(streams, channels, times, values), *assembler.flush()):
            for stream, tick, row in zip(some.stream.tolist(), some.tick.tolist(), some.values, strict=True):
                yield assembler.names[stream], tick, row.astype(np.float32).tobytes()

    return [*rows()]


def as_read(path: Path, channels: list[str] | None = None, **options: Any) -> list[tuple[Any, ...]]:
    found = read(path, channels, **options)
    assert (found.rows.ts_ns == found.rows.seq.astype(np.int64) * options["raster"].period_ns).all()
    ids = found.ids
    return [(ids[row], int(found.rows.seq[row]), found.rows.values[row].tobytes()) for row in range(len(ids))]


@pytest.mark.parametrize("take", ["last", "mean", "min", "max"])
def test_a_long_table_gives_the_assemblers_rows(tmp_path, take):
    said, told = updates(), raster(take=take)
    path = long_table(tmp_path, said)
    wanted = assembled(said, told)
    assert as_read(path, NAMES, raster=told) == wanted
    found = read(path, raster=told)  # of channels in the order in which they stand there
    places = [found.reader.channels.index(name) for name in NAMES]
    assert [row[places].tobytes() for row in found.rows.values] == [bits for *_, bits in wanted]
    assert (
        f"{path}: {len(wanted):,} rows every 1000000000ns of {len(said):,} values" in found.reader.closing()
    )


def test_a_wide_table_gives_the_same_as_its_cells_one_by_one(tmp_path):
    """Rows at odd times, empty cells, decimals that float32 does not hold."""
    rng, said, lines = np.random.default_rng(1), [], []
    for time in (T0 + np.cumsum(rng.integers(1, 2 * PERIOD, 500))).tolist():
        cells = [None if rng.random() < 0.3 else float(rng.normal(1e4, 1)) for _ in NAMES]
        said += [
            (time, "valve", name, cell) for name, cell in zip(NAMES, cells, strict=True) if cell is not None
        ]
        lines.append(
            ",".join([f"{np.datetime64(time, 'ns')}Z", *("" if c is None else repr(c) for c in cells)])
        )
    path = write(tmp_path, "\n".join([f"time,{','.join(NAMES)}", *lines, ""]))
    told = raster(take="mean")
    assert as_read(path, NAMES, raster=told) == assembled(said, told)


def test_late_wild_and_infinite_values_are_said(tmp_path):
    said = [(T0 + place * PERIOD, "m1", name, 1.5) for place in range(20) for name in NAMES]
    said[30:30] = [
        (T0, "m1", "flow", 9.0),
        (T0 + 10**15, "m1", "flow", 9.0),
        (said[30][0], "m1", "temp", 1e39),
    ]
    found = read(long_table(tmp_path, said), NAMES, raster=raster())
    assert len(found.rows.seq) == 20
    (words,) = found.reader.closing().splitlines()
    assert words.endswith("held, 0 missing; left out: 1 late, 1 of a wild time, 1 infinite")


def test_a_clock_that_is_set_back_begins_anew(tmp_path):
    said = [(at * PERIOD, "m1", name, 1.5) for at in (*range(5000, 5020), *range(100, 120)) for name in NAMES]
    with_begins = [
        (int(seq), bool(begin))
        for rows in blocks_of(long_table(tmp_path, said))
        for seq, begin in zip(rows.seq, rows.begins if rows.begins is not None else rows.seq < 0, strict=True)
    ]
    assert [seq for seq, begin in with_begins if begin] == [100]


def blocks_of(path: Path) -> list[Any]:
    with open_rows(str(path), NAMES, Reading(raster=raster())) as reader:
        return [*reader]


def test_channels_beside_the_model_s_do_not_count(tmp_path):
    """The daemon does not wait for what its model has not got, nor does a replay."""
    said, told = updates(200), raster()
    more = [(time, stream, "other", 0.0) for time, stream, *_ in said[::7]]
    mixed = sorted([*said, *more], key=lambda each: said.index(each) if each in said else -1)
    assert as_read(long_table(tmp_path, mixed), NAMES, raster=told) == assembled(said, told)


def test_what_cannot_be(tmp_path):
    said = updates(200)
    path = long_table(tmp_path, said)
    assert fails(path) == (
        "its channels have hardly ever values of one time, so that these make no rows; say how far apart "
        "rows are to be, as --period 1s"
    )
    assert fails(path, ["speed"], raster=raster()).startswith('has no column "speed"; its columns are ')
    untimed = write(tmp_path, "a,b\n1,2\n3,5\n", "untimed.csv")
    assert "rows every so often need times" in fails(untimed, raster=raster())
    words = run("replay", path, "--take", "mean", "-m", "nothing.safetensors")
    assert words.exit_code == 2 and "--take goes with --period" in words.stderr
    assert run("replay", path, "--period", "1 period").exit_code == 2


def run(*words: object) -> Any:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="streamrnn")


def test_train_and_replay_as_commands(tmp_path):
    path, model = long_table(tmp_path, updates(400)), tmp_path / "m.safetensors"
    trained = run(
        "train", path, "--period", "1s", "-o", model, "--epochs", "1", "--hidden", "4", "--highway", "0"
    )
    assert trained.exit_code == 0, trained.stderr
    assert "rows every 1s of 1,466 values" in trained.stderr
    assert read_model(model).sample_period_s == 1.0
    again = run("replay", path, "-m", model)
    assert again.exit_code == 1 and "--period 1s" in again.stderr
    out = tmp_path / "out.csv"
    done = run("replay", path, "-m", model, "--period", "1s", "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "rows every 1s of" in done.stderr
    rows = read(path, NAMES, raster=raster(hold=10, late=1)).rows
    assert len(out.read_text().splitlines()) == len(rows.seq) + 1


def test_a_recorded_table_says_itself_what_is_what(tmp_path):
    """Streams and numbers of a file of rows that `record` wrote; other options go before."""
    lines = [
        f"{'ab'[place % 2]},{np.datetime64(T0 + place * PERIOD, 'ns')}Z,{7 + place},{place % 7}"
        for place in range(40)
    ]
    path = write(tmp_path, "\n".join(["stream,time,seq,x", *lines, ""]))
    found = read(path)
    assert found.reader.channels == ["x"] and found.reader.streams == ["a", "b"]
    assert found.rows.seq.tolist() == [7 + place for place in range(40)]
    counted = read(path, count_rows=True)
    assert counted.rows.seq.tolist() == [place // 2 for place in range(40)]
    assert counted.reader.channels == ["x"] and counted.reader.streams == ["a", "b"]
    assert read(path, raster=raster()).reader.channels == ["x"]


def test_files_that_follow_each_other_are_learned_from_as_one(tmp_path):
    """The last ticks of one come again in the next, as some values were late."""
    said = updates(400)
    halves = [
        long_table(tmp_path, part, f"{place}.csv") for place, part in enumerate((said[:700], said[700:]))
    ]
    model = tmp_path / "m.safetensors"
    trained = run(
        "train", *halves, "--period", "1s", "-o", model, "--epochs", "1", "--hidden", "4", "--highway", "0"
    )
    assert trained.exit_code == 0, trained.stderr
    assert "came twice" in trained.stderr


def test_names_that_mean_missing_elsewhere_are_names_in_what_was_recorded(tmp_path):
    said = [(T0 + place * PERIOD, "NA", name, 1.5) for place in range(9) for name in ("None", "x")]
    found = read(long_table(tmp_path, said), raster=raster())
    assert (found.reader.streams, found.reader.channels) == (["NA"], ["None", "x"])


def test_of_names_alike_only_the_very_name_is_meant(tmp_path):
    """As a daemon takes it; where there is none, the one that is alike."""
    said, told = updates(200), raster()
    more = [(time, stream, "Temp", value + 1) for time, stream, name, value in said if name == "temp"]
    both = [each for one in said for each in ([one, more.pop(0)] if one[2] == "temp" else [one])]
    wanted = assembled(said, told)
    assert as_read(long_table(tmp_path, both), NAMES, raster=told) == wanted
    other = [(time, stream, name.replace("temp", "Temp"), value) for time, stream, name, value in said]
    assert as_read(long_table(tmp_path, other), NAMES, raster=told) == wanted


def test_of_names_alike_from_a_pipe_the_one_that_came_is_meant(tmp_path):
    """Where that turns out to be wrong, it is said."""
    said, told = updates(200), raster()
    wanted, pipe = assembled(said, told), tmp_path / "pipe"
    os.mkfifo(pipe)

    def piped(*temps: str) -> Any:
        """With the values of temp under these names by turns."""
        turns = itertools.cycle(temps)
        named = [(*each[:2], next(turns) if each[2] == "temp" else each[2], each[3]) for each in said]
        content = long_table(tmp_path, named).read_bytes()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(pipe.write_bytes, content)
            with open_rows(str(pipe), NAMES, Reading(raster=told)) as reader:
                return [
                    (reader.streams[of], int(seq), values.tobytes())
                    for rows in reader
                    for of, seq, values in zip(rows.stream, rows.seq, rows.values, strict=True)
                ]

    assert piped("temp") == wanted and piped("Temp") == wanted
    assert piped("temp", "Temp") != wanted  # only every other value
    with pytest.raises(UserError, match='has channels "Temp" and "TEMP", and from a pipe'):
        piped("Temp", "TEMP")


def test_a_channel_that_is_silent_is_missing_everywhere(tmp_path):
    """A sensor that says nothing does not stop the others, nor their model."""
    said, told = updates(400), raster()
    path, model = long_table(tmp_path, said), tmp_path / "m.safetensors"
    options = ("--epochs", "1", "--hidden", "4", "--highway", "0", "--period", "1s", "-o", model)
    assert run("train", path, *options).exit_code == 0
    quiet = [each for each in said if each[2] != "level"]
    without = long_table(tmp_path, quiet, "without.csv")
    assert as_read(without, NAMES, raster=told) == assembled(quiet, told)
    done = run("replay", without, "-m", model, "--period", "1s", "-o", tmp_path / "out.csv")
    assert done.exit_code == 0, done.stderr
    assert 'warning: no value of "level" is there' in done.stderr


def test_a_silent_channel_of_values_of_one_time_is_missing_too(tmp_path):
    said = [(T0 + place * PERIOD, "m1", name, place % 7) for place in range(40) for name in ("x", "y")]
    path = long_table(tmp_path, said)
    found = read(path, ["y", "slow", "x"])
    assert found.reader.channels == ["y", "slow", "x"] and len(found.rows.seq) == 40
    assert np.isnan(found.rows.values[:, 1]).all() and not np.isnan(found.rows.values[:, [0, 2]]).any()
    assert [note for note in found.reader.notes if 'no value of "slow" is there' in note]
    for options in ({}, {"raster": raster()}):
        assert 'has no column "slow"' in fails(path, ["slow"], **options)

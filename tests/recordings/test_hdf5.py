"""HDF5: what h5py, netCDF4 and pandas write, as a plain reference has it; and each trap of the format."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import netCDF4
import numpy as np
import pytest
from click.testing import CliRunner
from recordings.plain_join import PlainChannel, plain_join
from tables import fails, read

from streamrnn.cli import main
from streamrnn.errors import UserError
from streamrnn.recordings import formats
from streamrnn.recordings.hdf5 import open_recording
from streamrnn.recordings.recording import Contents, Told
from streamrnn.table import open_rows

NAN = float("nan")
START = 1_700_000_000 * 10**9
MS = 10**6


def contents(path: Path, **told: Any) -> tuple[Contents, list[np.ndarray], list[np.ndarray]]:
    """What is in a file, read in this process: its contents, and of each group all ticks and values."""
    recording = open_recording(path, Told(**told))
    ticks, values = [], []
    for place, group in enumerate(recording.contents.groups):
        pieces = list(recording.pieces(place, range(len(group.channels))))
        ticks.append(np.concatenate([piece.ticks for piece in pieces]))
        values.append(np.concatenate([piece.values for piece in pieces]))
    recording.close()
    return recording.contents, ticks, values


def names(found: Contents) -> list[list[str]]:
    return [[channel.name for channel in group.channels] for group in found.groups]


def packed(path: Path) -> tuple[list[int], list[PlainChannel]]:
    """A netCDF file of channels of three rates, with a gap, invalid samples and units; its rows as they are
    to be: 100 Hz as float64, 25 Hz as int16 that are scaled, 4 Hz as float32."""
    rng = np.random.default_rng(0)
    fast = np.r_[0:200, 240:600] * 10
    raw = rng.integers(-3000, 3000, 140).astype(np.int16)
    raw[[3, 50]], raw[7] = -32000, 3100  # missing, and beyond what is valid
    slow = rng.normal(size=20).astype(np.float32)
    slow[4] = NAN
    flow = rng.normal(size=len(fast))
    with netCDF4.Dataset(path, "w") as file:
        for name, count in (("fast", len(fast)), ("mid", 140), ("slow", 20)):
            group = file.createGroup(name)
            group.createDimension("time", count)
            time = group.createVariable("time", "i8", ("time",))
            time.units = "milliseconds since 2023-11-14 22:13:20+00:00"
        file["fast"]["time"][:] = fast
        file["mid"]["time"][:] = np.arange(10, 150) * 40
        file["slow"]["time"][:] = np.arange(20) * 250
        file["fast"].createVariable("flow", "f8", ("time",))[:] = flow
        file["fast"]["flow"].units = "l/min"
        temp = file["mid"].createVariable("temp", "i2", ("time",), fill_value=-32000)
        temp.setncatts({"scale_factor": 0.01, "add_offset": 20.0, "units": "degC"})
        temp.valid_range = np.array([-3000, 3000], np.int16)
        temp.set_auto_maskandscale(False)
        temp[:] = raw
        file["slow"].createVariable("level", "f4", ("time",))[:] = slow
    valid = np.abs(raw.astype(int)) <= 3000
    scaled = np.where(valid, raw.astype(np.float64) * 0.01 + 20.0, NAN)
    return (fast * MS).tolist(), [
        PlainChannel((fast * MS).tolist(), flow.tolist(), 0),
        PlainChannel((np.arange(10, 150) * 40 * MS).tolist(), scaled.tolist(), 40 * MS),
        PlainChannel((np.arange(20) * 250 * MS).tolist(), slow.astype(float).tolist(), 250 * MS),
    ]


def test_three_rates_a_gap_invalid_samples_scaling_units_and_a_start(tmp_path):
    path = tmp_path / "bench.nc"
    rows, channels = packed(path)
    found = read(path)
    assert found.reader.channels == ["flow", "temp", "level"]
    assert found.reader.units == {"flow": "l/min", "temp": "degC"}
    assert found.rows.ts_ns.tolist() == [START + tick for tick in rows]
    np.testing.assert_array_equal(found.rows.values, np.float32(plain_join(rows, channels)))
    assert found.reader.said.endswith(
        'HDF5, netCDF-4, 3 channels, 3 groups joined at 100 Hz, times of "time" (year first)'
    )
    result = CliRunner().invoke(main, ["inspect", str(path), "--json"])
    shown = json.loads(result.stdout)
    assert [(g["rate_hz"], g["samples"], g["gaps"]) for g in shown["groups"]] == [
        (100, 560, 1),
        (25, 140, 0),
        (4, 20, 0),
    ]
    assert [c["missing"] for g in shown["groups"] for c in g["channels"]] == [0, 3, 1]
    assert shown["groups"][1]["channels"][0] | {"missing": 0} == {
        "name": "temp", "unit": "degC", "stored": "int16, scaled", "missing": 0
    }  # fmt: skip
    assert shown["groups"][0]["begins"] == "2023-11-14T22:13:20.000000000"
    assert shown["left_out"] == {f"{name}/time": "times" for name in ("fast", "mid", "slow")}
    assert "scaled" in CliRunner().invoke(main, ["inspect", str(path)]).stdout


def test_rows_of_a_told_period_hold_a_channel_for_a_period_of_its_own(tmp_path):
    from streamrnn.table.reading import Raster

    path = tmp_path / "bench.nc"
    packed(path)
    raster = Raster("50ms", 50 * MS, 500 * MS, 50 * MS, "mean", hold_told=False)
    found = read(path, raster=raster)
    times, values = found.rows.ts_ns - START, found.rows.values
    gap = (times > 2000 * MS) & (times < 2400 * MS)
    assert np.isnan(values[gap, 0]).all() and gap.sum() == 7
    fast = read(path, ["flow"])
    first = fast.rows.values[1:6, 0].astype(np.float64)
    assert values[1, 0] == np.float32(first.mean()) or abs(values[1, 0] - first.mean()) < 1e-6
    assert np.isnan(values[times > 5000 * MS, 2]).all() and not np.isnan(values[times == 4950 * MS, 2]).any()


def test_a_rate_and_a_start_from_attributes(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("bench")
        group.attrs["sampling_rate"], group.attrs["start_time"] = 1024, "2023-11-14T23:13:20.5+01:00"
        group["a"], group["b"] = np.arange(5000.0) % 7, np.arange(5000, dtype=">i4") % 5
        group["b"].attrs["unit"] = "V"
        file["info/serial"] = 17
    found, ticks, values = contents(path)
    assert (found.start_ns, found.zoned) == (START + 500 * MS, True)
    (group,) = found.groups
    assert [*group.channels] == [("a", "", "float64"), ("b", "V", "int32")]
    assert ticks[0].tolist() == [(2 * k * 1953125 + 2) // 4 for k in range(5000)]
    assert values[0][:, 1].tolist() == [k % 5 for k in range(5000)]
    assert dict(found.left_out) == {"info/serial": "a single value"}


def test_matlab_has_time_along_the_last_axis(tmp_path):
    path = tmp_path / "x.mat"
    data = np.random.default_rng(0).normal(size=(8, 1000))
    with h5py.File(path, "w", userblock_size=512) as file:
        file["data"], file["fs"] = data, np.array([[250.0]])
        file["short"] = np.ones((1000, 8)).T[:, :5]  # 5 x 8 in MATLAB
        file["comment"] = np.array([[104], [105]], np.uint16)
        file["#refs#/a"] = np.arange(9.0)
        for name, kind in (("data", "double"), ("fs", "double"), ("short", "double"), ("comment", "char")):
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    content = bytearray(path.read_bytes())
    content[:22] = b"MATLAB 7.3 MAT-file, P"
    path.write_bytes(content)
    found, ticks, values = contents(path)
    assert found.said == "HDF5, MATLAB 7.3"
    assert names(found)[0] == [f"data[{k}]" for k in range(8)]
    np.testing.assert_array_equal(values[0], data.T)
    assert ticks[0][:3].tolist() == [0, 4 * MS, 8 * MS]
    assert found.left_out == (("comment", "text"),)
    assert found.groups[1].samples == 5


def test_the_longer_side_is_time_and_that_is_said(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["wide"], file["wide"].attrs["channels"] = (
            np.arange(60.0).reshape(2, 30) ** 2 % 77,
            ["left", "right"],
        )
    found, _, values = contents(path)
    assert names(found) == [["left", "right"]]
    assert values[0][:, 1].tolist() == [k**2 % 77 for k in range(30, 60)]
    assert found.notes == ('"wide" is 2 x 30; time is taken to run along the longer side',)
    assert not found.groups[0].timed
    assert read(path).rows.seq.tolist() == [*range(30)]


def test_samples_end_where_the_times_do(tmp_path):
    """A recorder takes room for 1,000 samples, and is killed when 600 are written; or is still writing."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name in ("time", "a"):
            file.create_dataset(name, (1000,), "f8", chunks=(100,), maxshape=(None,))
            file[name][:600] = np.arange(1, 601) * 0.5
        rated = file.create_group("rated")
        rated.attrs["fs"] = 10
        rated.create_dataset("b", (500,), "f4")[:400] = 1 + np.arange(400) % 3
        grows = file.create_group("grows")
        grows["time"], grows["c"] = np.arange(80) * 0.5, np.arange(80.0)
        del grows["c"]
        grows.create_dataset("c", data=np.arange(70.0), maxshape=(None,))
    found, ticks, values = contents(path)
    assert [group.samples for group in found.groups] == [600, 80, 400]
    assert ticks[0][-1] == 300 * 10**9
    assert np.isnan(values[1][70:]).all() and values[1][69] == 69
    assert found.notes == (
        '"time": its last 400 times were never written; samples end there',
        '"rated/b": its last 100 samples are all 0, as what was never written is; they are left out',
    )


def test_numbers_of_every_kind(tmp_path):
    path = tmp_path / "x.h5"
    kinds = [">f4", "<f2", ">i2", "<u8", "i1", "?"]
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(50, dtype=">u4")
        for kind in kinds:
            file[f"k{kind}"] = (np.arange(50) % 2 if kind == "?" else np.arange(50) * 2).astype(kind)
        states = h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1")
        file.create_dataset("state", data=np.arange(50) % 2, dtype=states)
        file["text"], file["cube"] = [b"a"] * 50, np.zeros((50, 2, 2))
        file["pair"] = np.zeros(50, [("x", "f4"), ("y", "S3"), ("z", "f8", (2,))])
        file["c"] = np.zeros(50, complex)
        file["none"] = h5py.Empty("f4")
    found, _, values = contents(path)
    of = dict(zip(names(found)[0], values[0].T, strict=True))
    for kind in kinds:
        assert of[f"k{kind}"].tolist() == [k % 2 if kind == "?" else 2 * k for k in range(50)]
    assert of["state"].tolist() == [k % 2 for k in range(50)]
    left_out = dict(found.left_out)
    assert left_out["text"] == left_out["pair/y"] == "text"
    assert left_out["cube"] == "has 3 dimensions" and left_out["none"] == "empty"
    assert left_out["c"].startswith("no numbers") and left_out["pair/z"].startswith("no numbers")


def test_fields_of_a_compound_are_channels(tmp_path):
    path = tmp_path / "x.h5"
    rows = np.zeros(100, [("ts_us", "u8"), ("p", ">f4"), ("q", "i2")])
    rows["ts_us"] = START // 1000 + np.arange(100) * 20_000
    rows["p"], rows["q"] = np.arange(100) * 0.5, np.arange(100) % 7
    with h5py.File(path, "w") as file:
        file["log"] = rows
    found, ticks, values = contents(path)
    assert names(found) == [["p", "q"]] and found.start_ns == START
    assert ticks[0].tolist() == [k * 20 * MS for k in range(100)]
    np.testing.assert_array_equal(values[0], np.stack([rows["p"], rows["q"]], axis=1))


def test_packing_is_that_of_netcdf4(tmp_path):
    """Its own masked arrays are the witness, but for numbers of 16 bits that it takes for never written."""
    path, rng = tmp_path / "x.nc", np.random.default_rng(0)
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("lonely", 3)
        file.createVariable("time", "f8", ("time",)).units = "hours since 2000-01-01"
        file["time"][:] = np.arange(200) / 3600
        for name, kind, attributes, fill in (
            ("plain", "f4", {}, None),
            ("filled", "i4", {"scale_factor": 0.5, "add_offset": -3.0}, 7),
            ("missing", "i2", {"missing_value": np.int16(5), "scale_factor": 2.0}, -1),
            ("limits", "i2", {"valid_min": np.int16(10), "valid_max": np.int16(90), "scale_factor": 0.1}, -1),
            ("unsigned", "i1", {"_Unsigned": "true", "scale_factor": 1.0, "missing_value": np.int8(-2)}, -1),
            ("default", "f8", {}, None),
        ):
            variable = file.createVariable(name, kind, ("time",), fill_value=fill)
            variable.setncatts(attributes)
            variable.set_auto_maskandscale(False)
            raw = rng.integers(-100, 100, 200)
            variable[:] = raw.astype(kind)
        file["default"][[3, 9]] = netCDF4.default_fillvals["f8"]
        file.createVariable("short", "f8", ("time",))[:150] = np.arange(150.0)
    found, ticks, values = contents(path)
    assert (found.start_ns, found.zoned) == (946684800 * 10**9, False)
    assert ticks[0].tolist() == [k * 10**9 for k in range(200)]
    with netCDF4.Dataset(path) as file:
        for name, column in zip(names(found)[0], values[0].T, strict=True):
            theirs = np.ma.filled(file[name][:].astype(np.float64), NAN)
            np.testing.assert_array_equal(column, theirs, name)
    assert np.isnan(values[0][150:, names(found)[0].index("short")]).all()
    with netCDF4.Dataset(path, "a") as file:
        sixteen = file.createVariable("sixteen", "i2", ("time",))
        sixteen[:] = np.full(200, netCDF4.default_fillvals["i2"])
    found, _, values = contents(path)
    assert (values[0][:, names(found)[0].index("sixteen")] == -32767).all()


WRITES_FRAMES = """
import sys
try:
    import numpy as np, pandas as pd, tables
except ImportError:
    sys.exit(77)
times = pd.date_range("2024-01-01", periods=50, freq="100ms", tz="Europe/Berlin")
numbers = {"a": np.arange(50.0), "b": np.arange(50) % 3, "c": np.arange(50.0) ** 2}
frame = pd.DataFrame(numbers, index=times)
frame.assign(word="x").to_hdf("fixed.h5", key="run")
frame.tz_localize(None).to_hdf("columns.h5", key="run", format="table", data_columns=True)
frame["a"].to_hdf("series.h5", key="run")
frame.to_hdf("blocks.h5", key="run", format="table")
"""


def test_frames_of_pandas_without_unpickling(tmp_path):
    ended = subprocess.run([sys.executable, "-c", WRITES_FRAMES], cwd=tmp_path, check=False)
    if ended.returncode == 77:  # in this process `tables` is a module of these tests
        pytest.skip("pandas and tables, which it writes HDF5 with, are not installed")
    assert ended.returncode == 0
    expected = {"a": np.arange(50.0), "b": np.arange(50) % 3, "c": np.arange(50.0) ** 2}
    berlin = 1704063600 * 10**9
    for name, start, zoned in (("fixed", berlin, True), ("columns", berlin + 3600 * 10**9, False)):
        found, ticks, values = contents(tmp_path / f"{name}.h5")
        assert (found.start_ns, found.zoned) == (start, zoned)
        assert ticks[0].tolist() == [k * 100 * MS for k in range(50)]
        of = dict(zip(names(found)[0], values[0].T, strict=True))
        assert of.keys() == expected.keys() and all((of[key] == expected[key]).all() for key in of)
    assert dict(contents(tmp_path / "fixed.h5")[0].left_out)["run/word"].startswith("pickled objects")
    assert names(contents(tmp_path / "series.h5")[0]) == [["a"]]
    with pytest.raises(UserError, match="write it with data_columns=True, or as parquet"):
        open_rows(str(tmp_path / "blocks.h5"), None)


def test_a_frame_is_read_by_its_data_alone(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("run")
        group.attrs["pandas_type"], group.attrs["encoding"] = np.bytes_("frame"), np.bytes_("UTF-8")
        group["axis1"] = START // 1000 + np.arange(40) * 1000
        group["axis1"].attrs["kind"] = np.bytes_("datetime64[us]")
        group["axis1"].attrs["freq"] = np.bytes_("cos\nsystem\n(S'touch boo'\ntR.")
        group["block0_items"] = np.array([b"p", "°".encode()])
        group["block0_values"] = np.arange(80.0).reshape(40, 2)
        kind = h5py.vlen_dtype(np.uint8)
        objects = group.create_dataset("block1_values", (1,), kind)
        objects[0] = np.frombuffer(b"cos\nsystem\n(S'touch boo'\ntR.", np.uint8)
        group["block1_items"] = np.array([b"evil"])
    found, ticks, values = contents(path)
    assert (names(found), found.start_ns) == ([["p", "°"]], START)
    assert ticks[0].tolist() == [k * MS for k in range(40)]
    assert values[0].tolist() == np.arange(80.0).reshape(40, 2).tolist()
    assert dict(found.left_out)["run/evil"] == "pickled objects, which are not read"


def test_what_is_in_other_files_stays_there(tmp_path):
    path, other = tmp_path / "x.h5", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["a"] = np.arange(10.0)
    with h5py.File(path, "w") as file:
        file["time"], file["a"] = np.arange(10.0), np.arange(10.0)
        file["link"], file["soft"] = h5py.ExternalLink("other.h5", "a"), h5py.SoftLink("/a")
    assert names(contents(path)[0]) == [["a"]]
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(other, "a", (10,))
        file.create_virtual_dataset("virtual", layout)
    with pytest.raises(UserError, match="virtual: its samples are in another file"):
        contents(path)


def test_packed_by_a_filter_of_hdf5plugin(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    data = np.round(np.random.default_rng(0).normal(size=1000), 2)
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(1000) * 0.1
        file.create_dataset("a", data=data, chunks=(100,), **hdf5plugin.Blosc())
    assert (read(path).rows.values[:, 0] == data.astype(np.float32)).all()
    from streamrnn.recordings.hdf5 import store

    monkeypatch.setattr(store.h5z, "filter_avail", lambda code: False)
    with pytest.raises(UserError, match=r"a: is packed by filter blosc.* \(32001\).*pip install hdf5plugin"):
        contents(path)


def test_a_file_without_its_end(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(10_000) * 0.01
        file.create_dataset("a", data=np.arange(10_000.0) * 37 % 1009, chunks=(500,))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    found, _, values = contents(path)
    count = len(values[0])
    assert 2000 < count < 10_000 and (values[0][:, 0] == np.arange(count) * 37 % 1009).all()
    assert found.cut.endswith(f"{count:,} of 10,000 samples are whole, and taken")
    assert found.cut in read(path).reader.opening()
    path.write_bytes(whole[:200])
    assert "only 200 of its" in fails(path)


def test_groups_that_follow_one_another_are_streams_and_others_have_their_name_before(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name, first in (("run1", 0), ("run2", 1000)):
            file[f"{name}/time"] = first + np.arange(100) * 0.5
            file[f"{name}/p"], file[f"{name}/q"] = np.arange(100.0) % 9, np.arange(100) % 7
    found = read(path)
    assert (found.reader.streams, found.reader.channels) == (["run1", "run2"], ["p", "q"])
    assert np.bincount(found.rows.stream).tolist() == [100, 100]
    with h5py.File(path, "a") as file:
        file["run2/time"][:] = np.arange(100) * 0.5
    found = read(path)
    assert found.reader.channels == ["run1/p", "run1/q", "run2/p", "run2/q"]
    assert read(path, stream="group").reader.streams == ["run1", "run2"]
    assert "--stream-column group makes each of its groups one" in fails(path, stream="pump")


def test_what_the_user_tells(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["when"], file["a"] = np.arange(100) * 20, np.arange(100.0) % 9
    assert not contents(path)[0].groups[0].timed
    assert contents(path, time="when", unit="ms")[1][0][1] == 20 * MS
    found = read(path, time="when", time_format="ms")
    assert (found.rows.ts_ns[1], found.reader.channels) == (20 * MS, ["a"])
    assert fails(path, time="whence") == 'nothing in it is named "whence" and has times of its samples'
    assert "its times are in one place" in fails(path, time=("when", "a"))
    assert "--time-format is one of s, ms, us, ns" in fails(path, time="when", time_format="%Y")


def test_a_pipe_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    h5py.File(path, "w").close()
    os.mkfifo(pipe := tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, path.read_bytes())
        assert fails(pipe) == "is HDF5, which cannot be read from a pipe or gzip; give the file's name"


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    h5py.File(path, "w").close()
    row = formats.FORMATS[0]._replace(library="h5pie")
    monkeypatch.setattr(formats, "FORMATS", (row,))
    assert fails(path) == "is HDF5, which h5pie reads; pip install 'streamrnn[hdf5]'"


def test_a_chunk_larger_than_memory_should_be_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (1 << 26,), "f8", chunks=(1 << 26,), fillvalue=3.0)
    assert "is stored in chunks of 512 MB" in fails(path)

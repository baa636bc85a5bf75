"""MDF 4 of vehicles."""

import struct
from datetime import UTC, datetime

import numpy as np
import pytest
from recorded import OFFSET, SCALE, SECOND, START_NS, parts, read_whole, ticks_of

from streamrnn.errors import UserError

asammdf = pytest.importorskip("asammdf")

RNG = np.random.default_rng(6)
START = datetime(2026, 3, 4, 5, 6, 7, 250000, tzinfo=UTC)
LINEAR = {"a": SCALE, "b": OFFSET}


def signal(name, samples, times, **told):
    return asammdf.Signal(samples=samples, timestamps=times, name=name, **told)


def write(path, *groups, start=START, version="4.10", **saved):
    """A file with groups of signals."""
    with asammdf.MDF(version=version) as mdf:
        mdf.start_time = start
        if version == "4.10":
            mdf.header.abs_time = START_NS  # which it made of floats of seconds
        for number, group in enumerate(groups):
            mdf.append(group, acq_name=f"raster {number}", common_timebase=True)
        mdf.save(path, overwrite=True, **saved)
    return path


def bench(path, compression=0):
    """Writes a recording of three rates with a gap and invalid samples; returns ticks and values of each."""
    before, after = parts(0, 4), parts(6, 9)
    groups, expected = [], []
    for first, second in zip(before, after, strict=True):
        raw, values = np.concatenate([first.raw, second.raw]), np.concatenate([first.values, second.values])
        times, bad = np.concatenate([first.seconds, second.seconds]), np.arange(len(raw)) % 7 == 3
        told = {"unit": "bar", "conversion": LINEAR if first.rate == 10 else None}
        columns = [
            signal(f"c{k}", raw[:, k].copy(), times, invalidation_bits=bad if k == 0 else None, **told)
            for k in range(raw.shape[1])
        ]
        groups.append(columns)
        values[bad, 0] = np.nan
        expected.append(([*ticks_of(first), *ticks_of(second)], values))
    write(path, *groups, compression=compression)
    return expected


@pytest.mark.parametrize("compression", [0, 1, 2])
def test_a_recording_by_its_library_has_its_rates_scales_units_gap_and_invalid_samples(tmp_path, compression):
    path = tmp_path / "x.mf4"
    expected = bench(path, compression)
    contents, found = read_whole("mdf", path)
    assert (contents.start_ns, contents.zoned, contents.cut, contents.left_out) == (START_NS, True, "", ())
    assert [group.name for group in contents.groups] == ["raster 0", "raster 1", "raster 2"]
    for group, (ticks, values) in zip(found, expected, strict=True):
        assert set(group.units) == {"bar"} and group.ticks == ticks
        assert np.array_equal(group.values, values, equal_nan=True)


def conversions(**more):
    """A conversion of each kind that gives numbers, and what it makes of 0 to 9."""
    x = np.arange(10.0)
    rational = {f"P{k}": v for k, v in enumerate((1.0, 2.0, 3.0, 0.0, 1.0, 4.0), 1)}
    table = {"raw_0": 0.0, "raw_1": 4.0, "raw_2": 8.0, "phys_0": 0.0, "phys_1": 2.0, "phys_2": 10.0}
    ranges = {
        "lower_0": 0,
        "upper_0": 3,
        "phys_0": 7.0,
        "lower_1": 4,
        "upper_1": 8,
        "phys_1": -7.0,
        "default": 0.5,
    }
    states = {"val_0": 0, "text_0": "off", "val_1": 1, "text_1": "on", "default": "?"}
    bands = {"lower_0": 0, "upper_0": 3, "text_0": "low", "lower_1": 4, "upper_1": 9, "text_1": "high"}
    return {
        "rational": (rational, (x * x + 2 * x + 3) / (x + 4)),
        "interpolated": ({**table, "interpolation": 1}, np.interp(x, [0, 4, 8], [0, 2, 10])),
        "nearest": ({**table, "interpolation": 0}, np.array([0, 0, 0, 2, 2, 2, 2, 10, 10, 10.0])),
        "ranges": (ranges, np.array([7, 7, 7, 7, -7, -7, -7, -7, -7, 0.5])),
        "states": (states, x),
        "bands": (bands, x),
    }


def test_conversions_give_numbers_and_states_stay_what_they_are(tmp_path):
    times, every = np.arange(10) / 10, conversions()
    columns = [
        signal(name, np.arange(10, dtype=np.uint8), times, conversion=one) for name, (one, _) in every.items()
    ]
    contents, (group,) = read_whole("mdf", write(tmp_path / "x.mf4", columns))
    for k, (_, values) in enumerate(every.values()):
        assert np.array_equal(group.values[:, k], values), group.names[k]
    stored = {channel.name: channel.stored for channel in contents.groups[0].channels}
    assert stored["states"] == "uint8, 0 = off, 1 = on" and "0 to 3 = low" in stored["bands"]
    assert stored["rational"] == "uint8, scaled"


def test_where_some_numbers_are_states_the_others_are_measurements(tmp_path):
    told = {
        "lower_0": 0, "upper_0": 250, "text_0": {"a": 0.5, "b": -40.0},
        "lower_1": 254, "upper_1": 254, "text_1": "error",
        "lower_2": 255, "upper_2": 255, "text_2": "not there",
        "default": "",
    }  # fmt: skip
    raw = np.array([0, 100, 250, 254, 255, 252], np.uint8)
    columns = [signal("t", raw, np.arange(6) / 10, conversion=told)]
    _, (group,) = read_whole("mdf", write(tmp_path / "x.mf4", columns))
    assert np.array_equal(group.values[:, 0], [-40, 10, 85, np.nan, np.nan, np.nan], equal_nan=True)


def test_what_gives_no_number_is_left_out_by_name(tmp_path):
    times = np.arange(4) / 10
    columns = [
        signal("formula", np.arange(4.0), times, conversion={"formula": "X1 * 2"}),
        signal("words", np.array([b"a", b"b", b"c", b"d"]), times, encoding="utf-8"),
        signal("picture", np.zeros(4, [("picture", "<f8", (6,))]), times),
        signal("pair", np.zeros(4, [("left", "<f8"), ("right", "<i2")]), times),
        signal("fine", np.arange(4, dtype="<i4"), times),
    ]
    contents, (group,) = read_whole("mdf", write(tmp_path / "x.mf4", columns))
    why = dict(contents.left_out)
    assert "formula" in why["raster 0/formula"] and why["raster 0/words"] == "text"
    assert why["raster 0/picture"] == "an array"
    assert group.names == ["pair.left", "pair.right", "fine"]


def test_types_of_any_order_and_bits_within_bytes(tmp_path):
    times, kinds = np.arange(300) / 10, ("<i2", ">i2", "<u4", ">u8", "<f4", ">f8", "<i8")
    columns = []
    for kind in kinds:
        numbers = RNG.integers(-100 if kind[1] != "u" else 0, 100, 300).astype(kind)
        columns.append(signal(kind.replace("<", "l").replace(">", "b"), numbers, times))
    path = write(tmp_path / "x.mf4", columns)
    _, (group,) = read_whole("mdf", path)
    assert np.array_equal(group.values, np.array([c.samples.astype(float) for c in columns]).T)
    content = bytearray(path.read_bytes())
    at = content.find(
        struct.pack("<BBBBII", 0, 0, 2, 0, 8, 16)
    )  # the first channel: 16 bits signed at byte 8
    assert at > 0
    for bit, bits, data_type in ((3, 5, 0), (3, 5, 2), (4, 12, 0), (1, 15, 2), (0, 12, 3)):
        content[at : at + 12] = struct.pack("<BBBBII", 0, 0, data_type, bit, 8, bits)
        path.write_bytes(content)
        _, (group,) = read_whole("mdf", path)
        size = (bit + bits + 7) // 8
        words = [columns[0].samples[k : k + 1].tobytes()[:size] for k in range(300)]
        numbers = [
            int.from_bytes(w, "big" if data_type % 2 else "little") >> bit & (1 << bits) - 1 for w in words
        ]
        if data_type > 1:
            numbers = [number - (1 << bits) * (number >> bits - 1) for number in numbers]
        assert group.values[:, 0].tolist() == numbers


def test_names_that_come_twice_masters_of_angle_and_equal_stamps(tmp_path):
    times = np.array([0.0, 0.1, 0.1, 0.2])
    by_angle = [signal("torque", np.arange(4.0), times, master_metadata=("angle", 2))]
    twice = [signal("speed", np.arange(4.0), times)], [signal("speed", np.arange(4.0) + 9, times)]
    contents, (one, other) = read_whole("mdf", write(tmp_path / "x.mf4", *twice, by_angle))
    assert [group.name for group in contents.groups] == ["raster 0", "raster 1"]
    assert one.ticks == [0, SECOND // 10, SECOND // 10, SECOND // 5]
    assert one.values[:, 0].tolist() == [0, 1, 2, 3] and other.values[:, 0].tolist() == [9, 10, 11, 12]
    assert contents.left_out == (("raster 2", "its samples are by an angle, not by time"),)


def test_local_time_is_no_zone(tmp_path):
    path = write(
        tmp_path / "x.mf4", [signal("a", np.arange(4.0), np.arange(4.0))], start=START.replace(tzinfo=None)
    )
    contents, _ = read_whole("mdf", path)
    assert (contents.zoned, contents.start_ns) == (False, START_NS)


def mixed_file(path):
    """Two groups whose records lie in one block, by their ids; the second comes now and then."""

    def block(kind, links, data=b""):
        size = 24 + 8 * len(links) + len(data)
        return (
            struct.pack("<4s4xQQ", b"##" + kind, size, len(links))
            + struct.pack(f"<{len(links)}Q", *links)
            + data
        )

    content = bytearray(b"MDF     4.10    test    " + bytes(4) + struct.pack("<H", 410) + bytes(34))
    places = {}

    def put(name, made):
        content.extend(bytes(-len(content) % 8))
        places[name] = len(content)
        content.extend(made)
        return places[name]

    put("hd", block(b"HD", [0] * 6, struct.pack("<QhhBBBBdd", START_NS, 0, 0, 0, 0, 0, 0, 0, 0)))
    texts = {
        name: put(name, block(b"TX", [], name.encode() + b"\0")) for name in ("time", "a", "b", "V", "A", "B")
    }
    groups = []
    for number, (name, size) in enumerate((("a", 2), ("b", 4))):
        tail = bytes(4 + 8 * 6)
        value = block(
            b"CN",
            [0, 0, texts[name], 0, 0, 0, texts["V"], 0],
            struct.pack("<BBBBIIII", 0, 0, 2, 0, 8, 8 * size, 0, 0) + tail,
        )
        at = put(f"cn {name}", value)
        master = block(
            b"CN",
            [at, 0, texts["time"], 0, 0, 0, 0, 0],
            struct.pack("<BBBBIIII", 2, 1, 4, 0, 0, 64, 0, 0) + tail,
        )
        at = put(f"master {name}", master)
        count = (40, 10)[number]
        fixed = struct.pack("<QQHHIII", number + 1, count, 0, 0, 0, 8 + size, 0)
        groups.append((at, fixed, name))
    second = put("cg b", block(b"CG", [0, groups[1][0], texts["B"], 0, 0, 0], groups[1][1]))
    first = put("cg a", block(b"CG", [second, groups[0][0], texts["A"], 0, 0, 0], groups[0][1]))
    records = b""
    for k in range(40):
        records += struct.pack("<Bdh", 1, k / 10, k - 20)
        if k % 4 == 0:
            records += struct.pack("<Bdi", 2, k / 10, 1000 * k)
    data = put("dt", block(b"DT", [], records))
    group = put("dg", block(b"DG", [0, first, data, 0], struct.pack("<B7x", 1)))
    struct.pack_into("<Q", content, places["hd"] + 24, group)
    path.write_bytes(content)
    return content, places


def test_records_of_groups_that_are_mixed_are_told_apart(tmp_path):
    path = tmp_path / "x.mf4"
    content, places = mixed_file(path)
    contents, (a, b) = read_whole("mdf", path)
    assert [group.name for group in contents.groups] == ["A", "B"]
    assert a.ticks == [k * SECOND // 10 for k in range(40)] and a.values[:, 0].tolist() == [
        k - 20 for k in range(40)
    ]
    assert b.ticks == [4 * k * SECOND // 10 for k in range(10)]
    assert b.values[:, 0].tolist() == [4000 * k for k in range(10)]
    content[:8] = b"UnFinMF "  # as a recorder that was killed leaves it: no length, no counts, a cut record
    struct.pack_into("<Q", content, places["dt"] + 8, 24)
    for name in ("cg a", "cg b"):
        struct.pack_into("<Q", content, places[name] + 24 + 48 + 8, 0)
    data = content[places["dt"] : places["dg"]]
    moved = content[: places["dt"]] + bytes(len(data)) + content[places["dg"] :]
    struct.pack_into("<Q", moved, places["dg"] + 24 + 16, len(moved))
    path.write_bytes(moved + data[: 24 + 200])
    contents, (a, b) = read_whole("mdf", path)
    assert "ended before" in contents.cut
    assert a.values[:, 0].tolist() == [k - 20 for k in range(len(a.ticks))] and 10 < len(a.ticks) < 20
    struct.pack_into("<Q", content, places["dg"] + 24 + 16, 0)
    path.write_bytes(content)
    contents, found = read_whole("mdf", path)
    assert not found and contents.left_out == (("A", "it has no sample"), ("B", "it has no sample"))


def test_of_a_file_that_is_cut_the_whole_samples_are_taken_and_lists_end(tmp_path):
    path = tmp_path / "x.mf4"
    content, places = mixed_file(path)
    for change, said in (
        ((places["hd"] + 24, places["hd"]), "instead of DG"),
        ((places["dg"] + 24, places["dg"]), "without an end"),
        ((places["cg a"] + 24, places["cg a"]), "without an end"),
        ((places["dt"] + 8, 8), "no block"),
        ((places["cn a"] + 24 + 16, 3), "no block"),
    ):
        broken = bytearray(content)
        struct.pack_into("<Q", broken, *change)
        path.write_bytes(broken)
        with pytest.raises(UserError, match=said):
            read_whole("mdf", path)
    path.write_bytes(content[: places["dg"]])
    with pytest.raises(UserError, match="damaged"):
        read_whole("mdf", path)


def test_a_packed_block_that_would_take_too_much_memory_is_refused_with_its_size(tmp_path):
    columns = [signal("a", RNG.normal(size=2000), np.arange(2000) / 10)]
    path = write(tmp_path / "x.mf4", columns, compression=2)
    content = bytearray(path.read_bytes())
    at = content.find(b"##DZ") + 24
    assert at > 24
    for size, said in (
        (1 << 40, "1,099,511,627,776 bytes"),
        (100, "that it says"),
        (2000 * 16 + 8, "that it says"),
    ):
        struct.pack_into("<Q", content, at + 8, size)
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_whole("mdf", path)


def test_other_versions_are_refused(tmp_path):
    path = write(tmp_path / "x.mdf", [signal("a", np.arange(4.0), np.arange(4.0))], version="3.30")
    with pytest.raises(UserError, match=r"version is 3\.3"):
        read_whole("mdf", path)

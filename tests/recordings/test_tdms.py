"""TDMS of LabVIEW and DAQmx."""

import io

import numpy as np
import pytest
from recorded import OFFSET, SCALE, SECOND, START_NS, parts, read_whole, ticks_of
from tdms_bytes import DAQMX, INTERLEAVED, NEW_LIST, SAME, UNENDED, Writes, interleaved, labview, scale

from streamrnn.errors import UserError
from streamrnn.table import open_rows

RNG = np.random.default_rng(4)
W = Writes()
LINEAR = scale("Linear", Slope=SCALE, Y_Intercept=OFFSET)


def waveform(start_ns=START_NS, increment=0.01, **told):
    return {"wf_start_time": labview(start_ns), "wf_increment": increment, **told}


def read(tmp_path, content, groups=1):
    path = tmp_path / "x.tdms"
    path.write_bytes(content)
    contents, found = read_whole("tdms", path)
    assert len(found) == groups
    return contents, found


def bench(path):
    """Writes a recording by its library: three rates, stopped for two seconds and appended to.

    Returns the ticks and values of each rate.
    """
    nptdms = pytest.importorskip("nptdms")
    blocks = [parts(0, 4), parts(6, 9)]
    for block in blocks:
        with nptdms.TdmsWriter(str(path), mode="a" if path.exists() else "w") as writer:
            channels = []
            for part in block:
                start = np.datetime64(START_NS + int(part.seconds[0]) * SECOND, "ns").astype("datetime64[us]")
                for k, raw in enumerate(part.raw.T):
                    told = {"wf_start_time": start, "wf_increment": 1 / part.rate, "unit_string": "bar"}
                    if part.rate == 10:
                        told |= {"NI_Scaling_Status": "unscaled", **LINEAR}
                    channels.append(nptdms.ChannelObject("bench", f"r{part.rate}.{k}", raw, told))
            writer.write_segment(channels)
    return [
        (
            [tick for block in blocks for tick in ticks_of(block[k])],
            np.concatenate([b[k].values for b in blocks]),
        )
        for k in range(3)
    ]


def test_a_recording_by_its_library_has_its_rates_scales_units_and_gap(tmp_path):
    nptdms = pytest.importorskip("nptdms")
    path = tmp_path / "x.tdms"
    expected = bench(path)
    contents, groups = read_whole("tdms", path)
    assert (contents.start_ns, contents.zoned, contents.cut) == (START_NS, True, "")
    for k, group in enumerate(groups):
        assert group.names[0] == f"r{(100, 10, 1)[k]}.0" and group.units[0] == "bar"
        assert group.ticks == expected[k][0] and group.begins == [(400, 40, 4)[k]]
        assert np.array_equal(group.values, expected[k][1])
    with nptdms.TdmsFile.open(str(path)) as file:
        for group in groups:
            for k, name in enumerate(group.names):
                assert np.array_equal(group.values[:, k], file["bench"][name][:])


@pytest.mark.parametrize("order", ["<", ">"])
def test_interleaved_contiguous_and_tiny_chunks_give_the_same_rows(tmp_path, order):
    w = Writes(order)
    columns = [RNG.integers(-9, 9, 600).astype(f"{order}i2"), RNG.normal(size=600).astype(f"{order}f8")]
    columns.append(RNG.normal(size=600).astype(f"{order}f4"))
    kinds = ("i2", "f8", "f4")
    told = {"wf_start_time": labview(START_NS), "wf_increment": 1e-3}

    def entries(samples):
        return [w.entry(f"/'g'/'{kind}'", w.index(kind, samples), told) for kind in kinds]

    whole = w.segment(entries(600), b"".join(column.tobytes() for column in columns), NEW_LIST)
    mixed = w.segment(entries(600), interleaved(*columns), NEW_LIST | INTERLEAVED)
    for samples in (1, 4):  # in each chunk, of a segment of many
        steps = range(0, 600, samples)
        raw = b"".join(column[k : k + samples].tobytes() for k in steps for column in columns)
        tiny = w.segment(entries(samples), raw, NEW_LIST)
        several = b"".join(
            w.segment(
                entries(samples) if k == 0 else [],
                b"".join(column[k : k + samples].tobytes() for column in columns),
                NEW_LIST if k == 0 else 0,
            )
            for k in steps
        )
        for content in (whole, mixed, tiny, several):
            _, (group,) = read(tmp_path, content)
            assert np.array_equal(group.values, np.array(columns, np.float64).T)
            assert group.ticks == [k * 10**6 for k in range(600)]


def test_times_are_absolute_and_exact(tmp_path):
    third = {"wf_start_offset": 0.5, "wf_increment": 1 / 3}
    entries = [
        W.entry("/'g'/'a'", W.index("f8", 6), waveform(START_NS, 0.1)),
        W.entry("/'g'/'b'", W.index("f8", 4), waveform(START_NS + 7, 0.3)),
        W.entry("/'g'/'c'", W.index("f8", 4), {"wf_start_time": labview(START_NS), **third}),
    ]
    contents, groups = read(tmp_path, W.segment(entries, np.arange(14.0).tobytes(), NEW_LIST), 3)
    assert contents.start_ns == START_NS
    assert groups[0].ticks == [k * SECOND // 10 for k in range(6)]
    assert groups[1].ticks == [k * 3 * SECOND // 10 + 7 for k in range(4)]
    assert groups[2].ticks == [SECOND // 2 + round(k * SECOND / 3) for k in range(4)]


def test_without_an_increment_a_channel_of_times_counts_or_nothing(tmp_path):
    times = [START_NS + k * 17_000_001 for k in range(5)]
    entries = [
        W.entry("/'g'/'when'", W.pack("IIIQ", 20, 0x44, 1, 5)),
        W.entry("/'g'/'a'", W.index("i4", 5)),
        W.entry("/'alone'/'b'", W.index("i4", 5)),
        W.entry("/'alone'/'words'", W.pack("IIIQQ", 28, 0x20, 1, 5, 25)),
    ]
    raw = (
        b"".join(W.stamp(labview(time)) for time in times) + np.arange(10, dtype="<i4").tobytes() + b"x" * 25
    )
    contents, (timed, counted) = read(tmp_path, W.segment(entries, raw, NEW_LIST), 2)
    assert contents.start_ns == times[0] and timed.ticks == [time - times[0] for time in times]
    assert contents.left_out == (("g/when", "times"), ("alone/words", "text"))
    assert [group.timed for group in contents.groups] == [True, False] and counted.ticks == [0, 1, 2, 3, 4]


def test_a_start_of_1904_is_none(tmp_path):
    told = waveform(-2_082_844_800 * SECOND)
    contents, (group,) = read(
        tmp_path, W.segment([W.entry("/'g'/'a'", W.index("f8", 2), told)], bytes(16), 4)
    )
    assert contents.start_ns is None and group.ticks == [0, 10_000_000]


@pytest.mark.parametrize("flags", [0, INTERLEAVED])
def test_of_a_segment_that_was_not_ended_the_whole_samples_are_taken(tmp_path, flags):
    def entry(name):
        return W.entry(f"/'g'/'{name}'", W.index("f8", 250), waveform())

    a, b = RNG.normal(size=(2, 500))
    first, second = (
        interleaved(a[k], b[k]) if flags else a[k].tobytes() + b[k].tobytes()
        for k in (slice(0, 250), slice(250, 500))
    )
    whole = W.segment([entry("a"), entry("b")], first, NEW_LIST | flags)
    for length, kept in ((UNENDED, 50 * 8 + 3), (len(second), 250 * 8 + 100 * 8)):
        content = whole + W.segment([W.entry("/'g'/'a'", SAME)], second[:kept], flags, length)
        contents, groups = read(tmp_path, content, 1 if flags else 2)
        assert "not ended" in contents.cut
        samples = [250 + min(250, kept // 8), 250 + max(0, kept // 8 - 250)]
        if flags:
            assert np.array_equal(groups[0].values, np.column_stack([a, b])[: 250 + kept // 16])
        else:
            assert np.array_equal(groups[0].values[:, 0], a[: samples[0]])
            assert np.array_equal(groups[1].values[:, 0], b[: samples[1]])
    contents, (group,) = read(tmp_path, whole + b"TDSm\x0e\0\0\0garbage")
    assert "no whole segment" in contents.cut and len(group.ticks) == 250


def test_an_increment_that_changes_and_a_type_that_does_are_left_out(tmp_path):
    entries = [
        W.entry("/'g'/'a'", W.index("f8", 2), waveform()),
        W.entry("/'g'/'b'", W.index("f8", 2), waveform()),
    ]
    later = [
        W.entry("/'g'/'a'", W.index("f8", 2), waveform(START_NS + SECOND, 0.02)),
        W.entry("/'g'/'b'", W.index("f4", 4), waveform(START_NS + SECOND)),
        W.entry("/'g'/'c'", W.index("u1", 2), waveform()),
    ]
    content = W.segment(entries, bytes(32), NEW_LIST) + W.segment(later, bytes(34), NEW_LIST)
    contents, _ = read(tmp_path, content)
    assert dict(contents.left_out) == {
        "g/a": "its wf_increment changes within the file",
        "g/b": "it is stored in one way first, and in another later",
    }


def polynomial(*factors):
    told = {f"Coefficients[{k}]": factor for k, factor in enumerate(factors)}
    return scale("Polynomial", Coefficients_Size=len(factors), **told)


TABLE = {f"Pre_Scaled_Values[{k}]": x for k, x in enumerate((10.0, 0.0, -5.0))} | {
    f"Scaled_Values[{k}]": y for k, y in enumerate((1.0, 2.0, 8.0))
}
CHAIN = {
    **scale("Linear", 0, 3, Slope=2.0, Y_Intercept=1.0),
    **scale("Linear", 1, 3, Slope=3.0, Y_Intercept=0.0),
    **scale("Add", 2, 3, Left_Operand_Input_Source=0, Right_Operand_Input_Source=1),
}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, lambda x: x),
        (LINEAR, lambda x: x * SCALE + OFFSET),
        (polynomial(1.0, 0.5, 0.25), lambda x: (0.25 * x + 0.5) * x + 1.0),
        (scale("Table", Pre_Scaled_Values_Size=3, Scaled_Values_Size=3, **TABLE),
         lambda x: np.interp(x, [-5, 0, 10], [8, 2, 1])),
        (CHAIN, lambda x: (x * 2 + 1) + x * 3),
        ({**LINEAR, "NI_Scaling_Status": "scaled"}, lambda x: x),
    ],
)  # fmt: skip
def test_scales_are_those_of_the_library(tmp_path, told, expected):
    nptdms = pytest.importorskip("nptdms")
    raw = RNG.integers(-20, 20, 100).astype("<i2")
    content = W.segment([W.entry("/'g'/'a'", W.index("i2", 100), told | waveform())], raw.tobytes(), NEW_LIST)
    _, (group,) = read(tmp_path, content)
    assert np.array_equal(group.values[:, 0], expected(raw.astype(float)))
    assert np.array_equal(group.values[:, 0], nptdms.TdmsFile.read(io.BytesIO(content))["g"]["a"][:])


def daqmx(told, lines=False, scalers=(("i2", 0, 2, 0), ("u2", 0, 6, 1))):
    raw = RNG.integers(0, 256, (40, 8)).astype(np.uint8)
    index = W.daqmx(40, scalers, [8], lines)
    return raw, W.segment([W.entry("/'g'/'a'", index, told | waveform())], raw.tobytes(), NEW_LIST | DAQMX)


def test_numbers_of_daqmx_are_scaled_or_refused(tmp_path):
    nptdms = pytest.importorskip("nptdms")
    cases = [
        (scale("Linear", 1, 2, Slope=0.5, Y_Intercept=2.0, Input_Source=0), False, [("i2", 0, 2, 0)]),
        (scale("Add", 2, 3, Left_Operand_Input_Source=0, Right_Operand_Input_Source=1), False,
         [("i2", 0, 2, 0), ("u2", 0, 6, 1)]),
        ({"NI_Number_Of_Scales": 1}, True, [("u1", 0, 27, 0)]),
    ]  # fmt: skip
    for told, lines, scalers in cases:
        _, content = daqmx(told, lines, scalers)
        _, (group,) = read(tmp_path, content)
        expected = nptdms.TdmsFile.read(io.BytesIO(content))["g"]["a"][:]
        assert np.array_equal(group.values[:, 0], expected.astype(float))
    for told, why in (
        ({}, "does not say how to scale"),
        (scale("Thermocouple", 1, 2), "kind 'Thermocouple'"),
        (scale("Linear", 1, 2, Slope=1.0, Y_Intercept=0.0, Input_Source=7), "not there before"),
        ({"NI_Number_Of_Scales": 4}, "not there"),
    ):
        contents, _ = read(tmp_path, daqmx(told)[1], 0)
        assert why in contents.left_out[0][1]


def test_cards_of_daqmx_are_stored_one_behind_the_other(tmp_path):
    nptdms = pytest.importorskip("nptdms")
    widths, raw = [4, 2], RNG.integers(0, 256, 3 * (20 * 4 + 20 * 2)).astype(np.uint8)
    told = {"NI_Number_Of_Scales": 1, **waveform()}
    entries = [
        W.entry(f"/'g'/'{name}'", W.daqmx(20, [("i2", card, at, 0)], widths), told)
        for name, card, at in (("a", 0, 0), ("b", 0, 2), ("c", 1, 0))
    ]
    content = W.segment(entries, raw.tobytes(), NEW_LIST | DAQMX)
    _, (group,) = read(tmp_path, content)
    file = nptdms.TdmsFile.read(io.BytesIO(content))
    assert np.array_equal(group.values, np.array([file["g"][name][:] for name in "abc"], float).T)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"TDSm", "it ends within"),
        (W.segment([W.entry("/'g'/'a'", SAME)], bytes(8), NEW_LIST), "stored as before, and was not"),
        (W.segment([W.entry("/'g'/'a'", W.pack("IIIQ", 20, 99, 1, 5))], bytes(8), NEW_LIST), "unknown type"),
        (W.segment([W.entry("g/a", W.index("i2", 4))], bytes(8), NEW_LIST), "path is 'g/a'"),
        (W.segment([W.entry("/'g'/'a'", W.index("i2", 4))], bytes(8), 4, 5), "metadata are cut"),
    ],
)
def test_what_is_no_tdms_is_an_error(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, content)


def test_a_recording_without_a_channel_is_an_error_that_says_why(tmp_path):
    path = tmp_path / "x.tdms"
    path.write_bytes(daqmx({})[1])
    with pytest.raises(UserError, match='nothing of it is a channel; "g/a": raw numbers of DAQmx'):
        open_rows(str(path), None)
    many = [W.entry(f"/'g'/'{k}'", W.index("u1", 1), waveform()) for k in range(4097)]
    path.write_bytes(W.segment(many, bytes(4097), NEW_LIST))
    with pytest.raises(UserError, match="has 4,097 channels; at most 4,096 are read"):
        open_rows(str(path), None)

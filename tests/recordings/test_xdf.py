"""XDF of the Lab Streaming Layer."""

import numpy as np
import pytest
from recorded import SECOND, START_NS, parts, read_whole, ticks_of
from xdf_bytes import (
    boundary,
    chunk,
    clock_offset,
    file_header,
    samples,
    stream_footer,
    stream_header,
    texts,
)

from streamrnn.errors import UserError

RNG = np.random.default_rng(8)
CLOCK = 5000.0  # s: what the recorder's clock says at the start
KINDS = ("float32", "int16", "double64")


def read(tmp_path, *content):
    path = tmp_path / "x.xdf"
    path.write_bytes(b"".join(content))
    return read_whole("xdf", path)


def recording(late=0.0):
    """Streams of three rates with a gap, each on a clock of its own, in chunks of 0.2 s, and events."""
    headers = [
        stream_header(k, f"s{k}", "ab"[:channels], rate, KINDS[k], ["uV"] * channels)
        for k, (rate, channels) in enumerate(((100, 2), (10, 1), (1, 1)))
    ]
    away = (100.0, -20.0, 0.0)
    body = [clock_offset(k, CLOCK - away[k], away[k]) for k in range(3)]
    expected, first = [], {}
    for block in (parts(0, 4), parts(6, 9)):
        for k, part in enumerate(block):
            expected.append((k, ticks_of(part), part.raw.astype(np.float64)))
            size = max(1, part.rate // 5)
            for begin in range(0, len(part.raw), size):
                some = slice(begin, begin + size)
                delay = late * abs(RNG.normal())
                stamps = [*(CLOCK - away[k] + part.seconds[some] + delay)]
                stamps[1:] = [None] * (len(stamps) - 1) if begin % (2 * size) else stamps[1:]
                body.append((part.seconds[begin], samples(k, KINDS[k], stamps, part.raw[some])))
                first.setdefault(k, stamps)
    late_ones = sorted((each for each in body if isinstance(each, tuple)), key=lambda each: each[0])
    chunks = [each for each in body if isinstance(each, bytes)] + [each for _, each in late_ones]
    chunks += [clock_offset(k, CLOCK - away[k] + 9, away[k]) for k in range(3)]
    events = [stream_header(9, "marks", ["m"], 0, "string"), texts(9, CLOCK + 1, "go"), boundary()]
    ends = [stream_footer(k) for k in (0, 1, 2, 9)]
    return [file_header("2026-03-04T05:06:07+0000"), *headers, *events, *chunks, *ends], expected


def bench(path):
    """Writes that recording; returns ticks and values of each rate."""
    content, expected = recording()
    path.write_bytes(b"".join(content))
    own = [[each for each in expected if each[0] == k] for k in range(3)]
    return [(a[1] + b[1], np.concatenate([a[2], b[2]])) for a, b in own]


def test_streams_come_to_the_recorders_clock_and_a_gap_begins_a_sequence(tmp_path):
    path = tmp_path / "x.xdf"
    expected = bench(path)
    contents, groups = read_whole("xdf", path)
    assert (contents.start_ns, contents.zoned, contents.cut) == (START_NS - START_NS % SECOND, True, "")
    assert contents.left_out == (("marks", "text: events"),)
    assert [group.name for group in contents.groups] == ["s0", "s1", "s2"]
    for k, group in enumerate(groups):
        assert group.ticks == expected[k][0] and np.array_equal(group.values, expected[k][1])
        assert group.begins == [(400, 40, 4)[k]] and set(group.units) == {"uV"}


def test_packets_that_are_late_make_no_gaps_and_times_are_even_between_gaps(tmp_path):
    content, expected = recording(late=0.01)
    _, (fast, *_) = read(tmp_path, *content)
    assert fast.begins == [400]
    ticks, true = np.array(fast.ticks), np.array(expected[0][1] + expected[3][1])
    for run in (slice(0, 400), slice(400, 700)):
        assert np.ptp(np.diff(ticks[run])) <= 1
    away = ticks - true
    assert np.abs(away - away.mean()).max() < 0.01 * SECOND


@pytest.mark.parametrize("lost", [1, 2, 40])
def test_a_sample_that_was_lost_is_seen(tmp_path, lost):
    stamps = CLOCK + np.arange(1000) / 250
    kept = np.delete(np.arange(1000), range(600, 600 + lost))
    content = [samples(1, "int16", stamps[some], some) for some in np.array_split(kept, 40)]
    _, (group,) = read(tmp_path, file_header(), stream_header(1, "a", ["x"], 250, "int16"), *content)
    assert group.begins == [600] and group.ticks == (kept * 4_000_000).tolist()


def test_clock_drift_and_offsets_are_those_of_pyxdf(tmp_path):
    pyxdf = pytest.importorskip("pyxdf")
    true = CLOCK + np.arange(2000) / 50
    own = true * (1 + 2e-5) - 77.0  # the sender's clock runs fast
    content = [file_header(), stream_header(1, "a", ["x"], 50, "float32")]
    for k in range(0, 2000, 25):
        content += [samples(1, "float32", own[k : k + 25], np.arange(k, k + 25))]
        if k % 250 == 0:
            content += [clock_offset(1, own[k], true[k] - own[k])]
    path = tmp_path / "x.xdf"
    path.write_bytes(b"".join(content))
    contents, (group,) = read_whole("xdf", path)
    (stream,), _ = pyxdf.load_xdf(str(path), dejitter_timestamps=False)
    theirs = stream["time_stamps"] - stream["time_stamps"][0]
    assert np.abs(np.array(group.ticks) / 1e9 - theirs).max() < 1e-6
    assert np.abs(np.array(group.ticks) / 1e9 - (true - true[0])).max() < 1e-6
    assert "not ended" in contents.cut


def test_a_clock_that_is_set_begins_a_sequence(tmp_path):
    true = CLOCK + np.arange(2000) / 50
    away = np.where(np.arange(2000) < 900, 100.0, 4000.0)  # the sender was started anew
    content = [file_header(), stream_header(1, "a", ["x"], 50, "float32")]
    for k in range(0, 2000, 25):
        if k % 100 == 0:
            content += [clock_offset(1, true[k] - away[k], away[k])]
        content += [samples(1, "float32", (true - away)[k : k + 25], np.arange(k, k + 25))]
    contents, (group,) = read(tmp_path, *content)
    assert group.begins == [900] and "clock of a was set" in contents.notes[-1]
    assert group.ticks == [k * 20_000_000 for k in range(2000)]


def test_irregular_streams_keep_their_stamps_even_backwards(tmp_path):
    stamps = [CLOCK + 1, CLOCK + 4.5, CLOCK + 4.25, CLOCK + 9]
    content = [
        file_header("2026-03-04T05:06:07"),
        stream_header(1, "odd", ["x"], 0, "int64"),
        samples(1, "int64", stamps, [1, 2, 3, 4]),
        stream_header(2, "odd", ["only"], 2, "int8"),
        samples(2, "int8", [CLOCK, None], [7, -8]),
    ]
    contents, (odd, other) = read(tmp_path, *content)
    assert odd.ticks == [SECOND, 4_500_000_000, 4_250_000_000, 9 * SECOND]
    assert other.ticks == [0, SECOND // 2] and other.values[:, 0].tolist() == [7, -8]
    assert [group.name for group in contents.groups] == ["odd (1)", "odd (2)"] and not contents.zoned
    assert any("no clock offsets of odd (1), odd (2)" in note for note in contents.notes)


def test_channels_without_labels_get_numbers_and_one_alone_the_streams_name(tmp_path):
    content = [
        stream_header(1, "eeg", ["", ""], 10, "float32"),
        samples(1, "float32", [CLOCK], [[1, 2]]),
        stream_header(2, "temp", [""], 10, "float32"),
        samples(2, "float32", [None, CLOCK], [[1], [2]]),
    ]
    contents, (eeg, temp) = read(tmp_path, file_header("nonsense"), *content)
    assert (eeg.names, temp.names) == (["c1", "c2"], ["temp"]) and contents.start_ns is None
    assert temp.values.tolist() == [[2]] and "1 samples before the first stamp" in contents.notes[-1]


def test_of_a_file_that_is_cut_the_whole_chunks_are_taken(tmp_path):
    content, _ = recording()
    whole = b"".join(content)
    path = tmp_path / "x.xdf"
    seen = set()
    for size in range(len(content[0]) + 5, len(whole), 611):
        path.write_bytes(whole[:size])
        try:
            contents, groups = read_whole("xdf", path)
        except UserError as error:
            assert "ends before the first of its streams" in str(error)
            continue
        assert contents.cut
        seen |= {len(group.ticks) for group in groups}
    assert len(seen) > 30


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (chunk(2, b"\1\0\0\0<info><name>"), "XML that cannot be read"),
        (chunk(2, b"\1\0\0\0<!DOCTYPE a [<!ENTITY b 'c'>]><info/>"), "defines entities"),
        (chunk(2, b"\1\0"), "a chunk of 2 bytes"),
        (stream_header(1, "a", ["x"], -5, "int8"), "-5.0 samples a second"),
        (stream_header(1, "a", ["x"], 5, "int12"), "'int12'"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error(tmp_path, bad, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, file_header(), bad)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (chunk(3, b"\1\0\0\0\4\xff\xff\xff\xff123"), "4,294,967,295 samples"),
        (chunk(3, b"\1\0\0\0\4\2\0\0\0\x09aaaaaaaaaaaaaaaa"), "a stamp of another size"),
        (samples(1, "int8", [float("nan"), float("inf")], [1, 2]), "a stamp that is no time"),
        (chunk(4, bytes([1, 0, 0, 0, 5, 6, 7])), "a clock offset of another size"),
        (chunk(3, b"\1\0\0\0" + bytes(17 << 20)), "at once"),
    ],
)
def test_what_follows_a_damaged_chunk_is_left_out_and_said(tmp_path, bad, said):
    good = samples(1, "int8", [CLOCK, CLOCK + 0.1], [5, 6])
    contents, (group,) = read(
        tmp_path, file_header(), stream_header(1, "a", ["x"], 10, "int8"), good, bad, good
    )
    assert said in contents.cut and group.values[:, 0].tolist() == [5, 6]

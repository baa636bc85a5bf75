"""EDF, EDF+ and BDF."""

from fractions import Fraction

import numpy as np
import pytest
from edf_bytes import Signal, edf
from recorded import SECOND, START_NS, read_whole

from streamrnn.errors import UserError

RNG = np.random.default_rng(3)
MINUTE_NS = START_NS - START_NS % SECOND  # whole seconds: what the header says


def signal(label, samples, records=5, physical=(-3000.0, 3000.0), digital=(-32768, 32767), unit="uV"):
    low, high = sorted(digital)
    return Signal(label, unit, physical, digital, RNG.integers(low, high + 1, (records, samples)))


def scaled(one):
    (low, high), (least, most) = one.physical, one.digital
    return [(d - least) * (high - low) / (most - least) + low for d in one.raw.reshape(-1).tolist()]


def bench(path):
    """Writes a recording of three rates in two pieces; returns ticks and values of each rate."""
    every = [signal(f"c{rate}", rate, 7) for rate in (100, 10, 1)]
    onsets = [0, 1, 2, 3, 6, 7, 8]
    path.write_bytes(edf(every, [f"+{onset}" for onset in onsets]))
    found = []
    for one, rate in zip(every, (100, 10, 1), strict=True):
        ticks = [onset * SECOND + k * SECOND // rate for onset in onsets for k in range(rate)]
        found.append((ticks, np.array(scaled(one))[:, None]))
    return found


def test_rates_scales_start_and_pieces_of_a_recording_with_gaps(tmp_path):
    every = [
        signal("fast", 100),
        signal("slow", 10, physical=(250.0, -250.0), unit="degC"),  # inverted
        signal("odd", 3, digital=(-100, 4000), unit="bar"),
        signal("fast 2", 100),
    ]
    path = tmp_path / "x.edf"
    path.write_bytes(edf(every, ["+0.25", "+1.25", "+5.5", "+6.5", "+7.5"]))
    contents, (fast, slow, odd) = read_whole("edf", path)
    assert (contents.said, contents.start_ns, contents.zoned) == ("EDF+", START_NS, False)
    assert contents.left_out == (("EDF Annotations", "annotations"),) and not contents.cut
    assert (fast.names, fast.units) == (["fast", "fast 2"], ["uV", "uV"])
    for group, rate, signals in (
        (fast, 100, (every[0], every[3])),
        (slow, 10, [every[1]]),
        (odd, 3, [every[2]]),
    ):
        onsets = [0, 1, Fraction(21, 4), Fraction(25, 4), Fraction(29, 4)]
        exact = [onset * SECOND + Fraction(k * SECOND, rate) for onset in onsets for k in range(rate)]
        assert all(abs(tick - time) <= Fraction(1, 2) for tick, time in zip(group.ticks, exact, strict=True))
        assert group.begins == [2 * rate]
        assert group.values.T.tolist() == [scaled(one) for one in signals]


def test_signals_are_those_that_pyedflib_wrote(tmp_path):
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path / "x.bdf"
    writer = pyedflib.EdfWriter(str(path), 2, file_type=pyedflib.FILETYPE_BDFPLUS)
    limits = {"physical_min": -500.5, "physical_max": 400.25, "digital_min": -8388608, "digital_max": 8388607}
    writer.setSignalHeaders(
        [
            {
                "label": "a",
                "dimension": "uV",
                "sample_frequency": 256,
                "transducer": "",
                "prefilter": "",
                **limits,
            },
            {
                "label": "b",
                "dimension": "mV",
                "sample_frequency": 20,
                "transducer": "",
                "prefilter": "",
                **limits,
            },
        ]
    )
    writer.writeSamples([RNG.uniform(-500, 400, 2560), RNG.uniform(-500, 400, 200)])
    writer.writeAnnotation(3.0, -1, "blink")
    writer.close()
    contents, groups = read_whole("edf", path)
    assert [group.units for group in groups] == [["uV"], ["mV"]] and contents.said == "BDF+"
    with pyedflib.EdfReader(str(path)) as reader:
        for k, (group, rate) in enumerate(zip(groups, (256, 20), strict=True)):
            np.testing.assert_allclose(group.values[:, 0], reader.readSignal(k), rtol=1e-12, atol=1e-10)
            assert group.ticks == [n * SECOND // rate for n in range(10 * rate)]


def test_plain_edf_has_no_annotations_and_every_year_its_century(tmp_path):
    for date, recording, kind, year in (
        ("04.03.26", "", "", "2026"),
        ("04.03.85", "", "", "1985"),
        ("04.03.84", "", "", "2084"),
        ("04.03.84", "Startdate 04-MAR-1984 X X X", "EDF+C", "1984"),
        ("30.02.26", "", "", "None"),
    ):
        path = tmp_path / "x.edf"
        path.write_bytes(edf([signal("a", 4)], kind=kind, date=date, recording=recording))
        contents, (group,) = read_whole("edf", path)
        start = contents.start_ns
        assert year == (str(np.datetime64(start, "ns"))[:4] if start is not None else "None")
        assert group.ticks == [k * SECOND // 4 for k in range(20)]


@pytest.mark.parametrize(("said", "kept"), [(-1, 3), (9, 3), (2, 2)])
def test_of_a_recording_under_way_or_cut_the_whole_records_are_taken(tmp_path, said, kept):
    one, path = signal("a", 50), tmp_path / "x.edf"
    content = edf([one], kind="", records=said)
    path.write_bytes(content[: 512 + 3 * 100 + 77])
    contents, (group,) = read_whole("edf", path)
    assert group.values[:, 0].tolist() == scaled(one)[: 50 * kept]
    assert {-1: "3 are whole", 9: "3 whole records of 9", 2: "2 records, 177 bytes"}[said] in contents.cut


def test_a_record_longer_than_what_is_read_at_once_comes_in_pieces(tmp_path):
    one = Signal("a", "uV", (-1.0, 1.0), (-32768, 32767), RNG.integers(-32768, 32768, (1, 2_200_000)))
    path = tmp_path / "x.edf"
    path.write_bytes(edf([one], kind="", duration="2200"))
    _, (group,) = read_whole("edf", path)
    assert group.pieces > 2 and group.ticks[-1] == 2_199_999_000_000
    assert group.values[::997, 0].tolist() == scaled(one)[::997]


def test_what_cannot_be_scaled_or_is_no_measurement_is_left_out(tmp_path):
    path = tmp_path / "x.bdf"
    signals = [
        signal("good", 4, digital=(-8388608, 8388607)),
        signal("Status", 4, digital=(-8388608, 8388607)),
        signal("flat", 4, physical=(0.0, 0.0)),
        signal("good", 4),
    ]
    path.write_bytes(edf(signals, kind="BDF"))
    contents, (group,) = read_whole("edf", path)
    assert [name for name, _ in contents.left_out] == ["Status", "flat"]
    assert group.names == ["good", "good (2)"]


@pytest.mark.parametrize(
    ("at", "text", "said"),
    [
        (184, "512     ", "says that it is 512"),
        (244, "x       ", "no number of seconds"),
        (252, "0   ", "number of signals"),
        (252, "9999", "says that it is 768"),
        (256 + 2 * 104, "abc     ", "physical minimum"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error(tmp_path, at, text, said):
    content = bytearray(edf([signal("a", 4), signal("b", 4)], kind=""))
    content[at : at + len(text)] = text.encode()
    path = tmp_path / "x.edf"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_whole("edf", path)
    for size in (100, 300):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match="damaged"):
            read_whole("edf", path)

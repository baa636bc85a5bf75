"""Files of every format with a byte that is another, or cut: an error or rows, soon, and little memory."""

import contextlib
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import test_formats_alike as alike
import test_mcap
import test_mdf
import test_tdms
import test_xdf
from edf_bytes import Signal, edf
from recorded import START_NS, Whole, read_whole
from tdms_bytes import INTERLEAVED, NEW_LIST, Writes, interleaved

from streamrnn.errors import UserError

SHORT, LONG = 90, 1000  # places where a file is damaged
PATIENCE_S = 20
MOST_KB = 300_000


def made(folder: Path) -> dict[str, bytes]:
    """A small file of each format, some of several kinds."""
    rng, w = np.random.default_rng(2), Writes()
    found = {}

    def file(name, write, *words):
        write(folder / name, *words)
        found[name] = (folder / name).read_bytes()

    rows, ns = alike.crank()[:40], np.arange(40, dtype=np.int64) * alike.PERIOD
    file("tdms", alike.tdms, rows, ns)
    told = test_tdms.waveform()
    entries = [w.entry(f"/'g'/'{kind}'", w.index(kind, 30), told | test_tdms.LINEAR) for kind in ("i2", "f8")]
    raw = interleaved(rng.integers(-9, 9, 30).astype("<i2"), rng.normal(size=30))
    found["tdms interleaved"] = w.segment(entries, raw, NEW_LIST | INTERLEAVED) + w.segment(
        [], raw, INTERLEAVED
    )
    found["tdms daqmx"] = test_tdms.daqmx({"NI_Number_Of_Scales": 1})[1]
    file("mdf", alike.mdf, rows, ns)
    file("mdf mixed", test_mdf.mixed_file)
    times = np.arange(10) / 10
    every = test_mdf.conversions()
    columns = [
        test_mdf.signal(name, np.arange(10, dtype=np.uint8), times, conversion=one)
        for name, (one, _) in every.items()
    ]
    found["mdf conversions"] = test_mdf.write(folder / "c.mf4", columns).read_bytes()
    file("mcap", alike.mcap, rows, ns)
    messages = [("/a", START_NS + k, {"x": k, "y": [k, -k]}) for k in range(40)]
    found["mcap plain"] = test_mcap.write(messages, **test_mcap.LAYOUTS["no chunks"])
    told_ros = [("/t", "cdr", "test/msg/T", "ros2msg", test_mcap.TWO)]
    ros = [("/t", START_NS + k, b"\0\1\0\0" + test_mcap.Bytes(True).message(k)) for k in range(5)]
    found["mcap ros"] = test_mcap.write(ros, told_ros, **test_mcap.LAYOUTS["no chunks"])
    found["xdf"] = b"".join(test_xdf.recording()[0])[:9000]
    one = Signal("a", "uV", (-1.0, 1.0), (-100, 100), rng.integers(-100, 100, (6, 7)))
    found["edf"] = edf([one, one], [f"+{k}" for k in (0, 1, 5, 6, 7, 9)])
    found["bdf"] = edf([one], kind="BDF", duration="0.3")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return made(tmp_path_factory.mktemp("made"))


KINDS = (
    *("tdms", "tdms interleaved", "tdms daqmx", "mdf", "mdf mixed", "mdf conversions"),
    *("mcap", "mcap plain", "mcap ros", "xdf", "edf", "bdf"),
)


@contextlib.contextmanager
def soon():
    """Raises TimeoutError for what takes long."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def groups_of(kind: str, path: Path) -> dict[str, Whole] | None:
    """The groups of a file by their names and those of their channels, None for an error."""
    with soon():
        try:
            contents, groups = read_whole(kind.split()[0].replace("bdf", "edf"), path)
        except UserError:
            return None
    names = [group.name for group in contents.groups]
    return {" ".join([name, *group.names]): group for name, group in zip(names, groups, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_byte_that_is_another_is_an_error_or_gives_rows(files, kind, tmp_path, pytestconfig):
    content, path, rng = files[kind], tmp_path / "x", np.random.default_rng(1)
    count = LONG if pytestconfig.getoption("--long") else SHORT
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    places = rng.permutation(len(content))[:count]
    for at, other in zip(places.tolist(), rng.integers(1, 256, len(places)).tolist(), strict=True):
        broken = bytearray(content)
        broken[at] ^= other
        path.write_bytes(broken)
        groups_of(kind, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KB


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_file_that_is_cut_anywhere_come_the_first_rows_or_an_error(files, kind, tmp_path, pytestconfig):
    content, path, rng = files[kind], tmp_path / "x", np.random.default_rng(1)
    count = LONG if pytestconfig.getoption("--long") else SHORT // 3
    path.write_bytes(content)
    whole = groups_of(kind, path)
    for size in rng.permutation(len(content))[:count].tolist():
        path.write_bytes(content[:size])
        found = groups_of(kind, path)
        for name, group in (found or {}).items():
            own = whole.get(name)
            if own is None:
                continue  # of channels that were read together, some have more samples now
            kept = len(group.ticks)
            assert group.ticks == own.ticks[:kept]
            assert np.array_equal(group.values, own.values[:kept], equal_nan=True)

"""Snapshots: what is written comes back bit for bit, and what is not whole is refused or told apart."""

import errno
import io
import json
import os
import random
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from daemons import DEADLINE_S
from neighbours import meanwhile
from safetensors import safe_open

from streamrnn.errors import UserError
from streamrnn.streams import snapshot as module
from streamrnn.streams.snapshot import (
    Snapshot,
    SnapshotError,
    read_from,
    read_snapshot,
    snapshots_in,
    write_snapshot,
    write_to,
)

pytest_plugins = ["disk"]

LAYOUT = {"words": 6, "input_at": 2}
STATE = {"fingerprint": "c0ffee", "layout": LAYOUT, "written_ns": 1_700_000_000_123_456_789, "count": 3}
ODD_BITS = [0x7FC00000, 0x7F800001, 0xFFFFDEAD, 0x80000000, 0x00000001, 0xFF800000]  # NaNs, -0, the smallest


def some(count: int = 3, written_ns: int = STATE["written_ns"], words: int = LAYOUT["words"]) -> Snapshot:
    """Streams with ids of every length and records of odd and random bits."""
    ids = np.zeros((count, 128), np.uint8)
    for row, raw in enumerate(ids):
        length = 1 + row % 127
        raw[:length] = ord("a") + row % 26
        raw[127] = length
    bits = np.random.default_rng(written_ns).integers(0, 1 << 32, (count, words), np.uint32)
    bits[:1, : len(ODD_BITS)] = ODD_BITS[:words]
    layout = LAYOUT | {"words": words}
    return Snapshot(STATE["fingerprint"], layout, written_ns, ids, bits.view(np.float32))


def as_bytes(snapshot: Snapshot) -> bytes:
    file = io.BytesIO()
    write_to(file, snapshot)
    return file.getvalue()


def assert_same(found: Snapshot, expected: Snapshot) -> None:
    for name in ("fingerprint", "layout", "written_ns"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.ids.dtype == np.uint8 and found.records.dtype == np.float32
    for a, b in ((found.ids, expected.ids), (found.records, expected.records)):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def refusal(data: bytes) -> str:
    """The message that refuses these bytes."""
    with pytest.raises(SnapshotError) as caught:
        read_from(io.BytesIO(data), "some file")
    assert isinstance(caught.value, UserError)
    text = str(caught.value)
    assert text.startswith("some file: ") and "; " in text, text
    return text


def header_of(state: dict[str, Any]) -> bytes:
    """A header that says ``state`` and agrees with itself, whatever a snapshot may be."""
    text = json.dumps(state)
    count, words = state["count"], state["layout"]["words"]
    end = [128 * count, (128 + 4 * words) * count]
    return framed(
        {
            "__metadata__": {
                "format": "streamrnn-state/2",
                "state": text,
                "check": f"{zlib.crc32(text.encode()):08x}",
            },
            "ids": {"dtype": "U8", "shape": [count, 128], "data_offsets": [0, end[0]]},
            "records": {"dtype": "F32", "shape": [count, words], "data_offsets": end},
        }
    )


def framed(header: Any) -> bytes:
    """A header, of an object or of its text, padded and behind its length."""
    raw = (header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode()
    raw += b" " * (-(len(raw) + 8) % 64)
    return len(raw).to_bytes(8, "little") + raw


def body_begins(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot_name(number: int) -> str:
    return f"snapshot-{number:08d}.safetensors"


# what is written


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_what_is_written_comes_back_bit_for_bit(tmp_path, count):
    snapshot = some(count)
    path = write_snapshot(tmp_path, snapshot)
    found = read_snapshot(path)
    assert_same(found, snapshot)
    for array in (found.ids, found.records):
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned


def test_arrays_may_be_strided_and_read_only():
    wide = some(8)
    ids, records = wide.ids[::2], np.asfortranarray(wide.records[::2])
    ids.flags.writeable = records.flags.writeable = False
    expected = Snapshot(wide.fingerprint, wide.layout, wide.written_ns, ids, records)
    assert_same(read_from(io.BytesIO(as_bytes(expected)), ""), expected)


@pytest.mark.parametrize("count", [0, 3])
def test_the_safetensors_library_reads_it(tmp_path, count):
    snapshot = some(count)
    path = write_snapshot(tmp_path, snapshot)
    tensors = safetensors.numpy.load_file(path)
    assert tensors.keys() == {"ids", "records"}
    assert_same(Snapshot(snapshot.fingerprint, LAYOUT, snapshot.written_ns, **tensors), snapshot)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "streamrnn-state/2"
    assert json.loads(metadata["state"]) == STATE | {"count": count}


def test_the_bytes_are_those_of_the_format():
    data = as_bytes(some())
    begin = body_begins(data)
    assert data[:begin] == header_of(STATE)
    assert begin % 64 == 0
    assert data[begin:] == some().ids.tobytes() + some().records.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"ids": np.zeros((3, 127), np.uint8)},
        {"ids": np.zeros((3, 128), np.int8)},
        {"records": np.zeros((2, 6), np.float32)},
        {"records": np.zeros((3, 5), np.float32)},
        {"records": np.zeros((3, 6), np.float64)},
        {"layout": {"input_at": 1}},
        {"layout": {"words": np.int64(6)}},
        {"fingerprint": "not hex"},
        {"written_ns": -1},
    ],
    ids=str,
)
def test_what_could_not_be_read_is_not_written(tmp_path, change):
    with pytest.raises(ValueError, match="expected"):
        write_snapshot(tmp_path, Snapshot(**vars(some()) | change))
    assert names_in(tmp_path) == []


def test_through_a_pipe():
    snapshot = some(5000)  # much more than a pipe holds
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            write_to(file, snapshot)

    with os.fdopen(reader, "rb") as file, meanwhile(write):
        assert_same(read_from(file, "a pipe"), snapshot)


def test_neither_way_copies_the_whole():
    snapshot = some(20_000, words=304)
    size = snapshot.ids.nbytes + snapshot.records.nbytes
    with Path(os.devnull).open("wb") as nowhere:
        tracemalloc.start()
        try:
            write_to(nowhere, snapshot)
            written = tracemalloc.get_traced_memory()[1]
            file = io.BytesIO(as_bytes(snapshot))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            read_from(file, "")
            read = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert written < 100_000
    assert read < 1.25 * size


# what is refused


def test_a_flipped_byte_of_the_header_is_a_refused_file():
    data = as_bytes(some())
    for at in range(body_begins(data)):
        for mask in (0xFF, *(1 << bit for bit in range(8))):
            refusal(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])


def test_a_flipped_byte_of_the_body_changes_that_byte_alone():
    data = as_bytes(some())
    begin = body_begins(data)
    for at in range(begin, len(data)):
        found = read_from(io.BytesIO(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]), "")
        body = bytearray(found.ids.tobytes() + found.records.tobytes())
        body[at - begin] ^= 0xFF
        assert body == data[begin:]


@pytest.mark.parametrize("count", [0, 3])
def test_cut_at_any_length_it_is_refused(count):
    data = as_bytes(some(count))
    for length in range(len(data)):
        assert "cut short" in refusal(data[:length])


@pytest.mark.parametrize("count", [0, 3])
def test_bytes_after_its_end_are_refused(count):
    data = as_bytes(some(count))
    for more in (b"\0", b" ", data):
        assert "longer than" in refusal(data + more)


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": 1 << 60},
        {"count": 1 << 80},
        {"count": True},
        {"written_ns": -1},
        {"written_ns": 1.5},
        {"written_ns": "now"},
        {"layout": {"words": 0}},
        {"layout": {"words": -6}},
        {"layout": {"words": True}},
        {"layout": {"words": 6, "\x1b[31m": 1}},
        {"layout": {"words": 6, "input_at": None}},
        {"fingerprint": ""},
        {"fingerprint": 7},
        {"fingerprint": "\x1b[31m"},
        {"fingerprint": "\ud800"},
        {"more": 1},
    ],
    ids=ascii,
)
def test_a_header_that_agrees_with_itself_is_not_believed_alone(change):
    def whole(state: dict[str, Any]) -> bytes:
        size = state["count"] * (128 + 4 * state["layout"]["words"])
        return header_of(state) + bytes(size if 0 < size < 10_000 else 0)

    assert len(read_from(io.BytesIO(whole(STATE)), "").ids) == STATE["count"]
    refusal(whole(STATE | change))


def test_other_texts_of_the_same_state_are_refused():
    text = json.dumps(STATE)
    body = as_bytes(some())[body_begins(as_bytes(some())) :]
    nested = "[" * 20_000
    for other in (
        text + " ",
        text.replace('"count"', '"count": 0, "count"'),
        text.replace('{"words"', '{"words": 1, "words"'),
        text.replace('"count": 3', '"count": 3.0'),
        text.replace('"count": 3', f'"count": {"3" * 5000}'),
        text.replace('"count": 3', '"count": NaN'),
        text.replace(json.dumps(LAYOUT), "[6, 2]"),
        *("", "null", "[]", "[1, 2, 3, 4]", '"text"', nested, nested + "]" * len(nested)),
        "\ud800",
    ):
        assert other != text
        metadata = {
            "format": "streamrnn-state/2",
            "state": other,
            "check": f"{zlib.crc32(other.encode(errors='replace')):08x}",
        }
        whole = json.loads(header_of(STATE)[8:])
        refusal(framed(whole | {"__metadata__": metadata}) + body)


def test_other_headers_of_the_same_state_are_refused():
    data = as_bytes(some())
    begin = body_begins(data)
    text = data[8:begin].decode()
    for other in (
        " " + text,
        text + " " * 64,
        text.replace('"format"', '"format":"streamrnn-state/2","format"'),
        text.replace('"ids"', '"ids":{},"ids"'),
        text.replace('"check"', '"more":"","check"'),
        *("", "{}", "null", "[]", '{"__metadata__":null}', '{"__metadata__":{"format":"streamrnn-state/2"}}'),
        '{"__metadata__":' + "[" * 60_000,
        '{"__metadata__":{"format":' + "[" * 30_000 + "]" * 30_000 + "}}",
    ):
        assert other != text
        refusal(framed(other) + data[begin:])
    refusal(data[:8] + text.encode("utf-16-le")[: len(text)] + data[begin:])


def test_another_format_is_named():
    text = header_of(STATE)[8:].decode()
    assert "its format is 'streamrnn-state/1'" in refusal(framed(text.replace("state/2", "state/1")))
    assert r"its format is '\x1b" in refusal(framed(text.replace("streamrnn-state/2", r"\u001b" * 1000)))


@pytest.mark.parametrize("length", [(1 << 16) + 1, 1 << 32, (1 << 64) - 1])
def test_a_header_of_any_length_is_not_read(length):
    assert "not a snapshot" in refusal(length.to_bytes(8, "little") + b"{" * 100)


def test_a_size_is_believed_only_as_far_as_bytes_come():
    data = header_of(STATE | {"count": 1 << 40}) + bytes(1000)
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    tracemalloc.start()
    try:
        assert "1,000 bytes follow" in refusal(data)
        with os.fdopen(reader, "rb") as file, pytest.raises(SnapshotError, match="cut short"):
            read_from(file, "a pipe")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "missing", "no such file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(SnapshotError, match=what) as caught:
            read_snapshot(path)
        assert str(caught.value).startswith(f"{path}: ")


# the folder


def test_the_two_newest_are_kept_and_numbers_go_on(tmp_path):
    for number in range(1, 6):
        path = write_snapshot(tmp_path, some(written_ns=number))
        assert path == tmp_path / snapshot_name(number)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        kept = [path.name for path in snapshots_in(tmp_path)]
        assert kept == [snapshot_name(n) for n in (number, number - 1) if n > 0]
        assert names_in(tmp_path) == sorted(kept)
    assert [read_snapshot(path).written_ns for path in snapshots_in(tmp_path)] == [5, 4]


def test_numbers_count_beyond_their_digits_and_files_that_cannot_be_read(tmp_path):
    (tmp_path / snapshot_name(99_999_999)).write_bytes(b"not a snapshot")
    assert write_snapshot(tmp_path, some()).name == "snapshot-100000000.safetensors"
    assert [path.name for path in snapshots_in(tmp_path)] == [
        "snapshot-100000000.safetensors",
        "snapshot-99999999.safetensors",
    ]


def test_stale_temporary_files_go_and_other_files_stay(tmp_path):
    others = [
        *("lock", ".snapshot", "snapshot-1.safetensors", "snapshot-00000001.safetensors.bak"),
        *("snapshot-0000000x.safetensors", "my-snapshot-00000001.safetensors", ".snapshot-abc.tmp"),
        "snapshot-٠٠٠٠٠٠٠٩.safetensors",  # digits, but not ours
    ]
    for name in (*others, ".snapshot-0a_9z8yx.tmp"):
        (tmp_path / name).write_bytes(b"some bytes")
    path = write_snapshot(tmp_path, some())
    assert path.name == snapshot_name(1)
    assert snapshots_in(tmp_path) == [path]
    assert names_in(tmp_path) == sorted([*others, path.name])


def test_a_folder_that_is_missing_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_snapshot(tmp_path / "missing", some())
    with pytest.raises(FileNotFoundError):
        snapshots_in(tmp_path / "missing")


class Calls:
    """What is asked of the kernel about a folder, in order; one of them can be made to fail.

    A step is "fsync", "fsync folder", "rename" or "remove", and a file by its name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.steps: list[tuple[str, str]] = []
        self.fails: tuple[str, int] | None = None  # a step and which of them, the first being 0
        self.synced: dict[str, int] = {}  # files, to their sizes when fsync was called
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(target: Any, *more: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            step = {"replace": "rename", "unlink": "remove"}.get(call.__name__, "fsync")
            if step == "fsync" and path.is_dir():
                step = "fsync folder"
            elif step == "fsync":
                self.synced[path.name] = path.stat().st_size
            before = [done for done, _ in self.steps].count(step)
            self.steps.append((step, path.name))
            if self.fails == (step, before):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return call(target, *more, **options)

        return watched


def test_each_step_is_on_the_disk_before_what_relies_on_it(tmp_path, monkeypatch):
    for number in (1, 2):
        write_snapshot(tmp_path, some(written_ns=number))
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        write_snapshot(tmp_path, some(written_ns=3))
    [(temporary, size)] = calls.synced.items()
    assert size == len(as_bytes(some(written_ns=3)))
    assert re.fullmatch(r"\.snapshot-\w{8}\.tmp", temporary)
    folder = ("fsync folder", tmp_path.name)
    moved, removed = ("rename", temporary), ("remove", snapshot_name(1))
    # what comes to nothing: the temporary file has been renamed by then
    steps = [step for step in calls.steps if step != ("remove", temporary)]
    assert steps == [folder, ("fsync", temporary), moved, folder, removed]


def half(file: Any, snapshot: Snapshot, settle: object) -> None:
    """Writes the first half, and finds the disk broken."""
    data = as_bytes(snapshot)
    file.write(data[: len(data) // 2])
    file.flush()
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("step", "which", "stays"),
    [
        ("write", 0, False),
        ("fsync", 0, False),
        ("rename", 0, False),
        ("fsync folder", 0, False),  # before the new file is begun
        ("fsync folder", 1, True),  # after the new file has its name
    ],
)
def test_eio_reaches_the_caller_and_costs_one_snapshot_at_most(tmp_path, monkeypatch, step, which, stays):
    before = [write_snapshot(tmp_path, some(written_ns=number)) for number in (1, 2)]
    with monkeypatch.context() as patch:
        failing = Calls(patch)
        failing.fails = (step, which)
        if step == "write":
            patch.setattr(module, "write_to", half)
        with pytest.raises(OSError) as caught:
            write_snapshot(tmp_path, some(written_ns=3))
        assert caught.value.errno == errno.EIO
    # nothing that was there is touched; a snapshot with its name is whole, though the disk may forget it
    assert [read_snapshot(path).written_ns for path in before] == [1, 2]
    there = [3, 2, 1] if stays else [2, 1]
    assert names_in(tmp_path) == sorted(map(snapshot_name, there))
    assert [read_snapshot(path).written_ns for path in snapshots_in(tmp_path)] == there

    with monkeypatch.context() as patch:
        calls = Calls(patch)
        path = write_snapshot(tmp_path, some(written_ns=4))
    assert path.name == snapshot_name(4 if stays else 3)
    assert calls.synced and calls.synced.keys().isdisjoint(failing.synced)
    assert_same(read_snapshot(path), some(written_ns=4))
    assert names_in(tmp_path) == sorted([path.name, snapshot_name(there[0])])


def test_a_folder_that_never_reaches_the_disk_does_not_fill_it(tmp_path, monkeypatch):
    write_snapshot(tmp_path, some(written_ns=1))
    for number in range(2, 6):
        with monkeypatch.context() as patch:
            Calls(patch).fails = ("fsync folder", 1)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                write_snapshot(tmp_path, some(written_ns=number))
        found = snapshots_in(tmp_path)
        assert len(found) <= 3
        assert [read_snapshot(path).written_ns for path in found][:2] == [number, number - 1]


def of_size(size: int, written_ns: int = 3) -> Snapshot:
    """A snapshot of somewhat more than ``size`` bytes."""
    return some(1 + size // (128 + 4 * LAYOUT["words"]), written_ns)


def assert_a_failed_one_costs_nothing(folder: Path, big: Snapshot, *problems: int) -> None:
    """``big`` fails with an errno of ``problems``, again and again; two older snapshots are as they were."""
    before = [write_snapshot(folder, some(written_ns=number)) for number in (1, 2)]
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            write_snapshot(folder, big)
        assert caught.value.errno in problems
        assert [name for name in names_in(folder) if "snapshot" in name] == [path.name for path in before]
        assert [read_snapshot(path).written_ns for path in before] == [1, 2]


def test_a_full_disk(small_folder):
    size = shutil.disk_usage(small_folder).free
    assert_a_failed_one_costs_nothing(small_folder, of_size(size), errno.ENOSPC)
    (small_folder / ".snapshot-abcdefgh.tmp").write_bytes(bytes(size * 3 // 4))  # a killed writer's
    path = write_snapshot(small_folder, of_size(size // 2))
    assert_same(read_snapshot(path), of_size(size // 2))


def test_a_disk_that_fails_only_at_fsync(thin_folder):
    big = of_size(shutil.disk_usage(thin_folder).free // 2)
    assert_a_failed_one_costs_nothing(thin_folder, big, errno.ENOSPC, errno.EIO)


def test_a_write_beyond_the_size_that_files_may_have(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        assert_a_failed_one_costs_nothing(tmp_path, of_size(150_000), errno.EFBIG)  # Python ignores SIGXFSZ
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path = write_snapshot(tmp_path, of_size(150_000))
    assert_same(read_snapshot(path), of_size(150_000))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from streamrnn.streams.snapshot import Snapshot, write_snapshot

number = int(sys.argv[2])
while True:
    number += 1
    records = np.full((500, 64), number, np.uint32).view(np.float32)
    ids = np.full((500, 128), number % 256, np.uint8)
    write_snapshot(Path(sys.argv[1]), Snapshot("ab", {"words": 64}, number, ids, records))
    print(number, flush=True)
"""


def test_killed_at_any_moment_every_snapshot_is_whole(tmp_path):
    number = 0
    moments = random.Random(0)
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(number)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(moments.uniform(0, 0.02))  # not to wait for anything: the moment is what is random
            process.kill()
            said += process.stdout.read()
            process.wait(DEADLINE_S)
        last = int(said.split()[-1])
        found = [read_snapshot(path) for path in snapshots_in(tmp_path)]
        assert {name for name in names_in(tmp_path) if not name.startswith(".")} == {
            snapshot_name(snapshot.written_ns) for snapshot in found
        }
        number = found[0].written_ns
        assert number in (last, last + 1)
        for snapshot in found:
            assert (snapshot.records.view(np.uint32) == snapshot.written_ns).all()
            assert (snapshot.ids == snapshot.written_ns % 256).all()
    path = write_snapshot(tmp_path, some())
    assert names_in(tmp_path) == [snapshot_name(number), path.name]

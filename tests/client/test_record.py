"""Recording beside real publishers: what is in the files is what came."""

import json
import os
import re
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zmq
from daemons import DEADLINE_S, wait_for
from neighbours import bound, command, meanwhile
from tables import T0, read

from streamrnn.adapters.adapter import Message
from streamrnn.client.record import Recorder, RecordOptions, RecordSummary, record
from streamrnn.errors import UserError
from streamrnn.settings.sections import Input
from streamrnn.table import record_files
from streamrnn.table.record_files import Rotation
from streamrnn.wire.frame import RESET, pack_frame

NOWHERE = "tcp://127.0.0.1:1"
PLANT = "plant/{stream}/{channel}"


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def recorded(context, tmp_path) -> Callable[..., tuple[Path, RecordSummary]]:
    """Publishes messages to a ``record`` that ends after ``rows``: its file, and what it found."""

    def publish(
        messages: list[list[bytes]], rows: int, name: str = "out.csv", **options: Any
    ) -> tuple[Path, RecordSummary]:
        publisher, endpoint = bound(context, zmq.XPUB, sndhwm=0)
        told = {key: options.pop(key) for key in [*options] if key in Input.model_fields}
        found: list[RecordSummary] = []
        path = tmp_path / name
        asked = RecordOptions(Input(connect=(endpoint,), **told), str(path), rows=rows, **options)
        with meanwhile(lambda: found.append(record(asked))):
            publisher.recv()
            for message in messages:
                publisher.send_multipart(message)
        publisher.close()
        return path, found[0]

    return publish


def refusal(path: Path, settings: dict[str, Any] | None = None, **options: Any) -> str:
    """Why nothing can be recorded so."""
    asked = RecordOptions(Input(connect=(NOWHERE,), **(settings or {})), str(path), seconds=0.1, **options)
    with pytest.raises(UserError) as caught:
        record(asked)
    return str(caught.value)


def at(place: int) -> int:
    """The time of a row: not of whole microseconds."""
    return T0 + place * 10**7 + 1


def test_json_rows_and_what_is_read_of_them(recorded):
    """Exact times and values, keys within keys, and what is no row."""
    rows = np.random.default_rng(0).normal(0, 10, (40, 2))
    said = [
        {"time": at(place), "t": row[0], "in": {"p": row[1]}, "note": "text", "id": "x"}
        for place, row in enumerate(rows.tolist())
    ]
    messages = [[b"m%d" % (place % 2), json.dumps(one).encode()] for place, one in enumerate(said)]
    messages[3:3] = [[b"m1", b"no JSON"], [b"m1", b'{"t": "text"}'], [b"m1", b'{"t": Infinity}']]
    path, summary = recorded(messages, 40, format="json")
    table = read(path)
    assert table.reader.channels == ["t", "in.p"]
    assert table.rows.values.tolist() == rows.astype(np.float32).tolist()
    assert table.rows.ts_ns.tolist() == [at(place) for place in range(40)]
    assert path.read_text().splitlines()[1].split(",")[2] == repr(said[0]["t"])
    assert (summary.rows, summary.streams, summary.channels) == (40, 2, 2)
    assert summary.rejected == {"syntax": 1, "value": 1, "infinite": 1}


def test_rows_of_msgpack_and_lists(recorded):
    messages = [[b"m1", msgpack.packb([place, 0.1])] for place in range(4)]
    path, _ = recorded(messages, 4, format="msgpack")
    lines = path.read_text().splitlines()
    assert lines[0] == "stream,time,seq,c1,c2"  # numbered, as several come at once and say no time
    assert [line.split(",")[2:4] for line in lines[1:]] == [[str(place), str(place)] for place in range(4)]


def test_frames_are_written_as_short_as_they_are_exact_and_their_numbers_go_on(recorded):
    one = np.array([[0.1, 1e-7], [2, np.nan]], np.float32)
    messages = [
        [b"m1", pack_frame(one, seq=7, ts_ns=T0, dt_ns=10**9)],
        [b"m2", pack_frame(one[:1])],
        [b"m1", pack_frame(np.array([[3, -4]], np.int16), seq=2, ts_ns=T0 + 10**10, flags=RESET)],
        [b"m1", pack_frame(np.array([[0.1, 0.2]]), seq=3, ts_ns=T0 + 10**10)],
        [b"m1", pack_frame(np.zeros((1, 3), np.float32))],
        [b"m1", b"SR"],
        [b"m1", struct.pack("<2sBBHHQqq", b"SR", 2, 1, 0, 1, 0, 0, 0)],
        [b"m2", pack_frame(one[:1])],
    ]
    path, summary = recorded(messages, 6)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert lines[0] == ["stream", "time", "seq", "c1", "c2"]
    assert [line[:1] + line[2:3] for line in lines[1:]] == [
        *(["m1", "7"], ["m1", "8"], ["m2", "0"], ["m1", "9"], ["m1", "10"], ["m2", "1"])
    ]
    assert [float(line[3]) for line in lines[1:]] == pytest.approx([0.1, 2, 0.1, 3, 0.1, 0.1])
    assert lines[2][1:] == ["2020-02-08 13:30:48.000000000Z", "8", "2", ""]
    assert summary.rejected == {"channels": 1, "truncated": 1, "version": 1}


def test_parquet_takes_frames_of_any_type(recorded):
    messages = [
        [b"m1", pack_frame(np.array([0.1], dtype), seq=k)] for k, dtype in enumerate(("<f4", "<f8", "<i4"))
    ]
    path, _ = recorded(messages, 3, "out.parquet")
    assert pq.read_table(path)["c1"].to_pylist() == [float(np.float32(0.1)), 0.1, 0]


def test_float32_has_its_own_digits(recorded):
    path, _ = recorded([[b"m1", np.array([0.1, 1 / 3], "<f4").tobytes()]], 1, format="raw")
    header, line = path.read_text().splitlines()
    assert header == "stream,time,seq,c1,c2"
    assert line.split(",")[3:] == ["0.1", "0.33333334"]


def test_single_values_are_a_long_table_in_the_order_in_which_they_came(recorded):
    order = np.random.default_rng(1).permutation(30).tolist()
    messages = [
        [f"plant/m1/s{place % 3}".encode(), json.dumps({"value": place / 7, "time": at(place)}).encode()]
        for place in order
    ]
    messages[5:5] = [[b"other", b"1"], [b"plant/m1/s1", b'"x"'], [b"plant/m1/s1", b"Infinity"]]
    path, summary = recorded(messages, 30, "out.parquet", format="json", topic=PLANT)
    table = pq.read_table(path)
    assert table.column_names == ["time", "stream", "channel", "value"]
    assert table["value"].to_pylist() == [place / 7 for place in order]
    assert table["channel"].to_pylist() == [f"s{place % 3}" for place in order]
    assert table["time"].cast(pa.int64()).to_pylist() == [at(place) for place in order]
    assert summary.rejected == {"topic": 1, "value": 1, "infinite": 1}
    assert (summary.values, summary.channels, summary.streams) == (True, 3, 1)


def test_what_is_told_of_channels(recorded, capsys):
    messages = [[b"m1", json.dumps({"x": {"a": place}, "b": 2, "c": 3}).encode()] for place in range(3)]
    path, _ = recorded(messages, 3, format="json", channels=("b", "a"), fields={"a": "x.a"})
    assert path.read_text().splitlines()[0] == "stream,time,seq,b,a"
    assert capsys.readouterr().err == ""
    assert 'a channel "seq" cannot be recorded' in refusal(path, channels=("seq",))


def test_a_channel_that_comes_later_is_named_once_as_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("streamrnn.client.record.LOOK_S", 0.0)
    monkeypatch.setattr("streamrnn.client.record._AGAIN_S", 0.0)
    path = tmp_path / "out.csv"
    recorder = Recorder(RecordOptions(Input(connect=(NOWHERE,), format="json"), str(path)))
    for payload in (b'{"a": 1}', b'{"a": 1, "late": 2}', b'{"a": 1, "late": 2}'):
        recorder.take([Message(None, (b"m1", payload), T0)])
    recorder.finish()
    assert capsys.readouterr().err.count('left out: "late"') == 1
    assert len(path.read_text().splitlines()) == 4


def test_files_rotate_in_a_folder_and_hold_everything(recorded):
    messages = [[b"m1", json.dumps([place, "x" * 3][:1] * 3).encode()] for place in range(20_000)]
    folder, summary = recorded(messages, 20_000, "out", format="json", rotation=Rotation(size=300_000))
    files = sorted(folder.iterdir(), key=lambda path: summary.files.index(str(path)))
    assert len(files) > 1
    values = np.concatenate([pa_csv.read_csv(path)["c1"].to_numpy() for path in files])
    assert values.tolist() == list(range(20_000))


def test_what_cannot_be_written(recorded, tmp_path):
    there = tmp_path / "there.csv"
    there.write_text("kept")
    assert re.search(r"there\.csv: is there already; .*--force", refusal(there))
    assert there.read_text() == "kept"
    assert "recordings are csv or parquet" in refusal(tmp_path / "out.ndjson")
    assert "files that rotate need a folder" in refusal(there, rotation=Rotation(1.0))
    assert "No such file" in refusal(tmp_path / "nowhere/out.csv")
    assert 'messages of format "gnuradio" do not say' in refusal(there, {"format": "gnuradio"}, force=True)
    recorded([[b"m1", b"[1]"]], 1, "there.csv", format="json", force=True)
    assert there.read_text().startswith("stream,time,seq,c1\nm1,")
    assert "packed files are not written" in refusal(tmp_path / "out.csv.gz")


def test_a_full_disk_keeps_whole_lines(tmp_path, monkeypatch):
    room = [10_000]

    def write(handle: int, lines: memoryview) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = min(room[0], len(lines))
        room[0] -= count
        return os.pwrite(handle, lines[:count], os.fstat(handle).st_size)

    monkeypatch.setattr(record_files, "_FLUSH_BYTES", 4000)
    monkeypatch.setattr(record_files.os, "write", write)
    monkeypatch.setattr(record_files, "FLUSH_S", 0.0)
    batch, name = pa.RecordBatch.from_pydict({"a": [1.5] * 1000}), tmp_path / "out.csv"
    files = record_files.RecordFiles(str(name), None, None)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        for _ in range(10):
            files.write(batch)
    assert files.rows == 2000
    assert name.read_text() == "a\n" + "1.5\n" * 2000


class Running:
    """``streamrnn record`` in a process of its own, beside a publisher that it has found."""

    def __init__(self, context: zmq.Context, *words: str | Path):
        self.publisher, endpoint = bound(context, zmq.XPUB)
        self.process = command("record", endpoint, *words)
        self.publisher.recv()

    def send(self, rows: int) -> None:
        for place in range(rows):
            self.publisher.send_multipart([b"m1", json.dumps({"time": at(place), "a": place % 7}).encode()])

    def end(self, number: int) -> tuple[str, str]:
        self.process.send_signal(number)
        return self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def running(context) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(*words: str | Path) -> Running:
        made.append(Running(context, *words))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
        each.publisher.close()


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(running, tmp_path, number):
    path = tmp_path / "out.parquet"
    each = running("--format", "json", "-o", path, "--json")
    each.send(10)
    assert each.process.stderr and "recording 1 channel" in each.process.stderr.readline()
    out, said = each.end(number)
    assert each.process.returncode == 0, said
    summary = json.loads(out)
    assert summary["rows"] == 10 and summary["streams"] == 1
    assert read(path).rows.values[:, 0].tolist() == [place % 7 for place in range(10)]


def test_a_kill_costs_what_was_not_flushed(running, tmp_path):
    path = tmp_path / "out.csv"
    each = running("--format", "json", "-o", path)
    each.send(100)
    wait_for(lambda: lines_of(path) == 101, "the rows in the file")
    each.end(signal.SIGKILL)
    assert read(path).rows.values[:, 0].tolist() == [place % 7 for place in range(100)]


def test_standard_output_can_be_piped(running):
    each = running("--format", "json", "-o", "-", "--rows", "5")
    each.send(10)
    out, said = each.process.communicate(timeout=DEADLINE_S)
    assert len(out.splitlines()) == 6
    assert "recorded 5 rows of 1 stream" in said


def test_silence_is_said(context, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("streamrnn.client.subscription.SILENT_S", 0.1)
    publisher, endpoint = bound(context, zmq.XPUB)
    options = RecordOptions(Input(connect=(endpoint,)), str(tmp_path / "out.csv"), seconds=0.6)
    assert record(options).rows == 0
    publisher.close()
    said = capsys.readouterr().err
    assert f"nothing has come of {endpoint} in 0.1 s: somebody is there" in said
    assert not (tmp_path / "out.csv").exists()


def test_numbers_of_frames_without_end_stay_numbers(recorded):
    """A source that begins anew beyond the largest number, again and again."""
    row = np.zeros(1, np.float32)
    messages = [[b"m1", pack_frame(row, seq=seq, flags=RESET)] for seq in (2**62, 0, 2**62, 0, 2**62, 5)]
    path, summary = recorded(messages, 6, "out.parquet")
    assert summary.rows == 6
    assert max(pq.read_table(path)["seq"].to_pylist()) == 2**62


def test_bytes_of_msgpack_where_single_values_should_be(recorded):
    messages = [[b"m/a", msgpack.packb(b"1234")], [b"m/a", msgpack.packb(1)]]
    path, summary = recorded(messages, 1, format="msgpack", topic="{stream}/{channel}")
    assert (summary.rows, summary.rejected) == (1, {"channels": 1})
    assert path.read_text().endswith(",m,a,1\n")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b", "\x1b[31mred", " a", "a ", "x" * 128])
def test_names_that_a_file_would_not_give_back_are_refused(recorded, name):
    said = [json.dumps({name: 1, "b": 2, "time": at(place)}).encode() for place in range(2)]
    path, _ = recorded([[b"m1", one] for one in said], 2, format="json")
    assert path.read_text().splitlines()[0] == "stream,time,b"
    single = [[f"m1/{channel}".encode(), b"1"] for channel in (name, "b")]
    path, summary = recorded(single, 1, "long.csv", format="json", topic="{stream}/{channel}")
    assert (summary.rows, summary.rejected) == (1, {"channel": 1})
    if "/" not in name and len(name) < 128:
        frames = [[stream.encode(), pack_frame(np.zeros(1, np.float32), seq=0)] for stream in (name, "m1")]
        path, summary = recorded(frames, 1, "frames.csv")
        assert (summary.rows, summary.rejected) == (1, {"stream": 1})


def test_a_file_is_replaced_only_by_what_came(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("kept")
    assert refusal_or_nothing(path, force=True) == ""
    assert path.read_text() == "kept"


def refusal_or_nothing(path: Path, **options: Any) -> str:
    """What is said of a recording of nothing; "" where that is well."""
    asked = RecordOptions(Input(connect=(NOWHERE,), format="json"), str(path), seconds=0.1, **options)
    summary = record(asked)
    assert summary.files == []
    return "" if not summary.rows else summary.text()


@pytest.mark.parametrize("kind", record_files.KINDS)
def test_two_recorders_of_one_folder_write_no_file_twice(tmp_path, kind):
    batch = pa.RecordBatch.from_pydict({"a": [1.5, 2.5]})
    both = [record_files.RecordFiles(f"{tmp_path}/", kind, None) for _ in range(2)]
    for files in both:
        files.write(batch)
    for files in both:
        files.finish()
    names = [name for files in both for name in files.files]
    assert len({*names}) == 2
    assert sorted(names) == sorted(str(path) for path in tmp_path.iterdir())


def test_lines_are_written_whole(tmp_path, monkeypatch):
    """A kill between two writes leaves no part of a line."""
    written, real = list[bytes](), os.write

    def write(handle: int, piece: memoryview) -> int:
        written.append(bytes(piece))
        return real(handle, piece)

    monkeypatch.setattr(record_files, "_FLUSH_BYTES", 100)
    monkeypatch.setattr(record_files.os, "write", write)
    files = record_files.RecordFiles(str(tmp_path / "out.csv"), None, None)
    files.write(pa.RecordBatch.from_pydict({"a": [place / 7 for place in range(500)]}))
    files.finish()
    assert len(written) > 50
    assert all(piece.endswith(b"\n") for piece in written)


def test_what_is_left_out_or_rejected_is_said_at_once(recorded, capsys):
    said = [{"time": at(place), "a": place, "valve": "ON", "deep": {"x": 1.5}} for place in range(3)]
    messages = [[b"m1", json.dumps(one).encode()] for one in said]
    recorded([*messages, [b"m1", b"{"], [b"m1", b"{"]], 3, format="json")
    heard = capsys.readouterr().err
    assert 'recording 2 channels: "a", "deep.x"' in heard
    assert 'left out, as their values are text: "valve"' in heard
    assert heard.count('warning: rejected, as syntax, a message of "m1": no JSON') == 1


def test_a_note_and_a_rejection_of_one_name_are_both_said(recorded, capsys):
    said = [{"time": 1_000_000, "a": 1}, {"time": "soon", "a": 1}, {"time": 1_000_001, "a": 2}]
    recorded([[b"m1", json.dumps(one).encode()] for one in said], 2, format="json")
    heard = capsys.readouterr().err
    assert "source times are of 1970-01-12T13:46:40Z" in heard
    assert "rejected, as time, a message" in heard

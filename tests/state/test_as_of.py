"""`--as-of`: one stream goes back to what it was, and no other notices."""

import datetime
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from daemons import DEADLINE_S, rows_answers, serving, wait_for
from test_state import done, records, refused, state

from streamrnn.settings.moments import parse_moment
from streamrnn.streams.record import CHECK, COUNT, RECEIVED, RESTORED, SLOT, STEP
from streamrnn.streams.snapshot import read_snapshot, snapshots_in

STREAMS = 1000
ROWS = np.random.default_rng(7).normal(size=(5, STREAMS, 3)).astype(np.float32)


def names() -> list[str]:
    return [f"pump-{number:04}" for number in range(STREAMS)]


def has_steps(folder: Path, steps: int) -> bool:
    """Whether the newest snapshot has so many of every stream but the one that opens the line."""
    paths = snapshots_in(folder)
    if not paths:
        return False
    found = read_snapshot(paths[0]).records.view(np.uint64)[:, STEP]
    return np.count_nonzero(found == steps) >= STREAMS


def as_it_was(found: dict[str, bytes], stream: str) -> bytes:
    """A record but for when and where it was committed, and that it was put back."""
    words = np.frombuffer(found[stream.ljust(127, "\0") + chr(len(stream))], np.uint32).copy()
    for place in (CHECK, COUNT, RECEIVED, SLOT):
        words.view(np.uint64)[place] = 0
    words[RESTORED] = 0
    return words.tobytes()


def test_one_stream_goes_back_and_all_others_go_on(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path), "state.interval": "50ms", "state.keep": "1000"}
    with serving(model_file, settings) as daemon, daemon.line() as line:

        def send(number: int, which: list[str]) -> None:
            for stream in which:
                line.send(stream, ROWS[number, int(stream[-4:])], seq=number)

        for number in range(2):
            send(number, names())
        line.receive(2 * STREAMS)
        then = records(tmp_path)
        wait_for(lambda: has_steps(tmp_path, 2), "a snapshot of then")
        moment = datetime.datetime.fromtimestamp(time.time()).isoformat()
        send(2, names())
        line.receive(STREAMS)

        back, others = names()[7], [name for name in names() if name != names()[7]]
        before = records(tmp_path)
        running = threading.Thread(target=send, args=(3, others))
        running.start()
        said = done("import", "--as-of", moment, "--stream", back, tmp_path).stderr
        running.join(DEADLINE_S)
        assert "snapshot-" in said
        assert "imported 1 stream, of which 1 were there already" in said
        now = records(tmp_path)
        assert as_it_was(now, back) == as_it_was(then, back) != as_it_was(before, back)
        line.receive(STREAMS - 1)

        send(4, others)
        answers = {answer.stream: answer for answer in line.answers(STREAMS - 1)}
        engine = daemon.engine()
        for number, stream in enumerate(names()):
            if stream != back:
                never_touched = rows_answers(engine, stream, ROWS[:, number])[-1]
                assert answers[stream] == never_touched

        assert (
            f'"{back}", "health": "ok", "step": 2'
            in done("show", "--as-of", moment, "--json", tmp_path).stdout
        )
        copy = tmp_path / "copy.safetensors"
        done("export", "--as-of", moment, "--stream", back, "-o", copy, tmp_path)
        assert "'gone'" in refused("import", "--as-of", moment, "--stream", "gone", tmp_path)
        assert "nothing as old as" in refused("import", "--as-of", "2d ago", "--stream", back, tmp_path)
        assert "no time" in refused("show", "--as-of", "yesterday", tmp_path)
    for words in (["--as-of", "09:00", tmp_path], [tmp_path], ["--stream", back, copy, tmp_path]):
        assert state("import", *words).exit_code == 2


def test_times_are_as_people_write_them():
    zone = datetime.datetime.now().astimezone().tzinfo
    now = datetime.datetime(2026, 3, 2, 8, 30, tzinfo=zone)

    def read(text: str) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(parse_moment(text, now) / 1e9, zone)

    assert read("08:30") == now
    assert read("09:00") == datetime.datetime(2026, 3, 1, 9, 0, tzinfo=zone)
    assert read("7:05:30") == datetime.datetime(2026, 3, 2, 7, 5, 30, tzinfo=zone)
    assert read("2h") == read("2h ago") == now - datetime.timedelta(hours=2)
    assert read("2026-03-01T09:00") == datetime.datetime(2026, 3, 1, 9, 0, tzinfo=zone)
    assert read("2026-03-01T09:00Z") == datetime.datetime(2026, 3, 1, 9, 0, tzinfo=datetime.UTC)
    assert read("2026-03-01") == datetime.datetime(2026, 3, 1, tzinfo=zone)
    for text in ("", "25:00", "9", "soon", "ago", "9999999999d ago", "2026-13-01"):
        with pytest.raises(ValueError, match="no time"):
            parse_moment(text, now)

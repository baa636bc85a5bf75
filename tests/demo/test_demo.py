"""The demo: its pumps, the model that comes with the package, its faults, and the whole of it live."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import zmq
from click.testing import CliRunner
from daemons import COMPILE_S, wait_for

from streamrnn.cli import main
from streamrnn.demo.faults import FIRST_S, KINDS, PumpFaults
from streamrnn.demo.live import MODEL, PAST_ROWS, publish
from streamrnn.demo.pumps import CHANNELS, MACHINES, PERIOD_S, Pumps
from streamrnn.demo.recording import record
from streamrnn.engine.engine import Answers, Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults as Rules
from streamrnn.stats import PREDICTED
from streamrnn.wire.frame import FRAME, GAP, IMPUTED

NAMES = [channel.name for channel in CHANNELS]
COUNT = len(MACHINES)


def course(pumps: Pumps, steps: int) -> np.ndarray:
    """(steps, pumps, channels) float32."""
    return np.stack([pumps.step() for _ in range(steps)])


def of(values: np.ndarray, name: str) -> np.ndarray:
    return values[..., NAMES.index(name)]


def answered(values: np.ndarray, sent: np.ndarray | None = None) -> Answers:
    """What the model that comes with the package answers to rows (n, pumps, channels)."""
    which = np.ones(values.shape[:2], bool).reshape(-1) if sent is None else sent.reshape(-1)
    stream = np.tile(np.arange(COUNT), len(values))[which]
    seq = np.repeat(np.arange(len(values), dtype=np.uint64), COUNT)[which]
    engine = Engine(read_model(MODEL), COUNT, Rules())
    return engine.feed(MACHINES, stream, values.reshape(-1, len(CHANNELS))[which], seq)


@pytest.fixture(scope="module")
def calm() -> np.ndarray:
    """Ten minutes without a fault, (n, pumps, channels)."""
    return course(Pumps(COUNT, seed=3), PAST_ROWS)


def test_the_same_seed_is_the_same_day_of_the_same_pumps():
    first, again, other = (course(Pumps(COUNT, seed), 20) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(0, 2)).all()
    of_more = course(Pumps(2 * COUNT, 3), 1)
    assert of_more.shape == (1, 2 * COUNT, len(CHANNELS))


def test_pumps_obey_physics(calm):
    assert np.isfinite(calm).all()
    valve, flow = of(calm, "valve"), of(calm, "flow")
    assert 0 < valve.min() < 40 < 80 < valve.max() < 101
    assert 0 < flow.min() < flow.max() < 40
    assert np.abs(np.diff(valve, axis=0)).max() < 2  # the drive is no faster
    assert np.abs(valve - of(calm, "demand")).max() < 15
    for unit in range(COUNT):
        related = np.corrcoef(calm[:, unit].T)
        at = NAMES.index("flow")
        assert related[at, NAMES.index("valve")] > 0.8
        assert related[at, NAMES.index("pressure")] < -0.7  # the head falls as more flows
        assert related[at, NAMES.index("current")] > 0.7
    assert (of(calm, "motor_temp").mean(0) > of(calm, "bearing_temp").mean(0)).all()
    ordinary = calm.mean((0, 1))
    assert np.abs(calm.mean(0) / ordinary - 1).max() > 0.02  # no unit is like another


@pytest.mark.parametrize(
    ("part", "name", "least"),
    [("worn", "vibration", 1.0), ("starved", "pressure", -1.0), ("stuck", "valve", 0)],
)
def test_what_is_wrong_shows(part, name, least):
    well, ill = Pumps(COUNT, seed=5), Pumps(COUNT, seed=5)
    getattr(ill, part)[2] = 1
    change = of(course(ill, 100) - course(well, 100), name)
    assert (np.delete(change, 2, axis=1) == 0).all()  # the others do not know
    if part == "stuck":
        held = of(course(ill, 100), "valve")[:, 2]
        assert np.ptp(held) < 0.6 < np.ptp(of(course(well, 100), "valve")[:, 2])
    else:
        assert np.sign(least) * change[50:, 2].mean() > abs(least)


def test_faults_come_in_turn_and_one_at_a_time():
    faults = PumpFaults(Pumps(COUNT, seed=3), seed=3)
    steps = [faults.step() for _ in range(4000)]
    began = [step.began for step in steps if step.began is not None]
    assert [fault.kind for fault in began[: len(KINDS)]] == list(KINDS)
    assert began[0].begin == round(FIRST_S / PERIOD_S)
    assert [steps[fault.begin].began for fault in began] == began
    for fault, following in itertools.pairwise(began):
        assert steps[fault.end].ended == fault
        assert fault.end < following.begin
        low, high = fault.kind.seconds
        assert low <= (fault.end - fault.begin) * PERIOD_S <= high
        part = [steps[row].values[fault.unit] for row in range(fault.begin, fault.end)]
        sent = [steps[row].sent for row in range(fault.begin, fault.end)]
        if fault.kind.lost:
            assert not any(row[fault.unit] for row in sent)
            continue
        assert all(row.all() for row in sent)
        if fault.kind.name == "flow meter freezes":
            assert np.ptp(of(np.stack(part), "flow")) == 0
        assert np.isnan(part).any() == (fault.kind.name == "thermometer drops out")
    assert not (faults._pumps.stuck + faults._pumps.worn + faults._pumps.starved).any() or faults.current


def test_the_model_that_comes_along_knows_the_pumps(calm):
    """On a day that it has not seen, against persistence; in training, against its linear start, too."""
    model = read_model(MODEL)
    assert [channel.name for channel in model.channels] == NAMES
    assert (model.cell, model.sample_period_s, MODEL.stat().st_size < 100_000) == ("lstm", PERIOD_S, True)
    assert model.score["threshold"] >= 3
    values = answered(calm).values.reshape(calm.shape)
    network = np.square((values[:-1] - calm[1:])[100:] / model.output_std).mean()
    persistence = np.square(np.diff(calm, axis=0)[100:] / model.output_std).mean()
    assert network < 0.7 * persistence
    told = model.training["validation_mse"]
    assert told["network"] < 0.96 * told["linear"]
    assert network == pytest.approx(told["network"], rel=0.1)


def test_scores_rise_with_faults_and_rest_without():
    """``tools/faults.py`` says how often, over hours."""
    pumps = Pumps(COUNT, seed=3)
    past, faults = course(pumps, PAST_ROWS), PumpFaults(pumps, seed=3)
    steps = [faults.step() for _ in range(round(270 / PERIOD_S))]
    values = np.concatenate([past, [step.values for step in steps]])
    sent = np.concatenate([np.ones((PAST_ROWS, COUNT), bool), [step.sent for step in steps]])
    answers = answered(values, sent)
    assert (answers.outcome == PREDICTED).all()
    threshold = read_model(MODEL).score["threshold"]
    score, flags = np.full(sent.shape, np.nan), np.zeros(sent.shape, int)
    score[sent], flags[sent] = answers.score, answers.flags
    score, flags = score[PAST_ROWS:], flags[PAST_ROWS:]
    seen, calm = set(), np.ones(score.shape, bool)
    began = [step.began for step in steps if step.began is not None and step.began.end < len(steps)]
    for fault in began:
        rows = slice(fault.begin, fault.end)
        calm[fault.begin : fault.end + round(30 / PERIOD_S), fault.unit] = False
        if np.nanmax(score[rows, fault.unit], initial=0) >= threshold:
            seen.add(fault.kind.name)
        if fault.kind.name == "thermometer drops out":
            assert (flags[rows, fault.unit] & IMPUTED).all()
        if fault.kind.lost:
            assert flags[fault.end, fault.unit] & GAP
    expected = {"valve sticks", "bearing wears", "pump cavitates", "pressure transmitter drifts"}
    assert expected <= seen <= expected | {"flow meter freezes", "thermometer drops out"}
    assert (score[calm] >= threshold).mean() < 0.01


def test_a_recording_says_what_was_wrong(tmp_path):
    path = tmp_path / "faulty.csv"
    rows = record(path, 260, seed=2, with_faults=True)
    table = pyarrow.csv.read_csv(path)
    assert table.column_names == ["time", "machine", *NAMES, "fault"]
    assert (table.num_rows, rows <= 260 / PERIOD_S * COUNT) == (rows, True)
    named = set(table["fault"].to_pylist())
    assert {"", "valve sticks", "thermometer drops out"} <= named <= {"", *(kind.name for kind in KINDS)}
    silent = np.isnan(table["motor_temp"].to_numpy())
    assert silent.any()
    assert (silent == (table["fault"].to_numpy(zero_copy_only=False) == "thermometer drops out")).all()
    out = tmp_path / "out.csv"
    replayed = CliRunner().invoke(
        main, ["replay", str(path), "--stream-column", "machine", "-m", str(MODEL), "-o", str(out)]
    )
    assert replayed.exit_code == 0, replayed.stderr
    assert int(re.search(r"anomalies: (\d+)", replayed.stderr)[1]) >= 2


def test_a_recording_that_cannot_be_written(tmp_path):
    result = CliRunner().invoke(main, ["demo", "--record", str(tmp_path / "no" / "a.csv")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {tmp_path}/no/a.csv: cannot be written")


# the whole of it


class Demo:
    """A demo in a process of its own, and what it says."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamrnn", "demo", *words],
                stdout=out,
                stderr=err,
                env=os.environ | {"TMPDIR": str(folder)},
            )

    @property
    def said(self) -> str:
        return self._err.read_text()

    @property
    def listed(self) -> list[str]:
        return self._out.read_text().splitlines()

    def wait_for_page(self) -> str:
        def page() -> str | None:
            assert self.process.poll() is None, self.said
            found = re.search(r"open (http://\S+) .*\n(.*\n)*Ctrl-C", self.said)
            return found[1] if found else None

        return wait_for(page, "the page", COMPILE_S)

    def daemons(self) -> list[int]:
        """The processes whose command line names the folder, but this demo."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:  # it has ended
                continue
            if b"serve" in words and str(self.folder).encode() in words:
                found.append(int(path.parent.name))
        return found

    def left(self) -> list[Path]:
        return list(self.folder.glob("streamrnn-demo-*"))


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[Demo]:
    running = Demo(folder, *words)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def test_the_demo_live(tmp_path, request):
    """With ``--long`` until the first fault is over."""
    long = request.config.getoption("--long")
    with demo(tmp_path, "--http", "127.0.0.1:0", "--seed", "3") as running:
        page = running.wait_for_page()
        began = time.monotonic()
        stands = wait_for(lambda: all_past(page), "the past")
        assert all(stream["score"] is not None for stream in stands)
        assert "streamrnn tail ipc://" in running.said
        assert len(running.daemons()) == 1
        wait_for(lambda: time.monotonic() > began + 2, "some frames")
        status, step = get(f"{page}/api/status"), all_past(page)[0]["step"]
        assert (step - PAST_ROWS) * PERIOD_S == pytest.approx(time.monotonic() - began, abs=1)
        assert (status["late"], status["missing_rows"], status["rejected"]) == (0, 0, {})
        if long:
            wait_for(lambda: running.listed, "the first fault")
            unit = re.fullmatch(r"\S+ (pump-[1-6]) valve sticks: it stays .*", running.listed[0])[1]
            assert wait_for(lambda: unusual(page), "the score") == unit
            wait_for(lambda: len(running.listed) == 2, "the end of it")
            assert re.fullmatch(rf"\S+ {unit} valve sticks: over, after \d+ s", running.listed[1])


def test_it_ends_after_seconds(tmp_path):
    with demo(tmp_path, "--http", "", "--seconds", "1") as running:
        assert running.process.wait(COMPILE_S) == 0, running.said
    assert (running.daemons(), running.left()) == ([], [])
    assert "Traceback" not in running.said
    assert "there is no page" in running.said


def unusual(page: str) -> str | None:
    """The first stream of the page, once its score is at the threshold."""
    first = get(f"{page}/api/streams")["streams"][0]
    return first["stream"] if first["score"] >= read_model(MODEL).score["threshold"] else None


def test_frames_keep_time_and_faults_are_listed(capsys):
    pumps, began = Pumps(COUNT, seed=3), (time.monotonic(), time.time_ns())
    idle = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        zmq.Context() as context,
        context.socket(zmq.PAIR) as sender,
        context.socket(zmq.PAIR) as receiver,
        subprocess.Popen(idle, stderr=subprocess.PIPE, bufsize=0) as daemon,
    ):
        os.set_blocking(daemon.stderr.fileno(), False)
        sender.bind("inproc://frames")
        receiver.connect("inproc://frames")
        publish(sender, PumpFaults(pumps, seed=3, first_s=0.5), began, 1.0, daemon)
        took = time.monotonic() - began[0]
        daemon.kill()
        frames = [receiver.recv_multipart() for _ in range(round(COUNT / PERIOD_S))]
        assert not receiver.poll(0)
    assert 1 - PERIOD_S <= took < 1.5
    headers = [np.frombuffer(payload, FRAME, 1)[0] for _, payload in frames]
    assert [topic.decode() for topic, _ in frames[:COUNT]] == list(MACHINES)
    steps = np.array([int(header["seq"]) - PAST_ROWS for header in headers])
    assert steps.tolist() == np.repeat(np.arange(10), COUNT).tolist()
    assert [int(header["ts_ns"]) for header in headers] == (began[1] + steps * 100_000_000).tolist()
    assert re.fullmatch(r"\d\d:\d\d:\d\d pump-[1-6] valve sticks: it stays .*\n", capsys.readouterr().out)


def all_past(page: str) -> list[dict]:
    """The streams, once each has been told its past."""
    streams = get(f"{page}/api/streams")["streams"]
    return streams if all(stream["step"] >= PAST_ROWS for stream in streams) else []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)], ids=["INT", "TERM"]
)
def test_a_signal_ends_it(tmp_path, number, code):
    with demo(tmp_path, "--http", "127.0.0.1:0") as running:
        running.wait_for_page()
        running.process.send_signal(number)
        assert running.process.wait(30) == code, running.said
    assert (running.daemons(), running.left()) == ([], [])
    assert "Traceback" not in running.said


def test_the_daemon_does_not_outlive_a_demo_that_is_killed(tmp_path):
    with demo(tmp_path, "--http", "127.0.0.1:0") as running:
        running.wait_for_page()
        assert len(running.daemons()) == 1
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not running.daemons(), "the end of the daemon")


def test_a_daemon_that_ends_ends_the_demo(tmp_path):
    with demo(tmp_path, "--http", "127.0.0.1:0") as running:
        running.wait_for_page()
        os.kill(running.daemons()[0], signal.SIGKILL)
        assert running.process.wait(30) == 1
    assert "error: the daemon ended by itself, by SIGKILL" in running.said
    assert running.left() == []


def test_an_address_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with demo(tmp_path, "--http", address) as running:
            assert running.process.wait(COMPILE_S) == 1
    last = running.said.splitlines()[-1]
    assert last == "error: the daemon did not start, and said why; --http 127.0.0.1:0 takes any free port"
    assert "Address already in use" in running.said
    assert running.left() == []


def test_the_model_is_made_anew(tmp_path, request, monkeypatch):
    """By the commands of the package's docstring; with ``--long``."""
    if not request.config.getoption("--long"):
        pytest.skip("takes a minute: --long")
    import streamrnn.demo

    monkeypatch.chdir(tmp_path)
    lines = [line.split() for line in streamrnn.demo.__doc__.splitlines() if line.startswith("    streamrnn")]
    assert [words[1] for words in lines] == ["demo", "train"]
    for words in lines:
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, result.stderr
    made, ours = (read_model(path).training["validation_mse"] for path in (tmp_path / MODEL.name, MODEL))
    for name, error in ours.items():
        assert made[name] == pytest.approx(error, rel=0.02), name

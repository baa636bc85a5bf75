"""Send beside real sockets, and through a daemon: what replay says is what the daemon says."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from daemons import DEADLINE_S, Answer, Daemon, Line, wait_for
from hypothesis import given
from hypothesis import strategies as st
from neighbours import bound, command, meanwhile
from tables import T0

from streamrnn.client.send import SendOptions, make_frames, send
from streamrnn.errors import UserError
from streamrnn.replay import ReplayOptions, replay
from streamrnn.table import Reading, Rows
from streamrnn.wire.frame import FRAME, RESET, TS, pack_frame


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as context:
        yield context


def rows_file(path: Path, rows: int, streams: int = 1) -> tuple[Path, np.ndarray]:
    """A CSV of time, id, c0, c1, c2, and its values (rows, 3) float32; row k is of stream k % streams."""
    values = np.random.default_rng(0).normal(0, 10, (rows, 3)).astype(np.float32)
    cells = ((f"{T0 + 10**7 * row},p{row % streams},{x},{y},{z}") for row, (x, y, z) in enumerate(values))
    path.write_text("\n".join(["time,id,c0,c1,c2", *cells]) + "\n")
    return path, values


@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize("kind", ["pub", "push"])
def test_every_row_arrives_as_a_frame(context, tmp_path, capsys, bind, kind):
    path, values = rows_file(tmp_path / "x.csv", 3000, streams=2)
    if bind:
        receiver = context.socket(zmq.SUB if kind == "pub" else zmq.PULL)
        receiver.rcvtimeo = round(1000 * DEADLINE_S)
        endpoint = f"ipc://{tmp_path}/socket"
        receiver.connect(endpoint)
        if kind == "pub":
            receiver.subscribe(b"")
    else:
        receiver, endpoint = bound(context, zmq.SUB if kind == "pub" else zmq.PULL)
    options = SendOptions(str(path), endpoint, bind=bind, socket=kind, reading=Reading(stream="id"))
    with meanwhile(lambda: send(options)):
        got = [receiver.recv_multipart() for _ in range(3000)]
    receiver.close()
    assert got == [
        [
            b"p%d" % (row % 2),
            pack_frame(values[row], row // 2, T0 + 10**7 * row, flags=0 if row // 2 else RESET),
        ]
        for row in range(3000)
    ]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("sent 3,000 rows of 2 streams in 3,000 frames, ")


def test_a_slow_subscriber_loses_nothing(context, tmp_path):
    path, rows = tmp_path / "wide.csv", 20_000  # 8 MB of frames, more than the buffers between hold
    header = ",".join(f"c{k}" for k in range(100))
    path.write_text("\n".join([header, *[",".join("1" * 100)] * rows]))
    subscriber, endpoint = bound(context, zmq.SUB, rcvhwm=100, rcvbuf=1 << 16)
    done = threading.Event()
    with meanwhile(lambda: (send(SendOptions(str(path), endpoint)), done.set())):
        frames = [subscriber.recv_multipart()]
        assert not done.wait(0.2)  # the sender is held back
        frames += [subscriber.recv_multipart() for _ in range(rows - 1)]
    subscriber.close()
    heads = np.frombuffer(b"".join(frame[1][: FRAME.itemsize] for frame in frames), FRAME)
    assert heads["seq"].tolist() == list(range(rows))


def test_it_waits_for_as_many_subscriptions_as_told(context, tmp_path, capsys):
    path, _ = rows_file(tmp_path / "x.csv", 10)
    endpoint = f"ipc://{tmp_path}/socket"
    options = SendOptions(str(path), endpoint, bind=True, wait=2, timeout=DEADLINE_S)
    subscribers = [context.socket(zmq.SUB) for _ in range(2)]
    with meanwhile(lambda: send(options)):
        for subscriber in subscribers:
            subscriber.rcvtimeo = round(1000 * DEADLINE_S)
            assert not subscriber.poll(50)  # nothing is sent before the last has come
            subscriber.connect(endpoint)
            subscriber.subscribe(b"x")
        for subscriber in subscribers:
            seqs = [np.frombuffer(subscriber.recv_multipart()[1], FRAME, 1)["seq"][0] for _ in range(10)]
            assert seqs == list(range(10))
    for subscriber in subscribers:
        subscriber.close()
    assert f"\nwaiting for 2 subscriptions at {endpoint}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "awaited"), [("pub", "1 subscription"), ("push", "a receiver")])
def test_nobody_comes(tmp_path, kind, awaited):
    path, _ = rows_file(tmp_path / "x.csv", 10)
    options = SendOptions(str(path), f"ipc://{tmp_path}/socket", socket=kind, timeout=0.05)
    with pytest.raises(UserError, match=f"waited 0.05 s for {awaited}; start the receiver"):
        send(options)
    with pytest.raises(UserError, match=r"tcp://192\.0\.2\.1:5: cannot be bound: "):
        send(SendOptions(str(path), "tcp://192.0.2.1:5", bind=True))


def test_a_subscriber_that_leaves_is_told(context, tmp_path, capsys):
    path, _ = rows_file(tmp_path / "x.csv", 200)
    endpoint = f"ipc://{tmp_path}/socket"
    subscriber = context.socket(zmq.SUB)
    subscriber.subscribe(b"")
    subscriber.connect(endpoint)
    with meanwhile(lambda: send(SendOptions(str(path), endpoint, bind=True, rate=400.0))):
        subscriber.recv_multipart()
        subscriber.close()
    assert "the last receiver has left; frames are lost until one comes\n" in capsys.readouterr().err


def test_frames_wait_for_a_receiver_that_comes_back(context, tmp_path, capsys):
    path, _ = rows_file(tmp_path / "x.csv", 200)
    subscriber, endpoint = bound(context, zmq.SUB)
    with meanwhile(lambda: send(SendOptions(str(path), endpoint, rate=400.0))):
        got = [subscriber.recv_multipart()]
        subscriber.close()
        subscriber = context.socket(zmq.SUB)
        subscriber.rcvtimeo = round(1000 * DEADLINE_S)
        subscriber.subscribe(b"")
        wait_for(lambda: not bind_error(subscriber, endpoint), "the port")
        while len(got) < 2 or np.frombuffer(got[-1][1], FRAME, 1)["seq"][0] < 199:
            got.append(subscriber.recv_multipart())
    subscriber.close()
    assert "the last receiver has left; frames wait for it to come back\n" in capsys.readouterr().err


def bind_error(socket: zmq.Socket, endpoint: str) -> str:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        return str(error)
    return ""


def test_the_model_picks_and_orders_the_channels(context, tmp_path, model_file):
    path = tmp_path / "x.csv"
    path.write_text("C2,other,c1,c0\n1,2,3,4\n")
    for model, expected in ((model_file, [4, 3, 1]), (None, [1, 2, 3, 4])):
        receiver, endpoint = bound(context, zmq.PULL)
        with meanwhile(lambda: send(SendOptions(str(path), endpoint, socket="push", model=model))):  # noqa: B023
            topic, payload = receiver.recv_multipart()
        receiver.close()
        assert topic == b"x"
        assert np.frombuffer(payload, "<f4", offset=FRAME.itemsize).tolist() == expected


@pytest.mark.parametrize("pace", [{"rate": 200.0}, {"speed": 2.0}])
def test_the_pace(context, tmp_path, pace):
    path, _ = rows_file(tmp_path / "x.csv", 41)
    receiver, endpoint = bound(context, zmq.PULL)
    arrived = []
    with meanwhile(lambda: send(SendOptions(str(path), endpoint, socket="push", block=10, **pace))):
        for _ in range(5):
            head = np.frombuffer(receiver.recv_multipart()[1], FRAME, 1)[0]
            arrived.append((head["rows"], head["dt_ns"]))
    receiver.close()
    assert arrived == [*[(10, 10**7)] * 4, (1, 0)]


ROW = st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 1, 1, 2, 5]), st.sampled_from([0, 10, 10, 25]))


@given(st.lists(ROW, min_size=1, max_size=60), st.integers(1, 7), st.sampled_from([0.0, 123456789.0]))
def test_frames_hold_every_row_once(rows, block, offset):
    """Against a loop that puts frames together row by row."""
    stream = np.array([stream for stream, _, _ in rows], np.int32)
    seq, ts_ns, last = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int64), [0, 0, 0, 0]
    for row, (at, step, time) in enumerate(rows):
        last[at] += step
        seq[row], ts_ns[row] = last[at], time and 1000 * row + time
    values = np.arange(2 * len(rows), dtype=np.float32).reshape(-1, 2)
    last = np.zeros(len(seq), bool)
    offsets = np.array([0.0, offset])
    frames = make_frames(Rows(stream, values, seq, ts_ns, None, 1), block, last, offsets)
    readings = values + offsets if offset else values  # float64 where float32 could not hold them

    expected: list[list[int]] = []  # the rows of each frame
    for at in range(4):
        own = np.flatnonzero(stream == at).tolist()
        for row, before in zip(own, [None, *own], strict=False):
            joins = before is not None and seq[row] == seq[before] + 1
            if joins and expected and expected[-1][-1] == before and len(expected[-1]) < block:
                expected[-1].append(row)
            else:
                expected.append([row])
    expected.sort(key=lambda frame: frame[-1])
    assert frames.last.tolist() == [frame[-1] for frame in expected]
    for k, frame in enumerate(expected):
        first, final = frame[0], frame[-1]
        spacing = (int(ts_ns[final]) - int(ts_ns[first])) // max(len(frame) - 1, 1)
        payload = pack_frame(
            readings[frame],
            int(seq[first]),
            int(ts_ns[first]) or None,
            max(spacing, 0) if ts_ns[first] else 0,
        )
        assert frames.heads[k].tobytes() + frames.values[frames.begin[k] : frames.end[k]] == payload
        assert frames.stream[k] == stream[first]
        assert (frames.heads["flags"][k] & TS > 0) == (ts_ns[first] != 0)


def test_an_interrupted_send_says_what_was_sent(context, tmp_path):
    path, _ = rows_file(tmp_path / "x.csv", 1000)
    receiver, endpoint = bound(context, zmq.PULL)
    with command("send", path, "--to", endpoint, "--socket", "push", "--rate", "10") as child:
        receiver.recv_multipart()
        child.send_signal(signal.SIGINT)
        assert child.wait(DEADLINE_S) == 130
        said = child.stderr.read().splitlines()
    receiver.close()
    assert said[-1].startswith("sent ") and "Traceback" not in "".join(said)


def test_replay_and_daemon_say_the_same(daemon: Daemon, line: Line, model_file, tmp_path):
    """A file through send, daemon and a subscriber, and through replay: bit for bit."""
    path, _ = rows_file(tmp_path / "x.csv", 2000, streams=2)
    with path.open("a") as file:  # a missing value, one that is refused, a good row
        for row, (stream, cell) in enumerate([("p0", ""), ("p1", "inf"), ("p0", "1")], 2000):
            file.write(f"{T0 + 10**7 * row},{stream},{cell},1,2\n")
    reading, output = Reading(stream="id"), tmp_path / "x.ndjson"
    replay(ReplayOptions(str(path), model_file, daemon.config.faults, str(output), reading=reading))
    rows = [json.loads(text) for text in output.read_text().splitlines()]
    expected = [row for row in rows if row["flags"] != "REJECTED:infinite"]
    assert len(expected) == len(rows) - 1 == 2002

    send(SendOptions(str(path), daemon.receives, model=model_file, reading=reading, block=7))
    answers = {(answer.stream, answer.seq): answer for answer in line.answers(len(expected))}
    for row in expected:
        answer = answers[row["stream"], row["seq"]]
        floats = [np.nan if row[name] is None else row[name] for name in ("score", "residual")]
        counts = [row["seq"], row["time"], row["step"], answer.gap, answer.epoch]
        values = [row[f"c{k}_pred"] for k in range(3)]
        assert Answer(row["stream"], row["flags"], *map(int, counts), bits(*floats, *values)) == answer


def test_what_times_say_is_the_same_live_and_in_replay(daemon: Daemon, line: Line, model_file, tmp_path):
    """Holes, rows that come twice, rows that run backwards and an hour that comes again, bit for bit."""
    rng = np.random.default_rng(5)
    steps = np.full(1500, 10)  # ms, the model's sample period
    steps[[200, 700, 701]] = 130, 40, 25
    steps[[300, 900]] = 0, -55
    steps[1200] = -2000  # as a clock of local time does in autumn
    times = T0 // 10**6 + 1 + np.cumsum(steps)
    path = tmp_path / "x.csv"
    rows = (",".join(map(str, row)) for row in zip(times, *rng.normal(0, 1, (3, 1500)).round(4), strict=True))
    path.write_text("\n".join(["time,c0,c1,c2", *rows]) + "\n")
    output = tmp_path / "x.ndjson"
    summary = replay(ReplayOptions(str(path), model_file, daemon.config.faults, str(output)))
    # twice 1, backwards 6 and 201, until time has caught up; holes of 12, 3 and 1 rows
    assert (summary.late, summary.missing) == (208, 16) and summary.predicted == 1500 - 208
    send(SendOptions(str(path), daemon.receives, model=model_file, block=3))
    rows = [json.loads(text) for text in output.read_text().splitlines()]
    taken = [row for row in rows if row["flags"] != "LATE"]
    answers = {answer.seq: answer for answer in line.answers(len(taken))}
    assert len(answers) == len(taken)
    for row in taken:
        answer = answers[row["seq"]]
        floats = [np.nan if row[name] is None else row[name] for name in ("score", "residual")]
        values = [row[f"c{k}_pred"] for k in range(3)]
        assert (answer.step, answer.flags) == (row["step"], row["flags"] or "")
        assert answer.bits == bits(*floats, *values)


def bits(*floats: float) -> str:
    return np.array(floats, "<f4").tobytes().hex()

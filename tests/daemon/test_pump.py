"""The pump of a real daemon, from socket to socket: its answers are the engine's, whatever comes between."""

import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import zmq
from daemons import (
    DEADLINE_S,
    Answer,
    Daemon,
    Prediction,
    engine_answers,
    rows_answers,
    serving,
    take,
    wait_for,
)
from intakes import OF_ADAPTERS
from models import untrained

from streamrnn.daemon.refusals import printable
from streamrnn.daemon.sockets import HIGH_WATER, largest_frame
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.stats import REASONS
from streamrnn.streams.batch import ROWS
from streamrnn.wire.frame import (
    DTYPES,
    END,
    EVENT,
    EVICTED,
    PREDICTION,
    RESET,
    pack_frame,
)

RNG = np.random.default_rng(7)
CLOCK_SLACK_NS = 50_000_000


def rows(count: int, channels: int = 3) -> np.ndarray:
    return RNG.normal(0, 10, (count, channels)).astype(np.float32)


def header(
    rows: int = 1, *, magic: bytes = b"SR", version: int = 1, dtype: int = 1, flags: int = 0, size: int = 12
) -> bytes:
    """A frame of any header over ``size`` zero bytes."""
    return struct.pack("<2sBBHHQqq", magic, version, dtype, flags, rows, 0, 0, 0) + bytes(size)


GOOD = header()
INFINITE = [pack_frame(np.array([1, value, 3], dtype)) for value, dtype in ((np.inf, "<f4"), (1e300, "<f8"))]
# what is wrong -> the message; a stream's first row where the stream matters
WRONG = {
    "parts: one": [b"x"],
    "parts: three": [b"x", GOOD, b""],
    "parts: fifty": [b"x", GOOD, *[GOOD] * 48],
    "topic: empty": [b"", GOOD],
    "topic: 128 bytes": [b"x" * 128, GOOD],
    "topic: 300 bytes": [b"x" * 300, GOOD],
    "topic: a lone surrogate": [b"x\xed\xa0\x80", GOOD],
    "topic: cut within a letter": ["xé".encode()[:-1], GOOD],
    "magic: of a prediction": [b"x", b"SP" + GOOD[2:]],
    "magic: values alone": [b"x", GOOD[32:]],
    "magic: a letter": [b"x", b"x"],
    "version: 0": [b"x", header(version=0)],
    "version: 2": [b"x", header(version=2)],
    "dtype: 0": [b"x", header(dtype=0)],
    "dtype: 5": [b"x", header(dtype=5)],
    "flags: 16": [b"x", header(flags=16)],
    "flags: 32768": [b"x", header(flags=1 << 15)],
    "rows: 0": [b"x", header(0, size=0)],
    "truncated: nothing": [b"x", b""],
    "truncated: header": [b"x", GOOD[:31]],
    "truncated: no values": [b"x", header(size=0)],
    "truncated: values": [b"x", GOOD[:-1]],
    "truncated: 65535 rows": [b"x", header(65535, size=13)],
    "oversized: a byte": [b"x", header(size=13)],
    "oversized: the largest": [b"x", header(65535, dtype=2, size=largest_frame(3) - 32 + 1)],
    "channels: 2": [b"x", header(size=8)],
    "channels: 4": [b"x", header(size=16)],
    "infinite: float32": [b"x", INFINITE[0]],
    "infinite: a float64 past float32": [b"x", INFINITE[1]],
    "missing: in the first row": [b"x", pack_frame(np.array([1, np.nan, 3], "<f4"))],
}
# reasons that need another daemon: below, and in test_raw
ELSEWHERE = {"capacity", "diverged", "float64", "implausible"}


def test_every_reason_is_provoked():
    assert {name.partition(":")[0] for name in WRONG} | ELSEWHERE == set(REASONS) - OF_ADAPTERS


def sizes(parts: list[bytes], reason: str) -> tuple[int | None, int | None]:
    """What came and what was wanted, of what is told of a message."""
    if reason == "parts":
        return len(parts), 2
    if (reason == "topic" and 1 <= len(parts[0]) <= 127) or reason in ("infinite", "missing"):
        return None, None
    if reason == "topic":
        return len(parts[0]), 127
    wanted = len(GOOD)
    if reason in ("truncated", "oversized", "channels") and len(parts[1]) >= 32:
        dtype, _, rows = struct.unpack_from("<BHH", parts[1], 3)
        wanted = 32 + rows * 3 * DTYPES[dtype].itemsize
    return len(parts[1]), wanted


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_counted_and_nothing_else_changes(daemon, line, wrong):
    reason, good, name = wrong.partition(":")[0], rows(8), f"beside {wrong}"
    before = daemon.metrics()
    for row in good:
        line.publisher.send_multipart(WRONG[wrong])
        line.send(name, row)
    assert line.answers(len(good)) == rows_answers(daemon.engine(), name, good)
    after = daemon.metrics()
    counted = {key for key in after if key.startswith("streamrnn_frames_rejected_total")}
    grown = {key: after[key] - before[key] for key in counted if after[key] != before[key]}
    assert grown == {f"streamrnn_frames_rejected_total{{{reason}}}": len(good)}
    assert after["streamrnn_frames_received_total"] - before["streamrnn_frames_received_total"] == 16
    assert after["streamrnn_streams"] - before["streamrnn_streams"] == 1
    last = json.loads(daemon.get("/api/refusals")[1])["refusals"][0]
    assert (last["reason"], last["topic"]) == (reason, printable(WRONG[wrong][0][:127], len(WRONG[wrong][0])))
    assert (last["size"], last["wanted"]) == sizes(WRONG[wrong], reason)
    # in step still: what was refused last is not what is answered next
    line.send(name, good[0])
    assert [(p.stream, p.header["seq"]) for p in line.receive()] == [(name, len(good))]


def test_a_message_too_large_to_be_a_frame_costs_its_sender_the_connection_and_nobody_else(daemon, line):
    good = rows(2)
    with daemon.line() as other:
        line.send("absurd", good[0])
        first = line.answers(1)
        assert other.answers(1) == first
        line.publisher.send_multipart([b"absurd", bytes(largest_frame(3) + 2)])
        line.wait_for_subscription()  # again: the daemon has dropped the connection
        line.send("absurd", good[1])
        assert first + other.answers(1) == rows_answers(daemon.engine(), "absurd", good)


def test_rows_of_a_block_are_refused_one_by_one(daemon, line):
    block = rows(6)
    block[2, 1], block[4, 0] = np.inf, np.nan
    before = daemon.count("frames_rejected_total{infinite}")
    line.send("holes in a block", block, seq=10)
    expected = rows_answers(daemon.engine(), "holes in a block", block, np.arange(10, 16, dtype=np.uint64))
    assert line.answers(5) == expected
    assert [(answer.seq, answer.flags) for answer in expected] == [
        (10, "WARMING"),
        (11, "WARMING"),
        (13, "WARMING|GAP"),
        (14, "WARMING|IMPUTED"),
        (15, "WARMING"),
    ]
    assert daemon.count("frames_rejected_total{infinite}") == before + 1


def test_late_and_duplicate_rows_are_counted_and_not_answered(daemon, line):
    good, before = rows(4), daemon.count("frames_late_total")
    for seq in (5, 5, 4, 6, 0, 6):
        line.send("late", good[seq % 4], seq=seq)
    line.send("late", rows(3), seq=5)  # a block that overlaps: its last row alone is new
    assert [answer.seq for answer in line.answers(3)] == [5, 6, 7]
    assert daemon.count("frames_late_total") == before + 4 + 2


def test_a_gap_is_counted_and_said(daemon, line):
    good, seq = rows(4), np.array([0, 1, 5, 6], np.uint64)
    before = daemon.count("rows_missing_total")
    for row, number in zip(good, seq, strict=True):
        line.send("gap", row, seq=int(number))
    answers = line.answers(4)
    assert answers == rows_answers(daemon.engine(), "gap", good, seq)
    assert [(answer.flags, answer.gap, answer.step) for answer in answers] == [
        ("WARMING", 0, 1),
        ("WARMING", 0, 2),
        ("WARMING|GAP", 3, 6),
        ("WARMING", 0, 7),
    ]
    assert daemon.count("rows_missing_total") == before + 3


def test_a_gap_past_max_gap_resets_the_stream(daemon, line):
    good, before = rows(2), daemon.count("state_resets_total{max_gap}")
    line.send("long gap", good[0], seq=1)
    line.send("long gap", good[1], seq=67)
    _, answer = line.answers(2)
    assert (answer.flags, answer.gap, answer.step, answer.epoch) == ("WARMING|GAP|RESET", 65, 1, 1)
    (fresh,) = rows_answers(daemon.engine(), "long gap", good[1:])
    assert answer.bits == fresh.bits
    assert daemon.count("state_resets_total{max_gap}") == before + 1


@pytest.mark.parametrize(
    ("first", "second", "reason"), [(END, 0, "end"), (0, RESET, "frame"), (END, RESET, "frame")]
)
def test_a_new_sequence_begins_with_a_fresh_state(daemon, line, first, second, reason):
    name, good = f"sequences {first} {second}", rows(9)
    before = daemon.count(f"state_resets_total{{{reason}}}")
    line.send(name, good[:4], flags=first)  # END is of a block's last row, RESET of its first
    line.send(name, good[4:8], flags=second)
    line.send(name, good[8])
    answers = line.answers(9)
    fresh = [rows_answers(daemon.engine(), name, part) for part in (good[:4], good[4:])]
    assert [answer.bits for answer in answers] == [answer.bits for part in fresh for answer in part]
    assert [answer.step for answer in answers] == [1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert [answer.epoch for answer in answers] == [0] * 4 + [1] * 5
    assert [answer.flags for answer in answers] == [*["WARMING"] * 4, "WARMING|RESET", *["WARMING"] * 4]
    # RESET numbers the rows of the new sequence as they come; without a seq they go on
    assert [answer.seq for answer in answers] == list(range(9))
    assert daemon.count(f"state_resets_total{{{reason}}}") == before + 1


def test_reset_takes_a_seq_that_would_be_late(daemon, line):
    good = rows(2)
    line.send("restarted", good[0], seq=1000)
    line.send("restarted", good[1], seq=0, flags=RESET)
    assert [(answer.seq, answer.epoch, answer.gap) for answer in line.answers(2)] == [(1000, 0, 0), (0, 1, 0)]


def test_rows_without_seq_are_numbered_from_0_stream_by_stream(daemon, line):
    good = rows(6)
    for name in ("unnumbered a", "unnumbered b", "unnumbered a"):
        line.send(name, good[:2])
    line.send("unnumbered a", good[2])
    found = [(prediction.stream[-1], int(prediction.header["seq"])) for prediction in line.receive(7)]
    assert found == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("a", 4)]


@pytest.mark.parametrize("count", [2, ROWS - 1, ROWS, ROWS + 1, 1000])
def test_a_block_is_answered_as_its_rows_one_by_one(daemon, line, count):
    good, names = rows(count), [f"{form} of {count}" for form in ("block", "rows")]
    line.send(names[0], good, seq=3)
    line.send(names[0], good, seq=3 + count)
    for number, row in enumerate(np.vstack([good, good])):
        line.send(names[1], row, seq=3 + number)
    answers = line.answers(4 * count)
    block, single = answers[: 2 * count], answers[2 * count :]
    assert [answer._replace(stream=names[1]) for answer in block] == single
    numbers = np.arange(3, 3 + 2 * count, dtype=np.uint64)
    assert block == rows_answers(daemon.engine(), names[0], np.vstack([good, good]), numbers)


def test_the_largest_block_is_taken_whole(daemon, line):
    good, before = rows(65535), daemon.count("predictions_total")
    line.send("largest", good.astype("<f8"), seq=2**40)
    wait_for(lambda: daemon.count("predictions_total") >= before + 65535, "65535 predictions")

    def following() -> Answer:
        if not line.subscriber.poll(20):
            line.send("after the largest", good[0])
        return line.answers(1)[0]

    # more at once than a subscriber's queue holds: what it is handed is in order and right
    found = list(takewhile(lambda answer: answer.stream == "largest", iter(following, None)))
    numbers = np.arange(2**40, 2**40 + 65535, dtype=np.uint64)
    expected = rows_answers(daemon.engine(), "largest", good, numbers)
    assert found == [expected[answer.seq - 2**40] for answer in found]
    assert len(found) == len({answer.seq for answer in found}) >= HIGH_WATER


def test_a_row_has_the_time_of_its_frame_and_of_the_rows_before_it(daemon, line):
    good, second = rows(3), 10**9
    line.send("clocked", good, ts_ns=5 * second, dt_ns=second // 4)
    line.send("clocked", good, ts_ns=7 * second)  # dt 0: the model's sample period, 10 ms
    line.send("clocked", good, dt_ns=second)  # no time at all
    line.send("clocked", good[0], ts_ns=-second)  # before 1970
    times = [answer.ts_ns / second for answer in line.answers(10)]
    assert times == [5, 5.25, 5.5, 7, 7.01, 7.02, 0, 0, 0, -1]


@pytest.mark.parametrize("code", DTYPES)
def test_every_element_type_is_read(daemon, line, code):
    good, name = np.round(rows(20)).astype(DTYPES[code]), f"of type {code}"
    line.send_rows(name, good)
    assert line.answers(20) == rows_answers(daemon.engine(), name, good.astype(np.float32))


@pytest.mark.parametrize(
    "name", ["é" * 63 + "x", "x" * 127, "x" * 34, "x" * 33, "valve/β/7", "a\0", "a\0b", " ", "😀"]
)
def test_any_utf8_of_1_to_127_bytes_is_a_stream(daemon, line, name):
    good = rows(3)
    line.send_rows(name, good)
    line.send("a", good[0])
    assert line.answers(3) == rows_answers(daemon.engine(), name, good)
    assert line.answers(1)[0].stream == "a"


def test_fifty_interleaved_streams_are_answered_as_the_engine_does(daemon, line):
    names = [f"machine {number}" for number in range(50)]
    stream = np.repeat(np.arange(50), 200)
    RNG.shuffle(stream)  # so some streams come several times in one burst, some not at all
    values = rows(len(stream))
    for number, row in zip(stream, values, strict=True):
        line.send(names[number], row)
    assert line.answers(len(stream)) == engine_answers(daemon.engine(), names, stream, values)


def test_clocks_lie_between_sending_and_receiving_and_in_order(daemon, line):
    for row in rows(20):
        begin = time.time_ns()
        line.send("clocks", row)
        (prediction,) = line.receive()
        received, published = int(prediction.header["recv_ns"]), int(prediction.header["pub_ns"])
        assert begin - CLOCK_SLACK_NS <= received <= published <= time.time_ns() + CLOCK_SLACK_NS


def test_every_row_is_counted_in_every_histogram(daemon, line):
    names = [
        f"streamrnn_{name}"
        for name in (
            "stage_latency_seconds_count{queue}",
            "stage_latency_seconds_count{step}",
            "stage_latency_seconds_count{total}",
            "predictions_total",
            "batch_size_sum",
            "frame_age_seconds_count",
        )
    ]

    def counts() -> np.ndarray:
        scrape = daemon.metrics()
        return np.array([scrape[name] for name in names])

    # a prediction is counted just after it is sent: the ones of the rows before may still be
    wait_for(lambda: (counts() == counts()).all(), "counts that stand still")
    before = counts()
    line.send("counted", rows(300), ts_ns=time.time_ns())
    line.send("counted", rows(200))  # without a time these have no age
    line.receive(500)
    wait_for(lambda: (counts() - before).tolist() == [500] * 5 + [300], "the counts of 500 rows")


def test_a_source_clock_that_counts_from_boot_leaves_the_ages_right(daemon, line):
    def sum_and_count() -> np.ndarray:
        scrape = daemon.metrics()
        return np.array([scrape[f"streamrnn_frame_age_seconds_{part}"] for part in ("sum", "count")])

    before = sum_and_count()
    line.send_rows("since boot", rows(12), ts_ns=10**9)
    line.receive(12)
    wait_for(lambda: sum_and_count()[1] >= before[1] + 12, "the ages of 12 rows")
    assert (sum_and_count() - before)[0] == pytest.approx(12 * time.time(), rel=0.01)


def test_a_subscriber_that_never_reads_delays_nobody(daemon, line):
    blocks, size = 120, 1000
    with zmq.Context() as context, context.socket(zmq.SUB) as stuck:
        stuck.rcvhwm, stuck.rcvbuf, stuck.linger = 1, 4096, 0
        stuck.rcvtimeo = round(1000 * DEADLINE_S)
        stuck.subscribe(b"")
        stuck.connect(daemon.publishes)

        def sends(name: str) -> int:
            line.send(name, rows(1))
            line.receive()
            return stuck.poll(1)

        wait_for(lambda: sends("stuck, here?"), "the second subscription")
        block, seen = rows(size), []
        for number in range(blocks):
            line.send("flood", block, seq=number * size)
            while len(seen) < (number + 1) * size:
                payload = line.subscriber.recv_multipart()[1]
                if payload[PREDICTION.fields["kind"][1]] != EVENT:
                    seen.append(int.from_bytes(payload[8:16], "little"))
        assert seen == list(range(blocks * size))
        # it was full: it has lost some of what the other one has, and what it has is whole
        floods = 0
        while (prediction := take(stuck)).stream != "stuck, enough":
            floods += prediction.stream == "flood"
            if not stuck.poll(0):
                wait_for(lambda: sends("stuck, enough"), "a prediction for a subscriber that reads again")
        assert 0 < floods < blocks * size


@pytest.fixture(scope="module")
def raw_daemon(model_file: Path) -> Iterator[Daemon]:
    with serving(model_file, {"input.format": "raw", "input.socket": "pull"}) as daemon:
        yield daemon


def test_raw_rows_are_pulled_and_numbered_and_have_no_time(raw_daemon):
    good = rows(12)
    with raw_daemon.line() as line:
        line.send("raw", good[0])
        line.send("raw", good[1:9])
        line.send_rows("raw", good[9:])
        assert line.answers(12) == rows_answers(raw_daemon.engine(), "raw", good)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"", "truncated"), (bytes(11), "truncated"), (bytes(29), "oversized"), (bytes(8), "channels")],
)
def test_a_raw_message_of_another_size_is_refused(raw_daemon, payload, reason):
    name, good = f"beside raw {len(payload)}", rows(4)
    before = raw_daemon.count(f"frames_rejected_total{{{reason}}}")
    with raw_daemon.line() as line:
        for row in good:
            line.publisher.send_multipart([name.encode(), payload])
            line.send(name, row)
        assert line.answers(4) == rows_answers(raw_daemon.engine(), name, good)
    assert raw_daemon.count(f"frames_rejected_total{{{reason}}}") == before + 4


def test_several_pushers_are_all_answered(raw_daemon):
    good = rows(50)
    with raw_daemon.line() as line, zmq.Context() as context, context.socket(zmq.PUSH) as second:
        second.linger = 0
        second.connect(raw_daemon.receives)
        for row in good:
            line.send("pushed 1", row)
            second.send_multipart([b"pushed 2", row.tobytes()])
        answers = line.answers(100)
        for name in ("pushed 1", "pushed 2"):
            found = [answer for answer in answers if answer.stream == name]
            assert found == rows_answers(raw_daemon.engine(), name, good)


def test_topics_are_prefixes_and_sockets_can_connect(model_file, tmp_path):
    ends = {f"{end}.connect": [f"ipc://{tmp_path}/{end}"] for end in ("input", "output")}
    with serving(model_file, ends | {"input.topics": ["valve/"]}) as daemon, daemon.line() as line:
        before = daemon.count("frames_received_total")
        good = rows(2)
        for name in ("pump/1", "valve", "valve/1", "Valve/1", "valve/"):
            line.send(name, good[0])
        assert [answer.stream for answer in line.answers(2)] == ["valve/1", "valve/"]
        assert daemon.count("frames_received_total") == before + 2


def test_an_idle_stream_is_let_go_and_begins_anew(model_file):
    settings = {"streams.idle_timeout": "1s", "streams.capacity": 70}  # more slots than one sweep sees
    with serving(model_file, settings) as daemon, daemon.line() as line:
        good = rows(3)
        line.send_rows("quiet", good)
        answers = line.answers(3)

        def eviction() -> Prediction | None:
            line.send("busy", good[0])
            (prediction,) = line.receive()
            return prediction if prediction.stream == "quiet" else None

        header = wait_for(eviction, "the quiet stream to be let go").header
        assert (header["kind"], header["flags"], header["horizon"]) == (EVENT, EVICTED, 0)
        wait_for(lambda: daemon.count("streams") == 0, "all streams to be let go")
        assert daemon.count("state_resets_total{idle}") == 3  # and the one that opened the line
        line.send_rows("quiet", good)
        busy, event, *anew = line.receive(5)
        assert (busy.stream, event.stream, event.header["kind"]) == ("busy", "busy", EVENT)
        assert [prediction.answer for prediction in anew] == answers
        assert answers == rows_answers(daemon.engine(), "quiet", good)


@pytest.fixture(scope="module")
def wild_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that diverges two rows after its first channel has gone far above its mean."""
    model = untrained("rnn", activation="relu", seed=3)
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    tensors["weight_ih_l0"][0], tensors["weight_hh_l0"][0] = [1e30, 0, 0], [1e30, 0, 0, 0, 0]
    tensors["bias_ih_l0"][0] = tensors["bias_hh_l0"][0] = 0
    path = tmp_path_factory.mktemp("wild") / "model.safetensors"
    write_model(Model.from_tensors(model.settings(), tensors), path)
    return path


def test_a_row_that_diverges_is_refused_and_its_stream_begins_anew(wild_model):
    calm = rows(20)
    calm[:, 0] = -1000
    wild = calm.copy()
    wild[5:7, 0] = 1000  # the second of these two overflows
    names, stream = ["calm", "wild"], np.tile([0, 1], 20)
    values = np.stack([calm, wild], axis=1).reshape(40, 3)
    with serving(wild_model) as daemon, daemon.line() as line:
        for number, row in zip(stream, values, strict=True):
            line.send(names[number], row)
        expected = engine_answers(daemon.engine(), names, stream, values)
        assert line.answers(39) == expected
        anew = [answer for answer in expected if answer.stream == "wild"][6:]
        assert [(answer.flags, answer.step, answer.epoch) for answer in anew[:2]] == [
            ("WARMING|RESET", 1, 1),
            ("WARMING", 2, 1),
        ]
        fresh = rows_answers(daemon.engine(), "wild", wild[7:])
        assert [answer.bits for answer in anew] == [answer.bits for answer in fresh]
        assert daemon.count("frames_rejected_total{diverged}") == 1
        assert daemon.count("state_resets_total{diverged}") == 1


def test_a_stream_past_the_capacity_and_a_missing_value_are_refused_by_the_rules(model_file):
    settings = {"streams.capacity": 2, "faults.missing": "reject"}
    with serving(model_file, settings) as daemon, daemon.line() as line:  # the line took one slot
        good = rows(6)
        for row in good:
            line.send("inside", row)
            line.send("outside", row)
            line.send("inside", np.array([1, 2, np.nan], np.float32))
        assert line.answers(6) == rows_answers(daemon.engine(), "inside", good)
        assert daemon.count("frames_rejected_total{capacity}") == 6
        assert daemon.count("frames_rejected_total{missing}") == 6
        assert daemon.count("streams") == daemon.count("stream_capacity") == 2


# A service whose main thread then does what it reads on standard input, and says when it did
PROGRAM = """
import ctypes, signal, sys, threading, time
from pathlib import Path
from streamrnn.settings.config import load_config
from streamrnn.daemon.service import Service

def hold():
    ctypes.PyDLL(None).usleep(1_500_000)  # in C and with the GIL

def storm():
    pump = next(thread for thread in threading.enumerate() if thread.name == "pump")
    signal.signal(signal.SIGUSR1, lambda *_: None)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        signal.pthread_kill(pump.ident, signal.SIGUSR1)

service = Service(lambda: load_config(Path(sys.argv[1]), {}))
service.start()
for line in sys.stdin:
    print(time.time_ns(), flush=True)
    globals()[line.strip()]()
    print(time.time_ns(), flush=True)
service.close()
"""


class Puppet:
    """A daemon that runs ``PROGRAM``, told what to do."""

    def __init__(self, daemon: Daemon):
        self._pipes = daemon.process

    def begin(self, what: str) -> int:
        """Has it done; returns the time just before, ns since the Unix epoch."""
        assert self._pipes.stdin
        self._pipes.stdin.write(f"{what}\n".encode())
        self._pipes.stdin.flush()
        return self.time()

    def time(self) -> int:
        """The next time it says."""
        assert self._pipes.stdout
        return int(self._pipes.stdout.readline())

    def is_busy(self) -> bool:
        return not select.select([self._pipes.stdout], [], [], 0)[0]


@pytest.fixture(scope="module")
def puppet_daemon(model_file: Path) -> Iterator[Daemon]:
    with serving(model_file, program=PROGRAM) as daemon:
        yield daemon


def test_an_interpreter_that_holds_the_gil_delays_no_frame(puppet_daemon):
    puppet, address = Puppet(puppet_daemon), puppet_daemon.http.removeprefix("http://").split(":")
    with puppet_daemon.line() as line, socket.create_connection((address[0], int(address[1]))) as web:
        web.settimeout(DEADLINE_S)
        begin = puppet.begin("hold")
        web.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        published = []
        for row in rows(50):
            line.send("unheld", row)
            published.append(int(line.receive()[0].header["pub_ns"]))
        # nothing else of the process moved meanwhile
        assert puppet.is_busy()
        assert not select.select([web], [], [], 0)[0]
        end = puppet.time()
        assert web.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert end - begin >= 1_500_000_000
    assert begin < published[0] <= published[-1] < end
    assert published == sorted(published)


def test_signals_on_the_pump_s_thread_leave_the_socket_in_step(puppet_daemon):
    puppet, good, count = Puppet(puppet_daemon), rows(100), 0
    with puppet_daemon.line() as line:
        puppet.begin("storm")
        while puppet.is_busy():
            for row in good:
                line.send("stormy", row)
            count += len(good)
            line.receive(len(good))
        puppet.time()
        assert count > 1000
        rejected = {name: n for name, n in puppet_daemon.metrics().items() if "rejected_total" in name and n}
        assert rejected == {}


def test_a_publisher_may_leave_while_the_pump_is_behind(tmp_path):
    """libzmq 4.3.5 aborts where a heartbeat, one a second, is due while a queue is full and nobody there."""
    model = tmp_path / "model.safetensors"
    write_model(untrained(channels=1, hidden=512, layers=3), model)
    settings = {"input.socket": "pull", "http.listen": "127.0.0.1:0"}
    with serving(model, settings) as daemon, zmq.Context() as context:
        with context.socket(zmq.PUSH) as publisher:
            publisher.sndtimeo, publisher.linger = 20, 0
            publisher.connect(daemon.receives)
            payload = pack_frame(np.zeros((8, 1), np.float32))
            sent = 0
            with suppress(zmq.Again):  # once nothing more goes in, all queues on the way are full
                while True:
                    publisher.send_multipart([b"m1", payload])
                    sent += 1
        before = time.monotonic()
        wait_for(lambda: daemon.count("frames_received_total") > HIGH_WATER / 8, "a part of it", 120)
        assert time.monotonic() - before > 2, "too quick to be behind"
        assert daemon.process.poll() is None

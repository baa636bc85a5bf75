"""What was recorded of single values, replayed: the daemon's own predictions. From a stream to a daemon."""

import json
import signal

import numpy as np
import pyarrow.csv as pa_csv
import zmq
from daemons import DEADLINE_S, serving, take, wait_for
from models import untrained
from neighbours import bound, command

from streamrnn.model.model_file import write_model
from streamrnn.wire.frame import flag_names

NAMES = tuple(f"c{place}" for place in range(8))
PERIOD = 10**9
START = 1_700_000_000 * 10**9
ASSEMBLE = {"period": "1s", "take": "mean", "hold": "4s", "lateness": "3 periods"}


def updates() -> list[list[bytes]]:
    """Of 8 sensors at 8 rates: out of order within the lateness, some twice, some lost, some too late."""
    rng, found = np.random.default_rng(5), []
    for place, name in enumerate(NAMES):
        times = START + np.cumsum(rng.integers(1, (place + 1) * PERIOD, 1000)) // 2
        found += [(int(time), name, float(rng.normal(0, 10))) for time in times if time < START + 90 * PERIOD]
    delays = rng.integers(0, 2 * PERIOD, len(found))
    delays[rng.random(len(found)) < 0.01] += 8 * PERIOD
    order = np.argsort([time + delay for (time, *_), delay in zip(found, delays, strict=True)])
    kept = [place for place in order if rng.random() > 0.03]
    again = [place for place in kept for _ in range(1 + (rng.random() < 0.05))]
    return [
        [
            f"plant/m1/{found[at][1]}".encode(),
            json.dumps({"time": found[at][0], "value": found[at][2]}).encode(),
        ]
        for at in again
    ]


def test_a_replay_of_what_was_recorded_gives_the_daemons_predictions(tmp_path):
    model, path = tmp_path / "m.safetensors", tmp_path / "values.csv"
    write_model(untrained(channels=8, sample_period_s=1.0), model)
    topic, said = "plant/{stream}/{channel}", updates()
    with zmq.Context() as context:
        publisher, endpoint = bound(context, zmq.XPUB, sndhwm=0, xpub_verbose=1)
        settings = {
            "input.format": "json",
            "input.topic": topic,
            "input.connect": (endpoint,),
            "input.bind": (),
        }
        with serving(
            model, settings | {f"assemble.{key}": value for key, value in ASSEMBLE.items()}
        ) as daemon:
            subscriber = context.socket(zmq.SUB)
            subscriber.linger, subscriber.rcvtimeo = 0, round(1000 * DEADLINE_S)
            subscriber.subscribe(b"")
            subscriber.connect(daemon.publishes)
            words = ["--format", "json", "--topic", topic, "-o", path, "--rows", str(len(said))]
            recorder = command("record", endpoint, *words)
            for _ in range(2):
                assert publisher.recv() == b"\x01"
            wait_for(lambda: daemon.get("/readyz")[0] == 200, "the daemon")
            for message in said:
                publisher.send_multipart(message)
            _, told = recorder.communicate(timeout=DEADLINE_S)
            assert f"recorded {len(said):,} values of 1 stream" in told
            out = tmp_path / "out.csv"
            replayed = command("replay", path, "-m", model, "-o", out, *options(ASSEMBLE))
            _, told = replayed.communicate(timeout=DEADLINE_S)
            assert replayed.returncode == 0, told
            assert " late" in told
            every = pa_csv.read_csv(out).to_pylist()
            rows = [row for row in every if row["step"] is not None]  # before all have spoken none is
            assert len(rows) > 80
            # by the daemon's clock the last ones, and behind them held values, which a file's end has not
            answers = [take(subscriber) for _ in rows]
            subscriber.close()
        publisher.close()
    for row, answer in zip(rows, answers, strict=True):
        assert (row["seq"], row["step"]) == (answer.header["seq"], answer.header["step"])
        assert (row["flags"] or "") == flag_names(int(answer.header["flags"]))
        numbers = [row[f"{name}_pred"] for name in NAMES] + [row["score"], row["residual"]]
        bits = np.array([np.nan if number is None else number for number in numbers], np.float32)
        live = [*answer.values[0], answer.header["score"], answer.header["residual"]]
        assert bits.tobytes() == np.array(live, np.float32).tobytes()


def options(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", value)]


def test_from_a_stream_to_a_daemon(tmp_path):
    """Record, train, serve."""
    path, model = tmp_path / "rows.csv", tmp_path / "m.safetensors"
    rng = np.random.default_rng(2)
    with zmq.Context() as context:
        publisher, endpoint = bound(context, zmq.XPUB, sndhwm=0)
        recorder = command("record", endpoint, "--format", "json", "-o", path)
        publisher.recv()
        for place in range(400):
            said = {"time": (START + place * PERIOD) / 1e9, "flow": rng.normal(), "level": rng.normal()}
            for machine in (b"m1", b"m2"):
                publisher.send_multipart([machine, json.dumps(said).encode()])
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 801, "the rows")
        recorder.send_signal(signal.SIGINT)
        _, told = recorder.communicate(timeout=DEADLINE_S)
        assert recorder.returncode == 0 and "recorded 800 rows of 2 streams" in told
        trained = command("train", path, "-o", model, "--epochs", "1", "--hidden", "4", "--highway", "0")
        _, told = trained.communicate(timeout=60)
        assert trained.returncode == 0, told
        assert "channels flow, level" in told and "2 streams" in told
        with serving(model, {"input.format": "json"}) as daemon:
            sender, subscriber = context.socket(zmq.XPUB), context.socket(zmq.SUB)
            sender.linger = subscriber.linger = 0
            subscriber.rcvtimeo = 100
            subscriber.subscribe(b"")
            subscriber.connect(daemon.publishes)
            sender.connect(daemon.receives)
            sender.recv()

            def answered() -> bool:
                sender.send_multipart([b"m1", b'{"flow": 1, "level": 2}'])
                return bool(subscriber.poll(100))

            wait_for(answered, "a prediction")
            assert take(subscriber).values.shape == (1, 2)
            sender.close()
            subscriber.close()
        publisher.close()

"""Messages from a real MQTT broker: the right rows, login and TLS, what is lost when either end goes away."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import Mosquitto, broker, fake_broker, message
from daemons import ANY_PORT, DEADLINE_S, Daemon, make_config, serving, wait_for
from intakes import CHANNELS, PERIOD_NS, START_NS, Sender, expected, sender_of, values
from needs import needs_programs
from paho.mqtt import publish
from readme import blocks, free_ports, section

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.errors import ConfigError
from streamrnn.mqtt.setup import make_readers

SINGLE = {"input.format": "json", "input.topic": "plant/{stream}/{channel}", "assemble.period": "10ms"}
ROWS = {"input.format": "json", "input.topic": "rows/{stream}"}
CONNECTED = "connected and subscribed"


def connect(*endpoints: str) -> dict[str, tuple[str, ...]]:
    """Settings: brokers, and beside them a socket of ZeroMQ."""
    return {"input.connect": endpoints, "input.bind": ANY_PORT}


def row_text(row: list[float], place: int) -> str:
    return json.dumps(dict(zip(CHANNELS, row, strict=True)) | {"time": START_NS + place * PERIOD_NS})


def refused(daemon: Daemon) -> dict[str, int]:
    return {one["reason"]: one["count"] for one in json.loads(daemon.get("/api/refusals")[1])["refusals"]}


def shown_streams(daemon: Daemon) -> dict[str, int]:
    """The steps of each stream."""
    return {one["stream"]: one["step"] for one in json.loads(daemon.get("/api/streams")[1])["streams"]}


def open_line(sender: Sender, mosquitto: Mosquitto, topic: str, payload: str) -> None:
    """Publishes the stream "probe" until it is answered: the subscriber is there."""

    def answered() -> bool:
        mosquitto.publish(topic, payload)
        return bool(sender.subscriber.poll(10))

    wait_for(answered, "an answer")


def test_single_values_are_rows_and_predictions_those_of_frames(model_file: Path, tmp_path: Path):
    """The values of one sensor after the other, by ``mosquitto_pub``: what they say goes by their times."""
    rows, first = values(20, 4), START_NS // PERIOD_NS
    with (
        broker(tmp_path) as mosquitto,
        serving(
            model_file, SINGLE | connect(f"{mosquitto.address}plant/+/+") | {"assemble.lateness": "1s"}
        ) as daemon,
        sender_of(daemon) as sender,
    ):
        daemon.wait_until_it_says(CONNECTED)
        for channel, name in enumerate(CHANNELS):
            said = [
                json.dumps({"value": value, "time": (first + place) * PERIOD_NS})
                for place, value in enumerate(rows[:, channel].tolist())
            ]
            mosquitto.publish(f"plant/m1/{name}", *said)
        predictions = sender.predictions(20)
        assert [int(each.header["seq"]) for each in predictions] == [first + place for place in range(20)]
        wanted = expected(daemon, "m1", rows, [(first + place) * PERIOD_NS for place in range(20)])
        assert [each.answer._replace(seq=0) for each in predictions] == [
            one._replace(seq=0) for one in wanted
        ]


def test_rows_are_those_that_zeromq_brings_beside_two_brokers(model_file: Path, tmp_path: Path):
    rows = values(20, 5)
    said = [row_text(row, place) for place, row in enumerate(rows.tolist())]
    (tmp_path / "other").mkdir()
    with (
        broker(tmp_path) as mosquitto,
        broker(tmp_path / "other") as other,
        serving(model_file, ROWS | connect(f"{mosquitto.address}rows/+", f"{other.address}rows/#")) as daemon,
        sender_of(daemon) as sender,
    ):
        assert f"{mosquitto.address}rows/+, {other.address}rows/#" in daemon.wait_until_it_says("ready: ")
        for address in (mosquitto.address, other.address):
            wait_for(lambda: re.search(f"{address}.*{CONNECTED}", daemon.said), address)  # noqa: B023
        sender.open(b"rows/probe", b"[0, 0, 0]")
        mosquitto.publish("rows/m1", *said)
        by_mqtt = sender.answers(20)
        other.publish("rows/m2", *said)
        by_another = sender.answers(20)
        for line in said:
            sender.socket.send_multipart([b"rows/m3", line.encode()])
        by_zeromq = sender.answers(20)
        ts_ns = [START_NS + place * PERIOD_NS for place in range(20)]
        assert by_mqtt == expected(daemon, "m1", rows, ts_ns)
        assert by_another == [one._replace(stream="m2") for one in by_mqtt]
        assert by_zeromq == [one._replace(stream="m3") for one in by_mqtt]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and what it signed: a broker's certificate and a client's."""
    needs_programs("openssl")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "server.ext").write_text("subjectAltName = IP:127.0.0.1\n")
    (folder / "client.ext").write_text("basicConstraints = CA:FALSE\n")
    key = "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    lines = [f"{key} -x509 -days 2 -subj /CN=CA -keyout ca.key -out ca.pem"]
    for name in ("server", "client"):
        lines.append(f"{key} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        lines.append(
            f"x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
            f"-extfile {name}.ext -out {name}.pem"
        )
    for line in lines:
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def secret_file(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_login_and_tls_and_what_is_said_without(model_file: Path, tmp_path: Path, certificates: Path):
    needs_programs("mosquitto_passwd")
    words = ["mosquitto_passwd", "-b", "-c", str(tmp_path / "passwords"), "press", "right"]
    subprocess.run(words, check=True, timeout=60)
    lines = [
        *("allow_anonymous false", f"password_file {tmp_path / 'passwords'}", "require_certificate true"),
        *(f"cafile {certificates / 'ca.pem'}", f"certfile {certificates / 'server.pem'}"),
        f"keyfile {certificates / 'server.key'}",
    ]
    files = {
        f"mqtt.{key}_file": str(certificates / f"client.{end}")
        for key, end in (("cert", "pem"), ("key", "key"))
    }
    ca = {"mqtt.ca_file": str(certificates / "ca.pem")}
    right = {"mqtt.password_file": secret_file(tmp_path / "right", "right\n")}
    wrong = {"mqtt.password_file": secret_file(tmp_path / "wrong", "wrong-secret\n")}
    with broker(tmp_path, *lines) as mosquitto:
        endpoint = f"mqtts://press@127.0.0.1:{mosquitto.port}/rows/+"
        settings = ROWS | connect(endpoint) | files
        with serving(model_file, settings | ca | right) as daemon:
            daemon.wait_until_it_says(f"{endpoint}: {CONNECTED}")
            options = ["-u", "press", "-P", "right", "--cafile", ca["mqtt.ca_file"]]
            options += ["--cert", files["mqtt.cert_file"], "--key", files["mqtt.key_file"]]
            mosquitto.publish("rows/m1", "[1, 2, 3]", options=options)
            wait_for(lambda: daemon.count("predictions_total") == 1, "the row")
            assert daemon.stop() == 0
        with serving(model_file, settings | ca | wrong) as daemon, sender_of(daemon) as sender:
            line = daemon.wait_until_it_says("the broker refuses us: not authorized")
            assert "mqtt.password_file" in line
            sender.open(b"rows/probe", b"[0, 0, 0]")  # it serves whom it can
            assert "wrong-secret" not in daemon.said
        with serving(model_file, settings | right) as daemon:
            assert "look at mqtt.ca_file" in daemon.wait_until_it_says("CERTIFICATE_VERIFY_FAILED")


def test_a_broker_that_goes_away_is_found_again(model_file: Path, tmp_path: Path):
    rows = values(2, 6)
    said = [row_text(row, place) for place, row in enumerate(rows.tolist())]
    with (
        broker(tmp_path) as mosquitto,
        serving(model_file, ROWS | connect(f"{mosquitto.address}rows/+")) as daemon,
        sender_of(daemon) as sender,
    ):
        daemon.wait_until_it_says(CONNECTED)
        open_line(sender, mosquitto, "rows/probe", "[0, 0, 0]")
        mosquitto.publish("rows/m1", said[0])
        answers = sender.answers(1)
        mosquitto.stop()
        daemon.wait_until_it_says("the connection is lost")
        daemon.wait_until_it_says("cannot be reached: [Errno 111]")
        mosquitto.start()
        wait_for(lambda: daemon.said.count(CONNECTED) == 2, "the broker to be found again")
        mosquitto.publish("rows/m1", said[1])
        answers += sender.answers(1)
        assert answers == expected(daemon, "m1", rows, [START_NS, START_NS + PERIOD_NS])


def test_what_is_published_while_the_daemon_stops_and_is_away_is_not_lost(model_file: Path, tmp_path: Path):
    """With a name of its own; it is stopped amid thousands of rows, and goes on where it was."""
    count = 6000
    said = "".join(row_text(row, place) + "\n" for place, row in enumerate(values(count, 7).tolist()))
    with broker(tmp_path, "allow_anonymous true", f"max_queued_messages {count}") as mosquitto:
        settings = ROWS | connect(f"{mosquitto.address}rows/+") | {"mqtt.client_id": "streamrnn-1"}
        settings["state.snapshots"] = str(tmp_path / "snapshots")
        with serving(model_file, settings) as daemon:
            daemon.wait_until_it_says(CONNECTED)
            with mosquitto.publishing("rows/m1") as pipe:
                pipe.write(said.encode())
                pipe.close()
                wait_for(lambda: daemon.count("predictions_total") > 10, "the first rows")
                assert daemon.stop() == 0
            before = int(re.search(r"stopped after (\d+) frames", daemon.said)[1])
        with serving(model_file, settings) as daemon:
            wait_for(lambda: daemon.count("predictions_total") >= count - before, "the rows meanwhile")
            wait_for(lambda: shown_streams(daemon)["m1"] == count, "every row, once")
            assert not refused(daemon)


@pytest.mark.parametrize("retained", [False, True])
def test_retained_messages_are_left_out_or_taken(model_file: Path, tmp_path: Path, retained: bool):
    with broker(tmp_path) as mosquitto:
        old = [f"old {number}" for number in range(25)]  # it sends twenty before it is told of one
        publish.multiple([(f"rows/{name}", "[1, 2, 3]", 1, True) for name in old], port=mosquitto.port)
        settings = ROWS | connect(f"{mosquitto.address}rows/+") | {"mqtt.retained": retained}
        with serving(model_file, settings) as daemon:
            daemon.wait_until_it_says(CONNECTED)
            mosquitto.publish("rows/new", "[1, 2, 3]")
            wait_for(lambda: daemon.count("predictions_total") == 1 + 25 * retained, "the rows")
            wanted = {*old, "new"} if retained else {"new"}
            wait_for(lambda: shown_streams(daemon).keys() == wanted, "the streams")


def test_hostile_payloads_are_counted_and_the_next_row_is_the_same(model_file: Path, tmp_path: Path):
    rows = values(3, 8)
    ts_ns = [START_NS + place * PERIOD_NS for place in range(3)]
    rubbish = {
        "syntax": [b"\xff\xfe\0", b"{" * 5000, b"\x00" * 5000, b"[1, 2, 3", os.urandom(200)],
        "value": [b'["1", 2, 3]', b'{"c0": {}, "c1": 2, "c2": 3}'],
        "channels": [b"[1, 2]", b"[]"],
        "oversized": [b"[" + b" " * (5 << 20) + b"1, 2, 3]"],
        "time": [b'{"c0": 1, "c1": 2, "c2": 3, "time": 1e300}'],
        "infinite": [b"[1e99, 2, 3]"],
    }
    with (
        broker(tmp_path) as mosquitto,
        serving(model_file, ROWS | connect(f"{mosquitto.address}#")) as daemon,
        sender_of(daemon) as sender,
    ):
        daemon.wait_until_it_says(CONNECTED)
        open_line(sender, mosquitto, "rows/probe", "[0, 0, 0]")
        mosquitto.publish("rows/m1", row_text(rows[0].tolist(), 0))
        for payloads in rubbish.values():
            for payload in payloads:
                mosquitto.publish_bytes("rows/m1", payload)
        mosquitto.publish("other/m1", "[1, 2, 3]")
        mosquitto.publish("rows/" + "m" * 300, "[1, 2, 3]")
        mosquitto.publish("rows/m1", *(row_text(rows[place].tolist(), place) for place in (1, 2)))
        assert sender.answers(3) == expected(daemon, "m1", rows, ts_ns)
        wanted = {reason: len(payloads) for reason, payloads in rubbish.items()} | {"topic": 1, "stream": 1}
        assert refused(daemon) == wanted


class Taken:
    """What a reader, in this process, took."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.refused: list[Refused] = []

    def __call__(self, messages, refused) -> bool:
        self.messages += messages
        self.refused += refused
        return True


def reader_of(port: int, take):
    settings = {**connect(f"mqtt://127.0.0.1:{port}/#"), "input.format": "json"}
    config = make_config(Path("m"), settings)
    (reader,) = make_readers(config.input, config.mqtt, take, lambda: None)
    return reader


def test_a_packet_of_a_size_that_mqtt_allows_is_counted_and_takes_no_memory():
    taken = Taken()
    with fake_broker() as fake:
        reader = reader_of(fake.port, taken)
        reader.start()
        connection = fake.connection(0)
        connection.sendall(message(b"a", b"1"))
        whole = message(b"a", bytes(60 << 20))
        connection.sendall(whole)
        connection.sendall(message(b"b", b"2", qos=1, number=7))
        assert connection.recv(4) == b"\x40\x02\x00\x07"
        connection.sendall(message(b"\xff", b"3") + message(b"c", b"4", flags=1) + message(b"d", b"5"))
        wait_for(lambda: len(taken.messages) == 3, "what follows")
        assert [(each.topic, *each.parts) for each in taken.messages] == [
            (b"a", b"1"),
            (b"b", b"2"),
            (b"d", b"5"),
        ]
        assert [(each.reason, each.topic) for each in taken.refused] == [("oversized", b"a"), ("topic", b"")]
        reader.stop()
        reader.join()


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"\xf0\x00", "the connection is lost"),
        (b"\x30\xff\xff\xff\xff\xff", "the connection is lost"),
        (b"\x30\x02\xff\xff", "the connection is lost"),  # the end of a topic that is not there
        (message(b"a", b"1", qos=2), "it sends messages of QoS 2"),
        (message(b"a", b"1", qos=3), "the connection is lost"),
    ],
)
def test_a_broker_that_breaks_the_rules_is_left_and_tried_again(said, what, caplog):
    taken = Taken()
    with fake_broker() as fake:
        reader = reader_of(fake.port, taken)
        reader.start()
        fake.connection(0).sendall(said)
        fake.connection(1).sendall(message(b"a", b"2"))
        wait_for(lambda: taken.messages, "the message")
        assert what in caplog.text
        assert not reader.failed
        reader.stop()
        reader.join()


def test_a_publisher_that_is_too_fast_waits_at_the_broker():
    """Nothing is read while rows wait: what has been sent is what the kernel and one batch hold."""
    end, taken = socket.socketpair(), Taken()

    def take(messages, refused) -> bool:
        taken(messages, refused)
        end[0].recv(1)  # as long as the pump is behind
        return True

    with fake_broker() as fake:
        reader = reader_of(fake.port, take)
        reader.start()
        connection = fake.connection(0)
        connection.settimeout(1.0)
        flood, sent = message(b"a", b"1" * 1000) * 100, 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 28:
                sent += connection.send(flood)
        assert sent < 1 << 25
        assert len(taken.messages) <= 1000
        reader.stop()
        end[1].close()
        reader.join()


def test_without_the_library_it_says_what_to_install(monkeypatch):
    for name in ("client", "reader"):
        monkeypatch.delitem(sys.modules, f"streamrnn.mqtt.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "paho", None)
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigError, match=r'pip install "streamrnn\[mqtt\]"'):
        reader_of(1, Taken())


def test_files_that_cannot_be_used_are_named(tmp_path: Path):
    def error(endpoint: str, **files: str) -> str:
        settings = {"input.format": "json", **connect(endpoint)}
        config = make_config(Path("m"), settings | {f"mqtt.{key}": name for key, name in files.items()})
        with pytest.raises(ConfigError) as caught:
            make_readers(config.input, config.mqtt, Taken(), lambda: None)
        return str(caught.value)

    open_to_all, empty = tmp_path / "open", secret_file(tmp_path / "empty", "")
    open_to_all.write_text("secret")
    open_to_all.chmod(0o644)
    assert f"run chmod 600 {open_to_all}" in error("mqtt://u@h/a", password_file=str(open_to_all))
    assert "as one line" in error("mqtt://u@h/a", password_file=empty)
    assert "No such file" in error("mqtt://u@h/a", password_file="gone")
    assert "gone: cannot be read: No such file" in error("mqtts://h/a", ca_file="gone")
    assert "holds nothing in PEM" in error("mqtts://h/a", ca_file=str(open_to_all))
    assert "gone with key" in error("mqtts://h/a", cert_file="gone")


def test_the_section_of_the_readme(tmp_path: Path):
    """From a broker to moving curves: its file and its lines, but for the ports, and in less time."""
    text, (commands,) = section("MQTT"), blocks(section("MQTT"), "sh")
    publish, *lines = commands.splitlines()
    record, train, serve = ([sys.executable, "-m", *shlex.split(line)] for line in lines)
    (port,) = free_ports(1)
    with broker(tmp_path) as mosquitto:
        settings = blocks(text, "toml")[0].replace("localhost/", f"127.0.0.1:{mosquitto.port}/")
        settings = settings.replace("5556", "*").replace('"1s"', '"200ms"')
        (tmp_path / "plant.toml").write_text(settings + f'[http]\nlisten = "127.0.0.1:{port}"\n')
        line = publish.replace("mosquitto_pub", f"mosquitto_pub -p {mosquitto.port}").replace("0.3", "0.05")
        publishing = subprocess.Popen(["bash", "-c", line.removesuffix("&")], start_new_session=True)
        serving = None
        try:
            record[record.index("--seconds") :] = ["--rows", "100"]
            train[train.index("1s")] = "200ms"
            for words in (record, train):
                subprocess.run(words, cwd=tmp_path, check=True, timeout=DEADLINE_S)
            with (tmp_path / "log").open("wb") as log:
                serving = subprocess.Popen(serve, cwd=tmp_path, stderr=log)
            config = make_config(tmp_path / "model.safetensors", {})
            daemon = Daemon(serving, (tmp_path / "log").open("rb"), config)
            daemon.find_addresses()
            wait_for(lambda: daemon.count("predictions_total") >= 3, "predictions")
            wait_for(lambda: shown_streams(daemon).keys() == {"pump-1"}, "the stream")
        finally:
            os.killpg(publishing.pid, 9)
            publishing.wait(DEADLINE_S)
            if serving is not None:
                serving.terminate()
                assert serving.wait(DEADLINE_S) == 0

"""Who gets in, who does not, and what strangers can do to a socket. Real sockets on both sides."""

import contextlib
import json
import logging
import os
import signal
import socket as tcp
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from click.testing import CliRunner
from daemons import COMPILE_S, DEADLINE_S, Daemon, Line, launch, serving, take, wait_for
from neighbours import ANY_PORT, bound
from zmq.utils.monitor import recv_monitor_message

from streamrnn.cli import main
from streamrnn.client.send import SendOptions, send
from streamrnn.client.tail import tail
from streamrnn.daemon.security import TOLD, Guard
from streamrnn.daemon.sockets import SUBSCRIPTION_BYTES, largest_frame, open_input, open_output
from streamrnn.errors import ConfigError, UserError
from streamrnn.settings.curve_keys import ClientKeys, client_keys, public_key, read_secret, write_keys
from streamrnn.settings.sections import Input, Output, Security

ENDS = ("input", "output")
SECONDS = 20.0  # "within seconds": 5 for a machine, 10 for a program, on a machine that is not busy
REFUSED = {
    "no key": zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    "a wrong server key": zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    "an unknown key": zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    "a key of the other socket": zmq.EVENT_HANDSHAKE_FAILED_AUTH,
}
ROWS = np.random.default_rng(3).normal(0, 1, (50, 3)).astype(np.float32)


class Keyring:
    """The keys of everybody, and the daemon's settings."""

    def __init__(self, folder: Path):
        self.files = {name: write_keys(str(folder / name)) for name in ("daemon", "pub", "sub", "stranger")}
        self.server = self.public("daemon")

    def public(self, name: str) -> str:
        return self.files[name][2]

    def secret_file(self, name: str) -> Path:
        return self.files[name][0]

    def client(self, name: str) -> ClientKeys:
        return client_keys(self.server, self.secret_file(name))

    def security(self, publisher: str = "pub", subscriber: str = "sub") -> Security:
        return Security(
            server_secret=str(self.secret_file("daemon")),
            client_keys=(self.public(publisher),),
            output_clients=(self.public(subscriber),),
        )

    def of(self, kind: str, owner: str) -> ClientKeys | None:
        """The keys of an intruder on the socket of ``owner``."""
        return {
            "no key": None,
            "a wrong server key": ClientKeys(self.public("stranger"), self.client(owner).secret),
            "an unknown key": self.client("stranger"),
            "a key of the other socket": self.client("sub" if owner == "pub" else "pub"),
        }[kind]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys"))


class Client:
    """A socket with a monitor."""

    def __init__(self, context: zmq.Context, kind: int, keys: ClientKeys | None, endpoint: str):
        self.socket = context.socket(kind)
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = round(1000 * DEADLINE_S)
        if kind == zmq.SUB:
            self.socket.subscribe(b"")
        if keys is not None:
            keys.put_on(self.socket)
        self._monitor = self.socket.get_monitor_socket()
        self._monitor.rcvtimeo = round(1000 * DEADLINE_S)
        self.socket.connect(endpoint)

    def wait_for(self, event: int) -> None:
        """Until the monitor tells of it; a refusal must not come after an entry, nor the other way round."""
        entered = zmq.EVENT_HANDSHAKE_SUCCEEDED
        wrong = [entered] if event in REFUSED.values() else REFUSED.values()
        while (found := recv_monitor_message(self._monitor)["event"]) != event:
            assert found not in wrong, zmq.Event(found)


class Doors:
    """A daemon's sockets without the daemon: PULL, and SUB too, for frames, PUB for predictions."""

    def __init__(self, context: zmq.Context, security: Security):
        self.guard = Guard(context, security)
        self._context = context
        self._clients = zmq.Context()
        self._open: list[Client] = []

    def open(self) -> "Doors":
        there = (ANY_PORT,)
        settings = Input(bind=there, socket="pull")
        self.input, (self.receives,) = open_input(self._context, self.guard, settings, 1)
        self.input_too, (self.receives_too,) = open_input(self._context, self.guard, Input(bind=there), 1)
        self.output, (self.publishes,) = open_output(self._context, self.guard, Output(bind=there), 100)
        self.input.rcvtimeo = round(1000 * DEADLINE_S)
        return self

    def publisher(self, keys: ClientKeys | None) -> Client:
        """It has sent its message, which leaves once the connection stands."""
        client = self._client(zmq.PUSH, keys, self.receives)
        with contextlib.suppress(zmq.Again):  # it has been refused already
            client.socket.send(b"frame", zmq.NOBLOCK)
        return client

    def subscriber(self, keys: ClientKeys | None) -> Client:
        return self._client(zmq.SUB, keys, self.publishes)

    def _client(self, *arguments: Any) -> Client:
        self._open.append(Client(self._clients, *arguments))  # or it is collected, and closed
        return self._open[-1]

    def publish_until(self, client: Client) -> None:
        """Publishes until ``client`` has had a message."""
        wait_for(lambda: self.output.send(b"prediction") or client.socket.poll(0), "a prediction")

    def close(self) -> None:
        self.guard.stop()
        self._clients.destroy(0)


@pytest.fixture
def doors(keys: Keyring) -> Iterator[Doors]:
    """Guarded, and open."""
    with zmq.Context() as context:
        doors = Doors(context, keys.security())
        doors.guard.start()
        yield doors.open()
        doors.close()


# keys


@pytest.mark.parametrize("kind", REFUSED)
def test_nothing_gets_in_but_from_a_listed_key(doors, keys, kind):
    intruder = doors.publisher(keys.of(kind, "pub"))
    intruder.wait_for(REFUSED[kind])
    friend = doors.publisher(keys.client("pub"))
    friend.wait_for(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    friend.socket.send(b"last")
    assert [doors.input.recv(), doors.input.recv()] == [b"frame", b"last"]  # the friend's alone
    assert not doors.input.poll(0)


@pytest.mark.parametrize("kind", REFUSED)
def test_nothing_gets_out_but_to_a_listed_key(doors, keys, kind):
    intruder = doors.subscriber(keys.of(kind, "sub"))
    intruder.wait_for(REFUSED[kind])
    friend = doors.subscriber(keys.client("sub"))
    doors.publish_until(friend)
    assert not intruder.socket.poll(0)


@pytest.mark.parametrize("started", [True, False])
def test_without_its_guard_nobody_new_gets_in(keys, started):
    with zmq.Context() as context:
        doors = Doors(context, keys.security())
        if started:
            doors.guard.start()
        doors.open()
        if started:
            inside = doors.publisher(keys.client("pub"))
            assert doors.input.recv() == b"frame"
        doors.guard.stop()
        publisher, subscriber = doors.publisher(keys.client("pub")), doors.subscriber(keys.client("sub"))
        for client in (publisher, subscriber):
            client.wait_for(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        if started:
            inside.socket.send(b"again")
            assert doors.input.recv() == b"again"
        doors.output.send(b"prediction")
        publisher.wait_for(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)  # it has tried once more, in vain
        assert not doors.input.poll(0)
        assert not subscriber.socket.poll(0)
        doors.guard.start()  # and both are let in, still trying
        assert doors.input.recv() == b"frame"
        doors.publish_until(subscriber)
        doors.close()


def test_the_lists_change_while_it_runs(doors, keys):
    inside = doors.publisher(keys.client("pub"))
    assert doors.input.recv() == b"frame"
    changed = keys.security(publisher="stranger")
    assert doors.guard.removed(changed)
    doors.guard.update(changed)
    assert not doors.guard.removed(changed)
    removed = doors.publisher(keys.client("pub"))
    removed.wait_for(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    doors.publisher(keys.client("stranger"))
    assert doors.input.recv() == b"frame"
    inside.socket.send(b"inside")  # who is in stays in
    assert doors.input.recv() == b"inside"
    assert not doors.input.poll(0)
    subscriber = doors.subscriber(keys.client("sub"))
    doors.publish_until(subscriber)


def test_a_key_that_is_only_added_is_not_removed(keys):
    with zmq.Context() as context:
        both = Security(
            server_secret=str(keys.secret_file("daemon")),
            client_keys=(keys.public("pub"), keys.public("stranger")),
            output_clients=(keys.public("sub"),),
        )
        assert not Guard(context, keys.security()).removed(both)
        assert Guard(context, both).removed(keys.security())
        assert Guard(context, both).removed(keys.security(publisher="pub", subscriber="stranger"))


@pytest.mark.parametrize("name", ["pub", "stranger"])
def test_who_connects_is_still_the_one_who_asks_for_keys(keys, name):
    with zmq.Context() as context, zmq.Context() as others:
        guard = Guard(context, keys.security())
        guard.start()
        publisher = others.socket(zmq.PUSH)
        publisher.linger = 0
        keys.client(name).put_on(publisher)
        monitor = publisher.get_monitor_socket()
        publisher.bind(ANY_PORT)
        settings = Input(connect=(publisher.last_endpoint.decode(),), socket="pull")
        source, _ = open_input(context, guard, settings, 1)
        ends = (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        while (event := recv_monitor_message(monitor)["event"]) not in ends:
            pass
        assert event == ends[name == "stranger"]
        if name == "pub":
            publisher.send(b"frame")
            assert source.recv() == b"frame"
        guard.stop()


def test_a_refused_key_is_logged_once_and_a_secret_never(doors, keys, caplog):
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            doors.publisher(keys.client("stranger")).wait_for(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        for _ in range(TOLD):
            pair = zmq.curve_keypair()
            stranger = ClientKeys(keys.server, pair[1].decode())
            doors.subscriber(stranger).wait_for(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    lines = caplog.text.splitlines()
    assert len(lines) == TOLD
    assert "input: refused the key " + keys.public("stranger") + " from 127.0.0.1" in lines[0]
    assert "security.client_keys" in lines[0]
    assert not any(read_secret(keys.secret_file(name)) in caplog.text for name in keys.files)
    assert read_secret(keys.secret_file("pub")) not in repr(SendOptions("a", "b", keys=keys.client("pub")))


def test_without_a_secret_everybody_gets_in():
    with zmq.Context() as context:
        doors = Doors(context, Security())
        doors.guard.start()
        doors.open()
        doors.publisher(None)
        assert doors.input.recv() == b"frame"
        doors.publish_until(doors.subscriber(None))
        doors.close()


# a daemon with keys


@pytest.fixture(scope="module")
def protected(model_file: Path, keys: Keyring) -> Iterator[Daemon]:
    security = keys.security().model_dump(mode="json")
    with serving(model_file, {f"security.{key}": value for key, value in security.items()}) as daemon:
        yield daemon


@contextlib.contextmanager
def friendly_line(daemon: Daemon, keys: Keyring) -> Iterator[Line]:
    with zmq.Context() as context:
        line = Line(context, daemon)
        keys.client("pub").put_on(line.publisher)
        keys.client("sub").put_on(line.subscriber)
        line.open()
        yield line
        line.close()


def test_a_daemon_answers_its_friends_and_nobody_else(protected, keys):
    with friendly_line(protected, keys) as line, zmq.Context() as context:
        before = protected.count("frames_received_total")
        intruders = []
        for kind, event in REFUSED.items():
            publisher = Client(context, zmq.PUB, keys.of(kind, "pub"), protected.receives)
            subscriber = Client(context, zmq.SUB, keys.of(kind, "sub"), protected.publishes)
            publisher.wait_for(event)
            subscriber.wait_for(event)
            intruders += [(publisher, subscriber)]
        for row in ROWS:
            for publisher, _ in intruders:
                publisher.socket.send_multipart([b"evil", line.pack(row)])  # PUB: drops what nobody takes
            line.send("good", row)
        assert [prediction.header["seq"] for prediction in line.receive(len(ROWS))] == [*range(len(ROWS))]
        assert protected.count("frames_received_total") == before + len(ROWS)
        assert not any(subscriber.socket.poll(0) for _, subscriber in intruders)
        for _, subscriber in intruders:
            subscriber.socket.close()
    assert f"refused the key {keys.public('stranger')} from 127.0.0.1" in protected.said
    assert read_secret(keys.secret_file("daemon")) not in protected.said


def test_send_and_tail_bring_their_keys(protected, keys, tmp_path, capsys):
    path = tmp_path / "valve.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n")
    options = SendOptions(str(path), protected.receives, keys=keys.client("pub"))
    with ThreadPoolExecutor() as pool:
        printed = pool.submit(tail, protected.publishes, [], True, 1, None, keys=keys.client("sub"))
        wait_for(lambda: send(options) or printed.done(), "a printed prediction")
        assert printed.result() == 0
    assert json.loads(capsys.readouterr().out)["stream"] == "valve"


def test_send_binds_with_its_keys(keys, tmp_path):
    path = tmp_path / "valve.csv"
    path.write_text("a\n1\n2\n")
    endpoint = f"ipc://{tmp_path}/frames"
    with zmq.Context() as context:
        guard = Guard(context, keys.security())
        guard.start()
        source, _ = open_input(context, guard, Input(connect=(endpoint,)), 1)
        assert send(SendOptions(str(path), endpoint, bind=True, keys=keys.client("pub"))) == 0
        assert [source.recv_multipart()[0] for _ in range(2)] == [b"valve", b"valve"]
        guard.stop()


@pytest.mark.parametrize("socket", ["pub", "push"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no key", "the other end does not speak as this one does; give --server-key"),
        ("an unknown key", "the key of --secret is refused; "),
        ("a wrong server key", "waited 1 s for "),
    ],
)
def test_send_says_why_it_is_not_let_in(doors, keys, tmp_path, capsys, socket, kind, words):
    path = tmp_path / "valve.csv"
    path.write_text("a\n1\n")
    to = doors.receives if socket == "push" else doors.receives_too
    seconds = 1.0 if words.startswith("waited") else DEADLINE_S  # not every attempt hears of the reason
    options = SendOptions(str(path), to, socket=socket, timeout=seconds, keys=keys.of(kind, "pub"))
    with pytest.raises(UserError, match=words):
        send(options)
    said = capsys.readouterr().err
    if kind == "a wrong server key":
        assert said.count("is it a daemon, and --server-key its public key?") == 1
    assert "the last receiver has left" not in said


@pytest.mark.parametrize("kind", ["no key", "an unknown key"])
def test_tail_says_why_it_is_not_let_in(doors, keys, kind):
    with pytest.raises(UserError, match=r"the key of --secret is refused|does not speak as this one does"):
        tail(doors.publishes, [], True, None, None, keys=keys.of(kind, "sub"))


# key files


def keygen(*words: object) -> Any:
    return CliRunner().invoke(main, ["keygen", *map(str, words)])


def test_keygen_writes_a_pair(tmp_path):
    result = keygen(tmp_path / "a")
    public = result.stdout.strip()
    secret_file, public_file = tmp_path / "a.secret", tmp_path / "a.public"
    assert (result.exit_code, result.stdout) == (0, f"{public}\n")
    assert public_key(read_secret(secret_file)) == public
    assert public_file.read_text() == f"# streamrnn public key\n{public}\n"
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert read_secret(secret_file) not in result.output
    assert client_keys(str(public_file), secret_file) == client_keys(public, secret_file)


def test_keygen_replaces_nothing_unless_it_is_told_to(tmp_path):
    first = keygen("--json", tmp_path / "a")
    again = keygen(tmp_path / "a")
    assert (again.exit_code, again.stdout) == (1, "")
    assert (
        again.stderr
        == f"error: {tmp_path}/a.secret: is there already; name another, or replace it with --force\n"
    )
    (tmp_path / "a.secret").chmod(0o644)
    forced = keygen("--force", "--json", tmp_path / "a")
    assert forced.exit_code == 0
    assert json.loads(forced.stdout)["public"] != json.loads(first.stdout)["public"]
    assert json.loads(forced.stdout)["secret_file"] == str(tmp_path / "a.secret")
    assert public_key(read_secret(tmp_path / "a.secret")) == json.loads(forced.stdout)["public"]


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0, "cannot be read: No such file or directory; `streamrnn keygen` makes one"),
        ("", 0o600, "holds no key of 40 Z85 characters"),
        ("# streamrnn secret key\n", 0o600, "holds no key of 40 Z85 characters"),
        ("0" * 40 + "\n" + "0" * 40, 0o600, "holds no key of 40 Z85 characters"),
        ("\xe9" * 40, 0o600, "holds no key of 40 Z85 characters"),
        ("# streamrnn public key\n" + "0" * 40, 0o600, "holds a public key; name the file of the secret one"),
        ("0" * 40, 0o640, "others than its owner can read or write it; run chmod 600 "),
        ("0" * 40, 0o604, "others than its owner can read or write it; run chmod 600 "),
    ],
)
def test_a_secret_that_cannot_be_used_keeps_the_daemon_from_starting(keys, tmp_path, content, mode, words):
    file = tmp_path / "bad.secret"
    if content is not None:
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)
    settings = keys.security().model_copy(update={"server_secret": str(file)})
    with zmq.Context() as context, pytest.raises(ConfigError) as caught:
        Guard(context, settings)
    assert str(caught.value).startswith(f"security.server_secret: {file}: {words}")


def test_the_daemon_exits_with_78(model_file, keys, tmp_path):
    secret = tmp_path / "open.secret"
    secret.write_text(keys.secret_file("daemon").read_text())
    secret.chmod(0o644)
    security = keys.security().model_dump(mode="json") | {"server_secret": str(secret)}
    with launch(model_file, {f"security.{key}": value for key, value in security.items()}) as daemon:
        assert daemon.process.wait(DEADLINE_S) == 78
        assert f"security.server_secret: {secret}: others than its owner can read" in daemon.said


# strangers


class Proxy:
    """Stands between two ends of a connection, and can leave both without a word."""

    def __init__(self, target: str):
        self._target = ("127.0.0.1", int(target.rpartition(":")[2]))
        self._lost: set[tcp.socket] = set()
        self._open: list[tcp.socket] = []
        self._listener = tcp.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = tcp.create_connection(self._target)
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: tcp.socket, sink: tcp.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if source not in self._lost:
                    sink.sendall(content)

    def lose_all(self) -> None:
        """From now on nothing passes between those that are connected; nothing is closed."""
        self._lost.update(self._open)

    def close(self) -> None:
        for connection in (self._listener, *self._open):
            connection.close()


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)  # of ZMTP 3.0, 64 bytes
GARBAGE = (b"", GREETING[:11], GREETING + b"\x04\xff" * 99, GREETING + b"\x06" + b"\xff" * 8, bytes(10_000))
# Whatever looks like a message is, to libzmq, a peer of the first ZMTP, which had no handshake: such a one
# is cut off where there are keys.
ZMTP_1 = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def stranger(address: str, content: bytes) -> tcp.socket:
    """A raw connection to ``address`` that says ``content`` and no more."""
    host, port = address.removeprefix("tcp://").split(":")
    connection = tcp.create_connection((host, int(port)), DEADLINE_S)
    with contextlib.suppress(OSError):  # it may have been cut off already
        connection.sendall(content)
    return connection


def is_cut_off(connection: tcp.socket) -> bool:
    with connection, contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


VANISH = """
import fcntl, socket, struct, sys
from pathlib import Path
import numpy as np
import zmq
from daemons import serving, wait_for
from neighbours import bound
from test_security import on_what_it_binds

def network(up):  # the loopback interface of this namespace, by SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x49 if up else 0x48))

def connected(port):  # whether the daemon believes in its connection to the publisher
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)

network(True)
model, folder, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
row = np.ones(3, np.float32)
with zmq.Context() as context:
    lost, endpoint = bound(context, zmq.XPUB, xpub_verbose=True)
    port = int(endpoint.rpartition(":")[2])
    settings = {
        "input.connect": [endpoint],
        "input.bind": [f"ipc://{folder}/in"],
        "output.bind": [f"ipc://{folder}/out"],
        "http.listen": "",
    }
    with serving(model, settings) as daemon, on_what_it_binds(daemon) as friend:
        assert lost.recv() == bytes([1])
        assert connected(port)
        sent = 0

        def gone():
            global sent
            friend.send("friend", row)
            sent += 1
            friend.subscriber.poll(5)
            return not connected(port)

        network(False)
        wait_for(gone, "an end of the connection", seconds)
        network(True)
        wait_for(lambda: lost.poll(5) and lost.recv() == bytes([1]), "a subscription", seconds)
        lost.send_multipart([b"back", friend.pack(row)])
        predictions = friend.receive(sent + 1)
        assert sum(one.stream == "back" for one in predictions) == 1
        assert [one.header["seq"] for one in predictions if one.stream == "friend"] == [*range(sent)]
    lost.close()
"""


@pytest.fixture(scope="module")
def vanishing(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """VANISH in a network of its own, which it can take down; None where the system does not give it one."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        yield None
        return
    path = os.pathsep.join([*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")])
    arguments = map(str, [model_file, tmp_path_factory.mktemp("vanish"), SECONDS])
    with subprocess.Popen(
        [*alone, sys.executable, "-c", VANISH, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.send_signal(signal.SIGINT)  # so that it ends its daemon


@contextlib.contextmanager
def on_what_it_binds(daemon: Daemon) -> Iterator[Line]:
    """A line of a daemon that binds and connects."""
    ends = {name: getattr(daemon.config, name).model_copy(update={"connect": ()}) for name in ENDS}
    daemon.config = daemon.config.model_copy(update=ends)
    with daemon.line() as line:
        yield line


@pytest.mark.usefixtures("vanishing")  # the next test's, which takes as long, runs meanwhile
def test_strangers_and_who_hangs_are_cut_off_and_the_others_see_everything(model_file, protected):
    with zmq.Context() as context:
        lost, endpoint = bound(context, zmq.SUB)
        proxy = Proxy(endpoint)
        settings = {"output.bind": [ANY_PORT], "output.connect": [proxy.endpoint]}
        with serving(model_file, settings) as daemon, on_what_it_binds(daemon) as line:
            begin = time.monotonic()
            strangers = [
                stranger(end, content)
                for one in (daemon, protected)
                for end in (one.receives, one.publishes)
                for content in (*GARBAGE, *([ZMTP_1] if one is protected else []))
            ]
            sent = 0

            def lost_hears(since: int) -> bool:
                nonlocal sent
                line.send("others", ROWS[sent % len(ROWS)])
                sent += 1
                heard = take(lost) if lost.poll(5) else None
                return heard is not None and heard.stream == "others" and heard.header["seq"] >= since

            wait_for(lambda: lost_hears(0), "a prediction")
            proxy.lose_all()
            lost_at = sent
            wait_for(lambda: lost_hears(lost_at), "a prediction again", SECONDS)
            assert [int(one.header["seq"]) for one in line.receive(sent)] == [*range(sent)]
            assert all(map(is_cut_off, strangers))
            assert time.monotonic() - begin < SECONDS
        lost.close()
        proxy.close()


def test_a_publisher_whose_machine_vanishes_is_received_again_within_seconds(vanishing):
    if vanishing is None:
        pytest.skip("nobody can make a network namespace here")
    _, said = vanishing.communicate(timeout=COMPILE_S)
    assert vanishing.returncode == 0, said


def test_a_message_is_as_large_as_a_frame_can_be_and_no_larger(doors, keys):
    client = doors.publisher(keys.client("pub"))
    assert doors.input.recv() == b"frame"
    for size in (largest_frame(1), largest_frame(1) + 1):  # the second is refused, and counted, by the pump
        client.socket.send(bytes(size))
        assert len(doors.input.recv()) == size
    client.socket.send(bytes(largest_frame(1) + 100))
    client.wait_for(zmq.EVENT_DISCONNECTED)
    subscriber = doors.subscriber(keys.client("sub"))
    doors.publish_until(subscriber)
    subscriber.socket.subscribe(bytes(SUBSCRIPTION_BYTES))
    subscriber.wait_for(zmq.EVENT_DISCONNECTED)

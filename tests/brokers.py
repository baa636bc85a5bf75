"""A real MQTT broker, mosquitto, and one that says whatever a test wants."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from daemons import DEADLINE_S, wait_for
from needs import needs_programs
from readme import free_ports


class Mosquitto:
    """A broker of this test's own, with ``lines`` of configuration."""

    def __init__(self, folder: Path, *lines: str):
        needs_programs("mosquitto", "mosquitto_pub")
        (self.port,) = free_ports(1)
        self._folder = folder
        (folder / "mosquitto.conf").write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "user root", *lines]) + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/"

    def start(self) -> None:
        program = shutil.which("mosquitto")
        assert program
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        wait_for(self._listens, "mosquitto")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def publish(self, topic: str, *lines: str, options: Sequence[str] = ()) -> None:
        """Publishes a message for each line, with QoS 1, and waits until the broker has them."""
        self.publish_bytes(topic, "".join(f"{line}\n" for line in lines).encode(), *options, "-l")

    @contextmanager
    def publishing(self, topic: str) -> Iterator[IO[bytes]]:
        """A pipe, each of whose lines becomes a message; at the end all of them are at the broker."""
        words = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, "-l"]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            yield process.stdin
            process.stdin.close()
            assert process.wait(DEADLINE_S) == 0

    def publish_bytes(self, topic: str, payload: bytes, *options: str) -> None:
        """Publishes one message, or, with the option -l, one for each line."""
        how = options if "-l" in options else [*options, "-s"]
        words = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, *how]
        subprocess.run(words, input=payload, check=True, timeout=DEADLINE_S)


@contextmanager
def broker(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    started = Mosquitto(folder, *(lines or ("allow_anonymous true",)))
    started.start()
    try:
        yield started
    finally:
        started.stop()


def packet(kind: int, body: bytes) -> bytes:
    """A packet of MQTT: its first byte, the length, the rest."""
    size, length = len(body), b""
    while True:
        size, part = divmod(size, 128)
        length += bytes([part | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def message(topic: bytes, payload: bytes, qos: int = 0, number: int = 1, flags: int = 0) -> bytes:
    """A PUBLISH packet."""
    said = len(topic).to_bytes(2, "big") + topic + (number.to_bytes(2, "big") if qos else b"")
    return packet(0x30 | qos << 1 | flags, said + payload)


class FakeBroker:
    """Takes connections, lets everybody in and subscribes them; then a test sends bytes."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection = self._listening.accept()[0]
            except OSError:
                return
            try:
                connection.recv(4096)
                connection.sendall(packet(0x20, b"\0\0"))
                number = connection.recv(4096)[2:4]
                connection.sendall(packet(0x90, number + b"\1"))
            except OSError:
                continue
            self.connections.append(connection)

    def connection(self, place: int) -> socket.socket:
        """The connection that was let in at this place."""
        return wait_for(lambda: len(self.connections) > place and self.connections[place], "a connection")

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self.connections:
            connection.close()


@contextmanager
def fake_broker() -> Iterator[FakeBroker]:
    fake = FakeBroker()
    try:
        yield fake
    finally:
        fake.close()

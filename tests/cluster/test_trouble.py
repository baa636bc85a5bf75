"""A log that is full, cut off, or holds what it should not: held back or refused, told, and nothing lost."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from clusters import ClusterOfTests, Load, assert_as_replayed, running
from daemons import wait_for
from needs import needs_programs

KEPT = ("--keep-input", "86400", "--keep", "86400", "--pin", "1", "--checkpoint-rows", "500")
long = pytest.mark.skipif("not config.getoption('--long')", reason="takes a minute: run with --long")


class Wire:
    """A TCP proxy that can stop forwarding, as a network that is cut: nothing comes, and no end of it."""

    def __init__(self, port: int):
        self._to, self._open = port, threading.Event()
        self._open.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                to.sendall(data)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.mend()
        self._listening.close()


class Cable:
    """A pair of network interfaces, the far one alone in a namespace of its own."""

    near, far = "10.203.77.1", "10.203.77.2"

    def __init__(self) -> None:
        if os.geteuid() != 0 or not shutil.which("ip"):
            pytest.skip("network namespaces need root and ip (Debian: apt-get install iproute2)")
        self._inside = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.within = ["nsenter", f"--target={self._inside.pid}", "--net", "--"]
        self._name = f"sr{self._inside.pid}"
        own, there = (Path(f"/proc/{process}/ns/net") for process in ("self", self._inside.pid))
        wait_for(lambda: there.readlink() != own.readlink(), "the namespace")
        far = f"ip address add {self.far}/30 dev far && ip link set far up && ip link set lo up"
        try:
            peer = ["peer", "name", "far", "netns", str(self._inside.pid)]
            self._ip("link", "add", self._name, "type", "veth", *peer)
            self._ip("address", "add", f"{self.near}/30", "dev", self._name)
            self.mend()
            subprocess.run([*self.within, "sh", "-c", far], check=True)
        except subprocess.CalledProcessError:
            self.close()
            pytest.skip("network interfaces are not allowed here")

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def cut(self) -> None:
        self._ip("link", "set", self._name, "down")

    def mend(self) -> None:
        self._ip("link", "set", self._name, "up")

    def close(self) -> None:
        self._inside.kill()  # the interfaces go with the namespace
        self._inside.wait()


@contextmanager
def with_a_far_worker(way: str, folder: Path, model: Path) -> Iterator[tuple[ClusterOfTests, Wire | Cable]]:
    """A cluster with a gateway, a worker beside it, and another behind what can be cut."""
    between: Wire | Cable
    cable = Cable() if way == "namespaces" else None
    try:
        with running(folder, model, host=Cable.near if cable else "127.0.0.1") as cluster:
            cluster.init("--shards", "2", *KEPT)
            cluster.member("gateway")
            cluster.member("worker")
            if cable:
                between = cable
                cluster.member("worker", within=cable.within)
            else:
                between = Wire(cluster.servers.ports[0])
                cluster.member("worker", "--server", f"nats://127.0.0.1:{between.port}")
            for member in cluster.members:
                member.wait_until_ready()
            yield cluster, between
            between.close()
    finally:
        if cable:
            cable.close()


@long
@pytest.mark.parametrize("way", ["wire", "namespaces"])
def test_a_worker_that_is_cut_off(tmp_path, model_file, way):
    with with_a_far_worker(way, tmp_path, model_file) as (cluster, between):
        gateway, behind, far = cluster.members
        load = Load(cluster.takes, streams=10, channels=3, pause_s=0.02)

        def workers() -> set[str]:
            return {head.worker for head in cluster.heads().values()}

        wait_for(lambda: len(workers()) == 2, "a shard for each worker")
        between.cut()
        wait_for(lambda: len(workers()) == 1, "the other worker to have both")
        time.sleep(0.5)
        between.mend()
        far.wait_until_it_says("another worker")
        wait_for(lambda: len(workers()) == 2, "its share to come back")
        load.stop()
        gateway.stop()
        cluster.wait_until_done()
        assert behind.stop() == far.stop() == 0
        assert assert_as_replayed(cluster) > 100


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[ClusterOfTests]:
    """A cluster whose log is full after some hundred kB; its gateway runs, and no worker."""
    with running(tmp_path_factory.mktemp("small"), model_file) as cluster:
        cluster.init("--shards", "1", "--most-bytes", "300000", *KEPT)
        cluster.member("gateway").wait_until_ready()
        yield cluster


def test_what_is_no_block_is_left_out(small):
    async def append(jetstream):
        subject, nonsense = small.names.input(0), (b"", b"not a block", b"SB" + bytes(60))
        for number, data in enumerate(nonsense):
            await jetstream.append(subject, data, f"nonsense-{number}")
        for status in ("204", "423", "500"):  # as servers say that there is nothing, or that they will not
            await jetstream.append(subject, b"neither", f"status-{status}", {"Status": status})

    small.ask(append)
    load = Load(small.takes, streams=3, channels=3, pause_s=0.005)
    wait_for(lambda: load.sent > 20, "rows")
    load.stop()
    worker = small.member("worker")
    worker.wait_until_ready()
    for message in (1, 2, 3, 4, 5, 6):
        worker.wait_until_it_says(f"message {message} is left out: ")
    small.wait_until_done()
    assert assert_as_replayed(small) == load.rows
    small.sent = load.sent
    worker.stop()


def test_a_full_log_holds_publishers_back(small):
    load = Load(small.takes, streams=3, channels=3, pause_s=0, first=small.sent)
    small.members[0].wait_until_it_says("the log is full")

    def stands() -> bool:
        before = load.sent
        time.sleep(0.5)
        return load.sent == before > small.sent

    wait_for(stands, "the publisher to be held back")

    # whoever runs the servers gives them more room, and all goes on
    async def grow(jetstream):
        for stream in (small.names.inputs, small.names.results):
            config = (await jetstream.state(stream))["config"] | {"max_bytes": 1 << 30}
            await jetstream.api(f"STREAM.UPDATE.{stream}", **config)

    small.ask(grow)
    stood = load.sent
    wait_for(lambda: load.sent > stood, "the publisher to go on")
    load.stop()
    worker, rows = small.member("worker"), 3 * small.sent + load.rows
    worker.wait_until_ready()
    small.wait_until_answered(rows)
    assert small.members[0].stop() == worker.stop() == 0
    assert assert_as_replayed(small) == rows


def certificate(folder: Path, name: str, *more: str) -> None:
    """A key and a certificate, of our own CA where ``more`` says so."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}", *more]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


@long
def test_certificates_and_passwords(tmp_path, model_file):
    needs_programs("openssl")
    certificate(tmp_path, "ca")
    for name in ("server", "client"):
        more = ["-addext", "subjectAltName=IP:127.0.0.1", "-CA", "ca.pem", "-CAkey", "ca.key"]
        certificate(tmp_path, name, *more)
    (tmp_path / "password").write_text("secret\n")
    tls = (
        f'cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", ca_file: "{tmp_path}/ca.pem"'
    )
    lines = [f"tls {{ {tls}, verify: true }}", "authorization { user: us, password: secret }"]
    ours = 'ca_file = "ca.pem"\ncert_file = "client.pem"\nkey_file = "client.key"\n'
    login = 'user = "us"\npassword_file = "password"\n'
    with running(tmp_path, model_file, toml=ours + login, lines=lines) as cluster:
        cluster.init("--shards", "1")
        cluster.member("worker").wait_until_ready()
        assert "1 shards" in cluster.command("status").stdout or "worker" in cluster.command("status").stdout
        (tmp_path / "password").write_text("wrong\n")
        assert "nobody lets us in" in cluster.command("status").stderr
        (tmp_path / "password").write_text("secret\n")
        cluster.file.write_text(cluster.file.read_text().replace(ours, ""))
        assert cluster.command("status").returncode == 1


@long
def test_a_server_whose_disk_is_full(tmp_path, model_file):
    with running(tmp_path, model_file, servers=3) as cluster:
        disk = Path(cluster.servers.kept, "s2")
        cluster.servers.kill(2)
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting needs root")
        try:
            cluster.servers.start(2)
            cluster.init("--shards", "2", "--replicas", "3", *KEPT)
            members = [cluster.member(kind) for kind in ("gateway", "worker", "worker")]
            for member in members:
                member.wait_until_ready()
            load = Load(cluster.takes, streams=20, channels=3, pause_s=0)
            log = cluster.folder / "s2.log"
            wait_for(lambda: "no space left" in log.read_text(), "the disk to be full", 60)
            full = load.sent
            wait_for(lambda: load.sent > full + 1000, "rows that go on", 60)
            load.stop()
            cluster.wait_until_answered(load.rows)
            assert members[0].stop() == 0
            assert assert_as_replayed(cluster) == load.rows
        finally:
            cluster.servers.kill(2)
            subprocess.run(["umount", str(disk)], check=True)


@long
def test_servers_that_stand_still_for_a_while(tmp_path, model_file):
    with running(tmp_path, model_file, servers=3) as cluster:
        cluster.init("--shards", "2", "--replicas", "3", *KEPT)
        members = [cluster.member(kind) for kind in ("gateway", "worker", "worker")]
        for member in members:
            member.wait_until_ready()
        load = Load(cluster.takes, streams=20, channels=3, pause_s=0.005)
        for turn in range(6):
            slow = cluster.servers.processes[turn % 3]
            slow.send_signal(signal.SIGSTOP)
            stood = load.sent
            time.sleep((0.5, 4)[turn % 2])  # within what the others wait for, and beyond it
            slow.send_signal(signal.SIGCONT)
            wait_for(lambda stood=stood: load.sent > stood + 100, "rows that go on", 60)
        load.stop()
        cluster.wait_until_answered(load.rows)
        assert members[0].stop() == 0
        assert assert_as_replayed(cluster) == load.rows


@long
@pytest.mark.parametrize("whose", ["gateway", "worker"])
def test_a_clock_that_jumps(tmp_path, model_file, whose):
    if not (library := next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)):
        pytest.skip("missing: libfaketime (Debian: apt-get install libfaketime)")
    set_to = tmp_path / "clock"
    set_to.write_text("+0")
    how = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": set_to,
        "FAKETIME_NO_CACHE": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
    }
    with running(tmp_path, model_file) as cluster:
        cluster.init("--shards", "2", *KEPT)
        for kind in ("gateway", "worker"):
            within = ["env", *(f"{name}={value}" for name, value in how.items())] if kind == whose else []
            cluster.member(kind, within=within)
        for member in cluster.members:
            member.wait_until_ready()
        load = Load(cluster.takes, streams=10, channels=3, pause_s=0.01)
        for jump in ("-3600", "+7200", "+0", "-86400"):
            set_to.write_text(jump)
            before = load.sent
            wait_for(lambda before=before: load.sent > before + 100, "rows that go on")
            assert all(member.process.poll() is None for member in cluster.members)
        load.stop()
        cluster.wait_until_answered(load.rows)
        assert cluster.members[0].stop() == 0
        assert assert_as_replayed(cluster) == load.rows
        assert cluster.said("was refused") == 0

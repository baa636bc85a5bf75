"""A cluster set up where something is in the way: half of one, what is not one, an account without rights."""

import asyncio
from collections.abc import Iterator

import pytest
from clusters import ClusterOfTests, Load, running
from daemons import wait_for

from streamrnn.cluster.jetstream import Missing
from streamrnn.cluster.setup import _make_stream
from streamrnn.errors import UserError


@pytest.fixture
def cluster(tmp_path, model_file) -> Iterator[ClusterOfTests]:
    """A server, and nothing on it."""
    with running(tmp_path, model_file) as cluster:
        wait_for(lambda: "there is no cluster t" in cluster.command("status").stderr, "the server")
        yield cluster


def make_stream(cluster: ClusterOfTests, name: str, *subjects: str) -> None:
    cluster.ask(lambda jetstream: jetstream.api(f"STREAM.CREATE.{name}", name=name, subjects=subjects))


def test_what_an_interrupted_init_left_is_taken(cluster):
    names = cluster.names
    make_stream(cluster, names.inputs, names.input("*"))
    make_stream(cluster, names.results, *names.result_subjects)
    assert "there is no cluster t" in cluster.command("init", "--update").stderr
    made = cluster.command("init", "--shards", "2", "--most-bytes", "1000000")
    assert "2 shards" in made.stdout, made.stderr
    state = cluster.ask(lambda jetstream: jetstream.state(names.results))
    assert state["config"]["allow_atomic"]
    assert state["config"]["max_bytes"] == 1000000
    assert "there is a cluster t already" in cluster.command("init").stderr


@pytest.mark.parametrize("which", ["inputs", "results"])
def test_a_stream_of_somebody_else_stays_as_it_is(cluster, which):
    name = getattr(cluster.names, which)
    make_stream(cluster, name, "other.>")
    refused = cluster.command("init")
    assert f"a stream of NATS {name} already" in refused.stderr
    assert refused.returncode == 1


def test_predictions_larger_than_a_message(tmp_path, model_file):
    toml, lines = "[predict]\nevery = 1\nhorizon = 500\n", ["max_payload: 4096"]
    with running(tmp_path, model_file, lines=lines, toml=toml) as cluster:
        wait_for(lambda: "lower predict.horizon" in cluster.command("init").stderr, "its refusal")


def test_what_update_does_not_change(cluster):
    refused = cluster.command("init", "--update", "--keep", "60", "--shards", "3")
    assert "--shards, --keep: cannot change" in refused.stderr
    assert refused.returncode == 2


def test_an_account_without_rights(tmp_path, model_file):
    (tmp_path / "password").write_text("secret")
    user = 'user: us, password: secret, permissions: { publish: ["t.>"], subscribe: [">"] }'
    lines = [f"authorization {{ users: [ {{ {user} }} ] }}"]
    login = 'user = "us"\npassword_file = "password"\n'
    with running(tmp_path, model_file, lines=lines, toml=login) as cluster:
        wait_for(lambda: "permissions violation" in cluster.command("status").stderr.lower(), "its refusal")


def test_members_end_when_they_are_told_to_though_no_server_is_there(cluster):
    cluster.servers.kill(0)
    for kind in ("gateway", "worker"):
        waiting = cluster.member(kind)
        waiting.wait_until_it_says("no answer from")
        assert waiting.stop() == 0


@pytest.mark.skipif("not config.getoption('--long')", reason="waits for what does not come: run with --long")
def test_a_gateway_ends_though_the_log_does_not_take_its_rows(cluster):
    assert cluster.command("init", "--shards", "1").returncode == 0
    gateway = cluster.member("gateway")
    gateway.wait_until_ready()
    cluster.servers.kill(0)
    load = Load(cluster.takes, streams=3, channels=3, pause_s=0)
    gateway.wait_until_it_says("not appended")
    load.stop()
    assert gateway.stop() == 1
    assert "blocks that the log did not take" in gateway.said


def test_servers_that_are_too_old():
    class Old:
        """Takes what it knows of a stream, as NATS 2.11 does, and leaves the rest."""

        async def state(self, name: str) -> None:
            raise Missing(f"{name} not found")

        async def api(self, _what: str, **stream: object) -> dict[str, object]:
            return {"config": {key: value for key, value in stream.items() if key != "allow_atomic"}}

    stream = {"name": "t", "subjects": ["t.out.*"], "allow_direct": True, "allow_atomic": True}
    with pytest.raises(UserError, match="no allow_atomic; NATS"):
        asyncio.run(_make_stream(Old(), stream))  # type: ignore[arg-type]

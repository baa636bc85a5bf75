"""Logs and messages with less room than a cluster would like: smaller pieces, and no standing still."""

from collections import Counter

import pytest
from clusters import Load, opened, running
from daemons import wait_for

from streamrnn.cluster.blocks import PREDICTIONS
from streamrnn.cluster.heads import ShardHead
from streamrnn.cluster.jetstream import Unavailable

NONE = ShardHead(0)
pytestmark = pytest.mark.skipif("not config.getoption('--long')", reason="fills logs: run with --long")


def test_a_log_too_small_for_the_rows_between_two_checkpoints(tmp_path, model_file):
    with running(tmp_path, model_file) as cluster:
        cluster.init("--shards", "1", "--most-bytes", "300000", "--pin", "1")

        async def grow(jetstream):
            stream = cluster.names.results
            config = (await jetstream.state(stream))["config"] | {"max_bytes": 1 << 30}
            await jetstream.api(f"STREAM.UPDATE.{stream}", **config)

        cluster.ask(grow)
        for kind in ("gateway", "worker"):
            cluster.member(kind).wait_until_ready()
        load = Load(cluster.takes, streams=3, channels=3, pause_s=0)
        cluster.members[0].wait_until_it_says("the log is full")
        until = load.rows + 100_000  # more than the log and all queues hold
        wait_for(lambda: load.rows > until, "rows that go on")
        load.stop()


def test_a_check_while_what_it_reads_is_removed(tmp_path, model_file):
    with running(tmp_path, model_file) as cluster:
        cluster.init("--shards", "2", "--pin", "1", "--checkpoint-rows", "300")
        for kind in ("gateway", "worker"):
            cluster.member(kind).wait_until_ready()
        load = Load(cluster.takes, streams=20, channels=3, pause_s=0)
        for _ in range(6):
            assert (done := cluster.command("check")).returncode == 0, done.stderr
        load.stop()


def test_servers_that_take_small_messages_and_predictions_that_are_large(tmp_path, model_file):
    toml, lines = "[predict]\nevery = 1\nhorizon = 500\n", ["max_payload: 16384"]
    with running(tmp_path, model_file, toml=toml, lines=lines) as cluster:
        cluster.init("--shards", "1", "--pin", "1")
        gateway = cluster.member("gateway")
        gateway.wait_until_ready()
        load = Load(cluster.takes, streams=3, channels=3, pause_s=0)
        wait_for(lambda: load.rows > 4000, "rows")
        load.stop()
        wait_for(lambda: cluster.pending() > 0, "blocks")
        rows = load.rows
        cluster.member("worker").wait_until_ready()  # with more answers on hand than one commit takes
        wait_for(lambda: cluster.heads().get(0, NONE).rows == rows, "answers to all rows", 60)
        counts = Counter()
        for message in cluster.log_of("out"):
            counts[opened(message, PREDICTIONS).header.number] += 1
        assert max(counts.values()) < 1000
        assert gateway.stop() == 0

        async def crowd(jetstream):
            """Begins more batches than servers have at once."""
            subject, state = cluster.names.output(0), cluster.names.state(9)
            for number in range(60):
                batch = {"Nats-Batch-Id": f"begun-{number}", "Nats-Batch-Sequence": "1"}
                await jetstream.client.publish(subject, b"", headers=batch)
            with pytest.raises(Unavailable):  # which is tried again, and no fault of the shard's
                await jetstream.commit([(subject, b"", {}), (state, b"", {})], 0)

        cluster.ask(crowd)

"""Logs and messages with less room than a cluster would like: smaller pieces, and no standing still."""

from clusters import Load, running
from daemons import wait_for


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

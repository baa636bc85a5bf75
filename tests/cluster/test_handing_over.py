"""Shards change hands: workers that come, go, freeze or are cut off."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import ClusterOfTests, Load, assert_as_replayed, running
from daemons import wait_for

from streamrnn.cluster.blocks import header_of

SHARDS = 16  # of which the streams are in four: the others are nobody's
KEPT = ("--keep-input", "86400", "--keep", "86400")
PIN_S = 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[ClusterOfTests]:
    """One server, a gateway, and rows under way; its tests go on from each other's log."""
    with running(tmp_path_factory.mktemp("cluster"), model_file) as cluster:
        cluster.init("--shards", str(SHARDS), "--checkpoint-rows", "2000", "--pin", str(PIN_S), *KEPT)
        cluster.member("gateway").wait_until_ready()
        load = Load(cluster.takes, streams=6, channels=3, pause_s=0.01)
        yield cluster
        load.stop()


def answered_by(cluster: ClusterOfTests) -> dict[int, str]:
    """Which worker wrote each shard's last head."""
    return {shard: head.worker for shard, head in cluster.heads().items()}


def longest_pause(cluster: ClusterOfTests, since_ns: int) -> float:
    """Seconds that the latest row was late: from when it was sealed to when its answer was in the log."""
    late = [
        message.time_ns - header_of(message.data).sealed_ns
        for message in cluster.log_of("out")
        if message.time_ns > since_ns
    ]
    return max(late) / 1e9


def test_workers_come_and_go(cluster):
    first = cluster.member("worker")
    first.wait_until_ready()
    wait_for(lambda: len(set(answered_by(cluster).values())) == 1, "one worker")
    more = [cluster.member("worker") for _ in range(3)]
    for worker in more:
        worker.wait_until_ready()
    ready = time.time_ns()
    wait_for(lambda: len(set(answered_by(cluster).values())) == 4, "four workers")
    for worker in more[::2]:
        assert worker.stop() == 0
    wait_for(lambda: len(set(answered_by(cluster).values())) == 2, "two workers")
    time.sleep(1)
    assert longest_pause(cluster, ready) < PIN_S
    assert cluster.said("was refused") == 0


def test_a_worker_that_froze_writes_nothing_more(cluster):
    workers = cluster.members[1], cluster.members[3]
    whose = answered_by(cluster)
    workers[0].process.send_signal(signal.SIGSTOP)
    wait_for(lambda: len(set(answered_by(cluster).values())) == 1, "the other worker to have all")
    theirs = answered_by(cluster)
    assert theirs != whose
    time.sleep(0.5)
    workers[0].process.send_signal(signal.SIGCONT)
    workers[0].wait_until_it_says("another worker")
    wait_for(lambda: len(set(answered_by(cluster).values())) == 2, "its share to come back")


def test_all_of_it_is_as_replayed(cluster):
    time.sleep(1)
    cluster.members[0].stop()
    cluster.wait_until_done()
    assert assert_as_replayed(cluster) > 1000

"""SIGKILL of servers, workers and gateways at random: every row of the log is answered exactly once."""

import random
import time

import pytest
from clusters import Load, assert_as_replayed, running

SHARDS = 6


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return 200 if request.config.getoption("--long") else 5


def test_kills(tmp_path, model_file, kills):
    chance = random.Random(7)
    with running(tmp_path, model_file, servers=3) as cluster:
        cluster.init(
            "--shards",
            str(SHARDS),
            "--replicas",
            "3",
            "--checkpoint-rows",
            "500",
            "--keep-input",
            "86400",
            "--keep",
            "86400",
            "--pin",
            "1",
        )
        workers = [cluster.member("worker") for _ in range(3)]
        gateway = cluster.member("gateway")
        for member in (*workers, gateway):
            member.wait_until_ready()
        load = Load(cluster.takes, streams=40, channels=3, pause_s=0.05)
        for _ in range(kills):
            time.sleep(chance.uniform(0.2, 1.5))
            whom = chance.choice(["server", "worker", "worker", "gateway"])
            if whom == "server":
                server = chance.randrange(3)
                cluster.servers.kill(server)
                time.sleep(chance.uniform(0.1, 1))
                cluster.servers.start(server)
            else:
                member = chance.choice(workers) if whom == "worker" else gateway
                member.kill()
                member.start()
        for member in (*workers, gateway):
            member.wait_until_ready()
        time.sleep(2)
        load.stop()
        gateway.stop()
        cluster.wait_until_done()
        answered = assert_as_replayed(cluster)
        print(f"{answered} rows answered, {load.sent} rounds sent; refused {cluster.said('was refused')}")
        assert answered > 40 * load.sent / 4

"""What a gateway publishes: each prediction, whatever became of the one before it, or of its consumer."""

import asyncio
import re
import urllib.request

import numpy as np
from clusters import Load, Member, running
from daemons import wait_for

from streamrnn.cluster.blocks import PREDICTIONS, seal

KEPT = ("--keep", "86400", "--pin", "1")


def published(gateway: Member) -> int:
    address = re.search(r"http://\S+", gateway.wait_until_ready())[0]
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return int(float(re.search(r"^streamrnn_gateway_predictions_total (\S+)", text, re.MULTILINE)[1]))


def test_each_prediction_is_published(tmp_path, model_file):
    with running(tmp_path, model_file) as cluster:
        cluster.init("--shards", "2", *KEPT)
        gateway, worker = cluster.member("gateway", "--http", "127.0.0.1:0"), cluster.member("worker")
        for member in cluster.members:
            member.wait_until_ready()
        done = 0

        def send(rows: int) -> None:
            nonlocal done
            load = Load(cluster.takes, streams=3, channels=3, pause_s=0.02, first=cluster.sent)
            wait_for(lambda: load.rows > rows, "rows")
            load.stop()
            cluster.sent, done = load.sent, done + load.rows
            wait_for(lambda: sum(head.rows for head in cluster.heads().values()) == done, "answers")

        send(30)
        wait_for(lambda: published(gateway) == done, "predictions")
        assert gateway.stop() == 0

        # rows that another gateway takes, while this one is away
        other = cluster.folder / "other.toml"
        text = cluster.file.read_text()
        head, tail = text.partition("[output]")[0], text[text.index("[http]") :]
        other.write_text(head + tail)
        taker = Member("gateway", other, cluster.folder / "gateway-other.log")
        taker.wait_until_ready()
        before = done
        send(60)
        assert taker.stop() == 0

        async def take_some(jetstream):
            """As a gateway of that name that was killed before it published them."""
            results, consumer = cluster.names.results, "gateway-gateway"
            given: asyncio.Queue[object] = asyncio.Queue()
            await jetstream.hear("killed", given.put)
            await jetstream.pull(results, consumer, "killed", batch=5, expires=10**10)
            for _ in range(5):
                await asyncio.wait_for(given.get(), 10)

        cluster.ask(take_some)
        gateway.start()
        wait_for(lambda: published(gateway) == done - before, "what came meanwhile")

        async def append(jetstream):
            names = cluster.names
            await jetstream.append(names.output("nobody"), b"rubbish", "one")
            await jetstream.append(names.output(0), b"rubbish", "two", {"Status": "503"})
            entry = np.frombuffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]) + b"xy", np.uint8)
            short = seal(entry, kind=PREDICTIONS, shard=0, shards=2, messages=1)  # of one byte
            await jetstream.append(names.output(0), short, "three")
            await jetstream.api(f"CONSUMER.DELETE.{names.results}.gateway-gateway")

        cluster.ask(append)
        send(30)
        wait_for(lambda: published(gateway) == done - before, "what came behind rubbish")
        assert gateway.stop() == worker.stop() == 0

"""What workers hear of each other, and what each makes of it."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from streamrnn.cluster import worker
from streamrnn.cluster.members import Members
from streamrnn.settings.config import load_config


def shares(shards: int, names: list[str]) -> list[int]:
    """Of workers of these names who heard all of each other."""

    async def of(name: str) -> int:
        members = Members(None, None, name, "worker", 60.0)  # type: ignore[arg-type]
        for other in names:
            said = json.dumps({"name": other, "kind": "worker"}).encode()
            await members._hear(SimpleNamespace(data=said))
        return members.share(shards)

    return [asyncio.run(of(name)) for name in names]


@pytest.mark.parametrize(("shards", "workers"), [(4, 1), (4, 3), (4, 4), (3, 5), (512, 7)])
def test_shares_are_all_shards_and_differ_by_one_at_most(shards, workers):
    found = shares(shards, [f"host-{k}" for k in range(workers)])
    assert sum(found) == shards
    assert max(found) - min(found) <= 1


def test_who_heard_nobody_is_alone():
    assert Members(None, None, "a", "worker", 60.0).share(4) == 4  # type: ignore[arg-type]


def test_what_others_say_of_their_shards():
    async def heard() -> set[int]:
        members = Members(None, None, "a", "worker", 60.0)  # type: ignore[arg-type]
        for name, shards in (("b", {"0": [1], "7": [2]}), ("c", {"3": [], "x": [], "-1": []}), ("d", 5)):
            said = json.dumps({"name": name, "kind": "worker", "shards": shards}).encode()
            await members._hear(SimpleNamespace(data=said))
        return members.shards(7)

    assert asyncio.run(heard()) == {0, 3}


def test_a_shard_that_comes_back_before_its_task_has_ended(monkeypatch):
    begun = []

    class Standing:
        """A shard on which nothing is done."""

        def __init__(self, _means: object, number: int):
            self.number, self.tally = number, None

        async def run(self) -> None:
            begun.append(self.number)
            await asyncio.Event().wait()

    monkeypatch.setattr(worker, "Shard", Standing)

    async def lose_and_find() -> tuple[bool, list[int]]:
        member = worker.Worker(load_config(None, {}))
        member.pins, member._means = SimpleNamespace(owned=[3]), None  # type: ignore[assignment]
        member._taken(3)
        await asyncio.sleep(0)
        member._lost(3)
        member._taken(3)  # as where both messages came at once
        for _ in range(5):
            await asyncio.sleep(0)
        member.stop()
        return 3 in member._tasks, begun[:]

    assert asyncio.run(lose_and_find()) == (True, [3, 3])

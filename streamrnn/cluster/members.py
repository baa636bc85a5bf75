"""Who else is there: what workers and gateways say of themselves, again and again, to who listens."""

import json
import time
from typing import Any

from streamrnn.cluster.jetstream import JetStream
from streamrnn.cluster.subjects import Subjects

_SLICES = 4
_MOST = 10_000  # members that are listened to


class Members:
    """The members of a cluster that were heard of in time, this one among them."""

    def __init__(self, jetstream: JetStream, names: Subjects, name: str, kind: str, stale_s: float):
        """``kind``: "worker" or "gateway", "" for who only listens."""
        self._jetstream, self._names, self.name, self._kind = jetstream, names, name, kind
        self._stale_s, self._next = stale_s, 0.0
        self._heard: dict[str, tuple[float, dict[str, Any]]] = {}

    async def start(self) -> None:
        await self._jetstream.hear(self._names.members, self._hear)

    async def _hear(self, message: Any) -> None:
        try:
            said = json.loads(message.data)
            name, kind = str(said["name"]), str(said["kind"])
        except (ValueError, TypeError, LookupError):
            return
        if not isinstance(said.get("shards", {}), dict):
            return
        if said.get("leaves"):
            self._heard.pop(name, None)
        elif kind in ("worker", "gateway") and (name in self._heard or len(self._heard) < _MOST):
            self._heard[name] = time.monotonic(), said

    async def tell(self, **said: Any) -> None:
        """Says that this one is there, if it is time to. Raises Unavailable."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._stale_s / _SLICES
        await self._say(**said)

    async def leave(self) -> None:
        await self._say(leaves=True)

    async def _say(self, **said: Any) -> None:
        told = {"name": self.name, "kind": self._kind, **said}
        await self._jetstream.tell(self._names.members, json.dumps(told).encode())

    def present(self, kind: str) -> list[dict[str, Any]]:
        """What those of a kind said last, by name; of this one only once it heard itself."""
        end = time.monotonic() - self._stale_s
        self._heard = {name: each for name, each in self._heard.items() if each[0] >= end}
        found = [said for _, said in self._heard.values() if said["kind"] == kind]
        return sorted(found, key=lambda said: str(said["name"]))

    def seen(self) -> list[dict[str, Any]]:
        """What all said last."""
        return [*self.present("worker"), *self.present("gateway")]

    def share(self, shards: int) -> int:
        """How many of ``shards`` this one is to have, of all of its kind that are there.

        All shares together are all shards: were each rounded up, two of three might keep four between them.
        """
        names = sorted({str(said["name"]) for said in self.present(self._kind)} | {self.name})
        each, more = divmod(shards, len(names))
        return each + (names.index(self.name) < more)

    def shards(self, number: int) -> set[int]:
        """Those of a cluster's ``number`` that workers said they have."""
        said = {str(shard) for each in self.present("worker") for shard in each.get("shards", {})}
        return {shard for shard in range(number) if str(shard) in said}

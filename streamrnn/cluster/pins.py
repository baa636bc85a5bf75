"""Which shards a worker has: those whose consumers the servers have pinned to it.

Each shard has a consumer, which gives its messages, without what is in them, to one client alone, as long as
that asks for more in time; after that to another that asks. What comes of it here is who has the shard, and
that there is something to read. Where from is another matter: the shard's head says so.
"""

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from streamrnn.cluster.jetstream import JetStream, Unavailable
from streamrnn.cluster.subjects import Subjects
from streamrnn.errors import UserError

GROUP = "worker"
_BATCH = 256  # doorbells that are asked for at once
_SLICES = 4  # of the pin's time: how often what is ours is asked for

log = logging.getLogger("streamrnn")


class _Pin:
    """What is known of one shard's pin."""

    def __init__(self) -> None:
        self.id = ""  # "" = it is not ours
        self.turn = 0  # how often it was lost: answers to what was asked before mean nothing
        self.asked = float("-inf")
        self.rung: dict[int, str] = {}  # numbers of messages that are not acknowledged: where to say it


class Pins:
    """The shards of one worker. ``taken``, ``lost`` and, as there is input, ``rung`` are called with one."""

    def __init__(
        self,
        jetstream: JetStream,
        names: Subjects,
        shards: int,
        pin_s: float,
        taken: Callable[[int], object],
        lost: Callable[[int], object],
        rung: Callable[[int, int], object],
    ):
        self._jetstream, self._names, self._pin_s = jetstream, names, pin_s
        self._taken, self._lost, self._rung = taken, lost, rung
        self._pins = [_Pin() for _ in range(shards)]
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._closed = set[int]()  # shards that are not asked for now
        self.asking = True  # for what is not ours

    async def start(self) -> None:
        await self._jetstream.hear(f"{self._inbox}.*.*", self._heard)

    @property
    def owned(self) -> list[int]:
        return [shard for shard, pin in enumerate(self._pins) if pin.id]

    async def ask(self) -> None:
        """Asks for what is due; called often. Raises Unavailable."""
        now = time.monotonic()
        for shard, pin in enumerate(self._pins):
            ours = bool(pin.id)
            wait_s = self._pin_s / _SLICES if ours else self._pin_s
            if now - pin.asked < wait_s or not (ours or self.asking) or shard in self._closed:
                continue
            pin.asked = now
            named = {"id": pin.id} if ours else {}
            # what is ours is asked for before the last request is over, what is not, as it is over
            await self._jetstream.pull(
                self._names.inputs,
                self._names.consumer(shard),
                f"{self._inbox}.{shard}.{pin.turn}",
                batch=_BATCH,
                expires=round((2 if ours else 1) * wait_s * 1e9),
                group=GROUP,
                **named,
            )

    async def _heard(self, message: Any) -> None:
        headers = message.headers or {}
        if not message.reply:  # a status; what is in the log has where to acknowledge it, and any headers
            shard, turn = map(int, message.subject.split(".")[-2:])
            pin = self._pins[shard]
            if headers.get("Status") == "423" and pin.id and turn == pin.turn:
                self._let_go(pin)
                self._lost(shard)
            return
        shard = int(message.subject.rpartition(".")[2])
        pin = self._pins[shard]
        # $JS.ACK.stream.consumer.deliveries.number.number-in-consumer.time.pending
        told = message.reply.split(".")
        number = int(told[-4])
        if shard in self._closed:
            await self._say(message.reply, b"-NAK")
            return
        pin.rung[number] = message.reply
        named = headers.get("Nats-Pin-Id", "")
        if named != pin.id and named:
            begins, pin.id, pin.asked = not pin.id, named, float("-inf")
            if begins:
                self._taken(shard)
        self._rung(shard, number)

    @staticmethod
    def _let_go(pin: _Pin) -> None:
        pin.id, pin.asked, pin.turn = "", float("-inf"), pin.turn + 1
        pin.rung.clear()

    async def acknowledge(self, shard: int, position: int) -> None:
        """Says that all input of a shard up to ``position`` is done."""
        pin = self._pins[shard]
        for number in [number for number in pin.rung if number <= position]:
            await self._say(pin.rung.pop(number), b"+ACK")

    async def give_up(self, shard: int) -> None:
        """Lets others have a shard, at once. It is not asked for until ``reopen``."""
        pin = self._pins[shard]
        self._closed.add(shard)
        if not pin.id:
            return
        try:
            what = f"CONSUMER.UNPIN.{self._names.inputs}.{self._names.consumer(shard)}"
            await self._jetstream.api(what, group=GROUP)
        except (Unavailable, UserError) as error:
            log.debug("shard %d: not unpinned (%s); its time will be over", shard, error)
        for reply in pin.rung.values():
            await self._say(reply, b"-NAK")
        self._let_go(pin)

    def reopen(self, shard: int) -> None:
        self._closed.discard(shard)

    async def _say(self, reply: str, what: bytes) -> None:
        try:
            await self._jetstream.tell(reply, what)
        except Unavailable as error:  # then it comes again
            log.debug("not acknowledged: %s", error)

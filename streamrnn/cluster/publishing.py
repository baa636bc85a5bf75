"""A gateway's way back: predictions from the log to ZeroMQ, in order by stream.

What was published is remembered by the servers under the gateway's name: one that comes back goes on there,
and may say again what it said last before it was killed.
"""

import asyncio
import logging
import secrets
from typing import Any

import numpy as np
import zmq

from streamrnn.cluster.blocks import ENTRY_BYTES, PREDICTIONS, BlockError, entry_at, open_block, seal
from streamrnn.cluster.jetstream import JetStream, Missing, Unavailable, each, insist
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import GatewayTally
from streamrnn.compiling.jit import compiled
from streamrnn.daemon.publish import HEADER_BYTES, PUB_AT
from streamrnn.wire import libzmq
from streamrnn.wire.clock import realtime_ns
from streamrnn.wire.memory import address_of, write_i64

_BATCH, _EXPIRES_S = 64, 5.0
_AGAIN_S = 0.2
_FLAGS = libzmq.DONTWAIT | libzmq.SNDMORE

log = logging.getLogger("streamrnn")


@compiled
def send_messages(socket, body, at):
    """Sends the messages of a block from the one at ``at`` on, each with the time as when it was published.

    Returns where the one stands that the socket does not take, and how many it took.
    """
    count = 0
    while at < body.size:
        topic, size = entry_at(body, at)
        name = address_of(body, at + ENTRY_BYTES)
        if size >= HEADER_BYTES:  # or it is no prediction, whatever the block says
            write_i64(name + topic + PUB_AT, realtime_ns())
            if libzmq.send(socket, name, np.uint64(topic), _FLAGS) < 0:
                break
            libzmq.send(socket, name + topic, np.uint64(size), libzmq.DONTWAIT)
            count += 1
        at += ENTRY_BYTES + topic + size
    return at, count


class Publishing:
    """Publishes what workers append, over a socket that is its own."""

    def __init__(
        self,
        jetstream: JetStream,
        names: Subjects,
        gateway: str,
        shards: int,
        sink: zmq.Socket,
        tally: GatewayTally,
    ):
        self._jetstream, self._names, self._shards = jetstream, names, shards
        self._sink, self._tally = sink, tally
        self._consumer = f"gateway-{gateway}"
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._asked = 0  # messages that may still come
        self._seen = 0  # number of the last message that was published
        self._place = -1  # and its place in all that the servers gave out under this name; -1 = any
        nothing = np.zeros(0, np.uint8)
        send_messages(0, nothing, 0)
        open_block(seal(nothing, kind=PREDICTIONS, shards=1), 0, 1, (PREDICTIONS,))

    async def start(self) -> None:
        """Finds where it was, or begins with what comes from now on. Raises Unavailable."""
        await self._jetstream.hear(self._inbox, self._queue.put)
        await insist(lambda: self._find({"deliver_policy": "new"}), 60.0)

    async def _find(self, begin: dict[str, Any]) -> None:
        """Finds where it was, or begins as ``begin`` has it."""
        wanted = {
            "durable_name": self._consumer,
            "name": self._consumer,
            "filter_subject": self._names.output("*"),
            "ack_policy": "all",
            "ack_wait": round(30e9),
            "max_ack_pending": 1000,
            **begin,
        }
        where = f"{self._names.results}.{self._consumer}"
        try:
            found = await self._jetstream.api(f"CONSUMER.INFO.{where}")
        except Missing:
            what = f"CONSUMER.CREATE.{where}.{self._names.output('*')}"
            found = await self._jetstream.api(what, stream_name=self._names.results, config=wanted)
        self._seen = max(self._seen, int(found["ack_floor"]["stream_seq"]))
        await self._catch_up(int(found["delivered"]["stream_seq"]))

    async def _catch_up(self, end: int) -> None:
        """Publishes what the servers gave out up to number ``end``, and what did not come here.

        As when whoever had this name before was killed, or a connection broke: they would give it out again
        long after what follows.
        """
        names, first = self._names, self._seen + 1
        async for messages in each(self._jetstream, names.results, names.output("*"), first, end):
            for message in messages:
                await self._publish(message.subject, message.data)
                self._seen = message.seq

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        while True:
            try:
                message = await self._next()
                if message is not None:
                    await self._take(message)
            except Unavailable as error:
                log.debug("publishing waits: %s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _take(self, message: Any) -> None:
        number, place = map(int, message.reply.split(".")[-4:-2])
        if number > self._seen:  # not again what is only told anew as its acknowledgement was lost
            if place != self._place + 1:
                await self._catch_up(number - 1)
            await self._publish(message.subject, message.data)
            self._seen = number
        self._place = place
        if self._queue.empty() or number % _BATCH == 0:
            await self._acknowledge(message.reply)

    async def _next(self) -> Any:
        """The next message, None where none came in time."""
        if self._asked <= 0 and self._queue.empty():
            self._asked = _BATCH
            await self._jetstream.pull(
                self._names.results,
                self._consumer,
                self._inbox,
                batch=_BATCH,
                expires=round(_EXPIRES_S * 1e9),
            )
        try:
            message = await asyncio.wait_for(self._queue.get(), 1.5 * _EXPIRES_S)
        except TimeoutError:
            self._asked = 0
            return None
        if not message.reply:  # a status: there is nothing now, or nobody who gives it out
            self._asked = 0
            if (message.headers or {}).get("Status") in ("409", "503"):
                await asyncio.sleep(_AGAIN_S)
                await self._find({"deliver_policy": "by_start_sequence", "opt_start_seq": self._seen + 1})
            return None
        self._asked -= 1
        return message

    async def _publish(self, subject: str, data: bytes) -> None:
        shard = subject.rpartition(".")[2]
        try:
            if not shard.isdecimal():
                raise BlockError("of no shard")
            block = open_block(data, int(shard), self._shards, (PREDICTIONS,))
        except BlockError as error:
            log.error("%s: left out: %s", subject, error)
            return
        at = 0
        while at < len(block.body):
            at, count = send_messages(self._sink.underlying, block.body, at)
            self._tally.published += count
            if at < len(block.body):  # of a PAIR, which is full; a PUB takes all
                await asyncio.sleep(_AGAIN_S / 100)
        self._sink.getsockopt(zmq.EVENTS)  # lets libzmq hear of subscribers that come and leave

    async def _acknowledge(self, reply: str) -> None:
        try:
            await self._jetstream.tell(reply, b"+ACK")
        except Unavailable as error:
            log.debug("not acknowledged: %s", error)

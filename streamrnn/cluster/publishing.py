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
from streamrnn.cluster.jetstream import JetStream, Unavailable, insist
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import GatewayTally
from streamrnn.compiling.jit import compiled
from streamrnn.daemon.publish import PUB_AT
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
        write_i64(name + topic + PUB_AT, realtime_ns())
        if libzmq.send(socket, name, np.uint64(topic), _FLAGS) < 0:
            break
        libzmq.send(socket, name + topic, np.uint64(size), libzmq.DONTWAIT)
        at += ENTRY_BYTES + topic + size
        count += 1
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
        nothing = np.zeros(0, np.uint8)
        send_messages(0, nothing, 0)
        open_block(seal(nothing, kind=PREDICTIONS, shards=1), 0, 1, (PREDICTIONS,))

    async def start(self) -> None:
        """Finds where it was, or begins with what comes from now on. Raises Unavailable."""
        wanted = {
            "durable_name": self._consumer,
            "name": self._consumer,
            "filter_subject": self._names.output("*"),
            "deliver_policy": "new",
            "ack_policy": "all",
            "ack_wait": round(30e9),
            "max_ack_pending": 1000,
        }
        what = f"CONSUMER.CREATE.{self._names.results}.{self._consumer}.{self._names.output('*')}"
        ask = {"stream_name": self._names.results, "config": wanted}
        await insist(lambda: self._jetstream.api(what, **ask), 60.0)
        await self._jetstream.hear(self._inbox, self._queue.put)

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        seen = 0
        while True:
            try:
                message = await self._next()
            except Unavailable as error:
                log.debug("publishing waits: %s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            if message is None:
                continue
            number = int(message.reply.split(".")[-4])
            if number > seen:  # not again what is only told anew as its acknowledgement was lost
                await self._publish(message)
                seen = number
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
        if (message.headers or {}).get("Status"):
            self._asked = 0
            return None
        self._asked -= 1
        return message

    async def _publish(self, message: Any) -> None:
        shard = int(message.subject.rpartition(".")[2])
        try:
            block = open_block(message.data, shard, self._shards, (PREDICTIONS,))
        except BlockError as error:
            log.error("%s: left out: %s", message.subject, error)
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

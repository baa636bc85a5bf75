"""A gateway's way in: messages from ZeroMQ, gathered into blocks on a thread of its own.

A shard has one block under way and one that is being filled. Where both are full nothing more is taken from
the socket: then ZeroMQ's queues fill up, and publishers are held back as the kind of their sockets has it.
"""

import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import zmq

from streamrnn.cluster.blocks import FRAMES, HEAD, RAW, seal
from streamrnn.cluster.clock import SteadyClock
from streamrnn.cluster.filling import TOO_LARGE, fill_blocks, make_filling
from streamrnn.cluster.tally import GatewayTally
from streamrnn.settings.config import Config
from streamrnn.wire.many import ERROR, LOST, make_inbox, receive

_WAIT_S = 0.05  # how late a stop can be

log = logging.getLogger("streamrnn")


class BlockIntake:
    """Fills blocks and hands each to ``append``, from a thread; ``done`` is called for each that is there.

    The socket is the thread's from ``start`` on.
    """

    def __init__(
        self,
        config: Config,
        shards: int,
        most_rows: int,
        most_bytes: int,
        tally: GatewayTally,
        append: Callable[[int, str, bytes, int], object],
        on_failure: Callable[[], object],
    ):
        """A block has ``most_bytes`` at most, and so many rows that its answers are not too many.

        ``append`` is called on this thread with shard, name of the block, its bytes and its rows.
        """
        how, cluster = config.input, config.cluster
        self._kind = RAW if how.format == "raw" else FRAMES
        stream = "" if how.adapted else how.stream
        room, most = min(cluster.block_bytes, most_bytes - HEAD), min(cluster.block_rows, most_rows)
        self.filling = make_filling(shards, room, most, self._kind == RAW, stream, most_rows)
        self._wait_ns = round(cluster.block_time * 1e9)
        self._tally, self._append, self._on_failure = tally, append, on_failure
        self.gateway = secrets.randbits(64) or 1
        self._numbers = [0] * shards
        self._under_way = np.zeros(shards, np.bool_)
        self._freed = threading.Condition()
        self._inbox, self._clock = make_inbox(), SteadyClock()
        self._stopping = self._abandoned = self.failed = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        receive.prepare(0, self._inbox)
        fill_blocks(self.filling, self._inbox, 0, 0, 0)

    def start(self, socket: zmq.Socket) -> None:
        self._socket = socket
        self._thread.start()

    def done(self, shard: int) -> None:
        """The block of a shard that was under way is in the log. For any thread."""
        with self._freed:
            self._under_way[shard] = False
            self._freed.notify()

    def stop(self) -> None:
        """Takes nothing more; returns once ``append`` has all that was taken. ``done`` must go on."""
        self._stopping = True
        self._thread.join()

    def abandon(self) -> int:
        """Has ``stop`` return whatever ``append`` does not have. Returns how many blocks that are."""
        self._abandoned = True
        return int(np.count_nonzero(self.filling.messages))

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._stopping:
                self._turn()
            while self.filling.messages.any() and not self._abandoned:
                self._seal_due(self._clock.now_ns(), True)
                self._wait(_WAIT_S)
        except Exception:
            log.critical("the input broke; ending", exc_info=True)
            self.failed = True
            self._on_failure()

    def _turn(self) -> None:
        """Takes what waits at the socket, or waits for it as long as no block is due."""
        count = receive(self._socket.underlying, self._inbox)
        if count < 0:
            raise RuntimeError(f"the input socket broke: {os.strerror(int(self._inbox.tally[ERROR]))}")
        now, first = self._clock.now_ns(), 0
        while first < count:
            first = fill_blocks(self.filling, self._inbox, count, first, now)
            self._seal_due(now, False)
            if first < count and not self._stopping:
                self._hold()
            elif first < count:  # the end: what finds no room is lost as what waits in the socket is
                break
        self._tally.received += first
        self._count_lost()
        if not count:
            self._seal_due(self._clock.now_ns(), False)
            self._socket.poll(self._patience_ms())

    def _count_lost(self) -> None:
        if lost := int(self._inbox.tally[LOST]):
            self._inbox.tally[LOST] = 0
            self.filling.rejected[TOO_LARGE] += lost

    def _patience_ms(self) -> int:
        """Until the next block is due."""
        begun = self.filling.base_ns[(self.filling.messages > 0) & ~self._under_way]
        if not begun.size:
            return round(1000 * _WAIT_S)
        left = int(begun.min()) + self._wait_ns - self._clock.now_ns()
        return max(min(round(left / 1e6), round(1000 * _WAIT_S)), 1)

    def _seal_due(self, now: int, everything: bool) -> None:
        """Hands blocks on whose shard has none under way: those that have waited or are half full, or all."""
        filling = self.filling
        ready = (filling.messages > 0) & ~self._under_way
        if not everything:
            half = (2 * filling.used > filling.room) | (2 * filling.rows > filling.most)
            ready &= (now - filling.base_ns >= self._wait_ns) | half
        for shard in np.flatnonzero(ready).tolist():
            self._hand_on(shard, now)

    def _hand_on(self, shard: int, now: int) -> None:
        filling, number = self.filling, self._numbers[shard]
        begin = shard * filling.room
        rows = int(filling.rows[shard])
        block = seal(
            filling.content[begin : begin + int(filling.used[shard])],
            kind=self._kind,
            shard=shard,
            shards=len(self._numbers),
            messages=int(filling.messages[shard]),
            rows=rows,
            gateway=self.gateway,
            number=number,
            base_ns=int(filling.base_ns[shard]),
            sealed_ns=now,
        )
        self._numbers[shard] = number + 1
        self._under_way[shard] = True
        filling.used[shard] = filling.messages[shard] = filling.rows[shard] = 0
        self._append(shard, f"{self.gateway:016x}-{shard}-{number}", block, rows)

    def _hold(self) -> None:
        """Waits for room: nothing is taken meanwhile."""
        began = time.monotonic_ns()
        self._wait(_WAIT_S)
        self._tally.held_ns += time.monotonic_ns() - began

    def _wait(self, seconds: float) -> None:
        with self._freed:
            self._freed.wait(seconds)

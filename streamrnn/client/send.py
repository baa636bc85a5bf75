"""Send: the rows of a file, published as frames."""

import contextlib
import fcntl
import os
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.settings.curve_keys import ClientKeys, KeyRefusals
from streamrnn.table import Reading, Rows, open_rows
from streamrnn.table.ends import NO_ENDS, PIPED, Ends, find_ends, with_ends
from streamrnn.table.pace import Pacer
from streamrnn.table.progress import Progress, counted
from streamrnn.table.with_model import check_units, with_model
from streamrnn.wire.frame import END, FRAME, RESET, SEQ, TS, VERSION

FLOAT32, FLOAT64 = 1, 2  # their codes in a frame
LOOK_AGAIN_S = 0.005
KINDS = {"pub": zmq.XPUB, "push": zmq.PUSH}


@dataclass(frozen=True)
class SendOptions:
    """What to send, where to, and how fast."""

    source: str  # a file, or - for standard input
    to: str  # an endpoint
    bind: bool = False
    socket: str = "pub"  # or "push"
    model: Path | None = None  # whose channels to send, in its order; None = every numeric column
    reading: Reading = field(default_factory=Reading)
    rate: float | None = None  # rows per second; None = as fast as they are taken
    speed: float | None = None  # times real time
    block: int = 1  # most rows in a frame
    wait: int = 1  # subscriptions to wait for ("pub")
    timeout: float = 30.0  # s to wait for them, for any receiver ("push"), and for the last frames to leave
    progress: bool = False
    keys: ClientKeys | None = None  # to talk to a daemon that has a CURVE key


def send(options: SendOptions) -> int:
    """Sends every row and returns 0.

    The last row of each stream says END, if the model answers sequences.
    A slow receiver holds the sender back: no frame is dropped while one is there. Raises UserError for
    a file or an endpoint that cannot be used, or if no receiver comes or it refuses the keys. Whatever
    ends it, stderr says what was sent; a KeyboardInterrupt then goes on to the caller.
    """
    model = None if options.model is None else read_model(options.model)
    channels = None if model is None else [channel.name for channel in model.channels]
    reading = options.reading if model is None else with_model(options.reading, model)
    period_s = 0.0 if model is None else model.sample_period_s
    ends: Ends | None = NO_ENDS
    if model is not None and model.answers_sequences:
        ends = find_ends(options.source, channels, reading)
        if ends is None:
            sys.stderr.write(f"warning: {PIPED}\n")
    with open_rows(options.source, channels, reading, period_s=period_s) as reader:
        sys.stderr.write(reader.opening())
        if model is not None:
            check_units(reader, model)
        pacer = Pacer(reader, options.rate, options.speed, period_s)
        with Publisher(options) as publisher:
            publisher.wait()
            progress = Progress(options.progress)
            try:
                met = 0  # streams
                for rows, last in with_ends(reader, ends or NO_ENDS):
                    if (
                        reading.raster is not None
                    ):  # numbers are ticks, and sent again they begin anew as well
                        rows, met = _first_begin(rows, met)
                    frames = make_frames(rows, options.block, last, reader.offsets)
                    for which in pacer.slices(pacer.due(rows)[frames.last]):
                        publisher.send(frames, which, reader.streams)
                        progress.add(int(frames.heads["rows"][which].sum()))
            finally:
                progress.clear()
                sys.stderr.write(reader.closing())
                rate = progress.rows / progress.seconds
                what = f"{counted(progress.rows, 'row')} of {counted(len(reader.streams), 'stream')}"
                frames_sent = counted(publisher.frames, "frame")
                sys.stderr.write(
                    f"sent {what} in {frames_sent}, {progress.seconds:.2f} s, {rate:,.0f} rows/s\n"
                )
    return 0


class Frames(NamedTuple):
    """m frames, in the order in which their last rows stand in the file."""

    heads: np.ndarray  # (m,) FRAME
    stream: np.ndarray  # (m,) int32: indices into RowReader.streams
    values: bytes  # of all frames: float32, or float64 where readings are less the offsets of channels
    begin: np.ndarray  # (m,) int64: where in ``values`` a frame's own begin
    end: np.ndarray  # (m,) int64
    last: np.ndarray  # (m,) int64: the place of the last row


def make_frames(rows: Rows, block: int, last: np.ndarray, offsets: np.ndarray) -> Frames:
    """Frames of at most ``block`` rows: of one stream, numbered one after another.

    The rows that ``last``, (n,) bool, names are the last ones of their streams; ``offsets``, (C,)
    float64, were taken off their values. A frame says when its first row was and, in ``dt_ns``, how far
    apart its rows are on average.
    """
    order = np.argsort(rows.stream, kind="stable")  # the rows of a stream side by side
    stream, seq, ts_ns = rows.stream[order], rows.seq[order], rows.ts_ns[order]
    place = np.arange(len(order))
    follows = np.zeros(len(order), bool)
    follows[1:] = (stream[1:] == stream[:-1]) & (seq[1:] == seq[:-1] + np.uint64(1))
    run = np.maximum.accumulate(np.where(follows, 0, place))  # where the row's unbroken run begins
    begin = np.flatnonzero((place - run) % block == 0)
    end = np.append(begin[1:], len(order))
    by_last = np.argsort(order[end - 1])
    begin, end = begin[by_last], end[by_last]

    heads = np.zeros(len(begin), FRAME)
    values, dtype = rows.values, FLOAT32
    if offsets.any():
        values, dtype = values + offsets, FLOAT64
    heads["magic"], heads["version"], heads["dtype"], heads["rows"] = b"SR", VERSION, dtype, end - begin
    timed = ts_ns[begin] != 0
    heads["flags"] = np.where(timed, SEQ | TS, SEQ)
    heads["flags"][seq[begin] == 0] |= RESET  # a file sent again begins anew, and is not late
    heads["flags"][last[order[end - 1]]] |= END
    if rows.begins is not None:
        heads["flags"][rows.begins[order[begin]]] |= RESET
    heads["seq"], heads["ts_ns"] = seq[begin], ts_ns[begin]
    evenly = timed & (ts_ns[end - 1] > ts_ns[begin])
    heads["dt_ns"] = np.where(evenly, (ts_ns[end - 1] - ts_ns[begin]) // np.maximum(end - begin - 1, 1), 0)
    row_bytes = values.itemsize * values.shape[1]
    return Frames(
        heads=heads,
        stream=stream[begin],
        values=values[order].tobytes(),
        begin=begin * row_bytes,
        end=end * row_bytes,
        last=order[end - 1],
    )


def _first_begin(rows: Rows, met: int) -> tuple[Rows, int]:
    """The rows, of which the first of every stream begins; and how many streams were met so far."""
    streams, first = np.unique(rows.stream, return_index=True)
    begins = np.zeros(len(rows.stream), bool) if rows.begins is None else rows.begins.copy()
    begins[first[streams >= met]] = True
    return rows._replace(begins=begins), max(met, int(streams.max(initial=-1)) + 1)


class Publisher:
    """A socket that frames go out of, and who is there to take them."""

    def __init__(self, options: SendOptions) -> None:
        self.frames = 0
        self._options = options
        self._topics: list[bytes] = []
        self._subscribed = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(KINDS[options.socket])
        self._connections = PeerConnections(self._socket, KeyRefusals(options.to, options.bind))
        try:
            if options.keys is not None:
                options.keys.put_on(self._socket)
            if options.socket == "pub":
                self._socket.setsockopt(zmq.XPUB_NODROP, 1)
                self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # tell of every subscription, not of new ones
            else:
                self._socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing for one that is not there
            (self._socket.bind if options.bind else self._socket.connect)(options.to)
        except zmq.ZMQError as error:
            self.close(linger_ms=0)
            how = "bound" if options.bind else "connected to"
            raise UserError(f"{options.to}: cannot be {how}: {error.strerror}") from error

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(linger_ms=0 if kind else round(self._options.timeout * 1000))

    def close(self, linger_ms: int) -> None:
        """Ends once the last frames have been taken, or ``linger_ms`` after."""
        deadline = time.monotonic() + linger_ms / 1000
        self._look_around()
        with self._connections.kept_until_read(deadline):
            self._context.destroy(linger_ms)

    def wait(self) -> None:
        """Until there are receivers. Raises UserError if they do not come in time, or refuse the keys."""
        options, socket = self._options, self._socket
        if options.socket == "push":
            awaited, event = "a receiver", zmq.POLLOUT
        else:
            awaited, event = counted(options.wait, "subscription"), zmq.POLLIN
        poller = zmq.Poller()
        poller.register(socket, event)
        poller.register(self._connections.events, zmq.POLLIN)
        deadline = time.monotonic() + options.timeout
        told = False
        while not self._ready():
            left_ms = round((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise UserError(
                    f"{options.to}: waited {options.timeout:g} s for {awaited}; start the receiver, then send"
                )
            if not told:
                sys.stderr.write(f"waiting for {awaited} at {options.to}\n")
                told = True
            poller.poll(left_ms)

    def send(self, frames: Frames, which: slice, streams: Sequence[str]) -> None:
        """Some of the frames; waits where the receivers are full."""
        self._look_around()
        self._topics += [stream.encode() for stream in streams[len(self._topics) :]]
        heads, size = frames.heads[which].tobytes(), FRAME.itemsize
        places = zip(
            frames.stream[which].tolist(),
            frames.begin[which].tolist(),
            frames.end[which].tolist(),
            strict=True,
        )
        topics, values, send = self._topics, frames.values, self._socket.send
        for k, (stream, begin, end) in enumerate(places):
            send(topics[stream], zmq.SNDMORE)
            send(heads[k * size : (k + 1) * size] + values[begin:end])
        self.frames += len(heads) // size

    def _ready(self) -> bool:
        self._look_around()
        if self._options.socket == "push":
            return bool(self._socket.poll(0, zmq.POLLOUT))
        return self._subscribed >= self._options.wait

    def _look_around(self) -> None:
        """Counts the subscriptions that came or went, and says when nobody is left."""
        options = self._options
        while options.socket == "pub" and self._socket.poll(0):
            self._subscribed += 1 if self._socket.recv()[:1] == b"\x01" else -1
        if self._connections.last_has_left():
            lost = options.socket == "pub" and options.bind
            then = "frames are lost until one comes" if lost else "frames wait for it to come back"
            sys.stderr.write(f"the last receiver has left; {then}\n")


class PeerConnections:
    """The connections of a socket, as its monitor tells of them."""

    def __init__(self, socket: zmq.Socket, refusals: KeyRefusals) -> None:
        made = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self.events = socket.get_monitor_socket(made | zmq.EVENT_DISCONNECTED | refusals.EVENTS)
        self._refusals = refusals
        self._open: set[int] = set()  # file descriptors
        self._heard = False  # whether any of them belongs to somebody who speaks

    def last_has_left(self) -> bool:
        """Whether there were connections before and there are none now. Raises as ``KeyRefusals.see``."""
        while self.events.poll(0):
            event = recv_monitor_message(self.events)
            match event["event"]:
                case zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED:
                    self._open.add(event["value"])
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._heard = True
                case zmq.EVENT_DISCONNECTED:
                    self._open.discard(event["value"])
                case other:
                    self._refusals.see(other)
        left = self._heard and not self._open
        self._heard = self._heard and not left
        return left

    @contextlib.contextmanager
    def kept_until_read(self, deadline: float) -> Iterator[None]:
        """Keeps the connections from closing in the body; they close once their other ends have read all.

        A receiver whose queue is full stops reading, and when a Unix connection closes then, libzmq 4.3
        drops what it has not read yet. ``deadline`` is monotonic, s.
        """
        kept = []
        for connection in self._open:
            with contextlib.suppress(OSError):  # it has gone already
                kept.append(os.dup(connection))
        yield
        for connection in kept:
            while _unread(connection) and time.monotonic() < deadline:
                time.sleep(LOOK_AGAIN_S)
            os.close(connection)


def _unread(connection: int) -> int:
    """Bytes that the other end has not read."""
    try:
        return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0

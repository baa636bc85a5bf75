"""Tail: predictions, printed as they come."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.settings.curve_keys import ClientKeys, KeyRefusals
from streamrnn.wire.frame import (
    EVENT,
    PER_SEQUENCE,
    PREDICTION,
    ROLLOUT,
    WireError,
    flag_names,
    unpack_prediction,
)
from streamrnn.wire.shortest import number

KINDS = {PER_SEQUENCE: ["sequence"], ROLLOUT: ["rows"], EVENT: ["event"]}
QUEUE = 100_000  # predictions held while the reader of the output is slow
RECONNECT_MS = 10  # a daemon that has just started should not have to wait for its reader
HEARTBEAT_MS = 1000
SILENCE_MS = 5000  # a machine that does not even acknowledge heartbeats has gone


def tail(
    endpoint: str,
    topics: Sequence[str],
    as_json: bool,
    limit: int | None,
    model: Path | None,
    bind: bool = False,
    keys: ClientKeys | None = None,
) -> int:
    """Prints a line per prediction of the streams whose ids begin with one of ``topics`` (none = all).

    Returns 0 after ``limit`` predictions; without one it ends by KeyboardInterrupt, or by
    BrokenPipeError once nobody reads. Messages that are no predictions are counted on stderr, the first
    one named. Raises UserError for an endpoint or a model that cannot be used, or where the other end
    refuses the keys.
    """
    names = None if model is None else [output.name for output in read_model(model).outputs]
    with zmq.Context() as context, context.socket(zmq.SUB) as socket, contextlib.ExitStack() as close:
        socket.linger = 0
        socket.rcvhwm = QUEUE
        socket.reconnect_ivl = RECONNECT_MS
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, 0  # to be acknowledged, not answered
        socket.setsockopt(zmq.TCP_MAXRT, SILENCE_MS)
        for topic in topics or ("",):
            socket.subscribe(topic)
        refusals = KeyRefusals(endpoint, bind)
        monitor = socket.get_monitor_socket(refusals.EVENTS)
        close.callback(socket.disable_monitor)
        try:
            if keys is not None:
                keys.put_on(socket)
            (socket.bind if bind else socket.connect)(endpoint)
        except zmq.ZMQError as error:
            how = "bound" if bind else "connected to"
            raise UserError(f"{endpoint}: cannot be {how}: {error.strerror}") from error
        return _print(_messages(socket, monitor, refusals), as_json, limit, names)


def _messages(socket: zmq.Socket, monitor: zmq.Socket, refusals: KeyRefusals) -> Iterator[list[bytes]]:
    """The parts of each message, without end. Flushes stdout when none waits, and then sees to refusals."""
    while True:
        if not socket.poll(0):
            sys.stdout.flush()  # nothing waits, so nobody should wait for what is buffered
            while monitor in zmq.select([socket, monitor], [], [])[0]:
                refusals.see(recv_monitor_message(monitor)["event"])
        yield socket.recv_multipart()


def _print(
    messages: Iterator[list[bytes]], as_json: bool, limit: int | None, names: Sequence[str] | None
) -> int:
    line_of = json_line if as_json else text_line
    printed = rubbish = 0
    try:
        while limit is None or printed < limit:
            parts = next(messages)
            try:
                line = line_of(read_prediction(parts), names)
            except WireError as error:
                rubbish += 1
                if rubbish == 1:
                    sys.stderr.write(f"warning: a message that is no prediction: {error}\n")
                continue
            sys.stdout.write(f"{line}\n")
            printed += 1
        sys.stdout.flush()
    finally:
        if rubbish:
            sys.stderr.write(f"messages that were no predictions: {rubbish:,}\n")
    return 0


def read_prediction(parts: Sequence[bytes]) -> dict[str, Any]:
    """The fields of a prediction by their names on the wire, ``stream`` first and ``values`` last.

    NaN is None; a float32 is the float of fewest digits that rounds to it; ``flags`` are their names;
    ``values`` has ``horizon`` lists of outputs. Raises WireError.
    """
    if len(parts) != 2:
        raise WireError(f"a prediction has 2 parts, this has {len(parts)}")
    try:
        stream = parts[0].decode()
    except UnicodeDecodeError:
        raise WireError(f"its stream id is not UTF-8: {parts[0][:20]!r}") from None
    header, values = unpack_prediction(parts[1])
    fields: dict[str, Any] = dict(zip(PREDICTION.names or (), header.item(), strict=True))
    del fields["magic"], fields["version"]
    return (
        {"stream": stream}
        | fields
        | {
            "flags": flag_names(fields["flags"]),
            "score": number(header["score"]),
            "residual": number(header["residual"]),
            "values": [[number(value) for value in row] for row in values],
        }
    )


def json_line(fields: dict[str, Any], names: Sequence[str] | None) -> str:
    """The fields as one JSON object.

    ``values`` is a list of outputs, or an object of them by their ``names``; where the horizon is not 1,
    a list of such lists, or an object of lists.
    """
    rows = fields["values"]
    values = rows[0] if len(rows) == 1 else rows
    if names is not None:
        _check_names(rows, names)
        columns = rows[0] if len(rows) == 1 else zip(*rows, strict=True)
        values = dict(zip(names, columns, strict=bool(rows)))
    return json.dumps(fields | {"values": values}, ensure_ascii=False)


def text_line(fields: dict[str, Any], names: Sequence[str] | None) -> str:
    """Stream, kind but for a row's own, number, time, step, outputs (all rows), score, residual and flags."""
    rows = fields["values"]
    if names is not None:
        _check_names(rows, names)
    labels = names if names is not None else [f"y{k}" for k in range(len(rows[0]) if rows else 0)]
    outputs = zip(labels, zip(*rows, strict=True), strict=bool(rows))
    stream = fields["stream"] if fields["stream"].isprintable() else ascii(fields["stream"])
    time = f"{np.datetime64(fields['ts_ns'], 'ns')}Z" if fields["ts_ns"] else "-"
    words = [
        stream,
        *KINDS.get(fields["kind"], []),
        f"seq={fields['seq']}",
        f"time={time}",
        f"step={fields['step']}",
    ]
    words += [f"{label}={','.join(map(_shown, values))}" for label, values in outputs]
    words += [f"{name}={_shown(fields[name])}" for name in ("score", "residual")]
    return " ".join([*words, fields["flags"]]).rstrip()


def _check_names(rows: list[list[float | None]], names: Sequence[str]) -> None:
    if rows and len(rows[0]) != len(names):
        raise UserError(
            f"the model has {len(names)} outputs, a prediction {len(rows[0])}; name the model that is served"
        )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"

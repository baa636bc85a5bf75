"""Tail: predictions, printed as they come."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from streamrnn.client.read_object import read_object
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.settings.curve_keys import ClientKeys, KeyRefusals
from streamrnn.wire.alive import ALIVE
from streamrnn.wire.frame import (
    BAND_FIELDS,
    BANDS,
    KIND_NAMES,
    PER_FRAME,
    PREDICTION,
    WireError,
    band_names,
    flag_names,
    unpack_prediction,
)
from streamrnn.wire.shortest import number

QUEUE = 100_000  # predictions held while the reader of the output is slow
RECONNECT_MS = 10  # a daemon that has just started should not have to wait for its reader


class Outputs(NamedTuple):
    """What predictions do not say of themselves."""

    names: Sequence[str] | None  # of the outputs, where they are known
    levels: Sequence[float]  # of their bands


def tail(
    endpoint: str,
    topics: Sequence[str],
    as_json: bool,
    limit: int | None,
    model: Path | None,
    bind: bool = False,
    keys: ClientKeys | None = None,
    levels: Sequence[float] = (),
) -> int:
    """Prints a line per prediction of the streams whose ids begin with one of ``topics`` (none = all).

    Returns 0 after ``limit`` predictions; without one it ends by KeyboardInterrupt, or by
    BrokenPipeError once nobody reads. Messages that are no predictions are counted on stderr, the first
    one named. ``levels`` are those of their bands. Raises UserError for an endpoint or a model that cannot
    be used, where the other end refuses the keys, or for bands of which nothing was said.
    """
    names = None if model is None else [output.name for output in read_model(model).outputs]
    with zmq.Context() as context, context.socket(zmq.SUB) as socket, contextlib.ExitStack() as close:
        socket.linger = 0
        socket.rcvhwm = QUEUE
        socket.reconnect_ivl = RECONNECT_MS
        for option, value in ALIVE.items():
            socket.setsockopt(option, value)
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
        return _print(_messages(socket, monitor, refusals), as_json, limit, Outputs(names, levels))


def _messages(socket: zmq.Socket, monitor: zmq.Socket, refusals: KeyRefusals) -> Iterator[list[bytes]]:
    """The parts of each message, without end. Flushes stdout when none waits, and then sees to refusals."""
    while True:
        if not socket.poll(0):
            sys.stdout.flush()  # nothing waits, so nobody should wait for what is buffered
            while monitor in zmq.select([socket, monitor], [], [])[0]:
                refusals.see(recv_monitor_message(monitor)["event"])
        yield socket.recv_multipart()


def _print(messages: Iterator[list[bytes]], as_json: bool, limit: int | None, outputs: Outputs) -> int:
    printed = rubbish = 0
    try:
        while limit is None or printed < limit:
            parts = next(messages)
            try:
                line = _line(parts, as_json, outputs)
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


def _line(parts: Sequence[bytes], as_json: bool, outputs: Outputs) -> str:
    """What is printed of a message of either format. Raises WireError."""
    if len(parts) != 2:
        raise WireError(f"a prediction has 2 parts, this has {len(parts)}")
    topic, payload = parts
    try:
        stream = topic.decode()
    except UnicodeDecodeError:
        raise WireError(f"its stream id is not UTF-8: {topic[:20]!r}") from None
    if payload.startswith(b"{"):
        fields = read_object(payload)
        return json.dumps(fields, ensure_ascii=False) if as_json else object_line(fields)
    fields = read_prediction(stream, payload, outputs.levels)
    return json_line(fields, outputs.names) if as_json else text_line(fields, outputs.names)


def read_prediction(stream: str, payload: bytes, levels: Sequence[float] = ()) -> dict[str, Any]:
    """The fields of a prediction by their names on the wire, ``stream`` first and ``values`` last.

    NaN is None; a float32 is the float of fewest digits that rounds to it; ``flags`` are their names;
    ``values`` has ``horizon`` lists of outputs. One with bands of these ``levels`` has ``low`` and ``high``,
    too: for each level, ``low50`` and the like, such lists. Raises WireError, and UserError for bands where
    there are no levels.
    """
    if not levels and payload[:2] == b"SP" and _has_bands(payload):
        raise UserError("its predictions have bands; name their levels, as --bands 0.5,0.9")
    header, values, sides = unpack_prediction(payload, len(levels))
    fields: dict[str, Any] = dict(zip(PREDICTION.names or (), header.item(), strict=True))
    del fields["magic"], fields["version"]
    said = [[[number(value) for value in row] for row in part] for part in (values, *sides)]
    bands = {
        field: {
            names[side]: rows for names, rows in zip(band_names(levels), said[1 + side :: 2], strict=True)
        }
        for side, field in enumerate(BAND_FIELDS if len(sides) else ())
    }
    return (
        {"stream": stream}
        | fields
        | {
            "flags": flag_names(fields["flags"]),
            "score": number(header["score"]),
            "residual": number(header["residual"]),
            "values": said[0],
        }
        | bands
    )


def _has_bands(payload: bytes) -> bool:
    return len(payload) >= PREDICTION.itemsize and bool(
        np.frombuffer(payload, PREDICTION, 1)["flags"][0] & BANDS
    )


def json_line(fields: dict[str, Any], names: Sequence[str] | None) -> str:
    """The fields as one JSON object.

    ``values`` is a list of outputs, or an object of them by their ``names``; where the horizon is not 1,
    a list of such lists, or an object of lists. ``low`` and ``high`` are objects, as the daemon writes them.
    """
    rows = fields["values"]
    values = rows[0] if len(rows) == 1 else rows
    if names is not None:
        _check_names(rows, names)
        columns = rows[0] if len(rows) == 1 else zip(*rows, strict=True)
        values = dict(zip(names, columns, strict=bool(rows)))
    bands = {
        field: {
            label: column if len(rows) != 1 else column[0] for label, column in _sides(fields, field, names)
        }
        for field in BAND_FIELDS
        if field in fields
    }
    return json.dumps(fields | {"values": values} | bands, ensure_ascii=False)


def text_line(fields: dict[str, Any], names: Sequence[str] | None) -> str:
    """Stream, kind but for a row's own, number, time, step, outputs (all rows), bands, score and so on."""
    rows = fields["values"]
    if names is not None:
        _check_names(rows, names)
    outputs = [*zip(_labels(rows, names), zip(*rows, strict=True), strict=bool(rows))]
    outputs += [side for field in BAND_FIELDS if field in fields for side in _sides(fields, field, names)]
    time = f"{np.datetime64(fields['ts_ns'], 'ns')}Z" if fields["ts_ns"] else None
    return _words(fields, KIND_NAMES.get(fields["kind"], ""), time, outputs, fields["flags"])


def _labels(rows: Sequence[Sequence[float | None]], names: Sequence[str] | None) -> Sequence[str]:
    return names if names is not None else [f"y{k}" for k in range(len(rows[0]) if rows else 0)]


def _sides(
    fields: dict[str, Any], field: str, names: Sequence[str] | None
) -> list[tuple[str, tuple[float | None, ...]]]:
    """Each output's low or high of each band, and what it is called."""
    labels = _labels(fields["values"], names)
    return [
        (f"{label}_{side}", column)
        for place, label in enumerate(labels)
        for side, rows in fields[field].items()
        for column in [tuple(row[place] for row in rows)]
    ]


def object_line(fields: dict[str, Any]) -> str:
    """The same of a prediction that came as JSON."""
    outputs = (
        (name, value if isinstance(value, list) else [value])
        for field in ("prediction", *BAND_FIELDS)
        for name, value in fields.get(field, {}).items()
    )
    return _words(fields, fields["kind"], fields["time"], outputs, "|".join(fields["flags"]))


def _words(
    fields: dict[str, Any],
    kind: str,
    time: str | None,
    outputs: Iterable[tuple[str, Iterable[float | None]]],
    flags: str,
) -> str:
    words = [_printable(fields["stream"])]
    words += [] if kind in ("", KIND_NAMES[PER_FRAME]) else [_printable(kind)]
    words += [f"seq={fields['seq']}", f"time={_printable(time or '-')}", f"step={fields['step']}"]
    words += [f"{_printable(label)}={','.join(map(_shown, values))}" for label, values in outputs]
    words += [f"{name}={_shown(fields[name])}" for name in ("score", "residual")]
    return " ".join([*words, _printable(flags)]).rstrip()


def _check_names(rows: list[list[float | None]], names: Sequence[str]) -> None:
    if rows and len(rows[0]) != len(names):
        raise UserError(
            f"the model has {len(names)} outputs, a prediction {len(rows[0])}; name the model that is served"
        )


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"

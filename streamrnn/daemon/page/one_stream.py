"""One stream as it stands, for a person or a program to read."""

import time
from typing import Any

import numpy as np

from streamrnn.daemon.page.read_records import read_records, slot_of
from streamrnn.engine.engine import Engine
from streamrnn.rows.assembler import Standing
from streamrnn.rows.layout import FRESH, HELD, SILENT
from streamrnn.streams.last_bands import next_reaches
from streamrnn.streams.last_score import last_scores, last_shares
from streamrnn.streams.record import COUNT, EPOCH, HOLD, ID_WORDS, RECEIVED, SEQ, STEP, TS
from streamrnn.streams.score_part import EVENT, LATEST, SCALARS, UNUSUAL
from streamrnn.streams.slots import id_words
from streamrnn.wire.frame import band_names
from streamrnn.wire.shortest import number

_SENSOR = {FRESH: "fresh", HELD: "held", SILENT: "silent"}


def look(
    engine: Engine, name: str, slot: int | None = None, standing: Standing | None = None
) -> dict[str, Any] | None:
    """A stream, JSON-ready; None where there is none of that id. ``slot``: where it was last.

    ``channels`` have the last ``value`` and, of one that is forecast, the ``forecast`` of the next with its
    bands, as ``low50`` and ``high50``, the last ``residual`` in its running deviations, and its ``share`` in
    the score; where rows are assembled,
    whether the ``sensor`` was fresh, held or silent, and ``value_age_s``, how old its last value was then.
    """
    model, core = engine.model, engine.core
    try:
        words = id_words(name)
    except ValueError:
        return None
    slots = core.slots
    ids = slots.ids.reshape(-1, ID_WORDS)
    if slot is None or (ids[slot] != words).any():
        slot = slot_of(slots, words)
    if slot is None:
        return None
    (record,) = read_records(slots, np.array([slot]))
    if not record.view(np.uint64)[COUNT] or (ids[slot] != words).any():  # let go meanwhile
        return None
    found, halves = record.view(np.uint64), record.view(np.uint32)
    age_ns = time.monotonic_ns() - int(found[RECEIVED])
    said: dict[str, Any] = {
        "stream": name,
        "step": int(found[STEP]),
        "seq": int(found[SEQ]),
        "ts_ns": int(found[TS : TS + 1].view(np.int64)[0]),
        "epoch": int(halves[EPOCH]),
        "age_s": max(age_ns, 0) / 1e9,
        "score": None,
        "anomaly": False,
        "held": bool(halves[HOLD]),
    }
    channels = [
        channel.stated() | {"value": number(record[slots.input_at + k], channel.offset)}
        for k, channel in enumerate(model.channels)
    ]
    if standing is not None:
        for channel, how, when in zip(channels, standing.how.tolist(), standing.ts_ns.tolist(), strict=True):
            age_s = None if when < 0 else max(said["ts_ns"] - when, 0) / 1e9
            channel |= {"sensor": _SENSOR[how], "value_age_s": age_s}
    forecasts = record[slots.prediction_at : slots.prediction_at + len(model.outputs)]
    if core.net.forecasts:
        part = record[slots.score_at : slots.adapt_at]
        shares = last_shares(core.net, part)
        latest = part[SCALARS + LATEST * core.net.score_width :]
        score = number(last_scores(part[np.newaxis])[0])
        said |= {"score": score, "anomaly": bool(part[EVENT] == UNUSUAL)}
        for k, channel in enumerate(channels[: len(model.outputs)]):
            forecast = number(forecasts[k], model.outputs[k].offset)
            channel |= {"forecast": forecast, "residual": number(latest[k])}
            channel["share"] = number(shares[k])
        if engine.levels:
            _tell_bands(engine, record, forecasts, channels)
    elif model.relation == "sequence-to-sequence":
        said["outputs"] = [
            output.stated() | {"value": number(forecasts[k], output.offset)}
            for k, output in enumerate(model.outputs)
        ]
    return said | {"channels": channels}


def _tell_bands(
    engine: Engine, record: np.ndarray, forecasts: np.ndarray, channels: list[dict[str, Any]]
) -> None:
    """Adds low and high of each band of the next row's forecast."""
    (reaches,) = next_reaches(engine.core, record[np.newaxis])
    for names, reach in zip(band_names(engine.levels), reaches.astype(np.float32), strict=True):
        for name, values in zip(names, (forecasts - reach, forecasts + reach), strict=True):
            for k, channel in enumerate(channels[: len(forecasts)]):
                channel[name] = number(values[k], engine.model.outputs[k].offset)

"""A journal of a night, made by hand: events of a thousand streams, as a page shows them."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from streamrnn.events.journal import Journal
from streamrnn.events.recording import ANOMALY, ROW, pack

CHANNELS = ("flow", "pressure", "current", "motor_temp", "bearing_temp", "vibration")
NS = 10**9
HOUR_S = 3600
_KINDS = ("event",) * 16 + ("gap", "gap", "silence", "reset")
_VERDICTS = ("",) * 6 + ("real", "normal", "normal", "work")


def write_night(
    path: Path,
    end_s: float,
    events: int = 300,
    streams: int = 1000,
    hours: float = 10.0,
    names: Sequence[str] = (),
    recorded: int = 240,
) -> list[str]:
    """Writes a journal of ``hours`` that end at ``end_s``, s since the Unix epoch; returns the streams' ids.

    ``names`` are those of the first streams. The last event goes on, its id is ``events``. ``recorded``: the
    rows kept with each, one a second.
    """
    random = np.random.default_rng(5)
    ids = [*names, *(f"hall {1 + k % 7}/pump-{k:04}" for k in range(streams))][:streams]
    begins = np.sort(random.random(events)) * hours * HOUR_S + end_s - hours * HOUR_S
    begins[-1] = end_s - 60
    Journal(path, write=True).close()
    with closing(sqlite3.connect(path)) as file, file:
        for event, begin in enumerate(begins.tolist(), 1):
            last = event == events
            kind = "event" if last else str(random.choice(_KINDS))
            stream = (
                ids[int(random.integers(len(names)))] if names and event % 9 == 0 else str(random.choice(ids))
            )
            _write_event(file, event, kind, stream, begin, last, recorded, random)
    return ids


def _write_event(
    file: sqlite3.Connection,
    event: int,
    kind: str,
    stream: str,
    begin: float,
    goes_on: bool,
    recorded: int,
    random: np.random.Generator,
) -> None:
    lasted = 0.0 if kind == "reset" else float(random.lognormal(5.0, 1.0))
    end = begin + lasted
    peak = float(3 + random.exponential(1.5))
    shares = np.sort(random.dirichlet(np.ones(len(CHANNELS)) * 0.4))[::-1].round(3).tolist()
    causes = [(CHANNELS[k], share) for k, share in zip(random.permutation(6), shares, strict=True)]
    verdict = str(random.choice(_VERDICTS)) if kind == "event" and not goes_on else ""
    row: dict[str, object] = {"id": event, "kind": kind, "stream": stream, "epoch": 1, "verdict": verdict}
    row |= {"begin_ns": round(begin * NS), "begin_wall_ns": round(begin * NS), "begin_seq": round(begin)}
    if not goes_on:
        row |= {"end_ns": round(end * NS), "end_wall_ns": round(end * NS), "end_seq": round(end)}
    if kind == "event":
        row |= {"rows": max(round(lasted), 1), "peak": peak, "channels": json.dumps(causes)}
    elif kind == "gap":
        row["rows"] = max(round(lasted), 1)
    elif kind == "reset":
        row["detail"] = "gap"
    if verdict:
        row |= {"note": "the valve was changed" if verdict == "work" else "", "judged_ns": round(end * NS)}
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    file.execute(f"INSERT INTO events ({columns}) VALUES ({places})", list(row.values()))
    if kind == "event" and recorded and not goes_on:
        blob = _recording(begin, lasted, recorded, causes, peak, random)
        file.execute("INSERT INTO recordings VALUES (?, ?, ?)", [event, recorded, blob])


def _recording(
    begin: float,
    lasted: float,
    rows: int,
    causes: list[tuple[str, float]],
    peak: float,
    random: np.random.Generator,
) -> bytes:
    """Rows from before an event until after it; its causes are off their forecasts by their shares."""
    at = np.linspace(begin - lasted / 2 - 20, begin + lasted * 1.4 + 20, rows)
    within = (at >= begin) & (at <= begin + lasted)
    heads = np.zeros(rows, ROW)
    heads["wall_ns"] = heads["time_ns"] = (at * NS).astype(np.int64)
    heads["seq"] = at.astype(np.uint64)
    bump = np.exp(-(((at - begin - lasted / 2) / (lasted / 2 + 1)) ** 2))
    rise = np.where(within, 0.55 + 0.45 * bump, 0.2 * bump)
    heads["score"] = 0.6 + 0.3 * random.random(rows) + (peak - 0.8) * rise
    heads["mark"] = np.where(within, ANOMALY, 0)
    wave = np.stack([np.sin(at / (7 + 3 * k)) * (1 + k) + 10 * k for k in range(len(CHANNELS))], axis=1)
    values = wave + random.normal(size=wave.shape) * 0.1
    for name, share in causes:
        k = CHANNELS.index(name)
        values[:, k] += within * share * 4 * (1 + k)
    named = [(name, 0.0) for name in CHANNELS]
    return pack(heads, values, wave, named, named)

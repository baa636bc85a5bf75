"""What a prediction is as JSON, read byte by byte from the table in README; slow, and of nothing of ours."""

import datetime
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = {1: "row", 2: "sequence", 3: "rows", 4: "event"}
FLAGS = ["WARMING", "GAP", "RESET", "IMPUTED", "DEGRADED", "RESTORED", "EVICTED", "ANOMALY", "BANDS", "HELD"]
SIDES = "low", "high"
EPOCH = datetime.datetime(1970, 1, 1)


def decimal(value: float, offset: float = 0.0) -> float | None:
    return None if math.isnan(value) else float(str(np.float32(value))) + offset


def instant(ns: int) -> str | None:
    if ns in (0, -(2**63)):
        return None
    seconds, rest = divmod(ns, 10**9)
    return f"{EPOCH + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def plain_object(
    stream: str,
    payload: bytes,
    names: Sequence[str],
    offsets: Sequence[float] | None = None,
    percents: Sequence[str] = (),
) -> dict[str, Any]:
    """``percents`` are those of the bands, as in "50"."""
    magic, version, kind, flags, horizon = struct.unpack_from("<2sBBHH", payload)
    seq, ts_ns, step, _, _, score, gap, epoch, residual = struct.unpack_from("<QqQqqfIIf", payload, 8)
    assert (magic, version) == (b"SP", 1)
    ends = ["", *(f"_{side}{percent}" for percent in (percents if flags & 256 else ()) for side in SIDES)]
    size = horizon * len(names)
    values = struct.unpack_from(f"<{len(ends) * size}f", payload, 64)
    assert len(payload) == 64 + 4 * len(values)
    said: dict[str, Any] = {"prediction": {}} | ({side: {} for side in SIDES} if len(ends) > 1 else {})
    for k, name in enumerate(names if horizon else ()):
        for at, end in enumerate(ends):
            part = values[at * size : (at + 1) * size]
            column = [decimal(value, (offsets or [0.0] * len(names))[k]) for value in part[k :: len(names)]]
            field = "prediction" if not end else "low" if end.startswith("_low") else "high"
            said[field][name + end] = column if horizon > 1 else column[0]
    return {
        "stream": stream,
        "seq": seq,
        "time": instant(ts_ns),
        "step": step,
        "kind": KINDS[kind],
        "flags": [name for bit, name in enumerate(FLAGS) if flags & 1 << bit],
        "score": decimal(score),
        "residual": decimal(residual),
        "gap": gap,
        "epoch": epoch,
    } | said

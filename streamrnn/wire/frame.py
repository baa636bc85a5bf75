"""The layout of frames and predictions: one definition, for Python and for compiled code.

Compiled code reads frames at the offsets of their dtype, and writes predictions as records of theirs; tools
and tests use the dtypes, too. Everything is little-endian.
"""

from collections.abc import Sequence

import numpy as np

FRAME = np.dtype(
    [
        ("magic", "S2"),
        ("version", "u1"),
        ("dtype", "u1"),
        ("flags", "<u2"),
        ("rows", "<u2"),
        ("seq", "<u8"),
        ("ts_ns", "<i8"),
        ("dt_ns", "<i8"),
    ]
)
PREDICTION = np.dtype(
    [
        ("magic", "S2"),
        ("version", "u1"),
        ("kind", "u1"),
        ("flags", "<u2"),
        ("horizon", "<u2"),
        ("seq", "<u8"),
        ("ts_ns", "<i8"),
        ("step", "<u8"),
        ("recv_ns", "<i8"),
        ("pub_ns", "<i8"),
        ("score", "<f4"),
        ("gap", "<u4"),
        ("epoch", "<u4"),
        ("residual", "<f4"),
    ]
)
assert (FRAME.itemsize, PREDICTION.itemsize) == (32, 64)

VERSION = 1
LARGEST = float(np.finfo(np.float32).max)  # a value above it is infinite, whatever type it came in
TOPIC_BYTES = 127  # the longest stream id
ID_WORDS = (TOPIC_BYTES + 1) // 8  # 64-bit words of an id: UTF-8, zeros and, in its last byte, its length

# frame flags
END, RESET, SEQ, TS = 1, 2, 4, 8

# element types of a frame's values: code on the wire -> numpy dtype
DTYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i2"), 4: np.dtype("<i4")}

# kinds of prediction
PER_FRAME, PER_SEQUENCE, ROLLOUT, EVENT = 1, 2, 3, 4
KIND_NAMES = {PER_FRAME: "row", PER_SEQUENCE: "sequence", ROLLOUT: "rows", EVENT: "event"}
# a prediction as a JSON object
OBJECT_FIELDS = (
    *("stream", "seq", "time", "step", "kind", "flags"),
    *("score", "residual", "gap", "epoch", "prediction"),
)
BAND_FIELDS = ("low", "high")  # and behind them, of one with bands

# prediction flags, bit by bit from the lowest
FLAG_NAMES = (
    *("WARMING", "GAP", "RESET", "IMPUTED", "DEGRADED", "RESTORED", "EVICTED"),
    *("ANOMALY", "BANDS", "HELD"),
)
WARMING, GAP, WAS_RESET, IMPUTED, DEGRADED, RESTORED, EVICTED, ANOMALY, BANDS, HELD = (
    1 << bit for bit in range(len(FLAG_NAMES))
)


def blank_predictions(count: int) -> np.ndarray:
    """(count,) of PREDICTION that say nothing yet: no score and no residual, all else 0."""
    blank = np.zeros(count, PREDICTION)
    blank["magic"], blank["version"] = b"SP", VERSION
    blank["score"] = blank["residual"] = np.nan
    return blank


class WireError(ValueError):
    """A message that is not what its header says."""


def pack_frame(
    values: np.ndarray,
    seq: int | None = None,
    ts_ns: int | None = None,
    dt_ns: int = 0,
    flags: int = 0,
) -> bytes:
    """The payload of one frame.

    ``values`` is (rows, channels) or (channels,), of a dtype in ``DTYPES``; ``seq`` and ``ts_ns``
    set their own flags when given. Raises WireError for another dtype or 0 or over 65535 rows.
    """
    block = np.ascontiguousarray(np.atleast_2d(values))
    codes = [code for code, dtype in DTYPES.items() if dtype == block.dtype]
    if not codes:
        raise WireError(f"a frame cannot carry {block.dtype} values; use float32, float64, int16 or int32")
    if not 1 <= len(block) <= 0xFFFF:
        raise WireError(f"a frame carries 1 to 65535 rows, not {len(block)}")
    header = np.zeros((), FRAME)
    header["magic"], header["version"], header["dtype"], header["rows"] = b"SR", VERSION, codes[0], len(block)
    header["flags"] = flags | (SEQ if seq is not None else 0) | (TS if ts_ns is not None else 0)
    header["seq"], header["ts_ns"], header["dt_ns"] = seq or 0, ts_ns or 0, dt_ns
    return header.tobytes() + block.tobytes()


def band_names(levels: Sequence[float]) -> list[tuple[str, str]]:
    """What low and high of bands of these levels are called, behind an output's name: "low50", "high50"."""
    return [(f"low{100 * level:.10g}", f"high{100 * level:.10g}") for level in levels]


def unpack_prediction(payload: bytes, bands: int = 0) -> tuple[np.void, np.ndarray, np.ndarray]:
    """A prediction's header (a ``PREDICTION`` record), its values, (horizon, outputs) float32, and its bands.

    These are (2 bands, horizon, outputs): low and high of each, the narrowest first; of a prediction that
    says BANDS ``bands`` must tell how many. Raises WireError when the bytes are not one prediction.
    """
    if len(payload) < PREDICTION.itemsize:
        raise WireError(f"a prediction has at least {PREDICTION.itemsize} bytes, this has {len(payload)}")
    header = np.frombuffer(payload, PREDICTION, 1)[0]
    if header["magic"] != b"SP" or header["version"] != VERSION:
        raise WireError(f"not a version {VERSION} prediction: it begins with {payload[:3]!r}")
    size, horizon = len(payload) - PREDICTION.itemsize, int(header["horizon"])
    parts = 1
    if int(header["flags"]) & BANDS:
        parts += 2 * bands
        if bands == 0:
            raise WireError("it has bands; how many, its reader must be told")
    if size % (4 * max(horizon, 1) * parts) or (horizon == 0 and size):
        among = f" and {bands} bands of each" if parts > 1 else ""
        raise WireError(f"{size} bytes of values do not divide into {horizon} rows of float32{among}")
    values = np.frombuffer(payload, "<f4", offset=PREDICTION.itemsize)
    values = values.reshape(parts, horizon, -1) if horizon else np.zeros((parts, 0, 0), np.float32)
    return header, values[0], values[1:]


def flag_names(flags: int) -> str:
    """The names of a prediction's flags, joined by ``|``; empty for none."""
    return "|".join(name for bit, name in enumerate(FLAG_NAMES) if flags >> bit & 1)

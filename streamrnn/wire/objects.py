"""Predictions as JSON: an object each, on one line of UTF-8."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamrnn.wire.frame import (
    BAND_FIELDS,
    BANDS,
    FLAG_NAMES,
    KIND_NAMES,
    OBJECT_FIELDS,
    PREDICTION,
    TOPIC_BYTES,
    band_names,
)

_quoted = json.JSONEncoder(ensure_ascii=False).encode
_KINDS = {kind: json.dumps(name) for kind, name in KIND_NAMES.items()}
# a message as words of 4 bytes: the header's, those of them that are floats, and behind them the values
_HEADER = PREDICTION.itemsize // 4
_AT: Any = PREDICTION.fields
_SCORES = [_AT[name][1] // 4 for name in ("score", "residual")]
_LONGEST_FIELDS = 6 * TOPIC_BYTES + 300  # each byte of a stream's id can be escaped as one of six
_LONGEST_NUMBER = 27  # of a float64, and a comma
_NO_TIME = np.iinfo(np.int64).min  # numpy's word for none; so is 0, the wire's


@functools.cache
def _flags(flags: int) -> str:
    return json.dumps([name for bit, name in enumerate(FLAG_NAMES) if flags >> bit & 1])


class Objects:
    """Makes JSON of predictions whose outputs have these names.

    A float32 is the shortest decimal that rounds to it, NaN is null; the time is UTC with nine digits of a
    second, null where there is none. An output is a number, or a list where the horizon is over 1. Bands
    follow as two objects, "low" and "high", by output and then by band.
    """

    def __init__(self, names: Sequence[str], offsets: np.ndarray, levels: Sequence[float] = ()):
        """``offsets``, (outputs,) float64, are added to values, which come without them.

        ``levels`` are those of the bands, in rising order.
        """
        self._outputs = len(names)
        self._offsets = offsets if offsets.any() else None
        head = ", ".join(f'"{name}": %s' for name in OBJECT_FIELDS[:-1])
        self._bare = f'{{{head}, "prediction": {{}}}}'
        self._full = f'{{{head}, "prediction": {_members(names)}}}'
        sides = [
            f'"{field}": {_members([f"{name}_{side}" for name in names for side in ends])}'
            for field, ends in zip(BAND_FIELDS, zip(*band_names(levels), strict=True), strict=bool(levels))
        ]
        self._banded = ", ".join([self._full[:-1], *sides]) + "}"
        # of the vectors of a message, those of the bands' lows and then those of their highs
        self._sides = [[1 + 2 * band + side for band in range(len(levels))] for side in range(2)]

    def largest(self, values: int) -> int:
        """Bytes in the longest object of so many values, all rows together."""
        return len(self._banded.encode()) + _LONGEST_FIELDS + (values + 2) * _LONGEST_NUMBER

    def texts(self, topics: Sequence[bytes], payloads: Sequence[bytes]) -> list[bytes]:
        """The objects of messages, each of which must be a prediction, in their order."""
        places: dict[int, list[int]] = {}  # of messages, by their length
        for place, payload in enumerate(payloads):
            places.setdefault(len(payload), []).append(place)  # so that all or none of them have bands
        texts = [b""] * len(payloads)
        for alike in places.values():
            found = self._alike([topics[place] for place in alike], [payloads[place] for place in alike])
            for place, text in zip(alike, found, strict=True):
                texts[place] = text
        return texts

    def _alike(self, topics: Sequence[bytes], payloads: Sequence[bytes]) -> list[bytes]:
        """The same of messages of one length."""
        words = np.frombuffer(b"".join(payloads), "<f4").reshape(len(payloads), -1)
        header = words[:, :_HEADER].view(PREDICTION)[:, 0]
        score, residual, *values = _columns(words[:, [*_SCORES, *range(_HEADER, words.shape[1])]])
        columns = [
            [_quoted(topic.decode()) for topic in topics],
            header["seq"].tolist(),
            _times(header["ts_ns"]),
            header["step"].tolist(),
            [_KINDS[kind] for kind in header["kind"].tolist()],
            [_flags(flags) for flags in header["flags"].tolist()],
            score,
            residual,
            header["gap"].tolist(),
            header["epoch"].tolist(),
        ]
        if values:
            columns += self._values(values, bool(header["flags"][0] & BANDS))
        template = (self._banded if header["flags"][0] & BANDS else self._full) if values else self._bare
        return [(template % fields).encode() for fields in zip(*columns, strict=True)]

    def _values(self, columns: list[list[str]], banded: bool) -> list[list[str]]:
        """What messages say of outputs and, where ``banded``, of their bands, in the template's order."""
        vectors = 1 + 2 * len(self._sides[0]) if banded else 1
        size, outputs = len(columns) // vectors, range(self._outputs)
        parts = [columns[begin : begin + size] for begin in range(0, len(columns), size)]
        wanted = [(0, k) for k in outputs]
        if banded:
            wanted += [(vector, k) for side in self._sides for k in outputs for vector in side]
        return [self._output(k, parts[vector][k :: self._outputs]) for vector, k in wanted]

    def _output(self, output: int, rows: list[list[str]]) -> list[str]:
        """What messages say of an output, of which there is a column for each row of the horizon."""
        if self._offsets is not None:
            offset = float(self._offsets[output])
            rows = [[text if text == "null" else repr(float(text) + offset) for text in row] for row in rows]
        return rows[0] if len(rows) == 1 else [f"[{', '.join(texts)}]" for texts in zip(*rows, strict=True)]


def _members(names: Sequence[str]) -> str:
    """A template of an object with these keys."""
    return "{" + ", ".join(f"{_quoted(name).replace('%', '%%')}: %s" for name in names) + "}"


def _times(ts_ns: np.ndarray) -> list[str]:
    said = ((ts_ns != 0) & (ts_ns != _NO_TIME)).tolist()
    texts = np.datetime_as_string(ts_ns.astype("M8[ns]")).tolist()
    return [f'"{text}Z"' if here else "null" for text, here in zip(texts, said, strict=True)]


def _columns(values: np.ndarray) -> list[list[str]]:
    """The columns of (rows, columns) float32 as decimals of the fewest digits."""
    flat = values.ravel()
    texts = pa.array(flat).cast(pa.string()).to_pylist()
    for place in np.flatnonzero(~np.isfinite(flat)).tolist():
        texts[place] = "null"
    return [texts[column :: values.shape[1]] for column in range(values.shape[1])]

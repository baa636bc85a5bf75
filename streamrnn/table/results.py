"""What came of each row, as a table: one row of results per row of the input."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from streamrnn.stats import LATE_ROW, OWN, PREDICTED, REASONS, REJECTED, SEVERAL
from streamrnn.table.rows import Rows
from streamrnn.wire.frame import band_names, flag_names

if TYPE_CHECKING:
    from streamrnn.engine.engine import Answers

NAMES = pa.dictionary(pa.int32(), pa.string())
PREDICTION = "_pred"  # behind the name of an output
CAUSE = 0.25  # the least share in a score that is told
LEARNED = "LEARNED"  # the flag of a row that the model learned from


class ResultKind(NamedTuple):
    """What there is in results beside what always is."""

    several: bool = False  # answers of several rows: "ahead", behind the step, numbers them from 1
    scored: bool = True  # "cause", the last column: the outputs that have most to do with a score
    offsets: tuple[float, ...] = ()  # of the outputs, where they have any: predictions are float64 then
    bands: tuple[float, ...] = ()  # levels, in rising order: low and high of each, by output


PLAIN = ResultKind()


def result_schema(outputs: Sequence[str], time_type: pa.DataType, kind: ResultKind) -> pa.Schema:
    """stream, seq, time, step, predictions, their bands (all in physical units), score, residual, flags."""
    offsets = kind.offsets or (0.0,) * len(outputs)
    sides = [f"_{name}" for names in band_names(kind.bands) for name in names]
    predictions = [
        pa.field(f"{name}{end}", pa.float64() if offset else pa.float32())
        for ends in ([PREDICTION], sides)
        for name, offset in zip(outputs, offsets, strict=True)
        for end in ends
    ]
    return pa.schema(
        [
            pa.field("stream", NAMES),
            pa.field("seq", pa.uint64()),
            pa.field("time", time_type),
            pa.field("step", pa.uint64()),
            *([pa.field("ahead", pa.uint16())] if kind.several else []),
            *predictions,
            pa.field("score", pa.float32()),
            pa.field("residual", pa.float32()),
            pa.field("flags", NAMES),
            *([pa.field("cause", NAMES)] if kind.scored else []),
        ]
    )


def result_batch(
    rows: Rows,
    streams: Sequence[str],
    answers: "Answers",
    learned: np.ndarray,
    schema: pa.Schema,
    offsets: Sequence[float] = (),
) -> pa.RecordBatch:
    """The results of n rows. NaN is null; a row that was not predicted has its reason under flags.
    ``learned``, (n,) bool, says which rows the model learned from; ``offsets`` are of the kind of results.

    A row without an answer is left out. One with an answer of several rows has as many; score and residual
    are in the first of them.
    """
    row, place = _answered(answers)
    count = len(row)
    values, score, residual = answers.values[row], answers.score[row], answers.residual[row]
    score[place > 0] = residual[place > 0] = np.nan
    if len(answers.several):
        has = answers.answers & SEVERAL != 0
        which = np.cumsum(has) - 1
        values[has[row]] = answers.several[which[row], place][has[row]]
    gone = answers.outcome[row] != PREDICTED
    names = [name.removesuffix(PREDICTION) for name in schema.names if name.endswith(PREDICTION)]
    time = schema.field("time").type
    sides = answers.bands[row]  # (rows, 2 bands, outputs)
    if len(answers.several):
        sides[has[row]] = answers.bands_ahead[which[row], :, place][has[row]]
    values = np.concatenate(
        [values, sides.swapaxes(1, 2).reshape(count, sides.shape[1] * sides.shape[2])], axis=1
    )
    each = np.array(offsets or [0.0] * len(names))
    columns = [
        _with_offset(column, offset) if offset else column
        for column, offset in zip(
            np.ascontiguousarray(values.T), [*each, *np.repeat(each, sides.shape[1])], strict=True
        )
    ]
    ahead = [pa.array((place + 1).astype(np.uint16), mask=gone)] if "ahead" in schema.names else []
    return pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(rows.stream[row], pa.array(streams, pa.string())),
            pa.array(rows.seq[row]),
            pa.nulls(count, time) if rows.time is None else rows.time.take(pa.array(row)),
            pa.array(answers.step[row], mask=gone),
            *ahead,
            *(pa.array(column, from_pandas=True) for column in columns),
            pa.array(score, from_pandas=True),
            pa.array(residual, from_pandas=True),
            _flags(answers, learned, row),
            *([_causes(answers, row, place, names)] if "cause" in schema.names else []),
        ],
        schema=schema,
    )


def _with_offset(values: np.ndarray, offset: float) -> np.ndarray:
    """float64: the decimal numbers that float32 ones stand for, rather than their binary digits, and more."""
    return values.astype(str).astype(np.float64) + offset


def _answered(answers: "Answers") -> tuple[np.ndarray, np.ndarray]:
    """For each row of the table, its row of the input and its place in that row's answer, (m,) int64."""
    several = answers.answers & SEVERAL != 0
    counts = np.where(several, answers.several.shape[1], (answers.answers & OWN).astype(np.int64))
    counts[answers.outcome != PREDICTED] = 1
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]


def cause_of(shares: np.ndarray, names: Sequence[str]) -> str:
    """The outputs whose ``shares``, (outputs,), in a score are CAUSE or more, the largest first."""
    order = np.argsort(-shares, kind="stable")
    return "|".join(names[output] for output in order if shares[output] >= CAUSE)


def _causes(
    answers: "Answers", row: np.ndarray, place: np.ndarray, names: Sequence[str]
) -> pa.DictionaryArray:
    """The cause of each score of SHARED or more, in the first row of an answer."""
    known = {"": 0}
    code = np.zeros(len(answers.score), np.int32)
    for high in np.flatnonzero(answers.shares.any(axis=1)).tolist():
        code[high] = known.setdefault(cause_of(answers.shares[high], names), len(known))
    told = np.where(place == 0, code[row], 0)
    return pa.DictionaryArray.from_arrays(pa.array(told, mask=told == 0), pa.array([*known], pa.string()))


def _flags(answers: "Answers", learned: np.ndarray, row: np.ndarray) -> pa.DictionaryArray:
    """Few combinations occur: each is put into words once."""
    high = answers.outcome.astype(np.int32) << 16 | learned.astype(np.int32) << 24
    coded = pa.array((answers.flags.astype(np.int32) | high)[row]).dictionary_encode()
    words = [
        "|".join(filter(None, (_flag_text(code & 0xFFFF, code >> 16 & 0xFF), LEARNED if code >> 24 else "")))
        for code in coded.dictionary.to_pylist()
    ]
    return pa.DictionaryArray.from_arrays(coded.indices, pa.array(words, pa.string()))


def _flag_text(flags: int, outcome: int) -> str:
    if outcome == PREDICTED:
        return flag_names(flags)
    return "LATE" if outcome == LATE_ROW else f"REJECTED:{REASONS[outcome - REJECTED]}"

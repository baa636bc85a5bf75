"""What came of each row, as a table: one row of results per row of the input."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from streamrnn.stats import REASONS
from streamrnn.table.rows import Rows
from streamrnn.wire.frame import flag_names

if TYPE_CHECKING:
    from streamrnn.engine import Answers

PREDICTED, LATE, REJECTED = 0, 1, 2  # outcomes, the last + index into REASONS
NAMES = pa.dictionary(pa.int32(), pa.string())


def result_schema(outputs: Sequence[str], time_type: pa.DataType) -> pa.Schema:
    """stream, seq, time, step, a prediction per output in physical units, score, residual, flags."""
    predictions = [pa.field(f"{name}_pred", pa.float32()) for name in outputs]
    return pa.schema(
        [
            pa.field("stream", NAMES),
            pa.field("seq", pa.uint64()),
            pa.field("time", time_type),
            pa.field("step", pa.uint64()),
            *predictions,
            pa.field("score", pa.float32()),
            pa.field("residual", pa.float32()),
            pa.field("flags", NAMES),
        ]
    )


def result_batch(rows: Rows, streams: Sequence[str], answers: "Answers", schema: pa.Schema) -> pa.RecordBatch:
    """The results of n rows. NaN is null; a row that was not predicted has its reason under flags."""
    count = len(rows.seq)
    time = schema.field("time").type
    columns = np.ascontiguousarray(answers.values.T)
    return pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(rows.stream, pa.array(streams, pa.string())),
            pa.array(rows.seq),
            pa.nulls(count, time) if rows.time is None else rows.time,
            pa.array(answers.step, mask=answers.outcome != PREDICTED),
            *(pa.array(column, from_pandas=True) for column in columns),
            pa.array(answers.score, from_pandas=True),
            pa.array(answers.residual, from_pandas=True),
            _flags(answers),
        ],
        schema=schema,
    )


def _flags(answers: "Answers") -> pa.DictionaryArray:
    """Few combinations occur: each is put into words once."""
    code = answers.flags.astype(np.int32) | answers.outcome.astype(np.int32) << 16
    coded = pa.array(code).dictionary_encode()
    words = [_flag_text(code & 0xFFFF, code >> 16) for code in coded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(coded.indices, pa.array(words, pa.string()))


def _flag_text(flags: int, outcome: int) -> str:
    if outcome == PREDICTED:
        return flag_names(flags)
    return "LATE" if outcome == LATE else f"REJECTED:{REASONS[outcome - REJECTED]}"

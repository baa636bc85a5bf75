"""Batches of results as CSV, NDJSON or parquet.

In text, a float32 has the fewest digits that read back as the same bits.
"""

import csv
import io
import json
from collections.abc import Callable
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

ROW_GROUP = 1 << 16  # rows
MANY = 256  # batches
GROUP_BYTES = 1 << 26  # that wait for a row group to be full
NEEDS_ESCAPE = r'["\\\x00-\x1f]'


class Format(Protocol):
    """Writes to a file that it does not close."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


class CsvFormat:
    """A header line, then a line per row; null is an empty field."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self.file = file
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(schema.names)
        self.file.write(header.getvalue().encode())

    def write(self, batch: pa.RecordBatch) -> None:
        batch = _decoded(batch)
        try:
            self.file.write(_csv_lines(batch, "none"))
        except pa.ArrowInvalid:  # some text has a comma, a quote or a line break
            self.file.write(_csv_lines(batch, "needed"))

    def close(self) -> None:
        pass


class NdjsonFormat:
    """One JSON object a line, with every column of the schema."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._keys = [f"{json.dumps(name, ensure_ascii=False)}:" for name in schema.names]

    def write(self, batch: pa.RecordBatch) -> None:
        parts: list[pa.Array | pa.Scalar] = []
        for key, column in zip(self._keys, batch.columns, strict=True):
            parts += [pa.scalar(("," if parts else "{") + key), _json_values(column)]
        lines = pc.binary_join_element_wise(
            *parts, "}\n", "", null_handling="replace", null_replacement="null"
        )
        _, offsets, data = lines.buffers()
        self._file.write(memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]])

    def close(self) -> None:
        pass


class ParquetFormat:
    """Row groups of at least ``ROW_GROUP`` rows or ``GROUP_BYTES``, but for the last."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(file, schema)
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= ROW_GROUP or self._bytes >= GROUP_BYTES:
            self._flush()
        elif len(self._batches) >= MANY:  # of a few rows each, which take more room than their values
            self._batches = self._together().combine_chunks().to_batches()

    def close(self) -> None:
        try:
            self._flush()
            self._writer.close()
        finally:
            self._writer.is_open = False  # or its destructor writes on

    def _flush(self) -> None:
        self._writer.write_table(self._together(), row_group_size=max(self._rows, 1))
        self._batches, self._rows, self._bytes = [], 0, 0

    def _together(self) -> pa.Table:
        return pa.Table.from_batches(self._batches, self._schema).unify_dictionaries()


FORMATS: dict[str, Callable[[BinaryIO, pa.Schema], Format]] = {
    "csv": CsvFormat,
    "ndjson": NdjsonFormat,
    "parquet": ParquetFormat,
}


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionaries as their text."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _csv_lines(batch: pa.RecordBatch, quoting: str) -> pa.Buffer:
    lines = pa.BufferOutputStream()
    pa_csv.write_csv(batch, lines, pa_csv.WriteOptions(include_header=False, quoting_style=quoting))
    return lines.getvalue()


def _json_values(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return _json_texts(column.dictionary).take(column.indices)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return pc.cast(column, pa.string())
    texts = pc.cast(column, pa.string())
    return _json_texts(pc.if_else(pc.equal(texts, ""), None, texts))


def _json_texts(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, NEEDS_ESCAPE)).as_py():
        quoted = (
            None if text is None else json.dumps(text, ensure_ascii=False) for text in texts.to_pylist()
        )
        return pa.array(quoted, pa.string())
    return pc.binary_join_element_wise('"', texts, '"', "")

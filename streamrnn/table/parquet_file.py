"""Parquet: batches of rows, read one by one."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streamrnn.errors import UserError
from streamrnn.table.blocks import Block
from streamrnn.table.recorded import SAID

MAGIC = b"PAR1"
BATCH, HEAD = 1 << 16, 1 << 10  # rows


def is_parquet(path: Path) -> bool:
    """Whether a file that can be read twice begins as parquet does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class ParquetFile:
    """The rows of a parquet file. ``names`` are its columns; ``recorded``: `record` wrote it."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._stopping = self.recorded = False
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)  # which would hold all that it read
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be read as parquet: {error}") from error
        self.names: list[str] = self._file.schema_arrow.names
        self.units: dict[str, str] = {}

    @property
    def said(self) -> str:
        """What the file was taken for."""
        return f"parquet, {SAID}" if self.recorded else "parquet"

    def head(self) -> list[pa.Array]:
        """Every column of the first rows; empty if the file has none."""
        for batch in self._file.iter_batches(HEAD):
            return [_plain(column) for column in batch.columns]
        return [_plain(field) for field in self._file.schema_arrow.empty_table().combine_chunks().columns]

    def blocks(self, columns: list[int]) -> Iterator[Block]:
        """The rows in order; runs once. Raises UserError for data that cannot be read."""
        names, first = [self.names[index] for index in columns], 1
        try:
            for batch in self._file.iter_batches(BATCH, columns=list(dict.fromkeys(names))):
                if self._stopping:
                    return
                yield Block([_plain(batch.column(name)) for name in names], [], first, first.__add__)
                first += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.where}: cannot be read after row {first - 1}: {error}") from error

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._stopping = True

    def close(self) -> None:
        self._file.close()


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Text as one type of text, categories as what they stand for."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column

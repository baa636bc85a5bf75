"""Opens a file of rows, whatever it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from streamrnn.table.blocks import Block
from streamrnn.table.cell_values import make_marks
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.layout import find_layout
from streamrnn.table.long import as_wide
from streamrnn.table.parquet_file import ParquetFile, is_parquet
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.wire.frame import TOPIC_BYTES


def open_rows(
    source: str,
    channels: Sequence[str] | None,
    reading: Reading = Reading(),  # noqa: B008
    labels: Sequence[str] = (),
    exclude: Sequence[str] = (),
    period_s: float = 0.0,
) -> RowReader:
    """The rows of a CSV or parquet file; ``-`` is CSV on standard input. Gzip is told by its content.

    ``channels`` are the columns to read, in this order; None reads every column of measurements: of
    numbers, and not seq, time or stream, none of ``exclude``, nor what only counts or runs like a clock.
    What ``reading`` does not tell is found out. Rows are numbered by their times where ``period_s``, the
    time between rows, is not 0 and there are times, else from 0 per stream; the file's stem is the one
    stream without a stream column.

    A cell that is empty or says NaN is missing, not bad. At a row with another bad cell, or of another
    number of fields, ``on_error`` "fail" raises UserError with its line; "skip" leaves it out and counts
    it, but its number is used up (unless its stream is not known), so that the gap can be seen.
    ``labels`` are columns that may hold text, which is then read as numbers, those of the texts in
    ``RowReader.labels``.

    Raises UserError for a file that cannot be read, or lacks a column.
    """
    path = Path(source)
    regular = source != "-" and path.is_file()
    marks = make_marks(reading.missing, reading.words)

    def open_file() -> CsvFile | ParquetFile:
        return ParquetFile(path) if source != "-" and is_parquet(path) else CsvFile(source, reading)

    def again(columns: list[int]) -> Iterator[Block]:
        other = open_file()
        try:
            yield from other.blocks(columns)
        finally:
            other.close()

    file = open_file()
    try:
        wide = as_wide(file, reading, again if regular else None)
        if wide is not None:
            reading = wide.reading
        known = again if regular and wide is None else None
        layout = find_layout(wide or file, channels, reading, marks, known, labels, exclude)
        stream = None if layout.stream is not None else _stem(source)
        numbers = None
        if period_s > 0 and layout.time is not None and layout.seq is None and not reading.count_rows:
            from streamrnn.table.numbering import TimeNumbers

            numbers = TimeNumbers(period_s * 1e9)
        return RowReader(wide or file, layout, stream, reading, marks, numbers, channels is None)
    except BaseException:
        file.close()
        raise


def _stem(source: str) -> str:
    """The name of a file without its suffixes, as a stream id."""
    if source == "-":
        return "stdin"
    path = Path(source)
    stem = path.with_suffix("").stem if path.suffix == ".gz" else path.stem
    return stem.encode(errors="replace")[:TOPIC_BYTES].decode(errors="ignore")

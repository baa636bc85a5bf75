"""Opens a file of rows, whatever it is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from streamrnn.errors import UserError
from streamrnn.recordings.formats import RecordingFormat, format_of
from streamrnn.table.blocks import Again, Block
from streamrnn.table.cell_values import is_text, make_marks
from streamrnn.table.columns import find_any, find_columns
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.layout import File, find_layout
from streamrnn.table.long import LongFile
from streamrnn.table.parquet_file import ParquetFile, is_parquet
from streamrnn.table.raster import RasterFile, ValueSource
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.table.readings import reading_columns
from streamrnn.table.recorded import SEQ, STREAM, TIME, VALUES, may_be_long, may_be_wide
from streamrnn.table.recording_file import RecordingFile
from streamrnn.table.roles import is_label
from streamrnn.table.value_sources import ValuesOfReadings, ValuesOfRecording, ValuesOfRows, plain
from streamrnn.wire.frame import TOPIC_BYTES


def open_rows(
    source: str,
    channels: Sequence[str] | None,
    reading: Reading = Reading(),  # noqa: B008
    labels: Sequence[str] = (),
    exclude: Sequence[str] = (),
    period_s: float = 0.0,
) -> RowReader:
    """The rows of a CSV or parquet file or a recording; ``-`` is CSV on standard input. Its content tells.

    ``channels`` are the columns to read, in this order; None reads every column of measurements: of
    numbers, and not seq, time or stream, none of ``exclude``, nor what only counts or runs like a clock.
    What ``reading`` does not tell is found out. Rows are numbered by their times where ``period_s``, the
    time between rows, is not 0 and there are times, else from 0 per stream; the file's stem is the one
    stream without a stream column.

    A cell that is empty or says NaN is missing, not bad. At a row with another bad cell, or of another
    number of fields, ``on_error`` "fail" raises UserError with its line; "skip" leaves it out and counts
    it, but its number is used up (unless its stream is not known), so that the gap can be seen.
    ``labels`` are columns that may hold text, which is then read as numbers, those of the texts in
    ``RowReader.labels``. With ``reading.raster`` the values of the file are made rows of, at even times.

    Raises UserError for a file that cannot be read, or lacks a column.
    """
    path = Path(source)
    regular = source != "-" and path.is_file()

    def open_file() -> CsvFile | ParquetFile:
        return ParquetFile(path) if source != "-" and is_parquet(path) else CsvFile(source, reading)

    def again(columns: list[int]) -> Iterator[Block]:
        other = open_file()
        try:
            yield from other.blocks(columns)
        finally:
            other.close()

    row = format_of(path) if source != "-" else None
    if row is not None:
        return _recording_rows(path, row, channels, reading, labels, exclude, period_s)
    file = open_file()
    try:
        file.recorded = _is_recorded(file, reading)
        if file.recorded:
            reading = _as_recorded(file.names, reading)
            exclude = [*exclude, *(name for name in file.names[2:3] if name == SEQ)]
        table, reading, exclude = _as_rows(
            file, channels, reading, labels, exclude, again if regular else None, open_file, period_s
        )
        known = again if regular and table is file else None
        return _reader(table, source, channels, reading, known, labels, exclude, period_s)
    except BaseException:
        file.close()
        raise


def _reader(
    table: File,
    source: str,
    channels: Sequence[str] | None,
    reading: Reading,
    again: Again | None,
    labels: Sequence[str],
    exclude: Sequence[str],
    period_s: float,
) -> RowReader:
    marks = make_marks(reading.missing, reading.words)
    layout = find_layout(table, channels, reading, marks, again, labels, exclude)
    stream = None if layout.stream is not None else _stem(source)
    numbers = None
    if period_s > 0 and layout.time is not None and layout.seq is None and not reading.count_rows:
        from streamrnn.table.numbering import TimeNumbers

        numbers = TimeNumbers(period_s * 1e9)
    return RowReader(table, layout, stream, reading, marks, numbers, channels is None)


def _recording_rows(
    path: Path,
    row: RecordingFormat,
    channels: Sequence[str] | None,
    reading: Reading,
    labels: Sequence[str],
    exclude: Sequence[str],
    period_s: float,
) -> RowReader:
    """The rows of a recording of a known format."""
    for option, told in (("channel", reading.channel), ("value", reading.value)):
        if told is not None:
            raise UserError(f"{path}: --{option}-column is of tables, and this is {row.name}")
    gone = [name for name in exclude if not find_any([name], labels)]
    file = RecordingFile(path, row, reading, channels, gone, period_s)
    try:
        if reading.raster is None:
            return _reader(file, str(path), channels, file.reading, file.blocks, labels, (), period_s)
        table = RasterFile(ValuesOfRecording(file), reading.raster, reading, True)
        return _reader(table, str(path), channels, table.reading, None, labels, (), period_s)
    except BaseException:
        file.close()
        raise


def _is_recorded(file: CsvFile | ParquetFile, reading: Reading) -> bool:
    """Whether `record` wrote a file: its columns say so, and its times, or text where others have numbers."""
    names = file.names
    if not (may_be_long(names) or may_be_wide(names)) or reading.stream not in (None, STREAM):
        return False
    if file.recorded:
        return True
    head, texts = file.head(), [STREAM, *(VALUES[:1] if may_be_long(names) else ())]
    columns = [head[names.index(name)] for name in texts]
    return all(map(is_text if isinstance(file, ParquetFile) else is_label, columns))


def _as_recorded(names: list[str], reading: Reading) -> Reading:
    """How a file is read that `record` wrote: what is what there is known without being told."""
    numbered = names[2:3] == [SEQ] and reading.seq is None and not reading.count_rows
    seq = SEQ if numbered else reading.seq
    return replace(reading, stream=STREAM, time=reading.time or (TIME,), seq=seq)


def _as_rows(
    file: CsvFile | ParquetFile,
    channels: Sequence[str] | None,
    reading: Reading,
    labels: Sequence[str],
    exclude: Sequence[str],
    again: Again | None,
    reopen: Callable[[], CsvFile | ParquetFile],
    period_s: float,
) -> tuple[File, Reading, Sequence[str]]:
    """The table of rows that is behind a file, how that is read, and which of its columns to exclude."""
    columns, raster = reading_columns(file, reading), reading.raster
    if raster is None:
        if columns is None:
            return file, reading, exclude
        wide = LongFile(file, columns, reading, again, f"{period_s:g}s" if period_s else "1s", channels)
        return wide, wide.reading, exclude
    source: ValueSource
    if columns is not None:
        anew = None if again is None else reopen
        source = ValuesOfReadings(file, columns, reading, channels, exclude, labels, again, anew)
    else:
        as_it_is = plain(reading)
        marks = make_marks(as_it_is.missing, as_it_is.words)
        kept = {file.names[place] for place in find_any(labels, file.names)}  # targets, beside the channels
        gone = [file.names[place] for place in find_columns(exclude, file.names, file.where)]
        gone = [name for name in gone if name not in kept]
        layout = find_layout(file, channels, as_it_is, marks, again, (), gone)
        rows = RowReader(file, layout, "rows", as_it_is, marks, None, channels is None, exact=True)
        source = ValuesOfRows(rows, reading.stream)
    on_raster = RasterFile(source, raster, reading, again is not None)
    return on_raster, on_raster.reading, ()


def _stem(source: str) -> str:
    """The name of a file without its suffixes, as a stream id."""
    if source == "-":
        return "stdin"
    path = Path(source)
    stem = path.with_suffix("").stem if path.suffix == ".gz" else path.stem
    return stem.encode(errors="replace")[:TOPIC_BYTES].decode(errors="ignore")

"""CSV: whole records cut out of a stream of bytes, and their fields as columns of text.

Fields stay text here: they are turned into numbers where a bad one can be told from a good one. A
quoted field may hold delimiters, doubled quotes and line breaks.
"""

import csv
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from streamrnn.errors import UserError
from streamrnn.table.blocks import Block, Malformed
from streamrnn.table.source import ByteSource

CHUNK = 4 << 20  # bytes parsed at once
HEAD = 1 << 16  # bytes looked at before the columns are chosen
LONGEST = 64 << 20  # bytes of one record
LINE_END, QUOTE = b"\n"[0], b'"'[0]
DELIMITERS = ",;\t|"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CsvFile:
    """The records of a CSV file (or gzip of one, or standard input as ``-``). ``names`` is its header."""

    unit = "line"

    def __init__(self, source: str, delimiter: str | None) -> None:
        self._bytes = ByteSource(source)
        self.where = self._bytes.name
        self._chunks = self._whole_records()
        self._line = 1  # of the next record
        try:
            header, self._first = self._take_header()
            self._delimiter = delimiter or sniff_delimiter(header)
            self.names = self._read_names(header)
        except BaseException:
            self.close()
            raise

    def head(self) -> list[pa.Array]:
        """Every column of the first records; empty if the file has none."""
        end = _last_record_end(self._first[:HEAD]) or len(self._first)
        return self._parse(self._first[:end], list(range(len(self.names))), self._line).columns

    def blocks(self, columns: list[int]) -> Iterator[Block]:
        """The records in order; runs once. Raises UserError for bytes that are no CSV."""
        chunk: bytes | None = self._first
        self._first = b""
        while chunk is not None:
            block = self._parse(chunk, columns, self._line)
            self._check_quotes(chunk, len(block.columns[0]) + len(block.malformed))
            self._line += _count(chunk, LINE_END)
            if len(block.columns[0]) or block.malformed:
                yield block
            chunk = next(self._chunks, None)

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._bytes.stop()

    def close(self) -> None:
        self._bytes.close()

    def _take_header(self) -> tuple[str, bytes]:
        """The first line, and the first records after it."""
        first = next(self._chunks, b"").removeprefix(b"\xef\xbb\xbf")
        while not first.strip():  # blank lines before the header
            self._line += first.count(b"\n")
            if (more := next(self._chunks, None)) is None:
                raise UserError(f"{self.where}: is empty; its first line must name the columns")
            first = more
        if first.startswith(UTF16) or b"\0" in first[:HEAD]:
            raise UserError(f"{self.where}: is not text in UTF-8; save it as CSV in UTF-8")
        if first.startswith(b"PAR1"):
            raise UserError(
                f"{self.where}: is parquet, which cannot be read from a pipe; give the file's name"
            )
        body = first.lstrip(b"\r\n")
        self._line += first[: len(first) - len(body)].count(b"\n") + 1
        line = _first_line(body)
        rest = body[len(line) :]
        rest = rest[2:] if rest.startswith(b"\r\n") else rest[1:]
        if not rest.strip():
            self._line += rest.count(b"\n")
            rest = next(self._chunks, b"")
        try:
            return line.decode(), rest
        except UnicodeDecodeError:
            return line.decode("cp1252", "replace"), rest  # where older programs put a degree sign

    def _read_names(self, header: str) -> list[str]:
        if len(self._delimiter.encode()) != 1 or self._delimiter in '"\r\n':
            raise UserError(
                f"{self._delimiter!r} cannot be a delimiter; use one ASCII character, not a quote"
            )
        try:
            names = next(csv.reader([header], delimiter=self._delimiter))
        except csv.Error as error:
            raise UserError(f"{self.where}: its first line does not name columns: {error}") from error
        if all(_is_number(name) for name in names):
            raise UserError(
                f"{self.where}: its first line holds numbers ({header[:60]}); it must name the columns"
            )
        return names

    def _whole_records(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        size, goal = 0, CHUNK
        for piece in self._bytes.pieces():
            parts.append(piece)
            size += len(piece)
            if not size or (piece and size < goal):
                continue
            data = b"".join(parts)
            end = _last_record_end(data)
            if end:
                yield data[:end]
            elif size > LONGEST:
                raise UserError(
                    f"{self.where}: line {self._line} is longer than {LONGEST >> 20} MB; is it a CSV file?"
                )
            parts = [data[end:]]
            size = len(data) - end
            goal = max(CHUNK, 2 * size)  # a long record is not joined again at every piece
        if size:
            yield b"".join(parts)

    def _parse(self, chunk: bytes, columns: list[int], line: int) -> Block:
        malformed: list[Malformed] = []

        def leave_out(row: pa_csv.InvalidRow) -> str:
            what = f"has {row.actual_columns} fields, expected {row.expected_columns}"
            malformed.append(Malformed(row.number - 1, what))
            return "skip"

        locate = partial(_line_of, chunk, line)
        if not chunk or chunk.isspace():
            return Block([pa.array([], pa.string()) for _ in columns], [], line, locate)
        names = [str(index) for index in range(len(self.names))]
        wanted = [names[index] for index in columns]
        reading = pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(chunk) + 1)
        parsing = pa_csv.ParseOptions(
            delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=leave_out
        )
        converting = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, check_utf8=False
        )
        try:
            table = pa_csv.read_csv(pa.BufferReader(chunk), reading, parsing, converting)
        except pa.ArrowInvalid as error:
            raise UserError(f"{self.where}: cannot be read as CSV after line {line - 1}: {error}") from error
        return Block([_joined(table[name]) for name in wanted], malformed, line, locate)

    def _check_quotes(self, chunk: bytes, records: int) -> None:
        """An open quote swallows every record after it: say so rather than lose them."""
        if _count(chunk, QUOTE) % 2 and records < sum(map(bool, chunk.splitlines())):
            line = _line_of(chunk, self._line, records - 1)
            raise UserError(
                f"{self.where}: line {line}: a quoted field is not closed; close it, or double the quote"
            )


def _count(data: bytes, byte: int) -> int:
    return int(
        np.count_nonzero(np.frombuffer(data, np.uint8) == byte)
    )  # faster than bytes.count, without the GIL


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def sniff_delimiter(header: str) -> str:
    """The one of ``, ; tab |`` that a header has most of outside quotes; a comma where it has none."""
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(body: bytes) -> bytes:
    ends = [end for mark in (b"\n", b"\r") if (end := body.find(mark)) >= 0]
    return body[: min(ends)] if ends else body


def _last_record_end(data: bytes) -> int:
    """Where the last whole record ends; 0 if none does.

    A line break behind an odd number of quotes is inside a field. If no line break is outside, a
    quote stands inside an unquoted field (5" pipe) and line breaks count after all.
    """
    last_line_end = end = data.rfind(b"\n") + 1
    inside = _count(data[:end], QUOTE) % 2
    while inside and end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        inside ^= data.count(b'"', start, end) % 2
        end = start
    return end or last_line_end


def _line_of(chunk: bytes, first: int, record: int) -> int:
    """The line on which a record begins: blank lines are no records, a quoted field may span lines."""
    inside = 0
    for number, line in enumerate(chunk.splitlines(), first):
        if line and not inside:
            if record == 0:
                return number
            record -= 1
        inside ^= line.count(b'"') % 2
    return first

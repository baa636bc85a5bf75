"""CSV: whole records cut out of a stream of bytes, and their fields as columns of text.

Fields stay text here: they are turned into numbers where a bad one can be told from a good one. A
quoted field may hold delimiters, doubled quotes and line breaks.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from streamrnn.errors import UserError
from streamrnn.recordings.formats import looks_like
from streamrnn.table.blocks import Block, Malformed
from streamrnn.table.encoding import Utf8
from streamrnn.table.lines import SPACE
from streamrnn.table.progress import counted
from streamrnn.table.reading import Reading
from streamrnn.table.recorded import SAID, as_written
from streamrnn.table.sniff import Dialect, sniff
from streamrnn.table.source import ByteSource

CHUNK = 4 << 20  # bytes parsed at once
HEAD, MOST_HEAD = 1 << 16, 1 << 22  # bytes looked at before the columns are chosen, as a rule and at most
PATIENCE = 5  # pauses of a pipe before what came so far is all that is looked at
LONGEST = 64 << 20  # bytes of one record
LINE_END, QUOTE = b"\n"[0], b'"'[0]
_LINE_ENDS = re.compile(rb"\r\n|\n|\r")
_COMMENT = re.compile(rb"(?m)^[ \t]*#[^\r\n]*")
_SPACES, _EDGES = re.compile(rb"[ \t]+"), re.compile(rb"(?m)^ | (?=\r?$)")
_SAID = {",": "comma", ";": "semicolon", "\t": "tab", SPACE: "space"}
# how files begin that people try, and that are no rows of text
_OTHERS = (
    (b"PK\x03\x04", "a spreadsheet or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of an older kind"),
    (b"%PDF", "a PDF"),
)
_JSON = re.compile(rb'\s*(\{".*\n\{"|\[\s*[\[{])')


class CsvFile:
    """The records of a CSV file (or gzip of one, or standard input as ``-``), as ``reading`` says or they
    show.

    ``names`` are its columns, ``units`` what a line below them says of some; ``recorded`` tells that `record`
    wrote it.
    """

    unit = "line"

    def __init__(self, source: str, reading: Reading) -> None:
        mark = reading.delimiter
        if mark is not None and (len(mark.encode()) != 1 or mark in '"\r\n'):
            raise UserError(f"{source}: {mark!r} cannot be a delimiter; use one ASCII character, not a quote")
        self._named = reading.names is not None
        self._bytes = ByteSource(source)
        self.where = self._bytes.name
        self._looking, self.recorded = True, False
        self._line = 1  # of the next record
        try:
            self._text = Utf8(reading.encoding, self.where)
            self._chunks = self._whole_records()
            self._head = list[bytes]()  # chunks that were read to look at them
            self.dialect = self._take_head(reading)
            self.names, self.units = self.dialect.names, self.dialect.units
            self._mark = self.dialect.delimiter
        except BaseException:
            self.close()
            raise

    @property
    def said(self) -> str:
        """What the file was taken for."""
        at, dialect = self.dialect.named, self.dialect
        said = [f"{dialect.form or 'text'} in {self._text.name.upper()}"]
        if len(self.names) > 1:
            said.append(f"{_SAID.get(self._mark, self._mark)} between columns")
        if dialect.commas:
            said.append("decimal commas")
        said.append(
            f"names on line {at}"
            if at and not self._named
            else "names as told"
            if self._named
            else "no names"
        )
        if self.units:
            said.append("units below them")
        if self.recorded:
            said.append(SAID)
        return ", ".join(said)

    def head(self) -> list[pa.Array]:
        """Every column of the first records; empty if the file has none."""
        first = b"".join(self._head)
        end = _last_record_end(first[:HEAD]) or len(first)
        every = list(range(len(self.names)))
        return self._parse(self._without_others(first[:end]), every, self._line).columns

    def blocks(self, columns: list[int]) -> Iterator[Block]:
        """The records in order; runs once. Raises UserError for bytes that are no CSV."""
        while (chunk := self._head.pop(0) if self._head else next(self._chunks, None)) is not None:
            chunk = self._without_others(chunk)
            block = self._parse(chunk, columns, self._line)
            self._check_quotes(chunk, len(block.columns[0]) + len(block.malformed))
            self._line += _count(chunk, LINE_END)
            if len(block.columns[0]) or block.malformed:
                yield block

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._bytes.stop()

    def close(self) -> None:
        self._bytes.close()

    def _take_head(self, reading: Reading) -> Dialect:
        """Reads until it can be told what the file is, and leaves the chunks from its first row on."""
        size, look, pauses = 0, HEAD, 0
        for chunk in self._chunks:
            if chunk:
                self._head.append(chunk)
            size, pauses = size + len(chunk), 0 if chunk else pauses + 1
            if len(self._head) == 1 and chunk:
                self._check_text(chunk)
            while size >= look:
                if (dialect := self._sniff(reading, look, False)) is not None or look >= MOST_HEAD:
                    return self._drop(dialect or self._sniffed(reading, look))
                look *= 4  # a line of names may be longer than that
            if (
                pauses == PATIENCE
                and self._head
                and (dialect := self._sniff(reading, look, False)) is not None
            ):
                return self._drop(dialect)
        return self._drop(self._sniffed(reading, look))

    def _sniffed(self, reading: Reading, look: int) -> Dialect:
        """What can be told from all there is."""
        found = self._sniff(reading, look, True)
        assert found is not None
        return found

    def _sniff(self, reading: Reading, look: int, whole: bool) -> Dialect | None:
        first = b"".join(self._head)
        end = _last_record_end(first[:look]) or len(first)
        text = first[:end].decode(errors="replace").removeprefix("\ufeff")
        known = as_written(text, reading)
        if known is None and not whole:
            return None
        reading, self.recorded = known or (reading, False)
        found = sniff(text, whole, reading, self.where)
        self._looking = found is None
        if found is not None:
            self._header = self._line_at(found.named) if found.named else b""
        return found

    def _line_at(self, line: int) -> bytes:
        return _LINE_ENDS.split(b"".join(self._head), line)[line - 1].removeprefix(b"\xef\xbb\xbf")

    def _check_text(self, first: bytes) -> None:
        if first.startswith(b"PAR1"):
            raise UserError(
                f"{self.where}: is parquet, which cannot be read from a pipe; give the file's name"
            )
        for begin, what in _OTHERS:
            if first.startswith(begin):
                raise UserError(f"{self.where}: is {what}; write its rows as CSV or parquet")
        if _JSON.match(first):
            raise UserError(f"{self.where}: is JSON; write its rows as CSV or parquet")
        if b"\0" in first[:HEAD]:
            raise UserError(
                f"{self.where}: is not text; if it is, name its encoding with --encoding, such as utf-16"
            )

    def _checked(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same. Raises UserError for a recording, whose bytes would be taken for text."""
        for place, piece in enumerate(pieces):
            if not place and (row := looks_like(piece)) is not None:
                raise UserError(
                    f"{self.where}: is {row.name}, which cannot be read from a pipe or gzip; give the file's "
                    "name"
                )
            yield piece

    def _drop(self, dialect: Dialect) -> Dialect:
        """Leaves out the lines before the first row."""
        left = dialect.first - 1
        while left and self._head:
            ends = [match.end() for match in islice(_LINE_ENDS.finditer(self._head[0]), left)]
            left -= len(ends)
            self._head[0] = self._head[0][ends[-1] :] if ends else b""
            if not self._head[0] or left:
                del self._head[0]
        self._line = dialect.first
        # what only the names have is looked for at a tenth of the cost
        rows = b"".join(self._head[:1])[:HEAD]
        rare = (self._header[at : at + 1] for at in range(len(self._header)))
        self._telltale = next((byte for byte in rare if byte not in rows), self._header[:1])
        return dialect

    def _whole_records(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        size, goal = 0, CHUNK
        for piece in self._text.pieces(self._checked(self._bytes.pieces())):
            parts.append(piece)
            size += len(piece)
            if not piece and self._looking:
                yield b""  # a pause; what a file is, is told from more than a row
            if not size or (piece and size < goal):
                continue
            data = b"".join(parts)
            end = _last_record_end(data)
            if end:
                yield self._text.records(data[:end])
            elif size > LONGEST:
                raise UserError(f"{self.where}: has a line longer than {LONGEST >> 20} MB; is it a CSV file?")
            parts = [data[end:]]
            size = len(data) - end
            goal = max(CHUNK, 2 * size)  # a long record is not joined again at every piece
        if size:
            yield self._text.records(b"".join(parts))

    def _without_others(self, chunk: bytes) -> bytes:
        """A chunk in which comments, and the names where they come again, are blank lines."""
        if self.dialect.comments and b"#" in chunk:
            chunk = _COMMENT.sub(b"", chunk)
        if self._header and self._telltale in chunk and self._header in chunk:
            line = re.escape(self._header)
            chunk = re.sub(rb"(?m)^" + line + rb"(?=\r?$)", b"", chunk)
        if self.dialect.padded:
            mark = re.escape(self._mark.encode())
            chunk = re.sub(b"(" + mark + b') +(?=")', rb"\1", chunk)
        if self._mark == SPACE:
            chunk = _EDGES.sub(b"", _SPACES.sub(b" ", chunk))
        return chunk

    def _parse(self, chunk: bytes, columns: list[int], line: int) -> Block:
        malformed: list[Malformed] = []

        def leave_out(row: pa_csv.InvalidRow) -> str:
            what = f"has {counted(row.actual_columns, 'field')}, expected {row.expected_columns}"
            malformed.append(Malformed(row.number - 1, what))
            return "skip"

        locate = partial(_line_of, chunk, line)
        if not chunk or chunk.isspace():
            return Block([pa.array([], pa.string()) for _ in columns], [], line, locate)
        names = [str(index) for index in range(len(self.names))]
        wanted = [names[index] for index in columns]
        reading = pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(chunk) + 1)
        parsing = pa_csv.ParseOptions(
            delimiter=self._mark, newlines_in_values=True, invalid_row_handler=leave_out
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

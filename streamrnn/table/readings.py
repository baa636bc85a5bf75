"""The values of tables that have one a row, as databases of readings export them, block by block."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.errors import UserError
from streamrnn.table.blocks import Again, Block
from streamrnn.table.cell_values import Marks, blanked, is_text, make_marks, quoted, to_float64
from streamrnn.table.columns import find_columns, listed, shortened
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.ids import StreamIds
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.reading import Reading
from streamrnn.table.recorded import VALUES, may_be_long
from streamrnn.table.time_column import choose_time, look_at
from streamrnn.table.time_parts import join_times
from streamrnn.table.times import to_ns
from streamrnn.table.turns import find_turns, turns_text

# columns of exports that are known: of the channel, of its value; words there that mean missing
KNOWN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("_field", "_value", ()),
    ("entity_id", "state", ("unavailable", "unknown")),
    ("Series", "Value", ()),
)


class Readings(NamedTuple):
    """n values in the order of the file."""

    stream: np.ndarray  # (n,) int32
    channel: np.ndarray  # (n,) int32
    value: np.ndarray  # (n,) float64
    ns: np.ndarray  # (n,) int64


class ReadingColumns(NamedTuple):
    """Which columns of a file have what."""

    channel: str
    value: str
    stream: str | None
    words: tuple[str, ...] = ()  # of values: that mean missing

    @property
    def recorded(self) -> bool:
        """Whether they are those of a file that `record` wrote."""
        return (self.channel, self.value) == VALUES


def reading_columns(file: CsvFile | ParquetFile, reading: Reading) -> ReadingColumns | None:
    """Those of a file that has a value a row; None if it has not. Raises UserError for half of them told."""
    if reading.channel is None and reading.value is None:
        if file.recorded:
            return ReadingColumns(*VALUES, reading.stream) if may_be_long(file.names) else None
        for channel, value, words in KNOWN:
            if {channel, value} <= {*file.names}:
                return ReadingColumns(channel, value, reading.stream, words)
        return None
    if reading.channel is None or reading.value is None:
        raise UserError(
            f"{file.where}: --channel-column and --value-column go together: one names the channel of each "
            "row, the other its value"
        )
    return ReadingColumns(reading.channel, reading.value, reading.stream)


class ReadingsOf:
    """The values of one file, iterated once; ``channels`` and ``streams`` grow with it.

    ``bad`` has of a channel the first value that is no number; ``skipped`` counts rows without a time.
    """

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        columns: ReadingColumns,
        reading: Reading,
        again: Again | None,
        codes: bool = True,
    ) -> None:
        """``codes`` says whether numbers that mean missing are missing here, or left to who reads further."""
        self.file, self.where = file, file.where
        self.said = (
            f'{file.said}; a value a row: channels of "{columns.channel}", values of "{columns.value}"'
        )
        self.channels, self.streams = StreamIds(), StreamIds()
        self.bad: dict[int, str] = {}
        self.skipped = 0
        self._skips = reading.on_error == "skip"
        self._named = _plain if columns.recorded else _texts  # NA is a name there like any other
        self._marks, self._words = _marks(reading, columns.words, codes), bool(reading.words)
        wanted = [columns.channel, columns.value, *([] if columns.stream is None else [columns.stream])]
        self._places, head = find_columns(wanted, file.names, file.where), file.head()
        free = {*range(len(head))} - {*self._places}
        time = choose_time(look_at(file.names, file.units, head, free), free, reading, file.where, again)
        if not any(len(cells) for cells in head):
            raise UserError(f"{file.where}: no row follows the names of the columns")
        if time is None:
            raise UserError(f"{file.where}: no column of times was found; name it with --time-column")
        if time.undated:
            raise UserError(
                f"{file.where}: the times of its readings have no date; name the columns of both with "
                "--time-column DATE,TIME"
            )
        self._time = time
        self._comma = reading.decimal == "comma" or (
            isinstance(file, CsvFile) and self._places[1] in file.dialect.commas
        )
        taken = {*self._places, *time.places}
        self.notes = _turns(file.names, head, self._places[0], taken) if len(self._places) < 3 else []

    def __iter__(self) -> Iterator[Readings]:
        """Raises UserError for a row without a time, unless such rows are to be skipped."""
        places, time = self._places, self._time
        columns = list(dict.fromkeys([*places, *time.places]))
        for block in self.file.blocks(columns):
            cells = dict(zip(columns, block.columns, strict=True))
            texts = join_times([cells[place] for place in time.places], time)
            named = self.channels.find(self._named(cells[places[0]]))
            of = np.zeros(len(named), np.int32)
            if len(places) > 2:
                of = self.streams.find(self._named(cells[places[2]]))
            ns, no_time = to_ns(texts, time.form)
            values, no_number = to_float64(cells[places[1]], self._marks, self._comma, state=self._words)
            keep = blanked(texts).is_valid().to_numpy(zero_copy_only=False) & (named >= 0) & (of >= 0)
            self._check(block, no_time, texts)
            self._note_texts(block, named, no_number, cells[places[1]])
            for bad in (no_time, no_number):
                keep &= True if bad is None else ~bad
            yield Readings(of[keep], named[keep], values[keep], ns[keep])

    def settle(self, known: set[int]) -> None:
        """Says which channels have no number at all; ``known`` have. Raises UserError for those of both."""
        if not self._skips and (mixed := sorted(known & {*self.bad})):
            raise UserError(
                f"{self.bad[mixed[0]]}; if it means a missing value give --missing and that word, or leave "
                "such rows out with --on-error skip"
            )
        gone = [f'"{shortened(self.channels.names[index])}"' for index in sorted({*self.bad} - known)]
        if gone:
            self.notes.append(
                f"left out, as their values are words: {listed(gone)}; --words says what these stand for"
            )

    def _check(self, block: Block, no_time: np.ndarray | None, cells: pa.Array) -> None:
        """Counts the rows of a block that cannot be read, or raises UserError for the first."""
        found = [(malformed.record, malformed.what) for malformed in block.malformed]
        if no_time is not None:
            row = int(no_time.argmax())
            found.append((row, f"{quoted(cells[row])} is not a time"))
        if self._skips:
            self.skipped += len(block.malformed) + (0 if no_time is None else int(no_time.sum()))
        elif found:
            record, what = min(found)
            raise UserError(
                f"{self.where}: {self.file.unit} {block.locate(record)}: {what}; leave such rows out with "
                "--on-error skip"
            )

    def _note_texts(self, block: Block, channel: np.ndarray, bad: np.ndarray | None, cells: pa.Array) -> None:
        """Notes, of each channel, the first value that is no number."""
        for row in [] if bad is None else np.flatnonzero(bad).tolist():
            if int(channel[row]) not in self.bad:
                where = f"{self.where}: {self.file.unit} {block.locate(row)}"
                self.bad[int(channel[row])] = f"{where}: {quoted(cells[row])} is not a number"


def _marks(reading: Reading, words: tuple[str, ...], codes: bool) -> Marks:
    """What cells may say beside numbers; only words that were told stand for some."""
    told = {word.casefold(): value for word, value in reading.words.items()}
    missing = (*(word for word in reading.missing if codes or not is_number(word)), *words)
    return make_marks(missing)._replace(states=told)


def is_number(word: str) -> bool:
    """Whether a word for a missing value is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _turns(names: list[str], head: list[pa.Array], channel: int, taken: set[int]) -> list[str]:
    """What to say where another column names machines: it takes turns in the readings of one channel, too."""
    texts = _texts(head[channel])
    if not len(texts):
        return []
    one = [column.filter(pc.equal(texts, texts[0]).fill_null(False)) for column in head]
    found = find_turns(names, one, [place for place in range(len(names)) if place not in taken], (), None)
    return [] if found is None else [turns_text(names[found[0]], head[found[0]], 0)]


def _plain(column: pa.Array) -> pa.Array:
    return column if is_text(column) else column.cast(pa.string())


def _texts(column: pa.Array) -> pa.Array:
    return blanked(_plain(column))

"""A recording as a table of rows: its time, its stream if there are several, its channels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.recordings.apart import RecordingApart
from streamrnn.recordings.formats import RecordingFormat
from streamrnn.recordings.recording import Told
from streamrnn.recordings.time_names import NS
from streamrnn.table.blocks import Block
from streamrnn.table.cell_values import missing_codes
from streamrnn.table.chosen_groups import ALIKE, LOOKED_AT, ChosenGroup, GroupRate, choose, rate_of
from streamrnn.table.in_time import GroupAhead, Span, moments
from streamrnn.table.joined import Joined, JoinedRows
from streamrnn.table.progress import counted
from streamrnn.table.reading import NO_TIME, Reading

HEAD = 1 << 10  # rows looked at first
TIME, TIME_NS, STREAM = "time", "time_ns", "group"  # names of columns, where no channel has them
FEW = "too few samples to tell a rate"


class RecordingFile:
    """The rows of a recording.

    ``reading`` is how they are read further. One rate in all: its samples as they are. Several: see
    ``joined``; rows at ``period_s`` if that is the rate of a group, else at the fastest rate of what is asked
    for.
    """

    unit = "row"
    recorded = False

    def __init__(
        self,
        path: Path,
        row: RecordingFormat,
        reading: Reading,
        wanted: Sequence[str] | None,
        exclude: Sequence[str] = (),
        period_s: float = 0.0,
    ) -> None:
        """Channels ``wanted``; None = all but those to ``exclude``. UserError for what it cannot read."""
        self.where, self._stopping, self._cuts = str(path), False, list[str]()
        self._recording = RecordingApart(path, row, told_of(reading, self.where))
        try:
            contents = self._recording.contents
            self._start = contents.start_ns
            self._chosen = choose(contents, wanted, exclude, reading.stream, self._recording, self.where)
            self.left_out, self.notes = self._chosen.left_out, self._chosen.notes
            if contents.cut:
                self._cuts.append(contents.cut)
                self.notes.append(contents.cut)
            self._rates = [self._rate(one) for one in self._chosen.groups]
            self._joins = len(self._chosen.groups) > 1 and not self._chosen.streams
            if self._joins:
                self._leave_few_out()
            self._codes = missing_codes(reading.missing)
            self._period_ns = self._row_period(round(period_s * 1e9))
            self.units, self._timed = self._chosen.units, self._chosen.groups[0].group.timed
            names = self._chosen.names
            dated = self._start is not None
            time = _free(TIME if dated else TIME_NS, names)
            stream = _free(STREAM, names) if self._chosen.streams else None
            self._specials = [*([time] if self._timed else []), *([stream] if stream else [])]
            self.names = [*self._specials, *names]
            self._zone = "UTC" if contents.zoned else None
            told = (time,) if self._timed else (NO_TIME,)
            self.reading = replace(reading, time=told, time_format=None, stream=stream)
            self.said = self._in_words(contents.said)
            self._head = self._first_rows()
        except BaseException:
            self.close()
            raise

    def head(self) -> list[pa.Array]:
        """Every column of the first rows."""
        return self._head

    def blocks(self, columns: Sequence[int]) -> Iterator[Block]:
        """The rows in order. Raises UserError for what cannot be read."""
        first, special = 1, len(self._specials)
        channels = [place - special for place in columns if place >= special]
        for rows, stream in self._rows(sorted({*channels})):
            if self._stopping:
                return
            place = {channel: at for at, channel in enumerate(sorted({*channels}))}
            cells = []
            for column in columns:
                if column >= special:
                    cells.append(self._cells(rows.values[:, place[column - special]], column - special))
                elif self.names[column] == self._specials[0] and self._timed:
                    cells.append(self._times(rows.ticks))
                else:
                    cells.append(pa.array([stream] * len(rows.ticks), pa.string()))
            begins = rows.begins if rows.begins.any() else None
            yield Block(cells, [], first, first.__add__, begins)
            first += len(rows.ticks)

    def values(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """All that channels say, in order of time, block by block: the place of a stream, and (n,) channels,
        ns since the Unix epoch, values; NaN is left out."""
        chosen = self._chosen
        apart = [[one] for one in chosen.groups] if chosen.streams else [chosen.groups]
        for stream, groups in enumerate(apart):
            ahead = [
                GroupAhead(self._recording.pieces(one.place, one.channels), len(one.channels), self._note_cut)
                for one in groups
            ]
            for moment in moments(ahead, 0):
                found = [
                    _flat(group.take(moment), one.columns, self._codes)
                    for group, one in zip(ahead, groups, strict=True)
                ]
                channel, ticks, value = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
                order = np.argsort(ticks, kind="stable")
                if self._stopping:
                    return
                yield stream, channel[order], ticks[order] + (self._start or 0), value[order]

    def holds(self) -> np.ndarray:
        """(C,) int64, ns: how long a value of each channel stands."""
        holds = np.zeros(len(self._chosen.names), np.int64)
        for one, rate in zip(self._chosen.groups, self._rates, strict=True):
            holds[one.columns] = np.maximum(holds[one.columns], 0 if rate is None else rate.hold_ns)
        return holds

    @property
    def channels(self) -> list[str]:
        return self._chosen.names

    @property
    def streams(self) -> list[str] | None:
        """The groups that are streams of their own; None where there is one stream."""
        return [one.stream for one in self._chosen.groups] if self._chosen.streams else None

    @property
    def timed(self) -> bool:
        return self._timed

    def closing(self) -> list[str]:
        """What was found out only as it was read."""
        return [f"warning: {self.where}: {cut}" for cut in dict.fromkeys(self._cuts)]

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._stopping = True

    def close(self) -> None:
        self._recording.close()

    def _rate(self, one: ChosenGroup) -> GroupRate | None:
        ticks, count = list[np.ndarray](), 0
        for piece in self._recording.pieces(one.place, []) if one.group.timed else ():
            ticks.append(piece.ticks)
            count += len(piece.ticks)
            if count >= LOOKED_AT:
                break
        return rate_of(one.group, np.concatenate(ticks)[:LOOKED_AT]) if ticks else None

    def _leave_few_out(self) -> None:
        """Leaves out groups without a rate. Raises UserError if none is left."""
        chosen = self._chosen
        kept = [place for place, rate in enumerate(self._rates) if rate is not None]
        if not kept:
            raise UserError(f"{self.where}: no channel of it has more than one sample")
        if len(kept) == len(chosen.groups):
            return
        groups = [chosen.groups[place] for place in kept]
        columns = sorted(column for one in groups for column in one.columns)
        gone = {name for place, name in enumerate(chosen.names) if place not in columns}
        self.left_out |= dict.fromkeys(gone, FEW)
        moved = {column: place for place, column in enumerate(columns)}
        self._chosen = chosen._replace(
            names=[chosen.names[column] for column in columns],
            single=[chosen.single[column] for column in columns],
            groups=[one._replace(columns=[moved[column] for column in one.columns]) for one in groups],
        )
        self._rates = [self._rates[place] for place in kept]
        self._joins = len(groups) > 1

    def _row_period(self, asked_ns: int) -> int:
        """The time from row to row, where groups are joined."""
        known = [rate for rate in self._rates if rate is not None]
        near = [rate for rate in known if abs(rate.period_ns - asked_ns) <= ALIKE * rate.period_ns]
        if asked_ns and near:
            return min(rate.period_ns for rate in near)
        regular = [rate.period_ns for rate in known if rate.regular] or [rate.period_ns for rate in known]
        return min(regular, default=0)

    def _in_words(self, said: str) -> str:
        channels, groups = len(self._chosen.names), len(self._chosen.groups)
        words = [said, counted(channels, "channel")]
        if self._joins:
            rates = sorted({_rate_text(rate.period_ns) for rate in self._rates if rate is not None})
            words.append(f"{groups} groups joined at {_rate_text(self._period_ns)}" if rates else "")
        elif self._chosen.streams:
            words.append(f"{groups} groups as streams")
        elif (rate := self._rates[0]) is not None and rate.regular:
            words.append(f"at {_rate_text(rate.period_ns)}")
        return ", ".join(filter(None, words))

    def _rows(self, channels: Sequence[int]) -> Iterator[tuple[JoinedRows, str]]:
        """The rows of some channels, by place in what is chosen, and the stream of each block."""
        if self._joins:
            for rows in self._joined(channels):
                yield rows, ""
            return
        for one in self._chosen.groups:
            inside = {column: inner for inner, column in zip(one.channels, one.columns, strict=True)}
            for piece in self._recording.pieces(one.place, [inside[column] for column in channels]):
                self._note_cut(piece.cut)
                begins = np.zeros(len(piece.ticks), bool)
                begins[:1] = piece.begins
                yield JoinedRows(piece.ticks, piece.values, begins), one.stream

    def _joined(self, channels: Sequence[int]) -> Iterator[JoinedRows]:
        """The same of groups that are joined; those of the rate of rows have their say in any case."""
        groups, rates, columns = list[GroupAhead](), list[GroupRate](), list[list[int]]()
        place_of = {channel: at for at, channel in enumerate(channels)}
        for one, rate in zip(self._chosen.groups, self._rates, strict=True):
            assert rate is not None
            pairs = [
                (inner, place_of[column])
                for inner, column in zip(one.channels, one.columns, strict=True)
                if column in place_of
            ]
            if not pairs and rate.period_ns > (1 + ALIKE) * self._period_ns:
                continue
            inside, here = [inner for inner, _ in pairs], [at for _, at in pairs]
            groups.append(GroupAhead(self._recording.pieces(one.place, inside), len(inside), self._note_cut))
            rates.append(rate)
            columns.append(here)
        yield from Joined(groups, rates, columns, self._period_ns)
        if back := sum(group.back for group in groups):
            self._note_cut(f"{counted(back, 'sample')} whose times run back are left out")

    def _note_cut(self, cut: str) -> None:
        if cut:
            self._cuts.append(cut)

    def _first_rows(self) -> list[pa.Array]:
        found = list[list[pa.Array]]()
        count = 0
        for block in self.blocks(range(len(self.names))):
            found.append(block.columns)
            count += len(block.columns[0])
            if count >= HEAD:
                break
        if not found:
            raise UserError(f"{self.where}: has no samples")
        return [pa.concat_arrays([*chain(column)])[:HEAD] for column in zip(*found, strict=True)]

    def _cells(self, values: np.ndarray, channel: int) -> pa.Array:
        values = np.ascontiguousarray(values)
        return pa.array(values.astype(np.float32) if self._chosen.single[channel] else values)

    def _times(self, ticks: np.ndarray) -> pa.Array:
        if self._start is None:
            return pa.array(ticks, pa.int64())
        return pa.array(ticks + self._start, pa.int64()).cast(pa.timestamp("ns", self._zone))


def _flat(span: Span, columns: Sequence[int], codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channel, tick and value of each sample that has one; numbers in ``codes`` are none."""
    there = ~np.isnan(span.values)
    if len(codes):
        with np.errstate(over="ignore"):
            there &= ~np.isin(span.values.astype(np.float32), codes)
    row, inner = np.nonzero(there)
    return np.array(columns, np.int32)[inner], span.ticks[row], span.values[row, inner]


def told_of(reading: Reading, where: str) -> Told:
    """What a user said of a recording. Raises UserError for what only tables of text can have."""
    if reading.time is not None and len(reading.time) > 1:
        raise UserError(f"{where}: its times are in one place; name that alone with --time-column")
    if reading.time_format is not None and reading.time_format not in NS:
        raise UserError(f"{where}: its times are numbers; --time-format is one of {', '.join(NS)} here")
    return Told(None if reading.time is None else reading.time[0], reading.time_format)


def _rate_text(period_ns: int) -> str:
    rate = 1e9 / period_ns
    return f"{rate:.6g} Hz" if rate >= 1 else f"a row every {period_ns / 1e9:g} s"


def _free(name: str, taken: Sequence[str]) -> str:
    """A name for a column that no channel has."""
    while name in taken:
        name += "_"
    return name

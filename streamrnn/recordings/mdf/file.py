"""MDF 4, as the measuring programs of vehicles write it: groups of channels, each with times of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamrnn.recordings.mdf.blocks import (
    MdfBlocks,
    MdfChannel,
    MdfDataGroup,
    MdfGroup,
    MdfHeader,
    read_data_group,
    read_header,
)
from streamrnn.recordings.mdf.data import GroupRecords, RecordBytes
from streamrnn.recordings.mdf.values import (
    NUMBERS,
    TYPE_NAMES,
    MdfConversion,
    Unconvertible,
    invalid,
    raw_numbers,
    read_conversion,
)
from streamrnn.recordings.recording import (
    ChannelGroup,
    Contents,
    RecordedChannel,
    Samples,
    Told,
    rows_at_once,
    to_ticks,
)
from streamrnn.recordings.stored import FileBytes

_VALUES, _TIMES, _COUNTED_TIMES = 0, 2, 3  # kinds of channels
_KINDS = {
    1: "values of variable length",
    4: "places in a film",
    5: "values of limited length",
    6: "a counter",
}
_BY_TIME, _BY = 1, {2: "an angle", 3: "a distance", 4: "a counter"}  # what a channel of times is of
_VARIABLE, _BUS, _TIMES_ELSEWHERE = 1, 2 | 4, 8  # flags of a group
_SECOND = 10**9
_SHOWN = 10  # groups that are cut


class _Table:
    """A group that is read: its records, when they were taken, and its channels."""

    def __init__(
        self, name: str, records: GroupRecords, clock: MdfChannel | None, conversion: MdfConversion
    ) -> None:
        self.name, self.records, self._clock, self._conversion = name, records, clock, conversion
        self.channels = list[tuple[MdfChannel, MdfConversion]]()
        self._last: float | None = None  # the last time, s
        if clock is not None and (last := records.last()) is not None and len(last):
            self._last = float(self._times(last, (records.whole or 1) - 1)[0])

    @property
    def timed(self) -> bool:
        return self._clock is not None

    def ticks(self, block: np.ndarray, first: int) -> np.ndarray:
        """(n,) int64 of records from number ``first`` on."""
        if self._clock is None:
            return np.arange(first, first + len(block), dtype=np.int64)
        return to_ticks(self._times(block, first), _SECOND, repr(self.name), self._last)

    def _times(self, block: np.ndarray, first: int) -> np.ndarray:
        assert self._clock is not None
        numbers = np.arange(first, first + len(block), dtype=np.float64)
        if self._clock.kind == _TIMES:
            numbers = raw_numbers(block, self.records.begin, self._clock).astype(np.float64)
        return self._conversion.apply(numbers)

    def values(self, block: np.ndarray, channel: int) -> np.ndarray:
        """(n,) float64 of a channel by its place."""
        of, conversion = self.channels[channel]
        numbers = raw_numbers(block, self.records.begin, of).astype(np.float64)
        if (bad := invalid(block, self.records.begin, self.records.group.data_size, of)) is not None:
            numbers[bad] = np.nan
        return conversion.apply(numbers)


class MdfRecording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path) -> None:
        self._file = FileBytes(path)
        self._left_out, self._cut = list[tuple[str, str]](), list[str]()
        self._names, self._tables = dict[str, int](), list[_Table]()
        blocks = MdfBlocks(self._file)
        header = read_header(blocks)
        for _, block in blocks.each(header.first, "DG", 4, 8):
            self._read(blocks, header, read_data_group(blocks, block))
        self.contents = self._contents(header)

    def close(self) -> None:
        self._file.close()

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        table, done = self._tables[group], 0
        for block in table.records.blocks(rows_at_once(len(channels))):
            values = np.empty((len(block), len(channels)))
            for column, channel in enumerate(channels):
                values[:, column] = table.values(block, channel)
            yield Samples(table.ticks(block, done), values)
            done += len(block)

    def _read(self, blocks: MdfBlocks, header: MdfHeader, where: MdfDataGroup) -> None:
        """Adds the groups of a data group that can be used, and what of them cannot."""
        data: RecordBytes | None = None
        for number, group in enumerate(where.groups):
            if group.flags & _VARIABLE:
                continue  # it has the texts of another
            name = self._name(group)
            clock = next((each for each in group.channels if each.kind in (_TIMES, _COUNTED_TIMES)), None)
            try:
                conversion = _clock_conversion(blocks, group, clock)
            except Unconvertible as error:
                self._left_out.append((name, str(error)))
                continue
            data = data or RecordBytes(blocks, where.data, header.unfinished)
            records = GroupRecords(data, where, number)
            if records.whole == 0:
                self._left_out.append((name, "it has no sample"))
                continue
            table = _Table(name, records, clock, conversion)
            for channel in group.channels:
                try:
                    if channel is not clock:
                        table.channels.append((channel, _conversion(blocks, channel)))
                except Unconvertible as error:
                    self._left_out.append((f"{name}/{channel.name}", str(error)))
            if table.channels:
                self._tables.append(table)
                if cut := records.cut():
                    self._cut.append(f"{cut} of {name!r} are there")

    def _name(self, group: MdfGroup) -> str:
        """A name that no other group has."""
        name = group.name or f"group {len(self._names) + 1}"
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name} ({self._names[name]})"

    def _contents(self, header: MdfHeader) -> Contents:
        if header.unfinished and not self._cut:
            self._cut.append("its recorder was ended before it was done: its whole samples are taken")
        return Contents(
            said=f"MDF {header.version / 100:.2f}",
            groups=tuple(map(_described, self._tables)),
            start_ns=header.start_ns,
            zoned=header.zoned,
            left_out=tuple(self._left_out),
            cut="; ".join(self._cut[:_SHOWN]),
        )


def _clock_conversion(blocks: MdfBlocks, group: MdfGroup, clock: MdfChannel | None) -> MdfConversion:
    """The conversion of a group's times. Raises Unconvertible for a group of which nothing is a channel."""
    if group.flags & _BUS:
        raise Unconvertible("frames of a bus, which are signals only by a database of them")
    if group.flags & _TIMES_ELSEWHERE:
        raise Unconvertible("it is stored by columns; save it anew as MDF 4.10")
    if clock is None:
        return read_conversion(blocks, 0, True)
    if clock.sync != _BY_TIME:
        raise Unconvertible(f"its samples are by {_BY.get(clock.sync, 'something else')}, not by time")
    if clock.data_type not in NUMBERS:
        raise Unconvertible("its times are no numbers")
    return read_conversion(blocks, clock.conversion, True)


def _conversion(blocks: MdfBlocks, channel: MdfChannel) -> MdfConversion:
    """A channel's conversion. Raises Unconvertible for one that has no numbers."""
    if channel.data_type not in NUMBERS:
        raise Unconvertible(TYPE_NAMES.get(channel.data_type, "values of an unknown type"))
    if channel.kind != _VALUES:
        raise Unconvertible(_KINDS.get(channel.kind, "times"))
    if channel.composed:
        raise Unconvertible("an array")
    return read_conversion(blocks, channel.conversion, channel.data_type < NUMBERS[-2])


def _described(table: _Table) -> ChannelGroup:
    seen, channels = dict[str, int](), []
    for channel, conversion in table.channels:
        seen[channel.name] = seen.get(channel.name, 0) + 1
        name = channel.name if seen[channel.name] == 1 else f"{channel.name} ({seen[channel.name]})"
        kind = f"{('uint', 'int', 'float')[channel.data_type // 2]}{channel.bits}"
        stored = ", ".join([kind, *["scaled"] * conversion.scaled, *conversion.texts])
        channels.append(RecordedChannel(name, channel.unit or conversion.unit, stored))
    return ChannelGroup(table.name, tuple(channels), table.records.whole, None, table.timed)


def open_recording(path: Path, told: Told) -> MdfRecording:
    """Opens an MDF 4 file. Raises UserError."""
    return MdfRecording(path)

"""Reads logger files with streamrnn, and compares with their plain tables.

For seeds 17 and 0 to 999: ``python tests/logger_check.py 17 0-999``. An error is as good as the rows if it
names an option with which they come out right. A wrong value is not.
"""

import csv
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from logger_files import Case, as_options, make
from logger_table import find_gaps

from streamrnn.errors import UserError
from streamrnn.table import Reading, Rows, open_rows

OPTIONS = {
    "--time-column": "time",
    "--seq-column": "seq",
    "--stream-column": "stream",
    "--channel-column": "channel",
    "--value-column": "value",
    "--time-format": "time_format",
    "--header-line": "header_line",
    "--data-line": "data_line",
    "--on-error": "on_error",
}
OPTIONS |= {f"--{name}": name for name in ("delimiter", "encoding", "names", "decimal", "missing")}
LISTS, NUMBERS = ("time", "names", "missing"), ("header_line", "data_line")
MARKS = {"tab": "\t", "space": " "}


class Found(NamedTuple):
    """What came out of a file."""

    channels: list[str]
    units: dict[str, str] | None  # None: not told
    streams: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # times, values, seq
    said: str  # what the reader said of the file


def read(path: Path, channels: list[str] | None, said: dict[str, str]) -> Found:
    """The whole file through the product, options given as on the command line. Raises UserError."""
    fields: dict[str, object] = dict(said)
    fields |= {name: int(said[name]) for name in NUMBERS if name in said}
    fields |= {name: tuple(next(csv.reader([said[name]]))) for name in LISTS if name in said}
    if "delimiter" in said:
        fields["delimiter"] = MARKS.get(said["delimiter"], said["delimiter"])
    with open_rows(str(path), channels, Reading(**fields)) as reader:
        blocks = list(reader)
        moving = [place for place in range(len(reader.channels)) if channels or _moves(blocks, place)]
        streams = {}
        for place, name in enumerate(reader.streams):
            own = [block.only(block.stream == place) for block in blocks]
            times, values, seq = (
                [getattr(rows, what) for rows in own] for what in ("ts_ns", "values", "seq")
            )
            if own:
                streams[name] = np.concatenate(times), np.concatenate(values)[:, moving], np.concatenate(seq)
        names = [reader.channels[place] for place in moving]
        return Found(names, reader.units, streams, " ".join([reader.said, *reader.notes]))


def _moves(blocks: list[Rows], place: int) -> bool:
    """Whether a column has more than one value: training, which has all, leaves out what stands still."""
    cells = np.concatenate([block.values[:, place] for block in blocks] or [np.zeros(0)])
    cells = cells[~np.isnan(cells)]
    return len(np.unique(cells)) > 1


@dataclass
class Verdict:
    """How reading a case went."""

    wrong: str = ""  # what is not as in the plain table; or an error that helps nobody
    given: dict[str, str] = field(default_factory=dict)  # options that errors asked for
    errors: list[str] = field(default_factory=list)

    @property
    def right_at_once(self) -> bool:
        return not self.wrong and not self.errors


def check(case: Case, folder: Path) -> Verdict:
    """Reads the file with what is needed, then with what errors name, until it comes out, right or wrong."""
    path = _write(case, folder)
    verdict = Verdict(given=dict(case.needed))
    while True:
        try:
            found = read(path, case.channels if case.asked else None, verdict.given)
        except UserError as error:
            verdict.errors.append(str(error))
            more = _remedies(case, str(error), verdict.given)
            if not more:
                verdict.wrong = f"an error without a way out: {error}"
                return verdict
            verdict.given |= more
            continue
        verdict.wrong = differences(case, found, "names" in verdict.given)
        return verdict


def check_told(case: Case, folder: Path) -> Verdict:
    """Reads the file with all that can be said of it: then nothing is to be asked for."""
    verdict = Verdict(given=dict(case.truth))
    try:
        found = read(_write(case, folder), case.channels if case.asked else None, case.truth)
    except UserError as error:
        verdict.errors.append(str(error))
        verdict.wrong = f"an error though all was said: {error}"
        return verdict
    verdict.wrong = differences(case, found, True)
    return verdict


def check_suggested(case: Case, folder: Path) -> Verdict:
    """Reads a file of several streams, or of a reading a row, as if it was neither: the reader has doubts."""
    said = {name: value for name, value in case.needed.items() if name not in case.suggested}
    verdict = Verdict(given=said)
    try:
        found = read(_write(case, folder), case.channels if case.asked else None, said)
    except UserError as error:
        verdict.errors.append(str(error))
        words = str(error)
    else:
        words = found.said
        if not differences(case, found, "names" in said):
            return verdict
    options = [option for option, name in OPTIONS.items() if name in case.suggested]
    if not any(option in words for option in options) and not _remedies(case, words, said):
        verdict.wrong = f"none of {', '.join(options)} in: {words}"
    return verdict


def _write(case: Case, folder: Path) -> Path:
    path = folder / case.name
    path.write_bytes(case.content)
    return path


def _remedies(case: Case, error: str, given: dict[str, str]) -> dict[str, str]:
    """What can be said of the options that an error names, and was not yet."""
    named = [OPTIONS[option] for option in re.findall(r"--[a-z]+(?:-[a-z]+)*", error) if option in OPTIONS]
    more = {name: case.truth[name] for name in named if name in case.truth and name not in given}
    if "on_error" in more and "missing" in case.truth and "missing" not in given:  # they are no bad rows
        more["missing"] = case.truth["missing"]
    if more and "names" in case.truth and "names" not in given:  # by which other options call columns
        more["names"] = case.truth["names"]
    return more


def differences(case: Case, found: Found, named: bool) -> str:
    """What is not as in the plain table, the first of it; "" if nothing is."""
    order = _match(case, found, named)
    if order is None:
        return f"channels {found.channels} instead of {case.channels}"
    if {*found.streams} != {*case.streams}:
        return f"streams {sorted(found.streams)} instead of {sorted(case.streams)}"
    for name, expected in case.streams.items():
        times, values, seq = found.streams[name]
        if case.bad_time and len(times) > len(expected.times) and name in _with_timeless(found):
            keep = times != 0
            times, values, seq = times[keep], values[keep], seq[keep]
        if len(times) != len(expected.times):
            return f"{len(times)} rows of {name} instead of {len(expected.times)}"
        off = np.abs(times - expected.times) > case.tolerance_ns
        if off.any():
            row = int(off.argmax())
            return f"time of row {row} of {name}: {times[row]} instead of {expected.times[row]}"
        if wrong := _other_values(case, values[:, order], expected.values):
            return f"{name}: {wrong}"
        if (gaps := find_gaps(times, case.period_ns)) != expected.gaps:
            return f"gaps of {name}: {gaps} instead of {expected.gaps}"
        if case.seq is not None and seq.tolist() != case.seq:
            return f"sequence numbers of {name}: {seq[:5]}... instead of {case.seq[:5]}..."
    return _other_units(case, found)


def _match(case: Case, found: Found, named: bool) -> list[int] | None:
    """The place of each channel among those found; None if others were."""
    if len(found.channels) != len(case.channels):
        return None
    if "channel" in case.truth:
        return (
            [found.channels.index(name) for name in case.channels]
            if {*found.channels} == {*case.channels}
            else None
        )
    if "names" in case.truth and not named:
        return [*range(len(case.channels))]
    alike = all(
        name == other or name.startswith(other)
        for name, other in zip(case.channels, found.channels, strict=True)
    )
    return [*range(len(case.channels))] if alike else None


def _with_timeless(found: Found) -> list[str]:
    return [name for name, (times, _, _) in found.streams.items() if (times == 0).sum() == 1]


def _other_values(case: Case, values: np.ndarray, expected: np.ndarray) -> str:
    if case.asked and not case.ordered and len(values) and (values[:, -1] == 1 - expected[:, -1]).all():
        values = np.column_stack([values[:, :-1], expected[:, -1]])
    other = ~((values == expected) | (np.isnan(values) & np.isnan(expected)))
    if not other.any():
        return ""
    row, channel = (int(place) for place in np.argwhere(other)[0])
    return (
        f"{case.channels[channel]} in row {row}: {values[row, channel]} instead of {expected[row, channel]}"
    )


def _other_units(case: Case, found: Found) -> str:
    if found.units is None or not case.units:
        return ""
    units = {name: found.units.get(name) for name in case.units}
    return "" if units == case.units else f"units {units} instead of {case.units}"


def seeds(words: Iterable[str]) -> list[int]:
    """17 as 17; 0-999 as all of them."""
    ranges = [word.partition("-") for word in words]
    return [seed for first, _, last in ranges for seed in range(int(first), int(last or first) + 1)]


def main() -> None:
    """Prints how reading goes for each seed that is not right at once, and how many are of each kind."""
    kinds = dict.fromkeys(("right at once", "right with what an error named", "wrong"), 0)
    asked = seeds(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        for seed in asked:
            case = make(seed)
            verdict = check(case, Path(folder))
            told = check_told(case, Path(folder))
            suggested = check_suggested(case, Path(folder)) if case.suggested else Verdict()
            wrong = [
                f"{how}: {one.wrong}"
                for how, one in (("found out", verdict), ("told", told), ("suggested", suggested))
                if one.wrong
            ]
            kinds[
                "wrong"
                if wrong
                else "right at once"
                if verdict.right_at_once
                else "right with what an error named"
            ] += 1
            if wrong or len(asked) == 1 or verdict.errors:
                print(f"{seed}: {'; '.join(case.properties)}")
                print(*(f"    error: {error}" for error in verdict.errors), sep="\n")
                print(f"    given: {as_options(verdict.given)}")
                print(*(f"    WRONG, {text}" for text in wrong), sep="\n")
    print(kinds)


if __name__ == "__main__":
    main()

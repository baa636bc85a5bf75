"""What the times of a recording say: its sample period, and where rows are missing."""

import numpy as np

from streamrnn.errors import UserError
from streamrnn.table.clock import JITTER, slack_ns, tick_ns
from streamrnn.train.data.recording import Part


def find_period_s(parts: list[Part]) -> float:
    """The sample period: the median time step, of several files the median of theirs; 0 without times.

    Raises UserError when files differ in it by more than the jitter allowed, or run backwards.
    """
    by_source = dict[str, list[Part]]()
    for part in parts:
        by_source.setdefault(part.source, []).append(part)
    found = {source: _file_period_ns(source, of_file) for source, of_file in by_source.items()}
    known = {source: period for source, period in found.items() if period > 0}
    if not known:
        return 0.0
    usual = sorted(known, key=known.__getitem__)[(len(known) - 1) // 2]
    for source, period in known.items():
        if abs(period - known[usual]) > JITTER * known[usual]:
            raise UserError(
                f"{source}: a row every {period / 1e9:g} s, but {usual} has one every "
                f"{known[usual] / 1e9:g} s; a model has one sample period: bring the files to one, or train "
                "on them apart"
            )
    return known[usual] / 1e9


def _file_period_ns(source: str, parts: list[Part]) -> float:
    """The median time step. Where the clock is coarser than the rows, the mean within one of its ticks."""
    every = np.concatenate([np.zeros(0), *(steps / rows for steps, rows, _ in map(_time_steps, parts))])
    if not len(every):
        return 0.0
    median = float(np.median(every))
    if median < 0:
        raise UserError(f"{source}: its time runs backwards; sort the rows by time, the oldest first")
    if median == 0:
        tick = max(tick_ns(part.ts_ns) for part in parts)
        return float(every[(every >= 0) & (every <= tick)].mean())
    return median


def _time_steps(part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From each row with a time to the next one with a time: ns, rows, and the place of the latter."""
    known = np.flatnonzero(part.ts_ns)
    return np.diff(part.ts_ns[known]), np.diff(known), known[1:]


def without_twice(part: Part, period_s: float) -> Part:
    """A part without the rows that have the time of the row before, as a replay leaves them out, too.

    Those that a column numbers stay, as do all where two rows may come within one tick of the clock.
    """
    if not part.counted or period_s * 1e9 <= slack_ns(period_s * 1e9, tick_ns(part.ts_ns)):
        return part
    twice = np.zeros(len(part.seq), bool)
    twice[1:] = (part.ts_ns[1:] == part.ts_ns[:-1]) & (part.ts_ns[1:] != 0)
    if not twice.any():
        return part
    seq = part.seq - np.cumsum(twice).astype(np.uint64)  # as if they had not been there
    return part._replace(values=part.values[~twice], seq=seq[~twice], ts_ns=part.ts_ns[~twice])


def without_ticks_again(parts: list[Part]) -> list[Part]:
    """Rows that were made of values, of files that follow each other, without ticks that an earlier one has.

    Where one file ends and the next begins, values a little late have the last ticks come again.
    """
    newest: dict[str, int] = {}  # of each stream: the last tick so far
    found: dict[int, Part] = {}
    for place in sorted(range(len(parts)), key=lambda place: int(parts[place].seq[0])):
        part = parts[place]
        keep = part.seq.astype(np.int64) > newest.get(part.stream, -1)
        newest[part.stream] = max(newest.get(part.stream, -1), int(part.seq[-1]))
        if keep.any():
            found[place] = part._replace(values=part.values[keep], seq=part.seq[keep], ts_ns=part.ts_ns[keep])
    return [found[place] for place in sorted(found)]


def runs_back(part: Part) -> int:
    """In how many places the time is below that of the row before."""
    return int((_time_steps(part)[0] < 0).sum())


def find_begins(part: Part, period_s: float, max_step_s: float | None) -> np.ndarray:
    """Where rows are missing before a row, or nothing is before it: (n,) bool.

    That is where seq is not the one before + 1, where time runs backwards, and where a time step is off
    the sample period by more than ``slack_ns``. With ``max_step_s``, longer steps are gaps, no others. Rows
    without a time share the step between the times around them.
    """
    begins = np.ones(len(part.seq), bool)
    begins[1:] = part.seq[1:] != part.seq[:-1] + np.uint64(1)
    if period_s > 0:
        steps, rows, places = _time_steps(part)
        off = steps - rows * (period_s * 1e9)
        if max_step_s is None:
            gap = np.abs(off) > slack_ns(period_s * 1e9, tick_ns(part.ts_ns))
        else:
            gap = off > (max_step_s - period_s) * 1e9
        begins[places[gap | (steps < 0)]] = True
    return begins

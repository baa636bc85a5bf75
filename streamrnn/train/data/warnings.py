"""What was found in the files, and what of it a user should look at before the training."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrnn.table.columns import listed, shortened
from streamrnn.table.extremes import recurring_extremes
from streamrnn.table.progress import counted
from streamrnn.train.data.recording import Recording

SHORT = 20  # rows between gaps, on average, that are worth a warning
FEW = 500  # rows
NEVER = "never varies in the rows to learn from"


class DataFacts(NamedTuple):
    """What was found in the files."""

    files: int
    streams: int
    rows: int  # read, and neither skipped nor there twice
    gaps: int  # places within the streams of a file where rows are missing
    missing: int  # cells of channels
    dropped: int  # rows of no use: before every channel has had a value, or too few between two gaps
    skipped: int  # bad rows
    useless: Counter[str] = Counter()  # the rows of no use, by why  # noqa: RUF012
    twice: int = 0  # rows left out, as they have the time of the row before
    back: int = 0  # of the gaps, those where time runs back
    left_out: Counter[str] = Counter()  # rows in intervals that are not learned, by label  # noqa: RUF012


def advise(
    recording: Recording, constant: np.ndarray, facts: DataFacts, period_s: float, watch: bool = False
) -> list[str]:
    """What a user should know before the training; ``watch``: what never varies is watched for a change."""
    warnings = []
    kinds = {
        NEVER: [name for name, flat in zip(recording.names, constant, strict=True) if flat],
        "holds only 0 and 1": _columns_where(recording, lambda cells: np.isin(cells, (0, 1)).all()),
        "only counts up": _columns_where(
            recording, lambda cells: len(cells) > 2 and (np.diff(cells) == 1).all()
        ),
    }
    for what, names in kinds.items():
        if names := [name for name in names if what == NEVER or name not in kinds[NEVER]]:
            shown = ", ".join(f'"{name}"' for name in names)
            after = ", and is watched for a change" if what == NEVER and watch else ""
            warnings.append(f"{shown}: {what}{after}; if that is no measurement, leave it out with --exclude")
    warnings += recording.notes
    if recording.left_out:
        columns = [f'"{shortened(name)}" ({why})' for name, why in recording.left_out.items()]
        warnings.append(f"left out: {listed(columns)}; --channels takes the columns that it names")
    values = {  # what is far from an offset has lost its digits: readers tell of those
        name: np.concatenate([part.values[:, place] for part in recording.parts])
        for place, name in enumerate(recording.names)
        if not recording.offsets.get(name)
    }
    warnings += recurring_extremes([*values], [*values.values()])
    times = [part.ts_ns[part.ts_ns != 0] for part in recording.parts]
    if not sum(map(len, times)):
        warnings.append(
            "no column of times was found, so that missing rows cannot be seen; see --time-column and "
            "--time-format"
        )
    elif any(len(known) > 2 and np.median(np.diff(known)) == 0 for known in times):
        warnings.append("most times occur more than once; if machines take turns, name their --stream-column")
    if facts.rows < FEW:
        warnings.append(f"{counted(facts.rows, 'row')} are few: what comes of them may be chance")
    if facts.twice:
        rows = counted(facts.twice, "row")
        warnings.append(f"{rows} came twice, with the time of the row before: all but the first are left out")
    if facts.back:
        warnings.append(
            f"the time runs back in {counted(facts.back, 'place')}: what is learned is cut there, and in a "
            "replay such rows are late"
        )
    if facts.gaps * SHORT > facts.rows:
        warnings.append(
            f"{counted(facts.gaps, 'gap')} in {counted(facts.rows, 'row')}, as a rule {period_s:g} s apart; "
            "if nothing is missing there, give the longest step that is no gap with --max-step"
        )
    return warnings


def _columns_where(recording: Recording, holds: Callable[[np.ndarray], object]) -> list[str]:
    """The columns whose cells are so, in every part that has any."""
    return [
        name
        for place, name in enumerate(recording.names)
        if all(
            holds(cells)
            for part in recording.parts
            if len(cells := part.values[:, place][~np.isnan(part.values[:, place])])
        )
    ]

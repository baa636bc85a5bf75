"""What the pumps' sensors say, as a CSV file."""

import csv
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from streamrnn.demo.faults import PumpFaults
from streamrnn.demo.pumps import CHANNELS, MACHINES, PERIOD_S, Pumps
from streamrnn.errors import UserError

_BEGAN = datetime(2026, 1, 4)  # a recording of seed n is of n days later
_FIRST_S = 120.0  # until a fault: scores of streams that begin are cautious


def record(path: Path, seconds: float, seed: int, with_faults: bool = False) -> int:
    """Writes a CSV of what the machines' sensors would say in ``seconds``. Returns its rows.

    With faults a column says which: the name of its kind, or nothing. A sensor that says nothing is an empty
    cell, a frame that is lost has no row. Raises UserError if the file cannot be written.
    """
    count = 0
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            label = ["fault"] if with_faults else []
            writer.writerow(["time", "machine", *(channel.name for channel in CHANNELS), *label])
            for row in _rows(seconds, seed, with_faults):
                writer.writerow(row)
                count += 1
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    return count


def _rows(seconds: float, seed: int, with_faults: bool) -> Iterator[list[str]]:
    pumps, began = Pumps(len(MACHINES), seed), _BEGAN + timedelta(days=seed)
    faults = PumpFaults(pumps, seed, _FIRST_S) if with_faults else None
    everyone = np.ones(len(MACHINES), bool)
    for step in range(round(seconds / PERIOD_S)):
        time = (began + timedelta(seconds=step * PERIOD_S)).isoformat(timespec="milliseconds")
        values, sent = (pumps.step(), everyone) if faults is None else faults.step()[:2]
        for unit, row in enumerate(values.tolist()):
            cells = [time, MACHINES[unit], *("" if math.isnan(value) else f"{value:.6g}" for value in row)]
            if faults is not None:
                now = faults.current
                cells.append(now.kind.name if now is not None and now.unit == unit else "")
            if sent[unit]:
                yield cells

"""How the score of the demo's pumps reacts to their faults: by kind, and outside of them.

    OPENBLAS_NUM_THREADS=1 python tools/faults.py
    OPENBLAS_NUM_THREADS=1 python tools/faults.py --hours 4 --sessions 3

Each session begins as `streamrnn demo` does: with the past of new pumps, then faults. "seen" is the share of
faults with a score at the threshold or above while they last, "after" the seconds until then, "over" those
from the end of a fault to the last such score within 30 s: what was usual again is news, too. A false event
is one that begins neither during a fault nor within 30 s of one.
"""

import argparse
from typing import NamedTuple

import numpy as np

from streamrnn.demo.faults import KINDS, Fault, PumpFaults
from streamrnn.demo.live import MODEL, PAST_ROWS
from streamrnn.demo.pumps import MACHINES, PERIOD_S, Pumps
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults as Rules

OVER = round(30 / PERIOD_S)
HOUR = round(3600 / PERIOD_S)


class Session(NamedTuple):
    """What came of n rows of each pump after their past."""

    faults: list[Fault]
    score: np.ndarray  # (n, pumps), NaN = none
    begins: np.ndarray  # (n, pumps) bool: an event does


def run(model: Model, seed: int, steps: int) -> Session:
    pumps = Pumps(len(MACHINES), seed)
    past, faults = [pumps.step() for _ in range(PAST_ROWS)], PumpFaults(pumps, seed)
    now = [faults.step() for _ in range(steps)]
    values = np.concatenate([*past, *(step.values for step in now)])
    sent = np.concatenate([np.ones(PAST_ROWS * len(MACHINES), bool), *(step.sent for step in now)])
    stream = np.tile(np.arange(len(MACHINES)), PAST_ROWS + steps)
    seq = np.repeat(np.arange(PAST_ROWS + steps, dtype=np.uint64), len(MACHINES))
    engine = Engine(model, len(MACHINES), Rules())
    answers = engine.feed(MACHINES, stream[sent], values[sent], seq[sent])
    score, begins = np.full(sent.size, np.nan), np.zeros(sent.size, bool)
    score[sent], begins[sent] = answers.score, answers.begins
    found = [step.began for step in now if step.began is not None and step.began.end + OVER <= steps]
    score, begins = (each.reshape(-1, len(MACHINES))[PAST_ROWS:] for each in (score, begins))
    return Session(found, score, begins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--sessions", type=int, default=6)
    options = parser.parse_args()
    model = read_model(MODEL)
    threshold = model.score["threshold"]
    sessions = [run(model, seed, round(options.hours * HOUR)) for seed in range(1, options.sessions + 1)]
    print(f"{options.sessions} sessions of {options.hours:g} h at a threshold of {threshold:g}")
    print("medians, with first and ninth deciles")
    print(f"{'':30}{'faults':>7}{'seen':>6}{'after, s':>18}{'highest':>20}{'over, s':>18}")
    for kind in KINDS:
        told = [
            of_fault(session, fault, threshold)
            for session in sessions
            for fault in session.faults
            if fault.kind == kind
        ]
        after, highest, over = np.array(told).T
        line = f"{kind.name:30}{len(told):7}{np.isfinite(after).mean():6.2f}"
        print(f"{line}{deciles(after):>18}{deciles(highest):>20}{deciles(over):>18}")
    false, calm = np.sum([outside(session) for session in sessions], axis=0)
    print(f"false events: {false / calm * HOUR:.1f} per machine and hour, in {calm / HOUR:.0f} such hours")


def of_fault(session: Session, fault: Fault, threshold: float) -> tuple[float, float, float]:
    """Seconds until it is seen, the highest score, seconds from its end to the last high one; NaN = none."""
    during = session.score[fault.begin : fault.end, fault.unit]
    behind = session.score[fault.end : fault.end + OVER, fault.unit]
    high, late = np.flatnonzero(during >= threshold), np.flatnonzero(behind >= threshold)
    after = high[0] * PERIOD_S if len(high) else np.nan
    highest = np.nanmax(during) if np.isfinite(during).any() else np.nan
    return after, highest, (late[-1] + 1) * PERIOD_S if len(late) else 0.0


def outside(session: Session) -> tuple[int, int]:
    """False events, and the rows that they can begin with."""
    calm = np.ones(session.score.shape, bool)
    for fault in session.faults:
        calm[fault.begin : fault.end + OVER, fault.unit] = False
    return int((session.begins & calm).sum()), int(calm.sum())


def deciles(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.1f} ({low:.1f}, {high:.1f})"


if __name__ == "__main__":
    main()

"""How long each channel stands still while all is well: what a longer run of equal readings is judged by."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.train.data.dataset import Sequence

# Of a channel that flickers, so that standing still says something: no more than this share of its readings
# are the same as the one before, and no run of them is longer than this many rows. What stands still now and
# then (valves, commands, set points, coarse and slow thermometers, flows of machines that stop) does so for
# as long as it likes, whatever was seen of it.
FLICKERING, LONGEST = 1 / 3, 64
LEAST = 16  # rows of a usual run, in the file; where the longest one is 1 or 2, a few more may be chance
KNOWN = 100  # readings from which on something is known of a channel
BLOCK = 1 << 16  # rows
_CUT = 1 << 40  # length of a run whose begin or end nobody has seen


def usual_runs(sequences: Iterable[Sequence], outputs: int) -> list[int]:
    """A model's "runs": for each output the longest usual run of equal readings, in rows, or 0 for any.

    Of ``sequences`` the targets are looked at, (n, outputs), NaN for none: a missing one says nothing new, so
    it goes on with a run.
    """
    longest, pairs, same = np.zeros((3, outputs), np.int64)
    for sequence in sequences:
        last, run, cut = np.zeros(outputs, np.float32), np.zeros(outputs, np.int64), np.ones(outputs, bool)
        for begin in range(0, len(sequence.targets), BLOCK):
            block = sequence.targets[begin : begin + BLOCK].copy()
            _count(block, last, run, cut, longest, pairs, same)
        longest = np.maximum(longest, np.where(run > LEAST, _CUT, run))
    flickers = (pairs >= KNOWN) & (same <= FLICKERING * pairs) & (longest <= LONGEST)
    usual: list[int] = np.where(flickers, np.maximum(longest, LEAST), 0).tolist()
    return usual


@compiled
def _count(values: Any, last: Any, run: Any, cut: Any, longest: Any, pairs: Any, same: Any) -> None:
    """Goes on with the runs of each column over (n, outputs) float32 ``values``; those that end count."""
    for row in range(len(values)):
        for output in range(values.shape[1]):
            value = values[row, output]
            if run[output] > 0:
                pairs[output] += 1
                if np.isnan(value) or value == last[output]:
                    run[output] += 1
                    same[output] += 1
                    continue
                unseen = cut[output] and run[output] > LEAST
                longest[output] = max(longest[output], _CUT if unseen else run[output])
                cut[output] = False
            if np.isnan(value):
                continue
            last[output] = value
            run[output] = 1

"""What a record remembers for the score of its stream's rows: where it stands, and what it can be."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import packed_halves, packed_rows
from streamrnn.streams.rarity import GAPS, HIGHEST, LEVELS, RUN_HIGHEST

# The score's part of a record, in float32 words: these, then VECTORS of ``Network.score_width`` values.
# Of each way, in log2: the level of one row in 10, and the gaps to those of 100 and 1000.
INSTANT, SMOOTHED, RESIZED, SWITCHED = 0, 3, 6, 9
WAYS = (INSTANT, SMOOTHED, RESIZED, SWITCHED)
AT_ONCE, SHIFTED, SIZED, CHANGED, STILL = range(len(WAYS) + 1)  # what each way looks for; and the run
ROWS = 12  # scored so far, up to MEMORY
OF_INSTANT, OF_SMOOTHED, OF_RESIZED, OF_SWITCHED = (
    13,
    14,
    15,
    16,
)  # the last row's -log10 probability, by each way
OF_RUN = 17
EVENT = 18  # see ``score.event_after``
UNUSUAL = np.float32(1)  # EVENT, from the threshold on until a score below half of that
# Of the event that goes on, else zeros: its unusual rows, up to LONGEST, and its highest score; the source
# time of the last of these rows, see ``split``; and the outputs behind the highest score, see ``cause``.
EVENT_ROWS, PEAK, LAST_TS, CAUSES = 19, 20, 21, 24
CAUSES_KEPT = 5
SCALARS = 32
# Of the residual: its running mean and standard deviation. Of its weighted mean: that, and its standard
# deviation. The rows counted, up to LEARNING + 1, and the last row's residual in standard deviations. Of the
# channel: its last reading, in physical units, and how many in a row were the same, this one among them. Of
# the residual's size: its weighted mean, its mean, and the mean fourth power of how far these are apart.
MEAN, DEVIATION, WEIGHTED, SPREAD, COUNT, LATEST, READING, RUN, SIZE, USUAL, APART = range(11)
VECTORS = 11
LEARNED_VECTORS = (MEAN, DEVIATION, SPREAD, COUNT, USUAL, APART)  # the others are of the last rows alone

LEARNING = 500  # rows over which a stream's statistics are plain averages
MEMORY = 4000  # rows that they go back, after those
WARMING_ROWS = 100  # before which there is no score
QUIET = 64  # rows below LEAVE of the threshold that end an event

LEAST_SPREAD = np.float32(2.0**-16)  # in the model's standard deviations
MOST = np.float32(2.0**20)
LONGEST = np.float32(2.0**24)  # rows that a float32 can count
LEARNED = np.float32(LEARNING + 1)
_FAR = np.float32(64.0) * MOST  # what one row can make of the most
_MOST_APART = np.float32(2.0**100)
_PARTS, _PART_BITS = 3, 22  # of a time: what a float32 holds whole
_PERCENT = 128
_MOST_CAUSE = np.float32(2.0**24)


def score_words(outputs: int) -> int:
    """float32 words that the score takes in a record; a multiple of 16."""
    return packed_rows(SCALARS + VECTORS * packed_halves(outputs))


@inlined
def split(state, at, time):
    """Keeps a time, int64, as numbers that are finite as float32, at ``state[at:]``."""
    for part in range(_PARTS):
        state[at + part] = np.float32(time >> part * _PART_BITS & (1 << _PART_BITS) - 1)


@inlined
def joined(state, at):
    """The time that ``split`` kept."""
    time = np.int64(0)
    for part in range(_PARTS):
        time |= np.int64(state[at + part]) << part * _PART_BITS
    return time


@inlined
def cause(output, share):
    """An output and its share in a score, in percent, as one number; 0 for none."""
    percent = np.int64(np.rint(share * np.float32(100)))
    if output < 0 or percent < 1 or _PERCENT * (output + 1) >= _MOST_CAUSE:
        return np.float32(0)
    return np.float32(_PERCENT * output + percent)


def causes_of(numbers: np.ndarray) -> list[tuple[int, float]]:
    """The outputs, and their shares, that ``cause`` made numbers, (n,) float32, of."""
    whole = [divmod(int(number), _PERCENT) for number in numbers if 1 <= number < _MOST_CAUSE]
    return [(output, percent / 100) for output, percent in whole]


@inlined
def possible(state, at, width):
    """Whether rows can lead to the score's part of a record at ``state[at:]``, all of it finite."""
    good = 0 <= state[at + ROWS] <= MEMORY and 0 <= state[at + EVENT] <= QUIET
    for way in range(OF_INSTANT, OF_SWITCHED + 1):
        good = good and 0 <= state[at + way] <= HIGHEST
    good = good and 0 <= state[at + OF_RUN] <= RUN_HIGHEST
    good = good and 0 <= state[at + EVENT_ROWS] <= LONGEST and state[at + PEAK] >= 0
    for part in range(at + LAST_TS, at + LAST_TS + _PARTS):
        good = good and 0 <= state[part] < 1 << _PART_BITS
    if state[at + ROWS] > 0:
        for way in WAYS:
            good = good and LEVELS[0] <= state[at + way] <= LEVELS[1]
            for gap in (state[at + way + 1], state[at + way + 2]):
                good = good and 0.9 * GAPS[0] <= gap <= 1.1 * GAPS[1]
    for unit in range(at + SCALARS, at + SCALARS + width):
        for signed in (MEAN, WEIGHTED):
            good = good and abs(state[unit + signed * width]) <= _FAR
        for size in (DEVIATION, SPREAD, SIZE, USUAL):
            good = good and 0 <= state[unit + size * width] <= _FAR
        good = good and 0 <= state[unit + COUNT * width] <= LEARNED
        good = good and abs(state[unit + LATEST * width]) <= MOST
        good = good and abs(state[unit + RUN * width]) <= LONGEST  # below 0: see ``judging``
        good = good and 0 <= state[unit + APART * width] <= _MOST_APART
    return good

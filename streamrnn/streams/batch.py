"""Rows on their way through a step, and what is said of each."""

from typing import NamedTuple

import numpy as np

from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import Network, aligned
from streamrnn.kernels.simd import LANES
from streamrnn.streams.rarity import WORK
from streamrnn.wire.frame import blank_predictions

ROWS = 128  # most rows in a batch: enough that four different streams meet, few enough to stay in L1

SHARED = 2.0  # from this score on it is told which outputs have to do with it


class Batch(NamedTuple):
    """Up to ``rows`` rows: what comes in, and what goes out."""

    rows: int  # ROWS, or fewer where each may be answered by many
    # in
    slot: np.ndarray  # (ROWS,) int64
    flags: np.ndarray  # (ROWS,) uint16: of the frame, for this row
    received: np.ndarray  # (ROWS,) int64: ns
    values: np.ndarray  # (ROWS * in_width,) float32: physical units; lanes past the channels are zero
    # in and out
    said: np.ndarray  # (ROWS,) of PREDICTION: with number and time of the row, what is said of it
    # out
    outcome: np.ndarray  # (ROWS,) uint8
    answers: np.ndarray  # (ROWS,) uint8: which of OWN and SEVERAL a row that was predicted gets
    begins: np.ndarray  # (ROWS,) uint8: 1 for a row that an event begins with
    reset: np.ndarray  # (ROWS,) int8: why a row began its stream anew, index into RESETS; -1 = it did not
    channel: np.ndarray  # (ROWS,) int32: whose value a row was turned away for, or NO_CHANNEL
    shares: np.ndarray  # (ROWS * out_width,) float32: of the outputs in a score of SHARED or more
    predicted: np.ndarray  # (ROWS * out_width,) float32: physical units
    # (ROWS * 2 * bands * out_width,) float32: physical units; of a row low and high of each band
    bands: np.ndarray
    # between
    origin: np.ndarray  # (ROWS,) int64: the row's place in what is being fed
    next: np.ndarray  # (ROWS,) int64: the next row of the same stream, or -1
    number: np.ndarray  # (1,) int64: how many batches there were


class TileLanes(NamedTuple):
    """The lanes of the tile that a worker steps: what each writes, for which row, and what of."""

    work: int  # the word at which the worker's records to work in begin
    following: np.ndarray  # (TILE_STREAMS,) int64: the row to prepare next of the stream in hand, or -1
    row: np.ndarray  # (TILE_STREAMS,) int64: the row of the batch
    slot: np.ndarray  # (TILE_STREAMS,) int64: of its stream
    old: np.ndarray  # (TILE_STREAMS,) int64: the word at which the record begins that it goes on from
    new: np.ndarray  # (TILE_STREAMS,) int64: and the one that is written, a record to work in
    place: np.ndarray  # (TILE_STREAMS,) int64: in the past of its stream, of the newest row
    kept: np.ndarray  # (TILE_STREAMS,) int64: how many rows there are in it to look back to
    source: np.ndarray  # (TILE_STREAMS,) int64: the word at which the old hidden state begins
    target: np.ndarray  # (TILE_STREAMS,) int64: and the new one
    shows: np.ndarray  # (TILE_STREAMS,) uint8: what the row is to the correction of its forecast
    imagined: np.ndarray  # (TILE_STREAMS,) uint8: 1 for a missing row filled in before it
    reset: np.ndarray  # (TILE_STREAMS,) int64: index into stats.RESETS, or -1
    measured: np.ndarray  # (TILE_STREAMS,) uint8: 1 for a row whose score is still to be settled
    rated: np.ndarray  # (rarity.WORK,) float32: what the scores of all lanes are settled with
    compared: np.ndarray  # (TILE_STREAMS,) int64: channels of the row in its residual, 0 = it has none
    squares: np.ndarray  # (TILE_STREAMS * out_width,) float64: of what these differ by from the forecast


def make_batch(network: Network, rows: int = ROWS, bands: int = 0) -> Batch:
    """``bands``: how many a forecast has."""

    def per_row(dtype: type) -> np.ndarray:
        return np.zeros(ROWS, dtype)

    return Batch(
        rows=rows,
        slot=per_row(np.int64),
        flags=per_row(np.uint16),
        received=per_row(np.int64),
        values=aligned(ROWS * network.in_width),
        said=blank_predictions(ROWS),
        outcome=per_row(np.uint8),
        answers=per_row(np.uint8),
        begins=per_row(np.uint8),
        reset=per_row(np.int8),
        channel=per_row(np.int32),
        shares=np.zeros(ROWS * network.out_width, np.float32),
        predicted=aligned(ROWS * network.out_width),
        bands=aligned(ROWS * 2 * bands * network.out_width),
        origin=per_row(np.int64),
        next=per_row(np.int64),
        number=np.zeros(1, np.int64),
    )


def make_tile(out_width: int = LANES, work: int = 0) -> TileLanes:
    """``work``: see ``TileLanes``."""
    sizes = {"rated": WORK, "squares": TILE_STREAMS * out_width}
    dtypes = {
        **dict.fromkeys(("shows", "imagined", "measured"), np.uint8),
        "rated": np.float32,
        "squares": np.float64,
    }
    lanes = TileLanes._fields[1:]
    return TileLanes(
        work, *(np.zeros(sizes.get(name, TILE_STREAMS), dtypes.get(name, np.int64)) for name in lanes)
    )

"""The self-check of an import: the original library and the engine run the same rows, and are compared."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn.engine.engine import Engine
from streamrnn.foreign.network import Foreign, Witness
from streamrnn.model.model import Model
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted
from streamrnn.settings.sections import Faults

CHECK_ROWS = 1000  # or windows
LAST_OF = 32  # rows of a sequence of which only the last answer is given
TOLERANCE = 1e-4
LEAST_SCALE = 1e-3  # of the sum of an output's weights
# what the witness of a library runs, where that is not the file itself
RUN_AS = {"PyTorch": "PyTorch's modules in that order", "Keras": "Keras's layers"}


def compare(
    find_witness: Callable[[Path, Foreign], Witness | None], path: Path, foreign: Foreign, model: Model
) -> tuple[float | None, str]:
    """The largest difference between the library and the engine over seeded noise, and it in words.

    Over one sequence, or as many windows where the file is of windows, or answers only the last row; each
    is a stream here. Relative to the largest value of each output, or to a thousandth of what the head's
    weights add up to if that is more. Raises ModelError for a difference above TOLERANCE.
    """
    library = foreign.library
    try:
        with hushed():
            witness = find_witness(path, foreign)
            if witness is None:
                said = f"this Python cannot run files of {library}, so nothing was compared"
                return None, f"self-check: {said}"
            rows, theirs = _answers(witness, foreign, model.window)
    except Exception as error:
        why = quoted(str(error))
        return None, f"self-check: {library} itself refuses to run the file, so nothing was compared ({why})"
    floor = np.abs(foreign.head_weight).sum(1, dtype=np.float64)
    if foreign.output_mean is not None and foreign.output_std is not None:
        mean, std = (np.tile(side, foreign.horizon) for side in (foreign.output_mean, foreign.output_std))
        theirs = (theirs - mean) / std
        floor += np.abs(mean / std)  # float32 rounds what this was added to
    if model.window == rows.shape[1] > 1:  # one stream, each answer of which is that of a window
        whole = np.concatenate([rows[0], rows[1:, -1]])
        ours = run_sequences(model, whole[np.newaxis])[0, model.window - 1 :, np.newaxis]
        theirs = theirs[:, -1:]
    else:
        ours = run_sequences(replace(model, window=0), rows)[:, -theirs.shape[1] :]
    with np.errstate(invalid="ignore"):
        scale = np.maximum(np.abs(theirs).max((0, 1)), LEAST_SCALE * floor + np.finfo(np.float32).tiny)
        difference = float((np.abs(ours - theirs) / scale).max())
    many = f"{CHECK_ROWS:,} windows of {rows.shape[1]}" if len(rows) > 1 else f"{CHECK_ROWS:,}"
    if not difference <= TOLERANCE:
        what = f"over {many} rows the model differs from {library} by {difference:.2g}"
        raise ModelError(f"self-check: {what}, more than {TOLERANCE:g}; it was not written")
    said = f"largest difference to {RUN_AS.get(library, library)} over {many} rows: {difference:.2g}"
    return difference, f"self-check: {said}"


def _answers(witness: Witness, foreign: Foreign, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised sequences (B, T, C) float32, and the library's answers to them, float64."""
    if witness.steps is None and not (window or foreign.window):
        rows, theirs = _ask(witness, foreign, noise(CHECK_ROWS, foreign.sizes[0])[np.newaxis])
        if theirs.shape[1] > 1:
            return rows, theirs
    steps = witness.steps or window or foreign.window or LAST_OF
    whole = noise(CHECK_ROWS + steps - 1, foreign.sizes[0])
    windows = np.lib.stride_tricks.sliding_window_view(whole, steps, 0).transpose(0, 2, 1)
    return _ask(witness, foreign, np.ascontiguousarray(windows))


def _ask(witness: Witness, foreign: Foreign, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` as float32 has them once they were scaled, and the library's answers to them."""
    given = rows
    if foreign.input_mean is not None and foreign.input_std is not None:
        given = (rows * foreign.input_std + foreign.input_mean).astype(np.float32)
        rows = ((given - np.float64(foreign.input_mean)) / foreign.input_std).astype(np.float32)
    theirs = np.asarray(witness.answers(given), np.float64)
    if theirs.shape not in (
        (*rows.shape[:2], len(foreign.head_bias)),
        (len(rows), 1, len(foreign.head_bias)),
    ):
        raise ValueError(f"it gave {theirs.shape}")
    return rows, theirs


def rounding(model: Model, whole: Model) -> float:
    """The largest difference that rounded weights make over seeded noise, relative to an output's largest."""
    rows = noise(CHECK_ROWS, len(model.channels))
    ours, theirs = run_standardised(model, rows), run_standardised(whole, rows)
    scale = np.abs(theirs).max(0) + np.finfo(np.float32).tiny
    return float((np.abs(ours - theirs) / scale).max())


def noise(rows: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, channels), np.float32)


def run_standardised(model: Model, rows: np.ndarray) -> np.ndarray:
    """What ``model`` gives for each of ``rows`` (n, C) float32, one sequence, both without its scaling."""
    return run_sequences(model, rows[np.newaxis])[0]


def run_sequences(model: Model, sequences: np.ndarray) -> np.ndarray:
    """What ``model`` gives for each row of ``sequences`` (B, T, C) float32, each a stream, unscaled."""
    inputs, outputs = len(model.channels), len(model.outputs)
    bare = replace(
        model,
        normalisation="none",
        input_mean=np.zeros(inputs),
        input_std=np.ones(inputs),
        output_mean=np.zeros(outputs),
        output_std=np.ones(outputs),
    )
    count, steps, _ = sequences.shape
    engine = Engine(bare, count, Faults())
    streams = np.tile(np.arange(count), steps)
    fed = engine.feed(
        [f"check {k}" for k in range(count)],
        streams,
        np.ascontiguousarray(sequences.transpose(1, 0, 2)).reshape(-1, inputs),
    )
    values = fed.several if model.head_rows > 1 else fed.values
    return values.reshape(steps, count, -1).transpose(1, 0, 2)


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps what libraries write to standard error, as warnings of their own, from the terminal."""
    with tempfile.TemporaryFile() as elsewhere:
        kept = os.dup(2)
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

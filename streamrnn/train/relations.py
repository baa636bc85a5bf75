"""What each relation of input to output learns from, how, and what its errors are."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.train.asked_of_relations import ROW_BY_ROW
from streamrnn.train.data.dataset import Dataset, load
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.sequences import load_sequences, windows
from streamrnn.train.descent import Course, TrainSettings
from streamrnn.train.fit import fit, residuals
from streamrnn.train.fit_decoder import curve_residuals, decoded_residuals, fit_curves, fit_decoder
from streamrnn.train.fit_spread import fit_with_spread
from streamrnn.train.judge.linear import Linear
from streamrnn.train.judge.simple_methods import (
    Simple,
    curve_methods,
    decoder_methods,
    row_methods,
    vector_methods,
)
from streamrnn.train.net.decoder import CurveNetwork, EncoderDecoder
from streamrnn.train.net.network import NetworkShape, RowNetwork

Trained = RowNetwork | CurveNetwork | EncoderDecoder
Progress = Callable[[int], object]  # is told the rows of every block read


class Relation(NamedTuple):
    """How a relation of input to output is trained."""

    # of files, rows of a prediction, a seed
    load: Callable[[DataOptions, int | None, int, Progress], Dataset]
    fit: Callable[
        [Dataset, NetworkShape, TrainSettings, Linear | None, Callable[[Course], object]],
        tuple[Trained, Course],
    ]
    simple: Callable[[Dataset, Callable[[float], object]], Simple]  # what stands beside it
    unit: str  # that is learned from: "row" or "sequence"
    where: str  # its outputs are, with {ahead} or {horizon} rows
    reaches_back: bool  # whether the gradient goes back over rows before those of an answer


def _load_rows(options: DataOptions, _: int | None, __: int, progress: Progress) -> Dataset:
    forecasts = options.targets is None and options.ahead in (None, 1)  # its score can tell of a change
    return load(replace(options, watch=forecasts), progress)


def _load_by_sequence(relation: str) -> Callable[[DataOptions, int | None, int, Progress], Dataset]:
    def load_of(options: DataOptions, horizon: int | None, seed: int, progress: Progress) -> Dataset:
        return load_sequences(options, relation, horizon, seed, progress)

    return load_of


def _load_windows(options: DataOptions, horizon: int | None, _: int, progress: Progress) -> Dataset:
    if horizon is None:
        raise UserError("an encoder-decoder writes a number of rows; say how many with --horizon")
    dataset = load(replace(options, ahead=1), progress)
    if dataset.outputs == dataset.channels[: len(dataset.outputs)]:
        dataset = dataset._replace(target="next")
    return windows(dataset, horizon)


def _fit_rows(
    dataset: Dataset,
    shape: NetworkShape,
    settings: TrainSettings,
    start: Linear | None,
    report: Callable[[Course], object],
) -> tuple[RowNetwork, Course]:
    return (fit_with_spread if shape.spread else fit)(dataset, shape, settings, start, report)


RELATIONS = {
    ROW_BY_ROW: Relation(_load_rows, _fit_rows, row_methods, "row", "{ahead} ahead", True),
    "sequence-to-vector": Relation(
        _load_by_sequence("sequence-to-vector"),
        fit,
        vector_methods,
        "sequence",
        "at the end of each stream",
        False,
    ),
    "vector-to-sequence": Relation(
        _load_by_sequence("vector-to-sequence"),
        lambda dataset, shape, settings, _, report: fit_curves(dataset, shape, settings, report),
        curve_methods,
        "sequence",
        "{horizon} from the first row of each stream",
        False,
    ),
    "encoder-decoder": Relation(
        _load_windows,
        lambda dataset, shape, settings, _, report: fit_decoder(dataset, shape, settings, report),
        decoder_methods,
        "row",
        "the {horizon} that follow",
        True,
    ),
}


def load_dataset(
    options: DataOptions, relation: str, horizon: int | None, seed: int, progress: Progress
) -> Dataset:
    """The data of a relation; ``horizon`` is the rows that a prediction has, None by default.

    Raises UserError for what cannot be used.
    """
    return RELATIONS[relation].load(options, horizon, seed, progress)


def fit_network(
    dataset: Dataset,
    shape: NetworkShape,
    settings: TrainSettings,
    start: Linear | None,
    report: Callable[[Course], object],
) -> tuple[Trained, Course]:
    """A network of ``shape`` trained on a dataset; ``start`` is what its highway begins with."""
    return RELATIONS[shape.relation].fit(dataset, shape, settings, start, report)


def residuals_of(network: Trained, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction minus target, (n, K * O) float32 standardised, and which targets there are, (n, K * O) bool.

    Of all the validation part: with every row, after every row, or at the end of every sequence.
    """
    if isinstance(network, CurveNetwork):
        return curve_residuals(network, dataset)
    if isinstance(network, EncoderDecoder):
        return decoded_residuals(network, dataset)
    return residuals(network, dataset.validation, dataset.scaling)

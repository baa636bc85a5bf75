"""What each relation of input to output learns from, how, and what its errors are."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from streamrnn.errors import UserError
from streamrnn.train.data.dataset import Dataset, load
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.sequences import BY_SEQUENCE, load_sequences, windows
from streamrnn.train.descent import Course, Settings
from streamrnn.train.fit import fit, residuals
from streamrnn.train.fit_decoder import curve_residuals, decoded_residuals, fit_curves, fit_decoder
from streamrnn.train.judge.linear import Linear
from streamrnn.train.net.decoder import CurveNetwork, EncoderDecoder
from streamrnn.train.net.network import Network, Shape

Trained = Network | CurveNetwork | EncoderDecoder


def load_dataset(
    options: DataOptions, relation: str, horizon: int | None, seed: int, progress: Callable[[int], object]
) -> Dataset:
    """The data of a relation; ``horizon`` is the rows that a prediction has, None by default.

    Raises UserError for what cannot be used.
    """
    if relation in BY_SEQUENCE:
        return load_sequences(options, relation, horizon, seed, progress)
    if relation != "encoder-decoder":
        return load(options, progress)
    if horizon is None:
        raise UserError("an encoder-decoder writes a number of rows; say how many with --horizon")
    dataset = load(replace(options, ahead=1), progress)
    if dataset.outputs == dataset.channels[: len(dataset.outputs)]:
        dataset = dataset._replace(target="next")
    return windows(dataset, horizon)


def fit_network(
    dataset: Dataset,
    shape: Shape,
    settings: Settings,
    start: Linear | None,
    report: Callable[[Course], object],
) -> tuple[Trained, Course]:
    """A network of ``shape`` trained on a dataset; ``start`` is what its highway begins with."""
    if shape.relation == "vector-to-sequence":
        return fit_curves(dataset, shape, settings, report)
    if shape.relation == "encoder-decoder":
        return fit_decoder(dataset, shape, settings, report)
    return fit(dataset, shape, settings, start, report)


def residuals_of(network: Trained, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction minus target, (n, K * O) float32 standardised, and which targets there are, (n, K * O) bool.

    Of all the validation part: with every row, after every row, or at the end of every sequence.
    """
    if isinstance(network, CurveNetwork):
        return curve_residuals(network, dataset)
    if isinstance(network, EncoderDecoder):
        return decoded_residuals(network, dataset)
    return residuals(network, dataset.validation, dataset.scaling)

"""The model file's model of a network that was trained."""

from typing import Any

import numpy as np

from streamrnn.model.model import Model
from streamrnn.model.parts import Channel
from streamrnn.model.settings import SPREAD, SPREAD_START
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.net.network import Weights


def to_model(
    network: Weights, dataset: Dataset, spread_start: np.ndarray | None = None, **found: Any
) -> Model:
    """The model of a trained network; ``found`` are settings that do not follow from these.

    ``spread_start``, (O,), is where the running spread of a new stream begins, by default at 1.
    """
    shape, scaling, outputs = network.shape, dataset.scaling, len(dataset.names)
    settings = {
        "cell": shape.cell,
        "activation": shape.activation,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "highway": shape.highway,
        SPREAD: shape.spread,
        "channels": [_channel(name, dataset) for name in dataset.channels],
        "outputs": [_channel(name, dataset) for name in dataset.names],
        "sample_period_s": dataset.period_s,
        "relation": shape.relation,
        "horizon": shape.horizon,
        "target": dataset.target,
        "ahead": dataset.ahead,
        **found,
    }
    tensors = network.stated() | {
        "input.mean": scaling.input_mean,
        "input.std": scaling.input_std,
        "output.mean": scaling.output_mean[:outputs],
        "output.std": scaling.output_std[:outputs],
    }
    if shape.spread:
        tensors[SPREAD_START] = np.ones(outputs, np.float32) if spread_start is None else spread_start
    return Model.from_tensors(settings, tensors)


def _channel(name: str, dataset: Dataset) -> dict[str, Any]:
    return Channel(name, dataset.units.get(name, ""), dataset.offsets.get(name, 0.0)).stated()

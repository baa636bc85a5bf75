"""What a model file says of the errors of its forecasts."""

from typing import Any

from streamrnn.train.data.dataset import Dataset
from streamrnn.train.judge.calibration import calibrate, in_order
from streamrnn.train.judge.first_bands import first_bands
from streamrnn.train.judge.likelihood import errors_of
from streamrnn.train.judge.runs import usual_runs
from streamrnn.train.judge.switches import find_switches
from streamrnn.train.net.network import RowNetwork
from streamrnn.train.relations import Trained, residuals_of


def stated_of(network: Trained, dataset: Dataset) -> dict[str, Any]:
    """ "score" and "bands" of a model that forecasts the next row; nothing for a model of another kind."""
    if dataset.target != "next" or not isinstance(network, RowNetwork):
        return {}
    every, outputs = [*dataset.train, *dataset.validation], len(dataset.outputs)
    streams = in_order(residuals_of(network, dataset), dataset.validation)
    switches = find_switches(every, outputs)
    factors = None
    if network.shape.spread:
        factors = [one.factor for one in errors_of(network, dataset.validation, dataset.scaling)]
    told = {"runs": usual_runs(every, outputs), "switches": switches}
    return {"score": calibrate(streams, switches) | told, "bands": first_bands(streams, factors)}

"""JSON of networks that stand in for amplifiers: GuitarML's, and the LSTMs of NAM (Neural Amp Modeler)."""

from typing import Any

import numpy as np

from streamrnn.foreign.arrays import period_of, tensors_of, unused, whole_number
from streamrnn.foreign.lowering import lower
from streamrnn.foreign.modules import Module
from streamrnn.foreign.network import Foreign, Stage
from streamrnn.foreign.torch_modules import modules_of
from streamrnn.foreign.vectors import joined, passed, picked, rows, summed
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

MOST_UNITS, MOST_LAYERS, MOST_CHANNELS = 4096, 64, 4096
UNITS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


def read_guitarml(content: dict[str, Any]) -> Foreign:
    """CoreAudioML's SimpleRNN: a recurrent module rec, a linear one lin, and the first ``skip`` channels.

    Raises ModelError for another network, or tensors that are not what it says.
    """
    said, state = content["model_data"], content["state_dict"]
    if not isinstance(said, dict) or not isinstance(state, dict):
        raise ModelError('"model_data", "state_dict": expected objects')
    if said.get("model", "SimpleRNN") != "SimpleRNN" or said.get("unit_type") not in UNITS:
        kind = f"{quoted(said.get('model'))} of {quoted(said.get('unit_type'))}"
        raise ModelError(f'"model_data": a {kind} cannot be run; only a SimpleRNN of {", ".join(UNITS)}')
    modules: dict[str, Module] = {module.name: module for module in modules_of(tensors_of(state), "tanh")}
    if modules.keys() != {"rec", "lin"}:
        raise ModelError(f'"state_dict": modules {quoted(sorted(modules))}, expected rec and lin')
    rec, lin = modules["rec"], modules["lin"]
    if {stage.cell for stage in rec.stages} != {UNITS[said["unit_type"]]} or not lin.linear:
        raise ModelError(
            f'"state_dict": its tensors are not those of {quoted(said["unit_type"])} and a linear layer'
        )
    x = vector = rows(rec.takes)
    for stage in (*rec.stages, *lin.stages):
        vector = passed(vector, stage)
    skip = whole_number({"skip": 0} | said, "skip", MOST_CHANNELS, least=0)
    if skip:
        if skip > x.width or skip not in (1, vector.width):
            raise ModelError(
                f'"skip": {skip} of {x.width} channels cannot be added to {vector.width} outputs'
            )
        added = joined("skip", [picked(x, "skip", np.arange(skip))] * (vector.width // skip))
        vector = summed("skip", [vector, added])
    rate = said.get("samplerate", content.get("samplerate"))
    used = {"model_data", "state_dict", "samplerate"}
    return lower("GuitarML", vector, unused(content, used), sample_period_s=period_of(rate))


def read_nam(content: dict[str, Any]) -> Foreign:
    """NAM's LSTM (NeuralAmpModelerCore, NAM/lstm.cpp).

    Its weights are one list: of each layer PyTorch's two matrices side by side, (4 H, inputs + H), a bias,
    and the hidden and cell states to begin with; then the head's matrix and bias. Raises ModelError for
    another architecture, or a list of another length.
    """
    if content["architecture"] != "LSTM":
        raise ModelError(
            f'"architecture": {quoted(content["architecture"])} is no recurrent network; only LSTM is'
        )
    config = content["config"]
    if not isinstance(config, dict):
        raise ModelError('"config": expected an object')
    sizes = {"input_size": MOST_CHANNELS, "hidden_size": MOST_UNITS, "num_layers": MOST_LAYERS}
    channels, hidden, layers = (whole_number(config, key, most) for key, most in sizes.items())
    weights = tensors_of({"weights": content["weights"]})["weights"]
    needed = [4 * hidden * (inputs + hidden) + 6 * hidden for inputs in [channels] + [hidden] * (layers - 1)]
    outputs, odd = divmod(weights.size - sum(needed), hidden + 1)
    if weights.ndim != 1 or odd or outputs < 1:
        raise ModelError(
            f'"weights": {weights.shape} numbers are not those of {layers} layers of {hidden} units'
        )
    vector, start = rows(channels), 0

    def take(*shape: int) -> np.ndarray:
        nonlocal start
        start += int(np.prod(shape))
        return weights[start - int(np.prod(shape)) : start].reshape(shape)

    for k in range(layers):
        inputs = vector.width
        both, bias = take(4 * hidden, inputs + hidden), take(4 * hidden)
        layer = Layer(both[:, :inputs], both[:, inputs:], bias, np.zeros_like(bias))
        vector = passed(vector, Stage(f"layer {k}", layer, "lstm", initial=(take(hidden), take(hidden))))
    vector = passed(vector, Stage("head", Dense(take(outputs, hidden), take(outputs))))
    used = {"version", "metadata", "architecture", "config", "weights", "sample_rate"}
    period = period_of(content.get("sample_rate"))
    return lower("NAM", vector, unused(content, used), sample_period_s=period)

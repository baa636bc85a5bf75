"""Keras's recurrent layers and cells."""

from streamrnn.foreign.keras.activations import activation_of
from streamrnn.foreign.keras.calls import Given, LayerSettings, cells_within
from streamrnn.foreign.keras.layout import keras_stage
from streamrnn.foreign.keras.values import (
    CELLS,
    FLAT,
    LAST,
    ROWS,
    STATE,
    Context,
    Value,
    check_settings,
    take_weights,
    unlike_units,
)
from streamrnn.foreign.vectors import RowVector, passed
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

PLAIN_KEYS = ("activation", "use_bias")
KEYS = {  # the settings that each goes by
    "LSTM": (*PLAIN_KEYS, "recurrent_activation"),
    "GRU": (*PLAIN_KEYS, "recurrent_activation", "reset_after"),
    "SimpleRNN": PLAIN_KEYS,
}


def read_recurrent(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = _begun(context, layer, given)
    inner = layer._replace(path=f"{layer.path}/cell")
    return _answers(context, layer, _cell(context, inner, value.given))


def _cell(context: Context, layer: LayerSettings, vector: RowVector) -> RowVector:
    """After one recurrent layer or cell."""
    kind = layer.kind.removesuffix("Cell")
    cell, version = CELLS[kind], context.archive.version
    activation = activation_of(layer, "activation", version)
    gates = activation_of(layer, "recurrent_activation", version) if cell != "rnn" else "sigmoid"
    weights = take_weights(context, layer)
    after, bias = bool(layer.config.get("reset_after", False)), weights.get("bias")
    if weights["recurrent_kernel"].shape[:1] != (layer.config.get("units"),):
        raise unlike_units(layer, weights["recurrent_kernel"])
    if cell == "gru" and bias is not None and (bias.ndim == 2) != after:
        raise ModelError(f"{layer}: reset_after {after}, but a bias of shape {bias.shape}")
    stage = keras_stage(layer.name, cell, weights["kernel"], weights["recurrent_kernel"], bias, activation)
    stage = stage._replace(recurrent_activation=gates)
    return passed(vector, stage._replace(reset="before") if cell == "gru" and not after else stage)


def read_rnn(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    vector = _begun(context, layer, given).given
    for cell in cells_within(layer):
        if cell.kind.removesuffix("Cell") not in CELLS or not cell.kind.endswith("Cell"):
            raise ModelError(f"{cell}: not a cell of {', '.join(CELLS)}")
        check_settings(cell, KEYS[cell.kind.removesuffix("Cell")])
        vector = _cell(context, cell, vector)
    return _answers(context, layer, vector)


def _begun(context: Context, layer: LayerSettings, given: Given) -> Value:
    """The rows that a recurrent layer takes; what else it is given must be a state of the file's inputs."""
    value, *states = given.values + given.named.get("initial_state", [])
    if any(state.axes != FLAT for state in states):
        raise ModelError(
            f"{layer}: begins from a state that is computed, as a decoder does: it would need the end of a "
            "stream before it begins"
        )
    context.states.extend(f"{layer} {k}" for k, _ in enumerate(states))
    if layer.config.get("stateful"):
        context.remembers.append(str(layer))
    if value.axes != ROWS:
        if value.axes != LAST:
            raise ModelError(f"{layer}: takes no rows of channels; expected (batch, time, channels)")
        by = quoted(value.given.name)
        raise ModelError(
            f"layer {by}: answers once per sequence (return_sequences false), but {layer} follows"
        )
    return value


def _answers(context: Context, layer: LayerSettings, vector: RowVector) -> list[Value]:
    each = bool(layer.config.get("return_sequences"))
    if not each:
        context.last = layer.name
    outputs = [Value(vector, ROWS if each else LAST)]
    if layer.config.get("return_state"):
        outputs += [Value(vector, STATE), Value(None, STATE)]
    return outputs

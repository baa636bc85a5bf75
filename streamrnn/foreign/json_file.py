"""JSON files: RTNeural's list of Keras's layers, GuitarML's and NAM's networks, or PyTorch's state dict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from streamrnn.foreign.amplifiers import read_guitarml, read_nam
from streamrnn.foreign.arrays import tensors_of
from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError, Witness
from streamrnn.foreign.rtneural import read_layer_list
from streamrnn.foreign.torch_file import kept, network_of
from streamrnn.model.model_file import parse_json
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

SIZE_LIMIT = 1 << 24  # bytes; as Python objects they may take twenty times as many


class JsonKind(NamedTuple):
    """One kind of JSON file, known by its keys: how it is read, or why it cannot be."""

    keys: frozenset[str]
    read: Callable[[dict[str, Any]], Foreign] | str


KINDS = (
    JsonKind(frozenset({"model_data", "state_dict"}), read_guitarml),
    JsonKind(frozenset({"architecture", "config", "weights"}), read_nam),
    JsonKind(frozenset({"layers"}), read_layer_list),
    JsonKind(
        frozenset({"class_name", "config"}),
        "is the architecture of a Keras model, as to_json() gives it, and holds no weights; save the whole "
        "model with model.save('net.keras')",
    ),
    JsonKind(
        frozenset({"modelTopology"}),
        "is a model of TensorFlow.js, whose weights are in other files; save the model that it was made of "
        "with model.save('net.keras')",
    ),
)


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the JSON file at ``path``. Raises ModelError, and OptionsError for --dense."""
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise ModelError(f"{size:,} bytes of JSON, at most {SIZE_LIMIT:,} are read; use safetensors")
    content = parse_json(path.read_bytes(), "file")
    if not isinstance(content, dict) or not content:
        raise ModelError('expected an object with "layers", or with the tensors of a state dict')
    for kind in KINDS:
        if kind.keys <= content.keys():
            if isinstance(kind.read, str):
                raise ModelError(kind.read)
            if options.dense or options.activation or options.ignore:
                raise OptionsError("--dense, --activation, --ignore: the file says all of it; leave them out")
            return kind.read(content)
    if astray := [name for name, values in content.items() if not isinstance(values, list | int | float)]:
        known = "RTNeural (layers), GuitarML (model_data, state_dict) and NAM (architecture, config, weights)"
        raise ModelError(
            f"{', '.join(map(quoted, astray[:12]))}: no tensors of a state dict; of other JSON, that of "
            f"{known} can be imported"
        )
    return network_of("JSON", tensors_of(kept(content, options.ignore)), options)


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """None: those that read these files are libraries for C++."""
    return None

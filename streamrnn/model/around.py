"""What a model file says of what stands around its recurrent layers, checked, and the tensors for it.

Dense layers stand in front of them, behind them and between two of them; skips lead past some of them.
"""

from collections.abc import Mapping
from typing import Any

from streamrnn.model.activations import activation_problems
from streamrnn.model.stated import quoted

DENSE = ("before", "after")  # the lists of dense layers
BETWEEN = "between"  # a list of lists: behind each recurrent layer but the last
SKIPS = "skips"  # pairs [from, to]
SKIPS_LIMIT = 1024
DENSE_LIMIT = 256  # dense layers in a list
UNITS = (1, 65535)

_FORM = '{"units", "activation"}'


def dense_problems(where: str, layers: object) -> list[str]:
    """What is wrong with the list of ``{"units", "activation"}`` that stands ``where``."""
    if not isinstance(layers, list) or len(layers) > DENSE_LIMIT:
        return [f"{where}: expected a list of up to {DENSE_LIMIT} {_FORM}, found {quoted(layers)}"]
    problems, (low, high) = [], UNITS
    for k, layer in enumerate(layers):
        if not isinstance(layer, dict) or set(layer) != {"units", "activation"}:
            problems.append(f"{where}[{k}]: expected {_FORM}, found {quoted(layer)}")
            continue
        units, activation = layer["units"], layer["activation"]
        if type(units) is not int or not low <= units <= high:
            problems.append(f"{where}[{k}]: expected {low} to {high} units, found {quoted(units)}")
        problems += activation_problems(activation, f"{where}[{k}]", of_vectors=True)
    return problems


def between_problems(lists: object, layers: int) -> list[str]:
    """What is wrong with the lists of dense layers between so many recurrent ones."""
    if layers == 1 and isinstance(lists, list) and lists:
        return [f'"{BETWEEN}": there is but one recurrent layer; leave it out']
    if not isinstance(lists, list) or (lists and len(lists) != layers - 1):
        expected = f"a list of {layers - 1} lists of {_FORM}, one behind each recurrent layer but the last"
        return [f'"{BETWEEN}": expected {expected}, found {quoted(lists)}']
    return [
        problem for k, dense in enumerate(lists) for problem in dense_problems(f'"{BETWEEN}"[{k}]', dense)
    ]


def dense_lists(settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All lists of dense layers in checked settings, by what stands before the names of their tensors."""
    between = {f"{BETWEEN}.{k}": dense for k, dense in enumerate(settings[BETWEEN])}
    return {"before": settings["before"], **between, "after": settings["after"]}


def dense_shapes(
    settings: Mapping[str, Any], inputs: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """The shapes of their tensors in a network of so many channels; and how many values each list gives."""
    shapes, widths = dict[str, tuple[int, ...]](), dict[str, int]()
    for key, dense in dense_lists(settings).items():
        width = inputs if key == "before" else settings["hidden"]
        for k, layer in enumerate(dense):
            shapes[f"{key}.{k}.weight"] = (layer["units"], width)
            shapes[f"{key}.{k}.bias"] = (layer["units"],)
            width = layer["units"]
        widths[key] = width
    return shapes, widths


def skip_problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with the list of ``[from, to]``, where nothing else is."""
    skips, layers = settings[SKIPS], settings["layers"]
    ends = f"a later one, 2 to {layers + 1}" if layers > 1 else "2, which is behind the only layer"
    form = f"a list of up to {SKIPS_LIMIT} pairs [from, to], from a layer or 0 to {ends}"
    if not isinstance(skips, list) or len(skips) > SKIPS_LIMIT:
        return [f'"{SKIPS}": expected {form}, found {quoted(skips)}']
    problems, hidden = [], settings["hidden"]
    _, widths = dense_shapes(settings, len(settings["channels"]))
    for k, skip in enumerate(skips):
        if not isinstance(skip, list) or [type(end) for end in skip] != [int, int]:
            problems.append(f'"{SKIPS}"[{k}]: expected [from, to], found {quoted(skip)}')
            continue
        begin, end = skip
        if not 0 <= begin < end <= layers + 1 or end < 2:
            problems.append(f'"{SKIPS}"[{k}]: expected {form}, found {quoted(skip)}')
            continue
        if skip in skips[:k]:
            problems.append(f'"{SKIPS}"[{k}]: {quoted(skip)} is there already; remove it')
        given = hidden if begin else widths["before"]
        taken = hidden if end > layers else widths.get(f"{BETWEEN}.{end - 2}", hidden)
        if given != taken:
            problems.append(
                f'"{SKIPS}"[{k}]: {quoted(skip)} adds {given} values to {taken}; they must be as many'
            )
    return problems

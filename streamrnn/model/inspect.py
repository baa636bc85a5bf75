"""What is in a model, for programs (a dict) and for people (a table)."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.model.around import BETWEEN, DENSE, SKIPS
from streamrnn.model.cells import MIXED, Cell, cells_of_layers
from streamrnn.model.model import Model
from streamrnn.model.parts import Channel
from streamrnn.model.settings import DECODER, NORMALISATION, SPREAD_START, with_defaults

SHOWN = 80  # characters of one fact about the training


def describe_model(model: Model, path: str | Path) -> dict[str, Any]:
    """A JSON-ready description of ``model``, which was read from ``path``: its settings, and what follows.

    ``parameters`` counts weights and biases; ``multiply_adds`` those of one row of one stream, and
    ``multiply_adds_written`` those of all rows of a prediction that is written row by row; ``state_bytes``
    the states that its cells carry, and the frames that its highway looks back to. Where there is a
    ``window``, recurrent layers take ``steps_per_row``, and there are as many states. ``rounding`` is there
    where recurrent weights are rounded: the root mean square of what by, over theirs. ``spread_start`` and
    ``degrees_of_freedom``, a number for each output, are there where the network says its spread.
    An optional setting is there where it is not the default.
    """
    beside = (*NORMALISATION, SPREAD_START)
    sizes = {name: array.size for name, array in model.tensors().items() if name not in beside}
    weights = {name: size for name, size in sizes.items() if "weight" in name}
    from_nothing = model.relation == "vector-to-sequence"  # each prediction is, and no state is kept
    writing = [size for name, size in weights.items() if from_nothing or name.startswith(DECODER)]
    steps = max(model.window, 1)
    of_a_unit = sum(len(cell.states) for cell in model.cells_of_layers)
    states = 0 if from_nothing else of_a_unit * model.hidden * steps
    past = max(model.highway - 1, 0) * len(model.channels)
    of_the_file = {"file": str(path), "fingerprint": model.fingerprint}
    return (
        of_the_file
        | model.settings()
        | {
            "parameters": sum(sizes.values()),
            "multiply_adds": _multiply_adds(weights, steps) - sum(writing),
            **({"steps_per_row": steps} if model.window else {}),
            **({"multiply_adds_written": model.horizon * sum(writing)} if writing else {}),
            **({"rounding": _rounding(model)} if model.weights != "float32" else {}),
            **(_describe_spread(model) if model.spread else {}),
            "state_bytes": (states + past) * np.dtype(np.float32).itemsize,
            "channels": _describe_channels(model.channels, model.input_mean, model.input_std),
            "outputs": _describe_channels(model.outputs, model.output_mean, model.output_std),
        }
    )


def _multiply_adds(weights: dict[str, int], steps: int) -> int:
    """Of a row, for which recurrent layers take so many steps."""
    return sum(
        size * (steps if name.startswith(("weight_", BETWEEN)) else 1) for name, size in weights.items()
    )


def _describe_spread(model: Model) -> dict[str, list[float]]:
    unit = model.output_std.astype(float)
    return {
        "spread_start": (model.spread_start * unit).tolist(),
        "degrees_of_freedom": model.spread_shape.astype(float).tolist(),
    }


def _rounding(model: Model) -> float:
    """What a step's recurrent weights differ by from those of the file."""
    run = model.as_run().tensors()
    both = [
        (array, run[name]) for name, array in model.tensors().items() if name in run and "weight_" in name
    ]
    off, all_ = (
        sum(float(np.square(values, dtype=np.float64).sum()) for values in each)
        for each in ([a - b for a, b in both], [a for a, _ in both])
    )
    return float(np.sqrt(off / all_)) if all_ else 0.0


def format_description(description: dict[str, Any]) -> str:
    """The table that ``streamrnn inspect`` prints of ``describe_model``'s result."""
    cells = cells_of_layers(with_defaults(description))
    network = MIXED if description["cell"] == MIXED else cells[0].title
    period = description["sample_period_s"]
    multiply_adds = f"{description['multiply_adds']:,} per {'row' if 'window' in description else 'step'}"
    if written := description.get("multiply_adds_written"):
        multiply_adds += f", {written:,} per prediction"
    facts = [
        ("file", description["file"]),
        ("fingerprint", description["fingerprint"]),
        ("network", f"{network}, {description['layers']} x {description['hidden']} hidden units"),
        *_facts_of_layers(description, cells),
        *_optional_facts(description),
        ("relation", description["relation"]),
        ("horizon", f"{description['horizon']}"),
        ("target", description["target"]),
        ("sample period", f"{period:g} s" if period else "unknown"),
        ("normalisation", description["normalisation"]),
        ("parameters", f"{description['parameters']:,}"),
        ("multiply-adds", multiply_adds),
        ("state", f"{description['state_bytes']:,} bytes per stream"),
    ]
    if score := description.get("score"):
        facts.append(("anomaly", f"from a score of {score['threshold']:g} on"))
    if bands := description.get("bands"):
        facts.append(("bands", f"of new streams, as {bands['rows']:,} validation rows say"))
    parts = [align([list(fact) for fact in facts], "<<")]
    for title, key in (("channel", "channels"), ("output", "outputs")):
        rows = [
            [c["name"], c["unit"], f"{c['mean']:.{12 if 'offset' in c else 6}g}", f"{c['std']:.6g}"]
            for c in description[key]
        ]
        parts.append(align([[title, "unit", "mean", "std"], *rows], "<<>>"))
    if errors := description.get("errors"):
        names = [output["name"] for output in description["outputs"]]
        each = zip(names, errors["mean"], errors["std"], strict=True)
        title = f"error on {errors['rows']:,} rows"
        parts.append(
            align([[title, "mean", "std"], *([n, f"{m:.6g}", f"{s:.6g}"] for n, m, s in each)], "<>>")
        )
    if description.get("spread"):
        of_each = zip(description["spread_start"], description["degrees_of_freedom"], strict=True)
        told = [
            [output["name"], f"{start:.4g}", f"{nu:.3g}"]
            for output, (start, nu) in zip(description["outputs"], of_each, strict=True)
        ]
        parts.append(align([["spread of errors", "at first", "degrees of freedom"], *told], "<>>"))
    if runs := (score or {}).get("runs"):
        names = [output["name"] for output in description["outputs"]]
        told = [[name, f"{run:,} rows" if run else "any"] for name, run in zip(names, runs, strict=True)]
        parts.append(align([["equal readings that are usual", "at most"], *told], "<>"))
    if any(switches := (score or {}).get("switches") or []):
        names = [output["name"] for output in description["outputs"]]
        two = [name for name, switch in zip(names, switches, strict=True) if switch]
        parts.append(f"judged by their changes, as they have no more than two values: {', '.join(two)}")
    if training := description.get("training"):
        parts.append("training\n" + align([[_shown(key), _shown(training[key])] for key in training], "<<"))
    return "\n\n".join(parts)


def _facts_of_layers(description: dict[str, Any], cells: list[Cell]) -> list[tuple[str, str]]:
    """What few networks have in their layers, and around them."""
    facts = []
    if description["cell"] == MIXED:
        titles = [f"{cell.title}{' with reset before' if cell.reset == 'before' else ''}" for cell in cells]
        facts.append(("layers", ", ".join(titles)))
    elif cells[0].reset == "before":
        facts.append(("reset gate", "before the recurrent product"))
    lists = {key: description.get(key, []) for key in DENSE}
    between = {f"behind layer {k}": dense for k, dense in enumerate(description.get(BETWEEN, []), 1)}
    for where, dense in {"before": lists["before"], **between, "after": lists["after"]}.items():
        if dense:
            listed = ", ".join(f"{layer['units']} {layer['activation']}" for layer in dense)
            facts.append((f"dense {where}", listed))
    for begin, end in description.get(SKIPS, []):
        gives = f"what layer {begin} gives" if begin else "what goes into layer 1"
        takes = f"what goes into layer {end}" if end <= description["layers"] else "what the last layer gives"
        facts.append(("skip", f"{gives} is added to {takes}"))
    return facts


def _optional_facts(description: dict[str, Any]) -> list[tuple[str, str]]:
    """What few networks have."""
    facts = []
    if "rounding" in description:
        facts.append(
            (
                "recurrent weights",
                f"{description['weights']}, rounded by {description['rounding']:.2g} of them",
            )
        )
    if window := description.get("window"):
        facts.append(("window", f"the last {window} rows, {description['steps_per_row']} steps a row"))
    if frames := description.get("highway"):
        facts.append(("highway", f"{frames} frame{'s' if frames > 1 else ''}"))
    if description.get("spread"):
        facts.append(("spread", "the head says that of the next row's error, Student's t"))
    offsets = {
        c["name"]: c["offset"] for c in description["channels"] + description["outputs"] if "offset" in c
    }
    if offsets:
        facts.append(("offsets", ", ".join(f"{name} {offset:.15g}" for name, offset in offsets.items())))
    if missing := description.get("missing"):
        facts.append(("missing values", ", ".join(missing)))
    if words := description.get("words"):
        facts.append(("words", ", ".join(f"{word} = {value:g}" for word, value in words.items())))
    if "ahead" in description:
        rows = description["ahead"]
        facts.append(("ahead", f"{rows} row{'s' if rows != 1 else ''}"))
    return facts


def _shown(value: object) -> str:
    """A value out of a file, on one line, with no character that a terminal would obey."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _describe_channels(channels: tuple[Channel, ...], mean: np.ndarray, std: np.ndarray) -> list[dict]:
    return [
        channel.stated() | {"mean": float(mean[k]) + channel.offset, "std": float(std[k])}
        for k, channel in enumerate(channels)
    ]


def align(rows: list[list[str]], sides: str) -> str:
    """Columns two spaces apart, each to its side: ``<`` left, ``>`` right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    )

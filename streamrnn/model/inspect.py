"""What is in a model, for programs (a dict) and for people (a table)."""

from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.model.model import GATES, Channel, Model


def describe_model(model: Model, path: str | Path) -> dict[str, Any]:
    """A JSON-ready description of ``model``, which was read from ``path``.

    ``parameters`` counts weights and biases; ``multiply_adds`` those of one step of one stream;
    ``state_bytes`` its hidden state, and for lstm its cell state.
    """
    states = 2 if model.cell == "lstm" else 1
    rows = GATES[model.cell] * model.hidden
    inputs = [layer.weight_ih.shape[1] for layer in model.layers]
    multiply_adds = sum(rows * (size + model.hidden) for size in inputs) + model.head_weight.size
    biases = 2 * rows * len(model.layers) + model.head_bias.size
    return {
        "file": str(path),
        "fingerprint": model.fingerprint,
        "cell": model.cell,
        "activation": model.activation,
        "layers": len(model.layers),
        "hidden": model.hidden,
        "parameters": multiply_adds + biases,
        "multiply_adds": multiply_adds,
        "state_bytes": states * len(model.layers) * model.hidden * np.dtype(np.float32).itemsize,
        "relation": model.relation,
        "horizon": model.horizon,
        "target": model.target,
        "normalisation": model.normalisation,
        "sample_period_s": model.sample_period_s,
        "channels": _describe_channels(model.channels, model.input_mean, model.input_std),
        "outputs": _describe_channels(model.outputs, model.output_mean, model.output_std),
    }


def format_description(description: dict[str, Any]) -> str:
    """The table that ``streamrnn inspect`` prints of ``describe_model``'s result."""
    cell = description["cell"]
    network = f"{cell} ({description['activation']})" if cell == "rnn" else cell
    period = description["sample_period_s"]
    facts = [
        ("file", description["file"]),
        ("fingerprint", description["fingerprint"]),
        ("network", f"{network}, {description['layers']} x {description['hidden']} hidden units"),
        ("relation", description["relation"]),
        ("horizon", f"{description['horizon']}"),
        ("target", description["target"]),
        ("sample period", f"{period:g} s" if period else "unknown"),
        ("normalisation", description["normalisation"]),
        ("parameters", f"{description['parameters']:,}"),
        ("multiply-adds", f"{description['multiply_adds']:,} per step"),
        ("state", f"{description['state_bytes']:,} bytes per stream"),
    ]
    parts = [align([list(fact) for fact in facts], "<<")]
    for title, key in (("channel", "channels"), ("output", "outputs")):
        rows = [[c["name"], c["unit"], f"{c['mean']:.6g}", f"{c['std']:.6g}"] for c in description[key]]
        parts.append(align([[title, "unit", "mean", "std"], *rows], "<<>>"))
    return "\n\n".join(parts)


def _describe_channels(channels: tuple[Channel, ...], mean: np.ndarray, std: np.ndarray) -> list[dict]:
    return [
        {"name": channel.name, "unit": channel.unit, "mean": float(mean[k]), "std": float(std[k])}
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

"""The model that a foreign network becomes, with what its file does not carry from a user's options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError
from streamrnn.model.cells import CELL_KEYS, MIXED
from streamrnn.model.model import Model
from streamrnn.model.parts import Channel
from streamrnn.model.settings import SIZES
from streamrnn.model.values import SMALLEST_STD

# the mean and standard deviation of each of the named columns of a table
Measure = Callable[[str, Sequence[str]], Mapping[str, tuple[float, float]]]
Scaling = tuple[np.ndarray, np.ndarray]  # mean and standard deviation, (channels,) or (outputs,)

REMEDIES = {
    "channels": "what goes into the network, {C} names in its order, as in `--channels flow,pressure`",
    "target": "`--target next` if output k forecasts channel k one row ahead, `--target value` if the "
    "outputs are quantities of their own",
    "outputs": "what comes out of the network, {O} names in its order, as in `--outputs power`",
    "sample period": "the time from row to row, as in `--sample-period 1s`; 0 if it is not known",
    "scaling": "`--scaling recording.csv` to take means and deviations from the data that the network was "
    "trained on, `--mean 1.5,20 --std 0.5,3` to say them, `--scaling none` if the network takes and gives "
    "values as they are",
    "scaling of the outputs": "`--output-mean 20 --output-std 3`, or `--scaling none` if the network gives "
    "values as they are, or `--scaling recording.csv`",
}


def to_model(foreign: Foreign, options: ImportOptions, file: str, measure: Measure) -> Model:
    """The model of ``foreign``, out of ``file``, with what that does not carry from ``options``.

    Raises OptionsError naming every option that is missing or does not fit, ModelError for a model that
    cannot be, and what ``measure`` raises.
    """
    options = _with_carried(foreign, options)
    if problems := _names_problems(foreign, options) + _scaling_problems(foreign, options):
        raise OptionsError(*problems)
    channels, outputs = options.channels or (), options.outputs or ()
    inputs_by, outputs_by = _scale(foreign, options, channels, outputs, measure)
    scaled = inputs_by is not None or outputs_by is not None
    input_mean, input_std = inputs_by or _identity(len(channels))
    output_mean, output_std = outputs_by or _identity(len(outputs))
    return Model(
        **_cells(foreign),
        weights=options.weights,
        hidden=foreign.layers[0].weight_hh.shape[1],
        before=foreign.before,
        layers=foreign.layers,
        between=foreign.between,
        after=foreign.after,
        skips=foreign.skips,
        initial=tuple(map(np.stack, foreign.initial)),
        head_weight=foreign.head_weight,
        head_bias=foreign.head_bias,
        highway=0 if foreign.highway_weight is None else 1,
        highway_weight=np.zeros(0) if foreign.highway_weight is None else foreign.highway_weight,
        input_mean=input_mean,
        input_std=input_std,
        output_mean=output_mean,
        output_std=output_std,
        channels=tuple(map(Channel, channels)),
        outputs=tuple(map(Channel, outputs)),
        sample_period_s=options.sample_period_s or 0.0,
        relation="sequence-to-sequence",
        horizon=foreign.horizon,
        target=options.target or "",
        normalisation="standard" if scaled else "none",
        ahead=-1 if options.ahead is None else options.ahead,
        window=window_of(foreign, options),
        training={"imported": {"file": file, "library": foreign.library}},
    )


def _cells(foreign: Foreign) -> dict[str, Any]:
    """What a model says of its cells: of all layers at once, or where they differ of each."""
    first = foreign.cells[0]
    if any(cell != first for cell in foreign.cells):
        return {"cell": MIXED, "activation": "tanh", "cells": foreign.cells}
    return {"cell": first.name} | {key: getattr(first, key) for key in CELL_KEYS if key != "cell"}


def window_of(foreign: Foreign, options: ImportOptions) -> int:
    """The rows that an answer comes of, 0 = all: as the options say, else the file, if it can be."""
    if options.window is not None:
        return options.window
    return foreign.window if foreign.window <= SIZES["window"][1] else 0


def window_note(foreign: Foreign, window: int) -> str:
    """What to say of windows; "" = nothing."""
    theirs, most = foreign.window, SIZES["window"][1]
    of_file = f"the file is of windows of {theirs:,} rows, each from a state of zeros"
    cost = f"at a cost of {window} steps"
    if window and window == theirs:
        return f"{of_file}: so each row is answered, {cost}; --window 0 lets the state go on"
    if window:
        here = f"each row is answered from the last {window}, {cost}"
        return f"{of_file}; here {here}" if theirs else here
    if theirs:
        why = f", as windows have {most:,} at most" if theirs > most else ""
        return f"{of_file}; here the state goes on from row to row{why}"
    return ""


def _with_carried(foreign: Foreign, options: ImportOptions) -> ImportOptions:
    """``options``, with what the file carries and they do not say."""
    outputs, period = options.outputs, options.sample_period_s
    takes, gives = foreign.sizes
    if options.target == "next" and outputs is None and takes == gives:
        outputs = options.channels
    elif outputs is None:
        outputs = foreign.names
    period = foreign.sample_period_s if period is None else period
    return replace(options, outputs=outputs, sample_period_s=period)


def _names_problems(foreign: Foreign, options: ImportOptions) -> list[str]:
    """What is missing or wrong of the names, the target and the sample period."""
    takes, gives = foreign.sizes
    absent = [
        what
        for what, value in (
            ("channels", options.channels),
            ("target", options.target),
            ("outputs", options.outputs or (takes == gives and options.target != "value") or None),
            ("sample period", options.sample_period_s),
        )
        if value is None
    ]
    problems = [f"the {what}: {REMEDIES[what].format(C=takes, O=gives)}" for what in absent]
    for option, names, count, verb in (
        ("--channels", options.channels, takes, "takes"),
        ("--outputs", options.outputs, gives, "gives"),
    ):
        if names is not None and len(names) != count:
            problems.append(f"{option}: {len(names)} names, but the network {verb} {count} values")
    if options.target == "next" and gives > takes:
        problems.append(
            f"--target: the network gives {gives} values but takes {takes}, so they are not forecasts of "
            "its channels; use --target value"
        )
    if options.target == "next" and options.ahead not in (None, 1):
        problems.append("--ahead: with --target next the outputs lie 1 row ahead; leave it out")
    return problems


def _scaling_problems(foreign: Foreign, options: ImportOptions) -> list[str]:
    """What is missing or wrong of the means and deviations."""
    takes, gives = foreign.sizes
    problems = []
    for side, carried, mean, std, count in (
        ("--", foreign.input_mean, options.mean, options.std, takes),
        ("--output-", foreign.output_mean, options.output_mean, options.output_std, gives),
    ):
        if mean is None and std is None:
            continue
        if mean is None or std is None:
            problems.append(f"{side}mean and {side}std go together; give both, or neither")
            continue
        if carried is not None:
            problems.append(f"{side}mean, {side}std: the file has this scaling in it; leave them out")
        for option, values in ((f"{side}mean", mean), (f"{side}std", std)):
            if len(values) != count:
                problems.append(f"{option}: {len(values)} numbers, but {count} are needed")
        if min(std) < SMALLEST_STD:
            problems.append(f"{side}std: {min(std):g} is not above 0 (use 1 for what never varies)")
    if problems:
        return problems
    inputs_by, outputs_by = _said_scaling(foreign, options)
    known = inputs_by is not None and outputs_by is not None
    if options.scaling is None and not known:
        what = "scaling" if inputs_by is None else "scaling of the outputs"
        return [f"the {what}: {REMEDIES[what]}"]
    if options.scaling is not None and known:
        return ["--scaling: the file and the other options say all of it; leave it out"]
    return []


def _said_scaling(foreign: Foreign, options: ImportOptions) -> tuple[Scaling | None, Scaling | None]:
    """The scaling of inputs and outputs that file or options say; forecasts are scaled as their channels."""
    inputs_by = _pair(options.mean, options.std)
    outputs_by = _pair(options.output_mean, options.output_std)
    if inputs_by is not None and outputs_by is None and options.target != "value":
        outputs_by = inputs_by[0][: foreign.sizes[1]], inputs_by[1][: foreign.sizes[1]]
    carried = _pair(foreign.output_mean, foreign.output_std)
    return _pair(foreign.input_mean, foreign.input_std) or inputs_by, carried or outputs_by


def _scale(
    foreign: Foreign,
    options: ImportOptions,
    channels: Sequence[str],
    outputs: Sequence[str],
    measure: Measure,
) -> tuple[Scaling | None, Scaling | None]:
    """The scaling of inputs and outputs, None where values are taken as they are."""
    inputs_by, outputs_by = _said_scaling(foreign, options)
    if options.scaling in (None, "none"):
        return inputs_by, outputs_by
    unscaled = [*(channels if inputs_by is None else ()), *(outputs if outputs_by is None else ())]
    measured = measure(options.scaling or "", list(dict.fromkeys(unscaled)))

    def of(names: Sequence[str]) -> Scaling:
        mean, std = np.array([measured[name] for name in names]).T
        return mean, std

    return inputs_by or of(channels), outputs_by or of(outputs)


def _pair(
    mean: Sequence[float] | np.ndarray | None, std: Sequence[float] | np.ndarray | None
) -> Scaling | None:
    return None if mean is None or std is None else (np.asarray(mean), np.asarray(std))


def _identity(count: int) -> Scaling:
    return np.zeros(count), np.ones(count)

"""Commands that make model files."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from streamrnn.cli.shared import (
    COUNT,
    INTERRUPTED,
    MODEL,
    POSITIVE,
    TABLE,
    File,
    Finite,
    as_json_option,
    example,
)
from streamrnn.cli.table import INTERVALS, names, names_or_files, table_options, take_reading
from streamrnn.model.cells import CELLS, NAMES, trained_with
from streamrnn.model.settings import CHOICES, RELATIONS, SIZES
from streamrnn.train.asked_of_relations import ROW_BY_ROW


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Finite numbers between commas."""
    if value is None:
        return None
    try:
        found = tuple(float(number) for number in value.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise click.BadParameter(f"{value!r} is not a list of numbers between commas.")
    return found


def activations(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    from streamrnn.foreign.modules import DENSE_ACTIVATIONS

    found = names(ctx, param, value)
    if unknown := sorted(set(found or ()) - set(DENSE_ACTIVATIONS)):
        raise click.BadParameter(f"{', '.join(unknown)}: only {', '.join(DENSE_ACTIVATIONS)} are known here.")
    return found


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    from streamrnn.settings.values import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


weights_option = click.option(
    "--weights",
    type=click.Choice(CHOICES["weights"]),
    default="float32",
    help="Recurrent ones, as a step holds them: bfloat16 is quicker for one stream of 64 units or more.",
)

NETWORK = File(".safetensors", ".keras", ".h5", ".onnx", ".json", ".nam", ".msgpack")


@click.command(
    "import",
    epilog=example(
        "streamrnn import lstm.safetensors -o model.safetensors --channels flow,pressure \\",
        "    --target next --scaling recording.csv --sample-period 1s",
    ),
)
@click.argument("file", type=NETWORK, metavar="FILE")
@click.option("-o", "--output", type=MODEL, required=True, metavar="MODEL", help="Model file to write.")
@click.option("--channels", callback=names, metavar="A,B,...", help="Names of what goes in.")
@click.option(
    "--target",
    type=click.Choice(["next", "value"]),
    help="next: output k forecasts channel k one row ahead; value: outputs are quantities of their own.",
)
@click.option(
    "--outputs", callback=names, metavar="A,B,...", help="Names of what comes out.  [next: the channels]"
)
@click.option(
    "--ahead", type=click.IntRange(0, 65535), metavar="N", help="Rows from input to output.  [value: 0]"
)
@click.option(
    "--window",
    type=click.IntRange(*SIZES["window"]),
    metavar="N",
    help="Rows that each answer comes of, from a state of zeros, at a cost of N steps; 0: the state goes on."
    "  [as the file says]",
)
@click.option(
    "--scaling",
    type=TABLE,
    metavar="TABLE|none",
    help="Means and deviations are those of the columns of this CSV or parquet file; none: values go in and "
    "come out as they are.",
)
@click.option("--mean", callback=numbers, metavar="X,Y,...", help="Of the channels, instead of --scaling.")
@click.option("--std", callback=numbers, metavar="X,Y,...", help="Of the channels.")
@click.option(
    "--output-mean", callback=numbers, metavar="X,...", help="Of the outputs.  [next: the channels']"
)
@click.option(
    "--output-std", callback=numbers, metavar="X,...", help="Of the outputs.  [next: the channels']"
)
@click.option(
    "--sample-period",
    "sample_period_s",
    callback=seconds,
    metavar="DURATION",
    help="From row to row: 10ms, 1s, 5m, 1h; 0: not known.",
)
@click.option("--activation", type=click.Choice(["tanh", "relu"]), help="Of an nn.RNN.  [tanh]")
@click.option(
    "--dense", callback=activations, metavar="A,B,...", help="Activations of the nn.Linear layers.  [linear]"
)
@click.option(
    "--ignore", multiple=True, metavar="NAME", help="Tensors of a state dict to leave out: loss.*, step."
)
@click.option("--reset", type=click.Choice(["after", "before"]), help="Of a GRU in ONNX, against the file.")
@weights_option
@as_json_option
def import_(file: Path, output: Path, as_json: bool, **rest: Any) -> None:
    """Make a model file of a network from elsewhere.

    FILE is a state dict of PyTorch, or parameters of Flax or Haiku, in safetensors; Flax's msgpack; a Keras
    file (.keras, .h5); ONNX; or JSON of RTNeural, GuitarML or NAM, told by its content. What it does not say
    of channels, target, scaling and sample period, the options must. Where the original library is installed,
    both run the same rows and are compared.
    """
    from streamrnn.foreign.importing import import_model
    from streamrnn.foreign.network import ImportOptions
    from streamrnn.model.inspect import format_description

    imported = import_model(file, output, ImportOptions(**rest))
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(imported.checked, err=True)
    description = imported.describe(output)
    click.echo(json.dumps(description) if as_json else format_description(description))


def lanes(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if value % 16:
        raise click.BadParameter(f"{value} is not a multiple of 16.")
    return value


def is_given(option: str) -> bool:
    """Whether a user gave an option of the command that runs."""
    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def check_relation(relation: str, target: tuple[str, ...], horizon: int | None, rest: dict[str, Any]) -> None:
    """Raises UsageError for options that a relation cannot have, or must."""
    from streamrnn.train.asked_of_relations import problem

    given = [option for option in ("highway", "explain", "dropout", "spread") if rest[option]]
    given += [option for option in ("chunk", "max-step") if is_given(option.replace("-", "_"))]
    given += [] if target == ("next",) else ["target"]
    given += [] if horizon is None else ["horizon", *(["horizon 0"] if horizon == 0 else [])]
    if said := problem(relation, given):
        raise click.UsageError(f"{said}.")


@click.command(
    epilog=example(
        "streamrnn train valves.csv -o model.safetensors",
        "streamrnn train mon.csv tue.csv -o power.safetensors --target power --horizon 10 --cell gru",
        "streamrnn train runs.csv -o state.safetensors --relation sequence-to-vector --stream-column run \\",
        "    --target condition",
        "streamrnn train week.csv -o model.safetensors --exclude faults.csv",
        "streamrnn train load.csv -o day.safetensors --relation encoder-decoder --horizon 24",
    )
)
@click.argument("files", type=TABLE, nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", type=MODEL, required=True, metavar="MODEL", help="Model file to write.")
@click.option(
    "--relation",
    type=click.Choice([*RELATIONS]),
    default=ROW_BY_ROW,
    help="A prediction with every row; one of a whole stream; a curve from a row; the rows that follow.",
)
@click.option("--cell", type=click.Choice(NAMES), default="lstm", help="Recurrent cell.")
@click.option(
    "--activation",
    type=click.Choice(tuple(dict.fromkeys(cell.activation for cell in CELLS))),
    default="tanh",
    help="Of an rnn's units.",
)
@click.option("--hidden", type=click.IntRange(1, 4096), default=32, metavar="N", help="Units of a layer.")
@click.option("--layers", type=click.IntRange(1, 16), default=1, metavar="N", help="Layers.")
@weights_option
@click.option(
    "--highway",
    type=click.IntRange(0, 1024),
    metavar="N",
    help="Last rows that the head of a sequence-to-sequence sees besides.  [default: as many as help]",
)
@click.option(
    "--spread/--no-spread",
    help="Learn by likelihood, how far off each forecast may be as well: of all channels one row ahead only.",
)
@click.option("--channels", callback=names, metavar="A,B,...", help="Inputs.  [default: numeric columns]")
@click.option(
    "--exclude",
    type=File(*INTERVALS, path_type=str),
    callback=names_or_files,
    multiple=True,
    metavar="A,B,...|FILE",
    help="Columns that are no inputs; or a journal of events, of which those judged real or work are left "
    "out, or a CSV of start,end[,label[,stream]], times or numbers of rows. Repeatable.",
)
@click.option(
    "--only",
    type=File(*INTERVALS),
    multiple=True,
    metavar="FILE",
    help="Learn from such intervals alone; of a journal those judged normal.",
)
@click.option(
    "--target",
    callback=names,
    default="next",
    metavar="next|A,B,...",
    help="What to estimate: the next row of all channels, or these columns (of text in sequence-to-vector).",
)
@click.option(
    "--horizon",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Rows ahead that it lies  [default: next 1, columns 0]; the rows that an encoder-decoder writes "
    "[required], or a vector-to-sequence  [default: as in the longest stream].",
)
@click.option(
    "--validation",
    type=Finite(0.01, 0.9),
    default=0.2,
    metavar="SHARE",
    help="Of each stream's rows, the last ones; of sequences to a vector and the reverse, some of them.",
)
@click.option("--epochs", type=COUNT, default=200, metavar="N", help="Most passes over the rows.")
@click.option("--patience", type=COUNT, default=20, metavar="N", help="Epochs that may bring nothing.")
@click.option("--batch", callback=lanes, type=COUNT, default=16, metavar="N", help="Pieces side by side.")
@click.option("--chunk", type=COUNT, default=64, metavar="N", help="Rows that the gradient reaches back.")
@click.option("--rate", type=POSITIVE, default=1e-2, metavar="X", help="Highest learning rate, of Adam.")
@click.option(
    "--decay",
    type=Finite(min=0),
    default=1e-2,
    metavar="X",
    help="Weight decay; with --spread it begins higher.",
)
@click.option(
    "--dropout",
    type=Finite(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Of a layer's outputs, where no rows are written.",
)
@click.option("--clip", type=POSITIVE, default=1.0, metavar="X", help="Largest norm of a gradient.")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Same seed, same model.")
@table_options
@click.option(
    "--max-step",
    callback=seconds,
    metavar="DURATION",
    help="Longest time step that is no gap.  [default: half a sample period and a tick too long]",
)
@click.option("--explain", is_flag=True, help="Train each cell, and show how far its gradient reaches back.")
@as_json_option
def train(
    files: tuple[str, ...],
    channels: tuple[str, ...] | None,
    exclude: tuple[tuple[str, ...], tuple[Path, ...]],
    only: tuple[Path, ...],
    target: tuple[str, ...],
    relation: str,
    horizon: int | None,
    validation: float,
    max_step: float | None,
    as_json: bool,
    **rest: Any,
) -> int:
    """Make a model of a recording.

    FILE is CSV, gzipped or not, parquet, or a recording such as HDF5; of several, each is a stream of its
    own. The network learns
    from the first part of each stream and is validated on the rest, beside linear autoregression and
    persistence; where a target belongs to a whole stream, some streams are kept for that, and the methods
    beside it are others. Ctrl-C keeps the best so far.
    """
    # Products of a chunk are too small to share: OpenBLAS's threads, which it starts as NumPy is imported,
    # would spend more time waiting for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    columns, without = exclude
    if gone := [path for path in (*without, *only) if not path.is_file()]:
        raise click.UsageError(f"{gone[0]}: no such file of intervals.")
    if channels and columns:
        raise click.UsageError("--channels and --exclude exclude each other.")
    if rest["cell"] not in (able := trained_with(rest["activation"])):
        raise click.UsageError(f"--activation {rest['activation']} is for --cell {' or '.join(able)}.")
    check_relation(relation, target, horizon, rest)
    from streamrnn.train.data.recording import DataOptions
    from streamrnn.train.descent import TrainSettings
    from streamrnn.train.job import TrainOptions
    from streamrnn.train.job import train as run

    data = DataOptions(
        sources=files,
        channels=channels,
        exclude=columns,
        without=without,
        only=only,
        targets=None if target == ("next",) else target,
        ahead=horizon if relation == ROW_BY_ROW else None,
        validation=validation,
        reading=take_reading(rest),
        max_step_s=max_step,
    )
    how = ("epochs", "patience", "chunk", "rate", "decay", "dropout", "clip", "seed")
    settings = TrainSettings(lanes=rest.pop("batch"), **{name: rest.pop(name) for name in how})
    rows = None if relation == ROW_BY_ROW else horizon
    shown = sys.stderr.isatty()
    report = run(
        TrainOptions(data, relation=relation, horizon=rows, settings=settings, progress=shown, **rest)
    )
    click.echo(json.dumps(report.as_dict()) if as_json else report.text())
    return INTERRUPTED if report.interrupted else 0

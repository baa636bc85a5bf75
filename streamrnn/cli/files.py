"""Commands between files, sockets and the terminal."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from streamrnn.cli.shared import (
    ANY,
    COUNT,
    INTERRUPTED,
    MODEL,
    POSITIVE,
    SETTINGS,
    TABLE,
    File,
    as_json_option,
    client_keys,
    endpoint,
    example,
    levels,
    secret_option,
    server_key_option,
    speed_option,
)
from streamrnn.cli.table import count_rows_option, names, table_options, take_reading

PAGE = File(".html", path_type=str)


def share_or_rows(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A share below 1, or a whole number of rows."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0 < number < 1 or (number >= 1 and number.is_integer())):
        raise click.BadParameter(f"{value!r} is neither a share between 0 and 1 nor a whole number of rows.")
    return number


@click.command(
    epilog=example(
        "streamrnn replay valves.csv --report valves.html",
        "streamrnn replay valves.csv -m model.safetensors -o predictions.csv",
    )
)
@click.argument("source", type=TABLE, metavar="FILE|-")
@click.option(
    "-m",
    "--model",
    type=MODEL,
    help="Model file.  [default: model.safetensors beside FILE or here; else learned from FILE's first rows]",
)
@click.option(
    "--learn",
    metavar="SHARE|ROWS",
    callback=share_or_rows,
    help="Learn a model from so much of each stream, even if there is one.  [default: 0.4 or 50,000 rows]",
)
@click.option(
    "--channels", callback=names, metavar="A,B,...", help="Columns that the model learned is to take."
)
@click.option(
    "--exclude", callback=names, metavar="A,B,...", help="Columns that the model learned is to leave out."
)
@click.option("--save-model", type=MODEL, metavar="MODEL", help="Write the model that was learned.")
@click.option(
    "-o",
    "--output",
    type=TABLE,
    metavar="OUT",
    help="Where predictions go, - for stdout.  [default: -; without -m none to a terminal, but a report]",
)
@click.option(
    "--format",
    type=click.Choice(["csv", "ndjson", "parquet"]),
    help="Of OUT.  [default: by its name, or csv]",
)
@click.option("--report", type=PAGE, metavar="HTML", help="Write a page about it, with charts, to this file.")
@speed_option
@table_options
@count_rows_option
@click.option("--capacity", type=COUNT, default=65536, metavar="N", help="Most streams in the file.")
@click.option(
    "--every",
    type=click.IntRange(0, 2**31),
    metavar="N",
    help="Answer a sequence, or roll out, every N rows; 0: at its end.  [default: the file's, or 0]",
)
@click.option(
    "--horizon",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Rows that a rollout forecasts ahead; 0: none.  [default: the file's, or 0]",
)
@click.option(
    "--bands",
    callback=levels,
    metavar="P,P,...",
    help="Bands around forecasts that hold shares P of what comes: 0.5,0.9.  [default: the file's, or none]",
)
@click.option(
    "-c",
    "--config",
    "file",
    type=SETTINGS,
    metavar="FILE",
    help="TOML file, for its sections assemble, predict, faults and adapt.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON (stderr if OUT is -).")
def replay(
    file: Path | None,
    as_json: bool,
    every: int | None,
    horizon: int | None,
    bands: tuple[float, ...] | None,
    learn: float | None,
    channels: tuple[str, ...] | None,
    exclude: tuple[str, ...] | None,
    save_model: Path | None,
    **rest: Any,
) -> int:
    """Predict for every row of a file, as the daemon would.

    The file is CSV, gzipped or not, parquet, or a recording such as HDF5, told by its content; - is
    standard input. Columns are matched to the model's channels by name.

    Without a model one is learned from the first part of each stream. Those rows are flagged LEARNED, and
    no figure counts them. Ctrl-C while it learns goes on with the best so far, and a second one ends it.
    """
    asked_to_learn = {
        "--learn": learn,
        "--channels": channels,
        "--exclude": exclude,
        "--save-model": save_model,
    }
    if rest["model"] is not None and (given := [name for name, value in asked_to_learn.items() if value]):
        raise click.UsageError(f"{given[0]} is for a model that is learned here; leave -m out.")
    if channels and exclude:
        raise click.UsageError("--channels and --exclude exclude each other.")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in `train`, so that it learns the same
    from streamrnn.settings.config import load_config

    asked = {"predict.every": every, "predict.horizon": horizon, "predict.bands": bands}
    config = load_config(file, {key: value for key, value in asked.items() if value is not None})
    from streamrnn.replay import Learning, ReplayOptions
    from streamrnn.replay import replay as run

    if rest["output"] is None:
        rest["output"] = "-"
        if rest["model"] is None and rest["format"] is None:
            from streamrnn.replay.alone import shown

            rest["output"], rest["report"] = shown(rest["source"], rest["report"])
    summary = run(
        ReplayOptions(
            reading=take_reading(rest, config.assemble),
            faults=config.faults,
            predict=config.predict,
            memory=config.adapt.rows,
            progress=sys.stderr.isatty(),
            learning=Learning(learn, channels, exclude or (), save_model),
            **rest,
        )
    )
    if as_json:
        click.echo(json.dumps(summary.as_dict()), err=rest["output"] == "-")
    else:
        click.echo(summary.text(), err=True)
    return INTERRUPTED if summary.interrupted else 0


@click.command(epilog=example("streamrnn send valve.csv --to tcp://localhost:5555 --socket push --rate 1000"))
@click.argument("source", type=TABLE, metavar="FILE|-")
@click.option("--to", required=True, metavar="E", help="Endpoint of the receiver.")
@click.option("--bind", is_flag=True, help="Bind to E, for receivers that connect, instead of connecting.")
@click.option("--socket", type=click.Choice(["pub", "push"]), default="pub", help="Kind of socket.")
@click.option("-m", "--model", type=MODEL, help="Send this model's channels.  [default: numeric columns]")
@click.option("--rate", type=POSITIVE, metavar="ROWS", help="Rows per second.  [default: no limit]")
@speed_option
@click.option("--block", type=click.IntRange(1, 65535), default=1, metavar="N", help="Most rows in a frame.")
@click.option("--wait", type=click.IntRange(min=0), default=1, metavar="N", help="Begin at N subscriptions.")
@click.option("--timeout", type=POSITIVE, default=30.0, metavar="S", help="Longest wait for receivers.")
@table_options
@count_rows_option
@server_key_option
@secret_option
def send(
    to: str,
    bind: bool,
    rate: float | None,
    speed: float | None,
    server_key: str | None,
    secret: Path | None,
    **rest: Any,
) -> int:
    """Publish the rows of a file as frames.

    The file is CSV, gzipped or not, parquet, or a recording such as HDF5, told by its content; - is
    standard input.
    """
    if rate and speed:
        raise click.UsageError("--rate and --speed exclude each other.")
    to = endpoint(to, bind, "--to")
    keys = client_keys(server_key, secret)
    from streamrnn.client.send import SendOptions
    from streamrnn.client.send import send as run

    reading = take_reading(rest)
    progress = sys.stderr.isatty()
    options = SendOptions(
        to=to, bind=bind, rate=rate, speed=speed, reading=reading, progress=progress, keys=keys, **rest
    )
    return run(options)


@click.command(epilog=example("streamrnn tail tcp://localhost:5556 --json | jq .residual"))
@click.argument("address", metavar="E")
@as_json_option
@click.option("--topic", "topics", multiple=True, metavar="PREFIX", help="Of stream ids.  [default: all]")
@click.option("--limit", type=COUNT, metavar="N", help="Stop after N predictions.")
@click.option("-m", "--model", type=MODEL, help="Model file, to name the outputs.")
@click.option(
    "--bands", callback=levels, metavar="P,P,...", help="The daemon's predict.bands, where it has any."
)
@click.option("--bind", is_flag=True, help="Bind to E instead of connecting.")
@server_key_option
@secret_option
def tail(
    address: str,
    as_json: bool,
    topics: tuple[str, ...],
    limit: int | None,
    model: Path | None,
    bands: tuple[float, ...] | None,
    bind: bool,
    server_key: str | None,
    secret: Path | None,
) -> int:
    """Print predictions as they come."""
    address = endpoint(address, bind, "E")
    keys = client_keys(server_key, secret)
    from streamrnn.client.tail import tail as run

    return run(address, topics, as_json, limit, model, bind, keys, bands or ())


@click.command(epilog=example("streamrnn inspect model.safetensors", "streamrnn inspect bench.h5"))
@click.argument("file", type=ANY, metavar="FILE")
@as_json_option
def inspect(file: Path, as_json: bool) -> None:
    """Show what is in a model, a snapshot or a recording.

    Of a recording, or a table of rows: groups, channels, units, rates, start, gaps, missing samples, and
    which of its channels train would take, and why not the others.
    """
    from streamrnn.recordings.formats import is_safetensors
    from streamrnn.state.commands import describe_snapshot, format_snapshot, is_snapshot

    if file.exists() and not is_safetensors(file):
        from streamrnn.table.contents import describe_file, format_contents

        description = describe_file(file)
        text = format_contents(description)
    elif is_snapshot(file):
        description = describe_snapshot(file)
        text = format_snapshot(description)
    else:
        from streamrnn.model.inspect import describe_model, format_description
        from streamrnn.model.model_file import read_model

        description = describe_model(read_model(file), file)
        text = format_description(description)
    click.echo(json.dumps(description) if as_json else text)

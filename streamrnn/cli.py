"""The commands: each parses its arguments and calls the function that does the work.

What is slow to import (numba, pyarrow, zmq, pydantic) is imported inside a command, so that help is fast.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from streamrnn import __version__
from streamrnn.errors import UserError

INTERRUPTED = 128 + 2  # what a shell reports of a program that SIGINT ended
BROKEN_PIPE = 128 + 13  # and of one that SIGPIPE ended


class Commands(click.Group):
    """Reports what a user can mend as ``error: ...`` on stderr. A command returns its exit code, or None."""

    def invoke(self, ctx: click.Context) -> None:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except UserError as error:
            report(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            # the reader has left: whatever is still buffered must not fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = BROKEN_PIPE
        except OSError as error:
            report(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            code = 1
        ctx.exit(code or 0)


class CommandWithKeys(click.Command):
    """A command whose help ends with every configuration key, its default and its meaning."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from streamrnn.config import describe_keys

        super().format_epilog(ctx, formatter)
        with formatter.section("Keys and their defaults"):
            formatter.write_dl([(f"{key} = {default}", text) for key, default, text in describe_keys()], 40)


def report(message: str) -> None:
    """Print ``message`` on stderr, each of its lines as an error."""
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)


def example(*lines: str) -> str:
    """An epilog that click leaves unwrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def speed(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    """Times real time, None for as fast as possible."""
    if value == "max":
        return None
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise click.BadParameter(f"{value!r} is neither max nor a number above 0 (1 is real time).")
    return factor


def delimiter(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in ("tab", r"\t"):
        return "\t"
    if value is not None and len(value) != 1:
        raise click.BadParameter(f"{value!r} is not one character, nor the word tab.")
    return value


def endpoint(text: str, bind: bool, hint: str) -> str:
    """``text`` if a socket can bind (or connect) to it, else wrong usage of ``hint``."""
    from streamrnn.config import check_endpoint

    try:
        return check_endpoint(text, bind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


PATH = click.Path(path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)

# options that several commands share
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
limit_option = click.option("--limit", type=COUNT, metavar="N", help="Stop after N rows.")
speed_option = click.option(
    "--speed", default="max", metavar="max|FLOAT", callback=speed, help="Times real time."
)
seq_option = click.option(
    "--seq-column", metavar="NAME", help="Column of sequence numbers.  [default: counted]"
)
time_option = click.option("--time-column", metavar="NAME", help="Column of the time.  [default: found]")
stream_option = click.option(
    "--stream-column", metavar="NAME", help="Column of the stream id.  [default: none]"
)
delimiter_option = click.option(
    "--delimiter", metavar="CHAR", callback=delimiter, help="Between the columns of a CSV.  [default: found]"
)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=example("streamrnn demo", "streamrnn serve model.safetensors --connect tcp://localhost:5555"),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Run a recurrent network over live sensor streams.

    Data goes to stdout, words to stderr. Exit codes: 0 done, 1 the work failed, 2 wrong usage,
    78 wrong configuration.
    """


@main.command(epilog=example("streamrnn demo --seconds 60"))
@click.option(
    "--seconds", type=POSITIVE, metavar="S", help="Stop by itself after this long.  [default: at Ctrl-C]"
)
@click.option("--http", default="127.0.0.1:9464", metavar="HOST:PORT", help="Of the metrics.")
def demo(seconds: float | None, http: str) -> int:
    """Watch simulated machines and a daemon at work."""
    from streamrnn.config import load_config

    listen = load_config(None, {"http.listen": http}).http.listen
    from streamrnn.demo import demo as run

    return run(seconds, listen)


@main.command(
    epilog=example(
        "streamrnn serve model.safetensors --connect tcp://localhost:5555 --bind 'tcp://*:5556'",
        "streamrnn serve -c station.toml",
    )
)
@click.argument("model", type=PATH, required=False)
@click.option("-c", "--config", "file", type=PATH, metavar="FILE", help="TOML file of settings.")
@click.option("--connect", multiple=True, metavar="E", help="Endpoint of a publisher; repeatable.")
@click.option("--bind", multiple=True, metavar="E", help="Endpoint to publish predictions on; repeatable.")
@click.option("--http", metavar="HOST:PORT", help='Of the metrics, "" for off.')
def serve(
    model: Path | None, file: Path | None, connect: tuple[str, ...], bind: tuple[str, ...], http: str | None
) -> int:
    """Answer every frame with a prediction, until stopped.

    MODEL and the flags override what FILE says; `streamrnn config check --help` lists its keys.
    """
    from streamrnn.config import load_config

    flags = {"model": model, "input.connect": connect, "output.bind": bind, "http.listen": http}
    config = load_config(file, {key: value for key, value in flags.items() if value not in (None, ())})
    config.require_endpoints(file)
    from streamrnn.daemon.service import serve as run

    return run(config)


@main.command(epilog=example("streamrnn replay valves.csv -m model.safetensors -o predictions.csv"))
@click.argument("source", metavar="FILE|-")
@click.option("-m", "--model", type=PATH, required=True, help="Model file.")
@click.option("-o", "--output", default="-", metavar="OUT", help="Where predictions go, - for stdout.")
@click.option(
    "--format",
    type=click.Choice(["csv", "ndjson", "parquet"]),
    help="Of OUT.  [default: by its name, or csv]",
)
@speed_option
@limit_option
@seq_option
@time_option
@stream_option
@delimiter_option
@click.option(
    "--on-error", type=click.Choice(["fail", "skip"]), default="fail", help="On a row that cannot be used."
)
@click.option("--capacity", type=COUNT, default=65536, metavar="N", help="Most streams in the file.")
@click.option("-c", "--config", "file", type=PATH, metavar="FILE", help="TOML file, for its faults rules.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON (stderr if OUT is -).")
def replay(
    file: Path | None,
    as_json: bool,
    seq_column: str | None,
    time_column: str | None,
    stream_column: str | None,
    **rest: Any,
) -> None:
    """Predict for every row of a file, as the daemon would.

    The file is CSV, gzipped or not, or parquet, told by its content; - is standard input.
    Columns are matched to the model's channels by name.
    """
    from streamrnn.config import load_config

    faults = load_config(file, {}).faults
    from streamrnn.replay import ReplayOptions
    from streamrnn.replay import replay as run
    from streamrnn.table import Columns

    columns = Columns(seq=seq_column, time=time_column, stream=stream_column)
    summary = run(ReplayOptions(columns=columns, faults=faults, progress=sys.stderr.isatty(), **rest))
    if as_json:
        click.echo(json.dumps(summary.as_dict()), err=rest["output"] == "-")
    else:
        click.echo(summary.text(), err=True)


@main.command(epilog=example("streamrnn send valves.csv --to tcp://localhost:5555 --socket push --rate 1000"))
@click.argument("source", metavar="FILE|-")
@click.option("--to", required=True, metavar="E", help="Endpoint of the receiver.")
@click.option("--bind", is_flag=True, help="Bind to E, for receivers that connect, instead of connecting.")
@click.option("--socket", type=click.Choice(["pub", "push"]), default="pub", help="Kind of socket.")
@click.option("-m", "--model", type=PATH, help="Send this model's channels.  [default: numeric columns]")
@click.option("--rate", type=POSITIVE, metavar="ROWS", help="Rows per second.  [default: no limit]")
@speed_option
@click.option("--block", type=click.IntRange(1, 65535), default=1, metavar="N", help="Most rows in a frame.")
@limit_option
@click.option("--wait", type=click.IntRange(min=0), default=1, metavar="N", help="Begin at N subscriptions.")
@click.option("--timeout", type=POSITIVE, default=30.0, metavar="S", help="Longest wait for receivers.")
@seq_option
@time_option
@stream_option
@delimiter_option
def send(
    to: str,
    bind: bool,
    rate: float | None,
    speed: float | None,
    seq_column: str | None,
    time_column: str | None,
    stream_column: str | None,
    **rest: Any,
) -> int:
    """Publish the rows of a file as frames.

    The file is CSV, gzipped or not, or parquet, told by its content; - is standard input.
    """
    if rate and speed:
        raise click.UsageError("--rate and --speed exclude each other.")
    to = endpoint(to, bind, "--to")
    from streamrnn.send import SendOptions
    from streamrnn.send import send as run
    from streamrnn.table import Columns

    columns = Columns(seq=seq_column, time=time_column, stream=stream_column)
    progress = sys.stderr.isatty()
    options = SendOptions(
        to=to, bind=bind, rate=rate, speed=speed, columns=columns, progress=progress, **rest
    )
    return run(options)


@main.command(epilog=example("streamrnn tail tcp://localhost:5556 --json | jq .residual"))
@click.argument("address", metavar="E")
@as_json_option
@click.option("--topic", "topics", multiple=True, metavar="PREFIX", help="Of stream ids.  [default: all]")
@click.option("--limit", type=COUNT, metavar="N", help="Stop after N predictions.")
@click.option("-m", "--model", type=PATH, help="Model file, to name the outputs.")
@click.option("--bind", is_flag=True, help="Bind to E instead of connecting.")
def tail(
    address: str, as_json: bool, topics: tuple[str, ...], limit: int | None, model: Path | None, bind: bool
) -> int:
    """Print predictions as they come."""
    address = endpoint(address, bind, "E")
    from streamrnn.tail import tail as run

    return run(address, topics, as_json, limit, model, bind)


@main.command(epilog=example("streamrnn inspect model.safetensors"))
@click.argument("model", type=PATH)
@as_json_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model is made of."""
    from streamrnn.model.inspect import describe_model, format_description
    from streamrnn.model.native import read_model

    description = describe_model(read_model(model), model)
    click.echo(json.dumps(description) if as_json else format_description(description))


@main.command(epilog=example("streamrnn bench --seconds 10 --json > figures.json"))
@click.option("--seconds", type=POSITIVE, metavar="S", default=5.0, help="Length of each measurement.")
@as_json_option
@click.option("--kernels-only", is_flag=True, help="Measure the network's step alone.")
@click.option("--daemon-only", is_flag=True, help="Measure the daemon alone.")
def bench(seconds: float, as_json: bool, kernels_only: bool, daemon_only: bool) -> int:
    """Measure this machine, side by side with zmq_proxy."""
    if kernels_only and daemon_only:
        raise click.UsageError("--kernels-only and --daemon-only exclude each other.")
    from streamrnn.bench import bench as run

    return run(seconds, as_json, not daemon_only, not kernels_only)


@main.group(epilog=example("streamrnn config check station.toml"))
def config() -> None:
    """Look after configuration files."""


@config.command(cls=CommandWithKeys, epilog=example("streamrnn config check station.toml > effective.toml"))
@click.argument("file", type=PATH)
def check(file: Path) -> None:
    """Validate a file and print the configuration it makes.

    Every error is named at once; the exit code is then 78.
    """
    from streamrnn.config import config_text, load_config

    settings = load_config(file, {})
    settings.require_endpoints(file)
    click.echo(config_text(settings), nl=False)
    click.echo(f"{file}: valid", err=True)
    if not settings.model.is_file():
        click.echo(f"{file}: warning: model: {settings.model} does not exist yet", err=True)

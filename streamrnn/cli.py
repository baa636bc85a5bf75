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


def client_keys(server_key: str | None, secret: Path | None) -> Any:
    """The keys that --server-key and --secret name, None for neither."""
    if server_key is None and secret is None:
        return None
    if server_key is None or secret is None:
        raise click.UsageError("--server-key and --secret go together: give both, or neither.")
    from streamrnn.keys import client_keys as read

    return read(server_key, secret)


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
server_key_option = click.option("--server-key", metavar="KEY|FILE", help="Public key of a protected daemon.")
secret_option = click.option("--secret", type=PATH, metavar="FILE", help="Secret key to show it.")


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
        "streamrnn serve model.safetensors --connect tcp://localhost:5555 --bind tcp://127.0.0.1:5556",
        "streamrnn serve -c station.toml",
    )
)
@click.argument("model", type=PATH, required=False)
@click.option("-c", "--config", "file", type=PATH, metavar="FILE", help="TOML file of settings.")
@click.option("--connect", multiple=True, metavar="E", help="Endpoint of a publisher; repeatable.")
@click.option("--bind", multiple=True, metavar="E", help="Endpoint to publish predictions on; repeatable.")
@click.option("--http", metavar="HOST:PORT", help='Of the metrics, "" for off.')
@click.option(
    "--on-mismatch",
    type=click.Choice(["refuse", "reset"]),
    default="refuse",
    help="When the state found is of another model: refuse it, or begin anew.",
)
def serve(
    model: Path | None,
    file: Path | None,
    connect: tuple[str, ...],
    bind: tuple[str, ...],
    http: str | None,
    on_mismatch: str,
) -> int:
    """Answer every frame with a prediction, until stopped.

    MODEL and the flags override what FILE says; `streamrnn config check --help` lists its keys.
    SIGHUP reads FILE and the model again and goes on with both, the state kept.
    """
    from streamrnn.config import Config, load_config

    flags = {"model": model, "input.connect": connect, "output.bind": bind, "http.listen": http}

    def load() -> Config:
        config = load_config(file, {key: value for key, value in flags.items() if value not in (None, ())})
        config.require_endpoints(file)
        return config

    load()
    from streamrnn.daemon.service import serve as run

    return run(load, reset=on_mismatch == "reset", reloads=file is not None)


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
@server_key_option
@secret_option
def send(
    to: str,
    bind: bool,
    rate: float | None,
    speed: float | None,
    server_key: str | None,
    secret: Path | None,
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
    keys = client_keys(server_key, secret)
    from streamrnn.send import SendOptions
    from streamrnn.send import send as run
    from streamrnn.table import Columns

    columns = Columns(seq=seq_column, time=time_column, stream=stream_column)
    progress = sys.stderr.isatty()
    options = SendOptions(
        to=to, bind=bind, rate=rate, speed=speed, columns=columns, progress=progress, keys=keys, **rest
    )
    return run(options)


@main.command(epilog=example("streamrnn tail tcp://localhost:5556 --json | jq .residual"))
@click.argument("address", metavar="E")
@as_json_option
@click.option("--topic", "topics", multiple=True, metavar="PREFIX", help="Of stream ids.  [default: all]")
@click.option("--limit", type=COUNT, metavar="N", help="Stop after N predictions.")
@click.option("-m", "--model", type=PATH, help="Model file, to name the outputs.")
@click.option("--bind", is_flag=True, help="Bind to E instead of connecting.")
@server_key_option
@secret_option
def tail(
    address: str,
    as_json: bool,
    topics: tuple[str, ...],
    limit: int | None,
    model: Path | None,
    bind: bool,
    server_key: str | None,
    secret: Path | None,
) -> int:
    """Print predictions as they come."""
    address = endpoint(address, bind, "E")
    keys = client_keys(server_key, secret)
    from streamrnn.tail import tail as run

    return run(address, topics, as_json, limit, model, bind, keys)


@main.command(epilog=example("streamrnn inspect model.safetensors"))
@click.argument("file", type=PATH, metavar="MODEL|SNAPSHOT")
@as_json_option
def inspect(file: Path, as_json: bool) -> None:
    """Show what is in a model, or in a snapshot."""
    from streamrnn.state import describe_snapshot, format_snapshot, is_snapshot

    if is_snapshot(file):
        description = describe_snapshot(file)
        text = format_snapshot(description)
    else:
        from streamrnn.model.inspect import describe_model, format_description
        from streamrnn.model.native import read_model

        description = describe_model(read_model(file), file)
        text = format_description(description)
    click.echo(json.dumps(description) if as_json else text)


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


@main.command(epilog=example("streamrnn keygen station"))
@click.argument("name", default="streamrnn")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@as_json_option
def keygen(name: str, force: bool, as_json: bool) -> None:
    """Make a pair of CURVE keys and print the public one.

    Writes NAME.secret, which only you can read, and NAME.public.
    """
    from streamrnn.keys import write_keys

    secret_file, public_file, public = write_keys(name, force)
    made = {"public": public, "public_file": str(public_file), "secret_file": str(secret_file)}
    click.echo(json.dumps(made) if as_json else public)
    click.echo(f"wrote {secret_file}, to be kept where it is used, and {public_file}", err=True)


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


@main.group(epilog=example("streamrnn state show /run/streamrnn"))
def state() -> None:
    """Look after the streams of a daemon.

    TARGET is a folder, its state.live or state.snapshots, or the .toml file that sets them. A running
    daemon is asked; where none runs, what it left in files is used. `show` and `export` take a snapshot, too.
    """


@state.command(epilog=example("streamrnn state show /run/streamrnn --sort health --limit 10"))
@click.argument("target", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each stream, one a line.")
@click.option("--limit", type=COUNT, metavar="N", help="Show no more than N streams.")
@click.option(
    "--sort",
    type=click.Choice(["id", "age", "step", "health"]),
    default="id",
    help="Longest silent, most steps or worst health first.",
)
@click.option("--prefix", default="", metavar="P", help="Of the stream ids to show.  [default: all]")
def show(target: Path, as_json: bool, limit: int | None, sort: str, prefix: str) -> int:
    """List streams: step, seq, age, health.

    Age is the time since the last row was taken; |h| and |c| are the largest hidden and cell state.
    """
    from streamrnn.state import show as run

    return run(target, as_json, limit, sort, prefix)


@state.command(
    epilog=example(
        "streamrnn state export /run/streamrnn -o streams.safetensors",
        "streamrnn state export /run/streamrnn -o - | ssh b streamrnn state import - /run/streamrnn",
    )
)
@click.argument("target", type=PATH)
@click.option("-o", "--output", required=True, metavar="FILE", help="Snapshot to write, - for stdout.")
@click.option("--stream", "streams", multiple=True, metavar="ID", help="Repeatable.  [default: all]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(target: Path, output: str, streams: tuple[str, ...], force: bool) -> int:
    """Write the state of streams to a file, to be imported."""
    from streamrnn.state import export as run

    return run(target, output, streams, force)


@state.command("import", epilog=example("streamrnn state import streams.safetensors /run/streamrnn"))
@click.argument("file", metavar="FILE|-")
@click.argument("target", type=PATH)
@click.option("--replace", is_flag=True, help="Replace the state of streams that are there.")
def import_(file: str, target: Path, replace: bool) -> int:
    """Let streams go on from the state in a file.

    All of them, or none.

    Where no daemon runs, TARGET is a folder of snapshots, and gets a new one for the next start.
    """
    from streamrnn.state import import_ as run

    return run(file, target, replace)


@state.command(epilog=example("streamrnn state reset /run/streamrnn pump-1 pump-2"))
@click.argument("target", type=PATH)
@click.argument("streams", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Reset every stream.")
def reset(target: Path, streams: tuple[str, ...], everything: bool) -> int:
    """Let streams begin anew with their next row.

    Where no daemon runs, TARGET is a folder of snapshots, and gets a new one without these streams.
    """
    if everything == bool(streams):
        raise click.UsageError("Give the IDs of streams, or --all.")
    from streamrnn.state import reset as run

    return run(target, streams, everything)

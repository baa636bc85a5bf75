"""The command that records what comes over the wire."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamrnn.cli.shared import (
    COUNT,
    MODEL,
    POSITIVE,
    SETTINGS,
    TABLE,
    as_json_option,
    client_keys,
    example,
    secret_option,
    server_key_option,
)

if TYPE_CHECKING:
    from streamrnn.settings.config import Config
from streamrnn.cli.table import names

_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_INPUT = (
    "format",
    "stream",
    "topic",
    "time",
    "time_unit",
    "socket",
    "dtype",
)  # options that are keys of [input]


def rotation(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A time or a size; None for neither."""
    if value is None:
        return None
    from streamrnn.settings.values import parse_duration
    from streamrnn.table.record_files import Rotation

    if match := re.fullmatch(r"([1-9]\d{0,8})(kB|MB|GB)", value):
        return Rotation(size=int(match[1]) * _SIZES[match[2]])
    try:
        if seconds := parse_duration(value):
            return Rotation(seconds=seconds)
    except ValueError:
        pass
    raise click.BadParameter(f"{value!r} is neither a time, as 1h, nor a size, as 100MB.")


def fields(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, str]:
    """Channels and the paths of their keys."""
    found = {}
    for pair in names(ctx, param, value) or ():
        name, mark, path = (piece.strip() for piece in pair.partition("="))
        if not (name and mark and path):
            raise click.BadParameter(f"{pair!r} does not say where a channel is, as in temp=sensors.t1.")
        found[name] = path
    return found


@click.command(
    epilog=example(
        "streamrnn record tcp://sensors:5555 --format json -o monday.csv",
        "streamrnn record tcp://sensors:5555 --format json --topic 'plant/{stream}/{channel}' -o values.csv",
        "streamrnn record mqtt://localhost/plant/+/+ --topic 'plant/{stream}/{channel}' -o values.csv",
        "streamrnn record -c station.toml -o recordings --rotate 1h",
    )
)
@click.argument("endpoints", nargs=-1, metavar="[E]...")
@click.option(
    "-o", "--output", type=TABLE, required=True, metavar="FILE|DIR|-", help="Where to; - is standard output."
)
@click.option(
    "-c", "--config", "file", type=SETTINGS, metavar="FILE", help="TOML file, for its section input."
)
@click.option("--bind", is_flag=True, help="Bind to E, for publishers that connect, instead of connecting.")
@click.option(
    "--format", metavar="NAME", help="Of messages, as input.format.  [default: the file's, or frame]"
)
@click.option(
    "--topic", metavar="PATTERN", help="As input.topic; with {channel} a message is a single value."
)
@click.option("--stream", metavar="TEXT", help="Whose messages are, as input.stream.")
@click.option("--time", metavar="KEY", help='Of the source time, as input.time; "": when a message came.')
@click.option("--time-unit", metavar="UNIT", help="Of times: s, ms, us, ns.  [default: told by their size]")
@click.option("--fields", callback=fields, metavar="A=PATH,...", help="Keys of channels, as input.fields.")
@click.option("--dtype", metavar="NAME", help="Of values whose message does not say it, as input.dtype.")
@click.option("--socket", metavar="sub|pull", help="Beside PUB, or PUSH.  [default: the file's, or sub]")
@click.option(
    "--topics", multiple=True, metavar="PREFIX", help="Of topics to take; repeatable.  [default: all]"
)
@click.option("-m", "--model", type=MODEL, help="Record this model's channels.  [default: what comes]")
@click.option("--channels", callback=names, metavar="A,B,...", help="Channels, in their order on the wire.")
@click.option("--seconds", type=POSITIVE, metavar="S", help="Stop after this long.  [default: at Ctrl-C]")
@click.option("--rows", type=COUNT, metavar="N", help="Stop after N rows, or single values.")
@click.option(
    "--rotate", callback=rotation, metavar="1h|100MB", help="Begin a new file of the folder by then."
)
@click.option(
    "--as", "kind", type=click.Choice(["csv", "parquet"]), help="Of files.  [default: by name, or csv]"
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@server_key_option
@secret_option
@as_json_option
def record(
    endpoints: tuple[str, ...],
    output: str,
    file: Path | None,
    bind: bool,
    fields: dict[str, str],
    topics: tuple[str, ...],
    model: Path | None,
    channels: tuple[str, ...] | None,
    rotate: Any,
    server_key: str | None,
    secret: Path | None,
    as_json: bool,
    **rest: Any,
) -> int:
    """Record what comes in, of any format, for train and replay.

    A row of the file is a row that came: stream, time, its number where the wire has one, and the channels;
    or, where topics name channels, a single value, of which `--period` of those commands makes rows.

    Ctrl-C ends it. Should it be killed, a CSV file has all but the last second; of parquet files, the one
    under way is lost, so in a folder they begin anew every 10 minutes, or as --rotate says.
    """
    if model and channels:
        raise click.UsageError("--model and --channels exclude each other.")
    asked: dict[str, Any] = {f"input.{key}": rest.pop(key) for key in _INPUT}
    asked["input.topics"], asked["input.fields"] = topics or None, fields or None
    keys = client_keys(server_key, secret)
    config = _config(file, asked, endpoints, bind)
    from streamrnn.client.record import RecordOptions, until_stopped
    from streamrnn.client.record import record as run

    options = RecordOptions(
        input=config.input,
        output=output,
        rotation=rotate,
        **({"channels": channels} if model is None else _of_model(model)),
        keys=keys,
        login=config.mqtt,
        progress=sys.stderr.isatty(),
        **rest,
    )
    with until_stopped() as stopped:
        summary = run(options, stopped)
    if as_json:
        click.echo(json.dumps(summary.as_dict()), err=output == "-")
    else:
        click.echo(summary.text(), err=True)
    return 0 if summary.rows else 1


def _config(file: Path | None, asked: dict[str, Any], endpoints: tuple[str, ...], bind: bool) -> "Config":
    """The configuration of ``file``, overridden by what is ``asked``, None for nothing."""
    from streamrnn.settings.brokers import is_broker
    from streamrnn.settings.config import load_config

    if endpoints:
        asked["input.bind" if bind else "input.connect"] = endpoints
        asked["input.connect" if bind else "input.bind"] = ()
    elif bind:
        raise click.UsageError("--bind says how E is used; name an endpoint.")
    if asked["input.format"] is None and any(map(is_broker, endpoints)):
        asked["input.format"] = "json"
    config = load_config(file, {key: value for key, value in asked.items() if value is not None})
    if not (config.input.connect or config.input.bind):
        raise click.UsageError("Nowhere to record from: name an endpoint, or a FILE that does with -c.")
    return config


def _of_model(file: Path) -> dict[str, Any]:
    """What a model says of recordings, as ``RecordOptions`` have it."""
    from streamrnn.adapters.setup import words_of
    from streamrnn.model.model_file import read_model

    model = read_model(file)
    return {
        "channels": tuple(channel.name for channel in model.channels),
        "period_ns": round(model.sample_period_s * 1e9),
        "words": words_of(model),
    }

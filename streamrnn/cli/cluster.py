"""Commands for streams on several machines."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from streamrnn.cli.shared import COUNT, MODEL, SETTINGS, Finite, as_json_option, example, report

_PATIENCE_S = 5.0
_FIXED = ("replicas", "pin", "checkpoint_rows", "keep", "keep_input", "most_bytes")  # by ``init``, for good
file_option = click.option(
    "-c", "--config", "file", type=SETTINGS, metavar="FILE", help="TOML file of settings."
)
server_option = click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="URL",
    help="A NATS server, as nats://host:4222; repeatable.",
)
name_option = click.option("--name", metavar="NAME", help="Of the cluster.  [default: streamrnn]")
http_option = click.option(
    "--http", metavar="HOST:PORT", help='Of metrics and status, "" for off.  [default: 127.0.0.1:9464]'
)


def _load(file: Path | None, **flags: Any) -> Any:
    """The configuration of FILE and flags, dots as __."""
    from streamrnn.settings.config import load_config

    given = {key.replace("__", "."): value for key, value in flags.items() if value not in (None, ())}
    return load_config(file, given)


def _is_given(context: click.Context, name: str) -> bool:
    """Whether an option is on the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _talk(config: Any, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """What ``work`` does over a connection. Raises UserError where no server answers."""
    from streamrnn.cluster.connect import connect
    from streamrnn.cluster.jetstream import Unavailable, WrongLast
    from streamrnn.errors import UserError

    async def run() -> Any:
        jetstream = await connect(config.cluster, "streamrnn cluster", _PATIENCE_S)
        try:
            return await work(jetstream)
        finally:
            await jetstream.close()

    try:
        return asyncio.run(run())
    except Unavailable as error:
        raise UserError(f"the servers do not do it: {error}; do most of them run?") from error
    except WrongLast as error:
        raise UserError(f"somebody else changed the cluster meanwhile ({error}); try again") from error


@click.command(epilog=example("streamrnn gateway -c station.toml"))
@file_option
@server_option
@name_option
@click.option("--connect", multiple=True, metavar="E", help="Endpoint of a publisher; repeatable.")
@click.option("--bind", multiple=True, metavar="E", help="Endpoint to publish predictions on; repeatable.")
@http_option
def gateway(
    file: Path | None,
    servers: tuple[str, ...],
    name: str | None,
    connect: tuple[str, ...],
    bind: tuple[str, ...],
    http: str | None,
) -> int:
    """Take frames into a cluster, and publish its predictions.

    With an input alone, or an output alone, it does only that.
    """
    flags = {"cluster__servers": servers, "cluster__name": name, "http__listen": http}
    config = _load(file, input__connect=connect, output__bind=bind, **flags)
    config.require_an_endpoint(file)
    from streamrnn.cluster.live import run_gateway

    return run_gateway(config)


@click.command(epilog=example("streamrnn worker --server nats://10.0.0.1:4222 --name plant"))
@file_option
@server_option
@name_option
@http_option
def worker(file: Path | None, servers: tuple[str, ...], name: str | None, http: str | None) -> int:
    """Step streams of a cluster: its share, until stopped.

    Model and rules are the cluster's. SIGHUP takes those that `streamrnn cluster init --update` gave it.
    """
    config = _load(file, cluster__servers=servers, cluster__name=name, http__listen=http)
    from streamrnn.cluster.live import run_worker

    return run_worker(config)


@click.group(epilog=example("streamrnn cluster status -c station.toml"))
def cluster() -> None:
    """Set up and look after a cluster."""


@cluster.command(
    epilog=example(
        "streamrnn cluster init model.safetensors --server nats://10.0.0.1:4222 --shards 64 --replicas 3",
        "streamrnn cluster init -c station.toml --update",
    )
)
@click.argument("model", type=MODEL, required=False)
@file_option
@server_option
@name_option
@click.option(
    "--shards", type=click.IntRange(1, 512), default=16, metavar="N", help="Parts that workers share."
)
@click.option("--replicas", type=click.IntRange(1, 5), default=1, metavar="N", help="Servers that hold each.")
@click.option(
    "--pin", type=Finite(min=0.5, max=600), default=2.0, metavar="S", help="Silent so long, a worker is gone."
)
@click.option(
    "--checkpoint-rows", type=COUNT, default=200_000, metavar="N", help="Rows of a shard between checkpoints."
)
@click.option("--keep", type=Finite(min=1), default=3600.0, metavar="S", help="Predictions stay so long.")
@click.option("--keep-input", type=Finite(min=0), default=0.0, metavar="S", help="And rows, once not needed.")
@click.option(
    "--most-bytes", type=COUNT, metavar="N", help="Of each of two streams.  [default: as servers have]"
)
@click.option("--update", is_flag=True, help="Give a cluster another model or other rules.")
@as_json_option
@click.pass_context
def init(
    context: click.Context,
    model: Path | None,
    file: Path | None,
    servers: tuple[str, ...],
    name: str | None,
    shards: int,
    replicas: int,
    pin: float,
    checkpoint_rows: int,
    keep: float,
    keep_input: float,
    most_bytes: int | None,
    update: bool,
    as_json: bool,
) -> None:
    """Make a cluster, of MODEL and the rules in FILE.

    It keeps both, so workers need nothing else. --update changes them under the rules of a reload; workers
    take them at SIGHUP.
    """
    fixed = [name for name in ("shards", *_FIXED) if _is_given(context, name)] if update else []
    if fixed:
        options = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise click.UsageError(f"{options}: cannot change with --update; see `streamrnn cluster reshard`")
    config = _load(file, model=model, cluster__servers=servers, cluster__name=name)
    from streamrnn.cluster import setup
    from streamrnn.cluster.terms import Terms

    terms = Terms(shards, replicas, pin, checkpoint_rows, keep, keep_input, 0, {}, "", {})
    done = _talk(
        config,
        lambda jetstream: (
            setup.update(jetstream, config)
            if update
            else setup.init(jetstream, config, terms, most_bytes or -1)
        ),
    )
    told = {"cluster": config.cluster.name, "revision": done.revision, "model": done.fingerprint}
    if as_json:
        click.echo(json.dumps(told | {"shards": done.shards, "replicas": done.replicas}))
    else:
        what = f"revision {done.revision}" if update else f"{done.shards} shards, {done.replicas} replicas"
        click.echo(f"{config.cluster.name}: {what}, model {done.fingerprint}")


@cluster.command(epilog=example("streamrnn cluster status --server nats://10.0.0.1:4222 --name plant"))
@file_option
@server_option
@name_option
@as_json_option
def status(file: Path | None, servers: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """Show servers, members and how far each shard is."""
    config = _load(file, cluster__servers=servers, cluster__name=name)
    from streamrnn.cluster import looking
    from streamrnn.cluster.subjects import Subjects

    found = _talk(config, lambda jetstream: looking.status(jetstream, Subjects(config.cluster.name)))
    click.echo(json.dumps(found) if as_json else looking.status_text(found))


@cluster.command(epilog=example("streamrnn cluster check -c station.toml"))
@file_option
@server_option
@name_option
def check(file: Path | None, servers: tuple[str, ...], name: str | None) -> int:
    """Find every shard again, and compare it with its head.

    As a worker does: from its checkpoint, by stepping what came since. Writes nothing, and may be run while
    all goes on. The exit code is 1 where something is wrong.
    """
    config = _load(file, cluster__servers=servers, cluster__name=name)
    from streamrnn.cluster import looking
    from streamrnn.cluster.subjects import Subjects

    wrong = _talk(config, lambda jetstream: looking.check(jetstream, Subjects(config.cluster.name)))
    for line in wrong:
        report(line)
    if not wrong:
        click.echo(f"{config.cluster.name}: every shard is as its head tells", err=True)
    return 1 if wrong else 0


@cluster.command(epilog=example("streamrnn cluster reshard 64 -c station.toml"))
@click.argument("shards", type=click.IntRange(1, 512))
@file_option
@server_option
@name_option
def reshard(shards: int, file: Path | None, servers: tuple[str, ...], name: str | None) -> None:
    """Move all streams, as they are, to another number of shards.

    All must be stopped, and all rows answered: stop gateways first, and workers once `status` shows that
    nothing waits.
    """
    config = _load(file, cluster__servers=servers, cluster__name=name)
    from streamrnn.cluster.reshard import reshard as run
    from streamrnn.cluster.subjects import Subjects

    streams = _talk(config, lambda jetstream: run(jetstream, Subjects(config.cluster.name), shards))
    click.echo(f"{config.cluster.name}: {streams:,} streams in {shards} shards", err=True)

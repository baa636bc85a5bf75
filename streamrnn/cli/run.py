"""Commands that run or prepare a daemon."""

import json
from pathlib import Path

import click

from streamrnn.cli.shared import (
    COUNT,
    MODEL,
    PATH,
    POSITIVE,
    SETTINGS,
    CommandWithKeys,
    Finite,
    as_json_option,
    example,
)


@click.command(
    epilog=example(
        "streamrnn demo --seconds 60",
        "streamrnn demo --record pumps.csv --seconds 600",
        "streamrnn demo --record faulty.csv --faults --seed 2",
    )
)
@click.option(
    "--seconds",
    type=POSITIVE,
    metavar="S",
    help="Stop by itself after this long.  [default: at Ctrl-C; 600 with --record]",
)
@click.option(
    "--http",
    default="127.0.0.1:9464",
    metavar="HOST:PORT",
    help='Of the page, "" for none; port 0 picks one.',
)
@click.option(
    "--record",
    type=PATH,
    metavar="FILE",
    help="Write what the machines' sensors say to a CSV file, at once; no daemon.",
)
@click.option("--faults", is_flag=True, help="Of a FILE with faults; its column fault says which.")
@click.option("--seed", type=click.IntRange(0, 100_000), default=1, metavar="N", help="Of what happens.")
def demo(seconds: float | None, http: str, record: Path | None, faults: bool, seed: int) -> int:
    """Watch simulated machines on the page of a daemon.

    Faults are listed as they come. The model of the machines was made of an hour of them, with seed 0, by
    `streamrnn train`.
    """
    if record is not None:
        from streamrnn.demo.recording import record as write

        rows = write(record, seconds or 600.0, seed, faults)
        click.echo(f"{record}: {rows:,} rows", err=True)
        return 0
    if faults:
        raise click.UsageError("--faults goes with --record; what is shown live always has faults.")
    from streamrnn.settings.config import load_config

    listen = load_config(None, {"http.listen": http}).http.listen
    from streamrnn.demo.live import demo as run

    return run(seconds, listen, seed)


@click.command(
    epilog=example(
        "streamrnn serve model.safetensors --connect tcp://localhost:5555 --bind tcp://127.0.0.1:5556",
        "streamrnn serve -c station.toml",
    )
)
@click.argument("model", type=MODEL, required=False)
@click.option("-c", "--config", "file", type=SETTINGS, metavar="FILE", help="TOML file of settings.")
@click.option("--connect", multiple=True, metavar="E", help="Endpoint of a publisher; repeatable.")
@click.option("--bind", multiple=True, metavar="E", help="Endpoint to publish predictions on; repeatable.")
@click.option(
    "--http", metavar="HOST:PORT", help='Of page and metrics, "" for off.  [default: 127.0.0.1:9464]'
)
@click.option("--shadow", type=MODEL, metavar="MODEL", help="Model to compare with it, on the same frames.")
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
    shadow: Path | None,
    on_mismatch: str,
) -> int:
    """Answer every frame with a prediction, until stopped.

    MODEL and the flags override what FILE says; `streamrnn config check --help` lists its keys.
    SIGHUP reads FILE and the models again and goes on with them, the state kept.
    """
    from streamrnn.settings.config import Config, load_config

    flags: dict[str, object] = {"model": model, "shadow": shadow, "http.listen": http}
    flags |= {"input.connect": connect, "output.bind": bind}

    def load() -> Config:
        config = load_config(file, {key: value for key, value in flags.items() if value not in (None, ())})
        config.require_endpoints(file)
        return config

    load()
    from streamrnn.daemon.serving import serve as run

    return run(load, reset=on_mismatch == "reset", reloads=file is not None)


@click.command(epilog=example("streamrnn bench --seconds 10 --json > figures.json"))
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


@click.command(epilog=example("streamrnn size model.safetensors --streams 10000 --rows-per-second 50000"))
@click.argument("model", type=MODEL, required=False)
@click.option("-c", "--config", "file", type=SETTINGS, metavar="FILE", help="TOML file of a daemon.")
@click.option("--streams", type=COUNT, metavar="N", required=True, help="That are kept at a time.")
@click.option("--rows-per-second", type=POSITIVE, metavar="R", required=True, help="Of all streams together.")
@click.option(
    "--headroom",
    type=Finite(min=0, max=0.95),
    metavar="SHARE",
    default=0.5,
    help="Of the processor, to be left over.",
)
@as_json_option
def size(
    model: Path | None,
    file: Path | None,
    streams: int,
    rows_per_second: float,
    headroom: float,
    as_json: bool,
) -> int:
    """Say how big a machine a load needs, as measured here.

    A daemon of MODEL, or of FILE, is run for some seconds at that load, or as near to it as this machine
    comes.
    """
    from streamrnn.settings.config import load_config

    config = load_config(file, {} if model is None else {"model": model})
    from streamrnn.bench.size import report

    return report(config, streams, rows_per_second, headroom, as_json)


@click.command(epilog=example("streamrnn keygen station"))
@click.argument("name", default="streamrnn")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@as_json_option
def keygen(name: str, force: bool, as_json: bool) -> None:
    """Make a pair of CURVE keys and print the public one.

    Writes NAME.secret, which only you can read, and NAME.public.
    """
    from streamrnn.settings.curve_keys import write_keys

    secret_file, public_file, public = write_keys(name, force)
    made = {"public": public, "public_file": str(public_file), "secret_file": str(secret_file)}
    click.echo(json.dumps(made) if as_json else public)
    click.echo(f"wrote {secret_file}, to be kept where it is used, and {public_file}", err=True)


@click.group(epilog=example("streamrnn config check station.toml"))
def config() -> None:
    """Look after configuration files."""


@config.command(cls=CommandWithKeys, epilog=example("streamrnn config check station.toml > effective.toml"))
@click.argument("file", type=SETTINGS)
def check(file: Path) -> None:
    """Validate a file and print the configuration it makes.

    Every error is named at once; the exit code is then 78. The model, if it is there, must be able to do what
    is asked of it.
    """
    from streamrnn.settings.config import config_text, live_names, load_config

    settings = load_config(file, {})
    settings.require_endpoints(file)
    if settings.http.control:
        from streamrnn.settings.secret_file import read_token

        read_token(Path(settings.http.token_file))
    if settings.input.brokers:
        from streamrnn.mqtt.setup import make_readers

        make_readers(settings.input, settings.mqtt, lambda *told: False, lambda: None)
    if settings.model.is_file():
        from streamrnn.engine.options import refuse_unable
        from streamrnn.model.model_file import read_model

        model = read_model(settings.model)
        refuse_unable(model, settings.faults, settings.adapt.rows, settings.predict)
        if settings.shadow:
            from streamrnn.daemon.shadow import refuse_other_channels

            beside = read_model(settings.shadow)
            refuse_other_channels(model, beside)
            refuse_unable(beside, settings.faults, settings.adapt.rows, settings.predict)
        if settings.input.adapted:
            from streamrnn.adapters.setup import make_gatherer
            from streamrnn.adapters.tally import IntakeTally

            make_gatherer(settings, model, IntakeTally())
    else:
        click.echo(f"{file}: warning: model: {settings.model} does not exist yet", err=True)
    click.echo(config_text(settings), nl=False)
    click.echo(f"{file}: valid; at SIGHUP a daemon takes changes of {', '.join(live_names())}", err=True)

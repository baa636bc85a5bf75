"""Commands for what a daemon remembers of its streams."""

from pathlib import Path

import click

from streamrnn.cli.shared import (
    COUNT,
    File,
    example,
)

SNAPSHOT = File(".safetensors", path_type=str)
TARGET = File(".toml", ".safetensors")
AS_OF = click.option(
    "--as-of", metavar="TIME", help="From the snapshot of then: 09:00 (the last), 2026-03-01T09:00, 2h ago."
)


@click.group(epilog=example("streamrnn state show /run/streamrnn"))
def state() -> None:
    """Look after the streams of a daemon.

    TARGET is a folder, its state.live or state.snapshots, or the .toml file that sets them. A running
    daemon is asked; where none runs, what it left in files is used. `show` and `export` take a snapshot, too.
    """


@state.command(epilog=example("streamrnn state show /run/streamrnn --sort health --limit 10"))
@click.argument("target", type=TARGET)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each stream, one a line.")
@click.option("--limit", type=COUNT, metavar="N", help="Show no more than N streams.")
@click.option(
    "--sort",
    type=click.Choice(["id", "age", "step", "health"]),
    default="id",
    help="Longest silent, most steps or worst health first.",
)
@click.option(
    "--prefix", default="", show_default=False, metavar="P", help="Of the stream ids to show.  [default: all]"
)
@AS_OF
def show(target: Path, as_json: bool, limit: int | None, sort: str, prefix: str, as_of: str | None) -> int:
    """List streams: step, seq, age, health.

    Age is the time since the last row was taken; |h| and |c| are the largest hidden and cell state.
    """
    from streamrnn.state.commands import show as run

    return run(target, as_json, limit, sort, prefix, as_of)


@state.command(
    epilog=example(
        "streamrnn state export /run/streamrnn -o streams.safetensors",
        "streamrnn state export /run/streamrnn -o - | ssh b streamrnn state import - /run/streamrnn",
    )
)
@click.argument("target", type=TARGET)
@click.option(
    "-o", "--output", type=SNAPSHOT, required=True, metavar="FILE", help="Snapshot to write, - for stdout."
)
@click.option("--stream", "streams", multiple=True, metavar="ID", help="Repeatable.  [default: all]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@AS_OF
def export(target: Path, output: str, streams: tuple[str, ...], force: bool, as_of: str | None) -> int:
    """Write the state of streams to a file, to be imported."""
    from streamrnn.state.commands import export as run

    return run(target, output, streams, force, as_of)


@state.command(
    "import",
    epilog=example(
        "streamrnn state import streams.safetensors /run/streamrnn",
        "streamrnn state import --as-of 09:00 --stream pump-1 station.toml",
    ),
)
@click.argument("file", type=SNAPSHOT, metavar="[FILE|-]")
@click.argument("target", type=TARGET, required=False)
@click.option("--replace", is_flag=True, help="Replace the state of streams that are there.")
@AS_OF
@click.option("--stream", "streams", multiple=True, metavar="ID", help="To go back, repeatable.")
def import_(
    file: str, target: Path | None, replace: bool, as_of: str | None, streams: tuple[str, ...]
) -> int:
    """Let streams go on from a file, or from what they were.

    All of them, or none. With --as-of there is no FILE: the streams named go back to what the snapshot of
    then has of them, all others go on; TARGET is the folder of state.snapshots, or the .toml that sets it.

    Where no daemon runs, TARGET is a folder of snapshots, and gets a new one for the next start.
    """
    from streamrnn.state.commands import import_ as run
    from streamrnn.state.commands import take_back

    if as_of is not None:
        if target is not None or not streams:
            raise click.UsageError("With --as-of name each --stream that goes back, and TARGET alone.")
        return take_back(Path(file), as_of, streams)
    if target is None or streams:
        raise click.UsageError("Give FILE and TARGET, or --as-of, --stream and TARGET.")
    return run(file, target, replace)


def _which(command):  # type: ignore[no-untyped-def]
    for option in (
        click.option("--all", "everything", is_flag=True, help="Every stream."),
        click.option("--prefix", metavar="P", help="The streams whose ids begin so."),
        click.argument("streams", nargs=-1, metavar="[ID]..."),
        click.argument("target", type=TARGET),
    ):
        command = option(command)
    return command


def _hold(target: Path, streams: tuple[str, ...], prefix: str | None, everything: bool, release: bool) -> int:
    if bool(streams) + (prefix is not None) + everything != 1:
        raise click.UsageError("Give the IDs of streams, or --prefix, or --all.")
    from streamrnn.state.commands import hold as run

    return run(target, streams, "" if everything else prefix, release)


@state.command(
    epilog=example(
        "streamrnn state hold /run/streamrnn pump-1 pump-2",
        "streamrnn state hold /run/streamrnn --prefix hall-3/",
    )
)
@_which
def hold(target: Path, streams: tuple[str, ...], prefix: str | None, everything: bool) -> int:
    """Hold what streams learn, until it is released.

    Forecasts and scores go on, and say HELD; the usual size of errors that the score goes by, bands and
    corrections stand still, through resets and restarts. Streams that are held are not let go for silence.

    Where no daemon runs, TARGET is a folder of snapshots, and gets a new one for the next start.
    """
    return _hold(target, streams, prefix, everything, release=False)


@state.command(epilog=example("streamrnn state release /run/streamrnn --all"))
@_which
def release(target: Path, streams: tuple[str, ...], prefix: str | None, everything: bool) -> int:
    """Let streams that are held learn again."""
    return _hold(target, streams, prefix, everything, release=True)


@click.command(epilog=example("streamrnn promote /run/streamrnn"))
@click.argument("target", type=TARGET)
def promote(target: Path) -> int:
    """Let the shadow of a daemon take over, its streams warm.

    The model that served is the shadow then, so that another `promote` goes back. TARGET is a folder, its
    state.live or state.snapshots, or the .toml file that sets them. The file must name the two anew before
    the next reload or start.
    """
    from streamrnn.state.commands import promote as run

    return run(target)


@state.command(epilog=example("streamrnn state reset /run/streamrnn pump-1 pump-2"))
@click.argument("target", type=TARGET)
@click.argument("streams", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Reset every stream.")
def reset(target: Path, streams: tuple[str, ...], everything: bool) -> int:
    """Let streams begin anew with their next row.

    Where no daemon runs, TARGET is a folder of snapshots, and gets a new one without these streams.
    """
    if everything == bool(streams):
        raise click.UsageError("Give the IDs of streams, or --all.")
    from streamrnn.state.commands import reset as run

    return run(target, streams, everything)

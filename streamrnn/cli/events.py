"""The commands that look after the journal of events."""

import datetime
from pathlib import Path
from typing import Any

import click

from streamrnn.cli.shared import COUNT, File, as_json_option, example

TARGET, OUTPUT = File(".toml", ".db", ".sqlite"), File(".csv", ".ndjson", path_type=str)
KINDS, SAID = ("event", "reset", "gap", "silence"), ("real", "normal", "work", "none")
_MOST = 1_000_000


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from streamrnn.settings.moments import parse_moment

    if value is None:
        return None
    try:
        return parse_moment(value, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _chosen(options: dict[str, Any]) -> Any:
    """The filter that the options of ``choosing`` say, which they are taken out of."""
    from streamrnn.events.journal import Filter

    verdict = options.pop("verdict")
    chosen: dict[str, Any] = {name: options.pop(name) or "" for name in ("stream", "prefix", "kind")}
    times = {name: options.pop(name) for name in ("since_ns", "until_ns")}
    return Filter(**chosen, **times, verdict="" if verdict == "none" else verdict)


def choosing(command: Any) -> Any:
    """Adds the options that choose entries."""
    options = (
        click.option("--stream", default=None, metavar="ID", help="Of this stream.  [default: all]"),
        click.option("--prefix", default=None, metavar="P", help="Of ids that begin so.  [default: all]"),
        click.option("--kind", type=click.Choice(KINDS), help="Of this kind.  [default: all]"),
        click.option("--verdict", type=click.Choice(SAID), help="Judged so; none: not at all."),
        click.option("--since", "since_ns", callback=_moment, metavar="TIME", help="Not over then, as 2h."),
        click.option(
            "--until", "until_ns", callback=_moment, metavar="TIME", help="Begun before, as 2026-11-30."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    epilog=example(
        "streamrnn events list station.toml --since 12h",
        "streamrnn events judge station.toml 17 real --note 'bearing, replaced'",
    ),
)
def events() -> None:
    """Look at what happened to streams, and judge it.

    TARGET is the journal, the file of events.path, or the .toml file that sets it. Times are given as 22:00
    (the last), 2026-11-30T07:00 or 2h ago, of this machine's zone; those printed are UTC.
    """


@events.command("list", epilog=example("streamrnn events list station.toml --since 12h --verdict none"))
@click.argument("target", type=TARGET)
@choosing
@click.option("--limit", type=COUNT, default=100, metavar="N", help="The latest N entries.")
@as_json_option
def list_(target: Path, limit: int, as_json: bool, **options: Any) -> int:
    """List the latest entries, the latest last."""
    from streamrnn.events.commands import list_ as run

    return run(target, _chosen(options), min(limit, _MOST), as_json)


@events.command(epilog=example("streamrnn events follow station.toml --kind event --json | jq .stream"))
@click.argument("target", type=TARGET)
@choosing
@as_json_option
def follow(target: Path, as_json: bool, **options: Any) -> int:
    """Print entries as they come, and once more at their end."""
    from streamrnn.events.commands import follow as run

    return run(target, _chosen(options), as_json)


@events.command(epilog=example("streamrnn events export station.toml --kind event -o events.csv"))
@click.argument("target", type=TARGET)
@choosing
@click.option(
    "-o", "--output", type=OUTPUT, default="-", metavar="FILE", help="A .csv or .ndjson, - for stdout."
)
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="Of what -o does not name.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(target: Path, output: str, form: str | None, force: bool, **options: Any) -> int:
    """Write all entries that are chosen, the first one first."""
    from streamrnn.events.commands import export as run

    return run(target, _chosen(options), output, form, force)


@events.command(epilog=example("streamrnn events judge station.toml 17 normal"))
@click.argument("target", type=TARGET)
@click.argument("event", type=COUNT)
@click.argument("verdict", type=click.Choice(SAID))
@click.option("--note", metavar="TEXT", help="Keep a note with it.")
def judge(target: Path, event: int, verdict: str, note: str | None) -> int:
    """Keep what an event was: real, normal, or planned work.

    Where TARGET is the .toml file of a running daemon, that goes by it at once.
    """
    from streamrnn.events.commands import judge as run

    return run(target, event, verdict, note)

"""The options that say how a file of rows is read, which several commands share."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from streamrnn.cli.shared import COUNT

NO_TIME = "none"
INTERVALS = (".csv", ".sqlite", ".db")  # files of intervals of time
TAKES = ("last", "mean", "min", "max")


def names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names between commas; one that has a comma may be quoted as in CSV."""
    if value is None:
        return None
    found = tuple(name.strip() for name in next(csv.reader([value], skipinitialspace=True), []))
    if not found or not all(found):
        raise click.BadParameter(f"{value!r} is not a list of names between commas.")
    return found


def names_or_files(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Names between commas, and files: what is one's name and has a dot in it, or a slash or an ending."""
    found, files = list[str](), list[Path]()
    for value in values:
        path = Path(value)
        if "/" in value or path.suffix in INTERVALS or ("." in value and path.is_file()):
            files.append(path)
        else:
            found += names(ctx, param, value) or ()
    return tuple(found), tuple(files)


def words(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, float]:
    """Texts and the numbers that they stand for."""
    found = {}
    for pair in names(ctx, param, value) or ():
        word, mark, number = pair.rpartition("=")
        try:
            found[word.strip()] = float(number)
        except ValueError:
            mark = ""
        if not mark or not word.strip():
            raise click.BadParameter(f"{pair!r} does not say what a word stands for, as in closed=0,open=1.")
    return found


def units(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Channels and their units."""
    found = {}
    for pair in value:
        name, _, unit = pair.rpartition("=")
        if not name.strip() or not unit.strip() or not unit.isprintable():
            raise click.BadParameter(f"{pair!r} does not say the unit of a channel, as in pressure=bar.")
        found[name.strip()] = unit.strip()
    return found


def delimiter(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in ("tab", r"\t"):
        return "\t"
    if value == "space":
        return " "
    if value is not None and len(value) != 1:
        raise click.BadParameter(f"{value!r} is not one character, nor one of the words tab and space.")
    return value


def time_format(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from streamrnn.table.times import FORMATS

    if value is not None and value not in FORMATS and "%" not in value:
        raise click.BadParameter(
            f"{value!r} is neither one of {', '.join(FORMATS)} nor of the form of strptime."
        )
    return value


def span(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A time, or a number of periods, as settings have it."""
    from streamrnn.settings.values import span_ns

    if value is not None:
        try:
            span_ns(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if param.name == "period" and ("period" in value or span_ns(value) == 0):
            raise click.BadParameter(f'{value!r} is no time from row to row; write one, as "1s".')
    return value


_LINE = click.IntRange(min=0)
_OPTIONS = (
    click.option("--seq-column", metavar="NAME", help="Column of sequence numbers.  [default: counted]"),
    click.option(
        "--time-column",
        metavar="NAME[,NAME]|none",
        callback=names,
        help="Column of the time, or of date and time, or none.  [default: found]",
    ),
    click.option(
        "--time-format",
        metavar="FORMAT",
        callback=time_format,
        help="Of times: day-first, month-first, year-first; s, ms, us, ns, min, h, d of numbers; serial, of "
        "a spreadsheet; or as strptime has it.  [default: found]",
    ),
    click.option(
        "--stream-column",
        metavar="NAME",
        help="Column of the stream id; group: each group of a recording is a stream.  [default: none]",
    ),
    click.option("--channel-column", metavar="NAME", help="Of a table with a value a row: whose it is."),
    click.option("--value-column", metavar="NAME", help="Of a table with a value a row: the value."),
    click.option(
        "--missing", callback=names, metavar="A,B,...", help="Numbers and words that mean no value."
    ),
    click.option(
        "--words", callback=words, metavar="A=0,B=1", help="Numbers that words in named channels stand for."
    ),
    click.option(
        "--unit-of",
        "units",
        multiple=True,
        callback=units,
        metavar="CHANNEL=UNIT",
        help="Unit of a channel, whatever the file says; may be given again.",
    ),
    click.option(
        "--delimiter",
        metavar="CHAR|tab|space",
        callback=delimiter,
        help="Between the columns of a text file.  [default: found]",
    ),
    click.option("--decimal", type=click.Choice(["point", "comma"]), help="In numbers.  [default: found]"),
    click.option("--encoding", metavar="NAME", help="Of a text file.  [default: found]"),
    click.option(
        "--header-line",
        type=_LINE,
        metavar="N",
        help="Line that names the columns, 0: none.  [default: found]",
    ),
    click.option("--data-line", type=COUNT, metavar="N", help="Line of the first row.  [default: found]"),
    click.option("--names", callback=names, metavar="A,B,...", help="Of the columns.  [default: found]"),
    click.option(
        "--on-error",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        help="On a row that cannot be used.",
    ),
    click.option("--limit", type=COUNT, metavar="N", help="Stop after N rows."),
    click.option(
        "--period",
        callback=span,
        metavar="TIME",
        help="Make rows so far apart, of each file for itself, as a daemon with assemble.period: 100ms, 1s.  "
        "[default: as they are]",
    ),
    click.option("--take", type=click.Choice(TAKES), help="Of a channel's values in a period.  [last]"),
    click.option(
        "--hold",
        callback=span,
        metavar="TIME",
        help="How long a value stands.  [10 periods; in recordings one of the channel's own]",
    ),
    click.option("--lateness", callback=span, metavar="TIME", help="How late one may come.  [1 period]"),
)
count_rows_option = click.option(
    "--no-time", "count_rows", is_flag=True, help="Count rows, whatever their times say is missing or late."
)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a file of rows is read, in the order of the help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_raster(options: dict[str, Any], settings: Any = None) -> Any:
    """The Raster that ``options`` say, which are taken out of them, or a daemon's ``settings``; or None."""
    from streamrnn.settings.values import span_ns
    from streamrnn.table.reading import Raster

    given = {name: options.pop(name) for name in ("period", "take", "hold", "lateness")}
    told = {name: value for name, value in given.items() if value is not None}
    default = {"take": "last", "hold": "10 periods", "lateness": "1 period"}
    hold_told = "hold" in told
    if settings is not None and settings.period_ns:
        hold_told = True
        default = {name: getattr(settings, name) for name in given}
    told = default | told
    if "period" not in told:
        if extra := [name for name in given if given[name] is not None]:
            raise click.UsageError(f"--{extra[0]} goes with --period.")
        return None
    period_ns = span_ns(told["period"])
    hold_ns, lateness_ns = (span_ns(told[name], period_ns) for name in ("hold", "lateness"))
    return Raster(told["period"], period_ns, hold_ns, lateness_ns, told["take"], hold_told)


def take_reading(options: dict[str, Any], settings: Any = None) -> Any:
    """The Reading that ``options`` of a command say, which are taken out of them.

    ``settings`` are `[assemble]` of a configuration, if there is one.
    """
    from streamrnn.table import Reading

    columns = {name: options.pop(f"{name}_column") for name in ("seq", "time", "stream", "channel", "value")}
    same = (
        "time_format",
        "words",
        "units",
        "delimiter",
        "decimal",
        "encoding",
        "header_line",
        "data_line",
        "names",
        "on_error",
        "limit",
    )
    return Reading(
        raster=take_raster(options, settings),
        **columns,
        **{name: options.pop(name) for name in same},
        missing=options.pop("missing") or (),
        count_rows=options.pop("count_rows", False),
    )

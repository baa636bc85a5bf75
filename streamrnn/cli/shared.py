"""What the commands share: how they end, how they are documented, options that several have."""

import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from streamrnn.errors import UserError
from streamrnn.recordings.formats import SUFFIXES

INTERRUPTED = 128 + 2  # what a shell reports of a program that SIGINT ended
BROKEN_PIPE = 128 + 13  # and of one that SIGPIPE ended
PLAIN = re.compile(r"[\w/.,+@%~-]+")  # what no shell needs quotes for


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
        except MemoryError as error:
            report(f"not enough memory ({error})" if str(error) else "not enough memory")
            code = 1
        except OSError as error:
            report(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            code = 1
        ctx.exit(code or 0)


class CommandWithKeys(click.Command):
    """A command whose help ends with every configuration key, its default and its meaning."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from streamrnn.settings.config import describe_keys

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


def levels(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Levels of bands, in rising order."""
    from streamrnn.settings.values import check_levels

    if value is None:
        return None
    try:
        return check_levels(tuple(float(level) for level in value.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def endpoint(text: str, bind: bool, hint: str) -> str:
    """``text`` if a socket can bind (or connect) to it, else wrong usage of ``hint``."""
    from streamrnn.settings.values import check_endpoint

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
    from streamrnn.settings.curve_keys import client_keys as read

    return read(server_key, secret)


class Finite(click.FloatRange):
    """A range that infinity and NaN are not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class File(click.Path):
    """A path whose completion offers folders, and the files that end as told."""

    def __init__(self, *endings: str, path_type: type = Path) -> None:
        super().__init__(path_type=path_type)
        self._endings = endings

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = list(self._begun(incomplete))
        # The shell does better behind a folder that is alone, into which it goes on, and where it must quote.
        if (len(names) == 1 and names[0].endswith("/")) or not all(map(PLAIN.fullmatch, names)):
            names = []
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]

    def _begun(self, incomplete: str) -> Iterator[str]:
        """The paths that begin like this, a slash behind folders."""
        folder = incomplete[: incomplete.rfind("/") + 1]
        begun = incomplete[len(folder) :]
        with suppress(OSError, RuntimeError):  # RuntimeError: ~ of a user without a home
            for path in sorted(Path(folder).expanduser().iterdir()):
                if path.name.startswith(begun) and (begun or not path.name.startswith(".")):
                    if path.is_dir():
                        yield f"{folder}{path.name}/"
                    elif path.name.endswith(self._endings):
                        yield folder + path.name


PATH = click.Path(path_type=Path)
MODEL = File(".safetensors")
SETTINGS = File(".toml")
RECORDED = (".csv", ".tsv", ".txt", ".dat", ".gz", ".parquet", *SUFFIXES)
TABLE = File(*RECORDED, path_type=str)  # its name, as - is one, too
ANY = File(".safetensors", *RECORDED)
POSITIVE = Finite(min=0, min_open=True)
COUNT = click.IntRange(min=1)

# options that several commands share
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
speed_option = click.option(
    "--speed", default="max", metavar="max|FLOAT", callback=speed, help="Times real time."
)
server_key_option = click.option(
    "--server-key",
    type=File(".public", path_type=str),
    metavar="KEY|FILE",
    help="Public key of a protected daemon.",
)
secret_option = click.option("--secret", type=File(".secret"), metavar="FILE", help="Secret key to show it.")

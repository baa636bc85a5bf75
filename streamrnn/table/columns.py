"""Which columns of a file are meant, by name."""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import TypeVar

from streamrnn.errors import UserError

Told = TypeVar("Told")
NAMES_SHOWN, NAME_SHOWN = 40, 60  # names in a message, and characters of one
LISTED = 800  # characters of all names in a list


def find_columns(wanted: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """The place of each wanted column: of its very name, else of its name but for case and outer space.

    A name with commas may come as the pieces between them. Raises UserError naming every column that is not
    there, or there twice.
    """
    wanted = joined_names(wanted, names)
    found = {name: _places(name, names) for name in wanted}
    if missing := [name for name in wanted if not found[name]]:
        raise UserError(f"{where}: {_missing_text(missing, names)}")
    for name, places in found.items():
        if len(places) > 1:
            alike = " and ".join(str(place + 1) for place in places)
            raise UserError(
                f'{where}: columns {alike} are all named "{name}"; if that is no name, say which line has '
                "the names with --header-line (0: none) and which the first row with --data-line; else give "
                "each column a name of its own with --names"
            )
    return [found[name][0] for name in wanted]


def find_any(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The places of those of the wanted columns that are there, found as ``find_columns`` does."""
    return [place for name in joined_names(wanted, names) for place in _places(name, names)]


def find_or_miss(wanted: Sequence[str], names: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """The wanted columns as ``names`` spell them, those not there as they are; and what to say of the latter.

    Raises UserError if none is there, or one twice.
    """
    wanted = joined_names(wanted, names)
    missing = [name for name in wanted if not _places(name, names)]
    if len(missing) == len(wanted):
        missing = []  # which is said of all of them
    there = iter(find_columns([name for name in wanted if name not in missing], names, where))
    spelled = [name if name in missing else names[next(there)] for name in wanted]
    said = (
        f"no value of {quoted_names(missing)} is there, so that it is missing in every row; values are there "
        f"of {quoted_names(names)}"
    )
    return spelled, [said] if missing else []


def folded(name: str) -> str:
    """A name without case and outer space."""
    return ",".join(piece.strip() for piece in name.casefold().split(","))


def joined_names(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """``wanted`` with the pieces of names that have commas put together again."""
    done, begin = list[str](), 0
    while begin < len(wanted):
        ends = range(begin + 1, len(wanted) + 1)
        whole = next((end for end in ends if _places(",".join(wanted[begin:end]), names)), begin + 1)
        done.append(",".join(wanted[begin:whole]))
        begin = whole
    return done


def _places(name: str, names: Sequence[str]) -> list[int]:
    same = [place for place, other in enumerate(names) if other == name]
    return same or [place for place, other in enumerate(names) if folded(other) == folded(name)]


def of_name(told: Mapping[str, Told], name: str, default: Told) -> Told:
    """What is told of a column, of its very name, else of its name but for case and outer space."""
    if name in told:
        return told[name]
    return next((value for other, value in told.items() if folded(other) == folded(name)), default)


def _missing_text(missing: list[str], names: Sequence[str]) -> str:
    plain = {folded(name): name for name in reversed(names)}
    near = {name: difflib.get_close_matches(folded(name), plain, 1) for name in missing}
    hints = [
        f'"{shortened(plain[match[0]])}" for "{shortened(name)}"' for name, match in near.items() if match
    ]
    question = f"did you mean {listed(hints)}? " if hints else ""
    remedy = "; no line names its columns: do so with --names, or --header-line" if is_unnamed(names) else ""
    return f"has no column {quoted_names(missing)}; {question}its columns are {quoted_names(names)}{remedy}"


def is_unnamed(names: Sequence[str]) -> bool:
    """Whether columns have the names of those that have none."""
    return [*names] == [f"c{place + 1}" for place in range(len(names))]


def quoted_names(names: Sequence[str]) -> str:
    """Names in quotes."""
    return listed([f'"{shortened(name)}"' for name in names])


def shortened(name: str) -> str:
    """A name as it is shown, cut where it is long."""
    return f"{name[:NAME_SHOWN]}..." if len(name) > NAME_SHOWN + 3 else name


def listed(texts: Sequence[str]) -> str:
    """The first of many texts, and how many more there are."""
    ends = itertools.accumulate(len(text) for text in texts[:NAMES_SHOWN])
    count = max(1, sum(end <= LISTED for end in ends))
    shown = ", ".join(texts[:count])
    return f"{shown} and {len(texts) - count} more" if len(texts) > count else shown

"""Which snapshots stay: the newest ones, and of older ones fewer the older they are."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Retention(NamedTuple):
    """How long snapshots stay, see ``settings.retention``."""

    newest: int  # that stay in any case
    spans: tuple[tuple[float, float], ...] = ()  # (age, period), s: to that age the last of each period


TWO = Retention(2)


def kept(written_ns: Mapping[Path, int], retention: Retention, now_ns: int) -> set[Path]:
    """Those of the snapshots, by the time of each, that stay."""
    newest_first = sorted(written_ns, key=lambda path: (written_ns[path], path), reverse=True)
    stay = set(newest_first[: retention.newest])
    for age_s, period_s in retention.spans:
        stay |= _last_of_each(newest_first, written_ns, now_ns - round(age_s * 1e9), period_s)
    return stay


def _last_of_each(
    newest_first: Sequence[Path], written_ns: Mapping[Path, int], oldest_ns: int, period_s: float
) -> set[Path]:
    """The last snapshot of each period of local time that is not older than ``oldest_ns``."""
    last: dict[int, Path] = {}
    for path in newest_first:
        if written_ns[path] >= oldest_ns:
            seconds = written_ns[path] // 10**9
            here = seconds + time.localtime(seconds).tm_gmtoff
            last.setdefault(here // round(period_s), path)
    return set(last.values())

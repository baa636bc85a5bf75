"""`state.keep`: how many snapshots stay, and for how long, as "2, 24h hourly, 30d daily"."""

import re

from streamrnn.settings.values import parse_duration, toml_value

PERIODS_S = {"minutely": 60.0, "hourly": 3600.0, "daily": 86400.0}
NEWEST = 2, 1000  # of the newest snapshots: one may be damaged, and a folder is listed with each one
_SNAPSHOTS = 10_000  # that the periods of one span may be

Kept = tuple[int, tuple[tuple[float, float], ...]]  # the newest, and (age, period) of each span, s


def parse_keep(text: str) -> Kept:
    """Raises ValueError that says what is wrong."""
    first, *spans = (part.strip() for part in text.split(","))
    if not re.fullmatch(r"[0-9]{1,9}", first) or not NEWEST[0] <= int(first) <= NEWEST[1]:
        raise ValueError(
            f"{toml_value(text)} does not begin with how many of the newest snapshots stay, {NEWEST[0]} to "
            f'{NEWEST[1]}; write "2", or "2, 24h hourly, 30d daily"'
        )
    return int(first), tuple(map(_parse_span, spans))


def _parse_span(text: str) -> tuple[float, float]:
    age, _, period = text.partition(" ")
    if period.strip() not in PERIODS_S:
        raise ValueError(
            f"{toml_value(text)} is no age and period; write them as 24h hourly, of {', '.join(PERIODS_S)}"
        )
    age_s, period_s = parse_duration(age), PERIODS_S[period.strip()]
    if not period_s <= age_s <= _SNAPSHOTS * period_s:
        raise ValueError(f"{toml_value(text)}: is not 1 to {_SNAPSHOTS:,} periods; write another age")
    return age_s, period_s

"""Times as people write them on a command line."""

import datetime
import re

from streamrnn.settings.values import parse_duration

_CLOCK = re.compile(r"([0-2]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?")
_AGO = re.compile(r"([0-9]+(?:ms|s|m|h|d))(?: ago)?")
_DAY = datetime.timedelta(days=1)


def parse_moment(text: str, now: datetime.datetime) -> int:
    """A time, CLOCK_REALTIME ns: 09:00 is the last time it was that, here; "2h" and "2h ago" are before now.

    Or 2026-03-01 and 2026-03-01T09:00, of the zone that it says or this machine's. ``now`` has a zone. Raises
    ValueError.
    """
    try:
        if found := _AGO.fullmatch(text):
            when = now - datetime.timedelta(seconds=parse_duration(found[1]))
        elif found := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in found.groups())
            at = datetime.time(hour, minute, second)
            here = now.astimezone().replace(tzinfo=None)
            when = datetime.datetime.combine(here.date(), at)
            when = (when if when <= here else when - _DAY).astimezone()
        else:
            when = datetime.datetime.fromisoformat(text)
            when = when if when.tzinfo else when.astimezone()
        return round(when.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f'{text!r} is no time; write 09:00, 2026-03-01T09:00 or "2h ago"') from error

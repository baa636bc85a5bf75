"""Channels by the names and paths that messages have for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from streamrnn.adapters.adapter import Plan, Rejected

MOST_MET = 100_000  # names of channels that are met, and not known before
_LONGEST = 127  # bytes of such a name


class Names:
    """The model's channels, in its order, and where messages keep their values."""

    def __init__(self, plan: Plan):
        self.channels = plan.channels
        # keys from the outside in; a channel without a path of its own is looked for by its name
        self.paths = [
            tuple(plan.fields[channel].split(".")) if channel in plan.fields else (channel,)
            for channel in plan.channels
        ]
        # where a name with dots may be a path as well, as `record` names what it finds there
        self.deeper = [
            (index, tuple(name.split(".")))
            for index, name in enumerate(plan.channels)
            if "." in name and name not in plan.fields
        ]
        self._index = {
            plan.fields.get(channel, channel): index for index, channel in enumerate(plan.channels)
        }
        self._met = plan.met
        if plan.met is not None:
            plan.met[:] = plan.channels

    def index(self, name: str) -> int | None:
        """The channel that a message calls ``name``; None for none of the model's.

        Where channels are told by what comes, it is a new one. Raises Rejected where there are too many.
        """
        index = self._index.get(name)
        if index is None and self._met is not None:
            if not is_name(name):
                raise Rejected("channel", f"{name[:40]!r} is no name of {_LONGEST} bytes in letters")
            if len(self._met) >= MOST_MET:
                raise Rejected("channel", f'"{name:.40}" is new, and there are {MOST_MET} channels already')
            index = self._index[name] = len(self._met)
            self._met.append(name)
            self.paths.append((name,))
        return index


def is_name(text: str) -> bool:
    """Whether a channel may be called like this: a column of a file will be."""
    return 0 < len(text.encode(errors="replace")) <= _LONGEST and text.isprintable() and text == text.strip()


def value_at(said: object, path: Sequence[str]) -> Any:
    """What stands at a path of keys; None where nothing does."""
    for key in path:
        said = said.get(key) if isinstance(said, Mapping) else None
    return said

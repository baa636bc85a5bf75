"""What objects of JSON and msgpack say: rows by the names of channels or by their order, or one value."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from streamrnn.adapters.adapter import Harvest, Message, Plan, Refused, Rejected
from streamrnn.adapters.headers import shown
from streamrnn.adapters.names import Names, value_at
from streamrnn.adapters.source import Origin, StreamFinder
from streamrnn.adapters.stamps import Stamps

_NAN = float("nan")
_VALUES = "values"  # the key of a row as a list
_VALUE = "value"  # and of a single value
_BAD_ROWS = 100  # of one message, past which the rest of it is not looked at
_WORD = 40  # bytes of a word alone
_SHOWN = 5  # keys that a refusal lists
NUMBERS = {float, int, bool}  # true and false are 1 and 0


class ObjectReader:
    """Enters decoded messages into a harvest.

    ``{"temp": 21.5, ...}``, ``[21.5, ...]``, ``{"values": [...]}`` and what JavaScript makes of a typed
    array, ``{"0": 21.5, ...}``, are rows; a list of them is several. Where a topic names a channel, a number
    alone or an object with ``value`` or the channel's key is one value.
    """

    def __init__(self, plan: Plan):
        self._names, self._stamps, self._finder = Names(plan), Stamps(plan), StreamFinder(plan)
        self._words, self._noted = plan.words, False
        self._own = {name: index for index, name in enumerate(plan.channels)}
        self._count = len(plan.channels)
        keys = [path[0] for path in self._names.paths if len(path) == 1]
        # all values of a flat object at once; of one key it would give a value and no tuple
        self._all = itemgetter(*keys) if len(keys) == self._count > 1 and not self._names.deeper else None
        self._time = self._stamps.path[0] if len(self._stamps.path) == 1 else None

    def split(self, message: Message) -> tuple[bytes | None, bytes]:
        """Topic, None where there is none, and payload. Raises Rejected for other parts."""
        parts = message.parts
        if len(parts) == 2 and message.topic is None:
            return parts[0], parts[1]
        if len(parts) == 1:
            return message.topic, parts[0]
        raise Rejected("parts", f"{len(parts)} parts, a topic and a payload wanted")

    def enter(self, said: Any, topic: bytes | None, came_ns: int, harvest: Harvest) -> None:
        """Enters what a message says. Raises Rejected where nothing of it can be used."""
        origin = self._finder.of_topic(topic)
        if type(said) is dict:
            self._object(said, origin, came_ns, harvest)
        elif type(said) is list and origin.channel is not None:
            raise Rejected("value", "a list, where its topic names one channel")
        elif type(said) is list and said and all(type(one) is dict or type(one) is list for one in said):
            bad = 0
            for one in said:
                try:
                    if type(one) is dict:
                        self._object(one, origin, came_ns, harvest)
                    else:
                        harvest.row(self._finder.of(origin), came_ns, self._listed(one))
                except Rejected as error:
                    bad += 1
                    if bad > _BAD_ROWS:
                        raise Rejected(error.reason, f"{error.what}, as {_BAD_ROWS} rows before") from None
                    harvest.refused.append(Refused(error.reason, topic or b"", error.what))
        elif type(said) is list:
            harvest.row(self._finder.of(origin), came_ns, self._listed(said))
        elif origin.channel is not None:
            self._single(said, origin.channel, self._finder.of(origin), came_ns, harvest)
        elif self._count == 1:
            harvest.row(self._finder.of(origin), came_ns, [number_of(said, self._words)])
        else:
            raise Rejected("channels", f"one value, {shown(said)}, and nothing says which channel's")

    def enter_text(self, payload: bytes, topic: bytes | None, came_ns: int, harvest: Harvest) -> bool:
        """The same for a word alone, where its topic names a channel; whether it is one."""
        origin = self._finder.of_topic(topic)
        if origin.channel is None or len(payload) > _WORD or not payload.isascii():
            return False
        text = payload.decode().strip()
        if not text.isprintable() or text.startswith(("{", "[", '"')):
            return False
        self._single(text, origin.channel, self._finder.of(origin), came_ns, harvest)
        return True

    def _object(self, said: dict[Any, Any], origin: Origin, came_ns: int, harvest: Harvest) -> None:
        stream = self._finder.of(origin, said)
        if self._finder.missed and not self._noted:
            self._noted = True
            harvest.note = f'no key "{stream}" in what comes: all of it is taken for a stream of that name'
        when = said.get(self._time) if self._time is not None else self._when(said)
        ts_ns = came_ns if when is None else self._stamps.ns(when)
        if origin.channel is not None:
            self._single(self._value(said, origin.channel), origin.channel, stream, ts_ns, harvest)
            return
        try:
            values: Sequence[Any] = self._all(said) if self._all is not None else self._row(said)
        except KeyError:
            values = self._row(said)
        harvest.row(stream, ts_ns, values)

    def _when(self, said: dict[Any, Any]) -> Any:
        return value_at(said, self._stamps.path) if self._stamps.path else None

    def _index(self, channel: str) -> int | None:
        """The channel that a topic names, by what it is called there or by its own name."""
        index = self._own.get(channel)
        return index if index is not None else self._names.index(channel)

    def _single(self, value: Any, channel: str, stream: str, ts_ns: int, harvest: Harvest) -> None:
        index = self._index(channel)
        if index is None:
            raise Rejected("channel", f'"{channel:.40}" is no channel of the model')
        harvest.update(stream, index, ts_ns, number_of(value, self._words))

    def _value(self, said: dict[Any, Any], channel: str) -> Any:
        """The one value of an object whose topic names its channel."""
        index = self._index(channel)
        found = None if index is None else value_at(said, self._names.paths[index])
        for key in (_VALUE, channel):
            found = said.get(key) if found is None else found
        if found is None and _VALUE not in said and channel not in said:
            raise Rejected("value", f'no key "{_VALUE}" or "{channel:.40}" in it, but {_keys_of(said)}')
        return found

    def _row(self, said: dict[Any, Any]) -> Sequence[Any]:
        """The values of an object, some of whose keys may be absent: missing."""
        values = [value_at(said, path) for path in self._names.paths]
        for index, path in self._names.deeper:
            values[index] = value_at(said, path) if values[index] is None else values[index]
        if any(value is not None for value in values) or any(path[0] in said for path in self._names.paths):
            return values
        if isinstance(row := said.get(_VALUES), (list, dict)):
            return self._listed(row)
        if "0" in said:
            return self._listed(said)
        raise Rejected("channel", f"none of the model's channels is in it, but {_keys_of(said)}")

    def _listed(self, row: list[Any] | dict[Any, Any]) -> Sequence[Any]:
        """The values of a list in the model's order, or of an object with the keys "0", "1", ..."""
        values = row if isinstance(row, list) else [row.get(str(index)) for index in range(self._count)]
        if len(row) != self._count or (isinstance(row, dict) and "0" not in row):
            raise Rejected("channels", f"{len(row)} values, {self._count} wanted")
        return values


def numbers(row: Sequence[Any], channels: Sequence[str], words: Mapping[str, float]) -> list[float]:
    """A row as floats, see ``number_of``. Raises Rejected."""
    values = []
    for channel, value in zip(channels, row, strict=True):
        try:
            values.append(number_of(value, words))
        except Rejected as error:
            raise Rejected("value", f"{channel} is {error.what}") from None
    return values


def number_of(value: Any, words: Mapping[str, float]) -> float:
    """A value as a float: null is NaN, true 1, a word what it stands for, what float64 cannot hold infinite.

    Raises Rejected for anything else.
    """
    if value is None:
        return _NAN
    if type(value) is str and (known := words.get(value.strip().casefold())) is not None:
        return known
    if type(value) not in NUMBERS:
        raise Rejected("value", f"{shown(value)}, no number")
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf")


def _keys_of(said: Mapping[Any, Any]) -> str:
    keys = [shown(key) for key in list(said)[:_SHOWN]]
    return ", ".join(keys) + (", ..." if len(said) > _SHOWN else "") if keys else "nothing"

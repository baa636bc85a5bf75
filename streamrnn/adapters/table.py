"""The adapters: a new one is a row here and a file beside it."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from streamrnn.adapters.adapter import Adapter, FoundChannels, Message, Plan
from streamrnn.errors import ConfigError


class InputAdapter(NamedTuple):
    """One format of messages."""

    name: str  # of `input.format`
    reads: str  # module:class
    names: str = ""  # module:function that finds channels in messages, see ``channels``; "" = none can
    extra: str = ""  # that brings its library, "" = none is needed


FORMATS = (
    InputAdapter("frame", "frames:FrameAdapter", "channels:in_frames"),  # a daemon's pump reads these two
    InputAdapter("raw", "frames:RawAdapter", "channels:in_raw"),
    InputAdapter("array", "array:ArrayAdapter", "channels:in_arrays"),
    InputAdapter("json", "json_objects:JsonAdapter", "channels:in_json"),
    InputAdapter("msgpack", "msgpack_objects:MsgpackAdapter", "channels:in_msgpack", "msgpack"),
    InputAdapter("gnuradio", "gnuradio:GnuRadioAdapter"),
    InputAdapter("bsread", "bsread:BsreadAdapter"),
    InputAdapter("open-ephys", "open_ephys:OpenEphysAdapter"),
)
BY_NAME = {row.name: row for row in FORMATS}


def make_adapter(name: str, plan: Plan) -> Adapter:
    """The adapter of ``input.format``. Raises ConfigError where its library is not installed."""
    row = BY_NAME[name]
    try:
        made: Adapter = _load(row.reads)(plan)
    except ModuleNotFoundError as error:
        if not row.extra or (error.name or "").startswith("streamrnn"):
            raise
        raise ConfigError(
            f'input.format: "{name}" needs {error.name}, which `pip install "streamrnn[{row.extra}]"` brings'
        ) from None
    return made


def find_channels(name: str, plan: Plan, messages: Sequence[Message]) -> FoundChannels | None:
    """The channels that messages of ``input.format`` show; None where they show none.

    ``plan`` says all but the channels. Raises ConfigError where messages of the format never show any.
    """
    if not BY_NAME[name].names:
        raise ConfigError(f'channels: messages of format "{name}" do not say how many there are; name them')
    found: FoundChannels | None = _load(BY_NAME[name].names)(messages, plan)
    return found


def _load(name: str) -> Any:
    """A ``module:name`` of this package."""
    module, _, what = name.partition(":")
    return getattr(importlib.import_module(f"streamrnn.adapters.{module}"), what)

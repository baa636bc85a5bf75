"""A configuration, turned into what reads brokers."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.errors import ConfigError
from streamrnn.mqtt.access import accesses
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.sections import Input

if TYPE_CHECKING:
    from streamrnn.mqtt.reader import BrokerReader


def make_readers(
    settings: Input,
    login: Mqtt,
    take: Callable[[Sequence[Message], Sequence[Refused]], bool],
    on_failure: Callable[[], object],
) -> "list[BrokerReader]":
    """One for each broker in `input.connect`; arguments as ``BrokerReader``'s.

    Raises ConfigError for files that cannot be used, or without the library.
    """
    if not settings.brokers:
        return []
    try:
        from streamrnn.mqtt.reader import BrokerReader
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("streamrnn"):
            raise
        raise ConfigError(
            'input.connect: mqtt:// needs paho-mqtt, which `pip install "streamrnn[mqtt]"` brings'
        ) from None
    return [BrokerReader(access, take, on_failure) for access in accesses(settings.brokers, login)]

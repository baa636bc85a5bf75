"""Endpoints of MQTT brokers: ``mqtt://user@host:1883/plant/+/+``.

None of the errors repeats the endpoint: somebody may have written a password into it.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

SCHEMES = ("mqtt://", "mqtts://")
PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC_BYTES = 65_535  # of the longest filter

_BROKER = re.compile(
    r"(?P<scheme>mqtts?)://(?:(?P<user>[^@:/]+)@)?(?P<host>\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/(?P<filter>.*)",
    re.DOTALL,
)
_PASSWORD = re.compile(r"mqtts?://[^@/]*:[^@]*@", re.DOTALL)
_NO_USER = re.compile(r"mqtts?://(?:\[[^\]@/]*\]|[^@/:]+)(?::[0-9]{1,5})?/")


class BrokerAddress(NamedTuple):
    """Where a broker is, and what is asked of it."""

    tls: bool
    user: str  # "" = nobody in particular
    host: str
    port: int
    filter: str  # of topics, with + and #


def is_broker(endpoint: str) -> bool:
    """Whether an endpoint is one of MQTT."""
    return endpoint.startswith(SCHEMES)


def parse_broker(text: str) -> BrokerAddress:
    """The parts of ``mqtt://[user@]host[:port]/filter``, or ``mqtts://``. Raises ValueError."""
    if _PASSWORD.match(text) and not _NO_USER.match(text):
        raise ValueError(
            "holds a password, which the log and `config check` would show; write mqtt://user@host/filter, "
            "and the password into a file that mqtt.password_file names"
        )
    match = _BROKER.fullmatch(text)
    if match is None:
        raise ValueError(
            "is not an endpoint of a broker; write mqtt://user@host:1883/filter (mqtts:// for TLS), a filter "
            "of topics as plant/+/+, an IPv6 host in [brackets]"
        )
    port = int(match["port"] or PORTS[match["scheme"]])
    if not 1 <= port <= 65535:
        raise ValueError("is not an endpoint; its port is not within 1 to 65535")
    _check_filter(match["filter"])
    user = unquote(match["user"] or "")
    if not user.isprintable():
        raise ValueError("has a user whose name cannot be printed")
    return BrokerAddress(match["scheme"] == "mqtts", user, match["host"].strip("[]"), port, match["filter"])


def _check_filter(text: str) -> None:
    if not text:
        raise ValueError("names no topics; write mqtt://host/plant/+/+, or mqtt://host/# for all there are")
    if "{" in text or "}" in text:
        raise ValueError(
            "has {} in its filter; write + and # there, as plant/+/+, and in input.topic what these are"
        )
    levels = text.split("/")
    wild = [level for level in levels if "#" in level or "+" in level]
    if any(level not in ("#", "+") for level in wild) or "#" in levels[:-1]:
        raise ValueError("has a filter that is none: + stands for one whole level, # for all from there on")
    if "\0" in text or not text.isprintable() or len(text.encode()) > TOPIC_BYTES:
        raise ValueError(f"has a filter that is none: write at most {TOPIC_BYTES} bytes that can be printed")

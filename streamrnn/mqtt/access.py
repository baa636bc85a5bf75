"""What a broker is told of us: name, login, certificate. Read once, at the start."""

import logging
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamrnn.errors import ConfigError
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.brokers import BrokerAddress, parse_broker
from streamrnn.settings.secret_file import read_secret_line

_LOCAL = ("localhost", "::1")

log = logging.getLogger("streamrnn")


@dataclass(frozen=True)
class BrokerAccess:
    """How one broker is reached."""

    endpoint: str  # as the configuration has it; without secrets
    address: BrokerAddress
    client_id: str
    kept: bool  # whether the broker keeps our subscription, and what comes for it, while we are away
    retained: bool  # whether messages that the broker had kept for those to come are taken
    password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)  # None = no TLS


def accesses(endpoints: Sequence[str], settings: Mqtt) -> list[BrokerAccess]:
    """One for each endpoint; two at one broker must not have the same name.

    Raises ConfigError, naming the key, for a file that cannot be used.
    """
    addresses = [parse_broker(endpoint) for endpoint in endpoints]
    password = None
    if settings.password_file:
        password = read_secret_line("mqtt.password_file", Path(settings.password_file))
    context = _context(settings) if any(address.tls for address in addresses) else None
    name = settings.client_id or f"streamrnn-{socket.gethostname()[:40]}-{os.getpid()}"
    found = []
    for place, (endpoint, address) in enumerate(zip(endpoints, addresses, strict=True), 1):
        login = password if address.user else None
        if login is not None and not address.tls and not _is_local(address.host):
            log.warning("%s: the password goes over the network in clear; use mqtts://", endpoint)
        found.append(
            BrokerAccess(
                endpoint=endpoint,
                address=address,
                client_id=name if place == 1 else f"{name}-{place}",
                kept=bool(settings.client_id),
                retained=settings.retained,
                password=login,
                context=context if address.tls else None,
            )
        )
    return found


def _is_local(host: str) -> bool:
    return host in _LOCAL or host.startswith("127.")


def _context(settings: Mqtt) -> ssl.SSLContext:
    """For the brokers' certificates, which are always checked, and our own."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise ConfigError(f"mqtt.ca_file: {settings.ca_file}: {_words(error)}") from None
    if settings.cert_file:
        try:
            # a key with a password of its own is refused rather than asked for on a terminal
            context.load_cert_chain(settings.cert_file, settings.key_file or None, password="")
        except OSError as error:
            key = settings.key_file or settings.cert_file
            raise ConfigError(
                f"mqtt.cert_file: {settings.cert_file} with key {key}: {_words(error)}"
            ) from None
    return context


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "holds nothing in PEM that can be used here"
    return f"cannot be read: {error.strerror}"

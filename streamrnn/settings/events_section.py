"""The section of the configuration that says what is kept of events, and who is told."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, field_validator

from streamrnn.settings.sections import Duration, Section, beside_the_file
from streamrnn.settings.values import format_size, parse_size, toml_value

Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]  # bytes


class Events(Section):
    path: str = Field(default="", description='file of the journal of events, "" = none')
    keep: Duration = Field(
        default=90 * 86400.0, gt=0, description="how long entries stay that nobody judged or noted"
    )
    size: Size = Field(default=10**9, ge=10**6, description="bytes of the journal; past it the oldest go")
    silence: Duration = Field(
        default=10.0,
        description='a stream this silent, and 10 times longer than usual, is noted; "0" = never',
    )
    before: Duration = Field(default=120.0, description="of the recording of an event: time before it")
    after: Duration = Field(default=120.0, description="and behind it")
    recording: Size = Field(
        default=64_000, ge=0, le=16 * 10**6, description='bytes of a recording, packed fewer; "0" = none'
    )
    memory: Size = Field(
        default=64 * 10**6, ge=0, description="bytes for the last rows of all streams, for recordings"
    )
    webhook: str = Field(default="", description='https:// address that is told of events, "" = none')
    webhook_secret_file: str = Field(
        default="", validate_default=True, description="file of the key that signs what it is told"
    )

    @field_validator("path", "webhook_secret_file")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        if info.field_name == "webhook_secret_file" and bool(name) != bool(info.data.get("webhook", name)):
            raise ValueError("goes with events.webhook: set both, or neither")
        return beside_the_file(name, info)

    @field_validator("webhook_secret_file")
    @classmethod
    def _is_not_the_journal(cls, name: str, info: ValidationInfo) -> str:
        if name and name == info.data.get("path"):
            raise ValueError("is the journal, too; name another file")
        return name

    @field_validator("webhook")
    @classmethod
    def _is_safe(cls, address: str, info: ValidationInfo) -> str:
        if not address:
            return address
        if info.data.get("path") == "":
            raise ValueError("is told from the journal; set events.path, too")
        wrong = f"{toml_value(address)} is no address to tell; write https://host/path"
        try:
            parts = urlsplit(address)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError(wrong) from None
        if not (address.isascii() and address.isprintable() and " " not in address and host):
            raise ValueError(wrong)
        if parts.username or parts.password or parts.fragment:
            raise ValueError(f"{wrong}, with no user or password: what it is told is signed")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
            raise ValueError(f"{wrong}; http:// goes to this machine alone, as http://127.0.0.1:8080/path")
        return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What the header of an XDF stream says, which is XML."""

import re
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from streamrnn.recordings.stored import Damaged
from streamrnn.recordings.xdf.chunks import DTYPES

_LONGEST_TEXT = 4 << 20  # bytes of XML
_MOST_CHANNELS = 1 << 16


class XdfStream(NamedTuple):
    """A stream; ``rate`` is in 1/s, 0 = irregular. ``dtype`` is None for text."""

    name: str
    labels: list[str]
    units: list[str]
    rate: float
    dtype: np.dtype | None


def parse_stream(text: bytes) -> XdfStream:
    """A stream's header. Raises Damaged."""
    info = _parse(text)
    kind = _text(info, "channel_format")
    if kind not in DTYPES and kind != "string":
        raise Damaged(f"channels of {kind[:40]!r}")
    try:
        count, rate = int(_text(info, "channel_count")), float(_text(info, "nominal_srate"))
    except ValueError as error:
        raise Damaged(str(error)) from None
    if not 0 <= count <= _MOST_CHANNELS or not 0 <= rate < 1e9:
        raise Damaged(f"{count} channels at {rate} samples a second")
    told = info.findall("./desc/channels/channel")
    told = told if len(told) == count else []
    name = _text(info, "name")
    labels = [_text(channel, "label") for channel in told]
    if len(set(labels)) < count or not all(labels):
        labels = [name] if count == 1 and name else [f"c{k + 1}" for k in range(count)]
    units = [_text(channel, "unit") for channel in told] or [""] * count
    dtype = None if kind == "string" else np.dtype(DTYPES[kind])
    return XdfStream(name, labels, units, rate, dtype)


def parse_datetime(text: bytes) -> str:
    """When the file's header says that it was begun: text, "" where it does not. Raises Damaged."""
    return _text(_parse(text), "datetime")


def _parse(text: bytes) -> ElementTree.Element:
    if len(text) > _LONGEST_TEXT:
        raise Damaged(f"{len(text):,} bytes of XML")
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):  # what entities stand for has no bound
        raise Damaged("XML that defines entities")
    try:
        return ElementTree.fromstring(text.decode("utf-8", "replace"))  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise Damaged(f"XML that cannot be read ({error})") from None


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()

"""Text in the encodings that loggers write, as UTF-8."""

import codecs
from collections.abc import Iterator

from streamrnn.errors import UserError

BOMS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
OLDER = "cp1252"  # what bytes that are no UTF-8 are taken for: where older programs put a degree sign
ZEROS = 0.3  # share of zero bytes among every other one that says UTF-16


class Utf8:
    """Turns the bytes of a file into UTF-8: ``pieces`` as they come, then ``records`` of whole lines.

    ``name`` is the encoding that they are taken for. Raises UserError for one that does not exist, and where
    bytes are not of the one that was told.
    """

    def __init__(self, told: str | None, where: str) -> None:
        self._where = where
        self.name = told or "utf-8"
        self._told = told is not None
        try:
            if told is not None and not codecs.lookup(told)._is_text_encoding:
                raise LookupError
        except LookupError:
            raise UserError(
                f'"{told}" is no encoding of text; use one such as utf-8, cp1252 or utf-16 with --encoding'
            ) from None

    def pieces(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, transcoded where they are in an encoding that their first bytes or the user told."""
        first = next(raw, b"")
        while len(first) < 4 and (piece := next(raw, None)) is not None:
            first += piece
        if not self._told:
            self.name = _by_first_bytes(first)
        if codecs.lookup(self.name).name == "utf-8":
            yield first.removeprefix(codecs.BOM_UTF8)
            yield from raw
            return
        decoder = codecs.getincrementaldecoder(self.name)()
        try:
            yield decoder.decode(first).encode()
            for piece in raw:
                yield decoder.decode(piece).encode()
            yield decoder.decode(b"", True).encode()
        except UnicodeError as error:
            raise UserError(
                f"{self._where}: is not text in {self.name} ({getattr(error, 'reason', error)}); name "
                "another with --encoding"
            ) from None

    def records(self, chunk: bytes) -> bytes:
        """Whole lines, those that are no UTF-8 taken for an older encoding."""
        if chunk.isascii():
            return chunk
        try:
            chunk.decode()
        except UnicodeDecodeError as error:
            if self._told:
                raise UserError(
                    f"{self._where}: is not text in {self.name} ({error.reason}); name another with "
                    "--encoding"
                ) from None
            self.name = OLDER
            return b"".join(map(_utf8_line, chunk.splitlines(keepends=True)))
        return chunk


def _by_first_bytes(first: bytes) -> str:
    for mark, name in BOMS:
        if first.startswith(mark):
            return name
    sample = first[:4096]
    for begin, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[begin::2].count(0), sample[1 - begin :: 2].count(0)
        if len(sample) >= 4 and zeros > ZEROS * len(sample) and not others:
            return name
    return "utf-8"


def _utf8_line(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode(OLDER, "replace").encode()
    return line

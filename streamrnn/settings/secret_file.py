"""Secrets that a configuration names by their file: passwords, tokens. One line each."""

import os
import stat
from pathlib import Path

from streamrnn.errors import ConfigError

TOKEN_LETTERS = 20, 512  # of the token that lets somebody in over HTTP: at least, and at most
_MOST_BYTES = 1 << 16


def read_secret_line(key: str, file: Path, what: str = "password") -> str:
    """The line in ``file``, which the setting ``key`` names.

    Raises ConfigError where it cannot be read, holds anything but one line, or others than its owner can read
    it.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise ConfigError(
                    f"{key}: {file}: others than its owner can read or write it; run chmod 600 {file}"
                )
            lines = opened.read(_MOST_BYTES).splitlines()
    except OSError as error:
        raise ConfigError(f"{key}: {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or not lines[0]:
        raise ConfigError(f"{key}: {file}: write the {what} there, as one line")
    return lines[0]


def read_token(file: Path) -> str:
    """The token of ``http.token_file``. Raises ConfigError, also for one that can be guessed."""
    token = read_secret_line("http.token_file", file, "token")
    least, most = TOKEN_LETTERS
    if not (least <= len(token) <= most and token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(
            f"http.token_file: {file}: a token has {least} to {most} letters and digits, and no space; "
            f"`openssl rand -hex 32 > {file}` makes one"
        )
    return token

"""CURVE keys (rfc.zeromq.org/spec/26): made, written, read, and put on the socket of a client.

A key file is one line, the key in Z85, below comments: lines that begin with "# ".
"""

import os
import stat
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from streamrnn.errors import UserError
from streamrnn.settings.values import is_key

REFUSALS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the key of --secret is refused; let its public key be listed in the "
    "daemon's [security]",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the other end does not speak as this one does; give --server-key "
    "and --secret to a daemon that has keys, and to no other",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the other end hangs up on every greeting; is it a daemon, and "
    "--server-key its public key?",
}
HANG_UPS = 3  # one may be a daemon that is being stopped


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs to talk to a daemon that has a CURVE key. Z85 text."""

    server: str  # the daemon's public key
    secret: str = field(repr=False)  # the client's own

    def put_on(self, socket: zmq.Socket) -> None:
        """Makes ``socket`` a CURVE client; before it is bound or connected."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_secretkey = self.secret.encode()
        socket.curve_publickey = public_key(self.secret).encode()


class KeyRefusals:
    """What a client's user is told when the other end does not let it in; ``see`` its monitor's events."""

    EVENTS = sum(REFUSALS)  # to ask the monitor for

    def __init__(self, endpoint: str, bind: bool) -> None:
        self._endpoint, self._bind = endpoint, bind
        self._seen: Counter[int] = Counter()

    def see(self, event: int) -> None:
        """Warns on stderr; raises UserError where libzmq does not try again."""
        if event in REFUSALS:
            self._seen[event] += 1
            words = f"{self._endpoint}: {REFUSALS[event]}"
            hang_up = event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            if not (self._bind or hang_up):
                raise UserError(words)
            if self._seen[event] == (HANG_UPS if hang_up else 1):
                sys.stderr.write(f"warning: {words}\n")


def public_key(secret: str) -> str:
    """The public key that belongs to a secret one."""
    return zmq.curve_public(secret.encode()).decode()


def write_keys(name: str, force: bool = False) -> tuple[Path, Path, str]:
    """Makes a pair of keys. Returns the files NAME.secret (mode 0600) and NAME.public, and the public key.

    Raises UserError for a file that is there already, unless ``force`` replaces it.
    """
    public, secret = (key.decode() for key in zmq.curve_keypair())
    secret_file, public_file = Path(f"{name}.secret"), Path(f"{name}.public")
    for file in (secret_file, public_file):
        if force:
            file.unlink(missing_ok=True)
        elif file.exists():
            raise UserError(f"{file}: is there already; name another, or replace it with --force")
    # a file that is new, and its owner's alone from the start, nobody else can have opened
    secret_file.touch(mode=0o600, exist_ok=False)
    secret_file.write_text(f"# streamrnn secret key\n{secret}\n")
    public_file.write_text(f"# streamrnn public key\n{public}\n")
    return secret_file, public_file, public


def read_secret(file: Path) -> str:
    """The secret key in ``file``. Raises UserError, also where others than its owner can read it."""
    return _read_key(file, "secret")


def client_keys(server: str, secret: Path) -> ClientKeys:
    """The keys that ``--server-key KEY|FILE`` and ``--secret FILE`` name.

    Raises UserError for a file that holds no such key.
    """
    return ClientKeys(server if is_key(server) else _read_key(Path(server), "public"), read_secret(secret))


def _read_key(file: Path, kind: str) -> str:
    try:
        with file.open(encoding="ascii") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if kind == "secret" and mode & 0o077:
                raise UserError(f"{file}: others than its owner can read or write it; run chmod 600 {file}")
            lines = opened.read(4096).splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; `streamrnn keygen` makes one") from error
    except UnicodeDecodeError:
        lines = []
    other = {"secret": "public", "public": "secret"}[kind]
    if f"# streamrnn {other} key" in lines:
        raise UserError(f"{file}: holds a {other} key; name the file of the {kind} one")
    found = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
    if len(found) != 1 or not is_key(found[0]):
        raise UserError(f"{file}: holds no key of 40 Z85 characters; `streamrnn keygen` makes such a file")
    return found[0]

"""A connection to the servers of a cluster, as the configuration says."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from streamrnn.cluster.jetstream import JetStream
from streamrnn.errors import ConfigError, UserError
from streamrnn.settings.cluster_section import Cluster

PENDING_BYTES = 1 << 26  # that may wait to be sent
_PING_S = 5  # a server that does not answer two of these is given up
_TRY_S = 2
_MOST_TOLD = 10

log = logging.getLogger("streamrnn")


async def connect(settings: Cluster, label: str, patience_s: float | None = None) -> JetStream:
    """A connection that mends itself. ``label`` is what servers call it.

    Waits for a server for ever, or ``patience_s``. Raises ConfigError for settings that cannot be used, and
    UserError where no server answers in time, or none lets us in.
    """
    try:
        import nats
    except ModuleNotFoundError:
        raise ConfigError(
            'a cluster needs nats-py, which `pip install "streamrnn[cluster]"` brings'
        ) from None
    if not settings.servers:
        raise ConfigError("cluster.servers: none; name the NATS servers, or give --server")
    how, told, loop = _login(settings), False, asyncio.get_running_loop()
    end = loop.time() + patience_s if patience_s is not None else None
    while True:
        says = _Says()
        try:
            client = await asyncio.wait_for(
                nats.connect(
                    list(settings.servers),
                    name=label,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # seconds
                    connect_timeout=_TRY_S,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    pending_size=PENDING_BYTES,
                    disconnected_cb=says.lost,
                    reconnected_cb=says.found,
                    error_cb=says.wrong,
                    **how,
                ),
                _TRY_S,
            )
        except (nats.errors.Error, OSError, ValueError) as error:
            why = str(says.last or error) or type(says.last or error).__name__
            if says.refused:
                raise UserError(f"cluster.servers: nobody lets us in: {says.refused}") from error
            servers = ", ".join(settings.servers)
            if end is not None and loop.time() > end:
                raise UserError(
                    f"cluster.servers: no answer from {servers} ({why}); are they there?"
                ) from error
            if not told:
                log.warning("no answer from %s (%s); trying on", servers, why)
            told = True
            await asyncio.sleep(_TRY_S / 10)
            continue
        says.connected = True
        jetstream = JetStream(client, says.close)
        await jetstream.start()
        return jetstream


class _Says:
    """What is said of a connection."""

    def __init__(self) -> None:
        self.connected, self.refused, self._forbidden = False, "", set[str]()
        self.last: Exception | None = None

    def close(self) -> None:
        """Nothing more."""
        self.connected = False

    async def lost(self) -> None:
        if self.connected:
            log.warning("the connection to the NATS server is lost; looking for another")

    async def found(self) -> None:
        if self.connected:
            log.info("connected to a NATS server again")

    async def wrong(self, error: Exception) -> None:
        self.last = error
        if "authorization" in str(error).lower() or isinstance(error, ssl.SSLError):
            self.refused = str(error)
        said = str(error) or type(error).__name__
        new = said not in self._forbidden and len(self._forbidden) < _MOST_TOLD
        if new and "permissions" in said.lower():
            self._forbidden.add(said)
            log.error("%s; a member needs the subjects NAME.>, $JS.> and _INBOX.>", said)
        log.debug("NATS: %s", said)


def _login(settings: Cluster) -> dict[str, Any]:
    """What the client is told of who we are. Raises ConfigError."""
    how: dict[str, Any] = {}
    if settings.user:
        how["user"], how["password"] = settings.user, _text(settings.password_file, "password_file")
    if settings.credentials:
        try:
            import nkeys  # noqa: F401
        except ModuleNotFoundError:
            raise ConfigError("cluster.credentials: needs nkeys: `pip install nkeys`") from None
        _text(settings.credentials, "credentials")
        how["user_credentials"] = settings.credentials
    if settings.ca_file or settings.cert_file or any(map(_is_tls, settings.servers)):
        how["tls"] = _context(settings)
    return how


def _is_tls(server: str) -> bool:
    return server.startswith("tls://")


def _context(settings: Cluster) -> ssl.SSLContext:
    key, name = "ca_file", settings.ca_file
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            key, name = "cert_file", settings.cert_file
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cluster.{key}: {name}: cannot be used ({error})") from error
    return context


def _text(name: str, key: str) -> str:
    if not name:
        return ""
    try:
        return Path(name).read_text().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cluster.{key}: {name}: cannot be read ({error})") from error

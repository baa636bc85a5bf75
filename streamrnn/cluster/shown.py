"""What a member shows over HTTP: its metrics, whether it is well, and the cluster as it hears of it."""

import time

from prometheus_client.registry import Collector

from streamrnn.cluster.members import Members
from streamrnn.cluster.metrics import registry_of
from streamrnn.cluster.terms import Terms
from streamrnn.errors import ConfigError
from streamrnn.settings.config import Config
from streamrnn.web.app import WebServer
from streamrnn.web.cluster import ClusterViews

_STALE_S = 5.0  # a loop that has not turned for so long hangs


class Shown:
    """The HTTP of a member, if its configuration has any; ``turned`` is called as its loop turns."""

    def __init__(self, config: Config, members: Members, terms: Terms, *collectors: Collector):
        self._turned = time.monotonic()
        self._members, self._cluster, self._shards = members, config.cluster.name, terms.shards
        self._web: WebServer | None = None
        if config.http.control:
            raise ConfigError(
                "http.control: nobody changes the streams of a cluster by hand; leave it out here, and "
                "set it where a daemon serves alone"
            )
        if config.http.address is not None:
            views = ClusterViews(self._status)
            registry = registry_of(*collectors)
            self._web = WebServer(*config.http.address, registry, self._health, self._ready, views)
            self._web.start()

    @property
    def where(self) -> str:
        """For the line that says it is ready."""
        return f", http://{self._web.address}" if self._web is not None else ""

    def turned(self) -> None:
        self._turned = time.monotonic()

    def _health(self) -> tuple[bool, str]:
        age = time.monotonic() - self._turned
        return age < _STALE_S, f"its loop turned {age:.2f} s ago"

    def _ready(self) -> tuple[bool, str]:
        return True, "ready"

    def _status(self) -> dict[str, object]:
        seen = self._members.seen()
        return {"now": time.time(), "cluster": self._cluster, "shards": self._shards, "members": seen}

    def stop(self) -> None:
        if self._web is not None:
            self._web.stop()

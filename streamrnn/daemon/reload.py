"""What a running daemon takes from its configuration anew, and what it refuses to."""

from streamrnn.errors import ConfigError
from streamrnn.settings.config import Config, settings_of

LIVE = (  # keys, and sections, that may change while the daemon runs
    *("model", "faults.", "log.", "streams.idle_timeout", "state.interval"),
    *("security.client_keys", "security.output_clients"),
)


def refuse_what_is_fixed(old: Config, new: Config) -> None:
    """Raises ConfigError naming every key that differs and needs a restart."""
    before = settings_of(old)
    changed = [key for key, value in settings_of(new).items() if value != before[key]]
    if fixed := [key for key in changed if not key.startswith(LIVE)]:
        raise ConfigError(f"{', '.join(fixed)}: cannot change while the daemon runs; restart it for that")

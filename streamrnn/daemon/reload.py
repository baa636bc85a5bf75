"""What a running daemon takes from its configuration anew, and what it refuses to."""

from streamrnn.errors import ConfigError
from streamrnn.settings.config import Config, live_names, settings_of


def refuse_what_is_fixed(old: Config, new: Config) -> None:
    """Raises ConfigError naming every key that differs and needs a restart."""
    before = settings_of(old)
    changed = [key for key, value in settings_of(new).items() if value != before[key]]
    live = live_names()
    if fixed := [key for key in changed if key not in live and key.partition(".")[0] not in live]:
        raise ConfigError(f"{', '.join(fixed)}: cannot change while the daemon runs; restart it for that")

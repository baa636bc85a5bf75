"""What the daemon says, a line each, on standard error."""

import json
import logging
import sys
import time

from streamrnn.settings.sections import Log


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, message."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def set_up_log(settings: Log) -> None:
    """Sends this process's log and warnings to standard error, in the format and from the level asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if settings.format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.getLogger("numba").setLevel(logging.WARNING)
    logging.captureWarnings(True)

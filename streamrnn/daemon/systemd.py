"""What a service and systemd tell each other: the protocol of sd_notify(3)."""

import os
import socket
from contextlib import suppress

_SEND_S = 1.0  # a service manager that takes no messages must not hold the service up


def notify(**fields: object) -> bool:
    """Tells systemd, in one message: ``notify(READY=1, STATUS="4096 streams")``. Never raises.

    Returns whether the message was handed over; False when systemd did not start this process as
    ``Type=notify``, and nothing happens then. A line break in a value becomes a space.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    message = "\n".join(lines).encode(errors="replace")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(_SEND_S)
            manager.sendto(message, address.replace("@", "\0", 1) if address[0] == "@" else address)
    except OSError:
        return False
    return True


def watchdog_s() -> float | None:
    """Seconds within which systemd expects ``notify(WATCHDOG=1)``, again and again; None where it does not.

    Half of it is a good period to notify at.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for the process that started this one
    with suppress(ValueError):
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        if microseconds > 0:
            return microseconds / 1e6
    return None

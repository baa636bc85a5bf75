"""The kinds of values that settings have: how each is written, and what is no such value."""

import functools
import ipaddress
import json
import re

STREAM_BYTES = 127  # in the longest stream id
IPC_PATH_BYTES = 107  # what a Unix socket address holds on Linux
UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
UNITS_BYTES = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 1000}
FINER_NS = {"us": 1000, "ns": 1}
LONGEST_MS = 36_500 * UNITS_MS["d"]  # keeps every duration within 64 bits of nanoseconds

TCP = re.compile(r"tcp://(?P<host>\*|\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._-]+):(?P<port>\*|[0-9]{1,5})")
MOST_BANDS = 4
LISTEN = re.compile(r"(?P<host>\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._-]+):(?P<port>[0-9]{1,5})")

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def toml_value(value: object) -> str:
    """The value as TOML writes it: a Config has texts, numbers, truths, lists and tables of texts."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(key)} = {toml_value(text)}" for key, text in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def parse_duration(text: object) -> float:
    """Seconds in ``"500ms"``, ``"10s"``, ``"5m"``, ``"1h"``, ``"2d"`` or ``"0"``. Raises ValueError."""
    match = re.fullmatch(r"0|(\d+)(ms|s|m|h|d)", text, re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f'{toml_value(text)} is not a duration; write "500ms", "10s", "5m", "1h", "2d" or "0"'
        )
    milliseconds = int(match[1] or 0) * UNITS_MS[match[2] or "s"]
    if milliseconds > LONGEST_MS:
        raise ValueError(f"{toml_value(text)} is too long; use at most {format_duration(LONGEST_MS / 1000)}")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """The text ``parse_duration`` reads as ``seconds``, in the largest unit that needs no fraction."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0"
    unit = next(unit for unit, size in UNITS_MS.items() if milliseconds % size == 0)
    return f"{milliseconds // UNITS_MS[unit]}{unit}"


def parse_size(text: object) -> int:
    """Bytes in ``"64KB"``, ``"500MB"``, ``"1GB"``, ``"2TB"`` or ``"0"``. Raises ValueError."""
    match = re.fullmatch(r"0|(\d{1,9})(KB|MB|GB|TB)", text, re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'{toml_value(text)} is not a size; write "64KB", "500MB", "1GB", "2TB" or "0"')
    return int(match[1] or 0) * UNITS_BYTES[match[2] or "KB"]


def format_size(size: int) -> str:
    """The text ``parse_size`` reads as ``size``, a whole number of KB, in the largest unit that fits."""
    if size == 0:
        return "0"
    unit = next(unit for unit, each in UNITS_BYTES.items() if size % each == 0)
    return f"{size // UNITS_BYTES[unit]}{unit}"


def span_ns(text: str, period_ns: int = 0) -> int:
    """ns in a duration, which may count us and ns as well, or in ``"3 periods"``. Raises ValueError."""
    match = re.fullmatch(r"0|(\d{1,15})(ns|us|ms|s|m|h|d)|(\d{1,9}) periods?", text, re.ASCII)
    if match is None:
        raise ValueError(
            f'{toml_value(text)} is no time; write "100us", "500ms", "10s", "5m", "1h", or "3 periods"'
        )
    if match[3]:
        return int(match[3]) * period_ns
    ns = (
        int(match[1] or 0) * (FINER_NS | {unit: ms * 10**6 for unit, ms in UNITS_MS.items()})[match[2] or "s"]
    )
    if ns > LONGEST_MS * 10**6:
        raise ValueError(f"{toml_value(text)} is too long; use at most {format_duration(LONGEST_MS / 1000)}")
    return ns


def check_endpoint(text: str, bind: bool) -> str:
    """``text`` if a ZeroMQ socket can bind (or connect) to it over TCP or IPC; else raises ValueError."""
    wrong = f"{toml_value(text)} is not an endpoint"
    transport, separator, address = text.partition("://")
    if not separator:
        raise ValueError(f"{wrong}; write tcp://host:port or ipc://path")
    if transport == "inproc":
        raise ValueError(f"{wrong} that another process can reach; use tcp://host:port or ipc://path")
    if transport in ("mqtt", "mqtts"):
        raise ValueError("is a broker's endpoint, which input.connect alone takes")
    if transport == "ipc":
        _check_ipc_path(address, bind, wrong)
    elif transport == "tcp":
        _check_tcp_address(text, bind, wrong)
    else:
        raise ValueError(f"{wrong} this version speaks; use tcp://host:port or ipc://path")
    return text


def check_server(text: str) -> str:
    """``text`` if it is where a NATS server can be; else raises ValueError."""
    scheme, _, address = text.partition("://")
    if scheme not in ("nats", "tls") or TCP.fullmatch(f"tcp://{address}") is None or "*" in address:
        raise ValueError(f"{toml_value(text)} is no server; write nats://host:port or tls://host:port")
    return text


def _check_ipc_path(path: str, bind: bool, wrong: str) -> None:
    if not path.isprintable() or path in ("", "@") or (path == "*" and not bind):
        raise ValueError(f"{wrong}; ipc:// is followed by the path of a socket")
    size = len(path.encode())
    if size > IPC_PATH_BYTES:
        raise ValueError(f"{wrong}; its path has {size} bytes, a Unix socket's at most {IPC_PATH_BYTES}")


def _check_tcp_address(text: str, bind: bool, wrong: str) -> None:
    match = TCP.fullmatch(text)
    if match is None:
        raise ValueError(f"{wrong}; write tcp://host:port, an IPv6 host in [brackets]")
    host, port = match["host"], match["port"]
    if "*" in (host, port) and not bind:
        raise ValueError(f"{wrong} to connect to; name the host and the port (* is for bind)")
    if port != "*" and not 1 <= int(port) <= 65535:
        raise ValueError(f"{wrong}; its port is not within 1 to 65535")


def parse_listen(text: str) -> tuple[str, int] | None:
    """Host and port of ``host:port``, None for ``""``; port 0 lets the system choose. Raises ValueError."""
    if not text:
        return None
    match = LISTEN.fullmatch(text)
    if match is None:
        raise ValueError(f'{toml_value(text)} is not host:port; write 127.0.0.1:9464, 0.0.0.0:9464, or ""')
    if int(match["port"]) > 65535:
        raise ValueError(f"{toml_value(text)} has a port above 65535")
    return match["host"].strip("[]"), int(match["port"])


def is_local(endpoint: str) -> bool:
    """Whether a bind to ``endpoint`` can be reached from this machine alone: ipc://, or TCP on loopback."""
    match = TCP.fullmatch(endpoint)
    if match is None:
        return endpoint.startswith("ipc://")
    try:
        return ipaddress.ip_address(match["host"].strip("[]")).is_loopback
    except ValueError:  # *, a name, or an address in an unusual form
        return match["host"] == "localhost"


def is_key(text: str) -> bool:
    """Whether ``text`` is a CURVE key: 32 bytes in Z85 (rfc.zeromq.org/spec/32), which are 40 characters."""
    if len(text) != 40 or not set(text) <= set(Z85):
        return False
    digits = [Z85.index(character) for character in text]
    fives = [digits[place : place + 5] for place in range(0, 40, 5)]
    return all(functools.reduce(lambda above, digit: 85 * above + digit, five) < 1 << 32 for five in fives)


def check_stream(text: str) -> str:
    """``text`` if a stream can be called so, or it is empty; else raises ValueError."""
    if (size := len(text.encode())) > STREAM_BYTES:
        raise ValueError(f"{size} bytes are too many for a stream's id; use at most {STREAM_BYTES}")
    if not text.isprintable() or text.startswith(("{", "[")):
        raise ValueError(f"{toml_value(text)} is no stream's id; write letters, and none of {{ and [ first")
    return text


def check_topic(pattern: str) -> str:
    """``pattern`` if it says what the parts of a topic are, or is empty; else raises ValueError."""
    places = re.findall(r"\{([^}]*)\}?", pattern)
    if pattern and (not places or not {*places} <= {"stream", "channel"} or len({*places}) < len(places)):
        raise ValueError(
            f"{toml_value(pattern)} says not what is what; write {{stream}} and {{channel}} for the parts "
            'that name them, each once, as in "plant/{stream}/{channel}", and + for others'
        )
    return pattern


def check_levels(levels: tuple[float, ...]) -> tuple[float, ...]:
    """``levels`` if bands can be of these; else raises ValueError."""
    if len(levels) > MOST_BANDS:
        raise ValueError(f"{len(levels)} bands are too many; name at most {MOST_BANDS}")
    for level in levels:
        if not 0.01 <= level <= 0.999:
            raise ValueError(f"{level:g} is no share that a band can hold; name 0.01 to 0.999, as [0.5, 0.9]")
    if list(levels) != sorted({*levels}):
        raise ValueError("the levels do not rise; name each once, the narrowest band first, as [0.5, 0.9]")
    return levels


def check_key(text: str) -> str:
    """``text`` if it is a CURVE key; else raises ValueError."""
    if not is_key(text):
        raise ValueError(
            f"{toml_value(text)} is not a key of 40 Z85 characters; `streamrnn keygen` makes and prints one"
        )
    return text

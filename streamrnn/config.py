"""One TOML file, and the flags that override it, become one validated, frozen ``Config``.

The sections below are the only place where a setting, its default and its meaning are written;
the command line and the documentation derive from them.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from streamrnn.errors import ConfigError

NOT_YET = {  # why a value one may expect is refused
    "input.format": "adapters for other formats are not in this version",
    "output.format": "JSON on the wire is not in this version; `streamrnn tail --json` prints it",
    "state.live": "this version keeps state in memory only",
    "state.snapshots": "this version keeps state in memory only",
}
IPC_PATH_BYTES = 107  # what a Unix socket address holds on Linux
UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
LONGEST_MS = 36_500 * UNITS_MS["d"]  # keeps every duration within 64 bits of nanoseconds

TCP = re.compile(r"tcp://(?P<host>\*|\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._-]+):(?P<port>\*|[0-9]{1,5})")
LISTEN = re.compile(r"(?P<host>\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._-]+):(?P<port>[0-9]{1,5})")


def toml_value(value: object) -> str:
    """The value as TOML writes it: every value of a Config is text, an integer or a list of texts."""
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


def check_endpoint(text: str, bind: bool) -> str:
    """``text`` if a ZeroMQ socket can bind (or connect) to it over TCP or IPC; else raises ValueError."""
    wrong = f"{toml_value(text)} is not an endpoint"
    transport, separator, address = text.partition("://")
    if not separator:
        raise ValueError(f"{wrong}; write tcp://host:port or ipc://path")
    if transport == "inproc":
        raise ValueError(f"{wrong} that another process can reach; use tcp://host:port or ipc://path")
    if transport == "ipc":
        _check_ipc_path(address, bind, wrong)
    elif transport == "tcp":
        _check_tcp_address(text, bind, wrong)
    else:
        raise ValueError(f"{wrong} this version speaks; use tcp://host:port or ipc://path")
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


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]  # seconds
BindEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=True))]
ConnectEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=False))]
# TOML has lists, a frozen section holds tuples: the container alone is converted, its items are not
Topics = Annotated[tuple[str, ...], Strict(False)]
BindEndpoints = Annotated[tuple[BindEndpoint, ...], Strict(False)]
ConnectEndpoints = Annotated[tuple[ConnectEndpoint, ...], Strict(False)]


class Section(BaseModel):
    """A frozen table of settings that refuses unknown keys and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Input(Section):
    connect: ConnectEndpoints = Field(default=(), description="endpoints of publishers to connect to")
    bind: BindEndpoints = Field(default=(), description="endpoints to bind, for publishers that connect")
    socket: Literal["sub", "pull"] = Field(default="sub", description='"sub" beside PUB, "pull" beside PUSH')
    topics: Topics = Field(default=("",), description='prefixes of the stream ids to take ("sub" only)')
    format: Literal["frame", "raw"] = Field(
        default="frame", description='"frame": header and values, or "raw": the float32 values alone'
    )

    @field_validator("topics")
    @classmethod
    def _topics_need_sub(cls, topics: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("socket") == "pull" and topics != ("",):
            raise ValueError('a "pull" socket takes every frame; leave topics out, or use socket = "sub"')
        if not topics:
            raise ValueError('[] receives nothing; use [""] for every stream')
        return topics


class Output(Section):
    bind: BindEndpoints = Field(default=(), description="endpoints to publish predictions on")
    connect: ConnectEndpoints = Field(default=(), description="endpoints of subscribers that bind")
    format: Literal["prediction"] = Field(default="prediction", description='"prediction": header and values')


class Streams(Section):
    capacity: int = Field(default=4096, ge=1, le=10_000_000, description="streams held, 1 to 10000000")
    idle_timeout: Duration = Field(default=3600.0, description='a stream this silent is let go, "0" = never')


class Faults(Section):
    gap: Literal["step", "hold", "predict"] = Field(
        default="hold", description='missing rows: "step" over, "hold" the last input, or "predict" them'
    )
    max_gap: int = Field(
        default=64, ge=0, le=1024, description="missing rows past which a stream resets, 0 to 1024"
    )
    missing: Literal["reject", "hold", "predict"] = Field(
        default="hold", description='NaN: "reject" the row, "hold" the last value, or "predict" it'
    )


class State(Section):
    live: Literal[""] = Field(
        default="", description='folder on tmpfs for the live state; this version takes "" alone, memory only'
    )
    snapshots: Literal[""] = Field(
        default="", description='folder on disk for snapshots; this version takes "" alone, none'
    )
    interval: Duration = Field(default=10.0, gt=0, description="time between snapshots")


class Http(Section):
    listen: str = Field(
        default="127.0.0.1:9464", description='host:port of metrics and health checks, "" = off'
    )

    @field_validator("listen")
    @classmethod
    def _can_listen(cls, listen: str) -> str:
        parse_listen(listen)
        return listen

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on, None for off."""
        return parse_listen(self.listen)


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description='least severe to log: "debug", "info", "warning" or "error"'
    )
    format: Literal["text", "json"] = Field(default="text", description='lines of "text", or of "json"')


class Config(Section):
    """Everything a daemon is told, read once. Durations are seconds."""

    model: Path = Field(
        default=Path("model.safetensors"), strict=False, description="model file, relative to this file"
    )
    input: Input = Input()
    output: Output = Output()
    streams: Streams = Streams()
    faults: Faults = Faults()
    state: State = State()
    http: Http = Http()
    log: Log = Log()

    @field_validator("model")
    @classmethod
    def _names_a_file(cls, model: Path) -> Path:
        if not model.name:
            raise ValueError("names no file; write the path of a model file")
        return model

    def require_endpoints(self, source: Path | None = None) -> None:
        """Raise ConfigError, naming the file ``source``, unless frames can come in and predictions go out."""
        errors = []
        if not (self.input.connect or self.input.bind):
            errors.append(
                "input: nowhere to receive from; set input.connect or input.bind, or give --connect"
            )
        if not (self.output.bind or self.output.connect):
            errors.append("output: nowhere to publish; set output.bind or output.connect, or give --bind")
        if errors:
            raise ConfigError("\n".join(f"{source}: {error}" if source else error for error in errors))


def load_config(path: Path | None, overrides: Mapping[str, object]) -> Config:
    """The Config of a TOML file (None: of the defaults), with dotted keys as ``input.connect`` overridden.

    A relative ``model`` starts at the file's folder; one in ``overrides``, at the current folder.
    Raises ConfigError with a line for every wrong key: where it stands, what is wrong, what to write.
    """
    values: dict[str, Any] = _read_toml(path) if path else {}
    folder = path.parent.absolute() if path else Path.cwd()
    model = values.setdefault("model", str(Config.model_fields["model"].default))
    if isinstance(model, str) and model:
        values["model"] = folder / model
    for key, value in overrides.items():
        section, _, name = key.rpartition(".")
        table = values.setdefault(section, {}) if section else values
        if isinstance(table, dict):  # anything else is reported below, as the file's error
            table[name] = Path(str(value)).absolute() if key == "model" else value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_error_line(detail, path, overrides) for detail in error.errors()]
    raise ConfigError("\n".join(lines))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a TOML file that exists") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:  # its text ends with the line and the column
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _error_line(detail: Any, path: Path | None, overrides: Mapping[str, object]) -> str:
    """``<file>: <key>: <what is wrong; what to write>`` for one of pydantic's error details."""
    names = [part for part in detail["loc"] if isinstance(part, str)]
    key = ".".join(names)
    where = key + "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
    source = str(path) if path and key not in overrides else "command line"
    return f"{source}: {where}: {_what_is_wrong(detail, names)}"


def _what_is_wrong(detail: Any, names: list[str]) -> str:
    value, context = toml_value(detail["input"]), detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(names)
        case "value_error":
            return str(context["error"])
        case "literal_error":
            allowed = context["expected"].replace("'", '"')
            reason = f" ({NOT_YET[key]})" if (key := ".".join(names)) in NOT_YET else ""
            return f"{value} is not allowed; use {allowed}{reason}"
        case "int_type":
            return f"{value} is not an integer; write it without quotes or a point"
        case "greater_than":
            return f"{value} is too small; use more than {context['gt']:g}"
        case "greater_than_equal":
            return f"{value} is too small; use at least {context['ge']}"
        case "less_than_equal":
            return f"{value} is too large; use at most {context['le']}"
        case "tuple_type":
            return f"{value} is not a list; write [{value}]"
        case "model_type":
            return f"{value} is not a table; write its keys under [{names[-1]}]"
        case "string_type" | "path_type":
            return f"{value} is not text; write it in quotes"
    return f"{value}: {detail['msg']}"


def _unknown_key(names: list[str]) -> str:
    *section, name = names
    keys = [key.split(".") for key, _, _ in describe_keys()]
    allowed = list(dict.fromkeys(key[len(section)] for key in keys if key[: len(section)] == section))
    elsewhere = [".".join(key) for key in keys if key[-1] == name]
    near = difflib.get_close_matches(name, allowed, 1) or elsewhere
    hint = f" did you mean {' or '.join(map(toml_value, near))}?" if near else ""
    return f"unknown key;{hint} allowed: {', '.join(allowed)}"


def _settings(section: Section, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    texts = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", texts[name], field.description or ""


def describe_keys() -> list[tuple[str, str, str]]:
    """Every key, dotted, with its default as TOML writes it and one line on what it means."""
    return [(key, toml_value(value), description) for key, value, description in _settings(Config())]


def config_text(config: Config) -> str:
    """The TOML file that says exactly this Config."""
    lines: list[str] = []
    for key, value, _ in _settings(config):
        section, _, name = key.rpartition(".")
        if section and f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"

"""One TOML file, and the flags that override it, become one validated, frozen ``Config``.

The sections below are the only place where a setting, its default and its meaning are written;
the command line and the documentation derive from them.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AllowInfNan,
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
from streamrnn.settings.values import (
    check_endpoint,
    check_key,
    check_stream,
    format_duration,
    is_key,
    is_local,
    parse_duration,
    parse_listen,
    toml_value,
)

NOT_YET = {  # why a value one may expect is refused
    "input.format": "adapters for other formats are not in this version",
    "output.format": "JSON on the wire is not in this version; `streamrnn tail --json` prints it",
}

Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]  # seconds
BindEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=True))]
ConnectEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=False))]
# TOML has lists, a frozen section holds tuples: the container alone is converted, its items are not
Topics = Annotated[tuple[str, ...], Strict(False)]
BindEndpoints = Annotated[tuple[BindEndpoint, ...], Strict(False)]
ConnectEndpoints = Annotated[tuple[ConnectEndpoint, ...], Strict(False)]
Codes = Annotated[tuple[Annotated[float, Strict(False), AllowInfNan(False)], ...], Strict(False)]
Keys = Annotated[tuple[Annotated[str, AfterValidator(check_key)], ...], Strict(False)]


def _beside_the_file(name: str, info: ValidationInfo) -> str:
    """A path that a configuration names: a relative one starts at the file's folder."""
    folder = (info.context or {}).get("folder")
    return str(folder / name) if name and folder else name


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
    stream: Annotated[str, AfterValidator(check_stream)] = Field(
        default="", description='whose the messages of one part are, without a topic; "" = nobody\'s'
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


class Predict(Section):
    every: int = Field(
        default=0,
        ge=0,
        le=2**31,
        description="rows from one answer to a sequence, or rollout, to the next, 0 = at END",
    )
    horizon: int = Field(
        default=0, ge=0, le=65535, description="rows of a rollout of a next-frame model, 0 = none"
    )


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
    missing_values: Codes = Field(
        default=(), max_length=64, description="numbers that mean a missing value, beside the model's own"
    )


class Adapt(Section):
    enabled: bool = Field(
        default=False,
        description="true corrects each stream's forecasts by what its channels turned out to be",
    )
    memory: int = Field(
        default=500,
        ge=100,
        le=10_000,
        description="rows over which a correction is learned, 100 to 10000",
    )

    @property
    def rows(self) -> int:
        """The memory, 0 where nothing is adapted."""
        return self.memory if self.enabled else 0


class State(Section):
    live: str = Field(
        default="", description='folder on tmpfs for the live state, as /run/streamrnn; "" = memory only'
    )
    snapshots: str = Field(default="", description='folder on disk for snapshots; "" = none')
    interval: Duration = Field(default=10.0, gt=0, description="time between snapshots")

    @field_validator("live", "snapshots")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        path = _beside_the_file(name, info)
        if path and path == info.data.get("live"):
            raise ValueError("is the folder of state.live, too; name one on a disk")
        return path


class Security(Section):
    server_secret: str = Field(
        default="", description='file of the CURVE secret key (`streamrnn keygen`), "" = no CURVE'
    )
    client_keys: Keys = Field(
        default=(), validate_default=True, description="public keys that may publish to the input"
    )
    output_clients: Keys = Field(
        default=(), validate_default=True, description="public keys that may subscribe to the output"
    )
    insecure: bool = Field(default=False, description="true lets sockets bind beyond loopback without CURVE")

    @field_validator("server_secret")
    @classmethod
    def _names_a_file(cls, name: str, info: ValidationInfo) -> str:
        # no file is called like this: it is the secret itself, which must not appear in an error
        if is_key(name) and set(name) & set("^!*?&<>()[]{}$#"):
            raise ValueError("holds a key; name a file that holds it, and that its owner alone can read")
        return _beside_the_file(name, info)

    @field_validator("client_keys", "output_clients")
    @classmethod
    def _go_with_a_secret(cls, keys: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        secret = info.data.get("server_secret")  # None: wrong, and already reported
        if secret and not keys:
            raise ValueError("[] lets nobody in; name public keys (`streamrnn keygen` prints them)")
        if keys and secret == "":
            raise ValueError("keys are checked by CURVE alone; set security.server_secret, or remove them")
        return keys


class Http(Section):
    listen: str = Field(
        default="127.0.0.1:9464", description='host:port of page, metrics and health checks, "" = off'
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
    predict: Predict = Predict()
    streams: Streams = Streams()
    faults: Faults = Faults()
    adapt: Adapt = Adapt()
    state: State = State()
    security: Security = Security()
    http: Http = Http()
    log: Log = Log()

    @field_validator("model")
    @classmethod
    def _names_a_file(cls, model: Path) -> Path:
        if not model.name:
            raise ValueError("names no file; write the path of a model file")
        return model

    def require_endpoints(self, source: Path | None = None) -> None:
        """Raise ConfigError, naming the file ``source``, unless frames can come in and predictions go out.

        Nor may a socket be bound beyond this machine without keys, unless the configuration insists.
        """
        errors = []
        if not (self.input.connect or self.input.bind):
            errors.append(
                "input: nowhere to receive from; set input.connect or input.bind, or give --connect"
            )
        if not (self.output.bind or self.output.connect):
            errors.append("output: nowhere to publish; set output.bind or output.connect, or give --bind")
        if not (self.security.server_secret or self.security.insecure):
            errors += [
                f"{section}.bind: {toml_value(endpoint)} would be open to the network; set "
                "security.server_secret and the keys of its clients (`streamrnn keygen`), bind 127.0.0.1, "
                "or accept strangers with security.insecure = true"
                for section, binds in (("input", self.input.bind), ("output", self.output.bind))
                for endpoint in binds
                if not is_local(endpoint)
            ]
        if errors:
            raise ConfigError("\n".join(f"{source}: {error}" if source else error for error in errors))


def load_config(path: Path | None, overrides: Mapping[str, object]) -> Config:
    """The Config of a TOML file (None: of the defaults), with dotted keys as ``input.connect`` overridden.

    A relative path starts at the file's folder; a ``model`` in ``overrides``, at the current folder.
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
        return Config.model_validate(values, context={"folder": folder})
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
    except (ValueError, RecursionError) as error:  # TOML's own ends with the line and the column
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
        case "bool_type":
            return f"{value} is neither true nor false; write one of them without quotes"
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


def settings_of(config: Config) -> dict[str, object]:
    """Every key, dotted, with its value as TOML has it."""
    return {key: value for key, value, _ in _settings(config)}


def config_text(config: Config) -> str:
    """The TOML file that says exactly this Config."""
    lines: list[str] = []
    for key, value, _ in _settings(config):
        section, _, name = key.rpartition(".")
        if section and f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"

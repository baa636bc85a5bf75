"""One TOML file, and the flags that override it, become one validated, frozen ``Config``.

The command line and the documentation derive from its ``sections``.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from streamrnn.errors import ConfigError
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.brokers import parse_broker
from streamrnn.settings.cluster_section import Cluster
from streamrnn.settings.events_section import Events
from streamrnn.settings.http_section import Http
from streamrnn.settings.sections import (
    LIVE,
    Adapt,
    Assemble,
    Faults,
    Input,
    Log,
    Output,
    Predict,
    Section,
    Security,
    State,
    Streams,
    beside_the_file,
)
from streamrnn.settings.values import is_local, toml_value


class Config(Section):
    """Everything a daemon is told, read once. Durations are seconds."""

    model: Path = Field(
        default=Path("model.safetensors"),
        strict=False,
        description="model file, relative to this file",
        json_schema_extra=LIVE,
    )
    shadow: str = Field(
        default="",
        description='model file to step beside it and compare, publishing nothing; "" = none',
        json_schema_extra=LIVE,
    )
    input: Input = Input()
    mqtt: Mqtt = Mqtt()
    assemble: Assemble = Assemble()
    output: Output = Output()
    predict: Predict = Predict()
    streams: Streams = Streams()
    faults: Faults = Faults()
    adapt: Adapt = Adapt()
    state: State = State()
    events: Events = Events()
    security: Security = Security()
    cluster: Cluster = Cluster()
    http: Http = Http()
    log: Log = Log()

    @field_validator("shadow")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        return beside_the_file(name, info)

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
        if not self._takes:
            errors.append(
                "input: nowhere to receive from; set input.connect or input.bind, or give --connect"
            )
        if not self._sends:
            errors.append("output: nowhere to publish; set output.bind or output.connect, or give --bind")
        self._raise(errors + self._open_to_all() + self._unused_secrets(), source)

    def require_an_endpoint(self, source: Path | None = None) -> None:
        """The same for a gateway, which may do without one of the two."""
        errors = []
        if not (self._takes or self._sends):
            errors.append("nothing to do: set endpoints in input or output, or give --connect or --bind")
        self._raise(errors + self._open_to_all() + self._unused_secrets(), source)

    @property
    def _takes(self) -> bool:
        return bool(self.input.connect or self.input.bind)

    @property
    def _sends(self) -> bool:
        return bool(self.output.bind or self.output.connect)

    @staticmethod
    def _raise(errors: list[str], source: Path | None) -> None:
        if errors:
            raise ConfigError("\n".join(f"{source}: {error}" if source else error for error in errors))

    def _open_to_all(self) -> list[str]:
        """What binds beyond this machine without keys."""
        errors = list[str]()
        if not (self.security.server_secret or self.security.insecure):
            errors += [
                f"{section}.bind: {toml_value(endpoint)} would be open to the network; set "
                "security.server_secret and the keys of its clients (`streamrnn keygen`), bind 127.0.0.1, "
                "or accept strangers with security.insecure = true"
                for section, binds in (("input", self.input.bind), ("output", self.output.bind))
                for endpoint in binds
                if not is_local(endpoint)
            ]
        return errors

    def _unused_secrets(self) -> list[str]:
        """What is told of login and TLS, and no endpoint uses: somebody counts on it."""
        brokers = [parse_broker(endpoint) for endpoint in self.input.brokers]
        errors = []
        if self.mqtt.password_file and not any(broker.user for broker in brokers):
            errors.append(
                "mqtt.password_file: whose? write the user in input.connect, mqtt://user@host/filter"
            )
        errors += [
            f"mqtt.{key}: nothing in input.connect uses TLS; write mqtts:// there"
            for key in ("ca_file", "cert_file")
            if getattr(self.mqtt, key) and not any(broker.tls for broker in brokers)
        ]
        return errors


def load_config(path: Path | None, overrides: Mapping[str, object]) -> Config:
    """The Config of a TOML file (None: of the defaults), with dotted keys as ``input.connect`` overridden.

    A relative path starts at the file's folder; of ``overrides`` ``model`` and ``shadow`` do at the current
    folder.
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
            table[name] = str(Path(str(value)).absolute()) if key in ("model", "shadow") and value else value
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
            return f"{value} is not allowed; use {allowed}"
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
        case "dict_type":
            return f"{value} is not a table; write [{'.'.join(names)}] and a line for each channel"
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


def live_names() -> list[str]:
    """What may change while the daemon runs: keys, and sections all of whose keys may."""
    names = list[str]()
    for name, field in Config.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            names += [name] if _is_live(field) else []
            continue
        live = [key for key, of_section in section.model_fields.items() if _is_live(of_section)]
        whole = len(live) == len(section.model_fields)
        names += [name] if whole else [f"{name}.{key}" for key in live]
    return names


def _is_live(field: FieldInfo) -> bool:
    return field.json_schema_extra == LIVE


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

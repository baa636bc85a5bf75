"""The configuration: its keys and defaults, what it refuses, and in which words."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from zmq.utils import z85

from streamrnn.errors import ConfigError
from streamrnn.settings.config import Config, config_text, describe_keys, load_config
from streamrnn.settings.http_section import Http
from streamrnn.settings.sections import Section
from streamrnn.settings.values import (
    LONGEST_MS,
    STREAM_BYTES,
    check_endpoint,
    format_duration,
    is_key,
    is_local,
    parse_duration,
    parse_listen,
)
from streamrnn.wire.frame import TOPIC_BYTES

DEFAULTS = """
model = "model.safetensors"
shadow = ""
[input]
connect = []
bind = []
socket = "sub"
topics = [""]
format = "frame"
stream = ""
topic = ""
time = "time"
time_unit = ""
dtype = "float32"
order = "C"
fields = {}
[mqtt]
client_id = ""
password_file = ""
ca_file = ""
cert_file = ""
key_file = ""
retained = false
[assemble]
period = "0"
take = "last"
hold = "10 periods"
lateness = "1 period"
[output]
bind = []
connect = []
format = "prediction"
[predict]
every = 0
horizon = 0
bands = []
[streams]
capacity = 4096
idle_timeout = "1h"
workers = 0
[faults]
gap = "hold"
max_gap = 64
missing = "hold"
missing_values = []
[adapt]
enabled = false
memory = 500
[state]
live = ""
snapshots = ""
interval = "10s"
keep = "2"
[events]
path = ""
keep = "90d"
size = "1GB"
silence = "10s"
before = "2m"
after = "2m"
recording = "64KB"
memory = "64MB"
webhook = ""
webhook_secret_file = ""
[security]
server_secret = ""
client_keys = []
output_clients = []
insecure = false
[cluster]
servers = []
name = "streamrnn"
user = ""
password_file = ""
credentials = ""
ca_file = ""
cert_file = ""
key_file = ""
gateway = "gateway"
block_rows = 4096
block_bytes = 262144
block_time = "10ms"
[http]
listen = "127.0.0.1:9464"
token_file = ""
control = false
[log]
level = "info"
format = "text"
"""

KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # the server's of the specification's test vectors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "station.toml"


def load(file: Path, text: str, **sections: object) -> Config:
    file.write_text(text)
    return load_config(file, sections)


def errors(file: Path, text: str) -> list[str]:
    """The lines of the error that ``text`` gives, each without the file it must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def flat(table: dict, prefix: str = "") -> dict:
    found: dict = {}
    for key, value in table.items():
        found |= (
            flat(value, f"{prefix}{key}.") if value and isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return found


def test_every_key_is_accepted_and_equals_its_default(file):
    defaults = load_config(None, {"model": file.parent / "model.safetensors"})
    assert load(file, DEFAULTS) == load(file, "") == defaults
    assert Config().streams.idle_timeout == 3600.0
    assert Config().state.interval == 10.0


def test_an_id_is_as_long_as_the_wire_allows():
    assert STREAM_BYTES == TOPIC_BYTES


def test_the_described_keys_are_exactly_those_of_the_defaults():
    described = {key: tomllib.loads(f"value = {default}")["value"] for key, default, _ in describe_keys()}
    assert described == flat(tomllib.loads(DEFAULTS))
    assert list(described) == list(flat(tomllib.loads(DEFAULTS)))


def test_every_key_has_a_description_of_one_line():
    for key, _, description in describe_keys():
        assert 8 < len(description) <= 80, key
        assert "\n" not in description


def test_the_configuration_and_its_sections_are_frozen():
    config = Config()
    sections = [value for _, value in config if isinstance(value, Section)]
    assert len(sections) == 14
    for section in [config, *sections]:
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, getattr(section, name))


def test_all_errors_are_named_at_once(file):
    lines = errors(
        file,
        """
        port = 1
        [input]
        socket = "req"
        connect = ["tcp://sensor", 7, "tcp://sensor:5555"]
        [output]
        bind = "tcp://*:5556"
        [streams]
        capacity = 0
        idle_timeout = "1 hour"
        [faults]
        max_gap = 65536
        gap = 3
        [http]
        listen = 9464
        [log]
        levle = "info"
        """,
    )
    assert lines == [
        'input.connect[0]: "tcp://sensor" is not an endpoint; '
        "write tcp://host:port, an IPv6 host in [brackets]",
        "input.connect[1]: 7 is not text; write it in quotes",
        'input.socket: "req" is not allowed; use "sub" or "pull"',
        'output.bind: "tcp://*:5556" is not a list; write ["tcp://*:5556"]',
        "streams.capacity: 0 is too small; use at least 1",
        'streams.idle_timeout: "1 hour" is not a duration; write "500ms", "10s", "5m", "1h", "2d" or "0"',
        'faults.gap: 3 is not allowed; use "step", "hold" or "predict"',
        "faults.max_gap: 65536 is too large; use at most 1024",
        "http.listen: 9464 is not text; write it in quotes",
        'log.levle: unknown key; did you mean "level"? allowed: level, format',
        "port: unknown key; allowed: model, shadow, input, mqtt, assemble, output, predict, streams, faults, "
        "adapt, state, events, security, cluster, http, log",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model = 3", "model: 3 is not text; write it in quotes"),
        ('model = ""', "model: names no file; write the path of a model file"),
        ("input = 5", "input: 5 is not a table; write its keys under [input]"),
        ("[inputs]", 'inputs: unknown key; did you mean "input"? allowed: '),
        ("capacity = 9", 'capacity: unknown key; did you mean "streams.capacity"? allowed: model, '),
        ("bind = []", 'bind: unknown key; did you mean "input.bind" or "output.bind"? allowed: model, '),
        (
            '[input]\nformat = "xml"',
            'input.format: "xml" is not allowed; use "frame", "raw", "array", "json", "msgpack", ',
        ),
        ('[input]\ntopic = "plant/#"', 'input.topic: "plant/#" says not what is what; write {stream} and '),
        ('[input]\ntopic = "{stream}/{stream}"', 'input.topic: "{stream}/{stream}" says not what is what; '),
        ('[input]\nfields = ["a"]', 'input.fields: ["a"] is not a table; write [input.fields] and a line'),
        ("[input.fields]\na = 1", "input.fields.a: 1 is not text; write it in quotes"),
        ('[assemble]\nperiod = "1 period"', "assemble.period: '1 period' says nothing; write a time, as "),
        ('[assemble]\nhold = "ten"', 'assemble.hold: "ten" is no time; write "100us", "500ms", "10s", '),
        ("[input]\ntopics = []", 'input.topics: [] receives nothing; use [""] for every stream'),
        ('[input]\nsocket = "pull"\ntopics = ["a"]', 'input.topics: a "pull" socket takes every frame; '),
        (
            f'[input]\nstream = "{"é" * 64}"',
            "input.stream: 128 bytes are too many for a stream's id; use at ",
        ),
        (
            '[input]\nstream = "a\\n"',
            'input.stream: "a\\n" is no stream\'s id; write letters, and none of { ',
        ),
        ('[input]\nstream = "{}"', 'input.stream: "{}" is no stream\'s id; write letters, and none of { '),
        ("[input]\nstream = 1", "input.stream: 1 is not text; write it in quotes"),
        ('[output]\nformat = "raw"', 'output.format: "raw" is not allowed; use "prediction" or "json"'),
        ("[streams]\ncapacity = 10000001", "streams.capacity: 10000001 is too large; use at most 10000000"),
        ("[streams]\ncapacity = true", "streams.capacity: true is not an integer; "),
        ("[streams]\ncapacity = 4096.0", "streams.capacity: 4096.0 is not an integer; "),
        ("[streams]\nidle_timeout = 10", "streams.idle_timeout: 10 is not a duration; "),
        ("[predict]\nbands = 0.9", "predict.bands: 0.9 is not a list; write [0.9]"),
        (
            "[predict]\nbands = [0.5, 1]",
            "predict.bands: 1 is no share that a band can hold; name 0.01 to 0.999",
        ),
        ("[predict]\nbands = [0]", "predict.bands: 0 is no share that a band can hold; name 0.01 to 0.999"),
        (
            "[predict]\nbands = [0.9, 0.5]",
            "predict.bands: the levels do not rise; name each once, the narrowest ",
        ),
        ("[predict]\nbands = [0.5, 0.5]", "predict.bands: the levels do not rise; "),
        (
            "[predict]\nbands = [0.1, 0.2, 0.3, 0.4, 0.5]",
            "predict.bands: 5 bands are too many; name at most 4",
        ),
        ("[predict]\nbands = [nan]", "predict.bands[0]: "),
        ("[faults]\nmax_gap = -1", "faults.max_gap: -1 is too small; use at least 0"),
        ('[faults]\ngap = "reject"', 'faults.gap: "reject" is not allowed; use "step", "hold" or "predict"'),
        ('[faults]\nmissing = "step"', 'faults.missing: "step" is not allowed; use "reject", "hold" or '),
        (
            '[state]\nlive = "/run/x"\nsnapshots = "/run/x"',
            "state.snapshots: is the folder of state.live, too; ",
        ),
        ('[state]\nkeep = "1"', 'state.keep: "1" does not begin with how many of the newest snapshots stay'),
        ('[state]\nkeep = "hourly"', 'state.keep: "hourly" does not begin with how many'),
        ('[state]\nkeep = "2, 24h"', 'state.keep: "24h" is no age and period; write them as 24h hourly, of'),
        ('[state]\nkeep = "2, 24 hourly"', 'state.keep: "24" is not a duration'),
        ('[state]\nkeep = "2, 5m hourly"', 'state.keep: "5m hourly": is not 1 to 10,000 periods'),
        ('[state]\ninterval = "0"', "state.interval: 0.0 is too small; use more than 0"),
        ("[security]\ninsecure = 1", "security.insecure: 1 is neither true nor false; "),
        (
            f"[security]\nserver_secret = 's'\nclient_keys = ['{KEY}']",
            "security.output_clients: [] lets nobody in; name public keys (`streamrnn keygen` prints them)",
        ),
        (
            f"[security]\nclient_keys = ['{KEY}']",
            "security.client_keys: keys are checked by CURVE alone; set security.server_secret, or remove ",
        ),
        (
            f"[security]\nserver_secret = 's'\nclient_keys = ['{KEY}']\noutput_clients = ['{KEY}', 'x']",
            'security.output_clients[1]: "x" is not a key of 40 Z85 characters; `streamrnn keygen` makes ',
        ),
        ('[http]\nlisten = ":9464"', 'http.listen: ":9464" is not host:port; '),
        (
            "[http]\ncontrol = true",
            "http.control: true needs http.token_file; name a file that its owner alone",
        ),
        (
            '[http]\nlisten = ""\ntoken_file = "t"\ncontrol = true',
            "http.control: true is of no use where no HTTP",
        ),
        ('[log]\nlevel = "trace"', 'log.level: "trace" is not allowed; use "debug", "info", "warning" or '),
        ('[log]\nformat = "xml"', 'log.format: "xml" is not allowed; use "text" or "json"'),
    ],
)
def test_one_refusal(file, text, line):
    (found,) = errors(file, text)
    assert found.startswith(line)


def test_a_toml_error_says_line_and_column(file):
    (line,) = errors(file, 'model = "m.safetensors"\n[input\n')
    assert line.startswith("not TOML: ")
    assert "line 2, column 7" in line


def test_a_missing_file_says_so(file):
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_config(file, {})
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_folder_or_bytes_are_refused_in_words(file):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file.parent, {})
    file.write_bytes(b'model = "\xff"')
    with pytest.raises(ConfigError, match="byte 9 is not UTF-8"):
        load_config(file, {})


def test_a_byte_order_mark_is_no_error(file):
    file.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 'debug'\r\n")
    assert load_config(file, {}).log.level == "debug"


def test_the_model_is_found_from_the_file_and_from_the_current_folder(file, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert load(file, 'model = "sub/a.safetensors"').model == file.parent / "sub/a.safetensors"
    assert load(file, 'model = "/a.safetensors"').model == Path("/a.safetensors")
    assert load(file, "").model == file.parent / "model.safetensors"
    assert load(file, "", model=Path("b.safetensors")).model == elsewhere / "b.safetensors"
    assert load_config(None, {}).model == elsewhere / "model.safetensors"


def test_flags_override_the_file(file):
    text = '[input]\nconnect = ["tcp://a:1"]\n[http]\nlisten = ""\n'
    flags = {"input.connect": ("tcp://b:2",), "output.bind": ("tcp://*:3",), "http.listen": "0.0.0.0:80"}
    config = load(file, text, **flags)
    assert config.input.connect == ("tcp://b:2",)
    assert config.output.bind == ("tcp://*:3",)
    assert config.http.listen == "0.0.0.0:80"
    assert load(file, text).http.address is None


def test_an_error_in_a_flag_is_not_blamed_on_the_file(file):
    with pytest.raises(ConfigError) as caught:
        load(file, '[log]\nlevel = "loud"\n', **{"input.connect": ("tcp://*:1",), "http.listen": "80"})
    sources = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert sources == ["command line", "command line", str(file)]


def test_both_ends_are_required_of_a_daemon(file):
    with pytest.raises(ConfigError) as caught:
        load(file, "").require_endpoints(file)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{file}: input: nowhere to receive from; set input.connect or input.bind")
    assert second.startswith(f"{file}: output: nowhere to publish; set output.bind or output.connect")
    for ends in ('[input]\nconnect = ["tcp://a:1"]', '[input]\nbind = ["tcp://127.0.0.1:1"]'):
        with pytest.raises(ConfigError, match=r"\Aoutput: "):
            load(file, ends).require_endpoints()
        load(file, f'{ends}\n[output]\nbind = ["tcp://[::1]:2"]').require_endpoints()
        load(file, f'{ends}\n[output]\nconnect = ["tcp://c:2"]').require_endpoints()


def test_a_bind_beyond_this_machine_needs_keys(file):
    ends = '[input]\nbind = ["tcp://127.0.0.1:1", "tcp://*:2"]\n[output]\nbind = ["tcp://0.0.0.0:3"]\n'
    with pytest.raises(ConfigError) as caught:
        load(file, ends).require_endpoints(file)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f'{file}: input.bind: "tcp://*:2" would be open to the network; set ')
    assert second.startswith(f'{file}: output.bind: "tcp://0.0.0.0:3" would be open to the network; set ')
    for remedy in ("security.server_secret", "streamrnn keygen", "127.0.0.1", "security.insecure = true"):
        assert remedy in first
    load(file, f"{ends}[security]\ninsecure = true").require_endpoints()
    keys = f"server_secret = 's'\nclient_keys = ['{KEY}']\noutput_clients = ['{KEY}']"
    load(file, f"{ends}[security]\n{keys}").require_endpoints()


def test_connecting_out_and_unix_sockets_need_no_keys(file):
    ends = '[input]\nconnect = ["tcp://sensor:1"]\nbind = ["ipc:///run/in"]\n[output]\n'
    load(file, f'{ends}connect = ["tcp://10.0.0.1:2"]\nbind = ["ipc://@out"]').require_endpoints()


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:*", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("ipc:///run/socket", True),
        ("tcp://*:1", False),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://[fe80::1%eth0]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://127.1:1", False),
        ("tcp://eth0:1", False),
        ("tcp://localhost.example:1", False),
    ],
)
def test_what_is_local(endpoint, local):
    assert is_local(endpoint) is local


def test_a_secret_file_is_found_from_the_file_and_a_secret_is_never_printed(file):
    keys = f"client_keys = ['{KEY}']\noutput_clients = ['{KEY}']"
    config = load(file, f"[security]\nserver_secret = 'sub/a.secret'\n{keys}")
    assert config.security.server_secret == str(file.parent / "sub/a.secret")
    (line,) = errors(file, f"[security]\nserver_secret = '{KEY}'\n{keys}")
    assert line.startswith("security.server_secret: holds a key; name a file that holds it")
    assert KEY not in line


@given(st.binary(min_size=32, max_size=32))
def test_32_bytes_in_z85_are_a_key(content):
    assert is_key(z85.encode(content).decode())


@pytest.mark.parametrize("text", ["", KEY[:-1], KEY + "0", KEY[:-1] + " ", KEY[:-1] + "ü", "#" * 40])
def test_what_is_no_key(text):
    assert not is_key(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("0s", 0.0), ("500ms", 0.5), ("10s", 10.0), ("5m", 300.0), ("1h", 3600.0), ("2d", 172800.0)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "1.5h", "-1s", "1 h", "1H", "h", "1h30m", "٣s", "36501d", 10, None]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"duration|too long"):
        parse_duration(text)


@given(st.integers(0, LONGEST_MS))
def test_a_printed_duration_reads_as_itself(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_durations_are_printed_in_the_largest_whole_unit():
    seconds = (0, 0.25, 1.5, 60, 90, 7200, 86400)
    assert [format_duration(value) for value in seconds] == ["0", "250ms", "1500ms", "1m", "90s", "2h", "1d"]


@pytest.mark.parametrize(
    "text", ["tcp://localhost:5555", "tcp://10.0.0.1:1", "tcp://[::1]:65535", "ipc:///run/a b", "ipc://@name"]
)
@pytest.mark.parametrize("bind", [False, True])
def test_endpoints(text, bind):
    assert check_endpoint(text, bind) == text


@pytest.mark.parametrize("text", ["tcp://*:5555", "tcp://eth0:*", "tcp://*:*", "ipc://*"])
def test_a_star_is_for_bind_only(text):
    assert check_endpoint(text, bind=True) == text
    with pytest.raises(ValueError, match="is not an endpoint"):
        check_endpoint(text, bind=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write tcp://host:port or ipc://path"),
        ("localhost:5555", "write tcp://host:port or ipc://path"),
        ("inproc://frames", "that another process can reach"),
        ("udp://239.0.0.1:5555", "this version speaks"),
        ("tcp://localhost", "write tcp://host:port"),
        ("tcp://:5555", "write tcp://host:port"),
        ("tcp://localhost:", "write tcp://host:port"),
        ("tcp://local host:5555", "write tcp://host:port"),
        ("tcp://::1:5555", r"IPv6 host in \[brackets\]"),
        ("tcp://localhost:0", "port is not within 1 to 65535"),
        ("tcp://localhost:65536", "port is not within 1 to 65535"),
        ("ipc://", "the path of a socket"),
        ("ipc:///run/a\0b", "the path of a socket"),
        ("ipc://" + "é" * 54, "its path has 108 bytes, a Unix socket's at most 107"),
    ],
)
@pytest.mark.parametrize("bind", [False, True])
def test_what_is_no_endpoint(text, reason, bind):
    with pytest.raises(ValueError, match=reason):
        check_endpoint(text, bind)


def test_an_ipc_path_may_fill_the_address():
    assert check_endpoint("ipc://" + "a" * 107, bind=True)


def test_listen_is_parsed():
    assert parse_listen("") is None
    assert parse_listen("localhost:0") == ("localhost", 0)
    assert parse_listen("[::1]:9464") == ("::1", 9464)
    assert Http(listen="0.0.0.0:80").address == ("0.0.0.0", 80)
    for text in ("9464", ":9464", "*:9464", "::1:9464", "a b:1", "host:", "host:65536"):
        with pytest.raises(ValueError, match=r"is not host:port|above 65535"):
            parse_listen(text)


@given(
    topics=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    idle=st.integers(0, LONGEST_MS),
    capacity=st.integers(1, 10_000_000),
    gap=st.sampled_from(["step", "hold", "predict"]),
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1),
)
def test_the_printed_configuration_reads_as_itself(tmp_path_factory, topics, idle, capacity, gap, name):
    values = {
        "model": f"/models/{name}.safetensors",
        "input": {"topics": topics, "connect": ["ipc:///run/ü"]},
        "streams": {"idle_timeout": format_duration(idle / 1000), "capacity": capacity},
        "faults": {"gap": gap},
    }
    config = Config.model_validate(values)
    file = tmp_path_factory.getbasetemp() / "printed.toml"
    file.write_text(config_text(config), encoding="utf-8", newline="")
    assert load_config(file, {}) == config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('servers = ["http://a:1"]', 'cluster.servers[0]: "http://a:1" is no server; write nats://host:port'),
        ('servers = ["nats://a"]', 'cluster.servers[0]: "nats://a" is no server'),
        ('name = "a.b"', "cluster.name: 'a.b': write 1 to 32 letters, digits, - and _"),
        ('key_file = "k"', "cluster.key_file: is the key of no certificate"),
        ('password_file = "p"', "cluster.password_file: whose? write cluster.user"),
        ("block_bytes = 9", "cluster.block_bytes: 9 is too small"),
    ],
)
def test_where_a_cluster_is_must_be_right(file, text, problem):
    (line,) = errors(file, f"[cluster]\n{text}")
    assert line.startswith(problem)

"""Endpoints of MQTT brokers, and what goes with them: parts, refusals, and no secret in any text."""

import pytest

from streamrnn.errors import ConfigError
from streamrnn.settings.brokers import BrokerAddress, parse_broker
from streamrnn.settings.config import load_config

ENDS = '[output]\nbind = ["tcp://127.0.0.1:1"]\n[input]\n'


def check(tmp_path, text):
    file = tmp_path / "plant.toml"
    file.write_text(ENDS + text)
    load_config(file, {}).require_endpoints(file)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt://h/a", BrokerAddress(False, "", "h", 1883, "a")),
        ("mqtts://u%40x@[::1]/+/x/#", BrokerAddress(True, "u@x", "::1", 8883, "+/x/#")),
        ("mqtt://h:18/a@b", BrokerAddress(False, "", "h", 18, "a@b")),
        ("mqtt://[::1]//a", BrokerAddress(False, "", "::1", 1883, "/a")),
        ("mqtts://u@h:1/$share/g/a/#", BrokerAddress(True, "u", "h", 1, "$share/g/a/#")),
    ],
)
def test_parts_of_an_endpoint(text, address):
    assert parse_broker(text) == address


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("mqtt://h", "is not an endpoint of a broker; write mqtt://user@host:1883/filter"),
        ("mqtt:///a", "is not an endpoint"),
        ("mqtt://*:1/a", "is not an endpoint"),
        ("mqtt://::1/a", "is not an endpoint"),
        ("mqtt://h:0/a", "its port is not within 1 to 65535"),
        ("mqtt://h/", "names no topics"),
        ("mqtt://h/a+", "has a filter that is none"),
        ("mqtt://h/#/a", "has a filter that is none"),
        ("mqtt://h/a\0", "has a filter that is none"),
        ("mqtt://h/{stream}", "in input.topic what these are"),
    ],
)
def test_what_is_no_endpoint(text, what):
    with pytest.raises(ValueError, match=what.replace("+", r"\+")):
        parse_broker(text)


@pytest.mark.parametrize(
    "endpoint", ["u:secret@h/a", "u:secret@h:x/a", "u:se/secret@h/a", ":secret@h", "u:secret@"]
)
def test_a_password_in_an_endpoint_is_refused_and_not_shown(tmp_path, endpoint):
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, f'format = "json"\nconnect = ["mqtt://{endpoint}"]')
    assert "input.connect[0]: holds a password" in str(caught.value)
    assert "mqtt.password_file" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            'connect = ["mqtt://h/a"]',
            '"frame" is not what comes over MQTT; write format = "json" or format = "msgp',
        ),
        ('format = "raw"\nconnect = ["mqtt://h/a"]', 'input.format: "raw" is not what comes over MQTT'),
        ('format = "bsread"\nconnect = ["tcp://h:1", "mqtt://h/a"]', '"bsread" is not what'),
        ('format = "json"\nbind = ["mqtt://h/a"]', "is a broker's endpoint, which input.connect alone takes"),
        (
            'format = "json"\nconnect = ["mqtt://h/a"]\n[mqtt]\npassword_file = "p"',
            "mqtt.password_file: whose?",
        ),
        ('format = "json"\nconnect = ["mqtt://u@h/a"]\n[mqtt]\nca_file = "p"', "write mqtts:// there"),
        (
            'format = "json"\nconnect = ["mqtts://h/a"]\n[mqtt]\nkey_file = "p"',
            "is the key of no certificate",
        ),
    ],
)
def test_what_does_not_go_together(tmp_path, text, what):
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, text)
    assert what in str(caught.value)


def test_paths_begin_at_the_file_and_brokers_count_as_inputs(tmp_path):
    check(tmp_path, 'format = "json"\nconnect = ["tcp://h:1", "mqtt://h/a"]')
    file = tmp_path / "plant.toml"
    text = 'format = "json"\nconnect = ["mqtts://u@h/a"]\n[mqtt]\npassword_file = "p"\nca_file = "/c"\n'
    check(tmp_path, text)
    settings = load_config(file, {}).mqtt
    assert (settings.password_file, settings.ca_file) == (str(tmp_path / "p"), "/c")

"""Tail beside real publishers."""

import itertools
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from daemons import DEADLINE_S, wait_for
from models import untrained
from neighbours import bound, command, meanwhile
from tables import T0

from streamrnn.client.tail import tail
from streamrnn.errors import UserError
from streamrnn.model.model_file import write_model
from streamrnn.wire.frame import PREDICTION


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as context:
        yield context


def prediction(values: list[list[float]], **fields: Any) -> bytes:
    header = np.zeros((), PREDICTION)
    header["magic"], header["version"], header["kind"], header["horizon"] = b"SP", 1, 1, len(values)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + np.array(values, "<f4").tobytes()


FULL = {"flags": 3, "seq": 7, "ts_ns": T0 + 5 * 10**8, "step": 9, "recv_ns": 1, "pub_ns": 2}
FULL |= {"score": 0.1, "gap": 4, "epoch": 5, "residual": np.nan}
FULL_JSON = {"stream": "p1", "kind": 1, "horizon": 1, "values": [0.1, 2.0, -1e-7]}
FULL_JSON |= FULL | {"flags": "WARMING|GAP", "residual": None}


@pytest.fixture
def tailed(context, capsys) -> Callable[..., tuple[list[str], str]]:
    """Publishes messages to a ``tail`` that ends after ``limit`` of them: its lines, and what it said."""

    def publish(
        messages: list[list[bytes]], limit: int, as_json: bool = True, **options: Any
    ) -> tuple[list[str], str]:
        publisher, endpoint = bound(context, zmq.XPUB)
        topics, model = options.pop("topics", ()), options.pop("model", None)
        with meanwhile(lambda: tail(endpoint, topics, as_json, limit, model)):
            for _ in topics or ("",):
                publisher.recv()
            for message in messages:
                publisher.send_multipart(message)
        publisher.close()
        said = capsys.readouterr()
        return said.out.splitlines(), said.err

    return publish


def test_every_field_as_json(tailed):
    full = prediction([[0.1, 2, -1e-7]], **FULL)
    lines, said = tailed([[b"p1", full]] * 2, limit=2)
    assert [json.loads(line) for line in lines] == [FULL_JSON] * 2
    assert said == ""
    rollout = prediction([[1, 2], [3, 4]], kind=3)
    lines, _ = tailed([["\u00fc 1".encode(), rollout]], limit=1)
    fields = json.loads(lines[0])
    assert (fields["stream"], fields["kind"], fields["values"]) == ("\u00fc 1", 3, [[1, 2], [3, 4]])


def test_a_line_of_text(tailed, model_file):
    full = [b"p1", prediction([[0.1, 2, -1e-7]], **FULL)]
    bare = [b"\x1b[2J", prediction([[1], [2]])]
    lines, _ = tailed([full, bare], limit=2, as_json=False)
    assert lines == [
        "p1 seq=7 time=2020-02-08T13:30:47.500000000Z step=9 y0=0.1 y1=2 y2=-1e-07 score=0.1 residual=- "
        "WARMING|GAP",
        r"'\x1b[2J' seq=0 time=- step=0 y0=1,2 score=0 residual=0",
    ]
    lines, _ = tailed([full], limit=1, as_json=False, model=model_file)
    assert " step=9 c0=0.1 c1=2 c2=-1e-07 score=" in lines[0]
    lines, _ = tailed([full], limit=1, model=model_file)
    assert json.loads(lines[0])["values"] == {"c0": 0.1, "c1": 2.0, "c2": -1e-7}


def test_another_model_is_refused(tailed, tmp_path):
    write_model(untrained(channels=2), tmp_path / "two.safetensors")
    with pytest.raises(UserError, match="the model has 2 outputs, a prediction 3; "):
        tailed([[b"p", prediction([[1, 2, 3]])]], limit=1, model=tmp_path / "two.safetensors")


def test_topics(tailed):
    messages = [[topic, prediction([[1]])] for topic in (b"pump1", b"valve1", b"fan", b"pump2")]
    lines, _ = tailed(messages, limit=3, topics=["pump", "fan"])
    assert [json.loads(line)["stream"] for line in lines] == ["pump1", "fan", "pump2"]


def test_rubbish_is_named_once_and_counted(tailed):
    good = [b"p", prediction([[1]])]
    rubbish = [
        [b"p", b"SP"],
        [b"p"],
        [b"p", b"x" * 99],
        [b"\xff", good[1]],
        [b"p", good[1] + b"1"],
        [*good, b""],
    ]
    lines, said = tailed([*rubbish, good], limit=1)
    assert len(lines) == 1
    assert said.splitlines() == [
        "warning: a message that is no prediction: a prediction has at least 64 bytes, this has 2",
        "messages that were no predictions: 6",
    ]


def as_json(**changed: Any) -> bytes:
    return json.dumps(OBJECT | changed, ensure_ascii=False).encode()


OBJECT = {"stream": "p1", "seq": 7, "time": "2020-02-08T13:30:47.500000000Z", "step": 9, "kind": "row"}
OBJECT |= {"flags": ["WARMING", "GAP"], "score": 0.1, "residual": None, "gap": 4, "epoch": 5}
OBJECT |= {"prediction": {"flow": 0.1, "\u00fc 1": 2, "c": -1e-7}}


def test_predictions_that_come_as_json(tailed, model_file):
    more = OBJECT | {"seq": 2**64 - 1, "low": {"flow": 0.05}}
    messages = [[b"p1", as_json()], [b"p1", json.dumps(more, indent=1).encode()]]
    lines, said = tailed(messages, limit=2, model=model_file)
    assert [json.loads(line) for line in lines] == [OBJECT, more]
    assert said == ""
    event = as_json(kind="event", prediction={}, time=None, flags=[], stream="\x1b[2J")
    rows = as_json(kind="rows", prediction={"y": [1, None, 3.5], "z\n": [4, 5, 6]}, flags=["GAP\x07"])
    binary = prediction([[0.1]], **FULL)
    lines, said = tailed(
        [messages[0], [b"p1", event], [b"p1", rows], [b"p1", binary]], limit=4, as_json=False
    )
    assert lines == [
        "p1 seq=7 time=2020-02-08T13:30:47.500000000Z step=9 flow=0.1 '\u00fc 1'=2 c=-1e-07 score=0.1 "
        "residual=- WARMING|GAP".replace("'", ""),
        r"'\x1b[2J' event seq=7 time=- step=9 score=0.1 residual=-",
        "p1 rows seq=7 time=2020-02-08T13:30:47.500000000Z step=9 y=1,-,3.5 'z\\n'=4,5,6 score=0.1 "
        "residual=- 'GAP\\x07'",
        "p1 seq=7 time=2020-02-08T13:30:47.500000000Z step=9 y0=0.1 score=0.1 residual=- WARMING|GAP",
    ]
    assert said == ""


@pytest.mark.parametrize("print_json", [True, False])
def test_json_that_is_no_prediction_is_rubbish(tailed, print_json):
    good = [b"p", as_json()]
    missing = json.loads(good[1])
    del missing["gap"]
    rubbish = [
        b"{",
        b"{}",
        good[1] + b"{}",
        good[1] + b"\xff",
        json.dumps(missing).encode(),
        b'{"a":' * 100_000,
        as_json(score=float("nan")),
        as_json(score=10**400),
        as_json(seq=int("9" * 4000)),
        good[1].replace(b"0.1", b"1e999"),
        good[1].replace(b"p1", b"\\ud800"),
        *(as_json(seq=seq) for seq in (-1, 2**64, 1.0, True, None, "7")),
        *(as_json(prediction=said) for said in (None, [], {"a": "b"}, {"a": [[1]]}, {"a": True})),
        *(as_json(flags=flags) for flags in (None, "GAP", [1])),
        *(as_json(**{name: 1}) for name in ("stream", "time", "kind", "prediction")),
    ]
    messages = [*([b"p", payload] for payload in rubbish), [b"\xff", good[1]], [*good, b""], good]
    lines, said = tailed(messages, limit=1, as_json=print_json)
    assert len(lines) == 1
    first, last = said.splitlines()
    assert first.startswith("warning: a message that is no prediction: it begins with { and is no JSON: ")
    assert last == f"messages that were no predictions: {len(messages) - 1}"


def test_lines_come_at_once_until_an_interrupt(context):
    publisher, endpoint = bound(context, zmq.XPUB)
    with command("tail", endpoint, "--json") as child:
        publisher.recv()
        for seq in range(3):
            publisher.send_multipart([b"p", prediction([[1]], seq=seq)])
            assert json.loads(child.stdout.readline())["seq"] == seq  # though more may come
        child.send_signal(signal.SIGINT)
        assert (child.wait(DEADLINE_S), child.stderr.read()) == (130, "")
    publisher.close()


def test_a_reader_that_leaves_ends_it(context, tmp_path):
    publisher, _ = bound(context, zmq.XPUB)
    endpoint = f"ipc://{tmp_path}/socket"
    with command("tail", endpoint, "--bind") as child:
        wait_for((tmp_path / "socket").exists, "the socket of tail")
        publisher.connect(endpoint)
        publisher.recv()
        publisher.send_multipart([b"p", prediction([[1]])])
        assert child.stdout.readline().startswith("p seq=0 ")
        child.stdout.close()
        for seq in itertools.count(1):
            publisher.send_multipart([b"p", prediction([[1]], seq=seq)])
            if child.poll() is not None:
                break
        assert (child.returncode, child.stderr.read()) == (141, "")
    publisher.close()


def test_an_endpoint_that_cannot_be_used():
    with pytest.raises(UserError, match=r"tcp://192\.0\.2\.1:5: cannot be bound: "):
        tail("tcp://192.0.2.1:5", [], False, None, None, bind=True)

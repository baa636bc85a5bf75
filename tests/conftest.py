"""What several test files share: a model file, and a daemon that runs it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from daemons import Daemon, Line, serving
from models import untrained

from streamrnn.model.model_file import write_model

_LONGEST = {f"test_{name}" for name in ("walk", "page", "api", "demo", "readme", "systemd_real", "keeping")}

# an example that is the first to call a kernel compiles it, which takes longer than any deadline
hypothesis.settings.register_profile("streamrnn", deadline=None)
hypothesis.settings.load_profile("streamrnn")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="run what is random or hostile many times longer: kills, hostile messages, the fuzzer",
    )


def pytest_configure() -> None:
    """Has what tests start end at Ctrl-C; in the background of a script it would be born deaf to it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest go first, so that no worker waits for them in the end. Keras goes last: the threads of its
    backend stay, and some tests fork.
    """
    items.sort(key=lambda item: ("keras" in item.nodeid, item.path.stem not in _LONGEST))


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM of 3 channels that forecasts them, 10 ms a row."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_model(untrained(sample_period_s=0.01), path)
    return path


@pytest.fixture(scope="module")
def daemon(model_file: Path) -> Iterator[Daemon]:
    """A daemon with the default settings."""
    with serving(model_file) as daemon:
        yield daemon


@pytest.fixture
def line(daemon: Daemon) -> Iterator[Line]:
    """A publisher and a subscriber of ``daemon``."""
    with daemon.line() as line:
        yield line

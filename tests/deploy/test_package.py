"""What pip would install: the wheel has every file of the package, and runs from another folder."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from readme import ROOT

import streamrnn

sys.path.append(str(ROOT / "tools"))
from manual import PAGE, page

PACKAGE = ROOT / "streamrnn"
SHARED = f"streamrnn-{streamrnn.__version__}.data/data/share/man/man1/streamrnn.1"
INSTALL_S = 300.0


def contents(names: Iterable[str]) -> set[str]:
    """Those of the package."""
    return {name for name in names if name.startswith("streamrnn/")}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed, without the checkout in its reach."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=INSTALL_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made of it."""
    folder = tmp_path_factory.mktemp("dist")
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    run(*hatch, "-t", "sdist", cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "source", filter="data")
    run(*hatch, "-t", "wheel", cwd=next((folder / "source").iterdir()))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


def test_the_wheel_has_every_file_of_the_package(wheel):
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert contents(archive.namelist()) == files
        assert all(archive.read(name) == (ROOT / name).read_bytes() for name in files)
        assert archive.read(SHARED) == PAGE.read_bytes()


def test_the_sdist_has_what_its_scripts_read(built):
    (source,) = (built / "source").iterdir()
    for name in ("tools/demo", "tools/setup.sh", "requirements.lock", "deploy/Dockerfile", ".dockerignore"):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_manual_page_is_that_of_the_commands():
    assert PAGE.read_text() == page(), "python tools/manual.py writes it"


def test_the_package_runs_from_the_wheel_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    here = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    where = "import streamrnn.cli; print(streamrnn.cli.__file__)"
    assert run(sys.executable, "-c", where, cwd=tmp_path, **here).startswith(str(tmp_path / "site"))
    said = run(sys.executable, "-m", "streamrnn", "--version", cwd=tmp_path, **here)
    assert said == f"streamrnn {streamrnn.__version__}\n"


@pytest.mark.skipif("not config.getoption('--long')", reason="installs every dependency: run with --long")
def test_the_demo_runs_from_an_empty_environment(wheel, tmp_path):
    place = tmp_path / "environment"
    venv.create(place, with_pip=True)
    constraint = f"--constraint={ROOT}/requirements.lock"
    run(place / "bin/pip", "install", "--quiet", "--only-binary=:all:", constraint, wheel, cwd=tmp_path)
    own = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "PYTHONPATH": ""}
    run(place / "bin/streamrnn", "demo", "--seconds", "5", "--http", "127.0.0.1:0", cwd=tmp_path, **own)
    assert (place / "share/man/man1/streamrnn.1").is_file()

"""Disks that fill up: fixtures for a test file that says ``pytest_plugins = ["disk"]``."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daemons import DEADLINE_S

_SMALL = "size=1m"  # of the tmpfs under either folder
_THIN_BYTES = 16 << 20  # that a thin folder's filesystem believes it can hold


class _NotAllowedError(Exception):
    """This user may not mount; the text says what was refused."""


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    except (OSError, subprocess.CalledProcessError) as error:
        raise _NotAllowedError(getattr(error, "stderr", None) or str(error)) from error


@contextmanager
def _mounted(folder: Path, *options: str | Path) -> Iterator[Path]:
    """``folder``, made and mounted by root with the options of mount(8)."""
    folder.mkdir(exist_ok=True)
    _run("mount", *options, folder)
    try:
        yield folder
    finally:
        _run("umount", "--lazy", folder)


@contextmanager
def _mounted_apart(folder: Path) -> Iterator[Path]:
    """A tmpfs in the mount namespace of another process, which any user may make where the kernel allows."""
    folder.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o {_SMALL} tmpfs "$0" && echo mounted && exec cat'
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # ends with its standard input
        assert process.stdout is not None and process.stderr is not None
        if process.stdout.readline() != "mounted\n":
            raise _NotAllowedError(process.stderr.read())
        yield Path(f"/proc/{process.pid}/root{folder}")


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on a tmpfs of 1 MiB. Do not resolve its path, which may lead through /proc."""
    refused = []
    with ExitStack() as stack:
        for mount in (
            _mounted(tmp_path / "small", "-t", "tmpfs", "-o", _SMALL, "tmpfs"),
            _mounted_apart(tmp_path / "small"),
        ):
            try:
                folder = stack.enter_context(mount)
                break
            except _NotAllowedError as error:
                refused.append(str(error).strip())
        else:
            pytest.skip(f"cannot mount a tmpfs: {'; '.join(refused)}")
        yield folder


@pytest.fixture
def thin_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on a filesystem of 16 MiB, of which the disk under it holds 1 MiB.

    What is written past that is lost when it goes to the disk: write succeeds, fsync fails.
    """
    with ExitStack() as stack:
        try:
            disk = _mounted(tmp_path / "disk", "-t", "tmpfs", "-o", _SMALL, "tmpfs")
            image = stack.enter_context(disk) / "image"
            with image.open("wb") as file:
                file.truncate(_THIN_BYTES)
            _run("mkfs.ext2", "-q", image)
            folder = stack.enter_context(_mounted(tmp_path / "thin", "-o", "loop", image))
        except _NotAllowedError as error:
            pytest.skip(f"cannot mount a filesystem of its own: {str(error).strip()}")
        yield folder

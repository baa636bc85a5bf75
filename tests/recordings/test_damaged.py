"""Damaged recordings: an error, or rows; no crash, no hang, bounded memory."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from recordings.damage import check_damaged, everything

from streamrnn.errors import UserError
from streamrnn.recordings import apart
from streamrnn.recordings.formats import FORMATS, RecordingFormat

FEW, MANY = 8, 1000  # copies, without and with --long


def small_hdf5(path: Path) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, count in (("fast", 1000), ("slow", 50)):
            group = file.create_group(name)
            group["time"], group["b"] = np.arange(count) * 0.01, rng.integers(0, 9, count).astype("i2")
            group.create_dataset("a", data=rng.normal(size=count), chunks=(16,), compression="gzip")
            group["a"].attrs["unit"], group["b"].attrs["scale_factor"] = "bar", 0.5


def test_hdf5(tmp_path, request):
    small_hdf5(path := tmp_path / "small.h5")
    rows, errors = check_damaged(path, MANY if request.config.getoption("--long") else FEW, 0)
    assert rows and errors


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """A file of a format whose reader is ``code``."""
    package = tmp_path / "streamrnn_stub"
    package.mkdir(exist_ok=True)
    (package / "reader.py").write_text(code)
    row = RecordingFormat("stub", (), lambda head: head == b"stub", "stub", "numpy", "stub", "")
    monkeypatch.setattr(apart, "PATIENCE_S", 1.0)
    path = tmp_path / "file.stub"
    path.write_bytes(b"stub")
    monkeypatch.setattr(apart, "COMMAND", ("-c", STUB.format(folder=str(package))))
    monkeypatch.setattr("streamrnn.recordings.formats.FORMATS", (*FORMATS, row))
    return path


STUB = """
import sys
sys.path.insert(0, {folder!r})
import reader, streamrnn.recordings.apart as apart, streamrnn.recordings.formats as formats
apart.importlib.import_module = lambda name: reader
apart.NAMES["stub"] = formats.FORMATS[0]._replace(name="stub")
sys.exit(apart.main())
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\ndef open_recording(path, told): os.abort()", "its reader ended (signal 6)"),
        ("import time\ndef open_recording(path, told): time.sleep(99)", "its reader said nothing for 1 s"),
        ("def open_recording(path, told): return bytearray(1 << 40)", "takes more than 2 GB to read as stub"),
        ("def open_recording(path, told): 1 / 0", "ZeroDivisionError: division by zero; the file may be"),
        (
            "import sys\ndef open_recording(path, told): sys.exit('so')",
            "its reader ended (exit code 1)",
        ),
        ("def open_recording(path, told): print('x' * 10**7); raise MemoryError", "takes more than 2 GB"),
    ],
)
def test_a_reader_that_fails_takes_nothing_down(tmp_path, monkeypatch, code, words):
    path = stub(tmp_path, monkeypatch, code)
    with pytest.raises(UserError) as caught:
        everything(path)
    assert words in str(caught.value) and str(caught.value).startswith(f"{path}: ")

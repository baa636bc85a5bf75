"""Recordings read by a process of their own: ``python -m streamrnn.recordings.apart FORMAT FILE TOLD``.

Libraries of foreign formats may crash over a damaged file, hang, or take all memory there is. So none runs
in the process that asks. It asks for one piece after another, each a line of JSON with the numbers behind it;
the process has limits to its memory, and to the time without an answer.
"""

import contextlib
import importlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.formats import NAMES, RecordingFormat
from streamrnn.recordings.recording import (
    MOST_CHANNELS,
    PIECE_VALUES,
    ChannelGroup,
    Contents,
    OpenRecording,
    RecordedChannel,
    Samples,
    Told,
)

COMMAND = ("-m", __name__)
MEMORY = 2 << 30  # bytes that the process may take, beside what it maps of the file
PATIENCE_S = 60.0  # without a byte of an answer
LONGEST_LINE = 64 << 20  # bytes
MOST_VALUES = 16 * PIECE_VALUES  # of a piece
MOST_SAID = 1 << 16  # bytes of what it says where it cannot even begin
REASONS = 10  # that are told of what is no channel
SHOWN = 300  # characters of what a library says


class RecordingApart:
    """A ``OpenRecording`` whose reader runs in another process, until ``close``."""

    def __init__(self, path: Path, row: RecordingFormat, told: Told = Told()) -> None:  # noqa: B008
        """Raises UserError for a file that the reader cannot make anything of."""
        self.where, self._name = str(path), row.name
        package = str(Path(__file__).parents[2])
        # "::" keeps the HDF5 library from loading filters out of other folders
        env = os.environ | {"PYTHONPATH": package, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-P", *COMMAND, row.name, str(path.absolute()), json.dumps(told)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        self._requests = 0
        try:
            self.contents = _contents(self._answer())
        except BaseException:
            self.close()
            raise

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        self._requests += 1
        number, width = self._requests, len(channels)
        self._ask({"open": number, "group": group, "channels": [*channels]})
        while True:
            self._ask({"next": number})
            answer = self._answer()
            count = answer["samples"]
            if count < 0:
                return
            if not 0 <= count * (width + 1) <= MOST_VALUES:
                raise UserError(f"{self.where}: its reader gave {count:,} samples at once")
            ticks = np.frombuffer(self._read(8 * count), np.int64)
            values = np.frombuffer(self._read(8 * count * width), np.float64).reshape(count, width)
            yield Samples(ticks, values, answer["begins"], answer["cut"])

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what became of it is told where the answer is read
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """The next line. Raises UserError for what the reader refused, or for its end."""
        size = int.from_bytes(self._read(8), "little")
        if size > LONGEST_LINE:
            raise UserError(f"{self.where}: cannot be read as {self._name}: its reader answers nonsense")
        answer = json.loads(self._read(size))
        if "refused" in answer:
            raise UserError(f"{self.where}: {answer['refused']}")
        return dict(answer)

    def _read(self, size: int) -> bytearray:
        """So many bytes of the answer. Raises UserError where the process ends before, or says nothing."""
        assert self._process.stdout is not None
        pipe, data = self._process.stdout.fileno(), bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            if not select.select([pipe], [], [], PATIENCE_S)[0]:
                self._process.kill()
                raise UserError(
                    f"{self.where}: its reader said nothing for {PATIENCE_S:g} s; the file may be damaged"
                )
            got = os.readv(pipe, [view[at:]])
            if not got:
                raise UserError(f"{self.where}: cannot be read as {self._name}: {self._why_ended()}")
            at += got
        return data

    def _why_ended(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read(MOST_SAID).decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        said = "".join(char for char in last if char.isprintable())[:SHOWN]
        what = f"signal {-code}" if code < 0 else said or f"exit code {code}"
        return f"its reader ended ({what}); the file may be damaged"


def _contents(answer: dict[str, Any]) -> Contents:
    groups = tuple(
        ChannelGroup(name, tuple(RecordedChannel(*channel) for channel in channels), *rest)
        for name, channels, *rest in answer.pop("groups")
    )
    pairs = tuple((name, why) for name, why in answer.pop("left_out"))
    return Contents(groups=groups, left_out=pairs, notes=tuple(answer.pop("notes")), **answer)


def main() -> int:
    """Answers requests on standard input until it ends."""
    row, path, told = NAMES[sys.argv[1]], Path(sys.argv[2]), Told(*json.loads(sys.argv[3]))
    for kind, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    output = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for said in (1, 2):  # what a library prints, however much, is no answer
        os.dup2(nowhere, said)
    try:
        module = importlib.import_module(f"streamrnn.recordings.{row.module}")
        recording: OpenRecording = module.open_recording(path, told)
        _check_channels(recording.contents)
        _send(output, recording.contents._asdict())
        _serve(recording, output)
    except BrokenPipeError:
        return 0
    except UserError as error:
        _send(output, {"refused": str(error).removeprefix(f"{path}: ")})
    except MemoryError:
        _send(output, {"refused": f"takes more than {MEMORY >> 30} GB to read as {row.name}"})
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0][:SHOWN]
        _send(output, {"refused": f"cannot be read as {row.name}: {what}; the file may be damaged"})
    return 0


def _check_channels(contents: Contents) -> None:
    """Raises UserError for a recording of too many, or of none, with the reasons."""
    channels = sum(len(group.channels) for group in contents.groups)
    if channels > MOST_CHANNELS:
        raise UserError(f"has {channels:,} channels; at most {MOST_CHANNELS:,} are read")
    if not channels:
        why = "".join(f'; "{name}": {what}' for name, what in contents.left_out[:REASONS])
        raise UserError(f"nothing of it is a channel{why or ', as it has no samples'}")


def _serve(recording: OpenRecording, output: BinaryIO) -> None:
    under_way: dict[int, Iterator[Samples]] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "open" in request:
            under_way[request["open"]] = recording.pieces(request["group"], request["channels"])
            continue
        piece = next(under_way[request["next"]], None)
        if piece is None:
            del under_way[request["next"]]
            _send(output, {"samples": -1})
            continue
        answer = {"samples": len(piece.ticks), "begins": bool(piece.begins), "cut": piece.cut}
        ticks = np.ascontiguousarray(piece.ticks, np.int64)
        _send(output, answer, ticks, np.ascontiguousarray(piece.values, np.float64))


def _send(output: BinaryIO, answer: dict[str, Any], *arrays: np.ndarray) -> None:
    line = json.dumps(answer).encode()
    output.write(len(line).to_bytes(8, "little") + line)
    for array in arrays:
        output.write(array.data.cast("B") if array.size else b"")
    output.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Where the records of an EDF file stand in time, and their samples.

Each record of EDF+ says when it began, in the first list of its first signal of annotations; this is also
where the start has its fraction of a second. A record that does not begin where the last one ended begins a
run of its own.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from streamrnn.recordings.edf.header import EdfHeader, EdfSignal
from streamrnn.recordings.recording import even_ticks
from streamrnn.recordings.seconds import nanoseconds
from streamrnn.recordings.stored import PIECE, FileBytes

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_ONSET = re.compile(rb"([+-]\d{1,12}(?:\.\d{0,12})?)(?:\x15[^\x14]*)?\x14\x14")


class EdfRun(NamedTuple):
    """Records without a hole between them."""

    first: int
    records: int
    begin: Fraction  # ns from the start in the header


def find_runs(file: FileBytes, header: EdfHeader, records: int) -> tuple[list[EdfRun], int]:
    """The runs of all records in order, and how many records do not say when they began."""
    marks = next((s for s in header.signals if header.name.endswith("+") and s.label in ANNOTATIONS), None)
    if marks is None or marks.samples == 0:
        return [EdfRun(0, records, Fraction(0))] if records else [], 0
    slack = header.duration / max(2, 2 * max(signal.samples for signal in header.signals))
    runs, silent = list[EdfRun](), 0
    for number, lists in enumerate(_each(file, header, marks, records)):
        last = runs[-1] if runs else EdfRun(0, 0, Fraction(0))
        expected = last.begin + last.records * header.duration
        if found := _ONSET.match(lists):
            begin = nanoseconds(found[1].decode())
        else:
            begin, silent = expected, silent + 1
        if runs and abs(begin - expected) <= slack:
            runs[-1] = last._replace(records=last.records + 1)
        else:
            runs.append(EdfRun(number, 1, begin))
    return runs, silent


def _each(file: FileBytes, header: EdfHeader, marks: EdfSignal, records: int) -> Iterator[bytes]:
    """The annotations of each record."""
    size, length = header.record_size, marks.samples * header.width
    together = max(1, (PIECE >> 2) // size) if size < PIECE >> 6 else 1  # of small ones many at once
    for first in range(0, records, together):
        count = min(together, records - first)
        begin = header.size + first * size + marks.at
        block = file.read(begin, (count - 1) * size + length)
        yield from (block[at : at + length] for at in range(0, count * size, size))


def read_run(
    file: FileBytes, header: EdfHeader, run: EdfRun, samples: int, signals: Sequence[EdfSignal]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces of signals of ``samples`` in a record: (n,) int64 ns, and (n, signals) float64 in their units.

    Raises Short where the file has become shorter.
    """
    size = header.record_size
    period = header.duration / samples
    together = max(1, PIECE // size)  # records at once
    most = samples if size <= PIECE else max(1, PIECE // (8 * max(1, len(signals))))  # samples of one at once
    for first in range(0, run.records, together):
        count = min(together, run.records - first)
        at = header.size + (run.first + first) * size
        block = file.read(at, count * size) if size <= PIECE else b""
        for low in range(0, samples, most):
            high = min(low + most, samples)
            values = np.empty((count * (high - low), len(signals)))
            for column, signal in enumerate(signals):
                begin, length = signal.at + low * header.width, (high - low) * header.width
                if block:
                    table = np.frombuffer(block, np.uint8).reshape(count, size)
                    own = table[:, begin : begin + length].tobytes()
                else:
                    own = file.read(at + begin, length)
                values[:, column] = scaled(_numbers(own, header), signal)
            yield even_ticks(first * samples + low, len(values), period) + int(run.begin), values


def scaled(digital: np.ndarray, signal: EdfSignal) -> np.ndarray:
    """Samples in the signal's unit, float64; inverted where the physical minimum is the larger one."""
    (low, high), (least, most) = signal.physical, signal.digital
    return (digital - least) * (high - low) / (most - least) + low


def _numbers(samples: bytes, header: EdfHeader) -> np.ndarray:
    """(n,) float64: the samples as they are stored, low byte first, of 16 or 24 bits with a sign."""
    if header.width == 2:
        return np.frombuffer(samples, "<i2").astype(np.float64)
    triples = np.frombuffer(samples, np.uint8).reshape(-1, 3)
    words = np.zeros((len(triples), 4), np.uint8)
    words[:, 1:] = triples
    return (words.view("<i4")[:, 0] >> 8).astype(np.float64)

"""EDF and BDF as bytes, by their specification: pyEDFlib writes no pieces apart, no fraction of a start."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Signal(NamedTuple):
    label: str
    unit: str
    physical: tuple[float, float]
    digital: tuple[int, int]
    raw: np.ndarray  # (records, samples of one)


def edf(
    signals: Sequence[Signal],
    onsets: Sequence[str] = (),
    kind: str = "EDF+D",
    duration: str = "1",
    records: int | None = None,
    date: str = "04.03.26",
    recording: str = "",
) -> bytes:
    """A file; ``onsets`` are those of its records, written as annotations of 8 samples each."""
    width = 3 if kind.startswith("BDF") else 2
    count = len(signals[0].raw)
    labels = [signal.label for signal in signals] + [f"{kind[:3]} Annotations"] * bool(onsets)
    most = 1 << (8 * width - 1)
    limits = [(*s.physical, *s.digital) for s in signals] + [(-1, 1, -most, most - 1)] * bool(onsets)
    sizes = [signal.raw.shape[1] for signal in signals] + [16] * bool(onsets)
    units = [signal.unit for signal in signals] + [""] * bool(onsets)

    def fields(width: int, values: Sequence[object]) -> str:
        return "".join(f"{value!s:{width}.{width}}" for value in values)

    first = "\xffBIOSEMI" if width == 3 else f"{'0':8}"
    blank = [""] * len(labels)
    text = (
        f"{first}{'X X X X':80}{recording:80}{date}05.06.07{256 * (1 + len(labels)):<8}{kind:44}"
        f"{count if records is None else records:<8}{duration:8}{len(labels):<4}"
        + fields(16, labels)
        + fields(80, blank)
        + fields(8, units)
        + "".join(fields(8, [f"{limit[k]:g}" if k < 2 else limit[k] for limit in limits]) for k in range(4))
        + fields(80, blank)
        + fields(8, sizes)
        + fields(32, blank)
    )
    body = b""
    for record in range(count):
        for signal in signals:
            words = np.ascontiguousarray(signal.raw[record], "<i4").view(np.uint8).reshape(-1, 4)
            body += words[:, :width].tobytes()
        if onsets:
            body += f"{onsets[record]}\x14\x14\0".encode().ljust(16 * width, b"\0")
    return text.encode("latin-1") + body

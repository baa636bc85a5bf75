"""Files as loggers write them come out as the plain tables that they are made from, or an error says how.

For one seed: ``python tests/logger_check.py SEED``. To see the file: ``python tests/logger_files.py SEED .``.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from logger_check import Verdict, check, check_suggested, check_told
from logger_files import Case, make
from plain_logger import read_told

FILES, MANY_FILES = 100, 1000  # without and with --long
FLOOR = 0.0  # of files that come out right without an error first


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[Case]:
    return [make(seed) for seed in range(MANY_FILES if request.config.getoption("--long") else FILES)]


def wrong(cases: list[Case], verdicts: list[Verdict]) -> str:
    """What is wrong, a line each, with what the file is like."""
    pairs = [(case, verdict) for case, verdict in zip(cases, verdicts, strict=True) if verdict.wrong]
    lines = [f"{case.name} ({'; '.join(case.properties)}): {verdict.wrong}" for case, verdict in pairs]
    return "\n".join([f"{len(pairs)} of {len(cases)} files are wrong", *lines[:20]]) if pairs else ""


def test_a_plain_reader_that_is_told_everything_reads_them(cases):
    for case in cases:
        read = read_told(case.content, case.truth, case.channels)
        for name, expected in case.streams.items():
            rows = read[name if "stream" in case.truth else ""]
            if case.bad_time:
                rows = [row for row in rows if row[0] is not None]
            values = np.array([values for _, values in rows], np.float32)
            if case.asked:  # words are no numbers here
                values[:, -1] = expected.values[:, -1]
            assert np.array_equal(values, expected.values, equal_nan=True), case.name
            times = np.array([time or 0 for time, _ in rows])
            assert (np.abs(times - expected.times) <= case.tolerance_ns).all(), case.name


def test_they_come_out_right_or_an_error_says_how(cases, tmp_path):
    verdicts = [check(case, tmp_path) for case in cases]
    right = sum(verdict.right_at_once for verdict in verdicts)
    print(f"{right} of {len(cases)} files come out right at once")
    assert not (text := wrong(cases, verdicts)), text
    assert right >= FLOOR * len(cases)


@pytest.mark.parametrize("how", [check_told, check_suggested])
def test_what_is_told_is_right_and_what_must_be_is_asked_for(
    cases, tmp_path, how: Callable[[Case, Path], Verdict]
):
    some = [case for case in cases if case.suggested or how is check_told]
    verdicts = [how(case, tmp_path) for case in some]
    assert not (text := wrong(some, verdicts)), text

"""F1 and false alarms of the SKAB tool, against a case counted by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from skab import LEARNED, judge, tell

# Judged: 4 faulty rows, of which 3 are flagged, and 5 normal ones, of which 2 are.
FAULTY = np.array([0, 1, 1, 0, 0, 1, 1, 0, 0], bool)
FLAGGED = np.array([1, 1, 0, 0, 0, 1, 1, 0, 1], bool)
F1, ALARMS = 2 * 3 / (2 * 3 + 2 + 1), 2 / 5  # 2 TP / (2 TP + FP + FN), FP / (FP + TN)


def test_f1_and_false_alarms_are_those_counted_by_hand():
    assert judge(FLAGGED, FAULTY) == pytest.approx((F1, ALARMS))
    assert judge(FAULTY, FAULTY) == (1, 0)
    assert judge(~FAULTY, FAULTY) == (0, 1)
    assert judge(np.zeros(9, bool), FAULTY) == (0, 0)
    assert judge(np.ones(9, bool), FAULTY) == pytest.approx((8 / 13, 1))


def test_rows_that_were_learned_from_are_not_judged(capsys):
    learned = np.ones(LEARNED, bool)
    files = [np.concatenate([learned, part]) for part in (FLAGGED[:4], FLAGGED[4:])]
    tell("by hand", files, FAULTY)
    name, f1, alarms = capsys.readouterr().out.rsplit(maxsplit=2)
    assert (name, f1, alarms) == ("by hand", f"{F1:.3f}", f"{ALARMS:.1%}")

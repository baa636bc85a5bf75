"""The measure of the benchmark, by the letter: row by row, threshold by threshold."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from tsbad import THRESHOLDS, USUAL, find_period, vus_pr


def plain(faulty: list[bool], score: list[float], widest: int) -> float:
    """The same with nothing summed up beforehand."""
    rows = len(faulty)
    begins = [k for k in range(rows) if faulty[k] and (k == 0 or not faulty[k - 1])]
    ends = [k for k in range(rows) if faulty[k] and (k == rows - 1 or not faulty[k + 1])]
    areas, ranked = [], sorted(score, reverse=True)
    for buffer in range(widest + 1):
        reach, weight = buffer // 2, [float(one) for one in faulty]
        groups: list[list[int]] = []
        for begin, end in zip(begins, ends, strict=True):
            around = [k for k in range(begin - reach, end + reach + 1) if 0 <= k < rows]
            for k in around:
                distance = max(begin - k, k - end, 0)
                if not faulty[k]:
                    weight[k] = min(weight[k] + math.sqrt(1 - distance / buffer), 1.0)
            if groups and set(groups[-1]) & set(around):
                groups[-1] = sorted({*groups[-1], *around})
            else:
                groups.append(around)
        area = before = 0.0
        for rank in np.linspace(0, rows - 1, THRESHOLDS).astype(int):
            flagged = [one >= ranked[rank] for one in score]
            found = sum(weight[k] for k in range(rows) if flagged[k])
            near = sum(weight[k] for k in range(rows) if flagged[k] and not faulty[k])
            recall = min(found / (sum(faulty) + near / 2), 1.0)
            recall *= sum(any(flagged[k] for k in group) for group in groups) / len(groups)
            area += (recall - before) * found / sum(flagged)
            before = recall
        areas.append(area)
    return sum(areas) / len(areas)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_its_words_say(seed):
    rng = np.random.default_rng(seed)
    faulty = np.zeros(90, bool)
    for begin in rng.integers(0, 88, rng.integers(1, 5)):
        faulty[begin : begin + rng.integers(1, 12)] = True
    score = rng.normal(size=90) + faulty
    if seed % 2:
        score = score.round()  # rows that are alike
    assert vus_pr(faulty, score, 9) == pytest.approx(plain(faulty.tolist(), score.tolist(), 9), abs=1e-12)


def test_what_is_found_is_worth_more_than_chance():
    faulty = np.zeros(2000, bool)
    faulty[700:760] = faulty[1500:1504] = True
    assert vus_pr(faulty, faulty.astype(float), 0) == 1
    assert vus_pr(faulty, faulty.astype(float), 100) > 0.9
    assert vus_pr(faulty, np.random.default_rng(0).normal(size=2000), 100) < 0.1
    one = np.where(np.arange(2000) < 1000, faulty, False)
    assert vus_pr(faulty, one.astype(float), 100) < 0.6  # an anomaly that is missed costs more than its rows


def test_a_period_is_found_where_there_is_one():
    rows = np.arange(3000)
    noise = np.random.default_rng(0).normal(size=3000)
    assert find_period(np.sin(2 * np.pi * rows / 48) + 0.1 * noise) == 48
    assert find_period(np.cumsum(np.ones(3000))) == USUAL
    assert find_period(np.zeros(3000)) == USUAL

"""The scorer of the Numenta Anomaly Benchmark, against sums by hand and what Numenta published."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from nab import (
    LEAST_TAIL,
    best,
    best_of,
    each_row,
    events,
    suppressed,
    tallies,
    thresholds,
    windowed_gaussian,
)
from nab_scorer import load, make_series, normalised, tally

NAB = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "nab"
NAN = float("nan")

# What the windowed Gaussian comes to in each file at its best threshold for all 58 of them, standard
# profile: results/windowedGaussian/windowedGaussian_standard_scores.csv of github.com/numenta/NAB.
WINDOWED_GAUSSIAN = {
    "artificialNoAnomaly/art_daily_no_noise.csv": 0.0,
    "artificialNoAnomaly/art_daily_perfect_square_wave.csv": 0.0,
    "artificialNoAnomaly/art_daily_small_noise.csv": 0.0,
    "artificialNoAnomaly/art_flatline.csv": 0.0,
    "artificialNoAnomaly/art_noisy.csv": 0.0,
    "artificialWithAnomaly/art_daily_flatmiddle.csv": -1.0,
    "artificialWithAnomaly/art_daily_jumpsdown.csv": -1.0,
    "artificialWithAnomaly/art_daily_jumpsup.csv": -1.0,
    "artificialWithAnomaly/art_daily_nojump.csv": -1.0,
    "artificialWithAnomaly/art_increase_spike_density.csv": -1.0,
    "artificialWithAnomaly/art_load_balancer_spikes.csv": -0.692444609523,
    "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv": -1.26667875935,
    "realAWSCloudwatch/ec2_cpu_utilization_53ea38.csv": -0.141423196117,
    "realAWSCloudwatch/ec2_cpu_utilization_5f5533.csv": -2.0,
    "realAWSCloudwatch/ec2_cpu_utilization_77c1ca.csv": -1.0,
    "realAWSCloudwatch/ec2_cpu_utilization_825cc2.csv": 0.956537840284,
    "realAWSCloudwatch/ec2_cpu_utilization_ac20cd.csv": 0.86067182427,
    "realAWSCloudwatch/ec2_cpu_utilization_c6585a.csv": -1.32,
    "realAWSCloudwatch/ec2_cpu_utilization_fe7f93.csv": 0.638757791772,
    "realAWSCloudwatch/ec2_disk_write_bytes_1ef3de.csv": -4.19089678552,
    "realAWSCloudwatch/ec2_disk_write_bytes_c0d644.csv": -1.09599853032,
    "realAWSCloudwatch/ec2_network_in_257a54.csv": 0.86067182427,
    "realAWSCloudwatch/ec2_network_in_5abac7.csv": -3.52193223519,
    "realAWSCloudwatch/elb_request_count_8c0756.csv": -0.138449197924,
    "realAWSCloudwatch/grok_asg_anomaly.csv": 2.37942230674,
    "realAWSCloudwatch/iio_us-east-1_i-a2eb1cd9_NetworkIn.csv": -2.0,
    "realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv": -0.138449197924,
    "realAWSCloudwatch/rds_cpu_utilization_e47b3b.csv": -0.138449197924,
    "realTweets/Twitter_volume_AAPL.csv": 1.51399683626,
    "realTweets/Twitter_volume_AMZN.csv": 1.55848299457,
    "realTweets/Twitter_volume_CRM.csv": 0.763845764094,
    "realTweets/Twitter_volume_CVS.csv": 0.773682061394,
    "realTweets/Twitter_volume_FB.csv": 0.119750278191,
    "realTweets/Twitter_volume_GOOG.csv": -0.146777355167,
    "realTweets/Twitter_volume_IBM.csv": -0.799109479229,
    "realTweets/Twitter_volume_KO.csv": -0.914196106944,
    "realTweets/Twitter_volume_PFE.csv": 0.26557999349,
    "realTweets/Twitter_volume_UPS.csv": -2.2051646682,
}


def scaled(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


def series(rows=100, windows=((40, 59),)):
    return make_series("s", np.zeros(rows), list(windows))


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


@pytest.mark.parametrize(("rows", "probation"), [(100, 15), (4032, 604), (5000, 750), (15902, 750)])
def test_probation_is_a_share_of_no_more_than_5000_rows(rows, probation):
    assert series(rows, ()).probation == probation


def test_nothing_has_0_and_every_window_at_once_has_100():
    files = [series(200, ((40, 59), (100, 149))), series(100), series(50, ())]
    firsts = [rows(40, 100), rows(40), rows()]
    for detections, score in ((firsts, 100), ([rows()] * 3, 0)):
        gain = sum(tally(s, found).gain for s, found in zip(files, detections, strict=True))
        assert normalised(gain, sum(s.windows for s in files)) == pytest.approx(score, abs=1e-12)
    with pytest.raises(ValueError, match="no window"):
        normalised(0.0, 0)


def test_the_first_detection_in_a_window_counts_by_its_place():
    # the window has 20 rows: row 40 lies at -1, row 50 at -0.5, row 59 at -1/20
    for row, place in ((40, -1), (50, -0.5), (59, -0.05)):
        gained = 1 + scaled(place) / scaled(-1)  # 1 for not missing it
        assert tally(series(), rows(row)) == pytest.approx((gained, 1, 0))
        assert tally(series(), np.arange(row, 60)) == pytest.approx((gained, 1, 0))


def test_a_false_alarm_costs_by_its_distance_from_the_window_before():
    assert tally(series(), rows(39)) == pytest.approx((-0.11, 0, 1))  # none before
    # behind the window, its width less one row, 19, is the unit; past three of them it costs all
    for row, place in ((60, 1 / 19), (78, 1)):
        assert tally(series(), rows(row)) == pytest.approx((0.11 * scaled(place), 0, 1))
    assert tally(series(200), rows(117, 199)) == pytest.approx((-0.22, 0, 2))
    # between two windows the one before counts
    both = series(200, ((40, 59), (70, 79)))
    assert tally(both, rows(60, 80)) == pytest.approx((0.11 * (scaled(1 / 19) + scaled(1 / 9)), 0, 2))


def test_what_lies_in_the_probation_counts_for_nothing():
    assert tally(series(), rows(0, 14)) == (0, 0, 0)
    assert tally(series(), rows(14, 15, 45)).false_alarms == 1


def test_an_event_begins_once_until_it_was_quiet():
    score = np.full(400, 1.0)
    score[[10, 20, 90, 300]] = 4.0
    assert events(score, 3.0).tolist() == [10, 90, 300]  # 10 rows of quiet go on, 69 end it
    score[50] = 1.5  # half the threshold keeps it up
    assert events(score, 3.0).tolist() == [10, 300]
    score[11:299] = NAN  # nothing is known of these rows
    assert events(score, 3.0).tolist() == [10]
    assert each_row(score, 3.0).tolist() == [10, 300]
    assert events(np.full(5, NAN), 3.0).tolist() == []


def test_a_suppressed_score_is_0_from_the_second_row_of_an_event_until_it_is_over():
    score = np.full(400, 1.0)
    score[[10, 20, 90, 300]] = 4.0
    quiet = suppressed(score, 3.0)
    assert each_row(quiet, 3.0).tolist() == events(score, 3.0).tolist() == [10, 90, 300]
    assert each_row(quiet, 2.0).tolist() == [10, 90, 300]
    assert (quiet[11:85] == 0).sum() == 73 and (quiet[[9, 84]] == 1).all()  # 64 quiet rows end it
    assert np.array_equal(suppressed(score, 5.0), score)
    unknown = np.full(5, NAN)
    assert np.array_equal(suppressed(unknown, 3.0), unknown, equal_nan=True)


def test_the_threshold_is_that_which_is_best_for_the_files_that_count():
    files, scores = [series(), series()], [np.zeros(100), np.zeros(100)]
    scores[0][[30, 40]] = 2, 3  # a false alarm, then the window's first row
    scores[1][[40, 70]] = 2, 1
    tried = np.array([1.0, 2.0, 3.0])
    found = tallies(files, scores, tried, each_row)
    assert [[t.found for t in row] for row in found] == [[1, 1], [1, 1], [1, 0]]
    assert [[t.false_alarms for t in row] for row in found] == [[1, 1], [1, 0], [0, 0]]
    assert (best(found, range(2)), best(found, range(1)), best(found, range(1, 2))) == (1, 2, 1)
    assert best_of(found) == found[1]


def test_thresholds_reach_from_a_tenth_of_the_rows_to_one():
    score = np.random.default_rng(0).permutation(10_000).astype(float)
    tried = thresholds([score, np.full(3, NAN)])
    assert (tried[0], tried[-1]) == (9000, 9999) and (np.diff(tried) > 0).all()


@pytest.mark.skipif(not NAB.is_dir(), reason=f"{NAB} is missing")
def test_the_windowed_gaussian_scores_what_numenta_published_of_it():
    files = load(NAB)
    assert {s.name for s in files} == set(WINDOWED_GAUSSIAN)
    least = -math.log10(LEAST_TAIL)
    for s in files:
        got = tally(s, each_row(windowed_gaussian(s.values), least)).gain - s.windows
        assert got == pytest.approx(WINDOWED_GAUSSIAN[s.name], abs=1e-6), s.name

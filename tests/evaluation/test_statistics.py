"""Intervals, tests and agreement: against closed forms, hand-made values and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from nnunet_igtv.evaluation.comparison import compare, detection, summarise
from nnunet_igtv.evaluation.statistics import FEWEST, agreement, bootstrap, holm, wilcoxon


@pytest.mark.parametrize("count", [6, 12, 48])
def test_the_interval_of_a_mean_is_students_for_normal_values(count):
    values = stats.norm.ppf((np.arange(count) + 0.5) / count, 0.7, 0.1)
    low, high = bootstrap(values)
    t = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(t, abs=0.15 * (t[1] - t[0]))


@pytest.mark.parametrize(
    "draw", [lambda r: r.normal(size=8), lambda r: r.beta(8, 2, 8)], ids=["normal", "dice"]
)
def test_the_interval_of_few_patients_holds_the_mean_as_often_as_it_says(draw):
    """Plain percentile intervals of 8 hold it in about 89 of 100 samples."""
    rng = np.random.default_rng(1)
    truth = {"normal": 0.0, "dice": 0.8}["normal" if draw(np.random.default_rng(0)).min() < 0 else "dice"]
    hits = [low <= truth <= high for low, high in (bootstrap(draw(rng)) for _ in range(300))]
    assert 0.91 <= np.mean(hits) <= 0.985


def test_intervals_are_the_same_each_time_and_absent_of_too_few():
    values = np.arange(FEWEST) / 10
    assert bootstrap(values) == bootstrap(values.copy())
    assert bootstrap(values[:-1]) is None
    assert bootstrap(np.full(9, 0.8)) == (0.8, 0.8)
    low, high = bootstrap(np.array([0, 0, 0.8, 0.9, 0.9, 0.9]), np.median)
    assert low < 0.85 <= high


def test_wilcoxon_and_holm():
    differences = np.array([0.03, 0.05, 0.01, 0.04, 0.02, -0.005])
    assert wilcoxon(differences) == pytest.approx(
        2 / 64 * 2
    )  # smallest rank negative: 2 of 64 orders, two sides
    assert wilcoxon(np.zeros(5)) == 1
    assert wilcoxon(np.zeros(0)) is None
    assert holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm([0.9, 0.8]) == [1, 1]


def test_bland_altman_by_hand():
    found = agreement([[-2.0], [0.0], [2.0]])
    assert (found.bias, found.lower, found.upper) == (
        0,
        pytest.approx(-3.92, abs=1e-3),
        pytest.approx(3.92, abs=1e-3),
    )
    assert found.bias_interval is found.lower_interval is None
    assert agreement([[1.5]]).lower is None
    values = np.random.default_rng(0).normal(3, 2, 40)
    found = agreement(values[:, None])
    assert found.lower_interval.low < found.lower < found.lower_interval.high < found.bias
    # Bland and Altman 1986: the standard error of a limit is about sqrt(3 / n) standard deviations
    width = found.upper_interval.high - found.upper_interval.low
    assert width == pytest.approx(2 * 2.02 * math.sqrt(3 / 40) * values.std(ddof=1), rel=0.3)


@pytest.mark.parametrize("counts", [(2, 2), (1, 4)])
def test_limits_are_those_of_a_single_difference(counts):
    """Where patients differ by 1 and the masks of one by 3 ml, 95 % of masks are within 1.96 * sqrt(10)."""
    rng = np.random.default_rng(0)
    patients = [rng.normal(0, 1) + rng.normal(0, 3, counts[i % 2]) for i in range(400)]
    found = agreement(patients)
    assert found.upper == pytest.approx(1.96 * math.sqrt(10), rel=0.1)
    assert found.upper_interval.low < 1.96 * math.sqrt(10) < found.upper_interval.high
    # one mask 10 ml too large and one as much too small agree no better for their mean
    assert agreement([[10.0, -10.0]] * 8).upper == pytest.approx(1.96 * 10, rel=0.01)


def test_a_summary_counts_the_patients_that_have_a_value():
    assert summarise({}).patients == 0
    assert math.isnan(summarise({}).mean)
    assert summarise({1: 0.2, 7: 0.4})[:2] == (2, pytest.approx(0.3))


def of_one_run(values):
    """Case -> its one value; and each case is a patient."""
    return {str(i): [value] for i, value in values.items()}


PATIENTS = {str(i): i for i in range(30)}


def test_a_comparison_is_of_the_patients_that_have_both():
    first = of_one_run(dict.fromkeys(range(8), 0.5))
    second = of_one_run({i: 0.5 + 0.01 * i for i in range(1, 9)})
    found = compare(first, second, PATIENTS, "high")
    assert found.patients == 7
    assert found.mean == pytest.approx(0.04)
    assert 0 < found.interval.low < 0.04 < found.interval.high
    assert found.reversed().interval == (-found.interval.high, -found.interval.low)
    assert compare(first, of_one_run({20: 1.0}), PATIENTS, "high").p is None


def test_differences_of_volume_are_compared_by_their_size():
    """3 ml too small and 3 ml too large are equally far from the truth."""
    first, second = of_one_run(dict.fromkeys(range(6), 3.0)), of_one_run(dict.fromkeys(range(6), -3.0))
    found = compare(first, second, PATIENTS, "zero")
    assert (found.mean, found.p) == (0, 1)


def test_the_size_of_a_difference_is_that_of_each_mask():
    """Two runs, or two cases of a patient, 10 ml too large and 10 ml too small are no 0 ml."""
    far, near = {str(i): [10.0, -10.0] for i in range(8)}, {str(i): [1.0, 1.0] for i in range(8)}
    assert compare(far, near, PATIENTS, "zero").mean == -9
    two_each = {str(i): i // 2 for i in range(16)}
    far, near = ({str(i): [ml * (-1) ** i] for i in range(16)} for ml in (10.0, 1.0))
    found = compare(far, near, two_each, "zero")
    assert (found.patients, found.mean) == (8, -9)


def test_a_model_gains_nothing_where_it_has_no_value():
    """In all cases in which both have a value, both have the same; the second misses the hard tumours."""
    patients = {f"{kind}{i}": i for i in range(8) for kind in ("easy", "hard")}
    first = {case: [35.0 if case.startswith("hard") else 5.0] for case in patients}
    second = {case: [math.nan if case.startswith("hard") else 5.0] for case in patients}
    found = compare(first, second, patients, "low")
    assert (found.patients, found.mean) == (8, 0)
    runs = {str(i): [5.0, 25.0] for i in range(8)}, {str(i): [5.0, math.nan] for i in range(8)}
    assert compare(*runs, PATIENTS, "low").patients == 0  # the second run has no value to compare with


def test_detection_counts_lesions_over_all_cases():
    scores = {
        "a": {"lesions": 3.0, "missed_lesions": 1.0, "false_lesions": 0.0},
        "b": {"lesions": 1.0, "missed_lesions": 0.0, "false_lesions": 2.0},
        "c": {"lesions": 0.0, "missed_lesions": 0.0, "false_lesions": 0.0},
    }
    found = detection(scores, {"a": 1, "b": 1, "c": 2})
    assert (found.lesions, found.found, found.false) == (4, 3, 2)
    assert (found.sensitivity, found.false_per_case, found.f1) == (
        0.75,
        pytest.approx(2 / 3),
        pytest.approx(6 / 9),
    )
    assert found.sensitivity_interval is None
    many = {f"c{i}": scores["ab"[i % 2]] for i in range(12)}
    found = detection(many, {case: i for i, case in enumerate(many)})
    assert found.sensitivity_interval.low < 0.75 < found.sensitivity_interval.high
    nothing = detection({"c": scores["c"]}, {"c": 1})
    assert math.isnan(nothing.sensitivity)
    assert nothing.false_per_case == 0

"""What the report and the terminal say of numbers: no more than the numbers do."""

import re

import numpy as np
import pytest

from nnunet_igtv.evaluation.calibration import Reliability
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.observers import PAIRED
from nnunet_igtv.evaluation.results import Results

# 11 patients a little better and one far worse: the test says so, and the mean's interval holds 0
SKEWED = [0.010, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 0.017, 0.018, 0.019, 0.020, -0.2]
# six patients, one of them the other way round: too few for the test
FEW = [0.03, 0.05, 0.01, 0.04, 0.02, -0.005]
CLEAR = [0.03 + 0.001 * i for i in range(12)]
HOLDS_0 = "the interval holds 0, but p is below 0.05"
NOT_0 = "the interval does not hold 0, but p is not below 0.05"


def two_models(differences):
    """Results of models a and b in as many patients; b is better by so much in every metric."""
    cases = [f"Q{i}" for i in range(len(differences))]
    a = {case: dict.fromkeys(METRICS, 0.5) for case in cases}
    b = {case: dict.fromkeys(METRICS, 0.5 + d) for case, d in zip(cases, differences, strict=True)}
    profiles = {model: {case: np.full(9, 0.5) for case in cases} for model in "ab"}
    return Results({"a": [a], "b": [b]}, profiles, {case: i for i, case in enumerate(cases)})


@pytest.mark.parametrize(
    ("differences", "said", "mark"), [(SKEWED, HOLDS_0, "†"), (FEW, NOT_0, "‡"), (CLEAR, None, None)]
)
def test_where_interval_and_p_disagree_both_are_said(page_of, differences, said, mark):
    results = two_models(differences)
    row = results.comparisons["a", "b"]["dice"]
    holds_0, below = row.interval.low <= 0 <= row.interval.high, row.p_holm < 0.05
    assert (holds_0 == below) == (said is not None)  # the sample is what it is meant to be
    page, table = page_of(results), results.table()
    for text in (HOLDS_0, NOT_0):
        assert (text in page) == (text == said)
        assert (text in table) == (text == said)
    p = re.search(r" p (< 0\.001|\d\.\d{3})( [†‡])?", page[page.index("Paired differences") :])
    assert (p[2] or "").strip() == (mark or "")


def test_one_criterion_is_named(page_of):
    page = page_of(two_models(CLEAR))
    assert "told apart where the 95 % interval of their difference does not hold 0" in page
    assert "no proof that they are equally good" in page


def test_a_model_that_is_not_told_apart_from_observers_is_not_called_as_good(page_of):
    rng = np.random.default_rng(0)
    scores = {
        pair: {f"Q{i}": dict.fromkeys(PAIRED, rng.uniform(0.6, 0.9)) for i in range(12)}
        for pair in [("x", "y"), ("y", "x"), *((model, o) for model in "ab" for o in "xy")]
    }
    results = two_models(CLEAR)
    page = page_of(Results(results.runs, results.profiles, results.patients, observers=scores), ("x", "y"))
    assert "not told apart from the observers" in page
    assert "no proof that it is as good" in page
    assert "human spread" not in page


def test_the_side_of_the_line_says_which_way_probabilities_are_wrong(page_of):
    """A network that is too sure everywhere is above the line on the left, below it on the right."""
    results, found = two_models(CLEAR), Reliability()
    found.add(np.array([0.1, 0.1, 0.9, 0.9]), np.array([True, False, True, False]))
    found.masks = 1
    results.calibration["a"] = found
    page = page_of(results)
    assert "too sure" not in page
    assert "Below the line: probabilities too high; above: too low" in page

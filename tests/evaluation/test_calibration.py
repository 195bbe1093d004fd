"""Probabilities that nnU-Net wrote next to its masks."""

import json

import numpy as np
import pytest

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation import evaluate
from nnunet_igtv.evaluation.calibration import Reliability, read_probability
from nnunet_igtv.grids import Grid

GRID = Grid((32, 32, 20), (2.0, 2.0, 3.0), (1.0, -2.0, 30.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def beside(cohort, ball, change=lambda classes: classes):
    """As nnU-Net: classes first, then the axes of the array; background, tumour."""
    for i, radius in enumerate((4.5, 6.5, 7.5)):
        tumour = np.where(ball(radius=radius), 0.9, 0.1).astype(np.float32)
        classes = change(np.stack([1 - tumour, tumour]))
        np.savez_compressed(cohort / "good" / f"CASE_{i}.npz", probabilities=classes)


def test_probabilities_are_compared_with_the_truth(cohort, ball):
    beside(cohort, ball)
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    found = results.calibration["m"]
    assert found.masks == 3
    assert found.count.nonzero()[0].tolist() == [1, 9]
    truth = sum(ball(radius=r).sum() for r in (4, 6, 7))
    predicted = sum(ball(radius=r + 0.5).sum() for r in (4, 6, 7))
    assert found.part_in_truth[9] == pytest.approx(truth / predicted)
    assert found.part_in_truth[1] == 0
    assert found.mean_probability[9] == pytest.approx(0.9, abs=1e-6)
    written = json.loads((cohort / "out" / "metrics.json").read_text())["models"]["m"]["calibration"]
    assert written["part_in_truth"][0] is None
    assert written["brier"] == pytest.approx(
        (0.01 * (found.count[1] + truth) + 0.81 * (predicted - truth)) / found.count.sum(), rel=1e-4
    )
    assert "Calibration" in (cohort / "out" / "report.html").read_text()


def test_regions_have_no_background(cohort, ball):
    tumour = np.where(ball(), 0.8, 0.2)
    np.savez(cohort / "good" / "CASE_0.npz", probabilities=np.stack([tumour, tumour / 2]))
    probability, mask = read_probability(cohort / "good" / "CASE_0.nii.gz", "CASE_0", GRID)
    assert (mask == ball()).all()
    assert probability.max() == pytest.approx(0.8)


def test_a_perfect_forecast_has_no_error():
    found = Reliability()
    found.add(np.repeat([0.25, 0.75], 8), np.repeat([1, 0, 1, 0], [2, 6, 6, 2]).astype(bool))
    assert found.error == 0
    assert found.brier == pytest.approx(0.1875)


def test_probabilities_of_an_edited_mask_are_named_and_left_out(cohort, ball, write_image):
    beside(cohort, ball)
    write_image(cohort / "good" / "CASE_1.nii.gz", ball(radius=3))
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert results.calibration["m"].masks == 2
    assert results.notes == [
        "CASE_1: the probabilities of m belong to another mask; left out of the calibration.",
        "The calibration of m is over 2 of 3 masks.",
    ]
    assert results.notes[0] in results.table()
    assert results.notes[0] in (cohort / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.transpose(0, 3, 2, 1), "have the shape"),
        (lambda c: c[0], "have the shape"),
        (lambda c: c * 5, "not between 0 and 1"),
        (lambda c: np.full_like(c, np.nan), "not between 0 and 1"),
    ],
)
def test_other_arrays_are_refused(cohort, ball, change, message):
    beside(cohort, ball, change)
    with pytest.raises(IGTVError, match=f"CASE_0: the probabilities .*{message}|CASE_0: .*{message}"):
        evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    (cohort / "good" / "CASE_0.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(IGTVError, match="CASE_0: the probabilities cannot be read"):
        evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")

"""Several observers: their consensus, and a model among them."""

import json
import math

import numpy as np
import pytest

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation import evaluate
from nnunet_igtv.evaluation.consensus import consensus
from nnunet_igtv.evaluation.texts import raters_of


def test_the_consensus_of_three(ball):
    a, b, c = ball((10, 16, 16)), ball((10, 17, 16)), ball((10, 16, 18))
    found = consensus([a, b, c])
    majority = (a.astype(int) + b + c) >= 2
    assert (found != majority).sum() <= 0.02 * majority.sum()
    outlier = ball((10, 16, 16), 9)  # who draws far more than the others is trusted less
    assert (consensus([a, b, outlier]) & ~(a | b)).sum() == 0


def test_the_consensus_does_not_depend_on_the_size_of_the_image(ball):
    masks = [ball((10, 16, 16), 5), ball((10, 17, 16), 5), ball((11, 16, 16), 6)]
    wide = [np.pad(mask, ((0, 0), (20, 20), (20, 20))) for mask in masks]
    assert (consensus(wide)[:, 20:-20, 20:-20] == consensus(masks)).all()


def test_the_consensus_where_staple_has_none(ball):
    a, nothing = ball(), np.zeros((20, 32, 32), bool)
    assert (consensus([a, a, a]) == a).all()
    assert not consensus([nothing, nothing]).any()
    assert not consensus([a, nothing]).any()
    assert not consensus([ball((5, 8, 8), 3), ball((14, 24, 24), 3)]).any()
    assert consensus([a, a, nothing]).sum() > 0


@pytest.mark.parametrize("apart", [6.5, 7.5, 8.5, 9.5])
@pytest.mark.parametrize("radius", [3.0, 5.0])
def test_the_consensus_of_observers_who_hardly_overlap_is_where_they_do(ball, apart, radius):
    """STAPLE's is empty, or what one of them drew without what both did."""
    a, b = ball((10, 16, 12), 5), ball((10, 16, 12 + apart), radius)
    assert not (a & b & ~consensus([a, b])).any()
    assert consensus([a, b]).any() == (a & b).any()


@pytest.mark.parametrize(("to", "start"), [(7, 5), (8, 4)])
def test_the_consensus_in_an_image_without_background(to, start):
    """Of an image that was cut to its target: STAPLE's is empty, though two of three drew something."""
    a, b, nothing = np.zeros((3, 1, 1, 12), bool)
    a[..., :to], b[..., start:] = True, True
    assert (consensus([a, b, nothing]) == (a & b)).all()


@pytest.fixture
def observed(tmp_path, write_image, ball):
    """Six cases, three observers, a model that agrees with them as they do and one that does not."""
    rng = np.random.default_rng(0)
    for i in range(6):
        for name, size in (("anna", 1), ("ben", 1), ("cleo", 1), ("close", 1), ("far", 4)):
            centre = np.array((10, 16, 16)) + size * rng.choice([-1, 1], 3) * (0, 1, 1)
            write_image(tmp_path / name / f"CASE_{i}.nii.gz", ball(centre, 6.0))
    return tmp_path


def test_a_model_is_placed_among_the_observers(observed):
    truth = {name: observed / name for name in ("anna", "ben", "cleo")}
    models = {"close": observed / "close", "far": observed / "far"}
    results = evaluate(truth, models, None, observed / "out")
    found = {rater.name: rater for rater in raters_of(results)}
    assert list(found) == ["observers among themselves", "anna", "ben", "cleo", "close", "far"]
    assert found["anna"].summaries["dice"].mean == pytest.approx(
        np.mean([results.observers["anna", o][c]["dice"] for o in ("ben", "cleo") for c in results.cases])
    )
    assert found["close"].is_model
    assert not found["anna"].is_model
    low, high = found["close"].minus_observers["dice"][1]
    assert low < 0 < high or found["close"].minus_observers["dice"][0] >= 0
    assert found["far"].minus_observers["dice"][1].high < 0
    written = json.loads((observed / "out" / "metrics.json").read_text())
    assert [rater["name"] for rater in written["observers"]["raters"]] == list(found)
    pairs = {(p["first"], p["second"]): p["summary"]["dice"]["mean"] for p in written["observers"]["pairs"]}
    assert len(pairs) == 3 * 2 + 2 * 3  # each observer and each model with each (other) observer
    assert pairs["anna", "ben"] == pytest.approx(pairs["ben", "anna"])
    page = (observed / "out" / "report.html").read_text()
    assert "observers among themselves" in page
    assert "STAPLE" in page


def test_an_observer_who_left_out_a_case_is_named(observed):
    (observed / "ben" / "CASE_3.nii.gz").unlink()
    with pytest.raises(IGTVError, match="CASE_3: no contour by ben"):
        evaluate({n: observed / n for n in ("anna", "ben")}, {"m": observed / "far"}, None, observed / "out")
    with pytest.raises(IGTVError, match="CASE_3: no contour by ben"):  # whoever is named first
        evaluate({n: observed / n for n in ("ben", "anna")}, {"m": observed / "far"}, None, observed / "out")
    with pytest.raises(IGTVError, match="an observer and a model are both named 'anna'"):
        evaluate(
            {n: observed / n for n in ("anna", "cleo")}, {"anna": observed / "far"}, None, observed / "o"
        )


def test_observers_who_saw_nothing(observed, write_image):
    nothing = np.zeros((20, 32, 32), bool)
    for name in ("anna", "ben", "close"):
        write_image(observed / name / "CASE_0.nii.gz", nothing)
    truth = {name: observed / name for name in ("anna", "ben")}
    results = evaluate(truth, {"m": observed / "close"}, None, observed / "out")
    assert math.isnan(results.scores["m"]["CASE_0"]["dice"])
    assert math.isnan(results.observers["anna", "ben"]["CASE_0"]["dice"])
    assert raters_of(results)[0].summaries["dice"].patients == 5


def test_a_seed_that_found_nothing_is_left_out_everywhere_alike(tmp_path, write_image, ball):
    """Two observers who drew the same are the truth: a model's values among them are those against it."""
    for i in range(2):
        for name in ("anna", "ben"):
            write_image(tmp_path / name / f"CASE_{i}.nii.gz", ball())
        write_image(tmp_path / "seed0" / f"CASE_{i}.nii.gz", ball((10, 16, 17 + i)))
        write_image(tmp_path / "seed1" / f"CASE_{i}.nii.gz", ball() & bool(i))  # nothing in CASE_0
    truth = {name: tmp_path / name for name in ("anna", "ben")}
    runs = {"m": [tmp_path / "seed0", tmp_path / "seed1"]}
    results = evaluate(truth, runs, None, tmp_path / "out")
    (model,) = [rater for rater in raters_of(results) if rater.is_model]
    for metric, found in model.summaries.items():
        assert found == results.summaries["m"][metric]
        assert found.patients == 2
    assert results.scores["m"]["CASE_0"]["hd95_mm"] == results.runs["m"][0]["CASE_0"]["hd95_mm"] > 0

"""Metrics against cases worked out by hand, and the rules for empty masks."""

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from nnunet_igtv.evaluation.by_position import central_and_peripheral_dice, profile
from nnunet_igtv.evaluation.metrics import METRICS, score

SPACING = (3.0, 2.0, 2.0)


def box(*ranges, shape=(20, 32, 32)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def test_perfect_prediction(ball):
    values = score(ball(), ball(), SPACING)
    assert values.keys() == METRICS.keys()
    for name in ("dice", "dice_central", "dice_peripheral", "surface_dice_2mm", "surface_dice_3mm"):
        assert values[name] == 1
    for name in (
        "hd95_mm",
        "difference_ml",
        "beyond_ml",
        "false_lesions",
        "false_lesions_ml",
        "missed_lesions",
    ):
        assert values[name] == 0
    assert values["truth_ml"] == pytest.approx(ball().sum() * 0.012)


def test_shifted_box_by_hand():
    """A box of 10 x 12 x 12 voxels moved by two voxels (4 mm) along the rows."""
    truth, prediction = box((5, 15), (8, 20), (8, 20)), box((5, 15), (8, 20), (10, 22))
    values = score(truth, prediction, SPACING)
    assert values["dice"] == pytest.approx(10 / 12)
    assert values["hd95_mm"] == pytest.approx(4, abs=0.05)
    assert 0.5 < values["surface_dice_2mm"] <= values["surface_dice_3mm"] < 1
    assert values["difference_ml"] == 0


def test_volume_difference_has_a_sign():
    truth, larger = box((5, 15), (8, 20), (8, 20)), box((5, 15), (8, 20), (8, 22))
    assert score(truth, larger, SPACING)["difference_ml"] == pytest.approx(10 * 12 * 2 * 0.012)
    assert score(larger, truth, SPACING)["difference_ml"] == pytest.approx(-10 * 12 * 2 * 0.012)


def test_hd95_agrees_with_a_plain_computation(ball):
    """Distances between voxel surfaces, in both directions; weighting differs, so within a voxel."""
    truth, prediction = ball(radius=7), ball((11, 18, 15), 6)

    def surface(mask):
        inner = mask.copy()
        for axis in range(3):
            inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
        return np.argwhere(mask & ~inner) * SPACING

    a, b = surface(truth), surface(prediction)
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert score(truth, prediction, SPACING)["hd95_mm"] == pytest.approx(expected, abs=2.0)


def test_false_and_missed_lesions(ball):
    truth = ball((5, 8, 8), 3) | ball((14, 24, 24), 3)
    prediction = ball((5, 9, 8), 3) | box((10, 12), (2, 4), (26, 28)) | box((17, 18), (30, 31), (1, 2))
    values = score(truth, prediction, SPACING)
    assert values["false_lesions"] == 2
    assert values["false_lesions_ml"] == pytest.approx(9 * 0.012)
    assert values["missed_lesions"] == 1
    assert score(truth, ball((5, 9, 8), 3), SPACING)["false_lesions"] == 0


def test_volume_beyond_the_target():
    truth, prediction = box((5, 15), (8, 20), (8, 20)), box((3, 16), (8, 20), (8, 20))
    assert score(truth, prediction, SPACING)["beyond_ml"] == pytest.approx(3 * 144 * 0.012)


@pytest.mark.parametrize(
    ("truth", "prediction", "overlap"), [(False, False, None), (False, True, 0.0), (True, False, 0.0)]
)
def test_empty_masks(truth, prediction, overlap, ball):
    nothing = np.zeros((20, 32, 32), bool)
    values = score(ball() if truth else nothing, ball() if prediction else nothing, SPACING)
    for name in ("dice", "surface_dice_2mm", "surface_dice_3mm"):
        assert math.isnan(values[name]) if overlap is None else values[name] == overlap
    assert math.isnan(values["hd95_mm"])
    assert values["truth_ml"] == pytest.approx(ball().sum() * 0.012 if truth else 0)
    assert values["missed_lesions"] == int(truth)
    assert values["false_lesions"] == int(prediction)


def test_position_tells_centre_from_periphery():
    truth = box((3, 12), (8, 20), (8, 20))  # nine slices: three central, three at each end
    only_centre = box((6, 9), (8, 20), (8, 20))
    assert central_and_peripheral_dice(truth, only_centre) == (1.0, 0.0)
    only_ends = truth & ~only_centre
    assert central_and_peripheral_dice(truth, only_ends) == (0.0, 1.0)
    assert profile(truth, only_centre).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    beyond = truth | box((0, 3), (8, 20), (8, 20))  # slices outside of the truth have no position
    assert central_and_peripheral_dice(truth, beyond) == (1.0, 1.0)


def test_position_of_thin_targets():
    one, two = box((5, 6), (8, 20), (8, 20)), box((5, 7), (8, 20), (8, 20))
    central, peripheral = central_and_peripheral_dice(one, one)
    assert central == 1
    assert math.isnan(peripheral)
    central, peripheral = central_and_peripheral_dice(two, two)
    assert math.isnan(central)
    assert peripheral == 1
    assert np.isnan(profile(np.zeros_like(one), one)).all()

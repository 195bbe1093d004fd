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
    for name in ("dice", "dice_central", "dice_peripheral", "surface_dice_1mm", "surface_dice_3mm"):
        assert values[name] == 1
    assert values["coverage"] == values["lesion_f1"] == 1
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


def test_lesion_f1_counts_lesions(ball):
    truth = ball((5, 8, 8), 3) | ball((14, 24, 24), 3)
    values = score(truth, ball((5, 9, 8), 3) | box((10, 12), (2, 4), (26, 28)), SPACING)
    assert values["lesions"] == 2
    assert values["lesion_f1"] == pytest.approx(2 / (2 + 1 + 1))
    joined = score(truth, np.ones_like(truth), SPACING)  # one part that joins both finds both
    assert (joined["missed_lesions"], joined["false_lesions"], joined["lesion_f1"]) == (0, 0, 1)


def test_coverage_with_margins_by_hand():
    """A truth of 10 slices, 3 mm each, and a prediction of its first six."""
    truth, prediction = box((5, 15), (8, 20), (8, 20)), box((5, 11), (8, 20), (8, 20))
    values = score(truth, prediction, SPACING)
    assert [values[f"coverage{m}"] for m in ("", "_3mm", "_5mm")] == pytest.approx([0.6, 0.7, 0.7])
    shorter = box((5, 15), (8, 20), (8, 18))  # 2 columns of 2 mm less
    values = score(truth, shorter, SPACING)
    assert [values[f"coverage{m}"] for m in ("", "_3mm", "_5mm")] == pytest.approx([10 / 12, 11 / 12, 1])
    values = score(truth, box((0, 20), (0, 32), (0, 32)), SPACING)
    assert values["coverage"] == 1


def test_added_path_by_hand():
    """A square of 12 x 12 pixels has 44 on its contour; one side moved out by a pixel adds that side."""
    truth = box((5, 7), (8, 20), (8, 20))
    assert score(truth, truth, SPACING)["added_path_mm"] == 0
    assert score(truth, box((5, 6), (8, 20), (8, 20)), SPACING)["added_path_mm"] == 44 * 2
    # of the side that was missing all 12 pixels; the rest of the contour is the prediction's too
    assert score(truth, box((5, 7), (8, 20), (8, 19)), SPACING)["added_path_mm"] == 2 * 12 * 2
    # what is to be erased is not counted, but the truth's side there is not on the prediction's contour
    assert score(truth, box((5, 7), (8, 20), (8, 21)), SPACING)["added_path_mm"] == 2 * 10 * 2
    at_the_edge = box((5, 7), (20, 32), (20, 32))
    nothing = np.zeros_like(truth)
    assert score(at_the_edge, nothing, SPACING)["added_path_mm"] == 2 * 44 * 2
    assert score(nothing, truth, SPACING)["added_path_mm"] == 0


def test_surface_dice_grows_with_the_tolerance():
    truth, prediction = box((5, 15), (8, 20), (8, 20)), box((5, 15), (8, 20), (9, 21))
    values = [score(truth, prediction, SPACING)[f"surface_dice_{mm}mm"] for mm in (1, 2, 3)]
    assert values[0] < values[1] <= values[2] == 1


def test_a_mask_at_the_border_of_the_image_scores_as_anywhere():
    inside = score(box((5, 9), (8, 20), (8, 20)), box((5, 9), (8, 20), (8, 18)), SPACING)
    border = score(box((0, 4), (0, 12), (0, 12)), box((0, 4), (0, 12), (0, 10)), SPACING)
    assert border == pytest.approx(inside)


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
    assert math.isnan(values["lesion_f1"]) if overlap is None else values["lesion_f1"] == 0
    for name in ("coverage", "coverage_3mm", "coverage_5mm"):
        assert values[name] == 0 if truth else math.isnan(values[name])
    assert (values["added_path_mm"] > 0) == truth
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


def two_tumours():
    """Seven slices of one tumour, and after a gap nine of another, elsewhere in the body."""
    return box((2, 9), (4, 10), (4, 10), shape=(60, 32, 32)) | box(
        (40, 49), (20, 28), (20, 28), shape=(60, 32, 32)
    )


def test_what_is_false_between_two_tumours_has_no_position():
    """A perfect mask and a false voxel in the gap: its slice is no middle of a tumour."""
    truth = two_tumours()
    gap = box((25, 26), (2, 3), (2, 4), shape=truth.shape)
    values = score(truth, truth | gap, SPACING)
    assert (values["dice_central"], values["dice_peripheral"]) == (1.0, 1.0)
    assert np.array_equal(profile(truth, truth | gap), np.ones(9))
    assert values["beyond_ml"] == pytest.approx(2 * 0.012)
    assert values["dice"] < 1
    assert score(truth, truth, SPACING)["beyond_ml"] == 0


def test_each_of_two_tumours_apart_has_its_own_middle_and_ends():
    truth = two_tumours()
    middles = box((5, 6), shape=truth.shape) | box((43, 46), shape=truth.shape)
    middles |= box((4, 5), shape=truth.shape) | box(
        (6, 7), shape=truth.shape
    )  # centres at 2.5, 3.5, 4.5 of 7
    assert central_and_peripheral_dice(truth, truth & middles) == (1.0, 0.0)
    assert central_and_peripheral_dice(truth, truth & ~middles) == (0.0, 1.0)


def test_tumours_side_by_side_have_one_middle():
    truth = box((2, 8), (4, 10), (4, 10)) | box((6, 11), (20, 28), (20, 28))
    one = box((2, 11), (4, 10), (4, 10))
    for mask in (truth, one):
        assert central_and_peripheral_dice(mask, mask & box((5, 8))) == (1.0, 0.0)


def test_positions_of_one_tumour_are_what_they_were():
    """Against the rule as it stood when the first results were made."""
    rng = np.random.default_rng(0)
    for length in range(1, 16):
        truth, found = np.zeros((2, 20, 32, 32), bool)
        truth[3 : 3 + length, 8:20, 8:20] = rng.random((length, 12, 12)) < 0.8
        truth[3 : 3 + length, 8, 8] = True  # connected along the slices
        found[:, 6:22, 6:22] = rng.random((20, 16, 16)) < 0.5
        slices, at = np.arange(3, 3 + length), (np.arange(length) + 0.5) / length
        inner = slices[(at > 1 / 3) & (at < 2 / 3)]
        both, total = (truth & found)[inner].sum(), truth[inner].sum() + found[inner].sum()
        central, _ = central_and_peripheral_dice(truth, found)
        assert central == pytest.approx(2 * both / total if total else math.nan, nan_ok=True)
        part = np.minimum((at * 9).astype(int), 8)
        for b, value in enumerate(profile(truth, found)):
            own = slices[part == b]
            total = truth[own].sum() + found[own].sum()
            assert value == pytest.approx(
                2 * (truth & found)[own].sum() / total if total else math.nan, nan_ok=True
            )

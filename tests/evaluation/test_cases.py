"""Every image and mask on another grid than its truth is named before anything is computed."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation import evaluate
from nnunet_igtv.evaluation.cases import find_cases


@pytest.fixture
def unread(monkeypatch):
    """Nothing reads voxels, and nothing is scored."""

    def refused(*_, **__):
        raise AssertionError("voxels were read before all headers were compared")

    for name in ("read_image", "read_mask"):
        monkeypatch.setattr(f"nnunet_igtv.evaluation.cases.{name}", refused)
    monkeypatch.setattr("nnunet_igtv.evaluation.scoring._score", refused)


def found(cohort, images="images"):
    return find_cases({"truth": cohort / "truth"}, {"m": [cohort / "good"]}, cohort / images)


@pytest.mark.parametrize("channel", ["0000", "0001"])
def test_an_image_on_another_grid_is_found_first(cohort, write_image, ball, unread, channel):
    write_image(cohort / "images" / f"CASE_2_{channel}.nii.gz", ball() * 1.0, (2.0, 2.0, 3.5))
    with pytest.raises(IGTVError, match=r"CASE_2: another grid than the truth's: spacing") as error:
        evaluate(cohort / "truth", {"m": cohort / "good"}, cohort / "images", cohort / "out")
    assert error.value.file == cohort / "images" / f"CASE_2_{channel}.nii.gz"
    assert not (cohort / "out").exists()


def test_every_wrong_case_is_named(cohort, write_image, ball, unread):
    write_image(cohort / "images" / "CASE_0_0000.nii.gz", ball() * 1.0, (2.0, 2.0, 3.5))
    write_image(cohort / "images" / "CASE_2_0001.nii.gz", ball()[1:] * 1.0)
    write_image(cohort / "good" / "CASE_1.nii.gz", ball(), origin=(1.0, -2.0, 33.0))
    with pytest.raises(IGTVError, match="3 files do not fit their truths") as error:
        found(cohort)
    rows = error.value.table.splitlines()
    assert len(rows) == 3
    for row, name, what in zip(
        rows, ("CASE_0_0000", "CASE_1.nii", "CASE_2_0001"), ("spacing", "origin", "size"), strict=True
    ):
        assert name in row
        assert what in row
    assert all(case in str(error.value) for case in ("CASE_0", "CASE_1", "CASE_2"))


def test_an_image_that_no_page_would_show_is_compared_too(cohort, write_image, ball, unread, monkeypatch):
    monkeypatch.setattr("nnunet_igtv.evaluation.report.PICTURED", 1)
    write_image(cohort / "images" / "CASE_1_0000.nii.gz", ball() * 1.0, (2.0, 2.0, 3.5))
    with pytest.raises(IGTVError, match="CASE_1: another grid"):
        found(cohort)


def test_an_image_that_is_none_is_named(cohort, unread):
    (cohort / "images" / "CASE_1_0001.nii.gz").write_text("no scan")
    with pytest.raises(IGTVError, match="CASE_1: the image cannot be read"):
        found(cohort)


def test_other_orders_of_the_axes_fit(cohort, unread):
    for file in (cohort / "images").iterdir():
        image = sitk.PermuteAxes(sitk.ReadImage(str(file)), (2, 0, 1))
        sitk.WriteImage(sitk.Flip(image, (True, False, True)), str(file))
    assert len(found(cohort)) == 3


def test_a_truth_of_two_observers_is_compared_with_the_first(cohort, write_image, ball, unread):
    write_image(cohort / "poor" / "CASE_1.nii.gz", ball(), (2.0, 2.0, 3.5))
    truths = {"x": cohort / "truth", "y": cohort / "poor"}
    with pytest.raises(IGTVError, match="CASE_1: another grid"):
        find_cases(truths, {"m": [cohort / "good"]}, None)


def test_only_headers_are_read(tmp_path, write_image):
    """Of an uncompressed file whose voxels are not there."""
    for folder, name in (("truth", "Q"), ("good", "Q"), ("images", "Q_0000")):
        path = write_image(tmp_path / folder / f"{name}.nii", np.zeros((4, 5, 6)))
        path.write_bytes(path.read_bytes()[:352])
    assert len(found(tmp_path)) == 1

"""A label of several values: which of them is the structure is said, asked for, or warned of."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import IGTVError, convert
from nnunet_igtv.commands.main import main

SHAPE = (8, 10, 12)


@pytest.fixture
def study(tmp_path):
    """study(label): folder k00 with CT, PET and IGTV on one grid, and a CSV that names them."""

    def write(label):
        rng = np.random.default_rng(0)
        folder = tmp_path / "in" / "k00"
        folder.mkdir(parents=True)
        images = {
            "CT": rng.integers(-1000, 1000, SHAPE).astype(np.int16),
            "PET": rng.random(SHAPE, np.float32) * 10,
            "IGTV": label,
        }
        for name, voxels in images.items():
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"{name}.nii.gz"))
        (tmp_path / "list.csv").write_text(
            "ct,pet,label\nin/k00/CT.nii.gz,in/k00/PET.nii.gz,in/k00/IGTV.nii.gz\n"
        )
        return {"lucid": tmp_path / "in", "nifti": tmp_path / "list.csv"}

    return write


def organs():
    """12 voxels of 1, 20 of 2, 30 of 3."""
    label = np.zeros(SHAPE, np.uint8)
    label[3, 4:7, 4:8], label[1, 0:2, 0:10], label[5, 0:3, 0:10] = 1, 2, 3
    return label


COUNTS = "1 (12 voxels), 2 (20 voxels), 3 (30 voxels)"


def written(raw, read):
    return read(next(raw.glob("*/labelsTr/*")))


def test_where_the_label_is_found_by_its_name_several_values_are_refused(study, raw, read, capsys):
    folder = str(study(organs())["lucid"])
    assert main(["convert", "lucid", folder, "-d", "7", "-j", "1"]) == 1
    said = capsys.readouterr().err
    assert COUNTS in said
    assert "/IGTV.nii.gz]" in said
    assert "(--label-value)" in said
    assert main(["convert", "lucid", folder, "-d", "7", "-j", "1", "--label-value", "2"]) == 0
    assert np.array_equal(written(raw, read), organs() == 2)


def test_where_the_label_is_named_all_values_are_taken_with_a_warning(study, raw, read):
    """The documented default of the source nifti."""
    done = convert("nifti", study(organs())["nifti"], 7, jobs=1)
    (warning,) = done.warnings
    assert warning.startswith("GTV_0001: ")
    assert COUNTS in warning
    assert "all are taken" in warning
    assert np.array_equal(written(raw, read), organs() > 0)
    record = json.loads(next(raw.glob("*/conversion.json")).read_text())
    assert COUNTS in str(record["cases"]["GTV_0001"]["warnings"])


@pytest.mark.parametrize("source", ["lucid", "nifti"])
@pytest.mark.parametrize(("kind", "value"), [("u1", 255), ("f4", 1), ("i2", 3)])
def test_one_value_is_the_structure_whatever_it_is(source, kind, value, study, raw, read):
    label = ((organs() == 1) * value).astype(kind)
    done = convert(source, study(label)[source], 7, jobs=1)
    assert (len(done.converted), done.warnings) == (1, ())
    assert np.array_equal(written(raw, read), organs() == 1)


@pytest.mark.parametrize("source", ["lucid", "nifti"])
@pytest.mark.parametrize("values", [(0, 254.99998), (0.0004, 0.996), (0, 1.0000153)])
def test_a_label_that_was_stored_with_a_scale_is_rounded(source, values, study, raw, read):
    paths = study(np.where(organs() == 2, values[1], values[0]).astype(np.float32))
    done = convert(source, paths[source], 5, jobs=1)
    assert not done.failures
    assert np.array_equal(written(raw, read), organs() == 2)


@pytest.mark.parametrize("values", [(0, 254.6), (0.02, 1), (0, 0.7)])
def test_a_label_between_whole_numbers_is_refused_with_a_value_that_is_none(values, study, raw):
    paths = study(np.where(organs() == 2, values[1], values[0]).astype(np.float32))
    (error,) = convert("nifti", paths["nifti"], 5, jobs=1).failures
    assert f"such as {max(v for v in values if v % 1):g}" in error.what


@pytest.mark.parametrize("source", ["lucid", "nifti"])
def test_a_value_that_was_asked_for_is_no_matter_of_warnings(source, study, raw, read):
    done = convert(source, study(organs())[source], 7, jobs=1, label_value=1)
    assert (len(done.converted), done.warnings) == (1, ())
    assert np.array_equal(written(raw, read), organs() == 1)


@pytest.mark.parametrize("source", ["lucid", "nifti"])
def test_the_background_is_no_structure(source, study, raw):
    with pytest.raises(IGTVError, match="the label value 0 is the background"):
        convert(source, study(organs())[source], 7, jobs=1, label_value=0)


def test_many_values_are_counted_and_some_are_shown(study, raw):
    label = np.zeros(SHAPE, np.uint8)
    label[2].flat[:40] = np.arange(1, 41)
    (warning,) = convert("nifti", study(label)["nifti"], 7, jobs=1).warnings
    assert "1 (1 voxel)" in warning
    assert "34 more" in warning
    assert "40 (" not in warning


def test_contours_have_no_values(tmp_path, raw, patient, capsys):
    patient("a").write(tmp_path / "in")
    assert main(["convert", "lucid", str(tmp_path / "in"), "-d", "7", "-j", "1", "--label-value", "2"]) == 1
    said = capsys.readouterr().err
    assert "DICOM" in said
    assert "(--label-value)" in said
    assert not raw.exists() or not list(raw.glob("*/labelsTr"))

"""Files that a CSV names in two rows, and studies that lack one of their files: no slip stays unsaid."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import IGTVError, convert

SHAPE = (6, 8, 8)


@pytest.fixture
def images(tmp_path):
    """images(folder, *names): the CT first, then the PET, then the label."""

    def write(folder, *names):
        rng = np.random.default_rng([*folder.encode()])
        label = np.zeros(SHAPE, np.uint8)
        label[2:4, 3:5, 3:5] = 1
        voxels = rng.uniform(-1000, 1000, SHAPE).astype(np.float32), rng.random(SHAPE, np.float32) * 5, label
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, values in zip(names, voxels, strict=True):
            if name:
                sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / folder / f"{name}.nii.gz"))

    return write


@pytest.fixture
def table(tmp_path, images):
    """table(*rows of (ct, pet, label)): a CSV of triples q1, q2 and q3."""

    def write(*rows):
        for k in (1, 2, 3):
            images(f"q{k}", "ct", "pet", "seg")
        lines = [",".join(f"{name}.nii.gz" if name else "" for name in row) for row in rows]
        (tmp_path / "list.csv").write_text("\n".join(["ct,pet,label", *lines]))
        return tmp_path / "list.csv"

    return write


@pytest.mark.parametrize("spelled", ["q1/seg", "q2/../q1/seg"])
def test_a_label_of_two_rows_is_refused_with_both(spelled, table, raw):
    path = table(("q1/ct", "q1/pet", "q1/seg"), ("q2/ct", "q2/pet", "q2/seg"), ("q3/ct", "q3/pet", spelled))
    with pytest.raises(IGTVError, match="lines 2 and 4 name one label") as caught:
        convert("nifti", path, 5, jobs=1)
    assert "list.csv" in str(caught.value)
    assert caught.value.remedy
    assert not list(raw.glob("Dataset*/labelsTr"))


def test_a_label_that_is_linked_twice_is_one_label(table, tmp_path, raw):
    path = table(("q1/ct", "q1/pet", "q1/seg"), ("q2/ct", "q2/pet", "q2/other"))
    os.symlink(tmp_path / "q1" / "seg.nii.gz", tmp_path / "q2" / "other.nii.gz")
    with pytest.raises(IGTVError, match="lines 2 and 3 name one label"):
        convert("nifti", path, 5, jobs=1)


def test_a_pet_of_two_rows_is_warned_of_for_both(table, raw):
    path = table(("q1/ct", "q1/pet", "q1/seg"), ("q2/ct", "q2/pet", "q2/seg"), ("q3/ct", "q1/pet", "q3/seg"))
    done = convert("nifti", path, 5, jobs=1)
    assert len(done.converted) == 3
    assert sorted(warning.split(":")[0] for warning in done.warnings) == ["GTV_0001", "GTV_0003"]
    assert all("lines 2 and 4 of the CSV name one PET" in warning for warning in done.warnings)


def test_rows_without_a_pet_share_none(table, raw):
    path = table(("q1/ct", "", "q1/seg"), ("q2/ct", "", "q2/seg"))
    assert convert("nifti", path, 5, jobs=1, no_pet="missing").warnings == ()


def test_a_ct_of_two_rows_is_refused_with_both(table, raw):
    path = table(("q1/ct", "q1/pet", "q1/seg"), ("q1/ct", "q2/pet", "q2/seg"))
    with pytest.raises(IGTVError, match=r"names a CT twice \(lines 2 and 3\)"):
        convert("nifti", path, 5, jobs=1)


@pytest.mark.parametrize("second", ["label", "Label "])
def test_a_column_of_the_table_that_is_there_twice_is_refused(second, images, tmp_path, raw):
    images("q1", "ct", "pet", "seg")
    images("q2", "ct", "pet", "seg")
    row = "q1/ct.nii.gz,q1/pet.nii.gz,q1/seg.nii.gz,q2/seg.nii.gz"
    (tmp_path / "list.csv").write_text(f"ct,pet,label,{second}\n{row}\n")
    with pytest.raises(IGTVError, match="several columns label"):
        convert("nifti", tmp_path / "list.csv", 5, jobs=1)


@pytest.mark.parametrize(
    "names", [("CTres", "", "SEG"), ("", "SUV", "SEG"), ("CTres", "SUV", ""), ("CTres", "", "")]
)
def test_an_autopet_study_that_lacks_a_file_is_named(names, images, tmp_path, raw):
    images("in/PETCT_q1/w1", "CTres", "SUV", "SEG")
    images("in/PETCT_q2/w2", *names)
    done = convert("autopet", tmp_path / "in", 5, jobs=1)
    assert len(done.converted) == 1
    (error,) = done.failures
    missing = next(name for name in ("CTres", "SUV", "SEG") if name not in names)
    assert error.what == "no such file"
    assert str(error.file).endswith(f"w2/{missing}.nii.gz")


def test_a_folder_without_a_file_of_autopet(tmp_path, raw):
    (tmp_path / "in").mkdir()
    with pytest.raises(IGTVError, match=r"SUV\.nii\.gz"):
        convert("autopet", tmp_path / "in", 5, jobs=1)

"""A study that a conversion has met before is kept, refused by name, or converted anew."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from nnunet_igtv import IGTVError, convert

EDGE = 12


@pytest.fixture
def triple():
    """triple(folder, value): CT.nii.gz, PET.nii.gz and IGTV.nii.gz; the CT is of that value."""

    def write(folder, value=0):
        folder.mkdir(parents=True)
        label = np.zeros((6, EDGE, EDGE), np.uint8)
        label[2:4, 4:8, 4:8] = 1
        for name, voxels in (
            ("CT", np.full(label.shape, value, np.float32)),
            ("PET", 1 + label.astype(np.float32)),
            ("IGTV", label),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"{name}.nii.gz"))
        return folder

    return write


def files(raw, kind="labelsTr"):
    return sorted(path.name for path in next(raw.glob("Dataset*_*/")).glob(f"{kind}/*"))


def said(done):
    return [str(error) for error in done.failures]


def test_a_study_of_the_same_name_in_another_folder_is_named(tmp_path, raw, triple):
    for site, value in (("a", 10), ("b", 20)):
        triple(tmp_path / site / "case_000", value)
    triple(tmp_path / "b" / "case_001", 30)
    convert("lucid", tmp_path / "a", 501, jobs=1)
    done = convert("lucid", tmp_path / "b", 501, jobs=1, append=True)
    assert len(done.converted) == 1
    assert said(done)[0].startswith("LUCID_0001: a study of this name was converted from another folder")
    (tmp_path / "b" / "case_000").rename(tmp_path / "b" / "b_000")
    done = convert("lucid", tmp_path / "b", 501, jobs=1, append=True)
    assert (len(done.converted), done.kept, done.failures) == (1, 1, ())
    values = {
        int(sitk.GetArrayFromImage(sitk.ReadImage(str(file))).max())
        for file in (raw / "Dataset501_LUCID" / "imagesTr").glob("*_0000.nii.gz")
    }
    assert values == {10, 20, 30}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_study_to_which_an_object_came_is_no_new_case(tmp_path, raw, patient, split):
    study = patient("a")
    study.write(tmp_path / "in" / "a")
    patient("bb").write(tmp_path / "in" / "bb")
    first = convert("lucid", tmp_path / "in", 501, jobs=1)
    assert len(first.converted) == 2
    revised = patient("a").rt[0]
    revised.StudyInstanceUID, revised.SeriesInstanceUID = generate_uid(), generate_uid()
    revised.SOPInstanceUID = revised.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    folder = tmp_path / "in"
    if split == "test":
        folder = tmp_path / "other"
        study.write(folder / "a")
    revised.save_as(folder / "revised.dcm", enforce_file_format=True)
    done = convert("lucid", folder, 501, jobs=1, split=split, append=True)
    assert done.converted == ()
    assert "was converted into the train split before, and holds other objects now" in said(done)[0]
    assert len(files(raw)) == 2
    assert files(raw, "labelsTs") == []


@pytest.fixture
def table(tmp_path, triple):
    """table(text): the CSV of four triples."""
    for number in range(4):
        triple(tmp_path / f"n{number}", number)

    def write(columns, *values):
        rows = [
            ",".join([f"n{k}/CT.nii.gz", f"n{k}/PET.nii.gz", f"n{k}/IGTV.nii.gz", *own])
            for k, own in enumerate(values)
        ]
        (tmp_path / "list.csv").write_text("\n".join([",".join(["ct", "pet", "label", *columns]), *rows]))
        return tmp_path / "list.csv"

    return write


def test_patients_and_folds_of_a_corrected_table_count(tmp_path, raw, table):
    convert("nifti", table([], (), (), (), ()), 501, jobs=1)
    splits = tmp_path / "preprocessed" / "Dataset501_GTV" / "splits_final.json"
    assert not splits.exists()
    done = convert("nifti", table(["patient"], ("p",), ("p",), ("q",), ("r",)), 501, jobs=1)
    assert (done.converted, done.kept) == ((), 4)
    folds = json.loads(splits.read_text())
    assert all(len({"GTV_0001", "GTV_0002"} & set(fold["val"])) in (0, 2) for fold in folds)


def test_another_label_for_a_case_that_is_there_is_named(tmp_path, raw, table, triple):
    path = table([], (), (), (), ())
    convert("nifti", path, 501, jobs=1)
    triple(tmp_path / "new")
    path.write_text(path.read_text().replace("n1/IGTV", "new/IGTV"))
    done = convert("nifti", path, 501, jobs=1)
    assert "GTV_0002: another PET or label is named for this study" in said(done)[0]
    assert (done.converted, done.kept) == ((), 3)
    (raw / "Dataset501_GTV" / "labelsTr" / "GTV_0002.nii.gz").unlink()  # as the remedy says
    done = convert("nifti", path, 501, jobs=1)
    assert (done.converted, done.kept, done.failures) == (("GTV_0002",), 3, ())


def test_a_label_corrected_by_hand_is_kept_and_named(raw, table):
    path = table([], (), (), (), ())
    convert("nifti", path, 501, jobs=1)
    label = raw / "Dataset501_GTV" / "labelsTr" / "GTV_0003.nii.gz"
    image = sitk.ReadImage(str(label))
    image[0, 0, 0] = 1
    sitk.WriteImage(image, str(label))
    edited = label.read_bytes()
    done = convert("nifti", path, 501, jobs=1)
    assert (done.converted, done.kept) == ((), 4)
    assert done.warnings == (
        "GTV_0003: labelsTr/GTV_0003.nii.gz was changed after its conversion, and is kept",
    )
    assert label.read_bytes() == edited
    assert json.loads((raw / "Dataset501_GTV" / "dataset.json").read_text())["numTraining"] == 4
    label.write_bytes(edited[:-40])  # damaged, not corrected
    assert convert("nifti", path, 501, jobs=1).converted == ("GTV_0003",)


def test_a_patient_in_both_splits_is_named(tmp_path, raw, patient):
    for key, folder in (("a", "train"), ("bb", "test")):
        study = patient(key)
        for dataset in study.all:
            dataset.PatientID = "P1"
        study.write(tmp_path / folder / key)
    convert("lucid", tmp_path / "train", 501, jobs=1)
    done = convert("lucid", tmp_path / "test", 501, jobs=1, split="test")
    assert done.converted == ("LUCID_0002",)
    assert any(w.startswith("LUCID_0002: a patient of the same id has LUCID_0001") for w in done.warnings)


def test_studies_without_an_id_belong_to_the_patient_of_their_name(tmp_path, raw, patient):
    for key, name in (("a", "CASE_01"), ("bb", "CASE_01"), ("ccc", "CASE_02")):
        study = patient(key)
        for dataset in study.all:
            dataset.PatientID, dataset.PatientName = "", name
        study.write(tmp_path / "in" / key)
    convert("lucid", tmp_path / "in", 501, jobs=1)
    folds = json.loads((tmp_path / "preprocessed" / "Dataset501_LUCID" / "splits_final.json").read_text())
    assert sorted(len(fold["val"]) for fold in folds) == [1, 2]


@pytest.mark.parametrize("file", ["CT.nii.gz", "mask.nii.gz"])
def test_dicom_and_nifti_in_one_folder_are_not_mixed(tmp_path, raw, patient, triple, file):
    patient("a").write(tmp_path / "in" / "a")
    triple(tmp_path / "other")
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "other" / "CT.nii.gz").rename(tmp_path / "in" / "b" / file)
    with pytest.raises(IGTVError, match=r"holds NIfTI files \(b/.*\) and DICOM files \(a/CT/000.dcm\)"):
        convert("lucid", tmp_path / "in", 501, jobs=1)


def test_contours_corrected_since_are_warned_of_until_the_case_is_made_anew(tmp_path, raw, patient, dicom):
    made = patient("a")
    made.write(tmp_path / "in")
    convert("lucid", tmp_path / "in", 502, jobs=1)
    assert not convert("lucid", tmp_path / "in", 502, jobs=1).warnings
    made.rt[0].SOPInstanceUID = generate_uid()
    made.contours.append(dicom.contour(dicom.square(15, 13, 27, 23, 21)))
    made.write(tmp_path / "in")
    done = convert("lucid", tmp_path / "in", 502, jobs=1)
    (warning,) = done.warnings
    assert done.kept == 1
    assert warning.startswith("LUCID_0001: the files of its study are not those that it was converted from")
    for file in (raw / "Dataset502_LUCID").glob("*Tr/*.nii.gz"):
        file.unlink()
    assert len(convert("lucid", tmp_path / "in", 502, jobs=1).converted) == 1
    assert not convert("lucid", tmp_path / "in", 502, jobs=1).warnings
    label = sitk.ReadImage(str(raw / "Dataset502_LUCID" / "labelsTr" / "LUCID_0001.nii.gz"))
    assert sitk.GetArrayFromImage(label).sum() == 5 * 6 * 5


def test_a_label_changed_since_is_warned_of(tmp_path, raw, triple):
    folder = triple(tmp_path / "in" / "case")
    convert("lucid", tmp_path / "in", 503, jobs=1)
    label = np.zeros((6, EDGE, EDGE), np.uint8)
    label[1:5, 3:9, 2:11:2] = 1
    sitk.WriteImage(sitk.GetImageFromArray(label), str(folder / "IGTV.nii.gz"))
    (warning,) = convert("lucid", tmp_path / "in", 503, jobs=1).warnings
    assert warning.startswith("LUCID_0001: the files of its study are not")


def test_cases_of_other_options_are_kept_and_named(tmp_path, raw, patient):
    """The first options were forgotten: the record had those of a run that made nothing."""
    for name in ("a", "bb"):
        patient(name).write(tmp_path / "in" / name)

    def again(**options):
        return convert("lucid", tmp_path / "in", 501, jobs=1, **options)

    assert len(again().converted) == 2
    done = again(structure="GTV", append=True)
    assert (done.converted, done.kept, done.failures) == ((), 2, ())
    (warning,) = done.warnings
    assert warning.startswith(
        "LUCID_0001: converted with other options before (structure), and kept (and 1 more)"
    )
    made = json.loads((raw / "Dataset501_LUCID" / "conversion.json").read_text())["cases"]
    assert {case["options"]["structure"] for case in made.values()} == {"IGTV"}
    with pytest.raises(IGTVError, match="with other options"):
        again(structure="GTV")
    assert again().warnings == ()
    (raw / "Dataset501_LUCID" / "labelsTr" / "LUCID_0002.nii.gz").unlink()
    assert again().converted == ("LUCID_0002",)

"""How many patients the cases are of: told by folders, said in the output, warned of where it is unclear."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import convert
from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion.folder_patients import patients_of

SHAPE = (6, 8, 8)


@pytest.fixture
def folders(tmp_path):
    """folders(*names): INPUT with CT, PET and IGTV in each of these folders, each with a CT of its own."""

    def write(*names):
        label = np.zeros(SHAPE, np.uint8)
        label[2:4, 3:5, 3:5] = 1
        for name in names:
            ct = np.random.default_rng([*name.encode()]).uniform(-1000, 1000, SHAPE)
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            for kind, voxels in (("CT", ct), ("PET", label + 1.0), ("IGTV", label)):
                image = sitk.GetImageFromArray(voxels.astype(np.uint8 if kind == "IGTV" else np.float32))
                sitk.WriteImage(image, str(tmp_path / "in" / name / f"{kind}.nii.gz"))
        return tmp_path / "in"

    return write


def groups(raw):
    """The cases of one patient each, by the order of their folders; None where nothing is written."""
    entry = json.loads(next(raw.glob("*/dataset.json")).read_text())["nnunet_igtv"]
    found = {}
    for case, patient in entry.get("patients", {}).items():
        found.setdefault(patient, []).append(int(case[-4:]))
    return sorted(found.values()) or None


VISITS = [f"k{k}/{visit}" for k in range(6) for visit in ("first", "second")]
PAIRS = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]


@pytest.mark.parametrize("above", ["", "train/", "data/imaging/"])
def test_visits_in_a_patients_folder_stay_together_whatever_is_above(above, folders, raw, capsys):
    folder = folders(*(above + name for name in VISITS))
    assert main(["convert", "lucid", str(folder), "-d", "5", "-j", "1"]) == 0
    said = capsys.readouterr()
    assert groups(raw) == PAIRS
    assert "12 cases of 6 patients" in said.out
    assert "warning" not in said.err
    splits = json.loads(next(raw.parent.glob("preprocessed/*/splits_final.json")).read_text())
    assert len(splits) == 5
    for fold in splits:
        numbers = {int(case[-4:]) for case in fold["val"]}
        assert all(len(numbers & set(pair)) in (0, 2) for pair in PAIRS)


@pytest.mark.parametrize("above", ["", "train/"])
def test_a_folder_for_each_case_is_a_patient_for_each(above, folders, raw, capsys):
    folder = folders(*(f"{above}k{k}" for k in range(3)))
    assert main(["convert", "lucid", str(folder), "-d", "5", "-j", "1"]) == 0
    said = capsys.readouterr()
    assert groups(raw) is None  # nnU-Net's own folds do
    assert "3 cases of 3 patients" in said.out
    assert "warning" not in said.err


@pytest.mark.parametrize(
    "names",
    [
        [f"{site}/k{k}" for site in ("north", "south") for k in range(3)],
        [f"{site}/k{k}/{visit}" for site in ("north", "south") for k in range(3) for visit in "ab"],
        [f"site{s}/k{k}" for s in range(5) for k in range(6)],
    ],
    ids=["two sites", "two sites with visits", "five sites"],
)
def test_folders_that_may_be_sites_are_pointed_out(names, folders, raw):
    """No patient is divided, whichever folder is the patient; and the user is told how to say it."""
    done = convert("lucid", folders(*names), 5, jobs=1)
    (warning,) = done.warnings
    wide = len({name.split("/")[0] for name in names})
    assert f"{len(names)} cases are taken for those of {wide} patients" in warning
    assert warning.startswith("LUCID_0001: ")
    assert not any(word in warning for word in ("north", "south", "site0"))
    assert "CSV" in warning
    assert len(groups(raw)) == wide


def test_patients_of_a_later_run_are_told_from_all_folders(folders, raw):
    """The first run knows one patient's folder only; the record follows."""
    convert("lucid", folders("k0/first", "k0/second"), 5, jobs=1)
    assert groups(raw) is None
    done = convert("lucid", folders("k1/first", "k1/second"), 5, jobs=1)
    assert (done.kept, len(done.converted)) == (2, 2)
    assert groups(raw) == [[1, 2], [3, 4]]
    assert (done.cases, done.patients) == (4, 2)


@pytest.mark.parametrize(
    ("folders_given", "expected"),
    [
        (["k0"], ["k0"]),
        ([""], ["."]),
        (["k0", "k1"], ["k0", "k1"]),
        (["train/k0", "train/k1/a", "train/k1/b"], ["k0", "k1", "k1"]),
        (["a/k0", "b/k0"], ["a", "b"]),
        (["k0", "k0/later", "k1"], ["k0", "k0", "k1"]),
    ],
)
def test_the_first_folder_in_which_cases_part_is_the_patient(folders_given, expected):
    assert list(patients_of(folders_given)) == expected


def test_the_number_of_patients_is_said_for_every_source(tmp_path, raw, folders, patient, capsys):
    root = folders("x", "y", "z")
    rows = [
        f"in/{n}/CT.nii.gz,in/{n}/PET.nii.gz,in/{n}/IGTV.nii.gz,{who}"
        for n, who in zip("xyz", "aab", strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["ct,pet,label,patient", *rows]))
    assert main(["convert", "nifti", str(tmp_path / "list.csv"), "-d", "6", "-j", "1"]) == 0
    assert "3 cases of 2 patients" in capsys.readouterr().out
    patient("a").write(tmp_path / "dicom" / "a")
    assert main(["convert", "dicom-rt", str(tmp_path / "dicom"), "-d", "7", "--structure", "IGTV"]) == 0
    assert "1 case of 1 patient\n" in capsys.readouterr().out
    assert main(["convert", "lucid", str(root), "-d", "8", "--dry-run", "-j", "1"]) == 0
    assert "3 cases of 3 patients" in capsys.readouterr().out


def test_one_id_for_all_is_pointed_out(tmp_path, raw, patient):
    for key in ("a", "bb"):
        study = patient(key)
        for dataset in study.all:
            dataset.PatientID = dataset.PatientName = "ANON"
        study.write(tmp_path / "in" / key)
    (warning,) = convert("lucid", tmp_path / "in", 5, jobs=1).warnings
    assert "all 2 cases have one patient id" in warning
    assert "ANON" not in warning


def test_a_split_that_a_later_table_makes_divide_a_patient_is_named(tmp_path, folders, raw):
    """The cases of the first table were not looked at, though their split was dropped."""
    folders("k1", "k2", "k3")
    for number, rows in enumerate(((("k1", "P1", "train"), ("k2", "P2", "val")), (("k3", "P1", "val"),))):
        table = tmp_path / f"list{number}.csv"
        told = [
            f"in/{k}/CT.nii.gz,in/{k}/PET.nii.gz,in/{k}/IGTV.nii.gz,{who},{fold}" for k, who, fold in rows
        ]
        table.write_text("\n".join(["ct,pet,label,patient,fold", *told]))
        warnings = convert("nifti", table, 5, jobs=1, append=bool(number)).warnings
        assert [w[:60] for w in warnings] == [
            "GTV_0001: the given split has its patient in training and va"
        ] * number


def test_one_scan_under_two_ids_is_named_also_across_the_splits(tmp_path, folders, raw):
    """It was two patients, whom folds divide, and who may be trained on and scored."""
    root = folders("k1", "k2", "k3")
    again = shutil.copytree(root / "k2", tmp_path / "test" / "other")
    image = sitk.ReadImage(str(again / "CT.nii.gz"))  # what a copy may lose
    image.SetOrigin((5, 5, 5))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat64), str(again / "CT.nii.gz"))
    for kind in ("PET", "IGTV"):
        image = sitk.ReadImage(str(again / f"{kind}.nii.gz"))
        image.SetOrigin((5, 5, 5))
        sitk.WriteImage(image, str(again / f"{kind}.nii.gz"))
    assert convert("lucid", root, 5, jobs=1).warnings == ()
    for dry_run in (True, False):
        (warning,) = convert(
            "lucid", tmp_path / "test", 5, jobs=1, split="test", append=True, dry_run=dry_run
        ).warnings
        assert warning.startswith("LUCID_0002: its CT is that of LUCID_0004, voxel by voxel")
    shutil.copytree(root / "k1", tmp_path / "more" / "k9")
    (warning,) = convert("lucid", tmp_path / "more", 5, jobs=1, append=True).warnings
    assert warning.startswith("LUCID_0001: its CT is that of LUCID_0005")


def test_two_structures_on_one_scan_of_one_patient_are_no_copies(tmp_path, folders, raw):
    root = folders("p1/first", "p2/first")
    shutil.copytree(root / "p1" / "first", root / "p1" / "second")
    assert not [w for w in convert("lucid", root, 5, jobs=1).warnings if "voxel by voxel" in w]


@pytest.mark.parametrize("folds", [("train", "val"), ("", "val")])
def test_a_split_that_divides_a_patient_is_not_taken_and_named(folds, tmp_path, folders, raw, capsys):
    """Its folds were written, and refused at the training, with a remedy that led to the same folds."""
    folders("k1", "k2", "k3", "k4")
    rows = [f"in/k{k}/CT.nii.gz,in/k{k}/PET.nii.gz,in/k{k}/IGTV.nii.gz" for k in (1, 2, 3, 4)]
    told = zip(rows, ("P1", "P1", "P2", "P3"), (*folds, "train", "val"), strict=True)
    (tmp_path / "list.csv").write_text(
        "\n".join(["ct,pet,label,patient,fold", *(",".join(row) for row in told)])
    )
    assert main(["convert", "nifti", str(tmp_path / "list.csv"), "-d", "5", "-j", "1"]) == 0
    assert "GTV_0001: the given split has its patient in training and validation (with GTV_0002)" in (
        capsys.readouterr().err
    )
    splits = json.loads(next(raw.parent.glob("preprocessed/*/splits_final.json")).read_text())
    assert len(splits) == 3
    assert all(("GTV_0001" in fold["val"]) == ("GTV_0002" in fold["val"]) for fold in splits)

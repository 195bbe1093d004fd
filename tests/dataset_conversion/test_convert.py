"""The raw dataset: accepted by nnU-Net, resumed, appended to, split by patient, without identity."""

import json
import os
import stat
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion import case, raw_dataset, workers


@pytest.fixture
def cohort(tmp_path, patient):
    """cohort(name, *keys): a folder of studies."""

    def write(name, *keys):
        for key in keys:
            patient(key).write(tmp_path / name / f"folder_{key}")
        return tmp_path / name

    return write


def convert(*arguments):
    jobs = [] if "-j" in arguments else ["-j", "1"]
    return main(["convert", *map(str, arguments), *jobs])


def cases(folder, sub="labelsTr"):
    return sorted(p.name for p in (folder / sub).iterdir())


def test_nnunet_accepts_the_dataset(cohort, raw):
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    assert convert("lucid", cohort("in", "a", "bb", "ccc"), "-d", 902, "-n", "Phantom", "-j", 2) == 0
    folder = raw / "Dataset902_Phantom"
    verify_dataset_integrity(str(folder), num_processes=1)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT", "1": "CT"}
    assert dataset["labels"] == {"background": 0, "IGTV": 1}
    assert dataset["numTraining"] == 3
    assert "SUVbw" in dataset["description"]
    record = json.loads((folder / "conversion.json").read_text())
    assert {c["suv_rule"] for c in record["cases"].values()} == {"units BQML, series time"}
    assert all(c["structure"] == ["IGTV"] and c["volume_ml"] == 1.44 for c in record["cases"].values())


def test_manifest_is_beside_the_dataset_and_private(cohort, raw, tmp_path):
    convert("lucid", cohort("in", "a", "bb"), "-d", 902)
    manifest = raw / "Dataset902_LUCID_manifest.csv"
    assert stat.S_IMODE(manifest.stat().st_mode) == 0o600
    text = manifest.read_text()
    assert "MRNa77" in text
    assert str(tmp_path / "in" / "folder_bb") in text
    inside = b"".join(p.read_bytes() for p in (raw / "Dataset902_LUCID").rglob("*.json"))
    assert not any(secret in inside for secret in (b"MRN", b"Muster", b"folder", b"2020", b"1.2.826"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: b"", lambda data: data + b"x,y\r\n"]
)
def test_a_changed_manifest_is_named_and_can_be_made_anew(damage, cohort, raw, capsys):
    folder = cohort("in", "a")
    convert("lucid", folder, "-d", 902)
    manifest = raw / "Dataset902_LUCID_manifest.csv"
    whole = manifest.read_bytes()
    manifest.write_bytes(damage(whole))
    assert convert("lucid", folder, "-d", 902) == 1
    assert "damaged or was edited" in capsys.readouterr().err
    manifest.unlink()
    assert convert("lucid", folder, "-d", 902) == 0
    assert manifest.read_bytes() == whole


def test_a_damaged_record_is_named(cohort, raw, capsys):
    folder = cohort("in", "a")
    convert("lucid", folder, "-d", 902)
    (raw / "Dataset902_LUCID_record.sqlite").write_bytes(b"no database" * 100)
    assert convert("lucid", folder, "-d", 902) == 1
    assert "the record of the dataset cannot be read" in capsys.readouterr().err


def test_structure_names_are_freed_of_the_patient(raw, patient, tmp_path):
    study = patient("a")
    study.rois[0].ROIName = "GTV Muster"
    study.ct[0].PatientName = "Muster^Erika"
    study.write(tmp_path / "in")
    assert convert("dicom-rt", tmp_path / "in", "-d", 901, "--structure", "GTV.*") == 0
    record = json.loads((raw / "Dataset901_GTV" / "conversion.json").read_text())
    assert record["cases"]["GTV_0001"]["structure"] == ["GTV <patient>"]


def test_dates_of_examinations_reach_no_record(raw, patient, tmp_path, capsys):
    """Neither from names of structures, nor from what the user typed to choose one, nor from a refusal."""
    converted, refused = patient("a"), patient("b")
    converted.rois[0].ROIName = "GTV 2.1.20"
    refused.rois[0].ROIName = "other of 02Jan2020"
    converted.write(tmp_path / "in" / "a"), refused.write(tmp_path / "in" / "b")
    command = ["dicom-rt", str(tmp_path / "in"), "-d", "5", "-j", "1", "--structure", "GTV 2.1.20"]
    assert main(["convert", *command]) == 1
    assert "02Jan2020" in capsys.readouterr().err  # a person finds it in the file
    record = json.loads((raw / "Dataset005_GTV" / "conversion.json").read_text())
    (case,) = record["cases"].values()
    assert case["structure"] == ["GTV <date>"]
    assert record["options"]["dicom-rt"]["structure"] == "GTV <date>"
    manifest = (raw / "Dataset005_GTV_manifest.csv").read_text()
    assert manifest.count("<date>") >= 2
    assert "2.1.20" not in manifest.replace("2.1.2020", "")
    assert "02Jan2020" not in manifest
    assert main(["convert", *command]) == 1  # the same options
    assert "1 already there" in capsys.readouterr().out


def test_dicom_rt_takes_a_pattern(cohort, raw, patient, tmp_path, capsys):
    study = patient("a")
    study.rois[0].ROIName = "GTV-1"
    study.write(tmp_path / "in" / "x")
    assert convert("dicom-rt", tmp_path / "in", "-d", 901, "-n", "PhantomGTV", "--structure", "GTV.*") == 0
    dataset = json.loads((raw / "Dataset901_PhantomGTV" / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "GTV": 1}
    with pytest.raises(SystemExit):  # argparse: the structure must be named
        convert("dicom-rt", tmp_path / "in", "-d", 903)


def test_grid_of_the_pet(cohort, raw):
    assert convert("lucid", cohort("in", "a"), "-d", 902, "--grid", "pet") == 0
    folder = raw / "Dataset902_LUCID"
    images = [sitk.ReadImage(str(p)) for p in (folder / "imagesTr").iterdir()]
    label = sitk.ReadImage(str(folder / "labelsTr" / "LUCID_0001.nii.gz"))
    assert {i.GetSpacing() for i in [*images, label]} == {(4, 4, 4)}
    volume = sitk.GetArrayFromImage(label).sum() * 0.064
    assert volume == pytest.approx(1.44, rel=0.3)


def test_a_rerun_skips_what_is_done_and_takes_what_is_new(cohort, raw, capsys):
    folder = cohort("in", "a", "bb")
    convert("lucid", folder, "-d", 902)
    labels = raw / "Dataset902_LUCID" / "labelsTr"
    before = {p.name: p.stat().st_mtime_ns for p in labels.iterdir()}
    assert convert("lucid", folder, "-d", 902) == 0
    assert "0 converted, 2 already there" in capsys.readouterr().out
    cohort("in", "ccc")
    assert convert("lucid", folder, "-d", 902) == 0
    after = {p.name: p.stat().st_mtime_ns for p in labels.iterdir()}
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    (labels / "LUCID_0001.nii.gz").unlink()
    assert convert("lucid", folder, "-d", 902) == 0
    assert len(list(labels.iterdir())) == 3


def test_an_interrupted_run_goes_on(cohort, raw, monkeypatch, capsys):
    folder = cohort("in", "a", "bb", "ccc")
    convert_one, calls = workers.make_case, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return convert_one(*arguments)

    monkeypatch.setattr(workers, "make_case", interrupted)
    assert convert("lucid", folder, "-d", 902, "-j", 1) == 130
    dataset = raw / "Dataset902_LUCID"
    assert cases(dataset) == ["LUCID_0001.nii.gz"]
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 1
    assert not (dataset / raw_dataset.SCRATCH).exists()
    capsys.readouterr()
    assert convert("lucid", folder, "-d", 902, "-j", 1) == 0
    assert "2 converted, 1 already there, 0 failed" in capsys.readouterr().out
    assert len(cases(dataset)) == 3


def test_a_worker_that_dies_ends_in_an_error(raw, tmp_path):
    spec = raw_dataset.DatasetSpec(7, "X", "GTV")
    dataset = raw_dataset.RawDataset(spec, "source", {}, tmp_path)
    dying = [raw_dataset.Item(name, name, tmp_path, partial(os._exit, 3)) for name in ("a", "b")]
    with dataset:
        outcomes = dataset.convert(dying, jobs=2)
    assert ["a worker process died" in str(outcome.error) for outcome in outcomes] == [True, True]
    assert not dataset.folder.exists()


def test_a_failed_study_is_tried_again_under_its_number(cohort, raw, patient, tmp_path, capsys):
    folder = cohort("in", "a", "bb")
    bad = patient("ccc")
    pet = list(bad.pet)
    bad.pet.clear()
    bad.write(folder / "late")
    assert convert("lucid", folder, "-d", 902) == 1
    bad.pet = pet
    bad.write(folder / "late")
    assert convert("lucid", folder, "-d", 902) == 0
    assert cases(raw / "Dataset902_LUCID") == [f"LUCID_000{k}.nii.gz" for k in (1, 2, 3)]


def test_existing_ids_are_refused(cohort, raw, capsys):
    one, two = cohort("one", "a"), cohort("two", "bb")
    (raw / "Dataset500_Other").mkdir(parents=True)
    assert convert("lucid", one, "-d", 500) == 1
    assert "dataset id 500 exists" in capsys.readouterr().err
    (raw / "Dataset501_LUCID").mkdir()
    assert convert("lucid", one, "-d", 501) == 1
    assert "was not made by this converter" in capsys.readouterr().err
    assert list((raw / "Dataset501_LUCID").iterdir()) == []
    convert("lucid", one, "-d", 902)
    assert convert("lucid", two, "-d", 902) == 1
    assert "--append" in capsys.readouterr().err
    assert convert("lucid", one, "-d", 902, "--grid", "pet") == 1
    assert convert("lucid", two, "-d", 902, "--label", "GTV", "--append") == 1
    assert "holds" in capsys.readouterr().err
    assert cases(raw / "Dataset902_LUCID") == ["LUCID_0001.nii.gz"]
    assert convert("lucid", two, "-d", 902, "--append") == 0
    assert cases(raw / "Dataset902_LUCID") == ["LUCID_0001.nii.gz", "LUCID_0002.nii.gz"]


def test_test_cases_are_apart_and_never_training_cases(cohort, raw, capsys):
    convert("lucid", cohort("train", "a", "bb"), "-d", 902)
    assert convert("lucid", cohort("test", "ccc"), "-d", 902, "--split", "test") == 0
    folder = raw / "Dataset902_LUCID"
    assert cases(folder, "labelsTs") == ["LUCID_0003.nii.gz"]
    assert cases(folder, "imagesTs") == ["LUCID_0003_0000.nii.gz", "LUCID_0003_0001.nii.gz"]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
    assert convert("lucid", cohort("mixed", "a", "dddd"), "-d", 902, "--split", "test", "--append") == 1
    assert "in the train split already" in capsys.readouterr().err
    assert cases(folder, "labelsTs") == ["LUCID_0003.nii.gz"]


def test_where_nothing_was_converted_the_manifest_gives_the_reasons(cohort, raw, capsys):
    folder = cohort("in", "a", "bb")
    assert convert("lucid", folder, "-d", 902, "--structure", "PTV") == 1
    printed = capsys.readouterr()
    assert "no structure matches 'PTV'; there are: 'IGTV'" in printed.err
    manifest = raw / "Dataset902_LUCID_manifest.csv"
    assert str(manifest) in printed.out
    assert manifest.read_text().count("no structure matches") == 2
    assert "folder_bb" in manifest.read_text()
    assert not (raw / "Dataset902_LUCID").exists()
    assert convert("lucid", folder, "-d", 902) == 0  # other options, for nothing was made with the first ones


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "0"], "not a dataset id"),
        (["-d", "1000"], "not a dataset id"),
        (["-d", "5", "-n", "../../x"], "not a dataset name"),
        (["-d", "5", "--structure", "GTV["], "not a regular expression"),
    ],
)
def test_bad_arguments(arguments, message, cohort, raw, capsys):
    assert convert("lucid", cohort("in", "a"), *arguments) == 1
    assert message in capsys.readouterr().err


def test_no_input_and_no_environment(tmp_path, raw, capsys, monkeypatch):
    assert convert("lucid", tmp_path / "absent", "-d", 5) == 1
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert convert("lucid", tmp_path / "empty", "-d", 5) == 1
    assert "no DICOM files" in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_raw")
    assert convert("lucid", tmp_path / "empty", "-d", 5) == 1
    assert "nnUNet_raw is not set" in capsys.readouterr().err


def test_cases_of_one_patient_stay_in_one_fold(tmp_path, raw, patient):
    for key, owner in (("a", "P1"), ("bb", "P1"), ("ccc", "P2"), ("dddd", "P3")):
        study = patient(key)
        for dataset in study.all:
            dataset.PatientID = owner
        study.write(tmp_path / "in" / key)
    assert convert("lucid", tmp_path / "in", "-d", 902) == 0
    rows = (raw / "Dataset902_LUCID_manifest.csv").read_text().splitlines()
    pair = {row.split(",")[0] for row in rows if ",P1," in row}
    splits = json.loads((tmp_path / "preprocessed" / "Dataset902_LUCID" / "splits_final.json").read_text())
    assert len(splits) == 3
    assert len(pair) == 2
    for fold in splits:
        assert len(fold["train"]) + len(fold["val"]) == 4
        assert len(pair & set(fold["val"])) in (0, 2)
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(
        {r.split(",")[0] for r in rows[1:]}
    )
    entry = json.loads((raw / "Dataset902_LUCID" / "dataset.json").read_text())["nnunet_igtv"]
    assert {entry["patients"][case] for case in pair} == {entry["patients"][min(pair)]}
    assert sorted(set(entry["patients"].values())) == [1, 2, 3]  # numbers, no ids


def test_folds_that_nnunet_made_by_case_are_pointed_out_and_kept(tmp_path, raw, patient, capsys):
    for key in ("a", "bb", "ccc"):
        study = patient(key)
        for dataset in study.all:
            dataset.PatientID = "P2" if key == "ccc" else "P1"
        study.write(tmp_path / "in" / key)
    cases = [f"LUCID_000{number}" for number in (1, 2, 3)]
    file = tmp_path / "preprocessed" / "Dataset902_LUCID" / "splits_final.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([{"train": cases[:k] + cases[k + 1 :], "val": [cases[k]]} for k in range(3)]))
    before = file.read_bytes()
    assert convert("lucid", tmp_path / "in", "-d", 902) == 0
    assert "splits_final.json has patients in training and validation" in capsys.readouterr().err
    assert file.read_bytes() == before
    file.unlink()
    assert convert("lucid", tmp_path / "in", "-d", 902, "--append") == 0
    assert "has patients" not in capsys.readouterr().err
    assert len(json.loads(file.read_text())) == 2


def test_ct_is_stored_compactly_where_nothing_is_lost():
    whole = sitk.GetImageFromArray(np.array([[[-1024.0, 3071.0]]], np.float32))
    half = sitk.GetImageFromArray(np.array([[[-1024.5, 3071.0]]], np.float32))
    assert case.compact(whole).GetPixelID() == sitk.sitkInt16
    assert case.compact(half).GetPixelID() == sitk.sitkFloat32


def test_a_cohort_in_one_flat_folder(tmp_path, raw, patient):
    """Headers decide: two patients whose files lie in one folder under arbitrary names."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for key in ("a", "bb"):
        patient(key).write(tmp_path / "in" / key)
        for k, file in enumerate((tmp_path / "in" / key).rglob("*.dcm")):
            os.rename(file, flat / f"{k}{key}")
    assert convert("lucid", flat, "-d", 902) == 0
    assert len(cases(raw / "Dataset902_LUCID")) == 2


def everything_below(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_a_dry_run_says_what_a_conversion_would_do_and_writes_nothing(cohort, patient, raw, capsys):
    folder = cohort("in", "a", "bb")
    dry = ("lucid", folder, "-d", 902, "-j", 2, "--dry-run")
    before = everything_below(folder.parent)
    assert convert(*dry) == 0
    printed = capsys.readouterr()
    for line in (
        "CT: series 1 of 2020-01-02 11:00, 24 x 20 x 10 voxels of 2.00 x 2.00 x 3.00 mm; the only CT that",
        "PET: series 2 of 2020-01-02 11:00, 14 x 12 x 9 voxels of 4.00 x 4.00 x 4.00 mm; the only PET that",
        "structure: 'IGTV' of 'plan'",
        "2 would be converted, 0 already there, 0 failed",
        "a conversion's manifest says which study is which case",
    ):
        assert line in printed.out
    assert {"LUCID_0001", "LUCID_0002"} <= set(printed.out.split())
    assert "MRN" not in printed.out + printed.err
    bad = patient("ccc")
    for image in bad.pet[:3]:  # what only pixels tell
        image.PixelData = image.PixelData[:50]
    bad.write(folder / "late")
    before |= everything_below(folder / "late")
    assert convert(*dry) == 1
    printed = capsys.readouterr()
    assert "2 would be converted, 0 already there, 1 failed" in printed.out
    assert printed.err.count("LUCID_000") == 1
    assert {p: b for p, b in everything_below(folder.parent).items() if p != folder / "late"} == before
    assert not raw.exists()


def test_a_dry_run_knows_what_is_there(cohort, raw, capsys):
    folder = cohort("in", "a")
    assert convert("lucid", folder, "-d", 902) == 0
    before = everything_below(raw)
    cohort("in", "bb")
    assert convert("lucid", folder, "-d", 902, "--dry-run") == 0
    assert "1 would be converted, 1 already there" in capsys.readouterr().out
    assert convert("lucid", folder, "-d", 902, "--dry-run", "--grid", "pet") == 1
    assert "with other options" in capsys.readouterr().err
    assert everything_below(raw) == before


def test_a_failure_names_the_folder_of_its_study(cohort, raw, patient, capsys):
    folder = cohort("in", "a")
    bad = patient("bb")
    bad.pet.clear()
    bad.write(folder / "deep" / "down")
    assert convert("lucid", folder, "-d", 902) == 1
    assert "no PET series in the study [deep/down]" in capsys.readouterr().err


def test_one_weight_for_several_patients_is_refused(cohort, raw, capsys):
    assert convert("lucid", cohort("in", "a", "bb"), "-d", 902, "--weight", 70) == 1
    assert "one body weight was given for 2 patients" in capsys.readouterr().err
    assert not (raw / "Dataset902_LUCID").exists()


def test_the_choice_of_a_series_is_recorded_without_dates(cohort, raw, patient, tmp_path):
    study = patient("a")
    late = deepcopy(study.pet)
    for k, image in enumerate(late):
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3", f"1.2.3.{k}"
        image.SeriesTime = image.AcquisitionTime = "130000"
    study.pet += late
    study.write(tmp_path / "in")
    assert convert("lucid", tmp_path / "in", "-d", 902) == 1
    for number, selector in ((903, "date:2020-01-02 13"), (904, "date:last")):
        assert convert("lucid", tmp_path / "in", "-d", number, "--pet", selector) == 0
    record = json.loads((raw / "Dataset903_LUCID" / "conversion.json").read_text())
    assert record["options"]["lucid"]["pet"] == "date:…"
    assert record["cases"]["LUCID_0001"]["chosen"] == {
        "ct": "the only CT that could serve",
        "pet": "asked for (of 2 PET series)",
    }
    assert "1.2.3" in (raw / "Dataset903_LUCID_manifest.csv").read_text()
    record = json.loads((raw / "Dataset904_LUCID" / "conversion.json").read_text())
    assert record["options"]["lucid"]["pet"] == "date:last"


def test_case_names_stay_readable_whatever_the_patient_is_called(raw, patient, tmp_path, capsys):
    study = patient("a")
    study.pet.clear()
    for dataset in study.all:
        dataset.PatientName = "Lucid^Remedy"
    study.write(tmp_path / "in" / "Lucid")
    assert convert("lucid", tmp_path / "in", "-d", 902) == 1
    assert (
        "LUCID_0001: no PET series in the study [<patient>]. Remedy: add the PET series"
        in capsys.readouterr().err
    )


def test_an_unreadable_file_of_nobody(cohort, raw, tmp_path, capsys):
    """It is named, without the patient whose folder it lies beside, and the others are converted."""
    folder = cohort("in", "a")
    (folder / "Mustera").mkdir()
    (folder / "Mustera" / "x.dcm").write_bytes(b"")
    assert convert("lucid", folder, "-d", 902) == 1
    printed = capsys.readouterr()
    assert "unreadable DICOM file (ValueError) [<patient>/x.dcm]" in printed.err
    assert "1 converted, 0 already there, 1 failed" in printed.out


# ------------------------------------------------------------------------------------------------ real files


def test_real_study(real, raw, read, capsys):
    """CT and PET of different grids: the mask that was shipped, and the PET linearly interpolated."""
    study = real / "STS_002"
    assert convert("dicom-rt", study, "-d", 903, "--structure", "GTV.*") == 1
    assert "2 structures in 2 structure set(s) match" in capsys.readouterr().err
    assert convert("dicom-rt", study, "-d", 903, "--structure", "GTV_Mass_CT") == 0
    folder = raw / "Dataset903_GTV"
    mask = read(folder / "labelsTr" / "GTV_0001.nii.gz")
    assert np.array_equal(mask, read(study / "CT" / "nifti" / "mask" / "mask.nii.gz") > 0)
    suv = read(folder / "imagesTr" / "GTV_0001_0001.nii.gz")[mask > 0]
    assert (suv.max(), suv.mean()) == pytest.approx((21.536, 7.222), abs=1e-3)
    assert "STS_002" not in (folder / "conversion.json").read_text()


def test_real_stacks_are_refused(real, raw, capsys):
    assert convert("dicom-rt", real / "refuse", "-d", 903, "--structure", "GTV") == 1
    assert not (raw / "Dataset903_GTV").exists()

"""The main job as a user does it: DICOM studies in, a contoured new patient out, by the real commands.

One tiny demo (phantoms, one step of training each) is run once; the tests look at what it left behind. How
good the contours are is not asked here: that needs the demo's full budget.
"""

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.e2e


def igtv(*arguments, **options):
    command = [sys.executable, "-m", "nnunet_igtv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


@pytest.fixture(scope="session")
def users_folders(tmp_path_factory):
    """A user's own nnU-Net folders, set in the environment while the demo runs."""
    home = tmp_path_factory.mktemp("user")
    folders = {name: home / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture(scope="session")
def demo(tmp_path_factory, users_folders):
    output = tmp_path_factory.mktemp("demo")
    size = ["--gtv-patients", 2, "--igtv-patients", 2, "--test-patients", 1, "--matrix", 32, "--slices", 8]
    arguments = ["demo", "--output", output, *size, "--schedule", "OneStep"]
    environment = os.environ | {name: str(folder) for name, folder in users_folders.items()}
    environment["nnUNet_extTrainer"] = str(Path(__file__).parent / "trainers")
    run = igtv(*arguments, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return output, arguments, environment, run.stdout


def test_it_ends_with_a_table_and_a_self_contained_report(demo):
    output, _, _, printed = demo
    assert "transferred" in printed
    assert "from scratch" in printed
    assert "Dice" in printed
    page = (output / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_a_users_own_folders_are_left_alone(demo, users_folders):
    assert all(not any(folder.iterdir()) for folder in users_folders.values())


def test_a_second_call_repeats_no_step(demo):
    output, arguments, environment, _ = demo
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    again = igtv(*arguments, env=environment)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")} == before


def test_another_size_in_the_same_folder_is_refused(demo):
    output, _, environment, _ = demo
    other = igtv("demo", "--output", output, "--matrix", 40, env=environment)
    assert other.returncode == 1
    assert "another size" in other.stderr


def test_predictions_have_the_geometry_of_their_input(demo):
    output, *_ = demo
    images = sorted((output / "nnUNet_raw" / "Dataset902_PhantomIGTV" / "imagesTs").glob("*_0000.nii.gz"))
    assert images
    for trainer in (output / "predictions").iterdir():
        for path in images:
            image = sitk.ReadImage(str(path))
            prediction = sitk.ReadImage(str(trainer / path.name.replace("_0000", "")))
            assert prediction.GetSize() == image.GetSize()
            for got, expected in (
                (prediction.GetSpacing(), image.GetSpacing()),
                (prediction.GetOrigin(), image.GetOrigin()),
                (prediction.GetDirection(), image.GetDirection()),
            ):
                np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_new_patients_structure_set_belongs_to_its_ct(demo):
    output, *_ = demo
    [path] = (output / "rtstruct").glob("*.dcm")
    rtstruct = pydicom.dcmread(path)
    ct = pydicom.dcmread(next(p for p in (output / "dicom" / "new").rglob("*.dcm") if "CT" in p.parts))
    assert rtstruct.Modality == "RTSTRUCT"
    assert rtstruct.StudyInstanceUID == ct.StudyInstanceUID
    assert rtstruct.PatientID == ct.PatientID
    assert rtstruct.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == ct.FrameOfReferenceUID


def test_what_was_transferred_is_kept_beside_the_checkpoint(demo):
    output, *_ = demo
    [report] = (output / "nnUNet_results").rglob("transfer_report.json")
    assert "IGTVTransferTrainerNano" in str(report)
    assert json.loads(report.read_text())


def test_no_patient_is_named_outside_the_dicom_and_the_manifest(demo):
    output, *_ = demo
    names = {
        str(header.get(tag, ""))
        for path in (output / "dicom").rglob("*.dcm")
        for header in [pydicom.dcmread(path, stop_before_pixels=True)]
        for tag in ("PatientName", "PatientID")
    }
    assert names
    manifests = set((output / "nnUNet_raw").glob("*_manifest.csv"))
    for manifest in manifests:
        assert stat.S_IMODE(manifest.stat().st_mode) == 0o600
        assert all(row["case"] for row in csv.DictReader(manifest.open(newline="")))
    for path in output.rglob("*"):
        if not path.is_file() or "dicom" in path.parts or "rtstruct" in path.parts or path in manifests:
            continue
        assert not any(name in path.name for name in names), path
        if path.suffix in (".json", ".csv", ".txt", ".html", ".log") and path.parent.name != "logs":
            text = path.read_text(errors="replace")
            assert not any(name in text for name in names), path


def test_the_wheel_alone_lets_nnunet_find_the_trainers(tmp_path):
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, root]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    program = (
        "import os, subprocess, sys, nnunet_igtv\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "from nnunet_igtv.trainers import IGTVTransferTrainer\n"
        "assert find('IGTVTransferTrainer') is IGTVTransferTrainer\n"
        "print(nnunet_igtv.__file__)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "nnunet_igtv", "env"]
    export = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    shell = f'{export.stdout}\nexec {sys.executable} -c "$PROGRAM"'
    found = subprocess.run(
        ["sh", "-c", shell],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"PROGRAM": program},
        cwd=tmp_path,
    )
    assert str(site) in found.stdout

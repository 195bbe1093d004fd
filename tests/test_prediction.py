"""One DICOM study in, contours out: the pieces with nnU-Net's part replaced, and once with nnU-Net itself."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from kills import before_each_change, completes_after_every_kill, contents, files
from pydicom import dcmread

from nnunet_igtv import prediction, read_ct, read_pet, read_structure
from nnunet_igtv.commands.main import main
from nnunet_igtv.commands.predict_dicom import OUTPUTS
from nnunet_igtv.dataset_conversion.resampling import onto
from nnunet_igtv.environment import FOLDER
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.cohort import write_cohort
from nnunet_igtv.plans import NETWORK
from nnunet_igtv.workspace import clear, finish, workspace

TRAINER = "IGTVTransferTrainerNano"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return next(iter(write_cohort("igtv", 1, 6, 32, 12, tmp_path_factory.mktemp("studies"))))


def save_checkpoint(folder, **more):
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.parent.mkdir(exist_ok=True)
    torch.save({"network_weights": {}, "trainer_name": TRAINER, **more}, path)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder whose model says what it is, and no more."""
    folder = tmp_path / "results" / "Dataset902_Toy" / f"{TRAINER}__nnUNetPlans__2d"
    folder.mkdir(parents=True)
    description = {"channel_names": {"0": "CT", "1": "CT"}, "labels": {"background": 0, "IGTV": 1}}
    (folder / "dataset.json").write_text(json.dumps(description | {"file_ending": ".nii.gz"}))
    (folder / "plans.json").write_text(json.dumps({"configurations": {"2d": {}}}))
    save_checkpoint(folder)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return folder


@pytest.fixture
def threshold_for_nnunet(monkeypatch):
    """Puts a threshold on the PET in nnU-Net's place; holds the command and environment of the call."""
    calls = []

    def run(command, env):
        calls.append((command, env))
        option = dict(zip(command[3::2], command[4::2], strict=False))
        images, output = Path(option["-i"]), Path(option["-o"])
        (ct_file, pet_file) = sorted(images.iterdir())
        pet = sitk.ReadImage(str(pet_file))
        output.mkdir()
        sitk.WriteImage(pet > 2.5, str(output / ct_file.name.replace("_0000", "")))
        calls.append((sitk.ReadImage(str(ct_file)), pet))
        return 0, ""

    monkeypatch.setattr(prediction, "follow", run)
    return calls


def run(study, output, *more):
    return main(
        ["predict-dicom", str(study), "-d", "902", "-tr", TRAINER, "-device", "cpu", "-o", str(output), *more]
    )


def test_study_in_contours_out(study, results, threshold_for_nnunet, tmp_path, capfd):
    output = tmp_path / "out"
    assert run(study, output, "--seg", "--disable_tta") == 0
    (command, environment), (ct_in, pet_in) = threshold_for_nnunet
    ct, pet = read_ct(study), read_pet(study)
    assert (sitk.GetArrayFromImage(ct_in) == sitk.GetArrayFromImage(ct)).all()  # HU
    expected = sitk.GetArrayFromImage(onto(pet, ct))  # SUV, on the CT's grid
    assert np.abs(sitk.GetArrayFromImage(pet_in) - expected).max() < 1e-5
    assert " ".join(command).endswith("-npp 0 -nps 0 --disable_tta")
    assert {"-d", "Dataset902_Toy", TRAINER, "cpu", "checkpoint_final.pth"} <= set(command)
    assert str(FOLDER) in environment["nnUNet_extTrainer"]

    mask = sitk.GetArrayFromImage(read_structure(output / "RTSTRUCT.dcm", "IGTV", ct))
    assert ((expected > 2.5) == mask).all()
    assert mask.any()
    assert dcmread(output / "SEG.dcm").SOPClassUID.name == "Segmentation Storage"
    printed = "".join(capfd.readouterr())
    header = dcmread(next((study / "CT").iterdir()), stop_before_pixels=True)
    assert str(header.PatientName) not in printed
    assert str(output / "RTSTRUCT.dcm") in printed


@pytest.mark.parametrize("options", [[], ["--largest-part"]])
def test_separate_parts_are_said_and_the_largest_is_kept_where_asked(
    options, study, results, tmp_path, monkeypatch, capsys
):
    ct = read_ct(study)
    voxels = np.zeros(ct.GetSize()[::-1], np.uint8)
    voxels[2, 4:14, 4:14] = 1
    voxels[3, 14, 14] = 1  # shares a corner with the first
    voxels[5, 20:24, 20:24] = 1

    def predicted(command, _):
        output = Path(command[command.index("-o") + 1])
        output.mkdir()
        mask = sitk.GetImageFromArray(voxels)
        mask.CopyInformation(ct)
        sitk.WriteImage(mask, str(output / "STUDY.nii.gz"))
        return 0, ""

    monkeypatch.setattr(prediction, "follow", predicted)
    assert run(study, tmp_path / "out", *options) == 0
    mask = sitk.GetArrayFromImage(read_structure(tmp_path / "out" / "RTSTRUCT.dcm", "IGTV", ct))
    large, small = (f"{count * np.prod(ct.GetSpacing()) / 1000:.3f}" for count in (101, 16))
    said = f"IGTV has 2 separate parts, of {large}, {small} ml"
    if options:
        voxels[5] = 0
        said = f"of 2 separate parts the largest is kept ({large} ml); left out: {small} ml"
    assert f"note: {said}" in capsys.readouterr().out
    assert (mask == voxels).all()


def test_structure_set_is_extended(study, results, threshold_for_nnunet, tmp_path):
    old = study / "RTSTRUCT" / "RTSTRUCT.dcm"
    assert run(study, tmp_path / "out", "--name", "IGTV_auto", "--extend", str(old)) == 0
    names = [roi.ROIName for roi in dcmread(tmp_path / "out" / "RTSTRUCT.dcm").StructureSetROISequence]
    assert names == ["IGTV", "IGTV_auto"]


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_input_that_the_disk_cut_short_is_no_input(ending, tmp_path, monkeypatch):
    """ITK writes what it can, and raises nothing; nnU-Net would read zeros for the rest."""
    write, image = sitk.WriteImage, sitk.Image(40, 40, 20, sitk.sitkInt16) + 7

    def cut(image, name):
        write(image, name)
        os.truncate(name, os.path.getsize(name) - 1000)

    prediction._write(image, tmp_path / f"a{ending}")
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{ending}"))) == 7).all()
    monkeypatch.setattr(sitk, "WriteImage", cut)
    with pytest.raises(OSError, match=r"No space left|in full"):
        prediction._write(image, tmp_path / f"b{ending}")


def test_nothing_found_is_said(study, results, tmp_path, monkeypatch, capsys):
    def run_empty(command, env):
        images, output = Path(command[4]), Path(command[6])
        ct = sitk.ReadImage(str(images / "STUDY_0000.nii.gz"))
        output.mkdir()
        sitk.WriteImage(ct > 1e6, str(output / "STUDY.nii.gz"))
        return 0, ""

    monkeypatch.setattr(prediction, "follow", run_empty)
    assert run(study, tmp_path / "out") == 1
    assert "found no IGTV" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_removed_does_not_hide_the_error(tmp_path, monkeypatch):
    """A volume of a container, or a folder in one that is not the user's."""

    def busy(folder, *_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy", str(folder))

    monkeypatch.setattr(Path, "rmdir", busy)
    with pytest.raises(IGTVError, match="found nothing"), workspace(tmp_path):
        raise IGTVError("found nothing")


def refused(capsys, study, output, *more):
    assert run(study, output, *more) == 1
    assert not (output / "RTSTRUCT.dcm").exists()
    return capsys.readouterr().err


def test_refusals_before_any_work(study, results, threshold_for_nnunet, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert "no PET series" in refused(capsys, study / "CT", out)
    assert "no CT series" in refused(capsys, study / "PET", out)
    assert "no such file or folder" in refused(capsys, study / "absent", out)

    other = next(iter(write_cohort("igtv", 1, 8, 32, 12, tmp_path / "other")))
    both = tmp_path / "both"
    shutil.copytree(study, both / "a")
    shutil.copytree(other, both / "b")
    assert "several patients" in refused(capsys, both, out)

    moved = tmp_path / "moved"
    shutil.copytree(study, moved)
    for path in (moved / "PET").iterdir():
        dataset = dcmread(path)
        dataset.FrameOfReferenceUID = "1.2.3"
        dataset.save_as(path)
    assert "no frame of reference in common" in refused(capsys, moved, out)

    old = study / "RTSTRUCT" / "RTSTRUCT.dcm"
    assert "holds a structure 'IGTV' already" in refused(capsys, study, out, "--extend", str(old))

    description = json.loads((results / "dataset.json").read_text())
    for change, message in (
        ({"description": "8-bit grey levels (neither HU nor SUV)"}, "not trained on two channels"),
        ({"channel_names": {"0": "CT"}}, "not trained on two channels"),
        ({"channel_names": {"0": "PET", "1": "CT"}}, "but on PET in an unknown unit and CT"),
        ({"channel_names": {"0": "zscore", "1": "zscore"}}, "names are wrong, correct them"),
        ({"labels": {"background": 0, "GTV": 1, "IGTV": 2}}, "2 structures"),
    ):
        (results / "dataset.json").write_text(json.dumps(description | change))
        assert message in refused(capsys, study, out)
    shutil.rmtree(results)
    assert "no trained model" in refused(capsys, study, out)
    monkeypatch.delenv("nnUNet_results")
    assert "nnUNet_results is not set" in refused(capsys, study, out)
    assert threshold_for_nnunet == []


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 3}, "labels is a number instead of a dictionary"),
        ({"channel_names": None}, "channel_names is null"),
        ({"file_ending": 5}, "file_ending is a number instead of a text"),
        ({"file_ending": "/../../x"}, "file_ending is no ending"),
    ],
)
def test_a_field_of_another_type_is_named(results, change, message, trust):
    description = json.loads((results / "dataset.json").read_text())
    (results / "dataset.json").write_text(json.dumps(description | change))
    with pytest.raises(IGTVError, match=rf"{message}.*dataset\.json"):
        prediction.Model.find(902, TRAINER, trust_model=trust)
    for field in change:
        fields = {key: value for key, value in description.items() if key != field}
        (results / "dataset.json").write_text(json.dumps(fields))
        with pytest.raises(IGTVError, match=rf"{field} is missing.*dataset\.json"):
            prediction.Model.find(902, TRAINER, trust_model=trust)


@pytest.mark.parametrize("dataset", ["", "²", "1²", "-1", "+1", "*", "../..", "9" * 5000, "Dataset902_*"])
def test_what_is_no_dataset_is_refused(dataset, results):
    with pytest.raises(IGTVError, match=r"no number or name of a dataset|no trained model"):
        prediction.Model.find(dataset, TRAINER)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EPIPE, "Broken pipe")])
def test_nnunets_process_ends_with_the_command(monkeypatch, error):
    """Also where only this process is interrupted, or its output has no reader."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def failing(*_):
        raise error

    monkeypatch.setattr(prediction.subprocess, "Popen", Popen)
    monkeypatch.setattr(prediction.os, "write", failing)
    began = time.monotonic()
    with pytest.raises(type(error)):
        prediction.follow(["sh", "-c", "echo begun >&2; exec sleep 30"], dict(os.environ))
    assert started[0].wait(10) < 0
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("status", [0, 1])
def test_a_traceback_of_nnunet_is_shown_only_where_it_is_not_the_error(status, capfd):
    program = (
        "import sys, traceback, os\n"
        "print('progress', file=sys.stderr, flush=True)\n"
        "try: raise OSError(28, 'No space left')\n"
        "except OSError: traceback.print_exc()\n"
        f"sys.exit({status})"
    )
    found = prediction.follow([sys.executable, "-c", program], dict(os.environ))
    assert found == (status, "OSError: [Errno 28] No space left")
    shown = capfd.readouterr().err
    assert "progress" in shown
    assert ("Traceback" in shown) == (status == 0)


def test_outputs_are_never_overwritten(study, results, threshold_for_nnunet, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "SEG.dcm").write_bytes(b"mine")
    assert "exists already" in refused(capsys, study, tmp_path / "out", "--seg")
    assert (tmp_path / "out" / "SEG.dcm").read_bytes() == b"mine"
    assert threshold_for_nnunet == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_any_output_of_an_earlier_run_is_refused_by_name(
    name, study, results, threshold_for_nnunet, tmp_path, capsys
):
    """Also what this run would not write: a SEG or a picture of somebody else beside the RTSTRUCT."""
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"earlier")
    assert run(study, out) == 1
    said = capsys.readouterr().err
    assert f"exists already [{out / name}]" in said
    assert "--overwrite" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {name: b"earlier"}
    assert threshold_for_nnunet == []


def test_of_an_earlier_run_nothing_stays_beside_the_new_files(
    results, threshold_for_nnunet, patient, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run(patient("bb").write(tmp_path / "earlier"), out, "--seg") == 0
    (out / "registration.png").write_bytes(b"earlier")
    (out / "unwritten-prediction.mha").write_bytes(b"of a model with another ending")
    study = patient("a").write(tmp_path / "study")
    assert run(study, out, "--overwrite") == 0
    assert [path.name for path in out.iterdir()] == ["RTSTRUCT.dcm"]
    assert dcmread(out / "RTSTRUCT.dcm").PatientID == dcmread(study / "CT" / "000.dcm").PatientID


def test_what_is_no_output_is_never_removed(study, results, threshold_for_nnunet, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(next((study / "CT").iterdir()), out / "SEG.dcm")
    assert "is no SEG, and is not overwritten" in refused(capsys, study, out, "--overwrite")
    (out / "SEG.dcm").unlink()
    (out / "registration.png").mkdir()
    assert f"[{out / 'registration.png'}]" in refused(capsys, study, out, "--overwrite")
    assert threshold_for_nnunet == []


def series_drawn_on(output):
    (frame,) = dcmread(output / "RTSTRUCT.dcm").ReferencedFrameOfReferenceSequence
    return {
        s.SeriesInstanceUID
        for item in frame.RTReferencedStudySequence
        for s in item.RTReferencedSeriesSequence
    }


def contrast(study):
    """A second CT on the same grid."""
    twin = deepcopy(study.ct)
    for k, image in enumerate(twin):
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3", f"1.2.3.{k}"
        image.SeriesDescription = "CT contrast"
    return twin


def test_what_was_chosen_and_what_may_be_wrong_is_said(
    results, threshold_for_nnunet, patient, tmp_path, capsys
):
    study = patient("a")
    for image in study.pet:
        image.PatientWeight = 70000  # grams
    study.write(tmp_path / "study")
    assert run(tmp_path / "study", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "CT: series 1 of 2020-01-02 11:00, 24 x 20 x 10 voxels" in printed
    assert "; the only CT that could serve" in printed
    assert "note: patient weight" in printed
    assert "Muster" not in printed


def test_of_two_ct_series_one_is_named(results, threshold_for_nnunet, patient, tmp_path, capsys):
    study = patient("a")
    study.rt.clear()
    first = study.ct[0].SeriesInstanceUID
    study.ct += contrast(study)
    folder = study.write(tmp_path / "study")
    said = refused(capsys, folder, tmp_path / "out")
    assert "2 CT series could serve" in said
    assert "(--ct)" in said
    assert "CT contrast" in said
    assert threshold_for_nnunet == []
    away = results.rename(
        results.with_name("away")
    )  # a choice that is open is told before the model is looked for
    assert "2 CT series could serve" in refused(capsys, folder, tmp_path / "out")
    away.rename(results)
    assert run(folder, tmp_path / "out", "--ct", "contrast") == 0
    assert series_drawn_on(tmp_path / "out") == {"1.2.3"}
    assert run(folder, tmp_path / "again", "--ct", f"uid:{first[-9:]}") == 0
    assert series_drawn_on(tmp_path / "again") == {first}


def test_a_structure_set_tells_which_ct_is_contoured(results, threshold_for_nnunet, patient, tmp_path):
    """One in the folder, unless the one to extend says otherwise."""
    study = patient("a")
    first = study.ct[0].SeriesInstanceUID
    study.ct += contrast(study)
    folder = study.write(tmp_path / "study")
    assert run(folder, tmp_path / "out") == 0
    assert series_drawn_on(tmp_path / "out") == {first}
    assert run(folder, tmp_path / "new", "--ct", "contrast") == 0
    old = ("--extend", str(tmp_path / "new" / "RTSTRUCT.dcm"), "--name", "second")
    assert run(folder, tmp_path / "more", *old) == 0
    assert series_drawn_on(tmp_path / "more") == {"1.2.3"}


def test_weight_and_frames_as_for_a_conversion(results, threshold_for_nnunet, patient, tmp_path, capsys):
    study = patient("a")
    for image in study.pet:
        image.FrameOfReferenceUID = "1.2.3"
        del image.PatientWeight
    folder, out = study.write(tmp_path / "study"), tmp_path / "out"
    assert "--trust-frames, --no-pet)" in refused(capsys, folder, out)
    assert "(--weight)" in refused(capsys, folder, out, "--trust-frames")
    assert run(folder, out, "--trust-frames", "--weight", "70") == 0
    *_, (_, suv) = threshold_for_nnunet
    expected = onto(read_pet(folder / "PET", 70), read_ct(folder / "CT"))
    assert np.array_equal(sitk.GetArrayFromImage(suv), sitk.GetArrayFromImage(expected))


def test_without_a_pet_the_model_must_have_been_trained_so(
    results, threshold_for_nnunet, patient, tmp_path, capsys
):
    made = patient("a")
    made.pet = []
    study = made.write(tmp_path / "study")
    assert "no PET series in the study" in refused(capsys, study, tmp_path / "out")
    said = refused(capsys, study, tmp_path / "out", "--no-pet", "missing")
    assert "the model was not trained without one" in said
    assert not threshold_for_nnunet
    kwargs = {"arch_kwargs": {"optional_pet": True}, "_kw_requires_import": []}
    network = {"architecture": {"network_class_name": NETWORK, **kwargs}}
    (results / "plans.json").write_text(json.dumps({"configurations": {"2d": network}}))
    # the substitute for nnU-Net finds nothing in a PET of zeros
    assert "the model found no IGTV" in refused(capsys, study, tmp_path / "out", "--no-pet", "missing")
    *_, (ct, pet) = threshold_for_nnunet
    assert ct.GetSize() == pet.GetSize()
    assert not sitk.GetArrayFromImage(pet).any()


def test_two_studies_are_refused_and_one_is_named(results, threshold_for_nnunet, patient, tmp_path, capsys):
    for key, date in (("a", "20200102"), ("bb", "20200402")):
        study = patient(key)
        for image in study.all:
            image.PatientID = "P1"
            image.StudyDate = image.SeriesDate = image.AcquisitionDate = date
        study.write(tmp_path / "patient" / key)
    said = refused(capsys, tmp_path / "patient", tmp_path / "out")
    assert "in 2 studies and 2 frames of reference" in said
    assert "2020-04-02" in said
    assert "(--study, --ct)" in said
    assert run(tmp_path / "patient", tmp_path / "out", "--study", "date:last") == 0
    assert series_drawn_on(tmp_path / "out") == {study.ct[0].SeriesInstanceUID}


@pytest.mark.e2e
def test_with_nnunet_itself(study, nnunet_world, tmp_path, monkeypatch):
    """An untrained network in a folder as training leaves it: what it says is what the file holds."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_igtv.plans import rewrite_plans
    from nnunet_igtv.trainers import IGTVTransferTrainerNano

    plans = json.loads((nnunet_world.preprocessed(902) / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["spacing"] = [12.0, 12.0]  # the phantom's: few windows
    plans = rewrite_plans(plans, "2d", "nano", "before_head")
    manager = PlansManager(plans)
    torch.manual_seed(0)
    network = IGTVTransferTrainerNano.build_network_architecture(
        manager, manager.get_configuration("2d"), 2, 2, enable_deep_supervision=False
    )
    folder = tmp_path / "results" / "Dataset902_IGTV" / f"{TRAINER}__nnUNetPlans__2d"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    shutil.copy(nnunet_world.preprocessed(902) / "dataset.json", folder)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": TRAINER,
        "init_args": {"configuration": "2d"},
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")

    for name, value in nnunet_world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    predicted = []
    read = prediction.read_image
    monkeypatch.setattr(prediction, "read_image", lambda path: predicted.append(read(path)) or predicted[0])
    assert run(study, tmp_path / "out", "--disable_tta") == 0
    mask = read_structure(tmp_path / "out" / "RTSTRUCT.dcm", "tumour", read_ct(study))
    expected = sitk.GetArrayFromImage(predicted[0])
    assert 0 < expected.mean() < 1
    assert (sitk.GetArrayFromImage(mask) == expected).all()


class Call:
    """Unpickles to the result of a command."""

    def __init__(self, line):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)


def test_a_checkpoint_that_would_run_code_is_refused(study, results, threshold_for_nnunet, tmp_path, capsys):
    save_checkpoint(results, remark=Call(f"touch {tmp_path / 'executed'}"))
    error = refused(capsys, study, tmp_path / "out")
    assert "holds more than data" in error
    assert "--trust-model" in error
    assert threshold_for_nnunet == []
    assert run(study, tmp_path / "out", "--trust-model") == 0
    assert "load_data_only" not in " ".join(threshold_for_nnunet[0][0])
    assert not (tmp_path / "executed").exists()  # here too: the stand-in for nnU-Net loads nothing


def test_nnunet_is_kept_from_loading_more_than_data(tmp_path):
    """What a prediction runs first: `torch.load` then refuses code even where it is told not to."""
    torch.save({"remark": Call(f"touch {tmp_path / 'executed'}")}, tmp_path / "w.pth")
    torch.save({"logged": np.float64(0.5)}, tmp_path / "numbers.pth")
    program = (
        "from nnunet_igtv.weights.reading import load_data_only; load_data_only(); import torch, sys\n"
        "print(torch.load(sys.argv[2], weights_only=False))\n"
        "torch.load(sys.argv[1], weights_only=False)"
    )
    arguments = [str(tmp_path / "w.pth"), str(tmp_path / "numbers.pth")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert "0.5" in done.stdout
    assert "UnpicklingError" in done.stderr
    assert not (tmp_path / "executed").exists()


def test_images_are_private_and_gone_with_the_next_call(
    study, results, threshold_for_nnunet, tmp_path, monkeypatch
):
    left = tmp_path / "out" / ".unfinished" / "input"
    left.mkdir(parents=True)
    (left / "STUDY_0000.nii.gz").write_bytes(b"of a killed run")
    modes = []
    stand_in = prediction.follow

    def watched(command, env):
        folder = Path(command[4]).parent
        modes.append((folder.parent.parent, folder.stat().st_mode & 0o777, (folder / "input").is_dir()))
        return stand_in(command, env)

    monkeypatch.setattr(prediction, "follow", watched)
    assert run(study, tmp_path / "out") == 0
    assert modes == [(tmp_path / "out", 0o700, True)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["RTSTRUCT.dcm"]


def test_a_second_call_with_the_same_output_is_refused_and_touches_nothing(
    study, results, threshold_for_nnunet, tmp_path, monkeypatch, capsys
):
    stand_in, second = prediction.follow, []

    def meanwhile(command, env):
        monkeypatch.setattr(prediction, "follow", stand_in)
        second.append((run(study, tmp_path / "out"), capsys.readouterr().err))
        return stand_in(command, env)

    monkeypatch.setattr(prediction, "follow", meanwhile)
    assert run(study, tmp_path / "out") == 0
    ((status, said),) = second
    assert status == 1
    assert "another process works in this output folder" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["RTSTRUCT.dcm"]


def test_killed_at_every_file_event_the_same_command_completes_it(
    results, threshold_for_nnunet, patient, tmp_path, capsys
):
    study, output = patient("a"), tmp_path / "out"
    for k, image in enumerate(study.pet):  # one small spot: quickly written
        image.PixelData = (np.indices((12, 14)).sum(0) * 2000 * (k == 4)).astype("<u2").tobytes()
    folder = study.write(tmp_path / "study")
    output.mkdir()

    def written(output):
        return {file.name: but_uids_and_times(file) for file in files(output)}

    events = completes_after_every_kill(output, lambda: run(folder, output, "--seg"), written)
    assert list(written(output)) == ["RTSTRUCT.dcm", "SEG.dcm"]
    assert events > (30, 15)


@pytest.mark.parametrize("new", [["RTSTRUCT.dcm"], ["RTSTRUCT.dcm", "SEG.dcm"]])
def test_killed_at_every_file_event_no_file_lies_beside_one_of_an_earlier_run(new, tmp_path):
    """What is left is all of the earlier run or nothing, once the next run has cleared the folder."""
    output, looked = tmp_path / "out", tmp_path / "looked"
    earlier = {name: b"earlier " + name.encode() for name in (*OUTPUTS, "unwritten-prediction.nii.gz")}
    output.mkdir()
    for name, content in earlier.items():
        (output / name).write_bytes(content)
    seen = set()

    def again():
        clear(output)
        with workspace(output) as folder:
            for name in new:
                (folder / name).write_bytes(b"new")
            leftovers = output.glob("unwritten-prediction.*")
            finish(
                [folder / name for name in new],
                output,
                True,
                [output / name for name in OUTPUTS],
                [*leftovers],
            )
        return 0

    def left(killed):
        found = shown(killed).items()
        assert found <= earlier.items() or not found & earlier.items()
        shutil.copytree(killed, looked)
        clear(looked)
        stays = shown(looked)
        assert stays in (earlier, {}, dict.fromkeys(new, b"new"))
        seen.add(len(stays))
        shutil.rmtree(looked)

    completes_after_every_kill(output, again, left=left)
    assert contents(output) == dict.fromkeys(new, b"new")
    assert seen >= {0, 4}


def shown(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def but_uids_and_times(file):
    return [str(e) for e in dcmread(file).iterall() if e.VR not in ("SQ", "UI", "DA", "TM", "DT")]


@pytest.mark.parametrize("fails_at", ["write_rtstruct", "write_seg"])
def test_a_prediction_that_cannot_be_written_is_kept(
    results, threshold_for_nnunet, patient, tmp_path, monkeypatch, capsys, fails_at
):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, output = patient("a").write(tmp_path / "study"), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(f"nnunet_igtv.export.{fails_at}", full)
        assert run(folder, output, "--seg") == 1
    kept = output / "unwritten-prediction.nii.gz"
    said = capsys.readouterr().err.splitlines()
    assert [f"(No space left on device); its mask is kept [{kept}]" in line for line in said] == [True]
    assert [path.name for path in output.iterdir()] == [kept.name]
    expected = sitk.GetArrayFromImage(threshold_for_nnunet[1][1]) > 2.5
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(kept))) == expected).all()
    assert main(["export", "rtstruct", str(kept), "--ct", str(folder), "-o", str(tmp_path / "x.dcm")]) == 0
    assert run(folder, output, "--seg") == 0
    assert {path.name for path in output.iterdir()} == {"RTSTRUCT.dcm", "SEG.dcm"}


# in the headers, in free text, and in names of files, folders, series and structures
WHO = ("Querelle", "Philomena", "QP774411", "19510302", "1951-03-02", "02.03.1951")
FREE = ("Hartigan", "Xanthippe", "Zanussi")
IDENTIFYING = ("_record.sqlite", "_record.sqlite-journal", "_manifest.csv", "_manifest.csv.partial")


def holds(content):
    """The secrets in bytes, packed or not, in any usual encoding and case."""
    with contextlib.suppress(zlib.error):
        content += zlib.decompressobj(31).decompress(content)
    spelled = {w: {w, w.lower(), w.upper(), w.replace("QP774411", "QP-77-4411")} for w in (*WHO, *FREE)}
    encodings = ("utf-8", "utf-16-le", "utf-16-be", "cp500")
    return [
        w for w, texts in spelled.items() if any(t.encode(e) in content for t in texts for e in encodings)
    ]


def planted(study, folder):
    for image in study.all:
        image.PatientName, image.PatientID, image.PatientBirthDate = (
            "Querelle^Philomena",
            "QP-77-4411",
            "19510302",
        )
        image.InstitutionName, image.ImageComments = "Hartigan", "Xanthippe"
        image.private_block(0x0099, "ZANUSSI", create=True).add_new(1, "LO", "Zanussi")
        image.SeriesDescription = "CT of QUERELLE, 02.03.1951"
    for k, image in enumerate(study.pet):
        image.PixelData = (np.indices((12, 14)).sum(0) * 2000 * (k == 4)).astype("<u2").tobytes()
    study.rois[0].ROIName = "IGTV Philomena 1951-03-02"
    return study.write(folder / "Querelle_Philomena" / "QP774411")


def test_no_secret_reaches_outputs_logs_or_temporary_files(
    results, threshold_for_nnunet, patient, raw, tmp_path, monkeypatch, capfd
):
    studies, made = tmp_path / "in", tmp_path / "made"
    folder = planted(patient("a"), studies)
    (folder / "CT" / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0CS\xff\xff")
    (made / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(made / "tmp"))
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(made / name))
    found = {}

    def look():
        for path in files(made):
            if not path.name.endswith(IDENTIFYING):
                for word in holds(path.read_bytes()) + holds(str(path.relative_to(made)).encode()):
                    found[path, word] = True

    convert = ["convert", "dicom-rt", studies, "-d", 5, "--structure", "IGTV.*", "-j", 1]
    export = ["--ct", folder / "CT", "--anonymous", "A1", "-o"]
    with before_each_change(made, look):
        assert main([*map(str, convert)]) == 1  # a damaged file
        assert main(["inspect", str(studies)]) == 0
        (folder / "CT" / "cut.dcm").unlink()
        assert main([*map(str, convert)]) == 0
        assert main(["inspect", "--json", str(studies)]) == 0
        assert run(folder, made / "out", "--seg", "--anonymous", "A1") == 0
        label = next((made / "raw").rglob("labelsTr/*"))
        assert main([*map(str, ["export", "rtstruct", label, *export, made / "x.dcm"])]) == 0
        assert main([*map(str, ["export", "seg", label, *export, made / "y.dcm"])]) == 0
    look()
    assert not found
    printed = "".join(capfd.readouterr())
    assert "<patient>" in printed
    assert not holds(printed.replace(str(folder), "").encode())
    record = [path for path in files(made) if path.name.endswith(IDENTIFYING)]
    assert {word for path in record for word in holds(path.read_bytes())}
    assert {path.stat().st_mode & 0o777 for path in record} == {0o600}

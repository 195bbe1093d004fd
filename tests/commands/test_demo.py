"""What the demo does with a prediction that found nothing, with another demo's folder, and after a stop."""

import csv
import json
import subprocess
from dataclasses import asdict, replace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import __version__
from nnunet_igtv.commands.demo import FOLDERS, GTV, IGTV, Demo, Size
from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError


def test_a_tumour_that_was_missed_has_no_contour_and_the_others_have(tmp_path, capsys):
    demo = Demo(tmp_path, Size(), "cpu")
    manifest = demo.raw / f"{FOLDERS[IGTV]}_manifest.csv"
    folder = demo.predictions(demo.transfer)
    for made in (manifest.parent, folder):
        made.mkdir(parents=True)
    with manifest.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "study", "split"])
        for case, found in (("A_0001", 1), ("A_0002", 0)):
            rows.writerow([case, f"studies/{case}", "test"])
            mask = sitk.GetImageFromArray(np.full((2, 3, 4), found, np.uint8))
            sitk.WriteImage(mask, str(folder / f"{case}.nii.gz"))
    assert [step.name for step in demo.contours()] == ["rtstruct-A_0001"]
    assert "A_0002: the transferred network found no tumour" in capsys.readouterr().out


SIZE = Size(gtv_patients=2, igtv_patients=2, test_patients=1, matrix=32, slices=8)
SAME = {"version": __version__, "size": asdict(SIZE), "device": "cpu"}


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (SAME | {"version": "0.0.1"}, f"a demo of another version (0.0.1, not {__version__})"),
        (asdict(SIZE), f"a demo of another version (not {__version__})"),  # as older versions wrote it
        ("damaged", "a demo of another version"),
        (SAME | {"size": asdict(SIZE) | {"matrix": 40}}, "a demo of another size"),
        (SAME | {"device": "cuda"}, "a demo of another device (cuda, not cpu)"),
    ],
)
def test_a_folder_of_another_demo_is_refused_and_kept(tmp_path, record, named):
    file = tmp_path / "size.json"
    file.write_text(record if isinstance(record, str) else json.dumps(record))
    before = file.read_bytes()
    with pytest.raises(IGTVError) as caught:
        Demo(tmp_path, SIZE, "cpu").run()
    assert named in str(caught.value)
    assert caught.value.remedy == "choose another folder, or delete this one"
    assert caught.value.file == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["size.json"]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("schedule", "device", "named"),
    [
        ("1epoch", "cpu", r"no trainer 'GTVPretrainTrainerNano1epoch'.*did you mean.*Nano_1epoch"),
        ("_1epoch", "cuda", "there is no cuda device"),
    ],
)
def test_what_is_not_there_is_named_before_a_folder_is_made(tmp_path, monkeypatch, schedule, device, named):
    """The demo would stop at its trainings, in a folder that refuses the corrected command."""
    monkeypatch.setenv("nnUNet_extTrainer", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(IGTVError, match=named):
        Demo(tmp_path / "demo", replace(SIZE, schedule=schedule), device).run()
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("made", ["report.html", "metrics.csv", "nnUNet_raw/", "nnUNet_results/"])
def test_what_no_demo_made_is_refused_and_kept(tmp_path, made):
    """Its evaluation replaces a report, its planning fingerprints."""
    file = tmp_path / made
    file.mkdir() if made.endswith("/") else file.write_text("somebody's")
    with pytest.raises(IGTVError, match=f"this folder holds {file.name} of something else than a demo"):
        Demo(tmp_path, SIZE, "cpu").run()
    assert list(tmp_path.iterdir()) == [file]


def test_files_that_the_demo_does_not_touch_may_lie_in_its_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    Demo(tmp_path, SIZE, "cpu").refuse_another()


def test_the_same_demo_is_continued(tmp_path):
    demo = Demo(tmp_path, SIZE, "cpu")
    demo.refuse_another()
    demo.refuse_another()
    assert json.loads((tmp_path / "size.json").read_text()) == SAME


# a stop between the end of a command and its stamp: the command comes again


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A demo whose IGTV cohort was written and converted by its commands, each of them twice."""
    demo = Demo(tmp_path_factory.mktemp("demo"), SIZE, "cpu")
    *steps, _ = demo.igtv_cohort()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(demo.raw))
        for step in steps:
            assert [main(step.command[1:]) for _ in range(2)] == [0, 0], step.name
    return demo


def test_a_contour_without_a_stamp_is_written_again(converted):
    (label,) = (converted.raw / FOLDERS[IGTV] / "labelsTs").iterdir()
    perfect = converted.predictions(converted.transfer) / label.name
    perfect.parent.mkdir(parents=True)
    perfect.write_bytes(label.read_bytes())
    (contour,) = converted.contours()
    assert [main(contour.command[1:]) for _ in range(2)] == [0, 0]


@pytest.mark.e2e
def test_a_half_written_fingerprint_is_made_anew(converted):
    fingerprint = converted.output / "nnUNet_preprocessed" / FOLDERS[IGTV] / "dataset_fingerprint.json"
    fingerprint.parent.mkdir(parents=True)
    fingerprint.write_text('{"spacings": [')  # as a kill leaves it: nnU-Net writes it in place
    command = converted.plan(IGTV).command
    subprocess.run(command, env=converted.environment, check=True, capture_output=True, timeout=600)
    assert len(json.loads(fingerprint.read_text())["spacings"]) == SIZE.igtv_patients


@pytest.mark.parametrize("kept", ["checkpoint_latest.pth", "checkpoint_final.pth"])
def test_a_training_goes_on_from_what_it_kept(tmp_path, kept):
    """After the last epoch only the final checkpoint is left, and the validation may still be to do."""
    demo = Demo(tmp_path, SIZE, "cpu")
    training = demo.train(GTV, demo.pretrain)
    assert training.again() is None
    fold = demo.fold(GTV, demo.pretrain)
    fold.mkdir(parents=True)
    (fold / kept).touch()
    assert training.again() == [*training.command, "--c"]

"""nnU-Net's own commands, unmodified, with this package's trainers, on the CPU."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytestmark = pytest.mark.e2e

PRETRAIN, TRANSFER = "GTVPretrainTrainerFewSteps", "IGTVTransferTrainerFewSteps"


def train(world, dataset, trainer, *extra, configuration="2d", check=True, **environment):
    command = world.training(dataset, trainer, *extra, configuration=configuration)
    return world.run(*command, environment=environment, check=check)


def content(checkpoint):
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def pretrained(nnunet_world):
    train(nnunet_world, 901, PRETRAIN)
    return nnunet_world.fold(901, PRETRAIN) / "checkpoint_final.pth"


@pytest.fixture(scope="module")
def transferred(nnunet_world, pretrained):
    """The fold of a transfer that was killed after its first epoch and continued."""
    command = nnunet_world.training(902, TRANSFER, "-pretrained_weights", pretrained)
    fold = nnunet_world.fold(902, TRANSFER)
    with subprocess.Popen(
        list(map(str, command)),
        env=nnunet_world.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        wait_for((fold / "checkpoint_latest.pth").exists, seconds=120)
        workers = children_of(run.pid)
        run.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), seconds=30)
    before = content(fold / "checkpoint_latest.pth")
    log = train(nnunet_world, 902, TRANSFER, "--c", "--npz").stdout
    return fold, workers, before, log


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def children_of(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_training_leaves_what_prediction_and_export_need(nnunet_world, pretrained):
    folder = pretrained.parent
    assert (folder / "validation" / "summary.json").exists()
    assert (folder / "progress.png").exists()
    plans = json.loads((folder.parent / "plans.json").read_text())
    assert plans["configurations"]["2d"]["patch_size"][0] == 3
    original = json.loads((nnunet_world.preprocessed(901) / "nnUNetPlans.json").read_text())
    assert len(original["configurations"]["2d"]["patch_size"]) == 2  # the data set's own plans are untouched
    assert content(pretrained)["trainer_name"] == PRETRAIN


def test_a_killed_transfer_continues_where_it_was_and_no_worker_outlives_it(transferred):
    fold, workers, before, log = transferred
    assert workers  # there were some to outlive it
    assert 1 <= before["current_epoch"] < 3
    assert f"Epoch {before['current_epoch']}" in log
    assert "Epoch 0" not in log
    final = content(fold / "checkpoint_final.pth")
    assert len(final["logging"]["train_losses"]) == 3
    assert final["logging"]["train_losses"][: before["current_epoch"]] == before["logging"]["train_losses"]


def test_the_transfer_keeps_its_two_learning_rates_across_the_interruption(transferred):
    fold, _, before, _ = transferred
    final = content(fold / "checkpoint_final.pth")
    for state in (before, final):
        groups = state["optimizer_state"]["param_groups"]
        rates = {
            origin: {g["lr"] for g in groups if g["origin"] == origin} for origin in ("new", "transferred")
        }
        assert len(rates["new"]) == len(rates["transferred"]) == 1
        assert rates["transferred"].pop() == pytest.approx(0.1 * rates["new"].pop())
    names = [[g["names"] for g in state["optimizer_state"]["param_groups"]] for state in (before, final)]
    assert names[0] == names[1]


def test_the_report_says_that_all_but_the_head_came_over(transferred):
    fold, *_ = transferred
    report = json.loads((fold / "transfer_report.json").read_text())
    assert "-pretrained_weights" in report["command"]
    status = {entry["key"]: entry["status"] for entry in report["entries"]}
    assert {key for key, value in status.items() if value == "initial"} == {
        key for key in status if ".seg_layers." in key
    }


def test_npz_holds_the_probabilities_of_every_class(transferred):
    fold, *_ = transferred
    probabilities = np.load(fold / "validation" / "case_003.npz")["probabilities"]
    assert probabilities.shape == (2, 9, 32, 40)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-2)


@pytest.fixture(scope="module")
def afterwards(nnunet_world, transferred, pretrained, toy_case, oblique, tmp_path_factory):
    """What follows a finished transfer: another validation, a prediction, the transfer in `3d_fullres`.

    Returns the log, the checkpoint as it was before, and the folders of the images and the predictions.
    """
    fold, *_ = transferred
    before = (fold / "checkpoint_final.pth").read_bytes()
    (fold / "validation" / "summary.json").unlink()
    images, output = (tmp_path_factory.mktemp(name) for name in ("images", "predictions"))
    toy_case(images, None, "oblique", seed=7, direction=oblique)
    toy_case(images, None, "one_slice", seed=8, shape=(1, 32, 40))
    toy_case(images, None, "two_slices", seed=9, shape=(2, 40, 32))
    model = ["-d", 902, "-c", "2d", "-f", 0, "-tr", TRANSFER, "-device", "cpu"]
    done = nnunet_world.run_together(
        nnunet_world.training(902, TRANSFER, "--val"),
        ["nnUNetv2_predict", *model, "-i", images, "-o", output, "-npp", 1, "-nps", 1],
        nnunet_world.training(902, TRANSFER, configuration="3d_fullres"),
        environment={"nnUNet_igtv_gtv_weights": str(pretrained)},
    )
    return done.stdout, before, images, output


def test_val_repeats_the_validation_and_nothing_else(transferred, afterwards):
    fold, *_ = transferred
    log, before, *_ = afterwards
    assert (fold / "validation" / "summary.json").exists()
    assert "Epoch 0" not in log[: log.index("$ nnUNetv2_predict")]
    assert (fold / "checkpoint_final.pth").read_bytes() == before


def test_predictions_have_the_geometry_of_their_input(afterwards):
    *_, images, output = afterwards
    for case in ("oblique", "one_slice", "two_slices"):
        ct = sitk.ReadImage(str(images / f"{case}_0000.nii.gz"))
        prediction = sitk.ReadImage(str(output / f"{case}.nii.gz"))
        assert prediction.GetSize() == ct.GetSize()
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(prediction, geometry)(), getattr(ct, geometry)(), atol=1e-5)


def test_the_environment_variable_transfers_into_another_configuration(nnunet_world, pretrained, afterwards):
    fold = nnunet_world.fold(902, TRANSFER, "3d_fullres")
    report = json.loads((fold / "transfer_report.json").read_text())
    assert report["source"] == str(pretrained)
    assert all(entry["status"] == "taken" for entry in report["entries"])
    assert (fold / "validation" / "summary.json").exists()


@pytest.mark.parametrize("continuing", [[], ["--c"]])
def test_a_transfer_without_weights_stops_before_any_work(nnunet_world, continuing):
    trainer = "IGTVTransferTrainerNano"  # has no checkpoint here, so that --c has nothing to continue
    done = train(nnunet_world, 902, trainer, *continuing, check=False)
    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]
    assert "starts from GTV weights, and none were given" in last
    assert "-pretrained_weights" in last
    assert "nnUNet_igtv_gtv_weights" in last
    assert not list(nnunet_world.fold(902, trainer).glob("*.pth"))
    assert "Epoch" not in done.stdout

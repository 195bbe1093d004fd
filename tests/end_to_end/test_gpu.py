"""nnU-Net's own commands on a GPU, from the first to the last; `pytest -m gpu -s` prints seconds and memory.

Each command is a process of its own: one that was forked from another cannot use CUDA.
"""

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

CARDS = torch.cuda.device_count()
pytestmark = [pytest.mark.e2e, pytest.mark.gpu, pytest.mark.skipif(CARDS == 0, reason="needs a GPU")]

GPU = "cuda"
PRETRAIN, TRANSFER = (
    "GTVPretrainTrainerFewSteps",
    "IGTVTransferTrainerFewSteps",
)  # of tests/end_to_end/trainers
TRAINERS = Path(__file__).parent / "trainers"
# a console script, by its name; then the peak of this process's memory on the GPU
PROGRAM = """
import atexit, sys, torch
from importlib.metadata import entry_points

def say_peak():
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        print(f"peak {torch.cuda.max_memory_allocated() / 1e9:.3f} GB")

if __name__ == "__main__":
    atexit.register(say_peak)
    sys.argv = sys.argv[1:]
    next(s for s in entry_points(group="console_scripts") if s.name == sys.argv[0]).load()()
"""


@pytest.fixture(scope="module")
def run(nnunet_world, tmp_path_factory):
    """Runs a command in the small nnU-Net world, prints its seconds and peak memory, returns its output."""
    program = tmp_path_factory.mktemp("program") / "command.py"  # a file: its helper processes import it
    program.write_text(PROGRAM)

    def run(*command, **environment):
        begin = time.perf_counter()
        done = nnunet_world.run(sys.executable, program, *command, environment=environment)
        peak = re.findall(r"^peak .*", done.stdout, re.MULTILINE) or ["no memory on a GPU"]
        print(f"{time.perf_counter() - begin:6.1f} s, {peak[-1]}: {' '.join(map(str, command))}")
        return done.stdout

    return run


def train(dataset, trainer, *extra, device=GPU, fold=0):
    return ["nnUNetv2_train", dataset, "2d", fold, "-tr", trainer, "-device", device, *extra]


def losses(folder):
    """Of every epoch that the latest log of a training tells of."""
    log = max(folder.glob("training_log_*.txt")).read_text()
    return [float(value) for value in re.findall(r"train_loss (\S+)", log)]


@pytest.fixture(scope="module", params=["f", "t"], ids=["eager", "compiled"])
def transferred(request, run, nnunet_world):
    """Folder of an IGTV network that started from GTV weights, both trained on the GPU."""
    compiled = {"nnUNet_compile": request.param, "nnUNet_igtv_gtv_weights": ""}
    run(*train(901, PRETRAIN), **compiled)
    weights = nnunet_world.fold(901, PRETRAIN) / "checkpoint_final.pth"
    run(*train(902, TRANSFER, "-pretrained_weights", weights), **compiled)
    return nnunet_world.fold(902, TRANSFER)


def test_training_and_transfer_end_with_finite_losses(transferred):
    found = losses(transferred)
    assert len(found) == 3
    assert np.isfinite(found).all()


def test_a_finished_training_is_continued_and_validated_again(transferred, run):
    run(*train(902, TRANSFER, "--c"))
    (transferred / "validation" / "summary.json").unlink()
    run(*train(902, TRANSFER, "--val"))
    assert (transferred / "validation" / "summary.json").is_file()


@pytest.mark.parametrize(("written", "read"), [("cpu", GPU), (GPU, "cpu")])
def test_weights_that_were_written_on_one_device_start_a_training_on_the_other(
    written, read, run, nnunet_world
):
    run(*train(901, PRETRAIN, device=written, fold="all"))
    weights = nnunet_world.fold(901, PRETRAIN, fold="all") / "checkpoint_final.pth"
    run(*train(902, TRANSFER, "-pretrained_weights", weights, device=read, fold="all"))
    assert np.isfinite(losses(nnunet_world.fold(902, TRANSFER, fold="all"))).all()


def test_a_prediction_on_the_gpu_is_that_of_the_cpu_in_half_precision(
    transferred, run, nnunet_world, tmp_path
):
    images = nnunet_world.folder("raw") / "Dataset902_IGTV" / "imagesTr"
    found = []
    for device in (GPU, "cpu"):
        model = ["-d", 902, "-c", "2d", "-tr", TRANSFER, "-f", 0, "-device", device]
        run("nnUNetv2_predict", "-i", images, "-o", tmp_path / device, *model, "--save_probabilities")
        files = sorted((tmp_path / device).glob("*.npz"))
        found.append(np.stack([np.load(file)["probabilities"] for file in files]))
    assert np.abs(found[0] - found[1]).max() < 0.05


def test_from_phantoms_to_contours_on_the_gpu(run, tmp_path):
    size = ["--gtv-patients", 2, "--igtv-patients", 2, "--test-patients", 1, "--matrix", 32, "--slices", 8]
    output = tmp_path / "demo"
    run(
        *("nnunet-igtv", "demo", "--device", GPU, "--output", output, *size, "--schedule", "OneStep"),
        nnUNet_extTrainer=str(TRAINERS),
    )
    assert list((output / "rtstruct").glob("*.dcm"))


@pytest.mark.skipif(CARDS < 2, reason="needs two GPUs")
def test_two_gpus_by_nnunets_option_and_by_torchrun(run, nnunet_world):
    weights = nnunet_world.fold(901, PRETRAIN) / "checkpoint_final.pth"
    run(*train(901, PRETRAIN, "-num_gpus", 2))
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        2,
        "-m",
        "nnunet_igtv",
        "train",
        902,
        "2d",
        0,
    ]
    nnunet_world.run(sys.executable, *command, "-tr", TRANSFER, "-pretrained_weights", weights)
    assert np.isfinite(losses(nnunet_world.fold(902, TRANSFER))).all()

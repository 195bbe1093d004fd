"""`nnunet-igtv train`: what it refuses before any work, and who says so."""

import pytest
import torch

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano
from nnunet_igtv.trainers.process_group import TORCHRUN, ProcessGroup, own_device

GOOD = ["train", "901", "2d", "0", "-tr", "IGTVTrainerNano", "-device", "cpu"]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No variable of torchrun's, and nnU-Net's as they were when the test ends."""
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("nnUNet_extTrainer", "")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folders(monkeypatch, tmp_path):
    data = tmp_path / "preprocessed" / "Dataset901_GTV"
    data.mkdir(parents=True)
    (data / "otherPlans.json").write_text("{}")
    monkeypatch.setenv("nnUNet_preprocessed", str(data.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    return data


def torchrun(monkeypatch, **variables):
    values = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in (values | variables).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (GOOD[:3], "required: fold, -tr"),
        ([*GOOD[:3], "one", *GOOD[4:]], "fold 'one' is neither a number"),
        ([*GOOD, "--c", "--val"], "--c and --val exclude"),
        ([*GOOD, "--c", "-pretrained_weights", "w.pth"], "--c and -pretrained_weights exclude"),
        ([*GOOD, "--val", "-pretrained_weights", "w.pth"], "--val and -pretrained_weights exclude"),
        ([*GOOD, "--val_best", "--disable_checkpointing"], "--val_best and --disable_checkpointing exclude"),
        ([*GOOD[:-1], "tpu"], "invalid choice: 'tpu'"),
        ([*GOOD, "-num_gpus", "2"], "unrecognized arguments: -num_gpus 2"),
    ],
)
def test_bad_arguments_are_reported_in_one_line_by_one_process(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nnUNet_results": ""}, "not set: nnUNet_results"),
        ({1: "955"}, "no dataset '955'; there are: Dataset901_GTV"),
        ({1: "lung"}, "no dataset 'lung'; there are: Dataset901_GTV"),
        ({5: "IGTVTransferTrainerNanno"}, "did you mean IGTVTransferTrainerNano or"),
        ({5: "igtvtrainer"}, "no trainer 'igtvtrainer'.*did you mean IGTVT"),
        ({5: "SomethingElse"}, "no trainer 'SomethingElse'.*docs/training.md"),
        ({5: "nnUNetTrainer"}, "nnUNetTrainer is not one of this package's trainers.*nnUNetv2_train"),
        ({}, r"no such plans; there are: otherPlans \[.*Dataset901_GTV/nnUNetPlans.json\]"),
    ],
)
def test_what_is_not_there_is_named(monkeypatch, capsys, folders, change, message):
    arguments = list(GOOD)
    for place, value in change.items():
        if isinstance(place, str):
            monkeypatch.setenv(place, value)
        else:
            arguments[place] = value
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("nnunet-igtv train: ")
    assert len(error.splitlines()) == 1
    with pytest.raises(IGTVError, match=message):
        raise IGTVError(error)
    assert not (folders.parents[1] / "results").exists()


def test_a_wrong_name_is_said_before_the_missing_gpu(monkeypatch, capsys, folders):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (folders / "nnUNetPlans.json").write_text("{}")
    without_device = GOOD[:-2]
    assert main([*without_device[:5], "IGTVTrainerNanno"]) == 1
    assert "no trainer 'IGTVTrainerNanno'" in capsys.readouterr().err
    assert main(without_device) == 1
    assert "no CUDA device on this machine. Remedy: use a machine with a GPU, or" in capsys.readouterr().err


def test_a_validation_without_a_finished_training_is_refused(monkeypatch, capsys, nnunet_world, tmp_path):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(nnunet_world.folder(name)))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert main([*GOOD, "--val"]) == 1
    assert "the training is not finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MASTER_ADDR": "", "RANK": ""}, "RANK, MASTER_ADDR is not set.*torchrun"),
        ({"RANK": "first"}, "RANK='first' is not a number"),
    ],
)
def test_variables_that_torchrun_did_not_set_are_refused(monkeypatch, variables, message):
    torchrun(monkeypatch, **variables)
    with pytest.raises(IGTVError, match=message):
        ProcessGroup("cpu")


def test_every_process_has_a_gpu_of_its_own_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("cuda", 1, 16) == torch.device("cuda", 1)
    with pytest.raises(IGTVError, match="2 CUDA devices, and process 3 on it"):
        own_device("cuda", 2, 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(IGTVError, match=r"no CUDA device on this machine.*-device cpu"):
        own_device("cuda", 0, 1)
    with pytest.raises(IGTVError, match="cannot share mps"):
        own_device("mps", 0, 2)


def test_one_process_makes_no_group():
    with ProcessGroup("cpu") as group:
        assert (group.size, group.rank, group.device) == (1, 0, torch.device("cpu"))
        assert not torch.distributed.is_initialized()
        assert not group.lost_another(RuntimeError("gloo: connection closed"))  # there is nobody to lose


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ((), "interrupted; add --c to continue"),
        (("before there was a checkpoint: start again",), "train: before there was a checkpoint"),
    ],
)
def test_an_interrupted_training_is_continued_with_c_where_it_has_a_checkpoint(
    monkeypatch, capsys, nnunet_world, tmp_path, said, shown
):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(nnunet_world.folder(name)))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))

    def interrupt(trainer):
        raise KeyboardInterrupt(*said)

    monkeypatch.setattr(IGTVTrainerNano, "run_training", interrupt)
    assert main(GOOD) == 130
    error = capsys.readouterr().err
    assert shown in error
    assert ("add --c" in error) == (not said)

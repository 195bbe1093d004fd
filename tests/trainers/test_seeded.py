"""nnU-Net's own trainer with a seed, and every trainer with a budget: what the comparison rests on."""

from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_igtv.trainers.seeded import SeededTrainer

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_nnunets_own_trainer_starts_and_reads_the_same_with_the_same_seed(make_trainer, monkeypatch):
    seen = []
    for seed in ("7", "7", "8"):
        monkeypatch.setenv("nnUNet_igtv_seed", seed)
        trainer = make_trainer(SeededTrainer)
        trainer.initialize()
        loaders = trainer.get_dataloaders()
        seen.append([next(trainer.network.parameters()).detach(), *(next(part)["data"] for part in loaders)])
    assert all(torch.equal(a, b) for a, b in zip(*seen[:2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(*seen[1:], strict=True))


@pytest.mark.parametrize("name", ["nnUNetTrainerSeeded_budget", "IGTVTransferTrainerNanoNoMamba_budget"])
def test_a_trainer_takes_the_budget_of_the_comparison(make_trainer, monkeypatch, name):
    monkeypatch.setenv("nnUNet_extTrainer", str(EXPERIMENTS / "trainers"))
    monkeypatch.setenv("nnUNet_igtv_budget", "40x50")
    found = recursive_find_trainer_class_by_name(name)
    assert found.__name__ == name  # what checkpoints and folders are called
    trainer = make_trainer(found)
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (40, 50)
    assert trainer.num_val_iterations_per_epoch == 10
    assert trainer.save_every == 1
    monkeypatch.setenv("nnUNet_igtv_validation", "f")
    trainer.perform_actual_validation()  # nothing: there is no network yet
    assert not (Path(trainer.output_folder) / "validation").exists()


@pytest.mark.parametrize(("wanted", "threads"), [("1", 1), ("3", 3), ("", 2), ("2,1", 2), ("0", 2)])
def test_a_training_on_a_cpu_has_the_threads_that_are_wanted(make_trainer, monkeypatch, wanted, threads):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    try:
        torch.set_num_threads(2)  # as nnU-Net's command does on two cores
        make_trainer(SeededTrainer)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

"""Tumours of another uptake: what changes in a sample, what an SUV of 0 is, and a trainer that does it."""

import numpy as np
import pytest
import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTrainerNanoUptake
from nnunet_igtv.trainers.uptake import TumourUptake, zero_suv

MEAN, DEVIATION = 4.0, 2.0


def changed_by(factor, label=1):
    """SUV of 3 everywhere with a square of a label in the middle slice, before and after."""
    suv = torch.full((2, 3, 32, 32), 3.0)
    segmentation = torch.full((1, 3, 32, 32), -1, dtype=torch.int16)
    segmentation[0, 1, 8:24, 8:24] = label
    sample = {"image": (suv - MEAN) / DEVIATION, "segmentation": segmentation.clone()}
    changed = TumourUptake(-MEAN / DEVIATION, (factor, factor), [1])(**sample)
    assert torch.equal(changed["segmentation"], segmentation)
    assert torch.equal(changed["image"][0], (suv[0] - MEAN) / DEVIATION)
    return changed["image"][1] * DEVIATION + MEAN


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_only_the_suv_of_the_tumour_changes(factor):
    pet = changed_by(factor)
    assert pet[1, 15, 15] == pytest.approx(factor * 3)
    assert pet[1, 8, 15] == pytest.approx((1 + (factor - 1) * 0.6) * 3, abs=0.2)  # at the border
    assert torch.allclose(pet[[0, 2]], torch.tensor(3.0))
    assert torch.allclose(pet[1, :2], torch.tensor(3.0))


def test_what_is_not_the_tumour_keeps_its_suv():
    assert torch.allclose(changed_by(0.5, label=2), torch.tensor(3.0))  # such as nnU-Net's ignore label


def test_factors_are_spread_over_their_range():
    torch.manual_seed(0)
    label = torch.ones(1, 1, 32, 32, dtype=torch.int16)
    transform = TumourUptake(0.0, (0.4, 1.6), [1])
    images = [transform(image=torch.ones(2, 1, 32, 32), segmentation=label)["image"] for _ in range(500)]
    found = np.array([float(image[1, 0, 16, 16]) for image in images])
    assert 0.4 <= found.min() < 0.42
    assert 1.55 < found.max() <= 1.6
    assert np.median(found) == pytest.approx(0.8, abs=0.05)  # log-uniform


def test_an_suv_of_zero_is_known_after_nnunets_ct_normalisation_and_without_any():
    properties = {"0": {"mean": -100.0, "std": 300.0}, "1": {"mean": 4.0, "std": 2.0}}
    assert zero_suv(["CTNormalization", "CTNormalization"], properties) == -2
    assert zero_suv(["CTNormalization", "NoNormalization"], properties) == 0
    with pytest.raises(IGTVError, match="normalises the PET by ZScoreNormalization"):
        zero_suv(["CTNormalization", "ZScoreNormalization"], properties)


def pets_of(trainer):
    """The PET of some training samples, drawn with the same random numbers."""
    trainer.on_train_start()
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    return torch.cat([next(trainer.dataloader_train)["data"][:, 1] for _ in range(4)])


def test_a_trainer_shows_tumours_of_another_uptake(make_trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_seed", "0")
    plain = pets_of(make_trainer(IGTVTrainerNano))
    other = pets_of(make_trainer(IGTVTrainerNanoUptake))
    fainter = pets_of(make_trainer(IGTVTrainerNanoUptake, uptake=(0.01, 0.01)))
    assert not torch.equal(plain, other)
    assert fainter.amax() < other.amax()


def test_a_trainer_refuses_a_pet_whose_suv_is_not_known(make_trainer):
    trainer = make_trainer(IGTVTrainerNanoUptake)
    trainer.configuration_manager.configuration["normalization_schemes"] = [
        "CTNormalization",
        "ZScoreNormalization",
    ]
    with pytest.raises(IGTVError, match=r"trainer that is not named …Uptake"):
        trainer.on_train_start()

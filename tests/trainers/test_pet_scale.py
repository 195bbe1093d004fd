"""PETs of another scale: what changes in a sample, what an SUV of 0 is, and a trainer that does it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTrainerNanoScale
from nnunet_igtv.trainers.pet_scale import PETScale, drawn, zero_suv

MEAN, DEVIATION = 4.0, 2.0


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_the_suv_of_the_whole_pet_changes_by_one_factor(factor):
    suv = 10 * torch.rand(2, 3, 8, 8)
    suv[1, 0] = 0
    image = (suv - MEAN) / DEVIATION
    given = image.clone()
    changed = PETScale(-MEAN / DEVIATION, (factor, factor))(image=image)["image"]
    assert torch.equal(image, given)
    assert torch.equal(changed[0], image[0])
    assert torch.allclose(changed[1] * DEVIATION + MEAN, factor * suv[1], atol=1e-5)


def test_factors_are_spread_over_their_range():
    torch.manual_seed(0)
    found = np.array([drawn((0.4, 1.6)) for _ in range(500)])
    assert 0.4 <= found.min() < 0.42
    assert 1.55 < found.max() <= 1.6
    assert np.median(found) == pytest.approx(0.8, abs=0.05)  # log-uniform


def test_an_suv_of_zero_is_known_after_nnunets_ct_normalisation_and_without_any():
    plans = SimpleNamespace(
        foreground_intensity_properties_per_channel={
            "0": {"mean": -100.0, "std": 300.0},
            "1": {"mean": 4.0, "std": 2.0},
        }
    )

    def zero_with(scheme):
        return zero_suv(plans, SimpleNamespace(normalization_schemes=["CTNormalization", scheme]))

    assert zero_with("CTNormalization") == -2
    assert zero_with("NoNormalization") == 0
    with pytest.raises(IGTVError, match="normalises the PET by ZScoreNormalization"):
        zero_with("ZScoreNormalization")


def pets_of(trainer):
    """The PET of some training samples, drawn with the same random numbers."""
    trainer.on_train_start()
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    return torch.cat([next(trainer.dataloader_train)["data"][:, 1] for _ in range(4)])


def test_a_trainer_shows_pets_of_another_scale(make_trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_seed", "0")
    plain = pets_of(make_trainer(IGTVTrainerNano))
    other = pets_of(make_trainer(IGTVTrainerNanoScale))
    fainter = pets_of(make_trainer(IGTVTrainerNanoScale, pet_scale=(0.01, 0.01)))
    assert not torch.equal(plain, other)
    assert fainter.amax() < other.amax()


def test_a_trainer_refuses_a_pet_whose_suv_is_not_known(make_trainer):
    trainer = make_trainer(IGTVTrainerNanoScale)
    trainer.configuration_manager.configuration["normalization_schemes"] = [
        "CTNormalization",
        "ZScoreNormalization",
    ]
    with pytest.raises(IGTVError, match=r"trainer that is not named …Scale"):
        trainer.on_train_start()

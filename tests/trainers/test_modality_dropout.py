"""Training without a PET: dropped at random, absent from the start, and refused where nothing knows of it."""

import pytest
import torch

from nnunet_igtv.channels import CT_PET, described
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTrainerNanoModalityDropout
from nnunet_igtv.trainers.modality_dropout import OptionalPET


class Noise:
    """An augmentation."""

    def __call__(self, image, segmentation):
        return {"image": image + torch.randn(image.shape), "segmentation": segmentation}


def shares(pet_value, dropout, samples=400):
    """How many samples have a constant PET afterwards, and how many a constant CT."""
    torch.manual_seed(0)
    transform, counts = OptionalPET(Noise(), dropout), [0, 0]
    for _ in range(samples):
        image = torch.randn(2, 3, 4, 4)
        if pet_value is not None:
            image[1] = pet_value
        changed = transform(image=image, segmentation=None)["image"]
        for channel in (0, 1):
            counts[channel] += bool(changed[channel].min() == changed[channel].max())
    return counts[1] / samples, counts[0] / samples


def test_a_pet_is_dropped_as_often_as_asked_and_an_absent_one_stays_constant():
    assert shares(None, 0.0) == (0, 0)
    assert shares(-0.7, 0.0) == (1, 0)
    dropped, ct = shares(None, 0.3)
    assert dropped == pytest.approx(0.3, abs=0.07)
    assert ct == 0


def test_a_trainer_drops_the_pet_of_some_samples_and_learns_what_stands_for_it(make_trainer):
    trainer = make_trainer(IGTVTrainerNanoModalityDropout, modality_dropout=0.6)
    trainer.on_train_start()
    assert trainer.configuration_manager.configuration["architecture"]["arch_kwargs"]["optional_pet"] is True
    pets = [next(trainer.dataloader_train)["data"][:, 1].flatten(1) for _ in range(4)]
    absent = [bool(pet.min() == pet.max()) for batch in pets for pet in batch]
    assert 0 < sum(absent) < len(absent)
    token = trainer.network.cross_modal[0].no_pet
    before = token.detach().clone()
    for _ in range(2):
        batch = next(trainer.dataloader_train)
        batch["data"][0, 1] = 0
        trainer.train_step(batch)
    assert not torch.equal(token, before)


def test_without_dropout_plans_and_networks_are_what_they_were(make_trainer):
    trainer = make_trainer(IGTVTrainerNano)
    trainer.initialize()
    assert "optional_pet" not in trainer.configuration_manager.configuration["architecture"]["arch_kwargs"]
    assert not [name for name in trainer.network.state_dict() if "no_pet" in name]


def test_what_nothing_knows_of_is_refused(make_trainer):
    without = described(CT_PET, without_pet=3)
    with pytest.raises(IGTVError, match="3 cases of the data set have no PET"):
        make_trainer(IGTVTrainerNano, description=without)
    knows = make_trainer(IGTVTrainerNanoModalityDropout, description=without)
    plan = knows.plans_manager.plans
    assert make_trainer(IGTVTrainerNano, description=without, plans=plan).optional_pet  # as the plan says
    plain = make_trainer(IGTVTrainerNano).plans_manager.plans
    with pytest.raises(IGTVError, match="does not know stacks without one"):
        make_trainer(IGTVTrainerNanoModalityDropout, plans=plain)
    with pytest.raises(IGTVError, match="not a probability"):
        make_trainer(IGTVTrainerNano, modality_dropout=1.0)

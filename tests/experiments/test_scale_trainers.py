"""nnU-Net's own network in scaled.yaml: PETs of another scale in training, not in validation."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

FOLDER = Path(__file__).parents[2] / "experiments" / "trainers"
MEAN, DEVIATION = 4.0, 2.0


@pytest.fixture
def trainer(monkeypatch):
    """Only what its transforms read, with augmentation that does nothing."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import experiment_trainers
    import scale_trainers

    nothing = ComposeTransforms([])
    monkeypatch.setattr(experiment_trainers.nnUNetTrainerSeeded, "transforms", lambda *_: (nothing, nothing))
    made = object.__new__(scale_trainers.nnUNetTrainerSeededScale)
    made.configuration_manager = SimpleNamespace(normalization_schemes=["CTNormalization"] * 2)
    made.plans_manager = SimpleNamespace(
        foreground_intensity_properties_per_channel={"1": {"mean": MEAN, "std": DEVIATION}}
    )
    yield made
    for name in ("scale_trainers", "experiment_trainers"):
        sys.modules.pop(name, None)


def test_the_suv_of_a_slice_is_multiplied_in_training_only(trainer):
    training, validation = trainer.transforms()
    suv = 1 + 9 * torch.rand(2, 8, 8)  # of a 2D configuration: CT and PET (C, H, W)
    image = (suv - MEAN) / DEVIATION
    assert torch.equal(validation(image=image)["image"], image)
    factors = []
    for _ in range(20):
        changed = training(image=image)["image"]
        assert torch.equal(changed[0], image[0])
        ratio = (changed[1] * DEVIATION + MEAN) / suv[1]
        assert torch.allclose(ratio, ratio.mean(), atol=1e-5)
        factors.append(float(ratio.mean()))
    assert 0.4 <= min(factors) < 0.8
    assert 1.0 < max(factors) <= 1.6

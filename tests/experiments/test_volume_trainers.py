"""What the trainers of volumes.yaml change: the slices that are drawn, the stack, the loss."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "experiments" / "trainers"


@pytest.fixture(scope="module")
def trainers():
    """The module, as nnU-Net finds it: with its folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import volume_trainers

        yield volume_trainers
        for name in ("volume_trainers", "experiment_trainers"):
            sys.modules.pop(name, None)


def test_each_slice_of_a_tumour_and_the_next_ones_are_drawn_as_often(trainers):
    voxels = [(0, z, y, 0) for z, size in ((4, 1), (5, 98), (6, 1)) for y in range(size)]
    np.random.seed(0)
    drawn = [trainers._of_one_slice(np.array(voxels)) for _ in range(2000)]
    slices, counts = np.unique([found[0, 1] for found in drawn], return_counts=True)
    assert slices.tolist() == [3, 4, 5, 6, 7]
    assert counts.min() > 300
    assert {len(found) for found in drawn} == {1, 98}


def sample(slices):
    """CT and PET hold the number of their slice, the label its parity; three slices of it are wanted."""
    numbers = torch.arange(slices, dtype=torch.float32)[:, None, None].expand(slices, 8, 8)
    return {"image": torch.stack([numbers, numbers]), "segmentation": (numbers % 2)[None].to(torch.int16)}


@pytest.mark.parametrize(
    ("stretch", "shift", "distance"),
    [((1, 1), (0, 0), 1.0), ((1.5, 1.5), (0, 0), 1.5), ((1, 1), (1, 2), 1.0)],
)
def test_a_longer_stack_gives_one_of_the_patch_around_its_middle(
    trainers, stretch, shift, distance, monkeypatch
):
    monkeypatch.setattr(trainers, "SOMETIMES", 1.0)
    torch.manual_seed(0)
    changed = trainers.AlongTheBodyAxis(3, stretch, shift)(**sample(7))
    ct, pet = changed["image"][:, :, 0, 0]
    assert ct.tolist() == [3 - distance, 3, 3 + distance]
    moved = pet - ct
    assert moved.max() <= shift[0]
    assert torch.allclose(moved, moved[:1])
    assert (moved[0] == 0) == (shift[0] == 0)
    assert changed["segmentation"][0, :, 0, 0].tolist() == [round(z) % 2 for z in ct.tolist()]


def test_a_missed_voxel_weighs_more_than_a_false_one(trainers):
    target = torch.zeros(1, 1, 1, 4, 4)
    target[..., :2, :] = 1

    def loss(rows):
        logits = torch.zeros(1, 2, 1, 4, 4)
        logits[:, 1] = -20
        logits[:, 1, :, :rows] = 20
        return float(trainers.TverskyLoss()(logits, target))

    assert loss(2) == pytest.approx(-1)
    assert loss(1) > loss(3) > loss(2)
    assert loss(1) == pytest.approx(-4 / (4 + 0.7 * 4), abs=1e-4)
    assert loss(3) == pytest.approx(-8 / (8 + 0.3 * 4), abs=1e-4)


def changed_by(trainers, factor, label=1):
    """SUV of 3 everywhere with a square of a label in the middle slice, before and after."""
    suv = torch.full((2, 3, 32, 32), 3.0)
    segmentation = torch.full((1, 3, 32, 32), -1, dtype=torch.int16)
    segmentation[0, 1, 8:24, 8:24] = label
    sample = {"image": suv - 2, "segmentation": segmentation.clone()}
    changed = trainers.TumourUptake(-2.0, (factor, factor), [1])(**sample)
    assert torch.equal(changed["segmentation"], segmentation)
    assert torch.equal(changed["image"][0], suv[0] - 2)
    return changed["image"][1] + 2


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_only_the_suv_of_the_tumour_changes(trainers, factor):
    pet = changed_by(trainers, factor)
    assert pet[1, 15, 15] == pytest.approx(factor * 3)
    assert pet[1, 8, 15] == pytest.approx((1 + (factor - 1) * 0.6) * 3, abs=0.2)  # at the border
    assert torch.allclose(pet[[0, 2]], torch.tensor(3.0))
    assert torch.allclose(pet[1, :2], torch.tensor(3.0))


def test_what_is_not_the_tumour_keeps_its_suv(trainers):
    pet = changed_by(trainers, 0.5, label=2)  # such as nnU-Net's ignore label
    assert torch.allclose(pet, torch.tensor(3.0))

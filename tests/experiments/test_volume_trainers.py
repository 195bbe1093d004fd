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


def test_the_suv_of_the_whole_pet_changes(trainers):
    image = torch.rand(2, 3, 8, 8)
    label = torch.zeros(1, 3, 8, 8, dtype=torch.int16)
    changed = trainers.PETScale(-2.0, (0.5, 0.5))(image=image.clone(), segmentation=label)["image"]
    assert torch.equal(changed[0], image[0])
    assert torch.allclose(changed[1] + 2, (image[1] + 2) / 2, atol=1e-5)

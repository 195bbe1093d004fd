"""The trainers of slices.yaml and larger.yaml: those that nnU-Net finds, and what each part changes."""

from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from torch import nn

from nnunet_igtv.architectures.igtv_net import build_network
from nnunet_igtv.errors import IGTVError

FOLDER = Path(__file__).parents[2] / "experiments" / "trainers"


@pytest.fixture
def trainer(monkeypatch):
    """The trainer of a name, as nnU-Net finds it."""
    monkeypatch.setenv("nnUNet_extTrainer", str(FOLDER))
    return recursive_find_trainer_class_by_name


@pytest.mark.parametrize(
    ("part", "attribute", "value"),
    [
        ("StagesSIM", "slice_interaction", "stages"),
        ("CrossSliceAttention", "slice_interaction", "cross_slice_attention"),
        ("OwnSliceAttention", "slice_interaction", "cross_slice_attention"),
        ("CSAM", "slice_interaction", "csam"),
        ("FasterSIM", "own_factors", {"slice_interaction.": 5.0}),
    ],
)
def test_a_trainer_differs_from_the_smallest_network_in_its_part(trainer, part, attribute, value):
    base = "IGTVTrainerNanoScale"
    found = trainer(f"{base}{part}_budget")
    assert found.__name__ == f"{base}{part}_budget"
    assert getattr(found, attribute) == value != getattr(trainer(base + "_budget"), attribute)
    assert found.pet_scale == trainer(base + "_budget").pet_scale is not None
    assert issubclass(found, trainer(f"{base}{part}").__mro__[2])


@pytest.mark.law
def test_the_twin_of_the_attention_sees_no_neighbours_however_it_learns(trainer):
    twin, attention = (
        trainer(f"IGTVTrainerNanoScale{part}") for part in ("OwnSliceAttention", "CrossSliceAttention")
    )
    sees, sizes = [], []
    for part in (twin.__mro__[1], attention.__mro__[1]):
        run = type("Run", (part, Initialised), {})()
        run.initialize()
        network = run.bare_network
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.randn(1, 2, 3, 32, 32)).square().mean().backward()
            optimizer.step()
        network.eval()
        stack = torch.randn(1, 2, 3, 32, 32)
        other = torch.cat((stack[:, :, :1], torch.randn(1, 2, 2, 32, 32)), dim=2)
        with torch.no_grad():
            sees.append(not torch.allclose(*(network(x)[:, :, 0] for x in (stack, other)), atol=1e-6))
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    assert sees == [False, True]
    assert sizes[0] == sizes[1]


class Initialised:
    """A trainer as far as its network."""

    def initialize(self):
        self.bare_network = build_network("nano", 2, self.slice_interaction)


def test_a_slow_transfer_is_the_transfer_at_another_rate(trainer):
    slow, usual = (trainer(f"IGTVTransferTrainerNano{part}_budget") for part in ("Slow", ""))
    assert (slow.transferred_factor, usual.transferred_factor) == (0.1, 1.0)
    assert slow.learning_rate == usual.learning_rate


@pytest.mark.parametrize(("slices", "inner"), [(3, [1]), (5, [1, 2, 3])])
def test_the_loss_of_inner_slices_does_not_see_the_ends(trainer, slices, inner):
    loss = trainer("IGTVTrainerNanoScaleInnerSlices")._build_loss.__globals__["LossOfInnerSlices"]
    logits = torch.randn(2, 2, slices, 4, 4, requires_grad=True)
    target = torch.randint(0, 2, (2, 1, slices, 4, 4))
    loss(nn.BCEWithLogitsLoss())(logits[:, 1:], target.float()).backward()
    assert logits.grad.abs().amax(dim=(0, 1, 3, 4)).nonzero().flatten().tolist() == inner
    with pytest.raises(IGTVError, match="2 slices has no inner slice"):
        loss(nn.BCEWithLogitsLoss())(logits[:, 1:, :2], target[:, :, :2].float())

"""The losses that a trainer chooses by name."""

import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano
from nnunet_igtv.trainers.losses import LOSSES


@pytest.fixture
def values(make_trainer):
    """The loss of a right and of a wrong prediction, by a trainer with these attributes."""

    def of(**attributes):
        trainer = make_trainer(IGTVTrainerNano, **attributes)
        trainer.initialize()
        target = torch.zeros(2, 1, 3, 16, 16)
        target[:, :, :, 4:12, 4:12] = 1
        right = 50 * torch.cat([1 - target, target], 1)
        if not trainer.enable_deep_supervision:
            return [trainer.loss(logits, target).item() for logits in (right, -right)]
        assert isinstance(trainer.loss, DeepSupervisionWrapper)
        heads = len(trainer._get_deep_supervision_scales())
        return [trainer.loss([logits] * heads, [target] * heads).item() for logits in (right, -right)]

    return of


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_dice_is_minus_the_dice_and_cross_entropy_adds_to_it(values, deep_supervision):
    right, wrong = values(deep_supervision=deep_supervision)  # the default
    assert [right, wrong] == pytest.approx([-1, 0], abs=1e-3)
    right, wrong = values(deep_supervision=deep_supervision, loss_function="dice_ce")
    assert right == pytest.approx(-1, abs=1e-3)
    assert wrong > 40


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_another_loss_is_one_entry(values, monkeypatch, deep_supervision):
    class Seven(nn.Module):
        def forward(self, logits, target):
            return logits.new_tensor(7.0)

    monkeypatch.setitem(LOSSES, "mine", lambda nnunets: Seven())
    found = values(deep_supervision=deep_supervision, loss_function="mine")
    assert found == pytest.approx([7.0, 7.0])


def test_an_unknown_loss_is_refused_with_those_that_there_are(values):
    with pytest.raises(IGTVError, match=r"no loss 'tversky'.*dice, dice_ce"):
        values(loss_function="tversky")

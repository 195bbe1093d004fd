"""The losses that a trainer chooses by name. Another one is a function here and its line in the table.

Each function gets nnU-Net's Dice + cross-entropy of one output and returns the loss to train with: the same
one changed, or another module that is called with logits (B, classes, S, H, W) and a target (B, 1, S, H, W),
or (B, regions, S, H, W) where labels overlap. nnU-Net's knows what a loss must respect: overlapping labels,
the ignore label, and the Dice over the batches of all processes. Its parts are `dc`, `ce`, `weight_dice` and
`weight_ce`.
"""

from collections.abc import Callable

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn

from nnunet_igtv.errors import IGTVError


def dice(nnunets: nn.Module) -> nn.Module:
    """Soft Dice alone, as in the paper: between -1 and 0."""
    nnunets.weight_ce = 0  # type: ignore[assignment]
    return nnunets


def dice_and_cross_entropy(nnunets: nn.Module) -> nn.Module:
    """nnU-Net's default."""
    return nnunets


LOSSES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "dice": dice,
    "dice_ce": dice_and_cross_entropy,
}


def chosen_loss(name: str, nnunets: nn.Module) -> nn.Module:
    """The loss of that name, in the place of nnU-Net's; within its deep supervision, where that is on.

    Args:
        name: a key of `LOSSES`.
        nnunets: what nnU-Net's trainer built.

    Raises:
        IGTVError: no such loss.
    """
    if name not in LOSSES:
        raise IGTVError(f"no loss {name!r}", remedy=f"choose one of {', '.join(LOSSES)}")
    if isinstance(nnunets, DeepSupervisionWrapper):
        nnunets.loss = LOSSES[name](nnunets.loss)
        return nnunets
    return LOSSES[name](nnunets)

"""Trainers of slices.yaml and attention.yaml: what is tried with the slice interaction on the nano network.

Each part gives `IGTVTrainerNanoScale…`, also with a budget: from scratch, with PETs of another scale.
"""

from experiment_trainers import with_part  # nnU-Net looks for trainers with this folder on the path
from torch import Tensor, nn

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNanoScale
from nnunet_igtv.trainers.variants import CrossSliceAttention, StagesSIM


class OwnSliceAttention:
    """The attention with every weight on the slice itself: as many parameters, and no neighbours.

    The preferences for other offsets are so low that their share of a softmax is zero, and do not learn. They
    are in the checkpoint, so `nnUNetv2_predict` hides the neighbours too.
    """

    slice_interaction = "cross_slice_attention"

    def initialize(self) -> None:
        super().initialize()  # type: ignore[misc]
        for block in self.bare_network.slice_interaction.blocks:  # type: ignore[attr-defined]
            block.offsets.requires_grad_(False).fill_(-1e4)
            block.offsets[:, block.offsets.shape[1] // 2] = 0.0


class CSAM:
    slice_interaction = "csam"


class FasterSIM:
    """The slice interaction learns five times as fast as the rest."""

    own_factors = {"slice_interaction.": 5.0}  # noqa: RUF012


class InnerSlices:
    """The loss is that of the slices of a stack that have a neighbour on either side."""

    def _build_loss(self) -> nn.Module:
        return LossOfInnerSlices(super()._build_loss())  # type: ignore[misc]


class LossOfInnerSlices(nn.Module):
    """A loss without the first and the last slice of each stack.

    Args:
        loss: of logits (B, classes, S, H, W) and a target (B, 1, S, H, W).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Raises IGTVError where a stack has fewer than three slices."""
        if logits.shape[2] < 3:
            raise IGTVError(
                f"a stack of {logits.shape[2]} slices has no inner slice",
                remedy="plan stacks of 3 slices or more",
            )
        return self.loss(logits[:, :, 1:-1], target[:, :, 1:-1])


for part in (StagesSIM, CrossSliceAttention, OwnSliceAttention, CSAM, FasterSIM, InnerSlices):
    globals().update(with_part(part, IGTVTrainerNanoScale))

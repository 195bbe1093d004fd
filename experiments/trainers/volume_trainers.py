"""One thing changed that may help against volumes that are too small (volumes.yaml, from scratch).

    EndSlices    patches on the tumour are spread evenly over its slices, not over its voxels
    Stretch      stacks are stretched along the body axis, CT, PET and contour together
    ShiftedPET   the PET is moved against the CT, as free breathing does
    Tversky      voxels that are missed weigh more than false ones
    Uptake       the tumour's SUV is multiplied by a factor (misses.yaml, larger.yaml; transferred too)

Random numbers are PyTorch's and NumPy's, which each worker has seeded (`nnunet_igtv/trainers/loading.py`).
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from experiment_trainers import with_part  # of this folder, which nnU-Net searches
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.utilities.helpers import softmax_helper_dim1
from torch import Tensor, nn

from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTrainerNanoScale, IGTVTransferTrainerNano
from nnunet_igtv.trainers.loading import StackLoader
from nnunet_igtv.trainers.modality_dropout import PET
from nnunet_igtv.trainers.pet_scale import FACTORS, drawn, rescaled, zero_suv

SOMETIMES = 0.3  # of the samples are changed


# ------------------------------------------------------------------------------------ what is sampled


class EndSlicesLoader(StackLoader):
    """Patches on the tumour: from its slices and the next one at each end, each with the same probability.

    nnU-Net draws a voxel of the tumour, so that the small slices near the ends are seldom in the middle.
    """

    def get_bbox(
        self, data_shape: Any, force_fg: bool, class_locations: Any, *more: Any, **others: Any
    ) -> Any:
        if force_fg and class_locations:
            class_locations = {label: _of_one_slice(found) for label, found in class_locations.items()}
        return super().get_bbox(data_shape, force_fg, class_locations, *more, **others)


def _of_one_slice(locations: np.ndarray) -> np.ndarray:
    """The voxels (n, 4: channel, slice, row, column) of one slice; of the end's, moved, for the next one."""
    if len(locations) == 0:
        return locations
    slices = locations[:, 1]
    chosen = np.random.randint(slices.min() - 1, slices.max() + 2)
    nearest = slices[np.abs(slices - chosen).argmin()]
    found: np.ndarray = locations[slices == nearest].copy()
    found[:, 1] = chosen
    return found


class EndSlices:
    loader = EndSlicesLoader


# ------------------------------------------------------------------------------------ along the body axis


class AlongTheBodyAxis(BasicTransform):
    """A stack (C, L, H, W) with more slices than the patch -> one of the patch's S slices.

    Args:
        slices: S.
        stretch: range of the distance between slices of the result, in slices.
        shift: of the PET, up to so many slices and rows and columns, in either direction.
    """

    def __init__(self, slices: int, stretch: tuple[float, float], shift: tuple[float, int]) -> None:
        super().__init__()
        self.slices, self.stretch, self.shift = slices, stretch, shift

    def apply(self, data_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        image, label = data_dict["image"], data_dict["segmentation"]
        changed = float(torch.rand(())) < SOMETIMES
        low, high = self.stretch
        distance = low + (high - low) * float(torch.rand(())) if changed else 1.0
        at = (image.shape[1] - 1) / 2 + distance * (torch.arange(self.slices) - (self.slices - 1) / 2)
        pet, move = image[PET], 0.0
        if changed:
            along, within = self.shift
            move = along * (2 * float(torch.rand(())) - 1)
            rows, columns = torch.randint(-within, within + 1, (2,)).tolist()
            pet = pet.roll((rows, columns), (1, 2))  # what comes round is outside the patch
        data_dict["image"] = torch.stack([_between(image[0], at), _between(pet, at + move)])
        data_dict["segmentation"] = label[:, at.round().long().clamp(0, label.shape[1] - 1)]
        return data_dict


def _between(slices: Tensor, at: Tensor) -> Tensor:
    """Slices (L, H, W) at positions between them, linearly; beyond an end, the end."""
    at = at.clamp(0, len(slices) - 1)
    below = at.floor().long().clamp(max=len(slices) - 2)
    weight = (at - below).to(slices.dtype)[:, None, None]
    return slices[below] * (1 - weight) + slices[below + 1] * weight


class Longer:
    """Loads two slices more at each end, for `AlongTheBodyAxis`."""

    configuration_manager: Any
    stretch: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, int] = (0.0, 0)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802  nnU-Net's
        found = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # type: ignore[misc]
        rotation, dummy, patch, axes = found
        return rotation, dummy, np.array([patch[0] + 4, *patch[1:]]), axes

    def transforms(self, *of_the_patch: Any) -> Any:
        training, validation = super().transforms(*of_the_patch)  # type: ignore[misc]
        first = AlongTheBodyAxis(self.configuration_manager.patch_size[0], self.stretch, self.shift)
        return ComposeTransforms([first, training]), validation


class Stretch(Longer):
    stretch = (0.7, 1.4)  # as nnU-Net's scaling in the plane


class ShiftedPET(Longer):
    shift = (1.0, 2)  # 3 and 4 mm on the phantoms


# ------------------------------------------------------------------------------------ the uptake

BORDER, PASSES = 5, 3  # pixels of the averages that make the border smooth


class TumourUptake(BasicTransform):
    """Multiplies the SUV inside the contour of a sample (C, S, H, W), with a smooth border in the plane.

    Args:
        zero, factors: as of the package's `PETScale`, which multiplies the whole PET.
        labels: of the tumour.
    """

    def __init__(self, zero: float, factors: tuple[float, float], labels: Collection[int]) -> None:
        super().__init__()
        self.zero, self.factors, self.labels = zero, factors, torch.tensor(sorted(labels))

    def apply(self, data_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        segmentation = data_dict["segmentation"]
        inside = torch.isin(segmentation, self.labels.to(segmentation.dtype)).float()
        for _pass in range(PASSES):
            inside = F.avg_pool2d(inside, BORDER, stride=1, padding=BORDER // 2)
        factor = 1 + (drawn(self.factors) - 1) * inside[0]
        data_dict["image"] = rescaled(data_dict["image"], self.zero, factor)
        return data_dict


class Uptake:
    plans_manager: Any
    configuration_manager: Any
    label_manager: Any

    def transforms(self, *of_the_patch: Any) -> Any:
        training, validation = super().transforms(*of_the_patch)  # type: ignore[misc]
        zero = zero_suv(self.plans_manager, self.configuration_manager)
        tumour = [label for label in self.label_manager.all_labels if label != 0]
        return ComposeTransforms([TumourUptake(zero, FACTORS, tumour), training]), validation


# ------------------------------------------------------------------------------------ the loss


class TverskyLoss(nn.Module):
    """-TP / (TP + 0.3 FP + 0.7 FN), over the batch (Salehi et al., MLMI 2017): called as nnU-Net's Dice."""

    def forward(self, logits: Tensor, target: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        over = [0, *range(2, logits.ndim)]
        found = get_tp_fp_fn_tn(softmax_helper_dim1(logits), target, over, loss_mask)
        true, wrong, missed = (count[1] for count in found[:3])  # of the foreground
        return -(true + 1e-5) / (true + 0.3 * wrong + 0.7 * missed + 1e-5)


class Tversky:
    def _build_loss(self) -> nn.Module:
        loss: nn.Module = super()._build_loss()  # type: ignore[misc]
        loss.dc = TverskyLoss()
        return loss


for part in (EndSlices, Stretch, ShiftedPET, Tversky):
    globals().update(with_part(part, IGTVTrainerNanoScale))
for base in (IGTVTrainerNano, IGTVTransferTrainerNano):
    globals().update(with_part(Uptake, base))

"""nnU-Net's augmentation for a stack of slices `(C, S, H, W)`, C = modality, S = neighbouring slices.

The same as nnU-Net's default except where a stack is not a volume:
    geometry    one in-plane rotation, scaling and flip for all slices and both (registered) modalities
    blur        in the plane only: between slices 3 to 5 mm apart it would invent partial volume, and three
                slices are fewer than its kernel
    resolution  lowered in the plane only
    intensity   one draw for all slices of a modality, another for the other modality
"""

from collections.abc import Sequence
from typing import Any

import torch
from batchgeneratorsv2.helpers.scalar_type import RandomScalar, sample_scalar
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform

SLICE_AXIS = 0


class InPlaneBlurTransform(ImageOnlyTransform):
    """Gaussian blur of H and W, one sigma (in pixels) per modality for all of its slices.

    Args:
        blur_sigma: range of sigma in pixels.
        p_per_channel: probability with which a modality is blurred.
    """

    def __init__(self, blur_sigma: RandomScalar, p_per_channel: float) -> None:
        super().__init__()
        self.blur_sigma, self.p_per_channel = blur_sigma, p_per_channel

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        image = data_dict["image"]
        chosen = torch.where(torch.rand(len(image)) < self.p_per_channel)[0].tolist()
        return {"sigmas": {channel: sample_scalar(self.blur_sigma, image=image) for channel in chosen}}

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        for channel, sigma in params["sigmas"].items():
            stack = img[channel : channel + 1]
            img[channel] = blur_dimension(blur_dimension(stack, sigma, 1), sigma, 2)[0]
        return img


def spatial_transforms(patch_size: Sequence[int], rotation: RandomScalar) -> list[BasicTransform]:
    """Rotation and scaling in the plane, the same for all slices, which are folded into channels."""
    return [
        Convert3DTo2DTransform(),
        SpatialTransform(
            tuple(patch_size[1:]),
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=0,
            p_rotation=0.2,
            rotation=rotation,
            p_scaling=0.2,
            scaling=(0.7, 1.4),
            p_synchronize_scaling_across_axes=1,
            bg_style_seg_sampling=False,
            border_mode_seg="constant",
            padding_value_seg=-1,
        ),
        Convert2DTo3DTransform(),
    ]


def intensity_transforms() -> list[BasicTransform]:
    """Noise, blur, brightness, contrast, resolution and gamma, with nnU-Net's ranges and probabilities."""
    contrast, gamma = BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    independent: dict[str, Any] = {"synchronize_channels": False, "p_per_channel": 1}

    def sometimes(probability: float, transform: BasicTransform) -> BasicTransform:
        return RandomTransform(transform, apply_probability=probability)

    return [
        sometimes(0.1, GaussianNoiseTransform(noise_variance=(0, 0.1), **independent)),
        sometimes(0.2, InPlaneBlurTransform(blur_sigma=(0.5, 1.0), p_per_channel=0.5)),
        sometimes(0.15, MultiplicativeBrightnessTransform(multiplier_range=contrast, **independent)),
        sometimes(0.15, ContrastTransform(contrast_range=contrast, preserve_range=True, **independent)),
        sometimes(
            0.25,
            SimulateLowResolutionTransform(
                scale=(0.5, 1),
                synchronize_channels=False,
                synchronize_axes=True,
                ignore_axes=(SLICE_AXIS,),
                p_per_channel=0.5,
            ),
        ),
        sometimes(0.1, GammaTransform(gamma=gamma, p_invert_image=1, p_retain_stats=1, **independent)),
        sometimes(0.3, GammaTransform(gamma=gamma, p_invert_image=0, p_retain_stats=1, **independent)),
    ]


def training_transforms(
    patch_size: Sequence[int],
    rotation: RandomScalar,
    deep_supervision_scales: Sequence[Sequence[float]] | None,
    mirror_axes: tuple[int, ...] | None,
    use_mask_for_norm: Sequence[bool] | None,
    regions: Sequence[Any] | None,
    ignore_label: int | None,
) -> BasicTransform:
    """From a stack larger than the patch in the plane to one augmented sample.

    Args:
        patch_size: `[S, H, W]` of the sample.
        rotation: range of the in-plane rotation in radians.
        deep_supervision_scales: in-plane factors of the auxiliary targets, or None.
        mirror_axes: axes to flip, 0 = slices, 1 = rows, 2 = columns.
        use_mask_for_norm: per channel, whether outside the mask is to become 0 again.
        regions: nnU-Net's regions, where labels overlap.
        ignore_label: the label that no loss sees.
    """
    transforms = [*spatial_transforms(patch_size, rotation), *intensity_transforms()]
    if mirror_axes:
        transforms.append(MirrorTransform(allowed_axes=mirror_axes))
    if use_mask_for_norm is not None and any(use_mask_for_norm):
        masked = [channel for channel, use in enumerate(use_mask_for_norm) if use]
        transforms.append(
            MaskImageTransform(apply_to_channels=masked, channel_idx_in_seg=0, set_outside_to=0)
        )
    transforms.append(RemoveLabelTansform(-1, 0))
    if regions is not None:
        with_ignore = [*regions, ignore_label] if ignore_label is not None else list(regions)
        transforms.append(ConvertSegmentationToRegionsTransform(regions=with_ignore, channel_in_seg=0))
    if deep_supervision_scales is not None:
        transforms.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
    return ComposeTransforms(transforms)

import numpy as np
import pytest
import torch

from nnunet_igtv.trainers.augmentation import (
    InPlaneBlurTransform,
    intensity_transforms,
    spatial_transforms,
    training_transforms,
)

ROTATION = (-np.pi, np.pi)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


def pipeline(patch, regions=None, ignore_label=None, mirror_axes=(1, 2)):
    return training_transforms(patch, ROTATION, None, mirror_axes, [False, False], regions, ignore_label)


def apply(transforms, image, segmentation):
    data = {"image": image, "segmentation": segmentation}
    for transform in transforms:
        data = transform(**data)
    return data["image"], data["segmentation"]


@pytest.mark.law
def test_geometry_is_the_same_for_every_slice_both_modalities_and_the_label():
    changed = 0
    for _ in range(20):
        plane = torch.zeros(40, 48)
        plane[8:20, 10:30] = 1
        image = plane.expand(2, 3, 40, 48).clone()
        out, label = apply(
            spatial_transforms([3, 32, 36], ROTATION), image, plane.expand(1, 3, 40, 48).to(torch.int16)
        )
        assert out.shape == (2, 3, 32, 36)
        assert torch.equal(out, out[:1, :1].expand_as(out))
        assert torch.equal(label, label[:, :1].expand_as(label))
        inside = label[0, 0] >= 0  # -1 = outside of the image
        assert ((out[0, 0] > 0.5) != (label[0, 0] == 1))[inside].float().mean() < 0.05
        changed += not torch.allclose(out[0, 0], plane[4:36, 6:42])
    assert changed > 3


def test_blur_and_low_resolution_do_not_mix_slices():
    for transform in (InPlaneBlurTransform((0.5, 1.0), 1.0), *intensity_transforms()[4:5]):
        image = torch.zeros(2, 3, 33, 33)
        image[:, 1, 16, 16] = 1
        out = getattr(transform, "transform", transform)(image=image)["image"]
        assert not out[:, 0].any()
        assert not out[:, 2].any()
        assert out[:, 1].any()


def test_blur_has_one_sigma_for_all_slices_of_a_modality_and_one_each_for_the_modalities():
    image = torch.zeros(2, 3, 33, 33)
    image[:, :, 16, 16] = 1
    out = InPlaneBlurTransform((0.5, 1.0), 1.0)(image=image)["image"]
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert not torch.allclose(out[0], out[1])
    torch.testing.assert_close(out.sum((2, 3)), torch.ones(2, 3))


def test_intensity_changes_are_the_same_for_all_slices_and_differ_between_modalities():
    differed = 0
    for _ in range(20):
        image = torch.rand(1, 1, 16, 16).expand(2, 3, 16, 16).clone()
        for transform in intensity_transforms()[2:]:  # after the noise, which is new in every pixel
            image = transform(image=image)["image"]
        torch.testing.assert_close(image, image[:, :1].expand_as(image))
        differed += not torch.allclose(image[0], image[1])
    assert differed > 5


def test_slices_keep_their_order():
    image = torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 40, 40).clone()
    for _ in range(20):
        out, _ = apply(
            [*spatial_transforms([3, 20, 20], ROTATION)],
            image.clone(),
            torch.zeros(1, 3, 40, 40, dtype=torch.int16),
        )
        centre = out[:, :, 10, 10]
        torch.testing.assert_close(centre, torch.arange(3.0).expand(2, 3))


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_any_stack_keeps_its_shape_and_its_labels(slices):
    transforms = pipeline([slices, 24, 20])
    for _ in range(10):
        data = transforms(
            image=torch.randn(2, slices, 40, 36),
            segmentation=torch.randint(-1, 3, (1, slices, 40, 36), dtype=torch.int16),
        )
        assert data["image"].shape == (2, slices, 24, 20)
        assert data["image"].isfinite().all()
        assert set(data["segmentation"].unique().tolist()) <= {0, 1, 2}


def test_regions_and_the_ignore_label_become_channels():
    transforms = pipeline([3, 24, 24], regions=[(1, 2), 2], ignore_label=3, mirror_axes=())
    label = torch.zeros(1, 3, 24, 24, dtype=torch.int16)
    label[..., :6], label[..., 6:12], label[..., 12:18] = 1, 2, 3
    data = transforms(image=torch.zeros(2, 3, 24, 24), segmentation=label)
    whole, core, ignored = data["segmentation"]
    assert whole.sum() > core.sum() > 0
    assert ignored.any()
    assert not (ignored & whole).any()
    assert torch.equal(whole & core, core)

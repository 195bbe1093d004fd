"""Rectification at any size, interaction by windows."""

import pytest
import torch
import torch.nn.functional as F

from nnunet_igtv.architectures.cross_modal import (
    ChannelRectification,
    CrossModalInteraction,
    RegionInteraction,
)
from nnunet_igtv.architectures.mixers import MIXERS

SCAN = MIXERS["scan"]


def fixed_size_tokens(crm, x):
    """The reference's tokens: LayerNorm over a channel's map of the canonical size, then a linear layer."""
    maps = x.permute(0, 3, 1, 2).flatten(2)  # (M, C, g*g)
    normed = F.layer_norm(maps, maps.shape[-1:], crm.norm_weight.flatten(), crm.norm_bias.flatten())
    return F.linear(normed, crm.embed_weight.flatten(1), crm.embed_bias)


@pytest.mark.law
def test_rectification_on_its_canonical_grid_is_the_fixed_size_one(randomised, noise):
    crm, x = randomised(ChannelRectification(8, 16, SCAN)).double(), 3 + noise(2, 16, 16, 5)
    assert torch.allclose(crm._tokens(x), fixed_size_tokens(crm, x), rtol=1e-10, atol=1e-10)


@pytest.mark.law
@pytest.mark.parametrize("factor", [2, 3])
def test_rectification_hardly_sees_the_sampling_of_the_same_picture(randomised, noise, factor):
    """A map sampled more finely gives nearly the same tokens: the grid carries meaning from size to size."""
    crm = randomised(ChannelRectification(8, 16, SCAN)).double()
    smooth = F.interpolate(noise(1, 5, 4, 4), (16, 16), mode="bicubic")
    fine = F.interpolate(smooth, scale_factor=factor, mode="bilinear")
    coarse_tokens, fine_tokens, other_tokens = (
        crm._tokens(x.permute(0, 2, 3, 1)) for x in (smooth, fine, fine.flip(-1))
    )
    assert (coarse_tokens - fine_tokens).norm() < 0.1 * (coarse_tokens - other_tokens).norm()


@pytest.mark.law
@pytest.mark.parametrize("size", [(16, 8), (7, 9), (1, 3), (40, 24)])
def test_rectification_ignores_brightness_and_contrast_of_a_map(randomised, noise, size):
    crm, x = randomised(ChannelRectification(8, 16, SCAN)).double(), noise(2, *size, 5)
    assert torch.allclose(crm._tokens(10 * x + 7), crm._tokens(x), rtol=1e-3, atol=1e-3)


def test_rectification_gates_lie_between_one_and_two(randomised, noise):
    crm = randomised(ChannelRectification(8, 16, SCAN)).double()
    ct, pet = noise(2, 9, 7, 5), noise(2, 9, 7, 5, seed=2)
    for before, after in zip((ct, pet), crm(torch.cat((ct, pet))).chunk(2), strict=True):
        gate = after / before
        assert (gate > 1).all()
        assert (gate < 2).all()
        assert torch.allclose(gate, gate[:, :1, :1].expand_as(gate))  # one per channel


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (1, 1), (3, 9)])
def test_interaction_keeps_the_size_of_the_map(randomised, noise, size):
    dcim = randomised(RegionInteraction(16, 2, 2, SCAN)).double()
    assert dcim(noise(2, *size, 16), noise(2, *size, 16, seed=2)).shape == (2, *size, 16)


def test_interaction_puts_windows_back_in_place(randomised, noise):
    """A change of CT in one corner stays near it, where H and W differ: windows do not change places."""
    dcim = randomised(RegionInteraction(16, 2, 2, SCAN)).double()
    ct, pet = noise(1, 8, 16, 16), noise(1, 8, 16, 16, seed=2)
    changed = ct.clone()
    changed[:, :2, 13:] += 1.0
    moved = (dcim(ct, pet) - dcim(changed, pet)).abs().amax(dim=(0, 3))
    assert (moved[:4, 12:] > 1e-6).any()
    assert moved[4:, :8].max() == 0
    assert moved[:, :8].max() == 0


def test_fusion_adds_the_maps_as_the_encoder_gave_them(randomised, noise):
    fusion = randomised(CrossModalInteraction(16, 2, 2, 8, 16, SCAN)).double()
    ct, pet = noise(1, 8, 4, 16), noise(1, 8, 4, 16, seed=2)
    rectified = fusion.rectification(torch.cat((ct, pet))).chunk(2)
    assert torch.allclose(fusion(torch.cat((ct, pet))), ct + pet + fusion.interaction(*rectified))

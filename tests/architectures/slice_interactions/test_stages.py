"""The first form of the slice interaction computes what it did: models that were trained with it stay."""

import pytest
import torch
import torch.nn.functional as F

from nnunet_igtv.architectures.slice_interactions.stages import StageExchange, Stages

pytestmark = pytest.mark.law


@pytest.fixture
def sim(randomised):
    return randomised(StageExchange(32)).double()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_fresh_is_the_identity(noise):
    x = noise(2, 3, 6, 5, 32).float()
    assert torch.equal(StageExchange(32)(x), x)


def test_the_first_step_of_training_leaves_the_identity(noise):
    sim = StageExchange(32)
    sim(noise(2, 3, 6, 5, 32).float()).square().sum().backward()
    assert sim.scale.grad.abs().min() > 0


def test_the_weights_have_the_names_of_the_first_checkpoints():
    layers = [f"{layer}.{kind}" for layer in ("norm", "across", "in_plane") for kind in ("weight", "bias")]
    layers += [f"{layer}.{kind}" for layer in ("channel_across", "mix") for kind in ("weight", "bias")]
    layers += [f"channel_gate.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    layers += ["spatial_gate.weight", "spatial_gate.bias", "scale"]
    expected = {f"{stage}.{layer}" for stage in range(4) for layer in layers}
    assert set(Stages([8, 16, 32, 64], False).state_dict()) == expected


def test_it_is_the_formula_of_the_docs_slice_by_slice(sim, noise):
    x = noise(1, 4, 6, 5, 32)
    n = F.layer_norm(x, (32,), sim.norm.weight, sim.norm.bias)[0]  # (S, H, W, C)

    def neighbours(stack, s):  # the slice before, the slice, the slice after
        return [stack[min(max(s + step, 0), len(stack) - 1)] for step in (-1, 0, 1)]

    v = []
    for s in range(4):
        mixed = sum(k * m for k, m in zip(sim.across.weight[:, 0, :, 0].T, neighbours(n, s), strict=True))
        mixed = (mixed + sim.across.bias).permute(2, 0, 1)[None]
        v.append(F.conv2d(mixed, sim.in_plane.weight, sim.in_plane.bias, padding=1, groups=32)[0])
    gated = []
    for s in range(4):
        channel = 0
        for descriptors in ([m.mean((1, 2)) for m in v], [m.amax((1, 2)) for m in v]):
            kernel = sim.channel_across.weight[:, 0].T
            mixed = sum(k * d for k, d in zip(kernel, neighbours(descriptors, s), strict=True))
            channel = channel + sim.channel_gate(mixed + sim.channel_across.bias)
        maps = torch.stack([torch.stack((m.mean(0), m.amax(0))) for m in neighbours(v, s)], dim=1)[None]
        spatial = F.conv3d(maps, sim.spatial_gate.weight, sim.spatial_gate.bias, padding=(0, 1, 1))[0, 0, 0]
        gated.append(v[s] * torch.sigmoid(channel)[:, None, None] * torch.sigmoid(spatial))
    expected = x + sim.scale * sim.mix(torch.stack(gated).permute(0, 2, 3, 1))[None]
    assert close(sim(x), expected)


@pytest.mark.parametrize("slices", [1, 2, 3, 6])
def test_equal_slices_see_themselves_at_the_ends_too(sim, noise, slices):
    """Beyond the ends of a stack there is no zero slice: equal slices are treated as one slice alone is."""
    one = noise(2, 1, 6, 5, 32)
    assert close(sim(one.expand(2, slices, 6, 5, 32)), sim(one).expand(2, slices, 6, 5, 32))


def test_a_slice_sees_its_neighbours(sim, noise):
    x = noise(1, 5, 6, 5, 32)
    changed = x.clone()
    changed[:, 4] = noise(1, 6, 5, 32, seed=2)
    moved = (sim(x) - sim(changed)).abs().amax(dim=(0, 2, 3, 4))
    assert (moved[2:] > 1e-6).all()  # one slice by the convolution, one more by the gates
    assert (moved[:2] == 0).all()


def test_flipping_the_stack_and_the_weights_flips_the_output(sim, noise):
    x = noise(2, 4, 6, 5, 32)
    expected = sim(x).flip(1)
    for convolution in (sim.across, sim.channel_across, sim.spatial_gate):
        convolution.weight.data = convolution.weight.data.flip(2)
    assert close(sim(x.flip(1)), expected)

"""Laws of the slice interaction module by itself."""

import pytest
import torch

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.slice_interaction import SliceInteraction

pytestmark = pytest.mark.law


@pytest.fixture
def sim(randomised):
    return randomised(SliceInteraction(32)).double()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_fresh_is_the_identity(noise):
    x = noise(2, 3, 6, 5, 32).float()
    assert torch.equal(SliceInteraction(32)(x), x)


def test_the_first_step_of_training_leaves_the_identity(noise):
    sim = SliceInteraction(32)
    sim(noise(2, 3, 6, 5, 32).float()).square().sum().backward()
    assert sim.scale.grad.abs().min() > 0


def test_it_learns_what_only_a_neighbouring_slice_shows():
    """The sign of a channel in the slice before, noise otherwise: chance is 0.5 without the exchange."""
    torch.manual_seed(0)
    sim, head = SliceInteraction(24), torch.nn.Linear(24, 1)
    optimizer = torch.optim.AdamW([*sim.parameters(), *head.parameters()], lr=2e-3)
    right = []
    for _ in range(300):
        x = torch.randn(4, 3, 8, 8, 24)
        label = x[:, :-1, ..., 0] > 0
        logits = head(sim(x))[:, 1:, ..., 0]
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, label.float()).backward()
        optimizer.step()
        right.append(((logits > 0) == label).float().mean().item())
    assert sum(right[:20]) / 20 < 0.55
    assert sum(right[-20:]) / 20 > 0.8


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


def test_both_gates_matter(sim, noise):
    x = noise(1, 3, 6, 5, 32)
    before = sim(x)
    for layer in (sim.channel_gate[-1], sim.spatial_gate):
        bias = layer.bias.data.clone()
        layer.bias.data -= 50.0  # a closed gate stops the exchange but for the mixing's bias
        assert close(sim(x), x + sim.scale * sim.mix.bias)
        layer.bias.data = bias
    assert close(sim(x), before)


def test_it_is_a_small_part_of_the_network():
    net = build_network("tiny", 2)
    share = sum(p.numel() for p in net.slice_interaction.parameters()) / sum(
        p.numel() for p in net.parameters()
    )
    assert share < 0.05

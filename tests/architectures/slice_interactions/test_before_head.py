"""The default slice interaction: laws, how it starts, and that it learns what only neighbours show."""

import pytest
import torch
import torch.nn.functional as F

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.slice_interactions.before_head import BeforeHead, SliceExchange


@pytest.fixture
def exchange(randomised):
    return randomised(SliceExchange(16)).double()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def moved_slices(exchange, x, changed):
    """Which slices of the output change when one of the input does."""
    other = x.clone()
    other[:, changed] += 1 + other[:, changed].square()
    return ((exchange(x) - exchange(other)).abs().amax(dim=(0, 2, 3, 4)) > 1e-9).tolist()


# ----------------------------------------------------------------------------------------------------- laws


@pytest.mark.law
@pytest.mark.parametrize("slices", [1, 2, 3, 7])
def test_equal_slices_see_themselves_at_the_ends_too(exchange, noise, slices):
    """Beyond the ends of a stack there is no zero slice: equal slices are treated as one slice alone is."""
    one = noise(2, 1, 6, 5, 16)
    assert close(exchange(one.expand(2, slices, 6, 5, 16)), exchange(one).expand(2, slices, 6, 5, 16))


@pytest.mark.law
@pytest.mark.parametrize("slices", [3, 5])
def test_the_middle_slice_sees_all_of_three_and_of_five(exchange, noise, slices):
    x, middle = noise(1, slices, 6, 5, 16), slices // 2
    assert all(moved_slices(exchange, x, changed)[middle] for changed in range(slices))


@pytest.mark.law
def test_slices_far_away_do_not_matter(exchange, noise):
    # two slices by the convolution, two more by the gates
    assert moved_slices(exchange, noise(1, 8, 6, 5, 16), 7) == [False] * 3 + [True] * 5


@pytest.mark.law
def test_flipping_the_stack_and_the_weights_flips_the_output(exchange, noise):
    x = noise(2, 4, 6, 5, 16)
    expected = exchange(x).flip(1)
    assert not close(exchange(x.flip(1)), expected)
    for convolution in (*exchange.across, exchange.channel_across, exchange.spatial_gate):
        convolution.weight.data = convolution.weight.data.flip(2)
    assert close(exchange(x.flip(1)), expected)


@pytest.mark.law
def test_stacks_of_a_batch_do_not_see_each_other(exchange, noise):
    x = noise(3, 3, 6, 5, 16)
    assert close(torch.cat([exchange(stack[None]) for stack in x]), exchange(x))


def test_both_gates_matter(exchange, noise):
    x = noise(1, 3, 6, 5, 16)
    for layer in (exchange.channel_gate[-1], exchange.spatial_gate):
        bias = layer.bias.data.clone()
        layer.bias.data -= 50.0  # a closed gate stops the exchange but for the last layer's bias
        assert close(exchange(x), x + exchange.mix.bias)
        layer.bias.data = bias
    assert not close(exchange(x), x + exchange.mix.bias)


# -------------------------------------------------------------------------------------------- how it starts


@pytest.mark.law
@pytest.mark.parametrize("slices", [1, 3])
def test_fresh_is_the_identity(noise, slices):
    x = noise(2, slices, 6, 5, 24).float()
    assert torch.equal(SliceExchange(24)(x), x)


@pytest.mark.parametrize("width", [16, 24, 96])
@pytest.mark.parametrize("stack", ["independent", "equal", "smooth"])
def test_the_branch_before_the_last_layer_has_unit_variance(noise, width, stack):
    x = noise(2, 3, 24, 24, width).float()
    if stack == "equal":
        x = x[:, :1].expand_as(x)
    if stack == "smooth":
        x = F.avg_pool3d(x.movedim(-1, 1), (1, 5, 5), 1, (0, 2, 2)).movedim(1, -1)
        x = x / x.std()
    torch.manual_seed(0)
    exchange = SliceExchange(width)
    with torch.no_grad():
        n = exchange.norm(x)
        v = exchange._depthwise(n)
        gates = [exchange._channel_gates(v), exchange._spatial_gates(v)]
        steps = [n, v, v * gates[0], exchange.branch(x)]
    assert all(0.7 < step.std() < 1.4 for step in steps), [step.std().item() for step in steps]
    assert all(gate.min() > 0.5 and gate.max() < 1.7 and 0.9 < gate.mean() < 1.1 for gate in gates)


def test_the_only_zero_is_the_last_layer(noise):
    exchange, x = SliceExchange(24), noise(2, 3, 6, 5, 24).float()
    zero = {name for name, p in exchange.named_parameters() if "bias" not in name and not p.any()}
    assert zero == {"mix.weight"}
    exchange(x).square().sum().backward()
    assert (exchange.mix.weight.grad != 0).all()  # the whole branch is used by the first step
    exchange.zero_grad()
    with torch.no_grad():
        exchange.mix.weight.normal_(std=0.01)  # after that step
    exchange(x).square().sum().backward()
    assert [name for name, p in exchange.named_parameters() if not p.grad.any()] == []


def test_above_and_below_stay_apart():
    before, after = (
        layer.weight.detach()[:, 0, :, 0].abs().amin(0) > 0 for layer in SliceExchange(16).across
    )
    assert before.tolist() == [True, True, False, False, False]
    assert after.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(("interaction", "steps"), [("before_head", 100), ("none", 40)])
def test_a_network_learns_in_100_steps_what_only_a_neighbour_shows(small_net, interaction, steps):
    """Each slice is a random pattern of cells; its label is the pattern of the slice above."""
    net = small_net(
        fresh=True,
        slice_interaction=interaction,
        encoder_depths=(1, 0, 0, 0),
        decoder_depths=(0, 0, 1),
    ).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)

    def draw(stacks):
        cells = torch.randint(0, 2, (stacks, 3, 4, 4), generator=generator)
        image = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
        pet = 2.0 * image - 1 + 0.1 * torch.randn(image.shape, generator=generator)
        return torch.stack((torch.zeros_like(pet), pet), dim=1), image[:, :-1]

    for _ in range(steps):
        x, labels = draw(2)
        optimizer.zero_grad()
        F.cross_entropy(net(x)[:, :, 1:], labels).backward()
        optimizer.step()
    x, labels = draw(16)
    with torch.no_grad():
        predicted = net.eval()(x)[:, :, 1:].argmax(1)
    accuracy = (predicted == labels).float().mean()
    assert accuracy > 0.95 if interaction == "before_head" else accuracy < 0.6  # chance: 0.5


# --------------------------------------------------------------------------------------------- in a network


def test_each_head_has_its_own_exchange_on_the_features_that_it_reads(noise):
    interaction = BeforeHead([8, 16, 32, 64], auxiliary_heads=True)
    features = [noise(1, 3, 4, 4, width).float() for width in (8, 8, 16, 32)]
    with torch.no_grad():
        for exchange in (interaction.main, *interaction.seg_layers):
            exchange.mix.bias.fill_(1.0)
    for asked in (features, features[:1]):  # with deep supervision switched on, and off
        enhanced = interaction.before_heads(asked)
        assert len(enhanced) == len(asked)
        assert all(torch.equal(y, x + 1) for x, y in zip(asked, enhanced, strict=True))


def test_it_is_a_small_part_of_the_network():
    with torch.device("meta"):
        net = build_network("tiny", 2)
    count = [sum(p.numel() for p in part.parameters()) for part in (net.slice_interaction, net)]
    assert count[0] < 0.01 * count[1]

"""Half precision stays finite; blocks and networks compile without breaks and train as eager ones do."""

import pytest
import torch

from nnunet_igtv.architectures.cross_modal import CrossModalInteraction
from nnunet_igtv.architectures.decoder import ChannelAwareBlock
from nnunet_igtv.architectures.encoder import VSSBlock
from nnunet_igtv.architectures.layers import Conv2d, pad_to_multiple
from nnunet_igtv.architectures.mixers import MIXERS
from nnunet_igtv.architectures.slice_interactions.before_head import SliceExchange
from nnunet_igtv.architectures.slice_interactions.stages import StageExchange

SCAN, CONVOLUTION = MIXERS["scan"], MIXERS["convolution"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_stays_finite_and_near_float32_on_bright_input(small_net, noise, dtype):
    net, x = small_net(), 10 * noise(2, 2, 2, 64, 64).float()
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", dtype=dtype):
            half = net(x).float()
    assert half.isfinite().all()
    tolerance = 0.02 if dtype == torch.float16 else 0.1
    assert (half - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_gradients_stay_finite(small_net, noise, dtype):
    net = small_net().train()
    with torch.autocast("cpu", dtype=dtype):
        loss = net(10 * noise(2, 2, 2, 32, 32).float()).float().square().mean()
    loss.backward()
    assert [name for name, p in net.named_parameters() if not p.grad.isfinite().all()] == []


def test_scan_results_beyond_half_precision_are_normalised_before_they_return_to_it(randomised, noise):
    block = randomised(VSSBlock(16, 2, 2, 0.0, SCAN))
    block.op.Ds.data *= 1e6  # a scan output of about 1e5, where float16 ends at 65504
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        assert block(noise(1, 8, 8, 16).float()).isfinite().all()


class PaddedConvolution(Conv2d):
    """What the padding meets in the network: a linear layer before it, a convolution of the map after it."""

    def forward(self, x):
        return super().forward(pad_to_multiple(torch.sin(x), 4))


BLOCKS = {
    "encoder block": (lambda: VSSBlock(16, 2, 2, 0.1, SCAN), [(2, 8, 12, 16)]),
    "encoder block of the twin": (lambda: VSSBlock(16, 2, 2, 0.1, CONVOLUTION), [(2, 8, 12, 16)]),
    "rectification of the twin": (lambda: CONVOLUTION.sequence(16), [(2, 9, 16)]),
    "decoder block": (lambda: ChannelAwareBlock(16, 2, 2, 0.1, SCAN), [(2, 8, 12, 16)]),
    "cross-modal interaction": (lambda: CrossModalInteraction(16, 2, 2, 8, 16, SCAN), [(4, 8, 12, 16)]),
    "cross-modal interaction, padded": (
        lambda: CrossModalInteraction(16, 2, 2, 8, 16, SCAN),
        [(4, 6, 9, 16)],
    ),
    "slice interaction before the head": (lambda: SliceExchange(16), [(2, 3, 8, 12, 16)]),
    "the same, one slice": (lambda: SliceExchange(16), [(2, 1, 8, 12, 16)]),
    "slice interaction at a stage": (lambda: StageExchange(16), [(2, 3, 8, 12, 16)]),
}


def results_of_a_step(module, inputs, backend, half):
    """Output and gradients by name, of the module as it is or compiled as one graph; or under autocast."""
    torch._dynamo.reset()
    module.zero_grad()
    call = torch.compile(module, backend=backend, fullgraph=True) if backend else module
    with torch.autocast("cpu", dtype=torch.float16, enabled=half):
        y = call(*inputs).float()
    y.square().mean().backward()
    return {"": y.detach()} | {name: p.grad for name, p in module.named_parameters()}


def assert_trains_the_same_when_compiled(module, inputs, backend, half=False):
    eager, compiled = (results_of_a_step(module, inputs, b, half) for b in (None, backend))
    relative, absolute = (0.1, 1e-3) if half else (1e-3, 1e-6)
    for name, expected in eager.items():
        # a bias before a batch normalisation has a gradient of zero and rounding errors
        assert (compiled[name] - expected).norm() < relative * expected.norm() + absolute, name


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_train_the_same_when_compiled(randomised, noise, name):
    build, shapes = BLOCKS[name]
    inputs = [noise(*shape, seed=i).float() for i, shape in enumerate(shapes)]
    assert_trains_the_same_when_compiled(randomised(build()), inputs, "aot_eager")


@pytest.mark.parametrize("size", [(1, 40, 33), (3, 32, 64)], ids=["one slice, padded", "in half precision"])
def test_the_whole_network_trains_the_same_when_compiled(small_net, noise, size):
    """One graph without breaks; with few blocks, since tracing takes seconds for each."""
    half = optional_pet = size[0] == 3  # with a PET and without one, in one batch
    net = small_net(encoder_depths=(1, 0, 0, 0), decoder_depths=(0, 0, 1), optional_pet=optional_pet).train()
    x = noise(2 if optional_pet else 1, 2, *size).float()
    x[0, 1] *= not optional_pet
    assert_trains_the_same_when_compiled(net, [x], "aot_eager", half)


@pytest.mark.parametrize("size", [(6, 9), (8, 12)], ids=["padded", "not padded"])
def test_padding_trains_the_same_under_the_compiler_that_nnunet_uses(randomised, noise, size):
    """`F.pad(mode="replicate")` of a permuted map fails here, in the backward pass of the inductor."""
    module = randomised(PaddedConvolution(16, 4, 3, padding=1))
    x = noise(2, *size, 16).float().requires_grad_()
    assert_trains_the_same_when_compiled(module, [x], "inductor")

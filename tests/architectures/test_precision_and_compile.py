"""Half precision stays finite; blocks compile without graph breaks and compute the same."""

import pytest
import torch

from nnunet_igtv.architectures.cross_modal import CrossModalInteraction
from nnunet_igtv.architectures.decoder import ChannelAwareBlock
from nnunet_igtv.architectures.encoder import VSSBlock
from nnunet_igtv.architectures.slice_interaction import SliceInteraction


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
    block = randomised(VSSBlock(16, 2, 2, 0.0))
    block.op.Ds.data *= 1e6  # a scan output of about 1e5, where float16 ends at 65504
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        assert block(noise(1, 8, 8, 16).float()).isfinite().all()


BLOCKS = {
    "encoder block": (lambda: VSSBlock(16, 2, 2, 0.1), [(2, 8, 12, 16)]),
    "decoder block": (lambda: ChannelAwareBlock(16, 2, 2, 0.1), [(2, 8, 12, 16)]),
    "cross-modal interaction": (lambda: CrossModalInteraction(16, 2, 2, 8, 16), [(2, 8, 12, 16)] * 2),
    "slice interaction": (lambda: SliceInteraction(16), [(2, 3, 8, 12, 16)]),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_compile_without_graph_breaks(randomised, noise, name):
    build, shapes = BLOCKS[name]
    block = randomised(build())
    inputs = [noise(*shape, seed=i).float() for i, shape in enumerate(shapes)]
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    results = []
    for call in (block, compiled):
        block.zero_grad()
        y = call(*inputs)
        y.square().mean().backward()
        results.append((y, [p.grad for p in block.parameters()]))
    (eager, eager_grads), (same, same_grads) = results
    assert torch.allclose(eager, same, rtol=1e-4, atol=1e-5)
    for a, b in zip(eager_grads, same_grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_whole_network_is_one_graph(small_net, noise):
    net, x = small_net(), noise(1, 2, 2, 32, 32).float()
    compiled = torch.compile(net, backend="eager", fullgraph=True)  # the tracing alone: blocks are above
    with torch.no_grad():
        assert torch.allclose(compiled(x), net(x), rtol=1e-4, atol=1e-4)

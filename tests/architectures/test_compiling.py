"""Compiling by region: the same training, a bounded number of graphs, names of weights as before."""

import copy
import functools

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from nnunet_igtv.architectures.compiling import REGIONS, compile_regions
from nnunet_igtv.architectures.encoder import VSSBlock
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.layers import Blocks
from nnunet_igtv.architectures.mixers import MIXERS
from nnunet_igtv.architectures.presets import Preset
from nnunet_igtv.weights.pretrained import load_pretrained

# every kind of region, three of them several times over
SMALL = Preset(
    width=16,
    encoder_depths=(2, 1, 0, 0),
    decoder_depths=(0, 1, 2),
    encoder_states=2,
    decoder_states=2,
    gate_width=8,
    gate_grid=16,
    decoder_drop_path=0.3,
)


@pytest.fixture
def compile_with(monkeypatch):
    """Makes `torch.compile` use a backend: "eager" traces, "aot_eager" the backward pass too."""
    compiler = torch.compile

    def use(backend):
        monkeypatch.setattr(torch, "compile", functools.partial(compiler, backend=backend))

    torch._dynamo.reset()
    counters.clear()
    yield use
    torch._dynamo.reset()


def networks(heads):
    """Two networks of other weights, in training."""
    torch.manual_seed(0)
    return [IGTVNet(2, 2, **SMALL.kwargs(), auxiliary_heads=heads, deep_supervision=heads) for _ in range(2)]


def assert_same(found, expected):
    for value, wanted in zip(found, expected, strict=True):
        assert torch.allclose(value, wanted, rtol=1e-3, atol=1e-5)


def a_run(network, batch):
    """Outputs and gradients of training, validation and prediction, as they follow each other in a run.

    The network is afterwards as it was before, running means of its norms included.
    """
    torch.manual_seed(1)
    before, found = copy.deepcopy(network.state_dict()), []
    for _ in range(2):
        network.train()
        network.zero_grad()
        outputs = network(batch)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        sum(output.square().mean() for output in outputs).backward()
        found += [*(output.detach() for output in outputs), *(p.grad.clone() for p in network.parameters())]
        network.eval()
        deep_supervision, network.decoder.deep_supervision = network.decoder.deep_supervision, False
        with torch.no_grad():
            found += [network(batch), network(batch[:1])]
        network.decoder.deep_supervision = deep_supervision
    network.load_state_dict(before)
    return found


@pytest.mark.parametrize(
    ("slices", "size", "heads", "backend"),
    [
        (3, (40, 33), True, "aot_eager"),
        (1, (40, 33), False, "eager"),
        (5, (32, 64), False, "eager"),
    ],
    ids=["deep supervision, padded", "one slice, padded", "five slices"],
)
def test_regions_train_the_same_in_a_bounded_number_of_graphs(compile_with, slices, size, heads, backend):
    network, other = networks(heads)
    batch, names = torch.randn(2, 2, slices, *size), list(network.state_dict())
    expected, of_other = a_run(network, batch), a_run(other, batch)
    compile_with(backend)
    assert "torch.compile" in compile_regions(network)
    assert list(network.state_dict()) == names
    assert_same(a_run(network, batch), expected)
    graphs = counters["stats"]["unique_graphs"]
    regions = [module for module in network.modules() if isinstance(module, REGIONS)]
    kinds = {(type(module), *(p.shape for p in module.parameters())) for module in regions}
    assert len(kinds) <= graphs <= 2 * len(kinds)  # with and without stochastic depth
    assert graphs < len(regions)
    load_pretrained(network, {"network_weights": other.state_dict()})
    assert_same(a_run(network, batch), of_other)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


@torch._inductor.config.patch(fallback_random=True)  # the same branches are dropped
def test_blocks_train_the_same_with_kernels_of_the_compiler(compile_with):
    """What nnU-Net uses; two blocks, since its compiler takes seconds for each kernel on a CPU."""
    torch.manual_seed(0)
    blocks = Blocks(VSSBlock(8, 2, 2, rate, MIXERS["scan"]) for rate in (0.1, 0.2)).train()
    x = torch.randn(2, 6, 9, 8, requires_grad=True)  # as from the layer before

    def step():
        torch.manual_seed(1)
        blocks.zero_grad()
        y = blocks(x)
        y.square().mean().backward()
        return [y.detach(), *(p.grad.clone() for p in blocks.parameters())]

    expected = step()
    compile_with("inductor")
    compile_regions(blocks)
    assert_same(step(), expected)
    assert counters["stats"]["unique_graphs"] == 1


def test_a_later_run_finds_the_graphs_again(compile_with, monkeypatch, tmp_path):
    """In half precision, where a block's scan is an autograd function: no graph is compiled once more."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch._functorch.config, "autograd_cache_allow_custom_autograd_functions", False)

    def run():
        """As a process does that starts now."""
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        block = VSSBlock(8, 2, 2, 0.0, MIXERS["scan"]).train()
        compile_with("inductor")
        compile_regions(Blocks([block]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = block(torch.randn(2, 6, 9, 8))
        y.float().square().mean().backward()
        found = counters["aot_autograd"]
        return found["autograd_cache_miss"], found["autograd_cache_hit"], [p.grad for p in block.parameters()]

    missed, found, gradients = run()
    assert (missed, found) == (1, 0)
    missed, found, again = run()
    assert (missed, found) == (0, 1)
    assert all(map(torch.equal, gradients, again))

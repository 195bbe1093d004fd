"""Compiling by region: the same training, a bounded number of graphs, names of weights as before."""

import functools

import pytest
import torch
from torch._dynamo.utils import counters

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import Preset
from nnunet_igtv.trainers import IGTVTrainerNano, compiling
from nnunet_igtv.trainers.compiling import REGIONS, compile_regions

TWO_SIZES = Preset(
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
def traced_only(monkeypatch):
    """torch.compile without a compiler behind it, which takes minutes on a CPU."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()


def a_run(network, batch):
    """Losses and gradients of training, validation and prediction, as they follow each other in a run."""
    torch.manual_seed(1)
    found = []
    for _ in range(2):
        network.train()
        network.zero_grad()
        loss = network(batch).square().mean()
        loss.backward()
        found += [loss.detach(), *(p.grad.clone() for p in network.parameters())]
        network.eval()
        with torch.no_grad():
            found += [network(batch), network(batch[:1])]
    return found


def test_regions_train_the_same_in_a_bounded_number_of_graphs(traced_only):
    torch.manual_seed(0)
    network = IGTVNet(2, 2, **TWO_SIZES.kwargs())
    batch, names = torch.randn(2, 2, 3, 32, 64), list(network.state_dict())
    expected = a_run(network, batch)
    assert "torch.compile" in compile_regions(network)
    assert list(network.state_dict()) == names
    for found, value in zip(a_run(network, batch), expected, strict=True):
        assert torch.allclose(found, value, rtol=1e-4, atol=1e-5)
    regions = sum(isinstance(module, REGIONS) for module in network.modules())
    graphs = counters["stats"]["unique_graphs"]
    first = dict(counters["stats"])
    a_run(network, batch)
    assert dict(counters["stats"]) == first  # nothing is compiled anew
    assert not counters["graph_break"]
    assert graphs <= 4 * regions


def test_a_trainer_compiles_regions_where_nnunet_compiles(make_trainer, monkeypatch, capsys):
    monkeypatch.setattr(IGTVTrainerNano, "_do_i_compile", lambda self: True)
    monkeypatch.setattr(compiling, "REGIONS", ())
    trainer = make_trainer(IGTVTrainerNano)
    trainer.initialize()
    assert isinstance(trainer.network, IGTVNet)
    assert "torch.compile compiles" in capsys.readouterr().out

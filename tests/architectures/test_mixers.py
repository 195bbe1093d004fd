"""The mixers by name, and the twin without Mamba: equal in size and in all that is not the scan."""

import pytest
import torch

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.memory import training_bytes
from nnunet_igtv.architectures.mixers import MIXERS, mixer_named
from nnunet_igtv.architectures.mixers.scan import ScanParameters
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.errors import IGTVError


def network(preset, mixer):
    """Shapes only."""
    with torch.device("meta"):
        return IGTVNet(2, 2, **PRESETS[preset].kwargs(), mixer=mixer)


def mixing(net):
    """Names of the weights that mix, without the frame around them."""
    frame = ("in_proj", "conv2d", "out_norm", "out_proj")
    return {
        name
        for name, _ in net.named_parameters()
        if (".op." in name or "_scan." in name or ".scan." in name) and name.split(".")[-2] not in frame
    }


@pytest.mark.parametrize("preset", ["nano", "tiny", "base"])  # the blocks of small are those of tiny
def test_the_twin_without_mamba_has_as_many_parameters_and_the_same_frame(preset):
    ours, twin = (network(preset, mixer) for mixer in ("scan", "convolution"))
    sizes = [sum(p.numel() for p in net.parameters()) for net in (ours, twin)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    frames = [
        {name: p.shape for name, p in net.named_parameters() if name not in mixing(net)}
        for net in (ours, twin)
    ]
    assert frames[0] == frames[1]
    assert mixing(ours)
    assert mixing(ours).isdisjoint(mixing(twin))
    assert not [m for m in twin.modules() if isinstance(m, ScanParameters)]


@pytest.mark.parametrize("name", MIXERS)
def test_only_its_own_weights_bear_the_mark_of_a_mixer(name):
    last = {key.split(".op.")[-1] for key in network("nano", name).state_dict()}
    assert [other for other, mixer in MIXERS.items() if mixer.mark in last] == [name]


@pytest.mark.law
@pytest.mark.parametrize(("name", "reach"), [("scan", 31), ("convolution", 4)])
def test_how_far_a_pixel_is_seen(randomised, noise, name, reach):
    """A scan reaches all of the map; the convolutions 3 pixels, and the 3x3 before them one more."""
    mixer, x = randomised(MIXERS[name].map(16, 2, 1)).double(), noise(1, 3, 32, 16)
    changed = x.clone()
    changed[:, 1, 0] += 1
    with torch.no_grad():
        difference = (mixer(x) - mixer(changed)).abs().amax(dim=(0, 1, 3))  # per column
    assert difference.nonzero().max() == reach


def test_the_twin_takes_any_shape_and_all_of_it_learns(small_net, noise):
    net = small_net(mixer="convolution").train()
    net(noise(2, 2, 3, 33, 40).float()).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ["mamba", "", None, ["scan"]])
def test_unknown_names_are_refused_with_those_that_exist(name):
    with pytest.raises(IGTVError, match=r"no mixer named .*scan, convolution"):
        mixer_named(name)


def test_the_memory_of_the_twin_meets_measurements_of_traced_training_steps():
    """Peaks in GB, as `training_peak` of benchmarks/network.py traces them."""
    measured = {
        ("nano", False, 2, 3, 320, 320): 0.787,
        ("nano", True, 2, 3, 320, 320): 0.524,
        ("tiny", False, 2, 3, 128, 192): 2.889,
        ("tiny", False, 2, 3, 320, 320): 9.002,
        ("tiny", True, 2, 3, 320, 320): 3.295,
    }
    for (name, checkpointing, *shape), gigabytes in measured.items():
        fields = PRESETS[name].kwargs() | {"mixer": "convolution", "checkpointing": checkpointing}
        assert training_bytes(fields, *shape) / 1e9 == pytest.approx(gigabytes, rel=0.05)

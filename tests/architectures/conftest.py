import pytest
import torch

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import Preset

# the smallest network in which every part is there
SMALL = Preset(
    width=16,
    encoder_depths=(1, 1, 1, 1),
    decoder_depths=(1, 1, 1),
    encoder_states=2,
    decoder_states=2,
    gate_width=8,
    gate_grid=16,
    decoder_drop_path=0.0,
)


def _randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.1 * noise.abs())
            elif name.endswith("running_mean"):
                tensor.copy_(0.1 * noise)
            elif tensor.is_floating_point():
                tensor.add_(0.1 * noise)
    return module.eval()


@pytest.fixture
def randomised():
    """Moves every weight and running statistic off its initial value: no part is a zero or an identity."""
    return _randomise


@pytest.fixture
def small_net():
    """Builds the small network in evaluation mode; `fresh` leaves the initial weights."""

    def build(num_classes=2, fresh=False, **changes):
        torch.manual_seed(0)
        net = IGTVNet(2, num_classes, **(SMALL.kwargs() | changes)).eval()
        return net if fresh else _randomise(net)

    return build


@pytest.fixture
def noise():
    """Seeded normal numbers: `noise(*shape, seed=1)`."""

    def draw(*shape, seed=1):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw

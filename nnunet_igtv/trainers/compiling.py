"""What torch.compile compiles of a network: its repeated parts, each kind once for each size of map.

Compiled as one graph, a network of 30 blocks is traced and compiled 30 times over. The parts below hold
nearly all operators; what is between them stays as it is. `nnUNet_compile` decides whether any of it happens,
as in nnU-Net.
"""

import torch
from torch import nn

from nnunet_igtv.architectures.cross_modal import CrossModalInteraction
from nnunet_igtv.architectures.decoder import ChannelAwareBlock, PatchExpand, Upsample
from nnunet_igtv.architectures.encoder import PatchMerging, VSSBlock
from nnunet_igtv.architectures.slice_interactions.before_head import SliceExchange
from nnunet_igtv.architectures.slice_interactions.stages import StageExchange

REGIONS: tuple[type[nn.Module], ...] = (
    VSSBlock,
    ChannelAwareBlock,
    CrossModalInteraction,
    SliceExchange,
    StageExchange,
    PatchMerging,
    PatchExpand,
    Upsample,
)
# Four stages, each in training, in validation and in another batch, with and without stochastic depth.
# More than that would be a fault; PyTorch's own limit is 8, beyond which a part silently stays as it is.
MOST_GRAPHS = 32


def compile_regions(network: nn.Module) -> str:
    """Makes each region of a network compile itself in its first call; its weights keep their names.

    Returns:
        One line that says what is compiled.
    """
    torch._dynamo.config.recompile_limit = max(MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    regions = [module for module in network.modules() if isinstance(module, REGIONS)]
    kinds = {(type(module), *map(tuple, _shapes(module))) for module in regions}
    for module in regions:
        module.forward = torch.compile(module.forward)  # type: ignore[method-assign]
    return (
        f"torch.compile compiles {len(kinds)} kinds of blocks in the first steps, which make {len(regions)} "
        "parts of the network (nnUNet_compile=f: none)"
    )


def _shapes(module: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in module.parameters()]

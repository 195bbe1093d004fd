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
# Of one class: four stages, with and without stochastic depth, in training (half and single precision), in
# validation and in another batch. Beyond PyTorch's own limit of 8 a part stays as it is.
MOST_GRAPHS = 32


def compile_regions(network: nn.Module) -> str:
    """Makes each region of a network compile itself in its first call; its weights keep their names.

    A caller that compiles the whole network later, as nnU-Net does for its final validation, gets the same
    regions and nothing more.

    Returns:
        One line that says what is compiled.
    """
    torch._dynamo.config.recompile_limit = max(MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    regions = [module for module in network.modules() if isinstance(module, REGIONS)]
    kinds = {(type(module), *(p.shape for p in module.parameters())) for module in regions}
    for module in regions:
        # sizes hardly change within a run, and kernels for one size are faster and sooner made
        module.forward = torch.compile(module.forward, dynamic=False)  # type: ignore[method-assign]
    network.forward = torch.compiler.disable(network.forward)  # type: ignore[method-assign]
    return (
        f"torch.compile: {len(regions)} blocks of {len(kinds)} kinds are compiled in their first calls, "
        "each kind once; nnUNet_compile=f trains without"
    )

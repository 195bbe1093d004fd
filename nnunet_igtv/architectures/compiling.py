"""What torch.compile compiles of a network: its repeated parts, each kind once, and in training only.

Compiled as one graph, a network of 30 blocks is traced and compiled 30 times over. The parts below hold
nearly all operators; what is between them stays as it is. A training has batches of one size, so that each
kind of part has one graph, and another where a step is repeated in single precision. A later run on the same
machine finds the graphs again. Validation and prediction, of other sizes, use the parts as they are.
`nnUNet_compile` decides whether any of it happens, as in nnU-Net.
"""

from typing import Any

import torch
import torch._functorch.config
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
# Of one class: blocks of four or more sizes, with and without stochastic depth, in half and single precision.
# Beyond PyTorch's own limit of 8 a part stays as it is.
MOST_GRAPHS = 32


def compile_regions(network: nn.Module) -> str:
    """Makes each region of a network compile itself in its first training step; its weights keep their names.

    A caller that compiles the whole network later, as nnU-Net does, gets the same regions and nothing more.

    Returns:
        One line that says what is compiled.
    """
    limits = torch._dynamo.config
    limit = "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit"  # its older name
    setattr(limits, limit, max(MOST_GRAPHS, getattr(limits, limit)))
    # PyTorch keeps what it compiles for later runs, graphs with an autograd function (a scan's block in half
    # precision) only where it is asked to. What the function computes is in the graph, and so in its key.
    keep = "autograd_cache_allow_custom_autograd_functions"
    if hasattr(torch._functorch.config, keep):
        setattr(torch._functorch.config, keep, True)
    # With several GPUs PyTorch cuts graphs where its buckets of gradients end; older versions refuse to cut
    # one with an autograd function. A block is smaller than a bucket: nothing is lost.
    limits.optimize_ddp = False
    regions = [module for module in network.modules() if isinstance(module, REGIONS)]
    for module in regions:
        module.forward = _compiled_in_training(module)
    network.forward = torch.compiler.disable(network.forward)
    kinds = {(type(module), *(p.shape for p in module.parameters())) for module in regions}
    return (
        f"torch.compile: {len(regions)} blocks of {len(kinds)} kinds are compiled in the first training "
        "step, each kind once; nnUNet_compile=f trains without"
    )


def _compiled_in_training(module: nn.Module) -> Any:
    eager = module.forward
    compiled = torch.compile(eager, dynamic=False)  # kernels for one size are faster and sooner made

    def forward(*inputs: torch.Tensor) -> Any:
        return (compiled if module.training else eager)(*inputs)

    return forward

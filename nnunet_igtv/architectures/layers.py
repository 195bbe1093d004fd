"""Small parts shared by encoder, interaction modules and decoder. Maps are channels-last: (M, H, W, C)."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` for maps (M, H, W, C): the same weights, no copies (channels-last strides)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def upsample_bilinear(x: Tensor) -> Tensor:
    """Twice the size in-plane: (M, H, W, C) -> (M, 2H, 2W, C), half-pixel centres."""
    x = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    return x.permute(0, 2, 3, 1).contiguous()


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until H and W are multiples: (M, H, W, C) -> (M, H', W', C).

    By expanding and concatenating: the backward pass of `F.pad(mode="replicate")` does not compile on
    permuted maps (torch 2.15: the compiler expects other strides than the kernel returns).
    """
    for dim in (1, 2):
        missing = -x.shape[dim] % multiple
        if missing:
            last = x.narrow(dim, x.shape[dim] - 1, 1)
            x = torch.cat((x, last.expand([missing if d == dim else -1 for d in range(x.ndim)])), dim)
    return x


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): drops a residual branch per sample while training."""

    threshold: Tensor
    scale: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.drops = rate > 0.0
        # as tensors, so that blocks of different rates are one graph for the compiler
        self.register_buffer("threshold", torch.tensor(rate), persistent=False)
        self.register_buffer("scale", torch.tensor(1.0 / (1.0 - rate)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drops:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.threshold
        return x * (kept * self.scale).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def drop_path_rates(depths: list[int], last: float) -> list[list[float]]:
    """Rates per stage and block, linear over all blocks from 0 to `last`."""
    total = sum(depths)
    rates = [last * index / max(total - 1, 1) for index in range(total)]
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


class Blocks(nn.ModuleList):
    """Blocks run one after the other; with `checkpointing`, activations inside a block are recomputed."""

    checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


@contextlib.contextmanager
def recomputing(network: nn.Module) -> Iterator[None]:
    """All blocks of a network recompute their activations: the least memory of a step, in more time."""
    before = {module: module.checkpointing for module in network.modules() if isinstance(module, Blocks)}
    try:
        for blocks in before:
            blocks.checkpointing = True
        yield
    finally:
        for blocks, checkpointing in before.items():
            blocks.checkpointing = checkpointing
